/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connections: their states, each with a list, a count and its gauges; attempts and what follows when they fail.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "backend/pool_impl.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

#define PAUSE_MS 500      /* after a failed attempt, and a quarter longer, more or less: two a second at most ... */
#define PAUSE_MAX_MS 1000 /* ... and who comes back is found within 2 s */
#define CHECK_MS 5000     /* of lying idle, before a sign of life is asked for, and again */
#define TOLD_MS 60000     /* between two lines of the log while it stays away */

/* ---- states ---- */

static void count(struct fae_pool *pool, enum fae_pool_state state, uint64_t by)
{
    struct fae_upstream_cell *cell = pool->cell;

    switch (state) {
    case FAE_POOL_CONNECTING: FAE_STAT_ADD(cell->now.connecting, by); break;
    case FAE_POOL_IDLE:
    case FAE_POOL_CHECKING: FAE_STAT_ADD(cell->now.idle, by); break;
    case FAE_POOL_USED: FAE_STAT_ADD(cell->now.pinned, by); /* fallthrough */
    case FAE_POOL_RESETTING: FAE_STAT_ADD(cell->now.used, by); break;
    case FAE_POOL_STATES: break;
    }
    pool->n[state] += (unsigned)by;
}

static void leave(struct fae_pool_conn *conn)
{
    fae_timer_stop(&conn->limit);
    fae_list_del(&conn->node);
    count(conn->pool, conn->state, -(uint64_t)1);
}

static void enter(struct fae_pool_conn *conn, enum fae_pool_state state)
{
    conn->state = state;
    fae_list_add_tail(&conn->pool->conns[state], &conn->node);
    count(conn->pool, state, 1);
}

static void move(struct fae_pool_conn *conn, enum fae_pool_state state)
{
    leave(conn);
    enter(conn, state);
}

unsigned fae_pool_n_conns(const struct fae_pool *pool)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FAE_POOL_STATES; i++)
        n += pool->n[i];
    return n;
}

/* ---- slots ---- */

/* A pool without any always may: after a reload the one before it may hold all that there are, for as long as it is used. */
static bool take_slot(struct fae_pool *pool)
{
    bool has_some = pool->n_shared > 0 || fae_pool_n_conns(pool) > 0;

    if (pool->o.upstream)
        return fae_upstream_slot_take(pool->o.upstream, pool->o.slot, has_some ? pool->o.rule.max : UINT32_MAX);
    if (atomic_load(&pool->own.n_slots) >= pool->o.rule.max)
        return false;
    atomic_fetch_add(&pool->own.n_slots, 1);
    return true;
}

unsigned fae_pool_share(const struct fae_pool *pool)
{
    unsigned max = pool->o.rule.max, n = pool->o.upstream ? fae_upstream_workers(pool->o.upstream) : 1;

    return max > n ? max / n : 1;
}

static void give_slot(struct fae_pool *pool)
{
    if (pool->o.upstream)
        fae_upstream_slot_give(pool->o.upstream, pool->o.slot);
    else
        atomic_fetch_sub(&pool->own.n_slots, 1);
}

bool fae_pool_slot_take(struct fae_pool *pool)
{
    if (!take_slot(pool))
        return false;
    pool->n_shared++;
    FAE_STAT_ADD(pool->cell->now.used, 1);
    return true;
}

void fae_pool_slot_give(struct fae_pool *pool)
{
    FAE_ASSERT(pool->n_shared > 0);
    pool->n_shared--;
    FAE_STAT_ADD(pool->cell->now.used, -(uint64_t)1);
    give_slot(pool);
    if (pool->n_waiting > 0)
        fae_pool_rouse(pool);
}

/* ---- attempts ---- */

/* "redis/main/tcp://10.0.0.1:6379" as "redis main tcp://10.0.0.1:6379". */
static const char *words(const struct fae_pool *pool, char text[FAE_UPSTREAM_NAME_MAX + 1])
{
    char *at = text;

    snprintf(text, FAE_UPSTREAM_NAME_MAX + 1, "%s",
             pool->o.upstream ? fae_upstream_name(pool->o.upstream) : "a server");
    for (unsigned i = 0; i < 2 && (at = strchr(at, '/')); i++)
        *at = ' ';
    return text;
}

static void tell_failure(struct fae_pool *pool, uint64_t now_ms)
{
    char name[FAE_UPSTREAM_NAME_MAX + 1];

    if (pool->told_ms && now_ms < pool->told_ms + TOLD_MS)
        return;
    pool->told_ms = now_ms;
    FAE_WARN("%s: no connection: %s", words(pool, name), pool->why);
}

/* Attempts that were under way together fail together: the pause doubles once. */
static void pause(struct fae_pool *pool, uint64_t now_ms)
{
    if (now_ms < pool->paused_until_ms)
        return;
    pool->pause_ms = pool->pause_ms ? 2 * pool->pause_ms : PAUSE_MS;
    if (pool->pause_ms > PAUSE_MAX_MS)
        pool->pause_ms = PAUSE_MAX_MS;
    pool->paused_until_ms = now_ms + fae_pool_jitter(pool, pool->pause_ms + pool->pause_ms / 4);
}

static void failed(struct fae_pool *pool, enum fae_err err, const char *why)
{
    struct fae_pool_opts *o = &pool->o;
    uint64_t now_ms = fae_pool_now_ms(pool);

    FAE_STAT_ADD(pool->cell->n.connect_failures, 1);
    snprintf(pool->why, sizeof pool->why, "%s", why);
    tell_failure(pool, now_ms);
    pause(pool, now_ms);
    if (o->upstream && err != FAE_BACKEND && err != FAE_SYSTEM)
        fae_upstream_end(o->upstream, &o->rule.breaker, o->slot, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED,
                         fae_now_ms());
}

/* It is for want of something of ours, not the server's fault. */
static bool is_ours(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM || error == EADDRNOTAVAIL ||
           error == EPERM || error == EACCES;
}

static void on_limit(void *arg);

bool fae_pool_begin(struct fae_pool *pool)
{
    struct fae_pool_conn *conn;

    if (pool->pause_ms && (pool->n[FAE_POOL_CONNECTING] > 0 || fae_pool_now_ms(pool) < pool->paused_until_ms))
        return false;
    if (pool->ended || (pool->yields && atomic_load(&pool->cell->n_slots) >= fae_pool_share(pool)) || !take_slot(pool))
        return false;
    FAE_STAT_ADD(pool->cell->n.connects, 1);
    conn = pool->o.ops->connect(pool, pool->o.arg);
    if (!conn) {
        int error = errno;

        give_slot(pool);
        failed(pool, is_ours(error) ? FAE_SYSTEM : FAE_UNAVAILABLE, strerror(error));
        return false;
    }
    conn->pool = pool;
    conn->fresh = true;
    conn->ends_ms = 0;
    fae_timer_init(&conn->limit, pool->o.loop, on_limit, conn);
    enter(conn, FAE_POOL_CONNECTING);
    fae_timer_start(&conn->limit, pool->o.rule.connect_timeout_ms);
    return true;
}

void fae_pool_grow(struct fae_pool *pool, unsigned n)
{
    while (pool->n[FAE_POOL_CONNECTING] + pool->n[FAE_POOL_IDLE] < n && fae_pool_begin(pool))
        ;
}

bool fae_pool_hopeless(const struct fae_pool *pool)
{
    return pool->pause_ms && fae_pool_n_conns(pool) == 0 && fae_pool_now_ms(pool) < pool->paused_until_ms;
}

/* ---- connections ---- */

void fae_pool_discard(struct fae_pool_conn *conn)
{
    struct fae_pool *pool = conn->pool;

    leave(conn);
    pool->o.ops->close(conn);
    give_slot(pool);
}

static bool is_over(const struct fae_pool_conn *conn, uint64_t now_ms)
{
    return conn->ends_ms && now_ms >= conn->ends_ms;
}

struct fae_pool_conn *fae_pool_take_idle(struct fae_pool *pool)
{
    struct fae_list *idle = &pool->conns[FAE_POOL_IDLE];

    while (!fae_list_empty(idle)) {
        struct fae_pool_conn *conn = FAE_CONTAINER(idle->prev, struct fae_pool_conn, node);

        /* The time of the turn will do, and costs nothing. */
        if (!is_over(conn, pool->o.loop->now_ms + pool->skipped_ms)) {
            move(conn, FAE_POOL_USED);
            return conn;
        }
        fae_pool_discard(conn);
    }
    return NULL;
}

/* It is free from now. */
static void rest(struct fae_pool_conn *conn, uint64_t now_ms)
{
    struct fae_pool *pool = conn->pool;
    uint64_t idle_ms = pool->o.rule.idle_ms;

    conn->idle_since_ms = now_ms;
    conn->idle_ends_ms = idle_ms ? now_ms + fae_pool_jitter(pool, idle_ms) : 0;
    conn->check_ms = now_ms + fae_pool_jitter(pool, CHECK_MS);
    move(conn, FAE_POOL_IDLE);
}

/* It is answered: it was idle all the time, and is not the newest now. */
static void rest_on(struct fae_pool_conn *conn, uint64_t now_ms)
{
    struct fae_list *idle = &conn->pool->conns[FAE_POOL_IDLE];

    conn->check_ms = now_ms + fae_pool_jitter(conn->pool, CHECK_MS);
    move(conn, FAE_POOL_IDLE);
    fae_list_del(&conn->node);
    fae_list_add_tail(idle->next, &conn->node);
}

static uint32_t check_limit_ms(const struct fae_pool *pool)
{
    const struct fae_pool_rule *rule = &pool->o.rule;

    return rule->timeout_ms < rule->connect_timeout_ms ? rule->timeout_ms : rule->connect_timeout_ms;
}

void fae_pool_check(struct fae_pool_conn *conn)
{
    struct fae_pool *pool = conn->pool;

    move(conn, FAE_POOL_CHECKING);
    fae_timer_start(&conn->limit, check_limit_ms(pool));
    pool->inside = true;
    pool->o.ops->check(conn);
    pool->inside = false;
}

/* True: it is under way, or over already. */
static bool reset(struct fae_pool_conn *conn)
{
    struct fae_pool *pool = conn->pool;
    bool resets;

    if (!pool->o.ops->reset)
        return false;
    move(conn, FAE_POOL_RESETTING);
    fae_timer_start(&conn->limit, check_limit_ms(pool));
    pool->inside = true;
    resets = pool->o.ops->reset(conn);
    pool->inside = false;
    return resets;
}

/* Somebody else needs its slot more. */
static bool is_owed(struct fae_pool *pool)
{
    if (pool->n_owed == 0)
        return false;
    pool->n_owed--;
    return true;
}

void fae_pool_give(struct fae_pool_conn *conn, bool sound)
{
    struct fae_pool *pool = conn->pool;
    uint64_t now_ms = fae_pool_now_ms(pool);

    FAE_ASSERT(conn->state == FAE_POOL_USED);
    conn->fresh = false;
    if (!sound || is_over(conn, now_ms) || (pool->retired && pool->n_waiting == 0) || is_owed(pool))
        fae_pool_discard(conn);
    else if (!reset(conn))
        rest(conn, now_ms);
    if (pool->n_waiting > 0)
        fae_pool_rouse(pool);
}

/* ---- told by the kind ---- */

static void connected(struct fae_pool_conn *conn)
{
    struct fae_pool *pool = conn->pool;
    struct fae_upstream *up = pool->o.upstream;
    uint64_t now_ms = fae_pool_now_ms(pool), life_ms = pool->o.rule.life_ms;
    bool open = up && FAE_STAT_GET(fae_upstream_breaker(up)->state) == FAE_BREAKER_OPEN;
    char name[FAE_UPSTREAM_NAME_MAX + 1];

    if (pool->told_ms)
        FAE_INFO("%s: connected again", words(pool, name));
    pool->told_ms = 0;
    pool->pause_ms = 0;
    conn->born_ms = now_ms;
    conn->ends_ms = life_ms ? now_ms + fae_pool_jitter(pool, life_ms) : 0;
    rest(conn, now_ms);
    /* A machine answers for a server that is frozen: it is not reached before it says something itself. */
    if (open && pool->o.ops->check)
        fae_pool_check(conn);
    else if (up)
        fae_upstream_reached(up, fae_now_ms());
}

void fae_pool_connected(struct fae_pool_conn *conn, enum fae_err err, const char *why)
{
    struct fae_pool *pool = conn->pool;

    FAE_ASSERT(conn->state == FAE_POOL_CONNECTING);
    if (err) {
        failed(pool, err, why);
        fae_pool_discard(conn);
    } else {
        connected(conn);
    }
    fae_pool_settle(pool);
}

void fae_pool_was_reset(struct fae_pool_conn *conn, enum fae_err err)
{
    struct fae_pool *pool = conn->pool;

    FAE_ASSERT(conn->state == FAE_POOL_RESETTING);
    if (err)
        fae_pool_discard(conn);
    else
        rest(conn, fae_pool_now_ms(pool));
    fae_pool_settle(pool);
}

void fae_pool_was_checked(struct fae_pool_conn *conn, enum fae_err err)
{
    struct fae_pool *pool = conn->pool;

    FAE_ASSERT(conn->state == FAE_POOL_CHECKING);
    if (err) {
        fae_pool_discard(conn);
    } else {
        rest_on(conn, fae_pool_now_ms(pool));
        if (pool->o.upstream)
            fae_upstream_reached(pool->o.upstream, fae_now_ms());
    }
    fae_pool_settle(pool);
}

void fae_pool_lost(struct fae_pool_conn *conn, const char *why)
{
    struct fae_pool *pool = conn->pool;
    char name[FAE_UPSTREAM_NAME_MAX + 1];

    if (conn->state == FAE_POOL_CONNECTING) {
        fae_pool_connected(conn, FAE_UNAVAILABLE, why);
        return;
    }
    FAE_DEBUG("%s: a connection ended: %s", words(pool, name), why);
    if (conn->state == FAE_POOL_USED) {
        conn->ends_ms = 1;
        return;
    }
    fae_pool_discard(conn);
    fae_pool_settle(pool);
}

static void on_limit(void *arg)
{
    struct fae_pool_conn *conn = arg;
    char why[64];

    switch ((enum fae_pool_state)conn->state) {
    case FAE_POOL_CONNECTING:
        snprintf(why, sizeof why, "not ready within %" PRIu32 " ms", conn->pool->o.rule.connect_timeout_ms);
        fae_pool_connected(conn, FAE_TIMEOUT, why);
        break;
    case FAE_POOL_RESETTING: fae_pool_was_reset(conn, FAE_TIMEOUT); break;
    case FAE_POOL_CHECKING: fae_pool_was_checked(conn, FAE_TIMEOUT); break;
    case FAE_POOL_IDLE:
    case FAE_POOL_USED:
    case FAE_POOL_STATES: break;
    }
}
