-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.err: codes, fields, how it reads.
local fae = require "fae"

-- The table of src/base/err.h, read as text: what Lua says must be what C says.
local function rows()
  local file = assert(io.open "src/base/err.h")
  local text = file:read "*a"
  file:close()
  local t = {}
  for name, retryable in text:gmatch "X%(([A-Z_]+), (%l+), \"" do t[#t + 1] = { name, retryable == "true" } end
  return t
end

describe("fae.err", function()
  it("knows every code of the table, and whether to try again", function()
    local all = rows()
    assert.is_true(#all > 15)
    for _, row in ipairs(all) do
      local err = fae.err(row[1], "text")
      assert.equal(row[1], err.code)
      assert.equal(row[2], err.retryable, row[1])
    end
  end)
  it("reads as CODE: text", function()
    assert.equal("NOT_FOUND: no such user", tostring(fae.err("NOT_FOUND", "no such user")))
    assert.equal("LIMIT: ", tostring(fae.err("LIMIT", "")))
    assert.equal("not so long", ("%s"):format(tostring(fae.err("X", "not so long"))):sub(4))
  end)
  it("takes a servant's own codes, which are not retryable unless they say so", function()
    local err = fae.err("OUT_OF_STOCK", "gone")
    assert.equal("OUT_OF_STOCK", err.code)
    assert.is_false(err.retryable)
    assert.is_nil(err.retry_after_ms)
    assert.is_nil(err.detail)
    assert.is_true(fae.err("OUT_OF_STOCK", "gone", { retryable = true }).retryable)
    assert.is_false(fae.err("TIMEOUT", "late", { retryable = false }).retryable)
  end)
  it("takes retry_after_ms and detail, and nothing else", function()
    local err = fae.err("BUSY", "later",
      { retry_after_ms = 250, detail = { queue = 3 }, code = "X", message = "y", more = 1 })
    assert.equal(250, err.retry_after_ms)
    assert.same({ queue = 3 }, err.detail)
    assert.equal("BUSY", err.code)
    assert.equal("later", err.message)
    assert.is_nil(err.more)
  end)
  it("refuses what is no code and no text", function()
    for _, code in ipairs { "", "lower", "Mixed", "WITH SPACE", "DASH-ED", "\0", "TIMEOUT\0", "\195\132" } do
      assert.has_error(function() fae.err(code, "text") end, nil, code)
    end
    assert.has_error(function() fae.err() end)
    assert.has_error(function() fae.err "TIMEOUT" end)
    assert.has_error(function() fae.err({}, "text") end)
    assert.has_error(function() fae.err("TIMEOUT", {}) end)
  end)
  it("is a table with a metatable that is nobody's to change", function()
    local err = fae.err("TIMEOUT", "late")
    assert.equal("table", type(err))
    assert.equal("err", getmetatable(err))
    assert.has_error(function() setmetatable(err, {}) end)
    assert.is_true(select(2, pcall(error, err)) == err)
  end)
  it("reads even when someone broke it", function()
    local err = fae.err("TIMEOUT", "late")
    err.code, err.message = nil, nil
    assert.equal("INTERNAL: ", tostring(err))
  end)
  it("is what the runtime's own failures are", function()
    local _, err = fae.msgpack.decode ""
    assert.equal("err", getmetatable(err))
    assert.equal("BAD_MESSAGE: the value is cut short", tostring(err))
    _, err = fae.call "no.such"
    assert.equal("err", getmetatable(err))
  end)
end)
