//! Way 3: a pool of threads, which block instead of this one.
//!
//! The tutorials' `ThreadPoolExecutor`. A thread is cheaper than a process, and the pages come back
//! without a pipe. There is no GIL here, so threads could also compute in parallel, but there is nothing
//! to compute.

use crate::blocking;
use crate::page::{Job, Used, check};
use std::io;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    let workers = job.workers.min(job.pages);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads = (0..workers).map(|_| {
            thread::Builder::new().spawn_scoped(scope, || {
                loop {
                    let page = next.fetch_add(1, Ordering::Relaxed);
                    if page >= job.pages {
                        return io::Result::Ok(());
                    }
                    check(page, &blocking::fetch(job.server, page)?)?;
                }
            })
        });
        // Starts all threads before waiting for the first.
        let threads: Vec<_> = threads.collect::<io::Result<_>>()?;
        threads.into_iter().try_for_each(|thread| {
            let result = thread.join();
            result.unwrap_or_else(|payload| resume_unwind(payload))
        })
    })?;
    Ok(Used {
        threads: 1 + workers,
        processes: 1,
    })
}
