/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Two keys of the cache: all that is told, and the start of it.
 */
#include "ops/mysql.h"

#include "base/assert.h"
#include "base/json_valid.h"
#include "base/slot.h"
#include "store/lcache.h"
#include "store/store.h"

#define KEY(word) "\0my:stats:" word, sizeof("\0my:stats:" word) - 1
#define NONE "{\"digests\":[]}"

/* key: of a literal, with its first byte, 0, that keeps clients of lc from writing it. */
static void add(const struct fae_stores *stores, const char *key, size_t key_len, struct fae_buf *out)
{
    uint8_t *into = fae_buf_room(out, FAE_LCACHE_VALUE_MAX);
    double version;
    int len = -1;

    if (stores && stores->caches[FAE_CACHE_COMMON])
        len = fae_lcache_get(fae_lcache_user(stores->caches[FAE_CACHE_COMMON], stores->slots->n_workers),
                             (const uint8_t *)key, key_len, into, FAE_LCACHE_VALUE_MAX, &version);
    if (len > 0 && len <= (int)FAE_LCACHE_VALUE_MAX && fae_json_valid((const char *)into, (size_t)len))
        out->len += (size_t)len;
    else
        fae_buf_add(out, NONE, sizeof NONE - 1);
}

void fae_mysql_json(const struct fae_stores *stores, struct fae_buf *out)
{
    add(stores, KEY("json"), out);
}

void fae_mysql_json_member(const struct fae_stores *stores, struct fae_buf *out)
{
    FAE_ASSERT(out->len > 0 && out->data[out->len - 1] == '}');
    out->len--;
    fae_buf_printf(out, ",\"mysql\":");
    add(stores, KEY("top"), out);
    fae_buf_add(out, "}", 1);
}
