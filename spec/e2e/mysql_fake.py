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
    it closes what it holds when it is asked for that: before it answers; or it never answers that (freezes). kills: the
    numbers that it was told. room: connections that it has had when it says that it is full, n_refused times."""

    def __init__(self, up_s, closes=False, freezes=False):
        self.up_s, self.closes, self.freezes, self.kills, self.held, self.n_asked = up_s, closes, freezes, [], {}, 0
        self.room, self.n_refused = 1 << 30, 0
        super().__init__([0])

    def _serve(self, sock, rnd):
        with self.lock:
            number = self.n_connections
        try:
            with sock:
                if number > self.room:
                    self.n_refused += 1
                    sock.sendall(packet(0, b"\xff" + struct.pack("<H", 1040) + b"Too many connections"))
                    return
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
            if self.freezes:
                threading.Event().wait(30)
            if isinstance(self.up_s, bytes):
                return result([column(b"a", 253), column(b"b", 253)], lenenc(b"Uptime") + length(len(self.up_s)) + self.up_s)
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


def packets(number, *bodies):
    """They are cut at 16 MiB, and numbered."""
    out = b""
    for body in bodies:
        while True:
            piece, body = body[:0xffffff], body[0xffffff:]
            out += packet(number, piece)
            number += 1
            if len(piece) < 0xffffff:
                break
    return out


def length(n):
    return b"\xfe" + struct.pack("<Q", n)


def result(columns, *rows):
    return packets(1, length(len(columns)), *columns, EOF, *rows, EOF)


def long_text(n):
    return length(n) + b"x" * n


def column_of(name):
    """As column(), of a name of any length."""
    text = lenenc(name) if len(name) < 65536 else b"\xfd" + struct.pack("<I", len(name))[:3] + name
    return lenenc(b"def") + lenenc(b"") * 3 + text * 2 + b"\x0c" + struct.pack("<HIBHB", 45, 100, 253, 0, 0) + b"\0\0"


# name: (answer to a statement as text, its answer when it was prepared, what becomes of it). An answer ends with the
# connection when it is in a list.
SHAPES = {}


def shape(name, codes, columns, row):
    """A result of that row, in both protocols: nulls are none."""
    text, binary = row, b"\0" + bytes((len(columns) + 9) // 8) + row
    SHAPES[name] = (result(columns, text), result(columns, binary), codes)


shape("4096 columns", {"OK"}, [column_of(b"c" * 60)] * 4096, lenenc(b"7") * 4096)
shape("4097 columns", {"LIMIT"}, [column_of(b"c")] * 4097, lenenc(b"7") * 4097)
shape("names of 64 KiB", {"OK"}, [column_of(b"n" * 65536)] * 4, lenenc(b"7") * 4)
shape("17 MiB in two packets", {"OK"}, [column_of(b"c")], long_text(17 << 20))
shape("16 MiB and an empty packet", {"OK"}, [column_of(b"c")], long_text((1 << 24) - 1 - 9))
shape("a length beyond the row", {"BACKEND"}, [column_of(b"c")], length(1 << 20) + b"x")
shape("the largest length", {"BACKEND"}, [column_of(b"c")], length(2**64 - 1) + b"x")
shape("a row that is short", {"BACKEND"}, [column_of(b"c")] * 3, lenenc(b"7"))
for name, said, codes in (
        ("no columns of a result", packets(1, length(0)), {"OK", "BACKEND"}),
        ("more columns than there are numbers", packets(1, length(2**63)), {"BACKEND", "LIMIT", "UNAVAILABLE", "TIMEOUT"}),
        ("more columns than come", packets(1, length(3), column(b"c", 253), EOF, EOF), {"BACKEND", "UNAVAILABLE", "TIMEOUT"}),
        ("columns that are none", packets(1, length(1), b"\3def", EOF, EOF), {"BACKEND", "UNAVAILABLE"}),
        ("a file is asked for", packets(1, b"\xfb/etc/passwd"), {"BACKEND", "BAD_ARGS", "UNAVAILABLE", "LIMIT", "TIMEOUT"}),
        ("an error among rows", packets(1, length(1), column(b"c", 253), EOF, b"\xff\x28\x04#HY000halt"), {"BACKEND"}),
        ("an error without a text", packets(1, b"\xff\x28\x04"), {"BACKEND"}),
        ("an empty packet", packets(1, b""), {"BACKEND", "UNAVAILABLE", "TIMEOUT"}),
        ("counts of 2^64", packets(1, b"\0" + length(2**64 - 1) * 2 + b"\2\0\0\0"), {"OK"}),
        ("another number", packets(77, b"\0\0\0\2\0\0\0"), {"BACKEND", "UNAVAILABLE", "OK"}),
        ("the end in a packet of 16 MiB", [packets(1, length(1), column(b"c", 253), EOF) + b"\xff\xff\xff\4" +
                                           b"x" * (1 << 20)], {"UNAVAILABLE"}),
        ("the end in the second packet", [packets(1, length(1), column(b"c", 253), EOF) + b"\xff\xff\xff\4" +
                                          length(1 << 25) + b"x" * (0xffffff - 9) + b"\xff\xff\xff\5x"], {"UNAVAILABLE"}),
        ("no end of 16 MiB packets", [packets(1, length(1), column(b"c", 253), EOF) +
                                      b"".join(b"\xff\xff\xff" + bytes([n]) + b"x" * 0xffffff for n in range(4, 10))],
         {"LIMIT", "UNAVAILABLE"})):
    SHAPES[name] = (said, said, codes)


class Shaped(Fake):
    """Answers `SELECT NAME` by the shape of that name, also when it was prepared: with `params` parameters."""

    def __init__(self):
        super().__init__([0])

    def _serve(self, sock, rnd):
        sql = None
        try:
            with sock:
                sock.sendall(greeting())
                self._read(sock)
                sock.sendall(packet(2, OK))
                while True:
                    command = self._read(sock)
                    if command[:1] == b"\x16":
                        sql = command[1:].decode()
                        out = packets(1, b"\0" + struct.pack("<IHHBH", 1, 0, 1, 0, 0), column(b"p", 253), EOF)
                    elif command[:1] == b"\x17" or command[1:].decode("latin1")[7:] in SHAPES:
                        as_text = command[:1] == b"\3"
                        out = SHAPES[(command[1:].decode() if as_text else sql.split(" /*")[0])[7:]][0 if as_text else 1]
                    elif command[:1] == b"\x19":
                        continue
                    else:
                        out = packet(1, OK)
                    sock.sendall(out[0] if isinstance(out, list) else out)
                    if isinstance(out, list):
                        return
        except (OSError, EOFError):
            pass
