/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The calls a config file makes: name(value) for every option, listen, servant. What a call gets wrong is noted and
 * the file goes on, so that one run tells of every error.
 */
#include <math.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "vm/conf_json.h"
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
};

/* The value as fae_opt_set reads it; lent by the Lua value or by buf. NULL: why says what is wrong. */
static const char *value_text(lua_State *L, const struct fae_opt *opt, int index, char *buf, size_t buf_size, char *why,
                              size_t why_size)
{
    int type = lua_type(L, index);
    char shown[64];
    const char *text;
    size_t len;
    double number;

    if (!type_fits(opt, type)) {
        snprintf(why, why_size, "%s must be %s, not %s%s", opt->name, wanted[opt->type],
                 type == LUA_TSTRING ? "the text " : "", fae_conf_show(L, index, shown, sizeof shown));
        return NULL;
    }
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

/* Sets the option in `into` and adds its row; or says why not. */
static bool take(lua_State *L, const struct fae_opt *opt, int index, void *into, const char *section, unsigned nth,
                 unsigned line)
{
    struct fae_conf *conf = fae_conf_of(L);
    const char *text;
    char buf[64], why[512];

    if (fae_conf_is_unknown(L, index))
        return false;
    text = value_text(L, opt, index, buf, sizeof buf, why, sizeof why);
    if (!text || fae_opt_set(opt, into, text, why, sizeof why)) {
        fae_conf_fail(conf, line, "%s%s%s", section, *section ? ": " : "", why);
        return false;
    }
    fae_config_row(&conf->rows, section, nth, opt->name, text, line);
    return true;
}

/* ---- name(value) ---- */

static bool is_loopback(const struct fae_addr *addr)
{
    if (addr->sa.ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)&addr->sa)->sin_addr.s_addr) >> 24 == 127;
    return addr->sa.ss_family == AF_INET6 && IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)&addr->sa)->sin6_addr);
}

static void check_admin(struct fae_conf *conf, unsigned line)
{
    const char *text = conf->config.admin;
    struct fae_addr addr;
    char why[256];

    if (!*text)
        return;
    if (fae_addr_parse(text, &addr, why, sizeof why))
        fae_conf_fail(conf, line, "admin: %s", why);
    else if (!is_loopback(&addr))
        fae_conf_fail(conf, line, "admin must be a loopback address such as 127.0.0.1:9101, not %s", text);
}

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
    } else if (!take(L, opt, 1, &conf->config, "", 0, line)) {
        conf->has_bad_option = true;
    } else if (strcmp(opt->name, "admin") == 0) {
        check_admin(conf, line);
    }
    return 0;
}

/* ---- listen "addr", listen { "addr", key = value } ---- */

/* The line of a key inside a call's table. */
static unsigned key_line(const struct fae_conf *conf, unsigned line, const char *call, const char *key)
{
    return fae_conf_source_key(&conf->source, line, call, key);
}

/* unix_only: a key that was given and says something about the file of a unix socket, or NULL. */
static bool check_listen(struct fae_conf *conf, unsigned nth, const char *unix_only)
{
    const struct fae_config_listen *listen = &conf->config.listen[nth];
    unsigned line = conf->listen_line[nth];
    struct fae_addr addr;
    char why[256];

    conf->listen_text[nth][0] = '\0';
    if (fae_addr_parse(listen->addr, &addr, why, sizeof why)) {
        fae_conf_fail(conf, line, "listen: %s", why);
        return false;
    }
    if (unix_only && !fae_addr_is_unix(&addr))
        fae_conf_fail(conf, key_line(conf, line, "listen", unix_only), "listen: %s is for unix sockets, %s is none",
                      unix_only, listen->addr);
    if (!fae_addr_is_unix(&addr) && fae_addr_port(&addr) == 0)
        return true; /* any port, as often as you like */
    fae_addr_format(&addr, conf->listen_text[nth]);
    for (unsigned i = 0; i < nth; i++)
        if (strcmp(conf->listen_text[i], conf->listen_text[nth]) == 0) {
            fae_conf_fail(conf, line, "listen: %s is already on line %u", conf->listen_text[nth], conf->listen_line[i]);
            return false;
        }
    return true;
}

static void unknown_key(struct fae_conf *conf, unsigned line, const struct fae_conf_key *key)
{
    char why[256];

    if (key->type == LUA_TNUMBER) {
        if (key->number != 1)
            fae_conf_fail(conf, line, "listen: takes one address; call listen again for the next");
        return;
    }
    if (fae_opt_find(fae_config_listen_opts, fae_config_n_listen_opts, key->text))
        return;
    fae_opt_unknown(fae_config_listen_opts, fae_config_n_listen_opts, key->text, why, sizeof why);
    fae_conf_fail(conf, key_line(conf, line, "listen", key->text), "listen: %s", why);
}

static void unknown_keys(lua_State *L, struct fae_conf *conf, int table, unsigned line)
{
    const struct fae_conf_key *keys;
    unsigned n;

    if (!fae_conf_keys(L, table, &keys, &n)) {
        fae_conf_fail(conf, line, "listen: a key is no name");
        return;
    }
    for (unsigned i = 0; i < n; i++)
        unknown_key(conf, line, &keys[i]);
    lua_pop(L, 1);
}

/* Pushes the value of listen's key; its address may stand alone, first in the table, or under its name. */
static bool push_listen_value(lua_State *L, const struct fae_opt *opt)
{
    bool is_addr = opt == fae_config_listen_opts;

    if (lua_type(L, 1) != LUA_TTABLE) {
        lua_pushvalue(L, 1);
        return is_addr;
    }
    lua_pushstring(L, opt->name);
    lua_rawget(L, 1);
    if (lua_isnil(L, -1) && is_addr)
        lua_rawgeti(L, 1, 1);
    return !lua_isnil(L, -1);
}

/* Takes every option of the table that stands there; false when one does not fit. */
static bool take_listen_values(lua_State *L, struct fae_conf *conf, unsigned nth, unsigned line,
                               const char **unix_only_out)
{
    bool good = true;

    for (unsigned i = 0; i < fae_config_n_listen_opts; i++) {
        const struct fae_opt *opt = &fae_config_listen_opts[i];
        int top = lua_gettop(L);

        if (push_listen_value(L, opt)) {
            unsigned at = key_line(conf, line, "listen", opt->name);

            good &= take(L, opt, -1, &conf->config.listen[nth], "listen", nth, at);
            if (strcmp(opt->name, "mode") == 0 || strcmp(opt->name, "group") == 0)
                *unix_only_out = opt->name;
        } else if (i == 0) {
            fae_conf_fail(conf, line, "listen: an address is missing, as in listen { \"unix:fae.sock\" }");
            good = false;
        }
        lua_settop(L, top);
    }
    return good;
}

static void take_listen(lua_State *L, struct fae_conf *conf, unsigned line)
{
    unsigned nth = conf->config.n_listen;
    size_t mark = conf->rows.len;
    const char *unix_only = NULL;

    conf->listen_line[nth] = line;
    fae_opt_defaults(fae_config_listen_opts, fae_config_n_listen_opts, &conf->config.listen[nth]);
    if (take_listen_values(L, conf, nth, line, &unix_only) && check_listen(conf, nth, unix_only))
        conf->config.n_listen++;
    else
        conf->rows.len = mark;
}

static int l_listen(lua_State *L)
{
    struct fae_conf *conf = fae_conf_of(L);
    unsigned line = fae_conf_line(L, "listen");
    char shown[64];
    int type = lua_type(L, 1);

    FAE_ASSERT(strcmp(fae_config_listen_opts[0].name, "addr") == 0);
    if (fae_conf_is_unknown(L, 1))
        return 0;
    if (lua_gettop(L) != 1) {
        fae_conf_fail(conf, line, "listen takes one address or one table, not %d values", lua_gettop(L));
        return 0;
    }
    if (type != LUA_TSTRING && type != LUA_TTABLE) {
        fae_conf_fail(conf, line, "listen takes an address in quotes or a table, not %s",
                      fae_conf_show(L, 1, shown, sizeof shown));
        return 0;
    }
    if (conf->config.n_listen == FAE_LISTENERS_MAX) {
        fae_conf_fail(conf, line, "listen: at most %d addresses", FAE_LISTENERS_MAX);
        return 0;
    }
    if (type == LUA_TTABLE) {
        lua_rawgeti(L, 1, 1);
        lua_getfield(L, 1, "addr");
        if (!lua_isnil(L, -1) && !lua_isnil(L, -2))
            fae_conf_fail(conf, key_line(conf, line, "listen", "addr"),
                          "listen: takes one address; call listen again for the next");
        lua_settop(L, 1);
        unknown_keys(L, conf, 1, line);
    }
    take_listen(L, conf, line);
    return 0;
}

/* ---- servant "name" { ... } ---- */

struct servant_at {
    struct fae_conf *conf;
    const struct fae_conf_servant *servant;
};

static void on_json_error(void *arg, const char *path, const char *why)
{
    const struct servant_at *at = arg;
    unsigned line = fae_conf_source_key(&at->conf->source, at->servant->line, "servant", path);

    fae_conf_fail(at->conf, line, "servant \"%s\": %s%s%s", at->servant->name, path, *path ? ": " : "", why);
}

static void take_servant(lua_State *L, struct fae_conf *conf, unsigned nth, int index)
{
    struct fae_conf_servant *servant = &conf->servants[nth];
    struct servant_at at = { conf, servant };
    struct fae_conf_json json = {
        .L = L, .out = &conf->json, .max_bytes = FAE_CONFIG_ROWS_MAX / 4, .on_error = on_json_error, .arg = &at
    };
    char shown[64];

    if (servant->has_table) {
        fae_conf_fail(conf, servant->line, "servant \"%s\" takes one table", servant->name);
        return;
    }
    servant->has_table = true;
    if (fae_conf_is_unknown(L, index))
        return;
    if (lua_type(L, index) != LUA_TTABLE) {
        fae_conf_fail(conf, servant->line, "servant \"%s\" takes a table, not %s", servant->name,
                      fae_conf_show(L, index, shown, sizeof shown));
        return;
    }
    conf->json.len = 0;
    if (!fae_conf_json_object(&json, index))
        return;
    if (conf->rows.len + conf->json.len > FAE_CONFIG_ROWS_MAX / 2)
        fae_conf_fail(conf, servant->line, "servant \"%s\": all servants' tables together are too much", servant->name);
    else
        fae_config_row(&conf->rows, "servant", conf->n_servant_rows++, servant->name, fae_buf_text(&conf->json),
                       servant->line);
}

static int l_servant_table(lua_State *L)
{
    lua_settop(L, 1);
    take_servant(L, fae_conf_of(L), (unsigned)lua_tointeger(L, lua_upvalueindex(2)), 1);
    return 0;
}

/* The index of a new servant, or -1 when there was something wrong with it. */
static int add_servant(lua_State *L, struct fae_conf *conf, unsigned line)
{
    const char *name = lua_type(L, 1) == LUA_TSTRING ? lua_tostring(L, 1) : NULL;
    struct fae_conf_servant *servant;
    char shown[64];

    if (fae_conf_is_unknown(L, 1))
        return -1;
    if (!name || strlen(name) != lua_objlen(L, 1) || !fae_config_name_ok(name)) {
        fae_conf_fail(conf, line, "servant takes a servant's name in quotes, as in servant \"shop\" { ... }, not %s",
                      fae_conf_show(L, 1, shown, sizeof shown));
        return -1;
    }
    for (unsigned i = 0; i < conf->n_servants; i++)
        if (strcmp(conf->servants[i].name, name) == 0) {
            fae_conf_fail(conf, line, "servant \"%s\" was already set on line %u", name, conf->servants[i].line);
            return -1;
        }
    if (conf->n_servants == FAE_CONFIG_SERVANTS_MAX) {
        fae_conf_fail(conf, line, "servant: at most %d", FAE_CONFIG_SERVANTS_MAX);
        return -1;
    }
    servant = &conf->servants[conf->n_servants];
    *servant = (struct fae_conf_servant){ .line = line };
    memcpy(servant->name, name, strlen(name));
    return (int)conf->n_servants++;
}

/* servant("name", {...}) too, for those who generate the file. */
static int l_servant(lua_State *L)
{
    struct fae_conf *conf = fae_conf_of(L);
    int n_args = lua_gettop(L);
    int nth = add_servant(L, conf, fae_conf_line(L, "servant"));

    if (nth < 0) {
        lua_pushvalue(L, lua_upvalueindex(2)); /* swallows the table */
        return 1;
    }
    if (n_args > 1) {
        take_servant(L, conf, (unsigned)nth, 2);
        return 0;
    }
    lua_pushlightuserdata(L, conf);
    lua_pushinteger(L, nth);
    lua_pushcclosure(L, l_servant_table, 2);
    return 1;
}

/* ---- all of them ---- */

void fae_conf_add_calls(lua_State *L, struct fae_conf *conf, int unknown)
{
    for (unsigned i = 0; i < fae_config_n_opts; i++) {
        lua_pushlightuserdata(L, conf);
        lua_pushinteger(L, i);
        lua_pushcclosure(L, l_option, 2);
        lua_setfield(L, -2, fae_config_opts[i].name);
    }
    lua_pushlightuserdata(L, conf);
    lua_pushcclosure(L, l_listen, 1);
    lua_setfield(L, -2, "listen");
    lua_pushlightuserdata(L, conf);
    lua_pushvalue(L, unknown);
    lua_pushcclosure(L, l_servant, 2);
    lua_setfield(L, -2, "servant");
}

static unsigned option_line(const struct fae_conf *conf, const char *name)
{
    return conf->options[fae_opt_find(fae_config_opts, fae_config_n_opts, name) - fae_config_opts].line;
}

void fae_conf_check_whole(struct fae_conf *conf)
{
    const char *names[2];
    char why[256];

    for (unsigned i = 0; i < conf->n_servants; i++)
        if (!conf->servants[i].has_table)
            fae_conf_fail(conf, conf->servants[i].line, "servant \"%s\" has no table: write servant \"%s\" { ... }",
                          conf->servants[i].name, conf->servants[i].name);
    if (conf->has_bad_option)
        return; /* it still has its default, which may fit nothing else */
    for (unsigned at = 0; fae_config_disagrees(&conf->config, &at, names, why, sizeof why);) {
        unsigned low = option_line(conf, names[0]), high = option_line(conf, names[1]);

        fae_conf_fail(conf, low > high ? low : high, "%s", why);
    }
}
