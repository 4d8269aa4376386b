# SPDX-License-Identifier: BSD-2-Clause
"""Verbs of fae.ctl that look at sessions and workers, and that take a node or a worker out of service."""
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import SLOW, Closed, Node, RpcError, Stopwatch, is_alive, wait_until

SERVANT = """
local fae = require "fae"
local s = fae.servant "a"
s.method("sleep", { args = { "int" }, timeout_ms = 20000 }, function(call, ms) fae.sleep(ms) return ms end)
s.method("big", { args = { "int" } }, function(call, n) return ("x"):rep(n) end)
s.method("litter", { args = { "int" } }, function(call, n)
  local t = {}
  for i = 1, n do t[i] = { i } end
  return #t
end)
return s
"""


@pytest.fixture
def node():
    with Node(servants={"a.lua": SERVANT}, workers=2, conf="drain_ms(3000) drain_spread_ms(500)") as n:
        yield n


def ok(result):
    assert result.returncode == 0, result.stderr
    return result.stdout


def sessions(node, *args):
    rows = {}
    for line in ok(node.ctl("sessions", *args)).splitlines():
        name, _, rest = line.partition(" ")
        if ":" in name:
            rows[name] = dict(f.split("=", 1) for f in rest.split())
    return rows


def row_of(node, client):
    peer = "tcp://%s:%d" % client.sock.getsockname()
    found = [(name, row) for name, row in sessions(node, "200").items() if row["peer"] == peer]
    assert len(found) == 1, found
    return found[0]


def ready(node):
    """What /readyz says."""
    host, port = node.admin[len("http://"):].rsplit(":", 1)
    with socket.create_connection((host, int(port))) as s:
        s.settimeout(10)
        s.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        data = b""
        while True:
            more = s.recv(65536)
            if not more:
                return int(data.split()[1]), data.partition(b"\r\n\r\n")[2].decode().strip()
            data += more


# ---- sessions ----


def test_sessions_are_shown(node):
    with node.client() as a, node.client("unix") as b:
        for _ in range(3):
            a.call("sys.ping")
        b.start("a.sleep", 10000)
        name, row = row_of(node, a)
        assert row["listener"] == "tcp" and row["calls"] == "3" and row["in_flight"] == "0" and row["unsent"] == "0"
        assert int(row["age_s"]) < 60
        wait_until("the call is in flight",
                   lambda: any((r["peer"][:5], r["in_flight"]) == ("unix:", "1") for r in sessions(node).values()))
        out = ok(node.ctl("sessions"))
        assert out.splitlines()[-1] == "2 shown of 2"


def test_the_busiest_sessions_come_first_and_no_more_than_asked(node):
    clients = [node.client() for _ in range(40)]
    clients[20].start("a.sleep", 10000)
    wait_until("the call is in flight", lambda: any(r["in_flight"] == "1" for r in sessions(node, "1").values()))
    first = sessions(node, "1")
    assert len(first) <= 2
    wait_until("the workers have counted them", lambda: node.n_sessions() == 40)
    shown = len(sessions(node, "200"))
    assert shown == 40
    assert ok(node.ctl("sessions", "3")).splitlines()[-1] == "%d shown of 40" % len(sessions(node, "3"))
    for c in clients:
        c.close()


def test_unsent_bytes_are_shown(node):
    with node.client() as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        for _ in range(6):
            c.start("a.big", 1000000)
        wait_until("answers wait", lambda: int(row_of(node, c)[1]["unsent"]) > 100000)


def test_many_sessions_do_not_overflow_the_mailbox(node):
    clients = [node.client() for _ in range(450)]
    wait_until("the workers have counted them", lambda: node.n_sessions() == 450)
    rows = sessions(node, "1000")
    # 200 of a worker; how the kernel spreads connections over the workers is its own affair
    held = [int(n) for n in re.findall(r"^worker\S* .*\bsessions=(\d+)", ok(node.ctl("status")), re.M)]
    assert sum(held) == 450 and len(rows) == sum(min(n, 200) for n in held)
    assert node.reload().returncode == 0
    for c in clients:
        c.close()


def test_help_tells_of_every_verb(node):
    """reload is a command of its own."""
    listed = node.ctl("no-such-verb").stderr.split("there are: ")[1]
    verbs = {verb.split()[0] for verb in listed.split(", ")} - {"reload"}
    told = node.run("ctl", "--help").stdout
    assert "slowlog" in verbs
    assert not [verb for verb in verbs if "\n  %s " % verb not in told and "\n  %s\n" % verb not in told]


def test_usage(node):
    for words in ["sessions", "0"], ["sessions", "x"], ["sessions", "1 2"], ["session-close"], ["session-close", "1"], \
            ["session-close", "7:1"], ["session-close", "0:x"], ["session-close", "peer="], ["drain", "2"], \
            ["drain", "x"], ["drain", "0 1"]:
        result = node.ctl(*words)
        assert result.returncode == 1 and "BAD_ARGS" in result.stderr, (words, result.stderr)


def test_a_session_is_closed(node):
    with node.client() as a, node.client() as b:
        a.start("a.sleep", 10000)
        b.call("sys.ping")
        name, _ = row_of(node, a)
        out = ok(node.ctl("session-close", name))
        assert out.splitlines()[-1] == "1 closed" and name in out
        with pytest.raises(Closed):
            while True:
                a.recv()
        assert b.call("sys.ping").startswith("ver:")
        result = node.ctl("session-close", name)
        assert result.returncode == 1 and "NOT_FOUND" in result.stderr


def test_sessions_of_an_address_are_closed(node):
    clients = [node.client() for _ in range(6)]
    with node.client("unix") as other:
        for c in clients:
            c.call("sys.ping")
        peer = "%s:%d" % clients[0].sock.getsockname()
        assert ok(node.ctl("session-close", "peer=" + peer)).splitlines()[-1] == "1 closed"
        assert not clients[0].read_bytes(1)
        assert ok(node.ctl("session-close", "peer=127.0.0.1")).splitlines()[-1] == "5 closed"
        for c in clients:
            assert not c.read_bytes(1)
            c.close()
        assert other.call("sys.ping").startswith("ver:")


def test_a_silent_worker_is_named_and_not_waited_for():
    with Node(servants={"a.lua": SERVANT}, workers=2, conf="watchdog(false)") as node:
        pid = node.worker_pids()[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            started = Stopwatch()
            out = ok(node.ctl("sessions"))
            assert started.seconds() < 2 * SLOW
            assert "worker-0 state=silent" in out
            # Several at once wait for one another, each is answered.
            results = []
            threads = [threading.Thread(target=lambda: results.append(node.ctl("sessions"))) for _ in range(3)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
            assert [r.returncode for r in results] == [0, 0, 0]
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_until("it answers again", lambda: "state=silent" not in ok(node.ctl("sessions")))


# ---- garbage ----


def test_gc(node):
    for _ in range(8):
        with node.client() as c:
            c.call("a.litter", 20000)
    lines = [line for line in ok(node.ctl("gc")).splitlines() if line.startswith("worker-")]
    rows = [{k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)} for line in lines]
    assert len(rows) == 2
    assert all(r["after"] <= r["before"] for r in rows)
    assert sum(r["before"] - r["after"] for r in rows) > 100000
    assert node.call("sys.ping").startswith("ver:")


# ---- servants, hist ----


def test_servants(node):
    out = ok(node.ctl("servants")).splitlines()
    assert "servants/a.lua bytes=%d" % len(SERVANT) in out
    assert out[-1] == "generation 1, previous 0"
    node.reload()
    assert ok(node.ctl("servants")).splitlines()[-1] == "generation 2, previous 1"


def test_hist(node):
    with node.client() as c:
        for _ in range(5):
            c.call("sys.ping")
        with pytest.raises(RpcError):
            c.call("a.sleep", "x")
    rows = {line.split()[0]: line for line in ok(node.ctl("hist")).splitlines()}
    fields = dict(f.split("=") for f in rows["sys.ping"].split()[1:])
    assert (fields["calls"], fields["errors"]) == ("5", "0")
    assert sum(int(b.split(":")[1]) for b in fields["hist"].split(",") if b) == 5
    assert "errors=1" in rows["a.sleep"]


# ---- drain ----


def refused(node, kind="tcp"):
    """A connection is told why, and closed."""
    with node.client(kind, timeout=0.3) as c:
        try:
            message = c.recv()
        except (Closed, socket.timeout):
            return False
        assert message[:2] == [2, "sys.error"] and message[2][0].startswith("DRAINING: "), message
        return not c.read_bytes(1)


def test_a_drained_node_refuses_the_new_and_finishes_the_old(node):
    with node.client() as busy, node.client() as idle:
        idle.call("sys.ping")
        call = busy.start("a.sleep", 1000)
        assert busy.is_open()
        ok(node.ctl("drain"))
        ok(node.ctl("drain"))  # again changes nothing
        assert ready(node) == (503, "drained by an operator")
        assert ok(node.ctl("status")).splitlines()[0].endswith(" drained")
        wait_until("the idle session is closed", lambda: not idle.is_open())

        for kind in "tcp", "unix":
            wait_until("connections are refused", lambda: refused(node, kind))
        assert busy.finish(call) == 1000
        wait_until("its session is closed then", lambda: not busy.is_open())
    assert node.reload().returncode == 0
    ok(node.ctl("undrain"))
    ok(node.ctl("undrain"))
    assert ready(node) == (200, "ok")

    def served():
        with node.client() as c:
            try:
                return c.call("sys.ping").startswith("ver:")
            except (Closed, AssertionError, BrokenPipeError, ConnectionResetError):
                return False

    wait_until("connections are served", served)


def test_a_respawned_worker_stays_drained():
    with Node(workers=1, expect=["died of signal 9"]) as node:
        ok(node.ctl("drain"))
        os.kill(node.worker_pids()[0], signal.SIGKILL)
        wait_until("a worker is back", lambda: node.workers()["worker-0"]["state"] == "ready")
        assert ready(node)[0] == 503

        wait_until("it refuses too", lambda: refused(node))
        assert ready(node)[0] == 503


def test_a_drained_worker_is_replaced(node):
    pids = node.worker_pids()
    clients = []
    while len({row_of(node, c)[0].split(":")[0] for c in clients}) < 2:
        clients.append(node.client())
        clients[-1].call("sys.ping")
    mine = [c for c in clients if row_of(node, c)[0].startswith("1:")]
    others = [c for c in clients if c not in mine]
    call = mine[0].start("a.sleep", 700)
    wait_until("the call is in flight", lambda: row_of(node, mine[0])[1]["in_flight"] == "1")
    out = ok(node.ctl("drain", "1"))
    assert "worker-1 finishes its calls" in out
    assert ready(node) == (200, "ok")
    for _ in range(50):
        assert node.call("sys.ping").startswith("ver:")  # the other takes its connections
    assert mine[0].finish(call) == 700
    wait_until("it is gone", lambda: not is_alive(pids[1]))
    wait_until("another is there", lambda: node.workers()["worker-1"]["state"] == "ready")
    after = node.worker_pids()
    assert after[0] == pids[0] and after[1] != pids[1]
    assert others[0].call("sys.ping").startswith("ver:")
    for c in clients:
        c.close()
    result = node.ctl("drain", "1")
    assert result.returncode == 0


def test_the_last_worker_is_not_drained():
    with Node(workers=1) as node:
        result = node.ctl("drain", "0")
        assert result.returncode == 1 and "UNAVAILABLE" in result.stderr and "no other worker" in result.stderr
        assert node.call("sys.ping").startswith("ver:")


def test_a_drained_node_stops(node):
    ok(node.ctl("drain"))
    assert node.ctl("stop").returncode == 0
