/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Threads stand in for processes, so that TSan sees every structure of shared memory under load: ring, mailbox, mutex,
 * stats, histograms, slots, log, slow log, names. Each part is bounded by time and checks what it carries.
 */
#include "unit.h"

#include <poll.h>
#include <pthread.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/ring.h"
#include "base/shm.h"
#include "base/shmutex.h"
#include "rpc/slowlog.h"
#include "rpc/stats.h"
#include "rpc/turn.h"

#define PART_MS 250
#define RING_BYTES 4096u
#define SLOW_CALLS 16
#define NAMES 256

static const unsigned n_workers = 2;

static size_t ring_size(const void *arg)
{
    (void)arg;
    return fae_ring_size(RING_BYTES);
}

static void ring_init(void *mem, const void *arg)
{
    (void)arg;
    fae_ring_init(mem, RING_BYTES);
}

struct counted {
    struct fae_shmutex lock;
    uint64_t n; /* guarded */
};

static size_t counted_size(const void *arg)
{
    (void)arg;
    return sizeof(struct counted);
}

static void counted_init(void *mem, const void *arg)
{
    (void)arg;
    fae_shmutex_init(&((struct counted *)mem)->lock);
}

static size_t slowlog_size(const void *arg)
{
    (void)arg;
    return fae_slowlog_size(&(struct fae_config){ .slowlog_size = SLOW_CALLS });
}

static void slowlog_init(void *mem, const void *arg)
{
    (void)arg;
    fae_slowlog_init(mem, &(struct fae_config){ .slowlog_size = SLOW_CALLS });
}

static size_t names_size(const void *arg)
{
    (void)arg;
    return fae_names_size(NAMES, 8);
}

static void names_init(void *mem, const void *arg)
{
    (void)arg;
    fae_names_init(mem, NAMES, 8);
}

static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "mail", fae_mailboxes_size, fae_mailboxes_init },
    { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
    { "logs", fae_log_rings_size, fae_log_rings_init },
    { "ring", ring_size, ring_init },
    { "counted", counted_size, counted_init },
    { "slowlog", slowlog_size, slowlog_init },
    { "names", names_size, names_init },
};

static struct fae_shm shm;
static struct fae_slots *slots;
static struct fae_mailboxes boxes;
static uint64_t end_ms;

static int set_up(void **state)
{
    (void)state;
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers))
        return -1;
    slots = fae_shm_get(&shm, "slots");
    for (unsigned i = 0; i < n_workers + 2; i++) {
        slots->slots[i].incarnation = 1;
        slots->slots[i].state = FAE_SLOT_READY;
    }
    end_ms = fae_now_ms() + PART_MS;
    return fae_mailboxes_open(&boxes, fae_shm_get(&shm, "mail"), slots) ? -1 : 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_mailboxes_close(&boxes);
    fae_shm_unmap(&shm);
    return 0;
}

static bool time_left(void)
{
    return fae_now_ms() < end_ms;
}

struct job {
    void *(*run)(void *job);
    unsigned id;
    uint64_t n; /* what it did */
    pthread_t thread;
};

static void start_all(struct job *jobs, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(pthread_create(&jobs[i].thread, NULL, jobs[i].run, &jobs[i]), 0);
}

static uint64_t join_all(struct job *jobs, unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        pthread_join(jobs[i].thread, NULL);
        sum += jobs[i].n;
    }
    return sum;
}

/* ---- ring: one writer, one reader ---- */

struct record {
    uint64_t seq;
    uint8_t bytes[120];
};

static void *write_ring(void *arg)
{
    struct fae_ring *ring = fae_shm_get(&shm, "ring");
    struct job *job = arg;
    struct record r;

    while (time_left()) {
        r.seq = job->n;
        memset(r.bytes, (int)r.seq, sizeof r.bytes);
        if (fae_ring_push(ring, &r, sizeof r.seq, r.bytes, r.seq % sizeof r.bytes))
            job->n++;
    }
    return NULL;
}

static void a_ring(void **state)
{
    struct fae_ring *ring = fae_shm_get(&shm, "ring");
    struct job writer = { .run = write_ring };
    struct record r;
    uint64_t seq = 0;
    bool last;
    long n;

    (void)state;
    start_all(&writer, 1);
    do {
        last = !time_left();
        if (last)
            pthread_join(writer.thread, NULL);
        while ((n = fae_ring_pop(ring, &r, sizeof r)) >= 0) {
            assert_int_equal(r.seq, seq);
            assert_int_equal(n, sizeof r.seq + seq % sizeof r.bytes);
            for (long i = 0; i < n - (long)sizeof r.seq; i++)
                assert_true(r.bytes[i] == (uint8_t)seq);
            seq++;
        }
    } while (!last);
    assert_int_equal(seq, writer.n);
    assert_true(seq > 100);
}

/* ---- mailbox: three senders, one receiver who sleeps ---- */

static void *send_mail(void *arg)
{
    struct fae_mailboxes mine = boxes;
    struct job *job = arg;

    mine.me = job->id == 1 ? 3 : job->id;
    while (time_left())
        if (fae_mail_send(&mine, 1, job->id, job->n, &job->n, sizeof job->n) == FAE_OK)
            job->n++;
    fae_mail_rouse(&mine, 1); /* tells that it is done */
    return NULL;
}

static void a_mailbox(void **state)
{
    struct job senders[] = { { .run = send_mail, .id = 0 },
                             { .run = send_mail, .id = 1 },
                             { .run = send_mail, .id = 2 } };
    uint64_t next[3] = { 0 };
    struct fae_mail mail;
    struct pollfd pfd;

    (void)state;
    boxes.me = 1;
    pfd = (struct pollfd){ .fd = fae_mail_fd(&boxes), .events = POLLIN };
    start_all(senders, 3);
    while (time_left()) {
        assert_int_equal(poll(&pfd, 1, 10000), 1);
        fae_mail_quiet(&boxes);
        while (fae_mail_next(&boxes, &mail)) {
            assert_int_equal(mail.len, 8);
            assert_memory_equal(mail.body, &mail.arg, 8);
            assert_int_equal(mail.arg, next[mail.type]++);
        }
    }
    join_all(senders, 3);
    while (fae_mail_next(&boxes, &mail))
        assert_int_equal(mail.arg, next[mail.type]++);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(next[i], senders[i].n);
    assert_true(next[0] + next[1] + next[2] > 100);
    assert_int_equal(slots->slots[1].n_mail_stale, 0);
}

/* ---- mutex ---- */

static void *count(void *arg)
{
    struct counted *c = fae_shm_get(&shm, "counted");
    struct job *job = arg;
    bool died;

    while (time_left())
        if (job->id == 0) {
            if (fae_shmutex_lock_within(&c->lock, 1000, &died) == FAE_OK) {
                c->n++;
                job->n++;
                fae_shmutex_unlock(&c->lock);
            }
        } else {
            fae_shmutex_lock(&c->lock);
            c->n++;
            job->n++;
            fae_shmutex_unlock(&c->lock);
        }
    return NULL;
}

static void a_mutex(void **state)
{
    struct job jobs[] = { { .run = count, .id = 0 }, { .run = count, .id = 1 }, { .run = count, .id = 2 } };

    struct counted *c = fae_shm_get(&shm, "counted");
    uint64_t done;

    (void)state;
    start_all(jobs, 3);
    done = join_all(jobs, 3);
    assert_int_equal(c->n, done);
    assert_true(done > 100);
}

/* ---- stats and slots: two workers write, one reads it all ---- */

static void *work(void *arg)
{
    struct fae_stats *stats = fae_shm_get(&shm, "stats");
    struct fae_turns *turns = fae_shm_get(&shm, "turns");
    struct job *job = arg;
    struct fae_worker_stats *w = &stats->workers[job->id];
    struct fae_slot *slot = &slots->slots[job->id];

    while (time_left()) {
        char name[16];
        int len = snprintf(name, sizeof name, "m%u", (unsigned)(job->n % 50));
        unsigned row = fae_stats_row(stats, name, (size_t)len);
        struct fae_method_stats *m = &w->methods[row];

        FAE_STAT_SET(slot->heartbeat_ms, fae_now_ms());
        FAE_STAT_SET(slot->method, row + 1);
        FAE_STAT_ADD(slot->n_accepted, 1);
        FAE_STAT_ADD(w->n_bytes_in, 10);
        FAE_STAT_ADD(m->n_calls, 1);
        fae_hist_add(&m->latency, job->n * 100);
        FAE_STAT_SET(slot->method, 0);
        FAE_STAT_SET(turns->holder[0], job->id);
        job->n++;
    }
    return NULL;
}

static void counters(void **state)
{
    struct job jobs[] = { { .run = work, .id = 0 }, { .run = work, .id = 1 } };
    struct fae_stats *stats = fae_shm_get(&shm, "stats");
    struct fae_turns *turns = fae_shm_get(&shm, "turns");
    struct fae_buf buf = { 0 };
    uint64_t sum = 0, values = 0, done;

    (void)state;
    start_all(jobs, 2);
    while (time_left()) {
        buf.len = 0;
        fae_stats_json(stats, slots, NULL, &buf);
        assert_true(buf.len > 50);
        assert_true(FAE_STAT_GET(slots->slots[0].method) <= 50);
        assert_true(FAE_STAT_GET(turns->holder[0]) < 2);
    }
    fae_buf_fini(&buf);
    done = join_all(jobs, 2);
    assert_int_equal(stats->n_names, 50);
    for (unsigned w = 0; w < 2; w++)
        for (unsigned row = 0; row < 50; row++) {
            assert_int_equal(stats->names[row][0], 'm');
            sum += stats->workers[w].methods[row].n_calls;
            for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++)
                values += stats->workers[w].methods[row].latency.n[b];
        }
    assert_int_equal(sum, done);
    assert_int_equal(values, done);
    assert_int_equal(slots->slots[0].n_accepted + slots->slots[1].n_accepted, done);
}

/* ---- log: threads of one process, ops reads ---- */

static void *log_lines(void *arg)
{
    struct job *job = arg;

    while (time_left()) {
        FAE_INFO("job=%u n=%llu", job->id, (unsigned long long)job->n++);
        unit_sleep_ms(0);
    }
    return NULL;
}

static void log_rings(void **state)
{
    struct job jobs[] = { { .run = log_lines, .id = 0 }, { .run = log_lines, .id = 1 } };
    struct fae_ring *ring = fae_log_ring(fae_shm_get(&shm, "logs"), 2);
    static char line[FAE_LOG_LINE_MAX + 1];
    uint64_t n_lines = 0;
    bool last;
    long n;

    (void)state;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO }, "worker-0");
    fae_log_to_ring(ring);
    start_all(jobs, 2);
    do {
        last = !time_left();
        if (last)
            join_all(jobs, 2);
        while ((n = fae_ring_pop(ring, line, sizeof line - 1)) >= 0) {
            assert_int_equal(line[n - 1], '\n');
            assert_memory_equal(line, "ts=", 3);
            n_lines++;
        }
    } while (!last);
    fae_log_to_fd(STDERR_FILENO);
    assert_int_equal(n_lines + ring->n_dropped, jobs[0].n + jobs[1].n);
    assert_true(n_lines > 100);
}

#define PART(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* ---- slow log and names: many writers, any reader ---- */

static void *slow_writer(void *arg)
{
    struct job *job = arg;
    char name[32];

    while (time_left()) {
        struct fae_slow_call call = {
            .total_us = job->n, .method = name, .code = name, .peer = name, .rid = "", .reason = "", .uid = ""
        };

        snprintf(name, sizeof name, "%u.%u", job->id, (unsigned)(job->n % 1000));
        fae_slowlog_add(fae_shm_get(&shm, "slowlog"), &call, "", 0);
        fae_stats_reason(fae_shm_get(&shm, "stats"), job->id % n_workers, name, strlen(name));
        snprintf(name, sizeof name, "%c%c", (char)('a' + job->n % 16), (char)('a' + job->n / 16 % 16));
        if (fae_names_add(fae_shm_get(&shm, "names"), name, 2) == FAE_NAMES_NONE)
            return NULL;
        job->n++;
    }
    return NULL;
}

static void *slow_reader(void *arg)
{
    struct job *job = arg;
    const struct fae_names *names = fae_shm_get(&shm, "names");

    while (time_left()) {
        struct fae_buf out = { 0 };
        uint32_t n = fae_names_count(names);
        size_t len;

        job->n += fae_slowlog_json(fae_shm_get(&shm, "slowlog"), SLOW_CALLS, &out);
        for (uint32_t i = 0; i < n; i++)
            if (!fae_names_text(names, i, &len) || len != 2)
                abort();
        fae_buf_fini(&out);
    }
    return NULL;
}

static void slow_calls_and_names(void **state)
{
    struct job writers[3] = { { slow_writer, .id = 0 }, { slow_writer, .id = 1 }, { slow_writer, .id = 2 } };
    struct job readers[1] = { { slow_reader, .id = 3 } };
    uint64_t n_written;

    (void)state;
    start_all(readers, UNIT_N(readers));
    start_all(writers, UNIT_N(writers));
    n_written = join_all(writers, UNIT_N(writers));
    join_all(readers, UNIT_N(readers));
    assert_true(n_written > 0);
    assert_true(fae_slowlog_total(fae_shm_get(&shm, "slowlog")) >= n_written);
    assert_true(fae_names_count(fae_shm_get(&shm, "names")) <= NAMES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        PART(a_ring), PART(a_mailbox), PART(a_mutex), PART(counters), PART(log_rings), PART(slow_calls_and_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
