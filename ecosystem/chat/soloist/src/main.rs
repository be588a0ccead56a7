//! A chat server on soloist.
//!
//! cargo run --release -p chat-soloist -- 127.0.0.1:6667
//! nc 127.0.0.1 6667
//!
//! A member that reads too slowly is disconnected. Ctrl-C sends what is queued, and stops.

use async_channel::{Sender, bounded};
use soloist::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use soloist::net::{TcpListener, TcpStream};
use soloist::task::TaskTracker;
use soloist::time::{sleep, timeout};
use soloist::{block_on, future, signal};
use std::{cell::RefCell, io, rc::Rc, time::Duration};

#[derive(Default)]
struct Room(RefCell<Vec<Sender<Rc<str>>>>);

impl Room {
    fn say(&self, text: String) {
        let text: Rc<str> = text.into();
        let mut members = self.0.borrow_mut();
        members.retain(|member| member.try_send(text.clone()).is_ok());
    }
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6667".into());
    block_on(run(address, signal::ctrl_c()))
}

pub(crate) async fn run(
    address: String,
    stop: impl Future<Output = io::Result<()>>,
) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let (room, members) = (Rc::new(Room::default()), TaskTracker::new());
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => members.spawn(serve(stream, room.clone())),
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    };
    future::or(stop, accept).await?;
    room.say("* the server stops\n".into());
    room.0.borrow_mut().clear();
    let _ = timeout(Duration::from_secs(1), members.wait_idle()).await;
    Ok(())
}

async fn serve(stream: TcpStream, room: Rc<Room>) {
    let (mut reader, mut writer) = (BufReader::new(&stream), &stream);
    let _ = writer.write_all(b"Your name?\n").await;
    let name = timeout(Duration::from_secs(60), read_line(&mut reader)).await;
    let Ok(Ok(Some(name))) = name else { return };
    let (sender, messages) = bounded::<Rc<str>>(256);
    room.0.borrow_mut().push(sender);
    room.say(format!("* {name} joins\n"));
    let read = async {
        while let Ok(Some(line)) = read_line(&mut reader).await {
            room.say(format!("{name}: {line}\n"));
        }
    };
    let write = async {
        while let Ok(message) = messages.recv().await {
            let sent = timeout(Duration::from_secs(5), writer.write_all(message.as_bytes()));
            if !matches!(sent.await, Ok(Ok(()))) {
                break;
            }
        }
    };
    future::or(read, write).await;
    messages.close();
    room.say(format!("* {name} leaves\n"));
}

/// At most 1,000 bytes; the rest is the next line.
async fn read_line(mut reader: impl AsyncBufReadExt + Unpin) -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = (&mut reader).take(1000).read_line(&mut line).await?;
    Ok((length > 0).then(|| line.trim_end().into()))
}
