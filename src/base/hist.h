/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Latency histogram: four buckets an octave from 128 ns to over a minute, so a percentile is at most 25 % too high.
 * One writer; anyone may read at any time, hence the relaxed atomics.
 */
#ifndef FAE_BASE_HIST_H
#define FAE_BASE_HIST_H

#include <stdatomic.h>
#include <stdint.h>

#define FAE_HIST_BUCKETS 120

struct fae_hist {
    _Atomic uint64_t n[FAE_HIST_BUCKETS];
};

/* Adds to a counter that only this process writes: no locked instruction needed. */
#define FAE_STAT_ADD(counter, by)                                                                                      \
    atomic_store_explicit(&(counter), atomic_load_explicit(&(counter), memory_order_relaxed) + (by),                   \
                          memory_order_relaxed)
#define FAE_STAT_GET(counter) atomic_load_explicit(&(counter), memory_order_relaxed)
#define FAE_STAT_SET(counter, to) atomic_store_explicit(&(counter), (to), memory_order_relaxed)

static inline unsigned fae_hist_bucket(uint64_t ns)
{
    unsigned octave, bucket;

    if (ns < 128)
        return 0;
    octave = 63u - (unsigned)__builtin_clzll(ns);
    bucket = (octave - 7) * 4 + (unsigned)((ns >> (octave - 2)) & 3) + 1;
    return bucket < FAE_HIST_BUCKETS ? bucket : FAE_HIST_BUCKETS - 1;
}

/* The least value that falls behind the bucket, in ns. */
static inline uint64_t fae_hist_bound(unsigned bucket)
{
    return bucket == 0 ? 128 : (uint64_t)(4 + (bucket - 1) % 4 + 1) << (5 + (bucket - 1) / 4);
}

static inline void fae_hist_add(struct fae_hist *h, uint64_t ns)
{
    FAE_STAT_ADD(h->n[fae_hist_bucket(ns)], 1);
}

/* The bound, in ns, below which `share` (0 to 1) of the values lie; 0 when there are none. Sums n histograms. */
uint64_t fae_hist_quantile(const struct fae_hist *const *h, unsigned n, double share);

#endif
