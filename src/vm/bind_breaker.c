/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core.breaker: breakers of what servants call by themselves (lua/fae/breaker.lua). A breaker is a handle on a row of
 * backend/upstream.h. A call that was let through is a record at its task, so that what is dropped where it stands gives
 * its permit back.
 */
#include <stdio.h>
#include <stdlib.h>

#include "backend/backends.h"
#include "backend/upstream.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/hist.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define HANDLE "fae.breaker"
#define PREFIX "servant/"

struct breaker {
    unsigned n_refs; /* of its handle, and of calls that were let through */
    struct fae_loop *loop;
    struct fae_upstream *up;
    unsigned slot;
    struct fae_breaker_rule rule;
};

struct handle {
    struct breaker *breaker; /* NULL: lets everything through, as in a checker */
};

/* A call that was let through. Lua has its number: a coroutine may outlive the task that began it. */
struct fae_passed {
    struct fae_passed *next; /* of the task's; those inside it come first */
    double id;
    struct breaker *breaker;
    struct fae_permit permit;
    uint64_t since_ns;
};

static void unref(struct breaker *b)
{
    if (--b->n_refs)
        return;
    fae_upstream_put(b->up, b->slot);
    free(b);
}

static void end(struct fae_passed *passed, enum fae_breaker_outcome outcome)
{
    struct breaker *b = passed->breaker;

    FAE_STAT_ADD(fae_upstream_cell(b->up, b->slot)->n.call_ns, fae_now_ns() - passed->since_ns);
    fae_upstream_end(b->up, &b->rule, b->slot, passed->permit, outcome, b->loop->now_ms);
    free(passed);
    unref(b);
}

void fae_passed_let_go(struct fae_passed **list, enum fae_err why)
{
    bool late = why == FAE_TIMEOUT || why == FAE_UNKNOWN;

    while (*list) {
        struct fae_passed *passed = *list;

        *list = passed->next;
        if (late)
            FAE_STAT_ADD(fae_upstream_cell(passed->breaker->up, passed->breaker->slot)->n.timeouts, 1);
        end(passed, late ? FAE_BREAKER_FAILED : FAE_BREAKER_VOID);
    }
}

/* ---- handles ---- */

static struct breaker *check_breaker(lua_State *L)
{
    return ((struct handle *)luaL_checkudata(L, 1, HANDLE))->breaker;
}

static uint32_t check_uint(lua_State *L, int idx)
{
    lua_Number n = luaL_checknumber(L, idx);

    luaL_argcheck(L, n >= 0 && n <= UINT32_MAX, idx, "a number");
    return (uint32_t)n;
}

static struct breaker *new_breaker(struct fae_vm *vm, struct fae_upstream *up, const struct fae_breaker_rule *rule)
{
    struct breaker *b = fae_alloc(sizeof *b);

    *b = (struct breaker){ .n_refs = 1, .loop = vm->o.loop, .up = up, .slot = vm->o.slot, .rule = *rule };
    return b;
}

/* breaker_new(name, percent, calls, refusals, open_ms) -> handle | nil: there are too many */
static int l_breaker_new(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_breaker_rule rule = { check_uint(L, 2), check_uint(L, 3), check_uint(L, 4), check_uint(L, 5) };
    struct fae_upstreams *ups = vm->o.backends ? fae_backends_env(vm->o.backends)->o.upstreams : NULL;
    struct handle *h = lua_newuserdata(L, sizeof *h);
    char name[FAE_UPSTREAM_NAME_MAX + 2];
    struct fae_upstream *up;

    h->breaker = NULL;
    luaL_getmetatable(L, HANDLE);
    lua_setmetatable(L, -2);
    if (!ups || !vm->o.loop)
        return 1;
    snprintf(name, sizeof name, PREFIX "%s", luaL_checkstring(L, 1));
    up = fae_upstream_get(ups, name, vm->o.slot);
    if (!up)
        return 0;
    h->breaker = new_breaker(vm, up, &rule);
    return 1;
}

static int l_breaker_gc(lua_State *L)
{
    struct handle *h = luaL_checkudata(L, 1, HANDLE);

    if (h->breaker)
        unref(h->breaker);
    h->breaker = NULL;
    return 0;
}

/* ---- calls ---- */

static int refuse(lua_State *L, const struct breaker *b, uint32_t retry_after_ms)
{
    fae_nil_err(L, FAE_CIRCUIT_OPEN, "servant %s: %s", fae_upstream_name(b->up) + strlen(PREFIX),
                fae_err_text(FAE_CIRCUIT_OPEN));
    lua_pushnumber(L, retry_after_ms);
    lua_setfield(L, -2, "retry_after_ms");
    return 2;
}

/* Those of the task that runs, or of what loads. */
static struct fae_passed **list_here(struct fae_vm *vm)
{
    return vm->current ? &vm->current->passed : &vm->passed;
}

/* breaker_enter(handle) -> a number for breaker_end | true, nobody wants to know | nil, err */
static int l_breaker_enter(lua_State *L)
{
    struct breaker *b = check_breaker(L);
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_passed **list = list_here(vm), *passed;
    struct fae_permit permit;
    uint32_t retry_after_ms;

    if (!b) {
        lua_pushboolean(L, 1);
        return 1;
    }
    if (!fae_upstream_enter(b->up, &b->rule, b->slot, b->loop->now_ms, &permit, &retry_after_ms))
        return refuse(L, b, retry_after_ms);
    FAE_STAT_ADD(fae_upstream_cell(b->up, b->slot)->n.calls, 1);
    passed = fae_alloc(sizeof *passed);
    *passed = (struct fae_passed){ *list, (double)++vm->n_passed, b, permit, fae_now_ns() };
    b->n_refs++;
    *list = passed;
    lua_pushnumber(L, passed->id);
    return 1;
}

/* Out of the list; NULL: it was let go of already. */
static struct fae_passed *take(struct fae_passed **list, double id)
{
    for (; *list; list = &(*list)->next)
        if ((*list)->id == id) {
            struct fae_passed *passed = *list;

            *list = passed->next;
            return passed;
        }
    return NULL;
}

static void count(struct fae_upstream_cell *cell, enum fae_breaker_outcome outcome, const char *code)
{
    if (outcome == FAE_BREAKER_OK && code)
        FAE_STAT_ADD(cell->n.errors, 1);
    else if (outcome == FAE_BREAKER_FAILED && code && strcmp(code, fae_err_name(FAE_TIMEOUT)) == 0)
        FAE_STAT_ADD(cell->n.timeouts, 1);
    else if (outcome == FAE_BREAKER_FAILED)
        FAE_STAT_ADD(cell->n.lost, 1);
    else if (outcome == FAE_BREAKER_REFUSED)
        FAE_STAT_ADD(cell->n.connect_failures, 1);
}

/* breaker_end(number, outcome, code): outcome one of "ok", "failed", "refused", "void"; code of the err, or nil. */
static int l_breaker_end(lua_State *L)
{
    static const char *const outcomes[] = {
        [FAE_BREAKER_OK] = "ok",
        [FAE_BREAKER_FAILED] = "failed",
        [FAE_BREAKER_REFUSED] = "refused",
        [FAE_BREAKER_VOID] = "void",
        NULL,
    };
    double id = luaL_checknumber(L, 1);
    enum fae_breaker_outcome outcome = (enum fae_breaker_outcome)luaL_checkoption(L, 2, NULL, outcomes);
    const char *code = luaL_optstring(L, 3, NULL);
    struct fae_passed *passed = take(list_here(fae_vm_of(L)), id);

    if (!passed)
        return 0;
    count(fae_upstream_cell(passed->breaker->up, passed->breaker->slot), outcome, code);
    end(passed, outcome);
    return 0;
}

/* breaker_state(handle) -> "closed" | "open" | "half-open" */
static int l_breaker_state(lua_State *L)
{
    const struct breaker *b = check_breaker(L);

    lua_pushstring(L,
                   fae_breaker_state_word(b ? atomic_load(&fae_upstream_breaker(b->up)->state) : FAE_BREAKER_CLOSED));
    return 1;
}

static const luaL_Reg functions[] = {
    { "breaker_new", l_breaker_new },
    { "breaker_enter", l_breaker_enter },
    { "breaker_end", l_breaker_end },
    { "breaker_state", l_breaker_state },
    { NULL, NULL },
};

void fae_bind_breaker(lua_State *L)
{
    if (luaL_newmetatable(L, HANDLE)) {
        lua_pushcfunction(L, l_breaker_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "breaker");
        lua_setfield(L, -2, "__metatable");
    }
    lua_pop(L, 1);
    luaL_register(L, NULL, functions);
}
