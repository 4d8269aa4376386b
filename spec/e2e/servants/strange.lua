-- SPDX-License-Identifier: BSD-2-Clause
--
-- strange: everything a servant should not do, one method each. Whatever it is, it must cost exactly one call.
local fae = require "fae"
local strange = fae.servant "strange"

local function method(name, fn, options) strange.method(name, options or {}, fn) end
local slow = { timeout_ms = 60000 }

-- ---- error objects ----

local error_objects = {
  text = function() error "a text" end,
  text_level_0 = function() error("no place", 0) end,
  empty_text = function() error("", 0) end,
  bytes = function() error("\255\254", 0) end,
  long_text = function() error(("x"):rep(100000), 0) end,
  none = function() error() end,
  number = function() error(42) end,
  boolean = function() error(true) end,
  a_function = function() error(print) end,
  a_coroutine = function() error(coroutine.create(print)) end,
  null = function() error(fae.null) end,
  the_call = function(call) error(call) end,
  empty_table = function() error {} end,
  table_without_code = function() error { message = "no code" } end,
  code_is_a_number = function() error { code = 5, message = "m" } end,
  message_is_a_table = function() error { code = "ODD", message = {} } end,
  coded = function() error { code = "MINE", message = "on purpose" } end,
  an_err = function() error(fae.err("NOT_FOUND", "raised")) end,
  tostring_raises = function() error(setmetatable({}, { __tostring = function() error "again" end })) end,
  tostring_loops = function()
    error(setmetatable({}, { __tostring = function() while true do error "again" end end }))
  end,
  index_raises = function() error(setmetatable({}, { __index = function() error "again" end })) end,
  itself = function() local t = {} t.code, t.message, t.detail = "LOOP", "m", t error(t) end,
  nil_index = function() local t = nil return t.x end,
  arithmetic = function() return {} + 1 end,
  compare = function() return {} < 1 end,
  concat = function() return {} .. "x" end,
  call_nil = function() local f = nil return f() end,
  after_sleep = function() fae.sleep(1) error "late" end,
  in_pcall_in_error = function() error(select(2, pcall(error, { code = "INNER", message = "m" }))) end,
}
for name, fn in pairs(error_objects) do method("raise_" .. name, fn) end

local returned = {
  text = function() return nil, "a text" end,
  number = function() return nil, 42 end,
  boolean = function() return nil, false end,
  empty_table = function() return nil, {} end,
  coded = function() return nil, { code = "MINE", message = "on purpose" } end,
  code_only = function() return nil, { code = "MINE" } end,
  bad_detail = function() return nil, { code = "MINE", message = "m", detail = print } end,
  null = function() return nil, fae.null end,
}
for name, fn in pairs(returned) do method("return_" .. name, fn) end

-- ---- results without a form ----

local results = {
  a_function = function() return print end,
  a_coroutine = function() return coroutine.create(print) end,
  the_call = function(call) return call end,
  deep = function() return { { { print } } } end,
  key_boolean = function() return { [true] = 1 } end,
  key_table = function() return { [{}] = 1 } end,
  itself = function() local t = {} t.t = t return t end,
  index_raises = function() return setmetatable({ 1 }, { __index = function() error "no" end }) end,
  pairs_raise = function()
    return setmetatable({ 1 }, { __pairs = function() error "no" end, __len = function() error "no" end })
  end,
  many_values = function() return 1, 2, 3 end,
  nan_inside = function() return { 0 / 0 } end,
  half_an_answer = function() local t = {} for i = 1, 1000 do t[i] = "x" end t[1001] = print return t end,
}
for name, fn in pairs(results) do method("result_" .. name, fn) end

-- ---- yields where none may be ----

method("yield_body", function() coroutine.yield(1) return "after" end)
method("yield_pcall", function() pcall(coroutine.yield, 1) return "after" end)
method("yield_after_sleep", function() fae.sleep(1) coroutine.yield() return "after" end)
method("yield_sort", function() table.sort({ 3, 2, 1 }, function() fae.sleep(1) return false end) return "after" end)
method("yield_gsub", function() return (("abc"):gsub("%w", function() fae.sleep(1) return "x" end)) end)
method("yield_sort_bare", function()
  table.sort({ 3, 2, 1 }, function() coroutine.yield() return false end)
  return "after"
end)
method("yield_tostring", function()
  return tostring(setmetatable({}, { __tostring = function() fae.sleep(1) return "slept" end }))
end)
method("yield_index", function()
  return setmetatable({}, { __index = function() fae.sleep(1) return "slept" end }).x
end)
method("yield_lt", function()
  local mt = { __lt = function() fae.sleep(1) return true end }
  return setmetatable({}, mt) < setmetatable({}, mt)
end)
method("yield_coroutine", function() return coroutine.wrap(function() fae.sleep(1) return "after" end)() end)
method("own_coroutine", function()
  local co = coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end)
  local a, b = co(), co()
  fae.sleep(1)
  return a + b + co()
end)
method("dropped_coroutine", function()
  for _ = 1, 100 do coroutine.wrap(function() coroutine.yield(("x"):rep(1000)) end)() end
  return "dropped"
end)
method("running", function() return coroutine.running() == nil end)
method("load_yield", function() return load(function() fae.sleep(1) return nil end) end)

-- ---- too deep, too large ----

method("recursion", function()
  local function f(n) return 1 + f(n + 1) end
  return f(0)
end)
method("recursion_pcall", function()
  local function f() return (select(2, pcall(f))) end
  f()
  return "survived"
end)
method("recursion_gsub", function()
  local function f() return ((("x"):gsub("x", f))) end
  return f()
end)
method("recursion_index", function()
  local t = setmetatable({}, { __index = function(t, k) return t[k + 1] end })
  return t[1]
end)
method("recursion_tostring", function()
  local mt = {}
  mt.__tostring = function(t) return tostring(t) .. "x" end
  return tostring(setmetatable({}, mt))
end)
method("recursion_coroutines", function()
  local function f() return coroutine.wrap(f)() end
  return f()
end)
method("deep_pattern", function() return (("a"):rep(300000)):find(("(a"):rep(30) .. (")"):rep(30)) end)
method("pattern_depth", function() return ((("x"):rep(300000)):match((".-"):rep(20000) .. "b")) end)
method("string_2gb", function() return #("x"):rep(2 ^ 31 - 1) end)
method("string_4gb", function() return #("xxxx"):rep(2 ^ 30) end)
method("string_doubling", function() local s = "x" while true do s = s .. s end end)
method("memory_table", function() local t = {} for i = 1, 1e9 do t[i] = { i } end end)
method("memory_array", function() local t = {} for i = 1, 1e9 do t[i] = i end end)
method("memory_strings", function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(100000) .. i end end)
method("memory_pcall", function()
  local ok, err = pcall(function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(100000) .. i end end)
  return { ok = ok, err = tostring(err) }
end)
method("memory_swallowed", function()
  for _ = 1, 5 do pcall(function() local t = {} for i = 1, 1e9 do t[i] = ("x"):rep(100000) .. i end end) end
  return "swallowed"
end)
method("memory_while_waiting", function()
  local t = {}
  for i = 1, 1e9 do t[i] = ("x"):rep(1000000) .. i fae.sleep(0) end
end, slow)
method("memory_coroutines", function()
  local t = {}
  for i = 1, 1e9 do t[i] = coroutine.create(print) end
end)
method("much", function() return ("x"):rep(3000000) end)
method("garbage", function() local n = 0 for i = 1, 300000 do n = n + #{ i, {}, tostring(i) } end return n end)
method("spawn_bomb", function() for _ = 1, 100000 do fae.spawn(function() fae.sleep(1) end) end return "spawned" end)
method("timer_bomb", function()
  local timers = {}
  for i = 1, 1000 do timers[i] = fae.timer(1000, function() end) end
  for _, t in ipairs(timers) do t:stop() end
  return "stopped"
end)

-- ---- beside the call ----

local ticks, spawned = 0, {}
method("spawn", function(_, tag)
  fae.spawn(function(what) fae.sleep(20) spawned[what] = true end, tag)
  return "spawned"
end, { args = { "string" } })
method("spawned", function(_, tag) return spawned[tag] == true end, { args = { "string" } })
method("spawn_raises", function() fae.spawn(function() error "in a spawned task" end) return "spawned" end)
method("spawn_yields", function() fae.spawn(function() coroutine.yield() end) return "spawned" end)
method("spawn_no_function", function() fae.spawn(5) end)
method("timer", function()
  local timer
  timer = fae.timer(5, function()
    ticks = ticks + 1
    if ticks >= 3 then timer:stop() end
  end)
  return "started"
end)
method("ticks", function() return ticks end)
method("timer_raises", function()
  local timer
  timer = fae.timer(5, function() timer:stop() error "in a timer" end)
  return "started"
end)
method("parallel", function()
  local results, errors = fae.parallel {
    function() fae.sleep(30) return "a" end,
    function() error "b" end,
    function() return nil, fae.err("NOT_FOUND", "c") end,
    function() return fae.call("sys.noop", "d") end,
  }
  return { results = fae.map(results), codes = { errors[2].code, errors[3].code } }
end)
method("parallel_left", function()
  return fae.parallel { function() fae.sleep(50000) end, function() error(fae.err("GONE", "x")) end }
end, { timeout_ms = 100 })
method("parallel_deep", function(_, depth)
  local function go(n)
    if n == 0 then fae.sleep(1) return 1 end
    local r = fae.parallel { function() return go(n - 1) end, function() return go(n - 1) end }
    return r[1] + r[2]
  end
  return go(depth)
end, { args = { "int" } })
method("call_itself", function() return fae.call "strange.call_itself" end)
method("timer_wrong", function() return fae.timer(0, print) end)
method("sleep_wrong", function() return fae.sleep "soon" end)

-- ---- deadlines ----

local after = {}
method("after", function(_, tag) return after[tag] end, { args = { "string" } })
method("sleep_on", function() return fae.sleep(50000) end, { timeout_ms = 150 })
method("sleep_loop", function()
  local n = 0
  while true do
    fae.sleep(10)
    n = n + 1
    after.loop = n
  end
end, { timeout_ms = 150 })
method("sleep_loop_pcall", function()
  local n = 0
  while true do
    pcall(fae.sleep, 10)
    pcall(error, "x")
    n = n + 1
    after.loop_pcall = n
  end
end, { timeout_ms = 150 })
method("tidy_up", function()
  local ok, err = fae.sleep(50000)
  after.tidy = err.code
  if not ok then return "answered in spite of it" end
end, { timeout_ms = 150 })
method("tidy_up_waiting", function()
  local _, err = fae.sleep(50000)
  after.waiting = err.code
  fae.sleep(10)
  after.waiting = "went on"
end, { timeout_ms = 150 })
method("err_passed_on", function()
  local ok, err = fae.sleep(50000)
  if not ok then return nil, err end
end, { timeout_ms = 150 })
method("busy_then_wait", function()
  local until_us = fae.time.monotonic_us() + 250000
  while fae.time.monotonic_us() < until_us do end
  for _ = 1, 3 do fae.sleep(1) end
  return "went on"
end, { timeout_ms = 150 })

-- ---- what is fenced ----

local function refused(fn, ...)
  local ok, err = pcall(fn, ...)
  if ok then return "allowed" end
  return tostring(err)
end
local escapes = {
  global = function() leaked = 1 end, -- luacheck: ignore
  global_by_G = function() _G.leaked = 1 end,
  global_by_rawset = function() rawset(_G, "leaked", 1) return leaked end, -- luacheck: ignore
  os_execute = function() os.execute "true" end,
  os_exit = function() os.exit(0) end,
  os_setlocale = function() os.setlocale "de_DE" end,
  io_popen = function() io.popen "true" end,
  ffi = function() require "ffi" end,
  ffi_global = function() return ffi.C end, -- luacheck: ignore
  core = function() require "fae.core" end,
  loader = function() require "fae.loader" end,
  package = function() return package.loadlib end, -- luacheck: ignore
  package_by_require = function() return require("package").loadlib end,
  bytecode = function() return load(string.dump(function() end))() end,
  bytecode_text = function() return assert(load "LJ") end,
  dofile = function() dofile "/dev/null" end,
  loadfile = function() loadfile "/dev/null" end,
  getfenv = function() return getfenv(0) end,
  setfenv = function() return setfenv(1, {}) end,
  newproxy = function() return newproxy(true) end,
  debug_registry = function() return debug.getregistry() end,
  debug_sethook = function() return debug.sethook() end,
  debug_upvalue = function() return debug.getupvalue(fae.sleep, 1) end,
  debug_setmetatable = function() return debug.setmetatable("", {}) end,
  debug_func = function() return debug.getinfo(1, "f").func end,
  string_metatable = function() getmetatable("").__index = nil end,
  call_metatable = function(call) getmetatable(call).__index = nil end,
  err_metatable = function() getmetatable(fae.err("A", "b")).__tostring = nil end,
  map_metatable = function() getmetatable(fae.map()).x = 1 end,
  collect = function() collectgarbage "collect" end,
  collect_stop = function() collectgarbage "stop" end,
  jit_off_all = function() jit.off() end,
  load_environment = function() return load("return os.execute")() "true" end,
  other_servants = function() return require("fae.servant").new "late" end,
  late_method = function() strange.method("late", function() end) end,
}
method("escape", function(call, name) return refused(escapes[name], call) end, { args = { "string" } })
method("escapes", function()
  local names = {}
  for name in pairs(escapes) do names[#names + 1] = name end
  return names
end)
method("leaked", function() return rawget(_G, "leaked") end)

-- ---- anything at all, by a plan ----

local others = {}
local steps = {
  sleep = function() fae.sleep(1) end,
  pass = function() fae.sleep(0) end,
  pcall_error = function() pcall(error, "x") end,
  coroutine = function(nonce) assert(coroutine.wrap(function(x) return coroutine.yield(x) end)(nonce) == nonce) end,
  dropped = function() coroutine.wrap(function() coroutine.yield() end)() end,
  sort = function() pcall(table.sort, { 3, 2, 1 }, function() fae.sleep(1) end) end,
  gsub = function() pcall(string.gsub, "abc", "%w", function() coroutine.yield() end) end,
  index = function(nonce)
    assert(setmetatable({}, { __index = function(_, k) fae.sleep(0) return k end })[nonce] == nonce)
  end,
  parallel = function(nonce)
    local r = fae.parallel {
      function() fae.sleep(1) return nonce end,
      function() return nonce end,
      function() error { code = "X" } end,
    }
    assert(r[1] == nonce and r[2] == nonce and r[3] == nil)
  end,
  spawn = function(nonce) fae.spawn(function(n) others[n] = nil fae.sleep(1) end, nonce) end,
  foreign = function() pcall(coroutine.resume, coroutine.running()) end,
  call = function(nonce) assert(fae.call("sys.noop", nonce) == nonce) end,
  call_fails = function() assert(not fae.call "no.such") end,
  swallowed = function() pcall(function() fae.sleep(1) error {} end) end,
}
-- Runs the steps, then ends as told: a value, an error, a yield. Whatever comes out must carry the nonce.
method("mix", function(call, nonce, plan, last)
  for i = 1, #plan do
    steps[plan[i]](nonce)
    if call.rid ~= nonce then error("somebody else's context: " .. tostring(call.rid), 0) end
  end
  if last == "value" then return { nonce } end
  if last == "error" then error { code = "MIX", message = nonce } end
  if last == "err" then return nil, fae.err("MIX", nonce) end
  if last == "text" then error(nonce, 0) end
  coroutine.yield(nonce)
end, { args = { "string", "array", "string" } })
method("steps", function()
  local names = {}
  for name in pairs(steps) do names[#names + 1] = name end
  return names
end)

return strange
