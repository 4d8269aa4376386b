-- SPDX-License-Identifier: BSD-2-Clause
--
-- mc: pools of memcached servers, for clients. The first argument is the pool's name in the configuration.
local fae = require "fae"
local mc = fae.servant "mc"

local DATA_MAX = 2 ^ 32 - 1

mc.method("get", { args = { "string", "string" }, idempotent = true, route = 2, doc = "the value, or nil" },
  function(_, pool, key)
    local value, err = fae.memcache(pool):get(key)
    if value then return value end -- flags are no err
    return nil, err
  end)

mc.method("gets", { args = { "string", "string" }, idempotent = true, route = 2,
  doc = "{value, flags, cas} for mc.cas, or nil" },
  function(_, pool, key)
    local value, flags, cas = fae.memcache(pool):get(key)
    if value then return { value = value, flags = flags, cas = cas } end
    return nil, flags
  end)

mc.method("get_many", { args = { "string", "array" }, idempotent = true,
  doc = "those of them that are there, {key = value}; fails only when every server does" },
  function(_, pool, keys)
    for i = 1, #keys do
      if type(keys[i]) ~= "string" then return nil, fae.err("BAD_ARGS", ("key %d is no string"):format(i)) end
    end
    local found, err = fae.memcache(pool):get_many(keys)
    if found then return fae.map(found) end
    return nil, err
  end)

mc.method("set", { args = { "string", "string", "string", "map?" }, idempotent = true, route = 2,
  doc = "stores a value, {ttl = 60, flags = 0}" },
  function(_, pool, key, value, options) return fae.memcache(pool):set(key, value, options) end)

mc.method("add", { args = { "string", "string", "string", "map?" }, route = 2,
  doc = "stores a value if none is there; was it?" },
  function(_, pool, key, value, options) return fae.memcache(pool):add(key, value, options) end)

mc.method("replace", { args = { "string", "string", "string", "map?" }, route = 2,
  doc = "stores a value if one is there; was it?" },
  function(_, pool, key, value, options) return fae.memcache(pool):replace(key, value, options) end)

mc.method("append", { args = { "string", "string", "string" }, route = 2,
  doc = "adds to the end of a value that is there; was it?" },
  function(_, pool, key, value) return fae.memcache(pool):append(key, value) end)

mc.method("prepend", { args = { "string", "string", "string" }, route = 2,
  doc = "adds to the front of a value that is there; was it?" },
  function(_, pool, key, value) return fae.memcache(pool):prepend(key, value) end)

mc.method("cas", { args = { "string", "string", "string", "int", "map?" }, route = 2,
  doc = "stores a value if nobody wrote since the mc.gets that gave the number; was it?" },
  function(_, pool, key, value, cas, options) return fae.memcache(pool):cas(key, value, cas, options) end)

mc.method("incr", { args = { "string", "string", "int?", "map?" }, route = 2,
  doc = "adds to a number and gives the new one, nil when there is none; {initial = 1, ttl = 60} makes it then" },
  function(_, pool, key, by, options) return fae.memcache(pool):incr(key, by, options) end)

mc.method("decr", { args = { "string", "string", "int?", "map?" }, route = 2,
  doc = "subtracts from a number, down to 0, and gives the new one, nil when there is none" },
  function(_, pool, key, by, options) return fae.memcache(pool):decr(key, by, options) end)

mc.method("delete", { args = { "string", "string" }, idempotent = true, route = 2,
  doc = "deletes a value; was it there?" },
  function(_, pool, key) return fae.memcache(pool):delete(key) end)

mc.method("touch", { args = { "string", "string", "int" }, idempotent = true, route = 2,
  doc = "gives a value so many seconds from now on; is it there?" },
  function(_, pool, key, ttl) return fae.memcache(pool):touch(key, ttl) end)

-- fae's old methods. A value is {data, flags}; an expiration is memcached's: seconds up to 30 days, then a time since
-- 1970.

local function parts_of(value)
  local data, flags = value.data, value.flags
  if flags == nil or flags == fae.null then flags = 0 end
  if type(data) ~= "string" then return nil, fae.err("BAD_ARGS", "a value is {data, flags}; data is a string") end
  if type(flags) ~= "number" or not (flags >= -2 ^ 31 and flags <= DATA_MAX and flags % 1 == 0) then
    return nil, fae.err("BAD_ARGS", "a value is {data, flags}; flags are an integer of 32 bits")
  end
  return data, flags % 2 ^ 32 -- a thrift client's may be signed
end

mc.method("fae_set", { args = { "string", "string", "map", "int?" }, idempotent = true, route = 2, alias = "mc_set",
  doc = "stores a value {data, flags}" },
  function(_, pool, key, value, expires)
    local data, flags = parts_of(value)
    if not data then return nil, flags end
    return fae.memcache(pool):set(key, data, { flags = flags, expires = expires })
  end)

mc.method("fae_add", { args = { "string", "string", "map", "int?" }, route = 2, alias = "mc_add",
  doc = "stores a value {data, flags} if none is there; was it?" },
  function(_, pool, key, value, expires)
    local data, flags = parts_of(value)
    if not data then return nil, flags end
    return fae.memcache(pool):add(key, data, { flags = flags, expires = expires })
  end)

mc.method("fae_get", { args = { "string", "string" }, idempotent = true, route = 2, alias = "mc_get",
  doc = "a value {data, flags}; what is not there is CACHE_MISS" },
  function(_, pool, key)
    local value, flags = fae.memcache(pool):get(key)
    if value then return { data = value, flags = flags } end
    return nil, flags or fae.err("CACHE_MISS", "memcache: cache miss")
  end)

mc.method("fae_delete", { args = { "string", "string" }, idempotent = true, route = 2, alias = "mc_delete",
  doc = "as mc.delete" },
  function(_, pool, key) return fae.memcache(pool):delete(key) end)

mc.method("fae_increment", { args = { "string", "string", "int" }, route = 2, alias = "mc_increment",
  doc = "adds a number that may be negative and gives the new one, 0 when there is none" },
  function(_, pool, key, by)
    local memcache = fae.memcache(pool)
    local number, err
    if by > 0 then number, err = memcache:incr(key, by) else number, err = memcache:decr(key, -by) end
    if number or err then return number, err end
    return 0
  end)

return mc
