-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.redis with real servers; spec/e2e/test_redis.py starts them. Pools: main (one server), many and jump (three), db
-- (database 3 of main's), unix (main's over its socket), closed (with a password), wrong (the same with another), down
-- (nobody there).
local fae = require "fae"

local null = fae.null
local by_bytes = os.getenv "LD_PRELOAD" ~= nil -- one at a time, which takes long
local main, many = fae.redis "main", fae.redis "many"

local function fails(code, text, value, err)
  assert.is_nil(value)
  assert.is_table(err)
  assert.equal(code, err.code, tostring(err))
  assert.truthy(err.message:find(text, 1, true), err.message)
  return err
end

local function until_true(what, condition)
  local deadline = fae.time.monotonic_us() + 10e6
  while not condition() do
    assert.is_true(fae.time.monotonic_us() < deadline, what)
    fae.sleep(5)
  end
end

local all = {}
for i = 0, 255 do all[#all + 1] = string.char(i) end
local bytes = table.concat(all)

before_each(function()
  assert.equal("OK", main:flushall())
  assert.equal("OK", many:flushall())
end)

describe("replies", function()
  it("have their types", function()
    assert.equal("OK", main:set("k", "v"))
    assert.equal("v", main:get "k")
    assert.is_nil(main:get "none")
    assert.equal(7, main:incrby("n", 7))
    assert.equal("PONG", main:ping())
    assert.equal(2, main:rpush("l", "a", "b"))
    assert.same({ "a", "b" }, main:lrange("l", 0, -1))
    assert.same({}, main:lrange("none", 0, -1))
    assert.equal("", main:set("e", "") and main:get "e")
    assert.same({ "v", null, "7" }, main:mget("k", "none", "n"))
    assert.same({ 1, "x", null, { 2, {} } }, main:eval("return {1, 'x', false, {2, {}}}", 0))
    assert.same({}, main:hgetall "none")
    main:hset("h", "a", 1, "b", "2")
    assert.same({ a = "1", b = "2" }, main:hgetall "h")
    assert.same({ "a", "1", "b", "2" }, main:call("hgetall", "h"))
  end)

  it("are any bytes", function()
    assert.equal("OK", main:set(bytes, bytes))
    assert.equal(bytes, main:get(bytes))
    assert.equal("OK", many:set(bytes, bytes))
    assert.equal(bytes, many:get(bytes))
    assert.equal("OK", main:set("", "empty"))
    assert.equal("empty", main:get "")
    local long = ("x"):rep(by_bytes and 3e4 or 3e6)
    assert.equal("OK", main:set("long", long))
    assert.equal(long, main:get "long")
  end)

  it("are whole numbers, exact ones beyond 2^53", function()
    main:set("n", "9007199254740993")
    assert.equal(9007199254740994LL, main:incr "n")
    assert.equal(5, main:incrby("m", 5LL))
    assert.equal("OK", main:set("big", 2 ^ 53))
    assert.equal("9007199254740992", main:get "big")
    assert.equal("OK", main:set("tiny", -7))
    assert.equal("-7", main:get "tiny")
    assert.equal("OK", main:set("half", 0.1))
    assert.equal(0.1, tonumber(main:get "half"))
    assert.equal("OK", main:set("int64", 9223372036854775807LL))
    assert.equal("9223372036854775807", main:get "int64")
  end)
end)

describe("errors", function()
  it("of the server are BACKEND, and say what it said", function()
    main:set("s", "text")
    local err = fails("BACKEND", "WRONGTYPE Operation against a key holding the wrong kind of value",
      main:lpush("s", 1))
    assert.equal("WRONGTYPE", err.detail.error)
    assert.truthy(err.message:match "^redis main tcp://127.0.0.1:%d+: WRONGTYPE")
    err = fails("BACKEND", "unknown command", main:call("NOSUCH", "k"))
    assert.equal("ERR", err.detail.error)
    fails("BACKEND", "wrong number of arguments", main:call("SET", "k"))
    fails("BACKEND", "value is not an integer", main:incr "s")
    fails("BACKEND", "syntax error", main:set("k", "v", "XX", "NX"))
    assert.equal("text", main:get "s")
  end)

  it("of ours come before anything is sent", function()
    fails("BAD_ARGS", "argument 2", main:set("k", true))
    fails("BAD_ARGS", "argument 2", main:set("k", {}))
    fails("BAD_ARGS", "argument 2", main:set("k", null))
    fails("BAD_ARGS", "argument 2", main:set("k", nil))
    fails("BAD_ARGS", "argument 1", main:get {})
    fails("UNKNOWN_POOL", "nobody", fae.redis("nobody"):get "k")
    fails("BAD_ARGS", "pool:subscribe", main:call("SUBSCRIBE", "c"))
    assert.is_nil(main:get "k")
  end)

  it("tell what is too long, either way", function()
    local max = require("fae.node").about().message_max
    fails("LIMIT", "longer than message_max", main:set("k", ("x"):rep(max + 5000)))
    assert.is_nil(main:get "k")
    if by_bytes then return end
    fails("LIMIT", "longer than message_max", main:eval("return ('x'):rep(ARGV[1])", 0, max + 5000))
    assert.equal("PONG", main:ping())
    local list = main:eval("return {1, ('x'):rep(ARGV[1])}", 0, max - 100)
    assert.equal(max - 100, #list[2])
  end)

  it("tell whom nobody reached", function()
    local err = fails("UNAVAILABLE", "redis down tcp://127.0.0.1:", fae.redis("down"):get "k")
    assert.is_true(err.retryable)
    fails("UNAVAILABLE", "redis down", fae.redis("down"):set("k", "v"))
  end)

  it("open no breaker", function()
    main:set("s", "text")
    for _ = 1, 200 do assert.equal("BACKEND", select(2, main:lpush("s", 1)).code) end
    assert.equal("text", main:get "s")
  end)
end)

describe("a pool", function()
  it("logs in, selects its database, and speaks over unix sockets", function()
    assert.equal("OK", fae.redis("closed"):set("k", "v"))
    assert.equal("v", fae.redis("closed"):get "k")
    local _, err = fae.redis("wrong"):get "k"
    assert.truthy(err.code == "UNAVAILABLE" or err.code == "BACKEND" or err.code == "CIRCUIT_OPEN", tostring(err))
    fae.redis("db"):set("k", "three")
    assert.is_nil(main:get "k")
    main:set("k", "zero")
    assert.equal("three", fae.redis("db"):get "k")
    assert.equal("zero", fae.redis("unix"):get "k")
  end)

  it("spreads keys over its servers, and finds them again", function()
    for _, pool in ipairs { many, fae.redis "jump" } do
      assert.equal(3, (pool:servers()))
      for i = 1, 300 do assert.equal("OK", pool:set("user:" .. i, i)) end
      for i = 1, 300 do assert.equal(tostring(i), pool:get("user:" .. i)) end
      local sum = 0
      for i = 1, 3 do
        local n = pool:server(i):dbsize()
        assert.is_true(n > 30, i .. " has " .. n)
        sum = sum + n
      end
      assert.equal(300, sum)
      assert.equal(300, pool:dbsize())
      assert.equal(300, #pool:keys "user:*")
      pool:flushall()
    end
  end)

  it("splits what has many keys", function()
    local keys, values = {}, {}
    for i = 1, 100 do keys[i], values["k" .. i] = "k" .. i, "v" .. i end
    assert.equal("OK", many:mset(values))
    local got = many:mget(keys)
    for i = 1, 100 do assert.equal("v" .. i, got[i]) end
    assert.same({ "v2", null, "v1" }, many:mget("k2", "none", "k1"))
    assert.equal(100, many:exists(keys))
    assert.equal(3, many:touch("k1", "k2", "k3", "none"))
    assert.equal(2, many:del("k1", "k2"))
    assert.equal(98, many:unlink(keys))
    assert.equal(0, many:dbsize())
  end)

  it("keeps together what has the same {...}", function()
    many:sadd("{a}1", 1, 2, 3)
    many:sadd("{a}2", 2, 3, 4)
    local both = many:sinter("{a}1", "{a}2")
    table.sort(both)
    assert.same({ "2", "3" }, both)
    assert.equal("OK", many:rename("{a}1", "{a}3"))
    local n_apart = 0
    for i = 1, 20 do
      local _, err = many:sinter("x" .. i, "y" .. i)
      if err then
        fails("BAD_ARGS", "several servers", nil, err)
        n_apart = n_apart + 1
      end
    end
    assert.is_true(n_apart > 0)
  end)

  it("takes commands in any letters, and those that it has never heard of", function()
    assert.equal("OK", main:call("sEt", "k", "v"))
    assert.equal("v", main:call("GET", "k"))
    assert.equal("string", main:type "k")
    assert.equal("embstr", main:object("encoding", "k"))
    assert.truthy(main:info("server"):find "redis_version")
    assert.equal(1, #main:config("GET", "port") / 2)
  end)
end)

describe("a pipeline", function()
  it("answers in the order of asking, from all servers", function()
    local list = {}
    for i = 1, 200 do list[i] = { "SET", "k" .. i, i } end
    for i = 1, 200 do list[200 + i] = { "GET", "k" .. i } end
    for _, pool in ipairs { main, many } do
      local replies, err = pool:pipeline(list)
      assert.is_nil(err)
      assert.equal(400, #replies)
      for i = 1, 200 do assert.equal("OK", replies[i]) assert.equal(tostring(i), replies[200 + i]) end
    end
  end)

  it("has errors and nothing in their places", function()
    local replies, err = many:pipeline(function(p)
      p:set("s", "text")
      p:get "none"
      p:lpush("s", 1)
      p:incr "n"
    end)
    assert.equal("OK", replies[1])
    assert.equal(null, replies[2])
    assert.equal("BACKEND", replies[3].code)
    assert.equal("WRONGTYPE", replies[3].detail.error)
    assert.equal(1, replies[4])
    assert.equal(replies[3], err)
  end)
end)

describe("a transaction", function()
  it("is done as a whole", function()
    assert.same({ "OK", 6, null }, main:multi("k", function(tx)
      tx:set("k", 5)
      tx:incr "k"
      tx:get "none"
    end))
    assert.equal("6", main:get "k")
  end)

  it("goes on after an error of a command, as redis has it, and not after one that redis cannot read", function()
    local replies, err = main:multi("k", function(tx)
      tx:set("k", "text")
      tx:incr "k"
      tx:set("l", "there")
    end)
    assert.equal("OK", replies[1])
    assert.equal("BACKEND", replies[2].code)
    assert.equal(replies[2], err)
    assert.equal("there", main:get "l")
    fails("BACKEND", "wrong number of arguments", main:multi("k", function(tx)
      tx:set("m", "there")
      tx:call("SET", "m")
    end))
    assert.is_nil(main:get "m")
    assert.same({ "OK" }, main:multi("k", function(tx) tx:set("k", "v") end))
  end)

  it("does nothing when what it watched was changed", function()
    main:set("coins", 10)
    local function spend(between)
      return main:multi("coins", function(tx)
        local coins = tonumber(tx:read("GET", "coins"))
        if between then between() end
        tx:set("coins", coins - 3)
      end, { watch = "coins" })
    end
    assert.same({ "OK" }, spend())
    assert.equal("7", main:get "coins")
    local err = fails("CONFLICT", "changed", spend(function() main:set("coins", 100) end))
    assert.is_true(err.retryable)
    assert.equal("100", main:get "coins")
    assert.same({ "OK" }, spend())
    assert.equal("97", main:get "coins")
  end)

  it("leaves nothing to the next", function()
    main:set("k", 1)
    assert.is_false(main:multi("k", function() return false end, { watch = "k" }))
    assert.has_error(function() main:multi("k", function() error "oops" end, { watch = "k" }) end)
    for _ = 1, 20 do
      main:incr "k"
      assert.same({ 1 }, main:multi("k", function(tx) tx:sadd("s", fae.time.monotonic_us()) end))
    end
  end)

  it("is not mixed with others", function()
    local fns = {}
    for i = 1, 50 do
      fns[i] = function()
        return main:multi("n", function(tx)
          tx:incr "n"
          tx:incr "n"
        end)
      end
    end
    local results, errors = fae.parallel(fns)
    assert.is_nil(errors)
    for i = 1, 50 do assert.equal(results[i][1] + 1, results[i][2]) end
    assert.equal("100", main:get "n")
  end)
end)

describe("commands that block", function()
  it("wait beside all others", function()
    local results = fae.parallel {
      function() return main:blpop("q", 5) end,
      function()
        for i = 1, 20 do assert.equal("OK", main:set("k", i)) end
        return main:rpush("q", "job")
      end,
    }
    assert.same({ "q", "job" }, results[1])
    assert.is_nil(main:blpop("q", 0.02))
    main:xadd("x", "1-1", "f", "v")
    assert.same({ { "x", { { "1-1", { "f", "v" } } } } }, main:xread("BLOCK", 1000, "STREAMS", "x", "0"))
    assert.is_nil(main:xread("BLOCK", 20, "STREAMS", "x", "$"))
    fails("BACKEND", "WRONGTYPE", main:blpop("x", 0.1))
  end)

  it("have a connection of their own for wait", function()
    assert.equal(0, main:alone("k", function(conn)
      assert.equal("OK", conn:set("k", "v"))
      return conn:wait(0, 100)
    end))
  end)
end)

describe("scripts", function()
  it("are sent by SHA, and again to who has forgotten them", function()
    local script = many:script "return {KEYS[1], ARGV[1], redis.call('INCR', KEYS[1])}"
    for i = 1, 30 do assert.same({ "k" .. i, "a", 1 }, script:eval("k" .. i, "a")) end
    many:call("SCRIPT", "FLUSH")
    assert.same({ "k1", "b", 2 }, script:eval({ "k1" }, { "b" }))
    fails("BACKEND", "oops", main:script("return redis.error_reply('MINE oops')"):eval "k")
    fails("BACKEND", "Error compiling script", main:script("nonsense("):eval "k")
    assert.equal(bytes, main:script("return ARGV[1]"):eval("k", bytes))
  end)
end)

describe("a server that a reload took away", function()
  it("is an answer to who still has its number", function()
    local core = require "fae.core"
    local h = core.redis_open "main"
    fails("BAD_ARGS", "no server 2", core.redis_call(h, 1, 0, "PING"))
    fails("BAD_ARGS", "no server 2", core.redis_batch(h, 1, 0, { { "PING" } }))
    fails("BAD_ARGS", "no server 2", core.redis_borrow(h, 1))
    fails("BAD_ARGS", "no server 2", core.redis_server_name(h, 1))
  end)
end)

describe("subscriptions", function()
  it("bring messages in order, from all servers, until they are stopped", function()
    local got = {}
    local channels = {}
    for i = 1, 8 do channels[i] = "c" .. i end
    local sub = many:subscribe(channels, function(message, channel)
      got[channel] = got[channel] or {}
      table.insert(got[channel], message)
    end)
    until_true("subscribed", function()
      for i = 1, 8 do
        if many:publish("c" .. i, "first") ~= 1 then return false end
      end
      return true
    end)
    for n = 1, 50 do many:publish("c" .. (n % 8 + 1), "m" .. n) end
    many:publish("c1", bytes)
    until_true("all of them", function()
      for i = 1, 8 do
        local list = got["c" .. i]
        if not list or (i == 1 and list[#list] ~= bytes) then return false end
        local n = 0
        for _, message in ipairs(list) do if message:match "^m" then n = n + 1 end end
        if n < (i <= 3 and i >= 2 and 7 or 6) then return false end
      end
      return true
    end)
    local last = 0
    for _, message in ipairs(got.c3) do
      local n = tonumber(message:match "^m(%d+)")
      if n then
        assert.is_true(n > last)
        last = n
      end
    end
    assert.is_true(sub:stop())
    assert.is_false(sub:stop())
    local n = #got.c2
    until_true("nobody hears", function() return many:publish("c2", "late") == 0 end)
    assert.equal(n, #got.c2)
  end)

  it("have patterns", function()
    local got
    local sub = main:psubscribe("news.*", function(message, channel, pattern) got = { message, channel, pattern } end)
    until_true("heard", function()
      main:publish("news.art", "hello")
      return got ~= nil
    end)
    assert.same({ "hello", "news.art", "news.*" }, got)
    sub:stop()
  end)

  it("outlive a function that yields, or raises", function()
    local got = {}
    local sub = main:subscribe("c", function(message)
      got[#got + 1] = message
      if message == "yield" then coroutine.yield() end
      if message == "raise" then error "on purpose" end
    end)
    until_true("subscribed", function() return main:publish("c", "hello") == 1 end)
    for _, message in ipairs { "yield", "raise", "yield", "yield", "end" } do main:publish("c", message) end
    until_true("all of them", function() return #got == 6 end)
    assert.same({ "hello", "yield", "raise", "yield", "yield", "end" }, got)
    assert.equal(0, sub:stats().waiting)
    sub:stop()
  end)

  it("come back after their connection was lost", function()
    local n = 0
    local sub = main:subscribe("c", function() n = n + 1 end)
    until_true("heard", function() main:publish("c", "x") return n > 0 end)
    assert.is_true(main:client("KILL", "TYPE", "pubsub") >= 1)
    until_true("lost", function() return sub:stats().lost == 1 end)
    n = 0
    until_true("heard again", function()
      main:publish("c", "x")
      return n > 0 and sub:stats().connected == 1
    end)
    sub:stop()
  end)

  it("drop nothing of a burst that their function can take", function()
    local n = 0
    local sub = main:subscribe("c", function(message) if message == "burst" then n = n + 1 end end)
    until_true("subscribed", function() return main:publish("c", "x") == 1 end)
    local n_all = by_bytes and 300 or 20000
    main:eval("for i = 1, ARGV[1] do redis.call('PUBLISH', 'c', 'burst') end", 0, n_all)
    until_true("all of them", function() return n == n_all end)
    assert.equal(0, sub:stats().dropped)
    sub:stop()
  end)

  it("drop and count what a slow function cannot take", function()
    local gate, n = false, 0
    local sub = main:subscribe("c", function()
      n = n + 1
      while not gate do fae.sleep(5) end
    end, { queue = 10 })
    until_true("heard", function() main:publish("c", "x") return n > 0 end)
    for _ = 1, 50 do main:publish("c", "x") end
    until_true("dropped", function() return sub:stats().dropped >= 40 end)
    assert.is_true(sub:stats().waiting <= 10)
    gate = true
    until_true("all done", function() return sub:stats().waiting == 0 end)
    assert.equal(sub:stats().received, n + sub:stats().dropped)
    sub:stop()
  end)

  it("survive what their function raises", function()
    local n = 0
    local sub = main:subscribe("c", function()
      n = n + 1
      if n == 1 then error(fae.err("NOT_FOUND", "on purpose")) end
    end)
    until_true("heard twice", function() main:publish("c", "x") return n > 1 end)
    sub:stop()
  end)

  it("are refused when they are wrong", function()
    assert.has_error(function() main:subscribe("c") end)
    assert.has_error(function() main:subscribe({}, print) end)
    assert.has_error(function() main:subscribe({ 1 }, print) end)
    assert.has_error(function() main:subscribe("c", print, { que = 1 }) end)
    assert.has_error(function() main:subscribe("c", print, { queue = 0 }) end)
  end)
end)

-- What the server says of its commands, against lua/fae/redis_commands.lua.
describe("the table of commands", function()
  local table_of = require "fae.redis_commands"

  local function has(list, word)
    for _, one in ipairs(list) do if one == word then return true end end
    return false
  end

  it("knows every command, which only read, and where keys stand", function()
    local n = 0
    for _, c in ipairs(main:command()) do
      local name, flags, first, last, step = c[1], c[3], c[4], c[5], c[6]
      local row = table_of.known[name]
      assert.is_table(row, name .. " is missing")
      if not row.refused then
        n = n + 1
        assert.is_false(row.flags == 1 and has(flags, "write"), name .. " writes")
        assert.equal(has(flags, "blocking"), row.block ~= nil, name .. " blocks")
        if row.single or (row.first and not row.count and first > 0) then
          local is = row.single and { 1, 1, 1 } or { row.first, row.last, row.step }
          assert.same({ first, last, step }, name:match "publish$" and { first, last, step } or is, name)
        elseif not row.word and not row.count and not row.first then
          assert.equal(0, first, name)
        end
      end
    end
    assert.is_true(n > 180, n .. " commands")
  end)

  it("finds the keys that the server finds", function()
    for _, cmd in ipairs {
      { "GET", "a" }, { "MSET", "a", "1", "b", "2" }, { "MGET", "a", "b" }, { "ZUNIONSTORE", "a", 2, "b", "c" },
      { "EVAL", "x", 2, "a", "b", "c" }, { "BITOP", "AND", "a", "b", "c" }, { "BLPOP", "a", "b", 1 },
      { "XREAD", "COUNT", 1, "STREAMS", "a", "b", 0, 0 }, { "SORT", "a", "BY", "x", "STORE", "b" },
      { "BLMPOP", 1, 2, "a", "b", "LEFT" }, { "ZDIFF", 2, "a", "b" }, { "LMOVE", "a", "b", "LEFT", "LEFT" },
      { "GEORADIUS", "a", 1, 1, 1, "km", "STORE", "b" }, { "XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", ">" },
      { "OBJECT", "ENCODING", "a" }, { "XGROUP", "CREATE", "a", "g", "$" }, { "BRPOPLPUSH", "a", "b", 1 },
    } do
      local row, args = table_of.known[cmd[1]], { unpack(cmd, 2) }
      assert.same(main:command("GETKEYS", unpack(cmd)), fae.array(table_of.keys(row, args, #args)), cmd[1])
    end
  end)
end)

describe("rd", function()
  it("is for clients", function()
    assert.equal("OK", fae.call("rd.call", "main", "SET", "k", "v"))
    assert.equal("v", fae.call("rd.call", "main", "get", "k"))
    assert.is_nil(fae.call("rd.call", "main", "GET", "none"))
    assert.same({ "v", null }, fae.call("rd.call", "main", "MGET", "k", "none"))
    assert.equal(0, fae.call("rd.call", "many", "DEL", "none", "nothing", "nowhere"))
    fails("UNKNOWN_POOL", "nobody", fae.call("rd.call", "nobody", "GET", "k"))
    for i = 1, 3 do
      assert.equal("PONG", fae.call("rd.call", "many#" .. i, "PING"))
      assert.equal("0", fae.call("rd.call", "many#" .. i, "SCAN", "0")[1])
      assert.equal(many:server(i):get "k", fae.call("rd.call", "many#" .. i, "GET", "k"))
    end
    fails("BAD_ARGS", "has no server 4", fae.call("rd.call", "many#4", "GET", "k"))
    for _, name in ipairs { "many#0", "many#", "many#1000", "many#x", "#1", "nobody#1" } do
      fails("UNKNOWN_POOL", "", fae.call("rd.call", name, "GET", "k"))
    end
    fails("BAD_ARGS", "", fae.call("rd.call", "main"))
    fails("BAD_ARGS", "argument 2", fae.call("rd.call", "main", "SET", "k", {}))
    fails("BACKEND", "WRONGTYPE", fae.call("rd.call", "main", "LPUSH", "k", "x"))
    fails("BACKEND", "unknown command", fae.call("rd.call", "main", "NOSUCH", "x"))
    fails("BACKEND", "wrong number of arguments", fae.call("rd.call", "main", "GET", "k", "l"))
    assert.same({ "OK", "v" }, fae.call("rd.pipeline", "main", { { "SET", "k", "v" }, { "GET", "k" } }))
    fails("BAD_ARGS", "[1]", fae.call("rd.pipeline", "main", { "SET" }))
  end)

  it("answers fae's rd_call in texts", function()
    local function old(...) return fae.call("rd_call", ...) end
    assert.equal("OK", old("SET", "main", { "k", "v" }))
    assert.equal("v", old("GET", "main", { "k" }))
    assert.is_nil(old("GET", "main", { "none" }))
    assert.is_nil(old("HGET", "main", { "none", "f" }))
    assert.equal("1", old("INCR", "main", { "n" }))
    assert.equal('["v",null,"1"]', old("MGET", "main", { "k", "none", "n" }))
    assert.equal('["1",["a",null]]', old("EVAL", "main", { "return {1, {'a', false}}", "0" }))
    assert.equal("[]", old("LRANGE", "main", { "none", "0", "-1" }))
    fails("BAD_ARGS", "key", old("GET", "main", {}))
    fails("UNKNOWN_POOL", "nobody", old("GET", "nobody", { "k" }))
  end)
end)
