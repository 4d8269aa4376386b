-- SPDX-License-Identifier: BSD-2-Clause
--
-- What is to be known of redis' commands to send them to the right server of a pool: where their keys stand, which only
-- read, which block, what becomes of them when keys lie on several servers. One row a command, by its name in upper and
-- in lower case:
--
--   name          "GET"
--   flags         READ: may be sent again once after a lost connection. No write may
--   single        its first argument is its only key
--   first, last, step   arguments that are keys, from 1; last -1: up to the end, -2: up to the one before
--   count         the argument that says how many keys follow it; besides those of first and last
--   word          "STREAMS": half of what follows it are keys; "STORE": what follows it is a key too; "BY": that, and
--                 what follows BY and GET makes keys; "KEYS": all that follows it, when the third argument is ""
--   block         how it says for how long: "last" or "first" argument in seconds, "word": BLOCK in milliseconds
--   split         on several servers each gets its keys, step arguments a key; the answers are put together:
--                 "values" in the order of asking, "sum", "same"
--   all           without keys, for every server: "sum", "same" or "concat" of the answers; all_sub: with these first
--                 arguments
--   operator      for servants alone: a client would be told the password with it, or could change it
--   refused       why it is not sent, and what to use instead; refused_sub: the same by its first argument
local M = {}

local READ = 1
local commands = {}

local function add(names, row)
  for name in names:gmatch "%S+" do
    local own = { name = name:upper(), flags = 0 }
    for key, value in pairs(row) do own[key] = value end
    commands[name], commands[own.name] = own, own
  end
end

-- ---- one key ----

add([[bitcount bitfield_ro bitpos dump expiretime geodist geohash geopos georadius_ro georadiusbymember_ro geosearch
  get getbit getrange hexists hget hgetall hkeys hlen hmget hrandfield hscan hstrlen hvals lindex llen lpos lrange
  pexpiretime pttl scard sismember smembers smismember srandmember sscan strlen substr ttl type xlen
  xpending xrange xrevrange zcard zcount zlexcount zmscore zrandmember zrange zrangebylex zrangebyscore zrank
  zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore]], { single = true, flags = READ })

add([[append bitfield decr decrby expire expireat geoadd getdel getex getset hdel hincrby hincrbyfloat hmset hset hsetnx
  incr incrby incrbyfloat linsert lpop lpush lpushx lrem lset ltrim move persist pexpire pexpireat pfadd psetex restore
  rpop rpush rpushx sadd set setbit setex setnx setrange spop srem xack xadd xautoclaim xclaim xdel xsetid xtrim zadd
  zincrby zpopmax zpopmin zrem zremrangebylex zremrangebyrank zremrangebyscore]], { single = true })

-- A channel lies on a server as a key does; pool:subscribe looks for it there.
add("publish spublish", { single = true })

-- ---- several keys, all on one server ----

add("sdiff sinter sunion pfcount", { first = 1, last = -1, step = 1, flags = READ })
add("lcs", { first = 1, last = 2, step = 1, flags = READ })
add("sintercard zdiff zinter zintercard zunion", { count = 1, flags = READ })
add("pfmerge sdiffstore sinterstore sunionstore", { first = 1, last = -1, step = 1 })
add("copy geosearchstore lmove rename renamenx rpoplpush smove zrangestore", { first = 1, last = 2, step = 1 })
add("zdiffstore zinterstore zunionstore", { first = 1, last = 1, step = 1, count = 2 })
add("lmpop zmpop", { count = 1 })
add("msetnx", { first = 1, last = -1, step = 2 })
add("bitop", { first = 2, last = -1, step = 1 })
add("georadius georadiusbymember", { first = 1, last = 1, step = 1, word = "STORE" })
add("sort", { first = 1, last = 1, step = 1, word = "BY" })
add("sort_ro", { first = 1, last = 1, step = 1, word = "BY", flags = READ })
add("migrate", { word = "KEYS" })
add("eval evalsha fcall", { count = 2 })
add("eval_ro evalsha_ro fcall_ro", { count = 2, flags = READ })
add("object memory xinfo", { first = 2, last = 2, step = 1, flags = READ })
add("xgroup", { first = 2, last = 2, step = 1 })

-- ---- several keys, on any servers ----

add("mget", { first = 1, last = -1, step = 1, split = "values", flags = READ })
add("exists", { first = 1, last = -1, step = 1, split = "sum", flags = READ })
add("touch del unlink", { first = 1, last = -1, step = 1, split = "sum" })
add("mset", { first = 1, last = -1, step = 2, split = "same" })

-- ---- those that block ----

add("blpop brpop bzpopmin bzpopmax", { first = 1, last = -2, step = 1, block = "last" })
add("blmove brpoplpush", { first = 1, last = 2, step = 1, block = "last" })
add("blmpop bzmpop", { count = 2, block = "first" })
add("xread", { word = "STREAMS", block = "word", flags = READ })
add("xreadgroup", { word = "STREAMS", block = "word" })

-- ---- no key ----

add("dbsize", { all = "sum", flags = READ })
add("keys", { all = "concat", flags = READ })
add("ping echo", { all = "same", flags = READ })
add("flushdb flushall", { all = "same" })
add("scan randomkey time info lastsave lolwut pubsub", { flags = READ })
add("command", { flags = READ, refused_sub = { DOCS = "its answer has lists in more lists than are read here" } })
add("bgrewriteaof bgsave function latency role save slowlog swapdb", {})
add("acl cluster config failover module", { operator = true })

local shared = "the pool's connections are shared by many calls; "
add("script", { all = "same", all_sub = { LOAD = true, FLUSH = true },
  refused_sub = { DEBUG = shared .. "its next script would take it away" } })
add("client", { refused_sub = {} })
for sub in ("CACHING CAPA IMPORT-SOURCE NO-EVICT NO-TOUCH REPLY SETINFO SETNAME TRACKING"):gmatch "%S+" do
  commands.client.refused_sub[sub] = shared .. "it would change one of them for all"
end

-- ---- not sent ----

add("subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe",
  { refused = shared .. "pool:subscribe and pool:psubscribe take one of their own, and its stop() ends it" })
add("multi exec discard watch unwatch", { refused = shared .. "pool:multi takes one of its own" })
add("select", { refused = shared .. "the database is the option db of the pool" })
add("auth hello", { refused = shared .. "who logs in are the options user and password of the pool" })
add("quit reset", { refused = shared .. "the node opens and closes them" })
add("monitor sync psync replconf", { refused = shared .. "it would make one of them something else" })
add("readonly readwrite asking restore-asking", { refused = shared .. "the pool's servers are no redis cluster" })
add("post host:", { refused = "redis takes it for an attack, and closes the connection" })
add("wait waitaof", { refused = "it waits for what its own connection wrote: pool:alone gives one" })
add("shutdown debug replicaof slaveof pfdebug pfselftest",
  { refused = "it is for whoever runs the server, by redis-cli" })

--- row(name) -> the row of a command in any letters; one that is not known is taken to have its key first.
function M.row(name)
  local row = commands[name]
  if row then return row end
  local upper = name:upper()
  row = commands[upper]
  if row then return row end
  if not name:match "^[%w_.-]+$" or #name > 128 then return nil end
  return { name = upper, flags = 0, first = 1, last = 1, step = 1, unknown = true }
end

M.known = commands
M.READ = READ

-- ---- keys ----

local function find_word(args, n, word)
  for i = 1, n do
    if type(args[i]) == "string" and args[i]:upper() == word then return i end
  end
end

local function of_streams(args, n, keys)
  local at = find_word(args, n, "STREAMS")
  if not at then return nil, "STREAMS and keys are missing" end
  for i = at + 1, at + math.floor((n - at) / 2) do keys[#keys + 1] = args[i] end
  return keys
end

local function of_store(args, n, keys)
  for i = 2, n - 1 do
    local word = type(args[i]) == "string" and args[i]:upper()
    if word == "STORE" or word == "STOREDIST" then keys[#keys + 1] = args[i + 1] end
  end
  return keys
end

-- A pattern makes keys of what is in the list, which lie anywhere unless its {...} says where.
local function of_sort(args, n, keys)
  for i = 2, n - 1 do
    local word, pattern = type(args[i]) == "string" and args[i]:upper(), args[i + 1]
    if (word == "BY" or word == "GET") and type(pattern) == "string" and pattern:find("*", 1, true) then
      local tag = pattern:match "{([^}]+)}"
      if not tag or tag:find("*", 1, true) then
        return nil, "the keys of its " .. word .. " may lie on other servers, unless their {...} is that of the list"
      end
      keys[#keys + 1] = pattern
    end
  end
  return of_store(args, n, keys)
end

local function of_migrate(args, n, keys)
  if args[3] ~= "" then
    keys[1] = args[3]
    return keys
  end
  local at = find_word(args, n, "KEYS")
  for i = (at or n) + 1, n do keys[#keys + 1] = args[i] end
  return keys
end

local function of_count(row, args, n, keys)
  local count = tonumber(args[row.count])
  if not count or count < 0 or count % 1 ~= 0 or row.count + count > n then
    return nil, ("argument %d says how many keys follow"):format(row.count)
  end
  for i = row.count + 1, row.count + count do keys[#keys + 1] = args[i] end
  return keys
end

--- keys(row, args, n) -> the keys among these arguments, a list | nil, what is wrong
function M.keys(row, args, n)
  local keys = {}
  if row.single then
    keys[1] = args[1]
    return keys
  end
  if row.first then
    for i = row.first, row.last < 0 and n + 1 + row.last or math.min(row.last, n), row.step do
      keys[#keys + 1] = args[i]
    end
  end
  if row.count then return of_count(row, args, n, keys) end
  if row.word == "STREAMS" then return of_streams(args, n, keys) end
  if row.word == "STORE" then return of_store(args, n, keys) end
  if row.word == "BY" then return of_sort(args, n, keys) end
  if row.word == "KEYS" then return of_migrate(args, n, keys) end
  return keys
end

-- ---- blocking ----

--- block(row, args, n) -> the argument that says for how long, how many milliseconds its unit has | nil: does not block
function M.block(row, args, n)
  if row.block == "last" then return n, 1000 end
  if row.block == "first" then return 1, 1000 end
  if row.block == "word" then
    local at, streams = find_word(args, n, "BLOCK"), find_word(args, n, "STREAMS")
    if at and at < (streams or n) then return at + 1, 1 end
  end
end

--- goes_to_all(row, first argument): is it for every server?
function M.goes_to_all(row, sub)
  return row.all ~= nil and (not row.all_sub or (type(sub) == "string" and row.all_sub[sub:upper()] ~= nil))
end

--- refused(row, first argument) -> why it is not sent, or nil
function M.refused(row, sub)
  if row.refused then return row.refused end
  return row.refused_sub and type(sub) == "string" and row.refused_sub[sub:upper()]
end

return M
