/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The slot table's memory and the names of slots.
 */
#include "base/slot.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/clock.h"

_Static_assert(FAE_WORKERS_MAX <= 999, "worker-999 fits a name");

char *fae_slot_name(const struct fae_slots *t, unsigned slot, char *name)
{
    if (slot < t->n_workers)
        snprintf(name, 16, "worker-%u", slot % 1000);
    else
        snprintf(name, 16, "%s", slot == fae_slot_ops(t) ? "ops" : "supervisor");
    return name;
}

size_t fae_slots_size(const void *n_workers)
{
    (void)n_workers;
    return sizeof(struct fae_slots);
}

void fae_slots_init(void *mem, const void *n_workers)
{
    struct fae_slots *t = mem;

    t->n_workers = *(const unsigned *)n_workers;
    FAE_ASSERT(t->n_workers >= 1);
    FAE_ASSERT(t->n_workers <= FAE_WORKERS_MAX);
    t->started_ms = fae_now_ms();
    t->started_wall_ms = fae_wall_ms();
    t->lua_max = t->results_max = t->io_max = UINT64_MAX;
}
