/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/ring: whole records or none, whatever wraps, fills, breaks or is killed.
 */
#include "unit.h"

#include <sys/mman.h>

#include "base/ring.h"

#define CAP 64u
#define BIG 4096u

static struct fae_ring *new_ring(uint32_t cap)
{
    struct fae_ring *ring = mmap(NULL, fae_ring_size(cap), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(ring != MAP_FAILED);
    fae_ring_init(ring, cap);
    return ring;
}

static void free_ring(struct fae_ring *ring)
{
    munmap(ring, fae_ring_size(ring->cap));
}

static void records_come_out_in_order(void **state)
{
    struct fae_ring *ring = new_ring(CAP);
    char text[CAP];

    (void)state;
    assert_true(fae_ring_empty(ring));
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), -1);
    assert_true(fae_ring_push(ring, "one", 3, NULL, 0));
    assert_true(fae_ring_push(ring, "t", 1, "wo", 2));
    assert_true(fae_ring_push(ring, NULL, 0, NULL, 0));
    assert_false(fae_ring_empty(ring));
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), 3);
    assert_memory_equal(text, "one", 3);
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), 3);
    assert_memory_equal(text, "two", 3);
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), 0);
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), -1);
    assert_true(fae_ring_empty(ring));
    assert_int_equal(ring->n_dropped, 0);
    free_ring(ring);
}

/* Every length at every offset, over the end of the data and over the end of the counters. */
static void records_wrap(void **state)
{
    struct fae_ring *ring = new_ring(CAP);
    uint8_t in[CAP], out[CAP];

    (void)state;
    for (uint32_t at = 0; at < CAP; at++)
        for (unsigned len = 0; len <= CAP - 4; len++) {
            for (unsigned i = 0; i < len; i++)
                in[i] = (uint8_t)(at + len + i);
            ring->head = ring->tail = at % 2 ? at : 0u - CAP + at;
            assert_true(fae_ring_push(ring, in, len / 3, in + len / 3, len - len / 3));
            memset(out, 0, sizeof out);
            assert_int_equal(fae_ring_pop(ring, out, sizeof out), len);
            assert_memory_equal(in, out, len);
            assert_true(fae_ring_empty(ring));
        }
    assert_int_equal(ring->n_dropped, 0);
    free_ring(ring);
}

static void a_full_ring_drops_the_new_record(void **state)
{
    struct fae_ring *ring = new_ring(CAP);
    char text[CAP];

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_true(fae_ring_push(ring, "twelve bytes", 12, NULL, 0));
    assert_false(fae_ring_push(ring, "", 0, "x", 1));
    assert_int_equal(ring->n_dropped, 1);
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), 12);
    assert_true(fae_ring_push(ring, "x", 1, NULL, 0));
    assert_false(fae_ring_push(ring, text, CAP - 3, NULL, 0));
    assert_false(fae_ring_push(ring, text, SIZE_MAX - 2, NULL, 4));
    assert_int_equal(ring->n_dropped, 3);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(fae_ring_pop(ring, text, sizeof text), 12);
    assert_int_equal(fae_ring_pop(ring, text, sizeof text), 1);
    assert_int_equal(text[0], 'x');
    free_ring(ring);
}

static void nonsense_empties_the_ring(void **state)
{
    static const struct {
        uint32_t ahead; /* bytes that head claims */
        uint32_t len;   /* what the record's length says */
    } rows[] = {
        { CAP + 1, 1 }, { UINT32_MAX, 1 }, { 1, 0 },     { 3, 0 },
        { 8, 5 },       { 8, UINT32_MAX }, { CAP, CAP }, { 30, 21 }, /* sound, but longer than the reader can take */
    };
    char text[20];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_ring *ring = new_ring(CAP);

        memcpy(ring->data, &rows[i].len, 4);
        ring->head = rows[i].ahead;
        assert_int_equal(fae_ring_pop(ring, text, sizeof text), -1);
        assert_int_equal(ring->n_dropped, 1);
        assert_true(fae_ring_empty(ring));
        assert_true(fae_ring_push(ring, "again", 5, NULL, 0));
        assert_int_equal(fae_ring_pop(ring, text, sizeof text), 5);
        assert_memory_equal(text, "again", 5);
        free_ring(ring);
    }
}

static void a_broken_tail_stops_the_writer_not_its_memory(void **state)
{
    struct fae_ring *ring = new_ring(CAP);

    (void)state;
    ring->tail = 1000;
    assert_false(fae_ring_push(ring, "x", 1, NULL, 0));
    assert_int_equal(ring->n_dropped, 1);
    free_ring(ring);
}

struct record {
    uint32_t incarnation, seq, len;
    uint8_t bytes[200];
};

/* A writer's life: records of all lengths, until it is killed or has written enough. */
static int write_records(void *arg)
{
    struct fae_ring *ring = ((void **)arg)[0];
    struct record r = { .incarnation = *(uint32_t *)((void **)arg)[1] };

    for (r.seq = 0; r.seq < 2000000;) {
        r.len = r.seq % sizeof r.bytes;
        memset(r.bytes, (int)(r.seq * 31), r.len);
        if (fae_ring_push(ring, &r, offsetof(struct record, bytes), r.bytes, r.len))
            r.seq++;
    }
    return 0;
}

static void check_record(const struct record *r, long n, uint32_t incarnation, uint32_t seq)
{
    assert_int_equal(n, offsetof(struct record, bytes) + r->len);
    assert_int_equal(r->incarnation, incarnation);
    assert_int_equal(r->seq, seq);
    assert_true(r->len < 2 || memcmp(r->bytes, r->bytes + 1, r->len - 1) == 0);
    assert_true(r->len == 0 || r->bytes[0] == (uint8_t)(seq * 31));
}

static void killed_writers_leave_whole_records(void **state)
{
    struct fae_ring *ring = new_ring(BIG);
    uint64_t seed = 7;

    (void)state;
    for (uint32_t incarnation = 1; incarnation <= 20; incarnation++) {
        void *arg[] = { ring, &incarnation };
        uint32_t seq = 0, want = (uint32_t)(unit_random(&seed) % 4000);
        pid_t pid = unit_fork(write_records, arg);
        struct record r;
        long n;

        for (time_t end = time(NULL) + 20; seq < want && time(NULL) < end;)
            if ((n = fae_ring_pop(ring, &r, sizeof r)) >= 0)
                check_record(&r, n, incarnation, seq++);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(unit_wait(pid), -SIGKILL);
        assert_int_equal(seq, want);
        while ((n = fae_ring_pop(ring, &r, sizeof r)) >= 0)
            check_record(&r, n, incarnation, seq++);
    }
    free_ring(ring);
}

static int read_records(void *ring)
{
    struct record r;
    uint32_t last = 0;
    bool any = false;

    for (;;)
        if (fae_ring_pop(ring, &r, sizeof r) >= 0) {
            if (any && r.seq != last + 1)
                return 1;
            any = true;
            last = r.seq;
        }
}

/* The other side: what a killed reader had not dropped is still there for the next. */
static void killed_readers_lose_nothing_unread(void **state)
{
    struct fae_ring *ring = new_ring(BIG);
    uint32_t pushed = 0, seq;
    struct record r = { .len = 0 };

    (void)state;
    for (unsigned life = 0; life < 10; life++) {
        pid_t pid = unit_fork(read_records, ring);

        for (unsigned i = 0; i < 20000; i++) {
            r.seq = pushed;
            if (fae_ring_push(ring, &r, offsetof(struct record, bytes), NULL, 0))
                pushed++;
        }
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(unit_wait(pid), -SIGKILL);
    }
    for (seq = 0; fae_ring_pop(ring, &r, sizeof r) >= 0; seq = r.seq + 1)
        assert_true(seq == 0 || r.seq == seq);
    assert_true(seq == pushed || seq == 0); /* the newest came last, unless all was read before */
    free_ring(ring);
}

static void init_odd(void *ring)
{
    fae_ring_init(ring, 100);
}

static void the_size_is_a_power_of_two(void **state)
{
    struct fae_ring *ring = new_ring(128);

    (void)state;
    assert_true(unit_aborts(init_odd, ring));
    free_ring(ring);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(records_come_out_in_order),
        cmocka_unit_test(records_wrap),
        cmocka_unit_test(a_full_ring_drops_the_new_record),
        cmocka_unit_test(nonsense_empties_the_ring),
        cmocka_unit_test(a_broken_tail_stops_the_writer_not_its_memory),
        cmocka_unit_test(killed_writers_leave_whole_records),
        cmocka_unit_test(killed_readers_lose_nothing_unread),
        cmocka_unit_test(the_size_is_a_power_of_two),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
