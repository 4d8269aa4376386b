/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: redis, on the connections that calls share. The Lua half is lua/fae/redis.lua, which knows which commands may
 * go there: none that blocks or changes the connection's state.
 */
#include "vm/bind_redis.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backend/backends.h"
#include "base/alloc.h"
#include "vm/codec.h"
#include "wire/msgpack.h"

#define LUA_CDATA 10 /* lua_type of LuaJIT's cdata */
#define BATCH_MAX 100000

static const char handle_key;

/* A pool by name. It is looked up again when the configuration has changed. */
struct handle {
    const void *kind; /* &handle_key: it is one */
    struct fae_redis *redis;
    uint32_t version;
    size_t len; /* of the name, which clients give: one with a NUL in it is no pool's */
    char name[];
};

/* ---- handles ---- */

/* Metatables need not be looked at: luaL_checkudata would intern the name of the type each time. */
static struct handle *check_handle(lua_State *L)
{
    struct handle *h = lua_touserdata(L, 1);

    if (!h || lua_objlen(L, 1) < sizeof *h || h->kind != &handle_key)
        luaL_typerror(L, 1, "redis pool");
    return h;
}

struct fae_redis *fae_redis_pool_here(lua_State *L)
{
    struct handle *h = check_handle(L);
    const struct fae_backends *backends = fae_vm_of(L)->o.backends;

    if (!backends) {
        fae_nil_err(L, FAE_UNAVAILABLE, "redis %s: nothing is asked while servants are checked", h->name);
        return NULL;
    }
    if (h->version != fae_backends_version(backends)) {
        h->redis = strlen(h->name) == h->len ? fae_backends_find(backends, &fae_redis_kind, h->name) : NULL;
        h->version = fae_backends_version(backends);
    }
    if (!h->redis)
        fae_nil_err(L, FAE_UNKNOWN_POOL, "redis %s: no such pool", h->name);
    return h->redis;
}

int fae_redis_server_here(lua_State *L, const struct fae_redis *redis)
{
    lua_Number i = luaL_checknumber(L, 2);

    if (i >= 0 && i < fae_redis_n_servers(redis))
        return (int)i;
    fae_nil_err(L, FAE_BAD_ARGS, "redis %s: the pool has no server %d, but %d",
                ((struct handle *)lua_touserdata(L, 1))->name, (int)i + 1, (int)fae_redis_n_servers(redis));
    return -1;
}

/* redis_open(name) -> handle */
static int l_redis_open(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    struct handle *h = lua_newuserdata(L, sizeof *h + len + 1);

    h->kind = &handle_key;
    h->redis = NULL;
    h->version = 0;
    h->len = len;
    memcpy(h->name, name, len + 1);
    return 1;
}

/* redis_servers(handle) -> n | nil, err */
static int l_redis_servers(lua_State *L)
{
    const struct fae_redis *redis = fae_redis_pool_here(L);

    if (!redis)
        return 2;
    lua_pushinteger(L, fae_redis_n_servers(redis));
    return 1;
}

/* redis_server_name(handle, i) -> "tcp://10.0.0.1:6379" | nil, err */
static int l_redis_server_name(lua_State *L)
{
    const struct fae_redis *redis = fae_redis_pool_here(L);
    int server;

    if (!redis || (server = fae_redis_server_here(L, redis)) < 0)
        return 2;
    lua_pushstring(L, fae_redis_server(redis, (unsigned)server));
    return 1;
}

/* redis_pick(handle, key) -> i | nil, err */
static int l_redis_pick(lua_State *L)
{
    const struct fae_redis *redis = fae_redis_pool_here(L);
    const char *key;
    size_t len;

    if (!redis)
        return 2;
    key = luaL_checklstring(L, 2, &len);
    lua_pushinteger(L, fae_redis_pick(redis, key, len));
    return 1;
}

/* ---- commands ---- */

/* Text into buf (32 bytes); 0: it has none that redis would read as a number. */
static size_t number_text(double v, char *buf)
{
    if (v >= -9007199254740992.0 && v <= 9007199254740992.0 && v == (double)(int64_t)v)
        return (size_t)snprintf(buf, 32, "%lld", (long long)v);
    if (!isfinite(v))
        return 0;
    if (v == floor(v) && fabs(v) < 1e21)
        return (size_t)snprintf(buf, 32, "%.0f", v);
    return (size_t)snprintf(buf, 32, "%.17g", v);
}

/* An int64 or uint64; false: any other cdata. */
static bool make_int64(lua_State *L, int idx)
{
    struct fae_buf *bytes;
    struct fae_mp_token t;
    char buf[32];

    if (!fae_codec_is_int64(L, idx))
        return false;
    bytes = fae_push_buf(L);
    if (fae_codec_put(L, idx, bytes, 64, 1) != FAE_OK)
        return false;
    fae_mp_read(bytes->data, &t);
    lua_pushlstring(L, buf,
                    (size_t)(t.type == FAE_MP_UINT ? snprintf(buf, sizeof buf, "%llu", (unsigned long long)t.u)
                                                   : snprintf(buf, sizeof buf, "%lld", (long long)t.i)));
    lua_replace(L, idx);
    fae_buf_fini(bytes); /* Lua's */
    lua_pop(L, 1);
    return true;
}

/* What is no string yet; false: it cannot be one. */
static bool make_string(lua_State *L, int idx, int type)
{
    char buf[32];
    size_t len;

    if (type == LUA_CDATA)
        return make_int64(L, idx);
    len = type == LUA_TNUMBER ? number_text(lua_tonumber(L, idx), buf) : 0;
    if (len == 0)
        return false;
    lua_pushlstring(L, buf, len);
    lua_replace(L, idx);
    return true;
}

/* The value at idx (an absolute one), which is made a string. */
static bool arg_here(lua_State *L, int idx, struct fae_redis_arg *arg)
{
    int type = lua_type(L, idx);

    if (__builtin_expect(type != LUA_TSTRING, 0) && !make_string(L, idx, type))
        return false;
    arg->text = lua_tolstring(L, idx, &arg->len);
    return true;
}

static int bad_arg(lua_State *L, int i, int idx)
{
    const char *what = lua_islightuserdata(L, idx) ? "fae.null" : luaL_typename(L, idx);

    return fae_nil_err(L, FAE_BAD_ARGS, "redis: argument %d of a command must be a string or a number, not %s", i,
                       what);
}

bool fae_redis_args_here(lua_State *L, int first, int last, struct fae_redis_args *args)
{
    int n = last - first + 1;

    if (n < 1 || lua_type(L, first) != LUA_TSTRING) {
        fae_nil_err(L, FAE_BAD_ARGS, "redis: a command begins with its name");
        return false;
    }
    args->args = args->few;
    if (n > FAE_REDIS_ARGS)
        args->args = lua_newuserdata(L, (size_t)n * sizeof *args->args);
    for (int i = 0; i < n; i++)
        if (!arg_here(L, first + i, &args->args[i])) {
            bad_arg(L, i, first + i);
            return false;
        }
    return true;
}

/* How many arguments all commands of the list have. False: nil, err are pushed. */
static bool count_args(lua_State *L, int idx, unsigned n, size_t *n_args)
{
    for (unsigned i = 1; i <= n; i++) {
        lua_rawgeti(L, idx, (int)i);
        if (!lua_istable(L, -1) || lua_objlen(L, -1) == 0) {
            fae_nil_err(L, FAE_BAD_ARGS, "redis: command %u of a batch is no list that begins with its name", i);
            return false;
        }
        *n_args += lua_objlen(L, -1);
        lua_pop(L, 1);
    }
    return true;
}

/* Arguments of the command at cmd_idx into args. What is made a string here is kept in the table at made_idx. */
static bool read_command(lua_State *L, int cmd_idx, int made_idx, struct fae_redis_command *command,
                         struct fae_redis_arg *args)
{
    *command = (struct fae_redis_command){ args, (unsigned)lua_objlen(L, cmd_idx) };
    for (unsigned i = 0; i < command->n; i++) {
        bool is_string;

        lua_rawgeti(L, cmd_idx, (int)i + 1);
        is_string = lua_type(L, -1) == LUA_TSTRING;
        if (!arg_here(L, lua_gettop(L), &args[i])) {
            bad_arg(L, (int)i, -1);
            return false;
        }
        if (is_string)
            lua_pop(L, 1);
        else
            lua_rawseti(L, made_idx, (int)lua_objlen(L, made_idx) + 1);
    }
    return true;
}

struct fae_redis_command *fae_redis_commands_here(lua_State *L, int idx, unsigned *n_out)
{
    struct fae_redis_command *commands;
    struct fae_redis_arg *args;
    size_t n_args = 0;
    int made;

    luaL_checktype(L, idx, LUA_TTABLE);
    *n_out = (unsigned)lua_objlen(L, idx);
    if (*n_out == 0 || *n_out > BATCH_MAX) {
        fae_nil_err(L, FAE_BAD_ARGS, "redis: a batch has 1 to %d commands", BATCH_MAX);
        return NULL;
    }
    if (!count_args(L, idx, *n_out, &n_args))
        return NULL;
    commands = lua_newuserdata(L, *n_out * sizeof *commands);
    args = lua_newuserdata(L, n_args * sizeof *args);
    lua_newtable(L);
    made = lua_gettop(L);
    for (unsigned i = 0; i < *n_out; i++) {
        lua_rawgeti(L, idx, (int)i + 1);
        if (!read_command(L, made + 1, made, &commands[i], args))
            return NULL;
        args += commands[i].n;
        lua_pop(L, 1);
    }
    return commands;
}

/* ---- replies ---- */

static void push_value(lua_State *L, const char *who, const uint8_t **p);

/* "WRONGTYPE" of "WRONGTYPE Operation against ...". */
static void push_word(lua_State *L, const struct fae_redis_item *item)
{
    uint32_t n = 0;

    while (n < item->n && ((item->text[n] >= 'A' && item->text[n] <= 'Z') || item->text[n] == '_'))
        n++;
    if (n && (n == item->n || item->text[n] == ' '))
        lua_pushlstring(L, item->text, n);
    else
        lua_pushliteral(L, "ERR");
}

/* The server is busy with something else for now. */
static bool is_passing(const char *word)
{
    static const char *const words[] = { "LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN" };

    for (unsigned i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i]) == 0)
            return true;
    return false;
}

/* An err whose detail.error is the first word of what the server said. */
static void push_server_error(lua_State *L, const char *who, const struct fae_redis_item *item)
{
    int len = item->n < 400 ? (int)item->n : 400;

    fae_push_err(L, FAE_BACKEND, "%s: %.*s", who, len, item->text);
    lua_createtable(L, 0, 1);
    push_word(L, item);
    if (is_passing(lua_tostring(L, -1))) {
        lua_pushboolean(L, 1);
        lua_setfield(L, -4, "retryable");
    }
    lua_setfield(L, -2, "error");
    lua_setfield(L, -2, "detail");
}

static void push_too_long(lua_State *L, const char *who)
{
    fae_push_err(L, FAE_LIMIT, "%s: the reply is longer than message_max", who);
}

static void push_too_deep(lua_State *L, const char *who)
{
    fae_push_err(L, FAE_LIMIT, "%s: the reply has more than %d arrays inside each other", who, FAE_DEPTH_MAX);
}

static void push_array(lua_State *L, const char *who, const uint8_t **p, uint32_t n)
{
    lua_createtable(L, (int)n, 0);
    for (uint32_t i = 1; i <= n; i++) {
        push_value(L, who, p);
        lua_rawseti(L, -2, (int)i);
    }
    fae_codec_mark(L, FAE_MARK_ARRAY);
    lua_setmetatable(L, -2);
}

/* A value inside an array: nil is fae.null there. At most FAE_DEPTH_MAX levels deep. */
static void push_value(lua_State *L, const char *who, const uint8_t **p)
{
    struct fae_redis_item item;

    *p = fae_redis_item(*p, &item);
    switch (item.type) {
    case FAE_REDIS_STRING:
    case FAE_REDIS_STATUS: lua_pushlstring(L, item.text, item.n); break;
    case FAE_REDIS_INTEGER: fae_codec_push_int(L, item.integer); break;
    case FAE_REDIS_NIL: lua_pushlightuserdata(L, NULL); break;
    case FAE_REDIS_ERROR: push_server_error(L, who, &item); break;
    case FAE_REDIS_ARRAY: push_array(L, who, p, item.n); break;
    case FAE_REDIS_TOO_LONG: push_too_long(L, who); break;
    case FAE_REDIS_TOO_DEEP: push_too_deep(L, who); break;
    }
}

static void push_failure(lua_State *L, const char *who, const struct fae_redis_outcome *outcome)
{
    fae_push_err(L, outcome->err, "%s: %s", who, outcome->why);
    if (outcome->retry_after_ms) {
        lua_pushinteger(L, outcome->retry_after_ms);
        lua_setfield(L, -2, "retry_after_ms");
    }
}

static int push_failed(lua_State *L, const char *who, const struct fae_redis_outcome *outcome)
{
    lua_pushnil(L);
    push_failure(L, who, outcome);
    return 2;
}

static int push_outcome(lua_State *L, const char *who, const struct fae_redis_outcome *outcome)
{
    const uint8_t *p = outcome->tape;
    struct fae_redis_item item;

    if (outcome->err)
        return push_failed(L, who, outcome);
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    fae_redis_item(p, &item);
    switch (item.type) {
    case FAE_REDIS_STRING: lua_pushlstring(L, item.text, item.n); return 1;
    case FAE_REDIS_NIL: lua_pushnil(L); return 1;
    case FAE_REDIS_STATUS:
    case FAE_REDIS_INTEGER:
    case FAE_REDIS_ARRAY: push_value(L, who, &p); return 1;
    case FAE_REDIS_ERROR:
    case FAE_REDIS_TOO_LONG:
    case FAE_REDIS_TOO_DEEP: break;
    }
    lua_pushnil(L);
    push_value(L, who, &p);
    return 2;
}

static int push_batch(lua_State *L, const char *who, const struct fae_redis_outcome *outcome, unsigned n)
{
    const uint8_t *p = outcome->tape;

    if (outcome->err && outcome->n_replies == 0)
        return push_failed(L, who, outcome);
    luaL_checkstack(L, FAE_CODEC_STACK, "nesting");
    lua_createtable(L, (int)n, 0);
    for (unsigned i = 1; i <= n; i++) {
        if (i <= outcome->n_replies)
            push_value(L, who, &p);
        else
            push_failure(L, who, outcome);
        lua_rawseti(L, -2, (int)i);
    }
    fae_codec_mark(L, FAE_MARK_ARRAY);
    lua_setmetatable(L, -2);
    return 1;
}

int fae_redis_push_told(lua_State *L, void *arg)
{
    const struct fae_redis_told *told = arg;

    if (told->n)
        return push_batch(L, told->who, told->outcome, told->n);
    return push_outcome(L, told->who, told->outcome);
}

/* ---- waiting ---- */

/* A task that waits for replies; kept for the next when it has them. */
struct fae_redis_wait {
    struct fae_redis_call call;
    struct fae_task *task;
    struct fae_redis *redis;
    unsigned server;
    unsigned n_batch; /* commands; 0: it is none */
    struct fae_redis_wait *next_spare;
};

static struct fae_redis_wait *new_wait(struct fae_vm *vm)
{
    struct fae_redis_wait *wait = vm->redis_spare;

    if (wait)
        vm->redis_spare = wait->next_spare;
    else
        wait = fae_zalloc(sizeof *wait);
    return wait;
}

static void free_wait(struct fae_redis_wait *wait)
{
    struct fae_vm *vm = wait->task->vm;

    wait->next_spare = vm->redis_spare;
    vm->redis_spare = wait;
}

void fae_redis_forget(struct fae_vm *vm)
{
    while (vm->redis_spare) {
        struct fae_redis_wait *wait = vm->redis_spare;

        vm->redis_spare = wait->next_spare;
        free(wait);
    }
}

static void on_done(struct fae_redis_call *call, const struct fae_redis_outcome *outcome)
{
    struct fae_redis_wait *wait = FAE_CONTAINER(call, struct fae_redis_wait, call);
    struct fae_redis_told told = { fae_redis_label(wait->redis, wait->server), wait->n_batch, outcome };
    struct fae_task *task = wait->task;

    free_wait(wait);
    fae_task_resume(task, fae_redis_push_told, &told);
}

static void on_cancel(void *arg)
{
    struct fae_redis_wait *wait = arg;

    if (!fae_redis_cancel(&wait->call) && !wait->call.idempotent)
        fae_task_unsure(wait->task);
    free_wait(wait);
}

static int call_and_wait(lua_State *L, struct fae_redis *redis, unsigned server,
                         const struct fae_redis_command *commands, unsigned n, bool batch)
{
    unsigned flags = (unsigned)lua_tointeger(L, 3);
    struct fae_redis_outcome outcome;
    struct fae_redis_wait *wait;
    struct fae_task *task;
    int status;

    task = fae_task_may_wait(L, &status);
    if (!task)
        return status;
    wait = new_wait(task->vm);
    wait->call.done = on_done;
    wait->call.deadline_ms = task->deadline_ms;
    wait->call.idempotent = flags & 1;
    wait->task = task;
    wait->redis = redis;
    wait->server = server;
    wait->n_batch = batch ? n : 0;
    if (fae_redis_call(redis, server, &wait->call, commands, n, &outcome) == FAE_OK)
        return fae_task_wait(task, on_cancel, wait);
    free_wait(wait);
    return push_failed(L, fae_redis_label(redis, server), &outcome);
}

/* i; where it is nil, the server of the first argument as a key. -1: nil, err are pushed. */
static int server_of(lua_State *L, const struct fae_redis *redis, const struct fae_redis_command *command)
{
    if (!lua_isnil(L, 2))
        return fae_redis_server_here(L, redis);
    return command->n > 1 ? (int)fae_redis_pick(redis, command->args[1].text, command->args[1].len) : 0;
}

/* redis_call(handle, i or nil, flags, cmd, ...) -> reply | nil, err.  Waits. flags: 1 = it may be sent again. */
static int l_redis_call(lua_State *L)
{
    struct fae_redis *redis = fae_redis_pool_here(L);
    int last = lua_gettop(L);
    struct fae_redis_args args;
    struct fae_redis_command command;
    int server;

    if (!redis || !fae_redis_args_here(L, 4, last, &args))
        return 2;
    command = (struct fae_redis_command){ args.args, (unsigned)(last - 3) };
    server = server_of(L, redis, &command);
    return server < 0 ? 2 : call_and_wait(L, redis, (unsigned)server, &command, 1, false);
}

/* redis_batch(handle, i, flags, {{cmd, ...}, ...}) -> replies | nil, err.  Waits. Numbers in the lists become strings. */
static int l_redis_batch(lua_State *L)
{
    struct fae_redis *redis = fae_redis_pool_here(L);
    struct fae_redis_command *commands;
    unsigned n;
    int server;

    if (!redis)
        return 2;
    commands = fae_redis_commands_here(L, 4, &n);
    if (!commands || (server = fae_redis_server_here(L, redis)) < 0)
        return 2;
    return call_and_wait(L, redis, (unsigned)server, commands, n, true);
}

static const luaL_Reg functions[] = {
    { "redis_open", l_redis_open },
    { "redis_servers", l_redis_servers },
    { "redis_server_name", l_redis_server_name },
    { "redis_pick", l_redis_pick },
    { "redis_call", l_redis_call },
    { "redis_batch", l_redis_batch },
    { NULL, NULL },
};

void fae_bind_redis(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
