/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/tls: connections, what they carry and how they end, and whom either end believes.
 */
#include "unit_tls.h"

static void test_whole(void **state)
{
    static const size_t chunks[] = { 1, 7, 16384, 65536 };
    uint8_t *bytes = pattern(70000);
    struct rig r;

    (void)state;
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    for (unsigned i = 0; i < UNIT_N(chunks); i++) {
        carry(&r, r.client, r.server, bytes, 70000, chunks[i]);
        carry(&r, r.server, r.client, bytes, 70000, chunks[i]);
    }
    free(bytes);
    rig_close(&r);
}

static void test_byte_by_byte(void **state)
{
    uint8_t *bytes = pattern(3000);
    struct rig r;

    (void)state;
    rig_open(&r, "ca.pem", true, "shop", "127.0.0.1");
    r.portion = 1;
    shake_hands(&r);
    carry(&r, r.client, r.server, bytes, 3000, 100);
    carry(&r, r.server, r.client, bytes, 3000, 100);
    free(bytes);
    rig_close(&r);
}

/* Four megabytes each way: every socket between is full several times over. */
static void test_big(void **state)
{
    const size_t size = 4 * 1024 * 1024;
    uint8_t *bytes = pattern(size);
    struct rig r;

    (void)state;
    rig_open(&r, NULL, false, NULL, "node.example");
    shake_hands(&r);
    carry(&r, r.client, r.server, bytes, size / 16, 65536);
    carry(&r, r.server, r.client, bytes, size / 16, 1000);
    free(bytes);
    rig_close(&r);
}

/* Many small writes come as one read, whatever the records were. */
static void test_records_are_read_together(void **state)
{
    uint8_t got[1000];
    struct rig r;

    (void)state;
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    for (int i = 0; i < 10; i++)
        assert_int_equal(fae_tls_send(r.client, "0123456789", 10), 10);
    pass_both(&r);
    pass_both(&r);
    assert_int_equal(fae_tls_recv(r.server, got, sizeof got), 100);
    assert_false(fae_tls_pending(r.server));
    assert_again(fae_tls_recv(r.server, got, sizeof got));
    rig_close(&r);
}

/* What does not fit is told by pending, since the socket is empty by then. */
static void test_pending(void **state)
{
    uint8_t got[100];
    struct rig r;

    (void)state;
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    assert_int_equal(fae_tls_send(r.client, "0123456789", 10), 10);
    pass_both(&r);
    assert_int_equal(fae_tls_recv(r.server, got, 4), 4);
    assert_true(fae_tls_pending(r.server));
    assert_int_equal(recv(r.server_fd, got, 1, MSG_PEEK), -1);
    assert_int_equal(fae_tls_recv(r.server, got, 100), 6);
    assert_memory_equal(got, "456789", 6);
    assert_false(fae_tls_pending(r.server));

    /* So is the end, when it came with the last bytes. */
    assert_int_equal(fae_tls_send(r.client, "ab", 2), 2);
    fae_tls_finish(r.client);
    pass_both(&r);
    assert_int_equal(fae_tls_recv(r.server, got, 100), 2);
    assert_true(fae_tls_pending(r.server));
    assert_int_equal(fae_tls_recv(r.server, got, 100), 0);
    assert_false(fae_tls_pending(r.server));
    assert_int_equal(fae_tls_recv(r.server, got, 100), 0);
    rig_close(&r);
}

/* A side that will send no more still reads. */
static void test_half_close(void **state)
{
    uint8_t got[10];
    struct rig r;

    (void)state;
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    fae_tls_finish(r.client);
    pass_both(&r);
    assert_int_equal(fae_tls_recv(r.server, got, 10), 0);
    assert_int_equal(fae_tls_send(r.server, "late", 4), 4);
    pass_both(&r);
    pass_both(&r);
    assert_int_equal(fae_tls_recv(r.client, got, 10), 4);
    assert_int_equal(fae_tls_send(r.client, "x", 1), -1);
    rig_close(&r);
}

static void test_close_in_the_middle(void **state)
{
    uint8_t got[10];
    struct rig r;

    (void)state;
    /* Of a handshake, by each side at each of its steps. */
    for (int step = 0; step < 6; step++) {
        rig_open(&r, NULL, false, NULL, "127.0.0.1");
        for (int i = 0; i < step; i++) {
            struct fae_tls *turn = i % 2 ? r.server : r.client;

            assert_again(fae_tls_recv(turn, got, 1));
            pass_both(&r);
        }
        shutdown(r.wire[1], SHUT_WR);
        for (int i = 0; i < 3 && fae_tls_recv(r.server, got, 1) != 0; i++)
            assert_true(i < 2);
        fae_tls_free(&r.client);
        rig_close(&r);
    }
    /* Of a record: an end, and the bytes of the record are not believed. */
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    assert_int_equal(fae_tls_send(r.client, "0123456789", 10), 10);
    r.portion = 12;
    pass(&r, r.wire[0], r.wire[1]);
    shutdown(r.wire[1], SHUT_WR);
    assert_int_equal(fae_tls_recv(r.server, got, 10), 0);
    rig_close(&r);
    /* A reset of the socket ends no process. */
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    close(r.wire[1]);
    r.wire[1] = dup(STDERR_FILENO);
    assert_int_equal(fae_tls_send(r.server, "lost", 4), -1);
    assert_int_equal(errno, EPIPE);
    rig_close(&r);
}

static void test_bytes_that_are_not_tls(void **state)
{
    static const char *const lines[] = { "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "\x93\x02\xa8sys.ping\x90",
                                         "\x16\x03\x01\xff\xff and so on, and so on, and so on" };
    uint8_t got[10];

    (void)state;
    for (unsigned i = 0; i < UNIT_N(lines); i++) {
        struct rig r;

        rig_open(&r, NULL, false, NULL, "127.0.0.1");
        assert_true(send(r.wire[1], lines[i], strlen(lines[i]), 0) > 0);
        if (fae_tls_recv(r.server, got, 10) != -1 || errno != EPROTO)
            fail_msg("row %u: %s", i, strerror(errno));
        assert_non_null(strstr(fae_tls_why(), "handshake: "));
        /* It stays so, and says so at once. */
        assert_int_equal(fae_tls_recv(r.server, got, 10), -1);
        assert_int_equal(fae_tls_send(r.server, "x", 1), -1);
        assert_int_equal(errno, EPROTO);
        rig_close(&r);
    }
}

/* A changed bit inside a record is noticed. */
static void test_tampering(void **state)
{
    uint8_t bytes[100], got[100];
    struct rig r;
    ssize_t n;

    (void)state;
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    shake_hands(&r);
    assert_int_equal(fae_tls_send(r.client, "0123456789", 10), 10);
    n = recv(r.wire[0], bytes, sizeof bytes, 0);
    assert_true(n > 20);
    bytes[15] ^= 1;
    assert_int_equal(send(r.wire[1], bytes, (size_t)n, 0), n);
    assert_int_equal(fae_tls_recv(r.server, got, 100), -1);
    assert_int_equal(errno, EPROTO);
    rig_close(&r);
}

/* Goes on until one side fails; tells which sentence that side has. */
static const char *failure(struct rig *r, struct fae_tls *whose)
{
    uint8_t byte;

    for (int i = 0; i < 100; i++) {
        ssize_t n = fae_tls_recv(whose, &byte, 1);

        if (n >= 0 || errno != EAGAIN)
            return n == 0 ? "end" : fae_tls_why();
        fae_tls_recv(whose == r->client ? r->server : r->client, &byte, 1);
        pass_both(r);
    }
    return "none";
}

static void test_client_believes_only_the_right_server(void **state)
{
    static const struct {
        const char *ca, *host, *why;
        bool insecure;
    } rows[] = {
        { "ca.pem", "127.0.0.1", NULL, false },
        { "ca.pem", "node.example", NULL, false },
        { "ca.pem", "127.0.0.2", "handshake: IP address mismatch", false },
        { "ca.pem", "other.example", "handshake: hostname mismatch", false },
        { "other.pem", "127.0.0.1", "handshake: unable to get local issuer certificate", false },
        { "other.pem", "other.example", NULL, true },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_tls_client_opts o = { .ca = path_of(rows[i].ca), .insecure = rows[i].insecure };
        struct rig r;

        rig_open(&r, NULL, false, NULL, "127.0.0.1");
        fae_tls_free(&r.client);
        fae_tls_ctx_free(&r.client_ctx);
        assert_int_equal(fae_tls_ctx_new_client(&r.client_ctx, &o, why, sizeof why), FAE_OK);
        r.client = fae_tls_connect(r.client_ctx, r.client_fd, rows[i].host);
        if (rows[i].why)
            assert_string_equal(failure(&r, r.client), rows[i].why);
        else
            shake_hands(&r);
        rig_close(&r);
    }
}

static void test_client_certificates(void **state)
{
    static const struct {
        const char *ca;
        bool required;
        const char *as, *name, *why;
    } rows[] = {
        { NULL, false, NULL, NULL, NULL },
        { NULL, false, "shop", NULL, NULL }, /* not asked for, not shown */
        { "ca.pem", false, NULL, NULL, NULL },
        { "ca.pem", false, "shop", "shop", NULL },
        { "ca.pem", false, "stranger", NULL, "handshake: unable to get local issuer certificate" },
        { "ca.pem", true, NULL, NULL, "handshake: peer did not return a certificate" },
        { "ca.pem", true, "shop", "shop", NULL },
        { "ca.pem", true, "stranger", NULL, "handshake: unable to get local issuer certificate" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        char name[FAE_TLS_NAME_MAX + 1] = "untouched";
        struct rig r;

        rig_open(&r, rows[i].ca, rows[i].required, rows[i].as, "127.0.0.1");
        assert_false(fae_tls_client_name(r.server, name));
        if (rows[i].why) {
            assert_string_equal(failure(&r, r.server), rows[i].why);
            assert_false(fae_tls_client_name(r.server, name));
        } else {
            shake_hands(&r);
            assert_int_equal(fae_tls_client_name(r.server, name), rows[i].name != NULL);
        }
        assert_string_equal(name, rows[i].name ? rows[i].name : "untouched");
        rig_close(&r);
    }
}

/* A name that could be read in two ways is none. */
static void test_strange_names(void **state)
{
    static const struct {
        const char *name;
        int len;
    } rows[] = { { "shop\0.evil", 10 }, { "a\nb", 3 }, { NULL, 0 } };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct identity id = new_identity_of(rows[i].name, rows[i].len, &ca, -HOURS, DAYS);
        char name[FAE_TLS_NAME_MAX + 1];
        struct rig r;

        write_pair("strange", &id);
        free_identity(&id);
        rig_open(&r, "ca.pem", true, "strange", "127.0.0.1");
        shake_hands(&r);
        assert_false(fae_tls_client_name(r.server, name));
        rig_close(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_big),
        cmocka_unit_test(test_records_are_read_together),
        cmocka_unit_test(test_pending),
        cmocka_unit_test(test_half_close),
        cmocka_unit_test(test_close_in_the_middle),
        cmocka_unit_test(test_bytes_that_are_not_tls),
        cmocka_unit_test(test_tampering),
        cmocka_unit_test(test_client_believes_only_the_right_server),
        cmocka_unit_test(test_client_certificates),
        cmocka_unit_test(test_strange_names),
    };

    return cmocka_run_group_tests_name("net/tls", tests, set_up_group, tear_down_group);
}
