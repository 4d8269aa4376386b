/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A bundle as the node keeps it: a sealed memfd. Its bytes cannot change any more, so every process that maps it loads
 * what the checker has checked.
 */
#ifndef FAE_PROC_STORED_H
#define FAE_PROC_STORED_H

#include <stdint.h>

#include "base/err.h"
#include "wire/bundle.h"

struct fae_stored {
    int fd; /* -1: none */
    uint32_t generation;
};

#define FAE_STORED_NONE ((struct fae_stored){ .fd = -1 })

/* An empty memfd for a checker to fill; -1 and errno. */
int fae_stored_new(void);
/* Forbids all change. BAD_MESSAGE: what is in there is no bundle. */
enum fae_err fae_stored_seal(int fd);
/* Maps it for reading; lends the bytes until _unmap. */
enum fae_err fae_stored_map(int fd, struct fae_bundle *bundle_out);
void fae_stored_unmap(struct fae_bundle *bundle);
void fae_stored_close(struct fae_stored *stored);

#endif
