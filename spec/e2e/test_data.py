# SPDX-License-Identifier: BSD-2-Clause
"""The data folder: where it is, whose it is, and what a node does that cannot use it."""
import os
import pwd
import stat

import pytest

from harness import Node, RpcError, wait_until


def fails(node):
    """What a node that must not start says."""
    with pytest.raises(AssertionError, match=r"no ready line \(exit code (1|78)\)"):
        node.start()
    return node.log()


def test_it_is_in_run_dir_unless_named(tmp_path):
    with Node() as node:
        assert os.path.exists(os.path.join(node.run_dir, "data", "marks"))
    with Node('data_dir "%s"' % (tmp_path / "a" / "b")) as node:
        assert (tmp_path / "a" / "b" / "marks").exists()
        assert not os.path.exists(os.path.join(node.run_dir, "data"))
        assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o750
    assert not (tmp_path / "a" / "b" / "fae.pid").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="changes accounts")
def test_it_belongs_to_the_account():
    with Node('user "nobody"', wait=False) as node:
        os.chmod(node.folder, 0o755)
        node.start()
        data = os.path.join(node.run_dir, "data")
        uid = pwd.getpwnam("nobody").pw_uid
        assert os.stat(data).st_uid == uid and os.stat(os.path.join(data, "marks")).st_uid == uid


def test_another_node_is_kept_out(tmp_path):
    conf = 'data_dir "%s"' % tmp_path
    with Node(conf) as node, Node(conf, wait=False) as other:
        assert "a node runs in %s already (pid %d)" % (tmp_path, node.pid) in fails(other)


def test_what_is_damaged_is_told_and_left_alone(tmp_path):
    conf = 'data_dir "%s"' % tmp_path
    with Node(conf):
        pass
    (tmp_path / "marks").write_bytes(b"x" * 8192)
    with Node(conf, wait=False) as node:
        assert "%s/marks is damaged" % tmp_path in fails(node)
    assert (tmp_path / "marks").read_bytes() == b"x" * 8192
    (tmp_path / "marks").unlink()
    with Node(conf):
        pass


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    with Node('data_dir "%s/file/x"' % tmp_path, wait=False) as node:
        assert "data_dir %s/file/x: Not a directory" % tmp_path in fails(node)


def test_ops_lives_without_the_data_folder():
    """Log and admin go on; what needs the folder does so when it is there again."""
    with Node(expect=["ops .* died of signal 9", "marks: cannot be served"]) as node:
        data = os.path.join(node.run_dir, "data")
        os.rename(data, data + ".away")
        before = node.workers()["ops"]["pid"]
        os.kill(before, 9)
        wait_until("ops is back", lambda: node.workers()["ops"]["pid"] not in (0, before) and
                   node.workers()["ops"]["state"] == "ready")
        wait_until("it says why", lambda: "marks: cannot be served: No such file" in node.log())
        os.rename(data + ".away", data)
        with node.client(timeout=30) as c:
            def set_one():
                try:
                    return c.call("kv.set", "a", "1")
                except RpcError as err:
                    assert err.code in ("TIMEOUT", "UNKNOWN", "UNAVAILABLE"), err
            wait_until("it serves again", set_one, 20)
            assert c.call("kv.get", "a") == "1"


def test_ops_comes_back_and_serves_the_marks():
    with Node(workers=2, expect=["ops .* died of signal 9"]) as node:
        before = node.workers()["ops"]["pid"]
        os.kill(before, 9)
        wait_until("ops is back", lambda: node.workers()["ops"]["pid"] not in (0, before) and
                   node.workers()["ops"]["state"] == "ready")
        assert node.call("sys.noop", 1) == 1
