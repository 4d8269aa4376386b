/* SPDX-License-Identifier: BSD-2-Clause
 *
 * TLS to a MySQL server, for a library that would hold up the loop in its own: the library connects to a socket of ours on
 * loopback and speaks plainly; here its login goes on inside TLS, as the protocol has it after the greeting, and from
 * then on bytes are passed on.
 *
 *   CONNECTING --> GREETING --the server's, passed on--> ASKING --for TLS, by what the login begins with--> HANDSHAKE
 *   --> LOGIN --ok--> THROUGH
 *   In LOGIN packets are numbered: our request for TLS took a number that the library knows nothing of.
 */
#ifndef FAE_BACKEND_MYSQL_TLS_H
#define FAE_BACKEND_MYSQL_TLS_H

#include <stdint.h>

#include "net/addr.h"
#include "net/loop.h"
#include "net/tls.h"

struct fae_mysql_tls;

struct fae_mysql_tls_opts {
    struct fae_loop *loop;
    struct fae_tls_ctx *tls;
    const struct fae_addr *addr; /* the server's; borrowed */
    const char *host;            /* whose certificate it must be; lent as long as it lives */
};

/* Begins to connect, and listens on 127.0.0.1 at *port_out: 0 when it cannot, and fae_mysql_tls_why says why. */
struct fae_mysql_tls *fae_mysql_tls_new(const struct fae_mysql_tls_opts *opts, unsigned *port_out);
/* The port that the library's socket has: whoever else comes is turned away. */
void fae_mysql_tls_expect(struct fae_mysql_tls *tls, unsigned port);
/* At once. What the library wrote last, its good-bye, is passed on if that can be done at once. Accepts NULL. */
void fae_mysql_tls_free(struct fae_mysql_tls **tls);
/* Ends all but the socket to the server, which is the caller's from now on; -1: it is closed. */
int fae_mysql_tls_take_socket(struct fae_mysql_tls *tls);
/* Why the library's connection ended, or "". Lent. */
const char *fae_mysql_tls_why(const struct fae_mysql_tls *tls);

#endif
