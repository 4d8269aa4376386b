/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Counters and latencies in shared memory: one row a method, one block of rows a worker (one writer each, no locks).
 * Names are given out once per node under a mutex, so a method has the same row in every worker and generation, and no
 * death or reload loses a count. Gauges of a worker are emptied when its successor starts.
 */
#ifndef FAE_RPC_STATS_H
#define FAE_RPC_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/names.h"
#include "base/shmutex.h"
#include "base/slot.h"
#include "rpc/caller.h"
#include "rpc/limit.h"
#include "store/store.h"

#define FAE_REASONS_MAX 1024u /* a power of two */
#define FAE_REASON_TEXT 64    /* bytes of a reason; what is longer is cut */

/* A histogram with the sum of its values. */
struct fae_timing {
    _Atomic uint64_t ns;
    struct fae_hist hist;
};

struct fae_method_stats {
    _Atomic uint64_t n_calls; /* answered, errors included */
    _Atomic uint64_t n_errors;
    _Atomic uint64_t ns;       /* the sum of latency */
    _Atomic uint64_t wait_ns;  /* of that, parked: what is left is its Lua code running */
    _Atomic uint64_t n_slow;   /* longer than slow_ms says */
    _Atomic uint64_t n_lost;   /* with a worker that died */
    _Atomic uint32_t n_parked; /* in flight: calls that wait. A gauge */
    struct fae_hist latency;   /* ns from the call's beginning to its answer being made; not how long it was queued */
};

struct fae_worker_stats {
    _Atomic uint64_t n_notifications;
    _Atomic uint64_t n_bad_messages;
    _Atomic uint64_t n_unknown_methods;
    _Atomic uint64_t n_forbidden, n_unauthorized; /* calls and notifications that no role allows; wrong tokens */
    _Atomic uint64_t n_bytes_in, n_bytes_out;
    _Atomic uint64_t n_errors[FAE_ERR_COUNT + 1];   /* told to clients, by code; the last row: a servant's own codes */
    _Atomic uint64_t n_limit_hits[FAE_LIMIT_COUNT]; /* rpc/limit.h */
    _Atomic uint64_t n_sampled;                     /* in the slow log though they were quick */
    _Atomic uint64_t n_collections, collect_ns; /* of Lua's garbage, those that we asked for: whole ones, and time */
    _Atomic uint64_t lag_last_ns;               /* a gauge */
    struct fae_timing lag;                      /* how late the loop's tick of FAE_TICK_MS came */
    struct fae_timing turn;                     /* a turn of the loop that ran calls: run and send */
    _Atomic uint64_t n_reasons[FAE_REASONS_MAX + 1]; /* by row of reasons; the last row: no room for their names */
    struct fae_method_stats methods[FAE_METHODS_MAX];
};

struct fae_stats {
    struct fae_shmutex lock; /* guards names */
    _Atomic uint32_t n_names;
    char names[FAE_METHODS_MAX][FAE_METHOD_NAME_MAX + 1]; /* the last row is "*": methods beyond the table */
    struct fae_guesses guesses;
    _Alignas(64) unsigned char reasons[FAE_NAMES_BYTES(FAE_REASONS_MAX, FAE_REASON_TEXT)]; /* struct fae_names */
    _Alignas(64) struct fae_worker_stats workers[];
};

/* Region functions; arg: pointer to the number of workers (unsigned). */
size_t fae_stats_size(const void *n_workers);
void fae_stats_init(void *mem, const void *n_workers);

/* The row of a method, given out on first sight; the last row when the table is full. */
unsigned fae_stats_row(struct fae_stats *stats, const char *name, size_t len);

/* A worker starts: the gauges were its predecessor's, and what was in flight is lost. */
void fae_stats_reap(struct fae_stats *stats, unsigned slot);

/* One more rid for which that reason was given. Runs of digits in it count as `?`, so that ids in it make no rows. */
void fae_stats_reason(struct fae_stats *stats, unsigned slot, const char *reason, size_t len);

static inline void fae_timing_add(struct fae_timing *t, uint64_t ns)
{
    FAE_STAT_ADD(t->ns, ns);
    fae_hist_add(&t->hist, ns);
}

/* An error that was told to a client. Codes that are not in the table are a servant's own. */
static inline void fae_stats_error(struct fae_worker_stats *w, enum fae_err code)
{
    FAE_STAT_ADD(w->n_errors[code], 1);
}

/* All of it as one JSON object, documented in servants/README.md. */
void fae_stats_json(const struct fae_stats *stats, const struct fae_slots *slots, const struct fae_stores *stores,
                    struct fae_buf *out);

/* ---- sums over workers, for whoever shows them ---- */

/* Rows that have a name: 0 to this - 1; and the last row, FAE_METHODS_MAX - 1. */
unsigned fae_stats_n_rows(const struct fae_stats *stats);

struct fae_method_sum {
    uint64_t n_calls, n_errors, n_slow, n_lost, n_parked, ns, wait_ns;
};
void fae_stats_sum_method(const struct fae_stats *stats, unsigned n_workers, unsigned row, struct fae_method_sum *sum);

struct fae_node_sum {
    uint64_t n_errors[FAE_ERR_COUNT + 1], n_limit_hits[FAE_LIMIT_COUNT];
    uint64_t n_slow, n_sampled;
};
void fae_stats_sum_node(const struct fae_stats *stats, unsigned n_workers, struct fae_node_sum *sum);

static inline const struct fae_names *fae_stats_reasons(const struct fae_stats *stats)
{
    return (const struct fae_names *)stats->reasons;
}

/* Rows are those of fae_stats_reasons, and FAE_REASONS_MAX: what found no room. */
uint64_t fae_stats_sum_reason(const struct fae_stats *stats, unsigned n_workers, unsigned row);

/* "ready"; what makes no sense is "dead". */
const char *fae_stats_state(uint32_t slot_state);

#endif
