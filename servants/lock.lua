-- SPDX-License-Identifier: BSD-2-Clause
--
-- lock: locks by key, of this node. `lock` and `unlock` are fae's: they know no owner, and a lock is over after 10 s.
local fae = require "fae"
local old = require "fae.oldlock"
local lock = fae.servant "lock"

lock.method("acquire", { args = { "string", "map?" }, route = 1, timeout_ms = 600000,
  doc = "{key, token, fence, lease_ms}; options lease_ms, wait_ms, auto_release (with the session), reason" },
  function(_, key, options) return fae.lock.acquire(key, options) end)

lock.method("renew", { args = { "string", "string", "number?" }, route = 1,
  doc = "key, token: the lease begins anew; a third argument is its new length in milliseconds" },
  function(_, key, token, lease_ms) return fae.lock.renew(key, token, lease_ms) end)

lock.method("release", { args = { "string", "string" }, route = 1,
  doc = "key, token: whoever waits first has it then" },
  function(_, key, token) return fae.lock.release(key, token) end)

lock.method("info", { args = { "string" }, route = 1, idempotent = true,
  doc = "{held_ms, expires_in_ms, lease_ms, waiting, fence, reason} of a lock that is held" },
  function(_, key) return fae.lock.info(key) end)

lock.method("list", { args = { "number?" }, idempotent = true,
  doc = "locks that are held and who holds them; for admins" },
  function(_, n) return fae.lock.list(n) end)

lock.method("force", { args = { "string" }, route = 1, doc = "releases a lock whoever holds it; for admins" },
  function(_, key) return fae.lock.force(key) end)

lock.method("lock", { args = { "string", "string" }, route = 2, alias = "lock",
  doc = "reason, key: true, or false when it is held; anybody may unlock it, and it is over after 10 s" },
  function(call, reason, key)
    local got, more = old.take(reason, key)
    if got == nil then return nil, more end
    if not got then
      fae.log.warn("a lock was refused", { peer = call.peer or "", reason = reason, key = key })
    elseif more then
      fae.log.warn("a lock had expired", { peer = call.peer or "", reason = reason, key = key })
    end
    return got
  end)

lock.method("unlock", { args = { "string", "string" }, route = 2, idempotent = true, alias = "unlock",
  doc = "reason, key: undoes `lock`; one that is not there is fine" },
  function(_, _, key) return old.drop(key) end)

return lock
