/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/shm and base/slot: regions shared by processes, and the slot table in one of them.
 */
#include "unit.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/shm.h"
#include "base/slot.h"

static size_t arg_size(const void *arg)
{
    return *(const unsigned *)arg;
}

static void fill_in(void *mem, const void *arg)
{
    uint8_t *p = mem;

    for (unsigned i = 0; i < *(const unsigned *)arg; i++) {
        if (p[i] != 0)
            abort();
        p[i] = (uint8_t)i;
    }
}

static void leave(void *mem, const void *arg)
{
    (void)mem;
    (void)arg;
}

static size_t too_much(const void *arg)
{
    (void)arg;
    return SIZE_MAX / 2;
}

static const struct fae_shm_region table[] = {
    { "filled", arg_size, fill_in },
    { "left", arg_size, leave },
    { "slots", fae_slots_size, fae_slots_init },
};

static const unsigned n_bytes = 5000, n_workers = 3;

static int write_in_child(void *mem)
{
    ((uint8_t *)mem)[17] = 99;
    return 0;
}

static void regions_are_initialised_and_shared(void **state)
{
    unsigned fds = unit_count_fds();
    struct fae_shm shm;
    uint8_t *filled, *left;

    (void)state;
    assert_int_equal(fae_shm_map(&shm, table, 2, &n_bytes), FAE_OK);
    assert_int_equal(shm.n, 2);
    filled = fae_shm_get(&shm, "filled");
    left = fae_shm_get(&shm, "left");
    for (unsigned i = 0; i < n_bytes; i++) {
        assert_int_equal(filled[i], (uint8_t)i);
        assert_int_equal(left[i], 0);
    }
    assert_int_equal(unit_wait(unit_fork(write_in_child, left)), 0);
    assert_int_equal(left[17], 99);
    fae_shm_unmap(&shm);
    assert_int_equal(unit_count_fds(), fds);
    fae_shm_unmap(&shm);
}

static void the_fd_is_the_same_memory_and_cannot_shrink(void **state)
{
    struct fae_shm shm;
    uint8_t *again;

    (void)state;
    assert_int_equal(fae_shm_map(&shm, table, 1, &n_bytes), FAE_OK);
    assert_true(fcntl(shm.regions[0].fd, F_GETFD) & FD_CLOEXEC);
    again = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, shm.regions[0].fd, 0);
    assert_true(again != MAP_FAILED);
    again[1] = 77;
    assert_int_equal(((uint8_t *)fae_shm_get(&shm, "filled"))[1], 77);
    assert_int_equal(ftruncate(shm.regions[0].fd, 10), -1);
    assert_int_equal(errno, EPERM);
    munmap(again, n_bytes);
    fae_shm_unmap(&shm);
}

static size_t nothing(const void *arg)
{
    (void)arg;
    return 0;
}

static void never(void *mem, const void *arg)
{
    (void)arg;
    fail_msg("%p was initialised", mem);
}

static void a_region_of_no_size_is_not_there(void **state)
{
    const struct fae_shm_region some[] = { { "none", nothing, never }, { "left", arg_size, leave } };
    unsigned fds = unit_count_fds();
    struct fae_shm shm;

    (void)state;
    assert_int_equal(fae_shm_map(&shm, some, 2, &n_bytes), FAE_OK);
    assert_null(fae_shm_get(&shm, "none"));
    assert_non_null(fae_shm_get(&shm, "left"));
    assert_int_equal(unit_count_fds(), fds + 1);
    fae_shm_unmap(&shm);
    assert_int_equal(unit_count_fds(), fds);
}

static void a_failure_leaves_nothing_open(void **state)
{
    const struct fae_shm_region bad[] = { { "good", arg_size, leave }, { "bad", too_much, leave } };
    unsigned fds = unit_count_fds();
    struct fae_shm shm = { .n = 12345 };

    (void)state;
    errno = 0;
    assert_int_equal(fae_shm_map(&shm, bad, 2, &n_bytes), FAE_SYSTEM);
    assert_int_not_equal(errno, 0);
    assert_int_equal(shm.n, 12345);
    assert_int_equal(unit_count_fds(), fds);
}

static void get_unknown(void *shm)
{
    fae_shm_get(shm, "nothing");
}

static void an_unknown_region_is_a_bug(void **state)
{
    struct fae_shm shm;

    (void)state;
    assert_int_equal(fae_shm_map(&shm, table, 1, &n_bytes), FAE_OK);
    assert_true(unit_aborts(get_unknown, &shm));
    fae_shm_unmap(&shm);
}

static void slots_know_their_names(void **state)
{
    struct fae_slots *slots;
    struct fae_shm shm;
    char name[16];

    (void)state;
    assert_int_equal(fae_shm_map(&shm, &table[2], 1, &n_workers), FAE_OK);
    slots = fae_shm_get(&shm, "slots");
    assert_int_equal(slots->n_workers, 3);
    assert_true(fae_now_ms() - slots->started_ms < 10000);
    assert_true(fae_wall_ms() - slots->started_wall_ms < 10000);
    assert_string_equal(fae_slot_name(slots, 0, name), "worker-0");
    assert_string_equal(fae_slot_name(slots, 2, name), "worker-2");
    assert_string_equal(fae_slot_name(slots, fae_slot_ops(slots), name), "ops");
    assert_string_equal(fae_slot_name(slots, fae_slot_supervisor(slots), name), "supervisor");
    for (unsigned i = 0; i < FAE_SLOTS_MAX; i++)
        assert_int_equal(slots->slots[i].state, FAE_SLOT_DEAD);
    fae_shm_unmap(&shm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(regions_are_initialised_and_shared),
        cmocka_unit_test(the_fd_is_the_same_memory_and_cannot_shrink),
        cmocka_unit_test(a_region_of_no_size_is_not_there),
        cmocka_unit_test(a_failure_leaves_nothing_open),
        cmocka_unit_test(an_unknown_region_is_a_bug),
        cmocka_unit_test(slots_know_their_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
