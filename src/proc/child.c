/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Signals of a child, and its tie to the supervisor's life.
 */
#include "proc/child.h"

#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <unistd.h>

#define GRACE_S 1

void fae_child_signals(void)
{
    /* A terminal's ctrl-C and a service manager's stop reach every process; who drains whom is the supervisor's matter. */
    static const int ignored[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGPIPE };
    sigset_t none;

    for (unsigned i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static pid_t followed;

/* An operator who has the log reopened may signal every process of the service. */
static void on_orphaned(int number)
{
    (void)number;
    if (getppid() != followed)
        alarm(GRACE_S);
}

enum fae_err fae_child_pin(unsigned nth)
{
    unsigned n;
    cpu_set_t all, one;

    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return FAE_SYSTEM;
    n = nth % (unsigned)CPU_COUNT(&all);
    CPU_ZERO(&one);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &all) && n-- == 0) {
            CPU_SET(cpu, &one);
            break;
        }
    return sched_setaffinity(0, sizeof one, &one) == 0 ? FAE_OK : FAE_SYSTEM;
}

void fae_child_follow(pid_t parent, bool grace)
{
    struct sigaction action = { .sa_handler = on_orphaned, .sa_flags = SA_RESTART };

    followed = parent;
    if (grace) {
        sigemptyset(&action.sa_mask);
        sigaction(SIGUSR1, &action, NULL);
    }
    prctl(PR_SET_PDEATHSIG, grace ? SIGUSR1 : SIGKILL);
    if (getppid() != parent)
        _exit(1);
}
