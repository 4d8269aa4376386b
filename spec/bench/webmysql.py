# SPDX-License-Identifier: BSD-2-Clause
#
# A page that reads five rows by their primary key (mysql.php): through a node on the same machine, with mysqli and a
# connection a request, and with persistent connections of mysqli. Each turn has its own nginx, php-fpm and node on the
# servers' cpu, so that MariaDB's count of connections is that of one way. MariaDB is not pinned. A MariaDB that is some
# way off is this one behind far.c, which takes bytes and connections that much later to the other side.
import contextlib
import os
import select
import subprocess
import time

import procs
import web
from procs import Failed, say

WAYS = ("node", "direct", "kept")
USER = ("CREATE USER IF NOT EXISTS page@'127.0.0.1' IDENTIFIED BY 'secret'; "
        "GRANT SELECT ON test.* TO page@'127.0.0.1'; SELECT 1")
COUNTS = ("SHOW GLOBAL STATUS WHERE Variable_name IN ('Connections', 'Max_used_connections', 'Threads_connected')")
WHO = "SELECT GROUP_CONCAT(user, '@', host, ' ', command, ' ', time) FROM information_schema.processlist"
IDLE_S, ANSWER_S = 10, 10
WAY_US = 250  # half of a round trip between two machines of one data centre


def cpu_ns(pid):
    """CPU time of a process, with that of threads which ended."""
    return time.clock_gettime_ns((~pid << 3) | 2)


class Watch:
    """A session of MariaDB that stays, so that it is always one of the connections which MariaDB counts."""

    def __init__(self, server, client):
        self.proc = subprocess.Popen([client, "--no-defaults", "-uroot", f"--socket={server.socket}", "-N", "-B",
                                      "--unbuffered"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=subprocess.STDOUT, preexec_fn=procs.child_setup(None))

    def ask(self, sql, lines):
        """The words of each of as many lines of answer."""
        os.write(self.proc.stdin.fileno(), f"{sql};\n".encode())
        got, end = b"", time.monotonic() + ANSWER_S
        while got.count(b"\n") < lines:
            ready = select.select([self.proc.stdout], [], [], max(0, end - time.monotonic()))[0]
            more = os.read(self.proc.stdout.fileno(), 65536) if ready else b""
            if not more:
                raise Failed(f"mariadb answers {got!r} to {sql}")
            got += more
        return [line.split() for line in got.decode().splitlines()]

    def counts(self):
        """Of all others: connections made, most at once, there now."""
        got = {name: int(value) for name, value in self.ask(COUNTS, 3)}
        return got["Connections"], got["Max_used_connections"] - 1, got["Threads_connected"] - 1

    def forget(self):
        """Waits until nobody else is connected, and lets the maximum begin at that."""
        end = time.monotonic() + IDLE_S
        while self.counts()[2]:
            if time.monotonic() > end:
                raise Failed(f"somebody stays connected with mariadb: {self.ask(WHO, 1)}")
            time.sleep(0.05)
        self.ask("FLUSH STATUS; SELECT 1", 1)

    def close(self):
        self.proc.kill()
        self.proc.communicate()


def start_far(bench):
    binary, port = bench.compiled("far.c"), procs.free_port()
    return procs.Server("far", [binary, "--listen", str(port), "--to", bench.get("mariadb").tcp().rpartition(":")[2],
                                "--way-us", str(WAY_US)], [f"tcp://127.0.0.1:{port}"])


def turn(bench, tools, way, far, children, args):
    """Figures of one way: those of the load, and connections (most at once), connected (after the load), connects (made
    for a page)."""
    installed, ask, raw = tools
    mariadb = bench.get("mariadb")
    bench.drop("mysql_node")  # its connections would be counted
    with contextlib.closing(Watch(mariadb, installed("mariadb"))) as watch:
        watch.ask(USER, 1)
        watch.forget()
        address = (bench.get("far") if far else mariadb).tcp()
        site = web.Site(bench, web.programs(installed), "mysql_page", mysql=address, children=children)
        try:
            return figures(bench, site, watch, (ask, raw, f"mysql.php?by={way}", b"5 rows", args))
        finally:
            site.stop()


def figures(bench, site, watch, asked):
    before = [0, 0]

    def begin():
        before[:] = watch.counts()[0], cpu_ns(bench.get("mariadb").pid)
    got = web.measured(bench, site, *asked, begin=begin)
    made, got["connections"], got["connected"] = watch.counts()
    got["connects"] = (made - before[0]) / got["ok"]
    got["db_us"] = (cpu_ns(bench.get("mariadb").pid) - before[1]) / got["ok"] / 1000
    say(f"    {'':22} {got['connections']} connections at most, {got['connected']} after, {got['connects']:.2f} made a "
        f"page; {got['db_us']:.0f} us of mariadb's cpu a page")
    if got["failed"]:
        say(f"    {site.complaint()}")
    return got


def page(value, tools, *args, ways=WAYS, far=False, children=web.CHILDREN):
    """A row: value of the first way over the second's, or "connections": those of the first. The JSON has the second's
    figures with base_ before them, and with the way's own name those of a third. tools: (installed, ask, raw) of
    run.py. far: MariaDB is half a millisecond away."""
    def one_round(bench, number):
        got = {way: turn(bench, tools, way, far, children, args)
               for way in (reversed(ways) if number % 2 else ways)}
        own, base = got[ways[0]], got[ways[1]]
        row = {"value": own[value] if value == "connections" else own[value] / base[value],
               "failed": sum(g["failed"] + g["lost"] for g in got.values())}
        for prefix, way in zip(("", "base_") + tuple(f"{way}_" for way in ways[2:]), ways):
            for key in ("us", "calls_per_s", "p50_us", "p99_us", "connections", "connected", "connects", "db_us"):
                row[prefix + key] = got[way][key]
        return row
    return one_round
