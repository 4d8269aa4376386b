-- SPDX-License-Identifier: BSD-2-Clause
--
-- Loads one generation of servants: run by src/vm/generation.c with the core functions, the built-in files, those of
-- the bundle, and what is to be known of the node.
--
-- Three kinds of code, three environments:
--   runtime  lua/fae/*.lua      the real globals and require "fae.core"
--   servant  servants/*.lua     a sandbox of its own a file (lua/fae/sandbox.lua), in which globals cannot be made
--   helper   servants/a/b.lua   require "a.b"; as a servant
-- Plugins, servants/plugins/*.lua, are helpers that the configuration names: they are loaded first, in its order.
-- info: servants_dir, lua_dir, generation, checking, plugins_json (or nil), fences ({{name, allow}}), secrets (words).
local core, builtin, bundled, info = ...

local errors, told = {}, {}
local loaded, loading, failed = {}, {}, {}
local servants, on_load, on_unload, checks = {}, {}, {}, {}

-- ---- files ----

local function shown(path, is_builtin)
  if is_builtin then return "fae:" .. path end
  local dir, rest = path:match "^(%a+)/(.*)$"
  return (dir == "lua" and info.lua_dir or info.servants_dir) .. "/" .. rest
end

-- The file of a module, its disk version first: body, name for messages.
local function find(path)
  if bundled[path] then return bundled[path], shown(path, false) end
  if builtin[path] then return builtin[path], shown(path, true) end
end

local function compile(path, env)
  local body, name = find(path)
  if not body then return nil end
  if body:byte(1) == 27 then error(name .. ":1: precompiled Lua is not loaded", 0) end
  local chunk, err = load(body, "@" .. name, "t", env)
  if not chunk then error(err, 0) end
  return chunk, name
end

-- ---- the runtime ----

local runtime_env = setmetatable({}, { __index = _G })

local function runtime_require(name, level)
  if name == "fae.core" then return core end
  if loaded[name] ~= nil then return loaded[name] end
  local file = name == "fae" and "lua/fae/init.lua" or "lua/" .. name:gsub("%.", "/") .. ".lua"
  local chunk = compile(file, runtime_env)
  if not chunk then error(("module %q is not part of fae"):format(name), level or 2) end
  local value = chunk(name)
  loaded[name] = value == nil and true or value
  return loaded[name]
end
runtime_env.require = runtime_require

-- ---- servants and their helpers ----

local sandbox = runtime_require "fae.sandbox"
local plugin = runtime_require "fae.plugin"
local suggest = runtime_require "fae.suggest"

-- What require gives to nobody: the parts of the runtime that see the real globals.
local private = {
  ["fae.core"] = true, ["fae.loader"] = true, ["fae.sandbox"] = true, ["fae.testing"] = true, ["fae.plugin"] = true,
  ["fae.ffi"] = true, ["fae.redis_route"] = true, ["fae.redis_pipe"] = true, ["fae.redis_script"] = true,
  ["fae.redis_channel"] = true, ["fae.redis_commands"] = true,
}

local fences = {} -- what a file may use beyond the fence; a file that it requires has a fence of its own
local servant_require

local function fence_of(name) return fences[name] or fences[name:match "^plugins%.(.*)$"] end

local function run_file(name, path)
  local _, file = find(path)
  loading[name] = true
  local ok, value = pcall(function()
    return compile(path, sandbox.new(file, servant_require, fence_of(name)))(name)
  end)
  loading[name] = nil
  if not ok then
    if core.loading then failed[name] = value end -- later it may have been a deadline
    error(value, 0)
  end
  loaded[name] = value == nil and true or value
  return loaded[name]
end

-- require in a sandbox, for what is not standard. Called last, so that level 2 is the servant's line, or with a level.
function servant_require(name, level)
  level = level or 2
  if private[name] then error(("module %q is not for servants"):format(name), level) end
  if name == "fae" or name:match "^fae%.[%w_]+$" then return runtime_require(name, level) end
  if loaded[name] ~= nil then return loaded[name] end
  if loading[name] then error(("module %q requires itself"):format(name), 2) end
  if failed[name] then error(failed[name], 0) end
  local base = "servants/" .. name:gsub("%.", "/")
  local path = find(base .. ".lua") and base .. ".lua" or base .. "/init.lua"
  if not find(path) then
    error(("module %q is neither in %s nor part of fae"):format(name, info.servants_dir), level)
  end
  return run_file(name, path)
end

-- ---- what servants declare (lua/fae/servant.lua calls these) ----

core.generation = info.generation
core.checking = info.checking
core.secrets = info.secrets or ""
core.loading = true
core.on_load = function(name, fn) on_load[#on_load + 1] = { name, fn } end
core.on_unload = function(_, fn) on_unload[#on_unload + 1] = fn end
core.self_check = function(name, fn) checks[#checks + 1] = { name, fn } end
core.servants = servants

local function fail(text)
  text = text:gsub("\n.*", "")
  if not told[text] then errors[#errors + 1] = text end
  told[text] = true
end

local function attempt(what, fn, ...)
  local ok, err = xpcall(fn, function(e)
    if type(e) == "string" then return e end
    if type(e) == "table" and rawget(e, "message") then return what .. ": " .. tostring(rawget(e, "message")) end
    return what .. ": error object is a " .. type(e)
  end, ...)
  if not ok then fail(tostring(err)) end
  return ok
end

local function load_servant(name)
  local path = "servants/" .. name .. ".lua"
  local _, file = find(path)
  local before = #servants
  if name == "fae" or sandbox.standard[name] or name:find(".", 1, true) then
    fail(("%s:1: a servant's file cannot be called %s: require would find something else"):format(file, name))
  elseif loaded[name] == nil then
    attempt(file, run_file, name, path)
    if loaded[name] == true and #servants == before then fail(file .. ":1: declares no servant and returns nothing") end
  end
end

-- ---- plugins ----

local function plugin_names()
  local found = {}
  for _, files in ipairs { bundled, builtin } do
    for path in pairs(files) do
      local name = path:match "^servants/plugins/([^/]+)%.lua$"
      if name then found[name] = true end
    end
  end
  return found
end

local function load_plugin(now)
  local path = "servants/plugins/" .. now.name .. ".lua"
  local _, file = find(path)
  if not file then
    fail(("%s:1: the configuration names plugin %q, and there is no such file%s"):format(
      info.servants_dir ~= "" and shown(path, false) or path, now.name, suggest.near(now.name, plugin_names())))
    return
  end
  core.plugin = now
  attempt(file, function()
    run_file("plugins." .. now.name, path)
    plugin.check(now, file)
  end)
  core.plugin = nil
end

-- A fence that opens nothing is a slip of the pen.
local function check_fences(opened)
  local known = plugin_names()
  for _, files in ipairs { bundled, builtin } do
    for path in pairs(files) do
      local name = path:match "^servants/(.+)%.lua$"
      if name then known[(name:gsub("/init$", ""):gsub("/", "."))] = true end
    end
  end
  for name in pairs(opened) do
    if not known[name] then
      error(("fence %q: no servant, plugin or helper is called that%s"):format(name, suggest.near(name, known)), 0)
    end
  end
end

attempt("fence", function()
  fences = sandbox.fences(info.fences or {})
  check_fences(fences)
end)
for _, now in ipairs(plugin.configured(info.plugins_json)) do load_plugin(now) end

-- ---- servants ----

-- Servants are the files at the top of the folder; on disk they replace built-in ones of the same name.
local names, seen = {}, {}
for _, files in ipairs { bundled, builtin } do
  for path in pairs(files) do
    local name = path:match "^servants/([^/]+)%.lua$"
    if name and not seen[name] then
      seen[name] = true
      names[#names + 1] = name
    end
  end
end
table.sort(names)
for _, name in ipairs(names) do
  if not failed[name] then load_servant(name) end -- else: required by another, whose error it is
end
core.loading = false

for _, hook in ipairs(on_load) do
  core.states[hook[1]] = core.states[hook[1]] or {}
  if #errors == 0 then attempt(hook[1] .. ": on_load", hook[2], info.checking and {} or core.states[hook[1]]) end
end
if info.checking and #errors == 0 then
  for _, check in ipairs(checks) do attempt(check[1] .. ": self_check", check[2]) end
end

-- `loaded` is for specs (lua/fae/testing.lua), which see what servants do not; `dropped` and `session` for
-- src/vm/bind_plugin.c.
local all = { ["fae.core"] = core, ["fae.builtin"] = builtin }
for name, value in pairs(loaded) do all[name] = value end
return {
  servants = servants, on_unload = on_unload, loaded = all, dropped = plugin.dropped,
  session = plugin.hears_sessions() and plugin.session or nil,
}, errors
