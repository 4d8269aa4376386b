/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/method: rows found by name, and the table of types against values, with the words a caller gets.
 */
#include "unit.h"

#include <lauxlib.h>
#include <lualib.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/clock.h"
#include "vm/codec.h"
#include "vm/method.h"

static lua_State *L;

static int set_up(void **state)
{
    static const char *const names[FAE_MARK_COUNT] = { "MAP", "ARRAY", "BIN", "EXT", "RAW" };

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
    assert_null(fae_methods_suggest(&m, "a.b", 3, FAE_ROLES_ALL));
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
    assert_null(fae_methods_suggest(&m, name, FAE_METHOD_NAME_MAX + 1, FAE_ROLES_ALL));
    assert_string_equal(fae_methods_suggest(&m, "servant3.methd3", 15, FAE_ROLES_ALL), "servant3.method3");
    fae_methods_fini(&m, L);
    assert_null(fae_methods_find(&m, name, 3));
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

static struct fae_method *add(struct fae_methods *m, const char *name)
{
    struct fae_method *method = fae_methods_add(m, name, strlen(name));

    assert_non_null(method);
    return method;
}

static void roles_are_those_of_name_and_alias(void **state)
{
    struct fae_config config;
    struct fae_access *access;
    struct fae_methods m = { 0 };
    struct fae_method *get, *alias, *hello;

    (void)state;
    fae_config_init(&config);
    config.n_role = 2;
    snprintf(config.role[0].name, sizeof config.role[0].name, "reader");
    snprintf(config.role[0].allow, sizeof config.role[0].allow, "lc.get");
    snprintf(config.role[1].name, sizeof config.role[1].name, "old");
    snprintf(config.role[1].allow, sizeof config.role[1].allow, "lc_get lc.set");
    access = fae_access_new(&config);
    get = add(&m, "lc.get"), alias = add(&m, "lc_get"), hello = add(&m, "sys.hello");
    get->twin = alias, alias->twin = get, alias->context_first = true;
    add(&m, "lc.set");
    assert_int_equal(get->roles, 0); /* until it is said */
    fae_methods_access(&m, access);
    assert_int_equal(get->roles, 3);
    assert_int_equal(alias->roles, 3);
    assert_int_equal(hello->roles, FAE_ROLES_ALL);
    assert_true(hello->token_first);
    assert_false(get->token_first);
    /* Nobody is told of what he may not call. */
    assert_string_equal(fae_methods_suggest(&m, "lc.sat", 6, 2), "lc.set");
    assert_string_equal(fae_methods_suggest(&m, "lc.sat", 6, 1), "lc.get");
    assert_null(fae_methods_suggest(&m, "lc.sat", 6, 4));
    fae_methods_access(&m, NULL);
    assert_int_equal(get->roles, FAE_ROLES_ALL);
    fae_methods_fini(&m, L);
    fae_access_free(&access);
    fae_config_fini(&config);
}

/* ---- a flood of names that were chosen to collide ---- */

enum { N_METHODS = 500, N_NAMES = 100000, NAME_LEN = 16 };

typedef uint64_t name_bytes[NAME_LEN / 8];

/* A name whose plain hash ends as `want`, which is what somebody can choose who knows the function but not the seed. */
static void craft(name_bytes name, uint64_t want, uint64_t *random)
{
    do {
        name[0] = unit_random(random), name[1] = unit_random(random);
    } while ((XXH3_64bits(name, NAME_LEN) & 1023) != want);
}

static uint64_t look_up_ns(const struct fae_methods *m, name_bytes *names)
{
    uint64_t best = UINT64_MAX;

    for (int round = 0; round < 5; round++) {
        uint64_t ticks = fae_ticks(), ns;

        for (int i = 0; i < N_NAMES; i++)
            if (fae_methods_find(m, (const char *)names[i], NAME_LEN))
                fail_msg("name %d is there", i);
        ns = fae_ticks_to_ns(fae_ticks() - ticks);
        best = ns < best ? ns : best;
    }
    return best;
}

static void chosen_names_are_found_out_as_quickly(void **state)
{
    static name_bytes crafted[N_NAMES], others[N_NAMES];
    struct fae_methods m = { 0 };
    uint64_t random = 88172645463325252u;

    (void)state;
    for (int i = 0; i < N_METHODS; i++) { /* the declared ones would lie in one place as well */
        name_bytes name;

        craft(name, 7, &random);
        assert_non_null(fae_methods_add(&m, (const char *)name, NAME_LEN));
    }
    for (int i = 0; i < N_NAMES; i++) {
        craft(crafted[i], 7, &random);
        others[i][0] = unit_random(&random), others[i][1] = unit_random(&random);
    }
    for (int attempt = 0;; attempt++) {
        uint64_t chosen = look_up_ns(&m, crafted), other = look_up_ns(&m, others);

        if (chosen <= 2 * other)
            break;
        if (attempt == 4)
            fail_msg("%llu ns, others %llu ns", (unsigned long long)chosen, (unsigned long long)other);
    }
    fae_methods_fini(&m, L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(every_value_fits_what_it_should),
        TEST(what_is_left_out),
        TEST(without_types_anything_goes),
        TEST(types_are_words),
        TEST(rows_are_found_by_name),
        TEST(roles_are_those_of_name_and_alias),
        TEST(chosen_names_are_found_out_as_quickly),
    };

    return cmocka_run_group_tests_name("method", tests, NULL, NULL);
}
