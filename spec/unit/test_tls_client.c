/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/tls: what OpenSSL's own client does that ours never would: old versions, renegotiation, tickets.
 */
#include "unit_tls.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

static SSL *raw_client(struct rig *r, int min, int max, const char *suites)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    SSL *ssl;

    SSL_CTX_set_security_level(ctx, 0);
    SSL_CTX_set_min_proto_version(ctx, min);
    SSL_CTX_set_max_proto_version(ctx, max);
    if (suites)
        assert_int_equal(SSL_CTX_set_cipher_list(ctx, suites), 1);
    ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_fd(ssl, r->client_fd);
    SSL_set_connect_state(ssl);
    return ssl;
}

static const char *shake_with(struct rig *r, SSL *client)
{
    uint8_t byte;

    for (int i = 0; i < 100; i++) {
        ssize_t n;

        SSL_do_handshake(client);
        ERR_clear_error();
        pass_both(r);
        n = fae_tls_recv(r->server, &byte, 1);
        if (n >= 0 || errno != EAGAIN)
            return n == 0 ? "end" : fae_tls_why();
        pass_both(r);
        if (fae_tls_established(r->server) && SSL_is_init_finished(client))
            return NULL;
    }
    return "endless";
}

static void test_versions_and_suites(void **state)
{
    static const struct {
        int min, max;
        const char *suites, *why;
    } rows[] = {
        { TLS1_VERSION, TLS1_VERSION, NULL, "handshake: unsupported protocol" },
        { TLS1_1_VERSION, TLS1_1_VERSION, NULL, "handshake: unsupported protocol" },
        { TLS1_2_VERSION, TLS1_2_VERSION, NULL, NULL },
        { TLS1_3_VERSION, TLS1_3_VERSION, NULL, NULL },
        { TLS1_VERSION, TLS1_3_VERSION, NULL, NULL },
        { TLS1_2_VERSION, TLS1_2_VERSION, "AES128-GCM-SHA256", "handshake: no shared cipher" },
        { TLS1_2_VERSION, TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", "handshake: no shared cipher" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        const char *text;
        struct rig r;
        SSL *client;

        rig_open(&r, NULL, false, NULL, "127.0.0.1");
        client = raw_client(&r, rows[i].min, rows[i].max, rows[i].suites);
        text = shake_with(&r, client);
        if (rows[i].why) {
            assert_non_null(text);
            assert_string_equal(text, rows[i].why);
        } else {
            assert_null(text);
        }
        SSL_free(client);
        rig_close(&r);
    }
}

/* Asked for by the client inside a TLS 1.2 connection: refused by an alert, and the connection goes on. */
static void test_no_renegotiation(void **state)
{
    uint8_t got[100];
    struct rig r;
    SSL *client;

    (void)state;
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    client = raw_client(&r, TLS1_2_VERSION, TLS1_2_VERSION, NULL);
    assert_null(shake_with(&r, client));
    assert_int_equal(SSL_renegotiate(client), 1);
    for (int i = 0; i < 5; i++) {
        SSL_do_handshake(client);
        ERR_clear_error();
        pass_both(&r);
        assert_int_equal(fae_tls_recv(r.server, got, 100), -1);
        if (errno != EAGAIN)
            assert_int_equal(errno, EPROTO);
        pass_both(&r);
    }
    assert_int_equal(SSL_num_renegotiations(client) > 0 && SSL_is_init_finished(client), 0);
    SSL_free(client);
    rig_close(&r);
}

static SSL_SESSION *kept;

static int keep_session(SSL *ssl, SSL_SESSION *session)
{
    (void)ssl;
    SSL_SESSION_free(kept);
    kept = session;
    return 1;
}

static bool resumed(const char *client_ca, bool required)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    char buf[10];
    struct rig r;
    bool was;
    SSL *ssl;

    rig_open(&r, client_ca, required, NULL, "127.0.0.1");
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(ctx, keep_session);
    ssl = SSL_new(ctx);
    SSL_CTX_free(ctx);
    SSL_set_fd(ssl, r.client_fd);
    SSL_set_connect_state(ssl);
    if (kept)
        SSL_set_session(ssl, kept);
    shake_with(&r, ssl);
    SSL_read(ssl, buf, sizeof buf); /* takes the ticket */
    ERR_clear_error();
    was = SSL_session_reused(ssl) && fae_tls_established(r.server);
    SSL_shutdown(ssl);
    SSL_free(ssl);
    rig_close(&r);
    return was;
}

/* Each context here is another worker's, or another listener's. */
static void test_tickets(void **state)
{
    (void)state;
    kept = NULL;
    assert_false(resumed(NULL, false));
    assert_non_null(kept);
    assert_true(resumed(NULL, false));
    assert_true(resumed(NULL, false));
    assert_false(resumed("ca.pem", true)); /* nor did it get in: it has no certificate */
    assert_false(resumed("ca.pem", false));
    SSL_SESSION_free(kept);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions_and_suites),
        cmocka_unit_test(test_no_renegotiation),
        cmocka_unit_test(test_tickets),
    };

    return cmocka_run_group_tests_name("net/tls client", tests, set_up_group, tear_down_group);
}
