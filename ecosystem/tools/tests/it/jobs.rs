use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Tool;
use crate::programs::{Output, run};
use crate::servers::{self, Server};

/// The commands write a line each to this file.
struct Log(PathBuf);

impl Log {
    fn new(name: &str) -> Log {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let _ = std::fs::remove_file(&path);
        Log(path)
    }

    /// A command that does `work` and appends a line.
    fn command(&self, line: &str, work: &str) -> String {
        format!("{work}; echo {line} >>'{}'", self.0.display())
    }

    /// How often each line was written.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for line in std::fs::read_to_string(&self.0).unwrap_or_default().lines() {
            *counts.entry(line.to_string()).or_default() += 1;
        }
        counts
    }

    fn wait_for(&self, lines: usize) {
        while self.counts().values().sum::<usize>() < lines {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn jobs(redis: &Server, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobs"));
    command
        .args(["--redis", &redis.address.to_string()])
        .args(args);
    command
}

fn ok(redis: &Server, args: &[&str]) -> String {
    let Output { status, out, err } = run(&mut jobs(redis, args));
    assert_eq!(status, Some(0), "{out}{err}");
    out
}

fn add(redis: &Server, commands: &[String]) -> Vec<String> {
    let mut args = vec!["add"];
    args.extend(commands.iter().map(String::as_str));
    let ids: Vec<_> = ok(redis, &args).lines().map(String::from).collect();
    assert_eq!(ids.len(), commands.len());
    ids
}

fn status(redis: &Server) -> String {
    ok(redis, &["status"]).lines().next().unwrap().to_string()
}

const UNTIL_EMPTY: [&str; 6] = ["work", "--until-empty", "--lease", "0.5", "--pause", "0.01"];

/// The two that are killed each have four jobs at the time.
#[test]
fn kill_9_of_workers_loses_no_job() {
    let redis = servers::redis();
    let log = Log::new("kill");
    let commands: Vec<_> = (0..60)
        .map(|n| log.command(&n.to_string(), "sleep 0.05"))
        .collect();
    add(&redis, &commands);
    let mut killed: Vec<_> = (0..2)
        .map(|_| Tool::start(&mut jobs(&redis, &UNTIL_EMPTY)))
        .collect();
    log.wait_for(8);
    let mut survivor = Tool::start(&mut jobs(&redis, &UNTIL_EMPTY));
    for worker in &mut killed {
        worker.signal("KILL");
        assert_eq!(worker.status(), None);
    }
    assert_eq!(survivor.status(), Some(0));
    let counts = log.counts();
    assert_eq!(counts.len(), 60);
    // At most what the killed workers had taken ran twice.
    assert!(counts.values().sum::<usize>() <= 68, "{counts:?}");
    assert_eq!(status(&redis), "0 open, 60 done, 0 failed");
}

#[test]
fn workers_share_the_jobs_and_each_runs_once() {
    let redis = servers::redis();
    let log = Log::new("share");
    let work = ["work", "--jobs", "2"];
    let mut workers: Vec<_> = (0..2)
        .map(|_| Tool::start(&mut jobs(&redis, &work)))
        .collect();
    for worker in &mut workers {
        worker.line_with("runs 2 jobs at a time");
    }
    let command = log.command("$PPID", "sleep 0.05");
    add(&redis, &vec![command; 40]);
    log.wait_for(40);
    for worker in &mut workers {
        worker.signal("TERM");
        assert_eq!(worker.status(), Some(0));
    }
    let counts = log.counts();
    assert_eq!(counts.len(), 2, "one worker did all: {counts:?}");
    assert_eq!(counts.values().sum::<usize>(), 40);
    assert_eq!(status(&redis), "0 open, 40 done, 0 failed");
}

#[test]
fn a_job_that_fails_is_tried_again_and_then_given_up() {
    let redis = servers::redis();
    let log = Log::new("fail");
    let fails = log.command("fails $JOB_TRY $JOB_ID", ":") + "; exit 7";
    let recovers = log.command("recovers $JOB_TRY", ":") + "; test $JOB_TRY = 2";
    let ids = add(&redis, &[fails.clone(), recovers]);
    ok(&redis, &UNTIL_EMPTY);
    let id = &ids[0];
    let lines = [
        "recovers 1",
        "recovers 2",
        &format!("fails 1 {id}"),
        &format!("fails 2 {id}"),
        &format!("fails 3 {id}"),
    ];
    assert_eq!(
        log.counts(),
        lines.iter().map(|line| (line.to_string(), 1)).collect()
    );
    let status = ok(&redis, &["status"]);
    assert_eq!(
        status,
        format!("0 open, 1 done, 1 failed\n{id} {fails:?}: exit status: 7\n")
    );
}

/// The command kills its worker, each of the three times that it is tried.
#[test]
fn a_job_that_kills_its_workers_is_given_up() {
    let redis = servers::redis();
    let log = Log::new("poison");
    let poison = log.command("poison", ":") + "; kill -9 $PPID";
    add(&redis, &[poison, log.command("harmless", ":")]);
    let args = ["work", "--until-empty", "--lease", "0.2", "--jobs", "1"];
    for tries in 1..=3 {
        assert_eq!(run(&mut jobs(&redis, &args)).status, None);
        assert_eq!(log.counts()["poison"], tries);
    }
    ok(&redis, &args);
    assert_eq!(
        log.counts(),
        [("harmless".into(), 1), ("poison".into(), 3)].into()
    );
    let status = ok(&redis, &["status"]);
    assert!(status.starts_with("0 open, 1 done, 1 failed\n"), "{status}");
    assert!(
        status.ends_with(": its workers did not survive it\n"),
        "{status}"
    );
}

#[test]
fn a_worker_that_was_stopped_gives_up_the_job_that_another_has_taken() {
    let redis = servers::redis();
    let log = Log::new("stop");
    // The first try does not end by itself.
    add(
        &redis,
        &[log
            .command(
                "try $JOB_TRY",
                "test $JOB_TRY != 1 || { echo >>\"$0\" ; sleep 1000; }",
            )
            .replace("$0", &log.0.display().to_string())],
    );
    let args = ["work", "--until-empty", "--lease", "0.3", "--jobs", "1"];
    let mut stopped = Tool::start(&mut jobs(&redis, &args));
    log.wait_for(1);
    stopped.signal("STOP");
    ok(&redis, &args);
    assert_eq!(status(&redis), "0 open, 1 done, 0 failed");
    stopped.signal("CONT");
    stopped.line_with("try 1 is ended, since its lease could not be renewed");
    assert_eq!(stopped.status(), Some(0));
    assert_eq!(
        log.counts(),
        [(String::new(), 1), ("try 2".into(), 1)].into()
    );
    assert_eq!(status(&redis), "0 open, 1 done, 0 failed");
}

#[test]
fn sigterm_lets_the_current_jobs_finish_and_leaves_the_others() {
    let redis = servers::redis();
    let log = Log::new("term");
    let started = log.command("started", ":");
    let commands: Vec<_> = (0..5)
        .map(|_| format!("{started}; {}", log.command("ended", "sleep 0.3")))
        .collect();
    add(&redis, &commands);
    let mut worker = Tool::start(&mut jobs(&redis, &["work", "--jobs", "2"]));
    log.wait_for(2);
    worker.signal("TERM");
    assert_eq!(worker.status(), Some(0));
    assert_eq!(
        log.counts(),
        [("ended".into(), 2), ("started".into(), 2)].into()
    );
    assert_eq!(status(&redis), "3 open, 2 done, 0 failed");
}

/// A long job keeps its lease.
#[test]
fn a_job_that_takes_longer_than_the_lease_runs_once() {
    let redis = servers::redis();
    let log = Log::new("long");
    add(&redis, &[log.command("long", "sleep 1.5")]);
    let args = ["work", "--until-empty", "--lease", "0.3"];
    let mut workers: Vec<_> = (0..2)
        .map(|_| Tool::start(&mut jobs(&redis, &args)))
        .collect();
    for worker in &mut workers {
        assert_eq!(worker.status(), Some(0));
    }
    assert_eq!(log.counts(), [("long".into(), 1)].into());
}

#[test]
fn without_redis_there_is_an_error() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobs"));
    let output = run(command.args(["--redis", &unused.to_string(), "work"]));
    assert_eq!(output.status, Some(1));
    assert!(
        output
            .err
            .starts_with(&format!("jobs: Redis at {unused}: ")),
        "{}",
        output.err
    );
}
