-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.redis: commands to the servers of a pool. C has the connections (src/backend/redis.h); here is which server a
-- command goes to, and what is made of several answers. What becomes of a command that fails is in its code:
-- UNAVAILABLE, CIRCUIT_OPEN and POOL_BUSY: it was not sent; TIMEOUT: it only read, and got no answer; UNKNOWN: it may
-- have been done; BACKEND: the server refused it, and err.detail.error is the first word of why.
local core = require "fae.core"
local commands = require "fae.redis_commands"
local route = require "fae.redis_route"
local pipe = require "fae.redis_pipe"

local M = {}

local DAY_MS = 86400000
local BLOCK_SPARE_MS = 5000 -- a blocking command has this long for its way, after the time it asked for
-- It ends this long before its call does, so that what it took is not lost: redis looks each 100 ms who waited enough.
local DEADLINE_SPARE_MS = 150
local bad = route.bad
local rows, redis_call = commands.known, core.redis_call

-- ---- commands ----

-- Cuts the time to what the call has left. -> milliseconds that the connection waits for it
local function cut_block(args, place, unit)
  local value = tonumber(args[place])
  if not value or value ~= value or value < 0 then return nil end -- the server says what is wrong with it
  local ms, left = value * unit, core.call:time_left()
  local most = left and math.max(left - math.min(DEADLINE_SPARE_MS, left / 2), 1)
  if most and (ms == 0 or ms > most) then
    ms = math.floor(most)
    args[place] = unit == 1 and ("%.0f"):format(ms) or ("%.3f"):format(ms / unit)
  end
  return ms == 0 and DAY_MS or math.min(ms + BLOCK_SPARE_MS, DAY_MS)
end

local function call_blocking(own, at, row, args, n, place, unit)
  local within_ms = cut_block(args, place, unit)
  local conn, err = core.redis_borrow(own.h, at)
  if not conn then return nil, err end
  local reply
  reply, err = core.redis_conn_call(conn, within_ms, row.name, unpack(args, 1, n))
  core.redis_conn_give(conn, route.is_sound(err))
  return reply, err
end

-- All but those with one key.
local function call_any(own, row, ...)
  local args, n = { ... }, select("#", ...)
  local at, err = route.place(own, row, args, n)
  if not at then
    if err then return nil, err end
    if row.split then return route.split(own, row, args, n) end
    return route.all(own, row, args, n)
  end
  local place, unit = commands.block(row, args, n)
  if place then return call_blocking(own, at, row, args, n, place, unit) end
  return redis_call(own.h, at, row.flags, row.name, ...)
end

-- C picks the server of the first argument where none is given: half the way of most calls is in this function.
local function call_row(own, row, ...)
  if not row.single or own.at then return call_any(own, row, ...) end
  return redis_call(own.h, nil, row.flags, row.name, ...)
end

local function row_of(cmd)
  local row = rows[cmd]
  if row then return row end
  if type(cmd) ~= "string" then
    return bad("a command is a string, not %s", cmd == nil and "nil" or "a " .. type(cmd))
  end
  row = commands.row(cmd)
  if not row then return bad("that is no name of a command: %s", ("%q"):format(cmd:sub(1, 40))) end
  return row
end

-- pool:call, for those who have looked up the pool
local function command(own, cmd, ...)
  local row = rows[cmd]
  if not row then
    local err
    row, err = row_of(cmd)
    if not row then return nil, err end
  end
  return call_row(own, row, ...)
end

-- ---- pools ----

local owns = setmetatable({}, { __mode = "k" }) -- what fae.redis knows of an object, which servants hold
local pools = setmetatable({}, { __mode = "v" }) -- by name: names may come from clients
local Pool = {}

local function own_of(pool, what)
  local own = owns[pool]
  if not own then error(("that is no pool: pool:%s(...)"):format(what), 3) end
  return own
end

local function method_of(row, word)
  local single, flags, name = row.single, row.flags, row.name
  return function(pool, ...)
    local own = owns[pool]
    if single and own and not own.at then return redis_call(own.h, nil, flags, name, ...) end
    if not own then error(("that is no pool: pool:%s(...)"):format(word), 2) end
    return call_row(own, row, ...)
  end
end

-- A command becomes a method when it is first used as one; those that are not known are made each time.
local methods = setmetatable({}, { __index = function(made, word)
  if type(word) ~= "string" then return nil end
  local row = commands.row(word)
  if not row then return nil end
  local method = method_of(row, word)
  if not row.unknown then made[word] = method end
  return method
end })

local mark = {
  __index = methods, __metatable = "redis pool",
  __newindex = function() error("a redis pool takes no fields", 2) end,
  __tostring = function(pool) return "redis " .. owns[pool].name end,
}

local function object(own)
  local pool = setmetatable({}, mark)
  owns[pool] = own
  return pool
end

local function open(name)
  local word, number = name:match "^(.*)#([1-9]%d?%d?)$"
  if word then return object { name = word, h = core.redis_open(word), at = number - 1 } end
  return object { name = name, h = core.redis_open(name) }
end

--- fae.redis(name) -> pool. The same object for the same name; "main#2" is fae.redis("main"):server(2). Never fails:
-- whether there is such a pool shows when it is called, since a reload may bring or take it.
function M.pool(name)
  if type(name) ~= "string" then error('fae.redis takes a pool\'s name, as in fae.redis "main"', 2) end
  local pool = pools[name]
  if not pool then
    pool = open(name)
    pools[name] = pool
  end
  return pool
end

local named = {} -- own by name, of pools that there are: names come from clients

--- own(name) -> what the functions beside this one take | nil, err
function M.own(name)
  local own = named[name]
  if own then return own end
  own = owns[M.pool(name)]
  local there, err = core.redis_servers(own.h)
  if there and own.at then there, err = route.bound(own) end
  if not there then return nil, err end
  named[name] = own
  return own
end

--- row_for_clients(cmd) -> its row | nil, err. FORBIDDEN: it is for servants alone.
function M.row_for_clients(cmd)
  local row, err = row_of(cmd)
  if not row then return nil, err end
  if row.operator then
    return nil, core.err("FORBIDDEN", row.name .. " is not for clients: it could tell the password or change it")
  end
  return row
end

--- call(call, name, cmd, ...) -> reply | nil, err: pool:call by the pool's name, as method rd.call. In one piece, since
-- each call of another function with ... costs some 30 ns.
function M.call(_, name, cmd, ...)
  local own, row = named[name], rows[cmd]
  if own and row and row.single and not own.at then return redis_call(own.h, nil, row.flags, row.name, ...) end
  local err
  own, err = M.own(name)
  if not own then return nil, err end
  row, err = M.row_for_clients(cmd)
  if not row then return nil, err end
  return call_row(own, row, ...)
end

--- pool:call(cmd, ...) -> reply | nil, err. Any command, in any letters; waits.
function Pool.call(pool, cmd, ...) return command(own_of(pool, "call"), cmd, ...) end

--- pool:servers() -> number of servers, their names | nil, err
function Pool.servers(pool)
  local own = own_of(pool, "servers")
  local n, err = core.redis_servers(own.h)
  if not n then return nil, err end
  local names = {}
  for i = 1, n do names[i] = core.redis_server_name(own.h, i - 1) end
  return n, names
end

--- pool:server(i) -> the same pool, but every command goes to its i-th server, from 1
function Pool.server(pool, i)
  local own = own_of(pool, "server")
  if type(i) ~= "number" or i < 1 or i % 1 ~= 0 then error("pool:server takes a number, from 1", 2) end
  return object { name = own.name, h = own.h, at = i - 1 }
end

-- One list is a list of keys.
local function list_of(...)
  local first = ...
  if type(first) ~= "table" or select("#", ...) ~= 1 then return nil end
  local args = {}
  for i = 1, #first do args[i] = first[i] end
  return args
end

local function pairs_of(...)
  local first = ...
  if type(first) ~= "table" or select("#", ...) ~= 1 then return nil end
  local args = {}
  for key, value in pairs(first) do args[#args + 1], args[#args + 2] = key, value end
  return args
end

local function call_list(own, row, args)
  local n = #args
  if n == 0 then return bad("%s takes a key", row.name) end
  local at, err = route.place(own, row, args, n)
  if at then
    local cmd = { row.name }
    for i = 1, n do cmd[i + 1] = args[i] end
    return route.batch(own, at, row.flags, cmd)
  end
  if err then return nil, err end
  return route.split(own, row, args, n)
end

--- pool:mget(key, ...) or pool:mget { key, ... } -> list of values, fae.null for what is not there | nil, err;
-- pool:exists, touch, del, unlink -> number;  pool:mset(key, value, ...) or pool:mset { key = value } -> "OK"
-- The keys of one call may lie on any servers, which are asked side by side.
local of_many = {
  mget = list_of, exists = list_of, touch = list_of, del = list_of, unlink = list_of, mset = pairs_of,
}
for word, list in pairs(of_many) do
  local row = rows[word]
  Pool[word] = function(pool, ...)
    local own = own_of(pool, word)
    local args = list(...)
    if args then return call_list(own, row, args) end
    return call_any(own, row, ...)
  end
end

--- pool:hgetall(key) -> {field = value}, empty when there is none | nil, err. pool:call("HGETALL", key) gives the list.
function Pool.hgetall(pool, key)
  local own = own_of(pool, "hgetall")
  local flat, err = call_row(own, rows.hgetall, key)
  if not flat then return nil, err end
  if type(flat) ~= "table" then return route.wrong(own, "HGETALL", flat) end
  local map = setmetatable({}, core.mark "map")
  for i = 1, #flat, 2 do map[flat[i]] = flat[i + 1] end
  return map
end

--- pool:pipeline { {cmd, ...}, ... } or pool:pipeline(function(p) p:set("a", 1) p:get "a" end) -> list of replies,
-- first err among them or nil | nil, err when nothing was answered. See lua/fae/redis_pipe.lua.
function Pool.pipeline(pool, what) return pipe.pipeline(own_of(pool, "pipeline"), what) end

--- pool:multi(keys, function(tx) tx:set("a", 1) tx:incr "b" end[, {watch = keys}]) -> list of replies | nil, err
function Pool.multi(pool, keys, fn, options) return pipe.multi(own_of(pool, "multi"), keys, fn, options) end

--- pool:alone(key, function(conn) ... end) -> what fn returned | nil, err. A connection for this task only, to the
-- server of the key; conn:call(cmd, ...) or conn:wait(1, 100).
function Pool.alone(pool, key, fn) return pipe.alone(own_of(pool, "alone"), key, fn) end

--- pool:script(source[, {read_only = true}]) -> script;  script:eval(keys, args) -> reply | nil, err
function Pool.script(pool, source, options)
  return require("fae.redis_script").new(own_of(pool, "script"), source, options)
end

--- pool:subscribe(channels, fn[, options]), pool:psubscribe(patterns, fn[, options]) -> subscription. fn(message,
-- channel[, pattern]) for each message. See lua/fae/redis_channel.lua.
function Pool.subscribe(pool, channels, fn, options)
  return require("fae.redis_channel").new(own_of(pool, "subscribe"), "SUBSCRIBE", channels, fn, options)
end
function Pool.psubscribe(pool, patterns, fn, options)
  return require("fae.redis_channel").new(own_of(pool, "psubscribe"), "PSUBSCRIBE", patterns, fn, options)
end

for word, method in pairs(Pool) do methods[word] = method end

return M
