/* SPDX-License-Identifier: BSD-2-Clause
 *
 * store/kv_record: the bytes on disk, which must not change; vectors of vbuckets; chunks cut at every offset.
 */
#include "unit.h"

#include "store/kv_record.h"

static uint16_t bucket(const char *key)
{
    return fae_kv_vbucket(key, strlen(key));
}

/* xxh64 of "a" is d24ec4f1a98c6e5b, as its own tool says. */
static void test_vbuckets(void **state)
{
    (void)state;
    assert_int_equal(bucket("a"), 0xd24ec4f1a98c6e5bull % 1024);
    assert_int_equal(bucket("foo"), 0x33bf00a859c4ba3full % 1024);
    assert_int_equal(bucket("123456789"), 0x8cb841db40e6ae83ull % 1024);
    assert_int_equal(bucket("{foo}"), bucket("foo"));
    assert_int_equal(bucket("x{foo}y"), bucket("foo"));
    assert_int_equal(bucket("x{foo}{bar}"), bucket("foo"));
    assert_int_equal(bucket("{foo}}"), bucket("foo"));
}

static void test_hash_parts(void **state)
{
    static const struct {
        const char *key, *part;
        bool tag;
    } rows[] = {
        { "abc", "abc", false },   { "{abc}", "abc", true },  { "x{abc}y", "abc", true }, { "{}abc", "{}abc", false },
        { "{abc", "{abc", false }, { "abc}", "abc}", false }, { "}{a}", "a", true },      { "{}{a}", "{}{a}", false },
        { "{{a}", "{a", true },    { "{a}{b}", "a", true },   { "{ }", " ", true },       { "x}{", "x}{", false },
        { "", "", false },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        size_t len, n = strlen(rows[i].key);
        const char *part = fae_kv_hash_part(rows[i].key, n, &len);

        assert_int_equal(len, strlen(rows[i].part));
        assert_memory_equal(part, rows[i].part, len);
        assert_int_equal(fae_kv_has_tag(rows[i].key, n), rows[i].tag);
    }
    assert_true(fae_kv_has_tag("\0{\0}", 4));
}

static void test_bytes(void **state)
{
    static const uint8_t head[] = { 1, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 1, 0x86, 0xa0, 0, 0, 3 };
    static const uint8_t ttl[] = { 0, 0, 1, 0x86, 0xa0, 0, 0, 3, 1, 2, 'k', 'e', 'y' };
    static const uint8_t four[] = { 4, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 0 };
    struct fae_kv_bucket b = { FAE_KV_FROZEN, 7, 256 }, back;
    uint8_t out[600], key[FAE_KV_STORED_KEY_MAX];
    struct fae_kv_record r;

    (void)state;
    fae_kv_head_put(out, 258, 0x186a0000003ull);
    assert_memory_equal(out, head, sizeof head);
    memcpy(out + FAE_KV_HEAD, "val", 3);
    assert_true(fae_kv_record_read(out, FAE_KV_HEAD + 3, &r));
    assert_int_equal(r.version, 258);
    assert_int_equal(r.expires_ms, 0x186a0000003ull);
    assert_int_equal(r.len, 3);
    assert_memory_equal(r.value, "val", 3);
    assert_true(fae_kv_record_read(out, FAE_KV_HEAD, &r));
    assert_false(fae_kv_record_read(out, FAE_KV_HEAD - 1, &r));
    assert_false(fae_kv_record_read(out, 0, &r));
    out[0] = 2;
    assert_false(fae_kv_record_read(out, FAE_KV_HEAD, &r));

    assert_int_equal(fae_kv_key_put(key, 258, "key", 3), 5);
    assert_int_equal(fae_kv_ttl_put(out, 0x186a0000003ull, key, 5), sizeof ttl);
    assert_memory_equal(out, ttl, sizeof ttl);

    fae_kv_bucket_put(out, &b);
    assert_memory_equal(out, four, sizeof four);
    assert_true(fae_kv_bucket_read(out, sizeof four, &back));
    assert_int_equal(back.state, FAE_KV_FROZEN);
    assert_int_equal(back.epoch, 7);
    assert_int_equal(back.count, 256);
    assert_false(fae_kv_bucket_read(out, sizeof four - 1, &back));
    out[0] = FAE_KV_STATES;
    assert_false(fae_kv_bucket_read(out, sizeof four, &back));
}

static void test_times(void **state)
{
    (void)state;
    assert_false(fae_kv_expired(0, UINT64_MAX));
    assert_false(fae_kv_expired(1001, 1000));
    assert_true(fae_kv_expired(1000, 1000));
}

static void test_state_words(void **state)
{
    (void)state;
    for (unsigned i = 0; i < FAE_KV_STATES; i++)
        assert_int_equal(fae_kv_state_of(fae_kv_state_word(i), strlen(fae_kv_state_word(i))), i);
    assert_int_equal(fae_kv_state_of("activ", 5), FAE_KV_STATES);
    assert_int_equal(fae_kv_state_of("", 0), FAE_KV_STATES);
    assert_string_equal(fae_kv_state_word(99), "?");
}

static size_t put_record(uint8_t *out, const char *key, const char *value)
{
    size_t k = strlen(key), v = strlen(value);

    fae_kv_put_u16(out, (uint16_t)k);
    fae_kv_put_u32(out + 2, (uint32_t)v);
    fae_kv_put_u64(out + 6, 5);
    fae_kv_put_u64(out + 14, 6);
    memcpy(out + FAE_KV_CHUNK_RECORD, key, k);
    memcpy(out + FAE_KV_CHUNK_RECORD + k, value, v);
    return FAE_KV_CHUNK_RECORD + k + v;
}

/* Returns how many records a chunk has, -1 when it is broken. */
static int read_chunk(const uint8_t *bytes, size_t len)
{
    struct fae_kv_moved moved;
    uint16_t vbucket;
    size_t at;
    int n = 0, more;

    if (!fae_kv_chunk_open(bytes, len, &vbucket, &at))
        return -1;
    while ((more = fae_kv_chunk_next(bytes, len, &at, &moved)) > 0)
        n++;
    return more < 0 ? -1 : n;
}

static void test_chunks(void **state)
{
    uint8_t *chunk = malloc(200), *exact;
    size_t len = FAE_KV_CHUNK_HEAD, first;

    (void)state;
    fae_kv_chunk_begin(chunk, 1023);
    assert_int_equal(read_chunk(chunk, len), 0);
    len += put_record(chunk + len, "one", "1");
    first = len;
    len += put_record(chunk + len, "two", "");
    assert_int_equal(read_chunk(chunk, len), 2);
    for (size_t cut = 0; cut < len; cut++) {
        exact = malloc(cut ? cut : 1); /* so that a sanitizer sees a read behind it */
        memcpy(exact, chunk, cut);
        assert_int_equal(read_chunk(exact, cut), cut == FAE_KV_CHUNK_HEAD ? 0 : cut == first ? 1 : -1);
        free(exact);
    }
    fae_kv_put_u32(chunk + FAE_KV_CHUNK_HEAD + 2, UINT32_MAX);
    assert_int_equal(read_chunk(chunk, len), -1);
    fae_kv_put_u16(chunk + FAE_KV_CHUNK_HEAD, 0);
    assert_int_equal(read_chunk(chunk, len), -1);
    fae_kv_chunk_begin(chunk, 1024);
    assert_int_equal(read_chunk(chunk, len), -1);
    free(chunk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vbuckets), cmocka_unit_test(test_hash_parts),  cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_times),    cmocka_unit_test(test_state_words), cmocka_unit_test(test_chunks),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
