/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A state and a loop for specs. The driver in Lua, lua/fae/testing.lua, runs as a task of the live generation.
 */
#include "vm/test.h"

#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>

#include "backend/backends.h"
#include "base/mailbox.h"
#include "store/store.h"
#include "vm/embed.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

struct run {
    struct fae_vm *vm;
    struct fae_backends *backends;
    const struct fae_test_opts *opts;
    struct fae_timer tick;
    bool ended;
    int code;
};

static struct run *run_of(lua_State *L)
{
    struct run *run = lua_touserdata(L, lua_upvalueindex(1));

    return run;
}

/* finish(code): called by the driver when busted is through */
static int l_finish(lua_State *L)
{
    struct run *run = run_of(L);

    run->code = luaL_checkint(L, 1);
    run->ended = true;
    return 0;
}

static void push_driver(lua_State *L)
{
    for (unsigned i = 0; i < fae_embed_n_files; i++)
        if (strcmp(fae_embed_files[i].path, "lua/fae/testing.lua") == 0)
            if (luaL_loadbuffer(L, fae_embed_files[i].body, fae_embed_files[i].len, "@lua/fae/testing.lua"))
                lua_error(L);
}

/* driver(loaded, finish, args) as a task. */
static void start(void *arg)
{
    struct run *run = arg;
    struct fae_vm *vm = run->vm;
    lua_State *L = vm->L;
    struct fae_task *task = fae_task_new(vm, L, vm->live);

    if (!run->opts->jit)
        luaJIT_setmode(L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    if (run->opts->gc_stress) {
        lua_gc(L, LUA_GCSETPAUSE, 1);
        lua_gc(L, LUA_GCSETSTEPMUL, 10000);
    }
    push_driver(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, vm->live->env_ref);
    lua_getfield(L, -1, "loaded");
    lua_remove(L, -2);
    lua_pushlightuserdata(L, run);
    lua_pushcclosure(L, l_finish, 1);
    lua_createtable(L, run->opts->argc, 0);
    for (int i = 0; i < run->opts->argc; i++) {
        lua_pushstring(L, run->opts->argv[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_xmove(L, task->T, 4);
    fae_task_run(task, 3);
    fae_task_run_queued(vm);
}

static bool after_turn(void *arg)
{
    struct run *run = arg;

    fae_vm_tick(run->vm);
    if (run->ended || run->vm->live->n_tasks == 0)
        fae_loop_stop(run->vm->o.loop);
    return false;
}

/* The stores rouse us when something is done. */
static void on_roused(int fd, short what, void *arg)
{
    struct run *run = arg;

    (void)fd;
    (void)what;
    fae_mail_quiet(run->vm->o.stores->mail);
    fae_vm_woken(run->vm);
}

static void tick(void *arg)
{
    struct run *run = arg;

    fae_backends_tick(run->backends);
    fae_vm_woken(run->vm);
    fae_timer_start(&run->tick, FAE_TICK_MS);
}

static void run_specs(struct run *run, struct fae_loop *loop)
{
    struct fae_watch roused = { 0 };

    fae_vm_switch(run->vm);
    loop->after_turn = after_turn;
    loop->arg = run;
    if (fae_watch_open(&roused, loop, fae_mail_fd(run->vm->o.stores->mail), FAE_READABLE, on_roused, run) != FAE_OK)
        return;
    fae_timer_init(&run->tick, loop, tick, run);
    fae_timer_start(&run->tick, FAE_TICK_MS);
    fae_vm_guard(run->vm, start, run);
    if (!run->ended && run->vm->live->n_tasks)
        fae_loop_run(loop);
    fae_timer_stop(&run->tick);
    fae_watch_close(&roused);
    if (!run->ended)
        fprintf(stderr, "fae test: the specs ended before their time\n");
}

static struct fae_backends *new_backends(const struct fae_test_opts *opts, struct fae_loop *loop)
{
    struct fae_backends_opts backends = { .loop = loop,
                                          .config = opts->vm.config,
                                          .upstreams = opts->upstreams,
                                          .slot = opts->vm.slot,
                                          .n_workers = opts->vm.slots->n_workers,
                                          .results_max = opts->vm.slots->results_max };

    return fae_backends_new(&backends);
}

int fae_vm_test(const struct fae_test_opts *opts)
{
    struct run run = { .opts = opts, .code = 1 };
    struct fae_vm_opts vm = opts->vm;
    struct fae_buf why = { 0 };
    struct fae_loop loop;

    if (fae_loop_init(&loop) != FAE_OK)
        return 1;
    vm.loop = &loop;
    run.backends = vm.backends = new_backends(opts, &loop);
    fae_backends_configured(run.backends);
    run.vm = fae_vm_new(&vm);
    if (!run.vm || fae_vm_prepare(run.vm, opts->bundle, 1, &why) != FAE_OK)
        fprintf(stderr, "%s", why.len ? fae_buf_text(&why) : "no Lua state\n");
    else
        run_specs(&run, &loop);
    fflush(NULL);
    fae_vm_free(&run.vm);
    fae_backends_free(&run.backends);
    fae_loop_fini(&loop);
    fae_buf_fini(&why);
    return run.code;
}
