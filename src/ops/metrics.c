/* SPDX-License-Identifier: BSD-2-Clause
 *
 * The series of a node as text. What is counted by worker, method, code and so on comes from the tables below, a row a
 * metric; what servants count comes from rpc/series.
 */
#include "ops/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/utf8.h"
#include "ops/metrics_line.h"

/* Upper ends of the buckets shown, as powers of two in ns (16 us to 8.6 s): they are ends of fae_hist's buckets too. */
static const uint8_t latency_ends[] = { 14, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 33 };
static const uint8_t loop_ends[] = { 14, 17, 20, 22, 24, 26, 28, 30 };

#define N_ENDS(ends) (sizeof(ends) / sizeof *(ends))

struct text {
    const struct fae_metrics_source *src;
    struct fae_buf *out;
    unsigned n_workers;
};

/* ---- lines ---- */

static void begin(const struct text *t, const char *name, const char *type, const char *help)
{
    fae_metrics_begin(t->out, name, type, help);
}

/* name{label="value"} n */
static void add_line(const struct text *t, const char *name, const char *label, const char *value, uint64_t n)
{
    fae_buf_printf(t->out, "%s", name);
    if (label) {
        fae_metrics_label(t->out, "{", label, value, strlen(value));
        fae_buf_add(t->out, "}", 1);
    }
    fae_buf_printf(t->out, " %" PRIu64 "\n", n);
}

static void add_seconds(const struct text *t, const char *name, const char *label, const char *value, uint64_t ns)
{
    char buf[40];

    fae_buf_printf(t->out, "%s", name);
    if (label) {
        fae_metrics_label(t->out, "{", label, value, strlen(value));
        fae_buf_add(t->out, "}", 1);
    }
    fae_buf_printf(t->out, " %s\n", fae_metrics_seconds(ns, buf, sizeof buf));
}

/* A histogram of fae_hist's finer buckets, which are summed up to each end. */
static void add_histogram(const struct text *t, const char *name, const char *label, const char *value,
                          const uint64_t buckets[FAE_HIST_BUCKETS], uint64_t sum_ns, const uint8_t *ends,
                          unsigned n_ends)
{
    uint64_t n = 0;
    unsigned b = 0;
    char buf[40];

    for (unsigned i = 0; i <= n_ends; i++) {
        /* The first fine bucket that reaches beyond the end belongs to the next. */
        while (b < FAE_HIST_BUCKETS && (i == n_ends || fae_hist_bound(b) <= (uint64_t)1 << ends[i]))
            n += buckets[b++];
        fae_buf_printf(t->out, "%s_bucket", name);
        fae_metrics_label(t->out, "{", label, value, strlen(value));
        fae_buf_printf(t->out, ",le=\"%s\"} %" PRIu64 "\n",
                       i == n_ends ? "+Inf" : fae_metrics_seconds((uint64_t)1 << ends[i], buf, sizeof buf), n);
    }
    fae_buf_printf(t->out, "%s_sum", name);
    fae_metrics_label(t->out, "{", label, value, strlen(value));
    fae_buf_printf(t->out, "} %s\n%s_count", fae_metrics_seconds(sum_ns, buf, sizeof buf), name);
    fae_metrics_label(t->out, "{", label, value, strlen(value));
    fae_buf_printf(t->out, "} %" PRIu64 "\n", n);
}

static void add_up(uint64_t sum[FAE_HIST_BUCKETS], const struct fae_hist *h)
{
    for (unsigned b = 0; b < FAE_HIST_BUCKETS; b++)
        sum[b] += FAE_STAT_GET(h->n[b]);
}

/* ---- the node ---- */

static void add_node(const struct text *t)
{
    const struct fae_slots *slots = t->src->slots;

    begin(t, "fae_uptime_seconds", "gauge", "Time since the node started.");
    add_line(t, "fae_uptime_seconds", NULL, NULL, (fae_now_ms() - slots->started_ms) / 1000);
    begin(t, "fae_generation", "gauge", "The generation of servants that the node has committed to.");
    add_line(t, "fae_generation", NULL, NULL, FAE_STAT_GET(slots->generation));
    begin(t, "fae_workers", "gauge", "Worker processes of the node.");
    add_line(t, "fae_workers", NULL, NULL, t->n_workers);
}

static void add_codes(const struct text *t, const struct fae_node_sum *sum)
{
    static const char name[] = "fae_errors_total", limits[] = "fae_limit_hits_total";

    begin(t, name, "counter", "Errors told to clients, by code; other: codes of servants' own.");
    for (unsigned e = 0; e <= FAE_ERR_COUNT; e++)
        if (e != FAE_OK && e != FAE_MORE)
            add_line(t, name, "code", e < FAE_ERR_COUNT ? fae_err_name((enum fae_err)e) : "other", sum->n_errors[e]);
    begin(t, limits, "counter", "What was refused, cut or put off since a limit was met, by limit.");
    for (unsigned l = 0; l < FAE_LIMIT_COUNT; l++)
        add_line(t, limits, "limit", fae_limit_name((enum fae_limit)l), sum->n_limit_hits[l]);
    begin(t, "fae_sampled_calls_total", "counter", "Calls in the slow log by sample_one_in.");
    add_line(t, "fae_sampled_calls_total", NULL, NULL, sum->n_sampled);
}

static void add_reasons(const struct text *t)
{
    static const char name[] = "fae_call_reasons_total";
    const struct fae_names *names = fae_stats_reasons(t->src->stats);
    unsigned n = fae_names_count(names);

    begin(t, name, "counter", "New rids of sessions by the reason that their context gives, digits left out.");
    for (unsigned i = 0; i < n; i++) {
        size_t len;
        const char *reason = fae_names_text(names, i, &len);

        fae_buf_printf(t->out, "%s", name);
        fae_metrics_label(t->out, "{", "reason", reason, len);
        fae_buf_printf(t->out, "} %" PRIu64 "\n", fae_stats_sum_reason(t->src->stats, t->n_workers, i));
    }
    add_line(t, name, "reason", "other", fae_stats_sum_reason(t->src->stats, t->n_workers, FAE_REASONS_MAX));
}

static void add_queues(const struct text *t)
{
    unsigned n_slots = t->n_workers + 2;
    uint64_t n = 0;

    if (t->src->slowlog) {
        begin(t, "fae_slowlog_entries_total", "counter", "Calls that were put into the slow log.");
        add_line(t, "fae_slowlog_entries_total", NULL, NULL, fae_slowlog_total(t->src->slowlog));
    }
    if (t->src->log_rings) {
        for (unsigned i = 0; i < n_slots; i++)
            n += FAE_STAT_GET(fae_log_ring(t->src->log_rings, i)->n_dropped);
        begin(t, "fae_log_lines_dropped_total", "counter", "Lines of the log that found their ring full.");
        add_line(t, "fae_log_lines_dropped_total", NULL, NULL, n);
    }
    n = 0;
    for (unsigned i = 0; i < n_slots; i++)
        n += FAE_STAT_GET(t->src->slots->slots[i].n_mail_stale);
    begin(t, "fae_mail_stale_total", "counter", "Mail between processes that was for one that had died.");
    add_line(t, "fae_mail_stale_total", NULL, NULL, n);
}

/* ---- workers ---- */

#define IN_SLOT(field, bits) offsetof(struct fae_slot, field), bits, true
#define IN_STATS(field) offsetof(struct fae_worker_stats, field), 64, false

static const struct {
    const char *name, *type, *help;
    size_t offset;
    unsigned bits;
    bool in_slot;
} by_worker[] = {
    { "fae_sessions", "gauge", "Open client connections.", IN_SLOT(n_sessions, 32) },
    { "fae_sessions_opened_total", "counter", "Client connections accepted.", IN_SLOT(n_accepted, 64) },
    { "fae_calls_in_flight", "gauge", "Calls that wait for something.", IN_SLOT(n_calls, 32) },
    { "fae_worker_deaths_total", "counter", "Times that the worker's process died.", IN_SLOT(n_deaths, 32) },
    { "fae_worker_generation", "gauge", "The generation that the worker serves.", IN_SLOT(generation, 32) },
    { "fae_old_calls", "gauge", "Calls and tasks on generations that were replaced.", IN_SLOT(n_old_calls, 32) },
    { "fae_unfinished_bytes", "gauge", "Memory that input takes which waits, most of it for the rest of a message.",
      IN_SLOT(in_bytes, 64) },
    { "fae_unread_bytes", "gauge", "Memory that answers take which clients have not read.", IN_SLOT(out_bytes, 64) },
    { "fae_lua_memory_bytes", "gauge", "Memory that the worker's Lua code holds.", IN_SLOT(lua_bytes, 64) },
    { "fae_lua_collections_total", "counter", "Full collections of Lua's garbage that the worker asked for.",
      IN_STATS(n_collections) },
    { "fae_received_bytes_total", "counter", "Bytes received from clients.", IN_STATS(n_bytes_in) },
    { "fae_sent_bytes_total", "counter", "Bytes sent to clients.", IN_STATS(n_bytes_out) },
    { "fae_notifications_total", "counter", "Notifications that came.", IN_STATS(n_notifications) },
    { "fae_bad_messages_total", "counter", "Messages that were none.", IN_STATS(n_bad_messages) },
    { "fae_unknown_methods_total", "counter", "Calls of methods that there are not.", IN_STATS(n_unknown_methods) },
    { "fae_forbidden_total", "counter", "Calls and notifications that no role allowed.", IN_STATS(n_forbidden) },
    { "fae_unauthorized_total", "counter", "Tokens that were wrong, or not looked at after too many.",
      IN_STATS(n_unauthorized) },
};

static const struct {
    const char *name, *type, *help;
    size_t offset;
} by_worker_ns[] = {
    { "fae_lua_collect_seconds_total", "counter", "Time that collections of Lua's garbage took, steps included.",
      offsetof(struct fae_worker_stats, collect_ns) },
    { "fae_loop_lag_last_seconds", "gauge", "How late the event loop was when it last had to be in time.",
      offsetof(struct fae_worker_stats, lag_last_ns) },
};

static uint64_t read_number(const void *at, unsigned bits)
{
    return bits == 32 ? FAE_STAT_GET(*(const _Atomic uint32_t *)at) : FAE_STAT_GET(*(const _Atomic uint64_t *)at);
}

static const char *worker_text(unsigned i, char *buf, size_t size)
{
    snprintf(buf, size, "%u", i);
    return buf;
}

static void add_states(const struct text *t)
{
    static const char name[] = "fae_worker_state";

    begin(t, name, "gauge", "1 for the state that the worker is in.");
    for (unsigned i = 0; i < t->n_workers; i++) {
        uint32_t state = FAE_STAT_GET(t->src->slots->slots[i].state);

        for (uint32_t s = FAE_SLOT_DEAD; s <= FAE_SLOT_DRAINING; s++)
            fae_buf_printf(t->out, "%s{worker=\"%u\",state=\"%s\"} %d\n", name, i, fae_stats_state(s), s == state);
    }
}

static void add_timing(const struct text *t, const char *name, const char *help, size_t offset)
{
    char worker[16];

    begin(t, name, "histogram", help);
    for (unsigned i = 0; i < t->n_workers; i++) {
        const struct fae_timing *timing =
            (const struct fae_timing *)((const char *)&t->src->stats->workers[i] + offset);
        uint64_t buckets[FAE_HIST_BUCKETS] = { 0 };

        add_up(buckets, &timing->hist);
        add_histogram(t, name, "worker", worker_text(i, worker, sizeof worker), buckets, FAE_STAT_GET(timing->ns),
                      loop_ends, N_ENDS(loop_ends));
    }
}

static void add_workers(const struct text *t)
{
    char worker[16];

    for (unsigned r = 0; r < sizeof by_worker / sizeof *by_worker; r++) {
        begin(t, by_worker[r].name, by_worker[r].type, by_worker[r].help);
        for (unsigned i = 0; i < t->n_workers; i++) {
            const char *base = by_worker[r].in_slot ? (const char *)&t->src->slots->slots[i]
                                                    : (const char *)&t->src->stats->workers[i];

            add_line(t, by_worker[r].name, "worker", worker_text(i, worker, sizeof worker),
                     read_number(base + by_worker[r].offset, by_worker[r].bits));
        }
    }
    for (unsigned r = 0; r < sizeof by_worker_ns / sizeof *by_worker_ns; r++) {
        begin(t, by_worker_ns[r].name, by_worker_ns[r].type, by_worker_ns[r].help);
        for (unsigned i = 0; i < t->n_workers; i++)
            add_seconds(t, by_worker_ns[r].name, "worker", worker_text(i, worker, sizeof worker),
                        read_number((const char *)&t->src->stats->workers[i] + by_worker_ns[r].offset, 64));
    }
    add_states(t);
    add_timing(t, "fae_loop_lag_seconds", "How late the event loop was whenever it had to be in time.",
               offsetof(struct fae_worker_stats, lag));
    add_timing(t, "fae_loop_turn_seconds", "Turns of the event loop that ran calls.",
               offsetof(struct fae_worker_stats, turn));
}

/* ---- methods ---- */

struct method {
    const char *name;
    struct fae_method_sum sum;
    uint64_t buckets[FAE_HIST_BUCKETS];
};

static void add_row(const struct text *t, unsigned row, struct method *m)
{
    struct fae_method_sum sum;

    fae_stats_sum_method(t->src->stats, t->n_workers, row, &sum);
    m->sum.n_calls += sum.n_calls;
    m->sum.n_errors += sum.n_errors;
    m->sum.n_slow += sum.n_slow;
    m->sum.n_lost += sum.n_lost;
    m->sum.n_parked += sum.n_parked;
    m->sum.ns += sum.ns;
    m->sum.wait_ns += sum.wait_ns;
    for (unsigned w = 0; w < t->n_workers; w++)
        add_up(m->buckets, &t->src->stats->workers[w].methods[row].latency);
}

/* Those that were called, and "*": the rest. */
static unsigned collect(const struct text *t, struct method *methods)
{
    unsigned n_rows = fae_stats_n_rows(t->src->stats), n = 0;
    struct method rest = { .name = "*" };

    for (unsigned row = 0; row < n_rows; row++) {
        struct method m = { .name = t->src->stats->names[row] };

        add_row(t, row, row < FAE_METRICS_METHODS ? &m : &rest);
        if (row < FAE_METRICS_METHODS && (m.sum.n_calls || m.sum.n_parked || m.sum.n_lost))
            methods[n++] = m;
    }
    add_row(t, FAE_METHODS_MAX - 1, &rest);
    methods[n++] = rest;
    return n;
}

static const struct {
    const char *name, *type, *help;
    size_t offset;
    bool ns;
} by_method[] = {
    { "fae_call_errors_total", "counter", "Calls that were answered with an error.",
      offsetof(struct fae_method_sum, n_errors), false },
    { "fae_slow_calls_total", "counter", "Calls that took longer than slow_ms.",
      offsetof(struct fae_method_sum, n_slow), false },
    { "fae_lost_calls_total", "counter", "Calls that were in flight in a worker that died.",
      offsetof(struct fae_method_sum, n_lost), false },
    { "fae_method_calls_in_flight", "gauge", "Calls of the method that wait for something.",
      offsetof(struct fae_method_sum, n_parked), false },
    { "fae_call_wait_seconds_total", "counter", "Time that calls waited; the rest of their time their Lua code ran.",
      offsetof(struct fae_method_sum, wait_ns), true },
};

static void add_methods(const struct text *t)
{
    static const char name[] = "fae_call_seconds";
    struct method *methods = fae_alloc((FAE_METRICS_METHODS + 1) * sizeof *methods);
    unsigned n = collect(t, methods);

    begin(t, name, "histogram", "How long calls took, from their beginning to their answer being made.");
    for (unsigned i = 0; i < n; i++)
        add_histogram(t, name, "method", methods[i].name, methods[i].buckets, methods[i].sum.ns, latency_ends,
                      N_ENDS(latency_ends));
    for (unsigned r = 0; r < sizeof by_method / sizeof *by_method; r++) {
        begin(t, by_method[r].name, by_method[r].type, by_method[r].help);
        for (unsigned i = 0; i < n; i++) {
            uint64_t v;

            memcpy(&v, (const char *)&methods[i].sum + by_method[r].offset, sizeof v);
            if (by_method[r].ns)
                add_seconds(t, by_method[r].name, "method", methods[i].name, v);
            else
                add_line(t, by_method[r].name, "method", methods[i].name, v);
        }
    }
    free(methods);
}

/* ---- what servants count ---- */

static void add_number(struct fae_buf *out, double v)
{
    char text[40];

    if (isnan(v) || isinf(v)) {
        fae_buf_printf(out, "%s", isnan(v) ? "NaN" : v < 0 ? "-Inf" : "+Inf");
        return;
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v == 0 ? 0.0 : v);
        for (char *p = text; *p; p++)
            if (*p == ',')
                *p = '.';
        if (strtod(text, NULL) == v)
            break;
    }
    fae_buf_printf(out, "%s", text);
}

struct child {
    const struct fae_series_family *family;
    uint32_t cell;
    struct fae_series_value values[FAE_SERIES_LABELS_MAX];
};

static void add_child_line(const struct text *t, const struct child *c, const char *part, const char *label,
                           const char *value, double v)
{
    fae_buf_printf(t->out, "%s%s", c->family->name, part);
    for (unsigned i = 0; i < c->family->n_labels; i++)
        fae_metrics_label(t->out, i ? "," : "{", c->family->labels[i], c->values[i].text, c->values[i].len);
    if (label)
        fae_metrics_label(t->out, c->family->n_labels ? "," : "{", label, value, strlen(value));
    fae_buf_printf(t->out, "%s ", c->family->n_labels || label ? "}" : "");
    add_number(t->out, v);
    fae_buf_add(t->out, "\n", 1);
}

static double sum_cell(const struct text *t, uint32_t cell)
{
    double sum = 0;

    for (unsigned w = 0; w < t->n_workers; w++)
        sum += fae_series_value(t->src->series, w, cell);
    return sum;
}

static void add_gauge(const struct text *t, const struct child *c)
{
    char worker[16];

    for (unsigned w = 0; w < t->n_workers; w++) {
        double v = fae_series_value(t->src->series, w, c->cell);

        if (v != 0 || signbit(v)) /* else it was never set */
            add_child_line(t, c, "", "worker", worker_text(w, worker, sizeof worker), v);
    }
}

static void add_child_histogram(const struct text *t, const struct child *c)
{
    const struct fae_series_family *f = c->family;
    struct fae_buf le = { 0 };
    double n = 0;

    for (uint32_t b = 0; b < f->n_bounds; b++) {
        n += sum_cell(t, c->cell + b);
        le.len = 0;
        add_number(&le, f->bounds[b]);
        add_child_line(t, c, "_bucket", "le", fae_buf_text(&le), n);
    }
    fae_buf_fini(&le);
    n += sum_cell(t, c->cell + f->n_bounds);
    add_child_line(t, c, "_bucket", "le", "+Inf", n);
    add_child_line(t, c, "_sum", NULL, NULL, sum_cell(t, c->cell + f->n_bounds + 1));
    add_child_line(t, c, "_count", NULL, NULL, n); /* not its own cell, which may be one ahead */
}

static void add_child(const struct text *t, const struct child *c)
{
    switch ((enum fae_series_kind)c->family->kind) {
    case FAE_SERIES_COUNTER: add_child_line(t, c, "", NULL, NULL, sum_cell(t, c->cell)); return;
    case FAE_SERIES_GAUGE: add_gauge(t, c); return;
    case FAE_SERIES_HISTOGRAM: add_child_histogram(t, c); return;
    }
}

/* Children by family: lists through `next`, so that each is looked at once. */
struct index {
    uint32_t first[FAE_SERIES_FAMILIES_MAX]; /* a child + 1 */
    uint32_t *next;
};

static void index_children(const struct text *t, struct index *index)
{
    uint32_t n = fae_series_n_children(t->src->series), family, cell;
    struct fae_series_value values[FAE_SERIES_LABELS_MAX];
    unsigned n_values;

    memset(index->first, 0, sizeof index->first);
    index->next = fae_alloc((n + 1) * sizeof *index->next);
    for (uint32_t i = n; i > 0; i--)
        if (fae_series_read_child(t->src->series, i - 1, &family, &cell, values, &n_values)) {
            index->next[i] = index->first[family];
            index->first[family] = i;
        }
}

static void add_series(const struct text *t)
{
    static const char *const types[] = {
        [FAE_SERIES_COUNTER] = "counter", [FAE_SERIES_GAUGE] = "gauge", [FAE_SERIES_HISTOGRAM] = "histogram"
    };
    uint32_t n = fae_series_n_families(t->src->series), row;
    struct index index;
    unsigned n_values;

    begin(t, "fae_metrics_series", "gauge", "Series that fae.metrics has made, of metrics_series_max.");
    add_line(t, "fae_metrics_series", NULL, NULL, fae_series_n_cells(t->src->series));
    begin(t, "fae_metrics_dropped_total", "counter",
          "What fae.metrics left out since there was no room for its series.");
    add_line(t, "fae_metrics_dropped_total", NULL, NULL, fae_series_dropped(t->src->series));
    index_children(t, &index);
    for (uint32_t i = 0; i < n; i++) {
        struct child c = { .family = fae_series_family(t->src->series, i) };

        if (!c.family)
            continue;
        begin(t, c.family->name, types[c.family->kind], c.family->help);
        for (uint32_t at = index.first[i]; at; at = index.next[at])
            if (fae_series_read_child(t->src->series, at - 1, &row, &c.cell, c.values, &n_values))
                add_child(t, &c);
    }
    free(index.next);
}

/* ---- what lives in the node ---- */

/* What is counted in ns is told in seconds. */
static void add_store_stat(void *arg, const char *name, const char *help, bool counter, uint64_t value)
{
    static const char ns[] = "_ns_total";
    const struct text *t = arg;
    size_t len = strlen(name);
    char full[128];

    if (len > sizeof ns - 1 && strcmp(name + len - (sizeof ns - 1), ns) == 0) {
        snprintf(full, sizeof full, "fae_%.*s_seconds_total", (int)(len - (sizeof ns - 1)), name);
        begin(t, full, "counter", help);
        add_seconds(t, full, NULL, NULL, value);
        return;
    }
    snprintf(full, sizeof full, "fae_%s", name);
    begin(t, full, counter ? "counter" : "gauge", help);
    add_line(t, full, NULL, NULL, value);
}

void fae_metrics_text(const struct fae_metrics_source *src, struct fae_buf *out)
{
    const struct text t = { src, out, src->slots->n_workers };
    struct fae_node_sum sum;

    fae_stats_sum_node(src->stats, t.n_workers, &sum);
    add_node(&t);
    add_workers(&t);
    add_methods(&t);
    add_codes(&t, &sum);
    add_reasons(&t);
    add_queues(&t);
    if (src->stores)
        fae_stores_stats(src->stores, add_store_stat, (void *)&t);
    if (src->upstreams)
        fae_metrics_backends(src->upstreams, out);
    if (src->series)
        add_series(&t);
}
