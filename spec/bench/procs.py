# SPDX-License-Identifier: BSD-2-Clause
#
# Processes of a measurement: started pinned, found with their children, measured from /proc, ended by pid whatever
# happens. Also the one load generator, `fae bench --json`.
import ctypes
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time

SERVER_CPU, CLIENT_CPU = 0, 1
READY_S, STOP_S = 20, 10
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)
running = []  # every Server that was started and not stopped


class Failed(Exception):
    """A measurement that could not be made; the text says which and why."""


def cpus():
    """(server's, generator's) cpu of those we may use; the same one twice when there is but one."""
    have = sorted(os.sched_getaffinity(0))
    return have[SERVER_CPU], have[min(CLIENT_CPU, len(have) - 1)]


def child_setup(cpu):
    """Pins the child and has the kernel end it when we are gone, even by SIGKILL."""
    def setup():
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if cpu is not None:
            os.sched_setaffinity(0, {cpu})
    return setup


def descendants(pid):
    """pid and all that descend from it."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat") as f:
                    parents[int(entry)] = int(f.read().rpartition(")")[2].split()[1])
            except OSError:
                pass
    found, frontier = [pid], [pid]
    while frontier:
        frontier = [p for p, parent in parents.items() if parent in frontier]
        found += frontier
    return found


def sched_ns(pid):
    """(CPU time, time spent ready but waiting for a cpu) of all threads of a process."""
    ran = waited = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            fields = f.read().split()
        ran, waited = ran + int(fields[0]), waited + int(fields[1])
    return ran, waited


def rss_bytes(pid, kinds=("RssAnon", "RssFile", "RssShmem")):
    with open(f"/proc/{pid}/status") as f:
        rows = dict(line.split(":", 1) for line in f)
    return sum(int(rows[kind].split()[0]) for kind in kinds) * 1024


def title(pid):
    """What a process calls itself."""
    with open(f"/proc/{pid}/cmdline") as f:
        words = f.read().replace("\0", " ").strip()
    with open(f"/proc/{pid}/comm") as f:
        return f"{f.read().strip()} ({words[:40]})"


def connect(addr):
    kind, _, rest = addr.partition(":")
    if kind == "unix":
        sock = socket.socket(socket.AF_UNIX)
        target = rest
    else:
        sock = socket.socket()
        host, _, port = rest.lstrip("/").rpartition(":")
        target = (host, int(port))
    sock.settimeout(10)
    try:
        sock.connect(target)
    except OSError:
        sock.close()
        raise
    return sock


def connects(addr):
    try:
        connect(addr).close()
        return True
    except OSError:
        return False


def free_port():
    """Below the ephemeral range, where no client's own port can sit."""
    for port in random.sample(range(20000, 32000), 200):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass
    raise Failed("no free port")


def say(text):
    print(text, file=sys.stderr, flush=True)


class Server:
    """A server and its children. ready(line) is asked for each line of its output until it gives the addresses; or
    ready is a list of addresses, for one that says nothing: the first takes connections when it is there."""

    def __init__(self, name, argv, ready, cpu=None, cwd=None):
        self.name, self.log = name, []
        self.proc = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                     text=True, errors="replace", cwd=cwd, preexec_fn=child_setup(cpu))
        running.append(self)
        self.pid = self.proc.pid
        self.addrs = self.wait_ready(ready)
        os.set_blocking(self.proc.stdout.fileno(), False)

    def wait_ready(self, ready):
        end = time.monotonic() + READY_S
        os.set_blocking(self.proc.stdout.fileno(), False)
        pending = ""
        while time.monotonic() < end:
            more = self.read()
            if more is None and self.proc.poll() is not None:
                break
            pending += more or ""
            *lines, pending = pending.split("\n")
            self.log += lines
            if isinstance(ready, list):
                if connects(ready[0]):
                    return ready
            else:
                for addrs in filter(None, map(ready, lines)):
                    return addrs
            time.sleep(0.01)
        self.stop()
        raise Failed(f"{self.name} did not get ready:\n" + "\n".join(self.log[-20:]))

    def read(self):
        """What it has printed since, so that its pipe never fills; None when there is nothing."""
        try:
            return os.read(self.proc.stdout.fileno(), 65536).decode(errors="replace") or None
        except BlockingIOError:
            return None

    def tcp(self):
        return next(a for a in self.addrs if a.startswith("tcp:"))

    def tls(self):
        return next(a for a in self.addrs if a.startswith("tls:"))

    def unix(self):
        return next(a for a in self.addrs if a.startswith("unix:"))

    def pids(self):
        return descendants(self.pid)

    def sched(self):
        """{pid: sched_ns} of every process."""
        while self.read():
            pass
        return {pid: sched_ns(pid) for pid in self.pids()}

    def stop(self):
        if self not in running:
            return
        family = self.pids() if self.proc.poll() is None else [self.pid]
        if self.proc.poll() is None:
            self.proc.terminate()
            end = time.monotonic() + STOP_S
            while self.proc.poll() is None and time.monotonic() < end:
                self.read()
                time.sleep(0.01)
        if self.proc.poll() is None:
            for pid in family:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            self.proc.wait()
        self.proc.stdout.close()
        running.remove(self)


def stop_all():
    for server in reversed(list(running)):
        server.stop()


def compiled(build, source):
    """The program of one C file, in a folder of the build; made when it is older than that."""
    binary = os.path.join(build, "bench", os.path.basename(source)[:-len(".c")])
    if not os.path.exists(binary) or os.path.getmtime(binary) < os.path.getmtime(source):
        os.makedirs(os.path.dirname(binary), exist_ok=True)
        subprocess.run([os.environ.get("CC", "gcc"), "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-o", binary, source],
                       check=True)
    return binary


class Load:
    """One run of the generator; wait() gives its figures."""

    def __init__(self, fae, addr, args, cpu):
        self.argv = [fae, "bench", "-s", addr, "--json"] + args
        self.proc = subprocess.Popen(self.argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                     preexec_fn=child_setup(cpu))

    def wait(self, timeout_s):
        try:
            out, err = self.proc.communicate(timeout=timeout_s)
        finally:
            if self.proc.poll() is None:
                self.proc.kill()
                self.proc.communicate()
        if not out.startswith("{"):
            raise Failed(f"{' '.join(self.argv)}: {err.strip() or out.strip()}")
        return json.loads(out)


def measure(fae, server, addr, args, seconds, client_cpu):
    """Load for some seconds. Adds to the generator's figures: us, CPU a call of all of the server's processes;
    worker_us, of the busiest one; crowded, the part of its time which that one waited for its cpu."""
    before = server.sched()
    figures = Load(fae, addr, ["-d", str(seconds)] + args, client_cpu).wait(seconds + 30)
    after = server.sched()
    gone = set(before) - set(after)
    if gone:
        raise Failed(f"{server.name}: process {gone} ended while it was measured")
    if not figures["ok"]:
        raise Failed(f"{server.name} at {addr}: no call was answered well: {figures['errors']}")
    used = {pid: [now - then for now, then in zip(after[pid], before.get(pid, (0, 0)))] for pid in after}
    ran, waited = max(used.values())
    figures["us"] = sum(u[0] for u in used.values()) / figures["ok"] / 1000
    figures["worker_us"] = ran / figures["ok"] / 1000
    figures["crowded"] = waited / (ran + waited)
    return figures
