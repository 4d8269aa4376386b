# SPDX-License-Identifier: BSD-2-Clause
#
# Reload measured: what callers see of it, and what it leaves behind.
import json
import os
import subprocess
import time

import procs
from procs import Failed, Load, say

PEAK_OF = 20
SERVANT = """\
-- Version {version}: a servant that owns what a reload must give back.
local fae = require "fae"
local bench = fae.servant "bench"
local megabyte = ("{version:08d}"):rep(131072)
local ticks = 0

fae.timer(20, function() ticks = ticks + 1 end)
fae.spawn(function()
  while true do fae.sleep(15) end
end)

bench.method("version", {{ doc = "which version answers" }}, function(call)
  return {{ version = {version}, bytes = #megabyte }}
end)

return bench
"""


class Reloader:
    """A node with a servant that is rewritten and reloaded."""

    def __init__(self, bench, name, cpu):
        self.bench, self.name, self.version = bench, name, 0
        self.servants = bench.dir(name + "-servants")
        self.write(self.good())
        bench.servers[name] = self.server = bench.start_node(name, 1, self.servants, cpu)
        self.run_dir = bench.dir(name)

    def good(self):
        self.version += 1
        return SERVANT.format(version=self.version)

    def write(self, text):
        path = os.path.join(self.servants, "bench.lua")
        with open(path + ".new", "w") as f:
            f.write(text)
        os.rename(path + ".new", path)

    def reload(self, *args):
        """(exit code, output) of one `fae reload`."""
        done = subprocess.run([self.bench.fae, "reload", "--run-dir", self.run_dir, *args], capture_output=True,
                              text=True, timeout=30, preexec_fn=procs.child_setup(None))
        return done.returncode, done.stdout + done.stderr

    def reload_good(self, *args):
        self.write(self.good())
        code, text = self.reload(*args)
        if code != 0:
            raise Failed(f"a good reload failed with {code}: {text.strip()}")

    def reload_bad(self):
        self.write(f"local x = = {self.version}\n")
        code, text = self.reload()
        if code != 1 or "bench.lua:1" not in text:
            raise Failed(f"a bad reload ended with {code} and says: {text.strip()}")

    def rss(self):
        """{pid: (its own, with shared memory)}. The shared regions have fixed sizes, but their log rings become
        resident as lines are written, half a MiB over some hundred reloads: that is no growth of anything."""
        return {pid: (procs.rss_bytes(pid, ("RssAnon", "RssFile")), procs.rss_bytes(pid))
                for pid in self.server.pids()}

    def peak(self):
        """The highest of rss over some good reloads: where the collector stands at one moment is chance, and a
        generation's megabyte more or less."""
        highest = {}
        for _ in range(PEAK_OF):
            self.reload_good("--wait")
            time.sleep(0.05)
            highest = {pid: tuple(map(max, now, highest.get(pid, now))) for pid, now in self.rss().items()}
        return highest

    def check_version(self):
        out = subprocess.run([self.bench.fae, "call", "-s", self.server.tcp(), "bench.version"], capture_output=True,
                             text=True, timeout=30)
        if out.returncode != 0 or json.loads(out.stdout) != {"version": self.version, "bytes": 8 * 131072}:
            raise Failed(f"version {self.version} should answer: {out.stdout}{out.stderr}")


def reload_under_load(bench, number):
    """p99 while the servants are reloaded 10 times a second, over p99 before. Not pinned: a checker is a process of its
    own, and what is asked is what callers of a machine with two cpus see."""
    bench.drop("reloaded")
    node = Reloader(bench, "reloaded", None)
    seconds = bench.args.reload_seconds
    load = ["-c", "8", "bench.version"]
    quiet = Load(bench.fae, node.server.tcp(), ["-d", str(min(10, seconds))] + load, None).wait(60)
    busy, n, late = Load(bench.fae, node.server.tcp(), ["-d", str(seconds)] + load, None), 0, 0
    start = time.monotonic()
    try:
        while (left := start + n / 10 - time.monotonic()) < seconds and time.monotonic() < start + seconds - 0.2:
            if left > 0:
                time.sleep(left)
            elif left < -0.1:
                late += 1
            node.reload_good()
            n += 1
    finally:
        figures = busy.wait(seconds + 30)
    node.check_version()
    bench.drop("reloaded")
    say(f"    reload     {n} reloads in {seconds} s ({late} begun late), p99 {quiet['p99_us']:.0f} -> "
        f"{figures['p99_us']:.0f} us, {figures['failed']} failed, {figures['lost']} sessions closed")
    return {"value": figures["p99_us"] / quiet["p99_us"], "p99_us": figures["p99_us"], "base_p99_us": quiet["p99_us"],
            "calls_per_s": figures["calls_per_s"], "base_calls_per_s": quiet["calls_per_s"],
            "reloads_per_s": n / seconds, "failed": figures["failed"] + figures["lost"] + figures["stray"]}


def reload_memory(bench, number):
    """Memory after many good and bad reloads over that after the first few."""
    bench.drop("worn")
    node, half = Reloader(bench, "worn", None), bench.args.reloads
    for _ in range(min(50, half)):
        node.reload_good("--wait")
    before = node.peak()
    for i in range(half):
        node.reload_good("--wait")
        node.reload_bad()
        if i % 100 == 99:
            say(f"    reload     {2 * i + 2} done, {total(node.rss(), 0) / 2**20:.1f} MiB")
    node.check_version()
    after = node.peak()
    if set(before) != set(after):
        raise Failed(f"processes of the node changed: {sorted(before)} -> {sorted(after)}")
    for pid in before:
        say(f"    {procs.title(pid):50} {before[pid][0] / 2**10:8.0f} -> {after[pid][0] / 2**10:8.0f} KiB, "
            f"with shared memory {before[pid][1] / 2**10:8.0f} -> {after[pid][1] / 2**10:8.0f}")
    bench.drop("worn")
    return {"value": total(after, 0) / total(before, 0), "rss_before": total(before, 0), "rss_after": total(after, 0),
            "with_shared_before": total(before, 1), "with_shared_after": total(after, 1), "failed": 0}


def total(rss, which):
    return sum(of_one[which] for of_one in rss.values())
