/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Shared memory: one memfd per region, mapped by the supervisor before its first fork, so that every process has it at
 * the same address. Regions are handed out by name; each module sizes and initialises its own (one table, proc/shared.c).
 * What is inside holds offsets and indices, never pointers, so that a later binary can map it anywhere.
 */
#ifndef FAE_BASE_SHM_H
#define FAE_BASE_SHM_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define FAE_SHM_LAYOUT 1 /* raised whenever a region's layout changes */
#define FAE_SHM_REGIONS_MAX 24

/* One row of the table. `arg` is what fae_shm_map was given. */
struct fae_shm_region {
    const char *name;
    size_t (*size)(const void *arg);          /* 0: there is none, and fae_shm_get gives NULL */
    void (*init)(void *mem, const void *arg); /* mem is zeroed */
};

struct fae_shm {
    unsigned n;
    struct {
        const char *name;
        void *mem;
        size_t size;
        int fd;
    } regions[FAE_SHM_REGIONS_MAX];
};

/* Makes, maps and initialises every region; errno tells why not. */
enum fae_err fae_shm_map(struct fae_shm *shm_out, const struct fae_shm_region *table, unsigned n, const void *arg);
/* The region of that name; asking for one that is not there is a bug. */
void *fae_shm_get(const struct fae_shm *shm, const char *name);
void fae_shm_unmap(struct fae_shm *shm);

#endif
