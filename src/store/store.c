/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The services one after the other; each has its own file.
 */
#include "store/store.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/config.h"
#include "base/hist.h"
#include "store/idgen.h"
#include "store/lcache.h"
#include "store/locks.h"
#include "store/marks.h"

const char *const fae_cache_names[FAE_CACHES + 1] = { "cache", "query_cache", NULL };

enum fae_err fae_stores_open(struct fae_stores *stores, const struct fae_config *config, char *why_out, size_t why_size)
{
    enum fae_err err = fae_marks_open(stores->marks, stores->data_dir, why_out, why_size);

    if (err)
        return err;
    fae_ids_open(stores, config);
    fae_locks_open(stores, fae_lock_now_ms());
    return fae_kv_open(&stores->kv, stores->data_dir, why_out, why_size);
}

void fae_stores_close(struct fae_stores *stores)
{
    fae_ids_close(stores);
    fae_locks_close(stores, fae_lock_now_ms());
    fae_kv_close(&stores->kv);
    fae_marks_close(stores->marks, stores->data_dir);
}

enum fae_err fae_stores_serve(struct fae_stores *stores, const struct fae_config *config, char *why_out,
                              size_t why_size)
{
    (void)config;
    if (!stores->marks_writer) {
        if (fae_marks_writer_start(&stores->marks_writer, stores)) {
            snprintf(why_out, why_size, "%s/marks: cannot be served: %s", stores->data_dir, strerror(errno));
            return FAE_SYSTEM;
        }
        fae_locks_serve(stores);
    }
    return fae_kv_serve(&stores->kv, why_out, why_size);
}

void fae_stores_rest(struct fae_stores *stores)
{
    fae_kv_rest(&stores->kv);
    fae_marks_writer_stop(&stores->marks_writer);
}

void fae_stores_reap(struct fae_stores *stores, unsigned slot)
{
    for (unsigned i = 0; i < FAE_CACHES; i++)
        if (stores->caches[i])
            fae_lcache_reap(stores->caches[i], slot);
    fae_locks_reap(stores, slot);
}

void fae_stores_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg)
{
    tell(arg, "marks_writes_total", "Times that ids and fencing numbers were reserved on disk.", true,
         FAE_STAT_GET(stores->marks->n_writes));
    tell(arg, "marks_write_ns_total", "Time that took.", true, FAE_STAT_GET(stores->marks->write_ns));
    fae_ids_stats(stores, tell, arg);
    for (unsigned i = 0; i < FAE_CACHES; i++)
        if (stores->caches[i])
            fae_lcache_stats(stores->caches[i], tell, arg);
    fae_locks_stats(stores, tell, arg);
    fae_kv_tell_stats(&stores->kv, tell, arg);
}
