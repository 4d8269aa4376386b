/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/privs: accounts, and who may look into a process. Each try is a child of its own.
 */
#include "unit.h"

#include <pwd.h>
#include <sys/resource.h>

#include "base/sanitize.h"
#include "proc/privs.h"

static char why[300];

static int cores(void *arg)
{
    const bool *how = arg; /* wanted, traced */
    struct rlimit limit;

    fae_privs_limits();
    fae_privs_cores(how[0], how[1]);
    if (getrlimit(RLIMIT_CORE, &limit) != 0 || limit.rlim_cur != (how[0] ? limit.rlim_max : 0))
        return 1;
    return prctl(PR_GET_DUMPABLE) == (how[0] || how[1] || FAE_ASAN || FAE_TSAN) ? 0 : 2;
}

static void test_cores(void **state)
{
    bool rows[][2] = { { false, false }, { false, true }, { true, false }, { true, true } };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        assert_int_equal(unit_wait(unit_fork(cores, rows[i])), 0);
}

static int drop_to_nobody(void *arg)
{
    const struct passwd *pw = getpwnam("nobody");

    (void)arg;
    if (fae_privs_drop("nobody", why, sizeof why))
        return 1;
    if (getuid() != pw->pw_uid || geteuid() != pw->pw_uid || getgid() != pw->pw_gid)
        return 2;
    if (setuid(0) == 0 || prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        return 3;
    return prctl(PR_CAPBSET_READ, 0, 0, 0, 0) == 0 ? 0 : 4;
}

static void test_drop(void **state)
{
    (void)state;
    if (geteuid() != 0)
        skip();
    assert_int_equal(unit_wait(unit_fork(drop_to_nobody, NULL)), 0);
}

static void test_accounts(void **state)
{
    uid_t uid = 1;
    gid_t gid = 1;

    (void)state;
    assert_int_equal(fae_privs_account("", &uid, &gid, why, sizeof why), FAE_OK);
    assert_int_equal(uid, geteuid());
    assert_int_equal(gid, getegid());
    assert_int_equal(fae_privs_account("no such account", &uid, &gid, why, sizeof why), FAE_BAD_CONFIG);
    assert_string_equal(why, "user: there is no account \"no such account\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cores),
        cmocka_unit_test(test_drop),
        cmocka_unit_test(test_accounts),
    };

    return cmocka_run_group_tests_name("proc/privs", tests, NULL, NULL);
}
