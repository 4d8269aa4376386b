-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.remote: calls to another node, over one connection that is made when it is first needed.
local core = require "fae.core"

local M = {}

local TIMEOUT_MAX_MS = 600000
local option_types = { timeout_ms = "number", token = "string" }
local handles = setmetatable({}, { __mode = "k" }) -- of remotes, which servants hold
local Remote = {}
local mark = { __index = function(_, key) return Remote[key] end, __metatable = "remote" }

local function of(remote)
  local own = handles[remote]
  if not own then error("that is no remote", 3) end
  return own
end

--- remote:call(method, ...) -> value | nil, err. Waits, up to timeout_ms or the call's own deadline. The context of the
-- call that runs goes along: rid, reason, uid, traceparent.
function Remote.call(remote, method, ...)
  local own = of(remote)
  if type(method) ~= "string" then error("remote:call takes a method's name", 2) end
  local value, err = core.remote_call(own.handle, own.timeout_ms, method, ...) -- no tail call: it needs the handle
  return value, err
end

--- remote:notify(method, ...) -> true | nil, err. Never waits, and nobody tells what became of it.
function Remote.notify(remote, method, ...)
  local own = of(remote)
  if type(method) ~= "string" then error("remote:notify takes a method's name", 2) end
  return core.remote_notify(own.handle, method, ...)
end

--- fae.remote(addr[, options]) -> remote. "tcp://10.0.0.7:9001" or "unix:/path"; options: timeout_ms (5000), token,
-- which each connection shows first. Make one where a file begins and keep it: each has a connection of its own.
function M.new(addr, options)
  if type(addr) ~= "string" then error('fae.remote takes an address, as "tcp://10.0.0.7:9001"', 2) end
  for key, value in pairs(options or {}) do
    if type(value) ~= option_types[key] then
      error(("fae.remote: the options are timeout_ms, a number, and token, a string; not %s"):format(tostring(key)), 2)
    end
  end
  local timeout_ms = options and options.timeout_ms or 5000
  if not (timeout_ms >= 1 and timeout_ms <= TIMEOUT_MAX_MS) then
    error(("fae.remote: timeout_ms is 1 to %d"):format(TIMEOUT_MAX_MS), 2)
  end
  local ok, handle = pcall(core.remote_new, addr, options and options.token)
  if not ok then error(handle, 2) end
  local remote = setmetatable({}, mark)
  handles[remote] = { handle = handle, timeout_ms = timeout_ms }
  return remote
end

return M
