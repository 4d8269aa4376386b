# SPDX-License-Identifier: BSD-2-Clause
"""Listening sockets that a node is started with, as systemd does: two nodes behind the same ones, of which one stops
(S7); clients that wait in them while no node is there."""
import fcntl
import json
import os
import socket
import subprocess

import pytest

from harness import FAE, Client, Closed, Node, RpcError, connect, request, wait_until


def out_of_the_way(sock):
    """The same socket with a number that the node's shell does not use."""
    with sock:
        return socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, 30))


class Sockets:
    def __init__(self, folder):
        self.path = os.path.join(str(folder), "given.sock")
        unix, tcp = socket.socket(socket.AF_UNIX), socket.socket()
        unix.bind(self.path)
        tcp.bind(("127.0.0.1", 0))
        self.addrs = ["unix:" + self.path, "tcp://127.0.0.1:%d" % tcp.getsockname()[1]]
        for sock in (unix, tcp):
            sock.listen(1024)
        self.socks = [out_of_the_way(unix), out_of_the_way(tcp)]

    def node(self, **more):
        return Node(listen=self.addrs, given=self.socks, servants=["probe"], **more)

    def close(self):
        for sock in self.socks:
            sock.close()


@pytest.fixture()
def sockets(tmp_path):
    given = Sockets(tmp_path)
    yield given
    given.close()


def load(addr, *options):
    return subprocess.Popen([FAE, "bench", "-s", addr, "--json", "-d", "4", *options, "sys.echo", '"hi"'],
                            stdout=subprocess.PIPE)


def figures(process):
    return json.loads(process.communicate(timeout=60)[0])


def test_one_of_two_nodes_stops_under_load(sockets):
    with sockets.node(workers=2) as stays:
        with sockets.node(workers=2) as goes:
            assert goes.addrs == stays.addrs == sockets.addrs
            kept = load(goes.tcp, "--rate", "1000", "-c", "32")
            short = [load(addr, "--rate", "200", "-c", "16", "--connect-per-call") for addr in sockets.addrs]
            # How the kernel spreads connections over those who wait for them is its own affair.
            wait_until("both serve", lambda: all(sum(w["accepted"] for w in n.stats()["workers"]) for n in (goes, stays)))
            pids, sleepers = set(goes.worker_pids()), []
            for _ in range(4000):
                if len(sleepers) == 8:
                    break
                c = Client(goes.unix)
                if c.call("probe.pid") in pids:
                    sleepers.append((c, c.start("probe.wait", 1000, "t")))
                else:
                    c.close()
            assert sleepers
            wait_until("their calls are in flight", lambda: sum(m["in_flight"] for m in goes.stats()["methods"]
                                                                if m["name"] == "probe.wait") == len(sleepers))
            goes.stop()
            for c, msgid in sleepers:
                assert c.finish(msgid) is not None
                with pytest.raises(Closed):
                    c.recv()
                c.close()
        for process in short:
            done = figures(process)
            assert done["ok"] == done["sent"] >= 300, done  # of 800; a machine that stands still costs some
        # Those that kept a connection were told to go elsewhere, at worst; no call was lost without an answer.
        done = figures(kept)
        assert done["answered"] == done["sent"] >= 1500, done
        assert set(done["errors"]) <= {"DRAINING"}, done["errors"]
        assert sockets.path and os.path.exists(sockets.path)


def test_clients_wait_while_no_node_is_there(sockets):
    sockets.node().stop()
    assert os.path.exists(sockets.path)
    waiting = [connect(addr) for addr in sockets.addrs for _ in range(10)]
    for sock in waiting:
        sock.sendall(request(7, "sys.echo", "hi"))
    with sockets.node() as node:
        for sock in waiting:
            assert sock.recv(64) == b"\x94\x01\x07\xc0\xa2hi"
            sock.close()
        # What of it is ours to decide is as with sockets of our own.
        with node.client("tcp") as c:
            with pytest.raises(RpcError) as err:
                c.call("no.such")
            assert err.value.code == "UNKNOWN_METHOD"


def test_sockets_meant_for_another_process_are_not_taken(sockets, tmp_path):
    node = sockets.node(wait=False)
    node.given = []
    node.env.update(LISTEN_PID="1", LISTEN_FDS="2")
    with pytest.raises(AssertionError, match="address is in use"):
        node.start()
    node.remove_folder()
