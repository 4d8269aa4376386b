/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/opt: text into values, and the sentences when it does not fit.
 */
#include "unit.h"

#include "base/opt.h"

struct settings {
    uint64_t count, wait_ms, size, any_size, mode, level;
    bool on;
    char name[FAE_OPT_TEXT], must[FAE_OPT_TEXT], hash[FAE_OPT_TEXT], words[FAE_OPT_LIST_TEXT], guard[8];
};

static const struct fae_opt opts[] = {
    FAE_OPT(struct settings, "count", UINT, count, "3", 0, 64, NULL, ""),
    FAE_OPT(struct settings, "wait_ms", MS, wait_ms, "500", 1, 60000, NULL, ""),
    FAE_OPT(struct settings, "size", BYTES, size, "4MiB", 1024, 64u << 20, NULL, ""),
    FAE_OPT(struct settings, "any_size", BYTES, any_size, "1GiB", 16u << 20, UINT64_MAX, NULL, ""),
    FAE_OPT(struct settings, "mode", UINT, mode, "0660", 0, 0777, NULL, ""),
    FAE_OPT(struct settings, "level", ENUM, level, "info", 0, 0, "debug|info|warn", ""),
    FAE_OPT(struct settings, "on", BOOL, on, "true", 0, 0, NULL, ""),
    FAE_OPT(struct settings, "name", STRING, name, "abc", 0, 0, NULL, ""),
    FAE_OPT(struct settings, "must", STRING, must, "", 1, 10, NULL, ""),
    FAE_OPT_SECRET(struct settings, "hash", STRING, hash, "", 4, 4, NULL, ""),
    FAE_OPT_AT_START(struct settings, "words", LIST, words, "a b", 0, 0, NULL, ""),
};

static void defaults(void **state)
{
    struct settings s = { .guard = "guard" };

    (void)state;
    fae_opt_defaults(opts, UNIT_N(opts), &s);
    assert_int_equal(s.count, 3);
    assert_int_equal(s.wait_ms, 500);
    assert_int_equal(s.size, 4u << 20);
    assert_int_equal(s.any_size, 1u << 30);
    assert_int_equal(s.mode, 0660);
    assert_int_equal(s.level, 1);
    assert_true(s.on);
    assert_string_equal(s.name, "abc");
    assert_string_equal(s.must, "");
    assert_string_equal(s.guard, "guard");
}

static void numbers_fit(void **state)
{
    static const struct {
        const char *name, *text;
        uint64_t want;
    } rows[] = {
        { "count", "0", 0 },
        { "count", "64", 64 },
        { "count", "010", 10 },
        { "wait_ms", "60000", 60000 },
        { "size", "1024", 1024 },
        { "size", "1KiB", 1024 },
        { "size", "64KiB", 65536 },
        { "size", "64MiB", 64u << 20 },
        { "any_size", "3GiB", 3ull << 30 },
        { "any_size", "18446744073709551615", UINT64_MAX },
        { "mode", "0600", 0600 },
        { "mode", "600", 0600 },
        { "mode", "0", 0 },
        { "mode", "777", 0777 },
        { "level", "debug", 0 },
        { "level", "warn", 2 },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const struct fae_opt *opt = fae_opt_find(opts, UNIT_N(opts), rows[i].name);
        struct settings s = { 0 };
        char why[200] = "untouched";

        assert_non_null(opt);
        assert_int_equal(fae_opt_set(opt, &s, rows[i].text, why, sizeof why), FAE_OK);
        assert_true(*(uint64_t *)((char *)&s + opt->offset) == rows[i].want);
        assert_string_equal(why, "untouched");
    }
}

static void what_does_not_fit_is_told(void **state)
{
    static const struct {
        const char *name, *text, *why;
    } rows[] = {
        { "count", "65", "count must be 0 to 64, not 65" },
        { "count", "18446744073709551616", "count must be a whole number, not \"18446744073709551616\"" },
        { "count", "99999999999999999999999", "count must be a whole number, not \"99999999999999999999999\"" },
        { "count", "-1", "count must be a whole number, not \"-1\"" },
        { "count", "+1", "count must be a whole number, not \"+1\"" },
        { "count", " 1", "count must be a whole number, not \" 1\"" },
        { "count", "1.5", "count must be a whole number, not \"1.5\"" },
        { "count", "4KiB", "count must be a whole number, not \"4KiB\"" },
        { "count", "", "count must be a whole number, not \"\"" },
        { "count", "many", "count must be a whole number, not \"many\"" },
        { "wait_ms", "5s", "wait_ms must be a whole number of milliseconds, not \"5s\"" },
        { "wait_ms", "0", "wait_ms must be 1 to 60000, not 0" },
        { "size", "4MB", "size must be a size such as 65536, 64KiB, 4MiB or 1GiB, not \"4MB\"" },
        { "size", "MiB", "size must be a size such as 65536, 64KiB, 4MiB or 1GiB, not \"MiB\"" },
        { "size", "17179869184GiB", "size must be a size such as 65536, 64KiB, 4MiB or 1GiB, not \"17179869184GiB\"" },
        { "size", "65MiB", "size must be 1KiB to 64MiB, not 65MiB" },
        { "size", "1000", "size must be 1KiB to 64MiB, not 1000" },
        { "any_size", "1MiB", "any_size must be at least 16MiB, not 1MiB" },
        { "mode", "1000", "mode must be 00 to 0777, not 1000" },
        { "mode", "0689", "mode must be an octal number, not \"0689\"" },
        { "level", "inof", "level must be one of debug|info|warn, not \"inof\": did you mean \"info\"?" },
        { "level", "loud", "level must be one of debug|info|warn, not \"loud\"" },
        { "level", "", "level must be one of debug|info|warn, not \"\"" },
        { "level", "debug|info", "level must be one of debug|info|warn, not \"debug|info\"" },
        { "on", "yes", "on must be true or false, not \"yes\"" },
        { "on", "", "on must be true or false, not \"\"" },
        { "must", "", "must must not be empty" },
        { "hash", "", "hash must not be empty" },
        { "hash", "123", "hash must have at least 4 bytes, not 3" },
        { "hash", "12345", "hash may have 4 bytes, not 5" },
        { "must", "12345678901", "must may have 10 bytes, not 11" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const struct fae_opt *opt = fae_opt_find(opts, UNIT_N(opts), rows[i].name);
        struct settings s, before;
        char why[200] = "";

        memset(&s, 0x5a, sizeof s);
        before = s;
        assert_int_equal(fae_opt_set(opt, &s, rows[i].text, why, sizeof why), FAE_BAD_CONFIG);
        assert_string_equal(why, rows[i].why);
        assert_memory_equal(&s, &before, sizeof s);
    }
}

static void booleans_and_strings(void **state)
{
    struct settings s = { .guard = "guard" };
    char text[FAE_OPT_TEXT + 1], why[200];

    (void)state;
    assert_int_equal(fae_opt_set(fae_opt_find(opts, UNIT_N(opts), "on"), &s, "true", why, sizeof why), FAE_OK);
    assert_true(s.on);
    assert_int_equal(fae_opt_set(fae_opt_find(opts, UNIT_N(opts), "on"), &s, "false", why, sizeof why), FAE_OK);
    assert_false(s.on);
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 2] = '\0';
    assert_int_equal(fae_opt_set(fae_opt_find(opts, UNIT_N(opts), "name"), &s, text, why, sizeof why), FAE_OK);
    assert_string_equal(s.name, text);
    text[sizeof text - 2] = 'a';
    text[sizeof text - 1] = '\0';
    assert_int_equal(fae_opt_set(fae_opt_find(opts, UNIT_N(opts), "name"), &s, text, why, sizeof why), FAE_BAD_CONFIG);
    assert_string_equal(why, "name may have 255 bytes, not 256");
    assert_string_equal(s.guard, "guard");
}

static void lists_keep_one_blank(void **state)
{
    static const struct {
        const char *text, *want;
    } rows[] = {
        { "", "" },
        { " \t\n", "" },
        { "a", "a" },
        { "  a  b\tc\r\nd ", "a b c d" },
        { "shop.* lc.get", "shop.* lc.get" },
    };
    const struct fae_opt *opt = fae_opt_find(opts, UNIT_N(opts), "words");
    char text[FAE_OPT_LIST_TEXT + 8], why[200];
    struct settings s = { .guard = "guard" };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        assert_int_equal(fae_opt_set(opt, &s, rows[i].text, why, sizeof why), FAE_OK);
        assert_string_equal(s.words, rows[i].want);
    }
    /* Blanks do not count, words do. */
    memset(text, ' ', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    text[3] = 'x';
    assert_int_equal(fae_opt_set(opt, &s, text, why, sizeof why), FAE_OK);
    assert_string_equal(s.words, "x");
    memset(text, 'y', FAE_OPT_LIST_TEXT - 1);
    text[FAE_OPT_LIST_TEXT - 1] = '\0';
    assert_int_equal(fae_opt_set(opt, &s, text, why, sizeof why), FAE_OK);
    assert_string_equal(s.words, text);
    text[5] = ' ';
    text[FAE_OPT_LIST_TEXT - 1] = 'y';
    text[FAE_OPT_LIST_TEXT] = '\0';
    assert_int_equal(fae_opt_set(opt, &s, text, why, sizeof why), FAE_BAD_CONFIG);
    assert_string_equal(why, "words is too long: its words may have 1023 bytes in all");
    assert_int_equal(s.words[5], 'y');
    assert_string_equal(s.guard, "guard");
}

static void values_come_out_as_they_went_in(void **state)
{
    static const struct {
        const char *name, *text, *want;
    } rows[] = {
        { "count", "64", "64" },     { "wait_ms", "500", "500" },    { "size", "65536", "64KiB" },
        { "size", "1025", "1025" },  { "any_size", "2GiB", "2GiB" }, { "mode", "600", "0600" },
        { "level", "warn", "warn" }, { "level", "debug", "debug" },  { "on", "false", "false" },
        { "name", "x y", "x y" },    { "words", " a  b", "a b" },
    };
    struct settings s, other;
    char text[FAE_OPT_LIST_TEXT], why[200];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const struct fae_opt *opt = fae_opt_find(opts, UNIT_N(opts), rows[i].name);

        memset(&s, 0, sizeof s);
        fae_opt_defaults(opts, UNIT_N(opts), &other);
        assert_int_equal(fae_opt_set(opt, &s, rows[i].text, why, sizeof why), FAE_OK);
        assert_string_equal(fae_opt_get(opt, &s, text), rows[i].want);
        fae_opt_copy(opt, &other, &s);
        assert_true(fae_opt_equal(opt, &other, &s));
        assert_string_equal(fae_opt_get(opt, &other, text), rows[i].want);
    }
    fae_opt_defaults(opts, UNIT_N(opts), &s);
    fae_opt_defaults(opts, UNIT_N(opts), &other);
    s.count = 4;
    assert_false(fae_opt_equal(&opts[0], &s, &other));
    assert_true(fae_opt_equal(&opts[1], &s, &other));
}

static void a_sentence_is_cut_to_its_buffer(void **state)
{
    struct settings s;
    char why[12];

    (void)state;
    memset(why, 'Z', sizeof why);
    assert_int_equal(fae_opt_set(&opts[0], &s, "many", why, 10), FAE_BAD_CONFIG);
    assert_string_equal(why, "count mus");
    assert_int_equal(why[11], 'Z');
}

static void unknown_options_get_a_hint(void **state)
{
    char why[200];

    (void)state;
    assert_null(fae_opt_find(opts, UNIT_N(opts), "cuont"));
    fae_opt_unknown(opts, UNIT_N(opts), "cuont", why, sizeof why);
    assert_string_equal(why, "unknown option \"cuont\": did you mean \"count\"?");
    fae_opt_unknown(opts, UNIT_N(opts), "zzzzzzzzz", why, sizeof why);
    assert_string_equal(why, "unknown option \"zzzzzzzzz\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(numbers_fit),
        cmocka_unit_test(what_does_not_fit_is_told),
        cmocka_unit_test(booleans_and_strings),
        cmocka_unit_test(lists_keep_one_blank),
        cmocka_unit_test(values_come_out_as_they_went_in),
        cmocka_unit_test(a_sentence_is_cut_to_its_buffer),
        cmocka_unit_test(unknown_options_get_a_hint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
