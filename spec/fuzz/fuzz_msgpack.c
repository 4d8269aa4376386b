/* SPDX-License-Identifier: BSD-2-Clause
 *
 * wire/msgpack and vm/codec: any bytes. The scan says the same of them whole and in pieces; what it lets pass is what
 * msgpack-c reads, becomes Lua values and goes out again as the same value (dump() knows what "same" means: numbers by
 * value, str and bin by their bytes, maps without order, and the few things that Lua cannot tell apart).
 */
#include "fuzz.h"

#include <lauxlib.h>
#include <lualib.h>
#include <math.h>
#include <msgpack.h>

#include "base/utf8.h"
#include "vm/codec.h"
#include "wire/msgpack.h"

#define MESSAGE_MAX 2048u
#define EXACT_MAX 9007199254740992.0 /* 2^53 */
#define THEIR_DEPTH 30               /* msgpack-c gives up a little beyond */

/* ---- scan ---- */

static enum fae_err scan_pieces(const uint8_t *bytes, size_t len, uint64_t *random, size_t *pos_out)
{
    struct fae_mp_scan scan;
    enum fae_err err = FAE_MORE;

    fae_mp_scan_init(&scan);
    for (size_t have = 0; err == FAE_MORE && have < len;) {
        uint8_t *copy;

        have += fuzz_chunk(random, len - have);
        copy = fuzz_copy(bytes, have);
        err = fae_mp_scan(&scan, copy, have, MESSAGE_MAX);
        free(copy);
    }
    *pos_out = scan.pos;
    return err;
}

/* The length of the value at the front, or 0. */
static size_t scan_all_ways(const uint8_t *bytes, size_t len)
{
    uint64_t random = fuzz_hash(bytes, len);
    struct fae_mp_scan scan;
    enum fae_err err, err_pieces;
    size_t pos;

    fae_mp_scan_init(&scan);
    err = fae_mp_scan(&scan, bytes, len, MESSAGE_MAX);
    for (unsigned i = 0; i < 2; i++) {
        err_pieces = scan_pieces(bytes, len, &random, &pos);
        FAE_ASSERT(err_pieces == err);
        FAE_ASSERT(pos == scan.pos || err == FAE_LIMIT);
    }
    if (err)
        return 0;
    FAE_ASSERT(scan.pos > 0 && scan.pos <= len && scan.pos <= MESSAGE_MAX);
    FAE_ASSERT(fae_mp_skip(bytes) == bytes + scan.pos);
    return scan.pos;
}

/* ---- what msgpack-c reads, in a form to compare ---- */

struct entry {
    size_t at, key_end, end; /* in the text of all entries */
    uint32_t index;
    bool wide; /* the key is a 64-bit integer: Lua has it as an object, so equal ones stay apart */
    const uint8_t *text;
};

static bool dump(const msgpack_object *o, struct fae_buf *out);

static void dump_number(struct fae_buf *out, char tag, const void *value)
{
    fae_buf_add(out, &tag, 1);
    fae_buf_add(out, value, 8);
}

static void dump_double(struct fae_buf *out, double v)
{
    int64_t i;

    if (isnan(v)) {
        fae_buf_add(out, "?", 1);
    } else if (v >= -EXACT_MAX && v <= EXACT_MAX && v == trunc(v) && !(v == 0 && signbit(v))) {
        i = (int64_t)v;
        dump_number(out, 'i', &i);
    } else {
        dump_number(out, 'd', &v);
    }
}

static void dump_bytes(struct fae_buf *out, char tag, int8_t type, const void *bytes, uint32_t len)
{
    fae_buf_add(out, &tag, 1);
    fae_buf_add(out, &type, 1);
    fae_buf_add(out, &len, sizeof len);
    fae_buf_add(out, bytes, len);
}

static bool is_key(const msgpack_object *o)
{
    return o->type == MSGPACK_OBJECT_STR || o->type == MSGPACK_OBJECT_BIN ||
           o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER || o->type == MSGPACK_OBJECT_POSITIVE_INTEGER;
}

static bool is_wide(const msgpack_object *o)
{
    return (o->type == MSGPACK_OBJECT_POSITIVE_INTEGER && o->via.u64 > (uint64_t)EXACT_MAX) ||
           (o->type == MSGPACK_OBJECT_NEGATIVE_INTEGER && o->via.i64 < -(int64_t)EXACT_MAX);
}

static int compare_keys(const struct entry *a, const struct entry *b)
{
    size_t len_a = a->key_end - a->at, len_b = b->key_end - b->at;
    int order = memcmp(a->text + a->at, b->text + b->at, len_a < len_b ? len_a : len_b);

    return order ? order : (len_a > len_b) - (len_a < len_b);
}

/* By key; equal ones as they came, but the wide, which Lua hands out in any order, by value. */
static int compare(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    size_t len_a = a->end - a->at, len_b = b->end - b->at;
    int order = compare_keys(a, b);

    if (order == 0 && a->wide) {
        order = memcmp(a->text + a->at, b->text + b->at, len_a < len_b ? len_a : len_b);
        return order ? order : (len_a > len_b) - (len_a < len_b);
    }
    return order ? order : a->index < b->index ? -1 : 1;
}

/* Keeps the last of equal keys; returns how many are left. */
static uint32_t drop_doubles(struct entry *entries, uint32_t n)
{
    uint32_t kept = 0;

    for (uint32_t i = 0; i < n; i++)
        if (entries[i].wide || i + 1 == n || compare_keys(&entries[i], &entries[i + 1]) != 0)
            entries[kept++] = entries[i];
    return kept;
}

/* Are the keys 1 to n? Then Lua holds a list. Entry by entry, since keys are not sorted as numbers. */
static bool is_list(const struct entry *entries, uint32_t n, uint32_t *order)
{
    for (uint32_t i = 0; i < n; i++)
        order[i] = UINT32_MAX;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *key = entries[i].text + entries[i].at;
        int64_t v;

        memcpy(&v, key + 1, sizeof v);
        if (*key != 'i' || v < 1 || v > n || order[v - 1] != UINT32_MAX)
            return false;
        order[v - 1] = i;
    }
    return n > 0;
}

static void add_head(struct fae_buf *out, char tag, uint32_t n)
{
    fae_buf_add(out, &tag, 1);
    fae_buf_add(out, &n, sizeof n);
}

static void add_entries(struct fae_buf *out, const struct entry *entries, uint32_t n)
{
    uint32_t *order = fae_alloc((n + 1) * sizeof *order);
    bool list = is_list(entries, n, order);

    add_head(out, list ? 'a' : 'm', n);
    for (uint32_t i = 0; i < n; i++) {
        const struct entry *e = &entries[list ? order[i] : i];
        size_t from = list ? e->key_end : e->at;

        fae_buf_add(out, e->text + from, e->end - from);
    }
    free(order);
}

static bool dump_map(const msgpack_object_map *map, struct fae_buf *out)
{
    struct entry *entries = fae_alloc((map->size + 1) * sizeof *entries);
    struct fae_buf text = { 0 };
    bool good = true;

    for (uint32_t i = 0; good && i < map->size; i++) {
        const msgpack_object *key = &map->ptr[i].key;

        entries[i] = (struct entry){ .at = text.len, .index = i, .wide = is_wide(key) };
        good = is_key(key) && dump(key, &text);
        entries[i].key_end = text.len;
        good = good && dump(&map->ptr[i].val, &text);
        entries[i].end = text.len;
    }
    if (good) {
        for (uint32_t i = 0; i < map->size; i++)
            entries[i].text = text.data;
        qsort(entries, map->size, sizeof *entries, compare);
        add_entries(out, entries, drop_doubles(entries, map->size));
    }
    fae_buf_fini(&text);
    free(entries);
    return good;
}

/* False when a map's key is one that the codec refuses. */
static bool dump(const msgpack_object *o, struct fae_buf *out)
{
    switch (o->type) {
    case MSGPACK_OBJECT_NIL: fae_buf_add(out, "n", 1); return true;
    case MSGPACK_OBJECT_BOOLEAN: fae_buf_add(out, o->via.boolean ? "t" : "f", 1); return true;
    case MSGPACK_OBJECT_POSITIVE_INTEGER:
        dump_number(out, o->via.u64 > INT64_MAX ? 'u' : 'i', &o->via.u64);
        return true;
    case MSGPACK_OBJECT_NEGATIVE_INTEGER: dump_number(out, 'i', &o->via.i64); return true;
    case MSGPACK_OBJECT_FLOAT32:
    case MSGPACK_OBJECT_FLOAT64: dump_double(out, o->via.f64); return true;
    case MSGPACK_OBJECT_STR: dump_bytes(out, 's', 0, o->via.str.ptr, o->via.str.size); return true;
    case MSGPACK_OBJECT_BIN: dump_bytes(out, 's', 0, o->via.bin.ptr, o->via.bin.size); return true;
    case MSGPACK_OBJECT_EXT: dump_bytes(out, 'e', o->via.ext.type, o->via.ext.ptr, o->via.ext.size); return true;
    case MSGPACK_OBJECT_MAP: return dump_map(&o->via.map, out);
    case MSGPACK_OBJECT_ARRAY:
        add_head(out, 'a', o->via.array.size);
        for (uint32_t i = 0; i < o->via.array.size; i++)
            if (!dump(&o->via.array.ptr[i], out))
                return false;
        return true;
    }
    FAE_ASSERT(!"a type of msgpack-c's that there is not");
    return false;
}

/* How far containers are inside each other. */
static unsigned depth_of(const uint8_t *bytes, size_t len)
{
    struct fae_mp_scan scan;
    unsigned deepest = 0;

    fae_mp_scan_init(&scan);
    for (size_t have = 1; have <= len; have++) {
        fae_mp_scan(&scan, bytes, have, MESSAGE_MAX * 16);
        deepest = scan.depth > deepest ? scan.depth : deepest;
    }
    return deepest;
}

/* Dumps the one value that the bytes are, by msgpack-c's reading of them; *good_out as dump() has it. */
static void dump_theirs(const uint8_t *bytes, size_t len, struct fae_buf *out, bool *good_out)
{
    msgpack_unpacked theirs;
    size_t off = 0;

    msgpack_unpacked_init(&theirs);
    FAE_ASSERT(msgpack_unpack_next(&theirs, (const char *)bytes, len, &off) == MSGPACK_UNPACK_SUCCESS);
    FAE_ASSERT(off == len);
    *good_out = dump(&theirs.data, out);
    msgpack_unpacked_destroy(&theirs);
}

/* ---- Lua ---- */

static int open_state(lua_State *L)
{
    luaL_openlibs(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushcfunction(L, luaopen_ffi);
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "ffi");
    lua_pop(L, 1);
    fae_codec_open(L);
    return 0;
}

static lua_State *state(void)
{
    static lua_State *L;
    static unsigned n_used;

    if (!L) {
        L = luaL_newstate(); /* its memory is not malloc's: a sanitizer cannot follow Lua's pointers and cries leak */
        FAE_ASSERT(L && lua_cpcall(L, open_state, NULL) == 0);
    }
    if (++n_used % 256 == 0)
        lua_gc(L, LUA_GCCOLLECT, 0);
    return L;
}

struct trip {
    const uint8_t *bytes;
    size_t len;
    bool good;          /* went in and out */
    struct fae_buf out; /* what came out */
};

/* The encoder keeps to its limit, to the byte. */
static void put_under_limits(lua_State *L, struct fae_buf *out)
{
    size_t len = out->len;
    int top = lua_gettop(L);

    out->len = 0;
    FAE_ASSERT(fae_codec_put(L, -1, out, len, 0) == FAE_OK);
    FAE_ASSERT(out->len == len && lua_gettop(L) == top);
    FAE_ASSERT(fae_codec_put(L, -1, out, len - 1, 0) == FAE_LIMIT);
    FAE_ASSERT(out->len == len && lua_gettop(L) == top + 1 && lua_type(L, -1) == LUA_TSTRING);
    lua_pop(L, 1);
}

static int round_trip(lua_State *L)
{
    struct trip *trip = lua_touserdata(L, 1);
    const uint8_t *p = trip->bytes;
    enum fae_err err;

    luaL_checkstack(L, FAE_CODEC_STACK * 2, "fuzz");
    err = fae_codec_push(L, &p);
    FAE_ASSERT(lua_gettop(L) == 2);
    if (err) {
        FAE_ASSERT(err == FAE_BAD_MESSAGE && lua_type(L, 2) == LUA_TSTRING);
        return 0;
    }
    FAE_ASSERT(p == trip->bytes + trip->len);
    err = fae_codec_put(L, 2, &trip->out, FAE_MIB, 0);
    FAE_ASSERT(err == FAE_OK && lua_gettop(L) == 2);
    put_under_limits(L, &trip->out);
    trip->good = true;
    return 0;
}

/* Lua's and back; false when the value was refused. */
static bool travel(const uint8_t *bytes, size_t len, struct fae_buf *out)
{
    struct trip trip = { .bytes = bytes, .len = len };

    FAE_ASSERT(lua_cpcall(state(), round_trip, &trip) == 0);
    *out = trip.out;
    return trip.good;
}

/* Text where it is UTF-8 and binary where not, and the shortest form of everything. */
static void check_form(const struct fae_buf *bytes)
{
    const uint8_t *p = bytes->data, *end = p + bytes->len;
    struct fae_buf again = { 0 };

    while (p < end) {
        struct fae_mp_token t;
        const uint8_t *next = fae_mp_read(p, &t);

        again.len = 0;
        switch (t.type) {
        case FAE_MP_UINT: fae_mp_uint(&again, t.u); break;
        case FAE_MP_INT: fae_mp_int(&again, t.i); break;
        case FAE_MP_ARRAY: fae_mp_array(&again, t.len); break;
        case FAE_MP_MAP: fae_mp_map(&again, t.len); break;
        case FAE_MP_EXT: fae_mp_ext(&again, t.ext, t.bytes, t.len); break;
        case FAE_MP_STR:
            FAE_ASSERT(fae_utf8_valid((const char *)t.bytes, t.len));
            fae_mp_str(&again, (const char *)t.bytes, t.len);
            break;
        case FAE_MP_BIN:
            FAE_ASSERT(!fae_utf8_valid((const char *)t.bytes, t.len));
            fae_mp_bin(&again, t.bytes, t.len);
            break;
        case FAE_MP_NIL:
        case FAE_MP_BOOL:
        case FAE_MP_FLOAT: fae_buf_add(&again, p, (size_t)(next - p)); break;
        }
        FAE_ASSERT(again.len == (size_t)(next - p) && memcmp(again.data, p, again.len) == 0);
        p = next;
    }
    FAE_ASSERT(p == end);
    fae_buf_fini(&again);
}

static void compare_with_theirs(const uint8_t *bytes, size_t len, const struct fae_buf *once, bool good)
{
    struct fae_buf before = { 0 }, after = { 0 };
    bool theirs_good;

    dump_theirs(bytes, len, &before, &theirs_good);
    FAE_ASSERT(good == theirs_good);
    if (good) {
        dump_theirs(once->data, once->len, &after, &theirs_good);
        FAE_ASSERT(theirs_good);
        FAE_ASSERT(before.len == after.len && memcmp(before.data, after.data, before.len) == 0);
    }
    fae_buf_fini(&before);
    fae_buf_fini(&after);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t input_len)
{
    size_t len = scan_all_ways(bytes, input_len);
    struct fae_buf once = { 0 }, twice = { 0 };
    struct fae_mp_scan scan;
    uint8_t *value;
    bool good;

    if (len == 0)
        return 0;
    value = fuzz_copy(bytes, len);
    good = travel(value, len, &once);
    if (good) {
        fae_mp_scan_init(&scan);
        FAE_ASSERT(fae_mp_scan(&scan, once.data, once.len, once.len) == FAE_OK && scan.pos == once.len);
        check_form(&once);
        FAE_ASSERT(travel(once.data, once.len, &twice));
        FAE_ASSERT(once.len == twice.len); /* the order within maps may differ */
    }
    if (depth_of(value, len) <= THEIR_DEPTH)
        compare_with_theirs(value, len, &once, good);
    fae_buf_fini(&once);
    fae_buf_fini(&twice);
    free(value);
    return 0;
}
