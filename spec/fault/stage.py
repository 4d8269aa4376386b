# SPDX-License-Identifier: BSD-2-Clause
"""A thread with an asyncio loop, on which the fake servers and proxies of a test live.

    with Stage() as stage:
        redis = stage.open(hostile.Redis())      # its .addr is "127.0.0.1:PORT" from here on

What is on it is touched only by its own thread: stage.call(fn) runs fn there and gives what it returns.
"""
import asyncio
import os
import socket
import struct
import threading

RESET = struct.pack("ii", 1, 0)  # of SO_LINGER: close() sends RST


class Stage:
    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.servers = []

    def __enter__(self):
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        for server in self.servers:
            server.stop()
        self.call(self._cancel_all)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _cancel_all(self):
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def call(self, fn, *args):
        """Runs fn(*args) in the thread of the loop; waits for it, and for what it returns when that is a coroutine."""
        async def run():
            got = fn(*args)
            return await got if asyncio.iscoroutine(got) else got
        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(60)

    def open(self, server):
        server.stage = self
        self.servers.append(server)
        server.start()
        return server


class Server:
    """Listens on addr ("127.0.0.1:0" or "unix:/path"), and runs serve(Conn) for each connection. stop() and start()
    may be called again and again, from outside the stage's thread; the port stays the same."""

    def __init__(self, addr="127.0.0.1:0"):
        self.addr, self.listener, self.conns = addr, None, set()
        self.n_accepted = 0

    def start(self):
        if self.addr.startswith("unix:"):
            sock = socket.socket(socket.AF_UNIX)
            if os.path.exists(self.addr[5:]):
                os.unlink(self.addr[5:])
            sock.bind(self.addr[5:])
        else:
            host, port = self.addr.rsplit(":", 1)
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, int(port)))
            self.addr = "%s:%d" % (host, sock.getsockname()[1])
        sock.setblocking(False)
        self.stage.call(self._listen, sock)

    async def _listen(self, sock):
        kind = asyncio.start_unix_server if sock.family == socket.AF_UNIX else asyncio.start_server
        self.listener = await kind(self._accepted, sock=sock, limit=1 << 20, backlog=1024)

    async def _accepted(self, reader, writer):
        conn = Conn(reader, writer)
        self.n_accepted += 1
        self.conns.add(conn)
        try:
            await self.serve(conn)
        except (OSError, EOFError, asyncio.LimitOverrunError, ValueError):
            pass
        finally:
            self.conns.discard(conn)
            conn.close()

    def stop(self):
        """Refuses, and closes what is open."""
        self.stage.call(self._stop)

    def _stop(self):
        if self.listener:
            self.listener.close()
            self.listener = None
        self._close_all()

    def _close_all(self, reset=False):
        for conn in list(self.conns):
            conn.reset() if reset else conn.close()
        return len(self.conns)

    def close_all(self, reset=False):
        return self.stage.call(self._close_all, reset)


class Conn:
    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        sock = writer.get_extra_info("socket")
        if sock.family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def send(self, data):
        if self.writer.is_closing():
            raise ConnectionResetError()
        self.writer.write(data)
        await self.writer.drain()

    def close(self):
        self.writer.close()

    def reset(self):
        """The other side gets RST."""
        sock = self.writer.get_extra_info("socket")
        if sock and sock.family == socket.AF_INET:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            except OSError:
                pass
        self.writer.transport.abort()

    def shut(self):
        """The other side gets an end of file, and may go on sending."""
        if self.writer.can_write_eof() and not self.writer.is_closing():
            self.writer.write_eof()

    async def swallow(self):
        """Reads and says nothing until the other side closes."""
        while await self.reader.read(1 << 16):
            pass
        raise EOFError()
