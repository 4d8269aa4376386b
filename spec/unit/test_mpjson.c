/* SPDX-License-Identifier: BSD-2-Clause
 *
 * JSON and msgpack, each way: tables of texts and bytes.
 */
#include "unit.h"

#include "cmd/mpjson.h"

/* A literal may hold NUL bytes. */
#define BYTES(text) text, sizeof(text) - 1

static const struct {
    const char *json;
    const char *bytes;
    size_t len;
} reads[] = {
    { "null", BYTES("\xc0") },
    { "true", BYTES("\xc3") },
    { "false", BYTES("\xc2") },
    { "0", BYTES("\x00") },
    { "-0", BYTES("\x00") },
    { " 7 ", BYTES("\x07") },
    { "-33", BYTES("\xd0\xdf") },
    { "65536", BYTES("\xce\x00\x01\x00\x00") },
    { "9223372036854775807", BYTES("\xcf\x7f\xff\xff\xff\xff\xff\xff\xff") },
    { "9223372036854775808", BYTES("\xcf\x80\x00\x00\x00\x00\x00\x00\x00") },
    { "18446744073709551615", BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff") },
    { "-9223372036854775808", BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00") },
    { "1.5", BYTES("\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00") },
    { "\"\"", BYTES("\xa0") },
    { "\"a\\u0000b\"", BYTES("\xa3"
                             "a\0b") },
    { "\"\xc3\xa9\"", BYTES("\xa2\xc3\xa9") },
    { "[]", BYTES("\x90") },
    { "{}", BYTES("\x80") },
    { "[1,[2,{\"k\":null}]]", BYTES("\x92\x01\x92\x02\x81\xa1k\xc0") },
    { "{\"$bin\":\"00fF\"}", BYTES("\xc4\x02\x00\xff") },
    { "{\"$bin\":\"\"}", BYTES("\xc4\x00") },
    /* no bytes: left as the map it is */
    { "{\"$bin\":\"0\"}", BYTES("\x81\xa4$bin\xa1"
                                "0") },
    { "{\"$bin\":\"zz\"}", BYTES("\x81\xa4$bin\xa2zz") },
    { "{\"$bin\":1}", BYTES("\x81\xa4$bin\x01") },
};

static void test_read(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(reads); i++) {
        struct fae_buf out = { 0 };
        char why[160];

        fae_buf_add(&out, "x", 1); /* it appends */
        assert_int_equal(fae_mpjson_read(reads[i].json, &out, why, sizeof why), FAE_OK);
        assert_int_equal(out.len, 1 + reads[i].len);
        assert_memory_equal(out.data + 1, reads[i].bytes, reads[i].len);
        fae_buf_fini(&out);
    }
}

static void test_read_wrong(void **state)
{
    static const char *const texts[] = {
        "",
        " ",
        "abc",
        "'a'",
        "01",
        "1 2",
        "[1",
        "[1,]",
        "{\"a\"}",
        "{a:1}",
        "\"a",
        "nul",
        "+1",
        "0x10",
        "\"\xff\"",
        "NaN",
        "18446744073709551616",
        "[18446744073709551615]",
        "1e999",
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(texts); i++) {
        struct fae_buf out = { 0 };
        char why[160] = "";

        assert_int_equal(fae_mpjson_read(texts[i], &out, why, sizeof why), FAE_BAD_ARGS);
        assert_int_equal(out.len, 0);
        assert_true(why[0] != '\0');
        fae_buf_fini(&out);
    }
}

static const struct {
    const char *bytes;
    size_t len;
    const char *json;
} writes[] = {
    { BYTES("\xc0"), "null" },
    { BYTES("\xc2"), "false" },
    { BYTES("\xc3"), "true" },
    { BYTES("\x7f"), "127" },
    { BYTES("\xff"), "-1" },
    { BYTES("\xcf\xff\xff\xff\xff\xff\xff\xff\xff"), "18446744073709551615" },
    { BYTES("\xcf\x00\x20\x00\x00\x00\x00\x00\x01"), "9007199254740993" },
    { BYTES("\xd3\x80\x00\x00\x00\x00\x00\x00\x00"), "-9223372036854775808" },
    { BYTES("\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a"), "0.1" },
    { BYTES("\xcb\x40\x14\x00\x00\x00\x00\x00\x00"), "5.0" },
    { BYTES("\xcb\x7e\x37\xe4\x3c\x88\x00\x75\x9c"), "1e+300" },
    { BYTES("\xcb\x3f\xd5\x55\x55\x55\x55\x55\x55"), "0.3333333333333333" },
    { BYTES("\xca\x3f\x00\x00\x00"), "0.5" },
    { BYTES("\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00"), "{\"$float\":\"nan\"}" },
    { BYTES("\xcb\xff\xf0\x00\x00\x00\x00\x00\x00"), "{\"$float\":\"-inf\"}" },
    { BYTES("\xa3\"\n\x01"), "\"\\\"\\n\\u0001\"" },
    { BYTES("\xa2\xc3\xa9"), "\"\xc3\xa9\"" },
    { BYTES("\xa1\xff"), "{\"$bin\":\"ff\"}" },
    { BYTES("\xc4\x02hi"), "\"hi\"" },
    { BYTES("\xc4\x02\x00\xfe"), "{\"$bin\":\"00fe\"}" },
    { BYTES("\xd4\x05\xab"), "{\"$ext\":[5,\"ab\"]}" },
    { BYTES("\xd4\xff\xab"), "{\"$ext\":[-1,\"ab\"]}" },
    { BYTES("\x90"), "[]" },
    { BYTES("\x80"), "{}" },
    { BYTES("\x93\x01\x80\x91\xc0"), "[1,{},[null]]" },
    { BYTES("\x84\xa1k\x01\x05\x02\xc0\x03\x91\xc3\x04"), "{\"k\":1,\"5\":2,\"null\":3,\"[true]\":4}" },
    { BYTES("\x82\xc4\x01q\x01\xc4\x01\xff\x02"), "{\"q\":1,\"{\\\"$bin\\\":\\\"ff\\\"}\":2}" },
};

static void test_write(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(writes); i++) {
        const uint8_t *bytes = (const uint8_t *)writes[i].bytes;
        struct fae_buf out = { 0 };

        assert_ptr_equal(fae_mpjson_write(&out, bytes), bytes + writes[i].len);
        assert_string_equal(fae_buf_text(&out), writes[i].json);
        fae_buf_fini(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),
        cmocka_unit_test(test_read_wrong),
        cmocka_unit_test(test_write),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
