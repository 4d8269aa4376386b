-- SPDX-License-Identifier: BSD-2-Clause
--
-- cachebench: fae.cache from Lua, timed by itself: CPU time, so that a machine that is not ours alone does not count.
-- A servant of the nodes of spec/bench/cache.py.
local fae = require "fae"
local cache = fae.cache
local about = require("fae.node").about
local cachebench = fae.servant "cachebench"

local VALUE = ("v"):rep(100)
local KEYS = 10000

local keys = {}
for i = 1, KEYS do keys[i] = "user:" .. i end

local function get_all()
  for i = 1, KEYS do
    if not cache.get(keys[i]) then error "a miss" end
  end
end

local function set_all()
  for i = 1, KEYS do cache.set(keys[i], VALUE) end
end

local function nothing() end

-- A miss would be a fault: it fills the cache first.
local rounds = { get = get_all, set = set_all, fill = nothing }

cachebench.method("run", { args = { "string", "int" }, timeout_ms = 60000,
  doc = "pid, and ns of an operation in the median round" },
  function(_, what, ms)
    local round, now = rounds[what], fae.time.monotonic_us
    set_all()
    round() -- and what the compiler does
    local took, until_us = {}, now() + ms * 1000
    repeat
      local begun = os.clock()
      round()
      took[#took + 1] = os.clock() - begun
    until now() >= until_us
    table.sort(took)
    return fae.json.encode { pid = about().pid, ns = took[math.ceil(#took / 2)] * 1e9 / KEYS }
  end)

-- X7: keys that differ as little as can be against keys that differ in everything; microseconds for all of them, the
-- best of 5.
cachebench.method("flood", { args = { "boolean", "int" }, timeout_ms = 60000,
  doc = "microseconds for n new keys" },
  function(_, crafted, n)
    local list, head = {}, ("k"):rep(40)
    for i = 1, n do
      if i % 10000 == 0 then fae.sleep(0) end
      list[i] = crafted and ("%s%09d"):format(head, i)
        or ("%016x%033d"):format(math.random(2 ^ 52), math.random(2 ^ 31))
    end
    local least = math.huge
    for _ = 1, 5 do
      cache.flush()
      local begun = os.clock()
      for i = 1, n do cache.set(list[i], "v") end
      for i = 1, n do cache.get(list[i]) end
      least = math.min(least, os.clock() - begun)
      fae.sleep(0)
    end
    return fae.json.encode { us = least * 1e6 }
  end)

cachebench.method("entry", { args = { "int" }, timeout_ms = 60000,
  doc = "bytes an entry takes in a full cache, beyond key and value" },
  function(_, n)
    cache.flush()
    for i = 1, n do
      cache.set(("%010d"):format(i), VALUE)
      if i % 10000 == 0 then fae.sleep(0) end
    end
    local stats = cache.stats()
    if stats.evictions == 0 then error "it is not full" end
    return fae.json.encode { bytes = stats.size_bytes / stats.items - 10 - #VALUE }
  end)

return cachebench
