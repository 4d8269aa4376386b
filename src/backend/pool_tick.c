/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Upkeep of a pool, every FAE_TICK_MS: what is too old or too idle goes, what lies idle is asked whether it lives, what is to
 * be warm is made, other workers are given what they need more, and a server that is left alone is looked after.
 */
#include "backend/pool_impl.h"

#define PROBE_MS 1500   /* between two looks after a server whose breaker is open: who comes back is found within 2 s */
#define WANTED_MS 60000 /* after the last asker, it is looked after no more */
#define SPARE_MS 100    /* of lying idle, before a connection is given up for another worker that has none */

static struct fae_pool_conn *oldest_idle(const struct fae_pool *pool)
{
    const struct fae_list *idle = &pool->conns[FAE_POOL_IDLE];

    return fae_list_empty(idle) ? NULL : FAE_CONTAINER(idle->next, struct fae_pool_conn, node);
}

/* What is to be kept warm may be as idle as it likes. */
static void expire(struct fae_pool *pool, uint64_t now_ms)
{
    FAE_LIST_EACH(node, &pool->conns[FAE_POOL_IDLE]) {
        struct fae_pool_conn *conn = FAE_CONTAINER(node, struct fae_pool_conn, node);
        bool is_idle = conn->idle_ends_ms && now_ms >= conn->idle_ends_ms;

        if ((conn->ends_ms && now_ms >= conn->ends_ms) || (is_idle && fae_pool_n_conns(pool) > pool->o.rule.warm))
            fae_pool_discard(conn);
    }
}

/* One a tick, so that they are never all away. */
static void check_one(struct fae_pool *pool, uint64_t now_ms)
{
    if (!pool->o.ops->check)
        return;
    for (struct fae_list *at = pool->conns[FAE_POOL_IDLE].next; at != &pool->conns[FAE_POOL_IDLE]; at = at->next) {
        struct fae_pool_conn *conn = FAE_CONTAINER(at, struct fae_pool_conn, node);

        if (now_ms >= conn->check_ms) {
            fae_pool_check(conn);
            return;
        }
    }
}

/* ---- other workers ---- */

/* Askers of other workers who wait although max connections are there; 0: nobody does. */
static unsigned n_starving(const struct fae_pool *pool)
{
    struct fae_upstream *up = pool->o.upstream;
    unsigned n_slots = 0, n = 0;

    for (unsigned i = 0; i < fae_upstream_workers(up); i++) {
        const struct fae_upstream_cell *cell = fae_upstream_cell(up, i);
        unsigned has = atomic_load_explicit(&cell->n_slots, memory_order_relaxed);
        uint64_t waiting = FAE_STAT_GET(cell->now.waiting), connecting = FAE_STAT_GET(cell->now.connecting);

        n_slots += has ? has : 1;
        if (i != pool->o.slot && waiting > connecting)
            n += (unsigned)(waiting - connecting);
    }
    return n_slots >= pool->o.rule.max ? n : 0;
}

/* Those that lay idle longest, but for one and those that are to be warm. */
static void share(struct fae_pool *pool, uint64_t now_ms)
{
    unsigned keep = pool->o.rule.warm > 1 ? pool->o.rule.warm : 1, n;
    struct fae_pool_conn *conn;

    if (pool->n[FAE_POOL_IDLE] <= keep || !pool->o.upstream)
        return;
    for (n = n_starving(pool); n > 0 && pool->n[FAE_POOL_IDLE] > keep; n--) {
        conn = oldest_idle(pool);
        if (now_ms < conn->idle_since_ms + SPARE_MS)
            return;
        fae_pool_discard(conn);
    }
}

/* ---- the server ---- */

static bool is_wanted(const struct fae_pool *pool, uint64_t now_ms)
{
    return pool->o.rule.warm > 0 || (pool->wanted_ms && now_ms < pool->wanted_ms + WANTED_MS);
}

static bool is_open(const struct fae_pool *pool)
{
    const struct fae_breaker *b = pool->o.upstream ? fae_upstream_breaker(pool->o.upstream) : NULL;

    return b && FAE_STAT_GET(b->state) == FAE_BREAKER_OPEN && FAE_STAT_GET(b->mode) == FAE_BREAKER_AUTO;
}

/* A sign of life, on a connection that is there or on a new one, lets calls try it earlier than the breaker would. */
static void look_after(struct fae_pool *pool, uint64_t now_ms)
{
    struct fae_pool_conn *conn = oldest_idle(pool);

    if (pool->probe_ms && now_ms >= pool->probe_ms && is_wanted(pool, now_ms)) {
        if (conn && pool->o.ops->check)
            fae_pool_check(conn);
        else if (pool->n[FAE_POOL_CONNECTING] + pool->n[FAE_POOL_CHECKING] == 0)
            fae_pool_begin(pool);
        pool->probe_ms = 0;
    }
    if (pool->probe_ms == 0)
        pool->probe_ms = now_ms + fae_pool_jitter(pool, PROBE_MS);
}

static void warm(struct fae_pool *pool)
{
    if (pool->n[FAE_POOL_CONNECTING] == 0 && fae_pool_n_conns(pool) < pool->o.rule.warm)
        fae_pool_begin(pool);
}

void fae_pool_tick(struct fae_pool *pool)
{
    uint64_t now_ms = fae_pool_now_ms(pool);

    expire(pool, now_ms);
    check_one(pool, now_ms);
    share(pool, now_ms);
    if (is_open(pool)) {
        look_after(pool, now_ms);
    } else {
        if (pool->probe_ms) /* somebody reached it, perhaps another worker: it may be tried at once */
            pool->paused_until_ms = 0;
        pool->probe_ms = 0;
        warm(pool);
    }
    fae_pool_settle(pool);
}
