# SPDX-License-Identifier: BSD-2-Clause
"""fae.mysql with real mariadb-servers: specs of backends/ run by `fae test -c`, then what needs a node, and servers that
are killed, stopped and started again."""
import os
import threading
import time

import pytest

from harness import ROOT, SLOW, Node, free_port, wait_until
from mariadb import Mariadb
from test_redis import run_spec


@pytest.fixture(scope="module")
def server():
    with Mariadb() as one:
        one.sql("CREATE DATABASE test CHARACTER SET utf8mb4")
        yield one


def pool(name, server, more=""):
    return 'mysql "%s" { servers = "%s", user = "root", db = "test"%s }\n' % (name, server.addr, more)


def pools(server):
    return "".join([
        pool("main", server, ", timeout_ms = 5000"),
        pool("one", server, ", max = 1, statements = 30, timeout_ms = 5000"),
        pool("hurry", server, ", timeout_ms = 300"),
        'mysql "sock" { servers = "unix:%s", user = "root", db = "test", rows_max = 1000, result_max = "1MiB",'
        ' timeout_ms = 10000 }\n' % server.socket,
        'mysql "down" { servers = "127.0.0.1:%d", user = "root" }\n' % free_port(),
        'mysql "wrong" { servers = "%s", user = "root", password = "wrong" }\n' % server.addr,
    ])


def test_specs(server, tmp_path):
    run_spec(tmp_path, pools(server), "mysql_spec.lua")
