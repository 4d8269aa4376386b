/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The loop of one thread: what falls due by the clock, when the run begins and ends. Its connections are load_conn.c.
 */
#include "cmd/loader.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "cmd/loader_impl.h"

enum {
    EVENTS = 512,
    OPENING_MS = 5000, /* for the connections a run starts with */
    TURN_MS = 50,      /* at most between two looks at the clock */
};

uint64_t fae_loader_calls_left(const struct fae_loader *l)
{
    return l->stopping ? 0 : l->calls_max - l->result->n_sent;
}

/* ---- the clock of an open loop ---- */

static uint64_t due_ns(const struct fae_loader *l, uint64_t call)
{
    return (uint64_t)(l->offset_ns + (double)call * l->interval_ns);
}

/* How many calls fall before that time. */
static uint64_t n_due(const struct fae_loader *l, uint64_t now_ns)
{
    double n = ((double)now_ns - l->offset_ns) / l->interval_ns;
    uint64_t due = n < 0 ? 0 : (uint64_t)n + 1;

    return due < l->calls_max ? due : l->calls_max;
}

/* A connection was free the last time we looked, so it is us who are late. */
static void count_late(struct fae_loader *l, uint64_t now_ns, uint64_t lag_ns)
{
    struct fae_load_result *r = l->result;

    if (lag_ns > r->behind_max_ns)
        r->behind_max_ns = lag_ns;
    if (l->starved || lag_ns <= FAE_LOAD_LATE_NS)
        return;
    r->n_late += n_due(l, now_ns - FAE_LOAD_LATE_NS) - r->n_sent;
    if (lag_ns > r->late_max_ns)
        r->late_max_ns = lag_ns;
}

/* Begins what is due, spread over the connections that are free. */
static void begin_due(struct fae_loader *l, uint64_t now_ns)
{
    uint64_t due = n_due(l, now_ns), first_ns = due_ns(l, l->result->n_sent);

    if (due > l->result->n_sent && now_ns > first_ns)
        count_late(l, now_ns, now_ns - first_ns);
    while (l->n_free && due > l->result->n_sent) {
        struct fae_load_conn *conn = l->free[l->free_head];
        uint64_t n = (due - l->result->n_sent + l->n_free - 1) / l->n_free;

        l->free_head = (l->free_head + 1) % l->n_conns;
        l->n_free--;
        conn->queued = false;
        if (conn->state == (l->opts->connect_per_call ? FAE_LOAD_FREE : FAE_LOAD_OPEN))
            fae_load_conn_send(l, conn, n < l->opts->depth ? (uint32_t)n : l->opts->depth,
                               due_ns(l, l->result->n_sent));
    }
    l->starved = due > l->result->n_sent;
}

/* ---- the run ---- */

/* Makes one of the first connections; 0 or an errno. */
static int open_one(struct fae_loader *l, struct fae_load_conn *conn, uint64_t deadline_ms)
{
    struct pollfd pfd = { .events = POLLOUT };

    while (fae_load_conn_dial(l, conn) != 0) {
        if (errno != EAGAIN || fae_now_ms() >= deadline_ms) /* EAGAIN: a unix socket's queue is full */
            return errno;
        poll(NULL, 0, 1);
    }
    pfd.fd = conn->fd;
    while (poll(&pfd, 1, TURN_MS) <= 0)
        if (atomic_load(l->stop) || fae_now_ms() >= deadline_ms)
            return ETIMEDOUT;
    return fae_load_conn_error(conn);
}

/* Steady runs open every connection before the first call; others only see whether anyone is there. */
static enum fae_err open_first(struct fae_loader *l, char *why, size_t size)
{
    unsigned n = l->opts->connect_per_call ? 1 : l->n_conns;
    uint64_t deadline_ms = fae_now_ms() + OPENING_MS;
    char text[FAE_ADDR_TEXT];

    for (unsigned i = 0; i < n; i++) {
        struct fae_load_conn *conn = &l->conns[i];
        int error = open_one(l, conn, deadline_ms);

        if (!error && conn->tls && !l->opts->connect_per_call)
            error = fae_load_conn_shake(conn, deadline_ms);
        if (error) {
            fae_addr_format(&l->opts->addr, text);
            snprintf(why, size, "%s: %s (connection %u of %u)", text, error == EPROTO ? fae_tls_why() : strerror(error),
                     i * l->opts->threads + l->index + 1, l->opts->conns);
            return FAE_UNAVAILABLE;
        }
        if (l->opts->connect_per_call) {
            fae_load_conn_hang_up(conn, FAE_LOAD_FREE);
        } else {
            conn->state = FAE_LOAD_OPEN;
            l->result->n_connects++;
            fae_load_conn_watch(l, conn, EPOLL_CTL_ADD, false);
        }
    }
    return FAE_OK;
}

static void retry_waiting(struct fae_loader *l, uint64_t now_ns)
{
    for (unsigned i = 0; i < l->n_conns && l->n_waiting; i++) {
        struct fae_load_conn *conn = &l->conns[i];

        if (conn->state != FAE_LOAD_WAITING || (conn->retry_ns > now_ns && !l->stopping))
            continue;
        l->n_waiting--;
        fae_load_conn_retry(l, conn);
    }
}

/* For how long nothing is to be done unless something comes in. */
static uint64_t idle_ns(const struct fae_loader *l, uint64_t now_ns)
{
    uint64_t most = (l->n_waiting ? 1 : TURN_MS) * 1000000ull, next;

    if (l->interval_ns == 0 || l->starved || fae_loader_calls_left(l) == 0)
        return most;
    next = due_ns(l, l->result->n_sent);
    return next <= now_ns ? 0 : next - now_ns < most ? next - now_ns : most;
}

static int wait_events(const struct fae_loader *l, struct epoll_event *events, uint64_t ns)
{
    struct timespec ts = { .tv_nsec = (long)ns };
    int n = epoll_pwait2(l->epoll, events, EVENTS, &ts, NULL);

    return n < 0 && errno == ENOSYS ? epoll_wait(l->epoll, events, EVENTS, (int)(ns / 1000000)) : n;
}

static void publish(struct fae_loader *l)
{
    FAE_STAT_SET(l->counts.n_sent, l->result->n_sent);
    FAE_STAT_SET(l->counts.n_ok, l->result->tally.n_ok);
    FAE_STAT_SET(l->counts.n_failed, l->result->tally.n_failed);
}

static void end_sending(struct fae_loader *l, uint64_t now_ns)
{
    l->stopping = true;
    if (l->interval_ns > 0)
        l->result->n_unsent = n_due(l, now_ns) - l->result->n_sent;
}

static void run(struct fae_loader *l)
{
    uint64_t end_ns = l->opts->duration_ms * 1000000u, give_up_ns = UINT64_MAX;
    struct epoll_event events[EVENTS];

    while (fae_loader_calls_left(l) || l->n_open) {
        uint64_t now_ns = fae_loader_now_ns(l);
        bool stop = atomic_load_explicit(l->stop, memory_order_relaxed);
        int n;

        if (l->interval_ns > 0 && !l->stopping)
            begin_due(l, now_ns < end_ns ? now_ns : end_ns - 1);
        if (!l->stopping && (stop || now_ns >= end_ns)) {
            end_sending(l, now_ns < end_ns ? now_ns : end_ns - 1);
            give_up_ns = now_ns + l->opts->grace_ms * 1000000u;
        }
        if (l->stopping && (stop || now_ns >= give_up_ns))
            break;
        n = wait_events(l, events, idle_ns(l, now_ns));
        for (int i = 0; i < n; i++)
            fae_load_conn_event(l, events[i].data.ptr, events[i].events);
        if (l->n_waiting)
            retry_waiting(l, fae_now_ns());
        publish(l);
    }
    if (l->n_open)
        fae_tally_error(&l->result->tally, fae_err_name(FAE_TIMEOUT), "no answer by the end of the run", l->n_open);
    publish(l);
}

void fae_loader_run(struct fae_loader *l, uint64_t began)
{
    l->began = began;
    if (l->interval_ns > 0)
        prctl(PR_SET_TIMERSLACK, 1);
    for (unsigned i = 0; i < l->n_conns; i++)
        fae_load_conn_next(l, &l->conns[i]);
    run(l);
    l->result->elapsed_ns = l->last_answer_ns ? l->last_answer_ns : fae_loader_now_ns(l);
}

/* ---- life ---- */

static void fill_out(struct fae_loader *l)
{
    const struct fae_load_opts *opts = l->opts;
    const struct fae_bench_mix *mix = opts->mix;

    l->same = !mix || (mix->n == 1 && !mix->methods[0].varies);
    if (!l->same)
        return;
    for (unsigned i = 0; i < opts->depth; i++)
        if (mix)
            fae_bench_mix_request(&mix->methods[0], &l->out, 0, 0, &l->random);
        else
            fae_buf_add(&l->out, opts->raw_request.data, opts->raw_request.len);
    l->request_len = l->out.len / opts->depth;
}

/* `total` over all loaders, as evenly as whole numbers go. */
static uint64_t share(const struct fae_loader *l, uint64_t total)
{
    return total / l->opts->threads + (l->index < total % l->opts->threads);
}

enum fae_err fae_loader_new(struct fae_loader **loader_out, const struct fae_load_opts *opts, unsigned index,
                            const atomic_bool *stop, char *why, size_t size)
{
    bool each = opts->rate > 0 || (opts->mix && opts->mix->n > 1);
    struct fae_loader *l = fae_zalloc(sizeof *l);
    enum fae_err err;

    l->opts = opts;
    l->stop = stop;
    l->index = index;
    l->random = 0x5eed + index;
    l->next_msgid = FAE_TALLY_MSGID_MIN;
    l->n_conns = (unsigned)share(l, opts->conns);
    l->calls_max = opts->calls ? share(l, opts->calls) : UINT64_MAX;
    l->result = fae_zalloc(sizeof *l->result);
    l->result->tally.raw = opts->raw;
    if (opts->rate > 0) {
        l->interval_ns = 1e9 * opts->threads / opts->rate;
        l->offset_ns = 1e9 * index / opts->rate;
        l->free = fae_zalloc(l->n_conns * sizeof *l->free);
    }
    l->conns = fae_zalloc(l->n_conns * sizeof *l->conns);
    for (unsigned i = 0; i < l->n_conns; i++) {
        l->conns[i] = (struct fae_load_conn){ .fd = -1, .state = FAE_LOAD_DONE };
        fae_batch_init(&l->conns[i].batch, opts->depth, each);
    }
    l->in = fae_alloc(FAE_LOAD_RECV_BYTES);
    fill_out(l);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        snprintf(why, size, "epoll: %s", strerror(errno));
        err = FAE_SYSTEM;
    } else {
        err = fae_trust_open(&opts->trust, &opts->addr, &l->tls, why, size);
    }
    if (!err)
        err = open_first(l, why, size);
    if (err)
        fae_loader_free(&l);
    *loader_out = l;
    return err;
}

void fae_loader_free(struct fae_loader **loader)
{
    struct fae_loader *l = *loader;

    *loader = NULL;
    if (!l)
        return;
    for (unsigned i = 0; i < l->n_conns; i++) {
        fae_load_conn_hang_up(&l->conns[i], FAE_LOAD_DONE);
        fae_buf_fini(&l->conns[i].unsent);
        fae_batch_fini(&l->conns[i].batch);
    }
    if (l->epoll >= 0)
        close(l->epoll);
    fae_tls_ctx_free(&l->tls);
    fae_tally_fini(&l->result->tally);
    free(l->result);
    free(l->conns);
    free(l->free);
    free(l->in);
    fae_buf_fini(&l->out);
    free(l);
}

const struct fae_loader_counts *fae_loader_counts(const struct fae_loader *l)
{
    return &l->counts;
}

const struct fae_load_result *fae_loader_result(const struct fae_loader *l)
{
    return l->result;
}
