/* SPDX-License-Identifier: BSD-2-Clause
 *
 * fae.core.log: a line with fields. The Lua half is lua/fae/log.lua.
 */
#include "base/log.h"
#include "vm/task.h"
#include "vm/vm_impl.h"

#define FIELDS_MAX 24

/* log(level, text[, fields]): level is 0 (debug) to 3 (error); fields a table of string, number or boolean values. */
static int l_log(lua_State *L)
{
    enum fae_log_level level = (enum fae_log_level)luaL_checkint(L, 1);
    struct fae_log_field fields[FIELDS_MAX];
    struct fae_vm *vm = fae_vm_of(L);
    struct fae_task *task = vm->current;
    unsigned n = 0;
    const char *text;
    size_t len;

    luaL_argcheck(L, level <= FAE_LOG_ERROR, 1, "a level");
    text = luaL_checklstring(L, 2, &len);
    if (!fae_log_on(level))
        return 0;
    luaL_checkstack(L, FIELDS_MAX * 2 + 4, "fields");
    if (task && task->method)
        fields[n++] = (struct fae_log_field){ "method", task->method->name, task->method->name_len };
    if (lua_istable(L, 3)) {
        lua_pushnil(L);
        while (n < FIELDS_MAX && lua_next(L, 3)) {
            struct fae_log_field *f = &fields[n];

            if (lua_type(L, -2) == LUA_TSTRING) {
                if (lua_type(L, -1) == LUA_TBOOLEAN)
                    lua_pushstring(L, lua_toboolean(L, -1) ? "true" : "false");
                else if (lua_type(L, -1) == LUA_TNUMBER || lua_type(L, -1) == LUA_TSTRING)
                    lua_pushvalue(L, -1);
                else
                    lua_pushstring(L, luaL_typename(L, -1));
                lua_insert(L, 4); /* stays on the stack, so that the text lives until the line is written */
                f->key = lua_tostring(L, -2);
                f->text = lua_tolstring(L, 4, &f->len);
                n++;
            }
            lua_pop(L, 1);
        }
    }
    fae_log_fields(level, text, len, fields, n);
    return 0;
}

static const luaL_Reg functions[] = {
    { "log", l_log },
    { NULL, NULL },
};

void fae_bind_log(lua_State *L)
{
    luaL_register(L, NULL, functions);
}
