/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Signals of a child, and its tie to the supervisor's life.
 */
#include "proc/child.h"

#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#define GRACE_S 1

void fae_child_signals(void)
{
    /* A terminal's ctrl-C and a service manager's stop reach every process; who drains whom is the supervisor's matter. */
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
    sigset_t none;

    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void on_orphaned(int number)
{
    (void)number;
    alarm(GRACE_S);
}

void fae_child_follow(pid_t parent, bool grace)
{
    struct sigaction action = { .sa_handler = on_orphaned, .sa_flags = SA_RESTART };

    if (grace) {
        sigemptyset(&action.sa_mask);
        sigaction(SIGUSR1, &action, NULL);
    }
    prctl(PR_SET_PDEATHSIG, grace ? SIGUSR1 : SIGKILL);
    if (getppid() != parent)
        _exit(1);
}
