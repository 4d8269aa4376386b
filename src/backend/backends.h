/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a worker calls: the pools that its configuration names, of every kind. A kind is a row of one table. A pool whose row
 * of the configuration stayed the same stays as it is over a reload; one that changed is replaced, and the old one ends
 * with its last call.
 */
#ifndef FAE_BACKEND_BACKENDS_H
#define FAE_BACKEND_BACKENDS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fae_backends;
struct fae_config;
struct fae_loop;
struct fae_resolver;
struct fae_upstreams;

struct fae_backends_opts {
    struct fae_loop *loop;
    const struct fae_config *config; /* read at fae_backends_configured */
    struct fae_upstreams *upstreams;
    unsigned slot, n_workers;
    uint64_t results_max; /* what there is memory for, at most */
};

/* What answers may take that are being read, of all pools of a worker together. */
struct fae_backend_room {
    uint64_t max, held; /* bytes */
};

/* What a pool of any kind is given to live in; outlives it. */
struct fae_backend_env {
    struct fae_backends_opts o;
    struct fae_resolver *resolver;
    struct fae_backend_room *results;
};

struct fae_backend_kind {
    const char *section; /* of the configuration: "redis" */
    /* entry: its struct of the configuration, lent until the call returns. Never fails: what is wrong shows in its calls. */
    void *(*make)(const struct fae_backend_env *env, const void *entry);
    /* Whoever waits is told CLOSED. */
    void (*free)(void *pool);
    void (*tick)(void *pool);        /* every FAE_TICK_MS */
    bool (*quiet)(const void *pool); /* nobody uses it: one that was replaced may be freed */
    /* Told once, when it is replaced: it keeps nothing ready any more. NULL: it need not know. */
    void (*retire)(void *pool);
};

/* redis.c, memcache.c, mysql.c */
extern const struct fae_backend_kind fae_redis_kind, fae_memcache_kind, fae_mysql_kind;

struct fae_backends *fae_backends_new(const struct fae_backends_opts *opts);
void fae_backends_free(struct fae_backends **backends);
/* The configuration has changed (or is there for the first time). */
void fae_backends_configured(struct fae_backends *backends);
void fae_backends_tick(struct fae_backends *backends);
/* The pool of that kind and name; NULL: there is none. Lent until the version changes, which a handle compares before it
 * uses what it found. */
void *fae_backends_find(const struct fae_backends *backends, const struct fae_backend_kind *kind, const char *name);
uint32_t fae_backends_version(const struct fae_backends *backends);
const struct fae_backend_env *fae_backends_env(const struct fae_backends *backends);

#endif
