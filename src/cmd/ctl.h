/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the commands that talk to a running node share.
 */
#ifndef FAE_CMD_CTL_H
#define FAE_CMD_CTL_H

/* The default of the option run_dir. */
const char *fae_cmd_run_dir(void);
/* Asks the node, prints its answer, returns the exit code. */
int fae_cmd_ask(const char *name, const char *run_dir, const char *line);

#endif
