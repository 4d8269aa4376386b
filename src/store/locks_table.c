/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The lock table as memory: shards, entries found by a seeded hash, waiters in queues, and their repair.
 */
#include <stdlib.h>
#include <sys/random.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "store/locks_impl.h"

#define SHARDS_MAX 64u
#define SHARD_LOCKS 1024u   /* a table this small is not divided: what does not fit it is told exactly */
#define SHARD_WAITERS 4096u /* at least: all may wait for the same lock */

static size_t up64(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

/* Keys spread by chance: a shard has room for a quarter more than its share, 8 sigma of 1024. */
static void lay_out(struct fae_locks *l, uint64_t max)
{
    uint32_t share;

    *l = (struct fae_locks){ .n_shards = 1, .n_buckets = 1 };
    while (l->n_shards < SHARDS_MAX && max / l->n_shards >= 2 * SHARD_LOCKS)
        l->n_shards *= 2;
    share = (uint32_t)((max + l->n_shards - 1) / l->n_shards);
    l->entries_max = l->n_shards == 1 ? share : share + share / 4;
    l->waiters_max = share > SHARD_WAITERS ? share : SHARD_WAITERS;
    while (l->n_buckets < l->entries_max)
        l->n_buckets *= 2;
    l->buckets_at = up64(sizeof(struct fae_lock_shard));
    l->entries_at = up64(l->buckets_at + l->n_buckets * sizeof(uint32_t));
    l->waiters_at = up64(l->entries_at + l->entries_max * sizeof(struct fae_lock_entry));
    l->shard_size = up64(l->waiters_at + l->waiters_max * sizeof(struct fae_lock_waiter));
}

size_t fae_locks_size(const void *locks_max)
{
    struct fae_locks l;

    lay_out(&l, *(const uint64_t *)locks_max);
    return sizeof l + l.n_shards * l.shard_size;
}

void fae_locks_init(void *mem, const void *locks_max)
{
    struct fae_locks *l = mem;

    lay_out(l, *(const uint64_t *)locks_max);
    if (getrandom(&l->seed, sizeof l->seed, 0) != (ssize_t)sizeof l->seed)
        l->seed = fae_now_ns();
    for (uint32_t i = 0; i < l->n_shards; i++)
        fae_shmutex_init(&fae_locks_shard(l, i)->mutex);
}

uint64_t fae_locks_hash(const struct fae_locks *l, const void *key, size_t len)
{
    return XXH3_64bits_withSeed(key, len, l->seed);
}

uint32_t fae_locks_shard_of(const struct fae_locks *l, uint64_t hash)
{
    return (uint32_t)(hash >> 32) & (l->n_shards - 1);
}

/* ---- entries ---- */

static uint32_t *bucket_of(const struct fae_lock_op *op, uint64_t hash)
{
    return &fae_locks_buckets(op->locks, op->shard)[hash & (op->locks->n_buckets - 1)];
}

static struct fae_lock_entry *entry_of(const struct fae_lock_op *op, uint32_t n)
{
    return fae_locks_entry(op->locks, op->shard, n);
}

static struct fae_lock_waiter *waiter_of(const struct fae_lock_op *op, uint32_t n)
{
    return fae_locks_waiter(op->locks, op->shard, n);
}

uint32_t fae_locks_number(const struct fae_lock_op *op, const struct fae_lock_entry *e)
{
    return (uint32_t)(e - entry_of(op, 1)) + 1;
}

struct fae_lock_entry *fae_locks_find(const struct fae_lock_op *op, uint64_t hash, const void *key, size_t len)
{
    struct fae_lock_entry *e;

    for (uint32_t n = *bucket_of(op, hash); n; n = e->next) {
        e = entry_of(op, n);
        if (e->hash == hash && e->key_len == len && memcmp(e->key, key, len) == 0)
            return e;
    }
    return NULL;
}

struct fae_lock_entry *fae_locks_new(struct fae_lock_op *op)
{
    struct fae_lock_shard *s = op->shard;
    struct fae_lock_entry *e;

    if (s->free_entry) {
        e = entry_of(op, s->free_entry);
        s->free_entry = e->next;
    } else if (s->n_entries < op->locks->entries_max) {
        e = entry_of(op, ++s->n_entries);
    } else {
        return NULL;
    }
    e->first = e->last = e->n_waiting = 0;
    atomic_store_explicit(&e->which, 0, memory_order_relaxed);
    return e;
}

static void link_entry(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    uint32_t *bucket = bucket_of(op, e->hash);

    e->next = *bucket;
    *bucket = fae_locks_number(op, e);
    atomic_store_explicit(&op->shard->n_held, atomic_load_explicit(&op->shard->n_held, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

void fae_locks_add(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    atomic_store_explicit(&e->state, FAE_LOCK_HELD, memory_order_release);
    link_entry(op, e);
}

static void free_entry(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    e->next = op->shard->free_entry;
    op->shard->free_entry = fae_locks_number(op, e);
}

void fae_locks_remove(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    uint32_t *at = bucket_of(op, e->hash), n = fae_locks_number(op, e);

    atomic_store_explicit(&e->state, FAE_LOCK_FREE, memory_order_release);
    while (*at != n)
        at = &entry_of(op, *at)->next;
    *at = e->next;
    free_entry(op, e);
    atomic_store_explicit(&op->shard->n_held, atomic_load_explicit(&op->shard->n_held, memory_order_relaxed) - 1,
                          memory_order_relaxed);
}

/* ---- waiters ---- */

static uint32_t new_waiter(struct fae_lock_op *op)
{
    struct fae_lock_shard *s = op->shard;
    uint32_t n = s->free_waiter;

    if (n)
        s->free_waiter = waiter_of(op, n)->next;
    else if (s->n_waiters < op->locks->waiters_max)
        n = ++s->n_waiters;
    return n;
}

static void link_waiter(struct fae_lock_op *op, struct fae_lock_entry *e, uint32_t n)
{
    struct fae_lock_waiter *w = waiter_of(op, n);

    w->next = 0;
    w->prev = e->last;
    if (e->last)
        waiter_of(op, e->last)->next = n;
    else
        e->first = n;
    e->last = n;
    e->n_waiting++;
}

static void add_places(struct fae_lock_shard *s, uint32_t by)
{
    atomic_store_explicit(&s->n_places, atomic_load_explicit(&s->n_places, memory_order_relaxed) + by,
                          memory_order_relaxed);
}

uint32_t fae_locks_queue(struct fae_lock_op *op, struct fae_lock_entry *e, const struct fae_lock_ask *ask)
{
    uint32_t n = new_waiter(op);
    struct fae_lock_waiter *w;

    if (!n)
        return 0;
    w = waiter_of(op, n);
    w->entry = fae_locks_number(op, e);
    w->number = ++op->shard->last_number;
    w->token = ask->token;
    w->lease_ms = ask->lease_ms;
    w->life = fae_life(ask->slot, ask->incarnation);
    w->bound = ask->bound;
    w->reason = *ask->reason;
    w->who = *ask->who;
    atomic_store_explicit(&w->state, FAE_WAITER_WAITS, memory_order_release);
    link_waiter(op, e, n);
    add_places(op->shard, 1);
    return n;
}

void fae_locks_unqueue(struct fae_lock_op *op, uint32_t n)
{
    struct fae_lock_waiter *w = waiter_of(op, n);
    struct fae_lock_entry *e = entry_of(op, w->entry);

    *(w->prev ? &waiter_of(op, w->prev)->next : &e->first) = w->next;
    *(w->next ? &waiter_of(op, w->next)->prev : &e->last) = w->prev;
    e->n_waiting--;
}

void fae_locks_drop(struct fae_lock_op *op, uint32_t n)
{
    struct fae_lock_waiter *w = waiter_of(op, n);
    bool queued = atomic_load_explicit(&w->state, memory_order_relaxed) == FAE_WAITER_WAITS;

    atomic_store_explicit(&w->state, FAE_WAITER_FREE, memory_order_release);
    if (queued)
        fae_locks_unqueue(op, n);
    w->next = op->shard->free_waiter;
    op->shard->free_waiter = n;
    add_places(op->shard, (uint32_t)-1);
}

/* ---- repair ---- */

static void repair_entries(struct fae_lock_op *op)
{
    struct fae_lock_shard *s = op->shard;

    memset(fae_locks_buckets(op->locks, s), 0, op->locks->n_buckets * sizeof(uint32_t));
    s->free_entry = 0;
    atomic_store_explicit(&s->n_held, 0, memory_order_relaxed);
    if (s->n_entries > op->locks->entries_max)
        s->n_entries = op->locks->entries_max;
    for (uint32_t n = 1; n <= s->n_entries; n++) {
        struct fae_lock_entry *e = entry_of(op, n);

        e->first = e->last = e->n_waiting = 0;
        if (atomic_load_explicit(&e->state, memory_order_acquire) == FAE_LOCK_HELD)
            link_entry(op, e);
        else
            free_entry(op, e);
    }
}

/* The lock may have come to a waiter that does not know of it yet. */
static void repair_waiter(struct fae_lock_op *op, struct fae_lock_waiter *w)
{
    struct fae_lock_entry *e = w->entry && w->entry <= op->shard->n_entries ? entry_of(op, w->entry) : NULL;

    if (!e || atomic_load(&e->state) != FAE_LOCK_HELD)
        atomic_store(&w->state, FAE_WAITER_GRANTED); /* of nothing: whoever has the place finds that out */
    else if (fae_lock_holder(e)->number == w->number)
        atomic_store(&w->state, FAE_WAITER_GRANTED);
}

static int by_number(const void *a, const void *b, void *op)
{
    uint64_t x = waiter_of(op, *(const uint32_t *)a)->number, y = waiter_of(op, *(const uint32_t *)b)->number;

    return x < y ? -1 : x > y;
}

static void repair_waiters(struct fae_lock_op *op)
{
    struct fae_lock_shard *s = op->shard;
    uint32_t *queued, n_queued = 0;

    s->free_waiter = 0;
    atomic_store_explicit(&s->n_places, 0, memory_order_relaxed);
    if (s->n_waiters > op->locks->waiters_max)
        s->n_waiters = op->locks->waiters_max;
    queued = fae_alloc((s->n_waiters + 1) * sizeof *queued);
    for (uint32_t n = 1; n <= s->n_waiters; n++) {
        struct fae_lock_waiter *w = waiter_of(op, n);

        if (atomic_load_explicit(&w->state, memory_order_acquire) == FAE_WAITER_WAITS)
            repair_waiter(op, w);
        if (atomic_load(&w->state) == FAE_WAITER_FREE) {
            w->next = s->free_waiter;
            s->free_waiter = n;
            continue;
        }
        add_places(s, 1);
        if (atomic_load(&w->state) == FAE_WAITER_WAITS)
            queued[n_queued++] = n;
    }
    qsort_r(queued, n_queued, sizeof *queued, by_number, op);
    for (uint32_t i = 0; i < n_queued; i++)
        link_waiter(op, entry_of(op, waiter_of(op, queued[i])->entry), queued[i]);
    free(queued);
}

static void repair(struct fae_lock_op *op)
{
    repair_entries(op);
    repair_waiters(op);
    op->shard->swept_entry = op->shard->swept_waiter = 0;
    fae_locks_count(op, FAE_LOCKS_REPAIRS);
}

/* ---- an operation ---- */

enum fae_err fae_lock_begin(struct fae_lock_op *op, const struct fae_stores *stores, uint32_t shard, uint64_t now_ms,
                            uint32_t within_ms)
{
    bool died = false;
    enum fae_err err;

    op->stores = stores;
    op->locks = stores->locks;
    op->shard = fae_locks_shard(stores->locks, shard);
    op->now_ms = now_ms;
    op->rouses = false;
    if (within_ms == UINT32_MAX) {
        died = fae_shmutex_lock(&op->shard->mutex);
    } else {
        err = fae_shmutex_lock_within(&op->shard->mutex, within_ms, &died);
        if (err)
            return err;
    }
    if (__builtin_expect(died, 0))
        repair(op);
    return FAE_OK;
}

void fae_lock_end(struct fae_lock_op *op)
{
    fae_shmutex_unlock(&op->shard->mutex);
    if (__builtin_expect(!op->rouses, 1))
        return;
    for (unsigned i = 0; i < FAE_SLOTS_MAX; i++)
        if (op->roused[i])
            fae_mail_rouse(op->stores->mail, i);
}
