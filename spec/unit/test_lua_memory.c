/* SPDX-License-Identifier: BSD-2-Clause
 *
 * vm/alloc: Lua's memory is counted and limited, and somebody is told once when it gets tight.
 */
#include "unit.h"

#include "base/limits.h"
#include "vm/alloc.h"

static unsigned n_told;

static void on_tight(struct fae_lua_memory *m)
{
    (void)m;
    n_told++;
}

static void *take(struct fae_lua_memory *m, size_t size)
{
    return fae_lua_allocate(m, NULL, 0, size);
}

static void give(struct fae_lua_memory *m, void *mem, size_t size)
{
    assert_null(fae_lua_allocate(m, mem, size, 0));
}

static void blocks_are_counted(void **state)
{
    struct fae_lua_memory m = { 0 };
    void *small, *large;

    (void)state;
    fae_lua_memory_limit(&m, FAE_MIB, FAE_MIB);
    small = take(&m, 24);
    large = take(&m, 4000);
    assert_int_equal(m.bytes, 4024);
    memset(large, 7, 4000);
    large = fae_lua_allocate(&m, large, 4000, 100); /* into a free list */
    assert_int_equal(((char *)large)[99], 7);
    large = fae_lua_allocate(&m, large, 100, 9000);
    assert_int_equal(((char *)large)[99], 7);
    assert_int_equal(m.bytes, 9024);
    give(&m, small, 24);
    give(&m, large, 9000);
    assert_int_equal(m.bytes, 0);
    fae_lua_memory_fini(&m);
}

static void the_limit_holds_and_is_told(void **state)
{
    struct fae_lua_memory m = { 0 };
    void *mem;

    (void)state;
    fae_lua_memory_limit(&m, 1000, 1200);
    mem = take(&m, 1200);
    assert_non_null(mem);
    assert_null(take(&m, 1));
    assert_true(m.refused);
    assert_true(m.failed);
    assert_null(fae_lua_allocate(&m, mem, 1200, 1300));
    m.bytes_spare = 100;
    mem = fae_lua_allocate(&m, mem, 1200, 1300);
    assert_non_null(mem);
    give(&m, mem, 1300);
    fae_lua_memory_fini(&m);
}

static void tightness_is_told_in_steps_and_again_after_calm(void **state)
{
    struct fae_lua_memory m = { .on_tight = on_tight };
    void *blocks[200];
    unsigned n = 0;

    (void)state;
    n_told = 0;
    fae_lua_memory_limit(&m, 100 * 1000, 125 * 1000);
    while (n < 100)
        blocks[n++] = take(&m, 1000);
    assert_int_equal(n_told, 0);
    blocks[n++] = take(&m, 1000);
    assert_int_equal(n_told, 1);
    while (n < 113)
        blocks[n++] = take(&m, 1000);
    assert_int_equal(n_told, 1);
    while (n < 125)
        blocks[n++] = take(&m, 1000);
    assert_int_equal(n_told, 2);
    assert_false(m.refused);
    while (n > 88)
        give(&m, blocks[--n], 1000);
    blocks[n++] = take(&m, 1000);
    assert_int_equal(n_told, 2); /* it has hardly become less */
    while (n > 80)
        give(&m, blocks[--n], 1000);
    while (n < 101)
        blocks[n++] = take(&m, 1000);
    assert_int_equal(n_told, 3);
    while (n > 0)
        give(&m, blocks[--n], 1000);
    assert_int_equal(m.bytes, 0);
    fae_lua_memory_fini(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blocks_are_counted),
        cmocka_unit_test(the_limit_holds_and_is_told),
        cmocka_unit_test(tightness_is_told_in_steps_and_again_after_calm),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
