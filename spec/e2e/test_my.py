# SPDX-License-Identifier: BSD-2-Clause
"""Servant my with two real mariadb servers and two workers: shards, cached results that writes race, transactions,
merges, injections, what is counted and logged."""
import json
import os
import random
import re
import signal
import subprocess
import threading
import time
import urllib.request

import pytest

from harness import FAE, LONG, SLOW, Node, RpcError, Stopwatch, free_port, wait_until
from mariadb import Mariadb

SCHEMA = """
CREATE DATABASE lookup;
CREATE TABLE lookup.shards (entityId BIGINT PRIMARY KEY, shardId INT, shardLock INT NOT NULL DEFAULT 0) ENGINE=InnoDB;
CREATE DATABASE g CHARACTER SET utf8mb4;
CREATE TABLE g.kinds (id INT PRIMARY KEY, big BIGINT, small TINYINT, price DECIMAL(20,5), d DOUBLE, name VARCHAR(60),
  data BLOB, at DATETIME, nothing INT) ENGINE=InnoDB;
INSERT INTO g.kinds VALUES (1, 9223372036854775807, -5, 12.50000, 0.1, 'grün ''x''', x'00ff', '2026-01-02 03:04:05', NULL),
  (2, -1, 0, -0.00001, 1e300, 'NULL', '', NULL, NULL);
CREATE TABLE g.t (id INT PRIMARY KEY AUTO_INCREMENT, n INT NOT NULL DEFAULT 0, name VARCHAR(200)) ENGINE=InnoDB;
INSERT INTO g.t (id, n, name) VALUES (1, 0, 'one'), (2, 0, 'two');
CREATE TABLE g.doc (id INT PRIMARY KEY, kind VARCHAR(60) NOT NULL, body LONGTEXT) ENGINE=InnoDB;
"""

SHARD = """
CREATE DATABASE %(db)s;
CREATE TABLE %(db)s.user (id BIGINT PRIMARY KEY, name VARCHAR(60)) ENGINE=InnoDB;
INSERT INTO %(db)s.user VALUES (%(id)d, '%(db)s');
"""


@pytest.fixture(scope="module")
def servers():
    with Mariadb(args=["--innodb-lock-wait-timeout=1"]) as one, Mariadb() as two:
        one.sql(SCHEMA)
        for server, db, id in (one, "u1", 1), (two, "u2", 2), (two, "log1", 3):
            server.sql(SHARD % {"db": db, "id": id})
        one.sql("INSERT INTO lookup.shards VALUES (1, 1, 0), (2, 2, 0), (7, 1, 0), (8, 1, 1), (9, 99, 0)")
        yield one, two


def pool(name, server, db, more=""):
    return 'mysql "%s" { servers = "%s", user = "root", db = "%s"%s }\n' % (name, server.addr, db, more)


def conf(servers, vmap="0-511=User1 512-1023=User2"):
    one, two = servers
    return (pool("Global", one, "g", ", timeout_ms = 4000") + pool("Lookup", one, "lookup") + pool("User1", one, "u1") +
            pool("User2", two, "u2") + pool("UserLog1", two, "log1") +
            'shard "User" { lookup_pool = "Lookup", lookup_table = "shards" }\n'
            'shard "Hash" { strategy = "hash", pools = { "User1", "User2" } }\n'
            'shard "Bucket" { strategy = "vbucket", map = "%s" }\n' % vmap +
            'servant "my" { slow_query_ms = 100 }\nlimit "my.*" { slow_ms = 100 }\n')


@pytest.fixture(scope="module")
def node(servers):
    with Node(conf(servers), workers=2) as n:
        yield n


@pytest.fixture
def c(node):
    with node.client() as client:
        yield client


def both(node):
    """Clients, at least one of each worker."""
    clients = []
    for _ in range(300):
        clients.append(node.client())
        clients[-1].call("sys.noop")
        if all(w["sessions"] for w in node.stats()["workers"]):
            return clients
    raise AssertionError("all sessions came to one worker")


def rows(client, sql, args=(), pool="Global", hint=None, key="", **options):
    return client.call("my.query", pool, "t", hint, sql, list(args), key, options)["rows"]


# ---- values ----


def test_values_come_as_they_are(c):
    found = c.call("my.query", "Global", "kinds", None, "SELECT * FROM kinds WHERE id = ?", [1])
    assert found["cols"] == ["id", "big", "small", "price", "d", "name", "data", "at", "nothing"]
    assert found["rows"] == [[1, 2**63 - 1, -5, "12.50000", 0.1, "grün 'x'", b"\x00\xff", "2026-01-02 03:04:05", None]]
    assert rows(c, "SELECT id FROM kinds WHERE big = ?", [2**63 - 1]) == [[1]]
    assert rows(c, "SELECT id FROM kinds WHERE data = ?", [b"\x00\xff"]) == [[1]]
    assert rows(c, "SELECT ?, ?, ?, ?", [None, True, 1.5, "ü'\"\\"]) == [[None, 1, 1.5, "ü'\"\\"]]


def test_fae_shapes(c):
    got = c.call("my_query", {"rid": 1, "reason": "test", "uid": 0}, "Global", "kinds", 0,
                 "SELECT id, big, price, d, name, nothing FROM kinds ORDER BY id", [], "")
    assert got == {"cols": ["id", "big", "price", "d", "name", "nothing"], "rowsAffected": 0, "lastInsertId": 0,
                   "rows": [["1", "9223372036854775807", "12.50000", "0.1", "grün 'x'", None],
                            ["2", "-1", "-0.00001", "1e+300", "NULL", None]]}
    got = c.call("my_query", "Global", "t", 0, " /* x */ insert into t (name) values (?)", ["new"], "")
    assert (got["rowsAffected"], got["rows"]) == (1, [])
    assert got["lastInsertId"] > 2
    assert c.call("my_query", "Global", "t", 0, "\n-- x\nselect name from t where id = ?", [str(got["lastInsertId"])],
                  "")["rows"] == [["new"]]


def test_an_error_ends_no_session(c):
    """fae's alwayserr.php: a good query, a hint of 0, ten times."""
    for _ in range(10):
        assert c.call("my_query", "User", "user", 1, "SELECT name FROM user WHERE id = 1", [], "")["rows"] == [["u1"]]
        assert "hintId=0?" in c.error("my_query", "User", "user", 0, "SELECT 1", [], "").text


def test_errors_have_their_numbers(node):
    with node.client() as c:
        c.call("sys.hello", {"error": "map"})

        for errno, method, sql in ((1054, "my.query", "SELECT nope FROM t"), (1064, "my.query", "SELECT FROM WHERE"),
                                   (1062, "my.exec", "INSERT INTO t (id) VALUES (1)"),
                                   (1146, "my.query", "SELECT * FROM none")):
            assert backend_errno(c, method, "Global", "t", None, sql) == errno


# ---- shards ----


def test_entities_find_their_shards(c):
    assert rows(c, "SELECT name FROM user", pool="User", hint=1) == [["u1"]]
    assert rows(c, "SELECT name FROM user", pool="User", hint="2") == [["u2"]]
    assert c.error("my.query", "User", "user", 5, "SELECT 1").code == "NOT_FOUND"
    assert "shard lookup fails" in c.error("my.query", "User", "user", 5, "SELECT 1").text
    assert "entity being locked" in c.error("my.query", "User", "user", 8, "SELECT 1").text
    assert c.error("my.query", "User", "user", 9, "SELECT 1").code == "UNKNOWN_POOL"
    assert c.error("my.query", "None", "user", 9, "SELECT 1").code == "UNKNOWN_POOL"


def test_a_lock_is_seen_within_a_second(node, servers):
    clients = both(node)
    for client in clients:
        assert rows(client, "SELECT name FROM user", pool="User", hint=7) == [["u1"]]
    servers[0].sql("UPDATE lookup.shards SET shardLock = 1 WHERE entityId = 7")
    locked = Stopwatch()
    for client in clients:
        wait_until("the lock is seen", lambda: refused(client, 7), 5)
    assert locked.seconds() < (1.1 if LONG else 3) * SLOW
    servers[0].sql("UPDATE lookup.shards SET shardId = 2, shardLock = 0 WHERE entityId = 7")
    for client in clients:
        assert rows(client, "SELECT name FROM user", pool="User", hint=7) == [["u2"]]
    servers[0].sql("UPDATE lookup.shards SET shardId = 1 WHERE entityId = 7")
    assert clients[0].call("my.evict_shard", "User", 7) is True
    for client in clients:
        assert rows(client, "SELECT name FROM user", pool="User", hint=7) == [["u1"]]
        client.close()


def refused(client, hint):
    try:
        rows(client, "SELECT name FROM user", pool="User", hint=hint)
    except RpcError as e:
        assert e.code == "LOCKED", e.value
        return True
    return False


def test_a_bucket_moves_by_a_reload(servers):
    with Node(conf(servers)) as node, node.client() as c:
        assert rows(c, "SELECT name FROM user", pool="Bucket", hint="user:1") == [["u2"]]  # bucket 933
        assert rows(c, "SELECT name FROM user", pool="Bucket", hint="user:2") == [["u2"]]  # bucket 684
        text = open(node.conf_path).read().replace("512-1023=User2", "512-932=User2 933=User1 934-1023=User2")
        with open(node.conf_path, "w") as f:
            f.write(text)
        assert node.reload().returncode == 0
        assert rows(c, "SELECT name FROM user", pool="Bucket", hint="user:1") == [["u1"]]
        assert rows(c, "SELECT name FROM user", pool="Bucket", hint="user:2") == [["u2"]]


def test_all_shards(c, servers):
    got = c.call("my.query_shards", "User", "user", "SELECT id, name FROM user")
    assert got == {"cols": ["id", "name"], "rows": [[1, "u1"], [2, "u2"]], "shards": 2}
    got = c.call("my_query_shards", "User", "user", "SELECT id FROM user WHERE id > ?", ["1"])
    assert got["rows"] == [["2"]]
    assert c.error("my.query_shards", "User", "user", "DELETE FROM user").code == "BAD_ARGS"
    assert c.error("my.query_shards", "User", "user", "SELECT 1", [], {"rows_max": 1}).code == "LIMIT"
    msgid = c.start("my.query_shards", "User", "user", "SELECT SLEEP(0.6)")
    wait_until("both run at a time", lambda: all(
        server.sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE info LIKE 'SELECT SLEEP%'") for server in servers))
    assert c.finish(msgid)["rows"] == [[0], [0]]


def test_a_shard_that_is_down(servers):
    one, two = servers
    down = 'mysql "User3" { servers = "127.0.0.1:%d", user = "root", db = "u3" }\n' % free_port()
    with Node(conf(servers) + down) as node, node.client() as c:
        got = c.call("my.query_shards", "User", "user", "SELECT id FROM user")
        assert got["rows"] == [[1], [2]]
        assert list(got["errors"]) == ["User3"]
        assert got["errors"]["User3"]["code"] in ("UNAVAILABLE", "CIRCUIT_OPEN", "TIMEOUT")
        assert c.error("my_query_shards", "User", "user", "SELECT id FROM user", []).code in (
            "UNAVAILABLE", "CIRCUIT_OPEN", "TIMEOUT")
        assert rows(c, "SELECT 1") == [[1]]


# ---- transactions ----


def statements(*sqls):
    return [{"pool": "Global", "table": "t", "sql": sql} for sql in sqls]


def test_bulk(c, servers):
    def n(id):
        return int(servers[0].sql("SELECT n FROM g.t WHERE id = %d" % id)[0][0])
    servers[0].sql("UPDATE g.t SET n = 0")
    good = ["UPDATE t SET n = n + 1 WHERE id = 1", "UPDATE t SET n = n + 1 WHERE id IN (1, 2)"]
    assert c.call("my.bulk_exec", statements(*good)) == {"affected": 3}
    assert (n(1), n(2)) == (2, 1)
    bad = good + ["INSERT INTO t (id) VALUES (1)"]
    err = c.error("my.bulk_exec", statements(*bad))
    assert err.code == "BACKEND" and err.text.startswith("statement 3 of 3: ")
    assert (n(1), n(2)) == (4, 2)
    assert c.error("my.bulk_exec", statements(*bad), {"atomic": True}).code == "BACKEND"
    assert (n(1), n(2)) == (4, 2)
    assert c.call("my.bulk_exec", statements(*good), {"atomic": True}) == {"affected": 3}
    assert (n(1), n(2)) == (6, 3)
    assert c.call("my_bulk_exec", ["Global"] * 2, ["t"] * 2, [0, 0], good, [[], []], ["", ""]) == 3
    err = c.error("my_bulk_exec", ["Global"], ["t"] * 2, [0], good[:1], [[]], [""])
    assert err.text == "the lists are not equally long: pools 1, tables 2, hintIds 1, sqls 1, argv 1, cacheKeys 1"
    both_pools = statements(good[0]) + [{"pool": "User2", "sql": "DELETE FROM user"}]
    assert "lies in User2" in c.error("my.bulk_exec", both_pools, {"atomic": True}).text
    servers[0].sql("DELIMITER //\nCREATE PROCEDURE ends() BEGIN COMMIT; SIGNAL SQLSTATE '45000'; END//\n", "g")
    commits = statements("UPDATE t SET n = 77 WHERE id = 1", "CALL ends()")
    assert c.error("my.bulk_exec", commits, {"atomic": True}).code == "UNKNOWN"
    assert c.error("my.bulk_exec", statements("BEGIN", good[0], "COMMIT")).code == "BAD_ARGS"


def test_a_call_that_is_cut_leaves_nothing(node, c, servers):
    """The client's deadline comes in the middle of a transaction."""
    servers[0].sql("UPDATE g.t SET n = 0")
    err = c.error("my.bulk_exec", statements("UPDATE t SET n = 1 WHERE id = 1", "DO SLEEP(5)"), {"atomic": True},
                  ctx={"deadline_ms": 200})
    assert err.code in ("TIMEOUT", "UNKNOWN")
    wait_until("it was rolled back and freed",
               lambda: c.call("my.exec", "Global", "t", None, "UPDATE t SET n = n + 5 WHERE id = 1"), 5)
    assert servers[0].sql("SELECT n FROM g.t WHERE id = 1") == [["5"]]


def backend_errno(c, method, *params):
    with pytest.raises(RpcError) as e:
        c.call(method, *params)
    assert e.value.value["code"] == "BACKEND", e.value.value
    return e.value.value["detail"]["errno"]


def test_lock_waits_and_deadlocks_have_their_numbers(node, servers):
    update = "UPDATE t SET n = n + 1 WHERE id = %d"
    with node.client(timeout=20) as c, servers[0].session() as other:
        c.call("sys.hello", {"error": "map"})
        other("BEGIN; UPDATE g.t SET n = 9 WHERE id = 2")
        assert backend_errno(c, "my.exec", "Global", "t", None, update % 2) == 1205
        other("ROLLBACK")
        # We have row 1 and wait for row 2; who has that, and more to lose, then asks for row 1.
        other("USE g; SET innodb_lock_wait_timeout = 10; BEGIN; UPDATE g.t SET n = n + 1 WHERE id = 2;"
              "INSERT INTO g.t (n) SELECT seq FROM seq_1_to_1000")
        msgid = c.start("my.bulk_exec", statements(update % 1, update % 2), {"atomic": True})
        wait_until("it waits", lambda: servers[0].status("Innodb_row_lock_current_waits"))
        other("UPDATE g.t SET n = n + 1 WHERE id = 1; ROLLBACK")
        message = c.recv()
        assert message[1] == msgid
        assert (message[2]["code"], message[2]["detail"]["errno"], message[2]["detail"]["element"]) == \
            ("BACKEND", 1213, 2)
        assert rows(c, "SELECT 1") == [[1]]


# ---- cached results ----


def test_cached_results(node, servers):
    one = servers[0]
    clients = both(node)
    a, b = clients[0], clients[-1]
    one.sql("UPDATE g.t SET name = 'one' WHERE id = 1")
    get = "SELECT name FROM t WHERE id = 1"
    assert rows(a, get, key="t:1") == rows(b, get, key="t:1") == [["one"]]
    one.sql("UPDATE g.t SET name = 'behind our back' WHERE id = 1")
    assert rows(b, get, key="t:1") == [["one"]]
    b.call("my.exec", "Global", "t", None, "UPDATE t SET name = 'uno' WHERE id = 1", [], "t:1")
    assert rows(a, get, key="t:1") == [["uno"]]
    one.sql("UPDATE g.t SET name = 'again' WHERE id = 1")
    assert a.call("my.evict", "t:1") is True
    assert rows(b, get, key="t:1") == [["again"]]
    assert a.call("my_evict", "t:1") is None
    assert rows(a, get, key="t:1", ttl_ms=50) == [["again"]]
    one.sql("UPDATE g.t SET name = 'later' WHERE id = 1")
    wait_until("its time is over", lambda: rows(a, get, key="t:1") == [["later"]])

    def counted(what):
        text = urllib.request.urlopen(node.admin + "/metrics").read().decode()
        found = re.search(r'fae_mysql_cache_total\{table="t",result="%s"\} (\d+)' % what, text)
        return int(found.group(1)) if found else 0
    wait_until("the counters have it",
               lambda: counted("hit") >= 2 and counted("miss") >= 3 and counted("kick") >= 1)
    for client in clients:
        client.close()


def test_nothing_stale_however_reads_and_writes_cross(node, servers):
    """Each thread writes a higher number and must read at least what it wrote last, over two workers."""
    servers[0].sql("UPDATE g.t SET n = 0 WHERE id = 2")
    seconds, lock, state, failures = (20 if LONG else 1.5), threading.Lock(), {"n": 0, "done": 0}, []

    def one(seed):
        chance, end = random.Random(seed), time.monotonic() + seconds
        with node.client() as c:
            while time.monotonic() < end and not failures:
                if chance.random() < 0.2:
                    with lock:
                        state["n"] += 1
                        n = state["n"]
                    c.call("my.exec", "Global", "t", None, "UPDATE t SET n = GREATEST(n, ?) WHERE id = 2", [n], "t:2")
                    with lock:
                        state["done"] = max(state["done"], n)
                else:
                    with lock:
                        least = state["done"]
                    got = rows(c, "SELECT n FROM t WHERE id = 2", key="t:2")[0][0]
                    if got < least:
                        failures.append("read %d after %d was written" % (got, least))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures, failures
    assert state["done"] > 20


def test_many_reads_at_a_time_ask_once(node, servers):
    servers[0].sql("UPDATE g.t SET n = 0 WHERE id = 1")
    with node.client() as c:
        ids = [c.start("my.query", "Global", "t", None, "SELECT UUID(), 'flight'", [], "flight") for _ in range(100)]
        got = [c.recv() for _ in ids]
    assert {message[1] for message in got} == set(ids)
    assert len({message[3]["rows"][0][0] for message in got}) == 1


def store(node):
    return node.stats()["store"]


def flood(c, n=60):
    """n results, of which the cache of results holds 20."""
    for i in range(n):
        assert rows(c, "SELECT LENGTH(REPEAT('x', 1)), REPEAT('x', 400000)", key="flood:%d" % i)[0][0] == 1


def test_results_and_lc_push_out_each_their_own(servers):
    sizes = 'cache_size "8MiB"\nquery_cache_size "8MiB"\n'
    with Node(sizes + conf(servers)) as node, node.client() as c:
        small = {"k%d" % i: "v%d" % i for i in range(100)}
        for key, value in small.items():
            c.call("lc.set", key, value)
        flood(c)
        assert store(node)["query_cache_evictions_total"] > 30
        assert store(node)["query_cache_bytes"] <= store(node)["query_cache_size_bytes"] == 8 << 20
        assert store(node)["cache_evictions_total"] == 0
        assert c.call("lc.get_many", list(small)) == small
        kept = [rows(c, "SELECT UUID()", key="kept:%d" % i) for i in range(100)]
        before = store(node)["query_cache_evictions_total"]
        for i in range(60):
            c.call("lc.set", "flood:%d" % i, b"\xff" * 400000)
        assert store(node)["cache_evictions_total"] > 30
        assert store(node)["query_cache_evictions_total"] == before
        assert [rows(c, "SELECT UUID()", key="kept:%d" % i) for i in range(100)] == kept
        c.call("lc.flush")
        assert rows(c, "SELECT UUID()", key="kept:1") == kept[1]
        assert node.ctl("cache", "flush", "cache").returncode == 0
        assert rows(c, "SELECT UUID()", key="kept:1") == kept[1]
        assert "no cache of that name" in node.ctl("cache", "flush", "nonsense").stderr
        c.call("lc.set", "k", "v")
        assert node.ctl("cache", "flush", "query_cache").returncode == 0
        assert store(node)["query_cache_items"] == 0 and c.call("lc.get", "k") == "v"
        kept = rows(c, "SELECT UUID()", key="kept:1")
        assert node.ctl("cache", "flush").returncode == 0
        assert rows(c, "SELECT UUID()", key="kept:1") != kept and c.call("lc.get", "k") is None


def test_the_size_of_the_result_cache_is_that_of_the_start(servers):
    def put(old, new):
        with open(node.conf_path) as f:
            text = f.read()
        assert old in text
        with open(node.conf_path, "w") as f:
            f.write(text.replace(old, new))

    with Node('query_cache_size "8MiB"\n' + conf(servers)) as node:
        put('query_cache_size "8MiB"', 'query_cache_size(0)')
        assert "query_cache_size: 8MiB -> 0 needs a restart" in node.reload().stdout
        assert store(node)["query_cache_size_bytes"] == 8 << 20
        with node.client() as c:
            assert rows(c, "SELECT UUID()", key="k") == rows(c, "SELECT UUID()", key="k")
        node.stop()
        node.start()
        assert not [name for name in store(node) if name.startswith("query_cache")]
        assert store(node)["cache_size_bytes"] == 64 << 20
        result = node.ctl("cache", "flush", "query_cache")
        assert result.returncode != 0 and "no cache of that name" in result.stderr
        with node.client() as c:
            assert rows(c, "SELECT UUID()", key="k") != rows(c, "SELECT UUID()", key="k")
            assert c.call("my.exec", "Global", "t", None, "UPDATE t SET n = n WHERE id = 1", [], "k")["affected"] == 0
            assert c.call("my.evict", "k") is False
            assert "digests" in c.call("my.stats")


# ---- merge ----


def document(servers, id, body, kind="x"):
    servers[0].sql("REPLACE INTO g.doc VALUES (%d, '%s', %s)" % (id, kind, body))


def body(servers, id):
    return servers[0].sql("SELECT body FROM g.doc WHERE id = %d" % id)[0][0]


def test_merge(c, servers):
    document(servers, 1, """'{"a":{"x":1,"y":2},"n":9007199254740993}'""")
    rows(c, "SELECT body FROM doc WHERE id = 1", key="doc:1")
    got = c.call("my.merge", "Global", "doc", None, {"id": 1, "kind": "x"}, "body",
                 '{"a":{"y":7,"z":8},"t":"it\'s \\"ü😀\\"; DROP TABLE doc; -- \\u0041"}', {"cache_key": "doc:1"})
    assert json.loads(got) == {"a": {"x": 1, "y": 7, "z": 8}, "n": 9007199254740993,
                               "t": "it's \"ü😀\"; DROP TABLE doc; -- A"}
    assert rows(c, "SELECT body FROM doc WHERE id = 1", key="doc:1") == [[got]]
    got = c.call("my_merge", "Global", "doc", 0, "id=1 AND kind='x'", "doc:1", "body", '{"b":[1,2]}')
    assert got["ok"] is True and json.loads(got["newVal"])["b"] == [1, 2]
    assert rows(c, "SELECT body FROM doc WHERE id = 1", key="doc:1") == [[got["newVal"]]]
    document(servers, 2, "NULL")
    assert c.call("my.merge", "Global", "doc", None, {"id": 2}, "body", '{"a":1}') == '{"a":1}'
    err = c.error("my_merge", "Global", "doc", 0, "id=77", "k", "body", "{}")
    assert (err.code, err.text) == ("NOT_FOUND", "Svt: row not found")
    assert c.error("my.merge", "Global", "doc", None, {"kind": "x"}, "body", '{"a":2}').code == "NOT_FOUND"
    document(servers, 3, "'[1]'")
    assert c.error("my.merge", "Global", "doc", None, {"id": 3}, "body", "{}").code == "BACKEND"
    assert body(servers, 3) == "[1]"


def test_merges_at_a_time_lose_nothing(node, servers):
    """D22: fae read before it locked."""
    document(servers, 4, "'{}'")
    n, errors = 8, []

    def one(i):
        with node.client() as c:
            for j in range(25):
                try:
                    c.call("my.merge", "Global", "doc", None, {"id": 4}, "body", '{"k%d":{"%d":1}}' % (i, j))
                except RpcError as e:
                    errors.append(e.value)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors
    assert json.loads(body(servers, 4)) == {"k%d" % i: {str(j): 1 for j in range(25)} for i in range(n)}


NASTY = [
    "'", '"', "`", "\\", ";", "--", "#", "/*", "*/", "\0", "\n", "%", "?", "' OR '1'='1", "1 OR 1=1", "1; DROP TABLE doc",
    "x'; DROP TABLE doc; -- ", "` = 1; DROP TABLE doc; -- ", "doc`; DROP TABLE doc; -- ", "doc WHERE 1=1 -- ",
    "body = '', kind", "body` = '{}', `kind", "id` = 5 OR `id", "1 UNION SELECT 1", "(SELECT 1)", "\\' OR 1=1 -- ",
    "\xbf' OR 1=1", "\ufeff", "mysql.user", "information_schema.tables", "g.doc", "doc, t", "doc d JOIN t", "@@version",
    "SLEEP(5)", "0x27", "x'27'", "/*!50000 DROP TABLE doc */", "' INTO OUTFILE '/tmp/x", "😀", "ʼ", "＇", "' AND SLEEP(5)='",
    "a" * 70, "",
]


def test_injections_through_every_parameter(node, servers):
    document(servers, 5, "'{\"a\":1}'")
    document(servers, 6, "'{\"a\":1}'")
    before = servers[0].sql("SELECT * FROM g.doc WHERE id = 6; SHOW TABLES FROM g; SELECT COUNT(*) FROM mysql.user;"
                            "SELECT COUNT(*) FROM g.doc")

    def attempts(x):
        q = json.dumps
        good = ["Global", "doc", None, {"id": 5}, "body", '{"b":2}', {"cache_key": "inj"}]
        for i, value in ((0, x), (1, x), (2, x), (3, {x: 5}), (3, {"id": x}), (3, {"id": 5, "kind": x}), (3, {"id": 5, x: x}),
                         (4, x), (5, x), (5, q({x: x})), (5, q({"b": x})), (6, {"cache_key": x})):
            yield "my.merge", good[:i] + [value] + good[i + 1:]
        old = ["Global", "doc", 0, "id=5", "inj", "body", '{"b":2}']
        for i, value in ((0, x), (1, x), (3, x), (3, "id=" + x), (3, "id='" + x + "'"), (3, "id=5 AND " + x),
                         (3, x + "=5"), (3, "`" + x + "`=5"), (3, "id=5 " + x), (4, x), (5, x), (6, x), (6, q({"b": x}))):
            yield "my_merge", old[:i] + [value] + old[i + 1:]

    n_refused = n_done = 0
    begin = Stopwatch()
    with node.client(timeout=30) as c:
        for x in NASTY:
            for method, params in attempts(x):
                try:
                    c.call(method, *params)
                    n_done += 1
                except RpcError as e:
                    assert e.code in ("BAD_ARGS", "BACKEND", "NOT_FOUND", "UNKNOWN_POOL", "LIMIT"), (params, e.value)
                    n_refused += 1
                assert rows(c, "SELECT * FROM doc WHERE id = 6") == [[6, "x", '{"a":1}']], (method, params)
    assert n_done > 100 and n_refused > 400
    assert begin.seconds() < 60 * SLOW  # no SLEEP(5) ran
    assert servers[0].sql("SELECT * FROM g.doc WHERE id = 6; SHOW TABLES FROM g; SELECT COUNT(*) FROM mysql.user;"
                          "SELECT COUNT(*) FROM g.doc") == before
    merged = json.loads(bytes.fromhex(servers[0].sql("SELECT HEX(body) FROM g.doc WHERE id = 5")[0][0]).decode())
    for x in NASTY:
        if x:
            assert merged[x] == x


SMUGGLED = [
    b"SELECT 1e5INTO OUTFILE '%s'", b"SELECT 1.e5INTO OUTFILE '%s'", b"SELECT \\NINTO OUTFILE '%s'",
    b"SELECT 'a\\' INTO OUTFILE '%s' -- '", b"SELECT 1 AS \"a\\\" INTO OUTFILE '%s' -- \"",
    b"SELECT 'a\\'\\' ' INTO OUTFILE '%s' -- '", b"SELECT '\x95\\' INTO OUTFILE '%s' -- '",
    b"SELECT '\x95\\\\' ' INTO OUTFILE '%s' -- '", b"SELECT 1 AS \x81` INTO OUTFILE '%s' -- `",
    b"SELECT 1 INTO\xa0OUTFILE '%s'", b"SELECT 1 --\xa0'\n INTO OUTFILE '%s' -- '",
    b"SELECT 'a\\' /*! INTO OUTFILE '%s' */ -- '", b"SELECT 1 --\x7f'\n INTO OUTFILE '%s' -- '",
    b"ANALYZE SELECT 1 INTO OUTFILE '%s'", b"ANALYZE FORMAT=JSON SELECT 1 INTO DUMPFILE '%s'",
]
BYTES = [b"\xbf'", b"\xbf' OR 1=1 -- ", b"\x95\\' OR 1=1 -- ", b"\\' OR 1=1 -- ", b"\x81`", b"\xa0", b"a\\", b"\0", b'"']


def test_servers_that_read_strings_otherwise(tmp_path):
    """By sql_mode and by the pool's charset: nothing is written by what reads, no value gets out of its place."""
    out = str(tmp_path / "out")
    os.chmod(tmp_path, 0o777)
    for mode in "STRICT_TRANS_TABLES", "ANSI_QUOTES,NO_BACKSLASH_ESCAPES":
        with Mariadb(args=["--sql-mode=" + mode]) as server:
            server.sql("CREATE DATABASE g CHARACTER SET utf8mb4; CREATE TABLE g.t (id INT PRIMARY KEY AUTO_INCREMENT,"
                       "b VARBINARY(60), s VARCHAR(60)); CREATE TABLE g.doc (id INT PRIMARY KEY, body LONGTEXT,"
                       "short VARCHAR(10) NOT NULL DEFAULT '{}');"
                       "INSERT INTO g.doc (id, body) VALUES (1, '{}'); CREATE TABLE g.worded (id VARCHAR(9), short"
                       " VARCHAR(10)); INSERT INTO g.worded SELECT CONCAT(seq, 'x'), '{}' FROM g.seq_1_to_200")
            charsets = ["utf8mb4", "latin1", "gbk", "sjis"]
            text = "".join(pool(charset, server, "g", ', charset = "%s"' % charset) for charset in charsets)
            with Node(text) as n, n.client() as c:
                for charset in charsets:
                    for sql in SMUGGLED:
                        try:
                            c.call("my.query", charset, "t", None, sql.replace(b"%s", out.encode()), [], "key")
                        except RpcError as e:
                            assert e.code in ("BAD_ARGS", "BACKEND"), (mode, charset, sql)
                        assert not os.path.exists(out), (mode, charset, sql)
                    for value in BYTES:
                        id = c.call("my.exec", charset, "t", None, "INSERT INTO t (b) VALUES (?)", [value])["insert_id"]
                        got = rows(c, "SELECT id, HEX(b) FROM t WHERE b = ?", [value], pool=charset)
                        assert got == [[id, value.hex().upper()]], (mode, charset, value)
                        c.call("my.exec", charset, "t", None, "DELETE FROM t")
                    merge = ["my.merge", charset, "doc", None, {"id": 1}, "body", '{"a":"\\\\\' \u00e9"}']
                    if charset in ("gbk", "sjis"):  # where the end of a name may be half a character
                        assert c.error(*merge).code == "BAD_ARGS"
                    else:
                        assert json.loads(c.call(*merge)) == {"a": "\\' \u00e9"}
                err = c.error("my.merge", "utf8mb4", "doc", None, {"id": 1}, "short", '{"a":"longer than it may be"}')
                assert err.code == "BACKEND" and "short" in err.text, (mode, err.text)
                assert rows(c, "SELECT short FROM doc WHERE id = 1", pool="utf8mb4") == [["{}"]]
                # More warnings than max_error_count, that of the text behind them: 200x is compared as 200.
                err = c.error("my.merge", "utf8mb4", "worded", None, {"id": 200}, "short", '{"a":"longer than it may be"}')
                assert err.code == "BACKEND", (mode, err.text)
                assert server.sql("SELECT short FROM g.worded WHERE id = '200x'") == [["{}"]]
                if "STRICT" not in mode:
                    got = c.call("my.exec", "utf8mb4", "doc", None, "UPDATE doc SET short = 'longer than it may be'")
                    assert got == {"affected": 1, "insert_id": 0, "warnings": 1}
                c.call("my.exec", "latin1", "t", None, "INSERT INTO t (s) VALUES (?)", [b"caf\xe9"])
                assert rows(c, "SELECT s FROM t", pool="utf8mb4") == [["caf\u00e9"]]


def test_a_transaction_in_one_call_knows_its_ids(c):
    c.call("my.exec", "Global", "t", None, "INSERT INTO t (name) VALUES ('somebody else')")
    both = statements("INSERT INTO t (name) VALUES ('first')", "INSERT INTO t (n, name) VALUES (LAST_INSERT_ID(), 'second')")
    assert "atomic" in c.error("my.bulk_exec", both).text
    assert c.call("my.bulk_exec", both, {"atomic": True}) == {"affected": 2}
    assert rows(c, "SELECT a.id = b.n FROM t a JOIN t b ON a.id = b.n WHERE b.name = 'second'") == [[1]]
    c.call("my.bulk_exec", both[1:], {"atomic": True})
    assert rows(c, "SELECT n FROM t WHERE name = 'second' ORDER BY id DESC LIMIT 1") == [[0]] # not another call's


# ---- what is told ----


def test_statistics_and_slow_queries(node, servers):
    with node.client() as c:
        for i in range(5):
            rows(c, "SELECT n, %d FROM t WHERE name = 'secret-%d'" % (i, i))
        rows(c, "SELECT SLEEP(0.15), 'secret-slow'")
        found = {row["digest"]: row for row in c.call("my.stats")["digests"]}
        one = found["select n, ? from t where name = ?"]
        assert one["pool"] == "Global" and one["count"] == 5 and one["errors"] == 0
        assert 0 < one["p50_us"] <= one["p99_us"] <= one["max_us"]
        assert found["select sleep(?), ?"]["max_us"] >= 150000

        def shown():
            answer = json.load(urllib.request.urlopen(node.admin + "/admin/mysql"))
            return {row["digest"]: row for row in answer["digests"]}
        wait_until("the page has it", lambda: shown().get("select sleep(?), ?"), 15)
        assert "Global: select sleep(?), ?" in node.run("top", "--once", "--run-dir", node.run_dir).stdout
    wait_until("the log has it", lambda: 'msg="slow query"' in node.log())
    line = next(line for line in node.log().splitlines() if 'msg="slow query"' in line and "sleep(?), ?" in line)
    assert "pool=Global" in line and "digest=" in line
    assert "secret" not in node.log()
    assert "secret" not in json.dumps(node.call("my.stats"))
    slow = node.ctl("slowlog", "200").stdout
    assert '"method":"my.query"' in slow and "secret" not in slow


# ---- deaths ----

PIDS = """
local about = require("fae.node").about
local who = require("fae").servant "who"
who.method("pid", function() return about().pid end)
return who
"""


def test_a_worker_that_dies_in_the_middle_of_a_write(servers):
    """The server goes on with the statement; what others read meanwhile must not be kept."""
    one = servers[0]
    one.sql("UPDATE g.t SET n = 0 WHERE id = 1")
    read, key = "SELECT n FROM t WHERE id = 1", "dying"
    with Node(conf(servers), {"who.lua": PIDS}, workers=2, expect=["died of signal 9"]) as node:
        by_pid = {}
        while len(by_pid) < 2:
            client = node.client()
            by_pid.setdefault(client.call("who.pid"), client)
        (pid, doomed), (_, other) = by_pid.items()
        assert rows(other, read, key=key) == [[0]]
        doomed.start("my.exec", "Global", "t", None, "UPDATE t SET n = 1 + SLEEP(0.7) WHERE id = 1", [], key)
        wait_until("it runs", lambda: one.sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE info LIKE"
                                              " 'UPDATE t SET n = 1 %'"))
        os.kill(pid, signal.SIGKILL)
        while one.sql("SELECT n FROM g.t WHERE id = 1") == [["0"]]:
            assert rows(other, read, key=key)[0][0] in (0, 1)
            if not one.sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE info LIKE 'UPDATE t SET n = 1 %'"):
                break
        n = int(one.sql("SELECT n FROM g.t WHERE id = 1")[0][0])
        assert rows(other, read, key=key) == [[n]]
        one.sql("UPDATE g.t SET n = 7 WHERE id = 1")
        assert rows(other, read, key=key) == [[7]]  # nothing is kept for a minute
        for client in by_pid.values():
            client.close()


def test_a_server_that_dies_in_the_middle_of_a_transaction(servers):
    two = servers[1]
    two.sql("CREATE TABLE u2.tx (id INT PRIMARY KEY) ENGINE=InnoDB")
    with Node(conf(servers)) as node, node.client(timeout=20) as c:
        bulk = [{"pool": "User2", "sql": "INSERT INTO tx VALUES (1)"}, {"pool": "User2", "sql": "DO SLEEP(0.8)"}]
        msgid = c.start("my.bulk_exec", bulk, {"atomic": True})
        wait_until("it runs", lambda: two.sql("SELECT 1 FROM information_schema.PROCESSLIST WHERE info LIKE 'DO SLEEP%'"))
        two.kill()
        message = c.recv()
        assert message[1] == msgid and message[2].split(":")[0] in ("UNKNOWN", "UNAVAILABLE"), message
        two.start()
        wait_until("it is back", lambda: not failed(c, "my.query", "User2", "t", None, "SELECT 1"), 15)
        assert two.sql("SELECT COUNT(*) FROM u2.tx") == [["0"]]
        assert c.call("my.bulk_exec", bulk[:1], {"atomic": True}) == {"affected": 1}


def failed(c, *params):
    try:
        c.call(*params)
        return False
    except RpcError as e:
        return e.code


SECTIONS = """
local core = require "fae.core"
describe("core.section", function()
  it("gives what the configuration says, but for its secrets", function()
    local row = core.section("mysql")[1]
    assert.equal("P", row.name)
    assert.equal(7, row.max)
    assert.equal("u", row.user)
    assert.is_nil(row.password)
    assert.is_nil(core.section("token")[1].sha256)
    assert.same({ "vbucket", "0-1023=P", "" }, { core.section("shard")[1].strategy, core.section("shard")[1].map,
      core.section("shard")[1].pools })
    assert.same({}, core.section "redis")
    assert.has_error(function() core.section "nothing" end)
  end)
end)
"""


def test_sections_without_secrets(tmp_path):
    (tmp_path / "fae.lua").write_text(
        'mysql "P" { servers = "127.0.0.1:1", user = "u", password = "secret", max = 7 }\n'
        'shard "S" { strategy = "vbucket", map = "0-1023=P" }\n'
        'token "t" { sha256 = "%s", roles = "r" } role "r" { allow = "*" }\n' % ("0" * 64))
    (tmp_path / "section_spec.lua").write_text(SECTIONS)
    done = subprocess.run([FAE, "test", "-c", str(tmp_path / "fae.lua"), str(tmp_path / "section_spec.lua")],
                          capture_output=True, text=True, timeout=60 * SLOW)
    assert done.returncode == 0 and "1 success" in done.stdout, done.stdout


def test_a_charset_that_is_none(tmp_path):
    for charset, code in ("utf9", 78), ("latin1", 0):
        (tmp_path / "fae.lua").write_text(
            'mysql "P" { servers = "127.0.0.1:1", user = "u", charset = "%s" }\nservants_dir ""\n' % charset)
        done = subprocess.run([FAE, "check", "-c", str(tmp_path / "fae.lua")], capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        assert ("mysql P: there is no charset utf9" in done.stderr) == (code == 78)
