-- SPDX-License-Identifier: BSD-2-Clause
--
-- Merges one JSON object into another as texts: what is not touched stays byte by byte, so that numbers of any size,
-- escapes and the order of keys survive. Objects are merged key by key, however deep; anything else the new one
-- replaces. Nothing can be deleted.
local core = require "fae.core"
local ffi = require "fae.ffi"

local M = {}

local byte, find, sub, char = string.byte, string.find, string.sub, string.char

local DEPTH_MAX = 64 -- FAE_DEPTH_MAX
local SIZE_MAX = 4 * 1048576
local WORK_MAX = 8 * SIZE_MAX -- bytes looked at: what lies in many objects is looked at in each of them
local OBJECT_BYTES = 256 -- for which an object counts besides its own
local TURN = 2000 -- keys, or escapes of one, that are looked at before others have their turn: some 10 ms

-- One level of an object: keys[i], as it was written, has values[i], a text, or an Object once one was merged into
-- it; index[decoded key] = i.
local Object = {}

local work = 0

-- Raised by the parser, and caught by merge.
local function fail(text) error { json = text } end

local steps = 0

-- After each step. May wait; raises when the task's time is over.
local function breathe()
  steps = steps + 1
  if steps < TURN then return end
  steps = 0
  local mine = work
  local ok, err = core.sleep(0)
  work = mine -- somebody else's merge may have been on
  if not ok then error { json = err.message, err = err } end
end

local function fail_at(i, text) fail(("%s at byte %d"):format(text, i)) end

-- Behind the value at i.
local function value_end(text, i, depth)
  local stop = ffi.C.fae_json_skip(text, #text, i - 1, depth)
  if stop >= 0 then return stop + 1 end
  if stop == -1 then fail(("more than %d levels"):format(DEPTH_MAX)) end
  return fail_at(-1 - stop, "no value")
end

local function blanks_end(text, i)
  local _, stop = find(text, "^[ \t\r\n]*", i)
  return stop + 1
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
    breathe()
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

-- An object from its { on, and where it ends.
local function object(text, i)
  local o = setmetatable({ keys = {}, values = {}, index = {} }, Object)
  local n = 0
  i = blanks_end(text, i + 1)
  if byte(text, i) == 125 then return o, i + 1 end
  while true do
    breathe()
    if byte(text, i) ~= 34 then fail_at(i, "no key where one should be") end
    local stop = value_end(text, i, 1)
    local raw = sub(text, i, stop - 1)
    local key = sub(raw, 2, -2)
    if find(key, "\\", 1, true) then key = decoded(key) end
    i = blanks_end(text, stop)
    if byte(text, i) ~= 58 then fail_at(i, "no colon behind a key") end
    i = blanks_end(text, i + 1)
    stop = value_end(text, i, 1)
    local at = o.index[key]
    if not at then
      n = n + 1
      at = n
      o.index[key], o.keys[n] = n, raw
    end
    o.values[at] = sub(text, i, stop - 1) -- of two with the same key the last one counts
    i = blanks_end(text, stop)
    local c = byte(text, i)
    if c == 125 then return o, i + 1 end
    if c ~= 44 then fail_at(i, "neither a comma nor a }") end
    i = blanks_end(text, i + 1)
  end
end

-- Where the object begins that the text is, all of which was looked at.
local function checked(text)
  if #text > SIZE_MAX then fail(("it has more than %d bytes"):format(SIZE_MAX)) end
  local i = blanks_end(text, 1)
  if byte(text, i) ~= 123 then fail_at(i, "no object") end
  local stop = blanks_end(text, value_end(text, i, 0))
  if stop <= #text then fail_at(stop, "more than one value") end
  return i
end

local function parse(text) return (object(text, checked(text))) end

-- What is inside a value, if that is an object; nil: it is none.
local function opened(value)
  if getmetatable(value) == Object then return value end
  if byte(value) ~= 123 then return nil end
  work = work + #value + OBJECT_BYTES
  if work > WORK_MAX then fail "it is too large for objects so deep inside each other" end
  return (object(value, 1))
end

local function merge(old, new)
  for i, raw in ipairs(new.keys) do
    breathe()
    local value = new.values[i]
    local key = sub(raw, 2, -2)
    if find(key, "\\", 1, true) then key = decoded(key) end
    local at = old.index[key]
    local into = at and byte(value) == 123 and opened(old.values[at])
    if not at then
      at = #old.keys + 1
      old.keys[at], old.index[key] = raw, at
    end
    if into then merge(into, opened(value)) end
    old.values[at] = into or value
  end
end

local function write(o, parts)
  local n = #parts + 1
  parts[n] = "{"
  for i, raw in ipairs(o.keys) do
    local value = o.values[i]
    breathe()
    parts[n + 1] = i > 1 and "," .. raw or raw
    parts[n + 2] = ":"
    n = n + 3
    parts[n] = value
    if type(value) ~= "string" then
      parts[n] = nil
      write(value, parts)
      n = #parts
    end
  end
  parts[n + 1] = "}"
end

local function merged(into, from)
  local parts = {}
  merge(into, from)
  write(into, parts)
  return table.concat(parts)
end

-- fn(...) | nil, why: it failed[, err: not for what the texts are]
local function caught(fn, ...)
  local ok, value = pcall(fn, ...)
  if ok then return value end
  if type(value) ~= "table" or not value.json then error(value, 0) end
  return nil, value.json, value.err
end

--- merge(old, new) -> text of old with new in it | nil, err. BACKEND: old, which was stored, is no JSON object;
-- BAD_ARGS: new is none. Up to 4 MiB and 64 levels each; LIMIT: they have too many objects in common. May wait.
function M.merge(old, new)
  local into, why, err = caught(parse, old)
  if not into then return nil, err or core.err("BACKEND", "what is stored is no JSON object: " .. why) end
  local from
  from, why, err = caught(parse, new)
  if not from then return nil, err or core.err("BAD_ARGS", "what is to be merged is no JSON object: " .. why) end
  work = 0
  local text
  text, why, err = caught(merged, into, from)
  if not text then return nil, err or core.err("LIMIT", "it is not merged: " .. why) end
  return text
end

--- check(text) -> true | nil, err. BAD_ARGS: it is no JSON object, or not one that merge takes.
function M.check(text)
  local i, why = caught(checked, text)
  if not i then return nil, core.err("BAD_ARGS", "what is to be merged is no JSON object: " .. why) end
  return true
end

return M
