/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The C half of lua/fae/plugin.lua: the calls that plugins watch, and what the engine alone sees: sessions that open and
 * close, and calls that end without their function returning (dropped at a deadline, after a hang-up, out of memory).
 * Those become events, which wait for the loop's next turn and then run as a task each: whoever ends a call may be in
 * the middle of anything. Without a plugin nothing here is ever reached but one look at a flag for each session.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "net/addr.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

/* A call that is watched, or an event. */
struct fae_watched {
    struct fae_list node; /* in vm->events, once it is an event */
    struct fae_generation *gen;
    int record_ref;     /* what the hooks share of a call; LUA_NOREF: a session's event */
    const char *method; /* of the generation's row, which lives as long */
    enum fae_err code;  /* why the call ended; OK while it goes on */
    uint64_t us;
    uint32_t session;
    struct fae_caller caller;
    bool opened;
    char peer[FAE_ADDR_TEXT]; /* "": unknown */
};

/* ---- events ---- */

static void add_event(struct fae_vm *vm, struct fae_watched *event)
{
    event->gen->n_tasks++; /* or the generation might be gone by then */
    fae_list_add_tail(&vm->events, &event->node);
    fae_timer_start(&vm->more, 0);
}

static void drop_event(struct fae_watched *event)
{
    lua_State *L = event->gen->vm->L;

    fae_list_del(&event->node);
    event->gen->n_tasks--;
    luaL_unref(L, LUA_REGISTRYINDEX, event->record_ref);
    free(event);
}

static void push_text(lua_State *L, const char *text)
{
    if (*text)
        lua_pushstring(L, text);
    else
        lua_pushnil(L);
}

/* The hook's function and its arguments; how many those are. */
static int push_event(lua_State *L, const struct fae_watched *event)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, event->gen->env_ref);
    if (event->record_ref == LUA_NOREF) {
        lua_getfield(L, -1, "session");
        lua_remove(L, -2);
        lua_pushnumber(L, event->session);
        push_text(L, event->peer);
        lua_pushstring(L, event->opened ? "opened" : "closed");
        return 3;
    }
    lua_getfield(L, -1, "dropped");
    lua_remove(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, event->record_ref);
    lua_pushnumber(L, (double)event->us);
    fae_push_err(L, event->code, "%s", fae_err_text(event->code));
    lua_pushstring(L, event->method);
    lua_pushnumber(L, event->session);
    push_text(L, event->peer);
    return 6;
}

void fae_plugin_run(struct fae_vm *vm)
{
    while (!fae_list_empty(&vm->events)) {
        struct fae_watched *event = FAE_CONTAINER(vm->events.next, struct fae_watched, node);
        int n = push_event(vm->L, event); /* raises before there is a task that could be lost */
        struct fae_task *task = fae_task_new(vm, vm->L, event->gen);

        lua_xmove(vm->L, task->T, n + 1);
        task->caller = event->caller;
        task->deadline_ms = vm->o.loop->now_ms + vm->o.config->call_timeout_ms;
        fae_task_queue(task, n);
        drop_event(event);
    }
}

void fae_plugin_end(struct fae_generation *gen)
{
    FAE_LIST_EACH(node, &gen->vm->events) {
        struct fae_watched *event = FAE_CONTAINER(node, struct fae_watched, node);

        if (event->gen == gen)
            drop_event(event);
    }
}

void fae_plugin_session(struct fae_vm *vm, const struct fae_session *session, bool opened)
{
    struct fae_watched *event;

    if (!vm->live || !vm->live->hears_sessions)
        return;
    event = fae_zalloc(sizeof *event);
    event->gen = vm->live;
    event->record_ref = LUA_NOREF;
    event->session = session->id;
    event->opened = opened;
    fae_session_peer(session, event->peer);
    add_event(vm, event);
}

/* ---- calls ---- */

static uint64_t us_since(uint64_t ticks)
{
    uint64_t now = fae_ticks();

    return now > ticks ? fae_ticks_to_ns(now - ticks) / 1000 : 0;
}

void fae_plugin_hangup(struct fae_task *task, enum fae_err code)
{
    task->watched->code = code;
    fae_session_peer(task->session, task->watched->peer);
}

void fae_plugin_dropped(struct fae_task *task, enum fae_err code)
{
    struct fae_watched *event = task->watched;

    task->watched = NULL;
    if (event->code == FAE_OK)
        event->code = code;
    event->us = us_since(task->got_ticks);
    if (task->session && !event->peer[0])
        fae_session_peer(task->session, event->peer);
    add_event(task->vm, event);
}

void fae_plugin_forget(struct fae_task *task)
{
    luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->watched->record_ref);
    free(task->watched);
    task->watched = NULL;
}

/* call_begin(record) -> does a call begin here?  Not in what a call started, nor in a method that another one calls. */
static int l_call_begin(lua_State *L)
{
    struct fae_task *task = fae_vm_of(L)->current;
    int ref;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!task || !task->method || !task->session || task->watched) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (fae_task_context(task) != LUA_NOREF) { /* for dropped: the task's own is gone by then */
        lua_rawgeti(L, LUA_REGISTRYINDEX, fae_task_context(task));
        lua_rawseti(L, 1, 1);
    }
    ref = luaL_ref(L, LUA_REGISTRYINDEX);
    task->watched = fae_zalloc(sizeof *task->watched);
    task->watched->gen = task->gen;
    task->watched->record_ref = ref;
    task->watched->method = task->method->name;
    task->watched->session = task->session->id;
    task->watched->caller = task->caller;
    lua_pushboolean(L, 1);
    return 1;
}

/* call_over() -> microseconds since the call came[, err, session, peer].  The rest when its client is gone. */
static int l_call_over(lua_State *L)
{
    struct fae_task *task = fae_vm_of(L)->current;

    if (!task || !task->watched)
        return luaL_error(L, "no call began here");
    lua_settop(L, 0);
    lua_pushnumber(L, (double)us_since(task->got_ticks));
    if (task->watched->code) {
        fae_push_err(L, task->watched->code, "%s", fae_err_text(task->watched->code));
        lua_pushnumber(L, task->watched->session);
        push_text(L, task->watched->peer);
    }
    fae_plugin_forget(task);
    return lua_gettop(L);
}

/* pcall_at_once(fn, ...) -> true, ... | false, err.  Inside, nothing can wait. */
static int l_pcall_at_once(lua_State *L)
{
    int status;

    luaL_checkany(L, 1);
    status = lua_pcall(L, lua_gettop(L) - 1, LUA_MULTRET, 0);
    lua_pushboolean(L, status == 0);
    lua_insert(L, 1);
    return lua_gettop(L);
}

static const luaL_Reg functions[] = {
    { "call_begin", l_call_begin },
    { "call_over", l_call_over },
    { "pcall_at_once", l_pcall_at_once },
    { NULL, NULL },
};

void fae_bind_plugin(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
