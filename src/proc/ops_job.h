/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What ops does for a client of fae.ctl that may take minutes (control_ops.c): a thread of its own, one at a time. While
 * it runs the supervisor hears a line of progress each second; then what came of it.
 */
#ifndef FAE_PROC_OPS_JOB_H
#define FAE_PROC_OPS_JOB_H

#include <pthread.h>

#include "base/buf.h"
#include "base/mailbox.h"
#include "proc/shared.h"
#include "store/kv_admin.h"

struct fae_ops_job {
    struct fae_shared *shared;
    bool running; /* the thread is there */
    _Atomic bool done;
    pthread_t thread;
    uint32_t question;
    char what[FAE_MAIL_BODY_MAX]; /* "check", "backup DIR" */
    uint64_t told_ms;
    struct fae_kv_progress progress;
    enum fae_err err;
    struct fae_buf lines, text; /* the thread's, until it is done */
};

void fae_ops_job_init(struct fae_ops_job *job, struct fae_shared *shared);
/* Takes a mail that asks; others are left alone. */
void fae_ops_job_mail(struct fae_ops_job *job, const struct fae_mail *mail);
/* Tells how far it is, or what came of it. Every tick. */
void fae_ops_job_tick(struct fae_ops_job *job, uint64_t now_ms);
/* Ends it before its time. */
void fae_ops_job_fini(struct fae_ops_job *job);

#endif
