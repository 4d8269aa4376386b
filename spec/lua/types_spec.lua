-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.msgpack, null, map, array, bin, ext: every rule of src/vm/codec.h, as bytes.
local fae = require "fae"
local ffi = require "ffi"

local encode, decode = fae.msgpack.encode, fae.msgpack.decode

local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
local function raw(text) return (text:gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end)) end
local function encoded(v) return hex(assert(encode(v))) end
local function i64(text) return assert(load("return " .. text))() end

local function nested(depth)
  local t = {}
  for _ = 2, depth do t = { t } end
  return t
end

-- For what makes megabytes: a collector that never rests would walk them at every step.
local function let_the_collector_rest()
  local pause
  before_each(function() pause = collectgarbage("setpause", 200) end)
  after_each(function() collectgarbage("setpause", pause) end)
end

local function refused(code, pattern, ...)
  local value, err = ...
  assert.is_true(value == nil, "not refused") -- a value may be megabytes, nobody wants them printed
  assert.equal(code, err.code)
  assert.matches(pattern, err.message)
end

describe("numbers", function()
  local rows = {
    { 0, "00" }, { 1, "01" }, { 127, "7f" }, { 128, "cc80" }, { 255, "ccff" }, { 256, "cd0100" }, { 65535, "cdffff" },
    { 65536, "ce00010000" }, { 4294967295, "ceffffffff" }, { 4294967296, "cf0000000100000000" },
    { -1, "ff" }, { -32, "e0" }, { -33, "d0df" }, { -128, "d080" }, { -129, "d1ff7f" }, { -32768, "d18000" },
    { -32769, "d2ffff7fff" }, { -2147483648, "d280000000" }, { -2147483649, "d3ffffffff7fffffff" },
    { 2 ^ 53, "cf0020000000000000" }, { -2 ^ 53, "d3ffe0000000000000" }, { 2 ^ 53 - 1, "cf001fffffffffffff" },
    { 0.5, "cb3fe0000000000000" }, { 1e300, "cb7e37e43c8800759c" }, { 2 ^ 53 + 2, "cb4340000000000001" },
    { 2 ^ 63, "cb43e0000000000000" }, { 1 / 0, "cb7ff0000000000000" }, { -1 / 0, "cbfff0000000000000" },
  }
  for _, row in ipairs(rows) do
    it(("%.17g goes out as %s and comes back"):format(row[1], row[2]), function()
      assert.equal(row[2], encoded(row[1]))
      assert.equal(row[1], (decode(raw(row[2]))))
    end)
  end

  it("a zero keeps its sign", function()
    assert.equal("cb8000000000000000", encoded(-0.0))
    assert.equal(-1 / 0, 1 / decode(raw "cb8000000000000000"))
    assert.equal("00", encoded(0.0))
  end)
  it("NaN stays NaN", function()
    local v = assert(decode(assert(encode(0 / 0))))
    assert.is_true(v ~= v)
  end)
  it("a float that is integral goes on as an int", function()
    assert.equal("07", encoded((decode(raw "cb401c000000000000"))))
    assert.equal("07", encoded((decode(raw "ca40e00000"))))
  end)
  it("float32 comes in exactly", function()
    assert.equal(1.5, (decode(raw "ca3fc00000")))
    assert.equal(2 ^ -149, (decode(raw "ca00000001")))
  end)
  it("a longer form than needed is read, and goes out short", function()
    for _, form in ipairs { "cc05", "cd0005", "ce00000005", "cf0000000000000005" } do
      assert.equal("05", encoded((decode(raw(form)))))
    end
    for _, form in ipairs { "d005", "d10005", "d200000005", "d30000000000000005" } do
      assert.equal("05", encoded((decode(raw(form)))))
    end
  end)

  local big = {
    { "9007199254740993LL", "cf0020000000000001" }, { "-9007199254740993LL", "d3ffdfffffffffffff" },
    { "9223372036854775807LL", "cf7fffffffffffffff" }, { "-9223372036854775807LL - 1", "d38000000000000000" },
    { "9223372036854775808ULL", "cf8000000000000000" }, { "18446744073709551615ULL", "cfffffffffffffffff" },
  }
  for _, row in ipairs(big) do
    it(row[1] .. " survives both ways", function()
      local value = i64(row[1])
      assert.equal(row[2], encoded(value))
      local back = decode(raw(row[2]))
      assert.equal("cdata", type(back))
      assert.is_true(back == value)
      assert.equal(tostring(value), tostring(back))
      assert.equal(row[2], encoded(back))
    end)
  end
  it("int64 and uint64 that are small go out short, and come back as numbers", function()
    assert.equal("05", encoded(i64 "5LL"))
    assert.equal("05", encoded(i64 "5ULL"))
    assert.equal("ff", encoded(i64 "-1LL"))
    assert.equal("number", type(decode(encode(i64 "9007199254740992LL"))))
  end)
end)

describe("strings", function()
  let_the_collector_rest()
  it("of text go out as str, of other bytes as bin, and both come in", function()
    assert.equal("a0", encoded "")
    assert.equal("a3616263", encoded "abc")
    assert.equal("a3e282ac", encoded "\226\130\172")
    assert.equal("c403ff0061", encoded "\255\0a")
    assert.equal("c403e28261", encoded "\226\130a") -- cut character
    assert.equal("c402c080", encoded "\192\128") -- overlong
    assert.equal("c403eda080", encoded "\237\160\128") -- surrogate
    assert.equal("a3006100", encoded "\0a\0")
    assert.equal("abc", (decode(raw "c403616263")))
    assert.equal("\255", (decode(raw "a1ff")))
  end)
  for _, n in ipairs { 31, 32, 255, 256, 65535, 65536 } do
    it("of " .. n .. " bytes survive", function()
      local text, bytes = ("x"):rep(n), ("\255"):rep(n)
      assert.equal(text, (decode(encode(text))))
      assert.equal(bytes, (decode(encode(bytes))))
      assert.equal(n + (n < 32 and 1 or n < 256 and 2 or n < 65536 and 3 or 5), #encode(text))
      assert.equal(n + (n < 256 and 2 or n < 65536 and 3 or 5), #encode(bytes))
    end)
  end
  it("as fae.bin go out as bin whatever they are", function()
    assert.equal("c403616263", encoded(fae.bin "abc"))
    assert.equal("91c400", encoded { fae.bin "" })
    assert.has_error(function() fae.bin(1) end, "fae.bin takes a string")
    assert.has_error(function() fae.bin() end, "fae.bin takes a string")
    local b = fae.bin "x"
    b.bytes = 5
    refused("BAD_ARGS", "hold a string", encode(b))
  end)
end)

describe("nil and booleans", function()
  it("nil is c0; inside of values it comes as fae.null", function()
    assert.equal("c0", encoded(nil))
    assert.equal("c0", encoded(fae.null))
    assert.equal(fae.null, (decode(raw "c0")))
    assert.same({ fae.null, 1, fae.null }, (decode(raw "93c001c0")))
    assert.equal(fae.null, decode(raw "81a161c0").a)
    assert.equal("93c001c0", encoded((decode(raw "93c001c0"))))
    assert.equal("81a161c0", encoded { a = fae.null })
    assert.is_true(fae.null ~= nil)
  end)
  it("booleans are themselves", function()
    assert.equal("92c2c3", encoded { false, true })
    assert.same({ false, true }, (decode(raw "92c2c3")))
  end)
  it("encode wants an argument", function()
    assert.has_error(function() encode() end)
  end)
end)

describe("tables", function()
  it("with keys 1 to n are arrays, in whatever order they were filled", function()
    assert.equal("93010203", encoded { 1, 2, 3 })
    assert.equal("93010203", encoded { [3] = 3, [2] = 2, [1] = 1 })
    math.randomseed(3)
    for n = 1, 150 do
      local t, order = {}, {}
      for i = 1, n do order[i] = i end
      for i = n, 2, -1 do
        local j = math.random(i)
        order[i], order[j] = order[j], order[i]
      end
      for _, i in ipairs(order) do t[i] = i end
      local bytes = encode(t)
      assert.is_true(bytes:byte(1) == 0x90 + n or bytes:byte(1) == 0xdc, "n = " .. n)
      assert.same(t, (decode(bytes)))
    end
  end)
  it("without anything are arrays, unless they say otherwise", function()
    assert.equal("90", encoded {})
    assert.equal("80", encoded(fae.map {}))
    assert.equal("80", encoded(fae.map()))
    assert.equal("90", encoded(fae.array()))
    assert.equal("80", encoded((decode(raw "80"))))
    assert.equal("90", encoded((decode(raw "90"))))
    assert.equal("81a16180", encoded((decode(raw "81a16180"))))
    assert.equal("80", encoded((decode(raw "de0000"))))
  end)
  it("with holes are maps; fae.array keeps holes as nil", function()
    assert.same({ [1] = 1, [3] = 3 }, (decode(encode { 1, nil, 3 })))
    assert.equal(0x82, encode({ 1, nil, 3 }):byte(1))
    assert.equal("9301c003", encoded(fae.array { 1, nil, 3 }))
    assert.equal("94c0c0c004", encoded(fae.array { [4] = 4, x = "left out", [0] = 0, [1.5] = 1, [-1] = 1 }))
    assert.equal("9301c003", encoded(fae.array { 1, fae.null, 3 }))
    refused("LIMIT", "longer than a message", encode(fae.array { [2 ^ 32 - 1] = 1 }))
    assert.equal(0x82, encode({ [0] = 0, 1 }):byte(1))
    assert.equal(0x81, encode({ [2] = 2 }):byte(1))
    assert.equal(0x82, encode({ 1, [2.5] = nil, x = 1 }):byte(1))
    assert.equal(0x81, encode({ [-1] = 1 }):byte(1))
    assert.equal(0x81, encode({ [1e9] = 1 }):byte(1))
  end)
  it("with names are maps", function()
    assert.equal("81a16101", encoded { a = 1 })
    assert.same({ 1, 2, x = 3 }, (decode(encode { 1, 2, x = 3 })))
    assert.same({ 7, 8, x = "y", [100] = 1 }, (decode(encode { 7, 8, x = "y", [100] = 1 })))
    assert.equal(0x82, encode(fae.map { 1, 2 }):byte(1))
  end)
  it("big ones inside each other keep their sizes", function()
    local inner = {}
    for i = 1, 20 do inner["key" .. i] = { i, { deep = ("x"):rep(40) } } end
    local t = { a = inner, b = inner, c = { inner, inner } }
    assert.same(t, (decode(encode(t))))
  end)
  it("of integer keys beyond doubles keep them", function()
    local t = decode(raw "81cf002000000000000101")
    assert.equal("81cf002000000000000101", encoded(t))
  end)
  it("take integer keys of any sign, and give them back", function()
    assert.same({ [-5] = "a", [300] = "b" }, (decode(raw "82fba161cd012ca162")))
    assert.equal("81fba161", encoded { [-5] = "a" })
  end)
  it("ignore metatables of the servant's own", function()
    local t = setmetatable({ a = 1 }, { __index = { b = 2 }, __pairs = error, __len = error })
    assert.equal("81a16101", encoded(t))
  end)
  it("nested 64 deep are written and read, 65 deep are not", function()
    local bytes = assert(encode(nested(64)))
    assert.equal(("91"):rep(63) .. "90", hex(bytes))
    assert.equal(hex(bytes), encoded((decode(bytes))))
    refused("LIMIT", "deeper than 64", encode(nested(65)))
    refused("LIMIT", "too deep", decode(raw(("91"):rep(64) .. "90")))
    local map = {}
    for _ = 2, 65 do map = { k = map } end
    refused("LIMIT", "deeper than 64", encode(map))
  end)
  it("that contain themselves are refused", function()
    local t = {}
    t.t = t
    refused("LIMIT", "contain themselves", encode(t))
    t = {}
    t[1] = t
    refused("LIMIT", "contain themselves", encode(t))
    t = fae.array {}
    t[1] = { t }
    refused("LIMIT", "contain themselves", encode(t))
  end)
  it("used twice are written twice", function()
    local t = { 1 }
    assert.equal("9291019101", encoded { t, t })
  end)
end)

describe("tables of many", function()
  let_the_collector_rest()
  for _, n in ipairs { 15, 16, 17, 65535, 65536 } do
    it(("of %d pairs and of %d values survive"):format(n, n), function()
      local map, list = {}, {}
      for i = 1, n do map["k" .. i], list[i] = i, i end
      local head = n < 16 and { 0x80 + n, 0x90 + n } or n < 65536 and { 0xde, 0xdc } or { 0xdf, 0xdd }
      local bytes = encode(map)
      assert.equal(head[1], bytes:byte(1))
      local back = assert(decode(bytes))
      for k, v in pairs(map) do if back[k] ~= v then error(k) end end
      for k in pairs(back) do if not map[k] then error(k) end end
      bytes = encode(list)
      assert.equal(head[2], bytes:byte(1))
      back = assert(decode(bytes))
      assert.equal(n, #back)
      for i = 1, n do if back[i] ~= i then error(i) end end
    end)
  end
end)

describe("marks", function()
  it("can be set again, on tables off the wire too", function()
    assert.equal("90", encoded(fae.array((decode(raw "80")))))
    assert.equal("80", encoded(fae.map(fae.array())))
    assert.equal("80", encoded(fae.map((decode(raw "80")))))
    local t = {}
    assert.equal(t, fae.map(t))
    assert.equal(t, fae.array(t))
    assert.equal(t, fae.array(t))
  end)
  it("are tables' only, and take no other's metatable away", function()
    assert.has_error(function() fae.map "x" end, "fae.map takes a table, not a string")
    assert.has_error(function() fae.array(1) end, "fae.array takes a table, not a number")
    assert.has_error(function() fae.map(setmetatable({}, {})) end, "fae.map: the table has a metatable already")
    assert.has_error(function() fae.array(fae.err("LIMIT", "x")) end, "fae.array: the table has a metatable already")
    assert.has_error(function() fae.map(fae.bin "x") end)
  end)
  it("show a word and cannot be taken off", function()
    assert.equal("map", getmetatable(fae.map()))
    assert.equal("array", getmetatable(fae.array()))
    assert.equal("bin", getmetatable(fae.bin ""))
    assert.equal("ext", getmetatable(fae.ext(1, "")))
    assert.has_error(function() setmetatable(fae.map(), nil) end)
  end)
end)

describe("extensions", function()
  local rows = {
    { 1, "", "c70001" }, { -1, "a", "d4ff61" }, { 5, "ab", "d5056162" }, { 127, "abcd", "d67f61626364" },
    { -128, ("x"):rep(8), "d780" .. ("78"):rep(8) }, { 0, ("x"):rep(16), "d800" .. ("78"):rep(16) },
    { 3, "abc", "c70303616263" }, { 3, ("y"):rep(256), "c8010003" .. ("79"):rep(256) },
    { 3, ("y"):rep(65536), "c90001000003" .. ("79"):rep(65536) },
  }
  for _, row in ipairs(rows) do
    it(("type %d, %d bytes"):format(row[1], #row[2]), function()
      assert.equal(row[3], encoded(fae.ext(row[1], row[2])))
      local back = decode(raw(row[3]))
      assert.equal("ext", getmetatable(back))
      assert.equal(row[1], back.type)
      assert.equal(row[2], back.data)
      assert.equal(row[3], encoded(back))
    end)
  end
  it("want an integer type and a string", function()
    for _, kind in ipairs { 128, -129, 1.5, 0 / 0, 1 / 0, "1", false } do
      assert.has_error(function() fae.ext(kind, "") end, "fae.ext takes an integer from -128 to 127 and a string")
    end
    assert.has_error(function() fae.ext(1) end)
    local e = fae.ext(1, "x")
    e.type = 1e300
    refused("BAD_ARGS", "%-128 to 127", encode(e))
    e.type = "1"
    refused("BAD_ARGS", "%-128 to 127", encode(e))
    e.data = nil
    refused("BAD_ARGS", "hold a string", encode(e))
  end)
end)

describe("what has no msgpack form", function()
  local rows = {
    { "a function", print, "function" }, { "a coroutine", coroutine.create(print), "thread" },
    { "a userdata", io.stdout, "userdata" }, { "a cdata", ffi.new "int[2]", "no 64%-bit integer" },
    { "a complex", i64 "1i", "no 64%-bit integer" }, { "a pointer", ffi.cast("void *", 1), "no 64%-bit integer" },
  }
  for _, row in ipairs(rows) do
    it(row[1] .. " is refused, wherever it is", function()
      refused("BAD_ARGS", row[3], encode(row[2]))
      refused("BAD_ARGS", row[3], encode { 1, row[2] })
      refused("BAD_ARGS", row[3], encode { a = { b = row[2] } })
      refused("BAD_ARGS", row[3], encode(fae.array { row[2] }))
    end)
  end
  it("keys that are neither strings nor integers are refused", function()
    for _, key in ipairs { true, 1.5, -0.5, 1e300, 1 / 0, {}, print, fae.null, io.stdout } do
      refused("BAD_ARGS", "a map key must be a string or an integer", encode { [key] = 1, other = 2 })
    end
    refused("BAD_ARGS", "no 64%-bit integer", encode { [ffi.new "int[1]"] = 1 })
  end)
  it("a refusal leaves nothing behind", function()
    for _ = 1, 50 do encode { a = { ("x"):rep(1000), print } } end
    assert.equal("9101", encoded { 1 })
  end)
end)

describe("decode", function()
  local whole = "85a16101a16293c0c3cb3ff8000000000000a163c403fffefda164d60161626364"
    .. "a16581cd01f4dc0002a3787979d3ffe0000000000000"
  it("refuses a value cut at any byte", function()
    local bytes = raw(whole)
    assert(decode(bytes))
    for n = 0, #bytes - 1 do refused("BAD_MESSAGE", "cut short", decode(bytes:sub(1, n))) end
  end)
  it("refuses bytes after the value", function()
    refused("BAD_MESSAGE", "1 bytes follow", decode(raw "0101"))
    refused("BAD_MESSAGE", "3 bytes follow", decode(raw "90c0c0c0"))
  end)
  it("refuses c1", function()
    refused("BAD_MESSAGE", "not msgpack", decode(raw "c1"))
    refused("BAD_MESSAGE", "not msgpack", decode(raw "92c0c1"))
  end)
  local keys = {
    c0 = "nil", c3 = "a boolean", ["cb3ff8000000000000"] = "a float", ["ca00000000"] = "a float", ["9101"] = "an array",
    ["8101c0"] = "a map", ["d40100"] = "an extension",
  }
  for bytes, word in pairs(keys) do
    it("refuses " .. word .. " as a map key: " .. bytes, function()
      local text = "a map key must be a string or an integer, not " .. word
      refused("BAD_MESSAGE", text, decode(raw("81" .. bytes .. "01")))
      refused("BAD_MESSAGE", text, decode(raw("92018201c0a178de0001" .. bytes .. "01")))
    end)
  end
  it("takes the last of a key that comes twice", function()
    assert.same({ a = 2 }, (decode(raw "82a16101a16102")))
    assert.same({ a = 2 }, (decode(raw "82a16101c4016102"))) -- str and bin are the same key
  end)
  it("refuses announced sizes that cannot be, at once", function()
    for _, bomb in ipairs { "ddffffffff", "dfffffffff", "dbffffffff", "c6ffffffff", "c9ffffffff01" } do
      refused("LIMIT", "too", decode(raw(bomb)))
    end
    refused("LIMIT", "too", decode(raw(("dcffff"):rep(60))))
  end)
  it("wants a string", function()
    assert.has_error(function() decode {} end)
    assert.has_error(function() decode() end)
  end)
end)

describe("message_max", function()
  let_the_collector_rest()
  local max = 4 * 1024 * 1024
  it("bounds what is written", function()
    assert.equal(max, #encode(("x"):rep(max - 5)))
    refused("LIMIT", "longer than a message", encode(("x"):rep(max - 4)))
    refused("LIMIT", "longer than a message", encode(fae.bin(("x"):rep(max))))
    refused("LIMIT", "longer than a message", encode { fae.ext(1, ("x"):rep(max)) })
    local chunk = ("x"):rep(65536)
    local t = {}
    for i = 1, 64 do t[i] = chunk end
    refused("LIMIT", "longer than a message", encode(t))
    refused("LIMIT", "longer than a message", encode { [("k"):rep(max)] = 1 })
    local wide = {}
    for i = 1, 900000 do wide[i] = 1e9 + i end
    refused("LIMIT", "longer than a message", encode(wide))
  end)
  it("bounds what is read", function()
    refused("LIMIT", "too long", decode("\198\0\64\0\1" .. ("x"):rep(max + 1)))
    refused("LIMIT", "elements", decode("\221" .. "\0\15\66\65" .. ("\1"):rep(1000001)))
  end)
end)
