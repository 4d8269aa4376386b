/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of the pool share: pool.c who asks, pool_conn.c connections and their states, pool_tick.c upkeep.
 */
#ifndef FAE_BACKEND_POOL_IMPL_H
#define FAE_BACKEND_POOL_IMPL_H

#include "backend/pool.h"
#include "base/hist.h"

#define FAE_POOL_WHY 200

enum fae_pool_state {
    FAE_POOL_CONNECTING = 1,
    FAE_POOL_IDLE,
    FAE_POOL_USED,
    FAE_POOL_RESETTING,
    FAE_POOL_CHECKING,
    FAE_POOL_STATES
};

struct fae_pool {
    struct fae_pool_opts o;
    struct fae_upstream_cell *cell;
    struct fae_upstream_cell own;           /* when there is no row */
    struct fae_list conns[FAE_POOL_STATES]; /* by state; the idle ones' newest at the end */
    unsigned n[FAE_POOL_STATES];
    unsigned n_shared;        /* slots that the kind took for its own */
    struct fae_list waiting;  /* asks, in their order */
    struct fae_list telling;  /* asks that are being told, one after another */
    unsigned n_waiting;       /* in both */
    struct fae_timer soon;    /* settles what changed while we could not tell */
    uint64_t pause_ms;        /* 0: the last attempt succeeded */
    uint64_t paused_until_ms; /* no attempt before */
    uint64_t wanted_ms;       /* somebody asked last; 0: nobody ever did */
    uint64_t told_ms;         /* of the last line of the log about failures; 0: none since it was well */
    uint64_t probe_ms;   /* the breaker is open: when to look again whether the server is there; 0: it is not open */
    uint64_t skipped_ms; /* fae_pool_skip */
    unsigned n_owed;     /* connections given back that are closed, for workers with less than their share ... */
    bool yields;         /* ... and none is made beyond our own; since the last tick */
    uint64_t random;
    bool ended, retired;
    bool inside; /* a function of the kind's: what it tells us is settled later */
    bool *gone;  /* set when it is freed while it tells */
    char why[FAE_POOL_WHY];
};

/* pool.c */

/* Monotonic, and what was skipped: for all but who waits. */
uint64_t fae_pool_now_ms(const struct fae_pool *pool);
/* ms, up to a tenth more or less. */
uint64_t fae_pool_jitter(struct fae_pool *pool, uint64_t ms);
/* Serves who waits, makes connections for the others, or tells them that there will be none. From the loop alone. False:
 * the pool was freed. */
bool fae_pool_settle(struct fae_pool *pool);
/* The same soon, from anywhere. */
void fae_pool_rouse(struct fae_pool *pool);

/* pool_conn.c */

unsigned fae_pool_n_conns(const struct fae_pool *pool); /* of all states */
unsigned fae_pool_share(const struct fae_pool *pool);   /* slots of each worker, if all want as many as they can get */
/* Begins attempts until n are under way, or idle. */
void fae_pool_grow(struct fae_pool *pool, unsigned n);
/* No connection, none on its way, and none may be tried. */
bool fae_pool_hopeless(const struct fae_pool *pool);
/* Begins one; false: not now. */
bool fae_pool_begin(struct fae_pool *pool);
/* The newest idle one, now used; NULL: there is none. */
struct fae_pool_conn *fae_pool_take_idle(struct fae_pool *pool);
void fae_pool_check(struct fae_pool_conn *conn);
void fae_pool_discard(struct fae_pool_conn *conn);

#endif
