/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: sleep, spawn, start and join. The Lua half is lua/fae/task.lua.
 */
#include <math.h>

#include "base/assert.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define SLEEP_MAX_MS 86400000.0 /* a day */

static int push_true(lua_State *L, void *arg)
{
    (void)arg;
    lua_pushboolean(L, 1);
    return 1;
}

static void on_slept(void *arg)
{
    fae_task_resume(arg, push_true, NULL);
}

static void cancel_sleep(void *arg)
{
    struct fae_task *task = arg;

    fae_timer_stop(&task->sleep);
}

/* sleep(ms) -> true | nil, err.  Waits. */
static int l_sleep(lua_State *L)
{
    double ms = luaL_checknumber(L, 1);
    struct fae_task *task;
    int n;

    luaL_argcheck(L, ms >= 0 && ms <= SLEEP_MAX_MS, 1, "milliseconds, from 0 to a day");
    task = fae_task_may_wait(L, &n);
    if (!task)
        return n;
    fae_timer_init(&task->sleep, task->vm->o.loop, on_slept, task);
    fae_timer_start(&task->sleep, (uint64_t)ceil(ms)); /* never shorter than asked */
    return fae_task_wait(task, cancel_sleep, task);
}

/* A new task that will run the function at index 1 with what follows it. It has the caller's context. */
static struct fae_task *task_of_call(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_task *here = vm->current, *task;
    int n = lua_gettop(L), context, ref = LUA_NOREF;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    if (n > FAE_PARAMS_MAX)
        luaL_error(L, "more than %d arguments", FAE_PARAMS_MAX);
    luaL_checkstack(fae_task_ready(vm, L), n + 8, "arguments");
    context = here ? fae_task_context(here) : LUA_NOREF;
    if (context != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, context);
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    task = fae_task_new(vm, L, fae_generation_here(vm));
    task->context_ref = ref;
    if (here)
        task->caller = here->caller;
    lua_xmove(L, task->T, n);
    return task;
}

/* spawn(fn, ...).  The function runs soon, on its own; it ends with the generation at the latest. */
static int l_spawn(lua_State *L)
{
    int n = lua_gettop(L) - 1;
    struct fae_task *here = fae_vm_of(L)->current, *task = task_of_call(L);
    struct fae_generation *gen = task->gen;

    if (here && here->doomed == FAE_RELOADED) { /* or one that starts itself again would never end */
        fae_task_discard(task);
        return 0;
    }
    if (gen->replaced)
        task->doomed = FAE_RELOADED; /* it runs, but nothing it waits for holds the old generation */
    task->linked = true;
    gen->n_tasks++;
    fae_list_add_tail(&gen->tasks, &task->gen_node);
    if (gen->live || gen->replaced)
        fae_task_queue(task, n);
    else
        task->n_args = n; /* fae_vm_switch starts it */
    return 0;
}

/* start(fn, ...).  A child: shares the caller's deadline and ends with it; join waits for all of them. */
static int l_start(lua_State *L)
{
    int n = lua_gettop(L) - 1;
    struct fae_task *parent = fae_vm_of(L)->current, *task;

    if (!parent)
        return luaL_error(L, "fae.parallel cannot be used while servants load");
    if (parent->depth >= FAE_PARALLEL_DEPTH)
        return luaL_error(L, "fae.parallel is nested deeper than %d", FAE_PARALLEL_DEPTH);
    task = task_of_call(L);
    task->depth = (uint8_t)(parent->depth + 1);
    task->parent = parent;
    task->deadline_ms = parent->deadline_ms;
    fae_list_add_tail(&parent->children, &task->child_node);
    fae_task_queue(task, n);
    return 0;
}

/* join() -> true | nil, err.  Waits for every child that start made. */
static int l_join(lua_State *L)
{
    struct fae_task *task;
    int n;

    task = fae_task_may_wait(L, &n);
    if (!task)
        return n;
    if (fae_list_empty(&task->children)) {
        lua_pushboolean(L, 1);
        return 1;
    }
    task->joining = true;
    return fae_task_wait(task, NULL, NULL);
}

static const luaL_Reg functions[] = {
    { "sleep", l_sleep }, { "spawn", l_spawn }, { "start", l_start }, { "join", l_join }, { NULL, NULL },
};

void fae_bind_task(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
