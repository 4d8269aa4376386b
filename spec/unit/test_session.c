/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/server and rpc/session: messages in whatever pieces, their answers, what a turn and a batch take.
 */
#include "unit_session.h"

/* ---- messages ---- */

static void a_call_is_answered(void **state)
{
    struct fae_session *s = open_session(&client, false);
    struct fae_buf buf = { 0 };

    (void)state;
    put_call(&buf, 5, "echo", 7);
    say(&buf);
    put_echoed(&buf, 5, 7);
    heard(&buf, false);
    assert_null(s->in); /* an idle session holds no buffers */
    assert_int_equal(s->out.cap, 0);
    assert_int_equal(stats->workers[0].n_bytes_in, 10);
    assert_int_equal(stats->workers[0].n_bytes_out, 6);
    assert_int_equal(slots->slots[0].n_sessions, 1);
    put_call(&buf, 6, "fail", 0);
    say(&buf);
    put_error(&buf, 6, "NOT_FOUND: no such");
    heard(&buf, false);
    s->error_form = FAE_ERROR_ARRAY;
    say_call(7, "fail", 0);
    fae_buf_add(&buf, "\x94\x01\x07\x92\xa9NOT_FOUND\xa7no such\xc0", 23);
    heard(&buf, false);
    hang_up();
    assert_int_equal(n_sessions(), 0);
    assert_int_equal(service.n_hangups, 0); /* there was nothing to cancel */
    fae_buf_fini(&buf);
}

static void three_calls(struct fae_buf *calls, struct fae_buf *answers)
{
    for (uint32_t i = 0; i < 3; i++) {
        put_call(calls, 1u << (i * 9), "echo", i * 70000);
        put_echoed(answers, 1u << (i * 9), i * 70000);
    }
}

static void a_stream_may_be_cut_anywhere(void **state)
{
    struct fae_buf calls = { 0 }, answers = { 0 }, want = { 0 };

    (void)state;
    three_calls(&calls, &answers);
    for (size_t cut = 1; cut < calls.len; cut++) {
        struct fae_session *s = open_session(&client, false);

        send_bytes(calls.data, cut);
        turn();
        send_bytes(calls.data + cut, calls.len - cut);
        turn();
        fae_buf_add(&want, answers.data, answers.len);
        heard(&want, false);
        assert_null(s->in);
        hang_up();
    }
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
    fae_buf_fini(&want);
}

static void a_stream_may_come_byte_by_byte(void **state)
{
    struct fae_buf calls = { 0 }, answers = { 0 };

    (void)state;
    open_session(&client, false);
    three_calls(&calls, &answers);
    for (size_t i = 0; i < calls.len; i++) {
        send_bytes(calls.data + i, 1);
        turn();
    }
    heard(&answers, false);
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
}

/* And the first of them have their answers before the last ones run. */
static void a_thousand_calls_in_one_write(void **state)
{
    struct fae_buf calls = { 0 }, answers = { 0 };

    (void)state;
    open_session(&client, false);
    for (uint32_t i = 0; i < 1000; i++) { /* more than FAE_BATCH_CALLS, and the last one cut */
        put_call(&calls, i, "echo", i);
        put_echoed(&answers, i, i);
    }
    send_bytes(calls.data, calls.len - 1);
    turn();
    assert_int_equal(service.n_calls, 999);
    assert_in_range(service.n_sent, 3 * FAE_BATCH_CALLS * 6, answers.len - 6);
    send_bytes(calls.data + calls.len - 1, 1);
    turn();
    heard(&answers, false);
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
}

static void sessions_do_not_mix(void **state)
{
    enum { N = 50 };
    int clients[N];
    struct fae_buf buf = { 0 };

    (void)state;
    for (uint32_t i = 0; i < N; i++) {
        open_session(&clients[i], false);
        put_call(&buf, i, "echo", i * 1000);
        assert_int_equal(send(clients[i], buf.data, buf.len - 2, 0), buf.len - 2);
        memmove(buf.data, buf.data + buf.len - 2, 2);
        turn();
        assert_int_equal(send(clients[i], buf.data, 2, 0), 2);
        buf.len = 0;
    }
    turn();
    for (uint32_t i = 0; i < N; i++) {
        client = clients[i];
        put_echoed(&buf, i, i * 1000);
        heard(&buf, false);
        hang_up();
    }
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

static void answers_come_when_they_are_ready(void **state)
{
    struct fae_session *s = open_session(&client, false);
    struct fae_buf buf = { 0 };

    (void)state;
    put_call(&buf, 1, "later", 0);
    put_call(&buf, 2, "later", 0);
    put_call(&buf, 3, "echo", 3);
    say(&buf);
    put_echoed(&buf, 3, 3);
    heard(&buf, false);
    assert_int_equal(s->n_calls, 2);
    assert_int_equal(slots->slots[0].n_calls, 2);
    answer_later(s, FAE_CONTAINER(s->calls.prev, struct later, node));
    turn();
    put_late(&buf, 2);
    heard(&buf, false);
    answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
    turn();
    put_late(&buf, 1);
    heard(&buf, false);
    assert_int_equal(slots->slots[0].n_calls, 0);
    fae_buf_fini(&buf);
}

static void a_notification_has_no_answer(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    fae_buf_add(&buf, "\x93\x02\xa1m\x90\x92\x02\xa1m", 9); /* a good one, and one too short */
    say(&buf);
    heard(&buf, false);
    assert_int_equal(service.n_notifications, 1);
    assert_int_equal(stats->workers[0].n_notifications, 1);
    assert_int_equal(stats->workers[0].n_bad_messages, 1);
    fae_buf_fini(&buf);
}

static void a_call_that_is_cut_short_does_not_stop_the_rest(void **state)
{
    struct fae_buf calls = { 0 }, answers = { 0 };
    int other, first;

    (void)state;
    open_session(&first, false);
    open_session(&other, false);
    client = first;
    put_call(&calls, 1, "echo", 1);
    put_call(&calls, 2, "cut", 2);
    put_call(&calls, 3, "cut", 3);
    put_call(&calls, 4, "echo", 4);
    send_bytes(calls.data, calls.len);
    client = other;
    send_bytes(calls.data, calls.len);
    turn();
    for (int i = 0; i < 2; i++) {
        put_echoed(&answers, 1, 1);
        put_error(&answers, 2, "NO_MEMORY: cut");
        put_error(&answers, 3, "NO_MEMORY: cut");
        put_echoed(&answers, 4, 4);
        heard(&answers, false);
        close(client);
        client = first;
    }
    client = -1;
    turn();
    assert_int_equal(service.n_calls, 8); /* none ran twice */
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
}

static void a_call_that_is_cut_short_is_not_run_again(void **state)
{
    struct fae_buf calls = { 0 }, answers = { 0 };
    struct fae_session *s = open_session(&client, false);
    size_t half;

    (void)state;
    put_call(&calls, 1, "echo", 1000);
    half = calls.len - 2;
    put_call(&calls, 2, "cut", 2); /* the last one of what the session had to keep */
    send_bytes(calls.data, half);
    turn();
    assert_true(s->partial);
    send_bytes(calls.data + half, calls.len - half);
    turn();
    put_echoed(&answers, 1, 1000);
    put_error(&answers, 2, "NO_MEMORY: cut");
    heard(&answers, false);
    assert_int_equal(service.n_calls, 2);
    assert_null(s->in);
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
}

/* What is left of one's input waits for the next turn, and the others' comes before it. */
static void a_turn_takes_no_longer_than_it_should(void **state)
{
    enum { N = 5 };
    struct fae_buf calls = { 0 }, answers = { 0 };
    struct fae_session *s;
    int busy, other;

    (void)state;
    s = open_session(&busy, false);
    open_session(&other, false);
    for (uint32_t i = 0; i < N; i++)
        put_call(&calls, i, "burn", FAE_TURN_MS + 1);
    client = busy;
    send_bytes(calls.data, calls.len);
    calls.len = 0;
    put_call(&calls, 7, "echo", 7);
    client = other;
    send_bytes(calls.data, calls.len - 3); /* its second half comes while it waits */
    event_base_loop(loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    assert_true(fae_server_turn(server));
    assert_int_equal(service.n_calls, 1);
    assert_int_equal(s->turn_len, 0);
    assert_false(s->watching & FAE_READABLE); /* it has enough */
    send_bytes(calls.data + calls.len - 3, 3);
    for (unsigned i = 0; i < 2; i++) {
        fae_server_turn(server);
        event_base_loop(loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
    }
    fae_server_turn(server);
    assert_in_range(service.n_calls, 4, 5);
    put_echoed(&answers, 7, 7);
    heard(&answers, false);
    turn();
    assert_int_equal(service.n_calls, N + 1);
    assert_null(s->in);
    close(client);
    client = busy;
    for (uint32_t i = 0; i < N; i++) {
        fae_message_result(&answers, i);
        fae_mp_nil(&answers);
    }
    heard(&answers, false);
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
}

/* The kernel names sessions in the order they became readable, and those that stay readable keep their place. */
static void a_full_arena_starves_nobody(void **state)
{
    enum { N = FAE_READ_ARENA / FAE_READ_CHUNK + 8 };
    static uint8_t flood[FAE_READ_CHUNK];
    struct fae_buf call = { 0 }, answer = { 0 };
    struct fae_session *floods[N];
    int fds[N];

    (void)state;
    for (unsigned i = 0; i < sizeof flood; i++)
        flood[i] = i % 2 ? 0x01 : 0x91; /* [1]: a response, which has no answer */
    for (unsigned i = 0; i < N; i++) {
        floods[i] = open_session(&fds[i], false);
        client = fds[i];
        send_bytes(flood, sizeof flood);
    }
    open_session(&client, false);
    put_call(&call, 1, "echo", 1);
    send_bytes(call.data, call.len);
    for (unsigned i = 0; i < 4 && service.n_calls == 0; i++) {
        event_base_loop(loop.base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
        fae_server_turn(server);
        for (unsigned k = 0; k < N; k++)
            (void)!send(fds[k], flood, sizeof flood, MSG_NOSIGNAL);
    }
    put_echoed(&answer, 1, 1);
    heard(&answer, false);
    for (unsigned i = 0; i < N; i++) {
        close(fds[i]);
        fae_session_close(floods[i], FAE_CLOSED);
    }
    fae_buf_fini(&call);
    fae_buf_fini(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_call_is_answered),
        TEST(a_stream_may_be_cut_anywhere),
        TEST(a_stream_may_come_byte_by_byte),
        TEST(a_thousand_calls_in_one_write),
        TEST(sessions_do_not_mix),
        TEST(answers_come_when_they_are_ready),
        TEST(a_notification_has_no_answer),
        TEST(a_call_that_is_cut_short_does_not_stop_the_rest),
        TEST(a_call_that_is_cut_short_is_not_run_again),
        TEST(a_turn_takes_no_longer_than_it_should),
        TEST(a_full_arena_starves_nobody),
    };

    fae_clock_init();
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
