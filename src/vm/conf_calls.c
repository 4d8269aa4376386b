/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The values that a config file gives, and its calls name(value) for options. What a call gets wrong is noted and the
 * file goes on, so that one run tells of every error.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/config_check.h"
#include "vm/conf_state.h"

/* ---- values ---- */

static bool is_octal(const struct fae_opt *opt)
{
    return opt->init[0] == '0' && opt->init[1];
}

static bool type_fits(const struct fae_opt *opt, int type)
{
    switch (opt->type) {
    case FAE_OPT_UINT: return type == LUA_TNUMBER || (type == LUA_TSTRING && is_octal(opt));
    case FAE_OPT_MS: return type == LUA_TNUMBER;
    case FAE_OPT_BYTES: return type == LUA_TNUMBER || type == LUA_TSTRING;
    case FAE_OPT_BOOL: return type == LUA_TBOOLEAN;
    case FAE_OPT_STRING:
    case FAE_OPT_ENUM: return type == LUA_TSTRING;
    case FAE_OPT_LIST: return type == LUA_TSTRING || type == LUA_TTABLE;
    }
    return false;
}

static const char *const wanted[] = {
    [FAE_OPT_UINT] = "a whole number",
    [FAE_OPT_MS] = "a whole number of milliseconds",
    [FAE_OPT_BYTES] = "a number, or a size in quotes such as \"4MiB\"",
    [FAE_OPT_BOOL] = "true or false",
    [FAE_OPT_STRING] = "text in quotes",
    [FAE_OPT_ENUM] = "a word in quotes",
    [FAE_OPT_LIST] = "words in quotes, or a list of them such as { \"a\", \"b\" }",
};

static void not_wanted(lua_State *L, const struct fae_opt *opt, int index, char *why, size_t why_size)
{
    char shown[64];

    if (opt->secret) {
        snprintf(why, why_size, "%s must be %s, not a %s", opt->name, wanted[opt->type],
                 lua_typename(L, lua_type(L, index)));
        return;
    }
    snprintf(why, why_size, "%s must be %s, not %s%s", opt->name, wanted[opt->type],
             lua_type(L, index) == LUA_TSTRING ? "the text " : "", fae_conf_show(L, index, shown, sizeof shown));
}

static unsigned n_keys(lua_State *L, int table)
{
    unsigned n = 0;

    for (lua_pushnil(L); lua_next(L, table); lua_pop(L, 1))
        n++;
    return n;
}

/* Adds the word at the stack's top to the list's text; false when it is none. */
static bool add_word(lua_State *L, const struct fae_opt *opt, struct fae_buf *words, char *why, size_t why_size)
{
    size_t len;
    const char *text;

    if (fae_conf_is_unknown(L, -1)) {
        *why = '\0'; /* it was told of */
        return false;
    }
    if (lua_type(L, -1) != LUA_TSTRING) {
        not_wanted(L, opt, -1, why, why_size);
        return false;
    }
    text = lua_tolstring(L, -1, &len);
    if (strlen(text) != len) {
        snprintf(why, why_size, "%s must not hold a zero byte", opt->name);
        return false;
    }
    fae_buf_printf(words, "%s%s", words->len ? " " : "", text);
    return true;
}

/* A table of words as one text, lent by conf. */
static const char *list_text(lua_State *L, const struct fae_opt *opt, int index, char *why, size_t why_size)
{
    struct fae_buf *words = &fae_conf_of(L)->words;
    int table = index < 0 ? lua_gettop(L) + index + 1 : index;
    int n = (int)lua_objlen(L, table);
    bool good = true;

    words->len = 0;
    if (n_keys(L, table) != (unsigned)n) {
        snprintf(why, why_size, "%s must be %s, without names or gaps", opt->name, wanted[opt->type]);
        return NULL;
    }
    /* What is far too long already need not be read on. */
    for (int i = 1; i <= n && good && words->len < 2 * FAE_OPT_LIST_TEXT; i++) {
        lua_rawgeti(L, table, i);
        good = add_word(L, opt, words, why, why_size);
        lua_pop(L, 1);
    }
    return good ? fae_buf_text(words) : NULL;
}

/* The value as fae_opt_set reads it; lent by the Lua value or by buf. NULL: why says what is wrong. */
static const char *value_text(lua_State *L, const struct fae_opt *opt, int index, char *buf, size_t buf_size, char *why,
                              size_t why_size)
{
    int type = lua_type(L, index);
    const char *text;
    size_t len;
    double number;

    if (!type_fits(opt, type)) {
        not_wanted(L, opt, index, why, why_size);
        return NULL;
    }
    if (type == LUA_TTABLE)
        return list_text(L, opt, index, why, why_size);
    if (type == LUA_TBOOLEAN)
        return lua_toboolean(L, index) ? "true" : "false";
    if (type == LUA_TSTRING) {
        text = lua_tolstring(L, index, &len);
        if (strlen(text) == len)
            return text;
        snprintf(why, why_size, "%s must not hold a zero byte", opt->name);
        return NULL;
    }
    number = lua_tonumber(L, index);
    if (isnan(number))
        number = fabs(number); /* its sign is chance */
    snprintf(buf, buf_size, number == floor(number) && fabs(number) < 1e15 ? "%.0f" : "%.14g", number);
    return buf;
}

bool fae_conf_take(lua_State *L, const struct fae_opt *opt, int index, void *into, const struct fae_conf_place *place)
{
    struct fae_conf *conf = fae_conf_of(L);
    const char *text;
    char buf[64], why[512], kept[FAE_OPT_LIST_TEXT];

    if (fae_conf_is_unknown(L, index))
        return false;
    text = value_text(L, opt, index, buf, sizeof buf, why, sizeof why);
    if (!text || fae_opt_set(opt, into, text, why, sizeof why) ||
        fae_config_value_ok(place->section, opt, into, why, sizeof why)) {
        if (*why)
            fae_conf_fail(conf, place->line, "%s%s", place->prefix, why);
        return false;
    }
    /* A list's blanks and words were put in order; other texts stay as they were written. */
    if (opt->type == FAE_OPT_LIST)
        text = fae_opt_get(opt, into, kept);
    fae_config_row(&conf->rows, place->section, place->nth, opt->name, text, place->line);
    return true;
}

/* ---- name(value) ---- */

static int l_option(lua_State *L)
{
    struct fae_conf *conf = fae_conf_of(L);
    unsigned at = (unsigned)lua_tointeger(L, lua_upvalueindex(2));
    const struct fae_opt *opt = &fae_config_opts[at];
    struct fae_conf_call *call = &conf->options[at];
    unsigned line = fae_conf_line(L, opt->name);

    if (call->is_made) {
        fae_conf_fail(conf, line, "%s was already set on line %u", opt->name, call->line);
        return 0;
    }
    *call = (struct fae_conf_call){ .line = line, .is_made = true };
    if (lua_gettop(L) != 1) {
        fae_conf_fail(conf, line, "%s takes one value, not %d", opt->name, lua_gettop(L));
        conf->has_bad_option = true;
    } else if (!fae_conf_take(L, opt, 1, &conf->config, &(struct fae_conf_place){ "", 0, line, "" })) {
        conf->has_bad_option = true;
    }
    return 0;
}

/* ---- all of them ---- */

static void add_call(lua_State *L, struct fae_conf *conf, lua_CFunction fn, const char *name, unsigned nth, int unknown)
{
    lua_pushlightuserdata(L, conf);
    lua_pushinteger(L, nth);
    lua_pushvalue(L, unknown);
    lua_pushcclosure(L, fn, 3);
    lua_setfield(L, -2, name);
}

void fae_conf_add_calls(lua_State *L, struct fae_conf *conf, int unknown)
{
    for (unsigned i = 0; i < fae_config_n_opts; i++)
        add_call(L, conf, l_option, fae_config_opts[i].name, i, unknown);
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        add_call(L, conf, fae_config_sections[i].alone ? fae_conf_l_alone : fae_conf_l_section,
                 fae_config_sections[i].name, i, unknown);
    for (unsigned i = 0; i < FAE_CONF_N_TABLES; i++)
        add_call(L, conf, fae_conf_l_table, fae_conf_table_words[i], i, unknown);
}
