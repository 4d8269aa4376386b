/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What may be done with a lock, and by whom.
 */
#include "store/locks.h"

#include <pthread.h>
#include <sys/random.h>
#include <time.h>

#include "base/assert.h"
#include "base/mailbox.h"
#include "store/locks_impl.h"

#define TOKENS 64 /* random bytes are fetched for so many: a system call costs more than a lock */

uint64_t fae_lock_now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_BOOTTIME, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static _Thread_local uint64_t tokens[TOKENS];
static _Thread_local unsigned n_left;

/* Or two processes would have the same. */
static void forget_tokens(void)
{
    n_left = 0;
}

static void forget_in_children(void)
{
    FAE_ASSERT(pthread_atfork(NULL, NULL, forget_tokens) == 0);
}

uint64_t fae_lock_token(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    uint64_t token;

    do {
        if (n_left == 0) {
            pthread_once(&once, forget_in_children);
            FAE_ASSERT(getrandom(tokens, sizeof tokens, 0) == (ssize_t)sizeof tokens);
            n_left = TOKENS;
        }
        token = tokens[--n_left];
        tokens[n_left] = 0;
    } while (token == FAE_LOCK_TOKEN_FREE);
    return token;
}

/* ---- what the disk must know first ---- */

/* The lease that a lock may come to: handed over, it waits a while for its holder. */
static uint64_t longest(uint64_t lease_ms)
{
    return lease_ms > FAE_LOCK_PICK_UP_MS ? lease_ms : FAE_LOCK_PICK_UP_MS;
}

/* Rounded up by at most a quarter, so that it is seldom written. */
static bool lease_is_known(const struct fae_stores *stores, uint64_t lease_ms)
{
    uint64_t most = longest(lease_ms), step = 1ull << (61 - __builtin_clzll(most));

    if (fae_marks_reserved(stores->marks, FAE_MARK_LEASE_MS) > most)
        return true;
    fae_marks_want(stores, FAE_MARK_LEASE_MS, (most / step + 1) * step);
    return false;
}

/* The next fencing number; 0: there is none yet. */
static uint64_t take_fence(const struct fae_lock_op *op)
{
    uint64_t next = atomic_load_explicit(&op->locks->next_fence, memory_order_relaxed), reserved;

    do {
        reserved = fae_marks_reserved(op->stores->marks, FAE_MARK_FENCE);
        if (next + FAE_LOCK_FENCES > reserved)
            fae_marks_want(op->stores, FAE_MARK_FENCE, (next / FAE_LOCK_FENCES + 2) * FAE_LOCK_FENCES);
        if (next >= reserved)
            return 0;
    } while (!atomic_compare_exchange_weak(&op->locks->next_fence, &next, next + 1));
    return next;
}

static enum fae_err marks_error(const struct fae_stores *stores)
{
    return (enum fae_err)atomic_load(&stores->marks->error);
}

/* ---- who holds an entry ---- */

static void set_expiry(struct fae_lock_holder *h, uint64_t expires_ms)
{
    atomic_store_explicit(&h->expires_ms, expires_ms, memory_order_release);
}

static void set_life(struct fae_lock_holder *h, uint64_t life)
{
    atomic_store_explicit(&h->life, life, memory_order_release);
}

/* The holder that will count once it is `turned`. */
static struct fae_lock_holder *other(struct fae_lock_entry *e)
{
    return &e->holders[!(atomic_load_explicit(&e->which, memory_order_relaxed) & 1)];
}

static void turn(struct fae_lock_entry *e)
{
    atomic_store_explicit(&e->which, !(atomic_load_explicit(&e->which, memory_order_relaxed) & 1),
                          memory_order_release);
}

static void copy_text(struct fae_lock_text *to, const struct fae_lock_text *from)
{
    to->len = from->len;
    memcpy(to->bytes, from->bytes, from->len);
}

static void fill(const struct fae_lock_op *op, struct fae_lock_holder *h, const struct fae_lock_ask *ask,
                 uint64_t fence)
{
    h->token = ask->token;
    h->fence = fence;
    h->since_ms = op->now_ms;
    h->lease_ms = ask->lease_ms;
    h->number = 0;
    h->slot = ask->slot;
    h->bound = ask->bound;
    h->nobody = false;
    copy_text(&h->reason, ask->reason);
    copy_text(&h->who, ask->who);
    set_life(h, ask->bound ? fae_life(ask->slot, ask->incarnation) : 0);
    set_expiry(h, op->now_ms + ask->lease_ms);
}

/* Nobody's: over at once, or when those locks are that a crashed node had given. */
static void fill_nobody(struct fae_lock_holder *h, uint64_t expires_ms)
{
    h->token = fae_lock_token();
    h->fence = h->since_ms = h->lease_ms = h->number = 0;
    h->nobody = true;
    h->bound = false;
    h->reason.len = h->who.len = 0;
    set_life(h, 0);
    set_expiry(h, expires_ms);
}

static void rouse(struct fae_lock_op *op, uint32_t slot)
{
    if (!op->rouses)
        memset(op->roused, 0, sizeof op->roused);
    op->rouses = op->roused[slot] = true;
    atomic_fetch_add_explicit(&op->locks->handed[slot], 1, memory_order_release);
}

/* False: there is no number for it yet. */
static bool hand_over(struct fae_lock_op *op, struct fae_lock_entry *e, uint32_t n)
{
    struct fae_lock_waiter *w = fae_locks_waiter(op->locks, op->shard, n);
    struct fae_lock_holder *h = other(e);
    uint64_t fence;

    if (!lease_is_known(op->stores, w->lease_ms) || !(fence = take_fence(op)))
        return false;
    h->token = w->token;
    h->fence = fence;
    h->since_ms = op->now_ms;
    h->lease_ms = w->lease_ms;
    h->number = w->number;
    h->slot = fae_life_slot(w->life);
    h->bound = w->bound;
    h->nobody = false;
    copy_text(&h->reason, &w->reason);
    copy_text(&h->who, &w->who);
    set_life(h, w->life); /* until it was picked up */
    set_expiry(h, op->now_ms + longest(w->lease_ms));
    turn(e);
    atomic_store_explicit(&w->state, FAE_WAITER_GRANTED, memory_order_release);
    fae_locks_unqueue(op, n);
    fae_locks_count(op, FAE_LOCKS_GRANTED);
    fae_locks_count(op, FAE_LOCKS_HANDED);
    rouse(op, h->slot);
    return true;
}

static bool is_over(const struct fae_lock_op *op, struct fae_lock_entry *e)
{
    return fae_lock_over(op->stores, e, op->now_ms);
}

/* Counts an end that nobody asked for, once. */
static bool note_end(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    struct fae_lock_holder *h = fae_lock_holder(e);
    uint64_t expires_ms = atomic_load_explicit(&h->expires_ms, memory_order_relaxed);
    bool expired = expires_ms != 0 && op->now_ms > expires_ms;

    if (expires_ms && !h->nobody)
        fae_locks_count(op, expired ? FAE_LOCKS_EXPIRED : FAE_LOCKS_ORPHANED);
    expired = expired && !h->nobody;
    set_expiry(h, 0);
    return expired;
}

void fae_lock_settle(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    if (__builtin_expect(!is_over(op, e), 1))
        return;
    note_end(op, e);
    while (e->first) {
        if (fae_life_goes_on(op->stores, fae_locks_waiter(op->locks, op->shard, e->first)->life)) {
            hand_over(op, e, e->first);
            return;
        }
        fae_locks_drop(op, e->first);
    }
}

bool fae_lock_tidy(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    fae_lock_settle(op, e);
    if (e->first || !is_over(op, e))
        return false;
    fae_locks_remove(op, e);
    return true;
}

void fae_lock_tell(struct fae_lock_op *op, struct fae_lock_entry *e, struct fae_lock_info *info)
{
    struct fae_lock_holder *h = fae_lock_holder(e);
    uint64_t expires_ms = atomic_load_explicit(&h->expires_ms, memory_order_relaxed);

    info->fence = h->fence;
    info->held_ms = op->now_ms > h->since_ms && h->since_ms ? op->now_ms - h->since_ms : 0;
    info->left_ms = expires_ms > op->now_ms ? expires_ms - op->now_ms : 0;
    info->lease_ms = h->lease_ms;
    info->n_waiting = e->n_waiting;
    info->slot = h->slot;
    info->bound = h->bound;
    info->expired = is_over(op, e);
    copy_text(&info->reason, &h->reason);
    copy_text(&info->who, &h->who);
    info->key_len = (uint16_t)e->key_len;
}

/* ---- acquire ---- */

static enum fae_err granted(struct fae_lock_op *op, uint64_t fence, bool expired, struct fae_lock_info *info)
{
    fae_locks_count(op, FAE_LOCKS_GRANTED);
    info->fence = fence;
    info->expired = expired;
    return FAE_OK;
}

/* An entry for the key, nobody's up to and with then. */
static struct fae_lock_entry *make_entry(struct fae_lock_op *op, const struct fae_lock_ask *ask, uint64_t hash)
{
    struct fae_lock_entry *e = fae_locks_new(op);

    if (!e) {
        fae_lock_sweep_shard(op, op->locks->entries_max);
        e = fae_locks_new(op);
    }
    if (!e)
        return NULL;
    e->hash = hash;
    e->key_len = (uint32_t)ask->key_len;
    memcpy(e->key, ask->key, ask->key_len);
    return e;
}

static enum fae_err queue_up(struct fae_lock_op *op, struct fae_lock_entry *e, const struct fae_lock_ask *ask,
                             uint32_t shard, struct fae_lock_place *place)
{
    uint32_t n = fae_locks_queue(op, e, ask);

    if (!n) {
        fae_locks_count(op, FAE_LOCKS_OVERLOAD);
        fae_lock_tidy(op, e);
        return FAE_OVERLOAD;
    }
    lease_is_known(op->stores, ask->lease_ms); /* or will be, when its turn comes */
    *place = (struct fae_lock_place){ shard, n, fae_locks_waiter(op->locks, op->shard, n)->number };
    return FAE_MORE;
}

/* Nobody has it, and nobody waits. e: the entry there is, or NULL. */
static enum fae_err take(struct fae_lock_op *op, struct fae_lock_entry *e, const struct fae_lock_ask *ask,
                         uint64_t hash, bool expired, struct fae_lock_place *place, struct fae_lock_info *info)
{
    uint64_t quiet_ms = op->locks->quiet_until_ms, fence = 0;
    bool quiet = __builtin_expect(quiet_ms != 0, 0) && op->now_ms <= quiet_ms, is_new = !e;

    if (quiet && !ask->waits) {
        info->left_ms = quiet_ms - op->now_ms + 1;
        fae_locks_count(op, FAE_LOCKS_REFUSED);
        return FAE_UNAVAILABLE;
    }
    if (is_new && !(e = make_entry(op, ask, hash))) {
        fae_locks_count(op, FAE_LOCKS_OVERLOAD);
        return FAE_OVERLOAD;
    }
    if (!quiet && lease_is_known(op->stores, ask->lease_ms))
        fence = take_fence(op);
    if (fence)
        fill(op, is_new ? fae_lock_holder(e) : other(e), ask, fence);
    else
        fill_nobody(is_new ? fae_lock_holder(e) : other(e), quiet ? quiet_ms : 0);
    if (is_new)
        fae_locks_add(op, e);
    else
        turn(e);
    if (fence)
        return granted(op, fence, expired, info);
    if (!quiet && marks_error(op->stores)) {
        fae_locks_remove(op, e);
        return marks_error(op->stores);
    }
    return queue_up(op, e, ask, fae_locks_shard_of(op->locks, hash), place);
}

static enum fae_err refused(struct fae_lock_op *op, struct fae_lock_entry *e, struct fae_lock_info *info)
{
    fae_locks_count(op, FAE_LOCKS_REFUSED);
    fae_lock_tell(op, e, info);
    return FAE_LOCKED;
}

enum fae_err fae_lock_acquire(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_ask *ask,
                              struct fae_lock_place *place_out, struct fae_lock_info *info_out)
{
    uint64_t hash = fae_locks_hash(stores->locks, ask->key, ask->key_len);
    uint32_t shard = fae_locks_shard_of(stores->locks, hash);
    struct fae_lock_entry *e;
    struct fae_lock_op op;
    enum fae_err err;
    bool expired = false;

    FAE_ASSERT(ask->key_len <= FAE_LOCK_KEY_MAX);
    fae_lock_begin(&op, stores, shard, now_ms, UINT32_MAX);
    e = fae_locks_find(&op, hash, ask->key, ask->key_len);
    if (e && is_over(&op, e)) {
        expired = note_end(&op, e);
        fae_lock_settle(&op, e);
    }
    if (!e || (is_over(&op, e) && !e->first))
        err = take(&op, e, ask, hash, expired, place_out, info_out);
    else if (ask->waits || is_over(&op, e))
        err = queue_up(&op, e, ask, shard, place_out);
    else
        err = refused(&op, e, info_out);
    fae_lock_end(&op);
    return err;
}

/* ---- who has it ---- */

/* The key's entry, if somebody holds it. */
static struct fae_lock_entry *held(struct fae_lock_op *op, uint64_t hash, const void *key, size_t len)
{
    struct fae_lock_entry *e = fae_locks_find(op, hash, key, len);

    if (e && is_over(op, e))
        return NULL;
    return e && !fae_lock_holder(e)->nobody ? e : NULL;
}

enum fae_err fae_lock_release(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                              uint64_t token)
{
    uint64_t hash = fae_locks_hash(stores->locks, key, len);
    struct fae_lock_entry *e;
    struct fae_lock_op op;
    enum fae_err err = FAE_NOT_OWNER;

    fae_lock_begin(&op, stores, fae_locks_shard_of(stores->locks, hash), now_ms, UINT32_MAX);
    e = held(&op, hash, key, len);
    if (e && fae_lock_holder(e)->token == token) {
        set_expiry(fae_lock_holder(e), 0);
        fae_locks_count(&op, FAE_LOCKS_RELEASED);
        fae_lock_tidy(&op, e);
        err = FAE_OK;
    }
    fae_lock_end(&op);
    return err;
}

enum fae_err fae_lock_renew(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                            uint64_t token, uint64_t lease_ms)
{
    uint64_t hash = fae_locks_hash(stores->locks, key, len);
    struct fae_lock_entry *e;
    struct fae_lock_op op;
    enum fae_err err = FAE_NOT_OWNER;

    fae_lock_begin(&op, stores, fae_locks_shard_of(stores->locks, hash), now_ms, UINT32_MAX);
    e = held(&op, hash, key, len);
    if (e && fae_lock_holder(e)->token == token) {
        lease_ms = lease_ms ? lease_ms : fae_lock_holder(e)->lease_ms;
        err = marks_error(stores) ? marks_error(stores) : FAE_MORE;
        if (lease_is_known(stores, lease_ms)) {
            fae_lock_holder(e)->lease_ms = lease_ms;
            set_expiry(fae_lock_holder(e), now_ms + lease_ms);
            fae_locks_count(&op, FAE_LOCKS_RENEWED);
            err = FAE_OK;
        }
    }
    fae_lock_end(&op);
    return err;
}

enum fae_err fae_lock_info(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                           struct fae_lock_info *info_out)
{
    uint64_t hash = fae_locks_hash(stores->locks, key, len);
    struct fae_lock_entry *e;
    struct fae_lock_op op;

    fae_lock_begin(&op, stores, fae_locks_shard_of(stores->locks, hash), now_ms, UINT32_MAX);
    e = held(&op, hash, key, len);
    if (e)
        fae_lock_tell(&op, e, info_out);
    fae_lock_end(&op);
    return e ? FAE_OK : FAE_NOT_FOUND;
}

enum fae_err fae_lock_force(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                            uint32_t within_ms, struct fae_lock_info *info_out)
{
    uint64_t hash = fae_locks_hash(stores->locks, key, len);
    struct fae_lock_entry *e;
    struct fae_lock_op op;
    enum fae_err err = fae_lock_begin(&op, stores, fae_locks_shard_of(stores->locks, hash), now_ms, within_ms);

    if (err)
        return err;
    e = held(&op, hash, key, len);
    if (e) {
        fae_lock_tell(&op, e, info_out);
        set_expiry(fae_lock_holder(e), 0);
        fae_locks_count(&op, FAE_LOCKS_FORCED);
        fae_lock_tidy(&op, e);
    }
    fae_lock_end(&op);
    return e ? FAE_OK : FAE_NOT_FOUND;
}

/* ---- who waits ---- */

bool fae_lock_stirs(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_place *place)
{
    struct fae_lock_shard *s = fae_locks_shard(stores->locks, place->shard);
    struct fae_lock_waiter *w = fae_locks_waiter(stores->locks, s, place->waiter);

    return atomic_load_explicit(&w->state, memory_order_acquire) != FAE_WAITER_WAITS ||
           fae_lock_over(stores, fae_locks_entry(stores->locks, s, w->entry), now_ms);
}

/* The entry that was handed to the waiter, if it still is; its lease begins now. */
static struct fae_lock_entry *pick_up(struct fae_lock_op *op, struct fae_lock_waiter *w)
{
    struct fae_lock_entry *e = fae_locks_entry(op->locks, op->shard, w->entry);
    struct fae_lock_holder *h = fae_lock_holder(e);

    if (atomic_load(&e->state) != FAE_LOCK_HELD || h->number != w->number || is_over(op, e))
        return NULL;
    set_expiry(h, op->now_ms + h->lease_ms);
    set_life(h, h->bound ? w->life : 0);
    return e;
}

enum fae_err fae_lock_look(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_place *place,
                           bool *held_out, struct fae_lock_info *info_out)
{
    struct fae_lock_waiter *w;
    struct fae_lock_entry *e;
    struct fae_lock_op op;
    enum fae_err err = FAE_MORE;

    fae_lock_begin(&op, stores, place->shard, now_ms, UINT32_MAX);
    w = fae_locks_waiter(op.locks, op.shard, place->waiter);
    if (w->number != place->number) { /* taken away: the node took this process for dead */
        fae_lock_end(&op);
        return FAE_NOT_FOUND;
    }
    e = fae_locks_entry(op.locks, op.shard, w->entry);
    if (atomic_load(&w->state) == FAE_WAITER_WAITS)
        fae_lock_settle(&op, e);
    if (atomic_load(&w->state) == FAE_WAITER_GRANTED) {
        e = pick_up(&op, w);
        if (e)
            fae_lock_tell(&op, e, info_out);
        fae_locks_drop(&op, place->waiter);
        err = e ? FAE_OK : FAE_NOT_FOUND;
    } else {
        *held_out = !is_over(&op, e);
        if (!*held_out && marks_error(stores)) {
            err = marks_error(stores);
            fae_locks_drop(&op, place->waiter);
            fae_lock_tidy(&op, e);
        }
    }
    fae_lock_end(&op);
    return err;
}

void fae_lock_leave(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_place *place,
                    struct fae_lock_info *info_out)
{
    struct fae_lock_waiter *w;
    struct fae_lock_entry *e;
    struct fae_lock_op op;
    bool waits;

    fae_lock_begin(&op, stores, place->shard, now_ms, UINT32_MAX);
    w = fae_locks_waiter(op.locks, op.shard, place->waiter);
    if (w->number != place->number) {
        fae_lock_end(&op);
        return;
    }
    e = fae_locks_entry(op.locks, op.shard, w->entry);
    waits = atomic_load(&w->state) == FAE_WAITER_WAITS;
    if (!waits) {
        e = pick_up(&op, w);
        if (e)
            set_expiry(fae_lock_holder(e), 0);
    }
    fae_locks_drop(&op, place->waiter);
    if (waits)
        fae_locks_count(&op, FAE_LOCKS_REFUSED);
    if (e && !fae_lock_tidy(&op, e))
        fae_lock_tell(&op, e, info_out);
    fae_lock_end(&op);
}

uint32_t fae_locks_handed(const struct fae_stores *stores, unsigned slot)
{
    return atomic_load_explicit(&stores->locks->handed[slot], memory_order_acquire);
}
