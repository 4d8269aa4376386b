/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The way from a name to a connection that can be written and read.
 */
#include "backend/stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/assert.h"

static void try_next(struct fae_stream *s);

static void watch(struct fae_stream *s, short what)
{
    if (what == s->watching)
        return;
    s->watching = what;
    fae_watch_change(&s->watch, s->o.loop, what);
}

/* ---- the end ---- */

static void drop_socket(struct fae_stream *s)
{
    fae_watch_close(&s->watch);
    fae_tls_free(&s->tls);
    if (s->fd >= 0)
        close(s->fd);
    s->fd = -1;
}

void fae_stream_close(struct fae_stream *s)
{
    if (s->state == FAE_STREAM_CLOSED)
        return;
    if (s->state == FAE_STREAM_LOOKING_UP)
        fae_resolve_cancel(s->o.resolver, &s->resolve);
    fae_timer_stop(&s->timer);
    drop_socket(s);
    s->state = FAE_STREAM_CLOSED;
}

/* From the loop. */
static void fail(struct fae_stream *s, const char *why)
{
    char text[sizeof s->why];

    snprintf(text, sizeof text, "%s", why);
    fae_stream_close(s);
    s->o.ops->failed(s->o.arg, text);
}

/* From anywhere. */
static void fail_soon(struct fae_stream *s, const char *why)
{
    if (why != s->why)
        snprintf(s->why, sizeof s->why, "%s", why);
    s->state = FAE_STREAM_FAILED;
    fae_timer_start(&s->timer, 0);
}

/* ---- connecting ---- */

static void handshake(struct fae_stream *s)
{
    int n = fae_tls_handshake(s->tls);

    if (n < 0 && errno == EAGAIN) {
        watch(s, fae_tls_wants_write(s->tls) ? FAE_READABLE | FAE_WRITABLE : FAE_READABLE);
        return;
    }
    if (n != 1) {
        fail(s, n == 0 ? "TLS: it closed the connection" : fae_stream_why(s));
        return;
    }
    s->state = FAE_STREAM_OPEN;
    watch(s, FAE_READABLE);
    s->o.ops->opened(s->o.arg);
}

static void on_connected(struct fae_stream *s)
{
    int failed = 0;
    socklen_t len = sizeof failed;

    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &failed, &len) != 0)
        failed = errno;
    if (failed) {
        snprintf(s->why, sizeof s->why, "%s", strerror(failed));
        try_next(s);
        return;
    }
    fae_timer_stop(&s->timer);
    if (!s->o.endpoint->tls) {
        s->state = FAE_STREAM_OPEN;
        watch(s, FAE_READABLE);
        s->o.ops->opened(s->o.arg);
        return;
    }
    s->state = FAE_STREAM_HANDSHAKE;
    s->tls = fae_tls_connect(s->o.tls, s->fd, s->o.endpoint->host);
    if (!s->tls)
        fail(s, "TLS: its name cannot be verified");
    else
        handshake(s);
}

static void on_event(int fd, short what, void *arg)
{
    struct fae_stream *s = arg;

    (void)fd;
    switch (s->state) {
    case FAE_STREAM_CONNECTING: on_connected(s); return;
    case FAE_STREAM_HANDSHAKE: handshake(s); return;
    case FAE_STREAM_OPEN: break;
    case FAE_STREAM_CLOSED:
    case FAE_STREAM_LOOKING_UP:
    case FAE_STREAM_FAILED: return;
    }
    if (what & FAE_WRITABLE)
        s->o.ops->writable(s->o.arg);
    if (what & FAE_READABLE || (s->tls && fae_tls_recv_wants_write(s->tls)))
        s->o.ops->readable(s->o.arg);
}

/* False: errno says why. */
static bool dial(struct fae_stream *s, const struct fae_addr *addr)
{
    int one = 1, failed;

    s->fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return false;
    if (!fae_addr_is_unix(addr)) {
        setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        setsockopt(s->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    }
    s->watching = FAE_READABLE | FAE_WRITABLE;
    if ((connect(s->fd, (const struct sockaddr *)&addr->sa, addr->len) == 0 || errno == EINPROGRESS) &&
        fae_watch_open(&s->watch, s->o.loop, s->fd, s->watching, on_event, s) == FAE_OK)
        return true;
    failed = errno; /* of a unix socket: nobody listens, or its queue is full */
    drop_socket(s);
    errno = failed;
    return false;
}

/* The next address; without one, what the last one said is what is told. */
static void try_next(struct fae_stream *s)
{
    drop_socket(s);
    s->state = FAE_STREAM_CONNECTING;
    while (s->at < s->n_addrs) {
        const struct fae_addr *addr = &s->addrs[s->at++];

        if (dial(s, addr)) {
            if (s->at < s->n_addrs)
                fae_timer_start(&s->timer, s->o.within_ms / s->n_addrs + 1);
            else
                fae_timer_stop(&s->timer);
            return;
        }
        snprintf(s->why, sizeof s->why, "%s", strerror(errno));
    }
    fail_soon(s, s->why);
}

static void on_timer(void *arg)
{
    struct fae_stream *s = arg;

    if (s->state == FAE_STREAM_FAILED) {
        fail(s, s->why);
        return;
    }
    if (s->state == FAE_STREAM_OPEN) {
        s->o.ops->readable(s->o.arg);
        return;
    }
    snprintf(s->why, sizeof s->why, "did not accept the connection in time");
    try_next(s);
}

/* ---- looking up ---- */

static void on_resolved(struct fae_resolve *resolve, enum fae_err err, const struct fae_addr *addrs, unsigned n,
                        const char *why)
{
    struct fae_stream *s = FAE_CONTAINER(resolve, struct fae_stream, resolve);

    if (err) {
        s->state = FAE_STREAM_CONNECTING; /* nothing is looked up any more */
        fail(s, why);
        return;
    }
    s->n_addrs = n < FAE_RESOLVE_ADDRS ? n : FAE_RESOLVE_ADDRS;
    memcpy(s->addrs, addrs, s->n_addrs * sizeof *addrs);
    try_next(s);
}

void fae_stream_open(struct fae_stream *s, const struct fae_stream_opts *opts)
{
    enum fae_err err;

    FAE_ASSERT(s->state == FAE_STREAM_CLOSED);
    *s = (struct fae_stream){ .o = *opts, .fd = -1, .state = FAE_STREAM_LOOKING_UP, .resolve.done = on_resolved };
    fae_timer_init(&s->timer, opts->loop, on_timer, s);
    err = fae_resolve(opts->resolver, opts->endpoint, &s->resolve, s->addrs, &s->n_addrs);
    if (err == FAE_OK)
        try_next(s);
    else if (err != FAE_MORE)
        fail_soon(s, fae_err_text(err));
}

/* ---- open ---- */

ssize_t fae_stream_recv(struct fae_stream *s, void *into, size_t size)
{
    return s->tls ? fae_tls_recv(s->tls, into, size) : recv(s->fd, into, size, 0);
}

ssize_t fae_stream_send(struct fae_stream *s, const void *bytes, size_t len)
{
    return s->tls ? fae_tls_send(s->tls, bytes, len) : send(s->fd, bytes, len, MSG_NOSIGNAL);
}

bool fae_stream_pending(const struct fae_stream *s)
{
    return s->tls && fae_tls_pending(s->tls);
}

void fae_stream_again(struct fae_stream *s)
{
    fae_timer_start(&s->timer, 0);
}

static void watch_wanted(struct fae_stream *s)
{
    bool writes = s->wants_write || (s->tls && fae_tls_wants_write(s->tls));

    watch(s, (short)((writes ? FAE_WRITABLE : 0) | (s->deaf ? 0 : FAE_READABLE)));
}

void fae_stream_want_write(struct fae_stream *s, bool wants)
{
    s->wants_write = wants;
    watch_wanted(s);
}

void fae_stream_listen(struct fae_stream *s, bool listens)
{
    s->deaf = !listens;
    watch_wanted(s);
    if (listens && fae_stream_pending(s))
        fae_stream_again(s);
}

const char *fae_stream_why(const struct fae_stream *s)
{
    return s->tls && errno == EPROTO ? fae_tls_why() : strerror(errno);
}
