# SPDX-License-Identifier: BSD-2-Clause
"""The table of inputs that are wrong, odd or at a limit, each with its exact answer.

A row is (name, bytes in, messages out, does the session go on). Messages are written as Python values and compared as
bytes, in the shortest form; bytes stand for themselves. Rows are fed to test_wire.py's node, which has
message_max = 64 KiB.
"""
import msgpack

MESSAGE_MAX = 65536


def pack(value):
    return msgpack.packb(value, use_bin_type=True)


def h(text):
    return bytes.fromhex(text.replace(" ", ""))


def refused(msgid, why):
    return [1, msgid, "BAD_MESSAGE: " + why, None]


def told(text):
    return [2, "sys.error", [text]]


SHAPE = "a request is [0, msgid, method, params] or [0, msgid, method, params, context]"
SHORT = "a request is [0, msgid, method, params]"
METHOD = "method must be a string"
EMPTY = "method must not be empty"
PARAMS = "params must be an array"
CONTEXT = "context (the fifth element) must be a map"
TYPE = told("BAD_MESSAGE: message type must be 0 (request) or 2 (notification)")
MSGID = told("BAD_MESSAGE: msgid must be an integer from 0 to 4294967295")
NO_ARRAY = told("BAD_MESSAGE: a message is an array [0, msgid, method, params]")
NOT_MSGPACK = told("BAD_MESSAGE: not msgpack")
LIMIT = told("LIMIT: message is too long, too deep or has too many elements")
STAYS, CLOSES = True, False


def nested(depth):
    """An echo whose whole message opens `depth` containers."""
    return h("94 00 01 a8") + b"sys.echo" + h("91") + h("91") * (depth - 2) + h("01")


def key_refused(word):
    return [1, 1, "BAD_ARGS: a map key must be a string or an integer, not " + word, None]


def echo_raw(value):
    """[0, 1, "sys.echo", [value]] around msgpack bytes."""
    return h("94 00 01 a8") + b"sys.echo" + h("91") + value


def echoed(value):
    return [1, 1, None, value]


def unknown(text):
    return [1, 1, "UNKNOWN_METHOD: no method " + text, None]


def exactly(n_bytes):
    """An echo of a bin that makes the message n_bytes long, and its answer."""
    body = b"\xff" * (n_bytes - 18)
    data = h("94 00 01 a8") + b"sys.echo" + h("91") + b"\xc6" + len(body).to_bytes(4, "big") + body
    assert len(data) == n_bytes
    return data


ROWS = [
    # ---- frames of the wrong length ----
    ("request of 3", pack([0, 1, "sys.noop"]), [refused(1, SHAPE)], STAYS),
    ("request of 2", pack([0, 1]), [refused(1, SHAPE)], STAYS),
    ("request of 1", pack([0]), [told("BAD_MESSAGE: " + SHORT)], STAYS),
    ("request of 6", pack([0, 1, "sys.noop", [], {}, 1]), [refused(1, SHAPE)], STAYS),
    ("request of 15", pack([0, 1] + [1] * 13), [refused(1, SHAPE)], STAYS),
    ("empty array", h("90"), [told("BAD_MESSAGE: an empty array is no message")], STAYS),
    ("empty array, array16", h("dc0000"), [told("BAD_MESSAGE: an empty array is no message")], STAYS),
    # ---- the type ----
    ("type 3", pack([3, 1, "sys.noop", []]), [TYPE], STAYS),
    ("type -1", pack([-1, 1, "sys.noop", []]), [TYPE], STAYS),
    ("type 2^64-1", pack([2**64 - 1, 1, "sys.noop", []]), [TYPE], STAYS),
    ("type 0.0", pack([0.0, 1, "sys.noop", []]), [TYPE], STAYS),
    ('type "0"', pack(["0", 1, "sys.noop", []]), [TYPE], STAYS),
    ("type nil", pack([None, 1, "sys.noop", []]), [TYPE], STAYS),
    ("type true", pack([True, 1, "sys.noop", []]), [TYPE], STAYS),
    ("type an array", pack([[0], 1, "sys.noop", []]), [TYPE], STAYS),
    ("type 0 as uint64", h("94 cf0000000000000000 01 a8") + b"sys.noop" + h("90"), [[1, 1, None, None]], STAYS),
    ("type 0 as int8", h("94 d000 01 a8") + b"sys.noop" + h("90"), [[1, 1, None, None]], STAYS),
    # ---- the msgid ----
    ("msgid 0", pack([0, 0, "sys.noop", []]), [[1, 0, None, None]], STAYS),
    ("msgid 127", pack([0, 127, "sys.noop", []]), [[1, 127, None, None]], STAYS),
    ("msgid 128", pack([0, 128, "sys.noop", []]), [[1, 128, None, None]], STAYS),
    ("msgid 65536", pack([0, 65536, "sys.noop", []]), [[1, 65536, None, None]], STAYS),
    ("msgid 2^32-1", pack([0, 2**32 - 1, "sys.noop", []]), [[1, 2**32 - 1, None, None]], STAYS),
    ("msgid 5 as int64", h("94 00 d30000000000000005 a8") + b"sys.noop" + h("90"), [[1, 5, None, None]], STAYS),
    ("msgid 2^32", pack([0, 2**32, "sys.noop", []]), [MSGID], STAYS),
    ("msgid -1", pack([0, -1, "sys.noop", []]), [MSGID], STAYS),
    ("msgid -2^63", pack([0, -2**63, "sys.noop", []]), [MSGID], STAYS),
    ("msgid 1.0", pack([0, 1.0, "sys.noop", []]), [MSGID], STAYS),
    ("msgid nil", pack([0, None, "sys.noop", []]), [MSGID], STAYS),
    ('msgid "1"', pack([0, "1", "sys.noop", []]), [MSGID], STAYS),
    ("msgid false", pack([0, False, "sys.noop", []]), [MSGID], STAYS),
    ("msgid an array", pack([0, [1], "sys.noop", []]), [MSGID], STAYS),
    ("msgid a map", pack([0, {}, "sys.noop", []]), [MSGID], STAYS),
    ("same msgid twice", pack([0, 9, "sys.noop", [1]]) + pack([0, 9, "sys.noop", [2]]),
     [[1, 9, None, 1], [1, 9, None, 2]], STAYS),
    # ---- the method ----
    ("method 1", pack([0, 1, 1, []]), [refused(1, METHOD)], STAYS),
    ("method nil", pack([0, 1, None, []]), [refused(1, METHOD)], STAYS),
    ("method 1.5", pack([0, 1, 1.5, []]), [refused(1, METHOD)], STAYS),
    ("method an array", pack([0, 1, ["sys.noop"], []]), [refused(1, METHOD)], STAYS),
    ("method an ext", h("94 00 01 d40161 90"), [refused(1, METHOD)], STAYS),
    ("method empty", pack([0, 1, "", []]), [refused(1, EMPTY)], STAYS),
    ("method empty bin", pack([0, 1, b"", []]), [refused(1, EMPTY)], STAYS),
    ("method as bin", pack([0, 1, b"sys.noop", [7]]), [[1, 1, None, 7]], STAYS),
    ("method as str32", h("94 00 01 db00000008") + b"sys.noop" + h("9107"), [[1, 1, None, 7]], STAYS),
    ("method NUL", pack([0, 1, "\0", []]), [unknown('"\\u0000"')], STAYS),
    ("method with NUL after", pack([0, 1, "sys.noop\0", []]),
     [unknown('"sys.noop\\u0000": did you mean sys.noop?')], STAYS),
    ("method invalid UTF-8", h("94 00 01 a3 ff 41 fe 90"), [unknown('"\ufffdA\ufffd"')], STAYS),
    ("method with escapes", pack([0, 1, 'a"\\\n\x1b', []]), [unknown('"a\\"\\\\\\n\\u001b"')], STAYS),
    ("method misspelt", pack([0, 1, "sys.pimg", []]), [unknown('"sys.pimg": did you mean sys.ping?')], STAYS),
    ("method in capitals", pack([0, 1, "SYS.NOOP", []]), [unknown('"SYS.NOOP"')], STAYS),
    ("method of 60,000 bytes", pack([0, 1, "m" * 60000, []]), [unknown('"%s"' % ("m" * 128))], STAYS),
    # ---- params ----
    ("params nil", pack([0, 1, "sys.noop", None]), [refused(1, PARAMS)], STAYS),
    ("params a map", pack([0, 1, "sys.noop", {}]), [refused(1, PARAMS)], STAYS),
    ("params 0", pack([0, 1, "sys.noop", 0]), [refused(1, PARAMS)], STAYS),
    ('params "[]"', pack([0, 1, "sys.noop", "[]"]), [refused(1, PARAMS)], STAYS),
    ("params of 201", pack([0, 1, "sys.ping", [0] * 201]), [refused(1, "more than 200 params")], STAYS),
    ("params of 2 for 1", pack([0, 1, "sys.noop", [1, 2]]),
     [[1, 1, "BAD_ARGS: sys.noop takes 1 argument, not 2", None]], STAYS),
    # ---- the fifth element ----
    ("context nil", pack([0, 1, "sys.noop", [7], None]), [[1, 1, None, 7]], STAYS),
    ("context empty", pack([0, 1, "sys.noop", [7], {}]), [[1, 1, None, 7]], STAYS),
    ("context an array", pack([0, 1, "sys.noop", [], []]), [refused(1, CONTEXT)], STAYS),
    ("context 1", pack([0, 1, "sys.noop", [], 1]), [refused(1, CONTEXT)], STAYS),
    ("context a string", pack([0, 1, "sys.noop", [], "rid"]), [refused(1, CONTEXT)], STAYS),
    ("context with a nil key", pack([0, 1, "sys.noop", [], {None: 1}]), [key_refused("nil")], STAYS),
    # ---- notifications: never answered, never closing ----
    ("notification", pack([2, "sys.noop", []]), [], STAYS),
    ("notification of 2", pack([2, "sys.noop"]), [], STAYS),
    ("notification of 1", pack([2]), [], STAYS),
    ("notification of 4", pack([2, "sys.noop", [], {}]), [], STAYS),
    ("notification, method 1", pack([2, 1, []]), [], STAYS),
    ("notification, method nil", pack([2, None, []]), [], STAYS),
    ("notification, method empty", pack([2, "", []]), [], STAYS),
    ("notification, method unknown", pack([2, "no.such", []]), [], STAYS),
    ("notification, params nil", pack([2, "sys.noop", None]), [], STAYS),
    ("notification, params a map", pack([2, "sys.noop", {"a": 1}]), [], STAYS),
    ("notification, too many params", pack([2, "sys.noop", [1, 2, 3]]), [], STAYS),
    ("notification, 300 params", pack([2, "sys.noop", [0] * 300]), [], STAYS),
    ("notification, nil map key", pack([2, "sys.echo", [{None: 1}]]), [], STAYS),
    # ---- responses of a client ----
    ("response", pack([1, 1, None, 5]), [], STAYS),
    ("response with an error", pack([1, 1, "x", None]), [], STAYS),
    ("response of 1", pack([1]), [], STAYS),
    ("response of 9", pack([1] * 9), [], STAYS),
    # ---- no message at all ----
    ("top level int", h("07"), [NO_ARRAY], CLOSES),
    ("top level nil", h("c0"), [NO_ARRAY], CLOSES),
    ("top level true", h("c3"), [NO_ARRAY], CLOSES),
    ("top level map", pack({"jsonrpc": "2.0"}), [NO_ARRAY], CLOSES),
    ("top level string", pack("hello"), [NO_ARRAY], CLOSES),
    ("top level float", pack(1.5), [NO_ARRAY], CLOSES),
    ("top level ext", h("d40100"), [NO_ARRAY], CLOSES),
    ("an HTTP request", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", [NO_ARRAY], CLOSES),
    ("a TLS hello", h("16030100a1010000"), [NO_ARRAY], CLOSES),
    ("a JSON request", b'{"method":"sys.noop"}\n', [NO_ARRAY], CLOSES),
    ("a newline", b"\n", [NO_ARRAY], CLOSES),
    ("good, then an int", pack([0, 5, "sys.noop", []]) + h("07"), [[1, 5, None, None], NO_ARRAY], CLOSES),
    # ---- no msgpack ----
    ("c1", h("c1"), [NOT_MSGPACK], CLOSES),
    ("c1 in a frame", h("94 00 01 c1"), [NOT_MSGPACK], CLOSES),
    ("c1 in params", h("94 00 01 a8") + b"sys.noop" + h("91 c1"), [NOT_MSGPACK], CLOSES),
    ("c1 as a map's key", echo_raw(h("81 c1 01")), [NOT_MSGPACK], CLOSES),
    ("good, then c1", pack([0, 5, "sys.noop", []]) + h("c1"), [[1, 5, None, None], NOT_MSGPACK], CLOSES),
    # ---- lengths that cannot be ----
    ("array32 of 2^32-1", h("ddffffffff"), [LIMIT], CLOSES),
    ("map32 of 2^32-1", h("dfffffffff"), [LIMIT], CLOSES),
    ("str32 of 2^32-1", h("dbffffffff"), [LIMIT], CLOSES),
    ("bin32 of 2^32-1", h("c6ffffffff"), [LIMIT], CLOSES),
    ("ext32 of 2^32-1", h("c9ffffffff"), [LIMIT], CLOSES),
    ("str32 of 2^31", h("94 00 01 db80000000"), [LIMIT], CLOSES),
    ("map32 of 2^31: twice wraps 32 bits", h("94 00 01 a8") + b"sys.echo" + h("91 df80000000"), [LIMIT], CLOSES),
    ("array16 of more than message_max leaves", h("94 00 01 a8") + b"sys.echo" + h("91 dcffff"), [LIMIT], CLOSES),
    ("array32 inside params", h("94 00 01 a8") + b"sys.echo" + h("91 ddffffffff"), [LIMIT], CLOSES),
    ("10,000 x 91", h("91") * 10000, [LIMIT], CLOSES),
    ("24,000 x dcffff", h("dcffff") * 24000, [LIMIT], CLOSES),
    ("10,000 x 81: nested map keys", h("81") * 10000, [LIMIT], CLOSES),
    ("maps nested in values", h("91") + h("8101") * 5000, [LIMIT], CLOSES),
    ("depth 64", nested(64), [echoed(msgpack.unpackb(h("91") * 62 + h("01")))], STAYS),
    ("depth 65", nested(65), [LIMIT], CLOSES),
    ("as long as may be", exactly(MESSAGE_MAX), [echoed(b"\xff" * (MESSAGE_MAX - 18))], STAYS),
    ("one byte too long", exactly(MESSAGE_MAX + 1), [LIMIT], CLOSES),
    # ---- values ----
    ("map key nil", echo_raw(h("81 c0 01")), [key_refused("nil")], STAYS),
    ("map key 1.5", echo_raw(h("81 cb3ff8000000000000 01")), [key_refused("a float")], STAYS),
    ("map key float32", echo_raw(h("81 ca3f800000 01")), [key_refused("a float")], STAYS),
    ("map key an array", echo_raw(h("81 90 01")), [key_refused("an array")], STAYS),
    ("map key a map", echo_raw(h("81 80 01")), [key_refused("a map")], STAYS),
    ("map key true", echo_raw(h("81 c3 01")), [key_refused("a boolean")], STAYS),
    ("map key an ext", echo_raw(h("81 d40100 01")), [key_refused("an extension")], STAYS),
    ("map key nil, deep inside", echo_raw(h("91 81 a161 91 81 c0 01")), [key_refused("nil")], STAYS),
    ("map key a string", echo_raw(h("81 a161 01")), [echoed({"a": 1})], STAYS),
    ("map key a bin", echo_raw(h("81 c40161 01")), [echoed({"a": 1})], STAYS),
    ("map key an integer", echo_raw(h("81 ff 01")), [echoed({-1: 1})], STAYS),
    ("map key empty", echo_raw(h("81 a0 01")), [echoed({"": 1})], STAYS),
    ("duplicate key: the last wins", echo_raw(h("82 a161 01 a161 02")), [echoed({"a": 2})], STAYS),
    ("duplicate key, last nil", echo_raw(h("82 a161 01 a161 c0")), [echoed({"a": None})], STAYS),
    ("fixext", echo_raw(h("d4 05 aa")), [echoed(msgpack.ExtType(5, b"\xaa"))], STAYS),
    ("ext8, empty", echo_raw(h("c7 00 05")), [echoed(msgpack.ExtType(5, b""))], STAYS),
    ("ext16, negative type", echo_raw(h("c8 0003 ff 010203")), [h("94 01 01 c0 c7 03 ff 010203")], STAYS),
    ("str with invalid UTF-8 comes back as bin", echo_raw(h("a2 c328")), [echoed(b"\xc3\x28")], STAYS),
    ("str with a surrogate comes back as bin", echo_raw(h("a3 eda080")), [echoed(b"\xed\xa0\x80")], STAYS),
    ("bin with UTF-8 comes back as str", echo_raw(h("c4 03 e282ac")), [echoed("\u20ac")], STAYS),
    ("an int in its longest form", echo_raw(h("d3 0000000000000001")), [echoed(1)], STAYS),
    ("nil as an argument", echo_raw(h("c0")), [echoed(None)], STAYS),
    ("nil in an array", echo_raw(h("93 c0 01 c0")), [echoed([None, 1, None])], STAYS),
    ("empty map", echo_raw(h("80")), [echoed({})], STAYS),
    ("empty array as argument", echo_raw(h("90")), [echoed([])], STAYS),
]
