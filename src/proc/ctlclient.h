/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The other end of fae.ctl, for command-line tools: asks one thing and waits for the whole answer.
 */
#ifndef FAE_PROC_CTLCLIENT_H
#define FAE_PROC_CTLCLIENT_H

#include "base/buf.h"
#include "base/err.h"

/* Sends `line` to the node that runs in run_dir. OK or the node's own error: text_out has the lines of the answer, and
 * last_out what follows OK or the code. UNAVAILABLE: no node there, and CLOSED: it went away; last_out says so. */
enum fae_err fae_ctl_ask(const char *run_dir, const char *line, struct fae_buf *text_out, struct fae_buf *last_out);
/* The same, then waits until the node is gone. */
enum fae_err fae_ctl_stop(const char *run_dir, struct fae_buf *text_out, struct fae_buf *last_out);

#endif
