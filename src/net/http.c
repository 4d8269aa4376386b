/* SPDX-License-Identifier: BSD-2-Clause
 *
 * evhttp behind five names. It closes the listening socket it is given, so it gets a duplicate.
 */
#include "net/http.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/limits.h"

#define HEADERS_MAX (16 * FAE_KIB)
#define BODY_MAX (64 * FAE_KIB)
#define TIMEOUT_S 10

struct fae_http {
    struct evhttp *evhttp;
    fae_http_fn fn;
    void *arg;
};

static const struct {
    enum evhttp_cmd_type type;
    const char *name;
} methods[] = {
    { EVHTTP_REQ_GET, "GET" },     { EVHTTP_REQ_HEAD, "HEAD" },     { EVHTTP_REQ_POST, "POST" },
    { EVHTTP_REQ_PUT, "PUT" },     { EVHTTP_REQ_DELETE, "DELETE" }, { EVHTTP_REQ_OPTIONS, "OPTIONS" },
    { EVHTTP_REQ_PATCH, "PATCH" },
};

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    { 200, "OK" },        { 400, "Bad Request" },        { 403, "Forbidden" },
    { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 503, "Service Unavailable" },
};

static const char *method_of(struct evhttp_request *req)
{
    for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++)
        if (evhttp_request_get_command(req) == methods[i].type)
            return methods[i].name;
    return "";
}

static const char *reason_of(int status)
{
    for (unsigned i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status)
            return reasons[i].reason;
    return "Error";
}

static void send_answer(struct evhttp_request *req, const struct fae_http_answer *answer)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *body = evbuffer_new();

    evhttp_add_header(headers, "Content-Type", answer->type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "Connection", "close");
    if (answer->allow)
        evhttp_add_header(headers, "Allow", answer->allow);
    if (body)
        evbuffer_add(body, answer->body.data, answer->body.len);
    evhttp_send_reply(req, answer->status, reason_of(answer->status), body);
    if (body)
        evbuffer_free(body);
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct fae_http *http = arg;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    struct fae_http_request request = { .method = method_of(req),
                                        .path = path ? path : "",
                                        .query = query ? query : "" };
    struct fae_http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };

    request.body_len = evbuffer_get_length(body);
    request.body = evbuffer_pullup(body, -1);
    http->fn(&request, &answer, http->arg);
    send_answer(req, &answer);
    fae_buf_fini(&answer.body);
}

enum fae_err fae_http_open(struct fae_http **http_out, struct fae_loop *loop, int fd, fae_http_fn fn, void *arg)
{
    struct fae_http *http = fae_zalloc(sizeof *http);
    ev_uint16_t allowed = 0;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);

    http->fn = fn;
    http->arg = arg;
    http->evhttp = evhttp_new(loop->base);
    if (!http->evhttp || own < 0)
        goto fail;
    for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++)
        allowed |= (ev_uint16_t)methods[i].type;
    evhttp_set_allowed_methods(http->evhttp, allowed);
    evhttp_set_max_headers_size(http->evhttp, HEADERS_MAX);
    evhttp_set_max_body_size(http->evhttp, BODY_MAX);
    evhttp_set_timeout(http->evhttp, TIMEOUT_S);
    evhttp_set_gencb(http->evhttp, on_request, http);
    if (evhttp_accept_socket(http->evhttp, own) != 0)
        goto fail;
    *http_out = http;
    return FAE_OK;

fail:
    if (own >= 0)
        close(own);
    fae_http_close(&http);
    return FAE_SYSTEM;
}

void fae_http_close(struct fae_http **http_io)
{
    struct fae_http *http = *http_io;

    *http_io = NULL;
    if (!http)
        return;
    if (http->evhttp)
        evhttp_free(http->evhttp);
    free(http);
}
