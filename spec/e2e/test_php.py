# SPDX-License-Identifier: BSD-2-Clause
"""lib/php: its phpunit tests against a node, its tables against the source, its page under nginx and php-fpm (I10)."""
import glob
import grp
import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request
import xml.etree.ElementTree
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import HERE, ROOT, SLOW, Node, free_port, wait_until

LIB = os.path.join(ROOT, "lib", "php")
FPM = os.path.join(HERE, "fpm")
WEB_USER = "www-data"
CHILDREN = 3
AS_ROOT = os.geteuid() == 0
WORKER_DIED = [r"worker-\d"]


def php(*args, **options):
    return subprocess.run(["php"] + list(args), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60 * SLOW, **options)


def php_json(expression):
    done = php("-r", "require '%s/autoload.php'; echo json_encode(%s);" % (LIB, expression))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# ---- the library alone ----


@pytest.mark.parametrize("name", sorted(os.path.basename(f) for f in glob.glob(LIB + "/tests/*Test.php")))
def test_phpunit(name, tmp_path):
    junit = str(tmp_path / "junit.xml")
    with Node(servants=["probe"], workers=2, expect=[r"x \(stack|probe\.raise"]) as node:
        done = subprocess.run(["phpunit", "--log-junit", junit, "tests/" + name], cwd=LIB, timeout=120 * SLOW,
                              env=dict(os.environ, FAE_TCP=node.tcp, FAE_UNIX=node.unix), stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    assert done.returncode == 0, done.stdout
    counts = xml.etree.ElementTree.parse(junit).getroot().find("testsuite").attrib
    assert int(counts["tests"]) >= 5
    assert int(counts["skipped"]) == 0


def test_codes_are_those_of_the_node():
    with open(os.path.join(ROOT, "src", "base", "err.h")) as f:
        rows = dict(re.findall(r"^    X\((\w+), (true|false), ", f.read(), re.M))
    assert len(rows) > 15
    for answer_of_a_codec in ("OK", "MORE"):
        del rows[answer_of_a_codec]
    assert php_json("Fae\\Error::CODES") == {code: retryable == "true" for code, retryable in rows.items()}


def test_readme_has_every_option():
    with open(LIB + "/README.md") as f:
        rows = dict(re.findall(r"^\| `(\w+)` \| `([\w\[\]\x22]+)` \|", f.read(), re.M))
    assert {name: json.loads(default) for name, default in rows.items()} == php_json("Fae\\Client::OPTIONS")


def test_the_missing_extension_is_named():
    done = php("-n", "-r", "require '%s/autoload.php'; new Fae\\Client();" % LIB)
    assert done.returncode == 255
    assert "needs the PHP extension msgpack" in done.stdout + done.stderr
    assert "apt-get install php-msgpack" in done.stdout + done.stderr


# ---- under nginx and php-fpm ----


def fill(source, target, **values):
    with open(source) as f:
        text = f.read()
    for name, value in values.items():
        text = text.replace("@%s@" % name, str(value))
    assert "@" not in text, text
    with open(target, "w") as f:
        f.write(text)


def program(name):
    """php-fpm and nginx are not in everyone's PATH."""
    found = sorted(glob.glob("/usr/sbin/" + name)) or [shutil.which(name.replace("*", ""))]
    assert found[-1], "there is no %s: make deps" % name
    return found[-1]


class Web:
    """nginx and php-fpm, as www-data when we are root, beside a node whose socket they may open by its group."""

    def __init__(self, node):
        self.folder = node.folder
        self.port = free_port()
        self.processes = []
        shutil.copytree(LIB, self.folder + "/www")
        shutil.copy(FPM + "/probe.php", self.folder + "/www/example")
        user = "user = %s\ngroup = %s\nlisten.owner = %s\nlisten.group = %s" % ((WEB_USER,) * 4) if AS_ROOT else ""
        fill(FPM + "/fpm.conf", self.folder + "/fpm.conf", folder=self.folder, children=CHILDREN, user_lines=user)
        fill(FPM + "/nginx.conf", self.folder + "/nginx.conf", folder=self.folder, port=self.port, address=node.unix,
             user_lines="user %s;" % WEB_USER if AS_ROOT else "")
        subprocess.run(["chmod", "-R", "a+rX", self.folder + "/www"], check=True)
        self.start("fpm", program("php-fpm[0-9.]*"), "-F", "-y", self.folder + "/fpm.conf")
        self.start("nginx", program("nginx"), "-c", self.folder + "/nginx.conf", "-p", self.folder)
        wait_until("the page is there", self.is_up, 10)

    def start(self, name, *command):
        with open("%s/%s.out" % (self.folder, name), "wb") as out:
            self.processes.append(subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out))

    def is_up(self):
        for process in self.processes:
            assert process.poll() is None, self.logs()
        return os.path.exists(self.folder + "/fpm.sock") and self.get("/page.php")[0] == 200

    def get(self, path):
        try:
            with urllib.request.urlopen("http://127.0.0.1:%d%s" % (self.port, path), timeout=20 * SLOW) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def probe(self, query=""):
        status, text = self.get("/probe.php" + query)
        assert status == 200, (status, text, self.logs())
        return json.loads(text)

    def logs(self):
        text = ""
        for name in ("fpm.out", "fpm.log", "php.log", "nginx.out", "nginx.log"):
            if os.path.exists(os.path.join(self.folder, name)):
                with open(os.path.join(self.folder, name), errors="replace") as f:
                    text += "---- %s ----\n%s" % (name, f.read()[-4000:])
        return text

    def end(self):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGQUIT if process is self.processes[-1] else signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture(scope="module")
def web_node():
    group = WEB_USER if AS_ROOT else grp.getgrgid(os.getegid()).gr_name
    node = Node("drain_ms(2000)\ndrain_spread_ms(200)\n", workers=2, wait=False, servants=["probe"],
                expect=WORKER_DIED, listen=["tcp://127.0.0.1:0"])
    with open(node.conf_path, "a") as f:
        f.write('listen { "unix:%s/fae.sock", mode = "0660", group = "%s" }\n' % (node.folder, group))
    os.chmod(node.folder, 0o711)
    with node:
        node.start()
        yield node


@pytest.fixture(scope="module")
def web(web_node):
    web = Web(web_node)
    yield web
    web.end()


class Visitors:
    """Threads that fetch the page over and over; every answer but 200 is kept."""

    def __init__(self, web, n=3):
        self.web, self.n_good, self.bad, self.last = web, 0, [], ""
        self.stopping = False
        self.threads = [threading.Thread(target=self.run) for _ in range(n)]

    def run(self):
        while not self.stopping:
            status, text = self.web.get("/page.php?name=Ada")
            if status == 200 and "the cart has 3 things" in text:
                self.n_good += 1
                self.last = text
            else:
                self.bad.append((status, text))

    def more(self, n=20):
        """Waits for n good pages from now on."""
        want = self.n_good + n
        wait_until("%d more pages; bad: %s" % (n, self.bad[:3]), lambda: self.n_good >= want or self.bad, 20)

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def test_the_page_answers(web, web_node):
    status, text = web.get("/page.php?name=Ada")
    assert status == 200, web.logs()
    assert "<h1>Hello, Ada!</h1>" in text
    assert "ver:" in text and "Hello, all!" in text and "3 things" in text
    stat = os.stat(web_node.unix[len("unix:"):])
    assert stat.st_mode & 0o777 == 0o660
    assert stat.st_uid == os.geteuid()
    if AS_ROOT:
        assert stat.st_gid == grp.getgrnam(WEB_USER).gr_gid
        assert web.probe()["uid_of_php"] == pwd.getpwnam(WEB_USER).pw_uid


def test_each_request_has_its_rid_and_each_process_its_session(web):
    seen = [web.probe() for _ in range(12)]
    assert len({s["rid"] for s in seen}) == len(seen)
    assert {s["reason"] for s in seen} == {"/probe.php"}
    for pid in {s["pid"] for s in seen}:
        assert len({s["session"] for s in seen if s["pid"] == pid}) == 1, "the connection is not persistent"


def test_it_survives_a_reload(web, web_node):
    with Visitors(web) as visitors:
        visitors.more()
        for i in range(3):
            web_node.write("hello.lua", """local fae = require "fae"
                local hello = fae.servant "hello"
                hello.method("greet", { args = { "string?" } }, function(_, name) return "Ahoy %d, " .. name end)
                return hello""" % i)
            done = web_node.reload()
            assert done.returncode == 0, done.stderr
            visitors.more()
            wait_until("the new text is on the page", lambda: "Ahoy %d, Ada" % i in visitors.last)
    assert not visitors.bad, web.logs()


def test_it_survives_the_death_of_workers(web, web_node):
    with Visitors(web) as visitors:
        visitors.more()
        for victim in web_node.worker_pids():
            os.kill(victim, signal.SIGKILL)
            wait_until("all are back", lambda: [row["state"] for row in web_node.workers().values()
                                                if row["pid"] != victim] == ["ready"] * 3, 10)
            visitors.more()
    assert not visitors.bad, (visitors.bad[:3], web.logs())


def test_it_survives_a_restart(web, web_node):
    with Visitors(web) as visitors:
        visitors.more()
        web_node.stop()
        time.sleep(0.1)
        web_node.start()
        visitors.more()
    assert not visitors.bad, (visitors.bad[:3], web.logs())


def test_connections_that_died_between_requests_are_replaced(web, web_node):
    """probe.php sends nothing twice."""
    before = [web.probe() for _ in range(12)]
    web_node.stop()
    web_node.start()
    after = [web.probe() for _ in range(12)]
    assert len({s["pid"] for s in before} & {s["pid"] for s in after}) > 0


@pytest.mark.parametrize("leave_ms, between_s", [(0, 0.05), (60, 0)], ids=["waiting", "on its way"])
def test_what_a_request_left_behind_is_no_answer_of_the_next(web, leave_ms, between_s):
    for _ in range(3):
        left = web.probe("?leave=%d" % leave_ms)
        time.sleep(between_s)
        with ThreadPoolExecutor(CHILDREN) as pool:  # all processes at once, and so the one it concerns
            seen = list(pool.map(web.probe, ["?wait=100"] * CHILDREN))
        assert [s["waited"] for s in seen] == ["mine"] * CHILDREN
        sessions = {s["pid"]: s["session"] for s in seen}
        assert len(sessions) == CHILDREN
        if between_s:
            assert sessions[left["pid"]] != left["session"], "what was left behind is in that connection"


def test_a_request_that_dies_within_an_answer_leaves_nothing(web):
    for _ in range(3):
        status, text = web.get("/probe.php?fatal=1")
        assert status == 500, (status, text)
        with ThreadPoolExecutor(CHILDREN) as pool:
            assert [s["waited"] for s in pool.map(web.probe, ["?wait=30"] * CHILDREN)] == ["mine"] * CHILDREN
    assert "Allowed memory size" in web.logs()
