-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.breaker: what servants call by themselves is left alone while it fails, as the servers of pools are. One breaker
-- a name, shared by all workers of the node.
local core = require "fae.core"
local failure = require "fae.failure"
local near = require("fae.suggest").near

local M = {}

local NAMES_MAX = 128
local ranges = {
  percent = { 50, 0, 100 }, calls = { 20, 1, 1e9 }, refusals = { 5, 1, 1e9 }, open_ms = { 5000, 10, 600000 },
}
-- What says that the other side is in trouble, and not that it did not like the call.
local outcomes = { UNAVAILABLE = "refused", CANCELLED = "void", RELOADED = "void" }
for code in ([[TIMEOUT UNKNOWN OVERLOAD CONGESTED BUSY DRAINING WORKER_LOST CLOSED CIRCUIT_OPEN POOL_BUSY SYSTEM
  INTERNAL]]):gmatch "%S+" do
  outcomes[code] = "failed"
end

local handles = setmetatable({}, { __mode = "k" }) -- of breakers, which servants hold
local names, n_names = {}, 0 -- that were ever asked for here
local Breaker = {}
local mark = { __index = function(_, key) return Breaker[key] end, __metatable = "breaker" }

local function of(breaker)
  local own = handles[breaker]
  if not own then error("that is no breaker", 3) end
  return own
end

local function outcome_of(own, err)
  if err == nil then return "ok" end
  local code = type(err) == "table" and err.code or nil
  local outcome = outcomes[code]
  if own.fails and outcome ~= "void" then
    local fails, why = failure.call(own.fails, err)
    if why == nil then outcome = fails and (outcome or "failed") or "ok" end
  end
  return outcome or "ok", code
end

--- breaker:call(fn, ...) -> value | nil, err. Runs fn(...) and counts what became of it; may wait. CIRCUIT_OPEN,
-- with retry_after_ms: it was not run. An err whose code tells of trouble with the other side is a failure, and so is
-- what fn raises, which comes back as an err; with options.fails that function decides. UNAVAILABLE counts as refused,
-- CANCELLED and RELOADED do not count, and what is dropped at its deadline is a failure.
function Breaker.call(breaker, fn, ...)
  local own = of(breaker)
  if type(fn) ~= "function" then error("breaker:call takes a function", 2) end
  local passed, refused = core.breaker_enter(own.handle)
  if not passed then return nil, refused end
  local value, err = failure.call(fn, ...)
  if passed ~= true then core.breaker_end(passed, outcome_of(own, err)) end
  return value, err
end

--- breaker:state() -> "closed" | "open" | "half-open". Closed lets calls through; half-open a few, to see.
function Breaker.state(breaker) return core.breaker_state(of(breaker).handle) end

local function check_options(options)
  for key, value in pairs(options) do
    local range = ranges[key]
    if key == "fails" then
      if type(value) ~= "function" then error("fae.breaker: fails must be a function", 3) end
    elseif not range then
      error(("fae.breaker: no option %q%s"):format(tostring(key), near(tostring(key), ranges)), 3)
    elseif type(value) ~= "number" or not (value >= range[2] and value <= range[3]) then
      error(("fae.breaker: %s must be a number, %d to %d"):format(key, range[2], range[3]), 3)
    end
  end
end

local function check_name(name)
  if type(name) ~= "string" or not name:match "^[%w_.:-]+$" or #name > 100 then
    error("fae.breaker takes a name: letters, digits and _ . : - up to 100", 3)
  end
  if names[name] then return end
  if n_names == NAMES_MAX then error(("fae.breaker: there are %d others"):format(NAMES_MAX), 3) end
  names[name], n_names = true, n_names + 1
end

--- fae.breaker(name[, options]) -> breaker. options: percent (50) of calls (20) or more in 10 s that fail, or refusals
-- (5) in a row, and it opens for open_ms (5000), half as long again each time it fails then, up to a minute. 0 percent:
-- never. fails(err) -> is it a failure.
function M.new(name, options)
  check_name(name)
  if options ~= nil and type(options) ~= "table" then error("fae.breaker: options must be a table", 2) end
  options = options or {}
  check_options(options)
  local function option(key) return options[key] or ranges[key][1] end
  local handle = core.breaker_new(name, option "percent", option "calls", option "refusals", option "open_ms")
  if not handle then error(("fae.breaker: the node has no room for another, %q"):format(name), 2) end
  local breaker = setmetatable({}, mark)
  handles[breaker] = { handle = handle, fails = options.fails }
  return breaker
end

return M
