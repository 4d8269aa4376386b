# SPDX-License-Identifier: BSD-2-Clause
"""What is left to whoever gets hold of a process (X2), of a socket's file (X3), or of a hole in the binary (X8)."""
import os
import pwd
import re
import socket
import stat
import subprocess

import pytest

from harness import FAE, SANITIZED, SLOW, Node, wait_until

AS_ROOT = os.geteuid() == 0
# A program by each way that Lua has; what comes back is said in the log as well.
LAUNCH = """
local fae = require "fae"
local launch = fae.servant "launch"
local ways = {}
%s
launch.method("by", { args = { "string" } }, function(_, way)
  local ok, what = pcall(ways[way])
  fae.log.warn(way .. ": " .. tostring(what))
  return { ok, what }
end)
return launch
"""
BY_FFI = """
local ffi = require "ffi"
ffi.cdef "int execv(const char *, const char *const *); int fork(void); long ptrace(long, int, void *, void *);"
local function rc(n) return n < 0 and -ffi.errno() or n end
function ways.execv() return rc(ffi.C.execv("/bin/true", ffi.new("const char *[2]", { "true" }))) end
function ways.fork() return rc(ffi.C.fork()) end
function ways.ptrace() return rc(ffi.C.ptrace(0, 0, nil, nil)) end
"""
BY_OS = """
function ways.execute() return os.execute("exit 3") end
function ways.popen() local f = io.popen("echo out") local s = f:read("*a") f:close() return s end
"""
EPERM = 1


def status(pid):
    with open("/proc/%d/status" % pid) as f:
        return dict(re.findall(r"^(\w+):\s+(.*)$", f.read(), re.M))


def pids(node):
    return {name: row["pid"] for name, row in node.workers().items()}


def open_to_nobody(node):
    os.chmod(node.folder, 0o755)
    node.start()
    return node


# ---- processes ----


@pytest.mark.skipif(SANITIZED, reason="a sanitizer traces and forks")
@pytest.mark.parametrize("user", ["", pytest.param("nobody", marks=pytest.mark.skipif(not AS_ROOT, reason="root"))])
def test_workers_and_ops_have_nothing_left(user):
    with open_to_nobody(Node(conf='user "%s"' % user if user else "", workers=2, wait=False)) as node:
        found = pids(node)
        assert len(found) == 3
        for name, pid in found.items():
            now = status(pid)
            for word in ("CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd") if AS_ROOT else ("CapEff",):
                assert int(now[word], 16) == 0, (name, word)
            assert now["NoNewPrivs"] == "1"
            assert now["Seccomp"] == "2", name
            if user:
                ids = {str(pwd.getpwnam(user).pw_uid)}
                assert set(now["Uid"].split()) == ids and now["Groups"].split() != ["0"]
        now = status(node.pid)
        assert (int(now["CapEff"], 16), now["NoNewPrivs"], now["Seccomp"]) == (0, "1", "0")


@pytest.mark.skipif(SANITIZED, reason="a sanitizer traces and forks")
def test_the_filter_can_be_left_out():
    with Node(conf="seccomp(false)") as node:
        assert {status(pid)["Seccomp"] for pid in pids(node).values()} == {"0"}
    with Node(args=["--single"]) as node:
        assert status(node.pid)["Seccomp"] == "0"
        node.send_signal(1)  # a reload forks
        wait_until("it is reloaded", lambda: "generation 2 serves" in node.log())


@pytest.mark.skipif(SANITIZED, reason="a sanitizer traces and forks")
def test_programs_from_lua_are_denied_and_told():
    conf = 'fence "launch" { allow = "ffi" }'
    with Node(conf=conf, servants={"launch.lua": LAUNCH % BY_FFI}) as node, node.client() as c:
        for way in ("execv", "fork", "ptrace"):
            assert c.call("launch.by", way) == [True, -EPERM]
            wait_until("the log tells", lambda: re.search(r'level=warn .*"?%s: -1' % way, node.log()))
        assert c.call("sys.ping")  # it is the same process still


def test_programs_from_lua_where_the_configuration_allows_them():
    conf = 'fence "launch" { allow = "os.execute io.popen" }'
    with Node(conf=conf, servants={"launch.lua": LAUNCH % BY_OS}) as node, node.client() as c:
        assert c.call("launch.by", "popen") == [True, "out\n"]
        assert c.call("launch.by", "execute") == [True, 3 << 8]
        if not SANITIZED:
            assert status(pids(node)["worker-0"])["Seccomp"] == "2"
            assert status(pids(node)["ops"])["Seccomp"] == "2"


@pytest.mark.skipif(not AS_ROOT or SANITIZED, reason="needs root")
@pytest.mark.parametrize("wanted", [False, True])
def test_cores_and_debuggers(wanted):
    """A process that may not be dumped belongs to root in /proc, whatever account it runs as."""
    conf = 'user "nobody"\ncore_dumps(%s)' % str(wanted).lower()
    with open_to_nobody(Node(conf=conf, wait=False)) as node:
        for pid in list(pids(node).values()) + [node.pid]:
            with open("/proc/%d/limits" % pid) as f:
                soft, hard = re.search(r"^Max core file size +(\S+) +(\S+)", f.read(), re.M).groups()
            assert soft == (hard if wanted else "0")
            owner = os.stat("/proc/%d/environ" % pid).st_uid
            assert owner == (pwd.getpwnam("nobody").pw_uid if wanted else 0)


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_root_without_user_is_warned_once():
    with Node(workers=2) as node:
        assert node.log().count("runs as root and stays root") == 1
        assert node.call("sys.ping")
    with open_to_nobody(Node(conf='user "nobody"', wait=False)) as node:
        assert "stays root" not in node.log()


# ---- sockets ----


@pytest.mark.parametrize("mask", [0, 0o077])
def test_modes_of_sockets_do_not_depend_on_the_umask(mask):
    before = os.umask(mask)
    try:
        node = Node(listen=["unix:fae.sock"] + ['{ "unix:%s.sock", mode = "%s" }' % row
                                                for row in (("wide", "0666"), ("own", "0600"))])
    finally:
        os.umask(before)
    with node:
        modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in os.scandir(node.run_dir)}
        assert modes["fae.sock"] == 0o660
        assert modes["wide.sock"] == 0o666
        assert modes["own.sock"] == 0o600
        assert modes["fae.ctl"] == 0o600
        assert modes["fae.pid"] & 0o022 == 0
        assert stat.S_IMODE(os.stat(node.run_dir).st_mode) & 0o027 == 0


def refusal(folder, listen):
    """What a start that must fail says."""
    conf = os.path.join(folder, "fae.lua")
    with open(conf, "w") as f:
        f.write('run_dir "%s/run"\nservants_dir ""\nadmin ""\nlisten "unix:%s"\n' % (folder, listen))
    done = subprocess.run([FAE, "serve", "-c", conf], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=30 * SLOW)
    assert done.returncode == 1, done.stderr
    return done.stderr


def stale_socket(path):
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)


def test_what_lies_in_a_sockets_place(tmp_path):
    folder = str(tmp_path)
    path, other = os.path.join(folder, "s"), os.path.join(folder, "other")
    stale_socket(other)
    for target in (other, os.path.join(folder, "nowhere")):
        os.symlink(target, path)
        assert "something in the way that is not a socket" in refusal(folder, path)
        assert os.path.islink(path) and os.path.exists(other)
        os.unlink(path)
    with open(path, "w") as f:
        f.write("precious")
    assert "something in the way that is not a socket" in refusal(folder, path)
    os.unlink(path)
    open_folder = os.path.join(folder, "everyones")
    os.mkdir(open_folder)
    os.chmod(open_folder, 0o777)
    assert "everyone may write in its folder" in refusal(folder, os.path.join(open_folder, "s"))


@pytest.mark.skipif(not AS_ROOT, reason="needs root")
def test_a_stale_socket_of_another_user(tmp_path):
    folder = str(tmp_path)
    path = os.path.join(folder, "s")
    stale_socket(path)
    os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
    assert "belongs to another user" in refusal(folder, path)
    assert os.path.exists(path)
    # Its own, after it was killed, is no obstacle.
    with open_to_nobody(Node(conf='user "nobody"', expect=["."], wait=False)) as node:
        os.kill(node.pid, 9)
        wait_until("all are gone", lambda: not node.left_behind())
        node.kill()
        node.start()
        assert node.call("sys.ping", kind="unix")


# ---- the binary ----


def readelf(*args):
    return subprocess.run(["readelf", "-W"] + list(args) + [FAE], check=True, stdout=subprocess.PIPE,
                          universal_newlines=True).stdout


@pytest.mark.skipif(SANITIZED, reason="another build")
def test_the_binary_is_hardened():
    assert re.search(r"Type:\s+DYN", readelf("-h")), "PIE"
    segments = readelf("-l")
    assert "GNU_RELRO" in segments
    assert re.search(r"GNU_STACK.* RW +0x", segments), "a stack that is not executable"
    assert not re.search(r"LOAD.* RWE ", segments)
    dynamic = readelf("-d")
    assert "BIND_NOW" in dynamic or re.search(r"FLAGS_1.*NOW", dynamic)
    assert "TEXTREL" not in dynamic and "RPATH" not in dynamic and "RUNPATH" not in dynamic
    symbols = readelf("--dyn-syms")
    assert "__stack_chk_fail" in symbols, "stack protector"
    checked = set(re.findall(r"(__\w+_chk)@", symbols))
    assert {"__snprintf_chk", "__memcpy_chk"} & checked, "FORTIFY: %s" % checked


ENDBR64 = b"\xf3\x0f\x1e\xfa"


@pytest.mark.skipif(SANITIZED, reason="another build")
def test_functions_are_marked_as_goals_of_jumps():
    """Debian's own start-up files have no note of CET, so the binary as a whole cannot; our code can be looked at."""
    if not re.search(r"Machine:.*X86-64", readelf("-h")):
        pytest.skip("another machine")
    loads = [[int(n, 16) for n in row] for row in re.findall(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+)", readelf("-l"))]
    functions = re.findall(r"^ *\d+: (\w+) +\d+ FUNC +GLOBAL DEFAULT +\d+ (fae_\w+)$", readelf("--dyn-syms"), re.M)
    assert len(functions) > 100
    with open(FAE, "rb") as f:
        body = f.read()
    for value, name in functions:
        at = next(int(value, 16) - start + offset for offset, start, size in loads
                  if start <= int(value, 16) < start + size)
        assert body[at:at + 4] == ENDBR64, name
