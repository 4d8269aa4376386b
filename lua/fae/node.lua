-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.node: the node and the session as servant sys shows them.
local core = require "fae.core"

local M = {}
local forms = { string = true, map = true, array = true }

--- about() -> {version, build, slot, pid, workers, uptime_ms, message_max, call_timeout_ms, node_id,
-- access (there are roles)}
M.about = core.node

local function copy(value)
  if type(value) ~= "table" then return value end
  local to = {}
  for k, v in pairs(value) do to[k] = copy(v) end
  return to
end

--- servants() -> {{name, methods = {{name, args, timeout_ms, doc, route, idempotent, alias}}}}, the caller's own
function M.servants() return copy(core.servants) end

--- stats() -> table of node, workers, methods
function M.stats() return core.cjson.decode(core.stats()) end

--- session_context(map or nil)
M.session_context = core.session_context

--- session_errors(form) -> true | nil, err
function M.session_errors(form)
  if not forms[form] then return nil, core.err("BAD_ARGS", 'error must be "string", "map" or "array"') end
  core.session_errors(form)
  return true
end

return M
