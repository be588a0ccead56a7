//! Programs whose standard error is closed: the reports are lost, and
//! nothing else is.

use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio, exit};

use soloist::task::TaskGroup;
use soloist::testing::explore;

use crate::support::*;

/// Runs `test` in a child process whose standard error is a pipe with a closed reading end.
fn passes_with_closed_stderr<F: FnOnce()>(test: F) {
    let name = test_name::<F>();
    if std::env::var("SOLOIST_TEST_CHILD").as_deref() == Ok(name) {
        test();
        // Not the status of the test harness, which is 0 even if no test has this name.
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

/// Causes every kind of report on standard error.
fn report_everything() {
    let runtime = Runtime::builder().warn_slow(MS).build();
    let rounds = leak(Cell::new(0));
    let other = runtime.spawn(async move {
        for _ in 0..5 {
            yield_now().await;
            rounds.set(rounds.get() + 1);
        }
    });
    spawn_detached(&runtime, async { panic!("of a detached task") });
    runtime.spawn(async { compute_for(2 * MS) }).detach();
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
fn b106_a_closed_pipe_as_standard_error_loses_only_the_reports() {
    passes_with_closed_stderr(|| watchdog(report_everything));
}

#[test]
fn b106_a_closed_standard_error_loses_only_the_reports() {
    passes_with_closed_stderr(|| {
        #[expect(unsafe_code, reason = "std has no way to close standard error")]
        // SAFETY: nothing else in this child process uses it.
        drop(unsafe { OwnedFd::from_raw_fd(2) });
        watchdog(report_everything);
    });
}
