# SPDX-License-Identifier: BSD-2-Clause
"""What the tests of `make survive` share: the load L, calls by the clock, a machine of its own, what was measured."""
import contextlib
import json
import os
import select
import subprocess
import sys
import time
import urllib.error
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "e2e"))
import harness  # noqa: E402
from harness import connect, memory_kib, pack  # noqa: E402

QUIET_S = 8


class Report:
    """What a test measured, and whether it is what it must be."""

    def __init__(self, name):
        self.name, self.missed = name, 0

    def figure(self, what, value, limit=None, least=False, unit=""):
        good = limit is None or (value >= limit if least else value <= limit)
        self.missed += not good
        owed = "" if limit is None else "  %s %g" % (">=" if least else "<=", limit)
        print("  %-4s %-52s %10.4g %s%s" % ("PASS" if good else "MISS", what, value, unit, owed), flush=True)


# ---- the load ----

class Load:
    """L against a node, in the background: with Load(node, 10) as load: ...; figures when it is over."""

    def __init__(self, node, seconds):
        self.commands = [
            [harness.FAE, "bench", "-s", node.tcp, "--json", "-d", str(seconds), "--rate", "1800", "-c", "64", "sys.echo",
             '"hello"'],
            [harness.FAE, "bench", "-s", node.unix, "--json", "-d", str(seconds), "--rate", "200", "-c", "32",
             "--connect-per-call", "sys.echo", '"hello"'],
        ]
        self.seconds = seconds

    def __enter__(self):
        self.processes = [subprocess.Popen(c, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for c in self.commands]
        return self

    def __exit__(self, *_):
        outs = [p.communicate(timeout=self.seconds + 30) for p in self.processes]
        figures = []
        for out, err in outs:
            if not out.startswith(b"{"):
                raise AssertionError("fae bench: %s" % err.decode())
            figures.append(json.loads(out))
        self.failed = sum(f["sent"] - f["ok"] for f in figures)
        self.sent = sum(f["sent"] for f in figures)
        self.p99_us = figures[0]["p99_us"]
        self.errors = [f["errors"] for f in figures if f["errors"]]


def quiet(node, seconds=QUIET_S):
    with Load(node, seconds) as load:
        pass
    return load.p99_us


def tell_load(report, load, quiet_us):
    print("       L: %d calls, p99 %.0f us, quiet %s us %s" % (load.sent, load.p99_us, "/".join(
        "%.0f" % q for q in quiet_us), load.errors or ""))
    report.figure("calls of L that failed", load.failed, 0)
    report.figure("p99 of L over a quiet one", load.p99_us / max(quiet_us), 1.3, unit="x")


@contextlib.contextmanager
def born(prepare):
    """Processes that are started meanwhile call prepare() before they become what they are."""
    popen = subprocess.Popen
    subprocess.Popen = lambda *args, **more: popen(*args, preexec_fn=prepare, **more)
    try:
        yield
    finally:
        subprocess.Popen = popen


def pids(node):
    return harness.session_members(node.pid)


def rss_bytes(node):
    return sum(memory_kib(pid) * 1024 for pid in pids(node))


def get(node, path, timeout=2):
    """(status, body) of the admin server; status 0 when it does not answer."""
    try:
        with urllib.request.urlopen(node.admin + path, timeout=timeout) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as err:
        return err.code, err.read().decode()
    except OSError as err:
        return 0, str(err)


def close_all(socks):
    for sock in socks:
        sock.close()
    socks.clear()


def seconds_until(condition, limit_s, pause_s=0.02):
    start = time.monotonic()
    while time.monotonic() - start < limit_s:
        if condition():
            break
        time.sleep(pause_s)
    return time.monotonic() - start


# ---- calls by the clock ----

class Clock:
    """Sends calls by the clock over many connections, and notes what came of each and when. params: of the i-th call;
    deadline_ms: theirs, if they have one."""

    def __init__(self, addr, conns, method="work.do", params=lambda i: [], deadline_ms=None):
        self.method, self.params, self.context = method, params, [{"deadline_ms": deadline_ms}] if deadline_ms else []
        self.socks = [connect(addr) for _ in range(conns)]
        for sock in self.socks:
            sock.setblocking(False)
        self.unpackers = {s.fileno(): (s, harness.msgpack.Unpacker(raw=False)) for s in self.socks}
        self.poller = select.epoll()
        for fd in self.unpackers:
            self.poller.register(fd, select.EPOLLIN)
        self.sent, self.n = {}, 0

    def run(self, rate, seconds):
        """[(when, latency, ok or code, what came)]"""
        done, start, n0 = [], time.monotonic(), self.n
        while True:
            now = time.monotonic()
            due = n0 + int(min(now - start, seconds) * rate)
            while self.n < due:
                self.sent[self.n] = start + (self.n - n0 + 1) / rate
                message = [0, self.n, self.method, self.params(self.n)] + self.context
                self.socks[self.n % len(self.socks)].send(pack(message))
                self.n += 1
            if now - start > seconds and (not self.sent or now - start > seconds + 5):
                self.unanswered = len(self.sent)
                self.sent.clear()
                return done
            for fd, _ in self.poller.poll(0.001):
                sock, unpacker = self.unpackers[fd]
                unpacker.feed(sock.recv(1 << 16))
                now = time.monotonic()
                for message in unpacker:
                    due_at = self.sent.pop(message[1], None)
                    if due_at is not None:
                        code = message[2].split(":")[0] if message[2] else "OK"
                        done.append((now - start, now - due_at, code, message[3]))


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0


# ---- a machine of its own ----

@contextlib.contextmanager
def other_machine(name="fae-r5"):
    """A network namespace with one cable to us: our address and its name."""
    def ip(*words):
        subprocess.run(["ip"] + list(words), check=True)
    ip("netns", "add", name)
    try:
        ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("addr", "add", "10.233.77.1/30", "dev", name)
        ip("link", "set", name, "up")
        ip("-n", name, "addr", "add", "10.233.77.2/30", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield "10.233.77.1"
    finally:
        ip("link", "del", name) # at once; with its namespace it would go some time later
        ip("netns", "del", name)
