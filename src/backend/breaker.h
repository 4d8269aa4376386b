/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A circuit breaker: leaves a server alone that fails, and tries it again carefully. One a server, in shared memory, for all
 * workers of the node. Time is given by the caller (monotonic ms), so that specs can move it.
 *
 *   CLOSED --failures are a share of the window's calls, or refusals in a row--> OPEN
 *   OPEN --its time is up, or somebody reached the server (fae_breaker_reached)--> HALF_OPEN
 *   HALF_OPEN --as many probes succeeded as there may be--> CLOSED;  --one failed--> OPEN, half as long again
 *
 * A probe that nobody tells of expires; those of a worker that died are reaped. Only what says that the server is in trouble
 * counts as a failure: an error that it answers is a success here.
 */
#ifndef FAE_BACKEND_BREAKER_H
#define FAE_BACKEND_BREAKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/shmutex.h"

#define FAE_BREAKER_WINDOW_S 10u
#define FAE_BREAKER_PROBES 3u       /* in flight in HALF_OPEN, and successes that close it */
#define FAE_BREAKER_PROBE_MS 10000u /* then a probe that nobody told of no longer counts */
#define FAE_BREAKER_OPEN_MAX_MS                                                                                        \
    60000u /* the longest it stays open, however often it failed; unless open_ms is longer */

struct fae_breaker_rule {
    uint32_t percent; /* 0: never opens by itself */
    uint32_t calls;   /* in the window, below which the share says nothing */
    uint32_t refusals;
    uint32_t open_ms; /* the first time; x 1.5 each time after, a tenth of it random */
};

enum fae_breaker_state { FAE_BREAKER_CLOSED, FAE_BREAKER_OPEN, FAE_BREAKER_HALF_OPEN };
enum fae_breaker_mode { FAE_BREAKER_AUTO, FAE_BREAKER_FORCED_OPEN, FAE_BREAKER_FORCED_CLOSED };

/* What became of a call that was let through. */
enum fae_breaker_outcome {
    FAE_BREAKER_OK,      /* answered, with an error or not */
    FAE_BREAKER_FAILED,  /* timed out, lost its connection, got what is no answer */
    FAE_BREAKER_REFUSED, /* no connection was to be had: told once an attempt, not once a call that waited for it */
    FAE_BREAKER_VOID,    /* cancelled: says nothing about the server */
};

/* One worker's share of the window; it alone writes it. */
struct fae_breaker_second {
    _Atomic uint64_t stamp; /* whose counts these are: an epoch of the breaker, and a second */
    _Atomic uint32_t n_ok, n_failed;
};
struct fae_breaker_cell {
    struct fae_breaker_second window[FAE_BREAKER_WINDOW_S];
    uint64_t unused[4]; /* whole cache lines: the next cell is another worker's */
};
_Static_assert(sizeof(struct fae_breaker_cell) % 64 == 0, "cells share no cache line");

/* Why it opened. */
enum fae_breaker_reason {
    FAE_BREAKER_BY_SHARE,    /* why.failed of why.calls in the window */
    FAE_BREAKER_BY_REFUSALS, /* why.failed in a row */
    FAE_BREAKER_BY_PROBE,    /* a probe failed */
    FAE_BREAKER_BY_OPERATOR,
};

struct fae_breaker {
    _Atomic uint32_t state;    /* enum fae_breaker_state */
    _Atomic uint32_t mode;     /* enum fae_breaker_mode */
    _Atomic uint32_t refusals; /* in a row */
    _Atomic uint64_t until_ms; /* OPEN: when it may be tried */
    _Atomic uint64_t since_ms; /* when it came into its state */
    _Atomic uint64_t left_ms;  /* when it opened first since it was closed last */
    _Atomic uint32_t epoch;    /* of the window, which begins anew when it closes */
    struct {
        _Atomic uint32_t reason; /* enum fae_breaker_reason */
        _Atomic uint32_t failed, calls;
    } why; /* of the last opening */
    _Atomic uint64_t n_opened, n_closed, n_half_opened, n_rejected;
    struct fae_shmutex lock; /* guards what follows, and every change of state */
    uint32_t n_openings;     /* since it was closed last */
    uint32_t n_good;         /* probes that succeeded in this HALF_OPEN */
    uint32_t n_probes;       /* ever, for their ids */
    bool vouched;            /* it is HALF_OPEN since somebody reached the server */
    bool doubted;            /* and a probe failed then: who reaches it is not believed until its time is up */
    /* 0, or an id of 24 bits, the worker's slot, and when it expires: 32 bits of ms. The supervisor takes out those of the
     * dead without the lock, which somebody stopped may hold. */
    _Atomic uint64_t probes[FAE_BREAKER_PROBES];
};

/* Leave to call once; 0 is an ordinary one. */
struct fae_permit {
    uint32_t probe;
};

/* What happened, for who logs and counts it; FAE_BREAKER_STAYS mostly. */
enum fae_breaker_change { FAE_BREAKER_STAYS, FAE_BREAKER_OPENS, FAE_BREAKER_HALF_OPENS, FAE_BREAKER_CLOSES };

void fae_breaker_init(struct fae_breaker *breaker);

/* "closed", "open", "half-open"; "auto", "open", "closed". */
const char *fae_breaker_state_word(enum fae_breaker_state state);
const char *fae_breaker_mode_word(enum fae_breaker_mode mode);

/* What ended in the window, of all workers. */
void fae_breaker_window(const struct fae_breaker *breaker, const struct fae_breaker_cell *cells, unsigned n_workers,
                        uint64_t now_ms, uint32_t *n_calls_out, uint32_t *n_failed_out);
/* Probes that may still be told of. */
unsigned fae_breaker_probes(const struct fae_breaker *breaker, uint64_t now_ms);

/* May a call go to the server? False: *retry_after_ms_out says when to ask again. Who is let through owes one
 * fae_breaker_end. One load while it is CLOSED. */
bool fae_breaker_enter(struct fae_breaker *breaker, const struct fae_breaker_rule *rule, unsigned slot, uint64_t now_ms,
                       struct fae_permit *permit_out, uint32_t *retry_after_ms_out,
                       enum fae_breaker_change *change_out);
/* cells: of all n_workers, whose own is cells[slot]. An attempt to connect that nobody entered for is told of with an
 * ordinary permit; in HALF_OPEN it is a failure like a probe's. What else was let through earlier neither closes nor opens
 * HALF_OPEN. */
enum fae_breaker_change fae_breaker_end(struct fae_breaker *breaker, const struct fae_breaker_rule *rule,
                                        struct fae_breaker_cell *cells, unsigned n_workers, unsigned slot,
                                        struct fae_permit permit, enum fae_breaker_outcome outcome, uint64_t now_ms,
                                        uint32_t random);
/* Not a call, but a check of our own was answered: an OPEN breaker may be tried at once. A server that answers checks and
 * fails calls is tried so once, and then when its time is up: else it would be tried with each check. */
enum fae_breaker_change fae_breaker_reached(struct fae_breaker *breaker, uint64_t now_ms);
/* By an operator; AUTO begins anew, closed. Nothing is changed while somebody who holds the lock is stopped: see mode. */
enum fae_breaker_change fae_breaker_force(struct fae_breaker *breaker, enum fae_breaker_mode mode, uint64_t now_ms);
/* It is of another server from now on: as after init, counters too. False: somebody who holds the lock is stopped. */
bool fae_breaker_forget(struct fae_breaker *breaker);
/* The worker of the slot died: its probes no longer count. In the supervisor, which must not wait. */
void fae_breaker_reap(struct fae_breaker *breaker, unsigned slot);

#endif
