# SPDX-License-Identifier: BSD-2-Clause
#
# The node before redis and memcached, beside nutcracker before the same server: all share the servers' cpu, and the CPU
# of the proxy alone counts. And fae.redis in a servant (backbench.lua), where nobody is pinned.
import json
import os
import shutil

import cache
import procs
from procs import Failed, Server, free_port, say

HERE = os.path.dirname(os.path.abspath(__file__))
KEY, VALUE = b"key:1", b"v" * 32
RUN_MS = 1500
REDIS = {
    "set": b"*3\r\n$3\r\nSET\r\n$5\r\nkey:1\r\n$32\r\n" + VALUE + b"\r\n", "stored": b"+OK\r\n",
    "get": b"*2\r\n$3\r\nGET\r\n$5\r\nkey:1\r\n", "answer": b"$32\r\n" + VALUE + b"\r\n",
    "call": ["rd.call", '"main"', '"GET"', '"key:1"'],
}
MEMCACHED = {
    "set": b"set key:1 0 0 32\r\n" + VALUE + b"\r\n", "stored": b"STORED\r\n",
    "get": b"get key:1\r\n", "answer": b"VALUE key:1 0 32\r\n" + VALUE + b"\r\nEND\r\n",
    "call": ["mc.get", '"main"', '"key:1"'],
}
KINDS = {"redis": REDIS, "memcached": MEMCACHED}
NODE_CONF = """\
workers(1)
run_dir "{path}/run"
servants_dir "{servants}"
admin ""
listen "tcp://127.0.0.1:0"
redis "main" {{ servers = "{redis}" }}
memcache "main" {{ servers = "{memcached}" }}
"""
NUTCRACKER_CONF = """\
main:
  listen: 127.0.0.1:{port}
  hash: fnv1a_64
  distribution: ketama
  preconnect: true
  server_connections: 1
  timeout: 2000
  backlog: 4096
  auto_eject_hosts: false
  {redis}
  servers:
   - {server}:1
"""


def server_addr(bench, name):
    """HOST:PORT of a server that has the key."""
    server = bench.get(name)
    if (server.pid, KEY) not in bench.warm:
        bench.warm.add((server.pid, KEY))
        with procs.connect(server.tcp()) as sock:
            sock.sendall(KINDS[name.split("_")[0]]["set"])
            if sock.recv(64) != KINDS[name.split("_")[0]]["stored"]:
                raise Failed(f"{name} does not store")
    return server.tcp()[len("tcp://"):]


def start_node(bench, ready, redis, cpu):
    """A node before redis and memcached."""
    path, servants = bench.dir(f"back_{redis}"), bench.dir("back_servants")
    shutil.copy(os.path.join(HERE, "backbench.lua"), servants)
    conf = os.path.join(path, "fae.lua")
    with open(conf, "w") as f:
        f.write(NODE_CONF.format(path=path, servants=servants, redis=server_addr(bench, redis),
                                 memcached=server_addr(bench, "memcached")))
    return Server("fae", [bench.fae, "serve", "-c", conf], ready, cpu)


def start_nutcracker(bench, binary, name):
    path, port = bench.dir(f"nutcracker_{name}"), free_port()
    conf = os.path.join(path, "nutcracker.yml")
    with open(conf, "w") as f:
        f.write(NUTCRACKER_CONF.format(port=port, server=server_addr(bench, name),
                                       redis="redis: true" if name == "redis" else ""))
    argv = [binary, "-c", conf, "-s", str(free_port()), "-a", "127.0.0.1", "-o", os.path.join(path, "log")]
    return Server(f"nutcracker, {name}", argv, [f"tcp://127.0.0.1:{port}"], bench.server_cpu)


def check_node(bench, body):
    """A call of the load is counted when it is no error, so whether it brings the value is asked apart."""
    with procs.connect(bench.get("back").tcp()) as sock:
        sock.sendall(body)
        answer = sock.recv(4096)
    if not answer.endswith(VALUE):
        raise Failed(f"the node answers {answer!r}")


def over_nutcracker(raw, request, name, value, *args):
    """A figure of the node before a server over that of nutcracker before it, whose answers must all be the first one's
    bytes."""
    kind = KINDS[name]
    straight = raw(kind["get"], kind["answer"])
    body = request(kind["call"][0], [json.loads(text) for text in kind["call"][1:]])

    def one_round(bench, number):
        check_node(bench, body)
        turns = [("back", list(args) + kind["call"]), (f"nutcracker_{name}", straight + list(args))]
        got = {who: bench.measure(who, "tcp", asked) for who, asked in (turns[::-1] if number % 2 else turns)}
        check_node(bench, body)
        node, other = got["back"], got[f"nutcracker_{name}"]
        return {"value": node[value] / other[value], "us": node["us"], "base_us": other["us"],
                "calls_per_s": node["calls_per_s"], "base_calls_per_s": other["calls_per_s"], "p99_us": node["p99_us"],
                "base_p99_us": other["p99_us"], "crowded": max(node["crowded"], other["crowded"]),
                "failed": node["failed"] + other["failed"]}
    return one_round


def gets_in_lua(request, kind, in_flight):
    """Gets a second that one worker makes from a servant, as many at a time."""
    def one_round(bench, number):
        server = bench.get("back_free")
        before = server.sched()
        with procs.connect(server.tcp()) as sock:
            got = cache.ask(sock, request("backbench.gets", [kind, in_flight, RUN_MS]))
        ran = sum(now[0] - before[pid][0] for pid, now in server.sched().items())
        us = ran / got["n"] / 1000
        say(f"    back       {got['per_s']:12,.0f} gets/s {us:8.3f} us of cpu each, {in_flight} in flight")
        return {"value": got["per_s"], "us": us, "failed": 0}
    return one_round
