-- SPDX-License-Identifier: BSD-2-Clause
--
-- access_log: a line for each call, or for one in `sample` of them, to a file or into the node's log.
--   plugin "access_log" { file = "/var/log/fae/access.log", sample = 10 }
-- Lines are kept for at most a second and written together; the file is opened each time, so it may be rotated away.
local fae = require "fae"
local plugin = fae.plugin "access_log"

local file = plugin.option("file", "string", "") -- "": the node's log
local sample = plugin.option("sample", "number", 1)
local FLUSH_BYTES = 32768 -- one write, which another worker's cannot come between

if sample < 1 or sample % 1 ~= 0 then error "sample is a whole number from 1: one call in so many has a line" end

local lines, n_bytes, n_calls = {}, 0, 0

local function flush()
  if n_bytes == 0 then return end
  local text = table.concat(lines)
  lines, n_bytes = {}, 0
  local out = assert(io.open(file, "a"))
  out:setvbuf("full", 2 * FLUSH_BYTES)
  out:write(text)
  assert(out:close())
end

local function word(value)
  if value == nil then return "-" end
  return (tostring(value):sub(1, 200):gsub("[%c\" ]", "_"))
end

plugin.on_reply(function(call, reply)
  n_calls = n_calls + 1
  if n_calls % sample ~= 0 then return end
  local code = reply.err and reply.err.code or "OK"
  if file == "" then
    fae.log.info("access", { call = call.method, code = code, us = reply.duration_us, peer = call.peer,
      rid = word(call.rid), reason = word(call.reason) })
    return
  end
  local line = ("%.3f rid=%s reason=%s method=%s us=%d code=%s peer=%s\n"):format(fae.time.now_ms() / 1000,
    word(call.rid), word(call.reason), word(call.method), reply.duration_us, word(code), word(call.peer))
  lines[#lines + 1] = line
  n_bytes = n_bytes + #line
  if n_bytes >= FLUSH_BYTES then flush() end
end)

if file ~= "" then plugin.on_tick(flush) end

return plugin
