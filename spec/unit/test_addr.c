/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/addr: addresses in text and back, and connecting with a limit.
 */
#include "unit.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "net/addr.h"

#define PATH_107                                                                                                       \
    "/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaaaaa/aaaaaa"

static void addresses_read_and_write(void **state)
{
    static const struct {
        const char *text, *want;
        unsigned port;
        bool is_unix;
    } rows[] = {
        { "tcp://127.0.0.1:9001", "tcp://127.0.0.1:9001", 9001, false },
        { "127.0.0.1:0", "tcp://127.0.0.1:0", 0, false },
        { "localhost:65535", "tcp://127.0.0.1:65535", 65535, false },
        { "tcp://*:80", "tcp://0.0.0.0:80", 80, false },
        { "tcp://[::1]:9001", "tcp://[::1]:9001", 9001, false },
        { "tls://127.0.0.1:9002", "tls://127.0.0.1:9002", 9002, false },
        { "tls://[::1]:9002", "tls://[::1]:9002", 9002, false },
        { "[2001:db8::1]:1", "tcp://[2001:db8::1]:1", 1, false },
        { "unix:/run/fae.sock", "unix:/run/fae.sock", 0, true },
        { "unix:///run/fae.sock", "unix:/run/fae.sock", 0, true },
        { "unix:fae.sock", "unix:fae.sock", 0, true },
        { "/run/fae.sock", "unix:/run/fae.sock", 0, true },
        { "./fae.sock", "unix:./fae.sock", 0, true },
        { PATH_107, "unix:" PATH_107, 0, true },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        char text[FAE_ADDR_TEXT], why[200] = "untouched";
        struct fae_addr addr;

        assert_int_equal(fae_addr_parse(rows[i].text, &addr, why, sizeof why), FAE_OK);
        assert_string_equal(why, "untouched");
        assert_int_equal(fae_addr_port(&addr), rows[i].port);
        assert_int_equal(fae_addr_is_unix(&addr), rows[i].is_unix);
        assert_int_equal(addr.tls, strncmp(rows[i].text, "tls:", 4) == 0);
        fae_addr_format(&addr, text);
        assert_string_equal(text, rows[i].want);
    }
}

static void bad_addresses_are_told(void **state)
{
    static const struct {
        const char *text, *why;
    } rows[] = {
        { "", "\"\" has no port, as in tcp://127.0.0.1:9001" },
        { "9001", "\"9001\" has no port, as in tcp://127.0.0.1:9001" },
        { "tcp://127.0.0.1", "\"127.0.0.1\" has no port, as in tcp://127.0.0.1:9001" },
        { "tcp://127.0.0.1:", "\"127.0.0.1:\" has no port, as in tcp://127.0.0.1:9001" },
        { "tcp://127.0.0.1:65536", "\"65536\" is not a port (0 to 65535)" },
        { "tcp://127.0.0.1:-1", "\"-1\" is not a port (0 to 65535)" },
        { "tcp://127.0.0.1:+1", "\"+1\" is not a port (0 to 65535)" },
        { "tcp://127.0.0.1: 1", "\" 1\" is not a port (0 to 65535)" },
        { "tcp://127.0.0.1:80x", "\"80x\" is not a port (0 to 65535)" },
        { "tcp://127.0.0.1:99999999999999999999", "\"99999999999999999999\" is not a port (0 to 65535)" },
        { "tcp://example.com:80", "\"example.com\" is not an IP address (names are not looked up)" },
        { "tcp://256.0.0.1:80", "\"256.0.0.1\" is not an IP address (names are not looked up)" },
        { "tcp://[::g]:80", "\"::g\" is not an IP address (names are not looked up)" },
        { "http://127.0.0.1:80", "\"http://127.0.0.1:80\": an address starts with tcp://, tls:// or unix:" },
        { "unix:", "a unix address needs a path, as in unix:/run/fae.sock" },
        { "unix://", "a unix address needs a path, as in unix:/run/fae.sock" },
        { PATH_107 "b", "the path of a unix socket may have 107 bytes, this one has 108" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_addr addr = { .len = 99 };
        char why[200] = "";

        assert_int_equal(fae_addr_parse(rows[i].text, &addr, why, sizeof why), FAE_BAD_CONFIG);
        assert_string_equal(why, rows[i].why);
        assert_int_equal(addr.len, 99);
    }
}

static void a_nameless_peer_has_a_text(void **state)
{
    struct fae_addr addr = { .sa.ss_family = AF_UNIX, .len = sizeof(sa_family_t) };
    char text[FAE_ADDR_TEXT];

    (void)state;
    memset(addr.sa.__ss_padding, 'x', sizeof addr.sa.__ss_padding);
    fae_addr_format(&addr, text);
    assert_string_equal(text, "unix:");
    addr.sa.ss_family = AF_UNSPEC;
    fae_addr_format(&addr, text);
    assert_string_equal(text, "-");
}

static int listen_any(struct fae_addr *addr, int backlog)
{
    char why[200];
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_int_equal(fae_addr_parse("127.0.0.1:0", addr, why, sizeof why), FAE_OK);
    assert_int_equal(bind(fd, (struct sockaddr *)&addr->sa, addr->len), 0);
    assert_int_equal(listen(fd, backlog), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr->sa, &addr->len), 0);
    return fd;
}

static void connects(void **state)
{
    unsigned fds = unit_count_fds();
    struct fae_addr addr;
    int listener = listen_any(&addr, 10), fd = -1, peer;
    char text[4] = "";

    (void)state;
    assert_int_equal(fae_addr_connect(&addr, 5000, &fd), FAE_OK);
    assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    peer = accept(listener, NULL, NULL);
    assert_true(peer >= 0);
    assert_int_equal(write(fd, "abc", 3), 3);
    assert_int_equal(read(peer, text, 3), 3);
    assert_string_equal(text, "abc");
    close(peer);
    close(fd);
    close(listener);
    assert_int_equal(unit_count_fds(), fds);
}

static void a_refused_connect_says_why(void **state)
{
    unsigned fds = unit_count_fds();
    struct fae_addr addr;
    char why[200];
    int fd = -77;

    (void)state;
    close(listen_any(&addr, 10));
    assert_int_equal(fae_addr_connect(&addr, 5000, &fd), FAE_UNAVAILABLE);
    assert_int_equal(errno, ECONNREFUSED);
    assert_int_equal(fae_addr_parse("unix:no-such-folder/x.sock", &addr, why, sizeof why), FAE_OK);
    assert_int_equal(fae_addr_connect(&addr, 5000, &fd), FAE_UNAVAILABLE);
    assert_int_equal(errno, ENOENT);
    assert_int_equal(fd, -77);
    assert_int_equal(unit_count_fds(), fds);
}

/* A listener whose queue is full leaves a connect without an answer. */
static void a_connect_without_answer_times_out(void **state)
{
    struct fae_addr addr;
    int listener = listen_any(&addr, 0), fds[8], n = 0;
    enum fae_err err = FAE_OK;
    uint64_t before = 0;

    (void)state;
    while (n < 8 && !err) {
        before = fae_now_ms();
        err = fae_addr_connect(&addr, 100, &fds[n]);
        n += !err;
    }
    assert_int_equal(err, FAE_UNAVAILABLE);
    assert_int_equal(errno, ETIMEDOUT);
    assert_true(fae_now_ms() - before >= 100);
    assert_true(fae_now_ms() - before < 5000);
    while (n)
        close(fds[--n]);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_read_and_write),   cmocka_unit_test(bad_addresses_are_told),
        cmocka_unit_test(a_nameless_peer_has_a_text), cmocka_unit_test(connects),
        cmocka_unit_test(a_refused_connect_says_why), cmocka_unit_test(a_connect_without_answer_times_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
