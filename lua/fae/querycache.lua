-- SPDX-License-Identifier: BSD-2-Clause
--
-- Results of mysql queries in a cache of their own (query_cache_size), under names that clients choose: what reads and
-- writes one entity says the same name. Without that cache every read goes to the server. An entry is one of
--
--   value    {cols, rows}, as msgpack
--   fetched  somebody asks the server: who finds it waits a little for the value; any read may put its own in its place
--   free     nobody asks: the same, without the wait
--   written  by these writes, which are under way, or of which nobody knows whether they were or will be done: reads go
--            to the server, and keep nothing. A write counts for a minute at most
--
-- A read puts its result only where the entry still is the one that it found before it asked the server, and a write
-- replaces the entry before it begins and again when it is done. So what was read before a write was done is never
-- kept after it, whichever of them, their workers or their entries dies or is pushed out in between.
local core = require "fae.core"
local cache = require("fae.lcache").open "query_cache"
local flight = require "fae.flight"

local M = {}

local is_on = core.cache "query_cache" ~= nil
local KEY_MAX = 1000
local VALUE_MAX = 1048576
local HOLD_MS = 60000 -- of marks: longer than a server goes on with a statement whose client is gone
local TABLES_MAX = 64 -- with counters of their own
local TRIES = 16 -- to change an entry that others change
local VALUE, FETCHED, FREE, WRITTEN = 0x82, 70, 45, 87 -- first bytes; a map of two begins so
local WAITS_MS = { 1, 2, 4, 8, 16, 32 } -- for another worker's answer
local byte = string.byte
local held = { ttl_ms = HOLD_MS }

-- What a write may fail with that leaves no doubt: it was not done, or it is over.
local certain = {
  BACKEND = true, UNAVAILABLE = true, CIRCUIT_OPEN = true, POOL_BUSY = true, UNKNOWN_POOL = true, BAD_ARGS = true,
  LIMIT = true, NOT_FOUND = true, LOCKED = true, INTERNAL = true,
}

-- ---- counters ----

local counter = core.metric("counter", "fae_mysql_cache_total",
  "Cached mysql queries by table: hit, miss, stale (a write was quicker), large (not kept), kick (by a write).",
  { "table", "result" }, {})
local tables, n_tables = {}, 0 -- name -> {hit = n, ...}, not yet told

local function new_counts() return { hit = 0, miss = 0, stale = 0, large = 0, kick = 0 } end

tables.other = new_counts()

local function counts_of(name)
  if n_tables >= TABLES_MAX or #name > 64 or not name:find "^[%w_.$-]+$" then return tables.other end
  tables[name] = new_counts()
  n_tables = n_tables + 1
  return tables[name]
end

local function count(name, what)
  local counts = tables[name] or counts_of(name)
  counts[what] = counts[what] + 1
end

--- tell(): puts what was counted into the node's metrics. Now and then, since a hit should cost no more than it must.
function M.tell()
  for name, counts in pairs(tables) do
    for what, n in pairs(counts) do
      if n > 0 then
        counter:inc(n, name, what)
        counts[what] = 0
      end
    end
  end
end

-- ---- entries ----

local marks, who = 0, nil

-- A mark that nobody else makes.
local function mark(kind)
  if not who then
    local about = core.node()
    who = ("%d:%d:%s:"):format(about.slot, about.pid, tostring(M):match "0x%x+") -- two generations may live at a time
  end
  marks = marks + 1
  return string.char(kind) .. who .. marks
end

local function is_key(key)
  if #key <= KEY_MAX then return true end
  return nil, core.err("LIMIT", ("a cache key has at most %d bytes, not %d"):format(KEY_MAX, #key))
end

local function decode(data)
  local value = core.msgpack_decode(data)
  if type(value) ~= "table" or type(value.cols) ~= "table" or type(value.rows) ~= "table" then return nil end
  return { cols = value.cols, rows = value.rows, affected = 0, insert_id = 0 }
end

-- ---- reading ----

local flights = {}

-- Keeps it where the entry still has that version.
local function keep(key, version, name, ttl_ms, result)
  local data = core.msgpack_encode { cols = result.cols, rows = result.rows }
  if not data or #data > VALUE_MAX or byte(data) ~= VALUE then
    count(name, "large")
    cache.cas(key, mark(FREE), version, held)
  elseif cache.cas(key, data, version, { ttl_ms = ttl_ms }) == false then
    count(name, "stale")
  end
end

local function fetch(key, version, name, ttl_ms, fn, ...)
  local result, err = fn(...)
  if result then
    keep(key, version, name, ttl_ms, result)
  else
    cache.cas(key, mark(FREE), version, held)
  end
  return result, err
end

-- Another worker asks the server already.
local function fetch_late(key, version, name, ttl_ms, fn, ...)
  for _, ms in ipairs(WAITS_MS) do
    local ok, err = core.sleep(ms)
    if not ok then return nil, err end
    local data, now = cache.get(key)
    if now ~= version then
      local result = data and byte(data) == VALUE and decode(data)
      if result then return result end
      break
    end
  end
  return fetch(key, version, name, ttl_ms, fn, ...)
end

local function miss(key, data, version, name, ttl_ms, fn, ...)
  local mine = false
  count(name, "miss")
  if not data then
    mine = cache.add(key, mark(FETCHED), held)
    data, version = cache.get(key)
    if not data then return fn(...) end -- a stopped worker holds that shard
  end
  local first = byte(data)
  if first == VALUE then
    local result = decode(data)
    if result then return result end
    cache.del(key)
    return fn(...)
  end
  if first == FREE then
    local fetched = mark(FETCHED)
    if cache.cas(key, fetched, version, held) then
      local now
      now, version = cache.get(key)
      mine = now == fetched
      if not mine then return fn(...) end
    else
      return fn(...)
    end
  elseif first ~= FETCHED then
    return fn(...)
  end
  return flight.run(flights, key, version, mine and fetch or fetch_late, key, version, name, ttl_ms, fn, ...)
end

--- peek(key, name) -> the result under that key, as msgpack of {cols, rows} | nil: there is none, so read it
function M.peek(key, name)
  if not is_on or #key > KEY_MAX then return nil end
  local data = cache.get(key)
  if not data or byte(data) ~= VALUE then return nil end
  count(name, "hit")
  return data
end

--- read(key, name, ttl_ms, fn, ...) -> result, is it from the cache | nil, err. The result under that key; else that of
-- fn(...), {cols, rows}, which is kept for ttl_ms (0: for ever) if no write came between. name: of the table, for the
-- counters. LIMIT: the key is too long. fn must ask a server that knows of every write: not a replica. May wait.
function M.read(key, name, ttl_ms, fn, ...)
  local ok, err = is_key(key)
  if not ok then return nil, err end
  if not is_on then return fn(...) end
  local data, version = cache.get(key)
  if data and byte(data) == VALUE then
    local result = decode(data)
    if result then
      count(name, "hit")
      return result, true
    end
  end
  return miss(key, data, version, name, ttl_ms, fn, ...)
end

-- ---- writing ----

-- Writes under way: "W" and, of each, "WHO:NUMBER=MS;", until when it counts. Those of `data` but `own` that still do.
local function others(data, own)
  local now_ms, left = core.monotonic_us() / 1000, {}
  for id, until_ms in data:sub(2):gmatch "([^=;]+)=(%d+);" do
    if id ~= own and tonumber(until_ms) > now_ms then left[#left + 1] = ("%s=%s;"):format(id, until_ms) end
  end
  return table.concat(left)
end

-- Puts what make(data) says, an entry's text, in the place of data, which may be nil. true | nil, err
local function change(key, make)
  for _ = 1, TRIES do
    local data, version = cache.get(key)
    local text = make(data)
    local ok, err
    if data then ok, err = cache.cas(key, text, version, held) else ok, err = cache.add(key, text, held) end
    if ok == nil then return nil, err end
    if ok then return true end
  end
  return cache.set(key, make(nil), held)
end

-- Adds the write to those under way, or gives it another minute.
local function hold(key, id)
  local own = ("%s=%.0f;"):format(id, core.monotonic_us() / 1000 + HOLD_MS)
  return change(key, function(data)
    return "W" .. (data and byte(data) == WRITTEN and others(data, id) or "") .. own
  end)
end

--- begin(key) -> write | nil, err: from here on nothing of that key is kept. UNAVAILABLE: the cache cannot be told, so
-- the write must not be done.
function M.begin(key)
  local ok, err = is_key(key)
  local id = mark(WRITTEN):sub(2)
  if ok and is_on then ok, err = hold(key, id) end
  if not ok then return nil, err end
  return { key = key, id = id }
end

--- finish(write, name, err): it was done (err nil) or failed so
function M.finish(write, name, err)
  if not is_on then return end
  if err and not certain[err.code] then
    hold(write.key, write.id)
    return
  end
  count(name, "kick")
  change(write.key, function(data)
    local left = data and byte(data) == WRITTEN and others(data, write.id) or ""
    return left ~= "" and "W" .. left or mark(FREE)
  end)
end

--- write(key, name, fn, ...) -> what fn(...) gave, a write's result | nil, err
function M.write(key, name, fn, ...)
  local write, err = M.begin(key)
  if not write then return nil, err end
  local result
  result, err = fn(...) -- raises: the mark stays until its time is over
  M.finish(write, name, not result and err or nil)
  return result, err
end

--- evict(key) -> was there a result | nil, err
function M.evict(key)
  local ok, err = is_key(key)
  if not ok then return nil, err end
  local data = is_on and cache.get(key)
  if not data or byte(data) == WRITTEN then return false end -- of that nothing is kept
  ok, err = cache.del(key)
  if ok == nil then return nil, err end
  return byte(data) == VALUE
end

return M
