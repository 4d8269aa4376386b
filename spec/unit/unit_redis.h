/* SPDX-License-Identifier: BSD-2-Clause
 *
 * A redis pool, whose server is the peer of unit_peer.h, and calls of it.
 */
#ifndef FAE_UNIT_REDIS_H
#define FAE_UNIT_REDIS_H

#include "unit_peer.h"
#include "unit_redis_show.h"

#include "backend/backends.h"
#include "backend/redis.h"
#include "backend/resolve.h"
#include "base/clock.h"
#include "base/config.h"

static struct {
    struct fae_backend_env env;
    struct fae_config config;
    struct fae_config_redis entry;
    struct fae_redis *redis;
    struct fae_upstreams *upstreams;
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

UNIT_FN void servers_are_at(uint16_t port)
{
    snprintf(t.entry.pool.servers, sizeof t.entry.pool.servers, "127.0.0.1:%u", port);
}

UNIT_FN int set_up(void **state)
{
    const struct fae_config_section *section = fae_config_section("redis");

    (void)state;
    fae_clock_init();
    fae_config_init(&t.config);
    t.config.message_max = 64 * FAE_KIB;
    memset(&t.entry, 0, sizeof t.entry);
    fae_opt_defaults(section->opts, *section->n_opts, &t.entry);
    snprintf(t.entry.pool.name, sizeof t.entry.pool.name, "main");
    t.entry.pool.timeout_ms = t.entry.pool.connect_timeout_ms = 60000; /* nothing is late unless it is to be */
    servers_are_at(open_net());
    t.upstreams = new_upstreams();
    t.env = (struct fae_backend_env){
        .o = { .loop = &net.loop, .config = &t.config, .upstreams = t.upstreams, .n_workers = 1 },
        .resolver = fae_resolver_new(&net.loop)
    };
    return 0;
}

/* What an earlier pool left in the queue of those to be accepted is none of this one's. */
UNIT_FN void make_pool(void)
{
    refuse_waiting();
    t.redis = fae_redis_kind.make(&t.env, &t.entry);
}

UNIT_FN int tear_down(void **state)
{
    (void)state;
    if (t.redis)
        fae_redis_kind.free(t.redis);
    t.redis = NULL;
    fae_resolver_free(&t.env.resolver);
    close_net();
    free(t.upstreams);
    fae_config_fini(&t.config);
    return 0;
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
    for (unsigned i = 0; i < TURNS && !a->n_done; i++)
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

/* A call on a new connection, which is idle then. */
UNIT_FN void get_on_new(void)
{
    struct asked a = { 0 };

    get(&a);
    greet();
    expect(GET);
    say("$1\r\nx\r\n");
    expect_reply(&a, "\"x\"");
}

UNIT_FN struct fae_upstream *row(void)
{
    char name[FAE_UPSTREAM_NAME_MAX];

    snprintf(name, sizeof name, "redis/main/%s", fae_redis_server(t.redis, 0));
    return fae_upstreams_find(t.upstreams, name);
}

#define COUNTED(what) atomic_load(&fae_upstream_cell(row(), 0)->n.what)

#endif
