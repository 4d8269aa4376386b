/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The requests of one worker to the writer of one kv store, in shared memory: a ring of records, each in one piece, so
 * that a value goes from here into the database without another copy. One process puts, one takes, and each may be
 * killed at any instruction.
 *
 *   WAITING --writer--> BEGUN ... (in a transaction) ... passed: the tail is behind it
 *      \----worker----> WITHDRAWN: its call is over, and it is not done
 * Whoever changes the word first decides, so a worker always knows whether what it gave up on may have been done; and a
 * writer that follows one that died knows which of what it finds may have been done.
 */
#ifndef FAE_STORE_KV_RING_H
#define FAE_STORE_KV_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum fae_kv_op {
    FAE_KV_SET,
    FAE_KV_DEL,
    FAE_KV_ADD,
    FAE_KV_CAS,
    FAE_KV_INCR,
    FAE_KV_BUCKET, /* number: the bucket, version: its epoch, flags: its state */
    FAE_KV_IMPORT, /* number: the bucket; flags: 1 into an active one too; value: a chunk */
    FAE_KV_OPS,
};

/* What is asked for; key and value are borrowed. */
struct fae_kv_request {
    uint8_t op; /* enum fae_kv_op */
    uint8_t flags;
    uint32_t incarnation; /* of the worker that asks */
    uint64_t seq;         /* rises by one with each of that incarnation's requests */
    uint64_t deadline_ms; /* monotonic; 0: none. Passed before it is begun: not done, TIMEOUT */
    uint64_t ttl_ms;      /* 0: for ever; INCR keeps the one there is */
    uint64_t version;     /* CAS: what it must be; 0: absent */
    int64_t number;       /* INCR: by how much */
    const char *key;
    uint32_t key_len;
    const uint8_t *value;
    uint32_t value_len;
};

/* What came of it. */
struct fae_kv_answer {
    uint32_t incarnation;
    uint16_t err; /* enum fae_err */
    uint16_t yes; /* DEL: it was there; ADD, CAS: done */
    uint64_t seq;
    int64_t number; /* INCR: the new number; IMPORT: how many records; else the new version */
};

struct fae_kv_ring {
    uint32_t cap;                       /* bytes, a power of two */
    _Atomic uint32_t head;              /* the worker's */
    _Alignas(64) _Atomic uint32_t tail; /* the writer's */
    _Atomic uint64_t n_broken;          /* times that what lay there made no sense and was thrown away */
    _Alignas(64) uint8_t data[];
};

size_t fae_kv_ring_size(uint32_t cap);
void fae_kv_ring_init(struct fae_kv_ring *ring, uint32_t cap); /* mem is zeroed */
/* The bytes that a request takes; one that is longer than a quarter of cap may never find room. */
uint32_t fae_kv_ring_need(size_t key_len, size_t value_len);

/* The worker's side. False: no room now. *at_out is where it lies, for fae_kv_ring_withdraw. */
bool fae_kv_ring_put(struct fae_kv_ring *ring, const struct fae_kv_request *request, uint32_t *at_out);
/* True: it will not be done. False: it was begun, and may be done already. */
bool fae_kv_ring_withdraw(struct fae_kv_ring *ring, uint32_t at);

/* The writer's side: goes through what is there from *at on, which begins as fae_kv_ring_tail, and then lets it go.
 * Key and value are lent until that. */
enum fae_kv_taken {
    FAE_KV_TAKEN_NONE,      /* that was all */
    FAE_KV_TAKEN,           /* begun now, and to be done */
    FAE_KV_TAKEN_WITHDRAWN, /* not to be done; nobody waits for an answer */
    FAE_KV_TAKEN_BEGUN,     /* an earlier writer began it, and died: nobody knows */
};
enum fae_kv_taken fae_kv_ring_take(struct fae_kv_ring *ring, uint32_t *at, struct fae_kv_request *out);
uint32_t fae_kv_ring_tail(const struct fae_kv_ring *ring);
void fae_kv_ring_pass(struct fae_kv_ring *ring, uint32_t at);
bool fae_kv_ring_empty(const struct fae_kv_ring *ring);
/* Bytes that wait. */
uint32_t fae_kv_ring_used(const struct fae_kv_ring *ring);

#endif
