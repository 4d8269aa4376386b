/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the caches that all workers share; lua/fae/lcache.lua reaches them by ffi.
 */
#include "store/lcache.h"
#include "vm/vm_impl.h"

/* The one that argument 1 names, or NULL: there is none. */
static struct fae_lcache *check_cache(lua_State *L)
{
    const struct fae_stores *stores = fae_vm_of(L)->o.stores;
    int i = luaL_checkoption(L, 1, NULL, fae_cache_names);

    return stores ? stores->caches[i] : NULL;
}

/* cache(name) -> the fae_lcache_user of this process as light userdata, or nil where there is no such cache */
static int l_cache(lua_State *L)
{
    struct fae_lcache *cache = check_cache(L);

    if (!cache)
        return 0;
    lua_pushlightuserdata(L, fae_lcache_user(cache, fae_vm_of(L)->o.slot));
    return 1;
}

static void set_number(void *arg, const char *name, const char *help, bool counter, uint64_t value)
{
    lua_State *L = arg;

    (void)help;
    (void)counter;
    lua_pushnumber(L, (double)value);
    lua_setfield(L, -2, name);
}

/* cache_stats(name) -> {cache_hits_total = 12, ...} */
static int l_cache_stats(lua_State *L)
{
    struct fae_lcache *cache = check_cache(L);

    lua_createtable(L, 0, 16);
    if (cache)
        fae_lcache_stats(cache, set_number, L);
    return 1;
}

static const luaL_Reg functions[] = {
    { "cache", l_cache },
    { "cache_stats", l_cache_stats },
    { NULL, NULL },
};

void fae_bind_cache(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
