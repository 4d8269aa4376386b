# SPDX-License-Identifier: BSD-2-Clause
"""The rows of `make survive` about MySQL servers behind a node (M1 to M5). spec/e2e/test_mysql.py runs the short form of
the first.

Every call leaves its number behind, so that afterwards the server's own tables say what was done, how often, and where.
"""
import asyncio
import contextlib
import threading
import time

import common  # noqa: F401 (it says where harness is)
from harness import SLOW, Node, RpcError, memory_kib, wait_until
from mariadb import Mariadb
from stage import Server, Stage

SURE = "--innodb-flush-log-at-trx-commit=2"  # what was committed outlives the process

MOVE = """
local fae = require "fae"
local move = fae.servant "move"

local function code_of(value, err)
  if value ~= nil then return value end
  return { err = err.code }
end

-- Takes 1 from one account and puts it into another, and leaves its number.
move.method("transfer", { timeout_ms = 8000 }, function(call, pool, id, from, to)
  return code_of(fae.mysql(pool):transaction(function(tx)
    for _, it in ipairs {
      { "INSERT INTO done (id) VALUES (?)", id },
      { "UPDATE account SET n = n - 1 WHERE id = ?", from },
      { "UPDATE account SET n = n + 1 WHERE id = ?", to },
    } do
      local ok, err = tx:exec(it[1], it[2])
      if not ok then return nil, err end
    end
    return "done"
  end))
end)

-- Where an entity lies: asked, written, and written twice in a transaction with a pause.
move.method("where", function(call, shard, hint)
  return code_of(fae.mysql(shard, hint):value("SELECT name FROM who WHERE id = ?", 1))
end)
move.method("slowly", function(call, shard, hint)
  return code_of(fae.mysql(shard, hint):value("SELECT CONCAT(name, SLEEP(?)) FROM who", 0.2))
end)
move.method("write", function(call, shard, hint, id)
  return code_of(fae.mysql(shard, hint):exec("INSERT INTO wrote (id, part) VALUES (?, 0)", id))
end)
move.method("pair", function(call, shard, hint, id)
  return code_of(fae.mysql(shard, hint):transaction(function(tx)
    for part = 1, 2 do
      local ok, err = tx:exec("INSERT INTO wrote (id, part) VALUES (?, ?)", id, part)
      if not ok then return nil, err end
      fae.sleep(50)
    end
    return "done"
  end))
end)

move.method("age", function(call, pool)
  return code_of(fae.mysql(pool):replica():row(
    "SELECT (SELECT id FROM me) AS id, TIMESTAMPDIFF(MICROSECOND, MAX(at), NOW(6)) AS us FROM beat"))
end)
move.method("beat", function(call, pool, id)
  return code_of(fae.mysql(pool):replica():exec("INSERT INTO beat (id, at, who) VALUES (?, NOW(6), @@server_id)", id))
end)
move.method("large", { timeout_ms = 60000 }, function(call, pool, mib)
  local text, err = fae.mysql(pool):value("SELECT REPEAT('x', ?)", mib * 1048576)
  return text and #text or { err = err.code }
end)
return move
"""


def pool(name, addr, more=""):
    return 'mysql "%s" { servers = "%s", user = "root", db = "test"%s }\n' % (name, addr, more)


class Callers:
    """Threads that call for as long as the block lasts, each with numbers of its own: (method, params, began, ended, came)."""

    def __init__(self, node, n, make, pause_s=0.0):
        self.node, self.make, self.pause_s, self.log, self.over = node, make, pause_s, [], threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()

    def run(self, who):
        with self.node.client(timeout=60) as client:
            for i in range(who * 1000000 + 1, (who + 1) * 1000000):
                if self.over.is_set():
                    return
                method, params = self.make(i)
                began = time.monotonic()
                try:
                    came = client.call(method, *params)
                except RpcError as err:
                    came = {"err": err.code}
                self.log.append((method, params, began, time.monotonic(), came))
                time.sleep(self.pause_s)

    def codes(self, method=None):
        found = {}
        for name, _, _, _, came in self.log:
            if method in (None, name):
                code = came["err"] if isinstance(came, dict) and "err" in came else "OK"
                found[code] = found.get(code, 0) + 1
        return found


def code_of(came):
    return came["err"] if isinstance(came, dict) and "err" in came else "OK"


# ---- M1: a server that dies around COMMIT ----

N_ACCOUNTS = 20


def make_accounts(server):
    server.sql("CREATE DATABASE IF NOT EXISTS test; USE test; CREATE TABLE account (id INT PRIMARY KEY, n INT);"
               "CREATE TABLE done (seq INT AUTO_INCREMENT PRIMARY KEY, id BIGINT, KEY (id));"
               "INSERT INTO account SELECT seq, 100 FROM seq_1_to_%d" % N_ACCOUNTS)


def transfer(i):
    return "move.transfer", ["db", i, 1 + i * 7 % N_ACCOUNTS, 1 + i * 11 % N_ACCOUNTS]


def judge_transfers(server, log):
    """What the server has, against what callers were told."""
    rows = [int(row[0]) for row in server.sql("SELECT id FROM test.done")]
    there = set(rows)
    told = {params[1]: code_of(came) for _, params, _, _, came in log}
    return {"twice": len(rows) - len(there),
            "OK and not there": sum(code == "OK" and i not in there for i, code in told.items()),
            "failed and there": sum(code not in ("OK", "UNKNOWN") and i in there for i, code in told.items()),
            "UNKNOWN and there": sum(code == "UNKNOWN" and i in there for i, code in told.items()),
            "UNKNOWN and not there": sum(code == "UNKNOWN" and i not in there for i, code in told.items()),
            "sum": int(server.sql("SELECT SUM(n) FROM test.account")[0][0]) - 100 * N_ACCOUNTS}


class CommitProxy(Server):
    """Between a node and a server: one COMMIT in `every` is cut: never sent on, sent on while its answer is not, or both
    ends are closed in the middle of it. n_cut: of each, how often."""

    HOW = ("not sent", "not told", "at once")

    def __init__(self, to, every=1):
        super().__init__()
        self.to, self.every, self.n, self.n_cut = to, every, 0, dict.fromkeys(self.HOW, 0)

    async def serve(self, conn):
        reader, writer = await asyncio.open_connection(*self.to.rsplit(":", 1))
        down = asyncio.ensure_future(self.copy(reader, conn))
        try:
            while True:
                head = await conn.reader.readexactly(4)
                body = await conn.reader.readexactly(int.from_bytes(head[:3], "little"))
                how = self.how() if body == b"\3COMMIT" else None
                if how == "not told":
                    down.cancel()
                    await asyncio.wait([down])
                if how != "not sent":
                    writer.write(head + body)
                    await writer.drain()
                if how == "not told":
                    assert (await reader.read(100))[4:5] == b"\0", "the server did not commit"
                if how:
                    return conn.close()
        finally:
            down.cancel()
            writer.close()

    def how(self):
        self.n += 1
        if self.n % self.every:
            return None
        how = self.HOW[self.n // self.every % len(self.HOW)]
        self.n_cut[how] += 1
        return how

    @staticmethod
    async def copy(reader, conn):
        while piece := await reader.read(1 << 16):
            await conn.send(piece)
        conn.close()


def commits_that_are_cut(server, n, every):
    """n transfers, one COMMIT of `every` cut: (what judge_transfers says, codes, n_cut)"""
    with Stage() as stage:
        proxy = stage.open(CommitProxy(server.addr, every))
        conf = pool("db", proxy.addr, ", timeout_ms = 3000, breaker_percent = 0")
        with Node(conf, servants={"move.lua": MOVE}, expect=["mysql db"]) as node:
            with Callers(node, 3, transfer) as load:
                wait_until("all were tried", lambda: len(load.log) >= n, 120)
        wait_until("nothing is open", lambda: server.sql("SELECT * FROM information_schema.innodb_trx") == [], 10)
        return judge_transfers(server, load.log), load.codes(), proxy.n_cut


def report_transfers(report, what, judged):
    for name in "twice", "OK and not there", "failed and there", "sum":
        report.figure("%s: %s" % (what, name), abs(judged[name]), 0)


def m1(report, kills=15):
    with Mariadb([SURE]) as server:
        make_accounts(server)
        judged, codes, cut = commits_that_are_cut(server, 3000, 5)
        print("       cut: %s; answers %s; %s" % (cut, codes, judged))
        report_transfers(report, "cut", judged)
        report.figure("cut: told UNKNOWN, of COMMITs that were cut", codes["UNKNOWN"], sum(cut.values()), least=True)
        report.figure("cut: there although nobody was told", judged["UNKNOWN and there"], cut["not told"], least=True)
    with Mariadb([SURE]) as server:
        make_accounts(server)
        conf = pool("db", server.addr, ", timeout_ms = 3000, breaker_open_ms = 300")
        with Node(conf, servants={"move.lua": MOVE}, workers=2, expect=["mysql", "breaker"]) as node:
            with Callers(node, 16, transfer, 0.002) as load:
                for _ in range(kills):
                    time.sleep(1)
                    server.kill()
                    server.start()
                time.sleep(3)
        judged = judge_transfers(server, load.log)
        print("       killed: answers %s; %s" % (load.codes(), judged))
        report_transfers(report, "killed", judged)
        report.figure("killed: done", load.codes()["OK"], 500, least=True)


# ---- M2: buckets and hashes that move by reloads ----

MAPS = ('"0-511=A 512-1023=B"', '"0-511=B 512-1023=A"')
ORDERS = ('"A", "B"', '"B", "A"')


def shards(one, two, turn):
    return (pool("A", one.addr) + pool("B", two.addr) +
            'shard "Bucket" { strategy = "vbucket", map = %s }\nshard "Hash" { strategy = "hash", pools = { %s } }\n'
            % (MAPS[turn], ORDERS[turn]))


def anywhere(i):
    hint, shard = "e%d" % (i % 40), ("Bucket", "Hash")[i % 2]
    return (("move.where", [shard, hint]), ("move.slowly", [shard, hint]), ("move.write", [shard, hint, i]),
            ("move.pair", [shard, hint, i]))[i % 7 % 4]


def m2(report, turns=30):
    with Mariadb([SURE]) as one, Mariadb([SURE]) as two:
        for server, name in (one, "A"), (two, "B"):
            server.sql("CREATE DATABASE test; USE test; CREATE TABLE who (id INT PRIMARY KEY, name VARCHAR(9));"
                       "INSERT INTO who VALUES (1, '%s'); CREATE TABLE wrote (id BIGINT, part INT)" % name)
        base, switches = shards(one, two, 0), []  # (from when it may be, from when it must be, turn)
        with Node(base, servants={"move.lua": MOVE}, workers=2) as node:
            home = {}  # where it is in turn 0, told by a quiet node
            for i in range(0, 80):
                shard, hint = ("Bucket", "Hash")[i % 2], "e%d" % (i % 40)
                home[shard, hint] = node.call("move.where", shard, hint)
            with Callers(node, 12, anywhere) as load:
                for turn in range(1, turns + 1):
                    time.sleep(0.4)
                    text = open(node.conf_path).read()
                    for pair in MAPS, ORDERS:
                        text = text.replace(pair[1 - turn % 2], pair[turn % 2])
                    with open(node.conf_path, "w") as f:
                        f.write(text)
                    begun = time.monotonic()
                    assert node.reload().returncode == 0
                    switches.append((begun, time.monotonic(), turn % 2))
        judge_moves(report, load, home, switches, (one, two))


def turns_between(switches, began):
    """Those that a call may have seen which began then: it keeps to the generation in which it began."""
    now = 0
    for may, must, turn in switches:
        if began >= must:
            now = turn
        elif began >= may - 0.001:
            return {now, turn}
        else:
            break
    return {now}


def judge_moves(report, load, home, switches, servers):
    other = {"A": "B", "B": "A"}
    wrote = {name: server.sql("SELECT id, part FROM test.wrote") for name, server in zip("AB", servers)}
    at = {}
    for name, rows in wrote.items():
        for id, part in rows:
            at.setdefault((int(id), int(part)), []).append(name)
    wrong = torn = lost = 0
    for method, params, began, _, came in load.log:
        if code_of(came) != "OK":
            continue
        here = home[params[0], params[1]]
        may = {here if turn == 0 else other[here] for turn in turns_between(switches, began)}
        if method in ("move.where", "move.slowly"):
            wrong += came[0] not in may
            continue
        places = [at.get((params[2], part), []) for part in ((0,) if method == "move.write" else (1, 2))]
        lost += any(len(place) != 1 for place in places)
        torn += len({place[0] for place in places if place}) > 1
        wrong += any(place and place[0] not in may for place in places)
    print("       %d calls over %d reloads: %s" % (len(load.log), len(switches), load.codes()))
    report.figure("calls that failed", len(load.log) - load.codes().get("OK", 0), 0)
    report.figure("at a server of another map", wrong, 0)
    report.figure("transactions on two servers", torn, 0)
    report.figure("writes that are not there once", lost, 0)
    report.figure("calls", len(load.log), 1000, least=True)


# ---- M3: replicas that lag, freeze and die ----

LAG_MAX_MS = 1000
STALE_MAX_MS = LAG_MAX_MS + 3000 + 1000 + 500  # an answer is believed for 3 s; whole seconds; how busy the machine is


def m3(report):
    with Mariadb(["--log-bin", "--server-id=1"]) as primary, Mariadb(["--server-id=2"]) as replica:
        replica.sql("CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT=%d, MASTER_USER='root'; START REPLICA"
                    % primary.port)
        primary.sql("CREATE DATABASE test; CREATE TABLE test.beat (id BIGINT PRIMARY KEY, at DATETIME(6), who INT);"
                    "CREATE TABLE test.me (id INT); INSERT INTO test.me VALUES (1)")
        wait_until("it is there", lambda: replica.client("SELECT id FROM test.me").stdout == b"1\n", 20)
        replica.sql("UPDATE test.me SET id = 2")
        conf = pool("db", primary.addr, ', timeout_ms = 1000, replicas = "%s", replica_lag_max_ms = %d'
                    % (replica.addr, LAG_MAX_MS))
        with Node(conf, servants={"move.lua": MOVE}, workers=2, expect=["mysql", "breaker"]) as node:
            def reads(load, since):
                return [came["id"] for method, _, began, _, came in list(load.log)
                        if method == "move.age" and began > since and "id" in came]

            def waits(what, load, least, of):
                """Until the last reads were served by that server alone."""
                begun = time.monotonic()
                wait_until(what, lambda: (reads(load, time.monotonic() - 0.5) or [0])[-least:] == [of] * least, 30)
                return time.monotonic() - begun

            with Callers(node, 4, lambda i: ("move.beat", ["db", i]), 0.02) as beats, \
                    Callers(node, 8, lambda i: ("move.age", ["db"]), 0.005) as load:
                waits("the replica is read", load, 20, 2)
                replica.sql("STOP REPLICA; CHANGE MASTER TO MASTER_DELAY=20; START REPLICA")
                took = waits("the one that lags is left", load, 20, 1)
                report.figure("until one that lags is left alone", took, 8, unit="s")
                replica.sql("STOP REPLICA; CHANGE MASTER TO MASTER_DELAY=0; START REPLICA")
                waits("it is read again", load, 20, 2)
                replica.pause()
                took = waits("the frozen one is left", load, 20, 1)
                report.figure("until one that is frozen is left alone", took, 6, unit="s")
                frozen = load.codes("move.age")
                replica.go_on()
                waits("it is read again", load, 20, 2)
                for _ in range(3):
                    replica.kill()
                    waits("the dead one is left", load, 20, 1)
                    replica.start()
                    waits("it is read again", load, 20, 2)
            codes = load.codes("move.age")
            ages = [came["us"] / 1000 for _, _, _, _, came in load.log if came.get("us") is not None]
        print("       reads %s, frozen until then %s; writes %s; oldest %.0f ms" % (codes, frozen, beats.codes(), max(ages)))
        report.figure("reads that failed otherwise than by a frozen server's TIMEOUT",
                      sum(n for code, n in codes.items() if code not in ("OK", "TIMEOUT")), 0)
        report.figure("reads that failed while it was killed", codes.get("TIMEOUT", 0) - frozen.get("TIMEOUT", 0), 0)
        report.figure("writes that failed", sum(n for code, n in beats.codes().items() if code != "OK"), 0)
        report.figure("writes of another server", int(primary.sql("SELECT COUNT(*) FROM test.beat WHERE who <> 1")[0][0]),
                      0)
        report.figure("writes lost", len(beats.log) - int(primary.sql("SELECT COUNT(*) FROM test.beat")[0][0]), 0)
        report.figure("oldest that was read", max(ages), STALE_MAX_MS * SLOW, unit="ms")


# ---- M4: numbers of a server that was started again ----

class KeepingProxy(Server):
    """Tells nobody that the other side has ended, as a machine that lost its power does not."""

    def __init__(self, to):
        super().__init__()
        self.to = to

    async def serve(self, conn):
        reader, writer = await asyncio.open_connection(*self.to.rsplit(":", 1))

        async def up():
            while piece := await conn.reader.read(1 << 16):
                writer.write(piece)
            writer.close()

        async def down():
            with contextlib.suppress(OSError):
                while piece := await reader.read(1 << 16):
                    await conn.send(piece)
            await asyncio.Event().wait()
        with contextlib.suppress(OSError):
            await asyncio.gather(up(), down())


def m4(report):
    with Mariadb() as server, Stage() as stage:
        server.sql("CREATE DATABASE test; CREATE TABLE test.who (id INT, name VARCHAR(9)); INSERT INTO test.who VALUES (1, 'x')")
        proxy = stage.open(KeepingProxy(server.addr))
        conf = pool("A", proxy.addr, ", timeout_ms = 8000, breaker_percent = 0, max = 4") + \
            'shard "Bucket" { strategy = "vbucket", map = "0-1023=A" }\n'
        with Node(conf, servants={"move.lua": MOVE}, expect=["mysql"]) as node, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(node.client(timeout=30)) for _ in range(4)]
            for client in clients:
                client.call("move.slowly", "Bucket", "x")
            time.sleep(3)
            server.kill()  # of which the node hears nothing
            server.start()
            others = [stack.enter_context(server.session()) for _ in range(40)]  # with the numbers of before
            for other in others:
                other("SELECT 1")
            for client in clients:
                client.start("move.slowly", "Bucket", "x", ctx={"deadline_ms": 500})
            time.sleep(4)
            report.figure("times it was asked how long it is up", server.status("Com_show_status") - 1, 1, least=True)
            report.figure("KILLs that it heard", server.status("Com_kill"), 0)
            ended = 0
            for other in others:
                try:
                    other("SELECT 1")
                except (AssertionError, OSError):
                    ended += 1
            report.figure("connections of others that were ended", ended, 0)


# ---- M5: more results at once than there is memory ----

def m5(report, n=50, mib=30):
    with Mariadb(["--max-allowed-packet=128M"]) as server:
        server.sql("CREATE DATABASE test")
        with Node(pool("db", server.addr, ", max = 60, wait_ms = 60000, timeout_ms = 60000"), servants={"move.lua": MOVE}) as node:
            pid = node.worker_pids()[0]
            with contextlib.ExitStack() as stack:
                clients = [stack.enter_context(node.client(timeout=120)) for _ in range(n)]
                msgids = [client.start("move.large", "db", mib) for client in clients]
                codes = {}
                for client, msgid in zip(clients, msgids):
                    code = code_of(client.finish(msgid))
                    codes[code] = codes.get(code, 0) + 1
                print("       %d results of %d MiB at once: %s" % (n, mib, codes))
                report.figure("answered otherwise than OK or NO_MEMORY",
                              sum(v for code, v in codes.items() if code not in ("OK", "NO_MEMORY")), 0)
                report.figure("refused", codes.get("NO_MEMORY", 0), 1, least=True)
                report.figure("answered", codes.get("OK", 0), 1, least=True)
                report.figure("largest the worker was", memory_kib(pid, "VmHWM") / 1024, 256 + 640 + 100, unit="MiB")
                wait_until("there is room", lambda: code_of(clients[0].call("move.large", "db", mib)) == "OK", 10)
            report.figure("it is the same worker", node.worker_pids() == [pid], 1, least=True)


TESTS = {
    "M1": ("a mysql server whose COMMITs are cut, and one that is killed 15 times", m1),
    "M2": ("30 reloads that move buckets and hashes between servers under load", m2),
    "M3": ("a replica that lags, freezes and dies under load", m3),
    "M4": ("KILLs of queries on a server that was started again, unheard", m4),
    "M5": ("50 results of 30 MiB at once", m5),
}
