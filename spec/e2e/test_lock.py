# SPDX-License-Identifier: BSD-2-Clause
"""Locks over the wire: owners, leases, queues, sessions and workers that go away, crashes of the node, clocks that jump
(C7, C9, S8). FAE_LONG=1: more contenders, more kills."""
import json
import os
import random
import signal
import tempfile
import threading
import time

import pytest

from harness import LONG, SLOW, Client, Closed, Node, RpcError, Stopwatch, wait_until

SERVANT = """
local fae = require "fae"
local s = fae.servant "probe"
s.method("pid", {}, function() return require("fae.node").about().pid end)
s.method("slow", { args = { "string" }, timeout_ms = 150 }, function(_, key)
  return fae.lock.with(key, { lease_ms = 60000 }, function()
    pcall(fae.sleep, 10000)
    while true do pcall(fae.sleep, 10000) end
  end)
end)
s.method("many", { args = { "int" } }, function(_, n)
  for i = 1, n do
    local lock, err = fae.lock.acquire("many " .. i, { auto_release = true, lease_ms = 60000 })
    if not lock then return nil, err end
  end
end)
s.method("pairs", { args = { "int" } }, function(_, n)
  for _ = 1, n do
    local lock, err = fae.lock.acquire("pairs", { auto_release = true })
    if not lock then return nil, err end
    fae.lock.release("pairs", lock.token)
  end
end)
return s
"""
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


@pytest.fixture(scope="module")
def node():
    with Node(servants={"probe.lua": SERVANT}, workers=2) as n:
        yield n


def on_two_workers(node):
    """A client on each of two workers."""
    clients = {}
    while len(clients) < 2:
        c = node.client()
        pid = c.call("probe.pid")
        if pid in clients:
            c.close()
        else:
            clients[pid] = c
    return list(clients.values())


def store(node):
    return node.stats()["store"]


def test_one_has_it_at_a_time_on_any_worker(node):
    a, b = on_two_workers(node)
    mine = a.call("lock.acquire", "one", {"reason": "first"})
    assert sorted(mine) == ["fence", "key", "lease_ms", "token"]
    b.call("sys.hello", {"error": "map"})
    err = b.error("lock.acquire", "one")
    assert err.value["code"] == "LOCKED" and err.value["retryable"]
    assert err.value["detail"]["reason"] == "first"
    assert "token" not in json.dumps(err.value)
    msgid = b.start("lock.acquire", "one", {"wait_ms": 5000})
    wait_until("it waits", lambda: a.call("lock.info", "one")["waiting"] == 1)
    began = Stopwatch()
    assert a.call("lock.release", "one", mine["token"]) is True
    theirs = b.finish(msgid)
    assert began.seconds() < 2 * SLOW
    assert theirs["fence"] > mine["fence"] and theirs["token"] != mine["token"]
    assert a.error("lock.release", "one", mine["token"]).code == "NOT_OWNER"
    assert a.call("lock.release", "one", theirs["token"]) is True  # whoever has the token has the lock
    assert a.error("lock.info", "one").code == "NOT_FOUND"


def test_keys_of_bytes_and_bad_arguments(node):
    with node.client() as c:
        for key in (b"\xff\x00\xfe", "é", b"x" * 512):
            lock = c.call("lock.acquire", key)
            assert c.error("lock.acquire", key).code == "LOCKED"
            assert c.call("lock.release", key, lock["token"]) is True
        for args, code in [(("",), "BAD_ARGS"), (("x" * 513,), "LIMIT"), ((5,), "BAD_ARGS"), ((None,), "BAD_ARGS"),
                           (("k", 5), "BAD_ARGS"), (("k", {"lease_ms": -1}), "BAD_ARGS"), ((), "BAD_ARGS"),
                           (("k", {"lease_ms": 2 ** 63}), "BAD_ARGS"), (("k", {"lease_ms": 10 ** 9}), "LIMIT"),
                           (("k", {"wait_ms": "1"}), "BAD_ARGS"), (("k", {"other": 1}), "BAD_ARGS")]:
            assert c.error("lock.acquire", *args).code == code, args
        assert c.error("lock.info", "k").code == "NOT_FOUND"


def test_it_ends_with_the_session(node):
    a, b = on_two_workers(node)
    for i in range(3):
        a.call("lock.acquire", "mine %d" % i, {"auto_release": True, "lease_ms": 600000})
    a.call("lock.acquire", "kept", {"lease_ms": 600000})
    token = a.call("lock.acquire", "gone", {"auto_release": True})["token"]
    a.call("lock.release", "gone", token)
    token = a.call("lock.acquire", "mine 3", {"auto_release": True, "lease_ms": 600000})["token"]
    assert a.error("lock.release", "mine 2", token).code == "NOT_OWNER"  # which changes nothing
    msgid = b.start("lock.acquire", "mine 1", {"wait_ms": 5000})
    wait_until("it waits", lambda: a.call("lock.info", "mine 1")["waiting"] == 1)
    a.close()
    assert b.finish(msgid)["key"] == "mine 1"
    for key in ("mine 2", "mine 3"):
        assert b.call("lock.acquire", key, {"wait_ms": 5000})["key"] == key
    assert b.call("lock.info", "kept")["lease_ms"] == 600000
    b.call("lock.force", "kept")


def test_a_session_may_have_many(node):
    with node.client() as c:
        c.call("probe.many", 16384)
        began = Stopwatch()
        c.call("probe.pairs", 1000)  # each of which once looked at all that the session had
        assert began.seconds() < 0.3 * SLOW
    with node.client() as c:
        assert c.call("lock.acquire", "many 1", {"wait_ms": 5000})["key"] == "many 1"


def test_who_hangs_up_waits_no_longer(node):
    a, b = on_two_workers(node)
    mine = a.call("lock.acquire", "queue")
    c = node.client()
    c.start("lock.acquire", "queue", {"wait_ms": 60000})
    wait_until("it waits", lambda: a.call("lock.info", "queue")["waiting"] == 1)
    msgid = b.start("lock.acquire", "queue", {"wait_ms": 60000})
    wait_until("both wait", lambda: a.call("lock.info", "queue")["waiting"] == 2)
    c.close()
    wait_until("one waits", lambda: a.call("lock.info", "queue")["waiting"] == 1)
    a.call("lock.release", "queue", mine["token"])
    lock = b.finish(msgid)
    b.call("lock.release", "queue", lock["token"])


def test_what_is_dropped_at_its_deadline_lets_go(node):
    with node.client() as c:
        assert c.error("probe.slow", "dropped").code == "TIMEOUT"
        wait_until("it is free", lambda: c.call("lock.acquire", "dropped", {"wait_ms": 2000}))
        c.call("lock.force", "dropped")


def test_the_old_names(node):
    ctx = {"rid": 5, "reason": "shop.buy", "uid": 7}
    with node.client() as a, node.client() as b:
        assert a.call("lock", ctx, "buy", "old") is True
        assert b.call("lock", "buy", "old") is False
        assert b.call("unlock", ctx, "buy", "old") is None  # anybody may
        assert b.call("unlock", "buy", "old") is None
        assert b.call("lock", "buy", "old") is True
        assert a.call("unlock", "buy", "old") is None
    refused = wait_until("it is logged", lambda: [li for li in node.log().splitlines() if "a lock was refused" in li])
    assert all(word in refused[-1] for word in ("reason=buy", "key=old", "peer=tcp://127.0.0.1"))


def test_admins_see_them_and_take_them_away(node):
    with node.client() as c:
        c.call("lock.acquire", "admin's", {"reason": "nightly"})
        rows = [json.loads(line) for line in node.ctl("locks").stdout.splitlines() if line.startswith("{")]
        row = next(r for r in rows if r["key"] == "admin's")
        assert row["reason"] == "nightly" and row["who"].startswith("tcp://127.0.0.1:") and "token" not in row
        assert any(r["key"] == "admin's" for r in c.call("lock.list"))
        done = node.ctl("lock-release", "admin's")
        assert done.returncode == 0 and done.stdout.startswith("held for "), done
        assert c.error("lock.info", "admin's").code == "NOT_FOUND"
        assert node.ctl("lock-release", "admin's").returncode != 0
        assert node.ctl("locks", "x").returncode != 0
    wait_until("it is logged", lambda: 'lock \\"admin\'s\\", held by tcp://127.0.0.1' in node.log())


def test_a_herd_is_served_one_by_one_in_order(node):
    """C7: every release wakes one, numbers rise, and who came first is first."""
    n_clients, each = 10, 100
    before = store(node)["locks_handed_over_total"]
    owner = node.client()
    mine = owner.call("lock.acquire", "herd")
    fences, lock = [], threading.Lock()

    def contend(c):
        ids = [c.start("lock.acquire", "herd", {"wait_ms": 120000, "lease_ms": 60000}) for _ in range(each)]
        for msgid in ids:  # in the order they were sent
            got = c.finish(msgid)
            with lock:
                fences.append(got["fence"])
            with node.client() as other:
                other.call("lock.release", "herd", got["token"])

    clients = [node.client(timeout=120) for _ in range(n_clients)]
    threads = [threading.Thread(target=contend, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    wait_until("all wait", lambda: owner.call("lock.info", "herd")["waiting"] == n_clients * each, 30)
    owner.call("lock.release", "herd", mine["token"])
    for t in threads:
        t.join()
    assert len(fences) == n_clients * each
    assert fences == sorted(set(fences)) and fences[0] > mine["fence"]
    assert store(node)["locks_handed_over_total"] - before == n_clients * each
    for c in clients + [owner]:
        c.close()


def test_a_full_table_is_overload():
    with Node(conf="locks_max(64)") as node, node.client() as c:
        locks = [c.call("lock.acquire", "k%d" % i) for i in range(64)]
        assert c.error("lock.acquire", "one more").code == "OVERLOAD"
        assert c.error("lock", "why", "one more").code == "OVERLOAD"
        c.call("lock.release", "k5", locks[5]["token"])
        assert c.call("lock.acquire", "one more")


# ---- deaths ----


def test_nothing_is_given_after_a_crash_before_leases_are_over():
    with tempfile.TemporaryDirectory() as folder:
        node = Node(folder=folder)
        lock = node.call("lock.acquire", "k", {"lease_ms": 2000})
        node.kill()
        with Node(folder=folder) as node, node.client(timeout=30) as c:
            c.call("sys.hello", {"error": "map"})
            err = c.error("lock.acquire", "another").value
            assert err["code"] == "LOCKED" and 0 < err["retry_after_ms"] <= 3000, err
            assert c.call("lock", "why", "old") is False
            began = Stopwatch()
            got = c.call("lock.acquire", "k", {"wait_ms": 20000})
            assert got["fence"] > lock["fence"]
            assert began.elapsed() > 0.5
            c.call("lock.release", "k", got["token"])
        with Node(folder=folder) as node:  # after a good end
            later = node.call("lock.acquire", "k", {"lease_ms": 2000})
            assert later["fence"] > got["fence"]
        with Node(folder=folder) as node, node.client(timeout=30) as c:  # with that one held
            assert c.error("lock.acquire", "k").code == "LOCKED"
            assert c.call("lock.acquire", "k", {"wait_ms": 20000})["fence"] > later["fence"]


class Contender:
    """Takes locks of a few keys all the time, and notes when it had them, by the clock that leases follow."""

    def __init__(self, node, seed, keys):
        self.node, self.random, self.keys = node, random.Random(seed), keys
        self.grants, self.wrong, self.n_lost = [], [], 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    @staticmethod
    def now():
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def once(self, c):
        key, lease_ms = self.random.choice(self.keys), self.random.choice([30, 80, 200])
        options = {"lease_ms": lease_ms, "auto_release": self.random.random() < 0.5}
        if self.random.random() < 0.7:
            options["wait_ms"] = 2000
        asked = self.now()
        try:
            lock = c.call("lock.acquire", key, options)
        except RpcError as err:
            if err.code not in ("LOCKED",):
                self.wrong.append(str(err.value))
            return
        grant = {"key": key, "fence": lock["fence"], "got": self.now(), "bound": options["auto_release"],
                 # a lease begins when it was asked for at the earliest; of one waited for we only know that
                 "end": asked + lease_ms / 1000 if "wait_ms" not in options else None}
        self.grants.append(grant)
        time.sleep(self.random.random() * 0.01)
        if self.random.random() < 0.8:
            end = self.now()
            grant["end"] = min(grant["end"] or end, end)
            c.call("lock.release", key, lock["token"]) if end < asked + lease_ms / 1000 else None

    def run(self):
        c = None
        while not self.stop.is_set():
            try:
                c = c or Client(self.node.unix, timeout=20)
                self.once(c)
            except RpcError as err:
                if err.code != "NOT_OWNER":
                    self.wrong.append(str(err.value))
            except (Closed, OSError):
                self.n_lost += 1
                for grant in self.grants:  # its worker died, and its locks may have gone with it
                    if grant["bound"] and grant["end"] and grant["end"] > self.now() - 1:
                        grant["end"] = None
                c = None
        if c:
            c.close()


def test_nobody_has_it_twice_when_workers_are_killed():
    """S8: at random, while locks are held and waited for."""
    kills, keys = (100 if LONG else 12), ["a", "b", "c"]
    with Node(workers=3, expect=["died of signal 9"]) as node:
        contenders = [Contender(node, seed, keys) for seed in range(8)]
        dice = random.Random(5)
        for _ in range(kills):
            time.sleep(dice.random() * 0.3)
            pids = [pid for pid in node.worker_pids() if pid]
            if pids:
                os.kill(dice.choice(pids), signal.SIGKILL)
        time.sleep(0.5)
        for c in contenders:
            c.stop.set()
        for c in contenders:
            c.thread.join()
        assert not sum((c.wrong for c in contenders), [])
        grants = sorted((g for c in contenders for g in c.grants), key=lambda g: g["fence"])
        assert len(grants) > 50 and len({g["fence"] for g in grants}) == len(grants)
        assert sum(c.n_lost for c in contenders) > 0
        for key in keys:
            mine = [g for g in grants if g["key"] == key]
            for before, after in zip(mine, mine[1:]):
                assert before["end"] is None or after["got"] > before["end"], (before, after)
        wait_until("none is left", lambda: store(node)["locks_held"] == 0 and store(node)["locks_waiting"] == 0, 10)


def test_a_worker_stopped_inside_costs_no_other():
    """What it was at holds up who wants a lock; the watchdog ends it alone."""
    expect = [r"is silent for \d+ ms", "stuck:", "stopped by the watchdog", "died of signal 9"]
    with Node("watchdog_warn_ms(300)\nwatchdog_kill_ms(900)\nlocks_max(64)", servants={"probe.lua": SERVANT}, workers=2,
              expect=expect) as node:
        a, b = on_two_workers(node)
        victim, other = a.call("probe.pid"), b.call("probe.pid")
        hit = False
        for _ in range(400):
            a.start("probe.pairs", 20000)
            time.sleep(random.random() * 0.004)
            os.kill(victim, signal.SIGSTOP)
            began = Stopwatch()
            try:
                b.call("probe.pairs", 1)
            except RpcError as err:
                assert err.code in ("TIMEOUT", "LOCKED")  # the watchdog interrupts it; or it stopped while it had one
            hit = began.elapsed() > 0.2 * SLOW
            if hit:
                break
            os.kill(victim, signal.SIGCONT)
            a.recv()
        assert hit, "it was never stopped inside"
        assert b.call("probe.pid") == other
        wait_until("it was replaced", lambda: len(node.worker_pids()) == 2 and victim not in node.worker_pids())
        assert other in node.worker_pids()


@pytest.mark.parametrize("jump", ["+30d", "-30d"])
def test_a_clock_that_jumps_ends_no_lease(jump):
    """C9: the wall clock."""
    with tempfile.NamedTemporaryFile("w") as f:
        f.write("+0")
        f.flush()
        env = {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": f.name, "FAKETIME_NO_CACHE": "1",
               "DONT_FAKE_MONOTONIC": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with Node(env=env, servants={"probe.lua": SERVANT}) as node, node.client() as c:
            wall = c.call("sys.time")
            lock = c.call("lock.acquire", "k", {"lease_ms": 30000})
            short = c.call("lock.acquire", "short", {"lease_ms": 300})
            with open(f.name, "w") as g:
                g.write(jump)
            wait_until("the clock jumped", lambda: abs(c.call("sys.time") - wall) > 86400000)
            assert c.error("lock.acquire", "k").code == "LOCKED"
            assert c.call("lock.info", "k")["expires_in_ms"] > 10000
            assert c.call("lock.acquire", "short", {"wait_ms": 5000})["fence"] > short["fence"]
            assert c.call("lock.renew", "k", lock["token"]) is True
            assert c.call("lock.release", "k", lock["token"]) is True
