-- SPDX-License-Identifier: BSD-2-Clause
--
-- tame: interpreted, so that the watchdog can interrupt a call instead of killing its worker.
local fae = require "fae"
local tame = fae.servant("tame", { jit = false })

local function method(name, fn) tame.method(name, { timeout_ms = 60000 }, fn) end

method("loop", function()
  local x = 0
  while true do x = x + 1 end
end)
method("pcall_loop", function()
  while true do pcall(function() while true do end end) end
end)
method("pcall_sleep_loop", function()
  while true do
    pcall(function() local x = 0 while true do x = x + 1 end end)
    pcall(fae.sleep, 1)
  end
end)
method("coroutine_loop", function()
  return coroutine.wrap(function() while true do end end)()
end)

return tame
