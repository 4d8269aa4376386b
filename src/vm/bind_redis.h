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

/* A task that waits for replies; kept for the next when it has them. */
struct fae_redis_wait {
    struct fae_redis_call call;
    struct fae_task *task;
    struct fae_redis *redis;
    unsigned server;
    unsigned n_batch; /* commands; 0: it is none */
    struct fae_redis_wait *next_spare;
};

/* The pool at 1; NULL: nil, err are pushed. */
struct fae_redis *fae_redis_pool_here(lua_State *L);
/* The number of a server at 2; -1: nil, err are pushed: the pool has none of that number, perhaps since a reload. */
int fae_redis_server_here(lua_State *L, const struct fae_redis *redis);

struct fae_redis_wait *fae_redis_wait_new(struct fae_vm *vm);
void fae_redis_wait_free(struct fae_redis_wait *wait);

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

/* nil, err of a call that failed; who: "redis main tcp://...", which stands before why. */
int fae_redis_push_failed(lua_State *L, const char *who, const struct fae_redis_outcome *outcome);
/* What is to be told of a call: reply | nil, err. */
int fae_redis_push_outcome(lua_State *L, const char *who, const struct fae_redis_outcome *outcome);
/* The same of a batch of n: replies | nil, err. */
int fae_redis_push_batch(lua_State *L, const char *who, const struct fae_redis_outcome *outcome, unsigned n);

#endif
