/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A small HTTP server for admin work, on evhttp, which nobody else sees. It answers one request a connection and is
 * bounded in every direction: headers, body, connections, and the time of a whole request, not of a silence. What could
 * be meant for another server is refused before the handler sees it: a strange Host (DNS rebinding), the Origin of
 * another page, two lengths (request smuggling).
 */
#ifndef FAE_NET_HTTP_H
#define FAE_NET_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"
#include "net/loop.h"

#define FAE_HTTP_HEADERS_MAX (16 * 1024)
#define FAE_HTTP_BODY_MAX (64 * 1024)
#define FAE_HTTP_CONNS_MAX 64     /* beyond it the oldest that has not sent its request yet is closed */
#define FAE_HTTP_REQUEST_MS 10000 /* from the connection to its whole request */
#define FAE_HTTP_ANSWER_MS 40000  /* from there to the last byte of the answer */

struct fae_http;
struct fae_tls_ctx;
struct fae_http_later; /* an answer that is owed */

/* Lent until the handler returns. */
struct fae_http_request {
    const char *method;        /* "GET" */
    const char *path;          /* without the query, as it was sent */
    const char *query;         /* "" when there is none */
    const char *authorization; /* that header, or "" */
    const void *body;
    size_t body_len;
    struct fae_http_later *later; /* NULL in specs without a socket */
};

/* The handler fills it in; starts as 200 with an empty body. */
struct fae_http_answer {
    int status;
    const char *type;       /* of the content; static text */
    const char *allow;      /* with 405; static text or NULL */
    unsigned retry_after_s; /* 0: not said */
    bool later;             /* the handler calls fae_http_reply some time */
    struct fae_buf body;
};

typedef void (*fae_http_fn)(const struct fae_http_request *request, struct fae_http_answer *answer, void *arg);

/* {"error":"FORBIDDEN","message":"..."}: the word follows from the status. */
void fae_http_error(struct fae_http_answer *answer, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Serves on a listening socket; borrows fd. SIGPIPE must be ignored: evhttp writes with writev. */
enum fae_err fae_http_open(struct fae_http **http_out, struct fae_loop *loop, int fd, fae_http_fn fn, void *arg);
/* Connections from now on speak TLS. Borrows the context. */
void fae_http_secure(struct fae_http *http, struct fae_tls_ctx *tls);
void fae_http_close(struct fae_http **http);
/* Connections there are. */
unsigned fae_http_n_conns(const struct fae_http *http);

/* The answer that a handler has put off; to be called once, whatever became of the client or of the server. Takes the
 * body. */
void fae_http_reply(struct fae_http_later *later, struct fae_http_answer *answer);

/* Is this Host header one of a server that listens on `own` ("127.0.0.1", "::1")? Pure. */
bool fae_http_host_ok(const char *host, const char *own);
/* Is this Origin header ("http://localhost:9101") that of a page of the server that Host names? Pure. */
bool fae_http_origin_ok(const char *origin, const char *host);

#endif
