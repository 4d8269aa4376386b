/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A recursive-descent reader of JSON that keeps nothing; its depth is bounded. Each skip_x moves past one x or fails.
 */
#include "base/json_valid.h"

#include <stdint.h>
#include <string.h>

#include "base/limits.h"
#include "base/utf8.h"

struct reader {
    const char *p, *end;
    unsigned depth;
    bool any_bytes; /* strings need not be UTF-8 */
};

static bool skip_value(struct reader *r);

static void skip_space(struct reader *r)
{
    while (r->p < r->end && strchr(" \t\r\n", *r->p) && *r->p)
        r->p++;
}

static bool skip_byte(struct reader *r, char c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static bool skip_digits(struct reader *r)
{
    const char *start = r->p;

    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return r->p > start;
}

static bool skip_number(struct reader *r)
{
    skip_byte(r, '-');
    if (!skip_byte(r, '0') && !skip_digits(r))
        return false;
    if (skip_byte(r, '.') && !skip_digits(r))
        return false;
    if (skip_byte(r, 'e') || skip_byte(r, 'E')) {
        if (!skip_byte(r, '+'))
            skip_byte(r, '-');
        return skip_digits(r);
    }
    return true;
}

static bool is_hex(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool skip_escape(struct reader *r)
{
    char c;

    if (r->p == r->end)
        return false;
    c = *r->p++;
    if (c != 'u')
        return c != '\0' && strchr("\"\\/bfnrt", c);
    for (int i = 0; i < 4; i++, r->p++)
        if (r->p == r->end || !is_hex(*r->p))
            return false;
    return true;
}

static bool skip_string(struct reader *r)
{
    if (!skip_byte(r, '"'))
        return false;
    while (r->p < r->end && *r->p != '"') {
        unsigned n = r->any_bytes ? 1 : fae_utf8_char((const uint8_t *)r->p, (size_t)(r->end - r->p));

        if (n == 0 || (uint8_t)*r->p < 0x20)
            return false;
        if (*r->p == '\\') {
            r->p++;
            if (!skip_escape(r))
                return false;
        } else {
            r->p += n;
        }
    }
    return skip_byte(r, '"');
}

static bool skip_member(struct reader *r)
{
    skip_space(r);
    if (!skip_string(r))
        return false;
    skip_space(r);
    return skip_byte(r, ':') && skip_value(r);
}

/* What stands between the brackets; the first one is behind us. */
static bool skip_items(struct reader *r, char close, bool (*skip_item)(struct reader *))
{
    if (++r->depth > FAE_DEPTH_MAX)
        return false;
    skip_space(r);
    if (!skip_byte(r, close)) {
        do {
            if (!skip_item(r))
                return false;
            skip_space(r);
        } while (skip_byte(r, ','));
        if (!skip_byte(r, close))
            return false;
    }
    r->depth--;
    return true;
}

static bool skip_word(struct reader *r)
{
    static const char *const words[] = { "true", "false", "null" };

    for (unsigned i = 0; i < sizeof words / sizeof *words; i++) {
        size_t len = strlen(words[i]);

        if ((size_t)(r->end - r->p) >= len && memcmp(r->p, words[i], len) == 0) {
            r->p += len;
            return true;
        }
    }
    return false;
}

static bool skip_value(struct reader *r)
{
    skip_space(r);
    if (r->p == r->end)
        return false;
    if (*r->p == '"')
        return skip_string(r);
    if (skip_byte(r, '{'))
        return skip_items(r, '}', skip_member);
    if (skip_byte(r, '['))
        return skip_items(r, ']', skip_value);
    if (*r->p == '-' || (*r->p >= '0' && *r->p <= '9'))
        return skip_number(r);
    return skip_word(r);
}

bool fae_json_valid(const char *text, size_t len)
{
    struct reader r = { .p = text, .end = text + len };

    if (!skip_value(&r))
        return false;
    skip_space(&r);
    return r.p == r.end;
}

double fae_json_skip(const char *text, size_t len, size_t at, unsigned depth)
{
    struct reader r = { .p = text + (at < len ? at : len), .end = text + len, .depth = depth, .any_bytes = true };

    if (skip_value(&r))
        return (double)(r.p - text);
    return r.depth > FAE_DEPTH_MAX ? FAE_JSON_TOO_DEEP : -2.0 - (double)(r.p - text);
}
