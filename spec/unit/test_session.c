/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/server and rpc/session with a service of a few lines of C, on a real loop and socket pairs: no Lua in the room.
 * Time is the loop's now_ms, which the tests move.
 */
#include "unit.h"

#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/shm.h"
#include "rpc/server_impl.h"
#include "rpc/turn.h"
#include "wire/msgpack.h"

/* ---- the service ---- */

struct later {
    struct fae_list node;
    uint32_t msgid;
};

static struct {
    jmp_buf out_of_guard;
    struct fae_session *session; /* of the last call */
    unsigned n_calls, n_notifications, n_later, n_hangups;
    uint64_t n_sent; /* bytes, when the last call began */
    enum fae_err hangup_code;
} service;

static void answer_later(struct fae_session *s, struct later *later)
{
    fae_message_result(fae_session_out(s), later->msgid);
    FAE_MP_TEXT(fae_session_out(s), "late");
    fae_session_ended(s, &later->node);
    free(later);
    service.n_later--;
}

static bool is(const struct fae_request *req, const char *name)
{
    return req->method_len == strlen(name) && memcmp(req->method, name, req->method_len) == 0;
}

static void start_later(struct fae_session *s, const struct fae_request *req)
{
    struct later *later = malloc(sizeof *later);

    later->msgid = req->msgid;
    fae_session_began(s, &later->node);
    service.n_later++;
}

/* echo: its params. big N: N bytes. later: waits for the test. fail: an error. cut: raises out of the guard.
 * burn N: N ms. */
static void on_call(void *arg, struct fae_session *s, const struct fae_request *req)
{
    struct fae_buf *out;
    struct fae_mp_token t;

    assert_ptr_equal(arg, &service);
    service.session = s;
    service.n_calls++;
    service.n_sent = s->server->stats->n_bytes_out;
    if (req->notification) {
        service.n_notifications++;
    } else if (is(req, "echo")) {
        fae_message_result(fae_session_out(s), req->msgid);
        fae_buf_add(fae_session_out(s), req->params, (size_t)(fae_mp_skip(req->params) - req->params));
    } else if (is(req, "big")) {
        fae_mp_read(fae_mp_read(req->params, &t), &t);
        fae_message_result(fae_session_out(s), req->msgid);
        out = fae_session_out(s);
        fae_mp_byte(out, 0xc6);
        for (int shift = 24; shift >= 0; shift -= 8)
            fae_mp_byte(out, (uint8_t)(t.u >> shift));
        memset(fae_buf_room(out, t.u), 'x', t.u);
        out->len += t.u;
    } else if (is(req, "later")) {
        start_later(s, req);
    } else if (is(req, "fail")) {
        fae_session_fail_code(s, req->msgid, FAE_NOT_FOUND, "no %s", "such");
    } else if (is(req, "burn")) {
        fae_mp_read(fae_mp_read(req->params, &t), &t);
        for (uint64_t until_ms = fae_now_ms() + t.u; fae_now_ms() < until_ms;)
            continue;
        fae_message_result(fae_session_out(s), req->msgid);
        fae_mp_nil(fae_session_out(s));
        fae_session_count(s->server, 0, req->ticks, false);
    } else if (is(req, "cut")) {
        fae_session_fail_code(s, req->msgid, FAE_NO_MEMORY, "cut");
        longjmp(service.out_of_guard, 1);
    } else {
        fail_msg("an unexpected call");
    }
}

static bool guard(void *arg, void (*fn)(void *), void *fn_arg)
{
    (void)arg;
    if (setjmp(service.out_of_guard))
        return false;
    fn(fn_arg);
    return true;
}

static void on_hangup(void *arg, struct fae_session *s, enum fae_err code)
{
    (void)arg;
    service.n_hangups++;
    service.hangup_code = code;
    while (!fae_list_empty(&s->calls)) {
        struct later *later = FAE_CONTAINER(s->calls.next, struct later, node);

        if (!s->closed)
            fae_session_fail_code(s, later->msgid, code, "%s", fae_err_text(code));
        fae_session_ended(s, &later->node);
        free(later);
        service.n_later--;
    }
}

static const struct fae_service_ops ops = { .guard = guard, .call = on_call, .hangup = on_hangup };

/* ---- the server, and one client ---- */

static const unsigned n_workers = 1;
static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },
    { "stats", fae_stats_size, fae_stats_init },
    { "turns", fae_turns_size, fae_turns_init },
};

static struct fae_shm shm;
static struct fae_config config;
static struct fae_loop loop;
static struct fae_timer kick;
static struct fae_slots *slots;
static struct fae_stats *stats;
static struct fae_server *server;
static int client;
static unsigned fds_before;

static void on_kick(void *arg)
{
    (void)arg;
}

static bool after_turn(void *arg)
{
    bool more = fae_server_turn(server);

    (void)arg;
    if (!more)
        fae_loop_stop(&loop);
    return more;
}

/* Loop turns until nothing is left to do at once. */
static void turn(void)
{
    for (int i = 0; i < 3; i++) {
        fae_timer_start(&kick, 0);
        fae_loop_run(&loop);
    }
}

static void pass_ms(uint64_t ms)
{
    loop.now_ms += ms;
    fae_server_tick(server);
}

static struct fae_session *open_session(int *client_out, bool half_close)
{
    int pair[2];
    struct fae_session *s;

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    s = fae_session_open(server, pair[0], half_close);
    assert_non_null(s);
    *client_out = pair[1];
    return s;
}

static int set_up(void **state)
{
    (void)state;
    fds_before = unit_count_fds();
    memset(&service, 0, sizeof service);
    fae_config_init(&config);
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers) || fae_loop_init(&loop))
        return -1;
    slots = fae_shm_get(&shm, "slots");
    stats = fae_shm_get(&shm, "stats");
    loop.after_turn = after_turn;
    fae_timer_init(&kick, &loop, on_kick, NULL);
    server = fae_server_new(&(struct fae_server_opts){ .config = &config,
                                                       .loop = &loop,
                                                       .slots = slots,
                                                       .stats = stats,
                                                       .turns = fae_shm_get(&shm, "turns"),
                                                       .ops = &ops,
                                                       .service = &service });
    client = -1;
    return server ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    if (client >= 0)
        close(client);
    fae_server_free(&server);
    fae_timer_stop(&kick);
    fae_loop_fini(&loop);
    fae_shm_unmap(&shm);
    fae_config_fini(&config);
    return service.n_later == 0 && unit_count_fds() == fds_before ? 0 : -1;
}

/* ---- bytes ---- */

static void put_call(struct fae_buf *out, uint32_t msgid, const char *method, uint64_t param)
{
    fae_mp_array(out, 4);
    fae_mp_uint(out, 0);
    fae_mp_uint(out, msgid);
    fae_mp_str(out, method, strlen(method));
    fae_mp_array(out, 1);
    fae_mp_uint(out, param);
}

static void put_echoed(struct fae_buf *out, uint32_t msgid, uint64_t param)
{
    fae_message_result(out, msgid);
    fae_mp_array(out, 1);
    fae_mp_uint(out, param);
}

static void put_late(struct fae_buf *out, uint32_t msgid)
{
    fae_message_result(out, msgid);
    FAE_MP_TEXT(out, "late");
}

static void put_error(struct fae_buf *out, uint32_t msgid, const char *text)
{
    fae_mp_array(out, 4);
    fae_mp_uint(out, 1);
    fae_mp_uint(out, msgid);
    fae_mp_str(out, text, strlen(text));
    fae_mp_nil(out);
}

static void put_told(struct fae_buf *out, const char *text)
{
    fae_mp_array(out, 3);
    fae_mp_uint(out, 2);
    FAE_MP_TEXT(out, "sys.error");
    fae_mp_array(out, 1);
    fae_mp_str(out, text, strlen(text));
}

static void send_bytes(const void *bytes, size_t len)
{
    assert_int_equal(send(client, bytes, len, MSG_NOSIGNAL), len);
}

/* Sends it, and a turn. */
static void say(struct fae_buf *buf)
{
    send_bytes(buf->data, buf->len);
    buf->len = 0;
    turn();
}

static void say_call(uint32_t msgid, const char *method, uint64_t param)
{
    struct fae_buf buf = { 0 };

    put_call(&buf, msgid, method, param);
    say(&buf);
    fae_buf_fini(&buf);
}

/* All there is to read by now. True: the server's end is closed behind it. */
static bool hear(struct fae_buf *buf)
{
    ssize_t n;

    while ((n = recv(client, fae_buf_room(buf, 65536), 65536, 0)) > 0)
        buf->len += (size_t)n;
    if (n < 0 && errno != EAGAIN && errno != ECONNRESET)
        fail_msg("recv: %s", strerror(errno));
    return n == 0 || errno == ECONNRESET;
}

/* What was heard is exactly this, and the session is open or closed; empties both. */
static void heard(struct fae_buf *want, bool closed)
{
    struct fae_buf got = { 0 };

    assert_int_equal(hear(&got), closed);
    assert_int_equal(got.len, want->len);
    if (want->len)
        assert_memory_equal(got.data, want->data, want->len);
    want->len = 0;
    fae_buf_fini(&got);
}

/* Says nothing more, but still listens. */
static void end_input(void)
{
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    turn();
}

static void hang_up(void)
{
    close(client);
    client = -1;
    turn();
}

static unsigned n_sessions(void)
{
    return server->n_sessions;
}

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
    pass_ms(FAE_LINGER_MS - 1);
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

/* ---- the end ---- */

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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

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
    return cmocka_run_group_tests_name("session", tests, NULL, NULL);
}
