# SPDX-License-Identifier: BSD-2-Clause
#
# The cache: lc.get over the wire beside sys.noop, redis and memcached, and fae.cache from Lua, alone and with two workers
# at it (cachebench.lua, which times itself).
import json
import os
import shutil
import threading

import procs
from procs import Failed, say

VALUE = b"v" * 100
REDIS_GET = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
REDIS_SET = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\n" + VALUE + b"\r\n"
RUN_MS = 700
OK = b"\x94\x01\x00\xc0"  # what answers to msgid 0 begin with, when they are no errors


def ask(sock, body):
    """The text of a call's answer: a str or bin at its end."""
    sock.settimeout(70)
    sock.sendall(body)
    got = b""
    while True:
        more = sock.recv(65536)
        if not more:
            raise Failed(f"the session was closed after {got!r}")
        got += more
        if len(got) > 4 and (got.endswith(b"}") or got[:4] != OK):
            break
    if got[:4] != OK:
        raise Failed(f"an error: {got!r}")
    return json.loads(got[got.index(b"{"):])


def store(bench, request):
    """Puts k where lc.get finds it, once a server."""
    server = bench.get("fae")
    if (server.pid, "k") not in bench.warm:
        bench.warm.add((server.pid, "k"))
        with procs.connect(server.tcp()) as sock:
            sock.sendall(request("lc.set", ["k"])[:-3] + b"\x92\xa1k\xc4\x64" + VALUE)
            if sock.recv(64) != OK + b"\xc3":
                raise Failed("lc.set does not store")


def pair(got, base):
    return {"value": got["us"] / base["us"], "us": got["us"], "base_us": base["us"], "calls_per_s": got["calls_per_s"],
            "p99_us": got["p99_us"], "crowded": max(got["crowded"], base["crowded"]),
            "failed": got["failed"] + base["failed"]}


def over_noop(request, *args):
    """CPU of lc.get over that of sys.noop, of one node."""
    def one_round(bench, number):
        store(bench, request)
        calls = [list(args) + ["lc.get", '"k"'], list(args) + ["sys.noop"]]
        got = [bench.measure("fae", "tcp", calls[i]) for i in ((1, 0) if number % 2 else (0, 1))]
        return pair(*(got[::-1] if number % 2 else got))
    return one_round


def over_peer(request, raw, name, *args):
    """CPU of lc.get over that of another cache's get."""
    data = {"redis": REDIS_GET, "memcached": b"get k\r\n"}[name]
    answer = {"redis": b"$100\r\n" + VALUE + b"\r\n", "memcached": b"VALUE k 0 100\r\n" + VALUE + b"\r\nEND\r\n"}[name]

    def one_round(bench, number):
        store(bench, request)
        if name == "redis":
            with procs.connect(bench.get("redis").tcp()) as sock:
                sock.sendall(REDIS_SET)
                if sock.recv(64) != b"+OK\r\n":
                    raise Failed("redis does not store")
        base = bench.measure(name, "tcp", raw(data, answer) + list(args))
        return pair(bench.measure("fae", "tcp", list(args) + ["lc.get", '"k"']), base)
    return one_round


def start(bench, workers):
    servants = bench.dir("cache_servants")
    shutil.copy(os.path.join(os.path.dirname(os.path.abspath(__file__)), "cachebench.lua"), servants)
    return bench.start_node(f"cache{workers}", workers, servants, cpu=bench.server_cpu if workers == 1 else None)


def in_lua(request, what):
    """Nanoseconds of an operation in the only worker."""
    def one_round(bench, number):
        with procs.connect(bench.get("cache1").tcp()) as sock:
            ns = ask(sock, request("cachebench.run", [what, RUN_MS]))["ns"]
        say(f"    cache1     {ns:8.1f} ns a {what}")
        return {"value": ns, "failed": 0}
    return one_round


def two_workers(server, request):
    """A session of each of the two."""
    socks = {}
    for _ in range(200):
        sock = procs.connect(server.tcp())
        pid = ask(sock, request("cachebench.run", ["fill", 1]))["pid"]
        if pid in socks:
            sock.close()
        else:
            socks[pid] = sock
        if len(socks) == 2:
            return list(socks.values())
    raise Failed("all sessions came to one worker")


def in_lua_twice(request, what):
    """The same while the other worker does so too, with the same keys: the slower one's."""
    def one_round(bench, number):
        socks, ns = two_workers(bench.get("cache2"), request), []
        threads = [threading.Thread(target=lambda s=sock: ns.append(
            ask(s, request("cachebench.run", [what, RUN_MS]))["ns"])) for sock in socks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for sock in socks:
            sock.close()
        bench.drop("cache2")
        if len(ns) != 2:
            raise Failed("a worker did not answer")
        say(f"    cache2     {ns[0]:8.1f} and {ns[1]:.1f} ns a {what}")
        return {"value": max(ns), "failed": 0}
    return one_round


def flood(request):
    """Time for 100,000 keys that hardly differ over that for random ones."""
    def one_round(bench, number):
        with procs.connect(bench.get("cache1").tcp()) as sock:
            crafted, random = (ask(sock, request("cachebench.flood", [c, 100000]))["us"] for c in (True, False))
        return {"value": crafted / random, "failed": 0}
    return one_round


def entry(request):
    """Bytes beyond key and value that an entry takes in a full cache."""
    def one_round(bench, number):
        with procs.connect(bench.get("cache1").tcp()) as sock:
            return {"value": ask(sock, request("cachebench.entry", [500000]))["bytes"], "failed": 0}
    return one_round
