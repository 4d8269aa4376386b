# SPDX-License-Identifier: BSD-2-Clause
"""fae top: on a terminal (a pty), in a pipe, across restarts of the node."""
import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import threading
import time

import pytest

from harness import FAE, SLOW, Node, wait_until

ENTER, LEAVE = b"\033[?1049h", b"\033[?1049l"


@pytest.fixture(scope="module")
def node():
    with Node(workers=2) as n:
        yield n


class Load(threading.Thread):
    """Calls all the time."""

    def __init__(self, node):
        super().__init__(daemon=True)
        self.node, self.done = node, False
        self.start()

    def run(self):
        with self.node.client() as c:
            while not self.done:
                c.call("sys.ping")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.done = True
        self.join()


class Screen:
    """fae top on a terminal of its own."""

    def __init__(self, run_dir, *args, lines=30, columns=100):
        self.master, slave = pty.openpty()
        self.resize(lines, columns)
        self.modes = termios.tcgetattr(slave)
        self.slave = slave
        self.process = subprocess.Popen([FAE, "top", "--run-dir", run_dir] + list(args), stdin=slave, stdout=slave,
                                        stderr=slave, start_new_session=True,
                                        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        self.output = b""

    def resize(self, lines, columns):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def read(self, seconds=0.05):
        end = time.monotonic() + seconds
        while select.select([self.master], [], [], max(0, end - time.monotonic()))[0]:
            try:
                self.output += os.read(self.master, 65536)
            except OSError:
                return
        return

    def shows(self, text):
        self.read()
        return text in self.last_frame()

    def last_frame(self):
        """The text of the newest whole frame."""
        frames = self.output.split(b"\033[H")
        whole = [f for f in frames if b"\033[J" in f]
        return whole[-1].replace(b"\033[K", b"").replace(b"\r", b"").split(b"\033[J")[0] if whole else b""

    def key(self, byte):
        os.write(self.master, byte)

    def wait(self):
        end = time.monotonic() + 10 * SLOW
        while self.process.poll() is None and time.monotonic() < end:
            self.read()
        code = self.process.wait(1)
        self.read()
        return code

    def is_restored(self):
        return self.output.rstrip().endswith(LEAVE) and termios.tcgetattr(self.slave) == self.modes

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


def top(node, *args):
    return node.run("top", "--run-dir", node.run_dir, *args)


# ---- on a terminal ----


def test_a_screen_shows_what_happens_and_q_leaves_it(node):
    with Load(node), Screen(node.run_dir, "-i", "0.3") as screen:
        wait_until("rates are shown", lambda: screen.shows(b"last 0.3 s") and screen.shows(b"sys.ping"))
        frame = screen.last_frame()
        row = next(line.split() for line in frame.splitlines() if line.endswith(b"sys.ping"))
        assert float(row[0]) > 10
        assert b"2 of 2 workers ready" in frame and b"limits met: none" in frame
        assert screen.output.startswith(ENTER)
        screen.key(b"x")
        screen.key(b"q")
        assert screen.wait() == 0
        assert screen.is_restored()


def test_a_frame_fits_the_screen_and_follows_its_size(node):
    with Screen(node.run_dir, "-i", "30", lines=10, columns=40) as screen:
        wait_until("a frame", lambda: screen.shows(b"fae: generation"))
        frame = screen.last_frame()
        assert max(len(line) for line in frame.splitlines()) <= 40
        assert frame.count(b"\n") <= 9
        screen.resize(40, 200)
        wait_until("a larger frame", lambda: screen.shows(b"METHOD"), seconds=3)
        screen.key(b"q")
        assert screen.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_restores_the_terminal(node, number):
    with Screen(node.run_dir) as screen:
        wait_until("a frame", lambda: screen.shows(b"fae: generation"))
        screen.process.send_signal(number)
        assert screen.wait() == -number
        assert screen.is_restored()


def test_ctrl_c_leaves(node):
    with Screen(node.run_dir) as screen:
        wait_until("a frame", lambda: screen.shows(b"fae: generation"))
        screen.key(b"\x03")
        assert screen.wait() == -signal.SIGINT
        assert screen.is_restored()


def test_it_stops_and_goes_on(node):
    with Screen(node.run_dir, "-i", "0.2") as screen:
        wait_until("a frame", lambda: screen.shows(b"fae: generation"))
        screen.process.send_signal(signal.SIGTSTP)
        wait_until("the terminal is given back", lambda: screen.read() or screen.is_restored())
        os.waitid(os.P_PID, screen.process.pid, os.WSTOPPED | os.WNOWAIT)
        screen.output = b""
        screen.process.send_signal(signal.SIGCONT)
        wait_until("it is back", lambda: screen.shows(b"fae: generation"))
        screen.key(b"q")
        assert screen.wait() == 0


def test_n_frames_on_a_terminal(node):
    with Screen(node.run_dir, "-n", "2", "-i", "0.1") as screen:
        assert screen.wait() == 0
        assert screen.is_restored()


# ---- in a pipe ----


def test_once(node):
    with Load(node):
        result = top(node, "--once", "-i", "0.3")
    assert result.returncode == 0, result.stderr
    assert "\033" not in result.stdout
    assert "last 0.3 s" in result.stdout and "sys.ping" in result.stdout


def test_json(node):
    with Load(node):
        result = top(node, "--json", "-n", "2", "-i", "0.3")
    frames = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(frames) == 2
    for frame in frames:
        assert 0.2 < frame["interval_s"] < 3 * SLOW
        ping = next(m for m in frame["methods"] if m["name"] == "sys.ping")
        assert ping["calls_s"] > 10 and 0 < ping["p50_us"] <= ping["p99_us"]
        assert len(frame["workers"]) == 2 and frame["workers"][0]["cpu_percent"] is not None
        assert frame["calls_s"] >= ping["calls_s"]


def test_percentiles_are_those_of_the_interval():
    servant = ('local fae = require "fae" local s = fae.servant "a" '
               's.method("sleep", { args = { "int" } }, function(call, ms) fae.sleep(ms) end) return s')
    with Node(servants={"a.lua": servant}) as node:
        with node.client() as c:
            for _ in range(200):
                c.call("a.sleep", 1)
            p = subprocess.Popen([FAE, "top", "--run-dir", node.run_dir, "--json", "-n", "1", "-i", "1"],
                                 stdout=subprocess.PIPE)
            time.sleep(0.3)
            for _ in range(3):
                c.call("a.sleep", 100)
            out = p.communicate(timeout=20 * SLOW)[0]
        m = json.loads(out)["methods"][0]
        assert m["p50_us"] > 50000, m  # those before would make it about 1 ms


def test_a_reader_that_leaves_ends_it(node):
    p = subprocess.Popen([FAE, "top", "--run-dir", node.run_dir, "-i", "0.1"], stdout=subprocess.PIPE)
    assert p.stdout.readline()
    p.stdout.close()
    assert p.wait(10 * SLOW) != 0


@pytest.mark.parametrize("args", [["-n", "0"], ["-n", "x"], ["-i", "0"], ["-i", "nan"], ["-i", "9999"], ["--twice"],
                                  ["x"], ["-n"]])
def test_usage(node, args):
    result = top(node, *args)
    assert result.returncode == 2 and result.stderr


# ---- the node goes away ----


def test_no_node(tmp_path):
    result = subprocess.run([FAE, "top", "--run-dir", str(tmp_path), "--once"], stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, timeout=10 * SLOW)
    assert result.returncode == 1 and b"no node runs in" in result.stderr


def test_a_restart_is_survived():
    node = Node(workers=1)
    try:
        with Screen(node.run_dir, "-i", "0.2") as screen:
            wait_until("a frame", lambda: screen.shows(b"1 of 1 workers ready"))
            node.call("sys.ping")
            node.stop()
            wait_until("it waits", lambda: screen.shows(b"waiting for the node"))
            node.start()
            wait_until("a frame of the next node", lambda: screen.shows(b"1 of 1 workers ready"))
            wait_until("rates again", lambda: screen.shows(b"last 0.2 s"))
            screen.key(b"q")
            assert screen.wait() == 0
        node.stop()
    finally:
        node.kill()
        node.remove_folder()
