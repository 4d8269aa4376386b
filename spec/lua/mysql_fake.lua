-- SPDX-License-Identifier: BSD-2-Clause
--
-- mysql as lua/fae/my.lua and its kin see it, without a server: the functions of fae.core under them. A spec says what
-- is answered; a generation of its own has modules that know nothing of other specs'.
local core = require "fae.core"
local testing = require "fae.testing"

local M = {}

local NAMES = { "section", "mysql_open", "mysql_query", "mysql_borrow", "mysql_conn_query", "mysql_conn_give",
  "mysql_conn_in_transaction" }

--- result(cols, rows[, affected[, insert_id]]) -> as mysql_query gives it; cols are words with blanks between
function M.result(cols, rows, affected, insert_id)
  local list = {}
  for word in (cols or ""):gmatch "%S+" do list[#list + 1] = word end
  return { cols = list, rows = rows or {}, affected = affected or 0, insert_id = insert_id or 0 }
end

--- backend_error(errno, sqlstate, text) -> err
function M.backend_error(errno, sqlstate, text)
  return core.err("BACKEND", text or "mysql: it failed", { detail = { errno = errno, sqlstate = sqlstate or "HY000" } })
end

--- load(name, ...) -> these modules, of a generation of their own
function M.load(...)
  local g = testing.load({ ["servants/x.lua"] = [[
    local s = require("fae").servant "x"
    s.method("get", function(_, name) return require(name) end)
    return s]] })
  assert(#g.errors == 0, g.errors[1])
  local modules = {}
  for i, name in ipairs { ... } do modules[i] = g.methods["x.get"].fn(nil, name) end
  return unpack(modules)
end

--- new{ sections = {shard = {...}, mysql = {...}}, answer = function(pool, sql, args, where) -> result | nil, err } ->
-- fake, whose log is what was asked: {pool, sql, args, n, replica, conn}. The answer may wait.
function M.new(how)
  local fake = { log = {}, given = {}, kept = {} }
  local sections = {
    mysql = how.sections and how.sections.mysql or {}, shard = how.sections and how.sections.shard or {},
  }
  for _, row in ipairs(sections.shard) do
    for key, value in pairs { strategy = "standard", lookup_pool = "", lookup_table = "", lookup_ttl_ms = 1000,
      pools = "", map = "" } do
      if row[key] == nil then row[key] = value end
    end
  end
  local function ask(pool, sql, n, args, more)
    local entry = { pool = pool, sql = sql, n = n, args = args }
    for k, v in pairs(more) do entry[k] = v end
    fake.log[#fake.log + 1] = entry
    return how.answer(pool, sql, args, entry)
  end
  local functions = {
    section = function(name) return sections[name] or fake.kept.section(name) end,
    mysql_open = function(pool) return { pool = pool } end,
    mysql_query = function(h, replica, sql, n, ...) return ask(h.pool, sql, n, { ... }, { replica = replica }) end,
    mysql_borrow = function(h)
      if how.borrow then return how.borrow(h.pool) end
      return { pool = h.pool }
    end,
    mysql_conn_query = function(conn, sql, n, ...) return ask(conn.pool, sql, n, { ... }, { conn = conn }) end,
    mysql_conn_in_transaction = function(conn) return not conn.over end,
    mysql_conn_give = function(conn, sound) fake.given[#fake.given + 1] = { conn = conn, sound = sound } end,
  }
  for _, name in ipairs(NAMES) do
    fake.kept[name] = rawget(core, name)
    core[name] = functions[name]
  end

  --- fake.remove(): what was there before is there again
  function fake.remove()
    for _, name in ipairs(NAMES) do core[name] = fake.kept[name] end
  end

  return fake
end

return M
