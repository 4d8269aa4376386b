/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Certificates made as tests need them, and both ends of a TLS connection in one process. Between them lies a wire, two
 * socket pairs, that passes on as few bytes as a test wants.
 */
#ifndef FAE_UNIT_TLS_H
#define FAE_UNIT_TLS_H

#include "unit.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>

#include "net/tls.h"

enum { HOURS = 3600, DAYS = 24 * HOURS };

static char dir[200], why[600];

/* ---- certificates ---- */

struct identity {
    EVP_PKEY *key;
    X509 *cert;
};

UNIT_FN void add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&ctx, issuer, cert, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    assert_non_null(extension);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
}

UNIT_FN void add_name(X509_NAME *name, const char *text, int len)
{
    assert_int_equal(
        X509_NAME_add_entry_by_NID(name, NID_commonName, V_ASN1_UTF8STRING, (const unsigned char *)text, len, -1, 0),
        1);
}

/* issuer NULL: a CA that signs itself. */
UNIT_FN struct identity new_identity_of(const char *name, int name_len, const struct identity *issuer, long from_s,
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

UNIT_FN struct identity new_identity(const char *name, const struct identity *issuer)
{
    return new_identity_of(name, (int)strlen(name), issuer, -HOURS, 100 * DAYS);
}

UNIT_FN void free_identity(struct identity *id)
{
    EVP_PKEY_free(id->key);
    X509_free(id->cert);
}

UNIT_FN const char *path_of(const char *name)
{
    static char paths[8][300];
    static unsigned next;
    char *path = paths[next++ % UNIT_N(paths)];

    snprintf(path, sizeof *paths, "%s/%s", dir, name);
    return path;
}

UNIT_FN void write_cert(const char *name, const struct identity *id)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_int_equal(PEM_write_X509(f, id->cert), 1);
    fclose(f);
}

UNIT_FN void write_key(const char *name, const struct identity *id, const char *password)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    assert_int_equal(
        PEM_write_PrivateKey(f, id->key, password ? EVP_aes_128_cbc() : NULL, NULL, 0, NULL, (void *)password), 1);
    fclose(f);
}

UNIT_FN void write_text(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

UNIT_FN void write_pair(const char *name, const struct identity *id)
{
    char file[100];

    snprintf(file, sizeof file, "%s.pem", name);
    write_cert(file, id);
    snprintf(file, sizeof file, "%s.key", name);
    write_key(file, id, NULL);
}

static struct identity ca, other_ca;

UNIT_FN int set_up_group(void **state)
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

UNIT_FN int tear_down_group(void **state)
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

UNIT_FN struct fae_tls_ctx *server_ctx(const char *client_ca, bool required)
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

UNIT_FN struct fae_tls_ctx *client_ctx(const char *as)
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

UNIT_FN void connect_wire(struct rig *r)
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
UNIT_FN void rig_open(struct rig *r, const char *client_ca, bool required, const char *as, const char *host)
{
    *r = (struct rig){ .server_ctx = server_ctx(client_ca, required), .client_ctx = client_ctx(as) };
    connect_wire(r);
    r->server = fae_tls_accept(r->server_ctx, r->server_fd);
    r->client = fae_tls_connect(r->client_ctx, r->client_fd, host);
    assert_non_null(r->server);
    assert_non_null(r->client);
}

UNIT_FN void rig_close(struct rig *r)
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

UNIT_FN size_t pass(struct rig *r, int from, int to)
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

UNIT_FN size_t pass_both(struct rig *r)
{
    return pass(r, r->wire[0], r->wire[1]) + pass(r, r->wire[1], r->wire[0]);
}

UNIT_FN void assert_again(ssize_t n)
{
    if (n != -1 || errno != EAGAIN)
        fail_msg("%zd, %s: %s", n, strerror(errno), fae_tls_why());
}

/* Both ends do what they can until both are through with the handshake. */
UNIT_FN void shake_hands(struct rig *r)
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

UNIT_FN uint8_t *pattern(size_t size)
{
    uint8_t *bytes = malloc(size);
    uint64_t state = 88172645463325252u;

    for (size_t i = 0; i < size; i++)
        bytes[i] = (uint8_t)unit_random(&state);
    return bytes;
}

/* `from` sends what it can at a time, `to` reads with buffers of `chunk`; the pair's other side is quiet. */
UNIT_FN void carry(struct rig *r, struct fae_tls *from, struct fae_tls *to, const uint8_t *bytes, size_t len,
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

#endif
