-- SPDX-License-Identifier: BSD-2-Clause
--
-- kvbench: fae.kv from Lua, timed by itself. A servant of the nodes of spec/bench/kv.py.
local fae = require "fae"
local kvbench = fae.servant "kvbench"

local VALUE = ("v"):rep(100)
local KEYS, WAITING = 1000, 1024

local keys = {}
for i = 1, KEYS do keys[i] = "user:" .. i end

local function side_by_side(n, fn)
  local fns = {}
  for i = 1, n do fns[i] = function() return fn(i) end end
  local _, errors = fae.parallel(fns)
  if errors then error(select(2, next(errors))) end
end

kvbench.method("get", { args = { "int" }, timeout_ms = 60000, doc = "ns of a get that has been read before" },
  function(_, ms)
    local get, now = fae.kv.get, fae.time.monotonic_us
    side_by_side(KEYS, function(i) return fae.kv.set(keys[i], VALUE) end)
    local n, begun, until_us = 0, os.clock(), now() + ms * 1000
    repeat
      for i = 1, KEYS do
        if not get(keys[i]) then error "a miss" end
      end
      n = n + KEYS
    until now() >= until_us
    return (os.clock() - begun) * 1e9 / n
  end)

kvbench.method("fast", { args = { "int" }, timeout_ms = 60000, doc = "how many sets 1024 waiting tasks made" },
  function(_, ms)
    local set, now, n = fae.kv.fast.set, fae.time.monotonic_us, 0
    local until_us = now() + ms * 1000
    side_by_side(WAITING, function(i)
      local k = i
      repeat
        local ok, err = set("user:" .. k, VALUE)
        if not ok then return nil, err end
        k, n = (k + WAITING) % 100000, n + 1
      until now() >= until_us
      return true
    end)
    return n
  end)

return kvbench
