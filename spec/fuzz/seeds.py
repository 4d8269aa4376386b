# SPDX-License-Identifier: BSD-2-Clause
"""Writes the seeds that are made, not found: spec/fuzz/seeds.py [folder]. The same every time: a change shows in git.

Those captured from clients and those that once crashed something (crash-*) have no source but themselves and are left
alone.
"""
import os
import struct
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, os.pardir, "e2e"))
from wire_rows import ROWS, h, pack  # noqa: E402

OUT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(HERE, "seeds")
LONGEST = 3000
written = set()


def write(target, name, data):
    folder = os.path.join(OUT, target)
    os.makedirs(folder, exist_ok=True)
    word = "".join(c if c.isalnum() else "-" for c in name).strip("-").lower()
    while (target, word) in written:
        word += "-2"
    written.add((target, word))
    with open(os.path.join(folder, word), "wb") as f:
        f.write(data)


# ---- msgpack-RPC ----

VALUES = {
    "scalars": [None, True, False, 0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**53, 2**53 + 1, 2**63,
                2**64 - 1, -1, -32, -33, -128, -129, -32768, -32769, -2**31, -2**31 - 1, -2**53 - 1, -2**63],
    "floats": [0.0, -0.0, 1.0, 1.5, 1e300, -1e-300, 2.0**53, 2.0**60, float("inf"), float("-inf"), float("nan")],
    "texts": ["", "a" * 31, "b" * 32, "c" * 255, "d" * 256, "\u20ac\U0001f600", b"", b"\xff", b"\xff" * 300],
    "containers": [[], {}, [[]], [{}], {"a": {"b": [None, None]}}, list(range(20)), {str(i): i for i in range(20)}],
    "keys": [{1: "a", 2: "b"}, {2: "a", 1: "b"}, {1: "a", 3: "b"}, {"1": 1, 1: 2}, {0: 1}, {-1: 1}, {2**60: 1},
             {2**64 - 1: 1, "x": 2}, {b"\xff": 1}],
}
FORMS = {
    "long forms": "9b cc01 cd0001 ce00000001 cf0000000000000001 d001 d10001 d200000001 d30000000000000001 "
                  "d90161 da000161 db0000000161",
    "float32": "94 ca3f800000 ca3fc00000 ca7fc00000 ca80000000",
    "exts": "98 d40161 d5016161 d60161616161 c70001 c7010161 c80001ff61 c900000001ff61 d8ff" + "61" * 16,
    "double keys": "85 a161 01 c40161 02 01 03 cc01 04 a0 05",
    "wide keys": "83 cf1000000000000000 01 cf1000000000000000 02 d3f000000000000000 03",
    "list by keys": "83 03 01 01 02 02 03",
    "deep": "91" * 63 + "90",
    "deep with an ext": "91" * 64 + "d40161",
    "deep maps": "81a161" * 63 + "80",
    "nearly lists, deep": "82030001" * 60 + "80",
    "lists out of order, deep": "8403000200040001" * 60 + "80",
    "float key": "81 cb3ff0000000000000 01",
    "cut": "93 01 a5 6162",
    "array16 and map16": "92 dc0010" + "00" * 16 + "de0010" + "".join("%02x00" % i for i in range(16)),
}


def wire():
    for name, data, _, _ in ROWS:
        if len(data) <= LONGEST:
            write("session", name, data)
    for name, value in VALUES.items():
        write("msgpack", name, pack(value))
        write("session", "value " + name, pack([0, 1, "sys.echo", [value]]))
    for name, text in FORMS.items():
        write("msgpack", name, h(text))
    request = b"".join(pack([0, i, "sys.echo", [i]]) for i in range(12))
    write("session", "pipelined", request)
    # 'p' and 'x' are answered later, 'y' at length, 'z' with an error (fuzz_session.c)
    write("session", "many that wait", b"".join(pack([0, i, "p", [i]]) for i in range(200)))
    write("session", "waiting, then lost", b"".join(pack([0, i, "x", []]) for i in range(5)) + h("c1"))
    write("session", "waiting, then cut", b"".join(pack([0, i, "xy"[i % 2], []]) for i in range(5)) + h("94 00 01"))
    write("session", "at length", b"".join(pack([0, i, "y", []]) for i in range(40)))
    write("session", "all kinds", b"".join(pack([0, i, "pyz"[i % 3], [i], {"rid": "r"}]) for i in range(30)))
    write("session", "notifications between", (pack([2, "sys.noop", []]) + pack([0, 1, "z", []])) * 8)


# ---- configuration ----

CONFS = {
    "options": 'workers(4)\nrun_dir "run"\nmessage_max "4MiB"\nlog_level "warn"\nwatchdog(false)\n',
    "listen": 'listen { "tcp://127.0.0.1:0", half_close = true }\n'
              'listen { "unix:a.sock", mode = "0600", group = "g" }\n',
    "listen by address": 'listen "unix:fae.sock"\nlisten "*:9001"\nadmin ""\n',
    "servant": 'servant "shop" { ttl = 60, name = "x", list = { 1, 2 }, deep = { yes = true, no = { 1.5 } } }\n',
    "computed": 'local n = 2 * 3\nworkers(n)\nrun_dir("run" .. tostring(n))\nlog_file(os.getenv("NOPE") or "")\n',
    "branches": 'if os.getenv "HOME" then workers(1) else workers(2) end\nlocal t = { a = 1 }\nworkers(t.a)\n',
    "unknown names": 'wrokers(4)\nworkers = 4\nlisen "x"\nprint(1)\nlocal x = zzz.a.b(1) .. zzz\n',
    "wrong values": 'workers(900)\nworkers "4"\nworkers(0/0)\nworkers {}\nmessage_max "1GiB"\nrun_dir "a\\0b"\n',
    "wrong listen": 'listen()\nlisten {}\nlisten { "unix:a", mod = 1 }\nlisten { "unix:a", mode = "9" }\nlisten ""\n',
    "wrong servants": 'servant "a b" {}\nservant "x" { f = tostring }\nservant "x" { [1.5] = 1 }\nservant "x"\n',
    "sections": 'limit "shop.*" { calls = 5, rate = 10, burst = 2, slow_ms = 9 }\nlimit("a.b", {})\n'
                'role "web" { allow = { "shop.*", "*" }, deny = "shop.x", peer = true }\n'
                'token "t" { sha256 = "' + "0123456789abcdef" * 4 + '", roles = { "web" } }\naccount "0" { roles = "web" }\n'
                'certificate "a b" {}\nfence "x" { allow = "ffi debug" }\nplugin "z" { a = 1 }\nplugin "a" {}\n'
                'listen { "tls://*:1", cert = "c", key = "k", client_ca = "a", roles = "web" }\nsecrets { "a", "b" }\n',
    "wrong sections": 'limit "a-b" {}\nlimit "x"\nlimit "y" { "z" }\nlimit "y" {}\nrole "web" { alow = 1 }\n'
                      'token "t" {}\ntoken "u" { sha256 = "12" }\naccount "nobodyhere" { roles = "wbe" }\n'
                      'fence "x" { allow = "io.popn" }\nlisten "tls://*:1"\nhost_exempt "1.2.3"\nadmin "0.0.0.0:1"\n',
    "cycle": 'local t = {}\nt.t = t\nservant "x" (t)\n',
    "disagree": 'drain_spread_ms(3000)\ndrain_ms(2999)\nwatchdog_warn_ms(5000)\n',
    "syntax": 'workers(4\n\n)x =\n',
    "comments": '--[==[ a ]] b ]==] workers(1) -- x\n--[[ never ends',
    "strings": 'run_dir [[a\nb]]\nlog_file "\\65\\x41\\z   b"\nuser \'it\\\'s\'\n',
    "error": 'error "no"\nlocal t = nil\nt.x = 1\n',
    "pairs": 'local t = table.concat({ "a", "b" }, ",")\nrun_dir(t)\nlocal k = pairs { a = 1, [2] = 3 }\nworkers(#t)\n',
    "bytecode": "\x1bLJ\x02",
}


def rows(*triples):
    out, n = b"", 0
    for section, index, name, value, line in triples:
        out += b"".join(str(x).encode() + b"\0" for x in (section, index, name, value, line))
        n += 1
    return out + b"".join(str(x).encode() + b"\0" for x in ("end", n, "", "", 0))


def conf():
    for name, text in CONFS.items():
        write("conf", name, text.encode())
    write("rows", "none", rows())
    write("rows", "options", rows(("", 0, "workers", 4, 1), ("", 0, "message_max", "64KiB", 2),
                                  ("", 0, "watchdog", "false", 3), ("", 0, "log_format", "json", 4)))
    write("rows", "listen", rows(("listen", 0, "addr", "unix:fae.sock", 1), ("listen", 0, "mode", "0600", 1),
                                 ("listen", 1, "addr", "tcp://*:9001", 2), ("listen", 1, "half_close", "true", 2)))
    write("rows", "servants", rows(("servant", 0, "shop", '{"a":[1,2.5,"x\\u20ac"],"b":{}}', 1),
                                   ("servant", 1, "b", "{}", 2)))
    write("rows", "sections", rows(("role", 0, "name", "web", 1), ("role", 0, "allow", "shop.* lc.get", 1),
                                   ("limit", 0, "methods", "shop.*", 2), ("limit", 0, "rate", 5, 2),
                                   ("limit", 1, "methods", "lc_get", 2), ("limit", 1, "slow_ms", 5, 2),
                                   ("token", 0, "name", "t", 3), ("token", 0, "sha256", "0123456789abcdef" * 4, 3),
                                   ("token", 0, "roles", "web", 3), ("account", 0, "name", "33", 4),
                                   ("certificate", 0, "name", "a b", 5), ("fence", 0, "name", "x", 6),
                                   ("fence", 0, "allow", "ffi", 6), ("", 0, "secrets", " a  b ", 7),
                                   ("plugin", 0, "p", '{"a":"}\\",{"}', 8), ("plugin", 1, "a", "{}", 8)))
    write("rows", "wrong role", rows(("account", 0, "name", "33", 1), ("account", 0, "roles", "web", 1)))
    write("rows", "twice the same key", rows(("limit", 0, "methods", "a.b", 1), ("limit", 1, "methods", "a.b", 1)))
    write("rows", "without its hash", rows(("token", 0, "name", "t", 1)))
    write("rows", "wrong value", rows(("", 0, "workers", 900, 1)))
    write("rows", "wrong name", rows(("", 0, "workrs", 9, 1)))
    write("rows", "wrong order", rows(("listen", 1, "addr", "unix:a", 1)))
    write("rows", "wrong json", rows(("servant", 0, "shop", '{"a":}', 1)))
    write("rows", "disagree", rows(("", 0, "drain_ms", 1, 1)))
    write("rows", "cut", rows(("", 0, "workers", 4, 1))[:-3])


# ---- bundles ----

def bundle(*files):
    out = b"FAEB" + struct.pack("<I", 1)
    for path, body in files:
        out += struct.pack("<II", len(path), len(body)) + path + b"\0" + body + b"\0"
    return out


def bundles():
    two = bundle((b"servants/a.lua", b"return 1\n"), (b"lua/fae/redis.lua", b""))
    write("bundle", "none", bundle())
    write("bundle", "two", two)
    write("bundle", "twice the same path", bundle((b"a", b"1"), (b"a", b"2")))
    write("bundle", "zero in the body", bundle((b"a", b"\0\0")))
    write("bundle", "zero in the path", bundle((b"a\0b", b"")))
    write("bundle", "no path", bundle((b"", b"x")))
    write("bundle", "cut", two[:-1])
    write("bundle", "more behind", two + b"\0")
    write("bundle", "path of 2^32-1", b"FAEB" + struct.pack("<III", 1, 0xffffffff, 1) + b"a\0b\0")
    write("bundle", "body of 2^32-1", b"FAEB" + struct.pack("<III", 1, 1, 0xffffffff) + b"a\0b\0")
    write("bundle", "version 2", b"FAEB" + struct.pack("<I", 2))


# ---- fae.ctl ----

LINES = {
    "verbs": b"ping\nstatus\nstats\nreload\nreload wait\nreload dry-run\nrollback\nping\n",
    "stop": b"stop\nping\nreload\nstatus\n",
    "carriage returns": b"ping\r\nping\r\r\n\r\n",
    "no newline": b"ping",
    "empty": b"\n\n\n",
    "arguments": b"config\nlog-level\nlog-level debug\nlog-level reset\nlog-level lod\nreopen-log\nreopen-log x\n",
    "asking": b"sessions\nsessions 5\nsessions x\nsession-close 0:1\nsession-close peer=10.0.0.1\ngc\nservants\n"
              b"hist\n",
    "doors": b"drain\ndrain\nundrain\ndrain 0\ndrain 9\n",
    "unknown": b"pong\nPING\nping \nreload  wait\nOK\nERR x\n",
    "zero byte": b"ping\0x\nping\n",
    "longest": b"x" * 1023 + b"\nping\n",
    "too long": b"ping\n" + b"x" * 1024 + b"\nping\n",
    "longest without newline": b"x" * 1023,
    "too long without newline": b"x" * 1024,
    "reports": b"reload\nOK looks like the end\nERR as well\n\nOKAY",
}


def ctl():
    for name, data in LINES.items():
        write("ctl", name, data)


# ---- the admin server ----

HOST = b"Host: localhost\r\n"
REQUESTS = {
    "get": b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "head": b"HEAD /stats HTTP/1.1\r\n" + HOST + b"\r\n",
    "of no version": b"GET /healthz HTTP/1.-97\r\n\r\n",
    "old": b"GET /readyz HTTP/1.0\r\n\r\n",
    "absolute": b"GET http://localhost/metrics HTTP/1.1\r\n" + HOST + b"\r\n",
    "query": b"GET /admin/slowlog?n=5 HTTP/1.1\r\n" + HOST + b"Authorization: Bearer x\r\n\r\n",
    "post": b"POST /admin/reload HTTP/1.1\r\n" + HOST + b"Authorization: Bearer x\r\nContent-Length: 16\r\n\r\n"
            b'{"dry_run":true}',
    "chunks": b"POST /admin/gc HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n",
    "both lengths": b"POST /admin/gc HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"
                    b"0\r\n\r\n",
    "expect": b"POST /admin/gc HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n{}",
    "page": b"POST /admin/gc HTTP/1.1\r\n" + HOST + b"Origin: http://localhost\r\nContent-Length: 0\r\n\r\n",
    "folded": b"GET /healthz HTTP/1.1\r\nHost:\r\n localhost\r\nX: a\r\n\tb\r\n\r\n",
    "two": b"GET /healthz HTTP/1.1\r\n" + HOST + b"\r\nGET /readyz HTTP/1.1\r\n" + HOST + b"\r\n",
    "keep": b"GET /healthz HTTP/1.1\r\n" + HOST + b"Connection: keep-alive\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
    "another behind a connect": b"CONNECT GET h1\r\nGET /admin/servants HTTP/1.1\r\n" + HOST + b"\r\n",
    "sessions": b"GET /admin/sessions?n=3 HTTP/1.1\r\n" + HOST + b"\r\n",
    "empty lines": b"\r\n\r\nGET /healthz HTTP/1.1\r\n" + HOST + b"\r\n",
    "bare newlines": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "dots": b"GET /admin/..%2f..%2fetc/passwd HTTP/1.1\r\n" + HOST + b"\r\n",
    "short body": b"POST /admin/gc HTTP/1.1\r\n" + HOST + b"Content-Length: 100\r\n\r\nabc",
}


def http():
    for name, data in REQUESTS.items():
        write("http", name, data)


# ---- what a memcached answers to "gets a b c a", a set, an incr, a delete and "gets d" ----

REST = b"STORED\r\n18446744073709551615\r\nNOT_FOUND\r\nEND\r\n"
ANSWERS = {
    "all": b"VALUE a 1 2 3\r\nxy\r\nVALUE b 0 0 1\r\n\r\nVALUE c 0 1 1\r\nC\r\nVALUE a 4294967295 1 9\r\nz\r\nEND\r\n" + REST,
    "none": b"END\r\n" + REST,
    "turned": b"VALUE c 0 1 1\r\nC\r\nVALUE b 0 1 1\r\nB\r\nVALUE a 0 1 1\r\nA\r\nEND\r\n" + REST,
    "too long": b"VALUE a 0 65 1\r\n" + b"v" * 65 + b"\r\nVALUE c 0 70 1\r\n" + b"v" * 70 + b"\r\nEND\r\n" + REST,
    "endless": b"VALUE a 0 18446744073709551615 1\r\n" + b"v" * 99,
    "errors": b"SERVER_ERROR busy\r\nSERVER_ERROR object too large for cache\r\nCLIENT_ERROR not a number\r\nERROR\r\nERROR\r\n",
    "a set refused": b"END\r\nCLIENT_ERROR line\r\nERROR\r\n",
    "out of step": b"STORED\r\nEND\r\n" + REST,
    "another key": b"VALUE e 0 1 1\r\nE\r\nEND\r\n" + REST,
    "long key": b"VALUE " + b"k" * 340 + b" 0 1\r\nx\r\nEND\r\n",
    "one more": b"END\r\n" + REST + b"END\r\n",
}


def memcache():
    for name, data in ANSWERS.items():
        write("memcache", name, data)


memcache()
wire()
conf()
bundles()
ctl()
http()
