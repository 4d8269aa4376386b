/* SPDX-License-Identifier: BSD-2-Clause
 *
 * store/kv_ring: requests of all sizes round the end of the ring, withdrawn and begun; what a broken writer left; two
 * threads that race for each request.
 */
#include "unit.h"

#include <pthread.h>

#include "store/kv_ring.h"

#define CAP 4096u

static struct fae_kv_ring *ring;

static int set_up(void **state)
{
    (void)state;
    ring = aligned_alloc(64, (fae_kv_ring_size(CAP) + 63) & ~63ul);
    memset(ring, 0, fae_kv_ring_size(CAP));
    fae_kv_ring_init(ring, CAP);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(ring);
    return 0;
}

static bool put(uint64_t seq, const char *key, const uint8_t *value, uint32_t len, uint32_t *at)
{
    const struct fae_kv_request r = { .op = FAE_KV_CAS,
                                      .flags = 3,
                                      .incarnation = 9,
                                      .seq = seq,
                                      .deadline_ms = 10,
                                      .ttl_ms = 11,
                                      .version = 12,
                                      .number = -13,
                                      .key = key,
                                      .key_len = (uint32_t)strlen(key),
                                      .value = value,
                                      .value_len = len };

    return fae_kv_ring_put(ring, &r, at);
}

static void test_carries_everything(void **state)
{
    struct fae_kv_request r;
    uint32_t at, from = fae_kv_ring_tail(ring);

    (void)state;
    assert_true(fae_kv_ring_empty(ring));
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN_NONE);
    assert_true(put(5, "key", (const uint8_t *)"value", 5, &at));
    assert_false(fae_kv_ring_empty(ring));
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN);
    assert_int_equal(r.op, FAE_KV_CAS);
    assert_int_equal(r.flags, 3);
    assert_int_equal(r.incarnation, 9);
    assert_int_equal(r.seq, 5);
    assert_int_equal(r.deadline_ms, 10);
    assert_int_equal(r.ttl_ms, 11);
    assert_int_equal(r.version, 12);
    assert_int_equal(r.number, -13);
    assert_int_equal(r.key_len, 3);
    assert_memory_equal(r.key, "key", 3);
    assert_int_equal(r.value_len, 5);
    assert_memory_equal(r.value, "value", 5);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN_NONE);
    assert_false(fae_kv_ring_empty(ring));
    fae_kv_ring_pass(ring, from);
    assert_true(fae_kv_ring_empty(ring));
}

/* Sizes that meet every offset; order and bytes stay. */
static void test_goes_round(void **state)
{
    uint8_t value[700];
    uint64_t seed = 42, put_seq = 0, got_seq = 0;
    uint32_t at, from = fae_kv_ring_tail(ring);
    struct fae_kv_request r;

    (void)state;
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t len = (uint32_t)(unit_random(&seed) % sizeof value);

        memset(value, (int)(put_seq & 0xff), len);
        if (put(put_seq, "k", value, len, &at)) {
            put_seq++;
            continue;
        }
        while (fae_kv_ring_take(ring, &from, &r) == FAE_KV_TAKEN) {
            assert_int_equal(r.seq, got_seq);
            for (uint32_t b = 0; b < r.value_len; b++)
                assert_int_equal(r.value[b], got_seq & 0xff);
            got_seq++;
        }
        fae_kv_ring_pass(ring, from);
        assert_int_equal(got_seq, put_seq);
    }
    assert_true(got_seq > 1000);
    assert_int_equal(ring->n_broken, 0);
}

static void test_withdrawn_or_begun(void **state)
{
    uint32_t first, second, from = fae_kv_ring_tail(ring);
    struct fae_kv_request r;

    (void)state;
    assert_true(put(0, "a", NULL, 0, &first));
    assert_true(put(1, "b", NULL, 0, &second));
    assert_true(fae_kv_ring_withdraw(ring, first));
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN_WITHDRAWN);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN);
    assert_false(fae_kv_ring_withdraw(ring, second));
    fae_kv_ring_pass(ring, from);
    assert_false(fae_kv_ring_withdraw(ring, first));
    assert_false(fae_kv_ring_withdraw(ring, second));
}

/* A writer died after it began two of three; the next one goes on at the tail. */
static void test_next_writer(void **state)
{
    uint32_t at, from = fae_kv_ring_tail(ring);
    struct fae_kv_request r;

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_true(put(i, "a", NULL, 0, &at));
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN);
    from = fae_kv_ring_tail(ring);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN_BEGUN);
    assert_int_equal(r.seq, 0);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN_BEGUN);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN);
    assert_int_equal(r.seq, 2);
    assert_int_equal(fae_kv_ring_take(ring, &from, &r), FAE_KV_TAKEN_NONE);
}

/* Nothing that lies there makes the writer read outside of it or stand still. */
static void test_nonsense(void **state)
{
    uint64_t seed = 7;

    (void)state;
    for (unsigned round = 0; round < 20000; round++) {
        uint32_t from = fae_kv_ring_tail(ring), words[4];
        struct fae_kv_request r;

        for (unsigned i = 0; i < 4; i++)
            words[i] = (uint32_t)unit_random(&seed) & (round % 3 ? 0x1ff : UINT32_MAX);
        memcpy(ring->data + (from & (CAP - 1)), words, CAP - (from & (CAP - 1)) < 16 ? 8 : 16);
        ring->head = from + (words[3] & 0x1ff8);
        while (fae_kv_ring_take(ring, &from, &r) != FAE_KV_TAKEN_NONE) {
            assert_true((const uint8_t *)r.key >= ring->data);
            assert_true(r.value + r.value_len <= ring->data + CAP);
        }
        assert_int_equal(from, ring->head);
        fae_kv_ring_pass(ring, from);
    }
    assert_true(ring->n_broken > 100);
}

/* ---- each request is either withdrawn or done ---- */

#define RACES 20000u

static _Atomic uint8_t outcome[RACES]; /* 1: withdrawn, as the worker knows; 2: done by the writer; 4: seen withdrawn */
static _Atomic bool worker_through;

static void *worker(void *arg)
{
    uint64_t seed = 99;
    uint32_t at;

    (void)arg;
    for (uint32_t i = 0; i < RACES; i++) {
        while (!put(i, "key", NULL, 0, &at))
            sched_yield();
        if (unit_random(&seed) % 2 && fae_kv_ring_withdraw(ring, at))
            atomic_fetch_or(&outcome[i], 1);
    }
    atomic_store(&worker_through, true);
    return NULL;
}

static void test_race(void **state)
{
    uint32_t from = fae_kv_ring_tail(ring);
    struct fae_kv_request r;
    enum fae_kv_taken how;
    pthread_t thread;
    unsigned n[8] = { 0 };
    bool through;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, worker, NULL), 0);
    do {
        through = atomic_load(&worker_through);
        while ((how = fae_kv_ring_take(ring, &from, &r)) != FAE_KV_TAKEN_NONE)
            atomic_fetch_or(&outcome[r.seq], how == FAE_KV_TAKEN ? 2 : 4);
        fae_kv_ring_pass(ring, from);
    } while (!through);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < RACES; i++)
        n[outcome[i] & 7]++;
    assert_int_equal(n[2] + n[5], RACES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_carries_everything, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_goes_round, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_withdrawn_or_begun, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_next_writer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nonsense, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_race, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
