/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Counters and latencies in shared memory: one row a method, one block of rows a worker (one writer each, no locks).
 * Names are given out once per node under a mutex, so a method has the same row in every worker and generation.
 */
#ifndef FAE_RPC_STATS_H
#define FAE_RPC_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/shmutex.h"
#include "base/slot.h"

struct fae_method_stats {
    _Atomic uint64_t n_calls; /* answered, errors included */
    _Atomic uint64_t n_errors;
    struct fae_hist latency; /* ns from the message being whole to its answer being made */
};

struct fae_worker_stats {
    _Atomic uint64_t n_notifications;
    _Atomic uint64_t n_bad_messages;
    _Atomic uint64_t n_unknown_methods;
    _Atomic uint64_t n_bytes_in, n_bytes_out;
    struct fae_method_stats methods[FAE_METHODS_MAX];
};

struct fae_stats {
    struct fae_shmutex lock; /* guards names */
    _Atomic uint32_t n_names;
    char names[FAE_METHODS_MAX][FAE_METHOD_NAME_MAX + 1]; /* the last row is "*": methods beyond the table */
    _Alignas(64) struct fae_worker_stats workers[];
};

/* Region functions; arg: pointer to the number of workers (unsigned). */
size_t fae_stats_size(const void *n_workers);
void fae_stats_init(void *mem, const void *n_workers);

/* The row of a method, given out on first sight; the last row when the table is full. */
unsigned fae_stats_row(struct fae_stats *stats, const char *name, size_t len);

/* All of it as one JSON object: node, workers, methods (calls, errors, p50_us, p99_us, max_us). */
void fae_stats_json(const struct fae_stats *stats, const struct fae_slots *slots, struct fae_buf *out);

#endif
