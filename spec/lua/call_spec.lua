-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.call and the call object. What a client sees of both is in spec/e2e.
local fae = require "fae"
local core = require "fae.core"
local testing = require "fae.testing"

local call = core.call

describe("the call object, outside of any call", function()
  it("knows nothing of a client", function()
    for field in ("rid reason uid traceparent token sticky roles who method session peer nonsense"):gmatch "%S+" do
      assert.is_nil(call[field], field)
    end
    assert.equal(1, call.generation)
    assert.is_nil(call:time_left())
  end)
  it("cannot be changed or opened", function()
    assert.has_error(function() call.rid = 1 end)
    assert.has_error(function() call.method = 1 end)
    assert.equal("call", getmetatable(call))
    assert.has_error(function() return #call end)
    assert.has_error(function() return call[{}] end)
  end)
  it("answers in a coroutine of one's own", function()
    assert.equal(1, coroutine.wrap(function() return call.generation end)())
  end)
end)

describe("fae.call", function()
  it("gives what the method gives", function()
    assert.equal("Hello, fae!", (fae.call("hello.greet", "fae")))
    assert.equal("Hello, world!", (fae.call "hello.greet"))
    local value = { 1, { x = fae.null } }
    assert.equal(value, (fae.call("sys.echo", value))) -- the very table: nothing is encoded
    assert.equal(false, (fae.call("sys.noop", false)))
    assert.is_nil((fae.call "sys.noop"))
    assert.is_nil(select(2, fae.call "sys.noop"))
  end)
  it("checks the arguments", function()
    local function refused(text, ...)
      local value, err = fae.call(...)
      assert.is_nil(value)
      assert.equal("BAD_ARGS", err.code)
      assert.equal(text, err.message)
    end
    refused("argument 1 of hello.greet must be string, not map", "hello.greet", { a = 1 })
    refused("argument 1 of hello.greet must be string, not array", "hello.greet", {})
    refused("argument 1 of hello.greet must be string, not boolean", "hello.greet", true)
    refused("argument 1 of hello.greet must be string, not nil", "hello.greet", fae.null)
    refused("argument 1 of hello.greet must be string, not number", "hello.greet", 1.5)
    refused("argument 1 of hello.greet must be string, not bin", "hello.greet", fae.bin "x")
    refused("argument 1 of sys.ctx must be map, not ext", "sys.ctx", fae.ext(1, ""))
    refused("hello.greet takes 1 argument, not 2", "hello.greet", "a", "b")
    refused("sys.time takes 0 arguments, not 1", "sys.time", nil)
    assert.equal("Hello, world!", (fae.call("hello.greet", nil)))
  end)
  it("goes by the name, and says which is near", function()
    local _, err = fae.call "helo.greet"
    assert.equal('UNKNOWN_METHOD: no method "helo.greet": did you mean hello.greet?', tostring(err))
    _, err = fae.call "what.ever.is.this"
    assert.equal('UNKNOWN_METHOD: no method "what.ever.is.this"', tostring(err))
    _, err = fae.call ""
    assert.equal("UNKNOWN_METHOD", err.code)
    _, err = fae.call(("x"):rep(1000))
    assert.equal("UNKNOWN_METHOD", err.code)
    assert.has_error(function() fae.call() end, "fae.call takes a method's name")
    assert.has_error(function() fae.call {} end, "fae.call takes a method's name")
  end)
  it("finds aliases", function()
    assert.equal(5, (fae.call("noop", 5)))
    assert.matches("^ver:", (fae.call "ping"))
  end)
end)

describe("fae.call of methods that go wrong", function()
  local servants = testing.load { ["servants/odd.lua"] = [[
    local fae = require "fae"
    local odd = fae.servant "odd"
    odd.method("raise", function(_, what) error(what, 0) end)
    odd.method("refuse", function() return nil, fae.err("NOT_FOUND", "no such thing") end)
    odd.method("deep", function() local function f() return 1 + f() end return f() end)
    odd.method("nasty", function()
      error(setmetatable({}, { __tostring = function() error "no" end, __index = function() error "no" end }))
    end)
    odd.method("sleep", function(_, ms) return fae.sleep(ms) end)
    odd.method("second", function() return 1, 2 end)
    odd.method("twice", function(_, name, ...) return fae.call(name, ...) end)
  ]] }
  assert.same({}, servants.errors)
  local function twice(...) return servants.call("odd.twice", ...) end

  it("an err stays what it is", function()
    local value, err = twice "odd.refuse"
    assert.is_nil(value)
    assert.equal("NOT_FOUND: no such thing", tostring(err))
    local raised = fae.err("MINE", "on purpose")
    value, err = twice("odd.raise", raised)
    assert.is_nil(value)
    assert.equal(raised, err)
    err = select(2, twice("odd.raise", { code = "PLAIN", message = "table" }))
    assert.equal("PLAIN", err.code)
  end)
  it("anything else raised is INTERNAL", function()
    local err
    local cases = { { "text", "text" }, { {}, "the error object is a table" }, { 5, "the error object is a number" },
      { false, "the error object is a boolean" }, { print, "the error object is a function" } }
    for _, case in ipairs(cases) do
      err = select(2, twice("odd.raise", case[1]))
      assert.equal("INTERNAL: " .. case[2], tostring(err))
    end
    err = select(2, twice "odd.raise")
    assert.equal("INTERNAL: the error object is a nil", tostring(err))
    err = select(2, twice "odd.nasty")
    assert.equal("INTERNAL: the error object is a table", tostring(err))
  end)
  it("a recursion without end is one failed call", function()
    for _ = 1, 3 do
      local value, err = twice "odd.deep"
      assert.is_nil(value)
      assert.equal("INTERNAL", err.code)
    end
  end)
  it("a method may wait, and only its first value counts", function()
    assert.is_true((twice("odd.sleep", 1)))
    assert.equal(1, select("#", (twice "odd.second")))
    assert.equal(1, (twice "odd.second"))
    local value, err = twice("odd.sleep", -1)
    assert.is_nil(value)
    assert.matches("milliseconds, from 0 to a day", err.message)
  end)
  it("the same holds in fae.parallel", function()
    local results, errors = fae.parallel {
      function() error {} end,
      function() error() end,
      function() return servants.call "odd.deep" end,
      function() return servants.call "odd.nasty" end,
      function() return 5 end,
    }
    assert.same({ [5] = 5 }, results)
    for i = 1, 4 do assert.equal("INTERNAL", errors[i].code, "of " .. i) end
  end)
end)
