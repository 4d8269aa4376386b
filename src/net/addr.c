/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Addresses in text and back; a connect with a limit for the command-line tools.
 */
#include "net/addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define HOST_MAX (INET6_ADDRSTRLEN - 1) /* characters */

static enum fae_err parse_unix(const char *path, struct fae_addr *addr, char *why, size_t size)
{
    struct sockaddr_un *un = (struct sockaddr_un *)&addr->sa;
    size_t len = strlen(path);

    if (len == 0) {
        snprintf(why, size, "a unix address needs a path, as in unix:/run/fae.sock");
        return FAE_BAD_CONFIG;
    }
    if (len >= sizeof un->sun_path) {
        snprintf(why, size, "the path of a unix socket may have %zu bytes, this one has %zu", sizeof un->sun_path - 1,
                 len);
        return FAE_BAD_CONFIG;
    }
    un->sun_family = AF_UNIX;
    memcpy(un->sun_path, path, len + 1);
    addr->len = sizeof *un;
    return FAE_OK;
}

static enum fae_err parse_tcp(const char *text, struct fae_addr *addr, char *why, size_t size)
{
    const char *colon = strrchr(text, ':');
    char host[64], *end;
    size_t len;
    long port;

    if (!colon || colon[1] == '\0') {
        snprintf(why, size, "\"%s\" has no port, as in tcp://127.0.0.1:9001", text);
        return FAE_BAD_CONFIG;
    }
    port = strtol(colon + 1, &end, 10);
    if (colon[1] < '0' || colon[1] > '9' || *end || port > 65535) { /* strtol would take " +1" */
        snprintf(why, size, "\"%s\" is not a port (0 to 65535)", colon + 1);
        return FAE_BAD_CONFIG;
    }
    len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']')
        text++, len -= 2;
    if (len >= sizeof host)
        len = sizeof host - 1;
    memcpy(host, text, len);
    host[len] = '\0';
    if (strcmp(host, "localhost") == 0)
        strcpy(host, "127.0.0.1");
    if (strcmp(host, "*") == 0 || host[0] == '\0')
        strcpy(host, "0.0.0.0");
    if (strchr(host, ':')) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->sa;

        in6->sin6_family = AF_INET6;
        in6->sin6_port = htons((uint16_t)port);
        addr->len = sizeof *in6;
        if (inet_pton(AF_INET6, host, &in6->sin6_addr) == 1)
            return FAE_OK;
    } else {
        struct sockaddr_in *in = (struct sockaddr_in *)&addr->sa;

        in->sin_family = AF_INET;
        in->sin_port = htons((uint16_t)port);
        addr->len = sizeof *in;
        if (inet_pton(AF_INET, host, &in->sin_addr) == 1)
            return FAE_OK;
    }
    snprintf(why, size, "\"%s\" is not an IP address (names are not looked up)", host);
    return FAE_BAD_CONFIG;
}

enum fae_err fae_addr_parse(const char *text, struct fae_addr *addr_out, char *why, size_t size)
{
    struct fae_addr addr = { 0 };
    enum fae_err err;

    if (strncmp(text, "unix:", 5) == 0)
        err = parse_unix(text + 5 + (strncmp(text + 5, "//", 2) == 0 ? 2 : 0), &addr, why, size);
    else if (strncmp(text, "tcp://", 6) == 0)
        err = parse_tcp(text + 6, &addr, why, size);
    else if (strncmp(text, "tls://", 6) == 0)
        addr.tls = true, err = parse_tcp(text + 6, &addr, why, size);
    else if (strstr(text, "://"))
        err = FAE_BAD_CONFIG, snprintf(why, size, "\"%s\": an address starts with tcp://, tls:// or unix:", text);
    else if (strchr(text, '/'))
        err = parse_unix(text, &addr, why, size);
    else
        err = parse_tcp(text, &addr, why, size);
    if (!err)
        *addr_out = addr;
    return err;
}

void fae_addr_host(const struct fae_addr *addr, char *host)
{
    *host = '\0';
    if (addr->sa.ss_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)&addr->sa)->sin_addr, host, FAE_ADDR_TEXT);
    else if (addr->sa.ss_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)&addr->sa)->sin6_addr, host, FAE_ADDR_TEXT);
}

void fae_addr_format(const struct fae_addr *addr, char *text)
{
    const char *kind = addr->tls ? "tls" : "tcp";
    char host[FAE_ADDR_TEXT];

    fae_addr_host(addr, host);
    switch (addr->sa.ss_family) {
    case AF_UNIX:
        snprintf(text, FAE_ADDR_TEXT, "unix:%s",
                 addr->len > sizeof(sa_family_t) ? ((const struct sockaddr_un *)&addr->sa)->sun_path : "");
        return;
    case AF_INET6: snprintf(text, FAE_ADDR_TEXT, "%s://[%.*s]:%u", kind, HOST_MAX, host, fae_addr_port(addr)); return;
    case AF_INET: snprintf(text, FAE_ADDR_TEXT, "%s://%.*s:%u", kind, HOST_MAX, host, fae_addr_port(addr)); return;
    default: snprintf(text, FAE_ADDR_TEXT, "-");
    }
}

bool fae_addr_is_unix(const struct fae_addr *addr)
{
    return addr->sa.ss_family == AF_UNIX;
}

bool fae_addr_is_loopback(const struct fae_addr *addr)
{
    if (addr->sa.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&addr->sa)->sin_addr.s_addr) >> 24 == 127;
    return addr->sa.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&addr->sa)->sin6_addr);
}

bool fae_addr_ip(const struct fae_addr *addr, struct fae_ip *ip)
{
    if (addr->sa.ss_family == AF_INET)
        fae_ip_of_v4(ip, &((const struct sockaddr_in *)&addr->sa)->sin_addr);
    else if (addr->sa.ss_family == AF_INET6)
        memcpy(ip->bytes, &((const struct sockaddr_in6 *)&addr->sa)->sin6_addr, sizeof ip->bytes);
    else
        return false;
    return true;
}

unsigned fae_addr_port(const struct fae_addr *addr)
{
    if (addr->sa.ss_family == AF_INET)
        return ntohs(((const struct sockaddr_in *)&addr->sa)->sin_port);
    if (addr->sa.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *)&addr->sa)->sin6_port);
    return 0;
}

enum fae_err fae_addr_connect(const struct fae_addr *addr, int timeout_ms, int *fd_out)
{
    int fd = socket(addr->sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int one = 1, failed = 0;
    socklen_t len = sizeof failed;

    if (fd < 0)
        return FAE_SYSTEM;
    if (!fae_addr_is_unix(addr))
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (const struct sockaddr *)&addr->sa, addr->len) != 0) {
        struct pollfd pfd = { .fd = fd, .events = POLLOUT };

        if (errno != EINPROGRESS)
            goto fail;
        if (poll(&pfd, 1, timeout_ms) <= 0) {
            errno = ETIMEDOUT;
            goto fail;
        }
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &len);
        if (failed) {
            errno = failed;
            goto fail;
        }
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    *fd_out = fd;
    return FAE_OK;

fail:
    failed = errno;
    close(fd);
    errno = failed;
    return FAE_UNAVAILABLE;
}
