//! A chat over WebSockets: whoever is in a room gets what anybody says in it.
//!
//! cargo run --release -p soloist-ecosystem --example websocket_chat
//! python3 -m websockets 'ws://127.0.0.1:8890/kitchen?name=ann'
//! python3 -m websockets 'ws://127.0.0.1:8890/kitchen?name=bob'
//!
//! A room does not wait for its slowest member: each has an outbox of a fixed size, and whose
//! outbox is full is shown out, with close code 1013 ("try again later") if it still reads that.
//! To leave out what it has no room for would be the other way, but then a client does not know
//! what it has missed; one that is shown out knows, and comes back.

use async_channel::{Receiver, Sender};
use async_tungstenite::tungstenite::handshake::server::{Request, Response};
use async_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use async_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use async_tungstenite::tungstenite::{Error, Message, Utf8Bytes};
use async_tungstenite::{WebSocketReceiver, WebSocketSender, accept_hdr_async_with_config};
use futures_lite::{FutureExt, StreamExt};
use soloist::net::{TcpListener, TcpStream};
use soloist::promise::{Promise, promise};
use soloist::task::yield_now;
use soloist::time::timeout;
use soloist::{block_on, spawn};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;

const USAGE: &str = "\
usage: websocket_chat [ADDRESS]

Listens on ADDRESS (127.0.0.1:8890; with port 0 the system picks one), and says so in its first line.
A client asks for ws://ADDRESS/ROOM?name=NAME, sends lines of text, and gets those of its room, its
own too, all in the same order. Lines that begin with * are the server's.";

/// What a member may be behind before it is shown out.
const OUTBOX: usize = 256;
const MAX_MESSAGE: usize = 16 * 1024;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Clients answer pings by themselves: one that is silent for longer than a few is gone.
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE: Duration = Duration::from_secs(70);
/// For the last words to one who leaves.
const FAREWELL: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let address = match (args.next(), args.next()) {
        (Some(arg), _) if arg == "-h" || arg == "--help" => {
            say(USAGE);
            return ExitCode::SUCCESS;
        }
        (Some(arg), None) if !arg.starts_with('-') => arg,
        (None, _) => "127.0.0.1:8890".into(),
        _ => {
            eprintln!("websocket_chat: one address, please\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
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
    let house = Rc::new(House::default());
    let mut incoming = listener.incoming();
    while let Some(connection) = incoming.next().await {
        match connection {
            Ok(stream) => {
                let house = house.clone();
                spawn(async move {
                    let from = stream.peer_addr();
                    let from = from.map_or("somebody".into(), |from| from.to_string());
                    if let Err(error) = chat(stream, &house).await {
                        eprintln!("websocket_chat: {from} was lost: {error}");
                    }
                })
                .detach();
            }
            Err(error) => eprintln!("websocket_chat: cannot accept: {error}"),
        }
    }
    Ok(())
}

/// All rooms. A room is there as long as somebody is in it.
#[derive(Default)]
struct House {
    rooms: RefCell<HashMap<String, BTreeMap<u64, Member>>>,
    guests: Cell<u64>,
}

struct Member {
    name: String,
    outbox: Sender<Utf8Bytes>,
    /// Set, it shows the member out.
    show_out: Promise<()>,
}

impl House {
    /// Gives a message to all in a room, at once and in the order of the calls. Who has no
    /// room for it is in the room no more.
    fn tell(&self, room: &str, message: &str) {
        let message = Utf8Bytes::from(message);
        let mut too_slow = Vec::new();
        if let Some(members) = self.rooms.borrow_mut().get_mut(room) {
            too_slow = extract(members, |member| {
                member.outbox.try_send(message.clone()).is_err()
            });
        }
        for member in too_slow {
            // It may be about to leave by itself.
            let _ = member.show_out.set(());
            self.tell(room, &format!("* {} was too slow", member.name));
        }
    }

    fn enter<'a>(&'a self, room: &'a str, id: u64, member: Member) -> Stay<'a> {
        let name = member.name.clone();
        let mut rooms = self.rooms.borrow_mut();
        rooms.entry(room.into()).or_default().insert(id, member);
        drop(rooms);
        self.tell(room, &format!("* {name} came"));
        let house = self;
        Stay { house, room, id }
    }

    fn leave(&self, room: &str, id: u64) {
        let mut rooms = self.rooms.borrow_mut();
        let Some(members) = rooms.get_mut(room) else {
            return;
        };
        let member = members.remove(&id);
        if members.is_empty() {
            rooms.remove(room);
        }
        drop(rooms);
        if let Some(member) = member {
            self.tell(room, &format!("* {} went", member.name));
        }
    }
}

/// `BTreeMap::extract_if` is newer than what this crate asks for.
fn extract<V>(map: &mut BTreeMap<u64, V>, what: impl Fn(&V) -> bool) -> Vec<V> {
    let chosen: Vec<u64> = map
        .iter()
        .filter_map(|(id, value)| what(value).then_some(*id))
        .collect();
    chosen.iter().filter_map(|id| map.remove(id)).collect()
}

/// Leaves the room also when the connection's task is dropped.
struct Stay<'a> {
    house: &'a House,
    room: &'a str,
    id: u64,
}

impl Drop for Stay<'_> {
    fn drop(&mut self) {
        self.house.leave(self.room, self.id);
    }
}

/// One client, from its handshake to its end.
async fn chat(stream: TcpStream, house: &House) -> Result<(), Error> {
    stream.set_nodelay(true)?;
    let id = house.guests.get() + 1;
    house.guests.set(id);
    let (mut room, mut name) = (String::new(), format!("guest {id}"));
    // The signature is the crate's.
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
    let socket = timeout(HANDSHAKE, handshake)
        .await
        .map_err(io::Error::from)??;
    let (mut sending, receiving) = socket.split();

    let (outbox, to_send) = async_channel::bounded(OUTBOX);
    let (show_out, shown_out) = promise();
    let member = Member {
        name: name.clone(),
        outbox,
        show_out,
    };
    let stay = house.enter(&room, id, member);

    let farewell = listen(receiving, house, &room, &name)
        .or(write(&mut sending, to_send))
        .or(async {
            // Also if the promise is gone: the member is out of the room either way.
            let _ = shown_out.await;
            Ok(Some(CloseFrame {
                code: CloseCode::Again,
                reason: "too slow".into(),
            }))
        })
        .await?;
    drop(stay);
    // If it does not read, it does not read this.
    if let Ok(result) = timeout(FAREWELL, sending.close(farewell)).await {
        match result {
            Err(Error::ConnectionClosed | Error::AlreadyClosed) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Tells the room what the client says, until it leaves.
async fn listen(
    mut receiving: WebSocketReceiver<TcpStream>,
    house: &House,
    room: &str,
    name: &str,
) -> Result<Option<CloseFrame>, Error> {
    loop {
        let message = timeout(SILENCE, receiving.next())
            .await
            .map_err(io::Error::from)?;
        match message.transpose()? {
            Some(Message::Text(text)) => {
                house.tell(room, &format!("{name}: {text}"));
                // Many messages come in one read: the outboxes must empty in between.
                yield_now().await;
            }
            Some(Message::Binary(_)) => {
                return Ok(Some(CloseFrame {
                    code: CloseCode::Unsupported,
                    reason: "only text".into(),
                }));
            }
            // The crate answers pings and closes.
            Some(_) => {}
            None => return Ok(None),
        }
    }
}

/// Sends what is in the outbox, and pings when there is nothing.
async fn write(
    sending: &mut WebSocketSender<TcpStream>,
    outbox: Receiver<Utf8Bytes>,
) -> Result<Option<CloseFrame>, Error> {
    loop {
        match timeout(PING_EVERY, outbox.recv()).await {
            Ok(Ok(text)) => sending.send(Message::Text(text)).await?,
            // Shown out: whoever waits for that goes on.
            Ok(Err(_)) => std::future::pending().await,
            Err(_) => sending.send(Message::Ping(Vec::new().into())).await?,
        }
    }
}

/// A server goes on when nobody reads its lines any more.
fn say(line: &str) {
    let mut out = io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
