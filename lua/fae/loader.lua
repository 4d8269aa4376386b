-- SPDX-License-Identifier: BSD-2-Clause
--
-- Loads one generation of servants: run by src/vm/generation.c with the core functions, the built-in files, those of
-- the bundle, and what is to be known of the node.
--
-- Three kinds of code, three environments:
--   runtime  lua/fae/*.lua      the real globals and require "fae.core"
--   servant  servants/*.lua     the sandbox, one table of its own a file, in which globals cannot be made
--   helper   servants/a/b.lua   require "a.b"; as a servant
local core, builtin, bundled, info = ...

local errors = {}
local loaded, loading = {}, {}
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

local function runtime_require(name)
  if name == "fae.core" then return core end
  if loaded[name] ~= nil then return loaded[name] end
  local file = name == "fae" and "lua/fae/init.lua" or "lua/" .. name:gsub("%.", "/") .. ".lua"
  local chunk = compile(file, runtime_env)
  if not chunk then error(("module %q is not part of fae"):format(name), 2) end
  local value = chunk(name)
  loaded[name] = value == nil and true or value
  return loaded[name]
end
runtime_env.require = runtime_require

-- ---- the sandbox ----

local function copy(from, leave_out)
  local to = {}
  for k, v in pairs(from) do
    if not leave_out[k] then to[k] = v end
  end
  return to
end

local function set(words)
  local s = {}
  for word in words:gmatch "%S+" do s[word] = true end
  return s
end

local function fenced(name, instead)
  return function() error(name .. " is not for servants" .. (instead and ": " .. instead or ""), 2) end
end

local sandbox = copy(_G, set [[_G arg dofile loadfile load loadstring module require package newproxy getfenv setfenv
  collectgarbage debug io os jit ffi print string]])
sandbox.string = copy(string, set "dump")
sandbox.table, sandbox.math = copy(table, {}), copy(math, {})
sandbox.coroutine, sandbox.bit = copy(coroutine, {}), copy(bit, {})
sandbox.io = copy(io, set "popen")
sandbox.io.popen = fenced("io.popen", "it would stop the worker")
sandbox.os = copy(os, set "execute exit setlocale")
sandbox.os.execute = fenced("os.execute", "it would stop the worker")
sandbox.os.exit = fenced "os.exit"
sandbox.debug = { traceback = debug.traceback, getinfo = function(f, what)
  if type(f) == "number" then f = f + 1 end
  local i = debug.getinfo(f, what or "nSl")
  if i then i.func = nil end
  return i
end }
sandbox.jit = { on = jit.on, off = jit.off, version = jit.version, os = jit.os, arch = jit.arch, status = jit.status }
sandbox.getmetatable = function(v)
  if type(v) == "string" then return nil end -- the real string table is shared by every generation
  return getmetatable(v)
end
function sandbox.load(source, name, _, env)
  if type(source) == "function" then
    local parts = {}
    for part in source do
      if part == "" then break end
      parts[#parts + 1] = part
    end
    source = table.concat(parts)
  end
  return load(source, name, "t", env or sandbox)
end
sandbox.loadstring = function(source, name) return sandbox.load(source, name) end
function sandbox.collectgarbage(what)
  if what == "count" then return collectgarbage "count" end
  error('collectgarbage is not for servants, but for "count": a collection stops every call of the worker', 2)
end
function sandbox.print(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  core.log(1, table.concat(parts, "\t"))
end
local standard = set "string table math coroutine io os bit jit"
sandbox._G = sandbox

-- A servant's own environment: it reads the sandbox, and writing a global is an error where it happens.
local function servant_env(name)
  return setmetatable({}, {
    __index = sandbox,
    __newindex = function(_, key)
      error(("global %q is written in %s: make it local"):format(tostring(key), name), 2)
    end,
    __metatable = "environment",
  })
end

function sandbox.require(name)
  if type(name) ~= "string" then error("require takes a module's name", 2) end
  if name == "fae" or (name:match "^fae%.[%w_]+$" and name ~= "fae.core" and name ~= "fae.loader") then
    return runtime_require(name)
  end
  if standard[name] then return sandbox[name] end
  if loaded[name] ~= nil then return loaded[name] end
  if loading[name] then error(("module %q requires itself"):format(name), 2) end
  local base = "servants/" .. name:gsub("%.", "/")
  local path = find(base .. ".lua") and base .. ".lua" or base .. "/init.lua"
  local _, file = find(path)
  if not file then
    error(("module %q is neither in %s nor part of fae"):format(name, info.servants_dir), 2)
  end
  loading[name] = true
  local value = compile(path, servant_env(file))(name)
  loading[name] = nil
  loaded[name] = value == nil and true or value
  return loaded[name]
end

-- ---- what servants declare (lua/fae/servant.lua calls these) ----

core.generation = info.generation
core.checking = info.checking
core.on_load = function(name, fn) on_load[#on_load + 1] = { name, fn } end
core.on_unload = function(_, fn) on_unload[#on_unload + 1] = fn end
core.self_check = function(name, fn) checks[#checks + 1] = { name, fn } end
core.servants = servants

local function attempt(what, fn, ...)
  local ok, err = xpcall(fn, function(e)
    if type(e) == "string" then return e end
    if type(e) == "table" and rawget(e, "message") then return what .. ": " .. tostring(rawget(e, "message")) end
    return what .. ": error object is a " .. type(e)
  end, ...)
  if not ok then errors[#errors + 1] = (tostring(err):gsub("\n.*", "")) end
  return ok
end

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
  local _, file = find("servants/" .. name .. ".lua")
  local before = #core.servants
  attempt(file, function()
    if loaded[name] == nil then sandbox.require(name) end
  end)
  loading[name] = nil
  if loaded[name] == true and #core.servants == before then
    errors[#errors + 1] = file .. ":1: declares no servant and returns nothing"
  end
end

for _, hook in ipairs(on_load) do
  core.states[hook[1]] = core.states[hook[1]] or {}
  if #errors == 0 then attempt(hook[1] .. ": on_load", hook[2], info.checking and {} or core.states[hook[1]]) end
end
if info.checking and #errors == 0 then
  for _, check in ipairs(checks) do attempt(check[1] .. ": self_check", check[2]) end
end

return { servants = servants, on_unload = on_unload, loaded = loaded }, errors
