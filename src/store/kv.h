/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The kv stores of a node, each an LMDB environment in a folder of its own that all processes open: `kv`, where done
 * means on disk, and `kv_fast`, which does not wait for the disk and may lose everything when power fails. Workers read
 * by themselves. What they write goes through shared memory to the one writer, a thread of the serving process, which
 * puts all that has come into one transaction and answers when that is done: no event loop ever waits for the disk.
 *
 *     worker: fae_kv_ask ──ring──► writer: transaction, fsync ──ring, rouse──► worker: fae_kv_next_answer
 *
 * Nothing is lost when either dies: what a dead writer did not begin the next one does, and what it had begun is
 * answered UNKNOWN. A process's view, struct fae_kv, is its own; an environment is opened after the fork.
 */
#ifndef FAE_STORE_KV_H
#define FAE_STORE_KV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/opt.h"
#include "base/ring.h"
#include "store/kv_record.h"
#include "store/kv_ring.h"

struct fae_config;
struct fae_kv_env;
struct fae_kv_writer;
struct fae_mailboxes;
struct fae_slots;

enum { FAE_KV_DURABLE, FAE_KV_FAST, FAE_KV_STORES };

#define FAE_KV_OUTSTANDING 4096u  /* requests of one worker to one store that are not answered: a power of two */
#define FAE_KV_SLACK (64u * 1024) /* what a request may be longer than the longest value */

/* Written by the writer of the store alone. */
struct fae_kv_stats {
    _Atomic uint64_t n_items, file_bytes, map_bytes;
    _Atomic uint64_t n_commits, n_writes, commit_ns, batch_max;
    _Atomic uint64_t n_timeouts, n_unknown, n_no_space, n_failed;
    _Atomic uint64_t n_swept, n_readers_freed, n_stale;
};

/* One worker's way to one writer: this, the requests, the answers. */
struct fae_kv_lane {
    _Atomic uint64_t n_overload, n_unknown, n_timeouts; /* the worker's */
};

/* The region "kv". */
struct fae_kv_shared {
    uint32_t n_workers, value_max, ring_cap;
    bool on[FAE_KV_STORES];
    size_t lane_size;
    struct {
        _Alignas(64) _Atomic uint32_t asleep; /* the writer waits to be woken */
        struct fae_kv_stats stats;
    } stores[FAE_KV_STORES];
    _Alignas(64) uint8_t lanes[];
};

struct fae_kv_arg {
    unsigned n_workers;
    uint32_t value_max;
    bool on[FAE_KV_STORES];
};

size_t fae_kv_shared_size(const void *kv_arg);
void fae_kv_shared_init(void *mem, const void *kv_arg);

struct fae_kv_store {
    struct fae_kv *kv;
    unsigned index;
    char dir[FAE_OPT_TEXT + 16];
    int wake_fd;            /* made before the first fork; -1 */
    struct fae_kv_env *env; /* NULL: not open in this process */
    uint64_t retry_ms;      /* when it could not be opened: not again before then */
    struct fae_kv_writer *writer;
};

struct fae_kv {
    struct fae_kv_shared *shared;
    struct fae_slots *slots;
    struct fae_mailboxes *mail;
    uint64_t (*wall_ms)(void); /* by which records expire; tests have their own */
    size_t map_bytes;          /* of a new environment; grows by itself */
    struct fae_kv_store stores[FAE_KV_STORES];
};

/* A view of the region; nothing is open. */
void fae_kv_init(struct fae_kv *kv, struct fae_kv_shared *shared, struct fae_slots *slots, struct fae_mailboxes *mail);
/* Before the first fork: makes or checks the environments, and closes them again. why_out gets a sentence. */
enum fae_err fae_kv_open(struct fae_kv *kv, const char *data_dir, char *why_out, size_t why_size);
void fae_kv_close(struct fae_kv *kv);
/* In the process that serves: starts the writers; ends them when what was asked of them is done. */
enum fae_err fae_kv_serve(struct fae_kv *kv, char *why_out, size_t why_size);
void fae_kv_rest(struct fae_kv *kv);

static inline bool fae_kv_on(const struct fae_kv *kv, unsigned store)
{
    return kv->shared && kv->shared->on[store];
}

struct fae_kv_lane *fae_kv_lane(struct fae_kv_shared *shared, unsigned store, unsigned worker);
struct fae_kv_ring *fae_kv_requests(struct fae_kv_shared *shared, unsigned store, unsigned worker);
struct fae_ring *fae_kv_answers(struct fae_kv_shared *shared, unsigned store, unsigned worker);

/* ---- reading: one thread of a process ---- */

/* What these lend lies in the mapped file, until the next call of any of them or fae_kv_release. Never hold it while
 * waiting: a reader keeps the writer from using pages again. NOT_FOUND; UNAVAILABLE: the environment does not open, or
 * no reader's place is free; SYSTEM: fae_kv_why tells. Expired records are left out by fae_kv_get alone. */
enum fae_err fae_kv_get(struct fae_kv_store *store, const char *key, size_t len, struct fae_kv_record *out);
enum fae_err fae_kv_count(struct fae_kv_store *store, uint64_t *n_out); /* expired ones not swept yet included */
enum fae_err fae_kv_bucket(struct fae_kv_store *store, uint16_t vbucket, struct fae_kv_bucket *out);

struct fae_kv_item {
    uint16_t vbucket;
    const char *key;
    size_t key_len;
    struct fae_kv_record record;
};
/* Records in the order of vbucket and key, from that key on. NOT_FOUND: there are none. */
enum fae_err fae_kv_seek(struct fae_kv_store *store, uint16_t vbucket, const char *from, size_t len,
                         struct fae_kv_item *out);
enum fae_err fae_kv_next(struct fae_kv_store *store, struct fae_kv_item *out);
void fae_kv_release(struct fae_kv_store *store);
/* Why the last of these failed; static or lent until the next. */
const char *fae_kv_why(const struct fae_kv_store *store);

/* ---- writing: from a worker ---- */

/* Puts the request into the worker's ring and wakes the writer. OVERLOAD: the ring is full. *at_out is for withdrawing:
 * true means that it will not be done, false that it was begun. */
enum fae_err fae_kv_ask(struct fae_kv_store *store, unsigned worker, const struct fae_kv_request *request,
                        uint32_t *at_out);
bool fae_kv_withdraw(struct fae_kv_store *store, unsigned worker, uint32_t at);
/* The worker's next answer, in the order of its requests; those to an earlier incarnation are left out. */
bool fae_kv_next_answer(struct fae_kv_store *store, unsigned worker, struct fae_kv_answer *out);

/* Of the store's numbers: fae_stores_stats. */
typedef void (*fae_kv_stat_fn)(void *arg, const char *name, const char *help, bool counter, uint64_t value);
void fae_kv_tell_stats(const struct fae_kv *kv, fae_kv_stat_fn tell, void *arg);

#endif
