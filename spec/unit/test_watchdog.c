/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/watchdog: the rule, without clock or process.
 */
#include "unit.h"

#include "base/slot.h"
#include "proc/watchdog.h"

static void silence_is_judged(void **state)
{
    static const struct {
        unsigned state;
        bool warned;
        uint64_t silent_ms, age_ms;
        enum fae_watch_verdict want;
    } rows[] = {
        { FAE_SLOT_READY, false, 0, 60000, FAE_WATCH_WELL },
        { FAE_SLOT_READY, false, 1999, 60000, FAE_WATCH_WELL },
        { FAE_SLOT_READY, false, 2000, 60000, FAE_WATCH_WARN },
        { FAE_SLOT_READY, true, 2100, 60000, FAE_WATCH_WELL },
        { FAE_SLOT_READY, true, 4999, 60000, FAE_WATCH_WELL },
        { FAE_SLOT_READY, true, 5000, 60000, FAE_WATCH_KILL },
        { FAE_SLOT_READY, false, 5000, 60000, FAE_WATCH_KILL },
        { FAE_SLOT_DRAINING, false, 2000, 60000, FAE_WATCH_WARN },
        { FAE_SLOT_DRAINING, true, 5000, 60000, FAE_WATCH_KILL },
        { FAE_SLOT_STARTING, false, 9000, 9999, FAE_WATCH_WELL }, /* it stamps nothing yet */
        { FAE_SLOT_STARTING, false, 10000, 10000, FAE_WATCH_KILL },
        { FAE_SLOT_DEAD, false, 100000, 100000, FAE_WATCH_WELL },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_watch_case c = { .state = rows[i].state,
                                    .warned = rows[i].warned,
                                    .silent_ms = rows[i].silent_ms,
                                    .age_ms = rows[i].age_ms,
                                    .warn_ms = 2000,
                                    .kill_ms = 5000 };

        assert_int_equal(fae_watch_judge(&c), rows[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(silence_is_judged) };

    return cmocka_run_group_tests_name("watchdog", tests, NULL, NULL);
}
