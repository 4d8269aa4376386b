/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The event loop on libevent's plain events, with timers of its own: one of libevent's is the alarm for all of them.
 */
#include "net/loop.h"

#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/clock.h"

static void on_alarm(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    ((struct fae_loop *)arg)->alarm_ms = FAE_WHEEL_NEVER;
}

enum fae_err fae_loop_init(struct fae_loop *loop)
{
    struct event_config *config = event_config_new();

    *loop = (struct fae_loop){ 0 };
    fae_list_init(&loop->later);
    if (!config)
        return FAE_NO_MEMORY;
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK);
    /* The alarm is compared against a coarse time taken once a turn; a finer one costs a timerfd. */
    event_config_set_flag(config, EVENT_BASE_FLAG_EPOLL_USE_CHANGELIST);
    loop->base = event_base_new_with_config(config);
    event_config_free(config);
    if (!loop->base)
        return FAE_SYSTEM;
    loop->now_ms = fae_now_ms();
    fae_wheel_init(&loop->wheel, loop->now_ms);
    evtimer_assign(&loop->alarm, loop->base, on_alarm, loop);
    loop->alarm_ms = FAE_WHEEL_NEVER;
    return FAE_OK;
}

void fae_loop_fini(struct fae_loop *loop)
{
    if (loop->base) {
        evtimer_del(&loop->alarm);
        event_base_free(loop->base);
    }
    loop->base = NULL;
}

/* ---- turns ---- */

/* libevent reads the kernel's coarse clock, which stands still for up to 4 ms at a time: how far it is behind. */
static uint64_t coarse_lag_us(uint64_t now_ns)
{
    struct timespec ts = { 0 };

    clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
    return (now_ns - (uint64_t)ts.tv_sec * 1000000000u - (uint64_t)ts.tv_nsec + 999) / 1000;
}

/* Before it may sleep. An alarm that was set for an earlier time than there is need for now stays: it does no harm, and most
 * timers are stopped before they are due. False: there is something due. */
static bool set_alarm(struct fae_loop *loop)
{
    uint64_t next_ms = fae_wheel_next_ms(&loop->wheel), now_ns, after_us;
    struct timeval tv;

    if (next_ms <= loop->now_ms)
        return false;
    if (next_ms >= loop->alarm_ms)
        return true;
    now_ns = fae_now_ns();
    after_us = next_ms * 1000 > now_ns / 1000 ? next_ms * 1000 - now_ns / 1000 : 0;
    after_us += coarse_lag_us(now_ns);
    tv = (struct timeval){ .tv_sec = (time_t)(after_us / 1000000), .tv_usec = (suseconds_t)(after_us % 1000000) };
    event_base_update_cache_time(loop->base);
    evtimer_add(&loop->alarm, &tv);
    loop->alarm_ms = next_ms;
    return true;
}

static void fire(struct fae_loop *loop)
{
    struct fae_list due;

    fae_list_init(&due);
    fae_wheel_take(&loop->wheel, loop->now_ms, &due);
    while (!fae_list_empty(&due)) { /* one may stop another */
        struct fae_timer *t = FAE_CONTAINER(due.next, struct fae_timer, node.node);

        fae_timer_stop(t);
        t->fn(t->arg);
    }
}

static void run_later(struct fae_loop *loop)
{
    while (!fae_list_empty(&loop->later)) {
        struct fae_later *later = FAE_CONTAINER(loop->later.next, struct fae_later, node);

        fae_list_del(&later->node);
        later->fn(later->arg);
    }
}

void fae_loop_run(struct fae_loop *loop)
{
    bool more = false;

    loop->stopping = false;
    while (!loop->stopping) {
        more = !set_alarm(loop) || more;
        if (loop->on_sleep && !more)
            loop->on_sleep(loop->arg, true);
        event_base_loop(loop->base, EVLOOP_ONCE | (more ? EVLOOP_NONBLOCK : 0));
        if (loop->on_sleep && !more)
            loop->on_sleep(loop->arg, false);
        loop->now_ms = fae_now_ms();
        fire(loop);
        more = loop->after_turn ? loop->after_turn(loop->arg) : false;
        run_later(loop);
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

void fae_timer_init(struct fae_timer *t, struct fae_loop *loop, fae_timer_fn fn, void *arg)
{
    *t = (struct fae_timer){ .loop = loop, .fn = fn, .arg = arg };
}

void fae_timer_start_at(struct fae_timer *t, uint64_t due_ms)
{
    fae_wheel_start(&t->loop->wheel, &t->node, due_ms);
}

/* From now, not from the start of this turn: whoever computed for 100 ms and then sleeps 20 wants to sleep. A started
 * millisecond counts as a whole one, so that it is never early. */
void fae_timer_start(struct fae_timer *t, uint64_t after_ms)
{
    fae_timer_start_at(t, after_ms ? (fae_now_ns() + 999999) / 1000000 + after_ms : 0);
}

void fae_timer_stop(struct fae_timer *t)
{
    if (t->loop)
        fae_wheel_stop(&t->loop->wheel, &t->node);
}

bool fae_timer_running(const struct fae_timer *t)
{
    return fae_wheel_running(&t->node);
}

void fae_later_init(struct fae_later *later, fae_timer_fn fn, void *arg)
{
    fae_list_init(&later->node);
    later->fn = fn;
    later->arg = arg;
}

void fae_later_cancel(struct fae_later *later)
{
    if (later->fn)
        fae_list_del(&later->node);
}
