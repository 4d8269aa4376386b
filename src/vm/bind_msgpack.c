/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: msgpack of single values, and the marks fae.map, fae.array, fae.bin, fae.ext.
 */
#include "vm/codec.h"
#include "vm/vm_impl.h"
#include "wire/msgpack.h"

struct fae_buf *fae_push_buf(lua_State *L)
{
    struct fae_buf *buf = lua_newuserdata(L, sizeof *buf);

    *buf = (struct fae_buf){ 0 };
    luaL_getmetatable(L, "fae.buf");
    lua_setmetatable(L, -2);
    return buf;
}

static int l_buf_gc(lua_State *L)
{
    fae_buf_fini(lua_touserdata(L, 1));
    return 0;
}

/* msgpack_encode(value) -> bytes | nil, err */
static int l_encode(lua_State *L)
{
    size_t max = fae_vm_of(L)->o.config->message_max;
    struct fae_buf *buf;
    enum fae_err err;

    luaL_checkany(L, 1);
    lua_settop(L, 1);
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    buf = fae_push_buf(L);
    err = fae_codec_put(L, 1, buf, max, 0);
    if (err)
        return fae_nil_err(L, err, "%s", lua_tostring(L, -1));
    lua_pushlstring(L, (const char *)buf->data, buf->len);
    fae_buf_fini(buf);
    return 1;
}

/* msgpack_decode(bytes) -> value | nil, err */
static int l_decode(lua_State *L)
{
    size_t len, max = fae_vm_of(L)->o.config->message_max;
    const char *bytes = luaL_checklstring(L, 1, &len);
    const uint8_t *p = (const uint8_t *)bytes;
    struct fae_mp_scan scan;
    enum fae_err err;

    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    fae_mp_scan_init(&scan);
    err = fae_mp_scan(&scan, p, len, max);
    if (err == FAE_MORE)
        return fae_nil_err(L, FAE_BAD_MESSAGE, "the value is cut short");
    if (err)
        return fae_nil_err(L, err, "%s", err == FAE_LIMIT ? "too long, too deep or too many elements" : "not msgpack");
    if (scan.pos != len)
        return fae_nil_err(L, FAE_BAD_MESSAGE, "%d bytes follow the value", (int)(len - scan.pos));
    err = fae_codec_push(L, &p);
    if (err)
        return fae_nil_err(L, err, "%s", lua_tostring(L, -1));
    return 1;
}

/* mark(word) -> the metatable of "map", "array", "bin", "ext" or "raw" */
static int l_mark(lua_State *L)
{
    static const char *const words[] = { "map", "array", "bin", "ext", "raw", NULL };

    fae_codec_mark(L, (enum fae_mark)luaL_checkoption(L, 1, NULL, words));
    return 1;
}

static const luaL_Reg functions[] = {
    { "msgpack_encode", l_encode },
    { "msgpack_decode", l_decode },
    { "mark", l_mark },
    { NULL, NULL },
};

void fae_bind_msgpack(lua_State *L)
{
    luaL_newmetatable(L, "fae.buf");
    lua_pushcfunction(L, l_buf_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
