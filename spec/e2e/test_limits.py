# SPDX-License-Identifier: BSD-2-Clause
"""Limits of calls and sessions, each with its code, its time to come again, and its counter; over two workers, since
they hold for the node (D4)."""
import re
import time
import urllib.request

import pytest

from harness import Closed, Node, RpcError, wait_until

EVERY_HOST = 'host_exempt ""\n'

# conf, method, of how many calls at once how many pass, code of the others, name of the limit
IN_FLIGHT = [
    ("calls_max(4)", "probe.wait", 4, "OVERLOAD", "calls_max"),
    (EVERY_HOST + "host_calls_max(3)", "probe.wait", 3, "HOST_OVERLOAD", "host_calls_max"),
    ('limit "probe.*" { calls = 2 }', "probe.wait", 2, "SERVANT_OVERLOAD", "servant_calls"),
    ('limit "probe.wait" { calls = 5 }', "probe.wait", 5, "METHOD_OVERLOAD", "method_calls"),
]
A_SECOND = [
    ("calls_rate(2)", 2, "RATE_LIMITED", "calls_rate"),
    ("calls_rate(2)\ncalls_burst(7)", 7, "RATE_LIMITED", "calls_rate"),
    (EVERY_HOST + "host_rate(2)", 2, "HOST_RATE_LIMITED", "host_rate"),
    (EVERY_HOST + "host_rate(2)\nhost_burst(5)", 5, "HOST_RATE_LIMITED", "host_rate"),
    ('limit "probe.*" { rate = 2 }', 2, "SERVANT_RATE_LIMITED", "servant_rate"),
    ('limit "probe.pid" { rate = 2, burst = 6 }', 6, "METHOD_RATE_LIMITED", "method_rate"),
]
N = 12


def clients(node, n, kind="tcp"):
    """With errors as maps, so that nobody has to read a sentence."""
    found = [node.client(kind) for _ in range(n)]
    for c in found:
        c.call("sys.hello", {"error": "map"})
    return found


def outcomes(pending):
    passed, errors = 0, []
    for c, msgid in pending:
        try:
            c.finish(msgid)
            passed += 1
        except RpcError as err:
            errors.append(err.value)
    return passed, errors


def metric(node, limit):
    with urllib.request.urlopen(node.admin + "/metrics", timeout=5) as answer:
        return int(re.search(r'^fae_limit_hits_total\{limit="%s"\} (\d+)' % limit, answer.read().decode(), re.M).group(1))


@pytest.mark.parametrize("conf, method, n, code, limit", IN_FLIGHT)
def test_calls_in_flight(conf, method, n, code, limit):
    with Node(conf, servants=["probe"], workers=2) as node:
        callers = clients(node, N)
        for _ in range(2):  # what was in flight is given back
            passed, errors = outcomes([(c, c.start(method, 400)) for c in callers])
            assert passed == n
            assert {e["code"] for e in errors} == {code}
            assert all(e["retryable"] and e["retry_after_ms"] > 0 for e in errors), errors
        assert node.stats()["node"]["limits"][limit] == metric(node, limit) == 2 * (N - n)
        for c in callers:
            c.close()


@pytest.mark.parametrize("conf, n, code, limit", A_SECOND)
def test_calls_a_second(conf, n, code, limit):
    with Node(conf, servants=["probe"], workers=2) as node:
        callers = [node.client() for _ in range(N)]
        wait_until("they are there", lambda: node.n_sessions() == N)
        passed, errors = outcomes([(c, c.start("probe.pid")) for c in callers])
        assert n <= passed <= n + 1  # of a slow machine's second
        assert {e.split(": ")[0] for e in errors} == {code}
        waits = [int(re.search(r"retry after (\d+) ms$", e).group(1)) for e in errors]
        assert all(0 < w <= 1000 * N for w in waits), errors
        assert node.stats()["node"]["limits"][limit] == metric(node, limit) == len(errors)
        time.sleep(min(waits) / 1000 + 0.02)
        callers[0].call("probe.pid")
        for c in callers:
            c.close()


def test_sessions_of_an_address():
    with Node(EVERY_HOST + "host_sessions_max(3)", workers=2) as node:
        inside = clients(node, 3)
        with node.client() as c:
            told = c.recv()
            assert told[:2] == [2, "sys.error"] and told[2][0].startswith("HOST_BUSY: "), told
            with pytest.raises(Closed):
                c.recv()
        for c in clients(node, 5, "unix"):  # nobody's address
            c.close()
        assert node.stats()["node"]["limits"]["host_sessions_max"] == metric(node, "host_sessions_max") == 1
        inside.pop().close()
        wait_until("one has left", lambda: node.n_sessions() == 2)
        inside += clients(node, 1)
        for c in inside:
            c.close()


def test_unfinished_messages():
    with Node('in_max "16MiB"', workers=2) as node:
        message = b"\x94\x00\x01\xa8sys.echo\x91\xc6" + (4000000).to_bytes(4, "big") + b"x" * 3999999
        holders = [node.client("unix" if i % 2 else "tcp") for i in range(20)]
        for c in holders:
            try:
                c.send(message)
            except OSError:
                pass
        wait_until("most are gone", lambda: node.n_sessions() <= 5)
        limits = node.stats()["node"]["limits"]
        assert limits["in_max"] == 20 - node.n_sessions() == metric(node, "in_max")
        assert node.call("sys.echo", 1) == 1
        for c in holders:
            c.close()


def test_notifications_are_dropped_and_counted():
    with Node('limit "probe.*" { calls = 1 }', servants=["probe"]) as node:
        with node.client() as c:
            waits = c.start("probe.wait", 300)
            for _ in range(5):
                c.notify("probe.note", "x")
            c.finish(waits)
            assert node.stats()["node"]["limits"]["notifications"] == 5
            c.notify("probe.note", "y")
            assert c.call("probe.noted") == [{"value": "y"}]
