/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Repeating timers. They belong to a generation: made while it loads or by its code, started when it goes live, gone when
 * it is replaced. A tick that is still running when the next is due lets that one pass.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define EVERY_MAX_MS 86400000.0

struct fae_vm_timer {
    struct fae_generation *gen;
    struct fae_list node;
    struct fae_timer timer;
    uint64_t every_ms;
    int fn_ref;
    unsigned id;
};

static void tick(void *arg)
{
    struct fae_vm_timer *t = arg;
    struct fae_vm *vm = t->gen->vm;
    struct fae_task *task = fae_task_new(vm, vm->L, t->gen);

    vm->at_risk = task;
    lua_rawgeti(vm->L, LUA_REGISTRYINDEX, t->fn_ref);
    vm->at_risk = NULL;
    lua_xmove(vm->L, task->T, 1);
    task->timer = t;
    task->deadline_ms = vm->o.loop->now_ms +
                        (t->every_ms > vm->o.config->call_timeout_ms ? t->every_ms : vm->o.config->call_timeout_ms);
    fae_task_run(task, 0);
    fae_task_run_queued(vm);
}

static bool tick_is_running(const struct fae_vm_timer *t)
{
    FAE_LIST_EACH(node, &t->gen->tasks)
        if (FAE_CONTAINER(node, struct fae_task, gen_node)->timer == t)
            return true;
    return false;
}

static void on_due(void *arg)
{
    struct fae_vm_timer *t = arg;

    fae_timer_start(&t->timer, t->every_ms);
    if (!tick_is_running(t))
        fae_vm_guard(t->gen->vm, tick, t);
}

static void stop_timer(struct fae_vm_timer *t)
{
    FAE_LIST_EACH(node, &t->gen->tasks) { /* its tick goes on, as a task of nobody's */
        struct fae_task *task = FAE_CONTAINER(node, struct fae_task, gen_node);

        if (task->timer == t)
            task->timer = NULL;
    }
    if (t->gen->vm->current && t->gen->vm->current->timer == t)
        t->gen->vm->current->timer = NULL;
    fae_timer_stop(&t->timer);
    luaL_unref(t->gen->vm->L, LUA_REGISTRYINDEX, t->fn_ref);
    fae_list_del(&t->node);
    free(t);
}

static void start_timer(struct fae_vm_timer *t)
{
    fae_timer_init(&t->timer, t->gen->vm->o.loop, on_due, t);
    fae_timer_start(&t->timer, t->every_ms);
}

void fae_vm_timers_start(struct fae_generation *gen)
{
    FAE_LIST_EACH(node, &gen->timers)
        start_timer(FAE_CONTAINER(node, struct fae_vm_timer, node));
}

void fae_vm_timers_stop(struct fae_generation *gen)
{
    FAE_LIST_EACH(node, &gen->timers)
        stop_timer(FAE_CONTAINER(node, struct fae_vm_timer, node));
}

/* timer_start(every_ms, fn) -> id */
static int l_timer_start(lua_State *L)
{
    static unsigned next_id;
    double every = luaL_checknumber(L, 1);
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_vm_timer *t;
    int ref;

    luaL_argcheck(L, every >= 1 && every <= EVERY_MAX_MS, 1, "milliseconds, from 1 to a day");
    luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    ref = luaL_ref(L, LUA_REGISTRYINDEX);
    t = fae_zalloc(sizeof *t);
    t->gen = fae_generation_here(vm);
    t->every_ms = (uint64_t)every;
    t->fn_ref = ref;
    t->id = ++next_id;
    fae_list_add_tail(&t->gen->timers, &t->node);
    if (t->gen->live)
        start_timer(t);
    lua_pushnumber(L, t->id);
    return 1;
}

/* timer_stop(id) -> was it running */
static int l_timer_stop(lua_State *L)
{
    double id = luaL_checknumber(L, 1);
    struct fae_generation *gen = fae_generation_here(fae_vm_of(L));

    FAE_LIST_EACH(node, &gen->timers) {
        struct fae_vm_timer *t = FAE_CONTAINER(node, struct fae_vm_timer, node);

        if (t->id != id)
            continue;
        stop_timer(t);
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_pushboolean(L, 0);
    return 1;
}

static const luaL_Reg functions[] = {
    { "timer_start", l_timer_start },
    { "timer_stop", l_timer_stop },
    { NULL, NULL },
};

void fae_bind_timer(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
