-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.mysql: statements in a pool of the configuration. Which pool that is where it is sharded, lua/fae/shard.lua says;
-- connections, limits and time are C's (src/backend/mysql.c).
local core = require "fae.core"
local failure = require "fae.failure"
local shard = require "fae.shard"
local about_of, verb_of = require("fae.sql").about, require("fae.sql").verb
local timed = require("fae.querystats").timed
local null = require("fae.types").null

local M = {}

local BATCH = 500 -- rows of each() that are taken at once
-- After these the server has undone the whole transaction, or may have: deadlock, lock wait, both of XA, a row that
-- changed since it was read (innodb_snapshot_isolation), no room for more locks.
local lost = { UNAVAILABLE = true, UNKNOWN = true, TIMEOUT = true, LIMIT = true, CLOSED = true }
local undone = { [1213] = true, [1205] = true, [1613] = true, [1614] = true, [1020] = true, [1206] = true }
-- These end no transaction when they fail; DDL commits it before it does, and a procedure may.
local keeps = { select = true, insert = true, update = true, delete = true, replace = true, with = true, show = true,
  set = true, savepoint = true, values = true, explain = true }

local FORGET = "SELECT LAST_INSERT_ID(0) FROM (SELECT 1) x" -- and what SHOW WARNINGS, FOUND_ROWS() and ROW_COUNT() tell
local handles = {} -- of pools, by name
local pinned = setmetatable({}, { __mode = "k" }) -- coroutine -> pool -> in a transaction of it
local Pool, Transaction = {}, {}
local pool_mark = { __index = Pool, __metatable = "mysql" }
local transaction_mark = { __index = Transaction, __metatable = "mysql transaction" }
local plain = {} -- objects of pools without a hint, by name

local function of(object)
  if type(object) ~= "table" or not rawget(object, "pool") then
    error("call it with a colon, as fae.mysql(pool):query(sql)", 3)
  end
  return object
end

local function check_sql(sql, what)
  if type(sql) ~= "string" then error(("mysql:%s takes a statement, a string, not a %s"):format(what, type(sql)), 3) end
end

local function handle_of(pool)
  local handle = handles[pool]
  if not handle then
    handle = core.mysql_open(pool)
    handles[pool] = handle
  end
  return handle
end

-- ---- results ----

local function has_value(value) if value == null then return nil end return value end

local function map_of(cols, row)
  local map = {}
  for i = 1, #cols do map[cols[i]] = row[i] end
  return map
end

local function row_of(result, err)
  if not result then return nil, err end
  local row = result.rows[1]
  return row and map_of(result.cols, row) or nil
end

local function value_of(result, err)
  if not result then return nil, err end
  local row = result.rows[1]
  return row and has_value(row[1]) or nil
end

local function counts_of(result, err)
  if not result then return nil, err end
  return { affected = result.affected, insert_id = result.insert_id, warnings = result.warnings }
end

-- ---- on any connection ----

-- What means the connection needs one of its own: here the next statement may have another.
local function check_shared(sql)
  local bound = about_of(sql).bound
  if bound then return nil, core.err("BAD_ARGS", bound) end
  return true
end

local function run(o, sql, ...)
  local pool, refused = check_shared(sql)
  if pool then pool, refused = shard.pick(o.pool, o.hint) end
  if not pool then return nil, refused end
  local result, err = timed(o.pool, sql, pool, core.mysql_query, handle_of(pool), o.on_replica, sql, select("#", ...),
    ...)
  if not result then shard.failed(o.pool, o.hint, err) end
  return result, err
end

--- mysql:query(sql, ...) -> {cols, rows, affected, insert_id} | nil, err. Waits. One parameter for each ?: nil,
-- booleans, numbers, strings, fae.bin, bound as what they are. rows are lists, NULL in them is fae.null.
function Pool.query(pool, sql, ...)
  check_sql(sql, "query")
  return run(of(pool), sql, ...)
end

--- mysql:row(sql, ...) -> the first row, {column = value} | nil, there is none | nil, err. Waits. NULL is fae.null.
function Pool.row(pool, sql, ...)
  check_sql(sql, "row")
  return row_of(run(of(pool), sql, ...))
end

--- mysql:value(sql, ...) -> the first column of the first row | nil, there is none or it is NULL | nil, err. Waits.
function Pool.value(pool, sql, ...)
  check_sql(sql, "value")
  return value_of(run(of(pool), sql, ...))
end

--- mysql:exec(sql, ...) -> {affected, insert_id, warnings: nil if there are none} | nil, err. Waits.
function Pool.exec(pool, sql, ...)
  check_sql(sql, "exec")
  return counts_of(run(of(pool), sql, ...))
end

--- mysql:replica() -> the same pool, whose reads may go to a replica that is at most replica_lag_max_ms behind. What
-- does more than read goes where it always does, and so do reads while no replica is near enough.
function Pool.replica(pool)
  local o = of(pool)
  return setmetatable({ pool = o.pool, hint = o.hint, on_replica = true }, pool_mark)
end

-- ---- rows in parts ----

-- n, or nil, err. What fn raises is raised again, when the connection is given back.
local function take_rows(conn, fn, result, more)
  local n, cols = 0, result.cols
  while true do
    local rows = result.rows
    for i = 1, #rows do
      n = n + 1
      if fn(map_of(cols, rows[i])) == false then return n end
    end
    if not more then return n end
    result, more = core.mysql_conn_each_next(conn, BATCH)
    if not result then return nil, more end
  end
end

local function each_on(conn, what, ...)
  local n = select("#", ...)
  local fn = select(n, ...) -- the statement, when there is nothing else
  if type(fn) ~= "function" then error(("mysql:%s takes a function last"):format(what), 3) end
  local args = { ... }
  local result, more = core.mysql_conn_each_begin(conn, BATCH, args[1], n - 2, unpack(args, 2, n - 1))
  if not result then return nil, more end
  return take_rows(conn, fn, result, more)
end

--- mysql:each(sql, ..., fn) -> number of rows | nil, err. Waits. fn(row) for each row, {column = value}, while the
-- rest is still on its way: memory is needed for some rows at a time. fn may wait; with `false` it ends it there.
-- What fn raises goes on.
function Pool.each(pool, sql, ...)
  check_sql(sql, "each")
  local o = of(pool)
  if type((select(-1, nil, ...))) ~= "function" then error("mysql:each takes a function last", 2) end
  local name, refused = check_shared(sql)
  if name then name, refused = shard.pick(o.pool, o.hint) end
  if not name then return nil, refused end
  local conn, err = core.mysql_borrow(handle_of(name), o.on_replica and core.mysql_reads(sql))
  if not conn then return nil, err end
  local ok, n, why = pcall(each_on, conn, "each", sql, ...)
  core.mysql_conn_give(conn, ok and n ~= nil)
  if not ok then error(n, 0) end
  if n == nil then shard.failed(o.pool, o.hint, why) end
  return n, why
end

-- ---- transactions ----

local function over(tx)
  return nil, core.err("CLOSED", "this transaction is over", { detail = tx.why and tx.why.detail })
end

-- What became of a statement: the server may have ended the transaction over it.
local function noted(o, text, result, err)
  if not result then
    local errno = err.code == "BACKEND" and err.detail and err.detail.errno
    if err.code ~= "BACKEND" and err.code ~= "BAD_ARGS" or undone[errno] then
      o.why = o.why or err
    elseif errno and errno ~= 1064 and not keeps[verb_of(text)] then -- 1064: nobody understood it
      o.why = o.why or core.err("UNKNOWN", "what was before it may be committed: " .. tostring(err.message),
        { detail = err.detail })
    end
  elseif not core.mysql_conn_in_transaction(o.conn) then
    o.why = o.why or core.err("BAD_ARGS", "a statement ended the transaction that it was part of")
  end
  if result and type(result) == "table" and result.insert_id ~= 0 then o.inserted = true end
  return result, err
end

-- LAST_INSERT_ID() and the like tell of nobody who had the connection before.
local function forget_others(o, sql)
  local left = about_of(sql).left
  if left and not o.inserted and (left == "id" or not o.used) then core.mysql_conn_query(o.conn, FORGET, 0) end
  o.used = true
end

local function run_in(o, sql, ...)
  if o.ended then return over(o) end
  if o.why then return nil, o.why end
  forget_others(o, sql)
  return noted(o, sql, timed(o.pool, sql, o.pool, core.mysql_conn_query, o.conn, sql, select("#", ...), ...))
end

function Transaction.query(tx, sql, ...)
  check_sql(sql, "query")
  return run_in(of(tx), sql, ...)
end

function Transaction.row(tx, sql, ...)
  check_sql(sql, "row")
  return row_of(run_in(of(tx), sql, ...))
end

function Transaction.value(tx, sql, ...)
  check_sql(sql, "value")
  return value_of(run_in(of(tx), sql, ...))
end

function Transaction.exec(tx, sql, ...)
  check_sql(sql, "exec")
  return counts_of(run_in(of(tx), sql, ...))
end

function Transaction.each(tx, sql, ...)
  check_sql(sql, "each")
  local o = of(tx)
  if o.ended then return over(o) end
  if o.why then return nil, o.why end
  forget_others(o, sql)
  return noted(o, sql, each_on(o.conn, "each", sql, ...))
end

function Transaction.transaction() error("a transaction inside a transaction: there is one only", 2) end

-- What fn returned when it is committed; nil, err when not.
local function finish(tx, value, err)
  local conn = tx.conn
  tx.ended = true
  if tx.why then value, err = nil, tx.why end
  local commits = value ~= nil or err == nil
  if lost[tx.why and tx.why.code] then
    core.mysql_conn_give(conn, false)
    return nil, err
  end
  local done, failed = core.mysql_conn_query(conn, commits and "COMMIT" or "ROLLBACK", 0)
  core.mysql_conn_give(conn, done ~= nil)
  if commits and not done then return nil, failed end
  return value, err
end

--- mysql:transaction(fn) -> what fn returns | nil, err. Waits. fn(tx) is run with a connection of its own: tx:query,
-- row, value, exec, each. COMMIT when fn returns; ROLLBACK when it returns `nil, err` or raises (which comes back as
-- an err), and when its call ends before (deadline, hang-up): then the connection is closed. After a deadlock or a
-- lock wait that was too long nothing more is run in it. UNKNOWN: it may have been committed. It is not tried again:
-- that is yours.
function Pool.transaction(pool, fn)
  local o = of(pool)
  if type(fn) ~= "function" then error("mysql:transaction takes a function", 2) end
  local name, refused = shard.pick(o.pool, o.hint)
  if not name then return nil, refused end
  local me = coroutine.running()
  local mine = pinned[me] or {}
  pinned[me] = mine
  if mine[name] then error(("a transaction of %s inside another one"):format(name), 2) end
  local conn, err = core.mysql_borrow(handle_of(name))
  if not conn then
    shard.failed(o.pool, o.hint, err)
    return nil, err
  end
  local began, why = core.mysql_conn_query(conn, "BEGIN", 0)
  if not began then
    core.mysql_conn_give(conn, false)
    if why.code == "UNKNOWN" then why = core.err("UNAVAILABLE", why.message) end -- nothing was done yet
    return nil, why
  end
  local tx = setmetatable({ conn = conn, pool = name }, transaction_mark)
  mine[name] = true
  local value, raised = failure.call(fn, tx)
  mine[name] = nil
  return finish(tx, value, raised)
end

--- fae.mysql(pool[, hint]) -> mysql. A pool of the configuration; of one that is sharded the hint, an entity's id,
-- says which shard. Cheap: make one where it is needed.
function M.new(pool, hint)
  if type(pool) ~= "string" then error('fae.mysql takes the name of a pool, as "main"', 2) end
  if hint ~= nil then return setmetatable({ pool = pool, hint = hint, on_replica = false }, pool_mark) end
  local mysql = plain[pool]
  if not mysql then
    mysql = setmetatable({ pool = pool, on_replica = false }, pool_mark)
    plain[pool] = mysql
  end
  return mysql
end

return M
