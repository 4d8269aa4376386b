-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a kv store is, whatever it lies on. Arguments are checked here, once for every backend. A backend is a table of
-- functions that are given what was checked, may wait, and return `nil, err` for what the world does:
--
--   get(key) -> value, version | nil              set(key, value, ttl_ms or nil) -> true
--   get_many(keys) -> {key = value}               add(key, value, ttl_ms or nil) -> stored?
--   del(key) -> was it there?                     cas(key, value, version, ttl_ms or nil) -> stored?  0: if absent
--   count() -> number of records                  incr(key, by, ttl_ms or nil) -> number  nil: keeps the time it has
--   scan(prefix, from or nil, limit) -> {{key, value}, ...}, next from | nil    in the order of keys, of one bucket
--   scan_all(cursor or nil, limit) -> {{key, value}, ...}, cursor | nil         everything, in any order
--
-- An expired record is not there. A version is a number that is never given twice to a key. spec/lua/kv_suite.lua is
-- what every backend must pass; lua/fae/kv_local.lua is the one that lies in the node.
local core = require "fae.core"
local ffi = require "fae.ffi"
local null = require("fae.types").null

local M = {}

local KEY_MAX, VALUE_MAX, SCAN_MAX = core.kv_limits()
local SCAN_DEFAULT = 100
local KEYS_MAX = 10000
local TTL_MAX_MS = 100 * 366 * 86400000
local VERSION_MAX = 2 ^ 53
local options_known = { ttl_ms = true }

local function bad(...) return nil, core.err("BAD_ARGS", (...):format(select(2, ...))) end

local function check_key(key, what)
  if type(key) ~= "string" then error(("%s takes a key, a string, not a %s"):format(what, type(key)), 3) end
  if key == "" then return bad "a key is not empty" end
  if #key > KEY_MAX then
    return nil, core.err("LIMIT", ("a key has at most %d bytes, not %d"):format(KEY_MAX, #key))
  end
  return true
end

local function check_value(value, what)
  if type(value) ~= "string" then error(("%s takes a value, a string, not a %s"):format(what, type(value)), 3) end
  if #value > VALUE_MAX then
    return nil, core.err("LIMIT", ("a value has at most %d bytes, not %d"):format(VALUE_MAX, #value))
  end
  return true
end

local function is_int(n, min, max) return type(n) == "number" and n >= min and n <= max and n % 1 == 0 end

-- Of an int64 or uint64; nil: it does not fit.
local function int64_of(n)
  if ffi.istype("int64_t", n) then return n end
  return ffi.istype("uint64_t", n) and n <= 0x7fffffffffffffffULL and ffi.cast("int64_t", n) or nil
end

-- true, ttl_ms or nil
local function check_options(options)
  if options == nil or options == null then return true end
  if type(options) ~= "table" then return bad("options are a map, not a %s", type(options)) end
  for key in pairs(options) do
    if not options_known[key] then return bad("there is no option %s; there is ttl_ms", tostring(key)) end
  end
  local ttl_ms = options.ttl_ms
  if ttl_ms == nil or ttl_ms == null then return true end
  if not is_int(ttl_ms, 1, TTL_MAX_MS) then return bad("ttl_ms is an integer, 1 to %.0f", TTL_MAX_MS) end
  return true, ttl_ms
end

local function check_limit(limit)
  if limit == nil then return SCAN_DEFAULT end
  if not is_int(limit, 1, SCAN_MAX) then return bad("limit is an integer, 1 to %d", SCAN_MAX) end
  return limit
end

local function check_keys(keys)
  if type(keys) ~= "table" then error("kv.get_many takes a list of keys", 3) end
  if #keys > KEYS_MAX then return nil, core.err("LIMIT", ("at most %d keys at a time"):format(KEYS_MAX)) end
  for i = 1, #keys do
    if type(keys[i]) ~= "string" then return bad("key %d of the list is no string", i) end
    local ok, err = check_key(keys[i], "kv.get_many")
    if not ok then return nil, err end
  end
  return true
end

--- over(backend) -> the functions of fae.kv
function M.over(backend)
  local kv = {}

  --- kv.get(key) -> value, version | nil when there is none | nil, err
  function kv.get(key)
    local ok, err = check_key(key, "kv.get")
    if not ok then return nil, err end
    return backend.get(key)
  end

  --- kv.get_many { key, ... } -> {key = value}, without those that are not there | nil, err. LIMIT: they have more than
  -- message_max bytes
  function kv.get_many(keys)
    local ok, err = check_keys(keys)
    if not ok then return nil, err end
    return backend.get_many(keys)
  end

  --- kv.set(key, value[, {ttl_ms = n}]) -> true | nil, err. Waits.
  function kv.set(key, value, options)
    local ok, err = check_key(key, "kv.set")
    if ok then ok, err = check_value(value, "kv.set") end
    local ttl_ms
    if ok and options ~= nil then
      ok, err = check_options(options)
      ttl_ms = err
    end
    if not ok then return nil, err end
    return backend.set(key, value, ttl_ms)
  end

  --- kv.add(key, value[, {ttl_ms = n}]) -> stored? | nil, err. Only where there is none. Waits.
  function kv.add(key, value, options)
    local ok, err = check_key(key, "kv.add")
    if ok then ok, err = check_value(value, "kv.add") end
    local ttl_ms
    if ok then
      ok, err = check_options(options)
      ttl_ms = err
    end
    if not ok then return nil, err end
    return backend.add(key, value, ttl_ms)
  end

  --- kv.cas(key, value, version[, {ttl_ms = n}]) -> stored? | nil, err. Only where the version is the one that kv.get
  -- gave; nil or 0: where there is none. Waits.
  function kv.cas(key, value, version, options)
    local ok, err = check_key(key, "kv.cas")
    if ok then ok, err = check_value(value, "kv.cas") end
    if not ok then return nil, err end
    if version == nil or version == null then version = 0 end
    if not is_int(version, 0, VERSION_MAX) then return bad "a version is what kv.get gave" end
    local ttl_ms
    ok, err = check_options(options)
    ttl_ms = err
    if not ok then return nil, err end
    return backend.cas(key, value, version, ttl_ms)
  end

  --- kv.incr(key[, by[, {ttl_ms = n}]]) -> the number it is then | nil, err. A number is a value of decimal digits, up
  -- to 64 bits; what is not there is 0. BAD_ARGS: the value is no number; LIMIT: it would not fit. Waits.
  function kv.incr(key, by, options)
    local ok, err = check_key(key, "kv.incr")
    if not ok then return nil, err end
    if by == nil or by == null then by = 1 end
    if type(by) == "cdata" then by = int64_of(by) elseif not is_int(by, -2 ^ 53, 2 ^ 53) then by = nil end
    if not by then return bad "by is an integer of up to 64 bits" end
    local ttl_ms
    ok, err = check_options(options)
    ttl_ms = err
    if not ok then return nil, err end
    return backend.incr(key, by, ttl_ms)
  end

  --- kv.del(key) -> was it there? | nil, err. Waits.
  function kv.del(key)
    local ok, err = check_key(key, "kv.del")
    if not ok then return nil, err end
    return backend.del(key)
  end

  --- kv.scan(prefix[, from[, limit]]) -> {{key, value}, ...}, next | nil, err. What begins with the prefix, in the
  -- order of keys, beginning at `from`; `next` is the `from` of what follows, nil at the end. The prefix holds a whole
  -- {...}, which decides where the keys lie.
  function kv.scan(prefix, from, limit)
    local ok, err = check_key(prefix, "kv.scan")
    if not ok then return nil, err end
    local _, tagged = core.kv_vbucket(prefix)
    if not tagged then return bad "a prefix holds a whole {...}, such as {user:17}: it decides where the keys lie" end
    if from == null then from = nil end
    if from ~= nil and type(from) ~= "string" then return bad "from is a key" end
    if from == "" then from = nil end
    if from then
      ok, err = check_key(from, "kv.scan")
      if not ok then return nil, err end
    end
    limit, err = check_limit(limit)
    if not limit then return nil, err end
    return backend.scan(prefix, from, limit)
  end

  --- kv.scan_all([cursor[, limit]]) -> {{key, value}, ...}, cursor | nil, err. Everything, in pieces; the cursor is nil
  -- at the end. What is written meanwhile may be left out or not.
  function kv.scan_all(cursor, limit)
    local err
    if cursor == null then cursor = nil end
    if cursor ~= nil and type(cursor) ~= "string" then return bad "a cursor is what scan_all gave" end
    limit, err = check_limit(limit)
    if not limit then return nil, err end
    return backend.scan_all(cursor, limit)
  end

  --- kv.count() -> number of records | nil, err. Of the local store those are counted that expired a moment ago too.
  function kv.count() return backend.count() end

  return kv
end

return M
