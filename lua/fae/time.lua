-- SPDX-License-Identifier: BSD-2-Clause
--
-- fae.time: two clocks.
local core = require "fae.core"

return {
  --- fae.time.now_ms() -> milliseconds since 1970; jumps with the system's clock
  now_ms = core.wall_ms,
  --- fae.time.monotonic_us() -> microseconds of a clock that never jumps, for intervals
  monotonic_us = core.monotonic_us,
}
