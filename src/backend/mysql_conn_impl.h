/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What mysql_conn.c (the socket, steps), mysql_connect.c (connecting) and mysql_run.c (a statement and what comes of it)
 * share.
 */
#ifndef FAE_BACKEND_MYSQL_CONN_IMPL_H
#define FAE_BACKEND_MYSQL_CONN_IMPL_H

#include <mysql.h>
/* Behind the former, of which it has need. */
#include <ma_pvio.h>

#include "backend/mysql_conn.h"
#include "backend/mysql_stmts.h"
#include "backend/mysql_tls.h"
#include "backend/mysql_value.h"
#include "backend/resolve.h"
#include "base/limits.h"
#include "net/addr.h"
#include "net/loop.h"

#define FAE_MYSQL_HEAD_BYTES (16u * FAE_MIB) /* of an answer without its rows: names of 4096 columns have 8 */

enum fae_mysql_step {
    FAE_MYSQL_S_IDLE,
    FAE_MYSQL_S_RESOLVE,
    FAE_MYSQL_S_CONNECT,
    FAE_MYSQL_S_QUERY,
    FAE_MYSQL_S_ROW,
    FAE_MYSQL_S_NEXT,
    FAE_MYSQL_S_CLOSE,
    FAE_MYSQL_S_PREPARE,
    FAE_MYSQL_S_EXECUTE,
    FAE_MYSQL_S_FETCH,
    FAE_MYSQL_S_PAUSED,
    FAE_MYSQL_S_RESET,
    FAE_MYSQL_S_PING,
    FAE_MYSQL_S_FAILED
};

struct fae_mysql_conn {
    struct fae_pool_conn base;
    const struct fae_mysql_site *site;
    fae_mysql_told_fn told;
    void *arg;
    MYSQL *my;
    struct st_mariadb_methods methods; /* the library's, with our own way to take a row */
    struct st_ma_pvio_methods pvio;    /* and to read from the socket */
    ssize_t (*read)(MARIADB_PVIO *pvio, unsigned char *to, size_t len);
    my_bool (*close)(MARIADB_PVIO *pvio);
    size_t turn_read, step_read; /* bytes, since the library was called, and since the step began */
    size_t head_read;            /* of the answer that runs, before its rows */
    size_t held;                 /* of the room that all results have together */
    bool full;                   /* there is no more of it: the answer that runs is not read on */
    enum fae_mysql_step step;
    int waits;   /* what the library waits for: MYSQL_WAIT_READ and so on; 0: nothing is in flight */
    bool begins; /* soon: the step is begun; false: it is complete */
    bool sound;
    bool asked;        /* the server, and there was no time for an answer */
    bool taken;        /* the socket is somebody else's */
    uint64_t since_ms; /* connected */
    struct fae_timer soon;
    struct fae_watch watch;
    int fd;
    short watched;
    /* What operations answer. */
    MYSQL *made;
    MYSQL_ROW row;
    int rc;
    my_bool flag;
    /* Where to. */
    struct fae_resolve resolve;
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
    unsigned n_addrs, addr;
    char host[FAE_ADDR_TEXT];
    struct fae_mysql_tls *tls; /* what the library is connected to instead; NULL: to the server */
    /* The statement that runs. */
    struct fae_mysql_run *run;
    struct fae_mysql_stmts stmts;
    struct fae_mysql_stmt *stmt, *closing;
    MYSQL_RES *res;
    struct fae_mysql_column *columns;
    unsigned columns_cap;
    MYSQL_BIND *binds;
    unsigned long *lens;
    unsigned binds_cap;
    uint64_t n_rows; /* of the whole result */
    unsigned turn_rows;
    size_t turn_bytes;
    bool again;   /* it was prepared anew already */
    bool several; /* more came behind its result */
    bool soiled;
    bool malformed; /* a row was no row */
};

/* mysql_conn.c */
void fae_mysql_watch_for(struct fae_mysql_conn *c, int waits);
void fae_mysql_unwatch(struct fae_mysql_conn *c);
/* From now on the library reads no more at once than a turn of the loop may take. */
void fae_mysql_read_in_turns(struct fae_mysql_conn *c);

/* mysql_room.c. Counts what the answer that runs takes by now; false: there is no room for it. */
bool fae_mysql_room_take(struct fae_mysql_conn *c);
/* No answer runs: what the connection itself keeps goes on to count. */
void fae_mysql_room_rest(struct fae_mysql_conn *c);
void fae_mysql_room_leave(struct fae_mysql_conn *c);

/* mysql_connect.c. Begins to connect to the first of these addresses; the others are tried after it. */
void fae_mysql_connect_to(struct fae_mysql_conn *c, const struct fae_addr *addrs, unsigned n);
void fae_mysql_on_resolved(struct fae_resolve *resolve, enum fae_err err, const struct fae_addr *addrs, unsigned n,
                           const char *why);
/* As the library's _start functions: what is waited for; 0: it is complete, or failed. */
int fae_mysql_begin_connect(struct fae_mysql_conn *c);
int fae_mysql_begin_reset(struct fae_mysql_conn *c);
/* It is complete. True: another address is tried. False: its owner was told, and it may be gone. */
bool fae_mysql_connected(struct fae_mysql_conn *c);

/* mysql_run.c. A row, by the library and on its own stack. */
int fae_mysql_put_row(MYSQL_STMT *stmt, unsigned char *row, unsigned long len);
/* Finds or makes the statement that the run wants, and sets the first step to it. */
void fae_mysql_begin_prepared(struct fae_mysql_conn *c);
void fae_mysql_set_first_step(struct fae_mysql_conn *c);
bool fae_mysql_bind_all(struct fae_mysql_conn *c);
/* The operation of that step is complete. True: there is another step to begin. False: the statement has ended, or pauses:
 * its owner was told, and the connection may be gone. */
bool fae_mysql_queried(struct fae_mysql_conn *c);
bool fae_mysql_rowed(struct fae_mysql_conn *c);
bool fae_mysql_nexted(struct fae_mysql_conn *c);
bool fae_mysql_prepared(struct fae_mysql_conn *c);
bool fae_mysql_executed(struct fae_mysql_conn *c);
bool fae_mysql_fetched(struct fae_mysql_conn *c);

#endif
