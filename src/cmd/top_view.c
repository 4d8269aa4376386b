/* SPDX-License-Identifier: BSD-2-Clause
 *
 * Rates and percentiles of the time between two samples. Numbers are made by integers where they go into JSON.
 */
#include "cmd/top_view.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"

/* ---- reading ---- */

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct fae_top_method *)a)->name, ((const struct fae_top_method *)b)->name);
}

/* "3:120,17:4," */
static bool read_hist(const char *at, const char *end, struct fae_top_method *m)
{
    while (at < end) {
        char *next;
        unsigned long bucket = strtoul(at, &next, 10);

        if (next == at || *next != ':' || bucket >= FAE_HIST_BUCKETS)
            return false;
        at = next + 1;
        m->hist[bucket] = strtoull(at, &next, 10);
        if (next == at || *next != ',')
            return false;
        at = next + 1;
    }
    return true;
}

/* "shop.buy calls=7 errors=1 slow=0 hist=3:7," : looked at from behind, a name may hold anything. */
static bool read_method(const char *line, size_t len, struct fae_top_method *m)
{
    static const char key[] = " calls=";
    const char *end = line + len, *at = NULL, *p = line;
    int n = 0;

    while ((p = memmem(p, (size_t)(end - p), key, sizeof key - 1)))
        at = p++;
    *m = (struct fae_top_method){ 0 };
    if (!at ||
        sscanf(at, " calls=%" SCNu64 " errors=%" SCNu64 " slow=%" SCNu64 " hist=%n", &m->n_calls, &m->n_errors,
               &m->n_slow, &n) != 3 ||
        n == 0 || !read_hist(at + n, end, m))
        return false;
    m->name = fae_alloc((size_t)(at - line) + 1);
    for (size_t i = 0; line + i < at; i++) /* nothing may steer the terminal */
        m->name[i] = line[i] > ' ' && line[i] <= '~' ? line[i] : '?';
    m->name[at - line] = '\0';
    return true;
}

static bool read_lines(struct fae_top_sample *sample, char *text, size_t len)
{
    unsigned cap = 0;

    for (char *at = text, *end = text + len, *nl; at < end; at = nl + 1) {
        nl = memchr(at, '\n', (size_t)(end - at));
        if (!nl)
            return false;
        *nl = '\0'; /* or sscanf would look for the end of all text each time */
        if (sample->n_methods == cap) {
            cap = cap ? cap * 2 : 64;
            sample->methods = fae_realloc(sample->methods, cap * sizeof *sample->methods);
        }
        if (!read_method(at, (size_t)(nl - at), &sample->methods[sample->n_methods]))
            return false;
        sample->n_methods++;
    }
    if (sample->n_methods)
        qsort(sample->methods, sample->n_methods, sizeof *sample->methods, by_name);
    return true;
}

static bool read_methods(struct fae_top_sample *sample, const char *text, size_t len)
{
    char *copy = fae_alloc(len + 1);
    bool ok;

    if (len)
        memcpy(copy, text, len);
    copy[len] = '\0';
    ok = read_lines(sample, copy, len);
    free(copy);
    return ok;
}

enum fae_err fae_top_read(struct fae_top_sample *sample_out, const char *stats, size_t stats_len, const char *hist,
                          size_t hist_len, uint64_t at_ns)
{
    struct fae_top_sample sample = { .at_ns = at_ns };

    memset(sample.cpu_ms, 0xff, sizeof sample.cpu_ms);
    sample.stats = json_loadb(stats, stats_len, 0, NULL);
    if (json_is_object(sample.stats) && read_methods(&sample, hist, hist_len)) {
        *sample_out = sample;
        return FAE_OK;
    }
    fae_top_fini(&sample);
    return FAE_BAD_MESSAGE;
}

void fae_top_fini(struct fae_top_sample *sample)
{
    for (unsigned i = 0; i < sample->n_methods; i++)
        free(sample->methods[i].name);
    free(sample->methods);
    json_decref(sample->stats);
    *sample = (struct fae_top_sample){ 0 };
}

/* ---- what is in a sample ---- */

static uint64_t number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);

    return json_is_real(value) ? (uint64_t)json_real_value(value) : (uint64_t)json_integer_value(value);
}

static const json_t *node_of(const struct fae_top_sample *s)
{
    return json_object_get(s->stats, "node");
}

static const json_t *worker_of(const struct fae_top_sample *s, unsigned i)
{
    return json_array_get(json_object_get(s->stats, "workers"), i);
}

unsigned fae_top_n_workers(const struct fae_top_sample *s)
{
    size_t n = json_array_size(json_object_get(s->stats, "workers"));

    return n < FAE_WORKERS_MAX ? (unsigned)n : FAE_WORKERS_MAX;
}

unsigned fae_top_pid(const struct fae_top_sample *s, unsigned worker)
{
    return (unsigned)number(worker_of(s, worker), "pid");
}

bool fae_top_follows(const struct fae_top_sample *before, const struct fae_top_sample *now)
{
    uint64_t past_s = (now->at_ns - before->at_ns) / 1000000000;

    /* The node's own seconds go on with ours, give or take one; a younger one is another. */
    return before->stats && now->at_ns > before->at_ns &&
           number(node_of(now), "uptime_s") + 1 >= number(node_of(before), "uptime_s") + past_s;
}

/* ---- the time between ---- */

struct row {
    const struct fae_top_method *method;
    uint64_t n_calls, n_errors, n_slow; /* in the interval */
    uint64_t p50_ns, p99_ns;
};

struct view {
    const struct fae_top_sample *before, *now; /* before may be NULL */
    double seconds;
    struct row *rows; /* the busiest first */
    unsigned n_rows, n_workers;
    struct row sum;
};

static uint64_t minus(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

static int by_rate(const void *a, const void *b)
{
    const struct row *x = a, *y = b;

    if (x->n_calls != y->n_calls)
        return x->n_calls < y->n_calls ? 1 : -1;
    if (x->method->n_calls != y->method->n_calls)
        return x->method->n_calls < y->method->n_calls ? 1 : -1;
    return strcmp(x->method->name, y->method->name);
}

static void quantiles(struct row *row, const uint64_t *now, const uint64_t *before)
{
    struct fae_hist hist;
    const struct fae_hist *one = &hist;

    for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++)
        FAE_STAT_SET(hist.n[b], minus(now[b], before ? before[b] : 0));
    row->p50_ns = fae_hist_quantile(&one, 1, 0.5);
    row->p99_ns = fae_hist_quantile(&one, 1, 0.99);
}

static void compare(struct view *v, const struct fae_top_method *m, struct row *row)
{
    static const struct fae_top_method none;
    const struct fae_top_method *was = NULL;

    if (v->before && v->before->n_methods)
        was = bsearch(m, v->before->methods, v->before->n_methods, sizeof *m, by_name);
    if (!was)
        was = &none;
    *row = (struct row){ .method = m,
                         .n_calls = minus(m->n_calls, was->n_calls),
                         .n_errors = minus(m->n_errors, was->n_errors),
                         .n_slow = minus(m->n_slow, was->n_slow) };
    quantiles(row, m->hist, was->hist);
    v->sum.n_calls += row->n_calls;
    v->sum.n_errors += row->n_errors;
    v->sum.n_slow += row->n_slow;
}

static void view_init(struct view *v, const struct fae_top_sample *before, const struct fae_top_sample *now)
{
    *v = (struct view){ .before = before, .now = now, .n_rows = now->n_methods };
    v->seconds = before ? (double)(now->at_ns - before->at_ns) / 1e9 : (double)number(node_of(now), "uptime_s");
    if (v->seconds < 0.001)
        v->seconds = 1;
    v->n_workers = fae_top_n_workers(now);
    v->rows = fae_alloc((v->n_rows + 1) * sizeof *v->rows);
    for (unsigned i = 0; i < v->n_rows; i++)
        compare(v, &now->methods[i], &v->rows[i]);
    qsort(v->rows, v->n_rows, sizeof *v->rows, by_rate);
}

static double a_second(const struct view *v, uint64_t n)
{
    return (double)n / v->seconds;
}

static uint64_t worker_diff(const struct view *v, unsigned i, const char *key)
{
    uint64_t now = number(worker_of(v->now, i), key);

    return v->before ? minus(now, number(worker_of(v->before, i), key)) : now;
}

/* Percent of a core; negative: not known. */
static double cpu(const struct view *v, unsigned i)
{
    uint64_t now = v->now->cpu_ms[i], was = v->before ? v->before->cpu_ms[i] : UINT64_MAX;

    if (now == UINT64_MAX || was == UINT64_MAX || fae_top_pid(v->now, i) != fae_top_pid(v->before, i))
        return -1;
    return (double)minus(now, was) / 10 / v->seconds;
}

/* A limit's hits in the interval. */
static uint64_t limit_hits(const struct view *v, const char *key, const json_t *value)
{
    const json_t *was = v->before ? json_object_get(node_of(v->before), "limits") : NULL;

    return minus((uint64_t)json_integer_value(value), number(was, key));
}

/* ---- backends ---- */

struct backend {
    const json_t *now;
    const char *name, *state;
    bool closed;
    uint64_t n_calls, n_failed, n_refused, ns; /* in the interval */
};

static const json_t *backends_of(const struct fae_top_sample *s)
{
    return s ? json_object_get(s->stats, "backends") : NULL;
}

static const char *string(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));

    return text ? text : "";
}

static const json_t *backend_before(const struct view *v, const char *name)
{
    const json_t *list = backends_of(v->before), *b;
    size_t i;

    json_array_foreach(list, i, b)
    {
        if (strcmp(string(b, "name"), name) == 0)
            return b;
    }
    return NULL;
}

/* Of several counters. */
static uint64_t backend_diff(const json_t *now, const json_t *was, const char *const keys[], unsigned n)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += minus(number(now, keys[i]), was ? number(was, keys[i]) : 0);
    return sum;
}

static struct backend compare_backend(const struct view *v, const json_t *now)
{
    static const char *const calls[] = { "calls" }, *const failed[] = { "timeouts", "lost", "connect_failures" };
    static const char *const refused[] = { "rejected", "busy" }, *const ns[] = { "call_ns" };
    const json_t *was = backend_before(v, string(now, "name"));
    const char *mode = string(now, "mode");
    struct backend b = { .now = now, .name = string(now, "name"), .state = string(now, "breaker") };

    if (strcmp(mode, "auto") != 0)
        b.state = strcmp(mode, "open") == 0 ? "forced open" : "forced closed";
    b.closed = strcmp(b.state, "closed") == 0;
    b.n_calls = backend_diff(now, was, calls, 1);
    b.n_failed = backend_diff(now, was, failed, 3);
    b.n_refused = backend_diff(now, was, refused, 2);
    b.ns = backend_diff(now, was, ns, 1);
    return b;
}

/* Those that are left alone first, then the busiest. */
static int by_trouble(const void *a, const void *b)
{
    const struct backend *x = a, *y = b;

    if (x->closed != y->closed)
        return x->closed ? 1 : -1;
    if (x->n_calls != y->n_calls)
        return x->n_calls < y->n_calls ? 1 : -1;
    return strcmp(x->name, y->name);
}

/* NULL when there are none; to be freed. */
static struct backend *compare_backends(const struct view *v, unsigned *n_out)
{
    const json_t *list = backends_of(v->now), *b;
    size_t n = json_array_size(list), i;
    struct backend *all = n ? fae_alloc(n * sizeof *all) : NULL;

    json_array_foreach(list, i, b)
    {
        all[i] = compare_backend(v, b);
    }
    if (n)
        qsort(all, n, sizeof *all, by_trouble);
    *n_out = (unsigned)n;
    return all;
}

static uint64_t mean_ns(const struct backend *b)
{
    return b->n_calls ? b->ns / b->n_calls : 0;
}

/* ---- text ---- */

struct page {
    struct fae_buf *out;
    unsigned lines_left, columns;
};

static void __attribute__((format(printf, 2, 3))) line(struct page *page, const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    int n;

    if (page->lines_left == 0)
        return;
    va_start(ap, fmt);
    n = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof text)
        n = sizeof text - 1;
    while (n > 0 && text[n - 1] == ' ')
        n--;
    page->lines_left--;
    fae_buf_add(page->out, text, (unsigned)n < page->columns ? (size_t)n : page->columns);
    fae_buf_add(page->out, "\n", 1);
}

struct cell {
    char text[24];
};

static struct cell rate(double x)
{
    struct cell c;

    snprintf(c.text, sizeof c.text, x > 0 && x < 9.95 ? "%.1f" : "%.0f", x);
    return c;
}

static struct cell duration(uint64_t ns)
{
    struct cell c;

    if (ns == 0)
        snprintf(c.text, sizeof c.text, "-");
    else if (ns < 10000000)
        snprintf(c.text, sizeof c.text, "%.*f us", ns < 10000 ? 1 : 0, (double)ns / 1e3);
    else
        snprintf(c.text, sizeof c.text, "%.*f ms", ns < 100000000 ? 1 : 0, (double)ns / 1e6);
    return c;
}

static struct cell percent(double x)
{
    struct cell c;

    snprintf(c.text, sizeof c.text, x < 0 ? "-" : "%.0f%%", x);
    return c;
}

static void head(const struct view *v, struct page *page)
{
    uint64_t up_s = number(node_of(v->now), "uptime_s"), n_sessions = 0, n_calls = 0;
    unsigned n_ready = 0;

    for (unsigned i = 0; i < v->n_workers; i++) {
        const char *state = json_string_value(json_object_get(worker_of(v->now, i), "state"));

        n_ready += state && strcmp(state, "ready") == 0;
        n_sessions += number(worker_of(v->now, i), "sessions");
        n_calls += number(worker_of(v->now, i), "calls");
    }
    line(page,
         "fae: generation %" PRIu64 ", up %" PRIu64 "d %02" PRIu64 ":%02" PRIu64 ":%02" PRIu64
         ", %u of %u workers ready, %s %.1f s",
         number(node_of(v->now), "generation"), up_s / 86400, up_s / 3600 % 24, up_s / 60 % 60, up_s % 60, n_ready,
         v->n_workers, v->before ? "last" : "since start", v->seconds);
    line(page, "calls %s/s  errors %s/s  slow %s/s  sessions %" PRIu64 "  in flight %" PRIu64,
         rate(a_second(v, v->sum.n_calls)).text, rate(a_second(v, v->sum.n_errors)).text,
         rate(a_second(v, v->sum.n_slow)).text, n_sessions, n_calls);
}

static void limits(const struct view *v, struct page *page)
{
    struct fae_buf text = { 0 };
    const char *key;
    json_t *value;

    json_object_foreach(json_object_get(node_of(v->now), "limits"), key, value)
    {
        uint64_t n = limit_hits(v, key, value);

        if (n)
            fae_buf_printf(&text, "  %s %s/s", key, rate(a_second(v, n)).text);
    }
    line(page, "limits met:%s", text.len ? fae_buf_text(&text) : " none");
    fae_buf_fini(&text);
}

static void workers(const struct view *v, unsigned n_shown, struct page *page)
{
    line(page, "%s", "");
    line(page, "%-6s %-9s %8s %8s %9s %9s %9s %7s %6s", "WORKER", "STATE", "SESSIONS", "IN FL.", "KB/S IN", "KB/S OUT",
         "LAG", "LUA MB", "CPU");
    for (unsigned i = 0; i < n_shown; i++) {
        const json_t *w = worker_of(v->now, i);
        const char *state = json_string_value(json_object_get(w, "state"));

        line(page, "%-6u %-9s %8" PRIu64 " %8" PRIu64 " %9s %9s %9s %7.1f %6s", i, state ? state : "?",
             number(w, "sessions"), number(w, "calls"), rate(a_second(v, worker_diff(v, i, "bytes_in")) / 1e3).text,
             rate(a_second(v, worker_diff(v, i, "bytes_out")) / 1e3).text, duration(number(w, "lag_us") * 1000).text,
             (double)number(w, "lua_bytes") / 1e6, percent(cpu(v, i)).text);
    }
    if (n_shown < v->n_workers)
        line(page, "... and %u more", v->n_workers - n_shown);
}

/* Text that came from elsewhere: nothing may steer the terminal. */
static const char *harmless(const char *text, char *into, size_t size)
{
    size_t len = 0;

    for (; text[len] && len < size - 1; len++)
        into[len] = text[len] >= ' ' && text[len] <= '~' ? text[len] : '?';
    into[len] = '\0';
    return into;
}

static void backends(const struct view *v, unsigned most, struct page *page)
{
    unsigned n;
    struct backend *all = compare_backends(v, &n);

    if (n == 0 || most == 0)
        goto out;
    line(page, "%s", "");
    line(page, "%-13s %9s %9s %9s %9s %6s %6s  %s", "BREAKER", "CALLS/S", "FAILED/S", "REFUSED/S", "MEAN", "USED",
         "WAIT", "BACKEND");
    for (unsigned i = 0; i < n && i < most; i++) {
        const struct backend *b = &all[i];
        char name[256];

        line(page, "%-13s %9s %9s %9s %9s %6" PRIu64 " %6" PRIu64 "  %s", b->state, rate(a_second(v, b->n_calls)).text,
             rate(a_second(v, b->n_failed)).text, rate(a_second(v, b->n_refused)).text, duration(mean_ns(b)).text,
             number(b->now, "used"), number(b->now, "waiting"), harmless(b->name, name, sizeof name));
    }
    if (n > most)
        line(page, "... and %u more", n - most);
out:
    free(all);
}

/* ---- statements of mysql, since the workers started ---- */

static const json_t *digests_of(const struct view *v)
{
    return json_object_get(json_object_get(v->now->stats, "mysql"), "digests");
}

static void digests(const struct view *v, unsigned most, struct page *page)
{
    const json_t *list = digests_of(v);
    char pool[64], digest[512];
    const json_t *d;
    size_t i;

    if (json_array_size(list) == 0 || most == 0)
        return;
    line(page, "%s", "");
    line(page, "%12s %9s %9s %9s %12s  %s", "COUNT", "ERRORS", "P50", "P99", "ROWS", "STATEMENT");
    json_array_foreach(list, i, d)
    {
        if (i == most)
            break;
        line(page, "%12" PRIu64 " %9" PRIu64 " %9s %9s %12" PRIu64 "  %s: %s", number(d, "count"), number(d, "errors"),
             duration(number(d, "p50_us") * 1000).text, duration(number(d, "p99_us") * 1000).text, number(d, "rows"),
             harmless(string(d, "pool"), pool, sizeof pool), harmless(string(d, "digest"), digest, sizeof digest));
    }
}

static void methods(const struct view *v, struct page *page)
{
    line(page, "%s", "");
    line(page, "%9s %9s %9s %9s %9s %12s  %s", "CALLS/S", "ERRORS/S", "SLOW/S", "P50", "P99", "CALLS", "METHOD");
    for (unsigned i = 0; i < v->n_rows; i++) {
        const struct row *r = &v->rows[i];

        line(page, "%9s %9s %9s %9s %9s %12" PRIu64 "  %s", rate(a_second(v, r->n_calls)).text,
             rate(a_second(v, r->n_errors)).text, rate(a_second(v, r->n_slow)).text, duration(r->p50_ns).text,
             duration(r->p99_ns).text, r->method->n_calls, r->method->name);
    }
}

void fae_top_text(const struct fae_top_sample *before, const struct fae_top_sample *now, unsigned n_lines,
                  unsigned n_columns, struct fae_buf *out)
{
    struct page page = { .out = out, .lines_left = n_lines, .columns = n_columns };
    unsigned room = n_lines / 3;
    struct view v;

    view_init(&v, before, now);
    head(&v, &page);
    limits(&v, &page);
    workers(&v, v.n_workers < room ? v.n_workers : room, &page);
    backends(&v, n_lines / 4, &page);
    digests(&v, n_lines / 8, &page);
    methods(&v, &page);
    free(v.rows);
}

/* ---- JSON ---- */

/* In thousandths: a locale may have another decimal point. */
static json_t *decimal(double x)
{
    return json_real((double)(int64_t)(x * 1000 + (x < 0 ? -0.5 : 0.5)) / 1000);
}

static json_t *method_json(const struct view *v, const struct row *r)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:I}", "name", r->method->name, "calls_s",
                     decimal(a_second(v, r->n_calls)), "errors_s", decimal(a_second(v, r->n_errors)), "slow_s",
                     decimal(a_second(v, r->n_slow)), "p50_us", decimal((double)r->p50_ns / 1e3), "p99_us",
                     decimal((double)r->p99_ns / 1e3), "calls", (json_int_t)r->method->n_calls);
}

static json_t *worker_json(const struct view *v, unsigned i)
{
    json_t *w = json_deep_copy(worker_of(v->now, i));

    json_object_set_new(w, "cpu_percent", cpu(v, i) < 0 ? json_null() : decimal(cpu(v, i)));
    return w;
}

static json_t *backends_json(const struct view *v)
{
    json_t *list = json_array();
    unsigned n;
    struct backend *all = compare_backends(v, &n);

    for (unsigned i = 0; i < n; i++)
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:o, s:o, s:o, s:I, s:I}", "name", all[i].name,
                                              "breaker", all[i].state, "calls_s", decimal(a_second(v, all[i].n_calls)),
                                              "failed_s", decimal(a_second(v, all[i].n_failed)), "refused_s",
                                              decimal(a_second(v, all[i].n_refused)), "mean_us",
                                              decimal((double)mean_ns(&all[i]) / 1e3), "used",
                                              (json_int_t)number(all[i].now, "used"), "waiting",
                                              (json_int_t)number(all[i].now, "waiting")));
    free(all);
    return list;
}

void fae_top_json(const struct fae_top_sample *before, const struct fae_top_sample *now, struct fae_buf *out)
{
    json_t *root = json_object(), *list, *hits = json_object(), *value;
    const char *key;
    struct view v;
    char *text;

    view_init(&v, before, now);
    json_object_set_new(root, "interval_s", decimal(v.seconds));
    json_object_set_new(root, "uptime_s", json_integer((json_int_t)number(node_of(now), "uptime_s")));
    json_object_set_new(root, "generation", json_integer((json_int_t)number(node_of(now), "generation")));
    json_object_set_new(root, "calls_s", decimal(a_second(&v, v.sum.n_calls)));
    json_object_set_new(root, "errors_s", decimal(a_second(&v, v.sum.n_errors)));
    json_object_set_new(root, "slow_s", decimal(a_second(&v, v.sum.n_slow)));
    json_object_foreach(json_object_get(node_of(now), "limits"), key, value)
    {
        uint64_t n = limit_hits(&v, key, value);

        if (n)
            json_object_set_new(hits, key, json_integer((json_int_t)n));
    }
    json_object_set_new(root, "limits", hits);
    json_object_set_new(root, "workers", list = json_array());
    for (unsigned i = 0; i < v.n_workers; i++)
        json_array_append_new(list, worker_json(&v, i));
    json_object_set_new(root, "methods", list = json_array());
    for (unsigned i = 0; i < v.n_rows; i++)
        json_array_append_new(list, method_json(&v, &v.rows[i]));
    json_object_set_new(root, "backends", backends_json(&v));
    value = json_object_get(json_object_get(now->stats, "mysql"), "digests");
    json_object_set_new(root, "mysql", json_is_array(value) ? json_incref(value) : json_array());
    text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(12));
    if (text)
        fae_buf_printf(out, "%s\n", text);
    free(text);
    json_decref(root);
    free(v.rows);
}
