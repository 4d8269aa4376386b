-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.config "user": what the config file says in `servant "user" { ... }`.
local core = require "fae.core"

local M = {}
local all

--- fae.config(name) -> table, empty when the file says nothing
function M.get(name)
  if type(name) ~= "string" then error("fae.config takes a servant's name", 2) end
  if not all then
    local json = core.servants_json()
    all = json and core.cjson.decode(json) or {}
  end
  all[name] = all[name] or {}
  return all[name]
end

return M
