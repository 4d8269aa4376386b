/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The slot table in shared memory: one row a process. A slot outlives the processes that fill it; each of those is an
 * incarnation. Whatever a process holds for others to see is stamped (slot, incarnation), so that it can be reaped.
 * Slots 0 to n_workers-1 are workers, then ops, then the supervisor.
 */
#ifndef FAE_BASE_SLOT_H
#define FAE_BASE_SLOT_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

enum fae_slot_state {
    FAE_SLOT_DEAD,     /* nobody there: before the first start, or between two */
    FAE_SLOT_STARTING, /* forked, loading */
    FAE_SLOT_READY,    /* serving */
    FAE_SLOT_DRAINING, /* finishing its calls */
};

/* Who may come in: the supervisor says, workers look every tick. */
enum fae_doors {
    FAE_DOORS_OPEN,
    FAE_DOORS_CLOSED, /* by an operator: new connections are refused, idle ones closed, calls in flight go on */
    FAE_DOORS_STOPPING,
};

#define FAE_SLOT_TRACE 4096

/* Why a worker refuses, as bits; /readyz tells. */
#define FAE_OVERLOADED_CONGESTED 1u /* calls wait too long */
#define FAE_OVERLOADED_FDS 2u       /* no descriptors are left */
#define FAE_OVERLOADED_MEMORY 4u    /* its Lua code holds lua_memory_max, or what base/memlimit.h leaves of it */

struct fae_slot {
    /* The supervisor writes these. */
    _Atomic uint32_t pid;
    _Atomic uint32_t incarnation; /* 1 for the first; raised at every fork */
    _Atomic uint32_t n_deaths;
    /* The process itself writes these. */
    _Atomic uint32_t state;        /* enum fae_slot_state; the supervisor sets DEAD and STARTING */
    _Atomic uint32_t generation;   /* of the servants it serves */
    _Atomic uint64_t heartbeat_ms; /* monotonic time of its last loop turn */
    _Atomic uint32_t method;       /* row of the method that is running, + 1; 0 when none */
    _Atomic uint32_t asleep;       /* waits in the kernel for something to do */
    _Atomic uint32_t n_sessions;
    _Atomic uint32_t n_calls;    /* in flight */
    _Atomic uint64_t n_accepted; /* sessions ever */
    _Atomic uint32_t overloaded; /* FAE_OVERLOADED_ bits: why it refuses calls or connections */
    _Atomic uint64_t in_bytes;   /* of memory that input takes which waits, most of it for the rest of a message */
    _Atomic uint64_t out_bytes;  /* of memory that unread answers take */
    _Atomic uint64_t lua_bytes;
    _Atomic uint32_t n_old_calls;  /* calls and tasks still on replaced generations */
    _Atomic uint64_t n_mail_stale; /* mail for an earlier incarnation, dropped */
    /* Left by a signal handler for the log: why and where it was stuck or crashed. Zero length: nothing. */
    _Atomic uint32_t trace_len;
    char trace[FAE_SLOT_TRACE];
};

struct fae_slots {
    uint32_t n_workers;
    uint64_t started_ms;         /* monotonic */
    uint64_t started_wall_ms;    /* since 1970 */
    _Atomic uint32_t generation; /* committed */
    _Atomic uint32_t log_level;  /* enum fae_log_level, of every process */
    _Atomic uint32_t doors;      /* enum fae_doors */
    /* What the memory there is leaves of lua_memory_max and mysql_results_max (a worker's), of in_max and out_max. */
    uint64_t lua_max, results_max, io_max;
    _Alignas(64) struct fae_slot slots[FAE_SLOTS_MAX];
};

static inline unsigned fae_slot_ops(const struct fae_slots *t)
{
    return t->n_workers;
}

static inline unsigned fae_slot_supervisor(const struct fae_slots *t)
{
    return t->n_workers + 1;
}

/* "worker-0", "ops", "supervisor"; into name (16 bytes at least), which is returned. */
char *fae_slot_name(const struct fae_slots *t, unsigned slot, char *name);

/* arg of the region's functions: pointer to the number of workers (unsigned). */
size_t fae_slots_size(const void *n_workers);
void fae_slots_init(void *mem, const void *n_workers);

#endif
