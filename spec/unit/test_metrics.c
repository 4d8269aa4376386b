/* SPDX-License-Identifier: BSD-2-Clause
 *
 * ops/metrics: every line of the text is one that Prometheus reads, a series is there once, values are what was
 * counted. What promtool says of it is in spec/e2e/test_observe.py.
 */
#include "unit.h"

#include <ctype.h>
#include <math.h>

#include "backend/upstream.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/shm.h"
#include "ops/metrics.h"

static const unsigned n_workers = 2;
static struct fae_config config;

static size_t series_size(const void *unused)
{
    (void)unused;
    return fae_series_size(&(struct fae_series_arg){ n_workers, 500 });
}

static void series_init(void *mem, const void *unused)
{
    (void)unused;
    fae_series_init(mem, &(struct fae_series_arg){ n_workers, 500 });
}

static size_t slowlog_size(const void *unused)
{
    (void)unused;
    return fae_slowlog_size(&config);
}

static void slowlog_init(void *mem, const void *unused)
{
    (void)unused;
    fae_slowlog_init(mem, &config);
}

static const struct fae_shm_region regions[] = {
    { "slots", fae_slots_size, fae_slots_init },        { "stats", fae_stats_size, fae_stats_init },
    { "logs", fae_log_rings_size, fae_log_rings_init }, { "series", series_size, series_init },
    { "slowlog", slowlog_size, slowlog_init },          { "upstreams", fae_upstreams_size, fae_upstreams_init },
};

static struct fae_shm shm;
static struct fae_slots *slots;
static struct fae_stats *stats;
static struct fae_series *series;
static struct fae_buf text;

static int set_up(void **state)
{
    (void)state;
    fae_config_init(&config);
    if (fae_shm_map(&shm, regions, UNIT_N(regions), &n_workers))
        return -1;
    slots = fae_shm_get(&shm, "slots");
    stats = fae_shm_get(&shm, "stats");
    series = fae_shm_get(&shm, "series");
    text.len = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fae_shm_unmap(&shm);
    fae_buf_fini(&text);
    return 0;
}

/* ---- reading the text, after the format's description ---- */

static bool is_name(const char *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isalpha((unsigned char)p[i]) && p[i] != '_' && (i == 0 || !isdigit((unsigned char)p[i])))
            return false;
    return len > 0;
}

/* Behind the labels in braces; fails the test where they make no sense. */
static const char *skip_labels(const char *p)
{
    if (*p != '{')
        return p;
    do {
        const char *label = ++p;

        while (*p && *p != '=')
            p++;
        assert_true(is_name(label, (size_t)(p - label)));
        assert_memory_equal(p, "=\"", 2);
        for (p += 2; *p != '"'; p++) {
            assert_true(*p && *p != '\n');
            if (*p == '\\') {
                p++;
                assert_non_null(strchr("\\\"n", *p));
            }
        }
        p++;
    } while (*p == ',');
    assert_int_equal(*p, '}');
    return p + 1;
}

static void check_line(const char *line)
{
    const char *end = line + strcspn(line, "{ "), *value;
    char *rest;

    assert_true(is_name(line, (size_t)(end - line)));
    value = skip_labels(end);
    assert_int_equal(*value, ' ');
    strtod(value + 1, &rest);
    assert_true(rest > value + 1);
    assert_int_equal(*rest, '\0');
}

/* Each line by itself; that no two are the same series; and that a type comes before its series, once. */
static void check_text(void)
{
    char *all = strdup(fae_buf_text(&text)), *lines[20000];
    unsigned n = 0;

    assert_non_null(all);
    assert_int_equal(strlen(all), text.len);
    assert_int_equal(all[text.len - 1], '\n');
    for (char *line = strtok(all, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(n < UNIT_N(lines));
        if (*line != '#')
            check_line(line);
        lines[n++] = line;
    }
    for (unsigned i = 0; i < n; i++) {
        size_t len =
            *lines[i] == '#' ? strcspn(lines[i] + 7, " ") + 8 : (size_t)(strrchr(lines[i], ' ') - lines[i]) + 1;

        for (unsigned j = i + 1; j < n; j++)
            assert_false(strncmp(lines[i], lines[j], len) == 0);
    }
    free(all);
}

static void scrape(void)
{
    const struct fae_metrics_source source = { .slots = slots,
                                               .stats = stats,
                                               .series = series,
                                               .slowlog = fae_shm_get(&shm, "slowlog"),
                                               .log_rings = fae_shm_get(&shm, "logs"),
                                               .upstreams = fae_shm_get(&shm, "upstreams") };

    text.len = 0;
    fae_metrics_text(&source, &text);
    check_text();
}

static bool says(const char *line)
{
    const char *at = strstr(fae_buf_text(&text), line);

    return at && (at == (const char *)text.data || at[-1] == '\n') && at[strlen(line)] == '\n';
}

#define assert_says(line) assert_true(says(line))

static unsigned count(const char *start)
{
    unsigned n = 0;

    for (const char *at = fae_buf_text(&text); (at = strstr(at, start)); at += strlen(start))
        n += at == (const char *)text.data || at[-1] == '\n';
    return n;
}

/* ---- specs ---- */

static void an_idle_node_has_its_series(void **state)
{
    (void)state;
    slots->started_ms = fae_now_ms() - 5500;
    slots->generation = 7;
    scrape();
    assert_says("fae_uptime_seconds 5");
    assert_says("fae_generation 7");
    assert_says("fae_workers 2");
    assert_says("fae_worker_state{worker=\"1\",state=\"dead\"} 1");
    assert_says("fae_worker_state{worker=\"1\",state=\"ready\"} 0");
    assert_says("fae_errors_total{code=\"TIMEOUT\"} 0");
    assert_says("fae_limit_hits_total{limit=\"calls_max\"} 0");
    assert_says("fae_call_reasons_total{reason=\"other\"} 0");
    assert_says("fae_log_lines_dropped_total 0");
    assert_says("fae_metrics_dropped_total 0");
    assert_int_equal(count("fae_errors_total{code=\"OK\""), 0);
}

static void servers_that_are_called_have_series(void **state)
{
    static const struct fae_breaker_rule rule = { 50, 20, 1, 5000 };
    struct fae_upstreams *ups = fae_shm_get(&shm, "upstreams");
    struct fae_upstream *up = fae_upstream_get(ups, "redis/m\"/unix:/run/a.sock", 0);

    (void)state;
    fae_log_init(&(struct fae_log_opts){ .level = FAE_LOG_ERROR }, "unit");
    for (unsigned i = 0; i < 40; i++) {
        char name[32];

        snprintf(name, sizeof name, "servant/s%u", i);
        assert_non_null(fae_upstream_get(ups, name, 1));
    }
    fae_upstream_cell(up, 0)->n.calls = 3;
    fae_upstream_cell(up, 1)->n.calls = 4;
    fae_upstream_cell(up, 1)->n.wait_ns = 1500000000;
    fae_upstream_cell(up, 1)->now.pinned = 2;
    fae_upstream_end(up, &rule, 0, (struct fae_permit){ 0 }, FAE_BREAKER_REFUSED, fae_now_ms());
    scrape();
#define SERVER "kind=\"redis\",pool=\"m\\\"\",server=\"unix:/run/a.sock\""
    assert_says("fae_backend_calls_total{" SERVER "} 7");
    assert_says("fae_backend_wait_seconds_total{" SERVER "} 1.500000000");
    assert_says("fae_backend_pinned{" SERVER "} 2");
    assert_says("fae_backend_breaker_state{" SERVER ",state=\"open\"} 1");
    assert_says("fae_backend_breaker_state{" SERVER ",state=\"closed\"} 0");
    assert_says("fae_backend_breaker_transitions_total{" SERVER ",to=\"open\"} 1");
    assert_says("fae_backend_breaker_forced{" SERVER "} 0");
    assert_says("fae_backend_calls_total{kind=\"servant\",pool=\"s39\",server=\"\"} 0");
#undef SERVER
}

static void a_source_may_be_bare(void **state)
{
    const struct fae_metrics_source bare = { .slots = slots, .stats = stats };

    (void)state;
    fae_metrics_text(&bare, &text);
    check_text();
    assert_int_equal(count("fae_slowlog"), 0);
    assert_int_equal(count("fae_metrics_"), 0);
}

static void workers_have_a_series_each(void **state)
{
    struct fae_slot *s = &slots->slots[1];
    struct fae_worker_stats *w = &stats->workers[1];

    (void)state;
    s->state = FAE_SLOT_READY;
    s->n_sessions = 4;
    s->n_accepted = 5;
    s->n_calls = 6;
    s->n_deaths = 7;
    s->lua_bytes = 8;
    w->n_bytes_in = 9;
    w->n_collections = 10;
    w->collect_ns = 1500000000;
    w->lag_last_ns = 2000000;
    fae_timing_add(&w->lag, 3000000);
    fae_timing_add(&w->lag, 30000000000);
    w->n_errors[FAE_TIMEOUT] = 11;
    stats->workers[0].n_errors[FAE_TIMEOUT] = 1;
    w->n_errors[FAE_ERR_COUNT] = 12;
    w->n_limit_hits[FAE_LIMIT_idle] = 13;
    scrape();
    assert_says("fae_worker_state{worker=\"1\",state=\"ready\"} 1");
    assert_says("fae_sessions{worker=\"1\"} 4");
    assert_says("fae_sessions_opened_total{worker=\"1\"} 5");
    assert_says("fae_calls_in_flight{worker=\"1\"} 6");
    assert_says("fae_worker_deaths_total{worker=\"1\"} 7");
    assert_says("fae_lua_memory_bytes{worker=\"1\"} 8");
    assert_says("fae_lua_memory_bytes{worker=\"0\"} 0");
    assert_says("fae_received_bytes_total{worker=\"1\"} 9");
    assert_says("fae_lua_collections_total{worker=\"1\"} 10");
    assert_says("fae_lua_collect_seconds_total{worker=\"1\"} 1.500000000");
    assert_says("fae_loop_lag_last_seconds{worker=\"1\"} 0.002000000");
    assert_says("fae_loop_lag_seconds_bucket{worker=\"1\",le=\"0.001048576\"} 0");
    assert_says("fae_loop_lag_seconds_bucket{worker=\"1\",le=\"0.004194304\"} 1");
    assert_says("fae_loop_lag_seconds_bucket{worker=\"1\",le=\"+Inf\"} 2");
    assert_says("fae_loop_lag_seconds_count{worker=\"1\"} 2");
    assert_says("fae_loop_lag_seconds_sum{worker=\"1\"} 30.003000000");
    assert_says("fae_errors_total{code=\"TIMEOUT\"} 12");
    assert_says("fae_errors_total{code=\"other\"} 12");
    assert_says("fae_limit_hits_total{limit=\"idle\"} 13");
}

static struct fae_method_stats *method(unsigned worker, const char *name)
{
    return &stats->workers[worker].methods[fae_stats_row(stats, name, strlen(name))];
}

static void call(unsigned worker, const char *name, uint64_t ns)
{
    struct fae_method_stats *m = method(worker, name);

    FAE_STAT_ADD(m->n_calls, 1);
    FAE_STAT_ADD(m->ns, ns);
    fae_hist_add(&m->latency, ns);
}

static void methods_have_histograms(void **state)
{
    (void)state;
    call(0, "sys.noop", 2000);
    call(1, "sys.noop", 131071); /* 2^17 ns - 1 */
    call(1, "sys.noop", 131072);
    call(1, "sys.noop", 60000000000);
    method(0, "sys.noop")->n_errors = 3;
    method(1, "sys.noop")->n_slow = 4;
    method(1, "sys.noop")->n_parked = 5;
    method(1, "sys.noop")->wait_ns = 250000000;
    method(1, "never.called");
    scrape();
    assert_says("fae_call_seconds_bucket{method=\"sys.noop\",le=\"0.000016384\"} 1");
    assert_says("fae_call_seconds_bucket{method=\"sys.noop\",le=\"0.000065536\"} 1");
    assert_says("fae_call_seconds_bucket{method=\"sys.noop\",le=\"0.000131072\"} 2");
    assert_says("fae_call_seconds_bucket{method=\"sys.noop\",le=\"0.000262144\"} 3");
    assert_says("fae_call_seconds_bucket{method=\"sys.noop\",le=\"8.589934592\"} 3");
    assert_says("fae_call_seconds_bucket{method=\"sys.noop\",le=\"+Inf\"} 4");
    assert_says("fae_call_seconds_count{method=\"sys.noop\"} 4");
    assert_says("fae_call_seconds_sum{method=\"sys.noop\"} 60.000264143");
    assert_says("fae_call_errors_total{method=\"sys.noop\"} 3");
    assert_says("fae_slow_calls_total{method=\"sys.noop\"} 4");
    assert_says("fae_method_calls_in_flight{method=\"sys.noop\"} 5");
    assert_says("fae_call_wait_seconds_total{method=\"sys.noop\"} 0.250000000");
    assert_int_equal(count("fae_call_seconds_count{"), 2); /* and "*" */
}

/* X7: whoever makes names makes no series without end. */
static void methods_beyond_the_cap_are_one(void **state)
{
    char name[32];

    (void)state;
    for (unsigned i = 0; i < FAE_METRICS_METHODS + 20; i++) {
        snprintf(name, sizeof name, "flood.m%u", i);
        call(i % 2, name, 1000);
    }
    FAE_STAT_ADD(stats->workers[0].methods[FAE_METHODS_MAX - 1].n_calls, 2); /* of those without a row */
    fae_hist_add(&stats->workers[0].methods[FAE_METHODS_MAX - 1].latency, 1000);
    fae_hist_add(&stats->workers[0].methods[FAE_METHODS_MAX - 1].latency, 1000);
    scrape();
    assert_int_equal(count("fae_call_seconds_count{"), FAE_METRICS_METHODS + 1);
    assert_says("fae_call_seconds_count{method=\"*\"} 22");
    assert_says("fae_call_seconds_count{method=\"flood.m255\"} 1");
}

static void labels_are_escaped(void **state)
{
    static const char odd[] = "a\"b\\c\nd {e=\"f\"} \t";

    (void)state;
    call(0, odd, 1000);
    fae_stats_reason(stats, 0, odd, sizeof odd - 1);
    scrape();
    assert_says("fae_call_seconds_count{method=\"a\\\"b\\\\c\\nd {e=\\\"f\\\"} \t\"} 1");
    assert_says("fae_call_reasons_total{reason=\"a\\\"b\\\\c\\nd {e=\\\"f\\\"} \t\"} 1");
}

static uint32_t declare(const char *name, enum fae_series_kind kind, const char *label)
{
    struct fae_series_family f = { .help = "It \\ counts.", .kind = kind, .n_labels = label != NULL };

    snprintf(f.name, sizeof f.name, "%s", name);
    if (label)
        snprintf(f.labels[0], sizeof f.labels[0], "%s", label);
    if (kind == FAE_SERIES_HISTOGRAM) {
        f.n_bounds = 2;
        f.bounds[0] = 0.1;
        f.bounds[1] = 2;
    }
    return fae_series_declare(series, &f);
}

static uint32_t child(uint32_t row, const char *value)
{
    return fae_series_child(series, row, &(struct fae_series_value){ value, strlen(value) });
}

static void what_servants_count_is_shown(void **state)
{
    uint32_t hits = declare("hits_total", FAE_SERIES_COUNTER, "page"), bare = declare("bare_total", 0, NULL);
    uint32_t temperature = declare("temperature", FAE_SERIES_GAUGE, "room"), cell;
    uint32_t sizes = declare("size_bytes", FAE_SERIES_HISTOGRAM, NULL);

    (void)state;
    declare("unused_total", FAE_SERIES_COUNTER, NULL);
    fae_series_add(series, 0, child(hits, "a\"b"), 1.5);
    fae_series_add(series, 1, child(hits, "a\"b"), 1);
    fae_series_add(series, 1, child(hits, "c"), 3);
    fae_series_add(series, 1, child(bare, ""), 1e21);
    fae_series_set(series, 1, child(temperature, "attic"), 0.1);
    fae_series_set(series, 0, child(temperature, "attic"), 0);
    fae_series_set(series, 0, child(temperature, "cellar"), -INFINITY);
    cell = child(sizes, "");
    for (unsigned i = 0; i < 5; i++)
        fae_series_observe(series, i % 2, cell, fae_series_family(series, sizes), i);
    fae_series_drop(series, 1);
    scrape();
    assert_says("# HELP hits_total It \\\\ counts.");
    assert_says("# TYPE hits_total counter");
    assert_says("hits_total{page=\"a\\\"b\"} 2.5");
    assert_says("hits_total{page=\"c\"} 3");
    assert_says("bare_total 1e+21");
    assert_says("temperature{room=\"attic\",worker=\"0\"} 0");
    assert_says("temperature{room=\"attic\",worker=\"1\"} 0.1");
    assert_says("temperature{room=\"cellar\",worker=\"0\"} -Inf");
    assert_int_equal(count("temperature{room=\"cellar\""), 1);
    assert_says("size_bytes_bucket{le=\"0.1\"} 1");
    assert_says("size_bytes_bucket{le=\"2\"} 3");
    assert_says("size_bytes_bucket{le=\"+Inf\"} 5");
    assert_says("size_bytes_sum 10");
    assert_says("size_bytes_count 5");
    assert_says("fae_metrics_dropped_total 1");
    assert_says("fae_metrics_series 10");
}

#define WITH_NODE(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_NODE(an_idle_node_has_its_series),    WITH_NODE(servers_that_are_called_have_series),
        WITH_NODE(an_idle_node_has_its_series),    WITH_NODE(a_source_may_be_bare),
        WITH_NODE(workers_have_a_series_each),     WITH_NODE(methods_have_histograms),
        WITH_NODE(methods_beyond_the_cap_are_one), WITH_NODE(labels_are_escaped),
        WITH_NODE(what_servants_count_is_shown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
