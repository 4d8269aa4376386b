-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.kv in a pool of redis servers: the suite of every backend, then what only this one does.
local fae = require "fae"

local suite = setfenv(assert(loadfile "spec/lua/kv_suite.lua"), getfenv(1))() -- with describe and it
local backend = fae.redis(assert(os.getenv "KV_POOL"))

suite("the kv store in redis", fae.kv)

describe("kv_redis", function()
  before_each(function() backend:flushall() end)

  it("leaves nothing of what was removed or expired", function()
    for i = 1, 40 do fae.kv.set("e" .. i, "x", { ttl_ms = 5 }) end
    for i = 1, 40 do
      fae.kv.set("d" .. i, "x")
      assert.is_true(fae.kv.del("d" .. i))
    end
    fae.sleep(30)
    for i = 1, 40 do fae.kv.set("k" .. i, "x") end
    for i = 1, 40 do fae.kv.set("k" .. i, "y") end
    local left = 0
    for _, key in ipairs(backend:keys "*") do if key:match "^fae:kv:r:[ed]" then left = left + 1 end end
    assert.equal(0, left)
    assert.equal(40, fae.kv.count())
  end)

  it("gives versions that rise even when redis lost them", function()
    fae.kv.set("k", "1")
    local _, first = fae.kv.get "k"
    backend:flushall()
    fae.kv.set("k", "1")
    local _, second = fae.kv.get "k"
    assert.is_true(second > first)
  end)

  it("reads many keys, up to what fits a message", function()
    local keys = {}
    for i = 1, 2500 do keys[i] = "k" .. i end
    for i = 1, 2500, 100 do
      local fns = {}
      for j = i, i + 99 do fns[#fns + 1] = function() return fae.kv.set(keys[j], "v" .. j) end end
      assert.is_nil(select(2, fae.parallel(fns)))
    end
    local found = fae.kv.get_many(keys)
    for i = 1, 2500 do assert.equal("v" .. i, found["k" .. i]) end
    local long = ("x"):rep(require("fae.node").about().message_max / 2)
    fae.kv.set("a", long)
    fae.kv.set("b", long)
    assert.equal(long, fae.kv.get_many({ "a", "none" }).a)
    local value, err = fae.kv.get_many { "a", "b" }
    assert.is_nil(value)
    assert.equal("LIMIT", err.code)
  end)

  it("scans past keys that are no text, and prefixes of the last byte", function()
    for _, key in ipairs { "{t}\255", "{t}\255\255", "{t}\255a", "{t}\0", "{t}" } do
      assert.is_true(fae.kv.set(key, "x"))
    end
    local keys = {}
    for _, item in ipairs((fae.kv.scan "{t}\255")) do keys[#keys + 1] = item[1] end
    assert.same({ "{t}\255", "{t}\255a", "{t}\255\255" }, keys)
    assert.equal(5, #(fae.kv.scan "{t}"))
  end)

  it("says what redis says when it takes no number more", function()
    fae.kv.set("n", "1")
    for i = 1, backend:servers() do backend:server(i):config("SET", "maxmemory", "1") end
    local value, err = fae.kv.incr("n", 1)
    for i = 1, backend:servers() do backend:server(i):config("SET", "maxmemory", "0") end
    assert.is_nil(value)
    assert.equal("BACKEND", err.code)
    assert.equal("OOM", err.detail.error)
    assert.equal(2, fae.kv.incr("n", 1))
  end)

  it("refuses by name what has no meaning there", function()
    for name, call in pairs {
      export = function() return fae.kv.export(1) end,
      import = function() return fae.kv.import(1, "x") end,
      bucket = function() return fae.kv.bucket(1) end,
    } do
      local value, err = call()
      assert.is_nil(value, name)
      assert.equal("UNAVAILABLE", err.code)
      assert.truthy(err.message:find("kv_backend is redis:", 1, true))
    end
    local value, err = fae.kv.scan_all "x"
    assert.is_nil(value)
    assert.equal("BAD_ARGS", err.code)
  end)
end)
