/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The configuration a node runs with: what the file says, then the command line, which wins, and for what only a start
 * can change the value of the start. A generation's bundle carries it as rows, so that it is checked, committed, rolled
 * back and loaded by a worker that starts later together with the servants.
 */
#ifndef FAE_PROC_RUNCONF_H
#define FAE_PROC_RUNCONF_H

#include <stddef.h>

#include "base/buf.h"
#include "base/config.h"
#include "base/err.h"
#include "proc/serve.h"
#include "wire/bundle.h"

#define FAE_RUNCONF_PATH "conf" /* of the rows in a bundle */

/* Reads the file, in a checker that is waited for. BAD_CONFIG: `why` gets a line for each error, config has some of it. */
enum fae_err fae_runconf_read(struct fae_config *config, const char *path, struct fae_buf *why);
/* Sets what the command line gave. BAD_CONFIG: `why` gets a line for each thing that does not fit. */
enum fae_err fae_runconf_flags(struct fae_config *config, const struct fae_serve_opts *opts, struct fae_buf *why);
/* The command line's listeners instead of the file's; the default ones when there are none at all. */
void fae_runconf_listeners(struct fae_config *config, const struct fae_serve_opts *opts);

/* In a checker: reads the file anew. next_out (not initialised) becomes what a node that runs with `now` would run with,
 * and text gets a line for each difference. BAD_CONFIG: text has what is wrong, next_out is not to be used. */
enum fae_err fae_runconf_reread(struct fae_config *next_out, const struct fae_serve_opts *opts,
                                const struct fae_config *now, struct fae_buf *text);

void fae_runconf_store(struct fae_buf *bundle, const struct fae_config *config);
/* What the bundle carries, into next_out (not initialised). NOT_FOUND: nothing; BAD_CONFIG: why_out tells. */
enum fae_err fae_runconf_load(struct fae_config *next_out, const struct fae_bundle *bundle, char *why_out,
                              size_t why_size);
/* The same from a bundle's memfd and onto the heap: *next_out is NULL when it carries none. */
enum fae_err fae_runconf_load_fd(struct fae_config **next_out, int fd, char *why_out, size_t why_size);
/* Makes it the running one, which keeps its address; frees it. Accepts NULL. */
void fae_runconf_adopt(struct fae_config *running, struct fae_config **next);
void fae_runconf_free(struct fae_config **config);

#endif
