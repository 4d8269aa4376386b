-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.call: a method of this node called from another, in the same task.
local core = require "fae.core"
local failure = require "fae.failure"

local M = {}

--- fae.call(method, ...) -> value | nil, err. Same generation, same deadline and context; arguments are checked as if
-- they came from a client.
function M.call(method, ...)
  if type(method) ~= "string" then error("fae.call takes a method's name", 2) end
  local fn, err = core.find(method, ...)
  if not fn then return nil, err end
  return failure.call(fn, core.call, ...)
end

return M
