/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of this folder share: the state, its tasks, its generations. Nobody outside includes it.
 *
 * Lua errors jump over C frames, so work on the main state happens inside a guard (one protected call a loop turn), and
 * whoever is being worked on is vm->at_risk: when memory runs out there, that one task fails and the rest goes on.
 */
#ifndef FAE_VM_VM_IMPL_H
#define FAE_VM_VM_IMPL_H

#include <lauxlib.h>
#include <lua.h>

#include "base/list.h"
#include "rpc/session.h"
#include "vm/alloc.h"
#include "vm/method.h"
#include "vm/vm.h"

struct fae_task;

/* One loaded version of the servants. */
struct fae_generation {
    struct fae_vm *vm;
    uint32_t number;
    bool live;     /* serves new calls */
    bool replaced; /* was live once; freed with its last task */
    int env_ref;   /* what the loader returned: hooks, servants, modules */
    struct fae_methods methods;
    struct fae_list tasks; /* that wait, or will be started when it goes live */
    struct fae_list timers;
    unsigned n_tasks;
    struct fae_list node; /* in vm->old */
};

struct fae_vm {
    struct fae_vm_opts o;
    lua_State *L;
    struct fae_lua_memory memory;
    size_t bytes_collected;   /* what the last collection we asked for left */
    int n_gc_steps;           /* still to be done after a generation ended */
    bool draining;            /* runnable tasks are being run */
    struct fae_task *current; /* whose Lua code is running */
    struct fae_task *at_risk;
    struct fae_session *start_session; /* a call that has no task yet, and its request */
    const struct fae_request *start_request;
    struct fae_session *risk_session; /* an answer is being written ... */
    size_t risk_mark;                 /* ... from here on */
    struct fae_buf detail;            /* of the error being answered; kept for the next */
    struct fae_list runnable;
    struct fae_timer more; /* fires at once: there was more to run than one turn's share */
    struct fae_task *free_tasks;
    unsigned n_free_tasks;
    struct fae_generation *live, *prepared, *loading;
    struct fae_list old; /* generations that still have tasks */
    struct fae_slot *slot;
    int call_ref; /* the one `call` object: shows the running task's call */
    volatile int interrupted;
};

/* The vm of a state. */
struct fae_vm *fae_vm_of(lua_State *L);

/* Runs fn(arg) protected; see struct fae_service_ops. One inside another keeps what fails in it from the outer one. */
bool fae_vm_guard(void *vm, void (*fn)(void *), void *arg);

/* The collection that is due when memory ran out, so that whoever runs next can have what the one before left behind. */
void fae_vm_collect_due(struct fae_vm *vm);
/* A collection, or a step of so many KiB; true when that step ended a cycle. Finalizers that raise are logged. */
bool fae_vm_collect(struct fae_vm *vm, int step_kib);

/* The registry key of the err metatable; err objects are {code, message, retryable, ...}. */
void fae_push_err(lua_State *L, enum fae_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* nil, err: for `return fae_nil_err(...)`. */
int fae_nil_err(lua_State *L, enum fae_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Pushes a buffer that Lua owns, so that it is freed whatever raises meanwhile. */
struct fae_buf *fae_push_buf(lua_State *L);

/* generation.c */
void fae_generation_end(struct fae_generation **gen);
/* The generation that Lua code running now belongs to: of the current task, or the one being loaded. */
struct fae_generation *fae_generation_here(struct fae_vm *vm);

/* timer.c: repeating timers of a generation */
void fae_vm_timers_start(struct fae_generation *gen);
void fae_vm_timers_stop(struct fae_generation *gen);

/* The functions that Lua modules reach as require "fae.core": one table a file, one table in all. */
void fae_open_core(lua_State *L); /* pushes the table */
void fae_bind_task(lua_State *L); /* each adds its functions to the table on top */
void fae_bind_timer(lua_State *L);
void fae_bind_log(lua_State *L);
void fae_bind_msgpack(lua_State *L);
void fae_bind_sys(lua_State *L);
void fae_bind_call(lua_State *L);
void fae_bind_method(lua_State *L);

#endif
