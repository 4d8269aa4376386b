/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Connections of one worker to one server, borrowed and given back. How they are made, reset and checked is the kind's: a
 * table of functions. Never waits: who asks is told later, from the loop, in the order of asking.
 *
 *   (none) --asked for, or to be warm--> CONNECTING --> IDLE <--> USED
 *                                            |            \--> CHECKING (health) --> IDLE
 *                                            +--> failed    USED --given back--> RESETTING --> IDLE
 *   A connection that failed in any way, is too old, or lay idle too long, is closed. A failed attempt is followed by a pause
 *   (doubling, with jitter), during which who asks is refused at once.
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
    uint64_t born_ms, idle_since_ms, ends_ms;
    struct fae_timer limit; /* of connecting, resetting and checking */
};

struct fae_pool_ops {
    /* Begins a connection; fae_pool_connected tells what came of it, later and from the loop. NULL: not even begun, errno
     * says why. */
    struct fae_pool_conn *(*connect)(struct fae_pool *pool, void *arg);
    /* Ends it at once, whatever it was doing, and frees it. Nothing is told of it any more. */
    void (*close)(struct fae_pool_conn *conn);
    /* Makes it as new for the next borrower; fae_pool_was_reset tells. False: it need not, or NULL: it never need. */
    bool (*reset)(struct fae_pool_conn *conn);
    /* Asks the server for a sign of life; fae_pool_was_checked tells. NULL: never asked. */
    void (*check)(struct fae_pool_conn *conn);
};

/* Somebody who wants a connection: the caller's memory until it is told or cancelled. OK: conn is his until fae_pool_give.
 * Else conn is NULL: POOL_BUSY (waited in vain, or too many wait), UNAVAILABLE (cannot be reached), TIMEOUT (his own
 * deadline), CLOSED (the pool ended). */
struct fae_pool_ask {
    struct fae_list node;
    uint64_t since_ns, until_ms;
    bool own_deadline; /* until_ms is the asker's own, not the pool's wait_ms */
    void (*done)(struct fae_pool_ask *ask, enum fae_err err, struct fae_pool_conn *conn);
};

struct fae_pool_opts {
    struct fae_loop *loop;
    struct fae_upstream *upstream;
    unsigned slot;
    struct fae_pool_rule rule;
    const struct fae_pool_ops *ops;
    void *arg;
};

struct fae_pool *fae_pool_new(const struct fae_pool_opts *opts);
/* Closes everything, also what is borrowed; who waits is told CLOSED. */
void fae_pool_free(struct fae_pool **pool);

/* OK and *conn_out: an idle one, at once; ask is not used. MORE: ask->done will be called. Else as above, and nothing will
 * come. deadline_ms: the asker's own; 0: none. The breaker is not asked: that is for whoever calls. */
enum fae_err fae_pool_borrow(struct fae_pool *pool, struct fae_pool_ask *ask, uint64_t deadline_ms,
                             struct fae_pool_conn **conn_out);
/* It is no longer wanted; done is not called. */
void fae_pool_cancel(struct fae_pool *pool, struct fae_pool_ask *ask);
/* sound: false closes it. */
void fae_pool_give(struct fae_pool_conn *conn, bool sound);

/* By the kind. why: a sentence for the log, as "connection refused"; lent. */
void fae_pool_connected(struct fae_pool_conn *conn, enum fae_err err, const char *why);
void fae_pool_was_reset(struct fae_pool_conn *conn, enum fae_err err);
void fae_pool_was_checked(struct fae_pool_conn *conn, enum fae_err err);
/* An idle connection ended, or brought what nobody asked for. */
void fae_pool_lost(struct fae_pool_conn *conn, const char *why);

/* A connection of the kind's own that many calls share counts as well; false: there are max already. */
bool fae_pool_slot_take(struct fae_pool *pool);
void fae_pool_slot_give(struct fae_pool *pool);

/* Now and then (every FAE_TICK_MS): closes what is idle or old, checks, keeps warm, serves who waits when another worker
 * gave up a connection. */
void fae_pool_tick(struct fae_pool *pool);
/* Nothing is borrowed and nobody waits. */
bool fae_pool_quiet(const struct fae_pool *pool);

#endif
