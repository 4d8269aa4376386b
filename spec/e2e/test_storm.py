# SPDX-License-Identifier: BSD-2-Clause
"""The connection storm of a shop with many php-fpm workers (R8): connect, one call, close, at a rate that the clock
gives, whatever the node does meanwhile. Made by `fae bench`, which counts a failed connect as a failed call under its
errno's name, and tries none again. FAE_LONG=1: 5,000 a second for 60 s, over unix and over tcp."""
import json
import subprocess

import pytest

from harness import FAE, LONG, SANITIZED, SLOW, Node, Stopwatch, n_fds, wait_until

RATE, SECONDS = (5000, 60) if LONG and not SANITIZED else (2000 // SLOW, 3)
DUE = RATE * SECONDS
CONNS = 3000  # at a time; what piles up fits into the backlog of 4096


@pytest.fixture(scope="module")
def node():
    with Node(workers=2) as node:
        yield node


def storm(addr, *more):
    done = subprocess.run([FAE, "bench", "-s", addr, "--json", "--connect-per-call", "-c", str(CONNS), "--rate",
                           str(RATE), "-d", str(SECONDS), *more, "sys.ping"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True,
                          timeout=SECONDS + 30 * SLOW)
    assert done.stdout.startswith("{"), done.stderr
    return json.loads(done.stdout)


def counted(node):
    """(calls of sys.ping, connections taken, deaths of workers)"""
    stats = node.stats()
    calls = [m["calls"] for m in stats["methods"] if m["name"] == "sys.ping"]
    return sum(calls), sum(w["accepted"] for w in stats["workers"]), sum(w["deaths"] for w in stats["workers"])


@pytest.mark.parametrize("kind", ["unix", "tcp"])
def test_a_connection_storm_is_served(node, kind):
    """One source address would run out of ports: a closed connection keeps its own for a minute."""
    node.call("sys.ping")
    calls, accepted, deaths = counted(node)
    n_open = [n_fds(pid) for pid in node.worker_pids()]
    watch = Stopwatch()
    seen = storm(node.unix) if kind == "unix" else storm(node.tcp, "--spread", "64")
    print("\n%s: %d of %d connected, %d failed %s, %.0f/s, p50 %.0f p99 %.0f p99.9 %.0f max %.0f us" % (
        kind, seen["connects"], DUE, seen["failed"], seen["errors"], seen["calls_per_s"], seen["p50_us"],
        seen["p99_us"], seen["p999_us"], seen["max_us"]))
    assert not {"ECONNREFUSED", "EAGAIN"} & set(seen["errors"]), seen["errors"]
    assert seen["failed"] <= DUE / 10000, seen["errors"]
    assert seen["stray"] == 0
    assert seen["sent"] >= 0.98 * DUE, "%d of %d calls were made" % (seen["sent"], DUE)
    assert seen["calls_per_s"] >= 0.95 * DUE / (SECONDS + watch.lost())
    assert seen["connects"] + seen["refused"] == seen["sent"], "not one connection a call"
    after = counted(node)
    assert seen["ok"] <= after[0] - calls <= seen["sent"]
    assert after[1] - accepted >= seen["connects"]
    assert after[2] == deaths
    wait_until("the sessions are gone", lambda: node.n_sessions() == 0)
    wait_until("so are the fds", lambda: [n_fds(pid) for pid in node.worker_pids()] == n_open)
