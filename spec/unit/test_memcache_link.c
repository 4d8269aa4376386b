/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/memcache_link: a connection that is lost, refused, turned away or late, and ones that are idle or old.
 */
#include "unit_memcache.h"

/* ---- no answers ---- */

static void lost_gets_are_asked_again_once(void **state)
{
    (void)state;
    set(0);
    get(1, " a");
    get(2, " b c");
    accept_peer();
    expect("set k 0 0 1\r\nx\r\ngets a b c\r\n");
    accept_peer(); /* closes the first */
    says_of(0, FAE_UNKNOWN);
    expect("gets a b c\r\n");
    say("VALUE a 0 1 1\r\nA\r\nVALUE b 0 1 1\r\nB\r\n");
    is_value(1, "A");
    hang_up();
    says_of(2, FAE_UNAVAILABLE);
    get_on_new(3);
    assert_int_equal(n_failed(), 2);
}

/* K3: the question is answered late, when another waits that the answer would fit. */
static void late_answers_meet_nobody(void **state)
{
    (void)state;
    renew_server(60);
    assert_int_equal(ask(0, FAE_MEMCACHE_COUNT, 0, "incr n 1\r\n"), FAE_OK);
    accept_peer();
    expect("incr n 1\r\n");
    says_of(0, FAE_UNKNOWN);
    assert_int_equal(ask(1, FAE_MEMCACHE_COUNT, 0, "incr m 1\r\n"), FAE_OK);
    turn();
    send(net.peer, "5\r\n", 3, MSG_NOSIGNAL);
    expect_end();
    accept_peer();
    expect("incr m 1\r\n");
    say("7\r\n");
    says_of(1, FAE_OK);
    assert_true(results[1].number == 7);
}

static void writes_without_answer_are_unknown(void **state)
{
    (void)state;
    renew_server(60);
    set(0);
    get(1, " a");
    accept_peer();
    expect("set k 0 0 1\r\nx\r\ngets a\r\n");
    says_of(0, FAE_UNKNOWN);
    says_of(1, FAE_TIMEOUT);
    assert_true(n_failed() >= 2);
}

/* ---- not let in ---- */

static void refused_is_told_and_paused(void **state)
{
    (void)state;
    refuse_connections();
    get(0, " a");
    set(1);
    says_of(0, FAE_UNAVAILABLE);
    says_of(1, FAE_UNAVAILABLE);
    assert_non_null(strstr(results[1].why, "Connection refused"));
    assert_int_equal(ask(2, FAE_MEMCACHE_GET, 1, " a"), FAE_UNAVAILABLE);
    assert_true(results[2].retry_after_ms > 0);
    assert_int_equal(atomic_load(&fae_upstream_breaker(row())->refusals), 1);
    assert_true(fae_memcache_server_quiet(t.server));
}

static void one_too_many_is_refused(void **state)
{
    (void)state;
    get(0, " a");
    set(1);
    accept_peer();
    expect("gets a\r\nset k 0 0 1\r\nx\r\n");
    assert_true(fae_memcache_cancel(t.server, results[0].call));
    say("ERROR Too many open connections\r\n");
    says_of(1, FAE_UNAVAILABLE); /* it was not done */
    assert_non_null(strstr(results[1].why, "it has too many connections"));
    assert_int_equal(ask(2, FAE_MEMCACHE_GET, 1, " a"), FAE_UNAVAILABLE);
    assert_true(results[2].retry_after_ms > 0);
    assert_int_equal(atomic_load(&fae_upstream_breaker(row())->refusals), 1);
    expect_end();
    assert_true(fae_memcache_server_quiet(t.server));
}

static void later_the_same_words_are_an_answer(void **state)
{
    (void)state;
    get_on_new(0);
    set(1);
    expect("set k 0 0 1\r\nx\r\n");
    say("ERROR Too many open connections\r\n");
    says_of(1, FAE_BACKEND);
    expect_end();
}

/* As while a reload replaces them all. */
static void a_row_is_waited_for(void **state)
{
    struct fae_upstream *ups[FAE_UPSTREAMS_MAX];
    char name[32];

    (void)state;
    fae_memcache_server_free(&t.server);
    for (unsigned i = 0; i < FAE_UPSTREAMS_MAX; i++) {
        snprintf(name, sizeof name, "memcache/other/h:%u", i);
        ups[i] = fae_upstream_get(t.upstreams, name, 0);
        assert_non_null(ups[i]);
    }
    new_server(500);
    assert_int_equal(ask(0, FAE_MEMCACHE_GET, 1, " a"), FAE_UNAVAILABLE);
    fae_memcache_server_tick(t.server);
    fae_upstream_put(ups[7], 0);
    for (unsigned i = 0; i < TURNS && ask(1, FAE_MEMCACHE_GET, 1, " a"); i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
    accept_peer();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nA\r\nEND\r\n");
    is_value(1, "A");
}

/* ---- nobody asks ---- */

/* Or until it ends. */
static void ticks_until_heard(void)
{
    for (unsigned i = 0; i < TURNS && receive() && !net.n_in; i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
}

static void idle_connections_are_closed(void **state)
{
    struct fae_memcache_server_opts opts = server_opts(500);

    (void)state;
    opts.idle_ms = 20;
    fae_memcache_server_free(&t.server);
    t.server = fae_memcache_server_new(&opts);
    get_on_new(0);
    ticks_until_heard();
    expect_end();
    get_on_new(1);
}

/* The first call after a long silence does not find out that nobody is there any more. */
static void idle_connections_are_asked_for_a_sign_of_life(void **state)
{
    (void)state;
    renew_server(100);
    get_on_new(0);
    for (unsigned i = 0; i < 5; i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
    expect_nothing();
    for (unsigned i = 0; i < 2; i++) {
        fae_memcache_server_skip(t.server, 6000);
        ticks_until_heard();
        expect("gets fae:check\r\n");
        say("END\r\n");
        turns(5);
    }
    fae_memcache_server_skip(t.server, 6000);
    ticks_until_heard();
    expect("gets fae:check\r\n");
    expect_end(); /* it says nothing, and is asked anew before anybody calls */
    hang_up();
    fae_memcache_server_skip(t.server, 2000);
    fae_memcache_server_tick(t.server);
    accept_peer();
    expect("gets fae:check\r\n");
    say("END\r\n");
    get(1, " a");
    expect("gets a\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
}

/* Old ones too, though they are never idle. */
static void old_connections_are_made_anew(void **state)
{
    struct fae_memcache_server_opts opts = server_opts(500);

    (void)state;
    opts.life_ms = 30;
    fae_memcache_server_free(&t.server);
    t.server = fae_memcache_server_new(&opts);
    get(0, " a");
    accept_peer();
    expect("gets a\r\n");
    unit_sleep_ms(40);
    get(1, " b");
    expect_nothing(); /* waits for what was asked */
    say("END\r\n");
    says_of(0, FAE_OK);
    accept_peer();
    expect("gets b\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(lost_gets_are_asked_again_once),
        TEST(late_answers_meet_nobody),
        TEST(writes_without_answer_are_unknown),
        TEST(refused_is_told_and_paused),
        TEST(one_too_many_is_refused),
        TEST(later_the_same_words_are_an_answer),
        TEST(a_row_is_waited_for),
        TEST(idle_connections_are_closed),
        TEST(idle_connections_are_asked_for_a_sign_of_life),
        TEST(old_connections_are_made_anew),
    };

    return cmocka_run_group_tests_name("backend/memcache_link", tests, NULL, NULL);
}
