/* SPDX-License-Identifier: BSD-2-Clause
 *
 * base/memlimit: what a machine and its cgroups of both versions allow, and what that leaves of the options.
 */
#include "unit.h"

#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "base/memlimit.h"

#define GIB (1024ull * FAE_MIB)
#define MEMINFO "MemTotal:        8388608 kB\nMemFree:  1 kB\n"
#define V1 "/sys/fs/cgroup/memory"
#define V2 "/sys/fs/cgroup"

static void put(const char *root, const char *path, const char *text)
{
    char name[PATH_MAX];
    FILE *file;

    snprintf(name, sizeof name, "%s%s", root, path);
    for (char *at = strchr(name + strlen(root) + 1, '/'); at; at = strchr(at + 1, '/')) {
        *at = '\0';
        assert_true(mkdir(name, 0755) == 0 || errno == EEXIST);
        *at = '/';
    }
    file = fopen(name, "we");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
    (void)st;
    (void)type;
    (void)at;
    return remove(path);
}

static void the_least_limit_counts(void **state)
{
    static const struct {
        const char *cgroup; /* /proc/self/cgroup */
        struct {
            const char *path, *text;
        } files[4];
        uint64_t want;
    } rows[] = {
        /* no cgroup, and one without a limit */
        { "", { { "/proc/meminfo", MEMINFO } }, 8 * GIB },
        { "", { { "/proc/meminfo", "nonsense\n" } }, UINT64_MAX },
        { "0::/\n", { { "/proc/meminfo", MEMINFO }, { V2 "/memory.max", "max\n" } }, 8 * GIB },
        { "4:memory:/a\n", { { V1 "/a/memory.limit_in_bytes", "9223372036854771712\n" } }, 9223372036854771712ull },
        /* version 2: its own, one above, both */
        { "0::/a/b\n", { { "/proc/meminfo", MEMINFO }, { V2 "/a/b/memory.max", "268435456\n" } }, 256 * FAE_MIB },
        { "0::/a/b\n", { { V2 "/a/memory.max", "1000\n" }, { V2 "/a/b/memory.max", "max\n" } }, 1000 },
        { "0::/a/b\n", { { V2 "/a/memory.max", "1000\n" }, { V2 "/a/b/memory.max", "999" } }, 999 },
        /* version 1, among others; a container's own is seen at the top alone */
        { "9:cpu,cpuacct:/x\n4:memory:/a\n0::/\n", { { V1 "/a/memory.limit_in_bytes", "5000\n" } }, 5000 },
        { "4:memory:/not/seen\n", { { V1 "/memory.limit_in_bytes", "7000\n" } }, 7000 },
        { "4:memory:/\n", { { V1 "/memory.limit_in_bytes", "7000\n" } }, 7000 },
        /* what is no limit */
        { "4:memory:/a\n", { { V1 "/a/memory.limit_in_bytes", "many\n" } }, UINT64_MAX },
        { "4:memory:/a\n", { { V1 "/a/memory.limit_in_bytes", "-1\n" } }, UINT64_MAX },
        { "4:memory:/a\n", { { V1 "/a/memory.limit_in_bytes", "12 34\n" } }, UINT64_MAX },
        { "4:memory:/a\n", { { V1 "/a/memory.limit_in_bytes", "99999999999999999999999\n" } }, UINT64_MAX },
        { "4:memory:/a\n", { { V1 "/a/memory.limit_in_bytes", "" } }, UINT64_MAX },
        { "memory\n4:memory\n:\n::\n", { { V1 "/memory.limit_in_bytes", "1\n" } }, UINT64_MAX },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        char root[200];

        unit_dir(root, sizeof root);
        put(root, "/proc/self/cgroup", rows[i].cgroup);
        for (unsigned k = 0; k < UNIT_N(rows[i].files) && rows[i].files[k].path; k++)
            put(root, rows[i].files[k].path, rows[i].files[k].text);
        if (fae_memlimit(root) != rows[i].want)
            fail_msg("row %u: %llu", i, (unsigned long long)fae_memlimit(root));
        assert_int_equal(nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
    }
}

static void all_that_is_left_fits(void **state)
{
    static const uint64_t limits[] = { 256 * FAE_MIB, GIB, 64 * GIB, UINT64_MAX - 1 };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(limits); i++)
        for (unsigned n = 1; n <= 8; n *= 2) {
            uint64_t lua = fae_memlimit_lua(limits[i], n), all = (lua + lua / 4) * n;

            all += 2 * fae_memlimit_io(limits[i]) + n * fae_memlimit_results(limits[i], n);
            all += 2 * fae_memlimit_cache(limits[i], FAE_MIB << 20, FAE_MIB << 21);
            assert_true(all <= limits[i] / 100 * 92);
        }
    assert_int_equal(fae_memlimit_lua(256 * FAE_MIB, FAE_WORKERS_MAX), 8 * FAE_MIB);
    assert_int_equal(fae_memlimit_results(256 * FAE_MIB, FAE_WORKERS_MAX), 2 * FAE_MIB);
}

static void caches_share_what_there_is(void **state)
{
    (void)state;
    assert_int_equal(fae_memlimit_cache(GIB, 100 * FAE_MIB, 128 * FAE_MIB), 100 * FAE_MIB);
    assert_int_equal(fae_memlimit_cache(GIB, 128 * FAE_MIB, 128 * FAE_MIB), 128 * FAE_MIB);
    assert_int_equal(fae_memlimit_cache(GIB, 64 * FAE_MIB, 256 * FAE_MIB), 32 * FAE_MIB);
    assert_int_equal(fae_memlimit_cache(GIB, 192 * FAE_MIB, 256 * FAE_MIB), 96 * FAE_MIB);
    assert_int_equal(fae_memlimit_cache(GIB, 9 * FAE_MIB, GIB), 8 * FAE_MIB);
    assert_int_equal(fae_memlimit_cache(GIB, 0, GIB), 0); /* none is none */
    assert_int_equal(fae_memlimit_cache(UINT64_MAX, GIB << 10, GIB << 11), GIB << 10);
}

static void there_is_one_here(void **state)
{
    (void)state;
    assert_true(fae_memlimit("") < UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_least_limit_counts),
        cmocka_unit_test(all_that_is_left_fits),
        cmocka_unit_test(caches_share_what_there_is),
        cmocka_unit_test(there_is_one_here),
    };

    return cmocka_run_group_tests_name("memlimit", tests, NULL, NULL);
}
