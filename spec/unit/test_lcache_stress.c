/* SPDX-License-Identifier: BSD-2-Clause
 *
 * store/lcache under load of several processes, or of threads in their place so that TSan sees it. Every value says whose
 * it is and proves itself: a wrong one, or a mixture of two, is found by whoever reads it. Processes are killed at any
 * instruction. FAE_LONG=1 makes it long.
 */
#include "unit.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/hist.h"
#include "store/lcache.h"

#define SIZE (16 * FAE_MIB) /* two shards */
#define PROCS 4u
#define KEYS 400u /* more than there is room for */
#define WRONG 3   /* exit code of who saw a wrong value */

/* All its bytes are the same, so that any mixture of two values shows. */
struct value {
    uint32_t key, len;
    uint64_t sum;
    uint8_t bytes[];
};

static struct shared {
    _Atomic uint64_t n_ops[PROCS]; /* how far each one is */
    _Atomic bool stop;
} * shared;

static struct fae_lcache *cache;

static int set_up(void **state)
{
    (void)state;
    cache = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (cache == MAP_FAILED || shared == MAP_FAILED)
        return -1;
    fae_lcache_init(cache, SIZE, "cache");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    return munmap(cache, SIZE) || munmap(shared, sizeof *shared);
}

static void pick(void *arg, const char *name, const char *help, bool counter, uint64_t value)
{
    (void)help;
    (void)counter;
    if (strcmp(((const char **)arg)[0], name) == 0)
        *((uint64_t **)arg)[1] = value;
}

static uint64_t stat_of(const char *name)
{
    uint64_t value = UINT64_MAX;
    const void *arg[2] = { name, &value };

    fae_lcache_stats(cache, pick, arg);
    assert_true(value != UINT64_MAX);
    return value;
}

static uint64_t sum_of(const struct value *v)
{
    return (v->key * 0x9e3779b97f4a7c15ull + v->len) * 0x100000001b3ull + (v->len ? v->bytes[0] : 0);
}

/* Mostly the same for a key, so that it is written in place. */
static uint32_t some_len(uint32_t key, uint64_t r)
{
    if (r % 1000 == 0)
        return (uint32_t)(r >> 40) % (FAE_LCACHE_VALUE_MAX - (uint32_t)sizeof(struct value));
    return r % 4 == 0 ? (uint32_t)(r >> 40) % 200 : key % 97 * 700;
}

static uint32_t make(struct value *v, uint32_t key, uint64_t *random)
{
    uint64_t r = unit_random(random);

    v->key = key;
    v->len = some_len(key, r);
    memset(v->bytes, (int)(r >> 32), v->len);
    v->sum = sum_of(v);
    return (uint32_t)sizeof *v + v->len;
}

static bool is_right(const struct value *v, int len, uint32_t key)
{
    return len >= (int)sizeof *v && v->key == key && (uint32_t)len == sizeof *v + v->len && v->sum == sum_of(v) &&
           (v->len == 0 || memcmp(v->bytes, v->bytes + 1, v->len - 1) == 0);
}

struct worker {
    unsigned id;
    uint64_t random;
    uint32_t n_keys, reads; /* of 16 operations; the rest are writes */
    uint8_t *buf;
    struct value *v;
};

/* False: it read what nobody wrote. */
static bool work_once(struct worker *w)
{
    struct fae_lcache_user *user = fae_lcache_user(cache, w->id);
    uint64_t r = unit_random(&w->random);
    uint32_t key = (uint32_t)(r >> 20) % w->n_keys;
    const uint8_t *k = (const uint8_t *)&key;
    double version;
    int len;

    if (r % 16 < w->reads) {
        len = fae_lcache_get(user, k, sizeof key, w->buf, FAE_LCACHE_VALUE_MAX, &version);
        return len < 0 || is_right((struct value *)w->buf, len, key);
    }
    switch (r >> 8 & 15) {
    case 0: fae_lcache_del(user, k, sizeof key); break;
    case 1: fae_lcache_touch(user, k, sizeof key, r % 100); break;
    case 2: fae_lcache_add(user, k, sizeof key, (uint8_t *)w->v, make(w->v, key, &w->random), r % 50); break;
    default: fae_lcache_set(user, k, sizeof key, (uint8_t *)w->v, make(w->v, key, &w->random), 0);
    }
    return true;
}

static int work(struct worker *w)
{
    bool right = true;

    w->buf = malloc(FAE_LCACHE_VALUE_MAX);
    w->v = malloc(FAE_LCACHE_VALUE_MAX);
    while (right && !atomic_load(&shared->stop)) {
        right = work_once(w);
        atomic_fetch_add_explicit(&shared->n_ops[w->id], 1, memory_order_relaxed);
    }
    free(w->buf);
    free(w->v);
    return right ? 0 : WRONG;
}

static int work_in_child(void *arg)
{
    return work(arg);
}

static unsigned seconds(unsigned otherwise)
{
    return getenv("FAE_LONG") ? 120 : otherwise;
}

static pid_t start(unsigned id, uint64_t seed, uint32_t n_keys, uint32_t reads)
{
    struct worker w = { .id = id, .random = seed | 1, .n_keys = n_keys, .reads = reads };

    return unit_fork(work_in_child, &w);
}

/* Everyone alive must come so much further: nobody waits for the dead. */
static void all_go_on(void)
{
    uint64_t at[PROCS], until_ms = fae_now_ms() + 60000;

    for (unsigned i = 0; i < PROCS; i++)
        at[i] = atomic_load(&shared->n_ops[i]);
    for (unsigned i = 0; i < PROCS; i++)
        while (atomic_load(&shared->n_ops[i]) < at[i] + 100) {
            assert_true(fae_now_ms() < until_ms);
            unit_sleep_ms(1);
        }
}

static void killed_at_any_instruction(void **state)
{
    uint64_t random = fae_now_ns() | 1, end_ms = fae_now_ms() + seconds(4) * 1000ull;
    unsigned n_kills = 0;
    pid_t pids[PROCS];

    (void)state;
    print_message("seed %llu\n", (unsigned long long)random);
    for (unsigned i = 0; i < PROCS; i++)
        pids[i] = start(i, unit_random(&random), KEYS, 6);
    while (fae_now_ms() < end_ms) {
        unsigned i = (unsigned)(unit_random(&random) % PROCS);
        struct timespec pause = { 0, (long)(unit_random(&random) % 4000000) };
        int status;

        nanosleep(&pause, NULL);
        kill(pids[i], SIGKILL);
        status = unit_wait(pids[i]);
        assert_int_equal(status, -SIGKILL); /* or it had ended by itself, with a wrong value */
        fae_lcache_reap(cache, i);          /* as the supervisor does */
        pids[i] = start(i, unit_random(&random), KEYS, 6);
        n_kills++;
    }
    all_go_on();
    atomic_store(&shared->stop, true);
    for (unsigned i = 0; i < PROCS; i++)
        assert_int_equal(unit_wait(pids[i]), 0);
    print_message("%u kills, %llu shards lost\n", n_kills, (unsigned long long)stat_of("cache_resets_total"));
    assert_true(n_kills > 10);
    assert_true(stat_of("cache_resets_total") <= n_kills);
    assert_true(stat_of("cache_bytes") < SIZE);
}

/* Few keys, written in place all the time, and read as often. */
static void readers_beside_writers(void **state)
{
    pid_t pids[2];
    uint64_t end_ms = fae_now_ms() + seconds(2) * 1000ull;

    (void)state;
    pids[0] = start(0, 1, 3, 2);
    pids[1] = start(1, 2, 3, 15);
    while (fae_now_ms() < end_ms)
        unit_sleep_ms(10);
    atomic_store(&shared->stop, true);
    assert_int_equal(unit_wait(pids[0]), 0);
    assert_int_equal(unit_wait(pids[1]), 0);
    assert_true(stat_of("cache_hits_total") > 1000);
    assert_int_equal(stat_of("cache_resets_total"), 0);
}

static void *work_in_thread(void *arg)
{
    return (void *)(intptr_t)work(arg);
}

static void threads(void **state)
{
    struct worker workers[3];
    pthread_t ids[UNIT_N(workers)];
    void *answer;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(workers); i++) {
        workers[i] = (struct worker){ .id = i, .random = i + 1, .n_keys = 50, .reads = 8 };
        assert_int_equal(pthread_create(&ids[i], NULL, work_in_thread, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 50; i++) {
        assert_true(stat_of("cache_items") <= 50);
        if (i % 10 == 9)
            fae_lcache_flush(fae_lcache_user(cache, FAE_SLOTS_MAX - 1));
        unit_sleep_ms(10);
    }
    atomic_store(&shared->stop, true);
    for (unsigned i = 0; i < UNIT_N(workers); i++) {
        assert_int_equal(pthread_join(ids[i], &answer), 0);
        assert_null(answer);
    }
    assert_int_equal(stat_of("cache_resets_total"), 0);
}

/* One counter, two processes: no sum is lost. */
static int count_up(void *id)
{
    struct fae_lcache_user *user = fae_lcache_user(cache, *(unsigned *)id);
    int64_t number;

    for (unsigned done = 0; done < 20000;) {
        number = 1;
        if (fae_lcache_incr(user, (const uint8_t *)"n", 1, 1, 0, true, &number) == FAE_LCACHE_YES)
            done++;
    }
    return 0;
}

static void sums_are_not_lost(void **state)
{
    unsigned ids[] = { 0, 1, 2 };
    pid_t pids[UNIT_N(ids)];
    double version;
    char text[32] = "";

    (void)state;
    for (unsigned i = 0; i < UNIT_N(ids); i++)
        pids[i] = unit_fork(count_up, &ids[i]);
    for (unsigned i = 0; i < UNIT_N(ids); i++)
        assert_int_equal(unit_wait(pids[i]), 0);
    assert_true(
        fae_lcache_get(fae_lcache_user(cache, 0), (const uint8_t *)"n", 1, (uint8_t *)text, sizeof text, &version) > 0);
    assert_string_equal(text, "60000");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(threads),
        WITH(readers_beside_writers),
        WITH(sums_are_not_lost),
        WITH(killed_at_any_instruction),
    };

    fae_clock_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
