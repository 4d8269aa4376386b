-- SPDX-License-Identifier: BSD-2-Clause
--
-- response_cache: answers the methods it is told of from memory, by method and arguments. Each worker has a cache of
-- its own. Name only methods that give everybody the same answer and change nothing.
--   plugin "response_cache" { methods = { "shop.prices" }, ttl_ms = 2000, entries = 10000 }
local fae = require "fae"
local plugin = fae.plugin "response_cache"

local is_cached = plugin.matcher(plugin.option("methods", "table"))
local ttl_us = plugin.option("ttl_ms", "number", 1000) * 1000
local entries_max = plugin.option("entries", "number", 10000)
local BYTES_MAX = 65536 -- of an answer; a longer one is not kept
local KEY_MAX = 1024

if ttl_us <= 0 or entries_max < 2 then error "ttl_ms is more than 0, and entries at least 2" end

-- Two tables take turns: when the young one is full the old one is thrown away, so neither is ever searched for what
-- to drop. An answer is kept as bytes: whoever gets it may change it.
local young, old, n_young = {}, {}, 0

local function find(key, now)
  local entry = young[key] or old[key]
  if entry and entry.until_us > now then return entry end
end

local function keep(key, entry)
  if n_young >= entries_max / 2 then young, old, n_young = {}, young, 0 end
  if not young[key] then n_young = n_young + 1 end
  young[key] = entry
end

plugin.on_call(function(call, ...)
  if not is_cached(call.method) then return end
  local args = fae.msgpack.encode(fae.array { ... })
  local key = args and #args <= KEY_MAX and call.method .. "\0" .. args
  if not key then return end
  local entry = find(key, fae.time.monotonic_us())
  if entry then return plugin.answer((fae.msgpack.decode(entry.bytes))) end
  call.response_cache = key
end)

plugin.on_reply(function(call, reply)
  local key = call.response_cache
  if not key or reply.value == nil then return end
  local bytes = fae.msgpack.encode(reply.value)
  if bytes and #bytes <= BYTES_MAX then
    keep(key, { bytes = bytes, until_us = fae.time.monotonic_us() + ttl_us })
  end
end)

return plugin
