-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.plugin "name": a file hooked before and after calls. A method is wrapped here while it is declared, and only when
-- some plugin has a hook for calls: with none a call takes the way it would take if this file did not exist.
-- What ends a call without its function returning (a deadline, a hang-up, no memory) is told by src/vm/bind_plugin.c.
local core = require "fae.core"
local failure = require "fae.failure"
local suggest = require "fae.suggest"

local M = {}

local TICK_MS = 1000
local COMPLAIN_US = 1000000 -- a plugin that fails each call must not fill the log
local on_session, on_call, on_reply = {}, {}, {}
local kinds = { string = true, number = true, boolean = true, table = true }

-- ---- what the configuration says ----

--- configured(json) -> {{name, config}} in the order of the file, which a decoder would lose. nil: none.
function M.configured(json)
  local list, all = {}, json and core.cjson.decode(json) or {}
  local depth, at = 0, 1
  while json do
    local first = json:find('["%[%]{}]', at)
    if not first then break end
    local c = json:sub(first, first)
    at = first + 1
    if c == '"' then
      local stop = first
      repeat
        stop = json:find('["\\]', stop + 1)
        local escaped = json:sub(stop, stop) == "\\"
        if escaped then stop = stop + 1 end
      until not escaped
      if depth == 1 then -- a key: the values at this depth are objects
        local name = core.cjson.decode("[" .. json:sub(first, stop) .. "]")[1]
        list[#list + 1] = { name = name, config = all[name] }
      end
      at = stop + 1
    else
      depth = depth + ((c == "{" or c == "[") and 1 or -1)
    end
  end
  return list
end

-- ---- running hooks ----

local function text_of(why)
  if type(why) == "string" then return why end
  if type(why) == "table" and type(rawget(why, "message")) == "string" then
    return tostring(rawget(why, "code")) .. ": " .. rawget(why, "message")
  end
  return "the error object is a " .. type(why)
end

-- A line a second and plugin at most; `times` counts those since the last one.
local function complain(plugin, what, why)
  local now = core.monotonic_us()
  plugin.n_failures = plugin.n_failures + 1
  if now < plugin.quiet_until_us then return end
  core.log(3, ("plugin %s: %s: %s"):format(plugin.name, what, text_of(why)), { times = plugin.n_failures })
  plugin.n_failures, plugin.quiet_until_us = 0, now + COMPLAIN_US
end

local Call = { __index = core.call, __metatable = "call" }
local Verdict = { __metatable = "verdict" }

local function as_err(err)
  if err == nil or type(err) == "table" then return err end
  return core.err("INTERNAL", tostring(err))
end

local function tell(record, by, us, value, err)
  local reply = { value = value, err = value == nil and as_err(err) or nil, duration_us = us, plugin = by }
  for i = #on_reply, 1, -1 do
    local ok, why = core.pcall_at_once(on_reply[i].fn, record, reply)
    if not ok then complain(on_reply[i].plugin, "on_reply", why) end
  end
end

local function over(record, by, value, err)
  if value == nil and type(err) == "table" and rawget(err, "code") == "NO_MEMORY" then core.collect_due() end
  local us, lost, session, peer = core.call_over()
  if lost then -- the client is gone, whatever the method says
    record.session, record.peer = session, peer
    tell(record, by, us, nil, lost)
  else
    tell(record, by, us, value, err)
  end
  return value, err
end

--- wrap(fn) -> the function that is called in the method's place; fn itself when no plugin has a hook for calls.
function M.wrap(fn)
  if #on_call == 0 and #on_reply == 0 then return fn end
  return function(call, ...)
    local record = setmetatable({}, Call)
    if not core.call_begin(record) then return fn(call, ...) end -- by fae.call, inside a call that is watched
    for i = 1, #on_call do
      local hook = on_call[i]
      local ok, verdict = pcall(hook.fn, record, ...)
      if not ok then
        complain(hook.plugin, "on_call", verdict)
      elseif type(verdict) == "table" and debug.getmetatable(verdict) == Verdict then
        return over(record, hook.plugin.name, verdict.value, verdict.err)
      elseif verdict ~= nil then
        complain(hook.plugin, "on_call", ("returned a %s: return plugin.answer(value), plugin.refuse(err) or nothing")
          :format(type(verdict)))
      end
    end
    return over(record, nil, failure.call(fn, call, ...))
  end
end

--- dropped(record, us, err, method, session, peer): a call ended where it stood.
function M.dropped(record, us, err, method, session, peer)
  local context = record[1] or {}
  record.method, record.session, record.peer = method, session, peer
  for _, key in ipairs { "rid", "reason", "uid", "traceparent" } do record[key] = rawget(context, key) end
  tell(record, nil, us, nil, err)
end

--- session(id, peer, event): one opened or closed.
function M.session(id, peer, event)
  for _, hook in ipairs(on_session) do
    local ok, why = pcall(hook.fn, { id = id, peer = peer, event = event })
    if not ok then complain(hook.plugin, "on_session", why) end
  end
end

--- Does anybody want to hear of sessions?
function M.hears_sessions() return #on_session > 0 end

-- ---- declaring ----

-- The plugin whose file is loading. core.plugin is set by lua/fae/loader.lua: {name, config}.
local function declaring(name, level)
  local now = core.plugin
  if not now then
    error(("plugin %q: declared by a file that the configuration names, while it loads"):format(tostring(name)), level)
  end
  if now.name ~= name then
    error(("plugin %q: the file of that name declares plugin %q"):format(now.name, tostring(name)), level)
  end
  return now
end

local function option(now, name, kind, default)
  local value = now.config[name]
  now.known[name] = true
  if not kinds[kind] then error(("plugin %s: %s is no type of an option"):format(now.name, tostring(kind)), 3) end
  if value == nil and default == nil then error(("plugin %s: option %s is missing"):format(now.name, name), 3) end
  if value == nil then return default end
  if type(value) ~= kind then
    error(("plugin %s: %s must be a %s, not a %s"):format(now.name, name, kind, type(value)), 3)
  end
  return value
end

-- plugin.matcher { "shop.*", ... } -> function(method) -> does one of them match it; * is any text
local function matcher(globs)
  local patterns = {}
  for i, glob in ipairs(type(globs) == "table" and globs or {}) do
    if type(glob) ~= "string" then error("a method's name is text, such as shop.buy or shop.*", 2) end
    patterns[i] = "^" .. glob:gsub("[^%w_*]", "%%%0"):gsub("%*", ".*") .. "$"
  end
  if #patterns == 0 then error("methods are a list of names, such as shop.buy or shop.*", 2) end
  return function(method)
    for i = 1, #patterns do
      if method:find(patterns[i]) then return true end
    end
    return false
  end
end

--- fae.plugin(name) -> plugin. plugin.config is what the configuration says, plugin.secrets the option of that name:
-- keys with blanks between them, whose values are not for a log.
function M.new(name)
  local now = declaring(name, 3)
  if now.where then error(("plugin %q is declared twice"):format(name), 2) end
  local at = debug.getinfo(2, "Sl")
  now.where = ("%s:%d"):format(at.short_src, at.currentline)
  now.known = {}
  local state = { name = name, n_failures = 0, quiet_until_us = 0 }
  local plugin = { name = name, config = now.config, secrets = core.secrets, matcher = matcher }

  local function hook(where, what)
    return function(fn)
      if type(fn) ~= "function" then error(("plugin %s: %s takes a function"):format(name, what), 2) end
      if core.plugin ~= now then error(("plugin %s: %s is declared while its file loads"):format(name, what), 2) end
      where[#where + 1] = { plugin = state, fn = fn }
    end
  end
  --- plugin.on_session(function(session) end): one opened or closed, told by session.event. May wait.
  plugin.on_session = hook(on_session, "on_session")
  --- plugin.on_call(function(call, ...) end): before the method; may wait, and may end the call by what it returns.
  plugin.on_call = hook(on_call, "on_call")
  --- plugin.on_reply(function(call, reply) end): after it, however it ended; may not wait.
  plugin.on_reply = hook(on_reply, "on_reply")
  --- plugin.on_tick(function() end): about once a second in each worker; may wait.
  function plugin.on_tick(fn)
    local ticks = {}
    hook(ticks, "on_tick")(fn)
    core.timer_start(TICK_MS, function()
      local ok, why = pcall(fn)
      if not ok then complain(state, "on_tick", why) end
    end)
  end
  --- plugin.option(name, type[, default]) -> what the configuration says, checked. Without a default it must be there.
  -- Once one is asked for, options that nobody asks for are mistakes.
  function plugin.option(key, kind, default) return (option(now, key, kind, default)) end
  --- return plugin.answer(value): on_call ends the call with this result.
  function plugin.answer(value) return setmetatable({ value = value }, Verdict) end
  --- return plugin.refuse(err): on_call ends the call with this error.
  function plugin.refuse(err)
    if type(err) ~= "table" or type(rawget(err, "code")) ~= "string" then
      error("plugin.refuse takes an error, as fae.err makes it", 2)
    end
    return setmetatable({ err = err }, Verdict)
  end
  return plugin
end

--- check(now) raises what is wrong with a plugin whose file was loaded. core.plugin is still set.
function M.check(now, file)
  if not now.where then
    error(('%s:1: declares no plugin: local plugin = require "fae".plugin %q'):format(file, now.name), 0)
  end
  if next(now.known) == nil then return end
  for key in pairs(now.config) do
    if not now.known[key] then
      error(("%s: plugin %s: no option %q%s"):format(now.where, now.name, tostring(key),
        suggest.near(tostring(key), now.known)), 0)
    end
  end
end

return M
