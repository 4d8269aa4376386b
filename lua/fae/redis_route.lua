-- SPDX-License-Identifier: BSD-2-Clause
--
-- Which server of a pool a command goes to, and how one goes to several at once. `own` is what fae.redis keeps of a
-- pool: its name, its handle h in C, and `at`, the server from 0 that pool:server(i) is bound to.
local core = require "fae.core"
local commands = require "fae.redis_commands"

local M = {}

local FAILED_KEYS_MAX = 100 -- that an err names
local redis_batch, redis_pick = core.redis_batch, core.redis_pick

function M.bad(text, ...) return nil, core.err("BAD_ARGS", select("#", ...) > 0 and text:format(...) or text) end
local bad = M.bad

--- is_err(reply): an error among the replies of a batch
function M.is_err(reply) return type(reply) == "table" and type(rawget(reply, "code")) == "string" end

--- is_sound(err): an error that the server answered, or one of ours before anything was sent, leaves its connection as
-- it was
function M.is_sound(err)
  return not err or err.code == "BAD_ARGS" or (type(err.detail) == "table" and err.detail.error ~= nil)
end

--- servers(own) -> how many a command of this object may go to | nil, err
function M.servers(own)
  if own.at then return 1 end
  return core.redis_servers(own.h)
end

--- bound(own) -> the server of pool:server(i) | nil, err: the pool has none of that number (any more)
function M.bound(own)
  local n, err = core.redis_servers(own.h)
  if not n then return nil, err end
  if own.at < n then return own.at end
  return bad('pool "%s" has no server %d, but %d', own.name, own.at + 1, n)
end

--- key_text(key) -> the text that C makes of it | nil: that is no key
function M.key_text(key)
  local kind = type(key)
  if kind == "string" then return key end
  if kind == "number" and key == key and math.abs(key) < math.huge then
    return ((key % 1 == 0 and math.abs(key) < 1e21) and "%.0f" or "%.17g"):format(key == 0 and 0 or key)
  end
  if kind == "cdata" then return tostring(key):match "^-?%d+" end
end

--- pick(own, key, what) -> server | nil, err
function M.pick(own, key, what)
  if own.at then return M.bound(own) end
  local text = M.key_text(key)
  if not text then return bad("%s: a key is a string, not %s", what, key == nil and "nil" or "a " .. type(key)) end
  return redis_pick(own.h, text)
end

-- The one server of these keys.
local function pick_all(own, keys, what)
  if #keys == 0 then return bad("%s takes a key", what) end
  local at, err = M.pick(own, keys[1], what)
  if not at then return nil, err end
  for i = 2, #keys do
    local other
    other, err = M.pick(own, keys[i], what)
    if not other then return nil, err end
    if other ~= at then
      return bad('%s: its keys lie on several servers of pool "%s": those with the same {...} lie on one', what,
        own.name)
    end
  end
  return at
end
M.pick_all = pick_all

--- place(own, row, args, n) -> the one server that the command goes to | nil, err | nil, nil: it goes to several, by
-- row.split or row.all
function M.place(own, row, args, n)
  local why = commands.refused(row, args[1])
  if why then return bad("%s is not sent here: %s", row.name, why) end
  if own.at then return M.bound(own) end
  local servers, err = core.redis_servers(own.h)
  if not servers then return nil, err end
  if servers == 1 then return 0 end
  local keys
  keys, err = commands.keys(row, args, n)
  if not keys then return bad("%s: %s", row.name, err) end
  if #keys == 0 and commands.goes_to_all(row, args[1]) then return nil end
  if #keys == 0 then
    if row.single or row.count or row.word or row.first == 1 then return bad("%s takes a key", row.name) end
    return bad('%s has no key, and pool "%s" has %d servers: pool:server(i), or pool "%s#1", is one of them', row.name,
      own.name, servers, own.name)
  end
  if not row.split then return pick_all(own, keys, row.name) end
  local at = pick_all(own, keys, row.name)
  if at then return at end
  return nil
end

--- wrong(own, name, reply) -> nil, err: no redis answers this command so
function M.wrong(own, name, reply)
  return nil, core.err("BACKEND", ("redis %s: the answer to %s was a %s, which is none"):format(own.name, name,
    reply == core.cjson.null and "nil" or type(reply)))
end

-- ---- several servers at once ----

local function run_part(own, part, flags)
  part.replies, part.err = redis_batch(own.h, part.at, flags, part.cmds)
end

--- run(own, parts, flags) -> true | nil, err. Sends each part's cmds to its server, side by side, and leaves its
-- replies or err in it.
function M.run(own, parts, flags)
  if #parts == 1 then
    run_part(own, parts[1], flags)
    return true
  end
  local ok, err = core.join() -- may one wait here?
  if not ok then return nil, err end
  for i = 1, #parts do core.start(run_part, own, parts[i], flags) end
  return core.join()
end

-- ---- commands that are split by their keys ----

local function part_of(parts, by_server, at, name)
  local part = by_server[at]
  if not part then
    part = { at = at, cmds = { { name } }, places = {} }
    by_server[at] = part
    parts[#parts + 1] = part
  end
  return part
end

-- Each server's share: cmds, and places: which keys, counted from 1, are in it.
local function shares(own, row, args, n)
  local parts, by_server, step = {}, {}, row.step
  for i = row.first, n, step do
    local at, err = M.pick(own, args[i], row.name)
    if not at then return nil, err end
    local part = part_of(parts, by_server, at, row.name)
    local cmd = part.cmds[1]
    for j = i, i + step - 1 do cmd[#cmd + 1] = args[j] end
    part.places[#part.places + 1] = (i - row.first) / step + 1
  end
  return parts
end

-- The first; one that may have been done says more than one that was not.
local function first_failure(parts)
  local first
  for _, part in ipairs(parts) do
    local err = part.err or M.is_err(part.replies[1]) and part.replies[1]
    if err and err.code == "UNKNOWN" then return err end
    first = first or err
  end
  return first
end

-- One part failed and others may not have: says what was done, so that whoever reads it can do the rest.
local function partly(row, args, parts, failure)
  local n_done, n_all, failed = 0, 0, {}
  for _, part in ipairs(parts) do
    local n = #part.places
    local ok = not part.err and not M.is_err(part.replies[1])
    n_all = n_all + n
    n_done = n_done + (ok and n or 0)
    for i = 1, ok and 0 or n do
      if #failed < FAILED_KEYS_MAX then failed[#failed + 1] = args[(part.places[i] - 1) * row.step + row.first] end
    end
  end
  if n_done == 0 or row.flags == commands.READ then return nil, failure end
  local err = core.err(failure.code, ("%s: %d of %d keys are done, the rest not: %s"):format(row.name, n_done, n_all,
    failure.message))
  err.retryable, err.retry_after_ms = false, failure.retry_after_ms -- again would do what is done twice
  err.detail = { done = n_done, failed = failed }
  return nil, err
end

local merge = {}
local merges = { values = "table", sum = "number", concat = "table" }

-- A server that lies must not make us raise.
local function merged(own, row, how, parts, n)
  for _, part in ipairs(parts) do
    local reply = part.replies[1]
    if merges[how] and type(reply) ~= merges[how] and not (how == "sum" and type(reply) == "cdata") then
      return M.wrong(own, row.name, reply)
    end
  end
  return merge[how](parts, n)
end

function merge.values(parts, n)
  local values = setmetatable({}, core.mark "array")
  for _, part in ipairs(parts) do
    for i, place in ipairs(part.places) do values[place] = part.replies[1][i] end
  end
  for i = 1, n do if values[i] == nil then values[i] = core.cjson.null end end
  return values
end

function merge.sum(parts)
  local sum = 0
  for _, part in ipairs(parts) do sum = sum + part.replies[1] end
  return sum
end

function merge.same(parts) return parts[1].replies[1] end

function merge.concat(parts)
  local all = setmetatable({}, core.mark "array")
  for _, part in ipairs(parts) do
    for _, value in ipairs(part.replies[1]) do all[#all + 1] = value end
  end
  return all
end

--- split(own, row, args, n) -> answer | nil, err. Each server gets its keys; the answers become one.
function M.split(own, row, args, n)
  if (n - row.first + 1) % row.step ~= 0 then return bad("%s takes a value with each key", row.name) end
  local parts, err = shares(own, row, args, n)
  if not parts then return nil, err end
  local ok
  ok, err = M.run(own, parts, row.flags)
  if not ok then return nil, err end
  local failure = first_failure(parts)
  if failure then return partly(row, args, parts, failure) end
  return merged(own, row, row.split, parts, (n - row.first + 1) / row.step)
end

--- all(own, row, args, n) -> answer | nil, err. Every server gets the command.
function M.all(own, row, args, n)
  local servers, err = core.redis_servers(own.h)
  if not servers then return nil, err end
  local parts = {}
  for i = 1, servers do
    local cmd = { row.name }
    for j = 1, n do cmd[j + 1] = args[j] end
    parts[i] = { at = i - 1, cmds = { cmd } }
  end
  local ok
  ok, err = M.run(own, parts, row.flags)
  if not ok then return nil, err end
  local failure, failed = first_failure(parts), {}
  if not failure then return merged(own, row, row.all, parts) end
  for _, part in ipairs(parts) do
    if part.err or M.is_err(part.replies[1]) then failed[#failed + 1] = core.redis_server_name(own.h, part.at) end
  end
  if #failed == servers or row.flags == commands.READ then return nil, failure end
  err = core.err(failure.code, ("%s: %d of %d servers have done it, the rest not: %s"):format(row.name,
    servers - #failed, servers, failure.message))
  err.retryable, err.retry_after_ms = false, failure.retry_after_ms -- again would do what is done twice
  err.detail = { done = servers - #failed, failed = failed }
  return nil, err
end

--- batch(own, at, flags, cmd) -> answer | nil, err. One command from a list, which may be long.
function M.batch(own, at, flags, cmd)
  local replies, err = redis_batch(own.h, at, flags, { cmd })
  if not replies then return nil, err end
  local reply = replies[1]
  if reply == core.cjson.null then return nil end
  if M.is_err(reply) then return nil, reply end
  return reply
end

return M
