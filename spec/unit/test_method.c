/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/method: rows found by name, and the table of types against values, with the words a caller gets.
 */
#include "unit.h"

#include <lauxlib.h>
#include <lualib.h>

#include "vm/codec.h"
#include "vm/method.h"

static lua_State *L;

static int set_up(void **state)
{
    static const char *const names[] = { "MAP", "ARRAY", "BIN", "EXT" };

    (void)state;
    L = luaL_newstate();
    if (!L)
        return -1;
    luaL_openlibs(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_pushcfunction(L, luaopen_ffi);
    lua_pushliteral(L, "ffi");
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "ffi");
    lua_settop(L, 0);
    fae_codec_open(L);
    for (int i = 0; i < FAE_MARK_COUNT; i++) {
        fae_codec_mark(L, (enum fae_mark)i);
        lua_setglobal(L, names[i]);
    }
    lua_pushlightuserdata(L, NULL);
    lua_setglobal(L, "null");
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    lua_close(L);
    return 0;
}

/* Pushes what the expressions give; how many. */
static int push(const char *expressions)
{
    int top = lua_gettop(L);

    lua_pushfstring(L, "return %s", expressions);
    if (luaL_loadstring(L, lua_tostring(L, -1)) || (lua_remove(L, -2), lua_pcall(L, 0, LUA_MULTRET, 0)))
        fail_msg("%s: %s", expressions, lua_tostring(L, -1));
    return lua_gettop(L) - top;
}

/* The method m.m with these types, "..." last for the rest. */
static struct fae_method method_of(const char *const *words)
{
    static struct fae_arg args[8];
    struct fae_method method = { .name = "m.m", .name_len = 3, .args = args };

    for (; *words; words++)
        if (strcmp(*words, "...") == 0)
            method.rest = true;
        else if (!fae_arg_parse(*words, &args[method.n_args++]))
            fail_msg("%s is no type", *words);
    return method;
}

/* NULL: they fit. */
static const char *check(const char *const *words, const char *values)
{
    struct fae_method method = method_of(words);
    int first = lua_gettop(L) + 1, n = push(values);

    if (fae_method_check(&method, L, first, n)) {
        assert_int_equal(lua_gettop(L), first - 1 + n); /* and nothing was left on the stack */
        return NULL;
    }
    assert_int_equal(lua_gettop(L), first + n);
    return lua_tostring(L, -1);
}

/* The types a value fits, of: any int number string boolean table map array */
static const struct {
    const char *value, *fits, *called;
} values[] = {
    { "5", "any int number", "int" },
    { "-0.0", "any int number", "int" },
    { "2^53", "any int number", "int" },
    { "-2^53", "any int number", "int" },
    { "2^53 + 2", "any number", "number" },
    { "1.5", "any number", "number" },
    { "0/0", "any number", "number" },
    { "1/0", "any number", "number" },
    { "-1/0", "any number", "number" },
    { "1e300", "any number", "number" },
    { "9007199254740993LL", "any int number", "int" },
    { "18446744073709551615ULL", "any int number", "int" },
    { "1i", "any", "cdata" },
    { "''", "any string", "string" },
    { "'5'", "any string", "string" },
    { "'\\255\\0'", "any string", "string" },
    { "true", "any boolean", "boolean" },
    { "false", "any boolean", "boolean" },
    { "{}", "any table map array", "array" },
    { "{ 1 }", "any table array", "array" },
    { "{ 1, x = 2 }", "any table array", "array" },
    { "{ x = 1 }", "any table map", "map" },
    { "{ [0] = 1 }", "any table map", "map" },
    { "{ [5] = 1 }", "any table map", "map" },
    { "setmetatable({}, MAP)", "any table map array", "array" },
    { "setmetatable({ x = 1 }, MAP)", "any table map", "map" },
    { "setmetatable({}, ARRAY)", "any table map array", "array" },
    { "setmetatable({ bytes = 'x' }, BIN)", "any", "bin" },
    { "setmetatable({ type = 1, data = 'x' }, EXT)", "any", "ext" },
    { "null", "any", "nil" },
    { "print", "any", "function" },
    { "io.stdout", "any", "userdata" },
};

static bool has_word(const char *words, const char *word)
{
    char padded[80], wanted[16];

    snprintf(padded, sizeof padded, " %s ", words);
    snprintf(wanted, sizeof wanted, " %s ", word);
    return strstr(padded, wanted) != NULL;
}

static void every_value_fits_what_it_should(void **state)
{
    static const char *const types[] = { "any", "int", "number", "string", "boolean", "table", "map", "array" };

    (void)state;
    for (size_t v = 0; v < UNIT_N(values); v++)
        for (size_t t = 0; t < UNIT_N(types); t++) {
            const char *words[] = { types[t], NULL }, *why = check(words, values[v].value);
            char want[200];

            if ((why == NULL) != has_word(values[v].fits, types[t]))
                fail_msg("%s as %s: %s", values[v].value, types[t], why ? why : "fits");
            snprintf(want, sizeof want, "argument 1 of m.m must be %s, not %s", types[t], values[v].called);
            if (why)
                assert_string_equal(why, want);
            lua_settop(L, 0);
        }
}

static void what_is_left_out(void **state)
{
    static const struct {
        const char *words[4], *values, *why;
    } rows[] = {
        { { "int" }, "5", NULL },
        { { "int" }, "nil", "argument 1 of m.m is missing: int" },
        { { "int?" }, "nil", NULL },
        { { "any" }, "nil", "argument 1 of m.m is missing: any" },
        { { "any?" }, "nil", NULL },
        { { "int", "string" }, "5", "argument 2 of m.m is missing: string" },
        { { "int", "string?" }, "5", NULL },
        { { "int?", "string" }, "nil, 'x'", NULL },
        { { "int?", "string" }, "5, nil", "argument 2 of m.m is missing: string" },
        { { "int?", "string?" }, "nil, 5", "argument 2 of m.m must be string, not int" },
        { { "int" }, "5, 6", "m.m takes 1 argument, not 2" },
        { { "int", "int" }, "1, 2, 3", "m.m takes 2 arguments, not 3" },
        { { NULL }, "nil", "m.m takes 0 arguments, not 1" },
        { { "..." }, "1, nil, {}", NULL },
        { { "int", "..." }, "1, nil, 'x'", NULL },
        { { "int", "..." }, "'x', 1", "argument 1 of m.m must be int, not string" },
        { { "string?" }, "null", "argument 1 of m.m must be string, not nil" },
    };

    (void)state;
    for (size_t i = 0; i < UNIT_N(rows); i++) {
        const char *why = check(rows[i].words, rows[i].values);

        if (!rows[i].why != !why || (why && strcmp(why, rows[i].why) != 0))
            fail_msg("%s: %s, not %s", rows[i].values, why ? why : "fits", rows[i].why ? rows[i].why : "fits");
        lua_settop(L, 0);
    }
}

static void without_types_anything_goes(void **state)
{
    struct fae_method method = { .name = "m.m", .any_args = true };
    int n = push("1, nil, {}, print");

    (void)state;
    assert_true(fae_method_check(&method, L, 1, n));
    assert_true(fae_method_check(&method, L, 1, 0));
}

static void types_are_words(void **state)
{
    static const char *const wrong[] = { "", "?", "Int", "int ", " int", "int??", "integer", "in", "...", "nil" };
    struct fae_arg arg = { .type = FAE_ARG_COUNT };

    (void)state;
    assert_true(fae_arg_parse("boolean?", &arg));
    assert_int_equal(arg.type, FAE_ARG_BOOLEAN);
    assert_true(arg.optional);
    assert_true(fae_arg_parse("array", &arg));
    assert_int_equal(arg.type, FAE_ARG_ARRAY);
    assert_false(arg.optional);
    for (size_t i = 0; i < UNIT_N(wrong); i++)
        if (fae_arg_parse(wrong[i], &arg))
            fail_msg("\"%s\" was taken", wrong[i]);
}

static void rows_are_found_by_name(void **state)
{
    struct fae_methods m = { 0 };
    char name[FAE_METHOD_NAME_MAX + 2];

    (void)state;
    assert_null(fae_methods_find(&m, "a.b", 3));
    assert_null(fae_methods_suggest(&m, "a.b", 3));
    for (int i = 0; i < 2000; i++) {
        int len = snprintf(name, sizeof name, "servant%d.method%d", i % 7, i);

        assert_non_null(fae_methods_add(&m, name, (size_t)len));
        assert_null(fae_methods_add(&m, name, (size_t)len));
    }
    for (int i = 0; i < 2000; i++) {
        int len = snprintf(name, sizeof name, "servant%d.method%d", i % 7, i);
        struct fae_method *method = fae_methods_find(&m, name, (size_t)len);

        assert_non_null(method);
        assert_string_equal(method->name, name);
        name[0] = 'S';
        assert_null(fae_methods_find(&m, name, (size_t)len));
    }
    memset(name, 'n', sizeof name);
    assert_non_null(fae_methods_add(&m, name, FAE_METHOD_NAME_MAX));
    assert_null(fae_methods_add(&m, name, FAE_METHOD_NAME_MAX + 1));
    assert_null(fae_methods_find(&m, name, FAE_METHOD_NAME_MAX + 1));
    assert_null(fae_methods_suggest(&m, name, FAE_METHOD_NAME_MAX + 1));
    assert_string_equal(fae_methods_suggest(&m, "servant3.methd3", 15), "servant3.method3");
    fae_methods_fini(&m, L);
    assert_null(fae_methods_find(&m, name, 3));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_value_fits_what_it_should), TEST(what_is_left_out),
        TEST(without_types_anything_goes),     TEST(types_are_words),
        TEST(rows_are_found_by_name),
    };

    return cmocka_run_group_tests_name("method", tests, NULL, NULL);
}
