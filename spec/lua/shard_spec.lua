-- SPDX-License-Identifier: BSD-2-Clause
--
-- Where entities lie: lua/fae/shard.lua over a fake of mysql.
local fae = require "fae"
local fakes = setfenv(assert(loadfile "spec/lua/mysql_fake.lua"), getfenv(1))()

local function standard(over)
  local row = { name = "UserShard", strategy = "standard", lookup_pool = "Lookup", lookup_table = "db.shards" }
  for k, v in pairs(over or {}) do row[k] = v end
  return row
end

describe("fae.shard", function()
  local fake, shard

  local function with(shards, pools, answer)
    local mysql = {}
    for name in (pools or ""):gmatch "%S+" do mysql[#mysql + 1] = { name = name } end
    fake = fakes.new { sections = { shard = shards, mysql = mysql }, answer = answer }
    shard = fakes.load "fae.shard"
  end

  after_each(function()
    for i = 1, 30 do fae.cache.del("\0my:shard:UserShard:" .. i) end
    fake.remove()
  end)

  local function refused(code, text, pool, hint)
    local name, err = shard.pick(pool, hint)
    assert.is_nil(name)
    assert.equal(code, err.code)
    assert.truthy(err.message:find(text, 1, true), err.message)
  end

  it("hashes as fae and PHP did", function()
    with({})
    assert.equal(0x0d4a1185, shard.crc32 "hello world")
    assert.equal(0, shard.crc32 "")
    assert.equal(3421780262, shard.crc32 "123456789")
    assert.equal(933, shard.bucket "user:1")
    assert.equal(684, shard.bucket "user:2")
  end)

  it("leaves a global pool what it is, whatever the hint", function()
    with({})
    for _, hint in ipairs { 0, 5, "x" } do assert.equal("Global", shard.pick("Global", hint)) end
    assert.equal("Global", shard.pick("Global", nil))
    assert.is_false(shard.is_sharded "Global")
  end)

  describe("standard", function()
    it("asks the lookup table once a second", function()
      with({ standard() }, "", function() return fakes.result("shardId shardLock", { { 7, 0 } }) end)
      assert.equal("UserShard7", shard.pick("UserShard", 1))
      assert.equal("UserShard7", shard.pick("UserShard", 1))
      assert.equal("UserShard7", shard.pick("UserShard", "1"))
      assert.equal(1, #fake.log)
      assert.same({ pool = "Lookup", sql = "select shardId, shardLock from `db`.`shards` where entityId = ?", n = 1,
        args = { 1 }, replica = false }, fake.log[1])
      assert.is_true(shard.is_sharded "UserShard")
    end)
    it("sees a lock when its time to live is over", function()
      local lock = 0
      with({ standard { lookup_ttl_ms = 50 } }, "",
        function() return fakes.result("shardId shardLock", { { 7, lock } }) end)
      assert.equal("UserShard7", shard.pick("UserShard", 2))
      lock = 1
      local begin = fae.time.monotonic_us()
      while shard.pick("UserShard", 2) do
        assert.is_true(fae.time.monotonic_us() - begin < 5e6)
        fae.sleep(5)
      end
      refused("LOCKED", "entity being locked: UserShard 2", "UserShard", 2)
      lock = fae.null
      assert.equal("UserShard7", shard.pick("UserShard", 2)) -- what is locked is not kept
    end)
    it("counts the time that the lookup took", function()
      with({ standard { lookup_ttl_ms = 20 } }, "", function()
        fae.sleep(25)
        return fakes.result("shardId shardLock", { { 7, 0 } })
      end)
      shard.pick("UserShard", 3)
      shard.pick("UserShard", 3)
      assert.equal(2, #fake.log)
    end)
    it("refuses what there is none of", function()
      local rows = {}
      with({ standard() }, "", function() return fakes.result("shardId shardLock", rows) end)
      refused("NOT_FOUND", "shard lookup fails: UserShard has no entity 4", "UserShard", 4)
      rows = { { fae.null, 0 } }
      refused("NOT_FOUND", "shard lookup fails", "UserShard", 4)
      for _, hint in ipairs { 0, "0", "", 0LL, 1.5, 0 / 0, true, ("x"):rep(501) } do
        refused("BAD_ARGS", "hintId=0?", "UserShard", hint)
      end
      refused("BAD_ARGS", "hintId=0?", "UserShard", nil)
    end)
    it("passes on what the lookup failed of", function()
      with({ standard() }, "", function() return nil, fae.err("CIRCUIT_OPEN", "mysql Lookup: shut") end)
      refused("CIRCUIT_OPEN", "mysql Lookup: shut", "UserShard", 5)
    end)
    it("takes ids of 64 bits, and texts", function()
      with({ standard() }, "", function() return fakes.result("shardId shardLock", { { "x1", fae.null } }) end)
      assert.equal("UserShardx1", shard.pick("UserShard", 9223372036854775807LL))
      assert.equal(9223372036854775807LL, fake.log[1].args[1])
      assert.equal("UserShardx1", shard.pick("UserShard", "a text"))
      assert.equal("a text", fake.log[2].args[1])
      assert.is_true(shard.forget("UserShard", "9223372036854775807"))
      assert.is_true(shard.forget("UserShard", "a text"))
    end)
    it("forgets when it is told to, and when the pool fails", function()
      with({ standard() }, "", function() return fakes.result("shardId shardLock", { { 7, 0 } }) end)
      shard.pick("UserShard", 6)
      assert.is_true(shard.forget("UserShard", 6))
      assert.is_false(shard.forget("UserShard", 6))
      assert.is_false(shard.forget("Global", 6))
      for i, err in ipairs { fae.err("UNAVAILABLE", "x"), fae.err("UNKNOWN_POOL", "x"), fae.err("TIMEOUT", "x"),
        fakes.backend_error(1146) } do
        shard.pick("UserShard", 6)
        assert.equal(i + 1, #fake.log)
        shard.failed("UserShard", 6, err)
      end
      shard.pick("UserShard", 6)
      shard.failed("UserShard", 6, fakes.backend_error(1062))
      shard.failed("UserShard", 6, fae.err("BAD_ARGS", "x"))
      shard.failed("Global", 6, fae.err("TIMEOUT", "x"))
      shard.pick("UserShard", 6)
      assert.equal(6, #fake.log)
    end)
    it("asks once for many who want to know at a time", function()
      with({ standard() }, "", function()
        fae.sleep(20)
        return fakes.result("shardId shardLock", { { 7, 0 } })
      end)
      local fns = {}
      for i = 1, 50 do fns[i] = function() return shard.pick("UserShard", 7) end end
      local names, errors = fae.parallel(fns)
      assert.is_nil(errors)
      for i = 1, 50 do assert.equal("UserShard7", names[i]) end
      assert.equal(1, #fake.log)
    end)
  end)

  it("spreads by hash as PHP would", function()
    with({ { name = "H", strategy = "hash", pools = "A B C" } })
    local names = { [0] = "A", "B", "C" }
    for _, hint in ipairs { 1, 2, 17, 123456 } do
      assert.equal(names[shard.crc32(tostring(hint)) % 3], shard.pick("H", hint))
    end
    assert.equal(shard.pick("H", 17), shard.pick("H", "17"))
    refused("BAD_ARGS", "hintId=0?", "H", 0)
  end)

  it("spreads by buckets, as a map says or round robin", function()
    with({ { name = "V", strategy = "vbucket", map = "0-683=A 684=B 685-1023=C" },
      { name = "W", strategy = "vbucket", pools = "X Y" } })
    assert.equal("C", shard.pick("V", "user:1"))
    assert.equal("B", shard.pick("V", "user:2"))
    assert.equal("Y", shard.pick("W", "user:1"))
    assert.equal("X", shard.pick("W", "user:2"))
    assert.same({ "A", "B", "C" }, shard.members "V")
    assert.same({ "X", "Y" }, shard.members "W")
  end)

  it("knows which pools belong together, exactly", function()
    with({ standard { name = "User" }, { name = "H", strategy = "hash", pools = "B A B" } },
      "User User2 User1 User10 UserLog1 User1x XUser1 Users1 Global")
    assert.same({ "User1", "User2", "User10" }, shard.members "User")
    assert.same({ "Global" }, shard.members "Global")
    assert.same({ "UserLog1" }, shard.members "UserLog1")
    assert.same({ "A", "B" }, shard.members "H")
    assert.same({}, shard.members "None")
  end)
end)
