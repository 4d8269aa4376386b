/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/redis_line: the connections that calls share. Made and refused, logged in, several of them, warm, idle and old ones,
 * and those that give no sign of life.
 */
#include "unit_redis.h"

/* ---- servers that are not there ---- */

static void what_cannot_be_reached_is_told_at_once_and_left_alone(void **state)
{
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    refuse_connections();
    make_pool();
    get(&a);
    incr(&b);
    expect_err(&a, FAE_UNAVAILABLE);
    expect_err(&b, FAE_UNAVAILABLE);
    assert_string_equal(a.why, "Connection refused");
    assert_int_equal(COUNTED(connects), 1);
    a = (struct asked){ 0 };
    assert_int_equal(ask_on(NULL, &a, true, "GET k"), FAE_UNAVAILABLE);
    assert_string_equal(a.why, "Connection refused");
    assert_true(a.retry_after_ms > 0);
    assert_int_equal(COUNTED(connects), 1);
}

static void the_breaker_opens_and_is_closed_by_our_own_trying(void **state)
{
    uint16_t port = (uint16_t)atoi(strchr(t.entry.pool.servers, ':') + 1);
    struct asked a = { 0 };

    (void)state;
    t.entry.pool.breaker_refusals = 3;
    t.entry.pool.breaker_open_ms = 60000;
    refuse_connections();
    make_pool();
    for (unsigned i = 0; i < 2000 && a.err != FAE_CIRCUIT_OPEN; i++) {
        a = (struct asked){ 0 };
        if (ask_on(NULL, &a, true, "GET k") == FAE_OK)
            wait_done(&a);
        turn();
    }
    assert_int_equal(a.err, FAE_CIRCUIT_OPEN);
    assert_true(a.retry_after_ms > 10000);
    assert_int_equal(COUNTED(connects), 3);
    listen_at(port);
    for (unsigned i = 0; i < TURNS && !accept_next(); i++) {
        fae_redis_kind.tick(t.redis);
        turn();
    }
    expect(PING);
    say("+PONG\r\n");
    turns(3);
    for (unsigned i = 0; i < 3; i++) { /* three probes close it */
        a = (struct asked){ 0 };
        get(&a);
        expect(GET);
        say("$1\r\nx\r\n");
        expect_reply(&a, "\"x\"");
    }
    assert_int_equal(atomic_load(&fae_upstream_breaker(row())->state), FAE_BREAKER_CLOSED);
}

static void one_that_accepts_and_says_nothing(void **state)
{
    struct asked a = { 0 };

    (void)state;
    t.entry.pool.connect_timeout_ms = 30;
    make_pool();
    incr(&a);
    accept_peer();
    expect(PING);
    expect_err(&a, FAE_UNAVAILABLE);
    assert_string_equal(a.why, "not ready within 30 ms");
    expect_end();
}

static void the_login(void **state)
{
    struct asked a = { 0 };

    (void)state;
    strcpy(t.entry.user, "app");
    strcpy(t.entry.password, "secret");
    t.entry.db = 7;
    make_pool();
    get(&a);
    accept_peer();
    expect("*3\r\n$4\r\nAUTH\r\n$3\r\napp\r\n$6\r\nsecret\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n7\r\n");
    say("+OK\r\n");
    expect_nothing();
    say("+OK\r\n");
    expect(GET);
    say("$1\r\nx\r\n");
    expect_reply(&a, "\"x\"");
    fae_redis_kind.free(t.redis);
    make_pool();
    a = (struct asked){ 0 };
    get(&a);
    accept_peer();
    say("-WRONGPASS invalid username-password pair\r\n");
    expect_err(&a, FAE_UNAVAILABLE);
    assert_string_equal(a.why, "login: WRONGPASS invalid username-password pair");
    assert_int_equal(atomic_load(&fae_upstream_breaker(row())->refusals), 0);
    fae_redis_kind.free(t.redis);
    make_pool();
    a = (struct asked){ 0 };
    get(&a);
    accept_peer();
    say("-ERR unknown command 'AUTH', with args beginning with: 'app' 'secret'\r\n");
    expect_err(&a, FAE_UNAVAILABLE);
    assert_string_equal(a.why, "login: refused, in words that repeat the password");
}

static void one_that_is_busy_lets_us_in(void **state)
{
    static const char *const fine[] = { "-LOADING Redis is loading the dataset in memory\r\n",
                                        "-BUSY Redis is busy\r\n", "-MASTERDOWN Link with MASTER is down\r\n",
                                        "-NOPERM no permission\r\n" };
    struct asked a;

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        make_pool();
        a = (struct asked){ 0 };
        get(&a);
        accept_peer();
        expect(PING);
        say(i < 4 ? fine[i] : "-NOAUTH Authentication required.\r\n");
        if (i < 4) {
            expect(GET);
            say("-LOADING Redis is loading the dataset in memory\r\n");
            expect_reply(&a, "-LOADING Redis is loading the dataset in memory");
        } else {
            expect_err(&a, FAE_UNAVAILABLE);
        }
        fae_redis_kind.free(t.redis);
        t.redis = NULL;
    }
}

/* ---- the pool ---- */

static void several_lines_share_the_load(void **state)
{
    struct asked a = { 0 }, b = { 0 };
    int first;

    (void)state;
    t.entry.pipelines = 2;
    make_pool();
    get(&a);
    greet();
    expect(GET);
    first = net.peer;
    net.peer = -1;
    get(&b);
    greet();
    expect(GET);
    say("$1\r\n2\r\n");
    expect_reply(&b, "\"2\"");
    close(net.peer);
    net.peer = first;
    say("$1\r\n1\r\n");
    expect_reply(&a, "\"1\"");
}

static void warm_lines_are_there_before_anybody_calls(void **state)
{
    (void)state;
    t.entry.pool.warm = 1;
    make_pool();
    fae_redis_kind.tick(t.redis);
    greet();
    turns(3);
    assert_int_equal(COUNTED(calls), 0);
    assert_true(fae_redis_kind.quiet(t.redis));
}

static void idle_and_old_lines_are_closed(void **state)
{
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    t.entry.pool.idle_ms = 1;
    make_pool();
    get_on_new();
    turns(3);
    fae_redis_kind.tick(t.redis);
    expect_end();
    fae_redis_kind.free(t.redis);
    t.entry.pool.idle_ms = 0;
    t.entry.pool.life_ms = 10;
    make_pool();
    get(&a);
    greet();
    expect(GET);
    turns(10);
    fae_redis_kind.tick(t.redis); /* too old, and in use: the next call goes elsewhere */
    get(&b);
    expect_nothing();
    say("$1\r\n1\r\n");
    expect_reply(&a, "\"1\"");
    fae_redis_kind.tick(t.redis);
    expect_end();
    greet();
    expect(GET);
    say("$1\r\n2\r\n");
    expect_reply(&b, "\"2\"");
}

/* The first call after a long silence does not find out that nobody is there any more. */
static void idle_lines_are_asked_for_a_sign_of_life(void **state)
{
    (void)state;
    t.entry.pool.idle_ms = 7000;
    t.entry.pool.timeout_ms = 50;
    make_pool();
    get_on_new();
    fae_redis_kind.tick(t.redis);
    expect_nothing();
    fae_redis_skip(t.redis, 5100);
    fae_redis_kind.tick(t.redis);
    fae_redis_kind.tick(t.redis);
    expect(PING);
    say("+PONG\r\n");
    turns(3);
    fae_redis_kind.tick(t.redis);
    expect_nothing();
    fae_redis_skip(t.redis, 2000); /* that it was asked does not make it less idle */
    fae_redis_kind.tick(t.redis);
    expect_end();
    assert_int_equal(COUNTED(calls), 1);
}

static void a_line_without_a_sign_of_life_is_made_anew_before_anybody_calls(void **state)
{
    struct asked b = { 0 };

    (void)state;
    t.entry.pool.timeout_ms = 50;
    make_pool();
    get_on_new();
    fae_redis_skip(t.redis, 5100);
    fae_redis_kind.tick(t.redis);
    expect(PING);
    expect_end(); /* in time_out_ms */
    assert_int_equal(ask_on(NULL, &b, true, "GET k"), FAE_UNAVAILABLE);
    for (unsigned i = 0; i < 600 && COUNTED(connects) == 1; i++) {
        turn();
        fae_redis_kind.tick(t.redis);
    }
    greet();
    b = (struct asked){ 0 };
    get(&b);
    expect(GET);
    say("$1\r\n2\r\n");
    expect_reply(&b, "\"2\"");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(what_cannot_be_reached_is_told_at_once_and_left_alone),
        T(the_breaker_opens_and_is_closed_by_our_own_trying),
        T(one_that_accepts_and_says_nothing),
        T(the_login),
        T(one_that_is_busy_lets_us_in),
        T(several_lines_share_the_load),
        T(warm_lines_are_there_before_anybody_calls),
        T(idle_and_old_lines_are_closed),
        T(idle_lines_are_asked_for_a_sign_of_life),
        T(a_line_without_a_sign_of_life_is_made_anew_before_anybody_calls),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
