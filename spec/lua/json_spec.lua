-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.json: lua-cjson with the rules that servants rely on.
local fae = require "fae"

local encode, decode = fae.json.encode, fae.json.decode

local function refused(pattern, ...)
  local value, err = ...
  assert.is_nil(value)
  assert.equal("BAD_ARGS", err.code)
  assert.matches(pattern, err.message)
  assert.is_false(err.retryable)
end

local function nested(depth)
  local t = {}
  for _ = 2, depth do t = { t } end
  return t
end

describe("fae.json.encode", function()
  local rows = {
    { nil, "null" }, { true, "true" }, { false, "false" }, { 1, "1" }, { -1.5, "-1.5" }, { 1e15, "1e+15" },
    { "a\n\"\\/\1", [["a\n\"\\\/\u0001"]] }, { "\226\130\172", '"\226\130\172"' }, { {}, "{}" }, { { 1, 2 }, "[1,2]" },
    { { { 1 }, {} }, "[[1],{}]" }, { { a = { b = fae.null } }, '{"a":{"b":null}}' },
    { { [5] = 1 }, "[null,null,null,null,1]" }, { { [1000] = 1 }, '{"1000":1}' },
  }
  for i = 1, #rows do
    it("gives " .. rows[i][2], function() assert.equal(rows[i][2], encode(rows[i][1])) end)
  end
  it("gives null for fae.null", function() assert.equal("null", encode(fae.null)) end)
  it("refuses what JSON has no form for", function()
    refused("type not supported", encode(print))
    refused("type not supported", encode { io.stdout })
    refused("NaN", encode(0 / 0))
    refused("NaN or Inf", encode { 1 / 0 })
    refused("table key must be a number or string", encode { [true] = 1 })
  end)
  it("refuses more than 64 levels, and what contains itself", function()
    assert.equal("string", type(encode(nested(64))))
    refused("excessive nesting", encode(nested(65)))
    local t = {}
    t.t = t
    refused("excessive nesting", encode(t))
  end)
end)

describe("fae.json.decode", function()
  it("gives Lua values", function()
    assert.same({ a = { 1, 2.5, "x", true, fae.null } }, (decode ' { "a" : [1, 2.5, "x", true, null] } '))
    assert.equal(fae.null, (decode "null"))
    assert.equal(false, (decode "false"))
    assert.equal("\226\130\172\240\159\152\128", (decode '"\\u20ac\\ud83d\\ude00"'))
    assert.equal(-1e5, (decode "-1E5"))
  end)
  it("refuses what is not JSON", function()
    local wrong = { "", " ", "{", "[1,]", "{a:1}", "'a'", '"', "nul", "1 2", "[1]x", '"\\x"', '"\\ud83d"', "{,}" }
    for _, text in ipairs(wrong) do refused(".", decode(text)) end
  end)
  it("refuses numbers that are not JSON's", function()
    for _, text in ipairs { "NaN", "nan", "Infinity", "-inf", "0x10", "[0x1p3]" } do
      refused("invalid", decode(text))
    end
  end)
  it("refuses more than 64 levels", function()
    assert.equal("table", type(decode(("["):rep(64) .. ("]"):rep(64))))
    refused("nested", decode(("["):rep(65) .. ("]"):rep(65)))
    refused(".", decode(("["):rep(100000)))
  end)
  it("gives back what encode made", function()
    local value = { list = { 1, 2, { x = "y" } }, text = "\0\255x", ["strange key \n"] = true }
    assert.same(value, (decode(encode(value))))
  end)
  it("takes a string", function()
    assert.has_error(function() decode(nil) end, "fae.json.decode takes a string")
    assert.has_error(function() decode {} end, "fae.json.decode takes a string")
  end)
end)
