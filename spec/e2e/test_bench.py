# SPDX-License-Identifier: BSD-2-Clause
"""`fae bench` against a node: to the call what the node itself counted, whatever the load is and whatever breaks."""
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from harness import FAE, SLOW, Node, wait_until

# Keeps what it was called with; one worker, so one table.
LEDGER = """
local fae = require "fae"
local ledger = fae.servant "ledger"
local seen, n, most = {}, 0, 0

ledger.method("add", { args = { "int", "string" } }, function(_, seq, name)
  if seen[seq] then return nil, fae.err("BAD_ARGS", "twice: " .. seq) end
  if name ~= "user:" .. seq then return nil, fae.err("BAD_ARGS", "not the same number: " .. name) end
  seen[seq], n, most = true, n + 1, math.max(most, seq)
  return n
end)
ledger.method("sum", { args = {} }, function() return { n = n, most = most } end)

return ledger
"""

MIX = """# half of it never answers well
3 sys.echo {"id": {{seq}}, "name": "user:{{rand:1:1000}}", "text": "{{str:20}}"}

2 sys.noop
1 ledger.add {{seq}} "nobody"
"""


@pytest.fixture(scope="module")
def node():
    with_ledger = Node(servants={"ledger.lua": LEDGER})
    yield with_ledger
    with_ledger.stop()


def bench(node, *args, code=0, addr=None):
    """The figures of a run."""
    done = subprocess.run([FAE, "bench", "-s", addr or node.tcp, "--json"] + list(args), capture_output=True, text=True,
                          timeout=30 * SLOW)
    assert done.returncode == code, done.stdout + done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def counters(node):
    """{method: (calls, errors)} as the node counts them."""
    done = subprocess.run([FAE, "ctl", "--run-dir", node.run_dir, "stats"], capture_output=True, text=True,
                          timeout=10 * SLOW, check=True)
    return {m["name"]: (m["calls"], m["errors"]) for m in json.loads(done.stdout)["methods"]}


def counted(node, *args, **kwargs):
    """A run's figures, held against what the node's counters rose by."""
    before = counters(node)
    figures = bench(node, *args, **kwargs)
    after = counters(node)
    rose = {name: tuple(b - a for a, b in zip(before.get(name, (0, 0)), after[name])) for name in after}
    ours = {m["method"]: (m["sent"], m["failed"]) for m in figures["methods"]}
    assert {name: n for name, n in rose.items() if n[0]} == ours
    assert figures["sent"] == figures["ok"] + sum(e["n"] for e in figures["errors"].values())
    assert figures["sent"] == sum(m["sent"] for m in figures["methods"])
    assert figures["answered"] == sum(m["answered"] for m in figures["methods"])
    return figures


LOADS = {
    "plain": ["-d", "0.2", "sys.noop"],
    "batches": ["-d", "0.2", "-p", "16", "sys.echo", '{"a": [1, 2]}'],
    "counted": ["-n", "1234", "-p", "7", "-c", "11", "sys.noop"],
    "threads": ["-d", "0.2", "-p", "4", "--threads", "3", "sys.noop"],
    "short": ["-d", "0.2", "--connect-per-call", "--spread", "4", "sys.noop"],
    "rate": ["-d", "0.3", "--rate", "2000", "sys.noop"],
    "rate, short": ["-d", "0.3", "--rate", "1000", "--threads", "2", "--connect-per-call", "sys.noop"],
    "random texts": ["-d", "0.2", "-p", "3", "--threads", "2", "sys.echo", '"{{str:50}}"'],
}


@pytest.mark.parametrize("name", LOADS)
def test_counts_agree(node, name):
    figures = counted(node, *LOADS[name])
    assert figures["failed"] == figures["lost"] == figures["stray"] == 0
    assert figures["ok"] > 100 or SLOW > 1
    assert 0 < figures["p50_us"] <= figures["p99_us"] <= figures["p9999_us"] <= figures["max_us"]
    if "-n" in LOADS[name]:
        assert figures["sent"] == 1234


def test_unix(node):
    assert counted(node, "-d", "0.2", "-p", "4", "sys.noop", addr=node.unix)["failed"] == 0


def test_rate_is_kept(node):
    figures = counted(node, "-d", "1.6", "--rate", "2500", "--threads", "2", "sys.noop")
    assert figures["sent"] + figures["unsent"] == 4000
    if figures["unsent"] == 0 and SLOW == 1:
        assert 2000 < figures["calls_per_s"] < 2750


def test_mix(node, tmp_path):
    path = tmp_path / "mix"
    path.write_text(MIX)
    figures = counted(node, "-n", "3000", "-c", "10", "-p", "4", "--threads", "2", "--mix", str(path), code=1)
    share = {m["method"]: m["sent"] / 3000 for m in figures["methods"]}
    assert share == pytest.approx({"sys.echo": 1 / 2, "sys.noop": 1 / 3, "ledger.add": 1 / 6}, abs=0.06)
    assert figures["errors"]["BAD_ARGS"]["n"] == figures["failed"] == figures["methods"][2]["sent"]


def test_every_number_once(node):
    """{{seq}} over several threads and batches: 1 to the number of calls, none twice; and the same within a call."""
    figures = counted(node, "-n", "900", "-c", "9", "-p", "5", "--threads", "3", "ledger.add", "{{seq}}",
                      '"user:{{seq}}"')
    assert figures["ok"] == 900
    out = subprocess.run([FAE, "call", "-s", node.tcp, "ledger.sum"], capture_output=True, text=True, check=True)
    assert json.loads(out.stdout) == {"n": 900, "most": 900}


def test_unknown_method(node):
    figures = bench(node, "-n", "50", "sys.nop", code=1)
    assert (figures["sent"], figures["ok"], figures["answered"]) == (50, 0, 50)
    assert figures["errors"]["UNKNOWN_METHOD"]["n"] == 50


def test_raw(node):
    before = counters(node)["sys.noop"][0]
    figures = bench(node, "-n", "500", "-p", "10", "--raw", "940000a87379732e6e6f6f7090", "--raw-answer-bytes", "5")
    assert (figures["ok"], figures["stray"], figures["method"]) == (500, 0, "raw bytes")
    assert counters(node)["sys.noop"][0] - before == 500


@pytest.mark.parametrize("args", [[], ["--connect-per-call"], ["--rate", "3000"]], ids=["closed", "short", "open"])
def test_killed_worker(args):
    """What breaks on the way is counted once: sent is what was answered well and what failed, by kind."""
    node = Node(workers=2, conf="", expect=[r"\bworker\b"])
    try:
        load = subprocess.Popen([FAE, "bench", "-s", node.tcp, "--json", "-c", "20", "-d", "2", *args, "sys.noop"],
                                stdout=subprocess.PIPE, text=True)
        while counters(node).get("sys.noop", [0])[0] < 1000:  # under way
            time.sleep(0.02)
        stats = json.loads(subprocess.run([FAE, "ctl", "--run-dir", node.run_dir, "stats"], capture_output=True,
                                          text=True, check=True).stdout)
        victim = max(stats["workers"], key=lambda w: w["accepted"])  # one may have got them all
        os.kill(victim["pid"], signal.SIGKILL)
        figures = json.loads(load.communicate(timeout=30 * SLOW)[0])
        assert load.returncode == (1 if figures["failed"] else 0)
        assert figures["sent"] == figures["ok"] + sum(e["n"] for e in figures["errors"].values())
        assert figures["answered"] == figures["ok"]
        assert figures["ok"] > figures["sent"] / 2
        answered = counters(node)["sys.noop"][0]
        assert figures["ok"] <= answered <= figures["sent"]
        if "--connect-per-call" not in args:
            assert figures["lost"] > 0
            assert figures["connects"] > 20
        node.stop()
    finally:
        node.kill()


def test_interrupted(node):
    load = subprocess.Popen([FAE, "bench", "-s", node.tcp, "--json", "-d", "60", "sys.noop"], stdout=subprocess.PIPE,
                            text=True)
    before = counters(node)["sys.noop"][0]
    wait_until("calls arrive", lambda: counters(node)["sys.noop"][0] > before + 100)
    load.send_signal(signal.SIGINT)
    figures = json.loads(load.communicate(timeout=5 * SLOW)[0])
    assert figures["ok"] > 100
    assert figures["sent"] == figures["ok"] + sum(e["n"] for e in figures["errors"].values())


def test_table_and_progress(node):
    done = subprocess.run([FAE, "bench", "-s", node.tcp, "-d", "1.2", "--rate", "500", "--progress", "sys.noop"],
                          capture_output=True, text=True, timeout=30)
    assert done.returncode == 0
    assert "600 sent, 600 answered well, 0 failed" in done.stdout or "never sent" in done.stdout
    assert "us from when due" in done.stdout and "p99.99" in done.stdout
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and re.match(r" +[1-9]\.\d s  ", lines[0]) and "0 failed" in lines[0]


def test_progress_on_a_terminal(node):
    """There without being asked for, on one line, and gone at the end."""
    master, slave = pty.openpty()
    try:
        done = subprocess.run([FAE, "bench", "-s", node.tcp, "-d", "1.2", "--rate", "500", "sys.noop"],
                              stdout=subprocess.PIPE, stderr=slave, timeout=30)
        shown = b""
        while not re.search(rb" s  .*\r\033\[K$", shown) and select.select([master], [], [], 5)[0]:
            shown += os.read(master, 65536)  # a terminal hands on what was written a little later
    finally:
        os.close(master)
        os.close(slave)
    assert done.returncode == 0
    assert re.search(rb" [1-9]\.\d s  ", shown) and b"\n" not in shown and shown.endswith(b"\r\033[K")


def test_save_and_compare(node, tmp_path):
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    a.write_text("what was there before, and longer than what comes " * 100)
    one = bench(node, "-n", "100", "--save", str(a), "sys.noop")
    assert json.loads(a.read_text()) == one
    two = bench(node, "-n", "100", "-c", "5", "--save", str(b), "sys.noop")
    done = subprocess.run([FAE, "bench", "--compare", str(a), str(b)], capture_output=True, text=True, timeout=10)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {line[2:16].strip(): line[16:].split() for line in done.stdout.splitlines()[1:]}
    assert rows["conns"] == ["differs:", "50,", "then", "5"]
    for key, title in {"calls_per_s": "calls/s", "p50_us": "p50 us", "p9999_us": "p99.99 us"}.items():
        before, after, difference, ratio = map(float, rows[title])
        assert (before, after) == pytest.approx((one[key], two[key]), abs=0.1)
        assert difference == pytest.approx(after - before, abs=0.02)
        assert ratio == pytest.approx(after / before, abs=0.002)


def test_save_where_nobody_can(node, tmp_path):
    path = str(tmp_path / "no" / "file")
    done = subprocess.run([FAE, "bench", "-s", node.tcp, "-n", "1", "--save", path, "sys.noop"], capture_output=True,
                          text=True, timeout=10)
    assert (done.returncode, done.stdout) == (1, "")
    assert "No such file" in done.stderr


WRONG = [
    ([], "which method?"),
    (["--rate", "0", "a.b"], "--rate takes a number from 1"),
    (["--rate", "1.5", "a.b"], 'not "1.5"'),
    (["--threads", "65", "a.b"], "--threads takes a number from 1 to 64"),
    (["--threads", "4", "-c", "3", "a.b"], "4 threads need as many connections"),
    (["--method", "a.b"], "WEIGHT METHOD [JSON]... is wanted"),
    (["--method", "x a.b"], "the weight is a number"),
    (["--method", "1 a.b", "c.d"], '"c.d" is too many'),
    (["--method", "1 a.b", "--mix", "x"], "only one of"),
    (["--mix", "/nonexistent/mix"], "No such file"),
    (["--compare", "a"], "--compare takes two files"),
    (["--compare", "a", "b", "c.d"], "takes two files and nothing else"),
    (["a.b", '"{{nope}}"'], "{{nope}}: templates are"),
    (["--raw-compare", "3", "a.b"], "are for --raw"),
    (["--trhead", "2", "a.b"], 'did you mean "--threads"?'),
]


@pytest.mark.parametrize("args,text", WRONG, ids=[" ".join(w[0]) for w in WRONG])
def test_wrong_arguments(args, text):
    done = subprocess.run([FAE, "bench"] + args, capture_output=True, text=True, timeout=10 * SLOW)
    assert (done.returncode, done.stdout) == (2, "")
    assert text in done.stderr


def test_help_names_every_option():
    """And the options that it names are there."""
    text = subprocess.run([FAE, "bench", "--help"], capture_output=True, text=True, check=True).stdout
    named = {line.split()[0] for line in text.splitlines() if line.startswith("  -")}
    source = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src", "cmd")
    code = ""
    for name in ("bench.c", "trust.c"):
        with open(os.path.join(source, name)) as f:
            code += f.read()
    read = {word for word in code.split('"') if word.startswith("-") and word.strip("-").replace("-", "").isalpha()}
    assert read == named
