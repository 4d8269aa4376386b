# SPDX-License-Identifier: BSD-2-Clause
"""Hot reload: what changes, what must not, and what becomes of what runs (S4, S5; S3 is in make bench)."""
import os
import re
import signal
import threading
import time

import pytest

from harness import LONG, SANITIZED, SLOW, Node, Stopwatch, collect, memory_kib, request, wait_until


def servant(name, body):
    return 'local fae = require "fae"\nlocal %s = fae.servant "%s"\n%s\nreturn %s\n' % (name, name, body, name)


def shop(answer, more=""):
    return servant("shop", 'shop.method("price", function() return "%s" end)\n%s' % (answer, more))


LIFE = """
shop.method("nap", { args = { "int" }, timeout_ms = 60000 }, function(call, ms)
  local before = call.generation
  fae.sleep(ms)
  return { before, call.generation, "%s", (fae.call("shop.price")) }
end)
"""


@pytest.fixture
def node():
    with Node('lua_memory_max "64MiB"', servants={"shop.lua": shop("one")}, workers=2) as n:
        yield n


def answers(node, method="shop.price", *params, n=12):
    """What the node answers, over both sockets and whichever workers."""
    return {repr(node.call(method, *params, kind="unix" if i % 2 else "tcp")) for i in range(n)}


def generations(node):
    return {row["generation"] for name, row in node.workers().items() if name != "ops"}


# ---- good ones ----


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_editing_a_servant_changes_the_next_answer(node, kind):
    with node.client(kind) as c:
        for i in range(5):
            assert c.call("shop.price") == ("one" if i == 0 else "edit %d" % i)
            node.write("shop.lua", shop("edit %d" % (i + 1)))
            assert c.call("shop.price") == ("one" if i == 0 else "edit %d" % i)
            done = node.reload()
            assert done.returncode == 0 and done.stdout == "generation %d\n" % (i + 2) and done.stderr == ""
            assert c.call("shop.price") == "edit %d" % (i + 1)
    assert generations(node) == {6}
    assert node.call("sys.servants")["generation"] == 6
    assert answers(node) == {"'edit 5'"}


def test_an_unchanged_reload_is_a_generation_too(node):
    assert node.reload().stdout == "generation 2\n"
    assert answers(node) == {"'one'"}


def test_servants_come_and_go(node):
    with node.client() as c:
        assert c.error("extra.x").code == "UNKNOWN_METHOD"
        node.write("extra.lua", servant("extra", 'extra.method("x", function() return 1 end)'))
        assert node.reload().returncode == 0
        assert c.call("extra.x") == 1
        node.remove("extra.lua")
        assert node.reload().returncode == 0
        assert c.error("extra.x").code == "UNKNOWN_METHOD"
        assert c.call("shop.price") == "one"


def test_helper_modules_reload_with_their_servants(node):
    node.write("shop.lua", servant("shop", 'local prices = require "parts.prices"\n'
                                           'shop.method("price", function() return prices.now() end)'))
    node.write("parts/prices.lua",
               'local deep = require "parts.deep"\nreturn { now = function() return deep .. 1 end }\n')
    node.write("parts/deep.lua", 'return "a"\n')
    assert node.reload().returncode == 0
    assert answers(node) == {"'a1'"}
    node.write("parts/deep.lua", 'return "b"\n')
    assert answers(node) == {"'a1'"}
    assert node.reload().returncode == 0
    assert answers(node) == {"'b1'"}


def test_a_built_in_servant_can_be_replaced(node):
    assert node.call("hello.greet", "x") == "Hello, x!"
    node.write("hello.lua", servant("hello", 'hello.method("greet", function() return "mine" end)'))
    assert node.reload().returncode == 0
    assert answers(node, "hello.greet") == {"'mine'"}
    node.remove("hello.lua")
    assert node.reload().returncode == 0
    assert node.call("hello.greet", "x") == "Hello, x!"


def test_sighup(node):
    node.write("shop.lua", shop("by signal"))
    node.send_signal(signal.SIGHUP)
    wait_until("all workers have it", lambda: generations(node) == {2})
    assert answers(node) == {"'by signal'"}
    node.write("shop.lua", "nonsense")
    node.send_signal(signal.SIGHUP)
    wait_until("the log says why", lambda: re.search(r"level=warn .*shop\.lua:1: ", node.log()))
    assert answers(node) == {"'by signal'"} and generations(node) == {2}


def test_no_session_closes_and_no_call_is_lost(node):
    """20 reloads while 4 sessions call all the time."""
    stop, wrong, counts = threading.Event(), [], []

    def run(kind):
        n = 0
        try:
            with node.client(kind) as c:
                while not stop.is_set():
                    for i, m in sorted(collect_all(c).items()):
                        if m[2] is not None or not re.fullmatch(r"one|edit \d+", m[3]):
                            wrong.append(m)
                    n += 10
        except BaseException as err:
            wrong.append(repr(err))
        counts.append(n)

    def collect_all(c):
        c.send(b"".join(request(i, "shop.price") for i in range(10)))
        return collect(c, 10)

    threads = [threading.Thread(target=run, args=("unix" if i % 2 else "tcp",)) for i in range(4)]
    for t in threads:
        t.start()
    for i in range(20):
        node.write("shop.lua", shop("edit %d" % i))
        assert node.reload().returncode == 0
    stop.set()
    for t in threads:
        t.join(20)
    assert not wrong, wrong[:3]
    assert len(counts) == 4 and min(counts) > 100
    assert answers(node) == {"'edit 19'"}


def test_reloads_at_the_same_time_queue(node):
    results = []
    threads = [threading.Thread(target=lambda: results.append(node.reload())) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(30 * SLOW)
    assert sorted(r.stdout for r in results) == sorted("generation %d\n" % g for g in range(2, 10))
    assert generations(node) == {9}


# ---- bad ones: nothing changes ----

FILE = r"[^\s:]*servants/"
BAD = {
    "syntax": ({"bad.lua": "local x =\n"}, FILE + r"bad\.lua:\d+: .*unexpected symbol"),
    "syntax in line 3": ({"bad.lua": "local x = 1\n\nx ==== 2\n"}, FILE + r"bad\.lua:3: "),
    "syntax in a helper": ({"bad.lua": 'require "parts.worse"\n', "parts/worse.lua": "\nend\n"},
                           FILE + r"parts/worse\.lua:2: "),
    "runtime error": ({"bad.lua": "local t = nil\nreturn t.x\n"}, FILE + r"bad\.lua:2: attempt to index local 't'"),
    "error with a table": ({"bad.lua": "\nerror { code = 'ODD', message = 'a reason' }\n"}, r"bad\.lua: ?.*a reason"),
    "global": ({"bad.lua": "\n\nleak = 1\n"}, FILE + r'bad\.lua:3: global "leak" is written'),
    "unknown module": ({"bad.lua": '\nrequire "no.such"\n'}, FILE + r'bad\.lua:2: module "no\.such"'),
    "requires itself": ({"bad.lua": 'require "bad"\n'}, FILE + r"bad\.lua:1: .*requires itself"),
    "no servant": ({"bad.lua": "local x = 1\n"}, FILE + r"bad\.lua:\d+: declares no servant"),
    "empty file": ({"bad.lua": ""}, FILE + r"bad\.lua:\d+: declares no servant"),
    "unknown option": ({"bad.lua": servant("bad", 'bad.method("x", { timout_ms = 5 }, function() end)')},
                       FILE + r'bad\.lua:3: bad\.x: no option "timout_ms"; did you mean "timeout_ms"\?'),
    "bad type word": ({"bad.lua": servant("bad", 'bad.method("x", { args = { "integer" } }, function() end)')},
                      FILE + r"bad\.lua:3: bad\.x: args\[1\] is integer, not a type"),
    "method twice": ({"bad.lua": servant("bad", 'bad.method("x", print)\nbad.method("x", print)')},
                     FILE + r"bad\.lua:4: bad\.x is declared twice"),
    "servant twice": ({"bad.lua": servant("shop", "")}, FILE + r'\w+\.lua:\d+: servant "shop" is declared twice'),
    "self_check": ({"bad.lua": servant("bad", 'bad.self_check(function() error "prices are wrong" end)')},
                   FILE + r"bad\.lua:3: prices are wrong"),
    "on_load": ({"bad.lua": servant("bad", 'bad.on_load(function() error "cannot load" end)')},
                FILE + r"bad\.lua:3: cannot load"),
    "waits while it loads": ({"bad.lua": 'require("fae").sleep(1)\n'}, FILE + r"bad\.lua:1: .*nothing may wait"),
    "bytecode": ({"bad.lua": "\x1bLJ\x02"}, FILE + r"bad\.lua:1: precompiled Lua is not loaded"),
    "exits": ({"bad.lua": "\nos.exit(0)\n"}, FILE + r"bad\.lua:2: os\.exit is not for servants"),
    "deep recursion": ({"bad.lua": "local function f() return 1 + f() end\nf()\n"},
                       FILE + r"bad\.lua:1: stack overflow"),
    "much memory": ({"bad.lua": "local t = {}\nfor i = 1, 1e9 do t[i] = ('x'):rep(1e6) .. i end\n"},
                    r"not enough memory"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_a_bad_servant_changes_nothing(node, name):
    files, why = BAD[name]
    node.write("shop.lua", shop("must not be seen"))
    for path, text in files.items():
        node.write(path, text)
    for flags in ([], ["--dry-run"], ["--wait"]):
        done = node.reload(*flags)
        assert done.returncode == 1
        assert re.search(why, done.stderr), done.stderr
        assert "BAD_SERVANT" in done.stderr and done.stdout == ""
    assert answers(node) == {"'one'"}
    assert generations(node) == {1}
    for path in files:
        node.remove(path)
    assert node.reload().stdout == "generation 2\n"
    assert answers(node) == {"'must not be seen'"}


def test_every_bad_file_is_named(node):
    for i in range(5):
        node.write("bad%d.lua" % i, "\n" * i + "x = = 1\n")
    node.write("run.lua", "error 'at run time'\n")
    done = node.reload()
    assert done.returncode == 1
    for i in range(5):
        assert re.search(r"bad%d\.lua:%d: " % (i, i + 1), done.stderr)
    assert re.search(r"run\.lua:1: at run time", done.stderr)


def test_files_that_cannot_be_read(node):
    path = os.path.join(node.servants_dir, "gone.lua")
    for make in (lambda: os.symlink("/nonexistent", path), lambda: os.mkdir(path), lambda: os.mkfifo(path)):
        make()
        done = node.reload()
        assert done.returncode == 1 and re.search(r"gone\.lua:\d+: ", done.stderr), done.stderr
        assert answers(node, n=2) == {"'one'"}
        os.rmdir(path) if os.path.isdir(path) else os.unlink(path)
    os.rename(node.servants_dir, node.servants_dir + ".away")
    done = node.reload()
    os.rename(node.servants_dir + ".away", node.servants_dir)
    assert done.returncode == 1 and "servants" in done.stderr
    assert answers(node) == {"'one'"} and generations(node) == {1}
    assert node.reload().returncode == 0


@pytest.mark.parametrize("body", ["while true do end\n", "local s = ('a'):rep(3000)\ns:find('.-.-.-.-b$')\n",
                                  "while true do pcall(function() while true do end end) end\n"])
def test_an_endless_file_changes_nothing(node, body):
    """Answered within 3 s; calls go on meanwhile as if nothing were."""
    node.write("bad.lua", body)
    worst, stop = [0.0], threading.Event()

    def call():
        with node.client() as c:
            while not stop.is_set():
                t = Stopwatch()
                assert c.call("shop.price") == "one"
                worst[0] = max(worst[0], t.seconds())
                time.sleep(0.002)

    caller = threading.Thread(target=call)
    caller.start()
    started = Stopwatch()
    done = node.reload()
    took = started.seconds()
    stop.set()
    caller.join(10)
    assert done.returncode == 1 and "did not end within 2000 ms" in done.stderr, done.stderr
    assert took <= (3 if LONG else 4) * SLOW
    assert worst[0] < 1.5 * SLOW
    assert answers(node) == {"'one'"} and generations(node) == {1}
    assert not [w for w in node.workers().values() if w["deaths"]]
    node.remove("bad.lua")
    assert node.reload().returncode == 0


def test_dry_run(node):
    node.write("shop.lua", shop("two"))
    done = node.reload("--dry-run")
    assert done.returncode == 0 and "nothing has changed" in done.stdout
    assert answers(node) == {"'one'"} and generations(node) == {1}
    assert node.reload().stdout == "generation 2\n"


def test_usage(node):
    assert node.reload("--wat").returncode == 2
    assert node.run("reload", "--run-dir", node.folder).returncode == 1
    assert node.run("reload", "--help").returncode == 0
    assert node.reload("--wait", "--dry-run").returncode == 2


# ---- rollback ----


def test_rollback(node):
    done = node.ctl("rollback")
    assert done.returncode == 1 and "NOT_FOUND" in done.stderr
    node.write("shop.lua", shop("two"))
    assert node.reload().returncode == 0
    node.write("shop.lua", "broken")
    done = node.ctl("rollback")
    assert done.returncode == 0 and done.stdout == "generation 3\n"
    assert answers(node) == {"'one'"} and generations(node) == {3}
    done = node.ctl("rollback")
    assert done.returncode == 0 and done.stdout == "generation 4\n"
    assert answers(node) == {"'two'"}
    assert node.reload().returncode == 1
    assert answers(node) == {"'two'"}


# ---- bundles, not the disk ----


def test_a_new_worker_loads_what_was_committed(node):
    """Whatever lies on the disk meanwhile: something else, rubbish, nothing."""
    node.expect.append("died of signal 9")
    node.write("shop.lua", shop("two"))
    assert node.reload().returncode == 0
    for change in (lambda: node.write("shop.lua", shop("not this")), lambda: node.write("shop.lua", "rubbish ="),
                   lambda: node.remove("shop.lua")):
        change()
        before = node.worker_pids()
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        wait_until("both are back", lambda: not set(before) & set(node.worker_pids()) and generations(node) == {2} and
                   all(w["state"] == "ready" for w in node.workers().values()))
        assert answers(node) == {"'two'"}


def test_a_worker_that_dies_in_a_reload_comes_back_in_step(node):
    """Killed at any moment of 15 reloads: all serve the last generation in the end, and every answer is of a committed
    one."""
    node.expect += ["died of signal 9", "not prepared", "exit code 1"]
    stop = threading.Event()
    n_killed = [0]

    def killer():
        while not stop.is_set():
            row = node.workers().get("worker-1", {})
            if row.get("state") == "ready":
                try:
                    os.kill(row["pid"], signal.SIGKILL)
                    n_killed[0] += 1
                except ProcessLookupError:
                    pass
            time.sleep(0.03)

    t = threading.Thread(target=killer)
    t.start()
    good = 0
    for i in range(15):
        node.write("shop.lua", shop("edit %d" % i))
        done = node.reload()
        if done.returncode == 0:
            good += 1
            last = i
        else:
            assert "died while it prepared" in done.stderr or "takes no mail" in done.stderr, done.stderr
    stop.set()
    t.join(10)
    assert good >= 1 and n_killed[0] >= 2
    wait_until("all are back", lambda: all(w["state"] == "ready" for w in node.workers().values()), 10)
    assert answers(node) == {"'edit %d'" % last}
    assert len(generations(node)) == 1


# ---- what was running (S5) ----


def test_500_calls_finish_on_the_code_they_began_with(node):
    node.write("shop.lua", shop("old", LIFE % "old"))
    assert node.reload().returncode == 0
    clients = [node.client("unix" if i % 2 else "tcp", timeout=20) for i in range(5)]
    for c in clients:
        c.send(b"".join(request(i, "shop.nap", 3000) for i in range(100)))
    wait_until("500 run", lambda: sum(w["calls"] for w in node.stats()["workers"]) == 500)
    began = Stopwatch()
    node.write("shop.lua", shop("new", LIFE % "new"))
    assert node.reload().stdout == "generation 3\n"
    assert began.seconds() < 2 * SLOW
    assert answers(node) == {"'new'"}
    assert node.call("shop.nap", 1) == [3, 3, "new", "new"]
    assert sum(w["old_calls"] for w in node.stats()["workers"]) == 500
    for c in clients:
        assert {m[1]: m[2:] for m in collect(c, 100).values()} == {i: [None, [2, 2, "old", "old"]] for i in range(100)}
        assert c.call("shop.nap", 1) == [3, 3, "new", "new"]
        c.close()
    wait_until("the old generation is gone", lambda: sum(w["old_calls"] for w in node.stats()["workers"]) == 0, 1)


def test_wait_returns_when_the_old_generation_is_gone(node):
    node.write("shop.lua", shop("old", LIFE % "old"))
    assert node.reload().returncode == 0
    with node.client() as c:
        started = Stopwatch()
        msgid = c.start("shop.nap", 2000)
        assert node.reload().stdout == "generation 3\n"
        assert started.seconds() < 1.9 * SLOW
        done = node.reload("--wait")
        assert done.returncode == 0 and done.stdout == "generation 4\n"
        assert started.within(2, 4 * SLOW), started
        assert c.finish(msgid)[0] == 2
    started = Stopwatch()
    assert node.reload("--wait").returncode == 0
    assert started.seconds() < 1.5 * SLOW


TICKING = """
local state
shop.on_load(function(s)
  s.ticks, s.loops, s.loads = s.ticks or {}, s.loops or {}, (s.loads or 0) + 1
  state = s
end)
shop.on_unload(function()
  state.unloaded = (state.unloaded or 0) + 1
  fae.sleep(10)
  state.unloaded_late = state.unloaded
end)
local mark = "%s"
fae.timer(5, function() state.ticks[mark] = (state.ticks[mark] or 0) + 1 end)
fae.spawn(function()
  while true do
    local ok, err = fae.sleep(5)
    state.loops[mark] = (state.loops[mark] or 0) + 1
    if not ok then state.last_err = err.code return end
  end
end)
shop.method("late_timer", function()
  fae.timer(5, function() state.ticks[mark .. " late"] = (state.ticks[mark .. " late"] or 0) + 1 end)
  fae.spawn(function()
    while true do
      pcall(fae.sleep, 5)
      state.loops[mark .. " late"] = (state.loops[mark .. " late"] or 0) + 1
    end
  end)
end)
shop.method("hold", { args = { "int" }, timeout_ms = 60000 }, function(_, ms) fae.sleep(ms) return mark end)
shop.method("state", function()
  return { ticks = fae.map(state.ticks), loops = fae.map(state.loops), loads = state.loads, unloaded = state.unloaded,
    unloaded_late = state.unloaded_late, last_err = state.last_err }
end)
"""


def timers_and_tasks_of_the_old_one_stop(node, c, all_run, first):
    assert node.reload().returncode == 0
    wait_until("the new ones run", lambda: all_run(["two"]))
    second = c.call("shop.state")
    assert second["loads"] == 2 and second["last_err"] == "RELOADED"
    assert second["ticks"]["one"] >= first["ticks"]["one"], "state was lost"
    wait_until("on_unload ran to its end", lambda: c.call("shop.state").get("unloaded_late") == 1)
    before = c.call("shop.state")
    time.sleep(0.1)
    third = c.call("shop.state")
    for k in ("ticks", "loops"):
        for mark in ("one", "one late"):
            assert third[k][mark] == before[k][mark], "%s of the old generation still run" % k
        assert third[k]["two"] > second[k]["two"]
    assert sum(w["old_calls"] for w in node.stats()["workers"]) == 1


def test_timers_tasks_and_state_over_a_reload():
    with Node(servants={"shop.lua": shop("x", TICKING % "one")}) as node:
        with node.client() as c:
            c.call("shop.late_timer")

            def all_run(marks):
                s = c.call("shop.state")
                return all(s[k].get(m, 0) >= 3 for k in ("ticks", "loops") for m in marks)

            wait_until("timers and tasks run", lambda: all_run(["one", "one late"]))
            first = c.call("shop.state")
            assert first["loads"] == 1 and first.get("unloaded") is None
            node.write("shop.lua", shop("x", TICKING % "two"))
            with node.client() as holder: # a call keeps the old generation, and nothing but that call
                holding = holder.start("shop.hold", 1000 * SLOW)
                wait_until("it runs", lambda: sum(w["calls"] for w in node.stats()["workers"]) == 1)
                timers_and_tasks_of_the_old_one_stop(node, c, all_run, first)
                assert holder.finish(holding) == "one"
            # A bad reload runs nothing twice and stops nothing.
            node.write("shop.lua", shop("x", TICKING % "three" + '\nshop.self_check(function() error "no" end)'))
            assert node.reload().returncode == 1
            before = c.call("shop.state")
            time.sleep(0.1)
            after = c.call("shop.state")
            assert after["loads"] == before["loads"] == 2 and "three" not in after["ticks"]
            assert after["ticks"]["two"] > before["ticks"]["two"] and after["loops"]["two"] > before["loops"]["two"]


def test_rss_stays_flat_over_good_and_bad_reloads():
    """A servant with a timer, a spawned loop, a helper and a 1 MB upvalue. 1,000 + 1,000 when long."""
    n, warm = (1000, 80) if LONG else (60, 20)
    heavy = TICKING % "x" + """
local big = {}
for i = 1, 1000 do big[i] = ("%d "):format(i):rep(500) end
local helper = require "parts.helper"
shop.method("big", function() return #big + helper.n end)
"""
    bad = ["x = = 1\n", "error 'x'\n", servant("bad", 'bad.self_check(function() error "x" end)'),
           servant("bad", 'bad.on_load(function() error "x" end)')]
    files = {"shop.lua": shop("0", heavy), "parts/helper.lua": "return { n = 1 }\n"}
    with Node('log_level "error"', servants=files) as node:
        pids = node.worker_pids() + [node.pid]

        def one_round(i):
            node.write("shop.lua", shop(str(i), heavy))
            node.write("parts/helper.lua", "return { n = %d }\n" % i)
            assert node.reload().returncode == 0
            assert node.call("shop.price") == str(i)
            node.write("bad.lua", bad[i % len(bad)])
            assert node.reload().returncode == 1
            node.remove("bad.lua")

        def peak(begin):
            """Of 5 samples in 20 rounds: malloc gives back when it likes, which alone moves it by 5 %."""
            kib, lua = [], []
            for i in range(begin, begin + 20):
                one_round(i)
                if i % 4 == 0:
                    time.sleep(0.5) # collections after a reload go on for a while
                    kib.append(sum(memory_kib(pid) for pid in pids))
                    lua.append(node.stats()["workers"][0]["lua_bytes"])
            return max(kib), max(lua)

        for i in range(warm):
            one_round(i)
        before, lua_before = peak(warm)
        for i in range(warm + 20, n - 20):
            one_round(i)
        after, lua_after = peak(n - 20)
        print("\nRSS in rounds %d-%d %d KiB, %d-%d %d KiB" % (warm, warm + 20, before, n - 20, n, after))
        assert generations(node) == {n + 1}
        assert lua_after <= lua_before * 1.02
        if not SANITIZED:
            assert after <= before * 1.05, "%d KiB before, %d KiB after" % (before, after)


def test_a_bad_servant_at_start_starts_nothing():
    node = Node(servants={"shop.lua": shop("x"), "bad.lua": "\nx = = 1\n", "worse.lua": "error 'why'\n"}, wait=False)
    try:
        with pytest.raises(AssertionError) as info:
            node.start()
        text = str(info.value)
        assert "exit code 78" in text
        assert re.search(r"bad\.lua:2: ", text) and re.search(r"worse\.lua:1: why", text)
    finally:
        node.kill()
        node.remove_folder()


def test_check_says_the_same(node):
    node.write("bad.lua", "\nx = = 1\n")
    done = node.run("check", "-c", node.conf_path)
    assert done.returncode == 78 and re.search(r"bad\.lua:2: ", done.stderr)
    node.remove("bad.lua")
    done = node.run("check", "-c", node.conf_path)
    assert done.returncode == 0 and done.stdout.startswith("ok: "), done.stderr
