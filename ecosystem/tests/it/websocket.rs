//! The example `websocket_chat`, with Python's `websockets` as the client.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::programs::{KillOnDrop, example, fail_without};
use crate::support::watchdog;

/// Starts a chat server and runs a script with its address in `URL`. Skips the test if Python or its
/// `websockets` is not installed.
#[track_caller]
fn with_chat(script: &'static str) {
    watchdog(move || {
        let probe = Command::new("python3")
            .args(["-c", "import websockets.asyncio.client"])
            .output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            fail_without("python3 with websockets");
            return;
        }
        let mut server = example("websocket_chat");
        server.arg("127.0.0.1:0").stderr(Stdio::null());
        let mut server = KillOnDrop(server.spawn().unwrap());
        let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines();
        let line = lines.next().unwrap().unwrap();
        let address = line.strip_prefix("listening on ").unwrap();

        let mut python = Command::new("python3")
            .arg("-")
            .env("URL", format!("ws://{address}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = python.stdin.take().unwrap();
        stdin
            .write_all(&[PRELUDE, script].concat().into_bytes())
            .unwrap();
        drop(stdin);
        let output = python.wait_with_output().unwrap();
        assert!(
            output.status.success() && output.stdout == b"passed\n",
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        assert!(server.0.try_wait().unwrap().is_none(), "the server is gone");
    });
}

const PRELUDE: &str = r#"
import asyncio, os, socket
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

URL = os.environ["URL"]

async def enter(room, name, **options):
    """Joins the room and receives its own message about that."""
    client = await connect(f"{URL}/{room}?name={name}", **options)
    assert await client.recv() == f"* {name} joined"
    return client

def run(test):
    asyncio.run(test())
    print("passed")
"#;

#[test]
fn messages_go_to_the_members_of_the_room_only() {
    with_chat(
        r#"
async def test():
    ann = await enter("kitchen", "ann")
    bob = await enter("kitchen", "bob")
    eve = await enter("cellar", "eve")
    assert await ann.recv() == "* bob joined"
    await ann.send("tea?")
    for client in ann, bob:
        assert await client.recv() == "ann: tea?"
    await bob.send("grüße ☕")
    for client in ann, bob:
        assert await client.recv() == "bob: grüße ☕"
    await (await bob.ping())
    await bob.close()
    assert bob.close_code == 1000, bob.close_code
    assert await ann.recv() == "* bob left"

    # The first message that eve receives is her own.
    await eve.send("nobody?")
    assert await eve.recv() == "eve: nobody?"

    # A client without a name is a guest. It also leaves without a close frame.
    guest = await connect(f"{URL}/kitchen")
    assert await guest.recv() == "* guest 4 joined"
    assert await ann.recv() == "* guest 4 joined"
    guest.transport.abort()
    assert await ann.recv() == "* guest 4 left"
run(test)
"#,
    );
}

#[test]
fn all_members_receive_all_messages_in_the_same_order() {
    with_chat(
        r#"
CLIENTS, LINES = 8, 250

async def test():
    clients = [await enter("hall", str(n)) for n in range(CLIENTS)]

    async def talk(client):
        for n in range(LINES):
            await client.send(f"line {n}")

    async def hear(client):
        heard = []
        while len(heard) < CLIENTS * LINES:
            line = await client.recv()
            if not line.startswith("*"):
                heard.append(line)
        return heard

    hearing = [asyncio.create_task(hear(client)) for client in clients]
    await asyncio.gather(*(talk(client) for client in clients))
    first, *others = [await task for task in hearing]
    assert all(heard == first for heard in others)
    for n in range(CLIENTS):
        lines = [line for line in first if line.startswith(f"{n}: ")]
        assert lines == [f"{n}: line {m}" for m in range(LINES)]
run(test)
"#,
    );
}

#[test]
fn a_slow_reader_is_disconnected_and_the_room_continues() {
    with_chat(
        r#"
async def slow_client():
    # Small buffers. Nothing is read after the first message.
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    host, port = URL[len("ws://"):].split(":")
    sock.connect((host, int(port)))
    return await enter("hall", "slow", sock=sock, max_queue=1, compression=None)

async def test():
    ann = await enter("hall", "ann")
    bob = await enter("hall", "bob")
    slow = await slow_client()
    for who in "bob", "slow":
        assert await ann.recv() == f"* {who} joined"
    assert await bob.recv() == "* slow joined"

    notified = set()

    async def hear(client):
        heard = await client.recv()
        if heard == "* slow was too slow":
            notified.add(client)
            heard = await client.recv()
        return heard

    # ann waits until she and bob have received each message, so only the slow client falls behind.
    line, said = "x" * 15_000, 0
    while notified != {ann, bob}:
        await ann.send(line)
        said += 1
        for client in ann, bob:
            assert await hear(client) == f"ann: {line}"
        assert said < 10_000

    # The others continue without it.
    for n in range(100):
        await ann.send(f"line {n}")
        for client in ann, bob:
            assert await client.recv() == f"ann: line {n}"

    # It has missed the last messages, and its connection is closed.
    heard = 0
    try:
        while True:
            assert await slow.recv() == f"ann: {line}"
            heard += 1
    except ConnectionClosed:
        pass
    assert 0 < heard < said, (heard, said)
    again = await enter("hall", "slow")
    assert await ann.recv() == "* slow joined"
    await again.send("sorry")
    for client in ann, again:
        assert await client.recv() == "slow: sorry"
run(test)
"#,
    );
}

#[test]
fn invalid_clients_are_refused_without_harm_to_others() {
    with_chat(
        r#"
async def test():
    ann = await enter("hall", "ann")

    bob = await enter("hall", "bob")
    await bob.send(b"\x00\x01")
    try:
        while True:
            await bob.recv()
    except ConnectionClosed as closed:
        assert closed.rcvd.code == 1003, closed
    assert [await ann.recv(), await ann.recv()] == ["* bob joined", "* bob left"]

    eve = await enter("hall", "eve")
    try:
        await eve.send("x" * 1_000_000)
        while True:
            await eve.recv()
    except ConnectionClosed:
        pass
    assert [await ann.recv(), await ann.recv()] == ["* eve joined", "* eve left"]

    # Not a WebSocket.
    host, port = URL[len("ws://"):].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    await reader.read()
    writer.close()

    await ann.send("quiet again")
    assert await ann.recv() == "ann: quiet again"
run(test)
"#,
    );
}
