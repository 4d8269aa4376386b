/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: connections to redis of one's own. A handle is given back, or its connection is closed with the task that
 * borrowed it, or when Lua drops it; one task uses it at a time. The Lua half is lua/fae/redis_pipe.lua and redis_channel.lua.
 */
#include <stdlib.h>

#include "backend/backends.h"
#include "base/alloc.h"
#include "vm/bind_redis.h"

#define WITHIN_MAX_MS 86400000.0

static const char conn_key;

/* A handle; in the list of its borrower as long as it has a loan. */
struct fae_redis_lent {
    struct fae_redis_loan *loan; /* NULL: given back */
    const char *who;             /* lent by the pool, which lives as long as the loan */
    bool busy;
    struct fae_redis_lent *next, **prev;
};

/* A task that waits for one of them, or on one. */
struct op {
    struct fae_redis_call call;
    struct fae_redis_borrow borrow;
    struct fae_redis_hear hear;
    struct fae_task *task;
    struct fae_redis_lent *handle; /* anchored by ref, whatever becomes of the task's stack */
    int ref;
    unsigned n_batch;
};

static struct op *new_op(lua_State *L, struct fae_task *task, int handle_idx)
{
    struct op *op;
    int ref;

    lua_pushvalue(L, handle_idx);
    ref = luaL_ref(L, LUA_REGISTRYINDEX);
    op = fae_zalloc(sizeof *op);
    op->task = task;
    op->handle = lua_touserdata(L, handle_idx);
    op->ref = ref;
    op->handle->busy = true;
    return op;
}

static void free_op(struct op *op)
{
    op->handle->busy = false;
    luaL_unref(op->task->vm->L, LUA_REGISTRYINDEX, op->ref);
    free(op);
}

/* The handle at 1; NULL: nil, err are pushed. */
static struct fae_redis_lent *check_conn(lua_State *L)
{
    struct fae_redis_lent *h = lua_touserdata(L, 1);

    if (!h || !lua_getmetatable(L, 1))
        luaL_typerror(L, 1, "redis connection");
    if (!lua_rawequal(L, -1, lua_upvalueindex(1)))
        luaL_typerror(L, 1, "redis connection");
    lua_pop(L, 1);
    if (h->busy)
        luaL_error(L, "another task waits on this connection");
    if (h->loan)
        return h;
    fae_nil_err(L, FAE_CLOSED, "redis: the connection was given back");
    return NULL;
}

static uint32_t within_here(lua_State *L)
{
    lua_Number ms = luaL_optnumber(L, 2, 0);

    luaL_argcheck(L, ms >= 0 && ms <= WITHIN_MAX_MS, 2, "milliseconds");
    return ms > 0 && ms < 1 ? 1 : (uint32_t)ms;
}

static void own(struct fae_redis_lent *h, struct fae_task *task, struct fae_redis_loan *loan)
{
    h->loan = loan;
    h->next = task->lent;
    h->prev = &task->lent;
    if (h->next)
        h->next->prev = &h->next;
    task->lent = h;
}

static void give(struct fae_redis_lent *h, bool sound)
{
    struct fae_redis_loan *loan = h->loan;

    if (!loan)
        return;
    h->loan = NULL;
    *h->prev = h->next;
    if (h->next)
        h->next->prev = h->prev;
    fae_redis_give(loan, sound);
}

void fae_redis_take_back(struct fae_task *task)
{
    while (task->lent)
        give(task->lent, false);
}

/* ---- borrowing ---- */

static int push_borrowed(lua_State *L, void *arg)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, *(const int *)arg);
    return 1;
}

static void on_borrowed(struct fae_redis_borrow *borrow, struct fae_redis_loan *loan,
                        const struct fae_redis_outcome *outcome)
{
    struct op *op = FAE_CONTAINER(borrow, struct op, borrow);
    struct fae_redis_told refused = { op->handle->who, 0, outcome };
    struct fae_task *task = op->task;
    lua_State *L = task->vm->L;
    int ref = op->ref;

    op->handle->busy = false;
    if (loan)
        own(op->handle, task, loan);
    free(op);
    if (loan)
        fae_task_resume(task, push_borrowed, &ref);
    else
        fae_task_resume(task, fae_redis_push_told, &refused);
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
}

static void cancel_borrow(void *arg)
{
    struct op *op = arg;

    fae_redis_borrow_cancel(&op->borrow);
    free_op(op);
}

/* redis_borrow(handle, i) -> conn | nil, err.  Waits. */
static int l_redis_borrow(lua_State *L)
{
    struct fae_redis_outcome outcome;
    struct fae_redis_loan *loan;
    struct fae_redis *redis = fae_redis_pool_here(L);
    struct fae_task *task;
    struct fae_redis_lent *h;
    unsigned server;
    struct op *op;
    int status, at;
    enum fae_err err;

    if (!redis || (at = fae_redis_server_here(L, redis)) < 0)
        return 2;
    server = (unsigned)at;
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    h = lua_newuserdata(L, sizeof *h);
    *h = (struct fae_redis_lent){ .who = fae_redis_label(redis, server) };
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    op = new_op(L, task, lua_gettop(L));
    op->borrow.done = on_borrowed;
    err = fae_redis_borrow(redis, server, &op->borrow, task->deadline_ms, &loan, &outcome);
    if (err == FAE_MORE)
        return fae_task_wait(task, cancel_borrow, op);
    free_op(op);
    if (err)
        return fae_redis_push_told(L, &(struct fae_redis_told){ h->who, 0, &outcome });
    own(h, task, loan);
    return 1;
}

/* redis_conn_give(conn, sound): sound false closes it */
static int l_redis_conn_give(lua_State *L)
{
    struct fae_redis_lent *h = check_conn(L);

    if (h)
        give(h, lua_toboolean(L, 2));
    return 0;
}

static int l_gc(lua_State *L)
{
    give(lua_touserdata(L, 1), false);
    return 0;
}

/* ---- calls ---- */

static void on_done(struct fae_redis_call *call, const struct fae_redis_outcome *outcome)
{
    struct op *op = FAE_CONTAINER(call, struct op, call);
    struct fae_redis_told told = { op->handle->who, op->n_batch, outcome };
    struct fae_task *task = op->task;

    free_op(op);
    fae_task_resume(task, fae_redis_push_told, &told);
}

static void cancel_call(void *arg)
{
    struct op *op = arg;

    if (!fae_redis_cancel(&op->call))
        fae_task_unsure(op->task);
    free_op(op);
}

static int call_and_wait(lua_State *L, struct fae_redis_lent *h, const struct fae_redis_command *commands, unsigned n,
                         unsigned n_batch, uint32_t within_ms)
{
    struct fae_redis_outcome outcome;
    struct fae_task *task;
    struct op *op;
    int status;

    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    op = new_op(L, task, 1);
    op->call.done = on_done;
    op->n_batch = n_batch;
    if (fae_redis_loan_call(h->loan, &op->call, commands, n, within_ms, &outcome) == FAE_OK)
        return fae_task_wait(task, cancel_call, op);
    free_op(op);
    return fae_redis_push_told(L, &(struct fae_redis_told){ h->who, 0, &outcome });
}

/* redis_conn_call(conn, within_ms or nil, cmd, ...) -> reply | nil, err.  Waits; past within_ms the connection is lost. */
static int l_redis_conn_call(lua_State *L)
{
    struct fae_redis_lent *h = check_conn(L);
    uint32_t within_ms = within_here(L);
    int last = lua_gettop(L);
    struct fae_redis_args args;
    struct fae_redis_command command;

    if (!h || !fae_redis_args_here(L, 3, last, &args))
        return 2;
    command = (struct fae_redis_command){ args.args, (unsigned)(last - 2) };
    return call_and_wait(L, h, &command, 1, 0, within_ms);
}

/* redis_conn_batch(conn, {{cmd, ...}, ...}) -> replies | nil, err.  Waits. */
static int l_redis_conn_batch(lua_State *L)
{
    struct fae_redis_lent *h = check_conn(L);
    struct fae_redis_command *commands;
    unsigned n;

    if (!h)
        return 2;
    commands = fae_redis_commands_here(L, 2, &n);
    return commands ? call_and_wait(L, h, commands, n, n, 0) : 2;
}

/* ---- what is published ---- */

static void on_heard(struct fae_redis_hear *hear, const struct fae_redis_outcome *outcome)
{
    struct op *op = FAE_CONTAINER(hear, struct op, hear);
    struct fae_redis_told told = { op->handle->who, 0, outcome };
    struct fae_task *task = op->task;

    fae_timer_stop(&task->sleep);
    free_op(op);
    fae_task_resume(task, fae_redis_push_told, &told);
}

static void cancel_hear(void *arg)
{
    struct op *op = arg;

    fae_timer_stop(&op->task->sleep);
    if (op->handle->loan)
        fae_redis_hear_cancel(op->handle->loan);
    free_op(op);
}

static void on_silence(void *arg)
{
    struct fae_task *task = arg;
    struct op *op = task->cancel_arg;
    struct fae_redis_outcome outcome = { .err = FAE_TIMEOUT, .why = "nothing was published" };
    struct fae_redis_told told = { op->handle->who, 0, &outcome };

    if (op->handle->loan)
        fae_redis_hear_cancel(op->handle->loan);
    free_op(op);
    fae_task_resume(task, fae_redis_push_told, &told);
}

/* redis_conn_next(conn, within_ms or nil) -> reply | nil, err(TIMEOUT).  Waits for what a subscriber is sent. */
static int l_redis_conn_next(lua_State *L)
{
    struct fae_redis_lent *h = check_conn(L);
    uint32_t within_ms = within_here(L);
    struct fae_redis_outcome outcome;
    struct fae_task *task;
    struct op *op;
    enum fae_err err;
    int status;

    if (!h)
        return 2;
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    op = new_op(L, task, 1);
    op->hear.done = on_heard;
    err = fae_redis_hear(h->loan, &op->hear, &outcome);
    if (err == FAE_MORE) {
        fae_timer_init(&task->sleep, task->vm->o.loop, on_silence, task);
        if (within_ms)
            fae_timer_start(&task->sleep, within_ms);
        return fae_task_wait(task, cancel_hear, op);
    }
    free_op(op);
    return fae_redis_push_told(L, &(struct fae_redis_told){ h->who, 0, &outcome });
}

static const luaL_Reg functions[] = {
    { "redis_borrow", l_redis_borrow },         { "redis_conn_call", l_redis_conn_call },
    { "redis_conn_batch", l_redis_conn_batch }, { "redis_conn_next", l_redis_conn_next },
    { "redis_conn_give", l_redis_conn_give },   { NULL, NULL },
};

/* Their upvalue: the metatable of connections. */
void fae_bind_redis_conn(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&conn_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_createtable(L, 0, 2);
        lua_pushcfunction(L, l_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "redis connection");
        lua_setfield(L, -2, "__metatable");
        lua_pushlightuserdata(L, (void *)&conn_key);
        lua_pushvalue(L, -2);
        lua_rawset(L, LUA_REGISTRYINDEX);
    }
    luaL_openlib(L, NULL, functions, 1);
}
