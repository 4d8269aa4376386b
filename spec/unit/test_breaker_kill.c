/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/breaker of many workers: they are killed with probes and with the lock, at any instruction, and race.
 */
#include "unit_breaker.h"

#include <pthread.h>

static int take_probes(void *unused)
{
    enum fae_breaker_change change;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)unused;
    while (enter_as(1, &permit, &retry_ms, &change))
        s->n_entered++;
    for (;;)
        pause();
    return 1;
}

static int hold_lock(void *unused)
{
    (void)unused;
    fae_shmutex_lock(&s->breaker.lock);
    s->n_entered = FAE_BREAKER_PROBES;
    for (;;)
        pause();
    return 1;
}

static pid_t started(int (*fn)(void *arg))
{
    pid_t pid;

    s->n_entered = 0;
    pid = unit_fork(fn, NULL);
    for (unsigned i = 0; i < 5000 && s->n_entered < FAE_BREAKER_PROBES; i++)
        unit_sleep_ms(1);
    assert_int_equal(s->n_entered, FAE_BREAKER_PROBES);
    return pid;
}

static void a_killed_worker_leaves_no_probe(void **state)
{
    struct fae_permit permit;
    pid_t pid;

    (void)state;
    open_it();
    now += 5000;
    pid = started(take_probes);
    assert_false(enter(&permit));
    assert_int_equal(kill(pid, SIGKILL), 0);
    unit_wait(pid);
    assert_false(enter(&permit));
    fae_breaker_reap(&s->breaker, 1);
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        assert_true(enter(&permit));
        end_as(0, permit, FAE_BREAKER_OK);
    }
    assert_int_equal(s->breaker.state, FAE_BREAKER_CLOSED);
}

static void a_stopped_or_killed_holder_of_the_lock_stops_nobody(void **state)
{
    struct fae_permit probe, permit;
    pid_t pid;

    (void)state;
    open_it();
    now += 5000;
    assert_true(enter(&probe));
    pid = started(hold_lock);
    fae_breaker_reap(&s->breaker, 1); /* does not need it */
    assert_false(enter(&permit));
    assert_int_equal(end_as(0, probe, FAE_BREAKER_OK), FAE_BREAKER_STAYS); /* lost, but given back */
    assert_int_equal(fae_breaker_probes(&s->breaker, now), 0);
    assert_int_equal(fae_breaker_force(&s->breaker, FAE_BREAKER_FORCED_OPEN, now), FAE_BREAKER_STAYS);
    assert_int_equal(s->breaker.mode, FAE_BREAKER_AUTO);
    assert_int_equal(kill(pid, SIGKILL), 0);
    unit_wait(pid);
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        assert_true(enter(&permit));
        end_as(0, permit, FAE_BREAKER_OK);
    }
    assert_int_equal(s->breaker.state, FAE_BREAKER_CLOSED);
}

/* Many processes at once: whatever order they come in, changes alternate as drawn, each told to exactly one. */
struct told {
    _Atomic unsigned opens, half_opens, closes;
};
static struct told *told;

static void note(enum fae_breaker_change change)
{
    if (change == FAE_BREAKER_OPENS)
        told->opens++;
    if (change == FAE_BREAKER_HALF_OPENS)
        told->half_opens++;
    if (change == FAE_BREAKER_CLOSES)
        told->closes++;
}

static int race(void *arg)
{
    const struct fae_breaker_rule quick = { .percent = 50, .calls = 4, .refusals = 3, .open_ms = 10 };
    unsigned slot = *(unsigned *)arg;
    uint64_t seed = slot + 77, at = 5000;

    for (unsigned i = 0; i < 30000; i++) {
        enum fae_breaker_change change;
        struct fae_permit permit;
        uint32_t retry_ms;
        bool in = fae_breaker_enter(&s->breaker, &quick, slot, at, &permit, &retry_ms, &change);

        note(change);
        at += unit_random(&seed) % 8;
        if (in)
            note(fae_breaker_end(&s->breaker, &quick, s->cells, WORKERS, slot, permit, (unit_random(&seed) >> 9) % 4,
                                 at, (uint32_t)seed));
    }
    return 0;
}

static void told_is_what_happened(void)
{
    assert_int_equal(told->opens, s->breaker.n_opened);
    assert_int_equal(told->half_opens, s->breaker.n_half_opened);
    assert_int_equal(told->closes, s->breaker.n_closed);
    assert_true(told->opens > 0);
    assert_in_range(told->half_opens, told->opens - 1, told->opens);
    assert_true(told->closes <= told->half_opens);
    munmap(told, sizeof *told);
}

static void new_told(void)
{
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(told != MAP_FAILED);
}

static void each_change_is_told_to_one(void **state)
{
    unsigned slots[WORKERS];
    pid_t pids[WORKERS];

    (void)state;
    new_told();
    for (unsigned i = 0; i < WORKERS; i++) {
        slots[i] = i;
        pids[i] = unit_fork(race, &slots[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(unit_wait(pids[i]), 0);
    told_is_what_happened();
}

static void *race_as_a_thread(void *slot)
{
    race(slot);
    return NULL;
}

/* The same where a sanitizer sees it. */
static void threads_do_the_same(void **state)
{
    pthread_t threads[WORKERS];
    unsigned slots[WORKERS];

    (void)state;
    new_told();
    for (unsigned i = 0; i < WORKERS; i++) {
        slots[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, race_as_a_thread, &slots[i]), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    told_is_what_happened();
}

/* Goes round and round, mostly where something changes. */
static int churn(void *unused)
{
    const struct fae_breaker_rule quick = { .percent = 50, .calls = 2, .refusals = 2, .open_ms = 10 };
    uint64_t seed = (uint64_t)getpid();

    (void)unused;
    for (;; now += 5) {
        enum fae_breaker_change change;
        struct fae_permit permit;
        uint32_t retry_ms;

        if (fae_breaker_enter(&s->breaker, &quick, 1, now, &permit, &retry_ms, &change))
            fae_breaker_end(&s->breaker, &quick, s->cells, WORKERS, 1, permit,
                            unit_random(&seed) % 4 ? FAE_BREAKER_OK : FAE_BREAKER_FAILED, now, 0);
        if (unit_random(&seed) % 16 == 0)
            fae_breaker_force(&s->breaker, unit_random(&seed) % 3, now);
        s->n_entered++;
    }
    return 1;
}

static void killed_at_any_instruction_it_goes_on(void **state)
{
    unsigned rounds = getenv("FAE_LONG") ? 3000 : 100;
    uint64_t seed = 3;

    (void)state;
    for (unsigned i = 0; i < rounds; i++) {
        pid_t pid;

        s->n_entered = 0;
        pid = unit_fork(churn, NULL);
        for (unsigned j = 0; j < 100000 && s->n_entered < 1000; j++)
            usleep((useconds_t)(unit_random(&seed) % 50));
        assert_int_equal(kill(pid, SIGKILL), 0);
        unit_wait(pid);
        fae_breaker_reap(&s->breaker, 1);
        assert_int_equal(fae_breaker_probes(&s->breaker, now), 0);
        /* Whatever state it was left in, it is one from which there is a way. */
        if (s->breaker.mode != FAE_BREAKER_AUTO)
            fae_breaker_force(&s->breaker, FAE_BREAKER_AUTO, now);
        assert_int_equal(s->breaker.mode, FAE_BREAKER_AUTO);
        now += 1000u * 1000 * 1000;
        for (unsigned j = 0; j < FAE_BREAKER_PROBES; j++)
            assert_int_not_equal(call(0, FAE_BREAKER_OK), FAE_BREAKER_OPENS);
        assert_int_equal(s->breaker.state, FAE_BREAKER_CLOSED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_killed_worker_leaves_no_probe),
        TEST(a_stopped_or_killed_holder_of_the_lock_stops_nobody),
        TEST(killed_at_any_instruction_it_goes_on),
        TEST(each_change_is_told_to_one),
        TEST(threads_do_the_same),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
