-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae's old shapes of mysql's results, for servant my: {cols, rows, rowsAffected, lastInsertId}, every value a text,
-- NULL nil, which no text is.
local core = require "fae.core"
local null = require("fae.types").null

local M = {}

-- A number as the server would write it: the shortest decimal that is the same number.
local function number_text(value)
  if value % 1 == 0 and value > -2 ^ 63 and value < 2 ^ 64 then return ("%.0f"):format(value) end
  for digits = 15, 17 do
    local text = ("%." .. digits .. "g"):format(value)
    if tonumber(text) == value then return text end
  end
  return tostring(value)
end

local function text_of(value)
  local kind = type(value)
  if kind == "string" or value == null then return value end
  if kind == "number" then return number_text(value) end
  if kind == "cdata" then return tostring(value):match "^-?%d+" end
  if kind == "boolean" then return value and "1" or "0" end
  return tostring(value)
end

--- result(result) -> as fae's clients know it; what it is made of stays as it was
function M.result(result)
  local rows = {}
  for i, row in ipairs(result.rows) do
    local texts = {}
    for j = 1, #result.cols do texts[j] = row[j] == nil and null or text_of(row[j]) end
    rows[i] = texts
  end
  return { cols = result.cols, rows = rows, rowsAffected = result.affected, lastInsertId = result.insert_id }
end

local names = { "pools", "tables", "hintIds", "sqls", "argv", "cacheKeys" }
local keys = { "pool", "table", "hint", "sql", "args", "cache_key" }
local kinds = { pool = "string", table = "string", sql = "string", args = "table", cache_key = "string" }

--- statements(pools, tables, hintIds, sqls, argv, cacheKeys) -> list of what my.bulk_exec takes | nil, err
function M.statements(...)
  local lists, list, same, lengths = { ... }, {}, true, {}
  for i, name in ipairs(names) do
    same = same and #lists[i] == #lists[1]
    lengths[i] = ("%s %d"):format(name, #lists[i])
  end
  if not same then
    return nil, core.err("BAD_ARGS", "the lists are not equally long: " .. table.concat(lengths, ", "))
  end
  for i = 1, #lists[1] do
    list[i] = {}
    for j, key in ipairs(keys) do
      local value = lists[j][i]
      if value == null then value = nil end
      if kinds[key] and type(value) ~= kinds[key] and not (value == nil and (key == "args" or key == "cache_key")) then
        return nil, core.err("BAD_ARGS", ("%s[%d] is a %s, not a %s"):format(names[j], i, type(value), kinds[key]))
      end
      list[i][key] = value
    end
  end
  return list
end

return M
