# SPDX-License-Identifier: BSD-2-Clause
"""Ids of a running node: exact on the wire, none twice over workers, clients, restarts, kill -9 and clocks that jump
(C8, D45)."""
import os
import random
import signal
import threading
import time

import pytest
from harness import LONG, Node, RpcError, Stopwatch, collect, request, shim, wait_until

EPOCH_MS = 1388834974657
SNOWFLAKE_EPOCH_MS = 1288834974657
VECTOR = 466259910456950792
TOO_BIG = "Too big tag: it is a whole number from 0 to 31"
NO_COUNT = "n is a whole number from 1 to 100000"
NO_ID = "that is no id"


def ms_of(an_id):
    return (an_id >> 22) + EPOCH_MS


@pytest.fixture(scope="module")
def node():
    with Node("node_id(12)", servants=["idrun"], workers=2) as n:
        yield n


@pytest.fixture
def client(node):
    with node.client() as c:
        yield c


class Seen:
    """Every id there was, as runs; asks whether two overlap."""

    def __init__(self):
        self.runs, self.n = [], 0
        self.lock = threading.Lock()

    def add(self, runs):
        with self.lock:
            self.runs.extend((first, length) for first, length in runs)
            self.n += sum(length for _, length in runs)

    def check(self):
        end = 0
        for first, length in sorted(self.runs):
            assert first >= end, "given twice: %d" % first
            assert length <= 4096
            end = first + length


def side_by_side(fns):
    failed = []

    def run(fn):
        try:
            fn()
        except BaseException as err:  # told by the test's own thread
            failed.append(err)
    threads = [threading.Thread(target=run, args=(fn,)) for fn in fns]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if failed:
        raise failed[0]


# ---- shapes ----


def test_an_id_is_exact_and_has_its_parts(client):
    before = time.time() * 1000
    an_id = client.call("id.next", 5)
    assert isinstance(an_id, int) and an_id > 1 << 53
    assert (an_id >> 17 & 31, an_id >> 12 & 31) == (5, 12)
    assert before - 1 <= ms_of(an_id) <= time.time() * 1000
    parts = client.call("id.decode", an_id)
    assert parts == {"ms": ms_of(an_id), "tag": 5, "node": 12, "seq": an_id & 4095}
    assert client.call("id.decode", str(an_id)) == parts
    assert client.call("id.decode", VECTOR) == {"ms": 1500000000000, "tag": 5, "node": 12, "seq": 8}


def test_many_rise_and_are_exact(client):
    ids = client.call("id.next_many", 20000, 3)
    assert len(ids) == 20000 and ids == sorted(set(ids))
    assert {(i >> 17 & 31, i >> 12 & 31) for i in ids} == {(3, 12)}
    assert len(client.call("id.next_many", 100000)) == 100000
    assert len(client.call("id.next_many", 1)) == 1


@pytest.mark.parametrize("ctx", [(), ({},), ({"rid": "r", "uid": 3},)])
def test_the_old_names_take_a_context_or_none(client, ctx):
    assert client.call("id_next", *ctx) >> 17 & 31 == 0
    assert client.call("id_next_with_tag", *ctx, 31) >> 17 & 31 == 31
    assert client.call("id_decode", *ctx, VECTOR) == [1500000000000, 5, 12, 8]
    err = client.error("id_next_with_tag", *ctx, 32)
    assert (err.code, err.text) == ("BAD_ARGS", TOO_BIG)


@pytest.mark.parametrize("method, args, text", [
    ("id.next", [32], TOO_BIG), ("id.next", [-1], TOO_BIG), ("id.next", [1 << 60], TOO_BIG),
    ("id.next", [-1 << 63], TOO_BIG), ("id.next", [(1 << 64) - 1], TOO_BIG), ("id.next", [1e18], None),
    ("id.next_with_tag", [32], TOO_BIG), ("id.next_many", [1, 32], TOO_BIG),
    ("id.next_many", [0], NO_COUNT), ("id.next_many", [-1], NO_COUNT), ("id.next_many", [100001], NO_COUNT),
    ("id.next_many", [1 << 60], NO_COUNT), ("id.next_many", [(1 << 64) - 1], NO_COUNT),
    ("id.next", ["5"], None), ("id.next", [1.5], None), ("id.next", [[]], None), ("id.next", [True], None),
    ("id.next_with_tag", [], None), ("id.next_many", [], None), ("id.next_many", ["9"], None),
    ("id.next_many", [1.5], None), ("id.next_many", [None], None), ("id.decode", [], None), ("id.decode", [None], None),
    ("id.decode", [0], NO_ID), ("id.decode", [-1], NO_ID), ("id.decode", [4194303], NO_ID),
    ("id.decode", [-1 << 63], NO_ID), ("id.decode", [1 << 63], NO_ID), ("id.decode", [(1 << 64) - 1], NO_ID),
    ("id.decode", [1e18], NO_ID), ("id.decode", [float("nan")], NO_ID), ("id.decode", [float("inf")], NO_ID),
    ("id.decode", [""], NO_ID), ("id.decode", ["x"], NO_ID), ("id.decode", ["-5"], NO_ID), ("id.decode", ["1e3"], NO_ID),
    ("id.decode", ["9" * 19], NO_ID), ("id.decode", ["9" * 100000], NO_ID), ("id.decode", [b"\xff\x00"], NO_ID),
    ("id.decode", [True], NO_ID), ("id.decode", [[1]], NO_ID), ("id.decode", [{"a": 1}], NO_ID),
    ("id.parts", [0], NO_ID),
])
def test_wrong_input_is_an_exact_error(client, method, args, text):
    err = client.error(method, *args)
    assert err.code == "BAD_ARGS"
    assert text is None or err.text == text
    assert client.call("id.next") > 0


def test_the_layout_snowflake():
    with Node('node_id(1023)\nid_layout "snowflake"') as node, node.client() as client:
        an_id = client.call("id.next")
        parts = client.call("id.decode", an_id)
        assert (parts["tag"], parts["node"]) == (0, 1023)
        assert parts["ms"] == (an_id >> 22) + SNOWFLAKE_EPOCH_MS
        assert abs(parts["ms"] - time.time() * 1000) < 60000
        err = client.error("id.next", 1)
        assert (err.code, err.text) == ("BAD_ARGS", "Too big tag: the ids of this node's id_layout have none")
        assert client.call("id.next", 0) > an_id


def test_the_counters_tell(node, client):
    def made():
        return node.stats()["store"]["ids_made_total"]
    before = made()
    client.call("id.next_many", 777)
    assert made() == before + 777


def test_a_check_before_a_reload_makes_none():
    source = """
local fae = require "fae"
local s = fae.servant "s"
s.self_check(function()
  for _, got in ipairs { { fae.id.next() }, { fae.id.next_many(1) }, { fae.id.decode "466259910456950792" } } do
    assert(got[1] == nil and got[2].code == "UNAVAILABLE", tostring(got[2]))
  end
end)
"""
    with Node(servants={"s.lua": source}) as node:  # its start is checked too
        assert node.reload().returncode == 0


# ---- none twice ----


def test_none_twice_over_workers_and_clients(node):
    seen, pids = Seen(), set()

    def work(kind, method, n, calls):
        with node.client(kind) as c:
            pids.add(c.call("sys.hello")["session"])
            for _ in range(calls):
                seen.add(c.call(method, n))

    def one_by_one():
        with node.client() as c:
            ids = [c.call("id.next") for _ in range(2000)]
            assert ids == sorted(set(ids))
            seen.add([(i, 1) for i in ids])
    many = [lambda: work("tcp", "idrun.make", 100000, 100 if LONG else 2) for _ in range(4)]
    single = [lambda: work("unix", "idrun.single", 10000, 100 if LONG else 3) for _ in range(4)]
    side_by_side(many + single + [one_by_one] * 3)
    seen.check()
    assert seen.n >= 900000


def test_none_twice_over_nodes():
    seen, nodes = Seen(), []
    try:
        for i in range(3):
            nodes.append(Node("node_id(%d)" % (i * 15), servants=["idrun"], workers=2))

        def work(node):
            with node.client() as c:
                for _ in range(3):
                    seen.add(c.call("idrun.make", 50000))
        side_by_side([lambda node=node: work(node) for node in nodes * 2])
        for node in nodes:
            node.stop()
    finally:
        for node in nodes:
            node.kill()
            node.remove_folder()
    seen.check()
    assert seen.n == 900000


@pytest.mark.parametrize("single", [False, True])
def test_none_twice_over_restarts(single):
    seen = Seen()
    with Node("node_id(1)", servants=["idrun"], workers=1 if single else 2, wait=False,
              args=["--single"] if single else []) as node:
        for i in range(30 if LONG else 4):
            node.start()
            with node.client() as c:
                seen.add(c.call("idrun.make", 5000))
                seen.add(c.call("idrun.single", 100))
            if i % 2:
                node.kill()  # all of its processes, kill -9
            else:
                node.stop()
        seen.check()


def test_a_good_end_leaves_nothing_to_wait_for():
    with Node("node_id(1)", servants=["idrun"]) as node:
        node.call("id.next")
        node.stop()
        node.start()
        with node.client() as c:
            c.call("id.next")
        assert node.stats()["store"]["ids_waits_clock_total"] == 0


def test_workers_and_the_writer_may_die():
    seen = Seen()
    with Node("node_id(1)", servants=["idrun"], workers=2, expect=["killed|died|signal"]) as node:
        stop = time.monotonic() + (20 if LONG else 2.5)

        def work():
            while time.monotonic() < stop:
                try:
                    with node.client() as c:
                        while time.monotonic() < stop:
                            seen.add(c.call("idrun.single", 500))
                except Exception as err:  # a worker's death closes its sessions
                    assert not isinstance(err, (RpcError, AssertionError)), err
                    time.sleep(0.01)

        def kill():
            names = ["worker-0", "ops", "worker-1"]
            while time.monotonic() < stop - 1:
                for name in names:
                    time.sleep(0.3)
                    row = node.workers().get(name)
                    if row and row.get("pid"):
                        os.kill(row["pid"], 9)
        side_by_side([work] * 3 + [kill])
        seen.check()
        assert seen.n > 5000


# ---- disks ----


def test_a_full_disk_is_told_and_recovers(tmp_path):
    full = tmp_path / "full"
    env = {"LD_PRELOAD": shim("nospace"), "FAE_FAULT_NOSPACE": str(full)}
    with Node("node_id(1)", env=env, expect=["marks cannot be written"]) as node, node.client() as c:
        c.call("sys.hello", {"error": "map"})
        first = c.call("id.next")
        full.touch()
        value = wait_until("what was reserved is used", lambda: refusal(c))
        assert value["code"] == "NO_SPACE" and value["retryable"] and value["retry_after_ms"] == 1000, value
        assert value["message"] == "ids cannot be reserved on disk: the disk is full"
        assert c.error("id.next_many", 100000).value["code"] == "NO_SPACE"
        full.unlink()
        second = wait_until("there are ids again", lambda: not refusal(c) and c.call("id.next"))
        assert second > first


def refusal(c):
    try:
        c.call("id.next")
    except RpcError as err:
        return err.value


def test_a_disk_that_hangs_holds_only_those_who_need_it():
    with Node("node_id(1)", servants=["idrun"]) as node, node.client() as c:
        ops = node.workers()["ops"]["pid"]
        os.kill(ops, signal.SIGSTOP)  # nobody writes
        try:
            assert c.error("id.next", ctx={"deadline_ms": 150}).code == "TIMEOUT"
            c.send(request(1, "id.next") + request(2, "id.next_many", 3) + request(3, "sys.noop", 7))
            assert c.recv() == [1, 3, None, 7]
        finally:
            os.kill(ops, signal.SIGCONT)
        answers = collect(c, 2)
        assert answers[1][2] is None and answers[2][2] is None
        assert sorted(answers[2][3] + [answers[1][3]]) == [answers[1][3]] + answers[2][3]


# ---- clocks ----

FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


class Clock:
    """A node's clock, off by so many seconds, while it runs."""

    def __init__(self, folder):
        self.path = os.path.join(str(folder), "clock")
        self.set(0)

    def set(self, seconds):
        with open(self.path + ".new", "w") as f:
            f.write("%+g\n" % seconds)
        os.rename(self.path + ".new", self.path)

    def env(self):
        return {"LD_PRELOAD": FAKETIME, "FAKETIME_TIMESTAMP_FILE": self.path, "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}


@pytest.fixture
def clocked(tmp_path):
    clock = Clock(tmp_path)
    with Node("node_id(1)", servants=["idrun"], workers=2, env=clock.env()) as node:
        yield node, clock


def test_a_clock_set_back_a_second_is_waited_for(clocked):
    node, clock = clocked
    with node.client() as c:
        first = c.call("id.next")
        assert abs(ms_of(first) - time.time() * 1000) < 10000
        clock.set(-1)
        began = Stopwatch()
        second = c.call("id.next")
        assert second > first and began.elapsed() > 0.5
        clock.set(-2)
        err = c.error("id.next", ctx={"deadline_ms": 200})  # has no time for that
        assert err.code == "CLOCK_BACK"
        c.call("sys.hello", {"error": "map"})
        clock.set(-2.5)
        value = c.error("id.next", ctx={"deadline_ms": 200}).value
        assert value["retryable"] and 200 < value["retry_after_ms"] <= 2600
        wait_until("the clock is where it was", lambda: isinstance(c.call("id.next"), int))
    stats = node.stats()["store"]
    assert stats["ids_waits_clock_total"] >= 1 and stats["ids_clock_back_total"] >= 2


def test_a_clock_set_back_an_hour_is_refused_until_it_is_set_right(clocked):
    node, clock = clocked
    with node.client() as c:
        clock.set(3600)  # forward is taken as it is
        ahead = c.call("id.next")
        assert ms_of(ahead) - time.time() * 1000 > 3500000
        clock.set(0)
        began = Stopwatch()
        err = c.error("id.next")
        assert err.code == "CLOCK_BACK" and began.seconds() < 4
        assert c.error("id.next_many", 10).code == "CLOCK_BACK"
        c.call("idrun.spawn")
        wait_until("it was refused", lambda: c.call("idrun.outcome"))
        assert c.call("idrun.outcome")[1] == "CLOCK_BACK"
    node.stop()
    node.start()  # and a restart does not forget
    with node.client() as c:
        assert c.error("id.next").code == "CLOCK_BACK"
        clock.set(3600)
        assert c.call("id.next") > ahead


def test_a_task_without_deadline_waits_for_a_clock(clocked):
    node, clock = clocked
    with node.client() as c:
        c.call("id.next")
        clock.set(-1)
        c.call("idrun.spawn")
        outcome = wait_until("it has its id", lambda: c.call("idrun.outcome"))
        assert outcome[0] and outcome[2] > 300


def test_a_time_no_id_can_have_is_refused(clocked):
    node, clock = clocked
    with node.client() as c:
        clock.set(-20 * 365 * 86400)
        err = c.error("id.next")
        assert (err.code, err.text) == ("SYSTEM", "no id can have the time that the clock shows")
        clock.set(70 * 365 * 86400)
        assert c.error("id.next").code == "SYSTEM"
        clock.set(0)
        assert c.call("id.next") > 0


def test_none_twice_while_the_clock_jumps(clocked):
    """C8 over the wire: FAE_LONG makes 10^8."""
    node, clock = clocked
    seen, n_max, ended = Seen(), 100000000 if LONG else 1500000, []
    rand = random.Random(8)

    def work(method, n):
        with node.client(timeout=60) as c:
            while seen.n < n_max:
                try:
                    seen.add(c.call(method, n))
                except RpcError as err:
                    assert err.code == "CLOCK_BACK", err
        ended.append(1)

    def jump():
        offset = 0
        while len(ended) < 5:
            time.sleep(rand.uniform(0.05, 0.2))
            offset += rand.choice([1, 2, -0.3, -0.05, 0.001, 3600, -3600])
            clock.set(offset)
            time.sleep(0.05)
            if offset < 0 or rand.random() < 0.5:
                offset = max(offset, 0) + 7200  # beyond what was used: ids go on
                clock.set(offset)
    side_by_side([lambda: work("idrun.make", 50000)] * 3 + [lambda: work("idrun.single", 2000)] * 2 + [jump])
    seen.check()


def test_none_twice_over_restarts_with_the_clock_set_back(clocked):
    node, clock = clocked
    seen = Seen()
    for i in range(20 if LONG else 2):
        with node.client() as c:
            seen.add(c.call("idrun.make", 3000))
        node.kill()
        clock.set(-0.2 * (i + 1))
        node.start()
    seen.check()
