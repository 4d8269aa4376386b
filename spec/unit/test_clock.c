/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/clock: times rise, and ticks measure what the monotonic clock measures.
 */
#include "unit.h"

#include "base/clock.h"

static void time_rises(void **state)
{
    uint64_t last = fae_now_ns(), last_ticks = fae_ticks();

    (void)state;
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t now = fae_now_ns(), ticks = fae_ticks();

        assert_true(now >= last);
        assert_true(ticks >= last_ticks);
        last = now;
        last_ticks = ticks;
    }
    assert_true(fae_now_ms() - last / 1000000 < 1000);
}

static void ticks_are_nanoseconds_of_the_clock(void **state)
{
    uint64_t n0 = fae_now_ns(), t0 = fae_ticks(), t1, n1, ns;

    (void)state;
    unit_sleep_ms(50);
    t1 = fae_ticks();
    n1 = fae_now_ns();
    ns = fae_ticks_to_ns(t1 - t0);
    assert_true(ns <= (n1 - n0) + (n1 - n0) / 50);
    assert_true(ns >= 45000000);
}

static void long_times_do_not_overflow(void **state)
{
    uint64_t year =
        fae_ticks_to_ns((uint64_t)((double)(365ull * 86400 * 1000000000) * 4294967296.0 / (double)fae_clock_mult));

    (void)state;
    assert_true(year / 1000000000 > 365ull * 86400 - 100);
    assert_true(year / 1000000000 < 365ull * 86400 + 100);
}

static void wall_time_is_the_systems(void **state)
{
    uint64_t before = (uint64_t)time(NULL), ms = fae_wall_ms();

    (void)state;
    assert_true(ms / 1000 + 1 >= before);
    assert_true(ms / 1000 <= (uint64_t)time(NULL) + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_rises),
        cmocka_unit_test(ticks_are_nanoseconds_of_the_clock),
        cmocka_unit_test(long_times_do_not_overflow),
        cmocka_unit_test(wall_time_is_the_systems),
    };

    fae_clock_init();
    fae_clock_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
