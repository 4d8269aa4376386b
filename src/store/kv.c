/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The stores of one process: folders, shared memory, and a worker's side of it. No LMDB here: that is kv_env.
 */
#include "store/kv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/slot.h"
#include "store/kv_env.h"
#include "store/kv_writer.h"

#define ANSWERS_BYTES (512u * FAE_KIB)
#define RING_MIN (1u * FAE_MIB)

/* Twice as many as can be outstanding: those of an incarnation that died may lie there too. */
_Static_assert(2 * FAE_KV_OUTSTANDING * (sizeof(struct fae_kv_answer) + 4) <= ANSWERS_BYTES, "answers find room");

static const char *const folders[FAE_KV_STORES] = { "kv", "kv_fast" };

/* ---- shared memory ---- */

static uint32_t ring_cap(uint32_t value_max)
{
    uint32_t cap = RING_MIN;

    while (cap < 4 * (uint64_t)value_max)
        cap *= 2;
    return cap;
}

/* What follows one another begins on a cache line of its own. */
static size_t lined(size_t size)
{
    return (size + 63) & ~(size_t)63;
}

static size_t lane_size(uint32_t cap)
{
    return lined(sizeof(struct fae_kv_lane)) + lined(fae_kv_ring_size(cap)) + lined(fae_ring_size(ANSWERS_BYTES));
}

size_t fae_kv_shared_size(const void *kv_arg)
{
    const struct fae_kv_arg *arg = kv_arg;
    size_t n_stores = 0;

    for (unsigned i = 0; i < FAE_KV_STORES; i++)
        n_stores = arg->on[i] ? i + 1 : n_stores;
    return sizeof(struct fae_kv_shared) + n_stores * arg->n_workers * lane_size(ring_cap(arg->value_max));
}

void fae_kv_shared_init(void *mem, const void *kv_arg)
{
    const struct fae_kv_arg *arg = kv_arg;
    struct fae_kv_shared *s = mem;

    s->n_workers = arg->n_workers;
    s->value_max = arg->value_max;
    s->ring_cap = ring_cap(arg->value_max);
    s->lane_size = lane_size(s->ring_cap);
    for (unsigned i = 0; i < FAE_KV_STORES; i++) {
        s->on[i] = arg->on[i];
        for (unsigned w = 0; w < s->n_workers && s->on[i]; w++) {
            fae_kv_ring_init(fae_kv_requests(s, i, w), s->ring_cap);
            fae_ring_init(fae_kv_answers(s, i, w), ANSWERS_BYTES);
        }
    }
}

struct fae_kv_lane *fae_kv_lane(struct fae_kv_shared *shared, unsigned store, unsigned worker)
{
    FAE_ASSERT(store < FAE_KV_STORES);
    FAE_ASSERT(worker < shared->n_workers);
    return (struct fae_kv_lane *)(shared->lanes + ((size_t)store * shared->n_workers + worker) * shared->lane_size);
}

struct fae_kv_ring *fae_kv_requests(struct fae_kv_shared *shared, unsigned store, unsigned worker)
{
    return (struct fae_kv_ring *)((uint8_t *)fae_kv_lane(shared, store, worker) + lined(sizeof(struct fae_kv_lane)));
}

struct fae_ring *fae_kv_answers(struct fae_kv_shared *shared, unsigned store, unsigned worker)
{
    return (struct fae_ring *)((uint8_t *)fae_kv_requests(shared, store, worker) +
                               lined(fae_kv_ring_size(shared->ring_cap)));
}

/* ---- life ---- */

void fae_kv_init(struct fae_kv *kv, struct fae_kv_shared *shared, struct fae_slots *slots, struct fae_mailboxes *mail)
{
    *kv = (struct fae_kv){
        .shared = shared, .slots = slots, .mail = mail, .wall_ms = fae_wall_ms, .map_bytes = FAE_KV_MAP_BYTES
    };
    for (unsigned i = 0; i < FAE_KV_STORES; i++) {
        kv->stores[i].kv = kv;
        kv->stores[i].index = i;
        kv->stores[i].wake_fd = -1;
    }
}

static enum fae_err open_store(struct fae_kv_store *store, const char *data_dir, char *why_out, size_t why_size)
{
    enum fae_err err;

    snprintf(store->dir, sizeof store->dir, "%s/%s", data_dir, folders[store->index]);
    if (mkdir(store->dir, 0700) != 0 && errno != EEXIST) {
        snprintf(why_out, why_size, "%s: %s", store->dir, strerror(errno));
        return errno == ENOSPC || errno == EDQUOT ? FAE_NO_SPACE : FAE_SYSTEM;
    }
    store->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (store->wake_fd < 0) {
        snprintf(why_out, why_size, "eventfd: %s", strerror(errno));
        return FAE_SYSTEM;
    }
    err = fae_kv_env_open(store, FAE_KV_ENV_MAKE, why_out, why_size);
    fae_kv_env_close(&store->env);
    return err;
}

enum fae_err fae_kv_open(struct fae_kv *kv, const char *data_dir, char *why_out, size_t why_size)
{
    enum fae_err err = FAE_OK;

    for (unsigned i = 0; i < FAE_KV_STORES && !err; i++)
        if (fae_kv_on(kv, i))
            err = open_store(&kv->stores[i], data_dir, why_out, why_size);
    if (err)
        fae_kv_close(kv);
    return err;
}

void fae_kv_close(struct fae_kv *kv)
{
    for (unsigned i = 0; i < FAE_KV_STORES; i++) {
        struct fae_kv_store *store = &kv->stores[i];

        fae_kv_env_close(&store->env);
        if (store->kv && store->wake_fd >= 0)
            close(store->wake_fd);
        store->wake_fd = -1;
    }
}

enum fae_err fae_kv_serve(struct fae_kv *kv, char *why_out, size_t why_size)
{
    enum fae_err err = FAE_OK;

    for (unsigned i = 0; i < FAE_KV_STORES && !err; i++)
        if (fae_kv_on(kv, i))
            err = fae_kv_writer_start(&kv->stores[i], why_out, why_size);
    if (err)
        fae_kv_rest(kv);
    return err;
}

void fae_kv_rest(struct fae_kv *kv)
{
    for (unsigned i = 0; i < FAE_KV_STORES; i++)
        fae_kv_writer_stop(&kv->stores[i]);
}

/* ---- a worker asks ---- */

static void wake_writer(struct fae_kv_store *store)
{
    _Atomic uint32_t *asleep = &store->kv->shared->stores[store->index].asleep;
    const uint64_t one = 1;

    if (!atomic_load(asleep) || !atomic_exchange(asleep, 0))
        return;
    while (write(store->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
        ;
}

enum fae_err fae_kv_ask(struct fae_kv_store *store, unsigned worker, const struct fae_kv_request *request,
                        uint32_t *at_out)
{
    struct fae_kv_shared *shared = store->kv->shared;

    if (!fae_kv_ring_put(fae_kv_requests(shared, store->index, worker), request, at_out)) {
        FAE_STAT_ADD(fae_kv_lane(shared, store->index, worker)->n_overload, 1);
        return FAE_OVERLOAD;
    }
    wake_writer(store);
    return FAE_OK;
}

bool fae_kv_withdraw(struct fae_kv_store *store, unsigned worker, uint32_t at)
{
    struct fae_kv_lane *lane = fae_kv_lane(store->kv->shared, store->index, worker);
    bool withdrawn = fae_kv_ring_withdraw(fae_kv_requests(store->kv->shared, store->index, worker), at);

    if (withdrawn)
        FAE_STAT_ADD(lane->n_timeouts, 1);
    else
        FAE_STAT_ADD(lane->n_unknown, 1);
    return withdrawn;
}

bool fae_kv_next_answer(struct fae_kv_store *store, unsigned worker, struct fae_kv_answer *out)
{
    struct fae_ring *ring = fae_kv_answers(store->kv->shared, store->index, worker);
    uint32_t incarnation = FAE_STAT_GET(store->kv->slots->slots[worker].incarnation);
    long n;

    while ((n = fae_ring_pop(ring, out, sizeof *out)) >= 0)
        if (n == sizeof *out && out->incarnation == incarnation)
            return true;
    return false;
}

/* ---- numbers ---- */

static const struct row {
    const char *name, *help;
    bool counter;
    size_t offset;
} rows[] = {
#define ROW(name, counter, field, help)                                                                                \
    {                                                                                                                  \
        name, help, counter, offsetof(struct fae_kv_stats, field)                                                      \
    }
    ROW("items", false, n_items, "Records, expired ones that were not swept yet included."),
    ROW("bytes", false, file_bytes, "Size of the file on disk."),
    ROW("map_bytes", false, map_bytes, "What the file may grow to before the map is enlarged."),
    ROW("commits_total", true, n_commits, "Transactions written."),
    ROW("writes_total", true, n_writes, "Requests done in them."),
    ROW("commit_ns_total", true, commit_ns, "Time that transactions took, with the wait for the disk."),
    ROW("batch_max", false, batch_max, "Most requests in one transaction."),
    ROW("expired_requests_total", true, n_timeouts, "Requests whose deadline had passed before they were begun."),
    ROW("unknown_total", true, n_unknown, "Requests that a writer had begun when it died."),
    ROW("no_space_total", true, n_no_space, "Requests refused because the disk was full."),
    ROW("failed_total", true, n_failed, "Requests that failed because the system refused."),
    ROW("swept_total", true, n_swept, "Expired records removed."),
    ROW("readers_freed_total", true, n_readers_freed, "Places of readers that died, freed."),
    ROW("answers_dropped_total", true, n_stale, "Answers to workers that were gone or did not take them."),
#undef ROW
};

static void tell_lanes(const struct fae_kv *kv, unsigned i, const char *prefix, fae_kv_stat_fn tell, void *arg)
{
    uint64_t overload = 0, unknown = 0, timeouts = 0, queued = 0;
    char name[64];

    for (unsigned w = 0; w < kv->shared->n_workers; w++) {
        const struct fae_kv_lane *lane = fae_kv_lane(kv->shared, i, w);

        overload += FAE_STAT_GET(lane->n_overload);
        unknown += FAE_STAT_GET(lane->n_unknown);
        timeouts += FAE_STAT_GET(lane->n_timeouts);
        queued += fae_kv_ring_used(fae_kv_requests(kv->shared, i, w));
    }
    snprintf(name, sizeof name, "%s_overload_total", prefix);
    tell(arg, name, "Writes refused because too many waited.", true, overload);
    snprintf(name, sizeof name, "%s_withdrawn_total", prefix);
    tell(arg, name, "Writes given up before they were begun: not done.", true, timeouts);
    snprintf(name, sizeof name, "%s_given_up_total", prefix);
    tell(arg, name, "Writes given up after they were begun: answered UNKNOWN.", true, unknown);
    snprintf(name, sizeof name, "%s_queue_bytes", prefix);
    tell(arg, name, "Requests that wait for the writer, in bytes.", false, queued);
}

void fae_kv_tell_stats(const struct fae_kv *kv, fae_kv_stat_fn tell, void *arg)
{
    char name[64];

    for (unsigned i = 0; i < FAE_KV_STORES; i++) {
        if (!fae_kv_on(kv, i))
            continue;
        for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++) {
            const uint8_t *at = (const uint8_t *)&kv->shared->stores[i].stats + rows[r].offset;

            snprintf(name, sizeof name, "%s_%s", folders[i], rows[r].name);
            tell(arg, name, rows[r].help, rows[r].counter, FAE_STAT_GET(*(const _Atomic uint64_t *)at));
        }
        tell_lanes(kv, i, folders[i], tell, arg);
    }
}
