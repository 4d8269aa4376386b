/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/pool with connections of this test, that do what they are told: who is served when, what is made, checked and
 * closed, that the counts are exact, and that nobody is told twice or from inside his own call.
 */
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

static void on_fake_timer(void *arg)
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

static struct fae_pool_conn *fake_connect(struct fae_pool *pool, void *arg)
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

static void fake_close(struct fae_pool_conn *conn)
{
    struct fake *f = FAE_CONTAINER(conn, struct fake, conn);

    fae_timer_stop(&f->timer);
    fae_list_del(&f->node);
    t.n_alive--;
    t.n_closed++;
    free(f);
}

static bool fake_reset(struct fae_pool_conn *conn)
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

static void fake_check(struct fae_pool_conn *conn)
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

static struct fake *fake_of(int state)
{
    for (struct fae_list *at = t.fakes.next; at != &t.fakes; at = at->next) {
        struct fake *f = FAE_CONTAINER(at, struct fake, node);

        if ((int)f->state == state)
            return f;
    }
    return NULL;
}

/* The oldest that connects succeeds, or fails. */
static void connected(enum fae_err err)
{
    struct fake *f = fake_of(IS_CONNECTING);

    assert_non_null(f);
    f->state = IS_READY;
    fae_pool_connected(&f->conn, err, "connection refused");
}

static void checked(enum fae_err err)
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

static void give(struct asker *a, bool sound)
{
    struct fae_pool_conn *conn = a->conn;

    a->conn = NULL;
    t.inside = true;
    fae_pool_give(conn, sound);
    t.inside = false;
}

static void on_hold(void *arg)
{
    give(arg, true);
}

static void on_told(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *conn)
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

static enum fae_err borrow(struct asker *a, uint64_t deadline_ms)
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

/* One that gets an idle connection at once. */
static struct asker borrowed(void)
{
    struct asker a = { 0 };

    assert_int_equal(borrow(&a, 0), FAE_OK);
    return a;
}

/* ---- the loop ---- */

static bool after_turn(void *arg)
{
    (void)arg;
    if (t.n_told >= t.want)
        fae_loop_stop(&t.loop);
    return false;
}

static void on_time(void *arg)
{
    (void)arg;
    fae_loop_stop(&t.loop);
}

static void turn_for(unsigned n, unsigned ms)
{
    struct fae_timer time;

    t.want = t.n_told + n;
    fae_timer_init(&time, &t.loop, on_time, NULL);
    fae_timer_start(&time, ms);
    fae_loop_run(&t.loop);
    fae_timer_stop(&time);
}

/* Until n more are told; ten seconds is for ever. */
static void until_told(unsigned n)
{
    turn_for(n, 10000);
    assert_true(t.n_told >= t.want);
}

/* What is told soon is told. */
static void turn(void)
{
    turn_for(UINT32_MAX / 2, 1);
}

#define NOW(name) ((unsigned)FAE_STAT_GET(t.cell->now.name))
#define COUNT(name) ((unsigned)FAE_STAT_GET(t.cell->n.name))

/* Slots, gauges and connections are the same number. */
static void assert_sums(unsigned n_shared)
{
    assert_int_equal(atomic_load(&t.cell->n_slots), t.n_alive + n_shared);
    assert_int_equal(NOW(connecting) + NOW(idle) + NOW(used), t.n_alive + n_shared);
    assert_true(NOW(pinned) <= NOW(used));
}

static void make_pool(void)
{
    t.pool = fae_pool_new(&(struct fae_pool_opts){
        .loop = &t.loop, .upstream = t.up, .slot = 0, .rule = t.rule, .ops = &fakes, .arg = &t });
}

static int set_up(void **state)
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

static int tear_down(void **state)
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
static void with_idle(unsigned n)
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

/* ---- borrowing ---- */

static void a_rule_is_the_configurations(void **state)
{
    struct fae_config_pool config = { .max = 1,
                                      .waiting_max = 2,
                                      .wait_ms = 3,
                                      .connect_timeout_ms = 4,
                                      .timeout_ms = 5,
                                      .idle_ms = 6,
                                      .life_ms = 7,
                                      .warm = 8,
                                      .breaker_percent = 9,
                                      .breaker_calls = 10,
                                      .breaker_refusals = 11,
                                      .breaker_open_ms = 12 };
    struct fae_pool_rule rule;

    (void)state;
    fae_pool_rule(&rule, &config);
    assert_int_equal(rule.max, 1);
    assert_int_equal(rule.waiting_max, 2);
    assert_int_equal(rule.wait_ms, 3);
    assert_int_equal(rule.connect_timeout_ms, 4);
    assert_int_equal(rule.timeout_ms, 5);
    assert_int_equal(rule.idle_ms, 6);
    assert_int_equal(rule.life_ms, 7);
    assert_int_equal(rule.warm, 8);
    assert_int_equal(rule.breaker.percent, 9);
    assert_int_equal(rule.breaker.calls, 10);
    assert_int_equal(rule.breaker.refusals, 11);
    assert_int_equal(rule.breaker.open_ms, 12);
    make_pool();
    assert_int_equal(t.n_made, 0); /* nobody asked */
}

static void a_connection_is_made_lent_and_kept(void **state)
{
    struct asker a = { 0 };

    (void)state;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(NOW(connecting), 1);
    assert_int_equal(NOW(waiting), 1);
    assert_false(fae_pool_quiet(t.pool));
    connected(FAE_OK);
    assert_int_equal(a.err, FAE_OK);
    assert_int_equal(a.n_told, 1);
    assert_true(a.conn->fresh);
    assert_int_equal(NOW(pinned), 1);
    assert_int_equal(NOW(used), 1);
    assert_int_equal(NOW(waiting), 0);
    assert_false(fae_pool_quiet(t.pool));
    give(&a, true);
    assert_int_equal(NOW(pinned), 0);
    assert_int_equal(NOW(idle), 1);
    assert_true(fae_pool_quiet(t.pool));
    a = borrowed();
    assert_false(a.conn->fresh);
    assert_int_equal(t.n_made, 1);
    give(&a, false);
    assert_int_equal(t.n_closed, 1);
    assert_sums(0);
    assert_int_equal(COUNT(connects), 1);
    assert_int_equal(COUNT(waits), 1);
    assert_true(FAE_STAT_GET(t.cell->n.wait_ns) > 0);
}

static void the_newest_idle_one_is_lent(void **state)
{
    struct asker a, b;
    struct fae_pool_conn *first;

    (void)state;
    with_idle(3);
    a = borrowed();
    b = borrowed();
    first = a.conn;
    give(&b, true);
    give(&a, true);
    a = borrowed();
    assert_ptr_equal(a.conn, first);
}

static void there_are_no_more_attempts_than_askers(void **state)
{
    struct asker a[6] = { 0 };

    (void)state;
    make_pool();
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
        assert_int_equal(NOW(connecting), i < 4 ? i + 1 : 4);
    }
    assert_int_equal(NOW(waiting), 6);
    assert_sums(0);
    for (unsigned i = 0; i < 4; i++)
        connected(FAE_OK);
    assert_int_equal(t.n_told, 4);
    give(&a[1], true);
    assert_int_equal(t.n_told, 4); /* not from inside */
    until_told(1);
    assert_int_equal(a[4].err, FAE_OK);
    give(&a[0], false);
    turn();
    assert_int_equal(NOW(connecting), 1); /* a slot is free again */
    connected(FAE_OK);
    assert_int_equal(a[5].n_told, 1);
    assert_sums(0);
}

static void who_comes_later_does_not_come_first(void **state)
{
    struct asker a = { 0 }, b = { 0 };
    struct asker used;

    (void)state;
    t.rule.max = 1;
    with_idle(1);
    used = borrowed();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    give(&used, true); /* it is idle, but not for us */
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    until_told(1);
    assert_int_equal(a.n_told, 1);
    assert_int_equal(b.n_told, 0);
    give(&a, true);
    until_told(1);
    assert_int_equal(b.err, FAE_OK);
}

static void who_cancels_is_not_told(void **state)
{
    struct asker a = { 0 }, b = { 0 }, c = { 0 };

    (void)state;
    t.rule.max = 1;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    assert_int_equal(borrow(&c, 0), FAE_MORE);
    fae_pool_cancel(t.pool, &a.ask);
    assert_int_equal(NOW(waiting), 2);
    b.cancels = &c;
    connected(FAE_OK);
    assert_int_equal(b.err, FAE_OK);
    assert_int_equal(a.n_told + c.n_told, 0);
    assert_int_equal(NOW(waiting), 0);
}

static void who_is_told_may_give_ask_and_free(void **state)
{
    struct asker a[4] = { 0 };

    (void)state;
    t.rule.max = 1;
    make_pool();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    a[0].gives = true;
    a[0].asks = &a[3];
    a[1].frees = true;
    connected(FAE_OK);
    assert_null(t.pool);
    assert_int_equal(t.n_alive, 0); /* also the one that he was given */
    assert_int_equal(a[1].err, FAE_OK);
    assert_int_equal(a[2].err, FAE_CLOSED);
    assert_int_equal(a[3].err, FAE_CLOSED);
    assert_int_equal(a[2].n_told + a[3].n_told, 2);
}

static void freeing_closes_what_is_borrowed(void **state)
{
    struct asker a;

    (void)state;
    with_idle(3);
    a = borrowed();
    assert_true(fae_pool_slot_take(t.pool));
    fae_pool_free(&t.pool);
    (void)a;
    assert_int_equal(t.n_alive, 0);
    assert_sums(0);
}

/* ---- waiting ---- */

static void a_full_queue_refuses(void **state)
{
    struct asker a[4] = { 0 };

    (void)state;
    t.rule.max = 1;
    t.rule.waiting_max = 2;
    with_idle(1);
    a[0] = borrowed();
    assert_int_equal(borrow(&a[1], 0), FAE_MORE);
    assert_int_equal(borrow(&a[2], 0), FAE_MORE);
    assert_int_equal(borrow(&a[3], 0), FAE_POOL_BUSY);
    assert_int_equal(COUNT(busy), 1);
    assert_int_equal(NOW(waiting), 2);
    fae_pool_free(&t.pool); /* who waits is ours */
}

static void a_queue_of_none_still_connects(void **state)
{
    struct asker a = { 0 }, b = { 0 };

    (void)state;
    t.rule.max = 1;
    t.rule.waiting_max = 0;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(borrow(&b, 0), FAE_POOL_BUSY);
    connected(FAE_OK);
    assert_int_equal(a.err, FAE_OK);
    assert_int_equal(borrow(&b, 0), FAE_POOL_BUSY);
    fae_pool_free(&t.pool); /* who waits is ours */
}

static void waits_end(void **state)
{
    struct asker a = { 0 }, b = { 0 }, c = { 0 };
    struct asker used;

    (void)state;
    t.rule.max = 1;
    t.rule.wait_ms = 40;
    with_idle(1);
    used = borrowed();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(borrow(&b, fae_now_ms() + 15), FAE_MORE);
    assert_int_equal(borrow(&c, fae_now_ms() + 100000), FAE_MORE);
    until_told(1);
    assert_int_equal(b.err, FAE_TIMEOUT);
    until_told(2);
    assert_int_equal(a.err, FAE_POOL_BUSY);
    assert_int_equal(c.err, FAE_POOL_BUSY);
    assert_true(b.told_ns - b.asked_ns >= 14 * 1000000u);
    assert_true(a.told_ns - a.asked_ns >= 40 * 1000000u); /* never early */
    assert_int_equal(COUNT(busy), 2);
    assert_int_equal(borrow(&a, fae_now_ms()), FAE_TIMEOUT);
    give(&used, true);
    used = borrowed();
}

/* wait_ms is shorter than an attempt may take; that it failed is the better answer. */
static void who_waits_for_the_first_connection_hears_of_it(void **state)
{
    struct asker a = { 0 }, b = { 0 };

    (void)state;
    t.rule.wait_ms = 1;
    t.rule.connect_timeout_ms = 60;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(borrow(&b, fae_now_ms() + 10), FAE_MORE);
    until_told(1);
    assert_int_equal(b.err, FAE_TIMEOUT);
    until_told(1);
    assert_int_equal(a.err, FAE_UNAVAILABLE);
    assert_true(a.told_ns - a.asked_ns >= 59 * 1000000u);
    assert_string_equal(fae_pool_why(t.pool), "not ready within 60 ms");
    assert_int_equal(COUNT(connect_failures), 2);
    assert_sums(0);
}

/* ---- failures ---- */

static void a_failed_attempt_fails_those_whom_no_other_can_serve(void **state)
{
    struct asker a[3] = { 0 };

    (void)state;
    make_pool();
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    connected(FAE_UNAVAILABLE);
    connected(FAE_TIMEOUT);
    assert_int_equal(t.n_told, 0); /* there is one attempt left */
    connected(FAE_UNAVAILABLE);
    assert_int_equal(t.n_told, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(a[i].err, FAE_UNAVAILABLE);
    assert_string_equal(fae_pool_why(t.pool), "connection refused");
    assert_int_equal(COUNT(connect_failures), 3);
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->refusals), 3);
    assert_sums(0);
}

static void with_another_in_use_they_wait_on(void **state)
{
    struct asker a = { 0 }, b = { 0 }, used;

    (void)state;
    t.rule.max = 3;
    with_idle(1);
    used = borrowed();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_UNAVAILABLE);
    assert_int_equal(a.n_told, 0);
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    assert_int_equal(NOW(connecting), 0); /* it is paused */
    give(&used, true);
    until_told(1);
    assert_int_equal(a.err, FAE_OK);
    give(&a, false); /* the last hope */
    until_told(1);
    assert_int_equal(b.err, FAE_UNAVAILABLE);
    fae_pool_free(&t.pool); /* who waits is ours */
}

static void a_pause_follows_and_then_one_attempt_at_a_time(void **state)
{
    struct asker a = { 0 }, b = { 0 };
    unsigned n_attempts = 0;

    (void)state;
    t.rule.breaker.percent = 0; /* never opens */
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_UNAVAILABLE);
    assert_int_equal(borrow(&b, 0), FAE_UNAVAILABLE); /* at once */
    assert_int_equal(b.n_told, 0);
    fae_pool_skip(t.pool, 400);
    assert_int_equal(borrow(&b, 0), FAE_UNAVAILABLE);
    for (unsigned i = 0; i < 600; i++) { /* 30 s of somebody who asks all the time */
        struct asker c = { 0 };

        fae_pool_skip(t.pool, 50);
        if (borrow(&c, 0) == FAE_MORE) {
            n_attempts++;
            connected(FAE_UNAVAILABLE);
            assert_int_equal(c.err, FAE_UNAVAILABLE);
        }
    }
    assert_in_range(n_attempts, 20, 60); /* at most two a second */
    fae_pool_skip(t.pool, 1500);
    memset(&a, 0, sizeof a);
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    memset(&b, 0, sizeof b);
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    assert_int_equal(NOW(connecting), 1);
    connected(FAE_OK);
    assert_int_equal(a.err, FAE_OK);
    assert_int_equal(NOW(connecting), 1); /* now that it is there, as many as are asked for */
    connected(FAE_OK);
    assert_int_equal(b.err, FAE_OK);
    assert_sums(0);
    fae_pool_free(&t.pool); /* who waits is ours */
}

static void what_cannot_begin_is_not_told_from_inside(void **state)
{
    struct asker a = { 0 }, b = { 0 }, used;

    (void)state;
    make_pool();
    t.connect_errno = ECONNREFUSED;
    assert_int_equal(borrow(&a, 0), FAE_UNAVAILABLE);
    assert_string_equal(fae_pool_why(t.pool), "Connection refused");
    assert_int_equal(COUNT(connects), 1);
    assert_int_equal(COUNT(connect_failures), 1);
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->refusals), 1);
    assert_sums(0);
    fae_pool_skip(t.pool, 2000);
    t.connect_errno = EMFILE; /* our own trouble */
    assert_int_equal(borrow(&a, 0), FAE_UNAVAILABLE);
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->refusals), 1);
    fae_pool_skip(t.pool, 2000);
    t.connect_errno = 0;
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_OK);
    give(&a, true);
    used = borrowed();
    t.connect_errno = ECONNREFUSED;
    assert_int_equal(borrow(&b, 0), FAE_MORE); /* for the other one */
    give(&used, false);
    until_told(1);
    assert_int_equal(b.err, FAE_UNAVAILABLE);
}

static void who_is_not_let_in_says_nothing_about_the_server(void **state)
{
    struct asker a = { 0 };

    (void)state;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_BACKEND);
    assert_int_equal(a.err, FAE_UNAVAILABLE);
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->refusals), 0);
}

static void refusals_open_the_breaker(void **state)
{
    struct asker a = { 0 };

    (void)state;
    make_pool();
    for (unsigned i = 0; i < 5; i++) {
        memset(&a, 0, sizeof a);
        assert_int_equal(borrow(&a, 0), FAE_MORE);
        connected(FAE_UNAVAILABLE);
        fae_pool_skip(t.pool, 2000);
    }
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->state), FAE_BREAKER_OPEN);
}

static void a_lost_idle_connection_is_nobodys_failure(void **state)
{
    struct asker a;

    (void)state;
    with_idle(2);
    a = borrowed();
    fae_pool_lost(&fake_of(IS_READY)->conn, "end of file"); /* the idle one */
    assert_int_equal(t.n_alive, 1);
    fae_pool_lost(a.conn, "end of file");
    assert_int_equal(t.n_alive, 1); /* still his */
    give(&a, true);
    assert_int_equal(t.n_alive, 0);
    assert_int_equal(COUNT(connect_failures), 0);
    assert_sums(0);
}

/* ---- between borrowers ---- */

static void it_is_reset_between_borrowers(void **state)
{
    struct asker a = { 0 }, b = { 0 };

    (void)state;
    t.rule.max = 1;
    t.rule.timeout_ms = 30;
    t.resets = true;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_OK);
    assert_int_equal(t.n_resets, 0); /* it is new */
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    give(&a, true);
    turn();
    assert_int_equal(b.n_told, 0);
    assert_int_equal(NOW(used), 1);
    assert_int_equal(NOW(pinned), 0);
    fae_pool_was_reset(&fake_of(IS_RESETTING)->conn, FAE_OK);
    assert_int_equal(b.err, FAE_OK);
    memset(&a, 0, sizeof a);
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    give(&b, true); /* and no answer comes */
    turn_for(1, 60);
    assert_int_equal(t.n_closed, 1);
    connected(FAE_OK);
    assert_int_equal(a.err, FAE_OK);
    give(&a, true);
    fae_pool_was_reset(&fake_of(IS_RESETTING)->conn, FAE_UNKNOWN);
    assert_int_equal(t.n_alive, 0);
    assert_sums(0);
}

static void a_reset_may_be_over_at_once(void **state)
{
    struct asker a, b = { 0 }, c = { 0 };

    (void)state;
    t.rule.max = 1;
    with_idle(1);
    a = borrowed();
    t.resets = t.tells_inside = true;
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    assert_int_equal(borrow(&c, 0), FAE_MORE);
    give(&a, true);
    until_told(1);
    assert_int_equal(b.err, FAE_OK);
    t.answers = FAE_UNKNOWN;
    give(&b, true);
    turn();
    assert_int_equal(t.n_closed, 1);
    connected(FAE_OK);
    assert_int_equal(c.err, FAE_OK);
}

/* ---- upkeep ---- */

static void idle_ones_are_checked(void **state)
{
    (void)state;
    with_idle(3);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_checks, 0);
    fae_pool_skip(t.pool, 6000);
    fae_pool_tick(t.pool);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_checks, 2);
    assert_int_equal(NOW(idle), 3);
    checked(FAE_OK);
    checked(FAE_TIMEOUT);
    assert_int_equal(t.n_alive, 2);
    fae_pool_tick(t.pool);
    checked(FAE_OK);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_checks, 3); /* all have been */
    t.tells_inside = true;
    fae_pool_skip(t.pool, 6000);
    t.answers = FAE_TIMEOUT;
    fae_pool_tick(t.pool);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 0);
    assert_sums(0);
}

static void a_check_that_is_not_answered_ends(void **state)
{
    (void)state;
    t.rule.connect_timeout_ms = 20;
    with_idle(1);
    fae_pool_skip(t.pool, 6000);
    fae_pool_tick(t.pool);
    turn_for(1, 40);
    assert_int_equal(t.n_alive, 0);
}

static void what_is_idle_or_old_is_closed(void **state)
{
    struct asker a;

    (void)state;
    t.rule.idle_ms = 1000;
    t.rule.life_ms = 10000;
    with_idle(3);
    a = borrowed();
    fae_pool_skip(t.pool, 800);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 3);
    fae_pool_skip(t.pool, 400);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 1); /* mine */
    fae_pool_skip(t.pool, 11000);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 1);
    give(&a, true);
    assert_int_equal(t.n_alive, 0);
    assert_sums(0);
}

static void what_is_old_is_not_lent(void **state)
{
    struct asker a = { 0 };

    (void)state;
    t.rule.life_ms = 1000;
    with_idle(2);
    turn(); /* the loop knows the time */
    fae_pool_skip(t.pool, 1200);
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(t.n_closed, 2);
    fae_pool_free(&t.pool); /* who waits is ours */
}

static void some_are_kept_warm(void **state)
{
    (void)state;
    t.rule.warm = 2;
    t.rule.idle_ms = 1000;
    make_pool();
    for (unsigned i = 0; i < 3; i++) {
        fae_pool_tick(t.pool);
        fae_pool_tick(t.pool);
        if (i < 2)
            connected(FAE_OK);
    }
    assert_int_equal(t.n_made, 2);
    fae_pool_skip(t.pool, 2000);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 2); /* however idle */
    fae_pool_lost(&fake_of(IS_READY)->conn, "end of file");
    fae_pool_tick(t.pool);
    connected(FAE_UNAVAILABLE);
    for (unsigned i = 0; i < 8; i++) {
        fae_pool_tick(t.pool);
        assert_int_equal(NOW(connecting), 0); /* a pause */
        fae_pool_skip(t.pool, 50);
    }
    fae_pool_skip(t.pool, 400);
    fae_pool_tick(t.pool);
    connected(FAE_OK);
    assert_int_equal(t.n_alive, 2);
}

/* ---- the node ---- */

static void slots_are_the_nodes(void **state)
{
    struct asker a[4] = { 0 };

    (void)state;
    t.rule.max = 3;
    make_pool();
    for (unsigned i = 0; i < 2; i++)
        assert_true(fae_upstream_slot_take(t.up, 1, 3));
    assert_int_equal(borrow(&a[0], 0), FAE_MORE);
    assert_int_equal(borrow(&a[1], 0), FAE_MORE);
    assert_int_equal(NOW(connecting), 1);
    connected(FAE_OK);
    fae_pool_tick(t.pool);
    assert_int_equal(NOW(connecting), 0);
    fae_upstream_slot_give(t.up, 1);
    fae_pool_tick(t.pool); /* looks again */
    assert_int_equal(NOW(connecting), 1);
    connected(FAE_OK);
    assert_int_equal(a[1].err, FAE_OK);
    fae_upstream_slot_give(t.up, 1);
    fae_pool_free(&t.pool); /* who waits is ours */
}

static void shared_ones_take_slots_too(void **state)
{
    struct asker a = { 0 };

    (void)state;
    t.rule.max = 2; /* of which the other worker may always have one */
    make_pool();
    assert_true(fae_pool_slot_take(t.pool));
    assert_false(fae_pool_slot_take(t.pool));
    assert_int_equal(NOW(used), 1);
    assert_int_equal(NOW(pinned), 0);
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(NOW(connecting), 0);
    fae_pool_slot_give(t.pool);
    turn();
    assert_int_equal(NOW(connecting), 1);
    connected(FAE_OK);
    assert_int_equal(a.err, FAE_OK);
    assert_sums(0);
}

static void idle_ones_are_given_up_for_other_workers(void **state)
{
    struct fae_upstream_cell *other;

    (void)state;
    t.rule.max = 4;
    with_idle(3);
    fae_pool_skip(t.pool, 500);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 3);
    other = fae_upstream_cell(t.up, 1);
    FAE_STAT_SET(other->now.waiting, 1);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 2); /* one for each who waits */
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 2); /* and then there is room */
    assert_true(fae_upstream_slot_take(t.up, 1, t.rule.max));
    assert_true(fae_upstream_slot_take(t.up, 1, t.rule.max));
    FAE_STAT_SET(other->now.waiting, 50);
    fae_pool_tick(t.pool);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 1); /* the last is ours */
    FAE_STAT_SET(other->now.waiting, 0);
}

/* Two pools, as two workers have them: one is idle with all, then the other is asked for more than its own. */
static void two_workers_share(void **state)
{
    struct fae_pool *other;
    struct asker a[3] = { 0 };

    (void)state;
    t.rule.max = 4;
    with_idle(3);
    t.n_told = 0;
    other = t.pool;
    t.pool = fae_pool_new(&(struct fae_pool_opts){
        .loop = &t.loop, .upstream = t.up, .slot = 1, .rule = t.rule, .ops = &fakes, .arg = &t });
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    connected(FAE_OK);
    assert_int_equal(t.n_told, 1);
    for (unsigned i = 0; i < 4; i++) {
        fae_pool_tick(other);
        fae_pool_skip(other, FAE_TICK_MS);
        fae_pool_tick(t.pool);
    }
    assert_int_equal(t.n_alive, 4);
    connected(FAE_OK);
    connected(FAE_OK);
    assert_int_equal(t.n_told, 3);
    assert_int_equal(atomic_load(&t.cell->n_slots), 1);
    fae_pool_free(&other);
}

static void without_a_row_max_is_the_workers(void **state)
{
    struct fae_upstream *up = t.up;
    struct asker a = { 0 }, b = { 0 };

    (void)state;
    t.up = NULL;
    t.rule.max = 1;
    make_pool();
    t.up = up;
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    assert_int_equal(t.n_alive, 1);
    connected(FAE_OK);
    fae_pool_skip(t.pool, 6000);
    fae_pool_tick(t.pool);
    give(&a, false);
    turn();
    connected(FAE_UNAVAILABLE);
    assert_int_equal(b.err, FAE_UNAVAILABLE);
    fae_pool_tick(t.pool);
}

/* ---- the breaker ---- */

static void open_the_breaker(void)
{
    for (unsigned i = 0; i < 5; i++)
        fae_upstream_end(t.up, &t.rule.breaker, 0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, fae_now_ms());
    assert_int_equal(atomic_load(&fae_upstream_breaker(t.up)->state), FAE_BREAKER_OPEN);
}

static void a_server_that_is_left_alone_is_looked_after(void **state)
{
    const struct fae_breaker *b = fae_upstream_breaker(t.up);
    unsigned n_attempts = 0;
    struct asker a = { 0 };

    (void)state;
    make_pool();
    open_the_breaker();
    fae_pool_tick(t.pool);
    fae_pool_skip(t.pool, 2000);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_made, 0); /* nobody asked for it */
    turn();                        /* the loop knows the time */
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_UNAVAILABLE);
    for (unsigned i = 0; i < 200; i++) { /* 10 s */
        fae_pool_tick(t.pool);
        fae_pool_skip(t.pool, 50);
        if (NOW(connecting)) {
            n_attempts++;
            connected(FAE_UNAVAILABLE);
        }
    }
    assert_in_range(n_attempts, 4, 8);
    for (unsigned i = 0; i < 60 && !NOW(connecting); i++) {
        fae_pool_tick(t.pool);
        fae_pool_skip(t.pool, 50);
    }
    connected(FAE_OK); /* it is there, or its machine is */
    assert_int_equal(atomic_load(&b->state), FAE_BREAKER_OPEN);
    checked(FAE_OK);
    assert_int_equal(atomic_load(&b->state), FAE_BREAKER_HALF_OPEN);
}

/* By another worker: our own pause is over too. */
static void a_server_that_was_reached_is_tried_at_once(void **state)
{
    struct asker a = { 0 };

    (void)state;
    make_pool();
    open_the_breaker();
    fae_pool_tick(t.pool);
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_UNAVAILABLE);
    memset(&a, 0, sizeof a);
    fae_pool_tick(t.pool);
    assert_int_equal(borrow(&a, 0), FAE_UNAVAILABLE);
    fae_upstream_reached(t.up, fae_now_ms());
    fae_pool_tick(t.pool);
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_OK);
    assert_int_equal(a.err, FAE_OK);
}

static void a_frozen_server_is_not_reached(void **state)
{
    const struct fae_breaker *b = fae_upstream_breaker(t.up);

    (void)state;
    with_idle(1);
    open_the_breaker();
    fae_pool_tick(t.pool);
    fae_pool_skip(t.pool, 2500);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_checks, 1); /* on what is there */
    checked(FAE_TIMEOUT);
    assert_int_equal(atomic_load(&b->state), FAE_BREAKER_OPEN);
    assert_int_equal(t.n_alive, 0);
}

static void what_an_operator_opened_stays_so(void **state)
{
    (void)state;
    make_pool();
    fae_upstream_force(t.up, FAE_BREAKER_FORCED_OPEN, fae_now_ms());
    for (unsigned i = 0; i < 100; i++) {
        fae_pool_tick(t.pool);
        fae_pool_skip(t.pool, 50);
    }
    assert_int_equal(t.n_made, 0);
}

/* ---- many ---- */

/* K4: 16 connections, 500 who ask at once, each for 20 ms of it: first come, first served, and who waits for 200 ms is
 * refused then. */
static void five_hundred_ask_at_once(void **state)
{
    static struct asker a[500];
    unsigned n_ok = 0, n_busy = 0;
    uint64_t wait_ns = 0;

    (void)state;
    memset(a, 0, sizeof a);
    t.rule = (struct fae_pool_rule){
        .max = 17, .waiting_max = 1024, .wait_ms = 200, .connect_timeout_ms = 1000, .timeout_ms = 1000
    };
    t.by_themselves = true;
    make_pool();
    for (unsigned i = 0; i < 500; i++) {
        a[i].hold_ms = 20;
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    }
    assert_int_equal(t.n_alive, 16);
    assert_int_equal(NOW(waiting), 500);
    until_told(500);
    turn_for(1, 50); /* the last ones give theirs back */
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(a[i].n_told, 1);
        n_ok += a[i].err == FAE_OK;
        n_busy += a[i].err == FAE_POOL_BUSY;
        wait_ns += a[i].told_ns - a[i].asked_ns;
        if (a[i].err)
            assert_true(a[i].told_ns - a[i].asked_ns >= 200 * 1000000u);
        if (i > 0)
            assert_false(a[i - 1].err && !a[i].err);
    }
    assert_int_equal(n_ok + n_busy, 500);
    assert_true(n_ok >= 16);
    assert_int_equal(COUNT(waits), 500);
    assert_int_equal(COUNT(busy), n_busy);
    assert_true(FAE_STAT_GET(t.cell->n.wait_ns) <= wait_ns);
    assert_true(FAE_STAT_GET(t.cell->n.wait_ns) >= wait_ns - wait_ns / 10);
    assert_int_equal(NOW(pinned), 0);
    assert_int_equal(NOW(idle), 16);
    assert_sums(0);
}

/* ---- in random order ---- */

#define N_ASKERS 24u

static struct asker random_askers[N_ASKERS];
static uint64_t seed;

static unsigned any(unsigned n)
{
    return (unsigned)(unit_random(&seed) % n);
}

static bool is_waiting(const struct asker *a)
{
    return a->id && a->n_told == 0 && !a->conn;
}

static void random_borrow(struct asker *a)
{
    enum fae_err err;

    if (is_waiting(a) || a->conn)
        return;
    memset(a, 0, sizeof *a);
    a->gives = any(8) == 0;
    err = borrow(a, any(4) ? 0 : fae_now_ms() + any(6));
    if (err == FAE_MORE)
        return;
    if (err == FAE_OK) {
        assert_true(a->id > t.last_id);
        t.last_id = a->id;
    }
    a->n_told = 1;
}

static struct fake *random_fake(int state)
{
    struct fake *found = NULL;
    unsigned n = 0;

    for (struct fae_list *at = t.fakes.next; at != &t.fakes; at = at->next) {
        struct fake *f = FAE_CONTAINER(at, struct fake, node);

        if ((int)f->state == state && any(++n) == 0)
            found = f;
    }
    return found;
}

static void random_world(void)
{
    enum fae_err err = any(4) ? FAE_OK : FAE_UNAVAILABLE;
    struct fake *f;

    switch (any(5)) {
    case 0:
        if ((f = random_fake(IS_CONNECTING))) {
            f->state = IS_READY;
            fae_pool_connected(&f->conn, err, "connection refused");
        }
        break;
    case 1:
        if ((f = random_fake(IS_RESETTING))) {
            f->state = IS_READY;
            fae_pool_was_reset(&f->conn, err);
        }
        break;
    case 2:
        if ((f = random_fake(IS_CHECKING))) {
            f->state = IS_READY;
            fae_pool_was_checked(&f->conn, err);
        }
        break;
    case 3:
        if (any(4) == 0 && (f = random_fake((int)any(4))))
            fae_pool_lost(&f->conn, "end of file");
        break;
    case 4: t.connect_errno = any(16) ? 0 : ECONNREFUSED; break;
    }
}

static void random_step(unsigned *n_shared)
{
    struct asker *a = &random_askers[any(N_ASKERS)];

    switch (any(10)) {
    case 0:
    case 1:
    case 2: random_borrow(a); break;
    case 3:
        if (is_waiting(a)) {
            fae_pool_cancel(t.pool, &a->ask);
            a->id = 0;
        }
        break;
    case 4:
        if (a->conn)
            give(a, any(5) != 0);
        break;
    case 5: fae_pool_tick(t.pool); break;
    case 6: fae_pool_skip(t.pool, any(8) ? any(60) : any(8000)); break;
    case 7: turn_for(0, any(8) == 0); break;
    case 8:
        if (*n_shared == 0)
            *n_shared += fae_pool_slot_take(t.pool);
        else
            fae_pool_slot_give(t.pool), --*n_shared;
        break;
    case 9: random_world(); break;
    }
}

static void assert_model(unsigned n_shared)
{
    unsigned n_waiting = 0, n_borrowed = 0;

    for (unsigned i = 0; i < N_ASKERS; i++) {
        const struct asker *a = &random_askers[i];

        assert_true(a->n_told <= 1);
        n_waiting += is_waiting(a);
        n_borrowed += a->conn != NULL;
    }
    assert_sums(n_shared);
    assert_true(t.n_alive + n_shared <= (t.rule.max > 1 ? t.rule.max - 1 : 1));
    assert_int_equal(NOW(waiting), n_waiting);
    assert_int_equal(NOW(pinned), n_borrowed);
    assert_true(fae_pool_quiet(t.pool) == (n_waiting + n_borrowed == 0));
}

static void in_random_order(void **state)
{
    unsigned n_rounds = getenv("FAE_LONG") ? 400 : 40;

    (void)state;
    for (unsigned round = 0; round < n_rounds; round++) {
        unsigned n_shared = 0;

        seed = 0x9e3779b97f4a7c15u + round;
        memset(random_askers, 0, sizeof random_askers);
        t.last_id = next_id = 0;
        t.rule.max = 1 + any(8);
        t.rule.waiting_max = any(20);
        t.rule.wait_ms = 1 + any(5);
        t.rule.connect_timeout_ms = 1 + any(20);
        t.rule.timeout_ms = 1 + any(20);
        t.rule.idle_ms = any(2) ? 0 : 1 + any(10000);
        t.rule.life_ms = any(2) ? 0 : 1 + any(20000);
        t.rule.warm = any(4);
        t.resets = any(2);
        t.tells_inside = any(4) == 0;
        t.by_themselves = any(2);
        make_pool();
        for (unsigned i = 0; i < 500; i++) {
            random_step(&n_shared);
            assert_model(n_shared);
        }
        fae_pool_free(&t.pool);
        for (unsigned i = 0; i < N_ASKERS; i++)
            assert_true(!random_askers[i].id || random_askers[i].n_told == 1);
        assert_int_equal(t.n_alive, 0);
        assert_sums(0);
        fae_upstream_force(t.up, FAE_BREAKER_AUTO, fae_now_ms());
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_rule_is_the_configurations),
        TEST(a_connection_is_made_lent_and_kept),
        TEST(the_newest_idle_one_is_lent),
        TEST(there_are_no_more_attempts_than_askers),
        TEST(who_comes_later_does_not_come_first),
        TEST(who_cancels_is_not_told),
        TEST(who_is_told_may_give_ask_and_free),
        TEST(freeing_closes_what_is_borrowed),
        TEST(a_full_queue_refuses),
        TEST(a_queue_of_none_still_connects),
        TEST(waits_end),
        TEST(who_waits_for_the_first_connection_hears_of_it),
        TEST(a_failed_attempt_fails_those_whom_no_other_can_serve),
        TEST(with_another_in_use_they_wait_on),
        TEST(a_pause_follows_and_then_one_attempt_at_a_time),
        TEST(what_cannot_begin_is_not_told_from_inside),
        TEST(who_is_not_let_in_says_nothing_about_the_server),
        TEST(refusals_open_the_breaker),
        TEST(a_lost_idle_connection_is_nobodys_failure),
        TEST(it_is_reset_between_borrowers),
        TEST(a_reset_may_be_over_at_once),
        TEST(idle_ones_are_checked),
        TEST(a_check_that_is_not_answered_ends),
        TEST(what_is_idle_or_old_is_closed),
        TEST(what_is_old_is_not_lent),
        TEST(some_are_kept_warm),
        TEST(slots_are_the_nodes),
        TEST(shared_ones_take_slots_too),
        TEST(idle_ones_are_given_up_for_other_workers),
        TEST(two_workers_share),
        TEST(without_a_row_max_is_the_workers),
        TEST(a_server_that_is_left_alone_is_looked_after),
        TEST(a_server_that_was_reached_is_tried_at_once),
        TEST(a_frozen_server_is_not_reached),
        TEST(what_an_operator_opened_stays_so),
        TEST(five_hundred_ask_at_once),
        TEST(in_random_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
