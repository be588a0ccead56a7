//! The chat, with clients that are not written here: Python's `websockets`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use crate::programs::{KillOnDrop, example, skip_without};
use crate::support::watchdog;

/// Runs a script with the address of a chat server of its own in `URL`. Where Python or
/// its `websockets` is missing there is only a note.
#[track_caller]
fn with_chat(script: &'static str) {
    watchdog(move || {
        let probe = Command::new("python3")
            .args(["-c", "import websockets.asyncio.client"])
            .output();
        if !probe.is_ok_and(|probe| probe.status.success()) {
            skip_without("python3 with websockets");
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
    """Comes in, and sees itself come."""
    client = await connect(f"{URL}/{room}?name={name}", **options)
    assert await client.recv() == f"* {name} came"
    return client

def run(test):
    asyncio.run(test())
    print("passed")
"#;

#[test]
fn a_room_hears_what_is_said_in_it_and_no_other() {
    with_chat(
        r#"
async def test():
    ann = await enter("kitchen", "ann")
    bob = await enter("kitchen", "bob")
    eve = await enter("cellar", "eve")
    assert await ann.recv() == "* bob came"
    await ann.send("tea?")
    for client in ann, bob:
        assert await client.recv() == "ann: tea?"
    await bob.send("grüße ☕")
    for client in ann, bob:
        assert await client.recv() == "bob: grüße ☕"
    await (await bob.ping())
    await bob.close()
    assert bob.close_code == 1000, bob.close_code
    assert await ann.recv() == "* bob went"

    # The first that eve hears is what she says.
    await eve.send("nobody?")
    assert await eve.recv() == "eve: nobody?"

    # Without a name one is a guest; without a close, gone all the same.
    guest = await connect(f"{URL}/kitchen")
    assert await guest.recv() == "* guest 4 came"
    assert await ann.recv() == "* guest 4 came"
    guest.transport.abort()
    assert await ann.recv() == "* guest 4 went"
run(test)
"#,
    );
}

#[test]
fn many_talk_at_once_and_all_hear_the_same_in_the_same_order() {
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
fn a_slow_reader_is_shown_out_and_the_room_goes_on() {
    with_chat(
        r#"
async def slow_client():
    # Small buffers, of which nothing is read after the first message.
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
        assert await ann.recv() == f"* {who} came"
    assert await bob.recv() == "* slow came"

    know = set()

    async def hear(client):
        heard = await client.recv()
        if heard == "* slow was too slow":
            know.add(client)
            heard = await client.recv()
        return heard

    # Ann talks in step with what she and Bob hear: nobody but the slow one falls behind.
    line, said = "x" * 15_000, 0
    while know != {ann, bob}:
        await ann.send(line)
        said += 1
        for client in ann, bob:
            assert await hear(client) == f"ann: {line}"
        assert said < 10_000

    # They go on without it.
    for n in range(100):
        await ann.send(f"line {n}")
        for client in ann, bob:
            assert await client.recv() == f"ann: line {n}"

    # It has missed the end, and comes to know.
    heard = 0
    try:
        while True:
            assert await slow.recv() == f"ann: {line}"
            heard += 1
    except ConnectionClosed:
        pass
    assert 0 < heard < said, (heard, said)
    again = await enter("hall", "slow")
    assert await ann.recv() == "* slow came"
    await again.send("sorry")
    for client in ann, again:
        assert await client.recv() == "slow: sorry"
run(test)
"#,
    );
}

#[test]
fn what_is_not_chat_is_refused_and_harms_nobody() {
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
    assert [await ann.recv(), await ann.recv()] == ["* bob came", "* bob went"]

    eve = await enter("hall", "eve")
    try:
        await eve.send("x" * 1_000_000)
        while True:
            await eve.recv()
    except ConnectionClosed:
        pass
    assert [await ann.recv(), await ann.recv()] == ["* eve came", "* eve went"]

    # No WebSocket at all.
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
