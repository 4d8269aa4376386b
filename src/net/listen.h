/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Listening sockets, bound by the supervisor and kept open over the deaths of workers, so that a queued connection
 * waits instead of being reset. tcp: one SO_REUSEPORT socket a worker; unix, and what we were given (net/given.h): one
 * socket for all.
 */
#ifndef FAE_NET_LISTEN_H
#define FAE_NET_LISTEN_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/limits.h"
#include "net/addr.h"

struct fae_tls_ctx;

struct fae_listener {
    struct fae_addr addr;     /* with the real port, once open */
    char text[FAE_ADDR_TEXT]; /* of addr */
    bool half_close;
    mode_t mode;             /* unix: of the socket file */
    const char *group;       /* unix: its group, borrowed; NULL or "": left as it is */
    uid_t account;           /* unix: whose socket root may replace besides its own, when it is stale */
    struct fae_tls_ctx *tls; /* what is spoken on it, borrowed; NULL: nothing but the protocol */
    bool shared;             /* one fd for all workers, fds[0] */
    bool given;              /* by whoever started us, who also made and owns a unix socket's file */
    unsigned n_fds;
    int fds[FAE_WORKERS_MAX];
};

/* Binds and listens, or takes the socket we were given for addr; addr, half_close, mode and group are set. A stale unix
 * socket that nobody answers on is replaced. Another server on the same tcp port is noticed although SO_REUSEPORT would
 * let us in. ADDR_IN_USE, BAD_CONFIG (no such group) or SYSTEM with a sentence in why_out; nothing stays open then. */
enum fae_err fae_listener_open(struct fae_listener *ln, unsigned n_workers, int backlog, char *why_out,
                               size_t why_size);
/* Closes the fds; `unlink_path` also removes a unix socket's file, when it is ours. */
void fae_listener_close(struct fae_listener *ln, bool unlink_path);

#endif
