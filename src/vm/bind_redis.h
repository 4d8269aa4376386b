/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What bind_redis.c (calls on shared connections) and bind_redis_conn.c (connections of one's own) share.
 */
#ifndef FAE_VM_BIND_REDIS_H
#define FAE_VM_BIND_REDIS_H

#include "backend/redis.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define FAE_REDIS_ARGS 32 /* of a command, without memory of their own */

/* The pool at 1; NULL: nil, err are pushed. */
struct fae_redis *fae_redis_pool_here(lua_State *L);
/* The number of a server at 2; -1: nil, err are pushed: the pool has none of that number, perhaps since a reload. */
int fae_redis_server_here(lua_State *L, const struct fae_redis *redis);

/* What a command on the stack is made of. */
struct fae_redis_args {
    struct fae_redis_arg *args;
    struct fae_redis_arg few[FAE_REDIS_ARGS];
};
/* The values from index first to last, numbers among them made strings in their places. False: nil, err are pushed. */
bool fae_redis_args_here(lua_State *L, int first, int last, struct fae_redis_args *args);
/* A list of commands at idx, {{"SET", "a", 1}, ...}, whose memory is Lua's: it is on the stack until the caller returns. NULL:
 * nil, err are pushed. */
struct fae_redis_command *fae_redis_commands_here(lua_State *L, int idx, unsigned *n_out);

/* What becomes of a call. */
struct fae_redis_told {
    const char *who; /* "redis main tcp://...", which stands before why */
    unsigned n;      /* of a batch; 0: it is none */
    const struct fae_redis_outcome *outcome;
};
/* A fae_task_push_fn: reply | nil, err; of a batch replies | nil, err. */
int fae_redis_push_told(lua_State *L, void *told);

#endif
