-- SPDX-License-Identifier: BSD-2-Clause
--
-- lua/fae/jsonmerge.lua, over rows of old, new and merged; what is merged is compared byte by byte.
local fae = require "fae"
local json = setfenv(assert(loadfile "spec/lua/mysql_fake.lua"), getfenv(1))().load "fae.jsonmerge"

local rows = {
  -- fae's own vectors
  { '{"a":1}', '{"b":2}', '{"a":1,"b":2}' },
  { '{"a":{"x":1,"y":2}}', '{"a":{"y":7,"z":8}}', '{"a":{"x":1,"y":7,"z":8}}' },
  { '{"n":"xxx"}', '{"n":[1,2]}', '{"n":[1,2]}' },

  { "{}", "{}", "{}" }, { ' { } ', '\n{"a"\t:\r1 } ', '{"a":1}' },
  { '{"a":1}', '{"a":null}', '{"a":null}' }, { '{"a":{"b":1}}', '{"a":5}', '{"a":5}' },
  { '{"a":[1]}', '{"a":[2]}', '{"a":[2]}' }, { '{"a":5}', '{"a":{"b":1}}', '{"a":{"b":1}}' },
  { '{"a":[{"b":1}]}', '{"a":[{"c":1}]}', '{"a":[{"c":1}]}' },
  { '{"z":1,"a":2}', '{"m":3,"z":4}', '{"z":4,"a":2,"m":3}' },
  { '{"n":9223372036854775807,"m":18446744073709551616.50}', '{"o":-0.10e+05}',
    '{"n":9223372036854775807,"m":18446744073709551616.50,"o":-0.10e+05}' },
  { '{"t":"it\'s \\"x\\" \\\\ \\u00fc \\/ ü <>&"}', '{"e":"\\ud83d\\ude00 ;drop table t"}',
    '{"t":"it\'s \\"x\\" \\\\ \\u00fc \\/ ü <>&","e":"\\ud83d\\ude00 ;drop table t"}' },
  { '{"\\u0061":1}', '{"a":2}', '{"\\u0061":2}' }, { '{"a":1}', '{"\\u0061":2}', '{"a":2}' },
  { '{"ü":1,"\\ud83d\\ude00":1}', '{"\\u00fc":2,"😀":2}', '{"ü":2,"\\ud83d\\ude00":2}' },
  { '{"\\ud83d":1,"\\ude00":1}', '{"\\ud83d\\ude00":2}', '{"\\ud83d":1,"\\ude00":1,"\\ud83d\\ude00":2}' },
  { '{"a\\n\\t\\"":1}', '{"a\\u000a\\u0009\\u0022":2}', '{"a\\n\\t\\"":2}' },
  { '{"a":1,"a":2}', '{"a":{"b":1},"a":{"c":2}}', '{"a":{"c":2}}' },
  { '{"":1}', '{"":{"":2}}', '{"":{"":2}}' }, { '{"a":[1, 2 ,3]}', "{}", '{"a":[1, 2 ,3]}' },
  { '{"a":true,"b":false,"c":null}', "{}", '{"a":true,"b":false,"c":null}' },
}

local bad = {
  "", " ", "[]", "1", '"a"', "null", "{", '{"a"}', '{"a":}', '{"a":1,}', "{,}", '{"a":1}x', '{"a":1}{}', "{a:1}",
  "{'a':1}", '{"a":01}', '{"a":1.}', '{"a":.5}', '{"a":+1}', '{"a":1e}', '{"a":-}', '{"a":0x1}', '{"a":NaN}',
  '{"a":tru}', '{"a":True}', '{"a":"\n"}', '{"a":"\\x"}', '{"a":"\\u12g4"}', '{"a":"b}', '{"a":[1,]}', '{"a":[}',
  '{"a":[1 2]}', '{"a" 1}', '{"a":1 "b":2}', '{"a":1}\0', '\239\187\191{}', '{"a":"\0"}',
}

describe("fae.jsonmerge", function()
  it("merges objects, and lets anything else be replaced", function()
    for _, row in ipairs(rows) do
      local merged, err = json.merge(row[1], row[2])
      assert.equal(row[3], merged, tostring(err))
    end
  end)
  it("refuses what is no object, on either side", function()
    for _, text in ipairs(bad) do
      local merged, err = json.merge("{}", text)
      assert.is_nil(merged, text)
      assert.equal("BAD_ARGS", err.code)
      merged, err = json.merge(text, "{}")
      assert.is_nil(merged, text)
      assert.equal("BACKEND", err.code)
      assert.is_nil((json.check(text)))
    end
    assert.is_true(json.check '{"a":1}')
  end)
  it("says where", function()
    local _, err = json.merge("{}", '{"a":tru}')
    assert.equal("what is to be merged is no JSON object: no value at byte 6", err.message)
  end)
  it("goes 64 levels deep and no deeper", function()
    local function deep(n, open, close) return ('{"a":' .. open):rep(n) .. "1" .. (close .. "}"):rep(n) end
    assert.equal(deep(64, "", ""), json.merge(deep(64, "", ""), deep(64, "", "")))
    assert.equal(deep(32, "[", "]"), json.merge("{}", deep(32, "[", "]")))
    local open = '{"a":' .. ("["):rep(100000)
    for _, text in ipairs { deep(65, "", ""), deep(33, "[", "]"), deep(100000, "", ""), open } do
      local merged, err = json.merge("{}", text)
      assert.is_nil(merged)
      assert.truthy(err.message:find("more than 64 levels", 1, true))
    end
  end)
  it("agrees with fae.json on what comes out", function()
    local seed = 1
    local function random(n)
      seed = seed * 16807 % 2147483647
      return seed % n
    end
    local function value(depth)
      local what = random(depth > 3 and 3 or 5)
      if what == 0 then return random(1000) end
      if what == 1 then return ("t%c\\\"ü"):format(65 + random(20)) end
      if what == 2 then return random(2) == 0 end
      local t = {}
      for _ = 1, random(4) do t["k" .. random(6)] = value(depth + 1) end
      return t
    end
    local function merged(a, b)
      for k, v in pairs(b) do
        if type(v) == "table" and type(a[k]) == "table" then merged(a[k], v) else a[k] = v end
      end
      return a
    end
    local function object()
      local t = { k1 = value(0) }
      for _ = 1, random(5) do t["k" .. random(6)] = value(0) end
      return t
    end
    for _ = 1, 50 do
      local a, b = object(), object()
      local text = assert(json.merge(fae.json.encode(a), fae.json.encode(b)))
      assert.same(merged(a, b), fae.json.decode(text))
    end
  end)
  it("takes time in proportion, and ends what does not", function()
    local n = os.getenv "FAE_TEST_GC" and 100 or 60000
    for _, piece in ipairs { "{},", "[],", '{"x":1},', "1,", '"\\n",' } do
      local text = '{"a":[' .. piece:rep(n) .. "1]}"
      local began = os.clock()
      assert.equal(#text, #assert(json.merge(text, text)))
      assert.is_true(os.clock() - began < 5)
    end
    local deep = ('{"a":'):rep(63) .. '{"b":"' .. ("x"):rep(2 ^ 20) .. '"}' .. ("}"):rep(63)
    local _, err = json.merge(deep, deep)
    assert.equal("LIMIT", err.code)
    assert.equal(deep, json.merge(deep, ('{"a":'):rep(9) .. "{}" .. ("}"):rep(9)))
  end)
  it("lets others have their turn", function()
    local keys, turns, over = {}, 0, false
    for i = 1, os.getenv "FAE_TEST_GC" and 5000 or 40000 do keys[i] = ('"\\u0061%d":1'):format(i) end
    local text = "{" .. table.concat(keys, ",") .. "}"
    fae.spawn(function()
      while not over do
        turns = turns + 1
        if not fae.sleep(0) then return end
      end
    end)
    assert.equal(text, json.merge(text, text))
    over = true
    assert.is_true(turns >= 3, turns)
  end)
  it("takes a megabyte", function()
    local n = os.getenv "FAE_TEST_GC" and 1000 or 200000
    local big = '{"a":[' .. ("1,"):rep(n) .. '1],"b":"' .. ("x"):rep(500000) .. '"}'
    assert.equal(#big + 6, #assert(json.merge(big, '{"c":1}')))
    local _, err = json.merge("{}", '{"a":"' .. ("x"):rep(4194304) .. '"}')
    assert.truthy(err.message:find("more than 4194304 bytes", 1, true))
  end)
end)
