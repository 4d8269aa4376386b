-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.lock: locks of the whole node, by key. Whoever has one has its token, for as long as the lease.
local core = require "fae.core"
local failure = require "fae.failure"
local near = require("fae.suggest").near

local M = {}

local UNBOUND, TO_SESSION, TO_TASK = 0, 1, 2
local RENEW_WAIT_MS = 2
local RENEW_TRIES = 1000
local option_types = { lease_ms = "number", wait_ms = "number", auto_release = "boolean", reason = "string" }
local none = {}

local function check_key(key, what)
  if type(key) ~= "string" then error(("fae.lock.%s takes a key, a string"):format(what), 3) end
end

local function check_token(token, what)
  if type(token) ~= "string" then error(("fae.lock.%s takes a lock's token, a string"):format(what), 3) end
end

-- Options may come from a client as they are, so what is wrong with them is an err.
local function wrong_option(options)
  for name, value in pairs(options) do
    local want = option_types[name]
    if not want then
      return core.err("BAD_ARGS", ("no option %q%s"):format(tostring(name), near(tostring(name), option_types)))
    end
    if type(value) ~= want then
      return core.err("BAD_ARGS", ("%s must be a %s, not a %s"):format(name, want, type(value)))
    end
  end
end

local function acquire(key, options, bound)
  local err = options ~= none and wrong_option(options)
  if err then return nil, err end
  if bound == UNBOUND and options.auto_release then bound = TO_SESSION end
  local token, fence, lease_ms = core.lock_acquire(key, options.lease_ms, options.wait_ms, bound, options.reason)
  if not token then return nil, fence end
  return { key = key, token = token, fence = fence, lease_ms = lease_ms }
end

--- fae.lock.acquire(key[, options]) -> lock | nil, err. lock is {key, token, fence, lease_ms}. options: lease_ms
-- (10000), wait_ms (0): how long to wait for it, auto_release (false): end with the session of the caller, reason: a
-- text that others are shown, of which 96 bytes are kept (the call's own reason). Waits. LOCKED: somebody else has it;
-- the err's detail is {held_ms, expires_in_ms, reason}. OVERLOAD: there are too many. NO_SPACE, SYSTEM: the disk does
-- not take the fencing numbers. BAD_ARGS, LIMIT: key or options are wrong.
function M.acquire(key, options)
  check_key(key, "acquire")
  if options ~= nil and type(options) ~= "table" then error("fae.lock.acquire: options must be a table", 2) end
  return acquire(key, options or none, UNBOUND)
end

--- fae.lock.renew(key, token[, lease_ms]) -> true | nil, err. The lease begins anew, with lease_ms as long as that. May
-- wait for the disk, when no lock was given for so long before. NOT_OWNER: the lease was over.
function M.renew(key, token, lease_ms)
  check_key(key, "renew")
  check_token(token, "renew")
  for _ = 1, RENEW_TRIES do
    local ok, err = core.lock_renew(key, token, lease_ms)
    if ok or err then return ok, err end
    ok, err = core.sleep(RENEW_WAIT_MS)
    if not ok then return nil, err end
  end
  return nil, core.err("UNAVAILABLE", "the disk has not taken the length of the lease yet")
end

--- fae.lock.release(key, token) -> true | nil, err. Whoever waits for it first has it then. NOT_OWNER: the lease was
-- over.
function M.release(key, token)
  check_key(key, "release")
  check_token(token, "release")
  return core.lock_release(key, token)
end

--- fae.lock.info(key) -> table | nil, err. {held_ms, expires_in_ms, lease_ms, waiting, fence, reason}. NOT_FOUND:
-- nobody holds it.
function M.info(key)
  check_key(key, "info")
  return core.lock_info(key)
end

--- fae.lock.list([n]) -> array | nil, err. Up to n locks that are held (100, at most 1000), in no order: as info, with
-- key, who, worker, auto_release.
M.list = core.lock_list

--- fae.lock.force(key) -> table | nil, err. Releases it whoever has it, who is told of nothing; a line in the log names
-- both. The table is as of list. NOT_FOUND.
function M.force(key)
  check_key(key, "force")
  local had, err = core.lock_force(key)
  if not had then return nil, err end
  local call = core.call
  core.log(2, "a lock was released by force",
    { key = key, held_by = had.who, reason = had.reason, by = call.who or call.peer or "the node itself" })
  had.key = key
  return had
end

--- fae.lock.with(key, options, fn) -> what fn(lock) returned | nil, err. Acquires, runs fn, and releases whatever
-- happens: also when fn raises, or is dropped at its call's deadline. options as of acquire, without auto_release.
function M.with(key, options, fn)
  check_key(key, "with")
  if type(options) == "function" and fn == nil then options, fn = nil, options end
  if options ~= nil and type(options) ~= "table" then error("fae.lock.with: options must be a table", 2) end
  if type(fn) ~= "function" then error("fae.lock.with takes a function", 2) end
  local lock, err = acquire(key, options or none, TO_TASK)
  if not lock then return nil, err end
  local token = lock.token
  local value
  value, err = failure.call(fn, lock)
  if not core.lock_release(key, token) then
    core.log(2, "the lease of a lock was over before the work under it", { key = key, lease_ms = lock.lease_ms })
  end
  return value, err
end

return M
