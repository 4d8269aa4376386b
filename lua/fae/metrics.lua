-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.metrics: counters, gauges and histograms of a servant's own, shown at /metrics. What is counted survives reloads
-- and the deaths of workers; a gauge is a worker's own and starts anew with it. There are metrics_series_max series in
-- all: what is beyond is left out and counted, so a label that clients choose cannot fill the node's memory.
local core = require "fae.core"

local M = {}

local NAME_MAX, HELP_MAX = 100, 200
local LABELS_MAX, LABEL_MAX = 8, 40
local BUCKETS_MAX = 24
local own = { le = true, quantile = true, worker = true } -- labels that the node itself writes
local taken = { "_bucket", "_sum", "_count" }
local default_buckets = { 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10 }

local function check_name(kind, name, level)
  if type(name) ~= "string" or not name:match "^[a-z][a-z0-9_]*$" or #name > NAME_MAX then
    error(("a metric's name is a lower-case word of at most %d letters, such as orders_total"):format(NAME_MAX), level)
  end
  if name:match "^fae_" then error(("%s: names that begin with fae_ are the node's own"):format(name), level) end
  for _, ending in ipairs(taken) do
    if name:sub(-#ending) == ending then
      error(("%s: names that end in %s are those of histograms' parts"):format(name, ending), level)
    end
  end
  local total = name:match "_total$" ~= nil
  if total ~= (kind == "counter") then
    error(("%s: the names of counters end in _total, and no other's do"):format(name), level)
  end
end

local function check_help(name, help, level)
  if type(help) ~= "string" or help == "" or #help > HELP_MAX or help:find "%c" then
    error(("%s: say what it counts, in a line of at most %d bytes"):format(name, HELP_MAX), level)
  end
end

local function is_list(t)
  if type(t) ~= "table" then return false end
  for key in pairs(t) do
    if type(key) ~= "number" or key < 1 or key > #t or key % 1 ~= 0 then return false end
  end
  return true
end

local function check_labels(name, labels, level)
  if not is_list(labels) or #labels > LABELS_MAX then
    error(("%s: labels is a list of at most %d names"):format(name, LABELS_MAX), level)
  end
  local seen = {}
  for _, label in ipairs(labels) do
    if type(label) ~= "string" or not label:match "^[a-z][a-z0-9_]*$" or #label > LABEL_MAX then
      error(("%s: a label is a lower-case word of at most %d letters, not %s"):format(name, LABEL_MAX,
        tostring(label)), level)
    end
    if own[label] then error(("%s: the label %s is the node's own"):format(name, label), level) end
    if seen[label] then error(("%s: there are two labels %s"):format(name, label), level) end
    seen[label] = true
  end
end

local function check_buckets(name, buckets, level)
  if not is_list(buckets) or #buckets == 0 or #buckets > BUCKETS_MAX then
    error(("%s: buckets is a list of 1 to %d numbers"):format(name, BUCKETS_MAX), level)
  end
  local before = -math.huge
  for _, bound in ipairs(buckets) do
    local rises = type(bound) == "number" and bound > before and bound < math.huge -- a NaN does not
    if not rises then
      error(("%s: buckets are numbers that rise, and what is above the last has a bucket of its own"):format(name),
        level)
    end
    before = bound
  end
end

local function declare(kind, name, help, labels, buckets)
  labels = labels == nil and {} or labels
  check_name(kind, name, 4)
  check_help(name, help, 4)
  check_labels(name, labels, 4)
  if kind == "histogram" then check_buckets(name, buckets, 4) end
  local metric = core.metric(kind, name, help, labels, buckets or {})
  return metric
end

--- counter(name, help[, {label, ...}]) -> counter.  counter:inc([by, ]value, ...): by 1, or by a number that is not
--- negative; then a value for each label.
function M.counter(name, help, labels)
  local metric = declare("counter", name, help, labels)
  return metric
end

--- gauge(name, help[, {label, ...}]) -> gauge.  gauge:set(to, value, ...), gauge:inc([by, ]...), gauge:dec([by, ]...)
function M.gauge(name, help, labels)
  local metric = declare("gauge", name, help, labels)
  return metric
end

--- histogram(name, help[, {label, ...}[, {bound, ...}]]) -> histogram.  histogram:observe(number, value, ...)
function M.histogram(name, help, labels, buckets)
  local metric = declare("histogram", name, help, labels, buckets == nil and default_buckets or buckets)
  return metric
end

return M
