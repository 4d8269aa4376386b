/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Tasks: the one place that yields and the one place that resumes.
 */
#include "vm/task.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "vm/vm_impl.h"

#define RUN_MAX 1000    /* queued tasks run before the loop turns: a task that spawns itself must not hold it */
#define LOGGED_MAX 2000 /* bytes of an error's text: what follows it must have room in the line */

static void on_deadline(void *arg);

static struct fae_task *make_task(struct fae_vm *vm)
{
    struct fae_task *task = fae_zalloc(sizeof *task);

    task->vm = vm;
    task->ref = LUA_NOREF;
    return task;
}

lua_State *fae_task_ready(struct fae_vm *vm, lua_State *L)
{
    struct fae_task *task = vm->free_tasks;
    lua_State *T;

    if (!task) {
        task = vm->free_tasks = make_task(vm); /* in the pool, so that nothing is lost if the next lines raise */
        vm->n_free_tasks++;
        fae_list_init(&task->children);
        fae_list_init(&task->child_node);
        fae_list_init(&task->run_node);
    }
    if (!task->T) {
        T = lua_newthread(L);
        task->ref = luaL_ref(L, LUA_REGISTRYINDEX); /* may raise: T is not the task's before it is anchored */
        task->T = T;
    }
    return task->T;
}

struct fae_task *fae_task_new(struct fae_vm *vm, lua_State *L, struct fae_generation *gen)
{
    struct fae_task *task;

    fae_task_ready(vm, L);
    task = vm->free_tasks;
    vm->free_tasks = task->next_free;
    vm->n_free_tasks--;
    task->gen = gen;
    task->method = NULL;
    task->session = NULL;
    task->linked = task->parked = task->queued = task->told = task->dropping = task->joining = task->unloading = false;
    task->depth = 0;
    task->doomed = FAE_OK;
    task->context_ref = LUA_NOREF;
    task->caller = (struct fae_caller){ 0 };
    task->limited = false;
    task->deadline_ms = 0;
    task->cancel = NULL;
    task->parent = NULL;
    task->timer = NULL;
    return task;
}

/* Counts a task that will not end within this resume. */
static void link_task(struct fae_task *task)
{
    struct fae_vm *vm = task->vm;

    if (task->linked)
        return;
    if (task->method) {
        fae_observe_parked(task);
        FAE_STAT_ADD(vm->stats->methods[task->method->stats_row].n_parked, 1);
    }
    task->linked = true;
    task->gen->n_tasks++;
    fae_list_add_tail(&task->gen->tasks, &task->gen_node);
    if (task->session)
        fae_session_began(task->session, &task->call_node);
    if (task->deadline_ms) {
        fae_timer_init(&task->deadline, vm->o.loop, on_deadline, task);
        fae_timer_start_at(&task->deadline, task->deadline_ms);
    }
}

/* From here on a call waits. */
static void stop_clock(struct fae_task *task)
{
    if (!task->method)
        return;
    task->run_ticks += fae_ticks() - task->began_ticks;
    task->began_ticks = 0;
}

static void unlink_task(struct fae_task *task)
{
    task->linked = false;
    if (task->method)
        FAE_STAT_ADD(task->vm->stats->methods[task->method->stats_row].n_parked, (uint32_t)-1);
    task->gen->n_tasks--;
    fae_list_del(&task->gen_node);
    if (task->session)
        fae_session_ended(task->session, &task->call_node);
    if (task->deadline_ms)
        fae_timer_stop(&task->deadline);
}

static void drop_thread(struct fae_task *task)
{
    luaL_unref(task->vm->L, LUA_REGISTRYINDEX, task->ref);
    task->T = NULL;
    task->ref = LUA_NOREF;
}

/* Back into the pool. */
static void release(struct fae_task *task)
{
    struct fae_vm *vm = task->vm;

    if (task->linked)
        unlink_task(task);
    if (task->context_ref != LUA_NOREF)
        luaL_unref(vm->L, LUA_REGISTRYINDEX, task->context_ref);
    if (task->queued)
        fae_list_del(&task->run_node);
    if (__builtin_expect(task->owned != NULL, 0))
        fae_owned_let_go(vm, &task->owned);
    if (__builtin_expect(task->lent != NULL, 0))
        fae_redis_take_back(task);
    if (__builtin_expect(task->passed != NULL, 0))
        fae_passed_let_go(&task->passed, task->doomed);
    if (__builtin_expect(task->mysql_held != NULL, 0))
        fae_mysql_held_let_go(&task->mysql_held);
    if (vm->n_free_tasks >= FAE_SPARE_TASKS) {
        if (task->T)
            drop_thread(task);
        free(task->args);
        free(task);
        return;
    }
    task->session = NULL;
    task->next_free = vm->free_tasks;
    vm->free_tasks = task;
    vm->n_free_tasks++;
}

void fae_task_discard(struct fae_task *task)
{
    if (task->parked && task->cancel)
        task->cancel(task->cancel_arg);
    if (task->watched)
        fae_plugin_forget(task);
    fae_list_del(&task->child_node);
    FAE_LIST_EACH(node, &task->children) {
        FAE_CONTAINER(node, struct fae_task, child_node)->parent = NULL;
        fae_list_del(node);
    }
    if (task->T)
        drop_thread(task);
    release(task);
}

void fae_task_free_pool(struct fae_vm *vm)
{
    while (vm->free_tasks) {
        struct fae_task *task = vm->free_tasks;

        vm->free_tasks = task->next_free;
        free(task->args);
        free(task);
    }
}

/* ---- the end ---- */

/* A child of fae.parallel is through: its parent may go on when it was the last. */
static void leave_parent(struct fae_task *task)
{
    struct fae_task *parent = task->parent;

    fae_list_del(&task->child_node);
    task->parent = NULL;
    if (!parent->joining || !fae_list_empty(&parent->children))
        return;
    parent->joining = parent->parked = false;
    parent->cancel = NULL;
    lua_pushboolean(parent->T, 1);
    fae_task_queue(parent, 1);
}

static void unsure(struct fae_task *task)
{
    if (task->doomed == FAE_TIMEOUT || task->doomed == FAE_RELOADED)
        task->doomed = FAE_UNKNOWN;
}

/* What a child may have done, its parent may have done. */
static void doom_children(struct fae_task *task, enum fae_err code)
{
    uint32_t n_unsure = task->vm->n_unsure;

    while (!fae_list_empty(&task->children)) {
        struct fae_task *child = FAE_CONTAINER(task->children.next, struct fae_task, child_node);

        fae_list_del(&child->child_node);
        child->parent = NULL;
        fae_task_doom(child, code);
    }
    if (task->vm->n_unsure != n_unsure)
        unsure(task);
}

static void log_raised(struct fae_task *task, int status)
{
    lua_State *L = task->vm->L;
    int top = lua_gettop(L);
    const char *what = task->method ? task->method->name : task->timer ? "timer" : "spawned task";
    struct fae_log_field fields[2] = { { "task", what, strlen(what) }, { .key = "trace" } };
    const char *text;
    size_t len;

    if (status == LUA_ERRMEM) {
        FAE_ERROR("%s: out of Lua memory (%zu bytes in use, lua_memory_max is %zu)", what, task->vm->memory.bytes,
                  task->vm->memory.bytes_soft);
        return;
    }
    luaL_traceback(L, task->T, NULL, 0);
    fields[1].text = lua_tolstring(L, -1, &fields[1].len);
    if (lua_type(task->T, -1) == LUA_TSTRING)
        text = lua_tostring(task->T, -1);
    else
        text = lua_pushfstring(L, "the error object is a %s", luaL_typename(task->T, -1));
    len = strlen(text);
    fae_log_fields(FAE_LOG_ERROR, text, len < LOGGED_MAX ? len : LOGGED_MAX, fields, 2);
    lua_settop(L, top);
}

/* A table with a code is an error on purpose; anything else is a bug in the servant. */
static bool raised_on_purpose(lua_State *T)
{
    bool is;

    if (lua_type(T, -1) != LUA_TTABLE)
        return false;
    lua_pushliteral(T, "code");
    lua_rawget(T, -2);
    is = lua_type(T, -1) == LUA_TSTRING;
    lua_pop(T, 1);
    return is;
}

static void finish(struct fae_task *task, int status)
{
    struct fae_vm *vm = task->vm;

    vm->at_risk = task;
    if (status == 0) {
        if (task->method)
            fae_call_answer(task);
        lua_settop(task->T, 0);
    } else {
        if (!raised_on_purpose(task->T))
            log_raised(task, status);
        if (task->watched)
            fae_plugin_dropped(task, status == LUA_ERRMEM ? FAE_NO_MEMORY : FAE_INTERNAL);
        if (task->method)
            fae_call_answer_raised(task, status);
        drop_thread(task);
    }
    vm->at_risk = NULL;
    if (!fae_list_empty(&task->children))
        doom_children(task, FAE_CANCELLED);
    if (task->parent)
        leave_parent(task);
    release(task);
}

void fae_task_fail(struct fae_task *task, enum fae_err code, const char *text)
{
    if (task->watched)
        fae_plugin_dropped(task, code);
    if (task->method)
        fae_call_answer_code(task, code, text);
    doom_children(task, FAE_CANCELLED);
    if (task->parent)
        leave_parent(task);
    fae_task_discard(task);
}

/* ---- running ---- */

void fae_task_run(struct fae_task *task, int n)
{
    struct fae_vm *vm = task->vm;
    struct fae_task *before = vm->current;
    int status;

    vm->current = task;
    if (task->linked && task->method)
        task->began_ticks = fae_ticks();
    FAE_STAT_SET(vm->slot->method, task->method ? task->method->stats_row + 1 : 0);
    status = lua_resume(task->T, n);
    vm->current = before;
    if (__builtin_expect(vm->interrupted, 0)) {
        lua_sethook(vm->L, NULL, 0, 0);
        vm->interrupted = 0;
    }
    if (status != LUA_YIELD) {
        finish(task, status);
    } else if (task->dropping) {
        fae_task_fail(task, task->doomed, fae_err_text(task->doomed));
    } else if (!task->parked && !task->queued) {
        FAE_ERROR("%s: coroutine.yield outside a coroutine of its own",
                  task->method ? task->method->name : "spawned task");
        fae_task_fail(task, FAE_INTERNAL, "coroutine.yield outside a coroutine of its own");
    } else {
        link_task(task);
        stop_clock(task);
    }
    fae_vm_collect_due(vm);
}

int fae_task_context(const struct fae_task *task)
{
    if (task->context_ref == LUA_NOREF && task->session && task->session->service_ref)
        return task->session->service_ref;
    return task->context_ref;
}

void fae_task_queue(struct fae_task *task, int n)
{
    FAE_ASSERT(!task->queued);
    task->queued = true;
    task->n_args = n;
    fae_list_add_tail(&task->vm->runnable, &task->run_node);
}

void fae_task_run_queued(struct fae_vm *vm)
{
    for (unsigned n = 0; !fae_list_empty(&vm->runnable); n++) {
        struct fae_task *task = FAE_CONTAINER(vm->runnable.next, struct fae_task, run_node);

        if (n == RUN_MAX) {
            fae_timer_start(&vm->more, 0);
            return;
        }
        fae_list_del(&task->run_node);
        task->queued = false;
        fae_task_run(task, task->n_args);
    }
}

static void run_rest(void *vm)
{
    fae_plugin_run(vm);
    fae_task_run_queued(vm);
}

void fae_task_run_more(void *vm)
{
    fae_vm_guard(vm, run_rest, vm);
}

/* ---- waiting ---- */

struct fae_task *fae_task_may_wait(lua_State *L, int *n_out)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_task *task = vm->current;

    if (!task)
        luaL_error(L, "this function waits, and nothing may wait while servants load");
    if (task->T != L)
        luaL_error(L, "this function waits, and a coroutine of one's own cannot: use fae.spawn or fae.parallel");
    if (!lua_isyieldable(L))
        luaL_error(L, "this function waits, and cannot be called from inside a C function (sort, gsub, a metamethod)");
    if (!task->doomed && task->deadline_ms && vm->o.loop->now_ms >= task->deadline_ms)
        task->doomed = FAE_TIMEOUT;
    if (!task->doomed)
        return task;
    if (task->told) {
        task->dropping = true;
        *n_out = lua_yield(L, 0);
        return NULL;
    }
    task->told = true;
    *n_out = fae_nil_err(L, task->doomed, "%s", fae_err_text(task->doomed));
    return NULL;
}

int fae_task_wait(struct fae_task *task, fae_task_cancel_fn cancel, void *arg)
{
    FAE_ASSERT(!task->parked);
    task->parked = true;
    task->cancel = cancel;
    task->cancel_arg = arg;
    return lua_yield(task->T, 0);
}

struct wake {
    struct fae_task *task;
    fae_task_push_fn push;
    void *arg;
};

static void wake(void *arg)
{
    struct wake *w = arg;
    struct fae_task *task = w->task;
    struct fae_vm *vm = task->vm;
    int n;

    n = w->push(vm->L, w->arg); /* on the main state: only there may it raise */
    vm->at_risk = NULL;
    lua_xmove(vm->L, task->T, n);
    fae_task_run(task, n);
    fae_task_run_queued(vm);
}

void fae_task_resume(struct fae_task *task, fae_task_push_fn push, void *arg)
{
    struct fae_vm *vm = task->vm;
    struct wake w = { task, push, arg };

    FAE_ASSERT(task->parked);
    task->parked = task->joining = false;
    task->cancel = NULL;
    vm->at_risk = task; /* from here on nobody else would end it */
    if (!fae_vm_guard(vm, wake, &w))
        while (!fae_vm_guard(vm, run_rest, vm))
            continue;
}

/* ---- the end before the end ---- */

static int push_doom(lua_State *L, void *arg)
{
    enum fae_err *code = arg;

    return fae_nil_err(L, *code, "%s", fae_err_text(*code));
}

void fae_task_doom(struct fae_task *task, enum fae_err code)
{
    if (task->doomed)
        return;
    task->doomed = code;
    doom_children(task, code);
    if (!task->parked)
        return; /* it learns of it when it waits next */
    if (task->cancel)
        task->cancel(task->cancel_arg);
    task->told = true;
    fae_task_resume(task, push_doom, &task->doomed);
}

void fae_task_unsure(struct fae_task *task)
{
    task->vm->n_unsure++;
    unsure(task);
}

static void on_deadline(void *arg)
{
    fae_task_doom(arg, FAE_TIMEOUT);
}
