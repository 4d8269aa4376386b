/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the two files of the kv stores' bindings share.
 */
#ifndef FAE_VM_BIND_KV_H
#define FAE_VM_BIND_KV_H

#include <lua.h>
#include <stddef.h>

struct fae_kv_store;

/* The store at 1, or NULL: nil, err are pushed. */
struct fae_kv_store *fae_kv_store_here(lua_State *L);
/* Raises unless a key that can be stored is at idx. */
const char *fae_kv_key_here(lua_State *L, int idx, size_t *len);

void fae_bind_kv_write(lua_State *L);

#endif
