-- SPDX-License-Identifier: BSD-2-Clause
--
-- The driver of `fae test`: busted with the runtime's own modules, run as a task so that specs may wait.
local loaded, finish, args = ...

package.path = "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua;" .. package.path
for name, module in pairs(loaded) do
  if name:match "^fae" then package.loaded[name] = module end
end

local exit = os.exit
local code
os.exit = function(how) -- luacheck: ignore 122
  code = how == true and 0 or how == false and 1 or how or 0
  error { exit = true }
end
_G.arg = args -- luacheck: ignore 122
args[0] = "fae test"
local ok, err = xpcall(function() require "busted.runner" { standalone = false } end, function(e)
  if type(e) == "table" and e.exit then return e end
  return debug.traceback(tostring(e), 2)
end)
os.exit = exit -- luacheck: ignore 122
if not ok and not (type(err) == "table" and err.exit) then
  io.stderr:write("fae test: ", tostring(err), "\n")
  code = 1
end
finish(code or 0)
