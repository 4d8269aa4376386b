/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Work that may block, away from the loop: a lane is a bounded queue with its own few threads. Jobs go in from the loop's
 * thread and come back to it, each exactly once. A thread takes all that waits in one go (a batch), because one multi-get
 * costs what one get does. A thread that is stuck holds up its lane alone: the loop, other lanes and the end of the process
 * do not wait for it.
 */
#ifndef FAE_BACKEND_OFFLOAD_H
#define FAE_BACKEND_OFFLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "net/loop.h"

struct fae_lane;

/* On the heap, made by the caller, the lane's from fae_lane_put on until done. What run and done touch lies in the struct
 * that embeds it. */
struct fae_job {
    struct fae_job *next;
    uint64_t deadline_ms; /* not begun by then: done with TIMEOUT; 0: none */
    uint32_t state;       /* the lane's */
    /* On the loop, last: OK (it ran), TIMEOUT (it was not begun), CLOSED (the lane ended before). Frees the job. */
    void (*done)(struct fae_job *job, enum fae_err err);
    /* Instead of done when it was cancelled, or ran on when its lane was freed: on the loop's thread or another, perhaps
     * long after. Frees the job, and touches nothing of the loop's. */
    void (*drop)(struct fae_job *job);
};

struct fae_lane_opts {
    struct fae_loop *loop;
    const char *name; /* of its threads: "mc-main-0"; lent for ever */
    unsigned n_threads;
    unsigned queue_max; /* jobs that wait */
    unsigned batch_max; /* that one thread takes at a time; 1 unless run can use more */
    /* On the thread. state is what open gave (NULL without). jobs is a list through next, which it may link anew. */
    void (*run)(void *state, struct fae_job *jobs);
    void *(*open)(void *arg);   /* on each thread, before its first job; may be NULL */
    void (*close)(void *state); /* on each thread, at its end; may be NULL */
    void (*release)(void *arg); /* when the last thread has ended and nobody touches arg any more; may be NULL */
    void *arg;
};

/* Starts its threads at the first job. */
struct fae_lane *fae_lane_new(const struct fae_lane_opts *opts);
/* Jobs that wait are done with CLOSED and those that ran with OK (from here); a running one is dropped when its thread
 * returns. Does not wait: a thread that is stuck keeps what it uses until it returns. May be called from inside done. */
void fae_lane_free(struct fae_lane **lane);

/* OVERLOAD: the queue is full. SYSTEM: no thread can be started. The job is then still the caller's. A deadline is heard of
 * at most some 15 ms late, however stuck the threads are. */
enum fae_err fae_lane_put(struct fae_lane *lane, struct fae_job *job);
/* Of a job that was put and not told of yet: done will not be called, drop will, at once when it has not begun. */
void fae_lane_cancel(struct fae_lane *lane, struct fae_job *job);

unsigned fae_lane_n_waiting(const struct fae_lane *lane);
/* Since when its threads all are at work on what they took last, in monotonic ms; 0: they are not. */
uint64_t fae_lane_busy_since_ms(const struct fae_lane *lane);

#endif
