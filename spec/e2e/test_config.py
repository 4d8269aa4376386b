# SPDX-License-Identifier: BSD-2-Clause
"""The configuration of a node that runs: read anew with the servants, shown, and what steers log and cores (D7)."""
import os
import re
import signal

import pytest

from harness import Node, wait_until

TOKEN = "0123456789abcdef" * 4
SHOP = """
local fae = require "fae"
local shop = fae.servant "shop"
local conf = fae.config "shop"
shop.method("price", function() return conf.price or "none" end)
shop.method("nap", function(call, ms)
  local _, err = fae.sleep(ms)
  if err then return nil, err end
  return "slept"
end)
shop.method("now", function() return (fae.config "shop").price end)
return shop
"""


class Conf:
    """The node's file, of which parts are replaced."""

    def __init__(self, node):
        self.path = node.conf_path
        with open(self.path) as f:
            self.base = f.read()

    def add(self, text, was="", to=""):
        """The file as it was at first, with one thing replaced and text added, in one step."""
        assert was in self.base
        with open(self.path + ".new", "w") as f:
            f.write(self.base.replace(was, to, 1) + text + "\n")
        os.rename(self.path + ".new", self.path)


@pytest.fixture
def node():
    with Node("", servants={"shop.lua": SHOP}, workers=2) as n:
        n.conf = Conf(n)
        yield n


def prices(node):
    return {node.call("shop.price", kind="unix" if i % 2 else "tcp") for i in range(8)}


def generation(node):
    return int(re.search(r"generation=(\d+)", node.ctl("status").stdout).group(1))


def shown(node):
    done = node.ctl("config")
    assert done.returncode == 0 and done.stderr == ""
    return done.stdout.splitlines()


# ---- reload ----


def test_live_options_change_without_closing_a_session(node):
    with node.client() as tcp, node.client("unix") as unix:
        assert tcp.call("shop.nap", 150) == unix.call("shop.nap", 150) == "slept"
        node.conf.add('call_timeout_ms(50)\nlog_level "debug"\nlimit "shop.*" { rate = 100000 }\n'
                      'servant "shop" { price = "two" }')
        done = node.reload()
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines() == ["log_level: info -> debug", "call_timeout_ms: 5000 -> 50",
                                            "limit shop.*: added", "servant shop: added", "generation 2"]
        for client in tcp, unix:
            assert client.error("shop.nap", 150).code == "TIMEOUT"
            assert client.call("shop.price") == client.call("shop.now") == "two"
    assert prices(node) == {"two"}
    for line in ("reload: log_level: info -> debug", "reload: limit shop.*: added"):
        wait_until(line, lambda: line in node.log())
    assert "log_level debug" in shown(node)
    assert 'limit "shop.*" rate 100000' in shown(node)


def test_sighup_does_the_same(node):
    node.conf.add('servant "shop" { price = 7 }\ndrain_ms(20000)')
    node.send_signal(signal.SIGHUP)
    wait_until("the new price", lambda: prices(node) == {7})
    assert "drain_ms 20000" in shown(node)
    wait_until("a line", lambda: "reload: drain_ms: 30000 -> 20000" in node.log())


def test_what_only_a_start_can_change_is_told_and_stays(node):
    node.conf.add('backlog(100)\nlisten "unix:other.sock"\ndrain_ms(20000)', "workers(2)", "workers(3)")
    done = node.reload()
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["workers: 2 -> 3 needs a restart", "backlog: 4096 -> 100 needs a restart",
                                        "drain_ms: 30000 -> 20000", "listen unix:other.sock: added, needs a restart",
                                        "generation 2"]
    assert len(node.workers()) == 3
    assert "workers 2" in shown(node) and "backlog 4096" in shown(node) and "drain_ms 20000" in shown(node)
    assert not os.path.exists(os.path.join(node.run_dir, "other.sock"))
    # It is told each time until it is done.
    assert "workers: 2 -> 3 needs a restart" in node.reload().stdout


@pytest.mark.parametrize("bad, line, says", [
    ("call_timeout_ms(0)", 1, "call_timeout_ms must be 1 to 600000, not 0"),
    ("log_levle 'debug'", 1, 'unknown option "log_levle": did you mean "log_level"?'),
    ('\nrole "web" {}\naccount "0" { roles = "wbe" }', 3, 'there is no role "wbe": did you mean "web"?'),
    ("servant 'shop' { price = 2", 2, "'}' expected"),
])
def test_a_bad_file_changes_nothing(node, bad, line, says):
    node.conf.add('servant "shop" { price = "good" }\ndrain_ms(20000)')
    assert node.reload().returncode == 0
    before = shown(node)
    node.write("shop.lua", SHOP.replace("conf.price", '"new"'))
    node.conf.add(bad)
    line += len(node.conf.base.splitlines())
    for flags in (), ("--dry-run",):
        done = node.reload(*flags)
        assert done.returncode == 78 and done.stdout == ""
        assert re.search(r"^%s:%d: .*%s" % (re.escape(node.conf_path), line, re.escape(says)), done.stderr, re.M)
        assert "fae reload: BAD_CONFIG: nothing has changed" in done.stderr
    assert shown(node) == before
    assert prices(node) == {"good"} and generation(node) == 2
    os.unlink(node.conf_path)
    done = node.reload()
    assert done.returncode == 78 and "No such file" in done.stderr and generation(node) == 2


def test_a_file_that_never_ends_changes_nothing(node):
    node.conf.add("while true do end")
    done = node.reload()
    assert done.returncode != 0 and "did not end within 2000 ms" in done.stderr
    assert generation(node) == 1 and prices(node) == {"none"}


def test_a_bad_servant_keeps_the_configuration(node):
    node.conf.add("drain_ms(20000)")
    node.write("shop.lua", "return nonsense(")
    done = node.reload()
    assert done.returncode == 1 and "shop.lua:1:" in done.stderr and "drain_ms" not in done.stderr
    assert "drain_ms 30000" in shown(node)


def test_a_dry_run_tells_and_changes_nothing(node):
    node.conf.add('drain_ms(20000)\nservant "shop" { price = 2 }')
    done = node.reload("--dry-run")
    assert done.returncode == 0
    assert done.stdout.splitlines()[:2] == ["drain_ms: 30000 -> 20000", "servant shop: added"]
    assert "drain_ms 30000" in shown(node) and prices(node) == {"none"} and generation(node) == 1


def test_rollback_brings_the_configuration_back(node):
    node.conf.add('servant "shop" { price = "two" }\ndrain_ms(20000)\nlog_level "debug"')
    assert node.reload().returncode == 0
    assert prices(node) == {"two"}
    done = node.ctl("rollback")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["log_level: debug -> info", "drain_ms: 20000 -> 30000",
                                        "servant shop: removed", "generation 3"]
    assert prices(node) == {"none"}
    assert "drain_ms 30000" in shown(node) and "log_level info" in shown(node)


def test_a_worker_that_starts_later_has_the_committed_one():
    with Node("", servants={"shop.lua": SHOP}, workers=2, expect=["died of signal 9"]) as node:
        conf = Conf(node)
        conf.add('servant "shop" { price = "two" }\ncall_timeout_ms(50)')
        assert node.reload().returncode == 0
        conf.add('servant "shop" { price = "not read" }')
        for pid in node.worker_pids() + [node.workers()["ops"]["pid"]]:
            os.kill(pid, signal.SIGKILL)
        wait_until("all are back", lambda: [r["state"] for r in node.workers().values()] == ["ready"] * 3 and
                   all(r["deaths"] == 1 for r in node.workers().values()))
        assert prices(node) == {"two"}
        with node.client() as c:
            assert c.error("shop.nap", 150).code == "TIMEOUT"
        assert generation(node) == 2


def test_the_command_line_still_wins():
    with Node("", servants={"shop.lua": SHOP}, args=["--workers", "2"]) as node:
        conf = Conf(node)
        conf.add("drain_ms(20000)", "workers(1)", "workers(5)")
        done = node.reload()
        assert done.stdout.splitlines() == ["drain_ms: 30000 -> 20000", "generation 2"]
        assert "workers 2" in shown(node)


def test_a_role_that_a_listener_gives_cannot_go():
    listen = ['{ "tcp://127.0.0.1:0", roles = "web" }']
    with Node('role "web" { allow = "*" }', servants={"shop.lua": SHOP}, listen=listen) as node:
        conf = Conf(node)
        conf.add('role "all" { allow = "*" }', '{ "tcp://127.0.0.1:0", roles = "web" }\nrole "web" { allow = "*" }',
                 '{ "tcp://127.0.0.1:0", roles = "all" }')
        done = node.reload()
        assert done.returncode == 78
        assert 'needs a restart' in done.stderr and 'there is no role "web"' in done.stderr
        assert node.call("shop.price") == "none" and generation(node) == 1


def test_without_a_file_only_servants_reload(tmp_path):
    with Node("", servants={"shop.lua": SHOP}, wait=False) as node:
        node.args = ["--run-dir", node.run_dir, "--servants", node.servants_dir, "--listen", "tcp://127.0.0.1:0",
                     "--admin", ""]
        node.conf_path = "/dev/null"
        node.start()
        node.write("shop.lua", SHOP.replace("conf.price", '"new"'))
        assert node.reload().stdout == "generation 2\n"
        assert node.call("shop.price") == "new"


# ---- what it shows ----


def test_config_shows_no_secret():
    conf = ('admin_token "%s"\nrole "web" { allow = "shop.*" }\ntoken "cron" { sha256 = "%s", roles = "web" }\n'
            'servant "shop" { price = 1, password = "hunter2" }\naccount "0" { roles = "web" }' % (TOKEN, TOKEN[::-1]))
    with Node(conf, servants={"shop.lua": SHOP}) as node:
        lines = shown(node)
        assert "admin_token (set)" in lines and 'token "cron" sha256 (set)' in lines
        assert 'token "cron" roles web' in lines and 'role "web" allow shop.*' in lines
        assert 'servant "shop" (set)' in lines and 'account "0" roles web' in lines
        assert 'listen "unix:fae.sock" mode 0660' in lines and "workers 1" in lines
        conf = Conf(node)
        conf.add("", 'admin_token "%s"' % TOKEN, 'admin_token "%s"' % TOKEN.replace("0", "1"))
        done = node.reload()
        assert done.stdout.splitlines() == ["admin_token: changed", "generation 2"]
        conf.add("", 'admin_token "%s"\n' % TOKEN)
        assert node.reload().stdout.splitlines() == ["admin_token: changed", "generation 3"]
        assert 'admin_token ""' in shown(node)
        everything = node.log() + "\n".join(lines)
        assert TOKEN not in everything and TOKEN[::-1] not in everything and "hunter2" not in everything


# ---- log ----


def test_log_level_at_once_until_a_reload(node):
    def debug_lines():
        return node.log().count("level=debug")

    done = node.ctl("log-level", "debug")
    assert (done.returncode, done.stdout) == (0, "debug\n")
    wait_until("who it was", lambda: re.search(r"log_level: info -> debug by uid %d \(pid \d+\)" % os.getuid(),
                                               node.log()))
    before = debug_lines()
    assert node.reload().returncode == 0
    assert node.ctl("log-level", "debug").returncode == 0
    pid = node.worker_pids()[0]
    node.expect.append("died of signal 9")
    os.kill(pid, signal.SIGKILL)
    wait_until("a worker says what it serves", lambda: debug_lines() > before)
    assert "log_level info" in shown(node)  # of the configuration
    assert node.ctl("log-level", "reset").stdout == "info\n"
    assert node.ctl("log-level", "error").stdout == "error\n"
    n = len(node.log().splitlines())
    assert node.reload().returncode == 0
    wait_until("the level is back", lambda: "generation 3 serves" in node.log())
    assert len(node.log().splitlines()) > n
    done = node.ctl("log-level", "inof")
    assert done.returncode == 1 and 'did you mean "info"?' in done.stderr
    done = node.ctl("log-level")
    assert done.returncode == 1 and "usage: log-level debug|info|warn|error|reset" in done.stderr


@pytest.mark.parametrize("how", ["verb", "signal", "signal to all"])
def test_log_reopens(tmp_path, how):
    log, old = str(tmp_path / "fae.log"), str(tmp_path / "fae.log.1")
    with Node('log_file "%s"' % log, servants={"shop.lua": SHOP}) as node:
        pids = node.worker_pids()
        wait_until("lines", lambda: os.path.exists(log) and "ready: generation 1" in open(log).read())
        os.rename(log, old)
        if how == "verb":
            assert node.ctl("reopen-log").returncode == 0
        else:
            for pid in [node.pid] + (node.left_behind() if how == "signal to all" else []):
                os.kill(pid, signal.SIGUSR1)
        wait_until("a new file", lambda: os.path.exists(log), seconds=0.9)  # sooner than ops looks by itself
        assert node.reload().returncode == 0
        wait_until("a line in it", lambda: "generation 2 serves" in open(log).read())
        assert "generation 2 serves" not in open(old).read()
        assert node.worker_pids() == pids
        node.stop()
        assert "stopped" in open(log).read() and "stopped" not in open(old).read()


def test_log_that_goes_to_stderr_is_not_reopened(node):
    done = node.ctl("reopen-log")
    assert done.returncode == 1 and "there is no log_file" in done.stderr
    node.send_signal(signal.SIGUSR1)
    assert prices(node) == {"none"}


# ---- cores ----


def cores(pid):
    return os.sched_getaffinity(pid)


def test_workers_are_pinned_in_turn():
    mine = sorted(os.sched_getaffinity(0))
    with Node("pin_cpus(true)", workers=3) as node:
        rows = node.workers()
        for i in range(3):
            assert cores(rows["worker-%d" % i]["pid"]) == {mine[i % len(mine)]}
        assert cores(rows["ops"]["pid"]) == set(mine)
        assert cores(node.pid) == set(mine)


def test_workers_are_not_pinned_by_default(node):
    assert all(cores(pid) == os.sched_getaffinity(0) for pid in node.worker_pids())


# ---- admin ----


@pytest.mark.parametrize("conf", ["", 'admin_token "%s"' % TOKEN, 'admin_cert "c.pem" admin_key "k.pem"'])
def test_admin_beyond_loopback_needs_token_and_certificate(conf):
    with Node(conf, admin="192.0.2.1:9101", wait=False) as node:
        done = node.run("serve", "-c", node.conf_path)
        assert done.returncode == 78
        assert "192.0.2.1:9101 is not a loopback address, which needs admin_token, admin_cert and admin_key" \
            in done.stderr


def test_admin_beyond_loopback_on_the_command_line():
    with Node("", wait=False) as node:
        done = node.run("serve", "-c", node.conf_path, "--admin", "192.0.2.1:9101")
        assert done.returncode == 78 and "is not a loopback address" in done.stderr


def test_single_reloads_too():
    with Node("", servants={"shop.lua": SHOP}, args=["--single"], admin=False) as node:
        conf = Conf(node)
        conf.add('servant "shop" { price = "two" }\ncall_timeout_ms(50)\nbacklog(100)\nlog_level "debug"')
        with node.client() as c:
            node.send_signal(signal.SIGHUP)
            wait_until("the new price", lambda: c.call("shop.price") == "two")
            assert c.error("shop.nap", 150).code == "TIMEOUT"
        wait_until("lines", lambda: "generation 2 serves" in node.log())
        for line in "call_timeout_ms: 5000 -> 50", "backlog: 4096 -> 100 needs a restart", "log_level: info -> debug":
            assert "reload: " + line in node.log()
        conf.add("drain_mss(1)")
        node.send_signal(signal.SIGHUP)
        wait_until("what is wrong", lambda: 'unknown option "drain_mss": did you mean "drain_ms"?' in node.log())
        assert node.call("shop.price") == "two"
