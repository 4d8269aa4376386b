/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The supervisor's loop: signals, mail, clients and time, each turn. No Lua, no threads, no event base, and nothing in
 * it waits for another process.
 */
#ifndef FAE_PROC_SUPERVISOR_H
#define FAE_PROC_SUPERVISOR_H

#include <stdbool.h>

#include "base/err.h"

struct fae_node;

/* Opens log_file again, for whoever moved it away. NOT_FOUND: the log goes to stderr; SYSTEM and errno. */
enum fae_err fae_supervisor_reopen_log(struct fae_node *node);
/* Begins to stop the node; at_once does not wait for calls in flight. Asked again it only gets more urgent. */
void fae_supervisor_stop(struct fae_node *node, bool at_once);

#endif
