/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The load generator's loop and the life of its connections.
 *
 *   WAITING -> CONNECTING -> OPEN -> (lost, refused) WAITING
 *                             | all answered: next batch; with connect_per_call: close, connect
 *                             '-> DONE when there is nothing more to send
 */
#include "cmd/load.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "cmd/client.h"

enum state { WAITING, CONNECTING, OPEN, DONE };

enum {
    RECV_BYTES = 256 * 1024,
    EVENTS = 512,
    OPENING_MS = 5000, /* for the connections a run starts with */
    RETRY_MS = 10,     /* after a refusal or a loss */
};

struct conn {
    int fd;
    enum state state;
    bool wants_out;
    uint64_t began;    /* ticks: of the batch, or of its connect */
    uint64_t retry_ns; /* WAITING: when to connect again */
    size_t out_pos;    /* bytes of the batch that are sent */
    struct fae_batch batch;
};

struct load {
    const struct fae_load_opts *opts;
    struct fae_load_result *result;
    int epoll;
    bool stopping; /* nothing new is sent */
    struct conn *conns;
    unsigned n_waiting;
    uint64_t n_open; /* calls sent and not answered */
    uint32_t next_msgid;
    unsigned next_source;
    uint64_t last_answer; /* ticks */
    uint8_t *out;         /* depth requests; their msgids are those of whoever sends next */
    uint8_t *in;
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int sig)
{
    (void)sig;
    interrupted = 1;
}

static void start_batch(struct load *load, struct conn *conn, bool fresh);

/* ---- connecting ---- */

static void watch(struct load *load, struct conn *conn, int op, bool out)
{
    struct epoll_event ev = { .events = EPOLLIN | (out ? EPOLLOUT : 0u), .data.ptr = conn };

    conn->wants_out = out;
    epoll_ctl(load->epoll, op, conn->fd, &ev);
}

/* Half of the ports of one source address are soon in TIME_WAIT: 14,000 connections a second and no more. */
static int bind_source(struct load *load, int fd)
{
    struct sockaddr_in from = { .sin_family = AF_INET };
    int one = 1;

    from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + load->next_source++ % load->opts->spread);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    return bind(fd, (struct sockaddr *)&from, sizeof from);
}

/* Begins a connect; 0, or -1 with errno. */
static int dial(struct load *load, struct conn *conn)
{
    const struct fae_addr *addr = &load->opts->addr;
    int one = 1, failed;

    conn->fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0)
        return -1;
    if (!fae_addr_is_unix(addr) && !load->opts->connect_per_call)
        setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if ((load->opts->spread == 0 || bind_source(load, conn->fd) == 0) &&
        (connect(conn->fd, (const struct sockaddr *)&addr->sa, addr->len) == 0 || errno == EINPROGRESS)) {
        conn->state = CONNECTING;
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

static void wait_to_retry(struct load *load, struct conn *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->state = load->stopping ? DONE : WAITING;
    conn->retry_ns = fae_now_ns() + RETRY_MS * 1000000ull;
    load->n_waiting += conn->state == WAITING;
}

/* The calls of the batch that will never be answered. */
static void give_up(struct load *load, struct conn *conn, const char *code, const char *text)
{
    if (conn->batch.n_open)
        fae_tally_error(&load->result->tally, code, text, conn->batch.n_open);
    load->n_open -= conn->batch.n_open;
    conn->batch.n_open = 0;
    wait_to_retry(load, conn);
}

static void lost(struct load *load, struct conn *conn, enum fae_err err)
{
    load->result->n_lost++;
    give_up(load, conn, fae_err_name(err), fae_err_text(err));
}

static void refused(struct load *load, struct conn *conn)
{
    load->result->n_refused++;
    give_up(load, conn, fae_err_name(FAE_UNAVAILABLE), strerror(errno));
}

/* With connect_per_call the connect belongs to the call; a failed one is a failed call. */
static void reconnect(struct load *load, struct conn *conn)
{
    if (load->stopping) {
        conn->state = DONE;
        return;
    }
    if (load->opts->connect_per_call) {
        start_batch(load, conn, true);
        return;
    }
    if (dial(load, conn) != 0) {
        refused(load, conn);
        return;
    }
    watch(load, conn, EPOLL_CTL_ADD, true);
}

/* ---- batches ---- */

static void patch_msgids(struct load *load, const struct fae_batch *batch)
{
    uint8_t *p = load->out + FAE_REQUEST_MSGID_AT;

    for (uint32_t i = 0; i < batch->n; i++, p += load->opts->request.len) {
        uint32_t id = __builtin_bswap32(batch->base + i);

        memcpy(p, &id, 4);
    }
}

/* Sends what the socket takes of the batch. */
static void push(struct load *load, struct conn *conn, bool added)
{
    size_t len = conn->batch.n * load->opts->request.len;
    bool out;
    ssize_t n;

    if (!load->opts->raw)
        patch_msgids(load, &conn->batch);
    n = send(conn->fd, load->out + conn->out_pos, len - conn->out_pos, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN) {
        if (conn->state == CONNECTING)
            refused(load, conn);
        else
            lost(load, conn, FAE_WORKER_LOST);
        return;
    }
    if (n > 0) {
        load->result->n_connects += conn->state == CONNECTING;
        conn->state = OPEN;
        conn->out_pos += (size_t)n;
    }
    out = conn->out_pos < len;
    if (!added)
        watch(load, conn, EPOLL_CTL_ADD, out);
    else if (out != conn->wants_out)
        watch(load, conn, EPOLL_CTL_MOD, out);
}

static uint32_t take_msgids(struct load *load, uint32_t n)
{
    uint32_t base = load->next_msgid > UINT32_MAX - n ? FAE_TALLY_MSGID_MIN : load->next_msgid;

    load->next_msgid = base + n;
    return base;
}

static void finish(struct conn *conn)
{
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->state = DONE;
}

static void start_batch(struct load *load, struct conn *conn, bool fresh)
{
    uint64_t left = load->opts->calls ? load->opts->calls - load->result->n_sent : UINT64_MAX;
    uint32_t n = left < load->opts->depth ? (uint32_t)left : load->opts->depth;

    if (n == 0 || load->stopping) {
        finish(conn);
        return;
    }
    fae_batch_begin(&conn->batch, take_msgids(load, n), n, fresh);
    load->result->n_sent += n;
    load->n_open += n;
    conn->out_pos = 0;
    conn->began = fae_ticks();
    if (load->opts->connect_per_call && dial(load, conn) != 0)
        refused(load, conn);
    else
        push(load, conn, !load->opts->connect_per_call);
}

static void count_latency(struct load *load, const struct conn *conn, uint64_t n)
{
    struct fae_load_result *r = load->result;
    uint64_t ns;

    load->last_answer = fae_ticks();
    ns = fae_ticks_to_ns(load->last_answer - conn->began);
    FAE_STAT_ADD(r->latency.n[fae_hist_bucket(ns)], n);
    r->latency_sum_ns += ns * n;
    if (ns > r->latency_max_ns)
        r->latency_max_ns = ns;
}

static void all_answered(struct load *load, struct conn *conn)
{
    if (!load->opts->connect_per_call) {
        start_batch(load, conn, false);
        return;
    }
    close(conn->fd);
    conn->fd = -1;
    reconnect(load, conn);
}

static void on_readable(struct load *load, struct conn *conn)
{
    uint32_t before = conn->batch.n_open;
    ssize_t n = recv(conn->fd, load->in, RECV_BYTES, 0);
    enum fae_err err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (conn->state == CONNECTING && n < 0)
            refused(load, conn);
        else
            lost(load, conn, FAE_WORKER_LOST);
        return;
    }
    err = fae_batch_feed(&conn->batch, &load->result->tally, load->in, (size_t)n);
    load->n_open -= before - conn->batch.n_open;
    if (before != conn->batch.n_open + conn->batch.n_refused)
        count_latency(load, conn, before - conn->batch.n_open - conn->batch.n_refused);
    if (err)
        lost(load, conn, err);
    else if (before && conn->batch.n_open == 0)
        all_answered(load, conn);
}

/* A reconnect has come to its end; conn->batch is empty. */
static void on_connected(struct load *load, struct conn *conn)
{
    errno = connect_error(conn);
    if (errno) {
        refused(load, conn);
        return;
    }
    conn->state = OPEN;
    load->result->n_connects++;
    start_batch(load, conn, true);
}

static void on_event(struct load *load, struct conn *conn, uint32_t events)
{
    if (conn->state == CONNECTING && !load->opts->connect_per_call) {
        on_connected(load, conn);
        return;
    }
    if (events & EPOLLOUT)
        push(load, conn, true);
    if (conn->fd >= 0 && (events & ~(uint32_t)EPOLLOUT))
        on_readable(load, conn);
}

/* ---- the run ---- */

/* Makes one of the first connections; 0 or an errno. */
static int open_one(struct load *load, struct conn *conn, uint64_t deadline_ms)
{
    struct pollfd pfd = { .events = POLLOUT };

    while (dial(load, conn) != 0) {
        if (errno != EAGAIN || fae_now_ms() >= deadline_ms) /* EAGAIN: a unix socket's queue is full */
            return errno;
        poll(NULL, 0, 1);
    }
    pfd.fd = conn->fd;
    while (poll(&pfd, 1, 50) <= 0)
        if (interrupted || fae_now_ms() >= deadline_ms)
            return ETIMEDOUT;
    return connect_error(conn);
}

/* Steady runs open every connection before the first call; others only see whether anyone is there. */
static enum fae_err open_first(struct load *load, char *why, size_t size)
{
    unsigned n = load->opts->connect_per_call ? 1 : load->opts->conns;
    uint64_t deadline_ms = fae_now_ms() + OPENING_MS;
    char text[FAE_ADDR_TEXT];

    for (unsigned i = 0; i < n; i++) {
        struct conn *conn = &load->conns[i];
        int error = open_one(load, conn, deadline_ms);

        if (error) {
            fae_addr_format(&load->opts->addr, text);
            snprintf(why, size, "%s: %s (connection %u of %u)", text, strerror(error), i + 1, n);
            return FAE_UNAVAILABLE;
        }
        if (load->opts->connect_per_call) {
            close(conn->fd);
            conn->fd = -1;
        } else {
            conn->state = OPEN;
            load->result->n_connects++;
            watch(load, conn, EPOLL_CTL_ADD, false);
        }
    }
    return FAE_OK;
}

static void retry_waiting(struct load *load, uint64_t now_ns)
{
    for (unsigned i = 0; i < load->opts->conns && load->n_waiting; i++) {
        struct conn *conn = &load->conns[i];

        if (conn->state != WAITING || (conn->retry_ns > now_ns && !load->stopping))
            continue;
        load->n_waiting--;
        reconnect(load, conn);
    }
}

static bool has_more(const struct load *load)
{
    return !load->stopping && (load->opts->calls == 0 || load->result->n_sent < load->opts->calls);
}

static void run(struct load *load)
{
    uint64_t end_ms = fae_now_ms() + load->opts->duration_ms;
    uint64_t give_up_ms = 0;
    struct epoll_event events[EVENTS];

    for (unsigned i = 0; i < load->opts->conns; i++)
        start_batch(load, &load->conns[i], true);
    while (has_more(load) || load->n_open) {
        uint64_t now_ms = fae_now_ms();
        int n;

        if (!load->stopping && (interrupted || now_ms >= end_ms)) {
            load->stopping = true;
            give_up_ms = now_ms + (interrupted ? 0 : load->opts->grace_ms);
        }
        if (load->stopping && now_ms >= give_up_ms)
            break;
        n = epoll_wait(load->epoll, events, EVENTS, load->n_waiting ? 1 : 50);
        for (int i = 0; i < n; i++)
            on_event(load, events[i].data.ptr, events[i].events);
        if (load->n_waiting)
            retry_waiting(load, fae_now_ns());
    }
    if (load->n_open)
        fae_tally_error(&load->result->tally, fae_err_name(FAE_TIMEOUT), "no answer by the end of the run",
                        load->n_open);
}

static uint64_t own_cpu_ns(void)
{
    struct rusage ru;

    getrusage(RUSAGE_SELF, &ru);
    return ((uint64_t)ru.ru_utime.tv_sec + (uint64_t)ru.ru_stime.tv_sec) * 1000000000u +
           ((uint64_t)ru.ru_utime.tv_usec + (uint64_t)ru.ru_stime.tv_usec) * 1000u;
}

/* As many files as the system lets us have. */
static void raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void init(struct load *load, const struct fae_load_opts *opts, struct fae_load_result *result)
{
    size_t len = opts->request.len;

    raise_nofile();
    *load = (struct load){ .opts = opts, .result = result, .next_msgid = FAE_TALLY_MSGID_MIN };
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    load->conns = fae_zalloc(opts->conns * sizeof *load->conns);
    for (unsigned i = 0; i < opts->conns; i++) {
        load->conns[i].fd = -1;
        fae_batch_init(&load->conns[i].batch, opts->depth);
    }
    load->in = fae_alloc(RECV_BYTES);
    load->out = fae_alloc(opts->depth * len);
    for (unsigned i = 0; i < opts->depth; i++)
        memcpy(load->out + i * len, opts->request.data, len);
}

static void fini(struct load *load)
{
    for (unsigned i = 0; i < load->opts->conns; i++) {
        finish(&load->conns[i]);
        fae_batch_fini(&load->conns[i].batch);
    }
    free(load->conns);
    free(load->in);
    free(load->out);
    if (load->epoll >= 0)
        close(load->epoll);
}

enum fae_err fae_load_run(const struct fae_load_opts *opts, struct fae_load_result *result, char *why, size_t size)
{
    struct sigaction quiet = { .sa_handler = on_interrupt }, before;
    struct load load;
    enum fae_err err;

    init(&load, opts, result);
    sigaction(SIGINT, &quiet, &before);
    if (load.epoll < 0) {
        snprintf(why, size, "epoll: %s", strerror(errno));
        err = FAE_SYSTEM;
    } else {
        err = open_first(&load, why, size);
    }
    if (!err) {
        uint64_t cpu_ns = own_cpu_ns(), began = fae_ticks();

        load.last_answer = began;
        run(&load);
        result->cpu_ns = own_cpu_ns() - cpu_ns;
        result->elapsed_ns = fae_ticks_to_ns(load.last_answer - began);
    }
    sigaction(SIGINT, &before, NULL);
    fini(&load);
    return err;
}
