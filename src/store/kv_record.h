/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The bytes of the kv store: how a key, a record, an entry of the index of times and a bucket lie on disk. Pure; what is
 * read may be anything, and is checked. All numbers are big-endian, so that keys sort by them.
 *
 *     data     vbucket u16, key                      -> format u8 (1), version u64, expires_ms u64, value
 *     ttl      expires_ms u64, vbucket u16, key      -> nothing
 *     buckets  vbucket u16                           -> state u8, epoch u64, count u64
 *
 * A key's vbucket is xxh64(hash part, seed 0) modulo the number of buckets; its hash part is what lies inside its first
 * {...} when that is whole and not empty, else all of it. expires_ms is wall-clock time since 1970, 0: never.
 */
#ifndef FAE_STORE_KV_RECORD_H
#define FAE_STORE_KV_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FAE_KV_VBUCKETS 1024u /* fixed when an environment is made */
#define FAE_KV_KEY_MAX 500u   /* LMDB takes 511 bytes, and an entry of the index has 10 more than its key */
#define FAE_KV_STORED_KEY_MAX (2 + FAE_KV_KEY_MAX)
#define FAE_KV_TTL_KEY_MAX (8 + FAE_KV_STORED_KEY_MAX)
#define FAE_KV_HEAD 17u
#define FAE_KV_VERSION_MAX ((uint64_t)1 << 53) /* Lua's numbers are exact up to here, and cas compares them */
#define FAE_KV_BUCKET_SIZE 17u

enum fae_kv_state {
    FAE_KV_ACTIVE, /* what a bucket is that nobody said anything of, with epoch 0 */
    FAE_KV_REPLICA,
    FAE_KV_PENDING, /* being filled by import */
    FAE_KV_DEAD,
    FAE_KV_FROZEN, /* being moved away: read, not written */
    FAE_KV_STATES,
};

struct fae_kv_bucket {
    uint8_t state; /* enum fae_kv_state */
    uint64_t epoch;
    uint64_t count; /* of records, expired ones that were not swept yet included */
};

struct fae_kv_record {
    uint64_t version;
    uint64_t expires_ms;
    const uint8_t *value; /* lent by whoever lent the bytes */
    size_t len;
};

/* The part of the key that decides its bucket; lends from key. */
const char *fae_kv_hash_part(const char *key, size_t len, size_t *len_out);
/* Does the text hold a {...} that decides the bucket? What begins with such a prefix lies in one bucket. */
bool fae_kv_has_tag(const char *key, size_t len);
uint16_t fae_kv_vbucket(const char *key, size_t len);

/* Returns how long the stored key is: 2 + len. */
size_t fae_kv_key_put(uint8_t out[FAE_KV_STORED_KEY_MAX], uint16_t vbucket, const char *key, size_t len);
size_t fae_kv_ttl_put(uint8_t out[FAE_KV_TTL_KEY_MAX], uint64_t expires_ms, const uint8_t *stored_key, size_t len);
void fae_kv_head_put(uint8_t out[FAE_KV_HEAD], uint64_t version, uint64_t expires_ms);
void fae_kv_bucket_put(uint8_t out[FAE_KV_BUCKET_SIZE], const struct fae_kv_bucket *bucket);

/* False: these bytes are none. */
bool fae_kv_record_read(const void *bytes, size_t len, struct fae_kv_record *out);
bool fae_kv_bucket_read(const void *bytes, size_t len, struct fae_kv_bucket *out);

static inline bool fae_kv_expired(uint64_t expires_ms, uint64_t now_wall_ms)
{
    return expires_ms != 0 && expires_ms <= now_wall_ms;
}

static inline void fae_kv_put_u16(uint8_t *p, uint16_t n)
{
    n = __builtin_bswap16(n);
    __builtin_memcpy(p, &n, sizeof n);
}

static inline void fae_kv_put_u32(uint8_t *p, uint32_t n)
{
    n = __builtin_bswap32(n);
    __builtin_memcpy(p, &n, sizeof n);
}

static inline void fae_kv_put_u64(uint8_t *p, uint64_t n)
{
    n = __builtin_bswap64(n);
    __builtin_memcpy(p, &n, sizeof n);
}

static inline uint16_t fae_kv_u16(const uint8_t *p)
{
    uint16_t n;

    __builtin_memcpy(&n, p, sizeof n);
    return __builtin_bswap16(n);
}

static inline uint32_t fae_kv_u32(const uint8_t *p)
{
    uint32_t n;

    __builtin_memcpy(&n, p, sizeof n);
    return __builtin_bswap32(n);
}

static inline uint64_t fae_kv_u64(const uint8_t *p)
{
    uint64_t n;

    __builtin_memcpy(&n, p, sizeof n);
    return __builtin_bswap64(n);
}

_Static_assert(FAE_KV_TTL_KEY_MAX <= 511, "LMDB takes no longer key");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers are turned round");

/* "active", "frozen", ...; static. */
const char *fae_kv_state_word(unsigned state);
/* FAE_KV_STATES: no such word. */
unsigned fae_kv_state_of(const char *word, size_t len);

/* ---- a bucket on its way to another node ----
 * A chunk is whole records: "FKV1", vbucket u16, then for each: key length u16, value length u32, version u64,
 * expires_ms u64, key, value. */

#define FAE_KV_CHUNK_HEAD 6u
#define FAE_KV_CHUNK_RECORD 22u

struct fae_kv_moved {
    const char *key;
    size_t key_len;
    struct fae_kv_record record;
};

void fae_kv_chunk_begin(uint8_t out[FAE_KV_CHUNK_HEAD], uint16_t vbucket);
/* False: that is no chunk. *at is where its records begin. */
bool fae_kv_chunk_open(const uint8_t *bytes, size_t len, uint16_t *vbucket_out, size_t *at);
/* The record at *at, which moves on. 1: there is one, 0: that was the last, -1: they are cut or make no sense. */
int fae_kv_chunk_next(const uint8_t *bytes, size_t len, size_t *at, struct fae_kv_moved *out);

#endif
