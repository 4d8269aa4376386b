/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The Lua state itself: its memory, its guard, and what every file of this folder needs of it.
 */
#include "vm/vm.h"

#include <lualib.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "vm/codec.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define SPARE_BYTES (256 * FAE_KIB)

static const char err_key, guarded_key, collect_key;

struct fae_vm *fae_vm_of(lua_State *L)
{
    void *memory;

    lua_getallocf(L, &memory);
    return FAE_CONTAINER(memory, struct fae_vm, memory);
}

/* ---- errors as values ---- */

static int l_err_tostring(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_getfield(L, 1, "code");
    lua_getfield(L, 1, "message");
    lua_pushfstring(L, "%s: %s", luaL_optstring(L, -2, "INTERNAL"), luaL_optstring(L, -1, ""));
    return 1;
}

static void open_err(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&err_key);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, l_err_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "err");
    lua_setfield(L, -2, "__metatable");
    lua_rawset(L, LUA_REGISTRYINDEX);
}

/* Gives the table at the top the metatable of errors. */
static void mark_err(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)&err_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setmetatable(L, -2);
}

static void push_err_text(lua_State *L, enum fae_err code, const char *text)
{
    lua_createtable(L, 0, 3);
    lua_pushstring(L, fae_err_name(code));
    lua_setfield(L, -2, "code");
    lua_pushstring(L, text);
    lua_setfield(L, -2, "message");
    lua_pushboolean(L, fae_err_retryable(code));
    lua_setfield(L, -2, "retryable");
    mark_err(L);
}

void fae_push_err(lua_State *L, enum fae_err code, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    push_err_text(L, code, text);
}

int fae_nil_err(lua_State *L, enum fae_err code, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    lua_pushnil(L);
    push_err_text(L, code, text);
    return 2;
}

/* err(code, message[, fields]) -> err.  The code is a word of the error table, or one of the servant's own in the same
 * form. fields: retryable, retry_after_ms, detail. */
static int l_err(lua_State *L)
{
    size_t len;
    const char *code = luaL_checklstring(L, 1, &len);
    enum fae_err known = fae_err_of(code, len);

    luaL_checkstring(L, 2);
    luaL_argcheck(L, len > 0 && strspn(code, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == len, 1,
                  "a code is UPPER_SNAKE");
    lua_settop(L, 3);
    lua_createtable(L, 0, 4);
    lua_pushboolean(L, known != FAE_ERR_COUNT && fae_err_retryable(known));
    lua_setfield(L, -2, "retryable");
    if (lua_istable(L, 3)) {
        static const char *const names[] = { "retryable", "retry_after_ms", "detail" };

        for (unsigned i = 0; i < 3; i++) {
            lua_getfield(L, 3, names[i]);
            if (lua_isnil(L, -1))
                lua_pop(L, 1);
            else
                lua_setfield(L, -2, names[i]);
        }
    }
    lua_pushvalue(L, 1);
    lua_setfield(L, -2, "code");
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "message");
    mark_err(L);
    return 1;
}

void fae_open_core(lua_State *L)
{
    lua_createtable(L, 0, 32);
    lua_pushcfunction(L, l_err);
    lua_setfield(L, -2, "err");
    fae_bind_task(L);
    fae_bind_timer(L);
    fae_bind_log(L);
    fae_bind_msgpack(L);
    fae_bind_sys(L);
    fae_bind_call(L);
    fae_bind_method(L);
    fae_bind_metrics(L);
    fae_bind_plugin(L);
    fae_bind_remote(L);
    fae_bind_breaker(L);
    fae_bind_memcache(L);
    fae_bind_mysql(L);
    fae_bind_cache(L);
    fae_bind_kv(L);
    fae_bind_id(L);
    fae_bind_lock(L);
    fae_bind_gate(L);
    fae_bind_redis(L);
    fae_bind_redis_conn(L);
}

void fae_vm_woken(struct fae_vm *vm)
{
    if (!vm->o.stores)
        return;
    fae_kv_woken(vm);
    fae_id_woken(vm);
    fae_lock_woken(vm);
}

/* ---- guard ---- */

struct guarded {
    void (*fn)(void *);
    void *arg;
};

static int guarded(lua_State *L)
{
    struct guarded *g = lua_touserdata(L, 1);

    luaL_checkstack(L, FAE_CODEC_STACK + 64, "guard");
    fae_vm_of(L)->memory.bytes_spare = 0;
    g->fn(g->arg);
    return 0;
}

/* lua_cpcall would make a new function each time, which needs memory just when there may be none. */
static int call_protected(lua_State *L, const char *key, void *arg)
{
    lua_pushlightuserdata(L, (void *)key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, arg);
    return lua_pcall(L, 1, 0, 0);
}

/* Lua raised outside of a task's own code: for lack of memory, or in somebody's finalizer. */
static void cut(struct fae_vm *vm, int status, int top)
{
    const char *text = lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1) : "?";
    struct fae_task *task = vm->at_risk;

    FAE_ERROR("call cut: %s (%zu bytes of Lua memory in use, lua_memory_max is %zu)", text, vm->memory.bytes,
              vm->memory.bytes_soft);
    vm->at_risk = NULL;
    vm->current = NULL;
    vm->memory.refused = true;
    if (vm->risk_session && !vm->risk_session->closed)
        vm->risk_session->out.len = vm->risk_mark;
    vm->risk_session = NULL;
    fae_gates_undo(vm);
    if (vm->start_session && !vm->start_request->notification)
        fae_session_fail_code(vm->start_session, vm->start_request->msgid, FAE_NO_MEMORY, "%s",
                              fae_err_text(FAE_NO_MEMORY));
    vm->start_session = NULL;
    if (task)
        fae_task_fail(task, status == LUA_ERRMEM ? FAE_NO_MEMORY : FAE_INTERNAL,
                      fae_err_text(status == LUA_ERRMEM ? FAE_NO_MEMORY : FAE_INTERNAL));
    lua_settop(vm->L, top);
}

bool fae_vm_guard(void *service, void (*fn)(void *), void *arg)
{
    struct fae_vm *vm = service;
    struct guarded g = { fn, arg };
    int status, top = lua_gettop(vm->L);

    vm->memory.bytes_spare = SPARE_BYTES;
    status = call_protected(vm->L, &guarded_key, &g);
    if (status)
        cut(vm, status, top);
    vm->memory.bytes_spare = 0;
    fae_vm_collect_due(vm);
    return status == 0;
}

static int collect(lua_State *L)
{
    int *kib = lua_touserdata(L, 1);

    *kib = lua_gc(L, *kib ? LUA_GCSTEP : LUA_GCCOLLECT, *kib);
    return 0;
}

bool fae_vm_collect(struct fae_vm *vm, int step_kib)
{
    uint64_t began = fae_ticks();
    bool full = step_kib == 0;
    int status;

    /* To shrink its table of strings LuaJIT first makes the smaller one; when that fails, no collection ever ends. */
    vm->memory.bytes_spare = vm->memory.bytes_max;
    status = call_protected(vm->L, &collect_key, &step_kib);
    vm->memory.bytes_spare = 0;
    FAE_STAT_ADD(vm->stats->collect_ns, fae_ticks_to_ns(fae_ticks() - began));
    FAE_STAT_ADD(vm->stats->n_collections, full);
    if (status) {
        FAE_WARN("a finalizer failed: %s", lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1) : "?");
        lua_pop(vm->L, 1);
        return false;
    }
    if (full || step_kib)
        vm->bytes_collected = vm->memory.bytes;
    return step_kib != 0;
}

void fae_vm_collect_due(struct fae_vm *vm)
{
    if (__builtin_expect(!vm->memory.refused, 1))
        return;
    fae_vm_collect(vm, 0);
    vm->memory.refused = false;
    fae_memory_collected(vm);
}

/* ---- life ---- */

/* LuaJIT's generator gives the same numbers in every process unless told otherwise. */
static void seed_random(lua_State *L)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed)
        seed = fae_ticks();
    lua_getglobal(L, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushnumber(L, (double)(seed >> 11));
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

/* A file's methods in a table of their own, where LuaJIT has the metatable itself: whoever held a file could change the
 * methods of everybody's through f.__index, and call finalizers. */
static void part_methods(lua_State *L)
{
    lua_createtable(L, 0, 8);
    for (lua_pushnil(L); lua_next(L, -3);) {
        if (strncmp(lua_tostring(L, -2), "__", 2) == 0) {
            lua_pop(L, 1);
            continue;
        }
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
    }
    lua_setfield(L, -2, "__index");
}

static int open_state(lua_State *L)
{
    luaL_openlibs(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushcfunction(L, luaopen_ffi);
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "ffi");
    lua_pop(L, 1);
    seed_random(L);
    lua_getglobal(L, "string"); /* ("").dump reaches the real table, sandbox or not */
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    luaL_getmetatable(L, LUA_FILEHANDLE); /* whose finalizer is nobody's to change */
    part_methods(L);
    lua_pushliteral(L, "file");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    lua_pushlightuserdata(L, (void *)&guarded_key);
    lua_pushcfunction(L, guarded);
    lua_rawset(L, LUA_REGISTRYINDEX);
    lua_pushlightuserdata(L, (void *)&collect_key);
    lua_pushcfunction(L, collect);
    lua_rawset(L, LUA_REGISTRYINDEX);
    open_err(L);
    fae_observe_open(L);
    fae_codec_open(L);
    return 0;
}

struct fae_vm *fae_vm_new(const struct fae_vm_opts *opts)
{
    struct fae_vm *vm = fae_zalloc(sizeof *vm);

    vm->o = *opts;
    fae_memory_configured(vm);
    vm->slot = &opts->slots->slots[opts->slot];
    vm->stats = &opts->stats->workers[opts->slot];
    vm->sample_left = UINT64_MAX;
    vm->call_ref = LUA_NOREF;
    fae_list_init(&vm->runnable);
    fae_list_init(&vm->old);
    fae_list_init(&vm->events);
    fae_list_init(&vm->lock_waits);
    if (opts->loop)
        fae_timer_init(&vm->more, opts->loop, fae_task_run_more, vm);
    vm->L = lua_newstate(fae_lua_allocate, &vm->memory);
    if (vm->L && lua_cpcall(vm->L, open_state, NULL) == 0) {
        fae_memory_watch(vm);
        return vm;
    }
    FAE_ERROR("cannot make a Lua state: %s", vm->L ? lua_tostring(vm->L, -1) : "no memory");
    fae_vm_free(&vm);
    return NULL;
}

void fae_vm_free(struct fae_vm **vm_io)
{
    struct fae_vm *vm = *vm_io;

    *vm_io = NULL;
    if (!vm)
        return;
    while (!fae_list_empty(&vm->runnable))
        fae_task_discard(FAE_CONTAINER(vm->runnable.next, struct fae_task, run_node));
    fae_vm_abort(vm);
    if (vm->live)
        fae_generation_end(&vm->live);
    FAE_LIST_EACH(node, &vm->old) {
        struct fae_generation *gen = FAE_CONTAINER(node, struct fae_generation, node);

        fae_generation_end(&gen);
    }
    if (vm->L)
        lua_close(vm->L);
    fae_lua_memory_fini(&vm->memory);
    fae_task_free_pool(vm);
    fae_id_end(vm);
    fae_timer_stop(&vm->more);
    fae_buf_fini(&vm->detail);
    fae_kv_forget(vm);
    fae_redis_forget(vm);
    free(vm);
}

/* Runs at the next interpreted instruction, and at every one after it: a pcall around the loop does not help. */
static void interrupt_hook(lua_State *L, lua_Debug *ar)
{
    static const char text[] = "stopped by the watchdog: the call ran too long without waiting";
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_log_field field = { .key = "trace" };

    (void)ar;
    if (vm->interrupted == 1) {
        vm->interrupted = 2;
        luaL_traceback(L, L, NULL, 0);
        field.text = lua_tolstring(L, -1, &field.len);
        fae_log_fields(FAE_LOG_ERROR, text, sizeof text - 1, &field, 1);
    }
    fae_push_err(L, FAE_TIMEOUT, "%s", text);
    lua_error(L);
}

void fae_vm_interrupt(struct fae_vm *vm)
{
    if (!vm->current)
        return;
    vm->interrupted = 1;
    lua_sethook(vm->L, interrupt_hook, LUA_MASKCOUNT, 1);
}
