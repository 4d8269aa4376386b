# SPDX-License-Identifier: BSD-2-Clause
"""What a node tells of itself: slow log, samples, reasons, counters, /metrics and fae.metrics (S9, X7, D8,
D9, D46-D48)."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.request

import pytest

from harness import LONG, SANITIZED, SLOW, Client, Node, RpcError, Stopwatch, collect, raw_many, request, wait_until

PROMTOOL = shutil.which("promtool")
CANARY = "cAnArY-5ecre7"

SERVANT = """
local fae = require "fae"
local shop = fae.servant "shop"
local hits = fae.metrics.counter("shop_hits_total", "Pages shown.", { "page" })
local open = fae.metrics.gauge("shop_open", "Doors open.")
local sizes = fae.metrics.histogram("shop_basket_size", "Things in a basket.", { "kind" }, { 1, 5 })

local function busy(ms)
  local until_us = fae.time.monotonic_us() + ms * 1000
  while fae.time.monotonic_us() < until_us do end
end
shop.method("work", { args = { "int", "int", "any?" } }, function(call, busy_ms, sleep_ms)
  busy(busy_ms)
  if sleep_ms > 0 then fae.sleep(sleep_ms) end
  busy(busy_ms)
end)
shop.method("quick", function() end)
shop.method("slow_by_rule", { args = { "int" } }, function(call, ms) fae.sleep(ms) end)
shop.method("patient", { args = { "int" }, timeout_ms = 300 }, function(call, ms) return fae.sleep(ms) end)
shop.method("fail", { args = { "string" } }, function(call, code) return nil, fae.err(code, "on purpose") end)
shop.method("raise", function() error("a bug") end)
shop.method("big", function() return ("x"):rep(2000000) end)
shop.method("hit", { args = { "any", "number?" } }, function(call, page, by) hits:inc(by, page) end)
shop.method("flood", { args = { "int", "int" } }, function(call, from, to)
  for i = from, to do hits:inc(1, "p" .. i) end
end)
shop.method("doors", { args = { "number" } }, function(call, n) open:set(n) end)
shop.method("basket", { args = { "number" } }, function(call, n) sizes:observe(n, "any") end)
shop.method("pid", function() return require("fae.node").about().pid end)
return shop
"""
EXPECT = [r"a bug", r"on purpose"]


def slowlog(node, *args):
    """The entries, newest first."""
    result = node.ctl("slowlog", *args)
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]


def scrape(node):
    with urllib.request.urlopen(node.admin + "/metrics", timeout=10 * SLOW) as answer:
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return answer.read().decode()


def series(text):
    """{'name{labels}': number}; a series that is there twice fails."""
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        key, _, value = line.rpartition(" ")
        assert key not in found, key
        found[key] = float(value)
    return found


def metrics(node):
    return series(scrape(node))


def call(node, *args, **kw):
    with node.client() as c:
        return c.call(*args, **kw)


@pytest.fixture(autouse=True)
def watch():
    global lost_s
    lost_s = Stopwatch().lost


def about(value, want, within):
    assert want - 1 <= value <= want + within * SLOW + 1000 * lost_s(), "%s is not about %s" % (value, want)


# ---- the slow log ----


@pytest.fixture(scope="module")
def slow():
    conf = 'slow_ms(50)\nlimit "shop.*" { slow_ms = 40 }\nlimit "shop.slow_by_rule" { slow_ms = 400 }\n'
    with Node(conf=conf, servants={"shop.lua": SERVANT}, expect=EXPECT) as node:
        yield node


@pytest.fixture
def clear(slow):
    assert slow.ctl("slowlog", "clear").returncode == 0
    assert slowlog(slow) == []
    return slow


def test_a_slow_call_is_split(clear):
    with clear.client() as c:
        c.call("shop.work", 30, 300, ctx={"rid": "r-17", "reason": "page 9", "uid": 42})
        peer = "tcp://%s:%d" % c.sock.getsockname()
    entry, = slowlog(clear)
    about(entry["run_ms"], 60, 200)
    about(entry["wait_ms"], 300, 200)
    about(entry["queue_ms"], 0, 200)
    assert abs(entry["total_ms"] - entry["run_ms"] - entry["wait_ms"] - entry["queue_ms"]) < 0.01
    assert abs(entry["at_ms"] / 1000 - time.time()) < 5 * SLOW
    assert entry["method"] == "shop.work"
    assert entry["peer"] == peer
    assert entry["args"] == "[30,300]"
    assert (entry["rid"], entry["reason"], entry["uid"]) == ("r-17", "page 9", "42")
    assert (entry["worker"], entry["generation"], entry["sampled"]) == (0, 1, False)
    assert "code" not in entry


def test_a_call_behind_another_was_queued(clear):
    with clear.client() as c:
        raw_many(c, [request(1, "shop.work", 40, 0), request(2, "shop.quick")])
    quick, work = slowlog(clear)
    assert (quick["method"], work["method"]) == ("shop.quick", "shop.work")
    about(work["run_ms"], 80, 200)
    about(quick["queue_ms"], 80, 200)
    assert quick["run_ms"] < 60 * SLOW
    assert quick["wait_ms"] < 1


def test_thresholds_are_those_of_the_method(clear):
    with clear.client() as c:
        c.call("shop.slow_by_rule", 80)
        assert slowlog(clear) == []
        c.call("shop.slow_by_rule", 420)
        c.call("shop.work", 0, 45)
        c.call("shop.quick")
    assert [e["method"] for e in slowlog(clear)] == ["shop.work", "shop.slow_by_rule"]


def test_errors_of_slow_calls_have_their_code(clear):
    with clear.client() as c:
        assert c.error("shop.patient", 5000).code == "TIMEOUT"
    c = clear.client()
    c.start("shop.work", 0, 3000)
    time.sleep(0.1)
    c.close()
    gone = wait_until("the call that hung up is told of",
                      lambda: [e for e in slowlog(clear) if e["method"] == "shop.work"])
    assert gone[0]["code"] == "CANCELLED"
    assert gone[0]["total_ms"] < 2000
    assert slowlog(clear)[-1]["code"] == "TIMEOUT"
    about(slowlog(clear)[-1]["wait_ms"], 300, 1000)


@pytest.mark.parametrize("sleep_ms", (0, 60))
def test_secrets_are_masked_and_arguments_cut(clear, sleep_ms):
    """Also in the context, which is not shown at all but for three words of it."""
    secret = {"user": "ann", "Password": CANARY, "nested": [{"api": {"TOKEN": {"a": [CANARY]}}}]}
    with clear.client() as c:
        c.call("shop.work", 25, sleep_ms, secret, ctx={"rid": 7, "deadline_ms": 4000, "secret": CANARY})
        c.call("shop.work", 25, sleep_ms, "y" * 5000)
    long, masked = slowlog(clear)
    assert masked["args"] == \
        '[25,%d,{"user":"ann","Password":"***","nested":[{"api":{"TOKEN":"***"}}]}]' % sleep_ms
    assert masked["rid"] == "7"
    assert re.fullmatch(r'\[25,%d,"y+"?\.\.\.' % sleep_ms, long["args"]) and 200 < len(long["args"]) <= 256
    assert CANARY not in json.dumps(slowlog(clear))
    assert CANARY not in clear.log()
    assert CANARY not in scrape(clear)


def test_a_reused_task_shows_its_own_arguments(clear):
    """The copy of a call that waited is kept for the next one that does."""
    with clear.client() as c:
        c.call("shop.work", 0, 60, "first " + "x" * 100)
        c.call("shop.work", 25, 0, "second")
        c.call("shop.work", 0, 60, "3rd")
    assert [e["args"] for e in slowlog(clear)] == [
        '[0,60,"3rd"]', '[25,0,"second"]', '[0,60,"first %s"]' % ("x" * 100)]


def test_the_session_context_is_shown_too(clear):
    with clear.client() as c:
        c.call("sys.ctx", {"rid": "session-rid", "reason": "cron", "token": CANARY})
        c.call("shop.work", 0, 60)
    entry, = slowlog(clear)
    assert (entry["rid"], entry["reason"]) == ("session-rid", "cron")
    assert CANARY not in json.dumps(entry)


def test_notifications_are_told_of(clear):
    with clear.client() as c:
        c.notify("shop.work", 25, 0)
        c.call("shop.quick")
    assert "shop.work" in [e["method"] for e in slowlog(clear)]


def test_the_log_tells_of_the_first_of_a_burst(clear):
    time.sleep(1.1)
    before = clear.log().count('msg="slow call"')
    with clear.client() as c:
        for _ in range(5):
            c.call("shop.work", 0, 45)
        wait_until("a line", lambda: clear.log().count('msg="slow call"') > before)
        assert clear.log().count('msg="slow call"') == before + 1
        time.sleep(1.1)
        c.call("shop.work", 0, 45)
    line = wait_until("the next line", lambda: clear.log().count('msg="slow call"') == before + 2 and
                      [l for l in clear.log().splitlines() if 'msg="slow call"' in l][-1])
    assert re.search(r" level=warn .* method=shop\.work total_ms=[\d.]+ queue_ms=[\d.]+ run_ms=[\d.]+ wait_ms=[\d.]+ "
                     r"peer=tcp://\S+ count=5$", line), line


def test_slowlog_takes_a_number(clear):
    with clear.client() as c:
        for _ in range(3):
            c.call("shop.work", 25, 0)
    assert len(slowlog(clear, "2")) == 2
    assert len(slowlog(clear, "100000")) == 3
    ids = [e["id"] for e in slowlog(clear)]
    assert ids == sorted(ids, reverse=True)
    for bad in "0", "x", "1x", "1 2":
        result = clear.ctl("slowlog", *bad.split())
        assert result.returncode != 0
        assert "slowlog takes how many" in result.stderr, result.stderr


def test_counters_count_slow_calls(clear):
    before = metrics(clear).get('fae_slow_calls_total{method="shop.work"}', 0)
    with clear.client() as c:
        c.call("shop.work", 25, 0)
        c.call("shop.work", 0, 60)
    m = metrics(clear)
    assert m['fae_slow_calls_total{method="shop.work"}'] == before + 2
    method = [r for r in clear.stats()["methods"] if r["name"] == "shop.work"][0]
    assert method["slow"] == before + 2
    assert 60000 <= method["wait_us"] < method["sum_us"]


def test_in_flight_calls_are_shown(clear):
    key = 'fae_method_calls_in_flight{method="shop.slow_by_rule"}'
    with clear.client() as c:
        for _ in range(3):
            c.start("shop.slow_by_rule", 300)
        wait_until("three in flight", lambda: metrics(clear).get(key) == 3)
        collect(c, 3)
    assert metrics(clear)[key] == 0


def test_a_reload_changes_what_is_told():
    """Also of a call that began before it."""
    with Node(conf="slow_ms(0)", servants={"shop.lua": SERVANT}) as node:
        with node.client() as c:
            c.call("shop.work", 0, 60)
            assert slowlog(node) == []
            c.start("shop.work", 0, 1000)
            with open(node.conf_path) as f:
                conf = f.read()
            with open(node.conf_path, "w") as f:
                f.write(conf.replace("slow_ms(0)", 'slow_ms(50) secrets "colour"'))
            assert node.reload().returncode == 0
            with node.client() as other:
                other.call("shop.work", 0, 60, {"colour": "red", "password": "shown"})
            c.recv()
        late, early = slowlog(node)
        assert (late["generation"], early["generation"]) == (1, 2)
        assert early["args"] == '[0,60,{"colour":"***","password":"shown"}]'
        assert "args" not in late # they were not kept when it began to wait


# ---- samples ----


def test_samples():
    with Node(conf="slow_ms(0)\nsample_one_in(1)\nslowlog_size(16)", servants={"shop.lua": SERVANT}) as node:
        with node.client() as c:
            for i in range(20):
                c.call("sys.echo", i)
        entries = slowlog(node, "100")
        assert [e["args"] for e in entries] == ["[%d]" % i for i in range(19, 3, -1)]
        assert all(e["sampled"] for e in entries)
        assert metrics(node)["fae_sampled_calls_total"] == 20
        assert metrics(node)["fae_slowlog_entries_total"] == 20
        assert 'msg="slow call"' not in node.log()


def test_samples_are_one_in_so_many():
    """Fae's 0 was not off and its rate one too high."""
    with Node(conf="slow_ms(0)\nsample_one_in(50)\nslowlog_args(0)", servants={"shop.lua": SERVANT}) as node:
        with node.client() as c:
            for _ in range(20):
                raw_many(c, [request(i, "sys.noop") for i in range(1000)])
        n = metrics(node)["fae_sampled_calls_total"]
        assert 300 <= n <= 520, n # 400 are expected; the spread is 11
        assert all("args" not in e for e in slowlog(node))


def test_no_samples_by_default():
    with Node(servants={"shop.lua": SERVANT}) as node:
        with node.client() as c:
            raw_many(c, [request(i, "sys.noop") for i in range(5000)])
        assert slowlog(node) == []
        assert metrics(node)["fae_sampled_calls_total"] == 0


# ---- reasons ----


def reasons(node):
    return {r["reason"]: r["count"] for r in node.stats()["reasons"]}


def test_reasons_are_counted_once_a_rid():
    with Node(servants={"shop.lua": SERVANT}, workers=2) as node:
        with node.client() as c:
            for rid in "a", "a", "b", "b", "b":
                c.call("shop.quick", ctx={"rid": rid, "reason": "/product/123.html"})
            c.call("shop.quick", ctx={"rid": "b", "reason": "the same request"})
            c.call("shop.quick", ctx={"rid": "c"})
            c.call("shop.quick", ctx={"rid": 4, "reason": 'odd "\n'})
            c.call("shop.quick", ctx={"rid": 5, "reason": 5})
            c.call("shop.quick", ctx={"rid": 6, "reason": ""})
        with node.client() as c:
            c.call("sys.ctx", {"rid": "d", "reason": "/product/77.html"})
            c.call("shop.quick")
            c.call("shop.quick")
        with node.client() as c:
            c.call("noop", {"rid": "e", "reason": "alias"})
        assert reasons(node) == {"/product/?.html": 3, 'odd "\n': 1, "alias": 1}
        m = metrics(node)
        assert m['fae_call_reasons_total{reason="/product/?.html"}'] == 3
        assert m['fae_call_reasons_total{reason="odd \\"\\n"}'] == 1
        assert [r["percent"] for r in node.stats()["reasons"]] == [60, 20, 20]


def test_a_flood_of_reasons_makes_no_more_rows():
    """X7: the cap holds, and what is counted stays right."""
    n = 3000
    with Node(servants={"shop.lua": SERVANT}) as node:
        with node.client() as c:
            for start in range(0, n, 100):
                for i in range(start, start + 100):
                    word = "".join(chr(97 + int(d)) for d in str(i))
                    c.start("shop.quick", ctx={"rid": i, "reason": word})
                for _ in range(100):
                    c.recv()
        got = {k: v for k, v in metrics(node).items() if k.startswith("fae_call_reasons_total")}
        assert len(got) == 1025
        assert got['fae_call_reasons_total{reason="other"}'] == n - 1024
        assert sum(got.values()) == n


# ---- errors ----


def test_errors_by_code_are_those_the_clients_saw():
    asks = [("shop.fail", "TIMEOUT")] * 3 + [("shop.fail", "NO_CAKE")] * 4 + [("shop.fail", "NO_TEA")] + [
        ("shop.nothing",)] * 5 + [("shop.raise",)] * 2 + [("shop.fail", 7)] * 3 + [("shop.patient", 2000)] + [
        ("shop.big",)] * 2 + [("shop.quick",)] * 6
    with Node(conf='message_max "1MiB"', servants={"shop.lua": SERVANT}, workers=2, expect=EXPECT) as node:
        seen = {}
        for chunk in range(4):
            with node.client() as c:
                for ask in asks:
                    try:
                        c.call(*ask)
                    except RpcError as err:
                        seen[err.code] = seen.get(err.code, 0) + 1
                c.notify("shop.fail", "TIMEOUT") # nobody is told
                c.call("shop.quick")
        with node.client() as c: # told by sys.error
            c.send(b"\xc1")
            message = c.recv()
            assert message[:2] == [2, "sys.error"]
            seen["BAD_MESSAGE"] = seen.get("BAD_MESSAGE", 0) + 1
        assert set(seen) == {"TIMEOUT", "NO_CAKE", "NO_TEA", "UNKNOWN_METHOD", "INTERNAL", "BAD_ARGS", "LIMIT",
                             "BAD_MESSAGE"}
        want = dict(seen, other=seen["NO_CAKE"] + seen["NO_TEA"])
        del want["NO_CAKE"], want["NO_TEA"]
        assert node.stats()["node"]["errors"] == want
        m = metrics(node)
        for code, n in want.items():
            assert m['fae_errors_total{code="%s"}' % code] == n
        assert sum(v for k, v in m.items() if k.startswith("fae_errors_total")) == sum(seen.values())
        failed = sum(v for k, v in m.items() if k.startswith("fae_call_errors_total"))
        unanswerable = seen["UNKNOWN_METHOD"] + seen["BAD_MESSAGE"]
        assert failed == sum(seen.values()) - unanswerable


# ---- /metrics ----


@pytest.mark.skipif(not PROMTOOL, reason="promtool is in Debian's package prometheus")
def test_promtool_has_nothing_to_say():
    with Node(conf="slow_ms(20)", servants={"shop.lua": SERVANT}, workers=2, expect=EXPECT) as node:
        with node.client() as c:
            c.call("shop.work", 15, 10, ctx={"rid": 1, "reason": 'a "\\\n\té'})
            c.call("shop.hit", 'a "\\\n\t\0é' + "x" * 300)
            c.call("shop.hit", True, 0.1)
            c.call("shop.doors", 0)
            c.call("shop.basket", 3)
            c.error("shop.raise")
        result = subprocess.run([PROMTOOL, "check", "metrics"], input=scrape(node).encode(), stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, timeout=60 * SLOW)
        assert (result.returncode, result.stdout.decode()) == (0, "")


def test_histograms_agree_with_the_client():
    with Node(servants={"shop.lua": SERVANT}, workers=2) as node:
        for _ in range(4):
            with node.client() as c:
                raw_many(c, [request(i, "sys.noop") for i in range(500)])
        call(node, "shop.work", 0, 70)
        m = metrics(node)
        assert m['fae_call_seconds_count{method="sys.noop"}'] == 2000
        bounds = sorted((float(re.search(r'le="([^"]+)"', k).group(1)), v) for k, v in m.items()
                        if k.startswith('fae_call_seconds_bucket{method="sys.noop"'))
        counts = [v for _, v in bounds]
        assert counts == sorted(counts) and counts[-1] == 2000
        assert 0.0699 <= m['fae_call_seconds_sum{method="shop.work"}'] < 0.07 + 0.2 * SLOW
        assert m['fae_call_seconds_bucket{method="shop.work",le="0.067108864"}'] == 0
        assert m['fae_call_wait_seconds_total{method="shop.work"}'] >= 0.069


def test_no_clients_silence_is_in_a_latency():
    """D9: idle time was in it, and an end of file was a call."""
    with Node(servants={"shop.lua": SERVANT}) as node:
        for kind in ("tcp", "unix"):
            with node.client(kind) as c:
                c.call("sys.noop")
                time.sleep(0.3)
                c.send(request(9, "sys.noop")[:5])
                time.sleep(0.3)
                c.send(request(9, "sys.noop")[5:])
                c.recv()
        wait_until("they are gone", lambda: node.n_sessions() == 0)
        m = metrics(node)
        assert m['fae_call_seconds_count{method="sys.noop"}'] == 4
        assert m['fae_call_seconds_sum{method="sys.noop"}'] < 0.1 * SLOW


def test_counters_outlive_workers_and_reloads():
    with Node(servants={"shop.lua": SERVANT}, expect=[r"died of signal 9"]) as node:
        with node.client() as c:
            for _ in range(10):
                c.call("shop.hit", "a")
            c.call("shop.doors", 3)
            c.call("shop.quick", ctx={"rid": 1, "reason": "page"})
            c.error("shop.nothing")
            pid = c.call("shop.pid")
            c.start("shop.work", 0, 4000)
            wait_until("it waits", lambda: metrics(node).get('fae_method_calls_in_flight{method="shop.work"}') == 1)
            assert node.reload().returncode == 0
            c.start("shop.hit", "a")
            assert c.recv()[2] is None
            before = metrics(node)
            assert before['shop_hits_total{page="a"}'] == 11
            assert before['shop_open{worker="0"}'] == 3
            assert before["fae_generation"] == 2
            os.kill(pid, signal.SIGKILL)
        wait_until("another worker", lambda: node.worker_pids() not in ([pid], [0]))
        wait_until("it serves", lambda: metrics(node)['fae_worker_state{worker="0",state="ready"}'] == 1)
        call(node, "shop.hit", "a")
        m = metrics(node)
        assert m['shop_hits_total{page="a"}'] == 12
        assert 'shop_open{worker="0"}' not in m # a gauge was the dead worker's own
        assert m['fae_method_calls_in_flight{method="shop.work"}'] == 0
        assert m['fae_lost_calls_total{method="shop.work"}'] == 1
        assert m["fae_worker_deaths_total{worker=\"0\"}"] == 1
        assert m['fae_errors_total{code="UNKNOWN_METHOD"}'] == 1
        assert m['fae_call_reasons_total{reason="page"}'] == 1
        for key, value in before.items():
            if re.match(r"\w+(_total|_bucket|_count)\b", key):
                assert m[key] >= value, key


def test_a_changed_declaration_is_shown_after_a_reload():
    with Node(servants={"shop.lua": SERVANT}) as node:
        call(node, "shop.hit", "a")
        node.write("shop.lua", SERVANT.replace('"Pages shown.", { "page" }', '"Pages shown.", { "page", "by" }')
                   .replace("hits:inc(by, page)", 'hits:inc(by, page, "me")'))
        assert node.reload().returncode == 0
        call(node, "shop.hit", "a")
        text = scrape(node)
        assert text.count("# TYPE shop_hits_total ") == 1
        assert [l for l in text.splitlines() if l.startswith("shop_hits_total")] == [
            'shop_hits_total{page="a",by="me"} 1']
        assert node.ctl("rollback").returncode == 0
        call(node, "shop.hit", "a")
        assert metrics(node)['shop_hits_total{page="a"}'] == 2


def test_series_beyond_the_cap_are_counted_and_left_out():
    with Node(conf="metrics_series_max(100)", servants={"shop.lua": SERVANT}, workers=2) as node:
        call(node, "shop.hit", "first")
        call(node, "shop.flood", 1, 500)
        call(node, "shop.basket", 3)
        call(node, "shop.hit", "first")
        m = metrics(node)
        assert len([k for k in m if k.startswith("shop_")]) == 100
        assert m['shop_hits_total{page="first"}'] == 2
        assert m["fae_metrics_series"] == 100
        assert m["fae_metrics_dropped_total"] == 500 - 99 + 1


def test_counts_are_exact_under_load_and_while_scraped():
    n_clients, n = 4, 20000 if LONG else 4000
    with Node(servants={"shop.lua": SERVANT}, workers=2) as node:
        stop = threading.Event()
        scrapes = []

        def scraping():
            while not stop.is_set():
                scrapes.append(metrics(node).get('shop_hits_total{page="a"}', 0))

        def calling():
            with Client(node.tcp) as c:
                for _ in range(n // 100):
                    raw_many(c, [request(i, "shop.hit", "a") for i in range(100)])

        scraper = threading.Thread(target=scraping)
        callers = [threading.Thread(target=calling) for _ in range(n_clients)]
        for t in callers + [scraper]:
            t.start()
        for t in callers:
            t.join()
        stop.set()
        scraper.join()
        assert scrapes == sorted(scrapes)
        m = metrics(node)
        assert m['shop_hits_total{page="a"}'] == n * n_clients
        assert m['fae_call_seconds_count{method="shop.hit"}'] == n * n_clients


def test_a_stuck_worker_does_not_stop_a_scrape():
    with Node(servants={"shop.lua": SERVANT}, workers=2) as node:
        pids = node.worker_pids()
        os.kill(pids[0], signal.SIGSTOP)
        try:
            began = Stopwatch()
            m = metrics(node)
            assert began.seconds() < 1 * SLOW
            assert m["fae_workers"] == 2
        finally:
            os.kill(pids[0], signal.SIGCONT)


def test_loop_lag_shows_who_holds_the_loop():
    with Node(servants={"shop.lua": SERVANT}) as node:
        call(node, "shop.work", 150, 0)
        m = wait_until("the lag is told", lambda: metrics(node)['fae_loop_lag_seconds_sum{worker="0"}'] >= 0.2
                       and metrics(node))
        assert m['fae_loop_lag_seconds_bucket{worker="0",le="0.067108864"}'] < \
            m['fae_loop_lag_seconds_count{worker="0"}']
        assert m['fae_loop_turn_seconds_sum{worker="0"}'] >= 0.3
        assert node.stats()["workers"][0]["turn_max_us"] >= 300000


@pytest.mark.skipif(SANITIZED, reason="times are those of a release build")
def test_a_scrape_of_many_series_costs_calls_little():
    """S9: 10k series scraped once a second. A quiet machine shows 5 % at p99; here the bound is one that only a worker
    that waits for a scrape would break."""
    with Node(conf="metrics_series_max(12000)", servants={"shop.lua": SERVANT}) as node:
        call(node, "shop.flood", 1, 10000)

        def p99(seconds, scraped):
            times, next_scrape = [], 0
            with node.client() as c:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    if scraped and time.monotonic() >= next_scrape:
                        next_scrape = time.monotonic() + 1
                        threads.append(threading.Thread(target=lambda: sizes.append(len(scrape(node)))))
                        threads[-1].start()
                    began = time.perf_counter()
                    c.call("sys.noop")
                    times.append(time.perf_counter() - began)
            return sorted(times)[len(times) * 99 // 100]

        threads, sizes = [], []
        seconds = 10 if LONG else 2
        without = p99(seconds, False)
        scraped = p99(seconds, True)
        for t in threads:
            t.join()
        assert len(sizes) >= seconds and min(sizes) > 200000
        assert scraped < without + (0.005 if LONG else 0.02), "p99 %.3f ms, with scrapes %.3f ms" % (without * 1e3, scraped * 1e3)
