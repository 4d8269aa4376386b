/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Where to listen or connect: "tcp://host:port", "tls://host:port", "unix:/path", and the short forms "host:port" and
 * "/path". Host is an address ("127.0.0.1", "[::1]", "*") or "localhost": nothing here ever asks a name server.
 */
#ifndef FAE_NET_ADDR_H
#define FAE_NET_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#include "base/err.h"
#include "base/nets.h"

struct fae_addr {
    struct sockaddr_storage sa;
    socklen_t len;
    bool tls; /* it is spoken there; a socket knows nothing of it */
};

#define FAE_ADDR_TEXT 160

/* Reads `text`; on failure why_out (a buffer) gets a person's sentence. */
enum fae_err fae_addr_parse(const char *text, struct fae_addr *addr_out, char *why_out, size_t why_size);
/* "tcp://127.0.0.1:9001", "tls://127.0.0.1:9002" or "unix:/run/fae.sock" into text (FAE_ADDR_TEXT bytes). */
void fae_addr_format(const struct fae_addr *addr, char *text);
bool fae_addr_is_unix(const struct fae_addr *addr);
/* Of this machine alone: 127.0.0.0/8 or ::1. */
bool fae_addr_is_loopback(const struct fae_addr *addr);
/* "127.0.0.1" or "::1" into host (FAE_ADDR_TEXT bytes); "" for a unix socket. */
void fae_addr_host(const struct fae_addr *addr, char *host);
/* False: it has none, as a unix socket. */
bool fae_addr_ip(const struct fae_addr *addr, struct fae_ip *ip_out);
/* The port, or 0 for a unix socket. */
unsigned fae_addr_port(const struct fae_addr *addr);

/* A blocking socket connected to addr within timeout_ms; errno tells why not. */
enum fae_err fae_addr_connect(const struct fae_addr *addr, int timeout_ms, int *fd_out);

#endif
