/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core.remote: calls to another node. The Lua half is lua/fae/remote.lua, which holds one handle a connection.
 */
#include <stdlib.h>

#include "backend/remote.h"
#include "base/alloc.h"
#include "vm/codec.h"
#include "vm/task.h"
#include "vm/vm_impl.h"
#include "wire/msgpack.h"

#define HANDLE "fae.remote"

struct handle {
    struct fae_remote *remote;
};

/* A task that waits for an answer. */
struct pending {
    struct fae_remote_call call;
    struct fae_remote *remote;
    struct fae_task *task;
};

struct answer {
    struct fae_remote *remote;
    enum fae_err err;
    const uint8_t *error, *result;
};

static struct fae_remote *check_remote(lua_State *L)
{
    return ((struct handle *)luaL_checkudata(L, 1, HANDLE))->remote;
}

/* ---- what came back ---- */

static void set_text(lua_State *L, const char *key, const uint8_t *p)
{
    struct fae_mp_token t;

    fae_mp_read(p, &t);
    if (t.type != FAE_MP_STR && t.type != FAE_MP_BIN)
        return;
    lua_pushlstring(L, (const char *)t.bytes, t.len);
    lua_setfield(L, -2, key);
}

/* "CODE: text", the form that a session has unless it asked for another; any other value is a text as it is. */
static int push_error(lua_State *L, const uint8_t *error)
{
    struct fae_mp_token t;
    const char *text;
    size_t code = 0;

    fae_mp_read(error, &t);
    lua_pushnil(L);
    fae_push_err(L, FAE_INTERNAL, "the other node answered with an error that is no text");
    if (t.type != FAE_MP_STR && t.type != FAE_MP_BIN)
        return 2;
    text = (const char *)t.bytes;
    while (code < t.len &&
           (text[code] == '_' || (text[code] >= 'A' && text[code] <= 'Z') || (text[code] >= '0' && text[code] <= '9')))
        code++;
    if (code == 0 || code + 2 > t.len || text[code] != ':' || text[code + 1] != ' ') {
        set_text(L, "message", error);
        return 2;
    }
    lua_pushlstring(L, text, code);
    lua_setfield(L, -2, "code");
    lua_pushlstring(L, text + code + 2, t.len - code - 2);
    lua_setfield(L, -2, "message");
    lua_pushboolean(L, fae_err_of(text, code) != FAE_ERR_COUNT && fae_err_retryable(fae_err_of(text, code)));
    lua_setfield(L, -2, "retryable");
    return 2;
}

static int push_answer(lua_State *L, void *arg)
{
    struct answer *a = arg;
    struct fae_mp_token t;

    if (a->err)
        return fae_nil_err(L, a->err, "%s: %s", fae_remote_addr(a->remote), fae_err_text(a->err));
    fae_mp_read(a->error, &t);
    if (t.type != FAE_MP_NIL)
        return push_error(L, a->error);
    fae_mp_read(a->result, &t);
    if (t.type == FAE_MP_NIL) {
        lua_pushnil(L);
        return 1;
    }
    if (fae_codec_push(L, &a->result) != FAE_OK)
        return fae_nil_err(L, FAE_BAD_MESSAGE, "%s: %s", fae_remote_addr(a->remote), lua_tostring(L, -1));
    return 1;
}

static void on_done(struct fae_remote_call *call, enum fae_err err, const uint8_t *error, const uint8_t *result)
{
    struct pending *p = FAE_CONTAINER(call, struct pending, call);
    struct answer a = { p->remote, err, error, result };
    struct fae_task *task = p->task;

    fae_timer_stop(&task->sleep);
    free(p);
    fae_task_resume(task, push_answer, &a);
}

static void cancel(void *arg)
{
    struct pending *p = arg;

    fae_timer_stop(&p->task->sleep);
    fae_remote_cancel(p->remote, &p->call);
    free(p);
}

static void on_late(void *arg)
{
    struct fae_task *task = arg;
    struct pending *p = task->cancel_arg;
    struct answer a = { p->remote, FAE_TIMEOUT, NULL, NULL };

    fae_remote_cancel(p->remote, &p->call);
    free(p);
    fae_task_resume(task, push_answer, &a);
}

/* ---- what goes out ---- */

/* The arguments from index `first` on, as an array; false: nil, err are pushed. */
static bool put_params(lua_State *L, int first, int last, struct fae_buf *out)
{
    size_t max = fae_vm_of(L)->o.config->message_max;
    enum fae_err err;

    fae_mp_array(out, (uint32_t)(last - first + 1));
    for (int i = first; i <= last; i++) {
        err = lua_isnil(L, i) ? (fae_mp_nil(out), FAE_OK) : fae_codec_put(L, i, out, max, 1);
        if (err) {
            const char *text = lua_tostring(L, -1);

            fae_nil_err(L, err, "%s", text);
            return false;
        }
    }
    return true;
}

/* What the caller's context says of it goes along, and how long it is waited for. */
static bool put_context(lua_State *L, const struct fae_task *task, uint64_t within_ms, struct fae_buf *out)
{
    static const char *const keys[] = { "rid", "reason", "uid", "traceparent" };
    int ref = fae_task_context(task), top = lua_gettop(L);
    bool there[4] = { false };
    uint32_t n = 1;

    if (ref != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
        for (unsigned i = 0; i < 4; i++) {
            lua_pushstring(L, keys[i]);
            lua_rawget(L, top + 1);
            there[i] = lua_isstring(L, -1);
            n += there[i];
        }
    }
    fae_mp_map(out, n);
    FAE_MP_TEXT(out, "deadline_ms");
    fae_mp_uint(out, within_ms);
    for (unsigned i = 0; i < 4; i++)
        if (there[i]) {
            fae_mp_str(out, keys[i], strlen(keys[i]));
            if (fae_codec_put(L, top + 2 + (int)i, out, FAE_MESSAGE_CEILING, 1) != FAE_OK)
                return false;
        }
    lua_settop(L, top);
    return true;
}

/* remote_new(addr, token or nil) -> handle, or raises what is wrong with the address */
static int l_remote_new(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_remote_opts opts = { .loop = vm->o.loop, .message_max = vm->o.config->message_max };
    const char *text = luaL_checkstring(L, 1);
    struct handle *h;
    char why[256];

    opts.token = luaL_optstring(L, 2, NULL);
    if (fae_addr_parse(text, &opts.addr, why, sizeof why) != FAE_OK)
        return luaL_error(L, "fae.remote: %s", why);
    if (strncmp(text, "tls:", 4) == 0)
        return luaL_error(L, "fae.remote: \"%s\": tls is not spoken to other nodes", text);
    h = lua_newuserdata(L, sizeof *h);
    h->remote = NULL;
    luaL_getmetatable(L, HANDLE);
    lua_setmetatable(L, -2);
    h->remote = fae_remote_new(&opts);
    return 1;
}

/* Not while a call is in flight: what waits for it has the handle on its stack (lua/fae/remote.lua). */
static int l_remote_gc(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, HANDLE);

    fae_remote_free(&h->remote);
    return 0;
}

/* remote_call(handle, timeout_ms, method, ...) -> value | nil, err.  Waits. */
static int l_remote_call(lua_State *L)
{
    struct fae_remote *remote = check_remote(L);
    double timeout_ms = luaL_checknumber(L, 2);
    int n = lua_gettop(L), status;
    struct fae_remote_message m = { 0 };
    struct fae_buf *params, *context;
    struct fae_task *task;
    struct pending *p;
    uint64_t now_ms, within_ms = (uint64_t)timeout_ms;
    enum fae_err err;

    m.method = luaL_checklstring(L, 3, &m.method_len);
    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    now_ms = task->vm->o.loop->now_ms;
    if (task->deadline_ms && task->deadline_ms - now_ms < within_ms)
        within_ms = task->deadline_ms - now_ms;
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    params = fae_push_buf(L);
    context = fae_push_buf(L);
    if (!put_params(L, 4, n, params))
        return 2;
    if (!put_context(L, task, within_ms, context))
        return fae_nil_err(L, FAE_BAD_ARGS, "the call's context cannot be passed on");
    m.params = params->data;
    m.params_len = params->len;
    m.context = context->data;
    m.context_len = context->len;
    p = fae_alloc(sizeof *p);
    *p = (struct pending){ .call = { .done = on_done }, .remote = remote, .task = task };
    err = fae_remote_call(remote, &p->call, &m);
    fae_buf_fini(params);
    fae_buf_fini(context);
    if (err) {
        free(p);
        return fae_nil_err(L, err, "%s: %s", fae_remote_addr(remote), fae_err_text(err));
    }
    fae_timer_init(&task->sleep, task->vm->o.loop, on_late, task);
    fae_timer_start(&task->sleep, within_ms);
    return fae_task_wait(task, cancel, p);
}

/* remote_notify(handle, method, ...) -> true | nil, err */
static int l_remote_notify(lua_State *L)
{
    struct fae_remote *remote = check_remote(L);
    struct fae_remote_message m = { 0 };
    struct fae_buf *params;
    int n = lua_gettop(L);
    enum fae_err err;

    m.method = luaL_checklstring(L, 2, &m.method_len);
    if (!fae_vm_of(L)->o.loop)
        return luaL_error(L, "nothing is sent while servants are checked");
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    params = fae_push_buf(L);
    if (!put_params(L, 3, n, params))
        return 2;
    m.params = params->data;
    m.params_len = params->len;
    err = fae_remote_notify(remote, &m);
    fae_buf_fini(params);
    if (err)
        return fae_nil_err(L, err, "%s: %s", fae_remote_addr(remote), fae_err_text(err));
    lua_pushboolean(L, 1);
    return 1;
}

static const luaL_Reg functions[] = {
    { "remote_new", l_remote_new },
    { "remote_call", l_remote_call },
    { "remote_notify", l_remote_notify },
    { NULL, NULL },
};

void fae_bind_remote(lua_State *L)
{
    if (luaL_newmetatable(L, HANDLE)) {
        lua_pushcfunction(L, l_remote_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "remote");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
