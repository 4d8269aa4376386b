/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/err: the table of codes.
 */
#include "unit.h"

#include "base/err.h"

static void names_lead_back_to_their_code(void **state)
{
    (void)state;
    for (int i = 0; i < FAE_ERR_COUNT; i++) {
        const char *name = fae_err_name((enum fae_err)i);

        assert_int_equal(fae_err_of(name, strlen(name)), i);
        assert_true(strlen(fae_err_text((enum fae_err)i)) > 0);
        assert_int_equal(strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_"), strlen(name));
    }
}

static void only_whole_names_count(void **state)
{
    (void)state;
    assert_int_equal(fae_err_of("TIMEOUTS", 7), FAE_TIMEOUT);
    assert_int_equal(fae_err_of("TIMEOUTS", 8), FAE_ERR_COUNT);
    assert_int_equal(fae_err_of("TIME", 4), FAE_ERR_COUNT);
    assert_int_equal(fae_err_of("timeout", 7), FAE_ERR_COUNT);
    assert_int_equal(fae_err_of("", 0), FAE_ERR_COUNT);
    assert_int_equal(fae_err_of("OK\0", 3), FAE_ERR_COUNT);
}

static void rows_say_what_they_should(void **state)
{
    (void)state;
    assert_int_equal(FAE_OK, 0);
    assert_string_equal(fae_err_name(FAE_BAD_ARGS), "BAD_ARGS");
    assert_string_equal(fae_err_text(FAE_TIMEOUT), "deadline passed");
    assert_true(fae_err_retryable(FAE_OVERLOAD));
    assert_false(fae_err_retryable(FAE_BAD_ARGS));
}

static void a_code_outside_the_table_is_internal(void **state)
{
    (void)state;
    assert_string_equal(fae_err_name(FAE_ERR_COUNT), "INTERNAL");
    assert_string_equal(fae_err_text((enum fae_err)1000), "unknown error");
    assert_false(fae_err_retryable((enum fae_err)1000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_lead_back_to_their_code),
        cmocka_unit_test(only_whole_names_count),
        cmocka_unit_test(rows_say_what_they_should),
        cmocka_unit_test(a_code_outside_the_table_is_internal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
