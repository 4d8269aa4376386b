/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The event loop on libevent's plain events.
 */
#include "net/loop.h"

#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"

enum fae_err fae_loop_init(struct fae_loop *loop)
{
    struct event_config *config = event_config_new();

    *loop = (struct fae_loop){ 0 };
    if (!config)
        return FAE_NO_MEMORY;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    /* Timers are compared against a time taken once a turn; a finer one costs a timerfd. */
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    loop->now_ms = fae_now_ms();
    return loop->base ? FAE_OK : FAE_SYSTEM;
}

void fae_loop_fini(struct fae_loop *loop)
{
    if (loop->base)
        event_base_free(loop->base);
    loop->base = NULL;
}

void fae_loop_run(struct fae_loop *loop)
{
    bool more = false;

    loop->stopping = false;
    while (!loop->stopping) {
        if (loop->on_sleep && !more)
            loop->on_sleep(loop->arg, true);
        event_base_loop(loop->base, EVLOOP_ONCE | (more ? EVLOOP_NONBLOCK : 0));
        if (loop->on_sleep && !more)
            loop->on_sleep(loop->arg, false);
        loop->now_ms = fae_now_ms();
        more = loop->after_turn ? loop->after_turn(loop->arg) : false;
    }
}

void fae_loop_stop(struct fae_loop *loop)
{
    loop->stopping = true;
}

enum fae_err fae_watch_open(struct fae_watch *w, struct fae_loop *loop, int fd, short what, fae_watch_fn fn, void *arg)
{
    FAE_ASSERT(fd >= 0);
    if (event_assign(&w->ev, loop->base, fd, (short)(what | EV_PERSIST), fn, arg) != 0)
        return FAE_SYSTEM;
    if (what && event_add(&w->ev, NULL) != 0) {
        *w = (struct fae_watch){ 0 };
        return FAE_SYSTEM;
    }
    return FAE_OK;
}

void fae_watch_change(struct fae_watch *w, struct fae_loop *loop, short what)
{
    evutil_socket_t fd = event_get_fd(&w->ev);
    fae_watch_fn fn = event_get_callback(&w->ev);
    void *arg = event_get_callback_arg(&w->ev);

    event_del(&w->ev);
    fae_watch_open(w, loop, fd, what, fn, arg);
}

void fae_watch_close(struct fae_watch *w)
{
    if (event_initialized(&w->ev))
        event_del(&w->ev);
    *w = (struct fae_watch){ 0 };
}

static void on_timer(evutil_socket_t fd, short what, void *arg)
{
    struct fae_timer *t = arg;

    (void)fd;
    (void)what;
    t->fn(t->arg);
}

void fae_timer_init(struct fae_timer *t, struct fae_loop *loop, fae_timer_fn fn, void *arg)
{
    t->fn = fn;
    t->arg = arg;
    evtimer_assign(&t->ev, loop->base, on_timer, t);
}

/* libevent reads the kernel's coarse clock, which stands still for up to 4 ms at a time: how far it is behind. */
static uint64_t coarse_lag_us(void)
{
    struct timespec ts = { 0 };
    uint64_t coarse_ns;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    coarse_ns = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
    return (fae_now_ns() - coarse_ns + 999) / 1000;
}

void fae_timer_start(struct fae_timer *t, uint64_t after_ms)
{
    uint64_t after_us = after_ms ? after_ms * 1000 + coarse_lag_us() : 0;
    struct timeval tv = { .tv_sec = (time_t)(after_us / 1000000), .tv_usec = (suseconds_t)(after_us % 1000000) };

    /* From now, not from the start of this turn: whoever computed for 100 ms and then sleeps 20 wants to sleep. */
    event_base_update_cache_time(event_get_base(&t->ev));
    evtimer_add(&t->ev, &tv);
}

void fae_timer_stop(struct fae_timer *t)
{
    if (event_initialized(&t->ev))
        evtimer_del(&t->ev);
}

bool fae_timer_running(const struct fae_timer *t)
{
    return event_initialized(&t->ev) && evtimer_pending(&t->ev, NULL);
}
