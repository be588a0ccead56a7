"""The bodies for Python's event loops: `bodies.py (asyncio|uvloop) SUITE`.

The same work as in the .rs files beside, as a Python program does it.
"""

import asyncio
import gc
import os
import queue
import random
import socket
import sys
import threading
import time

BATCHES = 5
FUTURE = 60.0


def report(name, value):
    print(f"{name}\t{value}", flush=True)


def pin():
    cores = os.environ.get("BENCH_CORES")
    if cores:
        os.sched_setaffinity(0, {int(cores.split(",")[0])})
    try:
        os.setsid()
        os.setpriority(os.PRIO_PROCESS, 0, -20)
        with open("/proc/self/autogroup", "w") as file:
            file.write("-20")
    except OSError:
        pass


async def measure(name, operations, n):
    await operations(n)
    batches = []
    for _ in range(BATCHES):
        start = time.thread_time_ns()
        await operations(n)
        batches.append((time.thread_time_ns() - start) / n)
    report(name, sorted(batches)[BATCHES // 2])


# ---- tasks -------------------------------------------------------------------------


async def value(i):
    return i


async def spawn_await(n):
    for i in range(n):
        await asyncio.create_task(value(i))


async def spawn_all(n):
    tasks = [asyncio.create_task(value(i)) for i in range(n)]
    for task in tasks:
        await task


def tasks(run, new_loop):
    loop = new_loop()
    loop.run_until_complete(value(7))
    start = time.thread_time_ns()
    for _ in range(2_000):
        loop.run_until_complete(value(7))
    report("block_on of a ready future", (time.thread_time_ns() - start) / 2_000)
    loop.close()
    start = time.thread_time_ns()
    for _ in range(50):
        run(value(7))
    report("new runtime, block_on, drop", (time.thread_time_ns() - start) / 50)

    async def in_a_task():
        await asyncio.create_task(measure("spawn + await, in a task", spawn_await, 5_000))

    run(in_a_task())
    run(measure("spawn + await, from main", spawn_await, 5_000))
    run(measure("100,000 spawned, then awaited", spawn_all, 100_000))


def memory(run):
    async def forever():
        await asyncio.Event().wait()

    def resident():
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * 4096

    async def main():
        # A tenth of the million of other runtimes, since these tasks are large.
        n = 100_000
        before = resident()
        waiting = [asyncio.create_task(forever()) for _ in range(n)]
        await asyncio.sleep(0)
        report("bytes per waiting task", (resident() - before) / n)
        os._exit(0 if waiting else 1)

    run(main())


# ---- wakes -------------------------------------------------------------------------


async def yields(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def yields_of_1000(n):
    await asyncio.gather(*(yields(n // 1000) for _ in range(1000)))


async def ping_pong(n):
    there, back = asyncio.Queue(1), asyncio.Queue(1)

    async def other():
        for _ in range(n):
            await back.put(await there.get())

    async def this():
        for i in range(n):
            await there.put(i)
            assert await back.get() == i

    await asyncio.gather(this(), other())


async def other_thread():
    """Measures real time: each thread sleeps until the other wakes it, on a core of its own."""
    rounds = 4_000
    loop, there = asyncio.get_running_loop(), queue.SimpleQueue()

    def other():
        cores = os.environ.get("BENCH_CORES")
        if cores:
            os.sched_setaffinity(threading.get_native_id(), {int(cores.split(",")[1])})
        while future := there.get():
            loop.call_soon_threadsafe(future.set_result, None)

    thread = threading.Thread(target=other)
    thread.start()
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        future = loop.create_future()
        there.put(future)
        await future
        times.append(time.perf_counter_ns() - start)
    there.put(None)
    thread.join()
    report("a wake from another thread, and back", sorted(times)[rounds // 2])


def wakes(run):
    run(measure("yield, 1 task", yields, 10_000))
    run(measure("yield, 1,000 tasks", yields_of_1000, 100_000))
    run(measure("ping-pong, local channel", ping_pong, 5_000))
    run(other_thread())


# ---- timers ------------------------------------------------------------------------


async def unfired(n):
    loop = asyncio.get_running_loop()
    for _ in range(n):
        # As asyncio.sleep and asyncio.timeout do.
        loop.call_later(FUTURE, print).cancel()


async def unfired_among(n):
    loop = asyncio.get_running_loop()
    others = [loop.call_later(30 + 60 * random.random(), print) for _ in range(100_000)]
    await measure("unfired sleep, 100,000 others", unfired, n)
    for other in others:
        other.cancel()


async def firing(n):
    cpu = time.process_time_ns()
    loop = asyncio.get_running_loop()
    # Enough time to start all of them, which is slower here.
    first = loop.time() + 3.0

    async def sleeper(deadline):
        await asyncio.sleep(deadline - loop.time())
        return loop.time() - deadline

    deadlines = [first + 0.1 * random.random() for _ in range(n)]
    tasks = [asyncio.create_task(sleeper(deadline)) for deadline in deadlines]
    late = sorted([await task for task in tasks])
    report("100,000 firing: CPU", (time.process_time_ns() - cpu) / n)
    report("100,000 firing: late, p50", late[n // 2] * 1e6)
    report("100,000 firing: late, p99", late[n * 99 // 100] * 1e6)


async def yields_among():
    loop = asyncio.get_running_loop()
    others = [loop.call_later(30 + 60 * random.random(), print) for _ in range(10_000)]
    await measure("yield beside 10,000 timers", yields, 10_000)
    for other in others:
        other.cancel()


def timers(run):
    run(measure("unfired sleep, 0 others", unfired, 10_000))
    run(yields_among())


# ---- sockets -----------------------------------------------------------------------


def echo(run, buffer):
    async def serve(reader, writer):
        while data := await reader.read(buffer):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main():
        listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        server = await asyncio.start_server(serve, sock=listener, backlog=4096)
        print("%s:%d" % listener.getsockname(), flush=True)
        async with server:
            await server.serve_forever()

    run(main())


async def fetch_one(host, port):
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.0\r\n\r\n")
    page = await reader.read()
    writer.close()
    return len(page)


async def fetch(address, pages):
    host, port = address.rsplit(":", 1)

    async def fetch_all():
        tasks = [asyncio.create_task(fetch_one(host, int(port))) for _ in range(pages)]
        for task in tasks:
            assert await task > 1_000

    # The first round warms up.
    await fetch_all()
    cpu = time.process_time_ns()
    await fetch_all()
    report("fetch of 1,000 pages: CPU", (time.process_time_ns() - cpu) / pages / 1000)


def main():
    pin()
    loop, suite, *arguments = sys.argv[1:]
    run, new_loop = asyncio.run, asyncio.new_event_loop
    if loop == "uvloop":
        import uvloop

        run, new_loop = uvloop.run, uvloop.new_event_loop
    gc.freeze()
    if suite == "tasks":
        tasks(run, new_loop)
    elif suite == "memory":
        memory(run)
    elif suite == "wakes":
        wakes(run)
    elif suite == "timers":
        timers(run)
    elif suite == "timers-among":
        run(unfired_among(10_000))
    elif suite == "timers-firing":
        run(firing(100_000))
    elif suite == "echo":
        echo(run, int(arguments[0]))
    elif suite == "fetch":
        run(fetch(arguments[0], int(arguments[1])))
    else:
        print(f"refused\tno {suite} in Python")


main()
