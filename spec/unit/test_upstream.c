/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/upstream: rows by name, slots of connections shared by workers, lines of the log, and workers that are killed.
 */
#include "unit.h"

#include <sys/mman.h>

#include "backend/upstream.h"
#include "base/log.h"

#define WORKERS 4u
#define NAME "redis/main/tcp://127.0.0.1:6379"

static const struct fae_breaker_rule rule = { .percent = 50, .calls = 20, .refusals = 5, .open_ms = 5000 };
static struct fae_upstreams *ups;
static size_t size;
static _Atomic unsigned *progress;

static int set_up(void **state)
{
    unsigned n = WORKERS;

    (void)state;
    size = fae_upstreams_size(&n);
    ups = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    progress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ups == MAP_FAILED || progress == MAP_FAILED)
        return -1;
    fae_upstreams_init(ups, &n);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    munmap(progress, 4096);
    return munmap(ups, size);
}

/* ---- rows ---- */

static void a_name_is_one_row_for_all(void **state)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 0);

    (void)state;
    assert_non_null(up);
    assert_ptr_equal(fae_upstream_get(ups, NAME, 3), up);
    assert_string_equal(fae_upstream_name(up), NAME);
    assert_ptr_not_equal(fae_upstream_get(ups, "servant/geo", 0), up);
    assert_ptr_equal(fae_upstreams_at(ups, 0), up);
    assert_ptr_equal(fae_upstreams_find(ups, NAME), up);
    assert_null(fae_upstreams_find(ups, "redis/main"));
    assert_null(fae_upstreams_at(ups, 2));
}

static void a_row_is_shown_while_somebody_wants_it(void **state)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 0);

    (void)state;
    fae_upstream_get(ups, NAME, 0); /* the pool of the new configuration */
    fae_upstream_get(ups, NAME, 1);
    fae_upstream_put(up, 0);
    fae_upstreams_reap(ups, 1);
    assert_ptr_equal(fae_upstreams_at(ups, 0), up);
    fae_upstream_put(up, 0);
    assert_null(fae_upstreams_at(ups, 0));
    fae_upstream_put(up, 0); /* once too often: nothing happens */
    assert_ptr_equal(fae_upstream_get(ups, NAME, 2), up);
    assert_ptr_equal(fae_upstreams_at(ups, 0), up);
}

static struct fae_upstream *get_numbered(unsigned i, unsigned slot)
{
    char name[64];

    snprintf(name, sizeof name, "memcache/many/tcp://10.0.0.1:%u", i);
    return fae_upstream_get(ups, name, slot);
}

static void there_is_an_end_to_them_and_unwanted_ones_are_used_again(void **state)
{
    struct fae_upstream *first = NULL, *again;
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)state;
    for (unsigned i = 0; i < FAE_UPSTREAMS_MAX; i++) {
        struct fae_upstream *up = get_numbered(i, i % WORKERS);

        assert_non_null(up);
        if (i == 0)
            first = up;
    }
    assert_null(get_numbered(1000, 0));
    assert_ptr_equal(get_numbered(0, 1), first);
    fae_upstream_cell(first, 0)->n.calls = 7;
    assert_true(fae_upstream_force_as(first, FAE_BREAKER_FORCED_OPEN, "I", 1000));
    assert_false(fae_upstream_enter(first, &rule, 0, 1000, &permit, &retry_ms));
    fae_upstream_put(first, 0);
    assert_null(get_numbered(1000, 0)); /* worker 1 wants it */
    fae_upstream_put(first, 1);
    again = get_numbered(1000, 0);
    assert_ptr_equal(again, first);
    assert_string_equal(fae_upstream_name(again), "memcache/many/tcp://10.0.0.1:1000");
    assert_int_equal(fae_upstream_cell(again, 0)->n.calls, 0);
    assert_int_equal(fae_upstream_breaker(again)->n_rejected, 0);
    assert_true(fae_upstream_enter(again, &rule, 0, 1000, &permit, &retry_ms));
}

static void a_name_that_is_too_long_has_none(void **state)
{
    char name[FAE_UPSTREAM_NAME_MAX + 2];

    (void)state;
    memset(name, 'x', sizeof name);
    name[sizeof name - 1] = '\0';
    assert_null(fae_upstream_get(ups, name, 0));
    name[sizeof name - 2] = '\0';
    assert_non_null(fae_upstream_get(ups, name, 0));
    assert_string_equal(fae_upstream_name(fae_upstreams_at(ups, 0)), name);
}

/* ---- slots ---- */

static void each_worker_has_one_and_the_rest_is_shared(void **state)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 0);

    (void)state;
    assert_true(fae_upstream_slot_take(up, 0, 6));
    assert_true(fae_upstream_slot_take(up, 0, 6));
    assert_true(fae_upstream_slot_take(up, 0, 6));
    assert_false(fae_upstream_slot_take(up, 0, 6)); /* 3, and one is kept for each of the others */
    for (unsigned i = 1; i < WORKERS; i++) {
        assert_true(fae_upstream_slot_take(up, i, 6));
        assert_false(fae_upstream_slot_take(up, i, 6));
    }
    fae_upstream_slot_give(up, 0);
    assert_true(fae_upstream_slot_take(up, 2, 6));
    assert_false(fae_upstream_slot_take(up, 0, 6));
    fae_upstreams_reap(ups, 2);
    assert_true(fae_upstream_slot_take(up, 0, 6));
    assert_false(fae_upstream_slot_take(up, 1, 6));
    assert_true(fae_upstream_slot_take(up, 2, 6));
}

static void a_max_below_the_workers_is_one_each(void **state)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 0);

    (void)state;
    for (unsigned i = 0; i < WORKERS; i++) {
        assert_true(fae_upstream_slot_take(up, i, 1));
        assert_false(fae_upstream_slot_take(up, i, 1));
    }
}

#define MAX 9u

/* As many as are in use, by a count of our own that is raised after and lowered before. */
static int take_and_give(void *arg)
{
    unsigned slot = *(unsigned *)arg, has = 0;
    struct fae_upstream *up = fae_upstream_get(ups, NAME, slot);
    uint64_t seed = slot + 5;

    for (unsigned i = 0; i < 50000; i++) {
        if (unit_random(&seed) >> 7 & 1) {
            if (fae_upstream_slot_take(up, slot, MAX)) {
                has++;
                if (atomic_fetch_add(&progress[0], has > 1) >= MAX - WORKERS && has > 1)
                    return 1;
            }
        } else if (has) {
            if (has-- > 1)
                atomic_fetch_sub(&progress[0], 1);
            fae_upstream_slot_give(up, slot);
        }
    }
    return 0;
}

static void never_more_than_max_however_they_race(void **state)
{
    unsigned slots[WORKERS];
    pid_t pids[WORKERS];

    (void)state;
    for (unsigned i = 0; i < WORKERS; i++) {
        slots[i] = i;
        pids[i] = unit_fork(take_and_give, &slots[i]);
    }
    for (unsigned i = 0; i < WORKERS; i++)
        assert_int_equal(unit_wait(pids[i]), 0);
}

/* ---- the dead ---- */

/* Takes all it can of everything, for ever. */
static int hoard(void *arg)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 1);
    struct fae_permit permit;
    uint32_t retry_ms;

    (void)arg;
    fae_upstream_get(ups, "servant/mine", 1);
    fae_upstream_cell(up, 1)->now.used = 3;
    fae_upstream_cell(up, 1)->n.calls = 11;
    while (fae_upstream_slot_take(up, 1, 16))
        ;
    while (fae_upstream_enter(up, &rule, 1, 20000, &permit, &retry_ms))
        ;
    progress[0] = 1;
    for (;;)
        pause();
    return 1;
}

static void a_killed_worker_leaves_nothing(void **state)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 0);
    struct fae_permit permit;
    uint32_t retry_ms;
    pid_t pid;

    (void)state;
    for (unsigned i = 0; i < rule.refusals; i++)
        fae_upstream_end(up, &rule, 0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, 10000);
    pid = unit_fork(hoard, NULL);
    for (unsigned i = 0; i < 5000 && !progress[0]; i++)
        unit_sleep_ms(1);
    assert_true(fae_upstream_slot_take(up, 0, 16));
    assert_false(fae_upstream_slot_take(up, 0, 16));
    assert_false(fae_upstream_enter(up, &rule, 0, 20000, &permit, &retry_ms));
    assert_int_equal(kill(pid, SIGKILL), 0);
    unit_wait(pid);
    fae_upstreams_reap(ups, 1);
    assert_int_equal(fae_upstream_cell(up, 1)->now.used, 0);
    assert_int_equal(fae_upstream_cell(up, 1)->n.calls, 11);
    assert_null(fae_upstreams_at(ups, 1));
    assert_int_equal(fae_breaker_probes(fae_upstream_breaker(up), 20000), 0);
    for (unsigned i = 1; i < 13; i++)
        assert_true(fae_upstream_slot_take(up, 0, 16));
    assert_false(fae_upstream_slot_take(up, 0, 16));
    assert_true(fae_upstream_enter(up, &rule, 0, 20000, &permit, &retry_ms));
}

/* Gets and puts rows until it is killed, wherever it is then. */
static int churn(void *arg)
{
    for (unsigned i = 0;; i++) {
        struct fae_upstream *up = get_numbered(i % 700, 2);

        if (up)
            fae_upstream_put(up, 2);
        progress[0]++;
    }
    return arg != NULL;
}

static void killed_at_any_instruction_rows_stay_sound(void **state)
{
    unsigned rounds = getenv("FAE_LONG") ? 2000 : 100;
    uint64_t seed = 9;

    (void)state;
    for (unsigned i = 0; i < rounds; i++) {
        struct fae_upstream *mine;
        pid_t pid = unit_fork(churn, NULL);

        for (unsigned before = progress[0], j = 0; j < 5000 && progress[0] == before; j++)
            usleep(100 + unit_random(&seed) % 300);
        assert_int_equal(kill(pid, SIGKILL), 0);
        unit_wait(pid);
        fae_upstreams_reap(ups, 2);
        mine = fae_upstream_get(ups, NAME, 0);
        assert_non_null(mine);
        assert_string_equal(fae_upstream_name(mine), NAME);
        assert_ptr_equal(fae_upstreams_find(ups, NAME), mine);
        for (unsigned j = 0; j < FAE_UPSTREAMS_MAX; j++)
            if (fae_upstreams_at(ups, j))
                assert_ptr_equal(fae_upstreams_at(ups, j), mine);
        fae_upstream_put(mine, 0);
    }
}

/* ---- what is told ---- */

static void read_lines(int fd, char *text, size_t max)
{
    ssize_t n = read(fd, text, max - 1);

    text[n > 0 ? n : 0] = '\0';
}

static unsigned count_of(const char *text, const char *what)
{
    unsigned n = 0;

    while ((text = strstr(text, what))) {
        text += strlen(what);
        n++;
    }
    return n;
}

static void each_transition_is_a_line(void **state)
{
    struct fae_upstream *up = fae_upstream_get(ups, NAME, 0);
    struct fae_permit permit;
    uint32_t retry_ms;
    char log[8192];
    int fds[2];

    (void)state;
    assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO }, "unit");
    fae_log_to_fd(fds[1]);
    for (unsigned i = 0; i < 8; i++)
        fae_upstream_end(up, &rule, 0, (struct fae_permit){ 0 }, FAE_BREAKER_OK, 10000);
    for (unsigned i = 0; i < 12; i++)
        fae_upstream_end(up, &rule, 1, (struct fae_permit){ 0 }, FAE_BREAKER_FAILED, 10000);
    assert_false(fae_upstream_enter(up, &rule, 0, 10000, &permit, &retry_ms));
    assert_int_equal(fae_upstream_cell(up, 0)->n.rejected, 1);
    fae_upstream_reached(up, 11000);
    for (unsigned i = 0; i < FAE_BREAKER_PROBES; i++) {
        assert_true(fae_upstream_enter(up, &rule, 0, 17100, &permit, &retry_ms));
        fae_upstream_end(up, &rule, 0, permit, FAE_BREAKER_OK, 17100);
    }
    assert_true(fae_upstream_force_as(up, FAE_BREAKER_FORCED_OPEN, "uid 7", 18000));
    assert_true(fae_upstream_force_as(up, FAE_BREAKER_AUTO, "uid 7", 18000));
    fae_log_to_fd(2);
    read_lines(fds[0], log, sizeof log);
    assert_int_equal(count_of(log, "\n"), 5);
    assert_non_null(strstr(log, "redis main tcp://127.0.0.1:6379: left alone for "));
    assert_non_null(strstr(log, " s: 12 of 20 calls in 10 s failed"));
    assert_non_null(strstr(log, "redis main tcp://127.0.0.1:6379: is tried again"));
    assert_non_null(strstr(log, "redis main tcp://127.0.0.1:6379: is fine again after 7.1 s"));
    assert_non_null(strstr(log, "redis main tcp://127.0.0.1:6379: left alone: uid 7 said so"));
    assert_non_null(strstr(log, "redis main tcp://127.0.0.1:6379: left to itself again: uid 7 said so"));
    close(fds[0]);
    close(fds[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_name_is_one_row_for_all),
        TEST(a_row_is_shown_while_somebody_wants_it),
        TEST(there_is_an_end_to_them_and_unwanted_ones_are_used_again),
        TEST(a_name_that_is_too_long_has_none),
        TEST(each_worker_has_one_and_the_rest_is_shared),
        TEST(a_max_below_the_workers_is_one_each),
        TEST(never_more_than_max_however_they_race),
        TEST(a_killed_worker_leaves_nothing),
        TEST(killed_at_any_instruction_rows_stay_sound),
        TEST(each_transition_is_a_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
