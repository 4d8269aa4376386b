# SPDX-License-Identifier: BSD-2-Clause
"""A node of its own for a test, and clients that speak to it.

Node starts `fae serve` on free ports in a folder of its own, waits for the ready line, and when it stops checks what
must always hold: exit code 0 in time, no process left, no ERROR line in the log but those the test expects. It ends
only processes it started. Client is a plain msgpack-RPC client that also sends bytes as they are.
"""
import concurrent.futures
import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

import msgpack

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
FAE = os.environ.get("FAE_BIN") or os.path.join(ROOT, os.environ.get("B", "build"), "fae")
SERVANTS = os.path.join(HERE, "servants")
LONG = os.environ.get("FAE_LONG") == "1"

READY_S = 30
STOP_S = 10


def _sanitized():
    with open(FAE, "rb") as f:
        body = f.read()
    return b"__asan_init" in body or b"__tsan_init" in body


SANITIZED = _sanitized()
# Limits on time are those of a release build; a sanitizer makes everything several times slower.
SLOW = 5 if SANITIZED else 1


class RpcError(Exception):
    """An answer with an error. code and text of its default form, value as it came."""

    def __init__(self, value):
        super().__init__(value)
        self.value = value
        text = value if isinstance(value, str) else ""
        self.code, _, self.text = text.partition(": ")


class Closed(Exception):
    """The server closed the connection."""


class Stopwatch:
    """Seconds since it was made, and how many of them the machine took away: a stall is no fault of the server's. A
    thread that wants to run each 10 ms says how late it came; all share it."""

    TICK_S = 0.01
    _lost_and_due = None

    def __init__(self):
        if not Stopwatch._lost_and_due:
            Stopwatch._lost_and_due = 0.0, time.monotonic() + self.TICK_S
            threading.Thread(target=self._tick, daemon=True).start()
        self.begun, self.lost_before, self.read = time.monotonic(), self._lost(), None

    @classmethod
    def _lost(cls):
        lost, due = cls._lost_and_due
        late = time.monotonic() - due
        return lost + late if late > cls.TICK_S else lost

    @classmethod
    def _tick(cls):
        while True:
            time.sleep(cls.TICK_S)
            cls._lost_and_due = cls._lost(), time.monotonic() + cls.TICK_S

    def __repr__(self):
        return "%.3f s, and %.3f s lost" % (self.seconds(), self.lost())

    def stop(self):
        self.read = time.monotonic() - self.begun, self._lost() - self.lost_before
        return self

    def lost(self):
        return self.read[1] if self.read else self._lost() - self.lost_before

    def elapsed(self):
        return self.read[0] if self.read else time.monotonic() - self.begun

    def seconds(self):
        """Without those that were lost: what an upper limit is held against."""
        return self.elapsed() - self.lost()

    def within(self, least, most):
        return self.elapsed() >= least and self.seconds() <= most


def wait_until(what, condition, seconds=5):
    """Polls until condition() is true and returns its value; fails the test when that takes longer."""
    watch = Stopwatch()
    while True:
        value = condition()
        if value:
            return value
        if watch.seconds() > seconds * SLOW:
            raise AssertionError("after %g s still not: %s" % (seconds * SLOW, what))
        time.sleep(0.005)


@contextlib.contextmanager
def beside(request, test, fn):
    """For a module's fixture, when the test of that name will run: fn in a thread beside the others, as a future."""
    if not any(item.name == test for item in request.session.items):
        yield None
        return
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        yield pool.submit(fn)


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


def request(msgid, method, *params):
    return pack([0, msgid, method, list(params)])


def connect(addr, timeout=10):
    if addr.startswith("unix:"):
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        target = addr[len("unix:"):]
    else:
        host, port = addr[len("tcp://"):].rsplit(":", 1)
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        target = (host, int(port))
    sock.settimeout(timeout * SLOW)
    try:
        sock.connect(target)
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        sock.close()
        raise
    return sock


class Client:
    def __init__(self, addr, timeout=10):
        self.sock = connect(addr, timeout)
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 28)
        self.ids = itertools.count(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def feed(self):
        """Reads once. Raises Closed at the end."""
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, BrokenPipeError):
            data = b""
        if not data:
            raise Closed()
        self.unpacker.feed(data)

    def recv(self):
        """The next message."""
        while True:
            for message in self.unpacker:
                return message
            self.feed()

    def recv_all(self):
        """Every message until the server closes."""
        messages = []
        try:
            while True:
                messages.append(self.recv())
        except Closed:
            return messages

    def start(self, method, *params, ctx=None):
        msgid = next(self.ids)
        message = [0, msgid, method, list(params)]
        if ctx is not None:
            message.append(ctx)
        self.send(pack(message))
        return msgid

    def finish(self, msgid):
        message = self.recv()
        assert message[:2] == [1, msgid], "not the answer to %d: %.200r" % (msgid, message)
        if message[2] is not None:
            raise RpcError(message[2])
        return message[3]

    def call(self, method, *params, ctx=None):
        return self.finish(self.start(method, *params, ctx=ctx))

    def error(self, method, *params, ctx=None):
        """The error of a call that must fail."""
        try:
            result = self.call(method, *params, ctx=ctx)
        except RpcError as err:
            return err
        raise AssertionError("%s gave %.200r instead of an error" % (method, result))

    def notify(self, method, *params):
        self.send(pack([2, method, list(params)]))

    def read_bytes(self, n):
        """Exactly n bytes as they come, or fewer when the server closes first."""
        data = b""
        while len(data) < n:
            try:
                more = self.sock.recv(n - len(data))
            except (ConnectionResetError, BrokenPipeError):
                break
            if not more:
                break
            data += more
        return data

    def is_open(self):
        """Nothing has come and nobody hung up."""
        self.sock.setblocking(False)
        try:
            self.sock.recv(1, socket.MSG_PEEK)
            return False
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.sock.settimeout(10 * SLOW)


def raw_many(client, requests):
    """Sends all requests at once and returns {msgid: message}."""
    client.send(b"".join(requests))
    return collect(client, len(requests))


def collect(client, n):
    answers = {}
    for _ in range(n):
        message = client.recv()
        assert message[0] == 1, "not an answer: %.200r" % (message,)
        assert message[1] not in answers, "answered twice: %d" % message[1]
        answers[message[1]] = message
    return answers


# ---- processes ----


def process_stat(pid):
    """(state, parent, session, cpu ticks) or None when it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            fields = f.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[1]), int(fields[3]), int(fields[11]) + int(fields[12])


def session_members(session):
    """The living processes of a session (zombies of someone else's are not living)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = process_stat(int(name))
            if stat and stat[2] == session and stat[0] not in "ZX":
                found.append(int(name))
    return found


def is_alive(pid):
    stat = process_stat(pid)
    return bool(stat) and stat[0] not in "ZX"


def cpu_s(pid):
    """Seconds of CPU, to a nanosecond where the kernel tells."""
    try:
        with open("/proc/%d/schedstat" % pid) as f:
            return int(f.read().split()[0]) / 1e9
    except (FileNotFoundError, ValueError):
        return process_stat(pid)[3] / os.sysconf("SC_CLK_TCK")


def memory_kib(pid, what="VmRSS"):
    with open("/proc/%d/status" % pid) as f:
        return int(re.search(r"^%s:\s+(\d+) kB" % what, f.read(), re.M).group(1))


def reset_peak(pid):
    with open("/proc/%d/clear_refs" % pid, "w") as f:
        f.write("5")


def n_fds(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


_ports = itertools.count(21000 + os.getpid() % 1000)


def free_port():
    """A port below the range of clients' own ports, so that a node can come back on it; never twice the same."""
    for port in _ports:
        if port >= 32000:
            break
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise AssertionError("no free port")


_shims = {}


def shim(name):
    """Compiles spec/fault/NAME.c once a run, for LD_PRELOAD."""
    if name not in _shims:
        _shims[name] = path = os.path.join(tempfile.mkdtemp(prefix="fae-shim-"), name + ".so")
        source = os.path.join(ROOT, "spec", "fault", name + ".c")
        subprocess.run(["gcc", "-D_GNU_SOURCE", "-O2", "-shared", "-fPIC", "-o", path, source, "-ldl"], check=True)
        import atexit
        atexit.register(shutil.rmtree, os.path.dirname(path), ignore_errors=True)
    return _shims[name]


class Node:
    """conf: lines of a config file after the listeners and folders, which are given. servants: file name -> text, or
    a list of names from spec/e2e/servants. expect: regular expressions of the ERROR lines that are all right. given:
    listening sockets that it is started with, as systemd does."""

    def __init__(self, conf="", servants=(), args=(), workers=1, listen=None, admin=True, one_byte=False, expect=(),
                 folder=None, env=None, wait=True, given=()):
        self.own_folder = folder is None
        self.folder = folder or tempfile.mkdtemp(prefix="fae-e2e-")
        self.run_dir = os.path.join(self.folder, "run")
        self.servants_dir = os.path.join(self.folder, "servants")
        self.log_path = os.path.join(self.folder, "log")
        self.conf_path = os.path.join(self.folder, "fae.lua")
        self.expect = list(expect)
        self.exit_code = 0
        self.process = None
        self.put_servants(servants)
        listen = ["tcp://127.0.0.1:0", "unix:fae.sock"] if listen is None else listen
        with open(self.conf_path, "w") as f:
            f.write('workers(%d)\nrun_dir "%s"\nservants_dir "%s"\n' % (workers, self.run_dir, self.servants_dir))
            f.write('admin "%s"\n' % ("127.0.0.1:0" if admin is True else admin or ""))
            for addr in listen:
                f.write("listen %s\n" % (addr if addr.startswith("{") else '"%s"' % addr))
            f.write(conf + "\n")
        self.args = list(args)
        self.given = list(given)
        self.env = dict(os.environ, **(env or {}))
        if one_byte:
            self.env["LD_PRELOAD"] = shim("onebyte")
        if wait:
            self.start()

    # ---- files ----

    def put_servants(self, servants):
        os.makedirs(self.servants_dir, exist_ok=True)
        if isinstance(servants, dict):
            for name, text in servants.items():
                self.write(name, text)
        else:
            for name in servants:
                shutil.copy(os.path.join(SERVANTS, name + ".lua"), self.servants_dir)

    def write(self, name, text):
        """Replaces a servant's file in one step, as an editor does."""
        path = os.path.join(self.servants_dir, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def remove(self, name):
        os.unlink(os.path.join(self.servants_dir, name))

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    # ---- life ----

    def start(self):
        self.log_file = open(self.log_path, "ab")
        command, fds = [FAE, "serve", "-c", self.conf_path] + self.args, [s.fileno() for s in self.given]
        if fds:
            moves = " ".join("%d<&%d" % (3 + i, fd) for i, fd in enumerate(fds))
            command = ["bash", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=%d; exec "$0" "$@" %s' % (len(fds), moves)] + command
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log_file, pass_fds=fds,
                                        stdin=subprocess.DEVNULL, env=self.env, start_new_session=True)
        self.pid = self.process.pid
        line = self._ready_line()
        words = line.split()
        self.addrs = [w for w in words if w.startswith(("tcp://", "tls://", "unix:"))]
        self.tcp = next((a for a in self.addrs if a.startswith("tcp:")), None)
        self.tls = next((a for a in self.addrs if a.startswith("tls:")), None)
        self.unix = next((a for a in self.addrs if a.startswith("unix:")), None)
        self.admin = next((w[len("admin:"):] for w in words if w.startswith("admin:")), None)
        assert "pid:%d" % self.pid in words, line

    def _ready_line(self):
        os.set_blocking(self.process.stdout.fileno(), False)
        end = time.monotonic() + READY_S * SLOW
        out = b""
        while time.monotonic() < end:
            more = self.process.stdout.read()
            if more:
                out += more
            for line in out.decode().splitlines(True):
                if line.startswith("fae ready: ") and line.endswith("\n"):
                    return line
            if self.process.poll() is not None:
                break
            time.sleep(0.005)
        code = self.process.poll()
        self.kill()
        raise AssertionError("no ready line (exit code %s)\n%s\n%s" % (code, out.decode(), self.log()))

    def send_signal(self, number):
        os.kill(self.pid, number)

    def wait(self, seconds=STOP_S):
        return self.process.wait(seconds * SLOW)

    def left_behind(self):
        return session_members(self.pid)

    def kill(self):
        """Ends what is left of the node, by pid, and forgets it. No checks."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pid in self.left_behind() if self.process else ():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if self.process:
            self.process.stdout.close()
            self.log_file.close()
            self.process = None

    def stop(self, seconds=STOP_S, sign=signal.SIGTERM):
        """SIGTERM, and everything that must hold of a clean end."""
        if not self.process:
            return
        try:
            if self.process.poll() is None and sign:
                self.send_signal(sign)
            code = self.wait(seconds)
            left = self.left_behind()
            assert code == self.exit_code, "exit code %d" % code
            assert not left, "processes left behind: %s" % left
            assert not os.path.exists(os.path.join(self.run_dir, "fae.pid")), "the pid file is still there"
        finally:
            self.kill()
        self.check_log()

    def error_lines(self):
        lines = self.log().splitlines()
        return [line for line in lines if re.search(r'\blevel=error\b|"level":"error"', line)]

    def check_log(self):
        bad = [line for line in self.error_lines() if not any(re.search(e, line) for e in self.expect)]
        assert not bad, "%d unexpected lines in the log:\n%s" % (len(bad), "\n".join(bad[:10]))

    def remove_folder(self):
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind:
                print("---- the log of the node ----\n" + self.log()[-20000:])
                self.kill()
            else:
                try:
                    self.stop()
                except BaseException:
                    print("---- the log of the node ----\n" + self.log()[-20000:])
                    raise
        finally:
            self.kill()
            self.remove_folder()

    # ---- talking to it ----

    def client(self, kind="tcp", timeout=10):
        return Client(self.unix if kind == "unix" else self.tcp, timeout)

    def call(self, method, *params, kind="tcp"):
        with self.client(kind) as c:
            return c.call(method, *params)

    def run(self, *args, timeout=30):
        """A fae command; `args` as on the command line."""
        return subprocess.run([FAE] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=timeout * SLOW,
                              cwd=self.folder)

    def reload(self, *flags):
        return self.run("reload", "--run-dir", self.run_dir, *flags)

    def ctl(self, *words):
        return self.run("ctl", "--run-dir", self.run_dir, *words)

    def stats(self):
        import json
        return json.loads(self.ctl("stats").stdout)

    def workers(self):
        """Rows of fae ctl status: {"worker-0": {"pid": ..., "state": ...}}"""
        rows = {}
        for line in self.ctl("status").stdout.splitlines():
            name, _, rest = line.partition(" ")
            if name == "ops" or name.startswith("worker-"):
                rows[name] = {k: int(v) if v.isdigit() else v for k, v in (f.split("=") for f in rest.split())}
        return rows

    def worker_pids(self):
        return [row["pid"] for name, row in sorted(self.workers().items()) if name != "ops"]

    def n_sessions(self):
        return sum(w["sessions"] for w in self.stats()["workers"])
