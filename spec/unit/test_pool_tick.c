/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/pool: what becomes of connections between borrowers: reset, checked, closed, kept warm, given up for other workers,
 * and made to see whether a server is back.
 */
#include "unit_pool.h"

/* ---- between borrowers ---- */

static void it_is_reset_between_borrowers(void **state)
{
    struct asker a = { 0 }, b = { 0 };

    (void)state;
    t.rule.max = 1;
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
    give(&b, true);
    fae_pool_was_reset(&fake_of(IS_RESETTING)->conn, FAE_UNKNOWN);
    assert_int_equal(t.n_alive, 0);
    assert_sums(0);
}

static void a_reset_that_is_not_answered_ends(void **state)
{
    struct asker a = { 0 }, b = { 0 };

    (void)state;
    t.rule.max = 1;
    t.rule.timeout_ms = 10;
    t.resets = true;
    make_pool();
    assert_int_equal(borrow(&a, 0), FAE_MORE);
    connected(FAE_OK);
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    give(&a, true);
    turn_for(1, 30);
    assert_int_equal(t.n_closed, 1);
    connected(FAE_OK); /* another, for who waits */
    assert_int_equal(b.err, FAE_OK);
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
    t.rule.idle_ms = 100000;
    t.rule.life_ms = 1000000;
    with_idle(3);
    a = borrowed();
    fae_pool_skip(t.pool, 80000);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 3);
    checked(FAE_OK);
    fae_pool_skip(t.pool, 40000);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_alive, 1); /* mine */
    fae_pool_skip(t.pool, 1100000);
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
    for (unsigned i = 0; i < 4; i++) {
        fae_pool_tick(t.pool);
        assert_int_equal(NOW(connecting), 0); /* a pause */
        fae_pool_skip(t.pool, 50);
    }
    fae_pool_skip(t.pool, 600);
    fae_pool_tick(t.pool);
    connected(FAE_OK);
    assert_int_equal(t.n_alive, 2);
}

static void one_that_was_replaced_keeps_nothing_ready(void **state)
{
    struct asker a = { 0 };

    (void)state;
    t.rule.warm = 3;
    with_idle(3);
    assert_int_equal(borrow(&a, 0), FAE_OK);
    fae_pool_retire(t.pool);
    assert_int_equal(t.n_alive, 1);
    fae_pool_tick(t.pool);
    assert_int_equal(t.n_made, 3);
    assert_false(fae_pool_quiet(t.pool));
    fae_pool_give(a.conn, true);
    assert_int_equal(t.n_alive, 0);
    assert_true(fae_pool_quiet(t.pool));
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

/* One has most and keeps them busy; the other has one, and askers: they come to have as many. */
static void a_busy_worker_shares_too(void **state)
{
    struct asker a[6] = { 0 }, b[4] = { 0 };
    struct fae_pool *pools[2];

    (void)state;
    t.rule.max = 6;
    make_pool();
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(borrow(&a[i], 0), FAE_MORE);
    for (unsigned i = 0; i < 5; i++)
        connected(FAE_OK);
    pools[0] = t.pool;
    pools[1] = t.pool = fae_pool_new(&(struct fae_pool_opts){
        .loop = &t.loop, .upstream = t.up, .slot = 1, .rule = t.rule, .ops = &fakes, .arg = &t });
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(borrow(&b[i], 0), FAE_MORE);
    connected(FAE_OK);
    for (unsigned round = 0; round < 4; round++) {
        t.last_id = 0; /* there are two queues now */
        fae_pool_tick(pools[0]);
        give(&a[round], true);
        turn();
        t.last_id = 0;
        fae_pool_tick(pools[1]);
        while (fake_of(IS_CONNECTING))
            connected(FAE_OK);
    }
    assert_int_equal(atomic_load(&t.cell->n_slots), 3);
    assert_int_equal(atomic_load(&fae_upstream_cell(t.up, 1)->n_slots), 3);
    assert_non_null(a[5].conn);
    assert_non_null(b[2].conn);
    assert_null(b[3].conn);
    fae_pool_free(&pools[0]);
    fae_pool_free(&t.pool);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(it_is_reset_between_borrowers),
        TEST(a_reset_that_is_not_answered_ends),
        TEST(a_reset_may_be_over_at_once),
        TEST(idle_ones_are_checked),
        TEST(a_check_that_is_not_answered_ends),
        TEST(what_is_idle_or_old_is_closed),
        TEST(what_is_old_is_not_lent),
        TEST(some_are_kept_warm),
        TEST(one_that_was_replaced_keeps_nothing_ready),
        TEST(slots_are_the_nodes),
        TEST(shared_ones_take_slots_too),
        TEST(idle_ones_are_given_up_for_other_workers),
        TEST(two_workers_share),
        TEST(a_busy_worker_shares_too),
        TEST(without_a_row_max_is_the_workers),
        TEST(a_server_that_is_left_alone_is_looked_after),
        TEST(a_server_that_was_reached_is_tried_at_once),
        TEST(a_frozen_server_is_not_reached),
        TEST(what_an_operator_opened_stays_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
