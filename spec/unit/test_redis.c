/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/redis: calls that share a connection. Replies in any pieces, connections that end in the middle, what is sent again
 * and what is not, who gave up and whose reply comes late, servers that talk nonsense or do not talk at all.
 */
#include "unit_redis.h"

#include "backend/redis_conn.h"

static void calls_of_a_turn_go_out_together_and_are_answered_in_order(void **state)
{
    struct asked a = { 0 }, b = { 0 }, c = { 0 };

    (void)state;
    make_pool();
    get(&a);
    incr(&b);
    greet();
    expect(GET INCR);
    get(&c);
    expect(GET);
    say("$1\r\nx\r\n:5\r\n$-1\r\n");
    expect_reply(&a, "\"x\"");
    expect_reply(&b, "5");
    expect_reply(&c, "nil");
    assert_int_equal(COUNTED(calls), 3);
    assert_int_equal(COUNTED(connects), 1);
    assert_int_equal(COUNTED(errors), 0);
}

static void replies_in_any_pieces(void **state)
{
    static const char replies[] = "$3\r\nabc\r\n*2\r\n:1\r\n$-1\r\n-ERR no\r\n";
    const size_t len = sizeof replies - 1;

    (void)state;
    make_pool();
    for (size_t cut = 0; cut <= len; cut++) {
        struct asked a[3] = { 0 };

        for (unsigned i = 0; i < 3; i++)
            get(&a[i]);
        if (cut == 0)
            greet();
        expect(GET GET GET);
        for (size_t i = 0; i < len; i++) {
            assert_int_equal(send(net.peer, replies + i, 1, 0), 1);
            if (cut == 0 || i + 1 == cut)
                turns(2);
        }
        expect_reply(&a[0], "\"abc\"");
        expect_reply(&a[1], "[1 nil]");
        expect_reply(&a[2], "-ERR no");
    }
    assert_int_equal(COUNTED(errors), len + 1);
}

static void a_batch_has_all_its_replies(void **state)
{
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    make_pool();
    assert_int_equal(ask_on(NULL, &a, false, "GET k;INCR k;GET k"), FAE_OK);
    get(&b);
    greet();
    expect(GET INCR GET GET);
    say("$1\r\nx\r\n-ERR no\r\n");
    turns(3);
    assert_int_equal(a.n_done, 0);
    say("$-1\r\n$1\r\ny\r\n");
    expect_reply(&a, "\"x\" -ERR no nil");
    expect_reply(&b, "\"y\"");
}

/* ---- connections that end ---- */

static void what_was_sent_once_is_sent_again_if_it_may_be(void **state)
{
    struct asked a = { 0 }, b = { 0 }, c = { 0 };

    (void)state;
    make_pool();
    get_on_new();
    get(&a);
    incr(&b);
    get(&c);
    expect(GET INCR GET);
    say("$1\r\nx\r");
    greet(); /* closes the first */
    expect_err(&b, FAE_UNKNOWN);
    expect(GET GET);
    say("$1\r\n2\r\n$1\r\n3\r\n");
    expect_reply(&a, "\"2\"");
    expect_reply(&c, "\"3\"");
    assert_int_equal(COUNTED(retries), 2);
    assert_int_equal(COUNTED(lost), 3);
}

static void nothing_is_sent_a_third_time(void **state)
{
    struct asked a = { 0 };

    (void)state;
    make_pool();
    get(&a);
    greet();
    expect(GET);
    greet();
    expect(GET);
    hang_up();
    expect_err(&a, FAE_UNAVAILABLE);
    assert_string_equal(a.why, "it closed the connection");
}

static void a_fifth_is_sent_again_and_no_more(void **state)
{
    struct asked a[50] = { 0 };
    unsigned n_failed = 0;

    (void)state;
    make_pool();
    for (unsigned i = 0; i < 50; i++)
        get(&a[i]);
    greet();
    for (unsigned i = 0; i < 200 && net.n_in < 50 * (sizeof GET - 1); i++) {
        turn();
        receive();
    }
    greet();
    for (unsigned i = 0; i < 10; i++)
        turn();
    for (unsigned i = 0; i < 50; i++)
        n_failed += a[i].n_done && a[i].err == FAE_UNAVAILABLE;
    assert_int_equal(n_failed, 40);
    assert_int_equal(COUNTED(retries), 10);
}

static void one_whose_deadline_has_passed_is_not_sent_again(void **state)
{
    struct asked a = { 0 };

    (void)state;
    make_pool();
    get(&a);
    a.call.deadline_ms = fae_now_ms() - 1;
    greet();
    expect(GET);
    hang_up();
    expect_err(&a, FAE_UNAVAILABLE);
}

static void a_batch_that_ends_in_its_middle_has_what_came(void **state)
{
    struct asked a = { 0 };

    (void)state;
    make_pool();
    assert_int_equal(ask_on(NULL, &a, false, "GET k;INCR k;GET k"), FAE_OK);
    greet();
    expect(GET INCR GET);
    say("$1\r\nx\r\n:1\r\n$5\r\nab");
    turns(3);
    hang_up();
    expect_err(&a, FAE_UNKNOWN);
    assert_int_equal(a.n_replies, 2);
    assert_string_equal(a.text, "\"x\" 1");
}

static void an_idle_connection_that_ends_is_noticed(void **state)
{
    struct asked b = { 0 };

    (void)state;
    make_pool();
    get_on_new();
    hang_up();
    turns(3);
    incr(&b); /* never on the old one */
    greet();
    expect(INCR);
    say(":1\r\n");
    expect_reply(&b, "1");
    assert_int_equal(COUNTED(lost), 0);
}

/* ---- who gave up ---- */

static void a_late_reply_is_nobody_elses(void **state)
{
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    make_pool();
    get(&a);
    greet();
    expect(GET);
    assert_false(fae_redis_cancel(&a.call));
    get(&b);
    expect(GET);
    say("$4\r\nlate\r\n");
    turns(3);
    assert_int_equal(b.n_done, 0);
    say("$3\r\nown\r\n");
    expect_reply(&b, "\"own\"");
    assert_int_equal(a.n_done, 0);
}

static void what_was_given_up_before_it_was_sent_never_is(void **state)
{
    struct asked a = { 0 }, b = { 0 }, c = { 0 };

    (void)state;
    make_pool();
    incr(&a);
    get(&b);
    assert_true(fae_redis_cancel(&a.call));
    greet();
    expect(GET);
    incr(&c);
    assert_true(fae_redis_cancel(&c.call));
    c = (struct asked){ 0 };
    get(&c);
    expect(GET);
    say("$1\r\n1\r\n$1\r\n2\r\n");
    expect_reply(&b, "\"1\"");
    expect_reply(&c, "\"2\"");
    assert_int_equal(a.n_done, 0);
}

static void all_give_up(void **state)
{
    struct asked a[20] = { 0 }, b = { 0 };

    (void)state;
    make_pool();
    for (unsigned i = 0; i < 20; i++)
        incr(&a[i]);
    for (unsigned i = 0; i < 20; i++)
        assert_true(fae_redis_cancel(&a[i].call));
    greet();
    expect_nothing();
    get(&b);
    expect(GET);
    say("$1\r\nx\r\n");
    expect_reply(&b, "\"x\"");
    assert_true(fae_redis_kind.quiet(t.redis));
}

static struct asked inner;

static void ask_more(void)
{
    inner.n_done = 0;
    inner.then = NULL;
    ask_on(NULL, &inner, true, "GET k");
}

static void a_completion_may_ask_again(void **state)
{
    struct asked a = { .then = ask_more };

    (void)state;
    make_pool();
    get(&a);
    greet();
    expect(GET);
    say("$1\r\nx\r\n");
    expect(GET);
    say("$1\r\ny\r\n");
    expect_reply(&inner, "\"y\"");
    a = (struct asked){ .then = ask_more };
    incr(&a);
    expect(INCR);
    greet(); /* the old one ended */
    expect_err(&a, FAE_UNKNOWN);
    expect(GET);
    say("$1\r\nz\r\n");
    expect_reply(&inner, "\"z\"");
}

static struct asked *victim;

static void give_up_victim(void)
{
    fae_redis_cancel(&victim->call);
}

static void one_that_failed_may_end_the_next(void **state)
{
    struct asked a = { .then = give_up_victim }, b = { 0 };

    (void)state;
    victim = &b;
    make_pool();
    incr(&a);
    incr(&b);
    greet();
    expect(INCR INCR);
    hang_up();
    expect_err(&a, FAE_UNKNOWN);
    turns(3);
    assert_int_equal(b.n_done, 0);
}

/* ---- servers that do not answer, or nonsense ---- */

static void what_is_late_ends_its_connection(void **state)
{
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    t.entry.pool.timeout_ms = 30;
    make_pool();
    get(&a);
    incr(&b);
    greet();
    expect(GET INCR);
    expect_err(&a, FAE_TIMEOUT);
    expect_err(&b, FAE_UNKNOWN);
    assert_string_equal(a.why, "no answer within 30 ms");
    expect_end();
    assert_int_equal(COUNTED(timeouts), 2);
    assert_int_equal(COUNTED(retries), 0);
}

static void what_is_no_reply_ends_its_connection(void **state)
{
    static const char *const cases[] = { "garbage\r\n", "$5\r\nhello!\r\n+",   "$99999999999\r\n",
                                         "*-7\r\n",     "HTTP/1.1 200 OK\r\n", "$1\r\nx\r\n:1\r\n:2\r\n" };

    (void)state;
    make_pool();
    for (unsigned i = 0; i < UNIT_N(cases); i++) {
        struct asked a = { 0 }, b = { 0 };

        get(&a);
        incr(&b);
        greet();
        expect(GET INCR);
        say(cases[i]);
        wait_done(&a);
        wait_done(&b);
        if (i == 5) { /* the last reply nobody asked for */
            assert_int_equal(a.err, FAE_OK);
            assert_int_equal(b.err, FAE_OK);
        } else {
            assert_int_equal(a.err, i == 1 ? FAE_OK : FAE_BACKEND);
            assert_int_equal(b.err, i == 1 ? FAE_BACKEND : FAE_UNKNOWN);
        }
        expect_end();
        fae_redis_kind.free(t.redis); /* no pause, no breaker */
        make_pool();
    }
}

static void nesting_and_length(void **state)
{
    static char deep[8001], line[70001];
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    for (unsigned i = 0; i < 1000; i++)
        memcpy(deep + i * 4, "*1\r\n", 5);
    make_pool();
    get(&a);
    get(&b);
    greet();
    expect(GET GET);
    say(deep);
    say(":1\r\n:2\r\n");
    expect_reply(&a, "deep");
    expect_reply(&b, "2");
    a = (struct asked){ 0 };
    memset(line, '0', 70000);
    line[0] = ':';
    get(&a);
    expect(GET);
    say(line);
    expect_err(&a, FAE_BACKEND);
}

static void one_reply_that_is_too_long_is_no_trouble_of_the_next(void **state)
{
    struct asked a = { 0 }, b = { 0 };
    static char body[100001];

    (void)state;
    make_pool();
    get(&a);
    get(&b);
    greet();
    expect(GET GET);
    say("$100000\r\n");
    memset(body, 'x', 100000);
    for (unsigned at = 0; at < 100000; at += 10000) {
        assert_int_equal(send(net.peer, body + at, 10000, 0), 10000);
        turn();
    }
    say("\r\n$1\r\ny\r\n");
    expect_reply(&a, "long");
    expect_reply(&b, "\"y\"");
}

static void a_command_that_is_too_long_is_not_sent(void **state)
{
    static char value[70 * 1024];
    struct fae_redis_arg args[3] = { { "SET", 3 }, { "k", 1 }, { value, sizeof value } };
    struct fae_redis_command command = { args, 3 };
    struct fae_redis_outcome outcome;
    struct asked a = { .call.done = on_asked_done };

    (void)state;
    make_pool();
    assert_int_equal(fae_redis_call(t.redis, 0, &a.call, &command, 1, &outcome), FAE_LIMIT);
    turns(3);
    assert_false(accept_next()); /* nobody needs a connection */
}

/* As redis does with a value that is longer than it takes. */
static void a_command_that_is_refused_before_all_of_it_was_sent(void **state)
{
    static char value[60 * 1024];
    struct fae_redis_arg args[3] = { { "SET", 3 }, { "k", 1 }, { value, sizeof value } };
    struct fae_redis_command command = { args, 3 };
    struct fae_redis_outcome outcome;
    struct asked *a = calloc(100, sizeof *a);
    unsigned n_ok = 0, n_refused = 0;
    int few = 64 * 1024;

    (void)state;
    setsockopt(net.listener, SOL_SOCKET, SO_RCVBUF, &few, sizeof few);
    make_pool();
    for (unsigned i = 0; i < 100; i++) { /* more than the sockets take */
        a[i].call.done = on_asked_done;
        assert_int_equal(fae_redis_call(t.redis, 0, &a[i].call, &command, 1, &outcome), FAE_OK);
    }
    greet();
    turns(3);
    for (unsigned i = 0; i < 100; i++)
        say("-ERR Protocol error: invalid bulk length\r\n");
    turns(20);
    for (unsigned i = 0; i < 100; i++) {
        n_ok += a[i].n_done && a[i].err == FAE_OK;
        n_refused += a[i].n_done && a[i].err == FAE_BACKEND;
        if (a[i].err == FAE_BACKEND)
            assert_string_equal(a[i].why, "a reply to what was not sent yet: ERR Protocol error: invalid bulk length");
    }
    assert_true(n_ok > 0 && n_ok < 99);
    assert_int_equal(n_refused, 1); /* what comes after it goes out on another connection */
    fae_redis_kind.free(t.redis);
    t.redis = NULL;
    free(a);
}

static void there_is_an_end_to_what_is_in_flight(void **state)
{
    struct asked *a = calloc(FAE_REDIS_IN_FLIGHT + 1, sizeof *a);

    (void)state;
    make_pool();
    for (unsigned i = 0; i < FAE_REDIS_IN_FLIGHT; i++)
        get(&a[i]);
    assert_int_equal(ask_on(NULL, &a[FAE_REDIS_IN_FLIGHT], true, "GET k"), FAE_OVERLOAD);
    fae_redis_kind.free(t.redis);
    t.redis = NULL;
    for (unsigned i = 0; i < FAE_REDIS_IN_FLIGHT; i++) {
        assert_int_equal(a[i].n_done, 1);
        assert_int_equal(a[i].err, FAE_CLOSED);
    }
    free(a);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(calls_of_a_turn_go_out_together_and_are_answered_in_order),
        T(replies_in_any_pieces),
        T(a_batch_has_all_its_replies),
        T(what_was_sent_once_is_sent_again_if_it_may_be),
        T(nothing_is_sent_a_third_time),
        T(a_fifth_is_sent_again_and_no_more),
        T(one_whose_deadline_has_passed_is_not_sent_again),
        T(a_batch_that_ends_in_its_middle_has_what_came),
        T(an_idle_connection_that_ends_is_noticed),
        T(a_late_reply_is_nobody_elses),
        T(what_was_given_up_before_it_was_sent_never_is),
        T(all_give_up),
        T(a_completion_may_ask_again),
        T(one_that_failed_may_end_the_next),
        T(what_is_late_ends_its_connection),
        T(what_is_no_reply_ends_its_connection),
        T(nesting_and_length),
        T(one_reply_that_is_too_long_is_no_trouble_of_the_next),
        T(a_command_that_is_too_long_is_not_sent),
        T(a_command_that_is_refused_before_all_of_it_was_sent),
        T(there_is_an_end_to_what_is_in_flight),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
