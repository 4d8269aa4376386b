-- SPDX-License-Identifier: BSD-2-Clause
--
-- The kv backend that lies in a pool of mysql: kv_backend "mysql:main". One table, made when it is first needed:
--
--   fae_kv   k the key; v the value; n the version, microseconds of the server's clock and more than the one before;
--            e when it expires, in the same microseconds, NULL: never
--
-- Every write is one statement, but for incr, which is one transaction. What has expired is left out of everything, and
-- removed by later writes, some at a time.
local core = require "fae.core"
local mysql = require "fae.mysql"

local M = {}

local KEY_MAX = core.kv_limits()
local NOW = "TIMESTAMPDIFF(MICROSECOND, '1970-01-01 00:00:00', UTC_TIMESTAMP(6))"
local ALIVE = "(e IS NULL OR e > " .. NOW .. ")"
local TABLE = ([[CREATE TABLE IF NOT EXISTS fae_kv (k VARBINARY(%d) NOT NULL PRIMARY KEY, v LONGBLOB NOT NULL,
  n BIGINT UNSIGNED NOT NULL, e BIGINT NULL, KEY (e)) ENGINE=InnoDB]]):format(KEY_MAX)
local GET = "SELECT v, n FROM fae_kv WHERE k = ? AND " .. ALIVE
local INSERT = "INSERT INTO fae_kv (k, v, n, e) VALUES (?, ?, " .. NOW .. ", " .. NOW .. " + ?) "
  .. "ON DUPLICATE KEY UPDATE "
local SET = INSERT .. "n = GREATEST(n + 1, VALUES(n)), v = VALUES(v), e = VALUES(e)"
-- In this order, as each sees what the one before has set. What stays as it is counts as not affected.
local ADD = INSERT .. ([[v = IF(e <= %s, VALUES(v), v), n = IF(e <= %s, GREATEST(n + 1, VALUES(n)), n),
  e = IF(e <= %s, VALUES(e), e)]]):format(NOW, NOW, NOW)
local CAS = "UPDATE fae_kv SET v = ?, n = GREATEST(n + 1, " .. NOW .. "), e = " .. NOW
  .. " + ? WHERE k = ? AND n = ? AND " .. ALIVE
local DEL = "DELETE FROM fae_kv WHERE k = ? AND " .. ALIVE
local SWEEP = "DELETE FROM fae_kv WHERE e <= " .. NOW .. " ORDER BY e LIMIT 100"
local LOCK = "INSERT INTO fae_kv (k, v, n, e) VALUES (?, '', 0, 1) ON DUPLICATE KEY UPDATE k = k"
local LOCKED = "SELECT v, " .. ALIVE .. " FROM fae_kv WHERE k = ? FOR UPDATE"
local KEEP = "UPDATE fae_kv SET v = ?, n = GREATEST(n + 1, " .. NOW .. ") WHERE k = ?"
local RENEW = "UPDATE fae_kv SET v = ?, n = GREATEST(n + 1, " .. NOW .. "), e = " .. NOW .. " + ? WHERE k = ?"
local SIZES = "SELECT k, LENGTH(v) FROM fae_kv WHERE k >= ? AND " .. ALIVE .. " ORDER BY k LIMIT ?"
local SIZES_TO = "SELECT k, LENGTH(v) FROM fae_kv WHERE k >= ? AND k < ? AND " .. ALIVE .. " ORDER BY k LIMIT ?"
local PAGE = "SELECT k, v FROM fae_kv WHERE k >= ? AND k <= ? AND " .. ALIVE .. " ORDER BY k LIMIT ?"
local COUNT = "SELECT COUNT(*) FROM fae_kv WHERE " .. ALIVE
local ANSWER_BYTES = 768 -- of an answer to a client with items, besides these
local ITEM_BYTES = 16
local KEYS_AT_ONCE = 512
local NO_TABLE, DEADLOCK = 1146, 1213
local SWEEP_EVERY_US = 1000000
local TRIES = 10 -- of a transaction that the server ended over a deadlock

local function errno_of(err) return err and err.code == "BACKEND" and err.detail and err.detail.errno end

-- The first string after all with the prefix; nil: there is none.
local function after(prefix)
  for i = #prefix, 1, -1 do
    local byte = prefix:byte(i)
    if byte < 255 then return prefix:sub(1, i - 1) .. string.char(byte + 1) end
  end
end

-- ---- integers of 64 bits ----

local MAX, MIN = 0x7fffffffffffffffLL, -0x7fffffffffffffffLL - 1

-- nil: the text is none
local function integer_of(text)
  local minus, digits = text:match "^(%-?)(%d+)$"
  if not digits or #digits > 19 then return nil end
  local n = 0LL
  for digit in digits:gmatch "%d" do
    local d = tonumber(digit)
    if n < (MIN + d) / 10 then return nil end
    n = n * 10 - d -- downwards: the lowest has no twin
  end
  if minus == "-" then return n end
  if n == MIN then return nil end
  return -n
end

local function sum_of(a, b)
  if b > 0 and a > MAX - b or b < 0 and a < MIN - b then return nil end
  return a + b
end

local function plain(n)
  if n > -9007199254740992LL and n < 9007199254740992LL then return tonumber(n) end
  return n
end

local function micros(ttl_ms) return ttl_ms and ttl_ms * 1000 or nil end

--- new(name of the pool) -> a backend for lua/fae/kv_backend.lua
function M.new(name)
  local b = {}
  local db = mysql.new(name)
  local swept_us = core.monotonic_us()

  -- A statement of a table that may have to be made.
  local function ask(sql, ...)
    local result, err = db:query(sql, ...)
    if errno_of(err) ~= NO_TABLE then return result, err end
    local made, why = db:query(TABLE)
    if not made then return nil, why end
    return db:query(sql, ...)
  end

  local function sweep()
    local now_us = core.monotonic_us()
    if now_us < swept_us + SWEEP_EVERY_US then return end
    swept_us = now_us
    ask(SWEEP) -- what is not removed now is later
  end

  local function write(sql, ...)
    sweep()
    local result, err = ask(sql, ...)
    if not result then return nil, err end
    return result.affected > 0
  end

  function b.get(key)
    local result, err = ask(GET, key)
    if not result then return nil, err end
    local row = result.rows[1]
    if not row then return nil end
    return row[1], row[2]
  end

  function b.set(key, value, ttl_ms)
    local done, err = write(SET, key, value, micros(ttl_ms))
    return done ~= nil or nil, err
  end

  function b.add(key, value, ttl_ms) return write(ADD, key, value, micros(ttl_ms)) end
  function b.del(key) return write(DEL, key) end

  function b.cas(key, value, version, ttl_ms)
    if version == 0 then return b.add(key, value, ttl_ms) end
    return write(CAS, value, micros(ttl_ms), key, version)
  end

  local function add_to(tx, key, by, ttl_ms)
    local locked, err = tx:exec(LOCK, key)
    if not locked then return nil, err end
    local result
    result, err = tx:query(LOCKED, key)
    if not result then return nil, err end
    local text, alive = result.rows[1][1], result.rows[1][2] == 1
    local old = alive and integer_of(text) or not alive and 0LL
    if not old then return nil, core.err("BAD_ARGS", "the value is no integer of 64 bits") end
    local sum = sum_of(old, by + 0LL)
    if not sum then return nil, core.err("LIMIT", "the number would not fit 64 bits") end
    local digits = tostring(sum):match "^%-?%d+"
    local done
    if alive and not ttl_ms then
      done, err = tx:exec(KEEP, digits, key)
    else
      done, err = tx:exec(RENEW, digits, micros(ttl_ms), key)
    end
    if not done then return nil, err end
    return plain(sum)
  end

  function b.incr(key, by, ttl_ms)
    sweep()
    local value, err
    for _ = 1, TRIES do
      value, err = db:transaction(function(tx) return add_to(tx, key, by, ttl_ms) end)
      local errno = errno_of(err)
      if errno == NO_TABLE then
        local made, why = db:query(TABLE)
        if not made then return nil, why end
      elseif errno ~= DEADLOCK then
        return value, err
      end
    end
    return value, err
  end

  local function get_some(keys, first, found)
    local n = math.min(KEYS_AT_ONCE, #keys - first + 1)
    local places = 1
    while places < n do places = places * 2 end -- few different statements; what is too many is NULL, and nobody's key
    local sql = "SELECT k, v FROM fae_kv WHERE k IN (" .. ("?, "):rep(places - 1) .. "?) AND " .. ALIVE
    local some = {}
    for i = 1, n do some[i] = keys[first + i - 1] end
    local result, err = ask(sql, unpack(some, 1, places))
    if not result then return nil, err end
    local bytes = 0
    for _, row in ipairs(result.rows) do
      found[row[1]] = row[2]
      bytes = bytes + #row[1] + #row[2]
    end
    return bytes
  end

  function b.get_many(keys)
    local max, found, bytes = core.node().message_max, {}, 0
    for first = 1, #keys, KEYS_AT_ONCE do
      local some, err = get_some(keys, first, found)
      if not some then return nil, err end
      bytes = bytes + some
      if bytes > max then return nil, core.err("LIMIT", "these values have more than message_max bytes") end
    end
    return found
  end

  -- -> items, next key or nil, is the first too long for a message?
  local function page(from, to, limit)
    local max, bytes, n = core.node().message_max - ANSWER_BYTES, 0, 0
    local sizes, err
    if to then
      sizes, err = ask(SIZES_TO, from, to, limit + 1)
    else
      sizes, err = ask(SIZES, from, limit + 1)
    end
    if not sizes then return nil, err end
    local rows = sizes.rows
    while n < #rows and n < limit do
      local more = #rows[n + 1][1] + rows[n + 1][2] + ITEM_BYTES
      if n > 0 and bytes + more > max then break end
      bytes, n = bytes + more, n + 1
    end
    if n == 0 then return {}, nil end
    local following = rows[n + 1]
    local result
    result, err = ask(PAGE, rows[1][1], rows[n][1], n)
    if not result then return nil, err end
    return result.rows, following and following[1], bytes > max
  end

  function b.scan(prefix, from, limit) return page(from and from > prefix and from or prefix, after(prefix), limit) end

  -- A cursor is the key to begin at.
  function b.scan_all(cursor, limit)
    local from = ""
    if cursor then
      from = cursor:match "^k:(.+)$"
      if not from then return nil, core.err("BAD_ARGS", "that is no cursor of scan_all") end
    end
    local items, following, too_long = page(from, nil, limit)
    if not items then return nil, following end
    return items, following and "k:" .. following, too_long
  end

  function b.count()
    local result, err = ask(COUNT)
    if not result then return nil, err end
    return result.rows[1][1]
  end

  -- What moves a bucket to another node has no meaning here.
  local function here_only()
    return nil, core.err("UNAVAILABLE", ("kv_backend is mysql:%s, which has no buckets"):format(name))
  end
  b.export, b.import, b.bucket = here_only, here_only, here_only

  return b
end

return M
