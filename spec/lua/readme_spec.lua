-- SPDX-License-Identifier: BSD-2-Clause
--
-- The pages tell of everything there is: servants/README.md of the API, lib/README.md of the protocol.
local fae = require "fae"
local core = require "fae.core"
local testing = require "fae.testing"

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "*a"
  file:close()
  return text
end

local servants, lib = read "servants/README.md", read "lib/README.md"

local function tells(page, text, what) assert.truthy(page:find(text, 1, true), (what or text) .. " is not told of") end

local function codes()
  local t = {}
  for name, retryable in read "src/base/err.h":gmatch "X%(([A-Z_]+), (%l+), \"" do
    if name ~= "OK" and name ~= "MORE" then t[#t + 1] = { name = name, retryable = retryable == "true" } end
  end
  assert.is_true(#t > 15)
  return t
end

describe("servants/README.md", function()
  it("tells of every function", function()
    for key, value in pairs(fae) do
      if type(value) == "table" and getmetatable(value) == nil then
        for name in pairs(value) do tells(servants, ("fae.%s.%s"):format(key, name)) end
      else
        tells(servants, "`fae." .. key)
      end
    end
  end)
  it("tells of every option, type and hook", function()
    local g = testing.load { ["servants/x.lua"] = [[
      local s = require "fae".servant "s"
      s.method("keys", function() return s end)
      s.method("m", { wrong = 1 }, print)]] }
    local n = 0
    for option in read "lua/fae/servant.lua":match "local option_types = (%b{})":gmatch "([%w_]+) =" do
      tells(servants, ("\n| `%s` |"):format(option), "option " .. option)
      n = n + 1
    end
    assert.equal(7, n)
    for word in pairs(g.methods["s.keys"].fn()) do
      if word:match "^on_" or word:match "_check$" then tells(servants, "\n| `servant." .. word .. "(") end
    end
    for word in ("any int number string boolean table map array"):gmatch "%a+" do
      assert.is_true(core.arg_type(word))
      tells(servants, ("\n| `%s` |"):format(word), "type " .. word)
    end
  end)
  it("tells of every field of call", function()
    local n = 0
    local source = read "src/vm/bind_call.c"
    for key in source:gmatch 'strcmp%(key, "([%w_]+)"%)' do
      tells(servants, "`call" .. (key == "time_left" and ":" or ".") .. key)
      n = n + 1
    end
    for key in source:match "context%[%] = (%b{})":gmatch '"([%w_]+)"' do
      tells(servants, "`call." .. key)
      tells(lib, ("\n| `%s` |"):format(key))
      n = n + 1
    end
    assert.is_true(n >= 10)
  end)
  it("tells of every code, and of none that is not there", function()
    local known = {}
    for _, code in ipairs(codes()) do
      tells(servants, "`" .. code.name .. "`")
      known[code.name] = true
    end
    for word in servants:gmatch "`([A-Z][A-Z_]+)`" do assert.is_true(known[word], word .. " is no code") end
  end)
  it("tells what is fenced", function()
    for name in read "lua/fae/sandbox.lua":gmatch 'fenced%(?%s*"([%w.]+)"' do tells(servants, "`" .. name .. "`") end
  end)
  it("has an example that loads and does what it says", function()
    local source = servants:match "```lua\n(%-%- basket.-)```"
    local g = testing.load { ["servants/basket.lua"] = source }
    assert.same({}, g.errors)
    assert.equal(7, g.call("basket.total", { 3, 4 }))
    assert.equal(8, g.call("basket.total", { 3, 4 }, 1))
    local _, err = g.call("basket.total", { "x" })
    assert.equal("BAD_ARGS", err.code)
  end)
end)

describe("lib/README.md", function()
  it("tells of every code, and whether to try again", function()
    local told, known = {}, {}
    for words, again in lib:gmatch "\n| (`[A-Z_` ]+`) | (%a+) |" do
      for word in words:gmatch "[A-Z_]+" do told[word] = again end
    end
    for _, code in ipairs(codes()) do
      assert.equal(code.retryable and "yes" or "no", told[code.name], code.name)
      known[code.name] = true
    end
    for word in pairs(told) do assert.is_true(known[word], word .. " is no code") end
  end)
  it("tells the limits as they are", function()
    local limits = read "src/base/limits.h"
    local function limit(name) return assert(limits:match("#define " .. name .. " +(%w+)")) end
    tells(lib, ("| calls in flight | %s a session |"):format(limit "FAE_SESSION_CALLS"))
    tells(lib, ("%s levels"):format(limit "FAE_DEPTH_MAX"))
    tells(lib, ("at most %s;"):format(limit "FAE_PARAMS_MAX"))
    assert.equal("1000000u", limit "FAE_ELEMENTS_MAX")
    tells(lib, "1,000,000 elements")
    assert.truthy(limits:find("FAE_OUT_PAUSE (1u * FAE_MIB)", 1, true))
    assert.truthy(limits:find("FAE_OUT_SLACK (8u * FAE_MIB)", 1, true))
    assert.truthy(read "src/rpc/message.h":find("FAE_ERROR_TEXT_MAX (8 * FAE_KIB)", 1, true))
  end)
  it("has examples whose JSON and bytes say the same", function()
    local n = 0
    local function check(json, hex)
      if hex == "" then return end
      local bytes = hex:gsub("%s", ""):gsub("%x%x", function(h) return string.char(tonumber(h, 16)) end)
      assert.same(assert(fae.json.decode(json)), assert(fae.msgpack.decode(bytes)), json)
      n = n + 1
    end
    for block in lib:gmatch "```wire\n(.-)```" do
      for json, hex in block:gmatch "[<>] (%[[^\n]*)\n([%x \n]*)" do check(json, hex) end
    end
    assert.is_true(n >= 20, n .. " examples")
  end)
end)
