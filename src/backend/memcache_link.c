/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The connection to one memcached: made when a call needs it, written to once a turn, and lost.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "backend/memcache_impl.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

#define PAUSE_MS 600 /* after an attempt that failed, then twice that: two attempts a second are enough */
#define PAUSE_MAX_MS 1200
#define TOLD_MS 60000                /* between two lines of the log while it stays away ... */
#define TOLD_OPEN_MS 1000            /* ... and of what becomes of open connections */
#define OUT_MAX (256u * FAE_KIB)     /* unsent output at which calls stay in waiting; one may always go */
#define COMMAND_KEYS 256u            /* of one multi-get ... */
#define COMMAND_BYTES (8u * FAE_KIB) /* ... well within what memcached reads at once */
#define READ_BYTES (64u * FAE_KIB)
#define READS_A_TURN 16
#define KEEP_BYTES (256u * FAE_KIB) /* an empty buffer larger than this is given back */
#define SLOTS_MAX 10000u            /* one a worker is enough, but a pool that was replaced may still have its own */

/* ---- the ends of connections ---- */

void fae_memcache_hang_up(struct fae_memcache_server *s)
{
    if (s->state == FAE_MEMCACHE_DOWN)
        return;
    fae_stream_close(&s->stream);
    fae_timer_stop(&s->connecting);
    fae_timer_stop(&s->broken);
    s->state = FAE_MEMCACHE_DOWN;
    s->out.len = s->in.len = s->sent = 0;
    s->skip = 0;
    s->heard = false;
    s->at = NULL;
    if (s->has_slot)
        fae_upstream_slot_give(s->up, s->o.slot);
    s->has_slot = false;
    fae_memcache_show(s);
}

void fae_memcache_tell(struct fae_memcache_server *s, const char *why)
{
    uint64_t now_ms = s->o.loop->now_ms, pause_ms = s->state == FAE_MEMCACHE_OPEN ? TOLD_OPEN_MS : TOLD_MS;

    if (s->told_ms && now_ms < s->told_ms + pause_ms)
        return;
    s->told_ms = now_ms;
    FAE_WARN("%s: %s (%u calls)", s->name, why, s->n_live);
}

/* An attempt to connect failed: who waited for it is told, and for a while nobody tries. */
static void refuse(struct fae_memcache_server *s, const char *why)
{
    struct fae_list calls;
    char text[FAE_MEMCACHE_WHY_MAX];

    snprintf(text, sizeof text, "%s", why);
    fae_memcache_tell(s, text);
    s->pause_ms = s->pause_ms ? PAUSE_MAX_MS : PAUSE_MS;
    fae_memcache_hang_up(s);
    /* A third of it random, so that many workers do not knock together. */
    s->retry_ms = s->o.loop->now_ms + s->pause_ms + fae_ticks() % (s->pause_ms / 3);
    FAE_MEMCACHE_STAT(s, connect_failures, 1);
    fae_upstream_end(s->up, &s->o.breaker, s->o.slot, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, s->o.loop->now_ms);
    fae_list_init(&calls);
    fae_list_splice(&calls, &s->waiting);
    while (!fae_list_empty(&calls)) {
        FAE_MEMCACHE_STAT(s, busy, 1);
        fae_memcache_fail(s, FAE_MEMCACHE_FIRST(&calls), FAE_BREAKER_VOID, FAE_UNAVAILABLE, text);
    }
}

void fae_memcache_turned_away(struct fae_memcache_server *s, const char *why)
{
    fae_list_splice(&s->asked, &s->waiting);
    fae_list_splice(&s->waiting, &s->asked);
    refuse(s, why);
}

/* A get that was asked, or what never left, goes back to the front of those that wait. */
static bool asked_again(struct fae_memcache_server *s, struct fae_memcache_call *call)
{
    if (call->over || call->cancelled || (call->on_wire && (call->op != FAE_MEMCACHE_GET || call->again)))
        return false;
    if (call->on_wire)
        FAE_MEMCACHE_STAT(s, retries, 1);
    call->again = call->again || call->on_wire;
    call->sent = call->on_wire = call->last = false;
    call->answered = call->at_key = call->at_byte = 0;
    return true;
}

void fae_memcache_lose(struct fae_memcache_server *s, const char *why)
{
    struct fae_list again, calls;
    char text[FAE_MEMCACHE_WHY_MAX];

    snprintf(text, sizeof text, "%s", why);
    fae_list_init(&again);
    fae_list_init(&calls);
    fae_list_splice(&calls, &s->asked);
    fae_memcache_hang_up(s);
    FAE_LIST_EACH(node, &calls) {
        if (!asked_again(s, FAE_CONTAINER(node, struct fae_memcache_call, node)))
            continue;
        fae_list_del(node);
        fae_list_add_tail(&again, node);
    }
    fae_list_splice(&again, &s->waiting);
    fae_list_splice(&s->waiting, &again);
    while (!fae_list_empty(&calls)) {
        struct fae_memcache_call *call = FAE_MEMCACHE_FIRST(&calls);

        if (call->over) {
            fae_memcache_drop(s, call);
            continue;
        }
        FAE_MEMCACHE_STAT(s, lost, 1);
        fae_memcache_fail(s, call, FAE_BREAKER_FAILED, call->op == FAE_MEMCACHE_GET ? FAE_UNAVAILABLE : FAE_UNKNOWN,
                          text);
    }
    if (s->state == FAE_MEMCACHE_DOWN && !fae_list_empty(&s->waiting))
        fae_memcache_dial(s);
}

/* ---- in ---- */

static void on_readable(void *arg)
{
    struct fae_memcache_server *s = arg;

    for (unsigned i = 0; i < READS_A_TURN; i++) {
        ssize_t n = fae_stream_recv(&s->stream, fae_buf_room(&s->in, READ_BYTES), READ_BYTES);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            const char *why = n == 0 ? "it closed the connection" : fae_stream_why(&s->stream);

            if (s->n_calls)
                fae_memcache_tell(s, why);
            fae_memcache_lose(s, why);
            return;
        }
        s->in.len += (size_t)n;
        s->now_ns = fae_now_ns();
        if (!fae_memcache_run_input(s))
            return;
        if (s->ends_ms && fae_list_empty(&s->asked) && !fae_list_empty(&s->waiting))
            fae_later(s->o.loop, &s->flush); /* they waited for the end of an old connection */
        if ((size_t)n < READ_BYTES)
            return;
    }
}

/* ---- out ---- */

static void put_asked(struct fae_memcache_server *s, struct fae_memcache_call *call)
{
    fae_list_del(&call->node);
    fae_list_add_tail(&s->asked, &call->node);
    call->sent = true;
    call->sent_ns = s->now_ns;
    if (call->asked_ms == s->o.loop->now_ms) /* in this turn, which may be old by now */
        call->asked_ms = s->now_ns / 1000000u;
    fae_buf_add(&s->out, call->bytes, call->len);
    FAE_MEMCACHE_STAT(s, calls, !call->again && !call->check);
}

/* The gets that wait in front, as many as one command may have. */
static void put_gets(struct fae_memcache_server *s)
{
    struct fae_memcache_call *call = FAE_MEMCACHE_FIRST(&s->waiting), *before = NULL;
    unsigned n_keys = 0;
    size_t n_bytes = 0;

    fae_buf_add(&s->out, "gets", 4);
    do {
        n_keys += call->n_keys;
        n_bytes += call->len;
        put_asked(s, call);
        before = call;
        call = FAE_MEMCACHE_FIRST(&s->waiting);
    } while (!fae_list_empty(&s->waiting) && call->op == FAE_MEMCACHE_GET && n_keys + call->n_keys <= COMMAND_KEYS &&
             n_bytes + call->len <= COMMAND_BYTES);
    before->last = true;
    fae_buf_add(&s->out, "\r\n", 2);
}

/* Bytes left: what was put into the output until now may be with the server. */
static void mark_on_wire(struct fae_memcache_server *s)
{
    for (struct fae_list *at = s->asked.prev; at != &s->asked; at = at->prev) {
        struct fae_memcache_call *call = FAE_CONTAINER(at, struct fae_memcache_call, node);

        if (call->on_wire)
            return;
        call->on_wire = true;
    }
}

/* Tells nobody: what comes of a connection that does not take it is told from `broken`. */
static void send_out(struct fae_memcache_server *s)
{
    ssize_t n = 0;

    if (s->sent < s->out.len)
        n = fae_stream_send(&s->stream, s->out.data + s->sent, s->out.len - s->sent);
    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        s->broken_errno = errno;
        fae_timer_start_at(&s->broken, 0);
        return;
    }
    if (n > 0) {
        s->sent += (size_t)n;
        mark_on_wire(s);
    }
    if (s->sent == s->out.len) {
        s->out.len = s->sent = 0;
        if (s->out.cap > KEEP_BYTES)
            fae_buf_fini(&s->out);
    } else if (s->sent > s->out.len / 2) {
        fae_buf_shift(&s->out, s->sent);
        s->sent = 0;
    }
    if (s->stream.wants_write != (s->out.len > 0))
        fae_stream_want_write(&s->stream, s->out.len > 0);
}

static void on_broken(void *arg)
{
    struct fae_memcache_server *s = arg;
    const char *why = strerror(s->broken_errno);

    fae_memcache_tell(s, why);
    fae_memcache_lose(s, why);
}

/* At the end of a turn. */
static void flush(void *arg)
{
    struct fae_memcache_server *s = arg;

    if (s->state != FAE_MEMCACHE_OPEN)
        return;
    if (s->ends_ms && s->o.loop->now_ms >= s->ends_ms) { /* a new one, when this has brought what was asked on it */
        if (fae_list_empty(&s->asked))
            fae_memcache_lose(s, "it is too old");
        return;
    }
    s->now_ns = fae_now_ns();
    while (!fae_list_empty(&s->waiting) && s->out.len - s->sent < OUT_MAX) {
        struct fae_memcache_call *call = FAE_MEMCACHE_FIRST(&s->waiting);

        if (call->op == FAE_MEMCACHE_GET) {
            put_gets(s);
        } else {
            call->last = true;
            put_asked(s, call);
        }
    }
    send_out(s);
}

static void on_writable(void *arg)
{
    struct fae_memcache_server *s = arg;

    send_out(s);
    if (!fae_list_empty(&s->waiting))
        fae_later(s->o.loop, &s->flush);
}

/* ---- connecting ---- */

static void on_opened(void *arg)
{
    struct fae_memcache_server *s = arg;
    uint64_t now_ms = s->o.loop->now_ms, life_ms = s->o.life_ms;

    fae_timer_stop(&s->connecting);
    s->state = FAE_MEMCACHE_OPEN;
    s->pause_ms = 0;
    s->quiet_ms = now_ms;
    s->ends_ms = life_ms ? now_ms + life_ms - life_ms / 10 + fae_ticks() % (life_ms / 5 + 1) : 0;
    FAE_LIST_EACH(node, &s->waiting) {
        const struct fae_memcache_call *call = FAE_CONTAINER(node, struct fae_memcache_call, node);

        FAE_MEMCACHE_STAT(s, waits, 1);
        if (now_ms > call->asked_ms)
            FAE_MEMCACHE_STAT(s, wait_ns, (now_ms - call->asked_ms) * 1000000u);
    }
    fae_memcache_show(s);
    fae_later(s->o.loop, &s->flush);
}

static void on_failed(void *arg, const char *why)
{
    refuse(arg, why);
}

static void on_connect_late(void *arg)
{
    struct fae_memcache_server *s = arg;
    char text[64];

    snprintf(text, sizeof text, "no connection within %u ms", s->o.connect_timeout_ms);
    refuse(s, text);
}

void fae_memcache_dial(struct fae_memcache_server *s)
{
    static const struct fae_stream_ops ops = { on_opened, on_failed, on_readable, on_writable };
    const struct fae_stream_opts opts = { .loop = s->o.loop,
                                          .resolver = s->o.resolver,
                                          .endpoint = &s->endpoint,
                                          .within_ms = s->o.connect_timeout_ms,
                                          .ops = &ops,
                                          .arg = s };

    FAE_ASSERT(s->state == FAE_MEMCACHE_DOWN);
    s->has_slot = fae_upstream_slot_take(s->up, s->o.slot, SLOTS_MAX);
    FAE_MEMCACHE_STAT(s, connects, 1);
    s->state = FAE_MEMCACHE_CONNECTING;
    fae_timer_start(&s->connecting, s->o.connect_timeout_ms);
    fae_stream_open(&s->stream, &opts);
    fae_memcache_show(s);
}

void fae_memcache_link_init(struct fae_memcache_server *s)
{
    fae_timer_init(&s->connecting, s->o.loop, on_connect_late, s);
    fae_timer_init(&s->broken, s->o.loop, on_broken, s);
    fae_later_init(&s->flush, flush, s);
}

void fae_memcache_link_fini(struct fae_memcache_server *s)
{
    fae_memcache_hang_up(s);
    fae_later_cancel(&s->flush);
    fae_buf_fini(&s->out);
    fae_buf_fini(&s->in);
}
