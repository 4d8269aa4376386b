/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A redis pool on a loop of the test's own, and a server that says what the test tells it to.
 */
#ifndef FAE_UNIT_REDIS_H
#define FAE_UNIT_REDIS_H

#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include "backend/backends.h"
#include "backend/redis.h"
#include "backend/resolve.h"
#include "backend/upstream.h"
#include "base/clock.h"
#include "base/config.h"
#include "base/log.h"

static struct {
    struct fae_loop loop;
    struct fae_backend_env env;
    struct fae_config config;
    struct fae_config_redis entry;
    struct fae_redis *redis;
    void *upstreams;
    int listener, peer;
    char in[1 << 20]; /* what the peer got */
    size_t n_in;
} t;

/* A call, and what became of it. */
struct asked {
    struct fae_redis_call call;
    unsigned n_done;
    enum fae_err err;
    uint32_t retry_after_ms;
    unsigned n_replies;
    char why[256], text[256]; /* the replies, as redis-cli might show them */
    void (*then)(void);       /* from inside */
};

UNIT_FN bool unit_stop_turn(void *arg)
{
    (void)arg;
    fae_loop_stop(&t.loop);
    return false;
}

UNIT_FN void unit_nothing(void *arg)
{
    (void)arg;
}

/* One turn, which a timer ends when nothing else does. */
UNIT_FN void turn(void)
{
    struct fae_timer tick;

    fae_timer_init(&tick, &t.loop, unit_nothing, NULL);
    fae_timer_start(&tick, 1);
    fae_loop_run(&t.loop);
    fae_timer_stop(&tick);
}

UNIT_FN void turns(unsigned n)
{
    while (n--)
        turn();
}

UNIT_FN void listen_again(uint16_t port)
{
    struct sockaddr_in addr = { .sin_family = AF_INET,
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                .sin_port = htons(port) };
    socklen_t len = sizeof addr;
    int one = 1;

    t.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(t.listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    assert_int_equal(bind(t.listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(t.listener, 64), 0);
    assert_int_equal(getsockname(t.listener, (struct sockaddr *)&addr, &len), 0);
    snprintf(t.entry.pool.servers, sizeof t.entry.pool.servers, "127.0.0.1:%u", ntohs(addr.sin_port));
}

UNIT_FN int set_up(void **state)
{
    static const unsigned n_workers = 1;
    const struct fae_config_section *section = fae_config_section("redis");

    (void)state;
    fae_clock_init();
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    assert_int_equal(fae_loop_init(&t.loop), FAE_OK);
    t.loop.after_turn = unit_stop_turn;
    fae_config_init(&t.config);
    t.config.message_max = 64 * FAE_KIB;
    memset(&t.entry, 0, sizeof t.entry);
    fae_opt_defaults(section->opts, *section->n_opts, &t.entry);
    snprintf(t.entry.pool.name, sizeof t.entry.pool.name, "main");
    t.entry.pool.timeout_ms = t.entry.pool.connect_timeout_ms = 60000; /* nothing is late unless it is to be */
    t.upstreams = aligned_alloc(64, (fae_upstreams_size(&n_workers) + 63) / 64 * 64);
    memset(t.upstreams, 0, fae_upstreams_size(&n_workers));
    fae_upstreams_init(t.upstreams, &n_workers);
    t.env = (struct fae_backend_env){
        .o = { .loop = &t.loop, .config = &t.config, .upstreams = t.upstreams, .n_workers = 1 },
        .resolver = fae_resolver_new(&t.loop)
    };
    t.peer = -1;
    t.n_in = 0;
    listen_again(0);
    return 0;
}

/* What an earlier pool left in the queue of those to be accepted is none of this one's. */
UNIT_FN void make_pool(void)
{
    int fd;

    while (t.listener >= 0 && (fd = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        close(fd);
    t.redis = fae_redis_kind.make(&t.env, &t.entry);
}

UNIT_FN int tear_down(void **state)
{
    (void)state;
    if (t.redis)
        fae_redis_kind.free(t.redis);
    t.redis = NULL;
    if (t.peer >= 0)
        close(t.peer);
    if (t.listener >= 0)
        close(t.listener);
    fae_resolver_free(&t.env.resolver);
    fae_loop_fini(&t.loop);
    free(t.upstreams);
    fae_config_fini(&t.config);
    return 0;
}

/* ---- the server ---- */

UNIT_FN void receive(void)
{
    ssize_t n = t.peer < 0 ? -1 : recv(t.peer, t.in + t.n_in, sizeof t.in - 1 - t.n_in, MSG_DONTWAIT);

    if (n > 0)
        t.n_in += (size_t)n;
    t.in[t.n_in] = '\0';
}

/* The next connection is the peer's from now on. */
UNIT_FN void accept_peer(void)
{
    int one = 1;

    if (t.peer >= 0)
        close(t.peer);
    t.peer = -1;
    for (unsigned i = 0; i < 2000 && t.peer < 0; i++) {
        turn();
        t.peer = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC);
    }
    assert_true(t.peer >= 0);
    setsockopt(t.peer, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one); /* or small replies wait for an ACK */
    t.n_in = 0;
}

UNIT_FN void say(const char *bytes)
{
    size_t len = strlen(bytes);

    assert_int_equal(send(t.peer, bytes, len, MSG_NOSIGNAL), (ssize_t)len);
}

/* Waits until so much has come, and forgets it. */
UNIT_FN void expect(const char *bytes)
{
    size_t len = strlen(bytes);

    for (unsigned i = 0; i < 2000 && t.n_in < len; i++) {
        turn();
        receive();
    }
    if (t.n_in != len || memcmp(t.in, bytes, len) != 0)
        fail_msg("not what was to come: %s, but: %s", bytes, t.in);
    t.n_in = 0;
}

UNIT_FN void expect_nothing(void)
{
    turns(3);
    receive();
    if (t.n_in)
        fail_msg("nothing was to come, but: %s", t.in);
}

/* True: the other side has closed it. */
UNIT_FN bool is_closed(void)
{
    char byte;

    for (unsigned i = 0; i < 2000; i++) {
        ssize_t n = recv(t.peer, &byte, 1, MSG_DONTWAIT);

        if (n == 0 || (n < 0 && errno == ECONNRESET))
            return true;
        turn();
        if (i > 20 && n < 0)
            return false;
    }
    return false;
}

#define PING "*1\r\n$4\r\nPING\r\n"
#define GET "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
#define INCR "*2\r\n$4\r\nINCR\r\n$1\r\nk\r\n"

UNIT_FN void greet(void)
{
    accept_peer();
    expect(PING);
    say("+PONG\r\n");
}

/* ---- calls ---- */

UNIT_FN const uint8_t *unit_show(const uint8_t *p, struct fae_buf *text)
{
    struct fae_redis_item item;

    p = fae_redis_item(p, &item);
    switch (item.type) {
    case FAE_REDIS_STRING: fae_buf_printf(text, "\"%.*s\"", (int)item.n, item.text); break;
    case FAE_REDIS_STATUS: fae_buf_printf(text, "+%.*s", (int)item.n, item.text); break;
    case FAE_REDIS_ERROR: fae_buf_printf(text, "-%.*s", (int)item.n, item.text); break;
    case FAE_REDIS_INTEGER: fae_buf_printf(text, "%lld", (long long)item.integer); break;
    case FAE_REDIS_NIL: fae_buf_printf(text, "nil"); break;
    case FAE_REDIS_TOO_LONG: fae_buf_printf(text, "long"); break;
    case FAE_REDIS_TOO_DEEP: fae_buf_printf(text, "deep"); break;
    case FAE_REDIS_ARRAY:
        fae_buf_printf(text, "[");
        for (uint32_t i = 0; i < item.n; i++) {
            fae_buf_printf(text, i ? " " : "");
            p = unit_show(p, text);
        }
        fae_buf_printf(text, "]");
        break;
    }
    return p;
}

UNIT_FN void note_outcome(struct asked *a, const struct fae_redis_outcome *outcome)
{
    const uint8_t *p = outcome->tape;
    struct fae_buf text = { 0 };

    a->n_done++;
    a->err = outcome->err;
    a->retry_after_ms = outcome->retry_after_ms;
    a->n_replies = outcome->n_replies;
    snprintf(a->why, sizeof a->why, "%s", outcome->err ? outcome->why : "");
    for (unsigned i = 0; i < outcome->n_replies; i++) {
        fae_buf_printf(&text, i ? " " : "");
        p = unit_show(p, &text);
    }
    snprintf(a->text, sizeof a->text, "%s", text.len ? fae_buf_text(&text) : "");
    fae_buf_fini(&text);
}

UNIT_FN void on_asked_done(struct fae_redis_call *call, const struct fae_redis_outcome *outcome)
{
    struct asked *a = FAE_CONTAINER(call, struct asked, call);

    note_outcome(a, outcome);
    if (a->then)
        a->then();
}

/* Words as "GET k". */
UNIT_FN unsigned split_words(char *copy, const char *words, struct fae_redis_arg *args)
{
    unsigned n = 0;
    char *rest;

    strcpy(copy, words);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest))
        args[n++] = (struct fae_redis_arg){ word, strlen(word) };
    return n;
}

UNIT_FN enum fae_err ask_on(struct fae_redis_loan *loan, struct asked *a, bool idempotent, const char *commands)
{
    char lines[512], copy[16][128];
    struct fae_redis_arg args[16][16];
    struct fae_redis_command list[16];
    struct fae_redis_outcome outcome;
    enum fae_err err;
    unsigned n = 0;
    char *rest;

    a->call = (struct fae_redis_call){ .done = on_asked_done, .idempotent = idempotent };
    strcpy(lines, commands);
    for (char *line = strtok_r(lines, ";", &rest); line; line = strtok_r(NULL, ";", &rest), n++)
        list[n] = (struct fae_redis_command){ args[n], split_words(copy[n], line, args[n]) };
    err = loan ? fae_redis_loan_call(loan, &a->call, list, n, 0, &outcome)
               : fae_redis_call(t.redis, 0, &a->call, list, n, &outcome);
    if (err)
        note_outcome(a, &outcome);
    return err;
}

/* Must be queued. */
UNIT_FN void get(struct asked *a)
{
    assert_int_equal(ask_on(NULL, a, true, "GET k"), FAE_OK);
}

UNIT_FN void incr(struct asked *a)
{
    assert_int_equal(ask_on(NULL, a, false, "INCR k"), FAE_OK);
}

UNIT_FN void wait_done(struct asked *a)
{
    for (unsigned i = 0; i < 4000 && !a->n_done; i++)
        turn();
    assert_int_equal(a->n_done, 1);
}

UNIT_FN void expect_reply(struct asked *a, const char *text)
{
    wait_done(a);
    if (a->err)
        fail_msg("%s: %s", fae_err_name(a->err), a->why);
    assert_string_equal(a->text, text);
}

UNIT_FN void expect_err(struct asked *a, enum fae_err err)
{
    wait_done(a);
    if (a->err != err)
        fail_msg("%s instead of %s: %s", fae_err_name(a->err), fae_err_name(err), a->why);
}

UNIT_FN struct fae_upstream *row(void)
{
    char name[FAE_UPSTREAM_NAME_MAX];

    snprintf(name, sizeof name, "redis/main/%s", fae_redis_server(t.redis, 0));
    return fae_upstreams_find(t.upstreams, name);
}

#define COUNTED(what) atomic_load(&fae_upstream_cell(row(), 0)->n.what)

#endif
