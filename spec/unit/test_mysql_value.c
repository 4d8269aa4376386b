/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/mysql_value: rows as the server sends them, whole, cut anywhere, and of random bytes.
 */
#include "unit.h"

#include <mysql.h>

#include "backend/mysql_value.h"
#include "wire/msgpack.h"

#define COLUMN(kind, ...)                                                                                              \
    {                                                                                                                  \
        .type = MYSQL_TYPE_##kind, __VA_ARGS__                                                                         \
    }

/* A column, its bytes in a row, and what comes of them as text. */
static const struct {
    struct fae_mysql_column column;
    const char *bytes;
    size_t len;
    const char *text;
} values[] = {
#define BYTES(literal) literal, sizeof(literal) - 1
    { COLUMN(TINY), BYTES("\xff"), "-1" },
    { COLUMN(TINY, .is_unsigned = true), BYTES("\xff"), "255" },
    { COLUMN(SHORT), BYTES("\xfe\xff"), "-2" },
    { COLUMN(YEAR, .is_unsigned = true), BYTES("\xea\x07"), "2026" },
    { COLUMN(INT24), BYTES("\xff\xff\xff\xff"), "-1" },
    { COLUMN(LONG), BYTES("\x01\x00\x00\x80"), "-2147483647" },
    { COLUMN(LONG, .is_unsigned = true), BYTES("\x01\x00\x00\x80"), "2147483649" },
    { COLUMN(LONGLONG), BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), "-1" },
    { COLUMN(LONGLONG, .is_unsigned = true), BYTES("\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615" },
    { COLUMN(FLOAT), BYTES("\xcd\xcc\xcc\x3d"), "0.1" },
    { COLUMN(DOUBLE), BYTES("\x00\x00\x00\x00\x00\x00\xf8\x3f"), "1.5" },
    { COLUMN(BIT), BYTES("\x02\x0f\xff"), "4095" },
    { COLUMN(NEWDECIMAL), BYTES("\x04-1.5"), "'-1.5'" },
    { COLUMN(VAR_STRING), BYTES("\x00"), "''" },
    { COLUMN(BLOB), BYTES("\x03\x01\x02\x03"), "'\x01\x02\x03'" },
    { COLUMN(JSON), BYTES("\x02{}"), "'{}'" },
    { COLUMN(DATE), BYTES("\x04\xea\x07\x01\x02"), "'2026-01-02'" },
    { COLUMN(DATE), BYTES("\x00"), "'0000-00-00'" },
    { COLUMN(DATETIME), BYTES("\x00"), "'0000-00-00 00:00:00'" },
    { COLUMN(DATETIME), BYTES("\x04\xea\x07\x01\x02"), "'2026-01-02 00:00:00'" },
    { COLUMN(TIMESTAMP), BYTES("\x07\xea\x07\x01\x02\x03\x04\x05"), "'2026-01-02 03:04:05'" },
    { COLUMN(DATETIME, .decimals = 3), BYTES("\x0b\xea\x07\x01\x02\x03\x04\x05\x70\x94\x0a\x00"),
      "'2026-01-02 03:04:05.693'" },
    { COLUMN(DATETIME, .decimals = 39), BYTES("\x0b\xea\x07\x01\x02\x03\x04\x05\x01\x00\x00\x00"),
      "'2026-01-02 03:04:05.000001'" },
    { COLUMN(TIME), BYTES("\x00"), "'00:00:00'" },
    { COLUMN(TIME), BYTES("\x08\x01\x22\x00\x00\x00\x16\x3b\x3b"), "'-838:59:59'" },
    { COLUMN(TIME, .decimals = 6), BYTES("\x0c\x00\x00\x00\x00\x00\x01\x02\x03\x01\x00\x00\x00"), "'01:02:03.000001'" },
    { COLUMN(NULL), BYTES(""), "nil" },
#undef BYTES
};
#define N_VALUES (sizeof values / sizeof *values)

static const uint8_t *show(const uint8_t *p, char *text, size_t size)
{
    struct fae_mp_token t;

    p = fae_mp_read(p, &t);
    switch (t.type) {
    case FAE_MP_NIL: snprintf(text, size, "nil"); break;
    case FAE_MP_UINT: snprintf(text, size, "%llu", (unsigned long long)t.u); break;
    case FAE_MP_INT: snprintf(text, size, "%lld", (long long)t.i); break;
    case FAE_MP_FLOAT: snprintf(text, size, "%.17g", t.f); break;
    case FAE_MP_STR: snprintf(text, size, "'%.*s'", (int)t.len, (const char *)t.bytes); break;
    default: fail_msg("type %d", t.type);
    }
    if (t.type == FAE_MP_FLOAT && strtod(text, NULL) == 0.1)
        snprintf(text, size, "0.1");
    return p;
}

static void reads_every_type(void **state)
{
    struct fae_mysql_column columns[N_VALUES + 1];
    uint8_t row[1024] = { 0 };
    size_t len = 1 + (N_VALUES + 1 + 9) / 8;
    struct fae_buf out = { 0 };
    struct fae_mp_token t;
    const uint8_t *p;
    char text[100];

    (void)state;
    for (size_t i = 0; i < N_VALUES; i++) {
        columns[i] = values[i].column;
        memcpy(row + len, values[i].bytes, values[i].len);
        len += values[i].len;
    }
    columns[N_VALUES] = (struct fae_mysql_column)COLUMN(LONG); /* the last one is NULL */
    row[1 + (N_VALUES + 2) / 8] |= (uint8_t)(1u << (N_VALUES + 2) % 8);
    assert_true(fae_mysql_put_binary_row(&out, columns, N_VALUES + 1, row, len));
    p = fae_mp_read(out.data, &t);
    assert_int_equal(t.len, N_VALUES + 1);
    for (size_t i = 0; i < N_VALUES; i++) {
        p = show(p, text, sizeof text);
        assert_string_equal(text, values[i].text);
    }
    p = show(p, text, sizeof text);
    assert_string_equal(text, "nil");
    assert_ptr_equal(p, out.data + out.len);

    /* cut anywhere it is none, and out stays as it was */
    out.len = 0;
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *copy = malloc(cut + 1);

        memcpy(copy, row, cut);
        assert_false(fae_mysql_put_binary_row(&out, columns, N_VALUES + 1, copy, cut));
        assert_int_equal(out.len, 0);
        free(copy);
    }
    fae_buf_fini(&out);
}

static void reads_long_texts(void **state)
{
    static const struct fae_mysql_column column = COLUMN(LONG_BLOB);
    static const size_t lens[] = { 250, 251, 65535, 65536, 100000 };
    struct fae_buf out = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof lens / sizeof *lens; i++) {
        uint8_t *row = calloc(1, lens[i] + 16);
        size_t n = 2;
        struct fae_mp_token t;

        row[n++] = lens[i] < 251 ? (uint8_t)lens[i] : lens[i] < 65536 ? 252 : 253;
        for (unsigned k = 0; lens[i] >= 251 && k < (lens[i] < 65536 ? 2u : 3u); k++)
            row[n++] = (uint8_t)(lens[i] >> 8 * k);
        out.len = 0;
        assert_true(fae_mysql_put_binary_row(&out, &column, 1, row, n + lens[i]));
        fae_mp_read(fae_mp_read(out.data, &t), &t);
        assert_int_equal(t.len, lens[i]);
        assert_false(fae_mysql_put_binary_row(&out, &column, 1, row, n + lens[i] - 1));
        free(row);
    }
    /* a length beyond anything */
    assert_false(
        fae_mysql_put_binary_row(&out, &column, 1, (const uint8_t *)"\0\0\xfe\xff\xff\xff\xff\xff\xff\xff\xff", 11));
    assert_false(fae_mysql_put_binary_row(&out, &column, 1, (const uint8_t *)"\0\0\xff", 3));
    fae_buf_fini(&out);
}

static void survives_any_bytes(void **state)
{
    struct fae_buf out = { 0 };
    unsigned seed = 1;

    (void)state;
    for (int i = 0; i < 20000; i++) {
        struct fae_mysql_column columns[5];
        size_t len = (size_t)rand_r(&seed) % 60;
        uint8_t *row = malloc(len + 1);

        for (size_t k = 0; k < len; k++)
            row[k] = (uint8_t)(rand_r(&seed) % 3 ? rand_r(&seed) % 16 : 245 + rand_r(&seed) % 11);
        for (unsigned k = 0; k < 5; k++)
            columns[k] = (struct fae_mysql_column){ (uint8_t)rand_r(&seed), (uint8_t)rand_r(&seed), rand_r(&seed) % 2 };
        out.len = 0;
        if (fae_mysql_put_binary_row(&out, columns, 5, row, len)) {
            struct fae_mp_scan scan;

            fae_mp_scan_init(&scan);
            assert_int_equal(fae_mp_scan(&scan, out.data, out.len, 1 << 20), FAE_OK);
        }
        free(row);
    }
    fae_buf_fini(&out);
}

static void reads_texts(void **state)
{
    static const struct {
        struct fae_mysql_column column;
        const char *in, *text;
    } rows[] = {
        { COLUMN(LONG), "-12", "-12" },
        { COLUMN(LONGLONG, .is_unsigned = true), "18446744073709551615", "18446744073709551615" },
        { COLUMN(LONGLONG), "-9223372036854775808", "-9223372036854775808" },
        { COLUMN(DOUBLE), "1e300", "1.0000000000000001e+300" },
        { COLUMN(FLOAT), "0.1", "0.1" },
        { COLUMN(NEWDECIMAL), "1.50", "'1.50'" },
        { COLUMN(BIT), "\x01\x02", "258" },
        { COLUMN(DATETIME), "2026-01-02 03:04:05", "'2026-01-02 03:04:05'" },
        { COLUMN(VAR_STRING), "", "''" },
        { COLUMN(LONG), NULL, "nil" },
    };
    struct fae_buf out = { 0 };
    char text[100];

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        out.len = 0;
        fae_mysql_put_text(&out, &rows[i].column, rows[i].in, rows[i].in ? strlen(rows[i].in) : 0);
        show(out.data, text, sizeof text);
        assert_string_equal(text, rows[i].text);
    }
    fae_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_type),
        cmocka_unit_test(reads_long_texts),
        cmocka_unit_test(survives_any_bytes),
        cmocka_unit_test(reads_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
