# SPDX-License-Identifier: BSD-2-Clause
"""Memcached behind a node: servants mc and fae.memcache against real servers, which are killed, stopped and started again."""
import os
import signal
import socket
import subprocess
import threading
import time
import zlib

import pytest

from harness import SLOW, Client, Closed, Node, RpcError, Stopwatch, free_port, n_fds, raw_many, request, wait_until

TRACE = """
local fae = require "fae"
local trace = fae.servant "trace"
trace.method("servers", { args = { "string", "string" } }, function(_, pool, key)
  return fae.memcache(pool):servers(key)
end)
trace.method("many", { args = { "string", "array" } }, function(_, pool, keys)
  local values, flags, err = fae.memcache(pool):get_many(keys)
  if not values then return nil, flags end
  return { values = fae.map(values), flags = fae.map(flags), err = err and err.code or fae.null }
end)
trace.method("cas_race", { args = { "string", "string", "int" } }, function(_, pool, key, n)
  local memcache, lost = fae.memcache(pool), 0
  for _ = 1, n do
    while true do
      local value, flags, cas = memcache:get(key)
      if not value then return nil, flags end
      local stored, err = memcache:cas(key, tostring(tonumber(value) + 1), cas)
      if err then return nil, err end
      if stored then break end
      lost = lost + 1
    end
  end
  return lost
end)
trace.method("own_deadline", { args = { "string", "string" }, timeout_ms = 150 }, function(_, pool, key)
  return fae.memcache(pool):get(key)
end)
return trace
"""


class Memcached:
    """A real one on a port that it keeps."""

    def __init__(self, *args):
        self.port = free_port()
        self.args = args
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            ["memcached", "-l", "127.0.0.1", "-p", str(self.port), "-U", "0", "-u", "nobody", "-m", "64"] + list(self.args),
            stderr=subprocess.DEVNULL)
        wait_until("memcached listens", self.listens)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return True
        except OSError:
            return False

    @property
    def addr(self):
        return "127.0.0.1:%d" % self.port

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def stopped(self):
        return Stopped(self.process.pid)

    def ask(self, text, end=b"END\r\n"):
        """The answer to bare bytes."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as s:
            s.sendall(text)
            data = b""
            while not data.endswith(end):
                more = s.recv(65536)
                assert more, data
                data += more
        return data

    def get(self, key):
        data = self.ask(b"get %s\r\n" % key.encode())
        return None if data == b"END\r\n" else data.split(b"\r\n", 1)[1][:-len(b"\r\nEND\r\n")]

    def flush(self):
        assert self.ask(b"flush_all\r\n", b"\r\n") == b"OK\r\n"


class Stopped:
    def __init__(self, pid):
        self.pid = pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        wait_until("it has stopped", lambda: all(state == "T" for state in self.states()))

    def states(self):
        """Of its threads, each of which stops by itself."""
        for thread in os.listdir("/proc/%d/task" % self.pid):
            with open("/proc/%d/task/%s/stat" % (self.pid, thread)) as f:
                yield f.read().rsplit(")", 1)[1].split()[0]

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


CONF = """
memcache "main" { servers = { %(all)s } }
memcache "one" { servers = "%(a)s" }
memcache "modulo" { servers = { %(all)s }, select = "modulo" }
memcache "two" { servers = { %(all)s }, replica_num = 2, timeout_ms = 400 }
memcache "short" { servers = { %(all)s }, timeout_ms = 200, breaker_percent = 0 }
memcache "breaks" { servers = { %(all)s }, timeout_ms = 100, breaker_calls = 5, breaker_open_ms = 500 }
memcache "small" { servers = "%(a)s", value_max = 1000 }
memcache "dead" { servers = "127.0.0.1:1" }
"""


class Three:
    """Three servers and a node that uses them."""

    def __init__(self):
        self.servers = [Memcached() for _ in range(3)]
        addrs = [s.addr for s in self.servers]
        conf = CONF % {"a": addrs[0], "all": ", ".join('"%s"' % a for a in addrs)}
        self.node = Node(conf, {"trace.lua": TRACE}, workers=1)

    def client(self):
        return Client(self.node.tcp)

    def of(self, client, pool, key):
        """The servers that have the key, as the node says."""
        names = client.call("trace.servers", pool, key)
        return [next(s for s in self.servers if name == "tcp://" + s.addr) for name in names]

    def key_on(self, client, pool, server, word="key"):
        """A key whose first server this is."""
        return next(k for k in ("%s%d" % (word, i) for i in range(1000)) if self.of(client, pool, k)[0] is server)


@pytest.fixture(scope="module")
def world():
    three = Three()
    try:
        with three.node:
            yield three
    finally:
        for server in three.servers:
            server.kill()


@pytest.fixture
def c(world):
    for server in world.servers:
        server.flush()
    with world.client() as client:
        yield client


def test_every_method(world, c):
    assert c.call("mc.get", "main", "k") is None
    assert c.call("mc.set", "main", "k", "one") is True
    assert c.call("mc.get", "main", "k") == "one"
    assert c.call("mc.add", "main", "k", "x") is False
    assert c.call("mc.replace", "main", "none", "x") is False
    assert c.call("mc.append", "main", "k", "+") is True
    assert c.call("mc.prepend", "main", "k", "-") is True
    found = c.call("mc.gets", "main", "k")
    assert found["value"] == "-one+" and found["flags"] == 0
    assert c.call("mc.cas", "main", "k", "two", found["cas"]) is True
    assert c.call("mc.cas", "main", "k", "late", found["cas"]) is False
    assert c.call("mc.cas", "main", "none", "x", found["cas"]) is False
    assert c.call("mc.touch", "main", "k", 100) is True
    assert c.call("mc.touch", "main", "none", 100) is False
    assert c.call("mc.delete", "main", "k") is True
    assert c.call("mc.delete", "main", "k") is False
    assert c.call("mc.incr", "main", "n") is None
    assert c.call("mc.incr", "main", "n", 1, {"initial": 10, "ttl": 60}) == 10
    assert c.call("mc.incr", "main", "n", 5) == 15
    assert c.call("mc.decr", "main", "n", 100) == 0
    assert c.call("mc.add", "main", "k", "x", {"ttl": 0, "flags": 3}) is True
    assert c.call("mc.gets", "main", "k")["flags"] == 3


def test_numbers_of_64_bits(c):
    assert c.call("mc.set", "main", "n", str(2 ** 64 - 2)) is True
    assert c.call("mc.incr", "main", "n", 1) == 2 ** 64 - 1
    assert c.call("mc.incr", "main", "n", 2) == 1
    assert c.call("mc.incr", "main", "m", 1, {"initial": 2 ** 64 - 1}) == 2 ** 64 - 1
    assert c.call("mc.decr", "main", "m", 2 ** 63) == 2 ** 63 - 1


def test_faes_old_names(c):
    assert c.call("mc_set", "main", "k", {"data": "x", "flags": 5}, 60) is True
    assert c.call("mc_set", {"rid": "r"}, "main", "k", {"data": b"\xff\x00", "flags": 5}, 0) is True
    assert c.call("mc_get", "main", "k") == {"data": b"\xff\x00", "flags": 5}
    miss = c.error("mc_get", "main", "none")
    assert (miss.code, miss.text) == ("CACHE_MISS", "memcache: cache miss")
    assert c.call("mc_add", "main", "k", {"data": "x", "flags": 0}, 0) is False
    assert c.call("mc_delete", "main", "k") is True
    assert c.call("mc_delete", "main", "k") is False
    assert c.call("mc_increment", "main", "n", 3) == 0
    c.call("mc.set", "main", "n", "10")
    assert c.call("mc_increment", "main", "n", 3) == 13
    assert c.call("mc_increment", "main", "n", -4) == 9
    c.call("mc.set", "main", "n", "word")  # D14: an error is no 0
    assert c.error("mc_increment", "main", "n", 3).code == "BACKEND"


def to_bytes(value):
    """What is UTF-8 comes back as str."""
    return value if isinstance(value, bytes) else value.encode()


def test_bytes_and_flags_come_back(c):
    for key in ("k", "é", "k" * 250, "a!~"):
        for value in ("", b"\x00\xff\r\nEND\r\n", b"VALUE k 0 1\r\n" * 100, "é" * 1000, b"\xff" * 900000):
            for flags in (0, 1, 2 ** 32 - 1):
                assert c.call("mc.set", "main", key, value, {"flags": flags}) is True
                found = c.call("mc.gets", "main", key)
                assert to_bytes(found["value"]) == to_bytes(value) and found["flags"] == flags


def test_errors_are_exact(world, c):
    for key in ("", "k" * 251, "a b", "a\n", "a\x7f", "a\x00"):
        assert c.error("mc.get", "main", key).code == "BAD_ARGS"
        assert c.error("mc.set", "main", key, "x").code == "BAD_ARGS"
    err = c.error("mc.get", "none", "k")
    assert (err.code, err.text) == ("UNKNOWN_POOL", 'there is no memcache pool "none"')
    err = c.error("mc.set", "small", "k", "x" * 1001)
    assert err.code == "LIMIT" and "value_max" in err.text
    err = c.error("mc.set", "main", "k", "x" * (1 << 20))  # with its header more than an item may be
    assert err.code == "LIMIT" and "SERVER_ERROR object too large for cache" in err.text
    assert c.call("mc.set", "one", "k", "x" * 1001) is True
    err = c.error("mc.get", "small", "k")
    assert err.code == "LIMIT" and "the value has 1001 bytes" in err.text
    assert c.call("mc.get", "one", "k") == "x" * 1001
    c.call("mc.set", "main", "w", "word")
    err = c.error("mc.incr", "main", "w")
    assert err.code == "BACKEND"
    assert err.text.startswith("memcache main tcp://127.0.0.1:") and "non-numeric" in err.text
    for options in ({"ttl": -1}, {"ttl": 1.5}, {"flags": -1}, {"flags": 2 ** 32}, {"tll": 1}):
        assert c.error("mc.set", "main", "k", "x", options).code == "BAD_ARGS"
    assert c.error("mc.incr", "main", "n", -1).code == "BAD_ARGS"
    # none of this was the servers' fault
    assert "left alone" not in world.node.log()


def test_time_to_live(world, c):
    month = 30 * 86400
    for ttl, is_there in ((0, True), (100, True), (month, True), (month + 1, True), (365 * 86400, True)):
        c.call("mc.set", "one", "k", "x", {"ttl": ttl})
        assert (c.call("mc.get", "one", "k") == "x") == is_there
    c.call("mc.set", "one", "k", "x", {"expires": -1})
    assert c.call("mc.get", "one", "k") is None
    c.call("mc_set", "one", "k", {"data": "x"}, int(time.time()) + 3600)
    assert c.call("mc.get", "one", "k") == "x"
    c.call("mc_set", "one", "k", {"data": "x"}, 2592001)  # a time in 1970, as memcached takes it
    assert c.call("mc.get", "one", "k") is None


def test_modulo_is_faes(world, c):
    """D12, D13: the place in the configuration, of this pool's servers alone."""
    for i in range(200):
        key = "user:%d" % i
        server = world.servers[(zlib.crc32(key.encode()) >> 16 & 0x7fff) % 3]
        assert world.of(c, "modulo", key) == [server]
        c.call("mc.set", "modulo", key, "v%d" % i)
        assert server.get(key) == b"v%d" % i


def test_get_many_over_all_servers(world, c):
    keys = ["k%d" % i for i in range(1000)]
    for key in keys[::2]:
        c.call("mc.set", "main", key, "v" + key, {"flags": 7})
    assert len({world.of(c, "main", k)[0].port for k in keys[:100]}) == 3
    found = c.call("trace.many", "main", keys)
    assert found["values"] == {k: "v" + k for k in keys[::2]}
    assert set(found["flags"].values()) == {7} and found["err"] is None
    assert c.call("mc.get_many", "main", []) == {}
    assert c.call("mc.get_many", "main", ["k0", "k0", "k1"]) == {"k0": "vk0"}
    assert c.error("mc.get_many", "main", ["k0", "a b"]).code == "BAD_ARGS"
    assert c.error("mc.get_many", "main", ["k%d" % i for i in range(10001)]).code == "LIMIT"
    for i in range(6):
        c.call("mc.set", "main", "big%d" % i, "x" * 900000)
    assert c.error("mc.get_many", "main", ["big%d" % i for i in range(6)]).code == "LIMIT"


def test_gets_of_many_calls_find_their_own(c):
    """Self-identifying values, pipelined, hits and misses, among sets of the same keys."""
    n = 3000
    for i in range(0, n, 2):
        c.call("mc.set", "main", "k%d" % i, "v%d" % i)
    answers = raw_many(c, [request(i, "mc.get", "main", "k%d" % i) for i in range(n)])
    for i in range(n):
        assert answers[i][3] == ("v%d" % i if i % 2 == 0 else None)


def test_one_client_reads_what_it_wrote(c):
    for i in range(300):
        answers = raw_many(c, [request(0, "mc.set", "one", "k", "v%d" % i), request(1, "mc.get", "one", "k")])
        assert answers[0][3] is True
        assert answers[1][3] == "v%d" % i  # the node begins calls in their order, and the server keeps it


def test_cas_races(world, c):
    c.call("mc.set", "main", "n", "0")

    def run(lost):
        with world.client() as own:
            lost.append(own.call("trace.cas_race", "main", "n", 50))

    lost = []
    threads = [threading.Thread(target=run, args=(lost,)) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(lost) == 8
    assert c.call("mc.get", "main", "n") == "400"


def test_a_stopped_server_delays_nobody_else(world, c):
    frozen = world.servers[1]
    stuck, quick = (world.key_on(c, "short", s) for s in (frozen, world.servers[0]))
    c.call("mc.set", "short", quick, "x")
    with frozen.stopped():
        with world.client() as waits:
            began = Stopwatch()
            ids = [waits.start("mc.get", "short", stuck), waits.start("mc.set", "short", stuck, "v")]
            for _ in range(50):
                assert c.call("mc.get", "short", quick) == "x"
            assert began.seconds() < 0.2 * SLOW  # before the first of the others is through
            errors = {}
            for _ in ids:
                message = waits.recv()
                errors[message[1]] = message[2].split(":")[0]
            began.stop()
        assert errors == {ids[0]: "TIMEOUT", ids[1]: "UNKNOWN"}
        assert began.within(0.19, 0.5 * SLOW), began
        began = Stopwatch()
        assert c.error("trace.own_deadline", "short", stuck).code == "TIMEOUT"
        assert began.within(0.14, 0.45 * SLOW), began
    assert wait_until("it answers again", lambda: c.call("mc.set", "short", stuck, "back"))
    # The write without an answer lies on a connection of its own, which another thread of memcached may read after this.
    assert c.call("mc.get", "short", stuck) in ("back", "v")


def test_a_breaker_opens_and_closes(world, c):
    frozen = world.servers[2]
    key = world.key_on(c, "breaks", frozen)
    quick = world.key_on(c, "breaks", world.servers[0])

    def refused():
        began = Stopwatch()
        try:
            c.call("mc.get", "breaks", key)
        except RpcError as err:
            return err.code == "CIRCUIT_OPEN" and began.seconds() < 0.05 * SLOW
        return False

    with frozen.stopped():
        wait_until("the breaker opens", refused, 10)
        assert c.call("mc.get", "breaks", quick) is None
        assert "memcache breaks tcp://%s" % frozen.addr in c.error("mc.get", "breaks", key).text
    wait_until("the breaker closes", lambda: not refused() and c.call("mc.set", "breaks", key, "x"), 10)
    assert c.call("mc.get", "breaks", key) == "x"


def test_a_restarted_server_is_not_noticed(world, c):
    """K5: a connection that the server ended costs no get an error."""
    server = world.servers[0]
    key = world.key_on(c, "main", server)
    c.call("mc.set", "main", key, "x")
    for _ in range(5):
        server.kill()
        server.start()
        assert c.call("mc.get", "main", key) is None
        assert c.call("mc.set", "main", key, "x") is True
        assert c.call("mc.get", "main", key) == "x"


def test_a_killed_server_is_told_and_found_again(world, c):
    server = world.servers[0]
    key = world.key_on(c, "short", server)
    fds = n_fds(world.node.worker_pids()[0])
    server.kill()
    codes = {c.error("mc.get", "short", key).code, c.error("mc.set", "short", key, "x").code}
    assert codes == {"UNAVAILABLE"}
    err = c.error("mc.get", "short", key)
    assert "memcache short tcp://%s" % server.addr in err.text
    server.start()

    def works():
        try:
            return c.call("mc.set", "short", key, "x")
        except RpcError:
            return False

    began = Stopwatch()
    wait_until("it is found again", works)
    assert began.seconds() < 2 * SLOW
    assert n_fds(world.node.worker_pids()[0]) <= fds + 1


def test_nobody_there_does_not_stop_the_node(c):
    for _ in range(3):
        err = c.error("mc.get", "dead", "k")
        assert err.code == "UNAVAILABLE" and err.text.startswith("memcache dead tcp://127.0.0.1:1: ")


def test_get_many_without_what_is_too_long(world, c):
    keys = ["short%d" % i for i in range(20)]
    for key in keys:
        c.call("mc.set", "one", key, "v")
    c.call("mc.set", "one", "long", "x" * 1001)
    found = c.call("trace.many", "small", keys + ["long"])
    assert found["values"] == {key: "v" for key in keys} and found["err"] == "LIMIT"
    assert c.call("mc.get_many", "small", ["long"] + keys) == {key: "v" for key in keys}
    assert c.error("mc.get_many", "small", ["long"]).code == "LIMIT"


def test_get_many_tells_what_failed(world, c):
    keys = ["k%d" % i for i in range(30)]
    for key in keys:
        c.call("mc.set", "short", key, "v" + key)
    lost = world.servers[1]
    there = [k for k in keys if world.of(c, "short", k)[0] is not lost]
    lost.kill()
    try:
        found = c.call("trace.many", "short", keys)
        assert sorted(found["values"]) == sorted(there)
        assert found["err"] == "UNAVAILABLE"
        assert sorted(c.call("mc.get_many", "short", keys)) == sorted(there)
        only_there = [k for k in keys if k not in there]
        assert c.error("mc.get_many", "short", only_there).code == "UNAVAILABLE"
    finally:
        lost.start()


# ---- replicas ----


def wait_for(server, key, value):
    wait_until("%s is %r there" % (key, value), lambda: server.get(key) == value)


def test_writes_go_to_all_replicas(world, c):
    for server in world.servers:
        key = world.key_on(c, "two", server)
        wait_until("all are reached", lambda: c.call("mc.set", "two", key, "v") and all(
            s.get(key) == b"v" for s in world.of(c, "two", key)))
        c.call("mc.delete", "two", key)
    for i in range(30):
        key = "r%d" % i
        first, second = world.of(c, "two", key)
        other = next(s for s in world.servers if s not in (first, second))
        c.call("mc.set", "two", key, "v", {"flags": 9})
        wait_for(second, key, b"v")
        assert first.get(key) == b"v" and other.get(key) is None
        c.call("mc.append", "two", key, "1")
        wait_for(second, key, b"v1")
        found = c.call("mc.gets", "two", key)
        assert c.call("mc.cas", "two", key, "5", found["cas"]) is True
        wait_for(second, key, b"5")
        assert c.call("mc.incr", "two", key) == 6
        wait_for(second, key, b"6")
        assert c.call("mc.add", "two", key, "x") is False
        assert c.call("mc.delete", "two", key) is True
        wait_for(second, key, None)
        assert c.call("mc.incr", "two", key, 1, {"initial": 3}) == 3
        wait_for(second, key, b"3")


def test_a_miss_is_looked_for_on_the_replica(world, c):
    c.call("mc.set", "two", "k", "v", {"flags": 9})
    first, second = world.of(c, "two", "k")
    wait_for(second, "k", b"v")
    first.flush()
    found = c.call("mc.gets", "two", "k")
    assert (found["value"], found["flags"]) == ("v", 9)
    assert "cas" not in found  # the first server has nothing to compare
    assert c.call("trace.many", "two", ["k", "none"])["values"] == {"k": "v"}


def test_a_replica_takes_over(world, c):
    keys = ["t%d" % i for i in range(30)]
    for key in keys:
        c.call("mc.set", "two", key, "v" + key)
    for key in keys:
        wait_for(world.of(c, "two", key)[1], key, b"v" + key.encode())
    dead = world.servers[1]
    dead.kill()
    try:
        for key in keys:
            assert c.call("mc.get", "two", key) == "v" + key
            assert c.call("mc.set", "two", key, "w" + key) is True
            assert c.call("mc.get", "two", key) == "w" + key
        assert c.call("mc.get_many", "two", keys) == {k: "w" + k for k in keys}
        found = c.call("trace.many", "two", keys)
        assert found["err"] is None
        mine = next(k for k in keys if world.of(c, "two", k)[0] is dead)
        assert c.call("mc.add", "two", mine, "x") is False
        assert c.call("mc.delete", "two", mine) is True
        assert c.call("mc.get", "two", mine) is None
        assert c.call("mc.incr", "two", mine, 1, {"initial": 7}) == 7
    finally:
        dead.start()


def test_a_stopped_server_is_passed_over(world, c):
    frozen = world.servers[2]
    key = world.key_on(c, "two", frozen)
    replica = world.of(c, "two", key)[1]
    # Another test may have killed it, and for a moment after that nobody tries to reach it.
    wait_until("the replica is written", lambda: c.call("mc.set", "two", key, "v") and replica.get(key) == b"v")
    with frozen.stopped():
        began = Stopwatch()
        assert c.call("mc.get", "two", key) == "v"
        assert began.seconds() < 1 * SLOW
        assert c.call("mc.set", "two", key, "w") is True  # it may be done twice, so it is
        assert c.call("mc.get", "two", key) == "w"
        c.call("mc.set", "two", key, "1")
        err = c.error("mc.incr", "two", key)  # this may not
        assert err.code in ("UNKNOWN", "CIRCUIT_OPEN")
    wait_until("it answers again", lambda: c.call("mc.delete", "two", key) is not None)


def test_a_cas_is_for_the_server_that_gave_its_number(world, c):
    first = world.servers[1]
    key = world.key_on(c, "two", first, "cas")
    wait_until("both are reached", lambda: c.call("mc.set", "two", key, "v") and all(
        s.get(key) == b"v" for s in world.of(c, "two", key)))
    second = world.of(c, "two", key)[1]

    def number(server):
        return int(server.ask(b"gets %s\r\n" % key.encode()).split(b"\r\n")[0].split()[-1])

    def put(server, value):
        server.ask(b"set %s 0 0 1\r\n%s\r\n" % (key.encode(), value), b"\r\n")

    while number(first) != number(second):  # each server counts its own writes
        put(first if number(first) < number(second) else second, b"v")
    cas = c.call("mc.gets", "two", key)["cas"]
    assert cas == number(second)
    first.kill()
    try:
        assert c.error("mc.cas", "two", key, "w", cas).code in ("UNKNOWN", "UNAVAILABLE", "CIRCUIT_OPEN")
        assert second.get(key) == b"v"
        assert c.call("mc.get", "two", key) == "v"
    finally:
        first.start()


def test_a_name_ends_where_it_ends(world, c):
    c.call("mc.set", "one", "name", "v")
    assert c.error("mc.get", "one\0more", "name").code == "UNKNOWN_POOL"


# ---- a server that lies ----


class Liar(threading.Thread):
    """Answers every connection's first request with the same bytes, then says nothing more."""

    def __init__(self, answer):
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.answer = answer
        self.held = []
        self.start()

    def run(self):
        try:
            while True:
                s, _ = self.listener.accept()
                self.held.append(s)
                s.recv(4096)
                s.sendall(self.answer)
        except OSError:
            pass

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for s in self.held:
            s.close()


LIES = (b"OK\r\n", b"VALUE " + b"k" * 340 + b" 0 1\r\nx\r\nEND\r\n", b"VALUE k 0 2147483648 1\r\n" + b"x" * 100000,
        b"VALUE k 0 18446744073709551613 1\r\nx\r\nEND\r\n", b"VALUE j 0 1 1\r\nx\r\nEND\r\n", b"\r\n", b"17\r\n",
        b"VERSION\r\n", b"x" * 5000)


def test_lies_are_no_answers():
    liars = [Liar(lie) for lie in LIES]
    conf = "".join('memcache "liar%d" { servers = "127.0.0.1:%d", timeout_ms = 300 }\n' % (
        i, liar.listener.getsockname()[1]) for i, liar in enumerate(liars))
    try:
        with Node(conf) as node, Client(node.tcp) as c:
            for i in range(len(liars)):
                began = Stopwatch()
                assert c.error("mc.get", "liar%d" % i, "k").code == "BACKEND"
                answer = raw_many(c, [request(9, "mc.incr", "liar%d" % i, "k")])[9]
                assert (answer[2] or "").startswith("BACKEND: ") or (LIES[i] == b"17\r\n" and answer[3] == 17)
                assert began.seconds() < 0.9 * SLOW
            assert c.call("sys.ping")
    finally:
        for liar in liars:
            liar.stop()


# ---- the node around it ----


def test_a_byte_at_a_time(world):
    conf = 'memcache "main" { servers = { %s } }' % ", ".join('"%s"' % s.addr for s in world.servers)
    with Node(conf, {"trace.lua": TRACE}, one_byte=True) as node, Client(node.tcp) as c:
        for i in range(20):
            assert c.call("mc.set", "main", "b%d" % i, b"\r\nEND\r\n" * i, {"flags": i}) is True
        for i in range(20):
            found = c.call("mc.gets", "main", "b%d" % i)
            assert to_bytes(found["value"]) == b"\r\nEND\r\n" * i and found["flags"] == i
        assert len(c.call("mc.get_many", "main", ["b%d" % i for i in range(40)])) == 20


def test_pools_come_change_and_go_with_reloads(world):
    a, b = world.servers[:2]
    a.flush()
    with Node("", workers=2) as node, Client(node.tcp) as c:
        with open(node.conf_path) as f:
            rest = f.read()

        def reload(conf):
            with open(node.conf_path, "w") as f:
                f.write(rest + conf)
            result = node.reload()
            assert result.returncode == 0, result.stderr

        assert c.error("mc.get", "main", "k").code == "UNKNOWN_POOL"
        reload('memcache "main" { servers = "localhost:%d" }' % a.port)  # a name, looked up
        assert c.call("mc.set", "main", "k", "on a") is True and a.get("k") == b"on a"
        reload('memcache "main" { servers = "%s", value_max = 10 }' % b.addr)
        assert c.call("mc.get", "main", "k") is None
        assert c.error("mc.set", "main", "k", "x" * 11).code == "LIMIT"
        assert c.call("mc.set", "main", "k", "on b") is True and b.get("k") == b"on b"
        with b.stopped():  # what waits ends with its pool's timeout, though the pool is gone
            msgid = c.start("mc.get", "main", "k")
            reload("")
            message = c.recv()
            assert message[1] == msgid and message[2].split(":")[0] == "TIMEOUT"
        assert c.error("mc.get", "main", "k").code == "UNKNOWN_POOL"


def test_a_killed_worker_leaves_nothing_behind(world):
    server = world.servers[0]
    conf = 'memcache "main" { servers = "%s" }' % server.addr
    with Node(conf, workers=1, expect=["worker-0"]) as node:
        with Client(node.tcp) as c, server.stopped():
            c.start("mc.get", "main", "k")
            time.sleep(0.05)
            os.kill(node.worker_pids()[0], signal.SIGKILL)
            with pytest.raises(Closed):
                c.recv()

        def works():
            try:
                with Client(node.tcp) as c:
                    return c.call("mc.set", "main", "k", "x")
            except (OSError, Closed, RpcError):
                return False

        wait_until("the next worker serves", works, 10)


def backend_row(node, pool, addr):
    name = "memcache/%s/%s" % (pool, addr)
    return next(row for row in node.stats()["backends"] if row["name"] == name)


def test_what_is_counted(world):
    server = Memcached()
    try:
        with Node('memcache "main" { servers = "%s", timeout_ms = 150 }' % server.addr) as node, Client(node.tcp) as c:
            for _ in range(10):
                c.call("mc.set", "main", "w", "word")
                c.call("mc.get", "main", "none")
                c.error("mc.incr", "main", "w")
            row = backend_row(node, "main", "tcp://" + server.addr)
            assert (row["calls"], row["errors"], row["connects"], row["connections"]) == (30, 10, 1, 1)
            assert row["call_ns"] > 0 and row["window_failed"] == 0
            wait_until("it is idle", lambda: backend_row(node, "main", "tcp://" + server.addr)["idle"] == 1)
            with server.stopped():
                assert c.error("mc.get", "main", "w").code == "TIMEOUT"
                assert c.error("mc.set", "main", "w", "x").code == "UNKNOWN"
            server.kill()
            assert c.error("mc.get", "main", "w").code == "UNAVAILABLE"
            row = backend_row(node, "main", "tcp://" + server.addr)
            assert row["timeouts"] == 2 and row["window_failed"] == 2 + row["connect_failures"]
            assert row["connect_failures"] >= 1 and row["connections"] == 0
    finally:
        server.kill()


def test_a_unix_socket(tmp_path):
    path = str(tmp_path / "memcached.sock")
    os.chmod(tmp_path, 0o755)
    server = subprocess.Popen(["memcached", "-s", path, "-a", "777", "-u", "root"], stderr=subprocess.DEVNULL)
    try:
        wait_until("memcached listens", lambda: os.path.exists(path))
        with Node('memcache "main" { servers = "unix:%s" }' % path) as node, Client(node.tcp) as c:
            assert c.call("mc.set", "main", "k", "x") is True
            assert c.call("mc.get", "main", "k") == "x"
            assert backend_row(node, "main", "unix:" + path)["calls"] == 2
    finally:
        server.kill()
        server.wait()


def test_a_reload_that_leaves_fewer_replicas_fails_no_read(world):
    a, b, _ = world.servers
    conf = 'memcache "main" { servers = { %s }, timeout_ms = 800, replica_num = %%d }' % ", ".join(
        '"%s"' % s.addr for s in world.servers)
    with Node(conf % 3, {"trace.lua": TRACE}) as node, Client(node.tcp) as c:
        with open(node.conf_path) as f:
            before = f.read()
        after = before.replace("replica_num = 3", "replica_num = 1")
        key = next(k for k in ("fewer%d" % i for i in range(1000))
                   if c.call("trace.servers", "main", k)[1] == "tcp://" + b.addr)
        for method, args, nothing in (("mc.get", key, None), ("mc.get_many", [key, key + "x"], {})):
            with open(node.conf_path, "w") as f:
                f.write(before)
            assert node.reload().returncode == 0
            with b.stopped():  # the second is being asked while the third goes
                msgid = c.start(method, "main", args)
                with open(node.conf_path, "w") as f:
                    f.write(after)
                assert node.reload().returncode == 0
                assert c.finish(msgid) == nothing
