/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The connection to another node: out goes a queue of whole messages, in come answers that find their call by msgid.
 */
#include "backend/remote.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "wire/msgpack.h"

#define CONNECT_MS 1000
#define PAUSE_MS 50 /* after a failure; doubles */
#define PAUSE_MAX_MS 2000
#define TOLD_MS 60000          /* between two lines of the log while it stays away */
#define OUT_MAX (4u * FAE_MIB) /* bytes queued; one message may always be */
#define READ_BYTES (64u * FAE_KIB)
#define READS_A_TURN 16
#define KEEP_BYTES (256u * FAE_KIB) /* an empty buffer larger than this is given back */
#define SLOTS (2 * FAE_REMOTE_CALLS)
#define HELLO_MSGID UINT32_MAX

_Static_assert((SLOTS & (SLOTS - 1)) == 0, "msgids are masked");

enum state { DOWN, CONNECTING, OPEN };

struct fae_remote {
    struct fae_remote_opts o;
    char text[FAE_ADDR_TEXT];
    char *token;
    enum state state;
    int fd;
    short watching;
    struct fae_watch watch;
    struct fae_timer connecting; /* its limit */
    uint64_t retry_ms;           /* DOWN: not before */
    unsigned pause_ms;
    uint64_t told_ms; /* the last line of the log about a failure */
    struct fae_buf out, in;
    size_t sent; /* of out */
    struct fae_mp_scan scan;
    bool scanning; /* scan is in the middle of a message */
    uint32_t next_msgid;
    unsigned n_calls;
    bool inside;                          /* a completion is running ... */
    bool dead;                            /* ... and it freed us */
    struct fae_remote_call *calls[SLOTS]; /* by msgid */
};

struct fae_remote *fae_remote_new(const struct fae_remote_opts *opts)
{
    struct fae_remote *r = fae_zalloc(sizeof *r);

    r->o = *opts;
    r->token = opts->token ? fae_strdup(opts->token) : NULL;
    r->o.token = r->token;
    r->fd = -1;
    r->next_msgid = 1;
    fae_addr_format(&opts->addr, r->text);
    return r;
}

static void hang_up(struct fae_remote *r)
{
    fae_watch_close(&r->watch);
    fae_timer_stop(&r->connecting);
    if (r->fd >= 0)
        close(r->fd);
    r->fd = -1;
    r->state = DOWN;
    r->out.len = r->in.len = r->sent = 0;
    r->scanning = false;
}

static void release(struct fae_remote *r)
{
    fae_buf_fini(&r->out);
    fae_buf_fini(&r->in);
    free(r->token);
    free(r);
}

void fae_remote_free(struct fae_remote **remote)
{
    struct fae_remote *r = *remote;

    *remote = NULL;
    if (!r)
        return;
    hang_up(r);
    memset(r->calls, 0, sizeof r->calls);
    r->n_calls = 0;
    if (r->inside)
        r->dead = true;
    else
        release(r);
}

const char *fae_remote_addr(const struct fae_remote *r)
{
    return r->text;
}

/* ---- the end of calls ---- */

static struct fae_remote_call *take(struct fae_remote *r, uint32_t msgid)
{
    struct fae_remote_call *call = r->calls[msgid & (SLOTS - 1)];

    if (!call || call->msgid != msgid)
        return NULL;
    r->calls[msgid & (SLOTS - 1)] = NULL;
    r->n_calls--;
    return call;
}

/* False: the remote was freed from inside, and is gone. */
static bool finish(struct fae_remote *r, struct fae_remote_call *call, enum fae_err err, const uint8_t *error,
                   const uint8_t *result)
{
    bool was_inside = r->inside;

    r->inside = true;
    call->done(call, err, error, result);
    r->inside = was_inside;
    if (!r->dead)
        return true;
    if (!was_inside)
        release(r);
    return false;
}

/* Back to DOWN; everything in flight has failed. */
static void fail(struct fae_remote *r, const char *why)
{
    uint64_t spread, now_ms = fae_now_ms();

    if (r->state == OPEN || r->told_ms == 0 || now_ms >= r->told_ms + TOLD_MS) {
        r->told_ms = now_ms;
        FAE_WARN("remote %s: %s (%u calls fail)", r->text, why, r->n_calls);
    }
    if (r->pause_ms < PAUSE_MAX_MS)
        r->pause_ms = r->pause_ms ? r->pause_ms * 2 : PAUSE_MS;
    spread = fae_ticks() % (r->pause_ms / 2 + 1); /* so that many workers do not knock together */
    r->retry_ms = now_ms + r->pause_ms - spread;
    hang_up(r);
    for (unsigned i = 0; i < SLOTS; i++) {
        struct fae_remote_call *call = r->calls[i];

        if (call && !finish(r, take(r, call->msgid), FAE_UNAVAILABLE, NULL, NULL))
            return;
    }
}

void fae_remote_cancel(struct fae_remote *r, struct fae_remote_call *call)
{
    take(r, call->msgid);
}

/* ---- in ---- */

/* One message. False: the remote is gone, or down. */
static bool answered(struct fae_remote *r, const uint8_t *p)
{
    struct fae_mp_token frame, type, msgid, first;
    struct fae_remote_call *call;
    const uint8_t *error;

    p = fae_mp_read(p, &frame);
    if (frame.type != FAE_MP_ARRAY || frame.len < 3) {
        fail(r, "what it sends is not msgpack-RPC");
        return false;
    }
    p = fae_mp_read(p, &type);
    if (type.type == FAE_MP_UINT && type.u == 2)
        return true; /* its notifications are nobody's here */
    error = fae_mp_read(p, &msgid);
    if (frame.len != 4 || type.type != FAE_MP_UINT || type.u != 1 || msgid.type != FAE_MP_UINT ||
        msgid.u > UINT32_MAX) {
        fail(r, "what it sends is no answer");
        return false;
    }
    fae_mp_read(error, &first);
    if (msgid.u == HELLO_MSGID && first.type != FAE_MP_NIL)
        FAE_WARN("remote %s: does not take our token", r->text);
    call = take(r, (uint32_t)msgid.u);
    return !call || finish(r, call, FAE_OK, error, fae_mp_skip(error));
}

static void drop_read(struct fae_remote *r, size_t n)
{
    fae_buf_shift(&r->in, n);
    if (r->in.len == 0 && r->in.cap > KEEP_BYTES)
        fae_buf_fini(&r->in);
}

/* Message by message. False: gone or down. */
static bool run_input(struct fae_remote *r)
{
    size_t at = 0;

    while (at < r->in.len) {
        enum fae_err err;

        if (!r->scanning)
            fae_mp_scan_init(&r->scan);
        err = fae_mp_scan(&r->scan, r->in.data + at, r->in.len - at, r->o.message_max + FAE_KIB);
        r->scanning = err == FAE_MORE;
        if (r->scanning)
            break;
        if (err) {
            fail(r, err == FAE_LIMIT ? "its answer is too long" : "what it sends is not msgpack");
            return false;
        }
        at += r->scan.pos;
        if (!answered(r, r->in.data + at - r->scan.pos))
            return false;
        if (r->state != OPEN)
            return false;
    }
    drop_read(r, at);
    return true;
}

static void on_readable(struct fae_remote *r)
{
    ssize_t n;

    for (unsigned i = 0; i < READS_A_TURN; i++) {
        n = recv(r->fd, fae_buf_room(&r->in, READ_BYTES), READ_BYTES, 0);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            fail(r, n == 0 ? "it closed the connection" : strerror(errno));
            return;
        }
        r->in.len += (size_t)n;
        if (!run_input(r))
            return;
        if ((size_t)n < READ_BYTES)
            return;
    }
}

/* ---- out ---- */

static void watch(struct fae_remote *r, short what)
{
    if (what == r->watching)
        return;
    r->watching = what;
    fae_watch_change(&r->watch, r->o.loop, what);
}

/* False: the connection failed, and the remote may be gone. */
static bool flush(struct fae_remote *r)
{
    ssize_t n = send(r->fd, r->out.data + r->sent, r->out.len - r->sent, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        fail(r, strerror(errno));
        return false;
    }
    if (n > 0)
        r->sent += (size_t)n;
    if (r->sent == r->out.len) {
        r->out.len = r->sent = 0;
        if (r->out.cap > KEEP_BYTES)
            fae_buf_fini(&r->out);
        watch(r, FAE_READABLE);
    } else if (r->sent > r->out.len / 2) {
        fae_buf_shift(&r->out, r->sent);
        r->sent = 0;
    }
    return true;
}

static void on_connected(struct fae_remote *r)
{
    int failed = 0;
    socklen_t len = sizeof failed;

    if (getsockopt(r->fd, SOL_SOCKET, SO_ERROR, &failed, &len) != 0)
        failed = errno;
    if (failed) {
        fail(r, strerror(failed));
        return;
    }
    fae_timer_stop(&r->connecting);
    r->state = OPEN;
    r->pause_ms = 0;
    flush(r);
}

static void on_event(int fd, short what, void *arg)
{
    struct fae_remote *r = arg;

    (void)fd;
    if (r->state == CONNECTING) {
        on_connected(r);
        return;
    }
    if (what & FAE_WRITABLE && !flush(r))
        return;
    if (what & FAE_READABLE)
        on_readable(r);
}

static void on_connect_late(void *arg)
{
    fail(arg, "it did not accept the connection within 1000 ms");
}

static void put_hello(struct fae_remote *r)
{
    if (!r->token)
        return;
    fae_mp_array(&r->out, 4);
    fae_mp_uint(&r->out, 0);
    fae_mp_uint(&r->out, HELLO_MSGID);
    FAE_MP_TEXT(&r->out, "sys.hello");
    fae_mp_array(&r->out, 1);
    fae_mp_map(&r->out, 1);
    FAE_MP_TEXT(&r->out, "token");
    fae_mp_str(&r->out, r->token, strlen(r->token));
}

/* Begins; what comes of it is told from the loop, so that a call that starts it fails like any other. */
static enum fae_err dial(struct fae_remote *r)
{
    int one = 1;

    r->fd = socket(r->o.addr.sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (r->fd < 0)
        return FAE_SYSTEM;
    if (!fae_addr_is_unix(&r->o.addr))
        setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(r->fd, (const struct sockaddr *)&r->o.addr.sa, r->o.addr.len) != 0 && errno != EINPROGRESS)
        return FAE_UNAVAILABLE; /* a unix socket that nobody listens on, or whose queue is full */
    r->watching = FAE_READABLE | FAE_WRITABLE;
    if (fae_watch_open(&r->watch, r->o.loop, r->fd, r->watching, on_event, r))
        return FAE_SYSTEM;
    r->state = CONNECTING;
    fae_timer_init(&r->connecting, r->o.loop, on_connect_late, r);
    fae_timer_start(&r->connecting, CONNECT_MS);
    put_hello(r);
    return FAE_OK;
}

/* Is there, or will soon be, a connection with room for the message? */
static enum fae_err make_room(struct fae_remote *r, const struct fae_remote_message *m)
{
    size_t len = m->method_len + m->params_len + m->context_len + 32;

    if (len > r->o.message_max)
        return FAE_LIMIT;
    if (r->out.len > r->sent && r->out.len - r->sent + len > OUT_MAX)
        return FAE_OVERLOAD;
    if (r->state != DOWN)
        return FAE_OK;
    if (fae_now_ms() < r->retry_ms)
        return FAE_UNAVAILABLE;
    if (dial(r)) {
        fail(r, strerror(errno)); /* nothing is in flight while it is down */
        return FAE_UNAVAILABLE;
    }
    return FAE_OK;
}

static void put(struct fae_remote *r, const struct fae_remote_message *m)
{
    fae_mp_str(&r->out, m->method, m->method_len);
    fae_buf_add(&r->out, m->params, m->params_len);
    fae_buf_add(&r->out, m->context, m->context_len);
    if (r->state == OPEN)
        watch(r, FAE_READABLE | FAE_WRITABLE); /* all that is asked in this turn goes out together */
}

static uint32_t free_msgid(struct fae_remote *r)
{
    while (r->calls[r->next_msgid & (SLOTS - 1)] || r->next_msgid == HELLO_MSGID)
        r->next_msgid++;
    return r->next_msgid++;
}

enum fae_err fae_remote_call(struct fae_remote *r, struct fae_remote_call *call, const struct fae_remote_message *m)
{
    enum fae_err err = r->n_calls >= FAE_REMOTE_CALLS ? FAE_OVERLOAD : make_room(r, m);

    if (err)
        return err;
    call->msgid = free_msgid(r);
    r->calls[call->msgid & (SLOTS - 1)] = call;
    r->n_calls++;
    fae_mp_array(&r->out, m->context ? 5 : 4);
    fae_mp_uint(&r->out, 0);
    fae_mp_uint(&r->out, call->msgid);
    put(r, m);
    return FAE_OK;
}

enum fae_err fae_remote_notify(struct fae_remote *r, const struct fae_remote_message *m)
{
    enum fae_err err = make_room(r, m);

    if (err)
        return err;
    fae_mp_array(&r->out, 3);
    fae_mp_uint(&r->out, 2);
    put(r, m);
    return FAE_OK;
}
