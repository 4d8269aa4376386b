/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What redis.c (the pool), redis_line.c (connections that calls share) and redis_loan.c (those of one's own) share. Nobody
 * else includes it.
 */
#ifndef FAE_BACKEND_REDIS_IMPL_H
#define FAE_BACKEND_REDIS_IMPL_H

#include "backend/backends.h"
#include "backend/pool.h"
#include "backend/redis_conn.h"
#include "base/config.h"
#include "base/endpoint.h"

#define FAE_REDIS_LINES 16u
#define FAE_REDIS_OPEN_WHY "it failed too often and is left alone for a while"

struct fae_redis_server;

/* A connection that calls share, and what to do while there is none. */
struct fae_redis_line {
    struct fae_redis_server *server;
    struct fae_redis_conn *conn; /* NULL: none, the next call makes one */
    struct fae_redis_conn *old;  /* too old: ends with what is in flight on it */
    bool has_slot, old_has_slot;
    uint64_t ends_ms;               /* conn is too old then; 0: never */
    uint64_t retry_ms, pause_ms;    /* no attempt before; 0: the last one was good */
    unsigned n_useless;             /* connections in a row that were let in and never answered a call */
    uint64_t wanted_ms;             /* a call wanted it last */
    struct fae_redis_call check;    /* a PING on a connection that is idle */
    struct fae_redis_conn *checked; /* the one it is on; NULL: none is under way */
    uint64_t checked_ms, used_ms;   /* when it was sent, and what used_ms of its connection was */
    char why[160];                  /* the last attempt failed */
};

struct fae_redis_server {
    struct fae_redis *redis;
    struct fae_endpoint endpoint;
    char label[FAE_OPT_TEXT + FAE_ENDPOINT_TEXT + 48]; /* "redis main tcp://10.0.0.1:6379" */
    struct fae_redis_conn_opts conn;
    struct fae_upstream_cell own_cell; /* when no row was free */
    struct fae_pool *pool;             /* of those that are lent */
    unsigned n_lines;
    struct fae_redis_line lines[FAE_REDIS_LINES];
    uint64_t told_ms; /* the last line of the log about it */
};

struct fae_redis {
    const struct fae_backend_env *env;
    struct fae_config_redis config;
    struct fae_pool_rule rule;
    struct fae_tls_ctx *tls;
    char tls_why[256]; /* "": it is there, or nobody needs it */
    struct fae_selector *selector;
    unsigned n_servers, n_loans;
    bool retired;        /* another one has its place */
    uint64_t skipped_ms; /* fae_redis_skip */
    struct fae_redis_server servers[];
};

/* Bytes of a command, and of a reply. A reload may change it, and keep the pool. */
static inline size_t fae_redis_message_max(const struct fae_redis *redis)
{
    return redis->env->o.config->message_max + FAE_REDIS_SPARE;
}

/* Calls that failed with err and why, told one by one: any of them may do anything meanwhile. */
void fae_redis_tell(struct fae_list *calls, const char *why, uint32_t retry_after_ms);
/* Puts it into the list of those to be told. */
void fae_redis_fail(struct fae_list *calls, struct fae_redis_call *call, enum fae_err err);

/* redis_line.c */
void fae_redis_lines_init(struct fae_redis_server *server, unsigned n);
void fae_redis_lines_fini(struct fae_redis_server *server); /* calls are told CLOSED */
void fae_redis_lines_tick(struct fae_redis_server *server, uint64_t now_ms);
void fae_redis_lines_retire(struct fae_redis_server *server); /* and after each tick: none that is idle stays */
bool fae_redis_lines_quiet(const struct fae_redis_server *server);
enum fae_err fae_redis_lines_call(struct fae_redis_server *server, struct fae_redis_call *call,
                                  const struct fae_redis_command *commands, unsigned n,
                                  struct fae_redis_outcome *outcome_out);

/* redis_loan.c; arg of the pool is the server. */
extern const struct fae_pool_ops fae_redis_loan_ops;
/* A worker's first connection to a server may always be made: it is to be the one that calls share. */
void fae_redis_lines_reserve(struct fae_redis_server *server);

#endif
