-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a function raised, as an err. A table with a code was raised on purpose; anything else is a bug, logged where it
-- happened.
local core = require "fae.core"

local M = {}

local function is_err(value) return type(value) == "table" and type(rawget(value, "code")) == "string" end

local function on_raise(value)
  if is_err(value) then return value end
  local text = type(value) == "string" and value or "the error object is a " .. type(value)
  core.log(3, text, { trace = debug.traceback("", 2):sub(2) })
  return core.err("INTERNAL", text)
end

local function outcome(ok, value, err)
  if ok then
    if value == nil then return nil, err end
    return value
  end
  if is_err(value) then return nil, value end
  if value == "not enough memory" then return nil, core.err("NO_MEMORY", "the call needs more memory than there is") end
  core.log(3, tostring(value)) -- the handler itself failed: out of stack
  return nil, core.err("INTERNAL", tostring(value))
end

--- call(fn, ...) -> value | nil, err. Runs fn protected; may wait.
function M.call(fn, ...) return outcome(xpcall(fn, on_raise, ...)) end

return M
