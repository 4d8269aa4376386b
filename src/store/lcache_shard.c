/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The log, the chains and the readers' way through them. What lies in the shard is never trusted to be sound: a reader
 * may see it half-written, and a writer that finds nonsense empties the shard.
 */
#include "store/lcache_shard.h"

#include <sched.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"
#include "base/limits.h"
#include "base/sanitize.h"

#define LIVE (1ull << 63)  /* of sizes; without: dead, or a skip */
#define BYTES_A_BUCKET 96u /* of a shard: at most one entry of 100 bytes a bucket, at 4 % of the memory */
#define PEEKS 4u           /* before a reader takes the shard as writers do */
#define PAUSES 200u        /* some 5 us: longer than what others do inside mostly takes */
#define YIELDS 64u
#define ENTER_MS 10u /* a worker's loop stands still meanwhile */
#define SHUT_MS 100u

struct entry {
    uint32_t next; /* of its bucket */
    uint32_t hash;
    uint64_t
        sizes; /* of the value 24 bits, of the entry in units 24, of the key 15, LIVE. A skip has no more than this */
    uint64_t expires_ms;
    uint64_t version;
    uint8_t bytes[]; /* key, value */
};

_Static_assert(sizeof(struct entry) == 32, "what an entry costs");
_Static_assert(offsetof(struct entry, expires_ms) == FAE_LCACHE_UNIT, "the shortest skip is a unit");

static uint32_t len_of(uint64_t sizes)
{
    return (uint32_t)(sizes & 0xffffff);
}

static uint32_t units_of(uint64_t sizes)
{
    return (uint32_t)(sizes >> 24 & 0xffffff);
}

static uint32_t key_len_of(uint64_t sizes)
{
    return (uint32_t)(sizes >> 48 & 0x7fff);
}

static uint64_t sizes_of(uint32_t len, uint32_t units, uint32_t key_len)
{
    return len | (uint64_t)units << 24 | (uint64_t)key_len << 48;
}

static uint32_t units_for(uint32_t key_len, uint32_t len)
{
    return (uint32_t)((sizeof(struct entry) + key_len + len + FAE_LCACHE_UNIT - 1) / FAE_LCACHE_UNIT);
}

static uint32_t *buckets_of(struct fae_lcache_shard *shard)
{
    return (uint32_t *)(shard + 1);
}

static struct entry *entry_at(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t at)
{
    return (struct entry *)((uint8_t *)shard + plan->log_at + (size_t)at * FAE_LCACHE_UNIT);
}

/* Does what the words say lie inside the log? */
static bool is_sound(const struct fae_lcache_plan *plan, uint32_t at, uint64_t sizes)
{
    uint32_t units = units_of(sizes);

    if (at == 0 || at >= plan->n_units || units == 0 || units > plan->n_units - at)
        return false;
    return !(sizes & LIVE) || units_for(key_len_of(sizes), len_of(sizes)) <= units;
}

uint64_t fae_lcache_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (uint64_t)ts.tv_sec * 1000u + (uint64_t)ts.tv_nsec / 1000000u;
}

static inline void pause_cpu(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

static uint32_t power_of_two_below(size_t n)
{
    uint32_t p = 1;

    while ((size_t)p * 2 <= n)
        p *= 2;
    return p;
}

void fae_lcache_plan(struct fae_lcache_plan *plan_out, size_t shard_size)
{
    uint32_t n_buckets = power_of_two_below(shard_size / BYTES_A_BUCKET);
    size_t marks_at = sizeof(struct fae_lcache_shard) + n_buckets * sizeof(uint32_t);
    size_t rest = shard_size - marks_at - 2 * FAE_LCACHE_UNIT; /* both are rounded up */
    size_t n_units = rest * FAE_LCACHE_MARK / (FAE_LCACHE_UNIT * FAE_LCACHE_MARK + 1);
    size_t log_at = (marks_at + n_units / FAE_LCACHE_MARK + 1 + FAE_LCACHE_UNIT - 1) & ~(size_t)(FAE_LCACHE_UNIT - 1);

    FAE_ASSERT(log_at + n_units * FAE_LCACHE_UNIT <= shard_size);
    FAE_ASSERT(n_units < 1u << 31);
    *plan_out = (struct fae_lcache_plan){
        .shard_size = shard_size,
        .marks_at = marks_at,
        .log_at = log_at,
        .bucket_mask = n_buckets - 1,
        .n_units = (uint32_t)n_units,
    };
}

void fae_lcache_shard_init(struct fae_lcache_shard *shard, uint64_t version)
{
    shard->head = shard->tail = 1;
    shard->last_version = version;
}

/* ---- changes: the sequence is odd from begin to fae_lcache_leave ---- */

static void begin(struct fae_lcache_shard *shard)
{
    uint32_t seq = FAE_STAT_GET(shard->seq);

    if (seq & 1)
        return;
    FAE_STAT_SET(shard->seq, seq + 1);
    atomic_thread_fence(memory_order_release);
}

void fae_lcache_clear(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan)
{
    begin(shard);
    shard->head = shard->tail = 1;
    shard->used = 0;
    FAE_STAT_SET(shard->n_items, 0);
    FAE_STAT_SET(shard->n_bytes, 0);
    memset(buckets_of(shard), 0, ((size_t)plan->bucket_mask + 1) * sizeof(uint32_t));
}

/* Nonsense in shared memory: half a change of one who died, or worse. */
static void repair(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan)
{
    fae_lcache_clear(shard, plan);
    FAE_STAT_ADD(shard->n_resets, 1);
}

static bool take(struct fae_lcache_shard *shard, unsigned slot)
{
    uint32_t nobody = 0;

    return FAE_STAT_GET(shard->owner) == 0 &&
           atomic_compare_exchange_strong_explicit(&shard->owner, &nobody, slot + 1, memory_order_acquire,
                                                   memory_order_relaxed);
}

static bool wait_for(struct fae_lcache_shard *shard, unsigned slot)
{
    uint64_t until_ms;

    for (unsigned i = 0; i < PAUSES; i++) {
        pause_cpu();
        if (take(shard, slot))
            return true;
    }
    until_ms = fae_now_ms();
    if (until_ms < FAE_STAT_GET(shard->shut_until_ms))
        return false;
    until_ms += ENTER_MS + 1;
    for (unsigned i = 0; fae_now_ms() < until_ms; i++) {
        if (i < YIELDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
        if (take(shard, slot))
            return true;
    }
    FAE_STAT_SET(shard->shut_until_ms, until_ms + SHUT_MS);
    return false;
}

bool fae_lcache_enter(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, unsigned slot)
{
    if (__builtin_expect(!take(shard, slot), 0) && !wait_for(shard, slot)) {
        atomic_fetch_add_explicit(&shard->n_busy, 1, memory_order_relaxed);
        return false;
    }
    if (__builtin_expect(FAE_STAT_GET(shard->seq) & 1, 0))
        repair(shard, plan);
    return true;
}

void fae_lcache_leave(struct fae_lcache_shard *shard)
{
    uint32_t seq = FAE_STAT_GET(shard->seq);

    if (seq & 1)
        atomic_store_explicit(&shard->seq, seq + 1, memory_order_release);
    atomic_store_explicit(&shard->owner, 0, memory_order_release);
}

void fae_lcache_bury(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, unsigned slot)
{
    /* What the dead one wrote is seen: it was waited for. */
    if (atomic_load_explicit(&shard->owner, memory_order_acquire) != slot + 1)
        return;
    if (FAE_STAT_GET(shard->seq) & 1)
        repair(shard, plan);
    FAE_STAT_SET(shard->shut_until_ms, 0);
    fae_lcache_leave(shard);
}

/* ---- marks ---- */

static _Atomic uint8_t *mark_at(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t at)
{
    return (_Atomic uint8_t *)((uint8_t *)shard + plan->marks_at) + at / FAE_LCACHE_MARK;
}

void fae_lcache_mark(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t at)
{
    _Atomic uint8_t *mark = mark_at(shard, plan, at);

    if (!FAE_STAT_GET(*mark)) /* what is hot stays in every reader's cache */
        FAE_STAT_SET(*mark, 1);
}

/* ---- readers ---- */

#if FAE_TSAN
/* What a reader sees half-written is a race by design; TSan is shown the way of writers alone. */
bool fae_lcache_peek(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_key *key, uint8_t *buf, size_t cap, struct fae_lcache_found *found_out)
{
    (void)shard;
    (void)plan;
    (void)key;
    (void)buf;
    (void)cap;
    (void)found_out;
    return false;
}
#else
#define SEEN(field) __atomic_load_n(&(field), __ATOMIC_RELAXED)

/* What the chain says, true or not. False: it leads nowhere, so a writer is at it. */
static bool look(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, const struct fae_lcache_key *key,
                 uint8_t *buf, size_t cap, struct fae_lcache_found *f)
{
    uint32_t at = SEEN(buckets_of(shard)[key->hash & plan->bucket_mask]);

    f->at = 0;
    for (unsigned i = 0; at; i++) {
        const struct entry *e = entry_at(shard, plan, at);
        uint64_t sizes;

        if (at >= plan->n_units || i > FAE_LCACHE_CHAIN)
            return false; /* a unit is all there may be of e: next, hash and sizes */
        if (SEEN(e->hash) == key->hash) {
            sizes = SEEN(e->sizes);
            if (!is_sound(plan, at, sizes))
                return false;
            if (key_len_of(sizes) == key->len && memcmp(e->bytes, key->bytes, key->len) == 0) {
                f->at = at;
                f->len = len_of(sizes);
                f->expires_ms = SEEN(e->expires_ms);
                f->version = SEEN(e->version);
                memcpy(buf, e->bytes + key->len, f->len < cap ? f->len : cap);
                return true;
            }
        }
        at = SEEN(e->next);
    }
    return true;
}

bool fae_lcache_peek(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_key *key, uint8_t *buf, size_t cap, struct fae_lcache_found *found_out)
{
    for (unsigned i = 0; i < PEEKS; i++) {
        uint32_t seq = atomic_load_explicit(&shard->seq, memory_order_acquire);
        bool whole = !(seq & 1) && look(shard, plan, key, buf, cap, found_out);

        atomic_thread_fence(memory_order_acquire);
        if (__builtin_expect(whole && FAE_STAT_GET(shard->seq) == seq, 1)) {
            found_out->bytes = NULL;
            return true;
        }
        pause_cpu();
    }
    return false;
}
#endif

/* ---- writers ---- */

void fae_lcache_expect(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t hash)
{
    __builtin_prefetch(&buckets_of(shard)[hash & plan->bucket_mask]);
}

/* The word that leads to the entry: of its bucket, or of the one before it. NULL: none does. */
static uint32_t *link_to(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t hash, uint32_t at)
{
    uint32_t *link = &buckets_of(shard)[hash & plan->bucket_mask];

    for (unsigned i = 0; *link != at; i++) {
        if (*link == 0 || *link >= plan->n_units || i > FAE_LCACHE_CHAIN)
            return NULL;
        link = &entry_at(shard, plan, *link)->next;
    }
    return link;
}

void fae_lcache_find(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_key *key, struct fae_lcache_found *found_out)
{
    uint32_t at = buckets_of(shard)[key->hash & plan->bucket_mask];

    *found_out = (struct fae_lcache_found){ 0 };
    for (unsigned i = 0; at; i++) {
        const struct entry *e = entry_at(shard, plan, at);

        if (at >= plan->n_units || i > FAE_LCACHE_CHAIN || !is_sound(plan, at, e->sizes)) {
            repair(shard, plan);
            return;
        }
        if (e->hash == key->hash && key_len_of(e->sizes) == key->len && memcmp(e->bytes, key->bytes, key->len) == 0) {
            *found_out = (struct fae_lcache_found){
                .at = at,
                .len = len_of(e->sizes),
                .bytes = e->bytes + key->len,
                .version = e->version,
                .expires_ms = e->expires_ms,
            };
            return;
        }
        at = e->next;
    }
}

/* Out of its chain; its room stays until the tail passes. False: no chain leads to it. */
static bool kill_entry(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t at)
{
    struct entry *e = entry_at(shard, plan, at);
    uint32_t *link = link_to(shard, plan, e->hash, at);

    if (!link)
        return false;
    *link = e->next;
    e->sizes &= ~LIVE;
    FAE_STAT_ADD(shard->n_items, -1ull);
    FAE_STAT_ADD(shard->n_bytes, -(uint64_t)units_of(e->sizes) * FAE_LCACHE_UNIT);
    return true;
}

/* Units free at the head in one piece. */
static uint32_t room_at_head(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan)
{
    if (shard->used == 0)
        shard->head = shard->tail = 1;
    if (shard->used == 0 || shard->head > shard->tail)
        return plan->n_units - shard->head;
    return shard->tail - shard->head;
}

/* Is what is free at the head only the rest up to the end? Then it is skipped, and the head is where the log begins. */
static bool skip_to_start(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t room)
{
    if (shard->used == 0 || shard->head <= shard->tail)
        return false;
    if (room)
        entry_at(shard, plan, shard->head)->sizes = sizes_of(0, room, 0);
    shard->used += room;
    shard->head = 1;
    return true;
}

/* Where `units` at the head begin; they are free. */
static uint32_t take_head(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t units)
{
    uint32_t at = shard->head;

    shard->head += units;
    shard->used += units;
    FAE_STAT_SET(*mark_at(shard, plan, at), 0);
    return at;
}

static void pass(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t units)
{
    shard->tail += units;
    shard->used -= units;
    if (shard->tail == plan->n_units)
        shard->tail = 1;
}

/* What one insert may still copy to the head. */
struct chances {
    uint32_t n, units;
    uint64_t now_ms; /* 0: not looked at yet */
};

static bool deserves(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, const struct entry *e,
                     uint32_t at, struct chances *left)
{
    uint32_t units = units_of(e->sizes);

    if (left->n == 0 || left->units == 0 || !FAE_STAT_GET(*mark_at(shard, plan, at)))
        return false;
    left->n--;
    left->units -= units < left->units ? units : left->units; /* the first may be as large as it likes */
    return true;
}

static bool has_expired(const struct entry *e, struct chances *left)
{
    if (e->expires_ms == 0)
        return false;
    if (left->now_ms == 0)
        left->now_ms = fae_lcache_now_ms();
    return e->expires_ms <= left->now_ms;
}

/* The entry at the tail goes to the head: with its own room there is always enough. False: no chain leads to it. */
static bool move_to_head(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t at)
{
    struct entry *e = entry_at(shard, plan, at);
    uint32_t units = units_of(e->sizes), room;
    uint32_t *link = link_to(shard, plan, e->hash, at);

    if (!link)
        return false;
    pass(shard, plan, units);
    room = room_at_head(shard, plan);
    if (room < units && skip_to_start(shard, plan, room))
        room = room_at_head(shard, plan);
    if (room < units)
        return false;
    *link = take_head(shard, plan, units);
    memmove(entry_at(shard, plan, *link), e, (size_t)units * FAE_LCACHE_UNIT);
    FAE_STAT_ADD(shard->n_chances, 1);
    return true;
}

/* The tail moves past what is there. False: that is nonsense. */
static bool pass_oldest(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, struct chances *left)
{
    uint32_t at = shard->tail, units;
    struct entry *e = entry_at(shard, plan, at);
    bool expired;

    units = units_of(e->sizes);
    if (!is_sound(plan, at, e->sizes) || units > shard->used)
        return false;
    if (e->sizes & LIVE) {
        expired = has_expired(e, left);
        if (!expired && deserves(shard, plan, e, at, left))
            return move_to_head(shard, plan, at);
        if (!kill_entry(shard, plan, at))
            return false;
        FAE_STAT_ADD(*(expired ? &shard->n_expired : &shard->n_evicted), 1);
    }
    pass(shard, plan, units);
    return true;
}

/* Keeps a share of the log free, so that where many in a row deserve a second chance many inserts can give it. */
static void tidy(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, struct chances *left)
{
    uint32_t limit = plan->n_units - plan->n_units / FAE_LCACHE_FREE;

    while (shard->used > limit && left->n && left->units)
        if (!pass_oldest(shard, plan, left))
            repair(shard, plan);
}

/* Frees `units` in one piece, and takes them. */
static uint32_t make_room(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t units)
{
    struct chances left = { .n = FAE_LCACHE_CHANCES + units / FAE_LCACHE_MARK,
                            .units = FAE_LCACHE_CHANCE_BYTES / FAE_LCACHE_UNIT + units };
    uint32_t room;

    tidy(shard, plan, &left);
    while ((room = room_at_head(shard, plan)) < units) {
        if (skip_to_start(shard, plan, room))
            continue;
        if (!pass_oldest(shard, plan, &left))
            repair(shard, plan);
    }
    return take_head(shard, plan, units);
}

/* A bucket's chain has an end: the oldest is pushed out. */
static void shorten_chain(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t hash)
{
    uint32_t at = buckets_of(shard)[hash & plan->bucket_mask], last = 0;
    unsigned n = 0;

    for (; at; at = entry_at(shard, plan, at)->next) {
        if (at >= plan->n_units || n++ > FAE_LCACHE_CHAIN) {
            repair(shard, plan);
            return;
        }
        last = at;
    }
    if (n >= FAE_LCACHE_CHAIN && kill_entry(shard, plan, last))
        FAE_STAT_ADD(shard->n_evicted, 1);
}

static void fill(struct fae_lcache_shard *shard, struct entry *e, uint32_t units, const struct fae_lcache_key *key,
                 const struct fae_lcache_value *value)
{
    e->hash = key->hash;
    e->sizes = sizes_of(value->len, units, key->len) | LIVE;
    e->expires_ms = value->expires_ms;
    e->version = ++shard->last_version;
    memcpy(e->bytes + key->len, value->bytes, value->len);
}

/* Does it fit where the old one lies, without leaving half of that room idle? */
static bool fits(const struct entry *e, uint32_t units)
{
    uint32_t have = units_of(e->sizes);

    return units <= have && units * 2 >= have;
}

void fae_lcache_put(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                    const struct fae_lcache_key *key, const struct fae_lcache_found *found,
                    const struct fae_lcache_value *value)
{
    uint32_t units = units_for(key->len, value->len), at, *bucket;
    struct entry *e;

    begin(shard);
    if (found->at) {
        e = entry_at(shard, plan, found->at);
        if (fits(e, units)) {
            fill(shard, e, units_of(e->sizes), key, value);
            fae_lcache_mark(shard, plan, found->at);
            return;
        }
        if (!kill_entry(shard, plan, found->at))
            repair(shard, plan);
    }
    shorten_chain(shard, plan, key->hash);
    at = make_room(shard, plan, units);
    e = entry_at(shard, plan, at);
    memcpy(e->bytes, key->bytes, key->len);
    fill(shard, e, units, key, value);
    bucket = &buckets_of(shard)[key->hash & plan->bucket_mask];
    e->next = *bucket;
    *bucket = at;
    FAE_STAT_ADD(shard->n_items, 1);
    FAE_STAT_ADD(shard->n_bytes, (uint64_t)units * FAE_LCACHE_UNIT);
}

void fae_lcache_drop(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_found *found)
{
    begin(shard);
    if (!kill_entry(shard, plan, found->at))
        repair(shard, plan);
}

void fae_lcache_expire(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                       const struct fae_lcache_found *found, uint64_t expires_ms)
{
    begin(shard);
    entry_at(shard, plan, found->at)->expires_ms = expires_ms;
    fae_lcache_mark(shard, plan, found->at);
}
