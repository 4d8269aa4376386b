/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A record is its length (u32) and its bytes, and may run over the end of the data to its start. The writer publishes
 * head after the bytes, the reader tail after its copy: death at any instruction leaves whole records only, and the
 * last one may be read twice.
 */
#include "base/ring.h"

#include <string.h>

#include "base/assert.h"

#define FAE_RING_HEAD sizeof(uint32_t)

size_t fae_ring_size(uint32_t cap)
{
    return sizeof(struct fae_ring) + cap;
}

void fae_ring_init(struct fae_ring *ring, uint32_t cap)
{
    FAE_ASSERT(cap >= 8);
    FAE_ASSERT((cap & (cap - 1)) == 0);
    ring->cap = cap;
}

static uint32_t copy_in(struct fae_ring *ring, uint32_t at, const void *bytes, size_t n)
{
    uint32_t from = at & (ring->cap - 1);
    size_t first = ring->cap - from < n ? ring->cap - from : n;

    if (n) {
        memcpy(ring->data + from, bytes, first);
        memcpy(ring->data, (const uint8_t *)bytes + first, n - first);
    }
    return at + (uint32_t)n;
}

static void copy_out(const struct fae_ring *ring, uint32_t at, void *bytes, size_t n)
{
    uint32_t from = at & (ring->cap - 1);
    size_t first = ring->cap - from < n ? ring->cap - from : n;

    if (n) {
        memcpy(bytes, ring->data + from, first);
        memcpy((uint8_t *)bytes + first, ring->data, n - first);
    }
}

static void count_drop(struct fae_ring *ring)
{
    atomic_fetch_add_explicit(&ring->n_dropped, 1, memory_order_relaxed);
}

bool fae_ring_push(struct fae_ring *ring, const void *a, size_t a_len, const void *b, size_t b_len)
{
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint32_t used = head - atomic_load_explicit(&ring->tail, memory_order_acquire);
    uint32_t len = (uint32_t)(a_len + b_len);

    if (used > ring->cap || a_len > ring->cap || b_len > ring->cap ||
        FAE_RING_HEAD + a_len + b_len > ring->cap - used) {
        count_drop(ring);
        return false;
    }
    head = copy_in(ring, head, &len, FAE_RING_HEAD);
    head = copy_in(ring, head, a, a_len);
    head = copy_in(ring, head, b, b_len);
    atomic_store_explicit(&ring->head, head, memory_order_release);
    return true;
}

long fae_ring_pop(struct fae_ring *ring, void *record, size_t size)
{
    uint32_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    uint32_t head = atomic_load_explicit(&ring->head, memory_order_acquire);
    uint32_t used = head - tail, len;

    if (used == 0)
        return -1;
    if (used < FAE_RING_HEAD || used > ring->cap)
        goto nonsense;
    copy_out(ring, tail, &len, FAE_RING_HEAD);
    if (len > used - FAE_RING_HEAD || len > size)
        goto nonsense;
    copy_out(ring, tail + (uint32_t)FAE_RING_HEAD, record, len);
    atomic_store_explicit(&ring->tail, tail + (uint32_t)FAE_RING_HEAD + len, memory_order_release);
    return (long)len;

nonsense:
    atomic_store_explicit(&ring->tail, head, memory_order_release);
    count_drop(ring);
    return -1;
}

bool fae_ring_empty(const struct fae_ring *ring)
{
    return atomic_load_explicit(&ring->head, memory_order_acquire) ==
           atomic_load_explicit(&ring->tail, memory_order_relaxed);
}
