# SPDX-License-Identifier: BSD-2-Clause
"""fae.breaker over workers, what operators see of breakers, and what a killed worker leaves of them (nothing)."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.request

import pytest

from harness import SLOW, Node, wait_until

TOKEN = "a token of the spec"
PROMTOOL = shutil.which("promtool")

SERVANT = """
local fae = require "fae"
local about = require("fae.node").about
local probe = fae.servant "probe"
local breakers = {}
local function breaker(name, options) breakers[name] = fae.breaker(name, options) end
breaker("slow", { calls = 4, open_ms = 600000 })
breaker("quick", { calls = 4, open_ms = 50 })
breaker("dropped", { calls = 2, open_ms = 600000 })
breaker("forced")

local function answer(code)
  if code == "ok" then return true end
  return nil, fae.err(code, "as told")
end
probe.method("worker", function() return about().slot end)
probe.method("pid", function() return about().pid end)
probe.method("state", { args = { "string" } }, function(call, name) return breakers[name]:state() end)
probe.method("call", { args = { "string", "string" } }, function(call, name, code)
  return breakers[name]:call(answer, code)
end)
probe.method("hold", { args = { "string" }, timeout_ms = 600000 }, function(call, name)
  return breakers[name]:call(fae.sleep, 500000)
end)
probe.method("stubborn", { args = { "string" }, timeout_ms = 50 }, function(call, name)
  return breakers[name]:call(function() while true do fae.sleep(1000) end end)
end)
return probe
"""


@pytest.fixture(scope="module")
def node():
    conf = 'admin_token "%s"' % hashlib.sha256(TOKEN.encode()).hexdigest()
    with Node(conf=conf, servants={"probe.lua": SERVANT}, workers=2) as n:
        yield n


@pytest.fixture
def workers(node):
    """A client of each worker."""
    clients = []

    def one_of(slot):
        c = node.client()
        clients.append(c)
        return c if c.call("probe.worker") == slot else None

    try:
        yield [wait_until("a client of worker %d" % slot, lambda s=slot: one_of(s)) for slot in (0, 1)]
    finally:
        for c in clients:
            c.close()


def get(node, path, token=TOKEN, body=None):
    headers = {"Authorization": "Bearer " + token} if token else {}
    request = urllib.request.Request(node.admin + path, data=body and json.dumps(body).encode(), headers=headers)
    with urllib.request.urlopen(request, timeout=10 * SLOW) as answer:
        return answer.read().decode()


def row(node, name):
    rows = json.loads(get(node, "/admin/backends"))["backends"]
    return next(r for r in rows if r["name"] == "servant/" + name)


def open_it(client, name):
    while client.call("probe.state", name) == "closed":
        assert client.error("probe.call", name, "TIMEOUT").code == "TIMEOUT"
    assert client.call("probe.state", name) == "open"


def test_one_breaker_for_both_workers(node, workers):
    a, b = workers
    for client in a, b, a, b:
        assert client.error("probe.call", "slow", "TIMEOUT").code == "TIMEOUT"
    for client in a, b:
        assert client.call("probe.state", "slow") == "open"
        refused = client.error("probe.call", "slow", "ok")
        assert (refused.code, refused.text.startswith("servant slow: ")) == ("CIRCUIT_OPEN", True)
    with node.client() as c:
        c.call("sys.hello", {"error": "map"})
        assert 500000 < c.error("probe.call", "slow", "ok").value["retry_after_ms"] <= 600000
    r = row(node, "slow")
    assert (r["breaker"], r["mode"], r["opened"], r["calls"], r["timeouts"], r["rejected"]) == ("open", "auto", 1, 4, 4, 3)
    assert r["why"] == "4 of 4 calls in 10 s failed"
    lines = wait_until("it is logged", lambda: [line for line in node.log().splitlines() if "servant slow: " in line])
    assert len(lines) == 1 and "left alone for" in lines[0] and r["why"] in lines[0]


def test_what_is_dropped_at_its_deadline_has_failed(node, workers):
    for client in workers:
        assert client.error("probe.stubborn", "dropped").code == "TIMEOUT"
    wait_until("it is open", lambda: row(node, "dropped")["breaker"] == "open")
    assert row(node, "dropped")["timeouts"] == 2


def hold(node, client, name):
    """Takes all three places of a half-open breaker; gives the calls' ids."""
    ids = []
    for n in 1, 2, 3:
        while row(node, name)["probes"] < n:  # refused until it may be tried, and answered at once then
            ids.append(client.start("probe.hold", name))
            wait_until("it is in or refused", lambda: row(node, name)["probes"] >= n or not client.is_open())
            if not client.is_open():
                assert client.recv()[2].startswith("CIRCUIT_OPEN")
                ids.pop()
    return ids


def close_it(client, name):
    assert wait_until("there is a place", lambda: try_it(client, name))
    while client.call("probe.state", name) != "closed":
        assert try_it(client, name)


def try_it(client, name):
    msgid = client.start("probe.call", name, "ok")
    message = client.recv()
    assert message[1] == msgid
    return message[2] is None


def test_who_hangs_up_gives_its_place_back(node, workers):
    open_it(workers[0], "quick")
    hold(node, workers[0], "quick")
    assert workers[1].error("probe.call", "quick", "ok").code == "CIRCUIT_OPEN"
    workers[0].close()
    wait_until("the places are free", lambda: row(node, "quick")["probes"] == 0)
    assert row(node, "quick")["breaker"] == "half-open"
    close_it(workers[1], "quick")


def test_a_killed_worker_leaves_no_probe(node, workers):
    before = row(node, "quick")
    open_it(workers[1], "quick")
    hold(node, workers[0], "quick")
    assert workers[1].error("probe.call", "quick", "ok").code == "CIRCUIT_OPEN"
    node.expect.append(r"worker-0.*killed|killed.*worker-0|died|signal")
    pid = next(int(line.split("pid=")[1].split()[0]) for line in node.ctl("status").stdout.splitlines()
               if line.startswith("worker-0 "))
    os.kill(pid, signal.SIGKILL)
    wait_until("the places are free", lambda: row(node, "quick")["probes"] == 0, 8 / SLOW)  # long before they expire
    close_it(workers[1], "quick")
    after = row(node, "quick")
    assert after["closed"] == before["closed"] + 1
    assert after["calls"] > before["calls"]  # what the dead one counted is kept
    wait_until("it is logged", lambda: "servant quick: is fine again after" in node.log())
    wait_until("there are two again", lambda: node.ctl("status").stdout.count("state=ready") == 3)


def ctl(node, *args):
    done = node.ctl(*args)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_operator_opens_and_closes(node, workers):
    a, b = workers
    assert ctl(node, "breaker", "servant/forced", "open") == "1 breaker\n"
    for client in a, b:
        assert client.error("probe.call", "forced", "ok").code == "CIRCUIT_OPEN"
    table = ctl(node, "backends")
    assert [line for line in table.splitlines() if line.startswith("forced open ") and line.endswith("servant forced")], table
    assert ctl(node, "breaker", "servant forced", "close") == "1 breaker\n"  # as the log and the table have it
    for _ in range(30):
        assert a.error("probe.call", "forced", "TIMEOUT").code == "TIMEOUT"
    assert b.call("probe.call", "forced", "ok") is True
    with pytest.raises(urllib.error.HTTPError) as refused:
        get(node, "/admin/breaker", token=None, body={"name": "servant/forced", "to": "open"})
    assert refused.value.code == 403
    said = json.loads(get(node, "/admin/breaker", body={"name": "servant/forced", "to": "auto"}))
    assert said["ok"] and said["message"] == "1 breaker"
    assert row(node, "forced")["mode"] == "auto"
    open_it(b, "forced")
    ctl(node, "breaker", "servant/forced", "auto")
    assert a.call("probe.call", "forced", "ok") is True
    for args in ("servant/none", "open"), ("servant", "open"), ("servant/forced", "ajar"), ("open",), ():
        assert node.ctl("breaker", *args).returncode != 0, args
    assert "forced: left alone: uid " in node.log()


def test_metrics_and_stats_tell_of_them(node, workers):
    text = get(node, "/metrics", token=None)
    labels = '{kind="servant",pool="slow",server=""'
    for line in ('fae_backend_calls_total%s} 4' % labels, 'fae_backend_rejected_total%s} 3' % labels,
                 'fae_backend_breaker_state%s,state="open"} 1' % labels,
                 'fae_backend_breaker_transitions_total%s,to="open"} 1' % labels):
        assert line in text.splitlines()
    done = subprocess.run([PROMTOOL, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    stats = json.loads(ctl(node, "stats"))
    names = [r["name"] for r in stats["backends"]]
    assert sorted(names) == ["servant/dropped", "servant/forced", "servant/quick", "servant/slow"]
    assert [r["name"] for r in json.loads(get(node, "/stats", token=None))["backends"]] == names
    top = json.loads(node.run("top", "--run-dir", node.run_dir, "--once", "--json", "-i", "0.1").stdout)
    assert next(r for r in top["backends"] if r["name"] == "servant/slow")["breaker"] == "open"


def test_a_reload_keeps_what_is_open_and_forgets_what_is_gone(node, workers):
    node.write("probe.lua", SERVANT.replace('breaker("dropped"', 'breaker("other"'))
    ctl(node, "reload", "wait")
    with node.client() as c:
        assert c.call("probe.state", "slow") == "open"
    ctl(node, "gc")
    names = wait_until("the old one is gone", lambda: [
        n for n in [[r["name"] for r in json.loads(ctl(node, "stats"))["backends"]]] if "servant/dropped" not in n])
    assert "servant/other" in names[0]
