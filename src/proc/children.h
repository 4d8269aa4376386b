/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The node's processes: forking, burying and replacing them. children[i] fills slot i.
 */
#ifndef FAE_PROC_CHILDREN_H
#define FAE_PROC_CHILDREN_H

#include <stdbool.h>
#include <stdint.h>

struct fae_node;

/* The parent's side of fork; the child never returns from it. */
void fae_children_start(struct fae_node *node, unsigned slot);
/* Starts those whose pause is over: call once a turn. */
void fae_children_step(struct fae_node *node, uint64_t now_ms);
/* After SIGCHLD: waits for all that ended, checkers too. */
void fae_children_reap(struct fae_node *node);
void fae_children_kill(struct fae_node *node, unsigned slot);
/* READY, and not only forked. */
bool fae_children_ready(struct fae_node *node, unsigned slot);
unsigned fae_children_n_workers(const struct fae_node *node); /* that are alive */
/* Closes in a forked process what belongs to the supervisor alone. */
void fae_children_forget(void *node);

#endif
