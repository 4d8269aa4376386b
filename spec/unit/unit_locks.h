/* SPDX-License-Identifier: BSD-2-Clause
 *
 * As much of a node as locks need, in memory that forked children share, and the check of a table's lists.
 */
#ifndef FAE_UNIT_LOCKS_H
#define FAE_UNIT_LOCKS_H

#include <sys/eventfd.h>
#include <sys/mman.h>

#include "base/mailbox.h"
#include "store/locks_impl.h"
#include "unit.h"

#define UNIT_SLOTS 4u

struct unit_locks {
    struct fae_stores stores;
    struct fae_mailboxes mail;
    void *boxes;
    size_t size;
    uint64_t locks_max;
};

UNIT_FN void *unit_region(size_t size)
{
    void *mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    assert_true(mem != MAP_FAILED);
    return mem;
}

/* The disk has whatever numbers anybody wants, unless a test takes them away. */
UNIT_FN void unit_locks_open(struct unit_locks *u, uint64_t locks_max)
{
    unsigned n_workers = UNIT_SLOTS;

    *u = (struct unit_locks){ .locks_max = locks_max, .size = fae_locks_size(&locks_max) };
    u->stores.slots = unit_region(fae_slots_size(&n_workers));
    fae_slots_init(u->stores.slots, &n_workers);
    for (unsigned i = 0; i < UNIT_SLOTS; i++) {
        u->stores.slots->slots[i].incarnation = 1;
        u->stores.slots->slots[i].state = FAE_SLOT_READY;
    }
    u->boxes = unit_region(fae_mailboxes_size(&n_workers));
    fae_mailboxes_init(u->boxes, &n_workers);
    assert_int_equal(fae_mailboxes_open(&u->mail, u->boxes, u->stores.slots), FAE_OK);
    u->stores.mail = &u->mail;
    u->stores.data_dir = "";
    u->stores.marks = unit_region(fae_marks_size(NULL));
    u->stores.marks_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    u->stores.locks = unit_region(u->size);
    fae_locks_init(u->stores.locks, &locks_max);
    fae_locks_open(&u->stores, 0);
    fae_marks_settle(u->stores.marks, FAE_MARK_FENCE, UINT64_MAX / 2);
    fae_marks_settle(u->stores.marks, FAE_MARK_LEASE_MS, 1000000);
}

UNIT_FN void unit_locks_close(struct unit_locks *u)
{
    unsigned n_workers = UNIT_SLOTS;

    close(u->stores.marks_fd);
    fae_mailboxes_close(&u->mail);
    munmap(u->boxes, fae_mailboxes_size(&n_workers));
    munmap(u->stores.slots, fae_slots_size(&n_workers));
    munmap(u->stores.marks, fae_marks_size(NULL));
    munmap(u->stores.locks, u->size);
}

static const struct fae_lock_text unit_no_text = { 0 };

UNIT_FN struct fae_lock_ask unit_ask(const struct unit_locks *u, const char *key, uint64_t lease_ms, unsigned slot)
{
    return (struct fae_lock_ask){ .key = key,
                                  .key_len = strlen(key),
                                  .token = fae_lock_token(),
                                  .lease_ms = lease_ms,
                                  .slot = slot,
                                  .incarnation = u->stores.slots->slots[slot].incarnation,
                                  .reason = &unit_no_text,
                                  .who = &unit_no_text };
}

/* The slot's process dies, and another takes its place. */
UNIT_FN void unit_replace(struct unit_locks *u, unsigned slot)
{
    atomic_fetch_add(&u->stores.slots->slots[slot].incarnation, 1);
}

static uint32_t unit_queue_length(struct fae_lock_op *op, struct fae_lock_entry *e)
{
    uint32_t n = 0, prev = 0;
    uint64_t number = 0;

    for (uint32_t at = e->first; at; at = fae_locks_waiter(op->locks, op->shard, at)->next) {
        struct fae_lock_waiter *w = fae_locks_waiter(op->locks, op->shard, at);

        assert_int_equal(w->state, FAE_WAITER_WAITS);
        assert_int_equal(w->prev, prev);
        assert_int_equal(w->entry, fae_locks_number(op, e));
        assert_true(w->number > number);
        number = w->number;
        prev = at;
        n++;
    }
    assert_int_equal(e->last, prev);
    assert_int_equal(e->n_waiting, n);
    return n;
}

/* Every entry is found or free, every waiter queued, granted or free, and counts say so. */
UNIT_FN void unit_locks_check(struct unit_locks *u)
{
    const struct fae_locks *l = u->stores.locks;
    struct fae_lock_op op;

    for (uint32_t i = 0; i < l->n_shards; i++) {
        uint32_t held = 0, free = 0, queued = 0, granted = 0, spare = 0, found = 0;
        struct fae_lock_shard *s = fae_locks_shard(l, i);

        fae_lock_begin(&op, &u->stores, i, 0, UINT32_MAX);
        for (uint32_t n = 1; n <= s->n_entries; n++) {
            struct fae_lock_entry *e = fae_locks_entry(l, s, n);

            if (e->state != FAE_LOCK_HELD)
                continue;
            held++;
            assert_ptr_equal(fae_locks_find(&op, e->hash, e->key, e->key_len), e);
            queued += unit_queue_length(&op, e);
        }
        for (uint32_t b = 0; b < l->n_buckets; b++)
            for (uint32_t n = fae_locks_buckets(l, s)[b]; n; n = fae_locks_entry(l, s, n)->next)
                found++;
        for (uint32_t n = s->free_entry; n; n = fae_locks_entry(l, s, n)->next) {
            assert_int_equal(fae_locks_entry(l, s, n)->state, FAE_LOCK_FREE);
            free++;
        }
        for (uint32_t n = 1; n <= s->n_waiters; n++)
            granted += fae_locks_waiter(l, s, n)->state == FAE_WAITER_GRANTED;
        for (uint32_t n = s->free_waiter; n; n = fae_locks_waiter(l, s, n)->next) {
            assert_int_equal(fae_locks_waiter(l, s, n)->state, FAE_WAITER_FREE);
            spare++;
        }
        assert_int_equal(held, found);
        assert_int_equal(held, s->n_held);
        assert_int_equal(held + free, s->n_entries);
        assert_int_equal(queued + granted, s->n_places);
        assert_int_equal(queued + granted + spare, s->n_waiters);
        fae_lock_end(&op);
    }
}

#endif
