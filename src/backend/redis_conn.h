/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One connection to a redis server: commands go out in one buffer, once a turn of the loop, and replies find their callers
 * by order. A place in the queue is kept until its reply is there, whoever has given up on it meanwhile, so that no reply
 * ever reaches another. Bytes stay in the buffer until they are answered: what may be sent again can be.
 *
 *   CONNECTING --stream open--> LOGIN --AUTH, SELECT or PING answered--> OPEN --lost, late, garbled--> DEAD, told
 *        \-------------------------\--refused, too late--------------------------------------------------/
 */
#ifndef FAE_BACKEND_REDIS_CONN_H
#define FAE_BACKEND_REDIS_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/redis.h"
#include "backend/redis_wire.h"
#include "backend/stream.h"
#include "backend/upstream.h"

#define FAE_REDIS_IN_FLIGHT 8192u        /* calls on one connection; one more is OVERLOAD */
#define FAE_REDIS_OUT_MAX (8u * FAE_MIB) /* bytes of them; one call alone may have more */
#define FAE_REDIS_SPARE (4u * FAE_KIB)   /* of a command or reply: what stands beside a value as long as a message */
#define FAE_REDIS_PUSHED_MAX (256u * FAE_KIB) /* of what is published, and nobody took: then it is no longer read */

/* How a connection came to its end. */
enum fae_redis_end {
    FAE_REDIS_UNREACHED, /* it never came to be open */
    FAE_REDIS_NO_LOGIN,  /* the server answered, and refused who we are */
    FAE_REDIS_LOST,
    FAE_REDIS_LATE,    /* the oldest call has no answer in time */
    FAE_REDIS_GARBLED, /* what came is no reply, or nobody's */
};

struct fae_redis_conn_ops {
    void (*opened)(void *owner, struct fae_redis_conn *conn);
    /* From the loop: it is DEAD. The owner takes what is in flight out of it and frees it. why is a sentence, lent. */
    void (*ended)(void *owner, struct fae_redis_conn *conn, enum fae_redis_end how, const char *why);
    /* A reply that no call waits for stands on the tape. NULL: then it is garbled. */
    void (*pushed)(void *owner, struct fae_redis_conn *conn);
};

/* What all connections to a server have in common. */
struct fae_redis_conn_opts {
    struct fae_loop *loop;
    struct fae_resolver *resolver;
    const struct fae_endpoint *endpoint;
    struct fae_tls_ctx *tls;
    const char *user, *password;
    uint64_t db;
    size_t message_max; /* bytes of a command, and of a reply */
    uint32_t connect_timeout_ms, timeout_ms;
    struct fae_upstream *upstream; /* NULL: no row was free, and there is no breaker */
    struct fae_upstream_cell *cell;
    struct fae_breaker_rule rule;
    unsigned slot;
};

/* A call in flight. */
struct fae_redis_place {
    struct fae_redis_call *call; /* NULL: nobody waits for its reply any more */
    uint64_t since_ns;           /* when it was sent, or tried to be; 0: in a later turn */
    uint64_t at;                 /* its first byte, counted from the connection's first */
    uint32_t bytes;
    uint32_t n_left, n_replies; /* to come, and in all */
    struct fae_permit permit;
    bool idempotent, again; /* it was sent before, on another connection */
};

enum fae_redis_state { FAE_REDIS_CONNECTING, FAE_REDIS_LOGIN, FAE_REDIS_OPEN, FAE_REDIS_DEAD };

struct fae_redis_conn {
    const struct fae_redis_conn_opts *o; /* lent by the owner */
    const struct fae_redis_conn_ops *ops;
    void *owner;
    enum fae_redis_state state;
    uint8_t n_login;     /* replies of it to come */
    bool pings;          /* it is but a PING */
    bool timing;         /* the timer runs, for the oldest call */
    bool broken;         /* it could not be written: the timer tells */
    bool inside, closed; /* a callback runs; it was freed meanwhile */
    bool opened;         /* it came to be OPEN ... */
    bool proven;         /* ... and answered a call */
    bool unsent_orphans; /* some of what was not sent yet is not to be */
    bool subscribed;     /* what is published comes between replies */
    uint32_t limit_ms;   /* of a call, from when it was sent */
    struct fae_stream stream;
    struct fae_redis_reader *reader;
    struct fae_timer timer;
    struct fae_later later;
    struct fae_buf login; /* what of it was not sent yet */
    struct fae_buf out;   /* bytes of all that is in flight: from `base` on, and of them up to `sent` on their way */
    size_t base, sent;
    size_t offered;                 /* as far as they may be on their way: TLS holds what a send left over */
    uint64_t gone;                  /* bytes that are no longer in front of it */
    uint32_t stamped;               /* the first place whose since_ns is not known yet */
    struct fae_redis_place *places; /* a ring of n_places, a power of two: from head up to tail */
    uint32_t n_places, head, tail;
    uint32_t n_errors;         /* replies that were errors */
    uint64_t born_ms, used_ms; /* when the last call was answered */
};

/* Begins to connect. */
struct fae_redis_conn *fae_redis_conn_new(const struct fae_redis_conn_opts *opts, const struct fae_redis_conn_ops *ops,
                                          void *owner);
/* At once. Nobody is told: what is in flight should have been taken. From anywhere. */
void fae_redis_conn_free(struct fae_redis_conn **conn);

/* Room for so many bytes more? OVERLOAD: no. */
enum fae_err fae_redis_conn_room(const struct fae_redis_conn *conn, size_t bytes);
/* Queues a call, whose commands `bytes` of out's end are. */
struct fae_redis_place *fae_redis_conn_add(struct fae_redis_conn *conn, struct fae_redis_call *call, size_t bytes,
                                           unsigned n_replies);
/* Nobody waits for it any more. True: none of it was sent, nor will be. */
bool fae_redis_conn_forget(struct fae_redis_conn *conn, struct fae_redis_call *call);

static inline bool fae_redis_enter(const struct fae_redis_conn_opts *o, uint64_t now_ms, struct fae_permit *permit_out,
                                   uint32_t *retry_after_ms_out)
{
    return !o->upstream || fae_upstream_enter(o->upstream, &o->rule, o->slot, now_ms, permit_out, retry_after_ms_out);
}

static inline void fae_redis_leave(const struct fae_redis_conn_opts *o, struct fae_permit permit,
                                   enum fae_breaker_outcome outcome, uint64_t now_ms)
{
    if (o->upstream)
        fae_upstream_end(o->upstream, &o->rule, o->slot, permit, outcome, now_ms);
}

/* Of a connection that ended: was any of it sent? */
static inline bool fae_redis_conn_was_sent(const struct fae_redis_conn *conn, const struct fae_redis_place *place)
{
    return place->at < conn->gone + conn->offered;
}

static inline uint32_t fae_redis_conn_n(const struct fae_redis_conn *conn)
{
    return conn->tail - conn->head;
}

static inline struct fae_redis_place *fae_redis_conn_at(const struct fae_redis_conn *conn, uint32_t i)
{
    return &conn->places[i & (conn->n_places - 1)];
}

#endif
