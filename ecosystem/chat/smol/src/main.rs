//! A chat server on smol: as ../../soloist/src/main.rs.

use async_channel::{Sender, bounded};
use smol::future;
use smol::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use smol::net::{TcpListener, TcpStream};
use smol::{LocalExecutor, Timer};
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
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(run(&executor, address)))
}

async fn run(executor: &LocalExecutor<'static>, address: String) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let room = Rc::new(Room::default());
    let (stop, stopped) = bounded::<()>(1);
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])?;
    std::thread::spawn(move || signals.forever().next().map(|_| stop.try_send(())));
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => executor.spawn(serve(stream, room.clone())).detach(),
                Err(error) => {
                    eprintln!("cannot accept: {error}");
                    Timer::after(Duration::from_millis(100)).await;
                }
            }
        }
    };
    let stopped = async {
        let _ = stopped.recv().await;
    };
    future::or(stopped, accept).await;
    room.say("* the server stops\n".into());
    room.0.borrow_mut().clear();
    let idle = async {
        while !executor.is_empty() && Rc::strong_count(&room) > 1 {
            Timer::after(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(1), idle).await;
    Ok(())
}

async fn serve(mut writer: TcpStream, room: Rc<Room>) {
    let mut reader = BufReader::new(writer.clone());
    let _ = writer.write_all(b"Your name?\n").await;
    let name = timeout(Duration::from_secs(60), read_line(&mut reader)).await;
    let Some(Ok(Some(name))) = name else { return };
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
            if !matches!(sent.await, Some(Ok(()))) {
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

async fn timeout<T>(time: Duration, future: impl Future<Output = T>) -> Option<T> {
    let late = async {
        Timer::after(time).await;
        None
    };
    future::or(async { Some(future.await) }, late).await
}
