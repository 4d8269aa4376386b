/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The world a config file runs in: the options, a few of Lua's functions that neither write nor depend on chance, and
 * an answer for every other name.
 */
#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/suggest.h"
#include "vm/conf_json.h"
#include "vm/conf_state.h"

struct fae_conf *fae_conf_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* A tail call leaves no trace: then the first use of its name. */
unsigned fae_conf_line(lua_State *L, const char *name)
{
    lua_Debug ar;

    for (int level = 1; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "l", &ar);
        if (ar.currentline > 0)
            return (unsigned)ar.currentline;
    }
    return fae_conf_source_name(&fae_conf_of(L)->source, name);
}

const char *fae_conf_show(lua_State *L, int index, char *text, size_t size)
{
    switch (lua_type(L, index)) {
    case LUA_TNUMBER: snprintf(text, size, "%.14g", lua_tonumber(L, index)); break;
    case LUA_TSTRING: snprintf(text, size, "\"%.40s\"", lua_tostring(L, index)); break;
    case LUA_TBOOLEAN: snprintf(text, size, "%s", lua_toboolean(L, index) ? "true" : "false"); break;
    case LUA_TNIL:
    case LUA_TNONE: snprintf(text, size, "nil"); break;
    default: snprintf(text, size, "a %s", luaL_typename(L, index));
    }
    return text;
}

bool fae_conf_is_unknown(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TUSERDATA;
}

/* ---- names ---- */

/* Everything an unknown name is used for gives the unknown name again, so that its one error brings no others. */
static int l_unknown(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(1));
    return 1;
}

static void push_unknown(lua_State *L)
{
    static const char *const uses[] = { "__call", "__index", "__concat", "__add", "__sub", "__mul", "__div",
                                        "__mod",  "__pow",   "__unm",    "__len", "__eq",  "__lt",  "__le" };
    int unknown;

    lua_newuserdata(L, 0);
    unknown = lua_gettop(L);
    lua_newtable(L);
    for (unsigned i = 0; i < sizeof uses / sizeof *uses; i++) {
        lua_pushvalue(L, unknown);
        lua_pushcclosure(L, l_unknown, 1);
        lua_setfield(L, -2, uses[i]);
    }
    lua_setmetatable(L, unknown);
}

static const char *nearest(const char *name)
{
    static const char *const others[] = { "string", "table", "math", "tonumber", "tostring", "pairs", "ipairs" };
    struct fae_suggest s = { .word = name };

    for (unsigned i = 0; i < fae_config_n_opts; i++)
        fae_suggest_offer(&s, fae_config_opts[i].name);
    for (unsigned i = 0; i < fae_config_n_sections; i++)
        fae_suggest_offer(&s, fae_config_sections[i].name);
    for (unsigned i = 0; i < FAE_CONF_N_TABLES; i++)
        fae_suggest_offer(&s, fae_conf_table_words[i]);
    for (unsigned i = 0; i < sizeof others / sizeof *others; i++)
        fae_suggest_offer(&s, others[i]);
    return s.best;
}

static void fail_unknown(struct fae_conf *conf, unsigned line, const char *name)
{
    const char *near = nearest(name);

    fae_conf_fail(conf, line, "unknown option \"%.64s\"%s%s%s", name, near ? ": did you mean \"" : "", near ? near : "",
                  near ? "\"?" : "");
}

/* Reads of names; upvalues: conf, the known ones, the unknown one. */
static int l_name(lua_State *L)
{
    struct fae_conf *conf = fae_conf_of(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";

    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(2));
    if (!lua_isnil(L, -1))
        return 1;
    fail_unknown(conf, fae_conf_line(L, name), name);
    lua_pushvalue(L, lua_upvalueindex(3));
    return 1;
}

/* `name = value` at the top level; upvalues as above. */
static int l_set_name(lua_State *L)
{
    struct fae_conf *conf = fae_conf_of(L);
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?";
    unsigned line = fae_conf_line(L, name);
    char shown[64];
    bool known;

    lua_pushvalue(L, 2);
    lua_rawget(L, lua_upvalueindex(2));
    known = !lua_isnil(L, -1);
    if (known && lua_type(L, 3) == LUA_TTABLE)
        fae_conf_fail(conf, line, "%s is set by a call: write %s { ... }", name, name);
    else if (known)
        fae_conf_fail(conf, line, "%s is set by a call: write %s(%s)", name, name,
                      fae_conf_show(L, 3, shown, sizeof shown));
    else if (nearest(name))
        fail_unknown(conf, line, name);
    else
        fae_conf_fail(conf, line, "unknown option \"%.64s\": a variable of your own begins with local", name);
    if (!known) {
        lua_settop(L, 3);
        lua_rawset(L, 1);
    }
    return 0;
}

/* ---- Lua's own functions, where ours must differ ---- */

/* The order of a Lua table differs from run to run; the configuration must not. */
static int l_next_pair(lua_State *L)
{
    int n = (int)lua_tointeger(L, lua_upvalueindex(3));
    int at = (int)lua_tointeger(L, lua_upvalueindex(4));

    lua_settop(L, 0);
    while (at++ < n) {
        lua_rawgeti(L, lua_upvalueindex(2), at);
        lua_pushvalue(L, -1);
        lua_rawget(L, lua_upvalueindex(1));
        if (!lua_isnil(L, -1)) {
            lua_pushinteger(L, at);
            lua_replace(L, lua_upvalueindex(4));
            return 2;
        }
        lua_settop(L, 0); /* removed on the way */
    }
    return 0;
}

static int l_pairs(lua_State *L)
{
    const struct fae_conf_key *keys;
    unsigned n;

    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    if (!fae_conf_keys(L, 1, &keys, &n))
        return luaL_error(L, "pairs: a key is neither text nor a number, so there is no order");
    lua_createtable(L, (int)n, 0);
    for (unsigned i = 0; i < n; i++) {
        if (keys[i].type == LUA_TNUMBER)
            lua_pushnumber(L, keys[i].number);
        else
            lua_pushlstring(L, keys[i].text, keys[i].len);
        lua_rawseti(L, 3, (int)i + 1);
    }
    lua_remove(L, 2);
    lua_pushinteger(L, n);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, l_next_pair, 4);
    return 1;
}

/* Without addresses, for the same reason. */
static int l_tostring(lua_State *L)
{
    luaL_checkany(L, 1);
    switch (lua_type(L, 1)) {
    case LUA_TNUMBER:
    case LUA_TSTRING:
        lua_pushvalue(L, 1);
        lua_tostring(L, -1);
        return 1;
    case LUA_TBOOLEAN: lua_pushstring(L, lua_toboolean(L, 1) ? "true" : "false"); return 1;
    default: lua_pushstring(L, luaL_typename(L, 1)); return 1;
    }
}

static int l_getenv(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1))); /* nil when it is not set */
    return 1;
}

/* ---- the file's world ---- */

static void open_lib(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

static void drop(lua_State *L, const char *lib, const char *name)
{
    lua_getglobal(L, lib);
    lua_pushnil(L);
    lua_setfield(L, -2, name);
    lua_pop(L, 1);
}

/* Copies globals of Lua's into the table of known names on the stack's top. */
static void add_lua_names(lua_State *L)
{
    static const char *const names[] = { "string", "table", "math", "tonumber", "ipairs" };
    static const luaL_Reg ours[] = { { "pairs", l_pairs }, { "tostring", l_tostring }, { NULL, NULL } };

    open_lib(L, luaopen_base, "");
    open_lib(L, luaopen_string, "string");
    open_lib(L, luaopen_table, "table");
    open_lib(L, luaopen_math, "math");
    drop(L, "string", "dump");
    drop(L, "table", "foreach"); /* in Lua's own order */
    for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
        lua_getglobal(L, names[i]);
        lua_setfield(L, -2, names[i]);
    }
    luaL_register(L, NULL, ours);
    lua_newtable(L);
    lua_pushcfunction(L, l_getenv);
    lua_setfield(L, -2, "getenv");
    lua_setfield(L, -2, "os");
}

/* An empty table, so that every read and write of a name passes by us. */
void fae_conf_push_world(lua_State *L, struct fae_conf *conf)
{
    static const struct {
        const char *event;
        lua_CFunction fn;
    } events[] = { { "__index", l_name }, { "__newindex", l_set_name } };
    int unknown, known;

    push_unknown(L);
    unknown = lua_gettop(L);
    lua_newtable(L);
    known = lua_gettop(L);
    add_lua_names(L);
    fae_conf_add_calls(L, conf, unknown);
    lua_newtable(L);
    lua_newtable(L);
    for (unsigned i = 0; i < sizeof events / sizeof *events; i++) {
        lua_pushlightuserdata(L, conf);
        lua_pushvalue(L, known);
        lua_pushvalue(L, unknown);
        lua_pushcclosure(L, events[i].fn, 3);
        lua_setfield(L, -2, events[i].event);
    }
    lua_setmetatable(L, -2);
}
