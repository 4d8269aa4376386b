/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A shard of the cache: a hash of 4-byte buckets, and a circular log of entries.
 *
 *      tail: the oldest        head: the next goes here
 *        v                       v
 *   [....|entry|dead|entry|entry|free......|skip]      skip: too short for what came next, up to the end
 *
 * An entry is written at the head. What is in its way is taken from the tail: it is gone, or, when somebody asked for it
 * since it was written, copied to the head once more. So room is always one piece, whatever the sizes are, and nothing
 * has to be sorted into classes. An entry that is replaced by a longer one, or deleted, lies dead until the tail passes.
 *
 * A writer puts its slot's number into the shard first; if it dies there the supervisor, which hears of every death, takes it
 * out again. (A robust mutex does without, and costs 11 ns more: a set of 100 bytes took 36 ns with it, 24 without.) While
 * something changes the sequence is odd: a reader takes nothing, checks each offset it follows, copies, and believes what
 * it has when the sequence is still the even number it was. Where it is odd after a death, the shard is emptied. Marks of
 * what was asked for lie in an array of their own, so that a reader writes nowhere else.
 */
#ifndef FAE_STORE_LCACHE_SHARD_H
#define FAE_STORE_LCACHE_SHARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAE_LCACHE_UNIT 16u            /* bytes; what places in the log are counted in */
#define FAE_LCACHE_MARK 4u             /* units that share a mark */
#define FAE_LCACHE_CHAIN 128u          /* entries of one bucket; one more pushes out the oldest */
#define FAE_LCACHE_CHANCES 16u         /* entries, and ... */
#define FAE_LCACHE_CHANCE_BYTES 65536u /* ... bytes that one insert copies to the head, and as much again as it needs */

#define FAE_LCACHE_FREE 64u /* the part of the log that is kept free once it is full */

/* The same for all shards of a cache; sizes in bytes. */
struct fae_lcache_plan {
    size_t shard_size, marks_at, log_at; /* buckets lie behind the struct, then marks, then the log */
    uint32_t bucket_mask;
    uint32_t n_units; /* of the log, whose unit 0 is never used: 0 says that there is no next entry */
};

struct fae_lcache_shard {
    _Alignas(64) _Atomic uint32_t owner; /* slot + 1 of who changes it, or 0 */
    _Atomic uint32_t seq;
    uint32_t head, tail, used; /* units; head == tail: nothing or all of it is used */
    _Alignas(64) uint64_t last_version;
    _Atomic uint64_t shut_until_ms; /* it could not be had in time: until then nobody waits for it again */
    /* What is counted; written by who has the shard, but n_busy. */
    _Atomic uint64_t n_items, n_bytes, n_evicted, n_expired, n_chances, n_resets, n_busy;
};

/* An entry as it is asked for. */
struct fae_lcache_key {
    const uint8_t *bytes;
    uint32_t len, hash;
};

struct fae_lcache_value {
    const uint8_t *bytes;
    uint32_t len;
    uint64_t expires_ms; /* 0: never */
};

/* What a look-up found; bytes are lent until the shard is left or changed. */
struct fae_lcache_found {
    uint32_t at; /* place in the log; 0: not there */
    uint32_t len;
    const uint8_t *bytes;
    uint64_t version, expires_ms;
};

/* Shares shard_size out; n_units is at least room for several of the largest entries. */
void fae_lcache_plan(struct fae_lcache_plan *plan_out, size_t shard_size);
/* It is zeroed; versions go on from that one. */
void fae_lcache_shard_init(struct fae_lcache_shard *shard, uint64_t version);

/* Before it is taken: has the bucket on its way, since nothing is read ahead of that. */
void fae_lcache_expect(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t hash);
/* Takes the shard for changes by the process of that slot. False: not to be had in 10 ms, or lately. */
bool fae_lcache_enter(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, unsigned slot);
void fae_lcache_leave(struct fae_lcache_shard *shard);
/* The slot's process is dead, and no other has the slot yet: if it had the shard, it has it no more. Half a change costs
 * what is there. */
void fae_lcache_bury(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, unsigned slot);

/* Without the shard. True: *found_out is what is there now, of which at most cap bytes are in buf (found_out->bytes is
 * NULL). False: a writer was in the way, more than once. */
bool fae_lcache_peek(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_key *key, uint8_t *buf, size_t cap, struct fae_lcache_found *found_out);
/* Somebody asked for it: it has a second chance. */
void fae_lcache_mark(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan, uint32_t at);

/* The rest with the shard taken. An entry that has expired is found all the same. */
void fae_lcache_find(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_key *key, struct fae_lcache_found *found_out);
/* Writes it, where it was found (found->at 0: nowhere) or anew. */
void fae_lcache_put(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                    const struct fae_lcache_key *key, const struct fae_lcache_found *found,
                    const struct fae_lcache_value *value);
void fae_lcache_drop(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                     const struct fae_lcache_found *found);
void fae_lcache_expire(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan,
                       const struct fae_lcache_found *found, uint64_t expires_ms);
void fae_lcache_clear(struct fae_lcache_shard *shard, const struct fae_lcache_plan *plan);

/* Milliseconds of the clock that times to live are in. */
uint64_t fae_lcache_now_ms(void);

#endif
