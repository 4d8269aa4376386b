-- SPDX-License-Identifier: BSD-2-Clause
--
-- Many commands at once: pipelines, transactions, and a connection of one's own. What is asked for is collected first
-- and looked at as a whole: a command that cannot be sent refuses all of them before any is.
local core = require "fae.core"
local commands = require "fae.redis_commands"
local route = require "fae.redis_route"

local M = {}

local COMMANDS_MAX = 10000
local bad, is_err, is_sound = route.bad, route.is_err, route.is_sound
local null = core.cjson.null

-- ---- collecting ----

local lists = setmetatable({}, { __mode = "k" }) -- of collectors, which servants hold
local Collector = {}

local function collect(collector, cmd, ...)
  local list = lists[collector]
  if not list then error("that collects no commands: p:set(...)", 2) end
  list[#list + 1] = { cmd, ... }
  return #list
end

--- p:call(cmd, ...), p:set(...), p:get(...) -> which of the replies will be its own
function Collector.call(collector, cmd, ...) return collect(collector, cmd, ...) end

local collector_mark = {
  __index = function(_, word)
    if Collector[word] then return Collector[word] end
    return function(collector, ...) return collect(collector, word, ...) end
  end,
  __metatable = "redis commands",
}

local function new_collector()
  local collector = setmetatable({}, collector_mark)
  lists[collector] = {}
  return collector, lists[collector]
end

-- ---- looking at them ----

local takes = { string = true, number = true, cdata = true }

local function check_args(what, i, cmd)
  for j = 2, #cmd do
    if not takes[type(cmd[j])] then
      return bad("%s: [%d] argument %d of %s is no string or number", what, i, j - 1, cmd[1])
    end
  end
  return true
end

local function check_list(what, list)
  if #list > COMMANDS_MAX then return nil, core.err("LIMIT", ("%s: at most %d commands"):format(what, COMMANDS_MAX)) end
  for i = 1, #list do
    local cmd = list[i]
    if type(cmd) ~= "table" or type(cmd[1]) ~= "string" then
      return bad('%s: [%d] is no command, such as {"SET", "key", "value"}', what, i)
    end
    if not commands.row(cmd[1]) then return bad("%s: [%d] is no name of a command", what, i) end
    local ok, err = check_args(what, i, cmd)
    if not ok then return nil, err end
  end
  return true
end

-- -> server of one command | nil, err
local function place(own, what, i, cmd)
  local row = commands.row(cmd[1])
  local args, n = { unpack(cmd, 2, 9) }, #cmd - 1
  for j = 9, n do args[j] = cmd[j + 1] end
  if commands.block(row, args, n) then return bad("%s: [%d] %s would block what others wait for", what, i, row.name) end
  local at, err = route.place(own, row, args, n)
  if at then return at, row.flags end
  if err and err.code ~= "BAD_ARGS" then return nil, err end
  if err then return bad("%s: [%d] %s", what, i, err.message) end
  return bad('%s: [%d] %s is for several servers of pool "%s", and here each goes to one', what, i, row.name, own.name)
end

-- ---- pipelines ----

local function plan(own, list)
  local parts, by_server, flags = {}, {}, commands.READ
  for i = 1, #list do
    local at, more = place(own, "pipeline", i, list[i])
    if not at then return nil, more end
    if more ~= commands.READ then flags = 0 end
    local part = by_server[at]
    if not part then
      part = { at = at, cmds = {}, places = {} }
      by_server[at], parts[#parts + 1] = part, part
    end
    part.cmds[#part.cmds + 1] = list[i]
    part.places[#part.places + 1] = i
  end
  return parts, flags
end

local function gather(parts, n)
  local replies, n_answered, first = setmetatable({}, core.mark "array"), 0, nil
  for _, part in ipairs(parts) do
    if part.replies then n_answered = n_answered + #part.places end
    for i, at in ipairs(part.places) do replies[at] = part.err or part.replies[i] end
  end
  for i = 1, n do
    if not first and is_err(replies[i]) then first = replies[i] end
  end
  if n_answered == 0 and n > 0 then return nil, first end
  return replies, first
end

--- pipeline(own, list or function) -> replies, first err or nil | nil, err. Commands of one server are done in the
-- order of asking. A reply that is an error is its err, nil is fae.null.
function M.pipeline(own, what)
  local list = what
  if type(what) == "function" then
    local collector
    collector, list = new_collector()
    what(collector)
  end
  if type(list) ~= "table" then error("pool:pipeline takes a list of commands, or a function", 2) end
  local ok, err = check_list("pipeline", list)
  if not ok then return nil, err end
  local parts, flags = plan(own, list)
  if not parts then return nil, flags end
  if #parts == 0 then return setmetatable({}, core.mark "array") end
  ok, err = route.run(own, parts, flags)
  if not ok then return nil, err end
  return gather(parts, #list)
end

-- ---- a connection of one's own ----

local conns = setmetatable({}, { __mode = "k" })
local Alone = {}

-- What fn may not do with it, since whoever has it next would notice.
local function may_send(row, sub)
  if row.name == "WAIT" or row.name == "WAITAOF" then return true end
  local why = commands.refused(row, sub)
  if why then return bad("%s is not sent here: %s", row.name, why) end
  return true
end

-- state: of an object, which must not be found from it: it would keep what has it for a weak key.
local function call_on(state, cmd, ...)
  local row = type(cmd) == "string" and commands.row(cmd)
  if not row then return bad "that is no name of a command" end
  local ok, err = may_send(row, (...))
  if not ok then return nil, err end
  if not state.conn then return nil, core.err("CLOSED", "the connection was given back") end
  local reply
  reply, err = core.redis_conn_call(state.conn, nil, row.name, ...)
  if not is_sound(err) then state.broken = true end
  return reply, err
end

--- conn:call(cmd, ...) -> reply | nil, err
function Alone.call(alone, cmd, ...)
  local state = conns[alone]
  if not state then error("that is no connection: conn:call(...)", 2) end
  return call_on(state, cmd, ...)
end

local alone_mark = {
  __index = function(_, word)
    if Alone[word] then return Alone[word] end
    return function(alone, ...) return Alone.call(alone, word, ...) end
  end,
  __metatable = "redis connection",
}

local function keys_list(keys) return type(keys) == "table" and keys or { keys } end

--- alone(own, key or keys, fn) -> what fn(conn) returned | nil, err
function M.alone(own, keys, fn)
  if type(fn) ~= "function" then error("pool:alone takes a key and a function", 2) end
  local at, err = route.pick_all(own, keys_list(keys), "alone")
  if not at then return nil, err end
  local state = {}
  state.conn, err = core.redis_borrow(own.h, at)
  if not state.conn then return nil, err end
  local alone = setmetatable({}, alone_mark)
  conns[alone] = state
  local ok, value, failure = pcall(fn, alone)
  local conn = state.conn
  state.conn = nil
  core.redis_conn_give(conn, ok and not state.broken)
  if not ok then error(value, 0) end
  return value, failure
end

-- ---- transactions ----

local function check_options(options)
  for key in pairs(options or {}) do
    if key ~= "watch" then error(("pool:multi: the option is watch, not %s"):format(tostring(key)), 3) end
  end
  return options and options.watch ~= nil and keys_list(options.watch) or nil
end

-- What the function is given: it collects, and tx:read asks at once, which makes sense with watched keys.
local function new_tx(state)
  local collector, list = new_collector()
  state.list = list
  return setmetatable({}, {
    __metatable = "redis transaction",
    __index = function(_, word)
      if word == "read" then
        return function(_, cmd, ...)
          if not state.conn then error("tx:read is for a transaction that watches keys", 2) end
          return call_on(state, cmd, ...)
        end
      end
      local method = collector[word]
      return function(_, ...) return method(collector, ...) end
    end,
  })
end

local function watch(own, state, at, keys)
  local err, ok
  state.conn, err = core.redis_borrow(own.h, at)
  if not state.conn then return nil, err end
  ok, err = core.redis_conn_call(state.conn, nil, "WATCH", unpack(keys))
  if not ok then state.broken = not is_sound(err) end
  return ok, err
end

-- Gives the connection back; one that still watches stops doing so first.
local function finish(state, watching)
  local conn = state.conn
  if not conn then return end
  if watching and not state.broken then
    local ok, err = core.redis_conn_call(conn, nil, "UNWATCH")
    state.broken = not ok and not is_sound(err)
  end
  state.conn = nil
  core.redis_conn_give(conn, not state.broken)
end

local function first_err(replies, last)
  for i = 1, last do
    if is_err(replies[i]) then return replies[i] end
  end
end

local function exec(own, state)
  local cmds = { { "MULTI" } }
  for i, cmd in ipairs(state.list) do cmds[i + 1] = cmd end
  cmds[#cmds + 1] = { "EXEC" }
  local replies, err = core.redis_conn_batch(state.conn, cmds)
  if not replies then
    state.broken = not is_sound(err)
    return nil, err
  end
  local results = replies[#cmds]
  if is_err(results) then
    state.broken = not is_sound(results)
    -- All is sent together: who may not MULTI has had his commands done one by one.
    if is_err(replies[1]) then
      return nil, core.err("UNKNOWN", "it was no transaction, and may have been done in part: " .. replies[1].message)
    end
    return nil, first_err(replies, #cmds - 1) or results
  end
  if results == null or results == nil then
    err = core.err("CONFLICT", "somebody else changed what the transaction watched: nothing was done")
    err.retryable = true
    return nil, err
  end
  if type(results) ~= "table" then
    state.broken = true
    return route.wrong(own, "EXEC", results)
  end
  return results, first_err(results, #results)
end

-- What fn wants done is in state.list, and all of it belongs to one server.
local function check_tx(own, state, at)
  local ok, err = check_list("multi", state.list)
  if not ok then return nil, err end
  for i, cmd in ipairs(state.list) do
    local where, why = place(own, "multi", i, cmd)
    if not where then return nil, why end
    if where ~= at then
      return bad('multi: [%d] %s goes to another server of pool "%s": keys with the same {...} lie on one', i,
        commands.row(cmd[1]).name, own.name)
    end
  end
  return true
end

local function commit(own, state, at)
  local ok, err = check_tx(own, state, at)
  if not ok then return nil, err end
  if #state.list == 0 then return setmetatable({}, core.mark "array") end
  if not state.conn then
    state.conn, err = core.redis_borrow(own.h, at)
    if not state.conn then return nil, err end
  end
  state.executed = true
  return exec(own, state)
end

--- multi(own, key or keys, fn[, {watch = key or keys}]) -> replies, first err among them or nil | nil, err. fn(tx) says
-- what is to be done; it is sent when fn returned, as one transaction on a connection of its own. Nothing is done when
-- fn raises, returns false, or returns nil, err. CONFLICT: a watched key was changed meanwhile.
function M.multi(own, keys, fn, options)
  if type(fn) ~= "function" then error("pool:multi takes a key, or a list of keys, and a function", 2) end
  local watched = check_options(options)
  local all = { unpack(keys_list(keys)) }
  for _, key in ipairs(watched or {}) do all[#all + 1] = key end
  local at, err = route.pick_all(own, all, "multi")
  if not at then return nil, err end
  local state, ok = {}, true
  if watched then ok, err = watch(own, state, at, watched) end
  if not ok then
    finish(state, false)
    return nil, err
  end
  local fine, value, failure = pcall(fn, new_tx(state))
  local refused = not fine or value == false or (value == nil and failure ~= nil)
  local replies
  if not refused then replies, err = commit(own, state, at) end
  finish(state, watched and not state.executed)
  if not fine then error(value, 0) end
  if refused then return value, failure end
  return replies, err
end

return M
