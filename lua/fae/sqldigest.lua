-- SPDX-License-Identifier: BSD-2-Clause
--
-- The digest of a statement: its words without its values, by which statements are counted and shown.
local tokens = require "fae.sqltokens"

local M = {}

local byte, sub, lower = string.byte, string.sub, string.lower

local DIGEST_MAX, TOKENS_MAX, WORD_MAX = 1024, 512, 64
local KNOWN_MAX, KNOWN_BYTES = 1000, 4096 -- statements remembered by their text, and how long they may be
local DIGESTED_MAX = 32768 -- bytes of a statement that its digest tells of
local END, WORD, QUOTED, VARIABLE, SYMBOL = tokens.END, tokens.WORD, tokens.QUOTED, tokens.VARIABLE, tokens.SYMBOL
local EXECUTABLE, LETTER, class, token = tokens.EXECUTABLE, tokens.LETTER, tokens.class, tokens.token
local words = tokens.words

local values = words "null true false"
local kept = words "is not default" -- before NULL, where it is no value
local signed = words "select limit and or in like between then else when return set by where not mod div interval"

-- Takes the sign off a value that has one. out: the tokens so far, n of them; n then.
local function unsign(out, n)
  local sign, before = out[n], out[n - 1]
  if sign ~= "-" and sign ~= "+" then return n end
  if before == nil or signed[before] then return n - 1 end
  local c = byte(before)
  if class[c] == LETTER or before == ")" or before == "?" or before == "?, ..." or c == 96 or c == 64 then return n end
  return n - 1
end

-- Adds a value: a list of them is one.
local function add_value(out, n)
  n = unsign(out, n)
  if out[n] == "," and (out[n - 1] == "?" or out[n - 1] == "?, ...") then
    out[n - 1] = "?, ..."
    return n - 1
  end
  out[n + 1] = "?"
  return n + 1
end

-- The group from `open` to n says the same as the one before it: then it goes, and the comma.
local function fold_group(out, n, open, starts)
  if out[open - 1] ~= "," then return n end
  local again = out[open - 2] == ", ..."
  local stop = again and open - 3 or open - 2
  local start = starts[stop]
  if not start or stop - start ~= n - open then return n end
  for i = 0, n - open do
    if out[start + i] ~= out[open + i] then return n end
  end
  if again then return open - 2 end
  out[open - 1] = ", ..."
  return open - 1
end

-- Of a list of groups that ends somewhere inside one: how many tokens are left without that one.
local function whole_groups(out, n, open, starts)
  if open and out[open - 1] == "," and (starts[open - 2] or out[open - 2] == ", ...") then n = open - 1 end
  if out[n] == "," and (starts[n - 1] or out[n - 1] == ", ...") then n = n - 1 end
  return n
end

local function tokens_of(sql)
  local out, n, opens, depth, starts, i = {}, 0, {}, 0, {}, 1
  local cut = #sql > DIGESTED_MAX
  if cut then sql = sub(sql, 1, DIGESTED_MAX) end
  while n < TOKENS_MAX do
    local kind, from, stop = token(sql, i)
    if kind == END then return out, cut and whole_groups(out, n, depth > 0 and opens[1], starts) or n, cut end
    if kind == EXECUTABLE then return out, n, true end
    local text
    if kind == WORD or kind == VARIABLE or kind == SYMBOL then
      text = lower(sub(sql, from, stop - from > WORD_MAX and from + WORD_MAX - 1 or stop - 1))
    elseif kind == QUOTED then
      text = sub(sql, from, stop - from > WORD_MAX and from + WORD_MAX - 1 or stop - 1)
    end
    if not text or text == "?" or (values[text] and not kept[out[n] or ""]) then
      n = add_value(out, n)
    elseif text == ")" then
      n = n + 1
      out[n] = text
      if depth > 0 then
        local open = opens[depth]
        depth = depth - 1
        starts[n] = open
        n = fold_group(out, n, open, starts)
      end
    elseif text ~= ";" then
      n = n + 1
      out[n], starts[n] = text, nil
      if text == "(" then
        depth = depth + 1
        opens[depth] = n
      end
    end
    i = stop
  end
  return out, n, true
end

local no_blank_before = { [","] = true, [")"] = true, ["."] = true, ["("] = true, [", ..."] = true }
local no_blank_after = { ["("] = true, ["."] = true }

local function digest_of(sql)
  local out, n, cut = tokens_of(sql)
  local parts, size, last = {}, 0, nil
  for i = 1, n do
    local text = out[i]
    local blank = last and not no_blank_before[text] and not no_blank_after[last]
    if text == "(" and last and class[byte(last)] ~= LETTER then blank = not no_blank_after[last] end
    size = size + #text + (blank and 1 or 0)
    if size > DIGEST_MAX - 4 then
      cut = true
      break
    end
    parts[#parts + 1] = blank and " " .. text or text
    last = text
  end
  if cut then parts[#parts + 1] = #parts > 0 and " ..." or "..." end
  return table.concat(parts)
end

local known, n_known = {}, 0 -- digests by statement: the same few come again and again

--- of(sql) -> text of at most 1024 bytes: words in lower case, one blank between, each value a `?`, lists of values
-- and of equal groups shortened, no comments. `...` is what does not fit, what is behind 32 KiB, and what the server
-- would run of a comment.
function M.of(sql)
  local digest = known[sql]
  if digest then return digest end
  digest = digest_of(sql)
  if #sql > KNOWN_BYTES then return digest end
  if n_known >= KNOWN_MAX then known, n_known = {}, 0 end
  known[sql] = digest
  n_known = n_known + 1
  return digest
end

return M
