/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A worker's LuaJIT state and the generations of servants loaded into it. This folder alone sees lua.h; what lies
 * outside talks to it through this header and through fae_vm_service (rpc/service.h).
 */
#ifndef FAE_VM_VM_H
#define FAE_VM_VM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "base/slot.h"
#include "net/loop.h"
#include "rpc/service.h"
#include "rpc/stats.h"
#include "wire/bundle.h"

struct fae_access;
struct fae_backends;
struct fae_gates;
struct fae_series;
struct fae_slowlog;
struct fae_stores;
struct fae_vm;

struct fae_vm_opts {
    const struct fae_config *config;
    struct fae_loop *loop; /* NULL in a checker: nothing may wait there */
    struct fae_slots *slots;
    unsigned slot;
    struct fae_stats *stats;
    struct fae_slowlog *slowlog;     /* NULL: none */
    struct fae_series *series;       /* of fae.metrics; NULL: they count nothing */
    const struct fae_access *access; /* NULL: everybody may call everything */
    struct fae_gates *gates;         /* NULL: no limits of methods and servants */
    struct fae_stores *stores;       /* NULL: none, as in a checker */
    struct fae_backends *backends;   /* NULL: none, as in a checker */
    /* From a tick, once: this process should be replaced, `why` is a sentence. NULL: nobody can replace it. */
    void (*recycle)(void *arg, const char *why);
    void *recycle_arg;
};

extern const struct fae_service_ops fae_vm_service; /* its `service` argument is the vm */

struct fae_vm *fae_vm_new(const struct fae_vm_opts *opts); /* copies opts; NULL: no memory */
void fae_vm_free(struct fae_vm **vm);

/* Loads a generation beside the one that serves. BAD_SERVANT: `why` gets "file:line: what" lines, nothing has changed.
 * Keeps no pointer into the bundle. */
enum fae_err fae_vm_prepare(struct fae_vm *vm, const struct fae_bundle *bundle, uint32_t generation,
                            struct fae_buf *why);
void fae_vm_switch(struct fae_vm *vm); /* the prepared one serves from now on; the old one ends with its last call */
/* The configuration has changed, and access with it: says of every method what it has to say. A switch does so too. */
void fae_vm_configured(struct fae_vm *vm);
void fae_vm_abort(struct fae_vm *vm); /* the prepared one is dropped */
/* Every FAE_TICK_MS: frees ended generations, keeps the slot's gauges. */
void fae_vm_tick(struct fae_vm *vm);
/* Somebody roused this process (base/mailbox.h): what tasks wait for in the stores may be there. Every tick does so too. */
void fae_vm_woken(struct fae_vm *vm);
/* A collection of Lua's garbage, or a step of so many KiB; true when that step ended a cycle. Finalizers that raise are
 * logged. */
bool fae_vm_collect(struct fae_vm *vm, int step_kib);
/* Async-signal-safe: makes the running Lua code raise TIMEOUT as soon as it is interpreted. */
void fae_vm_interrupt(struct fae_vm *vm);

#endif
