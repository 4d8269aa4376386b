# SPDX-License-Identifier: BSD-2-Clause
"""lc, the cache that the workers of a node share: over RPC, over their deaths, and fae ctl cache."""
import os
import random
import re
import signal
import threading
import time
import urllib.request

import pytest

from harness import LONG, SLOW, Client, Node, RpcError, Stopwatch, wait_until

PIDS = """
local pid = require("fae.node").about
local fae = require "fae"
local who = fae.servant "who"
who.method("pid", function() return pid().pid end)
return who
"""


@pytest.fixture(scope="module")
def node():
    with Node('cache_size "32MiB"', {"who.lua": PIDS}, workers=2) as n:
        yield n


def workers(node):
    """pid -> a client of that worker."""
    found = {}
    for _ in range(200):
        c = Client(node.tcp)
        pid = c.call("who.pid")
        if pid in found:
            c.close()
        found.setdefault(pid, c)
        if len(found) == 2:
            return found
    raise AssertionError("all sessions came to one worker")


def cache_stats(node):
    result = node.ctl("cache", "stats")
    assert result.returncode == 0, result.stderr
    return {k: int(v) for k, v in re.findall(r"^(cache_\w+) (\d+)$", result.stdout, re.M)}


def test_workers_share_it(node):
    a, b = workers(node).values()
    with a, b:
        assert a.call("lc.set", "k", "from a") is True
        assert b.call("lc.get", "k") == "from a"
        found = b.call("lc.gets", "k")
        assert a.call("lc.cas", "k", "swapped", found["version"]) is True
        assert b.call("lc.cas", "k", "late", found["version"]) is False
        assert b.call("lc.get_many", ["k", "none"]) == {"k": "swapped"}
        for i in range(10):
            assert (a, b)[i % 2].call("lc.incr", "n", 2, {"init": 0, "ttl_ms": 60000}) == 2 * i
        assert a.call("lc.del", "k") is True
        assert b.call("lc.get", "k") is None


def test_a_version_from_before_a_restart_swaps_nothing(tmp_path):
    seen = []
    for value in ("before", "after"):
        with Node(folder=str(tmp_path)) as node, node.client() as c:
            c.call("lc.set", "k", value)
            assert not seen or c.call("lc.cas", "k", "lost", seen[0]) is False
            seen.append(c.call("lc.gets", "k")["version"])
            assert seen[-1] < 2 ** 53


def test_bytes_of_any_kind(node):
    with Client(node.tcp) as c:
        for key in ("k", b"\xff\xfe\x00", "é", "k" * 1024):
            for value in (b"", b"\x00", b"\xff" * 1000, b"x" * (1 << 20)):
                assert c.call("lc.set", key, value) is True
                got = c.call("lc.get", key)
                assert (got.encode() if isinstance(got, str) else got) == value


def test_wrong_input_is_an_exact_error(node):
    rows = [
        ("lc.get", (), "BAD_ARGS"),
        ("lc.get", (1,), "BAD_ARGS"),
        ("lc.get", (None,), "BAD_ARGS"),
        ("lc.get", ("",), "BAD_ARGS: the key is empty"),
        ("lc.get", ("k" * 1025,), "LIMIT: a key has at most 1024 bytes, not 1025"),
        ("lc.get", (b"\xff" * 1025,), "LIMIT: a key has at most 1024 bytes, not 1025"),
        ("lc.get", ("k" * 3000000,), "LIMIT: a key has at most 1024 bytes, not 3000000"),
        ("lc.set", ("k",), "BAD_ARGS"),
        ("lc.set", ("k", 1), "BAD_ARGS"),
        ("lc.set", ("k", {}), "BAD_ARGS"),
        ("lc.set", ("k", "v" * ((1 << 20) + 1)), "LIMIT: a value has at most 1048576 bytes, not 1048577"),
        ("lc.set", ("k", "v", 5), "BAD_ARGS"),
        ("lc.set", ("k", "v", {"ttl_ms": -1}), "BAD_ARGS: ttl_ms is 0, for ever, to 316224000000, not -1"),
        ("lc.set", ("k", "v", {"ttl_ms": 1 << 60}), "BAD_ARGS: ttl_ms is"),
        ("lc.set", ("k", "v", {"ttl_ms": 0.5}), "BAD_ARGS: ttl_ms is"),
        ("lc.set", ("k", "v", {"ttl_ms": float("nan")}), "BAD_ARGS: ttl_ms is"),
        ("lc.set", ("k", "v", {"ttl_ms": None}), "BAD_ARGS: ttl_ms is"),
        ("lc.set", ("k", "v", {"ttl_ms": "5"}), "BAD_ARGS: ttl_ms is"),
        ("lc.set", ("k", "v", {"expires": 5}), "BAD_ARGS: no option expires: there is ttl_ms"),
        ("lc.touch", ("k", -5), "BAD_ARGS: ttl_ms is"),
        ("lc.touch", ("k", 1 << 63), "BAD_ARGS: ttl_ms is"),
        ("lc.cas", ("k", "v", "1"), "BAD_ARGS"),
        ("lc.cas", ("k", "v", 1 << 62), "BAD_ARGS: a version is a number"),
        ("lc.incr", ("k", 1.5), "BAD_ARGS"),
        ("lc.incr", ("k", 1 << 63), "BAD_ARGS: what is added is an integer"),
        ("lc.incr", ("k", 1, {"init": "x"}), "BAD_ARGS: init is an integer"),
        ("lc.get_many", ("k",), "BAD_ARGS"),
        ("lc.get_many", (["k", 7],), "BAD_ARGS: key 2 is no string"),
        ("lc.get_many", (["k", ""],), "BAD_ARGS: the key is empty"),
        ("lc_get", ("k",), "CACHE_MISS: lcache missed: k"),
    ]
    with Client(node.tcp) as c:
        c.call("lc.flush")
        for method, params, error in rows:
            assert c.error(method, *params).value.startswith(error), (method, params)
        assert c.call("lc.stats")["items"] == 0
        c.call("lc.set", "word", "seven")
        assert c.error("lc.incr", "word").value == "BAD_ARGS: what is there is no integer"
        c.call("lc.set", "max", str((1 << 63) - 1))
        assert c.error("lc.incr", "max").value == "LIMIT: the sum is beyond 64 bits"
        assert c.call("lc.incr", "max", -1) == (1 << 63) - 2


def test_the_nodes_own_keys_are_not_for_clients(node):
    """Servant my keeps there on which shard an entity lies."""
    key = "\0my:shard:U:5"
    with node.client() as c:
        for method, args in [("set", ["U3"]), ("add", ["U3"]), ("replace", ["U3"]), ("cas", ["U3", 1]), ("incr", [1]),
                             ("del", []), ("touch", [1]), ("fae_del", [])]:
            err = c.error("lc." + method, key, *args)
            assert err.code == "BAD_ARGS" and "zero byte" in err.text, method
        assert c.call("lc.get", key) is None


def test_old_calls_with_their_context_first(node):
    ctx = {"rid": 7, "reason": "call.lc", "uid": 9}
    with Client(node.tcp) as c:
        assert c.call("lc_set", ctx, "old", b"\x01\xff") is True
        assert c.call("lc_get", ctx, "old") == b"\x01\xff"
        assert c.call("lc_get", "old") == b"\x01\xff"
        assert c.call("lc_del", ctx, "old") is None
        assert c.call("lc_del", ctx, "old") is None
        assert c.error("lc_get", ctx, "old").value == "CACHE_MISS: lcache missed: old"
        assert c.error("lc_get", ctx).code == "BAD_ARGS"


def test_what_is_counted(node):
    with Client(node.tcp) as c:
        c.call("lc.flush")
        before = cache_stats(node)
        for i in range(10):
            c.call("lc.set", "c%d" % i, "v")
            c.call("lc.get", "c%d" % i)
            c.call("lc.get", "d%d" % i)
        after = cache_stats(node)
        for name in ("sets", "hits", "misses"):
            assert after["cache_%s_total" % name] - before["cache_%s_total" % name] == 10
        assert after["cache_items"] == 10 and after["cache_size_bytes"] == 32 << 20
        assert c.call("sys.stats")["store"]["cache_items"] == 10
        assert c.call("lc.stats")["hits"] == after["cache_hits_total"]
        with urllib.request.urlopen(node.admin + "/metrics", timeout=10 * SLOW) as answer:
            assert "\nfae_cache_items 10\n" in answer.read().decode()


def memory_of(pid, region):
    """Bytes of that region that the process has touched."""
    with open("/proc/%d/smaps" % pid) as f:
        found = re.search(r"/memfd:fae-%s .*?\nRss: +(\d+) kB" % region, f.read(), re.S)
    return int(found.group(1)) << 10


def test_a_cache_that_nobody_uses_takes_no_memory(node):
    for pid in [node.process.pid] + worker_pids(node):
        assert memory_of(pid, "query_cache") < 256 << 10  # of 64 MiB


def test_flush_by_the_command_line(node):
    with Client(node.tcp) as c:
        c.call("lc.set", "k", "v")
        result = node.ctl("cache", "flush")
        assert result.returncode == 0 and cache_stats(node)["cache_items"] == 0
        assert c.call("lc.get", "k") is None
        assert c.call("lc.set", "k", "v") is True


def test_memory_is_bounded_whatever_the_sizes(node):
    rng = random.Random(5)
    with Client(node.tcp) as c:
        for i in range(1500):
            size = rng.choice((10, 100, 1000, 50000, 1 << 20 if i % 20 == 0 else 300))
            assert c.call("lc.set", "m%d" % i, b"\xff" * size) is True
        stats = cache_stats(node)
        assert stats["cache_bytes"] <= stats["cache_size_bytes"] == 32 << 20
        assert stats["cache_evictions_total"] > 0
        c.call("lc.flush")


# ---- deaths ----


def value_of(key, n):
    return "%s:%d:%s" % (key, n, "x" * (n % 300))


def hammer(node, stop, wrong, counts, seed):
    """Calls until told to stop; a session that is lost is made anew."""
    rng = random.Random(seed)
    c = None
    while not stop.is_set():
        try:
            c = c or Client(node.tcp)
            key = "h%d" % rng.randrange(200)
            if rng.random() < 0.5:
                c.call("lc.set", key, value_of(key, rng.randrange(100000)))
            else:
                got = c.call("lc.get", key)
                if got is not None and got != value_of(key, int(got.split(":")[1])):
                    wrong.append((key, got))
            counts[0] += 1
        except (RpcError, OSError, Exception) as error:  # noqa: B014: whatever a lost session looks like
            if isinstance(error, RpcError) and error.code not in ("UNAVAILABLE", "WORKER_LOST", "DRAINING"):
                wrong.append(error)
            if c:
                c.close()
            c = None
            time.sleep(0.01)
    if c:
        c.close()


def worker_pids(node):
    return [int(p) for p in re.findall(r"^worker-\d+ pid=(\d+) state=ready", node.ctl("status").stdout, re.M)]


def test_workers_die_and_the_cache_does_not():
    kills = 100 if LONG else 8
    with Node('cache_size "16MiB"', workers=2, expect=[r"worker-\d"]) as node:
        with Client(node.tcp) as c:
            c.call("lc.set", "survivor", "value")
        stop, wrong, counts = threading.Event(), [], [0]
        threads = [threading.Thread(target=hammer, args=(node, stop, wrong, counts, i)) for i in range(3)]
        for t in threads:
            t.start()
        rng = random.Random(1)
        for _ in range(kills):
            time.sleep(rng.uniform(0.05, 0.3))
            pids = wait_until("two workers are there", lambda: len(worker_pids(node)) == 2 and worker_pids(node))
            os.kill(rng.choice(pids), signal.SIGKILL)
        wait_until("two workers are there", lambda: len(worker_pids(node)) == 2)
        before = counts[0]
        wait_until("calls go on", lambda: counts[0] > before + 100, 30)
        stop.set()
        for t in threads:
            t.join()
        assert wrong == []
        resets = cache_stats(node)["cache_resets_total"]
        assert resets <= kills
        with Client(node.tcp) as c:
            assert c.call("lc.get", "survivor") == "value" or resets


def test_a_stopped_worker_holds_nobody_up(node):
    found = workers(node)
    (stopped, a), (_, b) = found.items()
    with a, b:
        b.call("lc.set", "k", "v")
        a.start("sys.noop")
        os.kill(stopped, signal.SIGSTOP)
        try:
            began = Stopwatch()
            for i in range(300):
                b.call("lc.set", "s%d" % i, "v")
                b.call("lc.get", "s%d" % i)
            assert began.seconds() < 3 * SLOW
        finally:
            os.kill(stopped, signal.SIGCONT)
