# SPDX-License-Identifier: BSD-2-Clause
"""Real mariadb servers for tests, several at a time, each with a port, a socket and a folder of its own. The folder is
made once a run and copied."""
import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile

import harness
from servers import Process

_template = None


def template():
    """A data folder that no server has touched."""
    global _template
    if not _template:
        _template = tempfile.mkdtemp(prefix="fae-mariadb-")
        atexit.register(shutil.rmtree, _template, ignore_errors=True)
        done = subprocess.run(["mariadb-install-db", "--no-defaults", "--user=" + account(), "--skip-test-db",
                               "--datadir=" + _template, "--tmpdir=" + _template, "--auth-root-authentication-method=normal",
                               "--innodb-log-file-size=4M"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert done.returncode == 0, done.stdout.decode()[-2000:]
    return _template


def account():
    import pwd
    return pwd.getpwuid(os.getuid()).pw_name


class Mariadb(Process):
    """root has no password. sql(): statements by the command-line client, for what a test prepares and looks at."""

    def __init__(self, args=(), **kw):
        self.data = tempfile.mkdtemp(prefix="fae-mariadb-")
        shutil.rmtree(self.data)
        shutil.copytree(template(), self.data)
        self.socket = os.path.join(self.data, "s.sock")
        super().__init__(args=args, **kw)

    def __exit__(self, *exit):
        super().__exit__(*exit)
        shutil.rmtree(self.data, ignore_errors=True)

    def command(self):
        return ["mariadbd", "--no-defaults", "--user=" + account(), "--datadir=" + self.data,
                "--tmpdir=" + self.data, "--port=%d" % self.port,
                "--bind-address=" + self.host, "--socket=" + self.socket, "--pid-file=%s/pid" % self.data,
                "--skip-name-resolve", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M",
                "--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--performance-schema=OFF"] + self.args

    def answers(self):
        assert self.process.poll() is None, "mariadbd ended"
        return self.client("SELECT 1").returncode == 0

    def client(self, text, db=None, user="root"):
        return subprocess.run(["mariadb", "--no-defaults", "--user=" + user, "--socket=" + self.socket, "--batch",
                               "--skip-column-names", "--default-character-set=utf8mb4"] + ([db] if db else []),
                              input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=30 * harness.SLOW)

    def sql(self, text, db=None):
        """Runs statements; the rows of all as lists of texts."""
        done = self.client(text, db)
        assert done.returncode == 0, done.stderr.decode()
        return [line.split("\t") for line in done.stdout.decode().splitlines()]

    @contextlib.contextmanager
    def session(self, user="root"):
        """A connection that stays: a function that runs statements on it."""
        process = subprocess.Popen(["mariadb", "--no-defaults", "--user=" + user, "--socket=" + self.socket, "--batch",
                                    "--skip-column-names", "--unbuffered"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE)

        def run(text):
            process.stdin.write(("%s;\nSELECT '-- done';\n" % text).encode())
            process.stdin.flush()
            rows = []
            while True:
                line = process.stdout.readline()
                assert line, "the session ended at %s" % text
                if line == b"-- done\n":
                    return rows
                rows.append(line.decode().rstrip("\n").split("\t"))

        try:
            yield run
        finally:
            process.stdin.close()
            process.wait(30 * harness.SLOW)
            process.stdout.close()

    def status(self, name):
        return int(self.sql("SHOW GLOBAL STATUS LIKE '%s'" % name)[0][1])
