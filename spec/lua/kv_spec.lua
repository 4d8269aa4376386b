-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.kv: the suite of all backends over the local store and over a table, which shows that it knows nothing of either;
-- then what only the local store has.
local fae = require "fae"
local core = require "fae.core"
local over = require("fae.kv_backend").over

local suite = setfenv(assert(loadfile "spec/lua/kv_suite.lua"), getfenv(1))() -- with describe and it

local function int64(text)
  local n = 0LL
  for digit in text:gmatch "%d" do n = n * 10 - tonumber(digit) end -- downwards: the lowest has no positive twin
  return text:sub(1, 1) == "-" and n or -n
end

-- A backend in seventy lines.
local function in_memory()
  local records, version, b = {}, 0, {}

  local function live(key)
    local r = records[key]
    if r and r.until_ms and fae.time.now_ms() >= r.until_ms then records[key], r = nil, nil end
    return r
  end

  local function put(key, value, ttl_ms)
    version = version + 1
    records[key] = { value = value, version = version, until_ms = ttl_ms and fae.time.now_ms() + ttl_ms }
    return true
  end

  local function sorted(pick)
    local keys = {}
    for key in pairs(records) do if live(key) and pick(key) then keys[#keys + 1] = key end end
    table.sort(keys)
    return keys
  end

  local function piece(keys, limit)
    local items = {}
    for i = 1, math.min(limit, #keys) do items[i] = { keys[i], records[keys[i]].value } end
    return items, keys[limit + 1]
  end

  function b.get(key)
    local r = live(key)
    if r then return r.value, r.version end
  end
  function b.get_many(keys)
    local found = {}
    for _, key in ipairs(keys) do found[key] = b.get(key) end
    return found
  end
  b.set = put
  function b.del(key)
    local r = live(key)
    records[key] = nil
    return r ~= nil
  end
  function b.add(key, value, ttl_ms) return live(key) == nil and put(key, value, ttl_ms) end
  function b.cas(key, value, want, ttl_ms)
    local r = live(key)
    return (r and r.version or 0) == want and put(key, value, ttl_ms)
  end
  function b.incr(key, by, ttl_ms)
    local r = live(key)
    local text = r and r.value or "0"
    local digits = text:match "^-?(%d+)$"
    if not digits or #digits > 19 then return nil, fae.err("BAD_ARGS", "no integer") end
    local n = int64(text)
    local sum = n + by
    if (by > 0 and sum < n) or (by < 0 and sum > n) then return nil, fae.err("LIMIT", "too large") end
    local kept = r and r.until_ms
    put(key, tostring(sum):match "^-?%d+", ttl_ms)
    if not ttl_ms then records[key].until_ms = kept end
    return sum > -2 ^ 53 and sum < 2 ^ 53 and tonumber(sum) or sum
  end
  function b.scan(prefix, from, limit)
    return piece(sorted(function(key)
      return key:sub(1, #prefix) == prefix and (not from or key >= from)
    end), limit)
  end
  function b.scan_all(cursor, limit)
    return piece(sorted(function(key) return not cursor or key >= cursor end), limit)
  end
  function b.count() return #sorted(function() return true end) end
  return b
end

-- One turn of the disk for all.
local function side_by_side(n, fn)
  local fns = {}
  for i = 1, n do fns[i] = function() return assert(fn(i)) end end
  local _, errors = fae.parallel(fns)
  assert.is_nil(errors)
end

describe("fae.kv", function()
  local bucket = core.kv_vbucket "{moved}"
  local kv = fae.kv

  before_each(function()
    assert.is_true(kv.bucket(bucket, "active", 0))
    local items = kv.scan("{moved}", nil, 1000)
    side_by_side(#items, function(i) return kv.del(items[i][1]) end)
  end)

  it("puts what has the same text in its first {...} into one bucket", function()
    assert.equal(bucket, (core.kv_vbucket "moved"))
    assert.equal(bucket, (core.kv_vbucket "a{moved}b{other}"))
    assert.not_equal(bucket, (core.kv_vbucket "{}moved"))
    assert.not_equal(bucket, (core.kv_vbucket "{moved"))
  end)

  it("writes to no bucket that is being moved or lives elsewhere, and reads it", function()
    kv.set("{moved}a", "1")
    for state, code in pairs { frozen = "FROZEN", pending = "FROZEN", replica = "UNAVAILABLE", dead = "UNAVAILABLE" } do
      assert.is_true(kv.bucket(bucket, state, 7))
      assert.same({ state = state, epoch = 7, count = 1 }, kv.bucket(bucket))
      for _, write in ipairs {
        function() return kv.set("{moved}a", "2") end,
        function() return kv.del "{moved}a" end,
        function() return kv.add("{moved}b", "2") end,
        function() return kv.cas("{moved}b", "2") end,
        function() return kv.incr "{moved}n" end,
      } do
        local value, err = write()
        assert.is_nil(value)
        assert.equal(code, err.code)
        assert.is_true(err.retryable)
      end
      assert.equal("1", (kv.get "{moved}a"))
      assert.equal(1, kv.bucket(bucket).count)
    end
  end)

  it("moves a bucket in chunks, with versions and times", function()
    side_by_side(300, function(i)
      return kv.set("{moved}" .. i, ("v"):rep(i * 50), i % 3 == 0 and { ttl_ms = 600000 } or nil)
    end)
    local before = {}
    for i = 1, 300 do before[i] = { kv.get("{moved}" .. i) } end
    kv.bucket(bucket, "frozen", 1)
    local chunks, cursor = {}, nil
    repeat
      local chunk
      chunk, cursor = kv.export(bucket, cursor)
      chunks[#chunks + 1] = chunk
    until not cursor
    assert.is_true(#chunks > 1)
    kv.bucket(bucket, "active", 2)
    side_by_side(300, function(i) return kv.del("{moved}" .. i) end)
    assert.equal(0, kv.bucket(bucket).count)
    local refused, err = kv.import(bucket, chunks[1])
    assert.is_nil(refused)
    assert.equal("FROZEN", err.code)
    assert.equal("the bucket is not pending", err.message)
    kv.bucket(bucket, "pending", 3)
    local n = 0
    for _, chunk in ipairs(chunks) do n = n + assert(kv.import(bucket, chunk)) end
    assert.equal(300, n)
    assert.equal(300, kv.bucket(bucket).count)
    for i = 1, 300 do assert.same(before[i], { kv.get("{moved}" .. i) }) end
    kv.bucket(bucket, "active", 4)
    assert.is_true(kv.set("{moved}1", "new"))
    local _, version = kv.get "{moved}1"
    for i = 1, 300 do assert.is_true(version > before[i][2]) end
  end)

  it("imports nothing of a chunk that is broken", function()
    kv.set("{moved}a", "1")
    local chunk = kv.export(bucket)
    kv.del "{moved}a"
    local function refused(bytes, where)
      local n, err = kv.import(where or bucket, bytes, true)
      assert.is_nil(n)
      assert.equal("BAD_ARGS", err.code)
      assert.equal(0, kv.bucket(bucket).count)
    end
    for cut = 0, #chunk - 1 do if cut ~= 6 then refused(chunk:sub(1, cut)) end end
    refused(chunk .. "x")
    refused(chunk, (bucket + 1) % 1024)
    refused(("x"):rep(100))
    refused((chunk:gsub("{moved}a", "{moveX}a")))
    local function of_version(bytes) return chunk:sub(1, 12) .. bytes .. chunk:sub(21) end
    -- 0, and beyond 2^52: those that are given later could not be told apart.
    for _, first in ipairs { "\0\0", "\0\16", "\0\32", "\127\255" } do
      refused(of_version(first .. "\0\0\0\0\0" .. (first == "\0\0" and "\0" or "\1")))
    end
    assert.equal(1, kv.import(bucket, chunk, true))
    assert.equal("1", (kv.get "{moved}a"))
  end)

  it("says what is wrong with a bucket", function()
    for _, wrong in ipairs { -1, 1024, 1.5, "1", {} } do
      for _, f in ipairs { kv.export, kv.bucket, function(b) return kv.import(b, "") end } do
        local value, err = f(wrong)
        assert.is_nil(value)
        assert.equal("BAD_ARGS", err.code)
      end
    end
    for _, wrong in ipairs { "", "Active", "gone" } do
      local ok, err = kv.bucket(1, wrong, 0)
      assert.is_nil(ok)
      assert.equal("BAD_ARGS", err.code)
    end
    local ok, err = kv.bucket(1, "active", -1)
    assert.is_nil(ok)
    assert.equal("BAD_ARGS", err.code)
  end)

  it("refuses cursors that are none", function()
    for _, wrong in ipairs { "", "x", ("x"):rep(600) } do
      local items, err = kv.scan_all(wrong)
      assert.is_nil(items)
      assert.equal("BAD_ARGS", err.code)
    end
  end)

  it("is not there when the configuration does not have it", function()
    local value, err = kv.fast.get "a"
    assert.is_nil(value)
    assert.equal("UNAVAILABLE", err.code)
    assert.truthy(err.message:find("kv_fast", 1, true))
    value, err = kv.fast.set("a", "b")
    assert.is_nil(value)
    assert.equal("UNAVAILABLE", err.code)
  end)

  it("cannot be waited for where nothing may wait", function()
    local ok, err = pcall(function()
      return table.sort({ 2, 1 }, function() return kv.set("a", "b") end)
    end)
    assert.is_false(ok)
    assert.truthy(tostring(err):find("waits", 1, true))
  end)
end)

-- Last: some of its many records would lie in the bucket that is moved above, one time in ten.
suite("the kv store of the node", fae.kv)
suite("a kv store in a table", over(in_memory()))
