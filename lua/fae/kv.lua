-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.kv: the kv store where done means on disk. fae.kv.fast: the same over the one that does not wait for the disk and
-- may lose everything when power fails. Which functions there are says lua/fae/kv_backend.lua. fae.kv may lie in redis
-- or mysql instead (lua/fae/kv_redis.lua, kv_mysql.lua): kv_backend "redis:main".
local core = require "fae.core"
local here = require "fae.kv_local"
local over = require("fae.kv_backend").over

-- Buckets are moved between nodes: only what lies in the node has them, and the others say so.
local function whole(backend)
  local kv = over(backend)
  kv.export, kv.import, kv.bucket = backend.export, backend.import, backend.bucket
  return kv
end

local kind, pool = select(7, core.kv_limits()):match "^(%l+):(.*)$"
local kv = whole(kind and require("fae.kv_" .. kind).new(pool) or here.durable)
kv.fast = whole(here.fast)

return kv
