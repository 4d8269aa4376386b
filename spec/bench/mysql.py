# SPDX-License-Identifier: BSD-2-Clause
#
# A row by its primary key: of the node by 50 clients (tcp, and unix), and of a C client with 20 connections, from one
# MariaDB by its unix socket. All of them, the generator too, share the cpus there are.
import getpass
import os
import shutil
import subprocess

import cache
import procs
from procs import Failed, Server, free_port, say

HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build")
CLIENTS, CONNECTIONS = 50, 20
CALL = ["-c", str(CLIENTS), "-p", "1", "mysqlbench.get", "{{rand:1:10000}}"]
NODE_CONF = """\
workers(2)
run_dir "{path}/run"
servants_dir "{servants}"
admin ""
listen "tcp://127.0.0.1:0"
listen "unix:{path}/fae.sock"
mysql "main" {{ servers = "unix:{socket}", user = "root", db = "test", max = {max} }}
"""
SHARDS = 8
SHARD_CONF = 'mysql "s{i}" {{ servers = "unix:{socket}", user = "root", db = "test" }}\n'
CACHED = ["my.query", '"main"', '"pk"', "null", '"SELECT id, v, n FROM pk WHERE id = ?"', "[17]", '"bench:17"']
SHARDED = ["-c", "1", "-p", "1", "my.query_shards", '"s"', '"t"', '"SELECT SLEEP(0.02)"']
TABLE = ("CREATE DATABASE test; CREATE TABLE test.pk (id INT PRIMARY KEY, v VARCHAR(100), n INT); "
         "INSERT INTO test.pk SELECT seq, REPEAT('v', 100), seq * 2 FROM seq_1_to_10000")


def start_server(bench, installed):
    data, port = bench.dir("mariadb"), free_port()
    shutil.rmtree(data)
    made = subprocess.run([installed("mariadb-install-db"), "--no-defaults", "--user=" + getpass.getuser(),
                           "--skip-test-db", "--datadir=" + data, "--auth-root-authentication-method=normal"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        raise Failed(f"mariadb-install-db: {made.stdout[-500:]}")
    argv = [installed("mariadbd"), "--no-defaults", "--user=" + getpass.getuser(), "--datadir=" + data, f"--port={port}",
            "--bind-address=127.0.0.1", f"--socket={data}/s.sock", f"--pid-file={data}/pid", "--skip-name-resolve",
            "--max-connections=1000", "--back-log=1000", "--log-warnings=0"]  # of ended clients, until the pipe is full
    server = Server("mariadb", argv, [f"tcp://127.0.0.1:{port}"])
    made = subprocess.run([installed("mariadb"), "--no-defaults", "-uroot", f"--socket={data}/s.sock", "-e", TABLE, "mysql"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        raise Failed(f"the table: {made.stdout[-500:]}")
    server.socket = f"{data}/s.sock"
    return server


def start_node(bench, ready):
    path, servants = bench.dir("mysql_node"), bench.dir("mysql_servants")
    shutil.copy(os.path.join(HERE, "mysqlbench.lua"), servants)
    conf = os.path.join(path, "fae.lua")
    socket = bench.get("mariadb").socket
    with open(conf, "w") as f:
        f.write(NODE_CONF.format(path=path, servants=servants, socket=socket, max=CONNECTIONS))
        f.writelines(SHARD_CONF.format(i=i, socket=socket) for i in range(SHARDS))
        f.write('shard "s" { strategy = "hash", pools = { %s } }\n' % ", ".join('"s%d"' % i for i in range(SHARDS)))
    return Server("fae", [bench.fae, "serve", "-c", conf], ready)


def build_client():
    binary, source = os.path.join(BUILD, "bench", "mysqlload"), os.path.join(HERE, "mysqlload.c")
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(binary), exist_ok=True)
        flags = subprocess.run(["pkg-config", "--cflags", "--libs", "libmariadb"], check=True, stdout=subprocess.PIPE,
                               text=True).stdout.split()
        subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", binary, source,
                        *flags, "-lpthread"], check=True)
    return binary


def client_figures(bench):
    out = subprocess.run([build_client(), bench.get("mariadb").socket, str(CONNECTIONS), str(bench.args.seconds)],
                         stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    say(f"    C client   {float(out[1]):8.3f} us/query {float(out[0]):10,.0f} queries/s")
    return float(out[0]), float(out[1])


def by_key(value, via="tcp"):
    """"rate": queries/s of the node, whose clients come by `via`, over the C client's; "us": CPU of the node a query."""
    def one_round(bench, number):
        bench.get("mysql_node")
        figures = [None, None]
        for i in (0, 1) if number % 2 else (1, 0):
            figures[i] = client_figures(bench) if i else bench.measure("mysql_node", via, CALL)
        node, (rate, us) = figures
        return {"value": node["calls_per_s"] / rate if value == "rate" else node["us"], "us": node["us"], "base_us": us,
                "calls_per_s": node["calls_per_s"], "base_calls_per_s": rate, "p99_us": node["p99_us"],
                "crowded": 0, "failed": node["failed"]}
    return one_round


def cached(request, *args):
    """CPU of my.query with its result in the cache, over that of lc.get of as many bytes, both of one node."""
    def one_round(bench, number):
        server = bench.get("mysql_node")
        if (server.pid, "lc") not in bench.warm:
            bench.warm.add((server.pid, "lc"))
            with procs.connect(server.tcp()) as sock:
                sock.sendall(request("lc.set", ["k", "v" * 140]))
                sock.recv(64)
        calls = [list(args) + CACHED, list(args) + ["lc.get", '"k"']]
        got = [bench.measure("mysql_node", "tcp", calls[i]) for i in ((1, 0) if number % 2 else (0, 1))]
        return cache.pair(*(got[::-1] if number % 2 else got))
    return one_round


def shards(bench, number):
    """Milliseconds, p99, of one call over SHARDS shards that take 20 ms each."""
    figures = bench.measure("mysql_node", "tcp", SHARDED)
    return {"value": figures["p99_us"] / 1000, "us": figures["us"], "p99_us": figures["p99_us"],
            "calls_per_s": figures["calls_per_s"], "crowded": figures["crowded"], "failed": figures["failed"]}
