-- SPDX-License-Identifier: BSD-2-Clause
-- The configuration of a fae node: every option with its default. What is left out keeps its default.
-- This is Lua, run once when the node starts: it may compute, use string, table and math, and read the
-- environment with os.getenv. `fae check -c FILE` lists what is wrong with a file. Made by
-- `fae check --print-defaults`; conf/README.md is the reference.

-- worker processes; 0 means one per core (0 to 64)
workers(0)

-- keep each worker on a core of its own
pin_cpus(false)

-- folder of sockets and the pid file; made when missing
run_dir "run"

-- folder of what outlives a restart (kv store, ids, locks), on a disk; "" means `data` in run_dir
data_dir ""

-- folder of your servants; "" means the built-in ones only
servants_dir "servants"

-- folder that overrides the built-in fae.* modules; "" means none
lua_dir ""

-- account to change to once the sockets are bound; "" means stay
user ""

-- deny workers and ops the system calls they have no use for, such as execve
seccomp(true)

-- let a crash leave a core file, which holds what clients sent
core_dumps(false)

-- address of the admin HTTP server; other than loopback only with a token and a certificate; "" means none
admin "127.0.0.1:9101"

-- SHA-256, in hex, of the token that changing verbs of the admin server need; "" means that they are off
admin_token ""

-- PEM file with the admin server's certificate chain; "" means no TLS
admin_cert ""

-- PEM file with its private key
admin_key ""

-- how a log line is written (logfmt, json)
log_format "logfmt"

-- lines below this level are not logged (debug, info, warn, error)
log_level "info"

-- file that log lines are appended to; "" means stderr
log_file ""

-- milliseconds from which a call is in the slow log; 0 means none is (0 to 600000)
slow_ms(500)

-- calls the slow log keeps, newest first (16 to 65536)
slowlog_size(1024)

-- bytes of a call's arguments that the slow log shows; 0 means none (0 to 1KiB)
slowlog_args "256"

-- one call in so many is put into the slow log however quick it was; 0 means none (0 to 1000000000)
sample_one_in(0)

-- keys of maps whose values are never logged
secrets "password passwd pass pwd secret token key auth authorization cookie"

-- number of this node in the ids it makes, no two nodes' the same; 0 to 31, with id_layout snowflake to 1023 (0 to 1023)
node_id(0)

-- what an id is made of: fae has 5 bits of tag and 5 of node, snowflake 10 of node (fae, snowflake)
id_layout "fae"

-- bytes of memory of the cache that all workers share; with query_cache_size at most an eighth of the memory there is (8MiB to 1024GiB)
cache_size "64MiB"

-- bytes of memory of the results that servant my keeps, 8 MiB at least; 0 means it keeps none (0 to 1024GiB)
query_cache_size "64MiB"

-- have a kv store in data_dir
kv(true)

-- have a second kv store that does not wait for the disk, and may lose everything when power fails
kv_fast(false)

-- where the kv store keeps its data: local, redis:POOL or mysql:POOL
kv_backend "local"

-- locks that may be held or waited for at a time; one more is answered OVERLOAD (64 to 16777216)
locks_max(65536)

-- milliseconds a lock may be held without being renewed (1 to 86400000)
lock_lease_max_ms(600000)

-- series that fae.metrics may make; what is beyond is counted and left out (16 to 100000)
metrics_series_max(10000)

-- connections a listening socket queues before it is served (1 to 65535)
backlog(4096)

-- client connections of the node; one more is answered BUSY and closed (1 to 1000000)
sessions_max(10000)

-- client connections of one address; one more is answered HOST_BUSY and closed; 0 means no limit (0 to 1000000)
host_sessions_max(1000)

-- networks to whose addresses no host_* limit applies; unix sockets never have one
host_exempt "127.0.0.0/8 ::1"

-- calls in flight on the node; one more is answered OVERLOAD (1 to 1000000000)
calls_max(10000)

-- calls a second on the node; one more is answered RATE_LIMITED; 0 means no limit (0 to 1000000000)
calls_rate(0)

-- calls that may come at once under calls_rate; 0 means one second's worth (0 to 1000000000)
calls_burst(0)

-- calls in flight of one address; one more is answered HOST_OVERLOAD; 0 means no limit (0 to 1000000000)
host_calls_max(0)

-- calls a second of one address; one more is answered HOST_RATE_LIMITED; 0 means no limit (0 to 1000000000)
host_rate(0)

-- calls that may come at once under host_rate; 0 means one second's worth (0 to 1000000000)
host_burst(0)

-- milliseconds that calls may wait to be run; when they wait longer all the time, those that would are answered CONGESTED at once; 0 means they wait (0 to 50)
overload_delay_ms(20)

-- bytes of one request or one answer (1KiB to 64MiB)
message_max "4MiB"

-- bytes of memory that messages take which have not come whole, on the node, at most an eighth of the memory there is; beyond it those whose are largest are cut (1MiB to 64GiB)
in_max "256MiB"

-- bytes of memory that answers take which clients have not read, on the node, at most an eighth of the memory there is; beyond it those who owe most are cut (1MiB to 64GiB)
out_max "256MiB"

-- milliseconds a call may take where its method names no timeout (1 to 600000)
call_timeout_ms(5000)

-- milliseconds a new connection may send nothing (for tls: until its handshake is done); 0 means no limit (0 to 3600000)
first_byte_timeout_ms(10000)

-- milliseconds a message may take to arrive whole, unless it comes faster than partial_rate_min (100 to 600000)
partial_timeout_ms(10000)

-- bytes a second at which a message may take longer; 0 means that none may (0 to 64MiB)
partial_rate_min "1KiB"

-- milliseconds a tcp or tls connection may be silent without a call in flight; 0 means no limit (0 to 86400000)
idle_timeout_ms(300000)

-- milliseconds the same for a connection on a unix socket; 0 means no limit (0 to 86400000)
idle_timeout_unix_ms(3600000)

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

-- bytes the Lua code of one worker may hold before new calls are refused; with a quarter more it is replaced; all workers together at most two fifths of the memory there is (16MiB to 64GiB)
lua_memory_max "512MiB"

-- bytes of memory that results of mysql pools take in one worker while they are read, all together; one that finds no room is answered NO_MEMORY; all workers together at most a sixteenth of the memory there is (1MiB to 64GiB)
mysql_results_max "256MiB"

-- where calls are served (at most 16)
-- listen { "unix:fae.sock", mode = "0660", group = "", half_close = false }
listen "tcp://127.0.0.1:9001"
listen "unix:fae.sock"

-- limits of a method, or of a servant as a whole (at most 256)
-- limit "shop.*" { calls = 100, rate = 5000, burst = 500, slow_ms = 200 }

-- what somebody may call; as soon as there is one, what no role allows is answered FORBIDDEN (at most 31)
-- role "web" { allow = { "shop.*", "lc.get" }, deny = "shop.refund" }

-- who may show a token, and which roles it brings (at most 256)
-- token "cron" { sha256 = os.getenv "CRON_SHA256", roles = "web" }

-- roles of clients on unix sockets (at most 64)
-- account "www-data" { roles = "web" }

-- roles of clients with a certificate (at most 64)
-- certificate "shop.example" { roles = "web" }

-- what a servant may use beyond the fence (at most 64)
-- fence "thumbs" { allow = "io.popen" }

-- a pool of redis servers (at most 64)
-- redis "main" { servers = { "10.0.0.1:6379", "10.0.0.2:6379" }, max = 16 }

-- a pool of memcached servers (at most 64)
-- memcache "main" { servers = { "10.0.0.1:11211", "10.0.0.2:11211*2" }, replica_num = 2 }

-- a pool of connections to a MySQL or MariaDB server (at most 64)
-- mysql "main" { servers = "10.0.0.1:3306", user = "web", password = os.getenv "DB", db = "shop" }

-- mysql pools over which entities are spread (at most 64)
-- shard "User" { strategy = "vbucket", map = { "0-511=main", "512-1023=main" } }

-- settings of a servant, which reads them as fae.config "shop"
-- servant "shop" { cache_ttl = 60, names = { "a", "b" } }

-- a plugin with its settings; they run in the order of this file
-- plugin "access_log" { file = "access.log" }
