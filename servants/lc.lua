-- SPDX-License-Identifier: BSD-2-Clause
--
-- lc: the node's cache, for clients. Each node has its own: what one stores, another does not have.
local fae = require "fae"
local cache = fae.cache
local lc = fae.servant "lc"

-- Keys that begin with a zero byte are the node's own: what servant my keeps there decides where rows lie, and what
-- operators see of statements. What writes goes through this.
local function guarded(fn)
  return function(call, key, ...)
    if key:byte() == 0 then return nil, fae.err("BAD_ARGS", "keys that begin with a zero byte are the node's own") end
    return fn(call, key, ...)
  end
end

lc.method("get", { args = { "string" }, idempotent = true, doc = "the value, or nil" },
  function(_, key)
    local value, err = cache.get(key)
    if value then return value end -- a version is no err
    return nil, err
  end)

lc.method("gets", { args = { "string" }, idempotent = true, doc = "{value, version} for lc.cas, or nil" },
  function(_, key)
    local value, version = cache.get(key)
    if value then return { value = value, version = version } end
    return nil, version
  end)

lc.method("get_many", { args = { "array" }, idempotent = true, doc = "those of them that are there, {key = value}" },
  function(_, keys)
    for i = 1, #keys do
      if type(keys[i]) ~= "string" then return nil, fae.err("BAD_ARGS", ("key %d is no string"):format(i)) end
    end
    local found, err = cache.get_many(keys)
    return found and fae.map(found), err
  end)

lc.method("set", { args = { "string", "string", "map?" }, idempotent = true, alias = "lc_set",
  doc = "stores a value, {ttl_ms = 60000} for a minute" },
  guarded(function(_, key, value, options) return cache.set(key, value, options) end))

lc.method("add", { args = { "string", "string", "map?" }, doc = "stores a value if none is there; was it?" },
  guarded(function(_, key, value, options) return cache.add(key, value, options) end))

lc.method("replace", { args = { "string", "string", "map?" }, doc = "stores a value if one is there; was it?" },
  guarded(function(_, key, value, options) return cache.replace(key, value, options) end))

lc.method("cas", { args = { "string", "string", "number", "map?" },
  doc = "stores a value if what is there still has the version of lc.gets; was it?" },
  guarded(function(_, key, value, version, options) return cache.cas(key, value, version, options) end))

lc.method("incr", { args = { "string", "int?", "map?" },
  doc = "adds to a number and gives the new one, nil when none is there; {init = 1, ttl_ms = 60000} makes it then" },
  guarded(function(_, key, by, options) return cache.incr(key, by, options) end))

lc.method("del", { args = { "string" }, idempotent = true, doc = "deletes a value; was it there?" },
  guarded(function(_, key) return cache.del(key) end))

lc.method("touch", { args = { "string", "int?" }, idempotent = true,
  doc = "gives what is there another time to live, in ms; is it there?" },
  guarded(function(_, key, ttl_ms) return cache.touch(key, ttl_ms) end))

lc.method("flush", { args = {}, idempotent = true, doc = "empties the cache of this node" },
  function() return cache.flush() end)

lc.method("stats", { args = {}, idempotent = true, doc = "what the cache of this node holds and did" },
  function() return cache.stats() end)

-- The two of fae's old methods that answer otherwise.

lc.method("fae_get", { args = { "string" }, idempotent = true, alias = "lc_get",
  doc = "as lc.get, but what is not there is CACHE_MISS" },
  function(_, key)
    local value, err = cache.get(key)
    if value then return value end
    return nil, err or fae.err("CACHE_MISS", "lcache missed: " .. key)
  end)

lc.method("fae_del", { args = { "string" }, idempotent = true, alias = "lc_del", doc = "as lc.del, but says nothing" },
  guarded(function(_, key)
    local was, err = cache.del(key)
    return nil, was == nil and err or nil
  end))

return lc
