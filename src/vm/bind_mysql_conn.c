/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: mysql, a connection of one's own: for transactions, and for results that are taken in parts. It belongs to the
 * task that borrowed it and is closed when that ends, so that no transaction outlives whoever began it.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "vm/bind_mysql.h"

#define CONN "fae.mysql.conn"
#define BATCH_MAX 10000 /* rows of a stream that are asked for at once */

/* A connection that a task has. */
struct fae_mysql_held {
    struct fae_mysql_held *next; /* of the task's */
    struct fae_mysql_held **at;  /* the conn that has it */
    struct fae_task *task;
    struct fae_mysql_lease *lease;
    struct fae_mysql_pending *stream; /* that has more to come */
};

struct conn {
    struct fae_mysql_held *held; /* NULL: given back, or closed with its task */
};

/* A task that waits for one. */
struct asking {
    struct fae_mysql_borrow borrow;
    struct fae_task *task;
    struct conn *conn;
    int ref; /* anchors conn */
};

struct got {
    const struct asking *asking;
    enum fae_err err;
};

/* ---- holding ---- */

static void hold(struct fae_task *task, struct conn *conn, struct fae_mysql_lease *lease)
{
    struct fae_mysql_held *held = fae_alloc(sizeof *held);

    *held = (struct fae_mysql_held){ task->mysql_held, &conn->held, task, lease, NULL };
    conn->held = held;
    task->mysql_held = held;
}

static void let_go(struct fae_mysql_held *held, bool sound)
{
    struct fae_mysql_pending *stream = held->stream;

    for (struct fae_mysql_held **at = &held->task->mysql_held; *at; at = &(*at)->next)
        if (*at == held) {
            *at = held->next;
            break;
        }
    *held->at = NULL;
    fae_mysql_give(held->lease, sound && !stream); /* which cancels what still runs */
    if (stream)
        fae_mysql_pending_free(stream);
    free(held);
}

void fae_mysql_held_let_go(struct fae_mysql_held **list)
{
    while (*list)
        let_go(*list, false);
}

static struct conn *check_conn(lua_State *L)
{
    return luaL_checkudata(L, 1, CONN);
}

static int l_conn_gc(lua_State *L)
{
    struct conn *conn = check_conn(L);

    if (conn->held)
        let_go(conn->held, false);
    return 0;
}

static struct conn *push_conn(lua_State *L)
{
    struct conn *conn = lua_newuserdata(L, sizeof *conn);

    conn->held = NULL;
    luaL_getmetatable(L, CONN);
    lua_setmetatable(L, -2);
    return conn;
}

/* ---- borrowing ---- */

static int push_failure(lua_State *L, const struct fae_mysql_borrow *b, enum fae_err err)
{
    fae_nil_err(L, err, "%s: %s", fae_mysql_label(b->server), b->why);
    if (b->retry_after_ms) {
        lua_pushnumber(L, b->retry_after_ms);
        lua_setfield(L, -2, "retry_after_ms");
    }
    return 2;
}

static int push_got(lua_State *L, void *arg)
{
    const struct got *got = arg;

    if (got->err)
        return push_failure(L, &got->asking->borrow, got->err);
    lua_rawgeti(L, LUA_REGISTRYINDEX, got->asking->ref);
    return 1;
}

static void on_got(struct fae_mysql_borrow *b, enum fae_err err, struct fae_mysql_lease *lease)
{
    struct asking *a = FAE_CONTAINER(b, struct asking, borrow);
    struct fae_vm *vm = a->task->vm;
    struct got got = { a, err };

    if (!err)
        hold(a->task, a->conn, lease);
    fae_task_resume(a->task, push_got, &got);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, a->ref);
    free(a);
}

static void cancel_asking(void *arg)
{
    struct asking *a = arg;

    fae_mysql_borrow_cancel(&a->borrow);
    luaL_unref(a->task->vm->L, LUA_REGISTRYINDEX, a->ref);
    free(a);
}

/* mysql_borrow(handle[, on_replica]) -> conn | nil, err.  Waits. */
static int l_mysql_borrow(lua_State *L)
{
    struct fae_mysql *mysql = fae_mysql_here(L, lua_upvalueindex(1));
    bool on_replica = lua_toboolean(L, 2);
    struct fae_mysql_lease *lease;
    struct fae_task *task;
    struct asking *a;
    struct conn *conn;
    enum fae_err err;
    int status, ref;

    if (!mysql)
        return 2;
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    conn = push_conn(L);
    lua_pushvalue(L, -1);
    ref = luaL_ref(L, LUA_REGISTRYINDEX);
    a = fae_zalloc(sizeof *a);
    *a = (struct asking){ .borrow = { .done = on_got }, .task = task, .conn = conn, .ref = ref };
    err = fae_mysql_borrow(mysql, &a->borrow, on_replica, task->deadline_ms, &lease);
    if (err == FAE_MORE)
        return fae_task_wait(task, cancel_asking, a);
    if (!err)
        hold(task, conn, lease);
    status = err ? push_failure(L, &a->borrow, err) : 1;
    luaL_unref(L, LUA_REGISTRYINDEX, ref);
    free(a);
    return status;
}

/* mysql_conn_give(conn, sound) */
static int l_mysql_conn_give(lua_State *L)
{
    struct conn *conn = check_conn(L);

    if (conn->held)
        let_go(conn->held, lua_toboolean(L, 2));
    return 0;
}

/* ---- statements ---- */

/* The connection at index 1, for the task that runs. NULL: nil, err are pushed. */
static struct fae_mysql_held *held_here(lua_State *L, struct fae_task *task)
{
    struct fae_mysql_held *held = check_conn(L)->held;

    if (!held)
        fae_nil_err(L, FAE_CLOSED, "the connection was given back, or ended with its task");
    else if (held->task != task)
        fae_nil_err(L, FAE_BAD_ARGS, "a connection is used by the task alone that borrowed it");
    else if (held->stream || fae_mysql_lease_is_busy(held->lease))
        fae_nil_err(L, FAE_BAD_ARGS, "rows of another statement are still to come on this connection");
    else
        return held;
    return NULL;
}

static void on_done(struct fae_mysql_call *call, enum fae_err err)
{
    struct fae_mysql_pending *p = FAE_CONTAINER(call, struct fae_mysql_pending, call);
    struct fae_mysql_held *held = p->owner;
    struct fae_mysql_came came = { p, err };

    if (err == FAE_MORE) {
        held->stream = p; /* whose rows are pushed before anybody can go on with it */
        fae_task_resume(p->task, p->push, &came);
        return;
    }
    if (held->stream == p)
        held->stream = NULL;
    fae_task_resume(p->task, p->push, &came);
    fae_mysql_pending_free(p);
}

/* result, and whether there is more to come */
static int push_batch(lua_State *L, void *arg)
{
    const struct fae_mysql_came *came = arg;
    int n = fae_mysql_push_result(L, arg);

    if (n == 1)
        lua_pushboolean(L, came->err == FAE_MORE);
    return 2;
}

static void cancel_stream(void *arg)
{
    struct fae_mysql_pending *p = arg;

    ((struct fae_mysql_held *)p->owner)->stream = NULL;
    fae_mysql_pending_cancel(p);
}

static int run(lua_State *L, struct fae_mysql_held *held, struct fae_mysql_pending *p, fae_task_push_fn push)
{
    enum fae_err err;
    int status;

    p->task = held->task;
    p->push = push;
    p->owner = held;
    p->call.done = on_done;
    err = fae_mysql_lease_query(held->lease, &p->call);
    if (err) {
        status = fae_mysql_push_failure(L, &p->call, err);
        fae_mysql_pending_free(p);
        return status;
    }
    return fae_task_wait(p->task, cancel_stream, p);
}

/* mysql_conn_query(conn, sql, n, ...) -> result | nil, err.  Waits. */
static int l_mysql_conn_query(lua_State *L)
{
    struct fae_mysql_held *held;
    struct fae_mysql_pending *p;
    struct fae_task *task;
    int status;

    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    held = held_here(L, task);
    if (!held)
        return 2;
    p = fae_mysql_pending_new(L, 2);
    return p ? run(L, held, p, fae_mysql_push_result) : 2;
}

/* mysql_conn_in_transaction(conn) -> does the server say so */
static int l_mysql_conn_in_transaction(lua_State *L)
{
    struct conn *conn = check_conn(L);

    lua_pushboolean(L, conn->held && fae_mysql_lease_in_transaction(conn->held->lease));
    return 1;
}

static unsigned check_want(lua_State *L)
{
    int want = luaL_checkint(L, 2);

    luaL_argcheck(L, want >= 1 && want <= BATCH_MAX, 2, "1 to 10000 rows at once");
    return (unsigned)want;
}

/* mysql_conn_each_begin(conn, n_rows, sql, n, ...) -> result with the first rows, more | nil, err.  Waits. */
static int l_mysql_conn_each_begin(lua_State *L)
{
    unsigned want = check_want(L);
    struct fae_mysql_held *held;
    struct fae_mysql_pending *p;
    struct fae_task *task;
    int status;

    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    held = held_here(L, task);
    if (!held)
        return 2;
    p = fae_mysql_pending_new(L, 3);
    if (!p)
        return 2;
    p->call.run.streams = true;
    p->call.run.want = want;
    return run(L, held, p, push_batch);
}

/* mysql_conn_each_next(conn, n_rows) -> result with the next rows, more | nil, err.  Waits. */
static int l_mysql_conn_each_next(lua_State *L)
{
    struct fae_mysql_held *held = check_conn(L)->held;
    unsigned want = check_want(L);
    struct fae_task *task;
    int status;

    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    if (!held || held->task != task || !held->stream)
        return fae_nil_err(L, FAE_CLOSED, "no rows are to come on this connection");
    fae_mysql_more(&held->stream->call, want);
    return fae_task_wait(task, cancel_stream, held->stream);
}

static const luaL_Reg functions[] = {
    { "mysql_conn_query", l_mysql_conn_query },         { "mysql_conn_each_begin", l_mysql_conn_each_begin },
    { "mysql_conn_each_next", l_mysql_conn_each_next }, { "mysql_conn_in_transaction", l_mysql_conn_in_transaction },
    { "mysql_conn_give", l_mysql_conn_give },           { NULL, NULL },
};

/* The metatable of pools is on top, the table of functions below it and its key. */
void fae_bind_mysql_conn(lua_State *L)
{
    lua_pushvalue(L, -1);
    lua_pushcclosure(L, l_mysql_borrow, 1);
    lua_setfield(L, -4, "mysql_borrow");
    lua_pushvalue(L, -3);
    luaL_register(L, NULL, functions);
    lua_pop(L, 1);
    if (luaL_newmetatable(L, CONN)) {
        lua_pushcfunction(L, l_conn_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "mysql connection");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
}
