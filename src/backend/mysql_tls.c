/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Two sockets, a buffer each way, and the few packets between a greeting and the end of a login.
 */
#include "backend/mysql_tls.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buf.h"
#include "base/limits.h"

#define BUFFER_MAX (256u * FAE_KIB) /* on its way in one direction; then its source is not read */
#define PACKET_MAX (64u * FAE_KIB)  /* of a login */
#define HEAD 4u
#define CLIENT_SSL 0x0800u
#define PROTOCOL_41 0x0200u
#define ASK_BYTES 32u /* of the request for TLS */

enum state { CONNECTING, GREETING, ASKING, HANDSHAKE, LOGIN, THROUGH, ENDED };

/* One way. */
struct way {
    struct fae_buf in;  /* of a login: what is no whole packet yet */
    struct fae_buf out; /* to be sent ... */
    size_t sent;        /* ... but for so much */
};

struct fae_mysql_tls {
    struct fae_mysql_tls_opts o;
    enum state state;
    int listener, local, server;
    struct fae_watch listens, local_watch, server_watch;
    short local_bits, server_bits;
    unsigned port; /* the library's; 0: not known yet */
    struct fae_tls *tls;
    struct way up, down;
    bool draining; /* the server is done: what it sent is passed on, then it ends */
    char why[200];
};

static void pump(struct fae_mysql_tls *t);

/* ---- the end ---- */

static void hang_up(int *fd, struct fae_watch *watch)
{
    fae_watch_close(watch);
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void end(struct fae_mysql_tls *t, const char *why)
{
    if (t->state == ENDED)
        return;
    t->state = ENDED;
    if (!*t->why)
        snprintf(t->why, sizeof t->why, "%s", why);
    hang_up(&t->listener, &t->listens);
    hang_up(&t->local, &t->local_watch);
    fae_tls_free(&t->tls);
    hang_up(&t->server, &t->server_watch);
}

static const char *server_trouble(const struct fae_mysql_tls *t)
{
    return t->tls && errno == EPROTO ? fae_tls_why() : strerror(errno);
}

/* ---- packets of a login ---- */

static uint32_t packet_len(const uint8_t *head)
{
    return (uint32_t)head[0] | (uint32_t)head[1] << 8 | (uint32_t)head[2] << 16;
}

static size_t waiting(const struct way *way)
{
    return way->out.len - way->sent;
}

/* The next whole packet of what came, without its head; NULL: there is none. */
static uint8_t *whole(struct fae_mysql_tls *t, struct way *way, uint32_t *len_out)
{
    if (way->in.len < HEAD)
        return NULL;
    *len_out = packet_len(way->in.data);
    if (*len_out > PACKET_MAX || *len_out == 0) {
        end(t, "a packet of its login is none");
        return NULL;
    }
    return way->in.len < HEAD + *len_out ? NULL : way->in.data + HEAD;
}

/* Passes the packet in front on, with its number moved. */
static void pass(struct way *way, uint32_t len, int move)
{
    way->in.data[3] = (uint8_t)(way->in.data[3] + move);
    fae_buf_add(&way->out, way->in.data, HEAD + len);
    fae_buf_shift(&way->in, HEAD + len);
}

/* The capabilities in a greeting: behind the version, a number and 9 bytes. */
static bool knows_tls(const uint8_t *body, uint32_t len)
{
    const uint8_t *nul = memchr(body, 0, len);
    size_t at = nul ? (size_t)(nul - body) + 1 + 4 + 9 : len;
    unsigned low = at + 2 <= len ? body[at] | (unsigned)body[at + 1] << 8 : 0;

    return (low & CLIENT_SSL) && (low & PROTOCOL_41);
}

/* What the library's login begins with is what asks for TLS: a server takes what both can do from there. */
static void ask_for_tls(struct fae_mysql_tls *t)
{
    uint8_t ask[HEAD + ASK_BYTES] = { ASK_BYTES, 0, 0, 1 };
    uint32_t len;
    uint8_t *body = whole(t, &t->up, &len);

    if (!body)
        return;
    if (len < ASK_BYTES) {
        end(t, "the login is none");
        return;
    }
    body[1] |= CLIENT_SSL >> 8;
    memcpy(ask + HEAD, body, ASK_BYTES);
    /* The socket is new: there is room. */
    if (send(t->server, ask, sizeof ask, MSG_NOSIGNAL) != (ssize_t)sizeof ask) {
        end(t, strerror(errno));
        return;
    }
    t->tls = fae_tls_connect(t->o.tls, t->server, t->o.host);
    if (!t->tls)
        end(t, "out of memory");
    else
        t->state = HANDSHAKE;
}

static void take_greeting(struct fae_mysql_tls *t)
{
    uint32_t len;
    uint8_t *body = whole(t, &t->down, &len);

    if (!body)
        return;
    if (*body == 0xff) { /* it is full, or knows nobody from here */
        pass(&t->down, len, 0);
        t->draining = true;
    } else if (!knows_tls(body, len)) {
        end(t, "the server speaks no TLS");
    } else if (t->down.in.len > HEAD + len) {
        end(t, "the server said more than its greeting before TLS");
    } else {
        pass(&t->down, len, 0);
        t->state = ASKING;
    }
}

/* From the server; after OK or an error commands begin, whose packets are numbered anew. */
static void take_login_down(struct fae_mysql_tls *t)
{
    uint32_t len;
    uint8_t *body;

    while (t->state == LOGIN && (body = whole(t, &t->down, &len))) {
        bool is_last = *body == 0x00 || *body == 0xff;

        pass(&t->down, len, -1);
        if (is_last)
            t->state = THROUGH;
    }
    if (t->state == THROUGH) {
        fae_buf_add(&t->down.out, t->down.in.data, t->down.in.len);
        t->down.in.len = 0;
    }
}

static void take_login_up(struct fae_mysql_tls *t)
{
    uint32_t len;

    while (t->state == LOGIN && whole(t, &t->up, &len))
        pass(&t->up, len, 1);
}

/* ---- bytes ---- */

static ssize_t server_recv(struct fae_mysql_tls *t, void *into, size_t size)
{
    return t->tls ? fae_tls_recv(t->tls, into, size) : recv(t->server, into, size, MSG_DONTWAIT);
}

static ssize_t server_send(struct fae_mysql_tls *t, const void *bytes, size_t len)
{
    return t->tls ? fae_tls_send(t->tls, bytes, len) : send(t->server, bytes, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* True: something was read. */
static bool read_server(struct fae_mysql_tls *t)
{
    struct way *way = &t->down;
    struct fae_buf *to = t->state == THROUGH ? &way->out : &way->in;
    ssize_t n;

    if (waiting(way) >= BUFFER_MAX || t->draining)
        return false;
    n = server_recv(t, fae_buf_room(to, 16 * FAE_KIB), 16 * FAE_KIB);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n < 0 && t->state != THROUGH) {
        end(t, server_trouble(t));
        return false;
    }
    if (n <= 0) {
        t->draining = true;
        return false;
    }
    to->len += (size_t)n;
    if (t->state == ASKING)
        end(t, "the server said more than its greeting before TLS");
    else if (t->state == GREETING)
        take_greeting(t);
    else if (t->state == LOGIN)
        take_login_down(t);
    return t->state != ENDED;
}

static bool hears_local(const struct fae_mysql_tls *t)
{
    return t->state == ASKING || (t->state >= LOGIN && t->state != ENDED && waiting(&t->up) < BUFFER_MAX);
}

static bool read_local(struct fae_mysql_tls *t)
{
    struct way *way = &t->up;
    struct fae_buf *to = t->state == THROUGH ? &way->out : &way->in;
    ssize_t n;

    if (t->local < 0 || !hears_local(t))
        return false;
    n = recv(t->local, fae_buf_room(to, 16 * FAE_KIB), 16 * FAE_KIB, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (n <= 0) {
        end(t, "closed by us");
        return false;
    }
    to->len += (size_t)n;
    if (t->state == ASKING)
        ask_for_tls(t);
    else if (t->state == LOGIN)
        take_login_up(t);
    return t->state != ENDED;
}

static void forget_sent(struct way *way, size_t n)
{
    way->sent += n;
    if (way->sent == way->out.len)
        way->sent = way->out.len = 0;
    else if (way->sent >= BUFFER_MAX) {
        fae_buf_shift(&way->out, way->sent);
        way->sent = 0;
    }
}

static void write_server(struct fae_mysql_tls *t)
{
    while (t->state >= LOGIN && t->state != ENDED && waiting(&t->up) > 0) {
        ssize_t n = server_send(t, t->up.out.data + t->up.sent, waiting(&t->up));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            end(t, server_trouble(t));
            return;
        }
        forget_sent(&t->up, (size_t)n);
    }
}

static void write_local(struct fae_mysql_tls *t)
{
    while (t->local >= 0 && waiting(&t->down) > 0) {
        ssize_t n = send(t->local, t->down.out.data + t->down.sent, waiting(&t->down), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n < 0) {
            end(t, "closed by us");
            return;
        }
        forget_sent(&t->down, (size_t)n);
    }
    if (t->draining && t->local >= 0 && waiting(&t->down) == 0)
        end(t, "closed by the server");
}

/* ---- steps ---- */

static void shake_hands(struct fae_mysql_tls *t)
{
    int rc = fae_tls_handshake(t->tls);

    if (rc == 1) {
        t->state = LOGIN;
        take_login_up(t);
    } else if (rc == 0) {
        end(t, "closed by the server in the handshake of TLS");
    } else if (errno != EAGAIN && errno != EINTR) {
        end(t, server_trouble(t));
    }
}

static void on_server(int fd, short what, void *arg)
{
    struct fae_mysql_tls *t = arg;
    int err = 0;
    socklen_t len = sizeof err;

    (void)what;
    if (t->state == CONNECTING) {
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
        if (err) {
            end(t, strerror(err));
            return;
        }
        t->state = GREETING;
    }
    pump(t);
}

static void on_local(int fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    pump(arg);
}

static void watch(struct fae_mysql_tls *t)
{
    bool wants = t->tls && (fae_tls_wants_write(t->tls) || fae_tls_recv_wants_write(t->tls));
    short server = 0, local = 0;

    if (t->state == ENDED)
        return;
    if (t->state != CONNECTING && waiting(&t->down) < BUFFER_MAX && !t->draining)
        server |= FAE_READABLE;
    if (t->state == CONNECTING || wants || (t->state >= LOGIN && waiting(&t->up) > 0))
        server |= FAE_WRITABLE;
    if (hears_local(t))
        local |= FAE_READABLE;
    if (waiting(&t->down) > 0)
        local |= FAE_WRITABLE;
    if (server != t->server_bits)
        fae_watch_change(&t->server_watch, t->o.loop, server);
    if (t->local >= 0 && local != t->local_bits)
        fae_watch_change(&t->local_watch, t->o.loop, local);
    t->server_bits = server;
    t->local_bits = t->local >= 0 ? local : 0;
}

static void pump(struct fae_mysql_tls *t)
{
    bool more = true;

    for (int i = 0; more && i < 16 && t->state != ENDED; i++) {
        more = false;
        if (t->state == HANDSHAKE)
            shake_hands(t);
        if (t->state == GREETING || t->state == ASKING || t->state == LOGIN || t->state == THROUGH)
            more = read_server(t);
        write_local(t);
        more = read_local(t) || more;
        write_server(t);
    }
    if (t->state != ENDED && t->tls && fae_tls_pending(t->tls) && waiting(&t->down) < BUFFER_MAX) {
        t->server_bits |= FAE_WRITABLE; /* of what TLS holds no event tells: come back at once */
        fae_watch_change(&t->server_watch, t->o.loop, t->server_bits);
        return;
    }
    watch(t);
}

/* ---- life ---- */

static unsigned port_of(int fd, int (*name)(int, struct sockaddr *, socklen_t *))
{
    struct sockaddr_in sa = { 0 };
    socklen_t len = sizeof sa;

    return name(fd, (struct sockaddr *)&sa, &len) == 0 && sa.sin_family == AF_INET ? ntohs(sa.sin_port) : 0;
}

static int get_peer(int fd, struct sockaddr *sa, socklen_t *len)
{
    return getpeername(fd, sa, len);
}

static int get_own(int fd, struct sockaddr *sa, socklen_t *len)
{
    return getsockname(fd, sa, len);
}

static void on_accept(int fd, short what, void *arg)
{
    struct fae_mysql_tls *t = arg;
    int one = 1, local;

    (void)what;
    local = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (local < 0)
        return;
    if (t->port == 0 || port_of(local, get_peer) != t->port) {
        close(local);
        return;
    }
    setsockopt(local, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    hang_up(&t->listener, &t->listens);
    t->local = local;
    if (fae_watch_open(&t->local_watch, t->o.loop, local, 0, on_local, t) != FAE_OK)
        end(t, "out of memory");
    else
        pump(t);
}

static int listen_here(unsigned *port_out)
{
    struct sockaddr_in sa = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 4) != 0) {
        close(fd);
        return -1;
    }
    *port_out = port_of(fd, get_own);
    return fd;
}

static int connect_there(const struct fae_addr *addr)
{
    int one = 1, fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)&addr->sa, addr->len) == 0 || errno == EINPROGRESS)
        return fd;
    close(fd);
    return -1;
}

struct fae_mysql_tls *fae_mysql_tls_new(const struct fae_mysql_tls_opts *opts, unsigned *port_out)
{
    struct fae_mysql_tls *t = fae_zalloc(sizeof *t);
    bool fine;

    *port_out = 0;
    t->o = *opts;
    t->local = -1;
    t->listener = listen_here(port_out);
    t->server = t->listener >= 0 ? connect_there(opts->addr) : -1;
    t->server_bits = FAE_WRITABLE;
    fine = t->server >= 0 &&
           fae_watch_open(&t->listens, opts->loop, t->listener, FAE_READABLE, on_accept, t) == FAE_OK &&
           fae_watch_open(&t->server_watch, opts->loop, t->server, FAE_WRITABLE, on_server, t) == FAE_OK;
    if (!fine)
        end(t, strerror(errno)); /* the library finds nobody there */
    return t;
}

void fae_mysql_tls_expect(struct fae_mysql_tls *t, unsigned port)
{
    t->port = port;
}

void fae_mysql_tls_free(struct fae_mysql_tls **tls)
{
    struct fae_mysql_tls *t = *tls;

    *tls = NULL;
    if (!t)
        return;
    if (t->state == THROUGH) {
        read_local(t);
        write_server(t);
    }
    end(t, "");
    fae_buf_fini(&t->up.in);
    fae_buf_fini(&t->up.out);
    fae_buf_fini(&t->down.in);
    fae_buf_fini(&t->down.out);
    free(t);
}

int fae_mysql_tls_take_socket(struct fae_mysql_tls *t)
{
    int fd = t->server;

    fae_watch_close(&t->server_watch);
    fae_tls_free(&t->tls);
    t->server = -1;
    end(t, "closed by us");
    return fd;
}

const char *fae_mysql_tls_why(const struct fae_mysql_tls *t)
{
    return t->why;
}
