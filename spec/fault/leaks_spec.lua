-- SPDX-License-Identifier: BSD-2-Clause
--
-- K6: who is given a connection finds nothing of who had it before. Run by backends.py, with a configuration that has
-- the pool "m" of one redis server and two connections to be borrowed; FAE_LEAKS says how often. Servants cannot send
-- most of this (lua/fae/redis_pipe.lua); the pool has to hold without that.
local core = require "fae.core"
local h = core.redis_open "m"
local n = tonumber(os.getenv "FAE_LEAKS" or "10")

local function borrow()
  local conn, err = core.redis_borrow(h, 0)
  return assert(conn, err and err.message)
end

local function ask(conn, ...)
  local reply, err = core.redis_conn_call(conn, nil, ...)
  return assert(reply, err and err.message)
end

local clean = { " db=0 ", " sub=0 ", " psub=0 ", " multi=-1 ", " name= ", " flags=N ", " resp=2", " user=default " }

-- What is wrong with a connection that was just given; nil: nothing.
local function dirt(conn)
  local info = ask(conn, "CLIENT", "INFO")
  for _, want in ipairs(clean) do
    if not info:find(want, 1, true) then return want .. "in " .. info end
  end
  core.redis_call(h, 0, 0, "SET", "watched", "x")
  ask(conn, "MULTI")
  ask(conn, "PING")
  local done = core.redis_conn_call(conn, nil, "EXEC")
  if not done then return "keys are watched" end
  if ask(conn, "GET", "watched") ~= "x" then return "another answer" end
end

local habits = {
  multi = { { "MULTI" } },
  queued = { { "MULTI" }, { "SET", "leak", "1" } },
  broken = { { "MULTI" }, { "NOSUCHCOMMAND" } },
  select = { { "SELECT", "3" } },
  watch = { { "WATCH", "watched" } },
  subscribe = { { "SUBSCRIBE", "c" } },
  psubscribe = { { "PSUBSCRIBE", "c*" } },
  name = { { "CLIENT", "SETNAME", "mine" } },
  ["no-evict"] = { { "CLIENT", "NO-EVICT", "ON" } },
  tracking = { { "CLIENT", "TRACKING", "ON", "BCAST", "REDIRECT", "0" } },
  resp3 = { { "HELLO", "3" } },
  all = { { "SELECT", "5" }, { "WATCH", "watched" }, { "CLIENT", "SETNAME", "mine" }, { "MULTI" },
    { "SET", "leak", "1" } },
}

describe("a connection of a pool", function()
  for name, commands in pairs(habits) do
    it("has nothing of its last borrower: " .. name, function()
      for _ = 1, n do
        local one, two = borrow(), borrow()
        for _, conn in ipairs { one, two } do
          for _, command in ipairs(commands) do core.redis_conn_call(conn, nil, unpack(command)) end
        end
        core.redis_conn_give(one, true)
        core.redis_conn_give(two, true)
        one, two = borrow(), borrow()
        assert.is_nil(dirt(one))
        assert.is_nil(dirt(two))
        core.redis_conn_give(one, true)
        core.redis_conn_give(two, true)
      end
      assert.is_nil((core.redis_call(h, 0, 1, "GET", "leak")))
    end)
  end
end)
