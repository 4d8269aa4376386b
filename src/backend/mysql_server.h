/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One server of a pool, in one worker: its connections, what ends queries on it, and how far it is behind. What mysql.c
 * and mysql_server.c share.
 */
#ifndef FAE_BACKEND_MYSQL_SERVER_H
#define FAE_BACKEND_MYSQL_SERVER_H

#include "backend/backends.h"
#include "backend/mysql.h"
#include "base/config.h"

#define FAE_MYSQL_KILLS_MAX 256u /* queries that wait to be ended; one more is left to end by itself */

struct fae_mysql_server {
    struct fae_mysql *mysql;
    struct fae_mysql_site site;
    char label[FAE_OPT_TEXT + sizeof((struct fae_endpoint *)0)->text + 8];
    struct fae_pool *pool;
    struct fae_upstream *upstream; /* NULL: no row was free */
    struct fae_upstream_cell *cell, own;
    /* Queries to be ended, by a connection made for it. */
    struct fae_mysql_conn *killer;
    struct fae_mysql_run kill_run;
    char kill_sql[40];
    unsigned long kills[FAE_MYSQL_KILLS_MAX];
    unsigned n_kills, first_kill;
    struct fae_timer kill_limit;
    /* A replica: how far it is behind. */
    struct fae_mysql_call lag_call;
    bool lag_asked, lag_old_word;
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
};

void fae_mysql_server_init(struct fae_mysql_server *server, struct fae_mysql *mysql, const char *text);
void fae_mysql_server_fini(struct fae_mysql_server *server);
void fae_mysql_server_tick(struct fae_mysql_server *server);
/* Ends whatever the connection of that number does, on the server, by and by. */
void fae_mysql_server_kill(struct fae_mysql_server *server, unsigned long id);
/* A replica may be read from. */
bool fae_mysql_server_is_near(const struct fae_mysql_server *server);
/* As fae_mysql_query, there. */
enum fae_err fae_mysql_query_on(struct fae_mysql_server *server, struct fae_mysql_call *call);

#endif
