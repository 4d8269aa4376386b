/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Moves log lines from the rings of all slots to stderr or the log file. Never waits: what cannot be written stays in
 * the rings, which drop and count what comes on top, and the count is told in a line as soon as there is room again.
 * One process at a time: ops, and at the very end the supervisor.
 */
#ifndef FAE_OPS_LOGWRITER_H
#define FAE_OPS_LOGWRITER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/buf.h"

struct fae_logwriter {
    void *rings;
    unsigned n_rings;
    int fd;
    bool owns_fd;
    bool is_socket;
    const char *path;   /* borrowed; "" when it is stderr */
    struct fae_buf out; /* whole lines, the first of which may be half written */
    uint64_t n_told;    /* of the dropped lines */
    uint64_t look_ms;   /* when to see whether the file was rotated */
};

/* Borrows rings, path and fd. */
void fae_logwriter_init(struct fae_logwriter *w, void *rings, unsigned n_rings, int fd, const char *path);
void fae_logwriter_fini(struct fae_logwriter *w);
/* Writes what is there and can be written. */
void fae_logwriter_turn(struct fae_logwriter *w);
/* The same to the end, for half a second at most. */
void fae_logwriter_finish(struct fae_logwriter *w);

#endif
