#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
#
# `make bench`: what a call costs the server, against a bare limit server in the same run (and redis, memcached, nginx
# with lua and tarantool, as far as they are installed).
# Servers run on one cpu, the generator on another; servers take turns, and the figure of a round is a ratio within
# that round, so that a machine that slows down slows both. One table below says what is measured and what is owed.
#
#   spec/bench/run.py [--rounds N] [--seconds S] [--only NAME]... [--out FILE] [--fae FILE]
#   spec/bench/run.py --compare A.json B.json
import argparse
import json
import os
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import backends  # noqa: E402
import cache  # noqa: E402
import kv  # noqa: E402
import mysql  # noqa: E402
import procs  # noqa: E402
import tls  # noqa: E402
import web  # noqa: E402
import webmysql  # noqa: E402
from procs import Failed, Server, free_port, measure, say  # noqa: E402
from reload import reload_memory, reload_under_load  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(ROOT, os.environ.get("B", "build"))
ECHO = {"id": 12345, "name": "some user name", "email": "user@example.com", "city": "Amsterdam", "score": 98.6}
PING = b"*1\r\n$4\r\nPING\r\n"
HTTP = b"GET /noop HTTP/1.1\r\nHost: x\r\n\r\n"
NOOP = b"\x82\x00\x0a\x01\x05\x82\x22\xa4noop\x21\x90"  # tarantool: {type: call, sync: 5} {function, arguments}
PEERS = {  # what is asked, bytes of greeting, bytes to compare (0: all)
    "memcached": (b"get k\r\n", 0, 0),
    "nginx": (HTTP, 0, len("HTTP/1.1 200 OK")),
    "tarantool": (b"\xce" + struct.pack(">I", len(NOOP)) + NOOP, 128, 0),
}
NGINX_CONF = """\
load_module {modules}/ndk_http_module.so;
load_module {modules}/ngx_http_lua_module.so;
daemon off;
master_process off;
pid {path}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {path}/body;
    proxy_temp_path {path}/proxy;
    fastcgi_temp_path {path}/fastcgi;
    uwsgi_temp_path {path}/uwsgi;
    scgi_temp_path {path}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /noop {{ content_by_lua_block {{ ngx.header.content_length = 2 ngx.print("ok") }} }}
    }}
}}
"""
TARANTOOL_SCRIPT = """\
box.cfg {{ work_dir = "{path}", wal_mode = "none", log_level = 2 }}
function noop() end
box.schema.user.grant("guest", "execute", "universe")
box.cfg {{ listen = "127.0.0.1:{port}" }}
"""
SESSIONS = 10_000
NGINX_MODULES = "/usr/lib/nginx/modules"
CROWDED = 0.1  # a server that waited this part of its time for its cpu was not alone on it


def pack(value):
    """As much msgpack as the requests here need."""
    if isinstance(value, float):
        return b"\xcb" + struct.pack(">d", value)
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if value > 65535:
            return b"\xce" + struct.pack(">I", value)
        return bytes([value]) if value < 128 else b"\xcd" + struct.pack(">H", value)
    if isinstance(value, str):
        return bytes([0xA0 | len(value)]) + value.encode()
    if isinstance(value, list):
        return bytes([0x90 | len(value)]) + b"".join(map(pack, value))
    return bytes([0x80 | len(value)]) + b"".join(pack(k) + pack(v) for k, v in value.items())


def number_of(data):
    """The positive number that data is."""
    if data[0] == 0xCB:
        return struct.unpack(">d", data[1:9])[0]
    return data[0] if data[0] < 128 else int.from_bytes(data[1:], "big")


def request(method, params, msgid=0):
    return b"\x94\x00\xce" + struct.pack(">I", msgid) + pack(method) + pack(params)


# ---- servers ----

class Bench:
    """The servers, started when first asked for, and the options of the run."""

    def __init__(self, args):
        self.args = args
        self.server_cpu, self.client_cpu = procs.cpus()
        self.tmp = tempfile.mkdtemp(prefix="fae-bench-")
        self.fae = shutil.copy(args.fae, os.path.join(self.tmp, "fae.bin"))  # a build meanwhile changes nothing
        self.servers, self.warm = {}, set()
        self.limit_bin = self.compiled("limit.c")

    def compiled(self, source):
        return procs.compiled(BUILD, os.path.join(HERE, source))

    def dir(self, name):
        path = os.path.join(self.tmp, name)
        os.makedirs(path, exist_ok=True)
        return path

    def get(self, name):
        if name not in self.servers:
            self.servers[name] = getattr(self, "start_" + name)()
        return self.servers[name]

    def drop(self, name):
        if name in self.servers:
            self.servers.pop(name).stop()

    def start_limit(self, name="limit", method="sys.noop", params=(), result=b"\xc0"):
        answer = b"\x94\x01\xce\0\0\0\0\xc0" + result
        argv = [self.limit_bin, "--listen", "tcp://127.0.0.1:0", "--listen", f"unix:{self.tmp}/{name}.sock",
                "--request-bytes", str(len(request(method, list(params)))), "--answer", answer.hex()]
        return Server(name, argv, ready_line("limit ready:"), self.server_cpu)

    def start_limit_echo(self):
        return self.start_limit("limit_echo", "sys.echo", [ECHO], pack(ECHO))

    def start_node(self, name, workers=1, servants=None, cpu=None):
        run = self.dir(name)
        argv = [self.fae, "serve", "--workers", str(workers), "--listen", "tcp://127.0.0.1:0",
                "--listen", f"unix:{run}/fae.sock", "--admin", "", "--run-dir", run]
        if servants:
            argv += ["--servants", servants]
        return Server(name, argv, ready_line("fae ready:"), cpu)

    def start_fae(self):
        return self.start_node("fae", 1, cpu=self.server_cpu)

    def start_fae8(self):
        return self.start_node("fae8", 8, cpu=self.server_cpu)

    def start_redis(self, pinned=True):
        port = free_port()
        argv = [installed("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly",
                "no", "--dir", self.dir("redis"), "--io-threads", "1", "--tcp-backlog", "4096", "--maxclients", "15000",
                "--daemonize", "no"]
        return Server("redis", argv, [f"tcp://127.0.0.1:{port}"], self.server_cpu if pinned else None)

    def start_memcached(self):
        port = free_port()
        argv = [installed("memcached"), "-l", "127.0.0.1", "-p", str(port), "-U", "0", "-t", "1", "-c", "4096"]
        if os.geteuid() == 0:
            argv += ["-u", "root"]
        server = Server("memcached", argv, [f"tcp://127.0.0.1:{port}"], self.server_cpu)
        if ask(server.tcp(), b"set k 0 0 100\r\n" + b"v" * 100 + b"\r\n") != b"STORED\r\n":
            raise Failed("memcached does not store")
        return server

    def start_nginx(self):
        binary, port, path = installed("nginx"), free_port(), self.dir("nginx")
        if not os.path.exists(f"{NGINX_MODULES}/ngx_http_lua_module.so"):
            raise NotInstalled("nginx's lua module")
        conf = os.path.join(path, "nginx.conf")
        with open(conf, "w") as f:
            f.write(NGINX_CONF.format(modules=NGINX_MODULES, path=path, port=port))
        return Server("nginx", [binary, "-p", path, "-c", conf, "-e", "stderr"], [f"tcp://127.0.0.1:{port}"],
                      self.server_cpu)

    def start_tarantool(self):
        binary, port, path = installed("tarantool"), free_port(), self.dir("tarantool")
        script = os.path.join(path, "noop.lua")
        with open(script, "w") as f:
            f.write(TARANTOOL_SCRIPT.format(path=path, port=port))
        return Server("tarantool", [binary, script], [f"tcp://127.0.0.1:{port}"], self.server_cpu)

    def start_cache1(self):
        return cache.start(self, 1)

    def start_cache2(self):
        return cache.start(self, 2)

    def start_kv1(self):
        return kv.start(self, ready_line("fae ready:"), 1, self.server_cpu)

    def start_kv2(self):
        return kv.start(self, ready_line("fae ready:"), 2, None)

    def start_tarantool_fsync(self):
        return kv.start_tarantool(self, installed("tarantool"))

    def start_redis_always(self):
        return kv.start_redis(self, installed("redis-server"))

    def start_page(self):
        return web.start(self, installed)

    def start_redis_page(self):
        return web.start_with_redis(self, installed)

    def start_redis_free(self):
        return self.start_redis(pinned=False)

    def start_back(self):
        return backends.start_node(self, ready_line("fae ready:"), "redis", self.server_cpu)

    def start_back_free(self):
        return backends.start_node(self, ready_line("fae ready:"), "redis_free", None)

    def start_nutcracker_redis(self):
        return backends.start_nutcracker(self, installed("nutcracker"), "redis")

    def start_nutcracker_memcached(self):
        return backends.start_nutcracker(self, installed("nutcracker"), "memcached")

    def start_mariadb(self):
        return mysql.start_server(self, installed)

    def start_far(self):
        return webmysql.start_far(self)

    def start_mysql_node(self):
        return mysql.start_node(self, ready_line("fae ready:"))

    def start_fae_tls(self):
        return tls.start_fae(self, installed, ready_line("fae ready:"))

    def start_nginx_tls(self):
        return tls.start_nginx(self, installed, ECHO)

    def measure(self, name, via, args):
        """One turn of a server, after a short one that nobody counts."""
        server = self.get(name)
        addr = {"tcp": server.tcp, "tls": server.tls, "unix": server.unix}[via]()
        turn = (server.pid, via, tuple(args))
        if turn not in self.warm:
            self.warm.add(turn)
            measure(self.fae, server, addr, args, 0.3, self.client_cpu)
        figures = measure(self.fae, server, addr, args, self.args.seconds, self.client_cpu)
        say(f"    {name:10} {figures['us']:8.3f} us/call {figures['calls_per_s']:12,.0f} calls/s "
            f"p99 {figures['p99_us']:6.0f} us  {figures['failed']} failed"
            + ("  (crowded)" if figures["crowded"] > CROWDED else ""))
        return figures

    def close(self):
        procs.stop_all()
        shutil.rmtree(self.tmp, ignore_errors=True)


class NotInstalled(Exception):
    """What a row needs is not on this machine."""


def installed(name):
    path = shutil.which(name)
    if not path:
        raise NotInstalled(name)
    return path


def ask(addr, data, greeting=0):
    """All that a server answers, until it is silent."""
    with procs.connect(addr) as sock:
        while greeting > 0:
            greeting -= len(sock.recv(greeting))
        sock.sendall(data)
        answer = sock.recv(65536)
        sock.settimeout(0.1)
        try:
            while more := sock.recv(65536):
                answer += more
        except TimeoutError:
            pass
    return answer


def ready_line(prefix):
    def ready(line):
        at = line.find(prefix)
        return line[at + len(prefix):].split() if at >= 0 else None
    return ready


# ---- kinds of scenarios: each gives a row's figures for one round ----

def against(base, via, *args, server="fae"):
    """CPU a call of one server over that of another."""
    def one_round(bench, number):
        pair = [server, base]
        if number % 2:
            pair.reverse()  # neither always comes first
        got = {name: bench.measure(name, via, list(args)) for name in pair}
        bench.drop("fae8")  # its idle workers would tick beside everyone else's turn
        return {"value": got[server]["us"] / got[base]["us"], "us": got[server]["us"],
                "worker_us": got[server]["worker_us"], "base_us": got[base]["us"],
                "calls_per_s": got[server]["calls_per_s"], "p99_us": got[server]["p99_us"],
                "crowded": 0 if server == "fae8" else max(g["crowded"] for g in got.values()),
                "failed": got[server]["failed"]}
    return one_round


def over_noop(args, *call):
    """CPU a call of a method over that of sys.noop in the same node."""
    def one_round(bench, number):
        turns = [list(call), ["sys.noop"]]
        if number % 2:
            turns.reverse()
        got = {turn[0]: bench.measure("fae", "tcp", list(args) + turn) for turn in turns}
        own, noop = got[call[0]], got["sys.noop"]
        return {"value": own["us"] / noop["us"], "us": own["us"], "base_us": noop["us"],
                "calls_per_s": own["calls_per_s"], "p99_us": own["p99_us"],
                "crowded": max(own["crowded"], noop["crowded"]), "failed": own["failed"] + noop["failed"]}
    return one_round


def ids_many(bench, number):
    """Ids a second that one worker makes, 1000 a call, of which the layout has 4,096,000."""
    got = bench.measure("fae", "tcp", ["-c", "50", "-p", "1", "id.next_many", "1000"])
    return {"value": got["calls_per_s"] * 1000, "us": got["us"], "calls_per_s": got["calls_per_s"],
            "p99_us": got["p99_us"], "crowded": got["crowded"], "failed": got["failed"]}


def ids_in_lua(bench, number):
    """ns of fae.id.next in a servant, in bursts that a millisecond has room for."""
    bench.drop("idrun")
    folder = bench.dir("idrun-servants")
    shutil.copy(os.path.join(ROOT, "spec", "e2e", "servants", "idrun.lua"), folder)
    bench.servers["idrun"] = server = bench.start_node("idrun", 1, servants=folder, cpu=bench.server_cpu)
    try:
        answer = ask(server.tcp(), request("idrun.cost", [500]))
    finally:
        bench.drop("idrun")
    if answer[:4] != b"\x94\x01\x00\xc0":
        raise Failed(f"idrun.cost answered {answer!r}")
    value = number_of(answer[4:])
    say(f"    idrun      {value:8.1f} ns an id")
    return {"value": value, "failed": 0}


def limit_against_redis(*args):
    def one_round(bench, number):
        bench.get("redis")
        redis = bench.measure("redis", "tcp", raw(PING, b"+PONG\r\n") + list(args))
        limit = bench.measure("limit", "tcp", list(args) + ["sys.noop"])
        return {"value": limit["us"] / redis["us"], "us": limit["us"], "base_us": redis["us"],
                "calls_per_s": limit["calls_per_s"], "p99_us": limit["p99_us"],
                "crowded": max(limit["crowded"], redis["crowded"]),
                "failed": limit["failed"] + redis["failed"]}
    return one_round


def raw(data, answer, greeting=0, compare=0):
    """Arguments of the generator for another protocol."""
    args = ["--raw", data.hex(), "--raw-answer-bytes", str(len(answer))]
    args += ["--raw-greeting", str(greeting)] if greeting else []
    return args + (["--raw-compare", str(compare)] if compare else [])


def peer(name, *args):
    """CPU a request of another kind of server over that of limit, which shows what the kernel alone costs."""
    data, greeting, compare = PEERS[name]

    def one_round(bench, number):
        answer = ask(bench.get(name).tcp(), data, greeting)
        got = bench.measure(name, "tcp", raw(data, answer, greeting, compare) + list(args))
        limit = bench.measure("limit", "tcp", list(args) + ["sys.noop"])
        return {"value": got["us"] / limit["us"], "us": got["us"], "base_us": limit["us"],
                "calls_per_s": got["calls_per_s"], "p99_us": got["p99_us"],
                "crowded": max(got["crowded"], limit["crowded"]), "failed": got["failed"] + limit["failed"]}
    return one_round


def generator(*args):
    """The rate that the generator can make over the one that limit can answer, each with a cpu of its own: what a call
    costs limit over what it costs the generator. `reached` is how busy it really kept limit, which needs both cpus to
    be ours."""
    def one_round(bench, number):
        got = bench.measure("limit", "tcp", list(args) + ["sys.noop"])
        ran = got["us"] * got["ok"] / 1e6
        reached = ran / (got["seconds"] - ran * got["crowded"] / (1 - got["crowded"]))
        say(f"    limit was busy for {100 * reached:.0f} % of the time, the generator {100 * got['client_busy']:.0f} %")
        return {"value": got["us"] / got["client_cpu_us"], "us": got["client_cpu_us"], "base_us": got["us"],
                "calls_per_s": got["calls_per_s"], "reached": reached, "client_busy": got["client_busy"],
                "crowded": got["crowded"], "failed": got["failed"]}
    return one_round


def call_bytes(*calls):
    """Calls in one piece, and their answers."""
    sent = b"".join(request(method, params, 70000 + i) for i, (method, params, _) in enumerate(calls))
    return sent, b"".join(b"\x94\x01\xce" + struct.pack(">I", 70000 + i) + b"\xc0" + result
                          for i, (_, _, result) in enumerate(calls))


def lock_pair(*args):
    """CPU of lock and unlock over that of two sys.noop. All sessions use one key: where a turn of the loop ends between
    the two calls of a session the next one is refused, which must be rare."""
    def one_round(bench, number):
        noop = ("sys.noop", [], b"\xc0")
        sent, answer = call_bytes(("lock", ["bench", "key"], b"\xc3"), ("unlock", ["bench", "key"], b"\xc0"))
        got = bench.measure("fae", "tcp", raw(sent, answer, compare=8) + list(args))
        stats = json.loads(subprocess.run([bench.fae, "ctl", "--run-dir", bench.dir("fae"), "stats"], check=True,
                                          capture_output=True, text=True).stdout)["store"]
        if stats["locks_refused_total"] * 100 > stats["locks_granted_total"]:
            raise Failed(f"{stats['locks_refused_total']} locks were refused, {stats['locks_granted_total']} given")
        base = bench.measure("fae", "tcp", raw(*call_bytes(noop, noop)) + list(args))
        return {"value": got["us"] / base["us"], "us": got["us"], "base_us": base["us"],
                "calls_per_s": got["calls_per_s"], "p99_us": got["p99_us"],
                "crowded": max(got["crowded"], base["crowded"]), "failed": got["failed"] + base["failed"]}
    return one_round


def noop_rate(bench, number):
    """Answers a second that one core gives."""
    got = bench.measure("fae", "tcp", ["-p", "16", "sys.noop"])
    return {"value": got["calls_per_s"], "us": got["us"], "calls_per_s": got["calls_per_s"], "p99_us": got["p99_us"],
            "crowded": got["crowded"], "failed": got["failed"]}


def call_noop(sock):
    sock.sendall(request("sys.noop", [], 70000))
    got = b""
    while len(got) < 9:
        more = sock.recv(64)
        if not more:
            raise Failed(f"a session was closed before its answer, after {got!r}")
        got += more
    if got[:8] != b"\x94\x01\xce" + struct.pack(">I", 70000) + b"\xc0":
        raise Failed(f"sys.noop answered {got!r}")


def idle_sessions(bench, number):
    """Bytes of RSS a session that made one call and then stays."""
    bench.drop("idle")
    bench.servers["idle"] = server = bench.start_node("idle", 1, cpu=bench.server_cpu)
    socks = []
    try:
        for _ in range(10):  # whatever a first call brings with it
            with procs.connect(server.tcp()) as sock:
                call_noop(sock)
        time.sleep(0.5)
        before = {pid: procs.rss_bytes(pid) for pid in server.pids()}
        for _ in range(SESSIONS):
            socks.append(procs.connect(server.tcp()))
            call_noop(socks[-1])
        time.sleep(1)
        after = {pid: procs.rss_bytes(pid) for pid in server.pids()}
        if set(before) != set(after):
            raise Failed("a process of the node ended")
    finally:
        for sock in socks:
            sock.close()
        bench.drop("idle")
    grown = sum(after.values()) - sum(before.values())
    say(f"    idle       {grown / SESSIONS:8.0f} bytes a session, node {sum(before.values()) / 2**20:.1f} -> "
        f"{sum(after.values()) / 2**20:.1f} MiB")
    return {"value": grown / SESSIONS, "rss_before": sum(before.values()), "rss_after": sum(after.values()),
            "failed": 0}


# ---- the table ----

ONE = ("-c", "50", "-p", "1")
MANY = ("-c", "50", "-p", "16")
SHORT = ("-c", "100", "--connect-per-call")
PAGES = ("-c", "8")
CROWD = ("-c", "500")


class Row:
    """target None: nothing is owed, the figure is for comparison."""

    def __init__(self, name, text, one_round, target, unit="x", least=False, rounds=None):
        self.name, self.text, self.one_round, self.target = name, text, one_round, target
        self.unit, self.least, self.rounds = unit, least, rounds


ROWS = [
    Row("generator", "generator's rate over limit's, 50 x 16", generator(*MANY), 0.9, least=True),
    Row("limit-1", "limit over redis PING, 50 x 1", limit_against_redis(*ONE), 0.97),
    Row("limit-16", "limit over redis PING, 50 x 16", limit_against_redis(*MANY), 0.75),
    Row("noop-tcp", "sys.noop, 50 x 1, tcp", against("limit", "tcp", *ONE, "sys.noop"), 1.06),
    Row("noop-unix", "sys.noop, 50 x 1, unix", against("limit", "unix", *ONE, "sys.noop"), 1.12),
    Row("noop-16", "sys.noop, 50 x 16, tcp", against("limit", "tcp", *MANY, "sys.noop"), 1.30),
    Row("rate-16", "the same, calls/s of one core", noop_rate, 2_500_000, unit="/s", least=True),
    Row("echo-16", "echo of a 5-field map, 50 x 16", against("limit_echo", "tcp", *MANY, "sys.echo", json.dumps(ECHO)),
        2.3),
    Row("id-1", "id.next over sys.noop, 50 x 1", over_noop(ONE, "id.next"), 1.4),
    Row("id-16", "id.next over sys.noop, 50 x 16", over_noop(MANY, "id.next"), 1.4),
    Row("id-many", "id.next_many of 1000, ids/s of a worker", ids_many, None, unit="/s"),
    Row("id-lua", "fae.id.next in Lua", ids_in_lua, None, unit=" ns"),
    Row("tls-nginx", "the same over TLS, over nginx's TLS", tls.row("nginx_tls", MANY, ECHO), 1.0),
    Row("tls-plain", "TLS over plain tcp, 50 x 16", tls.row("fae_tls", MANY, ECHO), None),
    Row("lock-16", "lock and unlock over two sys.noop, 50 x 16", lock_pair(*MANY), 2.0),
    Row("short-unix", "connect, call, close, unix", against("limit", "unix", *SHORT, "sys.noop"), 1.12),
    Row("short-tcp", "connect, call, close, tcp", against("limit", "tcp", *SHORT, "--spread", "32", "sys.noop"), 1.05),
    Row("short-unix-8", "the same, unix, 8 workers over 1",
        against("fae", "unix", *SHORT, "sys.noop", server="fae8"), 1.2),
    Row("memcached-1", "memcached get over limit, 50 x 1", peer("memcached", *ONE), None),
    Row("memcached-16", "memcached get over limit, 50 x 16", peer("memcached", *MANY), None),
    Row("nginx-1", "nginx with lua over limit, 50 x 1", peer("nginx", *ONE), None),
    Row("nginx-16", "nginx with lua over limit, 50 x 16", peer("nginx", *MANY), None),
    Row("tarantool-1", "tarantool call over limit, 50 x 1", peer("tarantool", *ONE), None),
    Row("tarantool-16", "tarantool call over limit, 50 x 16", peer("tarantool", *MANY), None),
    Row("php-page", "php-fpm page of 5 calls over one of none, /s",
        web.page("calls_per_s", ask, raw, "page.php?calls=1", *PAGES), None),
    Row("php-page-kept", "the same over a kept connection",
        web.page("calls_per_s", ask, raw, "page.php?calls=1&kept=1", *PAGES), None),
    Row("php-page-p99", "p99 of that page over one of none, 300/s",
        web.page("p99_us", ask, raw, "page.php?calls=1", *PAGES, "--rate", "300"), None),
    Row("lc-get", "lc.get of 100 bytes over sys.noop, 50 x 16", cache.over_noop(request, *MANY), 1.5),
    Row("lc-get-redis", "the same over redis GET", cache.over_peer(request, raw, "redis", *MANY), 1.0),
    Row("lc-get-memcached", "the same over memcached get", cache.over_peer(request, raw, "memcached", *MANY), 1.0),
    Row("cache-get", "fae.cache.get from Lua, 100 bytes", cache.in_lua(request, "get"), 45, unit=" ns"),
    Row("cache-set", "fae.cache.set", cache.in_lua(request, "set"), 45, unit=" ns"),
    Row("cache-get-2", "get, two workers at once", cache.in_lua_twice(request, "get"), 85, unit=" ns"),
    Row("cache-set-2", "set, two workers at once", cache.in_lua_twice(request, "set"), 85, unit=" ns"),
    Row("cache-flood", "100,000 keys all but alike over random", cache.flood(request), 2.0),
    Row("cache-entry", "bytes of an entry beyond key and 100 bytes", cache.entry(request), 80, unit="B", rounds=1),
    Row("kv-get", "fae.kv.get from Lua, warm", kv.warm_get(request), 600, unit=" ns"),
    Row("kv-fast", "kv_fast sets of a core's second, from Lua", kv.fast_set(request), 200_000, least=True, unit="/s"),
    Row("kv-set", "durable kv.set/s over tarantool's, 50 clients", kv.durable("tarantool_fsync", raw, ask, *ONE), 1.0,
        least=True),
    Row("kv-set-redis", "the same over redis appendfsync always", kv.durable("redis_always", raw, ask, *ONE), None),
    Row("redis-1", "rd.call GET over nutcracker's, 50 x 1", backends.over_nutcracker(raw, request, "redis", "us", *ONE), 1.0),
    Row("redis-16", "the same, 50 x 16", backends.over_nutcracker(raw, request, "redis", "us", *MANY), 1.0),
    Row("redis-1-p99", "its p99 over nutcracker's, 50 x 1",
        backends.over_nutcracker(raw, request, "redis", "p99_us", *ONE), 1.0),
    Row("redis-16-p99", "the same, 50 x 16", backends.over_nutcracker(raw, request, "redis", "p99_us", *MANY), 1.0),
    Row("memcache-1", "mc.get over nutcracker's get, 50 x 1",
        backends.over_nutcracker(raw, request, "memcached", "us", *ONE), None),
    Row("memcache-16", "the same, 50 x 16", backends.over_nutcracker(raw, request, "memcached", "us", *MANY), 1.0),
    Row("redis-lua", "fae.redis:get of a worker, 64 in flight", backends.gets_in_lua(request, "redis", 64), 450_000,
        unit="/s", least=True),
    Row("memcache-lua", "fae.memcache:get, 64 in flight", backends.gets_in_lua(request, "memcache", 64), None,
        unit="/s"),
    Row("mysql", "SELECT by key, 50 x 1, node over C client, /s", mysql.by_key("rate"), 0.7, least=True),
    Row("mysql-cpu", "CPU of the node for one", mysql.by_key("us"), 14, unit="us"),
    Row("mysql-unix", "the same, all by unix sockets, /s", mysql.by_key("rate", "unix"), 0.7, least=True),
    Row("mysql-unix-cpu", "CPU of the node for one of those", mysql.by_key("us", "unix"), 14, unit="us"),
    Row("my-cached", "my.query from the cache over lc.get, 50 x 1", mysql.cached(request, *ONE), 1.6),
    Row("my-shards", "my.query_shards, 8 shards of 20 ms, p99", mysql.shards, 30, unit="ms"),
    Row("php-redis", "5 redis gets of a page, node over direct, /s",
        web.redis_page("calls_per_s", ask, raw, "redis.php?by=node", *PAGES), None),
    Row("php-redis-batch", "the same, in one batch",
        web.redis_page("calls_per_s", ask, raw, "redis.php?by=batch", *PAGES), None),
    Row("php-redis-p99", "p99 of that page over direct, 300/s",
        web.redis_page("p99_us", ask, raw, "redis.php?by=node", *PAGES, "--rate", "300"), None),
    Row("php-mysql", "5 mysql rows of a page, node over direct, /s",
        webmysql.page("calls_per_s", (installed, ask, raw), *PAGES), 2.5, least=True),
    Row("php-mysql-batch", "the same, in one batch",
        webmysql.page("calls_per_s", (installed, ask, raw), *PAGES, ways=("batch", "direct")), None),
    Row("php-mysql-p99", "p99 of that page over direct, 300/s",
        webmysql.page("p99_us", (installed, ask, raw), *PAGES, "--rate", "300"), None),
    Row("php-mysql-far", "5 mysql rows, 0.5 ms away, node over direct",
        webmysql.page("calls_per_s", (installed, ask, raw), *PAGES, far=True), None),
    Row("php-mysql-far-batch", "the same, in one batch",
        webmysql.page("calls_per_s", (installed, ask, raw), *PAGES, ways=("batch", "direct", "kept"), far=True), 2.5,
        least=True),
    Row("php-mysql-500", "connections of mariadb, 500 php workers",
        webmysql.page("connections", (installed, ask, raw), *CROWD, children=500), 40, unit=""),
    Row("idle", "an idle session's RSS at 10,000", idle_sessions, 400, unit="B", rounds=1),
    Row("reload-load", "p99 under 10 reloads/s over quiet", reload_under_load, 2.0, rounds=1),
    Row("reload-rss", "RSS after 1,000 good + 1,000 bad reloads", reload_memory, 1.05, rounds=1),
]


def keeps(row, value):
    return row.target is None or (value >= row.target if row.least else value <= row.target)


def summarise(row, rounds):
    values = [r["value"] for r in rounds]
    value = statistics.median(values)
    failed = sum(r["failed"] for r in rounds)
    medians = {key: statistics.median(r[key] for r in rounds) for key in rounds[0] if key != "failed"}
    return {**medians, "text": row.text, "target": row.target, "unit": row.unit, "value": value, "low": min(values),
            "high": max(values), "failed": failed, "pass": keeps(row, value) and failed == 0, "rounds": rounds}


def measure_rows(bench, rows):
    """Rounds outside, rows inside: what drifts drifts through all of them."""
    rounds, unmeasured = {row.name: [] for row in rows}, {}
    for number in range(bench.args.rounds):
        for row in rows:
            if row.name in unmeasured or number >= (row.rounds or bench.args.rounds):
                continue
            say(f"  round {number + 1}: {row.name}: {row.text}")
            try:
                rounds[row.name].append(row.one_round(bench, number))
            except NotInstalled as what:
                unmeasured[row.name] = {"text": row.text, "pass": True, "absent": f"{what} is not installed"}
            except (Failed, subprocess.TimeoutExpired, OSError) as error:
                unmeasured[row.name] = {"text": row.text, "pass": False, "error": str(error)}
                say(f"    {error}")
    return {row.name: unmeasured.get(row.name) or summarise(row, rounds[row.name]) for row in rows}


def show(value, unit):
    return f"{value:,.0f}{unit}" if unit in ("/s", "B") else f"{value:.2f}{unit}"


def print_row(name, r):
    if "value" not in r:
        print(f"{r['text']:44}  {r.get('absent') or 'not measured: ' + r['error'].splitlines()[0]}")
        return
    unit = r["unit"]
    spread = f"{show(r['low'], unit)} .. {show(r['high'], unit)}"
    bound = ">=" if next(row.least for row in ROWS if row.name == name) else "<="
    owed = "" if r["target"] is None else f"{bound} {show(r['target'], unit):>11}  {'PASS' if r['pass'] else 'MISS'}"
    print(f"{r['text']:44}{fixed(r.get('us'))}{fixed(r.get('base_us'))}{show(r['value'], unit):>13}{spread:>27}  {owed}"
          + (f"  {r['failed']} FAILED" if r["failed"] else "") + ("  ~" if r.get("crowded", 0) > CROWDED else ""))


def print_results(results):
    print(f"{'scenario':44}{'us/call':>9}{'base':>9}{'measured':>13}{'spread':>27}     {'target':>11}")
    for name, r in results.items():
        print_row(name, r)
    if any(r.get("crowded", 0) > CROWDED for r in results.values()):
        print("~ other work ran on the server's cpu: rates and latencies are too bad, ratios uncertain")


def fixed(us):
    return f"{us:9.3f}" if us is not None else " " * 9


def saved(path):
    try:
        with open(path) as f:
            run = json.load(f)
        if isinstance(run["results"], dict):
            return run
    except OSError as error:
        sys.exit(f"{path}: {error.strerror}")
    except (ValueError, KeyError, TypeError):
        pass
    sys.exit(f"{path}: not a saved run of this program")


def compare(paths):
    a, b = map(saved, paths)
    print(f"{'scenario':44}{'before':>13}{'after':>13}{'change':>9}  {'us/call':>18}")
    for name, after in b["results"].items():
        before = a["results"].get(name, {})
        if "value" not in before or "value" not in after:
            n = ("value" in before) + ("value" in after)
            print(f"{after['text']:44}  measured in {'one' if n else 'none'} of the two")
            continue
        unit, us = after["unit"], ""
        if after.get("us") and before.get("us"):
            us = f"{before['us']:.3f} -> {after['us']:.3f}"
        print(f"{after['text']:44}{show(before['value'], unit):>13}{show(after['value'], unit):>13}"
              f"{100 * (after['value'] / before['value'] - 1):+8.1f}%  {us:>18}")


def positive(text):
    if int(text) < 1:
        raise ValueError
    return int(text)


def arguments():
    parser = argparse.ArgumentParser(description="server CPU per call against a bare limit server")
    parser.add_argument("--rounds", type=positive, default=3)
    parser.add_argument("--seconds", type=float, default=3, help="of one server's turn")
    parser.add_argument("--reload-seconds", type=float, default=60, help="of the load that reloads fall into")
    parser.add_argument("--reloads", type=int, default=1000, help="good ones, and as many bad ones")
    parser.add_argument("--only", action="append", metavar="NAME", choices=[row.name for row in ROWS])
    parser.add_argument("--out", default=os.path.join(BUILD, "bench.json"))
    parser.add_argument("--fae", default=os.environ.get("FAE_BIN", os.path.join(BUILD, "fae")))
    parser.add_argument("--compare", nargs=2, metavar=("A.json", "B.json"))
    return parser.parse_args()


def raise_nofile():
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main():
    args = arguments()
    if args.compare:
        compare(args.compare)
        return 0
    if not os.access(args.fae, os.X_OK):
        sys.exit(f"no {args.fae}: build it first, or name another with --fae")
    raise_nofile()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    bench = Bench(args)
    try:
        results = measure_rows(bench, [row for row in ROWS if not args.only or row.name in args.only])
    finally:
        bench.close()
    print_results(results)
    os.makedirs(os.path.dirname(os.path.abspath(args.out)), exist_ok=True)
    with open(args.out, "w") as f:
        json.dump({"made": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "cpus": os.cpu_count(), "rounds": args.rounds,
                   "seconds": args.seconds, "results": results}, f, indent=1)
    return 0 if all(r["pass"] for r in results.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
