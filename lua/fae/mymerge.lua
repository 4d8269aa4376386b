-- SPDX-License-Identifier: BSD-2-Clause
--
-- my.merge: a JSON object merged into a column of one row, while the row is locked. Nothing that a client says becomes
-- part of a statement but the names of table and columns, which are quoted; values are bound.
local core = require "fae.core"
local null = require("fae.types").null
local jsonmerge = require "fae.jsonmerge"
local my = require "fae.my"
local shard = require "fae.shard"
local sql = require "fae.sql"

local M = {}

local CONDITIONS_MAX = 16

local function bad(...) return nil, core.err("BAD_ARGS", (...):format(select(2, ...))) end

-- ---- the row ----

local function is_value(value)
  local kind = type(value)
  return kind == "string" or kind == "boolean" or kind == "cdata"
    or kind == "number" and value == value and value ~= math.huge and value ~= -math.huge
end

-- "`a` = ? AND `b` IS NULL" and the values of a map {column = value}; the same map gives the same text.
local function conditions(where)
  local names = {}
  for name in pairs(where) do
    if type(name) ~= "string" then return bad "where is a map of columns and what is in them" end
    names[#names + 1] = name
  end
  if #names == 0 then return bad "where is empty: which row?" end
  if #names > CONDITIONS_MAX then return bad("where has more than %d columns", CONDITIONS_MAX) end
  table.sort(names)
  local parts, list = {}, {}
  for i, name in ipairs(names) do
    local quoted, err = sql.quote_identifier(name)
    if not quoted then return nil, err end
    local value = where[name]
    if value == null then
      parts[i] = quoted .. " IS NULL"
    elseif is_value(value) then
      list[#list + 1] = value
      parts[i] = quoted .. " = ?"
    else
      return bad("where: %s is a %s, no value", name, type(value))
    end
  end
  return table.concat(parts, " AND "), list
end

-- ---- where, as fae's clients wrote it ----

local unescaped = { n = "\n", t = "\t", r = "\r", b = "\b", ["0"] = "\0", Z = "\26", ["%"] = "\\%",
  ["_"] = "\\_" }

-- The text of '...' at i, and what is behind it.
local function literal_text(text, i)
  local parts, from = {}, i + 1
  while true do
    local j = text:find("['\\]", from)
    if not j or j - i > 65536 then return nil end
    parts[#parts + 1] = text:sub(from, j - 1)
    local after = text:sub(j + 1, j + 1)
    if text:byte(j) == 39 then
      if after ~= "'" then return table.concat(parts), j + 1 end
      parts[#parts + 1] = "'"
    else
      parts[#parts + 1] = unescaped[after] or after
    end
    from = j + 2
  end
end

-- An integer of up to 64 bits exactly; nil: it is larger.
local function integer(text)
  local sign, digits = text:match "^(-?)0*(%d+)$"
  if not digits or #digits > 19 then return nil end
  if #digits <= 15 then return tonumber(text) end
  local n = 0LL
  for digit in digits:gmatch "%d" do
    local more = n * 10 - tonumber(digit) -- downwards: the lowest has no positive twin
    if more > n then return nil end
    n = more
  end
  if sign == "-" then return n end
  if n == -n then return nil end
  return -n
end

local function literal_number(text, i)
  local _, stop = text:find("^-?%d+", i)
  if not stop then return nil end
  local _, fraction = text:find("^%.%d+", stop + 1)
  local value
  if fraction then
    value, stop = text:sub(i, fraction), fraction -- decimal: as a text the server reads it exactly
  else
    value = integer(text:sub(i, stop))
  end
  if text:find("^[%w_.$\128-\255]", stop + 1) then return nil end
  return value, stop + 1
end

local function column(text, i)
  local _, stop, name = text:find("^([%a_\128-\255][%w_$\128-\255]*)", i)
  if name then return name, stop + 1 end
  _, stop, name = text:find("^`([^`]+)`", i)
  if name then return name, stop + 1 end
  return nil
end

local function blanks_end(text, i)
  local _, stop = text:find("^%s*", i)
  return stop + 1
end

--- parse_where(text) -> {column = value} | nil, err. `col = literal AND col = literal ...`, a literal a number or a
-- text in single quotes; BAD_ARGS for anything else, whatever it would mean to a server.
function M.parse_where(text)
  local function no() return bad "where is COLUMN = VALUE, with AND between several, and nothing else" end
  if #text > 65536 then return no() end
  local where, i = {}, blanks_end(text, 1)
  while true do
    local name, value
    name, i = column(text, i)
    if not name or where[name] ~= nil then return no() end
    i = blanks_end(text, i)
    if text:byte(i) ~= 61 then return no() end
    i = blanks_end(text, i + 1)
    if text:byte(i) == 39 then value, i = literal_text(text, i) else value, i = literal_number(text, i) end
    if value == nil then return no() end
    where[name] = value
    local after = blanks_end(text, i)
    if after > #text then return where end
    if after == i or not text:find("^[aA][nN][dD]%s", after) then return no() end
    i = blanks_end(text, after + 3)
  end
end

-- ---- the pool ----

-- Where a byte of ASCII may be half a character: of a quoted name's closing `, of a backslash or quote in JSON.
local halves = { big5 = true, cp932 = true, gb18030 = true, gbk = true, sjis = true }

local charsets -- of pools by name, read when they are first needed

local function check_charset(pool)
  if not charsets then
    charsets = {}
    for _, row in ipairs(core.section "mysql") do charsets[row.name] = row.charset end
  end
  local charset = (charsets[pool] or ""):lower()
  if not halves[charset] then return true end
  return bad("my.merge needs a pool whose charset is utf8mb4, or another that has ASCII as it is: that of %s is %s",
    pool, charset)
end

-- ---- the merge ----

local NO_ROW = "Svt: row not found"

-- What is cut, or written as something else: where the server is strict it refuses that by itself.
local cut = { [1264] = true, [1265] = true, [1366] = true, [1406] = true }

-- Was the text written as it is?
local function check_whole(conn, q, names, done)
  if not done.warnings then return true end
  local warned, err = my.conn_ask(conn, q.pool, names.where, "SHOW WARNINGS", {}, 0)
  if not warned then return nil, err end
  if tonumber(done.warnings) > #warned.rows then -- max_error_count
    return nil, core.err("BACKEND", "the server has more warnings than it tells of: the text may be cut")
  end
  for _, row in ipairs(warned.rows) do
    if cut[tonumber(row[2])] then
      return nil, core.err("BACKEND", ("the column cannot hold the merged text: %s"):format(row[3]))
    end
  end
  return true
end

-- In a transaction: {text} once the row is written.
local function run(conn, q, names, text, list, n)
  local select_sql = ("SELECT %s FROM %s WHERE %s LIMIT 2 FOR UPDATE"):format(names.column, names.table, text)
  local update_sql = ("UPDATE %s SET %s = ? WHERE %s"):format(names.table, names.column, text)
  local found, err = my.conn_ask(conn, q.pool, names.where, select_sql, list, n)
  if not found then return nil, err end
  if #found.rows ~= 1 then
    return nil, core.err("NOT_FOUND", #found.rows == 0 and NO_ROW or NO_ROW .. ": there are several")
  end
  local old = found.rows[1][1]
  if old == null or old == nil then old = "{}" end
  if type(old) ~= "string" then return nil, core.err("BACKEND", "what is stored is no JSON object") end
  local merged
  merged, err = jsonmerge.merge(old, q.json)
  if not merged then return nil, err end
  local values = { merged }
  for i = 1, n do values[i + 1] = list[i] end
  local done
  done, err = my.conn_ask(conn, q.pool, names.where, update_sql, values, n + 1)
  if not done then return nil, err end
  if (tonumber(done.affected) or 0) > 1 then
    return nil, core.err("NOT_FOUND", NO_ROW .. ": there are several by now")
  end
  local whole
  whole, err = check_whole(conn, q, names, done)
  if not whole then return nil, err end
  return { text = merged }
end

--- merge{pool, table, hint, where, column, json, cache_key} -> the merged text | nil, err. where: {column = value}, all
-- of which hold for exactly one row. A column that is NULL counts as {}. NOT_FOUND: no such row, or several; BACKEND:
-- what is stored is no JSON object, or what the server says (1213, a deadlock: try again).
function M.merge(q)
  local names = {}
  local ok, err = jsonmerge.check(q.json)
  if not ok then return nil, err end
  names.table, err = sql.quote_identifier(q.table)
  if not names.table then return nil, err end
  names.column, err = sql.quote_identifier(q.column)
  if not names.column then return nil, err end
  local text, list = conditions(q.where)
  if not text then return nil, list end
  names.where, err = shard.pick(q.pool, q.hint)
  if not names.where then return nil, err end
  ok, err = check_charset(names.where)
  if not ok then return nil, err end
  local keys = my.has_key(q.cache_key) and { { cache_key = q.cache_key, table = q.table } } or {}
  local result
  result, err = my.with_writes(keys, my.transaction, names.where, run, q, names, text, list, #list)
  if not result then
    shard.failed(q.pool, q.hint, err)
    return nil, err
  end
  return result.text
end

return M
