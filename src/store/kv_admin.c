/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A long reader pins pages: the file may grow by what is written during a copy. A check reads one bucket at a time, and
 * the index of times in pieces, so it pins next to nothing.
 */
#include "store/kv_admin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "store/kv_env.h"

#define LINES_MAX 20u /* of what is wrong; the rest is counted */
#define PIECE 1000u   /* entries of the index looked at in one transaction */
#define KEY_SHOWN 60u

/* ---- backup ---- */

static enum fae_err say(struct fae_buf *text, enum fae_err err, const char *what, const char *why)
{
    fae_buf_printf(text, "%s: %s", what, why);
    return err;
}

static bool is_empty(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    bool empty = dir != NULL;

    while (dir && (e = readdir(dir)))
        empty &= strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    if (dir)
        closedir(dir);
    return empty;
}

static enum fae_err make_dir(const char *dir, struct fae_buf *text)
{
    if (mkdir(dir, 0700) == 0)
        return FAE_OK;
    if (errno != EEXIST)
        return say(text, fae_kv_err(errno), dir, strerror(errno));
    return is_empty(dir) ? FAE_OK : say(text, FAE_BAD_ARGS, dir, "it is no folder, or not empty");
}

static void set_copy(struct fae_kv_env *env, int fd)
{
    pthread_mutex_lock(&env->copy_lock);
    env->copy_fd = fd;
    if (fd >= 0)
        env->cut = false;
    pthread_mutex_unlock(&env->copy_lock);
}

static bool sync_dir(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool ok = fd >= 0 && fsync(fd) == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

static int copy(struct fae_kv_env *env, struct fae_kv_progress *progress, int fd)
{
    int rc = MDB_PANIC;

    pthread_rwlock_rdlock(&env->lock);
    set_copy(env, fd);
    if (atomic_load(&progress->stop) || atomic_load(&env->wants_alone))
        fae_kv_env_cut(env); /* asked for before there was anything to cut */
    if (env->mdb)
        rc = mdb_env_copyfd2(env->mdb, fd, MDB_CP_COMPACT);
    set_copy(env, -1);
    pthread_rwlock_unlock(&env->lock);
    if (!rc && fsync(fd) != 0)
        rc = errno;
    return rc;
}

static enum fae_err why_not(struct fae_kv_env *env, struct fae_kv_progress *progress, const char *path, int rc,
                            struct fae_buf *text)
{
    if (atomic_load(&progress->stop))
        return say(text, FAE_CANCELLED, path, "the node is stopping");
    if (env->cut)
        return say(text, FAE_CANCELLED, path, "the store grew to twice its size meanwhile; try again");
    return say(text, fae_kv_err(rc) == FAE_NO_SPACE ? FAE_NO_SPACE : FAE_SYSTEM, path, mdb_strerror(rc));
}

enum fae_err fae_kv_backup(struct fae_kv *kv, const char *dir, struct fae_kv_progress *progress, struct fae_buf *text)
{
    struct fae_kv_env *env = kv->stores[FAE_KV_DURABLE].env;
    char part[4200], path[4200];
    uint64_t began_ms = fae_now_ms();
    struct stat st = { 0 };
    enum fae_err err;
    int fd, rc;

    if (!env)
        return say(text, FAE_UNAVAILABLE, "kv", "this node has no kv store");
    err = make_dir(dir, text);
    if (err)
        return err;
    snprintf(part, sizeof part, "%s/data.mdb.part", dir);
    snprintf(path, sizeof path, "%s/data.mdb", dir);
    fd = open(part, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return say(text, fae_kv_err(errno), part, strerror(errno));
    rc = copy(env, progress, fd);
    fstat(fd, &st);
    close(fd);
    if (!rc && rename(part, path) != 0)
        rc = errno;
    if (rc) {
        err = why_not(env, progress, dir, rc, text);
        unlink(part);
        return err;
    }
    if (!sync_dir(dir))
        return say(text, FAE_SYSTEM, dir, strerror(errno));
    fae_buf_printf(text, "%s: %" PRIu64 " bytes in %" PRIu64 " ms", path, (uint64_t)st.st_size,
                   fae_now_ms() - began_ms);
    return FAE_OK;
}

uint64_t fae_kv_admin_done(struct fae_kv *kv, const struct fae_kv_progress *progress)
{
    struct fae_kv_env *env = kv->stores[FAE_KV_DURABLE].env;
    uint64_t done = atomic_load(&progress->done);
    struct stat st;

    if (!env)
        return done;
    pthread_mutex_lock(&env->copy_lock);
    if (env->copy_fd >= 0 && fstat(env->copy_fd, &st) == 0)
        done = (uint64_t)st.st_size;
    pthread_mutex_unlock(&env->copy_lock);
    return done;
}

void fae_kv_admin_stop(struct fae_kv *kv, struct fae_kv_progress *progress)
{
    atomic_store(&progress->stop, true);
    for (unsigned i = 0; i < FAE_KV_STORES; i++)
        if (kv->stores[i].env)
            fae_kv_env_cut(kv->stores[i].env);
}

/* ---- check ---- */

struct check {
    struct fae_kv_store *store;
    struct fae_kv_env *env;
    struct fae_kv_progress *progress;
    struct fae_buf *lines;
    const char *name;
    uint64_t n_records, n_wrong;
    /* of the bucket that is looked at */
    uint64_t n_here, n_wrong_before;
    size_t lines_before;
};

static void wrong(struct check *c, const char *what, const uint8_t *key, size_t len)
{
    size_t shown = len < KEY_SHOWN ? len : KEY_SHOWN;

    if (c->n_wrong++ >= LINES_MAX)
        return;
    fae_buf_printf(c->lines, "%s: %s", c->name, what);
    for (size_t i = 0; i < shown; i++)
        if (key[i] > ' ' && key[i] < 127)
            fae_buf_printf(c->lines, "%s%c", i ? "" : ": ", key[i]);
        else
            fae_buf_printf(c->lines, "%s\\x%02x", i ? "" : ": ", key[i]);
    fae_buf_printf(c->lines, "%s\n", shown < len ? "..." : "");
}

static int look_at_record(struct check *c, MDB_txn *txn, uint16_t vbucket, const MDB_val *k, const MDB_val *v)
{
    const uint8_t *key = (const uint8_t *)k->mv_data;
    uint8_t ttl[FAE_KV_TTL_KEY_MAX];
    struct fae_kv_record record;
    MDB_val entry = { 0, ttl }, none;
    int rc;

    if (k->mv_size <= 2 || k->mv_size > FAE_KV_STORED_KEY_MAX) {
        wrong(c, "a key of an impossible length", key, k->mv_size);
        return 0;
    }
    if (fae_kv_vbucket((const char *)key + 2, k->mv_size - 2) != vbucket)
        wrong(c, "a key in a bucket that is not its own", key + 2, k->mv_size - 2);
    if (!fae_kv_record_read(v->mv_data, v->mv_size, &record)) {
        wrong(c, "a record without a head", key + 2, k->mv_size - 2);
        return 0;
    }
    if (record.version == 0 || record.version > FAE_KV_VERSION_MAX)
        wrong(c, "a record with an impossible version", key + 2, k->mv_size - 2);
    if (record.expires_ms == 0)
        return 0;
    entry.mv_size = fae_kv_ttl_put(ttl, record.expires_ms, key, k->mv_size);
    rc = mdb_get(txn, c->env->ttl, &entry, &none);
    if (rc == MDB_NOTFOUND)
        wrong(c, "a record that expires without an entry in the index", key + 2, k->mv_size - 2);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int compare_count(struct check *c, MDB_txn *txn, uint16_t vbucket)
{
    struct fae_kv_bucket bucket = { 0 };
    char what[100];
    uint8_t key[2];
    MDB_val k = { sizeof key, key }, v;
    int rc;

    fae_kv_put_u16(key, vbucket);
    rc = mdb_get(txn, c->env->buckets, &k, &v);
    if (rc && rc != MDB_NOTFOUND)
        return rc;
    if (!rc && !fae_kv_bucket_read(v.mv_data, v.mv_size, &bucket)) {
        wrong(c, "a bucket's record makes no sense", NULL, 0);
    } else if (bucket.count != c->n_here) {
        snprintf(what, sizeof what, "bucket %u has %" PRIu64 " records and says %" PRIu64, vbucket, c->n_here,
                 bucket.count);
        wrong(c, what, NULL, 0);
    }
    return 0;
}

/* A reader of this thread's own; the writer may want to be alone in between. */
static int begin(struct check *c, MDB_txn **txn)
{
    pthread_rwlock_rdlock(&c->env->lock);
    if (!c->env->mdb)
        return MDB_PANIC;
    return mdb_txn_begin(c->env->mdb, NULL, MDB_RDONLY, txn);
}

static bool should_end(const struct check *c)
{
    return atomic_load(&c->env->wants_alone) || atomic_load(&c->progress->stop);
}

#define AGAIN (-1) /* no code of LMDB's: the writer wanted to be alone */

static int walk_bucket(struct check *c, MDB_txn *txn, uint16_t vbucket)
{
    uint8_t from[2];
    MDB_val k = { sizeof from, from }, v;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, c->env->data, &cursor);

    if (rc)
        return rc;
    fae_kv_put_u16(from, vbucket);
    rc = mdb_cursor_get(cursor, &k, &v, MDB_SET_RANGE);
    while (!rc && k.mv_size >= 2 && fae_kv_u16(k.mv_data) == vbucket) {
        c->n_here++;
        rc = look_at_record(c, txn, vbucket, &k, &v);
        if (!rc && c->n_here % PIECE == 0 && should_end(c))
            rc = AGAIN;
        if (!rc)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int check_bucket(struct check *c, uint16_t vbucket)
{
    MDB_txn *txn = NULL;
    int rc;

    c->n_here = 0;
    c->n_wrong_before = c->n_wrong;
    c->lines_before = c->lines->len;
    rc = begin(c, &txn);
    if (!rc)
        rc = walk_bucket(c, txn, vbucket);
    if (!rc)
        rc = compare_count(c, txn, vbucket);
    if (txn)
        mdb_txn_abort(txn);
    pthread_rwlock_unlock(&c->env->lock);
    if (rc == AGAIN) {
        c->n_wrong = c->n_wrong_before;
        c->lines->len = c->lines_before;
        return rc;
    }
    c->n_records += c->n_here;
    atomic_fetch_add(&c->progress->done, c->n_here);
    return rc;
}

static int look_at_entry(struct check *c, MDB_txn *txn, const MDB_val *k)
{
    const uint8_t *key = k->mv_data;
    struct fae_kv_record record;
    MDB_val stored, v;
    int rc;

    if (k->mv_size <= 10 || k->mv_size > FAE_KV_TTL_KEY_MAX) {
        wrong(c, "an entry of the index of an impossible length", key, k->mv_size);
        return 0;
    }
    stored = (MDB_val){ k->mv_size - 8, (void *)(key + 8) };
    rc = mdb_get(txn, c->env->data, &stored, &v);
    if (rc == MDB_NOTFOUND)
        wrong(c, "an entry of the index without a record", key + 10, k->mv_size - 10);
    else if (!rc && (!fae_kv_record_read(v.mv_data, v.mv_size, &record) || record.expires_ms != fae_kv_u64(key)))
        wrong(c, "an entry of the index of another time than its record", key + 10, k->mv_size - 10);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

/* A piece of the index, from `last` on, where the next begins. *more: that was not all. */
static int walk_index(struct check *c, MDB_txn *txn, uint8_t *last, size_t *last_len, bool *more)
{
    MDB_val k = { *last_len, last }, v;
    MDB_cursor *cursor;
    int rc = mdb_cursor_open(txn, c->env->ttl, &cursor);

    *more = false;
    if (rc)
        return rc;
    rc = mdb_cursor_get(cursor, &k, &v, *last_len ? MDB_SET_RANGE : MDB_FIRST);
    for (unsigned n = 0; !rc; n++) {
        if (n == PIECE && k.mv_size <= FAE_KV_TTL_KEY_MAX) {
            memcpy(last, k.mv_data, k.mv_size);
            *last_len = k.mv_size;
            *more = true;
            break;
        }
        rc = look_at_entry(c, txn, &k);
        if (!rc)
            rc = mdb_cursor_get(cursor, &k, &v, MDB_NEXT);
    }
    mdb_cursor_close(cursor);
    return rc == MDB_NOTFOUND ? 0 : rc;
}

static int check_index(struct check *c)
{
    uint8_t last[FAE_KV_TTL_KEY_MAX];
    size_t len = 0;
    bool more = true;
    int rc = 0;

    while (more && !rc && !atomic_load(&c->progress->stop)) {
        MDB_txn *txn = NULL;

        rc = begin(c, &txn);
        if (!rc)
            rc = walk_index(c, txn, last, &len, &more);
        if (txn)
            mdb_txn_abort(txn);
        pthread_rwlock_unlock(&c->env->lock);
    }
    return rc;
}

static int check_store(struct check *c)
{
    int rc = 0;

    for (unsigned i = 0; i < FAE_KV_VBUCKETS && !rc && !atomic_load(&c->progress->stop); i++)
        do
            rc = check_bucket(c, (uint16_t)i);
        while (rc == AGAIN && !atomic_load(&c->progress->stop));
    return rc ? rc : check_index(c);
}

enum fae_err fae_kv_check(struct fae_kv *kv, struct fae_kv_progress *progress, struct fae_buf *lines,
                          struct fae_buf *text)
{
    static const char *const names[FAE_KV_STORES] = { "kv", "kv_fast" };
    uint64_t began_ms = fae_now_ms(), n_records = 0, n_wrong = 0;
    unsigned n_stores = 0;
    int rc = 0;

    for (unsigned i = 0; i < FAE_KV_STORES && !rc; i++) {
        struct check c = { .store = &kv->stores[i], .env = kv->stores[i].env, .progress = progress, .lines = lines };

        if (!c.env)
            continue;
        c.name = names[i];
        n_stores++;
        rc = check_store(&c);
        if (rc > 0 || rc < AGAIN)
            wrong(&c, mdb_strerror(rc), NULL, 0);
        n_records += c.n_records;
        n_wrong += c.n_wrong;
    }
    if (n_stores == 0)
        return say(text, FAE_UNAVAILABLE, "kv", "this node has no kv store");
    if (atomic_load(&progress->stop))
        return say(text, FAE_CANCELLED, "kv", "the node is stopping");
    if (n_wrong)
        fae_buf_printf(text, "%" PRIu64 " mistakes in %" PRIu64 " records", n_wrong, n_records);
    else
        fae_buf_printf(text, "%" PRIu64 " records in %" PRIu64 " ms", n_records, fae_now_ms() - began_ms);
    return n_wrong ? FAE_SYSTEM : FAE_OK;
}
