//! `io::stdout` and `io::stderr`, as a pipe, a file, a terminal, and closed.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitStatus, Stdio, exit};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use soloist::io::{AsyncWriteExt, stderr, stdout};

use crate::support::*;
use crate::sys::pty;

const IN_CHILD: &str = "SOLOIST_STDOUT_CHILD";
/// The status of a child whose test has passed. That of the test harness would be 0.
const PASSED: i32 = 7;

/// Runs `f` and exits, if this is the child of the calling test.
fn if_child<F: AsyncFnOnce()>(f: F) {
    if std::env::var(IN_CHILD).as_deref() == Ok(test_name::<F>()) {
        block_on(f());
        exit(PASSED);
    }
}

/// The calling test, as a child with this standard error, on which the harness writes nothing.
fn child<F: AsyncFnOnce()>(_: &F, stderr: impl Into<Stdio>) -> Command {
    let name = test_name::<F>();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name, "--exact", "--nocapture"]);
    command
        .env(IN_CHILD, name)
        .stderr(stderr)
        .stdout(Stdio::null());
    command
}

#[track_caller]
fn assert_passed(status: ExitStatus) {
    assert_eq!(status.code(), Some(PASSED), "{status}");
}

fn is_nonblocking() -> bool {
    let flags = fcntl_getfl(std::io::stderr()).unwrap();
    flags.contains(OFlags::NONBLOCK)
}

fn megabyte() -> Vec<u8> {
    (0..1 << 20).map(|n| (n % 251) as u8).collect()
}

async fn write_megabyte() {
    assert!(!is_nonblocking());
    let mut out = stderr().unwrap();
    out.write_all(&megabyte()).await.unwrap();
    out.flush().await.unwrap();
    out.close().await.unwrap();
    assert!(!is_nonblocking());
}

#[test]
fn a_pipe_that_is_full_stops_only_the_task_that_writes() {
    let test = async || {
        let writer = spawn(write_megabyte());
        // It waits as soon as the pipe is full, and this goes on.
        for _ in 0..20 {
            sleep(MS).await;
        }
        assert!(!writer.is_finished());
        assert!(!is_nonblocking());
        let mut out = stdout().unwrap();
        out.write_all(b"read now").await.unwrap();
        writer.await;
    };
    if_child(test);
    watchdog(move || {
        let mut command = child(&test, Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut told = Vec::new();
        let mut output = child.stdout.take().unwrap();
        while !told.ends_with(b"read now") {
            let mut byte = [0];
            output.read_exact(&mut byte).unwrap();
            told.push(byte[0]);
        }
        let mut bytes = Vec::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_end(&mut bytes)
            .unwrap();
        assert!(bytes == megabyte());
        assert_passed(child.wait().unwrap());
    });
}

#[test]
fn a_write_takes_at_most_what_a_writable_pipe_has_room_for() {
    let test = async || {
        let bytes = [b'x'; 100_000];
        let mut out = stderr().unwrap();
        for _ in 0..3 {
            assert_eq!(out.write(&bytes).await.unwrap(), libc::PIPE_BUF);
        }
        assert_eq!(out.write(&bytes[..10]).await.unwrap(), 10);
        assert_eq!(out.write(&[]).await.unwrap(), 0);
        // A write that is dropped has written nothing.
        assert_pending(out.write(&bytes)).await;
    };
    if_child(test);
    watchdog(move || {
        let child = child(&test, Stdio::piped()).output().unwrap();
        assert_passed(child.status);
        assert_eq!(child.stderr.len(), 3 * libc::PIPE_BUF + 10);
    });
}

#[test]
fn a_file_is_written_at_its_end_also_between_other_writes() {
    let test = async || {
        std::io::Write::write_all(&mut std::io::stderr(), b"first\n").unwrap();
        write_megabyte().await;
        std::io::Write::write_all(&mut std::io::stderr(), b"last\n").unwrap();
    };
    if_child(test);
    watchdog(move || {
        let path = std::env::temp_dir().join(format!("soloist-stdout-{}", std::process::id()));
        let status = child(&test, File::create(&path).unwrap()).status().unwrap();
        assert_passed(status);
        let expected = [&b"first\n"[..], &megabyte(), b"last\n"].concat();
        assert!(std::fs::read(&path).unwrap() == expected);
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn a_file_does_not_keep_the_thread_from_other_tasks() {
    let test = async || {
        let polls = leak(Cell::new(0));
        let other = spawn(count_yields(polls));
        let mut out = stderr().unwrap();
        for _ in 0..1000 {
            out.write_all(b"x").await.unwrap();
        }
        // The budget of a poll is 128 operations.
        assert!(polls.get() >= 7, "{}", polls.get());
        drop(other);
    };
    if_child(test);
    watchdog(move || assert_passed(child(&test, Stdio::null()).status().unwrap()));
}

#[test]
fn a_terminal_gets_every_line_and_keeps_its_mode() {
    let test = async || {
        let mut out = stderr().unwrap();
        for n in 0..2000 {
            out.write_all(format!("line {n}\n").as_bytes())
                .await
                .unwrap();
            assert!(!is_nonblocking());
        }
    };
    if_child(test);
    watchdog(move || {
        let (program, mut user) = pty();
        let mut child = child(&test, program).spawn().unwrap();
        let mut text = String::new();
        while !text.ends_with("line 1999\n") {
            let mut buf = [0; 256];
            let n = user.read(&mut buf).unwrap();
            text.push_str(std::str::from_utf8(&buf[..n]).unwrap());
        }
        let expected: String = (0..2000).map(|n| format!("line {n}\n")).collect();
        assert_eq!(text, expected);
        assert_passed(child.wait().unwrap());
    });
}

#[test]
fn a_pipe_without_a_reader_is_an_error() {
    let test = async || {
        let mut out = stderr().unwrap();
        let error = out.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    };
    if_child(test);
    watchdog(move || {
        let (write, read) = UnixStream::pair().unwrap();
        drop(read);
        assert_passed(child(&test, OwnedFd::from(write)).status().unwrap());
    });
}

#[test]
fn a_closed_descriptor_is_an_error_and_dropping_a_handle_closes_nothing() {
    let test = async || {
        drop((stderr().unwrap(), stderr().unwrap()));
        stderr().unwrap().close().await.unwrap();
        stderr().unwrap().write_all(b"still open").await.unwrap();
        #[expect(unsafe_code, reason = "std has no way to close standard error")]
        // SAFETY: nothing else in this child process uses it.
        drop(unsafe { OwnedFd::from_raw_fd(2) });
        let error = stderr().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    };
    if_child(test);
    watchdog(move || {
        let child = child(&test, Stdio::piped()).output().unwrap();
        assert_passed(child.status);
        assert_eq!(child.stderr, b"still open");
    });
}

#[test]
fn nonblocking_mode_that_another_process_has_set_is_no_error() {
    let test = async || {
        let flags = fcntl_getfl(std::io::stderr()).unwrap();
        fcntl_setfl(std::io::stderr(), flags | OFlags::NONBLOCK).unwrap();
        let mut out = stderr().unwrap();
        out.write_all(&megabyte()).await.unwrap();
        assert!(is_nonblocking());
    };
    if_child(test);
    watchdog(move || {
        let child = child(&test, Stdio::piped()).output().unwrap();
        assert_passed(child.status);
        assert!(child.stderr == megabyte());
    });
}

#[test]
fn outside_of_a_runtime_they_are_errors() {
    watchdog(|| {
        let errors = [stdout().unwrap_err(), stderr().unwrap_err()];
        for (error, name) in errors.iter().zip(["`io::stdout`", "`io::stderr`"]) {
            let expected = format!("{name} outside of a soloist runtime");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    });
}
