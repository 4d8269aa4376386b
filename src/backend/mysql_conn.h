/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One connection to a MySQL or MariaDB server, on the loop: connecting, one statement at a time, its rows as they come,
 * the checks and resets that a pool asks for. MariaDB Connector/C is seen by what lies below this header alone.
 *
 *   CONNECTING --told CONNECTED--> idle --fae_mysql_conn_run--> busy --run->done--> idle, or not sound any more
 *                                    |                            \--END_MORE--> paused --fae_mysql_conn_more--> busy
 *                                    +-- becomes readable: told LOST
 */
#ifndef FAE_BACKEND_MYSQL_CONN_H
#define FAE_BACKEND_MYSQL_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backend/pool.h"
#include "base/buf.h"
#include "base/endpoint.h"
#include "net/addr.h"

struct fae_backend_room;
struct fae_config_mysql;
struct fae_mysql_conn;
struct fae_resolver;
struct fae_tls_ctx;

/* Where a connection goes, and as whom. Outlives it. */
struct fae_mysql_site {
    struct fae_loop *loop;
    struct fae_resolver *resolver;
    struct fae_endpoint endpoint;
    const struct fae_config_mysql *config;
    struct fae_backend_room *room;
    struct fae_tls_ctx *tls; /* of an endpoint that wants it; NULL: tls_why says why there is none */
    const char *tls_why;
};

enum fae_mysql_event {
    FAE_MYSQL_CONNECTED, /* err: see fae_pool_connected */
    FAE_MYSQL_LOST,      /* while it was idle */
    FAE_MYSQL_RESET,
    FAE_MYSQL_CHECKED,
};
typedef void (*fae_mysql_told_fn)(struct fae_mysql_conn *conn, void *arg, enum fae_mysql_event event, enum fae_err err,
                                  const char *why);

enum fae_mysql_type {
    FAE_MYSQL_NULL,
    FAE_MYSQL_INT,
    FAE_MYSQL_UINT,
    FAE_MYSQL_DOUBLE,
    FAE_MYSQL_TEXT,
    FAE_MYSQL_BYTES, /* a text that is no UTF-8: one of the pool's charset, if that is another, else as a blob */
    FAE_MYSQL_BLOB,
};
struct fae_mysql_param {
    enum fae_mysql_type type;
    union {
        int64_t i;
        uint64_t u;
        double d;
        const char *bytes;
    };
    size_t len; /* of bytes */
};

/* What became of a statement. Only after the first four is the connection sound. */
enum fae_mysql_end {
    FAE_MYSQL_END_OK,
    FAE_MYSQL_END_MORE,    /* rows for now; there may be others */
    FAE_MYSQL_END_ERROR,   /* the server refused: fault */
    FAE_MYSQL_END_ARGS,    /* it takes another number of parameters: fault.text */
    FAE_MYSQL_END_LIMIT,   /* its result is too large: fault.text */
    FAE_MYSQL_END_FULL,    /* all results together are too large: fault.text */
    FAE_MYSQL_END_RESULTS, /* it has several results */
    FAE_MYSQL_END_LOST,    /* the connection ended: fault */
    FAE_MYSQL_END_GARBAGE, /* what came is no answer: fault.text */
};

/* A statement: the caller's memory until done. What it points to, too. */
struct fae_mysql_run {
    const char *sql;
    size_t len;
    const struct fae_mysql_param *params; /* it is prepared when there are any */
    unsigned n_params;
    bool streams; /* done is called with MORE for every `want` rows or so */
    unsigned want;
    /* From the loop. The connection may be given back, freed or used again from inside it. */
    void (*done)(struct fae_mysql_run *run, enum fae_mysql_end end);
    /* What came. */
    struct fae_buf columns; /* msgpack: an array of names */
    struct fae_buf rows;    /* msgpack: n_rows arrays, one behind the other */
    unsigned n_columns, n_rows;
    uint64_t affected, insert_id;
    unsigned warnings; /* of what changes something */
    struct {
        unsigned number; /* 0: none of the server's */
        char state[8];
        char text[512];
    } fault;
    bool executed; /* something was sent that may have been done */
    bool answered; /* a part of its answer came */
};
/* Frees what came. */
void fae_mysql_run_fini(struct fae_mysql_run *run);

/* Begins to connect; how long that may take is for whoever asked. */
struct fae_mysql_conn *fae_mysql_conn_new(const struct fae_mysql_site *site, fae_mysql_told_fn told, void *arg);
/* The same at one address, whatever the name stands for now. */
struct fae_mysql_conn *fae_mysql_conn_new_at(const struct fae_mysql_site *site, const struct fae_addr *addr,
                                             fae_mysql_told_fn told, void *arg);
/* Ends it at once, whatever it was doing; nobody is told. NULL is fine. */
void fae_mysql_conn_free(struct fae_mysql_conn *conn);

/* It is over: what runs on it is not told of any more, and nothing else may be asked of it. */
void fae_mysql_conn_break(struct fae_mysql_conn *conn);

struct fae_pool_conn *fae_mysql_conn_base(struct fae_mysql_conn *conn);
struct fae_mysql_conn *fae_mysql_conn_of(struct fae_pool_conn *base);
/* The server's number for it. */
unsigned long fae_mysql_conn_id(const struct fae_mysql_conn *conn);
/* Where it goes, and since when it has that number (fae_now_ms). */
const struct fae_addr *fae_mysql_conn_addr(const struct fae_mysql_conn *conn);
uint64_t fae_mysql_conn_since_ms(const struct fae_mysql_conn *conn);
/* Breaks it, as fae_mysql_conn_break, but for its socket, which is the caller's from now on; -1: it is closed already. */
int fae_mysql_conn_take_socket(struct fae_mysql_conn *conn);
/* A statement may be run on it. */
bool fae_mysql_conn_is_idle(const struct fae_mysql_conn *conn);
/* It is idle, and nothing came on it that nobody asked for. Asks the system. */
bool fae_mysql_conn_is_fresh(const struct fae_mysql_conn *conn);
/* It holds more memory than a connection should that nobody uses. */
bool fae_mysql_conn_is_bloated(const struct fae_mysql_conn *conn);
/* The server says that a transaction is open, or autocommit is off. */
bool fae_mysql_conn_in_transaction(const struct fae_mysql_conn *conn);

/* What ran on it may have left something behind: it is to be reset before somebody else has it. */
void fae_mysql_conn_soil(struct fae_mysql_conn *conn);
bool fae_mysql_conn_is_soiled(const struct fae_mysql_conn *conn);

void fae_mysql_conn_run(struct fae_mysql_conn *conn, struct fae_mysql_run *run);
/* After MORE; what came before is dropped. */
void fae_mysql_conn_more(struct fae_mysql_conn *conn, unsigned want);
void fae_mysql_conn_reset(struct fae_mysql_conn *conn);
void fae_mysql_conn_check(struct fae_mysql_conn *conn);

/* Does the library know that charset? A server may know fewer. */
bool fae_mysql_charset_is_known(const char *name);

#endif
