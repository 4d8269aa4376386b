# SPDX-License-Identifier: BSD-2-Clause
"""Connections to real redis-servers: every way to reach and enter one, and what becomes of calls while servers are
killed, stopped, started again, throw us out, or come back with what was asked long ago."""
import os
import socket
import threading
import time

import pytest

from harness import LONG, Closed, Node, RpcError, free_port, memory_kib, n_fds, wait_until
from servers import Redis
from test_tls import Certificates

LOAD = """
local fae = require "fae"
local load = fae.servant "load"
local pool = fae.redis "main"

-- n gets side by side of keys whose values say whose they are: right and wrong ones, and errors by code
load.method("gets", { args = { "int", "int" }, timeout_ms = 2000 }, function(call, n, first)
  local fns, result = {}, { right = 0, wrong = 0 }
  for i = 1, n do
    fns[i] = function()
      local key = "k" .. (first + i) % 100
      local value, err = pool:get(key)
      if not value then result[err and err.code or "NIL"] = (result[err and err.code or "NIL"] or 0) + 1
      elseif value == "value of " .. key .. "." then result.right = result.right + 1
      else result.wrong = result.wrong + 1 end
    end
  end
  fae.parallel(fns)
  return result
end)

load.method("pops", { args = { "int" }, timeout_ms = 5000 }, function(call, n)
  local fns, result = {}, {}
  for i = 1, n do
    fns[i] = function()
      local value, err = pool:blpop("nothing", 0.01)
      local word = err and err.code or value or "nothing"
      result[word] = (result[word] or 0) + 1
    end
  end
  fae.parallel(fns)
  return result
end)

load.method("puts", { args = { "int", "int" }, timeout_ms = 150 }, function(call, n, bytes)
  local fns, value = {}, ("v"):rep(bytes)
  for i = 1, n do fns[i] = function() pool:set("put" .. i, i .. ":" .. value) end end
  fae.parallel(fns)
  return true
end)

load.method("hold", { timeout_ms = 600000 }, function() return pool:blpop("held", 600) end)
return load
"""


def pool_of(*servers, more=""):
    addrs = ", ".join('"%s"' % (s if isinstance(s, str) else s.addr) for s in servers)
    return 'redis "main" { servers = { %s }%s }\n' % (addrs, more)


def get_outcomes(client, seconds, method="rd.call", params=("main", "GET", "k1")):
    """Calls one after the other, and counts what comes of them."""
    counts, end = {}, time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            client.call(method, *params)
            word = "OK"
        except RpcError as err:
            word = err.code
        counts[word] = counts.get(word, 0) + 1
    return counts


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certificates(str(tmp_path_factory.mktemp("certs")))


# ---- ways in ----


class Guarded(Redis):
    HELLO = b'AUTH app "p w"\r\n'


def test_users_and_databases():
    args = ["--user", "app", "on", ">p w", "~*", "+@all", "--user", "reader", "on", ">r", "~*", "+get", "+select",
            "--user", "default", "off"]
    with Guarded(args=args) as redis:
        conf = "".join('redis "%s" { servers = "%s"%s }\n' % (name, redis.addr, more) for name, more in [
            ("app", ', user = "app", password = "p w"'),
            ("seven", ', user = "app", password = "p w", db = 7'),
            ("far", ', user = "app", password = "p w", db = 99'),
            ("reader", ', user = "reader", password = "r", db = 7'),
            ("wrong", ', user = "app", password = "other"'),
            ("nobody", ""),
        ])
        with Node(conf) as node, node.client() as c:
            assert c.call("rd.call", "app", "SET", "k", "zero") == "OK"
            assert c.call("rd.call", "seven", "SET", "k", "seven") == "OK"
            assert c.call("rd.call", "app", "GET", "k") == "zero"
            assert c.call("rd.call", "reader", "GET", "k") == "seven"
            err = c.error("rd.call", "reader", "SET", "k", "x")
            assert err.code == "BACKEND" and "NOPERM" in err.text
            for pool, text in [("far", "DB index is out of range"), ("wrong", "WRONGPASS"), ("nobody", "NOAUTH")]:
                for _ in range(8):  # it is our own fault: no breaker opens
                    err = c.error("rd.call", pool, "GET", "k")
                    assert err.code == "UNAVAILABLE" and text in err.text and "redis %s tcp://" % pool in err.text


def test_unix_and_names():
    with Redis() as redis:
        conf = 'redis "u" { servers = "unix:%s/redis.sock" }\nredis "n" { servers = "localhost:%d" }\n' % (
            redis.folder, redis.port)
        conf += 'redis "none" { servers = "no-such-name.invalid:6379" }\n'
        with Node(conf) as node, node.client() as c:
            assert c.call("rd.call", "u", "SET", "k", "v") == "OK"
            assert c.call("rd.call", "n", "GET", "k") == "v"
            err = c.error("rd.call", "none", "GET", "k")
            assert err.code == "UNAVAILABLE" and "no-such-name.invalid" in err.text


def two_free_ports():
    with socket.socket() as held:
        one = free_port()
        held.bind(("127.0.0.1", one))
        return one, free_port()


def tls_args(certs, port):
    return ["--tls-port", str(port), "--tls-cert-file", certs.path("node.pem"), "--tls-key-file", certs.path("node.key"),
            "--tls-ca-cert-file", certs.path("ca.pem")]


def test_tls(certs):
    plain_port, port = two_free_ports()
    with Redis(port=plain_port, args=tls_args(certs, port)):
        ca, own = ', ca = "%s"' % certs.path("ca.pem"), ', cert = "%s", key = "%s"' % (
            certs.path("shop.pem"), certs.path("shop.key"))
        conf = "".join('redis "%s" { servers = "tls://%s:%d"%s }\n' % (name, host, port, more) for name, host, more in [
            ("good", "127.0.0.1", ca + own),
            ("anonymous", "127.0.0.1", ca),
            ("misnamed", "localhost", ca + own),
            ("distrustful", "127.0.0.1", ', ca = "%s"' % certs.path("other.pem") + own),
        ])
        conf += 'redis "plain" { servers = "127.0.0.1:%d" }\n' % port
        conf += 'redis "mistaken" { servers = "tls://127.0.0.1:%d"%s }\n' % (plain_port, ca)
        with Node(conf) as node, node.client() as c:
            value = "x" * 200000  # many records
            assert c.call("rd.call", "good", "SET", "k", value) == "OK"
            assert c.call("rd.call", "good", "GET", "k") == value
            ids = [c.start("rd.call", "good", "GET", "k") for _ in range(50)]
            answers = {m[1]: m for m in (c.recv() for _ in ids)}
            assert all(answers[i][3] == value for i in ids)
            assert c.call("rd.pipeline", "good", [["INCR", "n"]] * 1000)[-1] == 1000
            for pool, text in [("anonymous", ""), ("misnamed", "mismatch"), ("distrustful", "certificate"),
                               ("plain", ""), ("mistaken", "")]:
                err = c.error("rd.call", pool, "GET", "k")
                assert err.code in ("UNAVAILABLE", "BACKEND") and text in err.text, (pool, err.value)


def test_tls_files_that_are_missing_are_the_pools_own_trouble(certs):
    with Redis() as redis:
        conf = pool_of(redis) + 'redis "t" { servers = "tls://127.0.0.1:1", ca = "/no/such/file" }\n'
        with Node(conf, expect=["/no/such/file"]) as node, node.client() as c:
            assert c.call("rd.call", "main", "SET", "k", "v") == "OK"
            err = c.error("rd.call", "t", "GET", "k")
            assert err.code == "UNAVAILABLE" and "/no/such/file" in err.text


def test_byte_by_byte():
    """Every read and write of the node is cut to one byte."""
    with Redis() as redis, Node(pool_of(redis), one_byte=True) as node, node.client() as c:
        value = "v" * 3000
        assert c.call("rd.call", "main", "SET", "k", value) == "OK"
        assert c.call("rd.call", "main", "GET", "k") == value
        assert c.call("rd.pipeline", "main", [["GET", "k"], ["LPUSH", "k", "x"], ["GET", "none"]])[::2] == [value, None]


# ---- values ----


def test_long_values():
    with Redis() as redis, Node(pool_of(redis) + 'message_max "1MiB"\n') as node, node.client() as c:
        value = os.urandom(1000000)
        assert c.call("rd.call", "main", "SET", "k", value) == "OK"
        assert c.call("rd.call", "main", "GET", "k") == value
        redis.ask("SET", "long", "x" * 3000000)
        redis.ask("RPUSH", "list", *["y" * 100000] * 30)
        before = redis.info("stats")["total_connections_received"]
        for _ in range(3):
            assert c.error("rd.call", "main", "GET", "long").code == "LIMIT"
            assert c.error("rd.call", "main", "LRANGE", "list", 0, -1).code == "LIMIT"
            assert c.call("rd.call", "main", "GET", "none") is None  # on the same connection
        assert int(redis.info("stats")["total_connections_received"]) == int(before) + 1
        rss = memory_kib(node.worker_pids()[0])
        redis.ask("SETRANGE", "long", 100000000, "x")
        assert c.error("rd.call", "main", "GET", "long").code in ("LIMIT", "TIMEOUT")
        assert memory_kib(node.worker_pids()[0]) < rss + 32 * 1024


# ---- servers that go and come ----


def test_down_at_the_start():
    with Redis() as redis:
        redis.kill()
        with Node(pool_of(redis)) as node, node.client() as c:
            err = c.error("rd.call", "main", "GET", "k")
            assert err.code == "UNAVAILABLE" and "Connection refused" in err.text
            get_outcomes(c, 0.2)
            redis.start()
            wait_until("it is used", lambda: get_outcomes(c, 0.02).get("OK"))


def test_killed_and_started_again():
    with Redis() as redis, Node(pool_of(redis), servants={"load.lua": LOAD}) as node, node.client() as c:
        redis.fill(100)
        c.call("load.gets", 64, 0)
        c.call("load.pops", 5)
        fds = None
        for _ in range(20 if LONG else 3):
            redis.kill()
            assert "OK" not in get_outcomes(c, 0.1)
            redis.start()
            redis.fill(100)
            wait_until("it is used again", lambda: c.call("load.gets", 64, 0)["right"] == 64)
            wait_until("all the way", lambda: c.call("load.pops", 5) == {"nothing": 5})
            wait_until("no more than 16", lambda: int(redis.info("clients")["connected_clients"]) <= 17)
            fds = fds or n_fds(node.worker_pids()[0])
            assert n_fds(node.worker_pids()[0]) <= fds + 4


def test_thrown_out_while_idle():
    """Gets never fail of it, and nothing is done twice."""
    with Redis() as redis, Node(pool_of(redis), servants={"load.lua": LOAD}) as node, node.client() as c:
        redis.fill(100)
        done = unsure = 0
        for i in range(10000 if LONG else 300):
            redis.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            if i % 2:
                assert c.call("load.gets", 3, i) == {"right": 3, "wrong": 0}
                continue
            try:
                c.call("rd.call", "main", "INCR", "n")
                done += 1
            except RpcError as err:
                assert err.code == "UNKNOWN"
                unsure += 1
        n = int(redis.ask("GET", "n"))
        assert done <= n <= done + unsure


def test_stopped_and_continued():
    """What is late is lost, and reaches nobody; another server has nothing to do with it."""
    more = ", timeout_ms = 150, connect_timeout_ms = 150, breaker_open_ms = 1000"
    with Redis() as redis, Redis() as other:
        conf = pool_of(redis, more=more) + 'redis "other" { servers = "%s" }\n' % other.addr
        with Node(conf, servants={"load.lua": LOAD}) as node, node.client() as c:
            redis.fill(100)
            assert c.call("load.gets", 64, 0) == {"right": 64, "wrong": 0}
            redis.pause()
            try:
                result = c.call("load.gets", 64, 0)
                assert result["right"] == 0 and result["wrong"] == 0 and result["TIMEOUT"] > 0, result
                assert c.error("rd.call", "main", "INCR", "n").code in ("UNKNOWN", "UNAVAILABLE", "CIRCUIT_OPEN")
                assert get_outcomes(c, 0.2, params=("other", "INCR", "n")).keys() == {"OK"}
                wait_until("the breaker opens", lambda: "CIRCUIT_OPEN" in c.call("load.gets", 30, 0), 10)
            finally:
                redis.go_on()
            wait_until("it is used again", lambda: c.call("load.gets", 64, 5)["right"] == 64, 15)


@pytest.mark.parametrize("way", ["plain", "tls"])
def test_given_up_while_the_server_does_not_read(certs, way):
    """What was not on its way by then is never done, what was is whole, and what follows is in step."""
    plain_port, port = two_free_ports()
    with Redis(port=plain_port, args=tls_args(certs, port)) as redis:
        addr = "tls://127.0.0.1:%d" % port if way == "tls" else redis.addr
        more = ', timeout_ms = 20000, ca = "%s", cert = "%s", key = "%s"' % (
            certs.path("ca.pem"), certs.path("shop.pem"), certs.path("shop.key"))
        with Node(pool_of(addr, more=more), servants={"load.lua": LOAD}) as node, node.client() as c:
            assert c.call("rd.call", "main", "SET", "k", "v") == "OK"
            redis.pause()
            try:
                for n, size in (3, 100000), (4000, 1500), (5, 300), (1000, 1500):
                    assert c.call("load.puts", n, size) is True
                late = [c.start("rd.call", "main", "INCR", "n") for _ in range(20)]
            finally:
                redis.go_on()
            assert sorted(c.recv()[3] for _ in late) == list(range(1, 21))
            for i in range(1, 4001):
                value = redis.ask("GET", "put%d" % i) if i % 100 == 0 or i < 10 else None
                assert value in [None] + ["%d:" % i + "v" * size for size in (100000, 1500, 300)]
            done = int(redis.info("commandstats")["cmdstat_set"].split(",")[0].split("=")[1])
            assert 3 < done < 5009
            assert redis.info("stats")["unexpected_error_replies"] == "0"


def test_late_answers_are_nobody_elses():
    """The server is stopped again and again, for longer and shorter than a call may take: each value says whose it is."""
    more = ", timeout_ms = 100, connect_timeout_ms = 1000, breaker_percent = 0"
    with Redis() as redis, Node(pool_of(redis, more=more), servants={"load.lua": LOAD}) as node:
        redis.fill(100)
        total, ends = {"right": 0, "wrong": 0}, threading.Event()

        def ask(first):
            with node.client() as c:
                while not ends.is_set():
                    for word, n in c.call("load.gets", 20, first).items():
                        total[word] = total.get(word, 0) + n
                    first += 7

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        try:
            for i in range(200 if LONG else 12):
                redis.pause()
                time.sleep(0.05 if i % 2 else 0.15)
                redis.go_on()
                time.sleep(0.05)
        finally:
            ends.set()
            for thread in threads:
                thread.join()
        assert total["wrong"] == 0 and total.get("NIL", 0) == 0, total
        assert total["right"] > 100 and total.get("TIMEOUT", 0) > 0, total


def test_of_two_servers_one_is_gone():
    with Redis() as one, Redis() as two, Node(pool_of(one, two)) as node, node.client() as c:
        keys = ["key:%d" % i for i in range(60)]
        for key in keys:
            assert c.call("rd.call", "main", "SET", key, key) == "OK"
        where = {key: one if one.ask("EXISTS", key) else two for key in keys}
        assert {one, two} == set(where.values())
        two.kill()
        for key in keys:
            if where[key] is one:
                assert c.call("rd.call", "main", "GET", key) == key
            else:
                assert c.error("rd.call", "main", "GET", key).code in ("UNAVAILABLE", "CIRCUIT_OPEN")


# ---- the node's own changes ----


def test_a_pool_that_changes_ends_with_its_last_call():
    with Redis() as redis, Redis() as other, Node(pool_of(redis), servants={"load.lua": LOAD}) as node:
        with node.client() as c, node.client() as waits:
            assert c.call("rd.call", "main", "SET", "k", "old") == "OK"
            other.ask("SET", "k", "new")
            held = waits.start("load.hold")
            wait_until("it waits", lambda: redis.info("clients")["blocked_clients"] == "1")
            with open(node.conf_path) as f:
                conf = f.read()
            with open(node.conf_path, "w") as f:
                f.write(conf.replace(redis.addr, other.addr))
            node.reload()
            wait_until("the new one serves", lambda: c.call("rd.call", "main", "GET", "k") == "new")
            redis.ask("RPUSH", "held", "x")
            assert waits.finish(held) == ["held", "x"]
            wait_until("nothing is left of it", lambda: redis.info("clients")["connected_clients"] == "1")


def test_connections_end_with_their_worker():
    with Redis() as redis:
        conf = pool_of(redis, more=", max = 3, wait_ms = 5000")
        with Node(conf, servants={"load.lua": LOAD}, expect=["died of signal 9"]) as node:
            for _ in range(3):
                with node.client() as c:
                    held = [c.start("load.hold") for _ in range(2)]
                    wait_until("they wait", lambda: redis.info("clients")["blocked_clients"] == "2")
                    before = node.worker_pids()
                    os.kill(before[0], 9)
                    with pytest.raises(Closed):
                        c.finish(held[0])
                wait_until("another is there", lambda: node.worker_pids() not in (before, []), 10)
            with node.client() as c:
                assert c.call("load.pops", 6) == {"nothing": 6}


def test_those_who_hang_up_leave_nothing():
    with Redis() as redis, Node(pool_of(redis, more=", max = 4, wait_ms = 5000"), servants={"load.lua": LOAD}) as node:
        for _ in range(10):
            with node.client() as c:
                for _ in range(3):
                    c.start("load.hold")
                wait_until("they wait", lambda: redis.info("clients")["blocked_clients"] == "3")
            wait_until("and do not", lambda: redis.info("clients")["blocked_clients"] == "0")
        with node.client() as c:
            assert c.call("load.pops", 9) == {"nothing": 9}
