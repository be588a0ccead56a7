//! Parts of the suite `footprint`: the resources of an idle runtime.

use std::time::Duration;

use super::measure::{report, resident};
use super::sockets::{listen, serve};
use crate::rt;

/// A runtime that has slept once.
pub fn empty() {
    let before = resident();
    rt::run(|_| async move {
        rt::sleep(Duration::from_millis(1)).await;
        let count = |path| std::fs::read_dir(path).unwrap().count() as f64;
        report("empty runtime: memory", (resident() - before) / 1024.0);
        // Standard input, output, error, and the directory that is being read.
        report(
            "empty runtime: file descriptors",
            count("/proc/self/fd") - 4.0,
        );
        report("empty runtime: threads", count("/proc/self/task"));
    });
}

/// `idle CONNECTIONS`: accepts them, and a task for each waits for its first byte.
pub fn idle(arguments: &[String]) {
    let connections: usize = arguments[0].parse().expect("a number of connections");
    rt::run(|ctx| async move {
        let listener = rt::listener(listen());
        // One connection, so that everything that is allocated once exists.
        let stream = rt::accept(&listener).await;
        rt::detach(ctx.spawn(serve(stream, 16)));
        let before = resident();
        for _ in 0..connections {
            let stream = rt::accept(&listener).await;
            rt::detach(ctx.spawn(serve(stream, 16)));
        }
        // Three more connections that are closed again: at the third, all tasks wait.
        for _ in 0..3 {
            let mut stream = rt::accept(&listener).await;
            rt::read(&mut stream, vec![0; 16]).await;
        }
        let bytes = resident() - before;
        report("bytes per idle connection", bytes / connections as f64);
        std::process::exit(0);
    });
}
