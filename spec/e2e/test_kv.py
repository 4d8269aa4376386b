# SPDX-License-Identifier: BSD-2-Clause
"""The kv store of a node: what was acknowledged is there, whoever is killed when; a full disk; times to live; backup and
check; wrong input over RPC. FAE_LONG=1: 200 kills of the node, 100 of readers."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from harness import LONG, SLOW, Closed, Node, RpcError, is_alive, pack, wait_until

PAUSE_S = 1.1 if LONG else 0.1  # a process that dies within its first second is started again ever later
DIED = [r"died of signal 9", r"kv: "]


class Writers:
    """Clients that set rising numbers, each under keys of its own, and remember what was acknowledged and what may have
    been done."""

    def __init__(self, node, n=8, method="kv.set"):
        self.node, self.n, self.method = node, n, method
        self.acked = [dict() for _ in range(n)]
        self.unsure = [dict() for _ in range(n)]
        self.errors = []
        self.stop = threading.Event()

    def start(self):
        self.stop.clear()
        self.threads = [threading.Thread(target=self.run, args=(i,), daemon=True) for i in range(self.n)]
        for t in self.threads:
            t.start()

    def finish(self):
        self.stop.set()
        for t in self.threads:
            t.join(30 * SLOW)
            assert not t.is_alive(), "a writer hangs"

    def run(self, who):
        client = None
        i = 0
        while not self.stop.is_set():
            key, value = "w%d:%d" % (who, i % 50), "%d" % (time.monotonic_ns())
            i += 1
            try:
                if client is None:
                    client = self.node.client("unix")
                self.unsure[who].setdefault(key, []).append(value)
                assert client.call(self.method, key, value) is True
                self.acked[who][key] = value
                self.unsure[who][key] = []
            except RpcError as err:
                if err.code == "UNKNOWN":
                    continue
                if err.code not in ("TIMEOUT", "NO_SPACE", "OVERLOAD", "UNAVAILABLE", "DRAINING"):
                    self.errors.append(err)
                self.unsure[who][key].remove(value)
            except (Closed, OSError):
                if client:
                    client.close()
                client = None
                time.sleep(0.005)
        if client:
            client.close()

    def n_acked(self):
        return sum(len(a) for a in self.acked)

    def check(self):
        """Everything acknowledged is there, or what was sent after it and never answered."""
        assert not self.errors, self.errors[:3]
        with self.node.client("unix") as client:
            for acked, unsure in zip(self.acked, self.unsure):
                for key, value in acked.items():
                    found = client.call("kv.get", key)
                    assert found == value or found in unsure.get(key, ()), \
                        "%s: %s was acknowledged, %s is there" % (key, value, found)


def kill_node(node):
    """Power off, as far as processes can tell: all at once."""
    os.kill(node.pid, signal.SIGKILL)
    for pid in node.left_behind():
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    node.kill()


def checked(node):
    done = node.ctl("kv", "check")
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_acknowledged_is_lost_when_the_node_is_killed():
    """R10"""
    kills = 200 if LONG else 10
    node = Node(workers=2, admin=False, expect=DIED)
    try:
        writers = Writers(node)
        for i in range(kills):
            writers.start()
            time.sleep(0.02 + (i * 37 % 100) / 400)
            kill_node(node)
            writers.finish()
            node.start()
            writers.check()
        assert writers.n_acked() > 8
        assert "OK" in checked(node) or "records" in checked(node)
        node.stop()
    finally:
        node.kill()
        node.remove_folder()


def test_killing_the_writer_loses_nothing_and_nobody_hangs():
    with Node(workers=2, admin=False, expect=DIED) as node:
        writers = Writers(node)
        writers.start()
        for i in range(40 if LONG else 5):
            time.sleep(PAUSE_S)
            ops = node.workers()["ops"]["pid"]
            os.kill(ops, signal.SIGKILL)
            wait_until("ops is back", lambda: node.workers()["ops"]["pid"] not in (0, ops), 15)
        time.sleep(0.2)
        writers.finish()
        writers.check()
        assert writers.n_acked() > 8
        node.call("kv.set", "after", "it")
        assert node.call("kv.get", "after") == "it"
        checked(node)


def test_counting_over_deaths_of_the_writer_is_exact_but_for_what_is_unknown():
    """Each incr that was answered counts once, each UNKNOWN at most once."""
    with Node(workers=1, admin=False, expect=DIED) as node:
        done, unknown, stop = [0] * 8, [0] * 8, threading.Event()

        def run(who):
            with node.client("unix") as client:
                while not stop.is_set():
                    try:
                        client.call("kv.incr", "n")
                        done[who] += 1
                    except RpcError as err:
                        assert err.code in ("UNKNOWN", "TIMEOUT"), err
                        unknown[who] += err.code == "UNKNOWN"

        threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(8)]
        for t in threads:
            t.start()
        for _ in range(20 if LONG else 4):
            time.sleep(PAUSE_S)
            ops = node.workers()["ops"]["pid"]
            os.kill(ops, signal.SIGKILL)
            wait_until("ops is back", lambda: node.workers()["ops"]["pid"] not in (0, ops), 15)
        time.sleep(0.2)
        stop.set()
        for t in threads:
            t.join(30 * SLOW)
            assert not t.is_alive(), "a caller hangs"
        n = int(node.call("kv.get", "n"))
        assert sum(done) <= n <= sum(done) + sum(unknown), (n, sum(done), sum(unknown))


READER = """
local fae = require "fae"
local s = fae.servant "reader"
s.method("spin", function(_, ms)
  local until_us = fae.time.monotonic_us() + ms * 1000
  local n = 0
  while fae.time.monotonic_us() < until_us do
    fae.kv.scan("{big}", nil, 1000)
    n = n + 1
  end
  return n
end)
return s
"""


def test_killed_readers_keep_no_pages():
    kills = 100 if LONG else 6
    with Node(workers=2, admin=False, servants={"reader.lua": READER}, expect=DIED) as node:
        with node.client("unix") as client:
            for i in range(200):
                client.call("kv.set", "{big}%03d" % i, "v" * 1000)
        writers = Writers(node, 4)
        writers.start()
        path = os.path.join(node.run_dir, "data", "kv", "data.mdb")
        time.sleep(0.3)
        sizes = []
        for i in range(kills):
            client = node.client("tcp")
            client.start("reader.spin", 300 + int(PAUSE_S * 500))
            time.sleep(0.06 + PAUSE_S / 2)
            pids = node.worker_pids()
            victim = pids[i % 2]
            if victim:
                os.kill(victim, signal.SIGKILL)
            client.close()
            wait_until("workers are back", lambda: all(node.worker_pids()), 15)
            sizes.append(os.path.getsize(path))
        writers.finish()
        writers.check()
        assert max(sizes) < sizes[2] + (1 << 21), sizes
        assert not writers.errors


@pytest.fixture
def small_disk():
    folder = tempfile.mkdtemp(prefix="fae-small-")
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], stderr=subprocess.PIPE)
    assert done.returncode == 0, "mounting a tmpfs needs root: %s" % done.stderr.decode()
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=False)
        os.rmdir(folder)


def test_a_full_disk_is_an_answer_and_passes(small_disk):
    """R9"""
    node = Node('data_dir "%s/data"\n' % small_disk, workers=1, admin=False, expect=DIED)
    try:
        with node.client("unix") as client:
            codes = set()
            n = 0
            while "NO_SPACE" not in codes:
                assert n < 200, "the disk never fills"
                try:
                    client.call("kv.set", "fill%d" % n, "x" * 100000)
                    n += 1
                except RpcError as err:
                    codes.add(err.code)
                    assert codes == {"NO_SPACE"}, err
            assert n > 5
            assert client.call("sys.echo", 7) == 7
            for i in range(n):
                assert len(client.call("kv.get", "fill%d" % i)) == 100000
            kill_node(node)
        node.start()
        with node.client("unix") as client:
            assert client.call("kv.count") == n
            assert client.error("kv.set", "more", "x" * 200000).code == "NO_SPACE"
            assert client.call("kv.get", "more") is None
            subprocess.run(["mount", "-o", "remount,size=16m", small_disk], check=True)
            end = time.monotonic() + 1 * SLOW
            assert client.call("kv.set", "more", "x" * 200000) is True
            assert time.monotonic() < end
            assert len(client.call("kv.get", "more")) == 200000
        checked(node)
        node.stop()
    finally:
        node.kill()
        node.remove_folder()


def test_records_expire_and_leave_the_disk():
    with Node(workers=1, admin=False) as node:
        with node.client() as client:
            for i in range(50):
                client.call("kv.set", "short%d" % i, "v", {"ttl_ms": 100})
            client.call("kv.set", "long", "v", {"ttl_ms": 600000})
            wait_until("it expired", lambda: client.call("kv.get", "short49") is None)
            wait_until("they were swept", lambda: client.call("kv.count") == 1)
            assert client.call("kv.get", "long") == "v"
        checked(node)


def test_a_restart_keeps_everything():
    node = Node("kv_fast(true)", workers=2, admin=False)
    try:
        with node.client() as client:
            client.call("kv.set", "a", "1")
            client.call("kv.incr", "n", 7)
            client.call("kv_fast.set", "f", "2")
            client.call("kv.bucket", 5, "frozen", 9)
            before = client.call("kv.gets", "a")
        node.stop()
        node.start()
        with node.client() as client:
            assert client.call("kv.gets", "a") == before
            assert client.call("kv.get", "n") == "7"
            assert client.call("kv_fast.get", "f") == "2"
            assert client.call("kv.get", "f") is None
            assert client.call("kv.bucket", 5) == {"state": "frozen", "epoch": 9, "count": 0}
            client.call("kv.set", "a", "2")
            assert client.call("kv.gets", "a")[1] > before[1]
        node.stop()
    finally:
        node.kill()
        node.remove_folder()


def test_single_has_the_stores_too():
    node = Node("kv_fast(true)", args=["--single"], admin=False)
    with node:
        with node.client() as client:
            for store in "kv", "kv_fast":
                assert client.call(store + ".set", "a", "1") is True
                assert client.call(store + ".get", "a") == "1"
                assert client.call(store + ".incr", "n", 2) == 2


def test_without_it_the_methods_say_so():
    with Node("kv(false)", workers=1, admin=False) as node:
        with node.client() as client:
            for method, args in ("kv.get", ["a"]), ("kv.set", ["a", "b"]), ("kv.count", []), ("kv.scan", ["{a}"]):
                err = client.error(method, *args)
                assert err.code == "UNAVAILABLE" and "kv(false)" in err.text
            assert client.error("kv_fast.get", "a").code == "UNKNOWN_METHOD"
        assert not os.path.exists(os.path.join(node.run_dir, "data", "kv"))


@pytest.mark.parametrize("what", ["noise", "cut", "buckets"])
def test_a_broken_file_is_refused_with_a_sentence(what):
    node = Node(workers=1, admin=False)
    try:
        with node.client() as client:
            for i in range(200):
                client.notify("kv.set", "k%d" % i, "v" * 2000)
            client.call("kv.set", "k", "v")
        node.stop()
        folder = os.path.join(node.run_dir, "data", "kv")
        path = os.path.join(folder, "data.mdb")
        if what == "noise":
            with open(path, "r+b") as f:
                f.write(b"no database " * 1000)
        elif what == "cut":
            os.truncate(path, 16384)
        else:
            with open(path, "r+b") as f:
                for found in re.finditer(b"vbuckets", f.read()):
                    f.seek(found.end() + 6)
                    f.write(b"\2\0")
        done = node.run("serve", "-c", node.conf_path)
        assert done.returncode == 1, done.stderr
        words = {"noise": "is no kv store", "cut": "is cut short", "buckets": "512"}[what]
        assert any(line.startswith("fae: " + folder) and words in line for line in done.stderr.splitlines()), done.stderr
    finally:
        node.kill()
        node.remove_folder()


WRONG = [
    ("kv.get", [], "BAD_ARGS"), ("kv.get", [7], "BAD_ARGS"), ("kv.get", [None], "BAD_ARGS"), ("kv.get", [""], "BAD_ARGS"),
    ("kv.get", ["k" * 501], "LIMIT"), ("kv.get", [b"\xff" * 501], "LIMIT"), ("kv.get", ["a", "b"], "BAD_ARGS"),
    ("kv.set", ["a"], "BAD_ARGS"), ("kv.set", ["a", 7], "BAD_ARGS"), ("kv.set", ["", "v"], "BAD_ARGS"),
    ("kv.set", ["k" * 501, "v"], "LIMIT"), ("kv.set", ["a", ["v"]], "BAD_ARGS"),
    ("kv.set", ["a", "v", 5], "BAD_ARGS"), ("kv.set", ["a", "v", {"ttl_ms": -1}], "BAD_ARGS"),
    ("kv.set", ["a", "v", {"ttl_ms": 0}], "BAD_ARGS"), ("kv.set", ["a", "v", {"ttl_ms": 1.5}], "BAD_ARGS"),
    ("kv.set", ["a", "v", {"ttl_ms": "5"}], "BAD_ARGS"), ("kv.set", ["a", "v", {"ttl_ms": 1e300}], "BAD_ARGS"),
    ("kv.set", ["a", "v", {"ttl_ms": 1 << 60}], "BAD_ARGS"), ("kv.set", ["a", "v", {"tll_ms": 5}], "BAD_ARGS"),
    ("kv.cas", ["a", "v", -1], "BAD_ARGS"), ("kv.cas", ["a", "v", "1"], "BAD_ARGS"),
    ("kv.cas", ["a", "v", 1 << 62], "BAD_ARGS"), ("kv.incr", ["a", "1"], "BAD_ARGS"), ("kv.incr", ["a", 1.5], "BAD_ARGS"),
    ("kv.incr", ["a", (1 << 64) - 1], "BAD_ARGS"), ("kv.get_many", ["a"], "BAD_ARGS"), ("kv.get_many", [["a", 1]], "BAD_ARGS"),
    ("kv.get_many", [["a", None]], "BAD_ARGS"), ("kv.get_many", [[""]], "BAD_ARGS"),
    ("kv.get_many", [["k" * 501]], "LIMIT"), ("kv.scan", ["a"], "BAD_ARGS"), ("kv.scan", ["{}"], "BAD_ARGS"),
    ("kv.scan", ["{a"], "BAD_ARGS"), ("kv.scan", ["{a}", 7], "BAD_ARGS"), ("kv.scan", ["{a}", "k" * 501], "LIMIT"),
    ("kv.scan", ["{a}", None, 0], "BAD_ARGS"), ("kv.scan", ["{a}", None, 1001], "BAD_ARGS"),
    ("kv.scan_all", ["x"], "BAD_ARGS"), ("kv.scan_all", ["x" * 600], "BAD_ARGS"), ("kv.count", [1], "BAD_ARGS"),
    ("kv.bucket", [-1], "BAD_ARGS"), ("kv.bucket", [1024], "BAD_ARGS"), ("kv.bucket", [1, "gone", 0], "BAD_ARGS"),
    ("kv.bucket", [1, "dead", -1], "BAD_ARGS"), ("kv.export", [1024], "BAD_ARGS"), ("kv.import", [1, "x"], "BAD_ARGS"),
    ("kv.export", [1, "k" * 501], "BAD_ARGS"), ("kv.import", [1, ""], "BAD_ARGS"),
]


def test_wrong_input_is_an_exact_error_and_writes_nothing():
    with Node("message_max(65536)", workers=1, admin=False) as node:
        for method, args, code in WRONG:
            with node.client() as client:
                err = client.error(method, *args)
                assert err.code == code, "%s(%.60r): %s" % (method, args, err)
        with node.client() as client:
            assert client.call("kv.count") == 0
            key = b"\xff\x00\xfe" * 100
            assert client.call("kv.set", key, b"\x80\x00") is True
            assert client.call("kv.get", key) == b"\x80\x00"


def test_a_value_as_long_as_a_message_stops_no_scan():
    longest, last = "{k}1", "{k}2" + "z" * 480
    with Node("message_max(65536)", workers=1, admin=False) as node:
        with node.client() as client:
            value = "v" * (65536 - len(pack([0, 1, "kv.set", [longest, ""]])) - 2 - 2)
            assert client.call("kv.set", longest, value) is True
            assert client.call("kv.set", last, "short") is True
            for method, args, more in ("kv.scan", ["{k}"], "next"), ("kv.scan_all", [None], "cursor"):
                first = client.call(method, *args)
                assert first["items"] == [[longest, None]]
                args = args + [first[more]] if method == "kv.scan" else [first[more]]
                assert client.call(method, *args) == {"items": [[last, "short"]]}
            assert client.call("kv.get", longest) == value


def test_old_names_are_aliases():
    with Node(workers=1, admin=False) as node:
        with node.client() as client:
            assert client.call("kvdb_set", {"rid": "1"}, "a", "1") is True
            assert client.call("kvdb_get", {"rid": "1"}, "a") == "1"
            assert client.call("kvdb_get", "a") == "1"
            assert client.call("kvdb_get", {}, "absent") == ""
            assert client.call("kvdb_del", {}, "a") is True
            assert client.call("kvdb_del", {}, "a") is True
            assert client.call("kv.get", "a") is None


def test_numbers_are_told():
    with Node("kv_fast(true)", workers=1) as node:
        with node.client() as client:
            for i in range(10):
                client.call("kv.set", "k%d" % i, "v")
            client.call("kv_fast.set", "k", "v")
        stores = node.stats()["store"]
        assert stores["kv_items"] == 10 and stores["kv_writes_total"] == 10
        assert 1 <= stores["kv_commits_total"] <= 10 and stores["kv_commit_ns_total"] > 0
        assert stores["kv_fast_items"] == 1 and stores["kv_bytes"] > 0
        said = node.ctl("kv", "stats").stdout
        assert re.search(r"^kv_items 10$", said, re.M), said


# ---- backup and check ----


def test_a_backup_is_restored():
    node = Node(workers=2, admin=False)
    try:
        writers = Writers(node, 4)
        with node.client() as client:
            for i in range(100):
                client.call("kv.set", "kept%d" % i, "v%d" % i)
        writers.start()
        folder = os.path.join(node.folder, "backup")
        done = node.ctl("kv", "backup", folder)
        writers.finish()
        assert done.returncode == 0, done.stderr
        assert re.search(r"\d+ bytes in \d+ ms", done.stdout), done.stdout
        assert os.stat(folder).st_mode & 0o777 == 0o700
        assert os.listdir(folder) == ["data.mdb"]
        with node.client() as client:
            client.call("kv.set", "kept0", "changed")
        again = node.ctl("kv", "backup", folder)
        assert again.returncode == 1 and "or not empty" in again.stderr
        node.stop()
        live = os.path.join(node.run_dir, "data", "kv")
        shutil.rmtree(live)
        shutil.copytree(folder, live)
        node.start()
        with node.client() as client:
            for i in range(100):
                assert client.call("kv.get", "kept%d" % i) == "v%d" % i
            assert client.call("kv.set", "goes", "on") is True
        checked(node)
        node.stop()
    finally:
        node.kill()
        node.remove_folder()


def test_check_tells_what_is_wrong():
    with Node(workers=1, admin=False) as node:
        with node.client() as client:
            for i in range(20):
                client.call("kv.set", "k%d" % i, "v", {"ttl_ms": 600000})
        assert "20 records" in checked(node)
        for words in (["kv"], ["kv", "nothing"], ["kv", "backup"], ["kv", "check", "it"]):
            done = node.ctl(*words)
            assert done.returncode == 1, words
        done = node.ctl("kv", "backup", "/proc/no/such")
        assert done.returncode == 1 and "/proc/no/such" in done.stderr
        done = node.ctl("kv", "backup", node.conf_path)
        assert done.returncode == 1 and "no folder" in done.stderr


def test_ctl_answers_while_nobody_is_there_to_ask():
    with Node("kv(false)", workers=1, admin=False, expect=DIED) as node:
        done = node.ctl("kv", "check")
        assert done.returncode == 1 and "UNAVAILABLE" in done.stderr
        ops = node.workers()["ops"]["pid"]
        os.kill(ops, signal.SIGSTOP)
        try:
            done = node.ctl("sessions")
            assert done.returncode == 0
        finally:
            os.kill(ops, signal.SIGCONT)
        assert is_alive(ops)
