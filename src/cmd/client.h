/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A msgpack-RPC client for the command line: one connection, one call at a time, waiting with a deadline.
 */
#ifndef FAE_CMD_CLIENT_H
#define FAE_CMD_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "cmd/trust.h"
#include "net/addr.h"
#include "wire/msgpack.h"

#define FAE_CLIENT_ADDR "tcp://127.0.0.1:9001"

/* A request is [0, msgid, method, params] with the msgid in five bytes, ce xxxxxxxx, so that it can be changed. */
#define FAE_REQUEST_MSGID_AT 3

struct fae_client {
    const struct fae_trust *trust; /* borrowed; how to meet a tls:// address; set before open */
    struct fae_tls_ctx *tls_ctx;
    struct fae_tls *tls;     /* NULL on a plain connection */
    int fd;                  /* -1 while there is no connection */
    uint32_t msgid;          /* of the last call */
    struct fae_buf in;       /* received and not yet dropped */
    size_t spent;            /* bytes at the front of in that the last answer lends */
    struct fae_mp_scan scan; /* of the message behind them */
    struct fae_buf farewell; /* the error of the last sys.error notification: why the server hangs up */
    char why[256];           /* a sentence, after a failure */
};

/* Values that the client lends until its next call; error is NULL when the call succeeded. */
struct fae_answer {
    const uint8_t *error;
    const uint8_t *result;
};

/* The address to talk to: `flag` (of -s, may be NULL), else $FAE_ADDR, else FAE_CLIENT_ADDR. */
enum fae_err fae_client_addr(const char *flag, struct fae_addr *addr_out, char *why_out, size_t why_size);
/* Appends a request with msgid 0; params are JSON texts. FAE_BAD_ARGS with a sentence for one that is none. */
enum fae_err fae_client_request(struct fae_buf *out, const char *method, char *const *params, int n, char *why_out,
                                size_t why_size);

/* The token to show: what is in the file (NULL: $FAE_TOKEN), nothing if there is none. The caller's to free. */
enum fae_err fae_client_token(const char *path, struct fae_buf *token_out, char *why_out, size_t why_size);
/* A token from a descriptor, without the blanks around it; `name` is for the sentence. BAD_ARGS: none, or too long. */
enum fae_err fae_client_read_token(int fd, const char *name, struct fae_buf *token_out, char *why_out, size_t why_size);
/* Gives a request made by fae_client_request a context with the token; nothing for an empty one. */
void fae_client_add_token(struct fae_buf *request, const struct fae_buf *token);

void fae_client_init(struct fae_client *client);
void fae_client_fini(struct fae_client *client);
/* deadline_ms is monotonic. FAE_UNAVAILABLE: why names the address and the reason. */
enum fae_err fae_client_open(struct fae_client *client, const struct fae_addr *addr, uint64_t deadline_ms);
/* Sends one request made by fae_client_request (its msgid is set here) and waits. FAE_OK: there is an answer, be it an
 * error. FAE_WORKER_LOST, FAE_TIMEOUT, FAE_BAD_MESSAGE: there is none, the connection is closed, why says more. */
enum fae_err fae_client_call(struct fae_client *client, struct fae_buf *request, uint64_t deadline_ms,
                             struct fae_answer *answer_out);

/* Appends "CODE: message" for an error in any of its shapes (string, array, map), other values as JSON. */
void fae_client_error_text(struct fae_buf *out, const uint8_t *error);

#endif
