-- SPDX-License-Identifier: BSD-2-Clause
--
-- probe: shows specs what a call sees and what becomes of it.
local fae = require "fae"
local node = require "fae.node"
local probe = fae.servant "probe"

local ended = {}          -- tag -> code of the err that ended its wait
local running, most = 0, 0
local noted = {}

local function shown(...)
  local list = fae.array {}
  for i = 1, select("#", ...) do
    local v = select(i, ...)
    list[i] = v == nil and "nil" or v == fae.null and "null" or type(v)
  end
  return list
end

-- ---- arguments: each type alone ----

for _, word in ipairs { "any", "int", "number", "string", "boolean", "table", "map", "array" } do
  probe.method("a_" .. word, { args = { word } }, function(_, v) return shown(v) end)
  probe.method("o_" .. word, { args = { word .. "?" } }, function(_, v) return shown(v) end)
end
probe.method("two", { args = { "int", "string?" } }, function(_, ...) return shown(...) end)
probe.method("rest", { args = { "int", "..." } }, function(_, ...) return shown(...) end)
probe.method("free", function(_, ...) return shown(...) end)
probe.method("none", { args = {} }, function(...) return select("#", ...) - 1 end)
probe.method("old_style", { args = { "int", "int" }, alias = "old_add" }, function(call, a, b)
  return { sum = a + b, rid = call.rid }
end)

-- ---- results ----

probe.method("empty", function() return {} end)
probe.method("empty_map", function() return fae.map {} end)
probe.method("holes", function() return fae.array { 1, fae.null, 3 } end)
probe.method("nulls", function() return { a = fae.null, b = { fae.null, 2 } } end)
probe.method("sparse", function() return { [1] = "a", [3] = "c" } end)
probe.method("mixed", function() return { "a", x = 1 } end)
probe.method("bin", { args = { "string" } }, function(_, s) return fae.bin(s) end)
probe.method("ext", { args = { "int", "string" } }, function(_, kind, data) return fae.ext(kind, data) end)
probe.method("nothing", function() end)
probe.method("no", function() return false end)
probe.method("number", { args = { "string" } }, function(_, text) return tonumber(text) or 0 / 0 end)
probe.method("add", { args = { "number", "number" } }, function(_, a, b) return a + b end)
probe.method("text", { args = { "int" } }, function(_, n) return ("x"):rep(n) end)
probe.method("text_later", { args = { "int", "int" } }, function(_, n, ms)
  fae.sleep(ms)
  return ("x"):rep(n)
end)
probe.method("list", { args = { "int" } }, function(_, n)
  local list = {}
  for i = 1, n do list[i] = i end
  return list
end)

-- ---- errors ----

probe.method("fail", { args = { "string", "string", "table?" } }, function(_, code, message, fields)
  return nil, fae.err(code, message, fields)
end)
probe.method("raise", { args = { "string", "string", "table?" } }, function(_, code, message, fields)
  error(fae.err(code, message, fields))
end)

-- ---- the call ----

probe.method("call", function(call)
  return {
    rid = call.rid, reason = call.reason, uid = call.uid, traceparent = call.traceparent, token = call.token,
    method = call.method, session = call.session, peer = call.peer, generation = call.generation,
    left_ms = call:time_left(),
  }
end)
probe.method("pid", function() return node.about().pid end)
probe.method("note", { args = { "any" } }, function(call, value)
  noted[#noted + 1] = { value = value, rid = call.rid }
end)
probe.method("noted", function()
  local was = noted
  noted = {}
  return fae.array(was)
end)

-- ---- waiting ----

local function wait(ms, tag)
  running = running + 1
  if running > most then most = running end
  local ok, err = fae.sleep(ms)
  running = running - 1
  if not ok then
    if tag then ended[tag] = err.code end
    return nil, err
  end
  return tag or true
end
probe.method("wait", { args = { "int", "any?" }, timeout_ms = 60000 }, function(_, ms, tag) return wait(ms, tag) end)
probe.method("wait_default", { args = { "int", "any?" } }, function(_, ms, tag) return wait(ms, tag) end)
probe.method("wait_short", { args = { "int", "any?" }, timeout_ms = 200 },
  function(_, ms, tag) return wait(ms, tag) end)
probe.method("busy", { args = { "int" } }, function(_, ms)
  local until_us = fae.time.monotonic_us() + ms * 1000
  while fae.time.monotonic_us() < until_us do end
  return ms
end)
probe.method("ended", { args = { "any" } }, function(_, tag) return ended[tag] end)
probe.method("most", function()
  local was = most
  most = running
  return was
end)
probe.method("running", function() return running end)
probe.method("local_call", { args = { "string", "..." } }, function(_, method, ...) return fae.call(method, ...) end)
probe.method("config", { args = { "string" } }, function(_, name) return fae.map(fae.config(name)) end)
probe.method("log", { args = { "string", "string", "map?" } },
  function(_, level, text, fields) fae.log[level](text, fields) end)
probe.method("global", { args = { "string" } }, function(_, name) return rawget(_G, name) end)

return probe
