/* SPDX-License-Identifier: BSD-2-Clause
 *
 * TLS on a connected socket: OpenSSL, which only this folder sees, under the same "read what is there, write what fits"
 * that a plain socket has; no call here ever waits. A context (certificate, key, whom to believe) is made before
 * privileges are dropped and inherited by workers. What a renewal changes is for connections that come after it.
 */
#ifndef FAE_NET_TLS_H
#define FAE_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"

struct fae_tls;     /* one connection */
struct fae_tls_ctx; /* what a listener's connections share */
struct ssl_st;      /* OpenSSL's connection, for libevent's use of it */

#define FAE_TLS_NAME_MAX 255 /* bytes of a common name */
#define FAE_TLS_WARN_DAYS 14 /* a certificate that ends sooner is worth a warning */

struct fae_tls_opts {
    const char *cert, *key; /* PEM files */
    const char *client_ca;  /* PEM file, or "": clients are not asked for a certificate */
    bool client_cert_required;
};

struct fae_tls_client_opts {
    const char *ca;         /* PEM file; NULL: whom the system believes */
    const char *cert, *key; /* PEM files, or NULL: none is shown */
    bool insecure;          /* believe anyone */
};

/* TLS 1.2 and later, forward-secret suites only, no renegotiation, session tickets with a key of this process tree.
 * BAD_CONFIG with a sentence in why_out that names the file: missing, unreadable, not PEM, not valid today, key of
 * another certificate. */
enum fae_err fae_tls_ctx_new(struct fae_tls_ctx **ctx_out, const struct fae_tls_opts *opts, char *why_out,
                             size_t why_size);
enum fae_err fae_tls_ctx_new_client(struct fae_tls_ctx **ctx_out, const struct fae_tls_client_opts *opts, char *why_out,
                                    size_t why_size);
void fae_tls_ctx_free(struct fae_tls_ctx **ctx);

/* A server's files have changed since they were read: reads them anew. On failure the context is as it was and why_out
 * has the sentence; they are not tried again until they change again. */
enum fae_err fae_tls_ctx_renew(struct fae_tls_ctx *ctx, bool *changed_out, char *why_out, size_t why_size);
/* "CN=shop.example, valid until 2027-03-01" of a server's certificate. */
void fae_tls_ctx_describe(const struct fae_tls_ctx *ctx, char *text, size_t size);
/* Whole days until it ends; negative when it has. */
long fae_tls_ctx_days_left(const struct fae_tls_ctx *ctx);

/* The server's side of a new connection; the descriptor stays the caller's. NULL when there is no memory. */
struct fae_tls *fae_tls_accept(struct fae_tls_ctx *ctx, int fd);
/* The client's side; unless insecure, the certificate must be for `host`, an address or a name. */
struct fae_tls *fae_tls_connect(struct fae_tls_ctx *ctx, int fd, const char *host);
/* Sends the closing alert if that can be done at once. Accepts NULL. */
void fae_tls_free(struct fae_tls **tls);
/* Sends the closing alert, as shutdown(SHUT_WR) does on a plain socket: nothing is sent after it. */
void fae_tls_finish(struct fae_tls *tls);
/* A connection for somebody who moves its bytes himself; he frees it. NULL when there is no memory. */
struct ssl_st *fae_tls_ctx_ssl(struct fae_tls_ctx *ctx);

/* One step of the handshake: 1 when it is through, else as recv. Nobody need call it. */
int fae_tls_handshake(struct fae_tls *tls);
/* Like recv and send: bytes, 0 at the end of the stream, -1 with errno (EAGAIN: not now; EPROTO: the other side broke
 * the rules, fae_tls_why tells). Both also move the handshake on. What a send left over must be offered again before
 * anything else is; the bytes may have moved and more may follow them. */
ssize_t fae_tls_recv(struct fae_tls *tls, void *into, size_t size);
ssize_t fae_tls_send(struct fae_tls *tls, const void *bytes, size_t len);

/* More can be received at once (bytes, the end, an error) that no readable event will tell of. */
bool fae_tls_pending(const struct fae_tls *tls);
/* It goes on when the socket can be written, whether or not there is anything to send; when false, and a send left
 * something over, it goes on when the socket can be read. */
bool fae_tls_wants_write(const struct fae_tls *tls);
/* It is recv that waits so. */
bool fae_tls_recv_wants_write(const struct fae_tls *tls);
bool fae_tls_established(const struct fae_tls *tls);
/* The common name of the client's verified certificate into name_out (FAE_TLS_NAME_MAX + 1 bytes); false: none. */
bool fae_tls_client_name(const struct fae_tls *tls, char *name_out);
/* Why the last call failed: "handshake: no shared cipher". Lends until this thread's next failure. */
const char *fae_tls_why(void);

#endif
