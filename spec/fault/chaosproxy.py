#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""A proxy between a node and a server that hurts what passes, with seeded probabilities: in a test

    proxy = stage.open(ChaosProxy("127.0.0.1:6379", late=0.01, late_s=0.2))    # proxy.addr is where to connect
    proxy.set(late=0, freeze=1.0)           # another weather, from the next piece on

or as a program of its own, for another network namespace:

    spec/fault/chaosproxy.py --listen 10.0.0.2:7000 --to 127.0.0.1:6379 --delay-s 0.05

It knows no protocol: what a read brings is a piece. The rules are rows of RULES; shares are probabilities of a piece
that the server sends (those of connect: of a connection).
"""
import argparse
import asyncio
import random
import sys

from stage import Server, Stage

RULES = {  # name: (default, what)
    "delay_s": (0, "every piece, both ways, comes so much later; what is in flight stays in order"),
    "jitter_s": (0, "and at random up to so much more"),
    "rate": (0, "bytes a second of a connection, each way; 0: as fast as it goes"),
    "late": (0, "share of pieces that come late_s later, and with them what follows"),
    "late_s": (0.2, ""),
    "duplicate": (0, "share of pieces that come twice"),
    "garbage": (0, "share of pieces of which a few bytes are others"),
    "truncate": (0, "share of pieces that are cut somewhere, after which the connection ends"),
    "reset": (0, "share of pieces instead of which RST comes"),
    "half_close": (0, "share of pieces after which the server's side says nothing more, but does not close"),
    "freeze": (0, "share of pieces from which on nothing passes, either way, for ever"),
    "connect_reset": (0, "share of connections that are reset at once"),
    "connect_freeze": (0, "share of connections that are accepted, and that is all"),
}


class ChaosProxy(Server):
    """n_hurt counts what was done to whom, by rule."""

    def __init__(self, to, addr="127.0.0.1:0", seed=1, **rules):
        super().__init__(addr)
        self.to, self.rng, self.n_hurt, self.spared = to, random.Random(seed), {}, {}
        self.rules = {name: default for name, (default, _) in RULES.items()}
        self._set(rules)

    def _set(self, rules):
        unknown = set(rules) - set(RULES)
        assert not unknown, "no rule %s" % unknown
        self.rules.update(rules)

    def set(self, **rules):
        self.stage.call(self._set, rules)

    def hits(self, rule):
        """True in so many of the times as the rule says: at random, but never twice as long apart as that is on average."""
        share = self.rules[rule]
        if not share:
            return False
        left = self.spared.get((rule, share), self.rng.random() / share) - 1
        hit = left <= 0
        self.spared[rule, share] = left + self.rng.uniform(1, 2 / share - 1) if hit else left
        if not hit:
            return False
        self.n_hurt[rule] = self.n_hurt.get(rule, 0) + 1
        return True

    async def serve(self, conn):
        if self.hits("connect_reset"):
            return conn.reset()
        if self.hits("connect_freeze"):
            await asyncio.Event().wait()
        if self.to.startswith("unix:"):
            up = await asyncio.open_unix_connection(self.to[5:], limit=1 << 20)
        else:
            up = await asyncio.open_connection(*self.to.rsplit(":", 1), limit=1 << 20)
        link = Link(self, conn, up)
        try:
            await asyncio.gather(link.pump(conn.reader, link.to_server), link.pump(up[0], link.to_client))
        finally:
            up[1].close()
            link.end()


class Link:
    """The two directions of a connection. Pieces of one wait in a queue, each for its time."""

    def __init__(self, proxy, conn, up):
        self.proxy, self.conn = proxy, conn
        self.to_server, self.to_client = Lane(self, up[1], False), Lane(self, conn.writer, True)
        self.tasks = [asyncio.ensure_future(lane.run()) for lane in (self.to_server, self.to_client)]
        self.frozen = False

    async def pump(self, reader, lane):
        while True:
            try:
                piece = await reader.read(1 << 16)
            except OSError:
                piece = b""
            await lane.put(piece)
            if not piece:
                return await lane.done.wait()

    def end(self):
        for task in self.tasks:
            task.cancel()


class Lane:
    def __init__(self, link, writer, from_server):
        self.link, self.proxy, self.writer, self.from_server = link, link.proxy, writer, from_server
        self.queue, self.done, self.free_at = asyncio.Queue(256), asyncio.Event(), 0

    async def put(self, piece):
        rules, now = self.proxy.rules, asyncio.get_running_loop().time()
        at = now + rules["delay_s"] + self.proxy.rng.random() * rules["jitter_s"]
        if rules["rate"]:
            at = max(at, self.free_at) + len(piece) / rules["rate"]
        if self.from_server and piece and self.proxy.hits("late"):
            at += rules["late_s"]
        self.free_at = max(at, self.free_at)  # nothing overtakes
        await self.queue.put((self.free_at, piece))

    async def run(self):
        try:
            while True:
                at, piece = await self.queue.get()
                wait_s = at - asyncio.get_running_loop().time()
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                if not piece:
                    return self.writer.close()
                if self.link.frozen:
                    await asyncio.Event().wait()
                for part in self.hurt(piece) if self.from_server else (piece,):
                    self.writer.write(part)
                await self.writer.drain()
        except OSError:
            pass
        finally:
            self.done.set()

    def hurt(self, piece):
        """What comes of a piece; may end the connection."""
        proxy, rng = self.proxy, self.proxy.rng
        if proxy.hits("reset"):
            self.link.conn.reset()
            raise ConnectionResetError()
        if proxy.hits("freeze"):
            self.link.frozen = True
            return [piece[:rng.randrange(len(piece) + 1)]]
        if proxy.hits("truncate"):
            self.writer.write(piece[:rng.randrange(len(piece))])
            self.writer.close()
            raise ConnectionResetError()
        if proxy.hits("half_close"):
            self.writer.write(piece)
            self.link.conn.shut()
            self.link.frozen = True
            return []
        if proxy.hits("garbage"):
            i = rng.randrange(len(piece))
            piece = piece[:i] + rng.randbytes(rng.randrange(1, 9)) + piece[i + rng.randrange(9):]
        return [piece, piece] if proxy.hits("duplicate") else [piece]


def main():
    parser = argparse.ArgumentParser(description="a proxy that hurts what passes")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="ADDR")
    parser.add_argument("--to", required=True, metavar="ADDR", help="HOST:PORT or unix:PATH")
    parser.add_argument("--seed", type=int, default=1)
    for name, (default, what) in RULES.items():
        parser.add_argument("--" + name.replace("_", "-"), type=float, default=default, help=what or None)
    args = vars(parser.parse_args())
    with Stage() as stage:
        proxy = stage.open(ChaosProxy(args.pop("to"), args.pop("listen"), **args))
        print("chaos ready: %s" % proxy.addr, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
