-- SPDX-License-Identifier: BSD-2-Clause
--
-- A statement as tokens, from left to right. Strings are read as a server reads them whose sql_mode is the default one.
local M = {}

local byte, find = string.byte, string.find

-- Kinds of tokens.
local END, WORD, NUMBER, STRING, QUOTED, VARIABLE, SYMBOL, EXECUTABLE = 0, 1, 2, 3, 4, 5, 6, 7

-- Classes of bytes.
local BLANK, LETTER, DIGIT, OPERATOR = 1, 2, 3, 4
local class = {}
for c = 0, 255 do class[c] = 0 end
for c = 9, 13 do class[c] = BLANK end
class[32] = BLANK
for c = 128, 255 do class[c] = LETTER end
for _, range in ipairs { "az", "AZ", "__", "$$" } do
  for c = range:byte(1), range:byte(2) do class[c] = LETTER end
end
for c = 48, 57 do class[c] = DIGIT end
for c in ("<>=!|&:^"):gmatch "." do class[c:byte()] = OPERATOR end
setmetatable(class, { __index = function() return 0 end }) -- of nil, which is the end

local in_quotes = { [39] = "['\\]", [34] = '["\\]', [96] = "`" }

-- Behind the quoted text that begins at i; its quote is doubled inside it, or behind a backslash.
local function quoted_end(sql, i, quote)
  local stops, j = in_quotes[quote], i + 1
  while true do
    j = find(sql, stops, j)
    if not j then return #sql + 1 end
    if byte(sql, j) == quote then
      if byte(sql, j + 1) ~= quote then return j + 1 end
    end
    j = j + 2
  end
end

local function word_end(sql, i)
  local c = class[byte(sql, i)]
  while c == LETTER or c == DIGIT do
    i = i + 1
    c = class[byte(sql, i)]
  end
  return i
end

-- A number, and what begins as one: `1st` is a name, but nobody must see more of it than of a number.
local function number_end(sql, i)
  local hex = byte(sql, i) == 48 and (byte(sql, i + 1) == 120 or byte(sql, i + 1) == 98)
  while true do
    local c = byte(sql, i)
    if (c == 69 or c == 101) and not hex then
      local sign = byte(sql, i + 1)
      if (sign == 43 or sign == 45) and class[byte(sql, i + 2)] == DIGIT then i = i + 1 end
    elseif c ~= 46 and class[c] ~= LETTER and class[c] ~= DIGIT then
      return i
    end
    i = i + 1
  end
end

local function line_end(sql, i) return (find(sql, "\n", i, true) or #sql) + 1 end

--- skip(sql, i) -> behind blanks and comments from i on | nil: a comment begins there that the server runs
local function skip(sql, i)
  while true do
    local c = byte(sql, i)
    if class[c] == BLANK then
      i = i + 1
    elseif c == 35 then
      i = line_end(sql, i)
    elseif c == 45 and byte(sql, i + 1) == 45 then
      local after = byte(sql, i + 2)
      if after and after > 32 and after ~= 127 then return i end -- a minus of a minus; 127 is a control character
      i = line_end(sql, i)
    elseif c == 47 and byte(sql, i + 1) == 42 then
      local mark = byte(sql, i + 2)
      if mark == 33 or (mark == 77 and byte(sql, i + 3) == 33) then return nil end -- /*! and /*M!
      local _, stop = find(sql, "*/", i + 2, true)
      i = (stop or #sql) + 1
    else
      return i
    end
  end
end

--- token(sql, i) -> kind, from, stop: the token at or behind i, where it begins, and where what follows it does
local function token(sql, i)
  local from = skip(sql, i)
  if not from then return EXECUTABLE, i, i end
  local c = byte(sql, from)
  if not c then return END, from, from end
  local kind = class[c]
  if kind == LETTER then
    local stop = word_end(sql, from)
    local quote = byte(sql, stop)
    if quote == 39 and (stop == from + 1 or c == 95) then return STRING, from, quoted_end(sql, stop, 39) end -- x'41'
    return WORD, from, stop
  end
  if kind == DIGIT or (c == 46 and class[byte(sql, from + 1)] == DIGIT) then
    return NUMBER, from, number_end(sql, from)
  end
  if c == 39 or c == 34 then return STRING, from, quoted_end(sql, from, c) end
  if c == 96 then return QUOTED, from, quoted_end(sql, from, 96) end
  if c == 64 then
    local at = byte(sql, from + 1) == 64 and from + 2 or from + 1
    local stop = word_end(sql, at)
    if stop > at then return VARIABLE, from, stop end
    return SYMBOL, from, at
  end
  if kind == OPERATOR then
    local stop = from + 1
    while class[byte(sql, stop)] == OPERATOR do stop = stop + 1 end
    return SYMBOL, from, stop
  end
  if c == 45 and byte(sql, from + 1) == 62 then -- -> and ->>
    return SYMBOL, from, byte(sql, from + 2) == 62 and from + 3 or from + 2
  end
  return SYMBOL, from, from + 1
end

M.END, M.WORD, M.NUMBER, M.STRING, M.QUOTED, M.VARIABLE, M.SYMBOL, M.EXECUTABLE = END, WORD, NUMBER, STRING, QUOTED,
  VARIABLE, SYMBOL, EXECUTABLE
--- words(text) -> the set of its words, which blanks part
function M.words(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

M.LETTER, M.DIGIT, M.class, M.skip, M.token = LETTER, DIGIT, class, skip, token

return M
