# SPDX-License-Identifier: BSD-2-Clause
#
# TLS on both sides: a node and an nginx with one certificate, made here; and what nginx is asked that is as near to an
# echo as it comes: a text of the same length, without lua and without a log.
import json
import os
import subprocess

from procs import Server, free_port

NGINX_CONF = """\
daemon off;
master_process off;
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
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {cert};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3;
        location = /echo {{ return 200 '{text}'; }}
    }}
}}
"""
REQUEST = b"GET /echo HTTP/1.1\r\nHost: x\r\n\r\n"


def certificate(bench, installed):
    path = bench.dir("tls")
    cert, key = os.path.join(path, "cert.pem"), os.path.join(path, "key.pem")
    if not os.path.exists(cert):
        subprocess.run([installed("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                        "-nodes", "-days", "2", "-subj", "/CN=bench", "-keyout", key, "-out", cert], check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return cert, key


def start_fae(bench, installed, ready):
    cert, key = certificate(bench, installed)
    run = bench.dir("fae_tls")
    conf = os.path.join(run, "fae.lua")
    with open(conf, "w") as f:
        f.write(f'workers(1)\nrun_dir "{run}"\nservants_dir ""\nadmin ""\nlisten "tcp://127.0.0.1:0"\n'
                f'listen {{ "tls://127.0.0.1:0", cert = "{cert}", key = "{key}" }}\n')
    return Server("fae_tls", [bench.fae, "serve", "-c", conf], ready, bench.server_cpu)


def start_nginx(bench, installed, echo):
    binary, path, port = installed("nginx"), bench.dir("nginx_tls"), free_port()
    cert, key = certificate(bench, installed)
    conf = os.path.join(path, "nginx.conf")
    with open(conf, "w") as f:
        f.write(NGINX_CONF.format(path=path, port=port, cert=cert, key=key, text=json.dumps(echo)))
    server = Server("nginx_tls", [binary, "-p", path, "-c", conf, "-e", "stderr"], [f"tcp://127.0.0.1:{port}"],
                    bench.server_cpu)
    server.addrs.append(f"tls://127.0.0.1:{port}")
    return server


def answer_bytes(addr):
    """How long nginx's answers are; asked through openssl's client, which ends with its input."""
    done = subprocess.run(["openssl", "s_client", "-quiet", "-connect", addr[len("tls://"):]],
                          input=REQUEST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), capture_output=True,
                          check=False)
    return len(done.stdout) - len("close") + len("keep-alive")


def row(base, load, echo):
    """CPU a call of the node's TLS echo over that of `base`: nginx_tls, or the same node without TLS."""
    calls = ["sys.echo", json.dumps(echo)]

    def one_round(bench, number):
        got = bench.measure("fae_tls", "tls", ["--insecure"] + list(load) + calls)
        if base == "nginx_tls":
            n = answer_bytes(bench.get("nginx_tls").tls())
            raw = ["--raw", REQUEST.hex(), "--raw-answer-bytes", str(n), "--raw-compare", "15"]
            other = bench.measure("nginx_tls", "tls", ["--insecure"] + raw + list(load))
        else:
            other = bench.measure("fae_tls", "tcp", list(load) + calls)
        return {"value": got["us"] / other["us"], "us": got["us"], "base_us": other["us"],
                "calls_per_s": got["calls_per_s"], "base_calls_per_s": other["calls_per_s"], "p99_us": got["p99_us"],
                "base_p99_us": other["p99_us"], "crowded": max(got["crowded"], other["crowded"]),
                "failed": got["failed"] + other["failed"]}
    return one_round
