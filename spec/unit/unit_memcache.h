/* SPDX-License-Identifier: BSD-2-Clause
 *
 * One memcached of a pool, which is the peer of unit_peer.h, and calls of it.
 */
#ifndef FAE_UNIT_MEMCACHE_H
#define FAE_UNIT_MEMCACHE_H

#include "unit_peer.h"

#include "backend/memcache_server.h"
#include "backend/resolve.h"
#include "base/limits.h"

#define CALLS 200u
#define VALUE_MAX 100u

static struct {
    struct fae_resolver *resolver;
    struct fae_upstreams *upstreams;
    struct fae_memcache_server *server;
    struct fae_endpoint endpoint;
} t;

/* What became of a call, by its number. */
static struct result {
    struct fae_memcache_call *call;
    unsigned n_done, n_values;
    enum fae_err err;
    bool yes;
    uint64_t number;
    char value[VALUE_MAX + 1], why[256];
    uint32_t flags, retry_after_ms;
    uint64_t cas;
} results[CALLS];

struct asked {
    struct fae_memcache_call call;
    unsigned id;
    uint8_t bytes[];
};

UNIT_FN void on_value(struct fae_memcache_call *call, unsigned key, const struct fae_memcache_value *value)
{
    struct result *r = &results[FAE_CONTAINER(call, struct asked, call)->id];

    r->n_values++;
    assert_true(key < sizeof r->value);
    r->value[key] = value->len ? value->bytes[0] : '-';
}

UNIT_FN void keep(struct result *r, const struct fae_memcache_answer *answer)
{
    r->err = answer->err;
    r->yes = answer->yes;
    r->number = answer->number;
    r->retry_after_ms = answer->retry_after_ms;
    snprintf(r->why, sizeof r->why, "%s", answer->why ? answer->why : "");
    if (answer->value.bytes) {
        assert_true(answer->value.len <= VALUE_MAX);
        memcpy(r->value, answer->value.bytes, answer->value.len);
        r->value[answer->value.len] = '\0';
        r->flags = answer->value.flags;
        r->cas = answer->value.cas;
    }
}

UNIT_FN void on_done(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    struct result *r = &results[FAE_CONTAINER(call, struct asked, call)->id];

    r->n_done++;
    r->call = NULL;
    keep(r, answer);
}

UNIT_FN enum fae_err ask(unsigned id, enum fae_memcache_op op, unsigned n_keys, const char *bytes)
{
    size_t len = strlen(bytes);
    struct asked *a = malloc(sizeof *a + len);
    struct fae_memcache_answer answer;
    enum fae_err err;

    memcpy(a->bytes, bytes, len);
    a->id = id;
    a->call = (struct fae_memcache_call){
        .op = op, .n_keys = n_keys, .bytes = a->bytes, .len = len, .value = on_value, .done = on_done
    };
    results[id] = (struct result){ .call = &a->call };
    err = fae_memcache_ask(t.server, &a->call, &answer);
    if (err) {
        keep(&results[id], &answer);
        assert_int_equal(answer.err, err);
        free(a);
    }
    return err;
}

UNIT_FN void get(unsigned id, const char *keys)
{
    unsigned n = 0;

    for (const char *p = keys; *p; p++)
        n += *p == ' ';
    assert_int_equal(ask(id, FAE_MEMCACHE_GET, n, keys), FAE_OK);
}

UNIT_FN void set(unsigned id)
{
    assert_int_equal(ask(id, FAE_MEMCACHE_STORE, 0, "set k 0 0 1\r\nx\r\n"), FAE_OK);
}

UNIT_FN void until_done(unsigned id)
{
    for (unsigned i = 0; i < TURNS && results[id].n_done == 0; i++)
        turn();
    assert_int_equal(results[id].n_done, 1);
}

UNIT_FN void says_of(unsigned id, enum fae_err err)
{
    until_done(id);
    if (results[id].err != err)
        fail_msg("%u: %s (%s), not %s", id, fae_err_name(results[id].err), results[id].why, fae_err_name(err));
    if (err)
        assert_non_null(strstr(results[id].why, "memcache main tcp://127.0.0.1:"));
}

UNIT_FN void is_value(unsigned id, const char *value)
{
    says_of(id, FAE_OK);
    assert_true(results[id].yes);
    assert_string_equal(results[id].value, value);
}

/* On a new connection, which is idle then. */
UNIT_FN void get_on_new(unsigned id)
{
    get(id, " a");
    accept_peer();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nA\r\nEND\r\n");
    is_value(id, "A");
}

UNIT_FN struct fae_upstream *row(void)
{
    char name[256];

    snprintf(name, sizeof name, "memcache/main/%s", t.endpoint.text);
    return fae_upstreams_find(t.upstreams, name);
}

UNIT_FN unsigned n_failed(void)
{
    uint32_t n_calls, n;

    fae_upstream_window(row(), net.loop.now_ms, &n_calls, &n);
    return n;
}

UNIT_FN struct fae_memcache_server_opts server_opts(uint32_t timeout_ms)
{
    return (struct fae_memcache_server_opts){
        .loop = &net.loop,
        .resolver = t.resolver,
        .upstreams = t.upstreams,
        .pool = "main",
        .endpoint = &t.endpoint,
        .breaker = { .percent = 0, .calls = 20, .refusals = 5, .open_ms = 5000 },
        .connect_timeout_ms = 500,
        .timeout_ms = timeout_ms,
        .waiting_max = 100,
        .value_max = VALUE_MAX,
    };
}

UNIT_FN void new_server(uint32_t timeout_ms)
{
    struct fae_memcache_server_opts opts = server_opts(timeout_ms);

    t.server = fae_memcache_server_new(&opts);
}

UNIT_FN void renew_server(uint32_t timeout_ms)
{
    fae_memcache_server_free(&t.server);
    new_server(timeout_ms);
}

UNIT_FN int set_up(void **state)
{
    char text[64], why[128];

    (void)state;
    snprintf(text, sizeof text, "127.0.0.1:%u", open_net());
    assert_int_equal(fae_endpoint_parse(&t.endpoint, text, why, sizeof why), FAE_OK);
    t.resolver = fae_resolver_new(&net.loop);
    t.upstreams = new_upstreams();
    new_server(2000);
    return 0;
}

UNIT_FN int tear_down(void **state)
{
    (void)state;
    fae_memcache_server_free(&t.server);
    fae_resolver_free(&t.resolver);
    close_net();
    free(t.upstreams);
    return 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
