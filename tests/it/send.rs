//! What may cross threads, and what may not: checked when this file is compiled.

use std::future::Ready;
use std::net::UdpSocket;
use std::rc::Rc;

use soloist::io::Async;
use soloist::net::{Incoming, TcpListener, TcpStream};
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

/// Futures that have no name: never called, only compiled.
#[expect(dead_code, reason = "it is there to be compiled")]
fn futures_of_sockets_and_timers_are_send(
    stream: &TcpStream,
    listener: &TcpListener,
    socket: &Async<UdpSocket>,
    interval: &mut Interval,
) {
    fn is_send<T: Send>(_: T) {}
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
        soloist::io::AsyncReadExt::read(&mut stream, &mut [0]).await
    });
}
