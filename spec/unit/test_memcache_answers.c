/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/memcache_answers: values in any order and in pieces, errors that are answers, and servers that say what they
 * like.
 */
#include "unit_memcache.h"

static void values_may_come_in_any_order(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b c");
    get(2, " d");
    accept_peer();
    expect("gets a b c d\r\n");
    say("VALUE d 0 1 1\r\nD\r\nVALUE c 0 1 1\r\nC\r\nVALUE b 0 1 1\r\nB\r\nVALUE a 0 1 1\r\nA\r\nEND\r\n");
    is_value(0, "A");
    says_of(1, FAE_OK);
    assert_memory_equal(results[1].value, "BC", 2);
    is_value(2, "D");
}

static void answers_come_in_pieces(void **state)
{
    static const char answers[] =
        "VALUE a 1 4 9\r\nEND\r\r\nEND\r\nSTORED\r\nVALUE b 0 1 1\r\nB\r\nVALUE c 0 1 1\r\nC\r\nEND\r\n";

    (void)state;
    get_on_new(0);
    for (size_t cut = 1; cut < sizeof answers - 1; cut++) {
        get(1, " a");
        set(2);
        get(3, " b");
        get(4, " c");
        expect("gets a\r\nset k 0 0 1\r\nx\r\ngets b c\r\n");
        say_bytes(answers, cut);
        turn();
        say_bytes(answers + cut, sizeof answers - 1 - cut);
        is_value(1, "END\r");
        says_of(2, FAE_OK);
        is_value(3, "B");
        is_value(4, "C");
    }
}

static void long_values_are_passed_over(void **state)
{
    char value[VALUE_MAX + 1];

    (void)state;
    memset(value, 'v', sizeof value);
    get(0, " a");
    get(1, " b c");
    get(2, " d");
    accept_peer();
    expect("gets a b c d\r\n");
    say("VALUE a 0 101 1\r\n");
    say_bytes(value, sizeof value);
    say("\r\nVALUE c 0 101 1\r\n");
    say_bytes(value, sizeof value);
    say("\r\nVALUE d 0 1 1\r\nD\r\nEND\r\n");
    says_of(0, FAE_LIMIT);
    says_of(1, FAE_LIMIT);
    is_value(2, "D");
    assert_int_equal(n_failed(), 0);
}

/* ---- errors that are answers ---- */

static void errors_are_answers(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b");
    assert_int_equal(ask(2, FAE_MEMCACHE_COUNT, 0, "incr n 1\r\n"), FAE_OK);
    set(3);
    set(4);
    set(5);
    accept_peer();
    expect("gets a b\r\nincr n 1\r\nset k 0 0 1\r\nx\r\nset k 0 0 1\r\nx\r\nset k 0 0 1\r\nx\r\n");
    say("SERVER_ERROR busy\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
        "SERVER_ERROR object too large for cache\r\nSERVER_ERROR out of memory storing object\r\nNOT_STORED\r\n");
    says_of(0, FAE_BACKEND);
    says_of(1, FAE_BACKEND);
    assert_non_null(strstr(results[1].why, ": SERVER_ERROR busy"));
    says_of(2, FAE_BACKEND);
    says_of(3, FAE_LIMIT);
    says_of(4, FAE_BACKEND);
    says_of(5, FAE_OK);
    assert_false(results[5].yes);
    assert_int_equal(n_failed(), 0);
}

/* It may take the value for commands then, and answer those. */
static void refused_command_ends_the_connection(void **state)
{
    (void)state;
    set(0);
    get(1, " a");
    accept_peer();
    expect("set k 0 0 1\r\nx\r\ngets a\r\n");
    say("CLIENT_ERROR line format\r\nERROR\r\nVALUE a 0 1 1\r\nA\r\nEND\r\n");
    says_of(0, FAE_BACKEND);
    accept_peer();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nB\r\nEND\r\n");
    is_value(1, "B");
    assert_int_equal(n_failed(), 0);
}

/* ---- what is no answer ---- */

/* A value that is there, and then nothing: the command must end. */
static void commands_must_end(void **state)
{
    (void)state;
    renew_server(60);
    get(0, " a");
    accept_peer();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nA\r\n");
    is_value(0, "A");
    expect_end();
}

static void what_is_no_answer_ends_the_connection(void **state)
{
    static const char *const rows[] = {
        "\r\n",
        "OK\r\n",
        "STORED\r\n",
        "17\r\n",
        "VALUE b 0 1 1\r\nB\r\nEND\r\n",
        "VALUE a 0 1 1\r\nABEND\r\n",
        "VALUE a 0 2147483647 1\r\n",
        "VALUE a 0 18446744073709551615 1\r\nA\r\nEND\r\n",
        "VALUE a 0 18446744073709551613 1\r\nA\r\nEND\r\n",
        "VERSION\r\n",
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "VALUE kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk 0 1\r\n",
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        get(0, " a");
        get(1, " a");
        accept_peer();
        expect("gets a a\r\n");
        say(rows[i]);
        says_of(0, FAE_BACKEND);
        accept_peer();
        expect("gets a\r\n");
        say("VALUE a 0 1 1\r\nA\r\nEND\r\nEND\r\n"); /* one answer too many */
        is_value(1, "A");
        expect_end();
    }
}

/* ---- I9: servers that say what they like ---- */

static const char *const said[] = {
    "END\r\n",
    "STORED\r\n",
    "NOT_FOUND\r\n",
    "17\r\n",
    "OK\r\n",
    "ERROR\r\n",
    "SERVER_ERROR x\r\n",
    "CLIENT_ERROR x\r\n",
    "VALUE a 0 1 1\r\nA\r\n",
    "VALUE b 0 3 1\r\nBBB\r\n",
    "VALUE a 0 101 1\r\n",
    "VALUE a 0 999999999 1\r\n",
    "VALUE a 0 18446744073709551615 1\r\n",
    "VALUE a 0 1",
    "\r\n",
    "\n",
    "\r",
    "VALUE ",
    "kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk",
    "\xff\xfe",
};

static void misbehave(uint64_t *random)
{
    char bytes[64];

    while (accept_next())
        ;
    if (net.peer < 0)
        return;
    for (unsigned i = unit_random(random) % 4; i > 0; i--) {
        const char *text = said[unit_random(random) % UNIT_N(said)];
        size_t len = strlen(text);

        if (unit_random(random) % 4 == 0)
            len = unit_random(random) % (len + 1);
        send(net.peer, text, len, MSG_NOSIGNAL);
    }
    if (unit_random(random) % 8 == 0) {
        hang_up();
    } else if (unit_random(random) % 8 == 0) {
        memset(bytes, 'x', sizeof bytes);
        send(net.peer, bytes, unit_random(random) % sizeof bytes, MSG_NOSIGNAL);
    }
}

static void hostile_servers_end_calls(void **state)
{
    uint64_t random = 0x9e3779b97f4a7c15u;
    unsigned n_scripts = getenv("FAE_LONG") ? 20000 : 500;

    (void)state;
    for (unsigned script = 0; script < n_scripts; script++) {
        renew_server(4);
        for (unsigned i = 0; i < 6; i++)
            switch (unit_random(&random) % 4) {
            case 0: set(i); break;
            case 1: get(i, " a b"); break;
            case 2: assert_int_equal(ask(i, FAE_MEMCACHE_COUNT, 0, "incr n 1\r\n"), FAE_OK); break;
            default: get(i, unit_random(&random) % 2 ? " a" : " b"); break;
            }
        for (unsigned i = 0; i < TURNS && !fae_memcache_server_quiet(t.server); i++) {
            misbehave(&random);
            turn();
        }
        for (unsigned i = 0; i < 6; i++)
            assert_int_equal(results[i].n_done, 1);
    }
    renew_server(2000);
    refuse_waiting();
    get_on_new(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(values_may_come_in_any_order),          TEST(answers_come_in_pieces),
        TEST(long_values_are_passed_over),           TEST(errors_are_answers),
        TEST(refused_command_ends_the_connection),   TEST(commands_must_end),
        TEST(what_is_no_answer_ends_the_connection), TEST(hostile_servers_end_calls),
    };

    return cmocka_run_group_tests_name("backend/memcache_answers", tests, NULL, NULL);
}
