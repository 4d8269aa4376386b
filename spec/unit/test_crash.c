/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/crash and proc/stackscan: what a child leaves in its slot when it crashes or is nudged.
 */
#include "unit.h"

#include <sys/mman.h>

#include "base/alloc.h"
#include "base/hist.h"
#include "base/log.h"
#include "base/sanitize.h"
#include "proc/crash.h"
#include "proc/stackscan.h"
#include "rpc/stats.h"

static struct fae_slots *slots;
static volatile sig_atomic_t nudges;

static int setup(void **state)
{
    const unsigned one = 1;

    (void)state;
    slots = mmap(NULL, fae_slots_size(&one), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_ptr_not_equal(slots, MAP_FAILED);
    fae_slots_init(slots, &one);
    return 0;
}

static int teardown(void **state)
{
    const unsigned one = 1;

    (void)state;
    munmap(slots, fae_slots_size(&one));
    return 0;
}

static void count(void *arg)
{
    (*(volatile sig_atomic_t *)arg)++;
}

static void a_nudge_leaves_a_trace_once(void **state)
{
    struct fae_slot *s = &slots->slots[0];
    uint32_t len;

    (void)state;
    fae_crash_install(s, count, (void *)&nudges);
    nudges = 0;
    raise(SIGUSR2);
    len = FAE_STAT_GET(s->trace_len);
    assert_true(len > 20 && len <= FAE_SLOT_TRACE);
    assert_memory_equal(s->trace, "stuck: 0x", 9);
    s->trace[0] = 'S';
    raise(SIGUSR2);
    assert_int_equal(nudges, 2);
    assert_int_equal(s->trace[0], 'S'); /* not taken yet: kept */
    signal(SIGUSR2, SIG_DFL);
}

#if !FAE_ASAN && !FAE_TSAN
static int die_of(void *arg)
{
    fae_crash_install(&slots->slots[0], NULL, NULL);
    raise(*(int *)arg);
    return 0;
}

static int write_nowhere(void *arg)
{
    fae_crash_install(&slots->slots[0], NULL, NULL);
    *(volatile int *)arg = 1;
    return 0;
}

__attribute__((noinline)) static int deeper(volatile unsigned *depth)
{
    volatile char here[4096];

    here[0] = (char)*depth;
    return ++*depth == 0 ? 0 : deeper(depth) + here[0];
}

static int overflow(void *arg)
{
    volatile unsigned depth = 0;

    (void)arg;
    fae_crash_install(&slots->slots[0], NULL, NULL);
    return deeper(&depth);
}

static void crashes_leave_their_name_and_still_end_it(void **state)
{
    static const struct {
        int number;
        const char *text;
    } rows[] = {
        { SIGSEGV, "SIGSEGV: 0x" }, { SIGBUS, "SIGBUS: 0x" },   { SIGFPE, "SIGFPE: 0x" },
        { SIGILL, "SIGILL: 0x" },   { SIGABRT, "SIGABRT: 0x" },
    };
    struct fae_slot *s = &slots->slots[0];
    int number;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        FAE_STAT_SET(s->trace_len, 0);
        number = rows[i].number;
        assert_int_equal(unit_wait(unit_fork(die_of, &number)), -number);
        assert_true(FAE_STAT_GET(s->trace_len) > strlen(rows[i].text));
        assert_memory_equal(s->trace, rows[i].text, strlen(rows[i].text));
    }
    FAE_STAT_SET(s->trace_len, 0);
    assert_int_equal(unit_wait(unit_fork(write_nowhere, (void *)16)), -SIGSEGV);
    assert_memory_equal(s->trace, "SIGSEGV at 0x10: 0x", 19);
    FAE_STAT_SET(s->trace_len, 0);
    assert_int_equal(unit_wait(unit_fork(overflow, NULL)), -SIGSEGV);
    assert_memory_equal(s->trace, "SIGSEGV at 0x", 13);
}
#endif

static void reports_survive_nonsense(void **state)
{
    const unsigned one = 1;
    struct fae_stats *stats = fae_zalloc(fae_stats_size(&one));
    struct fae_slot *s = &slots->slots[0];
    char method[FAE_METHOD_NAME_MAX + 1];
    uint64_t seed = 5;

    (void)state;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    fae_log_to_fd(open("/dev/null", O_WRONLY | O_CLOEXEC));
    memset(stats->names[3], 'x', sizeof stats->names[3]); /* without its NUL */
    FAE_STAT_SET(s->method, 4);
    assert_int_equal(strlen(fae_crash_method(slots, stats, 0, method)), FAE_METHOD_NAME_MAX);
    FAE_STAT_SET(s->method, 4000000000u);
    assert_string_equal(fae_crash_method(slots, stats, 0, method), "no method");
    for (unsigned i = 0; i < 2000; i++) {
        for (unsigned k = 0; k < FAE_SLOT_TRACE; k++)
            s->trace[k] = "0123456789abcdefx: \n\0\xff"[unit_random(&seed) % 23];
        FAE_STAT_SET(s->trace_len, i % 3 ? (uint32_t)(unit_random(&seed) % FAE_SLOT_TRACE) : UINT32_MAX);
        fae_crash_report(slots, stats, 0);
        assert_int_equal(FAE_STAT_GET(s->trace_len), 0);
    }
    fae_log_to_fd(STDERR_FILENO);
    free(stats);
}

static void callers_are_found_on_the_stack(void **state)
{
    uintptr_t frames[32], here = (uintptr_t)__builtin_frame_address(0);
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    size_t n;
    bool found = false;

    (void)state;
    fae_stackscan_init();
    n = fae_stackscan(here, frames, UNIT_N(frames));
    for (size_t i = 0; i < n; i++)
        found |= frames[i] == caller;
    assert_true(found);
    assert_int_equal(fae_stackscan(0, frames, UNIT_N(frames)), 0);
    assert_int_equal(fae_stackscan(16, frames, UNIT_N(frames)), 0);
    assert_int_equal(fae_stackscan(UINTPTR_MAX & ~(uintptr_t)7, frames, UNIT_N(frames)), 0);
    assert_int_equal(fae_stackscan(here, frames, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_nudge_leaves_a_trace_once, setup, teardown),
#if !FAE_ASAN && !FAE_TSAN
        cmocka_unit_test_setup_teardown(crashes_leave_their_name_and_still_end_it, setup, teardown),
#endif
        cmocka_unit_test_setup_teardown(reports_survive_nonsense, setup, teardown),
        cmocka_unit_test(callers_are_found_on_the_stack),
    };

    return cmocka_run_group_tests_name("crash", tests, NULL, NULL);
}
