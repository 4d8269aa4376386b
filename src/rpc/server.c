/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The turn of a worker's server: run what came in, send what is ready, bury what closed.
 */
#include "rpc/server.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "rpc/caller.h"
#include "rpc/server_impl.h"

void fae_queue_push(struct fae_queue *q, struct fae_session *s)
{
    if (q->n == q->cap) {
        q->cap = q->cap ? q->cap * 2 : 64;
        q->items = fae_realloc(q->items, q->cap * sizeof *q->items);
    }
    q->items[q->n++] = s;
}

struct fae_server *fae_server_new(const struct fae_server_opts *opts)
{
    struct fae_server *server = fae_zalloc(sizeof *server);

    server->o = *opts;
    server->stats = &opts->stats->workers[opts->slot];
    server->slot = &opts->slots->slots[opts->slot];
    server->arena = fae_alloc(FAE_READ_ARENA);
    fae_list_init(&server->sessions);
    fae_admit_configured(server);
    fae_accept_init(server);
    return server;
}

/* Those that a queue still holds stay until that queue was walked. */
static void bury(struct fae_server *server)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < server->grave.n; i++) {
        struct fae_session *s = server->grave.items[i];

        if (s->is_ready || s->is_dirty)
            server->grave.items[kept++] = s;
        else if (server->n_spare_sessions < FAE_SPARE_SESSIONS)
            server->spare_sessions[server->n_spare_sessions++] = s;
        else
            free(s);
    }
    server->grave.n = kept;
}

void fae_server_free(struct fae_server **server_io)
{
    struct fae_server *server = *server_io;

    *server_io = NULL;
    if (!server)
        return;
    fae_accept_fini(server);
    FAE_LIST_EACH(node, &server->sessions)
        fae_session_close(FAE_CONTAINER(node, struct fae_session, node), FAE_DRAINING);
    for (uint32_t i = 0; i < server->grave.n; i++)
        free(server->grave.items[i]);
    while (server->n_spare_sessions)
        free(server->spare_sessions[--server->n_spare_sessions]);
    while (server->n_spare_bufs)
        fae_buf_fini(&server->spare_bufs[--server->n_spare_bufs]);
    free(server->thirsty.items);
    free(server->ready.items);
    free(server->running.items);
    free(server->dirty.items);
    free(server->grave.items);
    free(server->arena);
    free(server);
}

void fae_server_accept(struct fae_server *server)
{
    server->accepting = true;
    fae_accept_start(server);
}

void fae_server_configured(struct fae_server *server)
{
    fae_admit_configured(server);
    FAE_LIST_EACH(node, &server->sessions)
        fae_caller_identify(FAE_CONTAINER(node, struct fae_session, node));
}

/* Runs the sessions in `running` from where the last pass stopped, up to a full batch. Runs under the service's guard. */
static void run_some(void *arg)
{
    struct fae_server *server = arg;

    while (server->run_at < server->running.n && server->n_run < FAE_BATCH_CALLS && server->n_fresh < FAE_BATCH_BYTES &&
           !fae_server_late(server)) {
        struct fae_session *s = server->running.items[server->run_at];

        size_t was = s->out.len;

        if (!s->closed && !s->closing)
            fae_session_run(s);
        if (s->out.len > was)
            server->n_fresh += s->out.len - was;
        if (s->turn_len && !s->closed && !s->closing)
            continue; /* the batch is full, or a call was cut: this session is not through */
        s->is_ready = false;
        s->turn_len = 0;
        server->run_at++;
        if (__builtin_expect(server->admission.congested, 0))
            fae_admit_next(server);
    }
}

static void flush(struct fae_server *server)
{
    for (uint32_t i = 0; i < server->dirty.n; i++) {
        struct fae_session *s = server->dirty.items[i];

        s->is_dirty = false;
        fae_session_flush(s);
    }
    server->dirty.n = 0;
    fae_server_relieve(server);
}

/* Those that were not run yet come first next turn, and the one that was interrupted after them. */
static void put_off(struct fae_server *server)
{
    uint32_t n = server->running.n - server->run_at;

    for (uint32_t i = 1; i <= n; i++) {
        struct fae_session *s = server->running.items[server->run_at + i % n];

        s->is_ready = false;
        fae_session_put_off(s);
    }
}

/* Reads those that found the arena full; some may find it full again. */
static void feed(struct fae_server *server)
{
    struct fae_queue *q = &server->thirsty;
    uint32_t n = q->n;

    for (uint32_t i = 0; i < n; i++) {
        struct fae_session *s = q->items[i];

        s->is_thirsty = false;
        if (!s->closed && !s->lingering && s->watching & FAE_READABLE)
            fae_session_read(s);
    }
    for (uint32_t i = n; i < q->n; i++)
        q->items[i - n] = q->items[i];
    q->n -= n;
}

bool fae_server_turn(struct fae_server *server)
{
    struct fae_queue taken = server->running;
    bool busy = server->ready.n > 0;
    uint64_t began;

    /* Sessions made ready while these run wait for the next turn, so that no one starves the loop. */
    server->running = server->ready;
    server->ready = taken;
    server->ready.n = 0;
    server->run_at = 0;
    server->n_handshakes = 0;
    server->ticks = began = fae_ticks();
    fae_admit_turn(server);
    while (server->run_at < server->running.n && (!fae_server_late(server) || fae_admit_late(server))) {
        server->admission.n_done += server->n_run;
        server->n_run = 0;
        server->n_fresh = 0;
        while (!server->o.ops->guard(server->o.service, run_some, server))
            continue;
        flush(server);
    }
    fae_admit_turn_ended(server);
    put_off(server);
    server->running.n = 0;
    server->arena_used = 0;
    flush(server);
    if (busy)
        fae_timing_add(&server->stats->turn, fae_ticks_to_ns(fae_ticks() - began));
    server->got_ticks = 0;
    feed(server);
    bury(server);
    fae_accept_turn(server, busy);
    FAE_STAT_SET(server->slot->n_sessions, server->n_sessions);
    FAE_STAT_SET(server->slot->method, 0);
    return server->ready.n > 0 || server->admission.behind; /* is there more at once? */
}

/* Idle sessions go at a pace that spares whoever they reconnect to; those with calls wait for them. */
static void drain_some(struct fae_server *server, uint64_t now_ms)
{
    uint64_t spread = server->o.config->drain_spread_ms, past = now_ms - server->drain_started_ms;
    unsigned n = server->n_sessions / 10 + 100; /* a tick's share: small nodes are through at once */

    if (past >= spread)
        n = server->n_sessions;
    FAE_LIST_EACH(node, &server->sessions) {
        struct fae_session *s = FAE_CONTAINER(node, struct fae_session, node);

        if (n == 0)
            return;
        /* A request that lies in the socket will be read, and answered DRAINING. */
        if (s->n_calls || s->out.len || s->in || s->is_ready || fae_session_has_unread(s))
            continue;
        fae_session_close(s, FAE_DRAINING);
        n--;
    }
}

void fae_server_tick(struct fae_server *server)
{
    uint64_t now_ms = server->o.loop->now_ms;

    fae_accept_tick(server);
    fae_server_check(server);
    fae_admit_tell(server);
    if (server->draining || server->doors_closed)
        drain_some(server, now_ms);
    FAE_STAT_SET(server->slot->n_sessions, server->n_sessions);
}

void fae_server_drain(struct fae_server *server)
{
    server->accepting = false;
    server->draining = true;
    server->drain_started_ms = server->o.loop->now_ms;
    fae_accept_stop(server);
    drain_some(server, server->drain_started_ms);
}

void fae_server_doors(struct fae_server *server, bool closed)
{
    if (server->doors_closed == closed || server->draining)
        return;
    server->doors_closed = closed;
    server->drain_started_ms = server->o.loop->now_ms;
}

void fae_server_each_session(struct fae_server *server, void (*fn)(struct fae_session *s, void *arg), void *arg)
{
    FAE_LIST_EACH(node, &server->sessions)
        fn(FAE_CONTAINER(node, struct fae_session, node), arg);
}

void fae_server_close_session(struct fae_session *s)
{
    fae_session_close(s, FAE_CLOSED);
}

bool fae_server_drained(const struct fae_server *server)
{
    return server->n_sessions == 0;
}

void fae_server_abort(struct fae_server *server)
{
    FAE_LIST_EACH(node, &server->sessions) {
        struct fae_session *s = FAE_CONTAINER(node, struct fae_session, node);

        if (s->n_calls)
            server->o.ops->hangup(server->o.service, s, FAE_DRAINING);
    }
    flush(server);
    FAE_LIST_EACH(node, &server->sessions)
        fae_session_close(FAE_CONTAINER(node, struct fae_session, node), FAE_DRAINING);
}
