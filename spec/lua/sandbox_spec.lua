-- SPDX-License-Identifier: BSD-2-Clause
--
-- The fence around servants (lua/fae/sandbox.lua): ways out that must not work, and what must go on working
-- (I12).
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
    "fae.core", "fae.loader", "fae.sandbox", "fae.testing", "fae.ffi", "fae.builtin",
    "fae.core.x", "/fae.core", "fae..core" } do
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
    { "a bin's metatable", "protected metatable", "setmetatable(fae.bin 'x', {})" },
    { "an ext's metatable", "protected metatable", "setmetatable(fae.ext(1, 'x'), {})" },
    { "an err's metatable", "protected metatable", "setmetatable(fae.err('X', 'y'), {})" },
    { "a timer's metatable", "protected metatable", "setmetatable(fae.timer(1000, print), {})" },
    { "a remote's metatable", "protected metatable", "setmetatable(fae.remote 'tcp://127.0.0.1:1', {})" },
    { "a breaker's metatable", "protected metatable", "setmetatable(fae.breaker 'x', {})" },
    { "another's timer", "that is no timer", "fae.timer(1000, print).stop({ id = 1 })" },
    { "a remote's handle", "that is no remote", "fae.remote('tcp://127.0.0.1:1').call({}, 'sys.ping')" },
    { "everybody's random numbers", "math%.randomseed is not for servants: every servant's numbers",
      "math.randomseed(1)" },
    { "the worker's input", "io%.read is not for servants: a worker has no input", "io.read()" },
    { "the worker's input, by lines", "io%.lines is for a file's name: a worker has no input", "io.lines()" },
    { "everybody's input file", "io%.input is not for servants: it would change every servant's",
      "io.input '/dev/null'" },
    { "everybody's output file", "io%.output is not for servants", "io.output '/dev/null'" },
    { "io.popen by a copy", "io%.popen is not for servants",
      "local t = {} for k, v in pairs(io) do t[k] = v end t.popen 'x'" },
    { "os.execute by load", "os%.execute is not for servants", "load 'return os'().execute 'true'" },
    { "os.exit by a coroutine", "os%.exit is not for servants", "coroutine.wrap(os.exit)(0)" },
    { "os.exit by a handler", "error in error handling", "error((select(2, xpcall(error, os.exit))))" },
    { "a finalizer for userdata", "attempt to call global 'newproxy'", "newproxy(true)" },
    { "the environment of a function", "attempt to call global 'setfenv'", "setfenv(1, {})" },
    { "the environment of a level", "attempt to call global 'getfenv'", "getfenv(0)" },
    { "package.loadlib", "attempt to index global 'package'", "package.loadlib('libc.so.6', 'system')" },
    { "package.loaded", "attempt to index global 'package'", "return package.loaded.ffi" },
    { "dofile", "attempt to call global 'dofile'", "dofile '/etc/passwd'" },
    { "loadfile", "attempt to call global 'loadfile'", "loadfile '/etc/passwd'" },
    { "string.dump", "attempt to call field 'dump'", "string.dump(function() end)" },
    { "string.dump by a method", "attempt to call method 'dump'", "('x'):dump()" },
    { "the metatable of strings, to write", "attempt to index", "getmetatable('').__index = {}" },
    { "the methods of files, to write", "attempt to index field '__index'", "io.stdout.__index.write = print" },
    { "the finalizer of files", "attempt to call field '__gc'", "io.stdout.__gc(io.stdout)" },
    { "strings' methods through a proxy", "attempt to index", "setmetatable({}, { __newindex = '' }).format = 1" },
    { "debug.sethook", "attempt to call field 'sethook'", "debug.sethook(print, 'c')" },
    { "debug.getregistry", "attempt to call field 'getregistry'", "debug.getregistry()" },
    { "upvalues", "attempt to call field 'getupvalue'", "debug.getupvalue(fae.call, 1)" },
    { "locals of the engine", "attempt to call field 'getlocal'", "debug.getlocal(2, 1)" },
    { "the compiler's options", "attempt to index field 'opt'", "jit.opt.start 'hotloop=1'" },
    { "the compiler's utilities", "attempt to index field 'util'", "jit.util.funcbc(print, 1)" },
    { "the compiler of C functions", "got|function expected", "jit.off(print, true) jit.off(pcall)" },
    { "a collection", "collectgarbage is not for servants", "for i = 1, 1e6 do collectgarbage 'step' end" },
    { "a collection in pcall", "collectgarbage is not for servants",
      "error((select(2, pcall(collectgarbage, 'collect'))))" },
    { "the task's coroutine, by resume", "bad argument #1 to 'resume'", "coroutine.resume(coroutine.running())" },
    { "the engine's scheduler", "module \"fae.core\" is not for servants", "require 'fae.core'.start(print)" },
    { "plugins' insides", "module \"fae.plugin\" is not for servants", "require 'fae.plugin'.wrap(print)" },
    { "a plugin's hooks", "declared by a file that the configuration names", "fae.plugin 's'" },
    { "methods of others, later", "declared while a file loads, not later", "fae.servant 'sys'" },
    { "a method of its own, later", "declared while a file loads, not later", "s.method('more', print)" },
    { "a file outside by require", "is neither in servants nor part of fae", "require '/etc/passwd'" },
    { "a folder outside by require", "is neither in servants nor part of fae", "require '....etc.passwd'" },
    { "another's configuration", "takes a servant's name", "fae.config(setmetatable({}, { __tostring = error }))" },
    { "C by a 64-bit number", "attempt to call|not callable|cannot call", "(1LL)('int')" },
    { "ffi through a 64-bit number", "has no member|attempt to index|cannot be indexed|cannot index",
      "return (1LL).new" },
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

  it("to fae's tables, which are the file's own", function()
    local g = testing.load {
      ["servants/a.lua"] = [[
        local fae = require "fae"
        fae.sleep, fae.log.info, fae.null = nil, nil, nil
        rawset(fae, "call", error)
        rawset(require "fae.json", "encode", error)
        require "fae.node".servants = error
        fae.config "b".x = "changed"
        return fae]],
      ["servants/b.lua"] = HEAD .. [[
        assert(fae.sleep and fae.log.info and fae.null and fae.call ~= error and fae.json.encode ~= error)
        assert(require "fae.json".encode ~= error and require "fae.node".servants ~= error)
        assert(require "fae" == fae and require "fae.log" == fae.log, "one copy a file")
        assert(fae.config "b".x == nil)
        assert(fae.config "b" == fae.config "b", "one table a file")]],
    }
    assert.same({}, g.errors)
    assert.equal("function", type(fae.sleep))
    assert.equal("function", type(fae.log.info))
  end)
  it("to what sys.servants tells", function()
    local g = testing.load { ["servants/x.lua"] = HEAD .. [[
      local options = { args = { "int" } }
      s.method("run", options, function()
        options.args[1] = "changed"
        local servants = require "fae.node".servants()
        servants[1].name = "changed"
        return require "fae.node".servants()[1]
      end)]] }
    assert.same({}, g.errors)
    local told = g.call "s.run"
    assert.equal("s", told.name)
    assert.same({ "int" }, told.methods[1].args)
  end)
  it("to options that change between check and use", function()
    local g = testing.load { ["servants/x.lua"] = HEAD .. [[
      local n = 0
      s.method("run", setmetatable({}, { __index = function(_, key)
        n = n + 1
        if key == "timeout_ms" then return n > 1 and 0 / 0 or 5 end
      end }), function() end)]] }
    assert.same({}, g.errors)
    assert.is_nil(g.methods["s.run"].options.timeout_ms)
    assert.is_nil(getmetatable(g.methods["s.run"].options))
  end)
  it("to the engine by an error object's metamethods", function()
    local g = testing.load { ["servants/x.lua"] = HEAD .. [[
      local trap = { __tostring = error, __index = error, __concat = error, __len = error, __call = error }
      s.method("raised", function() error(setmetatable({}, trap)) end)
      s.method("coded", function() error(setmetatable({ code = "MINE", message = "m" }, trap)) end)
      s.method("lone", function() error(setmetatable({ code = setmetatable({}, trap) }, trap)) end)
      s.method("run", function(_, name)
        local _, err = fae.call("s." .. name)
        return rawget(err, "code"), rawget(err, "message")
      end)]] }
    assert.same({}, g.errors)
    assert.same({ "INTERNAL", "the error object is a table" }, { g.call("s.run", "raised") })
    assert.same({ "MINE", "m" }, { g.call("s.run", "coded") })
    assert.same({ "INTERNAL", "the error object is a table" }, { g.call("s.run", "lone") })
  end)
  it("to the loader by an error object's metamethods", function()
    assert.same({ "servants/x.lua: error object is a table" }, testing.load {
      ["servants/x.lua"] = "error(setmetatable({}, { __tostring = error, __index = error }))" }.errors)
    assert.same({ "servants/x.lua: text" }, testing.load {
      ["servants/x.lua"] = "error(setmetatable({ message = 'text' }, { __index = error }))" }.errors)
  end)
  it("to the metatables of strings and files", function()
    assert.is_nil((inside "return getmetatable ''"))
    assert.is_nil((inside "return getmetatable(io.stdout)"))
    assert.is_nil((inside "return (('').dump)"))
    assert.is_nil((inside "return io.stdout.popen"))
    assert.equal("text", (inside "local f = io.tmpfile() f:write 'text' f:seek 'set' return (f:read '*a')"))
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

describe("a fence that the configuration opens", function()
  local function load(body, fences, files)
    files = files or {}
    files["servants/x.lua"] = HEAD .. body
    return testing.load(files, { fences = fences })
  end
  local opens = {
    { "ffi", "assert(require 'ffi'.abi '64bit')", 'module "ffi" is neither' },
    { "debug", "assert(debug.getregistry() and debug.sethook and require 'debug'.getupvalue)",
      "attempt to call field" },
    { "io.popen", "local p = assert(io.popen 'echo out') assert(p:read '*l' == 'out') p:close()",
      "io%.popen is not for" },
    { "os.execute", "assert(os.execute 'true' == 0)", "os%.execute is not for" },
    { "loadlib", "assert(not package.loadlib('/nowhere.so', 'x')) assert(package.loaded == nil)",
      "index global 'package'" },
  }
  for _, row in ipairs(opens) do
    it("lets a servant have " .. row[1] .. ", and nobody else", function()
      assert.same({}, load(row[2], { { name = "x", allow = row[1] } }).errors)
      assert.matches(row[3], load(row[2], {}).errors[1])
      assert.matches(row[3], load(row[2], { { name = "y", allow = row[1] } }, { ["servants/y.lua"] = "return 1" })
        .errors[1])
      for _, other in ipairs(opens) do
        if other ~= row then assert.matches(row[3], load(row[2], { { name = "x", allow = other[1] } }).errors[1]) end
      end
    end)
  end
  it("does not open it for what the file requires, which has a name of its own", function()
    local files = function() return { ["servants/x/help.lua"] = "return { ffi = pcall(require, 'ffi') }" } end
    local body = "assert(require 'x.help'.ffi == %s)"
    assert.same({}, load(body:format "false", { { name = "x", allow = "ffi" } }, files()).errors)
    assert.same({}, load(body:format "true", { { name = "x.help", allow = "ffi" } }, files()).errors)
    assert.same({}, load(body:format "true", { { name = "x/help", allow = "ffi debug" } }, files()).errors)
  end)
  it("opens it for a plugin by its name", function()
    local files = {
      ["servants/plugins/p.lua"] = 'require "fae".plugin "p" require "ffi"', ["servants/s.lua"] = "return 1",
    }
    assert.same({}, testing.load(files, { plugins = '{"p":{}}', fences = { { name = "p", allow = "ffi" } } }).errors)
    assert.matches('"ffi" is neither', testing.load(files, { plugins = '{"p":{}}' }).errors[1])
  end)
  it("is refused with a word or a name that nobody knows", function()
    local function errors(name, allow)
      return table.concat(load("", { { name = name, allow = allow } }).errors, "\n")
    end
    assert.equal('fence "x": "ffl" is nothing to allow: debug, ffi, io.popen, loadlib or os.execute; '
      .. 'did you mean "ffi"?', errors("x", "debug ffl"))
    assert.equal('fence "xy": no servant, plugin or helper is called that; did you mean "x"?', errors("xy", "ffi"))
    assert.equal("", errors("x", ""))
  end)
end)
