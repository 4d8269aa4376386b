-- SPDX-License-Identifier: BSD-2-Clause
--
-- Lua scripts that redis runs: sent by their SHA, and in full to a server that does not know them (any more).
local core = require "fae.core"
local commands = require "fae.redis_commands"
local route = require "fae.redis_route"

local M = {}

local scripts = setmetatable({}, { __mode = "k" }) -- of objects, which servants hold
local Script = {}
local mark = {
  __index = Script, __metatable = "redis script",
  __newindex = function() error("a script takes no fields", 2) end,
}

local function load_at(script, at)
  local sha, err = core.redis_call(script.own.h, at, commands.READ, "SCRIPT", "LOAD", script.source)
  if not sha then return nil, err end
  script.sha = sha
  return true
end

--- run(script, pick, keys, args) -> reply | nil, err, on the server that pick() -> at | nil, err says: asked before
-- each step, since a reload may have changed the pool while one waited
function M.run(script, pick, keys, args)
  local cmd = { "EVALSHA", script.sha or "", #keys }
  for i = 1, #keys do cmd[3 + i] = keys[i] end
  local n = 3 + #keys
  for i = 1, #args do cmd[n + i] = args[i] end
  local at, err
  for try = 1, 2 do
    at, err = pick()
    if not at then return nil, err end
    if not script.sha or try == 2 then
      local ok
      ok, err = load_at(script, at)
      if not ok then return nil, err end
      cmd[2] = script.sha
      at, err = pick()
      if not at then return nil, err end
    end
    local reply
    reply, err = route.batch(script.own, at, script.flags, cmd)
    if not (err and err.detail and err.detail.error == "NOSCRIPT") or try == 2 then return reply, err end
  end
end

--- new(own, source[, {read_only = true}]) -> script
function M.new(own, source, options)
  if type(source) ~= "string" then error("pool:script takes a script's text", 2) end
  for key in pairs(options or {}) do
    if key ~= "read_only" then error(("pool:script: the option is read_only, not %s"):format(tostring(key)), 2) end
  end
  local script = setmetatable({}, mark)
  scripts[script] = { own = own, source = source, flags = options and options.read_only and commands.READ or 0 }
  return script, scripts[script]
end

local function list(what)
  if what == nil then return {} end
  return type(what) == "table" and what or { what }
end

local function server_of(own, keys)
  if #keys > 0 then return route.pick_all(own, keys, "script:eval") end
  if own.at then return route.bound(own) end
  local n, err = route.servers(own)
  if not n then return nil, err end
  if n > 1 then return route.bad("a script without keys: the pool has %d servers", n) end
  return 0
end

--- script:eval(keys, args) -> reply | nil, err. keys: a key or a list of them, which must lie on one server; args: a
-- value or a list. Waits.
function Script.eval(script, keys, args)
  local own = scripts[script]
  if not own then error("that is no script: script:eval(...)", 2) end
  keys, args = list(keys), list(args)
  return M.run(own, function() return server_of(own.own, keys) end, keys, args)
end

return M
