/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Preloaded into a server, it lets every recv and send on a stream socket move one byte at most, as the worst network
 * would: what must not depend on where the bytes are cut is tested with it. spec/e2e/harness.py compiles it.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

typedef ssize_t (*recv_fn)(int fd, void *bytes, size_t len, int flags);
typedef ssize_t (*send_fn)(int fd, const void *bytes, size_t len, int flags);

static int is_stream(int fd)
{
    int type = 0;
    socklen_t len = sizeof type;

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == 0 && type == SOCK_STREAM;
}

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    static recv_fn real;

    if (!real)
        real = (recv_fn)dlsym(RTLD_NEXT, "recv");
    return real(fd, bytes, len > 1 && is_stream(fd) ? 1 : len, flags);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    static send_fn real;

    if (!real)
        real = (send_fn)dlsym(RTLD_NEXT, "send");
    return real(fd, bytes, len > 1 && is_stream(fd) ? 1 : len, flags);
}
