/* SPDX-License-Identifier: BSD-2-Clause
 *
 * LMDB: opening, and the reading side.
 */
#include "store/kv_env.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"

#define FORMAT 1u
#define RETRY_MS 1000 /* an environment that does not open is not tried with every call */

enum fae_err fae_kv_err(int rc)
{
    switch (rc) {
    case MDB_SUCCESS: return FAE_OK;
    case MDB_NOTFOUND: return FAE_NOT_FOUND;
    case ENOSPC:
    case EDQUOT: return FAE_NO_SPACE;
    case MDB_READERS_FULL: return FAE_UNAVAILABLE;
    case ENOMEM: return FAE_NO_MEMORY;
    default: return FAE_SYSTEM;
    }
}

/* ---- opening ---- */

/* A file that was cut would be a SIGBUS as soon as a page behind its end is looked at. */
static bool is_whole(MDB_env *mdb, const char *dir, char *why_out, size_t why_size)
{
    char path[FAE_OPT_TEXT + 32];
    struct stat st;
    MDB_envinfo info;
    MDB_stat pages;
    uint64_t need;

    snprintf(path, sizeof path, "%s/data.mdb", dir);
    mdb_env_info(mdb, &info);
    mdb_env_stat(mdb, &pages);
    need = ((uint64_t)info.me_last_pgno + 1) * pages.ms_psize;
    if (stat(path, &st) != 0 || (uint64_t)st.st_size >= need || info.me_last_txnid == 0)
        return true;
    snprintf(why_out, why_size,
             "%s is cut short: %" PRIu64 " bytes of %" PRIu64 "; put a backup in its place, or move it away to begin "
             "with an empty store",
             path, (uint64_t)st.st_size, need);
    return false;
}

static int open_tables(struct fae_kv_env *env, MDB_txn *txn, unsigned flags)
{
    int rc = mdb_dbi_open(txn, "data", flags, &env->data);

    if (!rc)
        rc = mdb_dbi_open(txn, "ttl", flags, &env->ttl);
    if (!rc)
        rc = mdb_dbi_open(txn, "buckets", flags, &env->buckets);
    if (!rc)
        rc = mdb_dbi_open(txn, "meta", flags, &env->meta);
    return rc;
}

static int read_number(struct fae_kv_env *env, MDB_txn *txn, const char *name, uint64_t *out)
{
    MDB_val key = { strlen(name), (void *)name }, val;
    int rc = mdb_get(txn, env->meta, &key, &val);

    if (rc)
        return rc;
    if (val.mv_size != 8)
        return MDB_CORRUPTED;
    *out = fae_kv_u64(val.mv_data);
    return 0;
}

static int put_number(struct fae_kv_env *env, MDB_txn *txn, const char *name, uint64_t n)
{
    uint8_t bytes[8];
    MDB_val key = { strlen(name), (void *)name }, val = { sizeof bytes, bytes };

    fae_kv_put_u64(bytes, n);
    return mdb_put(txn, env->meta, &key, &val, 0);
}

/* What a new one says of itself, or what this one says: false when it is not ours to use. */
static int check_meta(struct fae_kv_env *env, MDB_txn *txn, bool make, const char *dir, char *why_out, size_t why_size)
{
    uint64_t format = 0, vbuckets = 0;
    int rc = read_number(env, txn, "format", &format);

    if (rc == MDB_NOTFOUND && make) {
        format = FORMAT;
        vbuckets = FAE_KV_VBUCKETS;
        rc = put_number(env, txn, "format", format);
        if (!rc)
            rc = put_number(env, txn, "vbuckets", vbuckets);
        if (!rc)
            rc = put_number(env, txn, "version", 0);
    } else if (!rc) {
        rc = read_number(env, txn, "vbuckets", &vbuckets);
    }
    if (!rc)
        rc = read_number(env, txn, "version", &env->version);
    if (rc || (format == FORMAT && vbuckets == FAE_KV_VBUCKETS))
        return rc;
    snprintf(why_out, why_size,
             "%s was made by another version of fae: format %" PRIu64 " with %" PRIu64 " buckets, and this one has "
             "format %u with %u",
             dir, format, vbuckets, FORMAT, FAE_KV_VBUCKETS);
    return MDB_INVALID;
}

static int sum_buckets(struct fae_kv_env *env, MDB_txn *txn, uint64_t *n_out)
{
    struct fae_kv_bucket bucket;
    MDB_cursor *cursor;
    MDB_val k, v;
    uint64_t n = 0;
    int rc = mdb_cursor_open(txn, env->buckets, &cursor);

    if (rc)
        return rc;
    while ((rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT)) == 0) {
        if (!fae_kv_bucket_read(v.mv_data, v.mv_size, &bucket)) {
            rc = MDB_CORRUPTED;
            break;
        }
        n += bucket.count;
    }
    mdb_cursor_close(cursor);
    *n_out = n;
    return rc == MDB_NOTFOUND ? 0 : rc;
}

int fae_kv_env_refresh(struct fae_kv_env *env, MDB_txn *txn)
{
    uint64_t version;
    int rc = read_number(env, txn, "version", &version);

    if (rc || version == env->version)
        return rc;
    rc = sum_buckets(env, txn, &env->n_items);
    if (!rc)
        env->version = version;
    return rc;
}

static int open_inside(struct fae_kv_env *env, bool make, const char *dir, char *why_out, size_t why_size)
{
    MDB_txn *txn;
    int rc = mdb_txn_begin(env->mdb, NULL, make ? 0 : MDB_RDONLY, &txn);

    if (rc)
        return rc;
    rc = open_tables(env, txn, make ? MDB_CREATE : 0);
    if (!rc)
        rc = check_meta(env, txn, make, dir, why_out, why_size);
    if (!rc)
        rc = sum_buckets(env, txn, &env->n_items);
    if (!rc)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return rc;
}

int fae_kv_env_reserve(const struct fae_kv_store *store, size_t bytes)
{
    char path[sizeof store->dir + 16];
    int fd, rc;

    snprintf(path, sizeof path, "%s/data.mdb", store->dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return errno;
    rc = posix_fallocate(fd, 0, (off_t)bytes);
    close(fd);
    return rc;
}

/* Before the file is opened, which makes it as large as the map. */
static int size_map(struct fae_kv_env *env, const struct fae_kv_store *store)
{
    char path[sizeof store->dir + 16];
    size_t bytes = FAE_KV_FAST_BYTES;
    struct stat st;

    snprintf(path, sizeof path, "%s/data.mdb", store->dir);
    if (stat(path, &st) == 0)
        while (bytes < (size_t)st.st_size)
            bytes *= 2;
    return mdb_env_set_mapsize(env->mdb, bytes);
}

static int open_file(struct fae_kv_env *env, const struct fae_kv_store *store, int how, char *why_out, size_t why_size)
{
    bool map_written = env->fast && !(how & FAE_KV_ENV_READ);
    unsigned flags = MDB_NOTLS | (how & FAE_KV_ENV_READ ? MDB_RDONLY : 0) | (env->fast ? MDB_NOSYNC : 0) |
                     (map_written ? MDB_WRITEMAP : 0);
    MDB_envinfo info;
    int rc = mdb_env_create(&env->mdb);

    if (!rc)
        rc = mdb_env_set_maxdbs(env->mdb, 8);
    if (!rc)
        rc = mdb_env_set_maxreaders(env->mdb, FAE_KV_READERS);
    if (!rc)
        rc = map_written ? size_map(env, store) : 0;
    if (!rc)
        rc = mdb_env_open(env->mdb, store->dir, flags, 0600);
    if (rc)
        return rc;
    if (!is_whole(env->mdb, store->dir, why_out, why_size))
        return MDB_CORRUPTED;
    mdb_env_info(env->mdb, &info);
    if (map_written)
        return fae_kv_env_reserve(store, info.me_mapsize);
    /* Raised only: what the file says of its map is what another writer needed. */
    if (!(how & FAE_KV_ENV_READ) && info.me_mapsize < store->kv->map_bytes)
        rc = mdb_env_set_mapsize(env->mdb, store->kv->map_bytes);
    return rc;
}

enum fae_err fae_kv_env_open(struct fae_kv_store *store, int how, char *why_out, size_t why_size)
{
    struct fae_kv_env *env = fae_zalloc(sizeof *env);
    int rc;

    FAE_ASSERT(store->env == NULL);
    pthread_rwlock_init(&env->lock, NULL);
    pthread_mutex_init(&env->copy_lock, NULL);
    env->copy_fd = -1;
    env->fast = store->index == FAE_KV_FAST;
    env->writes = how & FAE_KV_ENV_WRITE;
    why_out[0] = '\0';
    rc = open_file(env, store, how, why_out, why_size);
    if (!rc)
        rc = open_inside(env, !(how & FAE_KV_ENV_READ), store->dir, why_out, why_size);
    if (!rc) {
        store->env = env;
        return FAE_OK;
    }
    if (!why_out[0] && (rc == MDB_INVALID || rc == MDB_VERSION_MISMATCH || rc == MDB_CORRUPTED ||
                        rc == MDB_PAGE_NOTFOUND || rc == MDB_NOTFOUND || rc == MDB_INCOMPATIBLE))
        snprintf(why_out, why_size,
                 "%s is no kv store, or a broken one (%s); put a backup in its place, or move it away to begin with an "
                 "empty store",
                 store->dir, mdb_strerror(rc));
    else if (!why_out[0])
        snprintf(why_out, why_size, "%s: %s", store->dir, mdb_strerror(rc));
    fae_kv_env_close(&env);
    return rc == ENOSPC || rc == EDQUOT ? FAE_NO_SPACE : FAE_SYSTEM;
}

static void drop_reader(struct fae_kv_env *env)
{
    if (env->cursor)
        mdb_cursor_close(env->cursor);
    if (env->reader)
        mdb_txn_abort(env->reader);
    env->cursor = NULL;
    env->reader = NULL;
}

void fae_kv_env_close(struct fae_kv_env **env_io)
{
    struct fae_kv_env *env = *env_io;

    *env_io = NULL;
    if (!env)
        return;
    drop_reader(env);
    if (env->mdb)
        mdb_env_close(env->mdb);
    pthread_rwlock_destroy(&env->lock);
    pthread_mutex_destroy(&env->copy_lock);
    free(env);
}

/* What it writes to becomes a file that takes nothing. */
void fae_kv_env_cut(struct fae_kv_env *env)
{
    int full;

    pthread_mutex_lock(&env->copy_lock);
    full = env->copy_fd >= 0 ? open("/dev/full", O_WRONLY | O_CLOEXEC) : -1;
    if (full >= 0) {
        env->cut = dup3(full, env->copy_fd, O_CLOEXEC) >= 0;
        close(full);
    }
    pthread_mutex_unlock(&env->copy_lock);
}

enum fae_err fae_kv_env_reopen(struct fae_kv_store *store, char *why_out, size_t why_size)
{
    struct fae_kv_env *env = store->env;
    int rc;

    why_out[0] = '\0';
    fae_kv_env_cut(env);
    pthread_rwlock_wrlock(&env->lock);
    drop_reader(env);
    if (env->mdb)
        mdb_env_close(env->mdb);
    env->mdb = NULL;
    rc = open_file(env, store, FAE_KV_ENV_WRITE, why_out, why_size);
    if (!rc)
        rc = open_inside(env, true, store->dir, why_out, why_size);
    if (rc && env->mdb) {
        mdb_env_close(env->mdb);
        env->mdb = NULL;
    }
    pthread_rwlock_unlock(&env->lock);
    if (rc && !why_out[0])
        snprintf(why_out, why_size, "%s: %s", store->dir, mdb_strerror(rc));
    return fae_kv_err(rc);
}

/* ---- reading ---- */

static void end_read(struct fae_kv_env *env)
{
    if (!env->reading)
        return;
    env->reading = false;
    if (env->reader)
        mdb_txn_reset(env->reader);
    if (env->writes)
        pthread_rwlock_unlock(&env->lock);
}

void fae_kv_release(struct fae_kv_store *store)
{
    if (store->env)
        end_read(store->env);
}

const char *fae_kv_why(const struct fae_kv_store *store)
{
    return store->env && store->env->rc ? mdb_strerror(store->env->rc) : "the store does not open: see the log";
}

/* The environment of this process, opened when it is first read. */
static struct fae_kv_env *env_here(struct fae_kv_store *store)
{
    char why[600];

    if (store->env || fae_now_ms() < store->retry_ms)
        return store->env;
    if (fae_kv_env_open(store, FAE_KV_ENV_READ, why, sizeof why)) {
        FAE_ERROR("%s", why);
        store->retry_ms = fae_now_ms() + RETRY_MS;
    }
    return store->env;
}

static int renew(struct fae_kv_env *env)
{
    int rc;

    if (!env->mdb)
        return MDB_PANIC;
    if (!env->reader)
        return mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, &env->reader);
    rc = mdb_txn_renew(env->reader);
    if (rc)
        drop_reader(env);
    return rc;
}

static enum fae_err failed(struct fae_kv_env *env, int rc)
{
    if (rc && rc != MDB_NOTFOUND)
        env->rc = rc;
    return fae_kv_err(rc);
}

static enum fae_err begin_read(struct fae_kv_store *store, struct fae_kv_env **env_out)
{
    struct fae_kv_env *env = env_here(store);
    int rc;

    if (!env)
        return FAE_UNAVAILABLE;
    end_read(env);
    if (env->writes)
        pthread_rwlock_rdlock(&env->lock);
    rc = renew(env);
    if (rc == MDB_MAP_RESIZED && !env->writes) {
        rc = mdb_env_set_mapsize(env->mdb, 0); /* as large as the writer made it */
        if (!rc)
            rc = renew(env);
    }
    env->reading = true;
    *env_out = env;
    if (rc)
        end_read(env);
    return failed(env, rc);
}

enum fae_err fae_kv_get(struct fae_kv_store *store, const char *key, size_t len, struct fae_kv_record *out)
{
    uint8_t stored[FAE_KV_STORED_KEY_MAX];
    struct fae_kv_env *env;
    enum fae_err err = begin_read(store, &env);
    MDB_val k = { 0, stored }, v;
    int rc;

    FAE_ASSERT(len >= 1);
    FAE_ASSERT(len <= FAE_KV_KEY_MAX);
    if (err)
        return err;
    k.mv_size = fae_kv_key_put(stored, fae_kv_vbucket(key, len), key, len);
    rc = mdb_get(env->reader, env->data, &k, &v);
    if (!rc && !fae_kv_record_read(v.mv_data, v.mv_size, out))
        rc = MDB_CORRUPTED;
    if (!rc && out->expires_ms && fae_kv_expired(out->expires_ms, store->kv->wall_ms()))
        rc = MDB_NOTFOUND;
    if (rc)
        end_read(env);
    return failed(env, rc);
}

static int cursor_on(struct fae_kv_env *env)
{
    return env->cursor ? mdb_cursor_renew(env->reader, env->cursor)
                       : mdb_cursor_open(env->reader, env->data, &env->cursor);
}

static enum fae_err item_of(struct fae_kv_env *env, int rc, const MDB_val *k, const MDB_val *v, struct fae_kv_item *out)
{
    if (!rc && (k->mv_size <= 2 || !fae_kv_record_read(v->mv_data, v->mv_size, &out->record)))
        rc = MDB_CORRUPTED;
    if (!rc) {
        out->vbucket = fae_kv_u16(k->mv_data);
        out->key = (const char *)k->mv_data + 2;
        out->key_len = k->mv_size - 2;
    } else {
        end_read(env);
    }
    return failed(env, rc);
}

enum fae_err fae_kv_seek(struct fae_kv_store *store, uint16_t vbucket, const char *from, size_t len,
                         struct fae_kv_item *out)
{
    uint8_t stored[FAE_KV_STORED_KEY_MAX];
    struct fae_kv_env *env;
    enum fae_err err = begin_read(store, &env);
    MDB_val k = { 0, stored }, v;
    int rc;

    FAE_ASSERT(len <= FAE_KV_KEY_MAX);
    if (err)
        return err;
    k.mv_size = fae_kv_key_put(stored, vbucket, from, len);
    rc = cursor_on(env);
    if (!rc)
        rc = mdb_cursor_get(env->cursor, &k, &v, MDB_SET_RANGE);
    return item_of(env, rc, &k, &v, out);
}

enum fae_err fae_kv_next(struct fae_kv_store *store, struct fae_kv_item *out)
{
    struct fae_kv_env *env = store->env;
    MDB_val k, v;

    FAE_ASSERT(env->reading);
    return item_of(env, mdb_cursor_get(env->cursor, &k, &v, MDB_NEXT), &k, &v, out);
}

/* ---- buckets ---- */

enum fae_err fae_kv_count(struct fae_kv_store *store, uint64_t *n_out)
{
    struct fae_kv_env *env;
    enum fae_err err = begin_read(store, &env);
    int rc;

    if (err)
        return err;
    rc = sum_buckets(env, env->reader, n_out);
    end_read(env);
    return failed(env, rc);
}

enum fae_err fae_kv_bucket(struct fae_kv_store *store, uint16_t vbucket, struct fae_kv_bucket *out)
{
    uint8_t key[2];
    struct fae_kv_env *env;
    enum fae_err err = begin_read(store, &env);
    MDB_val k = { sizeof key, key }, v;
    int rc;

    if (err)
        return err;
    fae_kv_put_u16(key, vbucket);
    *out = (struct fae_kv_bucket){ .state = FAE_KV_ACTIVE };
    rc = mdb_get(env->reader, env->buckets, &k, &v);
    if (!rc && !fae_kv_bucket_read(v.mv_data, v.mv_size, out))
        rc = MDB_CORRUPTED;
    end_read(env);
    return rc == MDB_NOTFOUND ? FAE_OK : failed(env, rc);
}
