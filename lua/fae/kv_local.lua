-- SPDX-License-Identifier: BSD-2-Clause
--
-- The kv backend that lies in the node (src/store/kv.h), and what only it has: its buckets, for moving them.
local core = require "fae.core"
local null = require("fae.types").null

local SET, DEL, ADD, CAS, INCR = 0, 1, 2, 3, 4
local _, _, _, BUCKETS = core.kv_limits()
local EPOCH_MAX = 2 ^ 53

local function bad(text) return nil, core.err("BAD_ARGS", text) end

local function check_bucket(bucket)
  if type(bucket) == "number" and bucket >= 0 and bucket < BUCKETS and bucket % 1 == 0 then return true end
  return bad(("a bucket is an integer, 0 to %d"):format(BUCKETS - 1))
end

local function backend(store)
  local write = core.kv_write
  local b = {
    get = function(key) return core.kv_get(store, key) end,
    get_many = function(keys) return core.kv_get_many(store, keys) end,
    set = function(key, value, ttl_ms) return write(store, SET, key, value, ttl_ms) end,
    del = function(key) return write(store, DEL, key) end,
    add = function(key, value, ttl_ms) return write(store, ADD, key, value, ttl_ms) end,
    cas = function(key, value, version, ttl_ms) return write(store, CAS, key, value, ttl_ms, version) end,
    incr = function(key, by, ttl_ms) return write(store, INCR, key, nil, ttl_ms, by) end,
    scan = function(prefix, from, limit) return core.kv_scan(store, prefix, from, limit) end,
    scan_all = function(cursor, limit) return core.kv_scan_all(store, cursor, limit) end,
    count = function() return core.kv_count(store) end,
  }

  --- kv.export(bucket[, cursor]) -> chunk, cursor | nil, err. A bucket's records in pieces of bounded size, for
  -- kv.import; the cursor is nil at the end. Freeze it first: what is written meanwhile may be left out.
  function b.export(bucket, cursor)
    local ok, err = check_bucket(bucket)
    if not ok then return nil, err end
    if cursor == null then cursor = nil end
    if cursor ~= nil and (type(cursor) ~= "string" or #cursor > core.kv_limits()) then
      return bad "a cursor is what export gave"
    end
    return core.kv_export(store, bucket, cursor)
  end

  --- kv.import(bucket, chunk[, force]) -> number of records | nil, err. All of the chunk or nothing; versions and times
  -- stay what they were. FROZEN: the bucket is not pending, and `force` is not true. Waits.
  function b.import(bucket, chunk, force)
    local ok, err = check_bucket(bucket)
    if not ok then return nil, err end
    if type(chunk) ~= "string" then error("kv.import takes a chunk, a string", 2) end
    return core.kv_import(store, bucket, chunk, force == true)
  end

  --- kv.bucket(bucket) -> {state, epoch, count} | nil, err;  kv.bucket(bucket, state, epoch) -> true | nil, err, which
  -- waits. state is "active", "replica", "pending", "dead" or "frozen". Writes to a frozen or pending bucket are
  -- answered FROZEN, to a replica or dead one UNAVAILABLE; reads look at no state.
  function b.bucket(bucket, state, epoch)
    local ok, err = check_bucket(bucket)
    if not ok then return nil, err end
    if state == nil then return core.kv_bucket(store, bucket) end
    if type(state) ~= "string" then return bad "a state is a word" end
    epoch = epoch == nil and 0 or epoch
    if type(epoch) ~= "number" or epoch < 0 or epoch > EPOCH_MAX or epoch % 1 ~= 0 then
      return bad "an epoch is an integer that is not negative"
    end
    return core.kv_bucket_set(store, bucket, state, epoch)
  end

  return b
end

return { durable = backend(0), fast = backend(1), has_fast = select(6, core.kv_limits()) }
