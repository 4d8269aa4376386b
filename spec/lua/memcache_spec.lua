-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.memcache and servant mc where there is no pool: what is refused, and how. spec/e2e/test_memcache.py has servers.
local fae = require "fae"

local pool = fae.memcache "none"

local function refused(code, pattern, ...)
  local value, err = ...
  assert.is_nil(value)
  assert.equal(code, err.code)
  assert.matches(pattern, err.message)
end

describe("fae.memcache", function()
  it("is one object a name", function()
    assert.equal(pool, fae.memcache "none")
    assert.not_equal(pool, fae.memcache "other")
    assert.has_error(function() fae.memcache(17) end, "fae.memcache takes the name of a pool")
    assert.equal("memcache", getmetatable(pool))
    assert.has_error(function() pool.get = print end, "a pool cannot be changed: others have it too")
  end)
  it("says that there is no such pool", function()
    local message = '^there is no memcache pool "none"$'
    refused("UNKNOWN_POOL", message, pool:get "k")
    refused("UNKNOWN_POOL", message, pool:get_many { "k" })
    refused("UNKNOWN_POOL", message, pool:set("k", "v"))
    refused("UNKNOWN_POOL", message, pool:cas("k", "v", 1))
    refused("UNKNOWN_POOL", message, pool:incr "k")
    refused("UNKNOWN_POOL", message, pool:decr("k", 1, { initial = 1 }))
    refused("UNKNOWN_POOL", message, pool:delete "k")
    refused("UNKNOWN_POOL", message, pool:touch("k", 1))
    refused("UNKNOWN_POOL", message, pool:servers "k")
  end)
  it("takes every byte of a name", function()
    local zero = fae.memcache "none\0more"
    assert.not_equal(pool, zero)
    refused("UNKNOWN_POOL", "none", zero:get "k")
    refused("UNKNOWN_POOL", "nnn", fae.memcache(("n"):rep(5000)):get "k")
  end)
  it("raises for what is no key, no value and no pool", function()
    assert.has_error(function() pool:get(1) end, "a key is a string, not a number")
    assert.has_error(function() pool:set("k", 1) end, "a value is a string, not a number")
    assert.has_error(function() pool:set("k", "v", 60) end, "the options are a table, not a number")
    assert.has_error(function() pool.get({}, "k") end, "that is no memcache pool")
    assert.has_error(function() pool:get_many "k" end, "get_many takes a list of keys")
  end)
  it("refuses options that it does not know, and numbers out of range", function()
    for _, options in ipairs { { ttl_ms = 1 }, { ttl = -1 }, { ttl = 0.5 }, { ttl = "1" }, { flags = -1 },
      { flags = 2 ^ 32 }, { flags = 0.5 }, { expires = 0.5 }, { ttl = 4e8 } } do
      refused("BAD_ARGS", "", pool:set("k", "v", options))
    end
    refused("BAD_ARGS", "initial and ttl", pool:incr("k", 1, { flags = 1 }))
    for _, initial in ipairs { -1, 0.5, "1", 2 ^ 60, -1LL } do
      refused("BAD_ARGS", "initial is an integer", pool:incr("k", 1, { initial = initial }))
    end
    refused("BAD_ARGS", "ttl is seconds", pool:touch("k", -1))
  end)
end)

describe("servant mc", function()
  it("answers by its names and fae's", function()
    refused("UNKNOWN_POOL", "none", fae.call("mc.get", "none", "k"))
    refused("UNKNOWN_POOL", "none", fae.call("mc_get", "none", "k"))
    refused("UNKNOWN_POOL", "none", fae.call("mc_set", "none", "k", { data = "x", flags = -1 }, 60))
    refused("UNKNOWN_POOL", "none", fae.call("mc_increment", "none", "k", -1))
  end)
  it("takes {data, flags} alone for a value", function()
    for _, value in ipairs { {}, { data = 1 }, { data = "x", flags = "1" }, { data = "x", flags = 2 ^ 32 },
      { data = "x", flags = 0.5 } } do
      refused("BAD_ARGS", "^a value is {data, flags}", fae.call("mc_set", "none", "k", fae.map(value)))
      refused("BAD_ARGS", "^a value is {data, flags}", fae.call("mc_add", "none", "k", fae.map(value)))
    end
  end)
end)
