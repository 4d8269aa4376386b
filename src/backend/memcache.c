/* SPDX-License-Identifier: BSD-2-Clause
 *
 * (in the making)
 */
#include "backend/backends.h"
#include "base/alloc.h"

#include <stdlib.h>

static void *make(const struct fae_backend_env *env, const void *entry)
{
    (void)env;
    (void)entry;
    return fae_zalloc(8);
}

static void tick(void *pool)
{
    (void)pool;
}

static bool quiet(const void *pool)
{
    (void)pool;
    return true;
}

const struct fae_backend_kind fae_memcache_kind = { "memcache", make, free, tick, quiet };
