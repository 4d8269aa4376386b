/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: register makes a method row of the generation being loaded, find looks one up for fae.call. What a servant
 * may write is checked in lua/fae/servant.lua.
 */
#include <stdlib.h>

#include "base/alloc.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

static void read_args(lua_State *L, int idx, struct fae_method *method)
{
    lua_getfield(L, idx, "args");
    if (!lua_istable(L, -1)) {
        method->any_args = true;
    } else {
        unsigned n = (unsigned)lua_objlen(L, -1);

        method->args = fae_zalloc((n + 1) * sizeof *method->args);
        method->owns_args = true;
        for (unsigned i = 0; i < n; i++) {
            lua_rawgeti(L, -1, (int)i + 1);
            if (strcmp(luaL_checkstring(L, -1), "...") == 0)
                method->rest = true;
            else if (fae_arg_parse(lua_tostring(L, -1), &method->args[method->n_args]))
                method->n_args++;
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

static double number_field(lua_State *L, int idx, const char *name, double otherwise)
{
    double v;

    lua_getfield(L, idx, name);
    v = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : otherwise;
    lua_pop(L, 1);
    return v;
}

/* register(name, fn, options[, alias]) -> true, or false when the name is taken.  options: args, timeout_ms, route,
 * idempotent, private. An alias takes the context as an optional first param. */
static int l_register(lua_State *L)
{
    size_t len, alias_len;
    const char *name = luaL_checklstring(L, 1, &len), *alias = luaL_optlstring(L, 4, NULL, &alias_len);
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_generation *gen = vm->loading;
    struct fae_method *method, *canonical;

    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_checktype(L, 3, LUA_TTABLE);
    if (!gen)
        return luaL_error(L, "methods are declared while a servant loads, not later");
    canonical = alias ? fae_methods_find(&gen->methods, name, len) : NULL;
    method = alias ? fae_methods_add(&gen->methods, alias, alias_len) : fae_methods_add(&gen->methods, name, len);
    lua_pushboolean(L, method != NULL);
    if (!method)
        return 1;
    if (canonical) {
        uint64_t hash = method->hash;
        char own[sizeof method->name];
        uint32_t own_len = method->name_len;

        memcpy(own, method->name, sizeof own);
        *method = *canonical;
        memcpy(method->name, own, sizeof own);
        method->name_len = own_len;
        method->hash = hash;
        method->owns_args = false;
        method->context_first = true;
        method->fn_ref = LUA_NOREF;
        method->twin = canonical;
        canonical->twin = method;
    } else {
        read_args(L, 3, method);
        method->timeout_ms = (uint64_t)number_field(L, 3, "timeout_ms", (double)vm->o.config->call_timeout_ms);
        method->route = (uint32_t)number_field(L, 3, "route", 0);
        lua_getfield(L, 3, "idempotent");
        method->idempotent = lua_toboolean(L, -1);
        lua_getfield(L, 3, "private");
        method->is_private = lua_toboolean(L, -1);
        lua_pop(L, 2);
        method->stats_row = fae_stats_row(vm->o.stats, name, len);
    }
    lua_pushvalue(L, 2);
    method->fn_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 1;
}

/* find(name, ...) -> fn | nil, err.  The method of this generation, if the arguments fit it. */
static int l_find(lua_State *L)
{
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len), *near;
    struct fae_generation *gen = fae_generation_here(fae_vm_of(L));
    const struct fae_method *method = fae_methods_find(&gen->methods, name, len);

    if (!method) {
        near = fae_methods_suggest(&gen->methods, name, len, FAE_ROLES_ALL);
        return fae_nil_err(L, FAE_UNKNOWN_METHOD, near ? "no method \"%s\": did you mean %s?" : "no method \"%s\"",
                           name, near);
    }
    if (!fae_method_check(method, L, 2, lua_gettop(L) - 1))
        return fae_nil_err(L, FAE_BAD_ARGS, "%s", lua_tostring(L, -1));
    lua_rawgeti(L, LUA_REGISTRYINDEX, method->fn_ref);
    return 1;
}

/* arg_type(word) -> is it "int", "string?", ... or "..." */
static int l_arg_type(lua_State *L)
{
    struct fae_arg arg;
    const char *word = luaL_checkstring(L, 1);

    lua_pushboolean(L, strcmp(word, "...") == 0 || fae_arg_parse(word, &arg));
    return 1;
}

static const luaL_Reg functions[] = {
    { "register", l_register },
    { "find", l_find },
    { "arg_type", l_arg_type },
    { NULL, NULL },
};

void fae_bind_method(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
