# SPDX-License-Identifier: BSD-2-Clause
#
# A row by its primary key: of the node by 50 clients, and of a C client with 20 connections, from one MariaDB by its unix
# socket. All of them, the generator too, share the cpus there are.
import getpass
import os
import shutil
import subprocess

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
mysql "main" {{ servers = "unix:{socket}", user = "root", db = "test", max = {max} }}
"""
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
            "--bind-address=127.0.0.1", f"--socket={data}/s.sock", f"--pid-file={data}/pid", "--skip-name-resolve"]
    server = Server("mariadb", argv, [f"tcp://127.0.0.1:{port}"])
    made = subprocess.run([installed("mariadb"), "--no-defaults", "-uroot", f"--socket={data}/s.sock", "mysql", "-e", TABLE],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if made.returncode:
        raise Failed(f"the table: {made.stdout[-500:]}")
    server.socket = f"{data}/s.sock"
    return server


def start_node(bench, ready):
    path, servants = bench.dir("mysql_node"), bench.dir("mysql_servants")
    shutil.copy(os.path.join(HERE, "mysqlbench.lua"), servants)
    conf = os.path.join(path, "fae.lua")
    with open(conf, "w") as f:
        f.write(NODE_CONF.format(path=path, servants=servants, socket=bench.get("mariadb").socket, max=CONNECTIONS))
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


def by_key(value):
    """"rate": queries/s of the node over the C client's; "us": CPU of the node a query."""
    def one_round(bench, number):
        bench.get("mysql_node")
        figures = [None, None]
        for i in (0, 1) if number % 2 else (1, 0):
            figures[i] = client_figures(bench) if i else bench.measure("mysql_node", "tcp", CALL)
        node, (rate, us) = figures
        return {"value": node["calls_per_s"] / rate if value == "rate" else node["us"], "us": node["us"], "base_us": us,
                "calls_per_s": node["calls_per_s"], "base_calls_per_s": rate, "p99_us": node["p99_us"],
                "crowded": 0, "failed": node["failed"]}
    return one_round
