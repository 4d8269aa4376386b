/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of a worker process under the supervisor.
 */
#ifndef FAE_PROC_WORKER_H
#define FAE_PROC_WORKER_H

#include "proc/serving.h"

struct fae_worker_opts {
    struct fae_serving_opts serving;
    int life;      /* our end */
    int bundle_fd; /* committed; taken */
    uint32_t generation;
};

#define FAE_WORKER_RECYCLED 75 /* exit code: another takes my place; the log says why */

/* Runs after the fork, with nothing open that is not the worker's. Returns the exit code. */
int fae_worker_main(const struct fae_worker_opts *opts);

#endif
