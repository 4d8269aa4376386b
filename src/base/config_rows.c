/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rows out and in. Reading works on a copy of the config that replaces the original only when every row was good.
 */
#include "base/config_rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/config_check.h"
#include "base/json_valid.h"

struct row {
    const char *section, *name, *value; /* lent by the bytes */
    unsigned index, line;
};

/* `servant` or `plugin`. */
struct tables {
    struct fae_buf json; /* the object so far, without its last brace */
    unsigned n;
    const char *names[FAE_CONFIG_SERVANTS_MAX]; /* lent by the bytes */
};

struct rows {
    const char *p, *end;
    unsigned n_rows;
    bool ended;
    struct fae_config *config;
    struct tables servants, plugins;
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

static void write_opts(struct fae_buf *out, const char *section, unsigned index, const struct fae_opt *opts, unsigned n,
                       const void *from)
{
    char text[FAE_OPT_LIST_TEXT];

    for (unsigned i = 0; i < n; i++)
        fae_config_row(out, section, index, opts[i].name, fae_opt_get(&opts[i], from, text), 0);
}

static void write_tables(struct fae_buf *out, const char *section, const char *json)
{
    struct fae_config_table table;
    size_t cursor = 0;
    char *text;

    for (unsigned i = 0; fae_config_next_table(json, &cursor, &table); i++) {
        text = fae_strndup(table.json, table.len);
        fae_config_row(out, section, i, table.name, text, 0);
        free(text);
    }
}

void fae_config_write(struct fae_buf *out, const struct fae_config *config)
{
    struct fae_buf rows = { 0 };

    write_opts(&rows, "", 0, fae_config_opts, fae_config_n_opts, config);
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        for (unsigned at = 0; at < *fae_config_count(section, config); at++)
            write_opts(&rows, section->name, at, section->opts, *section->n_opts,
                       fae_config_entry(section, config, at));
    }
    write_tables(&rows, "servant", config->servants_json);
    write_tables(&rows, "plugin", config->plugins_json);
    fae_config_rows_end(&rows);
    fae_buf_add(out, rows.data, rows.len);
    fae_buf_fini(&rows);
}

/* ---- tables of servants and plugins ---- */

/* Where the JSON value at p ends: at a comma or brace outside its own. */
static const char *end_of_value(const char *p)
{
    unsigned depth = 0;
    bool in_text = false;

    for (; *p; p++) {
        if (in_text && *p == '\\' && p[1])
            p++;
        else if (*p == '"')
            in_text = !in_text;
        else if (!in_text && (*p == '{' || *p == '['))
            depth++;
        else if (!in_text && depth && (*p == '}' || *p == ']'))
            depth--;
        else if (!in_text && !depth && (*p == ',' || *p == '}'))
            break;
    }
    return p;
}

bool fae_config_next_table(const char *json, size_t *cursor, struct fae_config_table *table_out)
{
    const char *p, *quote;
    size_t n;

    if (!json)
        return false;
    p = json + *cursor;
    if (p[0] == '\0' || p[0] == '}' || p[1] != '"') /* each begins with the brace or comma before its name */
        return false;
    p += 2;
    quote = strchr(p, '"');
    n = quote ? (size_t)(quote - p) : sizeof table_out->name;
    if (n >= sizeof table_out->name || quote[1] != ':')
        return false;
    memcpy(table_out->name, p, n);
    table_out->name[n] = '\0';
    table_out->json = quote + 2;
    p = end_of_value(table_out->json);
    table_out->len = (size_t)(p - table_out->json);
    *cursor = (size_t)(p - json);
    return true;
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

static enum fae_err wrong(struct rows *rows, const struct row *row, const char *why)
{
    snprintf(rows->why, rows->why_size, "line %u: %s%s%s", row->line, row->section, *row->section ? ": " : "", why);
    return FAE_BAD_CONFIG;
}

static enum fae_err set(struct rows *rows, const struct row *row, const struct fae_opt *opts, unsigned n, void *into)
{
    const struct fae_opt *opt = fae_opt_find(opts, n, row->name);
    char why[512];

    if (!opt) {
        fae_opt_unknown(opts, n, row->name, why, sizeof why);
        return wrong(rows, row, why);
    }
    if (fae_opt_set(opt, into, row->value, why, sizeof why) ||
        fae_config_value_ok(row->section, opt, into, why, sizeof why))
        return wrong(rows, row, why);
    return FAE_OK;
}

static enum fae_err apply_option(struct rows *rows, const struct row *row)
{
    return set(rows, row, fae_config_opts, fae_config_n_opts, rows->config);
}

/* ---- entries of sections ---- */

static const char *key_of(const struct rows *rows, const struct fae_config_section *section, unsigned i)
{
    return (const char *)fae_config_entry(section, rows->config, i) + section->opts->offset;
}

/* Its key comes first. Where keys may stand alone they may also stand twice ("tcp://127.0.0.1:0"). */
static enum fae_err begin_entry(struct rows *rows, const struct row *row, const struct fae_config_section *section)
{
    unsigned *n = fae_config_count(section, rows->config);
    char why[64];

    if (row->index != *n || !*row->value)
        return broken(rows);
    if (*n >= section->max) {
        snprintf(why, sizeof why, "at most %u", section->max);
        return wrong(rows, row, why);
    }
    for (unsigned i = 0; i < *n && !section->alone; i++)
        if (strcmp(key_of(rows, section, i), row->value) == 0)
            return broken(rows);
    fae_opt_defaults(section->opts, *section->n_opts, fae_config_entry(section, rows->config, (*n)++));
    return FAE_OK;
}

static enum fae_err apply_section(struct rows *rows, const struct row *row, const struct fae_config_section *section)
{
    unsigned n = *fae_config_count(section, rows->config);
    enum fae_err err = FAE_OK;

    if (strcmp(row->name, section->opts->name) == 0)
        err = begin_entry(rows, row, section);
    else if (n == 0 || row->index != n - 1)
        return broken(rows);
    return err ? err
               : set(rows, row, section->opts, *section->n_opts, fae_config_entry(section, rows->config, row->index));
}

static bool entries_are_whole(const struct fae_config *config)
{
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        for (unsigned at = 0; at < *fae_config_count(&fae_config_sections[i], config); at++)
            if (fae_config_missing(&fae_config_sections[i], fae_config_entry(&fae_config_sections[i], config, at)))
                return false;
    return true;
}

/* ---- tables of servants and plugins, and the end ---- */

static enum fae_err apply_table(struct rows *rows, const struct row *row, struct tables *tables)
{
    if (row->index != tables->n || row->index >= FAE_CONFIG_SERVANTS_MAX || !fae_config_name_ok(row->name))
        return broken(rows);
    for (unsigned i = 0; i < tables->n; i++)
        if (strcmp(tables->names[i], row->name) == 0)
            return broken(rows);
    if (row->value[0] != '{' || !fae_json_valid(row->value, strlen(row->value)))
        return broken(rows);
    fae_buf_printf(&tables->json, "%c\"%s\":%s", tables->n ? ',' : '{', row->name, row->value);
    tables->names[tables->n++] = row->name;
    return FAE_OK;
}

static enum fae_err apply_servant(struct rows *rows, const struct row *row)
{
    return apply_table(rows, row, &rows->servants);
}

static enum fae_err apply_plugin(struct rows *rows, const struct row *row)
{
    return apply_table(rows, row, &rows->plugins);
}

static enum fae_err apply_end(struct rows *rows, const struct row *row)
{
    if (row->index != rows->n_rows || *row->name || *row->value || rows->p != rows->end)
        return broken(rows);
    if (!entries_are_whole(rows->config))
        return broken(rows);
    rows->ended = true;
    return FAE_OK;
}

static const struct {
    const char *section;
    enum fae_err (*apply)(struct rows *rows, const struct row *row);
} others[] = {
    { "", apply_option },
    { "servant", apply_servant },
    { "plugin", apply_plugin },
    { "end", apply_end },
};

static enum fae_err apply_row(struct rows *rows, const struct row *row)
{
    const struct fae_config_section *section = fae_config_section(row->section);

    if (section)
        return apply_section(rows, row, section);
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
        if (strcmp(others[i].section, row->section) == 0)
            return others[i].apply(rows, row);
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

/* The whole object, or NULL; empties the buffer. */
static char *take_json(struct tables *tables)
{
    if (tables->n == 0)
        return NULL;
    fae_buf_add(&tables->json, "}", 2); /* with its NUL */
    return (char *)tables->json.data;
}

static void begin(struct rows *rows, const struct fae_config *config)
{
    *rows->config = *config;
    rows->config->servants_json = rows->config->plugins_json = NULL;
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        *fae_config_count(&fae_config_sections[i], rows->config) = 0;
}

enum fae_err fae_config_apply(struct fae_config *config, const void *bytes, size_t len, char *why_out, size_t why_size)
{
    struct rows rows = { .p = bytes, .end = (const char *)bytes + len, .why = why_out, .why_size = why_size };
    const char *name;
    enum fae_err err;

    rows.config = fae_alloc(sizeof *rows.config); /* large for a stack */
    begin(&rows, config);
    err = len && len <= FAE_CONFIG_ROWS_MAX ? apply_all(&rows) : broken(&rows);
    if (!err)
        err = fae_config_agrees(rows.config, &name, why_out, why_size);
    if (err) {
        fae_buf_fini(&rows.servants.json);
        fae_buf_fini(&rows.plugins.json);
    } else {
        rows.config->servants_json = take_json(&rows.servants);
        rows.config->plugins_json = take_json(&rows.plugins);
        fae_config_fini(config);
        *config = *rows.config;
    }
    free(rows.config);
    return err;
}
