/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Walks the option tables with one config or two.
 */
#include "base/config_report.h"

#include <stdbool.h>
#include <string.h>

#include "base/config_rows.h"

/* On one line, and "" when there is nothing. */
static void add_text(struct fae_buf *out, const char *text)
{
    if (!*text)
        fae_buf_add(out, "\"\"", 2);
    for (; *text; text++)
        fae_buf_add(out, (unsigned char)*text < ' ' || *text == 0x7f ? "?" : text, 1);
}

static void add_value(struct fae_buf *out, const struct fae_opt *opt, const void *from)
{
    char text[FAE_OPT_LIST_TEXT];

    fae_opt_get(opt, from, text);
    add_text(out, opt->secret && *text ? "(set)" : text);
}

static const char *key_of(const struct fae_config_section *section, const struct fae_config *config, unsigned i)
{
    return (const char *)fae_config_entry(section, config, i) + section->opts->offset;
}

/* ---- what differs ---- */

static void diff_option(struct fae_buf *out, const struct fae_opt *opt, const struct fae_config *from,
                        const struct fae_config *to)
{
    if (fae_opt_equal(opt, from, to))
        return;
    fae_buf_printf(out, "%s: ", opt->name);
    if (opt->secret) {
        fae_buf_printf(out, "changed");
    } else {
        add_value(out, opt, from);
        fae_buf_printf(out, " -> ");
        add_value(out, opt, to);
    }
    fae_buf_printf(out, opt->at_start ? " needs a restart\n" : "\n");
}

static void say(struct fae_buf *out, const char *word, const char *key, const char *what, bool at_start)
{
    fae_buf_printf(out, "%s ", word);
    add_text(out, key);
    fae_buf_printf(out, ": %s%s\n", what, at_start ? ", needs a restart" : "");
}

/* An entry with that key that has no partner yet; a key may be there several times ("tcp://127.0.0.1:0"). */
static int find_entry(const struct fae_config_section *section, const struct fae_config *config, const char *key,
                      const bool *taken)
{
    for (unsigned i = 0; i < *fae_config_count(section, config); i++)
        if (!taken[i] && strcmp(key_of(section, config, i), key) == 0)
            return (int)i;
    return -1;
}

static bool entries_equal(const struct fae_config_section *section, const void *a, const void *b)
{
    for (unsigned i = 0; i < *section->n_opts; i++)
        if (!fae_opt_equal(&section->opts[i], a, b))
            return false;
    return true;
}

static void diff_section(struct fae_buf *out, const struct fae_config_section *section, const struct fae_config *from,
                         const struct fae_config *to)
{
    bool taken[FAE_CONFIG_ENTRIES_MAX] = { false };
    bool at_start = section->opts->at_start;

    for (unsigned i = 0; i < *fae_config_count(section, to); i++) {
        const char *key = key_of(section, to, i);
        int was = find_entry(section, from, key, taken);

        if (was < 0)
            say(out, section->name, key, "added", at_start);
        else if (!entries_equal(section, fae_config_entry(section, from, (unsigned)was),
                                fae_config_entry(section, to, i)))
            say(out, section->name, key, "changed", at_start);
        if (was >= 0)
            taken[was] = true;
    }
    for (unsigned i = 0; i < *fae_config_count(section, from); i++)
        if (!taken[i])
            say(out, section->name, key_of(section, from, i), "removed", at_start);
}

static bool find_table(const char *json, const char *name, struct fae_config_table *table_out)
{
    size_t cursor = 0;

    while (fae_config_next_table(json, &cursor, table_out))
        if (strcmp(table_out->name, name) == 0)
            return true;
    return false;
}

static void diff_tables(struct fae_buf *out, const char *word, const char *from, const char *to)
{
    struct fae_config_table table, other;
    size_t cursor = 0;
    bool any = false;

    for (; fae_config_next_table(to, &cursor, &table);) {
        bool was = find_table(from, table.name, &other);

        if (was && table.len == other.len && memcmp(table.json, other.json, table.len) == 0)
            continue;
        say(out, word, table.name, was ? "changed" : "added", false);
        any = true;
    }
    for (cursor = 0; fae_config_next_table(from, &cursor, &table);)
        if (!find_table(to, table.name, &other)) {
            say(out, word, table.name, "removed", false);
            any = true;
        }
    if (!any && from && to && strcmp(from, to) != 0)
        fae_buf_printf(out, "%s: in another order\n", word);
}

void fae_config_diff(struct fae_buf *out, const struct fae_config *from, const struct fae_config *to)
{
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        diff_option(out, &fae_config_opts[i], from, to);
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        diff_section(out, &fae_config_sections[i], from, to);
    diff_tables(out, "servant", from->servants_json, to->servants_json);
    diff_tables(out, "plugin", from->plugins_json, to->plugins_json);
}

/* ---- what stays ---- */

void fae_config_keep(struct fae_config *into, const struct fae_config *from)
{
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        if (fae_config_opts[i].at_start)
            fae_opt_copy(&fae_config_opts[i], into, from);
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        if (!section->opts->at_start)
            continue;
        *fae_config_count(section, into) = *fae_config_count(section, from);
        memcpy(fae_config_entry(section, into, 0), fae_config_entry(section, from, 0), section->size * section->max);
    }
}

/* ---- what it says ---- */

static void show_tables(struct fae_buf *out, const char *word, const char *json)
{
    struct fae_config_table table;
    size_t cursor = 0;

    /* What is a secret in there, only the servant knows. */
    while (fae_config_next_table(json, &cursor, &table))
        fae_buf_printf(out, "%s \"%s\" %s\n", word, table.name, table.len > 2 ? "(set)" : "{}");
}

void fae_config_show(struct fae_buf *out, const struct fae_config *config)
{
    for (unsigned i = 0; i < fae_config_n_opts; i++) {
        fae_buf_printf(out, "%s ", fae_config_opts[i].name);
        add_value(out, &fae_config_opts[i], config);
        fae_buf_add(out, "\n", 1);
    }
    for (unsigned i = 0; i < fae_config_n_sections; i++) {
        const struct fae_config_section *section = &fae_config_sections[i];

        for (unsigned at = 0; at < *fae_config_count(section, config); at++)
            for (unsigned o = 1; o < *section->n_opts; o++) {
                fae_buf_printf(out, "%s \"", section->name);
                add_text(out, key_of(section, config, at));
                fae_buf_printf(out, "\" %s ", section->opts[o].name);
                add_value(out, &section->opts[o], fae_config_entry(section, config, at));
                fae_buf_add(out, "\n", 1);
            }
    }
    show_tables(out, "servant", config->servants_json);
    show_tables(out, "plugin", config->plugins_json);
}
