/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A cache that all workers of a node share, in shared memory of exactly so many bytes: keys and values of any bytes, each
 * with an optional time to live. What does not fit pushes out the oldest that nobody asked for. It survives the
 * death of any process; one that is killed while it writes costs the entries of its shard (lcache_shard.h), and what others
 * ask of that shard until the supervisor has noticed. A restart of the node begins with an empty cache.
 *
 * Functions that Lua reaches by ffi never raise, allocate or call back; lua/fae/ffi.lua declares them.
 */
#ifndef FAE_STORE_LCACHE_H
#define FAE_STORE_LCACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "store/store.h"

#define FAE_LCACHE_KEY_MAX 1024u
#define FAE_LCACHE_VALUE_MAX FAE_MIB
#define FAE_LCACHE_SHARD_MIN                                                                                           \
    (8 * FAE_LCACHE_VALUE_MAX) /* one value can never push out more than an eighth of a shard */

struct fae_config;
struct fae_lcache;
/* The cache as the process of one slot uses it: counters that only it writes, in shared memory too. */
struct fae_lcache_user;

/* What was asked has been done, or not for a reason that each function tells. */
enum fae_lcache_answer {
    FAE_LCACHE_BUSY = -1, /* a process holds the shard and does not go on: stopped, in a debugger. Nothing was done */
    FAE_LCACHE_NO = 0,
    FAE_LCACHE_YES = 1,
    FAE_LCACHE_BAD = 2,   /* incr: what is there is no integer */
    FAE_LCACHE_RANGE = 3, /* incr: the sum is beyond an int64 */
};

/* A region of so many bytes, 8 MiB at least; mem is zeroed. The name, of at most 15 bytes, begins those of its numbers. What
 * was never written stays the system's. */
void fae_lcache_init(void *mem, size_t size, const char *name);

/* One thread of the slot's process uses it. */
struct fae_lcache_user *fae_lcache_user(struct fae_lcache *cache, unsigned slot);

/* Of all functions below: keys are 1 to KEY_MAX bytes and values at most VALUE_MAX (anything else is a caller's bug);
 * ttl_ms 0 is for ever. Times are as exact as a tick of the kernel, 1 to 10 ms.
 *
 * get copies at most cap bytes and answers the value's length, which may be more; -1: not there, or not to be had within
 * 10 ms. Takes no lock but when a writer is in the way. */
int fae_lcache_get(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, uint8_t *buf, size_t cap,
                   double *version_out);
/* YES, BUSY */
int fae_lcache_set(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms);
/* NO: it is there */
int fae_lcache_add(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms);
/* NO: it is not there */
int fae_lcache_replace(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value,
                       size_t len, double ttl_ms);
/* NO: it is not there, or was written since it had that version */
int fae_lcache_cas(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms, double version);
/* Adds to a value that is the text of an integer, and keeps its time to live. NO: it is not there; BAD, RANGE: it stays as
 * it was. With init it is made when it is not there, as *number_io, for ttl_ms. */
int fae_lcache_incr(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, int64_t by, double ttl_ms,
                    bool init, int64_t *number_io);
/* NO: it was not there */
int fae_lcache_del(struct fae_lcache_user *user, const uint8_t *key, size_t key_len);
int fae_lcache_touch(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, double ttl_ms);
/* Empties it. BUSY: but for the shards that could not be had in 10 ms. */
int fae_lcache_flush(struct fae_lcache_user *user);

/* The process of the slot is dead, and waited for: what it held is free again. In the supervisor; never waits. */
void fae_lcache_reap(struct fae_lcache *cache, unsigned slot);

/* Never waits. Names are lent until tell returns. */
void fae_lcache_stats(const struct fae_lcache *cache, fae_store_stat_fn tell, void *arg);

#endif
