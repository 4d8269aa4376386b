/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the unit tests share: cmocka with what it needs before it, child processes, a temporary folder, repeatable
 * random numbers. A child never uses cmocka's asserts: it answers by its exit code.
 */
#ifndef FAE_UNIT_H
#define FAE_UNIT_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define UNIT_FN __attribute__((unused)) static /* of a header: nobody has to call it */
#define UNIT_N(array) (sizeof(array) / sizeof *(array))

UNIT_FN void unit_sleep_ms(unsigned ms)
{
    struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

    while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
        ;
}

/* Runs fn(arg) in a child, which exits with what it returns. */
UNIT_FN pid_t unit_fork(int (*fn)(void *arg), void *arg)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed assert in the parent leaves nobody behind */
        _exit(fn(arg));
    }
    return pid;
}

/* The child's exit code, or minus the signal that ended it. */
UNIT_FN int unit_wait(pid_t pid)
{
    int status;

    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

/* Does fn(arg) end its process by abort()? Its words are not shown. */
UNIT_FN bool unit_aborts(void (*fn)(void *arg), void *arg)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        fn(arg);
        _exit(0);
    }
    return unit_wait(pid) == -SIGABRT;
}

UNIT_FN uint64_t unit_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* A new empty folder's path. */
UNIT_FN char *unit_dir(char *path, size_t size)
{
    const char *base = getenv("TMPDIR");

    snprintf(path, size, "%s/fae-unit-XXXXXX", base && *base ? base : P_tmpdir);
    assert_non_null(mkdtemp(path));
    return path;
}

/* Removes a folder of files. */
UNIT_FN void unit_dir_remove(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *e;

    assert_non_null(dir);
    while ((e = readdir(dir)))
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
            unlinkat(dirfd(dir), e->d_name, 0);
    closedir(dir);
    assert_int_equal(rmdir(path), 0);
}

UNIT_FN unsigned unit_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    assert_non_null(dir);
    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

#endif
