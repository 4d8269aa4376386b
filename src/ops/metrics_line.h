/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Lines of Prometheus' text format, and the series of the servers that we call. For metrics.c.
 */
#ifndef FAE_OPS_METRICS_LINE_H
#define FAE_OPS_METRICS_LINE_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct fae_upstreams;

void fae_metrics_begin(struct fae_buf *out, const char *name, const char *type, const char *help);
/* before: "{" or ",". */
void fae_metrics_label(struct fae_buf *out, const char *before, const char *label, const char *value, size_t len);
/* Seconds, by integers: a locale's comma would not be understood. */
const char *fae_metrics_seconds(uint64_t ns, char *buf, size_t size);

/* Sums over workers, at most FAE_UPSTREAMS_MAX servers. */
void fae_metrics_backends(struct fae_upstreams *ups, struct fae_buf *out);

#endif
