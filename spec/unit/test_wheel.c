/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/wheel: against a plain list of timers, with a clock of its own.
 */
#include <stdlib.h>

#include "net/wheel.h"
#include "unit.h"

#define N 300u

static struct fae_wheel wheel;
static struct fae_wheel_node timers[N];
static uint64_t due_ms[N]; /* the model: 0 is not running */
static uint64_t now_ms;

static void begin(uint64_t at_ms)
{
    now_ms = at_ms;
    memset(timers, 0, sizeof timers);
    memset(due_ms, 0, sizeof due_ms);
    fae_wheel_init(&wheel, now_ms);
}

static unsigned index_of(struct fae_list *node)
{
    return (unsigned)(FAE_CONTAINER(node, struct fae_wheel_node, node) - timers);
}

/* Time goes on; what comes must be what the model says, those due first in front. */
static void move_to(uint64_t ms)
{
    uint64_t next_ms = fae_wheel_next_ms(&wheel), first_ms = FAE_WHEEL_NEVER, before_ms = 0;
    struct fae_list due;

    for (unsigned i = 0; i < N; i++)
        if (due_ms[i] && due_ms[i] < first_ms)
            first_ms = due_ms[i];
    assert_true(next_ms <= first_ms || next_ms <= now_ms + 1);
    assert_true(first_ms != FAE_WHEEL_NEVER || next_ms == FAE_WHEEL_NEVER);
    now_ms = ms;
    fae_list_init(&due);
    fae_wheel_take(&wheel, now_ms, &due);
    while (!fae_list_empty(&due)) {
        unsigned i = index_of(due.next);

        assert_true(fae_wheel_running(&timers[i]));
        assert_true(due_ms[i] && due_ms[i] <= now_ms);
        assert_true(due_ms[i] >= before_ms || before_ms == 0);
        before_ms = due_ms[i];
        fae_wheel_stop(&wheel, &timers[i]);
        due_ms[i] = 0;
    }
    for (unsigned i = 0; i < N; i++) {
        assert_true(due_ms[i] == 0 || due_ms[i] > now_ms);
        assert_int_equal(fae_wheel_running(&timers[i]), due_ms[i] != 0);
    }
}

static uint64_t spread(void)
{
    static const uint64_t spans[] = { 4, 300, 20000, 2000000, 80000000, 400000000 };

    return 1 + (uint64_t)random() % spans[random() % 6];
}

static void test_model(void **state)
{
    static const uint64_t starts[] = { 0, 1, 255, 256, 65535, 1048575, (1ull << 26) - 1, 1ull << 40 };

    (void)state;
    srandom(7);
    for (unsigned s = 0; s < sizeof starts / sizeof *starts; s++) {
        begin(starts[s]);
        for (unsigned step = 0; step < 3000; step++) {
            unsigned i = (unsigned)random() % N;

            if (random() % 4 == 0) {
                fae_wheel_stop(&wheel, &timers[i]);
                due_ms[i] = 0;
            } else {
                due_ms[i] = now_ms + spread();
                fae_wheel_start(&wheel, &timers[i], due_ms[i]);
            }
            if (random() % 3 == 0)
                move_to(now_ms + (random() % 50 ? (uint64_t)random() % 400 : spread()));
        }
        move_to(now_ms + 500000000);
        assert_int_equal(fae_wheel_next_ms(&wheel), FAE_WHEEL_NEVER);
    }
}

/* Looked at exactly when it says, nothing comes late, and it says so only a few times for one that is far away. */
static void test_next(void **state)
{
    static const uint64_t afters[] = { 1, 2, 255, 256, 257, 16383, 16384, 1048577, 70000000 };

    (void)state;
    for (unsigned i = 0; i < sizeof afters / sizeof *afters; i++) {
        uint64_t due;

        begin(1000003);
        due = now_ms + afters[i];
        fae_wheel_start(&wheel, &timers[0], due);
        due_ms[0] = due;
        while (due_ms[0]) {
            uint64_t next_ms = fae_wheel_next_ms(&wheel);

            assert_true(next_ms > now_ms && next_ms <= due);
            move_to(next_ms);
        }
        assert_int_equal(now_ms, due);
    }
}

/* Started when it was due already: at the next look, though no time has passed. */
static void test_late(void **state)
{
    (void)state;
    begin(5000);
    fae_wheel_start(&wheel, &timers[0], 0);
    fae_wheel_start(&wheel, &timers[1], 5000);
    due_ms[0] = due_ms[1] = 1;
    assert_int_equal(fae_wheel_next_ms(&wheel), 0);
    move_to(5000);
    assert_int_equal(fae_wheel_next_ms(&wheel), FAE_WHEEL_NEVER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_late),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
