/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The environment is only believed in the process that it names: our children inherit it too.
 */
#include "net/given.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/limits.h"

#define FIRST_FD 3

static long number_of(const char *name)
{
    const char *text = getenv(name);
    char *end;
    long n = text ? strtol(text, &end, 10) : 0;

    return text && *text && !*end ? n : 0;
}

static int n_given(void)
{
    long n = number_of("LISTEN_FDS");

    if (number_of("LISTEN_PID") != (long)getpid() || n < 0)
        return 0;
    return n < FAE_LISTENERS_MAX ? (int)n : FAE_LISTENERS_MAX;
}

static bool listens(int fd)
{
    int type = 0, accepts = 0;
    socklen_t len = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM &&
           getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) == 0 && accepts;
}

/* Of an IPv6 address its scope and flow are left out, as in text. */
static bool equal(const struct fae_addr *a, const struct fae_addr *b)
{
    const struct sockaddr_un *path_a = (const void *)&a->sa, *path_b = (const void *)&b->sa;
    char text_a[FAE_ADDR_TEXT], text_b[FAE_ADDR_TEXT];

    if (a->sa.ss_family != b->sa.ss_family)
        return false;
    if (fae_addr_is_unix(a))
        return strncmp(path_a->sun_path, path_b->sun_path, sizeof path_a->sun_path) == 0;
    fae_addr_host(a, text_a);
    fae_addr_host(b, text_b);
    return fae_addr_port(a) == fae_addr_port(b) && strcmp(text_a, text_b) == 0;
}

int fae_given_find(const struct fae_addr *addr)
{
    for (int fd = FIRST_FD, end = FIRST_FD + n_given(); fd < end; fd++) {
        struct fae_addr own = { .len = sizeof own.sa };

        if (!listens(fd) || getsockname(fd, (struct sockaddr *)&own.sa, &own.len) != 0 || !equal(addr, &own))
            continue;
        if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0)
            return fd;
    }
    return -1;
}
