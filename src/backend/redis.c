/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A pool of redis servers: what its configuration says, and which server has a key. Connections are made by the first call
 * that needs one, so that a server which is down, or a name nobody knows, is the trouble of those who ask it alone.
 */
#include "backend/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/redis_impl.h"
#include "backend/selector.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

/* ---- calls that failed ---- */

void fae_redis_fail(struct fae_list *calls, struct fae_redis_call *call, enum fae_err err)
{
    call->conn = NULL;
    call->err = err;
    fae_list_add_tail(calls, &call->node);
}

void fae_redis_tell(struct fae_list *calls, const char *why, uint32_t retry_after_ms)
{
    while (!fae_list_empty(calls)) {
        struct fae_redis_call *call = FAE_CONTAINER(calls->next, struct fae_redis_call, node);
        struct fae_redis_outcome outcome = { .err = call->err, .why = why, .retry_after_ms = retry_after_ms };

        fae_list_del(&call->node);
        call->done(call, &outcome);
    }
}

bool fae_redis_cancel(struct fae_redis_call *call)
{
    enum fae_err err;

    if (call->conn)
        return fae_redis_conn_forget(call->conn, call);
    err = call->err; /* it failed, and was about to be told */
    fae_list_del(&call->node);
    return err == FAE_UNAVAILABLE || err == FAE_CLOSED;
}

/* ---- servers ---- */

unsigned fae_redis_n_servers(const struct fae_redis *redis)
{
    return redis->n_servers;
}

const char *fae_redis_server(const struct fae_redis *redis, unsigned server)
{
    return redis->servers[server].endpoint.text;
}

const char *fae_redis_label(const struct fae_redis *redis, unsigned server)
{
    return redis->servers[server].label;
}

unsigned fae_redis_pick(const struct fae_redis *redis, const void *key, size_t len)
{
    return redis->n_servers == 1 ? 0 : fae_selector_pick(redis->selector, key, len);
}

enum fae_err fae_redis_call(struct fae_redis *redis, unsigned server, struct fae_redis_call *call,
                            const struct fae_redis_command *commands, unsigned n, struct fae_redis_outcome *outcome_out)
{
    FAE_ASSERT(server < redis->n_servers);
    return fae_redis_lines_call(&redis->servers[server], call, commands, n, outcome_out);
}

static void make_server(struct fae_redis *redis, struct fae_redis_server *server, const char *text)
{
    const struct fae_backends_opts *env = &redis->env->o;
    const struct fae_config_redis *config = &redis->config;
    char name[sizeof config->pool.name + sizeof server->endpoint.text + 8], why[128];
    struct fae_pool_opts pool = {
        .loop = env->loop, .slot = env->slot, .rule = redis->rule, .ops = &fae_redis_loan_ops
    };

    server->redis = redis;
    if (fae_endpoint_parse(&server->endpoint, text, why, sizeof why) != FAE_OK)
        FAE_WARN("redis %s: server \"%s\" %s", config->pool.name, text, why); /* the configuration was checked */
    snprintf(server->label, sizeof server->label, "redis %s %s", config->pool.name, server->endpoint.text);
    snprintf(name, sizeof name, "redis/%s/%s", config->pool.name, server->endpoint.text);
    server->conn = (struct fae_redis_conn_opts){ .loop = env->loop,
                                                 .resolver = redis->env->resolver,
                                                 .endpoint = &server->endpoint,
                                                 .tls = redis->tls,
                                                 .user = config->user,
                                                 .password = config->password,
                                                 .db = config->db,
                                                 .message_max = fae_redis_message_max(redis),
                                                 .connect_timeout_ms = redis->rule.connect_timeout_ms,
                                                 .timeout_ms = redis->rule.timeout_ms,
                                                 .rule = redis->rule.breaker,
                                                 .slot = env->slot };
    server->conn.upstream = env->upstreams ? fae_upstream_get(env->upstreams, name, env->slot) : NULL;
    if (!server->conn.upstream)
        FAE_ERROR("%s: is not watched over, there are %u servers of all pools", server->label, FAE_UPSTREAMS_MAX);
    server->conn.cell = server->conn.upstream ? fae_upstream_cell(server->conn.upstream, env->slot) : &server->own_cell;
    pool.upstream = server->conn.upstream;
    pool.arg = server;
    server->pool = fae_pool_new(&pool);
    fae_redis_lines_init(server, (unsigned)config->pipelines);
}

static void free_server(struct fae_redis_server *server)
{
    fae_redis_lines_fini(server);
    fae_pool_free(&server->pool);
    if (server->conn.upstream)
        fae_upstream_put(server->conn.upstream, server->conn.slot);
}

/* ---- the pool ---- */

static unsigned split(char *text, const char *words[FAE_POOL_SERVERS_MAX])
{
    unsigned n = 0;
    char *rest;

    for (char *word = strtok_r(text, " ", &rest); word && n < FAE_POOL_SERVERS_MAX; word = strtok_r(NULL, " ", &rest))
        words[n++] = word;
    return n;
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static void make_tls(struct fae_redis *redis)
{
    const struct fae_config_redis *config = &redis->config;
    struct fae_tls_client_opts opts = { .ca = or_null(config->ca),
                                        .cert = or_null(config->cert),
                                        .key = or_null(config->key) };

    if (strstr(config->pool.servers, "tls://") == NULL)
        return;
    if (fae_tls_ctx_new_client(&redis->tls, &opts, redis->tls_why, sizeof redis->tls_why) != FAE_OK)
        FAE_ERROR("redis %s: %s", config->pool.name, redis->tls_why);
}

/* One worker says it for all. */
static void warn_of_few(const struct fae_redis *redis)
{
    const struct fae_upstream *up = redis->n_servers ? redis->servers[0].conn.upstream : NULL;
    unsigned n = up ? fae_upstream_workers(up) : 1;

    if (redis->env->o.slot == 0 && redis->rule.max <= n)
        FAE_WARN(
            "redis %s: max is %u, and each of %u workers has a connection for calls: none is left for transactions, "
            "subscriptions and what blocks",
            redis->config.pool.name, redis->rule.max, n);
}

static void *make(const struct fae_backend_env *env, const void *entry)
{
    const struct fae_config_redis *config = entry;
    char text[sizeof config->pool.servers];
    const char *words[FAE_POOL_SERVERS_MAX];
    struct fae_redis *redis;
    unsigned n;

    memcpy(text, config->pool.servers, sizeof text);
    n = split(text, words);
    redis = fae_zalloc(sizeof *redis + n * sizeof *redis->servers);
    redis->env = env;
    redis->config = *config;
    redis->n_servers = n;
    fae_pool_rule(&redis->rule, &config->pool);
    make_tls(redis);
    if (n)
        redis->selector = fae_selector_new((enum fae_select)config->select, words, n);
    for (unsigned i = 0; i < n; i++)
        make_server(redis, &redis->servers[i], words[i]);
    warn_of_few(redis);
    return redis;
}

static void free_pool(void *pool)
{
    struct fae_redis *redis = pool;

    for (unsigned i = 0; i < redis->n_servers; i++)
        free_server(&redis->servers[i]);
    fae_selector_free(&redis->selector);
    fae_tls_ctx_free(&redis->tls);
    free(redis);
}

void fae_redis_skip(struct fae_redis *redis, uint64_t ms)
{
    redis->skipped_ms += ms;
}

static void tick(void *pool)
{
    struct fae_redis *redis = pool;
    uint64_t now_ms = fae_now_ms() + redis->skipped_ms;

    for (unsigned i = 0; i < redis->n_servers; i++) {
        redis->servers[i].conn.message_max = fae_redis_message_max(redis); /* for replies */
        fae_redis_lines_tick(&redis->servers[i], now_ms);
        if (redis->retired)
            fae_redis_lines_retire(&redis->servers[i]);
        fae_pool_tick(redis->servers[i].pool);
    }
}

static void retire(void *pool)
{
    struct fae_redis *redis = pool;

    redis->retired = true;
    for (unsigned i = 0; i < redis->n_servers; i++) {
        fae_redis_lines_retire(&redis->servers[i]);
        fae_pool_retire(redis->servers[i].pool);
    }
}

static bool quiet(const void *pool)
{
    const struct fae_redis *redis = pool;

    for (unsigned i = 0; i < redis->n_servers; i++)
        if (!fae_redis_lines_quiet(&redis->servers[i]) || !fae_pool_quiet(redis->servers[i].pool))
            return false;
    return redis->n_loans == 0;
}

const struct fae_backend_kind fae_redis_kind = { "redis", make, free_pool, tick, quiet, retire };
