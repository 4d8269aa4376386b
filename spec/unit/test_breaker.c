/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/breaker: its rules one by one.
 */
#include "unit_breaker.h"

static void a_share_of_failures_opens_it(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    for (unsigned i = 0; i < 9; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_VOID), FAE_BREAKER_STAYS); /* says nothing */
    assert_int_equal(call(1, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
    assert_int_equal(s->breaker.why.reason, FAE_BREAKER_BY_SHARE);
    assert_int_equal(s->breaker.why.failed, 10);
    assert_int_equal(s->breaker.why.calls, 20);
    assert_int_equal(s->breaker.n_opened, 1);
}

static void few_or_old_failures_do_not(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    now += FAE_BREAKER_WINDOW_S * 1000;
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(call(1, FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
}

static void refusals_in_a_row_open_it_of_all_workers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    call(0, FAE_BREAKER_OK);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    fae_breaker_reached(&s->breaker, now); /* a connection that came about ends a row as well */
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(i % WORKERS, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    assert_int_equal(s->breaker.why.reason, FAE_BREAKER_BY_REFUSALS);
}

static void open_it_refuses_and_says_until_when(void **state)
{
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)state;
    open_it();
    now += 1200;
    assert_false(enter_as(1, &permit, &retry_ms, &change));
    assert_int_equal(retry_ms, 3800);
    assert_int_equal(s->breaker.n_rejected, 1);
    now += 3800;
    assert_true(enter_as(1, &permit, &retry_ms, &change));
    assert_int_equal(change, FAE_BREAKER_HALF_OPENS);
    assert_int_not_equal(permit.probe, 0);
}

static void probes_close_it_and_the_window_begins_anew(void **state)
{
    struct fae_permit probes[FAE_BREAKER_PROBES], one_more;

    (void)state;
    for (unsigned i = 0; i < 19; i++)
        call(0, FAE_BREAKER_FAILED);
    open_it();
    now += 5000;
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++)
        assert_true(enter(&probes[i]));
    assert_false(enter(&one_more));
    assert_int_equal(end_as(0, probes[0], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_true(enter(&one_more));
    assert_int_equal(end_as(0, one_more, FAE_BREAKER_VOID), FAE_BREAKER_STAYS);
    assert_int_equal(end_as(0, probes[1], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_int_equal(end_as(0, probes[2], FAE_BREAKER_OK), FAE_BREAKER_CLOSES);
    for (unsigned i = 0; i < 19; i++)
        assert_int_equal(call(0, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
}

static void one_failed_probe_opens_it_again_half_as_long_again(void **state)
{
    uint64_t open_ms[] = { 5000, 7500, 11250, 16875, 25313, 37970, 56955, 60000, 60000, 60000 };
    struct fae_permit permit;

    (void)state;
    open_it();
    for (unsigned i = 0; i < UNIT_N(open_ms); i++) {
        assert_int_equal(s->breaker.until_ms - now, open_ms[i]);
        now = s->breaker.until_ms;
        assert_true(enter(&permit));
        assert_int_equal(end_as(0, permit, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
        assert_int_equal(s->breaker.why.reason, FAE_BREAKER_BY_PROBE);
    }
}

static void a_tenth_of_the_time_is_random(void **state)
{
    (void)state;
    for (unsigned i = 0; i < rule.refusals; i++)
        fae_breaker_end(&s->breaker, &rule, s->cells, WORKERS, 0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, now,
                        UINT32_MAX);
    assert_in_range(s->breaker.until_ms - now, 4500, 4501);
}

static void what_was_entered_earlier_neither_closes_nor_opens_it(void **state)
{
    struct fae_permit early[8], probe;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(early); i++)
        assert_true(enter(&early[i]));
    open_it();
    assert_int_equal(end_as(0, early[0], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    now += 5000;
    assert_true(enter(&probe));
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(end_as(0, early[i], FAE_BREAKER_OK), FAE_BREAKER_STAYS);
    assert_int_equal(end_as(0, early[5], FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(s->breaker.state, FAE_BREAKER_HALF_OPEN);
    /* But a connection that is refused now is news. */
    assert_int_equal(end_as(0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    /* And the probe of the time before says nothing of the next. */
    now += 7500;
    assert_true(enter(&early[0]));
    assert_int_equal(end_as(0, probe, FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 1);
}

static void probes_expire_and_are_reaped(void **state)
{
    struct fae_permit old[3], permit;
    enum fae_breaker_change change;
    uint32_t retry_ms;

    (void)state;
    open_it();
    now += 5000;
    for (unsigned i = 0; i < 3; i++)
        assert_true(enter_as(i % 2, &old[i], &retry_ms, &change));
    assert_false(enter(&permit));
    fae_breaker_reap(&s->breaker, 0);
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 1);
    now += FAE_BREAKER_PROBE_MS;
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_true(enter(&permit));
    assert_int_equal(end_as(0, old[1], FAE_BREAKER_FAILED), FAE_BREAKER_STAYS);
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 3);
}

static void who_reached_it_lets_it_be_tried_at_once(void **state)
{
    struct fae_permit permit;

    (void)state;
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    open_it();
    assert_false(enter(&permit));
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    assert_true(enter(&permit));
}

static void who_reached_it_is_not_believed_twice(void **state)
{
    struct fae_permit permit;

    (void)state;
    open_it();
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
    assert_true(enter(&permit));
    assert_int_equal(end_as(0, permit, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    now = s->breaker.until_ms;
    assert_true(enter(&permit));
    assert_int_equal(end_as(0, permit, FAE_BREAKER_FAILED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
    /* One that is gone again may come back again. */
    assert_int_equal(end_as(0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_HALF_OPENS);
}

static void an_operator_decides(void **state)
{
    struct fae_permit permit;

    (void)state;
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_FORCED_OPEN, now), FAE_BREAKER_OPENS);
    now += 10 * FAE_BREAKER_OPEN_MAX_MS;
    assert_int_equal(fae_breaker_reached(&s->breaker, now), FAE_BREAKER_STAYS);
    assert_false(enter(&permit));
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_FORCED_CLOSED, now), FAE_BREAKER_CLOSES);
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(call(0, i % 2 ? FAE_BREAKER_FAILED : FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_AUTO, now), FAE_BREAKER_STAYS);
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS);
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_AUTO, now), FAE_BREAKER_CLOSES);
    assert_true(enter(&permit));
}

static void percent_0_never_opens_it_and_closes_an_open_one(void **state)
{
    struct fae_breaker_rule off = rule;
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)state;
    off.percent = 0;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(fae_breaker_end(&s->breaker, &off, s->cells, WORKERS, 0, (struct fae_permit){ 0 },
                                         FAE_BREAKER_REFUSED, now, 0),
                         FAE_BREAKER_STAYS);
    assert_int_equal(call(0, FAE_BREAKER_REFUSED), FAE_BREAKER_OPENS); /* the configuration was changed */
    assert_true(fae_breaker_enter(&s->breaker, &off, 0, now, &permit, &retry_ms, &change));
    assert_int_equal(change, FAE_BREAKER_CLOSES);
    assert_int_equal(permit.probe, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_share_of_failures_opens_it),
        TEST(few_or_old_failures_do_not),
        TEST(refusals_in_a_row_open_it_of_all_workers),
        TEST(open_it_refuses_and_says_until_when),
        TEST(probes_close_it_and_the_window_begins_anew),
        TEST(one_failed_probe_opens_it_again_half_as_long_again),
        TEST(a_tenth_of_the_time_is_random),
        TEST(what_was_entered_earlier_neither_closes_nor_opens_it),
        TEST(probes_expire_and_are_reaped),
        TEST(who_reached_it_lets_it_be_tried_at_once),
        TEST(who_reached_it_is_not_believed_twice),
        TEST(an_operator_decides),
        TEST(percent_0_never_opens_it_and_closes_an_open_one),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
