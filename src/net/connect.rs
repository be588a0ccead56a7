//! Happy Eyeballs (RFC 8305): several addresses, tried one after the other and side by
//! side; the first to connect wins.

use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use crate::time::{Sleep, sleep};

/// How long an attempt has the network for itself.
const HEAD_START: Duration = Duration::from_millis(250);

/// What has been tried, with what came of it.
type Failures = Vec<(SocketAddr, io::Error)>;

/// Connects to the first address that takes it. The next attempt starts after a head
/// start, or at once when one fails; attempts that lose are dropped.
pub(crate) async fn first_to_connect<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut waiting = interleave(&addresses).into_iter();
    let mut running: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut failures = Failures::new();
    while let Some(address) = waiting.next() {
        running.push((address, Box::pin(connect(address))));
        // The last one has all the time.
        let mut head_start = (waiting.len() > 0).then(|| sleep(HEAD_START));
        let won = wait_for_one(&mut running, &mut failures, &mut head_start).await;
        if let Some(connection) = won {
            return Ok(connection);
        }
    }
    while !running.is_empty() {
        let won = wait_for_one(&mut running, &mut failures, &mut None).await;
        if let Some(connection) = won {
            return Ok(connection);
        }
    }
    Err(all_failed(failures))
}

/// Waits until an attempt is over or the head start is. Returns the connection if there
/// is one.
async fn wait_for_one<T, F>(
    running: &mut Vec<(SocketAddr, Pin<Box<F>>)>,
    failures: &mut Failures,
    head_start: &mut Option<Sleep>,
) -> Option<T>
where
    F: Future<Output = io::Result<T>>,
{
    poll_fn(|cx| {
        let mut failed = false;
        let mut index = 0;
        while let Some((address, attempt)) = running.get_mut(index) {
            match attempt.as_mut().poll(cx) {
                Poll::Ready(Ok(connection)) => return Poll::Ready(Some(connection)),
                Poll::Ready(Err(error)) => {
                    failures.push((*address, error));
                    let _attempt = running.remove(index);
                    failed = true;
                }
                Poll::Pending => index += 1,
            }
        }
        if failed {
            return Poll::Ready(None);
        }
        match head_start {
            Some(sleep) => Pin::new(sleep).poll(cx).map(|()| None),
            None => Poll::Pending,
        }
    })
    .await
}

/// The families in turns, beginning with that of the first address: if one of them
/// does not work here, every other attempt does.
fn interleave(addresses: &[SocketAddr]) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let family = |is_v6| addresses.iter().filter(move |a| a.is_ipv6() == is_v6);
    let (mut ours, mut others) = (family(first_is_v6), family(!first_is_v6));
    let mut mixed = Vec::with_capacity(addresses.len());
    while mixed.len() < addresses.len() {
        mixed.extend(ours.next());
        mixed.extend(others.next());
    }
    mixed
}

/// One error that lists every attempt; its kind is that of the last.
fn all_failed(failures: Failures) -> io::Error {
    let Some((_, last)) = failures.last() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no address was given");
    };
    let mut text = String::from("could not connect to ");
    for (at, (address, error)) in failures.iter().enumerate() {
        let before = if at > 0 { ", nor to " } else { "" };
        // To a `String`: it does not fail.
        let _ = write!(text, "{before}{address}: {error}");
    }
    io::Error::new(last.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let v4 = |n: u8| SocketAddr::from(([10, 0, 0, n], 1));
        let v6 = |n: u16| SocketAddr::from(([n, 0, 0, 0, 0, 0, 0, 1], 1));
        let mixed = interleave(&[v6(1), v6(2), v4(1), v6(3), v4(2)]);
        assert_eq!(mixed, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        let mixed = interleave(&[v4(1), v4(2), v6(1)]);
        assert_eq!(mixed, [v4(1), v6(1), v4(2)]);
    }
}
