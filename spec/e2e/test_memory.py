# SPDX-License-Identifier: BSD-2-Clause
"""lua_memory_max: garbage is collected before anybody is refused, a full worker refuses and says when to come again, one
that stays full is replaced at once and without losing calls, and calls that run out of memory fail alone."""
import re
import threading
import time

from harness import LONG, Client, Closed, Node, RpcError, Stopwatch, request, wait_until

SERVANT = """
local fae = require "fae"
local m = fae.servant "m"
local kept = {}

m.method("keep", { args = { "int" } }, function(_, mib)
  for _ = 1, mib do kept[#kept + 1] = ("x"):rep(2 ^ 20 - 40) .. #kept end
  return #kept
end)
m.method("forget", function() kept = {} return true end)
m.method("hold", { args = { "int", "int" } }, function(_, mib, ms)
  local mine = {}
  for i = 1, mib do mine[i] = ("y"):rep(2 ^ 20 - 40) .. i end
  fae.sleep(ms)
  return #mine
end)
m.method("garbage", { args = { "int" } }, function(_, mib)
  for i = 1, mib do kept.last = ("z"):rep(2 ^ 20 - 40) .. i end
  kept.last = nil
  return true
end)
local function fill(make)
  local all = {}
  for i = 1, 1e9 do all[i] = make(i) end
end
m.method("strings", function() fill(function(i) return "a string of " .. i end) end)
m.method("closures", function() fill(function(i) return function() return i end end) end)
m.method("tables", function() fill(function(i) return { i } end) end)
m.method("array", function() fill(function(i) return i end) end)
m.method("double", function() local s = "x" while true do s = s .. s end end)
m.method("sleep", { args = { "int" } }, function(_, ms) fae.sleep(ms) return "slept" end)
return m
"""

CONF = 'lua_memory_max "16MiB"'
NO_MEMORY = ["out of Lua memory", "not enough memory", "call cut"]


def node(conf="", **more):
    return Node(CONF + "\n" + conf, {"m.lua": SERVANT}, expect=NO_MEMORY, **more)


def worker(n):
    return n.stats()["workers"][0]


def ask(client, method, *args):
    """The answer, or the error's code."""
    try:
        return client.call(method, *args)
    except RpcError as err:
        return err.code


def test_garbage_beyond_the_limit_refuses_nobody():
    with node() as n, Client(n.tcp) as c:
        for _ in range(20):
            assert c.call("m.garbage", 60) is True
            assert c.call("sys.echo", 1) == 1
        assert "are refused" not in n.log() and worker(n)["deaths"] == 0


def test_above_the_limit_calls_are_refused_with_a_time_until_there_is_room():
    with node() as n, Client(n.tcp) as c, Client(n.tcp) as holder:
        c.call("sys.hello", {"error": "map"})
        held = holder.start("m.hold", 16, 1500)
        time.sleep(0.3)
        error = c.error("sys.echo", 1).value
        assert (error["code"], error["retryable"]) == ("NO_MEMORY", True)
        assert 1000 <= error["retry_after_ms"] <= 2000
        c.notify("sys.echo", 1)
        assert c.is_open()
        assert holder.finish(held) == 16
        wait_until("there is room again", lambda: ask(c, "sys.echo", 1) == 1)
        assert worker(n)["deaths"] == 0
        assert len(re.findall("new calls are refused", n.log())) <= 3


def test_a_worker_that_stays_full_is_replaced_when_its_calls_are_answered():
    with node("call_timeout_ms(20000)") as n, Client(n.tcp, 30) as waits:
        pid = worker(n)["pid"]
        slow = waits.start("m.sleep", 6500)
        with Client(n.tcp) as c:
            assert c.call("m.keep", 16) == 16
            start = time.monotonic()
            answer = "NO_MEMORY"
            while answer == "NO_MEMORY":
                assert time.monotonic() - start < 12, "it is never replaced"
                answer = ask_or_closed(c, "sys.echo", 1)
                time.sleep(0.05)
            assert answer in ("DRAINING", "CLOSED")
            assert 4.5 < time.monotonic() - start < 9
        assert waits.finish(slow) == "slept"
        wait_until("another serves", lambda: worker(n)["pid"] not in (0, pid))
        with Client(n.tcp) as c:
            assert c.call("sys.echo", 1) == 1
            assert c.call("m.keep", 1) == 1
        log = n.log()
        assert re.search(r'worker-0.*this worker is replaced: Lua code has held 1[78]\.\d MiB for 5\d\d\d ms, '
                         r'lua_memory_max is 16\.0 MiB', log), log
        assert "ended with exit code" not in log and "died of" not in log


def ask_or_closed(client, method, *args):
    try:
        return ask(client, method, *args)
    except (Closed, OSError):
        return "CLOSED"


def test_others_serve_while_a_full_worker_is_replaced_and_single_goes_on_refusing():
    with node(workers=2) as n, node(args=["--single"]) as single, Client(single.tcp) as alone:
        assert alone.call("m.keep", 16) == 16
        with Client(n.tcp) as c:
            assert c.call("m.keep", 16) == 16
        pids = set(n.worker_pids())
        failed, served = set(), 0
        end = time.monotonic() + 12
        while len(set(n.worker_pids()) & pids) == 2:
            assert time.monotonic() < end, "it is never replaced"
            assert ask(alone, "sys.echo", 1) == "NO_MEMORY"
            for _ in range(10):
                with Client(n.tcp) as c:
                    answer = ask_or_closed(c, "sys.echo", 1)
                served += answer == 1
                failed.add(answer)
        assert served > 50 and failed <= {1, "NO_MEMORY", "DRAINING", "CLOSED"}, failed
        wait_until("both serve", lambda: 0 not in n.worker_pids() and len(set(n.worker_pids()) & pids) == 1)
        with Client(n.tcp) as c:
            assert [ask(c, "sys.echo", i) for i in range(20)] == list(range(20))
        time.sleep(0.5)
        assert ask(alone, "sys.echo", 1) == "NO_MEMORY"
        assert alone.is_open()


def test_allocations_that_fail_in_a_full_worker_hurry_its_end():
    with node() as n, Client(n.tcp) as c:
        pid = worker(n)["pid"]
        c.send(request(1, "m.keep", 14) + request(2, "m.keep", 6))
        assert c.recv()[2] is None
        assert c.recv()[2].startswith("NO_MEMORY: ")
        start = Stopwatch()
        wait_until("it was replaced", lambda: worker(n)["pid"] not in (0, pid), 4)
        assert start.seconds() < 3.5


def test_calls_that_allocate_until_they_fail_fail_alone():
    """Of every kind in turn, from several clients at once, beside one that only echoes."""
    kinds = ["closures", "tables", "array", "double"] + (["strings"] if LONG else [])
    each = 80 if LONG else 10
    with node('call_timeout_ms(2000)') as n, Client(n.tcp, 60) as echo:
        codes = {}

        def run(first):
            with Client(n.tcp, 60) as c:
                for i in range(each):
                    code = ask(c, "m." + kinds[(first + i) % len(kinds)])
                    codes[code] = codes.get(code, 0) + 1

        threads = [threading.Thread(target=run, args=(i,)) for i in range(4)]
        for t in threads:
            t.start()
        echoed = {}
        while any(t.is_alive() for t in threads):
            answer = ask(echo, "sys.echo", 1)
            echoed[answer] = echoed.get(answer, 0) + 1
            time.sleep(0.002)
        for t in threads:
            t.join()
        assert codes == {"NO_MEMORY": 4 * each}
        assert set(echoed) == {1}, echoed
        assert worker(n)["deaths"] == 0
