//! Copies between two streams, in both directions.

use std::io;

use futures_lite::future::{poll_once, try_zip};

use super::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};

/// The size of the buffer for each direction.
const BUFFER: usize = 16 * 1024;

/// Copies from `a` to `b`, and from `b` to `a`, until both have ended. Returns the number of
/// bytes from `a` to `b`, and from `b` to `a`.
///
/// When one stream ends, the other is closed for writing after the last byte, as by
/// [`close`](super::AsyncWriteExt::close). The other direction continues, so a half-closed
/// connection remains one. A slow writer slows its reader down.
///
/// The streams can be passed by value or by `&mut`. Sockets of this crate can also be passed by
/// `&`.
///
/// # Errors
///
/// Returns the first error of either direction, and stops both.
///
/// # Cancel safety
///
/// Bytes that have been read and not yet written are lost: up to 16 KiB in each direction.
///
/// # Examples
///
/// A proxy:
///
/// ```no_run
/// use soloist::net::{TcpListener, TcpStream};
/// use soloist::{block_on, io, spawn, stream::StreamExt};
///
/// block_on(async {
///     let listener = TcpListener::bind("127.0.0.1:8080").await?;
///     let mut incoming = listener.incoming();
///     while let Some(client) = incoming.next().await {
///         let client = client?;
///         spawn(async move {
///             let server = TcpStream::connect("example.org:80").await?;
///             io::copy_bidirectional(&client, &server).await
///         })
///         .detach();
///     }
///     Ok::<(), std::io::Error>(())
/// })?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub async fn copy_bidirectional<A, B>(a: A, b: B) -> io::Result<(u64, u64)>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let (from_a, to_a) = split(a);
    let (from_b, to_b) = split(b);
    try_zip(copy_and_close(from_a, to_b), copy_and_close(from_b, to_a)).await
}

/// Copies until `from` ends, and then closes `to`.
async fn copy_and_close(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<u64> {
    let mut buffer = vec![0; BUFFER];
    let mut copied = 0;
    loop {
        let read = match poll_once(from.read(&mut buffer)).await {
            Some(read) => read?,
            None => {
                // The peer may wait for what was written before it sends more.
                if copied > 0 {
                    to.flush().await?;
                }
                from.read(&mut buffer).await?
            }
        };
        if read == 0 {
            to.close().await?;
            return Ok(copied);
        }
        to.write_all(&buffer[..read]).await?;
        copied += read as u64;
    }
}
