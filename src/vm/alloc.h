/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The memory of one Lua state: counted, limited, and quick for the small blocks that Lua makes by the thousand. Lua says
 * how large a block is when it frees it, so a free list for each size needs no headers. One thread.
 */
#ifndef FAE_VM_ALLOC_H
#define FAE_VM_ALLOC_H

#include <stdbool.h>
#include <stddef.h>

#define FAE_LUA_SMALL 512 /* larger blocks go to malloc */
#define FAE_LUA_GRAIN 16

struct fae_lua_memory {
    size_t bytes, bytes_max;                    /* taken by Lua, and the most it may take */
    size_t bytes_soft;                          /* with more than this no new call is taken (memory.c) */
    size_t bytes_look;                          /* with more than this `on_tight` is called, or the limit is met */
    size_t bytes_calm;                          /* with less than this bytes_look is bytes_soft again */
    void (*on_tight)(struct fae_lua_memory *m); /* from inside the allocator: it may not use Lua's memory */
    size_t bytes_spare; /* beyond bytes_max, for a while: what is to free memory must not fail for lack of it */
    bool refused;       /* the limit was met; whoever collects clears it */
    bool failed;        /* the same; the next tick clears it */
    void *free[FAE_LUA_SMALL / FAE_LUA_GRAIN]; /* by size; a free block holds the next one's address */
    char *fresh, *fresh_end;                   /* of the newest chunk, not handed out yet */
    void *chunks;                              /* each holds the next one's address first */
};

void fae_lua_memory_limit(struct fae_lua_memory *m, size_t bytes_soft, size_t bytes_max);
/* As lua_Alloc wants it; arg is a struct fae_lua_memory. NULL when the limit is met. */
void *fae_lua_allocate(void *arg, void *mem, size_t old_size, size_t new_size);
/* Once the state is closed. */
void fae_lua_memory_fini(struct fae_lua_memory *m);

#endif
