-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.json: JSON by lua-cjson. null is fae.null both ways; an empty table is {}.
local core = require "fae.core"

local cjson = core.cjson.new()
cjson.decode_max_depth(64)
cjson.encode_max_depth(64)
cjson.encode_sparse_array(true)
cjson.decode_invalid_numbers(false) -- no NaN, no 0x10: that is not JSON

local M = {}

--- fae.json.encode(value) -> text | nil, err
function M.encode(value)
  local text, err = cjson.encode(value)
  if not text then return nil, core.err("BAD_ARGS", err) end
  return text
end

--- fae.json.decode(text) -> value | nil, err
function M.decode(text)
  if type(text) ~= "string" then error("fae.json.decode takes a string", 2) end
  local value, err = cjson.decode(text)
  if value == nil then return nil, core.err("BAD_ARGS", err) end
  return value
end

return M
