/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How a command meets a tls:// node: --ca, --cert, --key, --tls-name, --insecure, the same for every command that takes
 * an address.
 */
#ifndef FAE_CMD_TRUST_H
#define FAE_CMD_TRUST_H

#include <stdbool.h>

#include "net/addr.h"
#include "net/tls.h"

struct fae_trust {
    struct fae_tls_client_opts files;
    const char *name; /* that the certificate must be for; NULL: the address's host */
};

/* If argv[*i] is one of the options, takes it and its value. */
bool fae_trust_option(const char *command, int argc, char **argv, int *i, struct fae_trust *trust);

/* *ctx_out is NULL where the address speaks no TLS; options of TLS are then an error. BAD_ARGS or BAD_CONFIG with a
 * sentence in why_out. */
enum fae_err fae_trust_open(const struct fae_trust *trust, const struct fae_addr *addr, struct fae_tls_ctx **ctx_out,
                            char *why_out, size_t why_size);
/* The client's side of a connection that may still be on its way. NULL when there is no memory. */
struct fae_tls *fae_trust_connect(const struct fae_trust *trust, const struct fae_addr *addr, struct fae_tls_ctx *ctx,
                                  int fd);

#endif
