-- SPDX-License-Identifier: BSD-2-Clause
--
-- rd: redis for clients, through the pools of the node.
local fae = require "fae"
local redis = require "fae.redis"

local rd = fae.servant "rd"

rd.method("call", { args = { "string", "string", "..." }, route = 3,
  doc = "a command to a pool's server of its key: pool, command, arguments" },
  redis.call)

rd.method("pipeline", { args = { "string", "array" },
  doc = "many commands at once, [[command, arguments...], ...]: the list of their replies, or of their errors" },
  function(_, name, commands)
    for _, one in ipairs(commands) do
      if type(one) == "table" and type(one[1]) == "string" then
        local row, refused = redis.row_for_clients(one[1])
        if not row then return nil, refused end
      end
    end
    local replies, err = fae.redis(name):pipeline(commands)
    if not replies then return nil, err end
    return replies
  end)

-- fae's old method, which answered texts alone: a list as a JSON list of texts, with null for nil and lists for lists.

local function as_text(reply)
  if type(reply) == "number" then return ("%.0f"):format(reply) end
  if type(reply) == "cdata" then return tostring(reply):match "^-?%d+" end
  if type(reply) ~= "table" then return reply end
  local parts = {}
  for i, value in ipairs(reply) do
    if value == fae.null then
      parts[i] = "null"
    elseif type(value) == "table" and not value.code then
      parts[i] = as_text(value)
    else
      parts[i] = fae.json.encode(type(value) == "table" and tostring(value) or as_text(value))
    end
  end
  return "[" .. table.concat(parts, ",") .. "]"
end

rd.method("fae_call", { args = { "string", "string", "array" }, alias = "rd_call",
  doc = "as rd.call, but command before pool, the arguments as a list, and a text as the answer" },
  function(call, cmd, name, args)
    if #args == 0 then return nil, fae.err("BAD_ARGS", "rd_call: the list begins with the key") end
    if #args > 1000 then return nil, fae.err("LIMIT", "rd_call: at most 1000 arguments") end
    local reply, err = redis.call(call, name, cmd, unpack(args))
    if reply == nil then return nil, err end
    return as_text(reply)
  end)

return rd
