/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The `call` object that methods get, and what concerns the session behind it. There is one object a state: it shows the
 * call of whichever task asks, so one that is kept and used later can never show another client's.
 */
#include "net/addr.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

/* call:time_left() -> ms until the deadline, never below 0; nil without one */
static int l_time_left(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    uint64_t now = vm->o.loop ? vm->o.loop->now_ms : 0;

    if (!vm->current || !vm->current->deadline_ms)
        return 0;
    lua_pushnumber(L, vm->current->deadline_ms > now ? (double)(vm->current->deadline_ms - now) : 0);
    return 1;
}

static void push_context(lua_State *L, const struct fae_task *task, const char *key)
{
    int ref = fae_task_context(task);

    if (ref == LUA_NOREF) {
        lua_pushnil(L);
        return;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    lua_pushstring(L, key);
    lua_rawget(L, -2);
    if (lua_islightuserdata(L, -1)) /* fae.null: absent is the same */
        lua_pushnil(L);
}

/* "web admin"; nil of nobody's task. */
static int push_roles(lua_State *L, const struct fae_task *task)
{
    struct fae_buf *words;

    if (!task->caller.roles)
        return 0;
    words = fae_push_buf(L);
    fae_access_words(task->vm->o.access, task->caller.roles, words);
    lua_pushlstring(L, (const char *)words->data, words->len);
    fae_buf_fini(words);
    return 1;
}

static int push_who(lua_State *L, const struct fae_task *task)
{
    struct fae_buf *who = fae_push_buf(L);

    if (!fae_access_who(task->vm->o.access, task->caller.who, who))
        return 0;
    lua_pushlstring(L, (const char *)who->data, who->len);
    fae_buf_fini(who);
    return 1;
}

/* Another node's word that a call was passed on already; anybody else's was dropped, or is no more believed. */
static int push_sticky(lua_State *L, const struct fae_task *task)
{
    if (!fae_access_is_peer(task->vm->o.access, task->caller.roles))
        return 0;
    push_context(L, task, "sticky");
    return 1;
}

/* Fields: rid reason uid traceparent sticky (of the context), roles, who, method, session, peer, generation,
 * time_left(). */
static int l_index(lua_State *L)
{
    static const char *const context[] = { "rid", "reason", "uid", "traceparent" };
    const char *key = luaL_checkstring(L, 2);
    struct fae_task *task = fae_vm_of(L)->current;
    char peer[FAE_ADDR_TEXT];

    if (strcmp(key, "time_left") == 0) {
        lua_pushcfunction(L, l_time_left);
        return 1;
    }
    if (!task)
        return 0;
    for (unsigned i = 0; i < sizeof context / sizeof *context; i++)
        if (strcmp(key, context[i]) == 0) {
            push_context(L, task, key);
            return 1;
        }
    if (strcmp(key, "roles") == 0)
        return push_roles(L, task);
    if (strcmp(key, "who") == 0)
        return push_who(L, task);
    if (strcmp(key, "sticky") == 0)
        return push_sticky(L, task);
    if (strcmp(key, "method") == 0 && task->method) {
        lua_pushstring(L, task->method->name);
    } else if (strcmp(key, "generation") == 0) {
        lua_pushnumber(L, task->gen->number);
    } else if (strcmp(key, "session") == 0 && task->session) {
        lua_pushnumber(L, task->session->id);
    } else if (strcmp(key, "peer") == 0 && task->session) {
        fae_session_peer(task->session, peer);
        lua_pushstring(L, peer);
    } else {
        return 0;
    }
    return 1;
}

static struct fae_session *session_here(lua_State *L)
{
    struct fae_task *task = fae_vm_of(L)->current;

    return task ? task->session : NULL;
}

/* session_context(map or nil): holds for every later call of this session that brings none of its own */
static int l_session_context(lua_State *L)
{
    struct fae_session *session = session_here(L);
    int ref = 0;

    if (!lua_isnoneornil(L, 1))
        luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!session)
        return 0;
    if (!lua_isnil(L, 1)) { /* it was looked at and blanked before the call began */
        lua_pushliteral(L, "token");
        lua_pushnil(L);
        lua_rawset(L, 1);
    }
    if (!lua_isnil(L, 1)) {
        fae_observe_context(fae_vm_of(L), session, L, 1);
        ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    if (session->service_ref)
        luaL_unref(L, LUA_REGISTRYINDEX, session->service_ref);
    session->service_ref = ref;
    return 0;
}

/* session_errors("string" | "map" | "array") */
static int l_session_errors(lua_State *L)
{
    static const char *const words[] = { "string", "map", "array", NULL };
    int form = luaL_checkoption(L, 1, NULL, words);
    struct fae_session *session = session_here(L);

    if (session)
        session->error_form = (uint8_t)form;
    return 0;
}

static const luaL_Reg functions[] = {
    { "session_context", l_session_context },
    { "session_errors", l_session_errors },
    { NULL, NULL },
};

void fae_bind_call(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);

    if (vm->call_ref == LUA_NOREF) {
        lua_newuserdata(L, 1);
        lua_createtable(L, 0, 2);
        lua_pushcfunction(L, l_index);
        lua_setfield(L, -2, "__index");
        lua_pushliteral(L, "call");
        lua_setfield(L, -2, "__metatable");
        lua_setmetatable(L, -2);
        vm->call_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    luaL_register(L, NULL, functions);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->call_ref);
    lua_setfield(L, -2, "call");
}
