#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
#
# `make survive`: what a node must live through that is too large or too slow for `make check`: tens of thousands of
# sessions, no descriptors, clients that never read or never finish, machines that vanish, a memory limit, five times
# too many calls. Needs root (limits, a network namespace, a memory cgroup).
#
#   spec/fault/survive.py [NAME]...        all without a name; says PASS or MISS and exits 1 after a MISS
#
# L is a load of 2,000 calls a second by the clock: 1,800 over 64 kept connections, 200 each over one of its own. A ratio
# of p99 is over the larger one of a quiet L before and one after, because a shared machine has moods.
import contextlib
import json
import os
import re
import resource
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time

import backends
import mysql_rows
from common import (Clock, Load, Report, born, close_all, get, harness, other_machine, pids, quantile, quiet, rss_bytes,
                    seconds_until, tell_load)
from harness import Node, connect, cpu_s, pack, request

MIB = 1 << 20


# ---- R1: 50,000 idle sessions ----

HOLD = """
import socket, sys
socks = []
for i in range(int(sys.argv[2])):
    if sys.argv[1].startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(sys.argv[1][5:])
    else:
        sock = socket.create_connection(sys.argv[1][6:].rsplit(":", 1))
    sock.sendall(b"\\x94\\x00\\x01\\xa8sys.noop\\x90")
    assert sock.recv(64)
    socks.append(sock)
print("there", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def sessions(addr, n):
    """n sessions that made one call each, held by processes that may have 10,000 descriptors."""
    holders = []
    try:
        while n > 0:
            command = [sys.executable, "-c", HOLD, addr, str(min(n, 10000))]
            holders.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            n -= 10000
        for holder in holders:
            assert holder.stdout.readline() == b"there\n"
        yield
    finally:
        for holder in holders:
            holder.kill()
            holder.wait()


def r1(report):
    n_unix, n_tcp = 40000, 10000
    with Node("sessions_max(60000)", workers=4) as node:
        before_us, before = quiet(node), rss_bytes(node)
        with sessions(node.unix, n_unix), sessions(node.tcp, n_tcp):
            time.sleep(1)
            report.figure("sessions", node.n_sessions(), n_unix + n_tcp, least=True)
            report.figure("RSS a session", (rss_bytes(node) - before) / (n_unix + n_tcp), 12 * 1024, unit="bytes")
            with Load(node, 20) as load:
                pass
            report.figure("sessions after L", node.n_sessions(), n_unix + n_tcp, least=True)
        harness.wait_until("they are gone", lambda: node.n_sessions() == 0, 20)
        tell_load(report, load, (before_us, quiet(node)))


# ---- R2: no descriptors ----

def r2(report):
    with contextlib.ExitStack() as stack:
        with born(lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))):
            node = stack.enter_context(Node(workers=1))
        worker = node.worker_pids()[0]
        lines = len(node.log().splitlines())
        socks = [connect(node.tcp) for _ in range(2000)]
        time.sleep(0.5)
        start, cpu = time.monotonic(), cpu_s(worker)
        slowest = 0
        while time.monotonic() - start < 8:
            asked = time.monotonic()
            assert get(node, "/healthz")[0] == 200
            slowest = max(slowest, time.monotonic() - asked)
            time.sleep(0.2)
        spent, lasted = cpu_s(worker) - cpu, time.monotonic() - start
        report.figure("of a core, while exhausted", 100 * spent / lasted, 10, unit="%")
        report.figure("log lines a second", (len(node.log().splitlines()) - lines) / (lasted + 0.5), 2)
        report.figure("slowest answer of the admin server", 1000 * slowest, 1000, unit="ms")
        report.figure("times that accepting paused", node.stats()["node"]["limits"]["fds"], 1, least=True)
        close_all(socks)

        def serves():
            try:
                return node.call("sys.echo", 1) == 1
            except (harness.Closed, harness.RpcError, AssertionError, OSError):
                return False
        report.figure("until calls are served again", seconds_until(serves, 10), 1, unit="s")


# ---- R3: clients that never read ----

BIG = """
local fae = require "fae"
local s = fae.servant "big"
local text = ("x"):rep(65536)
s.method("get", {}, function() return text end)
return s
"""


def unread_bytes(node):
    return sum(int(n) for n in re.findall(r"^fae_unread_bytes\{.*\} (\d+)", get(node, "/metrics")[1], re.M))


def r3(report):
    n, come_s = 500, 8
    with Node(workers=2, servants={"big.lua": BIG}) as node:
        before_us = quiet(node)
        before, peak, most = rss_bytes(node), 0, 0
        socks, relieved_s, looked = [], 99, 0
        with Load(node, come_s + 16) as load:
            start = time.monotonic()
            while time.monotonic() - start < come_s + 14:
                # They come in turn, each asks for 1.25 MiB and reads nothing.
                while len(socks) < min(n, (time.monotonic() - start) / come_s * n):
                    sock = connect(node.unix if len(socks) % 2 else node.tcp)
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                    sock.sendall(b"".join(request(k, "big.get") for k in range(20)))
                    socks.append(sock)
                if time.monotonic() > looked + 0.2:
                    looked = time.monotonic()
                    unread = unread_bytes(node)
                    most, peak = max(most, unread), max(peak, rss_bytes(node))
                    if len(socks) == n and relieved_s == 99 and unread == 0:
                        relieved_s = time.monotonic() - start - come_s
                time.sleep(0.01)
        limits = node.stats()["node"]["limits"]
        print("       limits met: %s" % {k: v for k, v in limits.items() if v})
        report.figure("memory of unread answers", most / MIB, 256, unit="MiB")
        report.figure("RSS that came", (peak - before) / MIB, 256 * 1.1, unit="MiB")
        report.figure("until the last of them was cut", relieved_s, 11, unit="s")
        close_all(socks)
        tell_load(report, load, (before_us, quiet(node)))


# ---- R4: slowloris ----

def r4(report):
    n, step_s = 2000, 0.05
    message = pack([0, 1, "sys.echo", ["x" * 4000]])
    with Node(workers=2) as node:
        before_us = quiet(node)
        with Load(node, 18) as load:
            # They come over two seconds and send in turn, so that it is not we who keep L waiting.
            epoll, socks, begun, last_s, sent = select.epoll(), {}, {}, 0, 0
            start = time.monotonic()
            while (len(begun) < n or socks) and time.monotonic() - start < 16:
                now = time.monotonic()
                for i in range(len(begun), min(n, int((now - start) / 2 * n))):
                    sock = connect(node.unix if i % 2 else node.tcp)
                    sock.send(message[:1])
                    begun[sock.fileno()] = time.monotonic()
                    socks[sock.fileno()] = sock
                    epoll.register(sock.fileno(), select.EPOLLIN)
                for fd, sock in list(socks.items()):
                    if int((now - begun[fd]) / 5) > int((now - step_s - begun[fd]) / 5):
                        with contextlib.suppress(OSError):
                            sock.send(message[1:2])
                            sent += 1
                for fd, _ in epoll.poll(0):
                    with contextlib.suppress(ConnectionResetError):
                        if socks[fd].recv(1 << 16):
                            continue
                    last_s = max(last_s, time.monotonic() - begun[fd])
                    epoll.unregister(fd)
                    socks.pop(fd).detach()  # its number is not given again, so that `begun` stays right
                time.sleep(step_s)
        print("       %d bytes dripped" % sent)
        report.figure("not closed", len(socks), 0)
        report.figure("until the last was closed", last_s, 12, unit="s")
        for fd in begun:
            os.close(fd)
        tell_load(report, load, (before_us, quiet(node)))


# ---- R5: machines that vanish ----

CLIENTS = """
import socket, sys, time
socks = [socket.create_connection((sys.argv[1], int(sys.argv[2]))) for _ in range(1000)]
for s in socks:
    s.sendall(b"\\x94\\x00\\x01\\xa8sys.noop\\x90")
    assert s.recv(64)
print("there", flush=True)
time.sleep(600)
"""


def r5(report):
    for conf, what, limit_s in (("idle_timeout_ms(5000)", "idle_timeout_ms(5000)", 5 + 10),
                                ("idle_timeout_ms(0)", "keepalive alone", 60 + 3 * 10 + 10)):
        with other_machine() as host, Node(conf, listen=["tcp://%s:0" % host], workers=2) as node:
            port = node.tcp.rsplit(":", 1)[1]
            client = subprocess.Popen(["ip", "netns", "exec", "fae-r5", sys.executable, "-c", CLIENTS, host, port],
                                      stdout=subprocess.PIPE)
            try:
                assert client.stdout.readline() == b"there\n"
                # From now on nothing it sends arrives, and it does not know.
                subprocess.run(["ip", "-n", "fae-r5", "route", "add", "blackhole", host + "/32"], check=True)
                report.figure("sessions, " + what, node.n_sessions(), 1000, least=True)
                took = seconds_until(lambda: node.n_sessions() == 0, limit_s + 20, 0.2)
                report.figure("until they are gone, " + what, took, limit_s, unit="s")
            finally:
                client.kill()
                client.wait()


# ---- R6: a memory limit ----

HOARD = """
local fae = require "fae"
local s = fae.servant "hoard"
local kept = {}
s.method("put", { args = { "int" } }, function(call, i)
  kept[#kept + 1] = ("%d"):format(i):rep(262144)
  return #kept
end)
return s
"""


@contextlib.contextmanager
def memory_cgroup(limit_bytes):
    path = "/sys/fs/cgroup/memory/fae-survive"
    os.makedirs(path, exist_ok=True)
    with open(path + "/memory.limit_in_bytes", "w") as f:
        f.write(str(limit_bytes))
    try:
        yield path
    finally:
        harness.wait_until("the cgroup is empty", lambda: not open(path + "/cgroup.procs").read(), 10)
        os.rmdir(path)


def oom_kills(path):
    with open(path + "/memory.oom_control") as f:
        return int(dict(line.split() for line in f)["oom_kill"])


def r6(report):
    with memory_cgroup(256 * MIB) as path, contextlib.ExitStack() as stack:
        node = stack.enter_context(Node(workers=2, servants={"hoard.lua": HOARD}, wait=False))

        def join():
            with open(path + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
        with born(join):
            node.start()
        codes, unready, client, i, end = {}, 0, None, 0, time.monotonic() + 30
        value = os.urandom(MIB)
        while i < 1000 and time.monotonic() < end:
            try:
                client = client or node.client()
                client.call("lc.set", "k%d" % i, value)
                client.call("hoard.put", i)
                i += 1
                continue
            except harness.RpcError as err:
                code = err.code
            except (harness.Closed, OSError):
                code = "closed"
            # Another connection, so that both workers fill up.
            codes[code] = codes.get(code, 0) + 1
            if client:
                client.close()
            client = None
            time.sleep(0.02)
            unready += get(node, "/readyz")[0] == 503
        print("       %d MB put, %d MB into the cache; answers: %s" % (i * 262144 * len(str(i)) // MIB, i, codes))
        report.figure("entries that the cache pushed out", node.stats()["store"]["cache_evictions_total"], 100, least=True)
        report.figure("processes that the kernel killed", oom_kills(path), 0)
        report.figure("times that /readyz said 503", unready, 1, least=True)
        report.figure("calls refused meanwhile", sum(codes.get(c, 0) for c in ("NO_MEMORY", "OVERLOAD")), 1, least=True)

        def well():
            try:
                return get(node, "/readyz")[0] == 200 and node.call("hoard.put", 1)
            except (harness.Closed, harness.RpcError, OSError):
                return False
        report.figure("until calls are served again", seconds_until(well, 20), 5, unit="s")


# ---- R7: five times too many calls ----

WORK = """
local fae = require "fae"
local s = fae.servant "work"
s.method("do", {}, function()
  local t = fae.time.monotonic_us() + 500
  while fae.time.monotonic_us() < t do end
  return 1
end)
return s
"""


def r7(report):
    with Node(workers=1, servants={"work.lua": WORK}) as node:
        cpus = sorted(os.sched_getaffinity(0))
        for pid in pids(node):
            os.sched_setaffinity(pid, cpus[:1])
        os.sched_setaffinity(0, cpus[1:] or cpus)

        def peak(seconds):
            out = node.run("bench", "-s", node.tcp, "--json", "-d", str(seconds), "-c", "4", "work.do").stdout
            return json.loads(out)["calls_per_s"]
        peaks = [peak(4)]
        clock = Clock(node.tcp, 400)
        base = quantile([d[1] for d in clock.run(0.5 * peaks[0], 5)], 0.99)
        done = clock.run(5 * peaks[0], 60)
        after = clock.run(0.5 * peaks[0], 6)
        peaks.append(peak(4))
        os.sched_setaffinity(0, cpus)
        ok = [d for d in done if d[2] == "OK"]
        rejects = [t for _, t, code, _ in done if code != "OK"]
        codes = {c: sum(d[2] == c for d in done) for c in {d[2] for d in done}}
        best = statistics.mean(peaks)
        print("       peak %s/s, offered %.0f/s; answers %s; p50 of OK %.1f ms" % (
            "/".join("%.0f" % p for p in peaks), 5 * peaks[0], codes, 1000 * quantile([d[1] for d in ok], 0.5)))
        report.figure("goodput of the peak", 100 * sum(d[0] <= 60 for d in ok) / 60 / best, 90, least=True, unit="%")
        report.figure("p99 of those refused", 1000 * quantile(rejects, 0.99), 5, unit="ms")
        report.figure("p50 of those refused", 1000 * quantile(rejects, 0.5), unit="ms")
        late = [d for d in after if d[0] >= 2]
        report.figure("p99 from 2 s after it on, over the one before",
                      quantile([d[1] for d in late], 0.99) / max(base, 0.001), 2, unit="x")
        report.figure("refused from 2 s after it on", sum(d[2] != "OK" for d in late), 0)


TALK = """
local fae = require "fae"
local s = fae.servant "talk"
s.method("on", { args = { "int" } }, function(call, n)
  for i = 1, n do fae.log.info("a line of some length that says nothing at all", { i = i }) end
  return n
end)
return s
"""

# ---- R9: no room for the log ----

@contextlib.contextmanager
def small_disk(path, size):
    os.makedirs(path)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=%s" % size, "none", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", path], check=True)


def dropped_lines(node):
    return int(re.search(r"^fae_log_lines_dropped_total (\d+)", get(node, "/metrics")[1], re.M).group(1))


def r9(report):
    with tempfile.TemporaryDirectory() as folder:
        disk = os.path.join(folder, "disk")
        with small_disk(disk, "4m"), Node('log_file "%s/log"\nlog_level "debug"' % disk, servants={"talk.lua": TALK}) as node:
            with open(disk + "/rest", "wb") as f, contextlib.suppress(OSError):
                f.write(b"x" * 5 * MIB)
            before_us = quiet(node)
            with Load(node, 8) as load, node.client() as c:
                for i in range(300):
                    c.call("talk.on", 100)
            report.figure("lines dropped, and counted", dropped_lines(node), 1, least=True)
            tell_load(report, load, (before_us, quiet(node)))
            os.truncate(disk + "/rest", 0)
            size = os.path.getsize(disk + "/log")
            report.figure("until lines are written again", seconds_until(
                lambda: os.path.getsize(disk + "/log") > size + 1000, 5), 1, unit="s")


# ---- S9: scrapes ----

SERIES = """
local fae = require "fae"
local s = fae.servant "many"
local c = fae.metrics.counter("many_total", "Many.", { "k" })
s.method("make", { args = { "int" } }, function(call, n)
  for i = 1, n do c:inc(1, "v" .. i) end
  return n
end)
return s
"""


def s9(report):
    with Node("metrics_series_max(10000)", workers=2, servants={"many.lua": SERIES}) as node:
        node.call("many.make", 9000)
        ratios = []
        for _ in range(3):
            before_us = quiet(node, 10)
            n = 0
            with Load(node, 10) as load:
                end = time.monotonic() + 9
                while time.monotonic() < end:
                    begun = time.monotonic()
                    status, body = get(node, "/metrics", 5)
                    assert status == 200
                    n = body.count("\n")
                    time.sleep(max(0, 1 - (time.monotonic() - begun)))
            after_us = quiet(node, 10)
            ratios.append(load.p99_us / statistics.mean((before_us, after_us)))
            print("       %d lines; p99 %.0f us, quiet %.0f/%.0f us, %d failed" % (
                n, load.p99_us, before_us, after_us, load.failed))
        report.figure("p99 of L while scraped each second, over quiet", statistics.median(ratios), 1.05, unit="x")


TESTS = {
    "R1": ("50,000 idle sessions beside L", r1),
    "R2": ("256 descriptors, 2,000 clients", r2),
    "R3": ("500 clients that never read answers of 64 KiB", r3),
    "R4": ("2,000 clients that send a byte each 5 s", r4),
    "R5": ("1,000 clients whose machine vanishes", r5),
    "R6": ("1 GB of Lua values and 1 GB of cache into a memory limit of 256 MiB", r6),
    "R7": ("5 times as many calls as can be served, for 60 s", r7),
    "R9": ("a log on a full disk", r9),
    "S9": ("scrapes of 10,000 series beside L", s9),
    **backends.TESTS,
    **mysql_rows.TESTS,
}


def main(names):
    unknown = [n for n in names if n not in TESTS]
    if unknown:
        print("no test %s; there are: %s" % (", ".join(unknown), " ".join(TESTS)), file=sys.stderr)
        return 2
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    missed = 0
    for name in names or TESTS:
        text, test = TESTS[name]
        print("%s  %s" % (name, text), flush=True)
        report = Report(name)
        test(report)
        missed += report.missed
    print("%d missed" % missed)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
