-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.ffi: what generations leave behind in LuaJIT's table of types, which never shrinks.
local ffi = require "ffi"
local testing = require "fae.testing"

describe("fae.ffi", function()
  it("declares once, however often servants are loaded", function()
    local function n_types() return tonumber(ffi.typeof "struct { int x; }") end -- a new type each time
    testing.load {}
    local before = n_types()
    for _ = 1, 20 do testing.load {} end
    assert.is_true(n_types() - before < 20, ("%d types in 20 generations"):format(n_types() - before))
  end)
end)
