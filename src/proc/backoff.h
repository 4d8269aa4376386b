/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How long to wait before a dead child is started again. Most deaths cost nothing; only those that look like a loop
 * (within 1 s of the start, or by the watchdog) make the pause grow.
 */
#ifndef FAE_PROC_BACKOFF_H
#define FAE_PROC_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

struct fae_backoff {
    unsigned n; /* deaths in a row that counted */
};

/* A child died after lived_ms; returns the pause in ms. */
uint64_t fae_backoff_died(struct fae_backoff *b, uint64_t lived_ms, bool by_watchdog);

#endif
