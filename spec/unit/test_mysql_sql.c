/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/mysql_sql: what may be sent again, and what leaves nothing behind. In doubt, neither.
 */
#include "unit.h"

#include "backend/mysql_sql.h"

/* R: reads; L: locks; N: leaves nothing; X: refused. */
static const struct {
    const char *sql, *flags;
} rows[] = {
    { "SELECT * FROM user WHERE uid = ?", "RN" },
    { "  \n/* a comment */ select 1 -- the end", "RN" },
    { "# one\n-- two\n(SELECT 1) UNION (SELECT 2)", "RN" },
    { "SELECT COUNT(*), max(a), `x`.`y` FROM t WHERE a IN (1, 2) AND (b = 'it''s (not) @a call()')", "RN" },
    { "select concat ( a, \"@\" ) from t", "RN" },
    { "SELECT * FROM a JOIN b USING (id) WHERE EXISTS (SELECT 1)", "RN" },
    { "SELECT * FROM t WHERE id = 1 FOR UPDATE", "RLN" },
    { "SELECT * FROM t LOCK IN SHARE MODE", "RLN" },
    { "SHOW TABLES", "RN" },
    { "EXPLAIN SELECT 1", "RN" },
    { "EXPLAIN UPDATE t SET a = 1", "" },
    { "WITH c (a) AS (SELECT 1) SELECT * FROM c", "RN" },
    { "WITH c AS (SELECT REPLACE(a, 'x', 'y') FROM t) SELECT * FROM c", "RN" },
    { "WITH c AS (SELECT 1) DELETE FROM t", "" },
    { "INSERT INTO t (a, b) VALUES (?, ?) ON DUPLICATE KEY UPDATE a = VALUES(a)", "LN" },
    { "insert ignore into `db`.`t` (a) values (1)", "N" },
    { "REPLACE INTO db.t(a) VALUES (1)", "N" },
    { "INSERT t (a) SELECT b FROM u", "N" },
    { "UPDATE t SET a = a + 1 WHERE id = ?", "N" },
    { "DELETE FROM t", "N" },
    /* what the text does not prove */
    { "SELECT 1e5INTO OUTFILE '/tmp/x'", "" },
    { "SELECT 1.5INTO OUTFILE '/tmp/x'", "" },
    { "SELECT \\NINTO OUTFILE '/tmp/x'", "" },
    { "SELECT mine(1)", "" },
    { "SELECT db.mine (1)", "" },
    { "SELECT `count`(1)", "" },
    { "SELECT GET_LOCK('x', 1)", "" },
    { "SELECT @a := 1", "" },
    { "SELECT 1 INTO OUTFILE '/tmp/x'", "" },
    { "SELECT LAST_INSERT_ID(5)", "" },
    { "SELECT SQL_CALC_FOUND_ROWS a FROM t", "" },
    { "SELECT NEXTVAL(s)", "" },
    { "SELECT /*! mine(1) */ 1", "" },
    { "SELECT /*M!100000 mine(1) */ 1", "" },
    { "SELECT 'a\\' OR mine(1) -- '", "" },
    { "SELECT 'never closed", "" },
    { "SELECT 1; SET a = 1", "" },
    { "SELECT 1--mine(1)", "" },
    { "SELECT 1--\xa0'\n, mine('')", "" },
    { "SELECT 1--\t'\n, mine('')", "" },
    { "SELECT 1 -- '\n + 1", "RN" },
    { "SELECT 1 --", "RN" },
    { "SELECT REPLACE('a', 'b', 'c'), mine(1)", "" },
    { "SELECT t.insert, mine(1) FROM t", "" },
    { "WITH c (a) AS (SELECT 1), d AS (SELECT mine(1)) SELECT * FROM c", "" },
    { "INSERT INTO t VALUES (mine(1))", "" },
    { "UPDATE t SET a = @b", "" },
    { "SET NAMES latin1", "" },
    { "BEGIN", "" },
    { "USE other", "" },
    { "CREATE TEMPORARY TABLE t (a INT)", "" },
    { "CALL p()", "" },
    { "DO SLEEP(1)", "" },
    { "LOCK TABLES t WRITE", "" },
    { "ALTER TABLE t ADD b INT", "" },
    { "", "" },
    { "-- nothing", "" },
    { "/* never closed", "" },
    { "load data infile 'x' into table t", "X" },
    { "/**/ LOAD DATA LOCAL INFILE 'x' INTO TABLE t", "X" },
};

static void tells_what_the_text_proves(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct fae_mysql_class c = fae_mysql_classify(rows[i].sql, strlen(rows[i].sql));
        char flags[8];

        snprintf(flags, sizeof flags, "%s%s%s%s", c.reads ? "R" : "", c.locks && *rows[i].flags ? "L" : "",
                 c.leaves_nothing ? "N" : "", c.refused ? "X" : "");
        if (strcmp(flags, rows[i].flags) != 0)
            fail_msg("%s: \"%s\", not \"%s\"", rows[i].sql, flags, rows[i].flags);
    }
}

/* Every text cut anywhere ends in its own memory, and a cut never makes it more harmless than it is with a word behind. */
static void reads_no_further(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t len = 0; len <= strlen(rows[i].sql); len++) {
            char *copy = malloc(len + 1);

            memcpy(copy, rows[i].sql, len);
            fae_mysql_classify(copy, len);
            free(copy);
        }
}

static bool same(struct fae_mysql_class a, struct fae_mysql_class b)
{
    return a.reads == b.reads && a.locks == b.locks && a.leaves_nothing == b.leaves_nothing && a.refused == b.refused;
}

/* More texts than are kept, each asked for twice in a row and again when others had its place. */
static void remembers_what_it_told(void **state)
{
    struct fae_mysql_classes classes = { 0 };
    char sql[2000];

    (void)state;
    for (int round = 0; round < 2; round++)
        for (size_t i = 0; i < 600; i++) {
            const char *word = rows[i % (sizeof rows / sizeof *rows)].sql;
            size_t len = (size_t)snprintf(sql, sizeof sql, "%s /* %zu%*s */", word, i, i % 7 ? 1 : 1500, "");
            struct fae_mysql_class c = fae_mysql_classify(sql, len), first, second;

            first = fae_mysql_class_of(&classes, sql, len);
            second = fae_mysql_class_of(&classes, sql, len);
            assert_true(same(c, first) && same(c, second));
        }
    fae_mysql_classes_fini(&classes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tells_what_the_text_proves),
        cmocka_unit_test(reads_no_further),
        cmocka_unit_test(remembers_what_it_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
