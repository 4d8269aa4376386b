/* SPDX-License-Identifier: BSD-2-Clause
 *
 * memfds that hold bundles.
 */
#include "proc/stored.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"

int fae_stored_new(void)
{
    return memfd_create("fae-bundle", MFD_CLOEXEC | MFD_ALLOW_SEALING);
}

enum fae_err fae_stored_seal(int fd)
{
    struct fae_bundle bundle;
    enum fae_err err;

    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0)
        return FAE_SYSTEM;
    err = fae_stored_map(fd, &bundle);
    if (!err)
        fae_stored_unmap(&bundle);
    return err;
}

enum fae_err fae_stored_map(int fd, struct fae_bundle *bundle_out)
{
    struct stat st;
    void *bytes;
    enum fae_err err;

    if (fstat(fd, &st) != 0)
        return FAE_SYSTEM;
    if (st.st_size <= 0 || (uint64_t)st.st_size > FAE_BUNDLE_MAX)
        return FAE_BAD_MESSAGE;
    bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED)
        return FAE_SYSTEM;
    err = fae_bundle_open(bundle_out, bytes, (size_t)st.st_size);
    if (err)
        munmap(bytes, (size_t)st.st_size);
    return err;
}

void fae_stored_unmap(struct fae_bundle *bundle)
{
    munmap((void *)bundle->bytes, bundle->len);
}

void fae_stored_close(struct fae_stored *stored)
{
    if (stored->fd >= 0)
        close(stored->fd);
    *stored = FAE_STORED_NONE;
}
