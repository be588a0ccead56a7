//! Programs whose standard error is closed: what would be reported there is lost, and
//! nothing else is.

use std::cell::Cell;
use std::future::pending;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio, exit};
use std::rc::Rc;
use std::time::Duration;

use soloist::task::{TaskGroup, yield_now};
use soloist::testing::explore;
use soloist::{Runtime, block_on, spawn};

use crate::support::{OnDrop, compute_for, panic_of, watchdog};

/// Runs `test` in a child process whose standard error is a pipe that nobody reads. `name`
/// is the path of the calling test.
fn passes_with_closed_stderr(name: &str, test: impl FnOnce()) {
    if std::env::var("SOLOIST_TEST_CHILD").as_deref() == Ok(name) {
        test();
        // Not that of the test harness, which ends with 0 if no test has this name.
        exit(7);
    }
    let (write, read) = UnixStream::pair().unwrap();
    drop(read);
    let child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env("SOLOIST_TEST_CHILD", name)
        .stderr(Stdio::from(OwnedFd::from(write)))
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&child.stdout);
    assert_eq!(child.status.code(), Some(7), "{}\n{stdout}", child.status);
}

/// Does all that is reported on standard error.
fn report_everything() {
    let runtime = Runtime::builder()
        .warn_slow(Duration::from_millis(1))
        .build();
    let rounds = Rc::new(Cell::new(0));
    let counted = rounds.clone();
    let other = runtime.spawn(async move {
        for _ in 0..5 {
            yield_now().await;
            counted.set(counted.get() + 1);
        }
    });
    runtime
        .spawn(async { panic!("of a detached task") })
        .detach();
    runtime
        .spawn(async { compute_for(Duration::from_millis(2)) })
        .detach();
    let cancelled = runtime.spawn(async {
        let _guard = OnDrop(|| panic!("of a task that is cancelled"));
        pending::<()>().await;
    });
    let main = runtime.block_on(async {
        yield_now().await;
        drop(cancelled);
        let late = spawn(async { panic!("of a task that is detached later") });
        yield_now().await;
        late.detach();
        let group = TaskGroup::<(), &str>::new();
        group.spawn(async {
            let _guard = OnDrop(|| panic!("of a task in a group"));
            pending().await
        });
        group.spawn(async {
            yield_now().await;
            Err("it fails")
        });
        assert_eq!(group.join_all().await, Err("it fails"));
        other.await;
        "done"
    });
    assert_eq!((main, rounds.get()), ("done", 5));
    let text = panic_of(|| {
        explore(1..3, async || {
            assert_eq!(1, 2, "of one seed");
        })
    });
    assert!(text.contains("of one seed"), "{text}");
    assert_eq!(block_on(async { 1 }), 1);
}

#[test]
fn b106_nothing_is_lost_but_the_report_if_standard_error_is_a_closed_pipe() {
    let name =
        "closed_stderr::b106_nothing_is_lost_but_the_report_if_standard_error_is_a_closed_pipe";
    watchdog(move || passes_with_closed_stderr(name, || watchdog(report_everything)));
}

#[test]
fn b106_nothing_is_lost_but_the_report_if_there_is_no_standard_error() {
    let name = "closed_stderr::b106_nothing_is_lost_but_the_report_if_there_is_no_standard_error";
    watchdog(move || {
        passes_with_closed_stderr(name, || {
            #[expect(unsafe_code, reason = "to close what std never does")]
            // SAFETY: a child process of this test, in which nobody else needs it.
            drop(unsafe { OwnedFd::from_raw_fd(2) });
            watchdog(report_everything);
        });
    });
}
