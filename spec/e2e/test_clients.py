# SPDX-License-Identifier: BSD-2-Clause
"""The thin clients of lib/: a language's example calls what it reads, all at once, and prints answers in order (I10).

Go takes half a minute to compile its library the first time, so it is among them when FAE_LONG=1 and `go` is there.
"""
import json
import os
import shutil
import subprocess
import sys
import threading

import pytest

from harness import FAE, LONG, ROOT, SLOW, Node, wait_until

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(ROOT, "lib", "python"))
import fae  # noqa: E402

LIB = os.path.join(ROOT, "lib")
WORK = os.path.join(os.path.dirname(FAE), "clients")  # what was installed or compiled stays there


def build(language, *command):
    """Runs a language's own tool in a copy of its folder."""
    folder = os.path.join(WORK, language)
    shutil.copytree(os.path.join(LIB, language), folder, dirs_exist_ok=True)
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True, timeout=200,
                          env=dict(os.environ, GOFLAGS="-mod=readonly -buildvcs=false"))
    assert done.returncode == 0, done.stdout
    return folder


def python_command():
    return [sys.executable, "-B", os.path.join(LIB, "python", "example.py")]


def node_command():
    with open(os.path.join(LIB, "node", "package.json")) as f:
        wanted = json.load(f)["dependencies"]["@msgpack/msgpack"]
    installed = os.path.join(WORK, "node", "node_modules", "@msgpack", "msgpack", "package.json")
    command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--prefer-offline"]
    if os.path.exists(installed):
        with open(installed) as f:
            if json.load(f)["version"] == wanted:
                command = ["node", "--version"]
    return ["node", os.path.join(build("node", *command), "example.js")]


def go_command():
    return [os.path.join(build("go", "go", "build", "-o", "fae-example", "./example"), "fae-example")]


COMMANDS = {"python": python_command, "node": node_command}
if LONG and shutil.which("go"):
    COMMANDS["go"] = go_command


@pytest.fixture(scope="module", params=COMMANDS)
def example(request):
    return COMMANDS[request.param]()


@pytest.fixture(scope="module")
def node():
    with Node(servants=["probe"], workers=2, expect=[r"worker-\d"]) as n:
        yield n


def run(example, address, calls):
    lines = "".join("%s %s\n" % (method, json.dumps(params)) for method, *params in calls)
    done = subprocess.run(example + [address], input=lines, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8", timeout=30 * SLOW)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


ROWS = [  # a call, and its answer
    (["hello.greet", "Ada"], "Hello, Ada!"),
    (["probe.wait", 60, "slow"], "slow"),
    (["nope.nope"], {"error": "UNKNOWN_METHOD"}),
    (["probe.add", "x", 1], {"error": "BAD_ARGS"}),
    (["probe.fail", "SOLD_OUT", "no more"], {"error": "SOLD_OUT"}),
    (["probe.wait", 20, "middle"], "middle"),
    (["sys.echo", None], None),
    (["sys.echo", {"a": [1, -5, "ä \U0001f600", None, 2**32, True, 1.5, -2**31]}],
     {"a": [1, -5, "ä \U0001f600", None, 2**32, True, 1.5, -2**31]}),
    (["probe.text", 300000], "x" * 300000),
]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_calls_are_answered_in_their_order(example, node, kind):
    answers = run(example, getattr(node, kind), [call for call, _ in ROWS])
    assert answers == [answer for _, answer in ROWS]


def test_the_context_goes_along(example, node):
    first, second = (run(example, node.tcp, [["probe.call"], ["probe.call"]]) for _ in range(2))
    assert first[0]["rid"] == first[1]["rid"] != second[0]["rid"]
    assert first[0]["rid"] > 0
    assert first[0]["reason"].startswith("example")
    assert 3000 < first[0]["left_ms"] <= 5000


def test_a_lost_connection_is_told(example, node):
    process = subprocess.Popen(example + [node.tcp], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, encoding="utf-8")
    killer = threading.Thread(target=kill_the_busy, args=(node,))
    killer.start()
    out, err = process.communicate("probe.wait [4000]\n", timeout=30 * SLOW)
    killer.join()
    assert "WORKER_LOST" in out + err
    wait_until("all are back", lambda: [row["state"] for row in node.workers().values()] == ["ready"] * 3)


def kill_the_busy(node):
    busy = wait_until("a worker has the call", lambda: [row for row in node.workers().values() if row["calls"]], 20)
    os.kill(busy[0]["pid"], 9)


# ---- what only Python says in full ----


def test_python_bytes_and_large_numbers(node):
    client = fae.Client(node.unix)
    for value in (b"\xff\x00", "ä", 2**64 - 1, -2**63, 2**53 + 1, {5: "five"}, [], list(range(1000))):
        assert client.call("sys.echo", value) == value
    assert client.call("sys.echo", b"text") == "text"


def test_python_errors(node):
    client = fae.Client(node.tcp)
    with pytest.raises(fae.Error) as caught:
        client.call("probe.fail", "SOLD_OUT", "no more", {"retryable": True, "detail": {"left": 0}})
    assert str(caught.value) == "SOLD_OUT: no more"
    assert (caught.value.code, caught.value.retryable, caught.value.detail) == ("SOLD_OUT", True, {"left": 0})
    assert client.call("probe.add", 1, 2) == 3


def test_python_ends_with_a_timeout(node):
    client = fae.Client(node.unix, timeout_s=0.2)
    client.context["deadline_ms"] = 4000  # so that it is not the node that ends the call
    with pytest.raises(TimeoutError):
        client.call("probe.wait", 1000)
    with pytest.raises(OSError):
        client.call("probe.add", 1, 2)


def test_python_notifies(node):
    client = fae.Client(node.tcp)
    client.call("probe.noted")
    client.notify("probe.note", "unanswered")
    assert client.call("probe.noted")[0]["value"] == "unanswered"


def test_pynvim_is_a_client(node):
    """As lib/python/README.md says. Its loop of asyncio wants a thread's only one, so in a process of its own."""
    script = """if True:
        import sys
        from pynvim.msgpack_rpc import socket_session, tcp_session
        host, port = sys.argv[1][len("tcp://"):].split(":")
        for session in (tcp_session(host, int(port)), socket_session(sys.argv[2][len("unix:"):])):
            session.error_wrapper = Exception
            print(session.request("hello.greet", "Ada"))
            session.request("probe.note", 1, async_=True)
            try:
                session.request("nope.nope")
            except Exception as error:
                print(error)
            session.close()
    """
    done = subprocess.run([sys.executable, "-c", script, node.tcp, node.unix], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=30 * SLOW)
    assert done.stdout.splitlines() == ["Hello, Ada!", 'UNKNOWN_METHOD: no method "nope.nope"'] * 2, done.stderr
