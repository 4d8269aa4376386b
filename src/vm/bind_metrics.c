/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core.metric: what servants count. A metric is a userdata whose methods find the child of the given label values
 * in shared memory (rpc/series.h) and write its cell: no table of children in Lua that could grow, 90 ns an inc with
 * one label, 35 without (measured). How a metric may be declared is checked in lua/fae/metrics.lua.
 */
#include <math.h>
#include <stdio.h>

#include "rpc/series.h"
#include "vm/vm_impl.h"

struct metric {
    uint32_t row;  /* FAE_SERIES_NONE: there are too many, it counts nothing */
    uint32_t cell; /* of the only child that a metric without labels has; FAE_SERIES_NONE: not known yet */
    struct fae_series_family family;
};

/* The metric at 1. Its class's metatable is the function's upvalue. */
static struct metric *metric_here(lua_State *L)
{
    struct metric *m = lua_touserdata(L, 1);

    if (!m || !lua_getmetatable(L, 1) || !lua_rawequal(L, -1, lua_upvalueindex(1)))
        luaL_error(L, "a metric's functions are called with a colon, such as hits:inc()");
    lua_pop(L, 1);
    return m;
}

static struct fae_series_value label_value(lua_State *L, const struct metric *m, unsigned i)
{
    struct fae_series_value v = { 0 };
    int idx = (int)i + 3;

    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
    case LUA_TNUMBER: v.text = lua_tolstring(L, idx, &v.len); return v;
    case LUA_TBOOLEAN:
        v.text = lua_toboolean(L, idx) ? "true" : "false";
        v.len = lua_toboolean(L, idx) ? 4 : 5;
        return v;
    default:
        luaL_error(L, "%s: label %s must be a string, a number or a boolean, not %s", m->family.name,
                   m->family.labels[i], luaL_typename(L, idx));
        return v;
    }
}

/* The cell of the child that the values from index 3 on name; FAE_SERIES_NONE when it is left out, which is counted. */
static uint32_t child_here(lua_State *L, struct metric *m)
{
    struct fae_series_value values[FAE_SERIES_LABELS_MAX];
    struct fae_vm *vm = fae_vm_of(L);
    unsigned n = lua_gettop(L) > 2 ? (unsigned)lua_gettop(L) - 2 : 0;
    uint32_t cell = FAE_SERIES_NONE;

    if (__builtin_expect(n != m->family.n_labels, 0))
        luaL_error(L, "%s has %d label%s, and %d value%s given", m->family.name, (int)m->family.n_labels,
                   m->family.n_labels == 1 ? "" : "s", (int)n, n == 1 ? " was" : "s were");
    for (unsigned i = 0; i < n; i++)
        values[i] = label_value(L, m, i);
    if (m->cell != FAE_SERIES_NONE)
        return m->cell;
    if (!vm->o.series)
        return FAE_SERIES_NONE;
    if (m->row != FAE_SERIES_NONE)
        cell = fae_series_child(vm->o.series, m->row, values);
    if (__builtin_expect(cell == FAE_SERIES_NONE, 0))
        fae_series_drop(vm->o.series, vm->o.slot);
    else if (n == 0)
        m->cell = cell;
    return cell;
}

/* The number at 2, 1 when it was left out. */
static double amount_here(lua_State *L, const struct metric *m)
{
    double by = luaL_optnumber(L, 2, 1);

    if (isnan(by))
        luaL_error(L, "%s: not a number", m->family.name);
    return by;
}

/* counter:inc([by, ]labels...) */
static int l_counter_inc(lua_State *L)
{
    struct metric *m = metric_here(L);
    double by = amount_here(L, m);
    uint32_t cell = child_here(L, m);

    if (by < 0 || isinf(by))
        luaL_error(L, "%s: a counter only rises", m->family.name);
    if (cell != FAE_SERIES_NONE)
        fae_series_add(fae_vm_of(L)->o.series, fae_vm_of(L)->o.slot, cell, by);
    return 0;
}

static int gauge_by(lua_State *L, double sign)
{
    struct metric *m = metric_here(L);
    double by = sign * amount_here(L, m);
    const struct fae_vm *vm = fae_vm_of(L);
    uint32_t cell = child_here(L, m);

    if (cell != FAE_SERIES_NONE)
        fae_series_set(vm->o.series, vm->o.slot, cell, fae_series_value(vm->o.series, vm->o.slot, cell) + by);
    return 0;
}

/* gauge:inc([by, ]labels...) */
static int l_gauge_inc(lua_State *L)
{
    return gauge_by(L, 1);
}

/* gauge:dec([by, ]labels...) */
static int l_gauge_dec(lua_State *L)
{
    return gauge_by(L, -1);
}

/* gauge:set(to, labels...) */
static int l_gauge_set(lua_State *L)
{
    struct metric *m = metric_here(L);
    double to = luaL_checknumber(L, 2);
    uint32_t cell = child_here(L, m);

    if (isnan(to))
        luaL_error(L, "%s: not a number", m->family.name);
    if (cell != FAE_SERIES_NONE)
        fae_series_set(fae_vm_of(L)->o.series, fae_vm_of(L)->o.slot, cell, to);
    return 0;
}

/* histogram:observe(value, labels...) */
static int l_histogram_observe(lua_State *L)
{
    struct metric *m = metric_here(L);
    double value = luaL_checknumber(L, 2);
    uint32_t cell = child_here(L, m);

    if (isnan(value))
        luaL_error(L, "%s: not a number", m->family.name);
    if (cell != FAE_SERIES_NONE)
        fae_series_observe(fae_vm_of(L)->o.series, fae_vm_of(L)->o.slot, cell, &m->family, value);
    return 0;
}

static const luaL_Reg counter_methods[] = { { "inc", l_counter_inc }, { NULL, NULL } };
static const luaL_Reg gauge_methods[] = {
    { "inc", l_gauge_inc },
    { "dec", l_gauge_dec },
    { "set", l_gauge_set },
    { NULL, NULL },
};
static const luaL_Reg histogram_methods[] = { { "observe", l_histogram_observe }, { NULL, NULL } };

static const struct class
{
    const char *name;
    const luaL_Reg *methods;
} classes[] = {
    [FAE_SERIES_COUNTER] = { "counter", counter_methods },
    [FAE_SERIES_GAUGE] = { "gauge", gauge_methods },
    [FAE_SERIES_HISTOGRAM] = { "histogram", histogram_methods },
};

#define N_CLASSES (sizeof classes / sizeof *classes)

static char class_keys[N_CLASSES]; /* their addresses are keys of the registry */

/* The numbers of the list at idx. */
static void read_bounds(lua_State *L, int idx, struct fae_series_family *f)
{
    f->n_bounds = (uint32_t)lua_objlen(L, idx);
    luaL_argcheck(L, f->n_bounds <= FAE_SERIES_BOUNDS_MAX, idx, "too many buckets");
    for (uint32_t i = 0; i < f->n_bounds; i++) {
        lua_rawgeti(L, idx, (int)i + 1);
        f->bounds[i] = luaL_checknumber(L, -1);
        lua_pop(L, 1);
    }
}

static void read_labels(lua_State *L, int idx, struct fae_series_family *f)
{
    f->n_labels = (uint32_t)lua_objlen(L, idx);
    luaL_argcheck(L, f->n_labels <= FAE_SERIES_LABELS_MAX, idx, "too many labels");
    for (uint32_t i = 0; i < f->n_labels; i++) {
        lua_rawgeti(L, idx, (int)i + 1);
        snprintf(f->labels[i], sizeof f->labels[i], "%s", luaL_checkstring(L, -1));
        lua_pop(L, 1);
    }
}

/* metric(kind, name, help, labels, bounds) -> a counter, a gauge or a histogram */
static int l_metric(lua_State *L)
{
    static const char *const words[] = { "counter", "gauge", "histogram", NULL };
    struct fae_series *series = fae_vm_of(L)->o.series;
    int kind = luaL_checkoption(L, 1, NULL, words);
    struct metric *m;

    luaL_checktype(L, 4, LUA_TTABLE);
    luaL_checktype(L, 5, LUA_TTABLE);
    m = lua_newuserdata(L, sizeof *m);
    *m = (struct metric){ .row = FAE_SERIES_NONE, .cell = FAE_SERIES_NONE, .family.kind = (uint32_t)kind };
    snprintf(m->family.name, sizeof m->family.name, "%s", luaL_checkstring(L, 2));
    snprintf(m->family.help, sizeof m->family.help, "%s", luaL_checkstring(L, 3));
    read_labels(L, 4, &m->family);
    read_bounds(L, 5, &m->family);
    if (series)
        m->row = fae_series_declare(series, &m->family);
    lua_pushlightuserdata(L, &class_keys[kind]);
    lua_rawget(L, LUA_REGISTRYINDEX);
    lua_setmetatable(L, -2);
    return 1;
}

static void make_class(lua_State *L, unsigned kind)
{
    lua_pushlightuserdata(L, &class_keys[kind]);
    lua_createtable(L, 0, 2);
    lua_createtable(L, 0, 4);
    for (const luaL_Reg *m = classes[kind].methods; m->name; m++) {
        lua_pushvalue(L, -2);
        lua_pushcclosure(L, m->func, 1);
        lua_setfield(L, -2, m->name);
    }
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, classes[kind].name);
    lua_setfield(L, -2, "__metatable");
    lua_rawset(L, LUA_REGISTRYINDEX);
}

static const luaL_Reg functions[] = {
    { "metric", l_metric },
    { NULL, NULL },
};

void fae_bind_metrics(lua_State *L)
{
    for (unsigned i = 0; i < N_CLASSES; i++) {
        lua_pushlightuserdata(L, &class_keys[i]);
        lua_rawget(L, LUA_REGISTRYINDEX);
        if (lua_isnil(L, -1)) /* one a state: metrics of an old generation keep theirs */
            make_class(L, i);
        lua_pop(L, 1);
    }
    luaL_register(L, NULL, functions);
}
