-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.cache, and the servant lc that gives it to clients.
local fae = require "fae"
local testing = require "fae.testing"

local cache = fae.cache

local function refused(code, pattern, ...)
  local value, err = ...
  assert.is_nil(value)
  assert.equal(code, err.code)
  assert.matches(pattern, err.message)
end

before_each(function() assert.is_true(cache.flush()) end)

describe("fae.cache", function()
  it("gives back what was set, whatever the bytes", function()
    for _, value in ipairs { "", "x", "\0", ("v"):rep(100), "\255\254\0\n", ("long"):rep(20000), ("w"):rep(1048576) } do
      assert.is_true(cache.set("k\0\255", value))
      assert.equal(value, (cache.get "k\0\255"))
    end
    assert.is_nil((cache.get "k"))
    assert.equal(1, select("#", cache.get "k"))
  end)
  it("adds, replaces, deletes", function()
    assert.is_false(cache.replace("k", "1"))
    assert.is_true(cache.add("k", "1"))
    assert.is_false(cache.add("k", "2"))
    assert.equal("1", (cache.get "k"))
    assert.is_true(cache.replace("k", "2"))
    assert.equal("2", (cache.get "k"))
    assert.is_true(cache.del "k")
    assert.is_false(cache.del "k")
    assert.is_nil((cache.get "k"))
  end)
  it("stores by version", function()
    cache.set("k", "1")
    local _, version = cache.get "k"
    assert.is_number(version)
    assert.is_false(cache.cas("k", "2", version + 1))
    assert.is_true(cache.cas("k", "2", version))
    assert.is_false(cache.cas("k", "3", version))
    assert.equal("2", (cache.get "k"))
    assert.is_false(cache.cas("other", "3", version))
    refused("BAD_ARGS", "version", cache.cas("k", "3", "1"))
    refused("BAD_ARGS", "version", cache.cas("k", "3", nil))
  end)
  it("gets many", function()
    cache.set("a", "1")
    cache.set("b", "2")
    assert.same({ a = "1", b = "2" }, cache.get_many { "a", "b", "c", "a" })
    assert.same({}, cache.get_many {})
    refused("BAD_ARGS", "empty", cache.get_many { "a", "" })
    for i = 1, 4 do cache.set("big" .. i, ("x"):rep(1048576)) end
    local keys = {}
    for i = 1, 65 do keys[i] = "big" .. i % 4 + 1 end
    refused("LIMIT", "67108864 bytes", cache.get_many(keys))
  end)
  it("counts", function()
    assert.is_nil((cache.incr "n"))
    assert.equal(5, cache.incr("n", 1, { init = 5 }))
    assert.equal(6, cache.incr "n")
    assert.equal(-4, cache.incr("n", -10))
    assert.equal("-4", (cache.get "n"))
    assert.equal(9007199254740991LL, cache.incr("n", 9007199254740995LL))
    assert.equal(9007199254740993LL, cache.incr("n", 2))
    assert.equal("9007199254740993", (cache.get "n"))
    cache.set("n", "9223372036854775807")
    refused("LIMIT", "64 bits", cache.incr "n")
    cache.set("n", "seven")
    refused("BAD_ARGS", "no integer", cache.incr "n")
    refused("BAD_ARGS", "no integer", cache.incr("n", 1, { init = 1 }))
    for _, by in ipairs { 1.5, 0 / 0, 1 / 0, "1", true, 2 ^ 60, 0xffffffffffffffffULL } do
      refused("BAD_ARGS", "added is an integer", cache.incr("n", by))
      refused("BAD_ARGS", "init is an integer", cache.incr("n", 1, { init = by }))
    end
    assert.equal("seven", (cache.get "n"))
  end)
  it("forgets in time", function()
    cache.set("k", "v", { ttl_ms = 40 })
    cache.incr("n", 1, { init = 1, ttl_ms = 40 })
    cache.set("touched", "v", { ttl_ms = 40 })
    cache.set("stays", "v", { ttl_ms = 0 })
    assert.equal("v", (cache.get "k"))
    assert.is_true(cache.touch("touched", 60000))
    fae.sleep(80)
    assert.is_nil((cache.get "k"))
    assert.is_nil((cache.incr "n"))
    assert.is_false(cache.touch("k", 1000))
    assert.equal("v", (cache.get "touched"))
    assert.equal("v", (cache.get "stays"))
    assert.is_true(cache.add("k", "again"))
  end)
  it("refuses keys and values that are none, and changes nothing", function()
    local calls = {
      function(key) return cache.get(key) end, function(key) return cache.set(key, "v") end,
      function(key) return cache.add(key, "v") end, function(key) return cache.replace(key, "v") end,
      function(key) return cache.cas(key, "v", 1) end, function(key) return cache.incr(key) end,
      function(key) return cache.del(key) end, function(key) return cache.touch(key, 1) end,
    }
    for _, call in ipairs(calls) do
      refused("BAD_ARGS", "the key is empty", call "")
      refused("LIMIT", "at most 1024 bytes, not 1025", call(("k"):rep(1025)))
      for _, key in ipairs { 1, true, {}, print, fae.null } do
        local ok, err = pcall(call, key)
        assert.is_false(ok)
        assert.matches("a key is a string, not a %a+", err)
      end
      assert.is_false(pcall(call, nil))
    end
    local _, err = pcall(function() local value = cache.get(1) return value end)
    assert.matches("cache_spec.lua:%d+: a key is a string, not a number", err)
    assert.is_nil((cache.get(("k"):rep(1024))))
    for _, fn in ipairs { cache.set, cache.add, cache.replace } do
      refused("LIMIT", "at most 1048576 bytes, not 1048577", fn("k", ("x"):rep(1048577)))
      for _, value in ipairs { 1, true, {}, print } do
        assert.matches("a value is a string, not a %a+", select(2, pcall(fn, "k", value)))
      end
    end
    assert.equal(0, cache.stats().items)
  end)
  it("refuses times to live that are none", function()
    for _, ms in ipairs { -1, 0.5, 0 / 0, 1 / 0, 1e15, "1", true, {}, fae.null } do
      refused("BAD_ARGS", "ttl_ms is 0, for ever, to %d+, not ", cache.set("k", "v", { ttl_ms = ms }))
      refused("BAD_ARGS", "ttl_ms is 0, for ever, to %d+, not ", cache.incr("k", 1, { init = 1, ttl_ms = ms }))
      refused("BAD_ARGS", "ttl_ms is 0, for ever, to %d+, not ", cache.touch("k", ms))
    end
    refused("BAD_ARGS", "no option ttl: there is ttl_ms", cache.set("k", "v", { ttl = 1 }))
    refused("BAD_ARGS", "no option 1: there are ttl_ms and init", cache.incr("k", 1, { 1 }))
    assert.is_false(pcall(cache.set, "k", "v", 5))
    assert.equal(0, cache.stats().items)
  end)
  it("says what it holds", function()
    local before = cache.stats()
    cache.set("a", "1")
    cache.get "a"
    cache.get "b"
    local stats = cache.stats()
    assert.equal(1, stats.items)
    assert.equal(48, stats.bytes)
    assert.equal(1, stats.hits - before.hits)
    assert.equal(1, stats.misses - before.misses)
    assert.equal(1, stats.sets - before.sets)
    for _, name in ipairs { "size_bytes", "deletes", "evictions", "expired", "second_chances", "resets", "busy" } do
      assert.is_number(stats[name])
    end
  end)
  it("is not the one of mysql results", function()
    local other = require("fae.lcache").open "query_cache"
    other.flush()
    cache.set("k", "1")
    assert.is_nil((other.get "k"))
    other.set("l", "2")
    other.set("m", "3")
    assert.is_nil((cache.get "l"))
    assert.equal(1, cache.stats().items)
    assert.equal(2, other.stats().items)
    assert.is_true(cache.flush())
    assert.equal("2", (other.get "l"))
    assert.is_true(other.flush())
    assert.has_error(function() require("fae.lcache").open "another" end)
  end)
  it("is not there before a node serves", function()
    -- As in a checker, where core.cache gives nothing.
    local core = setmetatable({ cache = function() end }, { __index = require "fae.core" })
    local chunk = assert(load(require("fae.builtin")["lua/fae/lcache.lua"], "@lcache.lua", "t",
      setmetatable({ require = function(name) return name == "fae.core" and core or require(name) end },
        { __index = _G })))
    local none = chunk("fae.lcache").open "cache"
    refused("UNAVAILABLE", "no cache here", none.get "k")
    refused("UNAVAILABLE", "no cache here", none.set("k", "v"))
    refused("UNAVAILABLE", "no cache here", none.get_many { "k" })
    refused("UNAVAILABLE", "no cache here", none.incr "k")
    refused("UNAVAILABLE", "no cache here", none.flush())
    refused("UNAVAILABLE", "no cache here", none.stats())
  end)
end)

describe("lc", function()
  local function call(method, ...) return fae.call("lc." .. method, ...) end

  it("does what fae.cache does", function()
    assert.is_nil((call("get", "k")))
    assert.is_nil((call("gets", "k")))
    assert.is_true(call("set", "k", "1"))
    assert.equal("1", (call("get", "k")))
    local found = call("gets", "k")
    assert.equal("1", found.value)
    assert.is_true(call("cas", "k", "2", found.version))
    assert.is_false(call("cas", "k", "3", found.version))
    assert.same({ k = "2" }, call("get_many", { "k", "l" }))
    assert.equal(3, call("incr", "k"))
    assert.equal(13, call("incr", "k", 10))
    assert.equal(7, call("incr", "m", nil, { init = 7 }))
    assert.is_false(call("add", "k", "x"))
    assert.is_true(call("replace", "k", "x", { ttl_ms = 60000 }))
    assert.is_true(call("touch", "k", 1000))
    assert.is_true(call("touch", "k"))
    assert.is_true(call("del", "k"))
    assert.is_false(call("del", "k"))
    assert.is_true(call "flush")
    assert.equal(0, call("stats").items)
  end)
  it("answers a wrong call with an error of its own", function()
    refused("BAD_ARGS", "string", call("get", 1))
    refused("BAD_ARGS", "string", call("set", "k", 1))
    refused("BAD_ARGS", "string", call "get")
    refused("BAD_ARGS", "key 2 is no string", call("get_many", { "a", 1 }))
    refused("BAD_ARGS", "key 1 is no string", call("get_many", { fae.null }))
    refused("BAD_ARGS", "no option x", call("set", "k", "v", { x = 1 }))
    refused("BAD_ARGS", "ttl_ms", call("touch", "k", -1))
    refused("LIMIT", "1025", call("del", ("k"):rep(1025)))
  end)
  it("has fae's old methods", function()
    refused("CACHE_MISS", "^lcache missed: k$", fae.call("lc_get", "k"))
    assert.is_true(fae.call("lc_set", "k", "v"))
    assert.equal("v", (fae.call("lc_get", "k")))
    assert.is_nil((fae.call("lc_del", "k")))
    assert.equal(0, select("#", fae.call("lc_del", "k")) - select("#", fae.call("lc_del", "l")))
    refused("CACHE_MISS", "missed", fae.call("lc_get", "k"))
  end)
  it("documents every method", function()
    local g = testing.load({}, { bundled = true })
    for _, servant in ipairs(g.servants) do
      for _, method in ipairs(servant.methods) do assert.is_string(method.doc, method.name) end
    end
  end)
end)
