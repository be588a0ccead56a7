//! State of the whole process: standard error, forgotten values, file descriptors, and child processes that
//! exit in the middle of a program.

use std::collections::HashSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

/// Receives failures: standard error as it was when the process started.
static OUTPUT: OnceLock<File> = OnceLock::new();

/// Prints a message to the original standard error.
pub(crate) fn say(text: std::fmt::Arguments<'_>) {
    match OUTPUT.get() {
        Some(mut output) => drop(writeln!(output, "{text}")),
        None => eprintln!("{text}"),
    }
}

/// Prints an instruction if `SOLOIST_FUZZ_TRACE` is set.
pub(crate) fn trace(text: std::fmt::Arguments<'_>) {
    static IS_ON: OnceLock<bool> = OnceLock::new();
    if *IS_ON.get_or_init(|| std::env::var_os("SOLOIST_FUZZ_TRACE").is_some()) {
        say(text);
    }
}

/// Ends the process: the fuzzer keeps the bytes.
pub(crate) fn fail(what: &str) -> ! {
    say(format_args!("FAILED: {what}"));
    std::process::abort();
}

fn check(result: i32) -> i32 {
    if result < 0 {
        fail(&format!("{}", std::io::Error::last_os_error()));
    }
    result
}

/// Standard error of the programs: a file in memory, or a pipe whose reading end is closed.
struct Stderr {
    usual: OwnedFd,
    file: File,
    /// Its reading end is closed.
    pipe: OwnedFd,
}

static STDERR: OnceLock<Stderr> = OnceLock::new();

fn owned(fd: RawFd) -> OwnedFd {
    // SAFETY: a system call has just returned it, and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(check(fd)) }
}

/// Called before anything else in the process.
pub(crate) fn keep_output() {
    // SAFETY: system calls without pointers; a Rust `main` would ignore the signal, too.
    let output = unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        owned(libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 10))
    };
    let _ = OUTPUT.set(File::from(output));
}

/// Called before the first program.
pub(crate) fn set_up() {
    let mut ends = [0; 2];
    // SAFETY: system calls; the pointers are to a constant and to a live array of two.
    let stderr = unsafe {
        check(libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC));
        drop(owned(ends[0]));
        let file = owned(libc::memfd_create(c"stderr".as_ptr(), libc::MFD_CLOEXEC));
        check(libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND));
        Stderr {
            usual: owned(libc::fcntl(2, libc::F_DUPFD_CLOEXEC, 10)),
            file: File::from(file),
            pipe: owned(ends[1]),
        }
    };
    let _ = STDERR.set(stderr);
}

fn replace_stderr(by: RawFd) {
    // SAFETY: a system call without pointers.
    check(unsafe { libc::dup2(by, 2) });
}

fn stderr() -> &'static Stderr {
    STDERR.get().expect("it is set up")
}

/// Whether reports may be lost: standard error was closed for a while.
static CLOSED: AtomicBool = AtomicBool::new(false);

pub(crate) fn collect_stderr() {
    CLOSED.store(false, Ordering::SeqCst);
    stderr().file.set_len(0).expect("an empty file");
    replace_stderr(stderr().file.as_raw_fd());
}

pub(crate) fn close_stderr() {
    CLOSED.store(true, Ordering::SeqCst);
    replace_stderr(stderr().pipe.as_raw_fd());
}

pub(crate) fn restore_stderr() {
    replace_stderr(stderr().usual.as_raw_fd());
}

/// What was written to standard error, if nothing of that was lost. A panic waits for ever for a
/// handle that was forgotten.
pub(crate) fn collected() -> Option<String> {
    if CLOSED.load(Ordering::SeqCst) || FORGETFUL.load(Ordering::SeqCst) {
        return None;
    }
    use std::os::unix::fs::FileExt;
    let file = &stderr().file;
    let mut text = vec![0; file.metadata().expect("its size").len() as usize];
    file.read_exact_at(&mut text, 0).expect("what is in it");
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The forgotten values, where LeakSanitizer finds them.
static FORGOTTEN: Mutex<Vec<usize>> = Mutex::new(Vec::new());
/// Whether this program has forgotten something.
static FORGETFUL: AtomicBool = AtomicBool::new(false);

/// As [`std::mem::forget`]; the value stays reachable for LeakSanitizer.
pub(crate) fn forget<T>(value: T) {
    FORGETFUL.store(true, Ordering::SeqCst);
    let place = Box::into_raw(Box::new(value));
    FORGOTTEN.lock().unwrap().push(place as usize);
}

/// Whether something has been forgotten since the last call.
pub(crate) fn take_forgetful() -> bool {
    FORGETFUL.swap(false, Ordering::SeqCst)
}

fn open_fds() -> HashSet<RawFd> {
    let list = std::fs::read_dir("/proc/self/fd").expect("the list of descriptors");
    let names = list.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    names.collect()
}

static USUAL_FDS: OnceLock<HashSet<RawFd>> = OnceLock::new();

/// The descriptors that stay open.
pub(crate) fn note_fds() {
    USUAL_FDS.get_or_init(|| {
        let mut fds = open_fds();
        // The one that the list itself was read with.
        // SAFETY: a system call without pointers.
        fds.retain(|fd| unsafe { libc::fcntl(*fd, libc::F_GETFD) } >= 0);
        fds
    });
}

/// Closes the descriptors of forgotten sockets.
pub(crate) fn close_other_fds() {
    let usual = USUAL_FDS.get().expect("noted before the first program");
    for fd in open_fds() {
        if !usual.contains(&fd) {
            // SAFETY: its owner was forgotten, and the thread of the owner has ended.
            unsafe { libc::close(fd) };
        }
    }
}

/// Increases when a descriptor is leaked.
pub(crate) fn lowest_fd() -> RawFd {
    let file = File::open("/dev/null").expect("/dev/null");
    let fd = file.into_raw_fd();
    drop(owned(fd));
    fd
}

const CHILD: &str = "SOLOIST_FUZZ_CHILD";
/// The exit status of a program.
const EXIT: i32 = 42;
/// How many programs run without a child process after one with a child, which takes long.
const PAUSE: usize = 400;

static IS_CHILD: AtomicBool = AtomicBool::new(false);
static WANTED: AtomicBool = AtomicBool::new(false);
static SINCE: AtomicUsize = AtomicUsize::new(PAUSE);

static EXITING: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_exiting() -> bool {
    EXITING.load(Ordering::SeqCst)
}

/// The program wants to exit here. It does so in a child process.
pub(crate) fn exit() {
    if !IS_CHILD.load(Ordering::SeqCst) {
        WANTED.store(true, Ordering::SeqCst);
    } else if !EXITING.swap(true, Ordering::SeqCst) {
        std::process::exit(EXIT);
    }
}

/// The bytes of the program, if this process is such a child.
pub(crate) fn child_input() -> Option<Vec<u8>> {
    std::env::var_os(CHILD)?;
    IS_CHILD.store(true, Ordering::SeqCst);
    let mut data = Vec::new();
    std::io::stdin().read_to_end(&mut data).expect("the bytes");
    Some(data)
}

/// After a program: runs it in a child, if it wanted to exit.
pub(crate) fn run_child(data: &[u8]) {
    let since = SINCE.fetch_add(1, Ordering::SeqCst);
    if !WANTED.swap(false, Ordering::SeqCst) || since < PAUSE {
        return;
    }
    SINCE.store(0, Ordering::SeqCst);
    let options = std::env::var("ASAN_OPTIONS").unwrap_or_default();
    let mut child = Command::new("/proc/self/exe")
        .env(CHILD, "1")
        .env("ASAN_OPTIONS", format!("{options}:detect_leaks=0"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a child");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(data).expect("the bytes are few");
    drop(stdin);
    let end = Instant::now() + Duration::from_secs(40);
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child") {
            break status;
        }
        if Instant::now() > end {
            let _ = child.kill();
            fail("a child that was to exit hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    // Another order of the threads may lead to an end without an exit.
    if ![Some(EXIT), Some(0)].contains(&status.code()) {
        let mut text = String::new();
        let _ = child
            .stderr
            .take()
            .expect("a pipe")
            .read_to_string(&mut text);
        fail(&format!("a child that was to exit: {status}: {text}"));
    }
}
