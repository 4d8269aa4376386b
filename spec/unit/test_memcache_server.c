/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/memcache_server: what goes out together and in which order, askers that leave, and the end of the queue.
 */
#include "unit_memcache.h"

static void gets_of_a_turn_are_one_command(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b");
    get(2, " a");
    get(3, " c d e");
    accept_peer();
    expect("gets a b a c d e\r\n");
    say("VALUE a 7 3 42\r\nx\r\n\r\nVALUE a 0 1 43\r\ny\r\nVALUE c 0 1 1\r\nC\r\nVALUE e 0 0 1\r\n\r\nEND\r\n");
    is_value(0, "x\r\n");
    assert_int_equal(results[0].flags, 7);
    assert_int_equal(results[0].cas, 42);
    says_of(1, FAE_OK);
    assert_false(results[1].yes);
    is_value(2, "y");
    says_of(3, FAE_OK);
    assert_int_equal(results[3].n_values, 2);
    assert_memory_equal(results[3].value, "C\0-", 3);
    assert_true(fae_memcache_server_quiet(t.server));
}

static void order_is_kept(void **state)
{
    (void)state;
    get(0, " a");
    set(1);
    get(2, " k");
    assert_int_equal(ask(3, FAE_MEMCACHE_COUNT, 0, "incr n 1\r\n"), FAE_OK);
    assert_int_equal(ask(4, FAE_MEMCACHE_DELETE, 0, "delete n\r\n"), FAE_OK);
    assert_int_equal(ask(5, FAE_MEMCACHE_TOUCH, 0, "touch n 1\r\n"), FAE_OK);
    accept_peer();
    expect("gets a\r\nset k 0 0 1\r\nx\r\ngets k\r\nincr n 1\r\ndelete n\r\ntouch n 1\r\n");
    say("END\r\nSTORED\r\nVALUE k 0 1 1\r\nx\r\nEND\r\n18446744073709551615\r\nNOT_FOUND\r\nTOUCHED\r\n");
    says_of(0, FAE_OK);
    says_of(1, FAE_OK);
    assert_true(results[1].yes);
    is_value(2, "x");
    says_of(3, FAE_OK);
    assert_true(results[3].number == UINT64_MAX);
    says_of(4, FAE_OK);
    assert_false(results[4].yes);
    says_of(5, FAE_OK);
    assert_true(results[5].yes);
}

static void many_gets_are_several_commands(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        char keys[300];

        memset(keys, 'k', sizeof keys);
        keys[0] = ' ';
        keys[250] = '\0';
        get(i, keys);
    }
    accept_peer();
    for (unsigned i = 0; i < TURNS && results[0].n_done == 0; i++) {
        turn();
        say("END\r\n");
    }
    for (unsigned i = 0; i < TURNS && results[59].n_done == 0; i++)
        turn();
    assert_int_equal(results[0].err, FAE_OK);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(results[i].n_done, 1);
}

static void cancelled_calls_are_nobodys(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b");
    assert_false(fae_memcache_cancel(t.server, results[0].call));
    accept_peer();
    expect("gets b\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
    set(2);
    get(3, " c");
    get(4, " d");
    expect("set k 0 0 1\r\nx\r\ngets c d\r\n");
    assert_true(fae_memcache_cancel(t.server, results[2].call));
    assert_true(fae_memcache_cancel(t.server, results[3].call));
    say("STORED\r\nVALUE c 0 1 1\r\nC\r\nVALUE d 0 1 1\r\nD\r\nEND\r\n");
    is_value(4, "D");
    assert_int_equal(results[0].n_done + results[2].n_done + results[3].n_done, 0);
    assert_true(fae_memcache_server_quiet(t.server));
}

static void queue_has_an_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        get(i, " a");
    assert_int_equal(ask(100, FAE_MEMCACHE_GET, 1, " a"), FAE_POOL_BUSY);
    fae_memcache_server_free(&t.server);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(results[i].n_done, 1);
        assert_int_equal(results[i].err, FAE_CLOSED);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gets_of_a_turn_are_one_command), TEST(order_is_kept),    TEST(many_gets_are_several_commands),
        TEST(cancelled_calls_are_nobodys),    TEST(queue_has_an_end),
    };

    return cmocka_run_group_tests_name("backend/memcache_server", tests, NULL, NULL);
}
