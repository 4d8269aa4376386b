/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/pool: who is served when, who waits and for how long, what a failed attempt means for whom; nobody is told from
 * inside his own call.
 */
#include "unit_pool.h"

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

static void an_idle_one_is_lent_to_nobody_who_waits_behind_others(void **state)
{
    struct fae_pool_conn *conn;
    struct asker a[5] = { 0 };

    (void)state;
    with_idle(4);
    conn = fae_pool_borrow_idle(t.pool);
    assert_non_null(conn);
    assert_int_equal(NOW(used), 1);
    fae_pool_give(conn, true);
    for (unsigned i = 0; i < 4; i++)
        a[i] = borrowed();
    assert_null(fae_pool_borrow_idle(t.pool));
    assert_int_equal(t.n_made, 4); /* none is made for it */
    assert_int_equal(borrow(&a[4], 0), FAE_MORE);
    give(&a[0], true);
    assert_null(fae_pool_borrow_idle(t.pool)); /* it is his who waits */
    until_told(1);
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

/* A reload made it anew, and the one before holds all there are for as long as somebody blocks on it. */
static void the_next_pool_has_a_connection_too(void **state)
{
    struct fae_pool *before;
    struct asker a, b = { 0 };

    (void)state;
    t.rule.max = 1;
    with_idle(1);
    before = t.pool;
    a = borrowed();
    make_pool();
    assert_int_equal(borrow(&b, 0), FAE_MORE);
    assert_int_equal(t.n_made, 2);
    connected(FAE_OK);
    assert_int_equal(b.err, FAE_OK);
    assert_false(fae_pool_slot_take(t.pool));
    give(&b, true);
    fae_pool_give(a.conn, true);
    fae_pool_free(&before);
    fae_pool_free(&t.pool);
    assert_int_equal(atomic_load(&t.cell->n_slots), 0);
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
    borrow_within(&b, 15);
    borrow_within(&c, 100000);
    until_told(3);
    assert_int_equal(b.err, FAE_TIMEOUT);
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
    borrow_within(&b, 10);
    until_told(2);
    assert_int_equal(b.err, FAE_TIMEOUT);
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
    fae_pool_skip(t.pool, 200);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_rule_is_the_configurations),
        TEST(a_connection_is_made_lent_and_kept),
        TEST(the_newest_idle_one_is_lent),
        TEST(an_idle_one_is_lent_to_nobody_who_waits_behind_others),
        TEST(there_are_no_more_attempts_than_askers),
        TEST(who_comes_later_does_not_come_first),
        TEST(who_cancels_is_not_told),
        TEST(who_is_told_may_give_ask_and_free),
        TEST(freeing_closes_what_is_borrowed),
        TEST(the_next_pool_has_a_connection_too),
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
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
