/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: ids. Lua takes them through ffi (lua/fae/id.lua, store/idgen.h); here is what it does when there are none:
 * the task waits until there may be, and tries again. Who waits stands in one line a process; the next millisecond is
 * told by a timer of microseconds (the loop's own are of milliseconds, in which 4,096 ids would be lost each), the disk
 * by its thread, which rouses us, and a clock that was set back by either.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "store/idgen.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define WAIT_MAX_MS 5000 /* for a clock that was set back, and for a disk */
#define RETRY_MS 1000    /* the writer tries again after that */

struct fae_id_waits {
    struct fae_vm *vm;
    struct fae_list line; /* of struct waiter, the one who came first ahead */
    struct fae_watch alarm;
    int alarm_fd; /* timerfd; -1: there is none, and ticks have to do */
};

struct waiter {
    struct fae_list node;
    struct fae_task *task;
    uint64_t until_ms; /* monotonic */
};

/* Why one may wait no longer; OK: he may. */
static enum fae_err verdict_error(const struct fae_id_wait *wait, uint64_t left_ms)
{
    switch (wait->verdict) {
    case FAE_ID_READY:
    case FAE_ID_FULL: return FAE_OK;
    case FAE_ID_DISK: return wait->error ? wait->error : left_ms ? FAE_OK : FAE_TIMEOUT;
    case FAE_ID_BACK: return wait->wait_ns / 1000000 < left_ms ? FAE_OK : FAE_CLOCK_BACK;
    case FAE_ID_RANGE: return FAE_SYSTEM;
    }
    return FAE_INTERNAL;
}

/* ---- the answer ---- */

struct outcome {
    struct fae_vm *vm;
    struct fae_id_wait wait;
    enum fae_err err; /* OK: there may be ids now */
};

static void set_retry(lua_State *L, uint64_t ms)
{
    lua_pushnumber(L, (double)ms);
    lua_setfield(L, -2, "retry_after_ms");
}

static int push_outcome(lua_State *L, void *arg)
{
    const struct outcome *o = arg;
    uint64_t back_ms = o->wait.wait_ns / 1000000 + 1;

    if (!o->err) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (o->wait.verdict == FAE_ID_BACK) {
        fae_nil_err(L, o->err, "the clock is %llu ms behind the last id", (unsigned long long)back_ms);
        set_retry(L, back_ms);
    } else if (o->wait.verdict == FAE_ID_RANGE) {
        fae_nil_err(L, o->err, "no id can have the time that the clock shows");
    } else {
        fae_nil_err(L, o->err, "ids cannot be reserved on disk: %s", fae_err_text(o->err));
        set_retry(L, RETRY_MS);
    }
    return 2;
}

static void count_refusal(struct fae_vm *vm, enum fae_err err)
{
    if (err == FAE_CLOCK_BACK)
        FAE_STAT_ADD(fae_ids_cell(vm->o.stores)->n_back, 1);
}

/* ---- the line ---- */

static void set_alarm(struct fae_id_waits *waits, uint64_t after_ns)
{
    struct itimerspec at = { .it_value = { (time_t)(after_ns / 1000000000), (long)(after_ns % 1000000000) } };

    if (waits->alarm_fd >= 0)
        timerfd_settime(waits->alarm_fd, 0, &at, NULL);
}

/* The first in the line goes, with what became of it. */
static void let_go(struct waiter *w, struct outcome *o)
{
    struct fae_task *task = w->task;

    fae_list_del(&w->node);
    free(w);
    count_refusal(o->vm, o->err);
    fae_task_resume(task, push_outcome, o);
}

void fae_id_woken(struct fae_vm *vm)
{
    struct fae_id_waits *waits = vm->id_waits;
    struct fae_list line;
    uint64_t now_ms;

    if (!waits || fae_list_empty(&waits->line))
        return;
    now_ms = fae_now_ms();
    fae_list_init(&line);
    fae_list_splice(&line, &waits->line); /* who comes meanwhile stands behind those who are here */
    while (!fae_list_empty(&line)) {
        struct waiter *w = FAE_CONTAINER(line.next, struct waiter, node);
        struct outcome o = { .vm = vm };

        fae_ids_look(vm->o.stores, &o.wait);
        o.err = verdict_error(&o.wait, w->until_ms > now_ms ? w->until_ms - now_ms : 0);
        if (!o.err && o.wait.verdict != FAE_ID_READY) {
            if (o.wait.wait_ns)
                set_alarm(waits, o.wait.wait_ns);
            break;
        }
        let_go(w, &o);
    }
    fae_list_splice(&line, &waits->line);
    fae_list_splice(&waits->line, &line);
}

static void on_alarm(int fd, short what, void *arg)
{
    struct fae_id_waits *waits = arg;
    uint64_t n;

    (void)what;
    if (read(fd, &n, sizeof n) == (ssize_t)sizeof n)
        fae_id_woken(waits->vm);
}

static struct fae_id_waits *waits_of(struct fae_vm *vm)
{
    struct fae_id_waits *waits = vm->id_waits;

    if (waits)
        return waits;
    vm->id_waits = waits = fae_zalloc(sizeof *waits);
    waits->vm = vm;
    fae_list_init(&waits->line);
    waits->alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (waits->alarm_fd >= 0 &&
        fae_watch_open(&waits->alarm, vm->o.loop, waits->alarm_fd, FAE_READABLE, on_alarm, waits)) {
        close(waits->alarm_fd);
        waits->alarm_fd = -1;
    }
    return waits;
}

void fae_id_end(struct fae_vm *vm)
{
    struct fae_id_waits *waits = vm->id_waits;

    vm->id_waits = NULL;
    if (!waits)
        return;
    fae_watch_close(&waits->alarm);
    if (waits->alarm_fd >= 0)
        close(waits->alarm_fd);
    free(waits);
}

static void cancel(void *arg)
{
    struct waiter *w = arg;

    fae_list_del(&w->node);
    free(w);
}

static int park(struct fae_task *task, const struct fae_id_wait *wait, uint64_t left_ms)
{
    struct fae_id_waits *waits = waits_of(task->vm);
    struct waiter *w = fae_zalloc(sizeof *w);

    w->task = task;
    w->until_ms = fae_now_ms() + left_ms;
    if (fae_list_empty(&waits->line) && wait->wait_ns)
        set_alarm(waits, wait->wait_ns);
    fae_list_add_tail(&waits->line, &w->node);
    FAE_STAT_ADD(fae_ids_cell(task->vm->o.stores)->n_waits[wait->verdict], 1);
    return fae_task_wait(task, cancel, w);
}

/* ---- functions ---- */

/* id_wait() -> true: there may be ids now | nil, err. There were none; waits. */
static int l_id_wait(lua_State *L)
{
    struct outcome o = { .vm = fae_vm_of(L) };
    struct fae_task *task = o.vm->current;
    uint64_t left_ms = WAIT_MAX_MS, now_ms = fae_now_ms();
    int status;

    fae_ids_look(o.vm->o.stores, &o.wait);
    if (task && task->deadline_ms && task->deadline_ms < now_ms + left_ms)
        left_ms = task->deadline_ms > now_ms ? task->deadline_ms - now_ms : 1;
    o.err = verdict_error(&o.wait, left_ms);
    if (o.err || o.wait.verdict == FAE_ID_READY) {
        count_refusal(o.vm, o.err);
        return push_outcome(L, &o);
    }
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    return park(task, &o.wait, left_ms);
}

/* id_split(decimal) -> ms, tag, node, seq | nil: no id is that number */
static int l_id_split(lua_State *L)
{
    struct fae_id_parts parts;
    const char *decimal = luaL_checkstring(L, 1);
    long long id;

    errno = 0;
    id = strtoll(decimal, NULL, 10);
    if (errno || !fae_ids_split(fae_vm_of(L)->o.stores->ids, id, &parts)) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushnumber(L, (double)parts.ms);
    lua_pushnumber(L, parts.tag);
    lua_pushnumber(L, parts.node);
    lua_pushnumber(L, parts.seq);
    return 4;
}

/* id_stores() -> what the functions of ffi take, and the highest tag; nothing where there are no stores */
static int l_id_stores(lua_State *L)
{
    struct fae_stores *stores = fae_vm_of(L)->o.stores;

    if (!stores)
        return 0;
    lua_pushlightuserdata(L, stores);
    lua_pushnumber(L, stores->ids->tag_max);
    return 2;
}

static const luaL_Reg functions[] = {
    { "id_wait", l_id_wait },
    { "id_split", l_id_split },
    { "id_stores", l_id_stores },
    { NULL, NULL },
};

void fae_bind_id(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
