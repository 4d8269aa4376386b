# SPDX-License-Identifier: BSD-2-Clause
#
# nginx, php-fpm and a node together, all on the servers' cpu: what five calls over the unix socket, made with lib/php,
# add to a page. page.php is asked with and without its calls, over connections that stay open; its answers all have
# one length, so that `fae bench --raw` can make the load. redis.php reads five keys from redis, which is on that cpu
# too: through the node, or over a connection of its own.
import glob
import os
import shutil
import time

import procs
from procs import Failed, Server, say

HERE = os.path.dirname(os.path.abspath(__file__))
LIB = os.path.join(os.path.dirname(os.path.dirname(HERE)), "lib", "php")
WEB_USER = "www-data"  # what Debian's php-fpm and nginx become when root starts them
CHILDREN = 4
STATUS = b"HTTP/1.1 200 OK\r\n"
NODE_CONF = """\
workers(1)
run_dir "{path}/run"
admin ""
listen {{ "unix:{path}/fae.sock", mode = "0666" }}
{pool}
"""
FPM_CONF = """\
[global]
error_log = /dev/stderr
daemonize = no
[page]
{user}
listen = {path}/fpm.sock
listen.mode = 0666
listen.backlog = 4096
pm = static
pm.max_children = {children}
php_admin_flag[log_errors] = on
php_admin_value[error_log] = {path}/php.log
"""
NGINX_CONF = """\
daemon off;
{user}
worker_processes 1;
pid {path}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path {path}/body;
    proxy_temp_path {path}/proxy;
    fastcgi_temp_path {path}/fastcgi;
    uwsgi_temp_path {path}/uwsgi;
    scgi_temp_path {path}/scgi;
    keepalive_requests 1000000000;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location ~ ^/(page|redis|mysql)\.php$ {{
            fastcgi_pass unix:{path}/fpm.sock;
            fastcgi_param SCRIPT_FILENAME {path}$fastcgi_script_name;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param FAE_ADDRESS unix:{path}/fae.sock;
            fastcgi_param REDIS_ADDRESS "{redis}";
            fastcgi_param MYSQL_ADDRESS "{mysql}";
        }}
    }}
}}
"""


class Site:
    """Three servers that are measured as one; with a redis four."""

    def __init__(self, bench, programs, name="page", redis=None, mysql="", children=CHILDREN):
        """redis: a server, which stop() ends too; mysql: the address of one, of which it does not know more."""
        self.name, self.path, self.servers, self.children = name, bench.dir(name), [redis] if redis else [], children
        self.redis = redis.tcp()[len("tcp://"):] if redis else ""
        self.mysql = mysql[len("tcp://"):]
        os.chmod(bench.tmp, 0o711)  # so that www-data may pass
        os.chmod(self.path, 0o711)
        shutil.copytree(LIB, os.path.join(self.path, "php"), dirs_exist_ok=True)
        for page in ("page.php", "redis.php", "mysql.php"):
            shutil.copy2(os.path.join(HERE, page), self.path)  # opcache keeps no file that is younger than 2 s
            os.chmod(os.path.join(self.path, page), 0o644)
        self.port = procs.free_port()
        try:
            for start in (self.start_node, self.start_fpm, self.start_nginx):
                self.servers.append(start(bench, programs))
        except Failed:
            for server in self.servers[1 if redis else 0:]:
                server.stop()
            raise
        self.addr = f"tcp://127.0.0.1:{self.port}"

    def write(self, name, text, user):
        path = os.path.join(self.path, name)
        with open(path, "w") as f:
            f.write(text.format(path=self.path, port=self.port, children=self.children, redis=self.redis,
                                mysql=self.mysql, pool=self.pool(), user=user if os.geteuid() == 0 else ""))
        return path

    def pool(self):
        """The node's, with as many connections as it has when nobody says a number."""
        if self.mysql:
            return f'mysql "main" {{ servers = "{self.mysql}", user = "page", password = "secret", db = "test", wait_ms = 2000 }}'
        return f'redis "main" {{ servers = "{self.redis}" }}' if self.redis else ""

    def start_node(self, bench, programs):
        conf = self.write("fae.lua", NODE_CONF, "")
        return Server("fae", [bench.fae, "serve", "-c", conf], [f"unix:{self.path}/fae.sock"], bench.server_cpu)

    def start_fpm(self, bench, programs):
        conf = self.write("fpm.conf", FPM_CONF, f"user = {WEB_USER}\ngroup = {WEB_USER}")
        open(os.path.join(self.path, "php.log"), "w").close()
        os.chmod(os.path.join(self.path, "php.log"), 0o666)
        server = Server("php-fpm", [programs["php-fpm"], "-F", "-y", conf], [f"unix:{self.path}/fpm.sock"],
                        bench.server_cpu)
        end = time.monotonic() + procs.READY_S
        while len(server.pids()) <= self.children:  # it listens before it has them
            if time.monotonic() > end:
                server.stop()
                raise Failed(f"php-fpm has no {self.children} processes")
            time.sleep(0.05)
        return server

    def start_nginx(self, bench, programs):
        conf = self.write("nginx.conf", NGINX_CONF, f"user {WEB_USER};")
        return Server("nginx", [programs["nginx"], "-p", self.path, "-c", conf, "-e", "stderr"],
                      [f"tcp://127.0.0.1:{self.port}"], bench.server_cpu)

    def complaint(self):
        """The last that php had to say."""
        with open(os.path.join(self.path, "php.log"), errors="replace") as f:
            return "".join([line for line in f if "PHP " in line][-1:]).strip()

    def sched(self):
        return {pid: ns for server in self.servers for pid, ns in server.sched().items()}

    def stop(self):
        for server in reversed(self.servers):
            server.stop()


def programs(installed):
    """installed(name) gives the path of a program, or raises."""
    fpm = sorted(glob.glob("/usr/sbin/php-fpm[0-9]*"))
    return {"php-fpm": fpm[-1] if fpm else installed("php-fpm"), "nginx": installed("nginx")}


def start(bench, installed):
    return Site(bench, programs(installed))


def start_with_redis(bench, installed):
    redis = bench.get("redis")
    with procs.connect(redis.tcp()) as sock:
        sock.sendall(b"".join(b"SET user:%d value-of-%d\r\n" % (i, i) for i in range(5)))
        if sock.recv(64) != b"+OK\r\n" * 5:
            raise Failed("redis does not store")
    return Site(bench, programs(installed), "redis_page", redis)


def request(target):
    return f"GET /{target} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def measured(bench, site, ask, raw, target, text, load, begin=None):
    """Figures of one page in one turn, which nobody counts before begin() was called."""
    answer = ask(site.addr, request(target))
    if not answer.startswith(STATUS) or text not in answer:
        raise Failed(f"{target} answered {answer[:300]!r}")
    args = raw(request(target), answer, compare=len(STATUS)) + list(load)
    procs.measure(bench.fae, site, site.addr, args, 0.5, bench.client_cpu)
    if begin:
        begin()
    got = procs.measure(bench.fae, site, site.addr, args, bench.args.seconds, bench.client_cpu)
    say(f"    {target:22} {got['calls_per_s']:8,.0f} pages/s {got['us']:7.1f} us of cpu a page "
        f"p50 {got['p50_us']:6.0f} p99 {got['p99_us']:6.0f} us  {got['failed']} failed")
    return got


def page(value, ask, raw, calls, *load, site="page", base="page.php?calls=0", text=b"3 things"):
    """A row: calls is the page; value, which of its figures over that of the page base."""
    def one_round(bench, number):
        order = [calls, base]
        got = {target: measured(bench, bench.get(site), ask, raw, target, text, load)
               for target in (reversed(order) if number % 2 else order)}
        made, without = got[calls], got[base]
        return {"value": made[value] / without[value], "us": made["us"], "base_us": without["us"],
                "calls_per_s": made["calls_per_s"], "base_calls_per_s": without["calls_per_s"],
                "p50_us": made["p50_us"], "base_p50_us": without["p50_us"],
                "p99_us": made["p99_us"], "base_p99_us": without["p99_us"],
                "failed": made["failed"] + without["failed"] + made["lost"] + without["lost"]}
    return one_round


def redis_page(value, ask, raw, target, *load):
    return page(value, ask, raw, target, *load, site="redis_page", base="redis.php?by=direct", text=b"5 users")
