/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The lock table as a whole: start and end, what is over cleared away, what admins see.
 */
#include "base/buf.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/mailbox.h"
#include "base/utf8.h"
#include "store/locks_impl.h"

#define SWEPT 256u /* entries, and waiters, a tick */

void fae_locks_open(const struct fae_stores *stores, uint64_t now_ms)
{
    struct fae_locks *l = stores->locks;
    uint64_t lease_ms = stores->marks->began[FAE_MARK_LEASE_MS];
    uint64_t fence = fae_marks_reserved(stores->marks, FAE_MARK_FENCE);

    l->quiet_until_ms = lease_ms ? now_ms + lease_ms : 0;
    atomic_store(&l->next_fence, fence ? fence : 1);
}

void fae_locks_serve(const struct fae_stores *stores)
{
    uint64_t next = atomic_load(&stores->locks->next_fence);

    fae_marks_want(stores, FAE_MARK_FENCE, (next / FAE_LOCK_FENCES + 2) * FAE_LOCK_FENCES);
}

/* The longest that a lock may still be held; 0: none is. */
static uint64_t longest_left(const struct fae_stores *stores, uint64_t now_ms)
{
    const struct fae_locks *l = stores->locks;
    uint64_t left_ms = 0;

    if (now_ms <= l->quiet_until_ms) /* as somebody's from before may be */
        left_ms = l->quiet_until_ms - now_ms + 1;
    for (uint32_t i = 0; i < l->n_shards; i++) {
        struct fae_lock_shard *s = fae_locks_shard(l, i);

        for (uint32_t n = 1; n <= s->n_entries; n++) {
            struct fae_lock_entry *e = fae_locks_entry(l, s, n);
            uint64_t expires_ms = fae_lock_holder(e)->expires_ms;

            /* bound ones too: their processes are gone, but in good order, and perhaps with work still under way */
            if (e->state == FAE_LOCK_HELD && !fae_lock_holder(e)->nobody && expires_ms && expires_ms >= now_ms &&
                expires_ms - now_ms + 1 > left_ms)
                left_ms = expires_ms - now_ms + 1;
        }
    }
    return left_ms;
}

void fae_locks_close(const struct fae_stores *stores, uint64_t now_ms)
{
    uint64_t left_ms = longest_left(stores, now_ms);

    fae_marks_settle(stores->marks, FAE_MARK_LEASE_MS, left_ms ? left_ms + 1 : 0);
    fae_marks_settle(stores->marks, FAE_MARK_FENCE, atomic_load(&stores->locks->next_fence));
}

/* ---- what is over ---- */

static void sweep_entries(struct fae_lock_op *op, uint32_t n)
{
    struct fae_lock_shard *s = op->shard;

    for (; n && s->n_entries; n--) {
        struct fae_lock_entry *e;

        if (s->swept_entry >= s->n_entries)
            s->swept_entry = 0;
        e = fae_locks_entry(op->locks, s, ++s->swept_entry);
        if (atomic_load_explicit(&e->state, memory_order_relaxed) == FAE_LOCK_HELD)
            fae_lock_tidy(op, e);
    }
}

static void sweep_waiters(struct fae_lock_op *op, uint32_t n)
{
    struct fae_lock_shard *s = op->shard;

    for (; n && s->n_waiters; n--) {
        struct fae_lock_waiter *w;

        if (s->swept_waiter >= s->n_waiters)
            s->swept_waiter = 0;
        w = fae_locks_waiter(op->locks, s, ++s->swept_waiter);
        if (atomic_load_explicit(&w->state, memory_order_relaxed) != FAE_WAITER_FREE &&
            !fae_life_goes_on(op->stores, w->life))
            fae_locks_drop(op, s->swept_waiter);
    }
}

void fae_lock_sweep_shard(struct fae_lock_op *op, uint32_t n)
{
    sweep_waiters(op, n < op->shard->n_waiters ? n : op->shard->n_waiters);
    sweep_entries(op, n < op->shard->n_entries ? n : op->shard->n_entries);
}

void fae_locks_sweep(const struct fae_stores *stores, uint64_t now_ms)
{
    struct fae_locks *l = stores->locks;
    struct fae_lock_op op;

    for (uint32_t i = 0; i < l->n_shards; i++) {
        uint32_t at = atomic_fetch_add_explicit(&l->sweep, 1, memory_order_relaxed) & (l->n_shards - 1);
        const struct fae_lock_shard *s = fae_locks_shard(l, at);

        if (!FAE_STAT_GET(s->n_held) && !FAE_STAT_GET(s->n_places))
            continue;
        if (fae_lock_begin(&op, stores, at, now_ms, 0) == FAE_OK) {
            fae_lock_sweep_shard(&op, SWEPT);
            fae_lock_end(&op);
        }
        return;
    }
}

void fae_locks_reap(const struct fae_stores *stores, unsigned slot)
{
    (void)slot;
    if (stores->locks->n_shards && fae_locks_n_held(stores))
        for (unsigned i = 0; i < stores->slots->n_workers; i++)
            fae_mail_rouse(stores->mail, i);
}

/* ---- what is told ---- */

static unsigned list_shard(struct fae_lock_op *op, struct fae_lock_info *infos, unsigned n)
{
    unsigned found = 0;

    for (uint32_t i = 1; i <= op->shard->n_entries && found < n; i++) {
        struct fae_lock_entry *e = fae_locks_entry(op->locks, op->shard, i);

        if (atomic_load_explicit(&e->state, memory_order_relaxed) != FAE_LOCK_HELD || fae_lock_holder(e)->nobody ||
            fae_lock_over(op->stores, e, op->now_ms))
            continue;
        fae_lock_tell(op, e, &infos[found]);
        memcpy(infos[found++].key, e->key, e->key_len);
    }
    return found;
}

unsigned fae_locks_list(const struct fae_stores *stores, uint64_t now_ms, uint32_t within_ms,
                        struct fae_lock_info *infos, unsigned n)
{
    const struct fae_locks *l = stores->locks;
    struct fae_lock_op op;
    unsigned found = 0;

    for (uint32_t i = 0; i < l->n_shards && found < n; i++) {
        if (!FAE_STAT_GET(fae_locks_shard(l, i)->n_held) || fae_lock_begin(&op, stores, i, now_ms, within_ms))
            continue;
        found += list_shard(&op, infos + found, n - found);
        fae_lock_end(&op);
    }
    return found;
}

unsigned fae_locks_n_held(const struct fae_stores *stores)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < stores->locks->n_shards; i++)
        n += FAE_STAT_GET(fae_locks_shard(stores->locks, i)->n_held);
    return n;
}

static unsigned n_places(const struct fae_locks *l)
{
    unsigned n = 0;

    for (uint32_t i = 0; i < l->n_shards; i++)
        n += FAE_STAT_GET(fae_locks_shard(l, i)->n_places);
    return n;
}

static uint64_t sum(const struct fae_locks *l, unsigned what)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < l->n_shards; i++)
        n += FAE_STAT_GET(fae_locks_shard(l, i)->counts[what]);
    return n;
}

void fae_locks_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg)
{
    static const struct {
        const char *name, *help;
    } counts[FAE_LOCKS_N_COUNTS] = {
        [FAE_LOCKS_GRANTED] = { "locks_granted_total", "Locks given, those handed over included." },
        [FAE_LOCKS_HANDED] = { "locks_handed_over_total", "Locks given to somebody who waited." },
        [FAE_LOCKS_REFUSED] = { "locks_refused_total", "Locks that somebody else held, too long for who wanted them." },
        [FAE_LOCKS_RELEASED] = { "locks_released_total", "Locks released by their owners." },
        [FAE_LOCKS_RENEWED] = { "locks_renewed_total", "Leases that began anew." },
        [FAE_LOCKS_EXPIRED] = { "locks_expired_total", "Locks whose lease was over before they were released." },
        [FAE_LOCKS_ORPHANED] = { "locks_orphaned_total", "Locks that a dead worker's calls had." },
        [FAE_LOCKS_FORCED] = { "locks_forced_total", "Locks released by somebody else." },
        [FAE_LOCKS_OVERLOAD] = { "locks_overload_total", "Locks not given because the table was full." },
        [FAE_LOCKS_REPAIRS] = { "locks_repairs_total", "Parts of the table made anew after a process died inside." },
    };

    tell(arg, "locks_held", "Locks that are held.", false, fae_locks_n_held(stores));
    tell(arg, "locks_waiting", "Calls that wait for a lock.", false, n_places(stores->locks));
    for (unsigned i = 0; i < FAE_LOCKS_N_COUNTS; i++)
        tell(arg, counts[i].name, counts[i].help, true, sum(stores->locks, i));
}

static void add_text(struct fae_buf *out, const char *name, const struct fae_lock_text *text)
{
    fae_buf_printf(out, ",\"%s\":", name);
    fae_buf_json(out, text->bytes, text->len);
}

void fae_lock_info_json(const struct fae_lock_info *info, struct fae_buf *out)
{
    fae_buf_printf(out, "{\"key\":");
    fae_buf_json(out, (const char *)info->key, info->key_len);
    if (!fae_utf8_valid(info->key, info->key_len)) {
        fae_buf_printf(out, ",\"key_hex\":\"");
        for (unsigned i = 0; i < info->key_len; i++)
            fae_buf_printf(out, "%02x", info->key[i]);
        fae_buf_add(out, "\"", 1);
    }
    add_text(out, "reason", &info->reason);
    add_text(out, "who", &info->who);
    fae_buf_printf(out,
                   ",\"held_ms\":%llu,\"left_ms\":%llu,\"lease_ms\":%llu,\"waiting\":%u,\"fence\":%llu,\"worker\":%u,"
                   "\"auto_release\":%s}",
                   (unsigned long long)info->held_ms, (unsigned long long)info->left_ms,
                   (unsigned long long)info->lease_ms, info->n_waiting, (unsigned long long)info->fence, info->slot,
                   info->bound ? "true" : "false");
}
