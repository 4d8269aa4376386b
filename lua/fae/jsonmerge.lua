-- SPDX-License-Identifier: BSD-2-Clause
--
-- Merges one JSON object into another as texts: what is not touched stays byte by byte, so that numbers of any size,
-- escapes and the order of keys survive. Objects are merged key by key, however deep; anything else the new one
-- replaces. Nothing can be deleted.
local core = require "fae.core"

local M = {}

local byte, find, sub, char = string.byte, string.find, string.sub, string.char

local DEPTH_MAX = 64
local SIZE_MAX = 4 * 1048576

-- An object: keys[i], as it was written, has values[i], a text or an object; index[decoded key] = i.
local Object = {}

-- Raised by the parser, and caught by parse.
local function fail(i, text) error { json = ("%s at byte %d"):format(text, i) } end

local function blanks_end(text, i)
  local _, stop = find(text, "^[ \t\r\n]*", i)
  return stop + 1
end

local escapes = { [34] = true, [92] = true, [47] = true, [98] = true, [102] = true, [110] = true, [114] = true,
  [116] = true }

-- Behind the string that begins at i, and whether it has escapes.
local function string_end(text, i)
  local j, escaped = i + 1, false
  while true do
    j = find(text, '["\\%z\1-\31]', j)
    if not j then fail(i, "a string does not end") end
    local c = byte(text, j)
    if c == 34 then return j + 1, escaped end
    if c ~= 92 then fail(j, "a control character in a string") end
    escaped = true
    local after = byte(text, j + 1)
    if after == 117 then
      if not find(text, "^%x%x%x%x", j + 2) then fail(j, "a bad escape") end
      j = j + 6
    else
      if not escapes[after] then fail(j, "a bad escape") end
      j = j + 2
    end
  end
end

local function utf8(n)
  if n < 0x80 then return char(n) end
  if n < 0x800 then return char(0xc0 + math.floor(n / 64), 0x80 + n % 64) end
  if n < 0x10000 then return char(0xe0 + math.floor(n / 4096), 0x80 + math.floor(n / 64) % 64, 0x80 + n % 64) end
  return char(0xf0 + math.floor(n / 262144), 0x80 + math.floor(n / 4096) % 64, 0x80 + math.floor(n / 64) % 64,
    0x80 + n % 64)
end

local plain = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t", ['"'] = '"', ["\\"] = "\\", ["/"] = "/" }

-- What a string that was checked says: two keys are the same if this is.
local function decoded(raw)
  local parts, i = {}, 1
  while true do
    local j = find(raw, "\\", i, true)
    if not j then break end
    parts[#parts + 1] = sub(raw, i, j - 1)
    local c = sub(raw, j + 1, j + 1)
    if c == "u" then
      local n = tonumber(sub(raw, j + 2, j + 5), 16)
      i = j + 6
      local low = n >= 0xd800 and n < 0xdc00 and raw:match("^\\u(%x%x%x%x)", i)
      low = low and tonumber(low, 16)
      if low and low >= 0xdc00 and low < 0xe000 then
        n = 0x10000 + (n - 0xd800) * 1024 + low - 0xdc00
        i = i + 6
      end
      parts[#parts + 1] = utf8(n)
    else
      parts[#parts + 1] = plain[c]
      i = j + 2
    end
  end
  parts[#parts + 1] = sub(raw, i)
  return table.concat(parts)
end

local function digits_end(text, i)
  local _, stop = find(text, "^%d+", i)
  if not stop then fail(i, "a bad number") end
  return stop + 1
end

local function number_end(text, i)
  if byte(text, i) == 45 then i = i + 1 end
  i = byte(text, i) == 48 and i + 1 or digits_end(text, i)
  if byte(text, i) == 46 then i = digits_end(text, i + 1) end
  local c = byte(text, i)
  if c == 69 or c == 101 then
    c = byte(text, i + 1)
    i = digits_end(text, (c == 43 or c == 45) and i + 2 or i + 1)
  end
  return i
end

local value_end

-- An object from its { on, and where it ends.
local function object(text, i, depth)
  local o = setmetatable({ keys = {}, values = {}, index = {} }, Object)
  local n = 0
  i = blanks_end(text, i + 1)
  if byte(text, i) == 125 then return o, i + 1 end
  while true do
    if byte(text, i) ~= 34 then fail(i, "no key where one should be") end
    local stop, escaped = string_end(text, i)
    local raw = sub(text, i, stop - 1)
    local key = sub(raw, 2, -2)
    if escaped then key = decoded(key) end
    i = blanks_end(text, stop)
    if byte(text, i) ~= 58 then fail(i, "no colon behind a key") end
    local value
    value, i = value_end(text, blanks_end(text, i + 1), depth)
    local at = o.index[key]
    if not at then
      n = n + 1
      at = n
      o.index[key], o.keys[n] = n, raw
    end
    o.values[at] = value -- of two with the same key the last one counts
    i = blanks_end(text, i)
    local c = byte(text, i)
    if c == 125 then return o, i + 1 end
    if c ~= 44 then fail(i, "neither a comma nor a }") end
    i = blanks_end(text, i + 1)
  end
end

local function array_end(text, i, depth)
  i = blanks_end(text, i + 1)
  if byte(text, i) == 93 then return i + 1 end
  while true do
    local _
    _, i = value_end(text, i, depth)
    i = blanks_end(text, i)
    local c = byte(text, i)
    if c == 93 then return i + 1 end
    if c ~= 44 then fail(i, "neither a comma nor a ]") end
    i = blanks_end(text, i + 1)
  end
end

local words = { [116] = "true", [102] = "false", [110] = "null" }

-- The value at i, as its text or an object, and where it ends.
function value_end(text, i, depth)
  local c = byte(text, i)
  if c == 123 or c == 91 then
    if depth >= DEPTH_MAX then fail(i, ("more than %d levels"):format(DEPTH_MAX)) end
    if c == 123 then return object(text, i, depth + 1) end
  end
  local stop
  if c == 91 then
    stop = array_end(text, i, depth + 1)
  elseif c == 34 then
    stop = string_end(text, i)
  elseif c == 45 or (c and c >= 48 and c <= 57) then
    stop = number_end(text, i)
  else
    local word = words[c]
    if not word or sub(text, i, i + #word - 1) ~= word then fail(i, c and "no value" or "it ends too early") end
    stop = i + #word
  end
  return sub(text, i, stop - 1), stop
end

local function parse_whole(text)
  local i = blanks_end(text, 1)
  if byte(text, i) ~= 123 then fail(i, "no object") end
  local o, stop = object(text, i, 1)
  stop = blanks_end(text, stop)
  if stop <= #text then fail(stop, "more than one value") end
  return o
end

-- object | nil, why
local function parse(text)
  if #text > SIZE_MAX then return nil, ("it has more than %d bytes"):format(SIZE_MAX) end
  local ok, o = pcall(parse_whole, text)
  if ok then return o end
  if type(o) ~= "table" or not o.json then error(o, 0) end
  return nil, o.json
end

local function merge(old, new)
  for i, raw in ipairs(new.keys) do
    local value = new.values[i]
    local key = sub(raw, 2, -2)
    if find(raw, "\\", 1, true) then key = decoded(key) end
    local at = old.index[key]
    local was = at and old.values[at]
    if not at then
      at = #old.keys + 1
      old.keys[at], old.index[key] = raw, at
    end
    if getmetatable(was) == Object and getmetatable(value) == Object then
      merge(was, value)
    else
      old.values[at] = value
    end
  end
end

local function write(o, parts)
  parts[#parts + 1] = "{"
  for i, raw in ipairs(o.keys) do
    parts[#parts + 1] = i > 1 and "," .. raw or raw
    parts[#parts + 1] = ":"
    if getmetatable(o.values[i]) == Object then write(o.values[i], parts) else parts[#parts + 1] = o.values[i] end
  end
  parts[#parts + 1] = "}"
end

--- merge(old, new) -> text of old with new in it | nil, err. BACKEND: old, which was stored, is no JSON object;
-- BAD_ARGS: new is none. Up to 4 MiB and 64 levels each.
function M.merge(old, new)
  local into, why = parse(old)
  if not into then return nil, core.err("BACKEND", "what is stored is no JSON object: " .. why) end
  local from
  from, why = parse(new)
  if not from then return nil, core.err("BAD_ARGS", "what is to be merged is no JSON object: " .. why) end
  merge(into, from)
  local parts = {}
  write(into, parts)
  return table.concat(parts)
end

--- check(text) -> true | nil, err. BAD_ARGS: it is no JSON object, or not one that merge takes.
function M.check(text)
  local o, why = parse(text)
  if not o then return nil, core.err("BAD_ARGS", "what is to be merged is no JSON object: " .. why) end
  return true
end

return M
