/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A call's way: which server, may it (breaker), a connection (pool), the statement, and what its end means for the
 * connection, the breaker and the caller.
 */
#include "backend/mysql.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backend/mysql_server.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/config_check.h"
#include "base/hist.h"
#include "base/log.h"
#include "net/tls.h"

#define FULL_RETRY_MS 1000
#define FRESH_TRIES 32 /* connections that turn out to be dead before one is waited for */

struct fae_mysql_lease {
    struct fae_mysql_server *server;
    struct fae_mysql_conn *conn;
    struct fae_mysql_call *call; /* that runs on it */
    bool over;
};

const char *fae_mysql_label(const struct fae_mysql_server *s)
{
    return s->label;
}

const char *fae_mysql_name(const struct fae_mysql *mysql)
{
    return mysql->config.pool.name;
}

/* ---- the breaker ---- */

static bool enter(struct fae_mysql_server *s, struct fae_permit *permit_out, uint32_t *retry_after_ms_out)
{
    *permit_out = (struct fae_permit){ 0 };
    return !s->upstream || fae_upstream_enter(s->upstream, &s->mysql->rule.breaker, s->mysql->env->o.slot,
                                              s->site.loop->now_ms, permit_out, retry_after_ms_out);
}

static void leave(struct fae_mysql_server *s, struct fae_permit permit, enum fae_breaker_outcome outcome)
{
    if (s->upstream)
        fae_upstream_end(s->upstream, &s->mysql->rule.breaker, s->mysql->env->o.slot, permit, outcome,
                         s->site.loop->now_ms);
}

/* What a pool that gave no connection says. */
static const char *why_none(const struct fae_mysql_server *s, enum fae_err err, bool waited)
{
    const char *why = fae_pool_why(s->pool);

    if (err == FAE_POOL_BUSY)
        return waited ? s->mysql->why_late : s->mysql->why_crowded;
    return err == FAE_UNAVAILABLE && why && *why ? why : fae_err_text(err);
}

/* ---- a statement on a connection ---- */

static void finish(struct fae_mysql_call *call, enum fae_err err)
{
    call->server = call->to;
    call->done(call, err);
}

static void say(struct fae_mysql_call *call, const char *text)
{
    snprintf(call->run.fault.text, sizeof call->run.fault.text, "%s", text);
}

/* The connection goes where it came from. */
static void let_go(struct fae_mysql_call *call, bool sound)
{
    struct fae_mysql_conn *conn = call->conn;

    call->conn = NULL;
    fae_timer_stop(&call->limit);
    FAE_STAT_ADD(call->to->cell->n.call_ns, fae_now_ns() - call->since_ns);
    if (call->lease) {
        call->lease->call = NULL;
        call->lease->over = call->lease->over || !sound;
        if (!sound)
            fae_mysql_conn_break(conn);
    } else {
        fae_pool_give(fae_mysql_conn_base(conn), sound && !fae_mysql_conn_is_bloated(conn));
    }
}

/* Whatever it does on the server is ended there, and its connection is dropped. */
static void cut(struct fae_mysql_call *call)
{
    fae_mysql_kill_add(&call->to->kill, call->conn);
    let_go(call, false);
}

static enum fae_err try_it(struct fae_mysql_call *call);

static bool may_try_again(const struct fae_mysql_call *call)
{
    const struct fae_mysql_run *run = &call->run;

    return !call->lease && call->n_tries < 2 && (!run->executed || (call->class.reads && !run->answered)) &&
           !(call->deadline_ms && call->to->site.loop->now_ms >= call->deadline_ms);
}

/* A read that found no use in its replica is done where everything else is. */
static bool turn_to_primary(struct fae_mysql_call *call)
{
    struct fae_mysql_server *primary = call->to->mysql->servers;

    if (!call->on_replica || call->to == primary)
        return false;
    call->to = primary;
    FAE_STAT_ADD(primary->cell->n.calls, 1);
    return true;
}

/* Of a call whose end nobody saw. */
static bool may_be_done(const struct fae_mysql_call *call)
{
    return call->run.executed && !call->class.reads;
}

static void on_lost(struct fae_mysql_call *call)
{
    bool unsure = may_be_done(call);
    enum fae_err err;

    FAE_STAT_ADD(call->to->cell->n.lost, 1);
    let_go(call, false);
    leave(call->to, call->permit, FAE_BREAKER_FAILED);
    if (!may_try_again(call)) {
        finish(call, unsure ? FAE_UNKNOWN : FAE_UNAVAILABLE);
        return;
    }
    FAE_STAT_ADD(call->to->cell->n.retries, 1);
    turn_to_primary(call);
    err = try_it(call);
    if (err)
        finish(call, err);
}

static void on_error(struct fae_mysql_call *call)
{
    unsigned number = call->run.fault.number;
    /* LOAD DATA LOCAL, hidden from us: ER_NOT_ALLOWED_COMMAND and what came after it. */
    bool is_load = number == 1148 || number == 4166 || number == 3948;

    FAE_STAT_ADD(call->to->cell->n.errors, 1);
    let_go(call, true);
    leave(call->to, call->permit, FAE_BREAKER_OK);
    finish(call, is_load ? FAE_BAD_ARGS : FAE_BACKEND);
}

/* Of what was not read to its end. */
static enum fae_err means(enum fae_mysql_end end)
{
    return end == FAE_MYSQL_END_FULL ? FAE_NO_MEMORY : end == FAE_MYSQL_END_LIMIT ? FAE_LIMIT : FAE_BAD_ARGS;
}

static void on_end(struct fae_mysql_run *run, enum fae_mysql_end end)
{
    struct fae_mysql_call *call = FAE_CONTAINER(run, struct fae_mysql_call, run);

    switch (end) {
    case FAE_MYSQL_END_OK:
        let_go(call, true);
        leave(call->to, call->permit, FAE_BREAKER_OK);
        finish(call, FAE_OK);
        return;
    case FAE_MYSQL_END_MORE:
        call->paused = true;
        fae_timer_stop(&call->limit);
        finish(call, FAE_MORE);
        return;
    case FAE_MYSQL_END_ERROR: on_error(call); return;
    case FAE_MYSQL_END_ARGS:
        let_go(call, true);
        leave(call->to, call->permit, FAE_BREAKER_OK);
        finish(call, FAE_BAD_ARGS);
        return;
    case FAE_MYSQL_END_FULL: call->retry_after_ms = FULL_RETRY_MS; /* fallthrough */
    case FAE_MYSQL_END_LIMIT:
    case FAE_MYSQL_END_RESULTS:
        cut(call);
        leave(call->to, call->permit, FAE_BREAKER_OK);
        finish(call, may_be_done(call) ? FAE_UNKNOWN : means(end));
        return;
    case FAE_MYSQL_END_LOST: on_lost(call); return;
    case FAE_MYSQL_END_GARBAGE:
        FAE_STAT_ADD(call->to->cell->n.lost, 1);
        let_go(call, false);
        leave(call->to, call->permit, FAE_BREAKER_FAILED);
        finish(call, may_be_done(call) ? FAE_UNKNOWN : FAE_BACKEND);
        return;
    }
}

static void on_late(void *arg)
{
    struct fae_mysql_call *call = arg;

    FAE_STAT_ADD(call->to->cell->n.timeouts, 1);
    snprintf(call->run.fault.text, sizeof call->run.fault.text, "no answer within %u ms",
             call->to->mysql->rule.timeout_ms);
    cut(call);
    leave(call->to, call->permit, FAE_BREAKER_FAILED);
    finish(call, may_be_done(call) ? FAE_UNKNOWN : FAE_TIMEOUT);
}

static void start(struct fae_mysql_call *call, struct fae_mysql_conn *conn)
{
    call->conn = conn;
    call->since_ns = fae_now_ns();
    call->paused = false;
    call->run.done = on_end;
    if (!call->lease && !call->class.leaves_nothing)
        fae_mysql_conn_soil(conn);
    fae_timer_init(&call->limit, call->to->site.loop, on_late, call);
    fae_timer_start(&call->limit, call->to->mysql->rule.timeout_ms);
    fae_mysql_conn_run(conn, &call->run);
}

/* ---- a connection ---- */

/* A connection that the server closed a moment ago is found out by the loop in its next turn. What only reads may find it
 * out by itself, being sent again; anything else looks first. */
static bool is_alive(bool reads, struct fae_pool_conn *base)
{
    return reads || fae_mysql_conn_is_fresh(fae_mysql_conn_of(base));
}

static void on_connection(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *base)
{
    struct fae_mysql_call *call = FAE_CONTAINER(ask, struct fae_mysql_call, ask);

    if (!err && !is_alive(call->class.reads, base)) {
        fae_pool_give(base, false);
        leave(call->to, call->permit, FAE_BREAKER_VOID);
        err = try_it(call);
        if (err)
            finish(call, err);
        return;
    }
    if (err) {
        leave(call->to, call->permit, FAE_BREAKER_VOID);
        say(call, why_none(call->to, err, true));
        if (err != FAE_TIMEOUT && err != FAE_CLOSED && turn_to_primary(call))
            err = try_it(call);
        if (err)
            finish(call, err);
        return;
    }
    start(call, fae_mysql_conn_of(base));
}

/* One that is alive, if there is an idle one. */
static enum fae_err borrow_alive(struct fae_mysql_server *s, bool reads, struct fae_pool_ask *ask, uint64_t deadline_ms,
                                 struct fae_pool_conn **base_out)
{
    enum fae_err err = FAE_OK;

    for (int i = 0; i < FRESH_TRIES && !err; i++) {
        err = fae_pool_borrow(s->pool, ask, deadline_ms, base_out);
        if (err || is_alive(reads, *base_out))
            return err;
        fae_pool_give(*base_out, false);
    }
    return FAE_UNAVAILABLE;
}

static enum fae_err try_it(struct fae_mysql_call *call)
{
    struct fae_mysql_server *s = call->to;
    struct fae_pool_conn *base;
    enum fae_err err;

    call->n_tries++;
    call->server = s;
    if (!enter(s, &call->permit, &call->retry_after_ms)) {
        say(call, fae_err_text(FAE_CIRCUIT_OPEN));
        return FAE_CIRCUIT_OPEN;
    }
    call->ask.done = on_connection;
    err = borrow_alive(s, call->class.reads, &call->ask, call->deadline_ms, &base);
    if (err && err != FAE_MORE) {
        leave(s, call->permit, FAE_BREAKER_VOID);
        say(call, why_none(s, err, false));
        return err;
    }
    if (!err)
        start(call, fae_mysql_conn_of(base));
    return FAE_OK;
}

/* ---- calls ---- */

static void reset_call(struct fae_mysql_call *call, struct fae_mysql_server *s)
{
    call->to = s;
    call->server = s;
    call->class = fae_mysql_class_of(&s->mysql->classes, call->run.sql, call->run.len);
    call->conn = NULL;
    call->lease = NULL;
    call->n_tries = 0;
    call->paused = false;
    call->retry_after_ms = 0;
    call->run.fault.number = 0;
    call->run.fault.text[0] = '\0';
    call->run.executed = call->run.answered = false;
}

enum fae_err fae_mysql_query_on(struct fae_mysql_server *s, struct fae_mysql_call *call)
{
    reset_call(call, s);
    if (call->class.refused) {
        say(call, call->class.refused);
        return FAE_BAD_ARGS;
    }
    FAE_STAT_ADD(s->cell->n.calls, 1);
    return try_it(call);
}

static struct fae_mysql_server *pick(struct fae_mysql *m, bool on_replica)
{
    unsigned n = m->n_servers - 1;

    for (unsigned i = 0; on_replica && i < n; i++) {
        struct fae_mysql_server *s = &m->servers[1 + m->next_replica++ % n];

        if (fae_mysql_server_is_near(s))
            return s;
    }
    return &m->servers[0];
}

enum fae_err fae_mysql_query(struct fae_mysql *m, struct fae_mysql_call *call)
{
    enum fae_err err;

    if (call->on_replica) {
        struct fae_mysql_class class = fae_mysql_class_of(&m->classes, call->run.sql, call->run.len);

        call->on_replica = m->n_servers > 1 && class.reads && !class.locks;
    }
    err = fae_mysql_query_on(pick(m, call->on_replica), call);
    return err && err != FAE_TIMEOUT && turn_to_primary(call) ? try_it(call) : err;
}

bool fae_mysql_cancel(struct fae_mysql_call *call)
{
    bool harmless = !may_be_done(call);

    if (!call->conn) {
        fae_pool_cancel(call->to->pool, &call->ask);
        leave(call->to, call->permit, FAE_BREAKER_VOID);
        return true;
    }
    cut(call);
    leave(call->to, call->permit, FAE_BREAKER_VOID);
    return harmless;
}

/* ---- leases ---- */

static struct fae_mysql_lease *new_lease(struct fae_mysql_server *s, struct fae_pool_conn *base)
{
    struct fae_mysql_lease *lease = fae_zalloc(sizeof *lease);

    lease->server = s;
    lease->conn = fae_mysql_conn_of(base);
    return lease;
}

static void on_lease(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *base)
{
    struct fae_mysql_borrow *b = FAE_CONTAINER(ask, struct fae_mysql_borrow, ask);

    leave(b->to, b->permit, err ? FAE_BREAKER_VOID : FAE_BREAKER_OK);
    b->why = err ? why_none(b->to, err, true) : NULL;
    b->done(b, err, err ? NULL : new_lease(b->to, base));
}

enum fae_err fae_mysql_borrow(struct fae_mysql *m, struct fae_mysql_borrow *b, bool on_replica, uint64_t deadline_ms,
                              struct fae_mysql_lease **lease_out)
{
    struct fae_mysql_server *s = pick(m, on_replica);
    struct fae_pool_conn *base;
    enum fae_err err;

    b->to = s;
    b->server = s;
    b->retry_after_ms = 0;
    b->why = fae_err_text(FAE_CIRCUIT_OPEN);
    if (!enter(s, &b->permit, &b->retry_after_ms))
        return FAE_CIRCUIT_OPEN;
    b->ask.done = on_lease;
    err = borrow_alive(s, false, &b->ask, deadline_ms, &base);
    if (err == FAE_MORE)
        return err;
    leave(s, b->permit, err ? FAE_BREAKER_VOID : FAE_BREAKER_OK);
    b->why = err ? why_none(s, err, false) : NULL;
    if (!err)
        *lease_out = new_lease(s, base);
    return err;
}

void fae_mysql_borrow_cancel(struct fae_mysql_borrow *b)
{
    fae_pool_cancel(b->to->pool, &b->ask);
    leave(b->to, b->permit, FAE_BREAKER_VOID);
}

void fae_mysql_give(struct fae_mysql_lease *lease, bool sound)
{
    if (lease->call)
        fae_mysql_cancel(lease->call);
    sound = sound && !lease->over && !fae_mysql_conn_is_bloated(lease->conn);
    fae_pool_give(fae_mysql_conn_base(lease->conn), sound);
    free(lease);
}

bool fae_mysql_lease_is_over(const struct fae_mysql_lease *lease)
{
    return lease->over;
}

bool fae_mysql_lease_is_busy(const struct fae_mysql_lease *lease)
{
    return lease->call != NULL;
}

bool fae_mysql_lease_in_transaction(const struct fae_mysql_lease *lease)
{
    return !lease->over && fae_mysql_conn_in_transaction(lease->conn);
}

/* What a transaction consists of, of which the server's own flags say whether it is over. */
static bool is_bracket(const struct fae_mysql_call *call)
{
    static const char *const words[] = { "BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK" };

    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (call->run.len == strlen(words[i]) && memcmp(call->run.sql, words[i], call->run.len) == 0)
            return true;
    return false;
}

enum fae_err fae_mysql_lease_query(struct fae_mysql_lease *lease, struct fae_mysql_call *call)
{
    FAE_ASSERT(!lease->call);
    reset_call(call, lease->server);
    call->lease = lease;
    call->permit = (struct fae_permit){ 0 };
    if (call->class.refused) {
        say(call, call->class.refused);
        return FAE_BAD_ARGS;
    }
    if (lease->over || !fae_mysql_conn_is_idle(lease->conn) ||
        (!call->class.reads && !fae_mysql_conn_is_fresh(lease->conn))) {
        lease->over = true;
        say(call, "the connection was lost");
        return FAE_UNAVAILABLE;
    }
    FAE_STAT_ADD(lease->server->cell->n.calls, 1);
    if (!call->class.leaves_nothing && !is_bracket(call))
        fae_mysql_conn_soil(lease->conn);
    lease->call = call;
    start(call, lease->conn);
    return FAE_OK;
}

void fae_mysql_more(struct fae_mysql_call *call, unsigned want)
{
    FAE_ASSERT(call->paused);
    call->paused = false;
    fae_timer_start(&call->limit, call->to->mysql->rule.timeout_ms);
    fae_mysql_conn_more(call->conn, want);
}

/* ---- the kind ---- */

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

static void make_tls(struct fae_mysql *m)
{
    const struct fae_config_mysql *config = &m->config;
    struct fae_tls_client_opts opts = { .ca = or_null(config->ca),
                                        .cert = or_null(config->cert),
                                        .key = or_null(config->key) };

    if (!strstr(config->pool.servers, "tls://") && !strstr(config->replicas, "tls://"))
        return;
    if (fae_tls_ctx_new_client(&m->tls, &opts, m->tls_why, sizeof m->tls_why) != FAE_OK)
        FAE_ERROR("mysql %s: %s", config->pool.name, m->tls_why);
}

static void *make(const struct fae_backend_env *env, const void *entry)
{
    struct fae_mysql *m = fae_zalloc(sizeof *m);
    char one[FAE_OPT_LIST_TEXT];
    const char *list;

    m->env = env;
    m->config = *(const struct fae_config_mysql *)entry;
    fae_pool_rule(&m->rule, &m->config.pool);
    snprintf(m->why_late, sizeof m->why_late, "none of max (%u) connections was free within %u ms", m->rule.max,
             m->rule.wait_ms);
    snprintf(m->why_crowded, sizeof m->why_crowded, "waiting_max (%u) calls wait for a connection already",
             m->rule.waiting_max);
    make_tls(m);
    m->servers = fae_zalloc(sizeof *m->servers * FAE_POOL_SERVERS_MAX);
    for (list = m->config.pool.servers; m->n_servers < 1 && fae_config_word(&list, one); m->n_servers++)
        fae_mysql_server_init(&m->servers[m->n_servers], m, one);
    for (list = m->config.replicas; m->n_servers < FAE_POOL_SERVERS_MAX && fae_config_word(&list, one); m->n_servers++)
        fae_mysql_server_init(&m->servers[m->n_servers], m, one);
    return m;
}

static void end(void *pool)
{
    struct fae_mysql *m = pool;

    for (unsigned i = 0; i < m->n_servers; i++)
        fae_mysql_server_fini(&m->servers[i]);
    fae_tls_ctx_free(&m->tls);
    fae_mysql_classes_fini(&m->classes);
    free(m->servers);
    free(m);
}

static void tick(void *pool)
{
    struct fae_mysql *m = pool;

    for (unsigned i = 0; i < m->n_servers; i++)
        fae_mysql_server_tick(&m->servers[i]);
}

static void retire(void *pool)
{
    struct fae_mysql *m = pool;

    m->retired = true;
    for (unsigned i = 0; i < m->n_servers; i++)
        fae_pool_retire(m->servers[i].pool);
}

static bool quiet(const void *pool)
{
    const struct fae_mysql *m = pool;

    for (unsigned i = 0; i < m->n_servers; i++)
        if (!fae_pool_quiet(m->servers[i].pool) || !fae_mysql_kill_quiet(&m->servers[i].kill))
            return false;
    return true;
}

const struct fae_backend_kind fae_mysql_kind = { "mysql", make, end, tick, quiet, retire };
