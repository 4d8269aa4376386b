# SPDX-License-Identifier: BSD-2-Clause
"""Bytes in, bytes out: the table of wire_rows.py whole, cut anywhere and byte by byte; bombs; truncation (I3 I4 I6)."""
import fcntl
import socket
import struct
import termios
import time

import pytest

from harness import SANITIZED, SLOW, Client, Node, Stopwatch, memory_kib, n_fds, pack, reset_peak, wait_until
from wire_rows import CLOSES, LIMIT, MESSAGE_MAX, NO_ARRAY, ROWS, STAYS

PING = pack([0, 77, "sys.noop", ["in sync"]])
PONG = pack([1, 77, None, "in sync"])
CUTS = 8

CONF = 'message_max(%d)\npartial_timeout_ms(1000)' % MESSAGE_MAX


@pytest.fixture(scope="module")
def node():
    with Node(CONF) as n:
        yield n


@pytest.fixture(scope="module")
def cut_node():
    with Node(CONF, one_byte=True) as n:
        yield n


@pytest.fixture(scope="module")
def big_node():
    """With the limits as they are by default."""
    with Node() as n:
        yield n


def wanted(row):
    return answers(row) + (PONG if row[3] == STAYS else b"")


def answers(row):
    return b"".join(m if isinstance(m, bytes) else pack(m) for m in row[2])


def send_quietly(c, data):
    """What follows a fatal byte may find the connection closed."""
    try:
        c.send(data)
    except (BrokenPipeError, ConnectionResetError):
        pass


def check_end(c, row, where):
    """The answer, to the byte; then a session that is in step, or one that is closed."""
    name, _, _, stays = row
    want = wanted(row)
    got = c.read_bytes(len(want) if stays else len(want) + 100)
    assert got == want, "%s (%s):\n got %r\nwant %r" % (name, where, got[:400], want[:400])
    if stays:
        assert c.is_open(), "%s (%s): more came, or it was closed" % (name, where)


def all_read(c):
    """Waits until the server has read what was sent: unix sockets tell."""
    if c.sock.family != socket.AF_UNIX:
        time.sleep(0.0008)
        return
    for _ in range(2000):
        if struct.unpack("i", fcntl.ioctl(c.sock, termios.TIOCOUTQ, b"\0\0\0\0"))[0] == 0:
            return
        time.sleep(0.0001)


def test_the_table_is_long_and_its_names_differ():
    assert len(ROWS) >= 60
    assert len({row[0] for row in ROWS}) == len(ROWS)
    assert len({row[1] for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_whole(node, row, kind):
    with node.client(kind) as c:
        send_quietly(c, row[1] + PING)
        check_end(c, row, "whole")


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_cut_in_two(node, kind):
    for row in ROWS:
        data = row[1] + PING
        span = min(len(data) - 1, 3000)
        for cut in sorted({1 + i * (span - 1) // (CUTS - 1) for i in range(CUTS)}):
            with node.client(kind) as c:
                send_quietly(c, data[:cut])
                all_read(c)
                send_quietly(c, data[cut:])
                check_end(c, row, "cut at %d" % cut)


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_byte_by_byte(cut_node, kind):
    for row in ROWS:
        with cut_node.client(kind) as c:
            send_quietly(c, row[1] + PING)
            check_end(c, row, "byte by byte")


def test_all_rows_that_stay_in_one_session(node):
    rows = [row for row in ROWS if row[3] == STAYS and len(row[1]) < 5000]
    data = b"".join(row[1] for row in rows)
    want = b"".join(answers(row) for row in rows) + PONG
    with node.client() as c:
        c.send(data + PING)
        assert c.read_bytes(len(want)) == want
        assert c.is_open()


def test_bad_messages_are_counted(node):
    before = node.stats()["workers"][0]["bad_messages"]
    rows = [row for row in ROWS if row[0] in ("request of 3", "type 3", "notification of 1", "response", "c1")]
    for row in rows:
        with node.client() as c:
            send_quietly(c, row[1] + (PING if row[3] else b""))
            check_end(c, row, "counted")
    assert len(rows) == 5
    assert node.stats()["workers"][0]["bad_messages"] == before + 5


# ---- I3: what is announced is not believed ----

BOMBS = [
    ("10,000 x 91", b"\x91" * 10000, LIMIT),
    ("24,000 x dcffff", b"\xdc\xff\xff" * 24000, LIMIT),
    ("10,000 x 81", b"\x81" * 10000, LIMIT),
    ("array32", b"\xdd\xff\xff\xff\xff", LIMIT),
    ("map32", b"\xdf\xff\xff\xff\xff", LIMIT),
    ("str32", b"\xdb\xff\xff\xff\xff", LIMIT),
    ("bin32", b"\xc6\xff\xff\xff\xff", LIMIT),
    ("ext32", b"\xc9\xff\xff\xff\xff", LIMIT),
    ("4 MiB of arrays of arrays", b"\x94\x00\x01\xa8sys.echo\x91" + b"\xdc\x0f\xff" + b"\xdc\x0f\xff" * 1000, LIMIT),
    ("1,000,001 elements", b"\x94\x00\x01\xa8sys.echo\x91\xdd" + (1000001).to_bytes(4, "big") + b"\x01" * 100, LIMIT),
    ("500,001 pairs", b"\x94\x00\x01\xa8sys.echo\x91\xdf" + (500001).to_bytes(4, "big") + b"\x01" * 100, LIMIT),
    ("a message of 4 MiB + 1", b"\x94\x00\x01\xa8sys.echo\x91\xc6" + (4194304 - 17 + 1).to_bytes(4, "big"), LIMIT),
    ("c1", b"\xc1", None),
    ("http", b"GET / HTTP/1.1\r\n\r\n", NO_ARRAY),
]


@pytest.mark.parametrize("kind", ["tcp", "unix"])
@pytest.mark.parametrize("name,data,answer", BOMBS, ids=[b[0] for b in BOMBS])
def test_bomb(big_node, name, data, answer, kind):
    pid = big_node.worker_pids()[0]
    before = memory_kib(pid)
    reset_peak(pid)
    took_ms = []
    while not took_ms or (len(took_ms) < 3 and took_ms[-1] > 50 * SLOW): # a busy machine is not slow three times
        with big_node.client(kind) as c:
            started = Stopwatch()
            send_quietly(c, data)
            messages = c.recv_all()
            took_ms.append(started.seconds() * 1000)
        assert len(messages) == 1
        assert answer is None or messages == [answer]
    assert min(took_ms) <= 50 * SLOW, "closed after %s ms" % took_ms
    if not SANITIZED:
        grown = memory_kib(pid, "VmHWM") - before
        assert grown <= 8192, "RSS grew by %d KiB" % grown


def test_a_method_of_a_megabyte(big_node):
    with big_node.client() as c:
        assert c.error("m" * 1000000).value == 'UNKNOWN_METHOD: no method "%s"' % ("m" * 128)
        assert c.error(b"\xff" * 1000000).value == 'UNKNOWN_METHOD: no method "%s"' % ("\ufffd" * 128)
        assert c.call("sys.noop", 1) == 1


def test_1000000_elements_are_allowed(big_node):
    n = 1000000 - 4 - 1
    data = b"\x94\x00\x01\xa8sys.noop\x91\xdd" + n.to_bytes(4, "big") + b"\x01" * n
    with big_node.client(timeout=30) as c:
        c.send(data)
        assert c.recv() == [1, 1, None, [1] * n]
        c.send(b"\x94\x00\x02\xa8sys.noop\x91\xdd" + (n + 1).to_bytes(4, "big") + b"\x01" * (n + 1))
        assert c.recv_all() == [LIMIT]


def test_others_do_not_wait_for_bombs(big_node):
    """A session that calls all the time while bombs go off is always answered, in time."""
    with big_node.client() as calm:
        def slowest(n):
            worst = 0
            for i in range(n):
                if bombs:
                    with big_node.client() as c:
                        send_quietly(c, bombs[i % len(bombs)])
                        c.recv_all()
                t = Stopwatch()
                assert calm.call("sys.noop", i) == i
                worst = max(worst, t.seconds())
            return worst * 1000

        bombs = []
        slowest(50)
        bombs = [b[1] for b in BOMBS]
        assert any(slowest(4 * len(bombs)) <= 50 * SLOW for _ in range(3))


# ---- I4: cut off anywhere ----


def test_truncated_anywhere_then_closed(node):
    """1,024 sessions that end inside a message of 1 KB."""
    pid = node.worker_pids()[0]
    message = pack([0, 1, "sys.echo", ["x" * 1008]])
    assert len(message) == 1024
    fds = n_fds(pid)
    for cut in range(1024):
        c = node.client("unix" if cut % 2 else "tcp")
        c.send(message[:cut])
        c.close()
    wait_until("all sessions are gone", lambda: node.n_sessions() == 0)
    assert n_fds(pid) == fds
    assert node.call("sys.noop", 1) == 1


def test_truncated_anywhere_then_silent(node):
    """1,024 sessions that stop inside a message: each is told and closed when partial_timeout_ms (1 s) is over, not
    before; what never began stays."""
    pid = node.worker_pids()[0]
    message = pack([0, 1, "sys.echo", ["x" * 1008]])
    fds, rss = n_fds(pid), memory_kib(pid)
    clients = []
    started = time.monotonic()
    for cut in range(1024):
        clients.append(node.client("unix" if cut % 2 else "tcp"))
        clients[cut].send(message[:cut])
    sent = time.monotonic()
    assert sent - started < 1.0 * SLOW, "too slow to tell"
    told = [2, "sys.error", ["TIMEOUT: the rest of a message did not come in time"]]
    for cut, c in enumerate(clients):
        if cut:
            assert c.recv_all() == [told], "cut at %d" % cut
            if cut == 1:
                assert time.monotonic() - started >= 0.95
    assert time.monotonic() - sent <= 3 * SLOW
    assert clients[0].call("sys.noop", 5) == 5
    for c in clients:
        c.close()
    wait_until("all sessions are gone", lambda: node.n_sessions() == 0)
    assert n_fds(pid) == fds
    if not SANITIZED:
        assert memory_kib(pid) - rss < 8192


def test_slow_but_alive_is_cut_all_the_same(node):
    """A byte now and then does not make a message's time longer."""
    message = pack([0, 1, "sys.echo", ["x" * 50]])
    with node.client() as c:
        started = Stopwatch()
        sent = 0
        while c.is_open():
            send_quietly(c, message[sent:sent + 1])
            sent += 1
            assert sent < len(message)
            time.sleep(0.05)
        assert started.within(0.9, 3 * SLOW), started
        assert c.recv_all() == [[2, "sys.error", ["TIMEOUT: the rest of a message did not come in time"]]]


def test_the_time_starts_anew_with_each_message(node):
    with node.client() as c:
        for i in range(4):
            data = pack([0, i, "sys.noop", [i]])
            c.send(data[:5])
            time.sleep(0.4)
            c.send(data[5:])
            assert c.recv() == [1, i, None, i]


def test_closes_leave_nothing_behind(node):
    pid = node.worker_pids()[0]
    fds = n_fds(pid)
    for _ in range(3):
        for row in ROWS:
            if row[3] == CLOSES:
                c = Client(node.tcp)
                send_quietly(c, row[1])
                c.close()
    wait_until("all sessions are gone", lambda: node.n_sessions() == 0)
    assert n_fds(pid) == fds
