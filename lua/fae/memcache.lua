-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.memcache: pools of memcached servers. C finds the server of a key and speaks to it (src/vm/bind_memcache.c);
-- here is what replicas are for. With replica_num servers a key, the first of them that answers decides a write, and
-- what it did is then sent to the others; a read goes to the next one on a miss, or when one fails.
local core = require "fae.core"
local ffi = require "fae.ffi"

local M = {}

local SET, ADD, REPLACE, APPEND, PREPEND, CAS, INCR, DECR, DELETE, TOUCH = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
local MONTH_S = 30 * 86400 -- beyond that memcached takes a number of seconds for a time since 1970
local TTL_MAX_S = 10 * 366 * 86400
local FLAGS_MAX = 2 ^ 32 - 1
local EXPIRES_MAX = 2 ^ 52
local TRIES = 3

local get, ask, send = core.memcache_get, core.memcache_ask, core.memcache_send
local handles = setmetatable({}, { __mode = "k" }) -- of pools, which servants hold
local opened = setmetatable({}, { __mode = "v" }) -- by name
local Pool = {}
local mark = { __index = Pool, __metatable = "memcache",
  __newindex = function() error("a pool cannot be changed: others have it too", 2) end }

-- What was not sent may be asked of another server whatever it is, but for a cas, whose number is the first server's;
-- what may be done twice, also when it may have been done; a read, also when it failed.
local not_sent = { UNAVAILABLE = true, CIRCUIT_OPEN = true, POOL_BUSY = true }
local may_read_on = { UNAVAILABLE = true, CIRCUIT_OPEN = true, POOL_BUSY = true, TIMEOUT = true, BACKEND = true }
local may_repeat = { [SET] = true, [DELETE] = true, [TOUCH] = true }
-- What the other replicas are told when the first has answered. A condition was met by one, and is not asked again.
local told = { [SET] = SET, [ADD] = SET, [REPLACE] = SET, [CAS] = SET, [APPEND] = APPEND, [PREPEND] = PREPEND,
  [INCR] = INCR, [DECR] = DECR, [DELETE] = DELETE, [TOUCH] = TOUCH }
local told_anyway = { [DELETE] = true, [TOUCH] = true }

local function bad(text) return nil, core.err("BAD_ARGS", text) end

local function of(pool)
  return handles[pool] or error("that is no memcache pool", 3)
end

local function check_key(key)
  if type(key) ~= "string" then error("a key is a string, not a " .. type(key), 3) end
end

local function check_value(value)
  if type(value) ~= "string" then error("a value is a string, not a " .. type(value), 3) end
end

local function is_integer(n, min, max) return type(n) == "number" and n >= min and n <= max and n % 1 == 0 end

-- Seconds from now on, as memcached wants them; or nil, err.
local function expires_of(ttl)
  if ttl == nil then return 0 end
  if not is_integer(ttl, 0, TTL_MAX_S) then
    return bad(("ttl is seconds, 0 for ever, to %d, not %s"):format(TTL_MAX_S, tostring(ttl)))
  end
  if ttl > MONTH_S then return math.floor(core.wall_ms() / 1000) + ttl end
  return ttl
end

local known = { ttl = true, flags = true, expires = true }

-- flags, expires of a write's options; or nil, err.
local function options_of(options)
  if options == nil then return 0, 0 end
  if type(options) ~= "table" then error("the options are a table, not a " .. type(options), 3) end
  for key in pairs(options) do
    if not known[key] then return bad(("no option %s: there are ttl, flags and expires"):format(tostring(key))) end
  end
  local flags = options.flags or 0
  if not is_integer(flags, 0, FLAGS_MAX) then return bad "flags are an integer of 0 to 2^32 - 1" end
  if options.expires ~= nil then
    if not is_integer(options.expires, -EXPIRES_MAX, EXPIRES_MAX) then return bad "expires is an integer" end
    return flags, options.expires
  end
  local expires, err = expires_of(options.ttl)
  if not expires then return nil, err end
  return flags, expires
end

-- The others are told; none of them is waited for.
local function tell_others(handle, but, n, op, answer, key, value, flags, expires, number)
  if not answer and not told_anyway[op] then return end
  for i = 0, n - 1 do
    if i ~= but then send(handle, i, told[op], key, value, flags, expires, number) end
  end
end

local function write(handle, op, key, value, flags, expires, number)
  local answer, err = ask(handle, 0, op, key, value, flags, expires, number)
  local n = core.memcache_replicas(handle)
  if n == 1 or n == nil then return answer, err end
  local at, first_err = 0, err
  while err and at + 1 < n and op ~= CAS and (not_sent[err.code] or (may_repeat[op] and err.code == "UNKNOWN")) do
    at = at + 1
    answer, err = ask(handle, at, op, key, value, flags, expires, number)
    n = core.memcache_replicas(handle) or 1
  end
  if err then return nil, first_err end
  tell_others(handle, at, n, op, answer, key, value, flags, expires, number)
  return answer
end

-- The others of a key's servers, when the first had nothing or failed.
local function get_next(handle, key, err)
  if err and not may_read_on[err.code] then return nil, err end
  local missed, i = err == nil, 1
  while i < (core.memcache_replicas(handle) or 1) do -- a reload may leave fewer of them than there were
    local value, flags = get(handle, i, key)
    if value then return value, flags end
    if flags == nil then missed = true end
    i = i + 1
  end
  if missed then return nil end
  return nil, err
end

--- pool:get(key) -> value, flags, cas | nil: there is none | nil, err. cas is for pool:cas; nil when a replica
-- answered.
function Pool.get(pool, key)
  local handle = handles[pool]
  if not handle then of(pool) end
  if type(key) ~= "string" then check_key(key) end
  local value, flags, cas = get(handle, 0, key)
  if value then return value, flags, cas end
  return get_next(handle, key, flags)
end

local function merge(into, from)
  for key, value in pairs(from) do into[key] = value end
end

local function not_in(values, keys)
  local left = {}
  for i = 1, #keys do
    if values[keys[i]] == nil then left[#left + 1] = keys[i] end
  end
  return left
end

--- pool:get_many { key, ... } -> {key = value}, {key = flags}[, err] of those that are there | nil, err. Side by side
-- from all servers; err when one of them failed, whose keys are left out. LIMIT: more than message_max bytes, or 10000
-- keys.
function Pool.get_many(pool, keys)
  local handle = of(pool)
  if type(keys) ~= "table" then error("get_many takes a list of keys", 2) end
  local values, flags, err = core.memcache_get_many(handle, 0, keys)
  local n = core.memcache_replicas(handle) or 1
  if n == 1 then return values, flags, err end
  if not values then
    if not may_read_on[flags.code] then return nil, flags end
    values, flags, err = {}, {}, flags
  end
  local answered, i = err == nil, 1
  while i < (core.memcache_replicas(handle) or 1) do
    local left = not_in(values, keys)
    if #left == 0 then return values, flags end
    local more, more_flags, more_err = core.memcache_get_many(handle, i, left)
    if more then
      merge(values, more)
      merge(flags, more_flags)
      answered, err = true, more_err
    end
    i = i + 1
  end
  if not answered and next(values) == nil then return nil, err end
  return values, flags, err
end

local function store(op, name)
  --- pool:set, add, replace, append, prepend(key, value[, {ttl, flags, expires}]) -> was it stored? | nil, err. ttl:
  -- seconds, none or 0 for ever; append and prepend keep what there is of both.
  Pool[name] = function(pool, key, value, options)
    local handle = of(pool)
    check_key(key)
    check_value(value)
    local flags, expires = options_of(options)
    if not flags then return nil, expires end
    return write(handle, op, key, value, flags, expires)
  end
end

store(SET, "set")
store(ADD, "add")
store(REPLACE, "replace")
store(APPEND, "append")
store(PREPEND, "prepend")

--- pool:cas(key, value, cas[, options]) -> was it stored: only if nobody wrote since the get that gave cas | nil, err.
-- Decided by the key's first server alone, whose number cas is.
function Pool.cas(pool, key, value, cas, options)
  local handle = of(pool)
  check_key(key)
  check_value(value)
  local flags, expires = options_of(options)
  if not flags then return nil, expires end
  return write(handle, CAS, key, value, flags, expires, cas)
end

-- Both stand at the same place of a key that has no number yet, which the first of them makes.
local function count(handle, op, key, by, options)
  if options == nil then return write(handle, op, key, nil, 0, 0, by) end
  if type(options) ~= "table" then error("the options are a table, not a " .. type(options), 3) end
  for name in pairs(options) do
    if name ~= "initial" and name ~= "ttl" then
      return bad(("no option %s: there are initial and ttl"):format(tostring(name)))
    end
  end
  local initial = options.initial
  if initial ~= nil and not is_integer(initial, 0, 2 ^ 53) and not ffi.istype("uint64_t", initial) and
    not (ffi.istype("int64_t", initial) and initial >= 0) then
    return bad "initial is an integer of 0 to 2^64 - 1"
  end
  local expires, wrong = expires_of(options.ttl)
  if not expires then return nil, wrong end
  for _ = 1, TRIES do
    local number, err = write(handle, op, key, nil, 0, 0, by)
    if number or err or initial == nil then return number, err end
    local text = type(initial) == "number" and ("%.0f"):format(initial) or tostring(initial):match "%d+"
    local stored, why = write(handle, ADD, key, text, 0, expires)
    if stored then return initial end
    if why then return nil, why end
  end
  return nil, core.err("UNAVAILABLE", "the number came and went while it was counted")
end

--- pool:incr(key[, by[, {initial, ttl}]]) -> the new number | nil: there is none | nil, err. by: 1, or 0 to 2^64 - 1;
-- it begins again at 2^64. With initial what is not there is made: initial, for ttl seconds. BACKEND: what is there is
-- no number.
function Pool.incr(pool, key, by, options)
  local handle = of(pool)
  check_key(key)
  return count(handle, INCR, key, by == nil and 1 or by, options)
end

--- pool:decr(key[, by[, {initial, ttl}]]) -> as incr; it stops at 0
function Pool.decr(pool, key, by, options)
  local handle = of(pool)
  check_key(key)
  return count(handle, DECR, key, by == nil and 1 or by, options)
end

--- pool:delete(key) -> was it there? | nil, err
function Pool.delete(pool, key)
  local handle = of(pool)
  check_key(key)
  return write(handle, DELETE, key, nil, 0, 0)
end

--- pool:touch(key, ttl) -> was it there? It has so many seconds from now on, 0 for ever | nil, err
function Pool.touch(pool, key, ttl)
  local handle = of(pool)
  check_key(key)
  local expires, err = expires_of(ttl)
  if not expires then return nil, err end
  return write(handle, TOUCH, key, nil, 0, expires)
end

--- pool:servers(key) -> the names of the servers that have the key, as "tcp://10.0.0.1:11211", first the one that is
-- asked first | nil, err
function Pool.servers(pool, key)
  local handle = of(pool)
  check_key(key)
  return core.memcache_servers(handle, key)
end

--- fae.memcache(name) -> pool, of the configuration's `memcache "name" { ... }`. It never fails: calls of a pool that
-- is not there are UNKNOWN_POOL, and those of one that comes with a reload work from then on.
function M.new(name)
  if type(name) ~= "string" then error("fae.memcache takes the name of a pool", 2) end
  local pool = opened[name]
  if pool then return pool end
  pool = setmetatable({}, mark)
  handles[pool] = core.memcache_open(name)
  opened[name] = pool
  return pool
end

return M
