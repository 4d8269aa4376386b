/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A worker: serves, and does what the supervisor's mail says. When the supervisor is gone (end of file on the life
 * socket) it finishes what it has within a second.
 */
#include "proc/worker.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "proc/answer.h"
#include "proc/child.h"
#include "proc/crash.h"
#include "proc/life.h"
#include "proc/mail.h"
#include "proc/seccomp.h"

#define ORPHAN_DRAIN_MS 700   /* the alarm that ends an orphan rings at 1000 */
#define RECYCLE_DRAIN_MS 5000 /* for the calls in flight of one that is replaced */

struct worker {
    struct fae_serving serving;
    struct fae_mailboxes *mail;
    unsigned supervisor; /* its slot */
    int life;
    struct fae_watch on_mail, on_life;
    uint64_t ticket; /* of what is prepared */
    uint64_t bundle_ticket;
    int bundle_fd; /* received for a PREPARE that has not come; -1: none */
    bool stop;     /* at once */
    bool recycled; /* ends so that another takes its place */
};

static void tell(struct worker *w, uint32_t type, uint64_t arg, const char *text, size_t len)
{
    enum fae_err err =
        fae_mail_send(w->mail, w->supervisor, type, arg, text, len < FAE_MAIL_BODY_MAX ? len : FAE_MAIL_BODY_MAX);

    if (err)
        FAE_ERROR("mail to the supervisor: %s", fae_err_text(err));
}

/* ---- bundles ---- */

static void drop_bundle(struct worker *w)
{
    if (w->bundle_fd >= 0)
        close(w->bundle_fd);
    w->bundle_fd = -1;
}

/* Takes what the life socket brings; false when the supervisor is gone. Only the latest bundle counts. */
static bool take_bundles(struct worker *w)
{
    uint64_t ticket;
    enum fae_err err;
    int fd;

    for (;;) {
        err = fae_life_recv(w->life, &ticket, &fd);
        if (err == FAE_NOT_FOUND)
            return true;
        if (err == FAE_CLOSED)
            return false;
        if (err) {
            FAE_ERROR("a bundle did not come through: %s", fae_err_text(err));
            continue;
        }
        drop_bundle(w);
        w->bundle_fd = fd;
        w->bundle_ticket = ticket;
    }
}

/* ---- mail ---- */

static void on_prepare(struct worker *w, const struct fae_mail *mail)
{
    struct fae_buf why = { 0 };
    enum fae_err err = FAE_NOT_FOUND;

    take_bundles(w);
    w->ticket = 0;
    if (w->serving.draining)
        fae_buf_printf(&why, "this worker is draining\n");
    else if (w->bundle_fd < 0 || w->bundle_ticket != mail->arg)
        fae_buf_printf(&why, "the bundle did not come\n");
    else
        err = fae_serving_prepare(&w->serving, w->bundle_fd, fae_ticket_generation(mail->arg), &why);
    drop_bundle(w);
    if (!err)
        w->ticket = mail->arg;
    tell(w, err ? FAE_MAIL_PREPARE_FAILED : FAE_MAIL_PREPARED, mail->arg, (const char *)why.data, err ? why.len : 0);
    fae_buf_fini(&why);
}

static void on_switch(struct worker *w, const struct fae_mail *mail)
{
    if (w->serving.prepared && w->ticket == mail->arg) {
        fae_serving_switch(&w->serving);
        tell(w, FAE_MAIL_SWITCHED, mail->arg, NULL, 0);
        return;
    }
    if (w->serving.draining)
        return;
    /* The node has committed to a generation we do not have: the process that comes next will load it. */
    FAE_ERROR("told to switch to generation %" PRIu32 ", which is not prepared", fae_ticket_generation(mail->arg));
    _exit(1);
}

static void on_abort(struct worker *w, const struct fae_mail *mail)
{
    if (w->ticket == mail->arg)
        fae_serving_abort(&w->serving);
}

static void on_drain(struct worker *w, const struct fae_mail *mail)
{
    fae_serving_drain(&w->serving, mail->arg);
}

static void on_stop(struct worker *w, const struct fae_mail *mail)
{
    (void)mail;
    w->stop = true;
    fae_loop_stop(&w->serving.loop);
}

static const struct {
    uint32_t type;
    void (*act)(struct worker *w, const struct fae_mail *mail);
} acts[] = {
    { FAE_MAIL_PREPARE, on_prepare }, { FAE_MAIL_SWITCH, on_switch }, { FAE_MAIL_ABORT, on_abort },
    { FAE_MAIL_DRAIN, on_drain },     { FAE_MAIL_STOP, on_stop },
};

static void on_mail(int fd, short what, void *arg)
{
    struct worker *w = arg;
    struct fae_mail mail;

    (void)fd;
    (void)what;
    fae_mail_quiet(w->mail);
    while (fae_mail_next(w->mail, &mail)) {
        fae_answer(&w->serving, w->mail, &mail);
        for (unsigned i = 0; i < sizeof acts / sizeof *acts; i++)
            if (acts[i].type == mail.type)
                acts[i].act(w, &mail);
    }
    fae_serving_woken(&w->serving);
}

static void on_life(int fd, short what, void *arg)
{
    struct worker *w = arg;

    (void)fd;
    (void)what;
    if (take_bundles(w))
        return;
    fae_watch_close(&w->on_life);
    alarm(1); /* in case the kernel's own notice was missed */
    FAE_WARN("the supervisor is gone");
    fae_serving_drain(&w->serving, ORPHAN_DRAIN_MS);
}

static void on_recycle(void *arg, const char *why)
{
    struct worker *w = arg;

    if (w->serving.draining)
        return;
    w->recycled = true;
    FAE_WARN("this worker is replaced: %s", why);
    fae_serving_drain(&w->serving, RECYCLE_DRAIN_MS);
}

/* ---- life ---- */

/* Last, when all that is loaded late is there. */
static enum fae_err fence_off(const struct fae_config *config, struct fae_buf *why)
{
    char text[200];
    enum fae_err err;

    if (!config->seccomp)
        return FAE_OK;
    err = fae_seccomp_install(fae_seccomp_may_start(config), text, sizeof text);
    if (err)
        fae_buf_printf(why, "%s\n", text);
    return err;
}

static enum fae_err start(struct worker *w, const struct fae_worker_opts *opts)
{
    struct fae_serving_opts serving = opts->serving;
    struct fae_buf why = { 0 };
    enum fae_err err;

    serving.recycle = on_recycle;
    serving.recycle_arg = w;
    err = fae_serving_init(&w->serving, &serving, opts->bundle_fd, opts->generation, &why);
    close(opts->bundle_fd);
    if (!err)
        err = fae_watch_open(&w->on_mail, &w->serving.loop, fae_mail_fd(w->mail), FAE_READABLE, on_mail, w);
    if (!err)
        err = fae_watch_open(&w->on_life, &w->serving.loop, w->life, FAE_READABLE, on_life, w);
    if (!err)
        err = fence_off(opts->serving.config, &why);
    if (err && why.len == 0)
        fae_buf_printf(&why, "%s\n", fae_err_text(err));
    if (err)
        tell(w, FAE_MAIL_START_FAILED, 0, (const char *)why.data, why.len);
    fae_buf_fini(&why);
    return err;
}

int fae_worker_main(const struct fae_worker_opts *opts)
{
    struct worker w = { .mail = &opts->serving.shared->mail, .life = opts->life, .bundle_fd = -1 };

    fae_crash_install(&opts->serving.shared->slots->slots[opts->serving.slot], fae_serving_interrupt, &w.serving);
    w.supervisor = fae_slot_supervisor(opts->serving.shared->slots);
    if (opts->serving.config->pin_cpus && fae_child_pin(opts->serving.slot))
        FAE_WARN("pin_cpus: %s; this worker runs on any core", strerror(errno));
    if (start(&w, opts))
        return EXIT_FAILURE;
    fae_serving_accept(&w.serving);
    tell(&w, FAE_MAIL_READY, 0, NULL, 0);
    FAE_DEBUG("serves generation %" PRIu32, opts->generation);
    fae_serving_run(&w.serving);
    if (w.stop)
        _exit(EXIT_SUCCESS);
    fae_watch_close(&w.on_mail);
    fae_watch_close(&w.on_life);
    drop_bundle(&w);
    fae_serving_fini(&w.serving);
    return w.recycled ? FAE_WORKER_RECYCLED : EXIT_SUCCESS;
}
