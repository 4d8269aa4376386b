/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/shmutex: excludes processes from each other, and survives the death of its holder.
 */
#include "unit.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/sanitize.h"
#include "base/shmutex.h"

struct shared {
    struct fae_shmutex lock;
    uint64_t a, b;     /* guarded: equal whenever the lock is free */
    _Atomic bool held; /* a child tells that it holds the lock */
};

static struct shared *shared;

static int set_up(void **state)
{
    (void)state;
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED)
        return -1;
    fae_shmutex_init(&shared->lock);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(shared, sizeof *shared);
}

static int count_up(void *rounds)
{
    for (unsigned i = 0; i < *(unsigned *)rounds; i++) {
        if (fae_shmutex_lock(&shared->lock) || shared->a != shared->b)
            return 1;
        shared->a++;
        shared->b++;
        fae_shmutex_unlock(&shared->lock);
    }
    return 0;
}

static void processes_take_turns(void **state)
{
    unsigned rounds = 20000;
    pid_t pids[4];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(pids); i++)
        pids[i] = unit_fork(count_up, &rounds);
    for (unsigned i = 0; i < UNIT_N(pids); i++)
        assert_int_equal(unit_wait(pids[i]), 0);
    assert_int_equal(shared->a, UNIT_N(pids) * rounds);
    assert_int_equal(shared->b, shared->a);
}

static int hold(void *unused)
{
    (void)unused;
    fae_shmutex_lock(&shared->lock);
    shared->a++; /* half of a change */
    shared->held = true;
    while (pause() < 0)
        ;
    return 1;
}

/* A child that holds the lock until it is killed. */
static pid_t holder(void)
{
    pid_t pid = unit_fork(hold, NULL);

    for (unsigned i = 0; i < 5000 && !shared->held; i++)
        unit_sleep_ms(1);
    assert_true(shared->held);
    return pid;
}

static void a_dead_holder_is_told_once(void **state)
{
    (void)state;
    for (unsigned i = 1; i <= 20; i++) {
        pid_t pid = holder();

        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(unit_wait(pid), -SIGKILL);
        assert_true(fae_shmutex_lock(&shared->lock));
        assert_int_equal(shared->a, i);
        shared->b = shared->a; /* repaired */
        shared->held = false;
        fae_shmutex_unlock(&shared->lock);
        assert_false(fae_shmutex_lock(&shared->lock));
        fae_shmutex_unlock(&shared->lock);
    }
}

static void waiting_can_have_an_end(void **state)
{
    pid_t pid = holder();
    uint64_t before = fae_now_ms();
    bool died = false;

    (void)state;
    assert_int_equal(fae_shmutex_lock_within(&shared->lock, 50, &died), FAE_TIMEOUT);
    assert_true(fae_now_ms() - before >= 50);
    assert_false(died);
    assert_int_equal(kill(pid, SIGKILL), 0);
    unit_wait(pid);
    assert_int_equal(fae_shmutex_lock_within(&shared->lock, 50, &died), FAE_OK);
    assert_true(died);
    fae_shmutex_unlock(&shared->lock);
    assert_int_equal(fae_shmutex_lock_within(&shared->lock, 50, &died), FAE_OK);
    assert_false(died);
    fae_shmutex_unlock(&shared->lock);
}

static void unlock_it(void *unused)
{
    (void)unused;
    fae_shmutex_unlock(&shared->lock);
}

static void unlocking_what_is_not_held_is_a_bug(void **state)
{
    (void)state;
    if (FAE_TSAN)
        return; /* it reports the misuse itself */
    assert_true(unit_aborts(unlock_it, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(processes_take_turns, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_holder_is_told_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waiting_can_have_an_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unlocking_what_is_not_held_is_a_bug, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
