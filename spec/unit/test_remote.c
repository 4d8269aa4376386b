/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/remote: calls, answers in any order and in pieces, a connection that is lost, refused or too slow, and owners
 * that free it from inside a completion.
 */
#define UNIT_TURN_MS 20
#include "unit_peer.h"

#include "backend/remote.h"
#include "base/buf.h"
#include "base/limits.h"
#include "base/list.h"
#include "wire/msgpack.h"

static const uint8_t no_params[] = { 0x90 };
static const struct fae_remote_message ping = {
    .method = "ping", .method_len = 4, .params = no_params, .params_len = 1
};

static struct fae_remote *remote;

struct asked {
    struct fae_remote_call call;
    unsigned n_done;
    enum fae_err err;
    uint64_t result;
    bool failed;           /* with an error of the other side's */
    bool frees, asks_more; /* from inside */
};

static struct asked more;

static void on_done(struct fae_remote_call *call, enum fae_err err, const uint8_t *error, const uint8_t *result)
{
    struct asked *a = FAE_CONTAINER(call, struct asked, call);
    struct fae_mp_token token;

    a->n_done++;
    a->err = err;
    if (!err) {
        fae_mp_read(error, &token);
        a->failed = token.type != FAE_MP_NIL;
        fae_mp_read(result, &token);
        a->result = token.type == FAE_MP_UINT ? token.u : 0;
    }
    if (a->frees)
        fae_remote_free(&remote);
    if (a->asks_more)
        more.err = fae_remote_call(remote, &more.call, &ping);
}

static int set_up(void **state)
{
    struct fae_remote_opts opts = { .loop = &net.loop, .message_max = 64 * FAE_KIB };

    (void)state;
    more = (struct asked){ .call.done = on_done };
    open_net();
    opts.addr.len = sizeof opts.addr.sa;
    assert_int_equal(getsockname(net.listener, (struct sockaddr *)&opts.addr.sa, &opts.addr.len), 0);
    remote = fae_remote_new(&opts);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_remote_free(&remote);
    close_net();
    return 0;
}

static void ask(struct asked *a)
{
    a->call.done = on_done;
    assert_int_equal(fae_remote_call(remote, &a->call, &ping), FAE_OK);
}

static void accept_it(void)
{
    accept_peer();
    turn();
}

static void tell(const char *bytes, size_t len)
{
    say_bytes(bytes, len);
    turns(3); /* what is to be sent may come first */
}

#define CAME(text) expect_bytes(text, sizeof(text) - 1)
#define SAY(text) tell(text, sizeof(text) - 1)

static void answers_find_their_calls_in_any_order_and_in_pieces(void **state)
{
    struct asked one = { 0 }, two = { 0 }, three = { 0 };

    (void)state;
    ask(&one);
    ask(&two);
    assert_int_equal(fae_remote_notify(remote, &ping), FAE_OK);
    accept_it();
    CAME("\x94\x00\x01\xa4ping\x90"
         "\x94\x00\x02\xa4ping\x90"
         "\x93\x02\xa4ping\x90");
    SAY("\x94\x01\x02\xc0\x2a\x94\x01");
    assert_int_equal(two.n_done, 1);
    assert_int_equal(two.result, 42);
    assert_int_equal(one.n_done, 0);
    ask(&three);
    SAY("\x01");
    SAY("\xa4"
        "NOPE\xc0");
    assert_true(one.failed);
    SAY("\x94\x01\x63\xc0\xc0\x93\x02\xa3new\x90"); /* an answer to nobody, and a notification */
    SAY("\x94\x01\x03\xc0\x07");
    assert_int_equal(three.result, 7);
    assert_int_equal(one.n_done + two.n_done + three.n_done, 3);
}

static void a_lost_connection_fails_all_and_the_next_try_waits(void **state)
{
    struct asked one = { 0 }, two = { .asks_more = true }, late = { 0 };

    (void)state;
    ask(&one);
    ask(&two);
    accept_it();
    hang_up();
    turn();
    assert_int_equal(one.n_done, 1);
    assert_int_equal(one.err, FAE_UNAVAILABLE);
    assert_int_equal(two.err, FAE_UNAVAILABLE);
    assert_int_equal(more.err, FAE_UNAVAILABLE); /* asked from inside */
    assert_int_equal(more.n_done, 0);
    unit_sleep_ms(55);
    ask(&late);
    accept_it();
    CAME("\x94\x00\x03\xa4ping\x90");
    SAY("\x94\x01\x03\xc0\x01");
    assert_int_equal(late.result, 1);
}

static void nobody_there_is_told_from_the_loop(void **state)
{
    struct asked one = { 0 };

    (void)state;
    refuse_connections();
    ask(&one);
    assert_int_equal(one.n_done, 0);
    turn();
    assert_int_equal(one.n_done, 1);
    assert_int_equal(one.err, FAE_UNAVAILABLE);
}

static void nonsense_ends_the_connection(void **state)
{
    static const struct {
        const char *bytes;
        size_t len;
    } rows[] = { { "\xc1", 1 },
                 { "\x80", 1 },
                 { "\x94\x01\xff\xc0\xc0", 5 },
                 { "\x94\x00\x01\xc0\xc0", 5 },
                 { "\x93\x01\x01\xc0", 4 },
                 { "\xdb\xff\xff\xff\xff", 5 },
                 { "\x92\x01\x02", 3 } };

    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct asked one = { 0 };

        ask(&one);
        accept_it();
        tell(rows[i].bytes, rows[i].len);
        assert_int_equal(one.n_done, 1);
        assert_int_equal(one.err, FAE_UNAVAILABLE);
        tear_down(state);
        set_up(state);
    }
}

static void cancelled_calls_are_not_done(void **state)
{
    struct asked one = { 0 }, two = { 0 };

    (void)state;
    ask(&one);
    ask(&two);
    accept_it();
    fae_remote_cancel(remote, &one.call);
    SAY("\x94\x01\x01\xc0\x01\x94\x01\x02\xc0\x02");
    assert_int_equal(one.n_done, 0);
    assert_int_equal(two.result, 2);
}

static void it_may_be_freed_from_inside(void **state)
{
    struct asked one = { .frees = true }, two = { 0 };

    (void)state;
    ask(&one);
    ask(&two);
    accept_it();
    SAY("\x94\x01\x01\xc0\x01\x94\x01\x02\xc0\x02");
    assert_int_equal(one.n_done, 1);
    assert_int_equal(two.n_done, 0);
    assert_null(remote);
    tear_down(state);
    set_up(state);
    one = (struct asked){ .frees = true };
    ask(&one);
    ask(&two);
    accept_it();
    hang_up();
    turn();
    assert_int_equal(one.err, FAE_UNAVAILABLE);
    assert_int_equal(two.n_done, 0);
    assert_null(remote);
}

static void the_queue_has_an_end(void **state)
{
    static struct asked many[FAE_REMOTE_CALLS + 1];
    static uint8_t params[60 * FAE_KIB] = { 0xc5, 0xef, 0xfd }; /* one bin */
    struct fae_remote_message large = { .method = "m", .method_len = 1, .params = params, .params_len = sizeof params };
    unsigned n = 0;

    (void)state;
    for (unsigned i = 0; i < FAE_REMOTE_CALLS; i++)
        ask(&many[i]);
    assert_int_equal(fae_remote_call(remote, &many[FAE_REMOTE_CALLS].call, &ping), FAE_OVERLOAD);
    while (fae_remote_notify(remote, &large) == FAE_OK)
        assert_true(++n < 200);
    assert_int_equal(fae_remote_notify(remote, &large), FAE_OVERLOAD);
    assert_true(n > 20);
    large.params_len = 70 * FAE_KIB;
    assert_int_equal(fae_remote_notify(remote, &large), FAE_LIMIT);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(answers_find_their_calls_in_any_order_and_in_pieces),
        TEST(a_lost_connection_fails_all_and_the_next_try_waits),
        TEST(nobody_there_is_told_from_the_loop),
        TEST(nonsense_ends_the_connection),
        TEST(cancelled_calls_are_not_done),
        TEST(it_may_be_freed_from_inside),
        TEST(the_queue_has_an_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
