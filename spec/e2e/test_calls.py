# SPDX-License-Identifier: BSD-2-Clause
"""Calls, values, errors, contexts, deadlines, pipelining, back-pressure, hang-ups and limits of a session (I5)."""
import math
import re
import socket
import struct
import threading
import time

import msgpack
import pytest

from harness import (LONG, SANITIZED, SLOW, Client, Closed, Node, RpcError, Stopwatch, beside, collect, cpu_s, memory_kib, n_fds,
                     pack, raw_many, request, wait_until)

CONF = """
out_stall_ms(1000)
partial_timeout_ms(60000)
sessions_max(200)
servant "probe" { answer = 42, name = "x", list = { 1, 2, "three" }, deep = { yes = true } }
listen { "tcp://127.0.0.1:0", half_close = true }
listen { "unix:half.sock", half_close = true }
"""


@pytest.fixture(scope="module")
def node():
    with Node(CONF, servants=["probe"]) as n:
        n.half = {"tcp": n.addrs[2], "unix": n.addrs[3]}
        yield n


@pytest.fixture(scope="module")
def cut_node():
    with Node(CONF, servants=["probe"], one_byte=True) as n:
        yield n


@pytest.fixture(params=["tcp", "unix"])
def kind(request):
    return request.param


@pytest.fixture(params=["tcp", "unix", "tcp, byte by byte", "unix, byte by byte"])
def c(request, node):
    """A client over either socket, of a node that reads and writes as it likes or one byte at a time."""
    kind, _, cut = request.param.partition(", ")
    if cut:
        node = request.getfixturevalue("cut_node")
    with node.client(kind) as client:
        client.node = node
        client.is_cut = bool(cut)
        client.kind = kind
        yield client


# ---- sys and hello ----


def test_ping(c):
    assert re.fullmatch(r"ver:[\w.]+, build:[\w.-]+, myid:0, uptime:\d+\.\d{3}s", c.call("sys.ping"))
    assert c.call("sys.ping", 1, None, {"any": "thing"}).startswith("ver:")
    assert c.call("ping").startswith("ver:")
    assert c.call("ping", {"rid": 5}).startswith("ver:")


def test_noop_and_echo(c):
    assert c.call("sys.noop") is None
    assert c.call("noop", {}) is None
    assert c.call("noop", {"rid": 5}, "x") == "x"
    for value in (None, True, 0, -1, 1.5, "text", b"\xff", [], {}, [1, [2]], {"a": {"b": [None]}}):
        assert c.call("sys.noop", value) == value
        assert c.call("sys.echo", value) == value


def test_time(c):
    before = time.time() * 1000
    assert before - 5 <= c.call("sys.time") <= time.time() * 1000 + 5


def test_hello_and_greet(c):
    hello = c.call("sys.hello")
    assert hello["name"] == "fae" and hello["message_max"] == 4194304 and hello["call_timeout_ms"] == 5000
    assert hello["generation"] == 1 and hello["session"] >= 1 and hello["version"] and hello["build"]
    assert c.call("hello.greet") == "Hello, world!"
    assert c.call("hello.greet", None) == "Hello, world!"
    assert c.call("hello.greet", "Zoë") == "Hello, Zoë!"


def test_servants(c):
    found = c.call("sys.servants")
    assert found["generation"] == 1
    assert {"hello", "id", "kv", "lc", "probe", "sys"} <= {s["name"] for s in found["servants"]}
    only = c.call("sys.servants", "hello")["servants"]
    assert len(only) == 1
    assert only[0]["methods"] == [{"name": "hello.greet", "args": ["string?"], "timeout_ms": 100, "idempotent": True,
                                   "doc": "a greeting for a name"}]
    assert c.call("sys.servants", "nobody")["servants"] == []


def test_stats_count_calls(node):
    def row(name):
        return {m["name"]: m for m in node.call("sys.stats")["methods"]}.get(name, {"calls": 0, "errors": 0})

    good, bad = row("probe.add"), row("probe.fail")
    with node.client() as c:
        for i in range(7):
            c.call("probe.add", i, 1)
        for i in range(3):
            c.error("probe.fail", "NOT_FOUND", "no")
    after = row("probe.add")
    assert after["calls"] == good["calls"] + 7 and after["errors"] == good["errors"]
    assert row("probe.fail")["calls"] == bad["calls"] + 3 and row("probe.fail")["errors"] == bad["errors"] + 3
    assert 0 < after["p50_us"] <= after["p99_us"] <= after["max_us"] < 1e6
    assert node.stats()["methods"] and node.call("sys.stats")["node"]["workers"] == 1


# ---- values ----

INTS = [0, 1, 127, 128, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**53 + 1,
        2**63 - 1, 2**63, 2**64 - 1, -1, -32, -33, -128, -129, -32768, -32769, -2**31, -2**31 - 1, -2**53, -2**53 - 1,
        -2**63]


def test_integers_survive(c):
    for v in INTS:
        got = c.call("sys.echo", v)
        assert got == v and isinstance(got, int), "%d came back as %r" % (v, got)
    assert c.call("sys.echo", INTS) == INTS
    assert c.call("sys.echo", {"k": INTS[-1]}) == {"k": INTS[-1]}


def test_floats(c):
    for v in (1.5, -2.25, 1e300, 5e-324, 2.0**60 + 2.0**9, float("inf"), float("-inf"), 0.1):
        got = c.call("sys.echo", v)
        assert got == v and (isinstance(got, float) or v.is_integer()), v
    assert math.isnan(c.call("sys.echo", float("nan")))
    minus_zero = c.call("sys.echo", -0.0)
    assert isinstance(minus_zero, float) and math.copysign(1, minus_zero) == -1
    # Integral numbers go out as the shortest integer, a float32 as what it is.
    for v in (3.0, 2.0**53, -2.0**53):
        got = c.call("sys.echo", v)
        assert got == v and isinstance(got, int), v
    c.send(b"\x94\x00\x63\xa8sys.echo\x91\xca" + struct.pack(">f", 0.1))
    assert c.finish(99) == struct.unpack(">f", struct.pack(">f", 0.1))[0]
    assert math.isnan(c.call("probe.number", "x")) and c.call("probe.number", "1e15") == 10**15


def test_text_and_bytes(c):
    for v in ("", "ascii", "\u00e9\u20ac\U0001f600", "\0", "a\0b", "x" * 31, "x" * 32, "x" * 255, "x" * 256,
              "x" * 65536):
        got = c.call("sys.echo", v)
        assert got == v and isinstance(got, str)
    for v in (b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", bytes(range(256))):
        got = c.call("sys.echo", v)
        assert got == v and isinstance(got, bytes)
    assert c.call("sys.echo", b"plain") == "plain"
    assert c.call("probe.bin", "plain") == b"plain"
    assert c.call("probe.ext", 127, "ab") == msgpack.ExtType(127, b"ab")
    assert c.call("sys.echo", [msgpack.ExtType(1, b"")]) == [msgpack.ExtType(1, b"")]


def test_tables(c):
    assert c.call("probe.empty") == []
    assert c.call("probe.empty_map") == {}
    assert c.call("sys.echo", {}) == {} and c.call("sys.echo", []) == []
    assert c.call("probe.holes") == [1, None, 3]
    assert c.call("probe.nulls") == {"a": None, "b": [None, 2]}
    assert c.call("sys.echo", {"a": None, "b": [None, None]}) == {"a": None, "b": [None, None]}
    assert c.call("probe.sparse") == {1: "a", 3: "c"}
    assert c.call("probe.mixed") == {1: "a", "x": 1}
    assert c.call("sys.echo", {1: "a", -5: "b", "x": 1}) == {1: "a", -5: "b", "x": 1}
    assert c.call("probe.nothing") is None and c.call("probe.no") is False
    many = {"key%d" % i: i for i in range(300)}
    assert c.call("sys.echo", many) == many
    for n in (15, 16, 65535, 65536) if not c.is_cut else (15, 16):
        assert c.call("probe.list", n) == list(range(1, n + 1))


# ---- arguments ----


def test_arguments_are_checked(c):
    good = {"any": [1, "x", [], {}, True], "int": [0, 2**53, 2.0, -7, 2**64 - 1], "number": [1.5, 3, 2**63],
            "string": ["", b"\xff"], "boolean": [True, False], "table": [[], {}, [1]], "map": [{}, {"a": 1}, []],
            "array": [[], [1], {}]}
    bad = {"any": [], "int": [1.5, "1", True, [], float("inf"), float("nan")], "number": ["1", False],
           "string": [1, [], True], "boolean": [0, "true"], "table": ["[]", 1], "map": [[1], "x", 5],
           "array": [{"a": 1}, 5]}
    for word in good:
        for v in good[word]:
            assert len(c.call("probe.a_" + word, v)) == 1
            assert len(c.call("probe.o_" + word, v)) == 1
        for v in bad[word]:
            for prefix in "ao":
                err = c.error("probe.%s_%s" % (prefix, word), v)
                assert err.code == "BAD_ARGS"
                want = r"argument 1 of probe\.%s_%s must be %s, not \w+" % (prefix, word, word)
                assert re.fullmatch(want, err.text), err
        missing = "BAD_ARGS: argument 1 of probe.a_%s is missing: %s" % (word, word)
        assert c.error("probe.a_" + word).value == missing
        assert c.error("probe.a_" + word, None).value == missing
        assert c.call("probe.o_" + word, None) == ["nil"]
        assert c.error("probe.o_" + word, 1, 2).value == "BAD_ARGS: probe.o_%s takes 1 argument, not 2" % word
    assert c.error("probe.a_int", "1").text == "argument 1 of probe.a_int must be int, not string"
    assert c.error("probe.a_map", [1]).text == "argument 1 of probe.a_map must be map, not array"
    assert c.error("probe.two", 1, "x", 3).text == "probe.two takes 2 arguments, not 3"
    assert c.error("probe.two", 1, 5).text == "argument 2 of probe.two must be string, not int"
    assert c.call("probe.two", 1) == ["number"] and c.call("probe.two", 1, None) == ["number", "nil"]
    assert c.call("probe.rest", 1, None, "x", [None]) == ["number", "nil", "string", "table"]
    assert c.call("probe.rest", *range(200)) == ["number"] * 200
    assert c.call("probe.free") == [] and c.call("probe.free", None, 1) == ["nil", "number"]
    assert c.call("probe.none") == 0 and c.error("probe.none", 1).text == "probe.none takes 0 arguments, not 1"


def test_old_names_take_a_context_first(c):
    assert c.call("old_add", {"rid": 7}, 1, 2) == {"sum": 3, "rid": 7}
    assert c.call("old_add", 1, 2) == {"sum": 3}
    assert c.call("probe.old_style", 1, 2) == {"sum": 3}
    assert c.error("probe.old_style", {"rid": 7}, 1, 2).code == "BAD_ARGS"


def test_unknown_methods(c):
    assert c.error("probe.aint").value == 'UNKNOWN_METHOD: no method "probe.aint": did you mean probe.a_int?'
    assert c.error("zzzzzzzzzz").value == 'UNKNOWN_METHOD: no method "zzzzzzzzzz"'
    assert c.error("sys").value.startswith('UNKNOWN_METHOD: no method "sys"')
    assert c.call("sys.noop", 1) == 1


# ---- errors ----


def test_error_forms(c):
    fields = {"retryable": True, "retry_after_ms": 250, "detail": {"shard": 3}}
    assert c.error("probe.fail", "OUT_OF_STOCK", "none left", fields).value == "OUT_OF_STOCK: none left"
    assert c.call("sys.hello", {"error": "map"})["name"] == "fae"
    assert c.error("probe.fail", "OUT_OF_STOCK", "none left", fields).value == dict(
        fields, code="OUT_OF_STOCK", message="none left")
    assert c.error("probe.raise", "NOT_FOUND", "no").value == {"code": "NOT_FOUND", "message": "no", "retryable": False}
    assert c.error("probe.fail", "OVERLOAD", "later").value == {"code": "OVERLOAD", "message": "later",
                                                                "retryable": True}
    assert c.error("no.such").value["code"] == "UNKNOWN_METHOD"
    assert c.error("probe.two").value["code"] == "BAD_ARGS"
    c.send(pack([0, 1000, "sys.noop"]))
    assert c.recv()[2] == {"code": "BAD_MESSAGE", "retryable": False,
                           "message": "a request is [0, msgid, method, params] or [0, msgid, method, params, context]"}
    c.send(pack([0, "x", "sys.noop", []]))
    assert c.recv() == [2, "sys.error", [{"code": "BAD_MESSAGE", "retryable": False,
                                          "message": "msgid must be an integer from 0 to 4294967295"}]]
    c.call("sys.hello", {"error": "array"})
    assert c.error("probe.fail", "OUT_OF_STOCK", "none left", fields).value == ["OUT_OF_STOCK", "none left"]
    assert c.error("sys.hello", {"error": "xml"}).value == ["BAD_ARGS", 'error must be "string", "map" or "array"']
    assert c.error("sys.hello", {"error": 1}).value[0] == "BAD_ARGS"
    c.call("sys.hello", {"error": "string"})
    assert c.error("probe.fail", "A_B1", "").value == "A_B1: "


def test_error_forms_belong_to_a_session(node, kind):
    with node.client(kind) as a, node.client(kind) as b:
        a.call("sys.hello", {"error": "map"})
        assert isinstance(a.error("no.such").value, dict)
        assert isinstance(b.error("no.such").value, str)


# ---- context ----

WHO = {"rid": "r-1", "reason": "test", "uid": 2**60, "traceparent": "00-ab-cd-01"}


def seen(c, **kw):
    got = c.call("probe.call", **kw)
    return {k: got.get(k) for k in WHO}


def test_context_of_a_call(c):
    nobody = dict.fromkeys(WHO)
    assert seen(c) == nobody
    assert seen(c, ctx=WHO) == WHO
    assert seen(c) == nobody
    assert "token" not in c.call("probe.call", ctx=dict(WHO, token=b"\xff"))
    assert seen(c, ctx={"rid": 5, "other": [1]}) == dict(nobody, rid=5)
    assert seen(c, ctx={"rid": None}) == nobody
    got = c.call("probe.call")
    assert got["method"] == "probe.call" and got["generation"] == 1
    assert got["peer"].startswith(c.kind)


def test_context_of_a_session(c):
    other = dict(WHO, rid="r-2")
    assert c.call("sys.ctx", WHO) is True
    assert seen(c) == WHO
    assert seen(c, ctx={"rid": "own"}) == dict(dict.fromkeys(WHO), rid="own")
    assert seen(c) == WHO
    c.notify("sys.ctx", other)
    assert seen(c) == other
    with c.node.client(c.kind) as stranger:
        assert seen(stranger) == dict.fromkeys(WHO)
    c.notify("sys.ctx", "no map")
    assert seen(c) == other
    assert c.error("sys.ctx", [1]).code == "BAD_ARGS"
    assert c.call("sys.ctx") is True
    assert seen(c) == dict.fromkeys(WHO)


def test_notifications_run(c):
    c.call("probe.noted")
    c.notify("probe.note", {"n": 1})
    c.notify("probe.note", "two")
    c.notify("probe.note")
    c.notify("probe.fail", "NOT_FOUND", "nobody hears this")
    c.send(pack([2, "probe.note", [3], {"rid": 1}]))
    assert c.call("probe.noted") == [{"value": {"n": 1}}, {"value": "two"}]


# ---- deadlines ----


def timed_error(c, method, *params, ctx=None):
    started = Stopwatch()
    err = c.error(method, *params, ctx=ctx)
    return err, started.stop()


def test_deadlines(c):
    err, took = timed_error(c, "probe.wait_short", 5000, "short")
    assert err.value == "TIMEOUT: deadline passed"
    assert took.within(0.199, 1 * SLOW), took
    assert c.call("probe.ended", "short") == "TIMEOUT"
    assert c.call("probe.wait_short", 20, "in time") == "in time"
    err, took = timed_error(c, "probe.wait", 5000, "ctx", ctx={"deadline_ms": 100})
    assert err.code == "TIMEOUT" and took.within(0.099, 1 * SLOW), took
    # A client may shorten the time, never lengthen it.
    err, took = timed_error(c, "probe.wait_short", 5000, ctx={"deadline_ms": 60000})
    assert err.code == "TIMEOUT" and took.within(0.199, 1 * SLOW), took
    for nonsense in (-1, "5", None, float("nan"), float("inf"), 2**64 - 1, [1]):
        assert c.call("probe.wait", 1, "fine", ctx={"deadline_ms": nonsense}) == "fine"
    assert c.error("probe.wait", 50, ctx={"deadline_ms": 0}).code == "TIMEOUT"
    assert 4000 <= c.call("probe.call")["left_ms"] <= 5000
    assert 50 <= c.call("probe.call", ctx={"deadline_ms": 100})["left_ms"] <= 100
    err, took = timed_error(c, "probe.local_call", "probe.wait", 5000, ctx={"deadline_ms": 100})
    assert err.code == "TIMEOUT" and took.within(0.099, 1 * SLOW), took


def test_deadline_of_a_session(c):
    """deadline_ms in sys.ctx holds for each later call, counted from its own start."""
    c.call("sys.ctx", {"deadline_ms": 100, "rid": 1})
    for _ in range(2):
        err, took = timed_error(c, "probe.wait", 5000)
        assert err.code == "TIMEOUT" and took.within(0.099, 1 * SLOW), took
    assert c.call("probe.wait", 200, ctx={}) is True
    c.call("sys.ctx")
    assert c.call("probe.wait", 200) is True


@pytest.fixture(scope="module", autouse=True)
def default_deadline(request):
    """It is waited for beside the other tests, on a node of its own."""
    def wait():
        with Node(servants=["probe"]) as node:
            started = Stopwatch()
            with node.client() as c:
                assert c.error("probe.wait_default", 60000, "default").code == "TIMEOUT"
            assert started.within(4.99, 7 * SLOW), started
            assert node.call("probe.ended", "default") == "TIMEOUT"

    with beside(request, "test_the_default_deadline", wait) as waited:
        yield waited


def test_the_default_deadline(default_deadline):
    default_deadline.result()


def test_config_and_log(c):
    assert c.call("probe.config", "probe") == {"answer": 42, "name": "x", "list": [1, 2, "three"],
                                               "deep": {"yes": True}}
    assert c.call("probe.config", "nobody") == {}
    c.call("probe.log", "warn", "mind the\ngap \x1b[31m", {"shop": "a b", "n": 5, "yes": True})
    c.call("probe.log", "debug", "never shown")
    line = wait_until("the line is written", lambda: re.search(r".*mind the.*", c.node.log())).group()
    assert "level=warn" in line and "method=probe.log" in line and 'shop="a b"' in line and "n=5" in line
    assert "yes=true" in line and r"mind the\ngap" in line and "\x1b" not in line
    assert "never shown" not in c.node.log()


# ---- many at a time (I5) ----


def test_1000_pipelined_in_one_write(c):
    n = 1000
    answers = raw_many(c, [request(i, "sys.echo", {"n": i, "text": "x" * (i % 50)}) for i in range(n)])
    assert answers == {i: [1, i, None, {"n": i, "text": "x" * (i % 50)}] for i in range(n)}


def test_pipelined_answers_of_calls_that_do_not_wait_keep_their_order(c):
    c.send(b"".join(request(i, "sys.noop", i) for i in range(300)))
    assert [c.recv()[1] for _ in range(300)] == list(range(300))


def test_answers_come_when_they_are_ready(c):
    c.send(request(1, "probe.wait", 150, "slow") + request(2, "probe.wait", 50, "middle") +
           request(3, "sys.noop", "quick"))
    assert [c.recv() for _ in range(3)] == [[1, 3, None, "quick"], [1, 2, None, "middle"], [1, 1, None, "slow"]]


def test_128_in_flight_then_back_pressure(c):
    """The 129th waits unread; that is never an error, and order of arrival is kept."""
    n = 600
    c.call("probe.most")
    started = Stopwatch()
    answers = raw_many(c, [request(i, "probe.wait", 40, i) for i in range(n)])
    took = started.elapsed()
    assert answers == {i: [1, i, None, i] for i in range(n)}
    assert took >= 0.04 * math.ceil(n / 128)
    assert c.call("probe.most") == 128


def test_answers_that_are_due_while_the_worker_is_busy(node):
    """They are written in the turn of a tick, which must not take them for output that nobody reads."""
    with node.client() as waiting, node.client("unix") as busy:
        for _ in range(5):
            msgid = waiting.start("probe.wait", 30, "late")
            assert waiting.is_open()
            assert busy.call("probe.busy", 150) == 150
            assert waiting.finish(msgid) == "late"


def test_other_sessions_go_on_when_one_is_held_back(node):
    with node.client() as greedy, node.client() as modest:
        greedy.send(b"".join(request(i, "probe.wait", 300, i) for i in range(400)))
        wait_until("128 run", lambda: modest.call("probe.running") >= 128)
        for i in range(20):
            t = Stopwatch()
            assert modest.call("probe.wait", 1, i) == i
            assert t.seconds() < 0.29 * SLOW
        assert len(collect(greedy, 400)) == 400


def test_a_megabyte_and_four(c):
    sizes = (1 << 17,) if c.is_cut else (1 << 20, 4 * (1 << 20) - 18)
    for size in sizes:
        body = b"\xff" * size
        assert c.call("sys.echo", body) == body


def test_results_that_are_too_long(c):
    if not c.is_cut:
        assert len(c.call("probe.text", 4194304 - 5)) == 4194304 - 5
    for n in (4194304, 4194305, 100 << 20):
        err = c.error("probe.text", n)
        assert err.code == "LIMIT" and "probe.text" in err.text
    assert c.call("sys.noop", "still here") == "still here"


# ---- input in pieces ----


def four_mib(size, n_ints):
    """A message of this size for probe.free: an array of small integers, then a bin."""
    head = b"\x94\x00\x05\xaaprobe.free\x92\xdd" + n_ints.to_bytes(4, "big") + b"\xcd\x01\x02" * n_ints
    rest = size - len(head) - 5
    return head + b"\xc6" + rest.to_bytes(4, "big") + b"\xff" * rest


@pytest.mark.skipif(SANITIZED, reason="measures CPU")
def test_a_long_message_in_single_bytes(node, cut_node):
    """The scan keeps its place: byte by byte it costs at most twice what it costs over the whole. What reading single
    bytes costs in itself is taken from a message in which there is nothing to scan."""
    def cost(node, data):
        pid = node.worker_pids()[0]
        with node.client("unix", timeout=60) as c:
            begin = cpu_s(pid)
            c.send(data)
            assert c.recv() == [1, 5, None, ["table", "string"]]
            return cpu_s(pid) - begin

    size = 4 << 20 if LONG else 1 << 20
    full, bare = four_mib(size, size * 990000 // (4 << 20)), four_mib(size // 4, 0)
    assert len(full) == 4 * len(bare) == size
    whole = sorted(cost(node, full) for _ in range(3))[1]
    by_bytes, reading = cost(cut_node, full), 4 * cost(cut_node, bare)
    text = "whole %.3f s of CPU, byte by byte %.3f s, a bin byte by byte %.3f s" % (whole, by_bytes, reading)
    print("\n" + text)
    assert by_bytes <= 1.3 * reading + 2 * whole, text


def test_cut_at_random_places(node, kind):
    import random
    rng = random.Random(7)
    stream = b"".join(request(i, "sys.echo", {"i": i, "x": "y" * rng.randrange(300), "l": [None, 1.5, i]})
                      for i in range(400))
    with node.client(kind) as c:
        got = {}
        reader = threading.Thread(target=lambda: got.update(collect(c, 400)))
        reader.start()
        at = 0
        while at < len(stream):
            step = rng.choice((1, 2, 3, 7, 64, 500, 4000))
            c.sock.sendall(stream[at:at + step])
            at += step
        reader.join(20 * SLOW)
        assert len(got) == 400
        assert all(m[2] is None and m[3]["i"] == i for i, m in got.items())


# ---- hanging up ----


def test_hang_up_cancels(node, kind):
    c = node.client(kind)
    c.start("probe.wait", 50000, "left-" + kind)
    wait_until("it runs", lambda: node.call("probe.running") == 1)
    c.close()
    wait_until("it was cancelled", lambda: node.call("probe.ended", "left-" + kind) == "CANCELLED", 1)
    assert node.call("probe.running") == 0


def test_hang_up_is_seen_while_nothing_is_read(node, kind):
    """128 calls in flight stop reading; the end of the client is noticed all the same."""
    c = node.client(kind)
    c.send(b"".join(request(i, "probe.wait", 50000, "full") for i in range(300)))
    wait_until("128 run", lambda: node.call("probe.running") == 128)
    c.close()
    wait_until("all were cancelled", lambda: node.call("probe.running") == 0, 1)


def test_shutting_down_one_side_ends_a_session(node, kind):
    with node.client(kind) as c:
        c.start("probe.wait", 50000, "shut-" + kind)
        wait_until("it runs", lambda: node.call("probe.running") == 1)
        c.sock.shutdown(socket.SHUT_WR)
        assert c.recv_all() in ([], [[1, 1, "CANCELLED: the caller hung up", None]])
    assert node.call("probe.ended", "shut-" + kind) == "CANCELLED"


def test_half_close_gets_its_answers(node, kind):
    with Client(node.half[kind]) as c:
        c.send(request(1, "probe.wait", 150, "half") + request(2, "sys.noop", 2) +
               request(3, "sys.echo", "x" * 1000000))
        c.sock.shutdown(socket.SHUT_WR)
        messages = c.recv_all()
        assert [m[1] for m in messages] == [2, 3, 1]
        assert messages[2] == [1, 1, None, "half"]


def test_half_close_with_more_than_may_run(node, kind):
    with Client(node.half[kind]) as c:
        c.send(b"".join(request(i, "probe.wait", 20, i) for i in range(500)))
        c.sock.shutdown(socket.SHUT_WR)
        assert sorted(m[1] for m in c.recv_all()) == list(range(500))


def test_half_close_in_the_middle_of_a_message(node, kind):
    with Client(node.half[kind]) as c:
        c.send(request(1, "probe.wait", 50, "half") + request(2, "sys.noop")[:-3])
        c.sock.shutdown(socket.SHUT_WR)
        assert c.recv_all() == [[1, 1, None, "half"]]


def test_answers_sent_before_the_end_arrive(node, kind):
    """Call, shut down at once: what needed no waiting is answered."""
    for _ in range(50):
        with node.client(kind) as c:
            c.send(b"".join(request(i, "sys.noop", i) for i in range(20)))
            c.sock.shutdown(socket.SHUT_WR)
            assert [m[1] for m in c.recv_all()] == list(range(20))


# ---- clients that do not read ----


def test_a_client_that_does_not_read_is_paused_then_served(node, kind):
    """Its answers stop at 1 MiB unsent, nothing is read meanwhile, and nothing is lost when it reads again."""
    pid = node.worker_pids()[0]
    before = memory_kib(pid)
    n, body = 300, b"\xff" * 65536
    with node.client(kind) as c:
        def push():
            c.send(b"".join(pack([0, i, "sys.echo", [body]]) for i in range(n)))

        pusher = threading.Thread(target=push)
        pusher.start()
        time.sleep(0.5)
        assert pusher.is_alive(), "20 MB were read although no answer was"
        if not SANITIZED:
            assert memory_kib(pid) - before < 16384
        for i in range(n):
            assert c.recv() == [1, i, None, body]
        pusher.join(10)
        assert not pusher.is_alive()
        assert c.call("sys.noop", 1) == 1


def test_a_client_that_never_reads_is_cut(node, kind):
    """out_stall_ms is 1 s here."""
    sessions = node.n_sessions()
    with node.client(kind) as c:
        c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        started = Stopwatch()
        c.send(b"".join(request(i, "probe.text", 1000000) for i in range(20)))
        time.sleep(0.7)
        assert node.n_sessions() == sessions + 1 or started.elapsed() > 0.95
        wait_until("it was cut", lambda: node.n_sessions() == sessions, 3)
        with pytest.raises(Closed):
            for _ in range(20):
                c.recv()


def test_too_much_unsent_is_cut_at_once(node, kind):
    """message_max + 8 MiB: 100 answers of 1 MB that become ready at the same time."""
    sessions = node.n_sessions()
    with node.client(kind) as c:
        started = Stopwatch()
        c.send(b"".join(request(i, "probe.text_later", 1000000, 100) for i in range(100)))
        wait_until("it was cut", lambda: node.n_sessions() == sessions, 5)
        assert started.seconds() < 0.9 * SLOW
        n = 0
        with pytest.raises(Closed):
            while True:
                c.recv()
                n += 1
        assert n < 100
    assert node.call("sys.noop", 1) == 1


# ---- the node's limits ----


def test_sessions_max(node):
    wait_until("no session is left", lambda: node.n_sessions() == 0)
    held = [node.client("unix" if i % 2 else "tcp") for i in range(200)]
    for c in held:
        assert c.call("sys.noop", 1) == 1
    for kind in ("tcp", "unix"):
        with node.client(kind) as c:
            assert c.recv_all() == [[2, "sys.error", ["BUSY: too many connections; retry after 1000 ms"]]]
    assert held[0].call("sys.noop", 2) == 2
    held.pop().close()
    wait_until("one is gone", lambda: node.n_sessions() == 199)
    with node.client() as c:
        assert c.call("sys.noop", 3) == 3
    for c in held:
        c.close()
    wait_until("the log says so", lambda: "limits met: sessions_max 2" in node.log())


def test_sessions_leave_nothing_behind(node):
    pid = node.worker_pids()[0]
    wait_until("no session is left", lambda: node.n_sessions() == 0)
    fds = n_fds(pid)
    for i in range(2000):
        with node.client("unix" if i % 2 else "tcp") as c:
            assert c.call("sys.noop", i) == i
    wait_until("all sessions are gone", lambda: node.n_sessions() == 0)
    assert n_fds(pid) == fds


def test_wrong_errors_are_told_from_right_ones():
    """The client of these specs itself: an answer to another msgid is no answer."""
    a, b = socket.socketpair()
    c = Client.__new__(Client)
    c.sock, c.unpacker = a, msgpack.Unpacker(raw=False)
    with a, b:
        b.sendall(pack([1, 6, None, 1]) + pack([1, 7, "X: y", None]))
        with pytest.raises(AssertionError):
            c.finish(5)
        with pytest.raises(RpcError) as info:
            c.finish(7)
        assert info.value.code == "X" and info.value.text == "y"
