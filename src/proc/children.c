/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Forking, burying and replacing workers and ops.
 */
#include "proc/children.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backend/upstream.h"
#include "base/clock.h"
#include "base/hist.h"
#include "proc/child.h"
#include "proc/crash.h"
#include "proc/life.h"
#include "proc/node.h"
#include "proc/ops_main.h"
#include "proc/worker.h"
#include "rpc/gate.h"
#include "rpc/hosts.h"

#define ALONE_MS 400 /* a worker is ready within 100 */

/* ---- in the child ---- */

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void fae_children_forget(void *arg)
{
    struct fae_node *node = arg;

    fae_rundir_close(&node->run, false);
    fae_rundir_close(&node->data, false);
    fae_control_forget(&node->control);
    close_fd(&node->signal_fd);
    close_fd(&node->reload.checker.fd);
    for (unsigned i = 0; i < node->n_children; i++)
        close_fd(&node->children[i].life);
}

static void forget_bundles(struct fae_node *node)
{
    fae_stored_close(&node->previous);
    if (node->reload.next.fd == node->committed.fd) /* committed, and not yet switched to everywhere */
        node->reload.next = FAE_STORED_NONE;
    fae_stored_close(&node->reload.next);
}

static void forget_listeners(struct fae_node *node)
{
    for (unsigned i = 0; i < node->n_listeners; i++)
        fae_listener_close(&node->listeners[i], false);
    node->n_listeners = 0;
}

static int run_worker(struct fae_node *node, unsigned slot, int life)
{
    struct fae_worker_opts opts = { .serving = { .config = &node->config,
                                                 .shared = &node->shared,
                                                 .slot = slot,
                                                 .listeners = node->listeners,
                                                 .n_listeners = node->n_listeners },
                                    .life = life,
                                    .bundle_fd = node->committed.fd,
                                    .generation = node->committed.generation };

    forget_bundles(node);
    if (node->has_admin)
        fae_listener_close(&node->admin, false);
    if (node->log_fd > STDERR_FILENO)
        close_fd(&node->log_fd);
    return fae_worker_main(&opts);
}

static int run_ops(struct fae_node *node, unsigned slot, int life)
{
    struct fae_ops_opts opts = { .config = &node->config,
                                 .shared = &node->shared,
                                 .slot = slot,
                                 .life = life,
                                 .log_fd = node->log_fd,
                                 .admin_fd = node->has_admin ? node->admin.fds[0] : -1,
                                 .admin_tls = node->admin.tls };

    forget_bundles(node);
    fae_stored_close(&node->committed);
    forget_listeners(node);
    return fae_ops_main(&opts);
}

static void __attribute__((noreturn)) run_child(struct fae_node *node, unsigned slot, int life, pid_t parent)
{
    char name[16];

    fae_child_signals();
    fae_child_follow(parent, true);
    fae_children_forget(node);
    node->shared.mail.me = slot;
    fae_log_init(&node->log, fae_slot_name(node->shared.slots, slot, name));
    fae_log_to_ring(fae_log_ring(node->shared.rings, slot));
    exit(slot < node->n_workers ? run_worker(node, slot, life) : run_ops(node, slot, life));
}

/* ---- in the supervisor ---- */

/* What others see of a process that is gone must not be counted any longer. */
static void clear_slot(struct fae_slot *s)
{
    FAE_STAT_SET(s->pid, 0);
    FAE_STAT_SET(s->heartbeat_ms, 0);
    FAE_STAT_SET(s->method, 0);
    FAE_STAT_SET(s->asleep, 0);
    FAE_STAT_SET(s->n_sessions, 0);
    FAE_STAT_SET(s->n_calls, 0);
    FAE_STAT_SET(s->n_old_calls, 0);
    FAE_STAT_SET(s->overloaded, 0);
    FAE_STAT_SET(s->in_bytes, 0);
    FAE_STAT_SET(s->out_bytes, 0);
    FAE_STAT_SET(s->lua_bytes, 0);
    FAE_STAT_SET(s->generation, 0);
}

static void fork_failed(struct fae_node *node, unsigned slot, const char *what)
{
    struct fae_child *child = &node->children[slot];
    char name[16];

    FAE_ERROR("%s does not start: %s: %s", fae_slot_name(node->shared.slots, slot, name), what, strerror(errno));
    child->respawn_ms = fae_now_ms() + fae_backoff_died(&child->backoff, 0, false);
}

void fae_children_start(struct fae_node *node, unsigned slot)
{
    struct fae_child *child = &node->children[slot];
    struct fae_slot *s = fae_node_slot(node, slot);
    pid_t parent = getpid(), pid;
    int theirs;

    if (fae_life_pair(&child->life, &theirs)) {
        fork_failed(node, slot, "socketpair");
        return;
    }
    clear_slot(s);
    FAE_STAT_SET(s->trace_len, 0);
    FAE_STAT_SET(s->heartbeat_ms, fae_now_ms());
    FAE_STAT_ADD(s->incarnation, 1);
    atomic_store(&s->state, FAE_SLOT_STARTING);
    pid = fork();
    if (pid == 0) {
        FAE_STAT_SET(s->pid, (uint32_t)getpid());
        run_child(node, slot, theirs, parent);
    }
    close(theirs);
    if (pid < 0) {
        close_fd(&child->life);
        atomic_store(&s->state, FAE_SLOT_DEAD);
        fork_failed(node, slot, "fork");
        return;
    }
    FAE_STAT_SET(s->pid, (uint32_t)pid);
    child->pid = pid;
    child->started_ms = fae_now_ms();
    child->respawn_ms = 0;
    child->warned = child->by_watchdog = child->expected = false;
}

static bool is_wanted(const struct fae_node *node, unsigned slot)
{
    switch (node->phase) {
    case FAE_NODE_STARTING:
    case FAE_NODE_SERVING: return true;
    case FAE_NODE_DRAINING: return slot == node->n_workers; /* someone must write the log */
    case FAE_NODE_CLOSING:
    case FAE_NODE_DONE: return false;
    }
    return false;
}

/* However often they died: when nobody is left to serve, the longest pause would be an outage. */
static void hurry_workers(struct fae_node *node, uint64_t now_ms)
{
    for (unsigned i = 0; i < node->n_workers; i++)
        if (node->children[i].respawn_ms > now_ms + ALONE_MS)
            node->children[i].respawn_ms = now_ms + ALONE_MS;
}

void fae_children_step(struct fae_node *node, uint64_t now_ms)
{
    if (fae_children_n_workers(node) == 0)
        hurry_workers(node, now_ms);
    for (unsigned i = 0; i < node->n_children; i++) {
        struct fae_child *child = &node->children[i];

        if (child->pid || !is_wanted(node, i))
            continue;
        if (now_ms >= child->respawn_ms)
            fae_children_start(node, i);
        else
            fae_node_wake_at(node, child->respawn_ms);
    }
}

static void log_death(struct fae_node *node, unsigned slot, int status, uint64_t lived_ms)
{
    struct fae_child *child = &node->children[slot];
    char name[16], method[FAE_METHOD_NAME_MAX + 1];

    fae_slot_name(node->shared.slots, slot, name);
    if (WIFSIGNALED(status))
        FAE_ERROR("%s (pid %d) died of signal %d (%s) after %" PRIu64 " ms, in %s", name, (int)child->pid,
                  WTERMSIG(status), strsignal(WTERMSIG(status)), lived_ms,
                  fae_crash_method(node->shared.slots, node->shared.stats, slot, method));
    else
        FAE_ERROR("%s (pid %d) ended with exit code %d after %" PRIu64 " ms", name, (int)child->pid,
                  WEXITSTATUS(status), lived_ms);
}

/* It asked for it, finished its calls, and said why in the log. */
static bool was_recycled(const struct fae_node *node, unsigned slot, int status)
{
    return slot < node->n_workers && WIFEXITED(status) && WEXITSTATUS(status) == FAE_WORKER_RECYCLED;
}

static void bury(struct fae_node *node, unsigned slot, int status)
{
    struct fae_child *child = &node->children[slot];
    struct fae_slot *s = fae_node_slot(node, slot);
    uint64_t now_ms = fae_now_ms(), lived_ms = now_ms - child->started_ms;
    bool recycled = was_recycled(node, slot, status);
    bool asked = child->expected || recycled ||
                 (node->phase >= FAE_NODE_DRAINING && WIFEXITED(status) && WEXITSTATUS(status) == 0);

    fae_crash_report(node->shared.slots, node->shared.stats, slot);
    if (!asked)
        log_death(node, slot, status, lived_ms);
    fae_reload_died(node, slot);
    atomic_store(&s->state, FAE_SLOT_DEAD);
    FAE_STAT_ADD(s->n_deaths, 1);
    clear_slot(s);
    if (slot < node->n_workers) {
        fae_gates_reap(node->shared.gates, slot);
        fae_hosts_reap(node->shared.hosts, slot);
        fae_upstreams_reap(node->shared.upstreams, slot);
    }
    fae_stores_reap(&node->shared.stores, slot);
    close_fd(&child->life);
    child->pid = 0;
    child->respawn_ms = now_ms;
    if (!recycled)
        child->respawn_ms += fae_backoff_died(&child->backoff, lived_ms, child->by_watchdog);
    if (node->phase == FAE_NODE_STARTING)
        node->n_start_deaths++;
}

static void dispatch(struct fae_node *node, pid_t pid, int status)
{
    if (fae_checker_reap(&node->reload.checker, pid, status))
        return;
    for (unsigned i = 0; i < node->n_children; i++)
        if (node->children[i].pid == pid)
            bury(node, i, status);
}

void fae_children_reap(struct fae_node *node)
{
    int status;
    pid_t pid;

    while ((pid = waitpid(-1, &status, WNOHANG)) != 0) {
        if (pid > 0)
            dispatch(node, pid, status);
        else if (errno != EINTR)
            return;
    }
}

void fae_children_kill(struct fae_node *node, unsigned slot)
{
    /* Not reaped yet, so the number is still its own. */
    if (node->children[slot].pid)
        kill(node->children[slot].pid, SIGKILL);
}

bool fae_children_ready(struct fae_node *node, unsigned slot)
{
    return node->children[slot].pid && atomic_load(&fae_node_slot(node, slot)->state) == FAE_SLOT_READY;
}

unsigned fae_children_n_workers(const struct fae_node *node)
{
    unsigned n = 0;

    for (unsigned i = 0; i < node->n_workers; i++)
        n += node->children[i].pid != 0;
    return n;
}
