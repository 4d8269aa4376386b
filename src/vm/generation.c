/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Generations: loaded beside the one that serves, switched to in one step, freed with their last task. The loading
 * itself is Lua: lua/fae/loader.lua.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/log.h"
#include "vm/embed.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define GC_STEPS 64 /* of GC_STEP_KIB each, one a tick, after a generation ended */
#define GC_STEP_KIB 256
#define SMALL_HEAP (16u * FAE_MIB)

struct fae_generation *fae_generation_here(struct fae_vm *vm)
{
    if (vm->current)
        return vm->current->gen;
    FAE_ASSERT(vm->loading);
    return vm->loading;
}

void fae_generation_end(struct fae_generation **gen_io)
{
    struct fae_generation *gen = *gen_io;
    struct fae_vm *vm = gen->vm;

    *gen_io = NULL;
    fae_vm_timers_stop(gen);
    fae_plugin_end(gen);
    FAE_LIST_EACH(node, &gen->tasks)
        fae_task_discard(FAE_CONTAINER(node, struct fae_task, gen_node));
    fae_methods_fini(&gen->methods, vm->L);
    luaL_unref(vm->L, LUA_REGISTRYINDEX, gen->env_ref);
    fae_list_del(&gen->node);
    free(gen);
    vm->n_gc_steps = GC_STEPS;
}

struct load {
    struct fae_vm *vm;
    const struct fae_bundle *bundle;
    struct fae_generation *gen;
    struct fae_buf *why;
};

static int traceback(lua_State *L)
{
    if (lua_type(L, 1) == LUA_TSTRING)
        luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* {{path, body}, ...} of what is built in, and then of what the bundle has. */
static void push_files(lua_State *L, const struct fae_bundle *bundle)
{
    struct fae_bundle_file file;
    size_t cursor = 0;

    lua_newtable(L);
    for (unsigned i = 0; i < fae_embed_n_files; i++) {
        lua_pushlstring(L, fae_embed_files[i].body, fae_embed_files[i].len);
        lua_setfield(L, -2, fae_embed_files[i].path);
    }
    lua_newtable(L);
    while (fae_bundle_next(bundle, &cursor, &file)) {
        lua_pushlstring(L, file.body, file.len);
        lua_setfield(L, -2, file.path);
    }
}

static void push_loader(lua_State *L)
{
    for (unsigned i = 0; i < fae_embed_n_files; i++)
        if (strcmp(fae_embed_files[i].path, "lua/fae/loader.lua") == 0) {
            if (luaL_loadbuffer(L, fae_embed_files[i].body, fae_embed_files[i].len, "@lua/fae/loader.lua"))
                lua_error(L);
            return;
        }
    FAE_ASSERT(!"the loader is built in");
}

/* {{name, allow}}, as the configuration has them. */
static void push_fences(lua_State *L, const struct fae_config *config)
{
    lua_createtable(L, (int)config->n_fence, 0);
    for (unsigned i = 0; i < config->n_fence; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, config->fence[i].name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, config->fence[i].allow);
        lua_setfield(L, -2, "allow");
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_info(lua_State *L, const struct load *load)
{
    lua_newtable(L);
    lua_pushstring(L, load->vm->o.config->servants_dir);
    lua_setfield(L, -2, "servants_dir");
    lua_pushstring(L, load->vm->o.config->lua_dir);
    lua_setfield(L, -2, "lua_dir");
    lua_pushnumber(L, load->gen->number);
    lua_setfield(L, -2, "generation");
    lua_pushboolean(L, load->vm->o.loop == NULL);
    lua_setfield(L, -2, "checking");
    if (load->vm->o.config->plugins_json) {
        lua_pushstring(L, load->vm->o.config->plugins_json);
        lua_setfield(L, -2, "plugins_json");
    }
    lua_pushstring(L, load->vm->o.config->secrets);
    lua_setfield(L, -2, "secrets");
    push_fences(L, load->vm->o.config);
    lua_setfield(L, -2, "fences");
}

static int load_generation(lua_State *L)
{
    struct load *load = lua_touserdata(L, 1);
    int n;

    lua_pushcfunction(L, traceback);
    push_loader(L);
    fae_open_core(L);
    push_files(L, load->bundle);
    push_info(L, load);
    if (lua_pcall(L, 4, 2, 2)) {
        fae_buf_printf(load->why, "%s\n", lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "the loader failed");
        return 0;
    }
    n = (int)lua_objlen(L, -1);
    for (int i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        fae_buf_printf(load->why, "%s\n", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_getfield(L, -1, "session");
    load->gen->hears_sessions = lua_isfunction(L, -1);
    lua_pop(L, 1);
    load->gen->env_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

enum fae_err fae_vm_prepare(struct fae_vm *vm, const struct fae_bundle *bundle, uint32_t number, struct fae_buf *why)
{
    struct fae_generation *gen = fae_zalloc(sizeof *gen);
    struct load load = { vm, bundle, gen, why };
    size_t why_was = why->len;

    fae_vm_abort(vm);
    gen->vm = vm;
    gen->number = number;
    gen->env_ref = LUA_NOREF;
    fae_list_init(&gen->tasks);
    fae_list_init(&gen->timers);
    fae_list_init(&gen->node);
    vm->loading = gen;
    if (lua_cpcall(vm->L, load_generation, &load)) {
        fae_buf_printf(why, "%s\n", lua_type(vm->L, -1) == LUA_TSTRING ? lua_tostring(vm->L, -1) : "the loader failed");
        lua_settop(vm->L, 0);
    }
    fae_passed_let_go(&vm->passed, FAE_CANCELLED);
    vm->loading = NULL;
    vm->prepared = gen;
    if (why->len == why_was)
        return FAE_OK;
    fae_vm_abort(vm);
    return FAE_BAD_SERVANT;
}

void fae_vm_abort(struct fae_vm *vm)
{
    if (vm->prepared)
        fae_generation_end(&vm->prepared);
}

/* One task for each on_unload hook, in the generation they belong to. */
static void unload(void *arg)
{
    struct fae_generation *gen = arg;
    struct fae_vm *vm = gen->vm;
    lua_State *L = vm->L;
    int n;

    lua_rawgeti(L, LUA_REGISTRYINDEX, gen->env_ref);
    lua_getfield(L, -1, "on_unload");
    n = (int)lua_objlen(L, -1);
    for (int i = 1; i <= n; i++) {
        struct fae_task *task = fae_task_new(vm, L, gen);

        lua_rawgeti(L, -1, i);
        lua_xmove(L, task->T, 1);
        task->unloading = true;
        task->deadline_ms = vm->o.loop->now_ms + vm->o.config->call_timeout_ms;
        fae_task_queue(task, 0);
    }
    lua_pop(L, 2);
    fae_task_run_queued(vm);
}

static void run_queued(void *vm)
{
    fae_task_run_queued(vm);
}

/* Calls of the old generation finish on it; whatever else it started ends now. */
static void retire(struct fae_generation *gen)
{
    gen->live = false;
    gen->replaced = true;
    fae_observe_generation(gen); /* the configuration may have changed along with it */
    fae_vm_timers_stop(gen);
    for (bool again = true; again;) { /* a task that is doomed may end others: start over after each */
        again = false;
        FAE_LIST_EACH(node, &gen->tasks) {
            struct fae_task *task = FAE_CONTAINER(node, struct fae_task, gen_node);

            if (task->method || task->unloading || task->doomed || task->parent)
                continue;
            fae_task_doom(task, FAE_RELOADED);
            again = true;
            break;
        }
    }
    fae_vm_guard(gen->vm, unload, gen);
    fae_list_add_tail(&gen->vm->old, &gen->node);
}

void fae_vm_configured(struct fae_vm *vm)
{
    fae_memory_configured(vm);
    if (vm->live)
        fae_methods_access(&vm->live->methods, vm->o.access);
    fae_observe_configured(vm);
    if (vm->live)
        fae_methods_limit(&vm->live->methods, vm->o.config, vm->o.gates);
}

void fae_vm_switch(struct fae_vm *vm)
{
    struct fae_generation *old = vm->live, *gen = vm->prepared;

    FAE_ASSERT(gen);
    vm->prepared = NULL;
    vm->live = gen;
    gen->live = true;
    fae_vm_configured(vm);
    FAE_STAT_SET(vm->slot->generation, gen->number);
    fae_vm_timers_start(gen);
    FAE_LIST_EACH(node, &gen->tasks) { /* what was spawned while it loaded */
        struct fae_task *task = FAE_CONTAINER(node, struct fae_task, gen_node);

        fae_task_queue(task, task->n_args);
    }
    fae_vm_guard(vm, run_queued, vm);
    if (old)
        retire(old);
    fae_vm_tick(vm);
}

void fae_vm_tick(struct fae_vm *vm)
{
    unsigned n_old = 0;

    if (!fae_list_empty(&vm->runnable) || !fae_list_empty(&vm->events))
        fae_task_run_more(vm);
    FAE_LIST_EACH(node, &vm->old) {
        struct fae_generation *gen = FAE_CONTAINER(node, struct fae_generation, node);

        if (gen->n_tasks == 0 && fae_list_empty(&vm->runnable)) /* one that is queued may not be counted yet */
            fae_generation_end(&gen);
        else
            n_old += gen->n_tasks;
    }
    FAE_STAT_SET(vm->slot->n_old_calls, n_old);
    FAE_STAT_SET(vm->slot->lua_bytes, vm->memory.bytes);
    /* A small heap is cheap to let grow and dear to walk again and again (3.5 % of an echo, measured). */
    lua_gc(vm->L, LUA_GCSETPAUSE, vm->memory.bytes < SMALL_HEAP ? 400 : 200);
    fae_memory_tick(vm);
    /* Lua itself collects when memory has doubled; near the limit that would be too late. */
    if (vm->memory.bytes > vm->memory.bytes_soft / 4 * 3 &&
        vm->memory.bytes > vm->bytes_collected + vm->memory.bytes_soft / 16)
        fae_vm_collect(vm, 0);
    /* A full heap whose owners are done is not growing: without this only a call that fails would have it collected. */
    else if (vm->memory.bytes > vm->memory.bytes_soft / 4 * 3 && vm->n_gc_steps == 0)
        vm->n_gc_steps = 1;
    /* What an ended generation leaves is collected a little a tick, so that many reloads do not pile up. */
    if (vm->n_gc_steps && !vm->current) {
        vm->n_gc_steps--;
        if (fae_vm_collect(vm, GC_STEP_KIB))
            vm->n_gc_steps = vm->n_gc_steps > GC_STEPS / 2 ? GC_STEPS / 2 : 0; /* one more cycle for what it revived */
    }
}
