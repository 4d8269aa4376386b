/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One thread of a load: epoll, some connections. Each sends its calls as one batch and the next batch when all are
 * answered, with one recv and one send a readiness, so that it costs the least a client can cost. Without a rate the
 * loop is closed: the next batch goes at once. With one it is open: calls fall due by the clock, and go in order over
 * the connections that are free.
 */
#ifndef FAE_CMD_LOADER_H
#define FAE_CMD_LOADER_H

#include <stdatomic.h>

#include "cmd/load.h"

struct fae_loader;

/* What another thread may read while the loader runs. */
struct fae_loader_counts {
    _Atomic uint64_t n_sent, n_ok, n_failed;
};

/* The loader number `index` of opts->threads, with its connections open: FAE_UNAVAILABLE or FAE_SYSTEM with a sentence
 * when that fails. opts and stop (ends the run early) must outlive it. */
enum fae_err fae_loader_new(struct fae_loader **loader_out, const struct fae_load_opts *opts, unsigned index,
                            const atomic_bool *stop, char *why_out, size_t why_size);
/* Makes the load; `began` is in ticks and the same for all loaders of a run. */
void fae_loader_run(struct fae_loader *loader, uint64_t began);
void fae_loader_free(struct fae_loader **loader);

const struct fae_loader_counts *fae_loader_counts(const struct fae_loader *loader);
/* Lent for the loader's life. While it runs, only the latencies may be read. */
const struct fae_load_result *fae_loader_result(const struct fae_loader *loader);

#endif
