/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A record that does not fit before the end of the data begins at its start, behind one that only fills the rest. Every
 * size is a multiple of 8, so there is always room for that one's first word.
 */
#include "store/kv_ring.h"

#include <string.h>

#include "base/assert.h"

enum { WAITING, BEGUN, WITHDRAWN, FILLER };

/* As it lies in shared memory. */
struct head {
    uint32_t size; /* of the whole record */
    _Atomic uint32_t state;
    uint8_t op, flags;
    uint16_t key_len;
    uint32_t value_len;
    uint32_t incarnation;
    uint32_t reserved;
    uint64_t seq, deadline_ms, ttl_ms, version;
    int64_t number;
};

size_t fae_kv_ring_size(uint32_t cap)
{
    return sizeof(struct fae_kv_ring) + cap;
}

void fae_kv_ring_init(struct fae_kv_ring *ring, uint32_t cap)
{
    FAE_ASSERT((cap & (cap - 1)) == 0);
    FAE_ASSERT(cap >= 4 * sizeof(struct head));
    ring->cap = cap;
}

uint32_t fae_kv_ring_need(size_t key_len, size_t value_len)
{
    return (uint32_t)((sizeof(struct head) + key_len + value_len + 7) & ~(size_t)7);
}

static struct head *at_of(struct fae_kv_ring *ring, uint32_t at)
{
    return (struct head *)(ring->data + (at & (ring->cap - 1)));
}

static void fill_rest(struct fae_kv_ring *ring, uint32_t at, uint32_t size)
{
    struct head *h = at_of(ring, at);

    h->size = size;
    atomic_store_explicit(&h->state, FILLER, memory_order_relaxed);
}

bool fae_kv_ring_put(struct fae_kv_ring *ring, const struct fae_kv_request *r, uint32_t *at_out)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t room = ring->cap - (head - atomic_load_explicit(&ring->tail, memory_order_acquire));
    uint32_t need = fae_kv_ring_need(r->key_len, r->value_len), rest = ring->cap - (head & (ring->cap - 1));
    uint32_t skip = rest < need ? rest : 0;
    struct head *h;
    uint8_t *bytes;

    if (room > ring->cap || need > ring->cap || skip + need > room)
        return false;
    if (skip)
        fill_rest(ring, head, skip);
    h = at_of(ring, head + skip);
    h->size = need;
    atomic_store_explicit(&h->state, WAITING, memory_order_relaxed);
    h->op = r->op;
    h->flags = r->flags;
    h->key_len = (uint16_t)r->key_len;
    h->value_len = r->value_len;
    h->incarnation = r->incarnation;
    h->seq = r->seq;
    h->deadline_ms = r->deadline_ms;
    h->ttl_ms = r->ttl_ms;
    h->version = r->version;
    h->number = r->number;
    bytes = (uint8_t *)(h + 1);
    if (r->key_len)
        memcpy(bytes, r->key, r->key_len);
    if (r->value_len)
        memcpy(bytes + r->key_len, r->value, r->value_len);
    *at_out = head + skip;
    /* Sequentially consistent, as is the writer's look before it sleeps: one of the two sees the other. */
    atomic_store(&ring->head, head + skip + need);
    return true;
}

bool fae_kv_ring_withdraw(struct fae_kv_ring *ring, uint32_t at)
{
    uint32_t was = WAITING;

    /* Passed: what lies there now may be another, and only we put any. */
    if ((int32_t)(atomic_load_explicit(&ring->tail, memory_order_acquire) - at) > 0)
        return false;
    return atomic_compare_exchange_strong(&at_of(ring, at)->state, &was, WITHDRAWN);
}

/* Is that a record that lies whole within what was written? */
static bool makes_sense(const struct fae_kv_ring *ring, uint32_t at, uint32_t size, uint32_t used)
{
    return size >= 8 && size % 8 == 0 && size <= used && (at & (ring->cap - 1)) + size <= ring->cap;
}

static enum fae_kv_taken broken(struct fae_kv_ring *ring, uint32_t *at, uint32_t head)
{
    atomic_fetch_add_explicit(&ring->n_broken, 1, memory_order_relaxed);
    *at = head;
    return FAE_KV_TAKEN_NONE;
}

enum fae_kv_taken fae_kv_ring_take(struct fae_kv_ring *ring, uint32_t *at, struct fae_kv_request *out)
{
    uint32_t head = atomic_load(&ring->head), used, size, was = WAITING;
    struct head *h;

    for (;;) {
        used = head - *at;
        if (used == 0)
            return FAE_KV_TAKEN_NONE;
        h = at_of(ring, *at);
        size = h->size;
        if (used > ring->cap || !makes_sense(ring, *at, size, used))
            return broken(ring, at, head);
        if (atomic_load_explicit(&h->state, memory_order_relaxed) != FILLER)
            break;
        *at += size;
    }
    if (size < sizeof *h || (uint64_t)sizeof *h + h->key_len + h->value_len > size)
        return broken(ring, at, head);
    *out = (struct fae_kv_request){ .op = h->op,
                                    .flags = h->flags,
                                    .incarnation = h->incarnation,
                                    .seq = h->seq,
                                    .deadline_ms = h->deadline_ms,
                                    .ttl_ms = h->ttl_ms,
                                    .version = h->version,
                                    .number = h->number,
                                    .key = (const char *)(h + 1),
                                    .key_len = h->key_len,
                                    .value = (const uint8_t *)(h + 1) + h->key_len,
                                    .value_len = h->value_len };
    *at += size;
    if (atomic_compare_exchange_strong(&h->state, &was, BEGUN))
        return FAE_KV_TAKEN;
    return was == WITHDRAWN ? FAE_KV_TAKEN_WITHDRAWN : FAE_KV_TAKEN_BEGUN;
}

uint32_t fae_kv_ring_tail(const struct fae_kv_ring *ring)
{
    return atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

void fae_kv_ring_pass(struct fae_kv_ring *ring, uint32_t at)
{
    atomic_store_explicit(&ring->tail, at, memory_order_release);
}

bool fae_kv_ring_empty(const struct fae_kv_ring *ring)
{
    return atomic_load(&ring->head) == atomic_load_explicit(&ring->tail, memory_order_relaxed);
}

uint32_t fae_kv_ring_used(const struct fae_kv_ring *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_relaxed) -
           atomic_load_explicit(&ring->tail, memory_order_relaxed);
}
