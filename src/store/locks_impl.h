/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the files of the lock table share: its layout, and one operation on one shard of it. Nobody outside includes it.
 *
 * A number of an entry or a waiter is its place + 1; 0 is none. What a kill may leave: an entry counts from the store of
 * `state` on, its holder from that of `which`, a waiter from that of its `state`; lists and counts are made anew by
 * repair. Whatever takes something away first says so by such a store, and unlinks it then.
 */
#ifndef FAE_STORE_LOCKS_IMPL_H
#define FAE_STORE_LOCKS_IMPL_H

#include <stdatomic.h>
#include <string.h>

#include "base/shmutex.h"
#include "base/slot.h"
#include "store/locks.h"
#include "store/marks.h"

/* Who has a lock; there are two in an entry, and `which` tells the one that counts. */
struct fae_lock_holder {
    uint64_t token, fence, since_ms, lease_ms;
    uint64_t number;             /* of the waiter that it was handed to; 0: it was taken */
    _Atomic uint64_t expires_ms; /* held up to and with then; 0: released */
    _Atomic uint64_t life;       /* over when that process is (fae_life); 0: no matter */
    uint32_t slot;
    bool bound, nobody; /* nobody: keeps the place for those who wait */
    struct fae_lock_text reason, who;
};

enum fae_lock_state { FAE_LOCK_FREE, FAE_LOCK_HELD };

struct fae_lock_entry {
    _Atomic uint32_t state; /* enum fae_lock_state */
    _Atomic uint32_t which;
    uint32_t next; /* in its chain, or among the free */
    uint32_t first, last, n_waiting;
    uint32_t key_len;
    uint64_t hash;
    struct fae_lock_holder holders[2];
    uint8_t key[FAE_LOCK_KEY_MAX];
};

enum fae_lock_waiter_state { FAE_WAITER_FREE, FAE_WAITER_WAITS, FAE_WAITER_GRANTED };

struct fae_lock_waiter {
    _Atomic uint32_t state; /* enum fae_lock_waiter_state */
    uint32_t entry;
    uint32_t prev, next; /* in the queue; next among the free too */
    uint64_t number;     /* rises along a queue */
    uint64_t token, lease_ms, life;
    bool bound;
    struct fae_lock_text reason, who;
};

enum fae_lock_count {
    FAE_LOCKS_GRANTED,
    FAE_LOCKS_HANDED,
    FAE_LOCKS_REFUSED,
    FAE_LOCKS_RELEASED,
    FAE_LOCKS_RENEWED,
    FAE_LOCKS_EXPIRED,
    FAE_LOCKS_ORPHANED,
    FAE_LOCKS_FORCED,
    FAE_LOCKS_OVERLOAD,
    FAE_LOCKS_REPAIRS,
    FAE_LOCKS_N_COUNTS,
};

/* Written under its mutex; counts are read by anybody. Behind it are its buckets, entries and waiters. */
struct fae_lock_shard {
    _Alignas(64) struct fae_shmutex mutex;
    uint64_t last_number;
    uint32_t free_entry, n_entries; /* n_: that were ever used; those behind are untouched memory */
    uint32_t free_waiter, n_waiters;
    uint32_t swept_entry, swept_waiter;
    _Atomic uint32_t n_held, n_places;
    _Atomic uint64_t counts[FAE_LOCKS_N_COUNTS];
};

struct fae_locks {
    uint64_t seed;
    uint64_t quiet_until_ms;                                /* 0: nobody can hold a lock from before */
    uint32_t n_shards, n_buckets, entries_max, waiters_max; /* the latter of a shard */
    size_t shard_size, buckets_at, entries_at, waiters_at;  /* in bytes; _at: in a shard */
    _Alignas(64) _Atomic uint64_t next_fence;
    _Alignas(64) _Atomic uint32_t sweep;
    _Atomic uint32_t handed[FAE_SLOTS_MAX];
};

/* One operation, between begin and end. */
struct fae_lock_op {
    const struct fae_stores *stores;
    struct fae_locks *locks;
    struct fae_lock_shard *shard;
    uint64_t now_ms;
    bool roused[FAE_SLOTS_MAX]; /* at its end */
    bool rouses;
};

static inline struct fae_lock_shard *fae_locks_shard(const struct fae_locks *l, uint32_t i)
{
    return (struct fae_lock_shard *)((uint8_t *)l + sizeof *l + i * l->shard_size);
}

static inline uint32_t *fae_locks_buckets(const struct fae_locks *l, struct fae_lock_shard *s)
{
    return (uint32_t *)((uint8_t *)s + l->buckets_at);
}

static inline struct fae_lock_entry *fae_locks_entry(const struct fae_locks *l, struct fae_lock_shard *s, uint32_t n)
{
    return (struct fae_lock_entry *)((uint8_t *)s + l->entries_at) + (n - 1);
}

static inline struct fae_lock_waiter *fae_locks_waiter(const struct fae_locks *l, struct fae_lock_shard *s, uint32_t n)
{
    return (struct fae_lock_waiter *)((uint8_t *)s + l->waiters_at) + (n - 1);
}

static inline struct fae_lock_holder *fae_lock_holder(struct fae_lock_entry *e)
{
    return &e->holders[atomic_load_explicit(&e->which, memory_order_acquire) & 1];
}

static inline uint64_t fae_life(uint32_t slot, uint32_t incarnation)
{
    return (uint64_t)incarnation << 32 | (slot + 1);
}

static inline uint32_t fae_life_slot(uint64_t life)
{
    return (uint32_t)life - 1;
}

static inline bool fae_life_goes_on(const struct fae_stores *stores, uint64_t life)
{
    uint32_t slot = fae_life_slot(life);

    return slot < FAE_SLOTS_MAX && atomic_load(&stores->slots->slots[slot].incarnation) == life >> 32 &&
           atomic_load(&stores->slots->slots[slot].state) != FAE_SLOT_DEAD;
}

/* Nobody has it any more. Needs no mutex, when being wrong for a moment does no harm. */
static inline bool fae_lock_over(const struct fae_stores *stores, struct fae_lock_entry *e, uint64_t now_ms)
{
    struct fae_lock_holder *h = fae_lock_holder(e);
    uint64_t expires_ms = atomic_load_explicit(&h->expires_ms, memory_order_relaxed);
    uint64_t life = atomic_load_explicit(&h->life, memory_order_relaxed);

    return now_ms > expires_ms || expires_ms == 0 || (life && !fae_life_goes_on(stores, life));
}

/* ---- locks_table.c ---- */

/* Enters the shard, and repairs it if its last user died inside. TIMEOUT: not within so long (UINT32_MAX: waits). */
enum fae_err fae_lock_begin(struct fae_lock_op *op, const struct fae_stores *stores, uint32_t shard, uint64_t now_ms,
                            uint32_t within_ms);
/* Leaves it, and rouses those who were given something. */
void fae_lock_end(struct fae_lock_op *op);

uint64_t fae_locks_hash(const struct fae_locks *l, const void *key, size_t len);
uint32_t fae_locks_shard_of(const struct fae_locks *l, uint64_t hash);
uint32_t fae_locks_number(const struct fae_lock_op *op, const struct fae_lock_entry *e);
struct fae_lock_entry *fae_locks_find(const struct fae_lock_op *op, uint64_t hash, const void *key, size_t len);
/* Not to be found before fae_locks_add; NULL: there is no room. */
struct fae_lock_entry *fae_locks_new(struct fae_lock_op *op);
/* Its key, hash and first holder are there. */
void fae_locks_add(struct fae_lock_op *op, struct fae_lock_entry *e);
void fae_locks_remove(struct fae_lock_op *op, struct fae_lock_entry *e);

/* At the end of the entry's queue, with its number; 0: there is no room. */
uint32_t fae_locks_queue(struct fae_lock_op *op, struct fae_lock_entry *e, const struct fae_lock_ask *ask);
void fae_locks_unqueue(struct fae_lock_op *op, uint32_t waiter); /* out of the queue */
void fae_locks_drop(struct fae_lock_op *op, uint32_t waiter);    /* out of everything */

static inline void fae_locks_count(struct fae_lock_op *op, enum fae_lock_count what)
{
    atomic_store_explicit(&op->shard->counts[what],
                          atomic_load_explicit(&op->shard->counts[what], memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* ---- locks.c ---- */

/* An entry that is over goes to the first who waits and can have it. */
void fae_lock_settle(struct fae_lock_op *op, struct fae_lock_entry *e);
/* The same, and one that nobody has or waits for is removed. True: it was. */
bool fae_lock_tidy(struct fae_lock_op *op, struct fae_lock_entry *e);
void fae_lock_tell(struct fae_lock_op *op, struct fae_lock_entry *e, struct fae_lock_info *info_out);
/* So many entries and waiters from where the last sweep ended. */
void fae_lock_sweep_shard(struct fae_lock_op *op, uint32_t n);

#endif
