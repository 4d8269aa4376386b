/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the cache that all workers share; lua/fae/cache.lua reaches it by ffi.
 */
#include "store/store.h"
#include "vm/vm_impl.h"

static const luaL_Reg functions[] = {
    { NULL, NULL },
};

void fae_bind_cache(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
