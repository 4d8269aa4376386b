-- SPDX-License-Identifier: BSD-2-Clause
--
-- One task asks, and all tasks of this worker who want the same meanwhile wait for its answer. What happened to that
-- task alone (its deadline, its client's hang-up) is no answer for the others: one of them asks then.
local core = require "fae.core"

local M = {}

local WAIT_MS = 10000 -- for one that was ended without a word; the waiting call's own deadline mostly comes first
local own_fault = { TIMEOUT = true, CANCELLED = true, RELOADED = true, UNKNOWN = true, NO_MEMORY = true }

local function finish(flights, key, flight, ok, value, err)
  if flights[key] == flight then flights[key] = nil end
  flight.value, flight.err = value, err
  flight.answered = ok and (value ~= nil or err == nil or not own_fault[err.code])
  core.gate_open(flight.gate)
  if not ok then error(value, 0) end
  return value, err
end

local function lead(flights, key, tag, fn, ...)
  local may, err = core.join() -- nothing to wait for; but one that may not wait any more must not be waited for
  if not may then return nil, err end
  local flight = flights[key]
  if flight and flight.tag == tag then return M.run(flights, key, tag, fn, ...) end
  flight = { gate = core.gate(), tag = tag }
  flights[key] = flight
  return finish(flights, key, flight, pcall(fn, ...))
end

--- run(flights, key, tag, fn, ...) -> value | nil, err: of fn(...), which may wait once; or of the one that runs with
-- the same key and tag. flights: a table that the caller keeps, empty at first. Waits.
function M.run(flights, key, tag, fn, ...)
  local flight = flights[key]
  if not flight or flight.tag ~= tag then return lead(flights, key, tag, fn, ...) end
  local opened, err = core.gate_wait(flight.gate, WAIT_MS)
  if opened == nil then return nil, err end
  if flight.answered then return flight.value, flight.err end
  if flights[key] == flight then flights[key] = nil end
  return M.run(flights, key, tag, fn, ...)
end

return M
