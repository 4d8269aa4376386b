/* SPDX-License-Identifier: BSD-2-Clause
 *
 * An LMDB environment as the files of the kv store share it: opened once a process, read by one thread, written by the
 * writer. Nobody outside kv_*.c includes it.
 *
 * The lock: a process that both writes and reads (--single) must have no reader in the map while the writer enlarges it.
 * Readers hold it shared, the writer takes it alone; where there is no writer in the process it is not used.
 */
#ifndef FAE_STORE_KV_ENV_H
#define FAE_STORE_KV_ENV_H

#include <lmdb.h>
#include <pthread.h>
#include <stdbool.h>

#include "store/kv.h"

#define FAE_KV_MAP_BYTES ((size_t)1 << 30)
#define FAE_KV_FAST_BYTES ((size_t)64 << 20) /* of kv_fast, whose file is as large as its map */
#define FAE_KV_MAP_MAX ((size_t)1 << 46)
#define FAE_KV_READERS 128u /* places: a process has one; backup, check and tools of others have one each */

struct fae_kv_env {
    MDB_env *mdb;
    MDB_dbi data, ttl, buckets, meta;
    bool fast;
    bool writes; /* this process has the writer */
    pthread_rwlock_t lock;
    /* The reading thread's: */
    MDB_txn *reader;
    MDB_cursor *cursor;
    bool reading; /* it is in the map; a Lua error may have jumped over the end of that */
    int rc;       /* of what failed last */
    /* The writer's: */
    uint64_t version; /* given to the record written last */
    uint64_t n_items;
    _Atomic bool wants_alone; /* a long reader of this process should end: the map must grow */
    /* A copy that is being made of it. */
    pthread_mutex_t copy_lock;
    int copy_fd; /* -1: none */
    bool cut;    /* it was made to fail */
};

enum { FAE_KV_ENV_READ = 1, FAE_KV_ENV_MAKE = 2, FAE_KV_ENV_WRITE = 4 };

/* Opens store->env: to read only, to make or check it, or to write it. why_out gets a sentence. */
enum fae_err fae_kv_env_open(struct fae_kv_store *store, int how, char *why_out, size_t why_size);
/* The writer's, when LMDB will not go on with it (MDB_PANIC). */
enum fae_err fae_kv_env_reopen(struct fae_kv_store *store, char *why_out, size_t why_size);
void fae_kv_env_close(struct fae_kv_env **env);

/* Version and number of records as the transaction sees them. They may be another writer's: that of a node whose
 * supervisor was killed goes on for a second, and the next node starts meanwhile. Returns what LMDB does. */
int fae_kv_env_refresh(struct fae_kv_env *env, MDB_txn *txn);

/* A copy that is being made of it fails soon, so that whoever waits for the lock has it. Any thread. */
void fae_kv_env_cut(struct fae_kv_env *env);

/* Of a store that is written through its map: has the disk keep room for all of it, since what a full disk does to a
 * page of a map is a signal. 0 or an errno. */
int fae_kv_env_reserve(const struct fae_kv_store *store, size_t bytes);

enum fae_err fae_kv_err(int rc);

/* One thing asked for in a transaction, and what came of it. */
struct fae_kv_job {
    unsigned worker;
    bool skip; /* it is answered already, and not done */
    struct fae_kv_request request;
    struct fae_kv_answer answer;
};

/* kv_txn.c: runs those that are not skipped, all in one transaction; on the writer's thread. Each job's answer
 * is filled in. What it returns is why the transaction as a whole failed, and nothing was written: NO_SPACE, SYSTEM, or
 * UNKNOWN when it may have been; then the jobs have that as their answer. */
enum fae_err fae_kv_run(struct fae_kv_store *store, struct fae_kv_job *jobs, unsigned n);
/* Removes up to max records that have expired; *n_out of them. */
enum fae_err fae_kv_sweep(struct fae_kv_store *store, unsigned max, unsigned *n_out);

#endif
