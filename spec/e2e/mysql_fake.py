# SPDX-License-Identifier: BSD-2-Clause
"""A MySQL server that lies: each connection is answered by a script made from a seed, sound up to a point of it and
then wrong in some way. Nothing here knows what the client should do."""
import random
import socket
import struct
import threading

import harness

OK = b"\x00\x00\x00\x02\x00\x00\x00"
EOF = b"\xfe\x00\x00\x02\x00"


def packet(number, body):
    return struct.pack("<I", len(body))[:3] + bytes([number & 255]) + body


def greeting(rnd=None, tls=False, number=7):
    version = b"5.5.5-10.11.6-MariaDB"
    plugin = b"mysql_native_password"
    if rnd and rnd.random() < 0.3:
        plugin = rnd.choice([b"mysql_clear_password", b"dialog", b"caching_sha2_password", b"../../x", b"x" * 300, b""])
    flags = struct.pack("<HBHHB", 0xfffe if tls else 0xf7fe, 45, 2, 0x003f, 21)
    body = (b"\x0a" + version + b"\0" + struct.pack("<I", number) + b"abcdefgh\0" + flags + b"\0" * 10 +
            b"abcdefghijkl\0" + plugin + b"\0")
    return packet(0, body)


def lenenc(text):
    return (bytes([len(text)]) if len(text) < 251 else b"\xfc" + struct.pack("<H", len(text))) + text


def column(name, kind, flags=0):
    return (lenenc(b"def") + lenenc(b"") * 3 + lenenc(name) + lenenc(name) + b"\x0c" +
            struct.pack("<HIBHB", 45, 100, kind, flags, 0) + b"\0\0")


KINDS = [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 16, 246, 249, 252, 253, 254, 255, 200, 14, 6, 15]


def garbage(rnd):
    n = rnd.choice([0, 1, 2, 3, 4, 5, 9, 17, 64, 300, 5000])
    return bytes(rnd.choice([0, 1, 2, 3, 250, 251, 252, 253, 254, 255, rnd.randrange(256)]) for _ in range(n))


def mangle(rnd, data):
    """A bit of data changed, cut out, cut off, or put in."""
    data = bytearray(data)
    for _ in range(rnd.choice([1, 1, 2, 5])):
        at = rnd.randrange(len(data) + 1)
        what = rnd.randrange(5)
        if what == 0 and at < len(data):
            data[at] = rnd.choice([0, 1, 250, 251, 252, 253, 254, 255, rnd.randrange(256)])
        elif what == 1:
            del data[at:at + rnd.choice([1, 2, 8, 40])]
        elif what == 2:
            del data[at:]
        elif what == 3:
            data[at:at] = garbage(rnd)
        elif at + 3 < len(data):
            data[at:at + 3] = rnd.choice([b"\xff\xff\xff", b"\x00\x00\x00", b"\xff\xff\x00"])
    return bytes(data)


def answer(rnd, command):
    """The packets that answer a command, as one piece of bytes; sound."""
    kind = command[:1]
    if kind == b"\x16":  # prepare
        n_params, n_columns = command.count(b"?"), rnd.choice([0, 1, 3])
        out = packet(1, b"\x00" + struct.pack("<IHHBH", 1, n_columns, n_params, 0, 0))
        number = 2
        for n in n_params, n_columns:
            for _ in range(n):
                out += packet(number, column(b"p", 253))
                number += 1
            if n:
                out += packet(number, EOF)
                number += 1
        return out
    if kind in b"\x03\x17" and rnd.random() < 0.8:
        binary = kind == b"\x17"
        kinds = [rnd.choice(KINDS) for _ in range(rnd.choice([1, 1, 3, 20]))]
        out = packet(1, bytes([len(kinds)]))
        number = 2
        for k in kinds:
            out += packet(number, column(b"c", k, rnd.choice([0, 32])))
            number += 1
        out += packet(number, EOF)
        number += 1
        for _ in range(rnd.choice([0, 1, 3, 50])):
            if binary:
                row = b"\0" + bytes((len(kinds) + 9) // 8) + garbage(rnd)
            else:
                row = b"".join(rnd.choice([lenenc(b"7"), lenenc(b"2026-01-01"), b"\xfb", garbage(rnd)]) for _ in kinds)
            out += packet(number, row)
            number += 1
        return out + packet(number, EOF)
    if rnd.random() < 0.2:
        return packet(1, b"\xff" + struct.pack("<H", rnd.choice([1064, 1213, 1040, 1927, 65535, 0])) + b"#42000wrong")
    return packet(1, OK)


class Fake:
    """How each connection goes is of `seeds`, one after the other; when they are through they begin again."""

    def __init__(self, seeds, tls=None):
        self.tls = tls  # an ssl.SSLContext: the login is asked to go on in TLS
        self.seeds, self.next, self.lock = list(seeds), 0, threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.addr = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.n_connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self.listener.close()

    def _accept(self):
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with self.lock:
                seed = self.seeds[self.next % len(self.seeds)]
                self.next += 1
                self.n_connections += 1
            threading.Thread(target=self._serve, args=(sock, random.Random(seed)), daemon=True).start()

    def _serve(self, sock, rnd):
        sock.settimeout(5 * harness.SLOW)
        wrong_at = rnd.choice([0, 1, 2, 2, 3, 3, 4, 6])
        try:
            with sock:
                for step in range(1000):
                    if step == 0:
                        out = greeting(rnd if step == wrong_at else None, self.tls is not None)
                    elif step == 1:
                        out = packet(3 if self.tls else 2, OK)
                    else:
                        out = answer(rnd, command)
                    if step == wrong_at:
                        if self._end(sock, rnd, out):
                            return
                    else:
                        sock.sendall(out)
                    command = self._read(sock)
                    if step == 0 and self.tls:
                        sock = self.tls.wrap_socket(sock, server_side=True)
                        command = self._read(sock)
                    if command[:1] == b"\x01":
                        return
                    if command[:1] == b"\x19":  # close of a statement has no answer
                        command = self._read(sock)
        except (OSError, EOFError):
            pass

    def _end(self, sock, rnd, out):
        how = rnd.randrange(6)
        if how == 0:
            sock.sendall(garbage(rnd))
            return True
        if how == 1:  # silence
            sock.recv(1 << 16)
            threading.Event().wait(1)
            return True
        if how == 2:  # half of it
            sock.sendall(out[:rnd.randrange(len(out) + 1)])
            return rnd.random() < 0.7
        if how == 3:  # it goes on and on
            for _ in range(200):
                sock.sendall(out + garbage(rnd))
            return True
        sock.sendall(mangle(rnd, out))
        return rnd.random() < 0.5

    @staticmethod
    def _read(sock):
        def exactly(n):
            got = b""
            while len(got) < n:
                more = sock.recv(n - len(got))
                if not more:
                    raise EOFError
                got += more
            return got
        head = exactly(4)
        return exactly(int.from_bytes(head[:3], "little"))


class Endless(Fake):
    """Answers each statement, and each that is prepared, with columns that have no end."""

    def __init__(self):
        super().__init__([0])

    def _serve(self, sock, rnd):
        columns = b"".join(packet(number, column(b"c" * 200, 253)) for number in range(256)) * 40
        try:
            with sock:
                sock.sendall(greeting())
                sock.recv(65536)
                sock.sendall(packet(2, OK))
                kind = sock.recv(65536)[4:5]
                sock.sendall(packet(1, b"\0" + struct.pack("<IHHBH", 1, 1, 1, 0, 0) if kind == b"\x16" else b"\1"))
                columns = columns[len(packet(0, column(b"c" * 200, 253))) * 2:] + columns  # number 2 is the first
                while True:
                    sock.sendall(columns)
        except OSError:
            pass


class Holding(Fake):
    """Numbers its connections, holds each SLEEP until it is told to KILL it, and says that it is up for up_s. Told to,
    it closes what it holds when it is asked for that: before it answers. kills: the numbers that it was told."""

    def __init__(self, up_s, closes=False):
        self.up_s, self.closes, self.kills, self.held, self.n_asked = up_s, closes, [], {}, 0
        super().__init__([0])

    def _serve(self, sock, rnd):
        with self.lock:
            number = self.n_connections
        try:
            with sock:
                sock.sendall(greeting(number=number))
                self._read(sock)
                sock.sendall(packet(2, OK))
                while True:
                    command = self._read(sock)
                    if b"SLEEP" in command:
                        self.held[number] = threading.Event()
                        self.held[number].wait(30)
                        return
                    sock.sendall(self._answer(command))
        except (OSError, EOFError):
            pass

    def _answer(self, command):
        if b"Uptime" in command:
            self.n_asked += 1
            if self.closes:
                for event in self.held.values():
                    event.set()
                threading.Event().wait(0.1)
            return (packet(1, b"\2") + packet(2, column(b"Variable_name", 253)) + packet(3, column(b"Value", 253)) +
                    packet(4, EOF) + packet(5, lenenc(b"Uptime") + lenenc(b"%d" % self.up_s)) + packet(6, EOF))
        if command[1:5] == b"KILL":
            self.kills.append(int(command[6:]))
            self.held[self.kills[-1]].set()
        return packet(1, OK)
