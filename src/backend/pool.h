/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connections of one worker to one server, borrowed and given back. How they are made, reset and checked is the kind's: a
 * table of functions. Never waits: who asks is told later, from the loop, in the order of asking. Idle ones are borrowed
 * newest first: so few as are needed stay in use, the others become too idle, and a firewall drops the longest-idle first.
 *
 *   (none) --asked for, or to be warm--> CONNECTING --> IDLE <--> USED
 *                                            |            \--> CHECKING (health) --> IDLE
 *                                            +--> failed    USED --given back--> RESETTING --> IDLE
 *   A connection that failed in any way, is too old, or lay idle too long, is closed. A failed attempt is followed by a pause
 *   (doubling, with jitter), during which who asks is refused at once, unless there is a connection that may become free;
 *   then there is one attempt at a time, until one succeeds. Before, there are as many as ask for one, and no more.
 *   Every failed attempt is told to the breaker as REFUSED: who is told UNAVAILABLE here ends his permit as VOID.
 */
#ifndef FAE_BACKEND_POOL_H
#define FAE_BACKEND_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "backend/breaker.h"
#include "backend/upstream.h"
#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"

struct fae_config_pool;
struct fae_pool;

/* What a configuration's row says. */
struct fae_pool_rule {
    uint32_t max, waiting_max, wait_ms, connect_timeout_ms, timeout_ms, idle_ms, life_ms, warm;
    struct fae_breaker_rule breaker;
};
void fae_pool_rule(struct fae_pool_rule *rule_out, const struct fae_config_pool *config);

/* The start of every kind's connection. */
struct fae_pool_conn {
    struct fae_pool *pool;
    struct fae_list node;
    uint32_t state; /* the pool's */
    bool fresh;     /* nobody used it yet */
    uint64_t born_ms, idle_since_ms;
    uint64_t ends_ms, idle_ends_ms; /* then it is closed; 0: never */
    uint64_t check_ms;              /* idle: then it is asked for a sign of life */
    struct fae_timer limit;         /* of connecting, resetting and checking */
};

struct fae_pool_ops {
    /* Begins a connection; fae_pool_connected tells what came of it, later and from the loop. NULL: not even begun, errno
     * says why. Zeroed but for what is the kind's. */
    struct fae_pool_conn *(*connect)(struct fae_pool *pool, void *arg);
    /* Ends it at once, whatever it was doing, and frees it. Nothing is told of it any more. Also after a failure. */
    void (*close)(struct fae_pool_conn *conn);
    /* Makes it as new for the next borrower; fae_pool_was_reset tells. False: it need not. NULL: it never need. */
    bool (*reset)(struct fae_pool_conn *conn);
    /* Asks the server for a sign of life; fae_pool_was_checked tells. NULL: never asked. */
    void (*check)(struct fae_pool_conn *conn);
};

/* Somebody who wants a connection: the caller's memory until it is told or cancelled. OK: conn is his until fae_pool_give.
 * Else conn is NULL: POOL_BUSY (waited for wait_ms in vain, or too many wait), UNAVAILABLE (cannot be reached), TIMEOUT (his
 * own deadline), CLOSED (the pool ended). Who waits for the very first connection waits for as long as making it may take:
 * that it cannot be reached is the better answer. The pool may be freed from inside done. */
struct fae_pool_ask {
    struct fae_list node;
    struct fae_pool *pool;
    uint64_t since_ns;
    uint64_t own_ms; /* the asker's own deadline; 0: none */
    struct fae_timer timer;
    void (*done)(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *conn);
};

struct fae_pool_opts {
    struct fae_loop *loop;
    struct fae_upstream *upstream; /* NULL: no row was free; then max is the worker's alone */
    unsigned slot;
    struct fae_pool_rule rule;
    const struct fae_pool_ops *ops;
    void *arg;
};

struct fae_pool *fae_pool_new(const struct fae_pool_opts *opts);
/* Closes everything, also what is borrowed; who waits is told CLOSED, from here. */
void fae_pool_free(struct fae_pool **pool);

/* OK and *conn_out: an idle one, at once; ask is not used. MORE: ask->done will be called. Else as above, and nothing will
 * come. deadline_ms: the asker's own; 0: none. The breaker is not asked: that is for whoever calls. Only ask->done need be
 * set. */
enum fae_err fae_pool_borrow(struct fae_pool *pool, struct fae_pool_ask *ask, uint64_t deadline_ms,
                             struct fae_pool_conn **conn_out);
/* An idle one, at once, while nobody waits; else NULL. None is made for it. */
struct fae_pool_conn *fae_pool_borrow_idle(struct fae_pool *pool);
/* It is no longer wanted; done is not called. */
void fae_pool_cancel(struct fae_pool *pool, struct fae_pool_ask *ask);
/* sound: false closes it. From anywhere: who waits next is told later, from the loop. */
void fae_pool_give(struct fae_pool_conn *conn, bool sound);

/* Why the last attempt failed, for who was told UNAVAILABLE: "connection refused". Lent until the next one. */
const char *fae_pool_why(const struct fae_pool *pool);

/* By the kind: fae_pool_connected from the loop alone, the others also from inside reset (which then answers true) and
 * check. The connection, and the pool, may be gone when they return. why: a sentence as "connection refused", lent; err BACKEND: it is none of the server's failing (it is there,
 * and does not let us in), which the breaker does not hear of. */
void fae_pool_connected(struct fae_pool_conn *conn, enum fae_err err, const char *why);
void fae_pool_was_reset(struct fae_pool_conn *conn, enum fae_err err);
void fae_pool_was_checked(struct fae_pool_conn *conn, enum fae_err err);
/* A connection ended, or brought what nobody asked for. One that is borrowed is closed when it is given back. */
void fae_pool_lost(struct fae_pool_conn *conn, const char *why);

/* A connection of the kind's own that many calls share counts as well; false: there are max already. */
bool fae_pool_slot_take(struct fae_pool *pool);
void fae_pool_slot_give(struct fae_pool *pool);

/* Now and then (every FAE_TICK_MS): closes what is idle or old, checks, keeps warm, serves who waits when another worker
 * gave up a connection, and gives up some for other workers: idle ones, and those beyond an equal share. While the breaker is open and somebody asked within a minute, looks every 1.5 s whether the server
 * is there. */
void fae_pool_tick(struct fae_pool *pool);
/* Another one takes its place: it keeps nothing warm and nothing idle from now on, and serves who is there. From the
 * loop. */
void fae_pool_retire(struct fae_pool *pool);
/* Nothing is borrowed and nobody waits. */
bool fae_pool_quiet(const struct fae_pool *pool);
/* For specs: for idle, life, checks and pauses so much more time has passed. */
void fae_pool_skip(struct fae_pool *pool, uint64_t ms);

#endif
