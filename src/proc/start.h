/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The order of a node's start, up to the first fork of a child that stays:
 *
 *     config -> run folder and pid file -> listeners, admin, log file -> shared memory -> servants -> drop privileges
 *
 * A step that fails prints why on stderr; nothing is left behind then.
 */
#ifndef FAE_PROC_START_H
#define FAE_PROC_START_H

/* How log_file is opened. */
#define FAE_LOG_OPEN_FLAGS (O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK)
#define FAE_LOG_OPEN_MODE 0640

struct fae_node;
struct fae_serve_opts;

/* Returns 0, or the exit code. On failure node is as after fae_start_undo. */
int fae_start(struct fae_node *node, const struct fae_serve_opts *opts);
/* Closes and removes what fae_start made. */
void fae_start_undo(struct fae_node *node);
/* The one line that says the node serves, and an example to paste. */
void fae_start_announce(const struct fae_node *node);

#endif
