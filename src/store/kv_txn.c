/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Transactions of the writer, on its thread. A request either changes record, index of times and count of its bucket, or
 * nothing of them; when LMDB refuses in the middle the transaction as a whole is dropped, and done again or refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hist.h"
#include "base/limits.h"
#include "base/log.h"
#include "store/kv_env.h"

#define NUMBER_MAX 20 /* bytes of an int64 as text */
#define GROW_MAX 24   /* doublings: from a page to more than any disk */

/* Versions go on behind the highest that was imported: one there can be leaves as many as will ever be given. */
#define IMPORTED_MAX (FAE_KV_VERSION_MAX / 2)

struct txn {
    struct fae_kv_store *store;
    struct fae_kv_env *env;
    MDB_txn *mdb;
    uint64_t now_ms;  /* wall clock */
    uint64_t version; /* given last */
    int64_t n_more;   /* records */
    bool dirty;
    unsigned n_touched;
    uint16_t touched[FAE_KV_VBUCKETS]; /* buckets known here */
    struct {
        bool known, dirty;
        struct fae_kv_bucket is;
    } buckets[FAE_KV_VBUCKETS];
};

/* ---- buckets ---- */

static int bucket_of(struct txn *t, uint16_t vbucket, struct fae_kv_bucket **out)
{
    uint8_t key[2];
    MDB_val k = { sizeof key, key }, v;
    int rc;

    *out = &t->buckets[vbucket].is;
    if (t->buckets[vbucket].known)
        return 0;
    fae_kv_put_u16(key, vbucket);
    **out = (struct fae_kv_bucket){ .state = FAE_KV_ACTIVE };
    rc = mdb_get(t->mdb, t->env->buckets, &k, &v);
    if (!rc && !fae_kv_bucket_read(v.mv_data, v.mv_size, *out))
        rc = MDB_CORRUPTED;
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    t->buckets[vbucket].known = true;
    t->touched[t->n_touched++] = vbucket;
    return 0;
}

static void bucket_changed(struct txn *t, uint16_t vbucket)
{
    t->buckets[vbucket].dirty = t->dirty = true;
}

static void count(struct txn *t, uint16_t vbucket, int by)
{
    t->buckets[vbucket].is.count += (uint64_t)by;
    t->n_more += by;
    bucket_changed(t, vbucket);
}

static int flush(struct txn *t)
{
    uint8_t key[2], bytes[FAE_KV_BUCKET_SIZE];
    MDB_val k = { sizeof key, key }, v = { sizeof bytes, bytes };
    int rc = 0;

    for (unsigned i = 0; i < t->n_touched && !rc; i++) {
        uint16_t vbucket = t->touched[i];

        if (!t->buckets[vbucket].dirty)
            continue;
        fae_kv_put_u16(key, vbucket);
        fae_kv_bucket_put(bytes, &t->buckets[vbucket].is);
        rc = mdb_put(t->mdb, t->env->buckets, &k, &v, 0);
    }
    if (!rc && t->version != t->env->version) {
        k = (MDB_val){ strlen("version"), "version" };
        v.mv_size = 8;
        fae_kv_put_u64(bytes, t->version);
        rc = mdb_put(t->mdb, t->env->meta, &k, &v, 0);
    }
    return rc;
}

/* May the bucket be written? Otherwise the answer says why not. */
static int may_write(struct txn *t, uint16_t vbucket, struct fae_kv_answer *answer)
{
    struct fae_kv_bucket *bucket;
    int rc = bucket_of(t, vbucket, &bucket);

    if (rc)
        return rc;
    switch (bucket->state) {
    case FAE_KV_ACTIVE: break;
    case FAE_KV_FROZEN:
    case FAE_KV_PENDING: answer->err = FAE_FROZEN; break;
    default: answer->err = FAE_UNAVAILABLE; break; /* it lives on another node */
    }
    return 0;
}

/* ---- records ---- */

/* A key on its way through a request. */
struct at {
    uint16_t vbucket;
    uint8_t stored[FAE_KV_STORED_KEY_MAX];
    size_t len;
    bool there;               /* on disk */
    bool live;                /* and not expired */
    struct fae_kv_record was; /* its value is lent until something is written */
};

static int look(struct txn *t, const char *key, size_t len, struct at *at)
{
    MDB_val k = { 0, at->stored }, v;
    int rc;

    k.mv_size = at->len = fae_kv_key_put(at->stored, at->vbucket, key, len);
    rc = mdb_get(t->mdb, t->env->data, &k, &v);
    at->there = rc == 0;
    at->live = false;
    at->was = (struct fae_kv_record){ 0 };
    if (rc)
        return rc == MDB_NOTFOUND ? 0 : rc;
    if (!fae_kv_record_read(v.mv_data, v.mv_size, &at->was))
        return MDB_CORRUPTED;
    at->live = !fae_kv_expired(at->was.expires_ms, t->now_ms);
    return 0;
}

static int index_del(struct txn *t, const struct at *at, uint64_t expires_ms)
{
    uint8_t key[FAE_KV_TTL_KEY_MAX];
    MDB_val k = { fae_kv_ttl_put(key, expires_ms, at->stored, at->len), key };
    int rc = mdb_del(t->mdb, t->env->ttl, &k, NULL);

    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int index_put(struct txn *t, const struct at *at, uint64_t expires_ms)
{
    uint8_t key[FAE_KV_TTL_KEY_MAX];
    MDB_val k = { fae_kv_ttl_put(key, expires_ms, at->stored, at->len), key }, v = { 0, NULL };

    return mdb_put(t->mdb, t->env->ttl, &k, &v, 0);
}

static int store_record(struct txn *t, struct at *at, const struct fae_kv_record *now)
{
    MDB_val k = { at->len, at->stored }, v = { FAE_KV_HEAD + now->len, NULL };
    uint64_t had_ms = at->there ? at->was.expires_ms : 0;
    int rc = mdb_put(t->mdb, t->env->data, &k, &v, MDB_RESERVE);

    if (rc)
        return rc;
    fae_kv_head_put(v.mv_data, now->version, now->expires_ms);
    if (now->len)
        memcpy((uint8_t *)v.mv_data + FAE_KV_HEAD, now->value, now->len);
    t->dirty = true;
    if (had_ms && had_ms != now->expires_ms)
        rc = index_del(t, at, had_ms);
    if (!rc && now->expires_ms && had_ms != now->expires_ms)
        rc = index_put(t, at, now->expires_ms);
    if (!rc && !at->there)
        count(t, at->vbucket, 1);
    return rc;
}

static int remove_record(struct txn *t, struct at *at)
{
    MDB_val k = { at->len, at->stored };
    int rc = mdb_del(t->mdb, t->env->data, &k, NULL);

    if (rc)
        return rc;
    t->dirty = true;
    count(t, at->vbucket, -1);
    return at->was.expires_ms ? index_del(t, at, at->was.expires_ms) : 0;
}

/* ---- what is asked for ---- */

static uint64_t expiry(const struct txn *t, uint64_t ttl_ms)
{
    if (ttl_ms == 0)
        return 0;
    return ttl_ms < UINT64_MAX - t->now_ms ? t->now_ms + ttl_ms : UINT64_MAX;
}

static int do_set(struct txn *t, struct at *at, const struct fae_kv_request *r, struct fae_kv_answer *answer)
{
    struct fae_kv_record now = { ++t->version, expiry(t, r->ttl_ms), r->value, r->value_len };

    answer->number = (int64_t)now.version;
    answer->yes = 1;
    return store_record(t, at, &now);
}

static int do_del(struct txn *t, struct at *at, struct fae_kv_answer *answer)
{
    answer->yes = at->live;
    return at->there ? remove_record(t, at) : 0;
}

/* Decimal text, and nothing else. */
static bool read_int(const uint8_t *text, size_t len, int64_t *out)
{
    char copy[NUMBER_MAX + 1];
    size_t at = len && text[0] == '-';
    char *end;

    if (len == 0 || len > NUMBER_MAX || at == len)
        return false;
    for (size_t i = at; i < len; i++)
        if (text[i] < '0' || text[i] > '9')
            return false;
    memcpy(copy, text, len);
    copy[len] = '\0';
    errno = 0;
    *out = strtoll(copy, &end, 10);
    return errno == 0;
}

static int do_incr(struct txn *t, struct at *at, const struct fae_kv_request *r, struct fae_kv_answer *answer)
{
    char text[NUMBER_MAX + 1];
    struct fae_kv_record now = { .value = (const uint8_t *)text };
    int64_t n = 0;

    if (at->live && !read_int(at->was.value, at->was.len, &n)) {
        answer->err = FAE_BAD_ARGS;
        return 0;
    }
    if (__builtin_add_overflow(n, r->number, &n)) {
        answer->err = FAE_LIMIT;
        return 0;
    }
    now.len = (size_t)snprintf(text, sizeof text, "%" PRId64, n);
    now.version = ++t->version;
    now.expires_ms = r->ttl_ms ? expiry(t, r->ttl_ms) : at->live ? at->was.expires_ms : 0;
    answer->number = n;
    answer->yes = 1;
    return store_record(t, at, &now);
}

static int do_keyed(struct txn *t, const struct fae_kv_request *r, struct fae_kv_answer *answer)
{
    struct at at = { .vbucket = fae_kv_vbucket(r->key, r->key_len) };
    int rc = may_write(t, at.vbucket, answer);

    if (!rc && !answer->err)
        rc = look(t, r->key, r->key_len, &at);
    if (rc || answer->err)
        return rc;
    switch (r->op) {
    case FAE_KV_SET: return do_set(t, &at, r, answer);
    case FAE_KV_DEL: return do_del(t, &at, answer);
    case FAE_KV_ADD: return at.live ? 0 : do_set(t, &at, r, answer);
    case FAE_KV_CAS: return (at.live ? at.was.version : 0) != r->version ? 0 : do_set(t, &at, r, answer);
    default: return do_incr(t, &at, r, answer);
    }
}

static int do_bucket(struct txn *t, const struct fae_kv_request *r, struct fae_kv_answer *answer)
{
    struct fae_kv_bucket *bucket;
    int rc = bucket_of(t, (uint16_t)r->number, &bucket);

    if (rc)
        return rc;
    bucket->state = r->flags;
    bucket->epoch = r->version;
    bucket_changed(t, (uint16_t)r->number);
    answer->yes = 1;
    return 0;
}

/* Every record is looked at before the first is written. */
static bool is_sound(const struct txn *t, const struct fae_kv_request *r)
{
    struct fae_kv_moved moved;
    uint16_t vbucket;
    size_t at;
    int more;

    if (!fae_kv_chunk_open(r->value, r->value_len, &vbucket, &at) || vbucket != r->number)
        return false;
    while ((more = fae_kv_chunk_next(r->value, r->value_len, &at, &moved)) > 0)
        if (fae_kv_vbucket(moved.key, moved.key_len) != vbucket || moved.record.version == 0 ||
            moved.record.version > IMPORTED_MAX || moved.record.len > t->store->kv->shared->value_max)
            return false;
    return more == 0;
}

static int import_records(struct txn *t, const struct fae_kv_request *r, struct fae_kv_answer *answer)
{
    struct at at = { .vbucket = (uint16_t)r->number };
    struct fae_kv_moved moved;
    size_t from = FAE_KV_CHUNK_HEAD;
    int rc = 0;

    while (!rc && fae_kv_chunk_next(r->value, r->value_len, &from, &moved) > 0) {
        rc = look(t, moved.key, moved.key_len, &at);
        if (!rc)
            rc = store_record(t, &at, &moved.record);
        if (moved.record.version > t->version)
            t->version = moved.record.version; /* so that one given later is never one that was */
        answer->number++;
    }
    return rc;
}

static int do_import(struct txn *t, const struct fae_kv_request *r, struct fae_kv_answer *answer)
{
    struct fae_kv_bucket *bucket;
    int rc = bucket_of(t, (uint16_t)r->number, &bucket);

    if (rc)
        return rc;
    if (!is_sound(t, r))
        answer->err = FAE_BAD_ARGS;
    else if (bucket->state != FAE_KV_PENDING && !r->flags)
        answer->err = FAE_FROZEN;
    if (answer->err)
        return 0;
    answer->yes = 1;
    return import_records(t, r, answer);
}

/* What shared memory says is not believed. */
static bool is_sane(const struct txn *t, const struct fae_kv_request *r)
{
    uint32_t value_max = t->store->kv->shared->value_max;

    if (r->op == FAE_KV_BUCKET)
        return r->number >= 0 && r->number < FAE_KV_VBUCKETS && r->flags < FAE_KV_STATES;
    if (r->op == FAE_KV_IMPORT)
        return r->number >= 0 && r->number < FAE_KV_VBUCKETS;
    return r->op < FAE_KV_OPS && r->key_len >= 1 && r->key_len <= FAE_KV_KEY_MAX && r->value_len <= value_max;
}

static int apply(struct txn *t, struct fae_kv_job *job)
{
    const struct fae_kv_request *r = &job->request;
    struct fae_kv_answer *answer = &job->answer;

    answer->err = FAE_OK;
    answer->yes = 0;
    answer->number = 0;
    if (!is_sane(t, r)) {
        answer->err = FAE_BAD_ARGS;
        return 0;
    }
    switch (r->op) {
    case FAE_KV_BUCKET: return do_bucket(t, r, answer);
    case FAE_KV_IMPORT: return do_import(t, r, answer);
    default: return do_keyed(t, r, answer);
    }
}

/* ---- transactions ---- */

static int begin(struct fae_kv_store *store, struct txn *t)
{
    int rc;

    for (unsigned i = 0; i < t->n_touched; i++)
        t->buckets[t->touched[i]].known = t->buckets[t->touched[i]].dirty = false;
    t->n_touched = 0;
    t->store = store;
    t->env = store->env;
    t->now_ms = store->kv->wall_ms();
    t->n_more = 0;
    t->dirty = false;
    if (!store->env->mdb)
        return MDB_PANIC;
    rc = mdb_txn_begin(store->env->mdb, NULL, 0, &t->mdb);
    if (rc)
        return rc;
    rc = fae_kv_env_refresh(store->env, t->mdb);
    t->version = store->env->version;
    if (rc)
        mdb_txn_abort(t->mdb);
    return rc;
}

static int end(struct txn *t, int rc)
{
    if (!rc && t->dirty)
        rc = flush(t);
    if (rc || !t->dirty) {
        mdb_txn_abort(t->mdb);
        return rc;
    }
    rc = mdb_txn_commit(t->mdb);
    if (!rc) {
        t->env->version = t->version;
        t->env->n_items += (uint64_t)t->n_more;
    }
    return rc;
}

/* Twice the map. Readers of this process wait, a long one is asked to end. */
static int grow(struct fae_kv_store *store)
{
    struct fae_kv_env *env = store->env;
    MDB_envinfo info;
    int rc;

    mdb_env_info(env->mdb, &info);
    if (info.me_mapsize >= FAE_KV_MAP_MAX)
        return ENOSPC;
    rc = env->fast ? fae_kv_env_reserve(store, info.me_mapsize * 2) : 0;
    if (rc)
        return rc;
    atomic_store(&env->wants_alone, true);
    fae_kv_env_cut(env);
    pthread_rwlock_wrlock(&env->lock);
    rc = mdb_env_set_mapsize(env->mdb, info.me_mapsize * 2);
    pthread_rwlock_unlock(&env->lock);
    atomic_store(&env->wants_alone, false);
    if (rc)
        FAE_ERROR("kv: the map does not grow to %zu bytes: %s", info.me_mapsize * 2, mdb_strerror(rc));
    return rc;
}

static uint64_t last_txnid(const struct fae_kv_env *env)
{
    MDB_envinfo info = { 0 };

    if (env->mdb)
        mdb_env_info(env->mdb, &info);
    return info.me_last_txnid;
}

/* LMDB could not say which of its two heads of the file counts, and stops there: it is opened anew. */
static bool recover(struct fae_kv_store *store)
{
    struct fae_kv_env *env = store->env;
    MDB_txn *txn;
    char why[600];
    int rc = env->mdb ? mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn) : MDB_PANIC;

    if (!rc)
        mdb_txn_abort(txn);
    if (rc != MDB_PANIC)
        return false;
    if (fae_kv_env_reopen(store, why, sizeof why))
        FAE_ERROR("cannot be opened again: %s", why);
    else
        FAE_WARN("%s: opened again after an error", store->dir);
    return true;
}

/* LMDB says EIO of a write that was cut, which is how a disk fills; only another try tells it from a broken one. */
static bool is_full(const struct fae_kv_store *store, const struct fae_kv_job *jobs, unsigned n)
{
    char path[sizeof store->dir + 16];
    off_t bytes = FAE_MIB;
    int fd, rc;

    for (unsigned i = 0; i < n; i++)
        bytes += jobs[i].request.value_len;
    snprintf(path, sizeof path, "%s/room", store->dir);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno == ENOSPC || errno == EDQUOT;
    rc = posix_fallocate(fd, 0, bytes);
    close(fd);
    unlink(path);
    return rc == ENOSPC || rc == EDQUOT;
}

/* Did a commit that failed count nevertheless? */
static enum fae_err failure(struct fae_kv_store *store, int rc, uint64_t txnid_before)
{
    bool again = recover(store);

    if (rc == MDB_PANIC) /* it was not even begun */
        return FAE_SYSTEM;
    if (again || last_txnid(store->env) != txnid_before)
        return FAE_UNKNOWN;
    return fae_kv_err(rc) == FAE_NO_SPACE ? FAE_NO_SPACE : FAE_SYSTEM;
}

static struct txn the_txns[FAE_KV_STORES]; /* each writer's; too large for a stack */

enum fae_err fae_kv_run(struct fae_kv_store *store, struct fae_kv_job *jobs, unsigned n)
{
    struct txn *t = &the_txns[store->index];
    uint64_t txnid = last_txnid(store->env);
    enum fae_err err;
    int rc = MDB_MAP_FULL;

    for (unsigned tries = 0; rc == MDB_MAP_FULL && tries < GROW_MAX; tries++) {
        rc = tries ? grow(store) : 0;
        if (!rc)
            rc = begin(store, t);
        if (rc)
            break;
        for (unsigned i = 0; i < n && !rc; i++)
            if (!jobs[i].skip)
                rc = apply(t, &jobs[i]);
        rc = end(t, rc);
    }
    store->env->rc = rc;
    if (!rc)
        return FAE_OK;
    err = failure(store, rc, txnid);
    if (rc == EIO && err == FAE_SYSTEM && is_full(store, jobs, n))
        err = FAE_NO_SPACE;
    for (unsigned i = 0; i < n; i++)
        if (!jobs[i].skip)
            jobs[i].answer.err = (uint16_t)err;
    return err;
}

/* ---- expired records ---- */

static int sweep_one(struct txn *t, const MDB_val *entry)
{
    struct at at;
    uint8_t key[FAE_KV_TTL_KEY_MAX];
    MDB_val k = { entry->mv_size, key };
    struct fae_kv_bucket *bucket;
    int rc;

    memcpy(key, entry->mv_data, entry->mv_size);
    at.vbucket = fae_kv_u16(key + 8);
    if (at.vbucket >= FAE_KV_VBUCKETS)
        return MDB_CORRUPTED;
    rc = bucket_of(t, at.vbucket, &bucket);
    if (!rc)
        rc = look(t, (const char *)key + 10, entry->mv_size - 10, &at);
    if (!rc && at.there && at.was.expires_ms == fae_kv_u64(key))
        return remove_record(t, &at);
    if (!rc) { /* an entry of nobody */
        rc = mdb_del(t->mdb, t->env->ttl, &k, NULL);
        t->dirty = true;
    }
    return rc;
}

static int sweep(struct txn *t, unsigned max, unsigned *n_out)
{
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = 0;

    for (*n_out = 0; *n_out < max && !rc; ++*n_out) {
        rc = mdb_cursor_open(t->mdb, t->env->ttl, &cursor);
        if (rc)
            return rc;
        rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
        mdb_cursor_close(cursor);
        if (rc == MDB_NOTFOUND)
            return 0;
        if (!rc && (k.mv_size <= 10 || k.mv_size > FAE_KV_TTL_KEY_MAX))
            return MDB_CORRUPTED;
        if (!rc && !fae_kv_expired(fae_kv_u64(k.mv_data), t->now_ms))
            return 0;
        if (!rc)
            rc = sweep_one(t, &k);
    }
    return rc;
}

/* Most seconds nothing has expired: that is seen without a transaction that would wait for the disk. */
static int any_expired(struct fae_kv_store *store, bool *any_out)
{
    struct fae_kv_env *env = store->env;
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val k, v;
    int rc = env->mdb ? mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &txn) : MDB_PANIC;

    *any_out = false;
    if (rc)
        return rc;
    rc = mdb_cursor_open(txn, env->ttl, &cursor);
    if (!rc) {
        rc = mdb_cursor_get(cursor, &k, &v, MDB_FIRST);
        *any_out = rc == 0 && k.mv_size > 10 && fae_kv_expired(fae_kv_u64(k.mv_data), store->kv->wall_ms());
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(txn);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

enum fae_err fae_kv_sweep(struct fae_kv_store *store, unsigned max, unsigned *n_out)
{
    struct txn *t = &the_txns[store->index];
    bool any;
    int rc = any_expired(store, &any);

    *n_out = 0;
    if (rc || !any)
        return fae_kv_err(rc);
    rc = begin(store, t);
    if (rc)
        return fae_kv_err(rc);
    rc = sweep(t, max, n_out);
    rc = end(t, rc);
    if (rc == MDB_MAP_FULL)
        rc = grow(store);
    if (rc)
        *n_out = 0;
    return fae_kv_err(rc);
}
