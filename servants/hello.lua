-- SPDX-License-Identifier: BSD-2-Clause
--
-- hello: an example to copy. Change the text below, run `fae reload`, call it again.
local fae = require "fae"
local hello = fae.servant "hello"

hello.method("greet", { args = { "string?" }, timeout_ms = 100, idempotent = true, doc = "a greeting for a name" },
  function(_, name) return "Hello, " .. (name or "world") .. "!" end)

return hello
