/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Option values: from text, by their row. Sentences start with the option's name, so that a caller only adds where.
 */
#include "base/opt.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "base/suggest.h"

static const struct unit {
    const char *name;
    unsigned shift;
} units[] = { { "", 0 }, { "KiB", 10 }, { "MiB", 20 }, { "GiB", 30 } };

#define FAE_OPT_UNITS (sizeof units / sizeof *units)

/* Reads the digits text starts with; false when there are none or too many. */
static bool read_digits(const char *text, unsigned base, const char **end_out, uint64_t *v_out)
{
    const char *p = text;
    uint64_t v = 0;

    for (; *p >= '0' && *p < (char)('0' + base); p++)
        if (__builtin_mul_overflow(v, base, &v) || __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
            return false;
    *end_out = p;
    *v_out = v;
    return p > text;
}

/* File modes are octal, with or without the leading 0; a row whose default is written so is one. */
static unsigned base_of(const struct fae_opt *opt)
{
    return opt->type == FAE_OPT_UINT && opt->init[0] == '0' && opt->init[1] ? 8 : 10;
}

static bool read_number(const struct fae_opt *opt, const char *text, uint64_t *v_out)
{
    const char *end;
    uint64_t v;

    if (!read_digits(text, base_of(opt), &end, &v))
        return false;
    for (size_t i = 0; i < FAE_OPT_UNITS; i++)
        if (strcmp(end, units[i].name) == 0 && (i == 0 || opt->type == FAE_OPT_BYTES)) {
            *v_out = v << units[i].shift;
            return *v_out >> units[i].shift == v;
        }
    return false;
}

/* As an operator would write it: "4MiB", "0660", "5000". */
static void write_number(const struct fae_opt *opt, uint64_t v, char *text, size_t size)
{
    size_t unit = FAE_OPT_UNITS - 1;

    if (base_of(opt) == 8) {
        snprintf(text, size, "0%" PRIo64, v);
        return;
    }
    while (unit && (opt->type != FAE_OPT_BYTES || v == 0 || v & ((1ull << units[unit].shift) - 1)))
        unit--;
    snprintf(text, size, "%" PRIu64 "%s", v >> units[unit].shift, units[unit].name);
}

/* ---- one function a type: reads text into the field, or says why not ---- */

struct set {
    const struct fae_opt *opt;
    void *field;
    const char *text;
    char *why;
    size_t size;
};

static enum fae_err out_of_range(const struct set *s)
{
    char min[32], max[32];

    write_number(s->opt, s->opt->min, min, sizeof min);
    write_number(s->opt, s->opt->max, max, sizeof max);
    if (s->opt->max == UINT64_MAX)
        snprintf(s->why, s->size, "%s must be at least %s, not %.64s", s->opt->name, min, s->text);
    else
        snprintf(s->why, s->size, "%s must be %s to %s, not %.64s", s->opt->name, min, max, s->text);
    return FAE_BAD_CONFIG;
}

static enum fae_err set_number(const struct set *s)
{
    static const char *const what[] = { [FAE_OPT_UINT] = "a whole number",
                                        [FAE_OPT_MS] = "a whole number of milliseconds",
                                        [FAE_OPT_BYTES] = "a size such as 65536, 64KiB, 4MiB or 1GiB" };
    uint64_t v;

    if (!read_number(s->opt, s->text, &v)) {
        snprintf(s->why, s->size, "%s must be %s, not \"%.64s\"", s->opt->name,
                 base_of(s->opt) == 8 ? "an octal number" : what[s->opt->type], s->text);
        return FAE_BAD_CONFIG;
    }
    if (v < s->opt->min || v > s->opt->max)
        return out_of_range(s);
    *(uint64_t *)s->field = v;
    return FAE_OK;
}

static enum fae_err set_bool(const struct set *s)
{
    bool yes = strcmp(s->text, "true") == 0;

    if (!yes && strcmp(s->text, "false") != 0) {
        snprintf(s->why, s->size, "%s must be true or false, not \"%.64s\"", s->opt->name, s->text);
        return FAE_BAD_CONFIG;
    }
    *(bool *)s->field = yes;
    return FAE_OK;
}

static enum fae_err set_string(const struct set *s)
{
    size_t len = strlen(s->text), max = s->opt->max ? s->opt->max : FAE_OPT_TEXT - 1;

    if (len < s->opt->min) {
        if (len == 0)
            snprintf(s->why, s->size, "%s must not be empty", s->opt->name);
        else
            snprintf(s->why, s->size, "%s must have at least %" PRIu64 " bytes, not %zu", s->opt->name, s->opt->min,
                     len);
        return FAE_BAD_CONFIG;
    }
    if (len > max) {
        snprintf(s->why, s->size, "%s may have %zu bytes, not %zu", s->opt->name, max, len);
        return FAE_BAD_CONFIG;
    }
    memcpy(s->field, s->text, len + 1);
    return FAE_OK;
}

/* Words with one blank between them, whatever stood there. */
static enum fae_err set_list(const struct set *s)
{
    static const char blanks[] = " \t\r\n";
    char *field = s->field, list[FAE_OPT_LIST_TEXT];
    const char *p = s->text + strspn(s->text, blanks);
    size_t len = 0;

    while (*p) {
        size_t n = strcspn(p, blanks);

        if (len + (len > 0) + n >= sizeof list) {
            snprintf(s->why, s->size, "%s is too long: its words may have %zu bytes in all", s->opt->name,
                     sizeof list - 1);
            return FAE_BAD_CONFIG;
        }
        if (len)
            list[len++] = ' ';
        memcpy(list + len, p, n);
        len += n;
        p += n;
        p += strspn(p, blanks);
    }
    memcpy(field, list, len);
    field[len] = '\0';
    return FAE_OK;
}

static enum fae_err set_word(const struct set *s)
{
    struct fae_suggest near = { .word = s->text };
    char words[FAE_OPT_TEXT], *rest = words, *word;
    uint64_t index = 0;

    FAE_ASSERT(strlen(s->opt->words) < sizeof words);
    strcpy(words, s->opt->words);
    while ((word = strsep(&rest, "|"))) {
        if (strcmp(word, s->text) == 0) {
            *(uint64_t *)s->field = index;
            return FAE_OK;
        }
        fae_suggest_offer(&near, word);
        index++;
    }
    snprintf(s->why, s->size, "%s must be one of %s, not \"%.64s\"%s%s%s", s->opt->name, s->opt->words, s->text,
             near.best ? ": did you mean \"" : "", near.best ? near.best : "", near.best ? "\"?" : "");
    return FAE_BAD_CONFIG;
}

static enum fae_err (*const setters[])(const struct set *s) = {
    [FAE_OPT_UINT] = set_number,   [FAE_OPT_MS] = set_number, [FAE_OPT_BYTES] = set_number, [FAE_OPT_BOOL] = set_bool,
    [FAE_OPT_STRING] = set_string, [FAE_OPT_ENUM] = set_word, [FAE_OPT_LIST] = set_list,
};

enum fae_err fae_opt_set(const struct fae_opt *opt, void *into, const char *text, char *why_out, size_t why_size)
{
    const struct set s = { opt, (char *)into + opt->offset, text, why_out, why_size };

    return setters[opt->type](&s);
}

static void get_word(const struct fae_opt *opt, uint64_t index, char *text)
{
    const char *word = opt->words;

    for (; index; index--)
        word = strchr(word, '|') + 1;
    snprintf(text, FAE_OPT_LIST_TEXT, "%.*s", (int)strcspn(word, "|"), word);
}

const char *fae_opt_get(const struct fae_opt *opt, const void *from, char *text)
{
    const void *field = (const char *)from + opt->offset;

    switch (opt->type) {
    case FAE_OPT_UINT:
    case FAE_OPT_MS:
    case FAE_OPT_BYTES: write_number(opt, *(const uint64_t *)field, text, FAE_OPT_LIST_TEXT); break;
    case FAE_OPT_BOOL: strcpy(text, *(const bool *)field ? "true" : "false"); break;
    case FAE_OPT_ENUM: get_word(opt, *(const uint64_t *)field, text); break;
    case FAE_OPT_STRING:
    case FAE_OPT_LIST: strcpy(text, field); break;
    }
    return text;
}

bool fae_opt_equal(const struct fae_opt *opt, const void *a, const void *b)
{
    char x[FAE_OPT_LIST_TEXT], y[FAE_OPT_LIST_TEXT];

    return strcmp(fae_opt_get(opt, a, x), fae_opt_get(opt, b, y)) == 0;
}

void fae_opt_copy(const struct fae_opt *opt, void *into, const void *from)
{
    static const size_t sizes[] = {
        [FAE_OPT_UINT] = sizeof(uint64_t),  [FAE_OPT_MS] = sizeof(uint64_t), [FAE_OPT_BYTES] = sizeof(uint64_t),
        [FAE_OPT_ENUM] = sizeof(uint64_t),  [FAE_OPT_BOOL] = sizeof(bool),   [FAE_OPT_STRING] = FAE_OPT_TEXT,
        [FAE_OPT_LIST] = FAE_OPT_LIST_TEXT,
    };

    memcpy((char *)into + opt->offset, (const char *)from + opt->offset, sizes[opt->type]);
}

/* ---- tables ---- */

void fae_opt_defaults(const struct fae_opt *opts, unsigned n, void *into)
{
    for (unsigned i = 0; i < n; i++) {
        char why[256];

        if (opts[i].type == FAE_OPT_STRING) /* "" where the option must be given */
            snprintf((char *)into + opts[i].offset, FAE_OPT_TEXT, "%s", opts[i].init);
        else
            FAE_ASSERT(fae_opt_set(&opts[i], into, opts[i].init, why, sizeof why) == FAE_OK);
    }
}

const struct fae_opt *fae_opt_find(const struct fae_opt *opts, unsigned n, const char *name)
{
    for (unsigned i = 0; i < n; i++)
        if (strcmp(opts[i].name, name) == 0)
            return &opts[i];
    return NULL;
}

void fae_opt_unknown(const struct fae_opt *opts, unsigned n, const char *name, char *why_out, size_t why_size)
{
    struct fae_suggest near = { .word = name };

    for (unsigned i = 0; i < n; i++)
        fae_suggest_offer(&near, opts[i].name);
    if (near.best)
        snprintf(why_out, why_size, "unknown option \"%.64s\": did you mean \"%s\"?", name, near.best);
    else
        snprintf(why_out, why_size, "unknown option \"%.64s\"", name);
}
