/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/server and rpc/session: what becomes of those who send nonsense, too slowly or too much, or never read;
 * who is silent, and is no trouble, stays (D3).
 */
#include "unit_session.h"

/* ---- what is wrong ---- */

static void a_wrong_message_is_told_and_the_session_goes_on(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    fae_buf_add(&buf, "\x93\x00\x09\xa1m", 5);
    fae_buf_add(&buf, "\x90", 1);
    put_call(&buf, 1, "echo", 1);
    say(&buf);
    put_error(&buf, 9, "BAD_MESSAGE: a request is [0, msgid, method, params] or [0, msgid, method, params, context]");
    put_told(&buf, "BAD_MESSAGE: an empty array is no message");
    put_echoed(&buf, 1, 1);
    heard(&buf, false);
    assert_int_equal(stats->workers[0].n_bad_messages, 2);
    fae_buf_fini(&buf);
}

/* Sends what cannot be followed and hears why; a call that waits goes with it. */
static void loses(const char *bytes, size_t len, const char *text)
{
    struct fae_buf buf = { 0 };
    unsigned n_calls = service.n_calls;

    open_session(&client, false);
    put_call(&buf, 1, "later", 0);
    put_call(&buf, 2, "echo", 0);
    fae_buf_add(&buf, bytes, len);
    put_call(&buf, 3, "echo", 0); /* is not run */
    say(&buf);
    put_echoed(&buf, 2, 0);
    put_told(&buf, text);
    put_error(&buf, 1, "CANCELLED: the caller hung up");
    heard(&buf, true);
    assert_int_equal(service.n_calls, n_calls + 2);
    assert_int_equal(n_sessions(), 1); /* it lingers, so that no reset overtakes its words */
    put_call(&buf, 4, "echo", 0);
    say(&buf);
    assert_int_equal(service.n_calls, n_calls + 2);
    hang_up();
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

static void bytes_that_make_no_sense_end_the_session(void **state)
{
    static const char limit[] = "LIMIT: message is too long, too deep or has too many elements";
    char deep[65];

    (void)state;
    memset(deep, '\x91', sizeof deep);
    loses("\xc1", 1, "BAD_MESSAGE: not msgpack");
    loses("GET", 3, "BAD_MESSAGE: a message is an array [0, msgid, method, params]");
    loses("\xdd\xff\xff\xff\xff", 5, limit);
    loses("\x94\x00\x01\xdb\xff\xff\xff\xff", 8, limit);
    loses(deep, sizeof deep, limit);
}

static void a_lingering_session_is_closed_in_the_end(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    fae_buf_add(&buf, "\xc1", 1);
    say(&buf);
    put_told(&buf, "BAD_MESSAGE: not msgpack");
    heard(&buf, true);
    pass_ms(FAE_LINGER_MS / 2); /* time of ours passes as well */
    turn();
    assert_int_equal(n_sessions(), 1);
    loop.now_ms = fae_now_ms();
    pass_ms(FAE_LINGER_MS + 1);
    turn();
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

static void a_message_has_a_time_to_arrive(void **state)
{
    struct fae_session *s = open_session(&client, false);
    struct fae_buf buf = { 0 };

    (void)state;
    send_bytes("\x94\x00", 2);
    turn();
    s->in_since -= (uint32_t)config.partial_timeout_ms - 500; /* that was a while ago */
    send_bytes("\x01", 1);                                    /* a byte now and then does not help */
    turn();
    pass_ms(0);
    heard(&buf, false);
    pass_ms(500);
    turn();
    put_told(&buf, "TIMEOUT: the rest of a message did not come in time");
    heard(&buf, true);
    hang_up();
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&buf);
}

static void idle_sessions_have_all_the_time_there_is(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    config.idle_timeout_ms = 0;
    open_session(&client, false);
    say_call(1, "echo", 0);
    put_echoed(&buf, 1, 0);
    heard(&buf, false);
    pass_ms(86400000);
    turn();
    heard(&buf, false);
    assert_int_equal(n_sessions(), 1);
    fae_buf_fini(&buf);
}

/* ---- back-pressure ---- */

static void many_calls_in_flight_stop_the_reading(void **state)
{
    struct fae_session *s = open_session(&client, false);
    struct fae_buf calls = { 0 }, answers = { 0 };

    (void)state;
    for (uint32_t i = 0; i < 300; i++)
        put_call(&calls, i, "later", 0);
    say(&calls);
    assert_int_equal(service.n_calls, FAE_SESSION_CALLS);
    put_call(&calls, 300, "echo", 0);
    say(&calls);
    assert_int_equal(service.n_calls, FAE_SESSION_CALLS);
    pass_ms(config.partial_timeout_ms * 10); /* it is the node that waits: nobody is late */
    turn();
    heard(&answers, false);
    for (uint32_t i = 0; i < 300; i++) {
        put_late(&answers, i);
        answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
        turn();
        if (i < 300 - FAE_SESSION_CALLS)
            assert_int_equal(s->n_calls, FAE_SESSION_CALLS);
        if (i == 300 - FAE_SESSION_CALLS)
            put_echoed(&answers, 300, 0);
        heard(&answers, false);
    }
    assert_int_equal(service.n_calls, 301);
    assert_null(s->in);
    fae_buf_fini(&calls);
    fae_buf_fini(&answers);
}

static void a_hang_up_is_seen_while_nothing_is_read(void **state)
{
    struct fae_buf calls = { 0 };

    (void)state;
    open_session(&client, false);
    for (uint32_t i = 0; i < 200; i++)
        put_call(&calls, i, "later", 0);
    say(&calls);
    assert_int_equal(service.n_later, FAE_SESSION_CALLS);
    hang_up();
    assert_int_equal(service.n_later, 0);
    assert_int_equal(service.n_hangups, 1);
    assert_int_equal(service.hangup_code, FAE_CANCELLED);
    assert_int_equal(n_sessions(), 0);
    fae_buf_fini(&calls);
}

static void answers_unread_stop_the_reading(void **state)
{
    enum { N = 60, EACH = 100000 };
    struct fae_buf buf = { 0 };
    struct fae_session *s = open_session(&client, false);
    unsigned n_before;

    (void)state;
    for (uint32_t i = 0; i < N; i++)
        put_call(&buf, i, "big", EACH);
    say(&buf);
    n_before = service.n_calls;
    assert_in_range(n_before, 10, 20); /* 1 MiB, and what the socket took */
    assert_in_range(s->out.len - s->out_sent, FAE_OUT_PAUSE, FAE_OUT_PAUSE + EACH + 20);
    turn();
    assert_int_equal(service.n_calls, n_before);
    for (int i = 0; i < 1000 && buf.len < N * (size_t)(EACH + 9); i++) {
        hear(&buf);
        turn();
    }
    assert_int_equal(service.n_calls, N);
    for (uint32_t i = 0, at = 0; i < N; i++, at += EACH + 9)
        assert_int_equal(buf.data[at + 2], i); /* in order and whole */
    assert_int_equal(buf.len, N * (EACH + 9));
    assert_null(s->in);
    assert_int_equal(s->out.cap, 0);
    fae_buf_fini(&buf);
}

static void a_client_that_is_never_quite_through_costs_no_more(void **state)
{
    enum { EACH = 100000 };
    struct fae_buf buf = { 0 };
    struct fae_session *s = open_session(&client, false);
    size_t most = 0;

    (void)state;
    for (unsigned i = 0; i < 8; i++)
        say_call(i, "big", EACH);
    for (unsigned i = 0; i < 400; i++) {
        say_call(i, "big", EACH);
        assert_int_equal(recv(client, fae_buf_room(&buf, EACH), EACH, MSG_WAITALL), EACH);
        turn();
        assert_true(s->out.len > s->out_sent);
        most = s->out.cap > most ? s->out.cap : most;
    }
    assert_in_range(most, FAE_OUT_PAUSE, 4 * FAE_OUT_PAUSE);
    fae_buf_fini(&buf);
}

static void a_client_that_never_reads_is_cut(void **state)
{
    struct fae_session *s = open_session(&client, false);
    struct fae_buf buf = { 0 };

    (void)state;
    say_call(1, "big", 2 * FAE_MIB);
    assert_true(s->out.len > s->out_sent);
    pass_ms(config.out_stall_ms - 500);
    assert_int_equal(n_sessions(), 1);
    s->out_since -= (uint32_t)config.out_stall_ms - 500; /* that was a while ago */
    assert_true(recv(client, fae_buf_room(&buf, FAE_MIB), FAE_MIB, 0) > 100000);
    turn(); /* progress: the time begins anew */
    pass_ms(config.out_stall_ms - 500);
    assert_int_equal(n_sessions(), 1);
    pass_ms(500);
    turn();
    assert_int_equal(n_sessions(), 0);
    assert_true(hear(&buf)); /* what was sent, then the end */
    fae_buf_fini(&buf);
}

static void a_session_with_too_much_unsent_is_cut(void **state)
{
    struct fae_buf buf = { 0 };

    (void)state;
    open_session(&client, false);
    config.message_max = FAE_MIB;
    say_call(1, "later", 0);
    say_call(2, "big", config.message_max + FAE_OUT_SLACK + FAE_MIB);
    assert_int_equal(n_sessions(), 0);
    assert_int_equal(service.n_hangups, 1);
    assert_int_equal(service.hangup_code, FAE_LIMIT);
    assert_true(hear(&buf));
    fae_buf_fini(&buf);
}

/* ---- memory that all of them take together ---- */

enum { CROWD = 8 };

static int crowd[CROWD];

static void join_crowd(unsigned i, struct fae_buf *words)
{
    open_session(&crowd[i], false);
    client = crowd[i];
    say(words);
}

static bool is_cut(unsigned i)
{
    struct fae_buf buf = { 0 };
    bool closed;

    client = crowd[i];
    closed = hear(&buf);
    fae_buf_fini(&buf);
    return closed;
}

static void leave_crowd(enum fae_held kind)
{
    const struct fae_slot *slot = &slots->slots[0];

    for (unsigned i = 0; i < CROWD; i++)
        close(crowd[i]);
    client = -1;
    turn();
    assert_int_equal(n_sessions(), 0);
    assert_int_equal(server->held[kind], 0);
    assert_int_equal(FAE_STAT_GET(slot->in_bytes) + FAE_STAT_GET(slot->out_bytes), 0);
}

/* A call with a text that lacks its last byte. */
static void put_unfinished(struct fae_buf *out, uint32_t len)
{
    uint8_t head[] = { 0x94, 0, 1, 0xa4, 'e', 'c', 'h', 'o', 0x91, 0xdb, 0, 0, (uint8_t)(len >> 8), (uint8_t)len };

    assert_true(len < 65536);
    fae_buf_add(out, head, sizeof head);
    memset(fae_buf_room(out, len), 'x', len);
    out->len += len - 1;
}

static void the_largest_unfinished_messages_are_cut_when_all_are_too_much(void **state)
{
    struct fae_buf words = { 0 };

    (void)state;
    config.in_max = 200000;
    for (unsigned i = 0; i < CROWD; i++) {
        put_unfinished(&words, i == 2 ? 60000 : 16000);
        join_crowd(i, &words);
        assert_true(FAE_STAT_GET(slots->slots[0].in_bytes) <= config.in_max);
    }
    assert_true(FAE_STAT_GET(slots->slots[0].in_bytes) >= 16000 * (CROWD - 1));
    assert_int_equal(n_sessions(), CROWD);
    config.in_max = 150000;
    turn();
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(is_cut(i), i == 2);
    assert_int_equal(stats->workers[0].n_limit_hits[FAE_LIMIT_in_max], 1);
    leave_crowd(FAE_HELD_IN);
    fae_buf_fini(&words);
}

static void the_largest_unread_answers_are_cut_when_all_are_too_much(void **state)
{
    struct fae_buf words = { 0 };

    (void)state;
    config.out_max = 32 * FAE_MIB;
    for (unsigned i = 0; i < CROWD; i++) {
        put_call(&words, 1, "big", i == 2 ? 6 * FAE_MIB : FAE_MIB);
        join_crowd(i, &words);
        assert_true(FAE_STAT_GET(slots->slots[0].out_bytes) <= config.out_max);
    }
    assert_int_equal(n_sessions(), CROWD);
    slots->io_max = FAE_STAT_GET(slots->slots[0].out_bytes) - 1; /* what the machine has wins */
    turn();
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(is_cut(i), i == 2);
    assert_int_equal(stats->workers[0].n_limit_hits[FAE_LIMIT_out_max], 1);
    leave_crowd(FAE_HELD_OUT);
    fae_buf_fini(&words);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_wrong_message_is_told_and_the_session_goes_on),
        TEST(bytes_that_make_no_sense_end_the_session),
        TEST(a_lingering_session_is_closed_in_the_end),
        TEST(a_message_has_a_time_to_arrive),
        TEST(idle_sessions_have_all_the_time_there_is),
        TEST(many_calls_in_flight_stop_the_reading),
        TEST(a_hang_up_is_seen_while_nothing_is_read),
        TEST(answers_unread_stop_the_reading),
        TEST(a_client_that_is_never_quite_through_costs_no_more),
        TEST(a_client_that_never_reads_is_cut),
        TEST(a_session_with_too_much_unsent_is_cut),
        TEST(the_largest_unfinished_messages_are_cut_when_all_are_too_much),
        TEST(the_largest_unread_answers_are_cut_when_all_are_too_much),
    };

    fae_clock_init();
    return cmocka_run_group_tests_name("session_limits", tests, NULL, NULL);
}
