-- SPDX-License-Identifier: BSD-2-Clause
-- The configuration of a fae node: every option with its default. What is left out keeps its default.
-- This is Lua, run once when the node starts: it may compute, use string, table and math, and read the
-- environment with os.getenv. `fae check -c FILE` lists what is wrong with a file. Made by
-- `fae check --print-defaults`; conf/README.md is the reference.

-- worker processes; 0 means one per core (0 to 64)
workers(0)

-- folder of sockets and the pid file; made when missing
run_dir "run"

-- folder of your servants; "" means the built-in ones only
servants_dir "servants"

-- folder that overrides the built-in fae.* modules; "" means none
lua_dir ""

-- account to change to once the sockets are bound; "" means stay
user ""

-- address of the admin HTTP server, on loopback only; "" means none
admin "127.0.0.1:9101"

-- how a log line is written (logfmt, json)
log_format "logfmt"

-- lines below this level are not logged (debug, info, warn, error)
log_level "info"

-- file that log lines are appended to; "" means stderr
log_file ""

-- connections a listening socket queues before it is served (1 to 65535)
backlog(4096)

-- client connections of the node; one more is answered BUSY and closed (1 to 1000000)
sessions_max(10000)

-- bytes of one request or one answer (1KiB to 64MiB)
message_max "4MiB"

-- milliseconds a call may take where its method names no timeout (1 to 600000)
call_timeout_ms(5000)

-- milliseconds a message may take to arrive whole (100 to 600000)
partial_timeout_ms(10000)

-- milliseconds a client may leave its answers unread without any progress (100 to 600000)
out_stall_ms(10000)

-- milliseconds the calls in flight get when the node stops (0 to 600000)
drain_ms(30000)

-- milliseconds over which idle connections are closed when the node stops (0 to 600000)
drain_spread_ms(5000)

-- stop and replace workers that hang; false for a debugger
watchdog(true)

-- milliseconds of silence after which a worker is named in the log and its call interrupted (100 to 600000)
watchdog_warn_ms(2000)

-- milliseconds of silence after which a worker is killed and replaced (200 to 600000)
watchdog_kill_ms(5000)

-- bytes the Lua code of one worker may hold (16MiB to 64GiB)
lua_memory_max "512MiB"

-- Where calls are served; once for each address, 16 at most. Other keys and their defaults stand in a table:
-- listen { "unix:fae.sock", mode = "0660", group = "", half_close = false }
listen "tcp://127.0.0.1:9001"
listen "unix:fae.sock"

-- Settings of a servant, which reads them as fae.config "shop":
-- servant "shop" { cache_ttl = 60, names = { "a", "b" } }
