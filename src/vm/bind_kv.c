/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the kv stores: reads here, writes by the one writer of the node. The Lua half is lua/fae/kv_local.lua, which
 * has checked what comes here. A store is its number: 0 the durable one, 1 the fast one.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "base/hist.h"
#include "store/store.h"
#include "vm/codec.h"
#include "vm/task.h"
#include "vm/vm_impl.h"
#include "wire/msgpack.h"

#define SCAN_MAX 1000     /* items that one scan gives */
#define SCAN_LOOKS 10000u /* records it looks at: expired ones are left out */
#define EXPORT_BYTES (1u * FAE_MIB)
#define RETRY_AFTER_MS 10
#define EXACT_MAX ((int64_t)1 << 53)

/* A request whose task waits; its place is its number modulo FAE_KV_OUTSTANDING. */
struct waiting {
    struct fae_vm *vm;
    struct fae_task *task; /* NULL: it was given up */
    uint64_t seq;
    uint32_t at; /* in the ring */
    uint8_t store, op;
};

struct calls {
    uint64_t next, done; /* numbers of requests: the next one's, and the first that is not answered */
    struct waiting *waiting;
};

struct fae_kv_calls {
    struct calls stores[FAE_KV_STORES];
};

/* ---- arguments and errors ---- */

/* The store at 1, or NULL: nil, err are pushed. */
static struct fae_kv_store *store_here(lua_State *L)
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

static const char *key_here(lua_State *L, int idx, size_t *len)
{
    const char *key = luaL_checklstring(L, idx, len);

    luaL_argcheck(L, *len >= 1 && *len <= FAE_KV_KEY_MAX, idx, "length of a key");
    return key;
}

static int fail_read(lua_State *L, struct fae_kv_store *store, enum fae_err err)
{
    return fae_nil_err(L, err, "kv store: %s", fae_kv_why(store));
}

/* An integer of up to 64 bits: a number, or int64 and uint64 as cdata. */
static bool read_int64(lua_State *L, int idx, int64_t *out)
{
    struct fae_mp_token t;
    struct fae_buf *bytes = fae_push_buf(L);
    bool ok = fae_codec_put(L, idx, bytes, 64, 1) == FAE_OK;

    if (ok) {
        fae_mp_read(bytes->data, &t);
        ok = t.type == FAE_MP_INT || (t.type == FAE_MP_UINT && t.u <= INT64_MAX);
        *out = t.type == FAE_MP_INT ? t.i : (int64_t)t.u;
    }
    fae_buf_fini(bytes);
    return ok;
}

static void push_int64(lua_State *L, int64_t n)
{
    struct fae_buf *bytes;
    const uint8_t *p;

    if (n >= -EXACT_MAX && n <= EXACT_MAX) {
        lua_pushnumber(L, (lua_Number)n);
        return;
    }
    bytes = fae_push_buf(L);
    fae_mp_int(bytes, n);
    p = bytes->data;
    fae_codec_push(L, &p);
    lua_remove(L, -2);
}

/* ---- reading ---- */

/* kv_get(store, key) -> value, version | nil | nil, err */
static int l_kv_get(lua_State *L)
{
    struct fae_kv_store *store = store_here(L);
    struct fae_kv_record record;
    enum fae_err err;
    const char *key;
    size_t len;

    if (!store)
        return 2;
    key = key_here(L, 2, &len);
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
    struct fae_kv_store *store = store_here(L);
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
        key = key_here(L, 4, &len);
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
    struct fae_kv_store *store = store_here(L);
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
                      .bytes_max = fae_vm_of(L)->o.config->message_max - FAE_KIB / 2,
                      .n_max = luaL_checkint(L, limit_idx) };

    luaL_argcheck(L, s.n_max >= 1 && s.n_max <= SCAN_MAX, limit_idx, "limit");
    return s;
}

static bool is_before(const char *a, size_t a_len, const char *b, size_t b_len)
{
    int d = memcmp(a, b, a_len < b_len ? a_len : b_len);

    return d ? d < 0 : a_len < b_len;
}

/* kv_scan(store, prefix, from, limit) -> {{key, value}, ...}, next from or nil | nil, err */
static int l_kv_scan(lua_State *L)
{
    struct fae_kv_store *store = store_here(L);
    size_t prefix_len, from_len;
    struct fae_kv_item item;
    const char *prefix, *from;
    uint16_t vbucket;
    enum fae_err err;
    struct scan s;

    if (!store)
        return 2;
    prefix = key_here(L, 2, &prefix_len);
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
            fae_kv_release(store);
            return 2;
        }
        take(L, &s, &item);
    }
    fae_kv_release(store);
    return err && err != FAE_NOT_FOUND ? fail_read(L, store, err) : 1;
}

/* kv_scan_all(store, cursor or nil, limit) -> {{key, value}, ...}, next cursor or nil | nil, err.  A cursor is a vbucket,
 * two bytes, and the key to begin at. */
static int l_kv_scan_all(lua_State *L)
{
    struct fae_kv_store *store = store_here(L);
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
            fae_kv_release(store);
            return 2;
        }
        take(L, &s, &item);
    }
    fae_kv_release(store);
    return err && err != FAE_NOT_FOUND ? fail_read(L, store, err) : 1;
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
    struct fae_kv_store *store = store_here(L);
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
    struct fae_kv_store *store = store_here(L);
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
    const char *key = key_here(L, 1, &len);

    lua_pushinteger(L, fae_kv_vbucket(key, len));
    lua_pushboolean(L, fae_kv_has_tag(key, len));
    return 2;
}

/* kv_limits() -> longest key, longest value, most items of a scan, buckets, is there kv, is there kv_fast */
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
    return 6;
}

/* ---- what came of a write ---- */

struct result {
    struct fae_kv_answer answer;
    uint8_t op;
};

static int push_failure(lua_State *L, const struct result *r)
{
    enum fae_err err = (enum fae_err)r->answer.err;

    switch (err) {
    case FAE_BAD_ARGS:
        return fae_nil_err(L, err, "%s",
                           r->op == FAE_KV_INCR ? "the value there is no integer" : "that is no chunk of this bucket");
    case FAE_LIMIT: return fae_nil_err(L, err, "the number would not fit 64 bits");
    case FAE_FROZEN: return fae_nil_err(L, err, "the bucket of this key is being moved");
    case FAE_UNAVAILABLE: return fae_nil_err(L, err, "the bucket of this key lives on another node");
    default: return fae_nil_err(L, err, "%s", fae_err_text(err));
    }
}

static int push_result(lua_State *L, void *arg)
{
    const struct result *r = arg;

    if (r->answer.err)
        return push_failure(L, r);
    switch (r->op) {
    case FAE_KV_INCR:
    case FAE_KV_IMPORT: push_int64(L, r->answer.number); break;
    default: lua_pushboolean(L, r->answer.yes); break;
    }
    return 1;
}

static void resume(struct waiting *w, const struct fae_kv_answer *answer)
{
    struct result r = { *answer, w->op };
    struct fae_task *task = w->task;

    w->task = NULL;
    if (!task)
        return;
    fae_timer_stop(&task->sleep);
    fae_task_resume(task, push_result, &r);
}

/* Answers come in the order of the requests: one that was passed over never comes. */
static void take_answer(struct calls *calls, const struct fae_kv_answer *answer)
{
    struct fae_kv_answer lost = { .err = FAE_UNKNOWN };

    if (answer->seq < calls->done || answer->seq >= calls->next)
        return;
    while (calls->done < answer->seq)
        resume(&calls->waiting[calls->done++ % FAE_KV_OUTSTANDING], &lost);
    resume(&calls->waiting[calls->done++ % FAE_KV_OUTSTANDING], answer);
}

void fae_kv_woken(struct fae_vm *vm)
{
    struct fae_kv_answer answer;

    for (unsigned i = 0; i < FAE_KV_STORES; i++) {
        struct fae_kv_store *store = &vm->o.stores->kv.stores[i];

        if (!fae_kv_on(&vm->o.stores->kv, i))
            continue;
        fae_kv_release(store); /* that of a read which a Lua error ended */
        while (vm->kv && vm->kv->stores[i].waiting && fae_kv_next_answer(store, vm->o.slot, &answer))
            take_answer(&vm->kv->stores[i], &answer);
    }
}

/* ---- writing ---- */

/* True: it will not be done. */
static bool give_up(struct waiting *w)
{
    w->task = NULL;
    return fae_kv_withdraw(&w->vm->o.stores->kv.stores[w->store], w->vm->o.slot, w->at);
}

static void cancel(void *arg)
{
    struct waiting *w = arg;
    struct fae_task *task = w->task;

    fae_timer_stop(&task->sleep);
    if (!give_up(w))
        fae_task_unsure(task);
}

/* Of a task that has no deadline: nothing waits for ever. */
static void on_late(void *arg)
{
    struct fae_task *task = arg;
    struct waiting *w = task->cancel_arg;
    struct result r = { .op = w->op, .answer.err = FAE_TIMEOUT };

    if (!give_up(w))
        r.answer.err = FAE_UNKNOWN;
    fae_task_resume(task, push_result, &r);
}

static struct calls *calls_here(struct fae_vm *vm, unsigned store)
{
    struct calls *calls;

    if (!vm->kv)
        vm->kv = fae_zalloc(sizeof *vm->kv);
    calls = &vm->kv->stores[store];
    if (!calls->waiting)
        calls->waiting = fae_zalloc(FAE_KV_OUTSTANDING * sizeof *calls->waiting);
    return calls;
}

static int overloaded(lua_State *L)
{
    fae_nil_err(L, FAE_OVERLOAD, "too many writes wait for the kv store");
    lua_pushinteger(L, RETRY_AFTER_MS);
    lua_setfield(L, -2, "retry_after_ms");
    return 2;
}

static int ask(lua_State *L, struct fae_kv_store *store, struct fae_task *task, struct fae_kv_request *r)
{
    struct fae_vm *vm = task->vm;
    struct calls *calls = calls_here(vm, store->index);
    struct waiting *w = &calls->waiting[calls->next % FAE_KV_OUTSTANDING];
    uint64_t late_ms = vm->o.loop->now_ms + vm->o.config->call_timeout_ms;

    r->incarnation = FAE_STAT_GET(vm->slot->incarnation);
    r->seq = calls->next;
    r->deadline_ms = task->deadline_ms ? task->deadline_ms : late_ms;
    if (calls->next - calls->done >= FAE_KV_OUTSTANDING || fae_kv_ask(store, vm->o.slot, r, &w->at))
        return overloaded(L);
    w->vm = vm;
    w->task = task;
    w->seq = calls->next++;
    w->store = (uint8_t)store->index;
    w->op = r->op;
    fae_timer_init(&task->sleep, vm->o.loop, on_late, task);
    if (!task->deadline_ms)
        fae_timer_start(&task->sleep, vm->o.config->call_timeout_ms);
    return fae_task_wait(task, cancel, w);
}

/* kv_write(store, op, key, value or nil, ttl_ms, number) -> true, false or a number | nil, err.  Waits. op: 0 set, 1 del,
 * 2 add, 3 cas (number: the version), 4 incr (number: by how much). */
static int l_kv_write(lua_State *L)
{
    struct fae_kv_store *store = store_here(L);
    struct fae_kv_request r = { 0 };
    struct fae_task *task;
    int op = luaL_checkint(L, 2), status;
    size_t key_len, value_len = 0;

    if (!store)
        return 2;
    luaL_argcheck(L, op >= FAE_KV_SET && op <= FAE_KV_INCR, 2, "op");
    r.op = (uint8_t)op;
    r.key = key_here(L, 3, &key_len);
    r.key_len = (uint32_t)key_len;
    r.value = (const uint8_t *)luaL_optlstring(L, 4, "", &value_len);
    luaL_argcheck(L, value_len <= store->kv->shared->value_max, 4, "length of a value");
    r.value_len = (uint32_t)value_len;
    r.ttl_ms = (uint64_t)luaL_optnumber(L, 5, 0);
    if (op == FAE_KV_CAS)
        r.version = (uint64_t)luaL_checknumber(L, 6);
    if (op == FAE_KV_INCR && !read_int64(L, 6, &r.number))
        return fae_nil_err(L, FAE_BAD_ARGS, "by is an integer of up to 64 bits");
    task = fae_task_may_wait(L, &status);
    return task ? ask(L, store, task, &r) : status;
}

/* kv_bucket_set(store, bucket, state, epoch) -> true | nil, err.  Waits. */
static int l_kv_bucket_set(lua_State *L)
{
    struct fae_kv_store *store = store_here(L);
    struct fae_kv_request r = { .op = FAE_KV_BUCKET };
    struct fae_task *task;
    const char *word;
    unsigned state;
    size_t len;
    int status;

    if (!store)
        return 2;
    r.number = luaL_checkint(L, 2);
    luaL_argcheck(L, r.number >= 0 && r.number < (int)FAE_KV_VBUCKETS, 2, "bucket");
    word = luaL_checklstring(L, 3, &len);
    state = fae_kv_state_of(word, len);
    if (state == FAE_KV_STATES)
        return fae_nil_err(L, FAE_BAD_ARGS, "a bucket is active, replica, pending, dead or frozen");
    r.flags = (uint8_t)state;
    r.version = (uint64_t)luaL_checknumber(L, 4);
    task = fae_task_may_wait(L, &status);
    return task ? ask(L, store, task, &r) : status;
}

/* kv_import(store, bucket, chunk, into any state?) -> number of records | nil, err.  Waits. */
static int l_kv_import(lua_State *L)
{
    struct fae_kv_store *store = store_here(L);
    struct fae_kv_request r = { .op = FAE_KV_IMPORT };
    struct fae_task *task;
    size_t len;
    int status;

    if (!store)
        return 2;
    r.number = luaL_checkint(L, 2);
    luaL_argcheck(L, r.number >= 0 && r.number < (int)FAE_KV_VBUCKETS, 2, "bucket");
    r.value = (const uint8_t *)luaL_checklstring(L, 3, &len);
    if (len > store->kv->shared->value_max + FAE_KV_SLACK)
        return fae_nil_err(L, FAE_LIMIT, "a chunk has no more bytes than the longest value");
    r.value_len = (uint32_t)len;
    r.flags = (uint8_t)lua_toboolean(L, 4);
    task = fae_task_may_wait(L, &status);
    return task ? ask(L, store, task, &r) : status;
}

void fae_kv_forget(struct fae_vm *vm)
{
    for (unsigned i = 0; vm->kv && i < FAE_KV_STORES; i++)
        free(vm->kv->stores[i].waiting);
    free(vm->kv);
    vm->kv = NULL;
}

static const luaL_Reg functions[] = {
    { "kv_get", l_kv_get },
    { "kv_get_many", l_kv_get_many },
    { "kv_count", l_kv_count },
    { "kv_scan", l_kv_scan },
    { "kv_scan_all", l_kv_scan_all },
    { "kv_export", l_kv_export },
    { "kv_bucket", l_kv_bucket },
    { "kv_vbucket", l_kv_vbucket },
    { "kv_limits", l_kv_limits },
    { "kv_write", l_kv_write },
    { "kv_bucket_set", l_kv_bucket_set },
    { "kv_import", l_kv_import },
    { NULL, NULL },
};

void fae_bind_kv(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
