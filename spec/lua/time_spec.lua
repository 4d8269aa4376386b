-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.time: two clocks.
local fae = require "fae"

describe("fae.time", function()
  it("now_ms is the system's clock", function()
    local before, now, after = os.time(), fae.time.now_ms(), os.time()
    -- os.time is a tick behind: it may still be in the second before.
    assert.is_true(now >= before * 1000 and now < (after + 1) * 1000 + 20, tostring(now))
    assert.equal(0, now % 1)
  end)
  it("monotonic_us never goes back, and counts microseconds", function()
    local last = fae.time.monotonic_us()
    for _ = 1, 1000 do
      local now = fae.time.monotonic_us()
      assert.is_true(now >= last)
      last = now
    end
    assert.equal(0, last % 1)
    fae.sleep(1)
    local first = fae.time.monotonic_us()
    fae.sleep(20)
    local past = fae.time.monotonic_us() - first
    assert.is_true(past >= 19000 and past < 5e6, "20 ms are " .. past .. " us")
  end)
end)
