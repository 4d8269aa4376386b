/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/suggest: what "did you mean" means.
 */
#include "unit.h"

#include "base/suggest.h"

static const char *const names[] = { "workers",  "run_dir",         "user", "admin", "log_level", "log_format",
                                     "drain_ms", "call_timeout_ms", "ab" };

static const char *nearest(const char *word)
{
    struct fae_suggest s = { .word = word };

    for (unsigned i = 0; i < UNIT_N(names); i++)
        fae_suggest_offer(&s, names[i]);
    return s.best;
}

static void the_nearest_is_offered(void **state)
{
    static const struct {
        const char *word, *want;
    } rows[] = {
        { "workers", "workers" },
        { "workrs", "workers" },   /* one is missing */
        { "workkers", "workers" }, /* one too many */
        { "wrokers", "workers" },  /* swapped */
        { "Workers", "workers" },
        { "worker", "workers" },
        { "loglevel", "log_level" },
        { "log_formatt", "log_format" },
        { "usr", "user" },
        { "call_timeout", "call_timeout_ms" },
        { "timeout_call_ms", NULL },
        { "ba", "ab" },
        { "xy", NULL }, /* nothing of it would remain */
        { "zzzzzzz", NULL },
        { "a", NULL },
        { "", NULL },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const char *best = nearest(rows[i].word);

        if (rows[i].want)
            assert_string_equal(best ? best : "(none)", rows[i].want);
        else
            assert_null(best);
    }
}

static void distance_counts_edits(void **state)
{
    static const struct {
        const char *word, *other;
        unsigned distance;
    } rows[] = {
        { "abc", "abc", 0 }, { "abc", "acb", 1 },   { "abcd", "abc", 1 },       { "abc", "abcd", 1 },
        { "abc", "axc", 1 }, { "abcd", "badc", 2 }, { "kitten", "sitting", 3 },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_suggest s = { .word = rows[i].word };

        fae_suggest_offer(&s, rows[i].other);
        if (rows[i].distance <= 2) {
            assert_ptr_equal(s.best, rows[i].other);
            assert_int_equal(s.distance, rows[i].distance);
        } else {
            assert_null(s.best);
        }
    }
}

static void the_first_of_equals_stays(void **state)
{
    struct fae_suggest s = { .word = "cat" };
    const char *a = "car", *b = "cap";

    (void)state;
    fae_suggest_offer(&s, a);
    fae_suggest_offer(&s, b);
    assert_ptr_equal(s.best, a);
}

static void long_words_are_let_be(void **state)
{
    char word[200];
    struct fae_suggest s = { .word = word };

    (void)state;
    memset(word, 'a', sizeof word - 1);
    word[sizeof word - 1] = '\0';
    fae_suggest_offer(&s, "aaaa");
    fae_suggest_offer(&s, word);
    assert_null(s.best);
    word[64] = '\0';
    fae_suggest_offer(&s, word);
    assert_ptr_equal(s.best, word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_is_offered),
        cmocka_unit_test(distance_counts_edits),
        cmocka_unit_test(the_first_of_equals_stays),
        cmocka_unit_test(long_words_are_let_be),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
