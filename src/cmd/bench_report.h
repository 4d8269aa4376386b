/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The figures of a load: as a table, as one line of JSON, and two such lines side by side.
 */
#ifndef FAE_CMD_BENCH_REPORT_H
#define FAE_CMD_BENCH_REPORT_H

#include <stdio.h>

#include "base/buf.h"
#include "cmd/load.h"

struct fae_bench_run {
    const char *what; /* the method, or what was sent in place of one */
    const struct fae_load_opts *opts;
    const struct fae_load_result *result;
};

void fae_bench_report_table(const struct fae_bench_run *run, FILE *to);
/* Appends the line, without its end. */
void fae_bench_report_json(const struct fae_bench_run *run, struct fae_buf *out);
/* FAE_SYSTEM or FAE_BAD_ARGS with a sentence when a file is not a saved run. */
enum fae_err fae_bench_report_compare(const char *path_a, const char *path_b, FILE *to, char *why_out, size_t why_size);

#endif
