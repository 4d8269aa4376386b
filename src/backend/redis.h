/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Pools of redis servers. Calls of a worker share one connection to each server (or as many as `pipelines` says), sent
 * together once a turn; a connection of one's own is borrowed, for what blocks or changes the connection's state.
 *
 * What becomes of a call:
 *   OK           every command of it has a reply; an error may be one
 *   UNAVAILABLE  no connection was to be had, and nothing was sent; or an idempotent call lost its connection
 *   TIMEOUT      no reply within timeout_ms, and it was idempotent
 *   UNKNOWN      one that is not was sent, and its connection ended or was too late
 *   BACKEND      what came is no reply; the connection is dropped
 *   CIRCUIT_OPEN, OVERLOAD, POOL_BUSY, LIMIT, CLOSED   it was not sent
 * An idempotent call whose connection is lost is sent once more, when its deadline allows and not too many are.
 *
 * For the breaker every reply is a success, errors too, and so are LOADING, BUSY, MASTERDOWN: who says so is there, and says
 * it at once. Failures are calls that were late or lost; who gave up waiting counts when his reply comes, or does not. A
 * login that is refused is our own fault, and the breaker hears nothing of it.
 */
#ifndef FAE_BACKEND_REDIS_H
#define FAE_BACKEND_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/pool.h"
#include "backend/redis_wire.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"

struct fae_redis; /* a pool; fae_backends_find gives it */
struct fae_redis_conn;
struct fae_redis_loan;
struct fae_redis_server;

struct fae_redis_outcome {
    enum fae_err err;
    const char *why;         /* not OK: a sentence without pool and server, lent */
    uint32_t retry_after_ms; /* 0: nobody knows */
    const uint8_t *tape;     /* of n_replies replies (fae_redis_item), lent; not OK: those that came before it failed */
    unsigned n_replies;
};

/* A call in flight: the caller's memory until it is done or cancelled. done is called from the loop. */
struct fae_redis_call {
    void (*done)(struct fae_redis_call *call, const struct fae_redis_outcome *outcome);
    uint64_t deadline_ms; /* the caller's own, 0: none. Nothing ends it here; it is not sent again after */
    bool idempotent;
    /* Ours. */
    enum fae_err err;
    uint32_t place;
    struct fae_redis_conn *conn; /* NULL: it waits in a list to be told */
    struct fae_list node;
};

struct fae_redis_command {
    const struct fae_redis_arg *args;
    unsigned n;
};

unsigned fae_redis_n_servers(const struct fae_redis *redis);
/* "tcp://10.0.0.1:6379"; lent. */
const char *fae_redis_server(const struct fae_redis *redis, unsigned server);
/* "redis main tcp://10.0.0.1:6379", for messages; lent. */
const char *fae_redis_label(const struct fae_redis *redis, unsigned server);
unsigned fae_redis_pick(const struct fae_redis *redis, const void *key, size_t len);

/* Queues the commands together. OK: call->done will be called. Else outcome_out says why, and nothing will come. */
enum fae_err fae_redis_call(struct fae_redis *redis, unsigned server, struct fae_redis_call *call,
                            const struct fae_redis_command *commands, unsigned n,
                            struct fae_redis_outcome *outcome_out);
/* done will not be called. True: nothing of it was sent, nor will be. */
bool fae_redis_cancel(struct fae_redis_call *call);

/* For specs: for the upkeep of connections that are shared, so much more time has passed. */
void fae_redis_skip(struct fae_redis *redis, uint64_t ms);

/* ---- a connection of one's own ---- */

/* Somebody who wants one: the caller's memory until it is told or cancelled. */
struct fae_redis_borrow {
    /* From the loop. outcome OK: the loan is his until he gives it back. */
    void (*done)(struct fae_redis_borrow *borrow, struct fae_redis_loan *loan, const struct fae_redis_outcome *outcome);
    /* Ours. */
    struct fae_pool_ask ask;
    struct fae_redis_server *server;
    struct fae_permit permit;
};

/* OK: *loan_out, at once. MORE: done will be called. Else outcome_out says why not. deadline_ms: 0: none. */
enum fae_err fae_redis_borrow(struct fae_redis *redis, unsigned server, struct fae_redis_borrow *borrow,
                              uint64_t deadline_ms, struct fae_redis_loan **loan_out,
                              struct fae_redis_outcome *outcome_out);
void fae_redis_borrow_cancel(struct fae_redis_borrow *borrow);
/* sound: false closes it, and so does whatever the next borrower would notice: an open transaction, keys that are watched,
 * a subscription, another database, a reply that is still to come. */
void fae_redis_give(struct fae_redis_loan *loan, bool sound);

/* As fae_redis_call, on that connection. within_ms: 0: the pool's timeout_ms. Never sent again. */
enum fae_err fae_redis_loan_call(struct fae_redis_loan *loan, struct fae_redis_call *call,
                                 const struct fae_redis_command *commands, unsigned n, uint32_t within_ms,
                                 struct fae_redis_outcome *outcome_out);

/* Somebody who waits for what the server says unasked, to a subscriber. One at a time. */
struct fae_redis_hear {
    void (*done)(struct fae_redis_hear *hear, const struct fae_redis_outcome *outcome);
};
/* OK: outcome_out has it, lent until the next call. MORE: done will be called. UNAVAILABLE: the connection is lost. */
enum fae_err fae_redis_hear(struct fae_redis_loan *loan, struct fae_redis_hear *hear,
                            struct fae_redis_outcome *outcome_out);
void fae_redis_hear_cancel(struct fae_redis_loan *loan);

#endif
