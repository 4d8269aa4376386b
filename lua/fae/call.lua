-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.call: a method of this node called from another, in the same task.
local core = require "fae.core"

local M = {}

local function outcome(ok, value, err)
  if ok then
    if value == nil then return nil, err end
    return value
  end
  if type(value) == "table" and type(value.code) == "string" then return nil, value end
  return nil, core.err("INTERNAL", tostring(value))
end

--- fae.call(method, ...) -> value | nil, err. Same generation, same deadline and context; arguments are checked as if
-- they came from a client.
function M.call(method, ...)
  local fn, err = core.find(method, ...)
  if not fn then return nil, err end
  return outcome(pcall(fn, core.call, ...))
end

return M
