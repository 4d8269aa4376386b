-- SPDX-License-Identifier: BSD-2-Clause
std = "luajit"
max_line_length = 120
unused_args = false -- a method takes call first, whether it looks at it or not
self = false
cache = false

files["spec/lua"] = { std = "+busted" }
files["lua/fae/testing.lua"] = { globals = { "arg" } } -- busted takes its options from there
