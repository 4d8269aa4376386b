/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A call's arguments as the slow log shows them. The bytes may end anywhere, so every length is checked here; what is
 * shown ends with the last thing that was whole, and three dots say so.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <strings.h>

#include "base/utf8.h"
#include "rpc/slowlog.h"
#include "wire/msgpack.h"

struct writer {
    const uint8_t *p, *end;
    const char *secrets;
    struct fae_buf *out;
    size_t max; /* of out->len */
    unsigned depth;
};

static bool write_value(struct writer *w);

/* Bytes of a token without what a str, bin or ext holds; by its first byte, after the msgpack specification. */
static size_t head_len(uint8_t b)
{
    static const uint8_t lens[32] = { [0xc4 - 0xc0] = 2, [0xc5 - 0xc0] = 3, [0xc6 - 0xc0] = 5, [0xc7 - 0xc0] = 3,
                                      [0xc8 - 0xc0] = 4, [0xc9 - 0xc0] = 6, [0xca - 0xc0] = 5, [0xcb - 0xc0] = 9,
                                      [0xcc - 0xc0] = 2, [0xcd - 0xc0] = 3, [0xce - 0xc0] = 5, [0xcf - 0xc0] = 9,
                                      [0xd0 - 0xc0] = 2, [0xd1 - 0xc0] = 3, [0xd2 - 0xc0] = 5, [0xd3 - 0xc0] = 9,
                                      [0xd4 - 0xc0] = 2, [0xd5 - 0xc0] = 2, [0xd6 - 0xc0] = 2, [0xd7 - 0xc0] = 2,
                                      [0xd8 - 0xc0] = 2, [0xd9 - 0xc0] = 2, [0xda - 0xc0] = 3, [0xdb - 0xc0] = 5,
                                      [0xdc - 0xc0] = 3, [0xdd - 0xc0] = 5, [0xde - 0xc0] = 3, [0xdf - 0xc0] = 5 };

    return b >= 0xc0 && b < 0xe0 && lens[b - 0xc0] ? lens[b - 0xc0] : 1;
}

/* Reads a token and goes behind its head; false when that is not all there. t.len may be more than there is. */
static bool read_token(struct writer *w, struct fae_mp_token *t)
{
    size_t left = (size_t)(w->end - w->p), head;

    if (left == 0 || *w->p == 0xc1)
        return false;
    head = head_len(*w->p);
    if (left < head)
        return false;
    fae_mp_read(w->p, t);
    w->p += head;
    return true;
}

static bool is_bytes(const struct fae_mp_token *t)
{
    return t->type == FAE_MP_STR || t->type == FAE_MP_BIN || t->type == FAE_MP_EXT;
}

/* Goes behind what a str, bin or ext holds; false when not all of it is there. */
static bool take_bytes(struct writer *w, const struct fae_mp_token *t)
{
    if (!is_bytes(t))
        return true;
    if ((size_t)(w->end - w->p) < t->len)
        return false;
    w->p += t->len;
    return true;
}

/* Goes behind the next value without a look at it. */
static bool skip_value(struct writer *w)
{
    struct fae_mp_token t;

    for (uint64_t todo = 1; todo; todo--) {
        if (!read_token(w, &t) || !take_bytes(w, &t))
            return false;
        if (t.type == FAE_MP_ARRAY || t.type == FAE_MP_MAP)
            todo += (uint64_t)t.len * (t.type == FAE_MP_MAP ? 2 : 1);
    }
    return true;
}

static bool is_secret(const struct writer *w, const char *key, size_t len)
{
    for (const char *word = w->secrets; len && *word;) {
        size_t n = strcspn(word, " ");

        if (n == len && strncasecmp(word, key, n) == 0)
            return true;
        word += n + strspn(word + n, " ");
    }
    return false;
}

/* As many characters as are there, and fit. False: that was not all. */
static bool write_bytes(struct writer *w, const struct fae_mp_token *t)
{
    size_t there = (size_t)(w->end - w->p), len = t->len < there ? t->len : there;
    size_t room = w->max > w->out->len ? w->max - w->out->len : 0, shown = 0;

    if (t->type == FAE_MP_EXT || (len == t->len && !fae_utf8_valid(w->p, len))) {
        fae_buf_printf(w->out, t->type == FAE_MP_EXT ? "\"<ext %" PRIu32 " bytes>\"" : "\"<%" PRIu32 " bytes>\"",
                       t->len);
        return take_bytes(w, t);
    }
    while (shown < len && shown < room) {
        unsigned n = fae_utf8_char(w->p + shown, len - shown);

        if (n == 0)
            break;
        shown += n;
    }
    fae_buf_json(w->out, (const char *)w->p, shown);
    w->p += shown;
    return shown == t->len;
}

static void write_float(struct fae_buf *out, double v)
{
    size_t from = out->len;

    fae_buf_printf(out, isfinite(v) ? "%.17g" : "null", v);
    for (size_t i = from; i < out->len; i++) /* a servant may have changed the locale */
        if (out->data[i] == ',')
            out->data[i] = '.';
}

static bool write_array(struct writer *w, uint32_t n)
{
    fae_buf_add(w->out, "[", 1);
    for (uint32_t i = 0; i < n; i++) {
        fae_buf_add(w->out, ",", i > 0);
        if (!write_value(w))
            return false;
    }
    fae_buf_add(w->out, "]", 1);
    return true;
}

/* A key is a string as a rule; any other is shown as its JSON would be, for this is to be read by people. */
static bool write_pair(struct writer *w)
{
    struct writer key = *w;
    struct fae_mp_token t;
    bool secret = read_token(&key, &t) && (t.type == FAE_MP_STR || t.type == FAE_MP_BIN) &&
                  (size_t)(key.end - key.p) >= t.len && is_secret(w, (const char *)key.p, t.len);

    if (!write_value(w))
        return false;
    fae_buf_add(w->out, ":", 1);
    if (!secret)
        return write_value(w);
    fae_buf_add(w->out, "\"***\"", 5);
    return skip_value(w);
}

static bool write_map(struct writer *w, uint32_t n)
{
    fae_buf_add(w->out, "{", 1);
    for (uint32_t i = 0; i < n; i++) {
        fae_buf_add(w->out, ",", i > 0);
        if (!write_pair(w))
            return false;
    }
    fae_buf_add(w->out, "}", 1);
    return true;
}

static bool write_container(struct writer *w, const struct fae_mp_token *t)
{
    bool whole;

    if (w->depth == FAE_DEPTH_MAX)
        return false;
    w->depth++;
    whole = t->type == FAE_MP_ARRAY ? write_array(w, t->len) : write_map(w, t->len);
    w->depth--;
    return whole;
}

/* False: the end of the bytes, or of the room, was met. */
static bool write_value(struct writer *w)
{
    struct fae_mp_token t;

    if (w->out->len >= w->max || !read_token(w, &t))
        return false;
    switch (t.type) {
    case FAE_MP_NIL: fae_buf_add(w->out, "null", 4); return true;
    case FAE_MP_BOOL: fae_buf_printf(w->out, "%s", t.flag ? "true" : "false"); return true;
    case FAE_MP_INT: fae_buf_printf(w->out, "%" PRId64, t.i); return true;
    case FAE_MP_UINT: fae_buf_printf(w->out, "%" PRIu64, t.u); return true;
    case FAE_MP_FLOAT: write_float(w->out, t.f); return true;
    case FAE_MP_STR:
    case FAE_MP_BIN:
    case FAE_MP_EXT: return write_bytes(w, &t);
    case FAE_MP_ARRAY:
    case FAE_MP_MAP: return write_container(w, &t);
    }
    return false;
}

/* Ends the text at `max` at the latest, between two characters. */
static void cut(struct fae_buf *out, size_t from, size_t max)
{
    static const char dots[] = "...";
    size_t room = max > sizeof dots - 1 ? max - (sizeof dots - 1) : 0, len = out->len - from;

    if (len > room) {
        len = room;
        while (len && (out->data[from + len] & 0xc0) == 0x80)
            len--;
    }
    out->len = from + len;
    fae_buf_add(out, dots, sizeof dots - 1 < max ? sizeof dots - 1 : max);
}

void fae_slowlog_args(const uint8_t *params, size_t len, const char *secrets, size_t max, struct fae_buf *out)
{
    size_t from = out->len;
    struct writer w = { .p = params, .end = params + len, .secrets = secrets, .out = out, .max = from + max };
    bool whole = write_value(&w);

    if (!whole || out->len > from + max)
        cut(out, from, max);
}
