-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a servant's file sees as its globals. Every file has tables of its own, those of fae too, so that nobody can
-- change another's string.format or fae.sleep; what is here is listed, and what is not listed is not there. The fence
-- is against accidents and against what would stop or outlive the worker; it is no prison for an enemy's code. The
-- configuration opens it for a file by name: fence "shop" { allow = { "io.popen" } }.
local core = require "fae.core"
local config = require "fae.config"
local suggest = require "fae.suggest"

local M = {}

local basics = {
  _VERSION = _VERSION, assert = assert, error = error, ipairs = ipairs, next = next, pairs = pairs, pcall = pcall,
  rawequal = rawequal, rawget = rawget, rawset = rawset, select = select, setmetatable = setmetatable,
  tonumber = tonumber, tostring = tostring, type = type, unpack = unpack, xpcall = xpcall,
}

local function fenced(name, instead)
  return function() error(name .. " is not for servants" .. (instead and ": " .. instead or ""), 2) end
end

local function copy(from, changes)
  local to = {}
  for k, v in pairs(from) do to[k] = v end
  for k, v in pairs(changes) do to[k] = v or nil end
  return to
end

-- Coroutines that servants made. A task's own is the engine's: nobody else may resume it.
local own = setmetatable({}, { __mode = "k" })
local create, running = coroutine.create, coroutine.running

local function create_own(fn)
  local co = create(fn)
  own[co] = true
  return co
end

local function marked(fn, ...)
  own[running()] = true
  return fn(...)
end

local coroutines = {
  create = create_own,
  wrap = function(fn)
    if type(fn) ~= "function" then error("coroutine.wrap takes a function", 2) end
    local go = coroutine.wrap(marked)
    local first = true
    return function(...)
      if first then
        first = false
        return go(fn, ...)
      end
      return go(...)
    end
  end,
  running = function()
    local co = running()
    return own[co] and co or nil
  end,
}

local function function_of(what, fn)
  if fn == true then return debug.getinfo(3, "f").func end
  if type(fn) ~= "function" then error(what .. " is for one function: the rest of the worker keeps its compiler", 3) end
  return fn
end

local jits = {
  on = function(fn, inner) return jit.on(function_of("jit.on", fn), inner) end,
  off = function(fn, inner) return jit.off(function_of("jit.off", fn), inner) end,
  status = jit.status, version = jit.version, os = jit.os, arch = jit.arch,
}

local debugs = {
  traceback = debug.traceback,
  getinfo = function(f, what)
    what = what == nil and "nSlu" or what
    if type(what) ~= "string" or what:find "[^nSlu]" then error("debug.getinfo gives n, S, l and u here", 2) end
    if type(f) == "number" then f = f + 1 end
    local about = debug.getinfo(f, what) -- no tail call: levels are counted
    return about
  end,
}

-- load for a file: text only, and its globals are the file's unless it names others
local function loader_of(env)
  return function(source, name, _, globals)
    if type(source) == "function" then
      local parts = {}
      for part in source do
        if part == "" then break end
        parts[#parts + 1] = part
      end
      source = table.concat(parts)
    end
    return load(source, name, "t", globals or env)
  end
end

local function log_print(...)
  local parts = {}
  for i = 1, select("#", ...) do parts[i] = tostring((select(i, ...))) end
  core.log(1, table.concat(parts, "\t"))
end

-- The real metatables of strings and files are shared by all there is.
local function get_metatable(v)
  if type(v) ~= "table" then return nil end
  return getmetatable(v)
end

local function collect(what)
  if what == "count" then return collectgarbage "count" end
  error('collectgarbage is not for servants, but for "count": a collection stops every call of the worker', 2)
end

local function lines(name, ...)
  if type(name) ~= "string" then error("io.lines is for a file's name: a worker has no input", 2) end
  return io.lines(name, ...)
end

-- The modules that are globals, and that require finds. allow: what the configuration opens for the file.
M.standard = {
  string = function() return copy(string, { dump = false }) end,
  table = function() return copy(table, {}) end,
  math = function()
    return copy(math, { randomseed = fenced("math.randomseed", "every servant's numbers come from one generator, which "
      .. "is seeded") })
  end,
  bit = function() return copy(bit, {}) end,
  coroutine = function() return copy(coroutine, coroutines) end,
  debug = function(allow) return copy(allow.debug and debug or debugs, {}) end,
  jit = function() return copy(jits, {}) end,
  io = function(allow)
    local own_io = copy(io, {
      stdin = false, lines = lines,
      read = fenced("io.read", "a worker has no input"),
      input = fenced("io.input", "it would change every servant's"),
      output = fenced("io.output", "it would change every servant's"),
    })
    if not allow["io.popen"] then own_io.popen = fenced("io.popen", "it would stop the worker") end
    return own_io
  end,
  os = function(allow)
    local own_os = copy(os, {
      exit = fenced "os.exit",
      setlocale = fenced("os.setlocale", "it would change every servant's numbers"),
    })
    if not allow["os.execute"] then own_os.execute = fenced("os.execute", "it would stop the worker") end
    return own_os
  end,
}

-- ---- what the configuration opens ----

local openable = { debug = true, ffi = true, ["io.popen"] = true, loadlib = true, ["os.execute"] = true }

--- fences(list) -> {[name] = {[word] = true}}, or raises what is wrong. list: {{name, allow = "ffi debug"}}. A helper
-- is named as it is required, a plugin by its name.
function M.fences(list)
  local fences = {}
  for _, fence in ipairs(list) do
    local name, allow = fence.name:gsub("/", "."), {}
    for word in fence.allow:gmatch "%S+" do
      if not openable[word] then
        error(("fence %q: %q is nothing to allow: debug, ffi, io.popen, loadlib or os.execute%s"):format(name, word,
          suggest.near(word, openable)), 0)
      end
      allow[word] = true
    end
    fences[name] = allow
  end
  return fences
end

-- ---- fae's modules, as a file's own ----

-- What the file changes in its configuration nobody else sees.
local function own_config()
  local mine = {}
  local function deep(value)
    if type(value) ~= "table" then return value end
    local to = {}
    for k, v in pairs(value) do to[k] = deep(v) end
    return to
  end
  return function(name)
    if type(name) ~= "string" then error("fae.config takes a servant's name", 2) end
    mine[name] = mine[name] or deep(config.get(name))
    return mine[name]
  end
end

-- A copier of modules: tables without a metatable, however deep; the same table gives the same copy.
local function copier()
  local copies, get = {}, own_config()
  local function own_copy(value)
    if value == config.get then return get end
    if type(value) ~= "table" or getmetatable(value) ~= nil then return value end
    local to = copies[value]
    if to then return to end
    to = {}
    copies[value] = to
    for k, v in pairs(value) do to[k] = own_copy(v) end
    return to
  end
  return own_copy
end

-- ---- a file's globals ----

local closed = {}

--- new(file, require[, allow]) -> the globals of that file, which it cannot add to; require(name, level) finds what is
-- not standard
function M.new(file, require_other, allow)
  allow = allow or closed
  local sandbox = copy(basics, {})
  local env = setmetatable({}, {
    __index = sandbox,
    __newindex = function(_, key)
      error(("global %q is written in %s: make it local"):format(tostring(key), file), 2)
    end,
    __metatable = "environment",
  })
  for name, make in pairs(M.standard) do sandbox[name] = make(allow) end
  if allow.loadlib then sandbox.package = { loadlib = package.loadlib } end
  sandbox._G = env
  sandbox.load = loader_of(env)
  sandbox.loadstring = function(source, name) return sandbox.load(source, name) end
  sandbox.print = log_print
  sandbox.getmetatable = get_metatable
  sandbox.collectgarbage = collect
  local own_copy = copier()
  function sandbox.require(name)
    if type(name) ~= "string" then error("require takes a module's name", 2) end
    if M.standard[name] then return sandbox[name] end
    if name == "ffi" and allow.ffi then return package.loaded.ffi end
    if name == "fae" or name:find "^fae%." then return (own_copy(require_other(name, 3))) end
    return require_other(name)
  end
  return env
end

return M
