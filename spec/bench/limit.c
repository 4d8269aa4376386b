/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The bare limit server: the least that one thread can do for an answer. Raw epoll, one recv and one send a readiness,
 * accept4 until EAGAIN. It parses nothing: every --request-bytes bytes get --answer, with the four msgid bytes copied
 * over. What a real server uses beyond this is its own work. A standalone file, so that nothing of fae slips in.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    IN_BYTES = 64 * 1024,
    REQUEST_MAX = 16 * 1024,
    ANSWER_MAX = 16 * 1024,
    EVENTS = 512,
    CONNS_MAX = 65536,
    LISTENERS_MAX = 8,
    STALL_MS = 1000,
};

/* By fd: the bytes of a request whose rest has not come. */
struct conn {
    uint32_t have;
    uint8_t *part;
};

static struct conn conns[CONNS_MAX];
static int listeners[LISTENERS_MAX];
static unsigned n_listeners;
static size_t request_bytes = 20;
static long msgid_at = 3; /* in the request; -1: there is none */
static uint8_t answer[ANSWER_MAX] = { 0x94, 0x01, 0xce, 0, 0, 0, 0, 0xc0, 0xc0 };
static size_t answer_bytes = 9;
static long answer_msgid_at = 3;
static uint8_t in[IN_BYTES];
static uint8_t *out; /* the answer over and over, as often as requests fit into in */

static void die(const char *what)
{
    fprintf(stderr, "limit: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
    exit(1);
}

/* ---- set-up ---- */

static int listen_unix(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    if (strlen(path) >= sizeof sa.sun_path)
        errno = 0, die("path too long");
    strcpy(sa.sun_path, path);
    unlink(path);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 4096) != 0)
        die(path);
    printf(" unix:%s", path);
    return fd;
}

static int listen_tcp(const char *text)
{
    struct sockaddr_in sa = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    const char *colon = strrchr(text, ':');
    char host[64] = "";
    socklen_t len = sizeof sa;

    if (colon && (size_t)(colon - text) < sizeof host)
        memcpy(host, text, (size_t)(colon - text));
    if (inet_pton(AF_INET, host, &sa.sin_addr) != 1)
        errno = 0, die("--listen takes tcp://a.b.c.d:port or unix:/path");
    sa.sin_port = htons((uint16_t)atoi(colon + 1));
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof sa) != 0 || listen(fd, 4096) != 0)
        die(text);
    getsockname(fd, (struct sockaddr *)&sa, &len);
    printf(" tcp://%s:%u", host, ntohs(sa.sin_port));
    return fd;
}

static void add_listener(const char *text)
{
    if (n_listeners == LISTENERS_MAX)
        errno = 0, die("too many --listen");
    listeners[n_listeners++] = strncmp(text, "unix:", 5) == 0
                                   ? listen_unix(text + 5)
                                   : listen_tcp(text + 6 * (strncmp(text, "tcp://", 6) == 0));
}

static void read_answer(const char *hex)
{
    unsigned byte;

    for (answer_bytes = 0; hex[0] && hex[1] && answer_bytes < ANSWER_MAX; hex += 2) {
        if (sscanf(hex, "%2x", &byte) != 1)
            break;
        answer[answer_bytes++] = (uint8_t)byte;
    }
    if (*hex || answer_bytes == 0)
        errno = 0, die("--answer takes hex");
}

static void read_args(int argc, char **argv)
{
    for (int i = 1; i < argc; i += 2) {
        if (i + 1 == argc)
            errno = 0, die("usage: limit --listen ADDR... [--request-bytes N] [--msgid-at OFF] [--answer HEX]"
                           " [--answer-msgid-at OFF]");
        if (strcmp(argv[i], "--listen") == 0)
            add_listener(argv[i + 1]);
        else if (strcmp(argv[i], "--request-bytes") == 0)
            request_bytes = (size_t)atol(argv[i + 1]);
        else if (strcmp(argv[i], "--msgid-at") == 0)
            msgid_at = atol(argv[i + 1]);
        else if (strcmp(argv[i], "--answer") == 0)
            read_answer(argv[i + 1]);
        else if (strcmp(argv[i], "--answer-msgid-at") == 0)
            answer_msgid_at = atol(argv[i + 1]);
        else
            errno = 0, die("unknown option");
    }
    if (n_listeners == 0 || request_bytes == 0 || request_bytes > REQUEST_MAX)
        errno = 0, die("needs --listen, and --request-bytes from 1 to 16384");
    if (msgid_at >= 0 && ((size_t)msgid_at + 4 > request_bytes || (size_t)answer_msgid_at + 4 > answer_bytes))
        errno = 0, die("a msgid lies outside its message");
}

/* ---- service ---- */

static void drop(int fd)
{
    conns[fd].have = 0;
    close(fd);
}

static void accept_all(int epoll, int listener)
{
    int fd, one = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct epoll_event ev = { .events = EPOLLIN, .data.fd = fd };

        if (fd >= CONNS_MAX) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
    }
}

/* A client that does not read gets one second. */
static int send_all(int fd, size_t len)
{
    size_t sent = 0;

    for (;;) {
        ssize_t n = send(fd, out + sent, len - sent, MSG_NOSIGNAL);
        struct pollfd pfd = { .fd = fd, .events = POLLOUT };

        if (n > 0 && (sent += (size_t)n) == len)
            return 0;
        if ((n < 0 && errno != EAGAIN && errno != EINTR) || poll(&pfd, 1, STALL_MS) <= 0)
            return -1;
    }
}

static void keep_part(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (!conn->part && !(conn->part = malloc(request_bytes)))
        die("memory");
    memcpy(conn->part, bytes, len);
    conn->have = (uint32_t)len;
}

static void serve(int fd)
{
    struct conn *conn = &conns[fd];
    size_t have = conn->have, n_requests;
    ssize_t n;

    if (have)
        memcpy(in, conn->part, have);
    n = recv(fd, in + have, sizeof in - have, 0);
    if (n <= 0) {
        if (n == 0 || (errno != EAGAIN && errno != EINTR))
            drop(fd);
        return;
    }
    have += (size_t)n;
    n_requests = have / request_bytes;
    if (msgid_at >= 0)
        for (size_t i = 0; i < n_requests; i++)
            memcpy(out + i * answer_bytes + answer_msgid_at, in + i * request_bytes + msgid_at, 4);
    conn->have = 0;
    if (have != n_requests * request_bytes)
        keep_part(conn, in + n_requests * request_bytes, have - n_requests * request_bytes);
    if (n_requests && send_all(fd, n_requests * answer_bytes) != 0)
        drop(fd);
}

static void run(int epoll)
{
    struct epoll_event events[EVENTS];

    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd < 0)
                accept_all(epoll, -fd);
            else
                serve(fd);
        }
    }
}

int main(int argc, char **argv)
{
    struct rlimit limit;
    size_t most;
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    printf("limit ready:");
    read_args(argc, argv);
    most = IN_BYTES / request_bytes;
    if (!(out = malloc(most * answer_bytes)))
        die("memory");
    for (size_t i = 0; i < most; i++)
        memcpy(out + i * answer_bytes, answer, answer_bytes);
    for (unsigned i = 0; i < n_listeners; i++) {
        struct epoll_event ev = { .events = EPOLLIN, .data.fd = -listeners[i] };

        if (epoll_ctl(epoll, EPOLL_CTL_ADD, listeners[i], &ev) != 0)
            die("epoll");
    }
    printf("\n");
    fflush(stdout);
    run(epoll);
}
