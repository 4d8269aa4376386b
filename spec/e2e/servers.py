# SPDX-License-Identifier: BSD-2-Clause
"""A real redis-server and a real memcached for a test, each with a port of its own, stopped, killed and started again
by its pid; and what it takes to talk to them straight."""
import os
import shutil
import signal
import socket
import subprocess
import tempfile

import harness
from harness import wait_until


def states(pid):
    """Of its threads, as the kernel has them: R, S, T ..."""
    found = set()
    for thread in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, thread)) as f:
            found.add(f.read().rpartition(")")[2].split()[0])
    return found


class Process:
    """start() and kill() as often as one likes; the port stays. host: another address of this machine."""

    def __init__(self, host="127.0.0.1", port=None, prefix=(), args=()):
        self.host, self.prefix, self.args = host, list(prefix), list(args)
        self.port = port or harness.free_port()
        self.addr = "%s:%d" % (host, self.port)
        self.folder = tempfile.mkdtemp(prefix="fae-server-")
        self.process = None
        self.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self):
        self.process = subprocess.Popen(self.prefix + self.command(), cwd=self.folder, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until("%s is there" % self.addr, self.answers, 10)

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def pause(self):
        os.kill(self.process.pid, signal.SIGSTOP)
        wait_until("each thread of it stands", lambda: states(self.process.pid) == {"T"})

    def go_on(self):
        os.kill(self.process.pid, signal.SIGCONT)

    def connect(self):
        return socket.create_connection((self.host, self.port), 10 * harness.SLOW)

    def answers(self):
        assert self.process.poll() is None, "%s ended" % self.command()[0]
        try:
            with self.connect() as sock:
                sock.sendall(self.HELLO)
                return bool(sock.recv(64))
        except OSError:
            return False

    def exchange(self, data, end):
        """What is answered, up to these bytes."""
        with self.connect() as sock:
            sock.sendall(data)
            got = b""
            while not got.endswith(end):
                more = sock.recv(1 << 16)
                assert more, "closed after %r" % got[-100:]
                got += more
            return got


def value_of(i):
    """What fill() stores as key k<i>; so a value says whose it is."""
    return b"value of k%d." % i


class Redis(Process):
    HELLO = b"PING\r\n"

    def command(self):
        return ["redis-server", "--port", str(self.port), "--bind", self.host, "--save", "", "--appendonly", "no",
                "--protected-mode", "no", "--dir", self.folder, "--unixsocket", self.folder + "/redis.sock"] + self.args

    def ask(self, *words):
        """The answer to one command: an int, a str, None, or a list."""
        with self.connect() as sock, sock.makefile("rwb") as file:
            return ask(file, *words)

    def info(self, section="everything"):
        rows = (row.partition(":") for row in self.ask("INFO", section).splitlines() if ":" in row)
        return {name: value for name, _, value in rows}

    def fill(self, n):
        with self.connect() as sock, sock.makefile("rwb") as file:
            for i in range(n):
                file.write(encode("SET", "k%d" % i, value_of(i)))
            file.flush()
            for i in range(n):
                assert decode(file) == "OK"


def encode(*words):
    words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def decode(file):
    line = file.readline().rstrip(b"\r\n")
    kind, rest = line[:1], line[1:]
    if kind == b"$":
        return None if rest == b"-1" else file.read(int(rest) + 2)[:-2].decode(errors="replace")
    if kind == b"*":
        return None if rest == b"-1" else [decode(file) for _ in range(int(rest))]
    if kind == b"-":
        raise AssertionError("redis: " + rest.decode())
    assert line, "redis closed the connection"
    return int(rest) if kind == b":" else rest.decode()


def ask(file, *words):
    file.write(encode(*words))
    file.flush()
    return decode(file)


class Memcached(Process):
    HELLO = b"version\r\n"

    def command(self):
        user = ["-u", "root"] if os.geteuid() == 0 else []
        return ["memcached", "-l", self.host, "-p", str(self.port), "-U", "0", "-t", "1"] + user + self.args

    def fill(self, n):
        data = b"".join(b"set k%d 0 0 %d\r\n%s\r\n" % (i, len(value_of(i)), value_of(i)) for i in range(n))
        got = self.exchange(data + b"get none\r\n", b"END\r\n")
        assert got == n * b"STORED\r\n" + b"END\r\n"

    def get(self, key):
        got = self.exchange(b"get %s\r\n" % key.encode(), b"END\r\n")
        return None if got == b"END\r\n" else got.split(b"\r\n", 1)[1][:-7]

    def stat(self, name):
        got = self.exchange(b"stats\r\n", b"END\r\n").decode()
        return dict(line.split()[1:3] for line in got.splitlines() if line.startswith("STAT"))[name]
