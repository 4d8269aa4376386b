/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The prepared statements of one connection, by their text: so many are kept, those used last. Connector/C's own handles
 * are made and closed on the network by mysql_conn.c; here they are remembered.
 */
#ifndef FAE_BACKEND_MYSQL_STMTS_H
#define FAE_BACKEND_MYSQL_STMTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/list.h"

#define FAE_MYSQL_STMT_TEXT_MAX 16384u /* a longer one is prepared for one use */

struct fae_mysql_stmt {
    struct fae_list node;
    struct st_mysql_stmt *stmt;
    bool ready; /* prepared */
    bool kept;  /* found again by its text */
    uint64_t hash;
    size_t len;
    char sql[];
};

struct fae_mysql_stmts {
    unsigned max, n;
    struct fae_list kept;   /* used last in front */
    struct fae_list others; /* used once */
    struct fae_list doomed; /* to be closed */
};

void fae_mysql_stmts_init(struct fae_mysql_stmts *stmts, unsigned max);
/* The one of that text, which is the one used last from now on; NULL: there is none. */
struct fae_mysql_stmt *fae_mysql_stmts_find(struct fae_mysql_stmts *stmts, const char *sql, size_t len);
/* A new one, without a handle. The one used longest ago is doomed when there are too many. */
struct fae_mysql_stmt *fae_mysql_stmts_add(struct fae_mysql_stmts *stmts, const char *sql, size_t len);
/* It is no longer found; to be doomed. */
void fae_mysql_stmts_take(struct fae_mysql_stmts *stmts, struct fae_mysql_stmt *stmt);
void fae_mysql_stmts_doom(struct fae_mysql_stmts *stmts, struct fae_mysql_stmt *stmt);
/* One that is to be closed, or NULL; and its memory, when its handle is gone. */
struct fae_mysql_stmt *fae_mysql_stmts_doomed(const struct fae_mysql_stmts *stmts);
void fae_mysql_stmts_closed(struct fae_mysql_stmts *stmts, struct fae_mysql_stmt *stmt);
/* Frees all with their handles, for a server that knows them no more. */
void fae_mysql_stmts_clear(struct fae_mysql_stmts *stmts);

#endif
