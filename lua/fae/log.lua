-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.log.info("text", { key = value }): a line in the node's log, with the method that wrote it.
local core = require "fae.core"

local M = {}

for level, word in ipairs { "debug", "info", "warn", "error" } do
  --- fae.log.<level>(text[, fields]): text is anything tostring takes; fields a table of strings, numbers, booleans.
  M[word] = function(text, fields) core.log(level - 1, tostring(text), fields) end
end

return M
