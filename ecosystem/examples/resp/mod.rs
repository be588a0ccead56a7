//! A client for Redis, which examples share: the protocol RESP on one TCP connection.

use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::TcpStream;
use std::future::Future;
use std::io;
use std::pin::Pin;

/// The longest line that is accepted. Strings are not sent as lines.
const MAX_LINE: u64 = 64 * 1024;
/// The longest string in Redis.
const MAX_BYTES: usize = 512 * 1024 * 1024;
const MAX_DEPTH: usize = 8;

/// A reply of the server.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Nothing,
    /// For example the `OK` of SET.
    Status(String),
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// The reply to a command that failed.
    Error(String),
}

pub(crate) struct Redis {
    stream: BufReader<TcpStream>,
    /// Whether replies are pending. If a call is dropped before its replies have arrived, the next call
    /// would read them as its own.
    is_pending: bool,
}

impl Redis {
    pub(crate) async fn connect(address: &str) -> io::Result<Redis> {
        let stream = TcpStream::connect(address).await?;
        // Commands are small, and each waits for its reply.
        stream.set_nodelay(true)?;
        Ok(Redis {
            stream: BufReader::new(stream),
            is_pending: false,
        })
    }

    /// Sends a command and waits for its reply. Returns an error if the command failed.
    pub(crate) async fn call(&mut self, command: &[&[u8]]) -> io::Result<Value> {
        match self.pipeline(&[command]).await?.pop() {
            Some(Value::Error(error)) => Err(broken(&error)),
            Some(value) => Ok(value),
            None => unreachable!("each command has a reply"),
        }
    }

    /// Sends all commands and waits for their replies, in one round trip.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped before it is ready, the connection can no longer be used.
    pub(crate) async fn pipeline(&mut self, commands: &[&[&[u8]]]) -> io::Result<Vec<Value>> {
        if self.is_pending {
            return Err(broken(
                "an earlier call was dropped before its reply arrived",
            ));
        }
        self.is_pending = true;
        let mut request = Vec::new();
        for command in commands {
            request.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in *command {
                request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                request.extend_from_slice(word);
                request.extend_from_slice(b"\r\n");
            }
        }
        // The server stops reading commands when the buffers for its replies are full, so the replies
        // are read while the commands are sent.
        let mut writing = self.stream.get_ref().clone();
        let write = async { writing.write_all(&request).await };
        let read = async {
            let mut replies = Vec::with_capacity(commands.len());
            for _ in commands {
                replies.push(read_value(&mut self.stream, 0).await?);
            }
            Ok(replies)
        };
        let (_, replies) = soloist::future::try_zip(write, read).await?;
        self.is_pending = false;
        Ok(replies)
    }
}

type Reading<'a> = Pin<Box<dyn Future<Output = io::Result<Value>> + Send + 'a>>;

/// Boxed, since lists can contain lists.
fn read_value(stream: &mut BufReader<TcpStream>, depth: usize) -> Reading<'_> {
    Box::pin(async move {
        let mut line = Vec::new();
        stream.take(MAX_LINE).read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(match line.len() {
                0 => io::ErrorKind::UnexpectedEof.into(),
                _ => broken("a line of the reply is too long or incomplete"),
            });
        };
        let text = String::from_utf8_lossy(line);
        let Some((kind, text)) = text.split_at_checked(1) else {
            return Err(broken("the reply is an empty line"));
        };
        let number = || {
            let number = text.parse::<i64>();
            number.map_err(|_| broken(&format!("{text:?} is not a number")))
        };
        match kind {
            "+" => Ok(Value::Status(text.into())),
            "-" => Ok(Value::Error(text.into())),
            ":" => Ok(Value::Number(number()?)),
            "$" | "*" if number()? == -1 => Ok(Value::Nothing),
            "$" => {
                let length = usize::try_from(number()?).unwrap_or(usize::MAX);
                if length > MAX_BYTES {
                    return Err(broken("a string is longer than Redis allows"));
                }
                // Allocates for the bytes that arrive, not for the length that is announced.
                let mut bytes = Vec::new();
                let whole = length as u64 + 2;
                stream.take(whole).read_to_end(&mut bytes).await?;
                if bytes.len() as u64 != whole {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                bytes.truncate(length);
                Ok(Value::Bytes(bytes))
            }
            "*" if depth == MAX_DEPTH => Err(broken("lists are nested too deeply")),
            "*" => {
                let mut values = Vec::new();
                for _ in 0..number()? {
                    values.push(read_value(stream, depth + 1).await?);
                }
                Ok(Value::List(values))
            }
            _ => Err(broken(&format!("unknown type of reply: {kind:?}"))),
        }
    })
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("redis: {why}"))
}
