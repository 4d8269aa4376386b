/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Finds children that hang: silent for watchdog_warn_ms they are named and nudged, for watchdog_kill_ms killed.
 */
#ifndef FAE_PROC_WATCHDOG_H
#define FAE_PROC_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

struct fae_node;

enum fae_watch_verdict {
    FAE_WATCH_WELL,
    FAE_WATCH_WARN, /* once a silence */
    FAE_WATCH_KILL,
};

struct fae_watch_case {
    unsigned state; /* enum fae_slot_state */
    bool warned;
    uint64_t silent_ms; /* since its last heartbeat */
    uint64_t age_ms;    /* since its fork */
    uint64_t warn_ms, kill_ms;
};

/* The rule by itself, without clock or process. */
enum fae_watch_verdict fae_watch_judge(const struct fae_watch_case *c);

/* Call once a turn. */
void fae_watchdog_step(struct fae_node *node, uint64_t now_ms);

#endif
