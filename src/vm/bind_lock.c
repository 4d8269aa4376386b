/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: locks. The Lua half is lua/fae/lock.lua, the table itself store/locks.h. A task that waits for a lock is in
 * vm->lock_waits; what it has and must not keep is noted with its session, or with itself, and given up at their end.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/addr.h"
#include "store/locks.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define LEASE_MS 10000
#define WAIT_MAX_MS 86400000.0
#define DISK_MS 5000 /* for numbers to be written, when the caller would not wait for the lock itself */
#define LOOK_MS 40   /* a tick, less what it may come early */
#define LIST_MAX 1000
#define TOKEN_LEN 16

enum bound { UNBOUND, TO_SESSION, TO_TASK, OF_NOBODY }; /* the last: fae's `lock`, which anybody may release */

struct waiting {
    struct fae_list node; /* in vm->lock_waits */
    struct fae_task *task;
    struct fae_lock_place place;
    struct fae_lock_ask ask; /* its texts and key are below */
    struct fae_lock_text reason, who;
    enum bound bound;
    bool patient; /* waits for the lock, not for the disk alone */
    bool wants_disk;
    uint8_t key[];
};

struct answer {
    const struct fae_lock_ask *ask;
    enum fae_err err;
    const struct fae_lock_info *info;
};

/* ---- arguments ---- */

/* Pushes nil, err when it is no key: false. */
static bool key_arg(lua_State *L, int idx, const char **key_out, size_t *len_out)
{
    luaL_checktype(L, idx, LUA_TSTRING);
    *key_out = lua_tolstring(L, idx, len_out);
    if (*len_out >= 1 && *len_out <= FAE_LOCK_KEY_MAX)
        return true;
    fae_nil_err(L, *len_out ? FAE_LIMIT : FAE_BAD_ARGS, "a lock's key has 1 to %u bytes, not %zu", FAE_LOCK_KEY_MAX,
                *len_out);
    return false;
}

/* Whole milliseconds; nil: as they are. */
static bool ms_arg(lua_State *L, int idx, const char *name, double min, double max, uint64_t *ms)
{
    double v;

    if (lua_isnoneornil(L, idx))
        return true;
    v = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : -1;
    if (v >= min && v <= max && v == (double)(uint64_t)v) {
        *ms = (uint64_t)v;
        return true;
    }
    fae_nil_err(L, v > max ? FAE_LIMIT : FAE_BAD_ARGS, "%s is a whole number of milliseconds from %.0f to %.0f", name,
                min, max);
    return false;
}

static bool lease_arg(lua_State *L, int idx, uint64_t *ms)
{
    return ms_arg(L, idx, "lease_ms", 1, (double)fae_vm_of(L)->o.config->lock_lease_max_ms, ms);
}

/* A text that is no token is nobody's. */
static uint64_t token_arg(lua_State *L, int idx)
{
    uint64_t token = 0;
    size_t len;
    const char *text;

    luaL_checktype(L, idx, LUA_TSTRING);
    text = lua_tolstring(L, idx, &len);
    for (size_t i = 0; len == TOKEN_LEN && i < len; i++) {
        const char *digits = "0123456789abcdef", *at = text[i] ? strchr(digits, text[i]) : NULL;

        if (!at)
            return FAE_LOCK_TOKEN_FREE;
        token = token << 4 | (uint64_t)(at - digits);
    }
    return token;
}

static void push_token(lua_State *L, uint64_t token)
{
    char text[TOKEN_LEN];

    for (unsigned i = TOKEN_LEN; i > 0; token >>= 4)
        text[--i] = "0123456789abcdef"[token & 15];
    lua_pushlstring(L, text, TOKEN_LEN);
}

static void set_text(struct fae_lock_text *to, const char *text, size_t len)
{
    if (len > FAE_LOCK_TEXT) /* no half characters */
        for (len = FAE_LOCK_TEXT; len && ((uint8_t)text[len] & 0xc0) == 0x80; len--)
            ;
    to->len = (uint8_t)len;
    memcpy(to->bytes, text, to->len);
}

/* The reason given at idx, or else the call's own. */
static void reason_arg(lua_State *L, int idx, const struct fae_task *task, struct fae_lock_text *to)
{
    int ref = fae_task_context(task);
    const char *text;
    size_t len;

    to->len = 0;
    if (lua_type(L, idx) == LUA_TSTRING) {
        text = lua_tolstring(L, idx, &len);
        set_text(to, text, len);
        return;
    }
    if (ref == LUA_NOREF)
        return;
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    lua_pushliteral(L, "reason");
    lua_rawget(L, -2);
    if (lua_type(L, -1) == LUA_TSTRING) {
        text = lua_tolstring(L, -1, &len);
        set_text(to, text, len);
    }
    lua_pop(L, 2);
}

/* The session that a task works for. */
static struct fae_session *session_of(struct fae_task *task)
{
    for (; task; task = task->parent)
        if (task->session)
            return task->session;
    return NULL;
}

/* "tcp://10.0.0.7:4012 token:web". The address is a system call, and calls of one session come in a row. */
static void who_is(struct fae_task *task, struct fae_lock_text *to)
{
    struct fae_vm *vm = task->vm;
    const struct fae_session *session = session_of(task);
    struct fae_buf text = { 0 };
    char peer[FAE_ADDR_TEXT];

    to->len = 0;
    if (!session)
        return;
    if (vm->lock_who.session != session->id || vm->lock_who.caller != task->caller.who) {
        fae_session_peer(session, peer);
        fae_buf_printf(&text, "%s", peer);
        if (task->caller.who) {
            fae_buf_add(&text, " ", 1);
            fae_access_who(vm->o.access, task->caller.who, &text);
        }
        vm->lock_who.session = session->id;
        vm->lock_who.caller = task->caller.who;
        vm->lock_who.len = (uint32_t)(text.len > FAE_LOCK_TEXT ? FAE_LOCK_TEXT : text.len);
        memcpy(vm->lock_who.text, text.data, vm->lock_who.len);
        fae_buf_fini(&text);
    }
    set_text(to, vm->lock_who.text, vm->lock_who.len);
}

static void keep(struct fae_task *task, const struct fae_lock_ask *ask, enum bound bound, uint64_t fence)
{
    struct fae_session *session = bound == TO_SESSION ? session_of(task) : NULL;

    if (bound == TO_TASK)
        fae_owned_add(task->vm, &task->owned, ask, fence);
    else if (session)
        fae_owned_add(task->vm, &session->owned, ask, fence);
}

/* ---- acquire ---- */

static int push_granted(lua_State *L, const struct fae_lock_ask *ask, const struct fae_lock_info *info)
{
    if (ask->token == FAE_LOCK_TOKEN_FREE)
        lua_pushboolean(L, 1);
    else
        push_token(L, ask->token);
    lua_pushnumber(L, (double)info->fence);
    lua_pushnumber(L, (double)ask->lease_ms);
    lua_pushboolean(L, info->expired);
    return 4;
}

static void set_number(lua_State *L, const char *name, uint64_t value)
{
    lua_pushnumber(L, (double)value);
    lua_setfield(L, -2, name);
}

static int push_locked(lua_State *L, const struct fae_lock_info *info)
{
    fae_nil_err(L, FAE_LOCKED, "somebody else holds it, for %llu ms so far and at most %llu ms more",
                (unsigned long long)info->held_ms, (unsigned long long)info->left_ms);
    lua_createtable(L, 0, 3);
    set_number(L, "held_ms", info->held_ms);
    set_number(L, "expires_in_ms", info->left_ms);
    lua_pushlstring(L, info->reason.bytes, info->reason.len);
    lua_setfield(L, -2, "reason");
    lua_setfield(L, -2, "detail");
    return 2;
}

static int push_refused(lua_State *L, enum fae_err err, const struct fae_lock_info *info)
{
    switch (err) {
    case FAE_LOCKED: return push_locked(L, info);
    case FAE_UNAVAILABLE:
        fae_nil_err(L, FAE_LOCKED,
                    "the node did not end in good order, and somebody may still hold what it gave before: for at most "
                    "%llu ms more no lock is given",
                    (unsigned long long)info->left_ms);
        set_number(L, "retry_after_ms", info->left_ms);
        return 2;
    case FAE_OVERLOAD: return fae_nil_err(L, err, "too many locks are held or waited for (locks_max)");
    case FAE_TIMEOUT: return fae_nil_err(L, FAE_UNAVAILABLE, "the disk has not taken the fencing numbers yet");
    default: return fae_nil_err(L, err, "fencing numbers cannot be written: %s", fae_err_text(err));
    }
}

static int push_answer(lua_State *L, void *arg)
{
    struct answer *a = arg;

    return a->err ? push_refused(L, a->err, a->info) : push_granted(L, a->ask, a->info);
}

static void end_wait(struct waiting *w)
{
    fae_list_del(&w->node);
    fae_timer_stop(&w->task->sleep);
    w->task->vm->n_lock_wants_disk -= w->wants_disk;
}

static void finish(struct waiting *w, enum fae_err err, const struct fae_lock_info *info)
{
    struct answer a = { &w->ask, err, info };

    end_wait(w);
    if (!err)
        keep(w->task, &w->ask, w->bound, info->fence);
    fae_task_resume(w->task, push_answer, &a);
    free(w);
}

static void cancel(void *arg)
{
    struct fae_lock_info info;
    struct waiting *w = arg;

    end_wait(w);
    fae_lock_leave(w->task->vm->o.stores, fae_lock_now_ms(), &w->place, &info);
    free(w);
}

/* It does not wait any longer; unless the lock came just now. */
static void give_up(struct waiting *w)
{
    struct fae_stores *stores = w->task->vm->o.stores;
    struct fae_lock_info info = { 0 };
    bool held = false;
    enum fae_err err = fae_lock_look(stores, fae_lock_now_ms(), &w->place, &held, &info);

    if (err == FAE_MORE)
        fae_lock_leave(stores, fae_lock_now_ms(), &w->place, &info);
    if (err == FAE_MORE || err == FAE_NOT_FOUND)
        err = held || w->patient ? FAE_LOCKED : FAE_TIMEOUT;
    finish(w, err, &info);
}

static void on_late(void *task)
{
    give_up(((struct fae_task *)task)->cancel_arg);
}

static void want_disk(struct waiting *w, bool wants)
{
    w->task->vm->n_lock_wants_disk += (unsigned)wants - (unsigned)w->wants_disk;
    w->wants_disk = wants;
}

/* The lock was handed to it and expired before this loop came to it: to the end of the queue. */
static void again(struct waiting *w, struct fae_lock_info *info)
{
    enum fae_err err = fae_lock_acquire(w->task->vm->o.stores, fae_lock_now_ms(), &w->ask, &w->place, info);

    if (err != FAE_MORE)
        finish(w, err, info);
}

static void look(struct waiting *w, uint64_t now_ms)
{
    struct fae_stores *stores = w->task->vm->o.stores;
    struct fae_lock_info info = { 0 };
    bool held = true;
    enum fae_err err = FAE_MORE;

    if (fae_lock_stirs(stores, now_ms, &w->place))
        err = fae_lock_look(stores, now_ms, &w->place, &held, &info);
    if (err == FAE_NOT_FOUND)
        again(w, &info);
    else if (err != FAE_MORE)
        finish(w, err, &info);
    else if (held && !w->patient)
        give_up(w);
    else
        want_disk(w, !held);
}

static void look_at_all(struct fae_vm *vm)
{
    uint64_t now_ms = fae_lock_now_ms();
    struct fae_list batch;

    fae_list_init(&batch);
    fae_list_splice(&batch, &vm->lock_waits);
    while (!fae_list_empty(&batch)) {
        struct fae_list *node = batch.next;

        fae_list_del(node);
        fae_list_add_tail(&vm->lock_waits, node);
        look(FAE_CONTAINER(node, struct waiting, node), now_ms);
    }
}

void fae_lock_woken(struct fae_vm *vm)
{
    uint64_t now_ms = fae_now_ms();
    uint32_t handed = fae_locks_handed(vm->o.stores, vm->o.slot);
    bool is_tick = now_ms >= vm->locks_looked_ms + LOOK_MS;

    if (is_tick) {
        vm->locks_looked_ms = now_ms;
        fae_locks_sweep(vm->o.stores, fae_lock_now_ms());
    }
    if (fae_list_empty(&vm->lock_waits) || (!is_tick && handed == vm->locks_handed && !vm->n_lock_wants_disk))
        return;
    vm->locks_handed = handed;
    look_at_all(vm);
}

static int park(lua_State *L, struct fae_task *task, const struct fae_lock_ask *ask, enum bound bound,
                const struct fae_lock_place *place, uint64_t wait_ms)
{
    struct waiting *w = fae_alloc(sizeof *w + ask->key_len);
    struct fae_vm *vm = task->vm;

    (void)L;
    *w = (struct waiting){ .task = task,
                           .place = *place,
                           .ask = *ask,
                           .reason = *ask->reason,
                           .who = *ask->who,
                           .bound = bound,
                           .patient = wait_ms != 0 };
    memcpy(w->key, ask->key, ask->key_len);
    w->ask.key = w->key;
    w->ask.reason = &w->reason;
    w->ask.who = &w->who;
    fae_list_add_tail(&vm->lock_waits, &w->node);
    want_disk(w, fae_lock_stirs(vm->o.stores, fae_lock_now_ms(), place));
    fae_timer_init(&task->sleep, vm->o.loop, on_late, task);
    fae_timer_start(&task->sleep, wait_ms ? wait_ms : DISK_MS);
    return fae_task_wait(task, cancel, w);
}

static int no_stores(lua_State *L)
{
    return fae_nil_err(L, FAE_UNAVAILABLE, "there are no locks while servants are checked");
}

/* lock_acquire(key, lease_ms or nil, wait_ms or nil, bound, reason or nil) -> token, fence, lease_ms, expired | nil, err.
 * Waits.  bound: 0, or 1: ends with the session, 2: with the task, 3: is nobody's, and true is its token.  expired: its last holder's lease was
 * over before it was released. */
static int l_lock_acquire(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    uint64_t wait_ms = 0, lease_max_ms = vm->o.config->lock_lease_max_ms;
    struct fae_lock_text reason, who;
    struct fae_lock_ask ask = { .lease_ms = lease_max_ms < LEASE_MS ? lease_max_ms : LEASE_MS,
                                .reason = &reason,
                                .who = &who };
    struct fae_lock_place place;
    struct fae_lock_info info;
    struct fae_task *task;
    enum bound bound;
    const char *key;
    enum fae_err err;
    int n;

    if (!vm->o.stores)
        return no_stores(L);
    if (!key_arg(L, 1, &key, &ask.key_len) || !lease_arg(L, 2, &ask.lease_ms) ||
        !ms_arg(L, 3, "wait_ms", 0, WAIT_MAX_MS, &wait_ms))
        return 2;
    bound = (enum bound)luaL_checkint(L, 4);
    task = fae_task_may_wait(L, &n);
    if (!task)
        return n;
    reason_arg(L, 5, task, &reason);
    who_is(task, &who);
    ask.key = key;
    ask.token = bound == OF_NOBODY ? FAE_LOCK_TOKEN_FREE : fae_lock_token();
    ask.slot = vm->o.slot;
    ask.incarnation = atomic_load_explicit(&vm->slot->incarnation, memory_order_relaxed);
    ask.bound = bound == TO_SESSION || bound == TO_TASK;
    ask.waits = wait_ms != 0;
    err = fae_lock_acquire(vm->o.stores, fae_lock_now_ms(), &ask, &place, &info);
    if (err == FAE_MORE)
        return park(L, task, &ask, bound, &place, wait_ms);
    if (err)
        return push_refused(L, err, &info);
    keep(task, &ask, bound, info.fence);
    return push_granted(L, &ask, &info);
}

/* ---- what does not wait ---- */

static void forget(struct fae_task *task, uint64_t token)
{
    struct fae_session *session = session_of(task);

    if (task && task->owned)
        fae_owned_drop(&task->owned, token);
    if (session && session->owned)
        fae_owned_drop(&session->owned, token);
}

static int answer(lua_State *L, enum fae_err err)
{
    if (err)
        return fae_nil_err(L, err, "%s",
                           err == FAE_NOT_OWNER ? "the lock is not yours: its lease is over, or it never was"
                                                : fae_err_text(err));
    lua_pushboolean(L, 1);
    return 1;
}

/* lock_release(key, token or false) -> true | nil, err.  false: a lock that is nobody's. */
static int l_lock_release(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    uint64_t token = FAE_LOCK_TOKEN_FREE;
    const char *key;
    enum fae_err err;
    size_t len;
    bool free;

    if (!vm->o.stores)
        return no_stores(L);
    free = lua_type(L, 2) == LUA_TBOOLEAN;
    if (!free)
        token = token_arg(L, 2);
    if (!key_arg(L, 1, &key, &len))
        return 2;
    if (!free && token == FAE_LOCK_TOKEN_FREE)
        return answer(L, FAE_NOT_OWNER);
    err = fae_lock_release(vm->o.stores, fae_lock_now_ms(), key, len, token);
    if (!err)
        forget(vm->current, token);
    return answer(L, err);
}

/* lock_renew(key, token, lease_ms or nil) -> true | nil, err | nil: the disk must know of so long a lease first, ask
 * again */
static int l_lock_renew(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    uint64_t token, lease_ms = 0;
    const char *key;
    enum fae_err err;
    size_t len;

    if (!vm->o.stores)
        return no_stores(L);
    token = token_arg(L, 2);
    if (!key_arg(L, 1, &key, &len) || !lease_arg(L, 3, &lease_ms))
        return 2;
    if (token == FAE_LOCK_TOKEN_FREE)
        return answer(L, FAE_NOT_OWNER);
    err = fae_lock_renew(vm->o.stores, fae_lock_now_ms(), key, len, token, lease_ms);
    if (err == FAE_MORE) {
        lua_pushnil(L);
        return 1;
    }
    return answer(L, err);
}

static void push_info(lua_State *L, const struct fae_lock_info *info, bool all)
{
    lua_createtable(L, 0, 10);
    set_number(L, "held_ms", info->held_ms);
    set_number(L, "expires_in_ms", info->left_ms);
    set_number(L, "lease_ms", info->lease_ms);
    set_number(L, "waiting", info->n_waiting);
    set_number(L, "fence", info->fence);
    lua_pushlstring(L, info->reason.bytes, info->reason.len);
    lua_setfield(L, -2, "reason");
    if (!all)
        return;
    set_number(L, "worker", info->slot);
    lua_pushboolean(L, info->bound);
    lua_setfield(L, -2, "auto_release");
    lua_pushlstring(L, info->who.bytes, info->who.len);
    lua_setfield(L, -2, "who");
}

/* lock_info(key) -> table | nil, err */
static int l_lock_info(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_lock_info info;
    const char *key;
    size_t len;

    if (!vm->o.stores)
        return no_stores(L);
    if (!key_arg(L, 1, &key, &len))
        return 2;
    if (fae_lock_info(vm->o.stores, fae_lock_now_ms(), key, len, &info))
        return fae_nil_err(L, FAE_NOT_FOUND, "nobody holds that lock");
    push_info(L, &info, false);
    return 1;
}

/* lock_list(n or nil) -> array of tables | nil, err */
static int l_lock_list(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    uint64_t n = 100;
    struct fae_lock_info *infos;

    if (!vm->o.stores)
        return no_stores(L);
    if (!lua_isnoneornil(L, 1)) {
        double asked = lua_type(L, 1) == LUA_TNUMBER ? lua_tonumber(L, 1) : 0;

        if (!(asked >= 1 && asked <= LIST_MAX && asked == (double)(uint64_t)asked))
            return fae_nil_err(L, FAE_BAD_ARGS, "how many locks to list is a whole number from 1 to %d", LIST_MAX);
        n = (uint64_t)asked;
    }
    infos = lua_newuserdata(L, n * sizeof *infos); /* Lua's to free, whatever raises below */
    n = fae_locks_list(vm->o.stores, fae_lock_now_ms(), UINT32_MAX, infos, (unsigned)n);
    lua_createtable(L, (int)n, 0);
    for (uint64_t i = 0; i < n; i++) {
        push_info(L, &infos[i], true);
        lua_pushlstring(L, (const char *)infos[i].key, infos[i].key_len);
        lua_setfield(L, -2, "key");
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* lock_force(key) -> table of who held it | nil, err */
static int l_lock_force(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_lock_info info;
    const char *key;
    size_t len;

    if (!vm->o.stores)
        return no_stores(L);
    if (!key_arg(L, 1, &key, &len))
        return 2;
    if (fae_lock_force(vm->o.stores, fae_lock_now_ms(), key, len, UINT32_MAX, &info))
        return fae_nil_err(L, FAE_NOT_FOUND, "nobody holds that lock");
    push_info(L, &info, true);
    return 1;
}

static const luaL_Reg functions[] = {
    { "lock_acquire", l_lock_acquire },
    { "lock_release", l_lock_release },
    { "lock_renew", l_lock_renew },
    { "lock_info", l_lock_info },
    { "lock_list", l_lock_list },
    { "lock_force", l_lock_force },
    { NULL, NULL },
};

void fae_bind_lock(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
