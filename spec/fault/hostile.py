# SPDX-License-Identifier: BSD-2-Clause
"""A redis and a memcached that speak well, until a script makes them misbehave (I9).

    fake = stage.open(hostile.Redis())
    fake.misbehave(17)        # from now on as the script of seed 17 says, the same each time
    fake.heal()               # a good server again

What a good one has for a key that nobody set is value_of(key), so that every answer can be checked. SCRIPTED below is
the list of misbehaviours; a script picks a few of them, says how many requests are answered well before, and what
becomes of new connections. Strings that a server may never send are in BAD: whole, then silence, then the end.
"""
import asyncio
import random

from stage import Server

NEVER_S = 3600
HUGE = 8 << 20


def value_of(key):
    return b"value of " + key + b"."


class Script:
    """What one seed does, decision by decision."""

    def __init__(self, kind, seed):
        self.rng = rng = random.Random("%s %d" % (kind, seed))
        self.n_good = rng.randrange(4)
        self.acts = [rng.choice(SCRIPTED) for _ in range(rng.randrange(1, 4))]
        self.greetings = [rng.choice(GREETINGS)] if rng.random() < 0.25 else [None]
        self.share = rng.choice((0.3, 0.7, 1.0))
        self.name = "+".join(a.__name__ for a in self.acts + self.greetings if a)

    def on_connect(self):
        return self.greetings[0] if self.rng.random() < self.share else None

    def on_request(self):
        self.n_good -= 1
        return self.rng.choice(self.acts) if self.n_good < 0 and self.rng.random() < self.share else None


# ---- misbehaviours: each is given the connection, the right answer and the server, and may end the connection ----

async def silence(conn, good, fake, rng):
    await conn.swallow()


async def deaf(conn, good, fake, rng):
    """Neither reads nor says anything."""
    await asyncio.sleep(NEVER_S)


async def garbage(conn, good, fake, rng):
    await conn.send(rng.randbytes(rng.choice((1, 2, 17, 1000, 70000))))
    await after(conn, rng)


async def garbage_lines(conn, good, fake, rng):
    line = bytes(rng.choices(b"+-:$*_,#!=(%~>|ENDVALUEOK 0123456789\0\t\xff", k=rng.randrange(1, 40))) + b"\r\n"
    await conn.send(line * rng.choice((1, 2, 500)))
    await after(conn, rng)


async def bad(conn, good, fake, rng):
    await conn.send(rng.choice(fake.BAD) % {b"key": fake.last_key})
    await after(conn, rng)


async def nested(conn, good, fake, rng):
    await conn.send(b"*1\r\n" * 10000 + b":1\r\n")


async def half_then_silence(conn, good, fake, rng):
    await conn.send(good[:rng.randrange(len(good))])
    await conn.swallow()


async def half_then_end(conn, good, fake, rng):
    await conn.send(good[:rng.randrange(len(good))])
    conn.close()


async def half_then_reset(conn, good, fake, rng):
    await conn.send(good[:rng.randrange(len(good))])
    conn.reset()


async def half_close(conn, good, fake, rng):
    await conn.send(good[:rng.randrange(len(good) + 1)])
    conn.shut()
    await conn.swallow()


async def endless_line(conn, good, fake, rng):
    await conn.send(rng.choice((b"+", b"-ERR ", b":", b"$", b"*", b"VALUE ", b"END", b"SERVER_ERROR ", b"1")))
    chunk = rng.choice((b"x", b"1", b" ", b"\n", b"\0")) * 65536
    for _ in range(4096):
        await conn.send(chunk)
        await asyncio.sleep(0.001)


async def endless_value(conn, good, fake, rng):
    """Valid all the way, but longer than anybody wants; some never end."""
    size = rng.choice((HUGE, 64 << 20, 1 << 30))
    await conn.send(fake.value_head(size))
    for _ in range(size // 65536 if size == HUGE else 2048):
        await conn.send(b"v" * 65536)
        await asyncio.sleep(0.0005)
    if size == HUGE:
        await conn.send(fake.VALUE_TAIL)
    else:
        await conn.swallow()


async def byte_by_byte(conn, good, fake, rng):
    pause_s = rng.choice((0, 0.001, 0.02, 0.2))
    for i in range(len(good)):
        await conn.send(good[i:i + 1])
        await asyncio.sleep(pause_s)


async def twice(conn, good, fake, rng):
    await conn.send(good * 2)


async def unasked(conn, good, fake, rng):
    """The right answer, and later another one."""
    await conn.send(good)
    await asyncio.sleep(rng.choice((0, 0.001, 0.05)))
    await conn.send(rng.choice(fake.UNASKED))


async def unasked_before(conn, good, fake, rng):
    await conn.send(rng.choice(fake.UNASKED) + good)


async def end(conn, good, fake, rng):
    conn.close()


async def reset(conn, good, fake, rng):
    conn.reset()


async def wrong_kind(conn, good, fake, rng):
    await conn.send(rng.choice(fake.WRONG))


async def errors(conn, good, fake, rng):
    await conn.send(rng.choice(fake.ERRORS))


async def error_flood(conn, good, fake, rng):
    error = rng.choice(fake.ERRORS)
    await conn.send(error * (1 + (1 << 20) // len(error)))
    await after(conn, rng)


async def late(conn, good, fake, rng):
    await asyncio.sleep(rng.choice((0.12, 0.3, 1.2)))
    await conn.send(good)


async def after(conn, rng):
    """Having said something wrong."""
    what = rng.randrange(3)
    if what == 0:
        await conn.swallow()
    elif what == 1:
        conn.close()


SCRIPTED = [silence, deaf, garbage, garbage_lines, bad, bad, bad, bad, nested, half_then_silence, half_then_end,
            half_then_reset, half_close, endless_line, endless_value, byte_by_byte, twice, unasked, unasked_before, end,
            reset, wrong_kind, errors, error_flood, late]
GREETINGS = [silence, deaf, garbage, garbage_lines, unasked_before, end, reset, errors]


class Fake(Server):
    """Counts the requests it answered well, and what else it did by name."""

    def __init__(self, addr="127.0.0.1:0"):
        super().__init__(addr)
        self.script, self.data, self.last_key = None, {}, b"k"
        self.n_good, self.n_bad = 0, {}

    def misbehave(self, seed):
        """The name of the script."""
        script = Script(self.KIND, seed)

        def begin():
            self.script = script
        self.stage.call(begin)
        return script.name

    def misbehave_always(self, act):
        """One misbehaviour for each request, from now on."""
        script = Script(self.KIND, 0)
        script.n_good, script.share, script.acts, script.greetings = 0, 1.0, [act], [None]

        def begin():
            self.script = script
        self.stage.call(begin)

    def heal(self, anew=True):
        """A good server from now on: one that was started anew, or one that leaves what hangs as it is."""
        def stop():
            self.script = None
            self.data.clear()
            if anew:
                self._close_all(reset=True)
        self.stage.call(stop)

    async def act(self, act, conn, good):
        self.n_bad[act.__name__] = self.n_bad.get(act.__name__, 0) + 1
        await act(conn, good, self, self.script.rng)

    async def serve(self, conn):
        act = self.script and self.script.on_connect()
        if act:
            await self.act(act, conn, self.UNASKED[0])
        while True:
            good = await self.answer(conn)
            act = self.script and self.script.on_request()
            if act:
                await self.act(act, conn, good)
            else:
                self.n_good += 1
                await conn.send(good)


# ---- redis ----

def bulk(value):
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def array(items):
    return b"*%d\r\n%s" % (len(items), b"".join(items))


class Redis(Fake):
    KIND = "redis"
    VALUE_TAIL = b"\r\n"
    UNASKED = [b"+OK\r\n", b":1\r\n", b"$3\r\nabc\r\n", b"*1\r\n$1\r\nx\r\n", b"-ERR unasked\r\n", b"$-1\r\n",
               b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\n"]
    ERRORS = [b"-ERR something\r\n", b"-WRONGTYPE Operation against a key\r\n", b"-LOADING Redis is loading\r\n",
              b"-OOM command not allowed\r\n", b"-NOAUTH Authentication required.\r\n", b"-\r\n", b"-READONLY\r\n",
              b"-MOVED 3999 127.0.0.1:6381\r\n", b"-NOSCRIPT No matching script.\r\n", b"-" + b"E" * 60000 + b"\r\n",
              b"-ERR \xff\x00\x01 bytes\r\n"]
    WRONG = [b":1\r\n", b"+PONG\r\n", b"*0\r\n", b"*-1\r\n", b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", b"$0\r\n\r\n",
             b"$-1\r\n", b"*3\r\n:1\r\n*2\r\n+a\r\n-ERR in it\r\n$-1\r\n", b":9223372036854775807\r\n",
             b"*1\r\n*1\r\n*1\r\n*-1\r\n", array([b":1\r\n"] * 50000), bulk(b"\0\r\n" * 1000), bulk(b"w" * 4000000)]
    BAD = [b"$2147483647\r\nabc", b"*1000000000\r\n", b"*2147483647\r\n:1\r\n", b"$4294967295\r\n",
           b"$4294967296\r\nabcdef\r\n", b"$9223372036854775807\r\n", b"$99999999999999999999\r\n",
           b"*9223372036854775807\r\n", b"*4294967297\r\n:1\r\n", b"*99999999999999999999\r\n", b"$-2\r\n", b"*-2\r\n",
           b"$-9223372036854775808\r\n", b"*-2147483648\r\n", b"$\r\n", b"*\r\n", b":\r\n", b":abc\r\n",
           b":99999999999999999999999\r\n", b":1 2\r\n", b":-\r\n", b":+\r\n", b"$5\r\nabcdefg\r\n", b"$3\r\nabcd",
           b"$+3\r\nabc\r\n", b"$03\r\nabc\r\n", b"$ 3\r\nabc\r\n", b"$3\nabc\n", b"+no end\n", b"\r\n", b"\n\n\n",
           b"\0", b"?\r\n", b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"VALUE k 0 3\r\nabc\r\nEND\r\n",
           b"%%1\r\n+k\r\n+v\r\n", b"~1\r\n+a\r\n", b">2\r\n+push\r\n+x\r\n", b"_\r\n", b",nan\r\n", b"#t\r\n",
           b"(123456789012345678901234\r\n", b"=6\r\ntxt:ab\r\n", b"!5\r\nERR x\r\n", b"|1\r\n+a\r\n+b\r\n:1\r\n",
           b"%%1000000000\r\n", b"$?\r\n;3\r\nabc\r\n;0\r\n", b"*2\r\n$1\r\na\r\n",
           b"*2\r\n$1\r\na\r\n$2147483647\r\n", b"*1\r\n*1000000000\r\n", b"*3\r\n:1\r\n*-5\r\n:2\r\n",
           b"*1000\r\n" * 8, b"*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n*2\r\n:1\r\n"]

    def value_head(self, size):
        return b"$%d\r\n" % size

    async def answer(self, conn):
        head = await conn.reader.readuntil(b"\r\n")
        if head[:1] != b"*":
            raise ValueError(head)
        words = []
        for _ in range(int(head[1:])):
            size = int((await conn.reader.readuntil(b"\r\n"))[1:])
            words.append((await conn.reader.readexactly(size + 2))[:-2])
        if len(words) > 1:
            self.last_key = words[1]
        return getattr(self, "do_" + words[0].decode("latin-1").lower(), self.unknown)(*words[1:])

    def get(self, key):
        return self.data.get(key, value_of(key))

    def unknown(self, *words):
        return b"+OK\r\n"

    def do_ping(self, *words):
        return bulk(words[0]) if words else b"+PONG\r\n"

    def do_echo(self, word):
        return bulk(word)

    def do_get(self, key, *_):
        return bulk(self.get(key))

    def do_mget(self, *keys):
        return array([bulk(self.get(k)) for k in keys])

    def do_set(self, key, value, *_):
        self.data[key] = value
        return b"+OK\r\n"

    def do_mset(self, *words):
        self.data.update(zip(words[::2], words[1::2]))
        return b"+OK\r\n"

    def do_del(self, *keys):
        return b":%d\r\n" % sum(self.data.pop(k, None) is not None for k in keys)

    def do_incr(self, key):
        self.data[key] = b"%d" % (int(self.data.get(key, b"0")) + 1)
        return b":%s\r\n" % self.data[key]

    def do_lrange(self, key, *_):
        return array([bulk(value_of(b"%s %d" % (key, i))) for i in range(3)])

    def do_subscribe(self, *channels):
        """And at once a message on each."""
        acks = [array([bulk(b"subscribe"), bulk(c), b":%d\r\n" % (i + 1)]) for i, c in enumerate(channels)]
        return b"".join(acks + [array([bulk(b"message"), bulk(c), bulk(b"hello")]) for c in channels])

    def do_evalsha(self, *_):
        return b"-NOSCRIPT No matching script. Please use EVAL.\r\n"

    def do_hello(self, *_):
        return b"-ERR unknown command 'HELLO'\r\n"


# ---- memcached ----

def entry(key, value, flags=0, version=None):
    return b"VALUE %s %d %d%s\r\n%s\r\n" % (key, flags, len(value), b"" if version is None else b" %d" % version, value)


class Memcache(Fake):
    KIND = "memcache"
    VALUE_TAIL = b"\r\nEND\r\n"
    UNASKED = [b"END\r\n", b"STORED\r\n", b"VALUE other 0 3\r\nabc\r\nEND\r\n", b"1\r\n", b"ERROR\r\n",
               b"VERSION 1.6.18\r\n", b"NOT_FOUND\r\n"]
    ERRORS = [b"ERROR\r\n", b"CLIENT_ERROR bad data chunk\r\n", b"SERVER_ERROR out of memory storing object\r\n",
              b"SERVER_ERROR object too large for cache\r\n", b"SERVER_ERROR\r\n", b"CLIENT_ERROR \xff\0\1\r\n",
              b"EXISTS\r\n", b"SERVER_ERROR " + b"e" * 60000 + b"\r\n"]
    WRONG = [b"STORED\r\n", b"END\r\n", b"NOT_STORED\r\n", b"DELETED\r\n", b"TOUCHED\r\n", b"OK\r\n", b"7\r\n",
             b"VERSION 1.2.3\r\n", b"STAT pid 1\r\nEND\r\n", entry(b"another", b"abc") + b"END\r\n",
             entry(b"k", b"w" * 4000000) + b"END\r\n", b"HD\r\n", b"EN\r\n", b"VA 2\r\nhi\r\n"]
    BAD = [b"VALUE %(key)s 0 4294967295\r\nabc", b"VALUE %(key)s 0 4294967296\r\nabc\r\nEND\r\n",
           b"VALUE %(key)s 0 2147483647\r\nabc", b"VALUE %(key)s 0 -1\r\nabc\r\nEND\r\n",
           b"VALUE %(key)s 0 18446744073709551615\r\nabc\r\nEND\r\n", b"VALUE %(key)s 0 9223372036854775807\r\n",
           b"VALUE %(key)s 0 99999999999999999999999\r\nabc\r\nEND\r\n",
           b"VALUE %(key)s 4294967296 3\r\nabc\r\nEND\r\n", b"VALUE %(key)s -1 3\r\nabc\r\nEND\r\n",
           b"VALUE %(key)s 0 3 99999999999999999999\r\nabc\r\nEND\r\n", b"VALUE %(key)s 0 3\r\nabcdefg\r\nEND\r\n",
           b"VALUE %(key)s 0 30\r\nabc\r\nEND\r\n", b"VALUE %(key)s\r\n", b"VALUE\r\n", b"VALUE \r\n",
           b"VALUE  0 3\r\nabc\r\nEND\r\n", b"VALUE %(key)s 0\r\n", b"VALUE %(key)s x y\r\nabc\r\nEND\r\n",
           b"VALUE %(key)s 0 3", b"VALUE %(key)s 0 3\r\nab", b"VALUE " + b"k" * 300 + b" 0 3\r\nabc\r\nEND\r\n",
           b"VALUE " + b"k" * 10000 + b" 0 3\r\nabc\r\nEND\r\n", b"VALUE %(key)s 0 0\r\n\r\nEND\r\n",
           b"VALUE %(key)s 0 3\nabc\nEND\n", b"VALUE %(key)s 0 3\r\nabc\r\n" * 2 + b"END\r\n",
           b"VALUE %(key)s 0 3\r\nabc\r\n" * 30000 + b"END\r\n", b"VALUE %(key)s 0 3\r\nabc\r\nEN", b"END\r\nEND\r\n",
           b"EN\r\n", b"E", b"\r\n", b"\n\n\n", b"\0\0\0\0", b"99999999999999999999999\r\n", b"-1\r\n", b"1x\r\n",
           b" 1\r\n", b"STOREDX\r\n", b"STORE", b"SERVER_ERROR",
           b"\x81\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0" + b"\0" * 8, b"+OK\r\n$3\r\nabc\r\n",
           b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", b"VERSION\r\n", b"VERSION 99999999999.x.y\r\n",
           b"STAT\r\n", b"VALUE %(key)s 0 3 \r\nabc\r\nEND\r\n",
           b"VALUE %(key)s 0 1048577\r\n" + b"v" * 1048577 + b"\r\nEND\r\n"]

    def value_head(self, size):
        return b"VALUE %s 0 %d\r\n" % (self.last_key, size)

    async def answer(self, conn):
        while True:
            words = (await conn.reader.readuntil(b"\n")).split()
            body = None
            if words and words[0] in (b"set", b"add", b"replace", b"append", b"prepend", b"cas"):
                body = (await conn.reader.readexactly(int(words[4]) + 2))[:-2]
            if words and words[0] == b"quit":
                raise EOFError()
            good = self.reply(words, body)
            if words and words[-1] != b"noreply":
                return good

    def get(self, key):
        return self.data.get(key, (value_of(key), 0))

    def reply(self, words, body):
        verb, key = words[0].decode("latin-1") if words else "", words[1] if len(words) > 1 else b""
        if key:
            self.last_key = key
        if verb in ("get", "gets"):
            return b"".join(entry(k, *self.get(k), 7 if verb == "gets" else None) for k in words[1:]) + b"END\r\n"
        if body is not None:
            self.data[key] = (body, int(words[2]))
            return b"STORED\r\n"
        if verb in ("incr", "decr"):
            value, _ = self.data.get(key, (b"0", 0))
            self.data[key] = (b"%d" % (int(value) + 1), 0)
            return self.data[key][0] + b"\r\n"
        return {"delete": b"DELETED\r\n", "touch": b"TOUCHED\r\n", "version": b"VERSION 1.6.18\r\n",
                "flush_all": b"OK\r\n", "verbosity": b"OK\r\n", "mn": b"MN\r\n"}.get(verb, b"ERROR\r\n")


KINDS = {"redis": Redis, "memcache": Memcache}
