-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.log: what a line says. Lines go to descriptor 2 here, so a pipe stands in its place while a spec listens.
local fae = require "fae"
local ffi = require "ffi"

ffi.cdef [[
int pipe(int fds[2]); int dup(int fd); int dup2(int from, int to); int close(int fd);
long read(int fd, void *bytes, unsigned long n);
]]

-- What fn logs, and what it returned.
local function listen(fn, ...)
  local fds = ffi.new "int[2]"
  assert(ffi.C.pipe(fds) == 0)
  local was = ffi.C.dup(2)
  ffi.C.dup2(fds[1], 2)
  local result = { pcall(fn, ...) }
  ffi.C.dup2(was, 2)
  ffi.C.close(was)
  ffi.C.close(fds[1])
  local parts, bytes = {}, ffi.new "char[65536]"
  repeat
    local n = tonumber(ffi.C.read(fds[0], bytes, 65536))
    parts[#parts + 1] = ffi.string(bytes, math.max(n, 0))
  until n <= 0
  ffi.C.close(fds[0])
  return table.concat(parts), unpack(result)
end

describe("fae.log", function()
  for _, level in ipairs { "info", "warn", "error" } do
    it(level .. " is a line of that level", function()
      local text = listen(fae.log[level], "something happened", { n = 5 })
      assert.matches("^ts=%d+%-%d+%-%d+T[%d:.]+Z level=" .. level .. " proc=%S+ pid=%d+ ", text)
      assert.matches('msg="something happened"', text)
      assert.matches(" n=5\n$", text)
      assert.equal(1, select(2, text:gsub("\n", "")))
    end)
  end
  it("debug is below the level in use", function()
    assert.equal("", (listen(fae.log.debug, "quiet", { a = 1 })))
  end)
  it("takes fields of strings, numbers and booleans, and names what else there is", function()
    local text = listen(fae.log.info, "x",
      { s = "two words", i = 3, f = 1.5, b = true, no = false, t = {}, fn = print, "nameless", [true] = "nameless" })
    for part in ('s="two_words" i=3 f=1.5 b=true no=false t=table fn=function'):gmatch "%S+" do
      part = part:gsub("_", " ")
      assert.truthy(text:find(" " .. part, 1, true), part .. " in " .. text)
    end
    assert.is_nil(text:find "nameless")
  end)
  it("leaves the fields as they were", function()
    local fields = { a = 1, b = "x", c = true }
    listen(fae.log.info, "x", fields)
    assert.same({ a = 1, b = "x", c = true }, fields)
    assert.equal("number", type(fields.a))
  end)
  it("is one line, whatever is in it", function()
    local text = listen(fae.log.warn, "a\nlevel=error b",
      { k = "v\nts=1 level=error", ["bad key\n=x"] = 1, quote = 'a"b\\' })
    assert.equal(1, select(2, text:gsub("\n", "")))
    assert.equal(1, select(2, text:gsub(" level=error proc", "")) + select(2, text:gsub(" level=warn proc", "")))
    assert.truthy(text:find([[quote="a\"b\\"]], 1, true), text)
  end)
  it("is text, whatever bytes are in it", function()
    local text = listen(fae.log.warn, "a\255\0b", { k = "\254" })
    assert.matches("msg=", text)
    assert.is_nil(text:find("[\254\255%z]"))
  end)
  it("cuts what is too long, and says so", function()
    local text = listen(fae.log.info, ("x"):rep(100000), { k = ("y"):rep(100000) })
    assert.is_true(#text <= 8192)
    assert.matches("cut=true", text)
    assert.equal("\n", text:sub(-1))
  end)
  it("takes 24 fields, and more do no harm", function()
    local fields = {}
    for i = 1, 100 do fields["k" .. i] = i end
    local text = listen(fae.log.info, "many", fields)
    assert.equal(24, select(2, text:gsub(" k%d+=%d+", "")))
  end)
  it("takes anything as its text", function()
    for _, case in ipairs { { 5, "msg=5" }, { true, "msg=true" }, { fae.err("LIMIT", "y"), 'msg="LIMIT: y"' } } do
      assert.truthy((listen(fae.log.info, case[1])):find(case[2], 1, true))
    end
    assert.matches("msg=nil", (listen(fae.log.info, nil)))
    assert.matches("msg=x", (listen(fae.log.info, "x", "not a table")))
  end)
  it("raises what the text's own __tostring raises", function()
    local _, ok, err = listen(fae.log.info, setmetatable({}, { __tostring = function() error("mine", 0) end }))
    assert.is_false(ok)
    assert.equal("mine", err)
  end)
end)

describe("what a task raises", function()
  it("is logged with its trace, once", function()
    local text = listen(function()
      fae.spawn(function() error "boom" end)
      fae.sleep(1)
    end)
    assert.matches("level=error", text)
    assert.matches("log_spec.lua:%d+: boom", text)
    assert.matches("trace=.*stack traceback", text)
    assert.equal(1, select(2, text:gsub("\n", "")))
  end)
  it("in fae.parallel and fae.call is logged too, unless it was raised on purpose", function()
    local text = listen(fae.parallel, { function() error "bug" end, function() error(fae.err("LIMIT", "purpose")) end })
    assert.matches("log_spec.lua:%d+: bug", text)
    assert.is_nil(text:find "purpose")
    assert.equal(1, select(2, text:gsub("\n", "")))
  end)
end)
