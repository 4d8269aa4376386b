/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the kv store: reads here, writes by the one writer of the node.
 */
#include "store/store.h"
#include "vm/vm_impl.h"

void fae_kv_woken(struct fae_vm *vm)
{
    (void)vm;
}

static const luaL_Reg functions[] = {
    { NULL, NULL },
};

void fae_bind_kv(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
