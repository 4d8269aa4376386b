/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What a child leaves behind when it crashes or is found stuck: its signal handlers write the signal and the return
 * addresses into its slot, the supervisor turns them into a log line with names. Addresses mean the same in both, since
 * children are forked and never exec.
 */
#ifndef FAE_PROC_CRASH_H
#define FAE_PROC_CRASH_H

#include "base/slot.h"

struct fae_stats;

/* In the child, before it serves. `nudged` is called from the SIGUSR2 handler (async-signal-safe), or NULL. */
void fae_crash_install(struct fae_slot *slot, void (*nudged)(void *arg), void *arg);

/* In the supervisor: logs what the slot's process left, if anything, and clears it. */
void fae_crash_report(struct fae_slots *slots, const struct fae_stats *stats, unsigned slot);

/* "user.profile", or "no method"; into text (FAE_METHOD_NAME_MAX + 1 bytes). */
const char *fae_crash_method(const struct fae_slots *slots, const struct fae_stats *stats, unsigned slot, char *text);

#endif
