/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/msgpack: the scan as tables of bytes, fed whole, cut at every offset and a byte at a time; readers and writers
 * by table and against msgpack-c on random values and random bytes.
 */
#include "unit.h"

#include <float.h>
#include <math.h>
#include <msgpack.h>

#include "wire/msgpack.h"

#define MAX 4096u

/* Scans a copy of exactly that size, so that a read beyond it is seen. */
static enum fae_err scan_some(struct fae_mp_scan *scan, const uint8_t *bytes, size_t len, size_t max)
{
    uint8_t *copy = malloc(len ? len : 1);
    enum fae_err err;

    if (len)
        memcpy(copy, bytes, len);
    err = fae_mp_scan(scan, copy, len, max);
    free(copy);
    return err;
}

static enum fae_err scan_whole(const uint8_t *bytes, size_t len, size_t max, size_t *pos_out)
{
    struct fae_mp_scan scan;
    enum fae_err err;

    fae_mp_scan_init(&scan);
    err = scan_some(&scan, bytes, len, max);
    *pos_out = scan.pos;
    return err;
}

/* However the bytes come in, the end is the same, and a whole value is never seen early or late. */
static void scan_in_pieces(const uint8_t *bytes, size_t len, size_t max, enum fae_err want, size_t want_pos)
{
    struct fae_mp_scan scan;
    enum fae_err err;

    for (size_t cut = 0; cut <= len; cut++) {
        fae_mp_scan_init(&scan);
        err = scan_some(&scan, bytes, cut, max);
        if (want == FAE_OK)
            assert_int_equal(err, cut < want_pos ? FAE_MORE : FAE_OK);
        else
            assert_true(err == FAE_MORE || err == want);
        if (err == FAE_MORE)
            err = scan_some(&scan, bytes, len, max);
        assert_int_equal(err, want);
        if (want == FAE_OK)
            assert_int_equal(scan.pos, want_pos);
    }
    fae_mp_scan_init(&scan);
    err = FAE_MORE;
    for (size_t n = 0; n <= len && err == FAE_MORE; n++)
        err = scan_some(&scan, bytes, n, max);
    assert_int_equal(err, want);
    if (want == FAE_OK)
        assert_int_equal(scan.pos, want_pos);
}

static size_t from_hex(const char *hex, uint8_t *bytes)
{
    size_t n = 0;

    for (; *hex; hex++)
        if (*hex != ' ') {
            unsigned v;

            assert_int_equal(sscanf(hex, "%2x", &v), 1);
            bytes[n++] = (uint8_t)v;
            hex++;
        }
    return n;
}

/* ---- scan ---- */

#define X16 "00010203 04050607 08090a0b 0c0d0e0f"

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

/* ---- readers and writers ---- */

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

/* ---- msgpack-c as the oracle ---- */

struct pair {
    struct fae_buf ours;
    msgpack_sbuffer theirs;
    msgpack_packer packer;
    uint64_t seed;
};

static size_t random_len(struct pair *p)
{
    static const size_t edges[] = { 0, 1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 255, 256, 257, 65535, 65536 };
    uint64_t r = unit_random(&p->seed);

    return r % 4 ? r / 4 % 40 : edges[r / 4 % (r / 4 % 50 ? UNIT_N(edges) - 2 : UNIT_N(edges))];
}

static void random_body(struct pair *p, unsigned kind)
{
    static char bytes[65536];
    size_t len = random_len(p);
    int8_t type = (int8_t)unit_random(&p->seed);

    memset(bytes, (int)unit_random(&p->seed), len);
    switch (kind) {
    case 0:
        fae_mp_str(&p->ours, bytes, len);
        msgpack_pack_str(&p->packer, len);
        msgpack_pack_str_body(&p->packer, bytes, len);
        break;
    case 1:
        fae_mp_bin(&p->ours, bytes, len);
        msgpack_pack_bin(&p->packer, len);
        msgpack_pack_bin_body(&p->packer, bytes, len);
        break;
    default:
        fae_mp_ext(&p->ours, type, bytes, len);
        msgpack_pack_ext(&p->packer, len, type);
        msgpack_pack_ext_body(&p->packer, bytes, len);
    }
}

static void random_number(struct pair *p, unsigned kind)
{
    uint64_t v = unit_random(&p->seed) >> (unit_random(&p->seed) % 64);
    double d;

    if (unit_random(&p->seed) % 4 == 0)
        v = (1ull << (unit_random(&p->seed) % 64)) - unit_random(&p->seed) % 3; /* around the edges */
    memcpy(&d, &v, sizeof d);
    switch (kind) {
    case 0:
        fae_mp_uint(&p->ours, v);
        msgpack_pack_uint64(&p->packer, v);
        break;
    case 1:
        fae_mp_int(&p->ours, (int64_t)v);
        msgpack_pack_int64(&p->packer, (int64_t)v);
        break;
    case 2:
        fae_mp_int(&p->ours, -(int64_t)(v >> 1));
        msgpack_pack_int64(&p->packer, -(int64_t)(v >> 1));
        break;
    default: fae_mp_float(&p->ours, d); msgpack_pack_double(&p->packer, d);
    }
}

static void random_value(struct pair *p, unsigned depth)
{
    uint64_t kind = unit_random(&p->seed) % (depth < 6 ? 13 : 10), n;

    switch (kind) {
    case 0:
        fae_mp_nil(&p->ours);
        msgpack_pack_nil(&p->packer);
        break;
    case 1:
        fae_mp_bool(&p->ours, true);
        msgpack_pack_true(&p->packer);
        break;
    case 2:
        fae_mp_bool(&p->ours, false);
        msgpack_pack_false(&p->packer);
        break;
    case 3:
    case 4:
    case 5: random_body(p, (unsigned)kind - 3); break;
    case 6:
    case 7:
    case 8:
    case 9: random_number(p, (unsigned)kind - 6); break;
    default:
        n = unit_random(&p->seed) % (depth < 2 ? 20 : 4);
        if (kind == 10) {
            fae_mp_map(&p->ours, (uint32_t)n);
            msgpack_pack_map(&p->packer, n);
            n *= 2;
        } else {
            fae_mp_array(&p->ours, (uint32_t)n);
            msgpack_pack_array(&p->packer, n);
        }
        while (n--)
            random_value(p, depth + 1);
    }
}

static void same_body(const struct fae_mp_token *t, enum fae_mp_type type, const char *bytes, uint32_t len)
{
    assert_int_equal(t->type, type);
    assert_int_equal(t->len, len);
    assert_memory_equal(t->bytes, bytes, len);
}

/* Reads the value at p and compares it with theirs; returns its end. */
static const uint8_t *same(const uint8_t *p, const msgpack_object *o)
{
    const uint8_t *end = fae_mp_skip(p);
    struct fae_mp_token t;
    double d;

    p = fae_mp_read(p, &t);
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: assert_int_equal(t.type, FAE_MP_NIL); break;
    case MSGPACK_OBJECT_BOOLEAN:
        assert_int_equal(t.type, FAE_MP_BOOL);
        assert_int_equal(t.flag, o->via.boolean);
        break;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        assert_int_equal(t.type, FAE_MP_UINT);
        assert_true(t.u == o->via.u64);
        break;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER:
        assert_int_equal(t.type, FAE_MP_INT);
        assert_true(t.i == o->via.i64);
        break;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64:
        assert_int_equal(t.type, FAE_MP_FLOAT);
        d = o->via.f64;
        assert_true(t.f == d || (isnan(t.f) && isnan(d)));
        break;
    case MSGPACK_OBJECT_STR: same_body(&t, FAE_MP_STR, o->via.str.ptr, o->via.str.size); break;
    case MSGPACK_OBJECT_BIN: same_body(&t, FAE_MP_BIN, o->via.bin.ptr, o->via.bin.size); break;
    case MSGPACK_OBJECT_EXT:
        same_body(&t, FAE_MP_EXT, o->via.ext.ptr, o->via.ext.size);
        assert_int_equal(t.ext, o->via.ext.type);
        break;
    case MSGPACK_OBJECT_ARRAY:
        assert_int_equal(t.type, FAE_MP_ARRAY);
        assert_int_equal(t.len, o->via.array.size);
        for (uint32_t i = 0; i < t.len; i++)
            p = same(p, &o->via.array.ptr[i]);
        break;
    case MSGPACK_OBJECT_MAP:
        assert_int_equal(t.type, FAE_MP_MAP);
        assert_int_equal(t.len, o->via.map.size);
        for (uint32_t i = 0; i < t.len; i++) {
            p = same(p, &o->via.map.ptr[i].key);
            p = same(p, &o->via.map.ptr[i].val);
        }
        break;
    }
    assert_ptr_equal(p, end);
    return p;
}

static void random_values_are_written_and_read_as_msgpack_c_does(void **state)
{
    struct pair p = { .seed = 0x9e3779b97f4a7c15 };

    (void)state;
    msgpack_sbuffer_init(&p.theirs);
    msgpack_packer_init(&p.packer, &p.theirs, msgpack_sbuffer_write);
    for (unsigned i = 0; i < 20000; i++) {
        msgpack_unpacked theirs;
        size_t pos, off = 0;

        p.ours.len = 0;
        msgpack_sbuffer_clear(&p.theirs);
        random_value(&p, 0);
        assert_int_equal(p.ours.len, p.theirs.size);
        assert_memory_equal(p.ours.data, p.theirs.data, p.theirs.size);
        assert_int_equal(scan_whole(p.ours.data, p.ours.len, 64u << 20, &pos), FAE_OK);
        assert_int_equal(pos, p.ours.len);
        msgpack_unpacked_init(&theirs);
        assert_int_equal(msgpack_unpack_next(&theirs, p.theirs.data, p.theirs.size, &off), MSGPACK_UNPACK_SUCCESS);
        assert_ptr_equal(same(p.ours.data, &theirs.data), p.ours.data + p.ours.len);
        msgpack_unpacked_destroy(&theirs);
        if (p.ours.len < 60)
            scan_in_pieces(p.ours.data, p.ours.len, 64u << 20, FAE_OK, p.ours.len);
    }
    msgpack_sbuffer_destroy(&p.theirs);
    fae_buf_fini(&p.ours);
}

/* Bytes that nobody wrote on purpose: all forms of a number, cut values, nonsense. */
static void random_bytes_are_judged_as_msgpack_c_does(void **state)
{
    unsigned n[3] = { 0 };
    uint64_t seed = 42;

    (void)state;
    for (unsigned i = 0; i < 60000; i++) {
        uint8_t bytes[24];
        size_t len = unit_random(&seed) % (sizeof bytes + 1), pos, off = 0;
        msgpack_unpacked theirs;
        enum fae_err err;

        for (size_t b = 0; b < len; b++) {
            uint64_t r = unit_random(&seed);

            /* Mostly heads of small things, so that values become whole. */
            bytes[b] = (uint8_t)(r % 3 ? r / 3 : r % 2 ? 0xc0 + r / 6 % 32 : r / 6 % 4);
        }
        if (len && i % 2) /* and often several of them */
            bytes[0] = (uint8_t)(0x92 + i / 2 % 5);
        err = scan_whole(bytes, len, 1000, &pos);
        if (err == FAE_LIMIT) /* msgpack-c would ask for the memory */
            continue;
        msgpack_unpacked_init(&theirs);
        switch (msgpack_unpack_next(&theirs, (const char *)bytes, len, &off)) {
        case MSGPACK_UNPACK_SUCCESS:
            assert_int_equal(err, FAE_OK);
            assert_int_equal(pos, off);
            assert_ptr_equal(same(bytes, &theirs.data), bytes + pos);
            n[0]++;
            break;
        case MSGPACK_UNPACK_CONTINUE:
            assert_int_equal(err, FAE_MORE);
            n[1]++;
            break;
        case MSGPACK_UNPACK_PARSE_ERROR:
            assert_int_equal(err, FAE_BAD_MESSAGE);
            n[2]++;
            break;
        default: fail();
        }
        msgpack_unpacked_destroy(&theirs);
        scan_in_pieces(bytes, len, 1000, err, pos);
    }
    for (unsigned i = 0; i < UNIT_N(n); i++)
        assert_true(n[i] > 500);
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
        cmocka_unit_test(tokens_are_read),
        cmocka_unit_test(containers_are_read),
        cmocka_unit_test(integers_take_the_shortest_form),
        cmocka_unit_test(other_values_take_the_shortest_form),
        cmocka_unit_test(random_values_are_written_and_read_as_msgpack_c_does),
        cmocka_unit_test(random_bytes_are_judged_as_msgpack_c_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
