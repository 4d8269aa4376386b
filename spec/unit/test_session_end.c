/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/server and rpc/session: the ends of a session, by the client and by the node.
 */
#include "unit_session.h"

/* ---- by the client ---- */

static void the_end_of_input_cancels(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    put_call(&buf, 1, "later", 0);
    put_call(&buf, 2, "echo", 2);
    fae_buf_add(&buf, "\x94\x00", 2); /* and half a message */
    send_bytes(buf.data, buf.len);
    buf.len = 0;
    end_input();
    put_echoed(&buf, 2, 2); /* was ready */
    put_error(&buf, 1, "CANCELLED: the caller hung up");
    heard(&buf, true);
    assert_int_equal(service.n_hangups, 1);
    assert_int_equal(service.hangup_code, FAE_CANCELLED);
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

static void the_end_of_input_cuts_what_is_still_unsent(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    say_call(1, "big", 700000);
    end_input();
    assert_int_equal(n_sessions(), 0);
    assert_true(hear(&buf));
    assert_in_range(buf.len, 1, 700000);
    fae_buf_fini(&buf);
}

static void with_half_close_all_answers_come_first(void **state)
{
    struct fae_session *s = open_session(&client, true);
    struct fae_buf buf = { 0 }, answers = { 0 };

    (void)state;
    for (uint32_t i = 0; i < 200; i++) { /* more than are run at a time */
        put_call(&buf, i, "later", 0);
        put_late(&answers, i);
    }
    send_bytes(buf.data, buf.len);
    end_input();
    assert_int_equal(service.n_hangups, 0);
    assert_int_equal(n_sessions(), 1);
    for (uint32_t i = 0; i < 200; i++) {
        assert_false(fae_list_empty(&s->calls));
        answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
        turn();
    }
    heard(&answers, true);
    assert_int_equal(service.n_hangups, 0);
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
    fae_buf_fini(&answers);
}

static void with_half_close_a_session_without_calls_just_ends(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, true);
    put_call(&buf, 1, "echo", 1);
    fae_buf_add(&buf, "\x94", 1);
    send_bytes(buf.data, buf.len);
    buf.len = 0;
    end_input();
    put_echoed(&buf, 1, 1);
    heard(&buf, true);
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

static void with_half_close_a_large_answer_is_still_sent(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, true);
    put_call(&buf, 1, "big", 3 * FAE_MIB);
    send_bytes(buf.data, buf.len);
    buf.len = 0;
    end_input();
    for (int i = 0; i < 1000 && !hear(&buf); i++)
        turn();
    assert_int_equal(buf.len, 3 * FAE_MIB + 9);
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

/* ---- by the node ---- */

static void a_drain_ends_what_is_idle_and_waits_for_the_rest(void **state)
{
    int idle, busy;
    struct fae_session *s;
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&idle, false);
    s = open_session(&busy, false);
    client = busy;
    say_call(1, "later", 0);
    fae_server_drain(server);
    turn();
    assert_int_equal(n_sessions(), 1);
    assert_false(fae_server_drained(server));
    say_call(2, "echo", 0);
    put_error(&buf, 2, "DRAINING: the node is stopping");
    heard(&buf, false);
    answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
    turn();
    put_late(&buf, 1);
    heard(&buf, false);
    pass_ms(FAE_TICK_MS);
    turn();
    heard(&buf, true);
    assert_true(fae_server_drained(server));
    assert_int_equal(service.n_hangups, 0);
    client = idle;
    close(busy);
    heard(&buf, true);
    fae_buf_fini(&buf);
}

static void a_drain_of_many_is_spread(void **state)
{
    enum { N = 300 };
    int clients[N];

    (void)state;
    for (int i = 0; i < N; i++)
        open_session(&clients[i], false);
    fae_server_drain(server);
    assert_in_range(n_sessions(), 1, N - 100);
    pass_ms(config.drain_spread_ms);
    turn();
    assert_true(fae_server_drained(server));
    for (int i = 0; i < N; i++)
        close(clients[i]);
}

static void an_abort_answers_what_it_cancels(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    say_call(1, "later", 0);
    fae_server_drain(server);
    fae_server_abort(server);
    put_error(&buf, 1, "DRAINING: the node is stopping");
    heard(&buf, true);
    assert_int_equal(service.hangup_code, FAE_DRAINING);
    assert_true(fae_server_drained(server));
    turn();
    fae_buf_fini(&buf);
}

static void a_client_that_is_gone_while_answers_go_out_is_no_trouble(void **state)
{
    struct fae_session *s = open_session(&client, false);

    (void)state;
    say_call(1, "later", 0);
    close(client);
    client = -1;
    answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
    turn();
    assert_int_equal(n_sessions(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_end_of_input_cancels),
        TEST(the_end_of_input_cuts_what_is_still_unsent),
        TEST(with_half_close_all_answers_come_first),
        TEST(with_half_close_a_session_without_calls_just_ends),
        TEST(with_half_close_a_large_answer_is_still_sent),
        TEST(a_drain_ends_what_is_idle_and_waits_for_the_rest),
        TEST(a_drain_of_many_is_spread),
        TEST(an_abort_answers_what_it_cancels),
        TEST(a_client_that_is_gone_while_answers_go_out_is_no_trouble),
    };

    fae_clock_init();
    return cmocka_run_group_tests_name("session_end", tests, NULL, NULL);
}
