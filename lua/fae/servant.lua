-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.servant "name": declares a servant and its methods. Everything wrong with a declaration is raised at its line, so
-- that the check before a reload shows it.
local core = require "fae.core"
local plugin = require "fae.plugin"
local near = require("fae.suggest").near

local M = {}

local NAME = "^[%a_][%w_]*$"
local ALIAS = "^[%a_][%w_.]*$"
local option_types = {
  args = "table", timeout_ms = "number", doc = "string", route = "number", idempotent = "boolean", alias = "string",
  private = "boolean",
}
local NAME_MAX = 128
local TIMEOUT_MAX_MS = 600000
local ARGS_MAX = 200

local function check_args(method, args, level)
  local n = #args
  for key in pairs(args) do
    if type(key) ~= "number" or key < 1 or key > n or key % 1 ~= 0 then
      error(("%s: args is a list of types, and %s is no place in it"):format(method, tostring(key)), level)
    end
  end
  if n > ARGS_MAX then error(("%s: more than %d args"):format(method, ARGS_MAX), level) end
  for i = 1, n do
    local word = args[i]
    if type(word) ~= "string" or not core.arg_type(word) then
      error(("%s: args[%d] is %s, not a type: any int number string boolean table map array, each with ? when optional,"
        .. ' or "..." last'):format(method, i, tostring(word)), level)
    end
    if word == "..." and i ~= n then error(method .. ': "..." must be the last of args', level) end
  end
end

local function check_options(method, options, level)
  for key, value in pairs(options) do
    local want = option_types[key]
    if not want then
      error(("%s: no option %q%s"):format(method, tostring(key), near(tostring(key), option_types)), level)
    end
    if type(value) ~= want then
      error(("%s: %s must be a %s, not a %s"):format(method, key, want, type(value)), level)
    end
  end
  if options.args then check_args(method, options.args, level + 1) end
  local ms = options.timeout_ms
  if ms and not (ms >= 1 and ms <= TIMEOUT_MAX_MS and ms % 1 == 0) then
    error(("%s: timeout_ms is 1 to %d, not %s"):format(method, TIMEOUT_MAX_MS, ms), level)
  end
  local route = options.route
  if route and not (route >= 1 and route <= (options.args and #options.args or ARGS_MAX) and route % 1 == 0) then
    error(("%s: route is the number of an argument, from 1"):format(method), level)
  end
  if options.alias and not options.alias:match(ALIAS) then
    error(("%s: alias %q is not a word"):format(method, options.alias), level)
  end
  if options.alias and #options.alias > NAME_MAX then
    error(("%s: alias %q is longer than %d bytes"):format(method, options.alias, NAME_MAX), level)
  end
end

-- What was checked and what is registered must be the same, whatever metatable the servant's table has.
local function own(options)
  local copy = {}
  for key, value in pairs(options) do copy[key] = value end
  if type(copy.args) == "table" then
    local args = {}
    for i, word in pairs(copy.args) do args[i] = word end
    copy.args = args
  end
  return copy
end

local function check_servant(name, options, level)
  if type(name) ~= "string" or not name:match(NAME) then
    error('a servant\'s name is a word, as in fae.servant "user"', level)
  end
  if not core.loading then error(("servant %q: declared while a file loads, not later"):format(name), level) end
  if core.plugin then
    error(("servant %q: a plugin cannot require its file: fae.call reaches its methods"):format(name), level)
  end
  for _, other in ipairs(core.servants) do
    if other.name == name then error(("servant %q is declared twice"):format(name), level) end
  end
  if options ~= nil and type(options) ~= "table" then error(name .. ": options must be a table", level) end
  for key, value in pairs(options or {}) do
    if key ~= "jit" then
      error(("%s: no option %q%s"):format(name, tostring(key), near(tostring(key), { jit = true })), level)
    end
    if type(value) ~= "boolean" then error(("%s: jit must be a boolean, not a %s"):format(name, type(value)), level) end
  end
end

--- fae.servant(name[, options]) -> servant
-- options.jit = false runs the calling file interpreted, so that the watchdog can stop its loops.
function M.new(name, options)
  check_servant(name, options, 3)
  if options and options.jit == false then jit.off(debug.getinfo(2, "f").func, true) end

  local entry = { name = name, methods = {} }
  core.servants[#core.servants + 1] = entry
  local servant = { name = name }

  --- servant.method(name[, options], function(call, ...) end)
  -- The function returns a value, or nil, err.
  function servant.method(method, opts, fn)
    if type(opts) == "function" and fn == nil then opts, fn = {}, opts end
    if type(method) ~= "string" or not method:match(NAME) then error("a method's name is a word", 2) end
    local full = name .. "." .. method
    if type(fn) ~= "function" then error(full .. ": the method itself must be a function", 2) end
    if type(opts) ~= "table" then error(full .. ": options must be a table", 2) end
    if #full > NAME_MAX then error(("%s: the name is longer than %d bytes"):format(full, NAME_MAX), 2) end
    opts = own(opts)
    check_options(full, opts, 3)
    if not core.loading then error(full .. ": declared while a file loads, not later", 2) end
    local called = plugin.wrap(fn)
    if not core.register(full, called, opts) then
      error(full .. " is declared twice", 2)
    end
    if opts.alias and not core.register(full, called, opts, opts.alias) then
      error(("%s: alias %q is taken"):format(full, opts.alias), 2)
    end
    entry.methods[#entry.methods + 1] = {
      name = full, args = opts.args, timeout_ms = opts.timeout_ms, doc = opts.doc, route = opts.route,
      idempotent = opts.idempotent or nil, alias = opts.alias,
    }
    servant[method] = servant[method] or fn
  end

  local function hook(where, what)
    return function(fn)
      if type(fn) ~= "function" then error(("%s.%s takes a function"):format(name, what), 2) end
      if not core.loading then error(("%s.%s: declared while a file loads, not later"):format(name, what), 2) end
      where(name, fn)
    end
  end
  --- servant.on_load(function(state) end): while it is prepared; may have no effect outside. state is a table that this
  -- worker keeps for the servant over reloads.
  servant.on_load = hook(core.on_load, "on_load")
  --- servant.on_unload(function() end): after a newer generation took over; may wait.
  servant.on_unload = hook(core.on_unload, "on_unload")
  --- servant.self_check(function() end): in the check before a reload; raise to refuse it.
  servant.self_check = hook(core.self_check, "self_check")
  return servant
end

return M
