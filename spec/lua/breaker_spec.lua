-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.breaker: what opens one, what it lets through, and what its options mean.
local fae = require "fae"
local testing = require "fae.testing"

local n_names = 0
local function new(options)
  n_names = n_names + 1
  return fae.breaker("spec-" .. n_names, options)
end

local function answer(...) return ... end
local function fail(code) return nil, fae.err(code, "as told") end

local function code(value, err)
  assert.is_nil(value)
  return err.code
end

local function open(b)
  while b:state() == "closed" do b:call(fail, "TIMEOUT") end
  assert.equal("open", b:state())
end

describe("fae.breaker", function()
  it("gives what the function returned", function()
    local b = new()
    assert.equal(7, (b:call(answer, 7)))
    assert.is_false((b:call(answer, false)))
    local value, err = b:call(answer, nil)
    assert.is_nil(value)
    assert.is_nil(err)
    value, err = b:call(answer, nil, "no err of ours")
    assert.is_nil(value)
    assert.equal("no err of ours", err)
    assert.equal("NOT_FOUND", code(b:call(fail, "NOT_FOUND")))
    assert.equal(3, (b:call(function(...) return select("#", ...) end, nil, 1, nil)))
    assert.equal("closed", b:state())
  end)
  it("opens when too many calls fail, and then runs nothing", function()
    local b = new { percent = 50, calls = 4, open_ms = 600000 }
    for _ = 1, 2 do assert.equal(1, (b:call(answer, 1))) end
    for _ = 1, 2 do assert.equal("TIMEOUT", code(b:call(fail, "TIMEOUT"))) end
    assert.equal("open", b:state())
    local ran = false
    local value, err = b:call(function() ran = true end)
    assert.is_nil(value)
    assert.equal("CIRCUIT_OPEN", err.code)
    assert.matches("^servant spec%-%d+: ", err.message)
    assert.is_true(err.retryable)
    assert.is_true(err.retry_after_ms > 500000 and err.retry_after_ms <= 600000)
    assert.is_false(ran)
  end)
  it("counts trouble of the other side alone", function()
    for _, word in ipairs { "TIMEOUT", "UNKNOWN", "OVERLOAD", "CONGESTED", "BUSY", "DRAINING", "WORKER_LOST", "CLOSED",
      "CIRCUIT_OPEN", "POOL_BUSY", "SYSTEM", "INTERNAL", "UNAVAILABLE" } do
      local b = new { calls = 3 }
      for _ = 1, 3 do assert.equal(word, code(b:call(fail, word))) end
      assert.equal("open", b:state(), word)
    end
    for _, word in ipairs { "NOT_FOUND", "BAD_ARGS", "BACKEND", "FORBIDDEN", "CANCELLED", "RELOADED", "MY_OWN" } do
      local b = new { calls = 3, refusals = 1 }
      for _ = 1, 6 do assert.equal(word, code(b:call(fail, word))) end
      assert.equal("closed", b:state(), word)
    end
  end)
  it("opens when it is refused a few times in a row", function()
    local b = new { refusals = 3, calls = 1000 }
    for _ = 1, 2 do b:call(fail, "UNAVAILABLE") end
    b:call(answer, 1)
    for _ = 1, 2 do b:call(fail, "UNAVAILABLE") end
    assert.equal("closed", b:state())
    b:call(fail, "UNAVAILABLE")
    assert.equal("open", b:state())
  end)
  it("takes what is raised for a failure, and an err that is raised for what it says", function()
    local b = new { calls = 2 }
    assert.equal("NOT_FOUND", code(b:call(error, fae.err("NOT_FOUND", "x"))))
    assert.equal("NOT_FOUND", code(b:call(error, fae.err("NOT_FOUND", "x"))))
    assert.equal("closed", b:state())
    local value, err = b:call(function() local nothing = nil; return nothing.x end)
    assert.is_nil(value)
    assert.equal("INTERNAL", err.code)
    assert.matches("attempt to index", err.message)
    b:call(error, "again")
    assert.equal("open", b:state())
  end)
  it("lets options.fails decide", function()
    local b = new { calls = 2, fails = function(err) return err == "down" end }
    for _ = 1, 4 do assert.equal("TIMEOUT", code(b:call(fail, "TIMEOUT"))) end
    assert.equal("closed", b:state())
    for _ = 1, 4 do b:call(answer, nil, "down") end
    assert.equal("open", b:state())
    b = new { calls = 2, fails = function() error "a bug of its own" end } -- then the usual rule counts
    for _ = 1, 2 do assert.equal("TIMEOUT", code(b:call(fail, "TIMEOUT"))) end
    assert.equal("open", b:state())
  end)
  it("is tried again, three calls at a time, and closes after as many", function()
    local b = new { calls = 2, open_ms = 10 }
    open(b)
    fae.sleep(12)
    local release, n = false, 0
    local function probe()
      n = n + 1
      while not release do fae.sleep(1) end
      return true
    end
    local first, second, third, fourth
    fae.parallel {
      function() first = b:call(probe) end,
      function() second = b:call(probe) end,
      function() third = b:call(probe) end,
      function()
        assert.equal("half-open", b:state())
        local _, err = b:call(probe)
        fourth = err.code
        release = true
      end,
    }
    assert.equal(3, n)
    assert.is_true(first and second and third)
    assert.equal("CIRCUIT_OPEN", fourth)
    assert.equal("closed", b:state())
  end)
  it("opens again for one failure when it is tried", function()
    local b = new { calls = 2, open_ms = 10 }
    open(b)
    fae.sleep(12)
    assert.equal("TIMEOUT", code(b:call(fail, "TIMEOUT")))
    assert.equal("open", b:state())
  end)
  it("never opens at 0 percent", function()
    local b = new { percent = 0, calls = 1, refusals = 1 }
    for _ = 1, 50 do b:call(fail, "UNAVAILABLE") end
    assert.equal("closed", b:state())
  end)
  it("is one for all who use its name, inside each other too", function()
    local a, b = fae.breaker("spec-shared", { calls = 2 }), fae.breaker("spec-shared", { calls = 2 })
    assert.equal(5, (a:call(function() return (b:call(answer, 5)) end)))
    open(a)
    assert.equal("open", b:state())
    assert.equal("CIRCUIT_OPEN", code(b:call(answer, 1)))
  end)
  it("forgets a call whose coroutine outlives its task", function()
    local b = new { calls = 1, open_ms = 10 }
    open(b)
    fae.sleep(12)
    local co
    fae.parallel { function()
      co = coroutine.create(function() return b:call(function() coroutine.yield() return fail "TIMEOUT" end) end)
      assert.is_true(coroutine.resume(co))
    end }
    assert.equal("half-open", b:state())
    local _, value, err = coroutine.resume(co)
    assert.equal("TIMEOUT", code(value, err))
    assert.equal("half-open", b:state()) -- the task ended before, and with it the probe
  end)
  it("raises what is wrong with its use", function()
    for _, wrong in ipairs { false, "", "a b", "a/b", ("x"):rep(101) } do
      assert.error_matches(function() fae.breaker(wrong) end, "fae.breaker takes a name")
    end
    assert.error_matches(function() new(7) end, "options must be a table")
    assert.error_matches(function() new { percents = 1 } end, 'no option "percents"; did you mean "percent"')
    assert.error_matches(function() new { percent = 101 } end, "percent must be a number, 0 to 100")
    assert.error_matches(function() new { open_ms = "1" } end, "open_ms must be a number, 10 to 600000")
    assert.error_matches(function() new { calls = 0 / 0 } end, "calls must be a number")
    assert.error_matches(function() new { fails = true } end, "fails must be a function")
    assert.error_matches(function() new():call(7) end, "breaker:call takes a function")
    assert.error_matches(function() new().call({}, print) end, "that is no breaker")
  end)
  it("has an end to its names, per generation", function()
    local g = testing.load { ["servants/x.lua"] = [[
      local fae = require "fae"
      local s = fae.servant "s"
      for i = 1, 128 do fae.breaker("many-" .. i) end
      fae.breaker "many-1"
      s.method("more", function() return fae.breaker "one-more" end)]] }
    assert.same({}, g.errors)
    assert.error_matches(function() g.call "s.more" end, "there are 128 others")
  end)
end)
