-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.redis over servers that are tables: which server a command goes to, what is split, merged and refused. What real
-- servers say is in spec/e2e/backends/redis_spec.lua.
local fae = require "fae"
local core = require "fae.core"
local testing = require "fae.testing"

local null = fae.null

local now -- the servers of the spec that runs

local function take(at, flags, cmd)
  cmd[1] = cmd[1]:upper()
  now.asked[#now.asked + 1] = { at = at, flags = flags, cmd = table.concat(cmd, " ") }
  local reply, err
  if now.answer then reply, err = now.answer(at, cmd) end
  if reply == nil and not err then return "OK" end
  return reply, err
end

local function batch(at, flags, cmds)
  local replies = {}
  for i, cmd in ipairs(cmds) do
    local copy = {}
    for j, arg in ipairs(cmd) do copy[j] = tostring(arg) end
    local reply, err = take(at, flags, copy)
    if err and err.code ~= "BACKEND" then return nil, err end
    replies[i] = err or reply
  end
  return replies
end

local function list(cmd, ...)
  local all = { cmd }
  for i = 1, select("#", ...) do all[i + 1] = tostring((select(i, ...))) end
  return all
end

local function pick(h, key)
  if h.name == "none" then return nil, core.err("UNKNOWN_POOL", 'there is no redis pool "none"') end
  return now.n == 1 and 0 or tonumber(key:match "%d" or 0) % now.n
end

local functions = {
  redis_open = function(name) return { name = name } end,
  redis_servers = function(h)
    if h.name == "none" then return pick(h, "") end
    return now.n
  end,
  redis_server_name = function(_, i) return ("tcp://s%d"):format(i) end,
  redis_pick = pick,
  redis_call = function(h, at, flags, cmd, ...)
    local err
    local args = list(cmd, ...)
    if not at then at, err = pick(h, args[2] or "") end
    if not at then return nil, err end
    return take(at, flags, args)
  end,
  redis_batch = function(_, at, flags, cmds) return batch(at, flags, cmds) end,
  redis_borrow = function(_, at)
    local conn = { at = at, calls = {} }
    now.conns[#now.conns + 1] = conn
    return conn
  end,
  redis_conn_call = function(conn, within_ms, cmd, ...)
    conn.within_ms = within_ms
    return take(conn.at, 0, list(cmd, ...))
  end,
  redis_conn_batch = function(conn, cmds) return batch(conn.at, 0, cmds) end,
  redis_conn_give = function(conn, sound) conn.given = sound end,
}

local file = assert(io.open "servants/README.md")
local cart = file:read("*a"):match "```lua\n(%-%- cart.-)```"
file:close()
local g = testing.load({
  ["servants/cart.lua"] = cart,
  ["servants/x.lua"] = [[
    local fae = require "fae"
    fae.servant("x").method("pool", function(_, name) return fae.redis(name) end)]],
}, { core = functions })

-- Servers that note what they are asked and answer what `answer(at, cmd)` says. A key lies on the server of its first
-- digit; without one on server 0.
local function fake(n, answer)
  local function open(name) return g.call("x.pool", name) end
  now = { n = n, answer = answer, asked = {}, conns = {}, pool = open "main", open = open }
  return now
end

local function fails(code, text, value, err)
  assert.is_nil(value)
  assert.equal(code, err.code, tostring(err))
  assert.truthy(err.message:find(text, 1, true), err.message)
end

local function sent(world)
  local all = {}
  for i, one in ipairs(world.asked) do all[i] = one.at .. " " .. one.cmd end
  table.sort(all)
  return all
end

describe("fae.redis", function()
  it("gives one object for one name, which takes nothing", function()
    local w = fake(1)
    assert.equal(w.pool, w.open "main")
    assert.not_equal(w.pool, w.open "other")
    assert.has_error(function() w.pool.get = print end)
    assert.has_error(function() w.open(7) end)
    assert.has_error(function() w.pool.get "k" end)
    assert.equal("redis pool", getmetatable(w.pool))
  end)

  it("sends a command to the server of its key", function()
    local w = fake(3)
    w.pool:set("k1", "v")
    w.pool:get "k2"
    w.pool:call("hGet", "k0", "f")
    w.pool:zrangebyscore("k1", "-inf", 5)
    assert.same({ "0 HGET k0 f", "1 SET k1 v", "1 ZRANGEBYSCORE k1 -inf 5", "2 GET k2" }, sent(w))
    assert.same({ 0, 1, 1, 1 }, { w.asked[1].flags, w.asked[2].flags, w.asked[3].flags, w.asked[4].flags })
  end)

  it("sends what it does not know by its first argument", function()
    local w = fake(3)
    w.pool:call("json.set", "k2", "$", "1")
    w.pool["bf.add"](w.pool, "k1", "x")
    assert.same({ "1 BF.ADD k1 x", "2 JSON.SET k2 $ 1" }, sent(w))
    assert.equal(0, w.asked[1].flags)
    fails("BAD_ARGS", "takes a key", w.pool:call "json.debug")
    w = fake(1)
    w.pool:call "json.debug"
    assert.same({ "0 JSON.DEBUG" }, sent(w))
    fails("BAD_ARGS", "no name of a command", w.pool:call "GET x")
    fails("BAD_ARGS", "no name of a command", w.pool:call "")
    fails("BAD_ARGS", "a command is a string", w.pool:call(7))
    fails("BAD_ARGS", "a command is a string", w.pool:call())
  end)

  it("says when there is no such pool, and when a key is missing or none", function()
    local w = fake(2)
    fails("UNKNOWN_POOL", "none", w.open("none"):get "k")
    fails("UNKNOWN_POOL", "none", w.open("none"):mget("k", "l"))
    fails("UNKNOWN_POOL", "none", w.open("none"):pipeline { { "GET", "k" } })
    fails("BAD_ARGS", "MGET", w.pool:mget())
    fails("BAD_ARGS", "MGET", w.pool:mget {})
    assert.same({}, w.asked)
  end)

  it("takes numbers for keys as they are written", function()
    local w = fake(2)
    w.pool:exists(1)
    w.pool:exists(2LL)
    w.pool:exists(1e15)
    fails("BAD_ARGS", "EXISTS: a key is a string", w.pool:exists(true))
    assert.same({ 1, 0, 1 }, { w.asked[1].at, w.asked[2].at, w.asked[3].at })
  end)

  it("refuses what cannot be right on shared connections, and says what to do", function()
    local w = fake(1)
    for cmd, word in pairs {
      SUBSCRIBE = "pool:subscribe", psubscribe = "pool:subscribe", MULTI = "pool:multi", exec = "pool:multi",
      Watch = "pool:multi", SELECT = "option db", AUTH = "user and password", HELLO = "user and password",
      QUIT = "opens and closes", reset = "opens and closes", MONITOR = "something else", WAIT = "pool:alone",
      SHUTDOWN = "redis-cli", DEBUG = "redis-cli", REPLICAOF = "redis-cli", WAITAOF = "pool:alone",
      POST = "closes the connection",
    } do
      fails("BAD_ARGS", word, w.pool:call(cmd, "x"))
      fails("BAD_ARGS", word, w.pool:pipeline { { cmd, "x" } })
    end
    fails("BAD_ARGS", "CLIENT", w.pool:client("reply", "OFF"))
    fails("BAD_ARGS", "SCRIPT", w.pool:call("Script", "debug", "yes"))
    fails("BAD_ARGS", "more lists", w.pool:command "docs")
    assert.same({}, w.asked)
    w.pool:client "LIST"
    assert.equal(1, #w.asked)
  end)

  it("splits commands by their keys, and puts the answers together in order", function()
    local w = fake(3, function(at, cmd)
      if cmd[1] == "MGET" then
        local values = {}
        for i = 2, #cmd do values[i - 1] = cmd[i] == "k9" and null or ("%s@%d"):format(cmd[i], at) end
        return values
      end
      if cmd[1] ~= "MSET" then return #cmd - 1 end
    end)
    assert.same({ "k2@2", "k1@1", null, "k5@2", "k2@2" }, w.pool:mget("k2", "k1", "k9", "k5", "k2"))
    assert.same({ "0 MGET k9", "1 MGET k1", "2 MGET k2 k5 k2" }, sent(w))
    assert.same({ "k2@2", "k1@1" }, w.pool:mget { "k2", "k1" })
    assert.equal(4, w.pool:del("k1", "k2", "k3", "k4"))
    assert.equal(2, w.pool:unlink { "k1", "k2" })
    assert.equal(3, w.pool:exists("k1", "k1", "k2"))
    assert.equal("OK", w.pool:mset("k1", "a", "k2", "b"))
    assert.equal("OK", w.pool:mset { k1 = "a" })
    assert.equal("2 MSET k2 b", w.asked[#w.asked - 1].at .. " " .. w.asked[#w.asked - 1].cmd)
    fails("BAD_ARGS", "a value with each key", w.pool:mset("k1", "a", "k2"))
  end)

  it("sends what has its keys on one server in one piece", function()
    local w = fake(3, function(_, cmd) return #cmd - 1 end)
    assert.equal(2, w.pool:del("k1", "k4"))
    assert.same({ "1 DEL k1 k4" }, sent(w))
  end)

  it("says which part of a write was done", function()
    local w = fake(3, function(at, cmd)
      if at == 2 then return nil, core.err("UNAVAILABLE", "redis main tcp://s2: refused") end
      return cmd[1] == "MGET" and { "v" } or #cmd - 1
    end)
    local value, err = w.pool:del("k1", "k2", "k5", "k3")
    fails("UNAVAILABLE", "DEL: 2 of 4 keys are done, the rest not: redis main tcp://s2: refused", value, err)
    assert.same({ done = 2, failed = { "k2", "k5" } }, err.detail)
    value, err = w.pool:mset("k1", "a", "k2", "b")
    fails("UNAVAILABLE", "MSET: 1 of 2 keys", value, err)
    assert.same({ done = 1, failed = { "k2" } }, err.detail)
    fails("UNAVAILABLE", "redis main tcp://s2: refused", w.pool:mget("k1", "k2"))
    fails("UNAVAILABLE", "redis main tcp://s2: refused", w.pool:del("k2", "k5"))
    assert.is_false(err.retryable)
  end)

  it("does not say that nothing was sent when some of it may have been done", function()
    local w = fake(3, function(at) return nil, core.err(at == 2 and "UNKNOWN" or "UNAVAILABLE", "s" .. at) end)
    fails("UNKNOWN", "s2", w.pool:del("k1", "k2", "k3"))
    fails("UNKNOWN", "s2", w.pool:flushall())
  end)

  it("wants the keys of other commands on one server", function()
    local w = fake(3)
    w.pool:sinter("k1", "k4")
    w.pool:rename("k1", "k4")
    w.pool:zunionstore("k1", 2, "k4", "k7", "WEIGHTS", 2, 3)
    w.pool:eval("return 1", 1, "k4", "k2")
    w.pool:bitop("AND", "k1", "k4")
    w.pool:sort("k1", "BY", "nosort", "STORE", "k4")
    w.pool:sort_ro("k1", "BY", "{k4}:*", "GET", "#", "GET", "w:*->{k4}")
    w.pool:migrate("host", 6379, "", 0, 1000, "KEYS", "k1", "k4")
    w.pool:xread("COUNT", 2, "STREAMS", "k1", "k4", "0", "2")
    w.pool:object("ENCODING", "k4")
    w.pool:msetnx("k1", "2", "k4", "3")
    w.pool:lmpop(2, "k1", "k4", "LEFT")
    for _, one in ipairs(w.asked) do assert.equal(1, one.at, one.cmd) end
    assert.equal(12, #w.asked)
    for _, cmd in ipairs { { "SORT", "k1", "by", "w:*" }, { "SORT_RO", "k1", "GET", "{*}:k1" } } do
      fails("BAD_ARGS", "may lie on other servers", w.pool:call(unpack(cmd)))
    end
    for _, cmd in ipairs {
      { "MIGRATE", "host", 6379, "", 0, 1000, "KEYS", "k1", "k2" }, { "SORT", "k1", "BY", "{k2}:*" },
      { "SINTER", "k1", "k2" }, { "RENAME", "k1", "k2" }, { "ZUNIONSTORE", "k1", 2, "k4", "k2" },
      { "EVAL", "return 1", 2, "k1", "k2" }, { "BITOP", "AND", "k1", "k2" }, { "SORT", "k1", "STORE", "k2" },
      { "GEORADIUS", "k1", 1, 1, 1, "km", "STOREDIST", "k2" }, { "XREAD", "STREAMS", "k1", "k2", "0", "0" },
      { "MSETNX", "k1", "a", "k2", "b" }, { "LMPOP", 2, "k1", "k2", "LEFT" }, { "BLPOP", "k1", "k2", 1 },
    } do
      fails("BAD_ARGS", cmd[1] .. ": its keys lie on several servers", w.pool:call(unpack(cmd)))
    end
    fails("BAD_ARGS", "says how many keys", w.pool:eval("return 1", "x"))
    fails("BAD_ARGS", "says how many keys", w.pool:zunion(3, "k1"))
    fails("BAD_ARGS", "takes a key", w.pool:eval("return 1", 0))
    fails("BAD_ARGS", "STREAMS", w.pool:xread("COUNT", 1))
    assert.equal(12, #w.asked)
  end)

  it("asks all servers where the answers make one, or a single one", function()
    local w = fake(3, function(at, cmd)
      if cmd[1] == "DBSIZE" then return at + 1 end
      if cmd[1] == "KEYS" then return { "k" .. at } end
    end)
    assert.equal(6, w.pool:dbsize())
    assert.same({ "k0", "k1", "k2" }, w.pool:keys "*")
    assert.equal("OK", w.pool:flushdb())
    assert.equal(9, #w.asked)
    assert.equal("OK", w.pool:call("SCRIPT", "flush"))
    assert.equal(12, #w.asked)
    fails("BAD_ARGS", "pool:server(i)", w.pool:call("SCRIPT", "EXISTS", "x"))
    fails("BAD_ARGS", "pool:server(i)", w.pool:scan(0))
    fails("BAD_ARGS", "pool:server(i)", w.pool:info())
    assert.equal(2, w.pool:server(2):dbsize())
    w.pool:server(3):get "k1"
    w.pool:server(3):sinter("k1", "k2")
    assert.equal("2 SINTER k1 k2", w.asked[#w.asked].at .. " " .. w.asked[#w.asked].cmd)
    local n, names = w.pool:servers()
    assert.equal(3, n)
    assert.same({ "tcp://s0", "tcp://s1", "tcp://s2" }, names)
    assert.has_error(function() w.pool:server(0) end)
    fails("BAD_ARGS", "has no server 4, but 3", w.pool:server(4):get "k")
    assert.equal(2, w.open("main#2"):dbsize())
    fails("BAD_ARGS", "has no server 4, but 3", w.open("main#4"):dbsize())
    fails("BAD_ARGS", "has no server 4, but 3", w.pool:server(4):dbsize())
  end)

  it("says which servers have done what all should", function()
    local w = fake(2, function(at)
      if at == 1 then return nil, core.err("UNKNOWN", "redis main tcp://s1: lost") end
    end)
    local value, err = w.pool:flushall()
    fails("UNKNOWN", "FLUSHALL: 1 of 2 servers have done it", value, err)
    assert.same({ done = 1, failed = { "tcp://s1" } }, err.detail)
  end)

  it("makes a map of HGETALL", function()
    local w = fake(1, function() return { "a", "1", "b", "2" } end)
    assert.same({ a = "1", b = "2" }, w.pool:hgetall "h")
    assert.same({ "a", "1", "b", "2" }, w.pool:call("HGETALL", "h"))
  end)

  describe("a command that blocks", function()
    it("has a connection of its own, for a little longer than it blocks", function()
      local w = fake(1, function() return { "k", "v" } end)
      assert.same({ "k", "v" }, w.pool:blpop("k", 1.5))
      assert.equal(6500, w.conns[1].within_ms)
      assert.is_true(w.conns[1].given)
      w.pool:xread("BLOCK", 200, "STREAMS", "k", "$")
      assert.equal(5200, w.conns[2].within_ms)
      w.pool:blmpop(3, 1, "k", "LEFT")
      assert.equal(8000, w.conns[3].within_ms)
      w.pool:blpop("k", 0)
      assert.equal(86400000, w.conns[4].within_ms)
      for _, wrong in ipairs { "nan", "-1", "x" } do
        w.pool:blpop("k", wrong)
        assert.is_nil(table.remove(w.conns).within_ms)
      end
      w.pool:xread("STREAMS", "k", "0")
      assert.equal(4, #w.conns)
    end)

    it("keeps the connection when the server refuses it, and no other", function()
      local err = core.err("BACKEND", "WRONGTYPE")
      err.detail = { error = "WRONGTYPE" }
      local w = fake(1, function() return nil, err end)
      fails("BACKEND", "WRONGTYPE", w.pool:blpop("k", 1))
      assert.is_true(w.conns[1].given)
      w = fake(1, function() return nil, core.err("UNKNOWN", "lost") end)
      fails("UNKNOWN", "lost", w.pool:blpop("k", 1))
      assert.is_false(w.conns[1].given)
    end)

    it("is no part of a pipeline", function()
      local w = fake(1)
      fails("BAD_ARGS", "BLPOP would block", w.pool:pipeline { { "BLPOP", "k", 1 } })
    end)
  end)

  describe("a pipeline", function()
    it("is split by server, in the order of asking, and answered in it", function()
      local w = fake(2, function(at, cmd) return cmd[2] .. "@" .. at end)
      assert.same({ "k1@1", "k2@0", "k3@1" },
        w.pool:pipeline { { "SET", "k1", "a" }, { "get", "k2" }, { "INCR", "k3" } })
      local replies = w.pool:pipeline(function(p)
        assert.equal(1, p:get "k1")
        assert.equal(2, p:call("HGET", "k2", "f"))
      end)
      assert.same({ "k1@1", "k2@0" }, replies)
      assert.equal(1, w.asked[#w.asked].flags)
      assert.same({}, w.pool:pipeline {})
    end)

    it("shows what failed where it was asked", function()
      local w = fake(2, function(at, cmd)
        if at == 1 then return nil, core.err("UNAVAILABLE", "refused") end
        if cmd[1] == "INCR" then return nil, core.err("BACKEND", "ERR not an integer") end
      end)
      local replies, err = w.pool:pipeline { { "SET", "k1", "a" }, { "SET", "k2", "b" }, { "INCR", "k2" } }
      assert.equal("UNAVAILABLE", replies[1].code)
      assert.equal("OK", replies[2])
      assert.equal("BACKEND", replies[3].code)
      assert.equal(replies[1], err)
      fails("UNAVAILABLE", "refused", w.pool:pipeline { { "SET", "k1", "a" } })
    end)

    it("is refused as a whole", function()
      local w = fake(2)
      fails("BAD_ARGS", "[2] is no command", w.pool:pipeline { { "SET", "k1", "a" }, "GET k1" })
      fails("BAD_ARGS", "[2] is no command", w.pool:pipeline { { "SET", "k1", "a" }, {} })
      fails("BAD_ARGS", "[2] MGET is for several servers", w.pool:pipeline { { "GET", "k1" }, { "MGET", "k1", "k2" } })
      fails("BAD_ARGS", "[1] DBSIZE is for several servers", w.pool:pipeline { { "DBSIZE" } })
      fails("BAD_ARGS", "[2] argument 2 of SET", w.pool:pipeline { { "GET", "k1" }, { "SET", "k2", null } })
      assert.has_error(function() w.pool:pipeline "GET" end)
      local many, get = {}, { "GET", "k" }
      for i = 1, 10001 do many[i] = get end
      fails("LIMIT", "10000", w.pool:pipeline(many))
      assert.same({}, w.asked)
    end)
  end)

  describe("a transaction", function()
    local results
    local function server(_, cmd)
      if cmd[1] == "EXEC" then return results end
      if cmd[1] == "GET" then return "5" end
      return cmd[1] == "MULTI" and "OK" or "QUEUED"
    end

    before_each(function() results = { "OK", 6 } end)

    it("is sent as one", function()
      local w = fake(2, server)
      assert.same({ "OK", 6 }, w.pool:multi({ "k1", "k3" }, function(tx)
        tx:set("k1", "a")
        tx:incr "k3"
        assert.same({}, w.asked)
      end))
      assert.same({ "1 EXEC", "1 INCR k3", "1 MULTI", "1 SET k1 a" }, sent(w))
      assert.is_true(w.conns[1].given)
    end)

    it("does nothing when its function fails, or wants nothing", function()
      local w = fake(1, server)
      fails("NOT_FOUND", "gone", w.pool:multi("k", function(tx)
        tx:set("k", "a")
        return nil, core.err("NOT_FOUND", "gone")
      end))
      assert.is_false(w.pool:multi("k", function(tx) tx:set("k", "a") return false end))
      assert.has_error(function() w.pool:multi("k", function() error "oops" end) end)
      assert.same({}, w.pool:multi("k", function() end))
      assert.same({}, w.asked)
      assert.same({}, w.conns)
    end)

    it("watches, reads, and says when somebody was quicker", function()
      local w = fake(1, server)
      local function add(tx)
        assert.equal("5", tx:read("GET", "k"))
        tx:set("k", 6)
      end
      assert.same({ "OK", 6 }, w.pool:multi("k", add, { watch = "k" }))
      assert.equal("WATCH k", w.asked[1].cmd)
      results = null
      local value, err = w.pool:multi("k", add, { watch = { "k" } })
      fails("CONFLICT", "nothing was done", value, err)
      assert.is_true(err.retryable)
      w = fake(1, server)
      assert.is_false(w.pool:multi("k", function() return false end, { watch = "k" }))
      assert.same({ "0 UNWATCH", "0 WATCH k" }, sent(w))
      assert.is_true(w.conns[1].given)
      assert.has_error(function() w.pool:multi("k", function() error "oops" end, { watch = "k" }) end)
      assert.is_true(w.conns[2].given)
      assert.has_error(function() w.pool:multi("k", function(tx) tx:read("GET", "k") end) end)
    end)

    it("is forgotten when it is over", function()
      local w = fake(1, function(_, cmd) return cmd[1] == "EXEC" and { "OK" } or "OK" end)
      local function used()
        for _ = 1, 150 do
          w.pool:multi("k", function(tx) tx:read("GET", "k") tx:set("k", 1) end, { watch = "k" })
          w.asked, w.conns = {}, {}
        end
        collectgarbage()
        collectgarbage()
        return collectgarbage "count"
      end
      used()
      local before = used()
      assert.is_true(used() - before < 40)
    end)

    it("stays on one server", function()
      local w = fake(2, server)
      fails("BAD_ARGS", "several servers", w.pool:multi({ "k1", "k2" }, function() end))
      fails("BAD_ARGS", "another server", w.pool:multi("k1", function(tx) tx:set("k2", "a") end))
      fails("BAD_ARGS", "would block", w.pool:multi("k1", function(tx) tx:blpop("k1", 1) end))
      fails("BAD_ARGS", "WATCH is not sent", w.pool:multi("k1", function(tx) tx:watch "k1" end))
      assert.same({}, w.asked)
    end)

    it("tells of the command that spoiled it", function()
      local w = fake(1, function(_, cmd)
        if cmd[1] == "SET" then return nil, core.err("BACKEND", "ERR wrong number of arguments") end
        if cmd[1] == "EXEC" then return nil, core.err("BACKEND", "EXECABORT") end
        return "OK"
      end)
      fails("BACKEND", "wrong number", w.pool:multi("k", function(tx) tx:set "k" end))
    end)

    it("does not say that nothing was done when it was no transaction", function()
      local w = fake(1, function(_, cmd)
        if cmd[1] == "MULTI" then return nil, core.err("BACKEND", "NOPERM") end
        if cmd[1] == "EXEC" then return nil, core.err("BACKEND", "ERR EXEC without MULTI") end
        return "OK"
      end)
      fails("UNKNOWN", "NOPERM", w.pool:multi("k", function(tx) tx:set("k", 1) end))
    end)
  end)

  describe("a connection of one's own", function()
    it("is given back, whatever happens", function()
      local w = fake(2)
      assert.equal("done", w.pool:alone("k1", function(conn)
        assert.equal("OK", conn:set("k1", "a"))
        assert.equal("OK", conn:wait(1, 100))
        fails("BAD_ARGS", "SELECT", conn:select(2))
        return "done"
      end))
      assert.same({ "1 SET k1 a", "1 WAIT 1 100" }, sent(w))
      assert.is_true(w.conns[1].given)
      local kept
      assert.has_error(function() w.pool:alone("k1", function(conn)
        kept = conn
        error "oops"
      end) end)
      assert.is_false(w.conns[2].given)
      fails("CLOSED", "given back", kept:get "k1")
    end)
  end)

  it("says at which line it was used wrongly", function()
    local wrong = {
      { "main:subscribe('c')", "pool:subscribe takes a function" },
      { "main:psubscribe({}, print)", "pool:psubscribe takes a channel" },
      { "main:subscribe('c', print, { que = 1 })", "the options are queue" },
      { "main:script(7)", "pool:script takes a script's text" },
      { "main:multi('k')", "pool:multi takes a key" },
      { "main:multi('k', print, { w = 1 })", "the option is watch, not w" },
      { "main:pipeline 'GET'", "pool:pipeline takes a list" },
      { "main:alone 'k'", "pool:alone takes a key" },
      { "main.get 'k'", "that is no pool: pool:get" },
      { "main.x = 1", "takes no fields" },
    }
    local files = {}
    for i, row in ipairs(wrong) do
      files[("servants/w%02d.lua"):format(i)] = 'local main = require "fae".redis "main"\n' .. row[1] .. "\nreturn 1"
    end
    local errors = testing.load(files, { core = functions }).errors
    assert.equal(#wrong, #errors)
    for i, row in ipairs(wrong) do
      assert.equal(1, (errors[i]:find(("servants/w%02d.lua:2: "):format(i), 1, true)), errors[i])
      assert.truthy(errors[i]:find(row[2], 1, true), errors[i])
    end
  end)

  it("has an example that does what it says", function()
    assert.same({}, g.errors)
    local w = fake(1, function(_, cmd)
      if cmd[1] == "EXEC" then return { 3, 1 } end
      return cmd[1] == "HGETALL" and { "tea", "3" } or 7
    end)
    assert.equal(3, g.call("cart.add", "17", "tea", 3))
    assert.same({ tea = "3" }, g.call("cart.show", "17"))
    assert.same({ "0 EXEC", "0 EXPIRE {17}:cart 86400", "0 HGETALL {17}:cart", "0 HINCRBY {17}:cart tea 3",
      "0 INCRBY sold:tea 3", "0 MULTI" }, sent(w))
  end)

  describe("a script", function()
    it("is sent by its SHA, and in full to who does not know it", function()
      local known = {}
      local w = fake(2, function(at, cmd)
        if cmd[1] == "SCRIPT" then
          known[at] = true
          return "sha1"
        end
        if known[at] then return { unpack(cmd) } end
        local err = core.err("BACKEND", "NOSCRIPT No matching script")
        err.detail = { error = "NOSCRIPT" }
        return nil, err
      end)
      local script = w.pool:script "return 1"
      assert.same({ "EVALSHA", "sha1", "1", "k1", "a", "b" }, script:eval("k1", { "a", "b" }))
      assert.same({ "EVALSHA", "sha1", "1", "k1" }, script:eval "k1")
      assert.same({ "EVALSHA", "sha1", "2", "k2", "k4" }, script:eval { "k2", "k4" })
      assert.equal(6, #w.asked)
      known[1] = nil
      assert.same({ "EVALSHA", "sha1", "1", "k1" }, script:eval "k1")
      fails("BAD_ARGS", "several servers", script:eval { "k1", "k2" })
      fails("BAD_ARGS", "without keys", script:eval {})
      assert.has_error(function() w.pool:script(7) end)
    end)

    it("goes where its keys lie after a reload that came while it waited", function()
      local w
      w = fake(3, function(_, cmd)
        if cmd[1] ~= "SCRIPT" then return { unpack(cmd) } end
        w.n = 2
        return "sha1"
      end)
      w.pool:script "return 1":eval "k2"
      assert.equal("0 EVALSHA sha1 1 k2", w.asked[2].at .. " " .. w.asked[2].cmd)
      w = fake(1, function(_, cmd)
        if cmd[1] ~= "SCRIPT" then return { unpack(cmd) } end
        w.n = 2
        return "sha1"
      end)
      fails("BAD_ARGS", "without keys", w.pool:script "return 1":eval {})
    end)
  end)
end)
