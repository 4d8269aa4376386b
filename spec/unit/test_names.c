/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/names: a name keeps its row, whoever dies while adding one, and a full set or a flood changes nothing of it.
 */
#include "unit.h"

#include <sys/mman.h>

#include "base/clock.h"
#include "base/names.h"

#define CAP 1000 /* no power of two */
#define WIDTH 20

static struct fae_names *names;
static size_t size;

static int set_up(void **state)
{
    (void)state;
    size = fae_names_size(CAP, WIDTH);
    names = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (names == MAP_FAILED)
        return -1;
    fae_names_init(names, CAP, WIDTH);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(names, size);
}

static uint32_t add(const char *name)
{
    return fae_names_add(names, name, strlen(name));
}

static uint32_t find(const char *name)
{
    return fae_names_find(names, name, strlen(name));
}

static void a_name_keeps_its_row(void **state)
{
    size_t len;

    (void)state;
    assert_int_equal(find("a"), FAE_NAMES_NONE);
    assert_int_equal(add("a"), 0);
    assert_int_equal(add("b"), 1);
    assert_int_equal(add("a"), 0);
    assert_int_equal(find("b"), 1);
    assert_int_equal(add(""), 2);
    assert_int_equal(fae_names_add(names, "a\0b", 3), 3);
    assert_int_equal(find("a"), 0);
    assert_int_equal(fae_names_count(names), 4);
    assert_memory_equal(fae_names_text(names, 3, &len), "a\0b", 4);
    assert_int_equal(len, 3);
}

static void the_longest_fits(void **state)
{
    char name[WIDTH + 2];
    size_t len;

    (void)state;
    memset(name, 'x', sizeof name);
    assert_int_equal(fae_names_add(names, name, WIDTH + 1), FAE_NAMES_NONE);
    assert_int_equal(fae_names_add(names, name, WIDTH), 0);
    assert_int_equal(add("next"), 1);
    assert_int_equal(strlen(fae_names_text(names, 0, &len)), WIDTH);
    assert_int_equal(fae_names_find(names, name, WIDTH), 0);
    assert_true(FAE_NAMES_BYTES(1024, 64) >= fae_names_size(1024, 64));
}

static void a_full_set_takes_no_more(void **state)
{
    char name[16];

    (void)state;
    for (unsigned i = 0; i < CAP + 50; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(add(name), i < CAP ? i : FAE_NAMES_NONE);
    }
    for (unsigned i = 0; i < CAP; i++) {
        snprintf(name, sizeof name, "n%u", i);
        assert_int_equal(find(name), i);
    }
    assert_int_equal(fae_names_count(names), CAP);
}

/* Two sets differ in their hashes, or whoever knows one could fill the chains of the other. */
static void hashes_are_seeded(void **state)
{
    uint64_t seed = names->seed;

    (void)state;
    fae_names_init(names, CAP, WIDTH);
    assert_true(seed != names->seed);
}

static int die_holding(void *unused)
{
    (void)unused;
    fae_shmutex_lock(&names->lock);
    raise(SIGKILL);
    return 0;
}

static void a_death_before_the_count_is_repaired(void **state)
{
    (void)state;
    assert_int_equal(add("a"), 0);
    assert_int_equal(add("b"), 1);
    names->n = 1; /* as if the one who added b had died just before it counted it */
    assert_int_equal(unit_wait(unit_fork(die_holding, NULL)), -SIGKILL);
    assert_int_equal(add("c"), 2);
    assert_int_equal(find("b"), 1);
    assert_int_equal(fae_names_count(names), 3);
}

static void a_death_before_the_name_counts_is_repaired(void **state)
{
    (void)state;
    assert_int_equal(add("a"), 0);
    assert_int_equal(unit_wait(unit_fork(die_holding, NULL)), -SIGKILL);
    assert_int_equal(add("c"), 1);
    assert_int_equal(add("a"), 0);
}

static int hold(void *fd)
{
    fae_shmutex_lock(&names->lock);
    if (write(*(int *)fd, "x", 1) != 1)
        return 1;
    unit_sleep_ms(60000);
    return 0;
}

/* One stopped in a debugger costs others a moment, and new names their row. */
static void a_holder_that_stands_still_blocks_nobody(void **state)
{
    uint64_t began;
    int fds[2];
    char byte;
    pid_t pid;

    (void)state;
    assert_int_equal(add("a"), 0);
    assert_int_equal(pipe(fds), 0);
    pid = unit_fork(hold, &fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    began = fae_now_ms();
    assert_int_equal(add("b"), FAE_NAMES_NONE);
    assert_true(fae_now_ms() - began < 1000);
    assert_int_equal(add("a"), 0);
    kill(pid, SIGKILL);
    unit_wait(pid);
    assert_int_equal(add("b"), 1);
    close(fds[0]);
    close(fds[1]);
}

/* Adds names that all share, in an order of its own, until it is killed or through. */
static int add_all(void *seed)
{
    uint64_t random = (uint64_t)(uintptr_t)seed;
    char name[16];

    for (unsigned i = 0; i < 3 * CAP; i++) {
        snprintf(name, sizeof name, "n%u", (unsigned)(unit_random(&random) % CAP));
        if (add(name) == FAE_NAMES_NONE)
            return 1; /* a lock held for 2 ms: the machine is busy; the parent counts on the rest */
    }
    return 0;
}

static void deaths_under_load_make_no_second_row(void **state)
{
    bool seen[CAP] = { false };
    char name[16];
    unsigned n;

    (void)state;
    for (unsigned round = 0; round < 20; round++) {
        pid_t a = unit_fork(add_all, (void *)(uintptr_t)(round + 1));
        pid_t b = unit_fork(add_all, (void *)(uintptr_t)(round + 100));
        struct timespec ts = { 0, (long)(round * 23000) };

        nanosleep(&ts, NULL);
        kill(a, SIGKILL);
        unit_wait(a);
        unit_wait(b);
    }
    for (unsigned i = 0; i < CAP; i++) {
        snprintf(name, sizeof name, "n%u", i);
        add(name);
    }
    n = fae_names_count(names);
    assert_int_equal(n, CAP);
    for (unsigned i = 0; i < n; i++) {
        size_t len;
        unsigned long v = strtoul(fae_names_text(names, i, &len) + 1, NULL, 10);

        assert_true(v < CAP);
        assert_false(seen[v]);
        seen[v] = true;
    }
}

#define WITH_NAMES(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NAMES(a_name_keeps_its_row),
        WITH_NAMES(the_longest_fits),
        WITH_NAMES(a_full_set_takes_no_more),
        WITH_NAMES(hashes_are_seeded),
        WITH_NAMES(a_death_before_the_count_is_repaired),
        WITH_NAMES(a_death_before_the_name_counts_is_repaired),
        WITH_NAMES(a_holder_that_stands_still_blocks_nobody),
        WITH_NAMES(deaths_under_load_make_no_second_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
