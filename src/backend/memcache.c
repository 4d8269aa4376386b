/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The kind "memcache": a pool is its servers in the order of the configuration, and a selector over them.
 */
#include "backend/memcache.h"

#include <stdlib.h>

#include "backend/pool.h"
#include "backend/selector_memcache.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/config.h"
#include "base/config_check.h"

struct fae_memcache {
    struct fae_selector_memcache *selector;
    size_t value_max;
    unsigned n_replicas, n_servers;
    struct fae_memcache_server *servers[FAE_POOL_SERVERS_MAX];
};

static unsigned parse_servers(const char *list, struct fae_endpoint servers[FAE_POOL_SERVERS_MAX])
{
    char text[FAE_OPT_LIST_TEXT], why[160];
    unsigned n = 0;

    while (n < FAE_POOL_SERVERS_MAX && fae_config_word(&list, text)) {
        enum fae_err err = fae_endpoint_parse(&servers[n], text, why, sizeof why);

        FAE_ASSERT(err == FAE_OK); /* the configuration was checked */
        n++;
    }
    FAE_ASSERT(n > 0);
    return n;
}

static void *make(const struct fae_backend_env *env, const void *entry)
{
    const struct fae_config_memcache *config = entry;
    const struct fae_config_pool *pool = &config->pool;
    struct fae_endpoint servers[FAE_POOL_SERVERS_MAX];
    struct fae_memcache *m = fae_zalloc(sizeof *m);
    struct fae_pool_rule rule;
    struct fae_memcache_server_opts opts = {
        .loop = env->o.loop,
        .resolver = env->resolver,
        .upstreams = env->o.upstreams,
        .slot = env->o.slot,
        .pool = pool->name,
        .value_max = (size_t)config->value_max,
    };

    fae_pool_rule(&rule, pool);
    opts.breaker = rule.breaker;
    opts.connect_timeout_ms = rule.connect_timeout_ms;
    opts.timeout_ms = rule.timeout_ms;
    opts.idle_ms = rule.idle_ms;
    opts.life_ms = rule.life_ms;
    opts.waiting_max = rule.waiting_max;
    m->n_servers = parse_servers(pool->servers, servers);
    m->n_replicas = config->replica_num < m->n_servers ? (unsigned)config->replica_num : m->n_servers;
    m->value_max = (size_t)config->value_max;
    m->selector = fae_selector_memcache_new((enum fae_select_memcache)config->select, servers, m->n_servers);
    for (unsigned i = 0; i < m->n_servers; i++) {
        opts.endpoint = &servers[i];
        m->servers[i] = fae_memcache_server_new(&opts);
    }
    return m;
}

static void free_pool(void *pool)
{
    struct fae_memcache *m = pool;

    for (unsigned i = 0; i < m->n_servers; i++)
        fae_memcache_server_free(&m->servers[i]);
    fae_selector_memcache_free(&m->selector);
    free(m);
}

static void tick(void *pool)
{
    struct fae_memcache *m = pool;

    for (unsigned i = 0; i < m->n_servers; i++)
        fae_memcache_server_tick(m->servers[i]);
}

static bool quiet(const void *pool)
{
    const struct fae_memcache *m = pool;

    for (unsigned i = 0; i < m->n_servers; i++)
        if (!fae_memcache_server_quiet(m->servers[i]))
            return false;
    return true;
}

unsigned fae_memcache_n_servers(const struct fae_memcache *m)
{
    return m->n_servers;
}

unsigned fae_memcache_n_replicas(const struct fae_memcache *m)
{
    return m->n_replicas;
}

size_t fae_memcache_value_max(const struct fae_memcache *m)
{
    return m->value_max;
}

unsigned fae_memcache_pick(const struct fae_memcache *m, const char *key, size_t len, unsigned replica)
{
    unsigned servers[FAE_POOL_SERVERS_MAX];

    FAE_ASSERT(replica < m->n_replicas);
    if (replica == 0)
        return fae_selector_memcache_pick(m->selector, key, len);
    fae_selector_memcache_picks(m->selector, key, len, replica + 1, servers);
    return servers[replica];
}

struct fae_memcache_server *fae_memcache_server(const struct fae_memcache *m, unsigned i)
{
    FAE_ASSERT(i < m->n_servers);
    return m->servers[i];
}

const struct fae_backend_kind fae_memcache_kind = { "memcache", make, free_pool, tick, quiet, NULL };
