/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A checker: a short-lived forked process that runs what may hang or crash (config, servants) under a time limit. What
 * it prints into `out` comes back through a pipe, its verdict is its exit code. One job at a time per struct; the
 * supervisor polls it, start and --single wait for it.
 */
#ifndef FAE_PROC_CHECKER_H
#define FAE_PROC_CHECKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"
#include "base/err.h"

struct fae_checker {
    pid_t pid; /* 0: none runs */
    int fd;    /* the pipe, -1 when closed */
    uint64_t deadline_ms;
    struct fae_buf out;
    const char *killed; /* why we ended it; static text */
    bool reaped;
    int status; /* of waitpid, once reaped */
};

#define FAE_CHECKER_NONE ((struct fae_checker){ .fd = -1 })

/* What runs in the child: its code, with the result or the reasons in out. */
typedef enum fae_err (*fae_checker_fn)(void *arg, struct fae_buf *out);

/* Forks. `forget(arg)`, or NULL, closes in the child what is not its business. SYSTEM and errno. */
enum fae_err fae_checker_start(struct fae_checker *c, fae_checker_fn fn, void *arg, void (*forget)(void *),
                               void *forget_arg);
/* Call when fd is readable. */
void fae_checker_read(struct fae_checker *c);
/* Tells that waitpid named this process; false when it is another's. */
bool fae_checker_reap(struct fae_checker *c, pid_t pid, int status);
/* Ends it when its time is over. */
void fae_checker_tick(struct fae_checker *c, uint64_t now_ms);
void fae_checker_kill(struct fae_checker *c, const char *why);
bool fae_checker_done(const struct fae_checker *c);
/* Once done: its code; c->out holds the result, or at least one line of reasons. `what` names the job in them. */
enum fae_err fae_checker_result(struct fae_checker *c, const char *what);
/* Ends and reaps what may run; ready for the next. */
void fae_checker_fini(struct fae_checker *c);

/* start, wait, result in one, for a process that may wait. */
enum fae_err fae_checker_run(struct fae_checker *c, const char *what, fae_checker_fn fn, void *arg,
                             void (*forget)(void *), void *forget_arg);

#endif
