/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/rundir: one node a folder, and what a killed one leaves is taken over.
 */
#include "unit.h"

#include <sys/stat.h>

#include "proc/rundir.h"

struct attempt {
    const char *path;
    enum fae_err want;
    bool stale;
    bool unlinks; /* else it is "killed" */
};

static int try_open(void *arg)
{
    const struct attempt *a = arg;
    struct fae_rundir dir;
    char why[600] = "";
    enum fae_err err = fae_rundir_open(&dir, "run_dir", a->path, geteuid(), getegid(), why, sizeof why);

    if (err != a->want)
        return 1;
    if (err)
        return strstr(why, "already") ? 0 : 2;
    if (dir.stale != a->stale)
        return 3;
    if (a->unlinks)
        fae_rundir_close(&dir, true);
    return 0;
}

static void expect(const char *path, enum fae_err want, bool stale, bool unlinks)
{
    struct attempt a = { path, want, stale, unlinks };

    assert_int_equal(unit_wait(unit_fork(try_open, &a)), 0);
}

static void one_node_a_folder(void **state)
{
    char base[200], path[256], why[600] = "", text[32] = "";
    struct fae_rundir dir;
    struct stat st;
    int fd;

    (void)state;
    unit_dir(base, sizeof base);
    snprintf(path, sizeof path, "%s/run", base);
    expect(path, FAE_OK, false, true);
    expect(path, FAE_OK, false, false);
    expect(path, FAE_OK, true, false); /* the one before was killed */
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07007, 0);
    assert_int_equal(fae_rundir_open(&dir, "run_dir", path, geteuid(), getegid(), why, sizeof why), FAE_OK);
    assert_true(dir.stale);
    expect(path, FAE_ADDR_IN_USE, false, false);
    fd = open(dir.pid_path, O_RDONLY);
    assert_true(read(fd, text, sizeof text - 1) > 0);
    close(fd);
    assert_int_equal(atol(text), getpid());
    fae_rundir_close(&dir, true);
    assert_int_equal(access(dir.pid_path, F_OK), -1);
    expect(path, FAE_OK, false, true);
    assert_int_equal(rmdir(path), 0);
    unit_dir_remove(base);
}

static void folders_on_the_way_are_made(void **state)
{
    char base[200], path[256], why[600];
    struct fae_rundir dir;

    (void)state;
    unit_dir(base, sizeof base);
    snprintf(path, sizeof path, "%s/a/b/", base);
    assert_int_equal(fae_rundir_open(&dir, "run_dir", path, geteuid(), getegid(), why, sizeof why), FAE_OK);
    path[strlen(path) - 1] = '\0';
    assert_string_equal(dir.path, path);
    fae_rundir_close(&dir, true);
    rmdir(path);
    snprintf(path, sizeof path, "%s/a", base);
    rmdir(path);
    unit_dir_remove(base);
}

static void bad_folders_are_told(void **state)
{
    static const struct {
        const char *path, *why;
    } rows[] = {
        { "/dev/null/run", "run_dir /dev/null/run: Not a directory" },
        { "/proc/nothing/run", "run_dir /proc/nothing/run: No such file or directory" },
    };
    char base[200], path[320], why[600];
    struct fae_rundir dir;

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        assert_int_equal(fae_rundir_open(&dir, "run_dir", rows[i].path, geteuid(), getegid(), why, sizeof why),
                         FAE_SYSTEM);
        assert_string_equal(why, rows[i].why);
        assert_int_equal(dir.pid_fd, -1);
    }
    unit_dir(base, sizeof base);
    snprintf(path, sizeof path, "%s/%0*d", base, 100, 0);
    assert_int_equal(fae_rundir_open(&dir, "run_dir", path, geteuid(), getegid(), why, sizeof why), FAE_SYSTEM);
    assert_non_null(strstr(why, "too long"));
    rmdir(path);
    unit_dir_remove(base);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_a_folder),
        cmocka_unit_test(folders_on_the_way_are_made),
        cmocka_unit_test(bad_folders_are_told),
    };

    return cmocka_run_group_tests_name("rundir", tests, NULL, NULL);
}
