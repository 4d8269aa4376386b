-- SPDX-License-Identifier: BSD-2-Clause
--
-- How long mysql statements take, by their digests: counts, errors, rows and a histogram each, in every worker. Each
-- worker puts what it has into the node's cache from time to time, so that any of them, and ops, can tell of all. Slow
-- ones have a line in the log, with no value in it.
local core = require "fae.core"
local cache = require "fae.cache"
local ffi = require "fae.ffi"
local digest_of = require("fae.sqldigest").of

local M = {}

local DIGESTS_MAX = 256 -- a worker; a new one takes the place of the rarest
local BUCKETS = 112 -- four for a power of two microseconds: to 268 s
local PER_LOG = 4 / math.log(2)
local SLOW_LINES_MAX = 10 -- a second
local PUBLISHED_MS = 60000
local JSON_ROWS = 200 -- of those that took the most time
local TOP_ROWS = 20
local PREFIX = "\0my:stats:"
local KEY_JSON, KEY_TOP = PREFIX .. "json", PREFIX .. "top" -- src/ops/mysql.c reads them

local histogram = ffi.typeof("uint32_t[?]")

local function new_entry(pool, digest)
  return { pool = pool, digest = digest, count = 0, errors = 0, rows = 0, sum_us = 0, max_us = 0,
    hist = histogram(BUCKETS) }
end

-- ---- the numbers of this worker ----

local state = { digests = {}, n = 0, other = new_entry("", "") }

--- adopt(table): the table that outlives a reload; what it has is gone on with
function M.adopt(kept)
  kept.querystats = kept.querystats or state
  state = kept.querystats
end

local function add_up(into, from)
  for _, key in ipairs { "count", "errors", "rows", "sum_us" } do into[key] = into[key] + from[key] end
  into.max_us = math.max(into.max_us, from.max_us)
  for i = 0, BUCKETS - 1 do into.hist[i] = into.hist[i] + from.hist[i] end
end

-- Makes room for one more: a flood of digests that come once pushes out each other.
local function drop_rarest()
  local rarest, key
  for k, entry in pairs(state.digests) do
    if not rarest or entry.count < rarest.count then rarest, key = entry, k end
  end
  add_up(state.other, rarest)
  state.digests[key] = nil
  state.n = state.n - 1
end

local function entry_of(pool, digest)
  local key = pool .. "\n" .. digest
  local entry = state.digests[key]
  if entry then return entry end
  if state.n >= DIGESTS_MAX then drop_rarest() end
  entry = new_entry(pool, digest)
  state.digests[key] = entry
  state.n = state.n + 1
  return entry
end

-- ---- the slow ones ----

local slow = { from_us = 500000, second = 0, lines = 0, untold = 0 }

--- slow_from(ms): statements that take so long have a line in the log; 0: none has
function M.slow_from(ms) slow.from_us = ms > 0 and ms * 1000 or math.huge end

local function tell(entry, where, us, n_rows, err)
  local second = math.floor(core.monotonic_us() / 1e6)
  if second ~= slow.second then slow.second, slow.lines = second, 0 end
  if slow.lines >= SLOW_LINES_MAX then
    slow.untold = slow.untold + 1
    return
  end
  slow.lines = slow.lines + 1
  core.log(2, "slow query", { pool = where, ms = ("%.1f"):format(us / 1000), rows = n_rows, code = err and err.code,
    digest = entry.digest, untold = slow.untold > 0 and slow.untold or nil })
  slow.untold = 0
end

--- observe(pool, digest, where, us, n_rows, err): one statement is through. pool: as it was called; where: the pool
-- that it came to, a shard; err: what it failed of, or nil
function M.observe(pool, digest, where, us, n_rows, err)
  local entry = entry_of(pool, digest)
  entry.count = entry.count + 1
  entry.rows = entry.rows + n_rows
  entry.sum_us = entry.sum_us + us
  if err then entry.errors = entry.errors + 1 end
  if us > entry.max_us then entry.max_us = us end
  local i = us < 1 and 0 or math.floor(math.log(us) * PER_LOG)
  i = i < BUCKETS and i or BUCKETS - 1
  entry.hist[i] = entry.hist[i] + 1
  state.changed = true
  if us >= slow.from_us then tell(entry, where, us, n_rows, err) end
end

--- timed(pool, text, where, fn, ...) -> what fn(...) gave, a result | nil, err; the statement is noted
function M.timed(pool, text, where, fn, ...)
  local began = core.monotonic_us()
  local result, err = fn(...)
  local n_rows = result and result.rows and #result.rows or 0
  if result and n_rows == 0 then n_rows = tonumber(result.affected) or 0 end
  M.observe(pool, digest_of(text), where, core.monotonic_us() - began, n_rows, not result and err or nil)
  return result, err
end

-- ---- those of all workers ----

-- An entry as a list, its histogram as pairs.
local function packed(entry)
  local hist = {}
  for i = 0, BUCKETS - 1 do
    if entry.hist[i] > 0 then
      hist[#hist + 1] = i
      hist[#hist + 1] = entry.hist[i]
    end
  end
  return { entry.pool, entry.digest, entry.count, entry.errors, entry.rows, entry.sum_us, entry.max_us, hist }
end

local function unpacked(list)
  local entry = new_entry(list[1], list[2])
  entry.count, entry.errors, entry.rows, entry.sum_us, entry.max_us = list[3], list[4], list[5], list[6], list[7]
  for i = 1, #list[8], 2 do entry.hist[list[8][i]] = list[8][i + 1] end
  return entry
end

local function all_packed()
  local list = {}
  for _, entry in pairs(state.digests) do list[#list + 1] = packed(entry) end
  if state.other.count > 0 then list[#list + 1] = packed(state.other) end
  return list
end

-- Adds what a worker published to what is there; it came through a cache that others write too: it may be anything.
local function add_published(into, list)
  for _, one in ipairs(list) do
    local entry = unpacked(one)
    local key = entry.pool .. "\n" .. entry.digest
    if into[key] then add_up(into[key], entry) else into[key] = entry end
  end
end

local function percentile(entry, share)
  local left = math.ceil(entry.count * share)
  for i = 0, BUCKETS - 1 do
    left = left - entry.hist[i]
    if left <= 0 then return math.min(math.floor(2 ^ ((i + 1) / 4)), entry.max_us) end
  end
  return entry.max_us
end

local function shown(entry)
  return {
    pool = entry.pool, digest = entry.digest ~= "" and entry.digest or "(others)", count = entry.count,
    errors = entry.errors, rows = entry.rows, p50_us = percentile(entry, 0.5), p99_us = percentile(entry, 0.99),
    max_us = entry.max_us, sum_us = entry.sum_us,
  }
end

--- all([n]) -> list of {pool, digest, count, errors, rows, p50_us, p99_us, max_us, sum_us}, those first that took the
-- most time altogether; all, or n of them. Of this worker as of now, of the others as of some seconds ago.
function M.all(n)
  local merged, about = {}, core.node()
  add_published(merged, all_packed())
  for slot = 0, about.workers - 1 do
    local data = slot ~= about.slot and cache.get(PREFIX .. slot)
    local list = data and core.msgpack_decode(data)
    if list then pcall(add_published, merged, list) end
  end
  local rows = {}
  for _, entry in pairs(merged) do rows[#rows + 1] = shown(entry) end
  table.sort(rows, function(a, b)
    if a.sum_us ~= b.sum_us then return a.sum_us > b.sum_us end
    return a.digest < b.digest
  end)
  for i = #rows, (n or #rows) + 1, -1 do rows[i] = nil end
  return rows
end

--- publish(): tells the others, and, from the first worker, ops
function M.publish()
  local about = core.node()
  if state.changed then
    state.changed = false
    state.published = core.msgpack_encode(all_packed())
  end
  if state.published then cache.set(PREFIX .. about.slot, state.published, { ttl_ms = PUBLISHED_MS }) end
  if about.slot == 0 then
    local rows = M.all(JSON_ROWS)
    if not rows[1] then return end
    cache.set(KEY_JSON, core.cjson.encode { digests = rows }, { ttl_ms = PUBLISHED_MS })
    for i = #rows, TOP_ROWS + 1, -1 do rows[i] = nil end
    cache.set(KEY_TOP, core.cjson.encode { digests = rows }, { ttl_ms = PUBLISHED_MS })
  end
end

return M
