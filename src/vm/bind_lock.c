/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: locks.
 */
#include "store/store.h"
#include "vm/vm_impl.h"

void fae_lock_woken(struct fae_vm *vm)
{
    (void)vm;
}

static const luaL_Reg functions[] = {
    { NULL, NULL },
};

void fae_bind_lock(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
