/* SPDX-License-Identifier: BSD-2-Clause
 *
 * OpenSSL's side of it. Bytes go through a BIO of our own, since the library's writes with write() and a connection that
 * the other side has reset would end the process with SIGPIPE.
 * A connection that waits holds no record buffers (SSL_MODE_RELEASE_BUFFERS).
 */
#include "net/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "net/digest.h"

/* Only what has forward secrecy and authenticates what it encrypts. */
#define SUITES_12 "ECDHE+AESGCM:ECDHE+CHACHA20"
#define SUITES_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"
#define CHAIN_MAX (32 * 1024) /* bytes of a client's certificates; half a handshake must not cost much */
#define TICKET_S 3600
#define TICKET_KEY_BYTES 80
#define DAY_S 86400

/* What tells one version of a file from the next. */
struct version {
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec modified;
};

enum { CERT, KEY, CLIENT_CA, N_FILES };

struct fae_tls_ctx {
    SSL_CTX *ssl;
    char *files[N_FILES]; /* of a server; "": none */
    bool client_cert_required;
    bool insecure; /* of a client */
    struct version tried[N_FILES];
};

struct fae_tls {
    SSL *ssl;
    bool established;
    bool broken; /* nothing more can be done with it */
    bool more;   /* recv has not come to the end of what is there */
    bool recv_wants_write, send_wants_write;
};

static __thread char why_text[256];

const char *fae_tls_why(void)
{
    return why_text;
}

/* ---- bytes ---- */

static int fd_of(BIO *bio)
{
    return (int)(intptr_t)BIO_get_data(bio);
}

static int bio_read(BIO *bio, char *into, int size)
{
    ssize_t n = recv(fd_of(bio), into, (size_t)size, MSG_DONTWAIT);

    BIO_clear_flags(bio, BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY | BIO_FLAGS_IN_EOF);
    if (n == 0)
        BIO_set_flags(bio, BIO_FLAGS_IN_EOF);
    else if (n < 0 && (errno == EAGAIN || errno == EINTR))
        BIO_set_retry_read(bio);
    return (int)n;
}

static int bio_write(BIO *bio, const char *bytes, int len)
{
    ssize_t n = send(fd_of(bio), bytes, (size_t)len, MSG_DONTWAIT | MSG_NOSIGNAL);

    BIO_clear_retry_flags(bio);
    if (n < 0 && (errno == EAGAIN || errno == EINTR || errno == ENOTCONN)) /* the last: while it connects */
        BIO_set_retry_write(bio);
    return (int)n;
}

static long bio_ctrl(BIO *bio, int what, long n, void *arg)
{
    (void)n;
    (void)arg;
    switch (what) {
    case BIO_CTRL_FLUSH: return 1;
    case BIO_CTRL_EOF: return BIO_test_flags(bio, BIO_FLAGS_IN_EOF) != 0;
    default: return 0;
    }
}

static int bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

/* Made once, by whoever makes the first context, and kept. */
static BIO_METHOD *method(void)
{
    static BIO_METHOD *m;

    if (m)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "fae socket");
    FAE_ASSERT(m != NULL);
    BIO_meth_set_read(m, bio_read);
    BIO_meth_set_write(m, bio_write);
    BIO_meth_set_ctrl(m, bio_ctrl);
    BIO_meth_set_create(m, bio_create);
    return m;
}

/* ---- contexts ---- */

static enum fae_err complain(char *why, size_t size, const char *file, const char *what)
{
    snprintf(why, size, "%s: %s", file, what);
    return FAE_BAD_CONFIG;
}

/* The library's newest complaint. */
static const char *reason(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_last_error());

    return text ? text : "not accepted";
}

/* The library would tell a missing file in words of its own, and ask a terminal for the password of a key. */
static enum fae_err readable(const char *file, char *why, size_t size)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;
    bool regular;

    if (fd < 0)
        return complain(why, size, file, strerror(errno));
    regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    close(fd);
    return regular ? FAE_OK : complain(why, size, file, "is not a file");
}

static int no_password(char *into, int size, int writing, void *arg)
{
    (void)into;
    (void)size;
    (void)writing;
    *(bool *)arg = true;
    return -1;
}

/* A key of another kind has a place of its own in the context, where it finds no certificate. */
static bool is_another_key(unsigned long code)
{
    int what = ERR_GET_REASON(code);

    return ERR_GET_LIB(code) == ERR_LIB_SSL
               ? what == SSL_R_NO_CERTIFICATE_ASSIGNED
               : ERR_GET_LIB(code) == ERR_LIB_X509 &&
                     (what == X509_R_KEY_VALUES_MISMATCH || what == X509_R_KEY_TYPE_MISMATCH);
}

static enum fae_err use_cert(SSL_CTX *ssl, const char *cert, const char *key, char *why, size_t size)
{
    bool encrypted = false;
    enum fae_err err;
    int ok;

    if ((err = readable(cert, why, size)) || (err = readable(key, why, size)))
        return err;
    ERR_clear_error();
    if (SSL_CTX_use_certificate_chain_file(ssl, cert) != 1)
        return complain(why, size, cert,
                        ERR_GET_LIB(ERR_peek_error()) == ERR_LIB_PEM ? "holds no certificate in PEM" : reason());
    SSL_CTX_set_default_passwd_cb(ssl, no_password);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &encrypted);
    ERR_clear_error();
    ok = SSL_CTX_use_PrivateKey_file(ssl, key, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    SSL_CTX_set_default_passwd_cb(ssl, NULL);
    if (encrypted)
        return complain(why, size, key, "is encrypted; nobody is there to type its password");
    if (ok == 1 && SSL_CTX_check_private_key(ssl) == 1)
        return FAE_OK;
    if (is_another_key(ERR_peek_last_error())) {
        snprintf(why, size, "%s: is not the key of the certificate in %s", key, cert);
        return FAE_BAD_CONFIG;
    }
    return complain(why, size, key, ok == 1 ? reason() : "holds no private key in PEM");
}

static void date_text(const ASN1_TIME *when, char *text, size_t size)
{
    struct tm tm = { 0 };

    if (ASN1_TIME_to_tm(when, &tm) != 1 || strftime(text, size, "%Y-%m-%d", &tm) == 0)
        snprintf(text, size, "an unknown day");
}

static enum fae_err valid_today(SSL_CTX *ssl, const char *file, char *why, size_t size)
{
    const X509 *cert = SSL_CTX_get0_certificate(ssl);
    char day[32];

    if (X509_cmp_current_time(X509_get0_notAfter(cert)) <= 0) {
        date_text(X509_get0_notAfter(cert), day, sizeof day);
        snprintf(why, size, "%s: the certificate expired on %s", file, day);
        return FAE_BAD_CONFIG;
    }
    if (X509_cmp_current_time(X509_get0_notBefore(cert)) > 0) {
        date_text(X509_get0_notBefore(cert), day, sizeof day);
        snprintf(why, size, "%s: the certificate is not valid before %s", file, day);
        return FAE_BAD_CONFIG;
    }
    return FAE_OK;
}

static void set_common(SSL_CTX *ssl)
{
    /* Many peers just close; a message has an end of its own, so nothing can be cut off unnoticed. */
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                              SSL_MODE_RELEASE_BUFFERS | SSL_MODE_AUTO_RETRY);
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_read_ahead(ssl, 1); /* else each record costs two recv */
    SSL_CTX_set_max_cert_list(ssl, CHAIN_MAX);
}

static bool set_strength(SSL_CTX *ssl)
{
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 && SSL_CTX_set_cipher_list(ssl, SUITES_12) == 1 &&
           SSL_CTX_set_ciphersuites(ssl, SUITES_13) == 1 && SSL_CTX_set1_groups_list(ssl, GROUPS) == 1;
}

/* Adds a file to what makes a ticket good only where the same certificates are demanded. */
static void digest_file(const char *file, uint8_t sum[FAE_SHA256_BYTES])
{
    uint8_t chunk[FAE_SHA256_BYTES + 4096];
    int fd = *file ? open(file, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t n = 0;

    do {
        memcpy(chunk, sum, FAE_SHA256_BYTES);
        if (fd >= 0)
            n = read(fd, chunk + FAE_SHA256_BYTES, sizeof chunk - FAE_SHA256_BYTES);
        fae_sha256(chunk, FAE_SHA256_BYTES + (n > 0 ? (size_t)n : 0), sum);
    } while (n > 0);
    if (fd >= 0)
        close(fd);
}

/* All contexts of the process tree share the key of tickets, so that a client may come back to any worker; a ticket of
 * a listener that asks for no certificate must not open one that does. */
static bool set_tickets(SSL_CTX *ssl, const struct fae_tls_ctx *ctx)
{
    static uint8_t key[TICKET_KEY_BYTES];
    static bool have_key;
    uint8_t scope[FAE_SHA256_BYTES] = { ctx->client_cert_required };

    if (!have_key)
        fae_random_bytes(key, sizeof key);
    have_key = true;
    digest_file(ctx->files[CERT], scope);
    digest_file(ctx->files[CLIENT_CA], scope);
    SSL_CTX_set_timeout(ssl, TICKET_S);
    return SSL_CTX_set_tlsext_ticket_keys(ssl, key, sizeof key) == 1 && SSL_CTX_set_num_tickets(ssl, 1) == 1 &&
           SSL_CTX_set_session_id_context(ssl, scope, sizeof scope) == 1;
}

static enum fae_err use_client_ca(SSL_CTX *ssl, const struct fae_tls_ctx *ctx, char *why, size_t size)
{
    const char *file = ctx->files[CLIENT_CA];
    STACK_OF(X509_NAME) * names;
    enum fae_err err;

    if (!*file)
        return FAE_OK;
    err = readable(file, why, size);
    if (err)
        return err;
    ERR_clear_error();
    names = SSL_load_client_CA_file(file);
    if (!names || SSL_CTX_load_verify_file(ssl, file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return complain(why, size, file, "holds no certificate in PEM");
    }
    SSL_CTX_set_client_CA_list(ssl, names);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (ctx->client_cert_required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0), NULL);
    return FAE_OK;
}

static enum fae_err make_server(const struct fae_tls_ctx *ctx, SSL_CTX **ssl_out, char *why, size_t size)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_server_method());
    enum fae_err err = FAE_NO_MEMORY;

    if (!ssl) {
        snprintf(why, size, "TLS: %s", reason());
        return err;
    }
    set_common(ssl);
    SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
    if (!set_strength(ssl) || !set_tickets(ssl, ctx)) {
        snprintf(why, size, "TLS: %s", reason());
        goto fail;
    }
    err = use_cert(ssl, ctx->files[CERT], ctx->files[KEY], why, size);
    if (!err)
        err = valid_today(ssl, ctx->files[CERT], why, size);
    if (!err)
        err = use_client_ca(ssl, ctx, why, size);
    if (err)
        goto fail;
    *ssl_out = ssl;
    return FAE_OK;

fail:
    SSL_CTX_free(ssl);
    ERR_clear_error();
    return err;
}

static void look(const struct fae_tls_ctx *ctx, struct version now[N_FILES])
{
    memset(now, 0, N_FILES * sizeof *now);
    for (int i = 0; i < N_FILES; i++) {
        struct stat st;

        if (*ctx->files[i] && stat(ctx->files[i], &st) == 0)
            now[i] = (struct version){ st.st_dev, st.st_ino, st.st_size, st.st_mtim };
    }
}

static struct fae_tls_ctx *new_ctx(const char *cert, const char *key, const char *client_ca)
{
    const char *files[N_FILES] = { cert, key, client_ca };
    struct fae_tls_ctx *ctx = fae_zalloc(sizeof *ctx);

    method();
    for (int i = 0; i < N_FILES; i++)
        ctx->files[i] = fae_strdup(files[i] ? files[i] : "");
    return ctx;
}

enum fae_err fae_tls_ctx_new(struct fae_tls_ctx **ctx_out, const struct fae_tls_opts *opts, char *why_out,
                             size_t why_size)
{
    struct fae_tls_ctx *ctx = new_ctx(opts->cert, opts->key, opts->client_ca);
    enum fae_err err;

    ctx->client_cert_required = opts->client_cert_required;
    look(ctx, ctx->tried);
    err = make_server(ctx, &ctx->ssl, why_out, why_size);
    if (err)
        fae_tls_ctx_free(&ctx);
    else
        *ctx_out = ctx;
    return err;
}

enum fae_err fae_tls_ctx_renew(struct fae_tls_ctx *ctx, bool *changed_out, char *why_out, size_t why_size)
{
    struct version now[N_FILES];
    SSL_CTX *ssl;
    enum fae_err err;

    *changed_out = false;
    look(ctx, now);
    if (memcmp(now, ctx->tried, sizeof now) == 0)
        return FAE_OK;
    memcpy(ctx->tried, now, sizeof now);
    err = make_server(ctx, &ssl, why_out, why_size);
    if (err)
        return err;
    SSL_CTX_free(ctx->ssl); /* connections hold on to it */
    ctx->ssl = ssl;
    *changed_out = true;
    return FAE_OK;
}

static enum fae_err set_client(SSL_CTX *ssl, const struct fae_tls_client_opts *opts, char *why, size_t size)
{
    enum fae_err err = FAE_OK;

    set_common(ssl);
    if (!set_strength(ssl)) {
        snprintf(why, size, "TLS: %s", reason());
        return FAE_SYSTEM;
    }
    SSL_CTX_set_verify(ssl, opts->insecure ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
    if (opts->ca && !(err = readable(opts->ca, why, size)) && SSL_CTX_load_verify_file(ssl, opts->ca) != 1)
        err = complain(why, size, opts->ca, "holds no certificate in PEM");
    if (!opts->ca)
        SSL_CTX_set_default_verify_paths(ssl);
    if (!err && opts->cert)
        err = use_cert(ssl, opts->cert, opts->key ? opts->key : opts->cert, why, size);
    return err;
}

enum fae_err fae_tls_ctx_new_client(struct fae_tls_ctx **ctx_out, const struct fae_tls_client_opts *opts, char *why_out,
                                    size_t why_size)
{
    struct fae_tls_ctx *ctx = new_ctx(NULL, NULL, NULL);
    enum fae_err err = FAE_NO_MEMORY;

    ctx->insecure = opts->insecure;
    ctx->ssl = SSL_CTX_new(TLS_client_method());
    if (ctx->ssl)
        err = set_client(ctx->ssl, opts, why_out, why_size);
    else
        snprintf(why_out, why_size, "TLS: %s", reason());
    if (err)
        fae_tls_ctx_free(&ctx);
    else
        *ctx_out = ctx;
    ERR_clear_error();
    return err;
}

void fae_tls_ctx_free(struct fae_tls_ctx **ctx_io)
{
    struct fae_tls_ctx *ctx = *ctx_io;

    *ctx_io = NULL;
    if (!ctx)
        return;
    SSL_CTX_free(ctx->ssl);
    for (int i = 0; i < N_FILES; i++)
        free(ctx->files[i]);
    free(ctx);
}

struct ssl_st *fae_tls_ctx_ssl(struct fae_tls_ctx *ctx)
{
    SSL *ssl = SSL_new(ctx->ssl);

    if (ssl)
        SSL_set_read_ahead(ssl, 0); /* libevent asks SSL_pending, which knows nothing of what was read ahead */
    return ssl;
}

/* The text of a name's only entry of that kind; a name with two could be read in two ways. */
static bool only_entry(const X509_NAME *name, int nid, char *text, size_t size)
{
    int at = X509_NAME_get_index_by_NID(name, nid, -1), len;
    unsigned char *utf8 = NULL;
    bool ok;

    if (at < 0 || X509_NAME_get_index_by_NID(name, nid, at) >= 0)
        return false;
    len = ASN1_STRING_to_UTF8(&utf8, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at)));
    ok = len > 0 && (size_t)len < size && memchr(utf8, '\0', (size_t)len) == NULL;
    for (int i = 0; ok && i < len; i++)
        ok = utf8[i] >= 0x20 && utf8[i] != 0x7f;
    if (ok) {
        memcpy(text, utf8, (size_t)len);
        text[len] = '\0';
    }
    OPENSSL_free(utf8);
    return ok;
}

void fae_tls_ctx_describe(const struct fae_tls_ctx *ctx, char *text, size_t size)
{
    const X509 *cert = SSL_CTX_get0_certificate(ctx->ssl);
    char name[FAE_TLS_NAME_MAX + 1], day[32];

    date_text(X509_get0_notAfter(cert), day, sizeof day);
    if (only_entry(X509_get_subject_name(cert), NID_commonName, name, sizeof name))
        snprintf(text, size, "CN=%s, valid until %s", name, day);
    else
        snprintf(text, size, "valid until %s", day);
}

long fae_tls_ctx_days_left(const struct fae_tls_ctx *ctx)
{
    int days = 0, seconds = 0;

    ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(SSL_CTX_get0_certificate(ctx->ssl)));
    return seconds < 0 ? days - 1L : days;
}

/* ---- connections ---- */

static struct fae_tls *new_tls(struct fae_tls_ctx *ctx, int fd)
{
    SSL *ssl = SSL_new(ctx->ssl);
    BIO *bio = ssl ? BIO_new(method()) : NULL;
    struct fae_tls *tls;

    if (!bio) {
        SSL_free(ssl);
        ERR_clear_error();
        return NULL;
    }
    BIO_set_data(bio, (void *)(intptr_t)fd);
    SSL_set_bio(ssl, bio, bio);
    tls = fae_zalloc(sizeof *tls);
    tls->ssl = ssl;
    return tls;
}

struct fae_tls *fae_tls_accept(struct fae_tls_ctx *ctx, int fd)
{
    struct fae_tls *tls = new_tls(ctx, fd);

    if (tls)
        SSL_set_accept_state(tls->ssl);
    return tls;
}

static bool is_address(const char *host)
{
    struct in6_addr any;

    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
}

static bool expect(SSL *ssl, const char *host)
{
    if (is_address(host))
        return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), host) == 1;
    return SSL_set1_host(ssl, host) == 1 && SSL_set_tlsext_host_name(ssl, host) == 1;
}

struct fae_tls *fae_tls_connect(struct fae_tls_ctx *ctx, int fd, const char *host)
{
    struct fae_tls *tls = new_tls(ctx, fd);

    if (!tls)
        return NULL;
    SSL_set_connect_state(tls->ssl);
    if (!ctx->insecure && !expect(tls->ssl, host))
        fae_tls_free(&tls);
    return tls;
}

void fae_tls_finish(struct fae_tls *tls)
{
    if (!tls->established || tls->broken)
        return;
    ERR_clear_error();
    SSL_shutdown(tls->ssl);
    ERR_clear_error();
}

void fae_tls_free(struct fae_tls **tls_io)
{
    struct fae_tls *tls = *tls_io;

    *tls_io = NULL;
    if (!tls)
        return;
    if (!(SSL_get_shutdown(tls->ssl) & SSL_SENT_SHUTDOWN))
        fae_tls_finish(tls);
    SSL_free(tls->ssl);
    free(tls);
}

static void explain(const struct fae_tls *tls)
{
    unsigned long code = ERR_peek_last_error();
    long verdict = SSL_get_verify_result(tls->ssl);
    const char *text = ERR_reason_error_string(code);

    if (ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED && verdict != X509_V_OK)
        text = X509_verify_cert_error_string(verdict);
    snprintf(why_text, sizeof why_text, "%s: %s", tls->established ? "connection" : "handshake",
             text ? text : "not TLS");
}

/* What to tell the caller when a call moved nothing: 0 or -1 with errno. */
static ssize_t outcome(struct fae_tls *tls, int n, bool *wants_write, int failed)
{
    int what = SSL_get_error(tls->ssl, n);

    *wants_write = what == SSL_ERROR_WANT_WRITE;
    switch (what) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case SSL_ERROR_ZERO_RETURN: return 0;
    case SSL_ERROR_SYSCALL:
        tls->broken = true;
        snprintf(why_text, sizeof why_text, "%s", failed ? strerror(failed) : "the connection was cut");
        errno = failed ? failed : ECONNRESET;
        return -1;
    default:
        tls->broken = true;
        explain(tls);
        ERR_clear_error();
        errno = EPROTO;
        return -1;
    }
}

static bool usable(const struct fae_tls *tls)
{
    if (tls->broken)
        errno = EPROTO;
    return !tls->broken;
}

static int at_most(size_t size)
{
    return size > INT_MAX ? INT_MAX : (int)size;
}

int fae_tls_handshake(struct fae_tls *tls)
{
    int n, failed;

    tls->recv_wants_write = false;
    if (!usable(tls))
        return -1;
    ERR_clear_error();
    errno = 0;
    n = SSL_do_handshake(tls->ssl);
    failed = errno;
    tls->established = n == 1;
    return n == 1 ? 1 : (int)outcome(tls, n, &tls->recv_wants_write, failed);
}

ssize_t fae_tls_recv(struct fae_tls *tls, void *into, size_t size)
{
    size_t got = 0;

    tls->more = tls->recv_wants_write = false;
    if (!usable(tls))
        return -1;
    do {
        int n, failed;

        ERR_clear_error();
        errno = 0;
        n = SSL_read(tls->ssl, (uint8_t *)into + got, at_most(size - got));
        failed = errno;
        tls->established = tls->established || SSL_is_init_finished(tls->ssl);
        if (n <= 0) {
            ssize_t rc = outcome(tls, n, &tls->recv_wants_write, failed);

            tls->more = got && (rc == 0 || errno != EAGAIN); /* told by the next call */
            return got ? (ssize_t)got : rc;
        }
        got += (size_t)n;
    } while (got < size && SSL_has_pending(tls->ssl));
    tls->more = SSL_has_pending(tls->ssl);
    return (ssize_t)got;
}

ssize_t fae_tls_send(struct fae_tls *tls, const void *bytes, size_t len)
{
    size_t sent = 0;

    tls->send_wants_write = false;
    if (!usable(tls))
        return -1;
    while (sent < len) {
        int n, failed;

        ERR_clear_error();
        errno = 0;
        n = SSL_write(tls->ssl, (const uint8_t *)bytes + sent, at_most(len - sent));
        failed = errno;
        tls->established = tls->established || SSL_is_init_finished(tls->ssl);
        if (n <= 0) {
            ssize_t rc = outcome(tls, n, &tls->send_wants_write, failed);

            if (sent)
                break;
            if (rc == 0)
                errno = EPIPE;
            return -1;
        }
        sent += (size_t)n;
    }
    return (ssize_t)sent;
}

bool fae_tls_pending(const struct fae_tls *tls)
{
    return tls->more;
}

bool fae_tls_wants_write(const struct fae_tls *tls)
{
    return tls->recv_wants_write || tls->send_wants_write;
}

bool fae_tls_recv_wants_write(const struct fae_tls *tls)
{
    return tls->recv_wants_write;
}

bool fae_tls_established(const struct fae_tls *tls)
{
    return tls->established;
}

bool fae_tls_client_name(const struct fae_tls *tls, char *name_out)
{
    const X509 *cert = SSL_get0_peer_certificate(tls->ssl);

    return tls->established && cert && SSL_get_verify_result(tls->ssl) == X509_V_OK &&
           SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE &&
           only_entry(X509_get_subject_name(cert), NID_commonName, name_out, FAE_TLS_NAME_MAX + 1);
}
