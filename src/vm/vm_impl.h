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

struct fae_id_waits;
struct fae_mysql_held;
struct fae_passed;
struct fae_redis_wait;
struct fae_task;

/* One loaded version of the servants. */
struct fae_generation {
    struct fae_vm *vm;
    uint32_t number;
    bool live;           /* serves new calls */
    bool replaced;       /* was live once; freed with its last task */
    bool hears_sessions; /* a plugin wants to know of those that open and close */
    int env_ref;         /* what the loader returned: hooks, servants, modules */
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
    size_t bytes_collected; /* what the last collection we asked for left */
    int n_gc_steps;         /* still to be done after a generation ended */
    /* memory.c */
    uint64_t full_since_ms;   /* since when calls are refused for lack of memory; 0: they are not */
    uint64_t full_told_ms;    /* the last line of the log about it */
    uint64_t collect_next_ms; /* not before then: a collection of a full heap is dear */
    bool failed;              /* allocations failed while it was full */
    bool recycling;           /* this process is being replaced */
    bool hurried;             /* the collector works in whole cycles */
    bool draining;            /* runnable tasks are being run */
    struct fae_task *current; /* whose Lua code is running */
    struct fae_task *at_risk;
    struct fae_session *start_session; /* a call that has no task yet, and its request */
    const struct fae_request *start_request;
    const struct fae_method *entered; /* its gates were passed by a call that has no task yet */
    struct fae_session *risk_session; /* an answer is being written ... */
    size_t risk_mark;                 /* ... from here on */
    struct fae_buf detail;            /* of the error being answered; kept for the next */
    struct fae_list runnable;
    struct fae_timer more; /* fires at once: there was more to run than one turn's share */
    struct fae_task *free_tasks;
    unsigned n_free_tasks;
    struct fae_generation *live, *prepared, *loading;
    struct fae_list old;           /* generations that still have tasks */
    struct fae_list events;        /* of bind_plugin.c */
    struct fae_id_waits *id_waits; /* of bind_id.c; NULL: nobody waited yet */
    struct fae_slot *slot;
    struct fae_worker_stats *stats;
    struct fae_task *started; /* runs for the first time, on behalf of start_request */
    uint64_t sample_left;     /* calls until the next that is sampled */
    uint64_t sample_random;
    uint64_t slow_told_ms;  /* when the log last told of slow calls */
    unsigned n_slow_untold; /* since then */
    int context_keys[3];    /* observe.c: rid reason uid */
    int call_ref;           /* the one `call` object: shows the running task's call */
    volatile int interrupted;
    /* bind_lock.c */
    struct fae_list lock_waits; /* tasks that wait for locks */
    unsigned n_lock_wants_disk; /* of them for numbers from the disk */
    uint32_t locks_handed;      /* to this process, when all of them were looked at last ... */
    uint64_t locks_looked_ms;   /* ... and when a tick was */
    struct {
        uint32_t session, caller, len;
        char text[96];
    } lock_who;                /* made last */
    struct fae_kv_calls *kv;   /* of bind_kv.c; NULL: it never wrote */
    struct fae_passed *passed; /* of bind_breaker.c: by what loads, without a task */
    uint64_t n_passed;
    uint32_t n_unsure;                  /* times that something was cancelled which may have been done */
    struct fae_redis_wait *redis_spare; /* of bind_redis.c */
};

/* The vm of a state. */
struct fae_vm *fae_vm_of(lua_State *L);

/* Runs fn(arg) protected; see struct fae_service_ops. One inside another keeps what fails in it from the outer one. */
bool fae_vm_guard(void *vm, void (*fn)(void *), void *arg);

/* The collection that is due when memory ran out, so that whoever runs next can have what the one before left behind. */
void fae_vm_collect_due(struct fae_vm *vm);

/* The registry key of the err metatable; err objects are {code, message, retryable, ...}. */
void fae_push_err(lua_State *L, enum fae_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* nil, err: for `return fae_nil_err(...)`. */
int fae_nil_err(lua_State *L, enum fae_err code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Pushes a buffer that Lua owns, so that it is freed whatever raises meanwhile. */
struct fae_buf *fae_push_buf(lua_State *L);

/* memory.c: lua_memory_max */
void fae_memory_configured(struct fae_vm *vm);
void fae_memory_watch(struct fae_vm *vm); /* once there is a state */
/* Call it with more than bytes_soft in use. True: the call was answered NO_MEMORY. */
bool fae_memory_refuse(struct fae_vm *vm, struct fae_session *session, const struct fae_request *req);
/* After a full collection: what was refused until now may be taken again, before the next tick. */
void fae_memory_collected(struct fae_vm *vm);
void fae_memory_tick(struct fae_vm *vm);

/* generation.c */
void fae_generation_end(struct fae_generation **gen);
/* The generation that Lua code running now belongs to: of the current task, or the one being loaded. */
struct fae_generation *fae_generation_here(struct fae_vm *vm);

/* timer.c: repeating timers of a generation */
void fae_vm_timers_start(struct fae_generation *gen);
void fae_vm_timers_stop(struct fae_generation *gen);

/* gates.c: a call of a limited method. False: it was refused, and answered. */
bool fae_gates_pass(struct fae_vm *vm, struct fae_session *session, const struct fae_request *request,
                    const struct fae_method *method);
void fae_gates_own(struct fae_task *task);   /* it has a task now, whose they are */
void fae_gates_undo(struct fae_vm *vm);      /* it never will have one */
void fae_gates_leave(struct fae_task *task); /* it was answered */

/* observe.c: slow log, samples, reasons */
void fae_observe_open(lua_State *L);
void fae_observe_configured(struct fae_vm *vm);
void fae_observe_generation(const struct fae_generation *gen); /* the thresholds of its methods, as configured */
void fae_observe_parked(struct fae_task *task);                /* a call waits for the first time */
void fae_observe_waited(struct fae_task *task, uint64_t now);  /* a call that waited has its answer */
/* A call that was slow, or is the next sample, has its answer. code: NULL when that is no error. */
void fae_observe_ended(struct fae_task *task, uint64_t now, const char *code, size_t code_len);
/* A call, or its session, came with this context. */
void fae_observe_context(struct fae_vm *vm, struct fae_session *session, lua_State *L, int context);

/* bind_plugin.c: sessions and calls that plugins hear of. task->watched is set for the three with a task. */
void fae_plugin_session(struct fae_vm *vm, const struct fae_session *session, bool opened);
void fae_plugin_hangup(struct fae_task *task, enum fae_err code);  /* its session is about to go */
void fae_plugin_dropped(struct fae_task *task, enum fae_err code); /* it ends where it stands */
void fae_plugin_forget(struct fae_task *task);                     /* with its generation: nobody is told */
void fae_plugin_run(struct fae_vm *vm);                            /* tells; needs a guard */
void fae_plugin_end(struct fae_generation *gen);

/* The functions that Lua modules reach as require "fae.core": one table a file, one table in all. */
void fae_open_core(lua_State *L); /* pushes the table */
void fae_bind_task(lua_State *L); /* each adds its functions to the table on top */
void fae_bind_timer(lua_State *L);
void fae_bind_log(lua_State *L);
void fae_bind_msgpack(lua_State *L);
void fae_bind_sys(lua_State *L);
void fae_bind_call(lua_State *L);
void fae_bind_method(lua_State *L);
void fae_bind_metrics(lua_State *L);
void fae_bind_plugin(lua_State *L);
void fae_bind_remote(lua_State *L);
void fae_bind_breaker(lua_State *L);
void fae_bind_memcache(lua_State *L);
void fae_bind_mysql(lua_State *L);
void fae_bind_cache(lua_State *L);
void fae_bind_kv(lua_State *L);
void fae_bind_id(lua_State *L);
void fae_bind_lock(lua_State *L);
void fae_bind_gate(lua_State *L);
void fae_bind_redis(lua_State *L);
void fae_bind_redis_conn(lua_State *L);

/* bind_redis_conn.c: what the task borrowed is closed with it. */
void fae_redis_take_back(struct fae_task *task);

/* Looks whether what tasks wait for is there, each at its own; needs no guard. */
void fae_kv_woken(struct fae_vm *vm);
void fae_id_woken(struct fae_vm *vm);
void fae_lock_woken(struct fae_vm *vm);
void fae_kv_forget(struct fae_vm *vm); /* when no task is left */
void fae_redis_forget(struct fae_vm *vm);

void fae_id_end(struct fae_vm *vm); /* when all tasks are gone */

/* bind_breaker.c: what a task was let through and did not tell of, when it ends */
void fae_passed_let_go(struct fae_passed **list, enum fae_err why);

/* bind_mysql_conn.c: connections of a task that ends are closed, with their transactions */
void fae_mysql_held_let_go(struct fae_mysql_held **list);

/* owned.c: locks that end with a session, or a task */
struct fae_owned;
struct fae_lock_ask;
void fae_owned_add(struct fae_vm *vm, struct fae_owned **owned, const struct fae_lock_ask *ask, uint64_t fence);
void fae_owned_drop(struct fae_owned **owned, uint64_t token);      /* it was released */
void fae_owned_let_go(struct fae_vm *vm, struct fae_owned **owned); /* which is no more */

#endif
