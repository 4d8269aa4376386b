-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.lock and servant lock.
local fae = require "fae"

local n_keys = 0
local function new_key()
  n_keys = n_keys + 1
  return "spec:" .. n_keys
end

local function code(value, err)
  assert.is_nil(value)
  return err.code
end

describe("fae.lock", function()
  it("gives a lock once, until it is released", function()
    local key = new_key()
    local lock = assert(fae.lock.acquire(key))
    assert.equal(key, lock.key)
    assert.matches("^%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x%x$", lock.token)
    assert.equal(10000, lock.lease_ms)
    local none, err = fae.lock.acquire(key)
    assert.is_nil(none)
    assert.equal("LOCKED", err.code)
    assert.is_true(err.retryable)
    assert.is_true(err.detail.held_ms < 5000 and err.detail.expires_in_ms > 5000)
    assert.is_true(fae.lock.release(key, lock.token))
    assert.equal("NOT_OWNER", code(fae.lock.release(key, lock.token)))
    local second = assert(fae.lock.acquire(key))
    assert.is_true(second.fence > lock.fence)
    assert.not_equal(lock.token, second.token)
    assert.is_true(fae.lock.release(key, second.token))
  end)
  it("ends with its lease, and with it the right to renew and release", function()
    local key = new_key()
    local lock = assert(fae.lock.acquire(key, { lease_ms = 20 }))
    fae.sleep(30)
    assert.equal("NOT_OWNER", code(fae.lock.renew(key, lock.token)))
    assert.equal("NOT_OWNER", code(fae.lock.release(key, lock.token)))
    assert.equal("NOT_FOUND", code(fae.lock.info(key)))
    local second = assert(fae.lock.acquire(key, { lease_ms = 60000 }))
    assert.is_true(fae.lock.renew(key, second.token, 300))
    assert.is_true(fae.lock.info(key).expires_in_ms <= 300)
    assert.is_true(fae.lock.renew(key, second.token))
    assert.is_true(fae.lock.info(key).lease_ms == 300)
    assert.is_true(fae.lock.renew(key, second.token, 600000)) -- the disk has to hear of it first
    assert.is_true(fae.lock.info(key).expires_in_ms > 500000)
    assert.is_true(fae.lock.release(key, second.token))
  end)
  it("lets those who wait have it in order", function()
    local key, order = new_key(), {}
    local lock = assert(fae.lock.acquire(key))
    local function wait(i)
      return function()
        local mine = assert(fae.lock.acquire(key, { wait_ms = 5000, reason = "waiter " .. i }))
        order[#order + 1] = i
        assert.equal("waiter " .. i, fae.lock.info(key).reason)
        fae.sleep(1)
        assert.is_true(fae.lock.release(key, mine.token))
        return mine.fence
      end
    end
    local fences, errors = fae.parallel {
      wait(1), wait(2), wait(3),
      function()
        fae.sleep(5)
        assert.equal(3, fae.lock.info(key).waiting)
        assert.is_true(fae.lock.release(key, lock.token))
        assert.equal("LOCKED", code(fae.lock.acquire(key))) -- it is somebody else's already
        return 0
      end,
    }
    assert.is_nil(errors)
    assert.same({ 1, 2, 3 }, order)
    assert.is_true(lock.fence < fences[1] and fences[1] < fences[2] and fences[2] < fences[3])
  end)
  it("gives up waiting after wait_ms, and comes to its turn when a lease is over", function()
    local key = new_key()
    assert(fae.lock.acquire(key, { lease_ms = 120, reason = "somebody" }))
    local t = fae.time.monotonic_us()
    local none, err = fae.lock.acquire(key, { wait_ms = 20 })
    assert.is_nil(none)
    assert.equal("LOCKED", err.code)
    assert.equal("somebody", err.detail.reason)
    assert.is_true(fae.time.monotonic_us() - t >= 19000)
    local lock = assert(fae.lock.acquire(key, { wait_ms = 5000 }))
    assert.is_true(fae.time.monotonic_us() - t >= 100000)
    assert.is_true(fae.lock.release(key, lock.token))
  end)
  it("takes keys of any bytes", function()
    for _, key in ipairs { "\0", "\255\254", ("k"):rep(512), "a b\n" } do
      local lock = assert(fae.lock.acquire(key))
      assert.equal("LOCKED", code(fae.lock.acquire(key)))
      assert.is_true(fae.lock.release(key, lock.token))
    end
  end)
  it("refuses what is no key, no time, no option", function()
    assert.equal("BAD_ARGS", code(fae.lock.acquire ""))
    assert.equal("LIMIT", code(fae.lock.acquire(("k"):rep(513))))
    assert.equal("BAD_ARGS", code(fae.lock.release("", "x")))
    for options, want in pairs {
      [{ lease_ms = 0 }] = "BAD_ARGS", [{ lease_ms = -5 }] = "BAD_ARGS", [{ lease_ms = 1.5 }] = "BAD_ARGS",
      [{ lease_ms = 0 / 0 }] = "BAD_ARGS", [{ lease_ms = 600001 }] = "LIMIT", [{ lease_ms = "10" }] = "BAD_ARGS",
      [{ wait_ms = -1 }] = "BAD_ARGS", [{ wait_ms = 1e300 }] = "LIMIT", [{ leese_ms = 1 }] = "BAD_ARGS",
      [{ reason = 1 }] = "BAD_ARGS", [{ auto_release = 1 }] = "BAD_ARGS", [{ 1 }] = "BAD_ARGS",
    } do
      local key = new_key()
      assert.equal(want, code(fae.lock.acquire(key, options)))
      assert.equal("NOT_FOUND", code(fae.lock.info(key)))
    end
    for _, token in ipairs { "", "0000000000000000", "xyz", ("a"):rep(17), "ABCDEF0123456789" } do
      assert.equal("NOT_OWNER", code(fae.lock.release(new_key(), token)))
      assert.equal("NOT_OWNER", code(fae.lock.renew(new_key(), token)))
    end
    assert.equal("BAD_ARGS", code(fae.lock.list(0)))
    assert.equal("BAD_ARGS", code(fae.lock.list(1001)))
    assert.has_error(function() fae.lock.acquire(1) end)
    assert.has_error(function() fae.lock.acquire("k", 1) end)
    assert.has_error(function() fae.lock.release("k", 1) end)
    assert.has_error(function() fae.lock.with("k", {}, 1) end)
  end)
  it("keeps 96 bytes of a reason, and no half characters", function()
    local key = new_key()
    local lock = assert(fae.lock.acquire(key, { reason = ("x"):rep(95) .. "é" }))
    assert.equal(("x"):rep(95), fae.lock.info(key).reason)
    fae.lock.release(key, lock.token)
  end)
  it("can be listed, and taken away by force", function()
    local key = new_key()
    local lock = assert(fae.lock.acquire(key, { reason = "work" }))
    local found
    for _, one in ipairs(assert(fae.lock.list(1000))) do
      if one.key == key then found = one end
    end
    assert.equal("work", found.reason)
    assert.equal(lock.fence, found.fence)
    assert.is_nil(found.token)
    assert.equal("work", assert(fae.lock.force(key)).reason)
    assert.equal("NOT_OWNER", code(fae.lock.release(key, lock.token)))
    assert.equal("NOT_FOUND", code(fae.lock.force(key)))
  end)
end)

describe("fae.lock.with", function()
  it("holds a lock while a function runs", function()
    local key = new_key()
    local value = fae.lock.with(key, { lease_ms = 5000 }, function(lock)
      assert.equal(lock.fence, fae.lock.info(key).fence)
      fae.sleep(1)
      return "done"
    end)
    assert.equal("done", value)
    assert.equal("NOT_FOUND", code(fae.lock.info(key)))
    assert.equal("NOT_FOUND", code(fae.lock.with(key, function() return nil, fae.err("NOT_FOUND", "x") end)))
  end)
  it("releases when the function raises", function()
    local key = new_key()
    assert.equal("INTERNAL", code(fae.lock.with(key, nil, function() error "oops" end)))
    assert.equal("MINE", code(fae.lock.with(key, nil, function() error { code = "MINE", message = "x" } end)))
    assert.equal("NOT_FOUND", code(fae.lock.info(key)))
  end)
  it("does not run the function without the lock", function()
    local key = new_key()
    local lock = assert(fae.lock.acquire(key))
    local ran = false
    assert.equal("LOCKED", code(fae.lock.with(key, { wait_ms = 5 }, function() ran = true end)))
    assert.is_false(ran)
    fae.lock.release(key, lock.token)
  end)
  it("says nothing wrong when the lease was over first", function()
    local key = new_key()
    assert.equal(1, fae.lock.with(key, { lease_ms = 5 }, function() fae.sleep(20) return 1 end))
  end)
end)

describe("servant lock", function()
  it("passes on what fae.lock says", function()
    local key = new_key()
    local lock = assert(fae.call("lock.acquire", key, { lease_ms = 500, reason = "rpc" }))
    assert.equal("LOCKED", code(fae.call("lock.acquire", key)))
    assert.equal("rpc", fae.call("lock.info", key).reason)
    assert.is_true(fae.call("lock.renew", key, lock.token, 1000))
    assert.is_true(#fae.call("lock.list") >= 1)
    assert.is_true(fae.call("lock.release", key, lock.token))
    assert.equal("BAD_ARGS", code(fae.call("lock.acquire", 5)))
    assert.equal("BAD_ARGS", code(fae.call("lock.acquire", key, 5)))
    assert.equal("BAD_ARGS", code(fae.call("lock.acquire", key, { lease_ms = -1 })))
    assert.equal("BAD_ARGS", code(fae.call("lock.release", key)))
    assert.equal("NOT_FOUND", code(fae.call("lock.force", key)))
  end)
  it("has fae's lock and unlock, which know no owner", function()
    local key = new_key()
    assert.is_true(fae.call("lock", "why", key))
    assert.is_false(fae.call("lock", "why", key))
    assert.equal("LOCKED", code(fae.lock.acquire(key)))
    assert.is_nil(fae.call("unlock", "why", key))
    assert.is_nil(fae.call("unlock", "why", key))
    assert.is_true(fae.call("lock.lock", "why", key))
    local info = fae.lock.info(key)
    assert.equal(10000, info.lease_ms)
    assert.equal("why", info.reason)
    fae.call("lock.unlock", "why", key)
    local lock = assert(fae.lock.acquire(key))
    assert.is_nil(fae.call("unlock", "why", key)) -- not a lock that has an owner
    assert.is_true(fae.lock.release(key, lock.token))
    assert.equal("BAD_ARGS", code(fae.call("lock", "why", "")))
    assert.equal("LIMIT", code(fae.call("lock", "why", ("k"):rep(513))))
    assert.equal("BAD_ARGS", code(fae.call("unlock", "why", "")))
  end)
end)
