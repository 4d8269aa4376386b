/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What is done when Lua's memory runs short.
 *
 *   0 ------------------- lua_memory_max ------- and a quarter more
 *     calls are taken      refused NO_MEMORY      allocations fail
 *
 * The collector hurries as soon as lua_memory_max is passed, so that garbage alone makes nothing fail; before a call is
 * refused a full collection is tried, as long as that does not cost more than a tenth of the time. What is left then is
 * in use. When that lasts nothing but a new process helps: the worker is replaced after FULL_MS, and sooner when
 * allocations fail. A call that ran into the upper limit by itself gives its memory back when it ends: then it alone has
 * failed.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "vm/vm_impl.h"

#define FULL_MS 5000   /* of a full heap, until the worker is replaced */
#define FAILED_MS 1000 /* the same, when allocations fail: one in compiled code may kill the process (LuaJIT) */
#define STEPMUL 200    /* LuaJIT's own */
#define COLLECT_SHARE 10
#define COLLECT_PAUSE_MS 20
#define TOLD_MS 1000 /* between two lines of the log */
#define RETRY_AFTER_MS 1000

/* The collector may be far behind a call that makes much garbage quickly: from here on it does all of a cycle at once.
 * Called from inside the allocator: this only sets two numbers that the collector reads. */
static void hurry_collector(struct fae_lua_memory *m)
{
    struct fae_vm *vm = FAE_CONTAINER(m, struct fae_vm, memory);

    lua_gc(vm->L, LUA_GCSETSTEPMUL, 0);
    lua_gc(vm->L, LUA_GCRESTART, 0);
    vm->hurried = true;
}

static void relax_collector(struct fae_vm *vm)
{
    if (!vm->hurried)
        return;
    vm->hurried = false;
    lua_gc(vm->L, LUA_GCSETSTEPMUL, STEPMUL);
}

void fae_memory_configured(struct fae_vm *vm)
{
    uint64_t left = vm->o.slots ? vm->o.slots->lua_max : UINT64_MAX, asked = vm->o.config->lua_memory_max;
    size_t soft = asked < left ? asked : left, hard = soft + soft / 4;

    if (vm->memory.bytes_soft != soft || vm->memory.bytes_max != hard)
        fae_lua_memory_limit(&vm->memory, soft, hard);
}

void fae_memory_watch(struct fae_vm *vm)
{
    vm->memory.on_tight = hurry_collector;
}

static double mib(size_t bytes)
{
    return (double)bytes / FAE_MIB;
}

static void collect(struct fae_vm *vm, uint64_t now_ms)
{
    if (now_ms < vm->collect_next_ms)
        return;
    fae_vm_collect(vm, 0);
    vm->collect_next_ms = now_ms + COLLECT_PAUSE_MS + (fae_now_ms() - now_ms) * COLLECT_SHARE;
}

static void tell(struct fae_vm *vm, uint64_t now_ms)
{
    if (vm->full_told_ms && now_ms < vm->full_told_ms + TOLD_MS)
        return;
    vm->full_told_ms = now_ms;
    FAE_WARN("Lua code holds %.1f MiB, lua_memory_max is %.1f MiB: new calls are refused", mib(vm->memory.bytes),
             mib(vm->memory.bytes_soft));
}

static void set_full(struct fae_vm *vm, bool full, uint64_t now_ms)
{
    uint32_t bits = FAE_STAT_GET(vm->slot->overloaded);

    if (full == (vm->full_since_ms != 0))
        return;
    vm->full_since_ms = full ? now_ms : 0;
    FAE_STAT_SET(vm->slot->overloaded, full ? bits | FAE_OVERLOADED_MEMORY : bits & ~FAE_OVERLOADED_MEMORY);
    if (full)
        tell(vm, now_ms);
}

static bool is_full(struct fae_vm *vm, uint64_t now_ms)
{
    if (vm->memory.bytes > vm->memory.bytes_soft)
        collect(vm, now_ms);
    set_full(vm, vm->memory.bytes > vm->memory.bytes_soft, now_ms);
    return vm->full_since_ms != 0;
}

void fae_memory_collected(struct fae_vm *vm)
{
    if (vm->full_since_ms && vm->memory.bytes <= vm->memory.bytes_soft)
        set_full(vm, false, 0);
}

bool fae_memory_refuse(struct fae_vm *vm, struct fae_session *session, const struct fae_request *req)
{
    if (!is_full(vm, fae_now_ms()))
        return false;
    fae_session_refuse(session, req, FAE_NO_MEMORY, FAE_LIMIT_memory, RETRY_AFTER_MS);
    return true;
}

void fae_memory_tick(struct fae_vm *vm)
{
    uint64_t now_ms = fae_now_ms(), lasted_ms;
    char why[160];

    if (vm->memory.failed) {
        vm->memory.failed = false;
        vm->failed = true;
    }
    if (!is_full(vm, now_ms)) {
        vm->failed = false;
        relax_collector(vm);
        return;
    }
    lasted_ms = now_ms - vm->full_since_ms;
    if (vm->recycling || lasted_ms < (vm->failed ? FAILED_MS : FULL_MS))
        return;
    tell(vm, now_ms);
    if (!vm->o.recycle)
        return;
    vm->recycling = true;
    snprintf(why, sizeof why, "Lua code has held %.1f MiB for %" PRIu64 " ms, lua_memory_max is %.1f MiB",
             mib(vm->memory.bytes), lasted_ms, mib(vm->memory.bytes_soft));
    vm->o.recycle(vm->o.recycle_arg, why);
}
