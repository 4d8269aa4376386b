-- SPDX-License-Identifier: BSD-2-Clause
--
-- What a servant may declare, and what is said when it declares something else; helpers, hooks, the order of loading.
local fae = require "fae"
local testing = require "fae.testing"

local HEAD = 'local fae = require "fae"\nlocal s = fae.servant "s"\n'

-- The one error of a file.
local function refused(text, source)
  assert.equal(text, (testing.errors(source):gsub("^servants/x%.lua:", "")))
end

local function loads(files, options)
  local generation = testing.load(files, options)
  assert.same({}, generation.errors)
  return generation
end

describe("a declaration", function()
  local rows = {
    -- the servant
    { "1: a servant's name is a word, as in fae.servant \"user\"", 'require "fae".servant()' },
    { "1: a servant's name is a word, as in fae.servant \"user\"", 'require "fae".servant "two words"' },
    { "1: a servant's name is a word, as in fae.servant \"user\"", 'require "fae".servant "1st"' },
    { "1: a servant's name is a word, as in fae.servant \"user\"", 'require "fae".servant ""' },
    { '2: servant "s" is declared twice', 'require "fae".servant "s"\nrequire "fae".servant "s"' },
    { "1: s: options must be a table", 'require "fae".servant("s", 5)' },
    { '1: s: no option "jti"; did you mean "jit"?', 'require "fae".servant("s", { jti = false })' },
    { "1: s: jit must be a boolean, not a number", 'require "fae".servant("s", { jit = 0 })' },
    { "1: declares no servant and returns nothing", "local x = 1" },
    -- the method
    { "3: a method's name is a word", HEAD .. "s.method('a b', function() end)" },
    { "3: a method's name is a word", HEAD .. "s.method('a.b', function() end)" },
    { "3: a method's name is a word", HEAD .. "s.method(nil, function() end)" },
    { "3: s.m: the method itself must be a function", HEAD .. "s.method('m')" },
    { "3: s.m: the method itself must be a function", HEAD .. "s.method('m', {}, 5)" },
    { "3: s.m: options must be a table", HEAD .. "s.method('m', 5, print)" },
    { "4: s.m is declared twice", HEAD .. "s.method('m', print)\ns.method('m', print)" },
    -- its options
    { '3: s.m: no option "timeout"', HEAD .. "s.method('m', { timeout = 5 }, print)" },
    { '3: s.m: no option "timeuot_ms"; did you mean "timeout_ms"?',
      HEAD .. "s.method('m', { timeuot_ms = 5 }, print)" },
    { '3: s.m: no option "dok"; did you mean "doc"?', HEAD .. "s.method('m', { dok = 'x' }, print)" },
    { '3: s.m: no option "1"', HEAD .. "s.method('m', { 'int' }, print)" },
    { "3: s.m: timeout_ms must be a number, not a string", HEAD .. "s.method('m', { timeout_ms = '5' }, print)" },
    { "3: s.m: timeout_ms is 1 to 600000, not 0", HEAD .. "s.method('m', { timeout_ms = 0 }, print)" },
    { "3: s.m: timeout_ms is 1 to 600000, not 600001", HEAD .. "s.method('m', { timeout_ms = 600001 }, print)" },
    { "3: s.m: timeout_ms is 1 to 600000, not 1.5", HEAD .. "s.method('m', { timeout_ms = 1.5 }, print)" },
    { "3: s.m: timeout_ms is 1 to 600000, not inf", HEAD .. "s.method('m', { timeout_ms = 1/0 }, print)" },
    { "3: s.m: timeout_ms is 1 to 600000, not nan", HEAD .. "s.method('m', { timeout_ms = math.abs(0/0) }, print)" },
    { "3: s.m: doc must be a string, not a table", HEAD .. "s.method('m', { doc = {} }, print)" },
    { "3: s.m: idempotent must be a boolean, not a number", HEAD .. "s.method('m', { idempotent = 1 }, print)" },
    { "3: s.m: alias must be a string, not a table", HEAD .. "s.method('m', { alias = {} }, print)" },
    { '3: s.m: alias "" is not a word', HEAD .. "s.method('m', { alias = '' }, print)" },
    { '3: s.m: alias "a b" is not a word', HEAD .. "s.method('m', { alias = 'a b' }, print)" },
    { '3: s.m: alias "s.m" is taken', HEAD .. "s.method('m', { alias = 's.m' }, print)" },
    { "3: s.m: route is the number of an argument, from 1", HEAD .. "s.method('m', { route = 0 }, print)" },
    { "3: s.m: route is the number of an argument, from 1", HEAD .. "s.method('m', { route = 1.5 }, print)" },
    { "3: s.m: route is the number of an argument, from 1", HEAD .. "s.method('m', { route = 1e300 }, print)" },
    { "3: s.m: route is the number of an argument, from 1",
      HEAD .. "s.method('m', { args = { 'int' }, route = 2 }, print)" },
    -- args
    { "3: s.m: args must be a table, not a string", HEAD .. "s.method('m', { args = 'int' }, print)" },
    { "3: s.m: args is a list of types, and x is no place in it",
      HEAD .. "s.method('m', { args = { x = 'int' } }, print)" },
    { '3: s.m: "..." must be the last of args', HEAD .. "s.method('m', { args = { '...', 'int' } }, print)" },
    -- hooks
    { "3: s.on_load takes a function", HEAD .. "s.on_load(5)" },
    { "3: s.on_unload takes a function", HEAD .. "s.on_unload()" },
    { "3: s.self_check takes a function", HEAD .. "s.self_check {}" },
  }
  for _, row in ipairs(rows) do
    it("is refused: " .. row[2]:gsub("^.*\n", ""), function() refused(row[1], row[2]) end)
  end
  for _, word in ipairs { "'integer'", "'int??'", "'?'", "''", "'Int'", "'...?'", "5", "{}", "true" } do
    it("is refused with args = { " .. word .. " }", function()
      local text = testing.errors(HEAD .. "s.method('m', { args = { 'int', " .. word .. " } }, print)")
      assert.matches("^servants/x.lua:3: s.m: args%[2%] is .*, not a type: any int number string boolean table", text)
    end)
  end
  it("is refused with a name longer than 128 bytes, and taken with 128", function()
    local long = ("n"):rep(127)
    refused("3: s." .. long .. ": the name is longer than 128 bytes", HEAD .. ("s.method('%s', print)"):format(long))
    loads { ["servants/x.lua"] = HEAD .. ("s.method('%s', print)"):format(long:sub(2)) }
    refused(("3: s.m: alias %q is longer than 128 bytes"):format(long .. "nn"),
      HEAD .. ("s.method('m', { alias = '%s' }, print)"):format(long .. "nn"))
  end)
  it("is refused with more than 200 args, and taken with 200", function()
    local source = HEAD .. "local a = {} for i = 1, %d do a[i] = 'any?' end\ns.method('m', { args = a }, print)"
    refused("4: s.m: more than 200 args", source:format(201))
    loads { ["servants/x.lua"] = source:format(200) }
  end)
  it("comes as sys.servants tells it", function()
    local g = loads { ["servants/x.lua"] = HEAD .. [[
      s.method("all", { args = { "int", "string?", "..." }, timeout_ms = 600000, doc = "text", route = 1,
        idempotent = true, alias = "old_name" }, function(_, n) return n end)
      s.method("none", function() end)]] }
    assert.same({ { name = "s", methods = {
      { name = "s.all", args = { "int", "string?", "..." }, timeout_ms = 600000, doc = "text", route = 1,
        idempotent = true, alias = "old_name" },
      { name = "s.none" },
    } } }, g.servants)
    assert.is_true(g.methods.old_name.alias)
    assert.equal(7, g.call("s.all", 7))
    assert.equal(7, g.call("old_name", 7))
  end)
  it("is not for later", function()
    local g = loads { ["servants/x.lua"] = HEAD .. [[
      s.method("again", function() s.method("late", function() end) end)
      s.method("servant", function() fae.servant "late" end)
      s.method("hook", function() s.on_unload(function() end) end)]] }
    for method, text in pairs { again = "s.late", servant = 'servant "late"', hook = "s.on_unload" } do
      local ok, err = pcall(g.call, "s." .. method)
      assert.is_false(ok)
      assert.matches("^servants/x.lua:%d+: " .. text .. ": declared while a file loads, not later", err)
    end
    assert.equal(1, #g.servants)
    assert.is_nil(g.methods["s.late"])
  end)
  it("gives the servant its methods, and takes none of its own away", function()
    local g = loads { ["servants/x.lua"] = HEAD .. [[
      s.method("one", function() return 1 end)
      s.method("method", function() return "mine" end)
      s.method("two", function() return s.one() + 1 end)]] }
    assert.equal(2, g.call "s.two")
    assert.equal("mine", g.call "s.method")
  end)
end)

describe("a file that does not load", function()
  local function of(source) return testing.errors(source) end
  it("shows its line", function()
    assert.equal("servants/x.lua:2: '=' expected near '<eof>'", of "local a\nb")
    assert.equal("servants/x.lua:2: boom", of "\nerror 'boom'")
    assert.equal("servants/x.lua:1: attempt to index global 'nothing' (a nil value)", of "local x = nothing.at.all")
    assert.equal("boom", of "error('boom', 0)")
    assert.equal("servants/x.lua: mine", of "error { message = 'mine' }")
    assert.equal("servants/x.lua: error object is a table", of "error {}")
    assert.equal("servants/x.lua: error object is a nil", of "error()")
    assert.equal("servants/x.lua:1: one line", of "error 'one line\\ntwo'")
    assert.equal("servants/x.lua:1: precompiled Lua is not loaded", of "\27LJ\2")
  end)
  it("may fail in odd ways", function()
    assert.matches("stack overflow", of "local function f() return 1 + f() end f()")
    assert.matches("^servants/x.lua", of "error(setmetatable({}, { __index = error, __tostring = error }))")
    assert.matches(".", of "error(setmetatable({ message = setmetatable({}, { __tostring = error }) }, {}))")
  end)
  it("does not hide the errors of others", function()
    local g = testing.load {
      ["servants/a.lua"] = "error 'of a'", ["servants/b.lua"] = "error 'of b'", ["servants/c.lua"] = HEAD,
    }
    assert.same({ "servants/a.lua:1: of a", "servants/b.lua:1: of b" }, g.errors)
  end)
  it("is told once, whoever requires it", function()
    local g = testing.load {
      ["servants/a.lua"] = HEAD .. "require 'z'", ["servants/b.lua"] = "pcall(require, 'z') require 'z'",
      ["servants/z.lua"] = "require 'fae'.servant 'z'\nerror 'of z'",
    }
    assert.same({ "servants/z.lua:2: of z" }, g.errors)
  end)
  it("cannot have a name that require gives to something else", function()
    for _, name in ipairs { "fae", "string", "io", "a.b" } do
      local g = testing.load { ["servants/" .. name .. ".lua"] = HEAD }
      assert.same({ ("servants/%s.lua:1: a servant's file cannot be called %s: require would find something else")
        :format(name, name) }, g.errors)
    end
  end)
  it("two files cannot declare one servant", function()
    local g = testing.load { ["servants/a.lua"] = HEAD, ["servants/b.lua"] = HEAD }
    assert.same({ 'servants/b.lua:2: servant "s" is declared twice' }, g.errors)
  end)
  it("two servants cannot have one alias", function()
    local source = 'local s = require "fae".servant "%s" s.method("m", { alias = "old" }, print)'
    local g = testing.load { ["servants/a.lua"] = source:format "a", ["servants/b.lua"] = source:format "b" }
    assert.same({ 'servants/b.lua:1: b.m: alias "old" is taken' }, g.errors)
  end)
end)

describe("require", function()
  it("finds helpers, each loaded once", function()
    local g = loads {
      ["servants/a.lua"] = HEAD .. 's.method("m", function() return require "lib.count".n end)',
      ["servants/b.lua"] = 'local c = require "lib.count" c.n = c.n + 10 return c',
      ["servants/lib/count.lua"] = "local name = ... return { n = 1, name = name }",
      ["servants/pack/init.lua"] = "return 'a package'",
      ["servants/c.lua"] = "return { require 'pack', require 'lib.count'.name }",
    }
    assert.equal(11, g.call "s.m")
  end)
  it("finds the standard modules of the file", function()
    loads { ["servants/x.lua"] = HEAD .. [[
      for name in ("string table math bit coroutine io os jit debug"):gmatch "%a+" do
        assert(require(name) == _G[name], name)
      end]] }
  end)
  it("finds other servants", function()
    local g = loads {
      ["servants/a.lua"] = HEAD .. 's.method("m", function() return require("b").n() end)',
      ["servants/b.lua"] = 'local b = require "fae".servant "b" b.method("n", function() return 5 end) return b',
    }
    assert.equal(5, g.call "s.m")
  end)
  it("says what it does not find", function()
    refused('1: module "nope" is neither in servants nor part of fae', "require 'nope'")
    refused('1: module "fae.nope" is not part of fae', "require 'fae.nope'")
    refused("1: require takes a module's name", "require()")
    refused("1: require takes a module's name", "require {}")
  end)
  it("says when modules require each other", function()
    local g = testing.load { ["servants/a.lua"] = "require 'b'", ["servants/b.lua"] = "require 'a'" }
    assert.same({ 'servants/b.lua:1: module "a" requires itself' }, g.errors)
  end)
  it("may be called in a method", function()
    local g = loads {
      ["servants/a.lua"] = HEAD .. 's.method("m", function() return require "late.one" end)',
      ["servants/late/one.lua"] = "return 'late'",
    }
    assert.equal("late", g.call "s.m")
  end)
end)

describe("hooks", function()
  local source = HEAD .. [[
    s.on_load(function(state) state.n = (state.n or 0) + 1 end)
    s.on_unload(function() return "unloaded" end)
    s.self_check(function() error "self check ran" end)]]
  it("on_load gets what the worker keeps, self_check runs in the checker only", function()
    local states = {}
    local g = loads({ ["servants/x.lua"] = source }, { states = states })
    assert.same({ s = { n = 1 } }, states)
    loads({ ["servants/x.lua"] = source }, { states = states })
    assert.same({ s = { n = 2 } }, states)
    assert.equal("unloaded", g.on_unload[1]())
  end)
  it("a self_check that raises is an error, and on_load in the checker has a state of its own", function()
    local states = { s = { n = 5 } }
    local g = testing.load({ ["servants/x.lua"] = source }, { checking = true, states = states })
    assert.same({ "servants/x.lua:5: self check ran" }, g.errors)
    assert.same({ s = { n = 5 } }, states)
  end)
  it("an on_load that raises is an error", function()
    refused("3: no state", HEAD .. "s.on_load(function() error 'no state' end)")
  end)
  it("none runs when something did not load", function()
    local states = {}
    local g = testing.load({ ["servants/x.lua"] = source, ["servants/y.lua"] = "error 'y'" }, { states = states })
    assert.same({ "servants/y.lua:1: y" }, g.errors)
    assert.is_nil(states.s and states.s.n)
  end)
end)

describe("files on disk", function()
  it("replace built-in ones of the same name", function()
    local hello = 'local h = require "fae".servant "hello" h.method("greet", function() return "from disk" end)'
    local g = loads({ ["servants/hello.lua"] = hello }, { bundled = true })
    assert.equal("from disk", g.call "hello.greet")
    assert.truthy(g.methods["sys.ping"])
  end)
  it("replace modules of the runtime", function()
    local g = loads { ["lua/fae/time.lua"] = "return { now_ms = function() return 42 end }",
      ["servants/x.lua"] = HEAD .. 's.method("m", function() return fae.time.now_ms() end)' }
    assert.equal(42, g.call "s.m")
    g = testing.load { ["lua/fae/time.lua"] = "return {", ["servants/x.lua"] = HEAD }
    assert.matches("^lua/fae/time.lua:1: ", g.errors[1])
  end)
end)

describe("what is bundled", function()
  it("loads by itself, and its self-checks pass", function()
    loads({}, { bundled = true, checking = true })
    assert.equal("hello.greet", fae.call("sys.servants", "hello").servants[1].methods[1].name)
  end)
end)
