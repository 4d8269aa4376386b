-- SPDX-License-Identifier: BSD-2-Clause
--
-- back: calls of redis and memcached as a test wants them, timed where they are made. `kind` is "redis" or "memcache",
-- `pool` the name of its pool. Keys that servers are filled with tell their value, so that a wrong one is seen.
local fae = require "fae"
local back = fae.servant "back"
local about = require("fae.node").about
local now = fae.time.monotonic_us

local function code_of(err)
  return type(err) == "table" and err.code or err and tostring(err) or nil
end

-- {microseconds, code of the error or false} of fn(...)
local function timed(fn, ...)
  local begun = now()
  local value, err = fn(...)
  return { now() - begun, value == nil and code_of(err) or false }
end

local function get(kind, pool, key)
  local value, err = (kind == "redis" and fae.redis or fae.memcache)(pool):get(key)
  if value ~= nil then return value end -- memcache's flags are no err
  return nil, err
end

local function method(name, args, timeout_ms, fn)
  back.method(name, { args = args, timeout_ms = timeout_ms }, function(_, ...) return fn(...) end)
end

method("pid", {}, 5000, function() return about().pid end)

method("get", { "string", "string", "string" }, 5000, get)

method("set", { "string", "string", "string", "string" }, 5000, function(kind, pool, key, value)
  local done, err = (kind == "redis" and fae.redis or fae.memcache)(pool):set(key, value)
  if not done then return nil, err end
  return true
end)

method("incr", { "string", "string", "string" }, 5000, function(kind, pool, key)
  return (kind == "redis" and fae.redis or fae.memcache)(pool):incr(key)
end)

method("call", { "string", "string", "..." }, 60000, function(pool, ...) return fae.redis(pool):call(...) end)

-- ---- operations of every kind, one by number ----

local function parallel_gets(kind, pool)
  local fns = {}
  for i = 1, 5 do fns[i] = function() return get(kind, pool, "p" .. i) end end
  local done, errors = fae.parallel(fns)
  if not done then return nil, errors end
  if errors then return nil, select(2, next(errors)) end
  return true
end

local function listen_a_moment(pool)
  local subscription = fae.redis(pool):subscribe({ "c", "d" }, function() end)
  fae.sleep(20)
  return subscription:stop()
end

local operations = {
  redis = {
    function(pool) return fae.redis(pool):get "k" end,
    function(pool) return fae.redis(pool):mget { "a", "b", "c" } end,
    function(pool) return fae.redis(pool):set("s", ("v"):rep(1000)) end,
    function(pool) return fae.redis(pool):incr "n" end,
    function(pool) return fae.redis(pool):lrange("l", 0, -1) end,
    function(pool) return parallel_gets("redis", pool) end,
    function(pool) return fae.redis(pool):call("BLPOP", "q", 1) end,
    function(pool) return fae.redis(pool):pipeline { { "GET", "a" }, { "SET", "b", 1 }, { "LRANGE", "c", 0, 9 } } end,
    function(pool) return fae.redis(pool):multi("m", function(tx) tx:set("m", 1) tx:get "m" end, { watch = "m" }) end,
    function(pool) return fae.redis(pool):alone("a", function(conn) return conn:get "a" end) end,
    function(pool) return fae.redis(pool):script("return 1"):eval("k", 1) end,
    listen_a_moment,
  },
  memcache = {
    function(pool) return fae.memcache(pool):get "k" end,
    function(pool) return fae.memcache(pool):get_many { "a", "b", "c" } end,
    function(pool) return fae.memcache(pool):set("s", ("v"):rep(1000)) end,
    function(pool) return fae.memcache(pool):incr "n" end,
    function(pool) return fae.memcache(pool):delete "d" end,
    function(pool) return parallel_gets("memcache", pool) end,
    function(pool) return fae.memcache(pool):touch("k", 10) end,
    function(pool) return fae.memcache(pool):add("s", "v") end,
    function(pool) return fae.memcache(pool):cas("s", "v", 7) end,
  },
}

local function operate(kind, pool, number)
  local list = operations[kind]
  return timed(list[number % #list + 1], pool)
end

method("get_timed", { "string", "string", "int" }, 30000, function(kind, pool, i)
  return timed(get, kind, pool, "k" .. i)
end)
method("some", { "string", "string", "int" }, 1000, operate)
method("soon", { "string", "string", "int" }, 150, operate)

-- ---- many at once ----

-- n gets of keys k0 to k<n_keys - 1>, in_flight at a time: {ok, wrong, missing, codes = {code = n}, max_us}
method("many", { "string", "string", "int", "int", "int" }, 600000, function(kind, pool, n, in_flight, n_keys)
  local out, fns = { ok = 0, wrong = 0, missing = 0, codes = fae.map {}, max_us = 0 }, {}
  local left = n
  local function one()
    local i = math.random(0, n_keys - 1)
    local begun = now()
    local value, err = get(kind, pool, "k" .. i)
    out.max_us = math.max(out.max_us, now() - begun)
    if value == ("value of k%d."):format(i) then out.ok = out.ok + 1
    elseif value ~= nil then
      out.wrong = out.wrong + 1
      out.example = ("k%d: %s"):format(i, tostring(value):sub(1, 100))
    elseif err then out.codes[code_of(err)] = (out.codes[code_of(err)] or 0) + 1
    else out.missing = out.missing + 1
    end
  end
  for i = 1, in_flight do
    fns[i] = function()
      while left > 0 do
        left = left - 1
        one()
      end
    end
  end
  local done, err = fae.parallel(fns)
  if not done then return nil, err end
  return out
end)

-- n calls of one command at once, in order: {{microseconds until it was answered, code}, ...}
method("burst", { "string", "int", "..." }, 60000, function(pool, n, ...)
  local fns, command, out = {}, { ... }, {}
  for i = 1, n do
    fns[i] = function()
      out[i] = timed(function() return fae.redis(pool):call(unpack(command)) end)
    end
  end
  local done, err = fae.parallel(fns)
  if not done then return nil, err end
  return fae.array(out)
end)

return back
