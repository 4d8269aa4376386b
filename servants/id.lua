-- SPDX-License-Identifier: BSD-2-Clause
--
-- id: unique numbers that rise with time; fae.id over the wire.
local fae = require "fae"
local id = fae.servant "id"

id.method("next", { args = { "int?" }, alias = "id_next", doc = "an id; a tag, 0 to 31, becomes part of it" },
  function(_, tag) return fae.id.next(tag) end)

id.method("next_with_tag", { args = { "int" }, alias = "id_next_with_tag", doc = "the same, by fae's old name" },
  function(_, tag) return fae.id.next(tag) end)

id.method("next_many", { args = { "int", "int?" }, doc = "a list of n ids that rise, n up to 100000; then a tag" },
  function(_, n, tag) return fae.id.next_many(n, tag) end)

id.method("decode", { args = { "any" }, idempotent = true,
  doc = "ms since 1970, tag, node and seq of an id, which is an integer or a string of digits" },
  function(_, value) return fae.id.decode(value) end)

id.method("parts", { args = { "any" }, idempotent = true, alias = "id_decode",
  doc = "the same as a list: ms, tag, node, seq" },
  function(_, value)
    local parts, err = fae.id.decode(value)
    if not parts then return nil, err end
    return { parts.ms, parts.tag, parts.node, parts.seq }
  end)

return id
