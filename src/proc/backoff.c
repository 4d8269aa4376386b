/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Doubling pauses between starts.
 */
#include "proc/backoff.h"

#include "base/limits.h"

#define QUICK_MS 1000   /* a death this soon after the start counts */
#define FORGET_MS 60000 /* a life this long clears the record */

uint64_t fae_backoff_died(struct fae_backoff *b, uint64_t lived_ms, bool by_watchdog)
{
    uint64_t pause_ms = FAE_RESPAWN_MS;
    unsigned doublings;

    if (lived_ms >= FORGET_MS || (!by_watchdog && lived_ms >= QUICK_MS))
        b->n = 0;
    if (!by_watchdog && lived_ms >= QUICK_MS)
        return 0;
    doublings = b->n++;
    /* One stuck call must not cost more than the call itself: the first kill is followed at once. */
    if (by_watchdog && doublings-- == 0)
        return 0;
    while (doublings-- && pause_ms < FAE_RESPAWN_MAX_MS)
        pause_ms *= 2;
    return pause_ms < FAE_RESPAWN_MAX_MS ? pause_ms : FAE_RESPAWN_MAX_MS;
}
