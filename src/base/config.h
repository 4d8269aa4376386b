/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What an operator can set, after it was read and checked. One row an option in base/config.c; one row a section, which
 * is a call that may be made several times: `listen`, `limit "shop.*" { rate = 100 }`.
 */
#ifndef FAE_BASE_CONFIG_H
#define FAE_BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/opt.h"

struct fae_config_listen {
    char addr[FAE_OPT_TEXT];  /* "tcp://127.0.0.1:9001", "tls://0.0.0.0:9002", "unix:fae.sock" (relative to run_dir) */
    bool half_close;          /* a client that shuts its side still gets its answers */
    uint64_t mode;            /* of a unix socket */
    char group[FAE_OPT_TEXT]; /* of a unix socket; "": that of the account */
    char roles[FAE_OPT_LIST_TEXT];              /* of everyone who connects here */
    char cert[FAE_OPT_TEXT], key[FAE_OPT_TEXT]; /* tls: PEM files */
    char client_ca[FAE_OPT_TEXT];               /* tls: PEM file; "": clients are not asked for a certificate */
    bool client_cert_required;
};

/* Of the methods that the pattern names together: "shop.buy", or "shop.*" for a servant as a whole. */
struct fae_config_limit {
    char methods[FAE_OPT_TEXT];
    uint64_t calls;       /* in flight on the node; 0: no limit */
    uint64_t rate, burst; /* calls a second, and how many may come at once; 0: no limit, one second's worth */
    uint64_t slow_ms;     /* as the option of that name, for these methods; 0: as the option says */
};

struct fae_config_role {
    char name[FAE_OPT_TEXT];
    char allow[FAE_OPT_LIST_TEXT], deny[FAE_OPT_LIST_TEXT]; /* globs of methods: "shop.* lc.get"; deny wins */
    bool peer;                                              /* another node: its `sticky` is believed */
};

struct fae_config_token {
    char name[FAE_OPT_TEXT];   /* who has it; what logs say */
    char sha256[FAE_OPT_TEXT]; /* 64 hex digits: of the token's bytes */
    char roles[FAE_OPT_LIST_TEXT];
};

/* A client on a unix socket, by the account it runs as. */
struct fae_config_account {
    char name[FAE_OPT_TEXT]; /* "www-data", or digits: a uid */
    char roles[FAE_OPT_LIST_TEXT];
    char uid[FAE_OPT_TEXT]; /* digits; fae_access_resolve fills it in */
};

/* A client with a certificate, by its subject's common name. */
struct fae_config_certificate {
    char name[FAE_OPT_TEXT];
    char roles[FAE_OPT_LIST_TEXT];
};

/* What a servant or plugin may use of what the fence keeps from it. */
struct fae_config_fence {
    char name[FAE_OPT_TEXT];
    char allow[FAE_OPT_LIST_TEXT]; /* of "debug ffi io.popen loadlib os.execute" */
};

/* What every pool has, whatever speaks through it. First in the struct of each kind. */
struct fae_config_pool {
    char name[FAE_OPT_TEXT];
    char servers[FAE_OPT_LIST_TEXT]; /* "10.0.0.1:6379 cache-2.internal:6379*2 unix:/run/redis.sock" */
    uint64_t max;                    /* connections to one server, of the node; each worker may always have one */
    uint64_t waiting_max, wait_ms;   /* of those who wait for a connection in one worker */
    uint64_t connect_timeout_ms, timeout_ms;
    uint64_t idle_ms, life_ms; /* 0: no limit */
    uint64_t warm;             /* connections to each server that a worker keeps ready */
    uint64_t breaker_percent, breaker_calls, breaker_refusals, breaker_open_ms; /* percent 0: no breaker */
};

struct fae_config_redis {
    struct fae_config_pool pool;
    uint64_t select; /* 0 ring, 1 jump */
    uint64_t pipelines;
    char user[FAE_OPT_TEXT], password[FAE_OPT_TEXT];
    uint64_t db;
    char ca[FAE_OPT_TEXT], cert[FAE_OPT_TEXT], key[FAE_OPT_TEXT]; /* tls: PEM files */
};

struct fae_config_memcache {
    struct fae_config_pool pool;
    uint64_t select; /* 0 ketama, 1 modulo */
    uint64_t replica_num;
    uint64_t value_max;
};

struct fae_config_mysql {
    struct fae_config_pool pool; /* servers: the primary alone */
    char replicas[FAE_OPT_LIST_TEXT];
    uint64_t replica_lag_max_ms;
    char user[FAE_OPT_TEXT], password[FAE_OPT_TEXT], db[FAE_OPT_TEXT], charset[FAE_OPT_TEXT];
    uint64_t statements; /* prepared, that a connection keeps */
    uint64_t rows_max, result_max;
    char ca[FAE_OPT_TEXT], cert[FAE_OPT_TEXT], key[FAE_OPT_TEXT]; /* tls: PEM files */
};

/* How entities find the mysql pool they lie in: `fae.mysql("UserShard", 17)`. */
struct fae_config_shard {
    char name[FAE_OPT_TEXT];
    uint64_t strategy; /* enum fae_config_strategy */
    char lookup_pool[FAE_OPT_TEXT], lookup_table[FAE_OPT_TEXT];
    uint64_t lookup_ttl_ms;
    char pools[FAE_OPT_LIST_TEXT];
    char map[FAE_OPT_LIST_TEXT]; /* "0-511=UserShard1 512-1023=UserShard2" */
};
enum fae_config_strategy { FAE_SHARD_STANDARD, FAE_SHARD_HASH, FAE_SHARD_VBUCKET };

struct fae_config {
    uint64_t workers;
    bool pin_cpus;
    char run_dir[FAE_OPT_TEXT];
    char data_dir[FAE_OPT_TEXT];
    char servants_dir[FAE_OPT_TEXT];
    char lua_dir[FAE_OPT_TEXT];
    char user[FAE_OPT_TEXT];
    bool seccomp;
    bool core_dumps;
    char admin[FAE_OPT_TEXT];
    char admin_token[FAE_OPT_TEXT];
    char admin_cert[FAE_OPT_TEXT], admin_key[FAE_OPT_TEXT];
    uint64_t log_format, log_level;
    char log_file[FAE_OPT_TEXT];
    uint64_t slow_ms, slowlog_size, slowlog_args, sample_one_in;
    char secrets[FAE_OPT_LIST_TEXT];
    uint64_t node_id, id_layout; /* 0 fae, 1 snowflake */
    uint64_t cache_size, query_cache_size;
    bool kv, kv_fast;
    char kv_backend[FAE_OPT_TEXT];
    uint64_t locks_max, lock_lease_max_ms;
    uint64_t metrics_series_max;
    uint64_t backlog;
    uint64_t sessions_max, host_sessions_max;
    char host_exempt[FAE_OPT_LIST_TEXT];
    uint64_t calls_max, calls_rate, calls_burst;
    uint64_t host_calls_max, host_rate, host_burst;
    uint64_t overload_delay_ms;
    uint64_t message_max;
    uint64_t in_max;
    uint64_t out_max;
    uint64_t call_timeout_ms;
    uint64_t first_byte_timeout_ms, partial_timeout_ms, partial_rate_min;
    uint64_t idle_timeout_ms, idle_timeout_unix_ms;
    uint64_t out_stall_ms;
    uint64_t drain_ms, drain_spread_ms;
    bool watchdog;
    uint64_t watchdog_warn_ms, watchdog_kill_ms;
    uint64_t lua_memory_max;
    uint64_t mysql_results_max;
    unsigned n_listen, n_limit, n_role, n_token, n_account, n_certificate, n_fence, n_redis, n_memcache, n_mysql,
        n_shard;
    struct fae_config_listen listen[FAE_LISTENERS_MAX];
    struct fae_config_limit limit[FAE_GATES_MAX];
    struct fae_config_role role[FAE_ROLES_MAX];
    struct fae_config_token token[FAE_TOKENS_MAX];
    struct fae_config_account account[FAE_ACCOUNTS_MAX];
    struct fae_config_certificate certificate[FAE_ACCOUNTS_MAX];
    struct fae_config_fence fence[FAE_FENCES_MAX];
    struct fae_config_redis redis[FAE_POOLS_MAX];
    struct fae_config_memcache memcache[FAE_POOLS_MAX];
    struct fae_config_mysql mysql[FAE_POOLS_MAX];
    struct fae_config_shard shard[FAE_POOLS_MAX];
    /* `servant "name" { ... }` and `plugin "name" { ... }` of the file: one JSON object {name: {...}} each, or NULL.
     * Owned. Plugins run in the order of the file, which is the object's. */
    char *servants_json, *plugins_json;
};

/* A call with an entry of an array of its own: `limit "shop.*" { rate = 100 }`. Its first option is what stands before
 * the table (in listen's case also inside it), and two entries may not have the same. */
struct fae_config_section {
    const char *name;
    const struct fae_opt *opts;
    const unsigned *n_opts;
    size_t size;             /* of an entry */
    size_t offset, n_offset; /* of the array and of its count in struct fae_config */
    unsigned max;
    bool alone; /* the key may also stand without a table, or inside it */
    const char *help, *example;
};

extern const struct fae_opt fae_config_opts[];
extern const unsigned fae_config_n_opts;
extern const struct fae_opt fae_config_listen_opts[];
extern const unsigned fae_config_n_listen_opts;
extern const struct fae_config_section fae_config_sections[];
extern const unsigned fae_config_n_sections;

void fae_config_init(struct fae_config *config); /* defaults, no entries of sections */
void fae_config_fini(struct fae_config *config);
void fae_config_copy(struct fae_config *into, const struct fae_config *from); /* into is not initialised */
void fae_config_swap(struct fae_config *a, struct fae_config *b);

bool fae_config_is_tls(const struct fae_config_listen *listen);
/* The section of that name, or NULL. */
const struct fae_config_section *fae_config_section(const char *name);
/* An entry of a section's array, and how many there are; as writable as the config is. */
void *fae_config_entry(const struct fae_config_section *section, const struct fae_config *config, unsigned i);
unsigned *fae_config_count(const struct fae_config_section *section, const struct fae_config *config);

#endif
