/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/utf8: what is text and what is not (RFC 3629), at every place in the eight-byte steps of the quick check.
 */
#include "unit.h"

#include "base/utf8.h"

static const struct {
    const char *bytes;
    unsigned len;
    bool valid;
} rows[] = {
    { "a", 1, true },
    { "\0", 1, true },
    { "\x7f", 1, true },
    { "\xc2\x80", 2, true },
    { "\xdf\xbf", 2, true },
    { "\xe0\xa0\x80", 3, true },
    { "\xed\x9f\xbf", 3, true },
    { "\xee\x80\x80", 3, true },
    { "\xef\xbf\xbf", 3, true },
    { "\xf0\x90\x80\x80", 4, true },
    { "\xf4\x8f\xbf\xbf", 4, true },
    { "\x80", 1, false }, /* a tail alone */
    { "\xbf", 1, false },
    { "\xc0\x80", 2, false }, /* overlong */
    { "\xc1\xbf", 2, false },
    { "\xe0\x9f\xbf", 3, false },
    { "\xf0\x8f\xbf\xbf", 4, false },
    { "\xed\xa0\x80", 3, false }, /* surrogates */
    { "\xed\xbf\xbf", 3, false },
    { "\xf4\x90\x80\x80", 4, false }, /* beyond U+10FFFF */
    { "\xf5\x80\x80\x80", 4, false },
    { "\xf8\x88\x80\x80\x80", 5, false },
    { "\xfe", 1, false },
    { "\xff", 1, false },
    { "\xc2", 1, false }, /* cut */
    { "\xe2\x82", 2, false },
    { "\xf0\x9f\x98", 3, false },
    { "\xc2\x41", 2, false }, /* the tail is none */
    { "\xe2\x82\x41", 3, false },
    { "\xf0\x9f\x41\x80", 4, false },
};

static void one_character(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        assert_int_equal(fae_utf8_char((const uint8_t *)rows[i].bytes, rows[i].len), rows[i].valid ? rows[i].len : 0);
    assert_int_equal(fae_utf8_char((const uint8_t *)"", 0), 0);
}

static void anywhere_in_a_text(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        for (unsigned before = 0; before < 20; before++)
            for (unsigned after = 0; after < 20; after++) {
                size_t len = before + rows[i].len + after;
                char *text = malloc(len); /* exact, so that a read beyond it is seen */

                memset(text, 'x', len);
                memcpy(text + before, rows[i].bytes, rows[i].len);
                assert_int_equal(fae_utf8_valid(text, len), rows[i].valid);
                free(text);
            }
    assert_true(fae_utf8_valid("", 0));
}

/* Every 1- to 3-byte sequence and the edges of 4, against the code points written out. */
static void every_code_point(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x110800; c++) {
        uint8_t b[4];
        unsigned n;

        if (c < 0x80)
            n = 1, b[0] = (uint8_t)c;
        else if (c < 0x800)
            n = 2, b[0] = (uint8_t)(0xc0 | c >> 6), b[1] = (uint8_t)(0x80 | (c & 63));
        else if (c < 0x10000)
            n = 3, b[0] = (uint8_t)(0xe0 | c >> 12), b[1] = (uint8_t)(0x80 | (c >> 6 & 63)),
            b[2] = (uint8_t)(0x80 | (c & 63));
        else
            n = 4, b[0] = (uint8_t)(0xf0 | c >> 18), b[1] = (uint8_t)(0x80 | (c >> 12 & 63)),
            b[2] = (uint8_t)(0x80 | (c >> 6 & 63)), b[3] = (uint8_t)(0x80 | (c & 63));
        if (fae_utf8_char(b, n) != ((c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : n))
            fail_msg("U+%04X", c);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_character),
        cmocka_unit_test(anywhere_in_a_text),
        cmocka_unit_test(every_code_point),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
