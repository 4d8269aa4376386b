-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a statement is, from its words alone: does it read or write, may its result be kept or come from a replica, does
-- it mean the connection that it runs on. One pass over its bytes. Strings are read as a server reads them whose
-- sql_mode is the default one and whose character set has every ASCII byte for itself; from where another server may
-- read differently (doubt) whatever is there is also taken for words, and the worse holds. What a stored function does
-- nobody can tell here.
local core = require "fae.core"
local tokens = require "fae.sqltokens"

local M = {}

local byte, find, sub, lower = string.byte, string.find, string.sub, string.lower
local band, bor, lshift, rshift = bit.band, bit.bor, bit.lshift, bit.rshift
local skip, token, words = tokens.skip, tokens.token, tokens.words

local NAME_MAX = 64 -- characters, as the server has it
local KNOWN_MAX, KNOWN_BYTES = 1000, 4096 -- statements remembered by their text, and how long they may be
local KEYWORD_MAX = 24 -- bytes of the longest word that means anything here

local reading = words "select values table with"
local writing = words "insert update delete replace create alter drop truncate rename"
local committing = words "create alter drop truncate rename grant revoke analyze optimize check repair flush"
local explaining = words "explain describe desc"
-- Those in which functions and variables mean what they say; in others they may be part of a definition.
local asking = words [[select values table with insert replace update delete call do explain describe desc analyze]]
-- Of the connection, which others have before and after.
local session = words [[set use begin start commit rollback savepoint release lock unlock prepare execute deallocate xa
  handler get backup]]
-- Those of them that have another meaning too, by their next word.
local elsewhere = {
  set = words "global persist persist_only password statement default", execute = words "immediate",
  start = words "slave slaves replica replicas group_replication all", begin = words "not",
  xa = words "commit rollback recover",
}
-- Functions whose answer depends on the connection or changes something, so that it belongs to nobody else.
local stateful = words [[get_lock release_lock release_all_locks is_free_lock is_used_lock last_insert_id found_rows
  row_count nextval lastval setval sleep master_pos_wait master_gtid_wait load_file connection_id]]
-- Those that mean what the same connection did before or does after, and what to do instead.
local instead = {
  last_insert_id = "the result of what was inserted has it as insert_id", found_rows = "SELECT COUNT(*) asks for it",
  row_count = "the result of what was done has it as affected", get_lock = "fae.lock has locks",
  release_lock = "fae.lock has locks", release_all_locks = "fae.lock has locks", lastval = "NEXTVAL() gives it",
}
-- System variables that tell of the statement before.
local variables = words "last_insert_id identity insert_id warning_count error_count last_gtid"

-- For words that are looked at always: by their first byte, a bit for each length.
local lengths = {}
for c = 0, 255 do lengths[c] = 0 end
local function note(word)
  for _, c in ipairs { byte(word), byte(word:upper()) } do lengths[c] = bor(lengths[c], lshift(1, #word)) end
end
local others = words "outfile dumpfile into update share in value procedure lock export"
for _, set in ipairs { stateful, variables, others } do
  for word in pairs(set) do note(word) end
end

local EXECUTABLE_TEXT = "a comment that the server runs (/*! ... */) is not sent: what it does cannot be told"
local SEVERAL_TEXT = "there are several statements: send one at a time"
local NONE_TEXT = "there is no statement in it"
local TOGETHER = "what belongs together is my.bulk_exec with atomic, or transaction() of fae.mysql"

-- ---- what one word says ----

local function not_shared(about) about.cacheable, about.replica = false, false end

local function bind(about, what, hint)
  about.bound = about.bound or ("%s is refused: it means the connection, and each statement may have another; %s%s")
    :format(what, hint and hint .. "; " or "", TOGETHER)
end

-- Is there nothing between the parentheses that open at or behind i?
local function is_empty_call(sql, i)
  local open = skip(sql, i)
  if not open or byte(sql, open) ~= 40 then return false end
  local close = skip(sql, open + 1)
  return close ~= nil and byte(sql, close) == 41
end

-- Is the name at `from` that of a system variable? Behind @@, or @@session. with whatever comments between them.
local function is_variable(about, from)
  local at = about.at
  if not at then return false end
  return from == at + 2 or (about.dot or 0) > at and about.n_words - about.at_words <= 2
end

-- Is the function whose name begins at `from` one of a database, as mine.sleep()? mariadb_schema has the server's own.
local function is_of_database(sql, from)
  if byte(sql, from - 1) ~= 46 then return false end
  local before = lower(sub(sql, from > 16 and from - 16 or 1, from - 2))
  return find(before, "[%w_]$") and not find(before, "_schema$")
end

-- A name that a parenthesis follows, or an @@ precedes.
local function on_name(about, name, sql, from, stop)
  if about.bound and about.left == "id" then return end -- no worse can come
  if variables[name] and is_variable(about, from) then
    not_shared(about)
    about.left = "id"
    bind(about, "@@" .. name)
    return
  end
  if not stateful[name] or not about.cacheable and not instead[name] then return end
  if byte(sql, skip(sql, stop) or stop) ~= 40 or is_of_database(sql, from) then return end
  not_shared(about)
  if name == "last_insert_id" then
    if not is_empty_call(sql, stop) then return end
    about.left = "id"
  elseif instead[name] then
    about.left = about.left or "rest"
  end
  if instead[name] then bind(about, name:upper() .. "()", instead[name]) end
end

-- Looks at a SELECT, whatever is before or inside it: sets what it may not be.
local function look(about, word, before)
  if word == "outfile" or word == "dumpfile" then
    if before == "into" then
      about.kind = "write"
      not_shared(about)
    end
  elseif word == "into" then
    not_shared(about)
    if about.kind == "read" then about.kind = "other" end
  elseif ((word == "update" or word == "share") and before == "for") or (word == "in" and before == "lock") then
    about.kind, about.locks = "other", true
    not_shared(about)
  elseif (word == "value" and (before == "next" or before == "previous")) or word == "procedure" then
    not_shared(about)
    if before == "previous" then bind(about, "PREVIOUS VALUE", instead.lastval) end
  end
end

-- EXPLAIN ANALYZE runs what it explains, and so does MariaDB's ANALYZE.
local function second(about, word)
  local verb = about.verb
  if word == "analyze" and explaining[verb] then about.runs = true end
  if verb == "analyze" and word ~= "table" and word ~= "local" and word ~= "no_write_to_binlog" then
    about.runs, about.kind, about.commits = true, "read", false
  end
  if session[verb] and elsewhere[verb] and elsewhere[verb][word] then about.bound = nil end
end

-- What EXPLAIN ANALYZE runs.
local function on_run(about, word, from)
  about.runs = false
  if writing[word] then
    about.kind = "write"
  elseif word == "with" then
    about.looks, about.main = true, true
  else
    about.looks, about.decided = true, from
  end
end

-- One of the first words.
local function on_early(about, word, before)
  local n = about.n_words
  if n == 1 then second(about, word) end
  if about.verb == "create" and word == "table" then about.asks = true end -- ... AS SELECT
  if word == "temporary" and (about.verb == "create" or about.verb == "drop") and (n == 1 or before == "replace") then
    about.commits = false
    bind(about, about.verb:upper() .. " TEMPORARY")
  end
  if about.verb == "show" and (word == "warnings" or word == "errors" or word == "profile" or word == "profiles")
    and (n == 1 or n == 2 and before == "count") then
    about.left = "rest"
    bind(about, "SHOW " .. word:upper())
  end
end

local function on_word(about, sql, from, stop, before)
  local word = stop - from <= KEYWORD_MAX and lower(sub(sql, from, stop - 1)) or ""
  if about.n_words <= 3 then on_early(about, word, before) end
  if about.runs and (writing[word] or reading[word]) then on_run(about, word, from) end
  if about.main and about.depth == 0 and (writing[word] or word == "select") then
    about.main, about.decided = false, from
    if writing[word] then
      about.kind = "write"
      not_shared(about)
    end
  end
  if about.looks then look(about, word, before) end
  if about.verb == "flush" and (word == "lock" or word == "export") and (before == "read" or before == "for") then
    bind(about, "FLUSH TABLES with a lock")
  end
  if about.asks then on_name(about, word, sql, from, stop) end
end

-- ---- the pass ----

local LETTER, DIGIT, QUOTE, MARK, BEYOND = 1, 2, 3, 4, 5 -- what a byte begins; BEYOND is a letter that is not ASCII
local begins_with = {}
for c = 0, 255 do
  local class = tokens.class[c]
  begins_with[c] = class == tokens.LETTER and LETTER or class == tokens.DIGIT and DIGIT or 0
end
for c = 128, 255 do begins_with[c] = BEYOND end
for c in ("'\"`"):gmatch "." do begins_with[byte(c)] = QUOTE end
for c in (";:#-/@\\()."):gmatch "." do begins_with[byte(c)] = MARK end

-- Behind the quoted text that begins at i, and where it may end for other servers, or go on; or nil. A backslash means
-- nothing in names, with NO_BACKSLASH_ESCAPES, and as the second half of a character of GBK, Big5 or SJIS, as ` may be.
local function quoted_end(sql, i, quote)
  local doubt
  while true do
    i = i + 1
    local c = byte(sql, i)
    if c == quote then
      if quote == 96 and byte(sql, i - 1) >= 128 then doubt = doubt or i end
      if byte(sql, i + 1) ~= quote then return i + 1, doubt end
      i = i + 1
    elseif c == 92 and quote ~= 96 then
      i = i + 1
      c = byte(sql, i)
      if c == quote or c == 92 and byte(sql, i - 2) >= 128 then doubt = doubt or i end
    elseif not c then
      return i, doubt
    end
  end
end

-- Something between words, at i; where what follows it begins | nil: a comment that the server runs
local function on_mark(about, sql, i, c)
  if c == 40 then
    about.depth = about.depth + 1
  elseif c == 41 then
    about.depth = about.depth - 1
  elseif c == 59 then
    about.ended = about.ended or i
  elseif c == 58 then
    if byte(sql, i + 1) == 61 then -- @a := 1
      about.assigns = true
      not_shared(about)
    end
  elseif c == 64 then
    if byte(sql, i + 1) == 64 then
      about.at, about.at_words = i, about.n_words
      return i + 2
    end
    about.variable = about.variable or i
  elseif c == 46 then
    about.dot = i
  elseif c == 92 then
    return byte(sql, i + 1) == 78 and i + 2 or i + 1 -- \N is NULL, wherever it ends
  else
    local stop = skip(sql, i)
    return stop == i and i + 1 or stop
  end
  return i + 1
end

-- The quoted text at i is over at stop: a name that is called?
local function on_quoted(about, sql, i, stop, quote)
  if quote == 39 or stop - i > KEYWORD_MAX then return end
  on_name(about, lower(sub(sql, i + 1, stop - 2)), sql, i, stop)
end

-- From behind the first word to the end: where doubt begins, or nil | false: a comment that the server runs
local function pass(about, sql, i)
  local n, from_before, stop_before, doubt = #sql, 1, 1, nil
  while i <= n do
    local c = byte(sql, i)
    local begins = begins_with[c]
    if begins == LETTER or begins == BEYOND then
      local from = i
      if begins == BEYOND then doubt = doubt or i end
      if (c == 69 or c == 101) and begins_with[byte(sql, i + 1) or 0] == DIGIT
        and (begins_with[byte(sql, i - 1)] == DIGIT or byte(sql, i - 1) == 46) then
        repeat i = i + 1 until begins_with[byte(sql, i) or 0] ~= DIGIT -- of a number: 1e5into is 1e5 and into
      else
        repeat
          i = i + 1
          begins = begins_with[byte(sql, i) or 0]
          if begins == BEYOND then doubt = doubt or from end
        until begins ~= LETTER and begins ~= DIGIT and begins ~= BEYOND
        about.n_words = about.n_words + 1
        local len = i - from
        if about.n_words <= 3 or about.main or about.runs
          or len <= KEYWORD_MAX and band(rshift(lengths[c], len), 1) == 1 then
          on_word(about, sql, from, i, stop_before - from_before < KEYWORD_MAX
            and lower(sub(sql, from_before, stop_before - 1)) or "")
        end
        from_before, stop_before = from, i
      end
    elseif begins == QUOTE then
      local stop, doubtful = quoted_end(sql, i, c)
      doubt = doubt or doubtful
      if about.asks then on_quoted(about, sql, i, stop, c) end
      i, from_before, stop_before = stop, 1, 1
    elseif begins == MARK then
      i = on_mark(about, sql, i, c)
      if not i then return false end
    else
      i = i + 1
    end
  end
  return doubt
end

-- ---- doubt ----

local function is_in_word(c)
  local begins = begins_with[c or 0]
  return begins == LETTER or begins == DIGIT
end

local function has(text, word)
  local to = 0
  while true do
    local from
    from, to = find(text, word, to + 1, true)
    if not from then return false end
    if not is_in_word(byte(text, from - 1)) and not is_in_word(byte(text, to + 1)) then return true end
  end
end

local function has_one(text, set)
  for word in pairs(set) do
    if has(text, word) then return true end
  end
  return false
end

local files, locking = words "outfile dumpfile", words "update share"

-- Of a statement that reads, as far as all servers agree: what may one make of the rest?
local function suspect(about, rest, at)
  local was = about.kind
  local may_write = about.verb ~= "with" and not about.looks or about.main or (about.decided or 0) > at
  if has_one(rest, files) or may_write and has_one(rest, writing) then
    about.kind = "write"
    not_shared(about)
  elseif has_one(rest, locking) then
    about.kind, about.locks = "other", true
    not_shared(about)
  elseif find(rest, "@", 1, true) or find(rest, ":=", 1, true) or has_one(rest, stateful) or has(rest, "procedure")
    or has(rest, "value") and (has(rest, "next") or has(rest, "previous")) then
    not_shared(about)
  end
  about.doubtful = about.kind ~= was
  return not find(rest, "/*!", 1, true) and not find(rest, "/*m!", 1, true)
end

-- ---- all of it ----

local function begins(about, verb)
  about.verb = verb
  about.commits = committing[verb] or false
  about.asks = asking[verb] or false
  if verb == "select" or verb == "values" or verb == "table" then
    about.kind, about.cacheable, about.replica, about.looks = "read", true, true, true
  elseif verb == "with" then
    about.kind, about.cacheable, about.replica, about.looks, about.main = "read", true, true, true, true
  elseif verb == "show" or explaining[verb] then
    about.kind = "read"
  elseif writing[verb] then
    about.kind = "write"
  elseif session[verb] then
    about.session = verb:upper() .. " is refused: it changes the connection, which other calls have too; a transaction "
      .. "is my.bulk_exec with atomic, or transaction() of fae.mysql"
    about.bound = about.session
  end
end

-- The first word, behind parentheses, and where it ends; or nil, why not.
local function first_word(sql)
  local i = 1
  while true do
    local kind, from, stop = token(sql, i)
    if kind == tokens.WORD then
      local word = sub(sql, from, stop - 1)
      if find(word, "[\128-\255]") then return nil, NONE_TEXT end
      return lower(word), stop
    end
    if kind == tokens.EXECUTABLE then return nil, EXECUTABLE_TEXT end
    if kind ~= tokens.SYMBOL or byte(sql, from) ~= 40 then return nil, NONE_TEXT end
    i = stop
  end
end

-- Is there more behind the semicolon at i?
local function goes_on(sql, i)
  while true do
    local kind, from, stop = token(sql, i)
    if kind == tokens.END then return false end
    if kind ~= tokens.SYMBOL or byte(sql, from) ~= 59 then return true end
    i = stop
  end
end

-- Fills about; why it is refused, or nil.
local function classify_into(about, sql)
  local verb, stop = first_word(sql)
  if not verb then return stop end
  begins(about, verb)
  local doubt = pass(about, sql, stop)
  if doubt == false then return EXECUTABLE_TEXT end
  if about.ended and goes_on(sql, about.ended) then return SEVERAL_TEXT end
  if about.variable and about.asks and not about.assigns and verb ~= "call" then
    bind(about, ("A variable that it does not set (@%s)"):format(sql:match("^[%w_$.]*", about.variable + 1)))
  end
  if verb == "load" then return "LOAD is refused: a node has no file to send" end
  if not doubt or about.kind == "write" or suspect(about, lower(sub(sql, doubt)), doubt) then return nil end
  return EXECUTABLE_TEXT
end

local known, n_known = {}, 0

--- about(sql) -> {kind, verb, cacheable, replica, locks, commits, bound, session, left, refused}. kind: "read" has rows
-- and changes nothing; "write"; "other" is neither, for sure. replica: it may come from one. locks: SELECT ... FOR
-- UPDATE. commits: by itself. bound: why it makes no sense on a connection that others have before and after, or nil;
-- session: the same, of SET, BEGIN and the like. left: it asks what was done before on the connection, "id" for
-- LAST_INSERT_ID(), else "rest". doubtful: kind is the worst that a server may read in it. refused: why nobody can tell
-- what it is, or it is never sent for a client: no statement, several, LOAD, a comment that would run.
function M.about(sql)
  local about = known[sql]
  if about then return about end
  about = { kind = "other", cacheable = false, replica = false, locks = false, commits = false, n_words = 0, depth = 0 }
  about.refused = classify_into(about, sql)
  if #sql > KNOWN_BYTES then return about end
  if n_known >= KNOWN_MAX then known, n_known = {}, 0 end
  known[sql] = about
  n_known = n_known + 1
  return about
end

local function refuse(text) return nil, core.err("BAD_ARGS", text) end

--- classify(sql) -> kind, about | nil, err. BAD_ARGS: it is refused, or changes the connection (SET, BEGIN, ...)
function M.classify(sql)
  local about = M.about(sql)
  local why = about.refused or about.session
  if why then return refuse(why) end
  return about.kind, about
end

--- verb(sql) -> its first word, in lower case; nil: it has none, or a comment is before it that the server runs
function M.verb(sql) return (first_word(sql)) end

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
