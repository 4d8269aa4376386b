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

static void close_idle(struct fae_pool *pool)
{
    while (pool->n_waiting == 0 && !fae_list_empty(&pool->conns[FAE_POOL_IDLE]))
        fae_pool_discard(oldest_idle(pool));
}

void fae_pool_retire(struct fae_pool *pool)
{
    pool->retired = true;
    pool->o.rule.warm = 0;
    close_idle(pool);
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

struct others {
    unsigned n_slots;  /* of all workers */
    unsigned n_hungry; /* askers for whom no connection is being made ... */
    unsigned n_poor;   /* ... and of them, in workers with less than their share, as many as that would serve */
};

static struct others look_at_others(const struct fae_pool *pool)
{
    struct fae_upstream *up = pool->o.upstream;
    unsigned share = fae_pool_share(pool);
    struct others o = { 0 };

    for (unsigned i = 0; i < fae_upstream_workers(up); i++) {
        const struct fae_upstream_cell *cell = fae_upstream_cell(up, i);
        unsigned has = atomic_load_explicit(&cell->n_slots, memory_order_relaxed), hungry;
        uint64_t waiting = FAE_STAT_GET(cell->now.waiting), connecting = FAE_STAT_GET(cell->now.connecting);

        o.n_slots += has ? has : 1;
        if (i == pool->o.slot || waiting <= connecting)
            continue;
        hungry = (unsigned)(waiting - connecting);
        o.n_hungry += hungry;
        if (has < share)
            o.n_poor += hungry < share - has ? hungry : share - has;
    }
    return o;
}

/* Idle ones go to whoever is hungry, those that lay idle longest first, but for one and those that are to be warm. */
static void give_up_idle(struct fae_pool *pool, unsigned n, uint64_t now_ms)
{
    unsigned keep = pool->o.rule.warm > 1 ? pool->o.rule.warm : 1;

    for (; n > 0 && pool->n[FAE_POOL_IDLE] > keep; n--) {
        struct fae_pool_conn *conn = oldest_idle(pool);

        if (now_ms < conn->idle_since_ms + SPARE_MS)
            return;
        fae_pool_discard(conn);
    }
}

/* A worker that never has one idle would keep all it has for its own askers: beyond its share they go to poorer ones. */
static void share(struct fae_pool *pool, uint64_t now_ms)
{
    unsigned has = atomic_load_explicit(&pool->cell->n_slots, memory_order_relaxed), most = fae_pool_share(pool);
    struct others others;
    bool all_taken;

    pool->n_owed = 0;
    pool->yields = false;
    if (!pool->o.upstream || (has <= most && pool->n[FAE_POOL_IDLE] <= 1))
        return;
    others = look_at_others(pool);
    all_taken = others.n_slots >= pool->o.rule.max;
    if (all_taken)
        give_up_idle(pool, others.n_hungry, now_ms);
    if (has <= most)
        return;
    pool->yields = others.n_poor > 0;
    if (all_taken)
        pool->n_owed = others.n_poor < has - most ? others.n_poor : has - most;
}

/* ---- the server ---- */

static bool is_wanted(const struct fae_pool *pool, uint64_t now_ms)
{
    return !pool->retired && (pool->o.rule.warm > 0 || (pool->wanted_ms && now_ms < pool->wanted_ms + WANTED_MS));
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
    if (pool->retired)
        close_idle(pool);
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
