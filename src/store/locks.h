/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Locks by name, of the whole node, in shared memory. Whoever has one has its token, for as long as the lease; who waits
 * has a place in the lock's queue, and gets the lock from whoever releases it. Times are milliseconds of CLOCK_BOOTTIME,
 * which neither jumps nor stops when the machine sleeps; every function is told the time, so that specs can move it.
 *
 *     free --take--> held --release, no one waits--> free        held, and nobody's: expired, released while no fencing
 *                    | ^                                          number was to be had, its holder's process died
 *                    | +-- hand over to the first who waits
 *                    +---- lease is over ---> held, and nobody's
 *
 * A process may be killed at any instruction in here. An entry, its holder and a waiter each become whole by one store;
 * the next who comes makes the lists anew from those (repair), and nothing that was held is forgotten. After a crash of
 * the whole node nothing is given out until the longest lease that was ever given is over (marks.h).
 */
#ifndef FAE_STORE_LOCKS_H
#define FAE_STORE_LOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "store/store.h"

struct fae_locks;

#define FAE_LOCK_KEY_MAX 512u
#define FAE_LOCK_TEXT 96u         /* bytes of a reason, and of who holds it, that are kept */
#define FAE_LOCK_TOKEN_FREE 0u    /* a token that everybody has: fae's `lock`, which knows no owner */
#define FAE_LOCK_PICK_UP_MS 1000u /* a lock handed over waits so long for its new holder, if its lease is shorter */
#define FAE_LOCK_FENCES 65536u    /* fencing numbers reserved at a time */

struct fae_lock_text {
    uint8_t len;
    char bytes[FAE_LOCK_TEXT];
};

/* What is asked for. Everything is borrowed. */
struct fae_lock_ask {
    const void *key;
    size_t key_len;
    uint64_t token; /* fae_lock_token(), or FAE_LOCK_TOKEN_FREE */
    uint64_t lease_ms;
    uint32_t slot, incarnation; /* who asks */
    bool bound;                 /* released when that process dies */
    bool waits;                 /* rather than be refused */
    const struct fae_lock_text *reason, *who;
};

/* A place in a queue; only the process that has it gives it up. */
struct fae_lock_place {
    uint32_t shard, waiter;
    uint64_t number; /* never twice in a shard */
};

/* What there is to tell of a lock that is held, or of how it was got. */
struct fae_lock_info {
    uint64_t fence;
    uint64_t held_ms, left_ms, lease_ms;
    uint32_t n_waiting;
    uint32_t slot;
    bool bound;
    bool expired; /* got: somebody's lease was over, and it was not released. held: and nobody has taken it since */
    struct fae_lock_text reason, who;
    uint16_t key_len;
    uint8_t key[FAE_LOCK_KEY_MAX]; /* by fae_locks_list alone */
};

/* ---- the region; arg: pointer to locks_max (uint64_t) ---- */

size_t fae_locks_size(const void *locks_max);
void fae_locks_init(void *mem, const void *locks_max);

/* Before the first fork, once the marks are read. */
void fae_locks_open(const struct fae_stores *stores, uint64_t now_ms);
/* The process that serves reserves the first fencing numbers. */
void fae_locks_serve(const struct fae_stores *stores);
/* A good end: settles the marks. */
void fae_locks_close(const struct fae_stores *stores, uint64_t now_ms);

/* ---- one lock ---- */

uint64_t fae_lock_now_ms(void);
uint64_t fae_lock_token(void); /* of this process's own random bytes; never FAE_LOCK_TOKEN_FREE */

/* OK: it is the asker's, *info_out says the fence. MORE: it waits, at *place_out. LOCKED: *info_out is its holder's.
 * UNAVAILABLE: the node came back from a crash, and it may be held by somebody for left_ms more. OVERLOAD: no more locks,
 * or waiters, have room. NO_SPACE, SYSTEM: the marks cannot be written. One that does not wait may be given a place
 * nevertheless, when the disk must first have the numbers. */
enum fae_err fae_lock_acquire(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_ask *ask,
                              struct fae_lock_place *place_out, struct fae_lock_info *info_out);
/* NOT_OWNER: the lease is over, or it never was. */
enum fae_err fae_lock_release(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                              uint64_t token);
/* The lease begins anew, and lasts lease_ms (0: as long as it did). MORE: the disk must first know of so long a lease:
 * ask again when roused. */
enum fae_err fae_lock_renew(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                            uint64_t token, uint64_t lease_ms);
/* NOT_FOUND: nobody holds it. */
enum fae_err fae_lock_info(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                           struct fae_lock_info *info_out);
/* Whoever holds it. within_ms: for who must not wait (TIMEOUT); UINT32_MAX: it may. *info_out: of who held it. */
enum fae_err fae_lock_force(const struct fae_stores *stores, uint64_t now_ms, const void *key, size_t len,
                            uint32_t within_ms, struct fae_lock_info *info_out);

/* ---- who waits ---- */

/* True: fae_lock_look has news, or there may be some. Takes no lock. */
bool fae_lock_stirs(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_place *place);
/* OK: it is the waiter's, its lease begins now, and the place is given up. MORE: it waits on; *held_out: somebody has
 * the lock, so it is no matter of the disk. NO_SPACE, SYSTEM: the marks cannot be written, and the place is given up.
 * NOT_FOUND: the lock was handed over and expired before anybody looked; the place is given up. */
enum fae_err fae_lock_look(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_place *place,
                           bool *held_out, struct fae_lock_info *info_out);
/* Gives the place up, and the lock with it if it has come just now. *info_out: of who has the lock, if anybody. */
void fae_lock_leave(const struct fae_stores *stores, uint64_t now_ms, const struct fae_lock_place *place,
                    struct fae_lock_info *info_out);
/* Locks handed over to waiters of this slot, ever. */
uint32_t fae_locks_handed(const struct fae_stores *stores, unsigned slot);

/* ---- the node ---- */

/* Every tick, of any worker: clears away some of what is over. Does not wait. */
void fae_locks_sweep(const struct fae_stores *stores, uint64_t now_ms);
/* The slot's process died. Does not wait: what it held is seen to be nobody's by whoever looks. */
void fae_locks_reap(const struct fae_stores *stores, unsigned slot);
/* Up to n locks that are held, in no order; returns how many. within_ms as above, for each of its parts: what cannot be
 * looked at then is left out. */
unsigned fae_locks_list(const struct fae_stores *stores, uint64_t now_ms, uint32_t within_ms,
                        struct fae_lock_info *infos, unsigned n);
void fae_locks_stats(const struct fae_stores *stores, fae_store_stat_fn tell, void *arg);
unsigned fae_locks_n_held(const struct fae_stores *stores);

/* lines of JSON: key reason who held_ms left_ms lease_ms waiting fence; key_hex beside a key that is not UTF-8. */
struct fae_buf;
void fae_lock_info_json(const struct fae_lock_info *info, struct fae_buf *out);

#endif
