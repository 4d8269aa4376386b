/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The jobs of a checker that concern servants: reads the folders once into a bundle, compiles it and lets it check
 * itself. Runs in a checker only, since servants run code while they load.
 */
#ifndef FAE_PROC_SERVANTS_H
#define FAE_PROC_SERVANTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "proc/serve.h"
#include "wire/bundle.h"

/* Reads servants_dir and lua_dir. BAD_SERVANT: `why` gets a "file:line: what" line for each file that cannot be read. */
enum fae_err fae_servants_read(const struct fae_config *config, struct fae_buf *bundle_out, struct fae_buf *why);
/* Loads the bundle into a Lua state of its own. BAD_SERVANT: lines in `why`. */
enum fae_err fae_servants_check(const struct fae_config *config, const struct fae_bundle *bundle, uint32_t generation,
                                struct fae_buf *why);

/* A fae_checker_fn: fills the memfd from the disk, or takes what it holds; then checks it. The bundle carries the
 * configuration too, if the node has a file for it. OK: out has a line for each thing in it that is another. */
enum fae_servants_from {
    FAE_SERVANTS_START,  /* the disk; the configuration was read just now */
    FAE_SERVANTS_RELOAD, /* the disk, and the configuration's file anew */
    FAE_SERVANTS_KEPT,   /* the memfd */
};
struct fae_servants_job {
    const struct fae_config *config; /* that the node runs with */
    const struct fae_serve_opts *opts;
    int fd;
    enum fae_servants_from from;
    uint32_t generation;
};
enum fae_err fae_servants_job(void *job, struct fae_buf *why);

#endif
