-- SPDX-License-Identifier: BSD-2-Clause
--
-- backbench: fae.redis and fae.memcache from Lua, many gets in flight at a time. A servant of the nodes of
-- spec/bench/backends.py.
local fae = require "fae"
local backbench = fae.servant "backbench"
local now = fae.time.monotonic_us

local VALUE = ("v"):rep(32)

backbench.method("gets", { args = { "string", "int", "int" }, timeout_ms = 60000,
  doc = "gets a second with so many in flight, for so many milliseconds" },
  function(_, kind, in_flight, ms)
    local pool = kind == "redis" and fae.redis "main" or fae.memcache "main"
    local n, fns, begun = 0, {}, now()
    local until_us = begun + ms * 1000
    local function one_after_the_other()
      while now() < until_us do
        local value, err = pool:get "key:1"
        if value ~= VALUE then error(err or "another value") end
        n = n + 1
      end
    end
    for i = 1, in_flight do fns[i] = one_after_the_other end
    local _, errors = fae.parallel(fns)
    if errors then
      for _, err in pairs(errors) do return nil, err end
    end
    return fae.json.encode { n = n, per_s = n * 1e6 / (now() - begun) }
  end)

return backbench
