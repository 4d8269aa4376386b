/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: memcached. The Lua half is lua/fae/memcache.lua, which knows what replicas are for; here a call goes to one server.
 */
#include "vm/bind_memcache.h"

#include <stdlib.h>

#include "base/alloc.h"
#include "base/assert.h"
#include "vm/codec.h"
#include "vm/task.h"
#include "vm/vm_impl.h"
#include "wire/mctext.h"
#include "wire/msgpack.h"

#define HANDLE "fae.memcache"

/* A pool by name; found anew when the configuration has changed. */
struct handle {
    uint32_t version; /* of the pools, when it was looked for; 0: never */
    struct fae_memcache *pool;
    size_t len; /* of the name, which a client may have given: any bytes */
    char name[];
};

/* A task that waits for one server. The block is the server's (backend/memcache_server.h). */
struct pending {
    struct fae_memcache_call call;
    struct fae_memcache_server *server;
    struct fae_task *task; /* NULL: nobody waits */
    uint8_t bytes[];
};

/* The order is lua/fae/memcache.lua's. */
enum op { SET, ADD, REPLACE, APPEND, PREPEND, CAS, INCR, DECR, DELETE, TOUCH, OPS };

/* ---- arguments ---- */

struct fae_memcache *fae_memcache_here(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, HANDLE);
    const struct fae_backends *backends = fae_vm_of(L)->o.backends;

    if (!backends) {
        fae_nil_err(L, FAE_UNAVAILABLE, "there are no pools while servants are checked");
        return NULL;
    }
    if (h->version != fae_backends_version(backends)) {
        h->pool = strlen(h->name) == h->len ? fae_backends_find(backends, &fae_memcache_kind, h->name) : NULL;
        h->version = fae_backends_version(backends);
    }
    if (!h->pool)
        fae_nil_err(L, FAE_UNKNOWN_POOL, "there is no memcache pool \"%s\"", h->name);
    return h->pool;
}

const char *fae_memcache_key_here(lua_State *L, int idx, size_t *len)
{
    const char *key = luaL_checklstring(L, idx, len);

    if (fae_mctext_is_key(key, *len))
        return key;
    fae_nil_err(L, FAE_BAD_ARGS, "a key has 1 to %u bytes, none of them blank or a control byte", FAE_MCTEXT_KEY_MAX);
    return NULL;
}

/* The server that has the key as its replica'th. */
static struct fae_memcache_server *server_here(lua_State *L, const struct fae_memcache *pool, int idx, const char *key,
                                               size_t len)
{
    int replica = luaL_checkint(L, idx);

    if (replica < 0 || (unsigned)replica >= fae_memcache_n_replicas(pool))
        luaL_argerror(L, idx, "no such replica"); /* raises */
    return fae_memcache_server(pool, fae_memcache_pick(pool, key, len, (unsigned)replica));
}

/* A number, int64 or uint64 that is not negative. */
static bool read_uint64(lua_State *L, int idx, uint64_t *out)
{
    struct fae_buf *bytes;
    struct fae_mp_token t;
    bool ok;

    if (lua_type(L, idx) == LUA_TNUMBER && lua_tonumber(L, idx) >= 0 && lua_tonumber(L, idx) < 9007199254740992.0 &&
        lua_tonumber(L, idx) == (lua_Number)(uint64_t)lua_tonumber(L, idx)) {
        *out = (uint64_t)lua_tonumber(L, idx);
        return true;
    }
    if (!fae_codec_is_int64(L, idx))
        return false;
    bytes = fae_push_buf(L);
    ok = fae_codec_put(L, idx, bytes, 64, 1) == FAE_OK;
    if (ok) {
        fae_mp_read(bytes->data, &t);
        ok = t.type == FAE_MP_UINT || (t.type == FAE_MP_INT && t.i >= 0);
        *out = t.type == FAE_MP_UINT ? t.u : (uint64_t)t.i;
    }
    fae_buf_fini(bytes);
    return ok;
}

/* ---- answers ---- */

static void push_uint64(lua_State *L, uint64_t n)
{
    struct fae_buf *bytes;
    const uint8_t *p;

    if (n <= (uint64_t)1 << 53) {
        lua_pushnumber(L, (lua_Number)n);
        return;
    }
    bytes = fae_push_buf(L);
    fae_mp_uint(bytes, n);
    p = bytes->data;
    fae_codec_push(L, &p);
    lua_remove(L, -2);
}

int fae_memcache_push_failure(lua_State *L, const struct fae_memcache_answer *answer)
{
    fae_nil_err(L, answer->err, "%s", answer->why);
    if (answer->retry_after_ms) {
        lua_pushinteger(L, (lua_Integer)answer->retry_after_ms);
        lua_setfield(L, -2, "retry_after_ms");
    }
    if (answer->error) {
        lua_createtable(L, 0, 1);
        lua_pushstring(L, answer->error);
        lua_setfield(L, -2, "error");
        lua_setfield(L, -2, "detail");
    }
    return 2;
}

static int push_value(lua_State *L, void *arg)
{
    const struct fae_memcache_answer *answer = arg;

    if (answer->err)
        return fae_memcache_push_failure(L, answer);
    if (!answer->yes) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushlstring(L, answer->value.bytes, answer->value.len);
    lua_pushnumber(L, answer->value.flags);
    push_uint64(L, answer->value.cas);
    return 3;
}

static int push_yes(lua_State *L, void *arg)
{
    const struct fae_memcache_answer *answer = arg;

    if (answer->err)
        return fae_memcache_push_failure(L, answer);
    lua_pushboolean(L, answer->yes);
    return 1;
}

static int push_number(lua_State *L, void *arg)
{
    const struct fae_memcache_answer *answer = arg;

    if (answer->err)
        return fae_memcache_push_failure(L, answer);
    if (answer->yes)
        push_uint64(L, answer->number);
    else
        lua_pushnil(L);
    return 1;
}

static fae_task_push_fn push_of(enum fae_memcache_op op)
{
    return op == FAE_MEMCACHE_GET ? push_value : op == FAE_MEMCACHE_COUNT ? push_number : push_yes;
}

static void on_done(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    struct pending *p = FAE_CONTAINER(call, struct pending, call);
    struct fae_memcache_answer copy = *answer;

    if (p->task)
        fae_task_resume(p->task, push_of(call->op), &copy);
}

static void cancel(void *arg)
{
    struct pending *p = arg;
    struct fae_task *task = p->task;
    bool is_get = p->call.op == FAE_MEMCACHE_GET;

    if (fae_memcache_cancel(p->server, &p->call) && !is_get)
        fae_task_unsure(task);
}

/* ---- calls of one key ---- */

static struct pending *new_pending(struct fae_memcache_server *server, struct fae_task *task, enum fae_memcache_op op,
                                   size_t size)
{
    struct pending *p = fae_alloc(sizeof *p + size);

    p->call.op = op;
    p->call.n_keys = 1;
    p->call.bytes = p->bytes;
    p->call.value = NULL;
    p->call.done = on_done;
    p->server = server;
    p->task = task;
    return p;
}

/* Hands it to its server; waits when a task does. */
static int ask(lua_State *L, struct pending *p)
{
    struct fae_memcache_answer answer;

    if (fae_memcache_ask(p->server, &p->call, &answer)) {
        free(p);
        return fae_memcache_push_failure(L, &answer);
    }
    return p->task ? fae_task_wait(p->task, cancel, p) : 0;
}

/* memcache_get(handle, replica, key) -> value, flags, cas | nil | nil, err.  Waits. */
static int l_memcache_get(lua_State *L)
{
    struct fae_memcache *pool = fae_memcache_here(L);
    struct fae_memcache_server *server;
    struct fae_task *task;
    struct pending *p;
    const char *key;
    size_t len;
    int status;

    if (!pool)
        return 2;
    key = fae_memcache_key_here(L, 3, &len);
    if (!key)
        return 2;
    server = server_here(L, pool, 2, key, len);
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    p = new_pending(server, task, FAE_MEMCACHE_GET, 1 + len);
    p->bytes[0] = ' ';
    memcpy(p->bytes + 1, key, len);
    p->call.len = 1 + len;
    return ask(L, p);
}

/* A write as it was asked for. */
struct request {
    enum op op;
    const char *key, *value;
    size_t key_len, value_len;
    uint32_t flags;
    int64_t expires;
    uint64_t number; /* of CAS, INCR and DECR */
};

static enum fae_memcache_op kind_of(enum op op)
{
    switch (op) {
    case INCR:
    case DECR: return FAE_MEMCACHE_COUNT;
    case DELETE: return FAE_MEMCACHE_DELETE;
    case TOUCH: return FAE_MEMCACHE_TOUCH;
    default: return FAE_MEMCACHE_STORE;
    }
}

static void put_request(struct fae_buf *out, const struct request *r)
{
    switch (r->op) {
    case INCR:
    case DECR: fae_mctext_count(out, r->op == INCR, r->key, r->key_len, r->number); break;
    case DELETE: fae_mctext_delete(out, r->key, r->key_len); break;
    case TOUCH: fae_mctext_touch(out, r->key, r->key_len, r->expires); break;
    default:
        fae_mctext_store(out, (enum fae_mctext_store)r->op, r->key, r->key_len, r->flags, r->expires, r->value,
                         r->value_len, r->number);
        break;
    }
}

/* False: nil, err are pushed. */
static bool read_request(lua_State *L, const struct fae_memcache *pool, struct request *r)
{
    int op = luaL_checkint(L, 3);
    bool counts;

    luaL_argcheck(L, op >= 0 && op < OPS, 3, "no such operation");
    *r = (struct request){ .op = (enum op)op };
    r->key = fae_memcache_key_here(L, 4, &r->key_len);
    if (!r->key)
        return false;
    r->value = luaL_optlstring(L, 5, "", &r->value_len);
    if (r->value_len > fae_memcache_value_max(pool)) {
        fae_nil_err(L, FAE_LIMIT, "the value has %d bytes, more than value_max (%d)", (int)r->value_len,
                    (int)fae_memcache_value_max(pool));
        return false;
    }
    r->flags = (uint32_t)luaL_optnumber(L, 6, 0);
    r->expires = (int64_t)luaL_optnumber(L, 7, 0);
    counts = op == CAS || op == INCR || op == DECR;
    if (counts && !read_uint64(L, 8, &r->number)) {
        fae_nil_err(L, FAE_BAD_ARGS, "%s is an integer of 0 to 2^64 - 1", op == CAS ? "cas" : "by");
        return false;
    }
    return true;
}

static struct pending *pending_of(struct fae_memcache_server *server, struct fae_task *task, const struct request *r)
{
    size_t size = FAE_MCTEXT_HEAD_MAX + r->value_len + 2;
    struct pending *p = new_pending(server, task, kind_of(r->op), size);
    struct fae_buf out = { .data = p->bytes, .cap = size };

    put_request(&out, r);
    FAE_ASSERT(out.data == p->bytes); /* it never grew */
    p->call.len = out.len;
    return p;
}

/* memcache_ask(handle, replica, op, key, value or nil, flags, expires, number or nil) -> was it done?, or the number of a
 * count, nil when there is none | nil, err.  Waits. */
static int l_memcache_ask(lua_State *L)
{
    struct fae_memcache *pool = fae_memcache_here(L);
    struct fae_memcache_server *server;
    struct fae_task *task;
    struct request r;
    int status;

    if (!pool || !read_request(L, pool, &r))
        return 2;
    server = server_here(L, pool, 2, r.key, r.key_len);
    task = fae_task_may_wait(L, &status);
    return task ? ask(L, pending_of(server, task, &r)) : status;
}

/* memcache_send(...): the same, but nobody waits for what becomes of it. */
static int l_memcache_send(lua_State *L)
{
    struct fae_memcache *pool = fae_memcache_here(L);
    struct request r;

    if (!pool || !read_request(L, pool, &r))
        return 2;
    return ask(L, pending_of(server_here(L, pool, 2, r.key, r.key_len), NULL, &r));
}

/* ---- pools ---- */

/* memcache_open(name) -> handle; what is wrong shows in its calls */
static int l_memcache_open(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    struct handle *h = lua_newuserdata(L, sizeof *h + len + 1);

    *h = (struct handle){ .len = len };
    memcpy(h->name, name, len + 1);
    luaL_getmetatable(L, HANDLE);
    lua_setmetatable(L, -2);
    return 1;
}

/* memcache_replicas(handle) -> on how many servers a key lies that may still be asked: 1 when the task that runs must end |
 * nil, err */
static int l_memcache_replicas(lua_State *L)
{
    const struct fae_memcache *pool = fae_memcache_here(L);
    const struct fae_task *task = fae_vm_of(L)->current;

    if (!pool)
        return 2;
    lua_pushinteger(L, task && task->doomed ? 1 : (lua_Integer)fae_memcache_n_replicas(pool));
    return 1;
}

/* memcache_servers(handle, key) -> names of the servers on which the key lies | nil, err */
static int l_memcache_servers(lua_State *L)
{
    const struct fae_memcache *pool = fae_memcache_here(L);
    const char *key;
    size_t len;

    if (!pool)
        return 2;
    key = fae_memcache_key_here(L, 2, &len);
    if (!key)
        return 2;
    lua_newtable(L);
    for (unsigned i = 0; i < fae_memcache_n_replicas(pool); i++) {
        const char *name = fae_memcache_server_name(fae_memcache_server(pool, fae_memcache_pick(pool, key, len, i)));

        lua_pushstring(L, strrchr(name, ' ') + 1);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    { "memcache_open", l_memcache_open },
    { "memcache_get", l_memcache_get },
    { "memcache_ask", l_memcache_ask },
    { "memcache_send", l_memcache_send },
    { "memcache_replicas", l_memcache_replicas },
    { "memcache_servers", l_memcache_servers },
    { NULL, NULL },
};

void fae_bind_memcache(lua_State *L)
{
    if (luaL_newmetatable(L, HANDLE)) {
        lua_pushliteral(L, "memcache");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
    fae_bind_memcache_many(L);
}
