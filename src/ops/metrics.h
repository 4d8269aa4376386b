/* SPDX-License-Identifier: BSD-2-Clause
 *
 * /metrics: everything that is counted, in Prometheus' text format. It only reads shared memory: no worker is asked,
 * none waits, and what one writes meanwhile is in this scrape or in the next.
 */
#ifndef FAE_OPS_METRICS_H
#define FAE_OPS_METRICS_H

#include "base/buf.h"
#include "base/mailbox.h"
#include "base/slot.h"
#include "rpc/series.h"
#include "rpc/slowlog.h"
#include "rpc/stats.h"
#include "store/store.h"

/* Methods that have series of their own; those that came later are summed as "*". With 20 series a method, a scrape has
 * at most so many lines whatever servants do. */
#define FAE_METRICS_METHODS 256

/* Of its content. */
#define FAE_METRICS_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct fae_upstreams;

struct fae_metrics_source {
    const struct fae_slots *slots;
    const struct fae_stats *stats;
    const struct fae_series *series;   /* of fae.metrics; NULL: none */
    const struct fae_slowlog *slowlog; /* NULL: none */
    void *log_rings;                   /* fae_log_ring; NULL: none */
    const struct fae_mailboxes *mail;  /* NULL: none */
    const struct fae_stores *stores;   /* NULL: none */
    struct fae_upstreams *upstreams;   /* NULL: none */
};

/* Appends the whole text. Labels are escaped, series capped. */
void fae_metrics_text(const struct fae_metrics_source *source, struct fae_buf *out);

#endif
