/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The service that rpc calls: a message becomes a task, a task's end becomes an answer.
 */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/log.h"
#include "rpc/caller.h"
#include "vm/codec.h"
#include "vm/task.h"
#include "vm/vm_impl.h"
#include "wire/msgpack.h"

#define RETRY_AFTER_MAX_MS 1e12
#define DETAIL_MAX (64 * FAE_KIB) /* of an error's detail; a longer one is left out */

/* ---- answers ---- */

/* Counts a call that has its answer. True: it was slow, or is the next sample. */
static inline bool is_noted(struct fae_task *task, bool failed, uint64_t *now_out)
{
    uint64_t now;

    if (__builtin_expect(task->limited, 0))
        fae_gates_leave(task);
    now = *now_out = fae_session_count(task->session->server, task->method->stats_row, task->ticks, failed);
    if (__builtin_expect(task->linked, 0))
        fae_observe_waited(task, now);
    return __builtin_expect(now - task->got_ticks >= task->method->slow_ticks || --task->vm->sample_left == 0, 0);
}

static void answered(struct fae_task *task)
{
    uint64_t now;

    if (is_noted(task, false, &now))
        fae_observe_ended(task, now, NULL, 0);
}

/* The code of the error that it was answered with. */
static void answered_error(struct fae_task *task, const char *code, size_t len)
{
    uint64_t now;

    if (is_noted(task, true, &now))
        fae_observe_ended(task, now, code, len);
}

static void answered_code(struct fae_task *task, enum fae_err code)
{
    const char *name = fae_err_name(code);

    answered_error(task, name, strlen(name));
}

/* The session may be gone, and notifications are never answered; both are counted all the same by whoever started. */
static bool wants_answer(struct fae_task *task)
{
    if (!task->session)
        return false;
    if (!task->notification)
        return true;
    answered(task);
    return false;
}

void fae_call_answer_code(struct fae_task *task, enum fae_err code, const char *text)
{
    struct fae_session *session = task->session;

    if (!session)
        return;
    if (!task->notification)
        fae_session_fail_code(session, task->msgid, code, "%s", text);
    answered_code(task, code);
}

/* A field of the err table at idx, raw: nobody's metamethod runs here. */
static int raw_field(lua_State *L, int idx, const char *name)
{
    lua_pushstring(L, name);
    lua_rawget(L, idx);
    return lua_type(L, -1);
}

static void set_text(struct fae_failure *f, lua_State *L, int idx)
{
    f->text = lua_tolstring(L, idx, &f->text_len);
}

/* Answers with the err object at the top of the main state: {code, message, ...}, a string, or anything. */
static void answer_err(struct fae_task *task, enum fae_err otherwise)
{
    struct fae_vm *vm = task->vm;
    lua_State *L = vm->L;
    int idx = lua_gettop(L);
    struct fae_failure f = { .code = fae_err_name(otherwise), .retry_after_ms = -1 };
    double after_ms;
    enum fae_err known;

    f.code_len = strlen(f.code);
    if (lua_type(L, idx) == LUA_TTABLE) {
        if (raw_field(L, idx, "code") == LUA_TSTRING) {
            f.code = lua_tolstring(L, -1, &f.code_len);
            if (raw_field(L, idx, "message") == LUA_TSTRING)
                set_text(&f, L, -1);
        }
        known = fae_err_of(f.code, f.code_len);
        f.retryable = known != FAE_ERR_COUNT && fae_err_retryable(known);
        if (raw_field(L, idx, "retryable") == LUA_TBOOLEAN)
            f.retryable = lua_toboolean(L, -1);
        if (raw_field(L, idx, "retry_after_ms") == LUA_TNUMBER) {
            after_ms = lua_tonumber(L, -1);
            f.retry_after_ms = after_ms >= 0 && after_ms <= RETRY_AFTER_MAX_MS ? (int64_t)after_ms : -1;
        }
        if (task->session->error_form == FAE_ERROR_MAP && raw_field(L, idx, "detail") != LUA_TNIL) {
            vm->detail.len = 0;
            if (fae_codec_put(L, lua_gettop(L), &vm->detail, DETAIL_MAX, 2) == FAE_OK)
                f.detail = &vm->detail;
        }
    } else if (lua_type(L, idx) == LUA_TSTRING) {
        set_text(&f, L, idx);
    }
    if (!f.text) {
        f.text = lua_type(L, idx) == LUA_TTABLE ? "an error without a message"
                                                : lua_pushfstring(L, "error object is a %s", luaL_typename(L, idx));
        f.text_len = strlen(f.text);
    }
    fae_session_fail(task->session, task->msgid, &f);
    answered_error(task, f.code, f.code_len);
    lua_settop(L, idx - 1);
}

/* Encodes the value at idx of L as the result; no half answer is ever left behind. */
static void answer_value(struct fae_task *task, lua_State *L, int idx)
{
    struct fae_vm *vm = task->vm;
    struct fae_buf *out = fae_session_out(task->session);
    size_t max = vm->o.config->message_max;
    enum fae_err err;

    vm->risk_session = task->session;
    vm->risk_mark = out->len;
    fae_message_result(out, task->msgid);
    err = fae_codec_put(L, idx, out, max, 1);
    if (err) {
        const char *text = lua_tostring(L, -1);

        out->len = vm->risk_mark;
        err = err == FAE_LIMIT ? FAE_LIMIT : FAE_INTERNAL;
        fae_log(err == FAE_LIMIT ? FAE_LOG_WARN : FAE_LOG_ERROR, "result of %s: %s", task->method->name, text);
        fae_session_fail_code(task->session, task->msgid, err, "result of %s: %s", task->method->name, text);
        lua_pop(L, 1);
    }
    vm->risk_session = NULL;
    if (err)
        answered_code(task, err);
    else
        answered(task);
}

/* The commonest answer of all. */
static void answer_nil(struct fae_task *task)
{
    struct fae_buf *out = fae_session_out(task->session);

    fae_message_result(out, task->msgid);
    fae_mp_nil(out);
    answered(task);
}

void fae_call_answer(struct fae_task *task)
{
    lua_State *T = task->T, *L = task->vm->L;

    if (!wants_answer(task))
        return;
    switch (lua_type(T, 1)) {
    case LUA_TNONE: answer_nil(task); return;
    case LUA_TNIL:
        if (lua_isnoneornil(T, 2)) {
            answer_nil(task);
            return;
        }
        lua_settop(T, 2);
        lua_xmove(T, L, 1);
        answer_err(task, FAE_INTERNAL);
        return;
    case LUA_TNUMBER:
    case LUA_TBOOLEAN:
        answer_value(task, T, 1); /* needs no memory of Lua's */
        return;
    default:
        lua_settop(T, 1);
        lua_xmove(T, L, 1);
        answer_value(task, L, lua_gettop(L));
        lua_pop(L, 1);
    }
}

void fae_call_answer_raised(struct fae_task *task, int status)
{
    if (!task->session)
        return;
    if (task->notification) {
        answered_code(task, status == LUA_ERRMEM ? FAE_NO_MEMORY : FAE_INTERNAL);
    } else if (status == LUA_ERRMEM) {
        fae_call_answer_code(task, FAE_NO_MEMORY, "the call needs more memory than lua_memory_max leaves");
    } else {
        lua_xmove(task->T, task->vm->L, 1);
        answer_err(task, FAE_INTERNAL);
    }
}

/* ---- calls ---- */

/* A call while it is being started: what its claims say of who makes it. */
struct asked {
    struct fae_caller caller;
    struct fae_claims claims;
};

static struct fae_buf quoted_name(const struct fae_request *req)
{
    struct fae_buf name = { 0 };

    fae_buf_json(&name, req->method, req->method_len > FAE_METHOD_NAME_MAX ? FAE_METHOD_NAME_MAX : req->method_len);
    return name;
}

/* The same words whether there is such a method or not. */
static void forbidden(struct fae_vm *vm, struct fae_session *session, const struct fae_request *req)
{
    struct fae_buf name;

    FAE_STAT_ADD(vm->o.stats->workers[vm->o.slot].n_forbidden, 1);
    if (req->notification)
        return;
    name = quoted_name(req);
    fae_session_fail_code(session, req->msgid, FAE_FORBIDDEN, "%s is not allowed to you", fae_buf_text(&name));
    fae_buf_fini(&name);
}

/* May the caller know that there is no method of that name? */
static bool may_know(const struct fae_vm *vm, const struct fae_request *req, uint32_t roles)
{
    char name[FAE_METHOD_NAME_MAX + 1];
    size_t len = req->method_len > FAE_METHOD_NAME_MAX ? FAE_METHOD_NAME_MAX : req->method_len;

    memcpy(name, req->method, len);
    name[len] = '\0';
    return fae_access_method(vm->o.access, name, "") & roles;
}

static void unknown_method(struct fae_vm *vm, struct fae_session *session, const struct fae_request *req,
                           uint32_t roles)
{
    const char *near = vm->live ? fae_methods_suggest(&vm->live->methods, req->method, req->method_len, roles) : NULL;
    struct fae_buf name;

    FAE_STAT_ADD(vm->o.stats->workers[vm->o.slot].n_unknown_methods, 1);
    if (!may_know(vm, req, roles)) {
        forbidden(vm, session, req);
        return;
    }
    if (req->notification)
        return;
    name = quoted_name(req);
    if (near)
        fae_session_fail_code(session, req->msgid, FAE_UNKNOWN_METHOD, "no method %s: did you mean %s?",
                              fae_buf_text(&name), near);
    else
        fae_session_fail_code(session, req->msgid, FAE_UNKNOWN_METHOD, "no method %s", fae_buf_text(&name));
    fae_buf_fini(&name);
}

/* The deadline that the context map at the top of L asks for: it may come sooner than the method's, never later. */
static void shorten_deadline(struct fae_task *task, lua_State *L)
{
    uint64_t now = task->vm->o.loop->now_ms;

    if (raw_field(L, lua_gettop(L), "deadline_ms") == LUA_TNUMBER) {
        double ms = lua_tonumber(L, -1);

        if (ms >= 0 && (double)task->deadline_ms > (double)now + ms)
            task->deadline_ms = now + (uint64_t)ms;
    }
    lua_pop(L, 1);
}

static void drop_field(lua_State *L, const char *name)
{
    lua_pushstring(L, name);
    lua_pushnil(L);
    lua_rawset(L, -3);
}

/* The context map is at the top of L: keeps it for the call, without what is not for servants. */
static void take_context(struct fae_task *task, lua_State *L, const struct fae_claims *claims)
{
    if (claims->has_token)
        drop_field(L, "token");
    if (claims->has_sticky && !fae_access_is_peer(task->vm->o.access, task->caller.roles))
        drop_field(L, "sticky");
    fae_observe_context(task->vm, task->session, L, lua_gettop(L));
    shorten_deadline(task, L);
    if (task->context_ref != LUA_NOREF) /* an alias may bring one in either place */
        luaL_unref(L, LUA_REGISTRYINDEX, task->context_ref);
    task->context_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* Pushes the params; *n_out values, or one message and an error. */
static enum fae_err push_params(struct fae_task *task, lua_State *L, const struct fae_request *req,
                                const struct fae_claims *claims, int *n_out)
{
    struct fae_mp_token array;
    const uint8_t *p = fae_mp_read(req->params, &array);
    struct fae_mp_token param;
    uint32_t first = 0;
    enum fae_err err;

    if (task->method->context_first && array.len && (fae_mp_read(p, &param), param.type == FAE_MP_MAP)) {
        err = fae_codec_push(L, &p);
        if (err)
            return err;
        take_context(task, L, claims);
        first = 1;
    }
    if (array.len > 8)
        luaL_checkstack(L, (int)array.len + FAE_CODEC_STACK, "params");
    for (uint32_t i = first; i < array.len; i++) {
        if (*p == 0xc0) {
            p++;
            lua_pushnil(L); /* an argument left out; inside values nil is fae.null */
        } else if ((err = fae_codec_push(L, &p)) != FAE_OK) {
            return err;
        }
    }
    *n_out = (int)(array.len - first);
    return FAE_OK;
}

static void start_call(struct fae_vm *vm, struct fae_session *session, const struct fae_request *req,
                       const struct fae_method *method, const struct asked *asked)
{
    lua_State *L = vm->L;
    int top = lua_gettop(L), n = 0;
    struct fae_task *task;
    enum fae_err err = FAE_OK;

    vm->start_session = session; /* until there is a task to be at risk */
    vm->start_request = req;
    task = fae_task_new(vm, L, vm->live);
    vm->start_session = NULL;
    if (__builtin_expect(vm->entered != NULL, 0))
        fae_gates_own(task);
    task->method = method;
    task->session = session;
    task->msgid = req->msgid;
    task->notification = req->notification;
    task->caller = asked->caller;
    task->ticks = task->began_ticks = req->ticks;
    task->got_ticks = req->got_ticks;
    task->run_ticks = 0;
    vm->started = task;
    task->deadline_ms = vm->o.loop->now_ms + method->timeout_ms;
    vm->at_risk = task;
    if (__builtin_expect(req->context != NULL, 0)) {
        const uint8_t *p = req->context;

        err = fae_codec_push(L, &p);
        if (!err)
            take_context(task, L, &asked->claims);
    } else if (__builtin_expect(session->service_ref != 0, 0)) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, session->service_ref);
        shorten_deadline(task, L);
        lua_pop(L, 1);
    }
    if (!err) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, method->fn_ref);
        lua_rawgeti(L, LUA_REGISTRYINDEX, vm->call_ref);
        err = push_params(task, L, req, &asked->claims, &n);
    }
    if (!err && !fae_method_check(method, L, top + 3, n))
        err = FAE_BAD_ARGS;
    if (__builtin_expect(err != FAE_OK, 0)) {
        fae_task_fail(task, err == FAE_BAD_MESSAGE ? FAE_BAD_ARGS : err, lua_tostring(L, -1));
        vm->at_risk = NULL;
        lua_settop(L, top);
        return;
    }
    if (n > 16)
        luaL_checkstack(task->T, n + 4, "params");
    vm->at_risk = NULL;
    lua_xmove(L, task->T, n + 2);
    fae_task_run(task, n + 1);
    vm->started = NULL;
    fae_task_run_queued(vm);
}

/* The first param, if it is a map. */
static const uint8_t *first_map(const struct fae_request *req)
{
    struct fae_mp_token array, map;
    const uint8_t *p = fae_mp_read(req->params, &array);

    if (array.len == 0)
        return NULL;
    fae_mp_read(p, &map);
    return map.type == FAE_MP_MAP ? p : NULL;
}

/* What sys.hello and sys.ctx are told holds for the session. */
static void keep_token(struct fae_session *session, const struct fae_method *method, const struct fae_claims *claims)
{
    if (strcmp(method->name, "sys.ctx") == 0)
        session->context_token = claims->token;
    else if (claims->token)
        session->token = claims->token;
    fae_caller_identify(session);
}

/* A call that says more of who makes it than its session does. False: it was answered. */
static bool know_caller(struct fae_session *session, const struct fae_request *req, const struct fae_method *method,
                        struct asked *asked)
{
    const uint8_t *map = method && (method->context_first || method->token_first) ? first_map(req) : NULL;
    bool brings_context = req->context || (map && method->context_first);
    struct fae_claims told = { 0 };

    if (req->context && !fae_caller_claims(session, req, req->context, &asked->claims))
        return false;
    if (map && !fae_caller_claims(session, req, map, method->token_first ? &told : &asked->claims))
        return false;
    if (method && method->token_first)
        keep_token(session, method, &told);
    asked->caller = brings_context ? fae_caller_with(session, &asked->claims) : session->caller;
    return true;
}

static void call(void *service, struct fae_session *session, const struct fae_request *req)
{
    struct fae_vm *vm = service;
    const struct fae_method *method =
        vm->live ? fae_methods_find(&vm->live->methods, req->method, req->method_len) : NULL;
    struct asked asked = { .caller = session->caller };

    if (__builtin_expect(req->context || !method || method->context_first || method->token_first, 0) &&
        !know_caller(session, req, method, &asked))
        return;
    if (__builtin_expect(vm->memory.bytes > vm->memory.bytes_soft, 0) && fae_memory_refuse(vm, session, req))
        return;
    if (__builtin_expect(!method, 0))
        unknown_method(vm, session, req, asked.caller.roles);
    else if (__builtin_expect(!(asked.caller.roles & method->roles), 0))
        forbidden(vm, session, req);
    else if (__builtin_expect(!method->limited, 1) || fae_gates_pass(vm, session, req, method))
        start_call(vm, session, req, method, &asked);
}

static void hangup(void *service, struct fae_session *session, enum fae_err code)
{
    struct fae_vm *vm = service;

    while (!fae_list_empty(&session->calls)) {
        struct fae_task *task = FAE_CONTAINER(session->calls.next, struct fae_task, call_node);

        if (session->closed)
            answered_code(task, code);
        else
            fae_call_answer_code(task, code, fae_err_text(code));
        if (task->watched)
            fae_plugin_hangup(task, code);
        fae_session_ended(session, &task->call_node);
        task->session = NULL;
        fae_task_doom(task, code);
    }
    if (session->closed && session->service_ref) {
        luaL_unref(vm->L, LUA_REGISTRYINDEX, session->service_ref);
        session->service_ref = 0;
    }
}

static void session_event(void *service, struct fae_session *session, bool opened)
{
    if (__builtin_expect(session->owned != NULL, 0))
        fae_owned_let_go(service, &session->owned);
    fae_plugin_session(service, session, opened);
}

const struct fae_service_ops fae_vm_service = {
    .guard = fae_vm_guard, .call = call, .hangup = hangup, .session = session_event
};
