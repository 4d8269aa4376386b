-- SPDX-License-Identifier: BSD-2-Clause
--
-- mysqlbench: a row by its primary key, of a table that bench/mysql.py made.
local fae = require "fae"
local mysqlbench = fae.servant "mysqlbench"
local main = fae.mysql "main"

mysqlbench.method("get", { args = { "int" } }, function(_, id)
  return main:query("SELECT id, v, n FROM pk WHERE id = ?", id)
end)

return mysqlbench
