/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A pool of memcached servers as one worker has it: which of them has a key, and the way to each (memcache_server.h).
 */
#ifndef FAE_BACKEND_MEMCACHE_H
#define FAE_BACKEND_MEMCACHE_H

#include <stddef.h>

#include "backend/backends.h"
#include "backend/memcache_server.h"

/* What fae_backends_find(..., &fae_memcache_kind, name) gives. */
struct fae_memcache;

unsigned fae_memcache_n_servers(const struct fae_memcache *pool);
/* On how many of them a key lies. */
unsigned fae_memcache_n_replicas(const struct fae_memcache *pool);
/* The longest value. */
size_t fae_memcache_value_max(const struct fae_memcache *pool);
/* The place of the server that has the key as its replica'th, from 0. */
unsigned fae_memcache_pick(const struct fae_memcache *pool, const char *key, size_t len, unsigned replica);
struct fae_memcache_server *fae_memcache_server(const struct fae_memcache *pool, unsigned i);

#endif
