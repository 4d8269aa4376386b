# SPDX-License-Identifier: BSD-2-Clause
"""A servant may be as strange as it likes: it costs exactly one failed call and a line in the log (S1, S2, I12,
D39)."""
import random
import re
import threading
import time

import pytest

from harness import LONG, SANITIZED, SLOW, Closed, Node, RpcError, Stopwatch, memory_kib, pack, wait_until

# What takes long here is for other specs to stop: on a busy machine it takes longer.
CONF = 'lua_memory_max "64MiB"\nwatchdog_kill_ms(60000)\nwatchdog_warn_ms(30000)\n'


@pytest.fixture(scope="module")
def node():
    """One worker: whatever a call breaks would be seen by the next."""
    with Node(CONF, servants=["strange", "probe"], expect=[r"task=strange\.", r'msg="strange\.', "task=timer",
                                                           'task="spawned task"', "call cut", "spawned task: ",
                                                           "method=strange", "result of strange",
                                                           r"strange\.lua:\d+: b"]) as n:
        n.worker = n.worker_pids()[0]
        yield n
        assert n.worker_pids() == [n.worker], "the worker died"


def failed_calls(node):
    return sum(m["errors"] for m in node.stats()["methods"])


def one_error(node, method, *params):
    """Calls it; the calls before, beside and after it in the same session are fine, and one call failed."""
    before = failed_calls(node)
    with node.client() as c, node.client("unix") as other:
        waiting = other.start("probe.wait", 30, "beside")
        c.send(b"".join(pack([0, i, m, p]) for i, m, p in
                        ((100, "sys.noop", [1]), (101, method, list(params)), (102, "sys.noop", [2]))))
        answers = {m[1]: m for m in (c.recv(), c.recv(), c.recv())}
        assert answers[100] == [1, 100, None, 1] and answers[102] == [1, 102, None, 2]
        assert answers[101][3] is None and answers[101][2], "no error: %.200r" % answers[101]
        assert other.finish(waiting) == "beside"
        assert c.call("sys.noop", 3) == 3
    assert failed_calls(node) == before + 1
    return answers[101][2]


def logged(node, text, since):
    return wait_until("the log has %r" % text, lambda: text in node.log()[since:])


# ---- error objects ----

PLACE = r"[^ ]*strange\.lua:\d+: "
RAISED = {
    "text": "INTERNAL: " + PLACE + "a text",
    "text_level_0": "INTERNAL: no place",
    "empty_text": "INTERNAL: ",
    "bytes": None,
    "long_text": "INTERNAL: x+",
    "none": "INTERNAL: error object is a nil",
    "number": "INTERNAL: .*",
    "boolean": "INTERNAL: error object is a boolean",
    "a_function": "INTERNAL: error object is a function",
    "a_coroutine": "INTERNAL: error object is a thread",
    "null": "INTERNAL: error object is a .*",
    "the_call": "INTERNAL: error object is a userdata",
    "empty_table": "INTERNAL: an error without a message",
    "table_without_code": "INTERNAL: .*",
    "code_is_a_number": "INTERNAL: .*",
    "message_is_a_table": "ODD: .*",
    "coded": "MINE: on purpose",
    "an_err": "NOT_FOUND: raised",
    "tostring_raises": "INTERNAL: .*",
    "tostring_loops": "INTERNAL: .*",
    "index_raises": "INTERNAL: .*",
    "itself": "LOOP: m",
    "nil_index": "INTERNAL: " + PLACE + "attempt to index .*",
    "arithmetic": "INTERNAL: " + PLACE + "attempt to perform arithmetic .*",
    "compare": "INTERNAL: " + PLACE + "attempt to compare .*",
    "concat": "INTERNAL: " + PLACE + "attempt to concatenate .*",
    "call_nil": "INTERNAL: " + PLACE + "attempt to call .*",
    "after_sleep": "INTERNAL: " + PLACE + "late",
    "in_pcall_in_error": "INNER: m",
}


@pytest.mark.parametrize("name", sorted(RAISED))
def test_raised(node, name):
    since = len(node.log())
    got = one_error(node, "strange.raise_" + name)
    text = got
    if RAISED[name] is None:
        assert text == "INTERNAL: \ufffd\ufffd"
    else:
        assert re.fullmatch(RAISED[name], text, re.S), text[:300]
    if text.startswith("INTERNAL"):
        logged(node, "task=strange.raise_" + name, since)
    else: # on purpose: not a bug, not in the log
        time.sleep(0.1)
        assert "strange.raise_" + name not in node.log()[since:]


RETURNED = {
    "text": "INTERNAL: a text",
    "number": "INTERNAL: .*",
    "boolean": "INTERNAL: error object is a boolean",
    "empty_table": "INTERNAL: an error without a message",
    "coded": "MINE: on purpose",
    "code_only": "MINE: .*",
    "bad_detail": "MINE: m",
    "null": "INTERNAL: .*",
}


@pytest.mark.parametrize("name", sorted(RETURNED))
def test_returned(node, name):
    assert re.fullmatch(RETURNED[name], one_error(node, "strange.return_" + name))


def test_errors_of_every_kind_in_the_other_forms(node):
    for form, kind in (("map", dict), ("array", list)):
        with node.client() as c:
            c.call("sys.hello", {"error": form})
            for name in RAISED:
                value = c.error("strange.raise_" + name).value
                assert isinstance(value, kind)
                code = value["code"] if form == "map" else value[0]
                assert re.fullmatch("[A-Z0-9_]+", code)
            for name in RETURNED:
                assert isinstance(c.error("strange.return_" + name).value, kind)
            assert c.call("sys.noop", 1) == 1


RESULTS = {
    "a_function": "INTERNAL: result of strange.result_a_function: a function has no msgpack form",
    "a_coroutine": "INTERNAL: result of strange.result_a_coroutine: a thread has no msgpack form",
    "the_call": "INTERNAL: result of strange.result_the_call: a userdata has no msgpack form",
    "deep": "INTERNAL: result of strange.result_deep: a function has no msgpack form",
    "key_boolean": "INTERNAL: result of strange.result_key_boolean: a map key must be a string or an integer",
    "key_table": "INTERNAL: result of strange.result_key_table: a map key must be a string or an integer",
    "itself": "LIMIT: result of strange.result_itself: tables are nested deeper than 64, or contain themselves",
    "half_an_answer": "INTERNAL: result of strange.result_half_an_answer: a function has no msgpack form",
}


@pytest.mark.parametrize("name", sorted(RESULTS))
def test_results_without_a_form(node, name):
    assert one_error(node, "strange.result_" + name) == RESULTS[name]


def test_odd_results_that_have_one(node):
    with node.client() as c:
        assert c.call("strange.result_index_raises") == [1]
        assert c.call("strange.result_pairs_raise") == [1]
        assert c.call("strange.result_many_values") == 1
        assert repr(c.call("strange.result_nan_inside")) == "[nan]"


# ---- yields where none may be (S2) ----

OUTSIDE = "INTERNAL: coroutine.yield outside a coroutine of its own"
YIELDS = {
    "yield_body": OUTSIDE,
    "yield_pcall": OUTSIDE,
    "yield_after_sleep": OUTSIDE,
    "yield_sort": "INTERNAL: .*cannot be called from inside a C function.*",
    "yield_gsub": "INTERNAL: .*cannot be called from inside a C function.*",
    "yield_sort_bare": "INTERNAL: .*attempt to yield across C-call boundary",
    "yield_coroutine": "INTERNAL: .*a coroutine of one's own cannot: use fae.spawn or fae.parallel",
    "load_yield": "INTERNAL: .*",
}


@pytest.mark.parametrize("name", sorted(YIELDS))
def test_yields(node, name):
    since = len(node.log())
    assert re.fullmatch(YIELDS[name], one_error(node, "strange." + name))
    logged(node, "strange." + name, since)


def test_yields_that_work(node):
    with node.client() as c:
        assert c.call("strange.yield_index") == "slept"
        assert c.call("strange.yield_lt") is True
        assert c.call("strange.own_coroutine") == 6
        assert c.call("strange.dropped_coroutine") == "dropped"
        assert c.call("strange.running") is True
        try:
            assert c.call("strange.yield_tostring") == "slept"
        except RpcError as err:
            assert "inside a C function" in err.text
        assert c.call("sys.noop", 1) == 1


@pytest.mark.parametrize("seed", [1])
def test_random_mixes_never_cross(seed):
    """200,000 calls (1,000,000 when long) of random steps, 4 sessions at a time: each answer, good or bad, carries its
    own nonce."""
    total, n_threads = 1000000 if LONG else 10000 if SANITIZED else 200000, 4
    expect = [r"strange\.mix"]
    with Node('log_level "error"', servants=["strange"], workers=2, expect=expect) as node:
        names = node.call("strange.steps")
        assert len(names) == 14
        wrong, done = [], []

        def run(number):
            rng = random.Random(seed * 100 + number)
            try:
                with node.client("unix" if number % 2 else "tcp", timeout=30) as c:
                    for begin in range(0, total // n_threads, 250):
                        batch(c, rng, number, begin)
            except BaseException as err:
                wrong.append(repr(err)[:500])

        def batch(c, rng, number, begin):
            want, data = {}, []
            for i in range(begin, begin + 250):
                nonce = "n%d-%d" % (number, i)
                # Of those that log a line and a trace there are few.
                last = rng.choices(("value", "error", "err", "text", "yield"), (60, 20, 19, 0.5, 0.5))[0]
                plan = rng.choices(names, k=rng.choice((0, 1, 1, 2, 3)))
                want[i] = (nonce, last)
                data.append(pack([0, i, "strange.mix", [nonce, plan, last], {"rid": nonce}]))
            c.send(b"".join(data))
            for _ in range(250):
                kind, msgid, error, result = c.recv()
                nonce, last = want.pop(msgid)
                good = {"value": (None, [nonce]), "error": ("MIX: " + nonce, None), "err": ("MIX: " + nonce, None),
                        "text": ("INTERNAL: " + nonce, None), "yield": (OUTSIDE, None)}[last]
                if kind != 1 or (error, result) != good:
                    wrong.append("%s %s: %r %r" % (nonce, last, error, result))
                done.append(1)
            assert not want

        threads = [threading.Thread(target=run, args=(i,)) for i in range(n_threads)]
        started = Stopwatch()
        for t in threads:
            t.start()
        for t in threads:
            t.join(120 * SLOW)
        assert not wrong, wrong[:5]
        assert len(done) == total
        print("\n%d mixes in %.1f s" % (total, started.seconds()))
        assert all(w["deaths"] == 0 for w in node.workers().values())
        wait_until("nothing runs", lambda: sum(w["calls"] for w in node.stats()["workers"]) == 0)


# ---- too deep, too large ----

HUGE = {
    "recursion": "INTERNAL: .*stack overflow.*",
    "recursion_gsub": "INTERNAL: .*overflow.*",
    "recursion_index": "INTERNAL: .*overflow.*",
    "recursion_tostring": "INTERNAL: .*overflow.*",
    "recursion_coroutines": "(INTERNAL: not enough memory|NO_MEMORY: .*)",
    "pattern_depth": "INTERNAL: .*pattern too complex.*",
    "string_2gb": "(INTERNAL: .*string.*|NO_MEMORY: .*)",
    "string_4gb": "(INTERNAL: .*string.*|NO_MEMORY: .*)",
    "string_doubling": "NO_MEMORY: .*",
    "memory_table": "NO_MEMORY: .*",
    "memory_array": "(NO_MEMORY: .*|INTERNAL: .*table overflow.*)",
    "memory_strings": "NO_MEMORY: .*",
    "memory_while_waiting": "NO_MEMORY: .*",
    "memory_coroutines": "NO_MEMORY: .*",
    "call_itself": "INTERNAL: .*",
    "timer_wrong": "INTERNAL: .*",
    "sleep_wrong": "INTERNAL: .*",
    "spawn_no_function": "INTERNAL: .*",
}


@pytest.mark.parametrize("name", sorted(HUGE))
def test_too_much(node, name):
    since = len(node.log())
    got = one_error(node, "strange." + name)
    assert re.fullmatch(HUGE[name], got, re.S), got[:300]
    logged(node, "level=error", since)


def test_memory_swallowed_by_pcall(node):
    with node.client() as c:
        for _ in range(3):
            got = c.call("strange.memory_pcall")
            assert got["ok"] is False and "not enough memory" in got["err"]
            try: # what is left after a bomb may not do for the next one
                assert c.call("strange.memory_swallowed") == "swallowed"
            except RpcError as err:
                assert err.code == "NO_MEMORY"
            assert c.call("strange.recursion_pcall") == "survived"
            assert len(c.call("strange.much")) == 3000000
            assert c.call("sys.noop", 1) == 1
    wait_until("memory is given back", lambda: node.stats()["workers"][0]["lua_bytes"] < 20 << 20)
    if not SANITIZED:
        assert memory_kib(node.worker) < 256 << 10


def test_bombs_beside_the_call(node):
    with node.client(timeout=30) as c:
        assert c.call("strange.timer_bomb") == "stopped"
        assert c.call("strange.garbage") > 0
        assert c.call("strange.deep_pattern") is not None
        try:
            assert c.call("strange.spawn_bomb") == "spawned"
        except RpcError as err:
            assert err.code == "NO_MEMORY"
        assert c.call("sys.noop", 1) == 1
    wait_until("they are all through", lambda: node.call("sys.noop", 2) == 2)


# ---- beside the call ----


def test_spawn(node):
    with node.client() as c:
        assert c.call("strange.spawn", "t1") == "spawned"
        assert c.call("strange.spawned", "t1") is False
        wait_until("it ran", lambda: c.call("strange.spawned", "t1"))
        for what in ("spawn_raises", "spawn_yields"):
            since = len(node.log())
            assert c.call("strange." + what) == "spawned"
            logged(node, "spawned task", since)
    with node.client() as c: # it outlives the session of the call
        c.call("strange.spawn", "t2")
    wait_until("it ran", lambda: node.call("strange.spawned", "t2"))


def test_timers(node):
    with node.client() as c:
        assert c.call("strange.timer") == "started"
        wait_until("three ticks", lambda: c.call("strange.ticks") >= 3)
        time.sleep(0.05)
        assert c.call("strange.ticks") == 3
        since = len(node.log())
        c.call("strange.timer_raises")
        logged(node, "in a timer", since)


def test_parallel(node):
    with node.client() as c:
        got = c.call("strange.parallel")
        assert got == {"results": {1: "a", 4: "d"}, "codes": ["INTERNAL", "NOT_FOUND"]}
        started = Stopwatch()
        assert c.error("strange.parallel_left").code == "TIMEOUT"
        assert started.within(0.099, 1 * SLOW), started
        assert c.call("strange.parallel_deep", 6) == 64
    wait_until("its children are gone", lambda: sum(w["calls"] for w in node.stats()["workers"]) == 0)


# ---- deadlines ----


def late(node, method):
    started = Stopwatch()
    with node.client() as c:
        answer = c.error(method).value
        assert started.within(0.149, 1 * SLOW), (method, started)
        return answer


def test_deadlines(node):
    assert late(node, "strange.sleep_on") == "TIMEOUT: deadline passed"
    assert late(node, "strange.err_passed_on") == "TIMEOUT: deadline passed"
    for tag in ("loop", "loop_pcall"):
        answer = late(node, "strange.sleep_" + tag)
        assert answer == "TIMEOUT: deadline passed"
        n = node.call("strange.after", tag)
        time.sleep(0.1)
        assert node.call("strange.after", tag) == n, "it still runs after its deadline"
    late(node, "strange.tidy_up_waiting")
    assert node.call("strange.after", "waiting") == "TIMEOUT"


def test_a_call_may_answer_at_its_deadline(node):
    with node.client() as c:
        started = Stopwatch()
        assert c.call("strange.tidy_up") == "answered in spite of it"
        assert started.within(0.149, 1 * SLOW), started
        assert c.call("strange.after", "tidy") == "TIMEOUT"


def test_busy_past_the_deadline(node):
    with node.client() as c:
        assert c.error("strange.busy_then_wait").code == "TIMEOUT"
        assert c.call("sys.noop", 1) == 1


# ---- the fence (I12) ----

# Not refused, but with no effect beyond the servant's own file.
HARMLESS = {"global_by_rawset"}


def test_nothing_escapes(node):
    with node.client() as c:
        names = c.call("strange.escapes")
        assert len(names) >= 35
        assert re.search(r'global "leaked" is written in .*strange\.lua: make it local$',
                         c.call("strange.escape", "global"))
        for name in sorted(names):
            got = c.call("strange.escape", name)
            if name not in HARMLESS:
                assert got != "allowed", "%s is allowed" % name
        for name, text in (("os_execute", "os.execute is not for servants: it would stop the worker"),
                           ("io_popen", "io.popen is not for servants: it would stop the worker"),
                           ("os_exit", "os.exit is not for servants")):
            assert text in c.call("strange.escape", name)
    assert node.worker_pids() == [node.worker]


def test_servants_do_not_share_their_globals(node):
    with node.client() as c:
        c.call("strange.escape", "global_by_rawset")
        assert c.call("strange.leaked") == 1
        assert c.call("probe.global", "leaked") is None


def test_a_session_that_left_is_not_answered(node):
    """An error that comes after its client is gone touches nobody."""
    for i in range(50):
        c = node.client("unix" if i % 2 else "tcp")
        c.send(pack([0, 1, "strange.raise_after_sleep", []]) + pack([0, 2, "strange.yield_after_sleep", []]))
        c.close()
    with node.client() as c:
        assert c.call("sys.noop", 1) == 1
        assert c.is_open()
        with pytest.raises(Closed):
            c.send(b"\xc1")
            c.recv()
            c.recv()
