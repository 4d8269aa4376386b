/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/redis: connections of one's own. What a borrower leaves on one, the next never sees; what is published waits for who
 * hears it; one that is lost says so.
 */
#include "unit_redis.h"

#define CALL(name) "*1\r\n$" name "\r\n"
#define MULTI CALL("5\r\nMULTI")
#define EXEC CALL("4\r\nEXEC")

struct wanted {
    struct fae_redis_borrow borrow;
    struct fae_redis_loan *loan;
    unsigned n_done;
    enum fae_err err;
    char why[200];
};

static void on_borrowed(struct fae_redis_borrow *borrow, struct fae_redis_loan *loan,
                        const struct fae_redis_outcome *outcome)
{
    struct wanted *w = FAE_CONTAINER(borrow, struct wanted, borrow);

    w->n_done++;
    w->loan = loan;
    w->err = outcome->err;
    snprintf(w->why, sizeof w->why, "%s", outcome->err ? outcome->why : "");
}

static enum fae_err want(struct wanted *w)
{
    struct fae_redis_outcome outcome;
    enum fae_err err;

    *w = (struct wanted){ .borrow.done = on_borrowed };
    err = fae_redis_borrow(t.redis, 0, &w->borrow, 0, &w->loan, &outcome);
    w->err = err;
    if (err && err != FAE_MORE)
        snprintf(w->why, sizeof w->why, "%s", outcome.why);
    return err;
}

static void wait_told(struct wanted *w)
{
    for (unsigned i = 0; i < TURNS && !w->n_done; i++)
        turn();
    assert_int_equal(w->n_done, 1);
}

/* The first connection, made. */
static struct fae_redis_loan *borrow_new(void)
{
    struct wanted w;

    assert_int_equal(want(&w), FAE_MORE);
    greet();
    wait_told(&w);
    assert_int_equal(w.err, FAE_OK);
    return w.loan;
}

/* The one that was given back; NULL: it was closed. */
static struct fae_redis_loan *borrow_idle(void)
{
    struct wanted w;

    if (want(&w) == FAE_OK)
        return w.loan;
    assert_int_equal(w.err, FAE_MORE);
    fae_redis_borrow_cancel(&w.borrow);
    return NULL;
}

/* Makes a pool and a connection, sends commands (";" between them), answers, gives it back: is it there for the next? */
static bool survives(const char *commands, const char *replies)
{
    struct fae_redis_loan *loan;
    struct asked a = { 0 };
    bool there;

    make_pool();
    loan = borrow_new();
    assert_int_equal(ask_on(loan, &a, false, commands), FAE_OK);
    for (unsigned i = 0; i < 100 && net.n_in == 0; i++) {
        turn();
        receive();
    }
    net.n_in = 0;
    say(replies);
    wait_done(&a);
    fae_redis_give(loan, true);
    loan = borrow_idle();
    there = loan != NULL;
    if (loan)
        fae_redis_give(loan, true);
    fae_redis_kind.free(t.redis);
    t.redis = NULL;
    return there;
}

static void one_that_was_left_clean_is_used_again(void **state)
{
    (void)state;
    assert_true(survives("GET k", "$-1\r\n"));
    assert_true(survives("GET k", "-WRONGTYPE no\r\n"));
    assert_true(survives("MULTI;GET k;EXEC", "+OK\r\n+QUEUED\r\n*1\r\n$-1\r\n"));
    assert_true(survives("watch k;multi;get k;exec", "+OK\r\n+OK\r\n+QUEUED\r\n*-1\r\n"));
    assert_true(survives("WATCH k;UNWATCH", "+OK\r\n+OK\r\n"));
    assert_true(survives("MULTI;DISCARD", "+OK\r\n+OK\r\n"));
    assert_true(survives("BLPOP k 1", "*-1\r\n"));
}

static void one_that_was_not_is_closed(void **state)
{
    static const char *const cases[] = { "MULTI",          "WATCH k",     "SELECT 5",     "select 5",
                                         "CLIENT NOREPLY", "AUTH x",      "HELLO 3",      "SUBSCRIBE c",
                                         "psubscribe c",   "MONITOR",     "RESET",        "QUIT",
                                         "READONLY",       "MULTI;GET k", "WATCH k;EXEC", "MULTI;UNWATCH",
                                         "MULTI;WATCH k" };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(cases); i++)
        if (survives(cases[i], strchr(cases[i], ';') ? "+OK\r\n+OK\r\n" : "+OK\r\n"))
            fail_msg("\"%s\" is left to the next", cases[i]);
    /* Errors among them: nobody knows how it is. */
    assert_false(survives("MULTI;GET k;EXEC", "-ERR no\r\n$-1\r\n-ERR EXEC without MULTI\r\n"));
    assert_false(survives("WATCH k;MULTI;EXEC", "+OK\r\n-NOPERM no\r\n-ERR EXEC without MULTI\r\n"));
}

static void one_whose_reply_is_still_to_come_is_closed(void **state)
{
    struct fae_redis_loan *loan;
    struct asked a = { 0 };

    (void)state;
    make_pool();
    loan = borrow_new();
    assert_int_equal(ask_on(loan, &a, false, "GET k"), FAE_OK);
    expect(GET);
    assert_false(fae_redis_cancel(&a.call));
    fae_redis_give(loan, true);
    expect_end();
    assert_null(borrow_idle());
    assert_int_equal(a.n_done, 0);
}

static void one_that_its_borrower_does_not_trust_is_closed(void **state)
{
    (void)state;
    make_pool();
    fae_redis_give(borrow_new(), false);
    expect_end();
    assert_true(fae_redis_kind.quiet(t.redis));
}

static void an_idle_one_that_ends_is_not_lent(void **state)
{
    (void)state;
    make_pool();
    fae_redis_give(borrow_new(), true);
    hang_up();
    turns(4);
    assert_null(borrow_idle());
}

static void an_idle_one_that_speaks_is_not_lent(void **state)
{
    (void)state;
    make_pool();
    fae_redis_give(borrow_new(), true);
    say("+OK\r\n");
    turns(4);
    assert_null(borrow_idle());
}

static void one_that_is_lost_says_so(void **state)
{
    struct fae_redis_loan *loan;
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    make_pool();
    loan = borrow_new();
    assert_int_equal(ask_on(loan, &a, false, "INCR k"), FAE_OK);
    expect(INCR);
    hang_up();
    expect_err(&a, FAE_UNKNOWN);
    assert_int_equal(ask_on(loan, &b, false, "INCR k"), FAE_UNAVAILABLE);
    assert_string_equal(b.why, "it closed the connection");
    fae_redis_give(loan, true);
    assert_null(borrow_idle());
    assert_true(fae_redis_kind.quiet(t.redis));
}

static void nonsense_and_silence(void **state)
{
    struct fae_redis_loan *loan;
    struct asked a = { 0 }, b = { 0 };

    (void)state;
    t.entry.pool.timeout_ms = 30;
    make_pool();
    loan = borrow_new();
    assert_int_equal(ask_on(loan, &a, false, "GET k"), FAE_OK);
    expect(GET);
    say("garbage\r\n");
    expect_err(&a, FAE_BACKEND);
    fae_redis_give(loan, true);
    loan = borrow_new();
    assert_int_equal(ask_on(loan, &b, false, "GET k"), FAE_OK);
    expect(GET);
    expect_err(&b, FAE_UNKNOWN);
    assert_string_equal(b.why, "no answer within 30 ms");
    expect_end();
    fae_redis_give(loan, false);
}

static void they_are_not_more_than_max(void **state)
{
    struct fae_redis_loan *loan;
    struct wanted w;

    (void)state;
    t.entry.pool.max = 2; /* one of them for the calls that share */
    t.entry.pool.wait_ms = 60000;
    make_pool();
    loan = borrow_new();
    assert_int_equal(want(&w), FAE_MORE);
    expect_nothing();
    assert_int_equal(accept4(net.listener, NULL, NULL, 0), -1);
    fae_redis_give(loan, true);
    wait_told(&w);
    assert_ptr_equal(w.loan, loan);
    fae_redis_give(loan, true);
}

static void nobody_is_there(void **state)
{
    struct wanted w;

    (void)state;
    close(net.listener);
    net.listener = -1;
    make_pool();
    if (want(&w) == FAE_MORE)
        wait_told(&w);
    assert_int_equal(w.err, FAE_UNAVAILABLE);
    assert_string_equal(w.why, "Connection refused");
}

static void who_may_not_log_in(void **state)
{
    struct wanted w;

    (void)state;
    strcpy(t.entry.password, "wrong");
    make_pool();
    assert_int_equal(want(&w), FAE_MORE);
    accept_peer();
    say("-WRONGPASS no\r\n");
    wait_told(&w);
    assert_int_equal(w.err, FAE_UNAVAILABLE);
    assert_string_equal(w.why, "login: WRONGPASS no");
    assert_int_equal(atomic_load(&fae_upstream_breaker(row())->refusals), 0);
}

/* ---- what is published ---- */

static struct asked heard;

static void on_heard(struct fae_redis_hear *hear, const struct fae_redis_outcome *outcome)
{
    (void)hear;
    note_outcome(&heard, outcome);
}

static enum fae_err hear(struct fae_redis_loan *loan)
{
    static struct fae_redis_hear h = { .done = on_heard };
    struct fae_redis_outcome outcome;
    enum fae_err err = fae_redis_hear(loan, &h, &outcome);

    heard = (struct asked){ 0 };
    if (err == FAE_OK)
        note_outcome(&heard, &outcome);
    return err;
}

#define MESSAGE(n) "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\n" #n "\r\n"

static struct fae_redis_loan *subscribe(void)
{
    struct fae_redis_loan *loan;
    struct asked a = { 0 };

    make_pool();
    loan = borrow_new();
    assert_int_equal(ask_on(loan, &a, false, "SUBSCRIBE c"), FAE_OK);
    expect("*2\r\n$9\r\nSUBSCRIBE\r\n$1\r\nc\r\n");
    say("*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n");
    expect_reply(&a, "[\"subscribe\" \"c\" 1]");
    return loan;
}

static void messages_wait_for_who_hears_them(void **state)
{
    struct fae_redis_loan *loan = (*state = NULL, subscribe());
    struct asked a = { 0 };

    say(MESSAGE(1) MESSAGE(2));
    turns(4);
    assert_int_equal(hear(loan), FAE_OK);
    assert_string_equal(heard.text, "[\"message\" \"c\" \"1\"]");
    assert_int_equal(hear(loan), FAE_OK);
    assert_string_equal(heard.text, "[\"message\" \"c\" \"2\"]");
    assert_int_equal(hear(loan), FAE_MORE);
    say(MESSAGE(3));
    expect_reply(&heard, "[\"message\" \"c\" \"3\"]");
    assert_int_equal(ask_on(loan, &a, false, "PING"), FAE_OK); /* a message before the reply is not the reply */
    expect(PING);
    say(MESSAGE(4) "*2\r\n$4\r\npong\r\n$0\r\n\r\n");
    expect_reply(&a, "[\"pong\" \"\"]");
    assert_int_equal(hear(loan), FAE_OK);
    assert_string_equal(heard.text, "[\"message\" \"c\" \"4\"]");
    assert_int_equal(hear(loan), FAE_MORE);
    hang_up();
    expect_err(&heard, FAE_UNAVAILABLE);
    assert_int_equal(hear(loan), FAE_UNAVAILABLE);
    fae_redis_give(loan, true);
}

static void one_that_gave_up_hearing_misses_nothing(void **state)
{
    struct fae_redis_loan *loan = (*state = NULL, subscribe());

    assert_int_equal(hear(loan), FAE_MORE);
    fae_redis_hear_cancel(loan);
    say(MESSAGE(1));
    turns(4);
    assert_int_equal(heard.n_done, 0);
    assert_int_equal(hear(loan), FAE_OK);
    fae_redis_give(loan, true);
}

/* Who does not hear is no longer read, and loses nothing. */
static void there_is_an_end_to_what_waits(void **state)
{
    struct fae_redis_loan *loan = (*state = NULL, subscribe());
    unsigned n_said = 0, n_heard = 0, n_full = 0;
    char message[1100];

    snprintf(message, sizeof message, "*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1000\r\n%01000d\r\n", 7);
    while (n_full < 50 && n_said < 100000) {
        ssize_t n = send(net.peer, message, strlen(message), MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            n_full++;
            turn();
        } else if ((size_t)n < strlen(message)) {
            break;
        } else {
            n_said++;
        }
    }
    assert_true(n_said > 0 && n_said < 100000);
    while (hear(loan) == FAE_OK)
        n_heard++;
    for (unsigned i = 0; i < 200 && n_heard < n_said; i++) {
        turn();
        if (heard.n_done)
            n_heard++;
        else
            fae_redis_hear_cancel(loan);
        while (hear(loan) == FAE_OK)
            n_heard++;
    }
    assert_int_equal(n_heard, n_said);
    fae_redis_give(loan, true);
}

/* By who borrowed it, while somebody whom he let use it waits for an answer. */
static void one_is_given_back_in_the_middle_of_a_call(void **state)
{
    struct fae_redis_loan *loan = (*state = NULL, make_pool(), borrow_new());
    struct asked a = { 0 };

    assert_int_equal(ask_on(loan, &a, false, "INCR n"), FAE_OK);
    expect("*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
    fae_redis_give(loan, true);
    assert_int_equal(a.n_done, 1);
    assert_int_equal(a.err, FAE_UNKNOWN);
}

static void the_pool_ends_while_one_is_lent(void **state)
{
    struct fae_redis_loan *loan = (*state = NULL, subscribe());
    struct asked a = { 0 };

    assert_int_equal(ask_on(loan, &a, false, "PING"), FAE_OK);
    assert_false(fae_redis_kind.quiet(t.redis));
    fae_redis_kind.free(t.redis);
    t.redis = NULL;
    assert_int_equal(a.n_done, 1);
    assert_int_equal(a.err, FAE_CLOSED);
}

static void one_that_was_replaced_keeps_nothing_ready(void **state)
{
    struct fae_redis_loan *loan;
    int line;

    (void)state;
    t.entry.pool.warm = 1;
    make_pool();
    get_on_new();
    line = net.peer;
    net.peer = -1;
    loan = borrow_new();
    fae_redis_kind.retire(t.redis);
    fae_redis_kind.tick(t.redis);
    fae_redis_kind.tick(t.redis);
    turns(3);
    assert_int_equal(recv(line, net.in, 1, MSG_DONTWAIT), 0);
    close(line);
    assert_int_equal(COUNTED(connects), 2);
    assert_int_equal(atomic_load(&fae_upstream_cell(row(), 0)->n_slots), 1);
    assert_false(fae_redis_kind.quiet(t.redis));
    fae_redis_give(loan, true);
    expect_end();
    assert_true(fae_redis_kind.quiet(t.redis));
    assert_int_equal(atomic_load(&fae_upstream_cell(row(), 0)->n_slots), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(one_that_was_left_clean_is_used_again),
        T(one_that_was_not_is_closed),
        T(one_whose_reply_is_still_to_come_is_closed),
        T(one_that_its_borrower_does_not_trust_is_closed),
        T(one_is_given_back_in_the_middle_of_a_call),
        T(an_idle_one_that_ends_is_not_lent),
        T(an_idle_one_that_speaks_is_not_lent),
        T(one_that_is_lost_says_so),
        T(nonsense_and_silence),
        T(they_are_not_more_than_max),
        T(nobody_is_there),
        T(who_may_not_log_in),
        T(messages_wait_for_who_hears_them),
        T(one_that_gave_up_hearing_misses_nothing),
        T(there_is_an_end_to_what_waits),
        T(the_pool_ends_while_one_is_lent),
        T(one_that_was_replaced_keeps_nothing_ready),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
