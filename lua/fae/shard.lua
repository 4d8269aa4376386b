-- SPDX-License-Identifier: BSD-2-Clause
--
-- Which mysql pool an entity lies in: `shard "UserShard" { ... }` of the configuration says how its id, the hint, leads
-- there. A pool without such a section is global: it is what it is called.
--
--   standard  the lookup table says: select shardId, shardLock where entityId = hint; the pool is NAME and shardId.
--             Kept for lookup_ttl_ms, a second at most, in the node's cache; forgotten when the entity's pool fails
--   hash      pools[crc32(hint) % n]
--   vbucket   map[crc32(hint) >> 16 & 0x7fff & 1023], fae's formula
local core = require "fae.core"
local cache = require "fae.cache"
local flight = require "fae.flight"
local sql = require "fae.sql"

local M = {}

local BUCKETS = 1024 -- FAE_SHARD_BUCKETS
local KEY_MAX = 500
local PREFIX = "\0my:shard:"
-- What says that an entity may lie elsewhere by now, or that nobody knows.
local doubtful = {
  UNAVAILABLE = true, UNKNOWN = true, TIMEOUT = true, CIRCUIT_OPEN = true, UNKNOWN_POOL = true, POOL_BUSY = true,
}
-- A server's own words for it: no such database, no such table, no rights there, read only.
local doubtful_errno = { [1044] = true, [1045] = true, [1049] = true, [1142] = true, [1146] = true, [1290] = true,
  [1792] = true, [1836] = true }

-- ---- the hash ----

local crc_table = {}
for i = 0, 255 do
  local c = i
  for _ = 1, 8 do c = bit.bxor(bit.rshift(c, 1), bit.band(-bit.band(c, 1), 0xedb88320)) end
  crc_table[i] = c
end

--- crc32(text) -> the number that PHP's crc32() gives
function M.crc32(text)
  local c = -1
  for i = 1, #text do
    c = bit.bxor(bit.rshift(c, 8), crc_table[bit.band(bit.bxor(c, text:byte(i)), 255)])
  end
  return bit.bnot(c) % 2 ^ 32
end

--- bucket(key) -> 0 to 1023
function M.bucket(key) return bit.band(bit.rshift(bit.tobit(M.crc32(key)), 16), 0x7fff, BUCKETS - 1) end

-- ---- the configuration ----

local function words(text)
  local list = {}
  for word in text:gmatch "%S+" do list[#list + 1] = word end
  return list
end

-- bucket -> pool. The configuration was checked: every bucket is there once.
local function map_of(row)
  local map, pools = {}, words(row.pools)
  if row.map == "" then
    for i = 0, BUCKETS - 1 do map[i] = pools[i % #pools + 1] end
    return map
  end
  for word in row.map:gmatch "%S+" do
    local from, to, pool = word:match "^(%d+)%-?(%d*)=(.*)$"
    for i = tonumber(from), tonumber(to ~= "" and to or from) do map[i] = pool end
  end
  return map
end

local function quoted(table_name)
  local parts = {}
  for part in table_name:gmatch "[^.]+" do parts[#parts + 1] = sql.quote_identifier(part) end
  return table.concat(parts, ".")
end

local rows -- by name, read when they are first needed

local function read()
  rows = {}
  for _, row in ipairs(core.section "shard") do
    rows[row.name] = row
    if row.strategy == "standard" then
      row.sql = "select shardId, shardLock from " .. quoted(row.lookup_table) .. " where entityId = ?"
      row.flights = {}
    elseif row.strategy == "hash" then
      row.list = words(row.pools)
    else
      row.buckets = map_of(row)
    end
  end
end

local function row_of(pool)
  if not rows then read() end
  return rows[pool]
end

-- ---- hints ----

-- A hint as text; nil when it is none. 0 is none either, as it never was.
local function key_of(hint)
  if type(hint) == "number" and hint % 1 == 0 and hint ~= 0 and hint > -2 ^ 63 and hint < 2 ^ 64 then
    return ("%.0f"):format(hint)
  end
  if type(hint) == "cdata" then
    local digits = tostring(hint):match "^(%-?%d+)U?LL$"
    return digits ~= "0" and digits or nil
  end
  if type(hint) == "string" and hint ~= "" and hint ~= "0" and #hint <= KEY_MAX then return hint end
  return nil
end

-- ---- standard ----

local function has_value(value) return value ~= nil and value ~= core.cjson.null end

local function text_of(value) return type(value) == "number" and ("%.0f"):format(value) or tostring(value) end

local function lookup(row, key, hint)
  local began = core.monotonic_us()
  local result, err = core.mysql_query(core.mysql_open(row.lookup_pool), false, row.sql, 1, hint)
  if not result then return nil, err end
  local found = result.rows[1]
  if not found or not has_value(found[1]) then
    return nil, core.err("NOT_FOUND", ("shard lookup fails: %s has no entity %s"):format(row.name, key))
  end
  if has_value(found[2]) and tonumber(found[2]) ~= 0 then
    return nil, core.err("LOCKED", ("entity being locked: %s %s"):format(row.name, key), { retryable = true })
  end
  local pool = row.name .. text_of(found[1])
  local left_ms = math.floor(row.lookup_ttl_ms - (core.monotonic_us() - began) / 1000)
  if left_ms >= 1 then cache.set(PREFIX .. row.name .. ":" .. key, pool, { ttl_ms = left_ms }) end
  return pool
end

local function pick_standard(row, key, hint)
  local pool = cache.get(PREFIX .. row.name .. ":" .. key)
  if pool then return pool end
  return flight.run(row.flights, key, nil, lookup, row, key, hint)
end

-- ---- all of them ----

--- pick(pool, hint) -> name of the mysql pool | nil, err. Of a global pool itself, whatever the hint. BAD_ARGS: there
-- is no hint, or it is 0; NOT_FOUND: the lookup table has no such entity; LOCKED: it is being moved. May wait.
function M.pick(pool, hint)
  local row = row_of(pool)
  if not row then return pool end
  local key = key_of(hint)
  if not key then
    return nil, core.err("BAD_ARGS", ("hintId=0? %s wants the id of an entity, a number or a text"):format(pool))
  end
  if row.strategy == "standard" then
    return pick_standard(row, key, type(hint) == "number" and hint or type(hint) == "cdata" and hint or key)
  end
  if row.strategy == "hash" then return row.list[M.crc32(key) % #row.list + 1] end
  return row.buckets[M.bucket(key)]
end

--- is_sharded(pool) -> is there a section of that name
function M.is_sharded(pool) return row_of(pool) ~= nil end

--- members(pool) -> list of the mysql pools that it is made of, in order; of a global one itself; maybe empty.
-- UserShard has UserShard1 and UserShard22, not UserShardLog1.
function M.members(pool)
  local row, found, seen = row_of(pool), {}, {}
  local function add(name)
    if not seen[name] then found[#found + 1] = name end
    seen[name] = true
  end
  if row and row.list then
    for _, name in ipairs(row.list) do add(name) end
  elseif row and row.buckets then
    for i = 0, BUCKETS - 1 do add(row.buckets[i]) end
  else
    for _, entry in ipairs(core.section "mysql") do
      local name = entry.name
      if not row and name == pool or row and name:sub(1, #pool) == pool and name:find("^%d+$", #pool + 1) then
        add(name)
      end
    end
  end
  table.sort(found, function(a, b)
    if #a ~= #b then return #a < #b end
    return a < b
  end)
  return found
end

--- forget(pool, hint) -> was where the entity lies known: the next call asks the lookup table | nil, err
function M.forget(pool, hint)
  local row, key = row_of(pool), key_of(hint)
  if not key then return nil, core.err("BAD_ARGS", "hintId=0?") end
  if not row or row.strategy ~= "standard" then return false end
  return cache.del(PREFIX .. pool .. ":" .. key)
end

--- failed(pool, hint, err): what was asked where the entity lies failed so; if it may have moved it is forgotten
function M.failed(pool, hint, err)
  local row = row_of(pool)
  if not row or row.strategy ~= "standard" or type(err) ~= "table" then return end
  local errno = err.code == "BACKEND" and type(err.detail) == "table" and err.detail.errno
  if doubtful[err.code] or doubtful_errno[errno] then M.forget(pool, hint) end
end

return M
