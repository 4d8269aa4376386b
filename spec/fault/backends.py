# SPDX-License-Identifier: BSD-2-Clause
"""The rows of `make survive` about redis and memcached behind a node (I9, K1 to K8). spec/e2e/test_backend_faults.py
runs the short forms of them.

I9 and K3 measure inside the node (servant back): what its callers waited, whatever the test's own thread was doing.
"""
import contextlib
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import common
import hostile
import servers
from chaosproxy import ChaosProxy
from common import Clock, Load, quantile, quiet
from harness import SLOW, Node, RpcError, Stopwatch, memory_kib, wait_until
from stage import Server, Stage

KINDS = ("redis", "memcache")
REAL = {"redis": servers.Redis, "memcache": servers.Memcached}


def section(kind, pool, addrs, **options):
    """A pool's line of configuration. memcache has one connection a worker, and nobody waits for another."""
    if kind == "memcache":
        options = {name: value for name, value in options.items() if name not in ("max", "wait_ms", "warm")}
    words = ", ".join('"%s"' % a for a in ([addrs] if isinstance(addrs, str) else addrs))
    rest = "".join(", %s = %s" % item for item in options.items())
    return '%s "%s" { servers = { %s }%s }' % (kind, pool, words, rest)


def deaths(node):
    return sum(row["deaths"] for name, row in node.workers().items() if name != "ops")


def is_right(node_client, kind, pool, key):
    try:
        return node_client.call("back.get", kind, pool, key) == "value of %s." % key
    except RpcError:
        return False


# ---- I9: hostile servers ----

NO_BREAKER = {"breaker_percent": 0, "breaker_refusals": 1000000000}
SHORT_BREAKER = {"breaker_open_ms": 300}  # how long it stays open is not what is tested here


class Lane(threading.Thread):
    """A fake, its pool, and the scripts it plays one after the other."""

    CALLS = 5

    def __init__(self, node, kind, fake, pool, method, deadline_ms, seeds, in_time_ms, good_s):
        super().__init__(daemon=True)
        self.in_time_ms, self.good_s = in_time_ms, good_s
        self.node, self.kind, self.fake, self.pool = node, kind, fake, pool
        self.method, self.deadline_ms, self.seeds = method, deadline_ms, seeds
        self.late, self.slowest_ms, self.recovery_s, self.codes, self.error = [], 0, 0, {}, None
        self.start()

    def run(self):
        try:
            with self.node.client(timeout=20) as client:
                for seed in self.seeds:
                    self.play(client, seed)
        except BaseException as err:
            self.error = "%s %s: %r" % (self.kind, self.seeds, err)

    def play(self, client, seed):
        name = "%s %d (%s)" % (self.kind, seed, self.fake.misbehave(seed))
        for i in range(self.CALLS):
            watch = Stopwatch()
            try:
                us, code = client.call(self.method, self.kind, self.pool, seed + i)
            except RpcError as err:
                us, code = watch.elapsed() * 1e6, err.code
            us -= watch.lost() * 1e6
            self.codes[code] = self.codes.get(code, 0) + 1
            self.slowest_ms = max(self.slowest_ms, us / 1000 - self.deadline_ms)
            if us / 1000 > self.deadline_ms + self.in_time_ms:
                self.late.append("%s: call %d was answered %s after %.0f ms" % (name, i, code, us / 1000))
        self.fake.heal(anew=seed % 2 == 0)
        took = self.recover(client)
        self.recovery_s = max(self.recovery_s, took)
        if took > self.good_s:
            self.late.append("%s: good again after %.1f s" % (name, took))

    def recover(self, client):
        """Seconds until five answers in a row are right."""
        watch, n = Stopwatch(), 0
        while n < 5 and watch.seconds() < 10 * SLOW:
            n = n + 1 if is_right(client, self.kind, self.pool, "r%d" % n) else 0
            if n == 0:
                time.sleep(0.02)
        return watch.seconds()


def hostile_servers(n_scripts, n_lanes, in_time_ms, good_s, first_seed=0):
    """n_scripts of each kind, over n_lanes pools of each kind: what came of it. in_time_ms: how long after its deadline
    a call may be answered; good_s: how long after its server is a good one again a pool may need."""
    with Stage() as stage:
        fakes = {"%s%d" % (kind, i): (kind, stage.open(hostile.KINDS[kind]()))
                 for kind in KINDS for i in range(n_lanes)}
        conf = "\n".join(section(kind, pool, fake.addr, timeout_ms=100 + 900 * (i % 2), connect_timeout_ms=200,
                                 wait_ms=100, **(SHORT_BREAKER if i % 4 < 2 else NO_BREAKER))
                         for i, (pool, (kind, fake)) in enumerate(fakes.items()))
        with Node(conf, servants=["back"], workers=2) as node:
            for pool, (kind, _) in fakes.items():
                assert node.call("back.get", kind, pool, "k") == "value of k."
            lanes = [Lane(node, kind, fake, pool, "back.soon" if i % 2 else "back.some", 150 if i % 2 else 1000,
                          range(first_seed + i % n_lanes, first_seed + n_scripts, n_lanes), in_time_ms, good_s)
                     for i, (pool, (kind, fake)) in enumerate(fakes.items())]
            for lane in lanes:
                lane.join()
            codes = {}
            for lane in lanes:
                for code, n in lane.codes.items():
                    codes[code] = codes.get(code, 0) + n
            return {"late": sum((lane.late for lane in lanes), []), "errors": [x.error for x in lanes if x.error],
                    "slowest_ms": max(lane.slowest_ms for lane in lanes), "codes": codes,
                    "recovery_s": max(lane.recovery_s for lane in lanes), "deaths": deaths(node),
                    "peak_mib": max(memory_kib(pid, "VmHWM") for pid in node.worker_pids()) / 1024}


def i9(report):
    got = hostile_servers(1000, 30, 50, 2)
    print("       answers: %s" % got["codes"])
    for line in (got["errors"] + got["late"])[:20]:
        print("       " + line)
    report.figure("callers without an answer", len(got["errors"]), 0)
    report.figure("answers after the deadline and 50 ms, recoveries after 2 s", len(got["late"]), 0)
    report.figure("latest answer, after its deadline", got["slowest_ms"], 50, unit="ms")
    report.figure("slowest recovery", got["recovery_s"], 2, unit="s")
    report.figure("workers that died", got["deaths"], 0)
    report.figure("most memory of a worker", got["peak_mib"], 512, unit="MiB")


# ---- K3: answers that come too late ----

N_KEYS = 10000
LATE_S = 0.2


def gets_in_the_node(node, kind, pool, n, in_flight):
    """n gets by four calls that make them, each with as long as its pool gives it."""
    outs = []

    def make():
        with node.client(timeout=600) as client:
            outs.append(client.call("back.many", kind, pool, n // 4, in_flight, N_KEYS))
    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(outs) == 4, "a call of back.many failed"
    codes = {}
    for out in outs:
        for code, many in out["codes"].items():
            codes[code] = codes.get(code, 0) + many
    return {"ok": sum(o["ok"] for o in outs), "wrong": sum(o["wrong"] + o["missing"] for o in outs), "codes": codes,
            "example": next((o["example"] for o in outs if "example" in o), None)}


def gets_with_deadlines(node, kind, pool, n, deadline_ms):
    """n gets, 40 at a time, each with a deadline that comes before the pool gives up."""
    rng, got = random.Random(n), {"ok": 0, "wrong": 0, "codes": {}, "example": None}
    clients = [node.client(timeout=60) for _ in range(4)]
    while n > 0:
        asked = {}
        for client in clients:
            keys = {client.start("back.get", kind, pool, "k%d" % key, ctx={"deadline_ms": deadline_ms}): key
                    for key in (rng.randrange(N_KEYS) for _ in range(10))}
            asked[client] = keys
            n -= len(keys)
        for client, keys in asked.items():
            for message in common.harness.collect(client, len(keys)).values():
                key, error, value = keys[message[1]], message[2], message[3]
                if error:
                    code = error.split(":")[0]
                    got["codes"][code] = got["codes"].get(code, 0) + 1
                elif value == servers.value_of(key).decode():
                    got["ok"] += 1
                else:
                    got["wrong"] += 1
                    got["example"] = "k%d: %r" % (key, value)
    for client in clients:
        client.close()
    return got


def late_answers(n, share, kinds=KINDS):
    """{(kind, how): what came of it}: n gets of self-identifying values in all, a share of whose answers is late."""
    got, part = {}, n // (2 * len(kinds))
    for kind in kinds:
        with REAL[kind]() as server, Stage() as stage:
            server.fill(N_KEYS)
            proxy = stage.open(ChaosProxy(server.addr, late=share, late_s=LATE_S))
            conf = (section(kind, "strict", proxy.addr, timeout_ms=80, waiting_max=10000, **NO_BREAKER) + "\n"
                    + section(kind, "lenient", proxy.addr, timeout_ms=5000, waiting_max=10000, **NO_BREAKER))
            with Node(conf, servants=["back"], workers=2) as node:
                got[kind, "its pool gave up"] = gets_in_the_node(node, kind, "strict", part, 16)
                got[kind, "its call gave up"] = gets_with_deadlines(node, kind, "lenient", part, 80)
    return got


def k3(report):
    for (kind, how), got in late_answers(1000000, 0.01).items():
        all_ = got["ok"] + got["wrong"] + sum(got["codes"].values())
        print("       %s, %s: %d gets, %d right, %s" % (kind, how, all_, got["ok"], got["codes"]))
        if got["example"]:
            print("       wrong: %s" % got["example"])
        report.figure("%s, %s: wrong values" % (kind, how), got["wrong"], 0)
        late = 100 * got["codes"].get("TIMEOUT", 0) / all_
        report.figure("%s, %s: too late" % (kind, how), late, 0.3, least=True, unit="%")
        report.figure("%s, %s: right" % (kind, how), 100 * got["ok"] / all_, 90, least=True, unit="%")


# ---- what the node says of a server ----

def upstream(node, kind, pool, addr=None):
    """The row of a pool's (only) server in the node's figures."""
    rows = [row for row in node.stats()["backends"] if row["name"].startswith("%s/%s/" % (kind, pool))]
    if addr:
        rows = [row for row in rows if row["name"].endswith(addr)]
    assert len(rows) == 1, rows
    return rows[0]


def lag_max_ms(node):
    return max(w["lag_max_us"] for w in node.stats()["workers"]) / 1000


# ---- K1: a server that is stopped ----

def told(done):
    """Of calls of back.get_timed: (when, latency, code, microseconds in the node)."""
    return [(when, took, (came[1] or "OK") if came else code, came[0] if came else 1e6 * took)
            for when, took, code, came in done]


def k1_of(report, kind, rate=200, stopped_s=30):
    with REAL[kind]() as server:
        server.fill(100)
        with Node(section(kind, "m", server.addr), servants=["back"], workers=2) as node:
            before_us = quiet(node)
            clock = Clock(node.tcp, 40, "back.get_timed", lambda i: [kind, "m", i % 100], deadline_ms=1500)
            assert all(d[2] == "OK" for d in told(clock.run(rate, 2)))
            server.pause()
            try:
                with Load(node, stopped_s) as load:
                    done = told(clock.run(rate, stopped_s))
                    lost = clock.unanswered
            finally:
                server.go_on()
            back = told(clock.run(rate, 12))
            lag = lag_max_ms(node)
            after_us = quiet(node)
        refused = [d for d in done if d[2] == "CIRCUIT_OPEN"]
        opened = min((d[0] - d[1] for d in refused), default=stopped_s)
        tried = [d for d in done if d[2] != "CIRCUIT_OPEN" and d[0] - d[1] < opened]
        probes = [d for d in done if d[2] != "CIRCUIT_OPEN" and d[0] - d[1] >= opened]
        bad = [d[0] for d in back if d[2] != "OK"]
        codes = {c: sum(d[2] == c for d in done) for c in {d[2] for d in done}}
        print("       %s: answers %s; before it opened %d calls, later %d that were let through" % (
            kind, codes, len(tried), len(probes)))
        report.figure("%s: without an answer" % kind, lost + clock.unanswered, 0)
        report.figure("%s: slowest call, its deadline 1500" % kind, 1000 * max(d[1] for d in done), 1550, unit="ms")
        report.figure("%s: p99 of those that the breaker refused, in the node" % kind,
                      quantile([d[3] for d in refused], 0.99) / 1000, 5, unit="ms")
        report.figure("%s: p50 of those, as the client saw it" % kind,
                      1000 * quantile([d[1] for d in refused], 0.5), 5, unit="ms")
        report.figure("%s: until it opened, its timeout_ms included" % kind, opened, 6, unit="s")
        report.figure("%s: calls let through a second while open" % kind, len(probes) / (stopped_s - opened), 3)
        report.figure("%s: until all is well after SIGCONT" % kind, max(bad, default=0), 7, unit="s")
        report.figure("%s: largest lag of a loop" % kind, lag, 20, unit="ms")
        tell_unrelated(report, kind, load, (before_us, after_us))


def tell_unrelated(report, kind, load, quiet_us):
    print("       L: %d calls, p99 %.0f us, quiet %s us" % (
        load.sent, load.p99_us, "/".join("%.0f" % q for q in quiet_us)))
    report.figure("%s: calls of L that failed" % kind, load.failed, 0)
    report.figure("%s: p99 of L over a quiet one" % kind, load.p99_us / max(quiet_us), 1.2, unit="x")


def k1(report):
    for kind in KINDS:
        k1_of(report, kind)


# ---- K2: a server that is killed and comes back ----

class Refusing(Server):
    """Takes connections and resets them: how often is one tried?"""

    async def serve(self, conn):
        conn.reset()


def k2_of(report, kind, cycles=20):
    workers = 2
    with REAL[kind]() as server, Stage() as stage:
        server.fill(100)
        conf = section(kind, "m", server.addr, max=8)
        with Node(conf, servants=["back"], workers=workers) as node, node.client() as client:
            own, slowest, most = connections(server), 0, 0
            clock = Clock(node.tcp, 10, "back.get", lambda i: [kind, "m", "k%d" % (i % 100)])
            clock.run(50, 0.5)
            fds = [common.harness.n_fds(pid) for pid in node.worker_pids()]
            for _ in range(cycles):
                server.kill()
                clock.run(50, 0.5)
                server.start()
                server.fill(100)
                begun = time.monotonic()
                slowest = max(slowest, until_right(client, kind, "m", begun))
                most = max(most, connections(server) - own)
            server.kill()
            refusing = stage.open(Refusing(server.addr))
            clock.run(50, 1)
            n = refusing.n_accepted
            clock.run(50, 10)
            tries = (refusing.n_accepted - n) / 10 / workers
            refusing.stop()
            server.start()
            server.fill(100)
            until_right(client, kind, "m", time.monotonic())
            time.sleep(1)
            leaked = sum(common.harness.n_fds(pid) for pid in node.worker_pids()) - sum(fds)
        report.figure("%s: slowest until it is used again, %d times" % (kind, cycles), slowest, 2, unit="s")
        report.figure("%s: most connections, max = 8" % kind, most, 8)
        report.figure("%s: connections tried a second and worker while it refuses" % kind, tries, 2)
        report.figure("%s: descriptors more than at first" % kind, leaked, 2)


def until_right(client, kind, pool, begun):
    """Seconds until a call is answered rightly."""
    while time.monotonic() - begun < 30:
        with contextlib.suppress(RpcError):
            if client.call("back.get", kind, pool, "k1") == "value of k1.":
                break
        time.sleep(0.01)
    return time.monotonic() - begun


def connections(server):
    """To the server, with the one that asks and what else it counts."""
    if isinstance(server, servers.Redis):
        return int(server.info("clients")["connected_clients"])
    return int(server.stat("curr_connections"))


def k2(report):
    for kind in KINDS:
        k2_of(report, kind)


# ---- K4: more who want a connection than there are ----

def crowd(n, block_s):
    """n calls at once that hold a connection each, of 15 (and one that others share): what came of them, and what the
    node counted."""
    with servers.Redis() as server:
        conf = section("redis", "m", server.addr, max=16, waiting_max=1024, wait_ms=200)
        with Node(conf, servants=["back"], workers=1) as node:
            node.call("back.get", "redis", "m", "k")
            node.call("back.burst", "m", 15, "BLPOP", "nothing", "0.05")  # now all are there
            before = upstream(node, "redis", "m")
            done = node.call("back.burst", "m", n, "BLPOP", "nothing", str(block_s))
            after = upstream(node, "redis", "m")
            served = [i for i, (_, code) in enumerate(done) if not code]
            busy_ms = [us / 1000 for us, code in done if code == "POOL_BUSY"]
            return {"served": served, "busy_ms": busy_ms, "n": n, "codes": {c for _, c in done},
                    "overtaken": sum(i != k for k, i in enumerate(served)),
                    "busy": after["busy"] - before["busy"], "waits": after["waits"] - before["waits"],
                    "pinned": after["pinned"], "waiting": after["waiting"]}


def k4(report):
    got = crowd(500, 0.09)
    print("       %d served, %d refused after %.0f to %.0f ms" % (
        len(got["served"]), len(got["busy_ms"]), min(got["busy_ms"]), max(got["busy_ms"])))
    report.figure("answered otherwise", len(got["codes"] - {False, "POOL_BUSY"}), 0)
    report.figure("served out of turn", got["overtaken"], 0)
    report.figure("soonest refusal", min(got["busy_ms"]), 180, least=True, unit="ms")
    report.figure("latest refusal", max(got["busy_ms"]), 220, unit="ms")
    report.figure("refusals that were not counted", abs(got["busy"] - len(got["busy_ms"])), 0)
    report.figure("waits that were not counted", abs(got["waits"] - (500 - 15)), 0)
    report.figure("still waiting or held afterwards", got["pinned"] + got["waiting"], 0)


# ---- K5: connections that end while nobody uses them ----

def ended_while_idle(kind, n, pause_s=0):
    """Reads and writes after their connection was closed: what came of them. pause_s: between the end and the call."""
    got = {"reads": 0, "read_errors": {}, "writes": 0, "write_errors": {}, "twice": 0}
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(REAL[kind]())
        server.fill(10)
        stage = stack.enter_context(Stage())
        proxy = stage.open(ChaosProxy(server.addr))
        if kind == "redis":
            admin = stack.enter_context(stack.enter_context(server.connect()).makefile("rwb"))
            addr, end_all = server.addr, lambda i: servers.ask(admin, "CLIENT", "KILL", "TYPE", "normal")
        else:
            addr, end_all = proxy.addr, lambda i: proxy.close_all(reset=i % 4 > 1)
        node = stack.enter_context(Node(section(kind, "m", addr, **NO_BREAKER), servants=["back"], workers=1))
        client = stack.enter_context(node.client())
        client.call("back.set", kind, "m", "n", "0")
        for i in range(n):
            end_all(i)
            if pause_s:
                time.sleep(pause_s)
            what = "write" if i % 2 else "read"
            got[what + "s"] += 1
            try:
                if i % 2:
                    client.call("back.incr", kind, "m", "n")
                else:
                    assert client.call("back.get", kind, "m", "k%d" % (i % 10)) == servers.value_of(i % 10).decode()
            except RpcError as err:
                got[what + "_errors"][err.code] = got[what + "_errors"].get(err.code, 0) + 1
        done = int(client.call("back.get", kind, "m", "n"))
        failed = got["write_errors"]
        least = got["writes"] - sum(failed.values())
        got["twice"], got["lost"] = max(0, done - least - failed.get("UNKNOWN", 0)), max(0, least - done)
    return got


def k5(report):
    for kind in KINDS:
        for pause_s in (0, 0.002):
            got = ended_while_idle(kind, 10000, pause_s)
            print("       %s, %g s between: %s" % (kind, pause_s, got))
            report.figure("%s: reads that failed" % kind, sum(got["read_errors"].values()), 0)
            report.figure("%s: writes done twice or lost" % kind, got["twice"] + got["lost"], 0)
            if pause_s:
                report.figure("%s: writes that failed, %g s after it" % (kind, pause_s),
                              sum(got["write_errors"].values()), 0)


# ---- K6: what a borrower leaves behind ----

def leaks(n):
    """(exit code, output) of leaks_spec.lua, n times each habit."""
    with servers.Redis() as server, tempfile.TemporaryDirectory() as folder:
        conf = os.path.join(folder, "fae.lua")
        with open(conf, "w") as f:
            f.write('run_dir "%s"\n%s\n' % (folder, section("redis", "m", server.addr, max=3)))
        done = subprocess.run([common.harness.FAE, "test", "-c", conf, os.path.join(common.HERE, "leaks_spec.lua")],
                              env=dict(os.environ, FAE_LEAKS=str(n)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              universal_newlines=True, timeout=600)
        return done.returncode, done.stdout


def k6(report):
    code, out = leaks(1000)
    print("       " + out.strip().splitlines()[-1] if out else "")
    if code:
        print(out[-3000:])
    report.figure("habits of a borrower that leaked", code, 0)


# ---- K7: addresses that lead nowhere, names that are not told ----

def nft(namespace, *rules):
    text = "table inet fae {\n%s\n}\n" % "\n".join(rules)
    subprocess.run(["ip", "netns", "exec", namespace, "nft", "-f", "-"], input=text.encode(), check=True)


def k7_blackhole(report, kind):
    with common.other_machine("fae-k7"):
        nft("fae-k7", "chain in { type filter hook input priority 0; policy drop; }")
        conf = section(kind, "m", "10.233.77.2:7777", wait_ms=5000, connect_timeout_ms=1000, **NO_BREAKER)
        with Node(conf, servants=["back"], workers=1) as node:
            took = [node.call("back.get_timed", kind, "m", i) for i in range(20) if not time.sleep(0.2)]
            report.figure("%s: first refusal where nobody answers, least" % kind, took[0][0] / 1000, 950, least=True,
                          unit="ms")
            report.figure("%s: latest, connect_timeout_ms 1000" % kind, max(us for us, _ in took) / 1000, 1050,
                          unit="ms")
            report.figure("%s: answered otherwise than UNAVAILABLE" % kind, sum(c != "UNAVAILABLE" for _, c in took), 0)
            report.figure("%s: largest lag of the loop" % kind, lag_max_ms(node), 20, unit="ms")


class Dns(threading.Thread):
    """A name server on 127.9.9.9 that knows one address for every name, or says nothing while it has none."""

    ADDR = ("127.9.9.9", 53)

    def __init__(self):
        super().__init__(daemon=True)
        self.address, self.n_asked = None, 0
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(self.ADDR)
        self.start()

    def run(self):
        while True:
            query, who = self.sock.recvfrom(512)
            if query == b"end":
                return self.sock.close()
            self.n_asked += 1
            if self.address:
                end = query.index(b"\0", 12) + 5
                is_a = query[end - 4:end - 2] == b"\0\1"
                answer = b"\xc0\x0c\0\1\0\1\0\0\0\1\0\4" + socket.inet_aton(self.address) if is_a else b""
                head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
                self.sock.sendto(head + query[12:end] + answer, who)

    def stop(self):
        self.sock.sendto(b"end", self.ADDR)
        self.join()


CLONE_NEWNS, MS_REC, MS_PRIVATE, MS_BIND = 0x20000, 0x4000, 1 << 18, 0x1000


@contextlib.contextmanager
def other_names():
    """Processes that are born meanwhile ask Dns, in a mount namespace of their own."""
    libc = ctypes.CDLL(None, use_errno=True)
    with tempfile.NamedTemporaryFile("w") as conf:
        conf.write("nameserver %s\n" % Dns.ADDR[0])
        conf.flush()
        os.chmod(conf.name, 0o644)
        path = conf.name.encode()

        def prepare():
            if (libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)
                    or libc.mount(path, b"/etc/resolv.conf", None, MS_BIND, None)):
                os._exit(99)
        dns = Dns()
        try:
            with common.born(prepare):
                yield dns
        finally:
            dns.stop()


@contextlib.contextmanager
def named(kind):
    """A node whose server is a name, which hangs until names(address) is called: node, client, names, and servers on
    127.0.0.1 with keys k0 to k9, and on 127.0.0.2 with k0 to k19."""
    with REAL[kind]() as first, REAL[kind](host="127.0.0.2", port=first.port) as second, \
            tempfile.TemporaryDirectory() as folder:
        first.fill(10)
        second.fill(20)
        path = os.path.join(folder, "names")

        def names(address):
            with open(path + ".new", "w") as f:
                f.write("cache.example %s\n" % address)
            os.rename(path + ".new", path)
        names("hang")
        os.chmod(folder, 0o755)
        env = {"LD_PRELOAD": common.harness.shim("names"), "FAE_NAMES": path}
        conf = section(kind, "m", "cache.example:%d" % first.port, **NO_BREAKER)
        with Node(conf, servants=["back"], workers=1, env=env) as node, node.client(timeout=30) as client:
            yield node, client, names, first, second


def k7_names(report, kind):
    with REAL[kind]() as first, contextlib.ExitStack() as stack:
        second = stack.enter_context(REAL[kind](host="127.0.0.2", port=first.port))
        first.fill(10)
        second.fill(20)
        dns = stack.enter_context(other_names())
        conf = section(kind, "m", "cache.fae-test.example:%d" % first.port, wait_ms=1000, **NO_BREAKER)
        with Node(conf, servants=["back"], workers=1) as node, node.client(timeout=30) as client:
            took = [node.call("back.get_timed", kind, "m", i) for i in range(3)]
            report.figure("%s: latest answer while no name is told, wait_ms 1000" % kind,
                          max(us / 1000 for us, _ in took), 1050, unit="ms")
            report.figure("%s: asked the name server" % kind, dns.n_asked, 1, least=True)
            dns.address = "127.0.0.1"
            report.figure("%s: until it is used, once its name is told" % kind,
                          until_right(client, kind, "m", time.monotonic()), 12, unit="s")
            dns.address = "127.0.0.2"
            first.kill()
            begun = time.monotonic()
            took = until_right(client, kind, "m", begun)
            report.figure("%s: until the new address is used" % kind, took, 7, unit="s")
            is_new = client.call("back.get", kind, "m", "k19") == "value of k19."
            report.figure("%s: it is the new one" % kind, is_new, 1, least=True)
            report.figure("%s: largest lag of the loop" % kind, lag_max_ms(node), 20, unit="ms")


def k7(report):
    for kind in KINDS:
        k7_blackhole(report, kind)
        k7_names(report, kind)


# ---- K8: a line that loses packets ----

@contextlib.contextmanager
def far_away(namespace, to, delay_s):
    """The address of a proxy in another network namespace, before what listens there."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-B", os.path.join(common.HERE, "chaosproxy.py"),
               "--listen", "10.233.77.2:0", "--to", to, "--delay-s", str(delay_s / 2)]
    proxy = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield proxy.stdout.readline().split()[-1]
    finally:
        proxy.stdin.close()
        proxy.wait()


def k8_of(report, kind, seconds=60, rate=100):
    with common.other_machine("fae-k8"), contextlib.ExitStack() as stack:
        server = stack.enter_context(REAL[kind](host="10.233.77.2", prefix=["ip", "netns", "exec", "fae-k8"]))
        server.fill(100)
        addr = stack.enter_context(far_away("fae-k8", server.addr, 0.05))
        conf = section(kind, "m", addr, timeout_ms=5000, connect_timeout_ms=5000, wait_ms=5000)
        node = stack.enter_context(Node(conf, servants=["back"], workers=2))
        clock = Clock(node.tcp, 20, "back.get", lambda i: [kind, "m", "k%d" % (i % 100)], deadline_ms=5000)
        clock.run(rate, 2)
        drop = 'ifname "eth0" numgen random mod 100 < 5 drop;'
        nft("fae-k8", "chain in { type filter hook input priority 0; i%s }" % drop,
            "chain out { type filter hook output priority 0; o%s }" % drop)
        before = upstream(node, kind, "m")
        done = clock.run(rate, seconds)
        after = upstream(node, kind, "m")
        ok = [d for d in done if d[2] == "OK"]
        codes = {c: sum(d[2] == c for d in done) for c in {d[2] for d in done}}
        print("       %s: %s; p50 %.0f ms, p99 %.0f ms" % (
            kind, codes, *(1000 * quantile([d[1] for d in ok], share) for share in (0.5, 0.99))))
        report.figure("%s: right inside 5 s" % kind, 100 * len(ok) / (rate * seconds), 99.9, least=True, unit="%")
        report.figure("%s: transitions of its breaker a minute" % kind,
                      sum(after[k] - before[k] for k in TRANSITIONS) * 60 / seconds, 2)


TRANSITIONS = ("opened", "half_opened", "closed")


def k8(report):
    for kind in KINDS:
        k8_of(report, kind)


# ---- a frozen server beside a healthy one ----

def bench(node, key, seconds):
    """200 gets a second of one key, by `fae bench`: its process, and figures by wait_bench."""
    return subprocess.Popen([common.harness.FAE, "bench", "-s", node.tcp, "--json", "-d", str(seconds), "--rate", "200",
                             "-c", "10", "back.get", '"memcache"', '"m"', '"%s"' % key],
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def wait_bench(process):
    return json.loads(process.communicate(timeout=60)[0])


def frozen_beside_healthy(seconds):
    """Figures of gets to the healthy one of two memcached: before the other is stopped, and while it is."""
    with servers.Memcached() as a, servers.Memcached() as b:
        conf = section("memcache", "m", [a.addr, b.addr])
        with Node(conf, servants=["back"], workers=1) as node, node.client() as client:
            for i in range(100):
                client.call("back.set", "memcache", "m", "k%d" % i, "value of k%d." % i)
            healthy = [i for i in range(100) if a.get("k%d" % i)]
            frozen = [i for i in range(100) if b.get("k%d" % i)]
            assert len(healthy) + len(frozen) == 100 and min(len(healthy), len(frozen)) > 10, (healthy, frozen)
            before = wait_bench(bench(node, "k%d" % healthy[0], seconds))
            b.pause()
            try:
                other = bench(node, "k%d" % frozen[0], seconds)
                during = wait_bench(bench(node, "k%d" % healthy[0], seconds))
                spoilt = wait_bench(other)
            finally:
                b.go_on()
    assert spoilt["ok"] < spoilt["sent"] / 10, "it was not frozen: %s" % spoilt
    return before, during


def frozen(report):
    before, during = frozen_beside_healthy(20)
    report.figure("gets to the healthy one that failed", during["sent"] - during["ok"], 0)
    report.figure("their p99 over the one before", during["p99_us"] / before["p99_us"], 1.2, unit="x")
    report.figure("the slowest", during["max_us"] / 1000, 50, unit="ms")


# ---- a worker that dies with what all workers share ----

def on_worker(node, pid):
    """A client that this worker serves."""
    for _ in range(200):
        client = node.client(timeout=30)
        if client.call("back.pid") == pid:
            return client
        client.close()
    raise AssertionError("no session comes to worker %d" % pid)


def killed_with_slots():
    """A worker that holds 14 of 16 connections is killed: how many of 14 calls of the other one get theirs, and the
    codes of the rest."""
    with servers.Redis() as server:
        conf = section("redis", "m", server.addr, max=16, wait_ms=200)
        with Node(conf, servants=["back"], workers=2, expect=[r"worker-\d"]) as node:
            victim, other = node.worker_pids()
            holder, asker = on_worker(node, victim), on_worker(node, other)
            for _ in range(14):
                holder.start("back.call", "m", "BLPOP", "nothing", "30")
            wait_until("they are held", lambda: int(server.info("clients")["blocked_clients"]) == 14)
            os.kill(victim, signal.SIGKILL)
            wait_until("it is gone", lambda: victim not in node.worker_pids())
            done = asker.call("back.burst", "m", 14, "BLPOP", "nothing", "0.05")
            return sum(not code for _, code in done), [code for _, code in done if code]


def killed_with_probes():
    """A worker that holds the probes of a breaker is killed: how many it held, and seconds until the other worker is
    let through, once the server is good again."""
    with servers.Redis() as server, Stage() as stage:
        server.fill(10)
        conf = section("redis", "m", server.addr, breaker_open_ms=300, breaker_refusals=1, timeout_ms=30000,
                       connect_timeout_ms=30000, wait_ms=30000)
        with Node(conf, servants=["back"], workers=2, expect=[r"worker-\d"]) as node:
            victim, other = node.worker_pids()
            holder, asker = on_worker(node, victim), on_worker(node, other)
            server.kill()
            mute = None

            def is_open():
                holder.error("back.get", "redis", "m", "k1")
                return upstream(node, "redis", "m")["breaker"] == "open"
            wait_until("it is open", is_open, 10)
            mute = hostile.Redis(server.addr)
            stage.open(mute)
            mute.misbehave_always(hostile.silence)
            end = time.monotonic() + 10
            while upstream(node, "redis", "m")["probes"] < 3 and time.monotonic() < end:
                holder.start("back.get", "redis", "m", "k1")
                time.sleep(0.02)
            held = upstream(node, "redis", "m")["probes"]
            os.kill(victim, signal.SIGKILL)
            mute.stop()
            server.start()
            server.fill(10)
            return held, until_right(asker, "redis", "m", time.monotonic())


def killed(report):
    served, codes = killed_with_slots()
    print("       %s" % codes)
    report.figure("connections the other worker may have, of the 14 of a dead one", served, 14, least=True)
    held, took = killed_with_probes()
    report.figure("probes that the dead one held", held, 1, least=True)
    report.figure("until the other one is served", took, 3, unit="s")


TESTS = {
    "I9": ("1,000 scripts of a hostile redis and as many of a hostile memcached", i9),
    "K1": ("redis, then memcached, stopped for 30 s beside L", k1),
    "K2": ("redis, then memcached, killed and started 20 times", k2),
    "K3": ("1,000,000 gets of which the answers of one in a hundred are late", k3),
    "K4": ("500 blocking calls at once, max = 16", k4),
    "K5": ("connections closed 10,000 times while nobody used them", k5),
    "K6": ("connections given back in every state", k6),
    "K7": ("addresses that lead nowhere, name servers that say nothing, names that move", k7),
    "K8": ("5 % of packets lost, and 50 ms more", k8),
    "KF": ("one of two memcached stopped", frozen),
    "KW": ("a worker killed with a breaker's probes and a pool's connections", killed),
}
