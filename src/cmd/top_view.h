/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What `fae top` shows: two samples of a node's counters, and the difference between them as text or JSON. Pure.
 */
#ifndef FAE_CMD_TOP_VIEW_H
#define FAE_CMD_TOP_VIEW_H

#include <jansson.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/hist.h"
#include "base/limits.h"

struct fae_top_method {
    char *name;
    uint64_t n_calls, n_errors, n_slow;
    uint64_t hist[FAE_HIST_BUCKETS];
};

struct fae_top_sample {
    uint64_t at_ns;
    struct fae_top_method *methods; /* sorted by name */
    unsigned n_methods;
    json_t *stats;                    /* of `fae ctl stats`; NULL: there is none */
    uint64_t cpu_ms[FAE_WORKERS_MAX]; /* that each worker has used; UINT64_MAX: not known */
};

/* Reads what the verbs `stats` and `hist` said. BAD_MESSAGE: that is none. */
enum fae_err fae_top_read(struct fae_top_sample *sample_out, const char *stats, size_t stats_len, const char *hist,
                          size_t hist_len, uint64_t at_ns);
void fae_top_fini(struct fae_top_sample *sample);
/* The process of a worker, 0: none. */
unsigned fae_top_pid(const struct fae_top_sample *sample, unsigned worker);
unsigned fae_top_n_workers(const struct fae_top_sample *sample);

/* Is `now` later in the life of the same node? */
bool fae_top_follows(const struct fae_top_sample *before, const struct fae_top_sample *now);

/* At most so many lines of at most so many characters, each with its end. Without `before`: since the node started. */
void fae_top_text(const struct fae_top_sample *before, const struct fae_top_sample *now, unsigned n_lines,
                  unsigned n_columns, struct fae_buf *out);
/* One line of JSON. */
void fae_top_json(const struct fae_top_sample *before, const struct fae_top_sample *now, struct fae_buf *out);

#endif
