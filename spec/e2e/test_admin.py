# SPDX-License-Identifier: BSD-2-Clause
"""The admin HTTP server: routes, tokens, and what must not hurt it. After every attack it answers, and has given back
its descriptors and memory (I8, D10)."""
import hashlib
import json
import os
import socket
import time

import pytest

from harness import LONG, SANITIZED, SLOW, Node, Stopwatch, beside, memory_kib, n_fds, process_stat, wait_until

TOKEN = "correct horse battery staple"
SERVANT = """
local fae = require "fae"
local s = fae.servant "a"
s.method("sleep", { args = { "int" } }, function(call, ms) fae.sleep(ms) return ms end)
s.method("boom", {}, function(call) error("boom") end)
return s
"""


def hashed(token):
    return hashlib.sha256(token.encode()).hexdigest()


@pytest.fixture(scope="module")
def node():
    with Node(conf='admin_token "%s"' % hashed(TOKEN), servants={"a.lua": SERVANT}, workers=2) as n:
        n.ops = n.workers()["ops"]["pid"]
        yield n


def address(node):
    host, port = node.admin[len("http://"):].rsplit(":", 1)
    return host, int(port)


def connect(node, timeout=12):
    s = socket.create_connection(address(node))
    s.settimeout(timeout * SLOW)
    return s


def read_all(s):
    """Everything until the server closes; a reset ends it as well."""
    data = b""
    try:
        while True:
            more = s.recv(65536)
            if not more:
                return data
            data += more
    except ConnectionResetError:
        return data


def raw(node, data):
    with connect(node) as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass
        return read_all(s)


class Answer:
    def __init__(self, data):
        head, _, self.body = data.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}

    def json(self):
        return json.loads(self.body)


def ask(node, method, path, body=None, token=TOKEN, headers=()):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: localhost"] + list(headers)
    data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    if token is not None:
        lines.append("Authorization: Bearer " + token)
    if body is not None or method == "POST":
        lines.append("Content-Length: %d" % len(data))
    return Answer(raw(node, "\r\n".join(lines).encode() + b"\r\n\r\n" + data))


# ---- what it answers ----


def test_routes(node):
    listed = ask(node, "GET", "/admin/").body.decode().split("\n")
    routes = [line.split()[:2] for line in listed if line]
    assert len(routes) == 21
    for method, path in routes:
        if method == "GET":
            answer = ask(node, "GET", path)
            assert answer.status == 200, (path, answer.body)
            assert int(answer.headers["content-length"]) == len(answer.body)
            head = ask(node, "HEAD", path)
            assert (head.status, head.body) == (200, b""), path
            if path not in ("/metrics", "/stats"):
                assert ask(node, "GET", path + "x").status == 404
    for path in "/stats", "/admin/servants", "/admin/sessions", "/admin/slowlog":
        assert ask(node, "GET", path).headers["content-type"] == "application/json"
        assert isinstance(ask(node, "GET", path).json(), dict)


def test_headers_of_answers(node):
    for answer in ask(node, "GET", "/healthz"), ask(node, "GET", "/nope"), ask(node, "PUT", "/healthz"):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["connection"] == "close"
        assert "server" not in answer.headers
        assert not any(h.startswith("access-control") for h in answer.headers)
    assert ask(node, "PUT", "/healthz").headers["allow"] == "GET, HEAD"
    assert ask(node, "GET", "/admin/reload").headers["allow"] == "POST"


def test_verbs_reach_the_supervisor(node):
    before = node.stats()["node"]["generation"]
    answer = ask(node, "POST", "/admin/reload")
    assert (answer.status, answer.json()["ok"]) == (200, True)
    assert node.stats()["node"]["generation"] == before + 1
    dry = ask(node, "POST", "/admin/reload", {"dry_run": True}).json()
    assert dry["ok"] and "nothing has changed" in dry["message"]
    assert node.stats()["node"]["generation"] == before + 1
    assert ask(node, "POST", "/admin/rollback", {}).json()["ok"]
    gc = ask(node, "POST", "/admin/gc").json()
    assert [w["name"] for w in gc["workers"]] == ["worker-0", "worker-1"]
    assert all(0 < w["after"] <= w["before"] for w in gc["workers"])


def test_a_reload_that_fails_says_where(node):
    node.write("a.lua", "this is no lua\n")
    try:
        answer = ask(node, "POST", "/admin/reload")
        assert (answer.status, answer.json()["error"]) == (409, "BAD_SERVANT")
        assert any("a.lua:1:" in line for line in answer.json()["lines"])
    finally:
        node.write("a.lua", SERVANT)


def test_sessions_as_json(node):
    with node.client() as c:
        c.call("sys.ping")
        answer = ask(node, "GET", "/admin/sessions?n=5").json()
        peer = "tcp://%s:%d" % c.sock.getsockname()
        row = next(r for r in answer["sessions"] if r["peer"] == peer)
        assert row["calls"] == 1 and row["in_flight"] == 0 and row["listener"] == "tcp"
        assert ask(node, "POST", "/admin/session-close", {"session": row["name"]}).json()["ok"]
        assert not c.read_bytes(1)
    assert ask(node, "POST", "/admin/session-close", {"session": row["name"]}).status == 404
    assert ask(node, "POST", "/admin/session-close", {"session": "9:1"}).status == 400
    assert ask(node, "GET", "/admin/sessions?n=0").status == 400
    assert ask(node, "GET", "/admin/sessions?x=1").status == 400


def test_slowlog(node):
    assert isinstance(ask(node, "GET", "/admin/slowlog?n=3").json()["calls"], list)
    assert ask(node, "GET", "/admin/slowlog?n=three").status == 400


def test_readyz_while_drained(node):
    assert ask(node, "GET", "/readyz", token=None).status == 200
    assert ask(node, "POST", "/admin/drain").json()["ok"]
    try:
        answer = ask(node, "GET", "/readyz", token=None)
        assert (answer.status, answer.body) == (503, b"drained by an operator\n")
        assert ask(node, "GET", "/healthz", token=None).status == 200
    finally:
        assert ask(node, "POST", "/admin/undrain").json()["ok"]
    assert ask(node, "GET", "/readyz", token=None).status == 200


# ---- who may ----


def test_tokens(node):
    for path in "/healthz", "/readyz", "/metrics", "/stats":
        assert ask(node, "GET", path, token=None).status == 200
    for path in "/admin/", "/admin/servants", "/admin/sessions", "/admin/config", "/admin/slowlog":
        assert ask(node, "GET", path, token=None).status == 403
    before = node.stats()["node"]["generation"]
    for path in "/admin/reload", "/admin/rollback", "/admin/drain", "/admin/gc":
        assert ask(node, "POST", path, token=None).status == 403
    wrong = ask(node, "POST", "/admin/reload", token="wrong")
    assert (wrong.status, wrong.headers["www-authenticate"]) == (401, "Bearer")
    assert node.stats()["node"]["generation"] == before
    assert hashed(TOKEN) not in node.log() and TOKEN not in node.log()


def test_guessing_is_slow():
    with Node(conf='admin_token "%s"' % hashed(TOKEN)) as node:
        statuses = [ask(node, "POST", "/admin/gc", token="guess %d" % i).status for i in range(30)]
        assert statuses[0] == 401 and statuses[-1] == 429
        answer = ask(node, "POST", "/admin/gc", token="guess")
        assert answer.status == 429 and 1 <= int(answer.headers["retry-after"]) <= 2
        assert node.ctl("gc").returncode == 0
        assert ask(node, "GET", "/healthz", token=None).status == 200
        wait_until("the right token is believed again",
                   lambda: ask(node, "POST", "/admin/gc").status == 200 or time.sleep(0.2))


def test_a_reload_brings_another_token():
    with Node(conf='admin_token "%s"' % hashed(TOKEN)) as node:
        with open(node.conf_path) as f:
            text = f.read()
        with open(node.conf_path, "w") as f:
            f.write(text.replace(hashed(TOKEN), hashed("another")))
        assert ask(node, "POST", "/admin/gc").status == 200
        assert node.reload().returncode == 0
        wait_until("the other is believed", lambda: ask(node, "POST", "/admin/gc", token="another").status == 200)
        assert ask(node, "POST", "/admin/gc").status == 401


def test_no_token_configured():
    with Node() as node:
        answer = ask(node, "POST", "/admin/reload")
        assert answer.status == 403 and "fae token" in answer.json()["message"]
        assert ask(node, "GET", "/admin/sessions", token=None).status == 200
        assert node.stats()["node"]["generation"] == 1


# ---- what must not hurt it ----

H = b"Host: localhost\r\n"
LENGTH = b"Content-Length: %d\r\n"
AUTH = b"Authorization: Bearer " + TOKEN.encode() + b"\r\n"

ATTACKS = {
    "1 MB of one header": b"GET /healthz HTTP/1.1\r\n" + H + b"X: " + b"a" * (1 << 20) + b"\r\n\r\n",
    "1 MB of headers": b"GET /healthz HTTP/1.1\r\n" + H + b"X-Header: some value\r\n" * 50000 + b"\r\n",
    "10k headers": b"GET /healthz HTTP/1.1\r\n" + H + b"".join(b"H%d: 1\r\n" % i for i in range(10000)) + b"\r\n",
    "1 MB of request line": b"GET /" + b"a" * (1 << 20) + b" HTTP/1.1\r\n" + H + b"\r\n",
    "1 MB without a line": b"a" * (1 << 20),
    "two lengths": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % 5 + LENGTH % 6 + b"\r\nabcdef",
    "CL and TE": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % 4 +
                 b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nPOST /admin/gc HTTP/1.1\r\n" + H + b"\r\n",
    "TE and CL": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Transfer-Encoding: chunked\r\n" + LENGTH % 4 +
                 b"\r\n0\r\n\r\n",
    "strange TE": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % 0 + b"Transfer-Encoding: xchunked\r\n\r\n",
    "negative length": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Content-Length: -1\r\n\r\n",
    "huge length": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Content-Length: 99999999999999999999\r\n\r\n",
    "chunks of nonsense": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH +
                          b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "chunk of -1": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "huge chunk": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH +
                  b"Transfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n",
    "many chunks": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Transfer-Encoding: chunked\r\n\r\n" +
                   b"400\r\n" .join([b""] + [b"x" * 1024 + b"\r\n"] * 100),
    "large body": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % (1 << 20) + b"\r\n" + b"x" * (1 << 20),
    "..%2f": b"GET /..%2f..%2fetc/passwd HTTP/1.1\r\n" + H + b"\r\n",
    "../": b"GET /../../etc/passwd HTTP/1.1\r\n" + H + b"\r\n",
    "admin/..%2f": b"GET /admin/..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\n" + H + AUTH + b"\r\n",
    "file:": b"GET file:///etc/passwd HTTP/1.1\r\n" + H + b"\r\n",
    "path of no UTF-8": b"GET /\xff\xfe\xc0\xaf HTTP/1.1\r\n" + H + b"\r\n",
    "header of no UTF-8": b"POST /admin/gc HTTP/1.1\r\n" + H + b"Authorization: Bearer \xff\xfe\r\n" + LENGTH % 0 +
                          b"\r\n",
    "body of no UTF-8": b"POST /admin/log-level HTTP/1.1\r\n" + H + AUTH + LENGTH % 14 +
                        b"\r\n{\"level\":\"\xff\xfe\"}",
    "body that nests": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % 60000 + b"\r\n" + b"[" * 60000,
    "another page": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Origin: http://evil.com\r\n" + LENGTH % 0 +
                    b"\r\n",
    "a page of a file": b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + b"Origin: null\r\n" + LENGTH % 0 + b"\r\n",
    "DNS rebinding": b"GET /stats HTTP/1.1\r\nHost: evil.com\r\n\r\n",
    "DNS rebinding with our port": b"POST /admin/reload HTTP/1.1\r\nHost: evil.com:9101\r\n" + AUTH + LENGTH % 0 +
                                   b"\r\n",
    "no Host": b"GET /stats HTTP/1.1\r\n\r\n",
    "two Hosts": b"GET /stats HTTP/1.1\r\n" + H + b"Host: evil.com\r\n\r\n",
    "no token": b"POST /admin/reload HTTP/1.1\r\n" + H + LENGTH % 0 + b"\r\n",
    "token in the query": b"POST /admin/reload?token=" + TOKEN.replace(" ", "+").encode() + b" HTTP/1.1\r\n" + H +
                          LENGTH % 0 + b"\r\n",
    "a method of its own": b"FETCH /healthz HTTP/1.1\r\n" + H + b"\r\n",
    "TRACE": b"TRACE / HTTP/1.1\r\n" + H + AUTH + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /admin/config\r\n\r\n",
    "msgpack": b"\x94\x00\x01\xa8sys.ping\x90" + b"\r\n\r\n",
    "TLS": bytes.fromhex("16030100c8010000c40303") + os.urandom(200) + b"\r\n\r\n",
    "zeros": b"\0" * 100000,
    "header without a name": b"GET /healthz HTTP/1.1\r\n" + H + b": x\r\n\r\n",
    "header without a colon": b"GET /healthz HTTP/1.1\r\n" + H + b"xyz\r\n\r\n",
}


def settled(node, fds, kib):
    """It answers, and has given back what the attack took."""
    assert ask(node, "GET", "/healthz", token=None).status == 200
    wait_until("its descriptors are back", lambda: n_fds(node.ops) <= fds)
    if not SANITIZED:
        assert memory_kib(node.ops) <= kib + 4096


@pytest.mark.parametrize("name", sorted(ATTACKS))
def test_attack(node, name):
    before = node.stats()["node"]["generation"]
    fds, kib = n_fds(node.ops), memory_kib(node.ops)
    started = Stopwatch()
    answer = raw(node, ATTACKS[name])
    assert started.seconds() < 11 * SLOW
    # Closed without a word, or a 4xx; 501 is said of methods nobody knows.
    assert not answer or answer.split()[1][:1] == b"4" or answer.split()[1] == b"501", answer[:300]
    assert answer.count(b"HTTP/1.") <= 1 and b"root:" not in answer
    settled(node, fds, kib)
    assert node.stats()["node"]["generation"] == before
    assert process_stat(node.ops), "it is another ops now"


def test_post_without_a_token_is_forbidden(node):
    for name in "no token", "token in the query":
        assert raw(node, ATTACKS[name]).split()[1] == b"403"


SLOW_ONES = {
    "CONNECT": [b"CONNECT 127.0.0.1:22 HTTP/1.1\r\n" + H + b"\r\n"],
    "says nothing": [b""],
    "an end of a line at a time": [b"GET /healthz HTTP/1.1\r\n", b"X: 1\r\n"],
    "a byte at a time": [b"GET /healthz HTTP/1.1\r\nX: ", b"a"],
    "less body than it said": [b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % 100 + b"\r\nabc"],
    "body a byte at a time": [b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH + LENGTH % 100 + b"\r\n", b"a"],
    "a chunk that does not end": [b"POST /admin/reload HTTP/1.1\r\n" + H + AUTH +
                                  b"Transfer-Encoding: chunked\r\n\r\n5\r\nab"],
}


def slow_requests(node):
    """All at once: each would be waited for up to 10 s from its connection on, whatever it sends meanwhile."""
    fds, kib = n_fds(node.ops), memory_kib(node.ops)
    started = Stopwatch()
    open_ones = {}
    for name, parts in SLOW_ONES.items():
        open_ones[name] = connect(node)
        open_ones[name].sendall(parts[0])
    assert ask(node, "GET", "/healthz", token=None).status == 200
    left = dict(open_ones)
    while left:
        assert started.seconds() < 11.5 * SLOW, "still open: %s" % sorted(left)
        for name, s in list(left.items()):
            s.settimeout(0.01)
            try:
                if len(SLOW_ONES[name]) > 1:
                    s.sendall(SLOW_ONES[name][1])
                if not s.recv(65536):
                    left.pop(name).close()
            except socket.timeout:
                pass
            except OSError:
                left.pop(name).close()
        time.sleep(0.1)
    assert started.elapsed() > 8
    settled(node, fds, kib)


@pytest.fixture(scope="module", autouse=True)
def slow_requests_end(request):
    """They are waited for beside the other tests, on a node of their own."""
    def wait():
        with Node(conf='admin_token "%s"' % hashed(TOKEN)) as node:
            node.ops = node.workers()["ops"]["pid"]
            slow_requests(node)

    with beside(request, "test_slow_requests_end", wait) as waited:
        yield waited


def test_idle_connections_keep_nobody_out(node):
    fds, kib = n_fds(node.ops), memory_kib(node.ops)
    idle = [connect(node) for _ in range(200)]
    assert ask(node, "GET", "/healthz", token=None).status == 200
    assert n_fds(node.ops) <= fds + 70
    for s in idle:
        s.close()
    settled(node, fds, kib)


def test_a_client_that_leaves_before_its_answer(node):
    fds, kib = n_fds(node.ops), memory_kib(node.ops)
    for _ in range(50):
        with connect(node) as s:
            s.sendall(b"POST /admin/gc HTTP/1.1\r\n" + H + AUTH + LENGTH % 0 + b"\r\n")
    assert ask(node, "POST", "/admin/gc").status in (200, 503)
    settled(node, fds, kib)


def test_the_supervisor_is_busy(node):
    """More questions than fae.ctl takes from here: the rest is refused, none is left without an answer."""
    clients = [connect(node) for _ in range(40)]
    for s in clients:
        s.sendall(b"POST /admin/gc HTTP/1.1\r\n" + H + AUTH + LENGTH % 0 + b"\r\n")
    answers = [Answer(read_all(s)) for s in clients]
    assert {a.status for a in answers} <= {200, 503}
    assert any(a.status == 200 for a in answers)
    for s in clients:
        s.close()


def test_ops_dies_and_reload_goes_on():
    with Node(conf='admin_token "%s"' % hashed(TOKEN), expect=["ops .* died of signal 9"]) as node:
        first = node.workers()["ops"]["pid"]
        os.kill(first, 9)
        assert node.reload().returncode == 0

        def answers():
            try:
                return ask(node, "POST", "/admin/reload").status == 200
            except (OSError, IndexError):
                return False

        wait_until("another ops answers", answers)


@pytest.mark.skipif(not LONG, reason="FAE_LONG=1 runs it")
def test_many_requests_leak_nothing(node):
    for _ in range(200):
        ask(node, "GET", "/stats")
    fds, kib = n_fds(node.ops), memory_kib(node.ops)
    for i in range(5000):
        raw(node, list(ATTACKS.values())[i % len(ATTACKS)])
    settled(node, fds, kib)


def test_slow_requests_end(slow_requests_end):
    slow_requests_end.result()
