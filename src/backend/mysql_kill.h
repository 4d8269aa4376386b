/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Queries that nobody waits for any more are ended on their server, by KILL on another connection: an idle one of the pool,
 * or one made for it beyond max, or, when the server has none left, the next one that is given back.
 *
 * A server that was started again numbers its connections anew, so that what had our number may be somebody else's. Hence
 * the socket of the connection stays open until its KILL is answered, and none is sent once the server ended it; and the
 * server is asked how long it is up, and none is sent for a connection that is older. It goes to the address to which that
 * connection went, whatever the name stands for now.
 */
#ifndef FAE_BACKEND_MYSQL_KILL_H
#define FAE_BACKEND_MYSQL_KILL_H

#include "backend/mysql_conn.h"
#include "backend/pool.h"

#define FAE_MYSQL_KILLS_MAX 256u /* that wait for their KILL; one more is left to end by itself */

struct fae_mysql_server;

enum fae_mysql_kill_state {
    FAE_MYSQL_K_NONE,
    FAE_MYSQL_K_CONNECTING, /* a connection of our own */
    FAE_MYSQL_K_IN_LINE,    /* for one of the pool */
    FAE_MYSQL_K_WAITING,    /* the line was too long */
    FAE_MYSQL_K_ASKING,     /* how long the server is up */
    FAE_MYSQL_K_KILLING,    /* the victim in front */
};

/* Of one server. */
struct fae_mysql_kill {
    struct fae_mysql_server *server;
    struct fae_list victims; /* in the order of their deadlines */
    unsigned n_victims;
    enum fae_mysql_kill_state state;
    struct fae_mysql_conn *conn; /* that ends them */
    bool is_own;                 /* not of the pool */
    struct fae_pool_ask ask;
    struct fae_mysql_run run;
    char sql[40];
    uint64_t asked_ms;      /* when it was asked how long it is up ... */
    int64_t up_s;           /* ... and for how long it was: -1: not asked yet */
    struct fae_timer limit; /* of the victim in front, and of waiting */
};

void fae_mysql_kill_init(struct fae_mysql_kill *k, struct fae_mysql_server *server);
/* What is not ended by then is left to end by itself. */
void fae_mysql_kill_fini(struct fae_mysql_kill *k);
/* Ends whatever the connection does on the server, by and by; the connection is broken, and may be freed. */
void fae_mysql_kill_add(struct fae_mysql_kill *k, struct fae_mysql_conn *conn);
/* Nothing is left to be ended. */
bool fae_mysql_kill_quiet(const struct fae_mysql_kill *k);

#endif
