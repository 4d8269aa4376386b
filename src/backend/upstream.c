/* SPDX-License-Identifier: BSD-2-Clause
 *
 * (in the making)
 */
#include "backend/upstream.h"

size_t fae_upstreams_size(const void *arg)
{
    (void)arg;
    return 64;
}

void fae_upstreams_init(void *mem, const void *arg)
{
    (void)mem;
    (void)arg;
}

void fae_upstreams_reap(struct fae_upstreams *ups, unsigned slot)
{
    (void)ups;
    (void)slot;
}
