//! Child processes: their output arrives, their exit status is reported, none becomes a zombie.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;

use fastrand::Rng;
use futures_lite::future::{try_zip, zip};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::process::{Child, Command, Stdio};
use soloist::signal::unix::SignalKind;
use soloist::time::timeout;

use crate::support::*;

const MIB: usize = 1 << 20;
const SIGKILL: i32 = 9;

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

/// Starts a child with pipes to its standard input and from its standard output.
fn spawn_piped(command: &mut Command) -> Child {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().unwrap()
}

/// A child that does not end by itself.
fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000").kill_on_drop(true);
    command
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32).unwrap()
}

/// Whether there is a process with that id. A zombie counts.
fn exists(pid: Pid) -> bool {
    test_kill_process(pid).is_ok()
}

async fn until_gone(pid: Pid) {
    while exists(pid) {
        sleep(MS).await;
    }
}

/// How many children of this process are in each state.
#[cfg(target_os = "linux")]
fn children() -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for entry in fs::read_dir("/proc").unwrap() {
        let Ok(stat) = fs::read_to_string(entry.unwrap().path().join("stat")) else {
            continue;
        };
        // The name may have spaces and brackets in it.
        let mut words = stat.rsplit(')').next().unwrap().split_whitespace();
        let (state, parent) = (words.next().unwrap(), words.next().unwrap());
        if parent == std::process::id().to_string() {
            *states.entry(state.to_string()).or_default() += 1;
        }
    }
    states
}

/// Some may have been reaped already: a child that is killed and ends at once is reaped at once.
#[cfg(target_os = "linux")]
fn until_all_have_ended() {
    while children().keys().any(|state| state != "Z") {
        thread::sleep(MS);
    }
}

#[cfg(target_os = "linux")]
async fn until_childless() {
    while !children().is_empty() {
        sleep(5 * MS).await;
    }
}

#[test]
fn exit_codes_and_signals_are_reported() {
    async_test(async || {
        for code in [0, 1, 42, 255] {
            let status = sh(&format!("exit {code}")).status().await.unwrap();
            assert_eq!((status.code(), status.success()), (Some(code), code == 0));
        }
        let status = sh("kill -TERM $$").status().await.unwrap();
        assert_eq!((status.code(), status.signal()), (None, Some(15)));
        let mut child = sleeper().spawn().unwrap();
        child.kill().unwrap();
        assert_eq!(child.wait().await.unwrap().signal(), Some(SIGKILL));
        // It has ended: no other process with that id is killed.
        child.kill().unwrap();
        assert_eq!(child.try_wait().unwrap().unwrap().signal(), Some(SIGKILL));
    });
}

#[test]
fn a_megabyte_on_output_and_error_at_once() {
    async_test(async || {
        let script = "head -c 1048576 /dev/zero & head -c 1048576 /dev/zero >&2; wait; exit 5";
        let output = sh(script).output().await.unwrap();
        assert_eq!((output.stdout.len(), output.stderr.len()), (MIB, MIB));
        assert_eq!(output.status.code(), Some(5));
    });
}

#[test]
fn a_megabyte_through_cat_both_ways_at_once() {
    async_test(async || {
        let mut random = Rng::with_seed(60);
        let bytes: Vec<u8> = (0..MIB).map(|_| random.u64(..) as u8).collect();
        let mut cat = spawn_piped(&mut Command::new("cat"));
        let (mut stdin, mut stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
        let write = async {
            stdin.write_all(&bytes).await?;
            stdin.close().await?;
            let error = stdin.write(b"x").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokenPipe);
            Ok::<(), io::Error>(())
        };
        let mut echo = Vec::new();
        try_zip(write, stdout.read_to_end(&mut echo)).await.unwrap();
        assert!(echo == bytes);
        assert!(cat.wait().await.unwrap().success());
    });
}

#[test]
fn a_child_is_talked_to_line_by_line() {
    async_test(async || {
        let mut child = spawn_piped(&mut sh("while read line; do echo \"<$line>\"; done"));
        let mut stdin = child.stdin.take().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        for n in 0..20 {
            stdin.write_all(format!("{n}\n").as_bytes()).await.unwrap();
            let mut line = String::new();
            lines.read_line(&mut line).await.unwrap();
            assert_eq!(line, format!("<{n}>\n"));
        }
        drop(stdin);
        assert!(child.wait().await.unwrap().success());
    });
}

#[test]
fn waiting_closes_standard_input() {
    async_test(async || {
        let mut cat = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert!(cat.wait().await.unwrap().success());

        let mut cat = Command::new("cat");
        cat.stdin(Stdio::piped()).stdout(Stdio::piped());
        let output = cat.spawn().unwrap().wait_with_output().await.unwrap();
        assert!(output.status.success() && output.stdout.is_empty());
        assert!(cat.status().await.unwrap().success());
    });
}

#[test]
fn b60_the_end_of_a_child_wakes_both_ends_of_its_pipes() {
    async_test(async || {
        let mut child = spawn_piped(&mut sleeper());
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let blocked = spawn(async move { stdin.write_all(&[0; MIB]).await });
        let reading = spawn(async move { stdout.read(&mut [0; 8]).await });
        sleep(5 * MS).await;
        assert!(!blocked.is_finished() && !reading.is_finished());
        child.kill().unwrap();
        assert_eq!(blocked.await.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(reading.await.unwrap(), 0);
        assert_eq!(child.wait().await.unwrap().signal(), Some(SIGKILL));
    });
}

#[test]
fn b62_data_that_a_child_wrote_before_its_end_is_read() {
    async_test(async || {
        for _ in 0..20 {
            let mut child = Command::new("head");
            let mut child = child
                .args(["-c", "65536", "/dev/zero"])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdout = child.stdout.take().unwrap();
            // A short read first.
            let mut first = [0; 100];
            stdout.read_exact(&mut first).await.unwrap();
            assert!(child.wait().await.unwrap().success());
            let mut rest = Vec::new();
            stdout.read_to_end(&mut rest).await.unwrap();
            assert_eq!(first.len() + rest.len(), 65_536);
        }
    });
}

#[test]
fn outside_of_a_runtime_nothing_is_started() {
    watchdog(|| {
        let error = sleeper().spawn().unwrap_err();
        assert!(error.to_string().contains("block_on"), "{error}");
    });
}

#[test]
fn a_wait_that_is_dropped_loses_nothing() {
    async_test(async || {
        let mut child = sleeper().spawn().unwrap();
        for _ in 0..3 {
            assert_pending(child.wait()).await;
            let limit = timeout(2 * MS, child.wait()).await;
            assert!(limit.is_err());
            assert_eq!(child.try_wait().unwrap(), None);
        }
        child.kill().unwrap();
        for _ in 0..3 {
            assert_eq!(child.wait().await.unwrap().signal(), Some(SIGKILL));
        }

        // It ends between two waits.
        let mut child = sleeper().spawn().unwrap();
        assert_pending(child.wait()).await;
        child.kill().unwrap();
        sleep(5 * MS).await;
        assert_eq!(child.wait().await.unwrap().signal(), Some(SIGKILL));
    });
}

#[test]
fn waiting_for_children_uses_no_cpu_time() {
    async_in_own_process(async || {
        let mut children: Vec<Child> = (0..5).map(|_| sleeper().spawn().unwrap()).collect();
        let mut last = children.pop().unwrap();
        let waits: Vec<_> = children
            .into_iter()
            .map(|mut child| spawn(async move { child.wait().await }))
            .collect();
        assert_idle(50 * MS).await;
        // The other waits go on.
        last.kill().unwrap();
        last.wait().await.unwrap();
        assert_idle(50 * MS).await;
        assert!(!waits.iter().any(|wait| wait.is_finished()));
    });
}

#[test]
fn a_timeout_of_a_status_kills_the_child() {
    async_test(async || {
        let status = timeout(50 * SECOND, sh("exit 3").status()).await;
        assert_eq!(status.unwrap().unwrap().code(), Some(3));

        // Killed by the drop of the future.
        let mut command = sh("echo $$; exec sleep 1000");
        command.kill_on_drop(true).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).await.unwrap();
        let pid = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        let wait = async move { child.wait().await };
        assert!(timeout(5 * MS, wait).await.is_err());
        until_gone(pid).await;

        assert!(timeout(5 * MS, sleeper().status()).await.is_err());
        assert!(timeout(5 * MS, sleeper().output()).await.is_err());
    });
}

#[test]
fn a_dropped_child_is_killed_if_that_was_asked_for() {
    async_test(async || {
        let child = sleeper().spawn().unwrap();
        let killed = pid(&child);
        drop(child);
        until_gone(killed).await;

        let child = sleeper().kill_on_drop(false).spawn().unwrap();
        let spared = pid(&child);
        drop(child);
        sleep(20 * MS).await;
        assert!(exists(spared));
        // It is reaped nevertheless.
        kill_process(spared, Signal::KILL).unwrap();
        until_gone(spared).await;

        // Dropped with the task that waits for it.
        let mut child = sleeper().spawn().unwrap();
        let killed = pid(&child);
        let waiting = spawn(async move { child.wait().await });
        sleep(5 * MS).await;
        waiting.cancel().await;
        until_gone(killed).await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_children_leave_no_zombie() {
    async_in_own_process(async || {
        for _ in 0..5 {
            let waits: Vec<_> = (0..100)
                .map(|_| spawn(Command::new("true").status()))
                .collect();
            for wait in waits {
                assert!(wait.await.unwrap().success());
            }
        }
        for _ in 0..500 {
            drop(Command::new("true").spawn().unwrap());
        }
        until_childless().await;
    });
}

#[cfg(target_os = "linux")]
#[test]
fn children_dropped_while_they_run_leave_no_zombie() {
    async_in_own_process(async || {
        // They end together, when the pipe to them is closed.
        let (children, pipes): (Vec<_>, Vec<_>) = (0..200)
            .map(|_| {
                let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
                let pipe = child.stdin.take().unwrap();
                (child, pipe)
            })
            .unzip();
        drop(children);
        assert_eq!(children_count(), 200);
        drop(pipes);
        until_childless().await;
    });
}

#[cfg(target_os = "linux")]
fn children_count() -> usize {
    children().values().sum()
}

#[cfg(target_os = "linux")]
#[test]
fn children_that_outlive_their_runtime_leave_no_zombie() {
    in_own_process(|| {
        // Dropped with the runtime, by a task of it and by main; the next runtime of the
        // thread reaps them.
        let pipes = block_on(async {
            let cat = || Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
            let (mut a, mut b) = (cat(), cat());
            let pipes = (a.stdin.take(), b.stdin.take());
            spawn(async move {
                let _a = a;
                pending::<()>().await;
            })
            .detach();
            assert_pending(b.wait()).await;
            pipes
        });
        assert_eq!(children_count(), 2);
        drop(pipes);
        block_on(until_childless());

        // Dropped outside of any runtime: the next spawn reaps what has ended.
        let child = block_on(async { sleeper().spawn().unwrap() });
        drop(child);
        until_all_have_ended();
        let mut child = block_on(async { sleeper().spawn().unwrap() });
        assert!(!children().contains_key("Z"));
        child.kill().unwrap();
        block_on(child.wait()).unwrap();

        // A child that has not ended is watched from then on.
        let mut cat =
            block_on(async { Command::new("cat").stdin(Stdio::piped()).spawn().unwrap() });
        let pipe = cat.stdin.take().unwrap();
        drop(cat);
        block_on(async {
            assert!(Command::new("true").status().await.unwrap().success());
            assert_eq!(children_count(), 1);
            drop(pipe);
            until_childless().await;
        });

        // Left by a thread that ends.
        thread::spawn(|| {
            let child = block_on(async { sleeper().spawn().unwrap() });
            drop(child);
            until_all_have_ended();
        })
        .join()
        .unwrap();
        assert_eq!(children_count(), 0);
    });
}

#[cfg(target_os = "linux")]
#[test]
fn threads_reap_children_that_other_threads_have_left() {
    in_own_process(|| {
        let threads = (0..4).map(|_| {
            thread::spawn(|| {
                for _ in 0..10 {
                    block_on(async {
                        for _ in 0..3 {
                            drop(sleeper().spawn().unwrap());
                            drop(Command::new("true").spawn().unwrap());
                        }
                        assert!(Command::new("true").status().await.unwrap().success());
                    });
                }
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
        // The threads that watched the children have ended.
        block_on(async {
            while !children().is_empty() {
                sleep(MS).await;
                assert!(Command::new("true").status().await.unwrap().success());
            }
        });
    });
}

#[cfg(target_os = "linux")]
#[test]
fn b94_children_that_are_given_up_close_their_fds() {
    async_in_own_process(async || {
        let mut command = sleeper();
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut give_up = async || {
            let mut child = command.spawn().unwrap();
            let mut stdout = child.stdout.take().unwrap();
            assert_pending(stdout.read(&mut [0; 8])).await;
            assert_pending(child.wait()).await;
        };
        give_up().await;
        until_childless().await;
        let before = open_fds();
        for _ in 0..50 {
            give_up().await;
            Command::new("no-such-program-here").spawn().unwrap_err();
        }
        until_childless().await;
        assert_eq!(open_fds(), before);
    });
}

#[test]
fn a_dropped_child_does_not_keep_run_from_returning() {
    runtime_test(|runtime| {
        let killed = runtime.block_on(async {
            let child = sleeper().kill_on_drop(false).spawn().unwrap();
            pid(&child)
        });
        runtime.spawn(async {}).detach();
        runtime.run();
        assert!(exists(killed));
        kill_process(killed, Signal::KILL).unwrap();
        runtime.block_on(until_gone(killed));
    });
}

#[test]
fn a_child_moves_to_another_thread() {
    watchdog(|| {
        let mut child = block_on(async {
            let mut child = spawn_piped(&mut sh("read line; echo $line; exit 4"));
            let mut stdin = child.stdin.take().unwrap();
            assert_pending(child.wait()).await;
            let stdout = child.stdout.as_mut().unwrap();
            assert_pending(stdout.read(&mut [0; 8])).await;
            stdin.write_all(b"hello\n").await.unwrap();
            child
        });
        thread::spawn(move || {
            block_on(async {
                let mut text = String::new();
                let mut stdout = child.stdout.take().unwrap();
                stdout.read_to_string(&mut text).await.unwrap();
                assert_eq!(text, "hello\n");
                assert_eq!(child.wait().await.unwrap().code(), Some(4));
            });
        })
        .join()
        .unwrap();
    });
}

#[test]
fn children_on_several_threads_at_once() {
    watchdog(|| {
        let threads = (0..4).map(|_| {
            thread::spawn(|| {
                block_on(async {
                    for code in 0..20 {
                        let (one, other) = (format!("exit {code}"), format!("exit {}", code + 100));
                        let (one, other) = zip(sh(&one).status(), sh(&other).status()).await;
                        assert_eq!(one.unwrap().code(), Some(code));
                        assert_eq!(other.unwrap().code(), Some(code + 100));
                    }
                });
            })
        });
        for thread in threads.collect::<Vec<_>>() {
            thread.join().unwrap();
        }
    });
}

#[test]
fn pipes_given_back_to_std_are_in_blocking_mode() {
    async_test(async || {
        let mut cat = spawn_piped(&mut Command::new("cat"));
        let stdin = cat.stdin.take().unwrap().into_std().unwrap();
        let stdout = cat.stdout.take().unwrap().into_std().unwrap();
        for mode in [fcntl_getfl(&stdin), fcntl_getfl(&stdout)] {
            assert!(!mode.unwrap().contains(OFlags::NONBLOCK));
        }
    });
}

#[test]
fn a_pipeline_of_children() {
    async_test(async || {
        let mut seq = Command::new("seq");
        let mut seq = seq.arg("100000").stdout(Stdio::piped()).spawn().unwrap();
        let numbers = Stdio::try_from(seq.stdout.take().unwrap()).unwrap();
        let tail = Command::new("tail")
            .args(["-n", "1"])
            .stdin(numbers)
            .output();
        assert_eq!(tail.await.unwrap().stdout, b"100000\n");
        assert!(seq.wait().await.unwrap().success());
    });
}

#[test]
fn output_captures_streams_that_are_not_redirected() {
    async_test(async || {
        // No standard input, unless it is asked for.
        assert_eq!(Command::new("cat").output().await.unwrap().stdout, b"");

        let mut echo = sh("echo out; echo err >&2");
        let output = echo.stderr(Stdio::null()).output().await.unwrap();
        assert_eq!(
            (&output.stdout[..], &output.stderr[..]),
            (&b"out\n"[..], &b""[..])
        );
        // The pipes were those of `output`: now there are none.
        let mut child = echo.stdout(Stdio::null()).spawn().unwrap();
        assert!(child.stdin.is_none() && child.stdout.is_none() && child.stderr.is_none());
        child.wait().await.unwrap();

        // A std command keeps its settings.
        let mut echo = std::process::Command::new("echo");
        echo.arg("hello").env("A", "1");
        let mut echo = Command::from(echo);
        echo.current_dir("/");
        assert_eq!(echo.get_program(), "echo");
        assert_eq!(echo.as_std().get_args().count(), 1);
        assert_eq!(echo.get_envs().count(), 1);
        assert_eq!(echo.get_current_dir().unwrap().to_str(), Some("/"));
        assert_eq!(echo.output().await.unwrap().stdout, b"hello\n");
    });
}

#[test]
fn children_and_their_futures_are_send() {
    fn is_send_and_sync<T: Send + Sync>(_: &T) {}
    fn is_send<T: Send>(value: T) -> T {
        value
    }
    async_test(async || {
        let mut child = sleeper().spawn().unwrap();
        is_send_and_sync(&child);
        let wait = is_send(child.wait());
        assert_pending(wait).await;
        is_send(sh("exit 0").status()).await.unwrap();
        is_send(sh("exit 0").output()).await.unwrap();
    });
}

#[test]
fn a_child_is_dropped_right_after_its_end() {
    async_test(async || {
        for _ in 0..50 {
            let mut child = Command::new("true").spawn().unwrap();
            let mut wait = Box::pin(async move { child.wait().await });
            while poll_once(&mut wait).await.is_pending() {
                sleep(Duration::from_micros(100)).await;
            }
        }
    });
}

// Signals.

#[test]
fn a_signal_ends_a_child_or_is_handled_by_it() {
    async_test(async || {
        let mut child = sleeper().spawn().unwrap();
        child.signal(SignalKind::user_defined1()).unwrap();
        assert_eq!(
            child.wait().await.unwrap().signal(),
            Some(SignalKind::user_defined1().as_raw())
        );

        let mut shell = spawn_piped(&mut sh(
            "trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done",
        ));
        let mut lines = BufReader::new(shell.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).await.unwrap();
        shell.signal(SignalKind::terminate()).unwrap();
        assert_eq!(shell.wait().await.unwrap().code(), Some(7));
    });
}

#[test]
fn a_signal_to_a_child_that_has_exited_does_nothing() {
    async_test(async || {
        let mut child = spawn_piped(&mut sh("exit 3"));
        // Its output ends when it has exited, or a little before that.
        let mut stdout = child.stdout.take().unwrap();
        stdout.read_to_end(&mut Vec::new()).await.unwrap();
        while child.try_wait().unwrap().is_none() {
            sleep(MS).await;
        }
        for _ in 0..2 {
            child.signal(SignalKind::from_raw(SIGKILL)).unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(3));
        }
    });
}

#[test]
fn a_signal_to_a_group_reaches_the_children_of_the_child() {
    async_test(async || {
        let mut shell = spawn_piped(sh("sleep 1000 & echo $!; wait").process_group(0));
        let mut line = String::new();
        let mut lines = BufReader::new(shell.stdout.take().unwrap());
        lines.read_line(&mut line).await.unwrap();
        let grandchild = Pid::from_raw(line.trim().parse().unwrap()).unwrap();
        assert!(exists(grandchild));
        shell.signal_group(SignalKind::terminate()).unwrap();
        assert_eq!(shell.wait().await.unwrap().signal(), Some(15));
        until_gone(grandchild).await;
        // The group is empty.
        let error = shell.signal_group(SignalKind::terminate()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn what_a_child_has_left_in_its_group_can_be_killed_after_its_exit() {
    async_test(async || {
        let mut shell = spawn_piped(sh("sleep 1000 > /dev/null & echo $!").process_group(0));
        let mut text = String::new();
        let mut stdout = shell.stdout.take().unwrap();
        stdout.read_to_string(&mut text).await.unwrap();
        let grandchild = Pid::from_raw(text.trim().parse().unwrap()).unwrap();
        assert!(shell.wait().await.unwrap().success());
        assert!(exists(grandchild));
        shell.signal_group(SignalKind::from_raw(SIGKILL)).unwrap();
        until_gone(grandchild).await;
    });
}

#[test]
fn a_signal_to_the_group_of_a_child_that_leads_none_is_an_error() {
    async_test(async || {
        // It is in the group of this process, which must not be hit.
        let mut child = sleeper().spawn().unwrap();
        let error = child
            .signal_group(SignalKind::from_raw(SIGKILL))
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        let text = format!(
            "process {} leads no process group (start it with",
            child.id()
        );
        assert!(error.to_string().starts_with(&text), "{error}");
        assert_eq!(child.try_wait().unwrap(), None);
    });
}

#[test]
fn a_number_that_is_no_signal_is_refused() {
    async_test(async || {
        let mut child = sleeper().process_group(0).spawn().unwrap();
        for number in [-1, 0, 1000] {
            let kind = SignalKind::from_raw(number);
            for result in [child.signal(kind), child.signal_group(kind)] {
                assert_eq!(
                    result.unwrap_err().kind(),
                    ErrorKind::InvalidInput,
                    "{number}"
                );
            }
        }
        assert_eq!(child.try_wait().unwrap(), None);
    });
}
