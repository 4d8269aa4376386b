/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Percentiles over one or several histograms.
 */
#include "base/hist.h"

uint64_t fae_hist_quantile(const struct fae_hist *const *h, unsigned n, double share)
{
    uint64_t sum[FAE_HIST_BUCKETS] = { 0 }, total = 0, seen = 0;

    for (unsigned i = 0; i < n; i++)
        for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++) {
            uint64_t v = FAE_STAT_GET(h[i]->n[b]);

            sum[b] += v;
            total += v;
        }
    if (total == 0)
        return 0;
    for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++) {
        seen += sum[b];
        if ((double)seen >= share * (double)total)
            return fae_hist_bound(b);
    }
    return fae_hist_bound(FAE_HIST_BUCKETS - 1);
}
