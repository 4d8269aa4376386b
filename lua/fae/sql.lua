-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a statement is, from its words alone: does it read or write, may its result be kept or come from a replica; and
-- its digest, the statement without its values. One pass from left to right, each byte looked at once or twice. Strings
-- are read as a server reads them whose sql_mode is the default one; what a stored function does nobody can tell here.
local core = require "fae.core"

local M = {}

local byte, find, sub, lower = string.byte, string.find, string.sub, string.lower

local NAME_MAX = 64 -- characters, as the server has it
local DIGEST_MAX, TOKENS_MAX, WORD_MAX = 1024, 512, 64
local KNOWN_MAX, KNOWN_BYTES = 1000, 4096 -- statements remembered by their text, and how long they may be
local DIGESTED_MAX = 32768 -- bytes of a statement that its digest tells of

-- ---- tokens ----

local END, WORD, NUMBER, STRING, QUOTED, VARIABLE, SYMBOL, EXECUTABLE = 0, 1, 2, 3, 4, 5, 6, 7

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

-- Behind blanks and comments from i on, or, nil when a comment begins there that the server runs.
local function skip(sql, i)
  while true do
    local c = byte(sql, i)
    if class[c] == BLANK then
      i = i + 1
    elseif c == 35 then
      i = line_end(sql, i)
    elseif c == 45 and byte(sql, i + 1) == 45 then
      local after = byte(sql, i + 2)
      if after and after > 32 then return i end -- a minus of a minus
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

-- The token at or behind i: its kind, where it begins, and where what follows it does.
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

-- ---- what it does ----

local function words(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

local reading = words "select values"
local writing = words "insert update delete replace create alter drop truncate rename"
local committing = words "create alter drop truncate rename grant revoke analyze optimize check repair flush"
-- Of the connection, which others have before and after.
local session = words([[set use begin start commit rollback savepoint release lock unlock prepare execute deallocate xa
  handler]])
-- Whose answer depends on the connection or changes something, so that it belongs to nobody else.
local stateful = words([[get_lock release_lock release_all_locks is_free_lock is_used_lock last_insert_id found_rows
  row_count nextval lastval setval sleep master_pos_wait master_gtid_wait load_file connection_id]])

local EXECUTABLE_TEXT = "a comment that the server runs (/*! ... */) is not sent: what it does cannot be told"

local function refuse(text) return nil, core.err("BAD_ARGS", text) end

-- Looks at a SELECT, whatever is before or inside it: sets what it may not be.
local function look(about, word, before, sql, stop)
  if word == "outfile" or word == "dumpfile" then
    if before == "into" then about.kind, about.cacheable, about.replica = "write", false, false end
  elseif word == "into" then
    about.cacheable, about.replica = false, false
    if about.kind == "read" then about.kind = "other" end
  elseif ((word == "update" or word == "share") and before == "for") or (word == "in" and before == "lock") then
    about.kind, about.cacheable, about.replica, about.locks = "other", false, false, true
  elseif (stateful[word] and byte(sql, skip(sql, stop) or stop) == 40)
    or (word == "value" and (before == "next" or before == "previous")) or word == "procedure" then
    about.cacheable, about.replica = false, false
  end
end

local function begins(about, verb)
  about.verb = verb
  about.commits = committing[verb] or false
  if verb == "select" or verb == "values" or verb == "table" then
    about.kind, about.cacheable, about.replica, about.looks = "read", true, true, true
  elseif verb == "with" then
    about.kind, about.cacheable, about.replica, about.looks, about.main = "read", true, true, true, true
  elseif verb == "show" or verb == "explain" or verb == "describe" or verb == "desc" then
    about.kind = "read"
  elseif writing[verb] then
    about.kind = "write"
  end
end

-- EXPLAIN ANALYZE runs what it explains, and so does MariaDB's ANALYZE.
local function second(about, verb, word)
  if word == "analyze" then about.runs = true end
  if verb == "analyze" and word ~= "table" and word ~= "local" and word ~= "no_write_to_binlog" then
    about.runs, about.kind, about.commits = true, "read", false
  end
end

-- The first word, behind parentheses, and where it ends; or nil, err.
local function first_word(sql)
  local i = 1
  while true do
    local kind, from, stop = token(sql, i)
    if kind == WORD then return lower(sub(sql, from, stop - 1)), stop end
    if kind == EXECUTABLE then return refuse(EXECUTABLE_TEXT) end
    if kind ~= SYMBOL or byte(sql, from) ~= 40 then return refuse "there is no statement in it" end
    i = stop
  end
end

local function on_word(about, sql, from, stop, before, depth)
  local word = stop - from <= 24 and lower(sub(sql, from, stop - 1)) or ""
  about.n_words = about.n_words + 1
  if about.n_words == 1 then second(about, about.verb, word) end
  if about.runs and (writing[word] or reading[word]) then
    about.kind, about.runs = writing[word] and "write" or about.kind, false
  end
  if about.main and depth == 0 and (writing[word] or word == "select") then
    about.main = false
    if writing[word] then about.kind, about.cacheable, about.replica = "write", false, false end
  end
  if about.looks then look(about, word, before, sql, stop) end
  return word
end

-- What may end a statement or hide its end; and the words of those that are looked at.
local breaks, breaks_and_words = "[;'\"`#/%-]", "[^%d%s,.]"

-- From behind the first word to the end.
local function classify_rest(about, sql, i)
  local depth, before, ended = 0, nil, false
  while true do
    local from = find(sql, (about.looks or about.n_words < 8) and breaks_and_words or breaks, i)
    if not from then break end
    local c = byte(sql, from)
    if class[c] == LETTER then
      i = word_end(sql, from)
      before = on_word(about, sql, from, i, before, depth)
    elseif in_quotes[c] then
      i, before = quoted_end(sql, from, c), nil
    elseif c == 59 then
      ended = ended or from
      i = from + 1
    else
      i = skip(sql, from)
      if not i then return refuse(EXECUTABLE_TEXT) end
      if i == from then i = from + 1 end
      if c == 40 then depth = depth + 1 elseif c == 41 then depth = depth - 1 end
      if c == 58 and byte(sql, from + 1) == 61 then about.cacheable, about.replica = false, false end -- @a := 1
    end
  end
  while ended do
    local kind, from, stop = token(sql, ended)
    if kind == END then break end
    if kind ~= SYMBOL or byte(sql, from) ~= 59 then return refuse "there are several statements: send one at a time" end
    ended = stop
  end
  return true
end

local function classify_into(about, sql)
  local verb, stop = first_word(sql)
  if not verb then return nil, stop end
  begins(about, verb)
  local ok, err = classify_rest(about, sql, stop)
  if not ok then return nil, err end
  if verb == "load" then return refuse "LOAD is refused: a node has no file to send" end
  if session[verb] then
    return refuse(verb:upper() .. " is refused: it changes the connection, which other calls have too; a transaction "
      .. "is my.bulk_exec with atomic, or transaction() of fae.mysql")
  end
  return about.kind, about
end

--- classify(sql) -> kind, about | nil, err. kind: "read" has rows and changes nothing; "write"; "other" is neither, for
-- sure. about: {kind, verb, cacheable, replica (may come from one), locks (SELECT ... FOR UPDATE), commits (by itself)}
-- BAD_ARGS: no statement, several, LOAD, a comment that would run, one that changes the connection (SET, BEGIN, ...)
function M.classify(sql)
  local about = { kind = "other", cacheable = false, replica = false, locks = false, commits = false, n_words = 0 }
  return classify_into(about, sql)
end

--- verb(sql) -> its first word, in lower case; nil: it has none, or a comment is before it that the server runs
function M.verb(sql) return (first_word(sql)) end

-- ---- digest ----

local values = words "null true false"
local kept = words "is not default" -- before NULL, where it is no value
local signed = words "select limit and or in like between then else when return set by where not mod div interval"

-- Takes the sign off a value that has one. out: the tokens so far, n of them; n then.
local function unsign(out, n)
  local sign, before = out[n], out[n - 1]
  if sign ~= "-" and sign ~= "+" then return n end
  if before == nil or signed[before] then return n - 1 end
  local c = class[byte(before)]
  if c == LETTER or before == ")" or before == "?" or before == "?, ..." or byte(before) == 96 then return n end
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

local function tokens_of(sql)
  local out, n, opens, depth, starts, i = {}, 0, {}, 0, {}, 1
  while n < TOKENS_MAX do
    local kind, from, stop = token(sql, i)
    if kind == END then return out, n, false end
    if kind == EXECUTABLE or from > DIGESTED_MAX then return out, n, true end
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

--- digest(sql) -> text of at most 1024 bytes: words in lower case, one blank between, each value a `?`, lists of values
-- and of equal groups shortened, no comments. `...` is what does not fit, what is behind 32 KiB, and what the server
-- would run of a comment.
function M.digest(sql)
  local digest = known[sql]
  if digest then return digest end
  digest = digest_of(sql)
  if #sql > KNOWN_BYTES then return digest end
  if n_known >= KNOWN_MAX then known, n_known = {}, 0 end
  known[sql] = digest
  n_known = n_known + 1
  return digest
end

-- ---- names ----

-- Characters of a text that is valid UTF-8; nil when it is not.
local function n_characters(text)
  local n, i = 0, 1
  while i <= #text do
    local c = byte(text, i)
    local more = c < 128 and 0 or c >= 0xc2 and c < 0xe0 and 1 or c >= 0xe0 and c < 0xf0 and 2 or nil -- no 4: utf8mb3
    if not more then return nil end
    for j = i + 1, i + more do
      local d = byte(text, j)
      if not d or d < 0x80 or d > 0xbf then return nil end
    end
    n, i = n + 1, i + more + 1
  end
  return n
end

--- quote_identifier(name) -> "`name`", whatever is in it | nil, err. BAD_ARGS: no server has a table or column of such
-- a name: empty, of more than 64 characters, a blank at its end, control characters, no UTF-8.
function M.quote_identifier(name)
  if type(name) ~= "string" then return refuse("a name is a string, not a " .. type(name)) end
  if name == "" then return refuse "a name is not empty" end
  local n = #name <= NAME_MAX * 3 and n_characters(name)
  if not n or n > NAME_MAX or find(name, "[%z\1-\31\127]") or find(name, " $") then
    return refuse(("a name is UTF-8 of at most %d characters, without control characters or a blank at its end")
      :format(NAME_MAX))
  end
  return "`" .. name:gsub("`", "``") .. "`"
end

return M
