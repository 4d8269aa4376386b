# SPDX-License-Identifier: BSD-2-Clause
#
# The kv store: a warm get from Lua, CPU of a set that does not wait for the disk, and what matters of one that does:
# how many a second, beside tarantool that inserts with wal_mode = fsync and redis with appendfsync always, on one disk.
import os
import shutil
import struct

import procs
from procs import Failed, Server, free_port, say

HERE = os.path.dirname(os.path.abspath(__file__))
RUN_MS = 1500
CONF = """\
workers({workers})
run_dir "{path}/run"
servants_dir "{servants}"
admin ""
kv_fast(true)
listen "tcp://127.0.0.1:0"
"""
TARANTOOL = """\
box.cfg {{ work_dir = "{path}", wal_mode = "fsync", log_level = 2 }}
box.schema.space.create("kv"):create_index("primary", {{ sequence = true }})
local value = ("v"):rep(100)
function ins() box.space.kv:insert {{ nil, value }} end
box.schema.user.grant("guest", "execute,read,write", "universe")
box.cfg {{ listen = "127.0.0.1:{port}" }}
"""
CALL = b"\x82\x00\x0a\x01\x05\x82\x22\xa3ins\x21\x90"
INSERT = b"\xce" + struct.pack(">I", len(CALL)) + CALL
REDIS_SET = b"*3\r\n$3\r\nSET\r\n$6\r\nuser:1\r\n$100\r\n" + b"v" * 100 + b"\r\n"
FAE_SET = ["kv.set", '"user:{{rand:1:100000}}"', '"{{str:100}}"']


def start(bench, ready, workers, cpu):
    path, servants = bench.dir(f"kv{workers}"), bench.dir(f"kv{workers}_servants")
    shutil.copy(os.path.join(HERE, "kvbench.lua"), servants)
    conf = os.path.join(path, "fae.lua")
    with open(conf, "w") as f:
        f.write(CONF.format(workers=workers, path=path, servants=servants))
    return Server(f"kv{workers}", [bench.fae, "serve", "-c", conf], ready, cpu)


def start_tarantool(bench, binary):
    port, path = free_port(), bench.dir("tarantool_fsync")
    script = os.path.join(path, "insert.lua")
    with open(script, "w") as f:
        f.write(TARANTOOL.format(path=path, port=port))
    return Server("tarantool", [binary, script], [f"tcp://127.0.0.1:{port}"])


def start_redis(bench, binary):
    port = free_port()
    argv = [binary, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync",
            "always", "--auto-aof-rewrite-percentage", "0", "--dir", bench.dir("redis_always"), "--daemonize", "no"]
    return Server("redis", argv, [f"tcp://127.0.0.1:{port}"])


def number(server, request, method):
    """What a method of kvbench gives for a run: an int, or a float."""
    with procs.connect(server.tcp()) as sock:
        sock.settimeout(70)
        sock.sendall(request(method, [RUN_MS]))
        got = sock.recv(65536)
    if got[:4] != b"\x94\x01\x00\xc0" and got[:9] != b"\x94\x01\xce\0\0\0\0\xc0":
        raise Failed(f"{method}: {got!r}")
    body = got[4:] if got[2:3] == b"\x00" else got[8:]
    kinds = {0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I"}
    return struct.unpack(kinds[body[0]], body[1:])[0] if body[0] >= 128 else body[0]


def warm_get(request):
    """Nanoseconds of fae.kv.get."""
    def one_round(bench, _):
        ns = number(bench.get("kv1"), request, "kvbench.get")
        say(f"    kv1        {ns:8.1f} ns a get")
        return {"value": ns, "failed": 0}
    return one_round


def fast_set(request):
    """Sets that a second of one core's time makes: of the worker and the writer together."""
    def one_round(bench, _):
        server = bench.get("kv1")
        before = server.sched()
        n = number(server, request, "kvbench.fast")
        after = server.sched()
        ran = sum(after[pid][0] - before.get(pid, (0, 0))[0] for pid in after)
        say(f"    kv1        {n} sets, {ran / n / 1000:.2f} us of CPU each")
        return {"value": n / (ran / 1e9), "us": ran / n / 1000, "failed": 0}
    return one_round


def durable(peer, raw, ask, *args):
    """Durable writes a second over those of a peer, both on two cpus that they share with the generator."""
    data, greeting = {"tarantool_fsync": (INSERT, 128), "redis_always": (REDIS_SET, 0)}[peer]

    def one_round(bench, number):
        answer = ask(bench.get(peer).tcp(), data, greeting)
        calls = [(peer, raw(data, answer, greeting) + list(args)), ("kv2", list(args) + FAE_SET)]
        got = {name: bench.measure(name, "tcp", call) for name, call in (calls[::-1] if number % 2 else calls)}
        kv, base = got["kv2"], got[peer]
        return {"value": kv["calls_per_s"] / base["calls_per_s"], "us": kv["us"], "base_us": base["us"],
                "calls_per_s": kv["calls_per_s"], "base_calls_per_s": base["calls_per_s"], "p99_us": kv["p99_us"],
                "base_p99_us": base["p99_us"], "failed": kv["failed"] + base["failed"]}
    return one_round
