-- SPDX-License-Identifier: BSD-2-Clause
--
-- kv: the node's own kv store, fae.kv; kv_fast, the same over the store that does not wait for the disk, when the
-- configuration has it.
local fae = require "fae"

-- What a client stored in one message may not fit another along with all else that a scan answers.
local function fitting(items, too_long)
  if too_long then items[1][2] = fae.null end
  return fae.array(items)
end

local function declare(name, kv)
  local servant = fae.servant(name)

  local function method(word, args, idempotent, doc, fn)
    local route = args[1] == "string" and 1 or nil
    servant.method(word, { args = args, route = route, idempotent = idempotent or nil, doc = doc }, fn)
  end

  method("get", { "string" }, true, "value of a key, or nil",
    function(_, key)
      local value, err = kv.get(key)
      if value == nil and err then return nil, err end
      return value
    end)
  method("gets", { "string" }, true, "[value, version] of a key, or nil; the version is for cas",
    function(_, key)
      local value, version = kv.get(key)
      if value == nil then return nil, version end
      return { value, version }
    end)
  method("get_many", { "array" }, true, "map of those of the keys that are there", function(_, keys)
    local found, err = kv.get_many(keys)
    if not found then return nil, err end
    return fae.map(found)
  end)
  method("set", { "string", "string", "map?" }, true, "stores a value; {ttl_ms = n} says for how long",
    function(_, key, value, options) return kv.set(key, value, options) end)
  method("add", { "string", "string", "map?" }, false, "stores a value where there is none: was it stored?",
    function(_, key, value, options) return kv.add(key, value, options) end)
  method("cas", { "string", "string", "int?", "map?" }, false,
    "stores a value if the version is still that of gets (nil, 0: if there is none): was it stored?",
    function(_, key, value, version, options) return kv.cas(key, value, version, options) end)
  method("incr", { "string", "int?", "map?" }, false, "adds to a number, which begins at 0: the number it is then",
    function(_, key, by, options) return kv.incr(key, by, options) end)
  method("del", { "string" }, true, "removes a key: was it there?", function(_, key) return kv.del(key) end)
  method("scan", { "string", "string?", "int?" }, true,
    "{items = [[key, value], ...], next} of a prefix that holds a whole {...}, in order, from a key on",
    function(_, prefix, from, limit)
      local items, next_from, too_long = kv.scan(prefix, from, limit)
      if not items then return nil, next_from end
      return { items = fitting(items, too_long), next = next_from }
    end)
  method("scan_all", { "string?", "int?" }, true, "{items = [[key, value], ...], cursor} of everything, in pieces",
    function(_, cursor, limit)
      local items, next_cursor, too_long = kv.scan_all(cursor, limit)
      if not items then return nil, next_cursor end
      return { items = fitting(items, too_long), cursor = next_cursor }
    end)
  method("count", {}, true, "number of records", function() return kv.count() end)
  method("export", { "int", "string?" }, true, "{chunk, cursor} of a bucket's records, in pieces, for import",
    function(_, bucket, cursor)
      local chunk, next_cursor = kv.export(bucket, cursor)
      if not chunk then return nil, next_cursor end
      return { chunk = fae.bin(chunk), cursor = next_cursor }
    end)
  method("import", { "int", "string", "boolean?" }, true,
    "puts a chunk of export into a pending bucket, or into any when the last argument is true: how many records",
    function(_, bucket, chunk, force) return kv.import(bucket, chunk, force) end)
  method("bucket", { "int", "string?", "int?" }, true,
    "{state, epoch, count} of a bucket; with a state and an epoch: sets them",
    function(_, bucket, state, epoch) return kv.bucket(bucket, state, epoch) end)
  return servant
end

local servant = declare("kv", fae.kv)

-- fae's old methods, which answer otherwise: what is not there is an empty value, and true.

servant.method("fae_get", { args = { "string" }, route = 1, idempotent = true, alias = "kvdb_get",
  doc = "as kv.get, but what is not there is empty" },
  function(_, key)
    local value, err = fae.kv.get(key)
    if value then return value end
    return not err and "" or nil, err
  end)

servant.method("fae_set", { args = { "string", "string" }, route = 1, idempotent = true, alias = "kvdb_set",
  doc = "as kv.set" },
  function(_, key, value) return fae.kv.set(key, value) end)

servant.method("fae_del", { args = { "string" }, route = 1, idempotent = true, alias = "kvdb_del",
  doc = "as kv.del, but true whatever was there" },
  function(_, key)
    local was, err = fae.kv.del(key)
    return was ~= nil or nil, err
  end)

if require("fae.kv_local").has_fast then declare("kv_fast", fae.kv.fast) end

return servant
