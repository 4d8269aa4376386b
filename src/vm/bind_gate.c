/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: a gate, where tasks of one generation wait until another opens it. lua/fae/flight.lua stands on it: one task
 * asks, and all who want the same wait for its answer.
 */
#include <math.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define GATE "fae.gate"
#define WAIT_MAX_MS 600000.0

struct gate {
    struct fae_list waiters;
};

struct waiter {
    struct fae_list node;
    struct fae_task *task;
};

static struct gate *check_gate(lua_State *L)
{
    return luaL_checkudata(L, 1, GATE);
}

static void leave(struct waiter *w)
{
    fae_timer_stop(&w->task->sleep);
    fae_list_del(&w->node);
    free(w);
}

static void cancel(void *arg)
{
    leave(arg);
}

static int push_false(lua_State *L, void *arg)
{
    (void)arg;
    lua_pushboolean(L, 0);
    return 1;
}

static void on_late(void *arg)
{
    struct fae_task *task = arg;

    leave(task->cancel_arg);
    fae_task_resume(task, push_false, NULL);
}

/* gate() -> gate */
static int l_gate(lua_State *L)
{
    struct gate *g = lua_newuserdata(L, sizeof *g);

    fae_list_init(&g->waiters);
    luaL_getmetatable(L, GATE);
    lua_setmetatable(L, -2);
    return 1;
}

/* gate_wait(gate, ms) -> true: it was opened | false: not in that time | nil, err.  Waits. */
static int l_gate_wait(lua_State *L)
{
    struct gate *g = check_gate(L);
    double ms = luaL_checknumber(L, 2);
    struct fae_task *task;
    struct waiter *w;
    int n;

    luaL_argcheck(L, ms >= 0 && ms <= WAIT_MAX_MS, 2, "milliseconds, to ten minutes");
    task = fae_task_may_wait(L, &n);
    if (!task)
        return n;
    w = fae_alloc(sizeof *w);
    w->task = task;
    fae_list_add_tail(&g->waiters, &w->node);
    fae_timer_init(&task->sleep, task->vm->o.loop, on_late, task);
    fae_timer_start(&task->sleep, (uint64_t)ceil(ms));
    return fae_task_wait(task, cancel, w);
}

/* gate_open(gate) -> how many waited: they run soon, in the order they came. */
static int l_gate_open(lua_State *L)
{
    struct gate *g = check_gate(L);
    int n = 0;

    for (; !fae_list_empty(&g->waiters); n++) {
        struct waiter *w = FAE_CONTAINER(g->waiters.next, struct waiter, node);
        struct fae_task *task = w->task;

        leave(w);
        task->parked = false;
        task->cancel = NULL;
        lua_pushboolean(task->T, 1);
        fae_task_queue(task, 1);
    }
    lua_pushinteger(L, n);
    return 1;
}

/* Whoever still waits at one that is gone waits for its time or its deadline. */
static int l_gate_gc(lua_State *L)
{
    struct gate *g = check_gate(L);

    FAE_LIST_EACH(node, &g->waiters)
        fae_list_del(node);
    return 0;
}

static const luaL_Reg functions[] = {
    { "gate", l_gate },
    { "gate_wait", l_gate_wait },
    { "gate_open", l_gate_open },
    { NULL, NULL },
};

void fae_bind_gate(lua_State *L)
{
    if (luaL_newmetatable(L, GATE)) {
        lua_pushcfunction(L, l_gate_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, GATE);
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
