# SPDX-License-Identifier: BSD-2-Clause
"""Who may call what: roles by listener, account and token, in every place a token can be shown; wrong tokens; and that
no secret is ever shown (X4, X5, I11, D50)."""
import hashlib
import json
import os
import pwd
import re
import signal
import subprocess
import time
import urllib.request

import pytest

from harness import FAE, ROOT, Client, Closed, Node, RpcError, Stopwatch, pack, wait_until

TOKENS = {name: "%s-%s" % (name, hashlib.sha256(b"spec" + name.encode()).hexdigest()[:32])
          for name in ("web", "boss", "node", "nobody")}
ME = pwd.getpwuid(os.getuid()).pw_name


def sha(token):
    return hashlib.sha256(token.encode()).hexdigest()


def token_line(name, roles):
    return 'token "%s" { sha256 = "%s", roles = "%s" }\n' % (name, sha(TOKENS[name]), roles)


ROLES = """
role "web" { allow = { "shop.*", "sys.noop" }, deny = "shop.refund" }
role "boss" { allow = { "boss.*", "shop_refund", "sys.*" } }
role "node" { allow = "shop.buy", peer = true }
role "local" { allow = "boss.only" }
role "public" { allow = "sys.echo" }
"""
HOLDERS = (token_line("web", "web") + token_line("boss", "web boss") + token_line("node", "node")
           + token_line("nobody", ""))
CONF = ROLES + HOLDERS + 'account "%s" { roles = "local" }\n' % ME
LISTEN = ["tcp://127.0.0.1:0", '{ "tcp://127.0.0.2:0", roles = "public" }', "unix:fae.sock"]


@pytest.fixture(scope="module")
def node():
    with Node(conf=CONF, listen=LISTEN, servants=["gatekeeper"], workers=2, expect=["this goes to the log"]) as n:
        n.listeners = {"tcp": n.tcp, "public": next(a for a in n.addrs if "127.0.0.2" in a), "unix": n.unix}
        yield n


def at(node, listener="tcp"):
    return Client(node.listeners[listener])


# ---- the matrix ----

EVERYBODY = {"sys.hello", "sys.ctx", "sys.ping", "ping"}
METHODS = EVERYBODY | {"shop.buy", "shop_buy", "shop.refund", "shop_refund", "shop.note", "boss.only", "sys.noop",
                       "noop", "sys.echo", "sys.stats", "sys.servants", "sys.time", "no.such", "shop.nothing", "boss.nothing"}
WEB = {"shop.buy", "shop_buy", "shop.note", "sys.noop", "noop", "shop.nothing"}
SYS = {"sys.noop", "noop", "sys.echo", "sys.stats", "sys.servants", "sys.time"}
BOSS = WEB | SYS | {"shop.refund", "shop_refund", "boss.only", "boss.nothing"}
BY_TOKEN = {None: set(), "web": WEB, "boss": BOSS, "node": {"shop.buy", "shop_buy"}, "nobody": set()}
BY_LISTENER = {"tcp": set(), "public": {"sys.echo"}, "unix": {"boss.only"}}
UNKNOWN = {"no.such", "shop.nothing", "boss.nothing"}
PARAMS = {"shop.note": ["x"]}


def outcome(method, allowed):
    if method not in allowed:
        return "FORBIDDEN"
    return "UNKNOWN_METHOD" if method in UNKNOWN else "ok"


def outcome_of(c, method, ctx=None):
    try:
        c.call(method, *PARAMS.get(method, []), ctx=ctx)
        return "ok"
    except RpcError as err:
        if err.code == "FORBIDDEN":
            assert err.text == '"%s" is not allowed to you' % method
        return err.code


def by_hello(c, token):
    if token:
        c.call("sys.hello", {"token": TOKENS[token]})


def by_hello_notified(c, token):
    if token:
        c.notify("sys.hello", {"token": TOKENS[token].encode()})


def by_context(c, token):
    c.call("sys.ctx", {"rid": "r", "token": TOKENS[token]} if token else {"rid": "r"})


def by_context_notified(c, token):
    c.notify("sys.ctx", {"token": TOKENS[token]} if token else {})


def with_each_call(_, token):
    return {"rid": 1, "token": TOKENS[token]} if token else {"rid": 1}


WAYS = (by_hello, by_hello_notified, by_context, by_context_notified, with_each_call)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("listener", sorted(BY_LISTENER))
@pytest.mark.parametrize("token", sorted(BY_TOKEN, key=str))
def test_matrix(node, way, listener, token):
    allowed = EVERYBODY | BY_TOKEN[token] | BY_LISTENER[listener]
    with at(node, listener) as c:
        ctx = way(c, token)
        got = {m: outcome_of(c, m, ctx) for m in METHODS - {"sys.ctx"}}
        assert got == {m: outcome(m, allowed) for m in METHODS - {"sys.ctx"}}
        with at(node, listener) as stranger: # nothing of it is anybody else's
            assert outcome_of(stranger, "shop.buy") == "FORBIDDEN"


def test_an_alias_takes_a_token_in_its_first_param(node):
    with at(node) as c:
        assert c.error("shop_buy").code == "FORBIDDEN"
        assert c.call("shop_buy", {"token": TOKENS["web"], "rid": 7}, 1)["rid"] == 7
        assert c.call("shop_refund", {"token": TOKENS["boss"]})["who"] == "token:boss"
        assert c.error("shop_refund", {"token": TOKENS["web"]}).code == "FORBIDDEN"
        assert c.error("shop_buy").code == "FORBIDDEN"
        assert c.error("shop.buy", {"token": TOKENS["web"]}).code == "FORBIDDEN"  # there it is an argument
        both = c.call("shop_buy", {"rid": 1}, ctx={"rid": 2, "token": TOKENS["web"]})
        assert both["rid"] == 1 and both["roles"] == "web"


def test_a_call_may_not_lend_its_token_to_the_next(node):
    with at(node) as c:
        asked = [[0, 1, "shop.buy", [], {"token": TOKENS["web"]}], [0, 2, "shop.buy", []],
                 [0, 3, "shop.buy", [], {"rid": 1}], [0, 4, "shop.buy", [], {"token": None}]]
        c.send(b"".join(map(pack, asked)))
        got = {m[1]: m[2] for m in (c.recv() for _ in asked)}
        assert got[1] is None and all(got[i].startswith("FORBIDDEN: ") for i in (2, 3, 4))
        c.call("sys.ctx", {"token": TOKENS["web"]})
        assert c.call("shop.buy")["who"] == "token:web"
        assert c.error("shop.buy", ctx={"rid": 1}).code == "FORBIDDEN"  # a context of its own takes the place
        assert c.call("shop.buy")["who"] == "token:web"
        c.call("sys.ctx", {"rid": 2})
        assert c.error("shop.buy").code == "FORBIDDEN"
        c.call("sys.hello", {"token": TOKENS["web"]})
        c.call("sys.ctx", {"token": TOKENS["boss"]})
        assert c.call("boss.only")["roles"] == "web boss"
        c.call("sys.ctx")
        assert c.error("boss.only").code == "FORBIDDEN"
        assert c.call("shop.buy")["roles"] == "web"
        c.call("sys.hello", {"token": TOKENS["node"]})  # another takes the place of the first
        assert c.call("shop.buy")["who"] == "token:node"
        assert c.error("shop.note", 1).code == "FORBIDDEN"


def test_notifications_are_dropped_and_counted(node):
    def forbidden():
        return sum(w["forbidden"] for w in node.stats()["workers"])

    before = forbidden()
    with at(node) as c:
        c.notify("shop.note", "nobody's")
        c.notify("boss.only")
        c.notify("no.such")
        c.notify("sys.hello", {"token": TOKENS["web"]})
        c.notify("shop.note", "web's")
        c.call("sys.ping")
    notes = set()

    def collect():  # they lie in the worker that ran them
        with at(node) as boss:
            notes.update(boss.call("boss.notes", ctx={"token": TOKENS["boss"]}))
        return "web's" in notes

    wait_until("the note is found", collect)
    assert "nobody's" not in notes
    assert forbidden() == before + 3


def test_nobody_learns_what_there_is(node):
    with at(node) as c:
        texts = {m: c.error(m).value.replace(m, "X") for m in ("shop.buy", "shop.bux", "boss.only", "sys.stats", "zzz")}
        assert set(texts.values()) == {'FORBIDDEN: "X" is not allowed to you'}
        assert c.error("sys.hell").code == "FORBIDDEN"
        c.call("sys.hello", {"token": TOKENS["web"]})
        assert c.error("shop.bux").value == 'UNKNOWN_METHOD: no method "shop.bux": did you mean shop.buy?'
        assert c.error("shop.refun").value == 'UNKNOWN_METHOD: no method "shop.refun"'
        assert c.error("x" * 200).code == "FORBIDDEN"
        assert c.error("shop." + "x" * 200).code == "UNKNOWN_METHOD"
        assert c.error("shop.\0").code == "UNKNOWN_METHOD"


def test_hello_tells_who_you_are(node):
    with at(node) as c:
        hello = c.call("sys.hello")
        assert hello["roles"] == [] and "who" not in hello
        hello = c.call("sys.hello", {"token": TOKENS["boss"]})
        assert sorted(hello["roles"]) == ["boss", "web"] and hello["who"] == "token:boss"
    with at(node, "public") as c:
        assert c.call("sys.hello")["roles"] == ["public"]
    with at(node, "unix") as c:
        hello = c.call("sys.hello")
        assert hello["roles"] == ["local"] and hello["who"] == "account:" + ME
        assert sorted(c.call("sys.hello", {"token": TOKENS["web"]})["roles"]) == ["local", "web"]


def test_what_servants_do_is_not_asked(node):
    with at(node) as c:
        c.call("sys.hello", {"token": TOKENS["web"]})
        assert c.error("boss.only").code == "FORBIDDEN"
        assert c.call("shop.within")["who"] == "token:web"
        a, b = c.call("shop.children")
        assert a["roles"] == b["roles"] == "web" and a["who"] == "token:web"


def test_sticky_is_a_peers_word(node):
    with at(node) as c:
        for token, expected in (("web", None), ("node", True)):
            ctx = {"sticky": True, "token": TOKENS[token], "rid": "r"}
            got = c.call("shop.buy", ctx=ctx)
            assert got.get("sticky") is expected and got["rid"] == "r"
            assert c.call("shop_buy", ctx).get("sticky") is expected
            c.call("sys.ctx", ctx)
            assert c.call("shop.buy").get("sticky") is expected
        c.call("sys.ctx", {"sticky": True})
        c.call("sys.hello", {"token": TOKENS["web"]})
        assert "sticky" not in c.call("shop.buy")
        assert "sticky" not in c.call("shop.buy", ctx={"sticky": True})


def test_without_roles_everybody_may():
    with Node(servants=["gatekeeper"], admin=False) as n, n.client() as c:
        assert c.call("boss.only", ctx={"token": "whatever", "sticky": True}) == {"roles": ""}
        hello = c.call("sys.hello", {"token": "whatever"})
        assert "roles" not in hello and "who" not in hello
        assert c.call("sys.ctx", {"token": "whatever", "rid": 1}) is True
        assert c.call("boss.only") == {"roles": "", "rid": 1}
        assert c.error("shop.bux").text.endswith("did you mean shop.buy?")


# ---- wrong tokens ----

WRONG = ["", "x", TOKENS["web"][:-1], TOKENS["web"] + " ", TOKENS["web"].upper(), sha(TOKENS["web"]), b"\0", 5, True,
         [TOKENS["web"]], {"token": TOKENS["web"]}]


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_wrong_tokens(node, wrong):
    with at(node) as c:
        assert c.error("sys.hello", {"token": wrong}).value == "UNAUTHORIZED: the token is not known"
        assert c.error("sys.ctx", {"token": wrong}).code == "UNAUTHORIZED"
        assert c.error("sys.ping", ctx={"token": wrong}).code == "UNAUTHORIZED"
        assert c.error("noop", {"token": wrong}).code == "UNAUTHORIZED"
        assert c.error("shop.buy").code == "FORBIDDEN"
        c.call("sys.hello", {"token": TOKENS["web"]})
        assert c.call("shop.buy")["who"] == "token:web"


def test_the_fifth_wrong_one_ends_the_session(node):
    with at(node) as c:
        waiting = c.start("sys.hello", {"token": TOKENS["web"]})
        c.finish(waiting)
        waiting = c.start("shop.wait", 5000)
        c.send(b"".join(pack([0, 100 + i, "sys.noop", [], {"token": "guess %d" % i}]) for i in range(20)))
        messages = c.recv_all()
        assert [m[1] for m in messages if m[0] == 1 and m[1] >= 100] == [100, 101, 102, 103, 104]
        assert [2, "sys.error", ["UNAUTHORIZED: too many wrong tokens"]] in messages
        assert [m[2] for m in messages if m[:2] == [1, waiting]] == ["CANCELLED: the caller hung up"]
    with at(node) as c:  # in notifications they count as well
        c.send(b"".join(pack([2, "sys.hello", [{"token": "guess %d" % i}]]) for i in range(20)))
        assert [m[1] for m in c.recv_all()] == ["sys.error"]


def test_ten_thousand_wrong_tokens():
    """I11: none is accepted, most are not even looked at, and the others are served meanwhile."""
    with Node(conf=CONF, servants=["gatekeeper"], workers=2) as n, Client(n.unix) as bystander:
        bystander.call("sys.hello", {"token": TOKENS["web"]})
        sent = looked_at = put_off = accepted = 0
        started = Stopwatch()
        while sent < 10000:
            with Client(n.tcp) as c:
                c.notify("sys.hello", {"error": "map"})
                c.send(b"".join(pack([0, i, "shop.buy", [], {"token": TOKENS["web"][:-6] + "%06d" % (sent + i)}])
                                for i in range(5)))
                sent += 5
                for _, _, error, _ in answers(c, 5):
                    accepted += error is None
                    if error["code"] == "UNAUTHORIZED" and "retry_after_ms" in error:
                        assert error["retryable"] and 0 < error["retry_after_ms"] <= 1000
                        put_off += 1
                    else:
                        assert error["code"] == "UNAUTHORIZED" and not error["retryable"]
                        looked_at += 1
            if sent % 1000 == 0:
                assert bystander.call("shop.buy")["who"] == "token:web"
                assert bystander.call("shop.buy", ctx={"token": TOKENS["web"]})["who"] == "token:web"
        seconds = started.elapsed()
        assert accepted == 0 and looked_at + put_off == sent
        assert 100 <= looked_at <= 101 + 100 * seconds
        with Client(n.tcp) as c:
            wait_until("tokens are looked at again", lambda: is_taken(c, TOKENS["web"]))
        assert sum(w["unauthorized"] for w in n.stats()["workers"]) >= sent
        assert len(re.findall("showed a wrong token", n.log())) <= 2 * (2 + seconds)


def answers(c, n):
    """At most n answers; fewer when the session is ended."""
    got = []
    try:
        while len(got) < n:
            message = c.recv()
            if message[0] == 1:
                got.append(message)
    except Closed:
        pass
    return got


def is_taken(c, token):
    try:
        return c.call("sys.hello", {"token": token})["who"] == "token:web"
    except RpcError as err:
        assert err.value == "UNAUTHORIZED: too many wrong tokens from your address"
        return False


# ---- a change of the configuration ----


def test_a_change_holds_for_open_sessions():
    with Node(conf=CONF, servants=["gatekeeper"], workers=2) as n, \
            n.client() as web, n.client() as boss, n.client("unix") as local, n.client() as ctx:
        with open(n.conf_path) as f:
            original = f.read()

        def change(*pairs):
            text = original
            for old, new in pairs:
                assert old in text
                text = text.replace(old, new)
            with open(n.conf_path, "w") as f:
                f.write(text)
            done = n.reload()
            assert done.returncode == 0, done.stderr

        web.call("sys.hello", {"token": TOKENS["web"]})
        boss.call("sys.hello", {"token": TOKENS["boss"]})
        ctx.call("sys.ctx", {"token": TOKENS["web"]})
        assert web.call("shop.buy") and boss.call("boss.only") and local.call("boss.only") and ctx.call("shop.buy")
        waiting = web.start("shop.wait", 700)

        change((token_line("web", "web"), ""), ('account "%s" { roles = "local" }\n' % ME, ""))
        assert "who" not in web.finish(waiting)  # it was allowed when it began, but the token is nobody's now
        assert web.error("shop.buy").code == "FORBIDDEN"
        assert web.error("shop.buy", ctx={"token": TOKENS["web"]}).code == "UNAUTHORIZED"
        assert ctx.error("shop.buy").code == "FORBIDDEN"
        assert local.error("boss.only").code == "FORBIDDEN"
        assert boss.call("boss.only")["who"] == "token:boss"

        change(('allow = { "boss.*", "shop_refund", "sys.*" }', 'allow = "boss.notes"'),
               (HOLDERS, token_line("boss", "boss") + token_line("web", "web")))
        assert boss.error("boss.only").code == "FORBIDDEN"
        assert boss.error("shop.buy").code == "FORBIDDEN"
        assert boss.call("boss.notes") == []
        assert web.error("shop.buy").code == "FORBIDDEN"  # it is another one now, although it is the same
        assert web.call("sys.hello", {"token": TOKENS["web"]})["roles"] == ["web"]

        change((ROLES + HOLDERS, ""), ('account "%s" { roles = "local" }\n' % ME, ""))
        assert local.call("boss.only") and ctx.call("boss.only") and web.call("shop.refund")
        change()
        assert local.call("boss.only") and ctx.error("boss.only").code == "FORBIDDEN"

        change((token_line("web", "web"), ""))
        n.expect.append("worker")
        for pid in n.worker_pids():  # who takes their places begins with what holds now
            os.kill(pid, signal.SIGKILL)
        wait_until("workers are back", lambda: len(n.worker_pids()) == 2 and all(
            row["state"] == "ready" for name, row in n.workers().items() if name != "ops"))
        with n.client() as c:
            assert c.error("sys.hello", {"token": TOKENS["web"]}).code == "UNAUTHORIZED"
            assert c.call("shop.buy", ctx={"token": TOKENS["boss"]})["who"] == "token:boss"
        with n.client("unix") as c:
            assert c.call("boss.only")["who"] == "account:" + ME


# ---- secrets ----

CANARY = "canary-4f1c9ae2d7b3-0d5e"


def processes(n):
    for pid in [n.pid] + n.left_behind():
        for what in ("cmdline", "environ", "comm"):
            try:
                with open("/proc/%d/%s" % (pid, what), "rb") as f:
                    yield f.read().decode(errors="replace")
            except OSError:
                pass


def http(n, path):
    with urllib.request.urlopen("http://%s%s" % (n.admin, path), timeout=10) as answer:
        return answer.read().decode()


def maybe(fn, *args):
    try:
        return str(fn(*args))
    except (OSError, RpcError) as err:
        return str(err)


def test_no_secret_is_ever_shown():
    """X5: a token, the admin's token, and what a servant's options call a password."""
    conf = (ROLES + HOLDERS.replace(sha(TOKENS["boss"]), sha(CANARY))
            + 'admin_token "%s"\nslow_ms(1)\nsample_one_in(1)\n'
            'servant "shop" { password = "%s", dsn = { secret = "%s" } }\n' % (sha(CANARY), CANARY, CANARY))
    with Node(conf=conf, servants=["gatekeeper"], workers=2, expect=["this goes to the log"]) as n:
        token_path = os.path.join(n.folder, "token")
        with open(token_path, "w") as f:
            f.write(CANARY + "\n")
        shown = []
        for kind in ("tcp", "unix"):
            with n.client(kind) as c:
                c.call("sys.hello", {"token": CANARY})
                c.call("sys.ctx", {"token": CANARY, "rid": "r"})
                for ctx in ({"token": CANARY}, {"rid": CANARY[:3], "token": CANARY.encode()}):
                    shown += [str(c.call(m, ctx=ctx)) for m in ("shop.buy", "boss.only", "sys.servants", "sys.stats")]
                    shown.append(str(c.error("shop.words", ctx=ctx).value))
                    shown.append(str(c.error("no.such", ctx=ctx).value))
                    shown.append(str(c.error("sys.time", 1, ctx=ctx).value))
                shown.append(str(c.call("shop_buy", {"token": CANARY}, 1)))
                shown.append(str(c.call("shop.wait", 20)))
                for i in range(4):
                    shown.append(str(c.error("shop.buy", ctx={"token": CANARY + "x"}).value))
                assert str(c.error("sys.hello", {"token": CANARY + "x"}).value).startswith("UNAUTHORIZED")
        run = n.run("call", "-s", n.tcp, "--token-file", token_path, "shop.wait", "500")
        assert run.returncode == 0 and "token:boss" in run.stdout, run.stderr
        shown += [run.stdout, run.stderr]
        for verb in ("status", "stats", "config", "slowlog", "sessions"):
            done = n.ctl(verb)
            shown += [done.stdout, done.stderr]
        for path in ("/stats", "/metrics", "/healthz", "/admin/config", "/admin/slowlog", "/admin/sessions",
                     "/admin/servants"):
            shown.append(maybe(http, n, path))
        shown += processes(n)
        done = n.run("check", "-c", n.conf_path)
        shown += [done.stdout, done.stderr]
        n.stop()
        shown.append(n.log())
        for text in shown:
            assert CANARY not in text, "shown in: %.2000s" % text
        assert "words" in n.log()  # the log was looked at while there was something in it


def memory(pid):
    """The readable pieces of a process's memory."""
    with open("/proc/%d/maps" % pid) as maps, open("/proc/%d/mem" % pid, "rb") as mem:
        for line in maps:
            where, rights, *_ = line.split()
            first, last = (int(x, 16) for x in where.split("-"))
            if rights[0] != "r" or "[v" in line:
                continue
            try:
                mem.seek(first)
                yield mem.read(last - first)
            except OSError:
                pass


def test_a_token_lies_in_no_memory():
    """What a core would hold: a token is blanked where it came in, before anything is made of it."""
    with Node(conf=CONF, servants=["gatekeeper"], expect=["this goes to the log"]) as n, n.client() as c:
        token = TOKENS["boss"]
        c.call("sys.hello", {"token": token})
        c.call("sys.ctx", {"token": token, "rid": "kept-in-memory"})
        assert c.call("shop.buy", ctx={"token": token})["who"] == "token:boss"
        assert c.call("shop_buy", {"token": token})["who"] == "token:boss"
        assert token not in c.error("shop.words", "a", ctx={"token": token}).value
        wait_until("the line is there", lambda: "words=" in n.log())
        assert token not in n.log()
        pids = [n.pid] + n.left_behind()
        if not os.access("/proc/%d/mem" % pids[-1], os.R_OK):
            pytest.skip("whoever runs this may not look")
        found = {what: sum(piece.count(what) for pid in pids for piece in memory(pid))
                 for what in (b"kept-in-memory", token.encode())}
        assert found[b"kept-in-memory"] > 0 and found[token.encode()] == 0


# ---- fae token, fae call ----


def test_fae_token_makes_what_the_node_takes(node):
    made = node.run("token", "cron", "web", "boss")
    token = made.stdout.strip()
    assert made.returncode == 0 and re.fullmatch("[0-9a-f]{64}", token)
    assert made.stderr == 'token "cron" { sha256 = "%s", roles = { "web", "boss" } }\n' % sha(token)
    assert node.run("token").stdout != made.stdout
    with open(os.path.join(node.folder, "one"), "w") as f:
        f.write(token + "\n")
    hashed = subprocess.run([FAE, "token", "--hash", "cron", "web"], input=token + "\n", stdout=subprocess.PIPE,
                            universal_newlines=True, timeout=30)
    assert hashed.stdout == 'token "cron" { sha256 = "%s", roles = { "web" } }\n' % sha(token)
    conf = ROLES + hashed.stdout
    with Node(conf=conf, servants=["gatekeeper"], admin=False) as n:
        path = os.path.join(node.folder, "one")
        called = n.run("call", "-s", n.tcp, "--token-file", path, "shop.buy")
        assert json.loads(called.stdout) == {"who": "token:cron", "roles": "web"}
        assert "FORBIDDEN" in n.run("call", "-s", n.tcp, "shop.buy").stderr
        by_env = subprocess.run([FAE, "call", "-s", n.tcp, "shop.buy"], stdout=subprocess.PIPE, timeout=30,
                                env=dict(os.environ, FAE_TOKEN=token))
        assert json.loads(by_env.stdout) == {"who": "token:cron", "roles": "web"}
        bench = n.run("bench", "-s", n.tcp, "--token-file", path, "-c", "2", "-n", "100", "--json", "shop.buy")
        assert bench.returncode == 0, bench.stderr
        assert n.run("bench", "-s", n.tcp, "-c", "2", "-n", "10", "shop.buy").returncode == 1


PHP = r"""<?php
require $argv[1];
$fae = new Fae\Client($argv[2], ['token' => $argv[3]]);
echo json_encode([$fae->shop->buy(), $fae->with(['token' => $argv[4]])->boss->only()]), "\n";
$fae->context->token = $argv[4];
echo json_encode($fae->shop->buy()), "\n";
$fae->context->token = null;
try { $fae->boss->only(); } catch (Fae\Error $e) { echo $e->getMessage(), "\n"; }
try { $fae->with(['token' => 'x'])->boss->only(); } catch (Fae\Error $e) { echo $e->getMessage(), "\n"; }
$fae->notify('shop.note', ['x']);
"""


def test_php_shows_its_token(node):
    path = os.path.join(node.folder, "token.php")
    with open(path, "w") as f:
        f.write(PHP)
    done = subprocess.run(["php", path, os.path.join(ROOT, "lib", "php", "autoload.php"), node.tcp, TOKENS["web"],
                           TOKENS["boss"]], stdout=subprocess.PIPE, universal_newlines=True, timeout=30)
    first, second, *errors = done.stdout.splitlines()
    assert [row["who"] for row in json.loads(first)] == ["token:web", "token:boss"]
    assert json.loads(second)["who"] == "token:boss"
    assert errors == ['FORBIDDEN: "boss.only" is not allowed to you', "UNAUTHORIZED: the token is not known"]


@pytest.mark.parametrize("args, text", [
    (["two words"], "is a word"), (["web", "a,b"], "is a word"), (["--hsh"], "did you mean \"--hash\""),
    (["--hash"], "stdin: a token has 1 to 4096 bytes"), (["x" * 64], "is a word"),
], ids=range(5))
def test_fae_token_refuses(node, args, text):
    done = node.run("token", *args)
    assert done.returncode in (1, 2) and done.stdout == "" and text in done.stderr


def test_fae_call_refuses_files_that_hold_no_token(node):
    empty = os.path.join(node.folder, "empty")
    with open(empty, "w") as f:
        f.write("\n \n")
    for path in (empty, os.path.join(node.folder, "none"), node.folder):
        done = node.run("call", "-s", node.tcp, "--token-file", path, "sys.ping")
        assert done.returncode == 2 and path in done.stderr
