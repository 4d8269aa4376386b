/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A small HTTP server for admin work, on evhttp, which nobody else sees. Bounded: headers 16 KiB, body 64 KiB, 10 s of
 * silence. One answer a connection.
 */
#ifndef FAE_NET_HTTP_H
#define FAE_NET_HTTP_H

#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

struct fae_http;

/* Lent until the handler returns. */
struct fae_http_request {
    const char *method; /* "GET" */
    const char *path;   /* without the query, as it was sent */
    const char *query;  /* "" when there is none */
    const void *body;
    size_t body_len;
};

/* The handler fills it in; starts as 200 with an empty body. */
struct fae_http_answer {
    int status;
    const char *type;  /* of the content; static text */
    const char *allow; /* with 405; static text or NULL */
    struct fae_buf body;
};

typedef void (*fae_http_fn)(const struct fae_http_request *request, struct fae_http_answer *answer, void *arg);

/* Serves on a listening socket; borrows fd. */
enum fae_err fae_http_open(struct fae_http **http_out, struct fae_loop *loop, int fd, fae_http_fn fn, void *arg);
void fae_http_close(struct fae_http **http);

#endif
