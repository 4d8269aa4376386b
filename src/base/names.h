/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Names in shared memory: each gets a row at first sight and keeps it. Finding one takes no lock; the hash is seeded,
 * so that nobody can make names that collide; a full set takes no more. Any process may be killed at any instruction.
 */
#ifndef FAE_BASE_NAMES_H
#define FAE_BASE_NAMES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/shmutex.h"

#define FAE_NAMES_NONE UINT32_MAX

struct fae_names {
    struct fae_shmutex lock; /* of those who add */
    uint64_t seed;
    uint32_t cap, width; /* rows, and bytes of the longest name */
    uint32_t n_slots;    /* of the hash table, a power of two and at most half full */
    _Atomic uint32_t n;  /* rows given out */
    /* The table (row + 1 a slot), then the rows: a length and the bytes. */
    _Alignas(8) _Atomic uint32_t slots[];
};

/* Bytes of memory; the macro for a cap that is a power of two. */
#define FAE_NAMES_STRIDE(width) (((width) + 2 + 1 + 3) & ~3u)
#define FAE_NAMES_BYTES(cap, width) (sizeof(struct fae_names) + 8 * (cap) + (cap) * (size_t)FAE_NAMES_STRIDE(width))
size_t fae_names_size(uint32_t cap, uint32_t width);
void fae_names_init(struct fae_names *names, uint32_t cap, uint32_t width); /* mem is zeroed */

/* The row of the name, or FAE_NAMES_NONE. Names are any bytes. */
uint32_t fae_names_find(const struct fae_names *names, const void *name, size_t len);
/* The same, given out if it is new; FAE_NAMES_NONE when the set is full, the name is longer than width, or somebody is
 * stopped while adding. */
uint32_t fae_names_add(struct fae_names *names, const void *name, size_t len);
/* Rows 0 to this - 1 have names. */
uint32_t fae_names_count(const struct fae_names *names);
/* The name of a row, ended by a NUL that the length does not count. */
const char *fae_names_text(const struct fae_names *names, uint32_t row, size_t *len_out);

#endif
