-- SPDX-License-Identifier: BSD-2-Clause
--
-- shadow: sends a share of the calls to another node as well, to see how it fares. Nothing waits for it and nothing
-- fails with it: it gets notifications, through a bounded queue, and what it cannot take is dropped and counted.
--   plugin "shadow" { to = "tcp://10.0.0.7:9001", share = 0.05, methods = { "shop.*" } }
local fae = require "fae"
local plugin = fae.plugin "shadow"

local to = plugin.option("to", "string")
local share = plugin.option("share", "number", 1)
local is_meant = plugin.matcher(plugin.option("methods", "table", { "*" }))
local token = plugin.option("token", "string", "")

if not (share > 0 and share <= 1) then error "share is the part of the calls: more than 0, at most 1" end

local remote = fae.remote(to, { token = token ~= "" and token or nil })
local n_sent, n_dropped, why = 0, 0, nil

plugin.on_call(function(call, ...)
  if math.random() >= share or not is_meant(call.method) then return end
  local ok, err = remote:notify(call.method, ...)
  if ok then
    n_sent = n_sent + 1
  else
    n_dropped, why = n_dropped + 1, err
  end
end)

plugin.on_tick(function()
  if n_dropped > 0 then
    fae.log.warn("shadow: calls were not sent", { sent = n_sent, dropped = n_dropped, last = tostring(why) })
  end
  n_sent, n_dropped = 0, 0
end)

return plugin
