/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One memcached of a pool, as one worker calls it: one connection, made when it is first needed, that all calls share. What is
 * asked in one turn of the loop goes out together, and gets that follow each other as one multi-get; answers come in the order
 * of the questions. Never waits.
 *
 *   DOWN --a call--> CONNECTING --> OPEN --lost, idle, too old--> DOWN
 *                        \--refused, too slow--> DOWN, pausing: who asks is refused at once
 *
 * While the breaker is open and calls are refused, a get of its own each second sees whether the server is back.
 *
 * A question without an answer for timeout_ms ends the connection, and with it everything that was asked behind it, so that no
 * late answer ever meets another question. Gets are asked again then, once; what may have been written is not.
 */
#ifndef FAE_BACKEND_MEMCACHE_SERVER_H
#define FAE_BACKEND_MEMCACHE_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/upstream.h"
#include "base/endpoint.h"
#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"

#define FAE_MEMCACHE_KEYS_MAX 64u /* of one get; more are several */

struct fae_memcache_server;
struct fae_resolver;

enum fae_memcache_op {
    FAE_MEMCACHE_GET,
    FAE_MEMCACHE_STORE,
    FAE_MEMCACHE_COUNT,
    FAE_MEMCACHE_DELETE,
    FAE_MEMCACHE_TOUCH
};

struct fae_memcache_value {
    const char *bytes; /* lent until the completion returns */
    size_t len;
    uint32_t flags;
    uint64_t cas;
};

/* BACKEND: the server answered with an error, or with what is no answer. LIMIT: the value is too long, for it or for us.
 * TIMEOUT: a get without an answer. UNKNOWN: something else without one, which may have been done. UNAVAILABLE: it was not
 * sent, or a get was lost twice. CLOSED: the pool ended. */
struct fae_memcache_answer {
    enum fae_err err;
    bool yes;                        /* a GET of one key: there is a value; else stored, counted, deleted, touched */
    uint64_t number;                 /* COUNT */
    struct fae_memcache_value value; /* GET of one key */
    const char *why;                 /* not OK: a sentence that names pool and server, lent */
    const char *error;               /* the server's own words, or NULL; lent */
    uint32_t retry_after_ms;         /* 0: not known */
};

/* A question: at the start of a block of malloc's, which is the server's from fae_memcache_ask on. It frees it some time after
 * done, or after it was cancelled. */
struct fae_memcache_call {
    /* By the asker. */
    enum fae_memcache_op op;
    unsigned n_keys;      /* of a GET: up to FAE_MEMCACHE_KEYS_MAX */
    const uint8_t *bytes; /* in the block. GET: a blank and a key, as often as there are; else the whole request */
    size_t len;
    /* GET of several keys: one was found. May come again for the same key, when the get had to be asked again. */
    void (*value)(struct fae_memcache_call *call, unsigned key, const struct fae_memcache_value *value);
    void (*done)(struct fae_memcache_call *call, const struct fae_memcache_answer *answer);
    /* The server's. */
    struct fae_list node;
    struct fae_permit permit;
    uint64_t asked_ms, sent_ns, answered; /* bits of keys */
    uint32_t at_key, at_byte;             /* where the next value's key is looked for first */
    bool sent, on_wire, last, again, over, cancelled, too_long, check;
};

struct fae_memcache_server_opts {
    struct fae_loop *loop;
    struct fae_resolver *resolver;
    struct fae_upstreams *upstreams;
    unsigned slot;
    const char *pool; /* its name; copied */
    const struct fae_endpoint *endpoint;
    struct fae_breaker_rule breaker;
    uint32_t connect_timeout_ms, timeout_ms, idle_ms, life_ms, waiting_max;
    size_t value_max;
};

struct fae_memcache_server *fae_memcache_server_new(const struct fae_memcache_server_opts *opts);
/* Not from inside a completion. Who waits is told CLOSED. */
void fae_memcache_server_free(struct fae_memcache_server **server);

/* OK: call->done will be called, later and from the loop. Else nothing will come, the call is still the asker's, and answer_out
 * says why: CIRCUIT_OPEN, POOL_BUSY (waiting_max wait), UNAVAILABLE (it was not reached a moment ago). */
enum fae_err fae_memcache_ask(struct fae_memcache_server *server, struct fae_memcache_call *call,
                              struct fae_memcache_answer *answer_out);
/* done will not be called. True: it may have been sent, and what it asks for may be done. */
bool fae_memcache_cancel(struct fae_memcache_server *server, struct fae_memcache_call *call);

void fae_memcache_server_tick(struct fae_memcache_server *server); /* every FAE_TICK_MS */
/* For specs: for idle, life and checks so much more time has passed. */
void fae_memcache_server_skip(struct fae_memcache_server *server, uint64_t ms);
bool fae_memcache_server_quiet(const struct fae_memcache_server *server);
/* "memcache main tcp://10.0.0.1:11211"; lent by the server. */
const char *fae_memcache_server_name(const struct fae_memcache_server *server);

#endif
