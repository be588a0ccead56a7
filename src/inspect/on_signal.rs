//! Prints the table of all tasks when a signal arrives.
//!
//! The listener is a waker that prints when the reactor wakes it. It is not a task, because a
//! task would keep [`Runtime::run`](crate::Runtime::run) from returning.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Wake, Waker};

use crate::executor;
use crate::signal::unix::{Signal, SignalKind, signal};
use crate::stderr;

thread_local! {
    /// The listeners of this thread. They live until the thread exits, as its reactor does.
    static LISTENERS: RefCell<Vec<(SignalKind, Listener)>> = const { RefCell::new(Vec::new()) };
}

type Listener = Rc<RefCell<Signal>>;

/// Prints the table of [`dump`](super::dump) to standard error whenever this signal arrives,
/// until the thread exits. The table is that of the runtime that is running at that time.
///
/// Use it for a program that hangs while it is idle: `kill -USR1` shows what the tasks wait
/// for. It spawns no task, and does not keep `run` from returning. **While a task computes and
/// does not return from its poll, nothing is printed**, because the thread has to return to the
/// reactor first. To find such a task, use
/// [`Builder::warn_slow`](crate::runtime::Builder::warn_slow) or a debugger.
///
/// A second call for the same signal on the same thread does nothing. Requires the feature
/// `signal`.
///
/// # Errors
///
/// Returns an error outside of a runtime, if the signal cannot be handled, or if there are no file
/// descriptors left.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use soloist::{block_on, inspect, signal::unix::SignalKind, time::sleep};
///
/// block_on(async {
///     inspect::dump_on_signal(SignalKind::user_defined1())?;
///     // The work. Run `kill -USR1` in another terminal.
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
    // The signal makes no task ready, so it does not count as something to wait for.
    signal.set_background();
    let listener = (kind, Rc::new(RefCell::new(signal)));
    // While the thread exits, the list may be gone.
    let _ = LISTENERS.try_with(|listeners| listeners.borrow_mut().push(listener));
    receive(kind)?;
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

/// Receives the signals that have arrived, and registers the waker for the next one. Returns
/// whether any had arrived.
fn receive(kind: SignalKind) -> io::Result<bool> {
    let Some(listener) = find(kind) else {
        return Ok(false);
    };
    let waker = Waker::from(Arc::new(Printer(kind)));
    let mut cx = TaskContext::from_waker(&waker);
    let mut received = false;
    while let Poll::Ready(result) = listener.borrow_mut().poll_recv(&mut cx) {
        result?;
        received = true;
    }
    Ok(received)
}

struct Printer(SignalKind);

impl Wake for Printer {
    /// Called by the reactor, on its thread and inside a runtime.
    fn wake(self: Arc<Self>) {
        if let (Ok(true), Some(executor)) = (receive(self.0), executor::try_current()) {
            let (kind, dump) = (self.0, crate::inspect::info::dump(&executor));
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("without a name");
            stderr::write(format_args!(
                "soloist: {kind}: {} tasks on the thread {name}\n{dump}",
                dump.tasks.len()
            ));
        }
    }
}
