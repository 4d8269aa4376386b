/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Tables to JSON, depth first. A table shared by others is written again wherever it stands; the limits on depth and
 * bytes end what would never end.
 */
#include "vm/conf_json.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define PATH_MAX_BYTES 200

struct writer {
    const struct fae_conf_json *json;
    char path[PATH_MAX_BYTES + 64];
    size_t path_len;
    unsigned depth;
    bool failed, full;
};

static void write_value(struct writer *w, int index);

/* ---- keys in order ---- */

static int compare(const void *a, const void *b)
{
    const struct fae_conf_key *x = a, *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int order;

    if (x->type != y->type)
        return x->type == LUA_TNUMBER ? -1 : 1;
    if (x->type == LUA_TNUMBER)
        return (x->number > y->number) - (x->number < y->number);
    order = memcmp(x->text, y->text, len);
    return order ? order : (x->len > y->len) - (x->len < y->len);
}

bool fae_conf_keys(lua_State *L, int index, const struct fae_conf_key **keys_out, unsigned *n_out)
{
    struct fae_conf_key *keys;
    unsigned n = 0, at = 0;

    if (index < 0)
        index = lua_gettop(L) + index + 1;
    luaL_checkstack(L, 8, "keys");
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1), n++)
        if (lua_type(L, -2) != LUA_TNUMBER && lua_type(L, -2) != LUA_TSTRING) {
            lua_pop(L, 2);
            return false;
        }
    keys = lua_newuserdata(L, (n + 1) * sizeof *keys);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1), at++) {
        keys[at] = (struct fae_conf_key){ .type = lua_type(L, -2) };
        if (keys[at].type == LUA_TNUMBER)
            keys[at].number = lua_tonumber(L, -2);
        else
            keys[at].text = lua_tolstring(L, -2, &keys[at].len);
    }
    qsort(keys, n, sizeof *keys, compare);
    *keys_out = keys;
    *n_out = n;
    return true;
}

/* ---- values ---- */

static void fail(struct writer *w, const char *why)
{
    w->failed = true;
    w->json->on_error(w->json->arg, w->path, why);
}

static void write_number(struct writer *w, double number)
{
    char text[40];

    if (!isfinite(number)) {
        fail(w, "JSON has no such number");
        return;
    }
    if (number == floor(number) && fabs(number) < 1e15) {
        snprintf(text, sizeof text, "%.0f", number);
    } else {
        for (int digits = 15; digits <= 17; digits++) {
            snprintf(text, sizeof text, "%.*g", digits, number);
            if (strtod(text, NULL) == number)
                break;
        }
    }
    fae_buf_add(w->json->out, text, strlen(text));
}

static void write_text(struct writer *w, const char *text, size_t len)
{
    if (fae_utf8_valid(text, len))
        fae_buf_json(w->json->out, text, len);
    else
        fail(w, "text must be UTF-8");
}

/* Steps into key, writes the value that stands on the stack's top, pops it and steps back. */
static void write_member(struct writer *w, const struct fae_conf_key *key)
{
    size_t before = w->path_len;
    size_t room = sizeof w->path - before;
    int n;

    if (key->type == LUA_TNUMBER)
        n = snprintf(w->path + before, room, "[%.14g]", key->number);
    else
        n = snprintf(w->path + before, room, "%s%.50s", before ? "." : "", key->text);
    if (before + (size_t)n < PATH_MAX_BYTES)
        w->path_len += (size_t)n;
    write_value(w, lua_gettop(w->json->L));
    w->path_len = before;
    w->path[before] = '\0';
    lua_pop(w->json->L, 1);
}

static void write_list(struct writer *w, int index, const struct fae_conf_key *keys, unsigned n)
{
    lua_State *L = w->json->L;

    fae_buf_add(w->json->out, "[", 1);
    for (unsigned i = 0; i < n && !w->full; i++) {
        if (i)
            fae_buf_add(w->json->out, ",", 1);
        lua_rawgeti(L, index, (int)i + 1);
        write_member(w, &keys[i]);
    }
    fae_buf_add(w->json->out, "]", 1);
}

static void write_object(struct writer *w, int index, const struct fae_conf_key *keys, unsigned n)
{
    lua_State *L = w->json->L;

    fae_buf_add(w->json->out, "{", 1);
    for (unsigned i = 0; i < n && !w->full; i++) {
        if (i)
            fae_buf_add(w->json->out, ",", 1);
        write_text(w, keys[i].text, keys[i].len);
        fae_buf_add(w->json->out, ":", 1);
        lua_pushlstring(L, keys[i].text, keys[i].len);
        lua_rawget(L, index);
        write_member(w, &keys[i]);
    }
    fae_buf_add(w->json->out, "}", 1);
}

static void write_table(struct writer *w, int index, bool as_object)
{
    lua_State *L = w->json->L;
    const struct fae_conf_key *keys;
    unsigned n, n_numbers = 0;

    if (w->depth == FAE_CONF_JSON_DEPTH) {
        fail(w, "tables are too deep, or inside themselves");
        w->full = true; /* a table inside itself would be told at every level of every branch */
        return;
    }
    if (!fae_conf_keys(L, index, &keys, &n)) {
        fail(w, "a key is neither a name nor a number");
        return;
    }
    while (n_numbers < n && keys[n_numbers].type == LUA_TNUMBER)
        n_numbers++;
    w->depth++;
    if (n_numbers == 0)
        write_object(w, index, keys, n);
    else if (n_numbers < n)
        fail(w, "a table is either a list or has names, not both");
    else if (keys[0].number != 1 || keys[n - 1].number != (double)n || as_object)
        fail(w, as_object ? "names are needed here, as in { size = 10 }" : "a list has no gaps and starts at 1");
    else
        write_list(w, index, keys, n);
    w->depth--;
    lua_pop(L, 1);
}

static void write_value(struct writer *w, int index)
{
    lua_State *L = w->json->L;
    const char *text;
    char why[64];
    size_t len;

    if (!w->full && w->json->out->len > w->json->max_bytes) {
        fail(w, "too much: this is for settings, not for data");
        w->full = true;
    }
    if (w->full)
        return;
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        text = lua_toboolean(L, index) ? "true" : "false";
        fae_buf_add(w->json->out, text, strlen(text));
        return;
    case LUA_TNUMBER: write_number(w, lua_tonumber(L, index)); return;
    case LUA_TSTRING:
        text = lua_tolstring(L, index, &len);
        write_text(w, text, len);
        return;
    case LUA_TTABLE: write_table(w, index, false); return;
    case LUA_TUSERDATA: /* an unknown name, told of when it was read */ w->failed = true; return;
    default: snprintf(why, sizeof why, "a %s cannot be a setting", luaL_typename(L, index)); fail(w, why);
    }
}

bool fae_conf_json_object(const struct fae_conf_json *json, int index)
{
    struct writer w = { .json = json };

    if (index < 0)
        index = lua_gettop(json->L) + index + 1;
    write_table(&w, index, true);
    return !w.failed;
}
