/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The decoder and the encoder between msgpack and Lua.
 */
#include "vm/codec.h"

#include <lauxlib.h>
#include <math.h>

#include "base/assert.h"
#include "base/limits.h"
#include "base/utf8.h"
#include "wire/msgpack.h"

#define LUA_CDATA 10                 /* lua_type of LuaJIT's cdata */
#define EXACT_MAX 9007199254740992.0 /* 2^53: doubles hold every integer up to here */

static const char mark_keys[FAE_MARK_COUNT];
static const char make_int_key, split_int_key;

/* 64-bit integers are cdata; only ffi can make and read them, so these two stay in Lua. */
static const char int64_source[] =
    "local ffi = ...\n"
    "local i64, u64, tonumber = ffi.typeof 'int64_t', ffi.typeof 'uint64_t', tonumber\n"
    "local union = ffi.typeof 'union { uint64_t u; int64_t i; uint32_t w[2]; }'\n"
    "local scratch = union()\n"
    "local function make(low, high, signed)\n"
    "  scratch.w[0], scratch.w[1] = low, high\n"
    "  if signed then return scratch.i end\n"
    "  return scratch.u\n"
    "end\n"
    "local function split(v)\n"
    "  if ffi.istype(i64, v) then scratch.i = v return tonumber(scratch.w[0]), tonumber(scratch.w[1]), true end\n"
    "  if ffi.istype(u64, v) then scratch.u = v return tonumber(scratch.w[0]), tonumber(scratch.w[1]), false end\n"
    "end\n"
    "return make, split\n";

/* LuaJIT's own number of a type stands so many bytes before a cdata's value; 0: not where it was looked for. To read it
 * costs nothing, to ask in Lua 160 ns (measured, of a call that takes 400). */
static unsigned type_before;
enum { TYPE_INT64 = 11, TYPE_UINT64 = 12 }; /* CTID_ of lj_ctype.h */

static unsigned type_of(const uint8_t *value, unsigned before)
{
    uint16_t type;

    memcpy(&type, value - before, sizeof type);
    return type;
}

static void set_registry(lua_State *L, const void *key)
{
    lua_pushlightuserdata(L, (void *)key);
    lua_insert(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

static void get_registry(lua_State *L, const void *key)
{
    lua_pushlightuserdata(L, (void *)key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

static void learn_types(lua_State *L);

void fae_codec_open(lua_State *L)
{
    static const char *const names[FAE_MARK_COUNT] = { "map", "array", "bin", "ext", "raw" };

    for (int i = 0; i < FAE_MARK_COUNT; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, names[i]);
        lua_setfield(L, -2, "__metatable"); /* getmetatable shows the word, nothing can be changed */
        set_registry(L, &mark_keys[i]);
    }
    if (luaL_loadbuffer(L, int64_source, sizeof int64_source - 1, "=int64"))
        lua_error(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "ffi");
    lua_remove(L, -2);
    lua_call(L, 1, 2);
    set_registry(L, &split_int_key);
    set_registry(L, &make_int_key);
    learn_types(L);
}

void fae_codec_mark(lua_State *L, enum fae_mark mark)
{
    get_registry(L, &mark_keys[mark]);
}

/* ---- bytes to Lua ---- */

static void push_int64(lua_State *L, uint64_t bits, bool is_signed)
{
    get_registry(L, &make_int_key);
    lua_pushnumber(L, (double)(uint32_t)bits);
    lua_pushnumber(L, (double)(uint32_t)(bits >> 32));
    lua_pushboolean(L, is_signed);
    lua_call(L, 3, 1);
}

void fae_codec_push_int(lua_State *L, int64_t value)
{
    if (value >= -(int64_t)EXACT_MAX && value <= (int64_t)EXACT_MAX)
        lua_pushnumber(L, (double)value);
    else
        push_int64(L, (uint64_t)value, true);
}

void fae_codec_push_uint(lua_State *L, uint64_t value)
{
    if (value <= (uint64_t)EXACT_MAX)
        lua_pushnumber(L, (double)value);
    else
        push_int64(L, value, value <= INT64_MAX);
}

/* Looks where the type stands, with 64-bit pointers in the header and with others; not found, nothing relies on it. */
static void learn_types(lua_State *L)
{
    static const unsigned places[] = { 6, 2 };
    const uint64_t bits = 0x0123456789abcdefu;
    const uint8_t *i, *u;

    push_int64(L, bits, true);
    push_int64(L, bits, false);
    i = lua_topointer(L, -2);
    u = lua_topointer(L, -1);
    for (unsigned n = 0; n < 2 && !type_before; n++)
        if (memcmp(i, &bits, sizeof bits) == 0 && memcmp(u, &bits, sizeof bits) == 0 &&
            type_of(i, places[n]) == TYPE_INT64 && type_of(u, places[n]) == TYPE_UINT64)
            type_before = places[n];
    lua_pop(L, 2);
}

static void push_ext(lua_State *L, const struct fae_mp_token *t)
{
    lua_createtable(L, 0, 2);
    lua_pushinteger(L, t->ext);
    lua_setfield(L, -2, "type");
    lua_pushlstring(L, (const char *)t->bytes, t->len);
    lua_setfield(L, -2, "data");
    fae_codec_mark(L, FAE_MARK_EXT);
    lua_setmetatable(L, -2);
}

static enum fae_err push_array(lua_State *L, const uint8_t **p, uint32_t n)
{
    lua_createtable(L, (int)n, 0);
    for (uint32_t i = 1; i <= n; i++) {
        enum fae_err err = fae_codec_push(L, p);

        if (err) {
            lua_replace(L, -2);
            return err;
        }
        lua_rawseti(L, -2, (int)i);
    }
    return FAE_OK;
}

static enum fae_err bad_key(lua_State *L, enum fae_mp_type type)
{
    static const char *const words[] = { "nil",      "a boolean", "an integer", "an integer", "a float",
                                         "a string", "a string",  "an array",   "a map",      "an extension" };

    lua_pushfstring(L, "a map key must be a string or an integer, not %s", words[type]);
    return FAE_BAD_MESSAGE;
}

static enum fae_err push_key(lua_State *L, const uint8_t **p)
{
    struct fae_mp_token key;

    fae_mp_read(*p, &key);
    if (key.type == FAE_MP_STR || key.type == FAE_MP_BIN || key.type == FAE_MP_INT || key.type == FAE_MP_UINT)
        return fae_codec_push(L, p);
    return bad_key(L, key.type);
}

static void push_fixstr(lua_State *L, const uint8_t **p)
{
    size_t len = **p & 0x1f;

    lua_pushlstring(L, (const char *)*p + 1, len);
    *p += 1 + len;
}

static enum fae_err push_map(lua_State *L, const uint8_t **p, uint32_t n)
{
    lua_createtable(L, 0, (int)n);
    if (n == 0) {
        fae_codec_mark(L, FAE_MARK_MAP);
        lua_setmetatable(L, -2);
    }
    for (uint32_t i = 0; i < n; i++) {
        enum fae_err err = FAE_OK;

        if ((**p & 0xe0) == 0xa0) /* as most keys are */
            push_fixstr(L, p);
        else
            err = push_key(L, p);
        if (!err) {
            err = fae_codec_push(L, p);
            if (err)
                lua_remove(L, -2);
        }
        if (err) {
            lua_replace(L, -2);
            return err;
        }
        lua_rawset(L, -3);
    }
    return FAE_OK;
}

static enum fae_err push_rare(lua_State *L, const uint8_t **p)
{
    struct fae_mp_token t;

    *p = fae_mp_read(*p, &t);
    switch (t.type) {
    case FAE_MP_NIL: lua_pushlightuserdata(L, NULL); return FAE_OK;
    case FAE_MP_BOOL: lua_pushboolean(L, t.flag); return FAE_OK;
    case FAE_MP_UINT: fae_codec_push_uint(L, t.u); return FAE_OK;
    case FAE_MP_INT: fae_codec_push_int(L, t.i); return FAE_OK;
    case FAE_MP_FLOAT: lua_pushnumber(L, t.f); return FAE_OK;
    case FAE_MP_STR:
    case FAE_MP_BIN: lua_pushlstring(L, (const char *)t.bytes, t.len); return FAE_OK;
    case FAE_MP_ARRAY: return push_array(L, p, t.len);
    case FAE_MP_MAP: return push_map(L, p, t.len);
    case FAE_MP_EXT: push_ext(L, &t); return FAE_OK;
    }
    return FAE_BAD_MESSAGE;
}

enum fae_err fae_codec_push(lua_State *L, const uint8_t **p)
{
    uint8_t first = **p;

    /* What most values are needs no token. */
    if ((first & 0xe0) == 0xa0) {
        push_fixstr(L, p);
        return FAE_OK;
    }
    if (first < 0x80) {
        lua_pushinteger(L, first);
        *p += 1;
        return FAE_OK;
    }
    if (first < 0x90) {
        *p += 1;
        return push_map(L, p, first & 0x0f);
    }
    return push_rare(L, p);
}

/* ---- Lua to bytes ---- */

struct put {
    struct fae_buf *out;
    size_t end; /* out->len may not pass this */
};

static enum fae_err put_value(lua_State *L, int idx, struct put *put, unsigned depth);

static enum fae_err refuse(lua_State *L, enum fae_err code, const char *text)
{
    lua_pushstring(L, text);
    return code;
}

static bool is_exact_int(double v)
{
    return v >= -EXACT_MAX && v <= EXACT_MAX && v == (double)(int64_t)v;
}

static void put_number(struct fae_buf *out, double v)
{
    /* -0.0 stays a float, so that it survives. */
    if (is_exact_int(v) && !(v == 0 && signbit(v)))
        fae_mp_int(out, (int64_t)v);
    else
        fae_mp_float(out, v);
}

static void put_string(struct fae_buf *out, const char *text, size_t len)
{
    if (fae_utf8_valid(text, len))
        fae_mp_str(out, text, len);
    else
        fae_mp_bin(out, text, len);
}

int fae_codec_is_int64(lua_State *L, int idx)
{
    int top = lua_gettop(L), is;

    if (lua_type(L, idx) != LUA_CDATA)
        return 0;
    lua_pushvalue(L, idx);
    get_registry(L, &split_int_key);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    is = lua_isnumber(L, -1);
    lua_settop(L, top);
    return is;
}

static enum fae_err put_cdata(lua_State *L, int idx, struct fae_buf *out)
{
    const uint8_t *value = lua_topointer(L, idx);
    uint64_t low, high, bits;
    bool is_signed;
    int top = lua_gettop(L);

    if (type_before && type_of(value, type_before) == TYPE_INT64) {
        memcpy(&bits, value, sizeof bits);
        fae_mp_int(out, (int64_t)bits);
        return FAE_OK;
    }
    lua_pushvalue(L, idx);
    get_registry(L, &split_int_key);
    lua_insert(L, -2);
    lua_call(L, 1, 3);
    if (!lua_isnumber(L, -3)) {
        lua_settop(L, top);
        return refuse(L, FAE_BAD_ARGS, "a cdata that is no 64-bit integer has no msgpack form");
    }
    low = (uint64_t)lua_tonumber(L, -3);
    high = (uint64_t)lua_tonumber(L, -2);
    is_signed = lua_toboolean(L, -1);
    lua_settop(L, top);
    bits = high << 32 | low;
    if (is_signed)
        fae_mp_int(out, (int64_t)bits);
    else
        fae_mp_uint(out, bits);
    return FAE_OK;
}

enum fae_mark fae_codec_mark_of(lua_State *L, int idx)
{
    enum fae_mark mark = FAE_MARK_COUNT;

    if (!lua_getmetatable(L, idx))
        return FAE_MARK_COUNT;
    for (int i = 0; i < FAE_MARK_COUNT && mark == FAE_MARK_COUNT; i++) {
        fae_codec_mark(L, (enum fae_mark)i);
        if (lua_rawequal(L, -1, -2))
            mark = (enum fae_mark)i;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return mark;
}

static enum fae_err put_key(lua_State *L, int idx, struct fae_buf *out)
{
    static const char wrong[] = "a map key must be a string or an integer";
    const char *text;
    size_t len;
    double v;

    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        text = lua_tolstring(L, idx, &len);
        put_string(out, text, len);
        return FAE_OK;
    case LUA_TNUMBER:
        v = lua_tonumber(L, idx);
        if (!is_exact_int(v))
            return refuse(L, FAE_BAD_ARGS, wrong);
        fae_mp_int(out, (int64_t)v);
        return FAE_OK;
    case LUA_CDATA: return put_cdata(L, idx, out);
    default: return refuse(L, FAE_BAD_ARGS, wrong);
    }
}

/* The header is written last, since only walking the table tells its size: one byte is kept free for it, and the pairs
 * are moved when they are more than 15. */
static enum fae_err put_pairs(lua_State *L, int idx, struct put *put, unsigned depth, uint8_t empty)
{
    struct fae_buf *out = put->out;
    size_t at = out->len, body;
    struct fae_buf head = { 0 };
    int key = lua_gettop(L) + 1;
    uint32_t n = 0;
    enum fae_err err;

    fae_mp_byte(out, 0x80);
    body = out->len;
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        err = put_key(L, key, out);
        if (!err)
            err = put_value(L, key + 1, put, depth + 1);
        if (err)
            return err;
        lua_settop(L, key);
        n++;
    }
    if (n < 16) {
        out->data[at] = n ? (uint8_t)(0x80 | n) : empty;
        return FAE_OK;
    }
    fae_mp_map(&head, n);
    fae_buf_room(out, head.len);
    memmove(out->data + at + head.len, out->data + body, out->len - body);
    memcpy(out->data + at, head.data, head.len);
    out->len += head.len - 1;
    fae_buf_fini(&head);
    return FAE_OK;
}

static enum fae_err put_map(lua_State *L, int idx, struct put *put, unsigned depth)
{
    return put_pairs(L, idx, put, depth, 0x80);
}

/* The values from index `from` to n; holes go out as nil. */
static enum fae_err put_by_index(lua_State *L, int idx, uint32_t from, uint32_t n, struct put *put, unsigned depth)
{
    for (uint32_t i = from; i <= n; i++) {
        enum fae_err err;

        lua_rawgeti(L, idx, (int)i);
        err = put_value(L, lua_gettop(L), put, depth + 1);
        if (err)
            return err;
        lua_pop(L, 1);
    }
    return FAE_OK;
}

/* The highest index. lua_objlen may stop at any hole. */
static uint32_t last_index(lua_State *L, int idx)
{
    double last = 0;

    lua_pushnil(L);
    while (lua_next(L, idx)) {
        double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;

        if (key > last && key <= UINT32_MAX && key == (double)(uint32_t)key)
            last = key;
        lua_pop(L, 1);
    }
    return (uint32_t)last;
}

/* Are the keys 1 to n, in whatever order they come? */
static bool is_list(lua_State *L, int idx, uint32_t n)
{
    uint32_t seen = 0;

    lua_pushnil(L);
    while (lua_next(L, idx)) {
        double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;

        lua_pop(L, 1);
        if (!(key >= 1 && key <= n && key == (double)(uint32_t)key)) {
            lua_pop(L, 1);
            return false;
        }
        seen++;
    }
    return seen == n;
}

static enum fae_err put_array(lua_State *L, int idx, struct put *put, unsigned depth)
{
    uint32_t n = last_index(L, idx);

    fae_mp_array(put->out, n);
    return put_by_index(L, idx, 1, n, put, depth);
}

/* Writes it as an array as long as the keys come as 1, 2, ... n, as they do unless the list was filled out of order. At
 * the first that does not, and before the first table, looks at all of the keys and turns back when it is no list. What
 * was written by then holds no table: one that were written twice at every level would be written 2^depth times. */
static enum fae_err put_list(lua_State *L, int idx, uint32_t n, struct put *put, unsigned depth)
{
    size_t at = put->out->len;
    int top = lua_gettop(L);
    uint32_t seen = 0;

    fae_mp_array(put->out, n);
    lua_pushnil(L);
    while (lua_next(L, idx)) {
        bool in_order = seen < n && lua_type(L, top + 1) == LUA_TNUMBER && lua_tonumber(L, top + 1) == seen + 1;
        enum fae_err err;

        if (!in_order || lua_istable(L, top + 2)) {
            lua_settop(L, top);
            if (is_list(L, idx, n))
                return put_by_index(L, idx, seen + 1, n, put, depth);
            put->out->len = at;
            return put_map(L, idx, put, depth);
        }
        err = put_value(L, top + 2, put, depth + 1);
        if (err)
            return err;
        lua_settop(L, top + 1);
        seen++;
    }
    return FAE_OK;
}

/* Bytes that are one value as they stand, and were shown to be: they may come from a cache that anybody writes. */
static enum fae_err put_raw(lua_State *L, const char *bytes, size_t len, struct put *put)
{
    struct fae_mp_scan scan;

    fae_mp_scan_init(&scan);
    if (fae_mp_scan(&scan, (const uint8_t *)bytes, len, len) != FAE_OK || scan.pos != len)
        return refuse(L, FAE_BAD_ARGS, "what was kept as msgpack is none");
    fae_buf_add(put->out, bytes, len);
    return FAE_OK;
}

static enum fae_err put_marked(lua_State *L, int idx, enum fae_mark mark, struct put *put)
{
    const char *bytes;
    size_t len;
    double type;

    lua_pushstring(L, mark == FAE_MARK_EXT ? "data" : "bytes");
    lua_rawget(L, idx);
    if (lua_type(L, -1) != LUA_TSTRING)
        return refuse(L, FAE_BAD_ARGS, "fae.bin and fae.ext hold a string");
    bytes = lua_tolstring(L, -1, &len);
    if (mark == FAE_MARK_RAW) {
        enum fae_err err = put_raw(L, bytes, len, put);

        if (err)
            return err;
    } else if (mark == FAE_MARK_BIN) {
        fae_mp_bin(put->out, bytes, len);
    } else {
        lua_pushstring(L, "type");
        lua_rawget(L, idx);
        type = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 1000;
        if (!(type >= INT8_MIN && type <= INT8_MAX))
            return refuse(L, FAE_BAD_ARGS, "the type of a fae.ext is -128 to 127");
        lua_pop(L, 1);
        fae_mp_ext(put->out, (int8_t)type, bytes, len);
    }
    lua_pop(L, 1);
    return FAE_OK;
}

static enum fae_err put_table(lua_State *L, int idx, struct put *put, unsigned depth)
{
    enum fae_mark mark = fae_codec_mark_of(L, idx);
    size_t n;

    if (mark == FAE_MARK_BIN || mark == FAE_MARK_EXT ||
        mark == FAE_MARK_RAW) /* a table in Lua, but nothing is nested in it */
        return put_marked(L, idx, mark, put);
    if (depth >= FAE_DEPTH_MAX)
        return refuse(L, FAE_LIMIT, "tables are nested deeper than 64, or contain themselves");
    if (mark == FAE_MARK_MAP)
        return put_map(L, idx, put, depth);
    if (mark == FAE_MARK_ARRAY)
        return put_array(L, idx, put, depth);
    n = lua_objlen(L, idx);
    if (n)
        return put_list(L, idx, (uint32_t)n, put, depth);
    return put_pairs(L, idx, put, depth, 0x90); /* a table without anything in it passes for an array */
}

static enum fae_err put_value(lua_State *L, int idx, struct put *put, unsigned depth)
{
    enum fae_err err = FAE_OK;
    const char *text;
    size_t len;

    switch (lua_type(L, idx)) {
    case LUA_TNONE:
    case LUA_TNIL: fae_mp_nil(put->out); break;
    case LUA_TBOOLEAN: fae_mp_bool(put->out, lua_toboolean(L, idx)); break;
    case LUA_TNUMBER: put_number(put->out, lua_tonumber(L, idx)); break;
    case LUA_TSTRING:
        text = lua_tolstring(L, idx, &len);
        if (put->out->len > put->end || len > put->end - put->out->len)
            return refuse(L, FAE_LIMIT, "the value is longer than a message may be");
        put_string(put->out, text, len);
        break;
    case LUA_TTABLE: err = put_table(L, idx, put, depth); break;
    case LUA_TLIGHTUSERDATA:
        if (lua_touserdata(L, idx))
            return refuse(L, FAE_BAD_ARGS, "a lightuserdata has no msgpack form");
        fae_mp_nil(put->out);
        break;
    case LUA_CDATA: err = put_cdata(L, idx, put->out); break;
    default: lua_pushfstring(L, "a %s has no msgpack form", luaL_typename(L, idx)); return FAE_BAD_ARGS;
    }
    if (!err && put->out->len > put->end)
        return refuse(L, FAE_LIMIT, "the value is longer than a message may be");
    return err;
}

enum fae_err fae_codec_put(lua_State *L, int idx, struct fae_buf *out, size_t max, unsigned depth)
{
    struct put put = { .out = out, .end = out->len + max };
    size_t at = out->len;
    int top = lua_gettop(L);
    enum fae_err err;

    if (idx < 0)
        idx += top + 1;
    err = put_value(L, idx, &put, depth);
    if (err) {
        out->len = at;
        if (lua_gettop(L) > top + 1)
            lua_replace(L, top + 1); /* the message, over whatever the walk left */
        lua_settop(L, top + 1);
    }
    return err;
}
