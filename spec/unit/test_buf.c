/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/buf: growable bytes and their JSON strings.
 */
#include "unit.h"

#include "base/alloc.h"
#include "base/buf.h"

static void adds_and_grows(void **state)
{
    struct fae_buf buf = { 0 };
    uint8_t want[5000];

    (void)state;
    for (unsigned i = 0; i < sizeof want; i++)
        want[i] = (uint8_t)(i * 7);
    for (unsigned i = 0; i < sizeof want; i += 50)
        fae_buf_add(&buf, want + i, 50);
    fae_buf_add(&buf, NULL, 0);
    assert_int_equal(buf.len, sizeof want);
    assert_true(buf.cap >= buf.len);
    assert_memory_equal(buf.data, want, sizeof want);
    fae_buf_fini(&buf);
    assert_null(buf.data);
    assert_int_equal(buf.len + buf.cap, 0);
    fae_buf_fini(&buf);
}

static void growing_at_least_doubles(void **state)
{
    struct fae_buf buf = { 0 };
    size_t cap;

    (void)state;
    fae_buf_grow(&buf, 1000);
    cap = buf.cap;
    assert_true(cap >= 1000);
    fae_buf_grow(&buf, 10);
    assert_int_equal(buf.cap, cap);
    fae_buf_grow(&buf, cap + 1);
    assert_true(buf.cap >= 2 * cap);
    fae_buf_fini(&buf);
}

static void shifts_from_the_front(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    fae_buf_add(&buf, "abcdef", 6);
    fae_buf_shift(&buf, 2);
    assert_string_equal(fae_buf_text(&buf), "cdef");
    fae_buf_shift(&buf, 4);
    assert_int_equal(buf.len, 0);
    assert_string_equal(fae_buf_text(&buf), "");
    fae_buf_fini(&buf);
}

static void text_of_nothing_is_empty(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    assert_string_equal(fae_buf_text(&buf), "");
    fae_buf_fini(&buf);
}

static void prints(void **state)
{
    struct fae_buf buf = { 0 };
    char long_text[3000];

    (void)state;
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    fae_buf_printf(&buf, "%d-%s", 42, "a");
    fae_buf_printf(&buf, "%s", long_text);
    assert_int_equal(buf.len, 4 + sizeof long_text - 1);
    assert_memory_equal(buf.data, "42-axxx", 7);
    assert_string_equal(fae_buf_text(&buf) + 4, long_text);
    fae_buf_fini(&buf);
}

static void json_is_always_valid(void **state)
{
    static const struct {
        const char *text;
        size_t len;
        const char *want;
    } rows[] = {
        { "", 0, "\"\"" },
        { "abc", 3, "\"abc\"" },
        { "a\"b\\c", 5, "\"a\\\"b\\\\c\"" },
        { "a\nb", 3, "\"a\\nb\"" },
        { "\t\x01\x1f", 3, "\"\\u0009\\u0001\\u001f\"" },
        { "\0", 1, "\"\\u0000\"" },
        { "\xc3\xa4", 2, "\"\xc3\xa4\"" },
        { "\xf0\x9f\x98\x80", 4, "\"\xf0\x9f\x98\x80\"" },
        { "\xff", 1, "\"\xef\xbf\xbd\"" },
        { "\xc3", 1, "\"\xef\xbf\xbd\"" },
        { "\xed\xa0\x80", 3, "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\"" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf buf = { 0 };

        fae_buf_json(&buf, rows[i].text, rows[i].len);
        assert_string_equal(fae_buf_text(&buf), rows[i].want);
        fae_buf_fini(&buf);
    }
}

static void alloc_helpers_copy(void **state)
{
    char *a = fae_strdup("abc"), *b = fae_strndup("abcdef", 2), *c = fae_sprintf("%s/%d", a, 7), *d = fae_zalloc(3);
    char *e = fae_alloc(0);

    (void)state;
    assert_string_equal(a, "abc");
    assert_string_equal(b, "ab");
    assert_string_equal(c, "abc/7");
    assert_memory_equal(d, "\0\0\0", 3);
    d = fae_realloc(d, 0);
    free(a);
    free(b);
    free(c);
    free(d);
    free(e);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(adds_and_grows),
        cmocka_unit_test(growing_at_least_doubles),
        cmocka_unit_test(shifts_from_the_front),
        cmocka_unit_test(text_of_nothing_is_empty),
        cmocka_unit_test(prints),
        cmocka_unit_test(json_is_always_valid),
        cmocka_unit_test(alloc_helpers_copy),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
