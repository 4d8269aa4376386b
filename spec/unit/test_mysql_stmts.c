/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/mysql_stmts: which statements are kept, and which are to be closed, without any connection.
 */
#include "unit.h"

#include "backend/mysql_stmts.h"

static struct fae_mysql_stmt *add(struct fae_mysql_stmts *s, const char *sql)
{
    return fae_mysql_stmts_add(s, sql, strlen(sql));
}

static struct fae_mysql_stmt *find(struct fae_mysql_stmts *s, const char *sql)
{
    return fae_mysql_stmts_find(s, sql, strlen(sql));
}

/* Closes what is doomed, and tells how many that were. */
static unsigned close_doomed(struct fae_mysql_stmts *s)
{
    struct fae_mysql_stmt *stmt;
    unsigned n = 0;

    for (; (stmt = fae_mysql_stmts_doomed(s)); n++)
        fae_mysql_stmts_closed(s, stmt);
    return n;
}

static void keeps_those_used_last(void **state)
{
    struct fae_mysql_stmts s;
    struct fae_mysql_stmt *a, *b;

    (void)state;
    fae_mysql_stmts_init(&s, 2);
    assert_null(find(&s, "a"));
    a = add(&s, "a");
    b = add(&s, "b");
    assert_ptr_equal(find(&s, "a"), a);
    assert_null(find(&s, "A"));
    assert_null(find(&s, "ab"));
    add(&s, "c"); /* b was used longest ago */
    assert_ptr_equal(fae_mysql_stmts_doomed(&s), b);
    assert_int_equal(close_doomed(&s), 1);
    assert_null(find(&s, "b"));
    assert_non_null(find(&s, "a"));
    assert_non_null(find(&s, "c"));
    fae_mysql_stmts_take(&s, a); /* as when it has to be prepared anew */
    fae_mysql_stmts_doom(&s, a);
    assert_null(find(&s, "a"));
    assert_ptr_equal(find(&s, "a"), NULL);
    add(&s, "a");
    assert_int_equal(s.n, 2);
    assert_int_equal(close_doomed(&s), 1);
    fae_mysql_stmts_clear(&s);
    assert_int_equal(s.n, 0);
    assert_null(find(&s, "a"));
}

static void keeps_none_that_is_long_or_when_told_not_to(void **state)
{
    static char sql[FAE_MYSQL_STMT_TEXT_MAX + 2];
    struct fae_mysql_stmts s;
    struct fae_mysql_stmt *stmt;

    (void)state;
    memset(sql, 'x', sizeof sql - 1);
    fae_mysql_stmts_init(&s, 2);
    stmt = add(&s, sql);
    assert_false(stmt->kept);
    assert_null(find(&s, sql));
    fae_mysql_stmts_take(&s, stmt);
    fae_mysql_stmts_doom(&s, stmt);
    assert_int_equal(close_doomed(&s), 1);
    sql[FAE_MYSQL_STMT_TEXT_MAX] = '\0';
    assert_true(add(&s, sql)->kept);
    assert_non_null(find(&s, sql));
    fae_mysql_stmts_clear(&s);
    fae_mysql_stmts_init(&s, 0);
    add(&s, "a");
    assert_null(find(&s, "a"));
    fae_mysql_stmts_clear(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_those_used_last),
        cmocka_unit_test(keeps_none_that_is_long_or_when_told_not_to),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
