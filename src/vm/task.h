/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A task: one coroutine with what C knows of it. A call is a task, and so are the pieces of fae.parallel, spawned
 * functions and the ticks of timers. Coroutines are pooled: a task that never waits makes none and costs no allocation.
 *
 *   running --wait--> parked --resume, from the loop--> running ... --returns, raises--> finished
 *                       | doomed (deadline, hang-up, reload): cancel, resume once with nil, err
 *   A doomed task gets one such answer so that it can tidy up; when it waits again it is dropped where it stands, so that
 *   no loop and no pcall outlives its call.
 */
#ifndef FAE_VM_TASK_H
#define FAE_VM_TASK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"
#include "rpc/access.h"

struct fae_generation;
struct fae_mysql_held;
struct fae_passed;
struct fae_owned;
struct fae_redis_lent;
struct fae_method;
struct fae_session;
struct fae_vm;
struct fae_vm_timer;
struct fae_watched;

/* Ends a pending operation without resuming its task. */
typedef void (*fae_task_cancel_fn)(void *arg);
/* Pushes an operation's results and returns how many; may raise for lack of memory. */
typedef int (*fae_task_push_fn)(lua_State *L, void *arg);

struct fae_task {
    struct fae_vm *vm;
    lua_State *T; /* NULL: to be made */
    int ref;      /* anchors T */
    struct fae_task *next_free;
    struct fae_generation *gen;
    const struct fae_method *method; /* NULL: not a call */
    struct fae_session *session;     /* NULL: not a call, or its client is gone */
    uint32_t msgid;
    bool notification;
    bool linked; /* in gen->tasks, counted, and in its session's calls */
    bool parked; /* has a pending operation */
    bool queued; /* in vm->runnable */
    bool told;   /* was answered nil, err once after it was doomed */
    bool dropping;
    bool joining;   /* waits for its children */
    uint8_t depth;  /* of fae.parallel inside fae.parallel */
    bool unloading; /* an on_unload hook: outlives the switch it belongs to */
    enum fae_err doomed;
    int n_args; /* on T, for the resume that is queued */
    int context_ref;
    bool limited;                /* a call that passed gates, and will leave them */
    int16_t gates[2];            /* these; -1: none */
    struct fae_caller caller;    /* of a call, and of what it started; no roles: of nobody */
    uint64_t ticks, deadline_ms; /* deadline 0: none */
    uint64_t got_ticks;          /* of a call: when it was received */
    uint64_t began_ticks;        /* of a call: when it was resumed last; 0 while it waits */
    uint64_t run_ticks;          /* of a call: how long it ran up to where it waited last */
    uint8_t *args;               /* of a call that waits: the first bytes of its params. Kept for the next */
    uint32_t n_args_kept, args_cap;
    fae_task_cancel_fn cancel;
    void *cancel_arg;
    struct fae_timer deadline, sleep;
    struct fae_list gen_node, call_node, run_node, child_node;
    struct fae_list children;
    struct fae_task *parent;
    struct fae_vm_timer *timer;        /* whose tick this is */
    struct fae_watched *watched;       /* a call that plugins hear of (bind_plugin.c); NULL in the pool */
    struct fae_owned *owned;           /* locks that end with it */
    struct fae_redis_lent *lent;       /* connections that it borrowed and did not give back */
    struct fae_passed *passed;         /* calls that breakers let through */
    struct fae_mysql_held *mysql_held; /* connections that it borrowed */
};

/* Makes sure that the next fae_task_new cannot raise, and lends the coroutine it will have. Raises on L itself. */
lua_State *fae_task_ready(struct fae_vm *vm, lua_State *L);
/* A task of the generation, from the pool; raises on L for lack of memory (when a coroutine must be made). */
struct fae_task *fae_task_new(struct fae_vm *vm, lua_State *L, struct fae_generation *gen);
/* Resumes with n values that are on T; handles its end. Needs a guard. */
void fae_task_run(struct fae_task *task, int n);
/* Puts it behind those that run next; n values are on T. */
void fae_task_queue(struct fae_task *task, int n);
/* Runs what is queued, a turn's share of it. Needs a guard. */
void fae_task_run_queued(struct fae_vm *vm);
/* The rest, in a later turn; brings its own guard. */
void fae_task_run_more(void *vm);

/* For bindings that wait: the task that runs, or NULL and the number to return at once (*n_out: nil, err of a doomed
 * task). Raises unless L is a task that can yield here. */
struct fae_task *fae_task_may_wait(lua_State *L, int *n_out);
/* The last thing a binding does: `return fae_task_wait(...)`. */
int fae_task_wait(struct fae_task *task, fae_task_cancel_fn cancel, void *arg);
/* For a cancel function: what it cancels may have been done nevertheless. The task hears UNKNOWN where TIMEOUT or RELOADED
 * would say that it may be tried again. */
void fae_task_unsure(struct fae_task *task);
/* From the loop: the operation is over. */
void fae_task_resume(struct fae_task *task, fae_task_push_fn push, void *arg);

/* Deadline, hang-up, reload: cancels what it waits for. Its children go with it. */
void fae_task_doom(struct fae_task *task, enum fae_err code);
/* The registry's reference to the context it runs with: the call's own, or its session's. LUA_NOREF: none. */
int fae_task_context(const struct fae_task *task);
/* Frees the pool. */
void fae_task_free_pool(struct fae_vm *vm);
/* Ends a task that never ran or was cut: answers `code` if someone waits. */
void fae_task_fail(struct fae_task *task, enum fae_err code, const char *text);
/* Frees a task with its coroutine, whatever it was doing, telling nobody. */
void fae_task_discard(struct fae_task *task);

/* service.c: the end of a call. */
void fae_call_answer(struct fae_task *task);                    /* results are on T */
void fae_call_answer_raised(struct fae_task *task, int status); /* the error object is on T */
void fae_call_answer_code(struct fae_task *task, enum fae_err code, const char *text);

#endif
