/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the pools of servers that we call, the shards over them and kv_backend ask of each other: one function for a kind
 * of section, and what all of them have together.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/config_check_impl.h"
#include "base/config_rows.h"
#include "base/endpoint.h"

/* How many words a list has. */
static unsigned count(const char *list)
{
    char one[FAE_OPT_LIST_TEXT];
    unsigned n = 0;

    while (fae_config_word(&list, one))
        n++;
    return n;
}

static bool twice(const char *list, char again[FAE_OPT_LIST_TEXT])
{
    char other[FAE_OPT_LIST_TEXT];

    while (fae_config_word(&list, again))
        for (const char *rest = list; fae_config_word(&rest, other);)
            if (strcmp(again, other) == 0)
                return true;
    return false;
}

/* The same of servers, which may be written in several ways: the first of them that stands there again. */
static bool server_twice(const char *list, char again[FAE_OPT_LIST_TEXT])
{
    char other[FAE_OPT_LIST_TEXT], why[160];
    struct fae_endpoint a, b;

    while (fae_config_word(&list, again))
        for (const char *rest = list; fae_config_word(&rest, other);)
            if (!fae_endpoint_parse(&a, again, why, sizeof why) && !fae_endpoint_parse(&b, other, why, sizeof why) &&
                strcmp(a.text, b.text) == 0)
                return true;
    return false;
}

static void check_pool(const struct fae_config_teller *t, const char *section, unsigned index,
                       const struct fae_config_pool *pool)
{
    const struct fae_config_clash clash = { section, index, "servers", NULL };
    const struct fae_config_clash warm = { section, index, "warm", "max" };
    char again[FAE_OPT_LIST_TEXT];
    unsigned n = count(pool->servers);

    if (n == 0)
        fae_config_tell(t, &clash, "servers: pool %s has none", pool->name);
    if (n > FAE_POOL_SERVERS_MAX)
        fae_config_tell(t, &clash, "servers: pool %s may have %u of them, not %u", pool->name, FAE_POOL_SERVERS_MAX, n);
    if (server_twice(pool->servers, again))
        fae_config_tell(t, &clash, "servers: pool %s has %.160s twice", pool->name, again);
    if (pool->max && pool->warm > pool->max)
        fae_config_tell(t, &warm, "warm must be at most max (%" PRIu64 "), not %" PRIu64, pool->max, pool->warm);
}

static unsigned weight_of(const char *list)
{
    char one[FAE_OPT_LIST_TEXT], why[160];
    struct fae_endpoint e;
    unsigned sum = 0;

    while (fae_config_word(&list, one))
        if (!fae_endpoint_parse(&e, one, why, sizeof why))
            sum += e.weight;
    return sum;
}

static void check_redis(const struct fae_config_teller *t, unsigned index)
{
    static const char *names[2] = { "cert", "key" };
    const struct fae_config_redis *redis = &t->config->redis[index];
    const struct fae_config_clash clash = { "redis", index, "user", "password" };
    const struct fae_config_clash weighs = { "redis", index, "servers", NULL };

    check_pool(t, "redis", index, &redis->pool);
    fae_config_check_pair(t, "redis", index, redis->cert, redis->key, names);
    if (weight_of(redis->pool.servers) > FAE_POOL_WEIGHT_MAX)
        fae_config_tell(t, &weighs, "servers: weights of pool %s may add up to %u, not %u", redis->pool.name,
                        FAE_POOL_WEIGHT_MAX, weight_of(redis->pool.servers));
    if (*redis->user && !*redis->password)
        fae_config_tell(t, &clash, "user needs password");
}

static void check_memcache(const struct fae_config_teller *t, unsigned index)
{
    const struct fae_config_memcache *memcache = &t->config->memcache[index];
    const struct fae_config_clash clash = { "memcache", index, "replica_num", "servers" };
    const struct fae_config_clash weighs = { "memcache", index, "servers", "select" };
    unsigned n = count(memcache->pool.servers);

    check_pool(t, "memcache", index, &memcache->pool);
    if (memcache->select == 1 && strchr(memcache->pool.servers, '*'))
        fae_config_tell(t, &weighs, "servers: modulo knows no weights");
    if (memcache->replica_num > n && n > 0)
        fae_config_tell(t, &clash, "replica_num must be at most the number of servers (%u), not %" PRIu64, n,
                        memcache->replica_num);
}

static void check_mysql(const struct fae_config_teller *t, unsigned index)
{
    static const char *names[2] = { "cert", "key" };
    const struct fae_config_mysql *mysql = &t->config->mysql[index];
    const struct fae_config_clash clash = { "mysql", index, "servers", NULL };
    const struct fae_config_clash user = { "mysql", index, "user", NULL };
    const struct fae_config_clash replicas = { "mysql", index, "replicas", NULL };
    char again[FAE_OPT_LIST_TEXT];

    check_pool(t, "mysql", index, &mysql->pool);
    fae_config_check_pair(t, "mysql", index, mysql->cert, mysql->key, names);
    if (count(mysql->pool.servers) > 1)
        fae_config_tell(
            t, &clash,
            "servers: pool %s must have one, which is written to; others are replicas, or pools of their own",
            mysql->pool.name);
    if (count(mysql->replicas) >= FAE_POOL_SERVERS_MAX)
        fae_config_tell(t, &replicas, "replicas: pool %s may have %u of them, not %u", mysql->pool.name,
                        FAE_POOL_SERVERS_MAX - 1, count(mysql->replicas));
    if (!*mysql->user)
        fae_config_tell(t, &user, "user: pool %s has none", mysql->pool.name);
    if (server_twice(mysql->replicas, again))
        fae_config_tell(t, &replicas, "replicas: pool %s has %.160s twice", mysql->pool.name, again);
}

/* Every bucket is in one pool. */
static void check_map(const struct fae_config_teller *t, unsigned index, const struct fae_config_shard *shard)
{
    const struct fae_config_clash clash = { "shard", index, "map", NULL };
    bool has[FAE_SHARD_BUCKETS] = { false };
    char one[FAE_OPT_LIST_TEXT];
    const char *list = shard->map, *pool;
    unsigned from, to;

    while (fae_config_word(&list, one)) {
        if (!fae_config_buckets(one, &from, &to, &pool))
            return; /* which has been told */
        for (unsigned i = from; i <= to; i++) {
            if (has[i]) {
                fae_config_tell(t, &clash, "map: shard %s has bucket %u twice", shard->name, i);
                return;
            }
            has[i] = true;
        }
    }
    for (unsigned i = 0; *shard->map && i < FAE_SHARD_BUCKETS; i++) {
        if (!has[i]) {
            fae_config_tell(t, &clash, "map: shard %s has no pool for bucket %u", shard->name, i);
            return;
        }
    }
}

/* The option to blame names a pool of a kind: is there one? */
static void check_is_pool(const struct fae_config_teller *t, const struct fae_config_clash *clash, const char *kind,
                          const char *name)
{
    const struct fae_config_section *section = fae_config_section(kind);
    struct fae_suggest near = { .word = name };
    char what[32];

    for (unsigned i = 0; i < *fae_config_count(section, t->config); i++) {
        const struct fae_config_pool *pool = fae_config_entry(section, t->config, i);

        if (strcmp(pool->name, name) == 0)
            return;
        fae_suggest_offer(&near, pool->name);
    }
    snprintf(what, sizeof what, "%s pool", kind);
    fae_config_tell_unknown(t, clash, what, &near);
}

static void check_mysql_pool(const struct fae_config_teller *t, unsigned index, const char *option, const char *name)
{
    const struct fae_config_clash clash = { "shard", index, option, NULL };

    check_is_pool(t, &clash, "mysql", name);
}

/* The pools that a shard names are there, and none is called like it. */
static void check_shard_pools(const struct fae_config_teller *t, unsigned index)
{
    const struct fae_config_shard *shard = &t->config->shard[index];
    const struct fae_config_clash clash = { "shard", index, "name", NULL };
    const char *pools = shard->pools, *map = shard->map, *pool;
    char one[FAE_OPT_LIST_TEXT];
    unsigned from, to;

    for (unsigned i = 0; i < t->config->n_mysql; i++)
        if (strcmp(t->config->mysql[i].pool.name, shard->name) == 0)
            fae_config_tell(t, &clash, "name: there is a mysql pool %s too, which nobody could reach", shard->name);
    if (*shard->lookup_pool)
        check_mysql_pool(t, index, "lookup_pool", shard->lookup_pool);
    while (fae_config_word(&pools, one))
        check_mysql_pool(t, index, "pools", one);
    while (fae_config_word(&map, one))
        if (fae_config_buckets(one, &from, &to, &pool))
            check_mysql_pool(t, index, "map", pool);
}

static bool is_shard(const struct fae_config *config, const char *name)
{
    for (unsigned i = 0; i < config->n_shard; i++)
        if (strcmp(config->shard[i].name, name) == 0)
            return true;
    return false;
}

/* What each strategy needs, and what is not for it. */
static void check_shard(const struct fae_config_teller *t, unsigned index)
{
    static const char *const strategies[] = { "standard", "hash", "vbucket" };
    const struct fae_config_shard *shard = &t->config->shard[index];
    const char *strategy = strategies[shard->strategy];
    const struct {
        const char *name, *text;
        unsigned for_strategies; /* bits */
    } rows[] = { { "lookup_pool", shard->lookup_pool, 1u << FAE_SHARD_STANDARD },
                 { "lookup_table", shard->lookup_table, 1u << FAE_SHARD_STANDARD },
                 { "pools", shard->pools, 1u << FAE_SHARD_HASH | 1u << FAE_SHARD_VBUCKET },
                 { "map", shard->map, 1u << FAE_SHARD_VBUCKET } };
    char again[FAE_OPT_LIST_TEXT];

    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct fae_config_clash clash = { "shard", index, rows[i].name, "strategy" };
        bool is_for = rows[i].for_strategies >> shard->strategy & 1;

        if (*rows[i].text && !is_for)
            fae_config_tell(t, &clash, "%s is not for the strategy %s", rows[i].name, strategy);
        if (!*rows[i].text && is_for && shard->strategy != FAE_SHARD_VBUCKET)
            fae_config_tell(t, &clash, "%s: shard %s needs it", rows[i].name, shard->name);
    }
    if (shard->strategy == FAE_SHARD_VBUCKET && !*shard->pools && !*shard->map) {
        const struct fae_config_clash clash = { "shard", index, "pools", "map" };

        fae_config_tell(t, &clash, "pools: shard %s needs pools or a map", shard->name);
    }
    if (twice(shard->pools, again)) {
        const struct fae_config_clash clash = { "shard", index, "pools", NULL };

        fae_config_tell(t, &clash, "pools: shard %s has %.63s twice", shard->name, again);
    }
    if (*shard->lookup_pool && is_shard(t->config, shard->lookup_pool)) {
        const struct fae_config_clash clash = { "shard", index, "lookup_pool", NULL };

        fae_config_tell(t, &clash, "lookup_pool: %s is spread itself", shard->lookup_pool);
    }
    check_map(t, index, shard);
    check_shard_pools(t, index);
}

static void check_kv_backend(const struct fae_config_teller *t)
{
    const struct fae_config_clash clash = { "", 0, "kv_backend", NULL };
    const char *kind = strncmp(t->config->kv_backend, "mysql:", 6) == 0 ? "mysql" : "redis";

    if (strcmp(t->config->kv_backend, "local") != 0)
        check_is_pool(t, &clash, kind, t->config->kv_backend + 6);
}

/* Each server of each pool has a row in shared memory (backend/upstream.h). Told of the first pool that has too many. */
static void add_servers(const struct fae_config_teller *t, const char *section, unsigned index, unsigned n,
                        unsigned *total)
{
    const struct fae_config_clash clash = { section, index, "servers", NULL };

    if (*total <= FAE_UPSTREAMS_MAX && *total + n > FAE_UPSTREAMS_MAX)
        fae_config_tell(t, &clash, "servers: all pools together may have %u of them", FAE_UPSTREAMS_MAX);
    *total += n;
}

static void check_total(const struct fae_config_teller *t)
{
    const struct fae_config *c = t->config;
    unsigned total = 0;

    for (unsigned i = 0; i < c->n_redis; i++)
        add_servers(t, "redis", i, count(c->redis[i].pool.servers), &total);
    for (unsigned i = 0; i < c->n_memcache; i++)
        add_servers(t, "memcache", i, count(c->memcache[i].pool.servers), &total);
    for (unsigned i = 0; i < c->n_mysql; i++)
        add_servers(t, "mysql", i, count(c->mysql[i].pool.servers) + count(c->mysql[i].replicas), &total);
}

void fae_config_check_pools(const struct fae_config_teller *t)
{
    const struct fae_config *c = t->config;

    for (unsigned i = 0; i < c->n_redis; i++)
        check_redis(t, i);
    for (unsigned i = 0; i < c->n_memcache; i++)
        check_memcache(t, i);
    for (unsigned i = 0; i < c->n_mysql; i++)
        check_mysql(t, i);
    for (unsigned i = 0; i < c->n_shard; i++)
        check_shard(t, i);
    check_total(t);
    check_kv_backend(t);
}
