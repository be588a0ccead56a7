#!/usr/bin/env python3
"""Compares the chat servers: build time, size, CPU time and memory.

measure.py            builds each server in a directory of its own, and loads it
measure.py --no-build loads what has been built

100 members send 50 lines each, so the server delivers 500,000. CPU time and peak memory are those of the
server process.
"""

import os
import re
import resource
import select
import socket
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TARGET = os.path.join(tempfile.gettempdir(), "soloist-chat")
MEMBERS, ROUNDS = 100, 50


def build(name):
    target = os.path.join(TARGET, name)
    subprocess.run(["rm", "-rf", target], check=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        ["cargo", "build", "--quiet", "--release", "--package", f"chat-{name}"],
        cwd=HERE, check=True, env={**os.environ, "CARGO_TARGET_DIR": target, "CARGO_INCREMENTAL": "0"},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def crates(name):
    command = ["cargo", "tree", "--package", f"chat-{name}", "--edges", "normal,build", "--prefix", "none"]
    tree = subprocess.run(command, cwd=HERE, check=True, capture_output=True, text=True).stdout
    return len({line.split(" (*)")[0] for line in tree.splitlines()})


def read_lines(members, count):
    """Reads until each member has received `count` more lines."""
    left = dict.fromkeys(members, count)
    while left:
        for member in select.select(list(left), [], [], 10)[0]:
            left[member] -= member.recv(1 << 16).count(b"\n")
            if left[member] <= 0:
                assert left[member] == 0
                del left[member]


def load(program):
    server = subprocess.Popen([program, "127.0.0.1:0"], stdout=subprocess.PIPE, text=True)
    port = int(server.stdout.readline().rsplit(":", 1)[1])
    members = []
    for n in range(MEMBERS):
        member = socket.create_connection(("127.0.0.1", port))
        member.sendall(f"member{n}\n".encode())
        # The question for the name, and one's own arrival.
        read_lines([member], 2)
        read_lines(members, 1)
        members.append(member)
    for round in range(ROUNDS):
        for member in members:
            member.sendall(f"line {round}, some more text as people write\n".encode())
        read_lines(members, MEMBERS)
    fields = open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    status = open(f"/proc/{server.pid}/status").read()
    peak = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    threads = int(re.search(r"Threads:\s+(\d+)", status)[1])
    server.kill()
    server.wait()
    return cpu, peak, threads


def main():
    print("| | soloist | tokio | smol |\n|---|--:|--:|--:|")
    names = ["soloist", "tokio", "smol"]
    programs = {name: os.path.join(TARGET, name, "release", f"chat-{name}") for name in names}
    rows = []
    if "--no-build" not in sys.argv:
        rows.append(("CPU time to build, s", [f"{build(name):.0f}" for name in names]))
    rows.append(("crates", [crates(name) for name in names]))
    rows.append(("size, kB", [os.path.getsize(programs[name]) // 1000 for name in names]))
    # In turns, so that all have the same machine.
    runs = [{name: load(programs[name]) for name in names} for _ in range(5)]
    for row, field in ("CPU time, s", 0), ("peak memory, kB", 1), ("threads", 2):
        values = [sorted(run[name][field] for run in runs)[2] for name in names]
        rows.append((row, [f"{value:.2f}" if field == 0 else value for value in values]))
    for row, values in rows:
        print(f"| {row} |", " | ".join(map(str, values)), "|")


if __name__ == "__main__":
    main()
