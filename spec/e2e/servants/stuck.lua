-- SPDX-License-Identifier: BSD-2-Clause
--
-- stuck: loops that the JIT compiles, so that nothing but the watchdog ends them.
local fae = require "fae"
local stuck = fae.servant "stuck"

local function method(name, fn) stuck.method(name, { timeout_ms = 60000 }, fn) end

method("loop", function()
  local x = 0
  while true do x = x + 1 end
end)
method("pattern", function() return ("a"):rep(5000):find ".-.-.-.-b$" end)
method("loop_after_sleep", function()
  fae.sleep(1)
  while true do end
end)
method("spawn", function() fae.spawn(function() while true do end end) return "spawned" end)

return stuck
