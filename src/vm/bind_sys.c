/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core: time, the node, its counters and its configuration, and cjson.
 */
#include <unistd.h>

#include "backend/backends.h"
#include "backend/upstream_show.h"
#include "base/clock.h"
#include "rpc/access.h"
#include "rpc/stats.h"
#include "vm/vm_impl.h"

#ifndef FAE_VERSION
#define FAE_VERSION "0"
#endif
#ifndef FAE_BUILD
#define FAE_BUILD "unknown"
#endif

int luaopen_cjson_safe(lua_State *L); /* lua-cjson; its header names only the raising variant */

/* wall_ms() -> milliseconds since 1970 */
static int l_wall_ms(lua_State *L)
{
    lua_pushnumber(L, (double)fae_wall_ms());
    return 1;
}

/* monotonic_us() -> microseconds of a clock that never jumps */
static int l_monotonic_us(lua_State *L)
{
    uint64_t us = fae_now_ns() / 1000;

    lua_pushnumber(L, (double)us);
    return 1;
}

/* stats() -> JSON of the node's counters */
static int l_stats(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_buf *out = fae_push_buf(L);

    fae_stats_json(vm->o.stats, vm->o.slots, vm->o.stores, out);
    fae_upstreams_json_member(vm->o.backends ? fae_backends_env(vm->o.backends)->o.upstreams : NULL, fae_now_ms(), out);
    lua_pushlstring(L, (const char *)out->data, out->len);
    fae_buf_fini(out);
    return 1;
}

/* node() -> {version, build, slot, pid, workers, uptime_ms, message_max, call_timeout_ms, node_id,
 * access} */
static int l_node(lua_State *L)
{
    struct fae_vm *vm = fae_vm_of(L);

    lua_createtable(L, 0, 10);
    lua_pushliteral(L, FAE_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushliteral(L, FAE_BUILD);
    lua_setfield(L, -2, "build");
    lua_pushnumber(L, vm->o.slot);
    lua_setfield(L, -2, "slot");
    lua_pushnumber(L, getpid());
    lua_setfield(L, -2, "pid");
    lua_pushnumber(L, vm->o.slots->n_workers);
    lua_setfield(L, -2, "workers");
    lua_pushnumber(L, (double)(fae_now_ms() - vm->o.slots->started_ms));
    lua_setfield(L, -2, "uptime_ms");
    lua_pushnumber(L, (double)vm->o.config->message_max);
    lua_setfield(L, -2, "message_max");
    lua_pushnumber(L, (double)vm->o.config->call_timeout_ms);
    lua_setfield(L, -2, "call_timeout_ms");
    lua_pushnumber(L, (double)vm->o.config->node_id);
    lua_setfield(L, -2, "node_id");
    lua_pushboolean(L, fae_access_on(vm->o.access));
    lua_setfield(L, -2, "access");
    return 1;
}

/* servants_json() -> what the config file says in `servant "name" {...}`, all of them, or nil */
static int l_servants_json(lua_State *L)
{
    const char *json = fae_vm_of(L)->o.config->servants_json;

    if (json)
        lua_pushstring(L, json);
    else
        lua_pushnil(L);
    return 1;
}

/* collect_due(): the collection that is due when memory ran out, at once: what follows could not even make a string while
 * the table of strings is to grow and cannot. */
static int l_collect_due(lua_State *L)
{
    struct fae_lua_memory *memory = &fae_vm_of(L)->memory;

    if (!memory->refused)
        return 0;
    memory->bytes_spare = memory->bytes_max; /* as in fae_vm_collect */
    lua_gc(L, LUA_GCCOLLECT, 0);
    memory->bytes_spare = 0;
    return 0;
}

static void push_option(lua_State *L, const struct fae_opt *opt, const void *entry)
{
    char text[FAE_OPT_LIST_TEXT];

    switch (opt->type) {
    case FAE_OPT_UINT:
    case FAE_OPT_MS:
    case FAE_OPT_BYTES: lua_pushnumber(L, (double)*(const uint64_t *)((const char *)entry + opt->offset)); break;
    case FAE_OPT_BOOL: lua_pushboolean(L, *(const bool *)((const char *)entry + opt->offset)); break;
    case FAE_OPT_STRING:
    case FAE_OPT_ENUM:
    case FAE_OPT_LIST: lua_pushstring(L, fae_opt_get(opt, entry, text)); break;
    }
}

/* section(name) -> list of its entries as tables, numbers as numbers, a list as words with blanks between; no secrets */
static int l_section(lua_State *L)
{
    const struct fae_config_section *section = fae_config_section(luaL_checkstring(L, 1));
    const struct fae_config *config = fae_vm_of(L)->o.config;
    unsigned n;

    luaL_argcheck(L, section, 1, "a section");
    n = *fae_config_count(section, config);
    lua_createtable(L, (int)n, 0);
    for (unsigned i = 0; i < n; i++) {
        lua_createtable(L, 0, (int)*section->n_opts);
        for (unsigned j = 0; j < *section->n_opts; j++) {
            const struct fae_opt *opt = &section->opts[j];

            if (opt->secret)
                continue;
            push_option(L, opt, fae_config_entry(section, config, i));
            lua_setfield(L, -2, opt->name);
        }
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static const luaL_Reg functions[] = {
    { "section", l_section },
    { "collect_due", l_collect_due },
    { "wall_ms", l_wall_ms },
    { "monotonic_us", l_monotonic_us },
    { "stats", l_stats },
    { "node", l_node },
    { "servants_json", l_servants_json },
    { NULL, NULL },
};

void fae_bind_sys(lua_State *L)
{
    luaL_register(L, NULL, functions);
    /* One table a state: what servants keep over reloads. */
    lua_getfield(L, LUA_REGISTRYINDEX, "fae.states");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, "fae.states");
    }
    lua_setfield(L, -2, "states");
    lua_pushcfunction(L, luaopen_cjson_safe);
    lua_call(L, 0, 1);
    lua_setfield(L, -2, "cjson");
}
