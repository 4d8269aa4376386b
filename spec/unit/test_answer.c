/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/answer: whom a pattern of session-close means. The rest is in spec/e2e/test_ctl.py.
 */
#include "unit.h"

#include "proc/answer.h"

static void patterns_mean_peers(void **state)
{
    static const struct {
        const char *pattern, *peer;
        bool is;
    } rows[] = {
        { "tcp://10.0.0.7:40312", "tcp://10.0.0.7:40312", true },
        { "10.0.0.7:40312", "tcp://10.0.0.7:40312", true },
        { "10.0.0.7:40312", "tls://10.0.0.7:40312", true },
        { "10.0.0.7", "tcp://10.0.0.7:40312", true },
        { "[::1]", "tcp://[::1]:40312", true },
        { "::1", "tcp://[::1]:40312", true },
        { "[::1]:40312", "tcp://[::1]:40312", true },
        { "unix:", "unix:", true },
        { "10.0.0.70", "tcp://10.0.0.7:40312", false },
        { "10.0.0", "tcp://10.0.0.7:40312", false },
        { "10.0.0.7:4031", "tcp://10.0.0.7:40312", false },
        { "0.0.0.7", "tcp://10.0.0.7:40312", false },
        { "tcp://10.0.0.7", "tcp://10.0.0.7:40312", false },
        { "", "tcp://10.0.0.7:40312", false },
        { "", "unix:", false },
        { "unix", "unix:", false },
        { ":", "tcp://[::1]:40312", false },
        { "10.0.0.7", "?", false },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        if (fae_answer_is_peer(rows[i].pattern, rows[i].peer) != rows[i].is)
            fail_msg("\"%s\" and %s", rows[i].pattern, rows[i].peer);
}

static void an_answer_knows_its_question(void **state)
{
    (void)state;
    for (uint32_t q = 0; q < 5; q++) {
        assert_int_equal(fae_answer_question(fae_answer_arg(q, true)), q);
        assert_int_equal(fae_answer_question(fae_answer_arg(q, false)), q);
        assert_int_equal(fae_answer_arg(q, true) & 1, 1);
        assert_int_equal(fae_answer_arg(q, false) & 1, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(patterns_mean_peers),
        cmocka_unit_test(an_answer_knows_its_question),
    };

    return cmocka_run_group_tests_name("answer", tests, NULL, NULL);
}
