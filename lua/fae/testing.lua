-- SPDX-License-Identifier: BSD-2-Clause
--
-- The driver of `fae test`: busted with the runtime's own modules, run as a task so that specs may wait. Specs are not
-- in a sandbox. They have require "fae.testing" besides, which servants do not:
--   testing.load { ["servants/x.lua"] = "source", ... } loads a generation of its own from sources.
local loaded, finish, args = ...

local M = {}

-- What src/vm/bind_method.c does for a generation that C is loading; arguments are not checked here.
local function fake_methods(core)
  local methods = {}
  function core.register(name, fn, options, alias)
    if methods[alias or name] or #(alias or name) > 128 then return false end
    methods[alias or name] = { fn = fn, options = options, alias = alias ~= nil }
    return true
  end
  function core.find(name)
    if methods[name] then return methods[name].fn end
    return nil, core.err("UNKNOWN_METHOD", ("no method %q"):format(name))
  end
  return methods
end

-- What src/vm/bind_plugin.c knows of a call that has a session: here each that is not inside another.
local function fake_calls(core)
  local inside = false
  function core.call_begin()
    local begins = not inside
    inside = true
    return begins
  end
  function core.call_over()
    inside = false
    return 1
  end
end

--- testing.load(files[, options]) -> {errors, servants, methods, on_unload, call}. Runs the loader on the runtime and
-- these files as it would on a bundle. errors: as `fae check` lists them; methods: by name, {fn, options, alias};
-- call(name, ...) -> what the method returns, or raises.
-- options: checking (as before a reload), states (what on_load gets, by servant), bundled (sys and hello too), plugins
-- (what the configuration says of them, as JSON), fences ({{name, allow}}), core (functions instead of C's, by name);
-- dropped and session are plugins' too.
function M.load(files, options)
  options = options or {}
  local core = setmetatable({ states = options.states or {} }, { __index = loaded["fae.core"] })
  for name, fn in pairs(options.core or {}) do core[name] = fn end
  local methods, builtin = fake_methods(core), {}
  fake_calls(core)
  for path, body in pairs(loaded["fae.builtin"]) do
    if options.bundled or path:match "^lua/" then builtin[path] = body end
  end
  local loader = assert(load(builtin["lua/fae/loader.lua"], "@lua/fae/loader.lua"))
  local generation, errors = loader(core, builtin, files,
    { servants_dir = "servants", lua_dir = "lua", generation = 7, checking = options.checking or false,
      plugins_json = options.plugins, fences = options.fences, secrets = "password pin" })
  return {
    errors = errors, servants = generation.servants, methods = methods, on_unload = generation.on_unload,
    dropped = generation.dropped, session = generation.session,
    call = function(name, ...) return methods[name].fn(core.call, ...) end,
  }
end

--- testing.errors(source) -> what is wrong with it as servants/x.lua, one error a line
function M.errors(source) return table.concat(M.load({ ["servants/x.lua"] = source }).errors, "\n") end

package.path = "/usr/share/lua/5.1/?.lua;/usr/share/lua/5.1/?/init.lua;" .. package.path
for name, module in pairs(loaded) do
  if name:match "^fae" then package.loaded[name] = module end
end
package.loaded["fae.testing"] = M

-- busted ends by os.exit when all went well, and by error() when something failed.
local exit = os.exit
local code
os.exit = function(how) -- luacheck: ignore 122
  code = how == true and 0 or how == false and 1 or how or 0
  error { exit = true }
end
_G.arg = args -- luacheck: ignore 122
args[0] = "fae test"
local ok, err = xpcall(function() require "busted.runner" { standalone = false } end, function(e)
  if e == nil then code = 1 end
  if e == nil or (type(e) == "table" and e.exit) then return { exit = true } end
  return debug.traceback(tostring(e), 2)
end)
os.exit = exit -- luacheck: ignore 122
if not ok and not (type(err) == "table" and err.exit) then
  io.stderr:write("fae test: ", tostring(err), "\n")
  code = 1
end
finish(code or 0)
