/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A timing wheel: starting and stopping a timer are a few stores, however many there are, since every call that waits has a
 * deadline and nearly none of them passes. Time is given by the caller, in ms; nothing here reads a clock.
 *
 *   level 0: 256 slots of 1 ms;  levels 1 to 3: 64 slots each, of 256 ms, 16 s, 17 min (18 hours in all)
 *   When level 0 is through, the next slot of level 1 is dealt out to it, and so on.
 */
#ifndef FAE_NET_WHEEL_H
#define FAE_NET_WHEEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"

#define FAE_WHEEL_NEVER UINT64_MAX

struct fae_wheel {
    uint64_t at_ms; /* what is due before it has been taken */
    unsigned n_timers;
    uint64_t used0[4]; /* bits of slots of level 0 that may have something in them */
    struct fae_list slots0[256], slots[3][64];
    struct fae_list beyond; /* due after this round of the whole wheel */
    struct fae_list late;   /* was due already when it was started */
};

struct fae_wheel_node {
    struct fae_list node; /* zeroed: never started */
    uint64_t due_ms;
};

void fae_wheel_init(struct fae_wheel *wheel, uint64_t now_ms); /* it must not move from then on */
/* A running one is moved. What is already due is taken at the next look. */
void fae_wheel_start(struct fae_wheel *wheel, struct fae_wheel_node *timer, uint64_t due_ms);
void fae_wheel_stop(struct fae_wheel *wheel, struct fae_wheel_node *timer);
bool fae_wheel_running(const struct fae_wheel_node *timer);
/* Moves what is due by now_ms into `due` (nodes of timers, those due first in front); they still run until stopped. */
void fae_wheel_take(struct fae_wheel *wheel, uint64_t now_ms, struct fae_list *due);
/* When to look next: when a timer is due, or earlier; 0: at once. FAE_WHEEL_NEVER: there is none. */
uint64_t fae_wheel_next_ms(struct fae_wheel *wheel);

#endif
