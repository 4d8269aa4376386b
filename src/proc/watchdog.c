/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A round every 100 ms. When the round itself is late the whole machine was paused, or this process was, and everybody's
 * silence means nothing: that round and those of the next second are skipped.
 *
 * A process that was stopped from outside may hold what others wait for (a part of the lock table), and they are silent
 * with it. It alone is killed then: until shortly after its end nobody else is.
 */
#include "proc/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/hist.h"
#include "proc/children.h"
#include "proc/crash.h"
#include "proc/node.h"

#define ROUND_MS 100
#define LATE_MS 500
#define TRUST_MS 1000 /* after a pause: time for everyone to stamp */
#define STARTING_MS 10000
#define SPARE_MS 500 /* after the end of one that was stopped: time for those who waited for it */

enum fae_watch_verdict fae_watch_judge(const struct fae_watch_case *c)
{
    switch ((enum fae_slot_state)c->state) {
    case FAE_SLOT_DEAD: return FAE_WATCH_WELL;
    case FAE_SLOT_STARTING: return c->age_ms >= STARTING_MS ? FAE_WATCH_KILL : FAE_WATCH_WELL;
    case FAE_SLOT_READY:
    case FAE_SLOT_DRAINING: break;
    }
    if (c->silent_ms >= c->kill_ms)
        return FAE_WATCH_KILL;
    return c->silent_ms >= c->warn_ms && !c->warned ? FAE_WATCH_WARN : FAE_WATCH_WELL;
}

/* To the main thread, which is the one that runs Lua; threads of libraries are not meant. */
static void nudge(const struct fae_child *child)
{
    syscall(SYS_tgkill, child->pid, child->pid, SIGUSR2);
}

/* By a signal or a debugger. */
static bool is_stopped(pid_t pid)
{
    char path[40], text[256], *end;
    ssize_t n = -1;
    int fd;

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        n = read(fd, text, sizeof text - 1);
        close(fd);
    }
    if (n <= 0)
        return false;
    text[n] = '\0';
    end = strrchr(text, ')'); /* of its name, which may have any bytes */
    return end && end[1] == ' ' && (end[2] == 'T' || end[2] == 't');
}

static uint64_t silent_ms(struct fae_node *node, unsigned slot, uint64_t now_ms)
{
    uint64_t beat_ms = FAE_STAT_GET(fae_node_slot(node, slot)->heartbeat_ms);

    return now_ms > beat_ms ? now_ms - beat_ms : 0;
}

/* Others are spared from before one that is stopped is killed. */
static void look_for_stopped(struct fae_node *node, uint64_t now_ms)
{
    for (unsigned i = 0; i < node->n_children; i++) {
        struct fae_child *child = &node->children[i];

        child->stopped =
            child->pid && silent_ms(node, i, now_ms) >= node->config.watchdog_warn_ms && is_stopped(child->pid);
        if (child->stopped)
            node->spare_until_ms = now_ms + SPARE_MS;
    }
}

static void look_at(struct fae_node *node, unsigned slot, uint64_t now_ms)
{
    struct fae_child *child = &node->children[slot];
    struct fae_slot *s = fae_node_slot(node, slot);
    struct fae_watch_case c = { .state = FAE_STAT_GET(s->state),
                                .warned = child->warned,
                                .silent_ms = silent_ms(node, slot, now_ms),
                                .age_ms = now_ms - child->started_ms,
                                .warn_ms = node->config.watchdog_warn_ms,
                                .kill_ms = node->config.watchdog_kill_ms };
    char name[16], method[FAE_METHOD_NAME_MAX + 1];

    fae_crash_report(node->shared.slots, node->shared.stats, slot);
    if (c.silent_ms < c.warn_ms)
        child->warned = false;
    if (!node->config.watchdog || child->by_watchdog)
        return;
    switch (fae_watch_judge(&c)) {
    case FAE_WATCH_WELL: return;
    case FAE_WATCH_WARN:
        child->warned = true;
        FAE_WARN("%s is silent for %" PRIu64 " ms in %s: interrupting it",
                 fae_slot_name(node->shared.slots, slot, name), c.silent_ms,
                 fae_crash_method(node->shared.slots, node->shared.stats, slot, method));
        nudge(child);
        return;
    case FAE_WATCH_KILL:
        if (!child->stopped && now_ms < node->spare_until_ms)
            return;
        child->by_watchdog = true;
        FAE_ERROR("%s is silent for %" PRIu64 " ms in %s: killing it", fae_slot_name(node->shared.slots, slot, name),
                  c.state == FAE_SLOT_STARTING ? c.age_ms : c.silent_ms,
                  fae_crash_method(node->shared.slots, node->shared.stats, slot, method));
        fae_children_kill(node, slot);
        return;
    }
}

void fae_watchdog_step(struct fae_node *node, uint64_t now_ms)
{
    bool late = node->watch_ms && now_ms > node->watch_ms + LATE_MS;

    if (now_ms >= node->watch_ms && !late)
        look_for_stopped(node, now_ms);
    if (now_ms >= node->watch_ms && !late)
        for (unsigned i = 0; i < node->n_children; i++)
            if (node->children[i].pid)
                look_at(node, i, now_ms);
    if (late)
        FAE_WARN("the supervisor was paused for %" PRIu64 " ms: not judging the silence of others",
                 now_ms - node->watch_ms);
    if (now_ms >= node->watch_ms)
        node->watch_ms = now_ms + (late ? TRUST_MS : ROUND_MS);
    fae_node_wake_at(node, node->watch_ms);
}
