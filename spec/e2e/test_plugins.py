# SPDX-License-Identifier: BSD-2-Clause
"""Plugins in a real node: hooks around calls and sessions, what is told of calls that are dropped, errors, reload, and
the built-in ones end to end."""
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import Client, Node, RpcError, Stopwatch, connect, wait_until

SERVANT = """
local fae = require "fae"
local s = fae.servant "s"
local n = 0
s.method("count", { args = { "..." } }, function() n = n + 1 return n end)
s.method("sleep", { args = { "int" }, timeout_ms = 200 }, function(_, ms)
  fae.sleep(ms)
  fae.sleep(ms)
  return "slept"
end)
s.method("tidy", { args = { "int" }, timeout_ms = 200 }, function(_, ms)
  local _, err = fae.sleep(ms)
  return "tidied after " .. err.code
end)
s.method("fail", function() return nil, fae.err("NOT_FOUND", "nothing") end)
s.method("bug", function() error "mine" end)
s.method("fill", function()
  local t = {}
  for i = 1, 1e9 do t[i] = "a string of " .. i end
end)
s.method("login", { args = { "map" } }, function() return true end)
return s
"""

WITNESS = """
local fae = require "fae"
local plugin = fae.plugin "witness"
plugin.on_call(function(call, ...)
  call.n = select("#", ...)
  fae.log.info("BEFORE", { call = call.method })
end)
plugin.on_reply(function(call, reply)
  fae.log.info("AFTER", { call = call.method, args = call.n, code = reply.err and reply.err.code or "OK", rid = call.rid,
    value = tostring(reply.value), us = reply.duration_us, peer = call.peer, sid = call.session })
end)
plugin.on_session(function(session)
  fae.log.info("SESSION", { event = session.event, sid = session.id, from = session.peer })
end)
return plugin
"""


def rows(node, word):
    """What the plugin logged under a word: a list of its fields."""
    found = []
    for line in node.log().splitlines():
        if re.search(r'msg="?%s"?( |$)' % word, line):
            found.append({k: v.strip('"') for k, v in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)})
    return found


def after(node, method, n=1):
    """The n-th AFTER row of the method, once it is there."""
    def there():
        found = [row for row in rows(node, "AFTER") if row.get("call") == method]
        return found[n - 1] if len(found) >= n else None
    return wait_until("a line of %s" % method, there)


@pytest.fixture(scope="module")
def witnessed():
    conf = 'plugin "witness" {}\nlua_memory_max "16MiB"'
    with Node(conf, {"s.lua": SERVANT, "plugins/witness.lua": WITNESS},
              expect=["mine", "memory"]) as node:
        yield node


def test_hooks_see_a_call_its_context_and_its_time(witnessed):
    with Client(witnessed.tcp) as c:
        assert c.call("s.count", 1, 2, ctx={"rid": "r-1"}) >= 1
        peer = "tcp://127.0.0.1:%d" % c.sock.getsockname()[1]
        row = after(witnessed, "s.count")
        assert (row["args"], row["code"], row["rid"], row["peer"]) == ("2", "OK", "r-1", peer)
        assert 0 <= int(row["us"]) < 5000000


@pytest.mark.parametrize("method, code", [("s.fail", "NOT_FOUND"), ("s.bug", "INTERNAL")])
def test_on_reply_sees_errors(witnessed, method, code):
    with Client(witnessed.tcp) as c:
        assert c.error(method).code == code
        assert after(witnessed, method)["code"] == code


def test_on_reply_sees_a_call_dropped_at_its_deadline(witnessed):
    with Client(witnessed.tcp) as c:
        c.call("sys.ctx", {"rid": "r-session"})
        assert c.error("s.sleep", 10000).code == "TIMEOUT"
        row = after(witnessed, "s.sleep")
        assert (row["code"], row["args"], row["rid"], row["value"]) == ("TIMEOUT", "1", "r-session", "nil")
        assert row["peer"].endswith(":%d" % c.sock.getsockname()[1])
        assert int(row["us"]) >= 190000  # the loop counts in milliseconds


def test_on_reply_sees_what_a_call_answers_after_its_deadline(witnessed):
    with Client(witnessed.tcp) as c:
        assert c.call("s.tidy", 10000) == "tidied after TIMEOUT"
        assert after(witnessed, "s.tidy")["value"] == "tidied after TIMEOUT"


@pytest.mark.parametrize("method", ["s.sleep", "s.tidy"])
def test_on_reply_sees_calls_whose_client_hung_up(witnessed, method):
    n = len([row for row in rows(witnessed, "AFTER") if row.get("call") == method])
    c = Client(witnessed.tcp)
    port = c.sock.getsockname()[1]
    c.start(method, 10000, ctx={"rid": "r-gone"})
    time.sleep(0.05)
    c.close()
    row = after(witnessed, method, n + 1)
    assert (row["code"], row["rid"], row["peer"]) == ("CANCELLED", "r-gone", "tcp://127.0.0.1:%d" % port)


def test_on_reply_sees_a_call_out_of_memory(witnessed):
    with Client(witnessed.tcp, timeout=30) as c:
        assert c.error("s.fill").code == "NO_MEMORY"
        assert after(witnessed, "s.fill")["code"] == "NO_MEMORY"


def test_calls_refused_before_they_began_have_no_hooks(witnessed):
    with Client(witnessed.tcp) as c:
        assert c.error("s.sleep", "x").code == "BAD_ARGS"
        assert c.error("s.nothing").code == "UNKNOWN_METHOD"
        c.call("s.count", 1)
        time.sleep(0.05)
        assert not [row for row in rows(witnessed, "AFTER") if row["code"] in ("BAD_ARGS", "UNKNOWN_METHOD")]


def test_on_session_hears_of_both_ends(witnessed):
    sock = connect(witnessed.tcp)
    peer = "tcp://127.0.0.1:%d" % sock.getsockname()[1]
    mine = lambda: [row for row in rows(witnessed, "SESSION") if row["from"] == peer]
    wait_until("it opened", lambda: [row["event"] for row in mine()] == ["opened"])
    sock.close()
    wait_until("it closed", lambda: [row["event"] for row in mine()] == ["opened", "closed"])
    assert mine()[0]["sid"] == mine()[1]["sid"]


TICKER = """
local fae = require "fae"
local plugin = fae.plugin "ticker"
plugin.on_tick(function() fae.log.info("TICK", { word = "%s" }) %s end)
return plugin
"""


def test_ticks_end_with_their_generation_and_a_plugin_is_replaced_like_a_servant():
    conf = 'plugin "ticker" {}'
    with Node(conf, {"plugins/ticker.lua": TICKER % ("old", "fae.sleep(5000)")}) as node, Client(node.tcp) as c:
        wait_until("it ticks", lambda: rows(node, "TICK"))
        node.write("plugins/ticker.lua", TICKER % ("new", ""))
        assert node.reload().returncode == 0
        wait_until("the new one ticks twice", lambda: [r["word"] for r in rows(node, "TICK")][-2:] == ["new", "new"], 8)
        assert [r["word"] for r in rows(node, "TICK")].count("old") == 1
        node.write("plugins/ticker.lua", "syntax error")
        done = node.reload()
        assert done.returncode != 0 and "plugins/ticker.lua:1:" in done.stderr, done
        node.remove("plugins/ticker.lua")
        done = node.reload()
        assert done.returncode != 0 and 'names plugin "ticker", and there is no such file' in done.stderr, done
        assert c.call("sys.echo", 1) == 1


FAILING = """
local fae = require "fae"
local plugin = fae.plugin "failing"
plugin.on_call(function() error "in on_call" end)
plugin.on_reply(function() local t = nil; t.x = 1 end)
plugin.on_session(function() error { code = "ODD" } end)
return plugin
"""


def test_errors_in_hooks_fail_no_call_and_are_logged_once_a_second_with_their_number():
    with Node('plugin "failing" {}', {"s.lua": SERVANT, "plugins/failing.lua": FAILING},
              expect=["plugin failing"]) as node, Client(node.tcp) as c:
        for i in range(500):
            assert c.call("s.count") == i + 1
        assert c.error("s.fail").code == "NOT_FOUND"
        time.sleep(1.05)
        lines = [line for line in node.log().splitlines() if "plugin failing" in line]
        assert 1 <= len(lines) <= 4, lines
        c.call("s.count")
        line = wait_until("the next one", lambda: [
            line for line in node.log().splitlines() if "plugin failing" in line][len(lines):])[0]
        assert int(re.search(r"times=(\d+)", line).group(1)) >= 900, line


def test_a_plugin_may_answer_and_refuse():
    gate = """
    local fae = require "fae"
    local plugin = fae.plugin "gate"
    plugin.on_call(function(call, a)
      if call.method ~= "s.count" then return end
      fae.sleep(1)
      if a == "answer" then return plugin.answer { by = "gate" } end
      if a == "refuse" then return plugin.refuse(fae.err("FORBIDDEN", "not today", { retry_after_ms = 5 })) end
    end)
    return plugin
    """
    with Node('plugin "gate" {}', {"s.lua": SERVANT, "plugins/gate.lua": gate}) as node, Client(node.tcp) as c:
        c.call("sys.hello", {"error": "map"})
        assert c.call("s.count", "answer") == {"by": "gate"}
        error = c.error("s.count", "refuse").value
        assert (error["code"], error["message"], error["retry_after_ms"]) == ("FORBIDDEN", "not today", 5)
        assert c.call("s.count", "go on") == 1
        c.notify("s.count", "refuse")
        c.notify("s.count", "go on")
        wait_until("the notification ran", lambda: c.call("s.count") >= 3)


def test_a_wrong_plugin_refuses_the_start():
    for conf, text in [
            ('plugin "acces_log" {}', 'did you mean "access_log"?'),
            ('plugin "access_log" { sampel = 5 }', 'no option "sampel"; did you mean "sample"?'),
            ('plugin "access_log" { sample = "x" }', "sample must be a number, not a string"),
            ('fence "s" { allow = { "ffl" } }', "ffi"),
            ('fence "q" { allow = { "ffi" } }', "no servant, plugin or helper is called that")]:
        node = Node(conf, {"s.lua": SERVANT}, wait=False)
        done = node.run("check", "-c", node.conf_path)
        assert done.returncode == 78, (conf, done)
        assert text in done.stdout + done.stderr, (conf, done)
        with pytest.raises(AssertionError, match="exit code 78"):
            node.start()
        node.remove_folder()


def test_a_fence_that_is_opened_lets_one_servant_start_programs():
    run = """
    local fae = require "fae"
    local s = fae.servant "%s"
    s.method("shell", { args = {} }, function()
      local pipe = assert(io.popen "echo out")
      local text = pipe:read "*l"
      pipe:close()
      return { os.execute "exit 3" / 256, text }
    end)
    return s
    """
    with Node('fence "a" { allow = { "os.execute", "io.popen" } }', {"a.lua": run % "a", "b.lua": run % "b"},
              expect=["is not for servants"]) as node, Client(node.tcp) as c:
        assert c.call("a.shell") == [3, "out"]
        assert "io.popen is not for servants" in str(c.error("b.shell").value)
        assert c.call("sys.echo", 1) == 1


# ---- the built-in ones ----


def test_access_log_in_the_nodes_log():
    with Node('plugin "access_log" { sample = 3 }', {"s.lua": SERVANT}) as node, Client(node.tcp) as c:
        for _ in range(9):
            c.call("s.count", ctx={"rid": "r 1", "reason": "test"})
        found = wait_until("three lines", lambda: len(rows(node, "access")) == 3 and rows(node, "access"))
        assert [(r["call"], r["code"], r["rid"], r["reason"]) for r in found] == [("s.count", "OK", "r_1", "test")] * 3


def test_access_log_in_a_file_that_is_rotated():
    node = Node('', {"s.lua": SERVANT}, workers=2, wait=False)
    path = os.path.join(node.folder, "access.log")
    with open(node.conf_path, "a") as f:
        f.write('plugin "access_log" { file = "%s" }\n' % path)
    node.start()
    with node:
        def lines():
            return open(path).read().splitlines() if os.path.exists(path) else []
        with Client(node.tcp) as c:
            for _ in range(2000):
                c.call("s.count", ctx={"rid": 7})
            c.error("s.sleep", 10000)
        wait_until("all lines", lambda: len(lines()) == 2001)
        form = r"\d+\.\d{3} rid=(7|-) reason=- method=s\.\w+ us=\d+ code=(OK|TIMEOUT) peer=tcp://127\.0\.0\.1:\d+"
        assert all(re.fullmatch(form, line) for line in lines())
        assert sum("code=TIMEOUT" in line for line in lines()) == 1
        os.rename(path, path + ".1")
        with Client(node.tcp) as c:
            c.call("s.count")
        wait_until("a new file", lambda: len(lines()) == 1)


def test_audit_names_who_called_what_and_masks_secrets():
    conf = 'plugin "audit" { methods = { "s.lo*" } }\nsecrets { "password", "pin" }'
    with Node(conf, {"s.lua": SERVANT}) as node, Client(node.tcp) as c:
        c.call("s.login", {"name": "ann", "password": "canary-1", "deep": [{"PIN": "canary-2", "x": 1}]},
               ctx={"uid": 42, "rid": "r9"})
        c.call("s.count", "canary-3")
        c.error("s.login", 5)
        row = wait_until("a line", lambda: rows(node, "audit"))[0]
        assert (row["call"], row["uid"], row["rid"], row["code"]) == ("s.login", "42", "r9", "OK")
        args = json.loads(row["args"].replace('\\"', '"'))
        assert args == [{"name": "ann", "password": "***", "deep": [{"PIN": "***", "x": 1}]}]
        assert "canary" not in node.log()
        assert len(rows(node, "audit")) == 1


def test_shadow_sends_a_share_elsewhere_and_never_delays():
    with Node('', {"s.lua": SERVANT}) as other:
        conf = 'plugin "shadow" { to = "%s", methods = { "s.count" } }' % other.tcp
        with Node(conf, {"s.lua": SERVANT}) as node, Client(node.tcp) as c, Client(other.tcp) as there:
            for i in range(100):
                assert c.call("s.count", i) == i + 1
            seen = [0]

            def all_there():
                seen[0] += 1
                return there.call("s.count") == 100 + seen[0]
            wait_until("all came there", all_there)
            other.send_signal(signal.SIGSTOP)  # all of it: the kernel accepts, and nobody answers
            pids = [pid for pid in other.left_behind() if pid != other.pid]
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
            try:
                start = Stopwatch()
                for i in range(1000):
                    c.call("s.count", "x" * 40000)
                assert start.seconds() < 10
                wait_until("what was dropped is told", lambda: "calls were not sent" in node.log())
            finally:
                for pid in pids + [other.pid]:
                    os.kill(pid, signal.SIGCONT)


def test_shadow_of_a_node_that_is_not_there_is_told_and_harms_nobody():
    conf = 'plugin "shadow" { to = "tcp://127.0.0.1:1", share = 0.5 }'
    with Node(conf, {"s.lua": SERVANT}) as node, Client(node.tcp) as c:
        for i in range(200):
            assert c.call("s.count") == i + 1
        line = wait_until("it is told", lambda: rows(node, "shadow: calls were not sent"))[0]
        assert 0 < int(line["sent"]) + int(line["dropped"]) <= 200


def test_response_cache_answers_from_memory_for_a_while():
    conf = 'plugin "response_cache" { methods = { "s.count" }, ttl_ms = 1500, entries = 10 }'
    with Node(conf, {"s.lua": SERVANT}) as node, Client(node.tcp) as c:
        assert [c.call("s.count", "a") for _ in range(5)] == [1] * 5
        assert c.call("s.count", "b") == 2
        assert c.call("s.count", {"k": [1, None]}) == 3
        assert c.call("s.count", {"k": [1, None]}) == 3
        assert c.call("s.count", "a", None) == 1  # as if it had been left out
        time.sleep(1.55)
        assert c.call("s.count", "a") == 4
        for i in range(100):  # more than it keeps
            assert c.call("s.count", i) == 5 + i
        assert c.call("s.count", 99) == 104
        assert c.call("s.count", 0) == 105
        assert c.error("s.fail").code == "NOT_FOUND"


# ---- remote ----

REMOTE = """
local fae = require "fae"
local r = fae.servant "r"
local config = fae.config "r"
local there = fae.remote(config.to, { timeout_ms = 300 })
r.method("call", { args = { "string", "..." } }, function(_, method, ...) return there:call(method, ...) end)
r.method("many", { args = { "int" } }, function(_, n)
  local fns = {}
  for i = 1, n do fns[i] = function() return there:call("sys.echo", i) end end
  local values, errors = fae.parallel(fns)
  local sum, failed = 0, 0
  for i = 1, n do
    if values[i] then
      assert(values[i] == i)
      sum = sum + 1
    else
      failed = failed + (errors[i].code == "OVERLOAD" and 1 or 1000000)
    end
  end
  return { sum, failed }
end)
return r
"""

SEEN = """
local fae = require "fae"
local t = fae.servant "t"
t.method("context", function(call) return { call.rid, call.uid, call.traceparent, call:time_left() } end)
t.method("slow", { args = { "int" } }, function(_, ms)
  fae.sleep(ms)
  fae.sleep(ms)
  return "late"
end)
t.method("text", function() return nil, "no code" end)
t.method("coded", function() return nil, fae.err("MY_CODE", "my: text") end)
return t
"""


def test_a_remote_is_called_with_its_context_and_deadline():
    with Node('', {"t.lua": SEEN}) as other:
        with Node('servant "r" { to = "%s" }' % other.tcp, {"r.lua": REMOTE}) as node, Client(node.tcp, 30) as c:
            assert c.call("r.call", "sys.echo", {"a": [1, None, b"\xff", 2 ** 60, {}]}) == {
                "a": [1, None, b"\xff", 2 ** 60, {}]}
            rid, uid, trace, left = c.call("r.call", "t.context", ctx={"rid": "r1", "uid": 5, "traceparent": "00-x"})
            assert (rid, uid, trace) == ("r1", 5, "00-x") and 0 < left <= 300
            assert str(c.error("r.call", "t.coded").value) == "MY_CODE: my: text"
            assert str(c.error("r.call", "t.text").value) == "INTERNAL: no code"
            assert c.error("r.call", "nobody.there").code == "UNKNOWN_METHOD"
            assert c.error("r.call", "t.slow", 2000).code == "TIMEOUT"
            assert c.error("r.call", "t.slow", 2000, ctx={"deadline_ms": 50}).code == "TIMEOUT"
            assert c.call("r.call", "sys.echo", 1) == 1
            assert c.call("r.many", 1024) == [1024, 0]
            answered, refused = c.call("r.many", 3000)
            assert answered + refused == 3000 and 1024 <= answered < 2000
            assert c.call("r.many", 1024) == [1024, 0]


def test_a_remote_comes_back_and_fails_at_once_while_it_is_away():
    other = Node('', {"t.lua": SEEN})
    try:
        with Node('servant "r" { to = "%s" }' % other.unix, {"r.lua": REMOTE}) as node, Client(node.tcp, 30) as c:
            assert c.call("r.call", "sys.echo", 1) == 1
            msgid = c.start("r.call", "t.slow", 250)
            time.sleep(0.1)
            other.kill()
            with pytest.raises(RpcError, match="UNAVAILABLE"):
                c.finish(msgid)
            start = time.monotonic()
            for _ in range(50):
                assert c.error("r.call", "sys.echo", 1).code == "UNAVAILABLE"
            assert time.monotonic() - start < 2.5
            other.start()

            def back():
                try:
                    return c.call("r.call", "sys.echo", 2) == 2
                except RpcError as err:
                    assert err.code == "UNAVAILABLE", err
            wait_until("it is back", back, 5)
    finally:
        other.kill()


def test_a_remote_that_never_answers_is_waited_for_no_longer_than_was_said():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(20)
        addr = "tcp://127.0.0.1:%d" % server.getsockname()[1]
        with Node('servant "r" { to = "%s" }' % addr, {"r.lua": REMOTE}) as node, Client(node.tcp, 30) as c:
            start = Stopwatch()
            assert str(c.error("r.call", "sys.echo", 1).value) == "TIMEOUT: %s: deadline passed" % addr
            assert start.within(0.299, 3), start
            assert c.error("r.call", "sys.echo", 1, ctx={"deadline_ms": 50}).code == "TIMEOUT"


def test_a_remote_that_talks_nonsense_is_left():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(20)
        scripts = [b"HTTP/1.1 400 Bad\r\n\r\n", b"\xc1", b"\x94\x01\xff\xc0\xc0", b"\x93\x01\x02\x03", b"\x80",
                   b"\xdd\xff\xff\xff\xff", b"\x94\x01\x01\xc0\x81\x91\x01\x02", b""]

        def serve():
            for script in scripts:
                try:
                    sock, _ = server.accept()
                except OSError:
                    return
                sock.recv(65536)
                sock.sendall(script)
                time.sleep(0.02)
                sock.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        conf = 'servant "r" { to = "tcp://127.0.0.1:%d" }' % server.getsockname()[1]
        with Node(conf, {"r.lua": REMOTE}) as node, Client(node.tcp, 30) as c:
            end = time.monotonic() + 20
            while thread.is_alive() and time.monotonic() < end:
                assert c.error("r.call", "sys.echo", 1).code in ("UNAVAILABLE", "BAD_MESSAGE", "TIMEOUT")
                time.sleep(0.02)
            assert not thread.is_alive()
            assert c.call("sys.echo", 1) == 1

