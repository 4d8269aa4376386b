/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The loop of one thread and the life of its connections.
 *
 *   WAITING -> CONNECTING -> OPEN -> (lost, refused) WAITING
 *                             | all answered: next batch, at once or when calls are due
 *                             '-> DONE when there is nothing more to send
 *
 * With connect_per_call a connection that has its answer is closed and FREE, and its next call begins by connecting.
 */
#include "cmd/loader.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "cmd/client.h"

enum state { WAITING, CONNECTING, OPEN, FREE, DONE };

enum {
    RECV_BYTES = 256 * 1024,
    EVENTS = 512,
    OPENING_MS = 5000, /* for the connections a run starts with */
    RETRY_MS = 10,     /* after a refusal or a loss */
    TURN_MS = 50,      /* at most between two looks at the clock */
};

struct conn {
    int fd;
    enum state state;
    bool wants_out;
    bool queued;           /* among the free ones */
    uint64_t due_ns;       /* of the batch's first call, since the run began */
    uint64_t retry_ns;     /* WAITING: when to connect again */
    struct fae_buf unsent; /* the rest of the batch */
    struct fae_batch batch;
};

struct fae_loader {
    const struct fae_load_opts *opts;
    const atomic_bool *stop;
    unsigned index;
    struct fae_load_result *result;
    struct fae_loader_counts counts;
    int epoll;
    bool stopping; /* nothing new is sent */
    unsigned n_conns, n_waiting;
    struct conn *conns;
    uint64_t calls_max, n_open; /* calls sent and not answered */
    uint32_t next_msgid;
    unsigned next_source;
    uint64_t began; /* ticks */
    uint64_t last_answer_ns;
    uint64_t random;
    bool same;          /* all requests are alike: out is a batch whose msgids are those of whoever sends next */
    size_t request_len; /* of one of them */
    struct fae_buf out;
    uint8_t *in;

    double interval_ns, offset_ns; /* from call to call, and to the first one; 0: the loop is closed */
    bool starved;                  /* calls are due that no connection was free for */
    struct conn **free;            /* a ring: the longest free goes first */
    unsigned free_head, n_free;
};

static void next_calls(struct fae_loader *l, struct conn *conn);

/* Another cpu's ticks may lie a little before those we began with. */
static uint64_t since_began_ns(const struct fae_loader *l)
{
    uint64_t now = fae_ticks();

    return now > l->began ? fae_ticks_to_ns(now - l->began) : 0;
}

/* ---- connecting ---- */

static void watch(struct fae_loader *l, struct conn *conn, int op, bool out)
{
    struct epoll_event ev = { .events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.ptr = conn };

    conn->wants_out = out;
    epoll_ctl(l->epoll, op, conn->fd, &ev);
}

/* Half of the ports of one source address are soon in TIME_WAIT: 14,000 connections a second and no more. */
static int bind_source(struct fae_loader *l, int fd)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    int one = 1;

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + l->next_source++ % l->opts->spread);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    return bind(fd, (struct sockaddr *)&from, sizeof from);
}

/* Begins a connect; 0, or -1 with errno. */
static int dial(struct fae_loader *l, struct conn *conn)
{
    const struct fae_addr *addr = &l->opts->addr;
    int one = 1, failed;

    conn->fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        return -1;
    if (!fae_addr_is_unix(addr) && !l->opts->connect_per_call)
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if ((l->opts->spread == 0 || bind_source(l, conn->fd) == 0) &&
        (connect(conn->fd, (const struct sockaddr *)&addr->sa, addr->len) == 0 || errno == EINPROGRESS)) {
        conn->state = CONNECTING;
        fae_batch_reset(&conn->batch, &l->result->tally);
        return 0;
    }
    failed = errno;
    close(conn->fd);
    conn->fd = -1;
    errno = failed;
    return -1;
}

/* How the connect ended: an errno, or 0. */
static int connect_error(const struct conn *conn)
{
    int error = 0;
    socklen_t len = sizeof error;

    return getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

static void hang_up(struct conn *conn, enum state state)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->state = state;
    conn->unsent.len = 0;
}

/* The calls of the batch will never be answered. */
static void give_up(struct fae_loader *l, struct conn *conn, const char *code, const char *text)
{
    if (conn->batch.n_open)
        fae_tally_error(&l->result->tally, code, text, conn->batch.n_open);
    l->n_open -= conn->batch.n_open;
    conn->batch.n_open = 0;
    hang_up(conn, l->stopping ? DONE : WAITING);
    conn->retry_ns = fae_now_ns() + RETRY_MS * 1000000ull;
    l->n_waiting += conn->state == WAITING;
}

static void lost(struct fae_loader *l, struct conn *conn, enum fae_err err)
{
    l->result->n_lost++;
    give_up(l, conn, fae_err_name(err), fae_err_text(err));
}

static void refused(struct fae_loader *l, struct conn *conn)
{
    l->result->n_refused++;
    give_up(l, conn, fae_err_name(FAE_UNAVAILABLE), strerror(errno));
}

/* With connect_per_call the connect belongs to the call; a failed one is a failed call. */
static void reconnect(struct fae_loader *l, struct conn *conn)
{
    if (l->stopping)
        conn->state = DONE;
    else if (l->opts->connect_per_call)
        next_calls(l, conn);
    else if (dial(l, conn) != 0)
        refused(l, conn);
    else
        watch(l, conn, EPOLL_CTL_ADD, true);
}

/* ---- batches ---- */

static void patch_msgids(struct fae_loader *l, const struct fae_batch *batch)
{
    uint8_t *p = l->out.data + FAE_REQUEST_MSGID_AT;

    for (uint32_t i = 0; i < batch->n; i++, p += l->request_len) {
        uint32_t id = __builtin_bswap32(batch->base + i);

        memcpy(p, &id, 4);
    }
}

static void make_requests(struct fae_loader *l, struct fae_batch *batch)
{
    const struct fae_bench_mix *mix = l->opts->mix;
    uint64_t seq = l->result->n_sent * l->opts->threads + l->index + 1;

    l->out.len = 0;
    for (uint32_t i = 0; i < batch->n; i++, seq += l->opts->threads) {
        unsigned method = mix->n > 1 ? fae_bench_mix_pick(mix, &l->random) : 0;

        if (batch->methods)
            batch->methods[i] = (uint8_t)method;
        l->result->methods[method].n_sent++;
        fae_bench_mix_request(&mix->methods[method], &l->out, batch->base + i, seq, &l->random);
    }
}

/* Puts the batch's bytes into l->out; returns how many. */
static size_t make_batch(struct fae_loader *l, struct fae_batch *batch)
{
    if (!l->same) {
        make_requests(l, batch);
        return l->out.len;
    }
    if (l->opts->mix)
        patch_msgids(l, batch);
    l->result->methods[0].n_sent += batch->n;
    return batch->n * l->request_len;
}

/* Sends what the socket takes and keeps the rest; false when the connection is gone. */
static bool send_some(struct fae_loader *l, struct conn *conn, const uint8_t *bytes, size_t len)
{
    ssize_t n = send(conn->fd, bytes, len, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN) {
        if (conn->state == CONNECTING)
            refused(l, conn);
        else
            lost(l, conn, FAE_WORKER_LOST);
        return false;
    }
    if (n > 0 && conn->state == CONNECTING) {
        l->result->n_connects++;
        conn->state = OPEN;
    }
    if (n < 0)
        n = 0;
    if (bytes == conn->unsent.data)
        fae_buf_shift(&conn->unsent, (size_t)n);
    else
        fae_buf_add(&conn->unsent, bytes + n, len - (size_t)n);
    return true;
}

static void send_more(struct fae_loader *l, struct conn *conn)
{
    if (conn->unsent.len && !send_some(l, conn, conn->unsent.data, conn->unsent.len))
        return;
    if ((conn->unsent.len > 0) != conn->wants_out)
        watch(l, conn, EPOLL_CTL_MOD, conn->unsent.len > 0);
}

static uint32_t take_msgids(struct fae_loader *l, uint32_t n)
{
    uint32_t base = l->next_msgid > UINT32_MAX - n ? FAE_TALLY_MSGID_MIN : l->next_msgid;

    l->next_msgid = base + n;
    return base;
}

static void start_batch(struct fae_loader *l, struct conn *conn, uint32_t n, uint64_t due_ns)
{
    bool is_new = l->opts->connect_per_call;
    size_t len;

    fae_batch_begin(&conn->batch, take_msgids(l, n), n);
    conn->due_ns = due_ns;
    len = make_batch(l, &conn->batch);
    l->result->n_sent += n;
    l->n_open += n;
    if (is_new && dial(l, conn) != 0)
        refused(l, conn);
    else if (send_some(l, conn, l->out.data, len) && (is_new || conn->unsent.len))
        watch(l, conn, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, conn->unsent.len > 0);
}

static uint64_t calls_left(const struct fae_loader *l)
{
    return l->stopping ? 0 : l->calls_max - l->result->n_sent;
}

/* The connection has nothing to do. */
static void next_calls(struct fae_loader *l, struct conn *conn)
{
    uint64_t left = calls_left(l);

    if (left == 0) {
        hang_up(conn, DONE);
    } else if (l->interval_ns == 0) {
        start_batch(l, conn, left < l->opts->depth ? (uint32_t)left : l->opts->depth, since_began_ns(l));
    } else {
        if (l->opts->connect_per_call)
            conn->state = FREE;
        if (!conn->queued)
            l->free[(l->free_head + l->n_free++) % l->n_conns] = conn;
        conn->queued = true;
    }
}

static void add_latency(struct fae_load_method *method, uint64_t now_ns, uint64_t due_ns, uint32_t n)
{
    fae_bench_hist_add(&method->latency, now_ns > due_ns ? now_ns - due_ns : 0, n);
}

static void count_latency(struct fae_loader *l, const struct conn *conn)
{
    const struct fae_batch *batch = &conn->batch;
    uint64_t now_ns;

    if (batch->n_settled == 0)
        return;
    now_ns = since_began_ns(l);
    l->last_answer_ns = now_ns;
    if (!batch->settled) {
        add_latency(&l->result->methods[0], now_ns, conn->due_ns, batch->n_settled);
        return;
    }
    for (uint32_t k = 0; k < batch->n_settled; k++) {
        uint32_t i = batch->settled[k];

        add_latency(&l->result->methods[batch->methods[i]], now_ns, conn->due_ns + (uint64_t)(i * l->interval_ns), 1);
    }
}

static void on_readable(struct fae_loader *l, struct conn *conn)
{
    uint32_t before = conn->batch.n_open;
    ssize_t n = recv(conn->fd, l->in, RECV_BYTES, 0);
    enum fae_err err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (conn->state == CONNECTING && n < 0)
            refused(l, conn);
        else
            lost(l, conn, FAE_WORKER_LOST);
        return;
    }
    err = fae_batch_feed(&conn->batch, &l->result->tally, l->in, (size_t)n);
    l->n_open -= before - conn->batch.n_open;
    count_latency(l, conn);
    if (err) {
        lost(l, conn, err);
    } else if (before && conn->batch.n_open == 0) {
        if (l->opts->connect_per_call)
            hang_up(conn, FREE);
        next_calls(l, conn);
    }
}

/* A reconnect has come to its end; conn->batch is empty. */
static void on_connected(struct fae_loader *l, struct conn *conn)
{
    errno = connect_error(conn);
    if (errno) {
        refused(l, conn);
        return;
    }
    conn->state = OPEN;
    l->result->n_connects++;
    watch(l, conn, EPOLL_CTL_MOD, false);
    next_calls(l, conn);
}

static void on_event(struct fae_loader *l, struct conn *conn, uint32_t events)
{
    if (conn->state == CONNECTING && !l->opts->connect_per_call) {
        on_connected(l, conn);
        return;
    }
    if (events & EPOLLOUT)
        send_more(l, conn);
    if (conn->fd >= 0 && (events & ~(uint32_t)EPOLLOUT))
        on_readable(l, conn);
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
        struct conn *conn = l->free[l->free_head];
        uint64_t n = (due - l->result->n_sent + l->n_free - 1) / l->n_free;

        l->free_head = (l->free_head + 1) % l->n_conns;
        l->n_free--;
        conn->queued = false;
        if (conn->state == (l->opts->connect_per_call ? FREE : OPEN))
            start_batch(l, conn, n < l->opts->depth ? (uint32_t)n : l->opts->depth, due_ns(l, l->result->n_sent));
    }
    l->starved = due > l->result->n_sent;
}

/* ---- the run ---- */

/* Makes one of the first connections; 0 or an errno. */
static int open_one(struct fae_loader *l, struct conn *conn, uint64_t deadline_ms)
{
    struct pollfd pfd = { .events = POLLOUT };

    while (dial(l, conn) != 0) {
        if (errno != EAGAIN || fae_now_ms() >= deadline_ms) /* EAGAIN: a unix socket's queue is full */
            return errno;
        poll(NULL, 0, 1);
    }
    pfd.fd = conn->fd;
    while (poll(&pfd, 1, TURN_MS) <= 0)
        if (atomic_load(l->stop) || fae_now_ms() >= deadline_ms)
            return ETIMEDOUT;
    return connect_error(conn);
}

/* Steady runs open every connection before the first call; others only see whether anyone is there. */
static enum fae_err open_first(struct fae_loader *l, char *why, size_t size)
{
    unsigned n = l->opts->connect_per_call ? 1 : l->n_conns;
    uint64_t deadline_ms = fae_now_ms() + OPENING_MS;
    char text[FAE_ADDR_TEXT];

    for (unsigned i = 0; i < n; i++) {
        struct conn *conn = &l->conns[i];
        int error = open_one(l, conn, deadline_ms);

        if (error) {
            fae_addr_format(&l->opts->addr, text);
            snprintf(why, size, "%s: %s (connection %u of %u)", text, strerror(error),
                     i * l->opts->threads + l->index + 1, l->opts->conns);
            return FAE_UNAVAILABLE;
        }
        if (l->opts->connect_per_call) {
            hang_up(conn, FREE);
        } else {
            conn->state = OPEN;
            l->result->n_connects++;
            watch(l, conn, EPOLL_CTL_ADD, false);
        }
    }
    return FAE_OK;
}

static void retry_waiting(struct fae_loader *l, uint64_t now_ns)
{
    for (unsigned i = 0; i < l->n_conns && l->n_waiting; i++) {
        struct conn *conn = &l->conns[i];

        if (conn->state != WAITING || (conn->retry_ns > now_ns && !l->stopping))
            continue;
        l->n_waiting--;
        reconnect(l, conn);
    }
}

/* For how long nothing is to be done unless something comes in. */
static uint64_t idle_ns(const struct fae_loader *l, uint64_t now_ns)
{
    uint64_t most = (l->n_waiting ? 1 : TURN_MS) * 1000000ull, next;

    if (l->interval_ns == 0 || l->starved || calls_left(l) == 0)
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

    while (calls_left(l) || l->n_open) {
        uint64_t now_ns = since_began_ns(l);
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
            on_event(l, events[i].data.ptr, events[i].events);
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
        next_calls(l, &l->conns[i]);
    run(l);
    l->result->elapsed_ns = l->last_answer_ns;
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
        l->conns[i] = (struct conn){ .fd = -1, .state = DONE };
        fae_batch_init(&l->conns[i].batch, opts->depth, each);
    }
    l->in = fae_alloc(RECV_BYTES);
    fill_out(l);
    l->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (l->epoll < 0) {
        snprintf(why, size, "epoll: %s", strerror(errno));
        err = FAE_SYSTEM;
    } else {
        err = open_first(l, why, size);
    }
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
        hang_up(&l->conns[i], DONE);
        fae_buf_fini(&l->conns[i].unsent);
        fae_batch_fini(&l->conns[i].batch);
    }
    if (l->epoll >= 0)
        close(l->epoll);
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
