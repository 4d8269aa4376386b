/* SPDX-License-Identifier: BSD-2-Clause
 *
 * `fae serve --single`: one worker in one process, for gdb and perf. No supervisor, no ops: the log goes straight to its
 * target, SIGHUP reloads in place (the check still runs in a process of its own), SIGTERM and SIGINT drain.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/hist.h"
#include "proc/checker.h"
#include "proc/node.h"
#include "proc/servants.h"
#include "proc/serving.h"
#include "proc/start.h"

struct single {
    struct fae_node *node;
    struct fae_serving serving;
    struct fae_watch on_signal, on_mail;
    int signal_fd;
};

/* Takes the verdict: the bundle in fd becomes the next generation, or `out` has the reasons. */
static enum fae_err adopt(struct single *s, int fd, uint32_t generation, struct fae_buf *out)
{
    struct fae_node *node = s->node;
    enum fae_err err = fae_stored_seal(fd);

    if (!err)
        err = fae_serving_prepare(&s->serving, fd, generation, out);
    if (err)
        return err;
    fae_serving_switch(&s->serving);
    atomic_store(&node->shared.slots->log_level, (uint32_t)node->config.log_level);
    fae_stored_close(&node->committed);
    node->committed = (struct fae_stored){ .fd = fd, .generation = generation };
    atomic_store(&node->shared.slots->generation, generation);
    return FAE_OK;
}

static void reload(struct single *s)
{
    uint32_t generation = s->node->committed.generation + 1;
    struct fae_servants_job job = {
        .config = &s->node->config, .opts = &s->node->opts, .from = FAE_SERVANTS_RELOAD, .generation = generation
    };
    struct fae_checker c;
    enum fae_err err;

    job.fd = fae_stored_new();
    if (job.fd < 0) {
        FAE_ERROR("reload: cannot make a memfd: %s", strerror(errno));
        return;
    }
    err = fae_checker_run(&c, "servants", fae_servants_job, &job, NULL, NULL);
    if (!err)
        err = adopt(s, job.fd, generation, &c.out);
    if (!err) {
        for (char *rest = (char *)fae_buf_text(&c.out), *line; (line = strsep(&rest, "\n")) && *line;)
            FAE_INFO("reload: %s", line);
        FAE_INFO("reload: generation %" PRIu32 " serves", generation);
    } else {
        fwrite(fae_buf_text(&c.out), 1, c.out.len, stderr);
        FAE_WARN("reload: %s; generation %" PRIu32 " still serves", fae_err_name(err), s->node->committed.generation);
        close(job.fd);
    }
    fae_checker_fini(&c);
}

static void on_signal(int fd, short what, void *arg)
{
    struct single *s = arg;
    struct signalfd_siginfo info;

    (void)what;
    while (read(fd, &info, sizeof info) == (ssize_t)sizeof info) {
        if (info.ssi_signo == SIGHUP && !s->serving.draining)
            reload(s);
        if (info.ssi_signo == SIGHUP)
            continue;
        FAE_INFO("stopping");
        fae_serving_drain(&s->serving, s->serving.draining ? 0 : s->node->config.drain_ms);
    }
}

/* There is no supervisor to write to us, but the threads of the stores rouse. */
static void on_mail(int fd, short what, void *arg)
{
    struct single *s = arg;

    (void)fd;
    (void)what;
    fae_mail_quiet(&s->node->shared.mail);
    fae_serving_woken(&s->serving);
}

static enum fae_err open_signals(struct single *s)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    s->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (s->signal_fd < 0)
        return FAE_SYSTEM;
    if (fae_watch_open(&s->on_mail, &s->serving.loop, fae_mail_fd(&s->node->shared.mail), FAE_READABLE, on_mail, s))
        return FAE_SYSTEM;
    return fae_watch_open(&s->on_signal, &s->serving.loop, s->signal_fd, FAE_READABLE, on_signal, s);
}

static enum fae_err start(struct single *s)
{
    struct fae_node *node = s->node;
    struct fae_serving_opts opts = { .config = &node->config,
                                     .shared = &node->shared,
                                     .slot = 0,
                                     .listeners = node->listeners,
                                     .n_listeners = node->n_listeners };
    struct fae_slot *slot = fae_node_slot(node, 0);
    struct fae_buf why = { 0 };
    char text[600];
    enum fae_err err;

    node->shared.mail.me = 0;
    FAE_STAT_SET(slot->pid, (uint32_t)getpid());
    FAE_STAT_ADD(slot->incarnation, 1);
    err = fae_serving_init(&s->serving, &opts, node->committed.fd, node->committed.generation, &why);
    if (!err) {
        err = open_signals(s);
        if (err)
            fae_buf_printf(&why, "fae: cannot watch signals: %s\n", strerror(errno));
    }
    if (!err) {
        err = fae_stores_serve(&node->shared.stores, &node->config, text, sizeof text);
        if (err)
            fae_buf_printf(&why, "fae: %s\n", text);
    }
    fwrite(fae_buf_text(&why), 1, why.len, stderr);
    fae_buf_fini(&why);
    return err;
}

int fae_single_run(const struct fae_serve_opts *opts)
{
    static struct fae_node node;
    struct single s = { .node = &node, .signal_fd = -1 };
    int code = fae_start(&node, opts);

    if (code)
        return code;
    if (start(&s)) {
        fae_start_undo(&node);
        return EXIT_FAILURE;
    }
    fae_serving_accept(&s.serving);
    fae_start_announce(&node);
    fae_serving_run(&s.serving);
    fae_watch_close(&s.on_signal);
    fae_watch_close(&s.on_mail);
    close(s.signal_fd);
    fae_stores_rest(&node.shared.stores);
    fae_serving_fini(&s.serving);
    fae_start_undo(&node);
    return EXIT_SUCCESS;
}
