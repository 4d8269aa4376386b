/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Pools of connections to MySQL and MariaDB servers: one server that is written to, and replicas that may be read from.
 *
 * What becomes of a call:
 *   OK           it was done
 *   BACKEND      the server refused it (run.fault.number is its errno), or what came is no answer
 *   BAD_ARGS     it is nothing that is done here (LOAD, several results), or takes other parameters
 *   LIMIT        its result is too large: its query was ended, its connection dropped
 *   NO_MEMORY    the results that are being read take too much together: the same
 *   UNAVAILABLE  no connection was to be had, or a read lost its connection twice
 *   TIMEOUT      a read had no answer within timeout_ms: its query was ended on the server, its connection dropped
 *   UNKNOWN      all of that (but BACKEND with an errno) of anything else that was sent: it may have been done
 *   CIRCUIT_OPEN, POOL_BUSY, CLOSED   it was not sent
 * What only reads is sent once more when its connection is lost before any of the answer came; anything else only when it
 * was not sent.
 */
#ifndef FAE_BACKEND_MYSQL_H
#define FAE_BACKEND_MYSQL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/mysql_conn.h"
#include "backend/mysql_sql.h"
#include "backend/pool.h"
#include "base/err.h"

struct fae_mysql;        /* a pool; fae_backends_find gives it */
struct fae_mysql_lease;  /* a connection that somebody has for himself */
struct fae_mysql_server; /* ours */

/* A statement: the caller's memory, with what it points to, until it is done or cancelled. */
struct fae_mysql_call {
    struct fae_mysql_run run; /* sql, len, params, n_params are the caller's to set; what came is his to free */
    bool on_replica;          /* it may run on one, if it reads */
    uint64_t deadline_ms;     /* the caller's own, 0: none. Nothing ends it here; it is not sent again after */
    /* From the loop. Not OK: run.fault.text says why. */
    void (*done)(struct fae_mysql_call *call, enum fae_err err);
    /* Told with an error. */
    uint32_t retry_after_ms;               /* 0: nobody knows */
    const struct fae_mysql_server *server; /* whose failing it was */
    /* Ours. */
    struct fae_mysql_class class;
    struct fae_mysql_server *to;
    struct fae_mysql_lease *lease; /* NULL: on any connection */
    struct fae_mysql_conn *conn;   /* on which it runs; NULL: it waits for one */
    struct fae_pool_ask ask;
    struct fae_permit permit;
    struct fae_timer limit;
    uint64_t since_ns;
    unsigned n_tries;
    bool paused;
};

/* "mysql main tcp://10.0.0.1:3306", for messages; lent. */
const char *fae_mysql_label(const struct fae_mysql_server *server);
const char *fae_mysql_name(const struct fae_mysql *mysql);

/* OK: call->done will be called. Else run.fault.text says why, and nothing will come. */
enum fae_err fae_mysql_query(struct fae_mysql *mysql, struct fae_mysql_call *call);
/* done will not be called; what runs is ended on the server. True: nothing of it can have been done, or it only read. */
bool fae_mysql_cancel(struct fae_mysql_call *call);

/* ---- a connection of one's own, to the server that is written to ---- */

/* Somebody who wants one: the caller's memory until it is told or cancelled. */
struct fae_mysql_borrow {
    /* From the loop. OK: the lease is his until he gives it back. Else why is a sentence. */
    void (*done)(struct fae_mysql_borrow *borrow, enum fae_err err, struct fae_mysql_lease *lease);
    const char *why; /* lent */
    uint32_t retry_after_ms;
    const struct fae_mysql_server *server;
    /* Ours. */
    struct fae_mysql_server *to;
    struct fae_pool_ask ask;
    struct fae_permit permit;
};

/* OK: *lease_out, at once. MORE: done will be called. Else borrow->why says why not. on_replica: as of a call. */
enum fae_err fae_mysql_borrow(struct fae_mysql *mysql, struct fae_mysql_borrow *borrow, bool on_replica,
                              uint64_t deadline_ms, struct fae_mysql_lease **lease_out);
void fae_mysql_borrow_cancel(struct fae_mysql_borrow *borrow);
/* sound: false closes it, and so does a statement that still runs. An open transaction is rolled back. */
void fae_mysql_give(struct fae_mysql_lease *lease, bool sound);
/* It is lost, or something of it failed in a way that leaves nothing to be done on it. */
bool fae_mysql_lease_is_over(const struct fae_mysql_lease *lease);
/* As the server said last. */
bool fae_mysql_lease_in_transaction(const struct fae_mysql_lease *lease);
bool fae_mysql_lease_is_busy(const struct fae_mysql_lease *lease);

/* As fae_mysql_query, on that connection. Never sent again. Of one that streams done is told MORE with a part of the rows:
 * then fae_mysql_more or fae_mysql_cancel. One at a time. */
enum fae_err fae_mysql_lease_query(struct fae_mysql_lease *lease, struct fae_mysql_call *call);
void fae_mysql_more(struct fae_mysql_call *call, unsigned want);

#endif
