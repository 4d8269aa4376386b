/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Asking the supervisor from the loop: a connection to fae.ctl for each question. Bounded in number, in bytes and in
 * time; every question is answered exactly once, from the loop or by fae_ctl_fini.
 */
#ifndef FAE_OPS_CTL_H
#define FAE_OPS_CTL_H

#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"

#define FAE_CTL_ASKS_MAX 16 /* half of the clients fae.ctl takes: people must get in beside us */
#define FAE_CTL_ANSWER_MAX (16u * 1024 * 1024)

struct fae_ctl {
    struct fae_loop *loop;
    char path[108];
    struct fae_list asks;
    unsigned n_asks;
};

/* The node's answer, or why there is none. Lent until it returns. */
struct fae_ctl_answer {
    enum fae_err err; /* the node's own, or BUSY, UNAVAILABLE, TIMEOUT, CLOSED, LIMIT of the way there */
    const char *text; /* lines, each with its end */
    size_t text_len;
    const char *last; /* a sentence */
    size_t last_len;
};

typedef void (*fae_ctl_fn)(const struct fae_ctl_answer *answer, void *arg);

/* run_dir: of the node. */
void fae_ctl_init(struct fae_ctl *ctl, struct fae_loop *loop, const char *run_dir);
/* Answers CLOSED to whoever waits. */
void fae_ctl_fini(struct fae_ctl *ctl);
/* Asks `line`, which must have no line break. fn is called later, never from inside. */
void fae_ctl_ask_later(struct fae_ctl *ctl, const char *line, uint64_t within_ms, fae_ctl_fn fn, void *arg);

#endif
