/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Memory shared by all processes of a node.
 */
#include "base/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/assert.h"

/* A sealed memfd mapped shared and zeroed; NULL and errno when the system has none. */
static void *map_one(const char *name, size_t size, int *fd_out)
{
    char label[64];
    void *mem;
    int saved, fd;

    snprintf(label, sizeof label, "fae-%s", name);
    fd = memfd_create(label, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return NULL;
    /* Sealed: nobody can shrink it under a reader, which would be a SIGBUS. */
    if (ftruncate(fd, (off_t)size) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
        goto fail;
    mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mem == MAP_FAILED)
        goto fail;
    *fd_out = fd;
    return mem;

fail:
    saved = errno;
    close(fd);
    errno = saved;
    return NULL;
}

enum fae_err fae_shm_map(struct fae_shm *shm_out, const struct fae_shm_region *table, unsigned n, const void *arg)
{
    struct fae_shm shm = { 0 };

    FAE_ASSERT(n <= FAE_SHM_REGIONS_MAX);
    for (unsigned i = 0; i < n; i++) {
        size_t size = table[i].size(arg);
        int fd = -1;
        void *mem = size ? map_one(table[i].name, size, &fd) : NULL;

        if (size && !mem) {
            int saved = errno;

            fae_shm_unmap(&shm);
            errno = saved;
            return FAE_SYSTEM;
        }
        shm.regions[shm.n].name = table[i].name;
        shm.regions[shm.n].mem = mem;
        shm.regions[shm.n].size = size;
        shm.regions[shm.n++].fd = fd;
        if (mem)
            table[i].init(mem, arg);
    }
    *shm_out = shm;
    return FAE_OK;
}

void *fae_shm_get(const struct fae_shm *shm, const char *name)
{
    unsigned i = 0;

    while (i < shm->n && strcmp(shm->regions[i].name, name) != 0)
        i++;
    FAE_ASSERT(i < shm->n);
    return shm->regions[i].mem;
}

void fae_shm_unmap(struct fae_shm *shm)
{
    for (unsigned i = 0; i < shm->n; i++) {
        if (!shm->regions[i].mem)
            continue;
        munmap(shm->regions[i].mem, shm->regions[i].size);
        close(shm->regions[i].fd);
    }
    shm->n = 0;
}
