/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the processes of a node say to each other by mailbox. `arg` of the reload mails is the ticket: the attempt in
 * the high half, the generation in the low one, so that an answer to an attempt that was given up is recognised.
 *
 *   supervisor                worker
 *   PREPARE   ------------->            (the bundle's descriptor went ahead through the life socket)
 *             <------------- PREPARED, or PREPARE_FAILED with the reasons
 *   SWITCH    ------------->            (sent after the commit point)
 *             <------------- SWITCHED
 *   ABORT     ------------->            (drop what was prepared)
 */
#ifndef FAE_PROC_MAIL_H
#define FAE_PROC_MAIL_H

#include <stdint.h>

enum fae_mail_type {
    FAE_MAIL_READY = 1,    /* child: I serve */
    FAE_MAIL_START_FAILED, /* child: I do not; body tells why */
    FAE_MAIL_PREPARE,
    FAE_MAIL_PREPARED,
    FAE_MAIL_PREPARE_FAILED, /* body: "file:line: what" lines, cut to fit */
    FAE_MAIL_SWITCH,
    FAE_MAIL_SWITCHED,
    FAE_MAIL_ABORT,
    FAE_MAIL_DRAIN,      /* finish what you have, then exit */
    FAE_MAIL_STOP,       /* exit at once */
    FAE_MAIL_REOPEN_LOG, /* to ops */
    FAE_MAIL_SESSIONS,   /* questions: proc/answer.h */
    FAE_MAIL_SESSION_CLOSE,
    FAE_MAIL_GC,
    FAE_MAIL_ANSWER,
    FAE_MAIL_OPS_ASK, /* to ops: proc/ops_job.h */
    FAE_MAIL_OPS_ANSWER,
};

static inline uint64_t fae_ticket(uint32_t attempt, uint32_t generation)
{
    return (uint64_t)attempt << 32 | generation;
}

static inline uint32_t fae_ticket_generation(uint64_t ticket)
{
    return (uint32_t)ticket;
}

#endif
