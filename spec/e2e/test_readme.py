# SPDX-License-Identifier: BSD-2-Clause
"""What the root README.md and those of lib/ show is run as it stands there: servants, clients, commands, files."""
import json
import os
import re
import shlex
import subprocess
import sys

import pytest

import servers
from harness import FAE, ROOT, SLOW, Node, RpcError, wait_until
from mariadb import Mariadb


def read(*path):
    with open(os.path.join(ROOT, *path)) as f:
        return f.read()


def blocks(language, *path):
    found = re.findall(r"^```%s\n(.*?)^```$" % language, read(*path), re.S | re.M)
    assert found, "no %s in %s" % (language, path)
    return found


README = read("README.md")


@pytest.fixture(scope="module")
def node():
    """As `make run` leaves it: run/fae.sock and lib/ lie in the folder."""
    cart, _ = blocks("lua", "README.md")
    with Node(servants={"cart.lua": cart, "hello.lua": read("servants", "hello.lua")}) as n:
        os.symlink(os.path.join(ROOT, "lib"), os.path.join(n.folder, "lib"))
        yield n


def run(node, *command):
    done = subprocess.run(command, cwd=node.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, universal_newlines=True, timeout=60 * SLOW)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_servant(node):
    assert node.call("cart.total", [1, 2, 39]) == 42


def test_what_lives_in_the_node(node):
    """Numbers and tokens are others each time."""
    part = README.split("## What lives in the node")[1].split("## Backends")[0]
    shown = re.findall(r"^    \$ build/fae (.*)\n    (.*)$", part, re.M)
    assert len(shown) == 5
    for command, answer in shown:
        got = run(node, FAE, "call", "-s", node.tcp, *shlex.split(command)[1:]).rstrip("\n")
        if command.startswith("call lock."):
            got, answer = json.loads(got), json.loads(answer)
            assert sorted(got) == sorted(answer) and len(got["token"]) == len(answer["token"])
        elif command == "call id.next":
            assert re.fullmatch(r"\d{18,19}", got)
        else:
            assert got == answer, command


@pytest.fixture(scope="module")
def backed():
    """A node with the pools of the README, whose servers are others, and the example of servants/README.md."""
    _, pools = blocks("lua", "README.md")
    article, = (text for text in blocks("lua", "servants", "README.md") if text.startswith("-- article:"))
    with servers.Redis() as redis, servers.Memcached() as memcached:
        for shown, server in ("127.0.0.1:6379", redis), ("127.0.0.1:11211", memcached):
            assert pools.count(shown) == 1
            pools = pools.replace(shown, server.addr)
        with Node(pools, servants={"article.lua": article}) as n:
            n.memcached = memcached
            os.symlink(os.path.join(ROOT, "lib"), os.path.join(n.folder, "lib"))
            yield n


def test_backends(backed):
    part = README.split("## Backends")[1].split("## Calling it")[0]
    shown = [line for line in re.findall(r"^    \$ build/fae (.*)\n    (.*)$", part, re.M) if "call my." not in line[0]]
    assert len(shown) == 4
    for command, answer in shown:
        assert run(backed, FAE, "call", "-s", backed.tcp, *shlex.split(command)[1:]).rstrip("\n") == answer, command


def test_the_example_with_both(backed):
    with backed.client() as c:
        assert c.error("article.read", "7").code == "NOT_FOUND"
        assert c.call("article.write", "7", "Blue shoes.") is True
        assert [c.call("article.read", "7") for _ in range(2)] == [
            {"text": "Blue shoes.", "reads": 2}, {"text": "Blue shoes.", "reads": 3}]
        assert backed.memcached.get("article:7") == b"Blue shoes."
        c.call("article.write", "7", "Red shoes.")
        assert c.call("article.read", "7")["text"] == "Red shoes."
        backed.memcached.kill()
        assert c.call("article.read", "7")["text"] == "Red shoes."
        assert c.call("article.write", "7", "Green shoes.") is True
        backed.memcached.start()

        def is_back():
            try:
                return c.call("mc.get", "main", "article:7") is None
            except RpcError:
                return False
        wait_until("memcached is used again", is_back)


def test_backends_from_php(backed):
    out = run(backed, "php", "lib/php/example/backends.php", backed.unix)
    assert out == 'Blue shoes.\nBlue shoes.\n{"visits":1,"rating":null,"banner":null}\n'


def test_mysql():
    """One server is all of those that the pages name."""
    page = read("servants", "README.md")
    pools, = (text for text in blocks("lua", "servants", "README.md") if 'shard "User"' in text)
    order, = (text for text in blocks("lua", "servants", "README.md") if text.startswith("-- order:"))
    shop, = (text for text in blocks("lua", "servants", "README.md") if text.startswith('mysql "shop"'))
    shown = re.findall(r"^    \$ (?:build/)?fae (call my.*)\n    (.*)$", README + page, re.M)
    assert len(shown) == 3
    with Mariadb() as server:
        server.sql("""CREATE DATABASE lookup; CREATE DATABASE users; CREATE DATABASE shop;
            CREATE USER web@'127.0.0.1'; GRANT ALL ON *.* TO web@'127.0.0.1';
            CREATE TABLE lookup.user_shards (entityId BIGINT PRIMARY KEY, shardId INT, shardLock INT);
            INSERT INTO lookup.user_shards VALUES (17, 1, 0);
            CREATE TABLE users.user (id INT PRIMARY KEY, name TEXT); INSERT INTO users.user VALUES (17, 'ann');
            CREATE TABLE shop.user LIKE users.user; INSERT INTO shop.user VALUES (17, 'ann');
            CREATE TABLE shop.stock (article INT PRIMARY KEY, n INT); INSERT INTO shop.stock VALUES (7, 1);
            CREATE TABLE shop.orders (id INT PRIMARY KEY AUTO_INCREMENT, user INT, article INT)""")
        conf = re.sub(r"10\.0\.0\.\d:3306", server.addr, pools + shop)
        with Node(conf, servants={"order.lua": order}, env={"DB": ""}) as n, n.client() as c:
            for command, answer in shown:
                got = run(n, FAE, "call", "-s", n.tcp, *shlex.split(command)[1:])
                assert json.loads(got) == json.loads(answer), command
            assert c.call("order.place", 17, 7) == 1
            assert c.error("order.place", 17, 7).code == "LIMIT"
            assert c.call("order.show", 1) == {"id": 1, "user": 17, "article": 7}


def test_the_first_change(node):
    def greet():
        return run(node, FAE, "call", "-s", node.tcp, "hello.greet", '"Ada"')

    first = README.split("## A servant")[0]
    shown = re.findall(r'^    \$ build/fae (.*)\n    (".*")$', first, re.M)
    assert [command for command, _ in shown] == ["call sys.ping"] + 2 * ["call hello.greet '\"Ada\"'"]
    assert greet() == shown[1][1] + "\n"
    node.write("hello.lua", read("servants", "hello.lua").replace('"Hello, "', '"Ahoy, "'))
    assert node.reload().returncode == 0
    assert greet() == shown[2][1] + "\n"
    node.write("hello.lua", read("servants", "hello.lua"))
    assert node.reload().returncode == 0


def test_php(node):
    with_client, bare = blocks("php", "README.md")
    assert run(node, "php", "-r", with_client) == "Hello, Ada!"
    assert run(node, "php", "-r", bare + "echo json_encode([$id, $error, $result]);") == '[1,null,"Hello, Ada!"]'


def test_neovim(node):
    line, = re.findall(r"From Neovim: `call (.*)`", README)
    host, port = node.tcp[len("tcp://"):].split(":")
    assert "'%s:9001'" % host in line
    script = "call writefile([%s], 'said')" % line.replace(":9001", ":" + port)
    run(node, "nvim", "--headless", "--clean", "-n", "-i", "NONE", "+" + script, "+qall!")
    with open(os.path.join(node.folder, "said")) as f:
        assert f.read() == "Hello, Ada!\n"


def test_commands():
    """Each is there, with the options that are shown."""
    rows = re.findall(r"^    fae (\w+) ?(.*?)(?:   .*)?$", README, re.M)
    assert len(rows) >= 9
    for command, words in rows:
        text = subprocess.run([FAE, command, "--help"], stdout=subprocess.PIPE, universal_newlines=True, check=True,
                              timeout=10 * SLOW).stdout
        for option in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", words):
            assert re.search(r"(?<![\w-])%s\b" % option, text), "fae %s has no %s" % (command, option)


@pytest.mark.parametrize("page", ["README.md", "lib/php/README.md", "lib/python/README.md", "lib/node/README.md",
                                  "lib/go/README.md", "spec/README.md"])
def test_files_that_are_named_are_there(page):
    """In backquotes, with a slash; from the root or from the page's own folder."""
    made_or_elsewhere = ("build/", "run/", "vendor/", "fae/", "github.com/", "sys.", "nginx/")
    folders = (ROOT, os.path.dirname(os.path.join(ROOT, page)))
    for name in re.findall(r"`([\w.-]+(?:/[\w.-]+)+)`", read(page)):
        if not name.startswith(made_or_elsewhere):
            assert any(os.path.exists(os.path.join(folder, name)) for folder in folders), "%s: %s" % (page, name)


def test_lib_php(node):
    first, _, errors, context = blocks("php", "lib", "php", "README.md")
    begin = "require 'lib/php/autoload.php';\n"
    here = "unix:run/fae.sock"
    assert "unix:/run/fae/fae.sock" in first
    first = begin + first.replace("unix:/run/fae/fae.sock", here)
    out = run(node, "php", "-d", "error_reporting=-1", "-r", first + "echo json_encode([$greeting, $page['greeting']]);")
    assert out == 'Hello, Ada!Hello, Ada!["Hello, Ada!","Hello, Ada!"]'
    errors = errors.replace("    ...\n", "", 1).replace("...", "")
    out = run(node, "php", "-d", "error_reporting=-1", "-r",
              first + errors.replace("$error->detail;", "echo json_encode([$error->errorCode, $error->retryable]);"))
    assert out.endswith('["UNKNOWN_METHOD",false]')
    out = run(node, "php", "-r", first + context + "echo $fae->context->reason, $fae->hello->greet('again');")
    assert out.endswith("import of julyHello, again!")


def test_lib_python(node):
    text, = blocks("python", "lib", "python", "README.md")
    shown = [line for line in text.replace("unix:/run/fae/fae.sock", "unix:run/fae.sock").splitlines() if line]
    shown[2:4] = ["print(%s)" % line.split("  #")[0] for line in shown[2:4]]
    done = run(node, sys.executable, "-B", "-c", "import sys; sys.path.insert(0, 'lib/python')\n" + "\n".join(shown))
    assert re.fullmatch(r"Hello, Ada!\n\['Hello, Ada!', \d+\]\n", done), done


def test_lib_node(node):
    """The page's lines as a program; the library is looked for where test_clients.py installs it."""
    text, = blocks("js", "lib", "node", "README.md")
    from test_clients import build, node_command
    build("node", "node", "--version")
    folder = os.path.dirname(node_command()[1])
    assert "'tcp://127.0.0.1:9001'" in text
    first, _, rest = text.replace("tcp://127.0.0.1:9001", node.tcp).partition("\n")
    program = os.path.join(folder, "shown.js")
    with open(program, "w") as f:
        f.write("%s\n(async () => {%s\nconsole.log('done');})();\n" % (first, rest.replace(
            "await fae.call('hello.greet', 'Ada');", "console.log(await fae.call('hello.greet', 'Ada'));")))
    assert run(node, "node", program) == "Hello, Ada!\ndone\n"
    os.unlink(program)


def test_the_benchmark_table_has_rows_that_are_measured():
    """What the table tells of has a row in spec/bench/run.py, and so can be repeated; so do those that are named."""
    source = read("spec", "bench", "run.py")
    for name in re.findall(r"--only ([\w-]+)", README):
        assert 'Row("%s"' % name in source
    for name in ("noop-tcp", "noop-unix", "noop-16", "echo-16", "short-unix", "short-tcp", "short-unix-8",
                 "reload-load", "idle", "php-page", "php-page-kept", "php-page-p99"):
        assert 'Row("%s"' % name in source
