-- SPDX-License-Identifier: BSD-2-Clause
--
-- Servant my over a fake of mysql: what is asked of which pool, with which words and values, and what becomes of it.
local fae = require "fae"
local store = require("fae.lcache").open "query_cache"
local testing = require "fae.testing"
local fakes = setfenv(assert(loadfile "spec/lua/mysql_fake.lua"), getfenv(1))()

local ok = function() return fakes.result("", {}, 1, 5) end
local answer = ok
local fake, g

local function call(name, ...) return g.call(name, ...) end

local function code(name, ...)
  local value, err = g.call(name, ...)
  assert.is_nil(value)
  return err.code, err.message, err.detail
end

local function last() return fake.log[#fake.log] end

local function forget()
  fake.log, fake.given = {}, {}
  answer = ok
  for _, key in ipairs { "k", "k1", "k2" } do store.del(key) end
end

describe("servant my", function()
  setup(function()
    fake = fakes.new {
      sections = {
        shard = { { name = "U", strategy = "hash", pools = "U1 U2 U3" },
          { name = "V", strategy = "standard", lookup_pool = "L", lookup_table = "t" } },
        mysql = { { name = "G" }, { name = "U1" }, { name = "U2" }, { name = "U3" }, { name = "V1" }, { name = "V2" } },
      },
      answer = function(...) return answer(...) end,
    }
    g = testing.load({}, { bundled = true })
    assert.same({}, g.errors)
  end)
  teardown(function() fake.remove() end)
  before_each(forget)

  describe("query", function()
    it("asks the entity's pool, with values bound", function()
      answer = function() return fakes.result("a", { { 1 } }) end
      assert.same({ cols = { "a" }, rows = { { 1 } } },
        call("my.query", "U", "t", 17, "select a from t where i = ? and j <=> ?", { "x", fae.null }))
      assert.same({ pool = "U3", sql = "select a from t where i = ? and j <=> ?", n = 2, args = { "x" },
        replica = false }, last())
      call("my.query", "G", "t", nil, "select 1")
      assert.equal("G", last().pool)
      call("my.query", "G", "t", nil, "select ?, ?, ?", { fae.bin "x", true, 5LL })
      assert.same({ fae.bin "x", true, 5LL }, last().args)
    end)
    it("only reads", function()
      for _, sql in ipairs { "insert into t values (1)", "with a as (select 1) delete from t", "call p()",
        "select 1 into outfile '/x'", "drop table t" } do
        local c, text = code("my.query", "G", "t", nil, sql)
        assert.equal("BAD_ARGS", c)
        assert.truthy(text:find("my.query reads", 1, true))
      end
      for _, sql in ipairs { "", "select 1; select 2", "load data infile 'x' into table t", "/*!*/select 1" } do
        assert.equal("BAD_ARGS", (code("my.query", "G", "t", nil, sql)))
      end
      assert.same({}, fake.log)
    end)
    it("refuses what means the connection, and says what does not", function()
      for _, sql in ipairs { "select last_insert_id()", "select @a", "show warnings", "select get_lock('a', 1)" } do
        local c, text = code("my.query", "G", "t", nil, sql)
        assert.equal("BAD_ARGS", c)
        assert.truthy(text:find("each statement may have another", 1, true), text)
        assert.equal("BAD_ARGS", (code("my_query", "G", "t", 0, sql, {}, "")))
        assert.equal("BAD_ARGS", (code("my.query_shards", "G", "t", sql)))
      end
      for _, sql in ipairs { "insert into t values (last_insert_id())", "create temporary table t (a int)", "begin" } do
        assert.equal("BAD_ARGS", (code("my.exec", "G", "t", nil, sql)))
      end
      assert.same({}, fake.log)
    end)
    it("says why it takes a statement for a write that looks like a read", function()
      local _, text = code("my.query", "G", "t", nil, "select 'a\\' into outfile '/x' -- '")
      assert.truthy(text:find("values are better bound", 1, true))
    end)
    it("goes to a replica when it may and was asked to", function()
      local replica = { replica = true }
      call("my.query", "G", "t", nil, "select 1", nil, nil, replica)
      assert.is_true(last().replica)
      call("my.query", "G", "t", nil, "select 1", nil, "", replica)
      assert.is_true(last().replica)
      for _, sql in ipairs { "select 1 for update", "select last_insert_id(1)", "show tables" } do
        call("my.query", "G", "t", nil, sql, nil, nil, replica)
        assert.is_false(last().replica)
      end
      call("my.query", "G", "t", nil, "select 1", nil, "k", replica) -- what is kept comes from the primary
      assert.is_false(last().replica)
    end)
    it("keeps results under the client's key, and only those of plain reads", function()
      answer = function() return fakes.result("a", { { #fake.log } }) end
      assert.equal(1, call("my.query", "G", "t", nil, "select a from t", nil, "k").rows[1][1])
      assert.equal(1, call("my.query", "G", "t", nil, "select a from t", nil, "k").rows[1][1])
      assert.equal(1, call("my.query", "G", "t", nil, "select other from t", nil, "k").rows[1][1])
      call("my.exec", "G", "t", nil, "update t set a = 1", nil, "k")
      assert.equal(3, call("my.query", "G", "t", nil, "select a from t", nil, "k").rows[1][1])
      for i, sql in ipairs { "select a from t for update", "show tables", "select is_used_lock('a')" } do
        assert.equal(3 + i, call("my.query", "G", "t", nil, sql, nil, "k").rows[1][1])
      end
      assert.is_true(call("my.evict", "k"))
      assert.is_false(call("my.evict", "k"))
    end)
    it("refuses values and options that are none", function()
      for _, value in ipairs { {}, { 1 }, 0 / 0, math.huge, print } do
        assert.equal("BAD_ARGS", (code("my.query", "G", "t", nil, "select ?", { value })))
      end
      local many = {}
      for i = 1, 5001 do many[i] = i end
      assert.equal("LIMIT", (code("my.query", "G", "t", nil, "select ?", many)))
      for _, options in ipairs { { ttl = 1 }, { ttl_ms = -1 }, { ttl_ms = "1" }, { ttl_ms = 0.5 }, { replica = 1 } } do
        assert.equal("BAD_ARGS", (code("my.query", "G", "t", nil, "select 1", nil, nil, options)))
      end
      assert.equal("BAD_ARGS", (code("my.query", "U", "t", 0, "select 1")))
      assert.same({}, fake.log)
    end)
    it("passes the server's errors on", function()
      answer = function() return nil, fakes.backend_error(1213, "40001", "mysql G h:1: 1213 Deadlock found") end
      local c, text, detail = code("my.query", "G", "t", nil, "select 1")
      assert.equal("BACKEND", c)
      assert.equal("mysql G h:1: 1213 Deadlock found", text)
      assert.same({ errno = 1213, sqlstate = "40001" }, detail)
    end)
  end)

  it("exec only writes", function()
    assert.same({ affected = 1, insert_id = 5 }, call("my.exec", "G", "t", nil, "INSERT INTO t VALUES (?)", { 1 }))
    answer = function() return fakes.result("id", { { 7 } }, 1) end
    assert.same({ affected = 1, insert_id = 0, cols = { "id" }, rows = { { 7 } } },
      call("my.exec", "G", "t", nil, "insert into t values (1) returning id"))
    assert.equal("BAD_ARGS", (code("my.exec", "G", "t", nil, "select 1")))
    assert.equal("BAD_ARGS", (code("my.exec", "G", "t", nil, "commit")))
    call("my.exec", "G", "t", nil, "call p()")
  end)

  describe("bulk_exec", function()
    local function two(first, second)
      return { { pool = "G", table = "t", sql = first or "update t set a = 1", cache_key = "k1" },
        { pool = "G", table = "t", sql = second or "update t set a = ?", args = { 2 }, cache_key = "k2" } }
    end
    local function failing(err)
      return function(_, sql)
        if sql:find "bad" then return nil, err end
        return ok()
      end
    end
    local function sqls()
      local list = {}
      for i, entry in ipairs(fake.log) do list[i] = entry.sql end
      return list
    end
    it("adds up what was affected", function()
      answer = function(_, _, args) return fakes.result("", {}, args[1] or 10) end
      assert.same({ affected = 12 }, call("my.bulk_exec", two()))
      assert.same({ affected = 0 }, call("my.bulk_exec", {}))
    end)
    it("says which one failed, and what was done before", function()
      answer = failing(fakes.backend_error(1062, "23000", "dup"))
      local c, text, detail = code("my.bulk_exec", two(nil, "delete from bad"))
      assert.equal("BACKEND", c)
      assert.equal("statement 2 of 2: dup", text)
      assert.same({ element = 2, affected = 1, errno = 1062, sqlstate = "23000" }, detail)
    end)
    it("is one transaction when it is atomic", function()
      assert.same({ affected = 2 }, call("my.bulk_exec", two(), { atomic = true }))
      assert.same({ "START TRANSACTION", "update t set a = 1", "update t set a = ?", "COMMIT" }, sqls())
      for i = 2, 4 do assert.equal(fake.log[1].conn, fake.log[i].conn) end
      assert.same({ { conn = fake.log[1].conn, sound = true } }, fake.given)
    end)
    it("rolls back when one fails", function()
      answer = failing(fakes.backend_error(1062))
      local c, _, detail = code("my.bulk_exec", two(nil, "delete from bad"), { atomic = true })
      assert.equal("BACKEND", c)
      assert.equal(2, detail.element)
      assert.equal(0, detail.affected)
      assert.same({ "START TRANSACTION", "update t set a = 1", "delete from bad", "ROLLBACK" }, sqls())
      assert.is_true(fake.given[1].sound)
    end)
    it("drops the connection when its time is over or it is lost", function()
      for _, why in ipairs { "TIMEOUT", "UNKNOWN", "CANCELLED" } do
        forget()
        answer = failing(fae.err(why, "x"))
        assert.equal(why, (code("my.bulk_exec", two(nil, "delete from bad"), { atomic = true })))
        assert.equal("delete from bad", last().sql)
        assert.is_false(fake.given[1].sound)
      end
    end)
    it("notices what ends it", function()
      answer = function(_, sql, _, entry)
        entry.conn.over = sql:find "call" ~= nil
        return ok()
      end
      local c, text = code("my.bulk_exec", two("call p()"), { atomic = true })
      assert.equal("BAD_ARGS", c)
      assert.equal("statement 1 of 2: it ended the transaction that it was part of: what was before it is done", text)
    end)
    it("does not know when the answer to a commit is lost", function()
      answer = function(_, sql) if sql == "COMMIT" then return nil, fae.err("TIMEOUT", "late") end return ok() end
      assert.equal("UNKNOWN", (code("my.bulk_exec", two(), { atomic = true })))
      assert.is_false(fake.given[1].sound)
    end)
    it("tells the cache of every key, before and after", function()
      local seen = {}
      local function remember(key) call("my.query", "G", "t", nil, "select 1", nil, key) end
      for _, atomic in ipairs { false, true } do
        forget()
        answer = function() return fakes.result("a", { { 1 } }) end
        remember "k1"
        remember "k2"
        answer = function(_, sql)
          if sql == "update t set a = 1" then seen[#seen + 1] = store.get "k1":sub(1, 1) end
          return ok()
        end
        call("my.bulk_exec", two(), { atomic = atomic })
        assert.equal("-", store.get "k1":sub(1, 1))
        assert.equal("-", store.get "k2":sub(1, 1))
      end
      assert.same({ "W", "W" }, seen)
    end)
    it("may ask what the connection did, when it is atomic", function()
      local id = "insert into t values (last_insert_id())"
      local c, text, detail = code("my.bulk_exec", two(nil, id))
      assert.equal("BAD_ARGS", c)
      assert.truthy(text:find("my.bulk_exec with atomic", 1, true))
      assert.same({ element = 2, affected = 1 }, detail)
      fake.log = {}
      assert.same({ affected = 2 }, call("my.bulk_exec", two(nil, id), { atomic = true }))
      local asked = {}
      for i, entry in ipairs(fake.log) do asked[i] = entry.sql:match "^%S+ %S+" end
      assert.same({ "START TRANSACTION", "SELECT LAST_INSERT_ID(0)", "update t", "insert into" }, asked)
    end)
    it("has done nothing when its transaction did not begin", function()
      answer = function() return nil, fae.err("UNKNOWN", "gone") end
      assert.equal("UNAVAILABLE", (code("my.bulk_exec", two(), { atomic = true })))
    end)
    it("stays in one pool when it is atomic, and commits nothing in between", function()
      local list = two()
      list[2].pool, list[2].hint = "U", 17
      local c, text = code("my.bulk_exec", list, { atomic = true })
      assert.equal("BAD_ARGS", c)
      assert.equal("statement 2 of 2: it lies in U3, the first one in G: atomic is for one of them", text)
      c, text = code("my.bulk_exec", two(nil, "create table x (a int)"), { atomic = true })
      assert.equal("BAD_ARGS", c)
      assert.equal("statement 2 of 2: CREATE commits by itself", text)
      assert.same({}, fake.log)
    end)
    it("checks what it is given", function()
      for _, list in ipairs { { 1 }, { {} }, { { pool = "G" } }, { { pool = "G", sql = 5 } },
        { { pool = "G", sql = "select 1", x = 1 } }, { { pool = "G", sql = "delete from t", args = "x" } } } do
        assert.equal("BAD_ARGS", (code("my.bulk_exec", list)))
      end
      assert.same({}, fake.log)
    end)
  end)

  describe("query_shards", function()
    it("asks all shards of exactly that pool, side by side", function()
      local running, most = 0, 0
      answer = function(pool)
        running = running + 1
        most = math.max(most, running)
        fae.sleep(10)
        running = running - 1
        return fakes.result("p", { { pool } })
      end
      assert.same({ cols = { "p" }, rows = { { "U1" }, { "U2" }, { "U3" } }, shards = 3 },
        call("my.query_shards", "U", "t", "select p from t"))
      assert.equal(3, most)
      assert.same({ { "V1" }, { "V2" } }, call("my.query_shards", "V", "t", "select p from t").rows)
      assert.same({ { "G" } }, call("my.query_shards", "G", "t", "select p from t").rows)
      assert.equal("UNKNOWN_POOL", (code("my.query_shards", "None", "t", "select 1")))
    end)
    it("tells of each that failed, and fails when all did", function()
      answer = function(pool)
        if pool == "U2" then return nil, fakes.backend_error(1146, "42S02", "no table") end
        return fakes.result("p", { { pool } })
      end
      local result = call("my.query_shards", "U", "t", "select p from t")
      assert.same({ { "U1" }, { "U3" } }, result.rows)
      assert.same({ U2 = { code = "BACKEND", message = "no table", detail = { errno = 1146, sqlstate = "42S02" } } },
        result.errors)
      answer = function() return nil, fae.err("CIRCUIT_OPEN", "shut") end
      assert.equal("CIRCUIT_OPEN", (code("my.query_shards", "U", "t", "select p from t")))
    end)
    it("takes no shard for another's rows", function()
      answer = function(pool) return fakes.result(pool == "U3" and "q" or "p", { { pool } }) end
      local result = call("my.query_shards", "U", "t", "select * from t")
      assert.equal(2, #result.rows)
      assert.equal("mysql U3: its columns are others than those of the rest", result.errors.U3.message)
    end)
    it("has a limit of rows, and only reads", function()
      answer = function() return fakes.result("p", { { 1 }, { 2 } }) end
      assert.equal("LIMIT", (code("my.query_shards", "U", "t", "select p from t", nil, { rows_max = 5 })))
      assert.equal(6, #call("my.query_shards", "U", "t", "select p from t", nil, { rows_max = 6 }).rows)
      for _, n in ipairs { -1, 1.5, 0 / 0, 1 / 0 } do
        assert.equal("BAD_ARGS", (code("my.query_shards", "U", "t", "select p from t", nil, { rows_max = n })))
      end
      assert.equal("BAD_ARGS", (code("my.query_shards", "U", "t", "delete from t")))
      assert.equal("BAD_ARGS", (code("my.query_shards", "U", "t", "select 1 for update")))
    end)
  end)

  describe("merge", function()
    local stored
    local function row(_, sql)
      if sql:find "^SELECT" then return fakes.result("c", { { stored } }) end
      return ok()
    end
    it("locks the row, binds what it writes, and forgets the key", function()
      stored, answer = '{"a":1}', row
      call("my.query", "G", "t", nil, "select c from t", nil, "k")
      fake.log = {}
      assert.equal('{"a":1,"b":"it\'s"}', call("my.merge", "U", "ta`ble", 17, { z = 5, ["a b"] = "x'", n = fae.null },
        "c", '{"b":"it\'s"}', { cache_key = "k" }))
      local log = fake.log
      assert.equal("START TRANSACTION", log[1].sql)
      assert.equal("SELECT `c` FROM `ta``ble` WHERE `a b` = ? AND `n` IS NULL AND `z` = ? LIMIT 2 FOR UPDATE",
        log[2].sql)
      assert.same({ "x'", 5 }, log[2].args)
      assert.equal("UPDATE `ta``ble` SET `c` = ? WHERE `a b` = ? AND `n` IS NULL AND `z` = ?", log[3].sql)
      assert.same({ '{"a":1,"b":"it\'s"}', "x'", 5 }, log[3].args)
      assert.equal("COMMIT", log[4].sql)
      assert.equal("U3", log[4].pool)
      assert.equal("-", store.get "k":sub(1, 1))
    end)
    it("takes NULL for an empty object", function()
      stored, answer = fae.null, row
      assert.equal('{"b":2}', call("my.merge", "G", "t", nil, { i = 1 }, "c", '{"b":2}'))
    end)
    it("changes nothing where there is no such row, or several, or no object in it", function()
      for _, rows in ipairs { {}, { { "{}" }, { "{}" } } } do
        forget()
        answer = function() return fakes.result("c", rows) end
        local c, text = code("my.merge", "G", "t", nil, { i = 1 }, "c", "{}")
        assert.equal("NOT_FOUND", c)
        assert.truthy(text:find("Svt: row not found", 1, true))
        assert.equal("ROLLBACK", last().sql)
      end
      for _, text in ipairs { "", "[]", "NULL", 5 } do
        forget()
        stored, answer = text, row
        assert.equal("BACKEND", (code("my.merge", "G", "t", nil, { i = 1 }, "c", "{}")))
        assert.equal("ROLLBACK", last().sql)
      end
    end)
    it("rolls back when another row came to match", function()
      answer = function(_, sql)
        if sql:find "^SELECT" then return fakes.result("c", { { "{}" } }) end
        return fakes.result("", {}, 2)
      end
      assert.equal("NOT_FOUND", (code("my.merge", "G", "t", nil, { i = 1 }, "c", "{}")))
      assert.equal("ROLLBACK", last().sql)
    end)
    it("asks nothing when what it is given is wrong", function()
      for _, args in ipairs {
        { "", { i = 1 }, "c", "{}" }, { "t", {}, "c", "{}" }, { "t", { [1] = 1 }, "c", "{}" },
        { "t", { i = {} }, "c", "{}" }, { "t", { i = 0 / 0 }, "c", "{}" }, { "t", { [""] = 1 }, "c", "{}" },
        { "t", { i = 1 }, "", "{}" }, { "t", { i = 1 }, "c", "[]" }, { "t", { i = 1 }, "c", "{" },
        { "t\0", { i = 1 }, "c", "{}" }, { "t", { i = 1 }, "c\n", "{}" }, { "t", { ["\255"] = 1 }, "c", "{}" },
      } do
        assert.equal("BAD_ARGS", (code("my.merge", "G", args[1], nil, args[2], args[3], args[4])))
      end
      assert.same({}, fake.log)
    end)
  end)

  it("forgets where an entity lies", function()
    answer = function(pool) return fakes.result("shardId shardLock", pool == "L" and { { 1, 0 } } or { { 1 } }) end
    call("my.query", "V", "t", 5, "select 1")
    assert.is_true(call("my.evict_shard", "V", 5))
    assert.is_false(call("my.evict_shard", "V", 5))
  end)

  describe("by fae's names", function()
    it("query answers in texts, and tells NULL from them", function()
      answer = function()
        return fakes.result("a b", { { 1, "NULL" }, { fae.null, 1.5 }, { 9223372036854775807LL, 0.1 }, { -2, 1e300 } })
      end
      assert.same({ cols = { "a", "b" }, rowsAffected = 0, lastInsertId = 0, rows = { { "1", "NULL" },
        { fae.null, "1.5" }, { "9223372036854775807", "0.1" }, { "-2", "1e+300" } } },
        call("my_query", "G", "t", 0, "select a, b from t", {}, ""))
      answer = ok
      assert.same({ cols = {}, rows = {}, rowsAffected = 1, lastInsertId = 5 },
        call("my_query", "G", "t", 0, "  update t set a = 1", {}, ""))
      local c, text = code("my_query", "U", "t", 0, "select 1", {}, "")
      assert.equal("BAD_ARGS", c)
      assert.truthy(text:find("hintId=0?", 1, true))
    end)
    it("query keeps and forgets", function()
      answer = function() return fakes.result("a", { { #fake.log } }) end
      local function get() return call("my_query", "G", "t", 0, "select a from t", {}, "k").rows[1][1] end
      assert.equal("1", get())
      assert.equal("1", get())
      call("my_query", "G", "t", 0, "update t set a = 1", {}, "k")
      assert.equal("3", get())
      assert.is_nil(call("my_evict", "k"))
      assert.equal("4", get())
    end)
    it("query_shards fails with the first", function()
      answer = function(pool) return fakes.result("p", { { pool } }) end
      assert.same({ { "U1" }, { "U2" }, { "U3" } }, call("my_query_shards", "U", "t", "select p from t", {}).rows)
      assert.same({ cols = {}, rows = {}, rowsAffected = 0, lastInsertId = 0 },
        call("my_query_shards", "None", "t", "select 1", {}))
      answer = function(pool)
        if pool == "U2" then return nil, fakes.backend_error(1146) end
        return fakes.result("p", { { pool } })
      end
      assert.equal("BACKEND", (code("my_query_shards", "U", "t", "select p from t", {})))
    end)
    it("bulk_exec adds up, and wants lists that are equally long", function()
      answer = ok
      local update = "update t set a = 1"
      assert.equal(2, call("my_bulk_exec", { "G", "U" }, { "t", "t" }, { 0, 17 }, { update, update }, { {}, {} },
        { "", "" }))
      local c, text = code("my_bulk_exec", { "G" }, { "t" }, { 0, 1 }, { update }, { {} }, {})
      assert.equal("BAD_ARGS", c)
      assert.equal("the lists are not equally long: pools 1, tables 1, hintIds 2, sqls 1, argv 1, cacheKeys 0", text)
      c, text = code("my_bulk_exec", { "G" }, { "t" }, { 0 }, { 5 }, { {} }, { "" })
      assert.equal("BAD_ARGS", c)
      assert.equal("sqls[1] is a number, not a string", text)
    end)
    it("merge takes a where of equalities and nothing else", function()
      answer = function(_, sql)
        if sql:find "^SELECT" then return fakes.result("c", { { '{"a":1}' } }) end
        return ok()
      end
      assert.same({ ok = true, newVal = '{"a":1,"b":2}' },
        call("my_merge", "G", "t", 0, "alliance_id=51 AND `u` = 'x''y'", "k", "c", '{"b":2}'))
      assert.equal("SELECT `c` FROM `t` WHERE `alliance_id` = ? AND `u` = ? LIMIT 2 FOR UPDATE", fake.log[2].sql)
      assert.same({ 51, "x'y" }, fake.log[2].args)
      fake.log = {}
      assert.equal("BAD_ARGS", (code("my_merge", "G", "t", 0, "1=1", "k", "c", "{}")))
      assert.same({}, fake.log)
    end)
  end)

  it("counts statements by digest", function()
    local kept = call("my.stats").digests
    answer = function(_, sql)
      if sql:find "slow" then fae.sleep(20) end
      if sql:find "bad" then return nil, fakes.backend_error(1064) end
      return fakes.result("a", { { 1 }, { 2 } })
    end
    for i = 1, 3 do call("my.query", "U", "t", i, "select a, " .. i .. " from counted") end
    call("my.query", "G", "t", nil, "select slow from counted")
    code("my.query", "G", "t", nil, "select bad from counted where p = 'secret'")
    local found = {}
    for _, row in ipairs(call("my.stats").digests) do found[row.digest] = row end
    local one = found["select a, ? from counted"]
    assert.equal("U", one.pool)
    assert.equal(3, one.count)
    assert.equal(6, one.rows)
    assert.equal(0, one.errors)
    local slow = found["select slow from counted"]
    assert.is_true(slow.p50_us >= 20000 and slow.p99_us <= slow.max_us and slow.sum_us >= 20000)
    assert.equal(1, found["select bad from counted where p = ?"].errors)
    assert.equal(1, #call("my.stats", 1).digests)
    assert.is_table(kept)
  end)
end)

describe("servant my's configuration", function()
  local core = require "fae.core"
  local function errors(json)
    local kept = core.servants_json
    core.servants_json = function() return json end
    local loaded = testing.load({}, { bundled = true })
    core.servants_json = kept
    return table.concat(loaded.errors, "\n")
  end
  it("is checked", function()
    assert.equal("", errors '{"my":{"slow_query_ms":0,"cache_ttl_ms":1000,"rows_max":5}}')
    assert.truthy(errors '{"my":{"slow_ms":1}}':find('servant "my": no option slow_ms', 1, true))
    assert.truthy(errors '{"my":{"rows_max":-1}}':find("rows_max is a number that is not negative", 1, true))
    assert.truthy(errors '{"my":{"cache_ttl_ms":"1"}}':find("cache_ttl_ms is a number", 1, true))
  end)
end)

describe("a value that is msgpack already", function()
  local core = require "fae.core"
  local function raw(bytes) return setmetatable({ bytes = bytes }, core.mark "raw") end
  it("goes out as it is, wherever it stands", function()
    local bytes = core.msgpack_encode { cols = { "a" }, rows = {} }
    assert.equal(bytes, core.msgpack_encode(raw(bytes)))
    assert.same({ { cols = { "a" }, rows = {} }, 5 }, core.msgpack_decode(core.msgpack_encode { raw(bytes), 5 }))
  end)
  it("goes nowhere when it is none", function()
    for _, bytes in ipairs { "", "\193", "\146\1", "\1\1", "\130\161a" } do
      local out, err = core.msgpack_encode(raw(bytes))
      assert.is_nil(out)
      assert.equal("BAD_ARGS", err.code)
    end
  end)
end)

describe("fae.querystats", function()
  local stats = fakes.load "fae.querystats"
  it("has at most 256 digests, and keeps those that come often", function()
    for _ = 1, 5 do stats.observe("P", "often", "P", 100, 1) end
    for i = 1, 600 do stats.observe("P", "rare" .. i, "P", 100, 1) end
    local list, total, often = stats.all(), 0, nil
    assert.equal(257, #list)
    for _, row in ipairs(list) do
      total = total + row.count
      if row.digest == "often" then often = row end
    end
    assert.equal(605, total)
    assert.equal(5, often.count)
    assert.equal("(others)", list[1].digest)
  end)
  it("knows percentiles to a fifth", function()
    local own = fakes.load "fae.querystats"
    for us = 1, 1000 do own.observe("P", "d", "P", us * 10, 0) end
    local row = own.all()[1]
    assert.is_true(row.p50_us >= 5000 and row.p50_us <= 6000, row.p50_us)
    assert.is_true(row.p99_us >= 9900 and row.p99_us <= 10000, row.p99_us)
    assert.equal(10000, row.max_us)
    own.observe("P", "d", "P", 1e12, 0)
    own.observe("P", "d", "P", 0, 0)
  end)
end)

describe("fae.mymerge.parse_where", function()
  local parse = fakes.load "fae.mymerge".parse_where
  it("reads equalities", function()
    for text, want in pairs {
      ["a=1"] = { a = 1 }, [" a = -5 "] = { a = -5 }, ["a=1 AND b='x' and `c d`=2"] = { a = 1, b = "x", ["c d"] = 2 },
      ["a = 'it''s'"] = { a = "it's" }, [ [[a='\'\\\n']] ] = { a = "'\\\n" }, ["a=''"] = { a = "" },
      ["a=1.50"] = { a = "1.50" }, ["größe=1"] = { ["größe"] = 1 }, ["a='x' And\tb = 007"] = { a = "x", b = 7 },
      ["a = '1 OR 1=1; -- '"] = { a = "1 OR 1=1; -- " },
    } do assert.same(want, (parse(text)), text) end
    for text, want in pairs { ["9223372036854775807"] = 9223372036854775807LL,
      ["9007199254740993"] = 9007199254740993LL, ["-9223372036854775808"] = -9223372036854775807LL - 1 } do
      assert.is_true(parse("a=" .. text).a == want, text)
    end
  end)
  it("reads nothing else", function()
    for _, text in ipairs { "", " ", "a", "a=", "=1", "a=b", "a=1 OR b=2", "a=1 AND", "a=1 AND ", "1=1", "a=1 AND 1=1",
      "a=1;", "a=1; drop table t", "a=1 -- ", "a=1 /* */", "a=1#", "a>1", "a<>1", "a!=1", "a in (1)", "a=(1)", "(a=1)",
      "a=1 ANDb=2", "a=1AND b=2", "a='x", "a='x''", [[a='x\']], 'a="x"', "a=NULL", "a IS NULL", "a=1 UNION SELECT 1",
      "a=sleep(5)", "a=0x10", "a=1e5", "a=1.", "a=.5", "a=+1", "a=--1", "a=1 AND a=2", "t.a=1", "a=@x", "a=?",
      "a like 'x'", "`a=1", "``=1", "a=9223372036854775808", "a=99999999999999999999", "a='x' 'y'", "a=_utf8'x'",
      "a=x'41'",
      "a=1 LIMIT 1", "a=1\0", "a\0=1", "a=1 AND b=1 AND", "not a=1", "a=1 xor b=1", "a=1 && b=1", "a==1", "a=1=1",
      "a='x'OR'1'='1'", ("a=1 AND "):rep(10000) .. "a=1", "a='" .. ("x"):rep(70000) .. "'" } do
      local where, err = parse(text)
      assert.is_nil(where, text)
      assert.equal("BAD_ARGS", err.code)
    end
  end)
end)
