//! A chat server on tokio: as ../../soloist/src/main.rs.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio::task::JoinSet;
use tokio::time::timeout;

#[derive(Default)]
struct Room(Mutex<Vec<Sender<Arc<str>>>>);

impl Room {
    fn say(&self, text: String) {
        let text: Arc<str> = text.into();
        let mut members = self.0.lock().unwrap();
        members.retain(|member| member.try_send(text.clone()).is_ok());
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:6667".into());
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let (room, mut members) = (Arc::new(Room::default()), JoinSet::new());
    let stop = tokio::signal::ctrl_c();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            stopped = &mut stop => break stopped?,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(members.spawn(serve(stream, room.clone()))),
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = members.join_next() => {}
        }
    }
    room.say("* the server stops\n".into());
    room.0.lock().unwrap().clear();
    let idle = async { while members.join_next().await.is_some() {} };
    let _ = timeout(Duration::from_secs(1), idle).await;
    Ok(())
}

async fn serve(stream: TcpStream, room: Arc<Room>) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let _ = writer.write_all(b"Your name?\n").await;
    let name = timeout(Duration::from_secs(60), read_line(&mut reader)).await;
    let Ok(Ok(Some(name))) = name else { return };
    let (sender, mut messages) = channel::<Arc<str>>(256);
    room.0.lock().unwrap().push(sender);
    room.say(format!("* {name} joins\n"));
    let read = async {
        while let Ok(Some(line)) = read_line(&mut reader).await {
            room.say(format!("{name}: {line}\n"));
        }
    };
    let write = async {
        while let Some(message) = messages.recv().await {
            let sent = timeout(Duration::from_secs(5), writer.write_all(message.as_bytes()));
            if !matches!(sent.await, Ok(Ok(()))) {
                break;
            }
        }
    };
    tokio::select! { () = read => {}, () = write => {} }
    drop(messages);
    room.say(format!("* {name} leaves\n"));
}

/// At most 1,000 bytes; the rest is the next line.
async fn read_line(mut reader: impl AsyncBufReadExt + Unpin) -> io::Result<Option<String>> {
    let mut line = String::new();
    let length = (&mut reader).take(1000).read_line(&mut line).await?;
    Ok((length > 0).then(|| line.trim_end().into()))
}
