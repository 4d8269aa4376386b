// SPDX-License-Identifier: BSD-2-Clause
//
// A server that is some way off: passes bytes between clients and one server on this machine, and each way takes them
// --way-us longer. A connection too: the server hears of it after three ways, as it would if the kernels shook hands over
// that distance. One thread, one epoll, a timerfd; what is on its way waits in one queue, in order, since each way takes
// the same time. Bytes are cut as they come; a client whose pieces do not fit is at an end.
//
//   far --listen PORT --to PORT --way-us N        (both on 127.0.0.1; prints "far ready: tcp://127.0.0.1:PORT")
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { FDS_MAX = 16384, EVENTS_MAX = 64, PIECE_MAX = 65536, WAYS_TO_CONNECT = 3 };

/* Something on its way: bytes for an fd, its end (no bytes), or a client that the server hears of. */
struct piece {
    struct piece *next;
    int64_t due_ns;
    int fd;        /* of the client while is_connect */
    unsigned born; /* of that fd: it may have been closed, and its number be another's */
    int is_connect;
    size_t len;
    char bytes[];
};

struct queue {
    struct piece *first, **last;
};

static struct queue pieces = { NULL, &pieces.first }, connects = { NULL, &connects.first };
static int peer[FDS_MAX]; /* fd of the other side, 0: none yet */
static unsigned born[FDS_MAX];
static int epoll, timer, listener;
static uint16_t server_port;
static int64_t way_ns;

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static void watch(int fd)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

    if (fd >= FDS_MAX)
        errx(1, "fd %d is too many", fd);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev))
        err(1, "epoll_ctl");
}

static void take_in(int fd)
{
    int one = 1;

    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(fd);
    peer[fd] = 0;
    born[fd]++;
}

static void put(struct queue *q, int fd, const char *bytes, size_t len, int64_t after_ns)
{
    struct piece *p = malloc(sizeof *p + len);

    if (!p)
        err(1, "malloc");
    *p = (struct piece){
        .due_ns = now_ns() + after_ns, .fd = fd, .born = born[fd], .is_connect = q == &connects, .len = len
    };
    memcpy(p->bytes, bytes, len);
    *q->last = p;
    q->last = &p->next;
}

static void accept_all(void)
{
    int fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        take_in(fd);
        put(&connects, fd, "", 0, WAYS_TO_CONNECT * way_ns);
    }
}

/* Both fds at once: nobody here speaks on after the other's end. */
static void end_both(int fd)
{
    int other = peer[fd];

    close(fd);
    born[fd]++;
    peer[fd] = 0;
    if (other) {
        close(other);
        born[other]++;
        peer[other] = 0;
    }
}

static void connect_for(int client)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(server_port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof addr))
        err(1, "connect");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    take_in(fd);
    peer[fd] = client;
    peer[client] = fd;
}

static void arrive(struct piece *p)
{
    if (p->born != born[p->fd])
        return;
    if (p->is_connect)
        connect_for(p->fd);
    else if (!p->len || send(p->fd, p->bytes, p->len, MSG_NOSIGNAL) != (ssize_t)p->len)
        end_both(p->fd);
}

/* Delivers what is due. Returns when the next is, or 0. */
static int64_t deliver(struct queue *q, int64_t now)
{
    while (q->first && q->first->due_ns <= now) {
        struct piece *p = q->first;

        q->first = p->next;
        if (!q->first)
            q->last = &q->first;
        arrive(p);
        free(p);
    }
    return q->first ? q->first->due_ns : 0;
}

static void receive(int fd)
{
    static char buf[PIECE_MAX];
    ssize_t n = recv(fd, buf, sizeof buf, MSG_DONTWAIT);

    if (n > 0 && peer[fd]) {
        put(&pieces, peer[fd], buf, (size_t)n, way_ns);
    } else if (n >= 0) { /* before there is a server, a client says nothing: mysql's speaks first */
        epoll_ctl(epoll, EPOLL_CTL_DEL, fd, NULL);
        if (peer[fd])
            put(&pieces, peer[fd], "", 0, way_ns);
        else
            end_both(fd);
    }
}

static void run(void)
{
    for (;;) {
        struct epoll_event evs[EVENTS_MAX];
        int64_t a, b, next;
        uint64_t ticks;
        int n = epoll_wait(epoll, evs, EVENTS_MAX, -1);

        for (int i = 0; i < n; i++) {
            int fd = evs[i].data.fd;

            if (fd == listener)
                accept_all();
            else if (fd == timer)
                (void)!read(timer, &ticks, sizeof ticks);
            else
                receive(fd);
        }
        a = deliver(&pieces, now_ns());
        b = deliver(&connects, now_ns());
        next = !a || (b && b < a) ? b : a;
        timerfd_settime(timer, TFD_TIMER_ABSTIME,
                        &(struct itimerspec){ .it_value = { next / 1000000000, next % 1000000000 } }, NULL);
    }
}

static void listen_at(uint16_t port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_port = htons(port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int one = 1;

    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&addr, sizeof addr) || listen(listener, 4096))
        err(1, "port %d", port);
    watch(listener);
    printf("far ready: tcp://127.0.0.1:%d\n", port);
    fflush(stdout);
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        { "listen", 1, NULL, 'l' }, { "to", 1, NULL, 't' }, { "way-us", 1, NULL, 'w' }, { NULL, 0, NULL, 0 }
    };
    int port = 0, c;

    while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (c == 'l')
            port = atoi(optarg);
        else if (c == 't')
            server_port = (uint16_t)atoi(optarg);
        else if (c == 'w')
            way_ns = atoll(optarg) * 1000;
        else
            return 2;
    }
    prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    epoll = epoll_create1(0);
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    watch(timer);
    listen_at((uint16_t)port);
    run();
}
