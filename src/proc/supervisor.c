/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A node's life from the first fork to the last.
 */
#include "proc/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/hist.h"
#include "ops/logwriter.h"
#include "proc/children.h"
#include "proc/mail.h"
#include "proc/node.h"
#include "proc/start.h"
#include "proc/watchdog.h"

#define KILL_AFTER_DRAIN_MS 2000 /* workers stop by themselves at drain_ms */
#define STOP_MS 1000             /* from STOP to kill */
#define OPS_STOP_MS 2000
#define START_MS 30000
#define START_DEATHS_MAX 3

/* ---- phases ---- */

static void tell_workers(struct fae_node *node, uint32_t type, uint64_t arg)
{
    for (unsigned i = 0; i < node->n_workers; i++) {
        if (!node->children[i].pid)
            continue;
        node->children[i].expected |= type == FAE_MAIL_STOP;
        fae_mail_send(&node->shared.mail, i, type, arg, NULL, 0);
    }
}

/* One that is still loading serves nobody. */
static void kill_starting(struct fae_node *node)
{
    for (unsigned i = 0; i < node->n_workers; i++)
        if (node->children[i].pid && !fae_children_ready(node, i)) {
            node->children[i].expected = true;
            fae_children_kill(node, i);
        }
}

static void begin_drain(struct fae_node *node)
{
    FAE_INFO("stopping: workers finish their calls, at most %" PRIu64 " ms", node->config.drain_ms);
    node->phase = FAE_NODE_DRAINING;
    atomic_store(&node->shared.slots->doors, FAE_DOORS_STOPPING);
    node->phase_until_ms = fae_now_ms() + node->config.drain_ms + KILL_AFTER_DRAIN_MS;
    fae_reload_cancel(node);
    kill_starting(node);
    tell_workers(node, FAE_MAIL_DRAIN, node->config.drain_ms);
}

void fae_supervisor_stop(struct fae_node *node, bool at_once)
{
    if (node->phase < FAE_NODE_DRAINING)
        begin_drain(node);
    if (!at_once || node->phase != FAE_NODE_DRAINING)
        return;
    FAE_INFO("stopping at once");
    tell_workers(node, FAE_MAIL_STOP, 0);
    if (node->phase_until_ms > fae_now_ms() + STOP_MS)
        node->phase_until_ms = fae_now_ms() + STOP_MS;
}

static void kill_all(struct fae_node *node, unsigned from, unsigned to)
{
    char name[16];

    for (unsigned i = from; i < to; i++)
        if (node->children[i].pid && !node->children[i].by_watchdog) {
            FAE_WARN("%s did not stop: killing it", fae_slot_name(node->shared.slots, i, name));
            node->children[i].expected = true;
            node->children[i].by_watchdog = true; /* once is enough */
            fae_children_kill(node, i);
        }
}

static void close_listeners(struct fae_node *node)
{
    while (node->n_listeners)
        fae_listener_close(&node->listeners[--node->n_listeners], true);
}

/* Workers are gone: what came into the queues meanwhile sees a closed connection, and ops writes the last lines. */
static void begin_closing(struct fae_node *node)
{
    close_listeners(node);
    FAE_INFO("stopped");
    node->phase = FAE_NODE_CLOSING;
    node->phase_until_ms = fae_now_ms() + OPS_STOP_MS;
    node->children[node->n_workers].expected = true;
    fae_mail_send(&node->shared.mail, node->n_workers, FAE_MAIL_STOP, 0, NULL, 0);
}

static void fail_start(struct fae_node *node, const char *why)
{
    FAE_ERROR("the node does not start: %s", why);
    node->exit_code = EXIT_FAILURE;
    node->phase = FAE_NODE_DRAINING;
    node->phase_until_ms = fae_now_ms() + STOP_MS;
    kill_starting(node);
    tell_workers(node, FAE_MAIL_STOP, 0);
}

static void step_starting(struct fae_node *node, uint64_t now_ms)
{
    unsigned n_ready = 0;

    for (unsigned i = 0; i < node->n_children; i++)
        n_ready += fae_children_ready(node, i);
    if (n_ready == node->n_children) {
        node->phase = FAE_NODE_SERVING;
        FAE_INFO("ready: generation %" PRIu32 ", %u workers", node->committed.generation, node->n_workers);
        fae_start_announce(node);
    } else if (node->n_start_deaths >= START_DEATHS_MAX) {
        fail_start(node, "its processes die");
    } else if (now_ms >= node->phase_until_ms) {
        fail_start(node, "its processes do not become ready");
    }
}

static void step_phase(struct fae_node *node, uint64_t now_ms)
{
    switch (node->phase) {
    case FAE_NODE_STARTING: step_starting(node, now_ms); break;
    case FAE_NODE_SERVING: return;
    case FAE_NODE_DRAINING:
        if (fae_children_n_workers(node) == 0)
            begin_closing(node);
        else if (now_ms >= node->phase_until_ms)
            kill_all(node, 0, node->n_workers);
        break;
    case FAE_NODE_CLOSING:
        if (node->children[node->n_workers].pid == 0)
            node->phase = FAE_NODE_DONE;
        else if (now_ms >= node->phase_until_ms)
            kill_all(node, node->n_workers, node->n_children);
        break;
    case FAE_NODE_DONE: break;
    }
    if (now_ms < node->phase_until_ms)
        fae_node_wake_at(node, node->phase_until_ms);
}

/* ---- what comes in ---- */

/* The number stays, which children inherit. */
enum fae_err fae_supervisor_reopen_log(struct fae_node *node)
{
    enum fae_err err = FAE_OK;
    int fd;

    if (!*node->config.log_file)
        return FAE_NOT_FOUND;
    fd = open(node->config.log_file, FAE_LOG_OPEN_FLAGS, FAE_LOG_OPEN_MODE);
    if (fd < 0)
        return FAE_SYSTEM;
    if (dup3(fd, node->log_fd, O_CLOEXEC) < 0)
        err = FAE_SYSTEM;
    close(fd);
    if (!err)
        fae_mail_send(&node->shared.mail, node->n_workers, FAE_MAIL_REOPEN_LOG, 0, NULL, 0);
    return err;
}

static void read_signals(struct fae_node *node)
{
    struct signalfd_siginfo info;

    while (read(node->signal_fd, &info, sizeof info) == (ssize_t)sizeof info)
        switch (info.ssi_signo) {
        case SIGTERM:
        case SIGINT: fae_supervisor_stop(node, node->phase >= FAE_NODE_DRAINING); break;
        case SIGHUP: node->reload.hup = true; break;
        case SIGUSR1:
            if (fae_supervisor_reopen_log(node) == FAE_SYSTEM)
                FAE_ERROR("log_file %s: %s; the old one goes on", node->config.log_file, strerror(errno));
            break;
        }
    /* Several deaths make one SIGCHLD. */
    fae_children_reap(node);
}

static void start_failed(struct fae_node *node, const struct fae_mail *mail)
{
    char name[16];
    int len = (int)mail->len;

    while (len && mail->body[len - 1] == '\n')
        len--;
    FAE_ERROR("%s cannot start: %.*s", fae_slot_name(node->shared.slots, mail->from_slot, name), len,
              (const char *)mail->body);
}

static void read_mail(struct fae_node *node)
{
    struct fae_mail mail;

    fae_mail_quiet(&node->shared.mail);
    while (fae_mail_next(&node->shared.mail, &mail)) {
        if (mail.from_slot >= node->n_children ||
            mail.from_incarnation != FAE_STAT_GET(fae_node_slot(node, mail.from_slot)->incarnation))
            continue;
        if (mail.type == FAE_MAIL_START_FAILED)
            start_failed(node, &mail);
        fae_reload_mail(node, &mail);
        fae_control_ask_mail(node, &mail);
        fae_control_ops_mail(node, &mail);
    }
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    sigprocmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

/* ---- the loop ---- */

static int until(uint64_t wake_ms)
{
    uint64_t now_ms = fae_now_ms();

    if (wake_ms <= now_ms)
        return 0;
    return wake_ms - now_ms < 60000 ? (int)(wake_ms - now_ms) : 60000;
}

static void turn(struct fae_node *node)
{
    enum { SIGNALS, MAIL, CHECKER, CONTROL };
    struct pollfd pfds[CONTROL + FAE_CONTROL_CLIENTS + 1] = {
        [SIGNALS] = { .fd = node->signal_fd, .events = POLLIN },
        [MAIL] = { .fd = fae_mail_fd(&node->shared.mail), .events = POLLIN },
        [CHECKER] = { .fd = node->reload.checker.fd, .events = POLLIN },
    };
    unsigned n = fae_control_poll(&node->control, pfds + CONTROL);
    uint64_t now_ms;

    if (poll(pfds, CONTROL + n, until(node->wake_ms)) < 0 && errno != EINTR)
        FAE_ERROR("poll: %s", strerror(errno));
    node->wake_ms = UINT64_MAX;
    now_ms = fae_now_ms();
    FAE_STAT_SET(fae_node_slot(node, node->shared.mail.me)->heartbeat_ms, now_ms);
    if (pfds[CHECKER].revents)
        fae_checker_read(&node->reload.checker);
    if (pfds[SIGNALS].revents)
        read_signals(node);
    if (pfds[MAIL].revents)
        read_mail(node);
    fae_control_serve(node, pfds + CONTROL, n, now_ms);
    fae_watchdog_step(node, now_ms);
    fae_children_step(node, now_ms);
    fae_reload_step(node, now_ms);
    fae_control_step(node, now_ms);
    step_phase(node, now_ms);
    if (fae_reload_busy(&node->reload) || node->reload.hup)
        fae_reload_step(node, now_ms); /* what a client or the phase has just started finds its deadline */
}

static void fill_slot(struct fae_node *node)
{
    struct fae_slot *me = fae_node_slot(node, node->shared.mail.me);

    FAE_STAT_SET(me->pid, (uint32_t)getpid());
    FAE_STAT_ADD(me->incarnation, 1);
    FAE_STAT_SET(me->heartbeat_ms, fae_now_ms());
    atomic_store(&me->state, FAE_SLOT_READY);
}

/* What ops did not get to, and what was said since. */
static void write_leftovers(struct fae_node *node)
{
    struct fae_logwriter w;

    fae_log_to_fd(node->log_fd);
    fae_logwriter_init(&w, node->shared.rings, node->n_workers + 2, node->log_fd, node->config.log_file);
    fae_logwriter_finish(&w);
    fae_logwriter_fini(&w);
}

int fae_supervisor_run(const struct fae_serve_opts *opts)
{
    static struct fae_node node; /* large, and one a process */
    char why[300];
    int code = fae_start(&node, opts);

    if (code)
        return code;
    fae_reload_init(&node.reload);
    if (fae_control_open(&node.control, node.run.path, why, sizeof why)) {
        fprintf(stderr, "fae: %s\n", why);
        fae_start_undo(&node);
        return EXIT_FAILURE;
    }
    node.signal_fd = open_signals();
    fill_slot(&node);
    fae_log_to_ring(fae_log_ring(node.shared.rings, node.shared.mail.me));
    node.phase_until_ms = fae_now_ms() + START_MS;
    while (node.phase != FAE_NODE_DONE)
        turn(&node);
    write_leftovers(&node);
    fae_checker_fini(&node.reload.checker);
    fae_control_close(&node.control, true);
    close(node.signal_fd);
    fae_start_undo(&node);
    return node.exit_code;
}
