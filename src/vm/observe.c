/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What is noted of calls beyond counting them: the slow log, samples for it, and the reasons that contexts give. What a
 * quick call pays for it is one compare and one count down (service.c); one that parks pays for the clock twice a wait
 * and for a copy of the first bytes of its arguments.
 */
#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/addr.h"
#include "rpc/slowlog.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define TELL_MS 1000 /* one line of the log for all slow calls of that time */

/* ---- thresholds and samples ---- */

/* "shop.buy" for that method, "shop.*" for all of a servant; the former counts. */
static uint64_t slow_ms_of(const struct fae_config *config, const char *name)
{
    const char *dot = strchr(name, '.');
    size_t len = dot ? (size_t)(dot - name) + 1 : strlen(name);
    uint64_t ms = config->slow_ms;

    for (unsigned i = 0; i < config->n_limit; i++) {
        const struct fae_config_limit *limit = &config->limit[i];

        if (limit->slow_ms && strcmp(limit->methods, name) == 0)
            return limit->slow_ms;
        if (limit->slow_ms && strncmp(limit->methods, name, len) == 0 && strcmp(limit->methods + len, "*") == 0)
            ms = limit->slow_ms;
    }
    return ms;
}

void fae_observe_generation(const struct fae_generation *gen)
{
    for (uint32_t i = 0; i < gen->methods.cap; i++) {
        struct fae_method *m = gen->methods.table[i];
        uint64_t ms;

        if (!m)
            continue;
        ms = slow_ms_of(gen->vm->o.config, m->context_first && m->twin ? m->twin->name : m->name);
        m->slow_ticks = ms ? fae_ticks_of_ms(ms) : UINT64_MAX;
    }
}

/* How many calls the next sample is away: one in n on average, without a rhythm that calls could fall in with. */
static uint64_t next_sample(struct fae_vm *vm)
{
    uint64_t n = vm->o.config->sample_one_in, x = vm->sample_random;

    if (n == 0)
        return UINT64_MAX;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    vm->sample_random = x;
    return 1 + x % (2 * n - 1);
}

void fae_observe_configured(struct fae_vm *vm)
{
    if (vm->live)
        fae_observe_generation(vm->live);
    FAE_LIST_EACH(node, &vm->old)
        fae_observe_generation(FAE_CONTAINER(node, struct fae_generation, node));
    if (!vm->sample_random)
        vm->sample_random = fae_now_ns() * 0x9e3779b97f4a7c15u | 1;
    vm->sample_left = next_sample(vm);
}

/* ---- calls that wait ---- */

void fae_observe_parked(struct fae_task *task)
{
    struct fae_vm *vm = task->vm;
    const struct fae_request *req = vm->start_request;
    size_t len, max = vm->o.config->slowlog_args;

    task->n_args_kept = 0;
    if (vm->started != task || !vm->o.slowlog || max == 0 || task->method->is_private ||
        (task->method->slow_ticks == UINT64_MAX && !vm->o.config->sample_one_in))
        return;
    len = (size_t)(req->end - req->params);
    if (len > max)
        len = max;
    if (task->args_cap < len) {
        free(task->args);
        task->args_cap = (uint32_t)(len + 63) & ~63u;
        task->args = fae_alloc(task->args_cap);
    }
    memcpy(task->args, req->params, len);
    task->n_args_kept = (uint32_t)len;
}

static uint64_t ran_ticks(const struct fae_task *task, uint64_t now)
{
    return task->run_ticks + (task->began_ticks ? now - task->began_ticks : 0);
}

void fae_observe_waited(struct fae_task *task, uint64_t now)
{
    uint64_t whole = now - task->ticks, ran = ran_ticks(task, now);

    FAE_STAT_ADD(task->vm->stats->methods[task->method->stats_row].wait_ns,
                 fae_ticks_to_ns(whole > ran ? whole - ran : 0));
}

/* ---- the slow log ---- */

static const char *const context_keys[] = { "rid", "reason", "uid" };

#define N_KEYS (sizeof context_keys / sizeof *context_keys)

void fae_observe_open(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);

    for (unsigned i = 0; i < N_KEYS; i++) {
        lua_pushstring(L, context_keys[i]);
        vm->context_keys[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
}

/* The context's texts. Makes nothing in Lua's memory: whoever asks may be at the end of a call that has its answer. */
static void read_context(const struct fae_task *task, char texts[N_KEYS][FAE_SLOWLOG_TEXT])
{
    lua_State *L = task->vm->L;
    int ref = fae_task_context(task);

    memset(texts, 0, N_KEYS * FAE_SLOWLOG_TEXT);
    if (ref == LUA_NOREF || !lua_checkstack(L, 4))
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    for (unsigned i = 0; i < N_KEYS; i++) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, task->vm->context_keys[i]);
        lua_rawget(L, -2);
        if (lua_type(L, -1) == LUA_TNUMBER)
            snprintf(texts[i], FAE_SLOWLOG_TEXT, "%.14g", lua_tonumber(L, -1));
        else if (lua_type(L, -1) == LUA_TSTRING)
            snprintf(texts[i], FAE_SLOWLOG_TEXT, "%s", lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* What is left of the arguments: the message itself while the call has not waited, then the copy. */
static void find_args(const struct fae_task *task, struct fae_slow_call *call)
{
    const struct fae_vm *vm = task->vm;

    if (task->method->is_private)
        return;
    if (task->linked) {
        call->params = task->n_args_kept ? task->args : NULL;
        call->params_len = task->n_args_kept;
    } else if (vm->started == task) {
        call->params = vm->start_request->params;
        call->params_len = (size_t)(vm->start_request->end - call->params);
    }
}

static struct fae_log_field field(const char *key, const char *text)
{
    return (struct fae_log_field){ key, text, strlen(text) };
}

/* The first of a burst is told; the line after it says how many there were. */
static void tell(struct fae_vm *vm, const struct fae_slow_call *call)
{
    static const char text[] = "slow call";
    char ms[4][24], more[24];
    const uint64_t us[4] = { call->total_us, call->queue_us, call->run_us,
                             call->total_us - call->queue_us - call->run_us };
    struct fae_log_field fields[9];
    uint64_t now_ms = vm->o.loop->now_ms;
    unsigned n = 0;

    vm->n_slow_untold++;
    if (vm->slow_told_ms && now_ms - vm->slow_told_ms < TELL_MS)
        return;
    for (unsigned i = 0; i < 4; i++)
        snprintf(ms[i], sizeof ms[i], "%llu.%03u", (unsigned long long)(us[i] / 1000), (unsigned)(us[i] % 1000));
    snprintf(more, sizeof more, "%u", vm->n_slow_untold);
    fields[n++] = field("method", call->method);
    fields[n++] = field("total_ms", ms[0]);
    fields[n++] = field("queue_ms", ms[1]);
    fields[n++] = field("run_ms", ms[2]);
    fields[n++] = field("wait_ms", ms[3]);
    fields[n++] = field("peer", call->peer);
    if (*call->rid)
        fields[n++] = field("rid", call->rid);
    if (*call->code)
        fields[n++] = field("code", call->code);
    fields[n++] = field("count", more); /* since the last such line, this one included */
    fae_log_fields(FAE_LOG_WARN, text, sizeof text - 1, fields, n);
    vm->slow_told_ms = now_ms;
    vm->n_slow_untold = 0;
}

void fae_observe_ended(struct fae_task *task, uint64_t now, const char *code, size_t code_len)
{
    struct fae_vm *vm = task->vm;
    const struct fae_config *config = vm->o.config;
    char context[N_KEYS][FAE_SLOWLOG_TEXT], code_text[FAE_SLOWLOG_TEXT], peer[FAE_ADDR_TEXT];
    bool slow = now - task->got_ticks >= task->method->slow_ticks;
    struct fae_slow_call call = { .at_ms = fae_wall_ms(),
                                  .slot = vm->o.slot,
                                  .generation = task->gen->number,
                                  .total_us = fae_ticks_to_ns(now - task->got_ticks) / 1000,
                                  .queue_us = fae_ticks_to_ns(task->ticks - task->got_ticks) / 1000,
                                  .run_us = fae_ticks_to_ns(ran_ticks(task, now)) / 1000,
                                  .method = task->method->name,
                                  .code = code_text,
                                  .peer = peer,
                                  .rid = context[0],
                                  .reason = context[1],
                                  .uid = context[2],
                                  .sampled = !slow };

    if (slow)
        FAE_STAT_ADD(vm->stats->methods[task->method->stats_row].n_slow, 1);
    else
        FAE_STAT_ADD(vm->stats->n_sampled, 1);
    if (vm->sample_left == 0)
        vm->sample_left = next_sample(vm);
    if (!vm->o.slowlog)
        return;
    if (call.run_us + call.queue_us > call.total_us) /* each was rounded by itself */
        call.run_us = call.total_us - call.queue_us;
    snprintf(code_text, sizeof code_text, "%.*s", (int)(code ? code_len : 0), code ? code : "");
    fae_session_peer(task->session, peer);
    read_context(task, context);
    find_args(task, &call);
    fae_slowlog_add(vm->o.slowlog, &call, config->secrets, config->slowlog_args);
    if (slow)
        tell(vm, &call);
}

/* ---- reasons ---- */

/* rid and reason come from the wire: nobody's metamethod runs here. */
static int push_field(lua_State *L, int context, int key_ref)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, key_ref);
    lua_rawget(L, context);
    return lua_type(L, -1);
}

static uint32_t hash_rid(struct fae_vm *vm, lua_State *L, int context)
{
    int type = push_field(L, context, vm->context_keys[0]);
    const char *text = "";
    size_t len = 0;
    double number;
    uint32_t hash;

    if (type == LUA_TSTRING) {
        text = lua_tolstring(L, -1, &len);
    } else if (type == LUA_TNUMBER) {
        number = lua_tonumber(L, -1);
        text = (const char *)&number;
        len = sizeof number;
    }
    hash = (uint32_t)XXH3_64bits(text, len);
    lua_pop(L, 1);
    return hash ? hash : 1;
}

void fae_observe_context(struct fae_vm *vm, struct fae_session *session, lua_State *L, int context)
{
    uint32_t hash = hash_rid(vm, L, context);
    const char *reason;
    size_t len;

    if (hash == session->rid_hash)
        return;
    session->rid_hash = hash;
    if (push_field(L, context, vm->context_keys[1]) == LUA_TSTRING) {
        reason = lua_tolstring(L, -1, &len);
        if (len)
            fae_stats_reason(vm->o.stats, vm->o.slot, reason, len);
    }
    lua_pop(L, 1);
}
