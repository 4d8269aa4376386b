/* SPDX-License-Identifier: BSD-2-Clause
 *
 * src/store/idgen.c: layouts, the rules of the word by a clock of our own, and many processes that are killed at random
 * while the clock jumps: no id twice, none beyond what is reserved, neither before nor after a crash.
 */
#include "store/idgen.h"

#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/config.h"
#include "base/mailbox.h"
#include "store/marks.h"
#include "unit.h"

#define EPOCH_MS UINT64_C(1388834974657)
#define BEGAN_MS UINT64_C(1700000000000)

/* What processes of a node share, and the clock they see. */
struct world {
    struct fae_slots *slots;
    struct fae_mailboxes mail;
    struct fae_stores stores;
    struct fae_config config;
    char dir[128];
};

static _Atomic uint64_t *clock_ms; /* shared */

static uint64_t our_clock(uint32_t *ns_out)
{
    if (ns_out)
        *ns_out = 250000;
    return atomic_load(clock_ms);
}

static void *shared(size_t size)
{
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    assert_true(mem != MAP_FAILED);
    return mem;
}

/* A node starts: shared memory is new, the file is what it was. */
static void start(struct world *w)
{
    char why[300];

    memset(w->stores.marks, 0, sizeof *w->stores.marks);
    memset(w->stores.ids, 0, sizeof *w->stores.ids);
    assert_int_equal(fae_marks_open(w->stores.marks, w->dir, why, sizeof why), FAE_OK);
    fae_ids_open(&w->stores, &w->config);
}

static void open_world(struct world *w)
{
    unsigned n_workers = 1;
    void *boxes;

    memset(w, 0, sizeof *w);
    clock_ms = shared(sizeof *clock_ms);
    atomic_store(clock_ms, BEGAN_MS);
    unit_dir(w->dir, sizeof w->dir);
    w->slots = shared(fae_slots_size(&n_workers));
    fae_slots_init(w->slots, &n_workers);
    boxes = shared(fae_mailboxes_size(&n_workers));
    fae_mailboxes_init(boxes, &n_workers);
    assert_int_equal(fae_mailboxes_open(&w->mail, boxes, w->slots), FAE_OK);
    w->mail.me = 0;
    w->stores = (struct fae_stores){ .slots = w->slots,
                                     .mail = &w->mail,
                                     .data_dir = w->dir,
                                     .marks = shared(fae_marks_size(NULL)),
                                     .marks_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC),
                                     .ids = shared(fae_ids_size(NULL)) };
    w->config.node_id = 12;
    start(w);
}

static void close_world(struct world *w)
{
    unsigned n_workers = 1;

    unit_dir_remove(w->dir);
    close(w->stores.marks_fd);
    munmap(w->mail.mem, fae_mailboxes_size(&n_workers));
    fae_mailboxes_close(&w->mail);
    munmap(w->slots, fae_slots_size(&n_workers));
    munmap(w->stores.marks, fae_marks_size(NULL));
    munmap(w->stores.ids, fae_ids_size(NULL));
    munmap(clock_ms, sizeof *clock_ms);
}

/* As if the disk had done it. */
static void reserve(struct world *w, uint64_t upto_ms)
{
    atomic_store(&w->stores.marks->rows[FAE_MARK_ID_MS].reserved, upto_ms);
    atomic_store(&w->stores.marks->rows[FAE_MARK_ID_MS].wanted, upto_ms);
}

static uint64_t wanted(const struct world *w)
{
    return atomic_load(&w->stores.marks->rows[FAE_MARK_ID_MS].wanted);
}

static int64_t next_run(struct world *w, uint32_t n, uint32_t *n_out)
{
    return fae_ids_next_run_at(&w->stores, our_clock, 0, n, n_out);
}

static int64_t next(struct world *w, uint32_t tag)
{
    uint32_t n;

    return fae_ids_next_run_at(&w->stores, our_clock, tag, 1, &n);
}

static struct fae_id_wait look(struct world *w)
{
    struct fae_id_wait wait;

    fae_ids_look_at(&w->stores, our_clock, &wait);
    return wait;
}

static struct fae_id_parts parts_of(struct world *w, int64_t id)
{
    struct fae_id_parts parts;

    assert_true(fae_ids_split(w->stores.ids, id, &parts));
    return parts;
}

static void assert_same(const struct fae_id_parts *got, const struct fae_id_parts *want)
{
    assert_int_equal(got->ms, want->ms);
    assert_int_equal(got->tag, want->tag);
    assert_int_equal(got->node, want->node);
    assert_int_equal(got->seq, want->seq);
}

/* ---- layouts ---- */

static void has_the_layout_fae(void **state)
{
    const struct fae_id_parts parts = { UINT64_C(1500000000000), 5, 12, 8 };
    struct fae_id_parts got;
    struct world w;

    (void)state;
    open_world(&w);
    assert_int_equal(fae_ids_join(w.stores.ids, &parts), INT64_C(466259910456950792));
    got = parts_of(&w, INT64_C(466259910456950792));
    assert_same(&got, &parts);
    reserve(&w, UINT64_C(1500000001000));
    atomic_store(clock_ms, UINT64_C(1500000000000));
    for (unsigned i = 0; i < 8; i++)
        assert_true(next(&w, i) > 0);
    assert_int_equal(next(&w, 5), INT64_C(466259910456950792));
    assert_int_equal(w.stores.ids->tag_max, 31);
    close_world(&w);
}

static void has_the_layout_snowflake(void **state)
{
    /* A well-known one: status 1541815603606036480 of June 2022. */
    const struct fae_id_parts parts = { UINT64_C(1656432460105), 0, 378, 0 };
    struct fae_id_parts got;
    struct world w;

    (void)state;
    open_world(&w);
    w.config.id_layout = 1;
    w.config.node_id = 1023;
    start(&w);
    assert_int_equal(fae_ids_join(w.stores.ids, &parts), INT64_C(1541815603606036480));
    got = parts_of(&w, INT64_C(1541815603606036480));
    assert_same(&got, &parts);
    reserve(&w, BEGAN_MS + 1);
    assert_true(next(&w, 0) > 0);
    got = parts_of(&w, next(&w, 0));
    assert_int_equal(got.ms, BEGAN_MS);
    assert_int_equal(got.node, 1023);
    assert_int_equal(got.tag, 0);
    assert_int_equal(got.seq, 1);
    assert_int_equal(w.stores.ids->tag_max, 0);
    close_world(&w);
}

static void splits_what_it_joins(void **state)
{
    uint64_t random = 88172645463325252u;
    struct fae_id_parts parts, got;
    struct world w;

    (void)state;
    open_world(&w);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t r = unit_random(&random);

        parts = (struct fae_id_parts){ EPOCH_MS + 1 + (r >> 24), r & 31, r >> 5 & 31, r >> 10 & 4095 };
        got = parts_of(&w, fae_ids_join(w.stores.ids, &parts));
        assert_same(&got, &parts);
    }
    assert_int_equal(parts_of(&w, INT64_MAX).ms, EPOCH_MS + (UINT64_C(1) << 41) - 1);
    assert_false(fae_ids_split(w.stores.ids, 0, &got));
    assert_false(fae_ids_split(w.stores.ids, -1, &got));
    assert_false(fae_ids_split(w.stores.ids, INT64_MIN, &got));
    assert_false(fae_ids_split(w.stores.ids, 4194303, &got));
    assert_true(fae_ids_split(w.stores.ids, 4194304, &got));
    close_world(&w);
}

/* ---- the word ---- */

static void gives_4096_a_millisecond(void **state)
{
    struct world w;
    int64_t last = 0;

    (void)state;
    open_world(&w);
    reserve(&w, BEGAN_MS + 1000);
    for (unsigned ms = 0; ms < 3; ms++) {
        for (unsigned i = 0; i < 4096; i++) {
            int64_t id = next(&w, 0);

            assert_true(id > last);
            assert_int_equal(parts_of(&w, id).ms, BEGAN_MS + ms);
            assert_int_equal(parts_of(&w, id).seq, i);
            last = id;
        }
        assert_int_equal(look(&w).verdict, FAE_ID_FULL);
        assert_int_equal(look(&w).wait_ns, 750000);
        assert_int_equal(next(&w, 31), 0); /* over all tags */
        atomic_fetch_add(clock_ms, 1);
        assert_int_equal(look(&w).verdict, FAE_ID_READY);
    }
    assert_int_equal(fae_ids_cell(&w.stores)->n_made, 3 * 4096);
    close_world(&w);
}

static void gives_many_in_a_row(void **state)
{
    struct world w;
    uint32_t n;

    (void)state;
    open_world(&w);
    reserve(&w, BEGAN_MS + 1000);
    assert_int_equal(parts_of(&w, next_run(&w, 100, &n)).seq, 0);
    assert_int_equal(n, 100);
    assert_int_equal(parts_of(&w, next(&w, 0)).seq, 100);
    assert_int_equal(parts_of(&w, next_run(&w, 100000, &n)).seq, 101);
    assert_int_equal(n, 4096 - 101);
    assert_int_equal(next_run(&w, 1, &n), 0);
    atomic_fetch_add(clock_ms, 1);
    assert_int_equal(parts_of(&w, next_run(&w, UINT32_MAX, &n)).seq, 0);
    assert_int_equal(n, 4096);
    assert_int_equal(fae_ids_cell(&w.stores)->n_made, 2 * 4096);
    close_world(&w);
}

static void a_clock_set_back_gives_none(void **state)
{
    const uint64_t day_ms = 86400000;
    struct world w;
    int64_t id;

    (void)state;
    open_world(&w);
    reserve(&w, BEGAN_MS + 2 * day_ms);
    id = next(&w, 0);
    atomic_fetch_sub(clock_ms, 1);
    assert_int_equal(next(&w, 0), 0);
    assert_int_equal(look(&w).verdict, FAE_ID_BACK);
    assert_int_equal(look(&w).wait_ns, 750000);
    atomic_fetch_add(clock_ms, 1);
    assert_int_equal(next(&w, 0), id + 1);
    atomic_fetch_add(clock_ms, day_ms); /* forward is taken as it is, and back from there is back */
    assert_int_equal(parts_of(&w, next(&w, 0)).ms, BEGAN_MS + day_ms);
    atomic_fetch_sub(clock_ms, day_ms);
    assert_int_equal(next(&w, 0), 0);
    assert_int_equal(look(&w).verdict, FAE_ID_BACK);
    assert_int_equal(look(&w).wait_ns, day_ms * 1000000 - 250000);
    close_world(&w);
}

static void a_time_beyond_the_layout_gives_none(void **state)
{
    static const uint64_t none[] = { 0, EPOCH_MS - 1, EPOCH_MS, EPOCH_MS + (UINT64_C(1) << 41), UINT64_C(1) << 50 };
    struct world w;

    (void)state;
    open_world(&w);
    reserve(&w, UINT64_MAX);
    for (unsigned i = 0; i < UNIT_N(none); i++) {
        atomic_store(clock_ms, none[i]);
        assert_int_equal(next(&w, 0), 0);
        assert_int_equal(look(&w).verdict, FAE_ID_RANGE);
    }
    atomic_store(clock_ms, EPOCH_MS + 1); /* nothing of that has moved the word */
    assert_int_equal(parts_of(&w, next(&w, 0)).ms, EPOCH_MS + 1);
    atomic_store(clock_ms, EPOCH_MS + (UINT64_C(1) << 41) - 1);
    assert_int_equal(parts_of(&w, next(&w, 31)).ms, EPOCH_MS + (UINT64_C(1) << 41) - 1);
    close_world(&w);
}

/* ---- the disk ---- */

static void uses_what_is_reserved(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    assert_int_equal(next(&w, 0), 0);
    assert_int_equal(wanted(&w), 0);
    assert_int_equal(look(&w).verdict, FAE_ID_DISK);
    assert_int_equal(look(&w).error, FAE_OK);
    assert_int_equal(wanted(&w), BEGAN_MS + 1000);
    atomic_store(&w.stores.marks->error, FAE_NO_SPACE);
    assert_int_equal(look(&w).error, FAE_NO_SPACE);
    reserve(&w, BEGAN_MS + 1000);
    atomic_store(clock_ms, BEGAN_MS + 500);
    assert_true(next(&w, 0) > 0); /* an error matters to those only who find none */
    assert_int_equal(wanted(&w), BEGAN_MS + 1000);
    atomic_store(clock_ms, BEGAN_MS + 501); /* less than half is left */
    assert_true(next(&w, 0) > 0);
    assert_int_equal(wanted(&w), BEGAN_MS + 1501);
    atomic_store(clock_ms, BEGAN_MS + 999);
    assert_true(next(&w, 0) > 0);
    assert_int_equal(wanted(&w), BEGAN_MS + 1501); /* once is enough while the disk is at it */
    atomic_store(clock_ms, BEGAN_MS + 1000);
    assert_int_equal(next(&w, 0), 0);
    assert_int_equal(look(&w).verdict, FAE_ID_DISK);
    close_world(&w);
}

static void wait_reserved(struct world *w, uint64_t upto_ms)
{
    for (unsigned i = 0; i < 10000 && fae_marks_reserved(w->stores.marks, FAE_MARK_ID_MS) < upto_ms; i++)
        unit_sleep_ms(1);
    assert_true(fae_marks_reserved(w->stores.marks, FAE_MARK_ID_MS) >= upto_ms);
}

static void goes_on_after_its_end(void **state)
{
    struct fae_marks_writer *writer = NULL;
    struct world w;
    int64_t last;

    (void)state;
    open_world(&w);
    assert_int_equal(fae_marks_writer_start(&writer, &w.stores), FAE_OK);
    look(&w);
    wait_reserved(&w, BEGAN_MS + 1000);
    last = next(&w, 31);
    fae_marks_writer_stop(&writer);
    start(&w); /* after a crash: nobody knows what was used of what was reserved */
    assert_int_equal(look(&w).verdict, FAE_ID_BACK);
    assert_int_equal(look(&w).wait_ns, 999 * 1000000 - 250000);
    atomic_store(clock_ms, BEGAN_MS + 999);
    assert_int_equal(look(&w).verdict, FAE_ID_FULL);
    atomic_store(clock_ms, BEGAN_MS + 1000);
    assert_int_equal(look(&w).verdict, FAE_ID_DISK);
    reserve(&w, BEGAN_MS + 2000);
    assert_int_equal(parts_of(&w, next(&w, 0)).ms, BEGAN_MS + 1000);
    fae_ids_close(&w.stores); /* a good end takes back what it did not use */
    fae_marks_close(w.stores.marks, w.dir);
    start(&w);
    assert_int_equal(look(&w).verdict, FAE_ID_FULL);
    atomic_store(clock_ms, BEGAN_MS + 1001);
    reserve(&w, BEGAN_MS + 2000);
    assert_true(next(&w, 0) > last);
    atomic_store(clock_ms, BEGAN_MS - 3600000); /* and no clock brings an old one back */
    start(&w);
    assert_int_equal(look(&w).verdict, FAE_ID_BACK);
    close_world(&w);
}

/* A node that made no ids ends as it began. */
static void makes_no_mark_without_ids(void **state)
{
    struct world w;

    (void)state;
    open_world(&w);
    for (unsigned i = 0; i < 3; i++) {
        fae_ids_close(&w.stores);
        fae_marks_close(w.stores.marks, w.dir);
        start(&w);
        assert_int_equal(w.stores.marks->began[FAE_MARK_ID_MS], 0);
    }
    close_world(&w);
}

static void tells_its_counters_one(void *arg, const char *name, const char *help, bool counter, uint64_t value)
{
    assert_true(counter);
    assert_non_null(strchr(help, '.'));
    if (strcmp(name, "ids_made_total") == 0)
        *(uint64_t *)arg += value;
}

static void tells_its_counters(void **state)
{
    uint64_t n_made = 0;
    struct world w;
    uint32_t n;

    (void)state;
    open_world(&w);
    reserve(&w, BEGAN_MS + 1000);
    next_run(&w, 7, &n);
    w.mail.me = 1;
    next_run(&w, 3, &n);
    fae_ids_stats(&w.stores, tells_its_counters_one, &n_made);
    assert_int_equal(n_made, 10);
    close_world(&w);
}

/* ---- many at once ---- */

#define SPAN_MS (1u << 16) /* milliseconds that a run may come to, for one bit an id */
#define MAKERS 4

/* Every id that was ever made, as a bit. */
struct seen {
    _Atomic uint64_t n_made, n_twice, n_unreserved, n_wrong;
    _Atomic uint64_t bits[(uint64_t)SPAN_MS * FAE_IDS_PER_MS / 64];
};

static struct world *world;
static struct seen *seen;

static void note(int64_t id)
{
    struct fae_id_parts parts;
    uint64_t at, bit;

    if (!fae_ids_split(world->stores.ids, id, &parts) || parts.node != 12 || parts.ms - BEGAN_MS >= SPAN_MS) {
        atomic_fetch_add(&seen->n_wrong, 1);
        return;
    }
    if (parts.ms >= fae_marks_reserved(world->stores.marks, FAE_MARK_ID_MS))
        atomic_fetch_add(&seen->n_unreserved, 1);
    at = (parts.ms - BEGAN_MS) * FAE_IDS_PER_MS + parts.seq;
    bit = UINT64_C(1) << (at & 63);
    if (atomic_fetch_or_explicit(&seen->bits[at / 64], bit, memory_order_relaxed) & bit)
        atomic_fetch_add(&seen->n_twice, 1);
}

/* Time goes on when its ids are given, and sometimes jumps. */
static void move_clock(const struct fae_id_wait *wait, uint64_t *random)
{
    uint64_t now_ms = atomic_load(clock_ms), to_ms = now_ms, r = unit_random(random) % 1000;

    if (wait->verdict == FAE_ID_DISK)
        sched_yield();
    if (wait->verdict == FAE_ID_FULL)
        to_ms += r < 10 ? 3 : 1;
    if (wait->verdict == FAE_ID_FULL && r >= 990)
        to_ms -= 40;
    if (wait->verdict == FAE_ID_BACK)
        to_ms += wait->wait_ns / 1000000 + 1;
    atomic_compare_exchange_strong(clock_ms, &now_ms, to_ms);
}

/* Ids one by one and many at once, until n_max are made by all. */
static int make_ids(void *arg)
{
    uint64_t n_max = *(uint64_t *)arg, random = (uint64_t)getpid() * 0x9e3779b97f4a7c15u + atomic_load(&seen->n_made);
    int64_t last[2] = { 0, 0 };

    while (atomic_load_explicit(&seen->n_made, memory_order_relaxed) < n_max) {
        uint32_t tag = unit_random(&random) & 1, n = 1;
        int64_t id = fae_ids_next_run_at(&world->stores, our_clock, tag,
                                         unit_random(&random) % 64 ? 1 : 1 + unit_random(&random) % 3000, &n);
        struct fae_id_wait wait;

        if (id == 0) {
            fae_ids_look_at(&world->stores, our_clock, &wait);
            move_clock(&wait, &random);
            continue;
        }
        if (id <= last[tag])
            atomic_fetch_add(&seen->n_wrong, 1);
        for (uint32_t i = 0; i < n; i++)
            note(id + i);
        last[tag] = id + n - 1;
        atomic_fetch_add_explicit(&seen->n_made, n, memory_order_relaxed);
    }
    return 0;
}

static int write_marks(void *arg)
{
    struct fae_marks_writer *writer = NULL;

    (void)arg;
    if (fae_marks_writer_start(&writer, &world->stores))
        return 1;
    for (;;)
        pause();
}

static void is_as_it_must_be(uint64_t n_max)
{
    uint64_t n_bits = 0;

    for (size_t i = 0; i < UNIT_N(seen->bits); i++)
        n_bits += (unsigned)__builtin_popcountll(seen->bits[i]);
    assert_true(n_bits >= seen->n_made); /* who was killed may have noted what it did not count */
    assert_int_equal(seen->n_twice, 0);
    assert_int_equal(seen->n_unreserved, 0);
    assert_int_equal(seen->n_wrong, 0);
    assert_true(seen->n_made >= n_max);
}

/* Kills one maker after the other, for a while, and puts others in their place. */
static void harass(pid_t makers[MAKERS], uint64_t until, uint64_t *n_max, uint64_t *random)
{
    while (atomic_load(&seen->n_made) < until) {
        unsigned i = unit_random(random) % MAKERS;

        unit_sleep_ms(1 + unit_random(random) % 5);
        kill(makers[i], SIGKILL);
        unit_wait(makers[i]);
        makers[i] = unit_fork(make_ids, n_max);
    }
}

/* A node: a process that writes marks, and makers, all of which are killed at its end. */
static void run_node(uint64_t until, uint64_t *n_max, uint64_t *random)
{
    pid_t writer = unit_fork(write_marks, NULL), makers[MAKERS];

    for (unsigned i = 0; i < MAKERS; i++)
        makers[i] = unit_fork(make_ids, n_max);
    harass(makers, until, n_max, random);
    kill(writer, SIGKILL);
    for (unsigned i = 0; i < MAKERS; i++)
        kill(makers[i], SIGKILL);
    for (unsigned i = 0; i < MAKERS; i++)
        unit_wait(makers[i]);
    unit_wait(writer);
}

/* C8: processes killed at random, nodes killed as a whole, a clock that jumps to and fro. */
static void never_gives_one_twice(void **state)
{
    const bool is_long = getenv("FAE_LONG");
    uint64_t n_max = is_long ? 100000000 : 3000000, random = 42;
    const unsigned n_nodes = is_long ? 8 : 4;
    struct world w;

    (void)state;
    open_world(&w);
    world = &w;
    seen = shared(sizeof *seen);
    for (unsigned i = 1; i <= n_nodes; i++) {
        run_node(n_max / n_nodes * i, &n_max, &random);
        atomic_fetch_sub(clock_ms, unit_random(&random) % 500); /* while it is down */
        start(&w);
        is_as_it_must_be(n_max / n_nodes * i);
    }
    munmap(seen, sizeof *seen);
    close_world(&w);
}

static void *make_in_thread(void *arg)
{
    make_ids(arg);
    return NULL;
}

/* The same with threads, whose races a sanitizer sees. */
static void is_shared_by_threads(void **state)
{
    struct fae_marks_writer *writer = NULL;
    uint64_t n_max = 200000;
    pthread_t threads[MAKERS];
    struct world w;

    (void)state;
    open_world(&w);
    world = &w;
    seen = shared(sizeof *seen);
    assert_int_equal(fae_marks_writer_start(&writer, &w.stores), FAE_OK);
    for (unsigned i = 0; i < MAKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, make_in_thread, &n_max), 0);
    for (unsigned i = 0; i < MAKERS; i++)
        pthread_join(threads[i], NULL);
    fae_marks_writer_stop(&writer);
    is_as_it_must_be(n_max);
    munmap(seen, sizeof *seen);
    close_world(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(has_the_layout_fae),
        cmocka_unit_test(has_the_layout_snowflake),
        cmocka_unit_test(splits_what_it_joins),
        cmocka_unit_test(gives_4096_a_millisecond),
        cmocka_unit_test(gives_many_in_a_row),
        cmocka_unit_test(a_clock_set_back_gives_none),
        cmocka_unit_test(a_time_beyond_the_layout_gives_none),
        cmocka_unit_test(uses_what_is_reserved),
        cmocka_unit_test(goes_on_after_its_end),
        cmocka_unit_test(makes_no_mark_without_ids),
        cmocka_unit_test(tells_its_counters),
        cmocka_unit_test(is_shared_by_threads),
        cmocka_unit_test(never_gives_one_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
