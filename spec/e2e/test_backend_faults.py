# SPDX-License-Identifier: BSD-2-Clause
"""Redis and memcached that fail, freeze, lie and come back, behind a node. The long forms are rows of `make survive`
(spec/fault/backends.py), which also has what they share."""
import os
import sys

import pytest

from harness import LONG, ROOT, SLOW, Node, Stopwatch, wait_until

sys.path.insert(0, os.path.join(ROOT, "spec", "fault"))
import backends  # noqa: E402
import hostile  # noqa: E402
from stage import Stage  # noqa: E402

KINDS = backends.KINDS


def test_hostile_servers_cost_one_call():
    """I9."""
    in_time_ms, good_s = (50, 2) if LONG else (1000, 8)  # how busy the machine may be
    got = backends.hostile_servers(1000 if LONG else 60, 30, in_time_ms * SLOW, good_s * SLOW)
    assert not got["errors"] and not got["late"]
    assert got["deaths"] == 0
    assert got["peak_mib"] < 512 * SLOW
    assert sum(n for code, n in got["codes"].items() if code) > 20, "nothing was hurt: %s" % got["codes"]


ASK = """
local fae = require "fae"
local ask = fae.servant "ask"
local pool = fae.redis "m"
local asks = {
  function() return pool:hgetall "h" end,
  function() return pool:mget { "a", "b", "c", "d", "e", "f" } end,
  function() return pool:del { "a", "b", "c", "d", "e", "f" } end,
  function() return pool:keys "*" end,
  function() return pool:dbsize() end,
  function() return pool:multi("m", function(tx) tx:get "m" end) end,
}
ask.method("all", { timeout_ms = 20000 }, function()
  local codes = fae.array {}
  for i, fn in ipairs(asks) do
    local value, err = fn()
    codes[i] = value == nil and err.code or "OK"
  end
  return codes
end)
return ask
"""


@pytest.mark.parametrize("answer", [b":7\r\n", b"+seven\r\n", b"*1\r\n:7\r\n"])
def test_answers_of_a_kind_that_no_redis_gives(answer):
    """They are errors, or taken as they are where that makes sense; nothing raises."""
    async def lie(conn, good, fake, rng):
        await conn.send(good if good == b"+PONG\r\n" else answer)

    with Stage() as stage:
        fakes = [stage.open(hostile.Redis()) for _ in range(2)]
        for fake in fakes:
            fake.misbehave_always(lie)
        conf = backends.section("redis", "m", [fake.addr for fake in fakes], **backends.NO_BREAKER)
        with Node(conf, servants={"ask.lua": ASK}) as node:
            codes = node.call("ask.all")
    assert set(codes) <= {"OK", "BACKEND"} and "BACKEND" in codes, codes


LISTEN = """
local fae = require "fae"
local ask = fae.servant "listen"
local n = 0
local subscription = fae.redis "m":subscribe("c", function() n = n + 1 end)
ask.method("heard", {}, function() return { n = n, lost = subscription:stats().lost } end)
return ask
"""


def test_a_subscription_outlives_what_no_redis_sends():
    ack = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n"
    pushed = [b"$-1\r\n", ack + b"$-1\r\n", ack + b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$-1\r\n"]

    async def lie(conn, good, fake, rng):
        await conn.send(good if good == b"+PONG\r\n" else pushed[0])
        if good != b"+PONG\r\n":
            pushed.pop(0)
            await conn.swallow()

    with Stage() as stage:
        fake = stage.open(hostile.Redis())
        fake.misbehave_always(lie)
        with Node(backends.section("redis", "m", fake.addr), servants={"listen.lua": LISTEN}) as node:
            for left in (2, 1, 0):
                wait_until("it heard a lie", lambda: len(pushed) <= left, 10)
                assert node.call("listen.heard")["n"] == 0
                fake.close_all()
            fake.heal()
            wait_until("it hears", lambda: node.call("listen.heard")["n"] == 1, 8)


def test_no_late_answer_is_taken_for_another():
    """K3."""
    for how, got in backends.late_answers(1000000 if LONG else 10000, 0.01 if LONG else 0.05).items():
        assert got["wrong"] == 0, (how, got)
        assert got["codes"].get("TIMEOUT", 0) > 0 and got["ok"] > 1000, (how, got)


def test_who_waits_for_a_connection_is_served_in_order():
    """K4."""
    watch = Stopwatch()
    got = backends.crowd(200, 0.09)
    assert got["codes"] == {False, "POOL_BUSY"}
    assert len(got["served"]) >= 15 and got["overtaken"] == 0
    assert 180 <= min(got["busy_ms"]) and max(got["busy_ms"]) <= 200 + (100 if LONG else 1000) * SLOW + 1000 * watch.lost()
    assert got["busy"] == len(got["busy_ms"]) and got["waits"] == 200 - 15
    assert got["pinned"] == got["waiting"] == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("pause_s", [0, 0.002])
def test_connections_that_end_while_idle(kind, pause_s):
    """K5."""
    got = backends.ended_while_idle(kind, 10000 if LONG else 80, pause_s)
    assert not got["read_errors"] and not got["twice"] and not got["lost"]
    assert set(got["write_errors"]) <= {"UNKNOWN", "UNAVAILABLE"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_is_killed_and_comes_back(kind):
    """K2."""
    with backends.REAL[kind]() as server:
        server.fill(2)
        conf = backends.section(kind, "m", server.addr)
        with Node(conf, servants=["back"], workers=1) as node, node.client() as client:
            assert client.call("back.get", kind, "m", "k1") == "value of k1."
            server.kill()
            codes = {client.error("back.get", kind, "m", "k1").code for _ in range(20)}
            assert codes <= {"UNAVAILABLE", "CIRCUIT_OPEN"}
            server.start()
            server.fill(2)
            wait_until("it is used again", lambda: backends.is_right(client, kind, "m", "k1"), 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_breaker_whose_server_is_back_is_not_open_for_all_its_time(kind):
    """Nobody is let through, and so nobody would notice: the node looks by itself."""
    with backends.REAL[kind]() as server:
        server.fill(2)
        conf = backends.section(kind, "m", server.addr, breaker_refusals=1, breaker_open_ms=60000)
        with Node(conf, servants=["back"], workers=1) as node, node.client() as client:
            server.kill()
            wait_until("it is open", lambda: client.error("back.get", kind, "m", "k1").code == "CIRCUIT_OPEN", 5)
            server.start()
            server.fill(2)
            wait_until("it is used again", lambda: backends.is_right(client, kind, "m", "k1"), 5)


def test_a_backend_that_is_down_at_the_start():
    for kind in KINDS:
        with backends.REAL[kind]() as server:
            server.kill()
            conf = backends.section(kind, "m", server.addr, warm=1)
            with Node(conf, servants=["back"], workers=1) as node, node.client() as client:
                assert client.error("back.get", kind, "m", "k1").code in ("UNAVAILABLE", "CIRCUIT_OPEN")
                server.start()
                server.fill(2)
                wait_until("it is used", lambda: backends.is_right(client, kind, "m", "k1"), 3)


def test_faults_of_callers_open_no_breaker():
    redis, memcached = (backends.REAL[kind]() for kind in KINDS)
    with redis, memcached:
        pools = backends.section("redis", "m", redis.addr), backends.section("memcache", "m", memcached.addr)
        with Node("\n".join(pools), workers=1) as node, node.client() as c:
            c.call("rd.call", "m", "SET", "text", "x")
            c.call("mc.set", "m", "text", "x")
            for _ in range(30):
                wrong = c.error("rd.call", "m", "LPUSH", "text", "y")
                assert (wrong.code, "WRONGTYPE" in wrong.text) == ("BACKEND", True)
                assert "unknown command" in c.error("rd.call", "m", "NOSUCH", "k").text
                assert c.error("rd.call", "m", "SUBSCRIBE", "c").code == "BAD_ARGS"
                assert c.error("rd.call", "none", "GET", "k").code == "UNKNOWN_POOL"
                assert c.error("mc.get", "none", "k").code == "UNKNOWN_POOL"
                assert c.error("mc.get", "m", "a key").code == "BAD_ARGS"
                assert c.error("mc.incr", "m", "text").code == "BACKEND"
                assert c.error("mc.set", "m", "k", "x" * (1 << 20)).code in ("LIMIT", "BACKEND")
            for kind in KINDS:
                row = backends.upstream(node, kind, "m")
                assert (row["breaker"], row["opened"], row["window_failed"]) == ("closed", 0, 0), row
                assert row["errors"] >= 30 and row["lost"] == row["timeouts"] == 0, row


def test_a_frozen_memcached_beside_a_healthy_one():
    before, during = backends.frozen_beside_healthy(10 if LONG else 1)
    assert during["ok"] == during["sent"] > 100
    assert during["p90_us"] < max(10 * before["p90_us"], 3e5 * SLOW)


def test_a_killed_worker_leaves_no_connections_and_no_probes():
    served, codes = backends.killed_with_slots()
    assert (served, codes) == (14, [])
    held, took = backends.killed_with_probes()
    assert held >= 1 and took < 5 * SLOW


@pytest.mark.parametrize("kind", KINDS if LONG else KINDS[:1])
def test_names_that_hang_and_names_that_move(kind):
    """K7."""
    watch = Stopwatch()
    with backends.named(kind) as (node, client, names, first, second):
        us, code = client.call("back.get_timed", kind, "m", 1)
        assert code in ("UNAVAILABLE", "POOL_BUSY") and us < (4 * SLOW + watch.lost()) * 1e6
        assert backends.lag_max_ms(node) < 1000 * (SLOW + watch.lost())
        names("127.0.0.1")
        wait_until("the name is known", lambda: backends.is_right(client, kind, "m", "k1"), 8)
        if LONG:  # an answer is kept for 5 s
            names("127.0.0.2")
            first.kill()
            wait_until("the new address is used", lambda: backends.is_right(client, kind, "m", "k19"), 8)


def test_nothing_of_a_borrower_is_left():
    """K6."""
    code, out = backends.leaks(1000 if LONG else 10)
    assert code == 0, out
