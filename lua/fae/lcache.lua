-- SPDX-License-Identifier: BSD-2-Clause
--
-- The caches of a node, in memory that all its workers share: "cache", which is fae.cache, and "query_cache", which is
-- lua/fae/querycache.lua's. Keys are strings of 1 to 1024 bytes and values strings of up to 1 MiB, any bytes in both.
-- What one holds may be gone at any time: pushed out by others, or with a process that was killed while it wrote; a
-- restart of the node empties it. A get or set of 100 bytes takes 20 to 50 ns (measured).
local core = require "fae.core"
local ffi = require "fae.ffi"

local KEY_MAX, VALUE_MAX, MANY_MAX = 1024, 1048576, 67108864
local TTL_MAX_MS = 10 * 366 * 86400000
local EXACT = 2 ^ 53
local BUSY, YES, BAD = -1, 1, 2
local SCRATCH = 65536

local C = ffi.C
local scratch = ffi.new("uint8_t[?]", SCRATCH)
local version = ffi.new "double[1]"
local number = ffi.new "int64_t[1]"
local int64 = ffi.typeof "int64_t"
local uint64 = ffi.typeof "uint64_t"

local function bad(text) return nil, core.err("BAD_ARGS", text) end

local function bad_value(value)
  if type(value) ~= "string" then error("a value is a string, not a " .. type(value), 2) end
  return nil, core.err("LIMIT", ("a value has at most %d bytes, not %d"):format(VALUE_MAX, #value))
end

local function is_value(value) return type(value) == "string" and #value <= VALUE_MAX end

-- 0 for ever; or nil, err.
local function checked_ttl(ms)
  if ms == nil then return 0 end
  if type(ms) ~= "number" or not (ms >= 0 and ms <= TTL_MAX_MS and ms % 1 == 0) then
    return bad(("ttl_ms is 0, for ever, to %.0f, not %s"):format(TTL_MAX_MS, tostring(ms)))
  end
  return ms
end

local function ttl_of(options, also)
  if type(options) ~= "table" then error("the options are a table, not a " .. type(options), 3) end
  for key in pairs(options) do
    if key ~= "ttl_ms" and key ~= also then
      return bad(("no option %s: there %s ttl_ms%s"):format(tostring(key), also and "are" or "is",
        also and " and " .. also or ""))
    end
  end
  return checked_ttl(options.ttl_ms)
end

local function answer(code)
  if code == BUSY then return nil, core.err("UNAVAILABLE", "a process that is stopped holds this part of the cache") end
  return code == YES
end

-- A value longer than the scratch buffer; it may change meanwhile.
local function get_long(user, key, len)
  while true do
    local buf, cap = ffi.new("uint8_t[?]", len), len
    len = C.fae_lcache_get(user, key, #key, buf, cap, version)
    if len < 0 then return nil end
    if len <= cap then return ffi.string(buf, len), version[0] end
  end
end

local function is_int64(n)
  if type(n) == "number" then return n % 1 == 0 and n >= -EXACT and n <= EXACT end
  return ffi.istype(int64, n) or (ffi.istype(uint64, n) and n <= 0x7fffffffffffffffULL)
end

-- As numbers come from clients: one of Lua's where that is exact.
local function shown(n)
  if n >= -0x20000000000000LL and n <= 0x20000000000000LL then return tonumber(n) end
  return n
end

local L = {}

--- open(name) -> cache, the functions of fae.cache over that one. Where it is not there they answer UNAVAILABLE.
function L.open(name)
  local handle = core.cache(name)
  local user = handle and ffi.cast("struct fae_lcache_user *", handle)
  local M = {}

  -- What is wrong with a key, as nil, err.
  local function bad_key(key)
    if type(key) ~= "string" then error("a key is a string, not a " .. type(key), 2) end -- it is called last
    if not user then return nil, core.err("UNAVAILABLE", "there is no cache here") end
    if key == "" then return bad "the key is empty" end
    return nil, core.err("LIMIT", ("a key has at most %d bytes, not %d"):format(KEY_MAX, #key))
  end

  local function is_key(key) return user and type(key) == "string" and key ~= "" and #key <= KEY_MAX end

  --- cache.get(key) -> value, version | nil | nil, err. The version is a number that each write changes, for cas.
  function M.get(key)
    if not is_key(key) then return bad_key(key) end
    local len = C.fae_lcache_get(user, key, #key, scratch, SCRATCH, version)
    if len < 0 then return nil end
    if len > SCRATCH then return get_long(user, key, len) end
    return ffi.string(scratch, len), version[0]
  end

  --- cache.get_many { key, ... } -> {key = value}, of those that are there | nil, err. LIMIT: more than 64 MiB
  function M.get_many(keys)
    if type(keys) ~= "table" then error("fae.cache.get_many takes a list of keys", 2) end
    local found, bytes = {}, 0
    for i = 1, #keys do
      if type(keys[i]) ~= "string" then error(("key %d is a %s, not a string"):format(i, type(keys[i])), 2) end
      local value, err = M.get(keys[i])
      if value then bytes = bytes + #value elseif err then return nil, err end
      if bytes > MANY_MAX then
        return nil, core.err("LIMIT", ("the values of these keys are more than %d bytes"):format(MANY_MAX))
      end
      found[keys[i]] = value
    end
    return found
  end

  --- cache.set(key, value[, {ttl_ms}]) -> true | nil, err. ttl_ms: how long it is there at most, to a tick of the
  -- kernel (1 to 10 ms); 0 or none: for ever.
  function M.set(key, value, options)
    local ttl_ms, err = 0, nil
    if not is_key(key) then return bad_key(key) end
    if not is_value(value) then return bad_value(value) end
    if options ~= nil then ttl_ms, err = ttl_of(options) end
    if not ttl_ms then return nil, err end
    return answer(C.fae_lcache_set(user, key, #key, value, #value, ttl_ms))
  end

  --- cache.add(key, value[, {ttl_ms}]) -> was it stored: only if nothing is there | nil, err
  function M.add(key, value, options)
    local ttl_ms, err = 0, nil
    if not is_key(key) then return bad_key(key) end
    if not is_value(value) then return bad_value(value) end
    if options ~= nil then ttl_ms, err = ttl_of(options) end
    if not ttl_ms then return nil, err end
    return answer(C.fae_lcache_add(user, key, #key, value, #value, ttl_ms))
  end

  --- cache.replace(key, value[, {ttl_ms}]) -> was it stored: only if something is there | nil, err
  function M.replace(key, value, options)
    local ttl_ms, err = 0, nil
    if not is_key(key) then return bad_key(key) end
    if not is_value(value) then return bad_value(value) end
    if options ~= nil then ttl_ms, err = ttl_of(options) end
    if not ttl_ms then return nil, err end
    return answer(C.fae_lcache_replace(user, key, #key, value, #value, ttl_ms))
  end

  --- cache.cas(key, value, version[, {ttl_ms}]) -> was it stored: only if what is there still has that version of
  -- get | nil, err
  function M.cas(key, value, seen, options)
    local ttl_ms, err = 0, nil
    if not is_key(key) then return bad_key(key) end
    if not is_value(value) then return bad_value(value) end
    if type(seen) ~= "number" then return bad "a version is a number, as get gave it" end
    if options ~= nil then ttl_ms, err = ttl_of(options) end
    if not ttl_ms then return nil, err end
    return answer(C.fae_lcache_cas(user, key, #key, value, #value, ttl_ms, seen))
  end

  --- cache.incr(key[, by[, {init, ttl_ms}]]) -> the new number | nil: nothing is there | nil, err. Adds 1, or an
  -- integer that may be negative, to a value that is the text of one: BAD_ARGS when it is not, LIMIT beyond an int64;
  -- then it stays as it was. With init what is not there is made: init, for ttl_ms. What is there keeps its time to
  -- live.
  function M.incr(key, by, options)
    local ttl_ms, init = 0, nil
    if not is_key(key) then return bad_key(key) end
    by = by == nil and 1 or by
    if not is_int64(by) then return bad "what is added is an integer" end
    if options ~= nil then
      local ms, err = ttl_of(options, "init")
      if not ms then return nil, err end
      ttl_ms, init = ms, options.init
      if init ~= nil and not is_int64(init) then return bad "init is an integer" end
    end
    number[0] = init or 0
    local code = C.fae_lcache_incr(user, key, #key, by, ttl_ms, init ~= nil, number)
    if code == YES then return shown(number[0]) end
    if code == 0 then return nil end
    if code == BUSY then return answer(code) end
    if code == BAD then return bad "what is there is no integer" end
    return nil, core.err("LIMIT", "the sum is beyond 64 bits")
  end

  --- cache.del(key) -> was it there | nil, err
  function M.del(key)
    if not is_key(key) then return bad_key(key) end
    return answer(C.fae_lcache_del(user, key, #key))
  end

  --- cache.touch(key[, ttl_ms]) -> is it there: then it has so much time from now on | nil, err
  function M.touch(key, ttl_ms)
    if not is_key(key) then return bad_key(key) end
    local ms, err = checked_ttl(ttl_ms)
    if not ms then return nil, err end
    return answer(C.fae_lcache_touch(user, key, #key, ms))
  end

  --- cache.flush() -> true: it is empty | nil, err. Takes 1 ms for each 32 MiB that were in use, no longer.
  function M.flush()
    if not user then return bad_key "-" end
    return answer(C.fae_lcache_flush(user))
  end

  --- cache.stats() -> {size_bytes, bytes, items, hits, misses, sets, deletes, evictions, expired, second_chances,
  -- resets, busy} of the node | nil, err
  function M.stats()
    if not user then return bad_key "-" end
    local stats = {}
    for key, value in pairs(core.cache_stats(name)) do stats[key:sub(#name + 2):gsub("_total$", "")] = value end
    return stats
  end

  return M
end

return L
