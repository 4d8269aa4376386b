-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.sleep, spawn, parallel, timer, call: what runs and waits.
local fae = require "fae"

describe("fae.sleep", function()
  it("waits as long as asked and little longer", function()
    for i = 1, 20 do
      local t = fae.time.monotonic_us()
      repeat until fae.time.monotonic_us() - t > i * 200 -- begin anywhere within a step of the kernel's clock
      fae.spawn(fae.sleep, 2) -- the loop wakes on the way, and reads that clock
      t = fae.time.monotonic_us()
      assert.is_true(fae.sleep(5.5))
      local waited = tonumber(fae.time.monotonic_us() - t) / 1000
      assert.is_true(waited >= 5.5 and waited < 500, "waited " .. waited .. " ms")
    end
  end)
  it("waits from now, however long the turn took so far", function()
    fae.sleep(1) -- from here on it runs in a callback of the loop
    local t = fae.time.monotonic_us()
    repeat until fae.time.monotonic_us() - t > 30000
    t = fae.time.monotonic_us()
    fae.sleep(20)
    assert.is_true(fae.time.monotonic_us() - t >= 20000, fae.time.monotonic_us() - t .. " us")
  end)
  it("refuses what is no time", function()
    assert.has_error(function() fae.sleep(-1) end)
    assert.has_error(function() fae.sleep "x" end)
    assert.has_error(function() fae.sleep(0 / 0) end)
    assert.has_error(function() fae.sleep(1e12) end)
  end)
  it("says so in places that cannot wait", function()
    local ok, err = pcall(table.sort, { 3, 2, 1 }, function() return fae.sleep(1) end)
    assert.is_false(ok)
    assert.matches("cannot be called from inside a C function", err)
    ok, err = coroutine.resume(coroutine.create(function() fae.sleep(1) end))
    assert.is_false(ok)
    assert.matches("use fae.spawn or fae.parallel", err)
    ok, err = pcall(string.gsub, "abc", "%w", function() fae.sleep(1) end)
    assert.is_false(ok)
    assert.matches("inside a C function", err)
  end)
  it("waits inside pcall, iterators and metamethods that are Lua", function()
    assert.same({ true, true }, { pcall(fae.sleep, 1) })
    local mt = setmetatable({}, { __index = function() fae.sleep(1) return "slept" end })
    assert.equal("slept", mt.x)
  end)
end)

describe("fae.parallel", function()
  it("runs side by side and keeps the order", function()
    local t = fae.time.monotonic_us()
    local results, errors = fae.parallel {
      function() fae.sleep(30) return "a" end,
      function() fae.sleep(10) return "b" end,
      function() return "c" end,
    }
    assert.same({ "a", "b", "c" }, results)
    assert.is_nil(errors)
    assert.is_true((fae.time.monotonic_us() - t) / 1000 < 300)
  end)
  it("tells which failed", function()
    local results, errors = fae.parallel {
      function() return nil, fae.err("NOT_FOUND", "no a") end,
      function() error "b" end,
      function() error { code = "MINE", message = "c" } end,
      function() return 4 end,
    }
    assert.equal(4, results[4])
    assert.equal("NOT_FOUND: no a", tostring(errors[1]))
    assert.equal("INTERNAL", errors[2].code)
    assert.matches("task_spec.lua:%d+: b", errors[2].message)
    assert.equal("MINE", errors[3].code)
  end)
  it("nests", function()
    local results = fae.parallel {
      function() return fae.parallel { function() fae.sleep(1) return 1 end, function() return 2 end } end,
      function() return 3 end,
    }
    assert.same({ { 1, 2 }, 3 }, results)
  end)
  it("takes functions only", function()
    assert.has_error(function() fae.parallel(1) end)
    assert.has_error(function() fae.parallel { 1 } end)
    assert.same({}, (fae.parallel {}))
  end)
end)

describe("fae.spawn", function()
  it("runs beside its maker, with arguments", function()
    local seen = {}
    fae.spawn(function(a, b) seen.a, seen.b = a, b end, 1, nil)
    assert.is_nil(seen.a)
    fae.sleep(1)
    assert.equal(1, seen.a)
    assert.is_nil(seen.b)
  end)
  it("survives what a task raises", function()
    fae.spawn(function() error { } end)
    fae.spawn(function() error() end)
    fae.spawn(function() coroutine.yield() end)
    assert.is_true(fae.sleep(1))
  end)
end)

describe("fae.timer", function()
  it("ticks until stopped, never twice at a time", function()
    local n, at_once, most = 0, 0, 0
    local timer = fae.timer(5, function()
      n, at_once = n + 1, at_once + 1
      most = math.max(most, at_once)
      fae.sleep(12)
      at_once = at_once - 1
    end)
    fae.sleep(60)
    assert.is_true(timer:stop())
    assert.is_false(timer:stop())
    local was = n
    fae.sleep(30)
    assert.equal(was, n)
    assert.is_true(n >= 2, "ticks: " .. n)
    assert.equal(1, most)
  end)
end)

describe("fae.call", function()
  it("calls a method here, with its checks", function()
    assert.equal("Hello, fae!", fae.call("hello.greet", "fae"))
    local _, err = fae.call("hello.greet", 1)
    assert.equal("BAD_ARGS: argument 1 of hello.greet must be string, not int", tostring(err))
    _, err = fae.call "hello.greeet"
    assert.equal('UNKNOWN_METHOD: no method "hello.greeet": did you mean hello.greet?', tostring(err))
  end)
end)
