-- SPDX-License-Identifier: BSD-2-Clause
--
-- What servant my does: statements from clients, brought to the right mysql pool, with their cached results, in
-- transactions, over all shards. Everything returns a value or nil, err, and may wait.
local core = require "fae.core"
local null = require("fae.types").null
local parallel = require("fae.task").parallel
local querycache = require "fae.querycache"
local shard = require "fae.shard"
local sql = require "fae.sql"
local timed = require("fae.querystats").timed
local bin, raw = core.mark "bin", core.mark "raw"

local M = {}

local PARAMS_MAX = 5000 -- a Lua function takes at most 8000
local HANDLES_MAX = 256
local LONG = 4096 -- bytes of a statement that nobody remembers
local ROWS_MAX = 100000 -- of query_shards
local TTL_MAX_MS = 10 * 366 * 86400000

local function bad(...) return nil, core.err("BAD_ARGS", (...):format(select(2, ...))) end

-- ---- statements ----

-- What sql.about tells of it, which may run on whatever connection is free | nil, err
local function statement(text)
  local st = sql.about(text)
  local why = st.refused or st.bound
  if why then return nil, core.err("BAD_ARGS", why) end
  return st
end

local DOUBTFUL = "; not every server ends its strings where they seem to end: values are better bound to a ?"

local function misplaced(st, text) return bad("%s%s", text:format(st.verb:upper()), st.doubtful and DOUBTFUL or "") end

local function is_param(value)
  local kind = type(value)
  if kind == "number" then return value == value and value ~= math.huge and value ~= -math.huge end
  return kind == "string" or kind == "boolean" or kind == "cdata"
    or kind == "table" and debug.getmetatable(value) == bin
end

-- The values for the ? of a statement, without fae.null: list, n | nil, err
local function params_of(args)
  if args == nil then return {}, 0 end
  local n, list = #args, {}
  if n > PARAMS_MAX then
    return nil, core.err("LIMIT", ("at most %d values at a time, not %d"):format(PARAMS_MAX, n))
  end
  for i = 1, n do
    local value = args[i]
    if value ~= null then
      if not is_param(value) then
        local what = type(value) == "number" and tostring(value) or "a " .. type(value)
        return bad("value %d is %s, which has no form in SQL", i, what)
      end
      list[i] = value
    end
  end
  return list, n
end

-- ---- asking ----

local handles, n_handles = {}, 0

local function open(pool)
  local handle = handles[pool]
  if handle then return handle end
  handle = core.mysql_open(pool)
  if n_handles < HANDLES_MAX then
    handles[pool] = handle
    n_handles = n_handles + 1
  end
  return handle
end

-- Asks the server that has the entity.
local function ask(pool, hint, text, args, on_replica)
  local list, n = params_of(args)
  if not list then return nil, n end
  local where, err = shard.pick(pool, hint)
  if not where then return nil, err end
  local result
  result, err = timed(pool, text, where, core.mysql_query, open(where), on_replica, text, n, unpack(list, 1, n))
  if not result then shard.failed(pool, hint, err) end
  return result, err
end

-- ---- my.query, my.exec ----

local function has_key(key) return key ~= nil and key ~= "" end

local function read(st, q)
  if has_key(q.cache_key) and st.cacheable then
    return querycache.read(q.cache_key, q.table, q.ttl_ms or 0, ask, q.pool, q.hint, q.sql, q.args, false)
  end
  return ask(q.pool, q.hint, q.sql, q.args, q.replica and st.replica or false)
end

local function write(q)
  if not has_key(q.cache_key) then return ask(q.pool, q.hint, q.sql, q.args, false) end
  return querycache.write(q.cache_key, q.table, ask, q.pool, q.hint, q.sql, q.args, false)
end

local function reads(st) return st.kind == "read" or (st.kind == "other" and st.looks) end

--- query{pool, table, hint, sql, args, cache_key, ttl_ms, replica} -> {cols, rows, affected, insert_id} | nil, err.
-- Only what reads.
function M.query(q)
  local st, err = statement(q.sql)
  if not st then return nil, err end
  if not reads(st) then return misplaced(st, "my.query reads, and %s does not: my.exec runs it") end
  return read(st, q)
end

--- kept(sql, cache_key, table) -> what query would give, for a client and nobody else: as it goes over the wire | nil:
-- nothing is kept under that key, or not for such a statement
function M.kept(text, cache_key, name)
  local st = cache_key ~= "" and #text <= LONG and statement(text) -- a long one is looked at once, by query
  if not st or not st.cacheable then return nil end
  local data = querycache.peek(cache_key, name)
  return data and setmetatable({ bytes = data }, raw)
end

--- exec{pool, table, hint, sql, args, cache_key} -> {cols, rows, affected, insert_id} | nil, err. Only what writes.
function M.exec(q)
  local st, err = statement(q.sql)
  if not st then return nil, err end
  if reads(st) then return bad("my.exec writes, and %s does not: my.query runs it", st.verb:upper()) end
  return write(q)
end

--- either(q) -> as query or exec, whichever it is
function M.either(q)
  local st, err = statement(q.sql)
  if not st then return nil, err end
  if reads(st) then return read(st, q) end
  return write(q)
end

-- ---- transactions ----

-- After these nothing more can be asked on the connection, or waited for in this task.
local lost = { TIMEOUT = true, CANCELLED = true, RELOADED = true, UNKNOWN = true, UNAVAILABLE = true, NO_MEMORY = true }

local function commit(conn)
  local ok, err = core.mysql_conn_query(conn, "COMMIT", 0)
  if ok then return true end
  if err.code == "BACKEND" then return nil, err end
  return nil, core.err("UNKNOWN", "nobody knows whether the transaction was committed: " .. tostring(err.message))
end

-- fn(conn, ...) in a transaction on one connection: what it returned, once committed | nil, err, rolled back.
local function transaction(where, fn, ...)
  local conn, err = core.mysql_borrow(open(where))
  if not conn then return nil, err end
  local result
  local ok
  ok, err = core.mysql_conn_query(conn, "START TRANSACTION", 0)
  if not ok and err.code == "UNKNOWN" then err = core.err("UNAVAILABLE", err.message) end -- nothing was done yet
  if ok then
    result, err = fn(conn, ...) -- raises: the connection is closed when it is collected, which rolls back
    if result ~= nil then
      ok, err = commit(conn)
      if ok then
        core.mysql_conn_give(conn, true)
        return result
      end
    end
  end
  local sound = false
  if not lost[err.code] then sound = core.mysql_conn_query(conn, "ROLLBACK", 0) ~= nil end
  core.mysql_conn_give(conn, sound)
  return nil, err
end

local function conn_ask(conn, pool, where, text, list, n)
  return timed(pool, text, where, core.mysql_conn_query, conn, text, n, unpack(list, 1, n))
end

-- ---- my.bulk_exec ----

local function at_element(i, n, err, affected)
  local detail = { element = i, affected = affected }
  if type(err.detail) == "table" then detail.errno, detail.sqlstate = err.detail.errno, err.detail.sqlstate end
  return core.err(err.code, ("statement %d of %d: %s"):format(i, n, tostring(err.message)),
    { retryable = false, detail = detail })
end

local function bulk_each(list)
  local affected = 0
  for i, q in ipairs(list) do
    local result, err = M.either(q)
    if not result then return nil, at_element(i, #list, err, affected) end
    affected = affected + (tonumber(result.affected) or 0)
  end
  return { affected = affected }
end

-- What each statement of a transaction is, and the one pool they all lie in.
local function atomic_plan(list)
  local plan, where = {}, nil
  for i, q in ipairs(list) do
    local kind, st = sql.classify(q.sql)
    local err
    if not kind then st, err = nil, st end
    if st and st.commits then st, err = bad("%s commits by itself", st.verb:upper()) end
    local pool
    if st then pool, err = shard.pick(q.pool, q.hint) end
    if pool and where and pool ~= where then
      pool, err = bad("it lies in %s, the first one in %s: atomic is for one of them", pool, where)
    end
    local params, n
    if pool then
      params, n = params_of(q.args)
      err = n
    end
    if not params then return nil, at_element(i, #list, err, 0) end
    where = pool
    plan.left = plan.left or st.left
    plan[i] = { st = st, q = q, params = params, n = n }
  end
  return plan, where
end

-- After it LAST_INSERT_ID(), FOUND_ROWS() and the like tell nothing of whoever had the connection before.
local FORGET = "SELECT LAST_INSERT_ID(0) FROM (SELECT 1) x"

local function atomic_run(conn, plan, where)
  local affected = 0
  if plan.left then
    local ok, err = core.mysql_conn_query(conn, FORGET, 0)
    if not ok then return nil, err end
  end
  for i, one in ipairs(plan) do
    local result, err = conn_ask(conn, one.q.pool, where, one.q.sql, one.params, one.n)
    if result and not core.mysql_conn_in_transaction(conn) then -- a procedure may
      result, err = bad "it ended the transaction that it was part of: what was before it is done"
    end
    if not result then
      if one.st.verb == "call" and err.code == "BACKEND" then -- it may have committed before it failed
        err = core.err("UNKNOWN", err.message, { detail = err.detail })
      end
      return nil, at_element(i, #plan, err, 0)
    end
    affected = affected + (tonumber(result.affected) or 0)
  end
  return { affected = affected }
end

-- Tells the cache of every key that is written, before and after fn(...).
local function with_writes(keys, fn, ...)
  local writes = {}
  local result, err = true, nil
  for i, key in ipairs(keys) do
    if result then
      writes[i], err = querycache.begin(key.cache_key)
      result = writes[i]
    end
  end
  if result then result, err = fn(...) end
  for i, write_of in ipairs(writes) do querycache.finish(write_of, keys[i].table, not result and err or nil) end
  return result, err
end

local function bulk_atomic(list)
  local plan, where = atomic_plan(list)
  if not plan then return nil, where end
  local keys, seen = {}, {}
  for _, one in ipairs(plan) do
    local key = one.q.cache_key
    if has_key(key) and not seen[key] and not reads(one.st) then
      seen[key] = true
      keys[#keys + 1] = { cache_key = key, table = one.q.table }
    end
  end
  local result, err = with_writes(keys, transaction, where, atomic_run, plan, where)
  if not result then shard.failed(plan[1].q.pool, plan[1].q.hint, err) end
  return result, err
end

--- bulk_exec(list of q, atomic) -> {affected = sum} | nil, err. One after the other; the first that fails ends it, and
-- err.detail is {element, affected by those before it, errno, sqlstate}. atomic: in one transaction, of one pool.
function M.bulk_exec(list, atomic)
  if #list == 0 then return { affected = 0 } end
  if atomic then return bulk_atomic(list) end
  return bulk_each(list)
end

-- ---- my.query_shards ----

local function same_cols(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function brief(err) return { code = err.code, message = err.message, detail = err.detail } end

-- Puts the shards' rows behind each other; what is wrong with one is its error.
local function joined(names, results, errors, rows_max)
  local whole = { cols = {}, rows = {}, affected = 0, insert_id = 0, shards = #names }
  local first
  for i, name in ipairs(names) do
    local result = results[i]
    if result and first and not same_cols(first.cols, result.cols) then
      errors[i] = core.err("BACKEND", ("mysql %s: its columns are others than those of the rest"):format(name))
    elseif result then
      first = first or result
      if #whole.rows + #result.rows > rows_max then
        return nil, core.err("LIMIT", ("the shards have more than %d rows together"):format(rows_max))
      end
      for _, row in ipairs(result.rows) do whole.rows[#whole.rows + 1] = row end
    end
    if errors[i] then
      whole.errors = whole.errors or {}
      whole.errors[name] = brief(errors[i])
    end
  end
  if first then whole.cols = first.cols end
  if not first and #names > 0 then return nil, errors[next(errors)] end
  return whole
end

--- query_shards{pool, sql, args, replica, rows_max} -> {cols, rows, shards = how many, errors = {pool = {code, message,
-- detail}} or nil} | nil, err: every shard failed, or they have too many rows. All shards of exactly that pool at once.
function M.query_shards(q)
  local st, err = statement(q.sql)
  if not st then return nil, err end
  if st.kind ~= "read" then return misplaced(st, "my.query_shards reads, and %s does not") end
  local list, n = params_of(q.args)
  if not list then return nil, n end
  local names, fns, rows_max, total = shard.members(q.pool), {}, q.rows_max or ROWS_MAX, 0
  local replica = q.replica and st.replica or false
  for i, name in ipairs(names) do
    fns[i] = function()
      local result, why = timed(q.pool, q.sql, name, core.mysql_query, open(name), replica, q.sql, n,
        unpack(list, 1, n))
      total = total + (result and #result.rows or 0)
      if total > rows_max then return { cols = result and result.cols or {}, rows = {} } end -- frees them early
      return result, why
    end
  end
  local results, errors = parallel(fns)
  if not results then return nil, errors end
  if total > rows_max then
    return nil, core.err("LIMIT", ("the shards have more than %d rows together"):format(rows_max))
  end
  return joined(names, results, errors or {}, rows_max)
end

--- checked_ttl(ms) -> ms | nil, err
function M.checked_ttl(ms)
  if ms >= 0 and ms <= TTL_MAX_MS and ms % 1 == 0 then return ms end
  return bad("ttl_ms is 0, for ever, to %.0f, not %s", TTL_MAX_MS, tostring(ms))
end

M.transaction, M.with_writes, M.conn_ask, M.has_key = transaction, with_writes, conn_ask, has_key

return M
