/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Threads for what may wait for a disk. They are few, and no signal is theirs: signals are the loop's.
 */
#ifndef FAE_BASE_THREAD_H
#define FAE_BASE_THREAD_H

#include <pthread.h>

/* Runs fn(arg); name, of 15 bytes at most, is what debuggers and `top -H` show. 0, or an errno. */
int fae_thread_start(pthread_t *thread_out, const char *name, void *(*fn)(void *arg), void *arg);

#endif
