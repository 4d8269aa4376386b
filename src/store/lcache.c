/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The cache as a whole: which shard has a key, what the operations mean, what is counted. Hits and misses are counted in
 * the user's own line, the rest in the shard's, which is taken then.
 */
#include "store/lcache.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/hist.h"
#include "store/lcache_shard.h"

#define SHARDS_MAX 64u
#define PAGE 4096u
/* Where versions begin: anywhere below 2^52, so that none from before a restart comes again; to 2^53 they are exact. */
#define VERSION_SHIFT 12
#define INT64_DIGITS 21 /* -9223372036854775808 and its NUL */
#define NAME_SIZE 16

struct fae_lcache_user {
    _Alignas(64) uint32_t slot; /* tells where the cache begins */
    _Atomic uint64_t n_hits, n_misses, n_sets, n_deletes;
};

struct fae_lcache {
    uint64_t seed; /* random: nobody can choose keys that meet in one bucket */
    uint64_t size;
    uint32_t shard_mask;
    struct fae_lcache_plan plan;
    char name[NAME_SIZE];
    struct fae_lcache_user users[FAE_SLOTS_MAX];
    _Alignas(64) uint8_t shards[];
};

/* Where an operation works. */
struct place {
    struct fae_lcache *cache;
    struct fae_lcache_shard *shard;
    struct fae_lcache_key key;
};

_Static_assert(sizeof(struct fae_lcache_user) == 64, "no two processes write one line");
_Static_assert(sizeof(struct fae_lcache) <= 2 * PAGE, "the rest is the shards'");

static struct fae_lcache_shard *shard_at(struct fae_lcache *cache, uint32_t i)
{
    return (struct fae_lcache_shard *)(cache->shards + i * cache->plan.shard_size);
}

static uint64_t random_bits(void)
{
    uint64_t bits;

    return getrandom(&bits, sizeof bits, 0) == sizeof bits ? bits : fae_now_ns();
}

void fae_lcache_init(void *mem, size_t size, const char *name)
{
    struct fae_lcache *cache = mem;
    uint32_t n_shards = 1;
    uint64_t version;

    while (n_shards < SHARDS_MAX && size / (n_shards * 2) >= FAE_LCACHE_SHARD_MIN)
        n_shards *= 2;
    FAE_ASSERT(strlen(name) < sizeof cache->name);
    strcpy(cache->name, name);
    cache->size = size;
    cache->shard_mask = n_shards - 1;
    cache->seed = random_bits();
    version = random_bits() >> VERSION_SHIFT;
    fae_lcache_plan(&cache->plan, (size - sizeof *cache) / n_shards / PAGE * PAGE);
    for (uint32_t i = 0; i < n_shards; i++)
        fae_lcache_shard_init(shard_at(cache, i), version);
    for (uint32_t i = 0; i < FAE_SLOTS_MAX; i++)
        cache->users[i].slot = i;
}

struct fae_lcache_user *fae_lcache_user(struct fae_lcache *cache, unsigned slot)
{
    FAE_ASSERT(slot < FAE_SLOTS_MAX);
    return &cache->users[slot];
}

static struct fae_lcache *cache_of(struct fae_lcache_user *user)
{
    return (struct fae_lcache *)((uint8_t *)(user - user->slot) - offsetof(struct fae_lcache, users));
}

static inline struct place place_of(struct fae_lcache_user *user, const uint8_t *key, size_t key_len)
{
    struct fae_lcache *cache = cache_of(user);
    uint64_t hash = XXH3_64bits_withSeed(key, key_len, cache->seed);

    FAE_ASSERT(key_len - 1 < FAE_LCACHE_KEY_MAX);
    return (struct place){
        .cache = cache,
        .shard = shard_at(cache, (uint32_t)(hash >> 58) & cache->shard_mask),
        .key = { key, (uint32_t)key_len, (uint32_t)hash },
    };
}

/* ---- get ---- */

static bool is_there(const struct fae_lcache_found *found)
{
    return found->at && (found->expires_ms == 0 || found->expires_ms > fae_lcache_now_ms());
}

/* As writers do: one was in the way. */
static bool get_slowly(const struct place *p, unsigned slot, uint8_t *buf, size_t cap, struct fae_lcache_found *found)
{
    if (!fae_lcache_enter(p->shard, &p->cache->plan, slot))
        return false;
    fae_lcache_find(p->shard, &p->cache->plan, &p->key, found);
    if (found->at)
        memcpy(buf, found->bytes, found->len < cap ? found->len : cap);
    fae_lcache_leave(p->shard);
    return true;
}

int fae_lcache_get(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, uint8_t *buf, size_t cap,
                   double *version_out)
{
    struct place p = place_of(user, key, key_len);
    struct fae_lcache_found found = { 0 };

    if (__builtin_expect(!fae_lcache_peek(p.shard, &p.cache->plan, &p.key, buf, cap, &found), 0) &&
        !get_slowly(&p, user->slot, buf, cap, &found))
        found.at = 0;
    if (!is_there(&found)) {
        FAE_STAT_ADD(user->n_misses, 1);
        return -1;
    }
    fae_lcache_mark(p.shard, &p.cache->plan, found.at);
    FAE_STAT_ADD(user->n_hits, 1);
    *version_out = (double)found.version;
    return (int)found.len;
}

/* ---- set and its kin ---- */

static uint64_t expiry(double ttl_ms)
{
    return ttl_ms > 0 ? fae_lcache_now_ms() + (uint64_t)ttl_ms : 0;
}

enum rule { ALWAYS, WHEN_ABSENT, WHEN_THERE, WHEN_SAME };

static inline bool allowed(enum rule rule, const struct fae_lcache_found *found, double version)
{
    switch (rule) {
    case ALWAYS: return true;
    case WHEN_ABSENT: return !is_there(found);
    case WHEN_THERE: return is_there(found);
    case WHEN_SAME: return is_there(found) && (double)found->version == version;
    }
    return false;
}

static inline int put(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *bytes,
                      size_t len, double ttl_ms, enum rule rule, double version)
{
    struct place p = place_of(user, key, key_len);
    struct fae_lcache_value value = { bytes, (uint32_t)len, expiry(ttl_ms) };
    struct fae_lcache_found found;
    bool may;

    FAE_ASSERT(len <= FAE_LCACHE_VALUE_MAX);
    fae_lcache_expect(p.shard, &p.cache->plan, p.key.hash);
    if (!fae_lcache_enter(p.shard, &p.cache->plan, user->slot))
        return FAE_LCACHE_BUSY;
    fae_lcache_find(p.shard, &p.cache->plan, &p.key, &found);
    may = allowed(rule, &found, version);
    if (may)
        fae_lcache_put(p.shard, &p.cache->plan, &p.key, &found, &value);
    fae_lcache_leave(p.shard);
    FAE_STAT_ADD(user->n_sets, may);
    return may;
}

int fae_lcache_set(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms)
{
    return put(user, key, key_len, value, len, ttl_ms, ALWAYS, 0);
}

int fae_lcache_add(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms)
{
    return put(user, key, key_len, value, len, ttl_ms, WHEN_ABSENT, 0);
}

int fae_lcache_replace(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value,
                       size_t len, double ttl_ms)
{
    return put(user, key, key_len, value, len, ttl_ms, WHEN_THERE, 0);
}

int fae_lcache_cas(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, const uint8_t *value, size_t len,
                   double ttl_ms, double version)
{
    return put(user, key, key_len, value, len, ttl_ms, WHEN_SAME, version);
}

/* ---- incr ---- */

/* "-12": the digits of an int64 and nothing else. */
static bool parse(const uint8_t *text, uint32_t len, int64_t *number_out)
{
    bool negative = len > 0 && text[0] == '-';
    uint32_t i = negative;
    int64_t n = 0;

    if (i == len)
        return false;
    for (; i < len; i++) {
        int digit = text[i] - '0';

        if (digit < 0 || digit > 9 || __builtin_mul_overflow(n, 10, &n) ||
            __builtin_sub_overflow(n, digit, &n)) /* downwards: there is one more of those */
            return false;
    }
    return negative ? (*number_out = n, true) : !__builtin_sub_overflow(0, n, number_out);
}

static int sum(const struct fae_lcache_found *found, int64_t by, bool init, int64_t *number_io)
{
    int64_t now;

    if (!is_there(found))
        return init ? FAE_LCACHE_YES : FAE_LCACHE_NO;
    if (!parse(found->bytes, found->len, &now))
        return FAE_LCACHE_BAD;
    return __builtin_add_overflow(now, by, number_io) ? FAE_LCACHE_RANGE : FAE_LCACHE_YES;
}

int fae_lcache_incr(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, int64_t by, double ttl_ms,
                    bool init, int64_t *number_io)
{
    struct place p = place_of(user, key, key_len);
    uint64_t expires_ms = expiry(ttl_ms);
    struct fae_lcache_found found;
    char text[INT64_DIGITS];
    int answer, len;

    if (!fae_lcache_enter(p.shard, &p.cache->plan, user->slot))
        return FAE_LCACHE_BUSY;
    fae_lcache_find(p.shard, &p.cache->plan, &p.key, &found);
    answer = sum(&found, by, init, number_io);
    if (answer == FAE_LCACHE_YES) {
        struct fae_lcache_value value = { .bytes = (uint8_t *)text };

        len = snprintf(text, sizeof text, "%" PRId64, *number_io);
        value.len = (uint32_t)len;
        value.expires_ms = is_there(&found) ? found.expires_ms : expires_ms;
        fae_lcache_put(p.shard, &p.cache->plan, &p.key, &found, &value);
    }
    fae_lcache_leave(p.shard);
    FAE_STAT_ADD(user->n_sets, answer == FAE_LCACHE_YES);
    return answer;
}

/* ---- del, touch, flush ---- */

int fae_lcache_del(struct fae_lcache_user *user, const uint8_t *key, size_t key_len)
{
    struct place p = place_of(user, key, key_len);
    struct fae_lcache_found found;
    bool was;

    if (!fae_lcache_enter(p.shard, &p.cache->plan, user->slot))
        return FAE_LCACHE_BUSY;
    fae_lcache_find(p.shard, &p.cache->plan, &p.key, &found);
    was = is_there(&found);
    if (found.at)
        fae_lcache_drop(p.shard, &p.cache->plan, &found);
    fae_lcache_leave(p.shard);
    FAE_STAT_ADD(user->n_deletes, was);
    return was;
}

int fae_lcache_touch(struct fae_lcache_user *user, const uint8_t *key, size_t key_len, double ttl_ms)
{
    struct place p = place_of(user, key, key_len);
    uint64_t expires_ms = expiry(ttl_ms);
    struct fae_lcache_found found;
    bool was;

    if (!fae_lcache_enter(p.shard, &p.cache->plan, user->slot))
        return FAE_LCACHE_BUSY;
    fae_lcache_find(p.shard, &p.cache->plan, &p.key, &found);
    was = is_there(&found);
    if (was)
        fae_lcache_expire(p.shard, &p.cache->plan, &found, expires_ms);
    fae_lcache_leave(p.shard);
    return was;
}

int fae_lcache_flush(struct fae_lcache_user *user)
{
    struct fae_lcache *cache = cache_of(user);
    int answer = FAE_LCACHE_YES;

    for (uint32_t i = 0; i <= cache->shard_mask; i++) {
        struct fae_lcache_shard *shard = shard_at(cache, i);

        if (!fae_lcache_enter(shard, &cache->plan, user->slot)) {
            answer = FAE_LCACHE_BUSY;
            continue;
        }
        if (FAE_STAT_GET(shard->n_items)) /* memory that was never written stays the system's */
            fae_lcache_clear(shard, &cache->plan);
        fae_lcache_leave(shard);
    }
    return answer;
}

void fae_lcache_reap(struct fae_lcache *cache, unsigned slot)
{
    for (uint32_t i = 0; i <= cache->shard_mask; i++)
        fae_lcache_bury(shard_at(cache, i), &cache->plan, slot);
}

/* ---- what is counted ---- */

struct sums {
    uint64_t n_items, n_bytes, n_evicted, n_expired, n_chances, n_resets, n_busy;
    uint64_t n_hits, n_misses, n_sets, n_deletes;
};

static void add_up(const struct fae_lcache *cache, struct sums *sums_out)
{
    struct sums s = { 0 };

    for (uint32_t i = 0; i <= cache->shard_mask; i++) {
        const struct fae_lcache_shard *shard = shard_at((struct fae_lcache *)cache, i);

        s.n_items += FAE_STAT_GET(shard->n_items);
        s.n_bytes += FAE_STAT_GET(shard->n_bytes);
        s.n_evicted += FAE_STAT_GET(shard->n_evicted);
        s.n_expired += FAE_STAT_GET(shard->n_expired);
        s.n_chances += FAE_STAT_GET(shard->n_chances);
        s.n_resets += FAE_STAT_GET(shard->n_resets);
        s.n_busy += FAE_STAT_GET(shard->n_busy);
    }
    for (uint32_t i = 0; i < FAE_SLOTS_MAX; i++) {
        const struct fae_lcache_user *user = &cache->users[i];

        s.n_hits += FAE_STAT_GET(user->n_hits);
        s.n_misses += FAE_STAT_GET(user->n_misses);
        s.n_sets += FAE_STAT_GET(user->n_sets);
        s.n_deletes += FAE_STAT_GET(user->n_deletes);
    }
    *sums_out = s;
}

void fae_lcache_stats(const struct fae_lcache *cache, fae_store_stat_fn tell, void *arg)
{
    struct sums s;
    char name[64];

    add_up(cache, &s);
    const struct row {
        const char *what, *help;
        bool counter;
        uint64_t value;
    } rows[] = {
        { "size_bytes", "Memory of the cache, all in all.", false, cache->size },
        { "bytes", "Of these, what entries take that can be found.", false, s.n_bytes },
        { "items", "Entries in the cache, some of which may have expired.", false, s.n_items },
        { "hits_total", "Gets that found what they asked for.", true, s.n_hits },
        { "misses_total", "Gets that did not.", true, s.n_misses },
        { "sets_total", "Values written to the cache.", true, s.n_sets },
        { "deletes_total", "Entries deleted on demand.", true, s.n_deletes },
        { "evictions_total", "Entries pushed out by others.", true, s.n_evicted },
        { "expired_total", "Expired entries whose room was needed.", true, s.n_expired },
        { "second_chances_total", "Entries kept, since they had been asked for.", true, s.n_chances },
        { "resets_total", "Shards emptied, since a process died while it wrote there.", true, s.n_resets },
        { "busy_total", "Calls that could not have their shard in time.", true, s.n_busy },
    };
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        snprintf(name, sizeof name, "%s_%s", cache->name, rows[i].what);
        tell(arg, name, rows[i].help, rows[i].counter, rows[i].value);
    }
}
