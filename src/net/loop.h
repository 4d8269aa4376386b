/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The event loop: libevent's plain events, a turn at a time. net/ is the only folder that sees libevent; a watch and a
 * timer are by value, since a session pays for every byte.
 * Batch loop (measured 10 % cheaper than answering inside callbacks): callbacks only take bytes in, then the owner's
 * `after_turn` runs what came and sends the answers.
 */
#ifndef FAE_NET_LOOP_H
#define FAE_NET_LOOP_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "net/wheel.h"

struct fae_loop {
    struct event_base *base;
    bool stopping;
    uint64_t now_ms; /* monotonic, taken once a turn */
    struct fae_wheel wheel;
    struct event alarm; /* wakes us when the wheel is to be looked at, or before ... */
    uint64_t alarm_ms;  /* ... at this time; FAE_WHEEL_NEVER: it is not set */
    /* Called after the callbacks of each turn; returns true when there is more to do at once (do not sleep). */
    bool (*after_turn)(void *arg);
    /* Called before the loop may sleep and after it woke up; either may be NULL. */
    void (*on_sleep)(void *arg, bool asleep);
    void *arg;
    struct fae_list later; /* of struct fae_later */
};

enum { FAE_READABLE = EV_READ, FAE_WRITABLE = EV_WRITE, FAE_HANGUP = EV_CLOSED };

/* what: the bits that fired. */
typedef void (*fae_watch_fn)(int fd, short what, void *arg);
typedef void (*fae_timer_fn)(void *arg);

struct fae_watch {
    struct event ev;
};

struct fae_timer {
    struct fae_wheel_node node;
    struct fae_loop *loop;
    fae_timer_fn fn;
    void *arg;
};

enum fae_err fae_loop_init(struct fae_loop *loop); /* it must not move from then on */
void fae_loop_fini(struct fae_loop *loop);
/* Turns until fae_loop_stop. */
void fae_loop_run(struct fae_loop *loop);
void fae_loop_stop(struct fae_loop *loop);

/* Level-triggered and persistent. A watch that is zeroed or closed may be closed again. */
enum fae_err fae_watch_open(struct fae_watch *w, struct fae_loop *loop, int fd, short what, fae_watch_fn fn, void *arg);
/* Watches for other bits from now on; 0 pauses. */
void fae_watch_change(struct fae_watch *w, struct fae_loop *loop, short what);
void fae_watch_close(struct fae_watch *w);

/* One-shot; starting a running timer moves it. Never fires early, and on an idle machine at most some 5 ms late. They fire
 * after the turn's watches, before after_turn. */
void fae_timer_init(struct fae_timer *t, struct fae_loop *loop, fae_timer_fn fn, void *arg);
void fae_timer_start(struct fae_timer *t, uint64_t after_ms);
/* The same at a time of fae_now_ms, which saves looking at the clock. */
void fae_timer_start_at(struct fae_timer *t, uint64_t due_ms);
void fae_timer_stop(struct fae_timer *t);
bool fae_timer_running(const struct fae_timer *t);

/* What is done once at the end of this turn, however often it is asked for: one send for all that was queued meanwhile. It
 * resumes nobody: what comes of that would wait for the next turn. */
struct fae_later {
    struct fae_list node;
    fae_timer_fn fn;
    void *arg;
};
void fae_later_init(struct fae_later *later, fae_timer_fn fn, void *arg);
void fae_later_cancel(struct fae_later *later);

static inline void fae_later(struct fae_loop *loop, struct fae_later *later)
{
    if (fae_list_empty(&later->node))
        fae_list_add_tail(&loop->later, &later->node);
}

#endif
