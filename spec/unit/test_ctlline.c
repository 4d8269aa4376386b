/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/ctlline: the end of an answer of fae.ctl, whole and cut at every byte.
 */
#include "unit.h"

#include "wire/ctlline.h"

static const struct {
    const char *answer;
    enum fae_err err;
    size_t at;
    const char *text;
} rows[] = {
    { "OK\n", FAE_OK, 0, "" },
    { "OK pong\n", FAE_OK, 0, "pong" },
    { "OK   generation 2\n", FAE_OK, 0, "generation 2" },
    { "a\nb\nOK done\n", FAE_OK, 4, "done" },
    { " OK is no end\nERR TIMEOUT too late\n", FAE_TIMEOUT, 14, "too late" },
    { "ERR BUSY\n", FAE_BUSY, 0, "" },
    { "ERR NOT_A_CODE what\n", FAE_INTERNAL, 0, "what" },
    { "ERR  \n", FAE_INTERNAL, 0, "" },
};

static void the_last_line_is_found_and_no_other(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        size_t len = strlen(rows[i].answer);
        struct fae_ctlline last;

        for (size_t n = 0; n <= len; n++) {
            struct fae_buf buf = { 0 };
            bool whole;

            fae_buf_add(&buf, rows[i].answer, n);
            whole = fae_ctlline_last(&buf, &last);
            assert_int_equal(whole, n == len);
            if (whole) {
                assert_int_equal(last.err, rows[i].err);
                assert_int_equal(last.at, rows[i].at);
                assert_int_equal(last.len, strlen(rows[i].text));
                assert_memory_equal(last.text, rows[i].text, last.len);
            }
            fae_buf_fini(&buf);
        }
    }
}

static void other_lines_are_no_end(void **state)
{
    static const char *const texts[] = { "", "\n", "O\n", "ok\n", "ERR\n", " OK\n", "x OK\n", "OK\n ERR\n", "OK" };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(texts); i++) {
        struct fae_buf buf = { 0 };
        struct fae_ctlline last;

        fae_buf_add(&buf, texts[i], strlen(texts[i]));
        assert_false(fae_ctlline_last(&buf, &last));
        fae_buf_fini(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_line_is_found_and_no_other),
        cmocka_unit_test(other_lines_are_no_end),
    };

    return cmocka_run_group_tests_name("ctlline", tests, NULL, NULL);
}
