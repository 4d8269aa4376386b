/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/loop: when timers fire, and what is done at the end of a turn.
 */
#include "unit.h"

#include "base/clock.h"
#include "net/loop.h"

static struct fae_loop loop;

static void stop(void *arg)
{
    (void)arg;
    fae_loop_stop(&loop);
}

static void busy_for(uint64_t ns)
{
    uint64_t until_ns = fae_now_ns() + ns;

    while (fae_now_ns() < until_ns)
        ;
}

/* How long a timer of that many milliseconds really takes. */
static uint64_t wait_ns(struct fae_timer *timer, uint64_t after_ms)
{
    uint64_t begin_ns = fae_now_ns();

    fae_timer_start(timer, after_ms);
    fae_loop_run(&loop);
    return fae_now_ns() - begin_ns;
}

static void go_on(void *arg)
{
    (void)arg;
}

/* libevent's clock goes in steps of up to 4 ms, and is read anew whenever the loop wakes: begin anywhere within a step,
 * and wake on the way. */
static void test_never_early(void **state)
{
    struct fae_timer timer, other;

    (void)state;
    fae_timer_init(&timer, &loop, stop, NULL);
    fae_timer_init(&other, &loop, go_on, NULL);
    for (unsigned i = 0; i < 60; i++) {
        busy_for(i * 133000 % 4000000);
        fae_timer_start(&other, 1 + i % 5);
        assert_true(wait_ns(&timer, 6 + i % 3) >= (6 + i % 3) * 1000000u);
        assert_false(fae_timer_running(&timer));
    }
    fae_timer_stop(&other);
}

static uint64_t n_rounds;

static void again(void *arg)
{
    if (++n_rounds < 1000)
        fae_timer_start(arg, 0);
    else
        fae_loop_stop(&loop);
}

/* 0 is the next turn: it does not wait for the clock's next step, which for 1,000 would be 4 s. */
static void test_zero_is_at_once(void **state)
{
    struct fae_timer timer;
    uint64_t begin_ns = fae_now_ns();

    (void)state;
    fae_timer_init(&timer, &loop, again, &timer);
    fae_timer_start(&timer, 0);
    fae_loop_run(&loop);
    assert_int_equal(n_rounds, 1000);
    assert_true(fae_now_ns() - begin_ns < 900000000u);
}

static void test_moved_and_stopped(void **state)
{
    struct fae_timer timer, other;

    (void)state;
    fae_timer_init(&timer, &loop, stop, NULL);
    fae_timer_init(&other, &loop, stop, NULL);
    fae_timer_start(&timer, 1);
    fae_timer_start(&timer, 60000);
    assert_true(fae_timer_running(&timer));
    assert_true(wait_ns(&other, 20) >= 20000000u); /* not after the 1 that the other one was first given */
    assert_true(fae_timer_running(&timer));
    fae_timer_stop(&timer);
    assert_false(fae_timer_running(&timer));
    fae_timer_stop(&timer);
}

static unsigned n_later, n_turns;
static struct fae_later later, later_too;

static bool ask_later(void *arg)
{
    (void)arg;
    assert_int_equal(n_later, 0);
    fae_later(&loop, &later);
    fae_later(&loop, &later_too);
    fae_later(&loop, &later);
    fae_loop_stop(&loop);
    n_turns++;
    return false;
}

static void count(void *arg)
{
    n_later++;
    if (arg)
        fae_later_cancel(arg);
}

/* Once a turn, after what the turn did; one may cancel another. */
static void test_later(void **state)
{
    struct fae_timer timer;

    (void)state;
    fae_timer_init(&timer, &loop, go_on, NULL);
    fae_later_init(&later, count, NULL);
    fae_later_init(&later_too, count, NULL);
    loop.after_turn = ask_later;
    for (unsigned i = 0; i < 2; i++) {
        fae_timer_start(&timer, 0);
        n_later = 0;
        fae_loop_run(&loop);
        assert_int_equal(n_later, 2 - i);
        later.arg = &later_too;
    }
    loop.after_turn = NULL;
    assert_int_equal(n_turns, 2);
    fae_later_cancel(&(struct fae_later){ 0 });
}

static int set_up(void **state)
{
    (void)state;
    return fae_loop_init(&loop);
}

static int tear_down(void **state)
{
    (void)state;
    fae_loop_fini(&loop);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_early),
        cmocka_unit_test(test_zero_is_at_once),
        cmocka_unit_test(test_moved_and_stopped),
        cmocka_unit_test(test_later),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
