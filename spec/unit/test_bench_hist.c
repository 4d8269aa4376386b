/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Latencies of a load: percentiles close to the truth, sums, differences.
 */
#include "unit.h"

#include "cmd/bench_hist.h"

static void test_precision(void **state)
{
    uint64_t random = 1;

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        struct fae_bench_hist *h = calloc(1, sizeof *h);
        uint64_t ns = unit_random(&random) >> (27 + i % 37), got;

        fae_bench_hist_add(h, ns, 1);
        FAE_STAT_SET(h->max_ns, UINT64_MAX); /* what the buckets alone say */
        got = fae_bench_hist_quantile(h, NULL, 0.5);
        if (got <= ns || (double)(got - ns) > 16 + (double)ns / 64)
            fail_msg("%llu ns became %llu", (unsigned long long)ns, (unsigned long long)got);
        free(h);
    }
}

static void test_buckets_rise(void **state)
{
    unsigned last = 0;

    (void)state;
    for (uint64_t ns = 0; ns < 1ull << 42; ns += 1 + ns / 256) {
        unsigned b = fae_bench_hist_bucket(ns);

        assert_true(b == last || b == last + 1);
        last = b;
    }
    assert_int_equal(last, FAE_BENCH_HIST_BUCKETS - 1);
}

static void test_quantiles(void **state)
{
    struct fae_bench_hist *h = calloc(1, sizeof *h), *before = calloc(1, sizeof *before);

    (void)state;
    assert_int_equal(fae_bench_hist_quantile(h, NULL, 0.99), 0);
    fae_bench_hist_add(h, 2000, 990);
    fae_bench_hist_add(h, 1000000, 10);
    assert_int_equal(fae_bench_hist_count(h), 1000);
    assert_in_range(fae_bench_hist_quantile(h, NULL, 0.5), 2000, 2032);
    assert_in_range(fae_bench_hist_quantile(h, NULL, 0.99), 2000, 2032);
    assert_int_equal(fae_bench_hist_quantile(h, NULL, 0.999), 1000000); /* never above the highest */
    assert_int_equal(FAE_STAT_GET(h->sum_ns), 990 * 2000 + 10 * 1000000);
    fae_bench_hist_merge(before, h);
    assert_int_equal(fae_bench_hist_quantile(h, before, 0.5), 0);
    fae_bench_hist_add(h, 50000, 3);
    assert_in_range(fae_bench_hist_quantile(h, before, 0.5), 50000, 50800);
    fae_bench_hist_merge(before, h);
    assert_int_equal(fae_bench_hist_count(before), 2003);
    assert_int_equal(FAE_STAT_GET(before->max_ns), 1000000);
    free(h);
    free(before);
}

static void test_beyond_the_last(void **state)
{
    struct fae_bench_hist *h = calloc(1, sizeof *h);

    (void)state;
    fae_bench_hist_add(h, 3600000000000, 1);
    assert_int_equal(fae_bench_hist_quantile(h, NULL, 0.5), 3600000000000);
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_precision),
        cmocka_unit_test(test_buckets_rise),
        cmocka_unit_test(test_quantiles),
        cmocka_unit_test(test_beyond_the_last),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
