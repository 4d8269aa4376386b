# SPDX-License-Identifier: BSD-2-Clause
"""fae.redis, servant rd and the kv store with real redis-servers: specs of backends/ run by `fae test -c`, then what
needs a node: clients, reloads, workers."""
import os
import subprocess
import time

import pytest

from harness import FAE, ROOT, SLOW, Node, free_port, shim, wait_until
from servers import Redis

BACKENDS = os.path.join(ROOT, "spec", "e2e", "backends")


@pytest.fixture(scope="module")
def servers():
    with Redis() as one, Redis() as two, Redis() as three, Redis(args=["--requirepass", "sesame"]) as closed:
        yield [one, two, three, closed]


def listed(servers):
    return "{ %s }" % ", ".join('"%s"' % s.addr for s in servers)


def pools(servers):
    one, closed = servers[0], servers[3]
    return "\n".join([
        'redis "main" { servers = "%s" }' % one.addr,
        'redis "many" { servers = %s }' % listed(servers[:3]),
        'redis "jump" { servers = %s, select = "jump" }' % listed(servers[:3]),
        'redis "db" { servers = "%s", db = 3 }' % one.addr,
        'redis "unix" { servers = "unix:%s/redis.sock" }' % one.folder,
        'redis "closed" { servers = "%s", password = "sesame" }' % closed.addr,
        'redis "wrong" { servers = "%s", password = "open" }' % closed.addr,
        'redis "down" { servers = "127.0.0.1:%d" }' % free_port(),
    ]) + "\n"


def run_spec(tmp_path, conf, name, **env):
    path = tmp_path / "fae.lua"
    path.write_text(conf)
    done = subprocess.run([FAE, "test", "-c", str(path), os.path.join(BACKENDS, name)], cwd=ROOT, text=True,
                          env=dict(os.environ, **env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=120 * SLOW)
    assert done.returncode == 0, done.stdout[-6000:]
    assert " 0 failures / 0 errors / 0 pending" in done.stdout, done.stdout


@pytest.mark.parametrize("how", ["plain", "stress", "one_byte"])
def test_specs(servers, tmp_path, how):
    env = {"plain": {}, "stress": {"FAE_TEST_GC": "stress"}, "one_byte": {"LD_PRELOAD": shim("onebyte")}}[how]
    run_spec(tmp_path, pools(servers), "redis_spec.lua", **env)


@pytest.mark.parametrize("pool", ["main", "many"])
def test_kv_suite(servers, tmp_path, pool):
    run_spec(tmp_path, pools(servers) + 'kv_backend "redis:%s"\n' % pool, "kv_redis_spec.lua", KV_POOL=pool)


def test_a_wrong_configuration_runs_no_spec(tmp_path):
    path = tmp_path / "fae.lua"
    path.write_text('redis "x" { server = "127.0.0.1:1" }\n')
    done = subprocess.run([FAE, "test", "-c", str(path), BACKENDS], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 78
    assert "fae.lua:1:" in done.stderr


HEAR = """
local fae = require "fae"
local hear = fae.servant "hear"
local n, last = 0, nil
fae.redis("main"):subscribe("news", function(message) n, last = n + 1, message end)
fae.redis("main"):subscribe("once", function(message) fae.redis("main"):rpush("heard", message) end, { worker = 0 })
hear.method("count", function() return { n = n, last = last } end)
return hear
"""


def test_clients(servers):
    with Node(pools(servers)) as node, node.client() as c:
        assert c.call("rd.call", "main", "SET", "k", b"\x00\xff") == "OK"
        assert c.call("rd.call", "main", "GET", "k") == b"\x00\xff"
        assert c.call("rd.call", "main", "SET", "k", 2**60) == "OK"
        assert c.call("rd.call", "main", "INCR", "k") == 2**60 + 1
        assert c.call("rd_call", "INCR", "main", ["n"]) == "1"
        assert c.call("rd_call", "INCR", "main", ["n"], ctx={"rid": "1"}) == "2"
        replies = c.call("rd.pipeline", "main", [["SET", "s", "x"], ["LPUSH", "s", "y"], ["GET", "none"]])
        assert replies[0] == "OK" and replies[2] is None
        assert replies[1]["code"] == "BACKEND" and "WRONGTYPE" in replies[1]["message"]
        for params, code, text in [
            (["nobody", "GET", "k"], "UNKNOWN_POOL", "nobody"),
            (["main", "SUBSCRIBE", "k"], "BAD_ARGS", "pool:subscribe"),
            (["main", "Config", "GET", "requirepass"], "FORBIDDEN", "CONFIG"),
            (["main", "ACL", "LIST"], "FORBIDDEN", "ACL"),
            (["main", "SET", "k", ["nested"]], "BAD_ARGS", "argument 2"),
            (["main", "SET", "k", None], "BAD_ARGS", "argument 2"),
            (["main", "SET", "k", True], "BAD_ARGS", "argument 2"),
            (["main", "NOSUCH", "k"], "BACKEND", "unknown command"),
            (["main", "GET"], "BACKEND", "wrong number of arguments"),
            (["main", "GET", "k", "l"], "BACKEND", "wrong number of arguments"),
            (["main", "LPUSH", "k", "l"], "BACKEND", "WRONGTYPE"),
            (["many", "SINTER"] + ["user:%d" % i for i in range(30)], "BAD_ARGS", "several servers"),
            (["down", "GET", "k"], "UNAVAILABLE", "redis down tcp://127.0.0.1:"),
        ]:
            err = c.error("rd.call", *params)
            assert err.code == code and text in err.text, err.value
        assert c.error("rd.pipeline", "main", [["GET", "s"], ["acl", "LIST"]]).code == "FORBIDDEN"
        assert c.error("rd_call", "config", "main", ["GET", "requirepass"]).code == "FORBIDDEN"


def test_keys_lie_where_fae_put_them(servers):
    """The ring is that of host:port; test_selector.c has the vectors."""
    with Node(pools(servers)) as node, node.client() as c:
        import bisect
        import zlib
        points = sorted((zlib.crc32(b"%d%s" % (i, s.addr.encode())), s.addr) for s in servers[:3] for i in range(32))
        where = {s.addr: s for s in servers[:3]}
        for i in range(50):
            key = "place:%d" % i
            c.call("rd.call", "many", "SET", key, "here")
            at = bisect.bisect_left([p for p, _ in points], zlib.crc32(key.encode())) % len(points)
            assert where[points[at][1]].ask("GET", key) == "here"


def test_subscriptions_live_with_their_generation(servers):
    redis = servers[0]
    redis.ask("DEL", "heard")
    with Node(pools(servers), servants={"hear.lua": HEAR}, workers=2) as node:
        with node.client() as c:
            wait_until("both workers hear", lambda: redis.ask("PUBLISH", "news", "a") == 2)
            wait_until("one hears alone", lambda: redis.ask("PUBSUB", "NUMSUB", "once") == ["once", 1])
            redis.ask("PUBLISH", "once", "1")
            wait_until("it is told", lambda: redis.ask("LRANGE", "heard", 0, -1) == ["1"])
            wait_until("heard", lambda: c.call("hear.count")["n"] > 0)
            node.write("hear.lua", HEAR.replace('"news"', '"other"'))
            node.reload("--wait")
            wait_until("the new ones hear", lambda: redis.ask("PUBLISH", "other", "b") == 2)
            wait_until("the old ones do not", lambda: redis.ask("PUBLISH", "news", "c") == 0)
            wait_until("heard", lambda: c.call("hear.count")["last"] == "b")
            node.expect.append("died of signal 9")
            old = set(node.worker_pids())
            for pid in old:
                os.kill(pid, 9)
            wait_until("workers are there", lambda: len(set(node.worker_pids()) - old) == 2, 10)
            wait_until("those of the new ones hear", lambda: redis.ask("PUBLISH", "other", "d") == 2, 10)


def test_a_kv_store_in_redis_is_every_workers(servers):
    with Node(pools(servers) + 'kv_backend "redis:many"', workers=2) as node:
        clients = [node.client() for _ in range(6)]
        for i, c in enumerate(clients):
            assert c.call("kv.set", "w%d" % i, "v%d" % i) is True
        for c in clients:
            assert c.call("kv.get_many", ["w%d" % i for i in range(6)]) == {"w%d" % i: "v%d" % i for i in range(6)}
            assert c.error("kv.export", 1).code == "UNAVAILABLE"
            c.close()


POP = """
local fae = require "fae"
local pop = fae.servant "pop"
pop.method("one", { args = { "string", "int" }, timeout_ms = 600 }, function(call, key, seconds)
  local item, err = fae.redis("main"):blpop(key, seconds)
  if err then return nil, err end
  return item or "nothing"
end)
return pop
"""


def test_what_blocks_ends_before_its_call(servers):
    """And takes nothing that nobody gets any more."""
    redis = servers[0]
    redis.ask("DEL", "jobs")
    with Node(pools(servers), servants={"pop.lua": POP}) as node, node.client() as c:
        assert c.call("pop.one", "jobs", 30) == "nothing"
        redis.ask("RPUSH", "jobs", "a", "b")
        assert c.call("pop.one", "jobs", 30) == ["jobs", "a"]
        assert redis.ask("LRANGE", "jobs", 0, -1) == ["b"]
        redis.ask("DEL", "jobs")
        for msgid in [c.start("pop.one", "jobs", 0) for _ in range(3)]:
            assert c.recv()[2:] == [None, "nothing"], msgid


def test_a_reload_takes_pools_and_brings_them(servers):
    with Node(pools(servers)) as node, node.client() as c:
        assert c.call("rd.call", "main", "SET", "k", "v") == "OK"
        assert c.error("rd.call", "late", "GET", "k").code == "UNKNOWN_POOL"
        with open(node.conf_path) as f:
            conf = f.read()
        with open(node.conf_path, "w") as f:
            f.write(conf.replace('redis "main"', 'redis "late"'))
        node.reload("--wait")
        assert c.call("rd.call", "late", "GET", "k") == "v"
        assert c.error("rd.call", "main", "GET", "k").code == "UNKNOWN_POOL"


HURRY = """
local fae = require "fae"
local hurry = fae.servant "hurry"
local many = fae.redis "many"
hurry.method("flush", { args = {}, timeout_ms = 150 }, function() return many:flushall() end)
hurry.method("sizes", { args = {}, timeout_ms = 150 }, function() return many:dbsize() end)
return hurry
"""


def test_what_was_sent_to_several_servers_may_have_been_done(servers):
    """The call's time is over first: its pieces are under way."""
    with Node(pools(servers), servants={"hurry.lua": HURRY}) as node, node.client() as c:
        c.call("hurry.sizes")
        for server in servers[:2]:
            server.pause()
        try:
            assert c.error("hurry.sizes").code == "TIMEOUT"
            assert c.error("hurry.flush").code == "UNKNOWN"
        finally:
            for server in servers[:2]:
                server.go_on()


def test_a_reload_changes_how_long_a_value_may_be(servers):
    """Also for a pool that stays as it is, and its connection."""
    value = "x" * 200000
    with Node('redis "main" { servers = "%s" }\nmessage_max "100KiB"' % servers[0].addr) as node:
        with node.client() as c:
            assert c.call("rd.call", "main", "SET", "k", "v") == "OK"
            servers[0].ask("SET", "long", value)
            assert c.error("rd.call", "main", "GET", "long").code == "LIMIT"
        with open(node.conf_path) as f:
            conf = f.read()
        with open(node.conf_path, "w") as f:
            f.write(conf.replace("100KiB", "1MiB"))
        node.reload("--wait")
        with node.client() as c:
            assert c.call("rd.call", "main", "SET", "k", value) == "OK"
            time.sleep(0.2)
            assert c.call("rd.call", "main", "GET", "long") == value


def test_a_pool_says_that_it_has_too_few_connections(servers):
    two = '\n'.join('redis "%s" { servers = "%s", max = %d }' % (name, servers[0].addr, n)
                    for name, n in (("few", 2), ("enough", 3)))
    with Node(two, workers=2) as node, node.client() as c:
        assert c.call("rd.call", "few", "PING") == "PONG"
        assert c.error("rd.call", "few", "BLPOP", "nothing here", 1).code == "POOL_BUSY"
        assert c.call("rd.call", "enough", "BLPOP", "nothing here", 0.01) is None
        assert node.log().count("redis few: max is 2, and each of 2 workers") == 1
        assert "redis enough: max" not in node.log()


def test_a_pool_that_was_replaced_holds_up_nobody(servers):
    """It has all connections there may be, and its borrower has seconds left."""
    conf = 'redis "main" { servers = "%s", max = 2, timeout_ms = 900 }' % servers[0].addr
    with Node(conf) as node, node.client() as c, node.client() as blocked:
        assert c.call("rd.call", "main", "SET", "k", "v") == "OK"
        msgid = blocked.start("rd.call", "main", "BLPOP", "nothing here", 3)
        wait_until("it is blocked", lambda: "cmd=blpop" in servers[0].ask("CLIENT", "LIST"))
        with open(node.conf_path) as f:
            conf = f.read()
        with open(node.conf_path, "w") as f:
            f.write(conf.replace("timeout_ms = 900", "timeout_ms = 901"))
        node.reload("--wait")
        assert c.call("rd.call", "main", "GET", "k") == "v"
        assert blocked.finish(msgid) is None


def test_what_would_spoil_a_connection_for_others_is_not_sent(servers):
    with Node('redis "main" { servers = "%s" }' % servers[0].addr) as node, node.client() as c:
        c.call("rd.call", "main", "SET", "k", "v")
        n = servers[0].info("stats")["total_connections_received"]
        for words in (["SCRIPT", "DEBUG", "YES"], ["script", "debug", "SYNC"], ["POST", "/"], ["post"]):
            assert c.error("rd.call", "main", *words).code == "BAD_ARGS", words
            assert c.error("rd.pipeline", "main", [words]).code == "BAD_ARGS", words
        assert c.call("rd.call", "main", "EVAL", "return 'fine'", 0) == "fine"
        assert c.call("rd.call", "main", "GET", "k") == "v"
        assert int(servers[0].info("stats")["total_connections_received"]) == int(n) + 1, "only we asked"
        assert c.error("rd.call", "main\0x", "GET", "k").code == "UNKNOWN_POOL"


def test_what_scripts_answer_is_their_callers_affair_alone(servers):
    """Deeper than hiredis reads, lines longer than any of redis' own: the shared connection lives."""
    def lists(n):
        return "return " + "{" * n + "7" + "}" * n

    with Node(pools(servers)) as node, node.client() as c:
        c.call("rd.call", "main", "SET", "k", "v")
        n_made = servers[0].info("stats")["total_connections_received"]
        for n in (7, 8, 20, 60):
            reply = c.call("rd.call", "main", "EVAL", lists(n), 0)
            for _ in range(n):
                assert len(reply) == 1
                reply = reply[0]
            assert reply == 7
        for script, code in [
            (lists(100), "LIMIT"),
            ("return redis.error_reply(('x'):rep(100000))", "BACKEND"),
            ("return redis.error_reply(('x'):rep(3000000))", "LIMIT"),
            ("return redis.status_reply(('x'):rep(3000000))", "LIMIT"),
        ]:
            assert c.error("rd.call", "main", "EVAL", script, 0).code == code, script
        assert len(c.call("rd.call", "main", "EVAL", "return redis.status_reply(('x'):rep(100000))", 0)) == 100000
        assert int(servers[0].info("stats")["total_connections_received"]) == int(n_made) + 1, "only we asked"


def test_a_store_in_redis_needs_no_local_one(servers):
    with Node(pools(servers) + 'kv(false)\nkv_backend "redis:main"') as node, node.client() as c:
        assert c.call("kv.set", "alone", "v") is True
        assert c.call("kv.get", "alone") == "v"
        assert c.call("kv.scan", "{a}")["items"] == []
