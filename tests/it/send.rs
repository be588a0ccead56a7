//! What may cross threads, and what may not: checked when this file is compiled.

use std::future::Ready;
use std::net::UdpSocket;
use std::rc::Rc;

use soloist::io::{Async, AsyncRead, AsyncWrite};
use soloist::net::{
    self, Incoming, OwnedReadHalf, OwnedWriteHalf, ReuniteError, TcpListener, TcpStream,
};
use soloist::runtime::{Builder, RemoteTask, Turn};
use soloist::task::{self, AbortHandle, JoinError, Task, TaskId};
use soloist::time::{Elapsed, Interval, MissedTickBehavior, Sleep, Timeout};
use soloist::{Handle, Runtime};

/// Types that implement a trait.
macro_rules! assert_is {
    ($trait:path: $($type:ty),* $(,)?) => {
        const _: () = {
            const fn check<T: ?Sized + $trait>() {}
            $(check::<$type>();)*
        };
    };
}

/// Types that do not: for one that did, it would be ambiguous which `HOLDS` is meant.
macro_rules! assert_is_not {
    ($trait:path: $($type:ty),* $(,)?) => {
        const _: () = {
            struct Does;
            trait Ambiguous<A> {
                const HOLDS: bool = true;
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $trait> Ambiguous<Does> for T {}
            $(let _ = <$type as Ambiguous<_>>::HOLDS;)*
        };
    };
}

assert_is!(Send: TcpStream, TcpListener, Incoming<'_>, Async<UdpSocket>);
assert_is!(Sync: TcpStream, TcpListener, Incoming<'_>, Async<UdpSocket>);
assert_is!(Send: Sleep, Timeout<Ready<u8>>, Interval, Elapsed, MissedTickBehavior);
assert_is!(Sync: Sleep, Timeout<Ready<u8>>, Interval, Elapsed, MissedTickBehavior);
assert_is!(Send: Handle, AbortHandle, RemoteTask<String>, JoinError, TaskId, Turn);
assert_is!(Sync: Handle, AbortHandle, RemoteTask<String>, JoinError, TaskId, Turn);
assert_is!(Send: Builder, task::Builder);
assert_is!(Sync: Builder, task::Builder);

// These stay on their thread, for every type parameter.
assert_is_not!(Send: Runtime, Task<()>, Task<String>);
assert_is_not!(Sync: Runtime, Task<()>, Task<String>);
// As Send as what is in them, and no more.
assert_is_not!(Send: Async<Rc<UdpSocket>>, Timeout<Ready<Rc<()>>>, RemoteTask<Rc<()>>);
assert_is_not!(Sync: Async<Rc<UdpSocket>>, RemoteTask<Rc<()>>);

assert_is!(Unpin: Task<()>, RemoteTask<()>, Sleep, Interval, TcpStream, TcpListener);
assert_is!(Clone: Handle, AbortHandle, TcpStream, TcpListener);
assert_is_not!(Clone: Runtime, Task<()>, RemoteTask<()>, Sleep);

// Sockets of the other kinds, and halves of streams.
assert_is!(Send: net::UdpSocket, OwnedReadHalf, OwnedWriteHalf, ReuniteError);
assert_is!(Sync: net::UdpSocket, OwnedReadHalf, OwnedWriteHalf, ReuniteError);
assert_is!(Clone: net::UdpSocket);
assert_is!(Unpin: net::UdpSocket, OwnedReadHalf, OwnedWriteHalf);
assert_is!(std::error::Error: ReuniteError);
assert_is!(AsyncRead: TcpStream, &TcpStream, &Async<std::net::TcpStream>, OwnedReadHalf);
assert_is!(AsyncWrite: TcpStream, &TcpStream, &Async<std::net::TcpStream>, OwnedWriteHalf);

#[cfg(unix)]
mod unix {
    use soloist::net::unix::{Incoming, UnixDatagram, UnixListener, UnixStream};

    use super::*;

    assert_is!(Send: UnixStream, UnixListener, UnixDatagram, Incoming<'_>);
    assert_is!(Sync: UnixStream, UnixListener, UnixDatagram, Incoming<'_>);
    assert_is!(Send: OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>);
    assert_is!(Sync: OwnedReadHalf<UnixStream>, OwnedWriteHalf<UnixStream>);
    assert_is!(Unpin: UnixStream, UnixListener, UnixDatagram, Incoming<'_>);
    assert_is!(Clone: UnixStream);
    assert_is!(AsyncRead: UnixStream, &UnixStream);
    assert_is!(AsyncWrite: UnixStream, &UnixStream);

    #[expect(dead_code, reason = "it is there to be compiled")]
    fn futures_are_send(listener: &UnixListener, datagrams: &UnixDatagram) {
        is_send(UnixStream::connect("path"));
        is_send(listener.accept());
        is_send(datagrams.send(b"x"));
        is_send(datagrams.send_to(b"x", "path"));
        is_send(datagrams.recv_from(&mut [0]));
    }
}

#[cfg(feature = "testing")]
mod worlds {
    use soloist::testing::{Host, Link, LinkHandle, World};

    assert_is!(Send: World, Host, Link, LinkHandle);
    assert_is!(Sync: World, Host, Link, LinkHandle);
    assert_is!(Clone: World, Host, Link, LinkHandle);
    assert_is!(std::fmt::Debug: World, Host, Link, LinkHandle);
}

fn is_send<T: Send>(_: T) {}

/// Futures that have no name: never called, only compiled.
#[expect(dead_code, reason = "it is there to be compiled")]
fn futures_of_sockets_and_timers_are_send(
    stream: &TcpStream,
    listener: &TcpListener,
    socket: &Async<UdpSocket>,
    datagrams: &net::UdpSocket,
    interval: &mut Interval,
) {
    is_send(net::UdpSocket::bind("localhost:1"));
    is_send(datagrams.connect("localhost:1"));
    is_send(datagrams.send(b"x"));
    is_send(datagrams.send_to(b"x", "localhost:1"));
    is_send(datagrams.recv_from(&mut [0]));
    is_send(datagrams.peek_from(&mut [0]));
    is_send(TcpStream::connect("localhost:1"));
    is_send(TcpStream::connect(("localhost", 1)));
    is_send(TcpListener::bind("localhost:1"));
    is_send(stream.peek(&mut []));
    is_send(listener.accept());
    is_send(socket.readable());
    is_send(socket.writable());
    is_send(socket.read_with(|socket| socket.recv(&mut [0])));
    is_send(socket.write_with(|socket| socket.send(&[0])));
    is_send(interval.tick());
    is_send(task::yield_now());
    is_send(async {
        let mut stream = TcpStream::connect("localhost:1").await?;
        soloist::time::sleep(std::time::Duration::ZERO).await;
        soloist::io::AsyncReadExt::read(&mut stream, &mut [0]).await?;
        soloist::io::AsyncWriteExt::write_all(&mut stream, &[0]).await
    });
}
