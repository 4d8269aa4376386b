/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: the kv stores, written: a request goes to the one writer of the node, and its task waits for the answer.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/hist.h"
#include "store/store.h"
#include "vm/bind_kv.h"
#include "vm/codec.h"
#include "vm/task.h"
#include "vm/vm_impl.h"
#include "wire/msgpack.h"

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
    case FAE_FROZEN:
        return fae_nil_err(L, err, "%s",
                           r->op == FAE_KV_IMPORT ? "the bucket is not pending"
                                                  : "the bucket of this key is being moved");
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
    struct fae_kv_store *store = fae_kv_store_here(L);
    struct fae_kv_request r = { 0 };
    struct fae_task *task;
    int op = luaL_checkint(L, 2), status;
    size_t key_len, value_len = 0;

    if (!store)
        return 2;
    luaL_argcheck(L, op >= FAE_KV_SET && op <= FAE_KV_INCR, 2, "op");
    r.op = (uint8_t)op;
    r.key = fae_kv_key_here(L, 3, &key_len);
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
    struct fae_kv_store *store = fae_kv_store_here(L);
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
    struct fae_kv_store *store = fae_kv_store_here(L);
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
    { "kv_write", l_kv_write },
    { "kv_bucket_set", l_kv_bucket_set },
    { "kv_import", l_kv_import },
    { NULL, NULL },
};

void fae_bind_kv_write(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
