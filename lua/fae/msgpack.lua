-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.msgpack: single values as bytes, with the rules of the wire.
local core = require "fae.core"

return {
  --- fae.msgpack.encode(value) -> bytes | nil, err
  encode = core.msgpack_encode,
  --- fae.msgpack.decode(bytes) -> value | nil, err
  decode = core.msgpack_decode,
}
