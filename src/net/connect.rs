//! Happy Eyeballs (RFC 8305): attempts to connect to several addresses run concurrently, each
//! started a little later than the one before. The first to succeed is used.

use std::fmt::Write;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use crate::time::{Sleep, sleep};

/// How long an attempt runs before the next one starts.
const HEAD_START: Duration = Duration::from_millis(250);

/// The addresses that were tried without success.
type Failures = Vec<(SocketAddr, io::Error)>;

/// Connects to the address that answers first. The next attempt starts when the head start of the
/// last one is over, or at once when an attempt fails. The other attempts are dropped.
pub(crate) async fn first_to_connect<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut remaining = interleave(&addresses).into_iter();
    let mut running: Vec<(SocketAddr, Pin<Box<F>>)> = Vec::new();
    let mut failures = Failures::new();
    loop {
        match remaining.next() {
            Some(address) => running.push((address, Box::pin(connect(address)))),
            None if running.is_empty() => return Err(all_failed(failures)),
            None => {}
        }
        // Without a next attempt there is nothing to start when the time is over.
        let mut head_start = (remaining.len() > 0).then(|| sleep(HEAD_START));
        let first = poll_fn(|cx| poll_attempts(cx, &mut running, &mut failures, &mut head_start));
        if let Some(connection) = first.await {
            return Ok(connection);
        }
    }
}

/// Ready with the first connection, and with `None` when the next attempt may start: because one
/// has failed, or because the head start is over.
fn poll_attempts<T, F>(
    cx: &mut TaskContext<'_>,
    running: &mut Vec<(SocketAddr, Pin<Box<F>>)>,
    failures: &mut Failures,
    head_start: &mut Option<Sleep>,
) -> Poll<Option<T>>
where
    F: Future<Output = io::Result<T>>,
{
    let failed_before = failures.len();
    let mut index = 0;
    while let Some((address, attempt)) = running.get_mut(index) {
        match attempt.as_mut().poll(cx) {
            Poll::Ready(Ok(connection)) => return Poll::Ready(Some(connection)),
            Poll::Ready(Err(error)) => {
                failures.push((*address, error));
                drop(running.remove(index));
            }
            Poll::Pending => index += 1,
        }
    }
    match head_start {
        _ if failures.len() > failed_before => Poll::Ready(None),
        Some(sleep) => Pin::new(sleep).poll(cx).map(|()| None),
        None => Poll::Pending,
    }
}

/// Alternates between the families, beginning with that of the first address: if one of them
/// does not work here, every second attempt uses the other.
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

/// An error that lists every attempt. It has the kind of the last one.
fn all_failed(failures: Failures) -> io::Error {
    let Some((_, last)) = failures.last() else {
        return io::Error::new(io::ErrorKind::InvalidInput, "no address was given");
    };
    let mut text = String::from("could not connect");
    for (n, (address, error)) in failures.iter().enumerate() {
        let to = if n == 0 { " to" } else { ", nor to" };
        let _ = write!(text, "{to} {address}: {error}");
    }
    io::Error::new(last.kind(), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_alternate() {
        let v4 = |n: u8| SocketAddr::from(([10, 0, 0, n], 1));
        let v6 = |n: u16| SocketAddr::from(([n, 0, 0, 0, 0, 0, 0, 1], 1));
        let mixed = interleave(&[v6(1), v6(2), v4(1), v6(3), v4(2)]);
        assert_eq!(mixed, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        let mixed = interleave(&[v4(1), v4(2), v6(1)]);
        assert_eq!(mixed, [v4(1), v6(1), v4(2)]);
    }
}
