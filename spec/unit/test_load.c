/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The load generator against a small server whose faults are known, so that its figures can be checked: whatever goes
 * wrong must be counted, and nothing twice.
 */
#include "unit.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/clock.h"
#include "cmd/client.h"
#include "cmd/load.h"

enum fault {
    NONE,
    REVERSE,  /* the answers of one read last first */
    ERRORS,   /* every fourth call */
    TWICE,    /* every answer */
    HANG_UP,  /* in place of every tenth answer */
    SILENT,   /* never an answer */
    FAREWELL, /* sys.error and hang up, in place of every tenth answer */
    GARBAGE,  /* in place of every tenth answer */
    ONE_BYTE, /* writes of one byte */
    STALL,    /* one pause, before the 50th answer */
};

enum { REQUEST_BYTES = 12, CONNS = 8, STALL_MS = 100 };

struct server {
    char dir[100], addr[120];
    int listener;
    enum fault fault;
    pid_t pid;
};

/* One answer for a request; false closes the connection. */
static bool answer(const struct server *srv, int fd, const uint8_t *request)
{
    static const uint8_t farewell[] = "\x93\x02\xa9sys.error\x91\xa9LIMIT: no";
    static unsigned n;
    uint8_t bytes[] = { 0x94, 0x01, 0xce, 0, 0, 0, 0, 0xc0, 0xc0 };
    uint32_t id = fae_be32(request + FAE_REQUEST_MSGID_AT);

    n++;
    memcpy(bytes + 3, request + FAE_REQUEST_MSGID_AT, 4);
    if (srv->fault == SILENT)
        return true;
    if (srv->fault == STALL && n == 50)
        unit_sleep_ms(STALL_MS);
    if (srv->fault == HANG_UP && n % 10 == 0)
        return false;
    if (srv->fault == FAREWELL && n % 10 == 0)
        return write(fd, farewell, sizeof farewell - 1) < 0;
    if (srv->fault == GARBAGE && n % 10 == 0)
        bytes[0] = 0xc1;
    if (srv->fault == ERRORS && id % 4 == 0)
        bytes[7] = 0x01; /* an error that is a number */
    for (unsigned i = 0; srv->fault == ONE_BYTE && i < sizeof bytes - 1; i++)
        if (write(fd, bytes + i, 1) != 1)
            return false;
    if (srv->fault == ONE_BYTE)
        return write(fd, bytes + sizeof bytes - 1, 1) == 1;
    for (int i = 0; i < (srv->fault == TWICE ? 2 : 1); i++)
        if (write(fd, bytes, sizeof bytes) != sizeof bytes)
            return false;
    return true;
}

static bool serve_one(const struct server *srv, int fd)
{
    uint8_t in[REQUEST_BYTES * 64];
    ssize_t n = read(fd, in, sizeof in); /* the generator sends a batch in one write, and it fits */

    if (n <= 0 || n % REQUEST_BYTES)
        return false;
    for (ssize_t i = 0; i < n; i += REQUEST_BYTES)
        if (!answer(srv, fd, in + (srv->fault == REVERSE ? n - REQUEST_BYTES - i : i)))
            return false;
    return true;
}

static int serve(void *arg)
{
    const struct server *srv = arg;
    struct pollfd fds[CONNS + 1] = { { .fd = srv->listener, .events = POLLIN } };

    for (unsigned i = 1; i <= CONNS; i++)
        fds[i] = (struct pollfd){ .fd = -1, .events = POLLIN };
    for (;;) {
        unsigned free_slot = 0;

        for (unsigned i = 1; i <= CONNS; i++)
            if (fds[i].fd < 0)
                free_slot = i;
        fds[0].events = free_slot ? POLLIN : 0;
        fds[0].revents = 0;
        if (poll(fds, CONNS + 1, 10000) <= 0)
            return 1;
        for (unsigned i = 1; i <= CONNS; i++)
            if (fds[i].fd >= 0 && fds[i].revents && !serve_one(srv, fds[i].fd)) {
                close(fds[i].fd);
                fds[i].fd = -1;
            }
        if (fds[0].revents & POLLIN)
            fds[free_slot].fd = accept(srv->listener, NULL, NULL);
    }
}

static void start_listening(struct server *srv, int backlog)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };

    snprintf(sa.sun_path, sizeof sa.sun_path, "%s/s", unit_dir(srv->dir, sizeof srv->dir));
    snprintf(srv->addr, sizeof srv->addr, "unix:%s", sa.sun_path);
    srv->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(srv->listener, (struct sockaddr *)&sa, sizeof sa), 0);
    assert_int_equal(listen(srv->listener, backlog), 0);
}

static void start(struct server *srv, enum fault fault)
{
    srv->fault = fault;
    start_listening(srv, 100);
    srv->pid = unit_fork(serve, srv);
}

static void stop(struct server *srv)
{
    kill(srv->pid, SIGKILL);
    assert_int_equal(unit_wait(srv->pid), -SIGKILL);
    close(srv->listener);
    unit_dir_remove(srv->dir);
}

static void load_mix(struct server *srv, struct fae_load_opts opts, const struct fae_bench_mix *mix,
                     struct fae_load_result *result)
{
    char why[200] = "";

    memset(result, 0, sizeof *result);
    opts.grace_ms = 50;
    opts.mix = mix;
    assert_int_equal(fae_addr_parse(srv->addr, &opts.addr, why, sizeof why), FAE_OK);
    if (fae_load_run(&opts, result, why, sizeof why) != FAE_OK)
        fail_msg("%s", why);
}

static void load(struct server *srv, struct fae_load_opts opts, struct fae_load_result *result)
{
    struct fae_bench_mix mix = { 0 };
    char why[200] = "";

    assert_int_equal(fae_bench_mix_add(&mix, 1, "a.b", NULL, 0, why, sizeof why), FAE_OK);
    assert_int_equal(mix.methods[0].bytes_max, REQUEST_BYTES);
    load_mix(srv, opts, &mix, result);
    fae_bench_mix_fini(&mix);
}

/* How many errors of that kind. */
static uint64_t n_of(const struct fae_load_result *r, const char *code)
{
    for (unsigned i = 0; i < r->tally.n_rows; i++)
        if (strcmp(r->tally.rows[i].code, code) == 0)
            return r->tally.rows[i].n;
    return 0;
}

/* How many calls took longer than that. */
static uint64_t n_slower(const struct fae_load_result *r, uint64_t ns)
{
    uint64_t n = 0;

    for (unsigned b = fae_bench_hist_bucket(ns) + 1; b < FAE_BENCH_HIST_BUCKETS; b++)
        n += FAE_STAT_GET(r->methods[0].latency.n[b]);
    return n;
}

static uint64_t n_errors(const struct fae_load_result *r)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < r->tally.n_rows; i++)
        n += r->tally.rows[i].n;
    return n;
}

/* A fixed number of calls: which of them are answered well, and how often connections and messages go wrong. */
static const struct {
    const char *what;
    enum fault fault;
    bool connect_per_call;
    unsigned threads, conns, depth;
    uint64_t calls;
    uint64_t n_ok_min, n_ok_max, n_lost_min, n_stray_min;
    const char *code;
} rows[] = {
    { "one connection", NONE, false, 1, 1, 1, 100, 100, 100, 0, 0, NULL },
    { "batches, the last one short", NONE, false, 1, CONNS, 16, 1000, 1000, 1000, 0, 0, NULL },
    { "three threads", NONE, false, 3, CONNS, 4, 1000, 1000, 1000, 0, 0, NULL },
    { "threads with unequal shares", NONE, true, 3, 7, 1, 100, 100, 100, 0, 0, NULL },
    { "more threads than connections", NONE, false, 9, 2, 1, 10, 10, 10, 0, 0, NULL },
    { "threads that are closed on", HANG_UP, false, 2, 4, 4, 100, 50, 90, 3, 0, "WORKER_LOST" },
    { "more connections than calls", NONE, false, 1, CONNS, 1, 3, 3, 3, 0, 0, NULL },
    { "connect per call", NONE, true, 1, CONNS, 1, 200, 200, 200, 0, 0, NULL },
    { "out of order", REVERSE, false, 1, 2, 16, 640, 640, 640, 0, 0, NULL },
    { "byte by byte", ONE_BYTE, false, 1, 2, 4, 100, 100, 100, 0, 0, NULL },
    { "errors", ERRORS, false, 1, 2, 4, 400, 300, 300, 0, 0, "ERROR" },
    { "answered twice", TWICE, false, 1, 1, 1, 10, 10, 10, 0, 1, NULL },
    { "closed now and then", HANG_UP, false, 1, 2, 4, 100, 50, 90, 5, 0, "WORKER_LOST" },
    { "closed now and then, a connection each call", HANG_UP, true, 1, 2, 1, 100, 90, 90, 10, 0, "WORKER_LOST" },
    { "refused now and then", FAREWELL, false, 1, 2, 4, 100, 50, 90, 5, 0, "LIMIT" },
    { "garbage now and then", GARBAGE, false, 1, 2, 4, 100, 50, 90, 5, 0, "BAD_MESSAGE" },
};

static void test_calls(void **state)
{
    (void)state;
    for (unsigned i = 0; i < UNIT_N(rows); i++) {
        struct fae_load_opts opts = { .threads = rows[i].threads,
                                      .conns = rows[i].conns,
                                      .depth = rows[i].depth,
                                      .calls = rows[i].calls,
                                      .connect_per_call = rows[i].connect_per_call,
                                      .duration_ms = 5000 };
        struct fae_load_result *r = calloc(1, sizeof *r);
        unsigned fds = unit_count_fds();
        struct server srv;

        start(&srv, rows[i].fault);
        load(&srv, opts, r);
        stop(&srv);
        if (r->n_sent != rows[i].calls || r->tally.n_ok < rows[i].n_ok_min || r->tally.n_ok > rows[i].n_ok_max ||
            r->n_lost < rows[i].n_lost_min || r->tally.n_stray < rows[i].n_stray_min || r->n_refused)
            fail_msg("%s: sent %llu, ok %llu, lost %llu, refused %llu, stray %llu", rows[i].what,
                     (unsigned long long)r->n_sent, (unsigned long long)r->tally.n_ok, (unsigned long long)r->n_lost,
                     (unsigned long long)r->n_refused, (unsigned long long)r->tally.n_stray);
        assert_int_equal(r->tally.n_ok + n_errors(r), r->n_sent);
        assert_int_equal(r->tally.n_failed, n_errors(r));
        assert_int_equal(r->methods[0].n_sent, r->n_sent);
        assert_int_equal(r->tally.methods[0].n_ok, r->tally.n_ok);
        assert_int_equal(r->tally.n_rows, rows[i].code ? 1 : 0);
        if (rows[i].code)
            assert_string_equal(r->tally.rows[0].code, rows[i].code);
        assert_int_equal(unit_count_fds(), fds);
        fae_tally_fini(&r->tally);
        free(r);
    }
}

static void test_duration(void **state)
{
    struct fae_load_opts opts = { .conns = 2, .depth = 4, .duration_ms = 100 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    const struct fae_bench_hist *latency = &r->methods[0].latency;
    struct server srv;

    (void)state;
    start(&srv, NONE);
    load(&srv, opts, r);
    stop(&srv);
    assert_true(r->n_sent > 8);
    assert_int_equal(r->tally.n_ok, r->n_sent);
    assert_int_equal(fae_bench_hist_count(latency), r->n_sent);
    assert_true(r->elapsed_ns >= 50000000);
    assert_true(FAE_STAT_GET(latency->max_ns) > 0);
    assert_true(FAE_STAT_GET(latency->sum_ns) <= FAE_STAT_GET(latency->max_ns) * r->n_sent);
    assert_true(fae_bench_hist_quantile(latency, NULL, 0.5) > 0);
    assert_int_equal(r->n_unsent + r->n_late, 0);
    fae_tally_fini(&r->tally);
    free(r);
}

/* By the clock: neither more nor fewer calls than were asked for, over any number of threads. */
static void test_rate(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        struct fae_load_opts opts = {
            .threads = 1 + i / 2, .conns = 4, .depth = 8, .duration_ms = 200, .rate = 1000, .connect_per_call = i % 2
        };
        struct fae_load_result *r = calloc(1, sizeof *r);
        struct server srv;

        if (opts.connect_per_call)
            opts.depth = 1;
        start(&srv, NONE);
        load(&srv, opts, r);
        stop(&srv);
        assert_int_equal(r->n_sent + r->n_unsent, 200);
        assert_true(r->n_sent >= 100); /* fewer on a machine that stops now and then */
        assert_int_equal(r->tally.n_ok, r->n_sent);
        assert_int_equal(fae_bench_hist_count(&r->methods[0].latency), r->n_sent);
        assert_true(r->elapsed_ns >= 180000000);
        fae_tally_fini(&r->tally);
        free(r);
    }
}

/* One connection, a call a millisecond, and a server that stops for 100 ms: every call that should have been made
 * meanwhile has waited, not only the one that was. */
static void test_coordinated_omission(void **state)
{
    struct fae_load_opts opts = { .conns = 1, .depth = 1, .calls = 200, .duration_ms = 5000 };
    struct fae_load_result *r = calloc(1, sizeof *r);

    (void)state;
    for (unsigned open = 0; open < 2; open++) {
        struct server srv;

        opts.rate = open ? 1000 : 0;
        start(&srv, STALL);
        load(&srv, opts, r);
        stop(&srv);
        assert_int_equal(r->tally.n_ok, 200);
        assert_true(FAE_STAT_GET(r->methods[0].latency.max_ns) >= 95000000);
        if (!open)
            assert_in_range(n_slower(r, 50000000), 1, 5); /* a busy machine may add some */
        else
            assert_true(n_slower(r, 50000000) >= 40);
        assert_true(!open || r->behind_max_ns >= 80000000);
        fae_tally_fini(&r->tally);
    }
    free(r);
}

/* A server that answers nothing: the calls that no connection was free for are told. */
static void test_unsent(void **state)
{
    struct fae_load_opts opts = { .conns = 2, .depth = 1, .duration_ms = 50, .rate = 1000 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    struct server srv;

    (void)state;
    start(&srv, SILENT);
    load(&srv, opts, r);
    stop(&srv);
    assert_int_equal(r->n_sent, 2);
    assert_int_equal(r->n_unsent, 48);
    assert_int_equal(r->tally.n_failed, 2);
    assert_string_equal(r->tally.rows[0].code, "TIMEOUT");
    assert_true(r->behind_max_ns >= 40000000);
    free(r);
}

/* Connections that break under a rate: every call is counted once. */
static void test_rate_and_losses(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct fae_load_opts opts = { .conns = 4, .depth = 1, .duration_ms = 300, .rate = 500, .connect_per_call = i };
        struct fae_load_result *r = calloc(1, sizeof *r);
        struct server srv;

        start(&srv, HANG_UP);
        load(&srv, opts, r);
        stop(&srv);
        assert_int_equal(r->n_sent + r->n_unsent, 150);
        assert_int_equal(r->tally.n_ok + n_errors(r), r->n_sent);
        assert_int_equal(r->n_lost, n_errors(r));
        assert_true(r->n_lost >= 5 || r->n_unsent > 50); /* a machine that stands still costs some */
        assert_int_equal(fae_bench_hist_count(&r->methods[0].latency), r->tally.n_ok);
        fae_tally_fini(&r->tally);
        free(r);
    }
}

/* This process is stopped for a while: the calls that fell due meanwhile are late by our own fault. */
static void test_late(void **state)
{
    struct fae_load_opts opts = { .conns = 8, .depth = 8, .duration_ms = 200, .rate = 1000 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    pid_t us = getpid(), pid;
    struct server srv;

    (void)state;
    start(&srv, NONE);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        unit_sleep_ms(60);
        kill(us, SIGSTOP);
        unit_sleep_ms(50);
        kill(us, SIGCONT);
        _exit(0);
    }
    load(&srv, opts, r);
    assert_int_equal(unit_wait(pid), 0);
    stop(&srv);
    assert_int_equal(r->n_sent + r->n_unsent, 200);
    assert_int_equal(r->tally.n_ok, r->n_sent);
    assert_true(r->n_late >= 30);
    assert_true(r->late_max_ns >= 40000000);
    assert_true(n_slower(r, 20000000) >= 15);
    fae_tally_fini(&r->tally);
    free(r);
}

/* Several methods over several threads: as often as their weights say, and each counted for itself. */
static void test_mix(void **state)
{
    struct fae_load_opts opts = { .threads = 2, .conns = 4, .depth = 16, .calls = 4000, .duration_ms = 5000 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    struct fae_bench_mix mix = { 0 };
    struct fae_bench_hist *all = calloc(1, sizeof *all);
    char why[200] = "";
    struct server srv;

    (void)state;
    assert_int_equal(fae_bench_mix_add_line(&mix, "3 a.b", why, sizeof why), FAE_OK);
    assert_int_equal(fae_bench_mix_add_line(&mix, "1 c.d", why, sizeof why), FAE_OK);
    start(&srv, ERRORS);
    load_mix(&srv, opts, &mix, r);
    stop(&srv);
    assert_int_equal(r->n_sent, 4000);
    assert_int_equal(r->tally.n_ok, 3000);
    assert_int_equal(r->tally.n_failed, 1000);
    assert_int_equal(r->methods[0].n_sent + r->methods[1].n_sent, 4000);
    assert_in_range(r->methods[0].n_sent, 2850, 3150);
    assert_int_equal(r->tally.methods[0].n_ok + r->tally.methods[1].n_ok, 3000);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(fae_bench_hist_count(&r->methods[i].latency), r->methods[i].n_sent);
    fae_load_latency(r, all);
    assert_int_equal(fae_bench_hist_count(all), 4000);
    fae_tally_fini(&r->tally);
    fae_bench_mix_fini(&mix);
    free(all);
    free(r);
}

static void keep_progress(const struct fae_load_progress *p, void *arg)
{
    struct fae_load_progress *last = arg;

    assert_true(p->elapsed_ns > last->elapsed_ns);
    assert_true(p->n_ok >= last->n_ok);
    assert_int_equal(p->interval_ok, p->n_ok - last->n_ok);
    *last = *p;
}

static void test_progress(void **state)
{
    struct fae_load_progress last = { 0 };
    struct fae_load_opts opts = { .threads = 2,
                                  .conns = 2,
                                  .depth = 1,
                                  .rate = 500,
                                  .duration_ms = 1300,
                                  .progress = keep_progress,
                                  .progress_arg = &last };
    struct fae_load_result *r = calloc(1, sizeof *r);
    struct server srv;

    (void)state;
    start(&srv, NONE);
    load(&srv, opts, r);
    stop(&srv);
    assert_true(last.elapsed_ns >= 990000000);
    assert_in_range(last.n_ok + r->n_unsent, 300, r->tally.n_ok + r->n_unsent);
    assert_int_equal(last.n_failed, 0);
    assert_true(last.p50_ns > 0 && last.p50_ns <= last.p99_ns);
    fae_tally_fini(&r->tally);
    free(r);
}

static void test_sizes(void **state)
{
    struct fae_load_opts opts = { .conns = 30000, .depth = 10000, .calls = 1, .duration_ms = 100 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    char why[200] = "";

    (void)state;
    assert_int_equal(fae_load_run(&opts, r, why, sizeof why), FAE_LIMIT);
    assert_non_null(strstr(why, "30000 connections of 10000 calls"));
    opts.depth = 10;
    opts.raw_request.len = 100000; /* never looked at */
    assert_int_equal(fae_load_run(&opts, r, why, sizeof why), FAE_LIMIT);
    assert_non_null(strstr(why, "MiB"));
    free(r);
}

static void test_silent_server(void **state)
{
    struct fae_load_opts opts = { .conns = 2, .depth = 4, .duration_ms = 30 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    uint64_t began_ms = fae_now_ms();
    struct server srv;

    (void)state;
    start(&srv, SILENT);
    load(&srv, opts, r);
    stop(&srv);
    assert_int_equal(r->n_sent, 8);
    assert_int_equal(r->tally.n_ok, 0);
    assert_string_equal(r->tally.rows[0].code, "TIMEOUT");
    assert_int_equal(r->tally.rows[0].n, 8);
    assert_true(fae_now_ms() - began_ms >= 80);
    free(r);
}

/* The server dies in the middle: every call is accounted for, and the run ends. */
static void test_server_dies(void **state)
{
    for (int connect_per_call = 0; connect_per_call < 2; connect_per_call++) {
        struct fae_load_opts opts = {
            .conns = 2, .depth = 1, .calls = 100, .connect_per_call = connect_per_call, .duration_ms = 200
        };
        struct fae_load_result *r = calloc(1, sizeof *r);
        struct server srv;

        (void)state;
        start(&srv, SILENT);
        close(srv.listener); /* the child's is then the only one */
        if (fork() == 0) {
            unit_sleep_ms(50);
            kill(srv.pid, SIGKILL);
            _exit(0);
        }
        load(&srv, opts, r);
        assert_int_equal(r->tally.n_ok, 0);
        assert_int_equal(n_errors(r), r->n_sent);
        assert_int_equal(r->n_lost, 2);
        assert_true(r->n_refused > 2);
        assert_int_equal(n_of(r, "ECONNREFUSED"), connect_per_call ? r->n_refused : 0); /* else no call was begun */
        assert_true(r->n_sent >= 2);
        assert_int_equal(unit_wait(srv.pid), -SIGKILL);
        wait(NULL);
        unit_dir_remove(srv.dir);
        free(r);
    }
}

/* Nobody accepts: one connection waits in the queue, for the others it is full. That is told by its own name. */
static void test_full_queue(void **state)
{
    struct fae_load_opts opts = { .conns = 4, .depth = 1, .connect_per_call = true, .duration_ms = 50 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    struct server srv;

    (void)state;
    start_listening(&srv, 1);
    load(&srv, opts, r); /* which first looks whether anyone is there, and so leaves room for one */
    assert_int_equal(r->tally.n_ok, 0);
    assert_int_equal(n_of(r, "TIMEOUT"), 1);
    assert_true(r->n_refused >= 3);
    assert_int_equal(n_of(r, "EAGAIN"), r->n_refused);
    assert_int_equal(n_errors(r), r->n_sent);
    close(srv.listener);
    unit_dir_remove(srv.dir);
    free(r);
}

static void test_nobody_there(void **state)
{
    struct fae_load_opts opts = { .conns = 2, .depth = 1, .calls = 1, .duration_ms = 100 };
    struct fae_load_result *r = calloc(1, sizeof *r);
    struct fae_bench_mix mix = { 0 };
    unsigned fds = unit_count_fds();
    char why[200] = "";

    (void)state;
    opts.mix = &mix;
    assert_int_equal(fae_addr_parse("unix:/nonexistent/sock", &opts.addr, why, sizeof why), FAE_OK);
    assert_int_equal(fae_bench_mix_add(&mix, 1, "a.b", NULL, 0, why, sizeof why), FAE_OK);
    assert_int_equal(fae_load_run(&opts, r, why, sizeof why), FAE_UNAVAILABLE);
    assert_non_null(strstr(why, "/nonexistent/sock: No such file"));
    assert_int_equal(r->n_sent, 0);
    assert_int_equal(unit_count_fds(), fds);
    fae_bench_mix_fini(&mix);
    free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls),         cmocka_unit_test(test_duration),
        cmocka_unit_test(test_rate),          cmocka_unit_test(test_coordinated_omission),
        cmocka_unit_test(test_unsent),        cmocka_unit_test(test_rate_and_losses),
        cmocka_unit_test(test_late),          cmocka_unit_test(test_mix),
        cmocka_unit_test(test_progress),      cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_silent_server), cmocka_unit_test(test_server_dies),
        cmocka_unit_test(test_full_queue),    cmocka_unit_test(test_nobody_there),
    };

    signal(SIGPIPE, SIG_IGN);
    fae_clock_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
