-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.metrics: how metrics are declared and used. What becomes of the numbers is in spec/unit/test_metrics.c and in
-- spec/e2e/test_observe.py.
local fae = require "fae"
local testing = require "fae.testing"

local metrics = fae.metrics

local function refuses(why, fn, ...)
  local ok, err = pcall(fn, ...)
  assert.is_false(ok, "was taken, and should say: " .. why)
  assert.truthy(tostring(err):find(why, 1, true), why .. " is not in: " .. tostring(err))
end

describe("fae.metrics", function()
  it("declares counters, gauges and histograms", function()
    local hits = metrics.counter("spec_hits_total", "Hits.", { "page", "kind" })
    hits:inc(1, "a", "b")
    hits:inc(nil, "a", "b")
    hits:inc(0, "a", 7)
    hits:inc(2.5, "a", true)
    local bare = metrics.counter("spec_bare_total", "Bare.")
    bare:inc()
    bare:inc(3)
    local open = metrics.gauge("spec_open", "Open.", { "door" })
    open:set(-5, "front")
    open:set(math.huge, "front")
    open:inc(nil, "front")
    open:inc(2, "front")
    open:dec(0.5, "front")
    local sizes = metrics.histogram("spec_size_bytes", "Sizes.", { "of" }, { 1, 2.5, 1e6 })
    sizes:observe(2, "it")
    sizes:observe(-1, "it")
    local times = metrics.histogram("spec_time_seconds", "Times.")
    times:observe(0.01)
  end)

  it("gives a metric the functions of its kind alone", function()
    local hits, open = metrics.counter("spec_kind_total", "K."), metrics.gauge("spec_kind", "K.")
    assert.is_nil(hits.set)
    assert.is_nil(hits.dec)
    assert.is_nil(hits.observe)
    assert.is_nil(open.observe)
    assert.equal("counter", getmetatable(hits))
    refuses("with a colon", open.set, hits, 5)
    refuses("with a colon", hits.inc)
    refuses("with a colon", hits.inc, {})
    refuses("with a colon", hits.inc, io.stdout)
  end)

  it("is the same metric when it is declared again", function()
    metrics.counter("spec_again_total", "A.", { "a" }):inc(1, "x")
    metrics.counter("spec_again_total", "Other words.", { "a" }):inc(1, "x")
  end)

  it("says what is wrong with a name", function()
    for _, name in ipairs { "", "Hits_total", "hits-total", "1hits_total", "_total", "h\195\169_total",
      ("x"):rep(95) .. "_total" } do
      refuses("a metric's name is a lower-case word", metrics.counter, name, "Help.")
    end
    refuses("a metric's name", metrics.counter, nil, "Help.")
    refuses("the node's own", metrics.counter, "fae_hits_total", "Help.")
    refuses("the names of counters end in _total", metrics.counter, "hits", "Help.")
    refuses("the names of counters end in _total", metrics.gauge, "hits_total", "Help.")
    for _, ending in ipairs { "_sum", "_count", "_bucket" } do
      refuses("histograms' parts", metrics.gauge, "hits" .. ending, "Help.")
    end
  end)

  it("wants a line of help", function()
    for _, help in ipairs { "", "two\nlines", ("x"):rep(201), 5 } do
      refuses("say what it counts", metrics.counter, "spec_help_total", help)
    end
    refuses("say what it counts", metrics.counter, "spec_help_total")
  end)

  it("says what is wrong with labels", function()
    for _, labels in ipairs { "page", { page = 1 }, { "a", "b", "c", "d", "e", "f", "g", "h", "i" } } do
      refuses("labels is a list", metrics.counter, "spec_labels_total", "Help.", labels)
    end
    for _, label in ipairs { "Page", "", "a b", "__name", 5, ("x"):rep(41) } do
      refuses("a label is a lower-case word", metrics.counter, "spec_labels_total", "Help.", { label })
    end
    for _, label in ipairs { "le", "quantile", "worker" } do
      refuses("the node's own", metrics.counter, "spec_labels_total", "Help.", { label })
    end
    refuses("two labels a", metrics.counter, "spec_labels_total", "Help.", { "a", "b", "a" })
  end)

  it("says what is wrong with buckets", function()
    local many = {}
    for i = 1, 25 do many[i] = i end
    for _, buckets in ipairs { {}, many, { a = 1 }, "1" } do
      refuses("buckets is a list", metrics.histogram, "spec_buckets", "Help.", {}, buckets)
    end
    for _, buckets in ipairs { { 1, 1 }, { 2, 1 }, { 0 / 0 }, { 1, math.huge }, { -math.huge }, { "1" } } do
      refuses("numbers that rise", metrics.histogram, "spec_buckets", "Help.", {}, buckets)
    end
  end)

  it("wants a value for every label, and a number that makes sense", function()
    local hits = metrics.counter("spec_values_total", "V.", { "page" })
    local bare = metrics.counter("spec_no_values_total", "V.")
    local open, times = metrics.gauge("spec_values", "V."), metrics.histogram("spec_values_seconds", "V.")
    refuses("has 1 label, and 0 values were given", hits.inc, hits)
    refuses("has 1 label, and 2 values were given", hits.inc, hits, 1, "a", "b")
    refuses("has 0 labels, and 1 value was given", bare.inc, bare, 1, "a")
    refuses("label page must be a string", hits.inc, hits, 1, nil)
    refuses("label page must be a string", hits.inc, hits, 1, {})
    refuses("a counter only rises", bare.inc, bare, -1)
    refuses("a counter only rises", bare.inc, bare, math.huge)
    refuses("number expected", bare.inc, bare, {})
    refuses("not a number", bare.inc, bare, 0 / 0)
    refuses("number expected", open.set, open)
    refuses("not a number", open.set, open, 0 / 0)
    refuses("not a number", open.inc, open, 0 / 0)
    refuses("not a number", times.observe, times, 0 / 0)
  end)

  it("takes any bytes as a label's value", function()
    local hits = metrics.counter("spec_bytes_total", "B.", { "page" })
    for _, value in ipairs { "", "\0", "\255\254", ('"\\\n'):rep(100), ("x"):rep(100000) } do hits:inc(1, value) end
  end)

  it("leaves out what is beyond metrics_series_max, and holds no memory for it", function()
    local hits = metrics.counter("spec_flood_total", "F.", { "who" })
    for i = 1, 12000 do hits:inc(1, i) end
    collectgarbage()
    local before = collectgarbage "count"
    for i = 12000, 40000 do hits:inc(1, i) end
    collectgarbage()
    assert.is_true(collectgarbage "count" - before < 100)
    metrics.counter("spec_after_flood_total", "F."):inc()
  end)

  it("is checked with the servant that declares it", function()
    local got = testing.load { ["servants/a.lua"] = [[
local fae = require "fae"
local a = fae.servant "a"
local hits = fae.metrics.counter("Hits", "Hits.")
a.method("m", function() hits:inc() end)
return a
]] }
    assert.equal(1, #got.errors)
    assert.truthy(got.errors[1]:find("servants/a.lua:3: a metric's name is a lower-case word", 1, true), got.errors[1])
  end)
end)
