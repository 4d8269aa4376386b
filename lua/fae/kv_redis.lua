-- SPDX-License-Identifier: BSD-2-Clause
--
-- The kv backend that lies in a pool of redis servers: kv_backend "redis:main". A key's server is picked as for any key
-- of the pool, so that those with the same text in their first {...} lie together, in order.
--
-- On each server:
--   fae:kv:r:KEY     a hash of the value v and the version n; it expires by itself
--   fae:kv:keys      a sorted set of all keys, for scans and counting
--   fae:kv:expiry    a sorted set of those that expire, by when: what has expired leaves the two sets with later writes
--   fae:kv:version   the last version: microseconds of the server's clock, and more than the one before
--
-- Every write is one script, done as a whole. Done means that redis answered: what it does about its own disk and
-- replicas is its configuration's.
local core = require "fae.core"
local commands = require "fae.redis_commands"
local redis = require "fae.redis"
local route = require "fae.redis_route"
local script = require "fae.redis_script"
local task = require "fae.task"

local M = {}

local PREFIX, KEYS, EXPIRY, VERSION = "fae:kv:r:", "fae:kv:keys", "fae:kv:expiry", "fae:kv:version"
local ANSWER_BYTES = 768 -- of an answer to a client with items, besides these; each has 16 more in the script
local KEYS_AT_ONCE = 1000
local null = core.cjson.null

-- KEYS: record, keys, expiry, version. ARGV: what, key, value or number, ttl_ms or "", version for cas
local WRITE = [[
local record, keys, expiry, last = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local what, key, value, ttl, want = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local time = redis.call("TIME")
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)

for _, gone in ipairs(redis.call("ZRANGEBYSCORE", expiry, "-inf", ("%.0f"):format(now_ms), "LIMIT", 0, 16)) do
  local left = redis.call("PTTL", record:sub(1, #record - #key) .. gone) -- by a clock that may be a little behind
  if left >= 0 then
    redis.call("ZADD", expiry, ("%.0f"):format(now_ms + left + 1), gone)
  else
    redis.call("ZREM", expiry, gone)
    if left == -2 then redis.call("ZREM", keys, gone) end
  end
end

local there = redis.call("EXISTS", record) == 1
if what == "del" then
  redis.call("ZREM", keys, key)
  redis.call("ZREM", expiry, key)
  return redis.call("DEL", record)
end
if what == "add" and there then return 0 end
if what == "cas" then
  local now = there and redis.call("HGET", record, "n") or "0"
  if now ~= want then return 0 end
end
if what == "incr" then
  local sum = redis.pcall("HINCRBY", record, "v", value)
  if type(sum) == "table" and sum.err then
    if sum.err:find("not an integer", 1, true) then return "TEXT" end
    return sum.err:find("overflow", 1, true) and "LIMIT" or sum
  end
else
  redis.call("HSET", record, "v", value)
end

local version = math.max(time[1] * 1000000 + time[2], tonumber(redis.call("GET", last) or 0) + 1)
version = ("%.0f"):format(version)
redis.call("SET", last, version)
redis.call("HSET", record, "n", version)
if not there then redis.call("ZADD", keys, 0, key) end
if ttl ~= "" then
  redis.call("PEXPIRE", record, ttl)
  redis.call("ZADD", expiry, ("%.0f"):format(now_ms + ttl), key)
elseif what ~= "incr" then
  redis.call("PERSIST", record)
  redis.call("ZREM", expiry, key)
end
if what == "incr" then return redis.call("HGET", record, "v") end
return 1
]]

-- KEYS: records. ARGV: bytes at most. -> values, false for what is not there | "LIMIT"
local GET_MANY = [[
local values, bytes = {}, 0
for i, record in ipairs(KEYS) do
  bytes = bytes + redis.call("HSTRLEN", record, "v")
  if bytes > tonumber(ARGV[1]) then return "LIMIT" end
  values[i] = redis.call("HGET", record, "v")
end
return values
]]

-- KEYS: keys. ARGV: prefix of records, from, up to (or ""), prefix of keys, items at most, bytes at most.
-- -> {items, next or false, bytes}; what has expired is left out, and out of the set
local SCAN = [[
local items, bytes, from, gone = {}, 0, ARGV[2], {}
local n_max, bytes_max, prefix = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[4]
local following = false
repeat
  local page = redis.call("ZRANGEBYLEX", KEYS[1], from, ARGV[3], "LIMIT", 0, 128)
  for _, key in ipairs(page) do
    if key:sub(1, #prefix) ~= prefix then break end
    local value = redis.call("HSTRLEN", ARGV[1] .. key, "v")
    if redis.call("EXISTS", ARGV[1] .. key) == 0 then
      gone[#gone + 1] = key
    else
      value = value + #key + 16
      if #items == n_max or (#items > 0 and bytes + value > bytes_max) then
        following = key
        break
      end
      bytes = bytes + value
      items[#items + 1] = { key, redis.call("HGET", ARGV[1] .. key, "v") }
    end
  end
  if #page > 0 then from = "(" .. page[#page] end
until following or #page < 128 or page[#page]:sub(1, #prefix) ~= prefix
for _, key in ipairs(gone) do redis.call("ZREM", KEYS[1], key) end
return { items, following, bytes }
]]

-- What a set has that is after all strings with the prefix: its last byte that is not 255 one higher.
local function after(prefix)
  for i = #prefix, 1, -1 do
    local byte = prefix:byte(i)
    if byte < 255 then return "(" .. prefix:sub(1, i - 1) .. string.char(byte + 1) end
  end
  return "+"
end

local function number_of(text)
  local n = tonumber(text)
  if n > -2 ^ 53 and n < 2 ^ 53 then return n end
  local exact = 0LL
  for digit in text:gmatch "%d" do exact = exact * 10 - tonumber(digit) end -- downwards: the lowest has no twin
  return text:sub(1, 1) == "-" and exact or -exact
end

local function integer_text(n) return type(n) == "cdata" and tostring(n):match "^-?%d+" or ("%.0f"):format(n) end

--- new(name of the pool) -> a backend for lua/fae/kv_backend.lua
function M.new(name)
  local b = {}
  local own, scripts

  -- A reload may bring another pool of the name; its handle looks for itself.
  local function pool()
    if own then return own end
    local found, err = redis.own(name)
    if not found then return nil, err end
    scripts = {}
    for word, source in pairs { write = WRITE, get_many = GET_MANY, scan = SCAN } do
      scripts[word] = select(2, script.new(found, source))
    end
    own = found
    return own
  end

  local function place(key)
    local found, err = pool()
    if not found then return nil, err end
    return core.redis_pick(found.h, key)
  end

  local function write(what, key, value, ttl_ms, version)
    local at, err = place(key)
    if not at then return nil, err end
    return script.run(scripts.write, function() return place(key) end, { PREFIX .. key, KEYS, EXPIRY, VERSION },
      { what, key, value or "", ttl_ms and integer_text(ttl_ms) or "", version or "" })
  end

  local function stored(reply, err)
    if reply == nil then return nil, err end
    return reply == 1
  end

  function b.get(key)
    local at, err = place(key)
    if not at then return nil, err end
    local reply
    reply, err = core.redis_call(own.h, at, commands.READ, "HMGET", PREFIX .. key, "v", "n")
    if not reply then return nil, err end
    if type(reply) ~= "table" then return route.wrong(own, "HMGET", reply) end
    if reply[1] == null then return nil end
    return reply[1], tonumber(reply[2])
  end

  function b.set(key, value, ttl_ms)
    local reply, err = write("set", key, value, ttl_ms)
    return reply ~= nil or nil, err
  end

  function b.add(key, value, ttl_ms) return stored(write("add", key, value, ttl_ms)) end
  function b.del(key) return stored(write("del", key)) end
  function b.cas(key, value, version, ttl_ms)
    return stored(write("cas", key, value, ttl_ms, ("%.0f"):format(version)))
  end

  function b.incr(key, by, ttl_ms)
    local reply, err = write("incr", key, integer_text(by), ttl_ms)
    if not reply then return nil, err end
    if reply == "LIMIT" then return nil, core.err("LIMIT", "the number would not fit 64 bits") end
    if reply == "TEXT" then return nil, core.err("BAD_ARGS", "the value is no integer of 64 bits") end
    if type(reply) ~= "string" or not tonumber(reply) then return route.wrong(own, "EVALSHA", reply) end
    return number_of(reply)
  end

  -- The share's server, unless a reload has given some of these keys to another since they were shared out.
  local function place_of(share, first, last)
    for i = first, last do
      local at, err = place(share.keys[i])
      if not at then return nil, err end
      if at ~= share.at then
        return nil, core.err("UNAVAILABLE", ("redis %s: a reload changed its servers meanwhile"):format(own.name))
      end
    end
    return share.at
  end

  -- Those of one server, some at a time.
  local function get_share(share, max)
    share.values = {}
    for first = 1, #share.keys, KEYS_AT_ONCE do
      local last = math.min(first + KEYS_AT_ONCE - 1, #share.keys)
      local reply, err = script.run(scripts.get_many, function() return place_of(share, first, last) end,
        { unpack(share.records, first, last) }, { integer_text(max - share.bytes) })
      if not reply then return nil, err end
      if reply == "LIMIT" then return nil, core.err("LIMIT", "these values have more than message_max bytes") end
      if type(reply) ~= "table" then return route.wrong(own, "EVALSHA", reply) end
      for i = 1, last - first + 1 do
        local value = reply[i]
        if value ~= null then
          if type(value) ~= "string" then return route.wrong(own, "EVALSHA", value) end
          share.values[first + i - 1] = value
          share.bytes = share.bytes + #share.keys[first + i - 1] + #value
        end
      end
    end
    return true
  end

  local function shares_of(keys)
    local shares, by_server = {}, {}
    for _, key in ipairs(keys) do
      local at, err = place(key)
      if not at then return nil, err end
      local share = by_server[at]
      if not share then
        share = { at = at, keys = {}, records = {}, bytes = 0 }
        by_server[at], shares[#shares + 1] = share, share
      end
      share.keys[#share.keys + 1] = key
      share.records[#share.records + 1] = PREFIX .. key
    end
    return shares
  end

  function b.get_many(keys)
    local shares, err = shares_of(keys)
    if not shares then return nil, err end
    local max, fns, bytes = core.node().message_max, {}, 0
    for i, share in ipairs(shares) do fns[i] = function() return get_share(share, max) end end
    local found, errors = task.parallel(fns)
    if not found then return nil, errors end
    if errors then return nil, select(2, next(errors)) end
    found = {}
    for _, share in ipairs(shares) do
      for i, key in ipairs(share.keys) do found[key] = share.values[i] end
      bytes = bytes + share.bytes
    end
    if bytes > max then return nil, core.err("LIMIT", "these values have more than message_max bytes") end
    return found
  end

  -- -> items, next key or nil, is the first too long for a message?
  local function scan_at(at, prefix, from, up_to, limit)
    local bytes_max = core.node().message_max - ANSWER_BYTES
    local one = { h = own.h, name = own.name, at = at }
    local reply, err = script.run(scripts.scan, function() return route.bound(one) end, { KEYS },
      { PREFIX, from, up_to, prefix, limit, bytes_max })
    if not reply then return nil, err end
    if type(reply) ~= "table" or type(reply[1]) ~= "table" or type(reply[3]) ~= "number" then
      return route.wrong(own, "EVALSHA", reply)
    end
    local following = reply[2]
    return reply[1], following ~= null and following or nil, reply[3] > bytes_max
  end

  function b.scan(prefix, from, limit)
    local at, err = place(prefix)
    if not at then return nil, err end
    return scan_at(at, prefix, "[" .. (from and from > prefix and from or prefix), after(prefix), limit)
  end

  -- A cursor is a server's number and the key to begin at.
  function b.scan_all(cursor, limit)
    local found, err = pool()
    if not found then return nil, err end
    local at, from = 0, "-"
    if cursor then
      local number, key = cursor:match "^(%d+):(.*)$"
      if not number or #number > 4 then return nil, core.err("BAD_ARGS", "that is no cursor of scan_all") end
      at, from = tonumber(number), key == "" and "-" or "[" .. key
    end
    local n
    n, err = core.redis_servers(found.h)
    if not n then return nil, err end
    while at < n do
      local items, following, too_long = scan_at(at, "", from, "+", limit)
      if not items then return nil, following end
      if following then return items, ("%d:%s"):format(at, following), too_long end
      if #items > 0 then return items, at + 1 < n and ("%d:"):format(at + 1) or nil, too_long end
      at, from = at + 1, "-"
    end
    return {}, nil
  end

  function b.count()
    local found, err = pool()
    if not found then return nil, err end
    local n
    n, err = core.redis_servers(found.h)
    if not n then return nil, err end
    local sum = 0
    for at = 0, n - 1 do
      local some
      some, err = core.redis_call(found.h, at, commands.READ, "ZCARD", KEYS)
      if not some then return nil, err end
      if type(some) ~= "number" then return route.wrong(own, "ZCARD", some) end
      sum = sum + some
    end
    return sum
  end

  -- What moves a bucket to another node has no meaning here.
  local function here_only()
    return nil, core.err("UNAVAILABLE", ("kv_backend is redis:%s, which has no buckets"):format(name))
  end
  b.export, b.import, b.bucket = here_only, here_only, here_only

  return b
end

return M
