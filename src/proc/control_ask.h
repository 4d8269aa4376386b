/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Verbs of fae.ctl that the workers answer: `sessions`, `session-close`, `gc`. One worker is asked at a time, so that
 * the answers never fill the mailbox that reloads need; a worker that does not answer in time is named and passed over.
 * And the verbs that open and close the doors of the node or of one worker.
 */
#ifndef FAE_PROC_CONTROL_ASK_H
#define FAE_PROC_CONTROL_ASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mailbox.h"

struct fae_control_client;
struct fae_node;

/* The question that runs. One a node; clients with another one wait for it. */
struct fae_ask {
    uint64_t client;   /* id of who asked; 0: none runs */
    unsigned slot;     /* the worker that is asked now */
    uint32_t question; /* never used twice: a late answer to another one is recognised */
    uint64_t until_ms; /* for that worker */
    uint64_t total_until_ms;
    unsigned n_lines;
};

/* What a client wants to ask; kept in it until its turn comes. */
enum fae_ask_kind { FAE_ASK_NOTHING, FAE_ASK_SESSIONS, FAE_ASK_SESSION_CLOSE, FAE_ASK_GC, FAE_ASK_KINDS };

/* Verbs; see control_verbs.c. */
void fae_control_do_ask(struct fae_node *node, struct fae_control_client *client, int kind, const char *tail);
void fae_control_do_drain(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);
void fae_control_do_undrain(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);
void fae_control_do_servants(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);
void fae_control_do_hist(struct fae_node *node, struct fae_control_client *client, int arg, const char *tail);

/* Passes silent workers over, starts the next question. Once a turn. */
void fae_control_ask_step(struct fae_node *node, uint64_t now_ms);
/* A mail came; one that is no answer is ignored. */
void fae_control_ask_mail(struct fae_node *node, const struct fae_mail *mail);

#endif
