/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A batch: begun in the rings -> one transaction -> answers -> let go in the rings. Answers come before that, so that a
 * writer that follows one killed in between finds the requests begun and answers UNKNOWN, which is dropped where the
 * true answer came through.
 */
#include "store/kv_writer.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/slot.h"
#include "base/thread.h"
#include "store/kv_env.h"

#define BATCH_MAX 4096u             /* requests in one transaction ... */
#define BATCH_BYTES (16u * FAE_MIB) /* ... and bytes, after which it is full */
#define LOOK_MS 1000                /* how often expired records and dead readers are looked for */
#define READERS_MS 60000            /* the same of readers when nobody is known to have died */
#define SWEEP_MAX 1000u             /* expired records removed at a time */
#define TELL_MS 5000                /* of a disk that stays full the log tells once in so long */

struct fae_kv_writer {
    struct fae_kv_store *store;
    struct fae_kv_stats *stats;
    pthread_t thread;
    _Atomic bool stop;
    unsigned n_workers, first;    /* the lane that is looked at first, in turns */
    uint32_t at[FAE_WORKERS_MAX]; /* how far each ring is taken */
    unsigned n;
    struct fae_kv_job jobs[BATCH_MAX];
    uint64_t look_ms, readers_ms, told_ms;
    uint64_t n_deaths; /* of all slots, at the last look */
    uint64_t n_untold;
    bool sweep_more;
};

/* ---- taking ---- */

static struct fae_kv_ring *ring_of(const struct fae_kv_writer *w, unsigned worker)
{
    return fae_kv_requests(w->store->kv->shared, w->store->index, worker);
}

static void take(struct fae_kv_writer *w, unsigned worker, enum fae_kv_taken how, const struct fae_kv_request *r,
                 uint64_t now_ms)
{
    struct fae_kv_job *job = &w->jobs[w->n++];

    job->worker = worker;
    job->request = *r;
    job->answer = (struct fae_kv_answer){ .incarnation = r->incarnation, .seq = r->seq };
    if (how == FAE_KV_TAKEN_WITHDRAWN)
        job->answer.err = FAE_CANCELLED;
    else if (how == FAE_KV_TAKEN_BEGUN)
        job->answer.err = FAE_UNKNOWN;
    else if (r->deadline_ms && now_ms >= r->deadline_ms)
        job->answer.err = FAE_TIMEOUT;
    job->skip = job->answer.err != FAE_OK;
    FAE_STAT_ADD(w->stats->n_unknown, job->answer.err == FAE_UNKNOWN);
    FAE_STAT_ADD(w->stats->n_timeouts, job->answer.err == FAE_TIMEOUT);
}

/* A worker's share of the batch. */
static void take_from(struct fae_kv_writer *w, unsigned worker, size_t *bytes, uint64_t now_ms)
{
    struct fae_kv_request r;
    enum fae_kv_taken how;

    while (w->n < BATCH_MAX && *bytes < BATCH_BYTES) {
        how = fae_kv_ring_take(ring_of(w, worker), &w->at[worker], &r);
        if (how == FAE_KV_TAKEN_NONE)
            return;
        take(w, worker, how, &r, now_ms);
        *bytes += r.value_len;
    }
}

static void take_all(struct fae_kv_writer *w)
{
    uint64_t now_ms = fae_now_ms();
    size_t bytes = 0;

    w->n = 0;
    for (unsigned i = 0; i < w->n_workers; i++)
        take_from(w, (w->first + i) % w->n_workers, &bytes, now_ms);
    w->first = (w->first + 1) % w->n_workers;
}

/* ---- answering ---- */

static void answer(struct fae_kv_writer *w, const struct fae_kv_job *job, bool *rouse)
{
    struct fae_kv *kv = w->store->kv;
    const struct fae_slot *slot = &kv->slots->slots[job->worker];

    if (job->request.incarnation != FAE_STAT_GET(slot->incarnation) ||
        !fae_ring_push(fae_kv_answers(kv->shared, w->store->index, job->worker), &job->answer, sizeof job->answer, NULL,
                       0)) {
        FAE_STAT_ADD(w->stats->n_stale, 1);
        return;
    }
    *rouse = true;
}

static void answer_all(struct fae_kv_writer *w)
{
    bool rouse[FAE_WORKERS_MAX] = { false };

    for (unsigned i = 0; i < w->n; i++)
        answer(w, &w->jobs[i], &rouse[w->jobs[i].worker]);
    for (unsigned i = 0; i < w->n_workers; i++) {
        fae_kv_ring_pass(ring_of(w, i), w->at[i]);
        if (rouse[i])
            fae_mail_rouse(w->store->kv->mail, i);
    }
}

/* ---- transactions ---- */

static void tell_failure(struct fae_kv_writer *w, enum fae_err err, unsigned n)
{
    uint64_t now_ms = fae_now_ms();

    w->n_untold += n;
    if (w->told_ms && now_ms < w->told_ms + TELL_MS)
        return;
    w->told_ms = now_ms;
    if (err == FAE_NO_SPACE)
        FAE_WARN("%s: the disk is full: %" PRIu64 " writes were refused", w->store->dir, w->n_untold);
    else
        FAE_ERROR("%s: %s: %" PRIu64 " writes failed", w->store->dir, mdb_strerror(w->store->env->rc), w->n_untold);
    w->n_untold = 0;
}

static void note_size(struct fae_kv_writer *w)
{
    MDB_envinfo info;
    char path[FAE_OPT_TEXT + 32];
    struct stat st;

    snprintf(path, sizeof path, "%s/data.mdb", w->store->dir);
    if (stat(path, &st) == 0)
        FAE_STAT_SET(w->stats->file_bytes, (uint64_t)st.st_size);
    mdb_env_info(w->store->env->mdb, &info);
    FAE_STAT_SET(w->stats->map_bytes, info.me_mapsize);
}

static unsigned n_todo(const struct fae_kv_writer *w)
{
    unsigned n = 0;

    for (unsigned i = 0; i < w->n; i++)
        n += !w->jobs[i].skip;
    return n;
}

static void run(struct fae_kv_writer *w)
{
    uint64_t began = fae_now_ns();
    unsigned n = n_todo(w);
    enum fae_err err = n ? fae_kv_run(w->store, w->jobs, w->n) : FAE_OK;

    if (n == 0)
        return;
    FAE_STAT_ADD(w->stats->commit_ns, fae_now_ns() - began);
    if (err) {
        FAE_STAT_ADD(w->stats->n_no_space, err == FAE_NO_SPACE ? n : 0);
        FAE_STAT_ADD(w->stats->n_failed, err == FAE_NO_SPACE ? 0 : n);
        tell_failure(w, err, n);
        return;
    }
    FAE_STAT_ADD(w->stats->n_commits, 1);
    FAE_STAT_ADD(w->stats->n_writes, n);
    FAE_STAT_SET(w->stats->n_items, w->store->env->n_items);
    if (n > FAE_STAT_GET(w->stats->batch_max))
        FAE_STAT_SET(w->stats->batch_max, n);
}

/* ---- between batches ---- */

static void sweep(struct fae_kv_writer *w)
{
    unsigned n;
    enum fae_err err = fae_kv_sweep(w->store, SWEEP_MAX, &n);

    if (err && err != FAE_NO_SPACE)
        FAE_DEBUG("%s: expired records stay: %s", w->store->dir, fae_err_text(err));
    w->sweep_more = n == SWEEP_MAX;
    FAE_STAT_ADD(w->stats->n_swept, n);
    FAE_STAT_SET(w->stats->n_items, w->store->env->n_items);
}

static uint64_t count_deaths(const struct fae_kv_writer *w)
{
    const struct fae_slots *slots = w->store->kv->slots;
    uint64_t n = 0;

    for (unsigned i = 0; i < w->n_workers + 2; i++)
        n += FAE_STAT_GET(slots->slots[i].n_deaths);
    return n;
}

/* A reader killed in the map keeps every page from being used again that was freed since. */
static void free_readers(struct fae_kv_writer *w, uint64_t now_ms)
{
    int n = 0;

    w->readers_ms = now_ms + READERS_MS;
    if (w->store->env->mdb && mdb_reader_check(w->store->env->mdb, &n) == 0 && n > 0)
        FAE_STAT_ADD(w->stats->n_readers_freed, (uint64_t)n);
}

static void look_after(struct fae_kv_writer *w)
{
    uint64_t now_ms = fae_now_ms(), n_deaths = count_deaths(w);

    if (n_deaths != w->n_deaths || now_ms >= w->readers_ms)
        free_readers(w, now_ms);
    w->n_deaths = n_deaths;
    if (now_ms < w->look_ms && !(w->sweep_more && w->n == 0))
        return;
    w->look_ms = now_ms + LOOK_MS;
    sweep(w);
    note_size(w);
}

static bool is_idle(const struct fae_kv_writer *w)
{
    bool idle = !w->sweep_more;

    for (unsigned i = 0; i < w->n_workers; i++)
        idle &= fae_kv_ring_empty(ring_of(w, i));
    return idle && !atomic_load(&w->stop);
}

/* Who puts a request looks at `asleep` after it, and we at the rings after that is set. */
static void sleep_until_woken(struct fae_kv_writer *w)
{
    _Atomic uint32_t *asleep = &w->store->kv->shared->stores[w->store->index].asleep;
    struct pollfd pfd = { .fd = w->store->wake_fd, .events = POLLIN };
    uint64_t now_ms = fae_now_ms(), n;

    atomic_store(asleep, 1);
    if (is_idle(w) && now_ms < w->look_ms)
        poll(&pfd, 1, (int)(w->look_ms - now_ms));
    atomic_store(asleep, 0);
    while (read(w->store->wake_fd, &n, sizeof n) < 0 && errno == EINTR)
        ;
}

/* ---- life ---- */

static void *writer_main(void *arg)
{
    struct fae_kv_writer *w = arg;
    bool stop;

    do {
        stop = atomic_load(&w->stop);
        take_all(w);
        if (w->n) {
            run(w);
            answer_all(w);
        }
        look_after(w);
        if (w->n == 0 && !stop)
            sleep_until_woken(w);
    } while (w->n || !stop);
    return NULL;
}

static struct fae_kv_writer *make_writer(struct fae_kv_store *store)
{
    struct fae_kv_writer *w = fae_zalloc(sizeof *w);

    w->store = store;
    w->stats = &store->kv->shared->stores[store->index].stats;
    w->n_workers = store->kv->shared->n_workers;
    for (unsigned i = 0; i < w->n_workers; i++)
        w->at[i] = fae_kv_ring_tail(ring_of(w, i));
    FAE_STAT_SET(w->stats->n_items, store->env->n_items);
    free_readers(w, fae_now_ms());
    w->n_deaths = count_deaths(w);
    return w;
}

enum fae_err fae_kv_writer_start(struct fae_kv_store *store, char *why_out, size_t why_size)
{
    enum fae_err err = fae_kv_env_open(store, FAE_KV_ENV_WRITE, why_out, why_size);
    int rc;

    if (err)
        return err;
    store->writer = make_writer(store);
    rc = fae_thread_start(&store->writer->thread, store->index == FAE_KV_FAST ? "kv-fast-writer" : "kv-writer",
                          writer_main, store->writer);
    if (!rc)
        return FAE_OK;
    snprintf(why_out, why_size, "%s: no thread for its writer: %s", store->dir, strerror(rc));
    free(store->writer);
    store->writer = NULL;
    fae_kv_env_close(&store->env);
    return FAE_SYSTEM;
}

/* The environment stays open where it is also read. */
void fae_kv_writer_stop(struct fae_kv_store *store)
{
    struct fae_kv_writer *w = store->writer;
    const uint64_t one = 1;

    if (!w)
        return;
    atomic_store(&w->stop, true);
    while (write(store->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
    pthread_join(w->thread, NULL);
    if (store->env->fast && store->env->mdb)
        mdb_env_sync(store->env->mdb, 1);
    free(w);
    store->writer = NULL;
}
