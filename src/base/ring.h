/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A ring of records in shared memory: one writer, one reader, each of which may be killed at any instruction. A record
 * counts only once it is whole, and a full ring drops the new record and counts it: the writer never waits.
 */
#ifndef FAE_BASE_RING_H
#define FAE_BASE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fae_ring {
    uint32_t cap;               /* bytes of data, a power of two */
    _Atomic uint32_t head;      /* bytes ever written; the writer's */
    _Atomic uint32_t tail;      /* bytes ever read; the reader's */
    _Atomic uint64_t n_dropped; /* records that found no room */
    _Alignas(8) uint8_t data[];
};

/* Bytes of memory a ring of `cap` (a power of two) takes. */
size_t fae_ring_size(uint32_t cap);
void fae_ring_init(struct fae_ring *ring, uint32_t cap); /* mem is zeroed */
/* Writes one record of two parts (b may be NULL). False: no room, dropped and counted. */
bool fae_ring_push(struct fae_ring *ring, const void *a, size_t a_len, const void *b, size_t b_len);
/* Copies the oldest record out and drops it. Returns its length, or -1 when there is none. A record longer than size
 * (our bug) or a ring that makes no sense (its writer was broken) is emptied and counted in n_dropped. */
long fae_ring_pop(struct fae_ring *ring, void *record, size_t size);
bool fae_ring_empty(const struct fae_ring *ring);

#endif
