# SPDX-License-Identifier: BSD-2-Clause
"""TLS (X6, and the TLS of X1): who gets in and who does not, what flows, certificates that change under way. The
certificates are made here, by the openssl command."""
import itertools
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import msgpack
import pytest

from harness import (FAE, LONG, ROOT, SANITIZED, SLOW, Client, Closed, Node, Stopwatch, collect, connect, memory_kib,
                     request, wait_until)

AS_ROOT = os.geteuid() == 0
EC = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]


NAP = {"nap.lua": """
local fae = require "fae"
local nap = fae.servant "nap"
nap.method("sleep", { args = { "int" }, timeout_ms = 120000 }, function(_, ms)
  fae.sleep(ms)
  return ms
end)
return nap
"""}


# ---- certificates ----


def openssl(*args):
    done = subprocess.run(("openssl",) + args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode == 0, done.stdout


class Certificates:
    """Files of a folder: ca.pem, and NAME.pem with NAME.key for each that was made."""

    def __init__(self, folder):
        self.folder = folder
        for ca in ("ca", "other"):
            openssl("req", "-x509", *EC, "-keyout", self.path(ca + ".key"), "-out", self.path(ca + ".pem"), "-days",
                    "30", "-subj", "/CN=The %s CA" % ca)
        with open(self.path("san.cnf"), "w") as f:
            f.write("subjectAltName=IP:127.0.0.1,DNS:node.example\n")
        self.make("node")
        self.make("shop")
        self.make("stranger", ca="other")
        self.make("expired", start="20200101000000Z", end="20200201000000Z")

    def path(self, name):
        return os.path.join(self.folder, name)

    def make(self, name, cn=None, ca="ca", start="20200101000000Z", end="21000101000000Z"):
        work = self.path("work")
        os.makedirs(os.path.join(work, "new"), exist_ok=True)
        with open(os.path.join(work, "index"), "w"), open(os.path.join(work, "serial"), "w") as serial:
            serial.write("%08x\n" % (time.time_ns() & 0x7fffffff))
        with open(os.path.join(work, "ca.cnf"), "w") as f:
            f.write("[ca]\ndefault_ca = it\n[it]\ndatabase = %s/index\nserial = %s/serial\nnew_certs_dir = %s/new\n"
                    "default_md = sha256\npolicy = any\nunique_subject = no\nrand_serial = yes\n"
                    "[any]\ncommonName = supplied\n" % (work, work, work))
        openssl("req", "-new", *EC, "-keyout", self.path(name + ".key"), "-out", os.path.join(work, "csr"), "-subj",
                "/CN=" + (cn or name))
        openssl("ca", "-batch", "-notext", "-config", os.path.join(work, "ca.cnf"), "-in", os.path.join(work, "csr"),
                "-cert", self.path(ca + ".pem"), "-keyfile", self.path(ca + ".key"), "-startdate", start, "-enddate",
                end, "-extfile", self.path("san.cnf"), "-out", self.path(name + ".pem"))

    def put(self, name, at):
        """A copy under other names, each in one step, as tools that renew certificates do."""
        for end in (".pem", ".key"):
            shutil.copy(self.path(name + end), self.path(at + end + ".new"))
            os.rename(self.path(at + end + ".new"), self.path(at + end))

    def listen(self, name="node", more=""):
        return '{ "tls://127.0.0.1:0", cert = "%s", key = "%s"%s }' % (self.path(name + ".pem"),
                                                                     self.path(name + ".key"), more)

    def client_ca(self, required):
        return ', client_ca = "%s", client_cert_required = %s' % (self.path("ca.pem"), str(required).lower())

    def context(self, as_name=None, ca="ca"):
        context = ssl.create_default_context(cafile=self.path(ca + ".pem"))
        if as_name:
            context.load_cert_chain(self.path(as_name + ".pem"), self.path(as_name + ".key"))
        return context


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certificates(str(tmp_path_factory.mktemp("certs")))


class TlsClient(Client):
    def __init__(self, addr, context, timeout=10):
        raw = connect("tcp" + addr[len("tls"):], timeout)
        try:
            self.sock = context.wrap_socket(raw, server_hostname="127.0.0.1")
        except BaseException:
            raw.close()
            raise
        self.unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 28)
        self.ids = itertools.count(1)


def node_of(certs, more="", listen=None, **options):
    return Node(listen=listen or ["tcp://127.0.0.1:0", certs.listen(more=more)], **options)


def is_refused(node, context):
    """Refused in the handshake, or, as a client of TLS 1.3 learns it, with the first read."""
    try:
        with TlsClient(node.tls, context) as c:
            c.call("sys.ping")
        return None
    except (ssl.SSLError, Closed, ConnectionError) as err:
        return str(err) or "closed"


def hello_of(context):
    """The first bytes a client sends."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


# ---- what flows ----


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_calls(certs, version):
    context = certs.context()
    context.minimum_version = context.maximum_version = getattr(ssl.TLSVersion, version)
    with node_of(certs, servants=NAP) as node, TlsClient(node.tls, context) as c:
        assert c.sock.version() == version.replace("_", ".")
        assert c.call("sys.echo", "hello") == "hello"
        # Larger than a record, than a read, than the arena; and both ways.
        for size in (16383, 16384, 16385, 65536, 100000, 1 << 20, 3 << 20):
            assert c.call("sys.echo", "x" * size) == "x" * size
        # Each byte a record of its own.
        for byte in request(7, "sys.echo", "slow"):
            c.send(bytes([byte]))
        assert c.recv() == [1, 7, None, "slow"]
        # Many calls a record, and records that end anywhere.
        out = b"".join(request(i, "sys.echo", [i, "y" * (i % 300)]) for i in range(5000))
        answers = {}
        reader = threading.Thread(target=lambda: answers.update(collect(c, 5000)))
        reader.start()
        for at in range(0, len(out), 10007):
            c.send(out[at:at + 10007])
        reader.join(60 * SLOW)
        assert {i: m[3] for i, m in answers.items()} == {i: [i, "y" * (i % 300)] for i in range(5000)}


def test_every_read_and_write_cut_to_one_byte(certs):
    with node_of(certs, one_byte=True) as node, TlsClient(node.tls, certs.context(), timeout=60) as c:
        assert c.call("sys.echo", "z" * 3000) == "z" * 3000
        c.send(b"".join(request(i, "sys.echo", i) for i in range(20)))
        assert sorted(collect(c, 20)) == list(range(20))


def test_answers_wait_for_a_client_that_does_not_read(certs):
    """Back-pressure: more calls than may be in flight and more bytes than may be unsent, before the first is read."""
    n, size = 200, 60000
    with node_of(certs) as node, TlsClient(node.tls, certs.context(), timeout=30) as c:
        out = b"".join(request(i, "sys.echo", "w" * size) for i in range(n))
        sent = threading.Thread(target=c.send, args=(out,))
        sent.start()
        time.sleep(0.5)
        with node.client() as plain:
            assert plain.call("sys.ping")
        answers = collect(c, n)
        sent.join(30 * SLOW)
        assert len(answers) == n and all(m[3] == "w" * size for m in answers.values())
        assert c.call("sys.echo", 1) == 1


def test_a_waiting_call_and_others_in_one_record(certs):
    with node_of(certs, servants=NAP) as node, TlsClient(node.tls, certs.context()) as c:
        c.send(b"".join(request(i, "nap.sleep", 20) if i % 2 else request(i, "sys.echo", i) for i in range(300)))
        assert {i: m[3] for i, m in collect(c, 300).items()} == {i: 20 if i % 2 else i for i in range(300)}


def test_the_end(certs):
    with node_of(certs, servants=NAP) as node:
        # Bytes that make no sense: told why, then closed.
        with TlsClient(node.tls, certs.context()) as c:
            c.send(b"\xc1\xc1\xc1")
            messages = c.recv_all()
            assert messages[-1][:2] == [2, "sys.error"] and "BAD_MESSAGE" in str(messages[-1])
        # A client that ends well cancels its calls; so does one that is cut off.
        for end in (lambda c: c.sock.unwrap(), lambda c: c.sock.shutdown(socket.SHUT_RDWR)):
            with TlsClient(node.tls, certs.context()) as c:
                c.start("nap.sleep", 60000)
                wait_until("the call runs", lambda: node.stats()["workers"][0]["calls"] >= 1)
                try:
                    end(c)
                except (OSError, ssl.SSLError):
                    pass
                wait_until("the session is gone", lambda: node.n_sessions() == 0)


def test_half_close(certs):
    with Node(listen=[certs.listen(more=", half_close = true")], servants=NAP) as node:
        with TlsClient(node.tls, certs.context()) as c:
            c.send(request(1, "nap.sleep", 100) + request(2, "sys.echo", "b"))
            c.sock.settimeout(0.02)
            try:
                c.sock.unwrap()  # sends the closing alert; its answer comes after the calls'
            except (OSError, ssl.SSLError):
                pass
            wait_until("the session is gone", lambda: node.n_sessions() == 0)


def test_plain_bytes_at_a_tls_port(certs):
    with node_of(certs) as node:
        for line in (request(5, "sys.ping"), b"GET / HTTP/1.0\r\n\r\n", b"\0" * 64):
            with Client("tcp" + node.tls[3:]) as c:
                c.send(line)
                got = c.read_bytes(100)
                assert b"sys.error" not in got and len(got) <= 7  # at most an alert
        assert is_refused(node, certs.context()) is None
        wait_until("the log tells", lambda: re.search(r"level=warn .*tls://127.0.0.1:\d+: handshake: ", node.log()))


# ---- who gets in ----


@pytest.mark.parametrize("version", ["TLSv1", "TLSv1_1"])
def test_old_versions_are_refused(certs, version):
    context = certs.context()
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning):
        context.minimum_version = getattr(ssl.TLSVersion, version)
        context.maximum_version = getattr(ssl.TLSVersion, version)
    with node_of(certs) as node:
        assert is_refused(node, context)
        assert is_refused(node, certs.context()) is None


def test_clients_believe_only_the_right_node(certs):
    with node_of(certs) as node:
        assert "verify failed" in is_refused(node, certs.context(ca="other"))
        cmd = lambda *args: node.run("call", "-s", node.tls, *args, "sys.echo", '"hi"')  # noqa: E731
        good = cmd("--ca", certs.path("ca.pem"))
        assert (good.returncode, good.stdout) == (0, '"hi"\n')
        assert cmd("--insecure").stdout == '"hi"\n'
        assert cmd("--ca", certs.path("ca.pem"), "--tls-name", "node.example").stdout == '"hi"\n'
        for args, why in ((["--ca", certs.path("other.pem")], "UNAVAILABLE: handshake: unable to get local issuer"),
                          (["--ca", certs.path("ca.pem"), "--tls-name", "x.example"], "handshake: hostname mismatch"),
                          ([], "UNAVAILABLE: handshake: "), (["--ca", "none.pem"], "none.pem: No such file"),
                          (["--insecure", "--key", certs.path("shop.key")], "--key needs --cert")):
            bad = cmd(*args)
            assert bad.returncode == 1 and why in bad.stderr, bad.stderr
        plain = node.run("bench", "-s", node.tcp, "--insecure", "-n", "1", "sys.ping")
        assert plain.returncode != 0 and "are for tls:// addresses" in plain.stderr
        bench = node.run("bench", "-s", node.tls, "--ca", certs.path("ca.pem"), "-c", "4", "-p", "8", "-n", "4000",
                         "sys.echo", '"x"')
        assert bench.returncode == 0 and "4000 answered well, 0 failed" in bench.stdout, bench.stdout + bench.stderr
        each = node.run("bench", "-s", node.tls, "--ca", certs.path("ca.pem"), "-c", "2", "-n", "100",
                        "--connect-per-call", "sys.echo", '"x"')
        assert each.returncode == 0 and "100 answered well, 0 failed" in each.stdout, each.stdout + each.stderr


def test_client_certificates(certs):
    expired = certs.context("expired")
    with node_of(certs, certs.client_ca(True)) as node:
        assert is_refused(node, certs.context())
        assert is_refused(node, certs.context("stranger"))
        assert is_refused(node, expired)
        assert is_refused(node, certs.context("shop")) is None
        done = node.run("call", "-s", node.tls, "--ca", certs.path("ca.pem"), "sys.ping")
        assert done.returncode == 1 and "UNAVAILABLE" in done.stderr, done.stderr
        done = node.run("call", "-s", node.tls, "--ca", certs.path("ca.pem"), "--cert", certs.path("shop.pem"), "--key",
                        certs.path("shop.key"), "sys.ping")
        assert done.returncode == 0, done.stderr
    with node_of(certs, certs.client_ca(False)) as node:
        assert is_refused(node, certs.context()) is None
        assert is_refused(node, certs.context("stranger"))
        assert is_refused(node, expired)
        assert is_refused(node, certs.context("shop")) is None


def test_a_certificate_brings_roles(certs):
    conf = 'role "shop" { allow = "sys.echo" }\ncertificate "shop" { roles = "shop" }'
    certs.make("clerk")
    with node_of(certs, certs.client_ca(False), conf=conf) as node:
        with TlsClient(node.tls, certs.context("shop")) as c:
            assert c.call("sys.echo", 1) == 1
        for context in (certs.context(), certs.context("clerk")):
            with TlsClient(node.tls, context) as c:
                assert c.error("sys.echo", 1).code == "FORBIDDEN"


# ---- half handshakes ----


def waits_of(addr, end):
    """Plain calls until `end`: the longest waits in ms."""
    waits = []
    with Client(addr) as c:
        while not end.is_set():
            began = Stopwatch()
            c.call("sys.ping")
            waits.append(began.seconds() * 1000)
            time.sleep(0.001)
    return sorted(waits)


def test_half_handshakes_are_cut(certs):
    n, limit_ms = (1000, 10000) if LONG else (90, 1000)
    hello = hello_of(certs.context())
    with node_of(certs, conf="first_byte_timeout_ms(%d)" % limit_ms, workers=2) as node:
        quiet, busy, end = [], [], threading.Event()
        # As many as will hang: nothing, half a hello, a whole one.
        socks = []
        reader = threading.Thread(target=lambda: busy.extend(waits_of(node.tcp, end)))
        reader.start()
        began = Stopwatch()
        for i in range(n):
            sock = connect("tcp" + node.tls[3:], timeout=30)
            sock.sendall((b"", hello[:len(hello) // 2], hello)[i % 3])
            socks.append(sock)
        assert is_refused(node, certs.context()) is None  # others get in beside them
        wait_until("all are cut", lambda: node.n_sessions() <= 1, limit_ms / 1000 + 3)
        assert began.elapsed() * 1000 >= limit_ms * 0.9
        for sock in socks:
            sock.settimeout(5 * SLOW)
            try:
                while sock.recv(65536):
                    pass
            except ConnectionResetError:
                pass
            sock.close()
        end.set()
        reader.join()
        end.clear()
        reader = threading.Thread(target=lambda: quiet.extend(waits_of(node.tcp, end)))
        reader.start()
        time.sleep(0.5)
        end.set()
        reader.join()
        p99 = [waits[len(waits) * 99 // 100] for waits in (busy, quiet)]
        print("p99 of plain calls: %.2f ms beside %d half handshakes, %.2f ms alone" % (p99[0], n, p99[1]))
        if not SANITIZED:
            assert p99[0] <= max(1.3 * p99[1], p99[1] + 60), p99
        # After its handshake a client may take its time.
        with TlsClient(node.tls, certs.context()) as c:
            if not LONG:
                time.sleep(limit_ms / 1000 + 0.3)
            assert c.call("sys.ping")


def test_idle_sessions_are_small(certs):
    n = 300
    with node_of(certs) as node:
        worker = node.worker_pids()[0]
        context = certs.context()
        with TlsClient(node.tls, context) as c:
            c.call("sys.ping")
        before = memory_kib(worker)
        clients = [TlsClient(node.tls, context) for _ in range(n)]
        for c in clients:
            c.call("sys.ping")
        each = (memory_kib(worker) - before) / n
        for c in clients:
            c.close()
        print("%.1f KiB each" % each)
        assert SANITIZED or each < 40


# ---- certificates that change ----


def subject(node, context):
    with TlsClient(node.tls, context) as c:
        return dict(pair[0] for pair in c.sock.getpeercert()["subject"])["commonName"]


def test_certificates_are_read_again_on_reload(certs):
    certs.make("first")
    certs.make("second")
    certs.put("first", "live")
    context = certs.context()
    with Node(listen=[certs.listen("live")], workers=2, expect=["worker-[01]"]) as node:
        assert "certificate CN=first, valid until 2100-01-01" in node.log()
        assert subject(node, context) == "first"
        with TlsClient(node.tls, context) as old:
            certs.put("second", "live")
            assert subject(node, context) == "first"
            assert node.reload().returncode == 0
            wait_until("the new one is shown", lambda: {subject(node, context) for _ in range(10)} == {"second"})
            assert old.call("sys.echo", 1) == 1
            wait_until("the log tells", lambda: node.log().count("new certificate CN=second") == 1)
        # A worker that comes later has it as well.
        for pid in node.worker_pids():
            os.kill(pid, signal.SIGKILL)
        wait_until("both are back", lambda: all(w["state"] == "ready" for w in node.workers().values()), 10)
        assert {subject(node, context) for _ in range(10)} == {"second"}
        # Half of a renewal: the old pair stays, and the log says why.
        shutil.copy(certs.path("first.key"), certs.path("live.key"))
        assert node.reload().returncode == 0
        wait_until("the log tells", lambda: "the certificate stays as it is: " in node.log())
        wait_until("why", lambda: "live.key: is not the key of the certificate in " in node.log())
        assert subject(node, context) == "second"
        certs.put("first", "live")
        node.send_signal(signal.SIGHUP)
        wait_until("the next try works", lambda: {subject(node, context) for _ in range(10)} == {"first"})


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_a_key_that_workers_cannot_read(certs):
    certs.make("before")
    certs.make("after")
    certs.put("before", "rooted")
    os.chmod(certs.path("rooted.key"), 0o600)
    with Node(listen=[certs.listen("rooted")], conf='user "nobody"', wait=False) as node:
        os.chmod(node.folder, 0o755)
        node.start()
        assert subject(node, certs.context()) == "before"
        certs.put("after", "rooted")
        os.chmod(certs.path("rooted.key"), 0o600)
        assert node.reload().returncode == 0
        wait_until("the log tells", lambda: "the certificate stays as it is: " in node.log())
        assert subject(node, certs.context()) == "before"


def test_an_end_that_is_near_is_told(certs):
    end = time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + 5.5 * 86400))
    certs.make("brief", end=end)
    with Node(listen=[certs.listen("brief")]) as node:
        assert re.search(r"level=warn .*certificate CN=brief, valid until .*: 5 days are left", node.log())


# ---- configuration ----


@pytest.mark.parametrize("listen, why", [
    ('{ "tls://127.0.0.1:0" }', "needs cert and key"),
    ('{ "tls://127.0.0.1:0", cert = "NODE.pem" }', "cert needs key"),
    ('{ "tls://127.0.0.1:0", cert = "none.pem", key = "NODE.key" }', "none.pem: No such file or directory"),
    ('{ "tls://127.0.0.1:0", cert = "EXPIRED.pem", key = "EXPIRED.key" }', "certificate expired on 2020-02-01"),
    ('{ "tls://127.0.0.1:0", cert = "NODE.pem", key = "SHOP.key" }', "is not the key of the certificate in"),
    ('{ "tls://127.0.0.1:0", cert = "NODE.pem", key = "NODE.key", client_cert_required = true }', "needs client_ca"),
    ('{ "tls://127.0.0.1:0", cert = "NODE.pem", key = "NODE.key", client_ca = "none.pem" }', "none.pem: No such file"),
    ('{ "tcp://127.0.0.1:0", cert = "NODE.pem", key = "NODE.key" }', "is for tls:// addresses"),
])
def test_wrong_listeners_are_told(certs, listen, why, tmp_path):
    listen = re.sub(r'"([A-Z]+)(\.\w+)"', lambda m: '"%s"' % certs.path(m.group(1).lower() + m.group(2)), listen)
    conf = tmp_path / "fae.lua"
    conf.write_text('run_dir "%s"\nservants_dir ""\nadmin ""\nlisten %s\n' % (tmp_path / "run", listen))
    done = subprocess.run([FAE, "serve", "-c", str(conf)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=30 * SLOW, cwd=str(tmp_path))
    assert done.returncode == 78, done.stderr
    assert why in done.stderr


# ---- the libraries ----


PHP = r"""
require '%(lib)s/php/autoload.php';
$address = '%(address)s';
$fae = new Fae\Client($address, ['tls' => ['cafile' => '%(ca)s'], 'timeout_ms' => 20000, 'connect_timeout_ms' => 5000]);
$say = function ($what) { echo json_encode($what), "\n"; };
$say($fae->sys->echo('hello'));
$rows = [];
for ($i = 0; $i < 500; $i++) {
    $rows[] = ['sys.echo', $i];
}
$say($fae->batch($rows) === range(0, 499));
$big = str_repeat('abcdefgh', 400000);
$say($fae->sys->echo($big) === $big);
$say($fae->batch([['sys.echo', $big], ['sys.echo', 7], ['sys.echo', $big]]) === [$big, 7, $big]);
$kept = new Fae\Client($address, ['tls' => ['cafile' => '%(ca)s'], 'persistent' => true, 'connect_timeout_ms' => 5000]);
$say($kept->sys->echo('kept'));
usleep(1100000);
$say($kept->sys->echo('kept still'));
foreach ([['cafile' => '%(other)s'], ['cafile' => '%(ca)s', 'peer_name' => 'else.example']] as $tls) {
    try {
        (new Fae\Client($address, ['tls' => $tls, 'connect_timeout_ms' => 5000]))->sys->ping();
        $say('believed');
    } catch (Fae\Error $error) {
        $say($error->errorCode);
    }
}
"""


def test_php(certs):
    with node_of(certs) as node:
        text = PHP % {"lib": os.path.join(ROOT, "lib"), "address": node.tls, "ca": certs.path("ca.pem"),
                      "other": certs.path("other.pem")}
        done = subprocess.run(["php", "-r", text], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=60 * SLOW)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n") == ['"hello"', "true", "true", "true", '"kept"', '"kept still"',
                                           '"UNAVAILABLE"', '"UNAVAILABLE"', ""], done.stdout + done.stderr


def test_python(certs):
    sys.path.insert(0, os.path.join(ROOT, "lib", "python"))
    try:
        import fae
    finally:
        sys.path.pop(0)
    with node_of(certs, certs.client_ca(True)) as node:
        client = fae.Client(node.tls, tls=certs.context("shop"), timeout_s=10 * SLOW)
        assert client.call("sys.echo", "hello") == "hello"
        assert client.batch([("sys.echo", i) for i in range(100)]) == list(range(100))
        with pytest.raises(ssl.SSLError):
            fae.Client(node.tls, timeout_s=10 * SLOW)


# ---- the admin server ----


def test_check_reads_certificates(certs, tmp_path):
    """Of listeners and of pools, as a start would."""
    conf, none = tmp_path / "fae.lua", str(tmp_path / "none.pem")

    def check(listen, pool):
        conf.write_text('listen { "tls://127.0.0.1:1", cert = "%s", key = "%s" }\n' % listen +
                        'mysql "shop" { servers = "tls://127.0.0.1:3306", user = "u", ca = "%s" }\n' % pool +
                        'redis "fast" { servers = "tls://127.0.0.1:6379", cert = "%s", key = "%s" }\n' % listen)
        done = subprocess.run([FAE, "check", "-c", str(conf)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return done.returncode, done.stderr.replace("%s: " % conf, "").splitlines()

    good = certs.path("node.pem"), certs.path("node.key")
    assert check(good, certs.path("ca.pem")) == (0, [])
    code, lines = check((none, good[1]), none)
    missing = "%s: No such file or directory" % none
    assert code == 78 and lines == ["listen tls://127.0.0.1:1: " + missing, "redis fast: " + missing,
                                    "mysql shop: " + missing]
    code, lines = check((good[0], certs.path("shop.key")), certs.path("ca.pem"))
    assert code == 78 and len(lines) == 2 and all("shop.key" in line for line in lines), lines


def test_admin_over_tls(certs):
    conf = 'admin_cert "%s"\nadmin_key "%s"' % (certs.path("node.pem"), certs.path("node.key"))
    with Node(conf=conf) as node:
        assert node.admin.startswith("https://127.0.0.1:"), node.admin
        addr = "tls" + node.admin[len("https"):]

        def get(context):
            with TlsClient(addr, context) as c:
                c.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
                return c.read_bytes(100000)

        for _ in range(20):
            answer = get(certs.context())
            assert answer.startswith(b"HTTP/1.1 200 "), answer
        with pytest.raises(ssl.SSLError):
            get(certs.context(ca="other"))
        with Client("tcp" + addr[3:]) as c:
            c.send(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
            assert b"200" not in c.read_bytes(100)
        hello = hello_of(certs.context())
        socks = [connect("tcp" + addr[3:]) for _ in range(30)]
        for i, sock in enumerate(socks):
            sock.sendall(hello[:len(hello) * (i % 3) // 2])
        assert get(certs.context()).startswith(b"HTTP/1.1 200 ")
        for sock in socks:
            sock.close()
        assert get(certs.context()).startswith(b"HTTP/1.1 200 ")


def test_admin_beyond_loopback_needs_tls_and_a_token(certs, tmp_path):
    lines = {"token": 'admin_token "%s"' % ("ab" * 32), "cert": 'admin_cert "%s"' % certs.path("node.pem"),
             "key": 'admin_key "%s"' % certs.path("node.key")}
    for keep in ([], ["token"], ["cert", "key"]):
        conf = tmp_path / "fae.lua"
        conf.write_text('run_dir "%s"\nservants_dir ""\nlisten "unix:fae.sock"\nadmin "0.0.0.0:0"\n%s\n'
                        % (tmp_path / "run", "\n".join(lines[k] for k in keep)))
        done = subprocess.run([FAE, "serve", "-c", str(conf)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=30 * SLOW)
        assert done.returncode == 78 and "loopback" in done.stderr, done.stderr
