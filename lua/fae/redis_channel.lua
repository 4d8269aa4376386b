-- SPDX-License-Identifier: BSD-2-Clause
--
-- Subscriptions: a task and a connection for each server that has one of the channels, for as long as the generation
-- lives. A lost connection is made anew, with pauses that grow; what was published meanwhile nobody has heard, as
-- redis has it. Messages are handed to the function one after the other, by a task of their own that lives while there
-- are any; what comes while too many wait is dropped and counted.
local core = require "fae.core"
local failure = require "fae.failure"
local route = require "fae.redis_route"

local M = {}

local QUEUE_MAX = 1000
local QUEUE_BYTES = 16 * 1048576
local CHANNELS_MAX = 1000
local SLICE_MS = 1000 -- how often a task that hears nothing looks whether it is to end
local IDLE_SLICES = 30 -- without a word for so long, the server is asked for one
local PAUSE_MS, PAUSE_MAX_MS = 100, 5000

local subs = setmetatable({}, { __mode = "k" })
local Subscription = {}
local mark = { __index = Subscription, __metatable = "redis subscription",
  __newindex = function() error("a subscription takes no fields", 2) end }

-- ---- handing out ----

local function drain(sub)
  while sub.first <= sub.last do
    local item = sub.queue[sub.first]
    sub.queue[sub.first] = nil
    sub.first, sub.bytes = sub.first + 1, sub.bytes - #item[1]
    if not sub.stopped then failure.call(sub.fn, item[1], item[2], item[3]) end
  end
end

-- A task whose function yields into nowhere ends there and then: it is a child, and another one goes on with the next
-- message.
local function hand_out(sub)
  local ok = true
  while ok and sub.first <= sub.last do
    core.start(drain, sub)
    ok = core.join()
  end
  sub.draining = false
end

local function is_full(sub, more)
  return sub.last - sub.first + 1 >= sub.queue_max or sub.bytes + more > QUEUE_BYTES
end

local function deliver(sub, message, channel, pattern)
  sub.received = sub.received + 1
  if is_full(sub, #message) then
    if sub.dropped == 0 then
      core.log(2, ("redis %s: a subscription's function is too slow, messages are dropped"):format(sub.own.name),
        { channel = channel })
    end
    sub.dropped = sub.dropped + 1
    return
  end
  sub.last = sub.last + 1
  sub.queue[sub.last], sub.bytes = { message, channel, pattern }, sub.bytes + #message
  if not sub.draining then
    sub.draining = true
    core.spawn(hand_out, sub)
  end
end

-- ---- one server ----

local function hear(sub, push)
  if type(push) ~= "table" then return end
  local kind = push[1]
  if kind == "message" and type(push[3]) == "string" then
    deliver(sub, push[3], push[2])
  elseif kind == "pmessage" and type(push[4]) == "string" then
    deliver(sub, push[4], push[3], push[2])
  end
end

-- Many messages may come at once: a function that does not wait gets its turn before any is dropped.
local function make_room(sub)
  if not is_full(sub, 0) or sub.yielded_at == sub.first then return true end
  sub.yielded_at = sub.first
  return core.sleep(0)
end

-- What no redis sends to who listens: nil.
local function no_push(sub) return select(2, route.wrong(sub.own, sub.word, nil)) end

-- Until the connection is lost or nobody wants it. -> err | nil: stopped
local function listen(sub, conn)
  local idle = 0
  while not sub.stopped do
    local push, err = core.redis_conn_next(conn, SLICE_MS)
    if push ~= nil then
      idle = 0
      local ok
      ok, err = make_room(sub)
      if not ok then return err end
      hear(sub, push)
    elseif not err then
      return no_push(sub)
    elseif err.code ~= "TIMEOUT" then
      return err
    else
      idle = idle + 1
      if idle % IDLE_SLICES == 0 then
        push, err = core.redis_conn_call(conn, nil, "PING") -- what comes first may be a message
        if err then return err end
        hear(sub, push)
      end
    end
  end
end

local function attempt(sub, at, channels)
  local conn, err = core.redis_borrow(sub.own.h, at)
  if not conn then return err end
  local push
  push, err = core.redis_conn_call(conn, nil, sub.word, unpack(channels))
  if push ~= nil then
    if sub.told[at] then core.log(1, ("redis %s: subscribed again"):format(sub.own.name)) end
    sub.told[at], sub.pause_ms[at] = nil, PAUSE_MS
    sub.connected = sub.connected + 1
    hear(sub, push)
    err = listen(sub, conn)
    sub.connected = sub.connected - 1
    sub.lost = sub.lost + (err and 1 or 0)
  end
  if push == nil and not err then err = no_push(sub) end
  core.redis_conn_give(conn, false)
  return err
end

local function serve(sub, at, channels)
  sub.pause_ms[at] = PAUSE_MS
  while not sub.stopped do
    local err = attempt(sub, at, channels)
    if not err or sub.stopped or err.code == "RELOADED" or err.code == "UNKNOWN_POOL" then return end
    if not sub.told[at] then
      core.log(2, ("redis %s: a subscription is lost, and tried again: %s"):format(sub.own.name, err.message))
      sub.told[at] = true
    end
    local pause = sub.pause_ms[at]
    sub.pause_ms[at] = math.min(pause * 2, PAUSE_MAX_MS)
    if not core.sleep(pause * (0.75 + math.random() / 2)) then return end
  end
end

-- ---- which servers ----

-- {server = channels}: a channel's own server, as for its publish; a pattern's are all.
local function places(sub)
  local n, err = route.servers(sub.own)
  if not n then return nil, err end
  local by_server = {}
  if sub.own.at then
    n, err = route.bound(sub.own)
    if not n then return nil, err end
  end
  for _, channel in ipairs(sub.channels) do
    local first, last = 0, n - 1
    if sub.own.at then
      first, last = sub.own.at, sub.own.at
    elseif sub.word == "SUBSCRIBE" then
      first, err = route.pick(sub.own, channel, "subscribe")
      if not first then return nil, err end
      last = first
    end
    for at = first, last do
      by_server[at] = by_server[at] or {}
      table.insert(by_server[at], channel)
    end
  end
  return by_server
end

local function start(sub)
  local by_server, err = places(sub)
  if not by_server then
    core.log(3, ("redis %s: nothing is subscribed to: %s"):format(sub.own.name, err.message))
    return
  end
  for at, channels in pairs(by_server) do core.spawn(serve, sub, at, channels) end
end

-- ---- declaring ----

local function check_channels(what, channels)
  if type(channels) == "string" then return { channels } end
  if type(channels) ~= "table" or #channels == 0 or #channels > CHANNELS_MAX then
    error(("pool:%s takes a channel, or a list of 1 to %d"):format(what, CHANNELS_MAX), 3)
  end
  local own = {}
  for i = 1, #channels do
    if type(channels[i]) ~= "string" then error(("pool:%s: channel %d is no string"):format(what, i), 3) end
    own[i] = channels[i]
  end
  return own
end

local function check_options(what, options)
  for key, value in pairs(options or {}) do
    if (key ~= "queue" and key ~= "worker") or type(value) ~= "number" or value < (key == "queue" and 1 or 0) or
      value % 1 ~= 0 then
      error(("pool:%s: the options are queue, messages that may wait, and worker, who alone subscribes; not %s"):format(
        what, tostring(key)), 3)
    end
  end
  return options or {}
end

--- new(own, word, channels, fn[, {queue = n, worker = n}]) -> subscription
function M.new(own, word, channels, fn, options)
  local what = word:lower()
  channels = check_channels(what, channels)
  options = check_options(what, options)
  if type(fn) ~= "function" then error(("pool:%s takes a function, which gets message and channel"):format(what), 2) end
  local subscription = setmetatable({}, mark)
  local sub = {
    own = own, word = word, channels = channels, fn = fn, queue_max = options.queue or QUEUE_MAX, stopped = false,
    queue = {}, first = 1, last = 0, bytes = 0, draining = false, told = {}, pause_ms = {},
    received = 0, dropped = 0, lost = 0, connected = 0,
  }
  subs[subscription] = sub
  if options.worker == nil or options.worker == core.node().slot then core.spawn(start, sub) end
  return subscription
end

--- subscription:stop() -> was it on? fn gets nothing from now on; the connection is gone within a second.
function Subscription.stop(subscription)
  local sub = subs[subscription]
  if not sub then error("that is no subscription: subscription:stop()", 2) end
  local was = not sub.stopped
  sub.stopped, sub.fn = true, nil -- fn may hold what sub is kept for
  return was
end

--- subscription:stats() -> {received, dropped, waiting, connected: connections that hear, lost: connections}
function Subscription.stats(subscription)
  local sub = subs[subscription]
  if not sub then error("that is no subscription: subscription:stats()", 2) end
  return { received = sub.received, dropped = sub.dropped, waiting = sub.last - sub.first + 1,
    connected = sub.connected, lost = sub.lost }
end

return M
