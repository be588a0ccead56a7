use std::path::PathBuf;
use std::process::Command;

use crate::Tool;
use crate::programs::run;

fn file(name: &str, text: &str) -> PathBuf {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, text).unwrap();
    file
}

fn start(file: &PathBuf, args: &[&str]) -> Tool {
    Tool::start(
        Command::new(env!("CARGO_BIN_EXE_supervisor"))
            .arg(file)
            .args(args),
    )
}

/// The process id in the next line that says that `name` was started.
fn started(tool: &mut Tool, name: &str) -> String {
    let line = tool.line_with(&format!("{name}: started as "));
    line.rsplit(' ').next().unwrap().to_string()
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_program_that_ends_is_restarted_after_doubling_pauses() {
    let file = file(
        "restart.conf",
        "# a comment\n\nshort: echo hello; echo oops >&2; exit 3\n",
    );
    let mut tool = start(&file, &["--pause", "0.01"]);
    for pause in ["10ms", "20ms", "40ms", "80ms"] {
        started(&mut tool, "short");
        let mut lines = [tool.line(), tool.line(), tool.line()];
        lines.sort();
        let ended = format!("short: exit status: 3, restarts in {pause}");
        assert_eq!(lines, [&ended, "short> hello", "short> oops"]);
    }
    tool.signal("TERM");
    assert_eq!(tool.status(), Some(0));
}

#[test]
fn a_program_that_is_killed_is_restarted_and_the_others_run_on() {
    let file = file("kill.conf", "one: exec sleep 1000\ntwo: exec sleep 1000\n");
    let mut tool = start(&file, &["--pause", "0.01"]);
    let one = started(&mut tool, "one");
    let two = started(&mut tool, "two");
    assert!(
        Command::new("kill")
            .args(["-9", &one])
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(tool.line(), "one: signal: 9 (SIGKILL), restarts in 10ms");
    let again = started(&mut tool, "one");
    assert!(!is_alive(&one) && is_alive(&two) && is_alive(&again));
    tool.signal("INT");
    assert_eq!(tool.status(), Some(0));
    assert!(!is_alive(&two) && !is_alive(&again));
}

/// The shell ignores SIGTERM, and its child inherits that.
#[test]
fn what_ignores_sigterm_is_killed_with_its_children() {
    let file = file(
        "stubborn.conf",
        "stubborn: trap '' TERM; sleep 1000 & echo $!; wait\n",
    );
    let mut tool = start(&file, &["--grace", "0.1"]);
    let shell = started(&mut tool, "stubborn");
    let child = tool.line().strip_prefix("stubborn> ").unwrap().to_string();
    assert!(is_alive(&shell) && is_alive(&child));
    tool.signal("TERM");
    assert_eq!(tool.status(), Some(0));
    assert!(!is_alive(&shell));
    while is_alive(&child) {
        std::thread::yield_now();
    }
}

#[test]
fn sighup_reads_the_file_again_and_an_error_changes_nothing() {
    let path = file("reload.conf", "old: exec sleep 1000\n");
    let mut tool = start(&path, &[]);
    let old = started(&mut tool, "old");
    file("reload.conf", "wrong\n");
    tool.signal("HUP");
    let wrong = "nothing is restarted: a line is not `name: command`";
    assert_eq!(tool.line(), wrong);
    assert!(is_alive(&old));
    file("reload.conf", "new: exec sleep 1000\n");
    tool.signal("HUP");
    let new = started(&mut tool, "new");
    assert!(!is_alive(&old) && is_alive(&new));
    tool.signal("TERM");
    assert_eq!(tool.status(), Some(0));
}

#[test]
fn errors_name_the_file() {
    let file = file("wrong.conf", "no colon\n");
    let supervisor = || Command::new(env!("CARGO_BIN_EXE_supervisor"));
    let output = run(supervisor().arg(&file));
    assert_eq!(output.status, Some(1));
    assert!(
        output
            .err
            .ends_with("wrong.conf: a line is not `name: command`\n"),
        "{}",
        output.err
    );
    assert_eq!(run(&mut supervisor()).status, Some(2));
}
