/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a pool of connections asks for, and how far a replica is behind.
 */
#include "backend/mysql_server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hist.h"
#include "base/log.h"
#include "wire/msgpack.h"

#define LAG_EVERY_MS 1000u
#define TOLD_MS 60000     /* between two lines of the log about it */
#define LAG_KEEP_MS 3000u /* how long an answer is believed */

/* ---- what the pool asks for ---- */

static void on_told(struct fae_mysql_conn *conn, void *arg, enum fae_mysql_event event, enum fae_err err,
                    const char *why)
{
    struct fae_pool_conn *base = fae_mysql_conn_base(conn);

    (void)arg;
    switch (event) {
    case FAE_MYSQL_CONNECTED: fae_pool_connected(base, err, why); break;
    case FAE_MYSQL_LOST: fae_pool_lost(base, why); break;
    case FAE_MYSQL_RESET: fae_pool_was_reset(base, err); break;
    case FAE_MYSQL_CHECKED: fae_pool_was_checked(base, err); break;
    }
}

static struct fae_pool_conn *pool_connect(struct fae_pool *pool, void *arg)
{
    struct fae_mysql_server *s = arg;

    (void)pool;
    return fae_mysql_conn_base(fae_mysql_conn_new(&s->site, on_told, s));
}

static void pool_close(struct fae_pool_conn *base)
{
    fae_mysql_conn_free(fae_mysql_conn_of(base));
}

static bool pool_reset(struct fae_pool_conn *base)
{
    struct fae_mysql_conn *conn = fae_mysql_conn_of(base);

    if (!fae_mysql_conn_is_soiled(conn))
        return false;
    fae_mysql_conn_reset(conn);
    return true;
}

static void pool_check(struct fae_pool_conn *base)
{
    fae_mysql_conn_check(fae_mysql_conn_of(base));
}

static const struct fae_pool_ops pool_ops = { pool_connect, pool_close, pool_reset, pool_check };

/* ---- how far a replica is behind ---- */

/* The number in the column of that name, of the first row; UINT64_MAX: there is none. */
static uint64_t number_of(const struct fae_mysql_run *run, const char *name)
{
    const uint8_t *columns = run->columns.data, *row = run->rows.data;
    struct fae_mp_token column, value, head;

    if (run->n_rows == 0)
        return UINT64_MAX;
    columns = fae_mp_read(columns, &head);
    row = fae_mp_read(row, &head);
    for (unsigned i = 0; i < run->n_columns; i++) {
        columns = fae_mp_read(columns, &column);
        fae_mp_read(row, &value);
        if (column.len == strlen(name) && memcmp(column.bytes, name, column.len) == 0)
            return value.type == FAE_MP_UINT ? value.u : UINT64_MAX;
        row = fae_mp_skip(row);
    }
    return UINT64_MAX;
}

/* That it is not read from, and that it is again: a line when it changes, and not more than one a minute. */
static void tell_lag(struct fae_mysql_server *s, const char *refusal)
{
    uint64_t now_ms = s->site.loop->now_ms;
    bool is_near = fae_mysql_server_is_near(s);

    if (is_near == !s->lag_told || (s->lag_told_ms && now_ms < s->lag_told_ms + TOLD_MS))
        return;
    s->lag_told = !is_near;
    s->lag_told_ms = now_ms;
    if (is_near)
        FAE_INFO("%s: is read from again", s->label);
    else if (refusal)
        FAE_WARN("%s: is not read from: %s", s->label, refusal);
    else if (s->lag_until_ms == 0)
        FAE_WARN("%s: is not read from: it does not replicate, or not any more", s->label);
    else
        FAE_WARN("%s: is not read from: it is %llu ms behind, replica_lag_max_ms is %llu", s->label,
                 (unsigned long long)s->lag_ms, (unsigned long long)s->mysql->config.replica_lag_max_ms);
}

static void on_lag(struct fae_mysql_call *call, enum fae_err err)
{
    struct fae_mysql_server *s = FAE_CONTAINER(call, struct fae_mysql_server, lag_call);
    uint64_t seconds;

    s->lag_asked = false;
    if (err == FAE_BACKEND && call->run.fault.number == 1064) /* a server that knows the older word alone */
        s->lag_old_word = !s->lag_old_word;
    else if (err == FAE_BACKEND)
        tell_lag(s, call->run.fault.text);
    if (err)
        return;
    seconds = number_of(&call->run, "Seconds_Behind_Master");
    if (seconds == UINT64_MAX)
        seconds = number_of(&call->run, "Seconds_Behind_Source");
    s->lag_until_ms = seconds == UINT64_MAX ? 0 : s->site.loop->now_ms + LAG_KEEP_MS;
    s->lag_ms = seconds == UINT64_MAX ? 0 : seconds * 1000;
    tell_lag(s, NULL);
}

static void ask_lag(struct fae_mysql_server *s)
{
    const char *sql = s->lag_old_word ? "SHOW SLAVE STATUS" : "SHOW REPLICA STATUS";

    s->lag_next_ms = s->site.loop->now_ms + LAG_EVERY_MS;
    s->lag_call.run.sql = sql;
    s->lag_call.run.len = strlen(sql);
    s->lag_call.done = on_lag;
    s->lag_asked = fae_mysql_query_on(s, &s->lag_call) == FAE_OK;
}

bool fae_mysql_server_is_near(const struct fae_mysql_server *s)
{
    return s->site.loop->now_ms < s->lag_until_ms && s->lag_ms <= s->mysql->config.replica_lag_max_ms;
}

/* ---- life ---- */

void fae_mysql_server_init(struct fae_mysql_server *s, struct fae_mysql *mysql, const char *text)
{
    const struct fae_backends_opts *o = &mysql->env->o;
    struct fae_pool_opts opts = { .loop = o->loop, .slot = o->slot, .rule = mysql->rule, .ops = &pool_ops, .arg = s };
    char name[FAE_OPT_TEXT + sizeof s->site.endpoint.text + 8], why[160];
    enum fae_err err;

    s->mysql = mysql;
    s->site = (struct fae_mysql_site){ .loop = o->loop,
                                       .resolver = mysql->env->resolver,
                                       .config = &mysql->config,
                                       .room = mysql->env->results,
                                       .tls = mysql->tls,
                                       .tls_why = mysql->tls_why };
    err = fae_endpoint_parse(&s->site.endpoint, text, why, sizeof why);
    FAE_ASSERT(!err); /* config_check.c */
    snprintf(s->label, sizeof s->label, "mysql %s %s", mysql->config.pool.name, s->site.endpoint.text);
    snprintf(name, sizeof name, "mysql/%s/%s", mysql->config.pool.name, s->site.endpoint.text);
    s->upstream = o->upstreams ? fae_upstream_get(o->upstreams, name, o->slot) : NULL;
    s->cell = s->upstream ? fae_upstream_cell(s->upstream, o->slot) : &s->own;
    fae_mysql_kill_init(&s->kill, s);
    opts.upstream = s->upstream;
    s->pool = fae_pool_new(&opts);
}

void fae_mysql_server_fini(struct fae_mysql_server *s)
{
    if (s->lag_asked)
        fae_mysql_cancel(&s->lag_call);
    fae_mysql_run_fini(&s->lag_call.run);
    fae_mysql_kill_fini(&s->kill);
    fae_pool_free(&s->pool);
    if (s->upstream)
        fae_upstream_put(s->upstream, s->mysql->env->o.slot);
}

void fae_mysql_server_tick(struct fae_mysql_server *s)
{
    bool is_replica = s != s->mysql->servers;

    fae_pool_tick(s->pool);
    if (is_replica && !s->mysql->retired && !s->lag_asked && s->site.loop->now_ms >= s->lag_next_ms)
        ask_lag(s);
}
