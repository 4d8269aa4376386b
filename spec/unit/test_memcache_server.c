/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/memcache_server: what goes out together, answers in any order and in pieces, a connection that is lost, refused or
 * does not answer, and servers that say what they like. The other side is a socket of this test.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "backend/memcache_server.h"
#include "backend/resolve.h"
#include "base/limits.h"
#include "base/log.h"

#define CALLS 200u
#define VALUE_MAX 100u
#define TURNS 1000u /* of 2 ms at most, until something must have happened */

static struct {
    struct fae_loop loop;
    struct fae_resolver *resolver;
    struct fae_upstreams *upstreams;
    struct fae_memcache_server *server;
    struct fae_endpoint endpoint;
    int listener, peer;
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

static void on_value(struct fae_memcache_call *call, unsigned key, const struct fae_memcache_value *value)
{
    struct result *r = &results[FAE_CONTAINER(call, struct asked, call)->id];

    r->n_values++;
    assert_true(key < sizeof r->value);
    r->value[key] = value->len ? value->bytes[0] : '-';
}

static void keep(struct result *r, const struct fae_memcache_answer *answer)
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

static void on_done(struct fae_memcache_call *call, const struct fae_memcache_answer *answer)
{
    struct result *r = &results[FAE_CONTAINER(call, struct asked, call)->id];

    r->n_done++;
    r->call = NULL;
    keep(r, answer);
}

static enum fae_err ask(unsigned id, enum fae_memcache_op op, unsigned n_keys, const char *bytes)
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

static void get(unsigned id, const char *keys)
{
    unsigned n = 0;

    for (const char *p = keys; *p; p++)
        n += *p == ' ';
    assert_int_equal(ask(id, FAE_MEMCACHE_GET, n, keys), FAE_OK);
}

static void set(unsigned id)
{
    assert_int_equal(ask(id, FAE_MEMCACHE_STORE, 0, "set k 0 0 1\r\nx\r\n"), FAE_OK);
}

static bool stop_turn(void *arg)
{
    (void)arg;
    fae_loop_stop(&t.loop);
    return false;
}

static void on_nothing(void *arg)
{
    (void)arg;
}

/* One turn, which a timer ends when nothing else does. */
static void turn(void)
{
    struct fae_timer tick;

    fae_timer_init(&tick, &t.loop, on_nothing, NULL);
    fae_timer_start(&tick, 2);
    fae_loop_run(&t.loop);
    fae_timer_stop(&tick);
}

static bool readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, 0) == 1;
}

static void accept_one(void)
{
    if (t.peer >= 0)
        close(t.peer);
    for (unsigned i = 0; i < TURNS && !readable(t.listener); i++)
        turn();
    assert_true(readable(t.listener));
    t.peer = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC);
    assert_true(t.peer >= 0);
}

/* These bytes come to the peer, and nothing more. */
static void expect(const char *text)
{
    char bytes[4096];
    size_t n = 0, len = strlen(text);

    for (unsigned i = 0; i < TURNS && n < len; i++) {
        turn();
        if (readable(t.peer)) {
            ssize_t got = recv(t.peer, bytes + n, sizeof bytes - n - 1, 0);

            assert_true(got > 0);
            n += (size_t)got;
        }
    }
    bytes[n] = '\0';
    assert_string_equal(bytes, text);
}

static void say_bytes(const char *bytes, size_t len)
{
    assert_int_equal(send(t.peer, bytes, len, MSG_NOSIGNAL), len);
}

static void say(const char *text)
{
    say_bytes(text, strlen(text));
}

static void until_done(unsigned id)
{
    for (unsigned i = 0; i < TURNS && results[id].n_done == 0; i++)
        turn();
    assert_int_equal(results[id].n_done, 1);
}

static void until_hung_up(void)
{
    char bytes[4096];
    ssize_t n = 1;

    for (unsigned i = 0; i < TURNS && n > 0; i++) {
        turn();
        if (readable(t.peer))
            n = recv(t.peer, bytes, sizeof bytes, 0);
    }
    assert_true(n <= 0);
}

static void says_of(unsigned id, enum fae_err err)
{
    until_done(id);
    if (results[id].err != err)
        fail_msg("%u: %s (%s), not %s", id, fae_err_name(results[id].err), results[id].why, fae_err_name(err));
    if (err)
        assert_non_null(strstr(results[id].why, "memcache main tcp://127.0.0.1:"));
}

static void is_value(unsigned id, const char *value)
{
    says_of(id, FAE_OK);
    assert_true(results[id].yes);
    assert_string_equal(results[id].value, value);
}

static const struct fae_breaker *breaker(void)
{
    char name[256];

    snprintf(name, sizeof name, "memcache/main/%s", t.endpoint.text);
    return fae_upstream_breaker(fae_upstreams_find(t.upstreams, name));
}

static unsigned n_failed(void)
{
    uint32_t n_calls, n;
    char name[256];

    snprintf(name, sizeof name, "memcache/main/%s", t.endpoint.text);
    fae_upstream_window(fae_upstreams_find(t.upstreams, name), t.loop.now_ms, &n_calls, &n);
    return n;
}

static void new_server(uint32_t timeout_ms)
{
    struct fae_memcache_server_opts opts = {
        .loop = &t.loop,
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

    t.server = fae_memcache_server_new(&opts);
}

static int set_up(void **state)
{
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t len = sizeof addr;
    unsigned n_workers = 1;
    char text[64], why[128];

    (void)state;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    t.peer = -1;
    t.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(t.listener, (struct sockaddr *)&addr, sizeof addr), 0);
    assert_int_equal(listen(t.listener, 8), 0);
    assert_int_equal(getsockname(t.listener, (struct sockaddr *)&addr, &len), 0);
    snprintf(text, sizeof text, "127.0.0.1:%u", ntohs(addr.sin_port));
    assert_int_equal(fae_endpoint_parse(&t.endpoint, text, why, sizeof why), FAE_OK);
    assert_int_equal(fae_loop_init(&t.loop), FAE_OK);
    t.loop.after_turn = stop_turn;
    t.resolver = fae_resolver_new(&t.loop);
    t.upstreams = aligned_alloc(64, (fae_upstreams_size(&n_workers) + 63) / 64 * 64);
    memset(t.upstreams, 0, fae_upstreams_size(&n_workers));
    fae_upstreams_init(t.upstreams, &n_workers);
    new_server(2000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_memcache_server_free(&t.server);
    fae_resolver_free(&t.resolver);
    if (t.peer >= 0)
        close(t.peer);
    if (t.listener >= 0)
        close(t.listener);
    fae_loop_fini(&t.loop);
    free(t.upstreams);
    return 0;
}

/* ---- together ---- */

static void gets_of_a_turn_are_one_command(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b");
    get(2, " a");
    get(3, " c d e");
    accept_one();
    expect("gets a b a c d e\r\n");
    say("VALUE a 7 3 42\r\nx\r\n\r\nVALUE a 0 1 43\r\ny\r\nVALUE c 0 1 1\r\nC\r\nVALUE e 0 0 1\r\n\r\nEND\r\n");
    is_value(0, "x\r\n");
    assert_int_equal(results[0].flags, 7);
    assert_int_equal(results[0].cas, 42);
    says_of(1, FAE_OK);
    assert_false(results[1].yes);
    is_value(2, "y");
    says_of(3, FAE_OK);
    assert_int_equal(results[3].n_values, 2);
    assert_memory_equal(results[3].value, "C\0-", 3);
    assert_true(fae_memcache_server_quiet(t.server));
}

static void values_may_come_in_any_order(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b c");
    get(2, " d");
    accept_one();
    expect("gets a b c d\r\n");
    say("VALUE d 0 1 1\r\nD\r\nVALUE c 0 1 1\r\nC\r\nVALUE b 0 1 1\r\nB\r\nVALUE a 0 1 1\r\nA\r\nEND\r\n");
    is_value(0, "A");
    says_of(1, FAE_OK);
    assert_memory_equal(results[1].value, "BC", 2);
    is_value(2, "D");
}

static void order_is_kept(void **state)
{
    (void)state;
    get(0, " a");
    set(1);
    get(2, " k");
    assert_int_equal(ask(3, FAE_MEMCACHE_COUNT, 0, "incr n 1\r\n"), FAE_OK);
    assert_int_equal(ask(4, FAE_MEMCACHE_DELETE, 0, "delete n\r\n"), FAE_OK);
    assert_int_equal(ask(5, FAE_MEMCACHE_TOUCH, 0, "touch n 1\r\n"), FAE_OK);
    accept_one();
    expect("gets a\r\nset k 0 0 1\r\nx\r\ngets k\r\nincr n 1\r\ndelete n\r\ntouch n 1\r\n");
    say("END\r\nSTORED\r\nVALUE k 0 1 1\r\nx\r\nEND\r\n18446744073709551615\r\nNOT_FOUND\r\nTOUCHED\r\n");
    says_of(0, FAE_OK);
    says_of(1, FAE_OK);
    assert_true(results[1].yes);
    is_value(2, "x");
    says_of(3, FAE_OK);
    assert_true(results[3].number == UINT64_MAX);
    says_of(4, FAE_OK);
    assert_false(results[4].yes);
    says_of(5, FAE_OK);
    assert_true(results[5].yes);
}

static void many_gets_are_several_commands(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 60; i++) {
        char keys[300];

        memset(keys, 'k', sizeof keys);
        keys[0] = ' ';
        keys[250] = '\0';
        get(i, keys);
    }
    accept_one();
    for (unsigned i = 0; i < TURNS && results[0].n_done == 0; i++) {
        turn();
        say("END\r\n");
    }
    for (unsigned i = 0; i < TURNS && results[59].n_done == 0; i++)
        turn();
    assert_int_equal(results[0].err, FAE_OK);
    for (unsigned i = 0; i < 60; i++)
        assert_int_equal(results[i].n_done, 1);
}

static void answers_come_in_pieces(void **state)
{
    static const char answers[] =
        "VALUE a 1 4 9\r\nEND\r\r\nEND\r\nSTORED\r\nVALUE b 0 1 1\r\nB\r\nVALUE c 0 1 1\r\nC\r\nEND\r\n";

    (void)state;
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    say("END\r\n");
    says_of(0, FAE_OK);
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
    accept_one();
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
    accept_one();
    expect("set k 0 0 1\r\nx\r\ngets a\r\n");
    say("CLIENT_ERROR line format\r\nERROR\r\nVALUE a 0 1 1\r\nA\r\nEND\r\n");
    says_of(0, FAE_BACKEND);
    accept_one();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nB\r\nEND\r\n");
    is_value(1, "B");
    assert_int_equal(n_failed(), 0);
}

static void long_values_are_passed_over(void **state)
{
    char value[VALUE_MAX + 1];

    (void)state;
    memset(value, 'v', sizeof value);
    get(0, " a");
    get(1, " b c");
    get(2, " d");
    accept_one();
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

/* ---- no answers ---- */

static void lost_gets_are_asked_again_once(void **state)
{
    (void)state;
    set(0);
    get(1, " a");
    get(2, " b c");
    accept_one();
    expect("set k 0 0 1\r\nx\r\ngets a b c\r\n");
    accept_one(); /* closes the first */
    says_of(0, FAE_UNKNOWN);
    expect("gets a b c\r\n");
    say("VALUE a 0 1 1\r\nA\r\nVALUE b 0 1 1\r\nB\r\n");
    is_value(1, "A");
    close(t.peer);
    t.peer = -1;
    says_of(2, FAE_UNAVAILABLE);
    get(3, " a");
    accept_one();
    expect("gets a\r\n");
    say("END\r\n");
    says_of(3, FAE_OK);
    assert_int_equal(n_failed(), 2);
}

/* K3: the question is answered late, when another waits that the answer would fit. */
static void late_answers_meet_nobody(void **state)
{
    (void)state;
    fae_memcache_server_free(&t.server);
    new_server(60);
    assert_int_equal(ask(0, FAE_MEMCACHE_COUNT, 0, "incr n 1\r\n"), FAE_OK);
    accept_one();
    expect("incr n 1\r\n");
    says_of(0, FAE_UNKNOWN);
    assert_int_equal(ask(1, FAE_MEMCACHE_COUNT, 0, "incr m 1\r\n"), FAE_OK);
    turn();
    send(t.peer, "5\r\n", 3, MSG_NOSIGNAL);
    until_hung_up();
    accept_one();
    expect("incr m 1\r\n");
    say("7\r\n");
    says_of(1, FAE_OK);
    assert_true(results[1].number == 7);
}

static void writes_without_answer_are_unknown(void **state)
{
    (void)state;
    fae_memcache_server_free(&t.server);
    new_server(60);
    set(0);
    get(1, " a");
    accept_one();
    expect("set k 0 0 1\r\nx\r\ngets a\r\n");
    says_of(0, FAE_UNKNOWN);
    says_of(1, FAE_TIMEOUT);
    assert_true(n_failed() >= 2);
}

/* A value that is there, and then nothing: the command must end. */
static void commands_must_end(void **state)
{
    (void)state;
    fae_memcache_server_free(&t.server);
    new_server(60);
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nA\r\n");
    is_value(0, "A");
    until_hung_up();
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
        accept_one();
        expect("gets a a\r\n");
        say(rows[i]);
        says_of(0, FAE_BACKEND);
        accept_one();
        expect("gets a\r\n");
        say("VALUE a 0 1 1\r\nA\r\nEND\r\nEND\r\n"); /* one answer too many */
        is_value(1, "A");
        until_hung_up();
    }
}

static void refused_is_told_and_paused(void **state)
{
    (void)state;
    close(t.listener);
    t.listener = -1;
    get(0, " a");
    set(1);
    says_of(0, FAE_UNAVAILABLE);
    says_of(1, FAE_UNAVAILABLE);
    assert_non_null(strstr(results[1].why, "Connection refused"));
    assert_int_equal(ask(2, FAE_MEMCACHE_GET, 1, " a"), FAE_UNAVAILABLE);
    assert_true(results[2].retry_after_ms > 0);
    assert_int_equal(atomic_load(&breaker()->refusals), 1);
    assert_true(fae_memcache_server_quiet(t.server));
}

static void one_too_many_is_refused(void **state)
{
    (void)state;
    get(0, " a");
    set(1);
    accept_one();
    expect("gets a\r\nset k 0 0 1\r\nx\r\n");
    assert_true(fae_memcache_cancel(t.server, results[0].call));
    say("ERROR Too many open connections\r\n");
    says_of(1, FAE_UNAVAILABLE); /* it was not done */
    assert_non_null(strstr(results[1].why, "it has too many connections"));
    assert_int_equal(ask(2, FAE_MEMCACHE_GET, 1, " a"), FAE_UNAVAILABLE);
    assert_true(results[2].retry_after_ms > 0);
    assert_int_equal(atomic_load(&breaker()->refusals), 1);
    until_hung_up();
    assert_true(fae_memcache_server_quiet(t.server));
}

static void later_the_same_words_are_an_answer(void **state)
{
    (void)state;
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    say("END\r\n");
    says_of(0, FAE_OK);
    set(1);
    expect("set k 0 0 1\r\nx\r\n");
    say("ERROR Too many open connections\r\n");
    says_of(1, FAE_BACKEND);
    until_hung_up();
}

/* As while a reload replaces them all. */
static void a_row_is_waited_for(void **state)
{
    struct fae_upstream *ups[FAE_UPSTREAMS_MAX];
    char name[32];

    (void)state;
    fae_memcache_server_free(&t.server);
    for (unsigned i = 0; i < FAE_UPSTREAMS_MAX; i++) {
        snprintf(name, sizeof name, "memcache/other/h:%u", i);
        ups[i] = fae_upstream_get(t.upstreams, name, 0);
        assert_non_null(ups[i]);
    }
    new_server(500);
    assert_int_equal(ask(0, FAE_MEMCACHE_GET, 1, " a"), FAE_UNAVAILABLE);
    fae_memcache_server_tick(t.server);
    fae_upstream_put(ups[7], 0);
    for (unsigned i = 0; i < TURNS && ask(1, FAE_MEMCACHE_GET, 1, " a"); i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
    accept_one();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nA\r\nEND\r\n");
    is_value(1, "A");
}

/* ---- askers that leave ---- */

static void cancelled_calls_are_nobodys(void **state)
{
    (void)state;
    get(0, " a");
    get(1, " b");
    assert_false(fae_memcache_cancel(t.server, results[0].call));
    accept_one();
    expect("gets b\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
    set(2);
    get(3, " c");
    get(4, " d");
    expect("set k 0 0 1\r\nx\r\ngets c d\r\n");
    assert_true(fae_memcache_cancel(t.server, results[2].call));
    assert_true(fae_memcache_cancel(t.server, results[3].call));
    say("STORED\r\nVALUE c 0 1 1\r\nC\r\nVALUE d 0 1 1\r\nD\r\nEND\r\n");
    is_value(4, "D");
    assert_int_equal(results[0].n_done + results[2].n_done + results[3].n_done, 0);
    assert_true(fae_memcache_server_quiet(t.server));
}

static void queue_has_an_end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 100; i++)
        get(i, " a");
    assert_int_equal(ask(100, FAE_MEMCACHE_GET, 1, " a"), FAE_POOL_BUSY);
    fae_memcache_server_free(&t.server);
    for (unsigned i = 0; i < 100; i++) {
        assert_int_equal(results[i].n_done, 1);
        assert_int_equal(results[i].err, FAE_CLOSED);
    }
}

static void idle_connections_are_closed(void **state)
{
    struct fae_memcache_server_opts opts = {
        .loop = &t.loop,
        .resolver = t.resolver,
        .upstreams = t.upstreams,
        .pool = "main",
        .endpoint = &t.endpoint,
        .timeout_ms = 500,
        .connect_timeout_ms = 500,
        .waiting_max = 10,
        .value_max = VALUE_MAX,
        .idle_ms = 20,
    };

    (void)state;
    fae_memcache_server_free(&t.server);
    t.server = fae_memcache_server_new(&opts);
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    say("END\r\n");
    says_of(0, FAE_OK);
    for (unsigned i = 0; i < TURNS && !readable(t.peer); i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
    until_hung_up();
    get(1, " a");
    accept_one();
    expect("gets a\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
}

static void ticks_until_readable(void)
{
    for (unsigned i = 0; i < TURNS && !readable(t.peer); i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
}

/* The first call after a long silence does not find out that nobody is there any more. */
static void idle_connections_are_asked_for_a_sign_of_life(void **state)
{
    (void)state;
    fae_memcache_server_free(&t.server);
    new_server(100);
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    say("END\r\n");
    says_of(0, FAE_OK);
    for (unsigned i = 0; i < 5; i++) {
        turn();
        fae_memcache_server_tick(t.server);
    }
    assert_false(readable(t.peer));
    for (unsigned i = 0; i < 2; i++) {
        fae_memcache_server_skip(t.server, 6000);
        ticks_until_readable();
        expect("gets fae:check\r\n");
        say("END\r\n");
        for (unsigned j = 0; j < 5; j++)
            turn();
    }
    fae_memcache_server_skip(t.server, 6000);
    ticks_until_readable();
    expect("gets fae:check\r\n");
    until_hung_up(); /* it says nothing, and is asked anew before anybody calls */
    close(t.peer);
    t.peer = -1;
    fae_memcache_server_skip(t.server, 2000);
    fae_memcache_server_tick(t.server);
    accept_one();
    expect("gets fae:check\r\n");
    say("END\r\n");
    get(1, " a");
    expect("gets a\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
}

/* Old ones too, though they are never idle. */
static void old_connections_are_made_anew(void **state)
{
    struct fae_memcache_server_opts opts = {
        .loop = &t.loop,
        .resolver = t.resolver,
        .upstreams = t.upstreams,
        .pool = "main",
        .endpoint = &t.endpoint,
        .timeout_ms = 500,
        .connect_timeout_ms = 500,
        .waiting_max = 10,
        .value_max = VALUE_MAX,
        .life_ms = 30,
    };

    (void)state;
    fae_memcache_server_free(&t.server);
    t.server = fae_memcache_server_new(&opts);
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    unit_sleep_ms(40);
    get(1, " b");
    turn();
    turn();
    assert_false(readable(t.peer)); /* waits for what was asked */
    say("END\r\n");
    says_of(0, FAE_OK);
    accept_one();
    expect("gets b\r\n");
    say("END\r\n");
    says_of(1, FAE_OK);
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

    while (readable(t.listener)) {
        if (t.peer >= 0)
            close(t.peer);
        t.peer = accept4(t.listener, NULL, NULL, SOCK_CLOEXEC);
    }
    if (t.peer < 0)
        return;
    for (unsigned i = unit_random(random) % 4; i > 0; i--) {
        const char *text = said[unit_random(random) % UNIT_N(said)];
        size_t len = strlen(text);

        if (unit_random(random) % 4 == 0)
            len = unit_random(random) % (len + 1);
        send(t.peer, text, len, MSG_NOSIGNAL);
    }
    if (unit_random(random) % 8 == 0) {
        close(t.peer);
        t.peer = -1;
    } else if (unit_random(random) % 8 == 0) {
        memset(bytes, 'x', sizeof bytes);
        send(t.peer, bytes, unit_random(random) % sizeof bytes, MSG_NOSIGNAL);
    }
}

static void hostile_servers_end_calls(void **state)
{
    uint64_t random = 0x9e3779b97f4a7c15u;
    unsigned n_scripts = getenv("FAE_LONG") ? 20000 : 500;

    (void)state;
    for (unsigned script = 0; script < n_scripts; script++) {
        fae_memcache_server_free(&t.server);
        new_server(4);
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
    fae_memcache_server_free(&t.server);
    new_server(2000);
    while (readable(t.listener)) /* those that were made for nothing */
        close(accept4(t.listener, NULL, NULL, SOCK_CLOEXEC));
    get(0, " a");
    accept_one();
    expect("gets a\r\n");
    say("VALUE a 0 1 1\r\nA\r\nEND\r\n");
    is_value(0, "A");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(gets_of_a_turn_are_one_command),
        TEST(values_may_come_in_any_order),
        TEST(order_is_kept),
        TEST(many_gets_are_several_commands),
        TEST(answers_come_in_pieces),
        TEST(errors_are_answers),
        TEST(refused_command_ends_the_connection),
        TEST(long_values_are_passed_over),
        TEST(lost_gets_are_asked_again_once),
        TEST(late_answers_meet_nobody),
        TEST(writes_without_answer_are_unknown),
        TEST(commands_must_end),
        TEST(what_is_no_answer_ends_the_connection),
        TEST(refused_is_told_and_paused),
        TEST(one_too_many_is_refused),
        TEST(a_row_is_waited_for),
        TEST(later_the_same_words_are_an_answer),
        TEST(cancelled_calls_are_nobodys),
        TEST(queue_has_an_end),
        TEST(idle_connections_are_closed),
        TEST(idle_connections_are_asked_for_a_sign_of_life),
        TEST(old_connections_are_made_anew),
        TEST(hostile_servers_end_calls),
    };

    return cmocka_run_group_tests_name("backend/memcache_server", tests, NULL, NULL);
}
