/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Parameters become words of one line, so no word may hold a space or a line's end.
 */
#include "ops/forward.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 200 /* bytes: a line has 1024 */

/* ---- parameters ---- */

static const struct fae_forward_param *find_param(const struct fae_forward *f, const char *key, size_t len)
{
    for (const struct fae_forward_param *p = f->params; p < f->params + 3 && p->key; p++)
        if (strlen(p->key) == len && memcmp(p->key, key, len) == 0)
            return p;
    return NULL;
}

static enum fae_err unknown(const struct fae_forward *f, char *why_out, size_t why_size)
{
    size_t n = (size_t)snprintf(why_out, why_size, "parameters:");

    for (const struct fae_forward_param *p = f->params; p < f->params + 3 && p->key && n < why_size; p++)
        n += (size_t)snprintf(why_out + n, why_size - n, " %s", p->key);
    if (!f->params[0].key && n < why_size)
        snprintf(why_out + n, why_size - n, " none");
    return FAE_BAD_ARGS;
}

static bool is_word(const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (text[i] <= ' ' || text[i] > '~')
            return false;
    return len > 0 && len <= WORD_MAX;
}

static enum fae_err add_word(const struct fae_forward_param *p, const char *text, size_t len, struct fae_buf *line,
                             char *why_out, size_t why_size)
{
    if (!is_word(text, len)) {
        snprintf(why_out, why_size, "%s: a word of 1 to %d printable characters without spaces", p->key, WORD_MAX);
        return FAE_BAD_ARGS;
    }
    fae_buf_printf(line, " %s%.*s", p->as, (int)len, text);
    return FAE_OK;
}

static enum fae_err add_value(const struct fae_forward_param *p, const json_t *value, struct fae_buf *line,
                              char *why_out, size_t why_size)
{
    char number[24];

    if (p->type == FAE_FORWARD_FLAG) {
        if (json_is_true(value))
            fae_buf_printf(line, " %s", p->as);
        if (json_is_boolean(value))
            return FAE_OK;
        snprintf(why_out, why_size, "%s: true or false", p->key);
        return FAE_BAD_ARGS;
    }
    if (json_is_string(value))
        return add_word(p, json_string_value(value), json_string_length(value), line, why_out, why_size);
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        snprintf(number, sizeof number, "%" PRIu64, (uint64_t)json_integer_value(value));
        return add_word(p, number, strlen(number), line, why_out, why_size);
    }
    snprintf(why_out, why_size, "%s: a text or a whole number", p->key);
    return FAE_BAD_ARGS;
}

static enum fae_err add_object(const struct fae_forward *f, json_t *object, struct fae_buf *line, char *why_out,
                               size_t why_size)
{
    const char *key;
    json_t *value;
    enum fae_err err;

    json_object_foreach(object, key, value)
    {
        if (!find_param(f, key, strlen(key)))
            return unknown(f, why_out, why_size);
    }
    /* In the table's order, whatever the client's. */
    for (const struct fae_forward_param *p = f->params; p < f->params + 3 && p->key; p++) {
        value = json_object_get(object, p->key);
        err = value ? add_value(p, value, line, why_out, why_size) : FAE_OK;
        if (err)
            return err;
    }
    return FAE_OK;
}

enum fae_err fae_forward_line(const struct fae_forward *f, const void *json, size_t len, struct fae_buf *line_out,
                              char *why_out, size_t why_size)
{
    json_error_t error;
    json_t *object;
    enum fae_err err;

    fae_buf_printf(line_out, "%s", f->verb);
    if (len == 0)
        return FAE_OK;
    object = json_loadb(json, len, JSON_REJECT_DUPLICATES, &error);
    if (!json_is_object(object)) {
        snprintf(why_out, why_size, "the body is no JSON object%s%s", object ? "" : ": ", object ? "" : error.text);
        err = FAE_BAD_ARGS;
    } else {
        err = add_object(f, object, line_out, why_out, why_size);
    }
    json_decref(object);
    return err;
}

enum fae_err fae_forward_query(const struct fae_forward *f, const char *query, struct fae_buf *line_out, char *why_out,
                               size_t why_size)
{
    enum fae_err err = FAE_OK;

    fae_buf_printf(line_out, "%s", f->verb);
    while (*query && !err) {
        size_t len = strcspn(query, "&"), key = strcspn(query, "=&");
        const struct fae_forward_param *p = find_param(f, query, key);

        if (!p || key == len)
            return unknown(f, why_out, why_size);
        err = add_word(p, query + key + 1, len - key - 1, line_out, why_out, why_size);
        query += len + (query[len] == '&');
    }
    return err;
}

/* ---- answers ---- */

static int status_of(enum fae_err err)
{
    static const struct {
        enum fae_err err;
        int status;
    } rows[] = {
        { FAE_OK, 200 },          { FAE_BAD_ARGS, 400 },    { FAE_LIMIT, 400 },    { FAE_NOT_FOUND, 404 },
        { FAE_BAD_CONFIG, 409 },  { FAE_BAD_SERVANT, 409 }, { FAE_DRAINING, 409 }, { FAE_CANCELLED, 409 },
        { FAE_UNAVAILABLE, 503 }, { FAE_BUSY, 503 },        { FAE_CLOSED, 503 },   { FAE_TIMEOUT, 504 },
    };

    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].err == err)
            return rows[i].status;
    return 500;
}

static bool is_number(const char *text, size_t len)
{
    return len > 0 && len <= 15 && strspn(text, "0123456789") >= len && (len == 1 || text[0] != '0');
}

/* One word of a row: "name" or "key=value". */
static void add_cell(const char *word, size_t len, bool first, struct fae_buf *out)
{
    const char *equals = first ? NULL : memchr(word, '=', len);
    size_t key = equals ? (size_t)(equals - word) : 0;

    fae_buf_printf(out, "%s", first ? "" : ",");
    if (equals)
        fae_buf_json(out, word, key);
    else
        fae_buf_printf(out, first ? "\"name\"" : "\"flag\"");
    fae_buf_add(out, ":", 1);
    if (equals)
        word += key + 1, len -= key + 1;
    if (is_number(word, len) && equals)
        fae_buf_add(out, word, len);
    else
        fae_buf_json(out, word, len);
}

static void add_row(const char *line, size_t len, struct fae_buf *out)
{
    bool first = true;

    fae_buf_add(out, "{", 1);
    while (len > 0) {
        size_t n = 0;

        while (n < len && line[n] != ' ')
            n++;
        if (n) {
            add_cell(line, n, first, out);
            first = false;
        }
        n += n < len;
        line += n;
        len -= n;
    }
    fae_buf_add(out, "}", 1);
}

static void add_lines(const struct fae_ctl_answer *said, bool rows, struct fae_buf *out)
{
    const char *at = said->text, *end = said->text + said->text_len;

    fae_buf_add(out, "[", 1);
    for (; at < end;) {
        const char *nl = memchr(at, '\n', (size_t)(end - at));
        size_t len = (size_t)((nl ? nl : end) - at);

        if (at != said->text)
            fae_buf_add(out, ",", 1);
        if (rows)
            add_row(at, len, out);
        else
            fae_buf_json(out, at, len);
        at += len + 1;
    }
    fae_buf_add(out, "]", 1);
}

void fae_forward_answer(const struct fae_forward *f, const struct fae_ctl_answer *said, struct fae_http_answer *answer)
{
    struct fae_buf *out = &answer->body;

    answer->status = status_of(said->err);
    answer->type = "application/json";
    if (!said->err && f->is_json) {
        fae_buf_add(out, said->text, said->text_len);
        return;
    }
    fae_buf_printf(out, "{\"ok\":%s", said->err ? "false" : "true");
    if (said->err)
        fae_buf_printf(out, ",\"error\":\"%s\"", fae_err_name(said->err));
    fae_buf_printf(out, ",\"message\":");
    fae_buf_json(out, said->last, said->last_len);
    fae_buf_printf(out, ",\"%s\":", !said->err && f->rows ? f->rows : "lines");
    add_lines(said, !said->err && f->rows, out);
    fae_buf_printf(out, "}\n");
}
