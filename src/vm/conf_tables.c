/* SPDX-License-Identifier: BSD-2-Clause
 *
 * servant "name" { ... } and plugin "name" { ... }: settings that the server passes on as JSON without knowing them.
 */
#include <stdio.h>
#include <string.h>

#include "base/config_check.h"
#include "vm/conf_json.h"
#include "vm/conf_state.h"

const char *const fae_conf_table_words[FAE_CONF_N_TABLES] = { "servant", "plugin" };

struct at {
    struct fae_conf *conf;
    const struct fae_conf_entry *entry;
    const char *word;
};

static void on_json_error(void *arg, const char *path, const char *why)
{
    const struct at *at = arg;
    unsigned line = fae_conf_source_key(&at->conf->source, at->entry->line, at->word, path);

    fae_conf_fail(at->conf, line, "%s \"%s\": %s%s%s", at->word, at->entry->key, path, *path ? ": " : "", why);
}

static void take_table(lua_State *L, unsigned kind, struct fae_conf_entry *entry, int index)
{
    struct fae_conf *conf = fae_conf_of(L);
    const char *word = fae_conf_table_words[kind];
    struct at at = { conf, entry, word };
    struct fae_conf_json json = {
        .L = L, .out = &conf->json, .max_bytes = FAE_CONFIG_ROWS_MAX / 4, .on_error = on_json_error, .arg = &at
    };
    char shown[64];

    if (entry->has_table) {
        fae_conf_fail(conf, entry->line, "%s \"%s\" takes one table", word, entry->key);
        return;
    }
    entry->has_table = true;
    if (fae_conf_is_unknown(L, index))
        return;
    if (lua_type(L, index) != LUA_TTABLE) {
        fae_conf_fail(conf, entry->line, "%s \"%s\" takes a table, not %s", word, entry->key,
                      fae_conf_show(L, index, shown, sizeof shown));
        return;
    }
    conf->json.len = 0;
    if (!fae_conf_json_object(&json, index))
        return;
    if (conf->rows.len + conf->json.len > FAE_CONFIG_ROWS_MAX / 2)
        fae_conf_fail(conf, entry->line, "%s \"%s\": all such tables together are too much", word, entry->key);
    else
        fae_config_row(&conf->rows, word, conf->tables[kind].n_rows++, entry->key, fae_buf_text(&conf->json),
                       entry->line);
}

struct fae_conf_entry *fae_conf_new_entry(struct fae_conf *conf, struct fae_conf_entries *entries, unsigned max,
                                          const char *word, const char *name, unsigned line)
{
    struct fae_conf_entry *entry;

    for (unsigned i = 0; i < entries->n; i++)
        if (*name && strcmp(entries->entries[i].key, name) == 0) {
            fae_conf_fail(conf, line, "%s \"%s\" was already set on line %u", word, name, entries->entries[i].line);
            return NULL;
        }
    if (entries->n == max) {
        fae_conf_fail(conf, line, "%s: at most %u", word, max);
        return NULL;
    }
    entry = &entries->entries[entries->n++];
    *entry = (struct fae_conf_entry){ .line = line, .row = -1 };
    snprintf(entry->key, sizeof entry->key, "%s", name);
    return entry;
}

static struct fae_conf_entry *add_entry(lua_State *L, unsigned kind)
{
    struct fae_conf *conf = fae_conf_of(L);
    const char *word = fae_conf_table_words[kind];
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
    unsigned line = fae_conf_line(L, word);
    char shown[64];

    if (fae_conf_is_unknown(L, 1))
        return NULL;
    if (!name || strlen(name) != lua_objlen(L, 1) || !fae_config_name_ok(name)) {
        fae_conf_fail(conf, line, "%s takes a %s's name in quotes, as in %s \"shop\" { ... }, not %s", word, word, word,
                      fae_conf_show(L, 1, shown, sizeof shown));
        return NULL;
    }
    return fae_conf_new_entry(conf, &conf->tables[kind], FAE_CONFIG_SERVANTS_MAX, word, name, line);
}

/* Upvalues: conf, kind, entry. */
static int l_take(lua_State *L)
{
    lua_settop(L, 1);
    take_table(L, (unsigned)lua_tointeger(L, lua_upvalueindex(2)), lua_touserdata(L, lua_upvalueindex(3)), 1);
    return 0;
}

/* servant("name", {...}) too, for those who generate the file. */
int fae_conf_l_table(lua_State *L)
{
    unsigned kind = (unsigned)lua_tointeger(L, lua_upvalueindex(2));
    int n_args = lua_gettop(L);
    struct fae_conf_entry *entry = add_entry(L, kind);

    if (!entry) {
        lua_pushvalue(L, lua_upvalueindex(3)); /* swallows the table */
        return 1;
    }
    if (n_args > 1) {
        take_table(L, kind, entry, 2);
        return 0;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushlightuserdata(L, entry);
    lua_pushcclosure(L, l_take, 3);
    return 1;
}
