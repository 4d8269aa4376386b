-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.mysql with a real server: pools main, sock (by its socket, small limits), one (a single connection), down, wrong.
local fae = require "fae"
local main, sock, one = fae.mysql "main", fae.mysql "sock", fae.mysql "one"

local function ok(value, err)
  if value == nil and err then error(tostring(err), 2) end
  return value
end

local function refused(code, value, err)
  assert.is_nil(value)
  assert.equal(code, err and err.code, tostring(err))
  return err
end

local COLUMNS = [[id bigint primary key auto_increment, i int, u bigint unsigned, t tinyint, f float, g double,
  d decimal(20,5), s varchar(100), b varbinary(100), dt datetime(3), dt0 datetime, da date, ti time(6), ts timestamp null,
  y year, bi bit(12), j json, en enum('a','b'), se set('x','y'), l longtext]]

describe("fae.mysql", function()
  setup(function()
    ok(main:exec "drop table if exists v, c")
    ok(main:exec("create table v (" .. COLUMNS .. ") charset utf8mb4"))
    ok(main:exec "create table c (id int primary key, n int not null) engine innodb")
    ok(main:exec "insert into c values (1, 10), (2, 20), (3, 30)")
  end)

  it("binds and reads every type alike by both protocols", function()
    local big = ("x"):rep(70000)
    local done = ok(main:exec([[insert into v (i,u,t,f,g,d,s,b,dt,dt0,da,ti,ts,y,bi,j,en,se,l)
      values (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)]], -5, 18446744073709551615ULL, true, 0.1, 1 / 3,
      "123456789012345.12345", "日本", fae.bin "\0\1\2\255", "2026-01-02 03:04:05.678", "2026-01-02 03:04:05",
      "2026-01-02", "-838:59:59.000001", "2026-01-02 03:04:05", 2026, 5, '{"a":1}', "b", "x,y", big))
    assert.same({ affected = 1, insert_id = 1 }, done)
    local expected = { id = 1, i = -5, u = 18446744073709551615ULL, t = 1, f = 0.1, g = 1 / 3,
      d = "123456789012345.12345", s = "日本", b = "\0\1\2\255", dt = "2026-01-02 03:04:05.678",
      dt0 = "2026-01-02 03:04:05", da = "2026-01-02", ti = "-838:59:59.000001", ts = "2026-01-02 03:04:05", y = 2026,
      bi = 5, j = '{"a":1}', en = "b", se = "x,y", l = big }
    for _, row in ipairs { ok(main:row "select * from v where id = 1"),
      ok(main:row("select * from v where id = ?", 1)) } do
      for key, value in pairs(expected) do
        if key == "g" then
          assert.is_true(math.abs(row.g - value) < 1e-14)
        else
          assert.is_true(row[key] == value, key .. ": " .. tostring(row[key]))
        end
      end
    end
  end)
  it("has NULL as fae.null in rows, and as nil alone", function()
    ok(main:exec("insert into v (id, s) values (?, ?)", 2, nil))
    assert.equal(fae.null, ok(main:row("select s from v where id = ?", 2)).s)
    assert.equal(fae.null, ok(main:query "select s from v where id = 2").rows[1][1])
    assert.same({ nil, nil }, { main:value("select s from v where id = ?", 2) })
    assert.same({ nil, nil }, { main:row "select s from v where id = -1" })
    assert.equal(0, #ok(main:query "select s from v where id = -1").rows)
  end)
  it("keeps integers whole", function()
    assert.equal(9007199254740993LL, ok(main:value("select ?", 9007199254740993LL)))
    assert.equal(9007199254740993LL, ok(main:value "select 9007199254740993"))
    assert.equal(-9223372036854775807LL, ok(main:value("select ?", -9223372036854775807LL)))
    assert.equal(42, ok(main:value("select ?", 42)))
    assert.equal(1.5, ok(main:value("select ?", 1.5)))
    assert.equal("1.50", ok(main:value "select 1.50"))
  end)
  it("binds what tries to be a statement", function()
    for _, text in ipairs { "' or 1=1 -- ", "\\' or 1=1 -- ", "\"; drop table v; --", "\0", "?" } do
      assert.equal(text, ok(main:value("select ?", text)))
    end
  end)
  it("tells what a statement did", function()
    assert.equal(3, ok(main:exec "update c set n = n + 1").affected)
    assert.equal(2, ok(main:exec("update c set n = n - 1 where id > ?", 1)).affected)
    assert.equal(1, ok(main:exec("update c set n = n - 1 where id = ?", 1)).affected)
  end)
  it("passes errors on with their number", function()
    local err = refused("BACKEND", main:query "selec 1")
    assert.equal(1064, err.detail.errno)
    assert.equal("42000", err.detail.sqlstate)
    assert.truthy(err.message:find("^mysql main %l+://127.0.0.1:%d+: 1064 You have an error"))
    assert.equal(1062, refused("BACKEND", main:exec("insert into c values (?, 1)", 1)).detail.errno)
    assert.equal(1146, refused("BACKEND", main:query("select * from nothing where a = ?", 1)).detail.errno)
    assert.equal(10, ok(main:value("select n from c where id = ?", 1)))
  end)
  it("refuses what it cannot do", function()
    refused("BAD_ARGS", main:query("select ?", 1, 2))
    refused("BAD_ARGS", main:query("select ?, ?", 1))
    refused("BAD_ARGS", main:query("select ?", {}))
    for _, number in ipairs { 0 / 0, 1 / 0, -1 / 0 } do refused("BAD_ARGS", main:query("select ?", number)) end
    refused("BAD_ARGS", main:query("/* x */ load data local infile '/etc/passwd' into table v"))
    assert.equal(1064, refused("BACKEND", main:query "select 1; select 2").detail.errno)
    refused("UNKNOWN_POOL", fae.mysql "none":query "select 1")
    refused("UNKNOWN_POOL", fae.mysql "main\0":query "select 1")
    refused("UNAVAILABLE", fae.mysql "down":query "select 1")
    refused("UNAVAILABLE", fae.mysql "wrong":query "select 1")
    assert.has_error(function() main.query "select 1" end)
    assert.has_error(function() main:query(7) end)
  end)
  it("says for what a call waited in vain", function()
    local function ask(name) return fae.parallel { function() return fae.mysql(name):query "select 1" end } end
    for name, why in pairs { one = "none of max (1) connections was free within 200 ms",
      few = "waiting_max (0) calls wait for a connection already" } do
      local errors = ok(fae.mysql(name):transaction(function() return { select(2, ask(name)) } end))[1]
      assert.equal("POOL_BUSY", errors[1].code)
      assert.truthy(errors[1].message:find(why, 1, true), errors[1].message)
    end
  end)
  it("takes one result of a procedure, and refuses several", function()
    ok(main:exec "drop procedure if exists p1")
    ok(main:exec "drop procedure if exists p2")
    ok(main:exec "create procedure p1() begin select 7 as a; end")
    ok(main:exec "create procedure p2() begin select 7; select 8; end")
    for _ = 1, 3 do
      assert.equal(7, ok(main:query "call p1()").rows[1][1])
      assert.matches("several results", refused("UNKNOWN", main:query "call p2()").message)
    end
    assert.equal(1, ok(main:value "select 1"))
  end)
  it("ends at its limits, and not by them", function()
    refused("LIMIT", sock:query "select repeat('x', 1100000)")
    refused("LIMIT", sock:query("select repeat('x', 1100000), ?", 1))
    refused("LIMIT", sock:query "select a.seq from seq_1_to_1001 a")
    refused("LIMIT", sock:query("select a.seq from seq_1_to_1001 a where a.seq > ?", 0))
    assert.equal(1000, #ok(sock:query "select seq from seq_1_to_1000").rows)
    refused("LIMIT", sock:query "select repeat('x', 10000000)")
    assert.equal(4096, #ok(sock:query("select " .. ("7,"):rep(4095) .. "7")).cols)
    assert.matches("4096 columns", refused("LIMIT", sock:query("select " .. ("7,"):rep(4096) .. "7")).message)
    assert.matches("4096 columns", refused("LIMIT", sock:query("select " .. ("7,"):rep(4096) .. "?", 7)).message)
  end)
  it("does not say of what may have been done that it was not", function()
    ok(main:exec "drop table if exists many")
    ok(main:exec "create table many engine=innodb select seq from seq_1_to_1001")
    assert.matches("rows_max", refused("UNKNOWN", sock:query "delete from many returning seq").message)
    refused("UNKNOWN", sock:query("insert into many values (?) returning repeat('x', 1100000)", 1))
    refused("UNKNOWN", sock:query "select replace('a', 'b', 'c'), benchmark(1, 1), repeat('x', 1100000)")
  end)
  it("leaves no lock behind that a statement hides", function()
    ok(main:exec "drop function if exists hide")
    ok(main:exec "create function hide() returns int return get_lock('hidden', 1)")
    for _, text in ipairs { "select replace('a', 'b', 'c'), hide()", "select 1--hide()" } do
      ok(one:query(text))
      ok(one:value "select 1") -- after the reset: there is no other connection
      assert.equal(1, ok(main:value "select is_free_lock('hidden')"), text)
    end
  end)
  it("keeps statements that are used, closes the others, and prepares anew after a change", function()
    for i = 1, 100 do assert.equal(i, ok(one:value("select ? + " .. i, 0))) end
    local n = tonumber(ok(one:row "show global status like 'Prepared_stmt_count'").Value)
    assert.is_true(n <= 40, n .. " prepared statements")
    ok(main:exec "drop table if exists changing")
    ok(main:exec "create table changing (a int)")
    ok(main:exec "insert into changing values (1)")
    assert.same({ a = 1 }, ok(one:row("select * from changing where a = ?", 1)))
    ok(main:exec "alter table changing add b varchar(10) default 'x', add c double default 0.5")
    assert.same({ a = 1, b = "x", c = 0.5 }, ok(one:row("select * from changing where a = ?", 1)))
    ok(main:exec "alter table changing drop a")
    refused("BACKEND", one:row("select * from changing where a = ?", 1))
    assert.same({ b = "x", c = 0.5 }, ok(one:row("select * from changing where c = ?", 0.5)))
  end)
  it("lends nobody what another left", function()
    local function leaves(...)
      local list = { ... }
      ok(one:transaction(function(tx)
        for _, text in ipairs(list) do ok(tx:query(text)) end
        return true
      end))
    end
    local function sees(text) return one:transaction(function(tx) return tx:value(text) end) end
    leaves("set @leak = 7", "create temporary table leak (a int)")
    assert.is_nil(sees "select @leak")
    assert.equal(1146, refused("BACKEND", one:query "select * from leak").detail.errno)
    leaves("set session sql_mode = 'ANSI_QUOTES'", "use mysql", "set names latin1")
    assert.truthy(ok(one:value "select @@sql_mode") ~= "ANSI_QUOTES")
    assert.equal("test", ok(one:value "select database()"))
    assert.equal("utf8mb4", ok(one:value "select @@character_set_client"))
    assert.equal("utf8mb4", ok(one:value "select @@character_set_results"))
    ok(main:exec "drop procedure if exists opens")
    ok(main:exec "create procedure opens() begin start transaction; insert into c values (99, 1); do get_lock('leak', 0); end")
    ok(one:query "call opens()")
    for _ = 1, 100 do -- it is made as new after its answer was given
      if main:value "select is_free_lock('leak')" == 1 then break end
      fae.sleep(10)
    end
    assert.equal(1, ok(main:value "select is_free_lock('leak')"))
    assert.equal(0, ok(main:value "select count(*) from c where id = 99"))
    ok(main:exec "drop procedure opens")
    ok(main:exec "create procedure opens() begin set autocommit = 0; end")
    ok(one:query "call opens()")
    ok(one:exec "insert into c values (98, 1)")
    assert.equal(1, ok(main:value "select count(*) from c where id = 98"))
    ok(main:exec "delete from c where id = 98")
  end)
  it("refuses what means the connection, outside of transactions", function()
    for _, text in ipairs { "begin", "set @a = 1", "use mysql", "select @a", "select last_insert_id()", "show warnings",
      "select get_lock('a', 0)", "create temporary table x (a int)", "lock tables c read" } do
      assert.matches("transaction", refused("BAD_ARGS", one:query(text)).message, 1, true)
      refused("BAD_ARGS", one:exec(text))
      refused("BAD_ARGS", one:each(text, function() end))
    end
    assert.equal(6, ok(one:value "select @r := @r + 1 from (select @r := 5) x"))
    ok(one:exec "set global max_connect_errors = 1000")
  end)
  it("tells a transaction of what it did itself, and of nothing before", function()
    ok(main:exec "drop table if exists ids")
    ok(main:exec "create table ids (id int primary key auto_increment, of int not null) auto_increment = 500")
    ok(one:exec "insert into ids (of) values (0)")
    refused("BACKEND", one:exec "insert into ids values (500, 'secret')")
    ok(one:transaction(function(tx)
      assert.equal(0, #ok(tx:query "show warnings").rows)
      assert.equal(0, ok(tx:value "select last_insert_id()"))
      local id = ok(tx:exec "insert into ids (of) values (0)").insert_id
      assert.equal(1, ok(tx:exec "insert into ids (of) values (last_insert_id())").affected)
      assert.equal(id, ok(tx:value("select of from ids where id = ?", id + 1)))
      ok(tx:query "select sql_calc_found_rows * from ids limit 1")
      assert.equal(3, ok(tx:value "select found_rows()"))
      return true
    end))
  end)
  it("ends a query that takes too long, on the server too", function()
    refused("TIMEOUT", fae.mysql "hurry":query "select sleep(7.25)")
    for _ = 1, 100 do
      local rows = ok(main:query "select id from information_schema.processlist where info like 'select sleep(7%'").rows
      if #rows == 0 then break end
      fae.sleep(20)
    end
    assert.equal(0, ok(main:value [[select count(*) from information_schema.processlist
      where info like 'select sleep(7%']]))
    refused("UNKNOWN", fae.mysql "hurry":exec "update c set n = n + sleep(5) where id = 1")
  end)
end)

describe("mysql:transaction", function()
  local function n_of(id) return ok(main:value("select n from c where id = ?", id)) end

  it("commits what returns, and gives it", function()
    assert.equal("done", ok(main:transaction(function(tx)
      assert.equal(1, ok(tx:exec("update c set n = 11 where id = ?", 1)).affected)
      assert.equal(11, ok(tx:value "select n from c where id = 1"))
      assert.equal(20, ok(tx:row("select n from c where id = ?", 2)).n)
      assert.equal(3, #ok(tx:query "select * from c").rows)
      assert.equal(3, ok(tx:each("select * from c where id > ?", 0, function() end)))
      return "done"
    end)))
    assert.equal(11, n_of(1))
    assert.is_nil(main:transaction(function(tx) ok(tx:exec "update c set n = 10 where id = 1") end))
    assert.equal(10, n_of(1))
  end)
  it("rolls back what fails", function()
    local kept
    local err = refused("NOT_FOUND", main:transaction(function(tx)
      kept = tx
      ok(tx:exec "update c set n = 12 where id = 1")
      return nil, fae.err("NOT_FOUND", "no")
    end))
    assert.equal("no", err.message)
    refused("INTERNAL", main:transaction(function(tx)
      ok(tx:exec "update c set n = 12 where id = 1")
      error "oh"
    end))
    assert.equal(10, n_of(1))
    refused("CLOSED", kept:query "select 1")
  end)
  it("goes on after an error that is one statement's", function()
    ok(main:transaction(function(tx)
      assert.equal(1062, refused("BACKEND", tx:exec "insert into c values (1, 1)").detail.errno)
      return ok(tx:exec "update c set n = 13 where id = 1")
    end))
    assert.equal(13, n_of(1))
    ok(main:exec "update c set n = 10 where id = 1")
  end)
  it("does nothing more once a statement ended it", function()
    local err = refused("BAD_ARGS", main:transaction(function(tx)
      ok(tx:exec "update c set n = 14 where id = 1")
      ok(tx:exec "commit")
      refused("BAD_ARGS", tx:exec "update c set n = 15 where id = 1")
      return true
    end))
    assert.truthy(err.message:find "ended the transaction")
    ok(main:exec "update c set n = 10 where id = 1")
  end)
  it("runs nothing more where an error may have ended the transaction", function()
    ok(main:exec "update c set n = id * 10")
    local err = refused("UNKNOWN", main:transaction(function(tx)
      ok(tx:exec "update c set n = 11 where id = 1")
      refused("BACKEND", tx:exec "create table c (id int)") -- which commits, and then fails
      refused("UNKNOWN", tx:exec "update c set n = 12 where id = 2")
      return true
    end))
    assert.equal(1050, err.detail.errno)
    assert.equal(20, n_of(2))
    ok(main:exec "update c set n = id * 10")
    if not main:value "select @@innodb_snapshot_isolation" then return end -- a server that has none
    refused("BACKEND", main:transaction(function(tx)
      ok(tx:exec "set innodb_snapshot_isolation = on")
      ok(tx:exec "update c set n = 11 where id = 1")
      ok(tx:row "select * from c where id = 2")
      ok(main:exec "update c set n = 21 where id = 2")
      assert.equal(1020, refused("BACKEND", tx:exec "update c set n = 22 where id = 2").detail.errno)
      refused("BACKEND", tx:exec "update c set n = 12 where id = 1")
      return true
    end))
    assert.equal(10, n_of(1))
    ok(main:exec "update c set n = id * 10")
  end)
  it("passes deadlocks and lock waits on with their number, and undoes all", function()
    local codes = {}
    local function cross(first, second)
      return function()
        local _, err = main:transaction(function(tx)
          ok(tx:exec("update c set n = n + 100 where id = ?", first))
          fae.sleep(100)
          local done, why = tx:exec("update c set n = n + 100 where id = ?", second)
          if not done then
            assert.equal(why, select(2, tx:query "select 1"))
            return nil, why
          end
          return true
        end)
        codes[#codes + 1] = err and err.detail.errno or 0
      end
    end
    fae.parallel { cross(1, 2), cross(2, 1) }
    table.sort(codes)
    assert.same({ 0, 1213 }, codes)
    assert.equal(110, n_of(1))
    assert.equal(120, n_of(2))
    ok(main:exec "update c set n = id * 10")
    local waited
    ok(main:transaction(function(tx)
      ok(tx:exec "update c set n = 1 where id = 1")
      fae.parallel { function()
        waited = refused("BACKEND", main:transaction(function(other)
          ok(other:exec "set innodb_lock_wait_timeout = 0")
          return other:exec "update c set n = 2 where id = 1"
        end))
      end }
      return true
    end))
    assert.equal(1205, waited.detail.errno)
    ok(main:exec "update c set n = id * 10")
  end)
  it("has no other one inside", function()
    ok(main:transaction(function(tx)
      assert.has_error(function() tx:transaction(function() end) end)
      assert.has_error(function() main:transaction(function() end) end)
      return true
    end))
  end)
end)

describe("mysql:each", function()
  it("gives every row, in order, in parts", function()
    for _, args in ipairs { { "select seq as a from seq_1_to_12345" },
      { "select seq as a from seq_1_to_12345 where seq > ?", 0 } } do
      local sum, last = 0, 0
      args[#args + 1] = function(row)
        assert.equal(last + 1, row.a)
        last = row.a
        sum = sum + row.a
        if last % 5000 == 0 then fae.sleep(1) end
      end
      assert.equal(12345, ok(main:each(unpack(args))))
      assert.equal(12345 * 12346 / 2, sum)
    end
  end)
  it("needs memory for some rows only", function()
    local n = 0
    collectgarbage()
    local before, most = collectgarbage "count", 0
    assert.equal(100000, ok(sock:each("select seq, repeat('x', 500) from seq_1_to_100000", function()
      n = n + 1
      if n % 1000 == 0 then
        collectgarbage()
        most = math.max(most, collectgarbage "count")
      end
    end)))
    assert.is_true(most - before < 4096, most - before .. " KiB")
    refused("LIMIT", sock:each("select repeat('x', 1100000)", function() end))
  end)
  it("ends where it is told to", function()
    local n = 0
    assert.equal(10, ok(one:each("select seq from seq_1_to_1000000", function()
      n = n + 1
      return n < 10
    end)))
    assert.has_error(function() one:each("select 1 as a", function() error "oh" end) end)
    assert.equal(0, ok(one:each("select 1 from c where id < ?", 0, function() error "there is none" end)))
    assert.equal(1, ok(one:value "select 1"))
    refused("BACKEND", one:each("selec", function() end))
    assert.has_error(function() one:each "select 1" end, "mysql:each takes a function last")
  end)
end)
