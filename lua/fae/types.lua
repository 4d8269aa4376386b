-- SPDX-License-Identifier: BSD-2-Clause
--
-- Values that plain Lua cannot tell apart on the wire.
local core = require "fae.core"

local map, array, bin, ext = core.mark "map", core.mark "array", core.mark "bin", core.mark "ext"

local M = {}

--- fae.null: nil inside arrays and maps, both ways.
M.null = core.cjson.null

--- fae.map(t) -> t, encoded as a map even when empty. Without an argument: a new one.
function M.map(t) return setmetatable(t or {}, map) end

--- fae.array(t) -> t, encoded as an array of #t values even when it has holes.
function M.array(t) return setmetatable(t or {}, array) end

--- fae.bin(s): encoded as bin even when s is UTF-8.
function M.bin(s)
  if type(s) ~= "string" then error("fae.bin takes a string", 2) end
  return setmetatable({ bytes = s }, bin)
end

--- fae.ext(type, data): a msgpack extension, type -128 to 127.
function M.ext(kind, data)
  if type(kind) ~= "number" or kind < -128 or kind > 127 or type(data) ~= "string" then
    error("fae.ext takes a number from -128 to 127 and a string", 2)
  end
  return setmetatable({ type = kind, data = data }, ext)
end

return M
