-- SPDX-License-Identifier: BSD-2-Clause
--
-- audit: who called which of the configured methods, with which arguments and what came of it, in the node's log.
-- The values of keys that the option `secrets` names are masked.
--   plugin "audit" { methods = { "shop.buy", "user.*" } }
local fae = require "fae"
local plugin = fae.plugin "audit"

local is_audited = plugin.matcher(plugin.option("methods", "table"))
local ARGS_BYTES, DEPTH = 500, 8

local hidden = {}
for key in plugin.secrets:gmatch "%S+" do hidden[key:lower()] = true end

-- The value with what is secret masked.
local function masked(value, depth)
  if type(value) ~= "table" then return value end
  if depth == DEPTH then return "..." end
  local copy = {}
  for k, v in pairs(value) do
    copy[k] = type(k) == "string" and hidden[k:lower()] and "***" or masked(v, depth + 1)
  end
  return copy
end

plugin.on_call(function(call, ...)
  if not is_audited(call.method) then return end
  local args = {}
  for i = 1, select("#", ...) do
    local arg = select(i, ...)
    args[i] = arg == nil and fae.null or masked(arg, 0)
  end
  call.audited = (fae.json.encode(args) or "?"):sub(1, ARGS_BYTES)
end)

plugin.on_reply(function(call, reply)
  if not call.audited then return end
  fae.log.info("audit", { call = call.method, peer = call.peer, who = call.who and tostring(call.who), rid = call.rid
    and tostring(call.rid), uid = call.uid and tostring(call.uid), args = call.audited,
    code = reply.err and reply.err.code or "OK" })
end)

return plugin
