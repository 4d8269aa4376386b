/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Who asks for a connection: a list in the order of asking, each with a timer. Whatever changes is settled from the loop,
 * never inside the call that brought it about.
 */
#include "backend/pool.h"

#include <stdlib.h>

#include "backend/pool_impl.h"
#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/config.h"

#define LOOK_MS 10 /* who waits for the first connection longer than wait_ms: how often we look whether it is there */

void fae_pool_rule(struct fae_pool_rule *rule_out, const struct fae_config_pool *config)
{
    *rule_out = (struct fae_pool_rule){
        .max = (uint32_t)config->max,
        .waiting_max = (uint32_t)config->waiting_max,
        .wait_ms = (uint32_t)config->wait_ms,
        .connect_timeout_ms = (uint32_t)config->connect_timeout_ms,
        .timeout_ms = (uint32_t)config->timeout_ms,
        .idle_ms = (uint32_t)config->idle_ms,
        .life_ms = (uint32_t)config->life_ms,
        .warm = (uint32_t)config->warm,
        .breaker = { .percent = (uint32_t)config->breaker_percent,
                     .calls = (uint32_t)config->breaker_calls,
                     .refusals = (uint32_t)config->breaker_refusals,
                     .open_ms = (uint32_t)config->breaker_open_ms },
    };
}

/* ---- time ---- */

uint64_t fae_pool_now_ms(const struct fae_pool *pool)
{
    return fae_now_ms() + pool->skipped_ms;
}

void fae_pool_skip(struct fae_pool *pool, uint64_t ms)
{
    pool->skipped_ms += ms;
}

uint64_t fae_pool_jitter(struct fae_pool *pool, uint64_t ms)
{
    pool->random ^= pool->random << 13;
    pool->random ^= pool->random >> 7;
    pool->random ^= pool->random << 17;
    return ms - ms / 10 + pool->random % (ms / 5 + 1);
}

/* ---- telling ---- */

/* Out of the list it is in. */
static void leave(struct fae_pool *pool, struct fae_pool_ask *ask)
{
    fae_list_del(&ask->node);
    fae_timer_stop(&ask->timer);
    pool->n_waiting--;
    FAE_STAT_ADD(pool->cell->now.waiting, -(uint64_t)1);
    FAE_STAT_ADD(pool->cell->n.wait_ns, fae_now_ns() - ask->since_ns);
}

/* False: the pool was freed from inside. */
static bool tell(struct fae_pool *pool, struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *conn)
{
    bool gone = false, *before = pool->gone;

    leave(pool, ask);
    if (err == FAE_POOL_BUSY)
        FAE_STAT_ADD(pool->cell->n.busy, 1);
    pool->gone = &gone;
    ask->done(ask, err, conn);
    if (!gone) {
        pool->gone = before;
        return true;
    }
    if (before)
        *before = true;
    return false;
}

static struct fae_pool_ask *first(struct fae_list *asks)
{
    return fae_list_empty(asks) ? NULL : FAE_CONTAINER(asks->next, struct fae_pool_ask, node);
}

/* All who wait now; who comes meanwhile is not among them. */
static bool tell_all(struct fae_pool *pool, enum fae_err err)
{
    struct fae_pool_ask *ask;

    fae_list_splice(&pool->telling, &pool->waiting);
    while ((ask = first(&pool->telling)))
        if (!tell(pool, ask, err, NULL))
            return false;
    return true;
}

/* As many as wait now: some may give theirs back and ask anew from inside, for ever. */
static bool serve(struct fae_pool *pool)
{
    struct fae_pool_conn *conn;

    for (unsigned n = pool->n_waiting; n > 0 && !fae_list_empty(&pool->waiting); n--) {
        conn = fae_pool_take_idle(pool);
        if (!conn)
            return true;
        if (!tell(pool, first(&pool->waiting), FAE_OK, conn))
            return false;
    }
    if (!fae_list_empty(&pool->waiting))
        fae_pool_rouse(pool);
    return true;
}

bool fae_pool_settle(struct fae_pool *pool)
{
    if (pool->inside) {
        fae_pool_rouse(pool);
        return true;
    }
    if (!serve(pool))
        return false;
    fae_pool_grow(pool, pool->n_waiting);
    return pool->n_waiting == 0 || !fae_pool_hopeless(pool) || tell_all(pool, FAE_UNAVAILABLE);
}

static void on_soon(void *arg)
{
    fae_pool_settle(arg);
}

void fae_pool_rouse(struct fae_pool *pool)
{
    if (!fae_timer_running(&pool->soon))
        fae_timer_start(&pool->soon, 0);
}

/* ---- asking ---- */

/* Nobody has a connection yet, but one is being made. */
static bool is_first_coming(const struct fae_pool *pool)
{
    return pool->n[FAE_POOL_CONNECTING] > 0 && fae_pool_n_conns(pool) == pool->n[FAE_POOL_CONNECTING];
}

static void wait_until(struct fae_pool_ask *ask, uint64_t until_ms)
{
    fae_timer_start_at(&ask->timer, ask->own_ms && ask->own_ms < until_ms ? ask->own_ms : until_ms);
}

static void on_late(void *arg)
{
    struct fae_pool_ask *ask = arg;
    struct fae_pool *pool = ask->pool;
    uint64_t now_ms = fae_now_ms();

    if (ask->own_ms && now_ms >= ask->own_ms) {
        tell(pool, ask, FAE_TIMEOUT, NULL);
    } else if (pool->n[FAE_POOL_IDLE] > 0) { /* given back at this very moment */
        wait_until(ask, now_ms + 1);
        fae_pool_settle(pool);
    } else if (is_first_coming(pool)) {
        wait_until(ask, now_ms + LOOK_MS);
    } else {
        tell(pool, ask, FAE_POOL_BUSY, NULL);
    }
}

static void wait(struct fae_pool *pool, struct fae_pool_ask *ask, uint64_t deadline_ms)
{
    fae_list_add_tail(&pool->waiting, &ask->node);
    ask->pool = pool;
    ask->own_ms = deadline_ms;
    ask->since_ns = fae_now_ns();
    fae_timer_init(&ask->timer, pool->o.loop, on_late, ask);
    /* A started millisecond counts as none, so that nobody is refused early. */
    wait_until(ask, ask->since_ns / 1000000 + 1 + pool->o.rule.wait_ms);
    pool->n_waiting++;
    FAE_STAT_ADD(pool->cell->now.waiting, 1);
    FAE_STAT_ADD(pool->cell->n.waits, 1);
}

struct fae_pool_conn *fae_pool_borrow_idle(struct fae_pool *pool)
{
    return pool->n_waiting == 0 ? fae_pool_take_idle(pool) : NULL;
}

enum fae_err fae_pool_borrow(struct fae_pool *pool, struct fae_pool_ask *ask, uint64_t deadline_ms,
                             struct fae_pool_conn **conn_out)
{
    struct fae_pool_conn *conn = fae_pool_borrow_idle(pool);

    pool->wanted_ms = pool->o.loop->now_ms + pool->skipped_ms;
    if (conn) {
        *conn_out = conn;
        return FAE_OK;
    }
    if (pool->ended)
        return FAE_CLOSED;
    if (deadline_ms && deadline_ms <= fae_now_ms())
        return FAE_TIMEOUT;
    fae_pool_grow(pool, pool->n_waiting + 1);
    if (fae_pool_hopeless(pool)) {
        if (pool->n_waiting > 0)
            fae_pool_rouse(pool);
        return FAE_UNAVAILABLE;
    }
    /* Those for whom connections are being made are not too many, however many they are. */
    if (pool->n_waiting >= pool->n[FAE_POOL_CONNECTING] + pool->o.rule.waiting_max) {
        FAE_STAT_ADD(pool->cell->n.busy, 1);
        return FAE_POOL_BUSY;
    }
    wait(pool, ask, deadline_ms);
    return FAE_MORE;
}

void fae_pool_cancel(struct fae_pool *pool, struct fae_pool_ask *ask)
{
    leave(pool, ask);
}

/* ---- life ---- */

struct fae_pool *fae_pool_new(const struct fae_pool_opts *opts)
{
    struct fae_pool *pool = fae_zalloc(sizeof *pool);

    pool->o = *opts;
    pool->cell = opts->upstream ? fae_upstream_cell(opts->upstream, opts->slot) : &pool->own;
    for (unsigned i = 0; i < FAE_POOL_STATES; i++)
        fae_list_init(&pool->conns[i]);
    fae_list_init(&pool->waiting);
    fae_list_init(&pool->telling);
    fae_timer_init(&pool->soon, opts->loop, on_soon, pool);
    pool->random = fae_now_ns() | 1;
    return pool;
}

void fae_pool_free(struct fae_pool **pool_io)
{
    struct fae_pool *pool = *pool_io;

    *pool_io = NULL;
    if (!pool)
        return;
    if (pool->gone)
        *pool->gone = true;
    pool->gone = NULL;
    pool->ended = true;
    fae_timer_stop(&pool->soon);
    for (unsigned i = 0; i < FAE_POOL_STATES; i++)
        while (!fae_list_empty(&pool->conns[i]))
            fae_pool_discard(FAE_CONTAINER(pool->conns[i].next, struct fae_pool_conn, node));
    while (pool->n_shared > 0)
        fae_pool_slot_give(pool);
    tell_all(pool, FAE_CLOSED);
    FAE_ASSERT(pool->n_waiting == 0);
    fae_timer_stop(&pool->soon);
    free(pool);
}

const char *fae_pool_why(const struct fae_pool *pool)
{
    return pool->why;
}

bool fae_pool_quiet(const struct fae_pool *pool)
{
    return pool->n_waiting == 0 && pool->n[FAE_POOL_USED] == 0;
}
