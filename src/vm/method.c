/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Method rows, their lookup and the check of arguments against what a method declares.
 */
#include "vm/method.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/suggest.h"
#include "vm/codec.h"

static const char *const type_words[] = {
#define FAE_ARG_WORD(name, word) word,
    FAE_ARG_TYPES(FAE_ARG_WORD)
#undef FAE_ARG_WORD
};

void fae_methods_fini(struct fae_methods *m, lua_State *L)
{
    for (uint32_t i = 0; i < m->cap; i++) {
        struct fae_method *method = m->table[i];

        if (!method)
            continue;
        luaL_unref(L, LUA_REGISTRYINDEX, method->fn_ref);
        if (method->owns_args)
            free(method->args);
        free(method);
    }
    free(m->table);
    *m = (struct fae_methods){ 0 };
}

struct fae_method *fae_methods_find(const struct fae_methods *m, const char *name, size_t len)
{
    uint64_t hash = XXH3_64bits_withSeed(name, len, m->seed);

    if (m->cap == 0)
        return NULL;
    for (uint32_t i = (uint32_t)hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct fae_method *method = m->table[i];

        if (!method)
            return NULL;
        if (method->hash == hash && method->name_len == len && memcmp(method->name, name, len) == 0)
            return method;
    }
}

static void place(struct fae_methods *m, struct fae_method *method)
{
    uint32_t i = (uint32_t)method->hash & (m->cap - 1);

    while (m->table[i])
        i = (i + 1) & (m->cap - 1);
    m->table[i] = method;
}

struct fae_method *fae_methods_add(struct fae_methods *m, const char *name, size_t len)
{
    struct fae_method *method;

    if (m->cap == 0 && getrandom(&m->seed, sizeof m->seed, GRND_NONBLOCK) != sizeof m->seed)
        m->seed = fae_now_ns();
    if (len == 0 || len > FAE_METHOD_NAME_MAX || fae_methods_find(m, name, len))
        return NULL;
    if (m->n * 2 >= m->cap) { /* at most half full: a name that is not there is found out quickly */
        struct fae_methods old = *m;

        m->cap = old.cap ? old.cap * 2 : 64;
        m->table = fae_zalloc(m->cap * sizeof *m->table);
        for (uint32_t i = 0; i < old.cap; i++)
            if (old.table[i])
                place(m, old.table[i]);
        free(old.table);
    }
    method = fae_zalloc(sizeof *method);
    memcpy(method->name, name, len);
    method->name_len = (uint32_t)len;
    method->hash = XXH3_64bits_withSeed(name, len, m->seed);
    method->fn_ref = LUA_NOREF;
    place(m, method);
    m->n++;
    return method;
}

const char *fae_methods_suggest(const struct fae_methods *m, const char *name, size_t len, uint32_t roles)
{
    char word[FAE_METHOD_NAME_MAX + 1];
    struct fae_suggest s = { .word = word };

    if (len > FAE_METHOD_NAME_MAX)
        return NULL;
    memcpy(word, name, len);
    word[len] = '\0';
    for (uint32_t i = 0; i < m->cap; i++)
        if (m->table[i] && !m->table[i]->context_first && (roles == FAE_ROLES_ALL || m->table[i]->roles & roles))
            fae_suggest_offer(&s, m->table[i]->name);
    return s.best;
}

void fae_methods_access(struct fae_methods *m, const struct fae_access *access)
{
    for (uint32_t i = 0; i < m->cap; i++) {
        struct fae_method *method = m->table[i], *twin = method ? method->twin : NULL;
        const char *name = method ? method->name : NULL, *alias = twin ? twin->name : "";

        if (!method)
            continue;
        method->token_first = strcmp(name, "sys.hello") == 0 || strcmp(name, "sys.ctx") == 0;
        method->roles = twin && method->context_first ? fae_access_method(access, alias, name)
                                                      : fae_access_method(access, name, alias);
    }
}

/* "shop.*" is of all methods that begin with "shop."; how long a pattern fits, 0 when it does not. */
static size_t fits_servant(const char *pattern, const char *name)
{
    size_t len = strlen(pattern);

    return len && pattern[len - 1] == '*' && strncmp(pattern, name, len - 1) == 0 ? len : 0;
}

static bool is_named(const struct fae_method *method, const char *pattern)
{
    return strcmp(method->name, pattern) == 0 || (method->twin && strcmp(method->twin->name, pattern) == 0);
}

static void limit(struct fae_method *method, const struct fae_config *config, struct fae_gates *gates)
{
    const char *name = method->context_first && method->twin ? method->twin->name : method->name;
    const struct fae_config_limit *found[2] = { NULL, NULL };
    size_t best = 0;

    for (unsigned i = 0; i < config->n_limit; i++) {
        const struct fae_config_limit *row = &config->limit[i];
        size_t len = fits_servant(row->methods, name);

        if (row->calls == 0 && row->rate == 0)
            continue;
        if (len > best)
            found[0] = row, best = len;
        else if (is_named(method, row->methods))
            found[1] = row;
    }
    method->limited = false;
    for (unsigned i = 0; i < 2; i++) {
        method->gates[i] = found[i] ? (int16_t)fae_gates_find(gates, found[i]->methods) : -1;
        if (method->gates[i] < 0)
            continue;
        fae_gate_rule(&method->rules[i], found[i]->calls, found[i]->rate, found[i]->burst);
        method->limited = true;
    }
}

void fae_methods_limit(struct fae_methods *m, const struct fae_config *config, struct fae_gates *gates)
{
    for (uint32_t i = 0; gates && i < m->cap; i++)
        if (m->table[i])
            limit(m->table[i], config, gates);
}

bool fae_arg_parse(const char *word, struct fae_arg *arg_out)
{
    size_t len = strlen(word);
    bool optional = len && word[len - 1] == '?';

    len -= optional;
    for (unsigned i = 0; i < FAE_ARG_COUNT; i++)
        if (strlen(type_words[i]) == len && memcmp(type_words[i], word, len) == 0) {
            *arg_out = (struct fae_arg){ .type = (uint8_t)i, .optional = optional };
            return true;
        }
    return false;
}

/* A table that came off the wire is a map or an array by what is in it; an empty one passes for both. */
static bool is_array(lua_State *L, int idx)
{
    bool array;

    if (lua_objlen(L, idx) > 0)
        return true;
    lua_pushnil(L);
    array = !lua_next(L, idx);
    if (!array)
        lua_pop(L, 2);
    return array;
}

/* bin and ext are tables to Lua, but neither a map nor an array to anybody else. */
static bool is_table(lua_State *L, int idx)
{
    enum fae_mark mark;

    if (lua_type(L, idx) != LUA_TTABLE)
        return false;
    mark = fae_codec_mark_of(L, idx);
    return mark != FAE_MARK_BIN && mark != FAE_MARK_EXT;
}

static bool fits(lua_State *L, int idx, enum fae_arg_type want)
{
    int type = lua_type(L, idx);
    double v;

    switch (want) {
    case FAE_ARG_ANY: return type != LUA_TNIL;
    case FAE_ARG_INT:
        if (type != LUA_TNUMBER)
            return fae_codec_is_int64(L, idx);
        v = lua_tonumber(L, idx);
        return v >= -9007199254740992.0 && v <= 9007199254740992.0 && v == (double)(int64_t)v;
    case FAE_ARG_NUMBER: return type == LUA_TNUMBER || fae_codec_is_int64(L, idx);
    case FAE_ARG_STRING: return type == LUA_TSTRING;
    case FAE_ARG_BOOLEAN: return type == LUA_TBOOLEAN;
    case FAE_ARG_TABLE: return is_table(L, idx);
    case FAE_ARG_MAP: return is_table(L, idx) && lua_objlen(L, idx) == 0;
    case FAE_ARG_ARRAY: return is_table(L, idx) && is_array(L, idx);
    case FAE_ARG_COUNT: break;
    }
    return false;
}

static const char *type_of(lua_State *L, int idx)
{
    int type = lua_type(L, idx);

    if (type == LUA_TNUMBER)
        return fits(L, idx, FAE_ARG_INT) ? "int" : "number";
    if (type == LUA_TTABLE && !is_table(L, idx))
        return fae_codec_mark_of(L, idx) == FAE_MARK_BIN ? "bin" : "ext";
    if (type == LUA_TTABLE)
        return is_array(L, idx) ? "array" : "map";
    if (type == LUA_TLIGHTUSERDATA || type == LUA_TNIL)
        return "nil";
    return fae_codec_is_int64(L, idx) ? "int" : lua_typename(L, type);
}

bool fae_method_check(const struct fae_method *method, lua_State *L, int first, int n)
{
    if (method->any_args)
        return true;
    if (n > (int)method->n_args && !method->rest) {
        lua_pushfstring(L, "%s takes %d argument%s, not %d", method->name, (int)method->n_args,
                        method->n_args == 1 ? "" : "s", n);
        return false;
    }
    for (int i = 0; i < (int)method->n_args; i++) {
        const struct fae_arg *arg = &method->args[i];

        if (i >= n || lua_isnil(L, first + i)) {
            if (arg->optional)
                continue;
            lua_pushfstring(L, "argument %d of %s is missing: %s", i + 1, method->name, type_words[arg->type]);
            return false;
        }
        if (!fits(L, first + i, (enum fae_arg_type)arg->type)) {
            lua_pushfstring(L, "argument %d of %s must be %s, not %s", i + 1, method->name, type_words[arg->type],
                            type_of(L, first + i));
            return false;
        }
    }
    return true;
}
