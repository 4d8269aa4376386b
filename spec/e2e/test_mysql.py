# SPDX-License-Identifier: BSD-2-Clause
"""fae.mysql with real mariadb-servers: specs of backends/ run by `fae test -c`, then what needs a node, and servers
that are killed, stopped and started again."""
import contextlib
import os
import re
import ssl
import sys
import time

import pytest

from harness import LONG, ROOT, SLOW, Node, RpcError, Stopwatch, free_port, wait_until
from mariadb import Mariadb
from mysql_fake import SHAPES, Endless, Fake, Holding, Shaped
from test_redis import run_spec
from test_tls import certs  # noqa: F401

sys.path.insert(0, os.path.join(ROOT, "spec", "fault"))
import mysql_rows  # noqa: E402


@pytest.fixture(scope="module")
def server():
    with Mariadb() as one:
        one.sql("CREATE DATABASE test CHARACTER SET utf8mb4")
        one.sql("CREATE TABLE t (id INT PRIMARY KEY, n INT) ENGINE=InnoDB; INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)",
                "test")
        yield one


def pool(name, server, more=""):
    return 'mysql "%s" { servers = "%s", user = "root", db = "test"%s }\n' % (name, server.addr, more)


def pools(server):
    return "".join([
        pool("main", server, ", timeout_ms = 5000, wait_ms = 5000"),
        pool("one", server, ", max = 1, statements = 30, timeout_ms = 5000"),
        pool("hurry", server, ", timeout_ms = 300"),
        pool("few", server, ", max = 1, waiting_max = 0"),
        'mysql "sock" { servers = "unix:%s", user = "root", db = "test", rows_max = 1000, result_max = "1MiB",'
        ' timeout_ms = 10000 }\n' % server.socket,
        'mysql "down" { servers = "127.0.0.1:%d", user = "root" }\n' % free_port(),
        'mysql "wrong" { servers = "%s", user = "root", password = "wrong" }\n' % server.addr,
    ])


def test_specs(server, tmp_path):
    run_spec(tmp_path, pools(server), "mysql_spec.lua")


def test_kv_suite(server, tmp_path):
    run_spec(tmp_path, pools(server) + 'kv_backend "mysql:main"\n', "kv_mysql_spec.lua", KV_POOL="main")


def test_specs_over_tls(certs, tmp_path):  # noqa: F811
    args = ["--ssl-ca=" + certs.path("ca.pem"), "--ssl-cert=" + certs.path("node.pem"),
            "--ssl-key=" + certs.path("node.key")]
    with Mariadb(args) as server:
        server.sql("CREATE DATABASE test CHARACTER SET utf8mb4; "
                   "CREATE USER tls@127.0.0.1 REQUIRE SSL; GRANT ALL ON *.* TO tls@127.0.0.1")
        conf = ""
        for line in pools(server).splitlines():
            if "unix:" not in line:
                line = line.replace('"127.', '"tls://127.').replace(
                    'user = "root"', 'user = "tls", ca = "%s"' % certs.path("ca.pem"))
            conf += line + "\n"
        run_spec(tmp_path, conf, "mysql_spec.lua")
        assert "certificate" in why_not("tls://" + server.addr, certs.path("other.pem"))
        assert "mismatch" in why_not("tls://localhost:%d" % server.port, certs.path("ca.pem"))
    with Mariadb() as plain:
        assert "speaks no TLS" in why_not("tls://" + plain.addr, certs.path("ca.pem"))


def why_not(addr, ca):
    """What a client hears of a pool that cannot connect."""
    with Node('mysql "db" { servers = "%s", user = "root", ca = "%s" }\n' % (addr, ca), servants={"shop.lua": SHOP},
              expect=["mysql db"]) as node, node.client() as c:
        got = c.call("shop.query", "SELECT 1")
        assert got["code"] == "UNAVAILABLE", got
        return got["text"]


SHOP = """
local fae = require "fae"
local shop = fae.servant "shop"
local db = fae.mysql "db"

local function outcome(value, err)
  if value ~= nil or err == nil then return { value = value } end
  return { code = err.code, text = err.message, errno = err.detail and err.detail.errno }
end

shop.method("query", function(call, sql, ...) return outcome(db:query(sql, ...)) end)
shop.method("value", function(call, sql, ...) return outcome(db:value(sql, ...)) end)
shop.method("exec", function(call, sql, ...) return outcome(db:exec(sql, ...)) end)
shop.method("near", function(call, sql, ...) return outcome(db:replica():value(sql, ...)) end)
shop.method("each_near", function(call, sql) return outcome(db:replica():each(sql, function() end)) end)
shop.method("count", function(call, sql) return outcome(db:each(sql, function() end)) end)
shop.method("shape", function(call, sql, ...)
  local got, err = db:query(sql, ...)
  return outcome(got and #got.rows, err)
end)
shop.method("slowly", { timeout_ms = 20000 }, function(call, sql, ms)
  return outcome(db:each(sql, function()
    if ms < 0 then return false end
    fae.sleep(ms)
  end))
end)
shop.method("hold", { timeout_ms = 20000 }, function(call, id, ms, how)
  return outcome(db:transaction(function(tx)
    local done, err = tx:exec("UPDATE t SET n = n + 1 WHERE id = ?", id)
    if not done then return nil, err end
    if how == "query" then
      done, err = tx:query("SELECT SLEEP(?)", ms / 1000)
      if not done then return nil, err end
    else
      fae.sleep(ms)
    end
    if how == "fail" then error { code = "NOT_FOUND", message = "so it is" } end
    done, err = tx:exec("UPDATE t SET n = n + 1 WHERE id = ?", id)
    if not done then return nil, err end
    return "held"
  end))
end)
shop.method("look", { timeout_ms = 20000 }, function(call, id, ms)
  return outcome(db:transaction(function(tx)
    local n, err = tx:value("SELECT n FROM t WHERE id = ?", id)
    if not n then return nil, err end
    fae.sleep(ms)
    return tx:value("SELECT n FROM t WHERE id = ?", id)
  end))
end)
return shop
"""


@pytest.fixture(scope="module")
def node(server):
    with Node(pool("db", server, ", timeout_ms = 5000, max = 8"), servants={"shop.lua": SHOP},
              expect=["mysql db"]) as one:
        yield one


def code_of(client, msgid):
    """Of what a method returned, or was dropped with."""
    try:
        return client.finish(msgid).get("code")
    except RpcError as err:
        return str(err).split(":")[0]


def n_of(server, id):
    return int(server.sql("SELECT n FROM t WHERE id = %d" % id, "test")[0][0])


def n_running(server, text):
    return int(server.sql("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%s%%'" % text)[0][0])


def locks_are_free(server, id):
    sql = "SET innodb_lock_wait_timeout = 0; UPDATE t SET n = n WHERE id = %d" % id
    return server.client(sql, "test").returncode == 0


def test_a_client_that_hangs_up_ends_its_transaction(server, node):
    for how in "sleep", "query":
        before = n_of(server, 1)
        c = node.client()
        c.start("shop.hold", 1, 15000, how)
        wait_until("the row is locked", lambda: not locks_are_free(server, 1))
        c.close()
        wait_until("the row is free", lambda: locks_are_free(server, 1), 10)
        assert n_of(server, 1) == before
        wait_until("nothing runs", lambda: n_running(server, "SELECT SLEEP") == 0)


def test_a_deadline_ends_a_transaction_and_its_query(server, node):
    for how in "sleep", "query":
        before = n_of(server, 2)
        with node.client() as c:
            msgid = c.start("shop.hold", 2, 15000, how, ctx={"deadline_ms": 300})
            assert code_of(c, msgid) == "TIMEOUT"
        wait_until("the row is free", lambda: locks_are_free(server, 2), 10)
        assert n_of(server, 2) == before
        wait_until("nothing runs", lambda: n_running(server, "SELECT SLEEP") == 0)


def test_idle_connections_that_the_server_closes(server, node):
    with node.client() as c:
        for i in range(1000 if LONG else 8):
            assert c.call("shop.value", "SELECT ? + 1", i) == {"value": i + 1}
            ids = server.sql("SELECT id FROM information_schema.processlist WHERE db = 'test'")
            server.client("".join("KILL %s;" % row[0] for row in ids))
            if i % 2:
                assert c.call("shop.value", "SELECT 7") == {"value": 7}
            else:
                assert c.call("shop.exec", "UPDATE t SET n = n WHERE id = 3").get("code") is None


def test_a_result_of_200_megabytes(server, node):
    with node.client() as c:
        before = c.call("sys.ping")
        got = c.call("shop.query", "SELECT REPEAT('x', 1000) FROM (SELECT 1 FROM information_schema.columns a, "
                                   "information_schema.columns b LIMIT 200000) s")
        assert got["code"] == "LIMIT", got
        assert c.call("shop.value", "SELECT 1") == {"value": 1}
        assert before and len(node.worker_pids()) == 1
    wait_until("nothing runs", lambda: n_running(server, "SELECT REPEAT") == 0)


def test_results_of_many_at_once(server):
    """All results that are read take mysql_results_max together, and give it back however they end."""
    rows = "SELECT REPEAT('x', 4000000) FROM seq_1_to_%d"
    with Node('mysql_results_max "20MiB"\n' + pool("db", server, ", timeout_ms = 20000, max = 16"),
              servants={"shop.lua": SHOP}, expect=["mysql db"]) as node, node.client(timeout=30) as c:
        clients = [node.client(timeout=30) for _ in range(12)]
        msgids = [d.start("shop.slowly", rows % 1, 1000) for d in clients]
        codes = [d.finish(msgid).get("code") for d, msgid in zip(clients, msgids)]
        assert set(codes) == {None, "NO_MEMORY"}, codes
        msgids = [d.start("shop.slowly", rows % 9, 1000, ctx={"deadline_ms": 100 + 50 * i})
                  for i, d in enumerate(clients[:8])]
        assert {code_of(d, msgid) for d, msgid in zip(clients, msgids)} <= {"TIMEOUT", "NO_MEMORY"}
        for d in clients:
            d.start("shop.slowly", rows % 9, 1000)
        time.sleep(0.1)
        for d in clients:
            d.close()
        wait_until("there is room", lambda: c.call("shop.slowly", rows % 9, -1).get("value") == 1)  # row, and no more
        got = c.call("shop.query", rows % 9)
        assert got["code"] == "NO_MEMORY", got
        wait_until("there is room", lambda: len(c.call("shop.value", rows % 1).get("value", "")) == 4000000)
        with open("/proc/%d/status" % node.worker_pids()[0]) as f:
            peak_kib = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        assert peak_kib < 300 * 1024 * SLOW


def test_a_server_that_is_killed_in_the_middle(server, node):
    """Of a transaction, of a read, of a write: none is done twice, and what nobody knows is UNKNOWN."""
    with node.client() as c, node.client() as d, node.client() as e, node.client() as f:
        before = n_of(server, 3)
        held = c.start("shop.hold", 3, 1000, "sleep")
        looked = f.start("shop.look", 3, 1000)
        write = d.start("shop.exec", "UPDATE t SET n = n + SLEEP(10) WHERE id = 2")
        read = e.start("shop.value", "SELECT SLEEP(10)")
        wait_until("both run", lambda: n_running(server, "UPDATE t SET n = n + SLEEP") == 1
                   and n_running(server, "SELECT SLEEP") == 1)
        server.kill()
        assert d.finish(write)["code"] == "UNKNOWN"
        assert e.finish(read)["code"] in ("UNAVAILABLE", "CIRCUIT_OPEN", "POOL_BUSY")
        assert c.finish(held)["code"] in ("UNAVAILABLE", "UNKNOWN")
        assert f.finish(looked)["code"] == "UNAVAILABLE"
        server.start()
        wait_until("it is served again", lambda: c.call("shop.value", "SELECT 1") == {"value": 1}, 20)
        assert n_of(server, 3) == before


def test_a_connection_that_ends_around_commit(server):
    """M1. Whoever hears OK has it, and nobody has it twice: UNKNOWN is all that is told of a COMMIT without an answer."""
    mysql_rows.make_accounts(server)
    judged, codes, cut = mysql_rows.commits_that_are_cut(server, 60, 3)
    assert judged["twice"] == judged["OK and not there"] == judged["failed and there"] == judged["sum"] == 0, judged
    assert codes["UNKNOWN"] >= sum(cut.values()) and judged["UNKNOWN and there"] >= cut["not told"] > 0, (codes, judged)


def test_a_server_that_is_stopped(server, node):
    """Calls end in their time, the loop goes on, and once it goes on it is served again."""
    with node.client() as c, node.client() as d:
        assert c.call("shop.value", "SELECT 1") == {"value": 1}
        server.pause()
        try:
            began = Stopwatch()
            msgid = c.start("shop.value", "SELECT 2", ctx={"deadline_ms": 500})
            for _ in range(20):
                assert d.call("sys.ping")
            assert code_of(c, msgid) == "TIMEOUT"
            assert began.seconds() < 4 * SLOW
        finally:
            server.go_on()
        wait_until("it is served again", lambda: c.call("shop.value", "SELECT 1") == {"value": 1}, 20)


ANY = """
local fae = require "fae"
local any = fae.servant "any"
any.method("exec", { timeout_ms = 20000 }, function(call, name, sql)
  local done, err = fae.mysql(name):exec(sql)
  return not done and err.code or nil
end)
return any
"""


LIAR = """
local fae = require "fae"
local liar = fae.servant "liar"
liar.method("all", { timeout_ms = 20000 }, function(call, sql, ...)
  local n, codes, args = select("#", ...), fae.map {}, { ... }
  local tasks = {}
  for i = 1, 60 do
    tasks[i] = function()
      local result, err = fae.mysql("db" .. i):query(sql, unpack(args, 1, n))
      local code = result and "OK" or err.code
      codes[code] = (codes[code] or 0) + 1
    end
  end
  fae.parallel(tasks)
  return codes
end)
return liar
"""


def test_every_read_and_write_cut_to_one_byte(server):
    with Node(pool("db", server, ", timeout_ms = 20000"), servants={"shop.lua": SHOP}, one_byte=True) as node:
        with node.client() as c:
            assert c.call("shop.value", "SELECT ? + 1", 41) == {"value": 42}
            assert c.call("shop.value", "SELECT REPEAT('x', 300)") == {"value": "x" * 300}
            assert c.call("shop.value", "SELECT ?", "y" * 300) == {"value": "y" * 300}
            assert c.call("shop.count", "SELECT seq FROM seq_1_to_100") == {"value": 100}
            assert c.call("shop.query", "SELEC")["errno"] == 1064
            assert c.call("shop.hold", 1, 1, "query") == {"value": "held"}


@pytest.mark.parametrize("tls", [False, True])
def test_a_server_that_lies(certs, tls):  # noqa: F811
    """I9. Whatever it sends, the worker lives, and every call has an answer in its time."""
    n = 1000 if LONG else 60
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.path("node.pem"), certs.path("node.key"))
    fake = Fake(range(n), context if tls else None)
    addr = "tls://%s\", ca = \"%s" % (fake.addr, certs.path("ca.pem")) if tls else fake.addr
    row = ('mysql "db%d" { servers = "%s", user = "root", db = "test", timeout_ms = 200, connect_timeout_ms = 200,'
           ' wait_ms = 200, breaker_percent = 0, result_max = "64KiB" }\n')
    conf = "".join(row % (i, addr) for i in range(1, 61))
    statements = ["SELECT a FROM t", "SELECT a FROM t WHERE b = ?", "UPDATE t SET a = ?", "SELECT ?, ?"]
    codes = {"rounds": 0}
    with Node(conf, servants={"liar.lua": LIAR}, expect=["mysql db"]) as node, node.client(timeout=60) as c:
        pids = node.worker_pids()
        def is_enough():
            return fake.n_connections >= n and all(codes.get(code, 0) > 5 for code in ("OK", "BACKEND", "UNAVAILABLE"))

        def ask():
            sql = statements[codes["rounds"] % len(statements)]
            codes["rounds"] += 1
            began = Stopwatch()
            for code, n_of_them in c.call("liar.all", sql, *[7] * sql.count("?")).items():
                codes[code] = codes.get(code, 0) + n_of_them
            assert began.seconds() < 3 * SLOW
            return is_enough()

        wait_until("all were asked", ask, 120 if LONG else 40)
        assert node.worker_pids() == pids
    fake.close()


def test_answers_of_odd_shapes():
    """I9. Each is taken for what it is, in both protocols, and costs nobody else anything."""
    fake = Shaped()
    conf = 'mysql "db" { servers = "%s", user = "root", timeout_ms = 1000, breaker_percent = 0 }\n' % fake.addr
    with Node(conf, servants={"shop.lua": SHOP}, expect=["mysql db"]) as node, node.client(timeout=30) as c:
        pids = node.worker_pids()
        for name, (_, _, codes) in SHAPES.items():
            for params in (), (1,):
                sql = "SELECT %s" % name + (" /* ? */" if params else "")
                got = c.call("shop.shape", sql, *params)
                assert got.get("code", "OK") in codes, (name, params, got)
                assert c.call("shop.exec", "UPDATE t SET a = 1").get("code") is None, (name, params)
        assert node.worker_pids() == pids
    fake.close()


def test_a_server_whose_columns_have_no_end():
    """Neither the memory for them nor the time to read them is the server's to choose."""
    fake = Endless()
    conf = 'mysql "db" { servers = "%s", user = "root", timeout_ms = 3000, breaker_percent = 0 }\n' % fake.addr
    with Node(conf, servants={"shop.lua": SHOP}, expect=["mysql db"]) as node, node.client() as c:
        for sql in ["SELECT 1"], ["SELECT ?", 1]:
            got = c.call("shop.query", *sql)
            assert got["code"] in ("LIMIT", "UNAVAILABLE", "TIMEOUT"), got
        with open("/proc/%d/status" % node.worker_pids()[0]) as f:
            peak_kib = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
        assert peak_kib < 300 * 1024 * SLOW
    fake.close()


def test_replicas():
    """Reads go to one that is near, writes never, and nothing goes to one that does not tell how far it is behind."""
    with Mariadb(["--log-bin", "--server-id=1"]) as primary, Mariadb(["--server-id=2"]) as replica:
        replica.sql("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='root'; START REPLICA"
                    % primary.port)
        primary.sql("CREATE DATABASE test; CREATE TABLE test.me (id INT PRIMARY KEY, who VARCHAR(10)); "
                    "INSERT INTO test.me VALUES (1, 'primary')")
        wait_until("it is there", lambda: replica.client("SELECT who FROM test.me").stdout == b"primary\n", 20)
        replica.sql("UPDATE test.me SET who = 'replica'")
        conf = pool("db", primary, ', replicas = "%s", replica_lag_max_ms = 1000' % replica.addr)
        who = "SELECT who FROM me WHERE id = ?"
        with Node(conf, servants={"shop.lua": SHOP}, expect=["mysql db"]) as node, node.client() as c:
            wait_until("the replica is read", lambda: c.call("shop.near", who, 1) == {"value": "replica"}, 10)
            assert c.call("shop.value", who, 1) == {"value": "primary"}
            assert c.call("shop.near", who + " FOR UPDATE", 1) == {"value": "primary"}
            assert c.call("shop.near", "SELECT @@server_id") == {"value": 1}
            c.call("shop.near", "INSERT INTO me VALUES (2, 'new')")
            assert primary.sql("SELECT who FROM test.me WHERE id = 2") == [["new"]]
            replica.sql("STOP REPLICA SQL_THREAD")
            wait_until("it is read no longer", lambda: c.call("shop.near", who, 1) == {"value": "primary"}, 10)
            wait_until("the log says so", lambda: "is not read from: it does not replicate" in node.log(), 10)
            replica.sql("START REPLICA SQL_THREAD")
            wait_until("it is read again", lambda: c.call("shop.near", who, 1) == {"value": "replica"}, 10)
            assert c.call("shop.each_near", "INSERT INTO me VALUES (3, 'x') RETURNING id") == {"value": 1}
            assert primary.sql("SELECT who FROM test.me WHERE id = 3") == [["x"]]
            replica.kill()
            for _ in range(20):
                assert c.call("shop.near", who, 1) == {"value": "primary"}


def test_a_server_that_has_no_more_connections():
    """Those that there are go on: the breaker stays closed."""
    with Mariadb(["--max-connections=10"]) as full:
        full.sql("CREATE DATABASE test")
        with Node(pool("db", full, ", max = 20, wait_ms = 5000, timeout_ms = 5000, connect_timeout_ms = 5000"), servants={"shop.lua": SHOP},
                  expect=["mysql db"]) as node:
            clients = [node.client(timeout=60) for _ in range(30)]
            for _ in range(3):
                msgids = [c.start("shop.value", "SELECT SLEEP(0.1)") for c in clients]
                codes = [c.finish(msgid).get("code") for c, msgid in zip(clients, msgids)]
                assert codes == [None] * len(clients), codes
            for c in clients:
                c.close()


def test_a_query_is_ended_on_a_server_that_has_no_more_connections():
    """By the connection that is given back next."""
    with Mariadb(["--max-connections=10"]) as full, contextlib.ExitStack() as stack:
        full.sql("CREATE DATABASE test; CREATE USER web@localhost, web@127.0.0.1; GRANT ALL ON test.* TO web@127.0.0.1;"
                 "CREATE FUNCTION test.busy() RETURNS INT RETURN GET_LOCK('busy', 15)")
        conf = pool("db", full, ", max = 4, timeout_ms = 20000").replace("root", "web")
        with Node(conf, servants={"shop.lua": SHOP}, expect=["mysql db"]) as node, node.client() as c:
            d, root = node.client(), stack.enter_context(full.session())
            sessions = [stack.enter_context(full.session(user="web")) for _ in range(7)]
            for session in sessions:
                session("SELECT GET_LOCK('busy', 0)")

            def runs(text):
                return root("SELECT id FROM information_schema.processlist WHERE info LIKE '%s%%'" % text)
            d.start("shop.value", "SELECT SLEEP(15)")
            other = c.start("shop.value", "SELECT busy()")
            wait_until("both run", lambda: runs("SELECT SLEEP") and runs("SELECT busy"))
            wait_until("it is full", lambda: full.client("SELECT 1", user="web").returncode != 0)
            d.close()
            time.sleep(0.2)
            assert runs("SELECT SLEEP")
            sessions[0]("DO RELEASE_LOCK('busy')")
            assert c.finish(other) == {"value": 1}
            wait_until("it is ended", lambda: not runs("SELECT SLEEP"), 5)


def test_a_number_that_may_be_anothers_is_not_killed():
    """A server that was started again, or has ended the connection itself, hears no KILL."""
    fakes = {"same": Holding(1000), "young": Holding(0), "closing": Holding(1000, closes=True)}
    conf = "".join('mysql "%s" { servers = "%s", user = "root", timeout_ms = 300, breaker_percent = 0 }\n'
                   % (name, fake.addr) for name, fake in fakes.items())
    with Node(conf, servants={"any.lua": ANY}, expect=["mysql"]) as node, node.client() as c:
        for name in fakes:
            assert c.call("any.exec", name, "UPDATE t SET a = 1") is None
        n_fds = len(os.listdir("/proc/%d/fd" % node.worker_pids()[0]))
        time.sleep(2.5)  # more than an uptime of 0 s may mean
        for n in 1, 2:  # the second one's connection is new
            for name, fake in fakes.items():
                assert c.call("any.exec", name, "UPDATE t SET a = SLEEP(9)") == "UNKNOWN"
                wait_until("%s was asked" % name, lambda: fake.n_asked == n)
        wait_until("they are killed", lambda: len(fakes["same"].kills) == 2 and fakes["young"].kills)
        assert 1 not in fakes["young"].kills, "a connection of before the server began was killed"
        assert len(fakes["young"].kills) == 1 and fakes["closing"].kills == []
        for name in fakes:
            assert c.call("any.exec", name, "UPDATE t SET a = 1") is None
        wait_until("no socket is kept", lambda: len(os.listdir("/proc/%d/fd" % node.worker_pids()[0])) <= n_fds)
    for fake in fakes.values():
        fake.close()


@contextlib.contextmanager
def end_late(fake, n, more):
    """A node, a client and n calls of it that run on that server; each is given up 20 ms after the one before it."""
    conf = 'mysql "db" { servers = "%s", user = "root", timeout_ms = 600, breaker_percent = 0, max = 32%s }\n' % (fake.addr, more)
    with Node(conf, servants={"any.lua": ANY}, expect=["mysql"]) as node, node.client() as c:
        calls = []
        for _ in range(n):
            calls.append(c.start("any.exec", "db", "UPDATE t SET a = SLEEP(9)"))
            time.sleep(0.02)
        wait_until("all of them run", lambda: len(fake.held) == n)
        yield node, c, calls
    fake.close()


def test_a_server_that_freezes_is_not_asked_for_each_query():
    fake = Holding(1000, freezes=True)
    with end_late(fake, 20, ", connect_timeout_ms = 100") as (node, c, calls):
        assert {c.finish(call) for call in calls} == {"UNKNOWN"}
        said = r"(\d+) queries could not be ended on it in time"
        wait_until("all are left alone", lambda: sum(map(int, re.findall(said, node.log()))) == 20)
        assert fake.n_asked <= 12, "a connection for each query whose time was over"


def test_nothing_is_kept_of_what_a_server_says_to_kill():
    fake = Holding(b"7" * (48 << 20))
    with end_late(fake, 1, "") as (node, c, calls):
        assert c.finish(calls[0]) == "UNKNOWN"
        wait_until("that was no uptime", lambda: "it does not say how long it is up" in node.log())
        with open("/proc/%d/statm" % node.worker_pids()[0]) as f:
            assert int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE") < (44 << 20) * SLOW


def test_a_full_server_is_asked_until_there_is_room():
    fake = Holding(1000)
    fake.room = 5
    with end_late(fake, 5, ", connect_timeout_ms = 10000") as (node, c, calls):
        assert {c.finish(call) for call in calls} == {"UNKNOWN"}
        wait_until("it was full several times", lambda: fake.n_refused >= 4)
        fake.room = 1 << 30
        wait_until("all are ended", lambda: sorted(fake.kills) == sorted(fake.held))


def test_a_reload_while_a_transaction_is_open(server):
    """A pool that is replaced ends with its last call; one that stays as it is keeps its connections."""
    conf = pool("db", server, ", timeout_ms = 5000")
    with Node(conf, servants={"shop.lua": SHOP}) as node, node.client() as c, node.client() as d:
        ids = "SELECT COUNT(*) FROM information_schema.processlist WHERE db = 'test'"
        held = c.start("shop.hold", 1, 1000, "sleep")
        wait_until("the row is locked", lambda: not locks_are_free(server, 1))
        n = int(server.sql(ids)[0][0])
        with open(node.conf_path) as f:
            text = f.read()
        with open(node.conf_path, "w") as f:
            f.write(text.replace("timeout_ms = 5000", "timeout_ms = 4000"))
        assert node.reload().returncode == 0
        assert d.call("shop.value", "SELECT 1") == {"value": 1}
        assert c.finish(held) == {"value": "held"}
        wait_until("the old pool is gone", lambda: int(server.sql(ids)[0][0]) <= n, 10)


def test_the_server_is_counted_and_its_breaker_opens(server):
    conf = pool("db", server, ", timeout_ms = 100, breaker_percent = 10, breaker_open_ms = 500")
    with Node(conf, servants={"shop.lua": SHOP}, expect=["mysql", "breaker", "upstream"]) as node, node.client() as c:
        for _ in range(20):
            c.call("shop.query", "SELEC")
            c.call("shop.exec", "INSERT INTO t VALUES (1, 1)")
            assert c.call("shop.query", "SELECT " + "7," * 4096 + "7")["code"] == "LIMIT"
        assert c.call("shop.value", "SELECT 1") == {"value": 1}, "errors of statements opened the breaker"
        codes = [c.call("shop.value", "SELECT SLEEP(2)")["code"] for _ in range(12)]
        assert codes[0] == "TIMEOUT" and codes[-1] == "CIRCUIT_OPEN", codes
        wait_until("it is tried again", lambda: c.call("shop.value", "SELECT 1") == {"value": 1}, 10)
