/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Templates are found in the request's msgpack, a flat run of tokens: what lies between them is copied as it is. A bare
 * one is no JSON, so it goes through the JSON reader as a string that begins with BARE.
 */
#include "cmd/bench_mix.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "cmd/client.h"

#define BARE '\x01'

enum { DIGITS_MAX = 20, STR_HEAD_MAX = 5 };

enum kind {
    BYTES, /* as they are: arg[0] where in the method's bytes, arg[1] how many */
    TEXT,  /* a string of the arg[0] ops that follow */
    SEQ,
    RAND, /* arg[0] to arg[1] */
    STR,  /* arg[0] letters */
};

struct fae_bench_op {
    enum kind kind;
    int64_t arg[2];
};

static const struct {
    const char *name;
    enum kind kind;
    int n_args;
    int64_t min, max; /* of each argument */
} templates[] = {
    { "seq", SEQ, 0, 0, 0 },
    { "rand", RAND, 2, INT64_MIN, INT64_MAX },
    { "str", STR, 1, 0, FAE_BENCH_STR_MAX },
};

/* ---- reading templates ---- */

static enum fae_err bad_template(const char *text, size_t len, char *why, size_t size)
{
    snprintf(why, size, "%.*s: templates are {{seq}}, {{rand:LOW:HIGH}} and {{str:LENGTH}} (at most %u)",
             len < 60 ? (int)len : 60, text, FAE_BENCH_STR_MAX);
    return FAE_BAD_ARGS;
}

/* ":1:1000" */
static bool read_numbers(const char *p, int n, int64_t min, int64_t max, int64_t *out)
{
    for (int i = 0; i < n; i++) {
        char *end;

        if (*p++ != ':' || (!isdigit((unsigned char)*p) && *p != '-'))
            return false;
        errno = 0;
        out[i] = strtoll(p, &end, 10);
        if (errno || out[i] < min || out[i] > max)
            return false;
        p = end;
    }
    return *p == '\0';
}

/* `text` is what {{ and }} enclose, both included. */
static enum fae_err read_template(const char *text, size_t len, struct fae_bench_op *op, char *why, size_t size)
{
    char word[64];

    if (len < 4 || len - 4 >= sizeof word)
        return bad_template(text, len, why, size);
    snprintf(word, sizeof word, "%.*s", (int)len - 4, text + 2);
    for (unsigned i = 0; i < sizeof templates / sizeof templates[0]; i++) {
        size_t name = strlen(templates[i].name);

        if (strncmp(word, templates[i].name, name) != 0 || (word[name] != '\0' && word[name] != ':'))
            continue;
        *op = (struct fae_bench_op){ .kind = templates[i].kind };
        if (!read_numbers(word + name, templates[i].n_args, templates[i].min, templates[i].max, op->arg) ||
            (op->kind == RAND && op->arg[0] > op->arg[1]))
            break;
        return FAE_OK;
    }
    return bad_template(text, len, why, size);
}

/* The length of the template at text, braces included; 0 when it has no end. */
static size_t template_len(const char *text, size_t len)
{
    const char *end = memmem(text, len, "}}", 2);

    return end ? (size_t)(end - text) + 2 : 0;
}

/* Copies JSON with bare templates made into strings. */
static enum fae_err quote_bare(const char *json, struct fae_buf *out, char *why, size_t size)
{
    bool in_string = false;
    const char *p;

    for (p = json; *p; p++) {
        if (!in_string && p[0] == '{' && p[1] == '{') {
            size_t len = template_len(p, strlen(p));

            if (len == 0 || memchr(p, '"', len) || memchr(p, '\\', len))
                return bad_template(p, len ? len : strlen(p), why, size);
            fae_buf_printf(out, "\"\\u%04x%.*s\"", BARE, (int)len, p);
            p += len - 1;
            continue;
        }
        if (in_string && p[0] == '\\' && p[1])
            fae_buf_add(out, p++, 1);
        else if (*p == '"')
            in_string = !in_string;
        fae_buf_add(out, p, 1);
    }
    return FAE_OK;
}

/* ---- compiling ---- */

static void add_op(struct fae_bench_method *m, enum kind kind, int64_t a, int64_t b)
{
    struct fae_bench_op op = { .kind = kind, .arg = { a, b } };

    fae_buf_add(&m->ops, &op, sizeof op);
    m->varies |= kind != BYTES;
    m->bytes_max += kind == BYTES  ? (size_t)b
                    : kind == TEXT ? STR_HEAD_MAX
                    : kind == STR  ? (size_t)a + STR_HEAD_MAX
                                   : DIGITS_MAX;
}

static void add_bytes(struct fae_bench_method *m, const void *bytes, size_t len)
{
    if (len == 0)
        return;
    add_op(m, BYTES, (int64_t)m->bytes.len, (int64_t)len);
    fae_buf_add(&m->bytes, bytes, len);
}

static enum fae_err add_parts(struct fae_bench_method *m, const char *text, size_t len, char *why, size_t size)
{
    size_t at = m->ops.len;
    int64_t n_parts;

    add_op(m, TEXT, 0, 0);
    while (len) {
        const char *open = memmem(text, len, "{{", 2);
        size_t before = open ? (size_t)(open - text) : len;
        struct fae_bench_op op;
        enum fae_err err;
        size_t n;

        add_bytes(m, text, before);
        text += before;
        len -= before;
        if (len == 0)
            break;
        n = template_len(text, len);
        err = n ? read_template(text, n, &op, why, size) : bad_template(text, len, why, size);
        if (err)
            return err;
        add_op(m, op.kind, op.arg[0], op.arg[1]);
        text += n;
        len -= n;
    }
    n_parts = (int64_t)((m->ops.len - at) / sizeof(struct fae_bench_op)) - 1;
    memcpy(m->ops.data + at + offsetof(struct fae_bench_op, arg), &n_parts, sizeof n_parts);
    return FAE_OK;
}

static enum fae_err add_string(struct fae_bench_method *m, const char *text, size_t len, char *why, size_t size)
{
    struct fae_bench_op op;
    enum fae_err err;

    if (len < 3 || text[0] != BARE || template_len(text + 1, len - 1) != len - 1)
        return add_parts(m, text, len, why, size);
    err = read_template(text + 1, len - 1, &op, why, size);
    if (!err)
        add_op(m, op.kind, op.arg[0], op.arg[1]);
    return err;
}

static enum fae_err compile(struct fae_bench_method *m, const struct fae_buf *request, char *why, size_t size)
{
    const uint8_t *p = request->data, *end = p + request->len, *kept = p;
    enum fae_err err = FAE_OK;

    while (p < end && !err) {
        struct fae_mp_token t;
        const uint8_t *next = fae_mp_read(p, &t);

        if (t.type == FAE_MP_STR && memmem(t.bytes, t.len, "{{", 2)) {
            add_bytes(m, kept, (size_t)(p - kept));
            err = add_string(m, (const char *)t.bytes, t.len, why, size);
            kept = next;
        }
        p = next;
    }
    add_bytes(m, kept, (size_t)(end - kept));
    return err;
}

static void method_fini(struct fae_bench_method *m)
{
    free(m->name);
    fae_buf_fini(&m->bytes);
    fae_buf_fini(&m->ops);
}

static enum fae_err make_request(struct fae_buf *out, const char *method, char *const *params, int n, char *why,
                                 size_t size)
{
    struct fae_buf texts[FAE_BENCH_PARAMS_MAX] = { { 0 } };
    char *quoted[FAE_BENCH_PARAMS_MAX];
    enum fae_err err = FAE_OK;

    for (int i = 0; i < n && !err; i++) {
        err = quote_bare(params[i], &texts[i], why, size);
        quoted[i] = (char *)fae_buf_text(&texts[i]);
    }
    if (!err)
        err = fae_client_request(out, method, quoted, n, why, size);
    for (int i = 0; i < n; i++)
        fae_buf_fini(&texts[i]);
    return err;
}

enum fae_err fae_bench_mix_add(struct fae_bench_mix *mix, uint32_t weight, const char *method, char *const *params,
                               int n, char *why, size_t size)
{
    struct fae_bench_method *m = &mix->methods[mix->n];
    struct fae_buf request = { 0 };
    enum fae_err err;

    if (mix->n == FAE_TALLY_METHODS || n > FAE_BENCH_PARAMS_MAX) {
        snprintf(why, size, "at most %u methods in a mix, and %u parameters each", FAE_TALLY_METHODS,
                 FAE_BENCH_PARAMS_MAX);
        return FAE_LIMIT;
    }
    *m = (struct fae_bench_method){ .name = fae_strdup(method), .weight = weight };
    err = make_request(&request, method, params, n, why, size);
    fae_client_add_token(&request, &mix->token);
    if (!err)
        err = compile(m, &request, why, size);
    fae_buf_fini(&request);
    if (err) {
        method_fini(m);
        return err;
    }
    mix->n++;
    mix->weights += weight;
    return FAE_OK;
}

void fae_bench_mix_fini(struct fae_bench_mix *mix)
{
    while (mix->n)
        method_fini(&mix->methods[--mix->n]);
    fae_buf_fini(&mix->token);
}

/* ---- lines and files ---- */

/* The end of the JSON text, or of the word, at p: a blank outside of strings and brackets. */
static char *word_end(char *p)
{
    bool in_string = false;
    int depth = 0;

    for (; *p && (in_string || depth > 0 || !isspace((unsigned char)*p)); p++) {
        if (in_string && p[0] == '\\' && p[1])
            p++;
        else if (*p == '"')
            in_string = !in_string;
        else if (!in_string)
            depth += (*p == '{' || *p == '[') - (*p == '}' || *p == ']');
    }
    return p;
}

/* Cuts the line into words in place; returns how many, at most n_max. */
static int split(char *line, char **words, int n_max)
{
    int n = 0;

    for (char *p = line; n < n_max; n++) {
        char *end;

        p += strspn(p, " \t\r\n");
        if (*p == '\0')
            break;
        words[n] = p;
        end = word_end(p);
        p = *end ? end + 1 : end;
        *end = '\0';
    }
    return n;
}

enum fae_err fae_bench_mix_add_line(struct fae_bench_mix *mix, const char *line, char *why, size_t size)
{
    char *copy = fae_strdup(line), *words[FAE_BENCH_PARAMS_MAX + 3], *end = copy;
    int n = split(copy, words, FAE_BENCH_PARAMS_MAX + 3);
    unsigned long weight = n && isdigit((unsigned char)words[0][0]) ? strtoul(words[0], &end, 10) : 0;
    enum fae_err err = FAE_BAD_ARGS;

    if (n < 2)
        snprintf(why, size, "WEIGHT METHOD [JSON]... is wanted, not \"%.100s\"", line);
    else if (weight < 1 || weight > FAE_BENCH_WEIGHT_MAX || *end)
        snprintf(why, size, "the weight is a number from 1 to %d, not \"%.60s\"", FAE_BENCH_WEIGHT_MAX, words[0]);
    else
        err = fae_bench_mix_add(mix, (uint32_t)weight, words[1], words + 2, n - 2, why, size);
    free(copy);
    return err;
}

static enum fae_err add_lines(struct fae_bench_mix *mix, const char *path, char *text, char *why, size_t size)
{
    char reason[256];
    unsigned number = 0;

    for (char *line; (line = strsep(&text, "\n"));) {
        enum fae_err err;

        number++;
        line += strspn(line, " \t\r");
        if (*line == '\0' || *line == '#')
            continue;
        err = fae_bench_mix_add_line(mix, line, reason, sizeof reason);
        if (err) {
            snprintf(why, size, "%s:%u: %s", path, number, reason);
            return err;
        }
    }
    if (mix->n == 0) {
        snprintf(why, size, "%s: no line with a method", path);
        return FAE_BAD_ARGS;
    }
    return FAE_OK;
}

enum fae_err fae_bench_mix_add_file(struct fae_bench_mix *mix, const char *path, char *why, size_t size)
{
    FILE *f = fopen(path, "re");
    char *text;
    size_t len;
    enum fae_err err;

    if (!f) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
        return FAE_SYSTEM;
    }
    text = fae_alloc(FAE_BENCH_FILE_MAX + 1);
    len = fread(text, 1, FAE_BENCH_FILE_MAX, f);
    text[len] = '\0';
    if (ferror(f)) {
        snprintf(why, size, "%s: %s", path, strerror(errno));
        err = FAE_SYSTEM;
    } else if (fgetc(f) != EOF || strlen(text) != len) {
        snprintf(why, size, "%s: no text file of at most %u bytes", path, FAE_BENCH_FILE_MAX);
        err = FAE_LIMIT;
    } else {
        err = add_lines(mix, path, text, why, size);
    }
    free(text);
    fclose(f);
    return err;
}

/* ---- requests ---- */

/* splitmix64 */
static uint64_t next_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* 0 to n-1; n 0 means 2^64 */
static uint64_t random_below(uint64_t *state, uint64_t n)
{
    uint64_t r = next_random(state);

    return n ? (uint64_t)((unsigned __int128)r * n >> 64) : r;
}

static int64_t random_between(uint64_t *state, const int64_t *ends)
{
    return (int64_t)((uint64_t)ends[0] + random_below(state, (uint64_t)ends[1] - (uint64_t)ends[0] + 1));
}

unsigned fae_bench_mix_pick(const struct fae_bench_mix *mix, uint64_t *random)
{
    uint64_t at = random_below(random, mix->weights);
    unsigned i = 0;

    while (at >= mix->methods[i].weight)
        at -= mix->methods[i++].weight;
    return i;
}

static void add_letters(struct fae_buf *out, size_t n, uint64_t *random)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    uint8_t *p = fae_buf_room(out, n);
    uint64_t bits = 0;

    for (size_t i = 0; i < n; i++, bits >>= 6) {
        if (i % 10 == 0)
            bits = next_random(random);
        p[i] = (uint8_t)letters[bits & 63];
    }
    out->len += n;
}

static void add_digits(struct fae_buf *out, uint64_t v, bool negative)
{
    uint8_t digits[DIGITS_MAX + 1], *p = digits + sizeof digits;

    do
        *--p = (uint8_t)('0' + v % 10);
    while (v /= 10);
    if (negative)
        *--p = '-';
    fae_buf_add(out, p, (size_t)(digits + sizeof digits - p));
}

static void add_part(const struct fae_bench_method *m, const struct fae_bench_op *op, struct fae_buf *out, uint64_t seq,
                     uint64_t *random)
{
    int64_t v;

    switch (op->kind) {
    case BYTES: fae_buf_add(out, m->bytes.data + op->arg[0], (size_t)op->arg[1]); return;
    case SEQ: add_digits(out, seq, false); return;
    case STR: add_letters(out, (size_t)op->arg[0], random); return;
    case RAND:
        v = random_between(random, op->arg);
        add_digits(out, v < 0 ? -(uint64_t)v : (uint64_t)v, v < 0);
        return;
    case TEXT: return; /* never within another */
    }
}

static void text_head(struct fae_buf *out, size_t len)
{
    int n_bytes = len < 32 ? 0 : len <= 0xff ? 1 : len <= 0xffff ? 2 : 4;

    fae_mp_byte(out, n_bytes == 0 ? (uint8_t)(0xa0 | len) : n_bytes == 1 ? 0xd9 : n_bytes == 2 ? 0xda : 0xdb);
    while (n_bytes-- > 0)
        fae_mp_byte(out, (uint8_t)(len >> 8 * n_bytes));
}

/* A string whose length shows when it is there: room for the longest head, then moved up to the one it gets. */
static void add_text(const struct fae_bench_method *m, const struct fae_bench_op *parts, int64_t n, struct fae_buf *out,
                     uint64_t seq, uint64_t *random)
{
    size_t at = out->len, len, head;

    fae_buf_room(out, STR_HEAD_MAX);
    out->len += STR_HEAD_MAX;
    for (int64_t i = 0; i < n; i++)
        add_part(m, &parts[i], out, seq, random);
    len = out->len - at - STR_HEAD_MAX;
    out->len = at;
    text_head(out, len);
    head = out->len - at;
    memmove(out->data + at + head, out->data + at + STR_HEAD_MAX, len);
    out->len += len;
}

void fae_bench_mix_request(const struct fae_bench_method *m, struct fae_buf *out, uint32_t msgid, uint64_t seq,
                           uint64_t *random)
{
    const struct fae_bench_op *op = (const void *)m->ops.data, *end = (const void *)(m->ops.data + m->ops.len);
    uint32_t id = __builtin_bswap32(msgid);
    size_t at = out->len;

    for (; op < end; op++) {
        switch (op->kind) {
        case BYTES: add_part(m, op, out, seq, random); continue;
        case SEQ: fae_mp_uint(out, seq); continue;
        case RAND: fae_mp_int(out, random_between(random, op->arg)); continue;
        case STR: add_text(m, op, 1, out, seq, random); continue;
        case TEXT:
            add_text(m, op + 1, op->arg[0], out, seq, random);
            op += op->arg[0];
            continue;
        }
    }
    memcpy(out->data + at + FAE_REQUEST_MSGID_AT, &id, 4);
}
