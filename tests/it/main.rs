//! The tests of the crate as its users see it: one binary, a file per area.
//!
//! Names that begin with `b` and a number are regressions: each is a bug that a system
//! of this kind has had.

// What is there for one system's tests is not used on the others.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]
// Examples that run in a simulated world are modules here, each with its `cli`.
#![allow(clippy::duplicate_mod)]

mod all_cores;
mod bad_input;
#[cfg(feature = "blocking")]
mod blocking;
mod cancellation;
#[cfg(all(unix, feature = "testing"))]
mod closed_stderr;
mod connect;
mod copy;
mod destructors;
mod echo;
mod either;
mod examples;
#[cfg(feature = "testing")]
mod explore;
#[cfg(feature = "testing")]
mod fairness;
mod full_reads;
mod group;
#[cfg(unix)]
mod guest;
mod hostile;
#[cfg(all(unix, feature = "testing"))]
mod hosts;
mod inspect;
mod join_set;
#[cfg(soloist_liar)]
mod liar;
mod listeners;
mod metrics;
mod moves;
mod net;
#[cfg(feature = "testing")]
mod order;
mod panics;
#[cfg(all(unix, feature = "process"))]
mod process;
mod programs;
mod promise;
mod reactor;
mod reentrancy;
mod resolve;
mod runtime;
mod send;
#[cfg(all(unix, feature = "signal"))]
mod signal;
#[cfg(feature = "testing")]
mod simulate;
mod slow;
mod sources;
#[cfg(feature = "tracing")]
mod spans;
#[cfg(unix)]
mod stdin;
#[cfg(unix)]
mod stdout;
mod streams;
mod stress;
mod stuck;
mod support;
#[cfg(unix)]
#[cfg_attr(not(feature = "blocking"), allow(dead_code))]
mod sys;
mod task_local;
mod tasks;
#[cfg(feature = "testing")]
mod tcp_behaviours;
mod teardown;
mod ten_pages;
mod threads;
mod timers;
#[cfg(feature = "trace")]
mod trace;
mod tracker;
mod try_io;
mod udp;
#[cfg(feature = "testing")]
mod udp_behaviours;
#[cfg(unix)]
mod unix;
#[cfg(feature = "testing")]
mod virtual_time;
mod wakes;
#[cfg(feature = "testing")]
mod worlds;
