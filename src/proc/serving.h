/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A process that serves calls: loop, Lua state and server put together, with the tick that keeps them going. A worker
 * under the supervisor and --single are both this.
 *
 *     init -> accept -> run ... drain ... run returns
 */
#ifndef FAE_PROC_SERVING_H
#define FAE_PROC_SERVING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "net/loop.h"
#include "proc/shared.h"

struct fae_access;
struct fae_listener;
struct fae_server;
struct fae_vm;

struct fae_serving_opts {
    struct fae_config *config; /* changes with generations, at the same address */
    struct fae_shared *shared;
    unsigned slot; /* me */
    const struct fae_listener *listeners;
    unsigned n_listeners;
    void (*recycle)(void *arg, const char *why); /* as in struct fae_vm_opts */
    void *recycle_arg;
};

struct fae_serving {
    struct fae_serving_opts opts;
    struct fae_slot *slot;
    struct fae_loop loop;
    struct fae_timer tick;
    uint64_t tick_due_ns;
    struct fae_access *access;
    struct fae_backends *backends;
    struct fae_vm *vm;
    struct fae_server *server;
    uint32_t prepared;       /* generation that waits for the switch; 0: none */
    struct fae_config *next; /* its configuration; NULL: as it is */
    bool draining;
    uint64_t drain_until_ms;
};

/* Loads the bundle as `generation`. `why` gets what is wrong with it. */
enum fae_err fae_serving_init(struct fae_serving *s, const struct fae_serving_opts *opts, int bundle_fd,
                              uint32_t generation, struct fae_buf *why);
void fae_serving_fini(struct fae_serving *s);
/* Accepts from now on; the slot is READY. */
void fae_serving_accept(struct fae_serving *s);
/* Runs until drained or fae_loop_stop. */
void fae_serving_run(struct fae_serving *s);

/* The two halves of a reload, and its undoing; switch without a prepared generation is a bug. */
enum fae_err fae_serving_prepare(struct fae_serving *s, int bundle_fd, uint32_t generation, struct fae_buf *why);
void fae_serving_switch(struct fae_serving *s);
void fae_serving_abort(struct fae_serving *s);

/* It was roused, with or without mail. */
void fae_serving_woken(struct fae_serving *s);

/* Async-signal-safe: ends the Lua code that runs, where that can be done. */
void fae_serving_interrupt(void *serving);

/* Finishes what is there and stops the loop, after `within_ms` in any case. */
void fae_serving_drain(struct fae_serving *s, uint64_t within_ms);

#endif
