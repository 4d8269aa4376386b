-- SPDX-License-Identifier: BSD-2-Clause
--
-- Values that plain Lua cannot tell apart on the wire.
local core = require "fae.core"

local map, array, bin, ext = core.mark "map", core.mark "array", core.mark "bin", core.mark "ext"

local M = {}

--- fae.null: nil inside arrays and maps, both ways.
M.null = core.cjson.null

-- Marks are protected against setmetatable, and a table off the wire may have one already.
local function mark(what, t, with)
  if t == nil then return setmetatable({}, with) end
  if type(t) ~= "table" then error(("fae.%s takes a table, not a %s"):format(what, type(t)), 3) end
  if getmetatable(t) == nil then return setmetatable(t, with) end
  local now = debug.getmetatable(t)
  if now ~= map and now ~= array then error(("fae.%s: the table has a metatable already"):format(what), 3) end
  debug.setmetatable(t, with) -- which returns true, not t
  return t
end

--- fae.map(t) -> t, encoded as a map even when empty. Without an argument: a new one.
function M.map(t) return (mark("map", t, map)) end

--- fae.array(t) -> t, encoded as an array up to its highest index, holes as nil. Without an argument: a new one.
function M.array(t) return (mark("array", t, array)) end

--- fae.bin(s): encoded as bin even when s is UTF-8.
function M.bin(s)
  if type(s) ~= "string" then error("fae.bin takes a string", 2) end
  return setmetatable({ bytes = s }, bin)
end

--- fae.ext(type, data): a msgpack extension, type -128 to 127.
function M.ext(kind, data)
  if type(kind) ~= "number" or not (kind >= -128 and kind <= 127) or kind % 1 ~= 0 or type(data) ~= "string" then
    error("fae.ext takes an integer from -128 to 127 and a string", 2)
  end
  return setmetatable({ type = kind, data = data }, ext)
end

return M
