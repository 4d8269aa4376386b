-- SPDX-License-Identifier: BSD-2-Clause
--
-- The fence around servants (lua/fae/sandbox.lua): ways out that must not work, and what must go on working.
local fae = require "fae"
local testing = require "fae.testing"

local HEAD = 'local fae = require "fae" local s = fae.servant "s" '

-- Runs the source as a method's body: what it returns, or raises.
local function inside(source, ...)
  local g = testing.load { ["servants/x.lua"] = HEAD .. "s.method('run', function(call, ...) " .. source .. " end)" }
  assert.same({}, g.errors)
  return g.call("s.run", ...)
end

local function raises(pattern, source, ...)
  local ok, err = pcall(inside, source, ...)
  assert.is_false(ok, "went through: " .. source)
  assert.matches(pattern, tostring(err))
end

describe("a servant does not have", function()
  for name in ([[ffi package module dofile loadfile newproxy getfenv setfenv gcinfo arg describe busted core
    debug.sethook debug.getupvalue debug.setupvalue debug.getregistry debug.getmetatable debug.setmetatable
    debug.getlocal debug.setlocal debug.upvaluejoin debug.getfenv debug.setfenv debug.gethook debug.debug
    string.dump jit.opt jit.util jit.flush jit.attach jit.prngstate table.wipe]]):gmatch "%S+" do
    it(name, function()
      local parent, field = name:match "^(.*)%.(.*)$"
      assert.is_nil((inside("return " .. name)))
      assert.is_nil((inside(field and ("return require(%q).%s"):format(parent, field) or "return _G." .. name)))
    end)
  end
end)

describe("require does not give", function()
  for _, name in ipairs { "ffi", "package", "jit.opt", "jit.util", "jit.dump", "busted", "cjson", "../../etc/passwd",
    "fae.core", "fae.loader", "fae.sandbox", "fae.testing", "fae.builtin", "fae.core.x", "/fae.core", "fae..core" } do
    it(name, function() raises("module .* is n", ("return require(%q)"):format(name)) end)
  end
end)

describe("no way out", function()
  local ways = {
    { "os.execute", "os%.execute is not for servants: it would stop the worker", "os.execute 'true'" },
    { "os.exit", "os%.exit is not for servants", "os.exit(0)" },
    { "os.setlocale", "os%.setlocale is not for servants", "os.setlocale 'C'" },
    { "io.popen", "io%.popen is not for servants", "io.popen 'true'" },
    { "io.popen by require", "io%.popen is not for servants", "require 'io'.popen 'true'" },
    { "collectgarbage", "collectgarbage is not for servants", "collectgarbage()" },
    { "collectgarbage stop", "collectgarbage is not for servants", "collectgarbage 'stop'" },
    { "a global", 'global "x" is written in servants/x.lua: make it local', "x = 1" },
    { "a global by _G", 'global "x" is written in', "_G.x = 1" },
    { "a global by _G in _G", 'global "x" is written in', "_G._G._G.x = 1" },
    { "a global function", 'global "f" is written in', "function f() end" },
    { "another's global", 'global "string" is written in', "string = nil" },
    { "a global in loaded code", 'global "x" is written in', "load 'x = 1'()" },
    { "a global in loadstring", 'global "x" is written in', "loadstring '_G.x = 1'()" },
    { "the metatable of _G", "protected metatable", "setmetatable(_G, {})" },
    { "a precompiled chunk", "attempt to load chunk with wrong mode", "assert(load('\\27LJ\\2\\0'))" },
    { "a precompiled chunk, mode b", "wrong mode", "assert(load('\\27LJ\\2\\0', 'x', 'b'))" },
    { "a precompiled chunk in pieces", "wrong mode",
      "local p = { '\\27', 'LJ\\2' } local i = 0 assert(load(function() i = i + 1 return p[i] end, 'x', 'bt'))" },
    { "the function of a frame", "debug.getinfo gives n, S, l and u here", "return debug.getinfo(1, 'f').func" },
    { "the function of a frame, by >", "debug.getinfo gives", "return debug.getinfo(1, '>f')" },
    { "a coroutine's frames", "bad argument #1|debug.getinfo gives|number expected",
      "return debug.getinfo(coroutine.create(print), 0)" },
    { "the whole compiler", "jit.off is for one function: the rest of the worker keeps its compiler", "jit.off()" },
    { "the whole compiler, on", "jit.on is for one function", "jit.on()" },
    { "a waiting function in sort", "cannot be called from inside a C function",
      "table.sort({ 2, 1 }, function() fae.sleep(1) end)" },
    { "a waiting function in gsub", "cannot be called from inside a C function",
      "return (('x'):gsub('x', function() fae.sleep(1) end))" },
    { "a waiting function in a coroutine", "use fae.spawn or fae.parallel",
      "coroutine.wrap(function() fae.sleep(1) end)()" },
    { "parallel in a coroutine", "use fae.spawn or fae.parallel",
      "coroutine.wrap(function() fae.parallel { function() end } end)()" },
    { "the call's metatable", "protected metatable|table expected", "setmetatable(call, {})" },
    { "a mark's metatable", "protected metatable", "setmetatable(fae.map(), {})" },
  }
  for _, way in ipairs(ways) do
    it("to " .. way[1], function()
      local ok, err = pcall(inside, way[3])
      assert.is_false(ok, "went through")
      for pattern in way[2]:gmatch "[^|]+" do
        if tostring(err):find(pattern) then return end
      end
      error(("%q does not say %q"):format(tostring(err), way[2]))
    end)
  end

  it("to the metatables of strings and files", function()
    assert.is_nil((inside "return getmetatable ''"))
    assert.is_nil((inside "return getmetatable(io.stdout)"))
    assert.is_nil((inside "return (('').dump)"))
    assert.is_nil((inside "return io.stdout.popen"))
  end)
  it("to another file's tables", function()
    local g = testing.load {
      ["servants/a.lua"] = [[
        string.format, table.insert, math.floor, os.time = nil, nil, nil, nil
        rawset(_G, "leak", 1) rawset(_G, "print", nil)
        _G.string.len = error]],
      ["servants/b.lua"] = HEAD .. [[
        assert(string.format and table.insert and math.floor and os.time and print and leak == nil)
        assert(string.len "abc" == 3)]],
    }
    assert.same({ "servants/a.lua:1: declares no servant and returns nothing" }, g.errors)
    assert.equal("function", type(string.format))
    assert.is_nil(rawget(_G, "leak"))
  end)
  it("to the environment's table", function()
    assert.equal("environment", (inside "return getmetatable(_G)"))
    assert.is_nil((inside "return next(_G) and rawget(_G, 'string')"))
    assert.equal(0, (inside "local n = 0 for _ in pairs(_G) do n = n + 1 end return n"))
  end)
  it("to the running task's coroutine", function()
    assert.is_nil((inside "return coroutine.running()"))
    assert.is_nil((inside "fae.sleep(1) return coroutine.running()"))
    assert.is_true((inside [[
      local co
      co = coroutine.create(function() return coroutine.running() == co end)
      return select(2, coroutine.resume(co))]]))
    assert.equal("thread", (inside "return coroutine.wrap(function() return type(coroutine.running()) end)()"))
  end)
  it("to core functions through what is given", function()
    local seen = {}
    local function walk(value, path)
      if type(value) ~= "table" or seen[value] then return end
      seen[value] = true
      for k, v in pairs(value) do
        assert.is_false(k == "register" or k == "timer_start" or k == "msgpack_encode", path .. "." .. tostring(k))
        walk(v, path .. "." .. tostring(k))
      end
    end
    walk((inside [[
      local all = { fae }
      for m in ("call config failure json log msgpack node servant task time types"):gmatch "%a+" do
        all[m] = require("fae." .. m)
      end
      return all]]), "fae")
    assert.is_true(next(seen) ~= nil)
  end)
end)

describe("what works inside", function()
  it("loaded code sees the file's globals, or those it is given", function()
    assert.equal(3, (inside "return load 'return math.max(1, 3)'()"))
    assert.equal(5, (inside "return load('return x', 'n', 't', { x = 5 })()"))
    assert.equal(7, (inside [[
      local parts, i = { "return ", "7" }, 0
      return load(function() i = i + 1 return parts[i] end)()]]))
    assert.matches("near", (select(2, inside "return load 'return return'")))
    assert.matches("^mine:1:", (select(2, inside "return load('x x', '@mine')")))
  end)
  it("coroutines", function()
    assert.same({ 1, 2, 3 }, (inside [[
      local t = {}
      for v in coroutine.wrap(function(a) for i = a, 3 do coroutine.yield(i) end end), 1 do t[#t + 1] = v end
      return t]]))
    assert.same({ true, "a", "b" }, { inside [[
      return coroutine.resume(coroutine.create(function(...) return ... end), "a", "b")]] })
    raises("coroutine.wrap takes a function", "coroutine.wrap(5)")
    raises("mine", "coroutine.wrap(function() error 'mine' end)()")
    raises("dead", "local f = coroutine.wrap(function() end) f() f()")
    assert.equal("suspended", (inside "return coroutine.status(coroutine.create(print))"))
  end)
  it("debug.traceback and debug.getinfo", function()
    assert.matches("stack traceback", (inside "return debug.traceback 'x'"))
    assert.equal("servants/x.lua", (inside "return debug.getinfo(1, 'S').short_src"))
    assert.equal(1, (inside "return debug.getinfo(1, 'l').currentline"))
    assert.equal("C", (inside "return debug.getinfo(print or 1).what == 'Lua' and debug.getinfo(pcall).what"))
    assert.is_nil((inside "return debug.getinfo(1).func"))
    assert.is_nil((inside "return debug.getinfo(100)"))
  end)
  it("jit.off for a function, or for the file", function()
    assert.equal(1, (inside "local function f() return 1 end jit.off(f) jit.on(f) return f()"))
    local source = "jit.off(true, true) " .. HEAD .. "s.method('run', function() return 1 end)"
    local g = testing.load { ["servants/x.lua"] = source }
    assert.same({}, g.errors)
    assert.equal(1, g.call "s.run")
    source = 'local s = require "fae".servant("s", { jit = false }) s.method("m", print)'
    g = testing.load { ["servants/x.lua"] = source }
    assert.same({}, g.errors)
  end)
  it("files, the clock and the environment", function()
    assert.equal("number", (inside "return type(os.time())"))
    assert.equal("string", (inside "return type(os.getenv 'PATH')"))
    local path = os.tmpname()
    assert.equal("written", (inside([[
      local path = ...
      local f = assert(io.open(path, "w"))
      f:write "written"
      f:close()
      f = assert(io.open(path))
      local text = f:read "*a"
      f:close()
      os.remove(path)
      return text]], path)))
    assert.is_nil(io.open(path))
  end)
  it("collectgarbage count, and 64-bit literals", function()
    assert.equal("number", (inside "return type(collectgarbage 'count')"))
    assert.equal("9007199254740993LL", (inside "return tostring(9007199254740992LL + 1)"))
    assert.is_nil((inside "return getmetatable(1LL)"))
  end)
  it("pcall, xpcall and metatables", function()
    assert.is_false((inside "return (pcall(error))"))
    assert.equal("handled", (select(2, inside "return xpcall(error, function() return 'handled' end)")))
    assert.equal(5, (inside "return setmetatable({}, { __index = function() return 5 end }).x"))
    assert.equal(5, (inside "return getmetatable(setmetatable({}, { n = 5 })).n"))
  end)
end)

describe("fae.parallel in a coroutine of one's own", function()
  it("starts nothing", function()
    local ran = false
    local ok = pcall(coroutine.wrap(function() fae.parallel { function() ran = true end } end))
    assert.is_false(ok)
    fae.sleep(1)
    assert.is_false(ran)
  end)
end)
