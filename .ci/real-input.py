#!/usr/bin/env python3
"""Tests the examples with existing client and server programs on loopback, and compares every byte.

    cargo build --release --examples
    .ci/real-input.py            # everything, a few minutes
    .ci/real-input.py --quick    # the same checks on less input
    .ci/real-input.py limit      # only this check: fetch, volume, crowd, harm, limit

Exits with status 0 if every check passes. It stops at the first check that fails, and prints why.
It needs Python 3.9. It also uses curl and nc if they are installed, and fails without them if
SOLOIST_REQUIRE_PROGRAMS is set. CPU time and open files of the server are read from /proc, on
systems that have it.
"""

import argparse
import asyncio
import contextlib
import errno
import os
import pathlib
import random
import resource
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROC = pathlib.Path("/proc")
HAS_PROC = (PROC / "self" / "stat").exists()
MIB = 1 << 20


class Failed(Exception):
    pass


def check(condition, sentence):
    if not condition:
        raise Failed(sentence)


def installed(program):
    found = shutil.which(program) is not None
    check(found or "SOLOIST_REQUIRE_PROGRAMS" not in os.environ, f"{program} is not installed")
    return found


# --- Child processes -------------------------------------------------------------------------


@contextlib.contextmanager
def running(command, **options):
    process = subprocess.Popen(command, **options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


class EchoServer:
    """The echo server example, observed from outside."""

    def __init__(self, process, errors):
        self.process = process
        self.errors = errors
        line = process.stdout.readline().decode()
        check(line.startswith("listening on "), f"echo_server begins with {line!r}")
        host, port = line.split()[-1].rsplit(":", 1)
        self.address = (host, int(port))
        self.files_at_first = self.files()

    def connect(self):
        stream = socket.create_connection(self.address, timeout=20)
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return stream

    def cpu(self):
        fields = (PROC / str(self.process.pid) / "stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def files(self):
        return len(os.listdir(PROC / str(self.process.pid) / "fd")) if HAS_PROC else 0

    def check_idle(self, when, seconds, at_most):
        if HAS_PROC:
            before = self.cpu()
            time.sleep(seconds)
            spent = self.cpu() - before
            check(spent < at_most, f"{when} echo_server used {spent:.2f} s of CPU in {seconds} s")
            return f"{spent:.2f} s of CPU in {seconds} s"
        return "CPU not measured"

    def reports(self):
        """Returns the first lines that it has written to standard error."""
        return os.pread(self.errors.fileno(), MIB, 0).decode().splitlines()

    def check_alive(self, when):
        try:
            with self.connect() as stream:
                echo(stream, b"still there?")
        except OSError as error:
            raise Failed(f"{when} echo_server did not serve a new client: {error}") from error

    def check_no_file_left(self):
        """Checks that the server closes its connections soon after the clients have closed theirs."""
        deadline = time.monotonic() + 10
        while self.files() > self.files_at_first and time.monotonic() < deadline:
            time.sleep(0.05)
        left = self.files() - self.files_at_first
        check(left <= 0, f"echo_server still has {left} open connections, without any client")


@contextlib.contextmanager
def echo_server(examples, *, wrap=()):
    with tempfile.TemporaryFile() as errors:
        command = [*wrap, examples / "echo_server", "--quiet", "127.0.0.1:0"]
        with running(command, stdout=subprocess.PIPE, stderr=errors) as process:
            server = EchoServer(process, errors)
            try:
                yield server
            except (Failed, OSError) as failure:
                time.sleep(0.2)
                if process.poll() is None:
                    raise
                last = " / ".join(server.reports()[-3:])
                sentence = f"{failure}; echo_server ended with status {process.returncode}: {last}"
                raise Failed(sentence) from failure


def echo(stream, message):
    stream.sendall(message)
    received = receive(stream, len(message))
    check(received == message, f"{message[:40]!r} came back as {received[:40]!r}")


def receive(stream, size):
    received = bytearray()
    while len(received) < size:
        chunk = stream.recv(min(size - len(received), MIB))
        check(chunk, f"the stream ended after {len(received)} of {size} bytes")
        received += chunk
    return bytes(received)


def reset(stream):
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    stream.close()


# --- Fetch -----------------------------------------------------------------------------------


def fetch(args):
    """Fetches files of 0 B to 1 MiB from Python's http.server."""
    numbers = random.Random(1)
    with tempfile.TemporaryDirectory() as temp:
        served, fetched = pathlib.Path(temp, "served"), pathlib.Path(temp, "fetched")
        served.mkdir()
        sizes = [0, 1, MIB] + [int(2 ** numbers.uniform(0, 20)) for _ in range(args.files - 3)]
        for number, size in enumerate(sizes, 1):
            (served / f"{number}.bin").write_bytes(numbers.randbytes(size))

        command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "0"]
        with running(command, cwd=served, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
            # Serving HTTP on 127.0.0.1 port 43210 (http://127.0.0.1:43210/) ...
            port = server.stdout.readline().decode().split("port ")[1].split()[0]
            urls = "".join(f"http://127.0.0.1:{port}/{n}.bin\n" for n in range(1, len(sizes) + 1))
            started = time.monotonic()
            done = subprocess.run(
                [args.examples / "fetch", "--jobs", "50", "--from", "-", "--output", fetched],
                input=urls.encode(),
                stdout=subprocess.PIPE,
            )
            seconds = time.monotonic() - started

        lines = done.stdout.decode().splitlines()
        bad = [line for line in lines[:-1] if not line.startswith(" 200 ")]
        check(not bad, f"fetch failed: {bad[:3]}")
        check(done.returncode == 0, f"fetch ended with status {done.returncode}")
        summary = f"{len(sizes)} pages, {sum(sizes)} bytes, "
        check(lines[-1].startswith(summary), f"fetch ends with {lines[-1]!r}, not {summary!r}")
        for number in range(1, len(sizes) + 1):
            same = (served / f"{number}.bin").read_bytes() == (fetched / str(number)).read_bytes()
            check(same, f"page {number} differs from its file")
    return f"{len(sizes)} files, {sum(sizes)} bytes, all the same, in {seconds:.1f} s"


# --- Volume ----------------------------------------------------------------------------------


class Pattern:
    """An endless sequence of bytes. Its period is not a multiple of any buffer size, so lost and
    duplicated pieces are detected."""

    def __init__(self):
        self.size = 1_000_003
        self.twice = 2 * random.Random(2).randbytes(self.size)

    def at(self, position, size):
        start = position % self.size
        return memoryview(self.twice)[start : start + size]


def volume(args):
    """Sends many bytes through one connection, with each client that is installed."""
    pattern = Pattern()
    results = []
    with echo_server(args.examples) as server:
        host, port = server.address
        clients = [("asyncio", None)]
        if installed("curl"):
            # For curl this is an upload to a server that replies in HTTP/0.9, with a body and no
            # head. With telnet:// curl would not read while it waits for its input.
            curl = ["curl", "-s", "--http0.9", "--no-buffer", "-T", "."]
            headers = ["-H", "Expect:", "-H", "Transfer-Encoding:"]
            clients.append(("curl", [*curl, *headers, f"http://{host}:{port}/"]))
        if installed("nc"):
            clients.append(("nc", ["nc", host, str(port)]))
        for name, command in clients:
            started = time.monotonic()
            if command:
                pour_through_program(name, command, pattern, args.volume)
            else:
                asyncio.run(pour_through_asyncio(server, pattern, args.volume))
            results.append(f"{name} {time.monotonic() - started:.1f} s")
    return f"{args.volume} bytes through one connection and back: {', '.join(results)}"


def compare(name, chunk, pattern, position):
    same = chunk == pattern.at(position, len(chunk))
    check(same, f"{name} received different bytes in the {len(chunk)} bytes from {position} on")


async def pour_through_asyncio(server, pattern, size):
    reader, writer = await asyncio.open_connection(*server.address)

    async def send():
        position = 0
        while position < size:
            chunk = pattern.at(position, min(size - position, 256 * 1024))
            writer.write(chunk)
            position += len(chunk)
            await writer.drain()
        writer.write_eof()

    sender = asyncio.create_task(send())
    position = 0
    while chunk := await reader.read(256 * 1024):
        compare("asyncio", chunk, pattern, position)
        position += len(chunk)
    check(position == size, f"asyncio got {position} of {size} bytes back")
    await sender
    writer.close()


def pour_through_program(name, command, pattern, size):
    """Keeps at most one pipe buffer in transit, since an old nc does not read while it cannot write."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with running(command, **pipes, bufsize=0) as program:
        sent = 0
        position = 0
        request = b"" if name == "curl" else None
        while position < size:
            while sent < size and sent - position < 65536:
                room = 65536 - (sent - position)
                sent += program.stdin.write(pattern.at(sent, min(size - sent, room)))
            chunk = program.stdout.read(65536)
            check(chunk, f"{name} ended after {position} of {size} bytes")
            if request is not None:
                request += chunk
                head, end, chunk = request.partition(b"\r\n\r\n")
                if not end:
                    continue
                check(head.startswith(b"PUT / HTTP/"), f"curl got {head[:40]!r} back")
                request = None
            compare(name, chunk, pattern, position)
            position += len(chunk)


# --- Crowd -----------------------------------------------------------------------------------


def crowd(args):
    """Opens many connections at the same time, each with its own message."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = args.connections + 100
    if hard != resource.RLIM_INFINITY:
        check(needed <= hard, f"{needed} open files are needed, but the hard limit is {hard}")
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
    with echo_server(args.examples) as server:
        started = time.monotonic()
        asyncio.run(meet(server, args.connections))
        seconds = time.monotonic() - started
        server.check_no_file_left()
    return f"{args.connections} connections at once, each echoed twice, in {seconds:.1f} s"


async def meet(server, connections):
    # Not all at once: the listener's queue is short, and a client that finds it full waits for 1 s.
    gate = asyncio.Semaphore(100)

    async def arrive(number):
        # The ports of one address do not suffice. On Linux all addresses of 127.0.0.0/8 can be used.
        source = f"127.0.0.{1 + number % 4}" if sys.platform == "linux" else "127.0.0.1"
        async with gate:
            return await asyncio.open_connection(*server.address, local_addr=(source, 0))

    async def talk(number, stream, words):
        reader, writer = stream
        message = f"{number} says {words}".encode()
        writer.write(message)
        try:
            answer = await reader.readexactly(len(message))
        except asyncio.IncompleteReadError as error:
            raise Failed(f"connection {number} was closed after {error.partial!r}") from error
        check(answer == message, f"connection {number} got {answer[:40]!r} back")

    streams = await asyncio.gather(*(arrive(number) for number in range(connections)))
    for words in ("hello", "good bye " * 100):
        await asyncio.gather(*(talk(n, stream, words) for n, stream in enumerate(streams)))
        if HAS_PROC:
            files = server.files() - server.files_at_first
            check(files == connections, f"echo_server has {files} of {connections} connections open")
    for _, writer in streams:
        writer.close()
    await asyncio.gather(*(writer.wait_closed() for _, writer in streams))


# --- Harm ------------------------------------------------------------------------------------


def harm(args):
    """Checks that clients which reset, half-close, do not send or do not read do not affect others."""
    with echo_server(args.examples) as server, contextlib.ExitStack() as stack:
        witness = stack.enter_context(server.connect())
        echo(witness, b"before")

        def still_served(when):
            echo(witness, when.encode())
            server.check_alive(when)

        for _ in range(50):
            reset(server.connect())
        still_served("after immediate resets")

        for _ in range(50):
            stream = server.connect()
            echo(stream, b"now you see me")
            reset(stream)
        still_served("after resets of idle connections")

        for _ in range(50):
            stream = server.connect()
            fill(stream)
            reset(stream)
        still_served("after resets during a transfer")

        for size in (0, 1, 100_000) * 10:
            with server.connect() as stream:
                sent = random.Random(size).randbytes(size)
                writer = threading.Thread(target=lambda: (stream.sendall(sent), stream.shutdown(socket.SHUT_WR)))
                writer.start()
                received = receive(stream, size)
                writer.join()
                check(received == sent, f"a client that half-closed got different bytes ({size} were sent)")
                check(not stream.recv(1), "a client that half-closed got more bytes than it sent")
        still_served("after half-closes")

        for _ in range(50):
            stack.enter_context(server.connect())
        for _ in range(5):
            fill(stack.enter_context(server.connect()))
        still_served("beside clients that do not send or do not read")
        idle = server.check_idle("beside clients that do not send or do not read", 1, 0.25)

        stack.close()
        server.check_no_file_left()
    return f"resets, half-closes and clients that do not send or read affect no other client; {idle}"


def fill(stream):
    """Sends until all buffers to the server and back are full."""
    stream.setblocking(False)
    while select.select([], [stream], [], 0.1)[1]:
        stream.send(bytes(MIB))


# --- Limit -----------------------------------------------------------------------------------


def limit(args):
    """Opens more connections than the server can have open."""
    wrap = ["sh", "-c", 'ulimit -n 64 && exec "$@"', "sh"]
    with echo_server(args.examples, wrap=wrap) as server, contextlib.ExitStack() as stack:
        witness = stack.enter_context(server.connect())
        echo(witness, b"before")
        for _ in range(200):
            stream = stack.enter_context(socket.socket())
            stream.setblocking(False)
            refused = stream.connect_ex(server.address)
            check(refused in (0, errno.EINPROGRESS), f"connecting failed: {os.strerror(refused)}")

        deadline = time.monotonic() + 10
        while not server.reports():
            check(time.monotonic() < deadline, "echo_server has 200 clients and a limit of 64 files, but reports nothing")
            time.sleep(0.05)
        expected = os.strerror(errno.EMFILE)
        check(expected in server.reports()[0], f"echo_server reports {server.reports()[0]!r}, not {expected!r}")

        before = len(server.reports())
        idle = server.check_idle("at the limit of open files", 2, 0.5)
        lines = len(server.reports()) - before
        echo(witness, b"at the limit")
        stack.close()
        server.check_alive("below the limit again")
        server.check_no_file_left()
    return f"at 64 open files: {idle}, {lines} reports; clients are served afterwards"


# --- Main ------------------------------------------------------------------------------------

CHECKS = {"fetch": fetch, "volume": volume, "crowd": crowd, "harm": harm, "limit": limit}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"one of {', '.join(CHECKS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="the same checks on less input")
    parser.add_argument("--files", type=int, help="how many files to fetch (1000; quick: 200)")
    parser.add_argument("--volume", type=int, help="bytes through one connection (1 GiB; quick: 64 MiB)")
    parser.add_argument("--connections", type=int, help="open at once (9000; quick: 1000)")
    parser.add_argument("--examples", type=pathlib.Path, default=ROOT / "target/release/examples")
    args = parser.parse_args()
    args.files = args.files or (200 if args.quick else 1000)
    args.volume = args.volume or (64 * MIB if args.quick else 1024 * MIB)
    args.connections = args.connections or (1000 if args.quick else 9000)
    args.examples = args.examples.resolve()
    for name in args.checks:
        if name not in CHECKS:
            parser.error(f"unknown check {name!r}")
    for example in ("fetch", "echo_server"):
        if not (args.examples / example).exists():
            parser.error(f"{args.examples / example} does not exist: run cargo build --release --examples")

    seconds = 60 if args.quick else 300

    def too_long(*_):
        raise Failed(f"not finished after {seconds} s")

    signal.signal(signal.SIGALRM, too_long)
    for name, run in CHECKS.items():
        if args.checks and name not in args.checks:
            continue
        signal.alarm(seconds)
        try:
            print(f"ok    {name:7} {run(args)}", flush=True)
        except (Failed, OSError) as failure:
            signal.alarm(0)
            print(f"FAIL  {name:7} {failure}", flush=True)
            return 1
        signal.alarm(0)
    return 0


if __name__ == "__main__":
    sys.exit(main())
