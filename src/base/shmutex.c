/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Robust mutexes in shared memory.
 */
#include "base/shmutex.h"

#include <errno.h>
#include <sched.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"

#define FAE_SHMUTEX_YIELDS 64 /* tries before it sleeps between them: what is guarded takes well under 1 us */

void fae_shmutex_init(struct fae_shmutex *m)
{
    pthread_mutexattr_t attr;

    FAE_ASSERT(pthread_mutexattr_init(&attr) == 0);
    FAE_ASSERT(pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED) == 0);
    FAE_ASSERT(pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST) == 0);
    FAE_ASSERT(pthread_mutex_init(&m->mutex, &attr) == 0);
    pthread_mutexattr_destroy(&attr);
}

/* What a lock call's answer means. Dying before this is harmless: the next holder is told again. */
static bool took_over(struct fae_shmutex *m, int rc)
{
    if (rc == EOWNERDEAD) {
        FAE_ASSERT(pthread_mutex_consistent(&m->mutex) == 0);
        return true;
    }
    FAE_ASSERT(rc == 0);
    return false;
}

bool fae_shmutex_lock(struct fae_shmutex *m)
{
    return took_over(m, pthread_mutex_lock(&m->mutex));
}

/* By trying, not pthread_mutex_clocklock, which TSan of Debian 12 does not know; timedlock follows the wall clock. */
enum fae_err fae_shmutex_lock_within(struct fae_shmutex *m, unsigned ms, bool *died_out)
{
    uint64_t until_ms = fae_now_ms() + ms + 1;
    int rc;

    for (unsigned i = 0; (rc = pthread_mutex_trylock(&m->mutex)) == EBUSY; i++) {
        if (fae_now_ms() >= until_ms)
            return FAE_TIMEOUT;
        if (i < FAE_SHMUTEX_YIELDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){ .tv_nsec = 100000 }, NULL);
    }
    *died_out = took_over(m, rc);
    return FAE_OK;
}

void fae_shmutex_unlock(struct fae_shmutex *m)
{
    FAE_ASSERT(pthread_mutex_unlock(&m->mutex) == 0);
}
