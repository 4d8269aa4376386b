-- SPDX-License-Identifier: BSD-2-Clause
--
-- What every backend of the kv store must pass: kv_suite(name, kv, options) describes it with the functions of
-- lua/fae/kv_backend.lua over a backend. Keys begin with a mark of this run, so a backend may hold anything else.
-- options.ttl_ms: the shortest time to live that the backend keeps exactly enough (20).
local fae = require "fae"
local core = require "fae.core"

local runs = 0

local function fails(code, value, err)
  assert.is_nil(value)
  assert.is_table(err)
  assert.equal(code, err.code, tostring(err))
end

local function keys_of(items)
  local keys = {}
  for i, item in ipairs(items) do keys[i] = item[1] end
  return keys
end

return function(name, kv, options)
  local ttl_ms = options and options.ttl_ms or 20
  local mark

  local function key(text) return mark .. text end

  local function wait_gone(k)
    local deadline = fae.time.monotonic_us() + 5e6
    while kv.get(k) ~= nil do
      assert.is_true(fae.time.monotonic_us() < deadline, "it never expires")
      fae.sleep(5)
    end
  end

  describe(name, function()
    before_each(function()
      runs = runs + 1
      mark = ("suite%d%d:"):format(runs, fae.time.monotonic_us())
    end)

    it("gives back what was set, and nil for what was not", function()
      assert.is_nil(kv.get(key "a"))
      assert.is_true(kv.set(key "a", "1"))
      assert.equal("1", (kv.get(key "a")))
      assert.is_true(kv.set(key "a", "two"))
      assert.equal("two", (kv.get(key "a")))
      assert.is_true(kv.set(key "a", ""))
      assert.equal("", (kv.get(key "a")))
    end)

    it("takes any bytes as keys and values", function()
      local all = {}
      for i = 0, 255 do all[#all + 1] = string.char(i) end
      local bytes = table.concat(all)
      assert.is_true(kv.set(key(bytes), bytes))
      assert.equal(bytes, (kv.get(key(bytes))))
      assert.is_true(kv.set(key "\0", "zero"))
      assert.is_true(kv.set(key "\0\0", "two zeros"))
      assert.equal("zero", (kv.get(key "\0")))
      assert.equal("two zeros", (kv.get(key "\0\0")))
      assert.is_true(kv.set(key "\255\254", "no text"))
      assert.equal("no text", (kv.get(key "\255\254")))
    end)

    it("takes the longest key and value, and none that is longer", function()
      local key_max, value_max = core.kv_limits()
      local long = key(("k"):rep(key_max - #mark))
      assert.equal(key_max, #long)
      assert.is_true(kv.set(long, ("v"):rep(value_max)))
      assert.equal(value_max, #(kv.get(long)))
      assert.is_true(kv.del(long))
      fails("LIMIT", kv.set(long .. "k", "v"))
      fails("LIMIT", kv.get(long .. "k"))
      fails("LIMIT", kv.set(key "a", ("v"):rep(value_max + 1)))
      assert.is_nil(kv.get(key "a"))
    end)

    it("says what is wrong, and writes nothing", function()
      fails("BAD_ARGS", kv.get "")
      fails("BAD_ARGS", kv.set("", "v"))
      fails("BAD_ARGS", kv.del "")
      fails("BAD_ARGS", kv.get_many { "a", 7 })
      fails("BAD_ARGS", kv.get_many { "" })
      for _, ttl in ipairs { 0, -1, 1.5, 0 / 0, math.huge, "5", true } do
        fails("BAD_ARGS", kv.set(key "a", "v", { ttl_ms = ttl }))
        fails("BAD_ARGS", kv.add(key "a", "v", { ttl_ms = ttl }))
        fails("BAD_ARGS", kv.cas(key "a", "v", 0, { ttl_ms = ttl }))
        fails("BAD_ARGS", kv.incr(key "a", 1, { ttl_ms = ttl }))
      end
      fails("BAD_ARGS", kv.set(key "a", "v", { ttl = 5 }))
      fails("BAD_ARGS", kv.set(key "a", "v", "5"))
      fails("BAD_ARGS", kv.cas(key "a", "v", -1))
      fails("BAD_ARGS", kv.cas(key "a", "v", "1"))
      fails("BAD_ARGS", kv.incr(key "a", 1.5))
      fails("BAD_ARGS", kv.incr(key "a", "1"))
      fails("BAD_ARGS", kv.scan "none")
      fails("BAD_ARGS", kv.scan "{}none")
      fails("BAD_ARGS", kv.scan "{none")
      for _, limit in ipairs { 0, -1, 1.5, 1001, "1" } do
        fails("BAD_ARGS", kv.scan("{a}", nil, limit))
        fails("BAD_ARGS", kv.scan_all(nil, limit))
      end
      assert.is_nil(kv.get(key "a"))
      for _, wrong in ipairs { false, 7, {} } do
        assert.has_error(function() kv.get(wrong) end)
        assert.has_error(function() kv.set(wrong, "v") end)
        assert.has_error(function() kv.set(key "a", wrong) end)
      end
    end)

    it("tells whether it removed", function()
      assert.is_false(kv.del(key "a"))
      kv.set(key "a", "1")
      assert.is_true(kv.del(key "a"))
      assert.is_nil(kv.get(key "a"))
      assert.is_false(kv.del(key "a"))
    end)

    it("gets many, those that are there", function()
      kv.set(key "a", "1")
      kv.set(key "c", "3")
      assert.same({ [key "a"] = "1", [key "c"] = "3" }, kv.get_many { key "a", key "b", key "c", key "a" })
      assert.same({}, kv.get_many {})
      assert.same({}, kv.get_many { key "x" })
    end)

    it("adds only where there is none", function()
      assert.is_true(kv.add(key "a", "1"))
      assert.is_false(kv.add(key "a", "2"))
      assert.equal("1", (kv.get(key "a")))
      kv.del(key "a")
      assert.is_true(kv.add(key "a", "3"))
    end)

    it("compares versions, which come once", function()
      assert.is_false(kv.cas(key "a", "x", 7))
      assert.is_true(kv.cas(key "a", "1"))
      assert.is_false(kv.cas(key "a", "2", 0))
      local _, first = kv.get(key "a")
      assert.is_number(first)
      assert.is_true(kv.cas(key "a", "2", first))
      local value, second = kv.get(key "a")
      assert.equal("2", value)
      assert.not_equal(first, second)
      assert.is_false(kv.cas(key "a", "3", first))
      kv.del(key "a")
      assert.is_false(kv.cas(key "a", "4", second))
      kv.set(key "a", "2")
      local _, third = kv.get(key "a")
      assert.not_equal(first, third)
      assert.not_equal(second, third)
      assert.is_false(kv.cas(key "a", "5", second))
    end)

    it("counts up and down", function()
      assert.equal(1, kv.incr(key "n"))
      assert.equal(11, kv.incr(key "n", 10))
      assert.equal(-9, kv.incr(key "n", -20))
      assert.equal(-9, kv.incr(key "n", 0))
      assert.equal(-4, kv.incr(key "n", 5ULL))
      assert.equal(-9, kv.incr(key "n", -5LL))
      fails("BAD_ARGS", kv.incr(key "n", 0x8000000000000000ULL))
      assert.equal("-9", (kv.get(key "n")))
      kv.set(key "n", "9223372036854775806")
      assert.equal("9223372036854775807", tostring(kv.incr(key "n")):match "^-?%d+")
      fails("LIMIT", kv.incr(key "n"))
      assert.equal("9223372036854775807", (kv.get(key "n")))
      for _, text in ipairs { "", "x", "1x", "-", "1.5", " 1", "+1", "99999999999999999999" } do
        kv.set(key "t", text)
        fails("BAD_ARGS", kv.incr(key "t"))
        assert.equal(text, (kv.get(key "t")))
      end
    end)

    it("forgets what has lived its time", function()
      kv.set(key "a", "1", { ttl_ms = ttl_ms })
      kv.set(key "b", "1", { ttl_ms = 60000 })
      kv.set(key "c", "1", { ttl_ms = ttl_ms })
      kv.set(key "c", "2")
      wait_gone(key "a")
      assert.equal("1", (kv.get(key "b")))
      assert.equal("2", (kv.get(key "c")))
      assert.is_false(kv.del(key "a"))
      assert.same({}, kv.get_many { key "a" })
      kv.set(key "d", "7", { ttl_ms = ttl_ms })
      wait_gone(key "d")
      assert.equal(1, kv.incr(key "d"))
      kv.set(key "e", "7", { ttl_ms = ttl_ms })
      wait_gone(key "e")
      assert.is_true(kv.add(key "e", "8"))
      kv.set(key "f", "7", { ttl_ms = ttl_ms })
      wait_gone(key "f")
      assert.is_true(kv.cas(key "f", "8", 0))
      assert.equal(1, kv.incr(key "g", 1, { ttl_ms = ttl_ms }))
      assert.equal(2, kv.incr(key "g", 1) == 2 and 2 or kv.incr(key "g", 1))
      wait_gone(key "g")
    end)

    it("scans a bucket in order, in pieces", function()
      local tag = "{" .. mark .. "}"
      local want = {}
      for i = 1, 25 do
        want[i] = ("%s:%02d"):format(tag, i)
        kv.set(want[i], tostring(i))
      end
      kv.set(tag .. "other", "x")
      kv.set("{" .. mark .. "x}:01", "x")
      local got, from, n = {}, nil, 0
      repeat
        local items, next_from = kv.scan(tag .. ":", from, 10)
        for _, item in ipairs(items) do got[#got + 1] = item[1] end
        from, n = next_from, n + 1
      until not from
      assert.same(want, got)
      assert.equal(3, n)
      local items, next_from = kv.scan(tag .. ":", want[24], 10)
      assert.same({ want[24], want[25] }, keys_of(items))
      assert.equal("24", items[1][2])
      assert.is_nil(next_from)
      assert.same({ tag .. "other" }, keys_of(kv.scan(tag .. "o")))
      assert.same({}, (kv.scan(tag .. "z")))
      assert.same({}, (kv.scan(tag .. ":", tag .. "~")))
      assert.equal(26, #(kv.scan(tag)))
    end)

    it("leaves expired records out of scans", function()
      local tag = "{" .. mark .. "}"
      kv.set(tag .. "1", "1", { ttl_ms = ttl_ms })
      kv.set(tag .. "2", "2")
      wait_gone(tag .. "1")
      assert.same({ tag .. "2" }, keys_of(kv.scan(tag)))
    end)

    it("walks everything once", function()
      local want, got = {}, {}
      for i = 1, 50 do
        want[key(i)] = tostring(i)
        kv.set(key(i), tostring(i))
      end
      local cursor
      repeat
        local items, next_cursor = kv.scan_all(cursor, 7)
        assert.is_true(#items <= 7)
        for _, item in ipairs(items) do
          if item[1]:sub(1, #mark) == mark then
            assert.is_nil(got[item[1]], "twice")
            got[item[1]] = item[2]
          end
        end
        cursor = next_cursor
      until not cursor
      assert.same(want, got)
    end)

    it("counts what is there", function()
      local before, two, one
      local tries = 0
      repeat -- records of other specs may be swept meanwhile
        before = kv.count()
        kv.set(key "a", "1")
        kv.set(key "a", "2")
        kv.set(key "b", "1")
        two = kv.count()
        kv.del(key "a")
        kv.del(key "a")
        one = kv.count()
        kv.del(key "b")
        tries = tries + 1
      until kv.count() == before or tries == 5
      assert.equal(before + 2, two)
      assert.equal(before + 1, one)
    end)

    it("does a hundred things side by side", function()
      local fns = {}
      for i = 1, 100 do
        fns[i] = function() return kv.incr(key "n", i) end
      end
      local results, errors = fae.parallel(fns)
      assert.is_nil(errors)
      assert.equal(100, #results)
      assert.equal("5050", (kv.get(key "n")))
    end)
  end)
end
