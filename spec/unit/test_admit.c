/* SPDX-License-Identifier: BSD-2-Clause
 *
 * rpc/admit: calls in flight and a second, of the node and of a host; congestion, how it begins, whom it refuses and how
 * it ends; what an answer says in each form.
 */
#include "unit_session.h"

#include "base/log.h"

static const unsigned two = 2;
static const struct fae_shm_region more_regions[] = {
    { "gates", fae_gates_size, fae_gates_init },
    { "hosts", fae_hosts_size, fae_hosts_init },
};
static struct fae_shm more;

static int begin(void **state)
{
    return fae_shm_map(&more, more_regions, UNIT_N(more_regions), &two) || set_up(state) ? -1 : 0;
}

static int end(void **state)
{
    int failed = tear_down(state);

    fae_shm_unmap(&more);
    return failed;
}

/* The server anew, with what is shared and the options as they are now. */
static void configure(void)
{
    server->o.gates = fae_shm_get(&more, "gates");
    server->o.hosts = fae_shm_get(&more, "hosts");
    fae_server_configured(server);
}

static uint64_t hits(enum fae_limit limit)
{
    return stats->workers[0].n_limit_hits[limit];
}

static void put_notification(struct fae_buf *out, const char *method)
{
    fae_mp_array(out, 3);
    fae_mp_uint(out, 2);
    fae_mp_str(out, method, strlen(method));
    fae_mp_array(out, 0);
}

static struct fae_buf answers; /* read by now */

/* Everything that was answered: how many results, and how many errors that begin with `code`. */
static void tally(const char *code, unsigned *n_results, unsigned *n_errors)
{
    const uint8_t *p;
    struct fae_mp_token t;

    *n_results = *n_errors = 0;
    assert_false(hear(&answers));
    for (p = answers.data; p < answers.data + answers.len; p = fae_mp_skip(p)) {
        p = fae_mp_read(p, &t);
        assert_int_equal(t.len, 4);
        p = fae_mp_skip(fae_mp_skip(p));
        fae_mp_read(p, &t);
        if (t.type == FAE_MP_NIL) {
            ++*n_results;
        } else {
            assert_int_equal(t.type, FAE_MP_STR);
            assert_true(t.len > strlen(code));
            assert_memory_equal(t.bytes, code, strlen(code));
            ++*n_errors;
        }
        p = fae_mp_skip(p);
    }
    fae_buf_fini(&answers);
}

/* ---- in flight ---- */

static void the_node_has_so_many_calls_in_flight(void **state)
{
    struct fae_buf buf = { 0 };
    unsigned n_results, n_errors;
    struct fae_session *s;

    (void)state;
    config.calls_max = 3;
    configure();
    s = open_session(&client, false);
    for (uint32_t i = 0; i < 5; i++)
        put_call(&buf, i, "later", 0);
    say(&buf);
    assert_int_equal(service.n_later, 3);
    tally("OVERLOAD: too many calls in flight; retry after ", &n_results, &n_errors);
    assert_int_equal(n_results, 0);
    assert_int_equal(n_errors, 2);
    assert_int_equal(hits(FAE_LIMIT_calls_max), 2);
    assert_int_equal(stats->workers[0].n_errors[FAE_OVERLOAD], 2);
    put_notification(&buf, "echo");
    say(&buf);
    assert_int_equal(service.n_notifications, 0); /* dropped, not answered, counted */
    assert_int_equal(hits(FAE_LIMIT_calls_max), 3);
    assert_int_equal(hits(FAE_LIMIT_notifications), 1);
    answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
    say_call(9, "echo", 1);
    tally("", &n_results, &n_errors);
    assert_int_equal(n_results, 2);
    fae_buf_fini(&buf);
}

static void other_workers_calls_count(void **state)
{
    unsigned n_results, n_errors;

    (void)state;
    config.calls_max = 10;
    slots->n_workers = 2;
    configure();
    open_session(&client, false);
    slots->slots[1].n_calls = 10;
    loop.now_ms++;
    say_call(1, "echo", 1);
    tally("OVERLOAD", &n_results, &n_errors);
    assert_int_equal(n_errors, 1);
    slots->slots[1].n_calls = 9;
    say_call(2, "echo", 1);
    tally("OVERLOAD", &n_results, &n_errors);
    assert_int_equal(n_results, 1);
    slots->n_workers = 1;
}

/* ---- rate ---- */

static void the_node_takes_so_many_calls_a_second(void **state)
{
    struct fae_buf buf = { 0 };
    unsigned n_results, n_errors;

    (void)state;
    config.calls_rate = 1;
    config.calls_burst = 4;
    configure();
    open_session(&client, false);
    for (uint32_t i = 0; i < 10; i++)
        put_call(&buf, i, "echo", 0);
    say(&buf);
    tally("RATE_LIMITED: too many calls a second; retry after ", &n_results, &n_errors);
    assert_int_equal(n_results, 4);
    assert_int_equal(n_errors, 6);
    assert_int_equal(hits(FAE_LIMIT_calls_rate), 6);
    config.calls_rate = 0;
    fae_server_configured(server);
    say_call(11, "echo", 0);
    tally("", &n_results, &n_errors);
    assert_int_equal(n_results, 1);
    fae_buf_fini(&buf);
}

static void every_form_says_when_to_come_again(void **state)
{
    struct fae_buf out = { 0 }, want = { 0 };

    (void)state;
    fae_message_refuse(&out, FAE_ERROR_STRING, 7, FAE_HOST_OVERLOAD, 40);
    put_error(&want, 7, "HOST_OVERLOAD: too many calls in flight from this address; retry after 40 ms");
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.data, want.data, want.len);
    out.len = want.len = 0;

    fae_message_refuse(&out, FAE_ERROR_ARRAY, 7, FAE_CONGESTED, 1234567890);
    fae_mp_array(&want, 4);
    fae_mp_uint(&want, 1);
    fae_mp_uint(&want, 7);
    fae_mp_array(&want, 2);
    FAE_MP_TEXT(&want, "CONGESTED");
    FAE_MP_TEXT(&want, "calls wait too long; retry after 1234567890 ms");
    fae_mp_nil(&want);
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.data, want.data, want.len);
    out.len = want.len = 0;

    fae_message_refuse(&out, FAE_ERROR_MAP, 300, FAE_METHOD_RATE_LIMITED, 0);
    fae_mp_array(&want, 4);
    fae_mp_uint(&want, 1);
    fae_mp_uint(&want, 300);
    fae_mp_map(&want, 4);
    FAE_MP_TEXT(&want, "code");
    FAE_MP_TEXT(&want, "METHOD_RATE_LIMITED");
    FAE_MP_TEXT(&want, "message");
    FAE_MP_TEXT(&want, "too many calls of this method a second");
    FAE_MP_TEXT(&want, "retryable");
    fae_mp_bool(&want, true);
    FAE_MP_TEXT(&want, "retry_after_ms");
    fae_mp_uint(&want, 0);
    fae_mp_nil(&want);
    assert_int_equal(out.len, want.len);
    assert_memory_equal(out.data, want.data, want.len);
    fae_buf_fini(&out);
    fae_buf_fini(&want);
}

/* ---- hosts ---- */

static struct fae_addr addr_of(uint32_t ip)
{
    struct fae_addr addr = { .len = sizeof(struct sockaddr_in) };
    struct sockaddr_in *in = (struct sockaddr_in *)&addr.sa;

    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(ip);
    return addr;
}

static void a_host_has_so_many_sessions(void **state)
{
    struct fae_addr far = addr_of(0x0a000001), near = addr_of(0x7f000001), none = { .len = sizeof none.sa };
    uint16_t host;

    (void)state;
    config.host_sessions_max = 2;
    configure();
    none.sa.ss_family = AF_UNIX;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(fae_admit_session(server, &far, &host), FAE_OK);
        assert_true(host != FAE_HOST_NONE);
    }
    assert_int_equal(fae_admit_session(server, &far, &host), FAE_HOST_BUSY);
    assert_int_equal(hits(FAE_LIMIT_host_sessions_max), 1);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(fae_admit_session(server, &near, &host), FAE_OK); /* exempt */
        assert_int_equal(host, FAE_HOST_NONE);
        assert_int_equal(fae_admit_session(server, &none, &host), FAE_OK);
        assert_int_equal(host, FAE_HOST_NONE);
    }
    strcpy(config.host_exempt, "10.0.0.0/24");
    fae_server_configured(server);
    assert_int_equal(fae_admit_session(server, &far, &host), FAE_OK);
    strcpy(config.host_exempt, "nonsense");
    fae_server_configured(server); /* says so, and keeps what was */
    assert_int_equal(fae_admit_session(server, &far, &host), FAE_OK);
    assert_int_equal(host, FAE_HOST_NONE);
    config.sessions_max = 0;
    assert_int_equal(fae_admit_session(server, &far, &host), FAE_BUSY);
    assert_int_equal(hits(FAE_LIMIT_sessions_max), 1);
}

static void a_host_has_so_many_calls(void **state)
{
    struct fae_addr far = addr_of(0x0a000001);
    struct fae_buf buf = { 0 };
    unsigned n_results, n_errors;
    struct fae_session *s;

    (void)state;
    config.host_calls_max = 2;
    configure();
    s = open_session(&client, false);
    assert_int_equal(fae_admit_session(server, &far, &s->host), FAE_OK);
    for (uint32_t i = 0; i < 5; i++)
        put_call(&buf, i, "later", 0);
    say(&buf);
    assert_int_equal(service.n_later, 2);
    tally("HOST_OVERLOAD: ", &n_results, &n_errors);
    assert_int_equal(n_errors, 3);
    assert_int_equal(hits(FAE_LIMIT_host_calls_max), 3);
    assert_int_equal(fae_host_calls(server->o.hosts, s->host), 2);
    answer_later(s, FAE_CONTAINER(s->calls.next, struct later, node));
    say_call(7, "echo", 0);
    tally("", &n_results, &n_errors);
    assert_int_equal(n_results, 2);
    uint16_t host = s->host;
    hang_up();
    assert_int_equal(fae_host_calls(server->o.hosts, host), 0);
    assert_int_equal(fae_host_sessions(server->o.hosts, host), 0);
    fae_buf_fini(&buf);
}

static void a_host_makes_so_many_calls_a_second(void **state)
{
    struct fae_addr far = addr_of(0x0a000001);
    struct fae_buf buf = { 0 };
    unsigned n_results, n_errors;
    struct fae_session *s;

    (void)state;
    config.host_rate = 1;
    config.host_burst = 3;
    config.calls_rate = 1;
    config.calls_burst = 2;
    configure();
    s = open_session(&client, false);
    assert_int_equal(fae_admit_session(server, &far, &s->host), FAE_OK);
    for (uint32_t i = 0; i < 5; i++)
        put_call(&buf, i, "echo", 0);
    say(&buf);
    tally("RATE_LIMITED: ", &n_results, &n_errors); /* which gives the host its share back, */
    assert_int_equal(n_results, 2);
    assert_int_equal(n_errors, 3);
    config.calls_rate = 0;
    fae_server_configured(server);
    for (uint32_t i = 0; i < 3; i++)
        put_call(&buf, i, "echo", 0);
    say(&buf);
    tally("HOST_RATE_LIMITED: ", &n_results, &n_errors); /* so that one of three is left */
    assert_int_equal(n_results, 1);
    assert_int_equal(n_errors, 2);
    assert_int_equal(hits(FAE_LIMIT_host_rate), 2);
    fae_buf_fini(&buf);
}

/* ---- congestion ---- */

#define CROWD 12

static struct {
    int fds[CROWD];
    unsigned n_clients, n_turns; /* turns still to come */
    uint64_t ms;                 /* that a call takes */
    unsigned n_sent, n_congested, n_results, n_errors;
} crowd;

/* One call each. */
static void crowd_asks(void)
{
    struct fae_buf buf = { 0 };

    put_call(&buf, 1, "burn", crowd.ms);
    for (unsigned i = 0; i < crowd.n_clients; i++)
        assert_int_equal(send(crowd.fds[i], buf.data, buf.len, MSG_NOSIGNAL), buf.len);
    crowd.n_sent += crowd.n_clients;
    fae_buf_fini(&buf);
}

static void crowd_hears(void)
{
    for (unsigned i = 0; i < crowd.n_clients; i++) {
        uint8_t bytes[4096];
        ssize_t n;

        while ((n = recv(crowd.fds[i], bytes, sizeof bytes, 0)) > 0) {
            const uint8_t *p = bytes;
            struct fae_mp_token t;

            for (; p < bytes + n; p = fae_mp_skip(p)) {
                fae_mp_read(p + 3, &t); /* 94 01 01 error result */
                crowd.n_results += t.type == FAE_MP_NIL;
                crowd.n_errors += t.type == FAE_MP_STR && memcmp(t.bytes, "CONGESTED: calls wait too long; ", 32) == 0;
            }
        }
    }
}

/* They do not wait for answers: the next calls are there when a turn ends. */
static void crowd_goes_on(void)
{
    crowd_hears();
    if (crowd.n_turns == 0)
        return;
    crowd.n_congested += slots->slots[0].overloaded == FAE_OVERLOADED_CONGESTED;
    crowd.n_turns--;
    crowd_asks();
}

static void crowd_calls(unsigned n_turns, uint64_t ms)
{
    crowd.n_turns = n_turns - 1;
    crowd.ms = ms;
    crowd.n_sent = crowd.n_congested = crowd.n_results = crowd.n_errors = 0;
    crowd_asks();
    each_turn = crowd_goes_on;
    do
        turn();
    while (crowd.n_turns);
    turn();
    each_turn = NULL;
    assert_int_equal(crowd.n_results + crowd.n_errors, crowd.n_sent);
}

static void gather(unsigned n_clients, uint64_t delay_ms)
{
    config.overload_delay_ms = delay_ms;
    configure();
    crowd.n_clients = n_clients;
    for (unsigned i = 0; i < n_clients; i++)
        open_session(&crowd.fds[i], false);
}

static void disperse(void)
{
    for (unsigned i = 0; i < crowd.n_clients; i++)
        close(crowd.fds[i]);
    turn();
}

static void a_queue_that_stays_is_congestion(void **state)
{
    (void)state;
    gather(CROWD, 3);
    crowd_calls(60, 1);
    assert_int_equal(hits(FAE_LIMIT_congested), crowd.n_errors);
    assert_int_equal(stats->workers[0].n_errors[FAE_CONGESTED], crowd.n_errors);
    assert_in_range(crowd.n_congested, 30, 60 - 1);
    /* A turn runs what two milliseconds hold, but one call in any case. */
    assert_true(crowd.n_errors >= crowd.n_congested * (CROWD - FAE_CONGESTED_RUN_MS - 1));
    assert_true(crowd.n_results >= 60);
    unit_sleep_ms(FAE_CONGESTED_UNTIL_MS);
    turn();
    assert_int_equal(slots->slots[0].overloaded, 0);
    crowd_calls(1, 1); /* a moment later one such turn is enough */
    assert_in_range(crowd.n_errors, 1, CROWD - 1);
    unit_sleep_ms(FAE_CONGESTED_UNTIL_MS);
    turn();
    server->admission.ease_ticks = 0;
    crowd_calls(1, 1);
    assert_int_equal(crowd.n_errors + crowd.n_congested, 0);
    disperse();
}

static void bursts_with_pauses_are_no_congestion(void **state)
{
    uint64_t until_ms = fae_now_ms() + 4 * FAE_CONGESTED_AFTER_MS;

    (void)state;
    gather(CROWD, 3);
    while (fae_now_ms() < until_ms) {
        crowd_calls(1, 1);
        assert_int_equal(crowd.n_errors, 0);
    }
    disperse();
}

static void few_who_wait_are_no_congestion(void **state)
{
    (void)state;
    gather(FAE_QUEUE_MIN - 1, 3);
    crowd_calls(30, 3);
    assert_int_equal(crowd.n_errors, 0);
    disperse();
}

static void quick_calls_are_no_congestion_however_many(void **state)
{
    (void)state;
    gather(CROWD, 20);
    crowd_calls(5000, 0);
    assert_int_equal(crowd.n_errors, 0);
    disperse();
}

static void without_the_option_calls_wait(void **state)
{
    (void)state;
    gather(CROWD, 0);
    crowd_calls(30, 1);
    assert_int_equal(crowd.n_errors, 0);
    disperse();
}

/* What one client has pipelined holds up nobody but itself, and is not refused either. */
static void a_pipeline_is_no_congestion(void **state)
{
    struct fae_buf buf = { 0 };
    unsigned n_results, n_errors;

    (void)state;
    gather(0, 3);
    open_session(&client, false);
    for (uint32_t i = 0; i < 100; i++)
        put_call(&buf, i, "burn", 5);
    say(&buf);
    tally("", &n_results, &n_errors);
    assert_int_equal(n_results, 100);
    assert_int_equal(hits(FAE_LIMIT_congested), 0);
    fae_buf_fini(&buf);
}

static int second; /* client */

static void crowd_goes_on_beside_pipelines(void)
{
    struct fae_buf buf = { 0 };
    uint8_t junk[65536];

    crowd_goes_on();
    assert_false(hear(&answers));
    while (recv(second, junk, sizeof junk, 0) > 0)
        continue;
    if (crowd.n_turns == 0)
        return;
    for (uint32_t i = 0; i < 50; i++)
        put_call(&buf, i, "burn", 1);
    send_bytes(buf.data, buf.len);
    assert_int_equal(send(second, buf.data, buf.len, MSG_NOSIGNAL), buf.len);
    fae_buf_fini(&buf);
}

static void while_congested_those_with_few_calls_go_first(void **state)
{
    unsigned n_results, n_errors;

    (void)state;
    gather(CROWD, 3);
    open_session(&client, false);
    open_session(&second, false);
    server->admission.congested = true;
    crowd.n_turns = 40;
    crowd.ms = crowd.n_sent = crowd.n_errors = 0;
    crowd_asks();
    each_turn = crowd_goes_on_beside_pipelines;
    do
        turn();
    while (crowd.n_turns);
    turn();
    each_turn = NULL;
    tally("CONGESTED: ", &n_results, &n_errors);
    assert_true(n_errors > n_results);
    assert_in_range(crowd.n_errors, 0, crowd.n_sent / 4); /* none, but for what the machine does meanwhile */
    close(second);
    disperse();
}

/* ---- others ---- */

static void out_of_memory_refuses_calls(void **state)
{
    unsigned n_results, n_errors;

    (void)state;
    configure();
    open_session(&client, false);
    fae_admit_overloaded(server, FAE_OVERLOADED_MEMORY, true);
    say_call(1, "echo", 0);
    tally("NO_MEMORY: out of memory; retry after ", &n_results, &n_errors);
    assert_int_equal(n_errors, 1);
    assert_int_equal(hits(FAE_LIMIT_memory), 1);
    fae_admit_overloaded(server, FAE_OVERLOADED_MEMORY, false);
    say_call(1, "echo", 0);
    tally("", &n_results, &n_errors);
    assert_int_equal(n_results, 1);
}

static unsigned n_lines(FILE *log, const char *word)
{
    char line[1024];
    unsigned n = 0;

    rewind(log);
    while (fgets(line, sizeof line, log))
        n += strstr(line, word) != NULL;
    return n;
}

/* The log says what limits did, not whom. */
static void a_second_is_worth_a_line(void **state)
{
    FILE *log = tmpfile();
    struct fae_buf buf = { 0 };
    unsigned n_results, n_errors;
    int err_fd = dup(STDERR_FILENO);

    (void)state;
    assert_non_null(log);
    dup2(fileno(log), STDERR_FILENO);
    config.calls_max = 1;
    configure();
    open_session(&client, false);
    say_call(0, "later", 0);
    for (unsigned i = 0; i < 40; i++) { /* two seconds of ticks */
        for (uint32_t j = 0; j < 10; j++)
            put_call(&buf, j, "echo", 0);
        say(&buf);
        tally("OVERLOAD", &n_results, &n_errors);
        assert_int_equal(n_errors, 10);
        pass_ms(FAE_TICK_MS);
    }
    pass_ms(1000);
    pass_ms(1000);
    dup2(err_fd, STDERR_FILENO);
    close(err_fd);
    assert_in_range(n_lines(log, "limits met: calls_max "), 2, 5);
    assert_int_equal(n_lines(log, ""), n_lines(log, "limits met: "));
    fclose(log);
    hang_up();
    fae_buf_fini(&buf);
}

#undef TEST
#define TEST(fn) cmocka_unit_test_setup_teardown(fn, begin, end)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(the_node_has_so_many_calls_in_flight),
        TEST(other_workers_calls_count),
        TEST(the_node_takes_so_many_calls_a_second),
        TEST(every_form_says_when_to_come_again),
        TEST(a_host_has_so_many_sessions),
        TEST(a_host_has_so_many_calls),
        TEST(a_host_makes_so_many_calls_a_second),
        TEST(a_queue_that_stays_is_congestion),
        TEST(bursts_with_pauses_are_no_congestion),
        TEST(few_who_wait_are_no_congestion),
        TEST(quick_calls_are_no_congestion_however_many),
        TEST(without_the_option_calls_wait),
        TEST(a_pipeline_is_no_congestion),
        TEST(while_congested_those_with_few_calls_go_first),
        TEST(out_of_memory_refuses_calls),
        TEST(a_second_is_worth_a_line),
    };

    fae_clock_init();
    return cmocka_run_group_tests_name("admit", tests, NULL, NULL);
}
