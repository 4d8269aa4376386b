-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.sleep, fae.spawn, fae.parallel, fae.timer: what waits and what runs beside a call.
local core = require "fae.core"
local failure = require "fae.failure"

local M = {}

--- fae.sleep(ms) -> true | nil, err. Waits.
M.sleep = core.sleep

--- fae.spawn(fn, ...): runs fn(...) soon, as a task of its own with the caller's context and no deadline. It ends with
-- the generation at the latest: what a reload ended spawns nothing. What it raises is logged.
M.spawn = core.spawn

local function run(results, errors, i, fn)
  local value, err = failure.call(fn)
  results[i] = value
  if value == nil and err ~= nil then errors[i] = err end
end

--- fae.parallel { fn, ... } -> results, errors | nil, err. Waits until every fn() returned. results[i] is the i-th
-- one's value; errors is nil when none failed, else errors[i] is the i-th one's err. All end with the call.
-- 64 deep at most, one inside another.
function M.parallel(fns)
  if type(fns) ~= "table" then error("fae.parallel takes a table of functions", 2) end
  for i = 1, #fns do
    if type(fns[i]) ~= "function" then
      error(("fae.parallel: [%d] is a %s, not a function"):format(i, type(fns[i])), 2)
    end
  end
  local ok, err = core.join() -- there is nothing to wait for yet, but may one wait here?
  if not ok then return nil, err end
  local results, errors = {}, {}
  for i = 1, #fns do core.start(run, results, errors, i, fns[i]) end
  ok, err = core.join()
  if not ok then return nil, err end
  return results, next(errors) and errors or nil
end

local ids = setmetatable({}, { __mode = "k" }) -- not in the timer: a number put there would stop somebody else's

local Timer = {}

--- timer:stop() -> was it running. A tick under way ends by itself.
function Timer.stop(timer)
  local id = ids[timer]
  if not id then error("timer:stop: that is no timer", 2) end
  return core.timer_stop(id)
end

local timer_mark = { __index = function(_, key) return Timer[key] end, __metatable = "timer" }

--- fae.timer(every_ms, fn) -> timer. Calls fn() every so often, first after one period, never twice at a time. Belongs
-- to the generation: starts when it goes live, gone when it is replaced.
function M.timer(every_ms, fn)
  local id = core.timer_start(every_ms, fn)
  local timer = setmetatable({}, timer_mark)
  ids[timer] = id
  return timer
end

return M
