/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The accept turns' memory. Zeroed, which makes worker 0 the first holder of each.
 */
#include "rpc/turn.h"

size_t fae_turns_size(const void *unused)
{
    (void)unused;
    return sizeof(struct fae_turns);
}

void fae_turns_init(void *mem, const void *unused)
{
    struct fae_turns *turns = mem;

    (void)unused;
    for (unsigned i = 0; i < FAE_LISTENERS_MAX; i++)
        atomic_init(&turns->holder[i], 0);
}
