/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One server of a pool, in one worker: its connections, what ends queries on it, and how far it is behind. What mysql.c,
 * mysql_server.c and mysql_kill.c share.
 */
#ifndef FAE_BACKEND_MYSQL_SERVER_H
#define FAE_BACKEND_MYSQL_SERVER_H

#include "backend/backends.h"
#include "backend/mysql.h"
#include "backend/mysql_kill.h"
#include "base/config.h"

struct fae_mysql_server {
    struct fae_mysql *mysql;
    struct fae_mysql_site site;
    char label[FAE_OPT_TEXT + sizeof((struct fae_endpoint *)0)->text + 8];
    struct fae_pool *pool;
    struct fae_upstream *upstream; /* NULL: no row was free */
    struct fae_upstream_cell *cell, own;
    struct fae_mysql_kill kill;
    /* A replica: how far it is behind. */
    struct fae_mysql_call lag_call;
    bool lag_asked, lag_old_word, lag_told;
    uint64_t lag_told_ms;
    uint64_t lag_next_ms, lag_until_ms; /* until when lag_ms is believed */
    uint64_t lag_ms;
};

struct fae_mysql {
    const struct fae_backend_env *env;
    struct fae_config_mysql config;
    struct fae_pool_rule rule;
    unsigned n_servers, next_replica;
    bool retired;                     /* another one has its place */
    struct fae_mysql_server *servers; /* the first one is written to */
    struct fae_tls_ctx *tls;          /* NULL: none is wanted, or tls_why */
    char tls_why[200];
    char why_late[80], why_crowded[80]; /* what those are told who got no connection */
    struct fae_mysql_classes classes;
};

void fae_mysql_server_init(struct fae_mysql_server *server, struct fae_mysql *mysql, const char *text);
void fae_mysql_server_fini(struct fae_mysql_server *server);
void fae_mysql_server_tick(struct fae_mysql_server *server);
/* A replica may be read from. */
bool fae_mysql_server_is_near(const struct fae_mysql_server *server);
/* As fae_mysql_query, there. */
enum fae_err fae_mysql_query_on(struct fae_mysql_server *server, struct fae_mysql_call *call);

#endif
