/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What can only be said when the file has ended: calls that lack their table, options and sections that do not go
 * together, and what this machine has to say (accounts, networks).
 */
#include <pwd.h>
#include <stdlib.h>
#include <string.h>

#include "base/config_check.h"
#include "vm/conf_state.h"

static unsigned option_line(const struct fae_conf *conf, const char *name)
{
    return conf->options[fae_opt_find(fae_config_opts, fae_config_n_opts, name) - fae_config_opts].line;
}

static const struct fae_conf_entries *entries_of(const struct fae_conf *conf, const struct fae_config_section *section)
{
    return &conf->sections[section - fae_config_sections];
}

static const struct fae_conf_entry *entry_of(const struct fae_conf *conf, const struct fae_config_section *section,
                                             unsigned row)
{
    const struct fae_conf_entries *entries = entries_of(conf, section);
    unsigned i = 0;

    while (i + 1 < entries->n && entries->entries[i].row != (int)row)
        i++;
    return &entries->entries[i];
}

/* An error in an option of an entry. */
static void fail_entry(struct fae_conf *conf, const char *section_name, unsigned row, const char *option,
                       const char *why)
{
    const struct fae_config_section *section = fae_config_section(section_name);
    const struct fae_conf_entry *entry = entry_of(conf, section, row);
    char prefix[FAE_OPT_TEXT + 32];

    fae_conf_fail(conf, fae_conf_source_key(&conf->source, entry->line, section->name, option), "%s%s",
                  fae_conf_prefix(section, entry->key, prefix, sizeof prefix), why);
}

/* ---- tables ---- */

static void check_tables(struct fae_conf *conf, const struct fae_conf_entries *entries, const char *word)
{
    for (unsigned i = 0; i < entries->n; i++)
        if (!entries->entries[i].has_table)
            fae_conf_fail(conf, entries->entries[i].line, "%s \"%s\" has no table: write %s \"%s\" { ... }", word,
                          entries->entries[i].key, word, entries->entries[i].key);
}

static bool has_table_for_all(const struct fae_conf_entries *entries)
{
    for (unsigned i = 0; i < entries->n; i++)
        if (!entries->entries[i].has_table)
            return false;
    return true;
}

/* ---- what goes together ---- */

static void on_clash(void *arg, const struct fae_config_clash *clash, const char *why)
{
    struct fae_conf *conf = arg;
    const struct fae_conf_entries *roles = entries_of(conf, fae_config_section("role"));

    if (*clash->section) {
        /* A role that was wrong is missing now, but it was told of. */
        if (strcmp(clash->name, "roles") == 0 && (roles->has_bad || !has_table_for_all(roles)))
            return;
        fail_entry(conf, clash->section, clash->index, clash->name, why);
    } else if (!conf->has_bad_option) { /* one that was has its default, which may fit nothing else */
        unsigned line = option_line(conf, clash->name), other = clash->other ? option_line(conf, clash->other) : 0;

        fae_conf_fail(conf, line > other ? line : other, "%s", why);
    }
}

static void check_admin(struct fae_conf *conf)
{
    const struct fae_config *config = &conf->config;
    unsigned line = option_line(conf, "admin");
    struct fae_addr addr;
    char why[256];

    if (!*config->admin)
        return;
    if (fae_addr_parse(config->admin, &addr, why, sizeof why))
        fae_conf_fail(conf, line, "admin: %s", why);
    else if (fae_addr_is_unix(&addr))
        fae_conf_fail(conf, line, "admin must be an address such as 127.0.0.1:9101, not %s", config->admin);
    else if (!conf->has_bad_option && !fae_addr_is_loopback(&addr) &&
             !(*config->admin_token && *config->admin_cert && *config->admin_key))
        fae_conf_fail(conf, line,
                      "admin: %s is not a loopback address, which needs admin_token, admin_cert and admin_key",
                      config->admin);
}

/* ---- this machine ---- */

static bool is_number(const char *text)
{
    return text[strspn(text, "0123456789")] == '\0' && strlen(text) <= 10 && strtoull(text, NULL, 10) < UINT32_MAX;
}

static void check_accounts(struct fae_conf *conf)
{
    for (unsigned i = 0; i < conf->config.n_account; i++) {
        const char *name = conf->config.account[i].name;

        if (!is_number(name) && !getpwnam(name))
            fail_entry(conf, "account", i, "name", "there is no such account on this machine");
    }
}

void fae_conf_check_whole(struct fae_conf *conf)
{
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        if (!fae_config_sections[i].alone)
            check_tables(conf, &conf->sections[i], fae_config_sections[i].name);
    for (unsigned i = 0; i < FAE_CONF_N_TABLES; i++)
        check_tables(conf, &conf->tables[i], fae_conf_table_words[i]);
    check_admin(conf);
    check_accounts(conf);
    fae_config_clashes(&conf->config, on_clash, conf);
}
