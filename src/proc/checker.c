/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Forking a checker, bounding it, and reading its verdict.
 */
#include "proc/checker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/log.h"
#include "proc/child.h"

#define OUT_MAX (8u * FAE_MIB)
#define VERDICT 64 /* added to the code, so that a script that calls os.exit passes for no verdict */

/* ---- in the child ---- */

static void write_all(int fd, const struct fae_buf *out)
{
    size_t done = 0;
    ssize_t n;

    while (done < out->len) {
        n = write(fd, out->data + done, out->len - done);
        if (n < 0 && errno != EINTR)
            return;
        if (n > 0)
            done += (size_t)n;
    }
}

static void __attribute__((noreturn)) run_child(int fd, pid_t parent, fae_checker_fn fn, void *arg)
{
    const struct rlimit no_core = { 0, 0 };
    struct fae_buf out = { 0 };
    enum fae_err err;

    setpgid(0, 0); /* whatever it starts dies with it */
    fae_child_signals();
    signal(SIGPIPE, SIG_DFL);
    fae_child_follow(parent, false);
    setrlimit(RLIMIT_CORE, &no_core);
    /* What it prints must not pass for the node's ready line, and the log ring has its one writer. */
    dup2(STDERR_FILENO, STDOUT_FILENO);
    fae_log_to_fd(STDERR_FILENO);
    err = fn(arg, &out);
    write_all(fd, &out);
    _exit(VERDICT + (int)err);
}

/* ---- in the parent ---- */

enum fae_err fae_checker_start(struct fae_checker *c, fae_checker_fn fn, void *arg, void (*forget)(void *),
                               void *forget_arg)
{
    pid_t parent = getpid();
    int fds[2], why;

    *c = FAE_CHECKER_NONE;
    if (pipe2(fds, O_CLOEXEC) != 0)
        return FAE_SYSTEM;
    c->pid = fork();
    if (c->pid < 0) {
        why = errno;
        close(fds[0]);
        close(fds[1]);
        *c = FAE_CHECKER_NONE;
        errno = why;
        return FAE_SYSTEM;
    }
    if (c->pid == 0) {
        close(fds[0]);
        if (forget)
            forget(forget_arg);
        run_child(fds[1], parent, fn, arg);
    }
    setpgid(c->pid, c->pid);
    close(fds[1]);
    fcntl(fds[0], F_SETFL, O_NONBLOCK);
    c->fd = fds[0];
    c->deadline_ms = fae_now_ms() + FAE_CHECKER_MS;
    return FAE_OK;
}

static void close_pipe(struct fae_checker *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
}

void fae_checker_read(struct fae_checker *c)
{
    ssize_t n;

    while (c->fd >= 0) {
        n = read(c->fd, fae_buf_room(&c->out, 16 * FAE_KIB), 16 * FAE_KIB);
        if (n > 0) {
            c->out.len += (size_t)n;
            if (c->out.len <= OUT_MAX)
                continue;
            fae_checker_kill(c, "has far too much to say");
            close_pipe(c);
        } else if (n == 0) {
            close_pipe(c);
        } else if (errno != EINTR) {
            return;
        }
    }
}

bool fae_checker_reap(struct fae_checker *c, pid_t pid, int status)
{
    if (c->pid == 0 || pid != c->pid)
        return false;
    /* What it left in the pipe is read now; a process that it started may hold the other end for ever. */
    fae_checker_read(c);
    close_pipe(c);
    kill(-c->pid, SIGKILL);
    c->reaped = true;
    c->status = status;
    return true;
}

void fae_checker_tick(struct fae_checker *c, uint64_t now_ms)
{
    static const char late[] = "did not end within 2000 ms";
    _Static_assert(FAE_CHECKER_MS == 2000, "the text names it");

    if (c->pid && !c->reaped && now_ms >= c->deadline_ms)
        fae_checker_kill(c, late);
}

void fae_checker_kill(struct fae_checker *c, const char *why)
{
    if (c->pid == 0 || c->reaped)
        return;
    if (!c->killed)
        c->killed = why;
    kill(-c->pid, SIGKILL);
    kill(c->pid, SIGKILL);
}

bool fae_checker_done(const struct fae_checker *c)
{
    return c->pid && c->reaped;
}

enum fae_err fae_checker_result(struct fae_checker *c, const char *what)
{
    int code;

    if (c->killed || !WIFEXITED(c->status)) {
        c->out.len = 0;
        if (c->killed)
            fae_buf_printf(&c->out, "%s: the check %s and was stopped\n", what, c->killed);
        else
            fae_buf_printf(&c->out, "%s: the check died of signal %d (%s)\n", what, WTERMSIG(c->status),
                           strsignal(WTERMSIG(c->status)));
        return FAE_BAD_SERVANT;
    }
    code = WEXITSTATUS(c->status) - VERDICT;
    if (code < 0 || code >= FAE_ERR_COUNT) {
        fae_buf_printf(&c->out, "%s: the check ended itself (exit code %d)\n", what, WEXITSTATUS(c->status));
        return FAE_BAD_SERVANT;
    }
    if (code && c->out.len == 0)
        fae_buf_printf(&c->out, "%s: %s\n", what, fae_err_text((enum fae_err)code));
    return (enum fae_err)code;
}

void fae_checker_fini(struct fae_checker *c)
{
    int status;

    if (c->pid && !c->reaped) {
        fae_checker_kill(c, "was not wanted any more");
        while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    close_pipe(c);
    fae_buf_fini(&c->out);
    *c = FAE_CHECKER_NONE;
}

enum fae_err fae_checker_run(struct fae_checker *c, const char *what, fae_checker_fn fn, void *arg,
                             void (*forget)(void *), void *forget_arg)
{
    enum fae_err err = fae_checker_start(c, fn, arg, forget, forget_arg);
    int status;

    if (err) {
        fae_buf_printf(&c->out, "%s: cannot start the check: %s\n", what, strerror(errno));
        return err;
    }
    while (!fae_checker_done(c)) {
        struct pollfd pfd = { .fd = c->fd, .events = POLLIN };

        /* The pipe's end comes just before the death; between two looks at most 20 ms pass. */
        poll(&pfd, 1, c->fd >= 0 ? 20 : 1);
        fae_checker_read(c);
        fae_checker_tick(c, fae_now_ms());
        if (waitpid(c->pid, &status, WNOHANG) == c->pid)
            fae_checker_reap(c, c->pid, status);
    }
    return fae_checker_result(c, what);
}
