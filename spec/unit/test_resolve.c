/* SPDX-License-Identifier: BSD-2-Clause
 *
 * backend/resolve, with a name server of this test: getaddrinfo is defined here, which the linker prefers to libc's, and
 * so is what starts threads.
 */
#include "unit.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "backend/resolve.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/thread.h"

static struct {
    struct fae_loop loop;
    struct fae_resolver *resolver;
    sem_t go;                 /* who asks for "slow..." waits for it */
    _Atomic unsigned n_asked; /* lookups that began */
    _Atomic unsigned n_over;  /* and ended */
    _Atomic unsigned n_addrs; /* of a name; 0: it fails ... */
    _Atomic int error;        /* ... with this */
    _Atomic unsigned slow;    /* every name is */
    _Atomic unsigned last;    /* byte of the first address */
    bool no_threads;
    int log; /* what was logged */
    unsigned n_told, want;
} t;

int fae_thread_start(pthread_t *thread_out, const char *name, void *(*fn)(void *arg), void *arg)
{
    assert_string_equal(name, "resolve");
    return t.no_threads ? EAGAIN : pthread_create(thread_out, NULL, fn, arg);
}

/* ---- the name server ---- */

int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **info_out)
{
    struct addrinfo *info = NULL;

    assert_null(service);
    assert_int_equal(hints->ai_socktype, SOCK_STREAM);
    atomic_fetch_add(&t.n_asked, 1);
    if (atomic_load(&t.slow) || strncmp(host, "slow", 4) == 0)
        while (sem_wait(&t.go) != 0)
            ;
    for (unsigned i = atomic_load(&t.n_addrs); i-- > 0;) {
        struct addrinfo *more = calloc(1, sizeof *more + sizeof(struct sockaddr_in));
        struct sockaddr_in *in = (struct sockaddr_in *)(more + 1);

        *in = (struct sockaddr_in){ .sin_family = AF_INET,
                                    .sin_addr.s_addr = htonl(0x0a000000u + atomic_load(&t.last) + i) };
        *more = (struct addrinfo){ .ai_family = AF_INET,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_addr = (struct sockaddr *)in,
                                   .ai_addrlen = sizeof *in,
                                   .ai_next = info };
        info = more;
    }
    *info_out = info;
    atomic_fetch_add(&t.n_over, 1);
    return info ? 0 : atomic_load(&t.error);
}

void freeaddrinfo(struct addrinfo *info)
{
    for (struct addrinfo *next; info; info = next) {
        next = info->ai_next;
        free(info);
    }
}

/* ---- who asks ---- */

struct asked {
    struct fae_resolve resolve;
    unsigned n_told, n, port;
    enum fae_err err;
    char first[FAE_ADDR_TEXT];
    char why[200];
    bool frees;
    struct asked *cancels, *asks;
};

static enum fae_err ask(struct asked *a, const char *server);

static void on_told(struct fae_resolve *resolve, enum fae_err err, const struct fae_addr *addrs, unsigned n,
                    const char *why)
{
    struct asked *a = FAE_CONTAINER(resolve, struct asked, resolve);

    a->n_told++;
    a->err = err;
    a->n = n;
    if (n > 0)
        fae_addr_format(&addrs[0], a->first);
    if (err)
        snprintf(a->why, sizeof a->why, "%s", why);
    t.n_told++;
    if (a->cancels)
        fae_resolve_cancel(t.resolver, &a->cancels->resolve);
    if (a->asks)
        assert_int_equal(ask(a->asks, "asks.internal:1"), FAE_MORE);
    if (a->frees)
        fae_resolver_free(&t.resolver);
}

/* What is known at once is noted as if it were told. */
static enum fae_err ask(struct asked *a, const char *server)
{
    struct fae_addr addrs[FAE_RESOLVE_ADDRS];
    struct fae_endpoint endpoint;
    enum fae_err err;

    assert_int_equal(fae_endpoint_parse(&endpoint, server, a->why, sizeof a->why), FAE_OK);
    a->resolve.done = on_told;
    err = fae_resolve(t.resolver, &endpoint, &a->resolve, addrs, &a->n);
    if (!err)
        fae_addr_format(&addrs[0], a->first);
    return err;
}

static bool after_turn(void *arg)
{
    (void)arg;
    if (t.n_told >= t.want)
        fae_loop_stop(&t.loop);
    return false;
}

static void on_late(void *arg)
{
    (void)arg;
    fae_loop_stop(&t.loop);
}

static void turn_for(unsigned n, unsigned ms)
{
    struct fae_timer late;

    t.want = t.n_told + n;
    fae_timer_init(&late, &t.loop, on_late, NULL);
    fae_timer_start(&late, ms);
    fae_loop_run(&t.loop);
    fae_timer_stop(&late);
}

/* Until n more are told; ten seconds is for ever. */
static void until_told(unsigned n)
{
    turn_for(n, 10000);
    assert_int_equal(t.n_told, t.want);
}

static void until_is(_Atomic unsigned *count, unsigned n)
{
    for (unsigned i = 0; atomic_load(count) < n && i < 10000; i++)
        unit_sleep_ms(1);
    assert_int_equal(atomic_load(count), n);
}

static int set_up(void **state)
{
    (void)state;
    memset(&t, 0, sizeof t);
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_INFO }, "unit");
    t.log = memfd_create("log", MFD_CLOEXEC);
    fae_log_to_fd(t.log);
    sem_init(&t.go, 0, 0);
    t.n_addrs = 1;
    t.last = 1;
    assert_int_equal(fae_loop_init(&t.loop), FAE_OK);
    t.loop.after_turn = after_turn;
    t.resolver = fae_resolver_new(&t.loop);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_resolver_free(&t.resolver);
    while (atomic_load(&t.n_over) < atomic_load(&t.n_asked)) {
        sem_post(&t.go);
        unit_sleep_ms(1);
    }
    unit_sleep_ms(2); /* for its threads to end */
    fae_loop_fini(&t.loop);
    fae_log_to_fd(STDERR_FILENO);
    close(t.log);
    return 0;
}

/* Is the log so many lines, the last of which has this text in it? */
static void assert_log(unsigned n, const char *text)
{
    char log[8192], *last = log;
    ssize_t len = pread(t.log, log, sizeof log - 1, 0);
    unsigned n_lines = 0;

    assert_true(len >= 0);
    log[len] = '\0';
    for (char *at = log, *end; (end = strchr(at, '\n')); at = end + 1, n_lines++)
        last = at;
    assert_int_equal(n_lines, n);
    assert_non_null(strstr(last, text));
}

/* ---- tests ---- */

static void what_is_no_name_is_known_at_once(void **state)
{
    static const struct {
        const char *server, *addr;
    } rows[] = {
        { "10.0.0.1:6379", "tcp://10.0.0.1:6379" }, { "tls://10.0.0.1:6380", "tls://10.0.0.1:6380" },
        { "[::1]:11211", "tcp://[::1]:11211" },     { "unix:/run/redis.sock", "unix:/run/redis.sock" },
        { "localhost:1", "tcp://127.0.0.1:1" },
    };

    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct asked a = { 0 };

        assert_int_equal(ask(&a, rows[i].server), FAE_OK);
        assert_int_equal(a.n, 1);
        assert_string_equal(a.first, rows[i].addr);
    }
    assert_int_equal(atomic_load(&t.n_asked), 0);
}

static void a_name_is_looked_up_once_for_all_and_kept(void **state)
{
    struct asked a[5] = { 0 };

    (void)state;
    t.n_addrs = 3;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ask(&a[i], "tls://redis.internal:6379"), FAE_MORE);
    until_told(4);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(a[i].n_told, 1);
        assert_int_equal(a[i].err, FAE_OK);
        assert_int_equal(a[i].n, 3);
        assert_string_equal(a[i].first, "tls://10.0.0.1:6379");
    }
    assert_int_equal(ask(&a[4], "tls://redis.internal:6379"), FAE_OK);
    assert_int_equal(a[4].n, 3);
    assert_int_equal(atomic_load(&t.n_asked), 1);
}

static void too_many_addresses_are_left_out(void **state)
{
    struct asked a = { 0 };

    (void)state;
    t.n_addrs = 30;
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_MORE);
    until_told(1);
    assert_int_equal(a.n, FAE_RESOLVE_ADDRS);
}

static void a_failure_is_a_sentence(void **state)
{
    struct asked a = { 0 };

    (void)state;
    t.n_addrs = 0;
    t.error = EAI_NONAME;
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_MORE);
    until_told(1);
    assert_int_equal(a.err, FAE_UNAVAILABLE);
    assert_int_equal(a.n, 0);
    assert_string_equal(a.why, "redis.internal: Name or service not known");
    t.error = 0;
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_MORE); /* a failure is not kept */
    until_told(1);
    assert_string_equal(a.why, "redis.internal: it has no address");
}

static void who_cancels_is_not_told(void **state)
{
    struct asked a[4] = { 0 };

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(ask(&a[i], "redis.internal:6379"), FAE_MORE);
    fae_resolve_cancel(t.resolver, &a[0].resolve);
    a[1].cancels = &a[2];
    until_told(2);
    assert_int_equal(a[0].n_told, 0);
    assert_int_equal(a[1].n_told, 1);
    assert_int_equal(a[2].n_told, 0);
    assert_int_equal(a[3].n_told, 1);
}

static void who_is_told_may_ask_and_free(void **state)
{
    struct asked a[4] = { 0 };

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(ask(&a[i], "redis.internal:6379"), FAE_MORE);
    a[0].asks = &a[3];
    a[1].frees = true;
    until_told(2);
    assert_null(t.resolver);
    assert_int_equal(a[2].n_told + a[3].n_told, 0);
}

static void a_stuck_name_holds_up_no_other(void **state)
{
    struct asked a[3] = { 0 };

    (void)state;
    assert_int_equal(ask(&a[0], "slow.internal:1"), FAE_MORE);
    until_is(&t.n_asked, 1);
    assert_int_equal(ask(&a[1], "slow.internal:1"), FAE_MORE);
    assert_int_equal(ask(&a[2], "quick.internal:1"), FAE_MORE);
    until_told(1);
    assert_int_equal(a[2].n_told, 1);
    assert_int_equal(atomic_load(&t.n_asked), 2);
    sem_post(&t.go);
    until_told(2);
}

static void freed_while_it_looks_up(void **state)
{
    struct asked a[4] = { 0 };

    (void)state;
    ask(&a[0], "slow1.internal:1");
    ask(&a[1], "slow2.internal:1");
    until_is(&t.n_asked, 2);
    ask(&a[2], "slow3.internal:1");
    fae_resolver_free(&t.resolver);
    turn_for(1, 5);
    assert_int_equal(t.n_told, 0);
}

static void without_threads_it_fails(void **state)
{
    struct asked a[2] = { 0 };

    (void)state;
    t.no_threads = true;
    assert_int_equal(ask(&a[0], "redis.internal:6379"), FAE_MORE);
    assert_int_equal(ask(&a[1], "redis.internal:6379"), FAE_MORE);
    until_told(2);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(a[i].err, FAE_UNAVAILABLE);
        assert_string_equal(a[i].why, "redis.internal: it cannot be looked up: the system refused");
    }
    assert_log(1, "resolve: cannot start a thread: Resource temporarily unavailable");
    t.no_threads = false;
    assert_int_equal(ask(&a[0], "redis.internal:6379"), FAE_MORE);
    until_told(1);
    assert_int_equal(a[0].err, FAE_OK);
}

static void names_are_many(void **state)
{
    struct asked a = { 0 };
    char server[32];

    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        snprintf(server, sizeof server, "n%u.internal:1", i);
        assert_int_equal(ask(&a, server), FAE_MORE);
        until_told(1);
        assert_int_equal(ask(&a, "n0.internal:1"), FAE_OK);
    }
    assert_int_equal(ask(&a, "n299.internal:1"), FAE_OK);
    assert_int_equal(ask(&a, "n1.internal:1"), FAE_MORE); /* used longest ago */
    until_told(1);
    assert_int_equal(ask(&a, "n0.internal:1"), FAE_OK);
}

/* An answer that is old is asked for again, and serves on when the name server fails, or is
 * slow. */
static void the_last_good_answer_is_used_on(void **state)
{
    struct asked a = { 0 };

    (void)state;
    fae_resolver_hurry(t.resolver, 20);
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_MORE);
    until_told(1);
    unit_sleep_ms(FAE_RESOLVE_KEEP_MS / 20 + 1);

    t.n_addrs = 0;
    t.error = EAI_AGAIN;
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_MORE);
    until_told(1);
    assert_int_equal(a.err, FAE_OK);
    assert_string_equal(a.first, "tcp://10.0.0.1:6379");
    assert_int_equal(atomic_load(&t.n_asked), 2);
    assert_log(1, "redis.internal: Temporary failure in name resolution; the address it had last is used on");
    unit_sleep_ms(FAE_RESOLVE_AGAIN_MS / 20 + 1);

    t.slow = 1;
    t.n_addrs = 1;
    t.last = 7;
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_MORE);
    until_told(1); /* nobody has answered */
    assert_int_equal(a.err, FAE_OK);
    assert_string_equal(a.first, "tcp://10.0.0.1:6379");
    unit_sleep_ms(FAE_RESOLVE_AGAIN_MS / 20 + 1);
    assert_int_equal(ask(&a, "redis.internal:6379"), FAE_OK); /* known to be slow */
    assert_int_equal(atomic_load(&t.n_asked), 3);
    sem_post(&t.go);
    until_is(&t.n_over, 3);
    for (unsigned i = 0; i < 1000 && strcmp(a.first, "tcp://10.0.0.7:6379") != 0; i++) {
        turn_for(1, 5);
        assert_int_equal(ask(&a, "redis.internal:6379"), FAE_OK);
    }
    assert_string_equal(a.first, "tcp://10.0.0.7:6379");      /* it has moved */
    assert_log(2, "redis.internal: the name is found again"); /* nothing of it between */
}

/* A name that was never found fails in time, whatever the name server does. */
static void nobody_waits_for_ever(void **state)
{
    struct asked a = { 0 };

    (void)state;
    fae_resolver_hurry(t.resolver, 50);
    assert_int_equal(ask(&a, "slow.internal:6379"), FAE_MORE);
    until_told(1);
    assert_int_equal(a.err, FAE_UNAVAILABLE);
    assert_string_equal(a.why, "slow.internal: no answer from the name server");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_no_name_is_known_at_once), TEST(a_name_is_looked_up_once_for_all_and_kept),
        TEST(too_many_addresses_are_left_out),  TEST(a_failure_is_a_sentence),
        TEST(who_cancels_is_not_told),          TEST(who_is_told_may_ask_and_free),
        TEST(a_stuck_name_holds_up_no_other),   TEST(freed_while_it_looks_up),
        TEST(without_threads_it_fails),         TEST(names_are_many),
        TEST(the_last_good_answer_is_used_on),  TEST(nobody_waits_for_ever),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
