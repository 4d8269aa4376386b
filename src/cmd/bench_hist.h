/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Latencies of a load, finer than base/hist: 64 buckets an octave from 1 us to over two minutes, so that a percentile
 * is at most 1.6 % too high and two runs can be compared. One writer; another thread may read meanwhile.
 */
#ifndef FAE_CMD_BENCH_HIST_H
#define FAE_CMD_BENCH_HIST_H

#include <stdint.h>

#include "base/hist.h"

#define FAE_BENCH_HIST_BUCKETS (64 * 28) /* below 1,024 ns in steps of 16, then 27 octaves */

struct fae_bench_hist {
    _Atomic uint64_t sum_ns, max_ns;
    _Atomic uint64_t n[FAE_BENCH_HIST_BUCKETS];
};

static inline unsigned fae_bench_hist_bucket(uint64_t ns)
{
    unsigned octave, bucket;

    if (ns < 1024)
        return (unsigned)(ns >> 4);
    octave = 63u - (unsigned)__builtin_clzll(ns);
    bucket = (octave - 9) * 64 + (unsigned)((ns >> (octave - 6)) & 63);
    return bucket < FAE_BENCH_HIST_BUCKETS ? bucket : FAE_BENCH_HIST_BUCKETS - 1;
}

/* Counts `by` calls that took ns each. */
static inline void fae_bench_hist_add(struct fae_bench_hist *h, uint64_t ns, uint64_t by)
{
    FAE_STAT_ADD(h->n[fae_bench_hist_bucket(ns)], by);
    FAE_STAT_ADD(h->sum_ns, ns * by);
    if (ns > FAE_STAT_GET(h->max_ns))
        FAE_STAT_SET(h->max_ns, ns);
}

void fae_bench_hist_merge(struct fae_bench_hist *into, const struct fae_bench_hist *from);
uint64_t fae_bench_hist_count(const struct fae_bench_hist *h);
/* The bound, in ns, below which `share` (0 to 1) of the values lie, and never above the highest of them; 0 when there
 * are none. `before` (may be NULL): an earlier state of h, whose values do not count. */
uint64_t fae_bench_hist_quantile(const struct fae_bench_hist *h, const struct fae_bench_hist *before, double share);

#endif
