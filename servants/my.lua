-- SPDX-License-Identifier: BSD-2-Clause
--
-- my: mysql for clients: statements brought to the pool an entity lies in, results kept under keys that clients choose,
-- one call over all shards, JSON merged into a row. servants/README.md tells more.
local fae = require "fae"
local lib = require "fae.my"
local merge = require "fae.mymerge"
local old = require "fae.oldmy"
local querycache = require "fae.querycache"
local shard = require "fae.shard"
local stats = require "fae.querystats"
local my = fae.servant "my"

local config = fae.config "my"
local PUBLISH_MS, TELL_MS = 2000, 1000

local function bad(...) return nil, fae.err("BAD_ARGS", (...):format(select(2, ...))) end

-- ---- servant "my" { slow_query_ms = 200, cache_ttl_ms = 60000, rows_max = 100000 } ----

local function is_count(n) return n >= 0 and n % 1 == 0 end

local defaults = { slow_query_ms = 500, cache_ttl_ms = 0, rows_max = 100000 }

for key, value in pairs(config) do
  if defaults[key] == nil then error(("servant \"my\": no option %s"):format(tostring(key))) end
  if type(value) ~= "number" or not is_count(value) then
    error(("servant \"my\": %s is a number that is not negative"):format(key))
  end
  defaults[key] = value
end
stats.slow_from(defaults.slow_query_ms)
my.on_load(stats.adopt)
fae.timer(PUBLISH_MS, stats.publish)
fae.timer(TELL_MS, querycache.tell)

-- ---- options ----

local function plain(value)
  if value == fae.null then return nil end
  return value
end

local known = {
  query = { ttl_ms = "number", replica = "boolean" },
  query_shards = { replica = "boolean", rows_max = "number" },
  bulk_exec = { atomic = "boolean" },
  merge = { cache_key = "string" },
}

-- The options of a call, checked: a table, empty when there are none | nil, err
local function options_of(what, options)
  local wishes = {}
  for key, value in pairs(options or {}) do
    local kind = known[what][key]
    if not kind then return bad("my.%s has no option %s", what, tostring(key)) end
    wishes[key] = plain(value)
    if type(wishes[key]) ~= kind and value ~= fae.null then
      return bad("my.%s: %s is a %s, not a %s", what, key, kind, type(value))
    end
    if key == "rows_max" and wishes[key] and not is_count(wishes[key]) then
      return bad("my.%s: rows_max is a number of rows, not %s", what, tostring(value))
    end
  end
  return wishes
end

-- ---- methods ----

my.method("query", { args = { "string", "string", "any?", "string", "array?", "string?", "map?" }, route = 6,
  idempotent = true, private = true,
  doc = "pool, table, hint, sql, values, cache key, {ttl_ms, replica}: {cols, rows} of what reads" },
  function(call, pool, name, hint, sql, args, cache_key, options)
    local kept = cache_key and call.method == "my.query" and lib.kept(sql, cache_key, name)
    if kept then return kept end
    local wishes, err = options_of("query", options)
    if not wishes then return nil, err end
    local ttl_ms
    ttl_ms, err = lib.checked_ttl(wishes.ttl_ms or defaults.cache_ttl_ms)
    if not ttl_ms then return nil, err end
    local result
    result, err = lib.query { pool = pool, table = name, hint = hint, sql = sql, args = args, cache_key = cache_key,
      ttl_ms = ttl_ms, replica = wishes.replica }
    if not result then return nil, err end
    return { cols = result.cols, rows = result.rows }
  end)

my.method("exec", { args = { "string", "string", "any?", "string", "array?", "string?" }, route = 6, private = true,
  doc = "pool, table, hint, sql, values, cache key: {affected, insert_id} of what writes" },
  function(_, pool, name, hint, sql, args, cache_key)
    local result, err = lib.exec { pool = pool, table = name, hint = hint, sql = sql, args = args,
      cache_key = cache_key }
    if not result then return nil, err end
    local has_rows = #result.cols > 0 -- RETURNING
    return { affected = result.affected, insert_id = result.insert_id, warnings = result.warnings,
      cols = has_rows and result.cols or nil, rows = has_rows and result.rows or nil }
  end)

local kinds = { pool = "string", table = "string", sql = "string", args = "table", cache_key = "string" }

-- One of bulk_exec's statements, as it came, without its nulls | nil, err
local function statement_of(i, from)
  if type(from) ~= "table" then return bad("statement %d is a %s, not a map", i, type(from)) end
  local q = { table = "" }
  for key, value in pairs(from) do
    value = plain(value)
    if key ~= "hint" and not kinds[key] then return bad("statement %d: there is no %s", i, tostring(key)) end
    if kinds[key] and value ~= nil and type(value) ~= kinds[key] then
      return bad("statement %d: %s is a %s, not a %s", i, key, type(value), kinds[key])
    end
    q[key] = value
  end
  if not q.pool or not q.sql then return bad("statement %d needs pool and sql", i) end
  return q
end

my.method("bulk_exec", { args = { "array", "map?" }, private = true,
  doc = "[{pool, table, hint, sql, args, cache_key}, ...], {atomic}: {affected}, the sum; one after the other" },
  function(_, list, options)
    local wishes, err = options_of("bulk_exec", options)
    if not wishes then return nil, err end
    local statements = {}
    for i = 1, #list do
      statements[i], err = statement_of(i, list[i])
      if not statements[i] then return nil, err end
    end
    return lib.bulk_exec(statements, wishes.atomic)
  end)

my.method("query_shards", { args = { "string", "string", "string", "array?", "map?" }, idempotent = true,
  private = true,
  doc = "pool, table, sql, values, {replica, rows_max}: {cols, rows, shards, errors} of all shards of that pool" },
  function(_, pool, name, sql, args, options)
    local wishes, err = options_of("query_shards", options)
    if not wishes then return nil, err end
    local result
    result, err = lib.query_shards { pool = pool, table = name, sql = sql, args = args, replica = wishes.replica,
      rows_max = math.min(wishes.rows_max or defaults.rows_max, defaults.rows_max) }
    if not result then return nil, err end
    if result.shards == 0 then return nil, fae.err("UNKNOWN_POOL", "there is no mysql pool " .. pool) end
    return { cols = result.cols, rows = result.rows, shards = result.shards, errors = result.errors }
  end)

my.method("merge", { args = { "string", "string", "any?", "map", "string", "string", "map?" }, private = true,
  doc = "pool, table, hint, {column = value} of one row, column, JSON object as text, {cache_key}: the merged JSON" },
  function(_, pool, name, hint, where, column, json, options)
    local wishes, err = options_of("merge", options)
    if not wishes then return nil, err end
    return merge.merge { pool = pool, table = name, hint = hint, where = where, column = column, json = json,
      cache_key = wishes.cache_key }
  end)

my.method("evict", { args = { "string" }, route = 1, idempotent = true,
  doc = "forgets the result under a cache key: was there one?" },
  function(_, cache_key) return querycache.evict(cache_key) end)

my.method("evict_shard", { args = { "string", "any" }, idempotent = true,
  doc = "pool, hint: forgets where that entity lies, so that the lookup table is asked: was it known?" },
  function(_, pool, hint) return shard.forget(pool, hint) end)

my.method("stats", { args = { "int?" }, idempotent = true,
  doc = "statements without their values, with counts, errors, rows and percentiles; n of them; for admins" },
  function(_, n) return { digests = fae.array(stats.all(n)) } end)

-- ---- fae's own: its arguments, its results, statements of either kind ----

my.method("fae_query", { args = { "string", "string", "int", "string", "array", "string" }, route = 6,
  alias = "my_query", private = true,
  doc = "pool, table, hintId, sql, argv, cacheKey: {rowsAffected, lastInsertId, cols, rows}" },
  function(_, pool, name, hint, sql, args, cache_key)
    local result, err = lib.either { pool = pool, table = name, hint = hint, sql = sql, args = args,
      cache_key = cache_key, ttl_ms = defaults.cache_ttl_ms }
    return result and old.result(result), err
  end)

my.method("fae_query_shards", { args = { "string", "string", "string", "array" }, idempotent = true,
  alias = "my_query_shards", private = true,
  doc = "pool, table, sql, argv: as my_query, of all shards; one that fails fails all" },
  function(_, pool, name, sql, args)
    local result, err = lib.query_shards { pool = pool, table = name, sql = sql, args = args,
      rows_max = defaults.rows_max }
    if not result then return nil, err end
    if result.errors then
      local _, first = next(result.errors)
      return nil, fae.err(first.code, first.message, { detail = first.detail })
    end
    return old.result(result)
  end)

my.method("fae_bulk_exec", { args = { "array", "array", "array", "array", "array", "array" }, alias = "my_bulk_exec",
  private = true, doc = "pools, tables, hintIds, sqls, argv, cacheKeys: the sum of affected rows" },
  function(_, ...)
    local list, err = old.statements(...)
    if not list then return nil, err end
    local result
    result, err = lib.bulk_exec(list, false)
    return result and result.affected, err
  end)

my.method("fae_merge", { args = { "string", "string", "int", "string", "string", "string", "string" },
  alias = "my_merge", private = true,
  doc = "pool, table, hintId, where, key, column, JSON: {ok, newVal}" },
  function(_, pool, name, hint, where, key, column, json)
    local conditions, err = merge.parse_where(where)
    if not conditions then return nil, err end
    local text
    text, err = merge.merge { pool = pool, table = name, hint = hint, where = conditions, column = column, json = json,
      cache_key = key }
    return text and { ok = true, newVal = text }, err
  end)

my.method("fae_evict", { args = { "string" }, route = 1, idempotent = true, alias = "my_evict",
  doc = "cacheKey: forgets the result under it" },
  function(_, cache_key)
    local was, err = querycache.evict(cache_key)
    return nil, was == nil and err or nil
  end)

return my
