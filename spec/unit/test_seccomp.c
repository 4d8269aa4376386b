/* SPDX-License-Identifier: BSD-2-Clause
 *
 * proc/seccomp: what a process under the filter can do and what it cannot. Each try is a child of its own.
 */
#include "unit.h"

#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "base/sanitize.h"
#include "proc/seccomp.h"

static char why[300];

static int as_errno(long rc)
{
    return rc < 0 ? errno : 0;
}

static int try_exec(void)
{
    char *const args[] = { "true", NULL };

    execv("/bin/true", args);
    return errno;
}

static int try_execveat(void)
{
    char *const args[] = { "true", NULL };

    return as_errno(syscall(SYS_execveat, AT_FDCWD, "/bin/true", args, NULL, 0));
}

static int try_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    return as_errno(pid);
}

static int try_vfork(void)
{
    return as_errno(syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, NULL, NULL, NULL, NULL));
}

static int try_system(void)
{
    int rc = system("exit 7");

    if (rc == -1)
        return errno;
    return !WIFEXITED(rc) ? 99 : WEXITSTATUS(rc) == 127 ? EPERM : WEXITSTATUS(rc) == 7 ? 0 : 99; /* 127: no shell */
}

static int try_popen(void)
{
    FILE *f = popen("echo x", "r");
    int c = f ? fgetc(f) : 0;

    if (f)
        pclose(f);
    return f ? c == 'x' ? 0 : 99 : errno == ENOMEM ? EPERM : errno; /* libc says that of any reason */
}

static int try_ptrace(void)
{
    return as_errno(ptrace(PTRACE_TRACEME, 0, NULL, NULL));
}

static int try_unshare(void)
{
    return as_errno(unshare(CLONE_NEWUSER));
}

static int try_mount(void)
{
    return as_errno(mount("none", "/nowhere", "tmpfs", 0, NULL)) == EPERM ? EPERM : 0;
}

static int try_keyctl(void)
{
    return as_errno(syscall(SYS_keyctl, 0, 0, 0));
}

static int try_bpf(void)
{
    return as_errno(syscall(SYS_bpf, 0, NULL, 0)) == EPERM ? EPERM : 0;
}

static int try_io_uring(void)
{
    return as_errno(syscall(SYS_io_uring_setup, 0, NULL)) == EPERM ? EPERM : 0;
}

static int try_af_alg(void)
{
    return as_errno(socket(AF_ALG, SOCK_SEQPACKET, 0)) == EAFNOSUPPORT ? EPERM : 0;
}

static int try_terminal(void)
{
    return as_errno(ioctl(STDIN_FILENO, TIOCSTI, "x"));
}

/* A flag above the low 32 bits must not get past the comparison. */
static int try_terminal_by_a_back_door(void)
{
    return as_errno(syscall(SYS_ioctl, STDIN_FILENO, 0x100000000ul | TIOCSTI, "x"));
}

/* ---- what must go on working ---- */

static void *return_it(void *arg)
{
    return arg;
}

static int try_thread(void)
{
    pthread_t thread;
    int rc = pthread_create(&thread, NULL, return_it, NULL);

    return rc ? rc : pthread_join(thread, NULL);
}

static int try_compile(void)
{
    void *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return mem == MAP_FAILED ? errno : as_errno(mprotect(mem, 4096, PROT_READ | PROT_EXEC));
}

static int try_sockets(void)
{
    static const int families[] = { AF_INET, AF_INET6, AF_UNIX, AF_NETLINK };

    for (unsigned i = 0; i < UNIT_N(families); i++)
        if (socket(families[i], families[i] == AF_NETLINK ? SOCK_RAW : SOCK_STREAM, 0) < 0 && errno != EAFNOSUPPORT)
            return errno;
    return 0;
}

static int try_signal(void)
{
    return as_errno(kill(getpid(), 0));
}

static const struct {
    const char *name;
    int (*try)(void);
    int closed, open; /* errno under the filter, and with programs allowed */
} tries[] = {
    { "exec", try_exec, EPERM, 0 },
    { "execveat", try_execveat, EPERM, EPERM },
    { "fork", try_fork, EPERM, 0 },
    { "vfork", try_vfork, EPERM, -1 },
    { "system", try_system, EPERM, 0 },
    { "popen", try_popen, EPERM, 0 },
    { "ptrace", try_ptrace, EPERM, EPERM },
    { "unshare", try_unshare, EPERM, EPERM },
    { "mount", try_mount, EPERM, EPERM },
    { "keyctl", try_keyctl, EPERM, EPERM },
    { "bpf", try_bpf, EPERM, EPERM },
    { "io_uring", try_io_uring, EPERM, EPERM },
    { "AF_ALG", try_af_alg, EPERM, EPERM },
    { "TIOCSTI", try_terminal, EPERM, EPERM },
    { "TIOCSTI + 2^32", try_terminal_by_a_back_door, EPERM, EPERM },
    { "a thread", try_thread, 0, 0 },
    { "compiled code", try_compile, 0, 0 },
    { "sockets", try_sockets, 0, 0 },
    { "a signal to itself", try_signal, 0, 0 },
};

struct job {
    unsigned i;
    bool may_start;
};

static int run(void *arg)
{
    const struct job *job = arg;

    if (fae_seccomp_install(job->may_start, why, sizeof why))
        return 98;
    return tries[job->i].try();
}

static void test_tries(void **state)
{
    (void)state;
    if (FAE_ASAN || FAE_TSAN)
        skip(); /* no filter then */
    for (unsigned i = 0; i < UNIT_N(tries); i++)
        for (int may_start = 0; may_start < 2; may_start++) {
            struct job job = { i, may_start };
            int want = may_start ? tries[i].open : tries[i].closed, got;

            if (want < 0)
                continue;
            got = unit_wait(unit_fork(run, &job));
            if (got != want)
                fail_msg("%s, programs %s: %d (%s), not %d", tries[i].name, may_start ? "allowed" : "denied", got,
                         strerror(got), want);
        }
}

/* A thread that was there before is under it too. */
static int gate[2];

static void *fork_later(void *arg)
{
    char byte;
    pid_t pid;

    if (read(gate[0], &byte, 1) != 1)
        return arg;
    pid = fork();
    if (pid == 0)
        _exit(0);
    return (void *)(intptr_t)as_errno(pid);
}

static int run_thread(void *arg)
{
    pthread_t thread;
    void *result;

    (void)arg;
    if (pipe(gate) != 0 || pthread_create(&thread, NULL, fork_later, (void *)-1) != 0)
        return 97;
    if (fae_seccomp_install(false, why, sizeof why))
        return 98;
    if (write(gate[1], "x", 1) != 1 || pthread_join(thread, &result) != 0)
        return 96;
    return (int)(intptr_t)result;
}

static void test_threads(void **state)
{
    (void)state;
    if (FAE_ASAN || FAE_TSAN)
        skip();
    assert_int_equal(unit_wait(unit_fork(run_thread, NULL)), EPERM);
}

static void test_fence(void **state)
{
    static const struct {
        const char *allow[2];
        bool may;
    } rows[] = {
        { { "", "" }, false },
        { { "debug ffi", "loadlib" }, false },
        { { "os.execute", "" }, true },
        { { "ffi", "debug io.popen" }, true },
    };
    static struct fae_config config;

    (void)state;
    assert_false(fae_seccomp_may_start(&config));
    config.n_fence = 2;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        strcpy(config.fence[0].allow, rows[i].allow[0]);
        strcpy(config.fence[1].allow, rows[i].allow[1]);
        assert_int_equal(fae_seccomp_may_start(&config), rows[i].may);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tries),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_fence),
    };

    return cmocka_run_group_tests_name("proc/seccomp", tests, NULL, NULL);
}
