/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of a load's connections: connecting, sending batches, taking answers, being refused and lost.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "cmd/client.h"
#include "cmd/loader_impl.h"

enum { RETRY_MS = 10 /* after a refusal or a loss */ };

/* ---- connecting ---- */

void fae_load_conn_watch(struct fae_loader *l, struct fae_load_conn *conn, int op, bool out)
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

int fae_load_conn_dial(struct fae_loader *l, struct fae_load_conn *conn)
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
        conn->state = FAE_LOAD_CONNECTING;
        conn->tls = l->tls ? fae_trust_connect(&l->opts->trust, addr, l->tls, conn->fd) : NULL;
        fae_batch_reset(&conn->batch, &l->result->tally);
        if (conn->tls || !l->tls)
            return 0;
        errno = ENOMEM;
    }
    failed = errno;
    close(conn->fd);
    conn->fd = -1;
    errno = failed;
    return -1;
}

int fae_load_conn_shake(struct fae_load_conn *conn, uint64_t deadline_ms)
{
    int rc;

    while ((rc = fae_tls_handshake(conn->tls)) < 0 && errno == EAGAIN) {
        struct pollfd pfd = { .fd = conn->fd, .events = fae_tls_wants_write(conn->tls) ? POLLOUT : POLLIN };
        uint64_t now_ms = fae_now_ms();

        if (now_ms >= deadline_ms || poll(&pfd, 1, (int)(deadline_ms - now_ms)) == 0)
            return ETIMEDOUT;
    }
    return rc > 0 ? 0 : rc == 0 ? ECONNRESET : errno;
}

int fae_load_conn_error(const struct fae_load_conn *conn)
{
    int error = 0;
    socklen_t len = sizeof error;

    return getsockopt(conn->fd, SOL_SOCKET, SO_ERROR, &error, &len) == 0 ? error : errno;
}

void fae_load_conn_hang_up(struct fae_load_conn *conn, enum fae_load_state state)
{
    fae_tls_free(&conn->tls);
    if (conn->fd >= 0)
        close(conn->fd);
    conn->fd = -1;
    conn->state = state;
    conn->unsent.len = 0;
}

/* The calls of the batch will never be answered. */
static void give_up(struct fae_loader *l, struct fae_load_conn *conn, const char *code, const char *text)
{
    if (conn->batch.n_open)
        fae_tally_error(&l->result->tally, code, text, conn->batch.n_open);
    l->n_open -= conn->batch.n_open;
    conn->batch.n_open = 0;
    fae_load_conn_hang_up(conn, l->stopping ? FAE_LOAD_DONE : FAE_LOAD_WAITING);
    conn->retry_ns = fae_now_ns() + RETRY_MS * 1000000ull;
    l->n_waiting += conn->state == FAE_LOAD_WAITING;
}

static void lost(struct fae_loader *l, struct fae_load_conn *conn, enum fae_err err)
{
    l->result->n_lost++;
    give_up(l, conn, fae_err_name(err), fae_err_text(err));
}

/* Each kind of refusal is a row of its own, by errno's name: a full queue (EAGAIN) is not nobody there. */
static void refused(struct fae_loader *l, struct fae_load_conn *conn)
{
    const char *name = strerrorname_np(errno);

    l->result->n_refused++;
    give_up(l, conn, name ? name : fae_err_name(FAE_UNAVAILABLE), strerror(errno));
}

/* With connect_per_call the connect belongs to the call; a failed one is a failed call. */
void fae_load_conn_retry(struct fae_loader *l, struct fae_load_conn *conn)
{
    if (l->stopping)
        conn->state = FAE_LOAD_DONE;
    else if (l->opts->connect_per_call)
        fae_load_conn_next(l, conn);
    else if (fae_load_conn_dial(l, conn) != 0)
        refused(l, conn);
    else
        fae_load_conn_watch(l, conn, EPOLL_CTL_ADD, true);
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
static bool send_some(struct fae_loader *l, struct fae_load_conn *conn, const uint8_t *bytes, size_t len)
{
    ssize_t n = conn->tls ? fae_tls_send(conn->tls, bytes, len) : send(conn->fd, bytes, len, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR && errno != ENOTCONN) {
        if (conn->state == FAE_LOAD_CONNECTING)
            refused(l, conn);
        else
            lost(l, conn, FAE_WORKER_LOST);
        return false;
    }
    if (n > 0 && conn->state == FAE_LOAD_CONNECTING) {
        l->result->n_connects++;
        conn->state = FAE_LOAD_OPEN;
    }
    if (n < 0)
        n = 0;
    if (bytes == conn->unsent.data)
        fae_buf_shift(&conn->unsent, (size_t)n);
    else
        fae_buf_add(&conn->unsent, bytes + n, len - (size_t)n);
    return true;
}

/* With TLS a send may have to wait for the other side's part of the handshake. */
static bool wants_out(const struct fae_load_conn *conn)
{
    return conn->tls ? fae_tls_wants_write(conn->tls) : conn->unsent.len > 0;
}

static void send_more(struct fae_loader *l, struct fae_load_conn *conn)
{
    if (conn->unsent.len && !send_some(l, conn, conn->unsent.data, conn->unsent.len))
        return;
    if (wants_out(conn) != conn->wants_out)
        fae_load_conn_watch(l, conn, EPOLL_CTL_MOD, !conn->wants_out);
}

static uint32_t take_msgids(struct fae_loader *l, uint32_t n)
{
    uint32_t base = l->next_msgid > UINT32_MAX - n ? FAE_TALLY_MSGID_MIN : l->next_msgid;

    l->next_msgid = base + n;
    return base;
}

void fae_load_conn_send(struct fae_loader *l, struct fae_load_conn *conn, uint32_t n, uint64_t due_ns)
{
    bool is_new = l->opts->connect_per_call;
    size_t len;

    fae_batch_begin(&conn->batch, take_msgids(l, n), n);
    conn->due_ns = due_ns;
    len = make_batch(l, &conn->batch);
    l->result->n_sent += n;
    l->n_open += n;
    if (is_new && fae_load_conn_dial(l, conn) != 0)
        refused(l, conn);
    else if (send_some(l, conn, l->out.data, len) && (is_new || conn->unsent.len))
        fae_load_conn_watch(l, conn, is_new ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, wants_out(conn));
}

void fae_load_conn_next(struct fae_loader *l, struct fae_load_conn *conn)
{
    uint64_t left = fae_loader_calls_left(l);

    if (left == 0) {
        fae_load_conn_hang_up(conn, FAE_LOAD_DONE);
    } else if (l->interval_ns == 0) {
        fae_load_conn_send(l, conn, left < l->opts->depth ? (uint32_t)left : l->opts->depth, fae_loader_now_ns(l));
    } else {
        if (l->opts->connect_per_call)
            conn->state = FAE_LOAD_FREE;
        if (!conn->queued)
            l->free[(l->free_head + l->n_free++) % l->n_conns] = conn;
        conn->queued = true;
    }
}

static void add_latency(struct fae_load_method *method, uint64_t now_ns, uint64_t due_ns, uint32_t n)
{
    fae_bench_hist_add(&method->latency, now_ns > due_ns ? now_ns - due_ns : 0, n);
}

static void count_latency(struct fae_loader *l, const struct fae_load_conn *conn)
{
    const struct fae_batch *batch = &conn->batch;
    uint64_t now_ns;

    if (batch->n_settled == 0)
        return;
    now_ns = fae_loader_now_ns(l);
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

static void on_readable(struct fae_loader *l, struct fae_load_conn *conn)
{
    uint32_t before = conn->batch.n_open;
    ssize_t n =
        conn->tls ? fae_tls_recv(conn->tls, l->in, FAE_LOAD_RECV_BYTES) : recv(conn->fd, l->in, FAE_LOAD_RECV_BYTES, 0);
    enum fae_err err;

    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        if (conn->state == FAE_LOAD_CONNECTING && n < 0)
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
            fae_load_conn_hang_up(conn, FAE_LOAD_FREE);
        fae_load_conn_next(l, conn);
    }
}

/* A reconnect has come to its end; conn->batch is empty. */
static void on_connected(struct fae_loader *l, struct fae_load_conn *conn)
{
    errno = fae_load_conn_error(conn);
    if (errno) {
        refused(l, conn);
        return;
    }
    conn->state = FAE_LOAD_OPEN;
    l->result->n_connects++;
    fae_load_conn_watch(l, conn, EPOLL_CTL_MOD, false);
    fae_load_conn_next(l, conn);
}

void fae_load_conn_event(struct fae_loader *l, struct fae_load_conn *conn, uint32_t events)
{
    if (conn->state == FAE_LOAD_CONNECTING && !l->opts->connect_per_call) {
        on_connected(l, conn);
        return;
    }
    if (events & EPOLLOUT)
        send_more(l, conn);
    if (conn->fd >= 0 && (events & ~(uint32_t)EPOLLOUT))
        on_readable(l, conn);
    while (conn->tls && fae_tls_pending(conn->tls))
        on_readable(l, conn);
    if (conn->tls && (conn->unsent.len || wants_out(conn) != conn->wants_out))
        send_more(l, conn);
}
