/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/hist: buckets and percentiles.
 */
#include "unit.h"

#include "base/hist.h"

static void every_value_lies_in_its_bucket(void **state)
{
    uint64_t seed = 88172645463325252u;

    (void)state;
    for (unsigned i = 0; i < 200000; i++) {
        uint64_t ns = i < 100000 ? i : unit_random(&seed) >> (unit_random(&seed) % 64);
        unsigned b = fae_hist_bucket(ns);

        assert_true(b < FAE_HIST_BUCKETS);
        assert_true(b == 0 || ns >= fae_hist_bound(b - 1));
        assert_true(b == FAE_HIST_BUCKETS - 1 || ns < fae_hist_bound(b));
        /* Four linear steps an octave: the first is a quarter of its start. */
        if (b > 0 && b < FAE_HIST_BUCKETS - 1)
            assert_true((double)fae_hist_bound(b) <= (double)ns * 1.25);
    }
}

static void bounds_rise_to_over_a_minute(void **state)
{
    (void)state;
    assert_int_equal(fae_hist_bound(0), 128);
    for (unsigned b = 1; b < FAE_HIST_BUCKETS; b++)
        assert_true(fae_hist_bound(b) > fae_hist_bound(b - 1));
    assert_true(fae_hist_bound(FAE_HIST_BUCKETS - 1) > 60000000000u);
    assert_int_equal(fae_hist_bucket(UINT64_MAX), FAE_HIST_BUCKETS - 1);
}

static void quantiles(void **state)
{
    static struct fae_hist a, b;
    const struct fae_hist *both[] = { &a, &b };

    (void)state;
    memset(&a, 0, sizeof a);
    memset(&b, 0, sizeof b);
    assert_int_equal(fae_hist_quantile(both, 2, 0.5), 0);
    assert_int_equal(fae_hist_quantile(both, 0, 0.5), 0);
    for (unsigned i = 0; i < 90; i++)
        fae_hist_add(&a, 1000);
    for (unsigned i = 0; i < 10; i++)
        fae_hist_add(&b, 1000000);
    assert_int_equal(fae_hist_quantile(both, 1, 1.0), fae_hist_bound(fae_hist_bucket(1000)));
    assert_int_equal(fae_hist_quantile(both, 2, 0.5), fae_hist_bound(fae_hist_bucket(1000)));
    assert_int_equal(fae_hist_quantile(both, 2, 0.9), fae_hist_bound(fae_hist_bucket(1000)));
    assert_int_equal(fae_hist_quantile(both, 2, 0.91), fae_hist_bound(fae_hist_bucket(1000000)));
    assert_int_equal(fae_hist_quantile(both, 2, 1.0), fae_hist_bound(fae_hist_bucket(1000000)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_value_lies_in_its_bucket),
        cmocka_unit_test(bounds_rise_to_over_a_minute),
        cmocka_unit_test(quantiles),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
