# SPDX-License-Identifier: BSD-2-Clause
"""Stock msgpack-RPC clients that nobody here wrote (I10): Neovim, pynvim's session, PHP's msgpack extension; and our
own command line, which is one client more."""
import json
import os
import subprocess
import sys

import pytest

from harness import SLOW, Node

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(scope="module")
def node():
    with Node(servants=["probe"]) as n:
        yield n


@pytest.fixture(params=["tcp", "unix"])
def kind(request):
    return request.param


def run(args, env=None, seconds=60):
    done = subprocess.run(args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          env=dict(os.environ, **(env or {})), timeout=seconds * SLOW)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert done.returncode == 0, "exit code %d\n%s\n%s" % (done.returncode, out, err)
    return out


# ---- Neovim ----

VIM = r"""
function! Fail(what)
  call writefile([a:what], $OUT)
  cquit!
endfunction
function! Same(what, got, want)
  if a:got !=# a:want || type(a:got) != type(a:want)
    call Fail(a:what . ': got ' . string(a:got)[0:300] . ', want ' . string(a:want)[0:300])
  endif
endfunction
try
  let ch = sockconnect($MODE, $ADDR, { 'rpc': v:true })
  if ch <= 0 | call Fail('no connection') | endif
  call Same('add', rpcrequest(ch, 'probe.add', 40, 2), 42)
  call Same('negative', rpcrequest(ch, 'probe.add', -40, -2), -42)
  for value in [0, -1, 9223372036854775807, -9223372036854775807, 1.5, 'text', 'é€😀', '', [], [1, [2, [3]]],
      \ {}, {'a': {'b': ['c']}},
      \ v:true, v:false, v:null]
    call Same('echo', rpcrequest(ch, 'sys.echo', value), value)
  endfor
  let big = repeat('x', 1048576)
  call Same('1 MB', rpcrequest(ch, 'sys.echo', big), big)
  call rpcrequest(ch, 'probe.noted')
  call rpcnotify(ch, 'probe.note', { 'from': 'nvim' })
  call rpcnotify(ch, 'no.such.method', 1)
  call Same('notify', rpcrequest(ch, 'probe.noted'), [{ 'value': { 'from': 'nvim' } }])
  for [method, want] in [['no.such', 'UNKNOWN_METHOD: no method "no.such"'],
      \ ['probe.a_int', 'BAD_ARGS: argument 1 of probe.a_int is missing: int']]
    let text = 'no error'
    try
      call rpcrequest(ch, method)
    catch
      let text = v:exception
    endtry
    if stridx(text, want) < 0 | call Fail('error: ' . text) | endif
  endfor
  for i in range(300)
    call Same('many', rpcrequest(ch, 'sys.noop', i), i)
  endfor
  call Same('wait', rpcrequest(ch, 'probe.wait', 20, 'waited'), 'waited')
  call Same('hello', rpcrequest(ch, 'hello.greet', 'Neovim'), 'Hello, Neovim!')
  call chanclose(ch)
  call writefile(['good'], $OUT)
catch
  call Fail(v:throwpoint . ': ' . v:exception)
endtry
qall!
"""


def test_neovim(node, kind, tmp_path):
    script, out = tmp_path / "spec.vim", tmp_path / "out"
    script.write_text(VIM)
    addr = node.tcp[len("tcp://"):] if kind == "tcp" else node.unix[len("unix:"):]
    env = {"MODE": "tcp" if kind == "tcp" else "pipe", "ADDR": addr, "OUT": str(out), "XDG_DATA_HOME": str(tmp_path),
           "XDG_STATE_HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "HOME": str(tmp_path)}
    try:
        run(["nvim", "--headless", "--clean", "-n", "-i", "NONE", "-S", str(script)], env)
    except AssertionError as err:
        raise AssertionError("%s\n%s" % (out.read_text() if out.exists() else "nothing written", err))
    assert out.read_text() == "good\n"


# ---- pynvim: its session is a msgpack-RPC client of its own ----

PYNVIM = r"""
import sys
from pynvim.msgpack_rpc import socket_session, tcp_session

kind, addr = sys.argv[1:]
if kind == "tcp":
    host, port = addr.rsplit(":", 1)
    session = tcp_session(host, int(port))
else:
    session = socket_session(addr)

assert session.request("probe.add", 40, 2) == 42
for value in (0, -1, 2**63 - 1, -2**63, 2**64 - 1, 1.5, "text", "\u00e9\u20ac", "", [], [1, [2]], {},
              {"a": {"b": [None]}}, True, None):
    got = session.request("sys.echo", value)
    assert got == value and type(got) is type(value), (value, got)
big = "x" * (1 << 20)
assert session.request("sys.echo", big) == big
session.request("probe.noted")
session.request("probe.note", {"from": "pynvim"}, async_=True)
session.request("no.such.method", 1, async_=True)
assert session.request("probe.noted") == [{"value": {"from": "pynvim"}}]
bad = (("no.such", (), 'no method "no.such"'),
       ("probe.a_int", ("x",), "argument 1 of probe.a_int must be int, not string"),
       ("probe.fail", ("NOT_FOUND", "nothing"), "nothing"), ("sys.echo", ({None: 1},), "a map key must be"))
def failures():
    texts = []
    for method, args, _ in bad:
        try:
            session.request(method, *args)
        except Exception as err:
            texts.append(str(err))
        else:
            raise AssertionError(method)
    return texts
# What an error becomes is for the session's owner to say: an Exception of the text, or as pynvim.Nvim does.
session.error_wrapper = Exception
codes = ("UNKNOWN_METHOD", "BAD_ARGS", "NOT_FOUND", "BAD_ARGS")
for text, code, (_, _, want) in zip(failures(), codes, bad):
    assert text.startswith(code + ": " + want), text
session.request("sys.hello", {"error": "array"})
session.error_wrapper = lambda e: Exception(e[1])
for text, (_, _, want) in zip(failures(), bad):
    assert text.startswith(want), text

# Many at a time: answers in any order find their requests.
got = []
def on_setup():
    import greenlet
    for i in range(100):
        def one(i=i):
            got.append((i, session.request("probe.wait", (100 - i) % 30, i)))
            if len(got) == 100:
                session.stop()
        greenlet.greenlet(one).switch()
session.run(lambda *a: None, lambda *a: None, on_setup)
assert sorted(got) == [(i, i) for i in range(100)], got[:5]
assert [i for i, _ in got] != list(range(100)), "they came in order"
session.close()
print("good")
"""


def test_pynvim(node, kind):
    addr = node.tcp[len("tcp://"):] if kind == "tcp" else node.unix[len("unix:"):]
    assert run([sys.executable, "-c", PYNVIM, kind, addr]) == "good\n"


# ---- PHP ----


def test_php(node, kind):
    addr = node.tcp if kind == "tcp" else "unix://" + node.unix[len("unix:"):]
    out = run(["php", "-d", "display_errors=stderr", os.path.join(HERE, "interop.php"), addr])
    assert out == "good\n", out


# ---- fae call ----


def call(node, kind, *args):
    done = node.run("call", "-s", node.tcp if kind == "tcp" else node.unix, *args)
    return done.returncode, done.stdout, done.stderr


def test_fae_call(node, kind):
    assert call(node, kind, "probe.add", "40", "2") == (0, "42\n", "")
    for text in ("null", "true", "0", "-1", "18446744073709551615", "-9223372036854775808", "1.5", '"text"',
                 '"\u00e9\u20ac"', "[]",
                 "{}", '[1,[2,{"a":null}]]', '{"$bin":"ff00"}'):
        code, out, err = call(node, kind, "sys.echo", text)
        assert code == 0 and json.loads(out) == json.loads(text), (text, out, err)
    assert call(node, kind, "-r", "hello.greet", '"you"') == (0, "Hello, you!\n", "")
    code, out, err = call(node, kind, "no.such")
    assert code == 1 and out == "" and 'UNKNOWN_METHOD: no method "no.such"' in err
    code, _, err = call(node, kind, "-t", "100", "probe.wait", "3000")
    assert code == 1 and "TIMEOUT" in err
    code, _, err = call(node, kind, "sys.echo", "{bad json")
    assert code == 2 and err
    assert call(node, kind)[0] == 2
    code, out, _ = call(node, kind, "probe.text", "1000000")
    assert code == 0 and len(out) == 1000003


def test_fae_call_finds_nobody(node):
    done = node.run("call", "-s", "unix:%s/nowhere.sock" % node.folder, "sys.ping")
    assert done.returncode == 1 and "UNAVAILABLE" in done.stderr
    done = node.run("call", "-s", "nonsense", "sys.ping")
    assert done.returncode == 2


@pytest.mark.parametrize("flags", [[], ["--connect-per-call"]])
def test_fae_bench(node, kind, flags):
    done = node.run("bench", "-s", node.tcp if kind == "tcp" else node.unix, "-c", "4", "-n", "400", "--json", *flags,
                    "sys.echo", '{"a":1}')
    assert done.returncode == 0, done.stderr
    row = json.loads(done.stdout)
    assert row["answered"] == row["ok"] == 400 and row["failed"] == row["lost"] == 0, row
    done = node.run("bench", "-s", node.tcp, "-c", "2", "-n", "10", "--json", "no.such")
    assert done.returncode == 1
