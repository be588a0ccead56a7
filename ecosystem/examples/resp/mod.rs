//! A client for Redis: its protocol, RESP, over one TCP connection. The examples share it.

use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::TcpStream;
use std::future::Future;
use std::io;
use std::pin::Pin;

/// No line of the protocol is longer: text goes as bytes with their length before them.
const MAX_LINE: u64 = 64 * 1024;
/// What Redis allows for a string.
const MAX_BYTES: usize = 512 * 1024 * 1024;
const MAX_DEPTH: usize = 8;

/// What the server answers.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Value {
    Nothing,
    /// As the `OK` of SET.
    Status(String),
    Number(i64),
    Bytes(Vec<u8>),
    List(Vec<Value>),
    /// What it answers to a command that it cannot do.
    Error(String),
}

pub(crate) struct Redis {
    stream: BufReader<TcpStream>,
    /// Set while replies are due: after a call that was dropped before they were here,
    /// the next one would take them for its own.
    replies_are_due: bool,
}

impl Redis {
    pub(crate) async fn connect(address: &str) -> io::Result<Redis> {
        let stream = TcpStream::connect(address).await?;
        // Commands are small, and each is waited for.
        stream.set_nodelay(true)?;
        Ok(Redis {
            stream: BufReader::new(stream),
            replies_are_due: false,
        })
    }

    /// Sends a command and waits for its reply. What the server cannot do is an error.
    pub(crate) async fn call(&mut self, command: &[&[u8]]) -> io::Result<Value> {
        match self.pipeline(&[command]).await?.pop() {
            Some(Value::Error(error)) => Err(broken(&error)),
            Some(value) => Ok(value),
            None => unreachable!("there is a reply to each command"),
        }
    }

    /// Sends all commands at once, and then waits for their replies: one round trip.
    ///
    /// # Cancel safety
    ///
    /// After one that was dropped on its way the connection is of no use any more.
    pub(crate) async fn pipeline(&mut self, commands: &[&[&[u8]]]) -> io::Result<Vec<Value>> {
        if self.replies_are_due {
            return Err(broken("an earlier call was dropped before its reply came"));
        }
        self.replies_are_due = true;
        let mut request = Vec::new();
        for command in commands {
            request.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
            for word in *command {
                request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                request.extend_from_slice(word);
                request.extend_from_slice(b"\r\n");
            }
        }
        // A server that has no room for more replies reads no more commands: the replies
        // must be read while the commands are on their way.
        let mut writing = self.stream.get_ref().clone();
        let write = async { writing.write_all(&request).await };
        let read = async {
            let mut replies = Vec::with_capacity(commands.len());
            for _ in commands {
                replies.push(read_value(&mut self.stream, 0).await?);
            }
            Ok(replies)
        };
        let (_, replies) = futures_lite::future::try_zip(write, read).await?;
        self.replies_are_due = false;
        Ok(replies)
    }
}

type Reading<'a> = Pin<Box<dyn Future<Output = io::Result<Value>> + Send + 'a>>;

/// In a box, because lists are in lists.
fn read_value(stream: &mut BufReader<TcpStream>, depth: usize) -> Reading<'_> {
    Box::pin(async move {
        let mut line = Vec::new();
        stream.take(MAX_LINE).read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\r\n") else {
            return Err(match line.len() {
                0 => io::ErrorKind::UnexpectedEof.into(),
                _ => broken("a line of the reply has no end"),
            });
        };
        let text = String::from_utf8_lossy(line);
        let Some((kind, text)) = text.split_at_checked(1) else {
            return Err(broken("an empty line for a reply"));
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
                    return Err(broken("a string that is longer than Redis allows"));
                }
                // Room for what comes, not for what is announced.
                let mut bytes = Vec::new();
                let whole = length as u64 + 2;
                stream.take(whole).read_to_end(&mut bytes).await?;
                if bytes.len() as u64 != whole {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                bytes.truncate(length);
                Ok(Value::Bytes(bytes))
            }
            "*" if depth == MAX_DEPTH => Err(broken("too many lists within lists")),
            "*" => {
                let mut values = Vec::new();
                for _ in 0..number()? {
                    values.push(read_value(stream, depth + 1).await?);
                }
                Ok(Value::List(values))
            }
            _ => Err(broken(&format!("a reply that begins with {kind:?}"))),
        }
    })
}

fn broken(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("redis: {why}"))
}
