/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The blocking client against a peer that says whatever a table says: its bytes lie in the socket before the client
 * looks, so nothing here waits but the test of waiting.
 */
#include "unit.h"

#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "cmd/client.h"

#define BYTES(text) text, sizeof(text) - 1
#define SOON (fae_now_ms() + 5000)

struct fixture {
    struct fae_client client;
    int peer;
    struct fae_buf request;
    struct fae_answer answer;
};

/* A client whose connection ends in f->peer. */
static void begin(struct fixture *f)
{
    char why[200];
    int ends[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    memset(f, 0, sizeof *f);
    fae_client_init(&f->client);
    f->client.fd = ends[0];
    f->peer = ends[1];
    assert_int_equal(fae_client_request(&f->request, "a.b", NULL, 0, why, sizeof why), FAE_OK);
}

static void end(struct fixture *f)
{
    fae_client_fini(&f->client);
    fae_buf_fini(&f->request);
    if (f->peer >= 0)
        close(f->peer);
}

static void say(struct fixture *f, const char *bytes, size_t len)
{
    assert_int_equal(write(f->peer, bytes, len), len);
}

static void hang_up(struct fixture *f)
{
    close(f->peer);
    f->peer = -1;
}

static enum fae_err call(struct fixture *f)
{
    return fae_client_call(&f->client, &f->request, SOON, &f->answer);
}

static void test_request(void **state)
{
    static char one[] = "[1]", text[] = "\"x\"", bare[] = "x";
    char *good[] = { one, text }, *bad[] = { text, bare };
    struct fae_buf out = { 0 };
    char why[200];

    (void)state;
    assert_int_equal(fae_client_request(&out, "a.b", good, 2, why, sizeof why), FAE_OK);
    assert_int_equal(out.len, 16);
    assert_memory_equal(out.data,
                        "\x94\x00\xce\0\0\0\0\xa3"
                        "a.b\x92\x91\x01\xa1x",
                        16);
    assert_int_equal(fae_client_request(&out, "a.b", bad, 2, why, sizeof why), FAE_BAD_ARGS);
    assert_non_null(strstr(why, "parameter 2"));
    assert_non_null(strstr(why, "quotes"));
    fae_buf_fini(&out);
}

static void test_answers(void **state)
{
    struct fixture f;
    char sent[64];

    (void)state;
    begin(&f);
    /* An answer to nobody and a notification come before the first answer, half a notification behind it. */
    say(&f, BYTES("\x94\x01\x63\xc0\xc0\x93\x02\xa1n\x90\x94\x01\xce\0\0\0\x01\xc0\xa2ok\x93\x02"));
    assert_int_equal(call(&f), FAE_OK);
    assert_null(f.answer.error);
    assert_memory_equal(f.answer.result, "\xa2ok", 3);
    say(&f, BYTES("\xa1n\x90\x94\x01\x02\xa3"
                  "bad\xc0"));
    assert_int_equal(call(&f), FAE_OK);
    assert_non_null(f.answer.error);
    assert_memory_equal(f.answer.error,
                        "\xa3"
                        "bad",
                        4);
    assert_int_equal(read(f.peer, sent, sizeof sent), 24);
    assert_memory_equal(sent,
                        "\x94\x00\xce\0\0\0\x01\xa3"
                        "a.b\x90\x94\x00\xce\0\0\0\x02\xa3"
                        "a.b\x90",
                        24);
    end(&f);
}

static void test_cut_anywhere(void **state)
{
    static const char bytes[] = "\x93\x02\xa1n\x90\x94\x01\x01\xc0\xc4\x03"
                                "abc";
    const size_t len = sizeof bytes - 1;

    (void)state;
    for (size_t cut = 0; cut < len; cut++) {
        struct fixture f;

        begin(&f);
        say(&f, bytes, cut);
        assert_int_equal(fae_client_call(&f.client, &f.request, fae_now_ms(), &f.answer), FAE_TIMEOUT);
        assert_int_equal(f.client.fd, -1);
        end(&f);

        begin(&f);
        say(&f, bytes, cut);
        hang_up(&f);
        assert_int_equal(call(&f), FAE_WORKER_LOST);
        end(&f);
    }
}

/* The first half lies there, a child sends the rest: what a call sees of a slow or large answer. */
static int send_rest(void *arg)
{
    struct fixture *f = arg;
    static uint8_t zeros[65536];

    unit_sleep_ms(20);
    for (unsigned i = 0; i < 64; i++)
        if (write(f->peer, zeros, sizeof zeros) != sizeof zeros)
            return 1;
    return 0;
}

static void test_large_answer(void **state)
{
    struct fae_mp_token t;
    struct fixture f;
    pid_t pid;

    (void)state;
    begin(&f);
    say(&f, BYTES("\x94\x01\x01\xc0\xc6\x00\x40\x00\x00")); /* a bin of 4 MiB */
    pid = unit_fork(send_rest, &f);
    assert_int_equal(call(&f), FAE_OK);
    fae_mp_read(f.answer.result, &t);
    assert_int_equal(t.type, FAE_MP_BIN);
    assert_int_equal(t.len, 4 * FAE_MIB);
    assert_int_equal(unit_wait(pid), 0);
    end(&f);
}

static void test_not_msgpack_rpc(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
        enum fae_err err;
    } rows[] = {
        { BYTES("HTTP/1.1 400 Bad Request\r\n"), FAE_BAD_MESSAGE },
        { BYTES("\xc1"), FAE_BAD_MESSAGE },
        { BYTES("\x90"), FAE_BAD_MESSAGE },
        { BYTES("\x94\xc0\x01\xc0\xc0"), FAE_BAD_MESSAGE },
        { BYTES("\x94\x00\x01\xa1x\x90"), FAE_BAD_MESSAGE },
        { BYTES("\x93\x01\x01\xc0"), FAE_BAD_MESSAGE },
        { BYTES("\x94\x01\xa1x\xc0\xc0"), FAE_BAD_MESSAGE },
        { BYTES("\x94\x01\x01\xc0\xc6\xff\xff\xff\xff"), FAE_LIMIT },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fixture f;

        begin(&f);
        say(&f, rows[i].bytes, rows[i].len);
        assert_int_equal(call(&f), rows[i].err);
        assert_true(f.client.why[0] != '\0');
        assert_int_equal(f.client.fd, -1);
        end(&f);
    }
}

static void test_farewell(void **state)
{
    struct fae_buf text = { 0 };
    struct fixture f;

    (void)state;
    begin(&f);
    say(&f, BYTES("\x93\x02\xa9sys.error\x91\xacLIMIT: large"));
    hang_up(&f);
    assert_int_equal(call(&f), FAE_OK);
    assert_non_null(f.answer.error);
    fae_client_error_text(&text, f.answer.error);
    assert_string_equal(fae_buf_text(&text), "LIMIT: large");
    fae_buf_fini(&text);
    end(&f);
}

/* The peer takes nothing of a request that no socket holds, says why and goes. */
static void test_farewell_while_sending(void **state)
{
    struct fixture f;

    (void)state;
    begin(&f);
    memset(fae_buf_room(&f.request, 16 * FAE_MIB), 0, 16 * FAE_MIB);
    f.request.len += 16 * FAE_MIB;
    say(&f, BYTES("\x93\x02\xa9sys.error\x91\xa5LIMIT"));
    hang_up(&f);
    assert_int_equal(call(&f), FAE_OK);
    assert_non_null(f.answer.error);
    assert_memory_equal(f.answer.error, "\xa5LIMIT", 6);
    end(&f);
}

static void test_error_text(void **state)
{
    static const struct {
        const char *bytes;
        const char *text;
    } rows[] = {
        { "\xa4X: y", "X: y" },
        { "\x92\xa1X\xa1y", "X: y" },
        { "\x83\xa4hint\x01\xa7message\xa1y\xa4"
          "code\xa1X",
          "X: y" },
        { "\x92\x01\xa1y", "[1,\"y\"]" },
        { "\x81\xa4"
          "code\xa1X",
          "{\"code\":\"X\"}" },
        { "\x07", "7" },
        { "\xa5\x1b[2J\n", "?[2J\n" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_buf text = { 0 };

        fae_client_error_text(&text, (const uint8_t *)rows[i].bytes);
        assert_string_equal(fae_buf_text(&text), rows[i].text);
        fae_buf_fini(&text);
    }
}

static void test_open(void **state)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    struct fae_client client;
    struct fae_addr addr;
    char dir[100], why[200];
    int fd;

    (void)state;
    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/x.sock", unit_dir(dir, sizeof dir));
    assert_int_equal(fae_addr_parse(sa.sun_path, &addr, why, sizeof why), FAE_OK);
    fae_client_init(&client);
    assert_int_equal(fae_client_open(&client, &addr, SOON), FAE_UNAVAILABLE);
    assert_non_null(strstr(client.why, "/x.sock: No such file"));

    fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(fae_client_open(&client, &addr, SOON), FAE_UNAVAILABLE);
    assert_non_null(strstr(client.why, "refused"));
    assert_int_equal(client.fd, -1);

    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(fae_client_open(&client, &addr, SOON), FAE_OK);
    fae_client_fini(&client);
    close(fd);
    unit_dir_remove(dir);
}

static void test_addr(void **state)
{
    struct fae_addr addr;
    char text[FAE_ADDR_TEXT], why[200];

    (void)state;
    unsetenv("FAE_ADDR");
    assert_int_equal(fae_client_addr(NULL, &addr, why, sizeof why), FAE_OK);
    fae_addr_format(&addr, text);
    assert_string_equal(text, "tcp://127.0.0.1:9001");
    setenv("FAE_ADDR", "unix:/x", 1);
    assert_int_equal(fae_client_addr(NULL, &addr, why, sizeof why), FAE_OK);
    assert_true(fae_addr_is_unix(&addr));
    assert_int_equal(fae_client_addr("127.0.0.1:7", &addr, why, sizeof why), FAE_OK);
    assert_int_equal(fae_addr_port(&addr), 7);
    unsetenv("FAE_ADDR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request),
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_cut_anywhere),
        cmocka_unit_test(test_large_answer),
        cmocka_unit_test(test_not_msgpack_rpc),
        cmocka_unit_test(test_farewell),
        cmocka_unit_test(test_farewell_while_sending),
        cmocka_unit_test(test_error_text),
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_addr),
    };

    signal(SIGPIPE, SIG_IGN);
    fae_clock_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
