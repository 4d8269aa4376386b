/* SPDX-License-Identifier: BSD-2-Clause
 *
 * src/store/locks.c: who gets a lock and when, against a model with a clock that the test moves; the rule after a
 * crash, and what happens while the disk has no numbers.
 */
#include "store/locks.h"

#include <poll.h>
#include <pthread.h>

#include "base/buf.h"
#include "unit_locks.h"

#define STEPS 100000

static const char *key_name(unsigned k)
{
    static const char *const names[] = { "a", "b", "c", "d", "e", "f", "g", "h" };

    return names[k];
}

/* ---- the model ---- */

#define KEYS 8u
#define PLACES 24u

struct want {
    struct fae_lock_ask ask;
    struct fae_lock_place place;
    unsigned key;
    enum { GONE, WAITS, GRANTED } state;
    unsigned turn; /* rises along a queue */
};

struct model_lock {
    bool held, unclaimed;
    struct fae_lock_ask ask;
    uint64_t expires_ms, fence; /* 0: not seen yet */
    uint64_t last_fence;
};

struct model {
    struct unit_locks u;
    uint64_t now_ms, random, seen_fence;
    struct model_lock locks[KEYS];
    struct want wants[PLACES];
    unsigned turns, n_grants, n_handed, n_refused;
};

static uint64_t below(struct model *m, uint64_t n)
{
    return (unit_random(&m->random) >> 11) % n;
}

static bool lives(const struct model *m, const struct fae_lock_ask *ask)
{
    return m->u.stores.slots->slots[ask->slot].incarnation == ask->incarnation;
}

static bool open_now(const struct model *m, const struct model_lock *l)
{
    return !l->held || m->now_ms > l->expires_ms || ((l->ask.bound || l->unclaimed) && !lives(m, &l->ask));
}

static struct want *head(struct model *m, unsigned k)
{
    struct want *first = NULL;

    for (unsigned i = 0; i < PLACES; i++)
        if (m->wants[i].state == WAITS && m->wants[i].key == k && (!first || m->wants[i].turn < first->turn))
            first = &m->wants[i];
    return first;
}

static unsigned n_queued(const struct model *m, unsigned k)
{
    unsigned n = 0;

    for (unsigned i = 0; i < PLACES; i++)
        n += m->wants[i].state == WAITS && m->wants[i].key == k;
    return n;
}

static void settle(struct model *m, unsigned k)
{
    struct model_lock *l = &m->locks[k];
    struct want *w;

    if (!open_now(m, l))
        return;
    l->held = false;
    while ((w = head(m, k))) {
        w->state = lives(m, &w->ask) ? GRANTED : GONE;
        if (w->state == GONE)
            continue;
        l->held = l->unclaimed = true;
        l->ask = w->ask;
        l->fence = 0;
        l->expires_ms = m->now_ms + (w->ask.lease_ms > FAE_LOCK_PICK_UP_MS ? w->ask.lease_ms : FAE_LOCK_PICK_UP_MS);
        m->n_handed++;
        return;
    }
}

static void saw_fence(struct model *m, struct model_lock *l, uint64_t fence)
{
    assert_true(fence > l->last_fence);
    l->fence = l->last_fence = fence;
    if (fence > m->seen_fence)
        m->seen_fence = fence;
    m->n_grants++;
}

static struct want *spare(struct model *m)
{
    for (unsigned i = 0; i < PLACES; i++)
        if (m->wants[i].state == GONE)
            return &m->wants[i];
    return NULL;
}

/* ---- one step each ---- */

static void step_acquire(struct model *m)
{
    struct want *w = spare(m);
    unsigned k = (unsigned)below(m, KEYS);
    struct model_lock *l = &m->locks[k];
    struct fae_lock_ask ask = unit_ask(&m->u, key_name(k), 1 + below(m, 3000), (unsigned)below(m, UNIT_SLOTS));
    struct fae_lock_info info;
    struct fae_lock_place place;
    enum fae_err err;

    ask.bound = below(m, 3) == 0;
    ask.waits = w && below(m, 2);
    err = fae_lock_acquire(&m->u.stores, m->now_ms, &ask, &place, &info);
    settle(m, k);
    if (!l->held) {
        assert_int_equal(err, FAE_OK);
        assert_true(info.fence > m->seen_fence);
        *l = (struct model_lock){ true, false, ask, m->now_ms + ask.lease_ms, 0, l->last_fence };
        saw_fence(m, l, info.fence);
    } else if (ask.waits) {
        assert_int_equal(err, FAE_MORE);
        *w = (struct want){ ask, place, k, WAITS, ++m->turns };
    } else {
        assert_int_equal(err, FAE_LOCKED);
        assert_int_equal(info.left_ms, l->expires_ms - m->now_ms);
        assert_int_equal(info.n_waiting, n_queued(m, k));
        m->n_refused++;
    }
}

static void step_release(struct model *m)
{
    unsigned k = (unsigned)below(m, KEYS);
    struct model_lock *l = &m->locks[k];
    bool right = below(m, 4) != 0, held = !open_now(m, l);
    uint64_t token = right && l->held ? l->ask.token : fae_lock_token();
    enum fae_err err = fae_lock_release(&m->u.stores, m->now_ms, key_name(k), 1, token);

    assert_int_equal(err, held && right ? FAE_OK : FAE_NOT_OWNER);
    if (err)
        return;
    l->held = false;
    settle(m, k);
}

static void step_renew(struct model *m)
{
    unsigned k = (unsigned)below(m, KEYS);
    struct model_lock *l = &m->locks[k];
    bool right = below(m, 4) != 0, held = !open_now(m, l);
    uint64_t token = right && l->held ? l->ask.token : fae_lock_token(), lease_ms = below(m, 2) ? 0 : 1 + below(m, 999);
    enum fae_err err = fae_lock_renew(&m->u.stores, m->now_ms, key_name(k), 1, token, lease_ms);

    assert_int_equal(err, held && right ? FAE_OK : FAE_NOT_OWNER);
    if (err)
        return;
    if (lease_ms)
        l->ask.lease_ms = lease_ms;
    l->expires_ms = m->now_ms + l->ask.lease_ms;
}

static struct want *any_want(struct model *m)
{
    struct want *w = &m->wants[below(m, PLACES)];

    return w->state != GONE && lives(m, &w->ask) ? w : NULL;
}

/* The lock that was granted to it, if it still has it. */
static struct model_lock *lock_of(struct model *m, const struct want *w)
{
    struct model_lock *l = &m->locks[w->key];

    return l->held && l->unclaimed && l->ask.token == w->ask.token && !open_now(m, l) ? l : NULL;
}

static void step_look(struct model *m)
{
    struct want *w = any_want(m);
    struct fae_lock_info info;
    struct model_lock *l;
    bool held = false, stirs;
    enum fae_err err;

    if (!w)
        return;
    stirs = fae_lock_stirs(&m->u.stores, m->now_ms, &w->place);
    assert_int_equal(stirs, w->state == GRANTED || open_now(m, &m->locks[w->key]));
    err = fae_lock_look(&m->u.stores, m->now_ms, &w->place, &held, &info);
    if (w->state == WAITS)
        settle(m, w->key);
    if (w->state == WAITS) {
        assert_int_equal(err, FAE_MORE);
        assert_true(held);
        return;
    }
    l = lock_of(m, w);
    assert_int_equal(err, l ? FAE_OK : FAE_NOT_FOUND);
    w->state = GONE;
    if (!l)
        return;
    l->unclaimed = false;
    l->expires_ms = m->now_ms + l->ask.lease_ms;
    saw_fence(m, l, info.fence);
}

static void step_leave(struct model *m)
{
    struct want *w = any_want(m);
    struct fae_lock_info info;
    struct model_lock *l;

    if (!w)
        return;
    fae_lock_leave(&m->u.stores, m->now_ms, &w->place, &info);
    l = lock_of(m, w);
    if (w->state == GRANTED && l)
        l->held = false;
    if (w->state == WAITS || l) {
        w->state = GONE;
        settle(m, w->key);
    }
    w->state = GONE;
}

static void step_force(struct model *m)
{
    unsigned k = (unsigned)below(m, KEYS);
    struct model_lock *l = &m->locks[k];
    bool held = !open_now(m, l);
    struct fae_lock_info info;

    assert_int_equal(fae_lock_force(&m->u.stores, m->now_ms, key_name(k), 1, 1000, &info),
                     held ? FAE_OK : FAE_NOT_FOUND);
    if (!held)
        return;
    assert_int_equal(info.slot, l->ask.slot);
    l->held = false;
    settle(m, k);
}

static void step_sweep(struct model *m)
{
    fae_locks_sweep(&m->u.stores, m->now_ms);
    for (unsigned i = 0; i < PLACES; i++)
        if (!lives(m, &m->wants[i].ask))
            m->wants[i].state = GONE;
    for (unsigned k = 0; k < KEYS; k++)
        settle(m, k);
}

static void step_kill(struct model *m)
{
    unsigned slot = (unsigned)below(m, UNIT_SLOTS);

    unit_replace(&m->u, slot);
    for (unsigned i = 0; i < PLACES; i++) /* granted, and nobody will look: the place is cleared away by sweeps */
        if (m->wants[i].state == GRANTED && m->wants[i].ask.slot == slot)
            m->wants[i].state = GONE;
}

static void compare(struct model *m)
{
    struct fae_lock_info info;

    for (unsigned k = 0; k < KEYS; k++) {
        const struct model_lock *l = &m->locks[k];
        enum fae_err err = fae_lock_info(&m->u.stores, m->now_ms, key_name(k), 1, &info);

        assert_int_equal(err, open_now(m, l) ? FAE_NOT_FOUND : FAE_OK);
        if (err)
            continue;
        assert_int_equal(info.left_ms, l->expires_ms - m->now_ms);
        assert_int_equal(info.n_waiting, n_queued(m, k));
        if (l->fence)
            assert_int_equal(info.fence, l->fence);
    }
}

static void does_what_the_model_does(void **state)
{
    static void (*const steps[])(struct model *) = { step_acquire, step_acquire, step_acquire, step_release,
                                                     step_release, step_renew,   step_look,    step_look,
                                                     step_look,    step_leave,   step_force,   step_sweep };
    struct model m = { .now_ms = 1000, .random = 88172645463325252ull };

    (void)state;
    unit_locks_open(&m.u, 64);
    for (unsigned i = 0; i < STEPS; i++) {
        if (below(&m, 50) == 0)
            m.now_ms += below(&m, 10) ? below(&m, 300) : below(&m, 5000);
        if (below(&m, 400) == 0)
            step_kill(&m);
        steps[below(&m, UNIT_N(steps))](&m);
        if (i % 8 == 0)
            compare(&m);
        if (i % 1000 == 0)
            unit_locks_check(&m.u);
    }
    assert_true(m.n_grants > STEPS / 20);
    assert_true(m.n_handed > STEPS / 100);
    assert_true(m.n_refused > STEPS / 100);
    unit_locks_close(&m.u);
}

/* ---- single rules ---- */

static struct fae_lock_info said;

static enum fae_err acquire(struct unit_locks *u, uint64_t now_ms, const struct fae_lock_ask *ask,
                            struct fae_lock_place *place)
{
    return fae_lock_acquire(&u->stores, now_ms, ask, place, &said);
}

static void a_full_table_says_so(void **state)
{
    struct fae_lock_ask ask;
    struct fae_lock_place place;
    struct unit_locks u;
    char key[16];

    (void)state;
    unit_locks_open(&u, 100);
    for (unsigned i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "k%u", i);
        ask = unit_ask(&u, key, i == 50 ? 10 : 1000, 0);
        assert_int_equal(acquire(&u, 1, &ask, &place), FAE_OK);
    }
    ask = unit_ask(&u, "one more", 1000, 0);
    assert_int_equal(acquire(&u, 1, &ask, &place), FAE_OVERLOAD);
    assert_int_equal(acquire(&u, 11, &ask, &place), FAE_OVERLOAD);
    assert_int_equal(acquire(&u, 12, &ask, &place), FAE_OK); /* one has expired */
    ask = unit_ask(&u, "k1", 1000, 0);
    ask.waits = true;
    for (unsigned i = 0; i < u.stores.locks->waiters_max; i++)
        assert_int_equal(acquire(&u, 12, &ask, &place), FAE_MORE);
    assert_int_equal(acquire(&u, 12, &ask, &place), FAE_OVERLOAD);
    unit_locks_check(&u);
    unit_locks_close(&u);
}

/* 1,000 wait for one lock: each release gives it to the next in line, rouses once, and its number is higher. */
static void a_herd_goes_one_by_one(void **state)
{
    enum { HERD = 1000 };
    static struct fae_lock_ask asks[HERD];
    static struct fae_lock_place places[HERD];
    struct unit_locks u;
    uint64_t fence, n;
    bool held;

    (void)state;
    unit_locks_open(&u, 64);
    for (unsigned i = 0; i < HERD; i++) {
        asks[i] = unit_ask(&u, "herd", 5000, i % UNIT_SLOTS);
        asks[i].waits = true;
        assert_int_equal(acquire(&u, 1, &asks[i], &places[i]), i ? FAE_MORE : FAE_OK);
    }
    fence = said.fence;
    for (unsigned i = 1; i < HERD; i++) {
        assert_int_equal(fae_lock_release(&u.stores, 2, "herd", 4, asks[i - 1].token), FAE_OK);
        for (unsigned slot = 0; slot < UNIT_SLOTS; slot++) {
            bool roused = read(u.mail.eventfds[slot], &n, sizeof n) == sizeof n;

            assert_int_equal(roused ? n : 0, slot == i % UNIT_SLOTS);
        }
        for (unsigned j = i; j < HERD && j < i + 5; j++)
            assert_int_equal(fae_lock_stirs(&u.stores, 2, &places[j]), j == i);
        assert_int_equal(fae_lock_look(&u.stores, 2, &places[i], &held, &said), FAE_OK);
        assert_true(said.fence > fence);
        fence = said.fence;
    }
    assert_int_equal(fae_lock_release(&u.stores, 2, "herd", 4, asks[HERD - 1].token), FAE_OK);
    assert_int_equal(fae_locks_n_held(&u.stores), 0);
    unit_locks_check(&u);
    unit_locks_close(&u);
}

/* Leases up to the longest that the last node knew of may still be somebody's. */
static void after_a_crash_nothing_is_given(void **state)
{
    struct fae_lock_place place, second;
    struct fae_lock_ask ask, other;
    struct unit_locks u;
    bool held;

    (void)state;
    unit_locks_open(&u, 64);
    u.stores.marks->began[FAE_MARK_LEASE_MS] = 500;
    fae_marks_settle(u.stores.marks, FAE_MARK_FENCE, 77);
    fae_locks_open(&u.stores, 1000);
    fae_marks_settle(u.stores.marks, FAE_MARK_FENCE, 1000);
    ask = unit_ask(&u, "k", 10, 0);
    assert_int_equal(acquire(&u, 1001, &ask, &place), FAE_UNAVAILABLE);
    assert_int_equal(said.left_ms, 500);
    ask.waits = true;
    assert_int_equal(acquire(&u, 1400, &ask, &place), FAE_MORE);
    other = unit_ask(&u, "k", 10, 1);
    other.waits = true;
    assert_int_equal(acquire(&u, 1400, &other, &second), FAE_MORE);
    assert_int_equal(fae_lock_look(&u.stores, 1500, &second, &held, &said), FAE_MORE);
    assert_true(held);
    assert_int_equal(fae_lock_info(&u.stores, 1500, "k", 1, &said), FAE_NOT_FOUND); /* by nobody we know */
    assert_int_equal(fae_lock_look(&u.stores, 1501, &second, &held, &said), FAE_MORE);
    assert_int_equal(fae_lock_look(&u.stores, 1501, &place, &held, &said), FAE_OK);
    assert_int_equal(said.fence, 77);
    ask = unit_ask(&u, "another", 10, 0);
    assert_int_equal(acquire(&u, 1501, &ask, &place), FAE_OK);
    /* Its end: 10 ms are left of both locks. */
    fae_locks_close(&u.stores, 1501);
    assert_int_equal(fae_marks_reserved(u.stores.marks, FAE_MARK_LEASE_MS), 12);
    fae_locks_close(&u.stores, 1511);
    assert_int_equal(fae_marks_reserved(u.stores.marks, FAE_MARK_LEASE_MS), 2);
    fae_locks_close(&u.stores, 1512);
    assert_int_equal(fae_marks_reserved(u.stores.marks, FAE_MARK_LEASE_MS), 0);
    assert_int_equal(fae_marks_reserved(u.stores.marks, FAE_MARK_FENCE), 79);
    unit_locks_close(&u);
}

static uint64_t wanted(const struct unit_locks *u, enum fae_mark_row mark)
{
    return atomic_load(&u->stores.marks->rows[mark].wanted);
}

/* While the disk is slow everybody waits, in order; when it fails they are told. */
static void waits_for_the_disk(void **state)
{
    struct fae_lock_place first, second;
    struct fae_lock_ask ask, other;
    struct unit_locks u;
    bool held;

    (void)state;
    unit_locks_open(&u, 64);
    fae_marks_settle(u.stores.marks, FAE_MARK_FENCE, 1);
    fae_marks_settle(u.stores.marks, FAE_MARK_LEASE_MS, 0);
    ask = unit_ask(&u, "k", 10000, 0);
    other = unit_ask(&u, "k", 600000, 1);
    assert_int_equal(acquire(&u, 1, &ask, &first), FAE_MORE);
    assert_int_equal(acquire(&u, 1, &other, &second), FAE_MORE);
    assert_true(wanted(&u, FAE_MARK_LEASE_MS) > 600000 && wanted(&u, FAE_MARK_LEASE_MS) <= 750000);
    assert_int_equal(fae_lock_look(&u.stores, 1, &first, &held, &said), FAE_MORE);
    assert_false(held);
    fae_marks_settle(u.stores.marks, FAE_MARK_LEASE_MS, wanted(&u, FAE_MARK_LEASE_MS));
    assert_int_equal(fae_lock_look(&u.stores, 1, &second, &held, &said), FAE_MORE); /* no number yet */
    assert_true(wanted(&u, FAE_MARK_FENCE) >= FAE_LOCK_FENCES);
    fae_marks_settle(u.stores.marks, FAE_MARK_FENCE, 2); /* one */
    assert_true(fae_lock_stirs(&u.stores, 1, &second));
    assert_int_equal(fae_lock_look(&u.stores, 1, &second, &held, &said), FAE_MORE);
    assert_true(held); /* the first in line has it */
    assert_int_equal(fae_lock_look(&u.stores, 1, &first, &held, &said), FAE_OK);
    assert_int_equal(said.fence, 1);
    assert_int_equal(fae_lock_release(&u.stores, 2, "k", 1, ask.token), FAE_OK);
    atomic_store(&u.stores.marks->error, FAE_NO_SPACE);
    assert_int_equal(fae_lock_look(&u.stores, 2, &second, &held, &said), FAE_NO_SPACE);
    assert_int_equal(acquire(&u, 2, &ask, &first), FAE_NO_SPACE);
    assert_int_equal(fae_locks_n_held(&u.stores), 0);
    unit_locks_check(&u);
    unit_locks_close(&u);
}

static void a_longer_lease_is_written_first(void **state)
{
    struct fae_lock_place place;
    struct unit_locks u;
    struct fae_lock_ask ask;

    (void)state;
    unit_locks_open(&u, 64);
    fae_marks_settle(u.stores.marks, FAE_MARK_LEASE_MS, 2000);
    ask = unit_ask(&u, "k", 1999, 0);
    assert_int_equal(acquire(&u, 1, &ask, &place), FAE_OK);
    assert_int_equal(fae_lock_renew(&u.stores, 2, "k", 1, ask.token, 2000), FAE_MORE);
    assert_int_equal(fae_lock_info(&u.stores, 2, "k", 1, &said), FAE_OK);
    assert_int_equal(said.left_ms, 1998);
    fae_marks_settle(u.stores.marks, FAE_MARK_LEASE_MS, wanted(&u, FAE_MARK_LEASE_MS));
    assert_int_equal(fae_lock_renew(&u.stores, 2, "k", 1, ask.token, 2000), FAE_OK);
    unit_locks_close(&u);
}

static void keys_are_bytes(void **state)
{
    struct fae_buf json = { 0 };
    struct fae_lock_place place;
    static uint8_t key[FAE_LOCK_KEY_MAX];
    struct unit_locks u;
    struct fae_lock_ask ask;

    (void)state;
    unit_locks_open(&u, 64);
    for (unsigned len = 1; len <= sizeof key; len += 73) {
        key[len - 1] = (uint8_t)(0x80 + len % 3);
        ask = unit_ask(&u, "", 1000, 0);
        ask.key = key;
        ask.key_len = len;
        assert_int_equal(acquire(&u, 1, &ask, &place), FAE_OK);
        assert_int_equal(acquire(&u, 1, &ask, &place), FAE_LOCKED);
    }
    assert_int_equal(fae_locks_list(&u.stores, 1, 100, &said, 1), 1);
    fae_lock_info_json(&said, &json);
    assert_non_null(strstr(fae_buf_text(&json), ",\"key_hex\":\""));
    assert_non_null(strstr(fae_buf_text(&json), ",\"left_ms\":1000,\"lease_ms\":1000,\"waiting\":0,"));
    fae_buf_fini(&json);
    unit_locks_close(&u);
}

/* A table in parts: everything is found again, and listed. */
static void a_large_table_is_in_parts(void **state)
{
    enum { LOCKS = 8192 };
    static struct fae_lock_info infos[LOCKS + 1];
    struct fae_lock_place place;
    struct unit_locks u;
    struct fae_lock_ask ask;
    char key[16];

    (void)state;
    unit_locks_open(&u, LOCKS);
    assert_true(u.stores.locks->n_shards > 1);
    for (unsigned i = 0; i < LOCKS; i++) {
        snprintf(key, sizeof key, "k%u", i);
        ask = unit_ask(&u, key, 1000, 0);
        assert_int_equal(acquire(&u, 1, &ask, &place), FAE_OK);
    }
    assert_int_equal(fae_locks_list(&u.stores, 1, UINT32_MAX, infos, LOCKS + 1), LOCKS);
    assert_int_equal(fae_locks_n_held(&u.stores), LOCKS);
    unit_locks_check(&u);
    for (unsigned i = 0; i < 10000 && fae_locks_n_held(&u.stores); i++)
        fae_locks_sweep(&u.stores, 2000);
    assert_int_equal(fae_locks_n_held(&u.stores), 0);
    unit_locks_close(&u);
}

/* Keys that all fall into a bucket of an unseeded table cost no more than others: a node's seed is its own. */
static void every_node_has_its_own_hash(void **state)
{
    struct unit_locks a, b;
    unsigned n_equal = 0;

    (void)state;
    unit_locks_open(&a, 64);
    unit_locks_open(&b, 64);
    for (unsigned i = 0; i < 100; i++)
        n_equal += fae_locks_hash(a.stores.locks, &i, sizeof i) == fae_locks_hash(b.stores.locks, &i, sizeof i);
    assert_int_equal(n_equal, 0);
    unit_locks_close(&a);
    unit_locks_close(&b);
}

/* X7: 100,000 keys as a flood would choose them, of which no more share a bucket than chance has it. */
static void a_flood_of_keys_spreads(void **state)
{
    enum { FLOOD = 100000 };
    struct fae_lock_place place;
    struct unit_locks u;
    struct fae_lock_ask ask;
    unsigned longest = 0;
    char key[400];

    (void)state;
    unit_locks_open(&u, FLOOD);
    memset(key, 'x', sizeof key);
    for (unsigned i = 0; i < FLOOD; i++) {
        ask = unit_ask(&u, "", 1000, 0);
        memcpy(key + i % 390, &i, sizeof i);
        ask.key = key;
        ask.key_len = sizeof key;
        assert_int_equal(acquire(&u, 1, &ask, &place), FAE_OK);
        memset(key + i % 390, 'x', sizeof i);
    }
    for (uint32_t i = 0; i < u.stores.locks->n_shards; i++) {
        struct fae_lock_shard *s = fae_locks_shard(u.stores.locks, i);

        for (uint32_t b = 0; b < u.stores.locks->n_buckets; b++) {
            unsigned length = 0;

            for (uint32_t n = fae_locks_buckets(u.stores.locks, s)[b]; n;
                 n = fae_locks_entry(u.stores.locks, s, n)->next)
                length++;
            longest = length > longest ? length : longest;
        }
    }
    assert_true(longest < 16);
    unit_locks_close(&u);
}

/* ---- side by side ---- */

#define THREADS UNIT_SLOTS
#define SHARED_KEYS 3u

struct crowd {
    struct unit_locks u;
    unsigned counters[SHARED_KEYS]; /* guarded by the locks alone: TSan sees when they do not */
    uint64_t fences[SHARED_KEYS];
    _Atomic unsigned n_done, n_wrong;
};

struct member {
    struct crowd *crowd;
    unsigned slot;
    pthread_t thread;
};

static enum fae_err await(struct crowd *c, const struct fae_lock_place *place, struct fae_lock_info *info)
{
    bool held;

    for (;;) {
        if (fae_lock_stirs(&c->u.stores, fae_lock_now_ms(), place)) {
            enum fae_err err = fae_lock_look(&c->u.stores, fae_lock_now_ms(), place, &held, info);

            if (err != FAE_MORE)
                return err;
        }
        sched_yield();
    }
}

static void *member_life(void *arg)
{
    struct member *m = arg;
    struct crowd *c = m->crowd;
    struct fae_lock_info info, infos[4];
    struct fae_lock_place place;

    for (unsigned i = 0; i < 2000; i++) {
        unsigned k = i % SHARED_KEYS;
        struct fae_lock_ask ask = unit_ask(&c->u, key_name(k), 60000, m->slot);
        enum fae_err err;

        ask.waits = i % 4;
        err = fae_lock_acquire(&c->u.stores, fae_lock_now_ms(), &ask, &place, &info);
        if (err == FAE_MORE && i % 16 == 1) {
            fae_lock_leave(&c->u.stores, fae_lock_now_ms(), &place, &info);
            continue;
        }
        if (err == FAE_MORE)
            err = await(c, &place, &info);
        if (err == FAE_LOCKED)
            continue;
        c->n_wrong += err != FAE_OK || info.fence <= c->fences[k];
        c->fences[k] = info.fence;
        c->counters[k]++;
        c->n_done++;
        c->n_wrong += fae_lock_release(&c->u.stores, fae_lock_now_ms(), ask.key, ask.key_len, ask.token) != FAE_OK;
        if (i % 64 == 0)
            fae_locks_sweep(&c->u.stores, fae_lock_now_ms());
        if (i % 128 == 0)
            fae_locks_list(&c->u.stores, fae_lock_now_ms(), 100, infos, UNIT_N(infos));
    }
    return NULL;
}

static void threads_have_it_one_by_one(void **state)
{
    static struct crowd crowd;
    struct member members[THREADS];
    unsigned n = 0;

    (void)state;
    unit_locks_open(&crowd.u, 64);
    for (unsigned i = 0; i < THREADS; i++) {
        members[i] = (struct member){ .crowd = &crowd, .slot = i };
        assert_int_equal(pthread_create(&members[i].thread, NULL, member_life, &members[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(members[i].thread, NULL);
    for (unsigned k = 0; k < SHARED_KEYS; k++)
        n += crowd.counters[k];
    assert_int_equal(crowd.n_wrong, 0);
    assert_int_equal(n, crowd.n_done);
    assert_true(n > 1000);
    assert_int_equal(fae_locks_n_held(&crowd.u.stores), 0);
    unit_locks_check(&crowd.u);
    unit_locks_close(&crowd.u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(does_what_the_model_does),
        cmocka_unit_test(a_full_table_says_so),
        cmocka_unit_test(a_herd_goes_one_by_one),
        cmocka_unit_test(after_a_crash_nothing_is_given),
        cmocka_unit_test(waits_for_the_disk),
        cmocka_unit_test(a_longer_lease_is_written_first),
        cmocka_unit_test(keys_are_bytes),
        cmocka_unit_test(a_large_table_is_in_parts),
        cmocka_unit_test(a_flood_of_keys_spreads),
        cmocka_unit_test(threads_have_it_one_by_one),
        cmocka_unit_test(every_node_has_its_own_hash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
