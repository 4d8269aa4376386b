-- SPDX-License-Identifier: BSD-2-Clause
--
-- What lua/fae/sql.lua tells of a statement.
local fae = require "fae"
local sql, digest = setfenv(assert(loadfile "spec/lua/mysql_fake.lua"), getfenv(1))().load("fae.sql", "fae.sqldigest")

local function kind(text)
  local what, about = sql.classify(text)
  if not what then return about.code end
  return what .. (about.cacheable and " cacheable" or "") .. (about.replica and " replica" or "")
end

local READ = "read cacheable replica"

-- statement, what it is
local rows = {
  { "SELECT 1", READ }, { "select 1", READ }, { "  \n\tSeLeCt 1", READ }, { "SELECT 1;", READ },
  { "select 1 ; -- x", READ },
  { "-- a comment\nselect 1", READ }, { "# a comment\nselect 1", READ }, { "/* c */ select 1", READ },
  { "/* ; */select 1", READ }, { "(select 1)", READ }, { "((select 1) union (select 2))", READ },
  { "select 'a;b'", READ }, { 'select "a;b"', READ }, { "select `a;b` from t", READ }, { [[select 'a\';b']], READ },
  { "select 'it''s;'", READ }, { "select /*+ MAX_EXECUTION_TIME(5) */ 1", READ }, { "values (1)", READ },
  { "select * from t where a = '/*!'", READ }, { "select 1--1", READ }, { "select 1 -- ;drop", READ },
  { "with a as (select 1) select * from a", READ },
  { "WITH RECURSIVE a (n) AS (SELECT 1 UNION SELECT n + 1 FROM a) SELECT * FROM a", READ },
  { "with a as (select 1) (select * from a)", READ },
  { "select replace(a, 'x', 'y'), insert(a, 1, 2, 'x') from t", READ },
  { "select * from t use index for join (i)", READ }, { "select a from t where b in (select c from u)", READ },
  { "select intox from outfile_t", READ }, { "select 'into outfile'", READ }, { "select `into` from t", READ },

  { "with a as (select 1) delete from t where i in (select * from a)", "write" },
  { "with a as (select 1) update t, a set b = 1", "write" },
  { "select * from t into outfile '/tmp/x'", "write" }, { "SELECT a INTO DUMPFILE '/x' FROM t", "write" },
  { "select 1 into @a", "other" }, { "select * from t for update", "other" },
  { "select * from t FOR\n/**/UPDATE", "other" },
  { "select * from t lock in share mode", "other" }, { "select * from t for share skip locked", "other" },
  { "with a as (select 1) select * from t for update", "other" }, { "(select * from t for update)", "other" },
  { "select get_lock('a', 1)", "read" }, { "select GET_LOCK /* */ ('a', 1)", "read" },
  { "select last_insert_id()", "read" },
  { "select @a := @a + 1", "read" }, { "select next value for s", "read" }, { "select sleep(1)", "read" },
  { "select get_lock from t", READ },

  { "insert into t values (1)", "write" }, { "INSERT INTO t SELECT * FROM u", "write" },
  { "replace into t values (1)", "write" },
  { "update t set a = 1", "write" }, { "delete from t", "write" }, { "-- x\n delete from t", "write" },
  { "create table t (a int)", "write" }, { "truncate t", "write" }, { "drop table t", "write" },
  { "alter table t add b int", "write" }, { "rename table a to b", "write" },

  { "show tables", "read" }, { "SHOW CREATE TABLE t", "read" }, { "explain select 1", "read" },
  { "explain delete from t", "read" },
  { "describe t", "read" }, { "desc t", "read" }, { "explain analyze delete from t", "write" },
  { "analyze update t set a = 1", "write" }, { "analyze format=json select 1", "read" }, { "analyze table t", "other" },
  { "explain analyze select replace(a, 1, 2) from t", "read" }, { "call p()", "other" },
  { "optimize table t", "other" },
  { "gibberish", "other" },

  { "", "BAD_ARGS" }, { "  ", "BAD_ARGS" }, { ";", "BAD_ARGS" }, { "-- only\n", "BAD_ARGS" },
  { "/* never ends", "BAD_ARGS" },
  { "123", "BAD_ARGS" }, { "'select 1'", "BAD_ARGS" }, { "?", "BAD_ARGS" },
  { "select 1; select 2", "BAD_ARGS" }, { "select 1;drop table t", "BAD_ARGS" },
  { "select 'a';delete from t", "BAD_ARGS" },
  { [[select 'a\\';delete from t -- ']], "BAD_ARGS" }, { "select 1 /* ' */; delete from t /* ' */", "BAD_ARGS" },
  { "; select 1", "BAD_ARGS" }, { "/*! delete from t */", "BAD_ARGS" }, { "/*!50000 select*/ 1", "BAD_ARGS" },
  { "select 1 /*!, 2*/", "BAD_ARGS" }, { "/*M!100000 delete from t*/", "BAD_ARGS" }, { "/*!*/select 1", "BAD_ARGS" },
  { "insert into t values (1) /*! on duplicate key update a = 1 */", "BAD_ARGS" },
  { "load data infile '/etc/passwd' into table t", "BAD_ARGS" },
  { "LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "BAD_ARGS" },
  { "/**/load xml infile 'x' into table t", "BAD_ARGS" }, { "begin", "BAD_ARGS" }, { "COMMIT", "BAD_ARGS" },
  { "set names utf8", "BAD_ARGS" }, { "use other", "BAD_ARGS" }, { "start transaction", "BAD_ARGS" },
  { "lock tables t write", "BAD_ARGS" }, { "set statement max_statement_time=1 for select 1", "BAD_ARGS" },
  { "execute immediate 'drop table t'", "BAD_ARGS" }, { "prepare s from 'select 1'", "BAD_ARGS" },
  { "xa start 'x'", "BAD_ARGS" },
}

-- What a server may read otherwise than it looks: by its sql_mode, its character set, or its way with numbers.
local tricks = {
  { "select 1e5into outfile '/x'", "write" }, { "select 1.e5into outfile '/x'", "write" },
  { "select 1.5E17into outfile '/x'", "write" }, { "select 1e+5into outfile '/x'", "write" },
  { [[select \Ninto outfile '/x']], "write" }, { "select x'41'into outfile '/x'", "write" },
  { "select 1 into\160outfile '/x'", "write" }, { "select 1 --\160'\n into outfile '/x' -- '", "write" },
  { [[select 'a\' into outfile '/x' -- ']], "write" }, { [[select "a\" into outfile '/x' -- "]], "write" },
  { [[select 'a\'\' ' into dumpfile '/x' -- ']], "write" }, { "select '\149\\' into outfile '/x' -- '", "write" },
  { "select '\149\\\\' ' into outfile '/x' -- '", "write" }, { "select 1 as \129` into outfile '/x' -- `", "write" },
  { "select `\129`` into outfile '/x' -- `", "write" },
  { [[with a as (select 'x\' as y) delete from t where n <> ') select * from a']], "write" },
  { "select 1 --\127'\n into outfile '/x' -- '", "write" }, { "select 1 --\127; delete from t", READ },
  { "analyze select 1 into outfile '/x'", "write" }, { "analyze format=json values (1) into dumpfile '/x'", "write" },
  { "explain analyze with a as (select 1) select * from a into outfile '/x'", "write" },
  { "analyze with a as (select 1) delete from t", "write" }, { "analyze with a as (select 1) select * from a", "read" },
  { "explain analyze with a as (select 1) update t, a set b = 1", "write" }, { "analyze select * from t", "read" },
  { "select mariadb_schema.sleep(1)", "read" }, { "select `mariadb_schema`.`sleep`(1)", "read" },
  { "select mariadb_schema/**/.sleep(1)", "read" }, { "select mine.sleep(1)", READ }, { "select sleep\160(1)", "read" },
  { "explain analyze\160delete from t", "write" }, { "analyze format=json\160delete from t", "write" },
  { [[select 'a\' for update -- ']], "other" }, { [[select 'a\', get_lock('x', 1) -- ']], "read" },
  { [[select 'a\', @a -- ']], "read" }, { [[select 'a\' /*! into outfile '/x' */ -- ']], "BAD_ARGS" },
  { "select\160 1", "BAD_ARGS" }, { "\160select 1", "BAD_ARGS" },
  { "select `get_lock`('a', 1)", "read" }, { 'select "is_free_lock" ("a")', "read" },

  { [[select 'it\'s' from t where a = 'b']], READ }, { [[select 'it\'s; it\'s', "a\"b" from t]], READ },
  { [[select 'it\'s' from t where updated = 1 and shared = 2 and outfiles = 3 and value = 4]], READ },
  { "select größe, 'é\\\\' from `straß` where a = 'ü'", READ }, { "select 1e5, 1e5from_t, 0x1e5 from t", READ },
  { [[with a as (select 1) select 'it\'s' as "delete" from a]], READ },
  { [[insert into t values ('it\'s /*! not */')]], "write" },
}

-- What means the connection: a part of what is said of it; nil: it has a meaning alone.
local bound = {
  { "select last_insert_id()", "LAST_INSERT_ID() is refused" }, { "SELECT Last_Insert_Id ( /* */ )", "insert_id" },
  { "insert into t values (last_insert_id())", "insert_id" }, { "select `last_insert_id`()", "insert_id" },
  { "select 1, found_rows()", "COUNT" }, { "select row_count()", "affected" }, { "do get_lock('a', 1)", "fae.lock" },
  { "select release_lock('a')", "fae.lock" }, { "select release_all_locks()", "fae.lock" },
  { "select lastval(s)", "NEXTVAL" }, { "select previous value for s", "NEXTVAL" },
  { "select @@last_insert_id", "@@last_insert_id" }, { "select @@session.identity", "@@identity" },
  { "select @@local.`identity`, 1", "@@identity" }, { "select @@session /**/. /* */identity", "@@identity" },
  { "select @@session" .. ("/* x */"):rep(20) .. ".identity", "@@identity" },
  { "select @@session. -- x\n identity", "@@identity" }, { "select @@`session`#\n.`identity`", "@@identity" },
  { "select @@warning_count", "@@warning_count" }, { "select @@last_gtid", "@@last_gtid" },
  { "select@a", "(@a)" }, { "select 1 into@a", "(@a)" }, { "select'x',1 in(1)or@a", "(@a)" }, { "select@`a`", "(@)" },
  { "select mariadb_schema.last_insert_id()", "insert_id" }, { "select MariaDB_Schema.get_lock('a', 1)", "fae.lock" },
  { "create table u as select last_insert_id()", "insert_id" }, { "create or replace table u select @a", "(@a)" },
  { "show warnings", "SHOW WARNINGS" }, { "show count(*) errors", "SHOW ERRORS" }, { "show profiles", "SHOW" },
  { "select @a", "(@a)" }, { "select 1 into @a", "(@a)" }, { "update t set a = @b.c", "(@b.c)" },
  { "insert into t select @'x'", "(@)" }, { "create temporary table t (a int)", "CREATE TEMPORARY" },
  { "create or replace temporary table t (a int)", "CREATE TEMPORARY" }, { "drop temporary table t", "DROP TEMPORARY" },
  { "set @a = 1", "SET is refused" }, { "set session sql_mode = ''", "SET" }, { "set names latin1", "SET" },
  { "use x", "USE" }, { "begin", "BEGIN" }, { "start transaction", "START" }, { "commit", "COMMIT" },
  { "lock tables t read", "LOCK" }, { "unlock tables", "UNLOCK" }, { "prepare s from 'x'", "PREPARE" },
  { "xa start 'x'", "XA" }, { "backup stage start", "BACKUP" }, { "handler t open", "HANDLER" },
  { "get diagnostics @a = number", "GET" }, { "flush tables with read lock", "FLUSH" },

  { "select last_insert_id(5)" }, { "update t set id = last_insert_id(id + 1)" }, { "select 'last_insert_id()'" },
  { "select @r := @r + 1, a from t, (select @r := 0) x" }, { "select is_used_lock('a')" }, { "select last_insert_id" },
  { "call p(@a)" }, { "set global a = 1" }, { "set @@global.a = 1" }, { "set password = 'x'" }, { "start replica" },
  { "execute immediate 'select 1'" }, { "xa recover" }, { "xa commit 'x'" }, { "show grants for 'a'@'b'" },
  { "show grants for a@b" }, { "grant select on t to a@b" }, { "create table t (a int comment '@b')" },
  { "select * from t where a = 'x@y' and b = `u`.`v`" }, { "create table temporary (a int)" },
  { "select @@version, identity from t" }, { "select @@global.version, t.identity, `identity` from t" },
  { "create procedure p() begin select last_insert_id(), @a; end" }, { "create user 'a'@'b'" },
  { "show columns from warnings" }, { "begin not atomic select 1; end" }, { "select mine.last_insert_id()" },
}

-- statement, digest
local digests = {
  { "SELECT * FROM User WHERE Id = 17", "select * from user where id = ?" },
  { "select  *\nfrom user -- hm\n where id=?;", "select * from user where id = ?" },
  { "select * from `User` where name = 'it''s'", "select * from `User` where name = ?" },
  { [[select "a\"b", 'c']], "select ?, ..." },
  { "select x'41', b'1', N'x', _utf8'y', 0x1F, 1.5e-3, .5, 1e5, 1", "select ?, ..." },
  { "select a from t where id in (1, 2,3)", "select a from t where id in(?, ...)" },
  { "select a from t where id in (-1, +2,-3)", "select a from t where id in(?, ...)" },
  { "select a from t where id in (1)", "select a from t where id in(?)" },
  { "insert into t (a, b) values (1, 'x'), (2, 'y'), (3, null)", "insert into t(a, b) values(?, ...), ..." },
  { "insert into t values (1, now(), 'x'), (2, now(), 'y'), (3, now(), 'z') on duplicate key update a = 1",
    "insert into t values(?, now(), ?), ... on duplicate key update a = ?" },
  { "insert into t values (1, 2), (f(1), 2)", "insert into t values(?, ...), (f(?), ?)" },
  { "SELECT count(*), t.* FROM a.t WHERE x IS NOT NULL AND y IS NULL",
    "select count(*), t.* from a.t where x is not null and y is null" },
  { "update t set a = null, b = true where c - 5 > -7", "update t set a = ?, b = ? where c - ? > ?" },
  { "select a->>'$.x' from t where b<>5 and c := 6", "select a ->> ? from t where b <> ? and c := ?" },
  { "select @a, @@global.b, 1st from t limit 5, 10", "select @a, @@global.b, ? from t limit ?, ..." },
  { "select 'never ends, secret", "select ?" }, { "select /* never ends, secret", "select" },
  { "select 1 /*! secret */", "select ? ..." }, { "", "" }, { "'secret'", "?" },
  { "call p('secret', @x)", "call p(?, @x)" }, { "select @a + 1, @@b - 2", "select @a + ?, @@b - ?" },
  { "select 1 --\127'\n, 'secret'", "select ?, ..." },
}

describe("fae.sql.classify", function()
  it("tells what a statement does, and refuses what nobody can tell of", function()
    for _, row in ipairs(rows) do assert.equal(row[2], kind(row[1]), row[1]) end
  end)
  it("is fooled by no blank, comment or parenthesis before or inside it", function()
    for _, row in ipairs(rows) do
      if row[2] ~= "BAD_ARGS" and row[1]:find "^%a" then
        assert.equal(row[2], kind("-- y\n#z\n\t/**/ \r\n" .. row[1]:upper()), row[1])
      end
    end
  end)
  it("takes the worst that a server may make of it", function()
    for _, row in ipairs(tricks) do assert.equal(row[2], kind(row[1]), row[1]) end
  end)
  it("knows what has no meaning without the statements before and after it", function()
    for _, row in ipairs(bound) do
      local why = sql.about(row[1]).bound
      if not row[2] then assert.is_nil(why, row[1]) else assert.truthy(why and why:find(row[2], 1, true), row[1]) end
    end
  end)
  it("says how to do what it refuses", function()
    local _, err = sql.classify "begin"
    assert.equal("BEGIN is refused: it changes the connection, which other calls have too; a transaction is "
      .. "my.bulk_exec with atomic, or transaction() of fae.mysql", err.message)
  end)
  it("knows what commits by itself", function()
    assert.is_true(select(2, sql.classify "create table t (a int)").commits)
    assert.is_false(select(2, sql.classify "insert into t values (1)").commits)
    assert.is_false(sql.about("create temporary table t (a int)").commits)
  end)
  it("takes any bytes", function()
    for c = 0, 255 do
      for _, text in ipairs { "%s", "select '%s", "select 1%s1" } do
        local one = text:gsub("%%s", function() return string.char(c) end)
        sql.classify(one)
        digest.of(one)
      end
    end
  end)
end)

describe("fae.digest.of", function()
  it("leaves the values out", function()
    for _, row in ipairs(digests) do assert.equal(row[2], digest.of(row[1]), row[1]) end
  end)
  it("shows no value, whatever it is", function()
    for _, value in ipairs { "'secret'", '"secret"', [['a\'secret']], "x'5ec2e7'", "5ec2e7", "0x5ec2e7", "5.5ec2e7" } do
      local text = digest.of("select * from t where a = " .. value .. " and b in (" .. value .. "," .. value .. ")")
      assert.equal("select * from t where a = ? and b in(?, ...)", text)
    end
  end)
  it("is the same for two hundred rows and for three", function()
    local many = {}
    for i = 1, 200 do many[i] = ("(%d, 'x%d', now())"):format(i, i) end
    assert.equal(digest.of "insert into t values (1, 'a', now()), (2, 'b', now()), (3, 'c', now())",
      digest.of("insert into t values " .. table.concat(many, ", ")))
  end)
  it("is the same for two thousand rows and for more", function()
    local groups = {}
    for i = 1, 4000 do groups[i] = ("(%d, now(), 'x%s')"):format(i, ("y"):rep(i % 7)) end
    local function of(n) return digest.of("insert into t values " .. table.concat(groups, ", ", 1, n)) end
    assert.equal("insert into t values(?, now(), ?), ... ...", of(2000))
    for n = 2001, 2030 do assert.equal(of(2000), of(n)) end
    for n = 1, 30 do
      groups[1] = ("(1, now(), '%s')"):format(("z"):rep(n))
      assert.equal("insert into t values(?, now(), ?), ... ...", of(4000))
    end
  end)
  it("has at most 1024 bytes", function()
    local long = digest.of("select " .. ("column_with_a_name, "):rep(1000) .. "1 from t")
    assert.is_true(#long <= 1024)
    assert.equal(" ...", long:sub(-4))
    assert.is_true(#digest.of("select " .. ("x"):rep(100000)) < 100)
  end)
  it("takes time in proportion, whatever is in it", function()
    local size = os.getenv "FAE_TEST_GC" and 2 ^ 11 or 2 ^ 17
    local function took(text)
      collectgarbage()
      local begin = os.clock()
      sql.classify(text)
      digest.of(text)
      return os.clock() - begin
    end
    local pieces = "' /* ( 1, a -- ` '' (1), \\ / */ - e1 @ , 1 ; \\' @@identity sleep( `sleep`( \255 sleep/**/"
    for piece in pieces:gmatch "%S+" do
      local text = "select " .. piece:rep(math.ceil(size / #piece))
      assert.is_true(took(text) < 5, piece) -- what grows with the square takes minutes
    end
  end)
end)

describe("fae.sql.quote_identifier", function()
  it("quotes names", function()
    assert.equal("`a`", (sql.quote_identifier "a"))
    assert.equal("`a``b`", (sql.quote_identifier "a`b"))
    assert.equal("`größe`", (sql.quote_identifier "größe"))
    assert.equal("`a`` = 1; drop table t; --`", (sql.quote_identifier "a` = 1; drop table t; --"))
  end)
  it("refuses what is none", function()
    local emoji = "\240\159\152\128"
    local long, longer = ("x"):rep(65), ("ö"):rep(65)
    for _, name in ipairs { "", long, longer, "a\0b", "a ", "a\nb", "\127", "\255", emoji, 5, fae.null } do
      local quoted, err = sql.quote_identifier(name)
      assert.is_nil(quoted)
      assert.equal("BAD_ARGS", err.code)
    end
    assert.is_string(sql.quote_identifier(("ö"):rep(64)))
  end)
end)
