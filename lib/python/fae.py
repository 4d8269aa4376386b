# SPDX-License-Identifier: BSD-2-Clause
"""A client of fae on python3-msgpack: one connection, calls one after the other or many at once.

    fae = Client("unix:/run/fae/fae.sock", reason="import")
    print(fae.call("hello.greet", "Ada"))
"""
import itertools
import os
import random
import socket
import ssl
import sys

import msgpack


class Error(Exception):
    """A call that failed: code is "TIMEOUT", "BAD_ARGS", ..."""

    def __init__(self, wire):
        super().__init__("%s: %s" % (wire["code"], wire["message"]))
        self.code = wire["code"]
        self.retryable = wire.get("retryable", False)
        self.detail = wire.get("detail")


class Client:
    def __init__(self, address="tcp://127.0.0.1:9001", timeout_s=5, reason=None, uid=None, tls=None):
        """tls: an ssl.SSLContext for a tls:// address; ssl.create_default_context() when there is none."""
        scheme, _, rest = address.partition(":")
        if scheme == "unix":
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout_s)
            self.socket.connect(rest)
        else:
            host, _, port = rest.lstrip("/").rpartition(":")
            self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if scheme == "tls":
                tls = tls or ssl.create_default_context()
                self.socket = tls.wrap_socket(self.socket, server_hostname=host.strip("[]"))
        self.ids = itertools.cycle(range(1, 1 << 32))
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 28)
        self.context = {"rid": random.getrandbits(63) | 1, "reason": reason or os.path.basename(sys.argv[0]),
                        "uid": uid, "deadline_ms": int(timeout_s * 1000)}
        self.notify("sys.hello", {"error": "map"})

    def call(self, method, *params):
        """The result, or raises Error."""
        result = self.batch([(method,) + params])[0]
        if isinstance(result, Error):
            raise result
        return result

    def batch(self, calls):
        """Sends rows of (method, param, ...) together; a list of what came of each, an Error where one failed."""
        ids = [next(self.ids) for _ in calls]
        self.send(*([0, i, row[0], list(row[1:]), self.context] for i, row in zip(ids, calls)))
        waiting, results = set(ids), {}
        try:
            while waiting:
                kind, msgid, *rest = self.receive()
                if kind == 1 and msgid in waiting:  # answers come in any order
                    waiting.remove(msgid)
                    results[msgid] = rest[1] if rest[0] is None else Error(rest[0])
        finally:
            if waiting:  # what comes late must not answer the next call
                self.socket.close()
        return [results[i] for i in ids]

    def notify(self, method, *params):
        self.send([2, method, list(params)])

    def send(self, *messages):
        self.socket.sendall(b"".join(msgpack.packb(m, use_bin_type=True) for m in messages))

    def receive(self):
        while True:
            for message in self.unpacker:
                return message
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("WORKER_LOST: the connection was lost before the answer came")
            self.unpacker.feed(data)
