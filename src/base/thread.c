/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Threads born with all signals blocked.
 */
#include "base/thread.h"

#include <signal.h>

int fae_thread_start(pthread_t *thread_out, const char *name, void *(*fn)(void *arg), void *arg)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(thread_out, NULL, fn, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!rc)
        pthread_setname_np(*thread_out, name);
    return rc;
}
