//! A chat over WebSockets: a client receives all messages that are sent to its room.
//!
//! cargo run --release -p soloist-ecosystem --example websocket_chat
//! python3 -m websockets 'ws://127.0.0.1:8890/kitchen?name=ann'
//! python3 -m websockets 'ws://127.0.0.1:8890/kitchen?name=bob'
//!
//! A room does not wait for slow clients. Each client has an outbox of a fixed size. If its outbox is
//! full, it is disconnected with close code 1013 ("try again later"). Dropping messages instead would
//! leave the client unaware of what it has missed; after a disconnect it knows, and can reconnect.

#[path = "../../examples/cli/mod.rs"]
mod cli;

use async_channel::{Receiver, Sender};
use async_tungstenite::tungstenite::handshake::server::{Request, Response};
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, accept_hdr_async_with_config};
use cli::say;
use futures_lite::{FutureExt, StreamExt};
use lexopt::ValueExt;
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::{Promise, promise};
use soloist::task::yield_now;
use soloist::time::timeout;
use soloist::{block_on, spawn};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const USAGE: &str = "\
usage: websocket_chat [ADDRESS]

Listens on ADDRESS (127.0.0.1:8890; with port 0 the system picks one) and prints the address. A client
connects to ws://ADDRESS/ROOM?name=NAME and sends lines of text. It receives the lines of its room,
including its own, in the same order as all other clients. Lines that start with * are the server's.";

/// The number of messages in an outbox. A client that falls behind further is disconnected.
const OUTBOX: usize = 256;
const MAX_MESSAGE: usize = 16 * 1024;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Clients answer pings automatically.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// A client that has not answered several pings is disconnected.
const IDLE_TIMEOUT: Duration = Duration::from_secs(70);
/// How long sending the close frame may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut address = None;
    cli::parse(USAGE, |args| {
        while let Some(arg) = args.next()? {
            match arg {
                lexopt::Arg::Value(value) if address.is_none() => address = Some(value.string()?),
                _ => return Err(cli::unknown(arg, USAGE)),
            }
        }
        Ok(())
    });
    let address = address.unwrap_or("127.0.0.1:8890".into());
    match block_on(serve(&address)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("websocket_chat: cannot listen on {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(address: &str) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    say(&format!("listening on {}", listener.local_addr()?));
    let rooms = Rc::new(Rooms::default());
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => {
                let rooms = rooms.clone();
                spawn(async move {
                    let peer = stream.peer_addr();
                    let peer = peer.map_or("unknown".into(), |peer| peer.to_string());
                    if let Err(error) = chat(stream, &rooms).await {
                        eprintln!("websocket_chat: {peer} failed: {error}");
                    }
                })
                .detach();
            }
            Err(error) => eprintln!("websocket_chat: cannot accept: {error}"),
        }
    }
    Ok(())
}

/// All rooms. A room exists while it has members.
#[derive(Default)]
struct Rooms {
    members: RefCell<HashMap<String, BTreeMap<u64, Member>>>,
    /// The number of clients so far.
    clients: Cell<u64>,
}

struct Member {
    name: String,
    outbox: Sender<Utf8Bytes>,
    /// Disconnects the member when it is set.
    disconnect: Promise<()>,
}

impl Rooms {
    /// Sends a message to all members of a room, without waiting, in the order of the calls. Removes
    /// members whose outbox is full.
    fn send(&self, room: &str, message: &str) {
        let message = Utf8Bytes::from(message);
        let mut too_slow = Vec::new();
        if let Some(members) = self.members.borrow_mut().get_mut(room) {
            too_slow = extract(members, |member| {
                member.outbox.try_send(message.clone()).is_err()
            });
        }
        for member in too_slow {
            // The error, that the connection is closed already, does not matter.
            let _ = member.disconnect.set(());
            self.send(room, &format!("* {} was too slow", member.name));
        }
    }

    fn enter<'a>(&'a self, room: &'a str, id: u64, member: Member) -> Membership<'a> {
        let name = member.name.clone();
        let mut rooms = self.members.borrow_mut();
        rooms.entry(room.into()).or_default().insert(id, member);
        drop(rooms);
        self.send(room, &format!("* {name} joined"));
        Membership {
            rooms: self,
            room,
            id,
        }
    }

    fn leave(&self, room: &str, id: u64) {
        let mut rooms = self.members.borrow_mut();
        let Some(members) = rooms.get_mut(room) else {
            return;
        };
        let member = members.remove(&id);
        if members.is_empty() {
            rooms.remove(room);
        }
        drop(rooms);
        if let Some(member) = member {
            self.send(room, &format!("* {} left", member.name));
        }
    }
}

/// `BTreeMap::extract_if` needs a later Rust version than this crate.
fn extract<V>(map: &mut BTreeMap<u64, V>, what: impl Fn(&V) -> bool) -> Vec<V> {
    let chosen: Vec<u64> = map
        .iter()
        .filter_map(|(id, value)| what(value).then_some(*id))
        .collect();
    chosen.iter().filter_map(|id| map.remove(id)).collect()
}

/// Leaves the room when it is dropped, also if the task of the connection is cancelled.
struct Membership<'a> {
    rooms: &'a Rooms,
    room: &'a str,
    id: u64,
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.rooms.leave(self.room, self.id);
    }
}

/// Serves one client, from its handshake until it disconnects.
async fn chat(stream: TcpStream, rooms: &Rooms) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let id = rooms.clients.get() + 1;
    rooms.clients.set(id);
    let (mut room, mut name) = (String::new(), format!("guest {id}"));
    // The crate prescribes this signature.
    #[expect(clippy::result_large_err)]
    let read_request = |request: &Request, response: Response| {
        room = request.uri().path().to_string();
        let query = request.uri().query().unwrap_or("");
        let given = query.split('&').find_map(|part| part.strip_prefix("name="));
        if let Some(given) = given.filter(|given| !given.is_empty()) {
            name = given.to_string();
        }
        Ok(response)
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    let handshake = accept_hdr_async_with_config(stream, read_request, Some(config));
    let socket = timeout(HANDSHAKE_TIMEOUT, handshake)
        .await
        .map_err(io::Error::from)??;
    let (mut sending, receiving) = socket.split();

    let (outbox, to_send) = async_channel::bounded(OUTBOX);
    let (disconnect, disconnected) = promise();
    let member = Member {
        name: name.clone(),
        outbox,
        disconnect,
    };
    let membership = rooms.enter(&room, id, member);

    let close = listen(receiving, rooms, &room, &name)
        .or(write(&mut sending, to_send))
        .or(async {
            // An error means that the promise was dropped: the member has been removed as well.
            let _ = disconnected.await;
            Ok(Some(CloseFrame {
                code: CloseCode::Again,
                reason: "too slow".into(),
            }))
        })
        .await?;
    drop(membership);
    // A client that does not read does not read this either.
    if let Ok(result) = timeout(CLOSE_TIMEOUT, sending.close(close)).await {
        match result {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Sends the messages of the client to the room until it disconnects.
async fn listen(
    mut receiving: WebSocketReceiver<TcpStream>,
    rooms: &Rooms,
    room: &str,
    name: &str,
) -> Result<Option<CloseFrame>, Error> {
    loop {
        let message = timeout(IDLE_TIMEOUT, receiving.next())
            .await
            .map_err(io::Error::from)?;
        match message.transpose()? {
            Some(Message::Text(text)) => {
                rooms.send(room, &format!("{name}: {text}"));
                // One read may return many messages. The tasks that send need to run in between.
                yield_now().await;
            }
            Some(Message::Binary(_)) => {
                return Ok(Some(CloseFrame {
                    code: CloseCode::Unsupported,
                    reason: "only text".into(),
                }));
            }
            // The crate answers pings and close frames.
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Sends the messages in the outbox, and a ping when there has been none for a while.
async fn write(
    sending: &mut WebSocketSender<TcpStream>,
    outbox: Receiver<Utf8Bytes>,
) -> Result<Option<CloseFrame>, Error> {
    loop {
        match timeout(PING_INTERVAL, outbox.recv()).await {
            Ok(Ok(text)) => sending.send(Message::Text(text)).await?,
            // The member was removed: the branch that waits for `disconnected` continues.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => sending.send(Message::Ping(Vec::new().into())).await?,
        }
    }
}
