//! Way 2: a process for each page, which blocks instead of this one.
//!
//! The tutorials' `ProcessPoolExecutor`, but without reusing processes: the page comes back through a
//! pipe, as the value of `future.result()` does there. Starting the processes and giving them their own
//! memory is what takes the CPU time of this way.

use crate::blocking;
use crate::page::{Job, Used, check, path};
use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

pub(crate) fn run(job: &Job) -> io::Result<Used> {
    let mut workers = Workers::default();
    for page in 0..job.pages {
        if workers.running.len() == job.workers {
            workers.finish_oldest()?;
        }
        workers.start(job.server, page)?;
    }
    while !workers.running.is_empty() {
        workers.finish_oldest()?;
    }
    Ok(Used {
        threads: 1,
        processes: 1 + job.pages,
    })
}

#[derive(Default)]
struct Workers {
    running: VecDeque<(usize, Child)>,
}

impl Workers {
    fn start(&mut self, server: SocketAddr, page: usize) -> io::Result<()> {
        let process = Command::new(std::env::current_exe()?)
            .args(["worker", &server.to_string(), &page.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        self.running.push_back((page, process));
        Ok(())
    }

    /// All pages take the same time, so the oldest worker finishes first.
    fn finish_oldest(&mut self) -> io::Result<()> {
        let Some((page, process)) = self.running.pop_front() else {
            return Ok(());
        };
        let output = process.wait_with_output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!(
                "the worker for {} ended with {}: {}",
                path(page),
                output.status,
                String::from_utf8_lossy(&output.stderr).trim_end()
            )));
        }
        check(page, &output.stdout)
    }
}

impl Drop for Workers {
    /// After an error, ends the processes that are still running.
    fn drop(&mut self) {
        for (_, process) in &mut self.running {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Runs in the process of a worker: writes the page to standard output, which is a pipe.
pub(crate) fn work(server: SocketAddr, page: usize) -> io::Result<()> {
    let response = blocking::fetch(server, page)?;
    let mut out = io::stdout().lock();
    out.write_all(&response)?;
    out.flush()
}
