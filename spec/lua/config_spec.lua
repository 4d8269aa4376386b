-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.config: what the config file says for a servant. `fae test` runs without a file; with one it is JSON from C, so
-- the module is loaded here on a core that has some.
local fae = require "fae"
local real = require "fae.core"

local function config(json)
  local core = setmetatable({ servants_json = function() return json end }, { __index = real })
  local env = setmetatable({ require = function() return core end }, { __index = _G })
  local chunk = assert(load((require "fae.builtin")["lua/fae/config.lua"], "@config.lua", "t", env))
  return chunk().get
end

describe("fae.config", function()
  it("is an empty table when the file says nothing", function()
    assert.same({}, fae.config "nobody")
    assert.same({}, config(nil) "shop")
    assert.same({}, config '{"other":{}}' "shop")
  end)
  it("is what the file says", function()
    local get = config '{"shop":{"ttl":60,"names":["a","b"],"deep":{"on":true}},"user":{}}'
    assert.same({ ttl = 60, names = { "a", "b" }, deep = { on = true } }, get "shop")
    assert.same({}, get "user")
  end)
  it("is the same table each time", function()
    local get = config '{"shop":{"ttl":60}}'
    assert.equal(get "shop", get "shop")
    assert.equal(get "none", get "none")
  end)
  it("takes a name", function()
    assert.has_error(function() fae.config() end, "fae.config takes a servant's name")
    assert.has_error(function() fae.config {} end, "fae.config takes a servant's name")
  end)
end)
