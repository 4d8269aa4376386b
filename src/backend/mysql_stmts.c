/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Three lists; the one of those that are kept is looked through, which for some dozens is as quick as a table.
 */
#include "backend/mysql_stmts.h"

#include <mysql.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"

void fae_mysql_stmts_init(struct fae_mysql_stmts *s, unsigned max)
{
    *s = (struct fae_mysql_stmts){ .max = max };
    fae_list_init(&s->kept);
    fae_list_init(&s->others);
    fae_list_init(&s->doomed);
}

static struct fae_mysql_stmt *of(struct fae_list *node)
{
    return FAE_CONTAINER(node, struct fae_mysql_stmt, node);
}

/* Right behind the head. */
static void add_front(struct fae_list *list, struct fae_list *node)
{
    fae_list_add_tail(list->next, node);
}

struct fae_mysql_stmt *fae_mysql_stmts_find(struct fae_mysql_stmts *s, const char *sql, size_t len)
{
    uint64_t hash = XXH3_64bits(sql, len);

    for (struct fae_list *at = s->kept.next; at != &s->kept; at = at->next) {
        struct fae_mysql_stmt *stmt = of(at);

        if (stmt->hash != hash || stmt->len != len || memcmp(stmt->sql, sql, len) != 0)
            continue;
        fae_list_del(at);
        add_front(&s->kept, at);
        return stmt;
    }
    return NULL;
}

struct fae_mysql_stmt *fae_mysql_stmts_add(struct fae_mysql_stmts *s, const char *sql, size_t len)
{
    struct fae_mysql_stmt *stmt = fae_zalloc(sizeof *stmt + len);

    stmt->hash = XXH3_64bits(sql, len);
    stmt->len = len;
    memcpy(stmt->sql, sql, len);
    stmt->kept = s->max > 0 && len <= FAE_MYSQL_STMT_TEXT_MAX;
    if (!stmt->kept) {
        fae_list_add_tail(&s->others, &stmt->node);
        return stmt;
    }
    if (s->n == s->max) {
        struct fae_mysql_stmt *last = of(s->kept.prev);

        fae_mysql_stmts_take(s, last);
        fae_mysql_stmts_doom(s, last);
    }
    add_front(&s->kept, &stmt->node);
    s->n++;
    return stmt;
}

void fae_mysql_stmts_take(struct fae_mysql_stmts *s, struct fae_mysql_stmt *stmt)
{
    fae_list_del(&stmt->node);
    s->n -= stmt->kept;
    stmt->kept = false;
}

void fae_mysql_stmts_doom(struct fae_mysql_stmts *s, struct fae_mysql_stmt *stmt)
{
    fae_list_add_tail(&s->doomed, &stmt->node);
}

struct fae_mysql_stmt *fae_mysql_stmts_doomed(const struct fae_mysql_stmts *s)
{
    return fae_list_empty(&s->doomed) ? NULL : of(s->doomed.next);
}

void fae_mysql_stmts_closed(struct fae_mysql_stmts *s, struct fae_mysql_stmt *stmt)
{
    (void)s;
    fae_list_del(&stmt->node);
    free(stmt);
}

static void clear(struct fae_list *list)
{
    while (!fae_list_empty(list)) {
        struct fae_mysql_stmt *stmt = of(list->next);

        fae_list_del(&stmt->node);
        if (stmt->stmt)
            mysql_stmt_close(stmt->stmt);
        free(stmt);
    }
}

void fae_mysql_stmts_clear(struct fae_mysql_stmts *s)
{
    clear(&s->kept);
    clear(&s->others);
    clear(&s->doomed);
    s->n = 0;
}
