/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/gate: never more in flight than the rule says, whoever comes at once; the rate and its burst to a call; what is
 * given back, reaped, and found by name.
 */
#include "unit.h"

#include <pthread.h>

#include "base/shm.h"
#include "rpc/gate.h"

#define SECOND 1000000000ull
#define MS 1000000ull

static const struct fae_shm_region regions[] = { { "gates", fae_gates_size, fae_gates_init } };
static struct fae_shm shm;
static struct fae_gates *gates;

static int set_up(void **state)
{
    (void)state;
    if (fae_shm_map(&shm, regions, 1, NULL))
        return -1;
    gates = fae_shm_get(&shm, "gates");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_shm_unmap(&shm);
    return 0;
}

static enum fae_gate_answer enter(const struct fae_gate_rule *rule, unsigned slot, uint64_t now_ns, uint32_t *after_ms)
{
    return fae_gate_enter(gates, 0, rule, slot, 4, now_ns, after_ms);
}

/* ---- rules ---- */

static void rules_come_from_numbers_as_they_are_written(void **state)
{
    static const struct {
        uint64_t calls, rate, burst;
        struct fae_gate_rule rule;
    } rows[] = {
        { 0, 0, 0, { 0, 0, 0 } },
        { 7, 0, 9, { 7, 0, 0 } }, /* a burst of nothing */
        { 0, 10, 0, { 0, SECOND / 10, SECOND } },
        { 0, 10, 25, { 0, SECOND / 10, SECOND / 10 * 25 } },
        { 0, 1, 1, { 0, SECOND, SECOND } },
        { 0, SECOND, 0, { 0, 1, SECOND } },
        { 0, SECOND * 5, 0, { 0, 1, SECOND } },
        { 1ull << 40, 0, 0, { UINT32_MAX, 0, 0 } },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        struct fae_gate_rule rule;

        fae_gate_rule(&rule, rows[i].calls, rows[i].rate, rows[i].burst);
        assert_int_equal(rule.calls, rows[i].rule.calls);
        assert_int_equal(rule.step_ns, rows[i].rule.step_ns);
        assert_int_equal(rule.burst_ns, rows[i].rule.burst_ns);
    }
}

/* ---- in flight ---- */

static void in_flight_is_counted_over_all_workers(void **state)
{
    struct fae_gate_rule rule;
    uint32_t after_ms = 12345;

    (void)state;
    fae_gate_rule(&rule, 3, 0, 0);
    assert_int_equal(enter(&rule, 0, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 1, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 1, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 0, 0, &after_ms), FAE_GATE_FULL);
    assert_int_equal(enter(&rule, 3, 0, &after_ms), FAE_GATE_FULL);
    assert_int_equal(fae_gate_calls(gates, 0, 4), 3);
    assert_int_equal(after_ms, 12345);
    fae_gate_leave(gates, 0, 1);
    assert_int_equal(enter(&rule, 3, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(fae_gate_calls(gates, 0, 4), 3);
    assert_int_equal(fae_gate_calls(gates, 1, 4), 0); /* the next gate is another */
}

static void a_gate_without_a_limit_counts_all_the_same(void **state)
{
    struct fae_gate_rule none, two;
    uint32_t after_ms;

    (void)state;
    fae_gate_rule(&none, 0, 0, 0);
    fae_gate_rule(&two, 2, 0, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(enter(&none, 2, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&two, 0, 0, &after_ms), FAE_GATE_FULL); /* the limit came with a reload */
    for (int i = 0; i < 4; i++)
        fae_gate_leave(gates, 0, 2);
    assert_int_equal(enter(&two, 0, 0, &after_ms), FAE_GATE_OPEN);
}

static void a_dead_workers_calls_are_given_back(void **state)
{
    struct fae_gate_rule rule;
    uint32_t after_ms;

    (void)state;
    fae_gate_rule(&rule, 2, 0, 0);
    assert_int_equal(enter(&rule, 0, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 1, 0, &after_ms), FAE_GATE_OPEN);
    fae_gates_reap(gates, 1);
    assert_int_equal(fae_gate_calls(gates, 0, 4), 1);
    assert_int_equal(enter(&rule, 2, 0, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 2, 0, &after_ms), FAE_GATE_FULL);
}

static void leave_more_than_enter(void *arg)
{
    (void)arg;
    fae_gate_leave(gates, 0, 0);
}

static void leaving_what_was_not_entered_is_a_bug(void **state)
{
    (void)state;
    assert_true(unit_aborts(leave_more_than_enter, NULL));
}

/* ---- rate ---- */

static void a_burst_and_then_the_rate(void **state)
{
    struct fae_gate_rule rule;
    uint64_t now_ns = 1000 * SECOND;
    uint32_t after_ms = 0;

    (void)state;
    fae_gate_rule(&rule, 0, 10, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(enter(&rule, 0, now_ns, &after_ms), FAE_GATE_OPEN);
    for (int i = 0; i < 3; i++) { /* being refused costs nothing */
        assert_int_equal(enter(&rule, 1, now_ns, &after_ms), FAE_GATE_TOO_FAST);
        assert_int_equal(after_ms, 100);
    }
    assert_int_equal(fae_gate_calls(gates, 0, 4), 3);
    assert_int_equal(enter(&rule, 1, now_ns + 99 * MS, &after_ms), FAE_GATE_TOO_FAST);
    assert_int_equal(after_ms, 1);
    assert_int_equal(enter(&rule, 1, now_ns + 99 * MS + MS / 2, &after_ms), FAE_GATE_TOO_FAST);
    assert_int_equal(after_ms, 1); /* never 0: it would be too early */
    assert_int_equal(enter(&rule, 1, now_ns + 100 * MS, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 1, now_ns + 100 * MS, &after_ms), FAE_GATE_TOO_FAST);
    now_ns += 3600 * SECOND; /* an hour's silence is worth a burst, no more */
    for (int i = 0; i < 3; i++)
        assert_int_equal(enter(&rule, 0, now_ns, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 0, now_ns, &after_ms), FAE_GATE_TOO_FAST);
}

static void over_a_minute_the_rate_is_exact(void **state)
{
    static const uint64_t rates[] = { 1, 3, 7, 1000, 33333 };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rates); i++) {
        struct fae_gate_rule rule;
        fae_bucket bucket = 0;
        uint64_t seed = 88172645463325252ull + i, now_ns = SECOND, end_ns = 61 * SECOND, n = 0;
        uint32_t after_ms;

        fae_gate_rule(&rule, 0, rates[i], 1);
        for (; now_ns < end_ns; now_ns += unit_random(&seed) % (SECOND / rates[i] / 4 + 1))
            n += fae_bucket_take(&bucket, &rule, now_ns, &after_ms);
        assert_in_range(n, rates[i] * 60 * 75 / 100, rates[i] * 60 + 1); /* never more, whatever the steps */
    }
}

static void a_burst_is_not_taken_over_by_a_smaller_one(void **state)
{
    struct fae_gate_rule large, small;
    uint64_t now_ns = 5 * SECOND;
    uint32_t after_ms;
    fae_bucket bucket = 0;

    (void)state;
    fae_gate_rule(&large, 0, 1, 1000); /* 1000 s ahead of the rate */
    fae_gate_rule(&small, 0, 10, 2);
    for (int i = 0; i < 1000; i++)
        assert_true(fae_bucket_take(&bucket, &large, now_ns, &after_ms));
    assert_false(fae_bucket_take(&bucket, &small, now_ns, &after_ms));
    assert_int_equal(after_ms, 100); /* as of an empty bucket, not of the old one */
    assert_false(fae_bucket_take(&bucket, &large, now_ns, &after_ms));
}

static void what_another_gate_refused_is_given_back(void **state)
{
    struct fae_gate_rule rule;
    uint32_t after_ms;

    (void)state;
    fae_gate_rule(&rule, 1, 10, 1);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(enter(&rule, 0, SECOND, &after_ms), FAE_GATE_OPEN);
        fae_gate_undo(gates, 0, &rule, 0);
    }
    assert_int_equal(fae_gate_calls(gates, 0, 4), 0);
    assert_int_equal(enter(&rule, 0, SECOND, &after_ms), FAE_GATE_OPEN);
    assert_int_equal(enter(&rule, 0, SECOND, &after_ms), FAE_GATE_FULL); /* full comes before too fast: no token lost */
    fae_gate_leave(gates, 0, 0);
    assert_int_equal(enter(&rule, 0, SECOND, &after_ms), FAE_GATE_TOO_FAST);
    assert_int_equal(fae_gate_calls(gates, 0, 4), 0);
}

/* ---- names ---- */

static void a_pattern_keeps_its_gate(void **state)
{
    char name[32], long_name[FAE_METHOD_NAME_MAX + 2];

    (void)state;
    assert_int_equal(fae_gates_find(gates, "shop.*"), 0);
    assert_int_equal(fae_gates_find(gates, "shop.buy"), 1);
    assert_int_equal(fae_gates_find(gates, "shop.*"), 0);
    assert_int_equal(fae_gates_find(gates, ""), -1);
    memset(long_name, 'x', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(fae_gates_find(gates, long_name), -1);
    assert_int_equal(fae_gates_find(gates, long_name + 1), 2);
    for (unsigned i = 3; i < FAE_GATES_MAX; i++) {
        snprintf(name, sizeof name, "m%u.x", i);
        assert_int_equal(fae_gates_find(gates, name), i);
    }
    assert_int_equal(fae_gates_find(gates, "one.more"), -1);
    assert_int_equal(fae_gates_find(gates, "shop.buy"), 1);
}

/* ---- all at once ---- */

#define THREADS 4
#define LIMIT 3
#define ROUNDS 200000

static _Atomic int inside, most;
static _Atomic uint64_t let_in;

static void *storm(void *arg)
{
    unsigned slot = (unsigned)(uintptr_t)arg;
    struct fae_gate_rule rule = { .calls = LIMIT };
    uint32_t after_ms;

    for (int i = 0; i < ROUNDS; i++) {
        int n, m;

        if (enter(&rule, slot, 0, &after_ms) != FAE_GATE_OPEN)
            continue;
        n = atomic_fetch_add(&inside, 1) + 1;
        m = atomic_load(&most);
        while (n > m && !atomic_compare_exchange_weak(&most, &m, n))
            continue;
        atomic_fetch_add(&let_in, 1);
        if (i % 64 == 0)
            sched_yield();
        atomic_fetch_sub(&inside, 1);
        fae_gate_leave(gates, 0, slot);
    }
    return NULL;
}

static void never_over_the_limit(void **state)
{
    pthread_t threads[THREADS];

    (void)state;
    for (uintptr_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, storm, (void *)i), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_in_range(atomic_load(&most), 1, LIMIT);
    assert_true(atomic_load(&let_in) > ROUNDS / 10);
    assert_int_equal(fae_gate_calls(gates, 0, THREADS), 0);
}

static _Atomic uint64_t taken;

static void *grab(void *arg)
{
    struct fae_gate_rule rule;
    uint32_t after_ms;

    fae_gate_rule(&rule, 0, 1000, 5000);
    for (int i = 0; i < ROUNDS; i++)
        if (fae_bucket_take(arg, &rule, SECOND, &after_ms))
            atomic_fetch_add(&taken, 1);
    return NULL;
}

static void a_bucket_gives_each_share_once(void **state)
{
    pthread_t threads[THREADS];
    fae_bucket bucket = 0;

    (void)state;
    for (unsigned i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, grab, &bucket), 0);
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&taken), 5000);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(rules_come_from_numbers_as_they_are_written),
        TEST(in_flight_is_counted_over_all_workers),
        TEST(a_gate_without_a_limit_counts_all_the_same),
        TEST(a_dead_workers_calls_are_given_back),
        TEST(leaving_what_was_not_entered_is_a_bug),
        TEST(a_burst_and_then_the_rate),
        TEST(over_a_minute_the_rate_is_exact),
        TEST(a_burst_is_not_taken_over_by_a_smaller_one),
        TEST(what_another_gate_refused_is_given_back),
        TEST(a_pattern_keeps_its_gate),
        TEST(never_over_the_limit),
        TEST(a_bucket_gives_each_share_once),
    };

    return cmocka_run_group_tests_name("gate", tests, NULL, NULL);
}
