/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Verbs of fae.ctl that ops answers, and that may take minutes: `kv backup`, `kv check`. One runs at a time; meanwhile the
 * client gets lines of progress, which begin with "... ".
 */
#ifndef FAE_PROC_CONTROL_OPS_H
#define FAE_PROC_CONTROL_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mailbox.h"

struct fae_control_client;
struct fae_node;

/* What ops was asked. One a node. */
struct fae_control_job {
    uint64_t client;      /* id of who asked; 0: nothing runs */
    uint32_t question;    /* never used twice */
    uint32_t incarnation; /* of ops, which took it */
    uint64_t until_ms;    /* ops says something before then */
};

void fae_control_do_kv(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);
/* Ends it when ops is gone or silent. Once a turn. */
void fae_control_ops_step(struct fae_node *node, uint64_t now_ms);
void fae_control_ops_mail(struct fae_node *node, const struct fae_mail *mail);

#endif
