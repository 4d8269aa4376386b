/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Robust mutexes in shared memory.
 */
#include "base/shmutex.h"

#include <errno.h>
#include <time.h>

#include "base/assert.h"

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

enum fae_err fae_shmutex_lock_within(struct fae_shmutex *m, unsigned ms, bool *died_out)
{
    int rc = pthread_mutex_trylock(&m->mutex);

    if (rc == EBUSY) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ms / 1000;
        until.tv_nsec += (long)(ms % 1000) * 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        rc = pthread_mutex_clocklock(&m->mutex, CLOCK_MONOTONIC, &until);
        if (rc == ETIMEDOUT)
            return FAE_TIMEOUT;
    }
    *died_out = took_over(m, rc);
    return FAE_OK;
}

void fae_shmutex_unlock(struct fae_shmutex *m)
{
    FAE_ASSERT(pthread_mutex_unlock(&m->mutex) == 0);
}
