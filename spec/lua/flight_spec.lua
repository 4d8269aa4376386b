-- SPDX-License-Identifier: BSD-2-Clause
--
-- Waiting for another's answer: lua/fae/flight.lua, and the gates of fae.core under it.
local fae = require "fae"
local core = require "fae.core"
local flight = setfenv(assert(loadfile "spec/lua/mysql_fake.lua"), getfenv(1))().load "fae.flight"

describe("a gate", function()
  it("lets all go on who wait, in order, and nobody who comes later", function()
    local gate, order = core.gate(), {}
    local function wait(i)
      return function()
        assert.is_true(core.gate_wait(gate, 5000))
        order[#order + 1] = i
        return true
      end
    end
    local _, errors = fae.parallel { wait(1), wait(2), wait(3), function()
      fae.sleep(5)
      return core.gate_open(gate)
    end }
    assert.is_nil(errors)
    assert.same({ 1, 2, 3 }, order)
    assert.equal(0, core.gate_open(gate))
    assert.is_false(core.gate_wait(gate, 5))
  end)
  it("is not waited at for longer than was said", function()
    local begin = fae.time.monotonic_us()
    assert.is_false(core.gate_wait(core.gate(), 20))
    assert.is_true(fae.time.monotonic_us() - begin >= 19000)
  end)
  it("may go while somebody waits", function()
    local results = fae.parallel { function() return core.gate_wait(core.gate(), 30) == false end, function()
      fae.sleep(5)
      collectgarbage()
      return true
    end }
    assert.same({ true, true }, results)
  end)
  it("takes no nonsense", function()
    for _, ms in ipairs { -1, 1e9, 0 / 0 } do assert.has_error(function() core.gate_wait(core.gate(), ms) end) end
    assert.has_error(function() core.gate_wait({}, 1) end)
    assert.has_error(function() core.gate_open(io.stdout) end)
  end)
end)

describe("fae.flight", function()
  local flights, n
  before_each(function() flights, n = {}, 0 end)

  local function slowly(value, err)
    n = n + 1
    fae.sleep(10)
    return value, err
  end

  local function many(key, tag, ...)
    local args, fns = { ... }, {}
    for i = 1, 10 do fns[i] = function() return flight.run(flights, key, tag, slowly, unpack(args, 1, 2)) end end
    return fae.parallel(fns)
  end

  it("asks once, and gives everybody the answer", function()
    local results = many("k", 1, "v")
    assert.equal(1, n)
    for i = 1, 10 do assert.equal("v", results[i]) end
    assert.same({}, flights)
  end)
  it("gives everybody the error", function()
    local _, errors = many("k", 1, nil, fae.err("BACKEND", "x"))
    assert.equal(1, n)
    for i = 1, 10 do assert.equal("BACKEND", errors[i].code) end
  end)
  it("takes what befell one for no answer", function()
    local _, errors = many("k", 1, nil, fae.err("TIMEOUT", "x"))
    assert.equal(10, n)
    for i = 1, 10 do assert.equal("TIMEOUT", errors[i].code) end
    assert.same({}, flights)
  end)
  it("keeps keys and tags apart", function()
    fae.parallel { function() return flight.run(flights, "a", 1, slowly, 1) end,
      function() return flight.run(flights, "b", 1, slowly, 2) end,
      function() return flight.run(flights, "a", 2, slowly, 3) end,
      function() return flight.run(flights, "a", 2, slowly, 4) end }
    assert.equal(3, n)
    assert.same({}, flights)
  end)
  it("goes on when one raises", function()
    local function raising() slowly() error "a bug" end
    local _, errors = fae.parallel { function() return flight.run(flights, "k", 1, raising) end,
      function() return flight.run(flights, "k", 1, slowly, "v") end }
    assert.equal("INTERNAL", errors[1].code)
    assert.is_nil(errors[2])
    assert.same({}, flights)
  end)
end)
