/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Sections: a key and a table of options, whatever the section. Where the key may stand alone (listen) it may also
 * stand inside the table.
 */
#include <stdio.h>
#include <string.h>

#include "base/config_check.h"
#include "vm/conf_json.h"
#include "vm/conf_state.h"

/* A call that is being read. */
struct at {
    struct fae_conf *conf;
    const struct fae_config_section *section;
    struct fae_conf_entries *entries;
    unsigned line;
    char prefix[FAE_OPT_TEXT + 32];
};

const char *fae_conf_prefix(const struct fae_config_section *section, const char *key, char *text, size_t size)
{
    if (section->alone)
        snprintf(text, size, "%s: ", section->name);
    else
        snprintf(text, size, "%s \"%.200s\": ", section->name, key);
    return text;
}

static struct at begin(lua_State *L, unsigned line)
{
    unsigned nth = (unsigned)lua_tointeger(L, lua_upvalueindex(2));
    struct fae_conf *conf = fae_conf_of(L);

    return (struct at){ conf, &fae_config_sections[nth], &conf->sections[nth], line, "" };
}

static unsigned key_line(const struct at *at, const char *key)
{
    return fae_conf_source_key(&at->conf->source, at->line, at->section->name, key);
}

/* ---- the table ---- */

static void unknown_key(const struct at *at, const struct fae_conf_key *key)
{
    const struct fae_config_section *section = at->section;
    char why[256];

    if (key->type == LUA_TNUMBER) {
        if (!section->alone)
            fae_conf_fail(at->conf, at->line, "%snames are needed here, as in %s", at->prefix, section->example);
        else if (key->number != 1)
            fae_conf_fail(at->conf, at->line, "%stakes one address; call %s again for the next", at->prefix,
                          section->name);
        return;
    }
    if (fae_opt_find(section->opts + !section->alone, *section->n_opts - !section->alone, key->text))
        return;
    fae_opt_unknown(section->opts + !section->alone, *section->n_opts - !section->alone, key->text, why, sizeof why);
    fae_conf_fail(at->conf, key_line(at, key->text), "%s%s", at->prefix, why);
}

static void unknown_keys(lua_State *L, const struct at *at, int table)
{
    const struct fae_conf_key *keys;
    unsigned n;

    if (!fae_conf_keys(L, table, &keys, &n)) {
        fae_conf_fail(at->conf, at->line, "%sa key is no name", at->prefix);
        return;
    }
    for (unsigned i = 0; i < n; i++)
        unknown_key(at, &keys[i]);
    lua_pop(L, 1);
}

/* Takes what the table (or nothing, when it is 0) says, but for the key; false when something does not fit. */
static bool take_table(lua_State *L, const struct at *at, int table, unsigned nth, const char **unix_only_out)
{
    void *into = fae_config_entry(at->section, &at->conf->config, nth);
    bool good = true;

    for (unsigned i = 1; table && i < *at->section->n_opts; i++) {
        const struct fae_opt *opt = &at->section->opts[i];

        lua_pushstring(L, opt->name);
        lua_rawget(L, table);
        if (!lua_isnil(L, -1)) {
            good &=
                fae_conf_take(L, opt, -1, into,
                              &(struct fae_conf_place){ at->section->name, nth, key_line(at, opt->name), at->prefix });
            if (strcmp(opt->name, "mode") == 0 || strcmp(opt->name, "group") == 0)
                *unix_only_out = opt->name;
        }
        lua_pop(L, 1);
    }
    return good;
}

static bool has_all(const struct at *at, unsigned nth)
{
    const struct fae_opt *missing =
        fae_config_missing(at->section, fae_config_entry(at->section, &at->conf->config, nth));

    if (missing)
        fae_conf_fail(at->conf, at->line, "%s%s is missing, as in %s", at->prefix, missing->name, at->section->example);
    return !missing;
}

/* Makes an entry of the key at `key` and the table at `table` (0: none). True: it is the config's next, and its rows
 * are there; it counts once the caller has raised *fae_config_count. */
static bool take_entry(lua_State *L, const struct at *at, int key, int table, const char **unix_only_out)
{
    unsigned nth = *fae_config_count(at->section, &at->conf->config);
    void *into = fae_config_entry(at->section, &at->conf->config, nth);
    char prefix[64];
    bool good;

    snprintf(prefix, sizeof prefix, "%s: ", at->section->name);
    fae_opt_defaults(at->section->opts, *at->section->n_opts, into);
    good = fae_conf_take(L, at->section->opts, key, into,
                         &(struct fae_conf_place){ at->section->name, nth,
                                                   table ? key_line(at, at->section->opts->name) : at->line, prefix });
    good &= take_table(L, at, table, nth, unix_only_out);
    return good && has_all(at, nth);
}

/* ---- limit "shop.*" { ... } ---- */

static void take_named(lua_State *L, struct at *at, struct fae_conf_entry *entry, int table)
{
    size_t mark = at->conf->rows.len;
    const char *unix_only;
    char shown[64];

    fae_conf_prefix(at->section, entry->key, at->prefix, sizeof at->prefix);
    if (entry->has_table) {
        fae_conf_fail(at->conf, at->line, "%stakes one table", at->prefix);
        return;
    }
    entry->has_table = true;
    if (fae_conf_is_unknown(L, table)) {
        at->entries->has_bad = true;
        return;
    }
    if (lua_type(L, table) != LUA_TTABLE) {
        fae_conf_fail(at->conf, at->line, "%stakes a table, not %s", at->prefix,
                      fae_conf_show(L, table, shown, sizeof shown));
        at->entries->has_bad = true;
        return;
    }
    unknown_keys(L, at, table);
    lua_pushstring(L, entry->key);
    if (take_entry(L, at, lua_gettop(L), table, &unix_only)) {
        entry->row = (int)(*fae_config_count(at->section, &at->conf->config))++;
    } else {
        at->conf->rows.len = mark;
        at->entries->has_bad = true;
    }
    lua_pop(L, 1);
}

/* Upvalues: conf, section, entry. */
static int l_take(lua_State *L)
{
    struct fae_conf_entry *entry = lua_touserdata(L, lua_upvalueindex(3));
    struct at at = begin(L, entry->line);

    lua_settop(L, 1);
    take_named(L, &at, entry, 1);
    return 0;
}

static struct fae_conf_entry *add_named(lua_State *L, struct at *at)
{
    size_t len;
    const char *key = lua_type(L, 1) == LUA_TSTRING ? lua_tolstring(L, 1, &len) : NULL;
    char shown[64];

    if (fae_conf_is_unknown(L, 1))
        return NULL;
    if (!key || strlen(key) != len || len == 0 || len >= FAE_OPT_TEXT) {
        fae_conf_fail(at->conf, at->line, "%s takes a text in quotes and a table, as in %s, not %s", at->section->name,
                      at->section->example, fae_conf_show(L, 1, shown, sizeof shown));
        return NULL;
    }
    return fae_conf_new_entry(at->conf, at->entries, at->section->max, at->section->name, key, at->line);
}

/* limit("shop.*", { ... }) too, for those who generate the file. */
int fae_conf_l_section(lua_State *L)
{
    struct at at = begin(L, 0);
    int n_args = lua_gettop(L);
    struct fae_conf_entry *entry;

    at.line = fae_conf_line(L, at.section->name);
    entry = add_named(L, &at);
    if (!entry) {
        at.entries->has_bad = true;
        lua_pushvalue(L, lua_upvalueindex(3)); /* swallows the table */
        return 1;
    }
    if (n_args > 1) {
        lua_settop(L, 2);
        take_named(L, &at, entry, 2);
        return 0;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushlightuserdata(L, entry);
    lua_pushcclosure(L, l_take, 3);
    return 1;
}

/* ---- listen "ADDR", listen { "ADDR", ... } ---- */

/* Fills in key, under which the address must not come again: "" when it may. unix_only: a key that was given and says
 * something about the file of a unix socket, or NULL. */
static bool check_listen(const struct at *at, unsigned nth, const char *unix_only, char *key)
{
    const struct fae_config_listen *listen = &at->conf->config.listen[nth];
    struct fae_addr addr;
    char tcp[FAE_OPT_TEXT], why[256];
    bool tls = fae_config_is_tls(listen);

    snprintf(tcp, sizeof tcp, "%s%s", tls ? "tcp" : "", listen->addr + (tls ? 3 : 0));
    if (fae_addr_parse(tcp, &addr, why, sizeof why)) {
        fae_conf_fail(at->conf, at->line, "%s%s", at->prefix, why);
        return false;
    }
    if (unix_only && !fae_addr_is_unix(&addr)) {
        fae_conf_fail(at->conf, key_line(at, unix_only), "%s%s is for unix sockets, %s is none", at->prefix, unix_only,
                      listen->addr);
        return false;
    }
    if (fae_addr_is_unix(&addr) || fae_addr_port(&addr)) /* any port: as often as you like */
        fae_addr_format(&addr, key);
    for (unsigned i = 0; *key && i < at->entries->n; i++)
        if (strcmp(at->entries->entries[i].key, key) == 0) {
            fae_conf_fail(at->conf, at->line, "%s%s is already on line %u", at->prefix, key,
                          at->entries->entries[i].line);
            return false;
        }
    return true;
}

/* Pushes the address: what stands alone, what comes first in the table, or what has the name. */
static bool push_address(lua_State *L, const struct at *at)
{
    if (lua_type(L, 1) != LUA_TTABLE) {
        lua_pushvalue(L, 1);
        return true;
    }
    lua_pushstring(L, at->section->opts->name);
    lua_rawget(L, 1);
    lua_rawgeti(L, 1, 1);
    if (!lua_isnil(L, -1) && !lua_isnil(L, -2))
        fae_conf_fail(at->conf, key_line(at, at->section->opts->name),
                      "%stakes one address; call %s again for the next", at->prefix, at->section->name);
    if (lua_isnil(L, -1))
        lua_pop(L, 1);
    if (!lua_isnil(L, -1))
        return true;
    fae_conf_fail(at->conf, at->line, "%san address is missing, as in %s { \"unix:fae.sock\" }", at->prefix,
                  at->section->name);
    return false;
}

static bool may_take(lua_State *L, const struct at *at)
{
    const char *name = at->section->name;
    char shown[64];

    if (fae_conf_is_unknown(L, 1))
        return false;
    if (lua_gettop(L) != 1)
        fae_conf_fail(at->conf, at->line, "%s takes one address or one table, not %d values", name, lua_gettop(L));
    else if (lua_type(L, 1) != LUA_TSTRING && lua_type(L, 1) != LUA_TTABLE)
        fae_conf_fail(at->conf, at->line, "%s takes an address in quotes or a table, not %s", name,
                      fae_conf_show(L, 1, shown, sizeof shown));
    else if (at->entries->n == at->section->max)
        fae_conf_fail(at->conf, at->line, "%s: at most %u", name, at->section->max);
    else
        return true;
    return false;
}

int fae_conf_l_alone(lua_State *L)
{
    struct at at = begin(L, 0);
    unsigned *n = fae_config_count(at.section, &at.conf->config);
    size_t mark = at.conf->rows.len;
    const char *unix_only = NULL;
    char key[FAE_ADDR_TEXT] = "";
    int table;

    at.line = fae_conf_line(L, at.section->name);
    fae_conf_prefix(at.section, "", at.prefix, sizeof at.prefix);
    if (!may_take(L, &at))
        return 0;
    table = lua_type(L, 1) == LUA_TTABLE;
    if (table)
        unknown_keys(L, &at, 1);
    if (push_address(L, &at) && take_entry(L, &at, lua_gettop(L), table, &unix_only) &&
        check_listen(&at, *n, unix_only, key)) {
        struct fae_conf_entry *entry = &at.entries->entries[at.entries->n++];

        *entry = (struct fae_conf_entry){ .line = at.line, .has_table = true, .row = (int)(*n)++ };
        memcpy(entry->key, key, sizeof key);
    } else {
        at.conf->rows.len = mark;
    }
    return 0;
}
