/* SPDX-License-Identifier: BSD-2-Clause
 *
 * All but job_main runs on the loop of ops.
 */
#include "proc/ops_job.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"
#include "proc/answer.h"
#include "proc/mail.h"

#define TELL_MS 1000

void fae_ops_job_init(struct fae_ops_job *job, struct fae_shared *shared)
{
    *job = (struct fae_ops_job){ .shared = shared };
}

/* ---- what the supervisor hears ---- */

static void tell(struct fae_ops_job *job, uint32_t question, bool last, enum fae_err err, const char *text, size_t len)
{
    uint8_t body[FAE_MAIL_BODY_MAX];
    uint32_t code = err;

    if (len > sizeof body - sizeof code)
        len = sizeof body - sizeof code;
    memcpy(body, &code, sizeof code);
    if (len)
        memcpy(body + sizeof code, text, len);
    if (fae_mail_send(&job->shared->mail, fae_slot_supervisor(job->shared->slots), FAE_MAIL_OPS_ANSWER,
                      fae_answer_arg(question, last), body, sizeof code + len))
        FAE_WARN("an answer to the supervisor does not fit its mailbox");
}

static void tell_progress(struct fae_ops_job *job, uint64_t now_ms)
{
    char line[100];
    int n;

    if (now_ms < job->told_ms + TELL_MS)
        return;
    job->told_ms = now_ms;
    n = snprintf(line, sizeof line, "... %" PRIu64 " so far\n",
                 fae_kv_admin_done(&job->shared->stores.kv, &job->progress));
    tell(job, job->question, false, FAE_OK, line, (size_t)n);
}

/* ---- the thread ---- */

static enum fae_err backup(struct fae_ops_job *job, const char *dir)
{
    struct fae_stores *stores = &job->shared->stores;
    char path[4096];

    if ((size_t)snprintf(path, sizeof path, "%s%s%s", *dir == '/' ? "" : stores->data_dir, *dir == '/' ? "" : "/",
                         dir) >= sizeof path) {
        fae_buf_printf(&job->text, "the folder's name is too long");
        return FAE_BAD_ARGS;
    }
    return fae_kv_backup(&stores->kv, path, &job->progress, &job->text);
}

static void *job_main(void *arg)
{
    struct fae_ops_job *job = arg;

    if (strncmp(job->what, "backup ", 7) == 0)
        job->err = backup(job, job->what + 7);
    else
        job->err = fae_kv_check(&job->shared->stores.kv, &job->progress, &job->lines, &job->text);
    atomic_store(&job->done, true);
    return NULL;
}

/* ---- on the loop ---- */

void fae_ops_job_mail(struct fae_ops_job *job, const struct fae_mail *mail)
{
    static const char busy[] = "a backup or a check runs already";
    uint32_t question = fae_answer_question(mail->arg);
    const char *why;
    int rc;

    if (mail->type != FAE_MAIL_OPS_ASK || mail->len >= sizeof job->what)
        return;
    if (job->running) {
        tell(job, question, true, FAE_BUSY, busy, sizeof busy - 1);
        return;
    }
    *job = (struct fae_ops_job){ .shared = job->shared, .question = question, .told_ms = fae_now_ms() };
    memcpy(job->what, mail->body, mail->len);
    FAE_INFO("kv %s, as an operator said", job->what);
    rc = fae_thread_start(&job->thread, "kv-admin", job_main, job);
    job->running = rc == 0;
    if (rc) {
        why = strerror(rc);
        tell(job, question, true, FAE_SYSTEM, why, strlen(why));
    }
}

static void finish(struct fae_ops_job *job)
{
    pthread_join(job->thread, NULL);
    job->running = false;
    if (job->lines.len)
        tell(job, job->question, false, FAE_OK, (const char *)job->lines.data, job->lines.len);
    tell(job, job->question, true, job->err, (const char *)job->text.data, job->text.len);
    if (job->err)
        FAE_WARN("kv %.100s: %s: %s", job->what, fae_err_name(job->err), fae_buf_text(&job->text));
    else
        FAE_INFO("kv %.100s: %s", job->what, fae_buf_text(&job->text));
    fae_buf_fini(&job->lines);
    fae_buf_fini(&job->text);
}

void fae_ops_job_tick(struct fae_ops_job *job, uint64_t now_ms)
{
    if (!job->running)
        return;
    if (atomic_load(&job->done))
        finish(job);
    else
        tell_progress(job, now_ms);
}

void fae_ops_job_fini(struct fae_ops_job *job)
{
    if (!job->running)
        return;
    fae_kv_admin_stop(&job->shared->stores.kv, &job->progress);
    finish(job);
}
