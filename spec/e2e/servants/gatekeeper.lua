-- SPDX-License-Identifier: BSD-2-Clause
--
-- What spec/e2e/test_access.py calls: methods to be allowed and denied, and what a servant sees of its caller.
local fae = require "fae"
local shop = fae.servant "shop"
local boss = fae.servant "boss"
local notes = {}

local function seen(call)
  return {
    who = call.who, roles = call.roles, token = call.token, sticky = call.sticky, rid = call.rid, uid = call.uid,
  }
end

shop.method("buy", { args = { "..." }, alias = "shop_buy" }, function(call) return seen(call) end)
shop.method("refund", { alias = "shop_refund" }, function(call) return seen(call) end)
shop.method("note", { args = { "any" } }, function(_, what) notes[#notes + 1] = what end)
shop.method("within", function() return fae.call "boss.only" end)
shop.method("children", function(call)
  local results = fae.parallel { function() return seen(call) end, function() return fae.call "boss.only" end }
  return fae.array(results)
end)
shop.method("wait", { args = { "int" } }, function(call, ms)
  fae.sleep(ms)
  return seen(call)
end)
shop.method("words", function(call, ...) -- everything a servant can get at
  local words = {}
  for _, value in ipairs { call.token, call.sticky, ... } do words[#words + 1] = tostring(value) end
  fae.log.info("words", { words = table.concat(words, " ") })
  error "this goes to the log"
end)
boss.method("only", function(call) return seen(call) end)
boss.method("notes", function()
  local was = notes
  notes = {}
  return fae.array(was)
end)

return shop
