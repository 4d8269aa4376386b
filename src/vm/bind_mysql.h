/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What bind_mysql.c and bind_mysql_conn.c share: a statement made of Lua values, the task that waits for it, and its result
 * as Lua values.
 */
#ifndef FAE_VM_BIND_MYSQL_H
#define FAE_VM_BIND_MYSQL_H

#include "backend/mysql.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

/* A task that waits for a statement: one block of memory with its text and its parameters. */
struct fae_mysql_pending {
    struct fae_mysql_call call;
    struct fae_task *task;
    int (*push)(lua_State *L, void *arg); /* of what came; arg: struct fae_mysql_came */
    void *owner;
};

struct fae_mysql_came {
    const struct fae_mysql_pending *pending;
    enum fae_err err;
};

/* The pool of a handle at index 1; NULL: nil, err are pushed. */
struct fae_mysql *fae_mysql_here(lua_State *L, int mark);
/* From index `first` on: sql, n, and n parameters. NULL: nil, err are pushed. */
struct fae_mysql_pending *fae_mysql_pending_new(lua_State *L, int first);
void fae_mysql_pending_free(struct fae_mysql_pending *p);
/* {cols =, rows =, affected =, insert_id =, warnings = where there are some} | nil, err */
int fae_mysql_push_result(lua_State *L, void *came);
/* An array of what came. */
void fae_mysql_push_rows(lua_State *L, const struct fae_mysql_run *run);
/* nil, err of a call that failed, also before it began. */
int fae_mysql_push_failure(lua_State *L, const struct fae_mysql_call *call, enum fae_err err);
/* For fae_task_wait: the statement is ended, the task hears UNKNOWN where it may have been done. */
void fae_mysql_pending_cancel(void *pending);

void fae_bind_mysql_conn(lua_State *L);

#endif
