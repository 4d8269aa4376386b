/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Verbs of fae.ctl about the servers that we call: `backends`, `breaker`.
 */
#ifndef FAE_PROC_CONTROL_BACKENDS_H
#define FAE_PROC_CONTROL_BACKENDS_H

struct fae_control_client;
struct fae_node;

/* See control_verbs.c. */
void fae_control_do_backends(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);
void fae_control_do_breaker(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);

#endif
