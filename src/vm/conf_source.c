/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Just enough of Lua's lexis to tell names and strings from comments and everything else.
 */
#include "vm/conf_source.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>

enum token { END, NAME, STRING, OTHER };

struct lexer {
    const char *p, *end;
    unsigned line;
    const char *text; /* of a name or string, without quotes */
    size_t len;
};

static char peek(const struct lexer *lx, size_t at)
{
    return (size_t)(lx->end - lx->p) > at ? lx->p[at] : '\0';
}

static void advance(struct lexer *lx, size_t n)
{
    for (; n && lx->p < lx->end; n--)
        lx->line += *lx->p++ == '\n';
}

/* `[[` or `[==[` here? The length of the opening bracket, or 0. */
static size_t long_bracket(const struct lexer *lx)
{
    size_t n = 1;

    if (peek(lx, 0) != '[')
        return 0;
    while (peek(lx, n) == '=')
        n++;
    return peek(lx, n) == '[' ? n + 1 : 0;
}

static void skip_long(struct lexer *lx, size_t open)
{
    advance(lx, open);
    lx->text = lx->p;
    for (; lx->p < lx->end; advance(lx, 1)) {
        size_t n = 1;

        if (*lx->p != ']')
            continue;
        while (n < open - 1 && peek(lx, n) == '=')
            n++;
        if (n == open - 1 && peek(lx, n) == ']')
            break;
    }
    lx->len = (size_t)(lx->p - lx->text);
    advance(lx, open);
}

static void skip_quoted(struct lexer *lx)
{
    char quote = *lx->p;

    advance(lx, 1);
    lx->text = lx->p;
    while (lx->p < lx->end && *lx->p != quote && *lx->p != '\n')
        advance(lx, *lx->p == '\\' ? 2 : 1);
    lx->len = (size_t)(lx->p - lx->text);
    advance(lx, 1);
}

static void skip_comment(struct lexer *lx)
{
    size_t open;

    advance(lx, 2);
    open = long_bracket(lx);
    if (open)
        skip_long(lx, open);
    else
        while (lx->p < lx->end && *lx->p != '\n')
            lx->p++;
}

static bool in_name(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* Moves past spaces, comments and one token. `*line_out` is the line it starts on. */
static enum token next_token(struct lexer *lx, unsigned *line_out)
{
    size_t open;

    while (lx->p < lx->end && (isspace((unsigned char)*lx->p) || (peek(lx, 0) == '-' && peek(lx, 1) == '-')))
        if (*lx->p == '-')
            skip_comment(lx);
        else
            advance(lx, 1);
    *line_out = lx->line;
    if (lx->p == lx->end)
        return END;
    open = long_bracket(lx);
    if (open) {
        skip_long(lx, open);
        return STRING;
    }
    if (*lx->p == '"' || *lx->p == '\'') {
        skip_quoted(lx);
        return STRING;
    }
    lx->text = lx->p;
    while (lx->p < lx->end && in_name(*lx->p))
        lx->p++;
    lx->len = (size_t)(lx->p - lx->text);
    if (lx->len)
        return NAME;
    advance(lx, 1);
    lx->len = 1;
    return OTHER;
}

static bool is(const struct lexer *lx, const char *word, size_t len)
{
    return len == lx->len && memcmp(lx->text, word, len) == 0;
}

/* Does an assignment follow? Looks ahead without moving. */
static bool assigns(const struct lexer *lx)
{
    struct lexer ahead = *lx;
    unsigned line;

    if (next_token(&ahead, &line) != OTHER)
        return false;
    if (is(&ahead, "]", 1) && next_token(&ahead, &line) != OTHER)
        return false;
    return is(&ahead, "=", 1) && peek(&ahead, 0) != '=';
}

static struct lexer open_source(const struct fae_conf_source *source)
{
    return (struct lexer){ .p = source->text, .end = source->text + source->len, .line = 1 };
}

/* Moves behind the first use of `name` on or after `line`. */
static bool find_name(struct lexer *lx, unsigned line, const char *name, unsigned *line_out)
{
    enum token token;

    do {
        token = next_token(lx, line_out);
        if (token == NAME && *line_out >= line && is(lx, name, strlen(name)))
            return true;
    } while (token != END);
    return false;
}

/* The next key of a path ("a.b[2].c": a, b, c), or NULL. */
static const char *next_key(const char **path, size_t *len_out)
{
    for (;;) {
        const char *key = *path + strspn(*path, ".");
        size_t len = strcspn(key, ".[");

        if (!*key)
            return NULL;
        if (*key == '[') {
            *path = key + strcspn(key, "]") + (strchr(key, ']') != NULL);
            continue;
        }
        *path = key + len;
        *len_out = len;
        return key;
    }
}

unsigned fae_conf_source_key(const struct fae_conf_source *source, unsigned line, const char *name, const char *path)
{
    struct lexer lx = open_source(source);
    enum token token;
    unsigned at, found = line;
    int depth = 0;
    size_t len;
    const char *key = next_key(&path, &len);

    if (!find_name(&lx, line, name, &at) || at != line)
        return line;
    while (key && (token = next_token(&lx, &at)) != END) {
        if (token == OTHER && strchr("({[", *lx.text)) {
            depth++;
        } else if (token == OTHER && strchr(")}]", *lx.text)) {
            if (--depth <= 0)
                break;
        } else if ((token == NAME || token == STRING) && is(&lx, key, len) && assigns(&lx)) {
            found = at;
            key = next_key(&path, &len);
        }
    }
    return found;
}

unsigned fae_conf_source_name(const struct fae_conf_source *source, const char *name)
{
    struct lexer lx = open_source(source);
    unsigned line;

    return find_name(&lx, 1, name, &line) ? line : 0;
}
