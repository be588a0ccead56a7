//! What a socket costs for which no task waits, on the systems that can measure the CPU time of a
//! thread.

use std::io::Write;
use std::pin::pin;
use std::time::Duration;

use soloist::io::{Async, AsyncReadExt};
use soloist::net;
use soloist::time::sleep;

use crate::support::*;

/// User and system time.
#[cfg(windows)]
fn thread_cpu_time() -> Duration {
    cpu_time::ThreadTime::now().as_duration()
}
#[cfg(target_os = "linux")]
use crate::support::thread_cpu_time;

/// The wait does not spin for sockets for which no task waits any more, whatever happens to them.
/// (With level-triggered registrations they had to be disarmed.)
#[test]
fn b102_a_disarmed_socket_whose_peer_resets_costs_nothing() {
    async_test(async || {
        let mut kept = Vec::new();
        for bytes_first in [false, true] {
            let (ours, mut theirs) = tcp_pair();
            let ours = Async::new(ours).unwrap();
            {
                // The direction is armed, and then the wait is given up.
                let mut readable = pin!(ours.readable());
                assert!(poll_once(&mut readable).await.is_pending());
            }
            if bytes_first {
                // Reported while no task waits for it.
                theirs.write_all(b"x").unwrap();
                sleep(50 * MS).await;
            }
            let linger = Some(Duration::ZERO);
            socket2::SockRef::from(&theirs).set_linger(linger).unwrap();
            drop(theirs);
            kept.push(ours);
        }
        // A socket beside them that is waited for.
        let (ours, _theirs) = tcp_pair();
        let mut idle = net::TcpStream::try_from(ours).unwrap();
        let mut buf = [0];
        let mut reading = pin!(idle.read(&mut buf));
        assert!(poll_once(&mut reading).await.is_pending());

        let before = thread_cpu_time();
        sleep(2 * SECOND).await;
        let used = thread_cpu_time() - before;
        assert!(used < 100 * MS, "{used:?} in two seconds");

        // They can be waited for again.
        for ours in kept {
            ours.readable().await.unwrap();
        }
    });
}
