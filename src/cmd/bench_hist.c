/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sums and percentiles of latencies.
 */
#include "cmd/bench_hist.h"

#include <stddef.h>

/* The least value that falls behind the bucket, in ns. */
static uint64_t bound(unsigned bucket)
{
    return bucket < 64 ? (uint64_t)(bucket + 1) << 4 : (uint64_t)(64 + bucket % 64 + 1) << (bucket / 64 + 3);
}

void fae_bench_hist_merge(struct fae_bench_hist *into, const struct fae_bench_hist *from)
{
    uint64_t max_ns = FAE_STAT_GET(from->max_ns);

    for (unsigned b = 0; b < FAE_BENCH_HIST_BUCKETS; b++)
        FAE_STAT_ADD(into->n[b], FAE_STAT_GET(from->n[b]));
    FAE_STAT_ADD(into->sum_ns, FAE_STAT_GET(from->sum_ns));
    if (max_ns > FAE_STAT_GET(into->max_ns))
        FAE_STAT_SET(into->max_ns, max_ns);
}

static uint64_t count_in(const struct fae_bench_hist *h, const struct fae_bench_hist *before, unsigned bucket)
{
    return FAE_STAT_GET(h->n[bucket]) - (before ? FAE_STAT_GET(before->n[bucket]) : 0);
}

static uint64_t count(const struct fae_bench_hist *h, const struct fae_bench_hist *before)
{
    uint64_t n = 0;

    for (unsigned b = 0; b < FAE_BENCH_HIST_BUCKETS; b++)
        n += count_in(h, before, b);
    return n;
}

uint64_t fae_bench_hist_count(const struct fae_bench_hist *h)
{
    return count(h, NULL);
}

uint64_t fae_bench_hist_quantile(const struct fae_bench_hist *h, const struct fae_bench_hist *before, double share)
{
    uint64_t total = count(h, before), max_ns = FAE_STAT_GET(h->max_ns), seen = 0;

    if (total == 0)
        return 0;
    for (unsigned b = 0; b < FAE_BENCH_HIST_BUCKETS - 1; b++) {
        seen += count_in(h, before, b);
        if ((double)seen >= share * (double)total)
            return bound(b) < max_ns ? bound(b) : max_ns;
    }
    return max_ns;
}
