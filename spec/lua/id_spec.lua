-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.id in a node whose node_id is 0, with the layout fae; and the servant id.
local fae = require "fae"
local testing = require "fae.testing"
local ffi = package.loaded.ffi

local VECTOR = 466259910456950792LL

local function assert_bad(text, value, err)
  assert.is_nil(value)
  assert.equal("BAD_ARGS", err.code)
  assert.equal(text, err.message)
end

local TOO_BIG = "Too big tag: it is a whole number from 0 to 31"
local NO_ID = "that is no id"
local NO_COUNT = "n is a whole number from 1 to 100000"

describe("fae.id.next", function()
  it("gives int64 values that rise and have the time, tag and node", function()
    local before = fae.time.now_ms()
    local last = 0LL
    for i = 0, 9999 do
      local id = assert(fae.id.next())
      assert.is_true(ffi.istype("int64_t", id))
      if id <= last then error(("%d: %s after %s"):format(i, tostring(id), tostring(last))) end
      last = id
    end
    local parts = fae.id.decode(last)
    assert.is_true(parts.ms >= before and parts.ms <= fae.time.now_ms())
    assert.same({ tag = 0, node = 0 }, { tag = parts.tag, node = parts.node })
  end)
  it("takes tags from 0 to 31", function()
    for tag = 0, 31 do assert.equal(tag, fae.id.decode(fae.id.next(tag)).tag) end
    for _, tag in ipairs { -1, 32, 0.5, 1e300, -1e300, 0 / 0, 1 / 0, 2 ^ 53, -5LL, 3LL, 9223372036854775807LL,
      18446744073709551615ULL } do
      assert_bad(TOO_BIG, fae.id.next(tag))
    end
  end)
  it("raises for what is no number", function()
    for _, tag in ipairs { "1", {}, true, print } do
      local ok, text = pcall(fae.id.next, tag)
      assert.is_false(ok)
      assert.truthy(text:find("fae.id.next takes a tag, a number, not a " .. type(tag), 1, true), text)
    end
  end)
  it("gives none twice, to tasks side by side", function()
    local seen, fns = {}, {}
    for i = 1, 50 do
      fns[i] = function()
        for _ = 1, 400 do
          local key = tostring(assert(fae.id.next(i % 32)))
          assert(not seen[key], key)
          seen[key] = true
        end
        return true
      end
    end
    local _, errors = fae.parallel(fns)
    assert.is_nil(errors)
  end)
end)

describe("fae.id.next_many", function()
  it("gives so many, 4096 a millisecond", function()
    for _, n in ipairs { 1, 2, 4096, 4097, 20000 } do
      local list, of_ms = assert(fae.id.next_many(n, 7)), {}
      assert.equal(n, #list)
      for i, id in ipairs(list) do
        if i > 1 and id <= list[i - 1] then error(tostring(i)) end
        local ms = tostring(id / 4194304LL)
        of_ms[ms] = (of_ms[ms] or 0) + 1
      end
      for _, k in pairs(of_ms) do assert.is_true(k <= 4096) end
      assert.equal(7, fae.id.decode(list[n]).tag)
    end
  end)
  it("wants a number of them, and a tag", function()
    for _, n in ipairs { 0, -1, 100001, 1.5, 0 / 0, 1 / 0, 5LL, 5ULL } do
      assert_bad(NO_COUNT, fae.id.next_many(n))
    end
    assert_bad(TOO_BIG, fae.id.next_many(1, 32))
    for _, n in ipairs { "1", {}, true } do assert.is_false((pcall(fae.id.next_many, n))) end
    assert.is_false((pcall(fae.id.next_many, nil)))
    assert.is_false((pcall(fae.id.next_many, 1, "x")))
  end)
  it("lets others run while it waits", function()
    local ticks, ended = 0, false
    fae.spawn(function()
      while not ended do
        ticks = ticks + 1
        fae.sleep(1)
      end
    end)
    assert(fae.id.next_many(100000))
    ended = true
    assert.is_true(ticks >= 3, ticks .. " ticks")
  end)
end)

describe("fae.id.decode", function()
  it("knows fae's vector in every form", function()
    local want = { ms = 1500000000000, tag = 5, node = 12, seq = 8 }
    for _, id in ipairs { VECTOR, 466259910456950792ULL, "466259910456950792" } do
      assert.same(want, fae.id.decode(id))
    end
    assert.same({ ms = 1388834974658, tag = 0, node = 0, seq = 0 }, fae.id.decode(4194304))
  end)
  it("refuses what is no id", function()
    for _, id in ipairs { 0, -1, 4194303, 4194304.5, 2 ^ 53, 1e18, 0 / 0, 1 / 0, 0LL, -466259910456950792LL,
      18446744073709551615ULL, "", "x", "-1", "1e9", "4 ", "0x4000000", "99999999999999999999", "9223372036854775808",
      "466259910456950792LL", {}, true, print, fae.null } do assert_bad(NO_ID, fae.id.decode(id)) end
    assert_bad(NO_ID, fae.id.decode(nil))
  end)
end)

describe("id", function()
  local id = testing.load({}, { bundled = true })

  it("has what fae.id has", function()
    assert.same({}, id.errors)
    local made = assert(id.call("id.next", 3))
    assert.equal(3, id.call("id.decode", made).tag)
    assert.equal(5, #id.call("id.next_many", 5))
  end)
  it("has fae's old names and shapes", function()
    assert.equal(0, fae.id.decode(id.call "id_next").tag)
    assert.equal(9, fae.id.decode(id.call("id_next_with_tag", 9)).tag)
    assert_bad(TOO_BIG, id.call("id_next_with_tag", 32))
    assert.same({ 1500000000000, 5, 12, 8 }, id.call("id_decode", VECTOR))
    assert_bad(NO_ID, id.call("id_decode", 0))
  end)
end)
