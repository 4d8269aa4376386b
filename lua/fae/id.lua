-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.id: numbers of 63 bits that nobody else gets, from this node or another with a node_id of its own, and that rise
-- with time. Ids are int64 values: exact on the wire, and compared by == and <; as keys of tables take tostring(id).
-- The two C functions never wait: store/idgen.h says what they do. They find no id when this millisecond's 4,096 are
-- all given, when the next second is not reserved on disk yet, and when the clock was set back.
local core = require "fae.core"

local M = {}

local ffi = require "fae.ffi"
local C, istype, int64, uint64 = ffi.C, ffi.istype, ffi.typeof "int64_t", ffi.typeof "uint64_t"
local n_got = ffi.new "uint32_t[1]"
local MANY_MAX = 100000
local EXACT_MAX = 2 ^ 53

local address, tag_max = core.id_stores() -- nil in a check before a reload
local stores = ffi.cast("void *", address)
local type = type

local function is_int64(v) return istype(int64, v) or istype(uint64, v) end

local function unavailable() return core.err("UNAVAILABLE", "there are no ids while servants are checked") end

-- nil when the tag may be taken.
local function tag_error(what, tag, level)
  if type(tag) ~= "number" and not is_int64(tag) then
    error(("%s takes a tag, a number, not a %s"):format(what, type(tag)), level)
  end
  if not address then return unavailable() end
  if tag_max == 0 then
    return core.err("BAD_ARGS", "Too big tag: the ids of this node's id_layout have none")
  end
  return core.err("BAD_ARGS", ("Too big tag: it is a whole number from 0 to %d"):format(tag_max))
end

local function tag_fits(tag)
  return address and type(tag) == "number" and tag >= 0 and tag <= tag_max and tag % 1 == 0
end

local function wait_for_next(tag)
  while true do
    local ok, err = core.id_wait()
    if not ok then return nil, err end
    local id = C.fae_ids_next(stores, tag)
    if id ~= 0 then return id end
  end
end

--- fae.id.next([tag]) -> id | nil, err. tag: 0 to 31, 0 without; the layout snowflake has none. May wait: for the next
-- millisecond, for the disk after a second without ids, for a clock that was set back by up to 5 s. CLOCK_BACK: it was
-- set back by more, or by more than the call has time; retry_after_ms tells. NO_SPACE, SYSTEM, TIMEOUT: the disk.
function M.next(tag)
  if tag == nil then tag = 0 end
  if not tag_fits(tag) then return nil, tag_error("fae.id.next", tag, 3) end
  local id = C.fae_ids_next(stores, tag)
  if id ~= 0 then return id end
  local waited, err = wait_for_next(tag) -- no tail call: this function is compiled, that one waits
  return waited, err
end

--- fae.id.next_many(n[, tag]) -> list of n ids that rise | nil, err. n: 1 to 100000. Waits as fae.id.next does, and
-- each 4,096 a millisecond. When it fails, the ids it had are lost, which does no harm.
function M.next_many(n, tag)
  if tag == nil then tag = 0 end
  if type(n) ~= "number" and not is_int64(n) then
    error(("fae.id.next_many takes a number, not a %s"):format(type(n)), 2)
  end
  if not tag_fits(tag) then return nil, tag_error("fae.id.next_many", tag, 3) end
  if type(n) ~= "number" or not (n >= 1 and n <= MANY_MAX) or n % 1 ~= 0 then
    return nil, core.err("BAD_ARGS", ("n is a whole number from 1 to %d"):format(MANY_MAX))
  end
  local ids, len = {}, 0
  while true do
    local first = C.fae_ids_next_run(stores, tag, n - len, n_got)
    if first ~= 0 then
      for i = 0, n_got[0] - 1 do ids[len + i + 1] = first + i end
      len = len + n_got[0]
    end
    if len == n then return ids end
    if first == 0 then
      local ok, err = core.id_wait()
      if not ok then return nil, err end
    end
  end
end

-- An id as a decimal string, or nil.
local function decimal(id)
  if type(id) == "number" then
    return id >= 0 and id < EXACT_MAX and id % 1 == 0 and ("%.0f"):format(id) or nil
  elseif is_int64(id) then
    return id >= 0 and tostring(id):match "^%d+" or nil
  elseif type(id) == "string" then
    return id:match "^%d+$"
  end
end

--- fae.id.decode(id) -> {ms, tag, node, seq} | nil, err. ms: since 1970; seq: which of its millisecond, from 0. id: an
-- int64 or uint64, a number below 2^53, or a string of decimal digits. BAD_ARGS: no id of the node's id_layout is that.
function M.decode(id)
  if not address then return nil, unavailable() end
  local text = decimal(id)
  local ms, tag, node, seq
  if text and #text <= 19 then ms, tag, node, seq = core.id_split(text) end
  if not ms then return nil, core.err("BAD_ARGS", "that is no id") end
  return { ms = ms, tag = tag, node = node, seq = seq }
end

return M
