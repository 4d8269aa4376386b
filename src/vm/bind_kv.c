/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the kv stores, read. The Lua half is lua/fae/kv_local.lua, which has checked what comes here. A store is its
 * number: 0 the durable one, 1 the fast one.
 */
#include "vm/bind_kv.h"

#include "store/store.h"
#include "vm/vm_impl.h"

#define SCAN_MAX 1000                /* items that one scan gives */
#define SCAN_LOOKS 10000u            /* records it looks at: expired ones are left out */
#define SCAN_SPARE (FAE_KIB * 3 / 4) /* of an answer with items: where the next begins, and the answer's own words */
#define EXPORT_BYTES (1u * FAE_MIB)

/* ---- arguments and errors ---- */

struct fae_kv_store *fae_kv_store_here(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    int i = luaL_checkint(L, 1);

    luaL_argcheck(L, i >= 0 && i < FAE_KV_STORES, 1, "no such store");
    if (!vm->o.stores) {
        fae_nil_err(L, FAE_UNAVAILABLE, "there is no kv store while servants are checked");
        return NULL;
    }
    if (fae_kv_on(&vm->o.stores->kv, (unsigned)i))
        return &vm->o.stores->kv.stores[i];
    fae_nil_err(L, FAE_UNAVAILABLE, "this node has no such kv store: the configuration says %s(false)",
                i == FAE_KV_FAST ? "kv_fast" : "kv");
    return NULL;
}

const char *fae_kv_key_here(lua_State *L, int idx, size_t *len)
{
    const char *key = luaL_checklstring(L, idx, len);

    luaL_argcheck(L, *len >= 1 && *len <= FAE_KV_KEY_MAX, idx, "length of a key");
    return key;
}

static int fail_read(lua_State *L, struct fae_kv_store *store, enum fae_err err)
{
    return fae_nil_err(L, err, "kv store: %s", fae_kv_why(store));
}

/* ---- reading ---- */

/* kv_get(store, key) -> value, version | nil | nil, err */
static int l_kv_get(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    struct fae_kv_record record;
    enum fae_err err;
    const char *key;
    size_t len;

    if (!store)
        return 2;
    key = fae_kv_key_here(L, 2, &len);
    err = fae_kv_get(store, key, len, &record);
    if (err == FAE_NOT_FOUND) {
        lua_pushnil(L);
        return 1;
    }
    if (err)
        return fail_read(L, store, err);
    lua_pushlstring(L, (const char *)record.value, record.len);
    fae_kv_release(store);
    lua_pushnumber(L, (lua_Number)record.version);
    return 2;
}

/* kv_get_many(store, keys) -> {key = value} | nil, err */
static int l_kv_get_many(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    size_t bytes = 0, max = fae_vm_of(L)->o.config->message_max, len;
    struct fae_kv_record record;
    enum fae_err err;
    int n;

    if (!store)
        return 2;
    luaL_checktype(L, 2, LUA_TTABLE);
    n = (int)lua_objlen(L, 2);
    lua_newtable(L);
    for (int i = 1; i <= n; i++, lua_settop(L, 3)) {
        const char *key;

        lua_rawgeti(L, 2, i);
        key = fae_kv_key_here(L, 4, &len);
        err = fae_kv_get(store, key, len, &record);
        if (err == FAE_NOT_FOUND)
            continue;
        if (err)
            return fail_read(L, store, err);
        bytes += len + record.len;
        if (bytes > max)
            return fae_nil_err(L, FAE_LIMIT, "these values have more than message_max bytes");
        lua_pushlstring(L, (const char *)record.value, record.len);
        lua_rawset(L, 3);
    }
    fae_kv_release(store);
    return 1;
}

/* kv_count(store) -> number of records | nil, err */
static int l_kv_count(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    enum fae_err err;
    uint64_t n;

    if (!store)
        return 2;
    err = fae_kv_count(store, &n);
    if (err)
        return fail_read(L, store, err);
    lua_pushnumber(L, (lua_Number)n);
    return 1;
}

/* ---- scans ---- */

struct scan {
    struct fae_kv_store *store;
    uint64_t now_ms;
    size_t bytes, bytes_max;
    int n, n_max;
    unsigned n_looks;
};

/* Is there room for one more? */
static bool may_take(const struct scan *s, const struct fae_kv_item *item)
{
    size_t more = item->key_len + item->record.len + 16;

    return s->n < s->n_max && s->n_looks < SCAN_LOOKS && (s->n == 0 || s->bytes + more <= s->bytes_max);
}

/* Appends {key, value} to the list at the top, unless it has expired. */
static void take(lua_State *L, struct scan *s, const struct fae_kv_item *item)
{
    s->n_looks++;
    if (fae_kv_expired(item->record.expires_ms, s->now_ms))
        return;
    s->bytes += item->key_len + item->record.len + 16;
    lua_createtable(L, 2, 0);
    lua_pushlstring(L, item->key, item->key_len);
    lua_rawseti(L, -2, 1);
    lua_pushlstring(L, (const char *)item->record.value, item->record.len);
    lua_rawseti(L, -2, 2);
    lua_rawseti(L, -2, ++s->n);
}

static struct scan scan_here(lua_State *L, struct fae_kv_store *store, int limit_idx)
{
    struct scan s = { .store = store,
                      .now_ms = store->kv->wall_ms(),
                      .bytes_max = fae_vm_of(L)->o.config->message_max - SCAN_SPARE,
                      .n_max = luaL_checkint(L, limit_idx) };

    luaL_argcheck(L, s.n_max >= 1 && s.n_max <= SCAN_MAX, limit_idx, "limit");
    return s;
}

/* The list is at the top, or where the next begins and it below. */
static int end_scan(lua_State *L, struct scan *s, enum fae_err err)
{
    fae_kv_release(s->store);
    if (err && err != FAE_NOT_FOUND)
        return fail_read(L, s->store, err);
    if (lua_istable(L, -1))
        lua_pushnil(L);
    lua_pushboolean(L, s->bytes > s->bytes_max);
    return 3;
}

static bool is_before(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return d ? d < 0 : a_len < b_len;
}

/* kv_scan(store, prefix, from, limit) -> {{key, value}, ...}, next from or nil, too long for a message? | nil, err */
static int l_kv_scan(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    size_t prefix_len, from_len;
    struct fae_kv_item item;
    const char *prefix, *from;
    uint16_t vbucket;
    enum fae_err err;
    struct scan s;

    if (!store)
        return 2;
    prefix = fae_kv_key_here(L, 2, &prefix_len);
    from = luaL_optlstring(L, 3, "", &from_len);
    luaL_argcheck(L, from_len <= FAE_KV_KEY_MAX, 3, "length of a key");
    s = scan_here(L, store, 4);
    vbucket = fae_kv_vbucket(prefix, prefix_len);
    if (is_before(from, from_len, prefix, prefix_len)) {
        from = prefix;
        from_len = prefix_len;
    }
    lua_newtable(L);
    for (err = fae_kv_seek(store, vbucket, from, from_len, &item);
         !err && item.vbucket == vbucket && item.key_len >= prefix_len && memcmp(item.key, prefix, prefix_len) == 0;
         err = fae_kv_next(store, &item)) {
        if (!may_take(&s, &item)) {
            lua_pushlstring(L, item.key, item.key_len);
            break;
        }
        take(L, &s, &item);
    }
    return end_scan(L, &s, err);
}

/* kv_scan_all(store, cursor or nil, limit) -> {{key, value}, ...}, next cursor or nil, too long for a message? | nil, err.
 * A cursor is a vbucket, two bytes, and the key to begin at. */
static int l_kv_scan_all(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    uint8_t cursor[FAE_KV_STORED_KEY_MAX];
    struct fae_kv_item item;
    const char *from;
    enum fae_err err;
    struct scan s;
    size_t len;

    if (!store)
        return 2;
    from = luaL_optlstring(L, 2, NULL, &len);
    if (!from) {
        from = "\0";
        len = 2;
    }
    if (len < 2 || len > FAE_KV_STORED_KEY_MAX)
        return fae_nil_err(L, FAE_BAD_ARGS, "that is no cursor of scan_all");
    s = scan_here(L, store, 3);
    lua_newtable(L);
    for (err = fae_kv_seek(store, fae_kv_u16((const uint8_t *)from), from + 2, len - 2, &item); !err;
         err = fae_kv_next(store, &item)) {
        if (!may_take(&s, &item)) {
            len = fae_kv_key_put(cursor, item.vbucket, item.key, item.key_len);
            lua_pushlstring(L, (const char *)cursor, len);
            break;
        }
        take(L, &s, &item);
    }
    return end_scan(L, &s, err);
}

/* ---- buckets ---- */

static void add_record(struct fae_buf *out, const struct fae_kv_item *item)
{
    uint8_t head[FAE_KV_CHUNK_RECORD];

    fae_kv_put_u16(head, (uint16_t)item->key_len);
    fae_kv_put_u32(head + 2, (uint32_t)item->record.len);
    fae_kv_put_u64(head + 6, item->record.version);
    fae_kv_put_u64(head + 14, item->record.expires_ms);
    fae_buf_add(out, head, sizeof head);
    fae_buf_add(out, item->key, item->key_len);
    fae_buf_add(out, item->record.value, item->record.len);
}

/* kv_export(store, bucket, key to begin at or nil) -> chunk, key of the next or nil | nil, err */
static int l_kv_export(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    size_t max = fae_vm_of(L)->o.config->message_max / 2, len;
    uint8_t head[FAE_KV_CHUNK_HEAD];
    struct fae_kv_item item;
    struct fae_buf *out;
    uint16_t vbucket;
    const char *from;
    enum fae_err err;

    if (!store)
        return 2;
    vbucket = (uint16_t)luaL_checkint(L, 2);
    luaL_argcheck(L, vbucket < FAE_KV_VBUCKETS, 2, "bucket");
    from = luaL_optlstring(L, 3, "", &len);
    luaL_argcheck(L, len <= FAE_KV_KEY_MAX, 3, "length of a key");
    max = max < EXPORT_BYTES ? max : EXPORT_BYTES;
    out = fae_push_buf(L);
    fae_kv_chunk_begin(head, vbucket);
    fae_buf_add(out, head, sizeof head);
    for (err = fae_kv_seek(store, vbucket, from, len, &item); !err && item.vbucket == vbucket;
         err = fae_kv_next(store, &item)) {
        if (out->len > sizeof head && out->len + item.key_len + item.record.len > max)
            break;
        add_record(out, &item);
    }
    lua_pushlstring(L, (const char *)out->data, out->len);
    if (!err && item.vbucket == vbucket)
        lua_pushlstring(L, item.key, item.key_len);
    else
        lua_pushnil(L);
    fae_kv_release(store);
    fae_buf_fini(out);
    return err && err != FAE_NOT_FOUND ? fail_read(L, store, err) : 2;
}

/* kv_bucket(store, bucket) -> {state, epoch, count} | nil, err */
static int l_kv_bucket(lua_State *L)
{
    struct fae_kv_store *store = fae_kv_store_here(L);
    struct fae_kv_bucket bucket;
    enum fae_err err;
    int vbucket;

    if (!store)
        return 2;
    vbucket = luaL_checkint(L, 2);
    luaL_argcheck(L, vbucket >= 0 && vbucket < (int)FAE_KV_VBUCKETS, 2, "bucket");
    err = fae_kv_bucket(store, (uint16_t)vbucket, &bucket);
    if (err)
        return fail_read(L, store, err);
    lua_createtable(L, 0, 3);
    lua_pushstring(L, fae_kv_state_word(bucket.state));
    lua_setfield(L, -2, "state");
    lua_pushnumber(L, (lua_Number)bucket.epoch);
    lua_setfield(L, -2, "epoch");
    lua_pushnumber(L, (lua_Number)bucket.count);
    lua_setfield(L, -2, "count");
    return 1;
}

/* kv_vbucket(key) -> number of the bucket, decided by {...}? */
static int l_kv_vbucket(lua_State *L)
{
    size_t len;
    const char *key = fae_kv_key_here(L, 1, &len);

    lua_pushinteger(L, fae_kv_vbucket(key, len));
    lua_pushboolean(L, fae_kv_has_tag(key, len));
    return 2;
}

/* kv_limits() -> longest key, longest value, most items of a scan, buckets, is there kv, is there kv_fast,
 * kv_backend */
static int l_kv_limits(lua_State *L)
{
    const struct fae_vm *vm = fae_vm_of(L);
    const struct fae_kv_shared *shared = vm->o.stores ? vm->o.stores->kv.shared : NULL;

    lua_pushinteger(L, FAE_KV_KEY_MAX);
    lua_pushnumber(L, shared ? shared->value_max : (lua_Number)vm->o.config->message_max);
    lua_pushinteger(L, SCAN_MAX);
    lua_pushinteger(L, FAE_KV_VBUCKETS);
    lua_pushboolean(L, shared ? shared->on[FAE_KV_DURABLE] : vm->o.config->kv);
    lua_pushboolean(L, shared ? shared->on[FAE_KV_FAST] : vm->o.config->kv_fast);
    lua_pushstring(L, vm->o.config->kv_backend);
    return 7;
}

static const luaL_Reg functions[] = {
    { "kv_get", l_kv_get },           { "kv_get_many", l_kv_get_many },
    { "kv_count", l_kv_count },       { "kv_scan", l_kv_scan },
    { "kv_scan_all", l_kv_scan_all }, { "kv_export", l_kv_export },
    { "kv_bucket", l_kv_bucket },     { "kv_vbucket", l_kv_vbucket },
    { "kv_limits", l_kv_limits },     { NULL, NULL },
};

void fae_bind_kv(lua_State *L)
{
    luaL_register(L, NULL, functions);
    fae_bind_kv_write(L);
}
