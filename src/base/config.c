/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The option tables: conf/fae.lua, --help, the reference page and the checks all come from these rows.
 */
#include "base/config.h"

#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

#define OPT(...) FAE_OPT(struct fae_config, __VA_ARGS__)
#define SECRET(...) FAE_OPT_SECRET(struct fae_config, __VA_ARGS__)
#define AT_START(...) FAE_OPT_AT_START(struct fae_config, __VA_ARGS__)
#define LISTEN(...) FAE_OPT_AT_START(struct fae_config_listen, __VA_ARGS__)
#define LIMIT(...) FAE_OPT(struct fae_config_limit, __VA_ARGS__)
#define ROLE(...) FAE_OPT(struct fae_config_role, __VA_ARGS__)
#define TOKEN(...) FAE_OPT(struct fae_config_token, __VA_ARGS__)
#define ACCOUNT(...) FAE_OPT(struct fae_config_account, __VA_ARGS__)
#define CERTIFICATE(...) FAE_OPT(struct fae_config_certificate, __VA_ARGS__)
#define FENCE(...) FAE_OPT(struct fae_config_fence, __VA_ARGS__)
#define REDIS(...) FAE_OPT(struct fae_config_redis, __VA_ARGS__)
#define MEMCACHE(...) FAE_OPT(struct fae_config_memcache, __VA_ARGS__)
#define MYSQL(...) FAE_OPT(struct fae_config_mysql, __VA_ARGS__)
#define SHARD(...) FAE_OPT(struct fae_config_shard, __VA_ARGS__)
#define LEVELS "debug|info|warn|error" /* in the order of enum fae_log_level */
#define MINUTES(n) (60000ull * (n))
#define MANY 1000000000ull /* of a rate or a count: beyond what a node can do */

const struct fae_opt fae_config_opts[] = {
    AT_START("workers", UINT, workers, "0", 0, FAE_WORKERS_MAX, NULL, "worker processes; 0 means one per core"),
    AT_START("pin_cpus", BOOL, pin_cpus, "false", 0, 0, NULL, "keep each worker on a core of its own"),
    AT_START("run_dir", STRING, run_dir, "run", 1, 0, NULL, "folder of sockets and the pid file; made when missing"),
    AT_START("data_dir", STRING, data_dir, "", 0, 0, NULL,
             "folder of what outlives a restart (kv store, ids, locks), on a disk; \"\" means `data` in run_dir"),
    AT_START("servants_dir", STRING, servants_dir, "servants", 0, 0, NULL,
             "folder of your servants; \"\" means the built-in ones only"),
    AT_START("lua_dir", STRING, lua_dir, "", 0, 0, NULL,
             "folder that overrides the built-in fae.* modules; \"\" means none"),
    AT_START("user", STRING, user, "", 0, 0, NULL, "account to change to once the sockets are bound; \"\" means stay"),
    AT_START("seccomp", BOOL, seccomp, "true", 0, 0, NULL,
             "deny workers and ops the system calls they have no use for, such as execve"),
    AT_START("core_dumps", BOOL, core_dumps, "false", 0, 0, NULL,
             "let a crash leave a core file, which holds what clients sent"),
    AT_START("admin", STRING, admin, "127.0.0.1:9101", 0, 0, NULL,
             "address of the admin HTTP server; other than loopback only with a token and a certificate; \"\" means "
             "none"),
    SECRET("admin_token", STRING, admin_token, "", 0, 64, NULL,
           "SHA-256, in hex, of the token that changing verbs of the admin server need; \"\" means that they are off"),
    AT_START("admin_cert", STRING, admin_cert, "", 0, 0, NULL,
             "PEM file with the admin server's certificate chain; \"\" means no TLS"),
    AT_START("admin_key", STRING, admin_key, "", 0, 0, NULL, "PEM file with its private key"),
    AT_START("log_format", ENUM, log_format, "logfmt", 0, 0, "logfmt|json", "how a log line is written"),
    OPT("log_level", ENUM, log_level, "info", 0, 0, LEVELS, "lines below this level are not logged"),
    AT_START("log_file", STRING, log_file, "", 0, 0, NULL, "file that log lines are appended to; \"\" means stderr"),
    OPT("slow_ms", MS, slow_ms, "500", 0, MINUTES(10), NULL,
        "milliseconds from which a call is in the slow log; 0 means none is"),
    AT_START("slowlog_size", UINT, slowlog_size, "1024", 16, 65536, NULL, "calls the slow log keeps, newest first"),
    OPT("slowlog_args", BYTES, slowlog_args, "256", 0, FAE_KIB, NULL,
        "bytes of a call's arguments that the slow log shows; 0 means none"),
    OPT("sample_one_in", UINT, sample_one_in, "0", 0, MANY, NULL,
        "one call in so many is put into the slow log however quick it was; 0 means none"),
    OPT("secrets", LIST, secrets, "password passwd pass pwd secret token key auth authorization cookie", 0, 0, NULL,
        "keys of maps whose values are never logged"),
    AT_START(
        "node_id", UINT, node_id, "0", 0, 1023, NULL,
        "number of this node in the ids it makes, no two nodes' the same; 0 to 31, with id_layout snowflake to 1023"),
    AT_START("id_layout", ENUM, id_layout, "fae", 0, 0, "fae|snowflake",
             "what an id is made of: fae has 5 bits of tag and 5 of node, snowflake 10 of node"),
    AT_START(
        "cache_size", BYTES, cache_size, "64MiB", 8 * FAE_MIB, 1024ull * 1024 * FAE_MIB, NULL,
        "bytes of memory of the cache that all workers share; with query_cache_size at most an eighth of the memory "
        "there is"),
    AT_START("query_cache_size", BYTES, query_cache_size, "64MiB", 0, 1024ull * 1024 * FAE_MIB, NULL,
             "bytes of memory of the results that servant my keeps, 8 MiB at least; 0 means it keeps none"),
    AT_START("kv", BOOL, kv, "true", 0, 0, NULL, "have a kv store in data_dir"),
    AT_START("kv_fast", BOOL, kv_fast, "false", 0, 0, NULL,
             "have a second kv store that does not wait for the disk, and may lose everything when power fails"),
    AT_START("kv_backend", STRING, kv_backend, "local", 1, 0, NULL,
             "where the kv store keeps its data: local, redis:POOL or mysql:POOL"),
    AT_START("locks_max", UINT, locks_max, "65536", 64, 16777216, NULL,
             "locks that may be held or waited for at a time; one more is answered OVERLOAD"),
    OPT("lock_lease_max_ms", MS, lock_lease_max_ms, "600000", 1, MINUTES(1440), NULL,
        "milliseconds a lock may be held without being renewed"),
    AT_START("metrics_series_max", UINT, metrics_series_max, "10000", 16, 100000, NULL,
             "series that fae.metrics may make; what is beyond is counted and left out"),
    AT_START("backlog", UINT, backlog, "4096", 1, 65535, NULL,
             "connections a listening socket queues before it is served"),
    OPT("sessions_max", UINT, sessions_max, "10000", 1, 1000000, NULL,
        "client connections of the node; one more is answered BUSY and closed"),
    OPT("host_sessions_max", UINT, host_sessions_max, "1000", 0, 1000000, NULL,
        "client connections of one address; one more is answered HOST_BUSY and closed; 0 means no limit"),
    OPT("host_exempt", LIST, host_exempt, "127.0.0.0/8 ::1", 0, 0, NULL,
        "networks to whose addresses no host_* limit applies; unix sockets never have one"),
    OPT("calls_max", UINT, calls_max, "10000", 1, MANY, NULL,
        "calls in flight on the node; one more is answered OVERLOAD"),
    OPT("calls_rate", UINT, calls_rate, "0", 0, MANY, NULL,
        "calls a second on the node; one more is answered RATE_LIMITED; 0 means no limit"),
    OPT("calls_burst", UINT, calls_burst, "0", 0, MANY, NULL,
        "calls that may come at once under calls_rate; 0 means one second's worth"),
    OPT("host_calls_max", UINT, host_calls_max, "0", 0, MANY, NULL,
        "calls in flight of one address; one more is answered HOST_OVERLOAD; 0 means no limit"),
    OPT("host_rate", UINT, host_rate, "0", 0, MANY, NULL,
        "calls a second of one address; one more is answered HOST_RATE_LIMITED; 0 means no limit"),
    OPT("host_burst", UINT, host_burst, "0", 0, MANY, NULL,
        "calls that may come at once under host_rate; 0 means one second's worth"),
    OPT("overload_delay_ms", MS, overload_delay_ms, "20", 0, FAE_TURN_MS, NULL,
        "milliseconds that calls may wait to be run; when they wait longer all the time, those that would are answered "
        "CONGESTED at once; 0 means they wait"),
    OPT("message_max", BYTES, message_max, "4MiB", FAE_KIB, FAE_MESSAGE_CEILING, NULL,
        "bytes of one request or one answer"),
    OPT("in_max", BYTES, in_max, "256MiB", FAE_MIB, 64ull * 1024 * FAE_MIB, NULL,
        "bytes of memory that messages take which have not come whole, on the node, at most an eighth of the memory there "
        "is; beyond it those whose are largest are cut"),
    OPT("out_max", BYTES, out_max, "256MiB", FAE_MIB, 64ull * 1024 * FAE_MIB, NULL,
        "bytes of memory that answers take which clients have not read, on the node, at most an eighth of the memory there is; "
        "beyond it those who owe most are cut"),
    OPT("call_timeout_ms", MS, call_timeout_ms, "5000", 1, MINUTES(10), NULL,
        "milliseconds a call may take where its method names no timeout"),
    OPT("first_byte_timeout_ms", MS, first_byte_timeout_ms, "10000", 0, MINUTES(60), NULL,
        "milliseconds a new connection may send nothing (for tls: until its handshake is done); 0 means no limit"),
    OPT("partial_timeout_ms", MS, partial_timeout_ms, "10000", 100, MINUTES(10), NULL,
        "milliseconds a message may take to arrive whole, unless it comes faster than partial_rate_min"),
    OPT("partial_rate_min", BYTES, partial_rate_min, "1KiB", 0, FAE_MESSAGE_CEILING, NULL,
        "bytes a second at which a message may take longer; 0 means that none may"),
    OPT("idle_timeout_ms", MS, idle_timeout_ms, "300000", 0, MINUTES(1440), NULL,
        "milliseconds a tcp or tls connection may be silent without a call in flight; 0 means no limit"),
    OPT("idle_timeout_unix_ms", MS, idle_timeout_unix_ms, "3600000", 0, MINUTES(1440), NULL,
        "milliseconds the same for a connection on a unix socket; 0 means no limit"),
    OPT("out_stall_ms", MS, out_stall_ms, "10000", 100, MINUTES(10), NULL,
        "milliseconds a client may leave its answers unread without any progress"),
    OPT("drain_ms", MS, drain_ms, "30000", 0, MINUTES(10), NULL,
        "milliseconds the calls in flight get when the node stops"),
    OPT("drain_spread_ms", MS, drain_spread_ms, "5000", 0, MINUTES(10), NULL,
        "milliseconds over which idle connections are closed when the node stops"),
    AT_START("watchdog", BOOL, watchdog, "true", 0, 0, NULL,
             "stop and replace workers that hang; false for a debugger"),
    AT_START("watchdog_warn_ms", MS, watchdog_warn_ms, "2000", 100, MINUTES(10), NULL,
             "milliseconds of silence after which a worker is named in the log and its call interrupted"),
    AT_START("watchdog_kill_ms", MS, watchdog_kill_ms, "5000", 200, MINUTES(10), NULL,
             "milliseconds of silence after which a worker is killed and replaced"),
    OPT("lua_memory_max", BYTES, lua_memory_max, "512MiB", 16 * FAE_MIB, 64ull * 1024 * FAE_MIB, NULL,
        "bytes the Lua code of one worker may hold before new calls are refused; with a quarter more it is replaced; all "
        "workers together at most two fifths of the memory there is"),
    OPT("mysql_results_max", BYTES, mysql_results_max, "256MiB", FAE_MIB, 64ull * 1024 * FAE_MIB, NULL,
        "bytes of memory that results of mysql pools take in one worker while they are read, all together; one that finds "
        "no room is answered NO_MEMORY; all workers together at most a sixteenth of the memory there is"),
};

const unsigned fae_config_n_opts = sizeof fae_config_opts / sizeof *fae_config_opts;

/* ---- sections ---- */

const struct fae_opt fae_config_listen_opts[] = {
    LISTEN("addr", STRING, addr, "", 1, 0, NULL,
           "where to listen: tcp://HOST:PORT or tls://HOST:PORT (port 0 means any) or unix:PATH (relative to run_dir)"),
    LISTEN("half_close", BOOL, half_close, "false", 0, 0, NULL,
           "a client that shuts down its sending side still gets its answers"),
    LISTEN("mode", UINT, mode, "0660", 0, 0777, NULL, "permissions of a unix socket's file, in octal"),
    LISTEN("group", STRING, group, "", 0, 0, NULL,
           "group that a unix socket's file is given to, such as www-data; \"\" means that of the account"),
    LISTEN("roles", LIST, roles, "", 0, 0, NULL, "roles of everyone who connects here"),
    LISTEN("cert", STRING, cert, "", 0, 0, NULL, "tls: PEM file with the certificate chain"),
    LISTEN("key", STRING, key, "", 0, 0, NULL, "tls: PEM file with the private key"),
    LISTEN("client_ca", STRING, client_ca, "", 0, 0, NULL,
           "tls: PEM file with whom to believe clients' certificates; \"\" means that none is asked for"),
    LISTEN("client_cert_required", BOOL, client_cert_required, "false", 0, 0, NULL,
           "tls: refuse clients without a certificate"),
};

const unsigned fae_config_n_listen_opts = sizeof fae_config_listen_opts / sizeof *fae_config_listen_opts;

static const struct fae_opt limit_opts[] = {
    LIMIT("methods", STRING, methods, "", 1, FAE_METHOD_NAME_MAX, NULL,
          "\"shop.buy\", or \"shop.*\" for all methods of a servant together"),
    LIMIT("calls", UINT, calls, "0", 0, MANY, NULL,
          "calls in flight on the node; one more is answered METHOD_OVERLOAD or SERVANT_OVERLOAD; 0 means no limit"),
    LIMIT("rate", UINT, rate, "0", 0, MANY, NULL,
          "calls a second on the node; one more is answered METHOD_RATE_LIMITED or SERVANT_RATE_LIMITED; 0 means no "
          "limit"),
    LIMIT("burst", UINT, burst, "0", 0, MANY, NULL,
          "calls that may come at once under rate; 0 means one second's worth"),
    LIMIT("slow_ms", MS, slow_ms, "0", 0, MINUTES(10), NULL,
          "milliseconds from which these calls are in the slow log; 0 means what the option slow_ms says"),
};
static const unsigned n_limit_opts = sizeof limit_opts / sizeof *limit_opts;

static const struct fae_opt role_opts[] = {
    ROLE("name", STRING, name, "", 1, 63, NULL, "the role's name, a word"),
    ROLE("allow", LIST, allow, "", 0, 0, NULL, "methods it may call: names, or globs such as \"shop.*\" or \"*\""),
    ROLE("deny", LIST, deny, "", 0, 0, NULL, "methods it may not call, whatever allow says"),
    ROLE("peer", BOOL, peer, "false", 0, 0, NULL, "who has it is another node, whose `sticky` is believed"),
};
static const unsigned n_role_opts = sizeof role_opts / sizeof *role_opts;

static const struct fae_opt token_opts[] = {
    TOKEN("name", STRING, name, "", 1, 63, NULL, "who has the token, a word; logs say it"),
    FAE_OPT_SECRET(struct fae_config_token, "sha256", STRING, sha256, "", 64, 64, NULL,
                   "SHA-256 of the token in hex: `fae token` makes both"),
    TOKEN("roles", LIST, roles, "", 0, 0, NULL, "roles of whoever shows the token"),
};
static const unsigned n_token_opts = sizeof token_opts / sizeof *token_opts;

static const struct fae_opt account_opts[] = {
    ACCOUNT("name", STRING, name, "", 1, 63, NULL,
            "an account of this machine, or its number: a client on a unix socket that runs as it"),
    ACCOUNT("roles", LIST, roles, "", 0, 0, NULL, "roles of such a client"),
    ACCOUNT("uid", STRING, uid, "", 0, 10, NULL, "its number; \"\" means that this machine is asked"),
};
static const unsigned n_account_opts = sizeof account_opts / sizeof *account_opts;

static const struct fae_opt certificate_opts[] = {
    CERTIFICATE("name", STRING, name, "", 1, 0, NULL, "common name in the subject of a client's certificate"),
    CERTIFICATE("roles", LIST, roles, "", 0, 0, NULL, "roles of such a client"),
};
static const unsigned n_certificate_opts = sizeof certificate_opts / sizeof *certificate_opts;

static const struct fae_opt fence_opts[] = {
    FENCE("name", STRING, name, "", 1, 63, NULL, "the servant's or plugin's file, without .lua"),
    FENCE("allow", LIST, allow, "", 0, 0, NULL,
          "what it may use: debug, ffi, io.popen, loadlib, os.execute; a node that allows a program to be started "
          "allows it to all its workers"),
};
static const unsigned n_fence_opts = sizeof fence_opts / sizeof *fence_opts;

/* The first rows of every kind of pool; OPT is that kind's macro. */
#define POOL_NAME(OPT, what, forms)                                                                                    \
    OPT("name", STRING, pool.name, "", 1, 63, NULL, what),                                                             \
        OPT("servers", LIST, pool.servers, "", 0, 0, NULL,                                                             \
            "where they listen: " forms "; a name is looked up off the loop")
#define POOL_LIMITS(OPT)                                                                                               \
    OPT("max", UINT, pool.max, "16", 1, 10000, NULL,                                                                   \
        "connections to one server, of the node; each worker may have one whatever the others have"),                  \
        OPT("waiting_max", UINT, pool.waiting_max, "1024", 0, 100000, NULL,                                            \
            "calls of one worker that wait for a connection to one server; one more is answered POOL_BUSY"),           \
        OPT("wait_ms", MS, pool.wait_ms, "200", 1, MINUTES(1), NULL,                                                   \
            "milliseconds a call waits for a connection before it is answered POOL_BUSY"),                             \
        OPT("warm", UINT, pool.warm, "0", 0, 1000, NULL,                                                               \
            "connections to each server that a worker keeps ready before they are needed; max at most")
#define POOL_TIMES(OPT)                                                                                                \
    OPT("connect_timeout_ms", MS, pool.connect_timeout_ms, "1000", 1, MINUTES(1), NULL,                                \
        "milliseconds a connection may take to be ready, with its handshake and login"),                               \
        OPT("timeout_ms", MS, pool.timeout_ms, "1000", 1, MINUTES(10), NULL,                                           \
            "milliseconds an answer may take; then its connection is dropped. A call's own deadline may be earlier"),  \
        OPT("idle_ms", MS, pool.idle_ms, "60000", 0, MINUTES(1440), NULL,                                              \
            "milliseconds a connection may lie idle before it is closed; 0 means no limit"),                           \
        OPT("life_ms", MS, pool.life_ms, "3600000", 0, MINUTES(10080), NULL,                                           \
            "milliseconds after which a connection is made anew, give or take a tenth; 0 means no limit")
#define POOL_BREAKER(OPT)                                                                                              \
    OPT("breaker_percent", UINT, pool.breaker_percent, "50", 0, 100, NULL,                                             \
        "share of a server's calls in 10 s that must fail before it is left alone for a while; 0 means it never is"),  \
        OPT("breaker_calls", UINT, pool.breaker_calls, "20", 1, MANY, NULL,                                            \
            "calls in 10 s below which that share says nothing"),                                                      \
        OPT("breaker_refusals", UINT, pool.breaker_refusals, "5", 1, MANY, NULL,                                       \
            "connections in a row that a server refuses before it is left alone"),                                     \
        OPT("breaker_open_ms", MS, pool.breaker_open_ms, "5000", 10, MINUTES(10), NULL,                                \
            "milliseconds it is left alone at first; half as long again each time it fails then, up to a minute")

static const struct fae_opt redis_opts[] = {
    POOL_NAME(REDIS, "the pool's name, a word: fae.redis \"main\"",
              "HOST:PORT, tls://HOST:PORT or unix:/PATH, and *WEIGHT"),
    REDIS("select", ENUM, select, "ring", 0, 0, "ring|jump",
          "how a key finds its server: ring is fae's consistent hash, jump moves fewer keys when servers are added"),
    REDIS("pipelines", UINT, pipelines, "1", 1, 16, NULL,
          "connections of a worker to each server that all its calls share; those that block have others"),
    REDIS("user", STRING, user, "", 0, 0, NULL, "whom to log in as; \"\" means the default user"),
    FAE_OPT_SECRET(struct fae_config_redis, "password", STRING, password, "", 0, 0, NULL, "\"\" means no login"),
    REDIS("db", UINT, db, "0", 0, 1000000, NULL, "number of the database"),
    REDIS("ca", STRING, ca, "", 0, 0, NULL,
          "tls: PEM file with whom to believe the servers' certificates; \"\" means whom the system believes"),
    REDIS("cert", STRING, cert, "", 0, 0, NULL, "tls: PEM file with a certificate to show"),
    REDIS("key", STRING, key, "", 0, 0, NULL, "tls: PEM file with its private key"),
    POOL_LIMITS(REDIS),
    POOL_TIMES(REDIS),
    POOL_BREAKER(REDIS),
};
static const unsigned n_redis_opts = sizeof redis_opts / sizeof *redis_opts;

static const struct fae_opt memcache_opts[] = {
    POOL_NAME(MEMCACHE, "the pool's name, a word: fae.memcache \"main\"", "HOST:PORT or unix:/PATH, and *WEIGHT"),
    MEMCACHE(
        "select", ENUM, select, "ketama", 0, 0, "ketama|modulo",
        "how a key finds its server: ketama as PHP's Memcached with OPT_LIBKETAMA_COMPATIBLE, which knows weights; modulo as "
        "fae did"),
    MEMCACHE("replica_num", UINT, replica_num, "1", 1, 8, NULL,
             "servers that a value is written to; it is read from the next one on a miss, or when one fails"),
    MEMCACHE("value_max", BYTES, value_max, "1MiB", 1, FAE_MESSAGE_CEILING, NULL,
             "bytes of one value; memcached's own limit is its option -I, 1 MiB with what belongs to an item"),
    MEMCACHE("waiting_max", UINT, pool.waiting_max, "4096", 1, 100000, NULL,
             "calls of one worker that wait for answers of one server; one more is answered POOL_BUSY"),
    POOL_TIMES(MEMCACHE),
    POOL_BREAKER(MEMCACHE),
};
static const unsigned n_memcache_opts = sizeof memcache_opts / sizeof *memcache_opts;

static const struct fae_opt mysql_opts[] = {
    MYSQL("name", STRING, pool.name, "", 1, 63, NULL, "the pool's name, a word: fae.mysql \"main\""),
    MYSQL(
        "servers", LIST, pool.servers, "", 0, 0, NULL,
        "where the one server listens that is written to: HOST:PORT, tls://HOST:PORT or unix:/PATH; a name is looked up off "
        "the loop"),
    MYSQL("replicas", LIST, replicas, "", 0, 0, NULL, "servers that may be read from when a query says so"),
    MYSQL("replica_lag_max_ms", MS, replica_lag_max_ms, "1000", 0, MINUTES(1440), NULL,
          "milliseconds a replica may be behind and still be read from; MariaDB tells whole seconds"),
    MYSQL("user", STRING, user, "", 0, 0, NULL, "whom to log in as"),
    FAE_OPT_SECRET(struct fae_config_mysql, "password", STRING, password, "", 0, 0, NULL, "\"\" means none"),
    MYSQL("db", STRING, db, "", 0, 64, NULL, "database that names without one are of; \"\" means none"),
    MYSQL("charset", STRING, charset, "utf8mb4", 1, 32, NULL, "character set of texts in both directions"),
    MYSQL("statements", UINT, statements, "64", 0, 1000, NULL,
          "prepared statements that a connection keeps, those used last; 0 means that each is made anew"),
    MYSQL("rows_max", UINT, rows_max, "100000", 1, MANY, NULL, "rows of one result; one more is answered LIMIT"),
    MYSQL("result_max", BYTES, result_max, "64MiB", FAE_KIB, 1024 * FAE_MIB, NULL,
          "bytes of memory of one result, or of one row where they come one after the other; more is answered LIMIT"),
    MYSQL("ca", STRING, ca, "", 0, 0, NULL,
          "tls: PEM file with whom to believe the servers' certificates; \"\" means whom the system believes"),
    MYSQL("cert", STRING, cert, "", 0, 0, NULL, "tls: PEM file with a certificate to show"),
    MYSQL("key", STRING, key, "", 0, 0, NULL, "tls: PEM file with its private key"),
    POOL_LIMITS(MYSQL),
    POOL_TIMES(MYSQL),
    POOL_BREAKER(MYSQL),
};
static const unsigned n_mysql_opts = sizeof mysql_opts / sizeof *mysql_opts;
static const struct fae_opt shard_opts[] = {
    SHARD("name", STRING, name, "", 1, 63, NULL, "what the pools are together, a word: fae.mysql(\"UserShard\", 17)"),
    SHARD("strategy", ENUM, strategy, "standard", 0, 0, "standard|hash|vbucket",
          "how an entity finds its pool: by a table that says which, by crc32 modulo the pools, or by 1024 buckets"),
    SHARD(
        "lookup_pool", STRING, lookup_pool, "", 0, 63, NULL,
        "standard: the mysql pool of the table with entityId, shardId and shardLock; the entity lies in the pool called "
        "by this section's name and shardId"),
    SHARD("lookup_table", STRING, lookup_table, "", 0, 129, NULL, "standard: that table, NAME or DB.NAME"),
    SHARD("lookup_ttl_ms", MS, lookup_ttl_ms, "1000", 0, 1000, NULL,
          "standard: milliseconds until the table is asked again, and a lock is seen; 0 means each time"),
    SHARD("pools", LIST, pools, "", 0, 0, NULL, "hash, vbucket: mysql pools; their order decides which has what"),
    SHARD(
        "map", LIST, map, "", 0, 0, NULL,
        "vbucket: which pool has which buckets, all of 0 to 1023: 0-511=UserShard1, 512=UserShard2; without it bucket i "
        "is in pool i modulo the pools"),
};
static const unsigned n_shard_opts = sizeof shard_opts / sizeof *shard_opts;

#define SECTION(word, opts, n_opts, max, alone, help, example)                                                         \
    {                                                                                                                  \
#word, opts, &(n_opts), sizeof(struct fae_config_##word), offsetof(struct fae_config, word),                   \
            offsetof(struct fae_config, n_##word), max, alone, help, example                                           \
    }

const struct fae_config_section fae_config_sections[] = {
    SECTION(listen, fae_config_listen_opts, fae_config_n_listen_opts, FAE_LISTENERS_MAX, true, "where calls are served",
            "listen { \"unix:fae.sock\", mode = \"0660\", group = \"\", half_close = false }"),
    SECTION(limit, limit_opts, n_limit_opts, FAE_GATES_MAX, false, "limits of a method, or of a servant as a whole",
            "limit \"shop.*\" { calls = 100, rate = 5000, burst = 500, slow_ms = 200 }"),
    SECTION(role, role_opts, n_role_opts, FAE_ROLES_MAX, false,
            "what somebody may call; as soon as there is one, what no role allows is answered FORBIDDEN",
            "role \"web\" { allow = { \"shop.*\", \"lc.get\" }, deny = \"shop.refund\" }"),
    SECTION(token, token_opts, n_token_opts, FAE_TOKENS_MAX, false, "who may show a token, and which roles it brings",
            "token \"cron\" { sha256 = os.getenv \"CRON_SHA256\", roles = \"web\" }"),
    SECTION(account, account_opts, n_account_opts, FAE_ACCOUNTS_MAX, false, "roles of clients on unix sockets",
            "account \"www-data\" { roles = \"web\" }"),
    SECTION(certificate, certificate_opts, n_certificate_opts, FAE_ACCOUNTS_MAX, false,
            "roles of clients with a certificate", "certificate \"shop.example\" { roles = \"web\" }"),
    SECTION(fence, fence_opts, n_fence_opts, FAE_FENCES_MAX, false, "what a servant may use beyond the fence",
            "fence \"thumbs\" { allow = \"io.popen\" }"),
    SECTION(redis, redis_opts, n_redis_opts, FAE_POOLS_MAX, false, "a pool of redis servers",
            "redis \"main\" { servers = { \"10.0.0.1:6379\", \"10.0.0.2:6379\" }, max = 16 }"),
    SECTION(memcache, memcache_opts, n_memcache_opts, FAE_POOLS_MAX, false, "a pool of memcached servers",
            "memcache \"main\" { servers = { \"10.0.0.1:11211\", \"10.0.0.2:11211*2\" }, replica_num = 2 }"),
    SECTION(
        mysql, mysql_opts, n_mysql_opts, FAE_POOLS_MAX, false, "a pool of connections to a MySQL or MariaDB server",
        "mysql \"main\" { servers = \"10.0.0.1:3306\", user = \"web\", password = os.getenv \"DB\", db = \"shop\" }"),
    SECTION(shard, shard_opts, n_shard_opts, FAE_POOLS_MAX, false, "mysql pools over which entities are spread",
            "shard \"User\" { strategy = \"vbucket\", map = { \"0-511=main\", \"512-1023=main\" } }"),
};

const unsigned fae_config_n_sections = sizeof fae_config_sections / sizeof *fae_config_sections;

void fae_config_init(struct fae_config *config)
{
    *config = (struct fae_config){ 0 };
    fae_opt_defaults(fae_config_opts, fae_config_n_opts, config);
}

void fae_config_fini(struct fae_config *config)
{
    free(config->servants_json);
    free(config->plugins_json);
    config->servants_json = config->plugins_json = NULL;
}

void fae_config_copy(struct fae_config *into, const struct fae_config *from)
{
    *into = *from;
    if (from->servants_json)
        into->servants_json = fae_strdup(from->servants_json);
    if (from->plugins_json)
        into->plugins_json = fae_strdup(from->plugins_json);
}

void fae_config_swap(struct fae_config *a, struct fae_config *b)
{
    struct fae_config *was = fae_alloc(sizeof *was); /* large for a stack */

    *was = *a;
    *a = *b;
    *b = *was;
    free(was);
}

bool fae_config_is_tls(const struct fae_config_listen *listen)
{
    return strncmp(listen->addr, "tls://", 6) == 0;
}

const struct fae_config_section *fae_config_section(const char *name)
{
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        if (strcmp(fae_config_sections[i].name, name) == 0)
            return &fae_config_sections[i];
    return NULL;
}

unsigned *fae_config_count(const struct fae_config_section *section, const struct fae_config *config)
{
    return (unsigned *)((char *)config + section->n_offset);
}

void *fae_config_entry(const struct fae_config_section *section, const struct fae_config *config, unsigned i)
{
    return (char *)config + section->offset + i * section->size;
}
