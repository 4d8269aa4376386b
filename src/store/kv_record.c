/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Pure bytes; any thread.
 */
#include "store/kv_record.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define FORMAT 1u

static const char magic[4] = { 'F', 'K', 'V', '1' };
static const char *const state_words[FAE_KV_STATES] = { "active", "replica", "pending", "dead", "frozen" };

/* ---- keys ---- */

/* Only the first '{' counts, and the first '}' behind it. */
static bool find_tag(const char *key, size_t len, size_t *from_out, size_t *n_out)
{
    const char *open = memchr(key, '{', len), *close;

    if (!open)
        return false;
    open++;
    close = memchr(open, '}', len - (size_t)(open - key));
    if (!close || close == open)
        return false;
    *from_out = (size_t)(open - key);
    *n_out = (size_t)(close - open);
    return true;
}

const char *fae_kv_hash_part(const char *key, size_t len, size_t *len_out)
{
    size_t from = 0, n = len;

    find_tag(key, len, &from, &n);
    *len_out = n;
    return key + from;
}

bool fae_kv_has_tag(const char *key, size_t len)
{
    size_t from, n;

    return find_tag(key, len, &from, &n);
}

uint16_t fae_kv_vbucket(const char *key, size_t len)
{
    size_t n;
    const char *part = fae_kv_hash_part(key, len, &n);

    return (uint16_t)(XXH64(part, n, 0) % FAE_KV_VBUCKETS);
}

size_t fae_kv_key_put(uint8_t out[FAE_KV_STORED_KEY_MAX], uint16_t vbucket, const char *key, size_t len)
{
    fae_kv_put_u16(out, vbucket);
    memcpy(out + 2, key, len);
    return 2 + len;
}

size_t fae_kv_ttl_put(uint8_t out[FAE_KV_TTL_KEY_MAX], uint64_t expires_ms, const uint8_t *stored_key, size_t len)
{
    fae_kv_put_u64(out, expires_ms);
    memcpy(out + 8, stored_key, len);
    return 8 + len;
}

/* ---- records and buckets ---- */

void fae_kv_head_put(uint8_t out[FAE_KV_HEAD], uint64_t version, uint64_t expires_ms)
{
    out[0] = FORMAT;
    fae_kv_put_u64(out + 1, version);
    fae_kv_put_u64(out + 9, expires_ms);
}

bool fae_kv_record_read(const void *bytes, size_t len, struct fae_kv_record *out)
{
    const uint8_t *p = bytes;

    if (len < FAE_KV_HEAD || p[0] != FORMAT)
        return false;
    *out = (struct fae_kv_record){ fae_kv_u64(p + 1), fae_kv_u64(p + 9), p + FAE_KV_HEAD, len - FAE_KV_HEAD };
    return true;
}

void fae_kv_bucket_put(uint8_t out[FAE_KV_BUCKET_SIZE], const struct fae_kv_bucket *bucket)
{
    out[0] = bucket->state;
    fae_kv_put_u64(out + 1, bucket->epoch);
    fae_kv_put_u64(out + 9, bucket->count);
}

bool fae_kv_bucket_read(const void *bytes, size_t len, struct fae_kv_bucket *out)
{
    const uint8_t *p = bytes;

    if (len != FAE_KV_BUCKET_SIZE || p[0] >= FAE_KV_STATES)
        return false;
    *out = (struct fae_kv_bucket){ p[0], fae_kv_u64(p + 1), fae_kv_u64(p + 9) };
    return true;
}

const char *fae_kv_state_word(unsigned state)
{
    return state < FAE_KV_STATES ? state_words[state] : "?";
}

unsigned fae_kv_state_of(const char *word, size_t len)
{
    unsigned i = 0;

    while (i < FAE_KV_STATES && (strlen(state_words[i]) != len || memcmp(state_words[i], word, len) != 0))
        i++;
    return i;
}

/* ---- chunks ---- */

void fae_kv_chunk_begin(uint8_t out[FAE_KV_CHUNK_HEAD], uint16_t vbucket)
{
    memcpy(out, magic, sizeof magic);
    fae_kv_put_u16(out + 4, vbucket);
}

bool fae_kv_chunk_open(const uint8_t *bytes, size_t len, uint16_t *vbucket_out, size_t *at)
{
    if (len < FAE_KV_CHUNK_HEAD || memcmp(bytes, magic, sizeof magic) != 0)
        return false;
    *vbucket_out = fae_kv_u16(bytes + 4);
    *at = FAE_KV_CHUNK_HEAD;
    return *vbucket_out < FAE_KV_VBUCKETS;
}

int fae_kv_chunk_next(const uint8_t *bytes, size_t len, size_t *at, struct fae_kv_moved *out)
{
    const uint8_t *p = bytes + *at;
    size_t left = len - *at, key_len, value_len;

    if (left == 0)
        return 0;
    if (left < FAE_KV_CHUNK_RECORD)
        return -1;
    key_len = fae_kv_u16(p);
    value_len = fae_kv_u32(p + 2);
    if (key_len == 0 || key_len > FAE_KV_KEY_MAX || left - FAE_KV_CHUNK_RECORD < key_len ||
        left - FAE_KV_CHUNK_RECORD - key_len < value_len)
        return -1;
    out->key = (const char *)p + FAE_KV_CHUNK_RECORD;
    out->key_len = key_len;
    out->record =
        (struct fae_kv_record){ fae_kv_u64(p + 6), fae_kv_u64(p + 14), p + FAE_KV_CHUNK_RECORD + key_len, value_len };
    *at += FAE_KV_CHUNK_RECORD + key_len + value_len;
    return 1;
}
