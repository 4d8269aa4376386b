/* SPDX-License-Identifier: BSD-2-Clause
 *
 * How a connection comes about: a handle of the library, the addresses one after the other, TLS in front of it where it is
 * wanted, the login, and the login anew for whoever borrows it next.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "backend/mysql_conn_impl.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/config.h"

bool fae_mysql_charset_is_known(const char *name)
{
    return mariadb_get_charset_by_name(name) != NULL;
}

static void new_handle(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;
    /* The largest packet in either direction. */
    size_t packet_max = config->result_max + FAE_KIB > 16 * FAE_MIB ? config->result_max + FAE_KIB : 16 * FAE_MIB;
    unsigned off = 0;

    c->my = mysql_init(NULL);
    FAE_ASSERT(c->my != NULL);
    c->methods = *c->my->methods;
    c->methods.db_stmt_fetch_to_bind = fae_mysql_put_row;
    c->my->methods = &c->methods;
    mysql_options(c->my, MYSQL_OPT_NONBLOCK, NULL);
    mysql_options(c->my, MYSQL_SET_CHARSET_NAME, config->charset);
    mysql_options(c->my, MYSQL_OPT_MAX_ALLOWED_PACKET, &packet_max);
    mysql_options(c->my, MYSQL_OPT_LOCAL_INFILE, &off);
    /* None that would show the password to whoever asks for it. */
    mysql_optionsv(c->my, MARIADB_OPT_RESTRICTED_AUTH,
                   "mysql_native_password,client_ed25519,caching_sha2_password,sha256_password");
}

static const char *or_null(const char *text)
{
    return *text ? text : NULL;
}

/* To the server, or to what speaks TLS for us. */
static int begin_tcp(struct fae_mysql_conn *c, const char *host, unsigned port)
{
    const struct fae_config_mysql *config = c->site->config;

    return mysql_real_connect_start(&c->made, c->my, host, config->user, or_null(config->password), or_null(config->db),
                                    port, NULL, 0);
}

static unsigned port_of(int fd)
{
    struct sockaddr_in sa = { 0 };
    socklen_t len = sizeof sa;

    return getsockname(fd, (struct sockaddr *)&sa, &len) == 0 ? ntohs(sa.sin_port) : 0;
}

/* 0: it failed. */
static int begin_tls(struct fae_mysql_conn *c)
{
    struct fae_mysql_tls_opts opts = {
        .loop = c->site->loop, .tls = c->site->tls, .addr = &c->addrs[c->addr], .host = c->site->endpoint.host
    };
    unsigned port;
    int waits;

    c->made = NULL;
    if (!c->site->tls)
        return 0;
    c->tls = fae_mysql_tls_new(&opts, &port);
    if (port == 0)
        return 0;
    waits = begin_tcp(c, "127.0.0.1", port);
    if (waits)
        fae_mysql_tls_expect(c->tls, port_of((int)mysql_get_socket(c->my)));
    return waits;
}

int fae_mysql_begin_connect(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;
    const struct fae_addr *addr = &c->addrs[c->addr];

    new_handle(c);
    if (c->site->endpoint.tls)
        return begin_tls(c);
    if (!fae_addr_is_unix(addr)) {
        fae_addr_host(addr, c->host);
        return begin_tcp(c, c->host, fae_addr_port(addr));
    }
    snprintf(c->host, sizeof c->host, "%s", ((const struct sockaddr_un *)&addr->sa)->sun_path);
    return mysql_real_connect_start(&c->made, c->my, "localhost", config->user, or_null(config->password),
                                    or_null(config->db), 0, c->host, 0);
}

/* Why it failed: TLS knows better than the library, which sees a connection that ends. */
static const char *why_not(const struct fae_mysql_conn *c)
{
    unsigned number = mysql_errno(c->my);

    if (c->site->endpoint.tls && !c->site->tls)
        return c->site->tls_why;
    if (c->tls && *fae_mysql_tls_why(c->tls) && (number == 0 || number >= 2000))
        return fae_mysql_tls_why(c->tls);
    return number ? mysql_error(c->my) : "what came is no answer";
}

static void tell_connected(struct fae_mysql_conn *c, enum fae_err err, const char *why)
{
    char text[600];

    snprintf(text, sizeof text, "%s", why);
    c->sound = !err;
    c->step = err ? FAE_MYSQL_S_FAILED : FAE_MYSQL_S_IDLE;
    c->told(c, c->arg, FAE_MYSQL_CONNECTED, err, text);
}

/* True: another address is tried. */
bool fae_mysql_connected(struct fae_mysql_conn *c)
{
    unsigned number = mysql_errno(c->my);

    if (c->made) {
        c->since_ms = fae_now_ms();
        fae_mysql_read_in_turns(c);
        fae_mysql_watch_for(c, MYSQL_WAIT_READ);
        tell_connected(c, FAE_OK, "");
        return false;
    }
    fae_mysql_unwatch(c);
    if (c->addr + 1 < c->n_addrs && number >= 2000 && number < 3000) {
        c->addr++;
        mysql_close(c->my);
        c->my = NULL;
        fae_mysql_tls_free(&c->tls);
        return true;
    }
    /* The server's own words, other than that it ends: it is there, and does not let us in. That it is full (1040) is no
     * reason to leave alone the connections that there are, which the breaker would. */
    tell_connected(c, number == 0 || number >= 2000 || number == 1053 ? FAE_UNAVAILABLE : FAE_BACKEND, why_not(c));
    return false;
}

void fae_mysql_connect_to(struct fae_mysql_conn *c, const struct fae_addr *addrs, unsigned n)
{
    memcpy(c->addrs, addrs, n * sizeof *addrs);
    c->n_addrs = n;
    c->step = FAE_MYSQL_S_CONNECT;
    c->begins = true;
    fae_timer_start(&c->soon, 0);
}

void fae_mysql_on_resolved(struct fae_resolve *resolve, enum fae_err err, const struct fae_addr *addrs, unsigned n,
                           const char *why)
{
    struct fae_mysql_conn *c = FAE_CONTAINER(resolve, struct fae_mysql_conn, resolve);

    if (err)
        tell_connected(c, err, why);
    else
        fae_mysql_connect_to(c, addrs, n);
}

/* COM_RESET_CONNECTION would leave the database of a USE, and forget the character set of the login. */
int fae_mysql_begin_reset(struct fae_mysql_conn *c)
{
    const struct fae_config_mysql *config = c->site->config;

    return mysql_change_user_start(&c->flag, c->my, config->user, or_null(config->password), or_null(config->db));
}
