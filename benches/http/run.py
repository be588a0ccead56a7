#!/usr/bin/env python3
"""Measures HTTP servers with wrk, in turns: requests per second, CPU time of the server per request, and
the 99th percentile of the latency. Prints a table with the medians of the rounds.

    benches/http/run.py                              # 3 rounds of 5 s for each server and load
    benches/http/run.py --rounds 5 --only soloist,tokio --connections 64

Needs wrk. If there are two cores, one is for the server and the other for wrk.
"""

import argparse
import os
import pathlib
import re
import statistics
import subprocess
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
SERVERS = ["soloist", "tokio", "smol"]
POST = """
wrk.method = "POST"
wrk.body = string.rep("x", 256 * 1024)
"""
UNITS = {"us": 1, "ms": 1_000, "s": 1_000_000}


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(program, load, connections, seconds, script):
    """Returns requests per second, microseconds of CPU time per request, and p99 in microseconds."""
    cores = sorted(os.sched_getaffinity(0))
    pin = lambda core: lambda: len(cores) > 1 and os.sched_setaffinity(0, {core})
    server = subprocess.Popen([program], stdout=subprocess.PIPE, text=True, preexec_fn=pin(cores[0]))
    try:
        url = f"http://127.0.0.1:{server.stdout.readline().strip()}/"
        command = ["wrk", "-t1", f"-c{connections}", "--latency", "--timeout", "20s"]
        command += ["-s", script] if load == "post" else []
        run = lambda time: subprocess.run(
            command + [f"-d{time}s", url], stdout=subprocess.PIPE, text=True, check=True,
            preexec_fn=pin(cores[-1])).stdout
        run(1)
        before = cpu_seconds(server.pid)
        report = run(seconds)
        used = cpu_seconds(server.pid) - before
    finally:
        server.kill()
        server.wait()
    if "Socket errors" in report or "Non-2xx" in report:
        raise SystemExit(f"{program}: {report}")
    requests = int(re.search(r"(\d+) requests in", report)[1])
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", report).groups()
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", report)[1])
    return rate, used / requests * 1e6, float(number) * UNITS[unit]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", default="1,64,1000")
    parser.add_argument("--only", default=",".join(SERVERS))
    parser.add_argument("--programs", type=pathlib.Path, help="a directory with the servers, which are then not built")
    args = parser.parse_args()
    servers = args.only.split(",")
    programs = args.programs
    if programs is None:
        manifest = HERE.parent / "Cargo.toml"
        build = ["cargo", "build", "--release", "--manifest-path", manifest, "--package", "bench-http"]
        subprocess.run(build, check=True)
        programs = HERE.parent / "target/release"
    loads = [("get", int(c)) for c in args.connections.split(",")] + [("post", 8)]
    print("| load | unit | " + " | ".join(servers) + " |")
    print("|---|---|" + "--:|" * len(servers))
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(POST)
        script.flush()
        for load, connections in loads:
            rounds = {server: [] for server in servers}
            for _ in range(args.rounds):
                for server in servers:
                    figures = measure(programs / f"http-{server}", load, connections, args.seconds, script.name)
                    rounds[server].append(figures)
            name = "GET" if load == "get" else "POST of 256 KiB"
            name += f", {connections} connection" + ("s" if connections > 1 else "")
            for index, unit in enumerate(["requests/s", "CPU, µs", "p99, µs"]):
                medians = [statistics.median(figures[index] for figures in rounds[server]) for server in servers]
                cells = [f"{median:,.0f}" if median >= 100 else f"{median:.1f}" for median in medians]
                print(f"| {name} | {unit} | " + " | ".join(cells) + " |", flush=True)


main()
