/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A scan over words; no grammar. A function is known by the parenthesis behind its name, and trusted when it is of a list:
 * any other may be one of the database's own, which can do anything.
 */
#include "backend/mysql_sql.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"

#define WORD_MAX 32       /* longer ones are none that we know */
#define SEEN_LEN_MAX 1024 /* of a statement whose class is kept */

struct fae_mysql_seen {
    struct fae_mysql_class class;
    size_t len;
    char sql[];
};

struct scan {
    const char *at, *end;
    char word[WORD_MAX];   /* in capitals; "" for one that is quoted, or too long */
    char before[WORD_MAX]; /* the word before it; that of a.b: before a */
    bool dotted;           /* the last thing was a dot */
    bool doubtful;
};

/* Built in, and without any effect; sorted. With words that stand before a parenthesis without being functions. */
/* clang-format off */
static const char *const harmless[] = {
    "ABS", "ACOS", "ADDDATE", "ADDTIME", "ALL", "AND", "ANY", "AS", "ASCII", "ASIN", "ATAN", "ATAN2", "AVG",
    "BETWEEN", "BIN", "BINARY", "BIT_AND", "BIT_COUNT", "BIT_LENGTH", "BIT_OR", "BIT_XOR", "BY", "CASE", "CAST",
    "CEIL", "CEILING", "CHAR", "CHARACTER_LENGTH", "CHAR_LENGTH", "COALESCE", "COLUMN_GET", "CONCAT", "CONCAT_WS",
    "CONV", "CONVERT", "COS", "COT", "COUNT", "CRC32", "CURDATE", "CURRENT_DATE", "CURRENT_TIMESTAMP", "CURTIME",
    "DATABASE", "DATE", "DATEDIFF", "DATE_ADD", "DATE_FORMAT", "DATE_SUB", "DAY", "DAYNAME", "DAYOFMONTH",
    "DAYOFWEEK", "DAYOFYEAR", "DECIMAL", "DEFAULT", "DEGREES", "DENSE_RANK", "DISTINCT", "DIV", "ELSE", "ELT", "END",
    "EXCEPT", "EXISTS", "EXP", "EXPORT_SET", "EXTRACT", "FIELD", "FIND_IN_SET", "FIRST_VALUE", "FLOOR", "FORMAT",
    "FROM", "FROM_BASE64", "FROM_DAYS", "FROM_UNIXTIME", "GREATEST", "GROUP_CONCAT", "HAVING", "HEX", "HOUR", "IF",
    "IFNULL", "IN", "INDEX", "INET6_ATON", "INET6_NTOA", "INET_ATON", "INET_NTOA", "INSTR", "INTERSECT", "INTERVAL",
    "ISNULL", "JOIN", "JSON_ARRAY", "JSON_ARRAYAGG", "JSON_CONTAINS", "JSON_CONTAINS_PATH", "JSON_EXTRACT",
    "JSON_INSERT", "JSON_KEYS", "JSON_LENGTH", "JSON_MERGE_PATCH", "JSON_MERGE_PRESERVE", "JSON_OBJECT",
    "JSON_OBJECTAGG", "JSON_QUERY", "JSON_QUOTE", "JSON_REMOVE", "JSON_REPLACE", "JSON_SEARCH", "JSON_SET",
    "JSON_TYPE", "JSON_UNQUOTE", "JSON_VALID", "JSON_VALUE", "KEY", "LAG", "LAST_DAY", "LAST_VALUE", "LCASE", "LEAD",
    "LEAST", "LEFT", "LENGTH", "LIKE", "LIMIT", "LN", "LOCATE", "LOG", "LOG10", "LOG2", "LOWER", "LPAD", "LTRIM",
    "MAKEDATE", "MAKETIME", "MAKE_SET", "MAX", "MD5", "MICROSECOND", "MID", "MIN", "MINUTE", "MOD", "MONTH",
    "MONTHNAME", "NOT", "NOW", "NTILE", "NULLIF", "OCT", "OCTET_LENGTH", "OFFSET", "ON", "OR", "ORD", "OVER",
    "PARTITION", "PERCENT_RANK", "PERIOD_ADD", "PERIOD_DIFF", "PI", "POSITION", "POW", "POWER", "QUARTER", "QUOTE",
    "RADIANS", "RAND", "RANK", "REGEXP", "REGEXP_INSTR", "REGEXP_REPLACE", "REGEXP_SUBSTR", "REPEAT", "REPLACE",
    "REVERSE", "RIGHT", "RLIKE", "ROUND", "ROW", "ROW_NUMBER", "RPAD", "RTRIM", "SECOND", "SEC_TO_TIME", "SELECT",
    "SHA", "SHA1", "SHA2", "SIGN", "SIGNED", "SIN", "SLEEP", "SOME", "SOUNDEX", "SPACE", "SQRT", "STD", "STDDEV",
    "STRCMP", "STR_TO_DATE", "SUBDATE", "SUBSTR", "SUBSTRING", "SUBSTRING_INDEX", "SUBTIME", "SUM", "SYSDATE", "TAN",
    "THEN", "TIME", "TIMEDIFF", "TIMESTAMP", "TIMESTAMPADD", "TIMESTAMPDIFF", "TIME_FORMAT", "TIME_TO_SEC",
    "TO_BASE64", "TO_DAYS", "TO_SECONDS", "TRIM", "TRUNCATE", "UCASE", "UNHEX", "UNION", "UNIX_TIMESTAMP", "UNSIGNED",
    "UPPER", "USER", "USING", "UTC_DATE", "UTC_TIME", "UTC_TIMESTAMP", "UUID", "UUID_SHORT", "VALUE", "VALUES",
    "VARCHAR", "VARIANCE", "VERSION", "WEEK", "WEEKDAY", "WEEKOFYEAR", "WHEN", "WHERE", "WITHIN", "XOR", "YEAR",
    "YEARWEEK",
};
/* clang-format on */
/* A name behind one of these is a table's, whatever stands behind it: INSERT INTO t (a, b). */
static const char *const before_tables[] = { "IGNORE", "INSERT", "INTO", "RECURSIVE", "REPLACE", "WITH" };
/* What leaves something behind, or reads what was left, or is somebody else's business; sorted. */
static const char *const marks[] = {
    "FOUND_ROWS", "INTO", "PROCEDURE", "ROW_COUNT", "SQL_CALC_FOUND_ROWS",
};

static int compare(const void *word, const void *row)
{
    return strcmp(word, *(const char *const *)row);
}

#define IS_ONE_OF(list, text) (bsearch(text, list, sizeof(list) / sizeof *(list), sizeof *(list), compare) != NULL)

static bool is_word_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '$' ||
           (unsigned char)c >= 0x80;
}

/* Behind the closing quote, which may be doubled inside. A backslash before one means different things to different
 * servers (NO_BACKSLASH_ESCAPES). */
static void skip_quoted(struct scan *s)
{
    char quote = *s->at++;

    for (; s->at < s->end; s->at++) {
        if (*s->at == '\\' && quote != '`' && s->at + 1 < s->end) {
            s->doubtful = s->doubtful || s->at[1] == quote || s->at[1] == '\\';
            s->at++;
        } else if (*s->at == quote) {
            s->at++;
            if (s->at == s->end || *s->at != quote)
                return;
        }
    }
    s->doubtful = true;
}

/* A minus of a minus is none: servers want something behind -- that is not seen; what that is, of other characters than
 * ASCII, their character set says. */
static bool is_line_comment(struct scan *s)
{
    unsigned char after;

    if (s->end - s->at < 2 || s->at[1] != '-')
        return false;
    after = s->end - s->at > 2 ? (unsigned char)s->at[2] : '\0';
    s->doubtful = s->doubtful || after >= 0x7f;
    return after <= ' ' || after >= 0x7f;
}

static void skip_line(struct scan *s)
{
    const char *nl = memchr(s->at, '\n', (size_t)(s->end - s->at));

    s->at = nl ? nl + 1 : s->end;
}

static void skip_comment(struct scan *s)
{
    const char *close;

    s->at += 2;
    if (s->at < s->end && (*s->at == '!' || *s->at == 'M')) {
        s->doubtful = true; /* a comment that servers run */
        return;
    }
    close = memmem(s->at, (size_t)(s->end - s->at), "*/", 2);
    s->at = close ? close + 2 : s->end;
}

/* 1e5INTO is a number and a word, 1INTO one word, 1.5INTO two things: servers know, and we need not. */
static bool is_number_and_more(const char *at, const char *end)
{
    bool starts = *at >= '0' && *at <= '9';

    while (at < end && *at >= '0' && *at <= '9')
        at++;
    return starts && at < end;
}

static void take_word(struct scan *s)
{
    const char *from = s->at;
    size_t len;

    while (s->at < s->end && is_word_char(*s->at))
        s->at++;
    len = (size_t)(s->at - from);
    if (!s->dotted)
        memcpy(s->before, s->word, sizeof s->before);
    s->word[0] = '\0';
    if (len < WORD_MAX) {
        for (size_t i = 0; i < len; i++)
            s->word[i] = from[i] >= 'a' && from[i] <= 'z' ? (char)(from[i] - 32) : from[i];
        s->word[len] = '\0';
    }
    s->doubtful = s->doubtful || is_number_and_more(from, s->at);
    s->dotted = false;
}

static void take_quoted(struct scan *s)
{
    bool is_name = *s->at == '`';

    skip_quoted(s);
    if (!is_name)
        return;
    if (!s->dotted)
        memcpy(s->before, s->word, sizeof s->before);
    s->word[0] = '\0';
    s->dotted = false;
}

/* The next thing that is no blank and no comment: 'w' a word, 'n' a quoted name, or the character itself; 0 at the end. */
static char next(struct scan *s)
{
    while (s->at < s->end) {
        char c = *s->at, c2 = s->at + 1 < s->end ? s->at[1] : '\0';

        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            s->at++;
        } else if (c == '#' || (c == '-' && is_line_comment(s))) {
            skip_line(s);
        } else if (c == '/' && c2 == '*') {
            skip_comment(s);
        } else if (is_word_char(c)) {
            take_word(s);
            return 'w';
        } else if (c == '\'' || c == '"' || c == '`') {
            take_quoted(s);
            return c == '`' ? 'n' : c;
        } else {
            s->at++;
            return c;
        }
    }
    return 0;
}

static bool is(const struct scan *s, const char *word)
{
    return strcmp(s->word, word) == 0;
}

static bool is_change(const struct scan *s)
{
    return is(s, "INSERT") || is(s, "UPDATE") || is(s, "DELETE") || is(s, "REPLACE");
}

/* The rest of a statement that may be harmless. */
static void look_on(struct scan *s, struct fae_mysql_class *c, bool inserts)
{
    char was = 'w', what;

    for (; (what = next(s)); was = what) {
        if (what == '@' || what == ';' || what == '\\') { /* of which the library sends one only */
            s->doubtful = true;
        } else if (what == '.') {
            s->dotted = true;
            continue;
        } else if (what == '(' && (was == 'w' || was == 'n')) {
            if (!(was == 'w' && IS_ONE_OF(harmless, s->word)) && !IS_ONE_OF(before_tables, s->before))
                s->doubtful = true;
        } else if (what == 'w' && IS_ONE_OF(marks, s->word)) {
            s->doubtful = s->doubtful || !(inserts && is(s, "INTO"));
        } else if (what == 'w' && (is(s, "UPDATE") || is(s, "SHARE"))) {
            c->locks = true;
        }
        if (what != 'w' && what != 'n')
            s->word[0] = '\0'; /* it is not right before what comes: REPLACE(a, b, c), mine(1) */
        s->dotted = false;
    }
}

/* Does a change stand in it, as WITH and EXPLAIN may have? */
static bool changes(struct scan s)
{
    char what;

    while ((what = next(&s)))
        if (what == 'w' && (is_change(&s) || is(&s, "ANALYZE")) && !(s.at < s.end && *s.at == '('))
            return true;
    return false;
}

struct fae_mysql_class fae_mysql_classify(const char *sql, size_t len)
{
    struct fae_mysql_class c = { 0 };
    struct scan s = { .at = sql, .end = sql + len };
    char what;
    bool inserts;

    while ((what = next(&s)) == '(')
        continue;
    if (what != 'w')
        return c;
    if (is(&s, "LOAD")) {
        c.refused = "LOAD is not done through a pool";
        return c;
    }
    c.reads = is(&s, "SELECT") || is(&s, "SHOW") || is(&s, "VALUES") || is(&s, "TABLE");
    if (is(&s, "WITH") || is(&s, "EXPLAIN") || is(&s, "DESCRIBE") || is(&s, "DESC"))
        c.reads = !changes(s);
    if (!c.reads && !is_change(&s))
        return c;
    inserts = is(&s, "INSERT") || is(&s, "REPLACE");
    look_on(&s, &c, inserts);
    c.leaves_nothing = !s.doubtful;
    c.reads = c.reads && !s.doubtful;
    return c;
}

static struct fae_mysql_seen *see(const char *sql, size_t len)
{
    struct fae_mysql_seen *seen = fae_alloc(sizeof *seen + len);

    seen->class = fae_mysql_classify(sql, len);
    seen->len = len;
    memcpy(seen->sql, sql, len);
    return seen;
}

struct fae_mysql_class fae_mysql_class_of(struct fae_mysql_classes *classes, const char *sql, size_t len)
{
    struct fae_mysql_seen **at;

    if (len > SEEN_LEN_MAX)
        return fae_mysql_classify(sql, len);
    at = &classes->seen[XXH3_64bits(sql, len) % FAE_MYSQL_CLASSES];
    if (!*at || (*at)->len != len || memcmp((*at)->sql, sql, len) != 0) {
        free(*at);
        *at = see(sql, len);
    }
    return (*at)->class;
}

void fae_mysql_classes_fini(struct fae_mysql_classes *classes)
{
    for (unsigned i = 0; i < FAE_MYSQL_CLASSES; i++)
        free(classes->seen[i]);
}
