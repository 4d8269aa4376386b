/* SPDX-License-Identifier: BSD-2-Clause
 *
 * net/tls: both ends in one process. Between them lies a wire, two socket pairs, that passes on as few bytes as a test
 * wants; what OpenSSL's own client would never do is done with OpenSSL's own client.
 */
#include "unit.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "net/tls.h"

enum { HOURS = 3600, DAYS = 24 * HOURS };

static char dir[200], why[600];

/* ---- certificates ---- */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

static void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

static void add_name(X509_NAME *name, const char *text, int len)
{
    assert_int_equal(
        X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)text, len, -1, 0),
        1);
}

/* issuer NULL: a CA that signs itself. */
static struct identity new_identity_of(const char *name, int name_len, const struct identity *issuer, long from_s,
                                       long until_s)
{
    static long serial = 1;
    struct identity id = { .key = EVP_EC_gen("P-256"), .cert = X509_new() };
    X509 *issuer_cert = issuer ? issuer->cert : id.cert;

    X509_set_version(id.cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(id.cert), serial++);
    X509_gmtime_adj(X509_getm_notBefore(id.cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(id.cert), until_s);
    X509_set_pubkey(id.cert, id.key);
    if (name)
        add_name(X509_get_subject_name(id.cert), name, name_len);
    X509_set_issuer_name(id.cert, X509_get_subject_name(issuer_cert));
    add_extension(id.cert, issuer_cert, NID_basic_constraints, issuer ? "CA:FALSE" : "critical,CA:TRUE");
    if (issuer)
        add_extension(id.cert, issuer_cert, NID_subject_alt_name, "IP:127.0.0.1,DNS:node.example");
    assert_true(X509_sign(id.cert, issuer ? issuer->key : id.key, EVP_sha256()) > 0);
    return id;
}

static struct identity new_identity(const char *name, const struct identity *issuer)
{
    return new_identity_of(name, (int)strlen(name), issuer, -HOURS, 100 * DAYS);
}

static void free_identity(struct identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
}

static const char *path_of(const char *name)
{
    static char paths[8][300];
    static unsigned next;
    char *path = paths[next++ % UNIT_N(paths)];

    snprintf(path, sizeof *paths, "%s/%s", dir, name);
    return path;
}

static void write_cert(const char *name, const struct identity *id)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, id->cert), 1);
    fclose(f);
}

static void write_key(const char *name, const struct identity *id, const char *password)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_int_equal(
        PEM_write_PrivateKey(f, id->key, password ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL, (void *)password), 1);
    fclose(f);
}

static void write_text(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void write_pair(const char *name, const struct identity *id)
{
    char file[100];

    snprintf(file, sizeof file, "%s.pem", name);
    write_cert(file, id);
    snprintf(file, sizeof file, "%s.key", name);
    write_key(file, id, NULL);
}

static struct identity ca, other_ca;

static int set_up_group(void **state)
{
    struct identity node, shop, stranger;

    (void)state;
    unit_dir(dir, sizeof dir);
    ca = new_identity("Our CA", NULL);
    other_ca = new_identity("Their CA", NULL);
    node = new_identity("node", &ca);
    shop = new_identity("shop", &ca);
    stranger = new_identity("shop", &other_ca);
    write_cert("ca.pem", &ca);
    write_cert("other.pem", &other_ca);
    write_pair("node", &node);
    write_pair("shop", &shop);
    write_pair("stranger", &stranger);
    free_identity(&node);
    free_identity(&shop);
    free_identity(&stranger);
    return 0;
}

static int tear_down_group(void **state)
{
    (void)state;
    free_identity(&ca);
    free_identity(&other_ca);
    unit_dir_remove(dir);
    return 0;
}

/* ---- two ends and the wire between them ---- */

struct rig {
    struct fae_tls_ctx *server_ctx, *client_ctx;
    struct fae_tls *server, *client;
    int server_fd, client_fd;
    int wire[2];    /* [0] goes to the client, [1] to the server */
    size_t portion; /* bytes that the wire passes at once */
};

static struct fae_tls_ctx *server_ctx(const char *client_ca, bool required)
{
    struct fae_tls_opts o = { .cert = path_of("node.pem"),
                              .key = path_of("node.key"),
                              .client_ca = client_ca ? path_of(client_ca) : "",
                              .client_cert_required = required };
    struct fae_tls_ctx *ctx;

    if (fae_tls_ctx_new(&ctx, &o, why, sizeof why))
        fail_msg("%s", why);
    return ctx;
}

static struct fae_tls_ctx *client_ctx(const char *as)
{
    struct fae_tls_client_opts o = { .ca = path_of("ca.pem") };
    struct fae_tls_ctx *ctx;
    char cert[100], key[100];

    snprintf(cert, sizeof cert, "%s.pem", as ? as : "");
    snprintf(key, sizeof key, "%s.key", as ? as : "");
    if (as) {
        o.cert = path_of(cert);
        o.key = path_of(key);
    }
    if (fae_tls_ctx_new_client(&ctx, &o, why, sizeof why))
        fail_msg("%s", why);
    return ctx;
}

static void connect_wire(struct rig *r)
{
    int a[2], b[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, b), 0);
    r->client_fd = a[0];
    r->wire[0] = a[1];
    r->wire[1] = b[1];
    r->server_fd = b[0];
    r->portion = SIZE_MAX;
}

/* client_ca, required: what the server asks for; as: the client's certificate, or NULL. */
static void rig_open(struct rig *r, const char *client_ca, bool required, const char *as, const char *host)
{
    *r = (struct rig){ .server_ctx = server_ctx(client_ca, required), .client_ctx = client_ctx(as) };
    connect_wire(r);
    r->server = fae_tls_accept(r->server_ctx, r->server_fd);
    r->client = fae_tls_connect(r->client_ctx, r->client_fd, host);
    assert_non_null(r->server);
    assert_non_null(r->client);
}

static void rig_close(struct rig *r)
{
    fae_tls_free(&r->server);
    fae_tls_free(&r->client);
    fae_tls_ctx_free(&r->server_ctx);
    fae_tls_ctx_free(&r->client_ctx);
    close(r->server_fd);
    close(r->client_fd);
    close(r->wire[0]);
    close(r->wire[1]);
}

static size_t pass(struct rig *r, int from, int to)
{
    uint8_t bytes[4096];
    size_t most = r->portion < sizeof bytes ? r->portion : sizeof bytes;
    ssize_t n = recv(from, bytes, most, MSG_PEEK), sent;

    if (n == 0)
        shutdown(to, SHUT_WR);
    if (n <= 0)
        return 0;
    sent = send(to, bytes, (size_t)n, MSG_NOSIGNAL);
    if (sent <= 0)
        return 0;
    return (size_t)recv(from, bytes, (size_t)sent, 0);
}

static size_t pass_both(struct rig *r)
{
    return pass(r, r->wire[0], r->wire[1]) + pass(r, r->wire[1], r->wire[0]);
}

static void assert_again(ssize_t n)
{
    if (n != -1 || errno != EAGAIN)
        fail_msg("%zd, %s: %s", n, strerror(errno), fae_tls_why());
}

/* Both ends do what they can until both are through with the handshake. */
static void shake_hands(struct rig *r)
{
    uint8_t byte;

    for (int i = 0; i < 100000 && !(fae_tls_established(r->server) && fae_tls_established(r->client)); i++) {
        assert_again(fae_tls_recv(r->client, &byte, 1));
        assert_again(fae_tls_recv(r->server, &byte, 1));
        pass_both(r);
    }
    assert_true(fae_tls_established(r->server));
    assert_true(fae_tls_established(r->client));
}

static uint8_t *pattern(size_t size)
{
    uint8_t *bytes = malloc(size);
    uint64_t state = 88172645463325252u;

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)unit_random(&state);
    return bytes;
}

/* `from` sends what it can at a time, `to` reads with buffers of `chunk`; the pair's other side is quiet. */
static void carry(struct rig *r, struct fae_tls *from, struct fae_tls *to, const uint8_t *bytes, size_t len,
                  size_t chunk)
{
    uint8_t *got = malloc(len + chunk), *moved = malloc(len);
    size_t sent = 0, n_got = 0;
    bool waited = false;

    for (int i = 0; i < 10000000 && n_got < len; i++) {
        ssize_t n;

        memcpy(moved, bytes, len); /* never the same address twice in a row */
        n = sent < len ? fae_tls_send(from, i % 2 ? moved + sent : bytes + sent, len - sent) : 0;
        if (n < 0)
            assert_again(n);
        waited |= n < 0 && fae_tls_wants_write(from);
        sent += n > 0 ? (size_t)n : 0;
        pass_both(r);
        do {
            n = fae_tls_recv(to, got + n_got, chunk);
            if (n < 0)
                assert_again(n);
            assert_int_not_equal(n, 0);
            n_got += n > 0 ? (size_t)n : 0;
        } while (fae_tls_pending(to) && n_got < len);
    }
    assert_int_equal(n_got, len);
    assert_memory_equal(got, bytes, len);
    assert_true(waited || len < 500000); /* larger than any socket buffer here: the sender had to wait */
    free(got);
    free(moved);
}

/* ---- connections ---- */

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

/* ---- what another client might try ---- */

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

/* ---- contexts ---- */

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
        cmocka_unit_test(test_versions_and_suites),
        cmocka_unit_test(test_no_renegotiation),
        cmocka_unit_test(test_tickets),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_describe),
        cmocka_unit_test(test_renewal),
    };

    return cmocka_run_group_tests_name("net/tls", tests, set_up_group, tear_down_group);
}
