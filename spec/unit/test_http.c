/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/http: whom a request is meant for; and the server over a socketpair's worth of real sockets: answers put off,
 * clients that go away before, too many connections.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/http.h"

static void hosts_of_ours_are_taken(void **state)
{
    static const struct {
        const char *host, *own;
        bool ok;
    } rows[] = {
        { "localhost", "127.0.0.1", true },
        { "LocalHost:9101", "127.0.0.1", true },
        { "127.0.0.1", "127.0.0.1", true },
        { "127.0.0.1:1", "127.0.0.1", true },
        { "[::1]", "127.0.0.1", true },
        { "[::1]:80", "::1", true },
        { "127.0.0.9:80", "127.0.0.9", true },
        { "[fe80::1]:80", "fe80::1", true },
        { "127.0.0.2", "127.0.0.1", false },
        { "evil.com", "127.0.0.1", false },
        { "localhost.evil.com", "127.0.0.1", false },
        { "127.0.0.1.evil.com", "127.0.0.1", false },
        { "evil.com:9101", "127.0.0.1", false },
        { "", "127.0.0.1", false },
        { ":80", "127.0.0.1", false },
        { "localhost:80:80", "127.0.0.1", false },
        { "localhost:80x", "127.0.0.1", false },
        { "localhost@evil.com", "127.0.0.1", false },
        { "localhost, evil.com", "127.0.0.1", false },
        { "::1", "::1", false },
        { "[localhost]", "127.0.0.1", false },
        { "[::1", "::1", false },
        { "[::1]x", "::1", false },
        { "localhost.", "127.0.0.1", false },
        { "2130706433", "127.0.0.1", false },
        { "0", "127.0.0.1", false },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        if (fae_http_host_ok(rows[i].host, rows[i].own) != rows[i].ok)
            fail_msg("%s for %s", rows[i].host, rows[i].own);
}

static void pages_of_ours_are_taken(void **state)
{
    static const struct {
        const char *origin, *host;
        bool ok;
    } rows[] = {
        { "http://localhost:9101", "localhost:9101", true },
        { "https://127.0.0.1", "127.0.0.1", true },
        { "http://localhost:9102", "localhost:9101", false },
        { "http://evil.com", "localhost:9101", false },
        { "null", "localhost:9101", false },
        { "", "localhost:9101", false },
        { "localhost:9101", "localhost:9101", false },
        { "http://localhost:9101/", "localhost:9101", false },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++)
        assert_int_equal(fae_http_origin_ok(rows[i].origin, rows[i].host), rows[i].ok);
}

/* ---- a server ---- */

static struct server {
    struct fae_loop loop;
    struct fae_http *http;
    struct sockaddr_in addr;
    int fd;
    struct fae_http_later *later[100];
    unsigned n_later, n_requests;
} server;

static void handle(const struct fae_http_request *request, struct fae_http_answer *answer, void *arg)
{
    (void)arg;
    server.n_requests++;
    if (strcmp(request->path, "/later") == 0) {
        answer->later = true;
        server.later[server.n_later++] = request->later;
        return;
    }
    fae_buf_printf(&answer->body, "%s %s %zu", request->method, request->path, request->body_len);
}

static void open_server(void)
{
    socklen_t len = sizeof server.addr;

    memset(&server, 0, sizeof server);
    assert_int_equal(fae_loop_init(&server.loop), FAE_OK);
    server.fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    server.addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(bind(server.fd, (struct sockaddr *)&server.addr, sizeof server.addr), 0);
    assert_int_equal(listen(server.fd, 256), 0);
    assert_int_equal(getsockname(server.fd, (struct sockaddr *)&server.addr, &len), 0);
    assert_int_equal(fae_http_open(&server.http, &server.loop, server.fd, handle, NULL), FAE_OK);
}

static void close_server(void)
{
    fae_http_close(&server.http);
    assert_null(server.http);
    fae_loop_fini(&server.loop);
    close(server.fd);
}

static void turn(unsigned n)
{
    while (n--)
        event_base_loop(server.loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
}

static int client(const char *text)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval tv = { .tv_sec = 5 };

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    assert_int_equal(connect(fd, (struct sockaddr *)&server.addr, sizeof server.addr), 0);
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
    return fd;
}

/* What came until the server closed; turns the loop meanwhile. */
static char *answer_of(int fd)
{
    static char text[4096];
    size_t have = 0;
    uint64_t until_ms = fae_now_ms() + 5000;

    while (have < sizeof text - 1 && fae_now_ms() < until_ms) {
        ssize_t n = recv(fd, text + have, sizeof text - 1 - have, MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno == ECONNRESET))
            break;
        if (n > 0)
            have += (size_t)n;
        turn(1);
    }
    text[have] = '\0';
    return text;
}

static void expect_answer(int fd, const char *begin, const char *end)
{
    char *text = answer_of(fd);
    size_t len = strlen(text);

    close(fd);
    if (strncmp(text, begin, strlen(begin)) != 0 || len < strlen(end) || strcmp(text + len - strlen(end), end) != 0)
        fail_msg("%s", text);
}

#define GET(path) "GET " path " HTTP/1.1\r\nHost: localhost\r\n\r\n"

static void requests_are_answered_once(void **state)
{
    (void)state;
    open_server();
    expect_answer(client(GET("/a")), "HTTP/1.1 200 OK\r\n", "\r\n\r\nGET /a 0");
    expect_answer(client("POST /b HTTP/1.1\r\nHost: [::1]:7\r\nContent-Length: 3\r\n\r\nabc"), "HTTP/1.1 200 OK\r\n",
                  "\r\n\r\nPOST /b 3");
    expect_answer(client("HEAD /c HTTP/1.1\r\nHost: localhost\r\n\r\n"), "HTTP/1.1 200 OK\r\n", "\r\n\r\n");
    expect_answer(client(GET("/d") GET("/e")), "HTTP/1.1 200 OK\r\n", "\r\n\r\nGET /d 0");
    expect_answer(client("GET /f HTTP/1.0\r\n\r\n"), "HTTP/1.0 200 OK\r\n", "\r\n\r\nGET /f 0");
    assert_int_equal(server.n_requests, 5);
    close_server();
}

static void what_is_not_for_us_is_refused_before_the_handler(void **state)
{
    static const char *const refused[] = {
        "GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET http://evil.com/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.com\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n",
    };
    static const char *const bad[] = {
        "GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.com\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\n: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length : 0\r\n\r\n",
        "GET / HTTP/0.1\r\nHost: localhost\r\n\r\n",
        "GET / HTTP/1.-1\r\n\r\n",
        "GET / HTTP/-1.1\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: localhost\r\n\r\n",
        "GET /\r\n\r\n",
        "\r\n\r\n",
    };

    (void)state;
    open_server();
    for (unsigned i = 0; i < UNIT_N(refused); i++)
        expect_answer(client(refused[i]), "HTTP/1.1 403 ", "}\n");
    for (unsigned i = 0; i < UNIT_N(bad); i++) {
        int fd = client(bad[i]);
        const char *text = answer_of(fd);

        close(fd);
        if (strncmp(text, "HTTP/1.1 400 ", 13) != 0 && strncmp(text, "HTTP/1.0 400 ", 13) != 0)
            fail_msg("%s gave %s", bad[i], text);
    }
    assert_int_equal(server.n_requests, 0);
    close_server();
}

static void an_answer_may_come_later(void **state)
{
    struct fae_http_answer answer = { .status = 503, .type = "text/plain" };
    int fd;

    (void)state;
    open_server();
    fd = client(GET("/later"));
    while (server.n_later == 0)
        turn(1);
    fae_buf_printf(&answer.body, "at last");
    fae_http_reply(server.later[0], &answer);
    assert_null(answer.body.data);
    expect_answer(fd, "HTTP/1.1 503 ", "\r\n\r\nat last");
    close_server();
}

static void nobody_is_there_for_the_answer(void **state)
{
    struct fae_http_answer answer = { .status = 200, .type = "text/plain" };
    int fd;

    (void)state;
    open_server();
    fd = client(GET("/later"));
    while (server.n_later == 0)
        turn(1);
    close(fd); /* the client went away: found out when the answer is sent */
    fae_http_reply(server.later[0], &answer);
    turn(10);
    fd = client(GET("/later"));
    while (server.n_later == 1)
        turn(1);
    fae_http_close(&server.http); /* and now the server */
    turn(10);
    fae_http_reply(server.later[1], &answer);
    close(fd);
    fae_loop_fini(&server.loop);
    close(server.fd);
}

static void idle_connections_make_room(void **state)
{
    enum { N = 200 };
    int fds[N];
    unsigned n_open = 0;
    char byte;

    (void)state;
    open_server();
    for (unsigned i = 0; i < N; i++) {
        fds[i] = client("");
        turn(2);
    }
    expect_answer(client(GET("/a")), "HTTP/1.1 200 OK\r\n", "GET /a 0");
    turn(10);
    for (unsigned i = 0; i < N; i++) {
        ssize_t n = recv(fds[i], &byte, 1, MSG_DONTWAIT);

        n_open += n < 0 && errno == EAGAIN;
        assert_true(n != 0 || i < N - FAE_HTTP_CONNS_MAX + 1); /* the oldest went */
        close(fds[i]);
    }
    assert_in_range(n_open, FAE_HTTP_CONNS_MAX - 2, FAE_HTTP_CONNS_MAX);
    close_server();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hosts_of_ours_are_taken),
        cmocka_unit_test(pages_of_ours_are_taken),
        cmocka_unit_test(requests_are_answered_once),
        cmocka_unit_test(what_is_not_for_us_is_refused_before_the_handler),
        cmocka_unit_test(an_answer_may_come_later),
        cmocka_unit_test(nobody_is_there_for_the_answer),
        cmocka_unit_test(idle_connections_make_room),
    };

    signal(SIGPIPE, SIG_IGN);
    fae_clock_init();
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
