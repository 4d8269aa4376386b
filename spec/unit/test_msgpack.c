/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/msgpack: readers and writers by table.
 */
#include "unit_msgpack.h"

#include <float.h>
#include <math.h>

static void tokens_are_read(void **state)
{
    static const struct {
        const char *hex;
        enum fae_mp_type type;
        uint64_t u; /* or i, or the bits of f, or bool */
        unsigned len;
        int ext;
    } rows[] = {
        { "c0", FAE_MP_NIL, 0, 0, 0 },
        { "c2", FAE_MP_BOOL, 0, 0, 0 },
        { "c3", FAE_MP_BOOL, 1, 0, 0 },
        { "00", FAE_MP_UINT, 0, 0, 0 },
        { "7f", FAE_MP_UINT, 127, 0, 0 },
        { "cc ff", FAE_MP_UINT, 255, 0, 0 },
        { "cc 01", FAE_MP_UINT, 1, 0, 0 }, /* longer than need be */
        { "cd ffff", FAE_MP_UINT, 65535, 0, 0 },
        { "cd 0102", FAE_MP_UINT, 0x102, 0, 0 },
        { "ce ffffffff", FAE_MP_UINT, UINT32_MAX, 0, 0 },
        { "ce 01020304", FAE_MP_UINT, 0x1020304, 0, 0 },
        { "cf ffffffffffffffff", FAE_MP_UINT, UINT64_MAX, 0, 0 },
        { "cf 0102030405060708", FAE_MP_UINT, 0x102030405060708, 0, 0 },
        { "ff", FAE_MP_INT, (uint64_t)-1, 0, 0 },
        { "e0", FAE_MP_INT, (uint64_t)-32, 0, 0 },
        { "d0 80", FAE_MP_INT, (uint64_t)-128, 0, 0 },
        { "d0 7f", FAE_MP_UINT, 127, 0, 0 }, /* signed in form, not negative in value */
        { "d0 00", FAE_MP_UINT, 0, 0, 0 },
        { "d1 8000", FAE_MP_INT, (uint64_t)INT16_MIN, 0, 0 },
        { "d1 7fff", FAE_MP_UINT, 32767, 0, 0 },
        { "d2 80000000", FAE_MP_INT, (uint64_t)INT32_MIN, 0, 0 },
        { "d2 7fffffff", FAE_MP_UINT, INT32_MAX, 0, 0 },
        { "d3 8000000000000000", FAE_MP_INT, (uint64_t)INT64_MIN, 0, 0 },
        { "d3 7fffffffffffffff", FAE_MP_UINT, INT64_MAX, 0, 0 },
        { "d3 ffffffffffffffff", FAE_MP_INT, (uint64_t)-1, 0, 0 },
        { "ca 3fc00000", FAE_MP_FLOAT, 0x3ff8000000000000, 0, 0 },
        { "ca ff800000", FAE_MP_FLOAT, 0xfff0000000000000, 0, 0 },
        { "cb 3ff8000000000000", FAE_MP_FLOAT, 0x3ff8000000000000, 0, 0 },
        { "cb 8000000000000000", FAE_MP_FLOAT, 0x8000000000000000, 0, 0 },
        { "a0", FAE_MP_STR, 0, 0, 0 },
        { "a2 6162", FAE_MP_STR, 0, 2, 0 },
        { "d9 02 6162", FAE_MP_STR, 0, 2, 0 },
        { "da 0002 6162", FAE_MP_STR, 0, 2, 0 },
        { "db 00000002 6162", FAE_MP_STR, 0, 2, 0 },
        { "c4 02 6162", FAE_MP_BIN, 0, 2, 0 },
        { "c5 0002 6162", FAE_MP_BIN, 0, 2, 0 },
        { "c6 00000002 6162", FAE_MP_BIN, 0, 2, 0 },
        { "d4 ff 61", FAE_MP_EXT, 0, 1, -1 },
        { "d5 05 6162", FAE_MP_EXT, 0, 2, 5 },
        { "d6 05 61626364", FAE_MP_EXT, 0, 4, 5 },
        { "d7 05 6162636465666768", FAE_MP_EXT, 0, 8, 5 },
        { "d8 80 " X16, FAE_MP_EXT, 0, 16, -128 },
        { "c7 00 7f", FAE_MP_EXT, 0, 0, 127 },
        { "c7 03 7f 616263", FAE_MP_EXT, 0, 3, 127 },
        { "c8 0003 7f 616263", FAE_MP_EXT, 0, 3, 127 },
        { "c9 00000003 7f 616263", FAE_MP_EXT, 0, 3, 127 },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        uint8_t bytes[40];
        size_t len = from_hex(rows[i].hex, bytes);
        struct fae_mp_token t;

        memset(&t, 0x5a, sizeof t);
        assert_ptr_equal(fae_mp_read(bytes, &t), bytes + len);
        assert_int_equal(t.type, rows[i].type);
        switch (t.type) {
        case FAE_MP_BOOL: assert_int_equal(t.flag, rows[i].u); break;
        case FAE_MP_INT:
        case FAE_MP_UINT:
        case FAE_MP_FLOAT: assert_true(t.u == rows[i].u); break;
        case FAE_MP_EXT:
            assert_int_equal(t.ext, rows[i].ext);
            /* fall through */
        case FAE_MP_STR:
        case FAE_MP_BIN:
            assert_int_equal(t.len, rows[i].len);
            assert_ptr_equal(t.bytes + t.len, bytes + len);
            break;
        default: break;
        }
    }
}

static void containers_are_read(void **state)
{
    static const struct {
        const char *hex;
        enum fae_mp_type type;
        uint32_t n;
    } rows[] = {
        { "90", FAE_MP_ARRAY, 0 },
        { "9f", FAE_MP_ARRAY, 15 },
        { "dc 0102", FAE_MP_ARRAY, 0x102 },
        { "dd 00010203", FAE_MP_ARRAY, 0x10203 },
        { "80", FAE_MP_MAP, 0 },
        { "8f", FAE_MP_MAP, 15 },
        { "de 0102", FAE_MP_MAP, 0x102 },
        { "df 00010203", FAE_MP_MAP, 0x10203 },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        uint8_t bytes[8];
        size_t len = from_hex(rows[i].hex, bytes);
        struct fae_mp_token t;

        assert_ptr_equal(fae_mp_read(bytes, &t), bytes + len);
        assert_int_equal(t.type, rows[i].type);
        assert_int_equal(t.len, rows[i].n);
    }
}

static void expect(struct fae_buf *buf, const char *hex)
{
    uint8_t want[64];
    size_t len = from_hex(hex, want);

    assert_int_equal(buf->len, len);
    assert_memory_equal(buf->data, want, len);
    buf->len = 0;
}

static void integers_take_the_shortest_form(void **state)
{
    static const struct {
        int64_t v;
        const char *hex;
    } rows[] = {
        { 0, "00" },
        { 127, "7f" },
        { 128, "cc80" },
        { 255, "ccff" },
        { 256, "cd0100" },
        { 65535, "cdffff" },
        { 65536, "ce00010000" },
        { UINT32_MAX, "ceffffffff" },
        { 1ll << 32, "cf0000000100000000" },
        { INT64_MAX, "cf7fffffffffffffff" },
        { -1, "ff" },
        { -32, "e0" },
        { -33, "d0df" },
        { -128, "d080" },
        { -129, "d1ff7f" },
        { -32768, "d18000" },
        { -32769, "d2ffff7fff" },
        { INT32_MIN, "d280000000" },
        { INT32_MIN - 1ll, "d3ffffffff7fffffff" },
        { INT64_MIN, "d38000000000000000" },
    };
    struct fae_buf buf = { 0 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        fae_mp_int(&buf, rows[i].v);
        expect(&buf, rows[i].hex);
        if (rows[i].v >= 0) {
            fae_mp_uint(&buf, (uint64_t)rows[i].v);
            expect(&buf, rows[i].hex);
        }
    }
    fae_mp_uint(&buf, UINT64_MAX);
    expect(&buf, "cfffffffffffffffff");
    fae_buf_fini(&buf);
}

static void other_values_take_the_shortest_form(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    fae_mp_nil(&buf);
    fae_mp_bool(&buf, true);
    fae_mp_bool(&buf, false);
    expect(&buf, "c0c3c2");
    fae_mp_float(&buf, 1.5);
    expect(&buf, "cb3ff8000000000000");
    FAE_MP_TEXT(&buf, "ab");
    expect(&buf, "a26162");
    fae_mp_str(&buf, NULL, 0);
    fae_mp_bin(&buf, NULL, 0);
    expect(&buf, "a0c400");
    fae_mp_ext(&buf, -1, "a", 1);
    fae_mp_ext(&buf, 5, "", 0);
    fae_mp_ext(&buf, 5, "abc", 3);
    expect(&buf, "d4ff61 c70005 c70305616263");
    fae_mp_array(&buf, 15);
    fae_mp_array(&buf, 16);
    fae_mp_array(&buf, 65535);
    fae_mp_array(&buf, 65536);
    expect(&buf, "9f dc0010 dcffff dd00010000");
    fae_mp_map(&buf, 15);
    fae_mp_map(&buf, 16);
    fae_mp_map(&buf, 65535);
    fae_mp_map(&buf, 65536);
    expect(&buf, "8f de0010 deffff df00010000");
    fae_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tokens_are_read),
        cmocka_unit_test(containers_are_read),
        cmocka_unit_test(integers_take_the_shortest_form),
        cmocka_unit_test(other_values_take_the_shortest_form),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
