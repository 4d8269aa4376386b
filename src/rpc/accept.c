/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Taking connections. A worker watches its own tcp sockets always, the sockets of a slot that is dead or silent if it is
 * the next one alive, and a shared (unix) socket while it holds that socket's turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "rpc/caller.h"
#include "rpc/server_impl.h"
#include "rpc/turn.h"

#define OUT_OF_FDS_PAUSE_MS 100
#define FDS_GRACE_MS 300 /* after the last time that none was left, until they count as back */
#define RETRY_AFTER_MS 1000
#define FRAME 15    /* bytes of a sys.error notification before its text, whose length is the last of them */
#define TURN_SKEW 8 /* sessions more than the least loaded worker before the turn is passed on */

static struct fae_acceptor *acceptor_of(struct fae_server *server, unsigned listener, unsigned slot)
{
    return &server->acceptors[listener * server->o.slots->n_workers + slot];
}

static bool alive(const struct fae_server *server, unsigned slot, uint64_t silent_ms)
{
    const struct fae_slot *s = &server->o.slots->slots[slot];
    uint64_t beat = FAE_STAT_GET(s->heartbeat_ms), now = server->o.loop->now_ms;

    return FAE_STAT_GET(s->state) == FAE_SLOT_READY && (beat >= now || now - beat < silent_ms);
}

/* The worker to pass a turn to, or our own number. */
static unsigned successor(const struct fae_server *server, bool busy)
{
    unsigned best = server->o.slot, least = server->n_sessions;

    for (unsigned i = 0; i < server->o.slots->n_workers; i++) {
        const struct fae_slot *s = &server->o.slots->slots[i];
        unsigned n = FAE_STAT_GET(s->n_sessions);

        if (i == server->o.slot || !alive(server, i, FAE_TURN_SILENT_MS) ||
            FAE_STAT_GET(s->overloaded) & FAE_OVERLOADED_FDS)
            continue;
        if (n + TURN_SKEW < least || (busy && best == server->o.slot && n <= least && FAE_STAT_GET(s->asleep)))
            best = i, least = n;
    }
    return best;
}

/* Says why and closes. A tls client would not understand; the one who speaks plainly finds it in its buffer. */
static void refuse(const struct fae_acceptor *a, int fd, enum fae_err code)
{
    const char *name = fae_err_name(code), *text = fae_err_text(code);
    char message[160], junk[4096];
    int n = snprintf(message, sizeof message, "\x93\x02\xa9sys.error\x91\xd9%c%s: %s; retry after %d ms", 0, name, text,
                     RETRY_AFTER_MS);

    message[FRAME - 1] = (char)(n - FRAME);
    if (!a->listener->tls)
        (void)!send(fd, message, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)!recv(fd, junk, sizeof junk, MSG_DONTWAIT); /* a close on top of unread bytes is a reset */
    close(fd);
}

/* Who shares our sockets may have descriptors left. */
static void pass_turns(struct fae_server *server)
{
    for (unsigned i = 0; i < server->o.n_listeners; i++) {
        uint32_t holder = atomic_load_explicit(&server->o.turns->holder[i], memory_order_relaxed), next;

        if (!server->o.listeners[i].shared || holder != server->o.slot)
            continue;
        next = successor(server, true);
        if (next != server->o.slot && atomic_compare_exchange_strong(&server->o.turns->holder[i], &holder, next))
            server->o.rouse(server->o.rouse_arg, next);
    }
}

/* No descriptor is left for clients: nobody is accepted for a while, and the rest queues. */
static void pause_accepting(struct fae_server *server)
{
    FAE_LIMIT_HIT(server, fds);
    fae_admit_overloaded(server, FAE_OVERLOADED_FDS, true);
    server->fds_until_ms = server->o.loop->now_ms + FDS_GRACE_MS;
    fae_accept_stop(server);
    fae_timer_start(&server->accept_pause, OUT_OF_FDS_PAUSE_MS);
    pass_turns(server);
}

/* Not even one: the spare one takes one connection, to refuse it. */
static void use_spare(struct fae_acceptor *a, int listen_fd)
{
    struct fae_server *server = a->server;
    int fd;

    if (server->spare_fd >= 0)
        close(server->spare_fd);
    fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0)
        refuse(a, fd, FAE_BUSY);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pause_accepting(server);
}

static void open_session(const struct fae_acceptor *a, int fd, uint16_t host)
{
    struct fae_session *s = fae_session_open(a->server, fd, a->listener->half_close);

    if (!s) {
        if (host != FAE_HOST_NONE)
            fae_hosts_leave(a->server->o.hosts, host, a->server->o.slot);
        return;
    }
    s->host = host;
    s->is_unix = fae_addr_is_unix(&a->listener->addr);
    s->listener = (uint8_t)a->index;
    if (a->listener->tls && !fae_secure_open(s, a->listener->tls))
        return;
    fae_caller_identify(s);
}

static void on_acceptable(int listen_fd, short what, void *arg)
{
    struct fae_acceptor *a = arg;
    struct fae_server *server = a->server;

    (void)what;
    for (unsigned i = 0; i < FAE_ACCEPT_BATCH; i++) {
        struct fae_addr peer = { .len = sizeof peer.sa };
        int fd = accept4(listen_fd, (struct sockaddr *)&peer.sa, &peer.len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        uint16_t host;
        enum fae_err err;

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                use_spare(a, listen_fd);
            else if (errno == ECONNABORTED || errno == EINTR)
                continue;
            return; /* EAGAIN: taken by us or by another worker */
        }
        FAE_STAT_ADD(server->slot->n_accepted, 1);
        if (server->doors_closed) { /* whoever comes goes elsewhere at once, instead of waiting in the queue */
            refuse(a, fd, FAE_DRAINING);
            continue;
        }
        if (fd >= server->fd_max) { /* the kernel gives the lowest number that is free */
            refuse(a, fd, FAE_BUSY);
            pause_accepting(server);
            return;
        }
        err = fae_admit_session(server, &peer, &host);
        if (err)
            refuse(a, fd, err);
        else
            open_session(a, fd, host);
    }
}

static void watch_acceptor(struct fae_acceptor *a, bool on)
{
    if (a->open == on)
        return;
    if (on)
        fae_watch_open(&a->watch, a->server->o.loop, a->fd, FAE_READABLE, on_acceptable, a);
    else
        fae_watch_close(&a->watch);
    a->open = on;
}

static void on_pause_over(void *arg)
{
    struct fae_server *server = arg;

    if (server->accepting)
        fae_accept_start(server);
}

/* Numbers that clients' sockets may have. Less than twice the reserve leaves nobody to reserve for. */
static int usable_fds(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur > INT_MAX)
        return INT_MAX;
    return (int)limit.rlim_cur - (limit.rlim_cur >= 2 * FAE_FD_RESERVE ? FAE_FD_RESERVE : 0);
}

void fae_accept_init(struct fae_server *server)
{
    unsigned n_workers = server->o.slots->n_workers;

    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    server->fd_max = usable_fds();
    fae_timer_init(&server->accept_pause, server->o.loop, on_pause_over, server);
    server->acceptors = fae_zalloc(server->o.n_listeners * n_workers * sizeof *server->acceptors);
    for (unsigned i = 0; i < server->o.n_listeners; i++)
        for (unsigned slot = 0; slot < n_workers; slot++) {
            const struct fae_listener *ln = &server->o.listeners[i];

            *acceptor_of(server, i, slot) = (struct fae_acceptor){
                .server = server, .listener = ln, .index = i, .fd = ln->shared ? ln->fds[0] : ln->fds[slot]
            };
        }
}

void fae_accept_fini(struct fae_server *server)
{
    fae_accept_stop(server);
    free(server->acceptors);
    fae_timer_stop(&server->accept_pause);
    if (server->spare_fd >= 0)
        close(server->spare_fd);
}

void fae_accept_stop(struct fae_server *server)
{
    for (unsigned i = 0; i < server->o.n_listeners * server->o.slots->n_workers; i++)
        watch_acceptor(&server->acceptors[i], false);
}

/* The next worker alive after `slot`, in a circle; its own number when it is alive itself. */
static unsigned stand_in(const struct fae_server *server, unsigned slot)
{
    unsigned n = server->o.slots->n_workers;

    for (unsigned i = 0; i < n; i++) {
        unsigned candidate = (slot + i) % n;

        if (candidate == server->o.slot || alive(server, candidate, FAE_SILENT_MS))
            return candidate;
    }
    return slot;
}

void fae_accept_start(struct fae_server *server)
{
    for (unsigned i = 0; i < server->o.n_listeners; i++)
        if (!server->o.listeners[i].shared)
            watch_acceptor(acceptor_of(server, i, server->o.slot), true);
    fae_accept_tick(server);
}

void fae_accept_tick(struct fae_server *server)
{
    unsigned n = server->o.slots->n_workers, me = server->o.slot;

    if (!server->accepting || fae_timer_running(&server->accept_pause))
        return;
    if (server->o.loop->now_ms >= server->fds_until_ms)
        fae_admit_overloaded(server, FAE_OVERLOADED_FDS, false);
    for (unsigned slot = 0; slot < n; slot++) {
        bool mine = stand_in(server, slot) == me;

        for (unsigned i = 0; i < server->o.n_listeners; i++)
            if (!server->o.listeners[i].shared && slot != me)
                watch_acceptor(acceptor_of(server, i, slot), mine);
    }
    for (unsigned i = 0; i < server->o.n_listeners; i++) {
        uint32_t holder = atomic_load_explicit(&server->o.turns->holder[i], memory_order_relaxed);

        if (server->o.listeners[i].shared && holder != me && !(holder < n && alive(server, holder, FAE_TURN_SILENT_MS)))
            atomic_compare_exchange_strong(&server->o.turns->holder[i], &holder, me);
    }
    fae_accept_turn(server, false);
}

/* A turn that took this long kept connections waiting. */
#define BUSY_NS 2000000u

void fae_accept_turn(struct fae_server *server, bool busy)
{
    unsigned me = server->o.slot;

    if (!server->accepting || fae_timer_running(&server->accept_pause))
        return;
    for (unsigned i = 0; i < server->o.n_listeners; i++) {
        uint32_t holder;
        unsigned next;

        if (!server->o.listeners[i].shared)
            continue;
        holder = atomic_load_explicit(&server->o.turns->holder[i], memory_order_relaxed);
        if (holder == me && server->o.slots->n_workers > 1) {
            next = successor(server, busy && fae_now_ns() - server->o.loop->now_ms * 1000000u > BUSY_NS);
            if (next != me && atomic_compare_exchange_strong(&server->o.turns->holder[i], &holder, next)) {
                server->o.rouse(server->o.rouse_arg, next);
                holder = next;
            }
        }
        watch_acceptor(acceptor_of(server, i, me), holder == me);
    }
}
