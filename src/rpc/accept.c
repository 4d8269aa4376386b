/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Taking connections. A worker watches its own tcp sockets always, the sockets of a slot that is dead or silent if it is
 * the next one alive, and a shared (unix) socket while it holds that socket's turn.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "rpc/server_impl.h"
#include "rpc/turn.h"

#define OUT_OF_FDS_PAUSE_MS 100
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

static unsigned node_sessions(const struct fae_server *server)
{
    unsigned n = server->n_sessions;

    for (unsigned i = 0; i < server->o.slots->n_workers; i++)
        if (i != server->o.slot)
            n += FAE_STAT_GET(server->o.slots->slots[i].n_sessions);
    return n;
}

static void refuse(struct fae_server *server, int fd)
{
    static const char text[] = "\x93\x02\xa9sys.error\x91\xba"
                               "BUSY: too many connections";
    (void)!send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    close(fd);
    if (server->o.loop->now_ms - server->warned_ms >= 1000) {
        server->warned_ms = server->o.loop->now_ms;
        FAE_WARN("accept: sessions_max = %llu reached, connections are refused",
                 (unsigned long long)server->o.config->sessions_max);
    }
}

/* Out of descriptors: take one connection to refuse it, then let the rest queue for a while. */
static void out_of_fds(struct fae_server *server, int listen_fd)
{
    int fd;

    if (server->o.loop->now_ms - server->warned_ms >= 1000) {
        server->warned_ms = server->o.loop->now_ms;
        FAE_WARN("accept: %s; not accepting for %d ms", strerror(errno), OUT_OF_FDS_PAUSE_MS);
    }
    close(server->spare_fd);
    fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
    if (fd >= 0)
        close(fd);
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fae_accept_stop(server);
    fae_timer_start(&server->accept_pause, OUT_OF_FDS_PAUSE_MS);
}

static void on_acceptable(int listen_fd, short what, void *arg)
{
    struct fae_acceptor *a = arg;
    struct fae_server *server = a->server;

    (void)what;
    for (unsigned i = 0; i < FAE_ACCEPT_BATCH; i++) {
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE)
                out_of_fds(server, listen_fd);
            else if (errno == ECONNABORTED || errno == EINTR)
                continue;
            return; /* EAGAIN: taken by us or by another worker */
        }
        FAE_STAT_ADD(server->slot->n_accepted, 1);
        if (node_sessions(server) >= server->o.config->sessions_max)
            refuse(server, fd);
        else
            fae_session_open(server, fd, a->listener->half_close);
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

void fae_accept_init(struct fae_server *server)
{
    unsigned n_workers = server->o.slots->n_workers;

    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
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

/* The worker to pass a turn to, or our own number. */
static unsigned successor(const struct fae_server *server, bool busy)
{
    unsigned best = server->o.slot, least = server->n_sessions;

    for (unsigned i = 0; i < server->o.slots->n_workers; i++) {
        const struct fae_slot *s = &server->o.slots->slots[i];
        unsigned n = FAE_STAT_GET(s->n_sessions);

        if (i == server->o.slot || !alive(server, i, FAE_TURN_SILENT_MS))
            continue;
        if (n + TURN_SKEW < least || (busy && best == server->o.slot && n <= least && FAE_STAT_GET(s->asleep)))
            best = i, least = n;
    }
    return best;
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
