/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The life of the ops process; what it does is src/ops.
 */
#ifndef FAE_PROC_OPS_MAIN_H
#define FAE_PROC_OPS_MAIN_H

#include "base/config.h"
#include "proc/shared.h"

struct fae_ops_opts {
    struct fae_config *config; /* changes with generations, at the same address */
    struct fae_shared *shared;
    unsigned slot; /* me */
    int life;      /* our end */
    int log_fd;
    int admin_fd;                  /* listens; -1: no admin */
    struct fae_tls_ctx *admin_tls; /* borrowed; NULL: plain */
};

/* Runs after the fork. Returns the exit code. */
int fae_ops_main(const struct fae_ops_opts *opts);

#endif
