/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The other side of what backend/ connects to: a loop of the test's own, and a server that says what the test tells it to.
 * What the loop does is done in turns, which the test counts instead of time.
 */
#ifndef FAE_UNIT_PEER_H
#define FAE_UNIT_PEER_H

#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "backend/upstream.h"
#include "base/log.h"
#include "net/loop.h"

#ifndef UNIT_TURN_MS
#define UNIT_TURN_MS 1 /* at most, when nothing happens */
#endif
#define TURNS 4000u /* until something must have happened */

static struct {
    struct fae_loop loop;
    int listener, peer; /* -1: none. The peer is the connection that was accepted last */
    char in[1 << 20];   /* what the peer got */
    size_t n_in;
} net;

UNIT_FN bool unit_stop_turn(void *arg)
{
    (void)arg;
    fae_loop_stop(&net.loop);
    return false;
}

UNIT_FN void unit_nothing(void *arg)
{
    (void)arg;
}

/* One turn, which a timer ends when nothing else does. */
UNIT_FN void turn(void)
{
    struct fae_timer tick;

    fae_timer_init(&tick, &net.loop, unit_nothing, NULL);
    fae_timer_start(&tick, UNIT_TURN_MS);
    fae_loop_run(&net.loop);
    fae_timer_stop(&tick);
}

UNIT_FN void turns(unsigned n)
{
    while (n--)
        turn();
}

/* Listens on a port, or on one of the system's own (0), which it returns. */
UNIT_FN uint16_t listen_at(uint16_t port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons(port) };
    socklen_t len = sizeof addr;
    int one = 1;

    net.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(net.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(net.listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(net.listener, 64), 0);
    assert_int_equal(getsockname(net.listener, (struct sockaddr *)&addr, &len), 0);
    return ntohs(addr.sin_port);
}

UNIT_FN void refuse_connections(void)
{
    if (net.listener >= 0)
        close(net.listener);
    net.listener = -1;
}

UNIT_FN void hang_up(void)
{
    if (net.peer >= 0)
        close(net.peer);
    net.peer = -1;
}

UNIT_FN uint16_t open_net(void)
{
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    assert_int_equal(fae_loop_init(&net.loop), FAE_OK);
    net.loop.after_turn = unit_stop_turn;
    net.peer = -1;
    net.n_in = 0;
    return listen_at(0);
}

UNIT_FN void close_net(void)
{
    hang_up();
    refuse_connections();
    fae_loop_fini(&net.loop);
}

/* The rows of one worker, as in shared memory. */
UNIT_FN struct fae_upstreams *new_upstreams(void)
{
    static const unsigned n_workers = 1;
    struct fae_upstreams *ups = aligned_alloc(64, (fae_upstreams_size(&n_workers) + 63) / 64 * 64);

    memset(ups, 0, fae_upstreams_size(&n_workers));
    fae_upstreams_init(ups, &n_workers);
    return ups;
}

/* ---- the peer ---- */

/* The next connection is the peer's from now on, if there is one. */
UNIT_FN bool accept_next(void)
{
    int one = 1, fd = accept4(net.listener, NULL, NULL, SOCK_CLOEXEC);

    if (fd < 0)
        return false;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* or small replies wait for an ACK */
    hang_up();
    net.peer = fd;
    net.n_in = 0;
    return true;
}

/* Must come soon. The one before it ends. */
UNIT_FN void accept_peer(void)
{
    hang_up();
    for (unsigned i = 0; i < TURNS && net.peer < 0; i++) {
        turn();
        accept_next();
    }
    assert_true(net.peer >= 0);
}

/* Those that were made for nobody. */
UNIT_FN void refuse_waiting(void)
{
    int fd;

    while (net.listener >= 0 && (fd = accept4(net.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        close(fd);
}

UNIT_FN void say_bytes(const char *bytes, size_t len)
{
    assert_int_equal(send(net.peer, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

UNIT_FN void say(const char *text)
{
    say_bytes(text, strlen(text));
}

/* What there is now; false: the other side has closed it. */
UNIT_FN bool receive(void)
{
    ssize_t n = net.peer < 0 ? 0 : recv(net.peer, net.in + net.n_in, sizeof net.in - 1 - net.n_in, MSG_DONTWAIT);

    if (n > 0)
        net.n_in += (size_t)n;
    net.in[net.n_in] = '\0';
    return n > 0 || (n < 0 && errno == EAGAIN);
}

/* Waits until so much has come, which must be this and no more, and forgets it. */
UNIT_FN void expect_bytes(const char *bytes, size_t len)
{
    for (unsigned i = 0; i < TURNS && net.n_in < len; i++) {
        turn();
        receive();
    }
    if (net.n_in != len || memcmp(net.in, bytes, len) != 0)
        fail_msg("not what was to come: %s, but: %s", bytes, net.in);
    net.n_in = 0;
}

UNIT_FN void expect(const char *text)
{
    expect_bytes(text, strlen(text));
}

UNIT_FN void expect_nothing(void)
{
    turns(3);
    assert_true(receive());
    if (net.n_in)
        fail_msg("nothing was to come, but: %s", net.in);
}

/* The other side closes it, and says nothing before. */
UNIT_FN void expect_end(void)
{
    for (unsigned i = 0; i < TURNS && receive(); i++)
        turn();
    assert_false(receive());
    if (net.n_in)
        fail_msg("nothing was to come, but: %s", net.in);
}

#endif
