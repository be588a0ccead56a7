//! The table of all tasks, printed when a signal comes.
//!
//! What listens is a waker, not a task: the reactor calls it when the signal comes, and it
//! prints. (A task would keep [`Runtime::run`](crate::Runtime::run) from returning.)

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use crate::executor;
use crate::signal::unix::{Signal, SignalKind, signal};
use crate::stderr;

thread_local! {
    /// They stay: the reactor that they are registered with does.
    static LISTENERS: RefCell<Vec<(SignalKind, Listener)>> = const { RefCell::new(Vec::new()) };
}

type Listener = Rc<RefCell<Signal>>;

/// Prints the table of [`dump`](super::dump) on standard error whenever this signal comes,
/// for as long as the thread lives: of the runtime that runs on it then.
///
/// It is for a program that hangs while it is idle: `kill -USR1` tells for what everybody
/// waits. It starts no task and keeps no `run` from returning. **While a task computes and
/// does not return from its poll, nothing is printed**: the thread has to come back to the
/// reactor. For that there is [`Builder::warn_slow`](crate::runtime::Builder::warn_slow),
/// or a debugger.
///
/// A second call for the same signal on the same thread does nothing. Needs the feature
/// `signal`.
///
/// # Errors
///
/// As [`signal`]: outside of a runtime, for signals that cannot be handled, and without file
/// descriptors.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, inspect, signal::unix::SignalKind, time::sleep};
///
/// block_on(async {
///     inspect::dump_on_signal(SignalKind::user_defined1())?;
///     // ... the work. And from elsewhere: `kill -USR1`.
/// #   rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::USR1)?;
///     sleep(Duration::from_millis(1)).await;
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn dump_on_signal(kind: SignalKind) -> io::Result<()> {
    executor::inside_or_error("`dump_on_signal`")?;
    if find(kind).is_some() {
        return Ok(());
    }
    let signal = signal(kind)?;
    // Nobody waits for it who could go on when it comes.
    signal.set_background();
    let listener = (kind, Rc::new(RefCell::new(signal)));
    // A thread that is ending keeps none.
    let _ = LISTENERS.try_with(|listeners| listeners.borrow_mut().push(listener));
    hear(kind)?;
    Ok(())
}

fn find(kind: SignalKind) -> Option<Listener> {
    let found = LISTENERS.try_with(|listeners| {
        let listeners = listeners.borrow();
        let mut same = listeners.iter().filter(|(known, _)| *known == kind);
        same.next().map(|(_, listener)| listener.clone())
    });
    found.ok().flatten()
}

/// Takes the signals that have come, and has the next one call back. Returns whether there
/// were any.
fn hear(kind: SignalKind) -> io::Result<bool> {
    let Some(listener) = find(kind) else {
        return Ok(false);
    };
    let waker = Waker::from(Arc::new(Printer(kind)));
    let mut cx = TaskContext::from_waker(&waker);
    let mut heard = false;
    while let Poll::Ready(result) = listener.borrow_mut().poll_recv(&mut cx) {
        result?;
        heard = true;
    }
    Ok(heard)
}

struct Printer(SignalKind);

impl Wake for Printer {
    /// Called by the reactor that knows it, on its thread, inside of a runtime.
    fn wake(self: Arc<Self>) {
        if let (Ok(true), Some(executor)) = (hear(self.0), executor::try_current()) {
            let (kind, dump) = (self.0, crate::info::dump(&executor));
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            stderr::write(format_args!(
                "soloist: {kind}: {} tasks on the thread {name}\n{dump}",
                dump.tasks.len()
            ));
        }
    }
}
