# SPDX-License-Identifier: BSD-2-Clause
"""Random values against codecs that others wrote: python3-msgpack and php-msgpack (I7).

Each value goes through sys.echo, so it is decoded and encoded by fae. What may change on the way is written down in
lib/README.md and once more here, in as_fae_says(): anything else that changes is a failure.
"""
import math
import os
import random
import struct
import subprocess

import msgpack
import pytest

from harness import HERE, LONG, SANITIZED, SLOW, Node, pack

N_VALUES = 100000 if LONG else 3000 if SANITIZED else 20000
BATCH = 200
DEEPEST = 6
EXACT = 2**53
NUMBERS = [2**bits + d for bits in (0, 5, 7, 8, 15, 16, 31, 32, 53, 63, 64) for d in (-2, -1, 0, 1, 2)]
INTS = [n for n in NUMBERS + [-n for n in NUMBERS] if -2**63 <= n < 2**64]
FLOATS = [0.0, -0.0, 0.5, -1.0, 1e300, 5e-324, 2.0**53, 2.0**53 + 2, 2.0**63, 2.0**64, -2.0**63, math.inf, -math.inf,
          math.nan]
LENGTHS = [0, 1, 15, 16, 31, 32, 33, 255, 256, 257]
# Of UTF-8, and of what nearly is.
PIECES = [c.encode() for c in ("a", "\0", "\x7f", "\u00e9", "\u20ac", "\ud7ff", "\U0001f600")]
PIECES += [b"\x80", b"\xff", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x80\x80", b"\xe2\x82", b"\xed\xa0\x80",
           b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80"]


# ---- values ----

class Values:
    """A repeatable stream of values."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def value(self, depth=0):
        kind = self.random.choice(self.SCALARS if depth > DEEPEST else self.ALL)
        return kind(self, depth)

    def length(self):
        return self.random.choice(LENGTHS) if self.random.random() < 0.1 else self.random.randrange(8)

    def container(self, depth):
        """How many values, and their depth: a long one holds no others, and inside they get fewer."""
        r = self.random
        if depth == 0 and r.random() < 0.05:
            return r.choice(LENGTHS), DEEPEST + 1
        return r.randrange(8 if depth == 0 else 4), depth + 1

    def none(self, _):
        return None

    def boolean(self, _):
        return self.random.random() < 0.5

    def int(self, _):
        r = self.random
        if r.random() < 0.3:
            return r.choice(INTS)
        n = r.getrandbits(r.randrange(1, 65))
        return -n if n <= 2**63 and r.random() < 0.4 else n

    def float(self, _):
        r = self.random
        if r.random() < 0.3:
            return r.choice(FLOATS)
        if r.random() < 0.3:
            return float(self.int(0))
        return struct.unpack(">d", r.getrandbits(64).to_bytes(8, "big"))[0]

    def bytes(self, _):
        r = self.random
        if r.random() < 0.001:
            return r.getrandbits(8 * 70000).to_bytes(70000, "big")
        if r.random() < 0.5:
            n = self.length()
            return r.getrandbits(8 * n).to_bytes(n, "big") if n else b""
        return b"".join(r.choice(PIECES) for _ in range(r.randrange(6)))

    def text(self, _):
        r = self.random
        if r.random() < 0.001:
            return "\u20ac" * 25000
        return "".join(chr(r.choice((r.randrange(128), r.randrange(0xd800), r.randrange(0xe000, 0x110000))))
                       for _ in range(self.length()))

    def list(self, depth):
        n, depth = self.container(depth)
        return [self.value(depth) for _ in range(n)]

    def key(self):
        return self.random.choice((self.text, self.text, self.bytes, self.int))(0)

    def map(self, depth):
        pairs, seen = {}, set()
        n, depth = self.container(depth)
        for _ in range(n):
            key = self.key()
            # A key's text and bytes are one string to Lua; "1" and 1 are one key to PHP.
            name = key.encode() if isinstance(key, str) else key if isinstance(key, bytes) else b"%d" % key
            if name not in seen:
                seen.add(name)
                pairs[key] = self.value(depth)
        return pairs

    def numbered(self, depth):
        """Keys 1 to n, or nearly."""
        n, depth = self.container(depth)
        keys = list(range(1, n + 1))
        self.random.shuffle(keys)
        if keys and self.random.random() < 0.3:
            keys.pop()
        return {key: self.value(depth) for key in keys}

    def ext(self, _):
        n = self.random.choice((0, 1, 2, 3, 4, 8, 15, 16, 17, 255, 256))
        return msgpack.ExtType(self.random.randrange(128), bytes(n))

    SCALARS = [none, boolean, int, int, float, bytes, text, text]
    ALL = SCALARS + [list, list, map, map, numbered, ext]


def as_fae_says(value):
    """The value as fae gives it back: the whole policy."""
    if isinstance(value, float):
        # Lua has one kind of number; -0.0 survives.
        if -EXACT <= value <= EXACT and value == int(value) and not (value == 0 and math.copysign(1, value) < 0):
            return int(value)
        return value
    if isinstance(value, (str, bytes)):
        # Lua has one kind of string: UTF-8 goes out as text, other bytes as binary.
        data = value.encode(errors="surrogateescape") if isinstance(value, str) else value
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data
    if isinstance(value, msgpack.ExtType):
        return value
    if isinstance(value, (list, tuple)):
        return [as_fae_says(v) for v in value]
    if isinstance(value, dict):
        # Lua has one kind of table: keys 1 to n are a list. An empty map stays one.
        pairs = {as_fae_says(k): as_fae_says(v) for k, v in value.items()}
        n = len(pairs)
        if n and all(isinstance(k, int) and 1 <= k <= n for k in pairs):
            return [pairs[i] for i in range(1, n + 1)]
        return pairs
    return value


def same(a, b):
    """In type and value; 1, 1.0 and True differ, NaN is itself, maps have no order."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return struct.pack(">d", a) == struct.pack(">d", b) or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(k in b and same(v, b[k]) for k, v in a.items())
    return a == b


def has_ext(value):
    if isinstance(value, (list, dict)):
        return any(map(has_ext, value.values() if isinstance(value, dict) else value))
    return isinstance(value, msgpack.ExtType)


# ---- bytes ----

def unpack(data):
    """A str that is no UTF-8, as PHP sends it, keeps its bytes as surrogates: as_fae_says() knows."""
    return msgpack.unpackb(data, raw=False, strict_map_key=False, unicode_errors="surrogateescape")


INT_FORMS = [(b"\xcc", ">B"), (b"\xcd", ">H"), (b"\xce", ">I"), (b"\xcf", ">Q"),
             (b"\xd0", ">b"), (b"\xd1", ">h"), (b"\xd2", ">i"), (b"\xd3", ">q")]


def any_int(r, n):
    forms = [pack(n)]
    for head, form in INT_FORMS:
        try:
            forms.append(head + struct.pack(form, n))
        except struct.error:
            pass
    return r.choice(forms)


def any_head(r, n, short, *heads):
    """A length in any of the forms that hold it; heads are those of 8, 16 and 32 bits, None where there is none."""
    forms = [short] if short else []
    forms += [head + n.to_bytes(size, "big") for head, size in zip(heads, (1, 2, 4)) if head and n < 256**size]
    return r.choice(forms)


def any_form(r, value):
    """The value's bytes with every length and number in a form drawn by chance, not the shortest."""
    if isinstance(value, bool) or value is None or isinstance(value, msgpack.ExtType):
        return pack(value)
    if isinstance(value, int):
        return any_int(r, value)
    if isinstance(value, float):
        try:
            short = struct.pack(">f", value)
        except OverflowError:
            return pack(value)
        return b"\xca" + short if same(struct.unpack(">f", short)[0], value) and r.random() < 0.5 else pack(value)
    if isinstance(value, str):
        data = value.encode()
        n = len(data)
        return any_head(r, n, bytes([0xa0 | n]) if n < 32 else None, b"\xd9", b"\xda", b"\xdb") + data
    if isinstance(value, bytes):
        return any_head(r, len(value), None, b"\xc4", b"\xc5", b"\xc6") + value
    n = len(value)
    if isinstance(value, list):
        head = any_head(r, n, bytes([0x90 | n]) if n < 16 else None, None, b"\xdc", b"\xdd")
        return head + b"".join(any_form(r, v) for v in value)
    head = any_head(r, n, bytes([0x80 | n]) if n < 16 else None, None, b"\xde", b"\xdf")
    return head + b"".join(any_form(r, k) + any_form(r, v) for k, v in value.items())


# ---- fae and PHP ----

@pytest.fixture(scope="module")
def node():
    with Node() as n:
        yield n


def echo(c, values):
    """Sends msgpack values in one go; gives back each one's bytes as fae wrote them."""
    head = b"\xa8sys.echo\x91"
    c.send(b"".join(b"\x94\x00" + pack(i) + head + value for i, value in enumerate(values)))
    unpacker = msgpack.Unpacker(raw=False, strict_map_key=False, max_buffer_size=1 << 28)
    stream, at, answers = bytearray(), 0, {}
    while len(answers) < len(values):
        data = c.sock.recv(1 << 18)
        assert data, "the server closed after %d of %d answers" % (len(answers), len(values))
        stream += data
        unpacker.feed(data)
        for message in unpacker:
            raw, at = bytes(stream[at:unpacker.tell()]), unpacker.tell()
            msgid = message[1]
            frame = b"\x94\x01" + pack(msgid) + b"\xc0"
            assert raw.startswith(frame), "not a result: %.200r" % (message,)
            assert msgid not in answers
            answers[msgid] = raw[len(frame):]
    return [answers[i] for i in range(len(values))]


def echo_all(node, values):
    with node.client("unix", timeout=10) as c:
        return [answer for at in range(0, len(values), BATCH) for answer in echo(c, values[at:at + BATCH])]


def php(pairs):
    """differential.php's verdict and its own bytes, for each pair of msgpack values."""
    data = b"".join(struct.pack(">I", len(b)) + b for pair in pairs for b in pair)
    done = subprocess.run(["php", os.path.join(HERE, "differential.php")], input=data, stdout=subprocess.PIPE,
                          timeout=100 * SLOW, check=True)
    out, at = [], 0
    while at < len(done.stdout):
        n, = struct.unpack_from(">I", done.stdout, at + 1)
        out.append((done.stdout[at:at + 1], done.stdout[at + 5:at + 5 + n]))
        at += 5 + n
    assert len(out) == len(pairs), done.stdout[:500]
    return out


def check_all(sent, answers):
    """fae's answers to the bytes that were sent, by Python's reading of both."""
    for data, answer in zip(sent, answers):
        want, got = as_fae_says(unpack(data)), unpack(answer)
        assert same(got, want), "sent %s\nwant %r\ngot  %r" % (data.hex(), want, got)
        # Python keeps a map's order, so the shortest form of everything is these bytes and no others.
        assert pack(got) == answer, "%r came as %s" % (got, answer.hex())


def test_random_values(node):
    seed = random.SystemRandom().getrandbits(32) if LONG else 7
    print("seed", seed)
    values = Values(seed)
    originals = [values.value() for _ in range(N_VALUES)]
    sent = [any_form(values.random, v) if i % 2 else pack(v) for i, v in enumerate(originals)]
    for value, data in zip(originals, sent):
        assert same(unpack(data), value)  # any_form and Python agree
    answers = echo_all(node, sent)
    check_all(sent, answers)

    # PHP reads what fae wrote as it reads what Python wrote; fae reads what PHP wrote as Python does.
    pairs = [(answer, pack(as_fae_says(v))) for v, answer in zip(originals, answers) if not has_ext(v)]
    assert len(pairs) > N_VALUES / 3
    verdicts = php(pairs)
    for (ours, theirs), (verdict, _) in zip(pairs, verdicts):
        assert verdict == b"=", "PHP reads %s and %s as different values" % (ours.hex(), theirs.hex())
    written = [data for _, data in verdicts]
    check_all(written, echo_all(node, written))


@pytest.mark.parametrize("head, tail", [("82 0300 01", ""), ("83 01", "0300 0500"), ("84 0300 0200 0400 01", "")],
                         ids=["two keys", "three keys", "a list out of order"])
def test_deep_maps_that_are_nearly_lists(node, head, tail):
    """Once written twice at each level, which at this depth would take for ever."""
    data = bytes.fromhex(head) * 60 + b"\x80" + bytes.fromhex(tail) * 60
    check_all([data], echo_all(node, [data]))


def test_a_difference_is_seen():
    """The comparisons above, on values that differ a little."""
    for a, b in ((1, 1.0), (1, True), ("a", b"a"), (0.0, -0.0), ([], {}), ([1], [1, 2]), ({1: 2}, {1: 3}),
                 ({1: 2}, {2: 2}), (None, False), (2**53, 2**53 + 1), ("", None)):
        assert not same(a, b) and not same([a], [b]) and same(a, a)
    different = ((1, 2), (1, 1.0), ("a", "b"), ([1], [2]), ({"a": 1}, {"a": 2}), ({"a": 1}, {}))
    pairs = [(pack(a), pack(b)) for a, b in different]
    assert [verdict for verdict, _ in php(pairs)] == [b"!"] * len(pairs)
