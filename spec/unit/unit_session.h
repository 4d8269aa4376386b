/* SPDX-License-Identifier: BSD-2-Clause
 *
 * What the tests of rpc/server and rpc/session share: a service of a few lines of C, a server with it, and one client
 * that says and hears bytes. No Lua in the room. Time is the loop's now_ms, which the tests move.
 */
#ifndef FAE_UNIT_SESSION_H
#define FAE_UNIT_SESSION_H

#include "unit_server.h"

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

UNIT_FN void answer_later(struct fae_session *s, struct later *later)
{
    fae_message_result(fae_session_out(s), later->msgid);
    FAE_MP_TEXT(fae_session_out(s), "late");
    fae_session_ended(s, &later->node);
    free(later);
    service.n_later--;
}

UNIT_FN bool is(const struct fae_request *req, const char *name)
{
    return req->method_len == strlen(name) && memcmp(req->method, name, req->method_len) == 0;
}

UNIT_FN void start_later(struct fae_session *s, const struct fae_request *req)
{
    struct later *later = malloc(sizeof *later);

    later->msgid = req->msgid;
    fae_session_began(s, &later->node);
    service.n_later++;
}

/* echo: its params. big N: N bytes. later: waits for the test. fail: an error. cut: raises out of the guard.
 * burn N: N ms. */
UNIT_FN void on_call(void *arg, struct fae_session *s, const struct fae_request *req)
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

UNIT_FN bool guard(void *arg, void (*fn)(void *), void *fn_arg)
{
    (void)arg;
    if (setjmp(service.out_of_guard))
        return false;
    fn(fn_arg);
    return true;
}

UNIT_FN void on_hangup(void *arg, struct fae_session *s, enum fae_err code)
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

static int client;
static unsigned fds_before;

UNIT_FN void pass_ms(uint64_t ms)
{
    loop.now_ms += ms;
    fae_server_tick(server);
}

UNIT_FN int set_up(void **state)
{
    (void)state;
    fds_before = unit_count_fds();
    memset(&service, 0, sizeof service);
    client = -1;
    return start_ground() && start_server(&ops, &service) ? 0 : -1;
}

UNIT_FN int tear_down(void **state)
{
    (void)state;
    if (client >= 0)
        close(client);
    stop_server();
    stop_ground();
    return service.n_later == 0 && unit_count_fds() == fds_before ? 0 : -1;
}

/* ---- bytes ---- */

UNIT_FN void put_call(struct fae_buf *out, uint32_t msgid, const char *method, uint64_t param)
{
    fae_mp_array(out, 4);
    fae_mp_uint(out, 0);
    fae_mp_uint(out, msgid);
    fae_mp_str(out, method, strlen(method));
    fae_mp_array(out, 1);
    fae_mp_uint(out, param);
}

UNIT_FN void put_echoed(struct fae_buf *out, uint32_t msgid, uint64_t param)
{
    fae_message_result(out, msgid);
    fae_mp_array(out, 1);
    fae_mp_uint(out, param);
}

UNIT_FN void put_late(struct fae_buf *out, uint32_t msgid)
{
    fae_message_result(out, msgid);
    FAE_MP_TEXT(out, "late");
}

UNIT_FN void put_error(struct fae_buf *out, uint32_t msgid, const char *text)
{
    fae_mp_array(out, 4);
    fae_mp_uint(out, 1);
    fae_mp_uint(out, msgid);
    fae_mp_str(out, text, strlen(text));
    fae_mp_nil(out);
}

UNIT_FN void put_told(struct fae_buf *out, const char *text)
{
    fae_mp_array(out, 3);
    fae_mp_uint(out, 2);
    FAE_MP_TEXT(out, "sys.error");
    fae_mp_array(out, 1);
    fae_mp_str(out, text, strlen(text));
}

UNIT_FN void send_bytes(const void *bytes, size_t len)
{
    assert_int_equal(send(client, bytes, len, MSG_NOSIGNAL), len);
}

/* Sends it, and a turn. */
UNIT_FN void say(struct fae_buf *buf)
{
    send_bytes(buf->data, buf->len);
    buf->len = 0;
    turn();
}

UNIT_FN void say_call(uint32_t msgid, const char *method, uint64_t param)
{
    struct fae_buf buf = { 0 };

    put_call(&buf, msgid, method, param);
    say(&buf);
    fae_buf_fini(&buf);
}

/* All there is to read by now. True: the server's end is closed behind it. */
UNIT_FN bool hear(struct fae_buf *buf)
{
    ssize_t n;

    while ((n = recv(client, fae_buf_room(buf, 65536), 65536, 0)) > 0)
        buf->len += (size_t)n;
    if (n < 0 && errno != EAGAIN && errno != ECONNRESET)
        fail_msg("recv: %s", strerror(errno));
    return n == 0 || errno == ECONNRESET;
}

/* What was heard is exactly this, and the session is open or closed; empties both. */
UNIT_FN void heard(struct fae_buf *want, bool closed)
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
UNIT_FN void end_input(void)
{
    assert_int_equal(shutdown(client, SHUT_WR), 0);
    turn();
}

UNIT_FN void hang_up(void)
{
    close(client);
    client = -1;
    turn();
}

UNIT_FN unsigned n_sessions(void)
{
    return server->n_sessions;
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, set_up, tear_down)

#endif
