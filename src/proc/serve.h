/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae serve`, as the command line asked for it.
 */
#ifndef FAE_PROC_SERVE_H
#define FAE_PROC_SERVE_H

#include <stdbool.h>

#include "base/limits.h"

#define FAE_SERVE_FLAGS_MAX 16

/* Where a node listens that was not told otherwise. */
#define FAE_DEFAULT_TCP "tcp://127.0.0.1:9001"
#define FAE_DEFAULT_UNIX "unix:fae.sock"

struct fae_serve_opts {
    const char *conf_path; /* NULL: every option has its default */
    bool single;
    unsigned n_flags; /* options given on the command line, which win over the file */
    struct {
        const char *option, *value;
    } flags[FAE_SERVE_FLAGS_MAX];
    unsigned n_listen; /* more than 0: instead of the file's */
    const char *listen[FAE_LISTENERS_MAX];
};

/* Runs a node until it is told to stop. Returns the exit code; errors at start are on stderr. */
int fae_supervisor_run(const struct fae_serve_opts *opts);
/* The same with one worker in this process. */
int fae_single_run(const struct fae_serve_opts *opts);

#endif
