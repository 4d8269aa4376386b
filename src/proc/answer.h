/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a worker answers when the supervisor asks it something for a client of fae.ctl (control_ask.c). The answer goes
 * back as lines of text in one mail or several, each of whole lines; the last one says that it is.
 */
#ifndef FAE_PROC_ANSWER_H
#define FAE_PROC_ANSWER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mailbox.h"

struct fae_serving;

#define FAE_SESSIONS_SHOWN_MAX 200u       /* of a worker */
#define FAE_ANSWER_BYTES_MAX (40u * 1024) /* the supervisor's mailbox must take an answer as a whole */
#define FAE_EVERY_WORKER UINT32_MAX

/* Of a mail that asks or answers: which question, and is this the last of the answer? */
static inline uint64_t fae_answer_arg(uint32_t question, bool last)
{
    return (uint64_t)question << 1 | last;
}

static inline uint32_t fae_answer_question(uint64_t arg)
{
    return (uint32_t)(arg >> 1);
}

/* Body of every question. */
struct fae_session_question {
    uint32_t slot;  /* the worker that is meant, or FAE_EVERY_WORKER */
    uint32_t n;     /* sessions to show */
    uint32_t id;    /* session to close; 0: those of `peer` */
    char peer[160]; /* "tcp://10.0.0.7:40312", "10.0.0.7:40312", "10.0.0.7", "unix:" */
};

/* Answers if the mail is a question. */
bool fae_answer(struct fae_serving *serving, struct fae_mailboxes *mail, const struct fae_mail *question);

/* Does the pattern mean the peer? Pure. */
bool fae_answer_is_peer(const char *pattern, const char *peer);

#endif
