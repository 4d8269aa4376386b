/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the cache that all workers share; lua/fae/cache.lua reaches it by ffi.
 */
#include "store/lcache.h"
#include "vm/vm_impl.h"

/* cache() -> the fae_lcache_user of this process as light userdata, or nil where there is no cache */
static int l_cache(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);

    if (!vm->o.stores || !vm->o.stores->cache)
        return 0;
    lua_pushlightuserdata(L, fae_lcache_user(vm->o.stores->cache, vm->o.slot));
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

/* cache_stats() -> {cache_hits_total = 12, ...} */
static int l_cache_stats(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);

    lua_createtable(L, 0, 16);
    if (vm->o.stores && vm->o.stores->cache)
        fae_lcache_stats(vm->o.stores->cache, set_number, L);
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
