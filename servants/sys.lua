-- SPDX-License-Identifier: BSD-2-Clause
--
-- sys: what every node answers about itself, and what a session says about itself.
local fae = require "fae"
local node = require "fae.node"
local sys = fae.servant "sys"

sys.method("ping", { args = { "..." }, idempotent = true, alias = "ping",
  doc = "version, build, id of the id generator, uptime" },
  function()
    local about = node.about()
    return ("ver:%s, build:%s, myid:%d, uptime:%.3fs"):format(about.version, about.build, about.node_id,
      about.uptime_ms / 1000)
  end)

sys.method("noop", { args = { "any?" }, idempotent = true, alias = "noop",
  doc = "gives its argument back: the bare cost of a call" },
  function(_, x) return x end)

sys.method("echo", { args = { "any?" }, idempotent = true, doc = "gives its argument back" },
  function(_, value) return value end)

sys.method("time", { args = {}, idempotent = true, doc = "the node's clock, milliseconds since 1970" },
  function() return fae.time.now_ms() end)

sys.method("hello", { args = { "map?" }, idempotent = true,
  doc = 'what the node is, and whom it takes you for; {error = "string" | "map" | "array"} chooses how errors look in '
    .. "this session, {token = ...} says who you are" },
  function(call, wishes)
    local form = wishes and wishes.error
    if form ~= nil then
      local ok, err = node.session_errors(form)
      if not ok then return nil, err end
    end
    local about = node.about()
    local roles = fae.array {}
    for role in (call.roles or ""):gmatch "%S+" do roles[#roles + 1] = role end
    return {
      name = "fae", version = about.version, build = about.build, generation = call.generation,
      message_max = about.message_max, call_timeout_ms = about.call_timeout_ms, session = call.session,
      roles = about.access and roles or nil, who = call.who,
    }
  end)

sys.method("ctx", { args = { "map?" }, doc = "the context of every later call in this session: rid, reason, uid, ..." },
  function(_, context)
    node.session_context(context)
    return true
  end)

sys.method("servants", { args = { "string?" }, idempotent = true,
  doc = "the servants of the generation that answers, with their methods" },
  function(call, name)
    local list = fae.array {}
    for _, servant in ipairs(node.servants()) do
      if not name or servant.name == name then list[#list + 1] = servant end
    end
    return { generation = call.generation, servants = list }
  end)

sys.method("stats", { args = {}, idempotent = true, doc = "counters and latencies of the node, by worker and method" },
  function() return node.stats() end)

return sys
