/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/msgpack: the scan as tables of bytes, fed whole, cut at every offset and a byte at a time.
 */
#include "unit_msgpack.h"

#define MAX 4096u

static const struct {
    const char *hex;
    enum fae_err want;
    unsigned pos; /* OK: the value's length; BAD_MESSAGE: of the bad byte */
} scans[] = {
    /* one token of each kind */
    { "00", FAE_OK, 1 },
    { "7f", FAE_OK, 1 },
    { "e0", FAE_OK, 1 },
    { "ff", FAE_OK, 1 },
    { "c0", FAE_OK, 1 },
    { "c2", FAE_OK, 1 },
    { "c3", FAE_OK, 1 },
    { "cc ff", FAE_OK, 2 },
    { "cd ffff", FAE_OK, 3 },
    { "ce ffffffff", FAE_OK, 5 },
    { "cf ffffffffffffffff", FAE_OK, 9 },
    { "d0 80", FAE_OK, 2 },
    { "d1 8000", FAE_OK, 3 },
    { "d2 80000000", FAE_OK, 5 },
    { "d3 8000000000000000", FAE_OK, 9 },
    { "ca 7f800000", FAE_OK, 5 },
    { "cb 7ff0000000000000", FAE_OK, 9 },
    { "a0", FAE_OK, 1 },
    { "a3 616263", FAE_OK, 4 },
    { "bf " X16 "00010203 04050607 08090a0b 0c0d0e", FAE_OK, 32 },
    { "d9 00", FAE_OK, 2 },
    { "d9 03 616263", FAE_OK, 5 },
    { "da 0003 616263", FAE_OK, 6 },
    { "db 00000003 616263", FAE_OK, 8 },
    { "c4 00", FAE_OK, 2 },
    { "c4 03 c1c1c1", FAE_OK, 5 }, /* what a body holds is not looked at */
    { "c5 0003 c1c1c1", FAE_OK, 6 },
    { "c6 00000003 c1c1c1", FAE_OK, 8 },
    { "c7 00 01", FAE_OK, 3 },
    { "c7 03 01 616263", FAE_OK, 6 },
    { "c8 0003 01 616263", FAE_OK, 7 },
    { "c9 00000003 01 616263", FAE_OK, 9 },
    { "d4 01 00", FAE_OK, 3 },
    { "d5 01 0001", FAE_OK, 4 },
    { "d6 01 00010203", FAE_OK, 6 },
    { "d7 01 0001020304050607", FAE_OK, 10 },
    { "d8 01 " X16, FAE_OK, 18 },
    /* containers */
    { "90", FAE_OK, 1 },
    { "80", FAE_OK, 1 },
    { "dc 0000", FAE_OK, 3 },
    { "dd 00000000", FAE_OK, 5 },
    { "de 0000", FAE_OK, 3 },
    { "df 00000000", FAE_OK, 5 },
    { "92 01 02", FAE_OK, 3 },
    { "9f 00010203 04050607 08090a0b 0c0d0e", FAE_OK, 16 },
    { "dc 0002 01 02", FAE_OK, 5 },
    { "dd 00000002 01 02", FAE_OK, 7 },
    { "81 a161 01", FAE_OK, 4 },
    { "82 a161 80 a162 90", FAE_OK, 7 },
    { "de 0001 01 02", FAE_OK, 5 },
    { "df 00000001 01 02", FAE_OK, 7 },
    { "93 90 80 91 c0", FAE_OK, 5 },
    { "91 91 91 91 a3616263", FAE_OK, 8 },
    { "81 90 80", FAE_OK, 3 }, /* a container as a key is sound msgpack */
    { "81 81 01 02 03", FAE_OK, 5 },
    { "94 00 cd1234 a873 79732e706f6e67 90", FAE_OK, 15 },
    /* what follows a value is not its */
    { "01 c1", FAE_OK, 1 },
    { "90 90", FAE_OK, 1 },
    { "92 a0 a0 ff", FAE_OK, 3 },
    { "a161 a162", FAE_OK, 2 },
    { "91 a161 c1", FAE_OK, 3 },
    /* the one byte that is nothing */
    { "c1", FAE_BAD_MESSAGE, 0 },
    { "91 c1", FAE_BAD_MESSAGE, 1 },
    { "92 a3616263 c1", FAE_BAD_MESSAGE, 5 },
    { "81 01 c1", FAE_BAD_MESSAGE, 2 },
    /* announced lengths that cannot fit, told at once */
    { "dd ffffffff", FAE_LIMIT, 0 },
    { "df ffffffff", FAE_LIMIT, 0 },
    { "df 80000000", FAE_LIMIT, 0 },
    { "db ffffffff", FAE_LIMIT, 0 },
    { "c6 ffffffff", FAE_LIMIT, 0 },
    { "c9 ffffffff 01", FAE_LIMIT, 0 },
    { "dc ffff", FAE_LIMIT, 0 },
    { "de 8000", FAE_LIMIT, 0 },
    { "da ffff", FAE_LIMIT, 0 },
    { "c5 ffff", FAE_LIMIT, 0 },
    { "c8 ffff 01", FAE_LIMIT, 0 },
    { "92 01 db ffffffff", FAE_LIMIT, 0 },
    { "81 dd ffffffff", FAE_LIMIT, 0 },
    { "81 01 df ffffffff", FAE_LIMIT, 0 },
};

static void values_are_scanned_however_they_come(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(scans); i++) {
        uint8_t bytes[100];
        size_t len = from_hex(scans[i].hex, bytes), pos;

        if (scan_whole(bytes, len, MAX, &pos) != scans[i].want)
            fail_msg("%s: %s", scans[i].hex, fae_err_name(scan_whole(bytes, len, MAX, &pos)));
        if (scans[i].want != FAE_LIMIT)
            assert_int_equal(pos, scans[i].pos);
        scan_in_pieces(bytes, len, MAX, scans[i].want, scans[i].pos);
        if (scans[i].want == FAE_OK)
            assert_ptr_equal(fae_mp_skip(bytes), bytes + pos);
    }
}

/* Exactly max is allowed, and one less is refused, as soon as it can be known. */
static void max_is_the_longest(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(scans); i++) {
        uint8_t bytes[100];
        size_t len = from_hex(scans[i].hex, bytes), pos;

        if (scans[i].want != FAE_OK)
            continue;
        len = scans[i].pos;
        assert_int_equal(scan_whole(bytes, len, len, &pos), FAE_OK);
        assert_int_equal(pos, len);
        assert_int_equal(scan_whole(bytes, len, len - 1, &pos), FAE_LIMIT);
        /* A reader that never takes more than max must not be told to wait for more. */
        assert_int_equal(scan_whole(bytes, len - 1, len - 1, &pos), FAE_LIMIT);
        scan_in_pieces(bytes, len, len, FAE_OK, len);
        scan_in_pieces(bytes, len, len - 1, FAE_LIMIT, 0);
    }
}

static void a_length_is_refused_before_its_bytes_come(void **state)
{
    static const struct {
        const char *hex;
        size_t max;
        enum fae_err want;
    } rows[] = {
        { "da 0ffd", 4096, FAE_MORE },         { "da 0ffe", 4096, FAE_LIMIT },
        { "db 003ffffb", 4u << 20, FAE_MORE }, { "db 003ffffc", 4u << 20, FAE_LIMIT },
        { "dc 0ffd", 4096, FAE_MORE },         { "dc 0ffe", 4096, FAE_LIMIT },
        { "de 07fe", 4096, FAE_MORE },         { "de 07ff", 4096, FAE_LIMIT },
        { "c8 0ffc 01", 4096, FAE_MORE },      { "c8 0ffd 01", 4096, FAE_LIMIT },
        { "dd 000f4240", 4u << 20, FAE_MORE }, { "dd 000f4241", 4u << 20, FAE_LIMIT },
        { "df 0007a120", 4u << 20, FAE_MORE }, { "df 0007a121", 4u << 20, FAE_LIMIT },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        uint8_t bytes[16];
        size_t len = from_hex(rows[i].hex, bytes), pos;

        assert_int_equal(scan_whole(bytes, len, rows[i].max, &pos), rows[i].want);
    }
}

static void depth_has_a_limit(void **state)
{
    static const uint8_t opens[][2] = { { 0x91, 1 }, { 0x81, 2 } }; /* array, map (as a key) */

    (void)state;
    for (unsigned kind = 0; kind < UNIT_N(opens); kind++) {
        uint8_t bytes[300];
        size_t pos, n = 0;

        for (unsigned i = 0; i < FAE_DEPTH_MAX; i++)
            bytes[n++] = opens[kind][0];
        bytes[n++] = 0xc0;
        if (kind == 1) /* every key has a value */
            for (unsigned i = 0; i < FAE_DEPTH_MAX; i++)
                bytes[n++] = 0xc0;
        assert_int_equal(scan_whole(bytes, n, MAX, &pos), FAE_OK);
        scan_in_pieces(bytes, n, MAX, FAE_OK, n);
        bytes[FAE_DEPTH_MAX] = 0x90; /* even an empty one is one level more */
        assert_int_equal(scan_whole(bytes, n, MAX, &pos), FAE_LIMIT);
        bytes[FAE_DEPTH_MAX] = opens[kind][0];
        assert_int_equal(scan_whole(bytes, n, MAX, &pos), FAE_LIMIT);
        scan_in_pieces(bytes, n, MAX, FAE_LIMIT, 0);
    }
}

static void depth_is_given_back(void **state)
{
    uint8_t bytes[1000] = { 0xdc, 0x00, 100 };
    size_t n = 3, pos;

    (void)state;
    for (unsigned i = 0; i < 100; i++) { /* a hundred siblings, each as deep as 3 */
        bytes[n++] = 0x91;
        bytes[n++] = 0x91;
        bytes[n++] = 0x90;
    }
    assert_int_equal(scan_whole(bytes, n, MAX, &pos), FAE_OK);
    assert_int_equal(pos, n);
}

static void elements_are_counted_over_all_levels(void **state)
{
    const uint32_t n = FAE_ELEMENTS_MAX;
    struct fae_buf buf = { 0 };
    size_t pos;

    (void)state;
    fae_mp_array(&buf, n);
    memset(fae_buf_room(&buf, n), 0xc0, n);
    buf.len += n;
    assert_int_equal(scan_whole(buf.data, buf.len, 4u << 20, &pos), FAE_OK);
    assert_int_equal(pos, buf.len);

    buf.len = 0;
    fae_mp_array(&buf, 2);
    for (unsigned half = 0; half < 2; half++) {
        fae_mp_array(&buf, n / 2 - 1);
        memset(fae_buf_room(&buf, n / 2 - 1), 0xc0, n / 2 - 1);
        buf.len += n / 2 - 1;
    }
    assert_int_equal(scan_whole(buf.data, buf.len, 4u << 20, &pos), FAE_OK);
    buf.data[buf.len - (n / 2 - 1) - 1]++; /* the second half announces one more */
    fae_mp_nil(&buf);
    assert_int_equal(scan_whole(buf.data, buf.len, 4u << 20, &pos), FAE_LIMIT);

    buf.len = 0;
    fae_mp_map(&buf, n / 2 + 1);
    assert_int_equal(scan_whole(buf.data, buf.len, 4u << 20, &pos), FAE_LIMIT);
    fae_buf_fini(&buf);
}

/* faults.md I3 */
static void bombs_are_defused(void **state)
{
    static const struct {
        const char *hex;
        unsigned times, pos_max; /* where at the latest it must be noticed */
    } rows[] = {
        { "91", 10000, FAE_DEPTH_MAX + 1 }, { "81", 10000, FAE_DEPTH_MAX + 1 }, { "dcffff", 24000, 3 * 17 },
        { "deffff", 24000, 3 * 9 },         { "dd000f4240", 10000, 10 },        { "81dd000f423d", 10000, 12 },
    };
    uint8_t *bytes = malloc(24000 * 6);

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        uint8_t one[8];
        size_t len = from_hex(rows[i].hex, one), pos;
        struct fae_mp_scan scan;
        enum fae_err err = FAE_MORE;

        for (unsigned t = 0; t < rows[i].times; t++)
            memcpy(bytes + t * len, one, len);
        assert_int_equal(scan_whole(bytes, len * rows[i].times, 4u << 20, &pos), FAE_LIMIT);
        assert_true(pos <= rows[i].pos_max);
        fae_mp_scan_init(&scan);
        for (pos = 0; err == FAE_MORE; pos++)
            err = fae_mp_scan(&scan, bytes, pos, 4u << 20);
        assert_int_equal(err, FAE_LIMIT);
        assert_true(pos <= rows[i].pos_max + 2);
    }
    free(bytes);
}

/* 4 MiB a byte at a time looks at each byte about once: were it quadratic, this would take minutes. */
static void a_big_message_in_single_bytes_costs_one_scan(void **state)
{
    const uint32_t n = 900000;
    struct fae_mp_scan scan;
    struct fae_buf buf = { 0 };
    enum fae_err err = FAE_MORE;
    clock_t before;
    size_t len;

    (void)state;
    fae_mp_array(&buf, n);
    for (uint32_t i = 0; i < n; i++)
        fae_mp_uint(&buf, i * 7919ull);
    before = clock();
    fae_mp_scan_init(&scan);
    for (len = 0; err == FAE_MORE; len++)
        err = fae_mp_scan(&scan, buf.data, len, 8u << 20);
    assert_int_equal(err, FAE_OK);
    assert_int_equal(len - 1, buf.len);
    assert_int_equal(scan.pos, buf.len);
    assert_true((double)(clock() - before) / CLOCKS_PER_SEC < 5);
    fae_buf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_scanned_however_they_come),
        cmocka_unit_test(max_is_the_longest),
        cmocka_unit_test(a_length_is_refused_before_its_bytes_come),
        cmocka_unit_test(depth_has_a_limit),
        cmocka_unit_test(depth_is_given_back),
        cmocka_unit_test(elements_are_counted_over_all_levels),
        cmocka_unit_test(bombs_are_defused),
        cmocka_unit_test(a_big_message_in_single_bytes_costs_one_scan),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
