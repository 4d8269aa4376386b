-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.plugin: hooks around calls, their order and their failures; what is wrong with a declaration; the built-in ones.
local fae = require "fae"
local testing = require "fae.testing"

local SERVANT = [[
local fae = require "fae"
local s = fae.servant "s"
local notes = require "notes"
s.on_unload(function() return notes end)
s.method("add", function(_, a, b) notes[#notes + 1] = "add" return a + b end)
s.method("fail", function() return nil, fae.err("NOT_FOUND", "no such thing") end)
s.method("bug", function() error "mine" end)
s.method("odd", function() return nil, "text" end)
s.method("no", function() return false end)
s.method("twice", function(_, a) return (fae.call("s.add", a, a)) end)
s.method("list", function() notes[#notes + 1] = "list" return { 1, 2, { a = fae.map() } } end)
]]
local HEAD = 'local fae = require "fae" local plugin = fae.plugin %q local notes = require "notes.list" ' ..
  'local function note(...) notes[#notes + 1] = table.concat({ ... }, " ") end '

-- A generation with plugins, rows of name, source, and configuration as JSON. notes() is what they noted so far.
local function with(rows, options)
  local files = {
    ["servants/s.lua"] = SERVANT:gsub('"notes"\n', '"notes.list"\n'),
    ["servants/notes/list.lua"] = "return {}",
  }
  local json = {}
  for i, row in ipairs(rows) do
    if row[2] then files["servants/plugins/" .. row[1] .. ".lua"] = HEAD:format(row[1]) .. row[2] end
    json[i] = ("%q:%s"):format(row[1], row[3] or "{}")
  end
  options = options or {}
  options.plugins = "{" .. table.concat(json, ",") .. "}"
  local g = testing.load(files, options)
  function g.notes()
    local notes, seen = g.on_unload[1](), {}
    for i, text in ipairs(notes) do seen[i] = text end
    return seen
  end
  return g
end

local function errors(rows, options) return table.concat(with(rows, options).errors, "\n") end

describe("methods", function()
  it("are as they were declared while no plugin has a hook for calls", function()
    local files = { ["servants/s.lua"] = [[
      local fae = require "fae"
      local s = fae.servant "s"
      local function mine() end
      s.method("mine", mine)
      s.method("is_mine", function() return mine end)]],
      ["servants/plugins/p.lua"] = 'local p = require "fae".plugin "p" p.on_tick(print) p.on_session(print)' }
    for _, plugins in ipairs { "{}", '{"p":{}}' } do
      local g = testing.load(files, { plugins = plugins })
      assert.same({}, g.errors)
      assert.equal(g.call "s.is_mine", g.methods["s.mine"].fn)
    end
    files["servants/plugins/p.lua"] = 'local p = require "fae".plugin "p" p.on_call(function() end)'
    local g = testing.load(files, { plugins = '{"p":{}}' })
    assert.are_not.equal(g.call "s.is_mine", g.methods["s.mine"].fn)
  end)
  it("have hooks of calls around them, in the configuration's order and back", function()
    local source = [[
      plugin.on_call(function(call, ...) note(plugin.name, "call", ...) call[plugin.name] = "kept" end)
      plugin.on_reply(function(call, reply)
        note(plugin.name, "reply", tostring(reply.value), tostring(reply.err), call[plugin.name], reply.duration_us)
      end)]]
    local g = with { { "b", source }, { "a", source } }
    assert.same({}, g.errors)
    assert.equal(7, g.call("s.add", 3, 4))
    assert.same({ "b call 3 4", "a call 3 4", "add", "a reply 7 nil kept 1", "b reply 7 nil kept 1" }, g.notes())
  end)
  it("fail as they failed, and hooks see it", function()
    local g = with {
      { "p", 'plugin.on_reply(function(_, reply) note(tostring(reply.value), tostring(reply.err)) end)' },
    }
    assert.equal("NOT_FOUND: no such thing", tostring(select(2, g.call "s.fail")))
    local value, err = g.call "s.bug"
    assert.is_nil(value)
    assert.matches("^INTERNAL: servants/s.lua:%d+: mine$", tostring(err))
    assert.equal("text", (select(2, g.call "s.odd")))
    assert.is_false(g.call "s.no")
    local notes = g.notes()
    assert.equal("nil NOT_FOUND: no such thing", notes[1])
    assert.matches("^nil INTERNAL: .*mine$", notes[2])
    assert.equal("nil INTERNAL: text", notes[3])
    assert.equal("false nil", notes[4])
  end)
  it("are hooked once, whoever calls whom inside", function()
    local g = with { { "p", 'plugin.on_call(function(_, ...) note("call", ...) end)' } }
    assert.equal(10, g.call("s.twice", 5))
    assert.same({ "call 5", "add" }, g.notes())
  end)
end)

describe("on_call", function()
  it("may answer in the method's place", function()
    local g = with {
      { "outer", 'plugin.on_reply(function(_, reply) note("outer", reply.value, reply.plugin) end)' },
      { "p", 'plugin.on_call(function(_, a) if a == 1 then return plugin.answer "mine" end end)' },
      { "late", 'plugin.on_call(function() note "late" end)' },
    }
    assert.equal("mine", g.call("s.add", 1, 2))
    assert.same({ "outer mine p" }, g.notes())
    assert.equal(4, g.call("s.add", 2, 2))
  end)
  it("may answer nil and false", function()
    local g = with { { "p", 'plugin.on_call(function(_, a) return plugin.answer(a) end)' } }
    assert.is_nil((g.call("s.add", nil, 2)))
    assert.is_false(g.call("s.add", false, 2))
  end)
  it("may refuse", function()
    local g = with {
      { "p", 'plugin.on_call(function() return plugin.refuse(fae.err("FORBIDDEN", "not you")) end)' },
    }
    assert.equal("FORBIDDEN: not you", tostring(select(2, g.call("s.add", 1, 2))))
    assert.same({}, g.notes())
  end)
  it("may wait", function()
    local g = with { { "p", 'plugin.on_call(function() fae.sleep(1) note "slept" end)' } }
    assert.equal(3, g.call("s.add", 1, 2))
    assert.same({ "slept", "add" }, g.notes())
  end)
  for what, body in pairs {
    ["raises a text"] = "error 'x'", ["raises an err"] = "error(fae.err('FORBIDDEN', 'x'))",
    ["raises nothing"] = "error()", ["returns a value"] = "return 5", ["returns a table"] = "return { err = {} }",
    ["returns false"] = "return false", ["refuses with a text"] = "return plugin.refuse 'x'",
  } do
    it("that " .. what .. " fails no call", function()
      local g = with { { "p", "plugin.on_call(function() " .. body .. " end)" } }
      assert.equal(3, g.call("s.add", 1, 2))
    end)
  end
end)

describe("on_reply", function()
  it("that raises fails no call, nor what comes after it", function()
    local g = with {
      { "first", 'plugin.on_reply(function() note "told" end)' },
      { "p", "plugin.on_reply(function() error 'x' end)" },
    }
    assert.equal(3, g.call("s.add", 1, 2))
    assert.same({ "add", "told" }, g.notes())
  end)
  it("cannot wait", function()
    local g = with { { "p", [[plugin.on_reply(function()
      local ok, err = pcall(fae.sleep, 1)
      note(tostring(ok), err)
    end)]] } }
    assert.equal(3, g.call("s.add", 1, 2))
    assert.matches("^false .*cannot be called from inside a C function", g.notes()[2])
  end)
  it("hears of calls that were dropped", function()
    local g = with { { "p", [[plugin.on_reply(function(call, reply)
      note(call.method, call.session, call.peer, call.rid, call.kept, reply.duration_us, tostring(reply.err))
    end)]] } }
    g.dropped({ [1] = { rid = "r1" }, kept = "k" }, 50, fae.err("TIMEOUT", "late"), "s.add", 4, "unix:")
    assert.same({ "s.add 4 unix: r1 k 50 TIMEOUT: late" }, g.notes())
  end)
end)

describe("on_session", function()
  it("hears of sessions, and its errors harm nobody", function()
    local g = with {
      { "a", "plugin.on_session(function() error 'x' end)" },
      { "b", "plugin.on_session(function(session) note(session.id, session.peer, session.event) end)" },
    }
    g.session(3, "unix:", "opened")
    g.session(3, "unix:", "closed")
    assert.same({ "3 unix: opened", "3 unix: closed" }, g.notes())
    assert.is_nil(with({ { "p", "" } }).session)
  end)
end)

describe("a plugin's options", function()
  it("are checked where they are asked for", function()
    local source = 'local n = plugin.option("n", "number", 5) local s = plugin.option("s", "string", "x") ' ..
      'plugin.on_call(function() return plugin.answer(n .. s) end)'
    assert.equal("5x", with({ { "p", source } }).call "s.add")
    assert.equal("7x", with({ { "p", source, '{"n":7}' } }).call "s.add")
    assert.equal("servants/plugins/p.lua:1: plugin p: n must be a number, not a string",
      errors { { "p", source, '{"n":"7"}' } })
    assert.equal('servants/plugins/p.lua:1: plugin p: no option "m"; did you mean "n"?',
      errors { { "p", source, '{"m":7}' } })
    assert.equal("servants/plugins/p.lua:1: plugin p: option needed is missing",
      errors { { "p", 'plugin.option("needed", "string")' } })
    assert.equal("servants/plugins/p.lua:1: plugin p: int is no type of an option",
      errors { { "p", 'plugin.option("n", "int", 1)' } })
  end)
  it("are the plugin's own table, which it may read as it likes", function()
    local g = with { { "p", "plugin.on_call(function() return plugin.answer(plugin.config.deep.x) end)",
      '{"deep":{"x":[1,2]},"\\"odd\\" {name}":1}' } }
    assert.same({}, g.errors)
    assert.same({ 1, 2 }, g.call "s.add")
  end)
  it("keep the order of the file, whatever is in them", function()
    local source = "plugin.on_call(function() note(plugin.name) end)"
    local g = with {
      { "z", source, '{"a":{"b":["}","{\\"",{"c":"\\\\"}]}}' }, { "y", source, "[]" }, { "x", source },
    }
    assert.same({}, g.errors)
    g.call("s.add", 1, 2)
    assert.same({ "z", "y", "x", "add" }, g.notes())
  end)
  it("that match methods", function()
    local g = with { { "p", [[
      local matches = plugin.matcher { "s.*", "a.b", "*-x" }
      plugin.on_call(function(_, method) return plugin.answer(matches(method)) end)]] } }
    for method, is in pairs { ["s.x"] = true, ["a.b"] = true, ["a-b"] = false, axb = false, ["xs.x"] = false,
      ["q-x"] = true, ["s."] = true, s = false } do
      assert.equal(is, g.call("s.add", method), method)
    end
    assert.equal("servants/plugins/p.lua:1: methods are a list of names, such as shop.buy or shop.*",
      errors { { "p", "plugin.matcher {}" } })
    assert.equal("servants/plugins/p.lua:1: a method's name is text, such as shop.buy or shop.*",
      errors { { "p", "plugin.matcher { 5 }" } })
  end)
end)

describe("what is wrong with a plugin", function()
  local function refused(text, files, plugins)
    files["servants/s.lua"] = "return 1"
    assert.equal(text, table.concat(testing.load(files, { plugins = plugins or '{"p":{}}' }).errors, "\n"))
  end
  it("is told with its place", function()
    refused('servants/plugins/acces_log.lua:1: the configuration names plugin "acces_log", and there is no such file',
      {}, '{"acces_log":{}}')
    refused('servants/plugins/pp.lua:1: the configuration names plugin "pp", and there is no such file; did you mean '
      .. '"p"?', { ["servants/plugins/p.lua"] = "" }, '{"pp":{}}')
    refused('servants/plugins/p.lua:1: declares no plugin: local plugin = require "fae".plugin "p"',
      { ["servants/plugins/p.lua"] = "return 5" })
    refused('servants/plugins/p.lua:2: plugin "p": the file of that name declares plugin "q"',
      { ["servants/plugins/p.lua"] = '\nlocal p = require "fae".plugin "q"' })
    refused('servants/plugins/p.lua:1: plugin "p" is declared twice',
      { ["servants/plugins/p.lua"] = 'local f = require "fae".plugin f "p" f "p"' })
    refused("servants/plugins/p.lua:1: plugin p: on_call takes a function",
      { ["servants/plugins/p.lua"] = 'require "fae".plugin "p".on_call(5)' })
    refused("servants/plugins/p.lua:1: boom", { ["servants/plugins/p.lua"] = "error 'boom'" })
    assert.matches("^servants/plugins/p.lua:1:.*near",
      table.concat(testing.load({ ["servants/plugins/p.lua"] = "x x" }, { plugins = '{"p":{}}' }).errors, "\n"))
  end)
  it("may not be declared by others, or later", function()
    assert.same({ 'servants/x.lua:1: plugin "x": declared by a file that the configuration names, while it loads' },
      testing.load({ ["servants/x.lua"] = 'require "fae".plugin "x"' }).errors)
    local g = with { { "p", "plugin.on_call(function() return plugin.answer(pcall(plugin.on_call, print)) end)" } }
    assert.is_false(g.call "s.add")
    g = testing.load({ ["servants/plugins/p.lua"] = '\nrequire "fae".servant "x"' }, { plugins = '{"p":{}}' })
    assert.equal('servants/plugins/p.lua:2: servant "x": a plugin cannot require its file: '
      .. "fae.call reaches its methods", table.concat(g.errors, "\n"))
  end)
  it("is not loaded when nobody names it, nor a servant", function()
    local g = testing.load { ["servants/plugins/p.lua"] = "error 'x'", ["servants/s.lua"] = "return 1" }
    assert.same({}, g.errors)
  end)
end)

describe("built in", function()
  local function builtin(name, config)
    local source = assert(io.open("servants/plugins/" .. name .. ".lua")):read "*a"
    local files = {
      ["servants/s.lua"] = SERVANT:gsub('"notes"\n', '"notes.list"\n'),
      ["servants/notes/list.lua"] = "return {}", ["servants/plugins/" .. name .. ".lua"] = source,
    }
    return testing.load(files, { plugins = ("{%q:%s}"):format(name, config) })
  end
  it("are short", function()
    for _, name in ipairs { "access_log", "audit", "shadow", "response_cache" } do
      local n = 0
      for _ in io.lines("servants/plugins/" .. name .. ".lua") do n = n + 1 end
      assert.is_true(n <= 60, name .. " has " .. n .. " lines")
    end
  end)
  for name, row in pairs {
    access_log = { "{}", '{"sample":0}', "sample is a whole number" },
    audit = { '{"methods":["s.*"]}', "{}", "option methods is missing" },
    shadow = { '{"to":"tcp://127.0.0.1:1"}', '{"to":"tcp://example.org:1"}', "is not an IP address" },
    response_cache = { '{"methods":["s.*"]}', '{"methods":["s.*"],"ttl_ms":0}', "ttl_ms is more than 0" },
  } do
    it(name .. " loads, and refuses what it does not know", function()
      local g = builtin(name, row[1])
      assert.same({}, g.errors)
      assert.equal(7, g.call("s.add", 3, 4))
      local why = table.concat(builtin(name, row[2]).errors, "\n")
      assert.matches("^servants/plugins/" .. name .. ".lua:%d+: .*" .. row[3], why)
      assert.matches('no option "nonsense"',
        table.concat(builtin(name, (row[1]:gsub("^{", '{"nonsense":1,'):gsub(",}", "}"))).errors, "\n"))
    end)
  end
end)

describe("servants/README.md", function()
  local page = assert(io.open("servants/README.md")):read "*a"
  it("has an example that does what it says", function()
    local source = page:match "```lua\n(%-%- maintenance.-)```"
    local g = testing.load({ ["servants/plugins/maintenance.lua"] = source, ["servants/s.lua"] = [[
      local s = require "fae".servant "s"
      s.method("run", function() return 1 end)]] }, { plugins = '{"maintenance":{"methods":["x.*"]}}' })
    assert.same({}, g.errors)
  end)
  it("tells of everything a plugin has, and of the built-in ones", function()
    local g = with { { "p", "plugin.on_call(function() return plugin.answer(plugin) end)" } }
    for word in pairs(g.call "s.add") do
      if word ~= "name" then assert.truthy(page:find("plugin." .. word, 1, true), word) end
    end
    for _, name in ipairs { "access_log", "audit", "shadow", "response_cache" } do
      local row = page:match("| `" .. name .. " {(.-)}` |")
      local source = assert(io.open("servants/plugins/" .. name .. ".lua")):read "*a"
      local n = 0
      for option in source:gmatch 'plugin%.option%("([%w_]+)"' do
        assert.truthy(row:find(option, 1, true), name .. ": " .. option)
        n = n + 1
      end
      assert.equal(select(2, row:gsub("[%w_]+", "")), n)
    end
  end)
end)
