/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: mysql, one statement on whatever connection is free. The Lua half is lua/fae/mysql.lua.
 */
#include "vm/bind_mysql.h"

#include <math.h>
#include <stdlib.h>

#include "backend/backends.h"
#include "base/alloc.h"
#include "base/utf8.h"
#include "vm/codec.h"
#include "wire/msgpack.h"

#define PARAMS_MAX 65535 /* of the protocol */
#define FEW 16           /* parameters, as most statements have */

static const char handle_key;

/* A pool by name. It is looked up again when the configuration has changed. */
struct handle {
    struct fae_mysql *mysql;
    uint32_t version;
    size_t len; /* of the name, which may have zeros in it, as no pool's has */
    char name[];
};

/* ---- handles ---- */

static struct handle *check_handle(lua_State *L, int mark)
{
    struct handle *h = lua_touserdata(L, 1);

    if (!h || !lua_getmetatable(L, 1))
        luaL_typerror(L, 1, "mysql pool");
    if (!lua_rawequal(L, -1, mark))
        luaL_typerror(L, 1, "mysql pool");
    lua_pop(L, 1);
    return h;
}

struct fae_mysql *fae_mysql_here(lua_State *L, int mark)
{
    struct handle *h = check_handle(L, mark);
    const struct fae_backends *backends = fae_vm_of(L)->o.backends;

    if (!backends) {
        fae_nil_err(L, FAE_UNAVAILABLE, "mysql %s: nothing is asked while servants are checked", h->name);
        return NULL;
    }
    if (h->version != fae_backends_version(backends)) {
        h->mysql = strlen(h->name) == h->len ? fae_backends_find(backends, &fae_mysql_kind, h->name) : NULL;
        h->version = fae_backends_version(backends);
    }
    if (!h->mysql)
        fae_nil_err(L, FAE_UNKNOWN_POOL, "mysql %s: no such pool", h->name);
    return h->mysql;
}

/* mysql_open(name) -> handle */
static int l_mysql_open(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    struct handle *h = lua_newuserdata(L, sizeof *h + len + 1);

    h->mysql = NULL;
    h->version = 0;
    h->len = len;
    memcpy(h->name, name, len + 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    return 1;
}

/* ---- parameters ---- */

/* 64-bit integers and bytes that are marked so go by way of the codec, which knows them. False: nil, err are pushed. */
static bool take_marked(lua_State *L, int idx, int number, struct fae_mysql_param *p, struct fae_buf **marked)
{
    struct fae_buf *buf = *marked ? *marked : fae_push_buf(L);
    struct fae_mp_token t;
    size_t at = buf->len;

    *marked = buf;
    if (fae_codec_put(L, idx, buf, FAE_MESSAGE_CEILING, 1) == FAE_OK) {
        fae_mp_read(buf->data + at, &t);
        *p = (struct fae_mysql_param){ .type = t.type == FAE_MP_INT ? FAE_MYSQL_INT : FAE_MYSQL_UINT, .u = t.u };
        if (t.type == FAE_MP_BIN) /* the buffer may move: an offset for now */
            *p = (struct fae_mysql_param){ .type = FAE_MYSQL_BLOB,
                                           .u = (uint64_t)(t.bytes - buf->data) + 1,
                                           .len = t.len };
        if (t.type == FAE_MP_INT || t.type == FAE_MP_UINT || t.type == FAE_MP_BIN)
            return true;
    }
    fae_nil_err(L, FAE_BAD_ARGS, "parameter %d is a %s: nil, booleans, numbers, strings and fae.bin can be bound",
                number, luaL_typename(L, idx));
    return false;
}

static bool take_param(lua_State *L, int idx, int number, struct fae_mysql_param *p, struct fae_buf **marked)
{
    lua_Number n;
    const char *text;
    size_t len;

    switch (lua_type(L, idx)) {
    case LUA_TNONE:
    case LUA_TNIL: *p = (struct fae_mysql_param){ .type = FAE_MYSQL_NULL }; return true;
    case LUA_TBOOLEAN: *p = (struct fae_mysql_param){ .type = FAE_MYSQL_INT, .i = lua_toboolean(L, idx) }; return true;
    case LUA_TNUMBER:
        n = lua_tonumber(L, idx);
        if (!isfinite(n)) { /* servers make a zero of it, or keep what they cannot read */
            fae_nil_err(L, FAE_BAD_ARGS, "parameter %d is %f, which has no form in SQL", number, n);
            return false;
        }
        if (n >= -9007199254740992.0 && n <= 9007199254740992.0 && n == (lua_Number)(int64_t)n)
            *p = (struct fae_mysql_param){ .type = FAE_MYSQL_INT, .i = (int64_t)n };
        else
            *p = (struct fae_mysql_param){ .type = FAE_MYSQL_DOUBLE, .d = n };
        return true;
    case LUA_TSTRING:
        text = lua_tolstring(L, idx, &len);
        *p = (struct fae_mysql_param){ .type = fae_utf8_valid((const uint8_t *)text, len) ? FAE_MYSQL_TEXT
                                                                                          : FAE_MYSQL_BYTES,
                                       .bytes = text,
                                       .len = len };
        return true;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, idx)) {
            *p = (struct fae_mysql_param){ .type = FAE_MYSQL_NULL };
            return true;
        }
    }
    return take_marked(L, idx, number, p, marked);
}

/* Their bytes behind one another at `to`, so that they outlive the arguments. */
static void keep_bytes(struct fae_mysql_param *params, int n, const struct fae_buf *buf, char *to)
{
    for (int i = 0; i < n; i++) {
        struct fae_mysql_param *p = &params[i];
        bool marked = buf && p->type == FAE_MYSQL_BLOB && p->u <= buf->len;

        if (p->type < FAE_MYSQL_TEXT)
            continue;
        if (p->len)
            memcpy(to, marked ? (const char *)buf->data + p->u - 1 : p->bytes, p->len);
        p->bytes = to;
        to += p->len;
    }
}

struct fae_mysql_pending *fae_mysql_pending_new(lua_State *L, int first)
{
    size_t len, bytes = 0;
    const char *sql = luaL_checklstring(L, first, &len);
    int n = luaL_checkint(L, first + 1);
    struct fae_mysql_pending *p;
    struct fae_mysql_param few[FEW], *params = few;
    struct fae_buf *marked = NULL; /* of those that take_marked took */
    char *to;

    luaL_argcheck(L, n >= 0 && n <= PARAMS_MAX, first + 1, "too many parameters");
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    if (n > FEW)
        params = lua_newuserdata(L, (size_t)n * sizeof *params);
    for (int i = 0; i < n; i++) {
        if (!take_param(L, first + 2 + i, i + 1, &params[i], &marked))
            return NULL;
        bytes += params[i].len;
    }
    p = fae_alloc(sizeof *p + (size_t)n * sizeof *params + bytes + len + 1);
    memset(p, 0, sizeof *p);
    if (n)
        memcpy(p + 1, params, (size_t)n * sizeof *params);
    params = (struct fae_mysql_param *)(p + 1);
    to = (char *)(params + n);
    keep_bytes(params, n, marked, to + len + 1);
    memcpy(to, sql, len + 1);
    p->call.run.sql = to;
    p->call.run.len = len;
    p->call.run.params = params;
    p->call.run.n_params = (unsigned)n;
    if (marked)
        fae_buf_fini(marked);
    return p;
}

void fae_mysql_pending_free(struct fae_mysql_pending *p)
{
    fae_mysql_run_fini(&p->call.run);
    free(p);
}

/* ---- results ---- */

static void push_number(lua_State *L, uint64_t n, const char *key)
{
    fae_codec_push_uint(L, n);
    lua_setfield(L, -2, key);
}

void fae_mysql_push_rows(lua_State *L, const struct fae_mysql_run *run)
{
    const uint8_t *p = run->rows.data;

    lua_createtable(L, (int)run->n_rows, 0);
    for (unsigned i = 0; i < run->n_rows; i++) {
        fae_codec_push(L, &p);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

int fae_mysql_push_result(lua_State *L, void *arg)
{
    const struct fae_mysql_came *came = arg;
    const struct fae_mysql_run *run = &came->pending->call.run;
    const uint8_t *columns = run->columns.data;

    if (came->err && came->err != FAE_MORE)
        return fae_mysql_push_failure(L, &came->pending->call, came->err);
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    lua_createtable(L, 0, 4);
    if (run->n_columns)
        fae_codec_push(L, &columns);
    else
        lua_newtable(L);
    lua_setfield(L, -2, "cols");
    fae_mysql_push_rows(L, run);
    lua_setfield(L, -2, "rows");
    push_number(L, run->affected, "affected");
    push_number(L, run->insert_id, "insert_id");
    if (run->warnings > 0)
        push_number(L, run->warnings, "warnings");
    return 1;
}

int fae_mysql_push_failure(lua_State *L, const struct fae_mysql_call *call, enum fae_err err)
{
    const struct fae_mysql_run *run = &call->run;
    const char *text = *run->fault.text ? run->fault.text : fae_err_text(err), *label = fae_mysql_label(call->server);

    if (err == FAE_BACKEND && run->fault.number) /* whoever takes errors as text has it there */
        fae_nil_err(L, err, "%s: %u %s", label, run->fault.number, text);
    else
        fae_nil_err(L, err, "%s: %s", label, text);
    if (call->retry_after_ms) {
        lua_pushnumber(L, call->retry_after_ms);
        lua_setfield(L, -2, "retry_after_ms");
    }
    if (run->fault.number) {
        lua_createtable(L, 0, 2);
        lua_pushnumber(L, run->fault.number);
        lua_setfield(L, -2, "errno");
        lua_pushstring(L, run->fault.state);
        lua_setfield(L, -2, "sqlstate");
        lua_setfield(L, -2, "detail");
    }
    return 2;
}

static void on_done(struct fae_mysql_call *call, enum fae_err err)
{
    struct fae_mysql_pending *p = FAE_CONTAINER(call, struct fae_mysql_pending, call);
    struct fae_mysql_came came = { p, err };

    fae_task_resume(p->task, p->push, &came);
    fae_mysql_pending_free(p);
}

void fae_mysql_pending_cancel(void *arg)
{
    struct fae_mysql_pending *p = arg;

    if (!fae_mysql_cancel(&p->call))
        fae_task_unsure(p->task);
    fae_mysql_pending_free(p);
}

/* mysql_query(handle, on_replica, sql, n, ...) -> result | nil, err.  Waits. */
static int l_mysql_query(lua_State *L)
{
    struct fae_mysql *mysql = fae_mysql_here(L, lua_upvalueindex(1));
    bool on_replica = lua_toboolean(L, 2);
    struct fae_mysql_pending *p;
    struct fae_task *task;
    enum fae_err err;
    int status;

    if (!mysql)
        return 2;
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    p = fae_mysql_pending_new(L, 3);
    if (!p)
        return 2;
    p->task = task;
    p->push = fae_mysql_push_result;
    p->call.done = on_done;
    p->call.on_replica = on_replica;
    p->call.deadline_ms = task->deadline_ms;
    err = fae_mysql_query(mysql, &p->call);
    if (err) {
        status = fae_mysql_push_failure(L, &p->call, err);
        fae_mysql_pending_free(p);
        return status;
    }
    return fae_task_wait(task, fae_mysql_pending_cancel, p);
}

/* mysql_reads(sql) -> may it go to a replica */
static int l_mysql_reads(lua_State *L)
{
    size_t len;
    const char *sql = luaL_checklstring(L, 1, &len);
    struct fae_mysql_class class = fae_mysql_classify(sql, len);

    lua_pushboolean(L, class.reads && !class.locks);
    return 1;
}

static const luaL_Reg functions[] = {
    { "mysql_open", l_mysql_open },
    { "mysql_reads", l_mysql_reads },
    { "mysql_query", l_mysql_query },
    { NULL, NULL },
};

void fae_bind_mysql(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&handle_key);
    lua_newtable(L);
    lua_pushliteral(L, "mysql pool");
    lua_setfield(L, -2, "__metatable");
    for (const luaL_Reg *f = functions; f->name; f++) {
        lua_pushvalue(L, -1);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -4, f->name);
    }
    fae_bind_mysql_conn(L);
    lua_settable(L, LUA_REGISTRYINDEX);
}
