/* SPDX-License-Identifier: BSD-2-Clause
 *
 * evhttp behind six names. evhttp has no hook for a new connection and no limit on a request's whole time: the one on
 * making its bufferevent serves for both. It closes the listening socket it is given, so it gets a duplicate.
 *
 *   accepted --settle--> reading --whole request--> owed (by the handler) --> writing --> closed
 *                           \____________ deadline, eviction, error _____________________/
 */
#include "net/http.h"

#include <arpa/inet.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/list.h"
#include "net/tls.h"

#define SILENCE_S 10
#define ACCEPT_PAUSE_MS 100 /* after the system refused an accept */

struct fae_http {
    struct evhttp *evhttp;
    struct evconnlistener *listener;
    struct fae_loop *loop;
    struct fae_timer accept_pause;
    fae_http_fn fn;
    void *arg;
    struct fae_tls_ctx *tls; /* NULL: plain */
    char own[INET6_ADDRSTRLEN];
    bool is_public;        /* not loopback: it has a token and TLS, and whatever name */
    struct fae_list conns; /* oldest first */
    unsigned n_conns;
};

/* A connection; outlives it while an answer is owed. */
struct fae_http_later {
    struct fae_http *http;
    struct fae_list node;
    struct bufferevent *bev; /* one reference is ours; NULL: closed */
    struct event settle;     /* when evhttp has made its own object */
    struct fae_timer deadline;
    struct evhttp_request *req; /* evhttp's, while its answer is owed and the client is there */
    bool settled;
    bool owed;
    bool asked; /* its request came */
};

static const struct {
    enum evhttp_cmd_type type;
    const char *name;
} methods[] = {
    { EVHTTP_REQ_GET, "GET" },     { EVHTTP_REQ_HEAD, "HEAD" },     { EVHTTP_REQ_POST, "POST" },
    { EVHTTP_REQ_PUT, "PUT" },     { EVHTTP_REQ_DELETE, "DELETE" }, { EVHTTP_REQ_OPTIONS, "OPTIONS" },
    { EVHTTP_REQ_PATCH, "PATCH" },
};

static const struct status {
    int status;
    const char *reason, *word;
} statuses[] = {
    { 200, "OK", "OK" },
    { 400, "Bad Request", "BAD_REQUEST" },
    { 401, "Unauthorized", "UNAUTHORIZED" },
    { 403, "Forbidden", "FORBIDDEN" },
    { 404, "Not Found", "NOT_FOUND" },
    { 405, "Method Not Allowed", "BAD_METHOD" },
    { 409, "Conflict", "CONFLICT" },
    { 429, "Too Many Requests", "RATE_LIMITED" },
    { 500, "Internal Server Error", "INTERNAL" },
    { 503, "Service Unavailable", "UNAVAILABLE" },
    { 504, "Gateway Timeout", "TIMEOUT" },
};

static const struct status *status_of(int status)
{
    static const struct status other = { 0, "Error", "ERROR" };

    for (unsigned i = 0; i < sizeof statuses / sizeof *statuses; i++)
        if (statuses[i].status == status)
            return &statuses[i];
    return &other;
}

static const char *method_of(struct evhttp_request *req)
{
    for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++)
        if (evhttp_request_get_command(req) == methods[i].type)
            return methods[i].name;
    return "";
}

void fae_http_error(struct fae_http_answer *answer, int status, const char *fmt, ...)
{
    char text[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    answer->status = status;
    answer->type = "application/json";
    answer->body.len = 0;
    fae_buf_printf(&answer->body, "{\"error\":\"%s\",\"message\":", status_of(status)->word);
    fae_buf_json(&answer->body, text, strlen(text));
    fae_buf_add(&answer->body, "}\n", 2);
}

/* ---- whom a request is meant for ---- */

bool fae_http_host_ok(const char *host, const char *own)
{
    const char *const names[] = { "localhost", "127.0.0.1", "::1", own };
    bool bracket = host[0] == '[';
    size_t len = strcspn(host += bracket, bracket ? "]" : ":");
    const char *rest = host + len + (bracket && host[len] == ']');

    if (bracket && host[len] != ']')
        return false;
    if (*rest != '\0' && (*rest != ':' || rest[1 + strspn(rest + 1, "0123456789")] != '\0'))
        return false;
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == len && strncasecmp(names[i], host, len) == 0 && bracket == !!strchr(names[i], ':'))
            return true;
    return false;
}

bool fae_http_origin_ok(const char *origin, const char *host)
{
    const char *at = strstr(origin, "://");

    return at && strcasecmp(at + 3, host) == 0;
}

/* ---- what of a request is believed ---- */

static unsigned count(const struct evkeyvalq *headers, const char *name)
{
    const struct evkeyval *header;
    unsigned n = 0;

    for (header = headers->tqh_first; header; header = header->next.tqe_next)
        n += strcasecmp(header->key, name) == 0;
    return n;
}

/* evhttp takes whatever stands before the colon. */
static bool is_name(const char *key)
{
    return *key && key[strspn(key, "!#$%&'*+-.^_`|~0123456789"
                                   "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")] == '\0';
}

static bool are_names(const struct evkeyvalq *headers)
{
    const struct evkeyval *header;

    for (header = headers->tqh_first; header; header = header->next.tqe_next)
        if (!is_name(header->key))
            return false;
    return true;
}

/* Headers that someone else on the way may read differently. */
static const char *is_twofold(struct evhttp_request *req)
{
    static const char *const singles[] = { "Host", "Content-Length", "Transfer-Encoding", "Authorization", "Origin" };
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
    const char *coding = evhttp_find_header(headers, "Transfer-Encoding");

    for (unsigned i = 0; i < sizeof singles / sizeof *singles; i++)
        if (count(headers, singles[i]) > 1)
            return "a header that may come once came twice";
    if (!are_names(headers))
        return "the name of a header is none";
    if (coding && evhttp_find_header(headers, "Content-Length"))
        return "Content-Length and Transfer-Encoding do not go together";
    if (coding && strcasecmp(coding, "chunked") != 0)
        return "no Transfer-Encoding but chunked is known here";
    return NULL;
}

static bool is_for_us(const struct fae_http *http, struct evhttp_request *req, const char *host)
{
    const char *uri_host = evhttp_uri_get_host(evhttp_request_get_evhttp_uri(req));

    if (http->is_public)
        return true;
    /* What is older than HTTP/1.1 may name no host, and no browser is. */
    if (!host && req->major == 1 && req->minor >= 1)
        return false;
    return (!host || fae_http_host_ok(host, http->own)) && (!uri_host || fae_http_host_ok(uri_host, http->own));
}

/* evhttp takes HTTP/0.7 and HTTP/-1.9, and would answer in kind. */
static bool is_version(struct evhttp_request *req)
{
    if (req->major == 1 && (req->minor == 0 || req->minor == 1))
        return true;
    req->major = 1;
    req->minor = 0;
    return false;
}

/* Fills in the answer of a request that is not for the handler. */
static bool is_refused(const struct fae_http *http, struct evhttp_request *req, struct fae_http_answer *answer)
{
    const struct evkeyvalq *headers = evhttp_request_get_input_headers(req);
    const char *host = evhttp_find_header(headers, "Host"), *origin = evhttp_find_header(headers, "Origin");
    bool reads = req->type == EVHTTP_REQ_GET || req->type == EVHTTP_REQ_HEAD;
    const char *why = is_twofold(req);

    if (!is_version(req))
        fae_http_error(answer, 400, "that version of HTTP is not spoken here");
    else if (why)
        fae_http_error(answer, 400, "%s", why);
    else if (!is_for_us(http, req, host))
        fae_http_error(answer, 403, "Host is none of this server");
    else if (origin && !reads && !(host && fae_http_origin_ok(origin, host)))
        fae_http_error(answer, 403, "a page from elsewhere may change nothing here");
    else
        return false;
    return true;
}

/* ---- connections ---- */

static void conn_free(struct fae_http_later *conn)
{
    event_del(&conn->settle);
    fae_timer_stop(&conn->deadline);
    if (conn->http) {
        fae_list_del(&conn->node);
        conn->http->n_conns--;
    }
    if (conn->bev)
        bufferevent_decref(conn->bev);
    free(conn);
}

/* evhttp is about to free what it has of the connection. */
static void on_closed(struct evhttp_connection *evcon, void *arg)
{
    struct fae_http_later *conn = arg;

    (void)evcon;
    /* After an error evhttp leaves a request that a handler has to the handler. */
    if (conn->req && !evhttp_request_get_connection(conn->req))
        evhttp_request_free(conn->req);
    conn->req = NULL;
    bufferevent_decref(conn->bev);
    conn->bev = NULL;
    fae_timer_stop(&conn->deadline);
    if (!conn->owed)
        conn_free(conn);
}

static void cut(struct fae_http_later *conn)
{
    bufferevent_trigger_event(conn->bev, BEV_EVENT_READING | BEV_EVENT_TIMEOUT, 0);
}

static void on_deadline(void *arg)
{
    cut(arg);
}

/* Whoever holds connections without asking anything must not keep others out. */
static void make_room(struct fae_http *http)
{
    FAE_LIST_EACH(node, &http->conns) {
        struct fae_http_later *conn = FAE_CONTAINER(node, struct fae_http_later, node);

        if (http->n_conns <= FAE_HTTP_CONNS_MAX)
            return;
        if (conn->settled && conn->bev && !conn->asked)
            cut(conn);
    }
}

static struct evhttp_connection *evcon_of(struct bufferevent *bev)
{
    void *arg = NULL;

    bufferevent_getcb(bev, NULL, NULL, NULL, &arg);
    return arg;
}

static void settle(struct fae_http_later *conn)
{
    struct evhttp_connection *evcon = evcon_of(conn->bev);

    if (!evcon) { /* evhttp gave it up meanwhile */
        conn_free(conn);
        return;
    }
    conn->settled = true;
    evhttp_connection_set_closecb(evcon, on_closed, conn);
    fae_timer_start(&conn->deadline, FAE_HTTP_REQUEST_MS);
    make_room(conn->http);
}

static void on_settle(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    settle(arg);
}

/* A connection was accepted: evhttp asks for a bufferevent to wrap around it. */
static struct bufferevent *new_secure(struct event_base *base, struct fae_tls_ctx *tls)
{
    struct ssl_st *ssl = fae_tls_ctx_ssl(tls);
    struct bufferevent *bev;

    if (!ssl)
        return NULL;
    bev = bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (bev)
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

static struct bufferevent *on_connection(struct event_base *base, void *arg)
{
    struct fae_http *http = arg;
    struct bufferevent *bev = http->tls ? new_secure(base, http->tls) : bufferevent_socket_new(base, -1, 0);
    struct fae_http_later *conn;

    if (!bev)
        return NULL;
    conn = fae_zalloc(sizeof *conn);
    conn->http = http;
    conn->bev = bev;
    bufferevent_incref(bev);
    fae_list_add_tail(&http->conns, &conn->node);
    http->n_conns++;
    fae_timer_init(&conn->deadline, http->loop, on_deadline, conn);
    event_assign(&conn->settle, base, -1, 0, on_settle, conn);
    /* Runs right after this callback, before anything can come from the socket. */
    event_active(&conn->settle, EV_TIMEOUT, 0);
    return bev;
}

static struct fae_http_later *conn_of(struct fae_http *http, struct evhttp_request *req)
{
    struct bufferevent *bev = evhttp_connection_get_bufferevent(evhttp_request_get_connection(req));

    FAE_LIST_EACH(node, &http->conns) {
        struct fae_http_later *conn = FAE_CONTAINER(node, struct fae_http_later, node);

        if (conn->bev == bev)
            return conn;
    }
    return NULL;
}

/* ---- requests ---- */

static void send_answer(struct evhttp_request *req, const struct fae_http_answer *answer)
{
    struct evkeyvalq *headers = evhttp_request_get_output_headers(req);
    struct evbuffer *body = evbuffer_new();
    char number[24];

    evhttp_add_header(headers, "Content-Type", answer->type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    evhttp_add_header(headers, "X-Content-Type-Options", "nosniff");
    evhttp_add_header(headers, "X-Frame-Options", "DENY");
    evhttp_add_header(headers, "Connection", "close");
    if (answer->allow)
        evhttp_add_header(headers, "Allow", answer->allow);
    if (answer->status == 401)
        evhttp_add_header(headers, "WWW-Authenticate", "Bearer");
    if (answer->retry_after_s) {
        snprintf(number, sizeof number, "%u", answer->retry_after_s);
        evhttp_add_header(headers, "Retry-After", number);
    }
    if (req->type == EVHTTP_REQ_HEAD) { /* evhttp would send it all the same, and not its length */
        snprintf(number, sizeof number, "%zu", answer->body.len);
        evhttp_add_header(headers, "Content-Length", number);
    } else if (body) {
        evbuffer_add(body, answer->body.data, answer->body.len);
    }
    evhttp_send_reply(req, answer->status, status_of(answer->status)->reason, body);
    if (body)
        evbuffer_free(body);
}

static const char *header_of(struct evhttp_request *req, const char *name)
{
    const char *value = evhttp_find_header(evhttp_request_get_input_headers(req), name);

    return value ? value : "";
}

static void handle(struct fae_http *http, struct evhttp_request *req, struct fae_http_later *conn,
                   struct fae_http_answer *answer)
{
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(req);
    struct evbuffer *body = evhttp_request_get_input_buffer(req);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    const char *query = uri ? evhttp_uri_get_query(uri) : NULL;
    struct fae_http_request request = { .method = method_of(req),
                                        .path = path ? path : "",
                                        .query = query ? query : "",
                                        .authorization = header_of(req, "Authorization"),
                                        .later = conn };

    request.body_len = evbuffer_get_length(body);
    request.body = evbuffer_pullup(body, -1);
    http->fn(&request, answer, http->arg);
}

static void on_request(struct evhttp_request *req, void *arg)
{
    struct fae_http *http = arg;
    struct fae_http_later *conn = conn_of(http, req);
    struct fae_http_answer answer = { .status = 200, .type = "text/plain; charset=utf-8" };

    if (conn) {
        conn->asked = true;
        fae_timer_start(&conn->deadline, FAE_HTTP_ANSWER_MS);
    }
    if (!is_refused(http, req, &answer))
        handle(http, req, conn, &answer);
    if (answer.later && conn) {
        conn->owed = true;
        conn->req = req;
    } else {
        send_answer(req, &answer);
    }
    fae_buf_fini(&answer.body);
}

void fae_http_reply(struct fae_http_later *later, struct fae_http_answer *answer)
{
    struct evhttp_request *req = later->req;

    later->owed = false;
    later->req = NULL;
    if (req)
        send_answer(req, answer);
    else if (!later->bev)
        conn_free(later);
    fae_buf_fini(&answer->body);
}

/* ---- the server ---- */

static void on_accept_pause(void *arg)
{
    evconnlistener_enable(((struct fae_http *)arg)->listener);
}

/* Out of descriptors, most likely: the connection stays queued and would be told again at once, for ever. */
static void on_accept_error(struct evconnlistener *listener, void *arg)
{
    evconnlistener_disable(listener);
    fae_timer_start(&((struct fae_http *)arg)->accept_pause, ACCEPT_PAUSE_MS);
}

static void find_own(struct fae_http *http, int fd)
{
    struct sockaddr_storage sa = { 0 };
    socklen_t len = sizeof sa;

    getsockname(fd, (struct sockaddr *)&sa, &len);
    if (sa.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&sa;

        inet_ntop(AF_INET, &in->sin_addr, http->own, sizeof http->own);
        http->is_public = ntohl(in->sin_addr.s_addr) >> 24 != 127;
    } else if (sa.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&sa;

        inet_ntop(AF_INET6, &in6->sin6_addr, http->own, sizeof http->own);
        http->is_public = !IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
    }
}

static void set_limits(struct fae_http *http)
{
    ev_uint16_t allowed = 0;

    for (unsigned i = 0; i < sizeof methods / sizeof *methods; i++)
        allowed |= (ev_uint16_t)methods[i].type;
    evhttp_set_allowed_methods(http->evhttp, allowed);
    evhttp_set_max_headers_size(http->evhttp, FAE_HTTP_HEADERS_MAX);
    evhttp_set_max_body_size(http->evhttp, FAE_HTTP_BODY_MAX);
    evhttp_set_timeout(http->evhttp, SILENCE_S);
    evhttp_set_bevcb(http->evhttp, on_connection, http);
    evhttp_set_gencb(http->evhttp, on_request, http);
}

enum fae_err fae_http_open(struct fae_http **http_out, struct fae_loop *loop, int fd, fae_http_fn fn, void *arg)
{
    struct fae_http *http = fae_zalloc(sizeof *http);
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    struct evhttp_bound_socket *bound;

    http->loop = loop;
    http->fn = fn;
    http->arg = arg;
    fae_list_init(&http->conns);
    fae_timer_init(&http->accept_pause, loop, on_accept_pause, http);
    find_own(http, fd);
    http->evhttp = evhttp_new(loop->base);
    if (!http->evhttp || own < 0)
        goto fail;
    set_limits(http);
    bound = evhttp_accept_socket_with_handle(http->evhttp, own);
    if (!bound)
        goto fail;
    http->listener = evhttp_bound_socket_get_listener(bound);
    evconnlistener_set_error_cb(http->listener, on_accept_error);
    *http_out = http;
    return FAE_OK;

fail:
    if (own >= 0)
        close(own);
    fae_http_close(&http);
    return FAE_SYSTEM;
}

void fae_http_secure(struct fae_http *http, struct fae_tls_ctx *tls)
{
    http->tls = tls;
}

unsigned fae_http_n_conns(const struct fae_http *http)
{
    return http->n_conns;
}

void fae_http_close(struct fae_http **http_io)
{
    struct fae_http *http = *http_io;

    *http_io = NULL;
    if (!http)
        return;
    fae_timer_stop(&http->accept_pause);
    FAE_LIST_EACH(node, &http->conns) {
        struct fae_http_later *conn = FAE_CONTAINER(node, struct fae_http_later, node);

        if (!conn->settled)
            settle(conn);
    }
    if (http->evhttp)
        evhttp_free(http->evhttp);
    /* Who is left owes an answer to nobody. */
    FAE_LIST_EACH(node, &http->conns) {
        struct fae_http_later *conn = FAE_CONTAINER(node, struct fae_http_later, node);

        fae_list_del(node);
        conn->http = NULL;
    }
    free(http);
}
