/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/tls: contexts, of files that are right, wrong, and renewed.
 */
#include "unit_tls.h"

#include <openssl/err.h>
#include <sys/stat.h>

static void assert_refused(const char *cert, const char *key, const char *client_ca, const char *fmt, const char *file)
{
    struct fae_tls_opts o = { .cert = path_of(cert),
                              .key = path_of(key),
                              .client_ca = *client_ca ? path_of(client_ca) : "" };
    struct fae_tls_ctx *ctx = NULL;
    char text[700];

    assert_int_equal(fae_tls_ctx_new(&ctx, &o, why, sizeof why), FAE_BAD_CONFIG);
    assert_null(ctx);
    snprintf(text, sizeof text, fmt, path_of(file));
    assert_string_equal(why, text);
    assert_int_equal(ERR_peek_error(), 0);
}

static void test_bad_files(void **state)
{
    struct identity old = new_identity_of("old", 3, &ca, -2 * DAYS, -DAYS);
    struct identity early = new_identity_of("early", 5, &ca, DAYS, 2 * DAYS);
    struct identity rsa = { .key = EVP_RSA_gen(2048) };
    char text[700], day[32];
    time_t then = time(NULL) - DAYS;
    struct tm tm;

    (void)state;
    write_pair("old", &old);
    write_pair("early", &early);
    write_key("locked.key", &old, "secret");
    write_key("rsa.key", &rsa, NULL);
    write_text("empty.pem", "");
    write_text("text.pem", "hello\n");
    mkdir(path_of("folder"), 0700);

    assert_refused("none.pem", "node.key", "", "%s: No such file or directory", "none.pem");
    assert_refused("node.pem", "none.key", "", "%s: No such file or directory", "none.key");
    assert_refused("node.pem", "node.key", "none.pem", "%s: No such file or directory", "none.pem");
    assert_refused("folder", "node.key", "", "%s: is not a file", "folder");
    assert_refused("empty.pem", "node.key", "", "%s: holds no certificate in PEM", "empty.pem");
    assert_refused("text.pem", "node.key", "", "%s: holds no certificate in PEM", "text.pem");
    assert_refused("node.key", "node.key", "", "%s: holds no certificate in PEM", "node.key");
    assert_refused("node.pem", "node.pem", "", "%s: holds no private key in PEM", "node.pem");
    assert_refused("node.pem", "text.pem", "", "%s: holds no private key in PEM", "text.pem");
    assert_refused("node.pem", "locked.key", "", "%s: is encrypted; nobody is there to type its password",
                   "locked.key");
    assert_refused("node.pem", "node.key", "text.pem", "%s: holds no certificate in PEM", "text.pem");
    snprintf(text, sizeof text, "%%s: is not the key of the certificate in %s", path_of("node.pem"));
    assert_refused("node.pem", "shop.key", "", text, "shop.key");
    assert_refused("node.pem", "rsa.key", "", text, "rsa.key");

    gmtime_r(&then, &tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    snprintf(text, sizeof text, "%%s: the certificate expired on %s", day);
    assert_refused("old.pem", "old.key", "", text, "old.pem");
    then = time(NULL) + DAYS;
    gmtime_r(&then, &tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    snprintf(text, sizeof text, "%%s: the certificate is not valid before %s", day);
    assert_refused("early.pem", "early.key", "", text, "early.pem");
    rmdir(path_of("folder"));
    free_identity(&old);
    free_identity(&early);
    EVP_PKEY_free(rsa.key);
}

static void test_describe(void **state)
{
    struct identity brief = new_identity_of("brief", 5, &ca, -HOURS, 10 * DAYS + HOURS);
    struct fae_tls_ctx *ctx = server_ctx(NULL, false);
    char text[400], expected[400], day[32];
    time_t end = time(NULL) + 100 * DAYS;
    struct tm tm;

    (void)state;
    gmtime_r(&end, &tm);
    strftime(day, sizeof day, "%Y-%m-%d", &tm);
    fae_tls_ctx_describe(ctx, text, sizeof text);
    snprintf(expected, sizeof expected, "CN=node, valid until %s", day);
    /* The certificate was made a moment before midnight, at worst. */
    if (strcmp(text, expected) != 0)
        assert_in_range(fae_tls_ctx_days_left(ctx), 99, 99);
    assert_true(strncmp(text, "CN=node, valid until ", 21) == 0);
    assert_in_range(fae_tls_ctx_days_left(ctx), 99, 100);
    fae_tls_ctx_free(&ctx);

    write_pair("brief", &brief);
    free_identity(&brief);
    assert_int_equal(
        fae_tls_ctx_new(
            &ctx, &(struct fae_tls_opts){ .cert = path_of("brief.pem"), .key = path_of("brief.key"), .client_ca = "" },
            why, sizeof why),
        FAE_OK);
    assert_int_equal(fae_tls_ctx_days_left(ctx), 10);
    fae_tls_ctx_free(&ctx);
}

/* New connections see the new certificate, old ones go on; a file that makes no sense changes nothing. */
static void test_renewal(void **state)
{
    struct identity first = new_identity("first", &ca), second = new_identity("second", &ca);
    struct fae_tls_opts o = { .cert = path_of("renew.pem"), .key = path_of("renew.key"), .client_ca = "" };
    char text[400];
    bool changed;
    struct rig r;

    (void)state;
    write_pair("renew", &first);
    rig_open(&r, NULL, false, NULL, "127.0.0.1");
    fae_tls_free(&r.server);
    fae_tls_ctx_free(&r.server_ctx);
    assert_int_equal(fae_tls_ctx_new(&r.server_ctx, &o, why, sizeof why), FAE_OK);
    r.server = fae_tls_accept(r.server_ctx, r.server_fd);
    shake_hands(&r);

    assert_int_equal(fae_tls_ctx_renew(r.server_ctx, &changed, why, sizeof why), FAE_OK);
    assert_false(changed);
    unlink(o.key);
    write_key("renew.key", &second, NULL); /* half of a renewal */
    assert_int_equal(fae_tls_ctx_renew(r.server_ctx, &changed, why, sizeof why), FAE_BAD_CONFIG);
    assert_false(changed);
    assert_non_null(strstr(why, "is not the key of the certificate"));
    assert_int_equal(fae_tls_ctx_renew(r.server_ctx, &changed, why, sizeof why), FAE_OK); /* told once */
    assert_false(changed);
    fae_tls_ctx_describe(r.server_ctx, text, sizeof text);
    assert_non_null(strstr(text, "CN=first"));
    unlink(o.cert);
    write_cert("renew.pem", &second);
    assert_int_equal(fae_tls_ctx_renew(r.server_ctx, &changed, why, sizeof why), FAE_OK);
    assert_true(changed);
    fae_tls_ctx_describe(r.server_ctx, text, sizeof text);
    assert_non_null(strstr(text, "CN=second"));

    carry(&r, r.client, r.server, (const uint8_t *)"still here", 10, 10);
    rig_close(&r);
    free_identity(&first);
    free_identity(&second);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_renewal),
    };

    return cmocka_run_group_tests_name("net/tls ctx", tests, set_up_group, tear_down_group);
}
