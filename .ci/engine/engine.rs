//! The tests of the engine: those in tests/it that need few dependencies.

#![allow(dead_code, unused_imports)]

#[path = "../../tests/it/cancellation.rs"]
mod cancellation;
#[path = "../../tests/it/closed_stderr.rs"]
mod closed_stderr;
#[path = "../../tests/it/copy.rs"]
mod copy;
#[path = "../../tests/it/destructors.rs"]
mod destructors;
#[path = "../../tests/it/either.rs"]
mod either;
#[path = "../../tests/it/fairness.rs"]
mod fairness;
#[path = "../../tests/it/full_reads.rs"]
mod full_reads;
#[path = "../../tests/it/group.rs"]
mod group;
#[path = "../../tests/it/guest.rs"]
mod guest;
#[path = "../../tests/it/hostile.rs"]
mod hostile;
#[path = "../../tests/it/hosts.rs"]
mod hosts;
#[path = "../../tests/it/join_set.rs"]
mod join_set;
#[cfg(soloist_liar)]
#[path = "../../tests/it/liar.rs"]
mod liar;
#[path = "../../tests/it/listeners.rs"]
mod listeners;
#[path = "../../tests/it/metrics.rs"]
mod metrics;
#[path = "../../tests/it/moves.rs"]
mod moves;
#[path = "../../tests/it/net.rs"]
mod net;
#[path = "../../tests/it/panics.rs"]
mod panics;
#[path = "../../tests/it/promise.rs"]
mod promise;
#[path = "../../tests/it/reactor.rs"]
mod reactor;
#[path = "../../tests/it/reentrancy.rs"]
mod reentrancy;
#[path = "../../tests/it/runtime.rs"]
mod runtime;
#[path = "../../tests/it/send.rs"]
mod send;
#[path = "../../tests/it/streams.rs"]
mod streams;
#[path = "../../tests/it/stress.rs"]
mod stress;
#[path = "../../tests/it/support.rs"]
mod support;
#[path = "../../tests/it/sys.rs"]
mod sys;
#[path = "../../tests/it/task_local.rs"]
mod task_local;
#[path = "../../tests/it/tasks.rs"]
mod tasks;
#[path = "../../tests/it/tcp_behaviours.rs"]
mod tcp_behaviours;
#[path = "../../tests/it/teardown.rs"]
mod teardown;
#[path = "../../tests/it/threads.rs"]
mod threads;
#[path = "../../tests/it/timers.rs"]
mod timers;
#[path = "../../tests/it/tracker.rs"]
mod tracker;
#[path = "../../tests/it/try_io.rs"]
mod try_io;
#[path = "../../tests/it/udp.rs"]
mod udp;
#[path = "../../tests/it/udp_behaviours.rs"]
mod udp_behaviours;
#[path = "../../tests/it/unix.rs"]
mod unix;
#[path = "../../tests/it/virtual_time.rs"]
mod virtual_time;
#[path = "../../tests/it/wakes.rs"]
mod wakes;
#[path = "../../tests/it/worlds.rs"]
mod worlds;
