/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What servants count (fae.metrics): counters, gauges and histograms by labels, in shared memory. A family is one
 * declared metric, a child one set of label values of it; a child has one cell a worker (a histogram's one a bucket,
 * its sum and its count), which that worker alone writes. Cells are given out once and outlive workers and
 * generations; there are metrics_series_max of them, and what is beyond is counted and left out.
 */
#ifndef FAE_RPC_SERIES_H
#define FAE_RPC_SERIES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

#define FAE_SERIES_FAMILIES_MAX 512
#define FAE_SERIES_LABELS_MAX 8
#define FAE_SERIES_BOUNDS_MAX 24
#define FAE_SERIES_NAME_MAX 100
#define FAE_SERIES_LABEL_MAX 40
#define FAE_SERIES_HELP_MAX 200
#define FAE_SERIES_VALUES_MAX 250 /* bytes of a child's label values, with two more for each; longer ones are cut */
#define FAE_SERIES_NONE UINT32_MAX

enum fae_series_kind { FAE_SERIES_COUNTER, FAE_SERIES_GAUGE, FAE_SERIES_HISTOGRAM };

struct fae_series_family {
    char name[FAE_SERIES_NAME_MAX + 1];
    char help[FAE_SERIES_HELP_MAX + 1];
    uint32_t kind; /* enum fae_series_kind */
    uint32_t n_labels, n_bounds;
    char labels[FAE_SERIES_LABELS_MAX][FAE_SERIES_LABEL_MAX + 1];
    double bounds[FAE_SERIES_BOUNDS_MAX]; /* of a histogram's buckets, rising; the last bucket has none */
};

struct fae_series;

/* Region functions; arg: const struct fae_series_arg *. */
struct fae_series_arg {
    unsigned n_workers;
    uint32_t cells_max; /* metrics_series_max */
};
size_t fae_series_size(const void *arg);
void fae_series_init(void *mem, const void *arg);

/* A metric of this name, kind, labels and bounds, which are sound: its row is the same ever after. FAE_SERIES_NONE: too
 * many. Another declaration of a name is another family, and the one declared last is shown. */
uint32_t fae_series_declare(struct fae_series *series, const struct fae_series_family *family);

struct fae_series_value {
    const char *text;
    size_t len;
};
/* The first cell of a child; values: one a label of the family. FAE_SERIES_NONE: there is no room. */
uint32_t fae_series_child(struct fae_series *series, uint32_t family, const struct fae_series_value *values);

/* A worker's own. Gauges that were never set are not shown, so a gauge's zero is kept as -0.0. */
_Atomic double *fae_series_cells(struct fae_series *series, unsigned slot);
/* Counts in the child that starts at the cell (histogram: the value's bucket, sum and count). */
void fae_series_add(struct fae_series *series, unsigned slot, uint32_t cell, double by);
void fae_series_set(struct fae_series *series, unsigned slot, uint32_t cell, double to);
void fae_series_observe(struct fae_series *series, unsigned slot, uint32_t cell, const struct fae_series_family *family,
                        double value);
/* Something was left out. */
void fae_series_drop(struct fae_series *series, unsigned slot);
/* A worker starts: its gauges were its predecessor's. */
void fae_series_reap(struct fae_series *series, unsigned slot);

/* ---- reading, from anywhere at any time ---- */

uint32_t fae_series_n_families(const struct fae_series *series);
/* NULL while it is being written, and when another of its name was declared later. */
const struct fae_series_family *fae_series_family(const struct fae_series *series, uint32_t family);
uint32_t fae_series_n_children(const struct fae_series *series);
/* The family and label values of a child, and its first cell; false when it has none yet. */
bool fae_series_read_child(const struct fae_series *series, uint32_t child, uint32_t *family_out, uint32_t *cell_out,
                           struct fae_series_value values_out[FAE_SERIES_LABELS_MAX], unsigned *n_out);
double fae_series_value(const struct fae_series *series, unsigned slot, uint32_t cell);
uint64_t fae_series_dropped(const struct fae_series *series);
uint32_t fae_series_n_cells(const struct fae_series *series);

#endif
