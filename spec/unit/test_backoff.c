/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/backoff: which deaths make the pause before the next start grow.
 */
#include "unit.h"

#include "base/limits.h"
#include "proc/backoff.h"

static void deaths_of_good_lives_cost_nothing(void **state)
{
    struct fae_backoff b = { 0 };

    (void)state;
    for (unsigned i = 0; i < 100; i++)
        assert_int_equal(fae_backoff_died(&b, 1000, false), 0);
}

static void quick_deaths_double_the_pause(void **state)
{
    static const uint64_t want[] = { 100, 200, 400, 800, 1600, 3200, 5000, 5000 };
    struct fae_backoff b = { 0 };

    (void)state;
    assert_int_equal(FAE_RESPAWN_MS, 100);
    assert_int_equal(FAE_RESPAWN_MAX_MS, 5000);
    for (unsigned i = 0; i < UNIT_N(want); i++)
        assert_int_equal(fae_backoff_died(&b, 999, false), want[i]);
    for (unsigned i = 0; i < 1000; i++)
        assert_int_equal(fae_backoff_died(&b, 0, false), FAE_RESPAWN_MAX_MS);
    assert_int_equal(fae_backoff_died(&b, 1000, false), 0);
    assert_int_equal(fae_backoff_died(&b, 0, false), FAE_RESPAWN_MS);
}

static void first_kill_of_the_watchdog_is_free(void **state)
{
    static const uint64_t want[] = { 0, 100, 200, 400 };
    struct fae_backoff b = { 0 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(want); i++)
        assert_int_equal(fae_backoff_died(&b, 5100, true), want[i]);
    /* A minute of peace clears it. */
    assert_int_equal(fae_backoff_died(&b, 60000, true), 0);
    assert_int_equal(fae_backoff_died(&b, 5100, true), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deaths_of_good_lives_cost_nothing),
        cmocka_unit_test(quick_deaths_double_the_pause),
        cmocka_unit_test(first_kill_of_the_watchdog_is_free),
    };

    return cmocka_run_group_tests_name("backoff", tests, NULL, NULL);
}
