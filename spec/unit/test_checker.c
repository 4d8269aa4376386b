/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/checker: whatever the job does, there is a verdict in time and nothing is left behind.
 */
#include "unit.h"

#include "base/clock.h"
#include "base/limits.h"
#include "proc/checker.h"

static enum fae_err says_yes(void *arg, struct fae_buf *out)
{
    fae_buf_printf(out, "result of %s", (const char *)arg);
    return FAE_OK;
}

static enum fae_err says_much(void *arg, struct fae_buf *out)
{
    (void)arg;
    memset(fae_buf_room(out, 3 * FAE_MIB), 'x', 3 * FAE_MIB);
    out->len += 3 * FAE_MIB;
    return FAE_OK;
}

static enum fae_err says_too_much(void *arg, struct fae_buf *out)
{
    (void)arg;
    memset(fae_buf_room(out, 9 * FAE_MIB), 'x', 9 * FAE_MIB);
    out->len += 9 * FAE_MIB;
    return FAE_OK;
}

static enum fae_err says_no(void *arg, struct fae_buf *out)
{
    (void)arg;
    fae_buf_printf(out, "a.lua:3: no\n");
    return FAE_BAD_CONFIG;
}

static enum fae_err says_nothing(void *arg, struct fae_buf *out)
{
    (void)arg;
    (void)out;
    return FAE_NO_MEMORY;
}

static enum fae_err dies(void *arg, struct fae_buf *out)
{
    (void)arg;
    fae_buf_printf(out, "never sent");
    raise(SIGKILL);
    return FAE_OK;
}

static enum fae_err leaves(void *arg, struct fae_buf *out)
{
    (void)out;
    _exit(*(int *)arg);
}

static enum fae_err hangs(void *arg, struct fae_buf *out)
{
    (void)arg;
    (void)out;
    for (;;)
        pause();
    return FAE_OK;
}

/* The process it starts holds the pipe open. */
static enum fae_err forks_and_says_yes(void *arg, struct fae_buf *out)
{
    if (fork() == 0)
        hangs(arg, out);
    return says_yes(arg, out);
}

static void expect(fae_checker_fn fn, void *arg, enum fae_err want, const char *text)
{
    unsigned fds = unit_count_fds();
    struct fae_checker c;

    assert_int_equal(fae_checker_run(&c, "job", fn, arg, NULL, NULL), want);
    assert_non_null(strstr(fae_buf_text(&c.out), text));
    fae_checker_fini(&c);
    assert_int_equal(unit_count_fds(), fds);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
    assert_int_equal(errno, ECHILD);
}

static void verdicts_come_back(void **state)
{
    (void)state;
    expect(says_yes, "this", FAE_OK, "result of this");
    expect(says_no, NULL, FAE_BAD_CONFIG, "a.lua:3: no\n");
    expect(says_nothing, NULL, FAE_NO_MEMORY, "job: out of memory\n");
    expect(forks_and_says_yes, "that", FAE_OK, "result of that");
}

static void long_results_come_back_whole(void **state)
{
    struct fae_checker c;

    (void)state;
    assert_int_equal(fae_checker_run(&c, "job", says_much, NULL, NULL, NULL), FAE_OK);
    assert_int_equal(c.out.len, 3 * FAE_MIB);
    fae_checker_fini(&c);
    expect(says_too_much, NULL, FAE_BAD_SERVANT, "job: the check has far too much to say and was stopped\n");
}

static void crashes_and_exits_are_no_verdict(void **state)
{
    int codes[] = { 0, 1, 63, 200 };

    (void)state;
    expect(dies, NULL, FAE_BAD_SERVANT, "job: the check died of signal 9 (Killed)\n");
    for (unsigned i = 0; i < UNIT_N(codes); i++)
        expect(leaves, &codes[i], FAE_BAD_SERVANT, "job: the check ended itself");
}

static void hanging_is_ended_in_time(void **state)
{
    uint64_t start_ms = fae_now_ms(), took_ms;

    (void)state;
    expect(hangs, NULL, FAE_BAD_SERVANT, "job: the check did not end within 2000 ms and was stopped\n");
    took_ms = fae_now_ms() - start_ms;
    assert_true(took_ms >= FAE_CHECKER_MS);
    assert_true(took_ms < FAE_CHECKER_MS + 3000);
}

static void one_that_is_not_wanted_is_ended(void **state)
{
    struct fae_checker c;

    (void)state;
    assert_int_equal(fae_checker_start(&c, hangs, NULL, NULL, NULL), FAE_OK);
    assert_false(fae_checker_done(&c));
    fae_checker_fini(&c);
    assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(verdicts_come_back),
        cmocka_unit_test(long_results_come_back_whole),
        cmocka_unit_test(crashes_and_exits_are_no_verdict),
        cmocka_unit_test(hanging_is_ended_in_time),
        cmocka_unit_test(one_that_is_not_wanted_is_ended),
    };

    return cmocka_run_group_tests_name("checker", tests, NULL, NULL);
}
