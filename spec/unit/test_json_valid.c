/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/json_valid: what is JSON and what is not, whole, cut at every offset and at its limit of depth.
 */
#include "unit.h"

#include "base/json_valid.h"
#include "base/limits.h"

static const char *const valid[] = {
    "{}",
    "[]",
    "null",
    "true",
    "false",
    "0",
    "-0",
    "12",
    "-1.5",
    "1e5",
    "1E-5",
    "0.0e+1",
    "\"\"",
    " \t\r\n1 ",
    "\"a\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00aF\"",
    "\"\xc3\xa4\"",
    "[1,2 , 3]",
    "{\"a\":1,\"b\":[{}]}",
    "{ \"a\" : { \"b\" : null } }",
};

static const char *const invalid[] = {
    "",         " ",        "nul",     "nulll",    "True",       "01",      "-",           "1.",         ".5",
    "1e",       "1e+",      "+1",      "0x1",      "\"",         "\"\\x\"", "\"\\u12g4\"", "\"\\u123\"", "\"\n\"",
    "\"\xff\"", "\"\xc3\"", "[",       "]",        "[1",         "[1,",     "[1,]",        "[,1]",       "[1 2]",
    "{",        "{\"a\"",   "{\"a\":", "{\"a\":1", "{\"a\":1,}", "{a:1}",   "{1:1}",       "{\"a\" 1}",  "{}{}",
    "[}",       "{]",       "1 2",     "nan",      "inf",        "'a'",
};

static void tells_json_from_other_text(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(valid); i++)
        if (!fae_json_valid(valid[i], strlen(valid[i])))
            fail_msg("%s is JSON", valid[i]);
    for (unsigned i = 0; i < UNIT_N(invalid); i++)
        if (fae_json_valid(invalid[i], strlen(invalid[i])))
            fail_msg("%s is no JSON", invalid[i]);
    assert_false(fae_json_valid("1\0", 2));
    assert_false(fae_json_valid("\"\0\"", 3));
    assert_false(fae_json_valid("\"\\\0\"", 4));
}

static void refuses_every_cut(void **state)
{
    static const char text[] = "{\"a\":[1.5e3,true,\"x\\u00e4\\n\",null,{\"b\":{}}]}";

    (void)state;
    assert_true(fae_json_valid(text, strlen(text)));
    for (size_t len = 0; len < strlen(text); len++) {
        char *cut = malloc(len + 1); /* exactly as long as it says, for the address sanitizer */

        assert_non_null(cut);
        cut = realloc(cut, len ? len : 1);
        memcpy(cut, text, len);
        assert_false(fae_json_valid(cut, len));
        free(cut);
    }
}

static void bounds_its_depth(void **state)
{
    char text[2 * FAE_DEPTH_MAX + 2];

    (void)state;
    memset(text, '[', FAE_DEPTH_MAX);
    memset(text + FAE_DEPTH_MAX, ']', FAE_DEPTH_MAX);
    assert_true(fae_json_valid(text, 2 * FAE_DEPTH_MAX));
    memset(text, '[', FAE_DEPTH_MAX + 1);
    memset(text + FAE_DEPTH_MAX + 1, ']', FAE_DEPTH_MAX + 1);
    assert_false(fae_json_valid(text, 2 * FAE_DEPTH_MAX + 2));
}

static void finds_where_a_value_ends(void **state)
{
    const char *text = "{\"a\" : [1, \"\xff]\"] , \"b\":2}";

    (void)state;
    assert_int_equal(fae_json_skip(text, strlen(text), 0, 0), strlen(text));
    assert_int_equal(fae_json_skip(text, strlen(text), 1, 1), 4);
    assert_int_equal(fae_json_skip(text, strlen(text), 7, 1), 16);
    assert_int_equal(fae_json_skip(text, strlen(text), 16, 1), -2 - 17);
    assert_int_equal(fae_json_skip(text, strlen(text), 900, 1), -2 - (int)strlen(text));
    assert_true(fae_json_skip(text, strlen(text), 7, FAE_DEPTH_MAX) == FAE_JSON_TOO_DEEP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_json_from_other_text),
        cmocka_unit_test(refuses_every_cut),
        cmocka_unit_test(bounds_its_depth),
        cmocka_unit_test(finds_where_a_value_ends),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
