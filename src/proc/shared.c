/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The table of shared regions: a new one is one row here.
 */
#include "proc/shared.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "backend/upstream.h"
#include "base/config.h"
#include "base/log.h"
#include "base/memlimit.h"
#include "rpc/gate.h"
#include "rpc/hosts.h"
#include "rpc/series.h"
#include "rpc/slowlog.h"
#include "rpc/stats.h"
#include "rpc/turn.h"
#include "store/idgen.h"
#include "store/lcache.h"
#include "store/locks.h"
#include "store/marks.h"

/* What regions are sized by; most look at the number of workers alone, which therefore comes first. */
struct sizes {
    unsigned n_workers;
    const struct fae_config *config;
    uint64_t caches[FAE_CACHES];
};

static size_t slowlog_size(const void *sizes)
{
    return fae_slowlog_size(((const struct sizes *)sizes)->config);
}

static void slowlog_init(void *mem, const void *sizes)
{
    fae_slowlog_init(mem, ((const struct sizes *)sizes)->config);
}

static struct fae_series_arg series_arg(const struct sizes *sizes)
{
    return (struct fae_series_arg){ sizes->n_workers, (uint32_t)sizes->config->metrics_series_max };
}

static size_t series_size(const void *sizes)
{
    struct fae_series_arg arg = series_arg(sizes);

    return fae_series_size(&arg);
}

static void series_init(void *mem, const void *sizes)
{
    struct fae_series_arg arg = series_arg(sizes);

    fae_series_init(mem, &arg);
}

static size_t common_size(const void *sizes)
{
    return ((const struct sizes *)sizes)->caches[FAE_CACHE_COMMON];
}

static size_t query_size(const void *sizes)
{
    return ((const struct sizes *)sizes)->caches[FAE_CACHE_QUERY];
}

static void common_init(void *mem, const void *sizes)
{
    fae_lcache_init(mem, common_size(sizes), fae_cache_names[FAE_CACHE_COMMON]);
}

static void query_init(void *mem, const void *sizes)
{
    fae_lcache_init(mem, query_size(sizes), fae_cache_names[FAE_CACHE_QUERY]);
}

static size_t locks_size(const void *sizes)
{
    return fae_locks_size(&((const struct sizes *)sizes)->config->locks_max);
}

static void locks_init(void *mem, const void *sizes)
{
    fae_locks_init(mem, &((const struct sizes *)sizes)->config->locks_max);
}

static struct fae_kv_arg kv_arg(const struct sizes *sizes)
{
    const struct fae_config *c = sizes->config;

    return (struct fae_kv_arg){ sizes->n_workers, (uint32_t)c->message_max, { c->kv, c->kv_fast } };
}

static size_t kv_size(const void *sizes)
{
    struct fae_kv_arg arg = kv_arg(sizes);

    return fae_kv_shared_size(&arg);
}

static void kv_init(void *mem, const void *sizes)
{
    struct fae_kv_arg arg = kv_arg(sizes);

    fae_kv_shared_init(mem, &arg);
}

static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "mailboxes", fae_mailboxes_size, fae_mailboxes_init },
    { "log", fae_log_rings_size, fae_log_rings_init },
    { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
    { "slowlog", slowlog_size, slowlog_init },
    { "series", series_size, series_init },
    { "gates", fae_gates_size, fae_gates_init },
    { "hosts", fae_hosts_size, fae_hosts_init },
    { "upstreams", fae_upstreams_size, fae_upstreams_init },
    { "marks", fae_marks_size, fae_marks_init },
    { "ids", fae_ids_size, fae_ids_init },
    { "cache", common_size, common_init },
    { "query_cache", query_size, query_init },
    { "locks", locks_size, locks_init },
    { "kv", kv_size, kv_init },
};

void fae_shared_caches(const struct fae_config *config, uint64_t memory, uint64_t bytes_out[FAE_CACHES])
{
    uint64_t all = config->cache_size + config->query_cache_size;

    bytes_out[FAE_CACHE_COMMON] = fae_memlimit_cache(memory, config->cache_size, all);
    bytes_out[FAE_CACHE_QUERY] = fae_memlimit_cache(memory, config->query_cache_size, all);
}

enum fae_err fae_shared_open(struct fae_shared *shared_out, unsigned n_workers, const struct fae_config *config,
                             uint64_t memory)
{
    struct sizes sizes = { .n_workers = n_workers, .config = config };
    struct fae_shared s = { 0 };
    enum fae_err err;
    int why;

    fae_shared_caches(config, memory, sizes.caches);
    err = fae_shm_map(&s.shm, regions, sizeof regions / sizeof *regions, &sizes);
    if (err)
        return err;
    s.slots = fae_shm_get(&s.shm, "slots");
    s.stats = fae_shm_get(&s.shm, "stats");
    s.turns = fae_shm_get(&s.shm, "turns");
    s.slowlog = fae_shm_get(&s.shm, "slowlog");
    s.series = fae_shm_get(&s.shm, "series");
    s.gates = fae_shm_get(&s.shm, "gates");
    s.hosts = fae_shm_get(&s.shm, "hosts");
    s.upstreams = fae_shm_get(&s.shm, "upstreams");
    s.rings = fae_shm_get(&s.shm, "log");
    err = fae_mailboxes_open(&s.mail, fae_shm_get(&s.shm, "mailboxes"), s.slots);
    if (err)
        goto fail;
    s.stores.slots = s.slots;
    s.stores.data_dir = "";
    s.stores.marks = fae_shm_get(&s.shm, "marks");
    s.stores.ids = fae_shm_get(&s.shm, "ids");
    s.stores.locks = fae_shm_get(&s.shm, "locks");
    s.stores.marks_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s.stores.marks_fd < 0) {
        err = FAE_SYSTEM;
        fae_mailboxes_close(&s.mail);
        goto fail;
    }
    for (unsigned i = 0; i < FAE_CACHES; i++)
        s.stores.caches[i] = fae_shm_get(&s.shm, fae_cache_names[i]);
    *shared_out = s;
    shared_out->stores.mail = &shared_out->mail;
    fae_kv_init(&shared_out->stores.kv, fae_shm_get(&shared_out->shm, "kv"), shared_out->slots, &shared_out->mail);
    return FAE_OK;

fail:
    why = errno;
    fae_shm_unmap(&s.shm);
    errno = why;
    return err;
}

void fae_shared_close(struct fae_shared *shared)
{
    close(shared->stores.marks_fd);
    fae_mailboxes_close(&shared->mail);
    fae_shm_unmap(&shared->shm);
}
