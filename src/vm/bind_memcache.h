/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the two files of memcached's bindings share.
 */
#ifndef FAE_VM_BIND_MEMCACHE_H
#define FAE_VM_BIND_MEMCACHE_H

#include <lua.h>
#include <stddef.h>

#include "backend/memcache.h"

/* The pool of the handle at 1. NULL: nil, err are pushed. */
struct fae_memcache *fae_memcache_here(lua_State *L);
/* A key at idx; raises when it is no string. NULL: nil, err are pushed. */
const char *fae_memcache_key_here(lua_State *L, int idx, size_t *len);
/* nil, err */
int fae_memcache_push_failure(lua_State *L, const struct fae_memcache_answer *answer);

void fae_bind_memcache_many(lua_State *L);

#endif
