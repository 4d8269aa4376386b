/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of memcache_server share. Nobody else includes it.
 *
 *   memcache_server   calls: asked, told, cancelled, too late
 *   memcache_link     the connection: made, written to, lost
 *   memcache_answers  what comes back, and whom it is for
 *
 * Calls stand in `waiting` until they are put into the output, then in `asked` in the order of their answers. Gets that follow
 * each other are one command, whose last call is marked: its values may come in any order, so a call of it that is answered
 * stays in its place until the command's END.
 */
#ifndef FAE_BACKEND_MEMCACHE_IMPL_H
#define FAE_BACKEND_MEMCACHE_IMPL_H

#include "backend/memcache_server.h"
#include "backend/stream.h"
#include "base/buf.h"
#include "base/hist.h"
#include "base/limits.h"

#define FAE_MEMCACHE_WHY_MAX 1024u

enum fae_memcache_state { FAE_MEMCACHE_DOWN, FAE_MEMCACHE_CONNECTING, FAE_MEMCACHE_OPEN };

struct fae_memcache_server {
    struct fae_memcache_server_opts o;
    struct fae_endpoint endpoint;
    char name[128 + FAE_ENDPOINT_TEXT];
    char why[FAE_MEMCACHE_WHY_MAX]; /* of the answer being told */
    char row[FAE_UPSTREAM_NAME_MAX + 1];
    struct fae_upstream *up; /* NULL: there are too many, for now */
    uint64_t row_ms;         /* then: when to look for a row again */
    unsigned n_looked;
    struct fae_upstream_cell *cell;
    enum fae_memcache_state state;
    struct fae_stream stream;
    bool has_slot;
    struct fae_timer connecting; /* the limit of an attempt */
    struct fae_timer late;       /* when the oldest call has waited timeout_ms */
    struct fae_later flush;      /* what was asked in this turn goes out */
    struct fae_timer broken;     /* it could not be written to: soon the connection is lost ... */
    int broken_errno;            /* ... for this reason */
    uint64_t retry_ms;           /* DOWN: not before */
    unsigned pause_ms;
    bool checking;       /* a check is under way ... */
    uint64_t check_ms;   /* ... and none before this */
    bool silent;         /* the last one had no answer */
    uint64_t skipped_ms; /* fae_memcache_server_skip */
    uint64_t wanted_ms;  /* the last call, let through or not */
    uint64_t told_ms;    /* the last line of the log about a failure */
    uint64_t ends_ms;    /* OPEN: it is too old then; 0: never */
    uint64_t quiet_ms;   /* OPEN: since when nobody asks */
    struct fae_list waiting, asked;
    unsigned n_calls, n_live; /* in both; those that somebody waits for */
    size_t n_bytes;
    struct fae_memcache_call *at; /* of asked, where the next value is looked for first; NULL: at the first */
    struct fae_buf out, in;
    size_t sent;     /* of out */
    uint64_t skip;   /* bytes of a value that is too long, yet to come */
    bool heard;      /* OPEN: it has said something */
    uint64_t now_ns; /* of what is being read or sent */
    bool telling;    /* inside a completion */
};

#define FAE_MEMCACHE_STAT(s, counter, by) FAE_STAT_ADD((s)->cell->n.counter, (by))
#define FAE_MEMCACHE_FIRST(list) FAE_CONTAINER((list)->next, struct fae_memcache_call, node)

/* memcache_server.c */

/* "memcache main tcp://10.0.0.1:11211: what"; lent until the next one. */
const char *fae_memcache_sentence(struct fae_memcache_server *s, const char *what);
/* Tells its asker, if there still is one. The call stays where it is. */
void fae_memcache_settle(struct fae_memcache_server *s, struct fae_memcache_call *call,
                         enum fae_breaker_outcome outcome, const struct fae_memcache_answer *answer);
/* Frees a call that is over. */
void fae_memcache_drop(struct fae_memcache_server *s, struct fae_memcache_call *call);
/* Both. */
void fae_memcache_fail(struct fae_memcache_server *s, struct fae_memcache_call *call, enum fae_breaker_outcome outcome,
                       enum fae_err err, const char *what);
void fae_memcache_show(const struct fae_memcache_server *s); /* its gauges */

/* memcache_link.c */

void fae_memcache_link_init(struct fae_memcache_server *s);
void fae_memcache_link_fini(struct fae_memcache_server *s);
/* DOWN: begins a connection; what comes of it is told from the loop. */
void fae_memcache_dial(struct fae_memcache_server *s);
void fae_memcache_hang_up(struct fae_memcache_server *s);
/* The connection is gone, and with it the answers to all that was asked on it. */
void fae_memcache_lose(struct fae_memcache_server *s, const char *why);
/* OPEN: it did not take the connection after all, and ran nothing that was asked on it. */
void fae_memcache_turned_away(struct fae_memcache_server *s, const char *why);
void fae_memcache_tell(struct fae_memcache_server *s, const char *why); /* the log, now and then */

/* memcache_answers.c */

/* Takes what has come. False: the connection is lost. */
bool fae_memcache_run_input(struct fae_memcache_server *s);

#endif
