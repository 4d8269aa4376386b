# SPDX-License-Identifier: BSD-2-Clause
"""What once broke a worker or kept a client waiting: one test each, named by what must hold."""
import subprocess
import threading
import time

from harness import (FAE, SANITIZED, SLOW, Client, Node, RpcError, Stopwatch, collect, connect, memory_kib, pack, request,
                     wait_until)

SERVANT = {"r.lua": """
local fae = require "fae"
local r = fae.servant "r"

r.method("burn", { args = { "int" } }, function(_, ms)
  local start = fae.time.monotonic_us()
  repeat until fae.time.monotonic_us() - start >= ms * 1000
  return ms
end)

r.method("sleepers", { args = { "int", "int" } }, function(_, n, ms)
  for _ = 1, n do fae.spawn(fae.sleep, ms) end
  return n
end)

r.method("again", { args = {} }, function()
  local function again()
    fae.sleep(10)
    fae.spawn(again)
  end
  fae.spawn(again)
  return true
end)

local times = 0
r.method("times", { args = {} }, function() return times end)
r.method("count", { args = { "any" } }, function() times = times + 1 return times end)

r.method("nested", { args = { "int" } }, function(_, depth)
  local deepest = 0
  local function go(level)
    deepest = math.max(deepest, level)
    if level < depth then
      local _, errors = fae.parallel { function() return go(level + 1) end }
      return nil, errors and errors[1]
    end
    return level
  end
  go(1)
  return deepest
end)

r.method("uids", { args = {} }, function(call)
  local seen = fae.parallel { function() return call.uid end }
  fae.spawn(function() seen[2] = call.uid end)
  fae.sleep(1)
  return seen
end)

local function fill(make)
  local all = {}
  for i = 1, 1e9 do all[i] = make(i) end
end
jit.off(fill)
r.method("strings", { args = {} }, function() fill(function(i) return "a string of " .. i end) end)
r.method("closures", { args = {} }, function() fill(function(i) return function() return i end end) end)

r.method("not_a_timer", { args = {} }, function()
  local timer = fae.timer(1000, function() end)
  local stopped = {}
  for i, id in ipairs { 0 / 0, -1, 1e300 } do
    timer.id = id
    stopped[i] = timer:stop()
  end
  return stopped
end)

return r
"""}

NO_MEMORY = ["out of Lua memory", "not enough memory", "call cut"]


def workers(client):
    return client.call("sys.stats")["workers"]


def test_pipelined_slow_calls_are_no_hang():
    """More than the watchdog's 5 s of work from one write: the loop turns in between, and others are served."""
    n = 400
    with Node(servants=SERVANT) as node, Client(node.tcp, timeout=60) as busy, Client(node.tcp) as other:
        busy.send(b"".join(request(i, "r.burn", 15) for i in range(n)))
        worst = 0
        for _ in range(20):
            start = Stopwatch()
            assert other.call("sys.echo", 1) == 1
            worst = max(worst, start.seconds())
        answers = collect(busy, n)
        assert all(answers[i][2:] == [None, 15] for i in range(n))
        assert worst < 3 * SLOW
        assert [w["deaths"] for w in workers(other)] == [0]


def test_input_that_is_put_off_keeps_its_order_and_its_half_message():
    """A turn that is over in the middle of one session's input, with whole and half messages of others behind it."""
    with Node(servants=SERVANT) as node, Client(node.tcp) as one, Client(node.tcp) as two, Client(node.tcp) as three:
        half = request(7, "sys.echo", "x" * 100000)
        two.send(half[:50000])
        one.send(b"".join(request(i, "r.burn", 30) for i in range(10)))
        two.send(half[50000:90000])
        three.send(b"".join(request(i, "sys.echo", i) for i in range(1000)))
        time.sleep(0.1)
        two.send(half[90000:] + request(8, "sys.echo", 8))
        assert [three.recv() for _ in range(1000)] == [[1, i, None, i] for i in range(1000)]
        assert [two.recv() for _ in range(2)] == [[1, 7, None, "x" * 100000], [1, 8, None, 8]]
        assert [one.recv()[1] for _ in range(10)] == list(range(10))


def test_sessions_that_flood_do_not_keep_others_from_being_read():
    """More sessions with full socket buffers than one turn's input has room for."""
    burst = request(1, "sys.noop") * 40000
    with Node() as node, Client(node.tcp) as quiet:
        floods = [Client(node.tcp) for _ in range(40)]
        over = threading.Event()

        def write(client):
            try:
                while not over.is_set():
                    client.sock.sendall(burst)
            except OSError:
                pass

        def read(client):
            try:
                while client.sock.recv(1 << 18):
                    pass
            except OSError:
                pass

        threads = [threading.Thread(target=do, args=(c,), daemon=True) for c in floods for do in (write, read)]
        for thread in threads:
            thread.start()
        try:
            time.sleep(0.5)
            for i in range(20):
                try:
                    assert quiet.call("sys.echo", i) == i
                except RpcError as err:
                    assert err.code == "CONGESTED"  # read all the same, on a machine with little time for the worker
        finally:
            over.set()
            for client in floods:
                client.sock.shutdown(2)
            for thread in threads:
                thread.join()
            for client in floods:
                client.close()


def test_output_of_a_client_that_is_never_quite_through_does_not_pile_up():
    n_bytes = 60000
    with Node() as node, Client(node.unix) as client, Client(node.tcp) as other:
        worker = workers(other)[0]["pid"]
        ahead, total = 16, 4000
        ask = request(1, "sys.echo", b"x" * n_bytes)
        client.send(ask * ahead)
        before = memory_kib(worker)
        answer = len(pack([1, 1, None, b"x" * n_bytes]))
        for _ in range(total - ahead):
            client.send(ask)
            assert len(client.read_bytes(answer)) == answer
        grown = memory_kib(worker) - before
        # ASan keeps up to 256 MiB of what was freed.
        assert SANITIZED or grown < 20000, "%d KiB after %d MiB" % (grown, total * n_bytes >> 20)


def test_a_client_that_goes_on_writing_after_refused_bytes_holds_nobody_up():
    with Node() as node, Client(node.tcp) as other:
        flood = Client(node.tcp)
        flood.send(b"\xc1")

        def write():
            try:
                while True:
                    flood.sock.sendall(b"\0" * (1 << 20))
            except OSError:
                pass

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        for i in range(100):
            assert other.call("sys.echo", i) == i
        thread.join(10 * SLOW)
        assert not thread.is_alive(), "it is still read"
        flood.close()


def test_a_message_that_comes_in_pieces_and_needs_too_much_memory_fails_once():
    """It is the last in its buffer, where what was run already must not be run again."""
    with Node('lua_memory_max "16MiB"', SERVANT, expect=NO_MEMORY) as node, Client(node.tcp) as client:
        client.send(request(1, "r.count", "x" * 100000)[:70000])
        time.sleep(0.1)
        client.send(request(1, "r.count", "x" * 100000)[70000:] + request(2, "sys.echo", [{}] * 900000))
        assert client.recv() == [1, 1, None, 1]
        message = client.recv()
        assert message[:2] == [1, 2] and message[2].startswith("NO_MEMORY: "), message
        assert client.call("r.times") == 1
        assert client.is_open()


def test_memory_that_ran_out_comes_back():
    """By kinds that leave different things behind: a large table of strings must shrink before a collection can end."""
    conf = 'lua_memory_max "16MiB" watchdog(false)'  # such a collection may take seconds where others compute
    with Node(conf, SERVANT, expect=NO_MEMORY) as node, Client(node.tcp, timeout=30) as client:
        for _ in range(3):
            for method in ("r.strings", "r.closures", "r.closures", "r.strings"):
                assert client.error(method).code == "NO_MEMORY"
            wait_until("a call has memory again", lambda: len(client.call("sys.echo", "x" * 2000000)) == 2000000)
        assert workers(client)[0]["deaths"] == 0


def test_tasks_of_a_storm_are_given_back():
    """They sleep until nothing is left, wake one by one, and none may need memory to end."""
    with Node('lua_memory_max "16MiB"', SERVANT, expect=NO_MEMORY) as node, Client(node.tcp, timeout=30) as client:
        for _ in range(2):
            assert client.error("r.sleepers", 200000, 300).code == "NO_MEMORY"

            def calm():
                try:
                    return workers(client)[0]["lua_bytes"] < 8 << 20
                except RpcError as err:
                    assert err.code == "NO_MEMORY"

            wait_until("the memory of the sleepers is free", calm, 20)
        assert workers(client)[0]["deaths"] == 0


def test_a_spawned_function_that_spawns_itself_ends_with_its_generation():
    with Node(servants=SERVANT) as node, Client(node.tcp) as client:
        assert client.call("r.again")
        for generation in (2, 3):
            done = subprocess.run([FAE, "reload", "--wait", "--run-dir", node.run_dir], capture_output=True, text=True,
                                  timeout=20 * SLOW, check=False)
            assert (done.returncode, done.stdout) == (0, "generation %d\n" % generation), done
            assert client.call("r.again")
        assert workers(client)[0]["deaths"] == 0


def test_parallel_has_a_depth():
    with Node(servants=SERVANT, expect=["nested deeper than 64"]) as node, Client(node.tcp) as client:
        assert client.call("r.nested", 60) == 60
        assert client.call("r.nested", 100000) == 65
        assert client.call("r.nested", 60) == 60


def test_tasks_have_the_context_of_the_session():
    with Node(servants=SERVANT) as node, Client(node.tcp) as client:
        client.call("sys.ctx", {"uid": 7})
        assert client.call("r.uids") == [7, 7]
        assert client.call("r.uids", ctx={"uid": 8}) == [8, 8]


def test_a_timer_is_stopped_by_its_own_number_only():
    with Node(servants=SERVANT) as node, Client(node.tcp) as client:
        assert client.call("r.not_a_timer") == [True, False, False]


def test_a_client_of_fae_ctl_too_many_is_told_so():
    with Node() as node:
        idle = []
        try:
            while len(idle) < 40:
                try:
                    idle.append(connect("unix:" + node.run_dir + "/fae.ctl"))
                except BlockingIOError:  # its queue is full just now
                    time.sleep(0.01)
            asked = subprocess.run([FAE, "ctl", "--run-dir", node.run_dir, "ping"], capture_output=True, text=True,
                                   timeout=20 * SLOW, check=False)
            assert (asked.returncode, asked.stderr) == (1, "fae ctl: BUSY: too many clients of fae.ctl\n"), asked
        finally:
            for sock in idle:
                sock.close()
