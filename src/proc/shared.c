/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The table of shared regions: a new one is one row here.
 */
#include "proc/shared.h"

#include <errno.h>

#include "base/log.h"
#include "rpc/stats.h"
#include "rpc/turn.h"

/* Every region is sized by the number of workers. */
static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },       { "mailboxes", fae_mailboxes_size, fae_mailboxes_init },
    { "log", fae_log_rings_size, fae_log_rings_init }, { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
};

enum fae_err fae_shared_open(struct fae_shared *shared_out, unsigned n_workers)
{
    struct fae_shared s = { 0 };
    enum fae_err err;
    int why;

    err = fae_shm_map(&s.shm, regions, sizeof regions / sizeof *regions, &n_workers);
    if (err)
        return err;
    s.slots = fae_shm_get(&s.shm, "slots");
    s.stats = fae_shm_get(&s.shm, "stats");
    s.turns = fae_shm_get(&s.shm, "turns");
    s.rings = fae_shm_get(&s.shm, "log");
    err = fae_mailboxes_open(&s.mail, fae_shm_get(&s.shm, "mailboxes"), s.slots);
    if (err)
        goto fail;
    *shared_out = s;
    return FAE_OK;

fail:
    why = errno;
    fae_shm_unmap(&s.shm);
    errno = why;
    return err;
}

void fae_shared_close(struct fae_shared *shared)
{
    fae_mailboxes_close(&shared->mail);
    fae_shm_unmap(&shared->shm);
}
