-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae's own lock and unlock, for servant lock: no owner, no wait, over after 10 s. They see nothing of locks that have
-- owners, but that such a one is held.
local core = require "fae.core"

local M = {}

local OF_NOBODY = 3
local LEASE_MS = 10000

--- take(reason, key) -> got it?, expired | nil, err. fae's `lock`: anybody may release it, it lasts 10 s. expired: its
-- last holder had not released it.
function M.take(reason, key)
  local token, fence, _, expired = core.lock_acquire(key, LEASE_MS, nil, OF_NOBODY, reason)
  if token then return true, expired end
  if fence.code == "LOCKED" then return false end
  return nil, fence
end

--- drop(key) -> nil[, err]. fae's `unlock`: of a lock that was taken by `take`, or of none.
function M.drop(key)
  local ok, err = core.lock_release(key, false)
  if not ok and err.code ~= "NOT_OWNER" then return nil, err end
end

return M
