/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Preloaded into a server, it makes fdatasync fail as on a full disk while the file that FAE_FAULT_NOSPACE names exists.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

typedef int (*sync_fn)(int fd);

int fdatasync(int fd)
{
    static sync_fn real;
    const char *path = getenv("FAE_FAULT_NOSPACE");

    if (!real)
        real = (sync_fn)dlsym(RTLD_NEXT, "fdatasync");
    if (path && access(path, F_OK) == 0) {
        errno = ENOSPC;
        return -1;
    }
    return real(fd);
}
