-- SPDX-License-Identifier: BSD-2-Clause
--
-- idrun: makes very many ids and answers them as runs, so that a test can compare them all.
local fae = require "fae"
local idrun = fae.servant "idrun"

-- Runs as lists of first, length: ids of a list rise, and those of one millisecond follow each other.
local function runs_of(ids)
  local runs, first, len = fae.array {}, nil, 0
  for i = 1, #ids do
    if first and ids[i] == first + len then
      len = len + 1
    else
      if first then runs[#runs + 1] = { first, len } end
      first, len = ids[i], 1
    end
  end
  runs[#runs + 1] = { first, len }
  return runs
end

idrun.method("make", { args = { "int" }, timeout_ms = 60000 }, function(_, n)
  local ids, err = fae.id.next_many(n)
  if not ids then return nil, err end
  return runs_of(ids)
end)

-- n calls of fae.id.next.
idrun.method("single", { args = { "int" }, timeout_ms = 60000 }, function(_, n)
  local ids = {}
  for i = 1, n do
    local id, err = fae.id.next()
    if not id then return nil, err end
    ids[i] = id
  end
  return runs_of(ids)
end)

-- One that waits and has no deadline; what came of it is asked for later.
local outcome
idrun.method("spawn", { args = {} }, function()
  outcome = nil
  fae.spawn(function()
    local began = fae.time.monotonic_us()
    local id, err = fae.id.next()
    outcome = { id or false, err and err.code or false, (fae.time.monotonic_us() - began) / 1000 }
  end)
  return true
end)

idrun.method("outcome", { args = {} }, function() return outcome or false end)

-- Nanoseconds of a fae.id.next, in bursts that stay below what a millisecond has.
idrun.method("cost", { args = { "int" }, timeout_ms = 60000 }, function(_, n_bursts)
  local best = math.huge
  for _ = 1, n_bursts do
    fae.sleep(2)
    local began = fae.time.monotonic_us()
    for _ = 1, 2000 do fae.id.next() end
    best = math.min(best, (fae.time.monotonic_us() - began) / 2)
  end
  return best
end)

return idrun
