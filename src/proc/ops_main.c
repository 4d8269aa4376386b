/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The ops process: writes the log, answers admin requests. It holds nothing that others cannot do without: while it is
 * dead lines wait in their rings and calls go on.
 */
#include "proc/ops_main.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "base/log.h"
#include "net/loop.h"
#include "net/tls.h"
#include "ops/admin.h"
#include "ops/logwriter.h"
#include "proc/crash.h"
#include "proc/life.h"
#include "proc/mail.h"
#include "proc/ops_job.h"
#include "proc/runconf.h"
#include "proc/seccomp.h"
#include "store/marks.h"

#define SERVE_MS 5000 /* between tries to serve a data folder that is not there, or broken */
#define ORPHAN_MS 800 /* workers need a moment to say their last lines; the alarm rings at 1000 */

struct ops {
    const struct fae_ops_opts *opts;
    struct fae_slot *slot;
    struct fae_loop loop;
    struct fae_timer tick, orphaned;
    struct fae_watch on_mail, on_life;
    bool serves;       /* the stores */
    uint64_t serve_ms; /* otherwise: when that is tried again */
    struct fae_logwriter log;
    struct fae_admin admin;
    struct fae_ops_job job;
};

/* Behind the filter of system calls, which threads made later have too. Log and admin go on without. */
static void serve_stores(struct ops *ops)
{
    char why[600];

    ops->serves = !fae_stores_serve(&ops->opts->shared->stores, ops->opts->config, why, sizeof why);
    ops->serve_ms = fae_now_ms() + SERVE_MS;
    if (!ops->serves)
        FAE_ERROR("%s", why);
}

static void on_tick(void *arg)
{
    struct ops *ops = arg;

    FAE_STAT_SET(ops->slot->heartbeat_ms, fae_now_ms());
    if (!ops->serves && fae_now_ms() >= ops->serve_ms)
        serve_stores(ops);
    fae_logwriter_turn(&ops->log);
    fae_ops_job_tick(&ops->job, fae_now_ms());
    fae_timer_start(&ops->tick, FAE_TICK_MS);
}

static void on_orphaned(void *arg)
{
    fae_loop_stop(&((struct ops *)arg)->loop);
}

static void on_mail(int fd, short what, void *arg)
{
    struct ops *ops = arg;
    struct fae_mailboxes *m = &ops->opts->shared->mail;
    struct fae_mail mail;

    (void)fd;
    (void)what;
    fae_mail_quiet(m);
    while (fae_mail_next(m, &mail)) {
        if (mail.type == FAE_MAIL_STOP)
            fae_loop_stop(&ops->loop);
        if (mail.type == FAE_MAIL_REOPEN_LOG)
            ops->log.look_ms = 0; /* the next turn looks whether the file is another */
        fae_ops_job_mail(&ops->job, &mail);
    }
}

/* A process that starts late was given what the node read when it started. */
static void renew_certificate(struct fae_tls_ctx *tls)
{
    char text[700];
    bool changed;

    if (fae_tls_ctx_renew(tls, &changed, text, sizeof text)) {
        FAE_WARN("admin: the certificate stays as it is: %s", text);
    } else if (changed) {
        fae_tls_ctx_describe(tls, text, sizeof text);
        FAE_INFO("admin: new certificate %s", text);
    }
}

/* A new generation serves: its configuration. */
static void configure(struct ops *ops, int bundle)
{
    struct fae_config *next = NULL;
    char why[512];

    if (fae_runconf_load_fd(&next, bundle, why, sizeof why))
        FAE_ERROR("the configuration stays as it was: %s", why);
    else
        fae_runconf_adopt(ops->opts->config, &next);
}

static void on_life(int fd, short what, void *arg)
{
    struct ops *ops = arg;
    uint64_t ticket;
    int bundle;

    (void)what;
    if (fae_life_recv(fd, &ticket, &bundle) == FAE_OK) {
        configure(ops, bundle);
        if (ops->opts->admin_tls)
            renew_certificate(ops->opts->admin_tls);
        close(bundle);
        return;
    }
    fae_watch_close(&ops->on_life);
    FAE_WARN("the supervisor is gone");
    fae_marks_writer_stop(&ops->opts->shared->stores.marks_writer); /* the next node waits for this end */
    fae_timer_start(&ops->orphaned, ORPHAN_MS);
}

static enum fae_err fence_off(const struct fae_config *config)
{
    char why[200];
    enum fae_err err = config->seccomp ? fae_seccomp_install(false, why, sizeof why) : FAE_OK;

    if (err)
        FAE_ERROR("%s", why);
    return err;
}

static enum fae_err open_admin(struct ops *ops)
{
    const struct fae_shared *shared = ops->opts->shared;
    const struct fae_metrics_source source = { .slots = shared->slots,
                                               .stats = shared->stats,
                                               .series = shared->series,
                                               .slowlog = shared->slowlog,
                                               .log_rings = shared->rings,
                                               .stores = &shared->stores,
                                               .upstreams = shared->upstreams,
                                               .mail = &shared->mail };

    enum fae_err err = fae_admin_open(&ops->admin, &ops->loop, ops->opts->admin_fd, ops->opts->config, &source);

    if (!err && ops->opts->admin_tls) {
        renew_certificate(ops->opts->admin_tls);
        fae_http_secure(ops->admin.http, ops->opts->admin_tls);
    }
    return err;
}

static enum fae_err start(struct ops *ops)
{
    const struct fae_ops_opts *o = ops->opts;
    enum fae_err err = fae_loop_init(&ops->loop);

    if (err)
        return err;
    fae_crash_install(ops->slot, NULL, NULL);
    fae_logwriter_init(&ops->log, o->shared->rings, o->shared->slots->n_workers + 2, o->log_fd, o->config->log_file);
    fae_timer_init(&ops->tick, &ops->loop, on_tick, ops);
    fae_timer_init(&ops->orphaned, &ops->loop, on_orphaned, ops);
    err = fae_watch_open(&ops->on_mail, &ops->loop, fae_mail_fd(&o->shared->mail), FAE_READABLE, on_mail, ops);
    if (!err)
        err = fae_watch_open(&ops->on_life, &ops->loop, o->life, FAE_READABLE, on_life, ops);
    if (!err && o->admin_fd >= 0)
        err = open_admin(ops);
    if (!err)
        err = fence_off(o->config);
    if (!err)
        serve_stores(ops);
    return err;
}

int fae_ops_main(const struct fae_ops_opts *opts)
{
    struct ops ops = { .opts = opts, .slot = &opts->shared->slots->slots[opts->slot] };
    enum fae_err err;

    fae_ops_job_init(&ops.job, opts->shared);
    err = start(&ops);

    if (err) {
        FAE_ERROR("cannot start: %s", fae_err_text(err));
        return EXIT_FAILURE;
    }
    FAE_STAT_SET(ops.slot->heartbeat_ms, fae_now_ms());
    atomic_store(&ops.slot->state, FAE_SLOT_READY);
    fae_mail_send(&opts->shared->mail, fae_slot_supervisor(opts->shared->slots), FAE_MAIL_READY, 0, NULL, 0);
    on_tick(&ops);
    fae_loop_run(&ops.loop);
    fae_ops_job_fini(&ops.job);
    fae_stores_rest(&opts->shared->stores);
    fae_admin_close(&ops.admin);
    fae_watch_close(&ops.on_mail);
    fae_watch_close(&ops.on_life);
    fae_timer_stop(&ops.tick);
    fae_timer_stop(&ops.orphaned);
    fae_logwriter_finish(&ops.log);
    fae_logwriter_fini(&ops.log);
    fae_loop_fini(&ops.loop);
    return EXIT_SUCCESS;
}
