/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One client connection: bytes in, messages to the service, answers out, limits kept.
 */
#include "rpc/session.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/tls.h"
#include "rpc/server_impl.h"

static void on_event(int fd, short what, void *arg);

struct fae_session *fae_session_open(struct fae_server *server, int fd, bool half_close)
{
    struct fae_session *s =
        server->n_spare_sessions ? server->spare_sessions[--server->n_spare_sessions] : fae_alloc(sizeof *s);

    *s = (struct fae_session){ .server = server, .fd = fd, .half_close = half_close, .id = ++server->next_id };
    s->own.roles = s->caller.roles = FAE_ROLES_EVERYBODY;
    s->seen_ms = s->opened_ms = s->out_since = (uint32_t)server->o.loop->now_ms;
    if (fae_watch_open(&s->watch, server->o.loop, fd, FAE_READABLE, on_event, s) != FAE_OK) {
        FAE_WARN("session: cannot watch fd %d", fd);
        close(fd);
        free(s);
        return NULL;
    }
    s->watching = FAE_READABLE;
    fae_list_init(&s->calls);
    fae_list_add_tail(&server->sessions, &s->node);
    server->n_sessions++;
    if (server->o.ops->session)
        server->o.ops->session(server->o.service, s, true);
    return s;
}

static void free_input(struct fae_session *s)
{
    if (!s->in)
        return;
    fae_buf_fini(&s->in->bytes);
    free(s->in);
    s->in = NULL;
    fae_session_holds(s, FAE_HELD_IN, 0);
    s->partial = false;
}

/* Gives an emptied output buffer back, so that the next session's answers find a warm one. */
static void free_output(struct fae_session *s)
{
    struct fae_server *server = s->server;

    s->out.len = 0;
    s->out_sent = 0;
    if (s->out.cap == 0)
        return;
    if (s->out.cap <= FAE_OUT_KEEP && server->n_spare_bufs < FAE_SPARE_BUFS)
        server->spare_bufs[server->n_spare_bufs++] = s->out;
    else
        free(s->out.data);
    s->out = (struct fae_buf){ 0 };
}

void fae_session_close(struct fae_session *s, enum fae_err why)
{
    struct fae_server *server = s->server;

    if (s->closed)
        return;
    s->closed = s->closing = true;
    s->turn_len = 0;
    if (s->n_calls || s->service_ref)
        server->o.ops->hangup(server->o.service, s, why);
    FAE_ASSERT(fae_list_empty(&s->calls));
    if (server->o.ops->session)
        server->o.ops->session(server->o.service, s, false);
    fae_watch_close(&s->watch);
    if (s->tls)
        fae_tls_free(&s->tls);
    close(s->fd);
    free_input(s);
    free_output(s);
    fae_session_holds(s, FAE_HELD_OUT, 0);
    if (s->host != FAE_HOST_NONE)
        fae_hosts_leave(server->o.hosts, s->host, server->o.slot);
    if (server->check_next == &s->node)
        server->check_next = s->node.next;
    fae_list_del(&s->node);
    server->n_sessions--;
    fae_queue_push(&server->grave, s);
}

/* What to wait for follows from the state alone. */
static void rewatch(struct fae_session *s)
{
    bool unread = s->out.len - s->out_sent >= FAE_OUT_PAUSE;
    bool full = s->n_calls >= FAE_SESSION_CALLS || unread || (s->in && !s->partial);
    short want = s->out.len > s->out_sent ? FAE_WRITABLE : 0;

    if (s->closed)
        return;
    if (s->tls)
        want = fae_secure_watch(s);
    if (s->lingering)
        want = FAE_READABLE;
    else if (!s->eof && !s->closing) /* after those a hang-up would be told without end */
        want |= !full ? FAE_READABLE : s->half_close ? 0 : FAE_HANGUP;
    if (want == s->watching)
        return;
    if (unread && s->watching & FAE_READABLE && !(want & FAE_READABLE))
        FAE_LIMIT_HIT(s->server, out_pause);
    if (s->tls && want & FAE_WRITABLE && !(s->watching & FAE_WRITABLE))
        s->out_since = (uint32_t)s->server->o.loop->now_ms; /* a handshake has no output that flush would see */
    fae_watch_change(&s->watch, s->server->o.loop, want);
    s->watching = want;
}

static void make_ready(struct fae_session *s)
{
    if (s->is_ready)
        return;
    s->is_ready = true;
    fae_queue_push(&s->server->ready, s);
}

static void make_dirty(struct fae_session *s)
{
    if (s->is_dirty)
        return;
    s->is_dirty = true;
    fae_queue_push(&s->server->dirty, s);
}

void fae_session_dirty(struct fae_session *s)
{
    make_dirty(s);
}

/* The arena is full. It is read first next turn: the kernel names the same sessions first every time. */
static void make_thirsty(struct fae_session *s)
{
    if (s->is_thirsty)
        return;
    s->is_thirsty = true;
    fae_queue_push(&s->server->thirsty, s);
}

/* Throws input away until the client closes, or fae_session_check does. */
static void linger(struct fae_session *s)
{
    uint8_t junk[16 * FAE_KIB];
    ssize_t n = recv(s->fd, junk, sizeof junk, 0); /* once a turn: it may come faster than it is read */

    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
        fae_session_close(s, FAE_CLOSED);
}

void fae_session_read(struct fae_session *s)
{
    struct fae_server *server = s->server;
    uint8_t *into;
    ssize_t n;

    if (s->turn_len) /* this turn's bytes have not been run yet */
        return;
    if (FAE_READ_ARENA - server->arena_used < FAE_READ_CHUNK) {
        make_thirsty(s);
        return;
    }
    into = server->arena + server->arena_used;
    n = __builtin_expect(s->tls != NULL, 0) ? fae_secure_recv(s, into, FAE_READ_CHUNK)
                                            : recv(s->fd, into, FAE_READ_CHUNK, 0);
    if (n > 0) {
        server->arena_used += ((size_t)n + 63) & ~(size_t)63;
        s->heard = true;
        s->seen_ms = (uint32_t)server->o.loop->now_ms;
        FAE_STAT_ADD(server->stats->n_bytes_in, (uint64_t)n);
        if (!server->got_ticks)
            server->got_ticks = fae_ticks();
        if (!s->in || s->partial) /* else older ones wait */
            s->got_ticks = server->got_ticks;
        s->turn = into;
        s->turn_len = (uint32_t)n;
        make_ready(s);
    } else if (n == 0) {
        s->eof = true;
        if (s->n_calls == 0 && s->out.len == 0 && !s->in)
            fae_session_close(s, FAE_CLOSED);
        else
            make_ready(s);
    } else if (errno != EAGAIN && errno != EINTR) {
        fae_session_close(s, FAE_CLOSED);
    }
}

static void on_event(int fd, short what, void *arg)
{
    struct fae_session *s = arg;

    (void)fd;
    if (s->closed)
        return;
    if (what & FAE_WRITABLE)
        make_dirty(s);
    if (what & FAE_HANGUP)
        fae_session_close(s, FAE_CANCELLED);
    else if (what & FAE_READABLE && s->lingering)
        linger(s);
    else if (what & FAE_READABLE || (s->tls && fae_secure_reads_by_writing(s)))
        fae_session_read(s);
}

static void complain(struct fae_session *s, enum fae_err code, const char *text)
{
    struct fae_failure f = {
        .code = fae_err_name(code), .text = text, .retry_after_ms = -1, .retryable = fae_err_retryable(code)
    };

    f.code_len = strlen(f.code);
    f.text_len = strlen(text);
    FAE_STAT_ADD(s->server->stats->n_bad_messages, 1);
    fae_stats_error(s->server->stats, code);
    fae_message_complaint(fae_session_out(s), s->error_form, &f);
}

/* The stream cannot be followed any more: say why, send what is ready, close. */
static void lose_sync(struct fae_session *s, enum fae_err code, const char *text)
{
    complain(s, code, text);
    s->closing = s->lost = true;
    s->turn_len = 0;
    free_input(s);
    if (s->n_calls)
        s->server->o.ops->hangup(s->server->o.service, s, FAE_CANCELLED);
}

void fae_session_lose(struct fae_session *s, enum fae_err code, const char *text)
{
    lose_sync(s, code, text);
}

static void run_message(struct fae_session *s, const uint8_t *bytes)
{
    struct fae_server *server = s->server;
    struct fae_request req;
    const char *why = "";

    switch (fae_message_parse(bytes, &req, &why)) {
    case FAE_MESSAGE_CALL:
        server->n_run++;
        s->n_made++;
        if (__builtin_expect(FAE_STAT_GET(server->slot->n_calls) >= server->calls_free, 0) && !fae_admit(s, &req))
            return;
        if (req.notification)
            FAE_STAT_ADD(server->stats->n_notifications, 1);
        req.end = s->turn;
        req.ticks = server->ticks;
        req.got_ticks = s->got_ticks;
        server->o.ops->call(server->o.service, s, &req);
        return;
    case FAE_MESSAGE_REFUSE:
        FAE_STAT_ADD(server->stats->n_bad_messages, 1);
        fae_session_fail_code(s, req.msgid, FAE_BAD_MESSAGE, "%s", why);
        return;
    case FAE_MESSAGE_COMPLAIN: complain(s, FAE_BAD_MESSAGE, why); return;
    case FAE_MESSAGE_IGNORE: FAE_STAT_ADD(server->stats->n_bad_messages, 1); return;
    case FAE_MESSAGE_LOST: lose_sync(s, FAE_BAD_MESSAGE, why); return;
    }
}

bool fae_session_runs_kept(const struct fae_session *s)
{
    return s->in && s->turn_len && s->turn >= s->in->bytes.data && s->turn < s->in->bytes.data + s->in->bytes.len;
}

/* Puts what could not be run yet where it survives the turn. `scan`: how far its first message was looked at, or NULL. */
static void keep_rest(struct fae_session *s, const struct fae_mp_scan *scan)
{
    bool was_partial = s->partial;

    if (!s->in) {
        s->in = fae_alloc(sizeof *s->in);
        s->in->bytes = (struct fae_buf){ 0 };
        fae_buf_add(&s->in->bytes, s->turn, s->turn_len);
    } else if (s->turn > s->in->bytes.data) {
        fae_buf_shift(&s->in->bytes, (size_t)(s->turn - s->in->bytes.data));
    }
    fae_session_holds(s, FAE_HELD_IN, s->in->bytes.cap);
    s->turn_len = 0;
    s->partial = scan != NULL;
    if (scan && scan != &s->in->scan)
        s->in->scan = *scan;
    if (s->partial && !was_partial)
        s->in_since = (uint32_t)s->server->o.loop->now_ms;
}

/* Bytes of this turn go behind bytes that wait. */
static void join_input(struct fae_session *s)
{
    if (!s->in || fae_session_runs_kept(s))
        return;
    fae_buf_add(&s->in->bytes, s->turn, s->turn_len);
    s->turn = s->in->bytes.data;
    s->turn_len = (uint32_t)s->in->bytes.len;
}

static bool may_run(const struct fae_session *s)
{
    return s->n_calls < FAE_SESSION_CALLS && s->out.len - s->out_sent < FAE_OUT_PAUSE;
}

/* Message by message, until the input or the batch is through. */
static void run_input(struct fae_session *s)
{
    struct fae_server *server = s->server;
    bool resume = s->partial;
    struct fae_mp_scan *scan = resume ? &s->in->scan : &server->scan;

    while (s->turn_len && !s->closing) {
        const uint8_t *bytes = s->turn;
        enum fae_err err;

        if (!may_run(s)) {
            keep_rest(s, NULL);
            return;
        }
        if (server->n_run >= FAE_BATCH_CALLS || fae_server_late(server))
            return; /* answers are sent, then it goes on here */
        if (!resume)
            fae_mp_scan_init(scan);
        err = fae_mp_scan(scan, bytes, s->turn_len, server->o.config->message_max);
        if (err == FAE_MORE) {
            keep_rest(s, scan);
            return;
        }
        if (err) {
            if (err == FAE_LIMIT)
                FAE_LIMIT_HIT(server, message_max);
            lose_sync(s, err,
                      err == FAE_LIMIT ? "message is too long, too deep or has too many elements" : "not msgpack");
            return;
        }
        s->turn += scan->pos; /* before the call: it may be cut short and must not run twice */
        s->turn_len -= (uint32_t)scan->pos;
        if (s->in && s->turn_len == 0)
            s->in->bytes.len = 0; /* they stay where they are until the call returns */
        s->partial = resume = false;
        scan = &server->scan;
        run_message(s, bytes);
    }
    free_input(s);
}

void fae_session_run(struct fae_session *s)
{
    struct fae_server *server = s->server;

    join_input(s);
    run_input(s);
    if (!(s->watching & FAE_READABLE))
        make_dirty(s); /* for its watch: what waited is run, and nothing of it may have had an answer */
    if (!s->eof || s->closing || s->turn_len)
        return;
    if (s->partial)
        free_input(s); /* the rest will never come */
    if (!s->half_close) {
        if (s->n_calls)
            server->o.ops->hangup(server->o.service, s, FAE_CANCELLED);
        free_input(s);
    }
    s->closing = s->n_calls == 0 && !s->in;
    make_dirty(s);
}

void fae_session_put_off(struct fae_session *s)
{
    if (s->closing)
        return;
    if (s->turn_len) {
        join_input(s);
        keep_rest(s, s->partial ? &s->in->scan : NULL);
    }
    make_ready(s);
    make_dirty(s); /* for its watch: what it has is enough */
}

struct fae_buf *fae_session_out(struct fae_session *s)
{
    struct fae_server *server = s->server;

    if (s->out.cap == 0 && server->n_spare_bufs)
        s->out = server->spare_bufs[--server->n_spare_bufs];
    make_dirty(s);
    return &s->out;
}

void fae_session_flush(struct fae_session *s)
{
    struct fae_server *server = s->server;
    size_t left = s->out.len - s->out_sent;
    ssize_t n;

    if (s->closed)
        return;
    if (s->tls && s->closing && !fae_tls_established(s->tls)) { /* there is no saying why before the handshake */
        fae_session_close(s, FAE_CLOSED);
        return;
    }
    if (left) {
        n = __builtin_expect(s->tls != NULL, 0) ? fae_tls_send(s->tls, s->out.data + s->out_sent, left)
                                                : send(s->fd, s->out.data + s->out_sent, left, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN && errno != EINTR) {
            fae_session_close(s, FAE_CANCELLED);
            return;
        }
        if (n > 0) {
            FAE_STAT_ADD(server->stats->n_bytes_out, (uint64_t)n);
            s->out_sent += (uint32_t)n;
            left -= (size_t)n;
        }
        if (left != s->held[FAE_HELD_OUT])
            fae_session_holds(s, FAE_HELD_OUT, left ? s->out.cap : 0);
        if (left && s->out_sent >= left) { /* a client that is never quite through must not make it grow */
            fae_buf_shift(&s->out, s->out_sent);
            s->out_sent = 0;
        }
        if (n > 0 || !(s->watching & FAE_WRITABLE))
            s->out_since = (uint32_t)server->o.loop->now_ms;
    }
    if (left == 0) {
        free_output(s);
        if (s->closing && s->n_calls == 0 && s->lost && !s->eof) {
            if (!s->lingering && s->tls)
                fae_tls_finish(s->tls);
            if (!s->lingering)
                shutdown(s->fd, SHUT_WR);
            s->lingering = true;
        } else if (s->closing && s->n_calls == 0) {
            fae_session_close(s, FAE_CLOSED);
            return;
        }
    } else if (left > server->o.config->message_max + FAE_OUT_SLACK || (s->eof && !s->half_close)) {
        if (left > server->o.config->message_max + FAE_OUT_SLACK)
            FAE_LIMIT_HIT(server, out_session_max);
        fae_session_close(s, FAE_LIMIT);
        return;
    }
    if (s->in && !s->partial && may_run(s))
        make_ready(s); /* what waited may go on */
    rewatch(s);
    if (s->tls && fae_secure_left(s))
        make_thirsty(s);
}

static void fail(struct fae_session *s, uint32_t msgid, const struct fae_failure *failure, enum fae_err code)
{
    fae_stats_error(s->server->stats, code);
    fae_message_error(fae_session_out(s), s->error_form, msgid, failure);
}

void fae_session_fail(struct fae_session *s, uint32_t msgid, const struct fae_failure *failure)
{
    fail(s, msgid, failure, fae_err_of(failure->code, failure->code_len));
}

void fae_session_refuse(struct fae_session *s, const struct fae_request *req, enum fae_err code, enum fae_limit limit,
                        uint32_t retry_after_ms)
{
    struct fae_worker_stats *stats = s->server->stats;

    FAE_STAT_ADD(stats->n_limit_hits[limit], 1);
    if (req->notification) {
        FAE_STAT_ADD(stats->n_limit_hits[FAE_LIMIT_notifications], 1);
        return;
    }
    fae_stats_error(stats, code);
    fae_message_refuse(fae_session_out(s), s->error_form, req->msgid, code, retry_after_ms);
}

void fae_session_fail_code(struct fae_session *s, uint32_t msgid, enum fae_err code, const char *fmt, ...)
{
    struct fae_failure f = { .code = fae_err_name(code), .retryable = fae_err_retryable(code), .retry_after_ms = -1 };
    struct fae_buf text = { 0 };
    va_list ap;

    va_start(ap, fmt);
    fae_buf_vprintf(&text, fmt, ap);
    va_end(ap);
    f.code_len = strlen(f.code);
    f.text = (const char *)text.data;
    f.text_len = text.len;
    fail(s, msgid, &f, code);
    fae_buf_fini(&text);
}

uint64_t fae_session_count(struct fae_server *server, unsigned row, uint64_t ticks, bool failed)
{
    struct fae_method_stats *m = &server->stats->methods[row];
    uint64_t now = fae_ticks(), ns = fae_ticks_to_ns(now - ticks);

    FAE_STAT_ADD(m->n_calls, 1);
    if (failed)
        FAE_STAT_ADD(m->n_errors, 1);
    FAE_STAT_ADD(m->ns, ns);
    fae_hist_add(&m->latency, ns);
    server->ticks = now;
    return now;
}

void fae_session_began(struct fae_session *s, struct fae_list *node)
{
    fae_list_add_tail(&s->calls, node);
    s->n_calls++;
    FAE_STAT_ADD(s->server->slot->n_calls, 1);
    if (s->host != FAE_HOST_NONE)
        fae_host_began(s->server->o.hosts, s->host, s->server->o.slot);
    s->server->ticks = fae_ticks(); /* what it did until it waits is not the next call's time */
    if (s->n_calls == FAE_SESSION_CALLS)
        make_dirty(s); /* for its watch */
}

void fae_session_ended(struct fae_session *s, struct fae_list *node)
{
    FAE_ASSERT(s->n_calls > 0);
    fae_list_del(node);
    s->n_calls--;
    FAE_STAT_ADD(s->server->slot->n_calls, (uint32_t)-1);
    if (s->host != FAE_HOST_NONE)
        fae_host_ended(s->server->o.hosts, s->host, s->server->o.slot);
    if (s->closed)
        return;
    if (s->eof && s->n_calls == 0 && !s->in)
        s->closing = true;
    make_dirty(s);
}

void fae_session_peer(const struct fae_session *s, char *text)
{
    struct fae_addr addr = { .len = sizeof addr.sa, .tls = s->tls != NULL };

    if (getpeername(s->fd, (struct sockaddr *)&addr.sa, &addr.len) != 0)
        addr.sa.ss_family = AF_UNSPEC;
    fae_addr_format(&addr, text);
}
