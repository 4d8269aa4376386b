/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A lane: one lock, a queue of jobs that wait, a list of jobs that are over. Threads sleep on a semaphore each, the
 * loop on an eventfd; each is woken only when it sleeps. What is shared lives until the last of loop and threads lets go of it, so a
 * thread that is stuck holds nobody up: it finds a lane that has ended when it comes back.
 *
 *   fae_lane_put -> WAITING -> RUNNING -> RAN -> done(OK)         on the loop
 *                      |          \-> cancelled -> drop           on the thread
 *                      \-> its deadline -> EXPIRED -> done(TIMEOUT)
 */
#include "backend/offload.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

#define SWEEP_MS 10    /* between two looks for jobs whose time is up: so late they may hear of it */
#define THREAD_NAME 16 /* with its NUL: as much as the system keeps */

enum state { WAITING, RUNNING, RAN, EXPIRED, CANCELLED };

struct queue {
    struct fae_job *head, **tail;
    unsigned n;
};

struct worker {
    struct fae_lane *lane;
    struct worker *next_idle;
    sem_t wake;                     /* posted by whoever takes it off the idle ones */
    struct fae_job **batch;         /* batch_max of them */
    _Atomic uint64_t busy_since_ms; /* 0: it is not */
};

struct fae_lane {
    struct fae_lane_opts o;
    char name[THREAD_NAME];
    pthread_mutex_t lock; /* guards what follows, and state and next of the jobs in it */
    struct queue waiting, over;
    struct worker *idle; /* asleep; the latest first, whose caches are warm */
    unsigned n_refs;     /* threads, the loop, and the loop once more while it tells */
    bool ended;
    /* what follows is the loop's, but for the eventfd, which threads write to */
    int fd;
    unsigned n_started;
    bool told; /* a line of the log says that there is no thread to be had */
    struct fae_watch watch;
    struct fae_timer sweep;
    uint64_t sweep_ms; /* when the timer rings; 0: it does not run */
    struct queue telling;
    struct worker workers[];
};

/* ---- queues ---- */

static void queue_init(struct queue *q)
{
    *q = (struct queue){ NULL, &q->head, 0 };
}

static void queue_push(struct queue *q, struct fae_job *job)
{
    job->next = NULL;
    *q->tail = job;
    q->tail = &job->next;
    q->n++;
}

static struct fae_job *queue_pop(struct queue *q)
{
    struct fae_job *job = q->head;

    if (!job)
        return NULL;
    q->head = job->next;
    if (!q->head)
        q->tail = &q->head;
    q->n--;
    return job;
}

/* at: what points at the job. */
static void queue_cut(struct queue *q, struct fae_job **at)
{
    struct fae_job *job = *at;

    *at = job->next;
    if (!*at)
        q->tail = at;
    q->n--;
}

static void queue_move(struct queue *to, struct queue *from)
{
    if (!from->head)
        return;
    *to->tail = from->head;
    to->tail = from->tail;
    to->n += from->n;
    queue_init(from);
}

static bool is_late(const struct fae_job *job, uint64_t now_ms)
{
    return job->deadline_ms && job->deadline_ms <= now_ms;
}

/* ---- threads ---- */

/* With the lock, which is gone afterwards. */
static void unref_locked(struct fae_lane *lane)
{
    bool last = --lane->n_refs == 0;

    pthread_mutex_unlock(&lane->lock);
    if (!last)
        return;
    if (lane->o.release)
        lane->o.release(lane->o.arg);
    for (unsigned i = 0; i < lane->o.n_threads; i++) {
        sem_destroy(&lane->workers[i].wake);
        free(lane->workers[i].batch);
    }
    if (lane->fd >= 0)
        close(lane->fd);
    pthread_mutex_destroy(&lane->lock);
    free(lane);
}

/* Without the lock. The counter may be full of wake-ups only when the loop is about to read it anyway. */
static void wake_loop(struct fae_lane *lane)
{
    uint64_t one = 1;
    ssize_t n = write(lane->fd, &one, sizeof one);

    (void)n;
}

/* With the lock. Sleeps until there is work; 0: the lane has ended. The number of jobs taken into the batch; those that are
 * late go over at once, and *wake_out says whether the loop is to hear of it. */
static unsigned take(struct worker *w, bool *wake_out)
{
    struct fae_lane *lane = w->lane;
    struct fae_job *job;
    unsigned n = 0;
    uint64_t now_ms;

    while (!lane->ended && !lane->waiting.head) {
        w->next_idle = lane->idle;
        lane->idle = w;
        pthread_mutex_unlock(&lane->lock);
        while (sem_wait(&w->wake) != 0)
            ;
        pthread_mutex_lock(&lane->lock);
    }
    now_ms = fae_now_ms();
    *wake_out = false;
    while (n < lane->o.batch_max && (job = queue_pop(&lane->waiting))) {
        if (is_late(job, now_ms)) {
            *wake_out = *wake_out || !lane->over.head;
            job->state = EXPIRED;
            queue_push(&lane->over, job);
            continue;
        }
        job->state = RUNNING;
        w->batch[n++] = job;
    }
    return n;
}

/* Links the batch, which run may link otherwise: we keep to the array. */
static struct fae_job *linked(struct fae_job **batch, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        batch[i]->next = i + 1 < n ? batch[i + 1] : NULL;
    return batch[0];
}

/* With the lock. Puts away what ran; those at the front of the batch (the count is returned) nobody wants any more. */
static unsigned put_away(struct worker *w, unsigned n, bool *wake_out)
{
    struct fae_lane *lane = w->lane;
    unsigned n_unwanted = 0;

    *wake_out = false;
    for (unsigned i = 0; i < n; i++) {
        struct fae_job *job = w->batch[i];

        if (lane->ended || job->state == CANCELLED) {
            w->batch[n_unwanted++] = job;
            continue;
        }
        *wake_out = *wake_out || !lane->over.head;
        job->state = RAN;
        queue_push(&lane->over, job);
    }
    return n_unwanted;
}

/* With the lock, which it gives up while it works. */
static void work(struct worker *w, unsigned n, bool wake, void *state)
{
    struct fae_lane *lane = w->lane;

    atomic_store_explicit(&w->busy_since_ms, fae_now_ms(), memory_order_relaxed);
    pthread_mutex_unlock(&lane->lock);
    if (wake)
        wake_loop(lane);
    lane->o.run(state, linked(w->batch, n));
    pthread_mutex_lock(&lane->lock);
    atomic_store_explicit(&w->busy_since_ms, 0, memory_order_relaxed);
    n = put_away(w, n, &wake);
    if (!wake && n == 0)
        return;
    pthread_mutex_unlock(&lane->lock);
    if (wake)
        wake_loop(lane);
    for (unsigned i = 0; i < n; i++)
        w->batch[i]->drop(w->batch[i]);
    pthread_mutex_lock(&lane->lock);
}

static void *thread_main(void *arg)
{
    struct worker *w = arg;
    struct fae_lane *lane = w->lane;
    void *state = lane->o.open ? lane->o.open(lane->o.arg) : NULL;
    bool wake;
    unsigned n;

    pthread_mutex_lock(&lane->lock);
    while (!lane->ended) {
        n = take(w, &wake);
        if (n > 0) {
            work(w, n, wake, state);
        } else if (wake) {
            pthread_mutex_unlock(&lane->lock);
            wake_loop(lane);
            pthread_mutex_lock(&lane->lock);
        }
    }
    pthread_mutex_unlock(&lane->lock);
    if (lane->o.close)
        lane->o.close(state);
    pthread_mutex_lock(&lane->lock);
    unref_locked(lane);
    return NULL;
}

static bool start_thread(struct fae_lane *lane)
{
    struct worker *w = &lane->workers[lane->n_started];
    pthread_t thread;
    int rc;

    lane->n_refs++; /* with the lock: its own */
    rc = fae_thread_start(&thread, lane->name, thread_main, w);
    if (rc) {
        lane->n_refs--;
        if (!lane->told)
            FAE_ERROR("%s: cannot start a thread: %s", lane->name, strerror(rc));
        lane->told = true;
        return false;
    }
    pthread_detach(thread);
    lane->n_started++;
    return true;
}

/* ---- the loop's side ---- */

/* Everything in telling is told, unless somebody ends the lane from inside: that tells the rest. */
static void tell(struct fae_lane *lane)
{
    struct fae_job *job;

    while ((job = queue_pop(&lane->telling))) {
        switch ((enum state)job->state) {
        case RAN: job->done(job, FAE_OK); break;
        case EXPIRED: job->done(job, FAE_TIMEOUT); break;
        case CANCELLED: job->drop(job); break;
        case WAITING:
        case RUNNING: job->done(job, FAE_CLOSED); break;
        }
    }
}

static void tell_guarded(struct fae_lane *lane)
{
    pthread_mutex_lock(&lane->lock);
    lane->n_refs++;
    pthread_mutex_unlock(&lane->lock);
    tell(lane);
    pthread_mutex_lock(&lane->lock);
    unref_locked(lane);
}

static void on_over(int fd, short what, void *arg)
{
    struct fae_lane *lane = arg;
    uint64_t count;

    (void)what;
    /* First the wake-up, then the list: what comes between them wakes us again. */
    while (read(fd, &count, sizeof count) < 0 && errno == EINTR)
        ;
    pthread_mutex_lock(&lane->lock);
    queue_move(&lane->telling, &lane->over);
    pthread_mutex_unlock(&lane->lock);
    tell_guarded(lane);
}

/* With the lock. One that sleeps, no longer among the idle; NULL: all are at work, and look again before they sleep. */
static struct worker *take_idle(struct fae_lane *lane)
{
    struct worker *w = lane->idle;

    if (w)
        lane->idle = w->next_idle;
    return w;
}

/* The timer rings no later than deadline_ms asks for, but not more often than each SWEEP_MS. */
static void sweep_by(struct fae_lane *lane, uint64_t deadline_ms, uint64_t least_ms)
{
    uint64_t now_ms, after_ms;

    if (!deadline_ms || (lane->sweep_ms && lane->sweep_ms <= deadline_ms))
        return;
    now_ms = fae_now_ms();
    after_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    if (after_ms < least_ms)
        after_ms = least_ms;
    lane->sweep_ms = now_ms + after_ms;
    fae_timer_start(&lane->sweep, after_ms);
}

static void on_sweep(void *arg)
{
    struct fae_lane *lane = arg;
    uint64_t now_ms = fae_now_ms(), next_ms = 0;

    lane->sweep_ms = 0;
    pthread_mutex_lock(&lane->lock);
    for (struct fae_job **at = &lane->waiting.head; *at;) {
        struct fae_job *job = *at;

        if (is_late(job, now_ms)) {
            queue_cut(&lane->waiting, at);
            job->state = EXPIRED;
            queue_push(&lane->telling, job);
            continue;
        }
        if (job->deadline_ms && (!next_ms || job->deadline_ms < next_ms))
            next_ms = job->deadline_ms;
        at = &job->next;
    }
    pthread_mutex_unlock(&lane->lock);
    sweep_by(lane, next_ms, SWEEP_MS);
    tell_guarded(lane);
}

struct fae_lane *fae_lane_new(const struct fae_lane_opts *opts)
{
    struct fae_lane *lane = fae_zalloc(sizeof *lane + opts->n_threads * sizeof lane->workers[0]);

    FAE_ASSERT(opts->n_threads > 0);
    FAE_ASSERT(opts->batch_max > 0);
    lane->o = *opts;
    snprintf(lane->name, sizeof lane->name, "%s", opts->name);
    pthread_mutex_init(&lane->lock, NULL);
    queue_init(&lane->waiting);
    queue_init(&lane->over);
    queue_init(&lane->telling);
    fae_timer_init(&lane->sweep, opts->loop, on_sweep, lane);
    lane->n_refs = 1;
    lane->fd = -1;
    for (unsigned i = 0; i < opts->n_threads; i++) {
        lane->workers[i].lane = lane;
        sem_init(&lane->workers[i].wake, 0, 0);
        lane->workers[i].batch = fae_alloc(opts->batch_max * sizeof(struct fae_job *));
    }
    return lane;
}

/* Once there are some of the threads it wanted, it lives with those. */
static enum fae_err start(struct fae_lane *lane)
{
    if (lane->n_started)
        return FAE_OK;
    if (lane->fd < 0)
        lane->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (lane->fd < 0)
        return FAE_SYSTEM;
    fae_watch_close(&lane->watch);
    if (fae_watch_open(&lane->watch, lane->o.loop, lane->fd, FAE_READABLE, on_over, lane))
        return FAE_SYSTEM;
    pthread_mutex_lock(&lane->lock);
    while (lane->n_started < lane->o.n_threads && start_thread(lane))
        ;
    pthread_mutex_unlock(&lane->lock);
    return lane->n_started ? FAE_OK : FAE_SYSTEM;
}

enum fae_err fae_lane_put(struct fae_lane *lane, struct fae_job *job)
{
    enum fae_err err = start(lane);
    struct worker *idle;

    if (err)
        return err;
    pthread_mutex_lock(&lane->lock);
    if (lane->waiting.n >= lane->o.queue_max) {
        pthread_mutex_unlock(&lane->lock);
        return FAE_OVERLOAD;
    }
    job->state = WAITING;
    queue_push(&lane->waiting, job);
    idle = take_idle(lane);
    pthread_mutex_unlock(&lane->lock);
    if (idle)
        sem_post(&idle->wake);
    sweep_by(lane, job->deadline_ms, 0);
    return FAE_OK;
}

void fae_lane_cancel(struct fae_lane *lane, struct fae_job *job)
{
    struct fae_job **at = &lane->waiting.head;
    bool waited;

    pthread_mutex_lock(&lane->lock);
    waited = job->state == WAITING;
    if (waited) {
        while (*at != job)
            at = &(*at)->next;
        queue_cut(&lane->waiting, at);
    }
    job->state = CANCELLED;
    pthread_mutex_unlock(&lane->lock);
    if (waited)
        job->drop(job);
}

void fae_lane_free(struct fae_lane **lane_io)
{
    struct fae_lane *lane = *lane_io;

    *lane_io = NULL;
    if (!lane)
        return;
    fae_watch_close(&lane->watch);
    fae_timer_stop(&lane->sweep);
    pthread_mutex_lock(&lane->lock);
    lane->ended = true;
    queue_move(&lane->telling, &lane->over);
    queue_move(&lane->telling, &lane->waiting);
    for (struct worker *idle; (idle = take_idle(lane));)
        sem_post(&idle->wake);
    pthread_mutex_unlock(&lane->lock);
    tell(lane);
    pthread_mutex_lock(&lane->lock);
    unref_locked(lane);
}

unsigned fae_lane_n_waiting(const struct fae_lane *lane)
{
    struct fae_lane *l = (struct fae_lane *)lane;
    unsigned n;

    pthread_mutex_lock(&l->lock);
    n = l->waiting.n;
    pthread_mutex_unlock(&l->lock);
    return n;
}

uint64_t fae_lane_busy_since_ms(const struct fae_lane *lane)
{
    uint64_t latest_ms = 0;

    for (unsigned i = 0; i < lane->n_started; i++) {
        uint64_t since_ms = atomic_load_explicit(&lane->workers[i].busy_since_ms, memory_order_relaxed);

        if (since_ms == 0)
            return 0;
        if (since_ms > latest_ms)
            latest_ms = since_ms;
    }
    return latest_ms;
}
