-- SPDX-License-Identifier: BSD-2-Clause
--
-- require "fae": everything a servant stands on, each part from the module of its name.
local core = require "fae.core"
local task = require "fae.task"
local types = require "fae.types"
local time = require "fae.time"

return {
  servant = require("fae.servant").new,
  plugin = require("fae.plugin").new,
  call = require("fae.call").call,
  remote = require("fae.remote").new,
  breaker = require("fae.breaker").new,
  memcache = require("fae.memcache").new,
  mysql = require("fae.mysql").new,
  config = require("fae.config").get,
  cache = require "fae.cache",
  log = require "fae.log",
  metrics = require "fae.metrics",
  id = require "fae.id",
  lock = require "fae.lock",
  json = require "fae.json",
  msgpack = require "fae.msgpack",
  kv = require "fae.kv",
  redis = require("fae.redis").pool,
  time = time,
  sleep = task.sleep,
  spawn = task.spawn,
  parallel = task.parallel,
  timer = task.timer,
  null = types.null,
  map = types.map,
  array = types.array,
  bin = types.bin,
  ext = types.ext,
  err = core.err,
}
