/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Preloaded into a server, it lets every recv and send move one byte at most, as the worst network
 * would: what must not depend on where the bytes are cut is tested with it. spec/e2e/harness.py compiles it.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

typedef ssize_t (*recv_fn)(int fd, void *bytes, size_t len, int flags);
typedef ssize_t (*send_fn)(int fd, const void *bytes, size_t len, int flags);

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    static recv_fn real;

    if (!real)
        real = (recv_fn)dlsym(RTLD_NEXT, "recv");
    return real(fd, bytes, len > 1 ? 1 : len, flags);
}

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    static send_fn real;

    if (!real)
        real = (send_fn)dlsym(RTLD_NEXT, "send");
    return real(fd, bytes, len > 1 ? 1 : len, flags);
}
