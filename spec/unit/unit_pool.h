/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the tests of backend/pool share: connections that do what they are told, who asks for them, and a loop.
 */
#ifndef FAE_UNIT_POOL_H
#define FAE_UNIT_POOL_H

#include "unit.h"

#include "backend/pool.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/log.h"

#define N_WORKERS 2u

struct fake {
    struct fae_pool_conn conn;
    struct fae_list node; /* in t.fakes */
    unsigned id;
    enum { IS_CONNECTING, IS_READY, IS_RESETTING, IS_CHECKING } state;
    struct fae_timer timer;
};

static struct {
    struct fae_loop loop;
    struct fae_upstreams *ups;
    struct fae_upstream *up;
    struct fae_upstream_cell *cell;
    struct fae_pool *pool;
    struct fae_pool_rule rule;
    struct fae_list fakes; /* alive, oldest first */
    unsigned n_alive, n_made, n_closed, n_checks, n_resets;
    int connect_errno;         /* connect does not even begin, for this */
    enum fae_err answers;      /* what attempts come to, if by_themselves */
    bool by_themselves;        /* attempts and resets succeed or fail after a ms */
    bool resets, tells_inside; /* a reset is needed; it and a check are over before they return */
    bool inside;               /* a call that must tell nobody */
    unsigned n_told, want;
    unsigned last_id; /* of whoever was given a connection last */
} t;

/* ---- the kind ---- */

UNIT_FN void on_fake_timer(void *arg)
{
    struct fake *f = arg;

    if (f->state == IS_CONNECTING) {
        f->state = IS_READY;
        fae_pool_connected(&f->conn, t.answers, "it said so");
    } else if (f->state == IS_RESETTING) {
        f->state = IS_READY;
        fae_pool_was_reset(&f->conn, FAE_OK);
    }
}

UNIT_FN struct fae_pool_conn *fake_connect(struct fae_pool *pool, void *arg)
{
    struct fake *f;

    assert_ptr_equal(arg, &t);
    assert_non_null(pool);
    if (t.connect_errno) {
        errno = t.connect_errno;
        return NULL;
    }
    f = fae_zalloc(sizeof *f);
    f->id = ++t.n_made;
    fae_list_add_tail(&t.fakes, &f->node);
    t.n_alive++;
    fae_timer_init(&f->timer, &t.loop, on_fake_timer, f);
    if (t.by_themselves)
        fae_timer_start(&f->timer, 1);
    return &f->conn;
}

UNIT_FN void fake_close(struct fae_pool_conn *conn)
{
    struct fake *f = FAE_CONTAINER(conn, struct fake, conn);

    fae_timer_stop(&f->timer);
    fae_list_del(&f->node);
    t.n_alive--;
    t.n_closed++;
    free(f);
}

UNIT_FN bool fake_reset(struct fae_pool_conn *conn)
{
    struct fake *f = FAE_CONTAINER(conn, struct fake, conn);

    if (!t.resets)
        return false;
    t.n_resets++;
    f->state = IS_RESETTING;
    if (t.tells_inside) {
        f->state = IS_READY;
        fae_pool_was_reset(conn, t.answers);
    } else if (t.by_themselves) {
        fae_timer_start(&f->timer, 1);
    }
    return true;
}

UNIT_FN void fake_check(struct fae_pool_conn *conn)
{
    struct fake *f = FAE_CONTAINER(conn, struct fake, conn);

    t.n_checks++;
    f->state = IS_CHECKING;
    if (t.tells_inside) {
        f->state = IS_READY;
        fae_pool_was_checked(conn, t.answers);
    }
}

static const struct fae_pool_ops fakes = { fake_connect, fake_close, fake_reset, fake_check };

UNIT_FN struct fake *fake_of(int state)
{
    for (struct fae_list *at = t.fakes.next; at != &t.fakes; at = at->next) {
        struct fake *f = FAE_CONTAINER(at, struct fake, node);

        if ((int)f->state == state)
            return f;
    }
    return NULL;
}

/* The oldest that connects succeeds, or fails. */
UNIT_FN void connected(enum fae_err err)
{
    struct fake *f = fake_of(IS_CONNECTING);

    assert_non_null(f);
    f->state = IS_READY;
    fae_pool_connected(&f->conn, err, "connection refused");
}

UNIT_FN void checked(enum fae_err err)
{
    struct fake *f = fake_of(IS_CHECKING);

    assert_non_null(f);
    f->state = IS_READY;
    fae_pool_was_checked(&f->conn, err);
}

/* ---- who asks ---- */

struct asker {
    struct fae_pool_ask ask;
    unsigned id, n_told;
    enum fae_err err;
    struct fae_pool_conn *conn;
    uint64_t asked_ns, told_ns;
    bool frees, gives;
    struct asker *cancels, *asks;
    struct fae_timer hold; /* gives it back after a while */
    uint64_t hold_ms;
};

static enum fae_err borrow(struct asker *a, uint64_t deadline_ms);

UNIT_FN void give(struct asker *a, bool sound)
{
    struct fae_pool_conn *conn = a->conn;

    a->conn = NULL;
    t.inside = true;
    fae_pool_give(conn, sound);
    t.inside = false;
}

UNIT_FN void on_hold(void *arg)
{
    give(arg, true);
}

UNIT_FN void on_told(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *conn)
{
    struct asker *a = FAE_CONTAINER(ask, struct asker, ask);

    assert_false(t.inside);
    assert_true((err == FAE_OK) == (conn != NULL));
    a->n_told++;
    a->told_ns = fae_now_ns();
    a->err = err;
    a->conn = conn;
    t.n_told++;
    if (conn) {
        assert_true(a->id > t.last_id); /* first come, first served */
        t.last_id = a->id;
    }
    if (a->cancels)
        fae_pool_cancel(t.pool, &a->cancels->ask);
    if (a->asks)
        borrow(a->asks, 0);
    if (a->gives && conn)
        give(a, true);
    if (a->frees)
        fae_pool_free(&t.pool);
    if (conn && a->hold_ms) {
        fae_timer_init(&a->hold, &t.loop, on_hold, a);
        fae_timer_start(&a->hold, a->hold_ms);
    }
}

static unsigned next_id;

UNIT_FN enum fae_err borrow(struct asker *a, uint64_t deadline_ms)
{
    enum fae_err err;
    bool was_inside = t.inside;

    a->ask.done = on_told;
    a->id = ++next_id;
    a->asked_ns = fae_now_ns();
    t.inside = true;
    err = fae_pool_borrow(t.pool, &a->ask, deadline_ms, &a->conn);
    t.inside = was_inside;
    assert_true((err == FAE_OK) == (a->conn != NULL));
    return err;
}

/* One that waits with a deadline of his own, however slow we are. */
UNIT_FN void borrow_within(struct asker *a, uint64_t ms)
{
    enum fae_err err;

    do
        err = borrow(a, fae_now_ms() + ms);
    while (err == FAE_TIMEOUT);
    assert_int_equal(err, FAE_MORE);
}

/* One that gets an idle connection at once. */
UNIT_FN struct asker borrowed(void)
{
    struct asker a = { 0 };

    assert_int_equal(borrow(&a, 0), FAE_OK);
    return a;
}

/* ---- the loop ---- */

UNIT_FN bool after_turn(void *arg)
{
    (void)arg;
    if (t.n_told >= t.want)
        fae_loop_stop(&t.loop);
    return false;
}

UNIT_FN void on_time(void *arg)
{
    (void)arg;
    fae_loop_stop(&t.loop);
}

UNIT_FN void turn_for(unsigned n, unsigned ms)
{
    struct fae_timer time;

    t.want = t.n_told + n;
    fae_timer_init(&time, &t.loop, on_time, NULL);
    fae_timer_start(&time, ms);
    fae_loop_run(&t.loop);
    fae_timer_stop(&time);
}

/* Until n more are told; ten seconds is for ever. */
UNIT_FN void until_told(unsigned n)
{
    turn_for(n, 10000);
    assert_true(t.n_told >= t.want);
}

/* What is told soon is told. */
UNIT_FN void turn(void)
{
    turn_for(UINT32_MAX / 2, 1);
}

#define NOW(name) ((unsigned)FAE_STAT_GET(t.cell->now.name))
#define COUNT(name) ((unsigned)FAE_STAT_GET(t.cell->n.name))

/* Slots, gauges and connections are the same number. */
UNIT_FN void assert_sums(unsigned n_shared)
{
    assert_int_equal(atomic_load(&t.cell->n_slots), t.n_alive + n_shared);
    assert_int_equal(NOW(connecting) + NOW(idle) + NOW(used), t.n_alive + n_shared);
    assert_true(NOW(pinned) <= NOW(used));
}

UNIT_FN void make_pool(void)
{
    t.pool = fae_pool_new(&(struct fae_pool_opts){
        .loop = &t.loop, .upstream = t.up, .slot = 0, .rule = t.rule, .ops = &fakes, .arg = &t });
}

UNIT_FN int set_up(void **state)
{
    unsigned n_workers = N_WORKERS;

    (void)state;
    memset(&t, 0, sizeof t);
    next_id = 0;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    fae_list_init(&t.fakes);
    assert_int_equal(fae_loop_init(&t.loop), FAE_OK);
    t.loop.after_turn = after_turn;
    t.ups = aligned_alloc(64, (fae_upstreams_size(&n_workers) + 63) & ~(size_t)63);
    memset(t.ups, 0, fae_upstreams_size(&n_workers));
    fae_upstreams_init(t.ups, &n_workers);
    t.up = fae_upstream_get(t.ups, "redis/main/tcp://10.0.0.1:6379", 0);
    assert_non_null(t.up);
    t.cell = fae_upstream_cell(t.up, 0);
    t.rule = (struct fae_pool_rule){ .max = 4 + 1, /* the other worker may always have one */
                                     .waiting_max = 100,
                                     .wait_ms = 10000,
                                     .connect_timeout_ms = 10000,
                                     .timeout_ms = 10000,
                                     .breaker = { .percent = 50, .calls = 20, .refusals = 5, .open_ms = 60000 } };
    return 0;
}

UNIT_FN int tear_down(void **state)
{
    (void)state;
    fae_pool_free(&t.pool);
    assert_int_equal(t.n_alive, 0);
    assert_sums(0);
    assert_int_equal(NOW(waiting), 0);
    fae_loop_fini(&t.loop);
    free(t.ups);
    return 0;
}

/* A pool with n idle connections. */
UNIT_FN void with_idle(unsigned n)
{
    struct asker a[16] = { 0 };

    make_pool();
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    for (unsigned i = 0; i < n; i++)
        connected(FAE_OK);
    for (unsigned i = 0; i < n; i++)
        give(&a[i], true);
    assert_int_equal(NOW(idle), n);
}

UNIT_FN void open_the_breaker(void)
{
    for (unsigned i = 0; i < 5; i++)
        fae_upstream_end(t.up, &t.rule.breaker, 0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, fae_now_ms());
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->state), FAE_BREAKER_OPEN);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
