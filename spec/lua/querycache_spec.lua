-- SPDX-License-Identifier: BSD-2-Clause
--
-- Cached results (lua/fae/querycache.lua) over the real cache of the node: what is kept, and that nothing stale is,
-- whichever way reads and writes cross. Two loaded modules are two workers.
local fae = require "fae"
local store = require("fae.lcache").open "query_cache"
local fakes = setfenv(assert(loadfile "spec/lua/mysql_fake.lua"), getfenv(1))()
local here, there = fakes.load "fae.querycache", fakes.load "fae.querycache"

local function rows(n) return fakes.result("id", { { n } }) end

local function value(result) return result.rows[1][1] end

describe("fae.querycache", function()
  local asked, stored -- how often the server was asked, and what it has

  before_each(function()
    asked, stored = 0, 1
    store.del "k"
  end)

  local function ask(ms)
    asked = asked + 1
    local seen = stored
    if ms then
      local ok, err = fae.sleep(ms)
      if not ok then return nil, err end
    end
    return rows(seen)
  end

  local function read(cache, ms, ttl_ms) return cache.read("k", "t", ttl_ms or 0, ask, ms) end

  local function write(n, ms)
    return function()
      if ms then fae.sleep(ms) end
      stored = n
      return fakes.result("", {}, 1)
    end
  end

  it("keeps a result, for all workers", function()
    assert.equal(1, value(read(here)))
    stored = 2
    local result, cached = read(here)
    assert.equal(1, value(result))
    assert.is_true(cached)
    assert.same({ "id" }, result.cols)
    assert.equal(1, value(read(there)))
    assert.equal(1, asked)
  end)

  it("keeps every kind of value as it was, and no rows too", function()
    local odd = fakes.result("a b", { { fae.null, "\0\255" }, { 2 ^ 53, 1.5 }, { 9223372036854775807LL, "" } })
    assert(here.read("k", "t", 0, function() return odd end))
    local result = here.read("k", "t", 0, error)
    assert.same(odd.cols, result.cols)
    assert.equal(3, #result.rows)
    assert.equal(fae.null, result.rows[1][1])
    assert.equal("\0\255", result.rows[1][2])
    assert.equal(1.5, result.rows[2][2])
    assert.is_true(result.rows[3][1] == 9223372036854775807LL)
    here.evict "k"
    assert(here.read("k", "t", 0, function() return fakes.result("a", {}) end))
    assert.same({}, here.read("k", "t", 0, error).rows)
  end)

  it("forgets when its time is over", function()
    read(here, nil, 30)
    stored = 2
    local begin = fae.time.monotonic_us()
    while value(read(here, nil, 30)) == 1 do
      assert.is_true(fae.time.monotonic_us() - begin < 5e6)
      fae.sleep(5)
    end
  end)

  it("keeps no errors", function()
    local _, err = here.read("k", "t", 0, function() return nil, fakes.backend_error(1064) end)
    assert.equal("BACKEND", err.code)
    assert.equal(1, value(read(here)))
    assert.equal(1, value(read(there)))
    assert.equal(1, asked)
  end)

  it("forgets at a write, and tells what the write gave", function()
    read(here)
    assert.equal(1, there.write("k", "t", write(2)).affected)
    assert.equal(2, value(read(here)))
    assert.equal(2, asked)
  end)

  it("keeps nothing that a write has overtaken, whoever wrote", function()
    for _, writer in ipairs { here, there } do
      stored = 1
      here.evict "k"
      local got = fae.parallel { function() return read(here, 30) end, function()
        fae.sleep(10)
        return writer.write("k", "t", write(2))
      end }
      assert.equal(1, value(got[1])) -- it asked before
      assert.equal(2, value(read(here)))
      assert.equal(2, value(read(there)))
    end
  end)

  it("keeps nothing while a write is under way", function()
    fae.parallel { function() return here.write("k", "t", write(2, 40)) end, function()
      fae.sleep(5)
      assert.equal(1, value(read(here)))
      assert.equal(1, value(read(there, 10)))
      assert.equal(1, value(read(there)))
      assert.equal(3, asked)
      return true
    end }
    assert.equal(2, value(read(there)))
  end)

  it("lets two writes cross", function()
    fae.parallel { function() return here.write("k", "t", write(2, 10)) end, function()
      return there.write("k", "t", write(3, 40))
    end, function()
      fae.sleep(20) -- one is through, the other is not
      assert.equal(2, value(read(here)))
      return true
    end }
    assert.equal(3, value(read(here)))
    assert.equal(3, value(read(there)))
  end)

  it("keeps nothing after a write of which nobody knows", function()
    for _, code in ipairs { "UNKNOWN", "TIMEOUT", "CANCELLED" } do
      store.del "k"
      local _, err = here.write("k", "t", function() return nil, fae.err(code, "x") end)
      assert.equal(code, err.code)
      asked = 0
      read(here)
      read(there)
      assert.equal(2, asked)
      there.write("k", "t", write(2)) -- one that is known of changes nothing: the other may still come
      read(here)
      read(here)
      assert.equal(4, asked)
      assert.is_false(here.evict "k")
    end
  end)

  it("goes on after a write that failed for sure", function()
    here.write("k", "t", function() return nil, fakes.backend_error(1062) end)
    read(here)
    read(here)
    assert.equal(1, asked)
  end)

  it("does not mind when entries are pushed out in between", function()
    local got = fae.parallel { function() return read(here, 30) end, function()
      fae.sleep(10)
      store.del "k" -- the mark of the read
      return here.write("k", "t", function()
        stored = 2
        store.del "k" -- that of the write
        return rows(0)
      end)
    end }
    assert.equal(1, value(got[1]))
    assert.equal(2, value(read(here)))
  end)

  it("asks once for a hundred reads at a time", function()
    local fns = {}
    for i = 1, 100 do fns[i] = function() return read(here, 20) end end
    local got = fae.parallel(fns)
    for i = 1, 100 do assert.equal(1, value(got[i])) end
    assert.equal(1, asked)
  end)

  it("lets a read that comes after a write not join one from before", function()
    local second
    fae.parallel { function() return read(here, 40) end, function()
      fae.sleep(10)
      there.write("k", "t", write(2))
      second = value(read(here, 5))
      return true
    end }
    assert.equal(2, second)
    assert.equal(2, value(read(here)))
  end)

  it("waits a little for another worker's answer, and not for ever", function()
    local got = fae.parallel { function() return read(here, 10) end, function()
      fae.sleep(2)
      return read(there)
    end }
    assert.equal(1, value(got[2]))
    assert.equal(1, asked)
    here.evict "k"
    got = fae.parallel { function() return read(here, 300) end, function()
      fae.sleep(2)
      return read(there)
    end }
    assert.equal(1, value(got[2]))
    assert.equal(3, asked)
  end)

  it("asks again when the one that asked was ended", function()
    local calls = 0
    local function ended_once()
      calls = calls + 1
      fae.sleep(10)
      if calls == 1 then return nil, fae.err("CANCELLED", "its client hung up") end
      return rows(7)
    end
    local function one() return here.read("k", "t", 0, ended_once) end
    local got, errors = fae.parallel { one, one, one }
    assert.equal("CANCELLED", errors[1].code)
    assert.equal(7, value(got[2]))
    assert.equal(7, value(got[3]))
    assert.equal(2, calls)
  end)

  it("frees the key when the one that asked raises", function()
    assert.has_error(function() here.read("k", "t", 0, error, "a bug") end)
    assert.equal(1, value(read(here)))
  end)

  it("does without keeping what is too large", function()
    local big = fakes.result("a", { { ("x"):rep(1048576) } })
    local function give() return big end
    assert.equal(1048576, #value(here.read("k", "t", 0, give)))
    assert.equal(1048576, #value(here.read("k", "t", 0, give)))
    assert.equal(1, value(read(here)))
  end)

  it("takes no nonsense for a value", function()
    for _, text in ipairs { "\130", "\130\1", "\130\161a\1\161b\1", "\130\193\193", "x", "", "\144" } do
      store.set("k", text)
      assert.equal(1, value(read(here)), text)
    end
  end)

  it("counts what is too large, once a time that it was read", function()
    local chunk = require("fae.builtin")["lua/fae/querycache.lua"]
    local counted = {}
    local core = setmetatable({
      metric = function() return { inc = function(_, n, table, what) counted[table .. " " .. what] = n end } end,
    }, { __index = require "fae.core" })
    local cache = assert(load(chunk, "@querycache.lua", "t", setmetatable({
      require = function(name) return name == "fae.core" and core or require(name) end }, { __index = _G })))()
    local big = fakes.result("a", { { ("x"):rep(1048576) } })
    for _ = 1, 3 do assert.equal(big, cache.read("k", "t", 0, function() return big end)) end
    cache.tell()
    assert.same({ ["t miss"] = 3, ["t large"] = 3 }, counted)
  end)

  it("evicts", function()
    assert.is_false(here.evict "k")
    read(here)
    assert.is_true(there.evict "k")
    read(here)
    assert.equal(2, asked)
  end)

  it("refuses keys that are too long", function()
    local long = ("k"):rep(1001)
    for _, fn in ipairs { here.read, here.write } do
      local _, err = fn(long, "t", 0, error)
      assert.equal("LIMIT", err.code)
    end
    assert.equal("LIMIT", select(2, here.evict(long)).code)
  end)

  it("asks the server each time where there is no cache for it", function()
    local core = setmetatable({ cache = function() end }, { __index = require "fae.core" })
    local function without(name)
      if name == "fae.core" then return core end
      if name ~= "fae.lcache" then return require(name) end
      return { open = function() return setmetatable({}, { __index = function() error "it was used" end }) end }
    end
    local off = assert(load(require("fae.builtin")["lua/fae/querycache.lua"], "@querycache.lua", "t",
      setmetatable({ require = without }, { __index = _G })))()
    for i = 1, 3 do
      assert.equal(1, value(read(off)))
      assert.equal(i, asked)
    end
    assert.equal(1, off.write("k", "t", write(2)).affected)
    assert.equal(2, value(read(off)))
    assert.equal("UNKNOWN", select(2, off.write("k", "t", function() return nil, fae.err("UNKNOWN", "x") end)).code)
    assert.is_nil(off.peek("k", "t"))
    assert.is_false(off.evict "k")
    for _, fn in ipairs { off.read, off.write } do
      assert.equal("LIMIT", select(2, fn(("k"):rep(1001), "t", 0, error)).code)
    end
  end)

  it("shows nothing stale in a thousand random crossings", function()
    -- Every task says what it must see at least: the last write that was through before it began.
    local seed, done = 7, 0
    local function random(n)
      seed = seed * 16807 % 2147483647
      return seed % n
    end
    stored = 0
    local fns, n = {}, os.getenv "FAE_TEST_GC" and 60 or 1000
    for i = 1, n do
      local cache, pause, ms, writes = random(2) == 0 and here or there, random(200), random(8), random(5) == 0
      fns[i] = function()
        fae.sleep(pause)
        if writes then
          return cache.write("k", "t", function()
            fae.sleep(ms)
            stored = stored + 1
            local mine = stored
            fae.sleep(ms)
            if mine > done then done = mine end
            return rows(0)
          end)
        end
        local least = done
        local got = value(read(cache, ms))
        if got < least then error(("read %d after %d was written"):format(got, least)) end
        return true
      end
    end
    local _, errors = fae.parallel(fns)
    assert.is_nil(errors and errors[next(errors)])
    assert.equal(stored, value(read(here)))
  end)
end)
