-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.kv in a pool of mysql: the suite of every backend, then what only this one does.
local fae = require "fae"

local suite = setfenv(assert(loadfile "spec/lua/kv_suite.lua"), getfenv(1))() -- with describe and it
local db = fae.mysql(assert(os.getenv "KV_POOL"))

suite("the kv store in mysql", fae.kv)

describe("kv_mysql", function()
  it("makes its table, in the middle of anything", function()
    for _, call in ipairs {
      function() return fae.kv.get "k" == nil end,
      function() return fae.kv.set("k", "1") end,
      function() return fae.kv.incr "k" == 1 end,
      function() return fae.kv.count() == 0 end,
      function() return #fae.kv.scan_all() == 0 end,
    } do
      assert(db:exec "DROP TABLE IF EXISTS fae_kv")
      assert.is_true(call())
    end
  end)
  it("removes what has expired, by and by", function()
    assert(fae.kv.get "k" == nil)
    assert(db:exec "DELETE FROM fae_kv")
    for i = 1, 20 do assert.is_true(fae.kv.set("k" .. i, "x", { ttl_ms = 1 })) end
    for _ = 1, 300 do
      fae.kv.set("other", "x")
      if db:value "SELECT COUNT(*) FROM fae_kv" == 1 then break end
      fae.sleep(20)
    end
    assert.equal(1, db:value "SELECT COUNT(*) FROM fae_kv")
  end)
  it("walks values that are long, in pieces that fit a message", function()
    assert(db:exec "DELETE FROM fae_kv")
    local long = ("x"):rep(1500000)
    for i = 1, 5 do assert.is_true(fae.kv.set("{t}" .. i, long)) end
    local n, pieces, from = 0, 0, nil
    repeat
      local items
      items, from = fae.kv.scan("{t}", from)
      n, pieces = n + #items, pieces + 1
    until not from
    assert.equal(5, n)
    assert.equal(3, pieces)
    local _, err = fae.kv.get_many { "{t}1", "{t}2", "{t}3", "{t}4" }
    assert.equal("LIMIT", err.code)
    assert(db:exec "DELETE FROM fae_kv")
  end)
  it("counts at its ends", function()
    fae.kv.set("n", "-9223372036854775808")
    assert.equal("-9223372036854775807", tostring(fae.kv.incr "n"):match "^-?%d+")
    fae.kv.set("n", "-9223372036854775808")
    assert.equal("LIMIT", select(2, fae.kv.incr("n", -1)).code)
    fae.kv.set("n", "9223372036854775808")
    assert.equal("BAD_ARGS", select(2, fae.kv.incr "n").code)
    fae.kv.set("n", "9223372036854775807")
    assert.equal(0, fae.kv.incr("n", -9223372036854775807LL))
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
    end
    assert.equal("BAD_ARGS", select(2, fae.kv.scan_all "x").code)
  end)
end)
