/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rows out and in. Reading works on a copy of the config that replaces the original only when every row was good.
 */
#include "base/config_rows.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_valid.h"

struct row {
    const char *section, *name, *value; /* lent by the bytes */
    unsigned index, line;
};

struct rows {
    const char *p, *end;
    unsigned n_rows;
    bool ended;
    struct fae_config *config;
    struct fae_buf servants; /* the JSON object so far, without its last brace */
    unsigned n_servants;
    const char *servant[FAE_CONFIG_SERVANTS_MAX];
    char *why;
    size_t why_size;
};

/* ---- out ---- */

static void add_text(struct fae_buf *out, const char *text)
{
    fae_buf_add(out, text, strlen(text) + 1);
}

static void add_number(struct fae_buf *out, unsigned number)
{
    char text[16];

    snprintf(text, sizeof text, "%u", number);
    add_text(out, text);
}

void fae_config_row(struct fae_buf *out, const char *section, unsigned index, const char *name, const char *value,
                    unsigned line)
{
    add_text(out, section);
    add_number(out, index);
    add_text(out, name);
    add_text(out, value);
    add_number(out, line);
}

void fae_config_rows_end(struct fae_buf *out)
{
    unsigned n_texts = 0;

    for (size_t i = 0; i < out->len; i++)
        n_texts += out->data[i] == '\0';
    fae_config_row(out, "end", n_texts / 5, "", "", 0);
}

/* ---- in ---- */

static const char *next_text(struct rows *rows)
{
    const char *text = rows->p;
    const char *nul = memchr(text, '\0', (size_t)(rows->end - text));

    if (!nul)
        return NULL;
    rows->p = nul + 1;
    return text;
}

static bool next_number(struct rows *rows, unsigned *number_out)
{
    const char *text = next_text(rows);
    unsigned number = 0;

    if (!text || !*text || strlen(text) > 8)
        return false;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return false;
        number = number * 10 + (unsigned)(*text - '0');
    }
    *number_out = number;
    return true;
}

static bool next_row(struct rows *rows, struct row *row)
{
    return rows->p < rows->end && (row->section = next_text(rows)) && next_number(rows, &row->index) &&
           (row->name = next_text(rows)) && (row->value = next_text(rows)) && next_number(rows, &row->line);
}

static enum fae_err broken(struct rows *rows)
{
    snprintf(rows->why, rows->why_size, "the configuration's rows are damaged after row %u", rows->n_rows);
    return FAE_BAD_CONFIG;
}

static enum fae_err set(struct rows *rows, const struct row *row, const struct fae_opt *opts, unsigned n, void *into)
{
    const struct fae_opt *opt = fae_opt_find(opts, n, row->name);
    enum fae_err err = FAE_BAD_CONFIG;
    char why[512];

    if (opt)
        err = fae_opt_set(opt, into, row->value, why, sizeof why);
    else
        fae_opt_unknown(opts, n, row->name, why, sizeof why);
    if (err)
        snprintf(rows->why, rows->why_size, "line %u: %s%s%s", row->line, row->section, *row->section ? ": " : "", why);
    return err;
}

static enum fae_err apply_option(struct rows *rows, const struct row *row)
{
    return set(rows, row, fae_config_opts, fae_config_n_opts, rows->config);
}

static enum fae_err apply_listen(struct rows *rows, const struct row *row)
{
    struct fae_config *config = rows->config;
    bool starts = strcmp(row->name, "addr") == 0;

    if (row->index != config->n_listen - !starts || (!starts && config->n_listen == 0))
        return broken(rows);
    if (row->index >= FAE_LISTENERS_MAX) {
        snprintf(rows->why, rows->why_size, "line %u: listen: at most %d", row->line, FAE_LISTENERS_MAX);
        return FAE_BAD_CONFIG;
    }
    if (starts) {
        if (!*row->value)
            return broken(rows);
        fae_opt_defaults(fae_config_listen_opts, fae_config_n_listen_opts, &config->listen[config->n_listen++]);
    }
    return set(rows, row, fae_config_listen_opts, fae_config_n_listen_opts, &config->listen[row->index]);
}

static enum fae_err apply_servant(struct rows *rows, const struct row *row)
{
    if (row->index != rows->n_servants || row->index >= FAE_CONFIG_SERVANTS_MAX || !fae_config_name_ok(row->name))
        return broken(rows);
    for (unsigned i = 0; i < rows->n_servants; i++)
        if (strcmp(rows->servant[i], row->name) == 0)
            return broken(rows);
    if (row->value[0] != '{' || !fae_json_valid(row->value, strlen(row->value)))
        return broken(rows);
    fae_buf_printf(&rows->servants, "%c\"%s\":%s", rows->n_servants ? ',' : '{', row->name, row->value);
    rows->servant[rows->n_servants++] = row->name;
    return FAE_OK;
}

static enum fae_err apply_end(struct rows *rows, const struct row *row)
{
    if (row->index != rows->n_rows || *row->name || *row->value || rows->p != rows->end)
        return broken(rows);
    rows->ended = true;
    return FAE_OK;
}

static const struct {
    const char *section;
    enum fae_err (*apply)(struct rows *rows, const struct row *row);
} sections[] = {
    { "", apply_option },
    { "listen", apply_listen },
    { "servant", apply_servant },
    { "end", apply_end },
};

static enum fae_err apply_row(struct rows *rows, const struct row *row)
{
    for (unsigned i = 0; i < sizeof sections / sizeof *sections; i++)
        if (strcmp(sections[i].section, row->section) == 0)
            return sections[i].apply(rows, row);
    return broken(rows);
}

static enum fae_err apply_all(struct rows *rows)
{
    struct row row;
    enum fae_err err;

    for (; !rows->ended; rows->n_rows++) {
        if (!next_row(rows, &row))
            return broken(rows);
        err = apply_row(rows, &row);
        if (err)
            return err;
    }
    return FAE_OK;
}

enum fae_err fae_config_apply(struct fae_config *config, const void *bytes, size_t len, char *why_out, size_t why_size)
{
    struct fae_config next = *config;
    struct rows rows = {
        .p = bytes, .end = (const char *)bytes + len, .config = &next, .why = why_out, .why_size = why_size
    };
    const char *name;
    enum fae_err err;

    next.n_listen = 0;
    next.servants_json = NULL;
    err = len && len <= FAE_CONFIG_ROWS_MAX ? apply_all(&rows) : broken(&rows);
    if (err)
        goto fail;
    err = fae_config_agrees(&next, &name, why_out, why_size);
    if (err)
        goto fail;
    if (rows.n_servants) {
        fae_buf_add(&rows.servants, "}", 2); /* with its NUL */
        next.servants_json = (char *)rows.servants.data;
    }
    free(config->servants_json);
    *config = next;
    return FAE_OK;

fail:
    fae_buf_fini(&rows.servants);
    return err;
}

/* ---- what both ends ask ---- */

static const struct {
    const char *low, *high;
    bool may_equal;
} orders[] = {
    { "watchdog_warn_ms", "watchdog_kill_ms", false },
    { "drain_spread_ms", "drain_ms", true },
};

static uint64_t number_of(const struct fae_config *config, const char *name)
{
    const struct fae_opt *opt = fae_opt_find(fae_config_opts, fae_config_n_opts, name);
    uint64_t value;

    memcpy(&value, (const char *)config + opt->offset, sizeof value);
    return value;
}

bool fae_config_disagrees(const struct fae_config *config, unsigned *cursor, const char *names_out[2], char *why_out,
                          size_t why_size)
{
    while (*cursor < sizeof orders / sizeof *orders) {
        unsigned i = (*cursor)++;
        uint64_t low = number_of(config, orders[i].low), high = number_of(config, orders[i].high);

        if (low < high || (orders[i].may_equal && low == high))
            continue;
        names_out[0] = orders[i].low;
        names_out[1] = orders[i].high;
        snprintf(why_out, why_size, "%s must be %s %s (%" PRIu64 "), not %" PRIu64, orders[i].low,
                 orders[i].may_equal ? "at most" : "less than", orders[i].high, high, low);
        return true;
    }
    return false;
}

enum fae_err fae_config_agrees(const struct fae_config *config, const char **name_out, char *why_out, size_t why_size)
{
    const char *names[2];
    unsigned cursor = 0;

    if (!fae_config_disagrees(config, &cursor, names, why_out, why_size))
        return FAE_OK;
    *name_out = names[0];
    return FAE_BAD_CONFIG;
}

bool fae_config_name_ok(const char *name)
{
    size_t len = strlen(name);

    return len > 0 && len <= FAE_CONFIG_NAME_MAX && !(*name >= '0' && *name <= '9') &&
           strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == len;
}
